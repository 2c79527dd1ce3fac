// SPDX-License-Identifier: Apache-2.0
// A cluster in memory, for tests of what sends to one. It stands in for net/conn.h and for the
// clock, so that a test says which node reads how much when, and what of its answers arrives.
//
// It knows a few slots, a few keys in each, and the rules by which a node serves, redirects or
// refuses while a slot moves, as Redis has them.
#ifndef GUNYU_TESTS_FAKE_CLUSTER_H
#define GUNYU_TESTS_FAKE_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "net/conn.h"
#include "target/router.h"

#define FAKE_REPLID "cccccccccccccccccccccccccccccccccccccccc"

enum {
    FAKE_NODES = 3,
    FAKE_SLOTS = 5, // the position is in the first
    FAKE_KEYS = 3,  // of a slot
    FAKE_MARK = FAKE_KEYS,
    FAKE_POSITION,
    FAKE_SLOT_KEYS,
    FAKE_VALUE = 160, // bytes; the rest of a value is forgotten
    FAKE_MARKS_ID = 7,
};

struct fake_value {
    char type; // 0: no such key; 's', 'l', 'h'
    uint8_t n;
    char text[FAKE_VALUE];
};

// Of a slot, as one node sees it.
struct fake_view {
    int8_t owner;
    int8_t migrating_to; // -1: not
    bool importing;
};

struct fake_node {
    char host[24];
    uint16_t port;
    struct fake_view view[FAKE_SLOTS];
    struct fake_value values[FAKE_SLOTS][FAKE_SLOT_KEYS];
    const char *refuse; // the next command with a key is answered with this error
    struct buf log;     // the commands that were read, as words
};

struct fake_cluster {
    struct fake_node nodes[FAKE_NODES];
    int version; // 6 or 7
    bool logged;
    uint32_t rtt_us; // of a connection
    struct conn *conns;
    uv_loop_t loop; // of what sends to it
};

void fake_init(struct fake_cluster *c);
// The senders are freed already; what they left in the loop is closed, or the test fails.
void fake_free(struct fake_cluster *c);
int fake_slot(int i);               // the slot's number
const char *fake_key(int i, int k); // static
// A value as text, NULL when there is none.
const char *fake_get(const struct fake_node *n, int slot, int key);

// The nodes as they know themselves, every slot's owner as node `asked` sees it, no marks.
void fake_target(struct fake_cluster *c, int asked, struct router_target *t,
                 struct router_node *nodes, int16_t *owner);
// Floor and marks as lane_cluster.c reads them. False: not now.
bool fake_read_marks(struct fake_cluster *c, const int16_t *owner, uint64_t *floor,
                     uint64_t *marks);

// ---- a position in the first slot, for the events of a router ----

int fake_put_position(void *ctx, const struct batch_mark *mark, struct buf *out, int *db);
int fake_position_slot(void *ctx);

// ---- slots that move ----

void fake_begin_move(struct fake_cluster *c, int slot, int to);
void fake_move_key(struct fake_cluster *c, int slot, int key);
// Everything that is left, and then the owner, with the one who gets it (first) or both.
void fake_end_move(struct fake_cluster *c, int slot, bool both);
void fake_tell_all(struct fake_cluster *c, int slot); // the others learn of the owner
bool fake_is_moving(const struct fake_cluster *c, int slot);

// ---- traffic ----

struct conn *fake_connect(struct fake_cluster *c, int node); // a new one; conn_close frees it
struct conn *fake_conn(struct fake_cluster *c, int node); // the newest to it that is open, or NULL
// The node reads and answers up to n commands. Returns how many.
int fake_serve(struct conn *c, int n);
// Up to n bytes of its answers arrive.
void fake_deliver(struct conn *c, size_t n);
// In place of an answer: what no node says.
void fake_say(struct conn *c, const char *bytes);
size_t fake_waiting(const struct conn *c); // bytes of answers that have not arrived
// From now on it takes only n more bytes (SIZE_MAX: all).
void fake_writable(struct conn *c, size_t n);
void fake_hang_up(struct conn *c);
bool fake_hung_up(const struct conn *c);
// Frees what was closed.
void fake_reap(struct fake_cluster *c);
// Everybody serves and everything arrives until nothing happens.
void fake_settle(struct fake_cluster *c);

// Carries out one command without looking at slots. True if it was no error.
bool fake_run(struct fake_node *n, int argc, const struct slice *argv, struct buf *out);

// ---- time ----

extern uint64_t fake_now_us;

#endif

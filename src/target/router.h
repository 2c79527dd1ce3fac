// SPDX-License-Identifier: Apache-2.0
// Sends units to the masters of a cluster, each part to the owner of its slot, exactly once.
//
// Order holds within a slot: what is not blind goes in MULTI with the slot's mark, alone in its
// slot, when everything before it there is confirmed; blind units are pipelined. So the mark of a
// slot says that all units of the slot up to it were applied, and between it and what is applied
// there are blind ones only. An error that asks to send again (MOVED, ASK, TRYAGAIN) holds back its
// slot and no other. What is held back is a place in the journal, not bytes: the owner is asked to
// write it again (emit).
//
// The floor is the position up to which all units are confirmed; what is stored of it is a second
// old, so that a replica that takes over has it too. After any other failure the owner detaches,
// reads floor and marks, and begins again at the floor.
#ifndef GUNYU_TARGET_ROUTER_H
#define GUNYU_TARGET_ROUTER_H

#include "codec/slot.h"
#include "redis/masters.h"
#include "target/pipe.h"
#include "target/sink.h"

struct router_events {
    const struct sink_events *sink;
    // Append the commands of that slot of the unit that begins after position `from` (router_out,
    // router_cmd); as_is is what router_part was given. false: that cannot be done; the owner has
    // been told why and will detach.
    bool (*emit)(void *ctx, uint64_t from, int db, int64_t now_ms, int slot, size_t as_is);
    // Where put_position writes.
    int (*position_slot)(void *ctx);
    // The node that has a slot has changed; what is known of the others may be outdated.
    void (*moved)(void *ctx);
    // Commands before position `until` may be sent a second time. A blind one may not fit then what
    // those behind it have left: where a key's type changes, it is answered WRONGTYPE.
    void (*again)(void *ctx, uint64_t until);
};

struct router_options {
    uv_loop_t *loop;
    const struct router_events *events;
    void *ctx;
    uint64_t position_us;  // how often the floor is stored
    uint64_t ping_us;      // an idle node is asked for a sign of life this often; 0: never
    uint64_t silence_us;   // a node that owes an answer and sends nothing for so long has failed
    uint64_t floor_age_us; // a floor is stored when it is so old
    uint32_t max_cmds;     // of one MULTI, if several units wait in a slot
    size_t max_bytes;
};

// A node of the cluster, as MOVED and ASK name it.
struct router_node {
    char host[256];
    uint16_t port;
    struct conn *conn; // authenticated, db 0; the router takes it
};

// How the target was found. Arrays are copied.
struct router_target {
    struct router_node *nodes; // the masters
    int nodes_n;
    const int16_t *owner;  // [SLOT_COUNT], index into nodes; every slot has one
    const uint64_t *marks; // [SLOT_COUNT], or NULL: none
    uint64_t marks_id;     // in the names of the marks
};

struct router;
struct router *router_new(const struct router_options *o);
struct sink *router_sink(struct router *r);
void router_attach(struct router *r, const struct router_target *t);
// The same with the connections of m, which it takes; marks and marks_id as of struct
// router_target.
void router_attach_masters(struct router *r, struct masters *m, const uint64_t *marks,
                           uint64_t marks_id);

// ---- units of the stream ----

// There is room for one more unit.
bool router_room(struct router *r);
// Opens a unit: the stream between position `from` and mark. now_ms and db are given back when a
// part of it is to be written again. `torn`: the floor must not stand at its end (it lies within a
// transaction of the source).
void router_unit_open(struct router *r, uint64_t from, int db, int64_t now_ms,
                      const struct batch_mark *mark, bool torn);
enum router_part {
    ROUTER_SEND,    // append its commands, then router_part_end
    ROUTER_HELD,    // emit will be called
    ROUTER_APPLIED, // the slot's mark says that it was applied before
};
// to_db: the target's, of all commands of the part. as_is: the part is one command, so many bytes
// of the stream from the unit's begin, unchanged; 0: it is more than that.
enum router_part router_part(struct router *r, int slot, int to_db, bool wrapped, size_t as_is);
struct outq *router_out(struct router *r);
void router_cmd(struct router *r, uint64_t ref);
void router_part_end(struct router *r);
void router_unit_close(struct router *r);
// All units are confirmed.
bool router_drained(const struct router *r);
uint64_t router_slot_mark(const struct router *r, int slot);
int router_owner(const struct router *r, int slot);
// The node owes an answer and has said nothing for so long.
bool router_silent(const struct router *r, int node, uint64_t us);
// The key of a slot's mark; dst has 64 bytes.
struct slice router_mark_key(uint64_t marks_id, int slot, char *dst);
// Appends SET of a slot's mark, which is kept in db 0; db: that of the connection, before and
// after. Returns the number of commands. Within MULTI: refused, it leaves the connection in its db
// as well.
int router_put_mark(uint64_t marks_id, int slot, uint64_t offset, int db, struct buf *out);

#endif

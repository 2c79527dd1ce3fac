// SPDX-License-Identifier: Apache-2.0
// What the files of the link share; nobody else includes it.
#ifndef GUNYU_SOURCE_LINK_INT_H
#define GUNYU_SOURCE_LINK_INT_H

#include "source/link.h"
#include "source/psync.h"

struct link {
    struct link_options o;
    struct psync_options psync_options;
    struct psync psync;
    enum link_state state;
    struct dial *dial;
    struct conn *conn;
    uv_timer_t timer; // the next attempt, or the tick
    uv_timer_t again; // goes on with a turn that was cut short
    bool resting;     // reading waits for `again`
    int handles;      // still open
    bool started, freed;
    bool in_gate;       // counted as a running full sync
    bool wants_gate;    // the source will give a full sync: connect once the gate lets us in
    char peer[300];     // the node that was chosen
    struct endpoint at; // the same; owns
    char found[300];    // what the finder gave before it was chosen
    bool blocked;       // the journal has no room
    bool acked;         // on this connection, at stats.last_ack
    int eager_ticks;    // still to come
    unsigned attempt;
    unsigned session; // changes whenever the connection does; tells a callback's caller
    struct buf in;    // received, but not from a place in the journal
    size_t in_used;
    uint64_t right; // position of the log's right edge
    uint64_t last_read_us;
    uint64_t stuck_since_us; // the source takes no bytes; 0: it does
    bool stream_grew;        // during this turn
    bool snapshot_grew;
    char tail[PSYNC_GETACK_LEN];
    size_t tail_n;
    struct link_stats stats;
};

// ---- link.c ----

void link_set_state(struct link *l, enum link_state s, const struct err *why);
void link_gate_leave(struct link *l);
void link_journal_failed(struct link *l, const struct err *why); // the link stops
void link_update_want(struct link *l);
void link_send_ack(struct link *l);
void link_on_tick(uv_timer_t *t);

// ---- link_journal.c: each may end the session ----

void link_begin_snapshot(struct link *l);
void link_continue_stream(struct link *l);
// What comes next is snapshot or stream.
bool link_in_payload(const struct link *l);
// Room for it. False: the link is blocked or stopped.
bool link_payload_space(struct link *l, char **p, size_t *n);
// n bytes of it are at p, the place that the journal gave; from_buffer: and were in the link's.
void link_commit_payload(struct link *l, const char *p, size_t n, bool from_buffer);

#endif

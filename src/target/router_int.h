// SPDX-License-Identifier: Apache-2.0
// What the files of the router share; nobody else includes it.
#ifndef GUNYU_TARGET_ROUTER_INT_H
#define GUNYU_TARGET_ROUTER_INT_H

#include "target/router.h"

enum { ROUTER_SAMPLES = 64 }; // of the floor

enum ticket_kind {
    TICKET_STREAM, // may be written again
    TICKET_SINK,   // was written once
    TICKET_POSITION,
};

// A part of a unit, in the queue of its slot until it is confirmed.
struct ticket {
    uint32_t next;
    int32_t to_db;
    uint64_t unit;
    uint32_t as_is; // as emit has it
    uint8_t kind;   // enum ticket_kind
    bool wrapped;
};

// Tickets head .. (held) are sent, held .. tail are not. With exec_out the one request under way is
// a MULTI, and nothing else is in the slot.
struct slot {
    uint32_t head, tail, held;
    uint32_t in_flight;    // requests
    uint32_t held_wrapped; // tickets
    int16_t node, ask_node;
    bool exec_out;
    bool troubled; // something in flight is to be sent again, and all behind it
    bool careful;  // one ticket at a time
    bool ask;      // the next one goes to ask_node
    bool listed;   // in `ready` or `retry`
    int16_t next_listed;
};

struct unit {
    struct batch_mark mark;
    uint64_t from;
    int64_t now_ms;
    int db;
    uint32_t left; // parts that are not confirmed, and 1 while it is open
    bool torn;
};

struct sample {
    uint64_t us;
    struct batch_mark mark;
};

struct slot_list {
    int16_t first, last;
};

struct router {
    struct sink sink;
    struct router_options o;
    struct pipe **pipes;
    struct router_node *nodes; // without connections
    int nodes_n;
    struct slot *slots;
    uint64_t *marks;      // of each slot: units up to here were applied before
    uint64_t marks_until; // the highest
    uint64_t marks_id;
    bool attached, broken;

    struct ticket *tickets; // [0] is not used
    uint32_t tickets_cap, tickets_free;
    struct unit *units; // units[first .. end), both only grow
    uint64_t units_cap, unit_first, unit_end;
    uint64_t units_limit; // of unconfirmed ones
    bool unit_open;

    // the part or sink unit that is being written
    struct pipe *out;
    int out_slot;
    bool out_txn, out_empty, out_wrapped;

    struct slot_list *ready; // of each node: slots that wait for its room
    struct slot_list retry;  // slots that were told to try again
    uv_timer_t *retry_timer;

    struct batch_mark current; // everything up to here is in some unit or was skipped
    struct batch_mark confirmed, told, stored, storing;
    bool has_confirmed, has_told, has_stored, position_out, store_now;
    bool store_again; // though the mark is the same
    uint64_t stored_us, sampled_us;
    struct sample samples[ROUTER_SAMPLES];
    uint32_t samples_n;
    struct buf scratch;
    struct sink_stats stats; // of nodes that were let go
};

static inline struct unit *router_unit_at(const struct router *r, uint64_t i)
{
    return &r->units[i & (r->units_cap - 1)];
}

static inline struct unit *router_last_unit(const struct router *r)
{
    return router_unit_at(r, r->unit_end - 1);
}

// ---- router.c ----

void router_stop(struct router *r);
void router_detach(struct router *r);
void router_free(struct router *r);
void router_add_stats(const struct router *r, struct sink_stats *s);
void router_node_failed(struct router *r, struct pipe *p, const struct err *why);
void router_push_unit(struct router *r, const struct unit *u);
// Goes past the units that are confirmed.
void router_advance(struct router *r);
// Puts it at the end of the slot's queue, or, as one that is sent, before those that are not.
void router_enqueue(struct router *r, int slot, const struct ticket *t, bool held);
// Sends what is held in the slot, as far as may be.
void router_try_send(struct router *r, int slot);
// A request of its own: whether the node is there.
void router_ask_alive(struct pipe *p);

// ---- router_floor.c ----

// Tells the owner up to where all is confirmed.
void router_tell(struct router *r);
// There is something confirmed that is not stored.
bool router_any_to_store(const struct router *r);
// Sends the floor to be stored, when it is time and there is a new one.
void router_store_floor(struct router *r);
// The target has it.
void router_floor_stored(struct router *r);

// ---- router_sink.c ----

extern const struct sink_ops router_sink_ops;

#endif

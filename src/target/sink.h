// SPDX-License-Identifier: Apache-2.0
// Where commands for the target go: one connection (batcher.h) or those to the masters of a cluster
// (router.h). A unit is what must not be torn; between its begin and its end commands are appended.
#ifndef GUNYU_TARGET_SINK_H
#define GUNYU_TARGET_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "target/outq.h"

// How far the target is once everything up to here is applied.
struct batch_mark {
    uint64_t offset;
    int db; // source db selected there
    bool loading;
    uint64_t rdb_index; // while loading
    int rdb_db;
};

// Loading comes before streaming from the same offset.
static inline bool batch_mark_after(const struct batch_mark *a, const struct batch_mark *b)
{
    if (a->offset != b->offset)
        return a->offset > b->offset;
    if (a->loading != b->loading)
        return b->loading;
    return a->loading && a->rdb_index > b->rdb_index;
}

struct sink_events {
    // Everything up to mark is applied (and, when `stored`, the target holds it as the position).
    void (*acked)(void *ctx, const struct batch_mark *mark, bool stored);
    // A command failed while the rest of its batch was applied. ref is what sink_cmd was given.
    void (*cmd_failed)(void *ctx, uint64_t ref, struct slice text, bool in_exec);
    // A reply that is no error but may say that nothing was done: nil, the integer 0 or an
    // empty array.
    void (*cmd_empty)(void *ctx, uint64_t ref);
    // The batch was refused as a whole, or the connection failed. ref is the command that the
    // target named, or UINT64_MAX. The owner must detach.
    void (*failed)(void *ctx, uint64_t ref, const struct err *why);
    // Appends the position record of mark; returns the number of commands appended. *db is the
    // connection's selected db before and after.
    int (*put_position)(void *ctx, const struct batch_mark *mark, struct buf *out, int *db);
    // There may be room again.
    void (*room)(void *ctx);
};

struct sink_stats {
    uint64_t cmds_sent, cmds_ok, bytes_sent;
    uint64_t wrapped_ok, bare_ok, wrapped_failed, bare_failed;
};

// In place of a slot: the unit has no keys and may go to any node.
enum { SINK_ANY_NODE = -1 };
// And: it goes to that node, 0 <= i < sink_nodes(), whatever its keys.
static inline int sink_to_node(int i)
{
    return -2 - i;
}

struct sink;
struct sink_ops {
    bool (*room)(struct sink *s);
    int (*nodes)(const struct sink *s);
    bool (*unit_begin)(struct sink *s, int slot, bool wrapped);
    void (*select)(struct sink *s, int db, uint64_t ref);
    struct outq *(*out)(struct sink *s);
    void (*cmd)(struct sink *s, uint64_t ref);
    void (*unit_end)(struct sink *s, const struct batch_mark *mark);
    void (*skip_to)(struct sink *s, const struct batch_mark *mark);
    void (*store_position)(struct sink *s);
    void (*store_again)(struct sink *s);
    void (*flush)(struct sink *s);
    bool (*idle)(const struct sink *s);
    bool (*attached)(const struct sink *s);
    void (*stop)(struct sink *s);
    void (*detach)(struct sink *s);
    void (*get_stats)(const struct sink *s, struct sink_stats *out);
    void (*free)(struct sink *s);
};

// The first member of what implements it.
struct sink {
    const struct sink_ops *ops;
};

// A unit that need not be wrapped can be begun, or the one that is open go on.
static inline bool sink_room(struct sink *s)
{
    return s->ops->room(s);
}
static inline int sink_nodes(const struct sink *s)
{
    return s->ops->nodes(s);
}
// Begins a unit whose keys lie in that slot; false: not now, wait for room(). wrapped: all of it is
// applied or nothing. One that need not be may be all the same.
static inline bool sink_unit_begin(struct sink *s, int slot, bool wrapped)
{
    return s->ops->unit_begin(s, slot, wrapped);
}
// Within a unit: the connection's db for what follows. In a cluster once, before the commands.
static inline void sink_select(struct sink *s, int db, uint64_t ref)
{
    s->ops->select(s, db, ref);
}
// Within a unit: append one command's bytes to sink_out(), then register it.
static inline struct outq *sink_out(struct sink *s)
{
    return s->ops->out(s);
}
static inline void sink_cmd(struct sink *s, uint64_t ref)
{
    s->ops->cmd(s, ref);
}
static inline void sink_unit_end(struct sink *s, const struct batch_mark *mark)
{
    s->ops->unit_end(s, mark);
}
// Outside units: nothing had to be sent up to mark.
static inline void sink_skip_to(struct sink *s, const struct batch_mark *mark)
{
    s->ops->skip_to(s, mark);
}
// Writes the current mark as the position now, as soon as nothing is in flight.
static inline void sink_store_position(struct sink *s)
{
    s->ops->store_position(s);
}
// The same, also where the position is no other: what goes with it is.
static inline void sink_store_again(struct sink *s)
{
    s->ops->store_again(s);
}
// Sends what may be sent. Call at the end of each turn, and about every 100 ms.
static inline void sink_flush(struct sink *s)
{
    s->ops->flush(s);
}
// Nothing is open, unsent or unanswered.
static inline bool sink_idle(const struct sink *s)
{
    return s->ops->idle(s);
}
static inline bool sink_attached(const struct sink *s)
{
    return s->ops->attached(s);
}
// Nothing more is sent, read or acknowledged until the next attach. For an owner that gives up
// within an event, where it must not detach: a refused bare command must not become a position.
static inline void sink_stop(struct sink *s)
{
    s->ops->stop(s);
}
// Closes the connections and forgets everything unacknowledged.
static inline void sink_detach(struct sink *s)
{
    s->ops->detach(s);
}
static inline void sink_get_stats(const struct sink *s, struct sink_stats *out)
{
    s->ops->get_stats(s, out);
}
static inline void sink_free(struct sink *s)
{
    if (s)
        s->ops->free(s);
}

#endif

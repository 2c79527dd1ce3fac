// SPDX-License-Identifier: Apache-2.0
// Applies the replication stream: reads commands out of the journal, filters and rewrites them, and
// hands them to the batcher as units. What needs no change is sent from where it lies.
#ifndef GUNYU_TARGET_APPLY_H
#define GUNYU_TARGET_APPLY_H

#include "codec/resp.h"
#include "flow/filter.h"
#include "flow/route.h"
#include "journal/journal.h"
#include "target/batcher.h"

struct router;
struct turn;

// A command that reads keys of some slots of a cluster and writes into another one (ROUTE_STAGE).
struct apply_stage {
    const struct route *route;
    int argc; // as rewritten, not yet in the target's words
    const struct slice *argv;
    int db;            // of the target
    uint64_t ref, end; // where it begins and ends in the stream
};

// FLUSHALL or FLUSHDB of a shard of the source: the keys of its slots and no others.
struct apply_clear {
    const uint8_t *slots; // SLOT_COUNT bits
    int db;               // of the source; -1: all
    uint64_t ref, end;    // where it begins and ends in the stream
};

enum apply_staged {
    APPLY_STAGE_WAIT, // under way: it is asked for again
    APPLY_STAGE_DONE,
    APPLY_STAGE_REFUSED, // it cannot be applied; to go on without it
    APPLY_STAGE_STOP,    // or to stop there
};

struct apply_options {
    struct batcher *batcher; // of apply_new
    struct router *router;   // of scatter_new
    struct journal *journal;
    const struct filter *filter;
    struct rewrite_dbs dbs;
    // Units are wrapped. While the lane catches up, blind ones outside source transactions go bare
    // (a third less work for the target) unless wrap_all. Without transactions they always do.
    bool transactions, wrap_all;
    int databases;      // of the target; -1 unknown
    int target_version; // 70015
    bool target_is_valkey, source_is_valkey;
    // Ids whose position records may lie in the target's db 0; borrowed, "" for none, may change.
    // SWAPDB would carry them off.
    const char *replids[2];
    void (*getack)(void *ctx); // REPLCONF GETACK was read
    // A near expiry was replaced by a far one (field.p NULL: the key's own); keys have moved with
    // theirs, by the source's command argv.
    void (*held)(void *ctx, int target_db, struct slice key, struct slice field, int64_t true_ms);
    void (*moved)(void *ctx, int target_db, int argc, const struct slice *argv);
    // A command that cannot be applied at all: true to go on without it, false to stop there.
    bool (*refused)(void *ctx, uint64_t ref, struct slice reason);
    // Everything before the command is confirmed; nothing behind it is sent before it is done. For
    // scatter_new.
    enum apply_staged (*stage)(void *ctx, const struct apply_stage *s);
    // The same of a shard's FLUSHALL; for both readers, where there is a turn.
    enum apply_staged (*clear)(void *ctx, const struct apply_clear *c);
    struct scripts *scripts; // of the source; borrowed
    struct turn *turn;       // of a lane of a source cluster (turn.h), or NULL; borrowed
    // A SET of this key is on its way to the target; end is the position behind it. Empty: none.
    struct slice probe_key;
    void (*probe_sent)(void *ctx, uint64_t end, struct slice value);
    void *ctx;
};

struct apply_stats {
    uint64_t received, filtered;
    uint64_t split;  // transactions of the source whose keys lie in several slots of the target
    uint64_t staged; // commands whose keys do
};

enum apply_result { APPLY_WAIT, APPLY_MORE_NOW, APPLY_STOPPED }; // errors negative

struct apply;
struct apply_ops {
    void (*free)(struct apply *a);
    void (*skip_offset)(struct apply *a, uint64_t ref);
    int (*pump)(struct apply *a, size_t budget, int64_t now_ms, int64_t hold_before, struct err *e);
    uint64_t (*position)(const struct apply *a);
    uint64_t (*loose_until)(const struct apply *a);
    bool (*between_units)(const struct apply *a, struct batch_mark *mark);
    void (*acked)(struct apply *a, uint64_t position);
    void (*get_stats)(const struct apply *a, struct apply_stats *out);
};

// The first member of what implements it.
struct apply {
    const struct apply_ops *ops;
};

// Into one connection. Goes on after position `from` with the source's db selected there.
struct apply *apply_new(const struct apply_options *o, uint64_t from, int db);

static inline void apply_free(struct apply *a)
{
    a->ops->free(a);
}
// Commands at these offsets are dropped: the operator decided, they are in the dead-letter file.
static inline void apply_skip_offset(struct apply *a, uint64_t ref)
{
    a->ops->skip_offset(a, ref);
}
// Until no data, no room, or budget bytes are parsed. hold_before: expiries before this are held
// (0: none).
must_check static inline int apply_pump(struct apply *a, size_t budget, int64_t now_ms,
                                        int64_t hold_before, struct err *e)
{
    return a->ops->pump(a, budget, now_ms, hold_before, e);
}
static inline uint64_t apply_position(const struct apply *a) // parsed up to here
{
    return a->ops->position(a);
}
// Nothing behind this was handed on without a position that tells whether the target has it. 0: all
// was with one.
static inline uint64_t apply_loose_until(const struct apply *a)
{
    return a->ops->loose_until(a);
}
// The position as a mark; false in the middle of a source transaction, where no other unit fits.
static inline bool apply_between_units(const struct apply *a, struct batch_mark *mark)
{
    return a->ops->between_units(a, mark);
}
static inline void apply_acked(struct apply *a, uint64_t position) // releases the journal
{
    a->ops->acked(a, position);
}
static inline void apply_get_stats(const struct apply *a, struct apply_stats *out)
{
    a->ops->get_stats(a, out);
}
// Appends the command that begins after position ref; for dead letters.
int apply_command_at(struct journal_reader *r, uint64_t ref, struct buf *command,
                     struct err *e) must_check;

#endif

// SPDX-License-Identifier: Apache-2.0
// Which lane's turn it is on a slot, when a slot of a source cluster moves from shard to shard and
// the lanes of these shards are not equally far. Events in, decisions out; no I/O. The scheme and
// its argument are in docs/slot-migration.md.
//
// One per source cluster, shared by all of its lanes; every function may be called from any thread.
// Offsets are those of the lane's own stream; X means every byte up to and including X.
#ifndef GUNYU_FLOW_OWNERSHIP_H
#define GUNYU_FLOW_OWNERSHIP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"
#include "codec/slot.h"

#define OWNERSHIP_NOBODY (-1)
#define OWNERSHIP_KEYS 64 // of a unit that waits

struct ownership;

// Lanes are numbered from 0. turn[SLOT_COUNT]: the owners when the sync began, OWNERSHIP_NOBODY
// where the first map decides; NULL: everywhere.
struct ownership *ownership_new(int lanes, const int16_t *turn);
void ownership_free(struct ownership *o);
// Which lane is of the shard with this node, OWNERSHIP_NOBODY for none: lanes may be numbered
// otherwise in the process that reads a record. Before the first ownership_restore; without it the
// nodes of records are unknown. Called with the arbiter locked.
void ownership_names(struct ownership *o, int (*lane_of)(void *ctx, struct slice node_id),
                     void *ctx);

// The check for each unit, without a lock: true: apply it, false: ask ownership_unit. A unit with a
// RESTORE-ASKING always goes to ownership_unit. Its array is shared so that this can be inlined.
struct ownership_fast {
    _Atomic int16_t settled[SLOT_COUNT]; // the lane that may write this slot without asking
};
const struct ownership_fast *ownership_fast(const struct ownership *o);
static inline bool ownership_settled(const struct ownership_fast *f, int lane, int slot)
{
    return atomic_load_explicit(&f->settled[slot], memory_order_acquire) == lane;
}

// Without a lock: the slot may be somebody else's, or on its way.
static inline bool ownership_moves(const struct ownership_fast *f, int slot)
{
    return atomic_load_explicit(&f->settled[slot], memory_order_acquire) == OWNERSHIP_NOBODY;
}

enum ownership_verdict {
    OWNERSHIP_APPLY,
    OWNERSHIP_DROP, // what it does has come or will come with another lane
    OWNERSHIP_WAIT, // stand still, ask again after a change, and tell by ownership_ahead what
                    // follows: two lanes may wait for each other
    OWNERSHIP_LOOK, // the same, but the decision is in bytes behind this unit: ownership_move of
                    // those
};

struct ownership_unit {
    int lane, slot;
    bool restore;      // has a RESTORE-ASKING
    uint64_t begin;    // position when all before it is applied
    uint64_t end;      // ... and when it is
    uint64_t received; // of the lane's stream, by now
    // Hashes of all of its keys, the same ones each time that it is asked about. None: too many.
    const uint64_t *keys;
    int keys_n; // at most OWNERSHIP_KEYS
};
enum ownership_verdict ownership_unit(struct ownership *o, const struct ownership_unit *u);

// FLUSHALL or FLUSHDB, a unit of all slots: *own becomes the set of those that are the lane's at
// this place of its stream.
enum ownership_clear {
    OWNERSHIP_CLEAR,
    OWNERSHIP_CLEAR_WAIT,  // ask again after a change; u->slot is one that is not known yet
    OWNERSHIP_CLEAR_MIXED, // u->slot is being moved away: which of its keys are gone is not known
};
enum ownership_clear ownership_clear(struct ownership *o, struct ownership_unit *u,
                                     uint8_t own[SLOT_SET_BYTES]);

// The lane's position in the target, that is where it would begin again after a crash.
void ownership_applied(struct ownership *o, int lane, uint64_t position);

// The lane stands still, and its position is stored. It has looked at what follows up to `upto`:
// first[s], of SLOT_COUNT, is where the first unit of slot s begins, first_of tells it of a key of
// a slot that moves; UINT64_MAX: there is none. So that a lane which waits for this one need not
// wait for what has nothing to do with its unit.
struct ownership_ahead {
    uint64_t upto;
    uint64_t unsettled; // ownership_unsettled before it looked: keys of other slots were not noted
    const uint64_t *first;
    uint64_t (*first_of)(const void *ctx, uint64_t key);
    const void *ctx;
};
void ownership_ahead(struct ownership *o, int lane, const struct ownership_ahead *a);

// A poll of the topology: the lane that owns each slot now, OWNERSHIP_NOBODY for an unknown one.
void ownership_map(struct ownership *o, const int16_t *owner);

// What to ask a shard's primary, in this order: if `slot` >= 0 CLUSTER COUNTKEYSINSLOT, then its
// master_repl_offset. False: nothing to ask now.
struct ownership_question {
    uint64_t id;
    int lane, slot;
};
bool ownership_question(struct ownership *o, struct ownership_question *q);
// empty: the slot has no keys there, or none was asked for.
void ownership_answer(struct ownership *o, uint64_t id, uint64_t offset, bool empty);
void ownership_no_answer(struct ownership *o, uint64_t id); // it is put again later

// Another history: the lane's offsets mean something else from now on (a full sync).
void ownership_lane_reset(struct ownership *o, int lane, uint64_t position);
// The lane has applied all that its shard will ever say.
void ownership_lane_gone(struct ownership *o, int lane);

// Lanes of which other processes have some. One that has all of them is *whole*: it gives turns.
// Else turns stay where they are, and a lane goes on only if its record says that it may be
// *alone*: nobody else has had the turn on the slots of its record since it was stored. A new one
// is whole; ownership_hold makes it otherwise before the first lane, ownership_whole turns it back.
void ownership_hold(struct ownership *o);
// False: a record was passed over, so not all is known; then nothing changes.
bool ownership_whole(struct ownership *o) must_check;
// From whole to not: the lanes' next records say that they may be alone. False: slots move, not all
// is stored, or a lane is elsewhere; then nothing changes.
bool ownership_part(struct ownership *o);
// Another process has the lane, and how far it is is not known. ownership_lane_here ends it.
void ownership_lane_elsewhere(struct ownership *o, int lane);
// Not whole: the lane may go on, by its record. If it may not nothing of the record is taken in.
bool ownership_may_be_alone(struct ownership *o, int lane);
bool ownership_passed_over(struct ownership *o); // such a record: it must not become whole
// Every later tenure is numbered higher: those of different processes are in the order of time.
void ownership_count_from(struct ownership *o, uint64_t serial);

// Grows whenever a verdict may have changed.
uint64_t ownership_changes(const struct ownership *o);

// An atomic move, as the streams tell of it.
enum ownership_phase {
    OWNERSHIP_IMPORT_REPLAYED, // begins at the new owner: the old owner's stream has it all (Redis)
    OWNERSHIP_IMPORT_MOVED,    // begins at the new owner: the old one deletes the keys (Valkey)
    OWNERSHIP_IMPORT_DONE,
    OWNERSHIP_IMPORT_FAILED,
    OWNERSHIP_EXPORT_DONE, // at the old owner: nothing on these slots follows
};
struct ownership_range {
    int first, last;
};
struct ownership_move {
    enum ownership_phase phase;
    struct slice id;           // the task's or job's name
    struct slice source, dest; // node ids; empty where the stream does not say
    int ranges_n;              // 0 for the end of a Valkey job: those it began with
    struct ownership_range ranges[64];
};
// Reads a CLUSTER SYNCSLOTS of the stream. False: it does not concern us. Slices are borrowed.
// ERR_TOO_BIG, ERR_PROTOCOL: a move that cannot be followed.
int ownership_parse_move(int argc, const struct slice *argv, struct ownership_move *m,
                         bool *is_move, struct err *e) must_check;
// To be told in order, when the lane reads past it, and before that if it looks for it. end: behind
// the command.
// peer: the lane of m->dest for an export, of m->source for an import; OWNERSHIP_NOBODY if unknown.
int ownership_move(struct ownership *o, int lane, const struct ownership_move *m, uint64_t end,
                   int peer, struct err *e) must_check;

// The byte before `end` lies within an import whose content the old owner's stream has as well.
bool ownership_replays(struct ownership *o, int lane, uint64_t end);

// What the lane has to store in the transaction of its next position: appended, one line without
// spaces. False: it is as it was at the last call. Always short unless slots have moved.
bool ownership_put(struct ownership *o, int lane, struct buf *out);
// It would not be.
bool ownership_has_new(struct ownership *o, int lane);
// What the last ownership_put gave is stored; it may be lost.
void ownership_stored(struct ownership *o, int lane);
void ownership_put_lost(struct ownership *o, int lane);
bool ownership_all_stored(struct ownership *o); // of all lanes that are here
// What was stored. At the start, before any lane reads its first command: ownership_restore of each
// lane and ownership_applied of it, then ownership_map. ERR_CORRUPT for a damaged record.
int ownership_restore(struct ownership *o, int lane, struct slice record, struct err *e) must_check;

// False: slots move, or not whole, and a lane has slots that its record does not know of. Without a
// lock.
bool ownership_quiet(const struct ownership *o);
// Grows whenever a slot begins to move. Without a lock.
uint64_t ownership_unsettled(const struct ownership *o);
// A lane that was gone (or never there) begins; nothing is known of its position yet. True: it was
// elsewhere, and the others go on as a whole. Then its record is not taken in, no turn is given and
// they do not part: all are to begin anew.
bool ownership_lane_here(struct ownership *o, int lane);
// False: slots are on their way to the lane, and a snapshot of its shard may have their keys; it
// must not be loaded before the lanes that had them have applied what they did with them.
bool ownership_may_load(struct ownership *o, int lane);

// For the status: the slots that the lane waits with, and for which lane (the first; -1 none).
int ownership_waiting(struct ownership *o, int lane, int *for_lane);

struct ownership_stats {
    uint64_t turns;   // slots that went on to another lane
    uint64_t dropped; // units
    uint64_t bounced; // turns given because a shard was seen to get the slot back
    int moving;       // slots that are not settled now
};
void ownership_get_stats(struct ownership *o, struct ownership_stats *out);

#endif

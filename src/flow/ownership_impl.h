// SPDX-License-Identifier: Apache-2.0
// Shared by ownership.c and ownership_move.c.
#ifndef GUNYU_FLOW_OWNERSHIP_IMPL_H
#define GUNYU_FLOW_OWNERSHIP_IMPL_H

#include <pthread.h>

#include "flow/ownership.h"

#define OWNERSHIP_TENURES 64 // moves of one slot that a lane may be behind by
#define OWNERSHIP_MOVES 1024
#define OWNERSHIP_NODE_ID 40

// An offset to be learned.
struct mark {
    bool known, asked;
    uint64_t at;
};

// A lane that has the slot after the one before it has applied up to `cut` of its stream. What the
// lane has restored up to `since` of its own stream is how it got the slot.
struct tenure {
    int16_t lane;
    bool exact; // the cut stood in the stream
    struct mark cut, since;
    uint64_t serial;
};

// A lane's place in a slot that moves.
struct place {
    int16_t lane;
    bool blocked;   // its last unit of this slot waits
    bool returned;  // ... because the slot has been elsewhere since
    uint64_t at;    // where that unit begins
    uint64_t ahead; // nothing of the slot is unapplied up to there, whatever the lane's position
};

struct moving {
    int at; // in the list
    int n, cap, places_n, places_cap;
    struct tenure *next;
    struct place *places;
};

// The stretch of an importing lane's stream that an atomic move filled.
struct move {
    int lane, peer;                   // peer: the lane it comes from, -1 unknown
    char from[OWNERSHIP_NODE_ID + 1]; // a node of the peer, "" unknown
    bool replayed, open, failed;
    uint64_t begin, end;
    char id[64];
    uint8_t slots[SLOT_SET_BYTES];
};

// Every unit of lane L up to `upto` comes after all of lane M's of the same key up to `cut` and
// before all others.
struct pair {
    uint64_t upto, cut, asking_upto;
    bool known, asking;
};

enum asked_for { ASKED_PAIR, ASKED_CUT, ASKED_SINCE };

struct question {
    struct ownership_question q;
    enum asked_for what;
    bool sent;
    int for_lane;    // of a pair
    int slot;        // of a tenure
    uint64_t serial; // of a tenure
};

// When a lane got its last turn on a slot; 0: never. Kept after the turn went on: the next holder's
// record may not be stored yet.
struct had {
    uint64_t serial, since;
};

// The unit that a lane waits with. clear[M]: lane M, by its stored position, has no unit of these
// keys left up to there.
struct plea {
    bool on;
    uint64_t end;
    int n;
    uint64_t keys[OWNERSHIP_KEYS];
    uint64_t *clear;
};

enum whereabouts {
    LANE_HERE,
    LANE_ELSEWHERE, // another process has it
    LANE_LATE,      // it is back when the others go on: its record is for a new arbiter
};

struct lane_state {
    _Atomic uint64_t applied;
    struct plea plea;
    struct had *had;    // [SLOT_COUNT] or NULL
    bool gone, changed; // changed: ownership_put has something new
    enum whereabouts where;
    // Of its record, that another process may go on with the lane without knowing of the others:
    // what is stored may say so, what is put next says so, what was put last does.
    bool permit, alone, put_alone;
    bool unstored; // what was put last
};

struct ownership {
    struct ownership_fast fast;
    pthread_mutex_t lock;
    _Atomic int moving_n, moves_open;
    _Atomic int
        strange;      // slots of a lane that is here, by the last map, and whose turn is not known
    bool whole;       // it had all lanes: turns are given, while none is away
    int away;         // lanes that are not LANE_HERE
    bool mapped;      // a map was told
    bool passed_over; // a record of which nothing was taken
    _Atomic uint64_t changes, unsettled;
    int lanes;
    struct lane_state *lane;
    struct pair *pairs; // [L * lanes + M]
    int16_t turn[SLOT_COUNT];
    uint64_t turn_serial[SLOT_COUNT]; // 0: never went on
    uint64_t since[SLOT_COUNT];       // of the lane whose turn it is
    // It may have got the slot at once, with keys that its stream has only from `since` on.
    bool at_once[SLOT_COUNT];
    // A lane without the turn whose units were applied, OWNERSHIP_NOBODY for none since the turn
    // was given: the slot has keys of two shards. Not stored.
    int16_t guest[SLOT_COUNT];
    struct moving *slot[SLOT_COUNT]; // NULL: settled
    int16_t list[SLOT_COUNT];        // the slots that are not
    struct move *moves;
    int moves_n, moves_cap;
    struct question *questions;
    int questions_n, questions_cap;
    uint64_t serial;
    struct ownership_stats stats;
    int (*lane_of)(void *ctx, struct slice node_id); // or NULL
    void *names;                                     // its ctx
};

// Below: the lock is held.
void ownership_note_turn(struct ownership *o, int lane, int slot, struct had h);
struct moving *ownership_unsettle(struct ownership *o, int slot);
struct tenure *ownership_add_tenure(struct moving *m); // zeroed; NULL: no room
void ownership_advance(struct ownership *o, int slot); // gives the turn on, settles
struct tenure *ownership_push(struct ownership *o, int slot, int lane); // NULL: no room
int ownership_last(const struct ownership *o, int slot); // who has the slot after all that is known
void ownership_changed(struct ownership *o);
void ownership_set_where(struct ownership *o, int lane, enum whereabouts where);
void ownership_reset(struct ownership *o, int lane, uint64_t position, bool other_history);
struct move *ownership_move_at(struct ownership *o, int lane, int slot, uint64_t end);
bool ownership_moves_with(const struct ownership *o, int slot);
void ownership_forget_moves(struct ownership *o, int lane);
uint64_t ownership_progress(const struct ownership *o, int lane, int slot);
static inline bool ownership_is_stored(const struct lane_state *l)
{
    return !l->changed && !l->unstored;
}
void *ownership_grow(void *p, int n, int *cap, size_t size);

#endif

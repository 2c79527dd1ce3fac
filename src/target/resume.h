// SPDX-License-Identifier: Apache-2.0
// From what the source, the target's position and the local journal say: what to ask the source for
// and what to apply first. Pure.
#ifndef GUNYU_TARGET_RESUME_H
#define GUNYU_TARGET_RESUME_H

#include "journal/journal.h"
#include "target/position.h"

struct resume_input {
    const char *id1, *id2; // the source's ids; "" when it would not say
    // id2 is valid up to this master_repl_offset: INFO's second_repl_offset - 1. Negative: unknown.
    int64_t second_offset;
    // NULL: none found (or resuming is switched off). Besides id1 and id2, a position of one of the
    // journal's ids is of use: the journal may know the way from it to id1.
    const struct position *position;
    const struct journal_info *journal;
    // Nothing behind this was given to the target without a position that tells whether it has it.
    uint64_t loose_until;
    // Keys of lost writes are at the target and not taken back: only a snapshot helps.
    bool to_take_back;
};

enum resume_apply {
    RESUME_NOTHING,  // wait for the full sync
    RESUME_STREAM,   // go on in the log after apply_from
    RESUME_SNAPSHOT, // load the journal's snapshot from rdb_index, then the log
};

struct resume_decision {
    char psync_replid[REPLID_LEN + 1]; // "?" asks for a full sync
    int64_t psync_offset;              // last position held; -1 with "?"
    // What the journal holds is of no use: once the source has answered +CONTINUE, begin an empty
    // log at psync_offset.
    bool reset_journal;
    enum resume_apply apply;
    uint64_t apply_from; // stream position
    uint64_t rdb_index;
    int db;     // source db selected at apply_from; after a snapshot, what the position said or 0
    int rdb_db; // db selected at rdb_index
    const char *reason; // why a full sync, or why this; static text for log, status and metric
};

// Up to where the journal's log is the history of a source that is `offset` far under id1 and was
// id2 up to second_offset (negative: unknown). False: they have no id in common.
bool resume_fork(const struct journal_info *j, const char *id1, uint64_t offset, const char *id2,
                 int64_t second_offset, uint64_t *fork);

// Where PSYNC is answered +FULLRESYNC all the same, the decision is void: the full sync counts.
void resume_decide(const struct resume_input *in, struct resume_decision *out);

#endif

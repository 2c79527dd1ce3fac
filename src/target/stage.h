// SPDX-License-Identifier: Apache-2.0
// Carrying out, in a cluster and exactly once, a command that reads keys of some slots and writes
// into another one (ROUTE_STAGE): the keys are copied to temporary ones in the slot that is
// written, the command runs there, and a key that it takes from is copied back. Pure: says what to
// send next and is told the answers.
//
//   1. Each key of another slot is copied: DUMP, then RESTORE of a temporary key.
//   2. The command, with the temporary keys, and the record that the written slot has it: one
//      transaction.
//   3. A key that the command takes from (RENAME, LMOVE, SMOVE): what is left of its copy replaces
//      it, and the record that its slot has the command: one transaction.
//   4. The temporary keys are deleted.
//
// After a crash or a transient error (MOVED, LOADING, a lost connection) the stage is begun again,
// with the marks read after a fence on every master. Without the mark of 2, nothing but temporary
// keys had changed; without that of 3, the temporary keys are as 2 left them; else only 4 is left.
//
// The caller sees to it that everything before the command is applied in its slots, and that
// nothing behind it is sent to them before the stage is done. A reader of the target may see the
// state between 2 and 3.
#ifndef GUNYU_TARGET_STAGE_H
#define GUNYU_TARGET_STAGE_H

#include "base/buf.h"
#include "flow/route.h"

struct stage_options {
    const char *tag;     // of this lane, in the names of its temporary keys; borrowed
    bool has_expiretime; // PEXPIRETIME: Redis since 7.0, every Valkey
    size_t max_payload;  // bytes of a DUMP; 0: 512 MB, what a server takes in one argument
    // The highest offset that is recorded as applied in this slot; 0: none.
    uint64_t (*mark)(void *ctx, int slot);
    void *ctx;
};

enum stage_kind {
    STAGE_SEND,
    STAGE_DONE,
    STAGE_FAILED, // for good; reason
};

struct stage_step {
    enum stage_kind kind;
    // SEND: commands for the owner of this slot; borrowed until the next call.
    int slot, n;
    const struct rewrite_cmd *cmds;
    bool record;     // as one transaction, with the record of the unit's offset for this slot
    bool is_command; // the one of the source, with other keys: to be said in the target's words
    // FAILED
    struct slice reason; // the target's words, or ours; until stage_free
    bool
        applied; // failed within a transaction that was recorded: a dead letter, not to be repeated
};

struct stage_answer {
    struct slice replies; // whole ones, in order; those of a transaction as in EXEC's array
    struct slice refused; // or else the error with which a transaction was refused as a whole
};

enum { STAGE_CMDS = 4 };

// private; what the last step was
enum stage_phase {
    STAGE_READ,
    STAGE_WRITE,
    STAGE_COMPUTE,
    STAGE_READ_BACK,
    STAGE_WRITE_BACK,
    STAGE_CLEAN,
    STAGE_END
};

// Zeroed is ready for stage_begin; stage_free afterwards.
struct stage {
    // private
    struct stage_options o;
    struct buf text; // the bytes of argv, and of names
    int argc;
    struct slice *argv;     // owns; the command with its own keys
    struct slice *changed;  // owns; with temporary ones
    struct stage_key *keys; // owns; those in other slots than the one written
    struct slice *del;      // owns; DEL and the temporary keys
    enum stage_phase phase;
    int keys_n, at, slot, drained, tries;
    bool gone, applied; // the value that was read last does not exist
    int64_t expiry;     // its, in unix ms; -1 none
    struct buf payload, reason;
    struct rewrite_cmd cmds[STAGE_CMDS];
    struct slice args[STAGE_CMDS][5];
    char number[24];
};

// r: what route_command said of argv; both are copied. offset: where the command ends in the
// stream, which is what its records say.
void stage_begin(struct stage *s, const struct stage_options *o, const struct route *r, int argc,
                 const struct slice *argv, uint64_t offset);
// What comes after the answer to the last step; NULL at the beginning. Errors that may pass are not
// for here: the caller gives the stage up and begins it again.
void stage_next(struct stage *s, const struct stage_answer *answer, struct stage_step *out);
void stage_free(struct stage *s);

#endif

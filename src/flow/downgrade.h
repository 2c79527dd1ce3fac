// SPDX-License-Identifier: Apache-2.0
// What a command of a source's stream becomes for a target that is older or of the other family:
// commands and options that it does not know are written in ones that it does, and so are those
// that servers take from their master only. Pure; one table says what, docs/stream-rewrites.md is
// checked against it. Comes after rewrite_command, whose commands it takes.
//
// Sources send a command only when it did something, so conditions (NX, IFEQ, NOMKSTREAM) that held
// there are left out. What needs the target's data becomes a script.
#ifndef GUNYU_FLOW_DOWNGRADE_H
#define GUNYU_FLOW_DOWNGRADE_H

#include "base/buf.h"
#include "flow/rewrite.h"

// Zeroed knows no target and changes nothing; downgrade_init once, downgrade_free afterwards.
struct downgrade {
    struct rewrite out; // of the last downgrade_command: argc, argv, then; reason
    // private
    int version, rdb_version;
    bool is_valkey;
    uint64_t missing;     // rows of the table that concern this target, by index
    unsigned char *by_id; // owns; index of a command's row + 1, 0: always as is
    struct buf temp;
};

// version 0: unknown, taken for newer than all. rdb_version: the highest that its RESTORE takes.
void downgrade_init(struct downgrade *d, bool is_valkey, int version, int rdb_version);
void downgrade_free(struct downgrade *d);

static inline bool downgrade_concerns(const struct downgrade *d, const struct cmd_info *info)
{
    return d->by_id && info && d->by_id[info->id] != 0;
}

// As rewrite_command: several commands replace the one together or not at all. Slices in `out`
// point into argv or into d, until the next call.
enum rewrite_result downgrade_command(struct downgrade *d, const struct cmd_info *info, int argc,
                                      const struct slice *argv);

#endif

// SPDX-License-Identifier: Apache-2.0
// What the arbiter of moving slots (flow/ownership.h) says of the commands of the stream, and what
// the stream tells the arbiter. For a lane whose source is a shard of a cluster; one for each.
#ifndef GUNYU_TARGET_TURN_H
#define GUNYU_TARGET_TURN_H

#include "codec/cmdtable.h"
#include "codec/resp.h"
#include "flow/ownership.h"

struct turn_options {
    struct ownership *ownership; // outlives it
    int lane;
    // The lane of the shard that has this node, OWNERSHIP_NOBODY if unknown.
    int (*lane_of)(void *ctx, struct slice node_id);
    void (*sign)(void *ctx); // slots are being moved, says the stream
    void *ctx;
};

enum turn_verdict {
    TURN_TAKE,
    TURN_DROP,   // what it does comes with another lane
    TURN_WAIT,   // stand still, ask again when ownership_changes has grown; or it is not whole yet
    TURN_REFUSE, // it tells of a move that cannot be followed; turn_reason
};

struct turn;
struct turn *turn_new(const struct turn_options *o);
void turn_free(struct turn *t);
// Reading begins anew.
void turn_reset(struct turn *t);
// One command that is a unit, `at` its first byte's position and p[0..n) what has come from there
// on.
enum turn_verdict turn_command(struct turn *t, const struct cmd_info *info,
                               const struct resp_cmd *cmd, uint64_t at, const char *p, size_t n);
// A transaction, from its MULTI on. Its commands are not asked about again, but for turn_drops.
enum turn_verdict turn_transaction(struct turn *t, uint64_t at, const char *p, size_t n);
// The position that is stored. A lane that stands there for a while looks which slots do not follow
// in what has come, so that others need not wait for it with those.
void turn_stored(struct turn *t, uint64_t position);
// A command of the transaction that was taken last is to be left out.
bool turn_drops(struct turn *t, const struct cmd_info *info, const struct resp_cmd *cmd);
// FLUSHALL or FLUSHDB from position `at` to `end`: in which slots the keys are this lane's there,
// turn_own. turn_command and turn_transaction say nothing of them.
enum turn_verdict turn_clear(struct turn *t, uint64_t at, uint64_t end);
const uint8_t *turn_own(const struct turn *t); // as ownership_clear has set them
bool turn_is_clear(const struct turn *t, const struct cmd_info *info);
// The transaction that was taken last has such a command.
bool turn_clears(const struct turn *t);
// The last verdict was that a slot has to wait; *slot is one that does.
bool turn_waits(const struct turn *t, int *slot);
const char *turn_reason(const struct turn *t);

#endif

// SPDX-License-Identifier: Apache-2.0
// What follows in the stream behind a lane that stands still, because another lane's turn is first:
// told to the arbiter, so that two lanes do not wait for each other with different slots or keys
// (docs/slot-migration.md, "Waiting"). Of turn.c.
#ifndef GUNYU_TARGET_TURN_AHEAD_H
#define GUNYU_TARGET_TURN_AHEAD_H

#include "codec/cmdtable.h"
#include "codec/resp.h"
#include "flow/ownership.h"

// Where a command's keys are.
struct key_places {
    int *at; // of argv
    int cap;
};
// Returns how many, 0 for a command whose keys have no say in whose turn it is. info may be NULL.
int key_places_of(struct key_places *k, const struct cmd_info *info, const struct resp_cmd *cmd);
void key_places_free(struct key_places *k);
// As the arbiter is told of keys.
uint64_t turn_key_hash(struct slice key);

struct turn_ahead;
struct turn_ahead *turn_ahead_new(struct ownership *o, int lane);
void turn_ahead_free(struct turn_ahead *a);
void turn_ahead_reset(struct turn_ahead *a);
// FLUSHALL or FLUSHDB, which is a unit of every slot and key. info may be NULL.
bool turn_ahead_is_clear(const struct turn_ahead *a, const struct cmd_info *info);
// The lane stands before the unit at `at`; p[0..n) has come from there on; its stored position is
// `stored`. Looks at a piece of it at each call, once it has stood for a while and that is stored.
void turn_ahead_look(struct turn_ahead *a, uint64_t stored, uint64_t at, const char *p, size_t n);

#endif

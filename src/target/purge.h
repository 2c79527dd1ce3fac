// SPDX-License-Identifier: Apache-2.0
// Deletes from a target what a shard of the source cluster has cleared: the keys of its slots, in
// the dbs that its own go into, and nothing that the sync keeps there itself or that a filter would
// not have let in. Blocking; run it on a pool thread with a connection of its own.
#ifndef GUNYU_TARGET_PURGE_H
#define GUNYU_TARGET_PURGE_H

#include <stdatomic.h>

#include "codec/slot.h"
#include "flow/filter.h"
#include "flow/rewrite.h"
#include "redis/client.h"

struct purge_scope {
    uint8_t slots[SLOT_SET_BYTES]; // a set
    int db;                        // of the source; -1: all
    struct rewrite_dbs dbs;        // its map is borrowed
    const struct filter *filter;   // borrowed; NULL: everything goes on
};

// Whether the db of the target, and the key in it, is to be cleared.
bool purge_has_db(const struct purge_scope *s, int target_db);
bool purge_has_key(const struct purge_scope *s, int target_db, struct slice key);

struct purge_options {
    const struct purge_scope *scope;
    bool unlink; // the server knows UNLINK
    bool asking; // a slot may be on its way to it
    const atomic_bool *cancel;
};
// Walks one server. *found grows by the keys that were to be deleted; of those that were on their
// way to another node, some may be left. ERR_CLOSED when it was cancelled; ERR_REPLY: e is in the
// server's own words. After an error answers may be outstanding.
int purge_run(struct redis_client *c, const struct purge_options *o, uint64_t *found,
              struct err *e) must_check;

#endif

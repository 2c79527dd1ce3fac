// SPDX-License-Identifier: Apache-2.0
// Deletes from a target the keys of some slots, in the dbs that the source's own go into, and
// nothing that the sync keeps there itself or that a filter would not have let in: what a shard of
// the source cluster has cleared, and what a snapshot does not have. Blocking; run it on a pool
// thread with a connection of its own.
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
    // A key of the scope that is to stay all the same. NULL: none is.
    bool (*keeps)(void *ctx, int target_db, struct slice key);
    void *ctx;
};
struct purge_result {
    uint64_t found; // were to be deleted
    uint64_t deleted;
};
// Walks one server. *r grows; of keys that were on their way to another node, some may be left.
// ERR_CLOSED when it was cancelled; ERR_REPLY: e is in the server's own words. After an error
// answers may be outstanding.
int purge_run(struct redis_client *c, const struct purge_options *o, struct purge_result *r,
              struct err *e) must_check;

#endif

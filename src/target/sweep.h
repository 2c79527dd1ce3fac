// SPDX-License-Identifier: Apache-2.0
// Walks a target's key space for expiries: a settling sweep finds keys that were left far
// (flow/expiry.h) and sets their true expiry; a defusing one makes far what will expire soon.
// Blocking; run it on a pool thread with a connection of its own.
#ifndef GUNYU_TARGET_SWEEP_H
#define GUNYU_TARGET_SWEEP_H

#include <stdatomic.h>

#include "redis/client.h"

struct sweep_options {
    int version; // 70015
    bool is_valkey;
    bool defuse;
    // Fields of hashes are looked at too, where the server has expiries of fields.
    bool fields;
    int64_t near_ms;  // settling: an expiry as near as this is not set but put into `left`.
                      // Defusing: those as near as this are made far
    int64_t ahead_ms; // the source's clock is ahead of ours by this
    const atomic_bool *cancel; // looked at after each page
};

struct sweep_result {
    uint64_t changed;
    struct buf left; // far still, for sweep_next
    bool left_out;   // of some nobody knows: `left` was too small, or they were being moved
};

// Servers that have what a sweep needs.
bool sweep_is_possible(int version, bool is_valkey);
// Walks one server. ERR_CLOSED when it was cancelled. r->left is the caller's to free in any case.
int sweep_run(struct redis_client *c, const struct sweep_options *o, struct sweep_result *r,
              struct err *e) must_check;

struct sweep_dial {
    const char *name; // of the connections; NULL: none
    int timeout_ms;   // of connecting
    // Whether a connection, which has its name by then, may be used; NULL: it may.
    int (*admit)(void *ctx, struct redis_client *c, struct err *e);
    void *ctx;
};
// Connects to each and walks it, one after the other.
int sweep_nodes(const struct endpoint *nodes, size_t n, const struct sweep_dial *d,
                const struct sweep_options *o, struct sweep_result *r, struct err *e) must_check;
// The same with all masters of the cluster that the seeds are nodes of. r->left_out also when it
// has no master for some slot or a slot was moved meanwhile: its keys may have been passed by.
int sweep_cluster(const struct endpoint *seeds, size_t n, const struct sweep_dial *d,
                  const struct sweep_options *o, struct sweep_result *r, struct err *e) must_check;

struct sweep_item {
    int db;
    struct slice key, field; // field.p NULL: the key's own
    int64_t true_ms;
};
// Takes the next one off *left.
bool sweep_next(struct slice *left, struct sweep_item *out);

#endif

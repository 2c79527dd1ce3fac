// SPDX-License-Identifier: Apache-2.0
// Connections to all masters of a cluster. Blocking; run it on a pool thread.
#ifndef GUNYU_REDIS_MASTERS_H
#define GUNYU_REDIS_MASTERS_H

#include "redis/cluster.h"

struct masters {
    struct cluster_map map;        // every slot has an owner
    size_t n;                      // map.shards_n; 0: not open
    struct endpoint *endpoints;    // owns; in the order of map.shards, as the next one
    struct redis_client **clients; // owns; in db 0. NULL: taken by redis_take_conn
    // What the oldest of them says of itself, but every command that one of them lacks, and as many
    // databases as may be selected at all of them.
    struct redis_server server;
};

// Reaches every master of the cluster that the first seed to answer tells of, and asks each what it
// is. version: of one that does not tell. e names the node. ERR_REPLY also when a slot has no
// owner, when one of them loads its data, and when it has become a replica. After an error there is
// nothing to close.
int masters_open(struct masters *out, const struct endpoint *seeds, size_t n, int timeout_ms,
                 int version, struct err *e) must_check;
// Puts the node before what e says.
void masters_wrap(const struct masters *m, size_t i, struct err *e);
// The connection to the owner of a key; borrowed.
struct redis_client *masters_owner(const struct masters *m, struct slice key);
// All zero, or closed before, is allowed.
void masters_close(struct masters *m);

#endif

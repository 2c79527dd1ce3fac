// SPDX-License-Identifier: Apache-2.0
// Who serves what in a Redis Cluster, as its nodes tell it. Blocking; run it on a pool thread.
#ifndef GUNYU_REDIS_CLUSTER_H
#define GUNYU_REDIS_CLUSTER_H

#include "redis/client.h"

enum { CLUSTER_SLOTS = 16384, CLUSTER_NODE_ID = 40, CLUSTER_NO_SHARD = -1 };

struct cluster_node {
    char id[CLUSTER_NODE_ID + 1];
    char *host;    // owns; where clients are to go: what the node announces
    uint16_t port; // the TLS port where the seed was reached by TLS
    bool failed;   // the cluster says so; a suspicion of one node ("fail?") is none
};

struct cluster_shard {
    struct cluster_node master;
    struct cluster_node *replicas; // owns; by address
    size_t replicas_n;
    int slots;      // how many it owns
    bool migrating; // a slot is being moved to it or away from it, key by key
};

// Shards are in the order of their first slot. Masters without slots are not in it.
struct cluster_map {
    struct cluster_shard *shards; // owns
    size_t shards_n;
    int16_t owner[CLUSTER_SLOTS]; // index into shards, or CLUSTER_NO_SHARD
    int covered;                  // slots that have an owner
};

// What the node that c is connected to says; `via` is how it was reached (a node that announces no
// host is where it was reached). ERR_REPLY when it is not in cluster mode. *out is to be freed.
int cluster_read(struct cluster_map *out, struct redis_client *c, const struct endpoint *via,
                 struct err *e) must_check;
// The same of the first seed that answers. e tells all that failed.
int cluster_find(struct cluster_map *out, const struct endpoint *seeds, size_t n, int timeout_ms,
                 struct err *e) must_check;
// The same of this seed alone, and without asking the masters what they are moving. ERR_REPLY
// also when it knows of no node that has slots.
int cluster_ask(struct cluster_map *out, const struct endpoint *seed, int timeout_ms,
                struct err *e) must_check;
void cluster_free(struct cluster_map *m);
// How to reach a node: address of the node, everything else (user, password, TLS) of the seed.
// db is 0. The caller frees *out.
void cluster_endpoint(struct endpoint *out, const struct cluster_node *node,
                      const struct endpoint *seed);
// The same of all masters, in the order of m->shards; for endpoints_free.
struct endpoint *cluster_endpoints(const struct cluster_map *m, const struct endpoint *seed);
// The shard that holds the node of this id as master or replica, or CLUSTER_NO_SHARD.
int cluster_shard_of(const struct cluster_map *m, const char *node_id);

#endif

// SPDX-License-Identifier: Apache-2.0
// The shards of the source cluster as they were last seen. A shard stays the same through
// failovers: it is known again by any of its nodes. May be used from any thread; what blocks says
// so. A shard lives as long as the set.
#ifndef GUNYU_CONTROL_SHARDS_H
#define GUNYU_CONTROL_SHARDS_H

#include <stdatomic.h>

#include "control/config.h"
#include "control/shard_names.h"
#include "redis/cluster.h"

struct shards;
struct shard;

struct shards_options {
    const struct endpoint *seeds; // borrowed; also what tells user, password and TLS
    size_t seeds_n;
    bool only_seeds;           // input.mode static: the shards of the seeds
    const char *names_path;    // file of shard_names.h, or NULL; borrowed
    int timeout_ms;            // of each connection
    const atomic_bool *stop;   // ends a look early
    void (*looked)(void *ctx); // a look has ended that a connection attempt asked for
    void *ctx;
};

struct shards *shards_new(const struct shards_options *o);
void shards_free(struct shards *s);
// Asks the cluster and takes in what it says. Blocking. With an error all stays as it was.
int shards_look(struct shards *s, struct err *e) must_check;
// The same with an answer that is there already.
void shards_take(struct shards *s, const struct cluster_map *m);
// The last look failed (with its error in e), or a shard was missed once: look again soon.
bool shards_unsettled(struct shards *s, struct err *e);
// Every shard that was ever seen. Returns how many; *out is new, free it.
size_t shards_list(struct shards *s, struct shard ***out);

const char *shard_name(const struct shard *h); // for ever
// It has slots and is to be synced. A shard has gone when two looks in a row miss it while all
// slots that had an owner have one.
bool shard_is_here(struct shard *h);
// The master's address, as endpoint_name writes it.
void shard_master(struct shard *h, char *out, size_t cap);
// Ids of the nodes that are in the shard, or were and are in no other; the master's first.
void shard_nodes_of(struct shard *h, struct shard_nodes *out);
// A node of the shard has this address.
bool shard_has_address(struct shard *h, struct slice address);
// Shards are numbered from 0 in the order in which they were seen first.
int shard_number(const struct shard *h);
// The master's address with all that is needed to connect; *out is to be freed. False: it failed.
bool shard_endpoint(struct shards *s, int number, struct endpoint *out);
bool shard_name_of(struct shards *s, int number, char *out, size_t cap);
// The shard that has the node, or -1.
int shards_with_node(struct shards *s, struct slice node_id);
// Of each slot the number of the shard that owned it at the last look, -1 for an unknown one and
// for one that is not to be synced. owner has CLUSTER_SLOTS entries.
void shards_owners(struct shards *s, int16_t *owner);
// For struct endpoint_finder, with the shard as ctx: looks, then tells the master. Blocking.
int shard_find(void *shard, struct endpoint *out, struct err *e) must_check;

#endif

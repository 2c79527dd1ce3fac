// SPDX-License-Identifier: Apache-2.0
// One way to say where a server is, for sources and targets. Blocking; run it on a pool thread.
#ifndef GUNYU_REDIS_LOCATE_H
#define GUNYU_REDIS_LOCATE_H

#include "redis/cluster.h"
#include "redis/sentinel.h"

enum { LOCATE_ALSO = 8 };

// Plain data that borrows all it points to, so that it may be copied; the owner keeps that alive.
struct locator {
    enum { LOCATE_FIXED, LOCATE_SENTINEL, LOCATE_SHARD } how;
    struct endpoint fixed;
    struct sentinel_options sentinel;
    // Nodes of the cluster; the more of those that are known, the more of them may be down.
    const struct endpoint *seeds;
    size_t seeds_n;
    char node_id[CLUSTER_NODE_ID + 1]; // any node of the shard, whatever its role has become
    // Further nodes of it ("" none): one that died as master is of no shard any more once another
    // has taken its place.
    char also[LOCATE_ALSO][CLUSTER_NODE_ID + 1];
};

// Sets how, node_id and also to a shard as it is now; leaves the seeds alone. Best repeated
// whenever the map has been read again, as replicas come and go.
void locator_set_shard(struct locator *l, const struct cluster_shard *s);

// Where the master is now. A fixed address is taken as it is. With a cluster, seeds by which the
// master of the shard is failed are passed over, so that a failover shows as an error until it is
// done. *out is to be freed.
int locate_master(struct endpoint *out, const struct locator *l, int timeout_ms,
                  struct err *e) must_check;

#endif

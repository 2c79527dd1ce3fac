// SPDX-License-Identifier: Apache-2.0
// Private to the files cluster*.c: what nodes say, taken apart. Pure.
#ifndef GUNYU_REDIS_CLUSTER_IMPL_H
#define GUNYU_REDIS_CLUSTER_IMPL_H

#include "redis/cluster.h"

// The map of a CLUSTER NODES text, which says who serves what. `shards` is the reply to CLUSTER
// SHARDS, which says where clients are to go, or NULL of a server before 7.0, where that is what
// the text says. ERR_PROTOCOL when the text has no node at all; what is odd in either otherwise is
// left out. *out is to be freed.
int cluster_parse(struct cluster_map *out, struct slice nodes, const struct redis_reply *shards,
                  const struct endpoint *via, struct err *e) must_check;
// Sets `migrating` of the shards at both ends of every move that this CLUSTER NODES text tells of.
void cluster_mark_moves(struct cluster_map *m, struct slice nodes);

#endif

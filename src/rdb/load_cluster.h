// SPDX-License-Identifier: Apache-2.0
// Connections to all masters of a cluster that a file is loaded into. Blocking until the router has
// them.
#ifndef GUNYU_RDB_LOAD_CLUSTER_H
#define GUNYU_RDB_LOAD_CLUSTER_H

#include "redis/client.h"
#include "target/router.h"

struct load_cluster;
// server: what the oldest of the masters says of itself, and every command that one of them lacks;
// its databases are those that one may select.
int load_cluster_open(struct load_cluster **out, const struct endpoint *seeds, size_t n,
                      int timeout_ms, struct redis_server *server, struct err *e) must_check;
// The connection to the owner of a key; borrowed.
struct redis_client *load_cluster_owner(struct load_cluster *c, struct slice key);
// Hands the connections over to a new router.
struct sink *load_cluster_sink(struct load_cluster *c, const struct router_options *o);
void load_cluster_close(struct load_cluster *c); // NULL is allowed

#endif

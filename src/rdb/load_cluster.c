// SPDX-License-Identifier: Apache-2.0
#include "rdb/load_cluster.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "redis/cluster.h"

struct load_cluster {
    struct cluster_map map;
    struct redis_client **clients; // of each shard's master
};

static int reach(struct load_cluster *c, size_t i, const struct endpoint *seed, int timeout_ms,
                 struct redis_server *server, struct err *e)
{
    struct endpoint ep;
    struct redis_server s;
    struct redis_reply reply;
    struct err ignored;
    cluster_endpoint(&ep, &c->map.shards[i].master, seed);
    int rc = redis_connect(&c->clients[i], &ep, timeout_ms, e);
    endpoint_free(&ep);
    if (rc == 0)
        rc = redis_probe(c->clients[i], &s, e);
    if (rc)
        return rc;
    if (s.loading)
        return err_set(e, ERR_REPLY, "LOADING a node is loading its own data; try later");
    unsigned missing = s.missing | (i ? server->missing : 0);
    if (i == 0 || s.version < server->version)
        *server = s;
    server->missing = missing;
    // A Redis says 16 and means 1.
    if (redis_call(c->clients[i], &reply, &ignored, "SELECT 1"))
        server->databases = 1;
    else
        rc = redis_call(c->clients[i], &reply, e, "SELECT 0");
    return rc;
}

int load_cluster_open(struct load_cluster **out, const struct endpoint *seeds, size_t n,
                      int timeout_ms, struct redis_server *server, struct err *e)
{
    struct load_cluster *c = xcalloc(1, sizeof(*c));
    int rc = cluster_find(&c->map, seeds, n, timeout_ms, e);
    if (rc) {
        free(c);
        return rc;
    }
    c->clients = xcalloc(c->map.shards_n + 1, sizeof(struct redis_client *));
    if (c->map.covered != CLUSTER_SLOTS)
        rc = err_set(e, ERR_REPLY, "CLUSTERDOWN only %d of %d slots have an owner", c->map.covered,
                     CLUSTER_SLOTS);
    for (size_t i = 0; i < c->map.shards_n && rc == 0; i++)
        rc = reach(c, i, &seeds[0], timeout_ms, server, e);
    if (rc)
        load_cluster_close(c);
    else
        *out = c;
    return rc;
}

struct redis_client *load_cluster_owner(struct load_cluster *c, struct slice key)
{
    return c->clients[c->map.owner[slot_of(key)]];
}

struct sink *load_cluster_sink(struct load_cluster *c, const struct router_options *o)
{
    size_t n = c->map.shards_n;
    struct router_node *nodes = xcalloc(n, sizeof(*nodes));
    for (size_t i = 0; i < n; i++) {
        snprintf(nodes[i].host, sizeof(nodes[i].host), "%s", c->map.shards[i].master.host);
        nodes[i].port = c->map.shards[i].master.port;
        nodes[i].conn = redis_take_conn(c->clients[i]);
        c->clients[i] = NULL;
    }
    struct router *r = router_new(o);
    struct router_target t = {.nodes = nodes, .nodes_n = (int)n, .owner = c->map.owner};
    router_attach(r, &t);
    free(nodes);
    return router_sink(r);
}

void load_cluster_close(struct load_cluster *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->map.shards_n; i++)
        redis_close(c->clients[i]);
    free(c->clients);
    cluster_free(&c->map);
    free(c);
}

// SPDX-License-Identifier: Apache-2.0
#include "redis/cluster.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "redis/cluster_impl.h"

// A node that hangs must not keep the others from being known.
enum { MOVES_TIMEOUT_MS = 300 };

static int ask_nodes(struct redis_client *c, struct redis_reply *out, struct err *e)
{
    int rc = redis_call(c, out, e, "CLUSTER NODES");
    if (rc == 0 && out->root.type != RESP_BULK && out->root.type != RESP_STATUS)
        return err_set(e, ERR_PROTOCOL, "CLUSTER NODES was answered with something else");
    return rc;
}

int cluster_read(struct cluster_map *out, struct redis_client *c, const struct endpoint *via,
                 struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct redis_reply reply;
    struct buf nodes = {0};
    int rc = ask_nodes(c, &reply, e);
    if (rc)
        return rc;
    buf_append_slice(&nodes, reply.root.text);
    // Redis before 7.0 does not know it, and a user may lack the right.
    rc = redis_call(c, &reply, e, "CLUSTER SHARDS");
    if (rc == 0 || rc == ERR_REPLY)
        rc = cluster_parse(out, buf_slice(&nodes), rc ? NULL : &reply, via, e);
    buf_free(&nodes);
    return rc;
}

int cluster_ask(struct cluster_map *out, const struct endpoint *seed, int timeout_ms, struct err *e)
{
    struct redis_client *c;
    memset(out, 0, sizeof(*out));
    int rc = redis_connect(&c, seed, timeout_ms, e);
    if (rc)
        return rc;
    rc = cluster_read(out, c, seed, e);
    redis_close(c);
    if (rc == 0 && out->covered == 0) {
        char name[300];
        cluster_free(out);
        rc = err_set(e, ERR_REPLY, "%s knows of no node that has slots",
                     endpoint_name(seed, name, sizeof(name)));
    }
    return rc;
}

// A node tells only of its own moves. One that does not answer is taken to move nothing.
static void ask_moves(struct cluster_map *m, const struct cluster_node *node,
                      const struct endpoint *seed, int timeout_ms)
{
    struct endpoint ep;
    struct redis_client *c;
    struct redis_reply reply;
    cluster_endpoint(&ep, node, seed);
    if (redis_connect(&c, &ep, timeout_ms, NULL) == 0) {
        if (ask_nodes(c, &reply, NULL) == 0)
            cluster_mark_moves(m, reply.root.text);
        redis_close(c);
    }
    endpoint_free(&ep);
}

static void ask_all_moves(struct cluster_map *m, const struct endpoint *seed, int timeout_ms)
{
    uint64_t deadline = clock_mono_us() + (uint64_t)timeout_ms * 1000;
    int each = timeout_ms < MOVES_TIMEOUT_MS ? timeout_ms : MOVES_TIMEOUT_MS;
    for (size_t i = 0; i < m->shards_n && clock_mono_us() < deadline; i++)
        if (!m->shards[i].master.failed)
            ask_moves(m, &m->shards[i].master, seed, each);
}

int cluster_find(struct cluster_map *out, const struct endpoint *seeds, size_t n, int timeout_ms,
                 struct err *e)
{
    struct err all = {0};
    err_set(&all, 0, "no node of a cluster is given");
    for (size_t i = 0; i < n; i++) {
        struct err one = {0};
        if (cluster_ask(out, &seeds[i], timeout_ms, &one) == 0) {
            ask_all_moves(out, &seeds[i], timeout_ms);
            return 0;
        }
        err_join(&all, &one);
    }
    return err_set(e, n ? all.code : ERR_CONFIG, "%s", all.msg);
}

static void node_free(struct cluster_node *n)
{
    free(n->host);
}

void cluster_free(struct cluster_map *m)
{
    for (size_t i = 0; i < m->shards_n; i++) {
        struct cluster_shard *s = &m->shards[i];
        node_free(&s->master);
        for (size_t k = 0; k < s->replicas_n; k++)
            node_free(&s->replicas[k]);
        free(s->replicas);
    }
    free(m->shards);
    memset(m, 0, sizeof(*m));
}

void cluster_endpoint(struct endpoint *out, const struct cluster_node *node,
                      const struct endpoint *seed)
{
    endpoint_move(out, seed, node->host, node->port);
    out->db = 0;
}

struct endpoint *cluster_endpoints(const struct cluster_map *m, const struct endpoint *seed)
{
    struct endpoint *list = xcalloc(m->shards_n, sizeof(*list));
    for (size_t i = 0; i < m->shards_n; i++)
        cluster_endpoint(&list[i], &m->shards[i].master, seed);
    return list;
}

int cluster_shard_of(const struct cluster_map *m, const char *node_id)
{
    for (size_t i = 0; i < m->shards_n; i++) {
        const struct cluster_shard *s = &m->shards[i];
        if (strcmp(s->master.id, node_id) == 0)
            return (int)i;
        for (size_t k = 0; k < s->replicas_n; k++)
            if (strcmp(s->replicas[k].id, node_id) == 0)
                return (int)i;
    }
    return CLUSTER_NO_SHARD;
}

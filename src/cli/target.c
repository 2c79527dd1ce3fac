// SPDX-License-Identifier: Apache-2.0
#include "cli/target.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/config.h"
#include "redis/cluster.h"
#include "target/expiry.h"
#include "target/sweep.h"

enum { TIMEOUT_MS = 10000 };

int cli_target(const struct cli_args *a, struct endpoint *out, struct err *e)
{
    *out = (struct endpoint){0};
    if (!a->conf)
        return config_endpoint(out, a->to, e);
    struct config *c = NULL;
    struct config_diags d = {0};
    struct config_sources src = {
        .file = a->conf, .to = a->to, .flags = a->flags, .flags_n = a->flags_n};
    int rc = config_build(&c, CONFIG_SYNC, &src, &d);
    config_diags_print(&d, stderr);
    config_diags_free(&d);
    if (rc)
        err_set(e, rc, "%s cannot be used", a->conf);
    else if (c->output.redis.type == REDIS_STANDALONE && c->output.redis.endpoints_n != 1)
        rc = err_set(e, ERR_CONFIG, "%s has %zu targets; choose one with --to", a->conf,
                     c->output.redis.endpoints_n);
    else
        rc = config_server(&c->output.redis, out, e);
    config_free(c);
    return rc;
}

struct nodes {
    struct endpoint *list; // owns; the target, or all masters of the cluster that it is a node of
    size_t n;
    struct redis_server server; // what the target says of itself
};

static int find_nodes(struct nodes *nodes, const struct endpoint *target, struct err *e)
{
    struct redis_client *c = NULL;
    struct cluster_map map;
    int rc = redis_connect(&c, target, TIMEOUT_MS, e);
    if (rc == 0)
        rc = redis_probe(c, &nodes->server, e);
    redis_close(c);
    if (rc)
        return rc;
    if (!nodes->server.cluster_enabled) {
        nodes->n = 1;
        nodes->list = xcalloc(1, sizeof(*nodes->list));
        endpoint_copy(&nodes->list[0], target);
        return 0;
    }
    rc = cluster_find(&map, target, 1, TIMEOUT_MS, e);
    if (rc)
        return rc;
    nodes->n = map.shards_n;
    nodes->list = cluster_endpoints(&map, target);
    cluster_free(&map);
    return 0;
}

static int refuse_lanes_at(const struct endpoint *node, struct err *e)
{
    char name[300];
    struct redis_client *c = NULL;
    struct redis_reply reply;
    endpoint_name(node, name, sizeof(name));
    int rc = redis_connect(&c, node, TIMEOUT_MS, e);
    if (rc)
        return rc;
    rc = redis_call(c, &reply, e, "CLIENT LIST");
    if (rc)
        err_wrap(e, "whether a gunyu is connected cannot be seen");
    else if (memmem(reply.root.text.p, reply.root.text.n, " name=gunyu:", 12))
        rc = err_set(e, ERR_LOCKED,
                     "a gunyu is connected to %s: stop it first, it needs the expiries as they are",
                     name);
    redis_close(c);
    return rc;
}

// Under a running lane far expiries are far for a reason.
static int refuse_lanes(const struct nodes *nodes, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < nodes->n; i++)
        rc = refuse_lanes_at(&nodes->list[i], e);
    return rc;
}

static int settle(const struct nodes *nodes, const char *name, struct sweep_result *r,
                  struct err *e)
{
    const struct redis_server *server = &nodes->server;
    const struct sweep_dial dial = {.timeout_ms = TIMEOUT_MS};
    atomic_bool cancel = false;
    if (!sweep_is_possible(server->version, server->is_valkey))
        return err_set(e, ERR_CONFIG, "%s is too old: Redis 3.2 is the first that can be walked",
                       name);
    int rc = refuse_lanes(nodes, e);
    if (rc)
        return rc;
    // Nothing waits for a lane any more, so nothing is near.
    struct sweep_options o = {.version = server->version,
                              .is_valkey = server->is_valkey,
                              .fields = true,
                              .near_ms = -EXPIRY_GRACE_MS,
                              .cancel = &cancel};
    rc = server->cluster_enabled ? sweep_cluster(nodes->list, nodes->n, &dial, &o, r, e)
                                 : sweep_nodes(nodes->list, nodes->n, &dial, &o, r, e);
    if (rc == 0)
        rc = refuse_lanes(nodes, e);
    if (rc == 0 && r->left_out)
        rc = err_set(e, ERR_REPLY,
                     "%s: slots have moved meanwhile, or have no master: run it again", name);
    return rc;
}

int cli_settle(const struct endpoint *target, FILE *out, struct err *e)
{
    char name[300];
    struct sweep_result r = {0};
    struct nodes nodes = {0};
    endpoint_name(target, name, sizeof(name));
    int rc = find_nodes(&nodes, target, e);
    if (rc == 0)
        rc = settle(&nodes, name, &r, e);
    if (rc == 0)
        fprintf(out, "%s: %" PRIu64 " expiries set\n", name, r.changed);
    endpoints_free(nodes.list, nodes.n);
    buf_free(&r.left);
    return rc;
}

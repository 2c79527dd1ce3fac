// SPDX-License-Identifier: Apache-2.0
// Two groups with one name but other sources would take turns in leading shards that the others do
// not have. A source is known by many things, of which some stay when others change: one in common
// is enough to be the same.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/group_int.h"
#include "redis/cluster.h"

enum { IDS_MAX = 256, ID_MAX = 400 };

static bool has(const json_t *list, const char *id)
{
    size_t i;
    const json_t *v;
    json_array_foreach(list, i, v)
    {
        const char *text = json_string_value(v);
        if (text && strcmp(text, id) == 0)
            return true;
    }
    return false;
}

static void add(json_t *list, const char *kind, const char *id)
{
    char *text = xasprintf("%s:%s", kind, id);
    if (*id && strlen(text) < ID_MAX && json_array_size(list) < IDS_MAX && !has(list, text))
        json_array_append_new(list, json_string(text));
    free(text);
}

static bool add_cluster(json_t *list, const struct endpoint *seed, int timeout_ms)
{
    struct cluster_map m;
    if (cluster_ask(&m, seed, timeout_ms, NULL))
        return false;
    for (size_t i = 0; i < m.shards_n; i++) {
        add(list, "node", m.shards[i].master.id);
        for (size_t k = 0; k < m.shards[i].replicas_n; k++)
            add(list, "node", m.shards[i].replicas[k].id);
    }
    cluster_free(&m);
    return true;
}

static bool add_server(json_t *list, const struct endpoint *ep, int timeout_ms)
{
    struct redis_client *c;
    struct redis_server server;
    if (redis_connect(&c, ep, timeout_ms, NULL))
        return false;
    bool told = redis_probe(c, &server, NULL) == 0;
    if (told) {
        add(list, "history", server.replid);
        add(list, "history", server.replid2);
    }
    redis_close(c);
    return told;
}

static bool add_master(json_t *list, const struct redis_config *source, int timeout_ms)
{
    struct sentinel_options o = config_sentinel(source);
    struct endpoint master;
    o.timeout_ms = timeout_ms;
    if (sentinel_master(&master, &o, NULL))
        return false;
    bool told = add_server(list, &master, timeout_ms);
    endpoint_free(&master);
    return told;
}

char *group_source_ids(const struct redis_config *source, int timeout_ms, bool *probed)
{
    json_t *list = json_array();
    char name[300];
    *probed = false;
    for (size_t i = 0; i < source->endpoints_n; i++)
        add(list, source->type == REDIS_SENTINEL ? "sentinel" : "address",
            endpoint_name(&source->endpoints[i], name, sizeof(name)));
    if (source->type == REDIS_SENTINEL)
        *probed = add_master(list, source, timeout_ms);
    for (size_t i = 0; i < source->endpoints_n && !*probed; i++)
        *probed = source->type == REDIS_CLUSTER
                      ? add_cluster(list, &source->endpoints[i], timeout_ms)
                      : add_server(list, &source->endpoints[i], timeout_ms);
    char *text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    return text ? text : xstrdup("[]");
}

bool group_source_same(const char *a, const char *b, char **all)
{
    json_t *x = json_loads(a, 0, NULL), *y = json_loads(b, 0, NULL);
    size_t i, before = json_array_size(x);
    const json_t *v;
    bool same = false;
    *all = NULL;
    // What is no list says nothing about anybody.
    if (json_array_size(x) == 0) {
        json_decref(x);
        json_decref(y);
        *all = xstrdup(b);
        return true;
    }
    json_array_foreach(y, i, v)
    {
        const char *id = json_string_value(v);
        if (!id)
            continue;
        if (has(x, id))
            same = true;
        else if (json_array_size(x) < IDS_MAX)
            json_array_append_new(x, json_string(id));
    }
    if (same && json_array_size(x) > before)
        *all = json_dumps(x, JSON_COMPACT);
    json_decref(x);
    json_decref(y);
    return same;
}

static void set_conflict(struct group *g, bool conflict)
{
    if (conflict && !g->conflict)
        log_error("group",
                  "the group %s is there already, for another source: nothing is led here. Give "
                  "one of them another cluster.groupName",
                  g->o.cluster->group_name);
    if (!conflict && g->conflict)
        log_info("group", "no other source uses the name of the group any more");
    uv_mutex_lock(&g->lock);
    g->conflict = conflict;
    uv_mutex_unlock(&g->lock);
}

// It may take long, so not while there are leases of shards to renew.
static void probe(struct group *g, int64_t now)
{
    if (g->source_probed || now < g->probe_at)
        return;
    for (size_t i = 0; i < g->mine_n; i++)
        if (g->mine[i]->election.role != ELECTION_FOLLOWER)
            return;
    free(g->source_ids);
    g->source_ids =
        group_source_ids(g->o.source, registry_timeout_ms(g->registry), &g->source_probed);
    g->probe_at = clock_boot_ms() + g->o.cluster->lease_timeout_ms;
}

static void keep_source(struct group *g, const char *ids, int64_t now)
{
    struct err e;
    if (registry_keep(g->registry, REGISTRY_SOURCE, ids, &e))
        log_debug("group", "%s", e.msg); // the next view finds it missing
    g->kept_at = now;
}

void group_check_source(struct group *g, const char *there)
{
    int64_t now = clock_boot_ms();
    char *other = NULL, *all = NULL;
    struct err e;
    probe(g, now);
    if (!there) {
        int rc =
            registry_put_if_absent(g->registry, REGISTRY_SOURCE, g->source_ids, true, &other, &e);
        if (rc < 0)
            return;
        there = rc ? g->source_ids : other;
    }
    bool same = group_source_same(there, g->source_ids, &all);
    set_conflict(g, !same);
    g->source_is_ours = same;
    bool ends = !g->registry->ops->can_watch && now - g->kept_at >= g->registry->lease_ms / 3;
    if (same && (all || ends))
        keep_source(g, all ? all : there, now);
    free(all);
    free(other);
}

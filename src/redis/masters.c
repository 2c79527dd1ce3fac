// SPDX-License-Identifier: Apache-2.0
#include "redis/masters.h"

#include <limits.h>
#include <stdlib.h>

#include "base/mem.h"
#include "codec/slot.h"

static int add_server(struct redis_server *all, struct redis_client *c, int version, struct err *e)
{
    struct redis_server s;
    int rc = redis_probe(c, &s, e);
    if (rc)
        return rc;
    if (s.loading)
        return err_set(e, ERR_REPLY, "LOADING it is loading its data; try later");
    if (s.is_replica)
        return err_set(e, ERR_REPLY, "READONLY it is a replica now");
    if (s.version == 0)
        s.version = version;
    // CONFIG says 16 where a cluster has one. Fewer than that none can have.
    s.databases = 1;
    if (all->databases > 1)
        rc = redis_count_databases(c, &s.databases, e);
    if (rc)
        return rc;
    int databases = s.databases < all->databases ? s.databases : all->databases;
    unsigned missing = s.missing | all->missing;
    if (s.version < all->version)
        *all = s;
    all->databases = databases;
    all->missing = missing;
    return 0;
}

static int reach(struct masters *m, int timeout_ms, int version, struct err *e)
{
    if (m->map.covered != CLUSTER_SLOTS)
        return err_set(e, ERR_REPLY, "CLUSTERDOWN only %d of %d slots have an owner",
                       m->map.covered, CLUSTER_SLOTS);
    m->server = (struct redis_server){.version = INT_MAX, .databases = INT_MAX};
    for (size_t i = 0; i < m->n; i++) {
        int rc = redis_connect(&m->clients[i], &m->endpoints[i], timeout_ms, e);
        if (rc == 0)
            rc = add_server(&m->server, m->clients[i], version, e);
        if (rc) {
            masters_wrap(m, i, e);
            return rc;
        }
    }
    return 0;
}

int masters_open(struct masters *out, const struct endpoint *seeds, size_t n, int timeout_ms,
                 int version, struct err *e)
{
    *out = (struct masters){0};
    int rc = cluster_find(&out->map, seeds, n, timeout_ms, e);
    if (rc)
        return rc;
    out->n = out->map.shards_n;
    out->endpoints = cluster_endpoints(&out->map, &seeds[0]);
    out->clients = xcalloc(out->n, sizeof(struct redis_client *));
    rc = reach(out, timeout_ms, version, e);
    if (rc)
        masters_close(out);
    return rc;
}

void masters_wrap(const struct masters *m, size_t i, struct err *e)
{
    char name[300];
    err_wrap(e, "node %s", endpoint_name(&m->endpoints[i], name, sizeof(name)));
}

struct redis_client *masters_owner(const struct masters *m, struct slice key)
{
    return m->clients[m->map.owner[slot_of(key)]];
}

void masters_close(struct masters *m)
{
    for (size_t i = 0; i < m->n; i++)
        redis_close(m->clients[i]);
    free(m->clients);
    endpoints_free(m->endpoints, m->n);
    cluster_free(&m->map);
    *m = (struct masters){0};
}

// SPDX-License-Identifier: Apache-2.0
#include "redis/locate.h"

void locator_set_shard(struct locator *l, const struct cluster_shard *s)
{
    l->how = LOCATE_SHARD;
    memcpy(l->node_id, s->master.id, sizeof(l->node_id));
    memset(l->also, 0, sizeof(l->also));
    for (size_t i = 0; i < s->replicas_n && i < LOCATE_ALSO; i++)
        memcpy(l->also[i], s->replicas[i].id, sizeof(l->also[i]));
}

static int find_shard(const struct cluster_map *m, const struct locator *l)
{
    int shard = cluster_shard_of(m, l->node_id);
    for (int i = 0; shard == CLUSTER_NO_SHARD && i < LOCATE_ALSO && l->also[i][0]; i++)
        shard = cluster_shard_of(m, l->also[i]);
    return shard;
}

static int shard_by_seed(struct endpoint *out, const struct locator *l, const struct endpoint *seed,
                         int timeout_ms, struct err *e)
{
    struct cluster_map m;
    char name[300];
    int rc = cluster_ask(&m, seed, timeout_ms, e);
    if (rc)
        return rc;
    endpoint_name(seed, name, sizeof(name));
    int shard = find_shard(&m, l);
    if (shard == CLUSTER_NO_SHARD)
        rc = err_set(e, ERR_REPLY, "%s knows of no shard of node %s", name, l->node_id);
    else if (m.shards[shard].master.failed)
        rc = err_set(e, ERR_REPLY, "by %s the master %s:%u has failed", name,
                     m.shards[shard].master.host, (unsigned)m.shards[shard].master.port);
    else
        cluster_endpoint(out, &m.shards[shard].master, seed);
    cluster_free(&m);
    return rc;
}

static int locate_shard(struct endpoint *out, const struct locator *l, int timeout_ms,
                        struct err *e)
{
    struct err all = {0};
    if (l->seeds_n == 0)
        return err_set(e, ERR_CONFIG, "no node of a cluster is given");
    for (size_t i = 0; i < l->seeds_n; i++) {
        struct err one = {0};
        if (shard_by_seed(out, l, &l->seeds[i], timeout_ms, &one) == 0)
            return 0;
        err_join(&all, &one);
    }
    if (e)
        *e = all;
    return all.code;
}

int locate_master(struct endpoint *out, const struct locator *l, int timeout_ms, struct err *e)
{
    struct sentinel_options sentinel = l->sentinel;
    switch (l->how) {
    case LOCATE_SENTINEL:
        sentinel.timeout_ms = timeout_ms;
        return sentinel_master(out, &sentinel, e);
    case LOCATE_SHARD:
        return locate_shard(out, l, timeout_ms, e);
    case LOCATE_FIXED:
        break;
    }
    endpoint_copy(out, &l->fixed);
    return 0;
}

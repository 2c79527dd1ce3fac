// SPDX-License-Identifier: Apache-2.0
// A CLUSTER NODES text, and after a blank line a reply to CLUSTER SHARDS: whatever they say, the
// map agrees with itself.
#include <stdlib.h>

#include "redis/cluster_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void check_map(const struct cluster_map *m)
{
    int covered = 0, sum = 0, highest = CLUSTER_NO_SHARD;
    for (int slot = 0; slot < CLUSTER_SLOTS; slot++) {
        int owner = m->owner[slot];
        check(owner >= CLUSTER_NO_SHARD && owner < (int)m->shards_n && owner <= highest + 1);
        highest = owner > highest ? owner : highest;
        covered += owner != CLUSTER_NO_SHARD;
    }
    for (size_t i = 0; i < m->shards_n; i++) {
        const struct cluster_shard *s = &m->shards[i];
        check(s->slots > 0 && s->master.host && s->master.port && s->master.id[0]);
        for (size_t k = 0; k < s->replicas_n; k++)
            check(s->replicas[k].host && s->replicas[k].port && s->replicas[k].id[0]);
        sum += s->slots;
    }
    check(covered == m->covered && covered == sum && highest + 1 == (int)m->shards_n);
}

static bool read_reply(struct redis_reply *r, struct slice bytes)
{
    struct resp_scan scan = {0};
    size_t len;
    if (bytes.n == 0 || resp_scan(&scan, bytes.p, bytes.n, &len) != 1)
        return false;
    *r = (struct redis_reply){.p = bytes.p, .n = len};
    return resp_next(r->p, r->n, &r->first_child, &r->root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char host[] = "seed";
    struct endpoint via = {.host = host, .port = 1, .tls.enabled = size & 1};
    const char *p = (const char *)data;
    const char *blank = size ? memmem(p, size, "\n\n", 2) : NULL;
    size_t nodes_n = blank ? (size_t)(blank - p) + 1 : size;
    struct slice nodes = slice_make(p, nodes_n);
    struct redis_reply reply;
    bool told = blank && read_reply(&reply, slice_make(blank + 2, size - nodes_n - 1));
    struct cluster_map m;
    if (cluster_parse(&m, nodes, told ? &reply : NULL, &via, NULL) == 0)
        check_map(&m);
    cluster_free(&m);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "rdb/report_dup.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"

#define SEEN_BITS 21
#define SEEN_WAYS 16 // a cache line
#define GROUP_WAYS 8

struct duplicates *duplicates_new(size_t groups)
{
    struct duplicates *d = xcalloc(1, sizeof(*d));
    size_t size = ((size_t)1 << SEEN_BITS) * sizeof(*d->seen);
    d->seen = aligned_alloc(SEEN_WAYS * sizeof(*d->seen), size);
    must(d->seen);
    memset(d->seen, 0, size);
    d->groups = xcalloc(groups, sizeof(*d->groups));
    d->max = groups;
    return d;
}

void duplicates_free(struct duplicates *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->max; i++)
        free(d->groups[i].name);
    free(d->groups);
    free(d->seen);
    free(d);
}

static size_t seen_bucket(XXH128_hash_t hash)
{
    return (size_t)(hash.low64 >> (64 - SEEN_BITS)) / SEEN_WAYS * SEEN_WAYS;
}

void duplicates_prefetch(const struct duplicates *d, XXH128_hash_t hash)
{
    __builtin_prefetch(d->seen + seen_bucket(hash), 1);
}

// Whether the value was seen before; remembers it.
static bool seen(struct duplicates *d, XXH128_hash_t hash)
{
    uint32_t *ways = d->seen + seen_bucket(hash), mark = (uint32_t)hash.high64 | 1;
    for (int i = 0; i < SEEN_WAYS; i++)
        if (ways[i] == mark)
            return true;
    for (int i = 0; i < SEEN_WAYS; i++) {
        if (ways[i] == 0) {
            ways[i] = mark;
            return false;
        }
    }
    ways[d->turn++ % SEEN_WAYS] = mark;
    return false;
}

static uint64_t wasted(const struct duplicate *g)
{
    return g->count > 1 ? (g->count - 1) * g->bytes : 0;
}

void duplicates_add(struct duplicates *d, XXH128_hash_t hash, const struct top_key *key,
                    struct slice name)
{
    d->compared++;
    if (!seen(d, hash))
        return;
    d->repeats++;
    d->wasted += key->bytes;
    struct duplicate *ways = d->groups + (hash.low64 & (d->max - 1)) / GROUP_WAYS * GROUP_WAYS;
    struct duplicate *least = ways;
    for (int i = 0; i < GROUP_WAYS; i++) {
        struct duplicate *g = &ways[i];
        if (g->count && g->low == hash.low64 && g->high == hash.high64) {
            g->count++;
            return;
        }
        if (wasted(g) < wasted(least))
            least = g;
    }
    if (wasted(least) > key->bytes)
        return;
    free(least->name);
    *least = (struct duplicate){
        .low = hash.low64,
        .high = hash.high64,
        .count = 2,
        .bytes = key->bytes,
        .db = key->db,
        .object = key->object,
        .key_n = name.n,
        .name_n = name.n < TOP_NAME_MAX ? name.n : TOP_NAME_MAX,
    };
    least->name = xstrndup(name.n ? name.p : "", least->name_n);
}

static int most_wasted_first(const void *a, const void *b)
{
    uint64_t x = wasted(a), y = wasted(b);
    return x < y ? 1 : x > y ? -1 : 0;
}

size_t duplicates_sort(struct duplicates *d)
{
    qsort(d->groups, d->max, sizeof(*d->groups), most_wasted_first);
    size_t n = 0;
    while (n < d->max && d->groups[n].count > 0)
        n++;
    return n;
}

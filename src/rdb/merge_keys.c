// SPDX-License-Identifier: Apache-2.0
#include "rdb/merge_keys.h"

#include <stdlib.h>
#include <uv.h>
#include <xxhash.h>

#include "base/mem.h"
#include "rdb/merge_sort.h"

struct merge_keys {
    const char *dir;
    uint64_t seed; // so that nobody can prepare two keys of one hash
    uint64_t ordinal;
    uint64_t doubles;
    struct merge_sort *hashes; // hash, ordinal
    struct merge_sort *drops;  // ordinal
    uint64_t next_drop;
};

struct merge_keys *merge_keys_new(const char *dir)
{
    struct merge_keys *m = xcalloc(1, sizeof(*m));
    m->dir = dir;
    must(uv_random(NULL, NULL, &m->seed, sizeof(m->seed), 0, NULL) == 0);
    m->hashes = merge_sort_new(dir);
    return m;
}

void merge_keys_free(struct merge_keys *m)
{
    if (!m)
        return;
    merge_sort_free(m->hashes);
    merge_sort_free(m->drops);
    free(m);
}

void merge_keys_add(struct merge_keys *m, int db, struct slice key)
{
    XXH128_hash_t h = XXH3_128bits_withSeed(key.p, key.n, m->seed + (uint64_t)db);
    struct sort_record r = {{h.high64, h.low64, m->ordinal++}};
    merge_sort_add(m->hashes, &r);
}

static void drop(struct merge_keys *m, uint64_t ordinal)
{
    struct sort_record r = {{ordinal, 0, 0}};
    merge_sort_add(m->drops, &r);
    m->doubles++;
}

static int next_drop(struct merge_keys *m, struct err *e)
{
    struct sort_record r;
    int rc = merge_sort_next(m->drops, &r, e);
    m->next_drop = rc == 1 ? r.word[0] : UINT64_MAX;
    return rc < 0 ? rc : 0;
}

int merge_keys_settle(struct merge_keys *m, enum merge_keep keep, struct err *e)
{
    struct sort_record before, r;
    bool any = false;
    int rc = merge_sort_begin(m->hashes, e);
    m->drops = merge_sort_new(m->dir);
    while (rc == 0 && (rc = merge_sort_next(m->hashes, &r, e)) == 1) {
        // Equal ones come in the order of the files.
        if (any && before.word[0] == r.word[0] && before.word[1] == r.word[1])
            drop(m, keep == MERGE_FIRST ? r.word[2] : before.word[2]);
        before = r;
        any = true;
        rc = 0;
    }
    merge_sort_free(m->hashes);
    m->hashes = NULL;
    m->ordinal = 0;
    if (rc == 0)
        rc = merge_sort_begin(m->drops, e);
    return rc ? rc : next_drop(m, e);
}

uint64_t merge_keys_doubles(const struct merge_keys *m)
{
    return m->doubles;
}

bool merge_keys_drops(struct merge_keys *m, int *rc, struct err *e)
{
    *rc = 0;
    if (m->ordinal++ != m->next_drop)
        return false;
    *rc = next_drop(m, e);
    return true;
}

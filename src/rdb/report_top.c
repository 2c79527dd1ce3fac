// SPDX-License-Identifier: Apache-2.0
#include "rdb/report_top.h"

#include <stdlib.h>

#include "base/mem.h"

void top_init(struct top_list *l, size_t max)
{
    l->heap = xcalloc(max ? max : 1, sizeof(*l->heap));
    l->n = 0;
    l->max = max;
}

void top_free(struct top_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->heap[i].name);
    free(l->heap);
}

// Puts `key` into the hole at i, which moves down to where it fits.
static void sift_down(struct top_list *l, size_t i, struct top_key key)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= l->n)
            break;
        if (child + 1 < l->n && l->heap[child + 1].rank < l->heap[child].rank)
            child++;
        if (l->heap[child].rank >= key.rank)
            break;
        l->heap[i] = l->heap[child];
        i = child;
    }
    l->heap[i] = key;
}

void top_add(struct top_list *l, const struct top_key *key, struct slice name)
{
    struct top_key new = *key;
    new.key_n = name.n;
    new.name_n = name.n < TOP_NAME_MAX ? name.n : TOP_NAME_MAX;
    new.name = xstrndup(name.n ? name.p : "", new.name_n);
    if (l->n == l->max) {
        free(l->heap[0].name);
        sift_down(l, 0, new);
        return;
    }
    size_t i = l->n++;
    for (; i > 0 && l->heap[(i - 1) / 2].rank > new.rank; i = (i - 1) / 2)
        l->heap[i] = l->heap[(i - 1) / 2];
    l->heap[i] = new;
}

static int greatest_first(const void *a, const void *b)
{
    const struct top_key *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? 1 : -1;
    return slice_cmp(slice_make(x->name, x->name_n), slice_make(y->name, y->name_n));
}

void top_sort(struct top_list *l)
{
    qsort(l->heap, l->n, sizeof(*l->heap), greatest_first);
}

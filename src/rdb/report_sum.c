// SPDX-License-Identifier: Apache-2.0
// What is computed when all files were read.
#include <stdlib.h>

#include "rdb/report_impl.h"

static int db_order(const void *a, const void *b)
{
    // Unsigned: -1, the row of the others, comes last.
    unsigned x = (unsigned)((const struct report_db *)a)->db;
    unsigned y = (unsigned)((const struct report_db *)b)->db;
    return x < y ? -1 : x > y;
}

void report_finish(struct report *r)
{
    if (r->dbs_n > 0)
        qsort(r->dbs, r->dbs_n, sizeof(*r->dbs), db_order);
    top_sort(&r->by_memory);
    top_sort(&r->by_elements);
    r->duplicates_n = r->duplicates ? duplicates_sort(r->duplicates) : 0;
}

static void rank_slot(const struct report *r, struct report_slots *s, unsigned slot)
{
    size_t i = s->top_n;
    while (i > 0 && r->slots[s->top[i - 1]].bytes < r->slots[slot].bytes)
        i--;
    if (i == REPORT_TOP_SLOTS)
        return;
    size_t end = s->top_n < REPORT_TOP_SLOTS ? s->top_n++ : REPORT_TOP_SLOTS - 1;
    memmove(&s->top[i + 1], &s->top[i], (end - i) * sizeof(*s->top));
    s->top[i] = slot;
}

void report_slots(const struct report *r, struct report_slots *s)
{
    *s = (struct report_slots){.min = {UINT64_MAX, UINT64_MAX}};
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        const struct report_bucket *b = &r->slots[i];
        struct report_bucket *range = &s->ranges[i / REPORT_RANGE];
        s->used += b->keys > 0;
        s->min.keys = b->keys < s->min.keys ? b->keys : s->min.keys;
        s->min.bytes = b->bytes < s->min.bytes ? b->bytes : s->min.bytes;
        s->max.keys = b->keys > s->max.keys ? b->keys : s->max.keys;
        s->max.bytes = b->bytes > s->max.bytes ? b->bytes : s->max.bytes;
        range->keys += b->keys;
        range->bytes += b->bytes;
        if (b->keys > 0)
            rank_slot(r, s, i);
    }
}

uint32_t report_children(const struct report *r, uint32_t node, uint32_t out[REPORT_CHILDREN])
{
    uint32_t n = prefix_tree_children(r->prefixes, node, out, REPORT_CHILDREN);
    double least = r->o->min_share * (double)r->all.bytes;
    const struct prefix_node *nodes = prefix_tree_nodes(r->prefixes);
    while (n > 0 && (double)nodes[out[n - 1]].count.bytes < least)
        n--;
    return n;
}

// SPDX-License-Identifier: Apache-2.0
// The keys that are the greatest by some measure: as many as there is room for.
#ifndef GUNYU_RDB_REPORT_TOP_H
#define GUNYU_RDB_REPORT_TOP_H

#include <stdbool.h>

#include "rdb/memory.h"

#define TOP_NAME_MAX 256 // bytes of a name that are kept

struct top_key {
    uint64_t rank; // what the list is sorted by
    uint64_t bytes, elements, serialized;
    int64_t expire_ms; // -1 none
    int db;
    enum rdb_object object;
    enum memory_encoding encoding;
    char *name;     // owns
    size_t name_n;  // bytes kept
    uint64_t key_n; // bytes that it has
};

struct top_list {
    struct top_key *heap; // owns; the least one first
    size_t n, max;
};

void top_init(struct top_list *l, size_t max);
void top_free(struct top_list *l);

static inline bool top_wants(const struct top_list *l, uint64_t rank)
{
    return rank > 0 && (l->n < l->max || (l->n > 0 && rank > l->heap[0].rank));
}
// The name is copied, key->name is ignored.
void top_add(struct top_list *l, const struct top_key *key, struct slice name);
// Sorts, the greatest first; nothing can be added any more.
void top_sort(struct top_list *l);

#endif

// SPDX-License-Identifier: Apache-2.0
// Sorts any number of small records with a fixed amount of memory: sorted runs in a temporary file,
// merged when they are read.
#ifndef GUNYU_RDB_MERGE_SORT_H
#define GUNYU_RDB_MERGE_SORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct sort_record {
    uint64_t word[3]; // compared in this order
};

struct merge_sort;

struct merge_sort *merge_sort_new(const char *dir); // borrowed; NULL as in spool
void merge_sort_free(struct merge_sort *s);
// A failure stays and is reported by merge_sort_begin.
void merge_sort_add(struct merge_sort *s, const struct sort_record *r);
// From adding to reading.
int merge_sort_begin(struct merge_sort *s, struct err *e) must_check;
// 1 with the next record, 0 at the end, or an error.
int merge_sort_next(struct merge_sort *s, struct sort_record *out, struct err *e) must_check;

#endif

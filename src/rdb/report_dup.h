// SPDX-License-Identifier: Apache-2.0
// Values that occur more than once, told by a 128-bit hash of type and serialized bytes. (So two
// sets of the same members in another order are different.)
//
// Memory is bounded. The first time a value is seen only a fingerprint of it is kept, for about the
// last two million different values; a repeat that comes later than that is taken for a first one.
// Values that were seen twice have a counter each; when there are too many, the one that wastes the
// least of those in the same corner of the table gives way. The totals count all repeats that were
// noticed.
#ifndef GUNYU_RDB_REPORT_DUP_H
#define GUNYU_RDB_REPORT_DUP_H

#include <stdint.h>
#include <xxhash.h>

#include "rdb/report_top.h"

struct duplicate {
    uint64_t low, high;    // hash
    uint64_t count, bytes; // times seen; memory of one
    int db;
    enum rdb_object object;
    char *name; // owns; one of the keys
    size_t name_n;
    uint64_t key_n;
};

struct duplicates {
    uint32_t *seen;           // owns; fingerprints in buckets
    uint32_t turn;            // which one gives way
    struct duplicate *groups; // owns; in buckets
    size_t max;
    uint64_t repeats, wasted, compared; // compared: values
};

// groups: values that can have a counter; a power of two, at least 8.
struct duplicates *duplicates_new(size_t groups);
void duplicates_free(struct duplicates *d);
// Begins to load what duplicates_add will look at: that is far away in memory.
void duplicates_prefetch(const struct duplicates *d, XXH128_hash_t hash);
// bytes: memory of the value. key->name is ignored.
void duplicates_add(struct duplicates *d, XXH128_hash_t hash, const struct top_key *key,
                    struct slice name);
// Sorts by what they waste, the most first, and returns how many there are; ends adding.
size_t duplicates_sort(struct duplicates *d);

#endif

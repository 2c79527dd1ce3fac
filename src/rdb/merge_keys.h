// SPDX-License-Identifier: Apache-2.0
// Which keys stand in several of the files of a merge: a sort of the keys' 128-bit hashes that
// needs a fixed amount of memory (about 30 MiB), and 24 bytes of disk for each key.
//
// Keys are told by their ordinal: how many keys were read before, over all files.
#ifndef GUNYU_RDB_MERGE_KEYS_H
#define GUNYU_RDB_MERGE_KEYS_H

#include <stdbool.h>

#include "base/err.h"
#include "base/slice.h"

enum merge_keep { MERGE_FIRST, MERGE_LAST };

struct merge_keys;

// dir: where temporary files go; NULL as in spool.
struct merge_keys *merge_keys_new(const char *dir);
void merge_keys_free(struct merge_keys *m);
void merge_keys_add(struct merge_keys *m, int db, struct slice key);
// After the last key: finds those to leave out, which merge_keys_drops then tells.
int merge_keys_settle(struct merge_keys *m, enum merge_keep keep, struct err *e) must_check;
uint64_t merge_keys_doubles(const struct merge_keys *m); // how many are left out
// Whether the key of the next ordinal is left out; to be asked for each in turn. *rc < 0: an error.
bool merge_keys_drops(struct merge_keys *m, int *rc, struct err *e);

#endif

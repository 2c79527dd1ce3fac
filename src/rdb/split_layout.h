// SPDX-License-Identifier: Apache-2.0
// Which part of a split has which slots.
#ifndef GUNYU_RDB_SPLIT_LAYOUT_H
#define GUNYU_RDB_SPLIT_LAYOUT_H

#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "codec/slot.h"

// Zeroed is empty and valid.
struct layout {
    int n;
    char **names;                // owns; fit for a file name, no two alike
    int16_t part_of[SLOT_COUNT]; // -1 none
};

void layout_free(struct layout *l);
// "0-99,100-199+300". ERR_CONFIG when it is wrong.
int layout_ranges(struct layout *l, const char *text, struct err *e) must_check;
// The masters of what CLUSTER NODES or a nodes.conf says; a slot that is in none is an error.
int layout_nodes(struct layout *l, struct slice text, const char *source, struct err *e) must_check;
int layout_file(struct layout *l, const char *path, struct err *e) must_check;
int layout_cluster(struct layout *l, const char *uri, struct err *e) must_check;

#endif

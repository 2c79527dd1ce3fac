// SPDX-License-Identifier: Apache-2.0
// Function libraries of several files: each name goes into the merged file once. They are few and
// small, so what is known of them stays in memory.
#ifndef GUNYU_RDB_MERGE_FUNCTIONS_H
#define GUNYU_RDB_MERGE_FUNCTIONS_H

#include <stdbool.h>

#include "base/err.h"
#include "base/slice.h"

struct merge_library;

struct merge_functions {
    bool differ;    // libraries of one name may have different code, and one of them is kept:
    bool keep_last; // the last, else the first
    bool looked;    // the first pass is over
    int file;       // that is being read, from 1
    struct merge_library *all; // owns
    size_t n;
};

void merge_functions_free(struct merge_functions *f);
void merge_functions_next_file(struct merge_functions *f);
// First pass, optional: without it the first one is kept.
int merge_functions_look(struct merge_functions *f, struct slice code, const char *file,
                         struct err *e) must_check;
void merge_functions_rewind(struct merge_functions *f);
int merge_functions_take(struct merge_functions *f, struct slice code, const char *file, bool *keep,
                         struct err *e) must_check;
// The name in a library's first line, "#!lua name=x"; the whole code if there is none.
struct slice merge_library_name(struct slice code);

#endif

// SPDX-License-Identifier: Apache-2.0
// A command written as a line of words, for tests of what takes commands apart.
#ifndef GUNYU_TESTS_WORDS_H
#define GUNYU_TESTS_WORDS_H

#include <stdio.h>
#include <string.h>

#include "base/slice.h"

enum { ARGS_MAX = 64 };

struct words {
    int argc;
    struct slice argv[ARGS_MAX];
    char text[2048];
};

// Splits at spaces; a word that is `empty` has no bytes.
static inline void split(struct words *w, const char *line, const char *empty)
{
    w->argc = 0;
    snprintf(w->text, sizeof(w->text), "%s", line);
    for (char *save, *p = strtok_r(w->text, " ", &save); p; p = strtok_r(NULL, " ", &save))
        w->argv[w->argc++] = strcmp(p, empty) == 0 ? slice_make(p, 0) : slice_cstr(p);
}

#endif

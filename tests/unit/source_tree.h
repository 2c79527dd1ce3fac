// SPDX-License-Identifier: Apache-2.0
// Files of the source tree (documents, deployment files) that a test compares with the code.
#ifndef TESTS_UNIT_SOURCE_TREE_H
#define TESTS_UNIT_SOURCE_TREE_H

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"

// A path below the source tree, whatever the working directory: __FILE__ is absolute, or relative
// to the build directory, which is two levels above the directory of the program.
static inline void source_path(const char *below, char *dst, size_t cap)
{
    char exe[2048] = "", file[] = __FILE__;
    char *root = dirname(dirname(dirname(file)));
    if (root[0] == '/') {
        snprintf(dst, cap, "%s/%s", root, below);
        return;
    }
    assert_true(readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0);
    snprintf(dst, cap, "%s/%s/%s", dirname(dirname(dirname(exe))), root, below);
}

// New string.
static inline char *read_source(const char *below)
{
    char path[4096];
    source_path(below, path, sizeof(path));
    FILE *f = fopen(path, "r");
    if (!f)
        fail_msg("cannot read %s", path);
    struct buf b = {0};
    for (int c; (c = fgetc(f)) != EOF;)
        buf_append_char(&b, (char)c);
    fclose(f);
    buf_cstr(&b);
    return b.p;
}

#endif

// SPDX-License-Identifier: Apache-2.0
// Allocation that cannot fail for bounded small objects: out of memory ends the process with one
// clear line. Sizes that a peer controls are bounded before they come here.
#ifndef GUNYU_BASE_MEM_H
#define GUNYU_BASE_MEM_H

#include <stddef.h>

void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull, alloc_size(1)));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull, alloc_size(1, 2)));
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull, alloc_size(2)));
// Returns new; s must not be NULL.
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
// Copies n bytes and adds a NUL. Returns new.
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
// printf into a new string.
char *xasprintf(const char *fmt, ...)
    __attribute__((format(printf, 1, 2), malloc, returns_nonnull));

#endif

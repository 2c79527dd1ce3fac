// SPDX-License-Identifier: Apache-2.0
// A growable byte buffer. Zeroed is empty and valid; p is NULL until the first append.
#ifndef GUNYU_BASE_BUF_H
#define GUNYU_BASE_BUF_H

#include "base/slice.h"

struct buf {
    char *p;    // owns
    size_t n;   // bytes in use
    size_t cap; // bytes allocated
};

void buf_free(struct buf *b);
// Ensures room for n more bytes and returns where they go; the caller adds to b->n.
char *buf_reserve(struct buf *b, size_t n);
void buf_append(struct buf *b, const void *p, size_t n);
void buf_append_slice(struct buf *b, struct slice s);
void buf_append_cstr(struct buf *b, const char *s);
void buf_append_char(struct buf *b, char c);
void buf_append_i64(struct buf *b, int64_t v);
void buf_append_u64(struct buf *b, uint64_t v);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Drops the first n bytes.
void buf_consume(struct buf *b, size_t n);
// NUL-terminates (not counted in n) and returns p; valid until the next change.
const char *buf_cstr(struct buf *b);

static inline void buf_clear(struct buf *b)
{
    b->n = 0;
}

static inline struct slice buf_slice(const struct buf *b)
{
    return slice_make(b->p, b->n);
}

#endif

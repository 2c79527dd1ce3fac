// SPDX-License-Identifier: Apache-2.0
// Text on its way to an rdb_out: JSON strings, numbers and CSV fields, made in one buffer.
#ifndef GUNYU_RDB_PRINT_TEXT_H
#define GUNYU_RDB_PRINT_TEXT_H

#include "base/buf.h"
#include "rdb/out.h"

struct text {
    struct buf b;
    struct rdb_out *out;
    uint64_t sent; // bytes that have left b
};

#define TEXT_FLUSH ((size_t)256 << 10)

void text_send(struct text *t);
// To be called between elements: keeps the buffer small.
static inline void text_flow(struct text *t)
{
    if (t->b.n >= TEXT_FLUSH)
        text_send(t);
}

static inline char *text_room(struct text *t, size_t n)
{
    return t->b.cap - t->b.n > n ? t->b.p + t->b.n : buf_reserve(&t->b, n);
}

static inline void text_put(struct text *t, struct slice s)
{
    char *to = text_room(t, s.n);
    if (s.n)
        memcpy(to, s.p, s.n);
    t->b.n += s.n;
}
#define TEXT(t, literal) text_put(t, SLICE(literal))

void text_u64(struct text *t, uint64_t v);
void text_i64(struct text *t, int64_t v);
// The shortest of the usual notations that reads back as the same number; infinities are the JSON
// strings "inf" and "-inf".
void text_double(struct text *t, double v);

// A JSON string, or {"base64":"..."} when the bytes are not UTF-8.
void text_json_string(struct text *t, struct slice s);
// Base64 without quotes. A text in pieces: each but the last a multiple of 3 long.
void text_base64(struct text *t, struct slice s);
// Doubles quotes; the caller writes the ones around it.
void text_csv_part(struct text *t, struct slice s);
// A whole CSV field, quoted where it must be.
void text_csv(struct text *t, struct slice s);

#endif

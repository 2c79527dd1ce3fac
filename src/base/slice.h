// SPDX-License-Identifier: Apache-2.0
// A borrowed run of bytes, passed by value. It never owns; whoever hands one out says how long the
// bytes live.
#ifndef GUNYU_BASE_SLICE_H
#define GUNYU_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *p;
    size_t n;
};

// A slice over a string literal.
#define SLICE(lit) ((struct slice){(lit), sizeof(lit) - 1})

static inline struct slice slice_make(const char *p, size_t n)
{
    return (struct slice){p, n};
}

static inline struct slice slice_cstr(const char *s)
{
    return (struct slice){s, s ? strlen(s) : 0};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

// Byte order comparison as memcmp, a shorter prefix first.
int slice_cmp(struct slice a, struct slice b);

// ASCII case-insensitive equality (command names, option words).
bool slice_ieq(struct slice a, struct slice b);

bool slice_has_prefix(struct slice s, struct slice prefix);

// Decimal integers exactly as Redis reads them: optional '-', no '+', no spaces, no leading zeros
// except "0" itself, no overflow. Return false and leave *out alone on anything else.
bool slice_i64(struct slice s, int64_t *out);
bool slice_u64(struct slice s, uint64_t *out);

// Writes v in decimal to dst (at least 21 bytes, no NUL) and returns the number of bytes.
size_t i64_format(char *dst, int64_t v);
size_t u64_format(char *dst, uint64_t v);

// s, as much of it as there is room for; NULL is "".
void cstr_copy(char *dst, size_t cap, const char *s);

// tail[0..have) are the last bytes of what has come, at most cap of them; n more come. Returns how
// many there are then.
size_t tail_keep(char *tail, size_t cap, size_t have, const char *p, size_t n);

#endif

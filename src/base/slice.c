// SPDX-License-Identifier: Apache-2.0
#include "base/slice.h"

#include <stdio.h>

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

int slice_cmp(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int r = n ? memcmp(a.p, b.p, n) : 0;
    if (r != 0)
        return r;
    return a.n < b.n ? -1 : a.n > b.n;
}

bool slice_ieq(struct slice a, struct slice b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

bool slice_has_prefix(struct slice s, struct slice prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

bool slice_u64(struct slice s, uint64_t *out)
{
    if (s.n == 0 || s.n > 20 || (s.p[0] == '0' && s.n > 1))
        return false;
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(s.p[i] - '0');
        if (v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *out = v;
    return true;
}

bool slice_i64(struct slice s, int64_t *out)
{
    bool negative = s.n > 0 && s.p[0] == '-';
    uint64_t v;
    if (!slice_u64(negative ? slice_make(s.p + 1, s.n - 1) : s, &v))
        return false;
    if (negative) {
        if (v == 0 || v > (uint64_t)INT64_MAX + 1)
            return false;
        *out = (int64_t)(~v + 1);
        return true;
    }
    if (v > INT64_MAX)
        return false;
    *out = (int64_t)v;
    return true;
}

size_t u64_format(char *dst, uint64_t v)
{
    // Two digits a division.
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    char text[20], *end = text + sizeof(text), *p = end;
    for (; v >= 100; v /= 100)
        memcpy(p -= 2, pairs + v % 100 * 2, 2);
    if (v >= 10)
        memcpy(p -= 2, pairs + v * 2, 2);
    else
        *--p = (char)('0' + v);
    size_t n = (size_t)(end - p);
    memcpy(dst, p, n);
    return n;
}

size_t i64_format(char *dst, int64_t v)
{
    if (v >= 0)
        return u64_format(dst, (uint64_t)v);
    dst[0] = '-';
    return 1 + u64_format(dst + 1, ~(uint64_t)v + 1);
}

void cstr_copy(char *dst, size_t cap, const char *s)
{
    snprintf(dst, cap, "%s", s ? s : "");
}

size_t tail_keep(char *tail, size_t cap, size_t have, const char *p, size_t n)
{
    if (n >= cap) {
        memcpy(tail, p + n - cap, cap);
        return cap;
    }
    size_t keep = have + n > cap ? cap - n : have;
    memmove(tail, tail + have - keep, keep);
    memcpy(tail + keep, p, n);
    return keep + n;
}

// SPDX-License-Identifier: Apache-2.0
#include "rdb/print_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"

#define CHUNK ((size_t)32 << 10) // of a long string: made and sent at once

void text_send(struct text *t)
{
    rdb_out_write(t->out, t->b.p, t->b.n, NULL);
    t->sent += t->b.n;
    buf_clear(&t->b);
}

void text_u64(struct text *t, uint64_t v)
{
    t->b.n += u64_format(text_room(t, 24), v);
}

void text_i64(struct text *t, int64_t v)
{
    t->b.n += i64_format(text_room(t, 24), v);
}

#define DIGITS 17 // as many as tell every double from its neighbours

__extension__ typedef unsigned __int128 wide;

static const uint64_t ten_to[] = {1,
                                  10,
                                  100,
                                  1000,
                                  10000,
                                  100000,
                                  1000000,
                                  10000000,
                                  100000000,
                                  1000000000,
                                  10000000000,
                                  100000000000,
                                  1000000000000,
                                  10000000000000,
                                  100000000000000,
                                  1000000000000000,
                                  10000000000000000,
                                  100000000000000000,
                                  1000000000000000000,
                                  10000000000000000000u};

static wide power(int p)
{
    return p < 20 ? ten_to[p] : (wide)ten_to[19] * ten_to[p - 19];
}

// Decimal digits of v, which is from 1e-5 up to 1e15 and no whole number: v = *digits / 10^*places.
// As few digits of 15, 16, 17 as read back as v, by exact arithmetic.
static void shortest(double v, uint64_t *digits, int *places)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    uint64_t m = (bits & (((uint64_t)1 << 52) - 1)) | (uint64_t)1 << 52;
    int shift = 52 + 1023 - (int)(bits >> 52); // v = m / 2^shift
    int p = DIGITS - 1;
    double low = 1, high = 10;
    while (v >= high) {
        high *= 10;
        p--;
    }
    while (v < low) {
        low /= 10;
        p++;
    }
    wide scaled, d;
    for (;;) {
        scaled = (wide)m * power(p);
        d = (scaled + ((wide)1 << (shift - 1))) >> shift;
        if (d < ten_to[DIGITS])
            break;
        p--;
    }
    // A neighbour begins half a step away; below a power of two a quarter.
    wide half = power(p) / (m == (uint64_t)1 << 52 ? 4 : 2);
    *digits = (uint64_t)d;
    *places = p;
    for (int drop = 2; drop > 0; drop--) {
        uint64_t unit = ten_to[drop], fewer = ((uint64_t)d + unit / 2) / unit * unit;
        wide at = (wide)fewer << shift;
        if ((at > scaled ? at - scaled : scaled - at) < half) {
            *digits = fewer;
            break;
        }
    }
    for (; *places > 0 && *digits % 10 == 0; --*places)
        *digits /= 10;
}

static void put_decimal(struct text *t, bool negative, uint64_t digits, int places)
{
    char *p = text_room(t, 48), *start = p;
    char all[24];
    int n = (int)u64_format(all, digits), whole = n - places;
    if (negative)
        *p++ = '-';
    if (whole > 0) {
        memcpy(p, all, (size_t)whole);
        p += whole;
    } else {
        *p++ = '0';
    }
    *p++ = '.';
    for (int i = whole; i < 0; i++)
        *p++ = '0';
    int from = whole > 0 ? whole : 0;
    memcpy(p, all + from, (size_t)(n - from));
    t->b.n += (size_t)(p - start) + (size_t)(n - from);
}

void text_double(struct text *t, double v)
{
    double size = fabs(v);
    if (isinf(v)) {
        text_put(t, v > 0 ? SLICE("\"inf\"") : SLICE("\"-inf\""));
    } else if (size < 9e15 && v == (double)(int64_t)v) {
        if (v == 0 && signbit(v))
            TEXT(t, "-0");
        else
            text_i64(t, (int64_t)v);
    } else if (size >= 1e-5 && size < 1e15) {
        uint64_t digits;
        int places;
        shortest(size, &digits, &places);
        put_decimal(t, v < 0, digits, places);
    } else {
        char *p = text_room(t, 40);
        int n = snprintf(p, 40, "%.15g", v);
        if (strtod(p, NULL) != v)
            n = snprintf(p, 40, "%.17g", v);
        t->b.n += (size_t)n;
    }
}

// Bytes that a JSON string cannot have as they are: 1 control or mark, 2 beginning of a UTF-8
// sequence.
static const uint8_t special[256] = {
    [0 ... 31] = 1,
    ['"'] = 1,
    ['\\'] = 1,
    [0x80 ... 0xff] = 2,
};

// Bytes of the UTF-8 sequence at p, 0 when it is none.
static size_t sequence(const uint8_t *p, size_t n)
{
    static const struct {
        uint8_t first, last, size, low, high; // of the second byte
    } rows[] = {{0xc2, 0xdf, 2, 0x80, 0xbf}, {0xe0, 0xe0, 3, 0xa0, 0xbf},
                {0xe1, 0xec, 3, 0x80, 0xbf}, {0xed, 0xed, 3, 0x80, 0x9f},
                {0xee, 0xef, 3, 0x80, 0xbf}, {0xf0, 0xf0, 4, 0x90, 0xbf},
                {0xf1, 0xf3, 4, 0x80, 0xbf}, {0xf4, 0xf4, 4, 0x80, 0x8f}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        if (*p < rows[i].first || *p > rows[i].last)
            continue;
        size_t size = rows[i].size;
        if (n < size || p[1] < rows[i].low || p[1] > rows[i].high)
            return 0;
        for (size_t k = 2; k < size; k++)
            if ((p[k] & 0xc0) != 0x80)
                return 0;
        return size;
    }
    return 0;
}

// The word has a byte below 0x20, a quote, a backslash, or one above 0x7f.
static inline bool word_special(uint64_t w)
{
    const uint64_t ones = 0x0101010101010101u;
    return ((w | (w - ones * 0x20) | ((w ^ ones * '"') - ones) | ((w ^ ones * '\\') - ones)) &
            ones * 0x80) != 0;
}

// The n bytes at p, 1 to 7, then spaces.
static inline uint64_t load_short(const uint8_t *p, size_t n)
{
    const uint64_t spaces = 0x2020202020202020u;
    uint64_t w;
    if (n >= 4) // in two halves that overlap
        w = load_le32(p) | (uint64_t)load_le32(p + n - 4) << (n - 4) * 8;
    else
        w = p[0] | (uint64_t)p[n / 2] << n / 2 * 8 | (uint64_t)p[n - 1] << (n - 1) * 8;
    return w | spaces << n * 8;
}

static char *escape(char *to, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    static const char named[256] = {['"'] = '"',  ['\\'] = '\\', ['\n'] = 'n', ['\r'] = 'r',
                                    ['\t'] = 't', ['\b'] = 'b',  ['\f'] = 'f'};
    *to++ = '\\';
    if (named[c]) {
        *to++ = named[c];
        return to;
    }
    memcpy(to, "u00", 3);
    to[3] = hex[c >> 4];
    to[4] = hex[c & 15];
    return to + 5;
}

// Writes the inside of a JSON string for as much as is UTF-8; returns how many bytes that was.
static size_t json_inside(char **out, const uint8_t *p, size_t n)
{
    char *to = *out;
    size_t i = 0;
    while (i < n) {
        size_t some = n - i < 8 ? n - i : 8;
        uint64_t w = some == 8 ? load_le64(p + i) : load_short(p + i, some);
        if (!word_special(w)) {
            store_le64(to, w); // what is too much is written over
            to += some;
            i += some;
            continue;
        }
        uint8_t c = p[i];
        if (!special[c]) {
            *to++ = (char)c;
            i++;
        } else if (special[c] == 1) {
            to = escape(to, c);
            i++;
        } else {
            size_t size = sequence(p + i, n - i);
            if (size == 0)
                break;
            memcpy(to, p + i, size);
            to += size;
            i += size;
        }
    }
    *out = to;
    return i;
}

static bool is_utf8(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint64_t w;
        if (n - i >= sizeof(w)) {
            memcpy(&w, p + i, sizeof(w));
            if (!(w & 0x8080808080808080u)) {
                i += sizeof(w);
                continue;
            }
        }
        size_t size = p[i] < 0x80 ? 1 : sequence(p + i, n - i);
        if (size == 0)
            return false;
        i += size;
    }
    return true;
}

static void json_base64(struct text *t, struct slice s)
{
    TEXT(t, "{\"base64\":\"");
    text_base64(t, s);
    TEXT(t, "\"}");
}

// Known to be UTF-8, in chunks that end between characters.
static void json_long(struct text *t, struct slice s)
{
    TEXT(t, "\"");
    while (s.n) {
        size_t n = s.n < CHUNK ? s.n : CHUNK;
        while (n < s.n && ((uint8_t)s.p[n] & 0xc0) == 0x80)
            n--;
        char *start = text_room(t, n * 6 + 8), *to = start;
        json_inside(&to, (const uint8_t *)s.p, n);
        t->b.n += (size_t)(to - start);
        text_flow(t);
        s = slice_make(s.p + n, s.n - n);
    }
    TEXT(t, "\"");
}

void text_json_string(struct text *t, struct slice s)
{
    if (s.n > CHUNK) {
        if (is_utf8((const uint8_t *)s.p, s.n))
            json_long(t, s);
        else
            json_base64(t, s);
        return;
    }
    char *start = text_room(t, s.n * 6 + 16), *to = start;
    *to++ = '"';
    if (json_inside(&to, (const uint8_t *)s.p, s.n) < s.n) {
        json_base64(t, s);
        return;
    }
    *to++ = '"';
    t->b.n += (size_t)(to - start);
}

void text_base64(struct text *t, struct slice s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = (const uint8_t *)s.p, *end = p + s.n;
    while (p < end) {
        size_t n = (size_t)(end - p) < CHUNK / 3 * 3 ? (size_t)(end - p) : CHUNK / 3 * 3;
        char *start = text_room(t, n / 3 * 4 + 4), *to = start;
        const uint8_t *whole = p + n / 3 * 3;
        for (; p < whole; p += 3, to += 4) {
            uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
            to[0] = digits[v >> 18];
            to[1] = digits[v >> 12 & 63];
            to[2] = digits[v >> 6 & 63];
            to[3] = digits[v & 63];
        }
        if (n % 3) {
            uint32_t v = (uint32_t)p[0] << 16 | (n % 3 == 2 ? (uint32_t)p[1] << 8 : 0);
            to[0] = digits[v >> 18];
            to[1] = digits[v >> 12 & 63];
            to[2] = n % 3 == 2 ? digits[v >> 6 & 63] : '=';
            to[3] = '=';
            to += 4;
            p += n % 3;
        }
        t->b.n += (size_t)(to - start);
        text_flow(t);
    }
}

void text_csv_part(struct text *t, struct slice s)
{
    while (s.n) {
        const char *quote = memchr(s.p, '"', s.n);
        size_t n = quote ? (size_t)(quote - s.p) + 1 : s.n;
        text_put(t, slice_make(s.p, n));
        if (quote)
            TEXT(t, "\"");
        text_flow(t);
        s = slice_make(s.p + n, s.n - n);
    }
}

void text_csv(struct text *t, struct slice s)
{
    bool plain = true;
    for (size_t i = 0; plain && i < s.n; i++)
        plain = s.p[i] != '"' && s.p[i] != ',' && s.p[i] != '\n' && s.p[i] != '\r';
    if (plain) {
        text_put(t, s);
        return;
    }
    TEXT(t, "\"");
    text_csv_part(t, s);
    TEXT(t, "\"");
}

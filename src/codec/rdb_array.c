// SPDX-License-Identifier: Apache-2.0
// Arrays: sparse, each element with its index and a tag that says how its value is written.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/rdb_impl.h"

enum { TAG_STRING, TAG_INT, TAG_DOUBLE, TAG_SHORT_STRING };

int rdb_array_head(struct rdb_reader *r, struct rdb_scan *s)
{
    struct rdb_scan at = *s;
    uint64_t flag;
    int rc = scan_len(&at, &r->array_count);
    if (rc > 0)
        rc = scan_len(&at, &flag);
    r->array_last = RDB_NO_INDEX;
    if (rc > 0 && flag == 1)
        rc = scan_len(&at, &r->array_last);
    else if (rc > 0 && flag > 1)
        rc = SCAN_BAD;
    if (rc > 0)
        *s = at;
    return rc;
}

int rdb_array_skip(struct rdb_scan *s, bool *string)
{
    uint64_t tag;
    const uint8_t *p;
    int rc = scan_len(s, &tag);
    if (rc <= 0)
        return rc;
    *string = tag == TAG_STRING || tag == TAG_SHORT_STRING;
    if (!*string && tag != TAG_INT && tag != TAG_DOUBLE)
        return SCAN_BAD;
    return *string ? SCAN_OK : scan_bytes(s, 8, &p);
}

// The fewest digits that read back as v (which is finite and not 0), and the power of ten of the
// last one.
static int shortest_digits(double v, char digits[20], int *power)
{
    char text[40];
    for (int n = 1;; n++) {
        snprintf(text, sizeof(text), "%.*e", n - 1, fabs(v));
        char *e = strchr(text, 'e');
        if (n < 17 && strtod(text, NULL) != fabs(v))
            continue;
        *power = (int)strtol(e + 1, NULL, 10) - (n - 1);
        digits[0] = text[0];
        if (n > 1)
            memcpy(digits + 1, text + 2, (size_t)n - 1);
        return n;
    }
}

// Plain as long as that is short, else with an exponent.
static size_t put_digits(char *dst, const char *digits, int n, int power)
{
    char *p = dst;
    int exponent = power + n - 1;
    if (power >= 0 && exponent < n + 7)
        return (size_t)snprintf(dst, 32, "%.*s%.*s", n, digits, power, "0000000");
    if (power < 0 && (power > -7 || abs(exponent) < 4)) {
        int whole = n + power;
        if (whole <= 0)
            return (size_t)snprintf(dst, 32, "0.%.*s%.*s", -whole, "0000000", n, digits);
        return (size_t)snprintf(dst, 32, "%.*s.%.*s", whole, digits, n - whole, digits + whole);
    }
    p += snprintf(p, 32, "%c", digits[0]);
    if (n > 1)
        p += snprintf(p, 24, ".%.*s", n - 1, digits + 1);
    p += snprintf(p, 8, "e%+d", exponent);
    return (size_t)(p - dst);
}

size_t rdb_array_double(char *dst, double v)
{
    if (isnan(v) || isinf(v))
        return (size_t)snprintf(dst, 32, "%s", isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
    size_t n = 0;
    if (signbit(v))
        dst[n++] = '-';
    double size = fabs(v);
    if (size < 4e18 && size == floor(size)) {
        n += i64_format(dst + n, (int64_t)size);
    } else {
        char digits[20];
        int power, count = shortest_digits(size, digits, &power);
        n += put_digits(dst + n, digits, count, power);
    }
    if (!memchr(dst, '.', n) && !memchr(dst, 'e', n)) {
        memcpy(dst + n, ".0", 2);
        n += 2;
    }
    return n;
}

int rdb_array_element(struct rdb_reader *r, struct rdb_element *out, struct err *e)
{
    struct rdb_scan s = rdb_scan_here(r);
    const uint8_t *start = s.p, *p;
    struct rdb_str str = {0};
    const char *bytes = NULL;
    uint64_t tag;
    int rc = scan_len(&s, &tag);
    if (rc > 0 && tag != TAG_INT && tag != TAG_DOUBLE)
        rc = tag <= TAG_SHORT_STRING ? scan_str(&s, &str, &bytes) : SCAN_BAD;
    else if (rc > 0)
        rc = scan_bytes(&s, 8, &p);
    if (rc <= 0)
        return rdb_scan_failed(r, e, rc, "an element of an array is broken");
    char *text = r->num_text[0];
    if (tag == TAG_INT) {
        out->value = slice_make(text, i64_format(text, (int64_t)load_le64(p)));
    } else if (tag == TAG_DOUBLE) {
        double v;
        memcpy(&v, &(uint64_t){load_le64(p)}, sizeof(v));
        out->value = slice_make(text, rdb_array_double(text, v));
    } else if (!rdb_str_text(&str, bytes, &r->text[0], &out->value)) {
        return rdb_fail(r, e, ERR_CORRUPT, "a compressed string cannot be decompressed");
    }
    r->pos += (uint64_t)(s.p - start);
    out->at = r->array_index;
    out->total = r->array_count;
    out->insert_index = r->array_last;
    return RDB_ITEM;
}

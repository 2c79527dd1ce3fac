// SPDX-License-Identifier: Apache-2.0
#include "codec/rdb_len.h"

#include "base/bytes.h"
#include "base/err.h"

void rdb_put_len(struct buf *b, uint64_t v)
{
    char *p = buf_reserve(b, 9);
    size_t n;
    if (v < 1 << 6) {
        p[0] = (char)v;
        n = 1;
    } else if (v < 1 << 14) {
        p[0] = (char)(0x40 | v >> 8);
        p[1] = (char)v;
        n = 2;
    } else if (v <= UINT32_MAX) {
        p[0] = (char)0x80;
        store_be32(p + 1, (uint32_t)v);
        n = 5;
    } else {
        p[0] = (char)0x81;
        store_be64(p + 1, v);
        n = 9;
    }
    b->n += n;
}

uint64_t rdb_get_len(struct slice s)
{
    switch (s.n) {
    case 1:
        return (uint8_t)s.p[0];
    case 2:
        return (uint64_t)(s.p[0] & 0x3f) << 8 | (uint8_t)s.p[1];
    case 5:
        return load_be32(s.p + 1);
    default:
        must(s.n == 9);
        return load_be64(s.p + 1);
    }
}

void rdb_put_string(struct buf *b, struct slice s)
{
    rdb_put_len(b, s.n);
    buf_append_slice(b, s);
}

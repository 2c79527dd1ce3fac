// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"
#include "codec/packed.h"

#define LP_END 0xff
#define LP_COUNT_UNKNOWN 0xffff

static bool head(struct packed *k, const uint8_t *p, uint64_t size)
{
    uint16_t count = load_le16(p + 4);
    if (count != LP_COUNT_UNKNOWN)
        k->count = count;
    return load_le32(p) == size;
}

static int64_t sign_extend(uint64_t v, unsigned bits)
{
    uint64_t sign = (uint64_t)1 << (bits - 1);
    return (int64_t)((v ^ sign) - sign);
}

static uint64_t load_le(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

// Behind an entry stands its length again, 7 bits a byte, the most significant first; it is what
// walks backwards.
static unsigned backlen_size(uint64_t len)
{
    return len <= 127 ? 1 : len < 16383 ? 2 : len < 2097151 ? 3 : len < 268435455 ? 4 : 5;
}

static bool backlen_is(const uint8_t *p, unsigned n, uint64_t len)
{
    for (unsigned i = n; i-- > 0; len >>= 7)
        if (p[i] != ((len & 127) | (i > 0 ? 128 : 0)))
            return false;
    return true;
}

// Entries that start with 0xf0 .. 0xf4: bytes that follow, which are a length or an integer.
static const uint8_t wide[] = {4, 2, 3, 4, 8};

static int64_t entry(struct packed *k, const uint8_t *p, size_t n, struct packed_entry *out,
                     bool *end)
{
    if (n == 0)
        return 0;
    uint8_t b = *p;
    uint64_t head_len, body = 0;
    if (b == LP_END) {
        *end = true;
        return 1;
    }
    if (b < 0xc0)
        head_len = 1;
    else if (b < 0xf0)
        head_len = 2;
    else if (b - 0xf0u < sizeof(wide))
        head_len = 1u + wide[b - 0xf0];
    else
        return -1;
    if (n < head_len)
        return 0;
    out->is_int = b < 0x80 || (b >= 0xc0 && b < 0xe0) || b > 0xf0;
    if (b < 0x80)
        out->num = b;
    else if (b < 0xc0)
        body = b & 0x3f;
    else if (b < 0xe0)
        out->num = sign_extend((uint64_t)(b & 0x1f) << 8 | p[1], 13);
    else if (b < 0xf0)
        body = (uint64_t)(b & 0x0f) << 8 | p[1];
    else if (b == 0xf0)
        body = load_le32(p + 1);
    else
        out->num = sign_extend(load_le(p + 1, wide[b - 0xf0]), 8u * wide[b - 0xf0]);

    unsigned back_len = backlen_size(head_len + body);
    uint64_t size = head_len + body + back_len;
    // The terminator stands behind every entry.
    if (size >= k->left)
        return -1;
    if (n < size)
        return 0;
    if (!backlen_is(p + head_len + body, back_len, head_len + body))
        return -1;
    out->str = slice_make((const char *)p + head_len, (size_t)body);
    return (int64_t)size;
}

const struct packed_ops listpack_ops = {"listpack", 6, head, entry};

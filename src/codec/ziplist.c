// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"
#include "codec/packed.h"

#define ZL_END 0xff
#define ZL_LONG_PREV 0xfe
#define ZL_COUNT_UNKNOWN 0xffff

static bool head(struct packed *k, const uint8_t *p, uint64_t size)
{
    uint16_t count = load_le16(p + 8);
    if (count != ZL_COUNT_UNKNOWN)
        k->count = count;
    return load_le32(p) == size && load_le32(p + 4) < size;
}

static int64_t load_int24(const uint8_t *p)
{
    uint32_t v = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
    return (int64_t)(v ^ 0x800000) - 0x800000;
}

// The head of an entry behind its previous-length: 0 when n is too short, -1 when bad.
static int body_of(const uint8_t *p, size_t n, struct packed_entry *out, uint64_t *body)
{
    static const uint8_t str_head[] = {1, 2, 5};
    static const struct {
        uint8_t byte, size;
    } ints[] = {{0xc0, 2}, {0xd0, 4}, {0xe0, 8}, {0xf0, 3}, {0xfe, 1}};
    uint8_t b = *p;
    *body = 0;
    out->is_int = b >= 0xc0;
    if (!out->is_int) {
        int head_len = str_head[b >> 6];
        if (n < (size_t)head_len)
            return 0;
        *body = b >> 6 == 0 ? b : b >> 6 == 1 ? (uint64_t)(b & 0x3f) << 8 | p[1] : load_be32(p + 1);
        return head_len;
    }
    if (b >= 0xf1 && b <= 0xfd) {
        out->num = b - 0xf1;
        return 1;
    }
    for (size_t i = 0; i < sizeof(ints) / sizeof(*ints); i++) {
        if (ints[i].byte != b)
            continue;
        if (n < 1u + ints[i].size)
            return 0;
        out->num = b == 0xc0   ? (int16_t)load_le16(p + 1)
                   : b == 0xd0 ? (int32_t)load_le32(p + 1)
                   : b == 0xe0 ? (int64_t)load_le64(p + 1)
                   : b == 0xf0 ? load_int24(p + 1)
                               : (int8_t)p[1];
        return 1 + ints[i].size;
    }
    return -1;
}

static int64_t entry(struct packed *k, const uint8_t *p, size_t n, struct packed_entry *out,
                     bool *end)
{
    if (n == 0)
        return 0;
    if (*p == ZL_END) {
        *end = true;
        return 1;
    }
    size_t prev_len = *p == ZL_LONG_PREV ? 5 : 1;
    if (n < prev_len + 1)
        return 0;
    uint32_t prev = prev_len == 5 ? load_le32(p + 1) : *p;
    if (prev != k->state)
        return -1;
    uint64_t body;
    int head_len = body_of(p + prev_len, n - prev_len, out, &body);
    if (head_len <= 0)
        return head_len;
    uint64_t size = prev_len + (uint64_t)head_len + body;
    if (size >= k->left)
        return -1;
    if (n < size)
        return 0;
    k->state = (uint32_t)size;
    out->str = slice_make((const char *)p + prev_len + head_len, (size_t)body);
    return (int64_t)size;
}

const struct packed_ops ziplist_ops = {"ziplist", 10, head, entry};

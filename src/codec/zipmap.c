// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"
#include "codec/packed.h"

#define ZM_END 0xff
#define ZM_LONG 0xfe

static bool head(struct packed *k, const uint8_t *p, uint64_t size)
{
    (void)size;
    if (*p < ZM_LONG)
        k->count = 2u * *p;
    return true;
}

// Fields and values take turns; a value has a byte before it that counts the unused bytes after it.
static int64_t entry(struct packed *k, const uint8_t *p, size_t n, struct packed_entry *out,
                     bool *end)
{
    bool value = k->seen & 1;
    if (n == 0)
        return 0;
    if (*p == ZM_END) {
        *end = true;
        return value ? -1 : 1;
    }
    size_t head_len = (*p == ZM_LONG ? 5u : 1u) + (value ? 1u : 0u);
    if (n < head_len)
        return 0;
    uint64_t body = *p == ZM_LONG ? load_le32(p + 1) : *p;
    uint64_t size = head_len + body + (value ? p[head_len - 1] : 0);
    if (size >= k->left)
        return -1;
    if (n < size)
        return 0;
    out->is_int = false;
    out->str = slice_make((const char *)p + head_len, (size_t)body);
    return (int64_t)size;
}

const struct packed_ops zipmap_ops = {"zipmap", 1, head, entry};

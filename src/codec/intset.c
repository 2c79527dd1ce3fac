// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"
#include "codec/packed.h"

static bool head(struct packed *k, const uint8_t *p, uint64_t size)
{
    uint32_t width = load_le32(p);
    k->count = load_le32(p + 4);
    k->state = width;
    return (width == 2 || width == 4 || width == 8) && size == 8 + k->count * width;
}

static int64_t entry(struct packed *k, const uint8_t *p, size_t n, struct packed_entry *out,
                     bool *end)
{
    if (k->left == 0) {
        *end = true;
        return 0;
    }
    if (n < k->state)
        return 0;
    out->is_int = true;
    out->num = k->state == 2   ? (int16_t)load_le16(p)
               : k->state == 4 ? (int32_t)load_le32(p)
                               : (int64_t)load_le64(p);
    return k->state;
}

const struct packed_ops intset_ops = {"intset", 8, head, entry};

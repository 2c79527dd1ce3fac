// SPDX-License-Identifier: Apache-2.0
#include "codec/packed.h"

void packed_begin(struct packed *k, enum packed_kind kind, uint64_t size)
{
    static const struct packed_ops *const all[] = {
        [PACKED_LISTPACK] = &listpack_ops,
        [PACKED_ZIPLIST] = &ziplist_ops,
        [PACKED_INTSET] = &intset_ops,
        [PACKED_ZIPMAP] = &zipmap_ops,
    };
    *k = (struct packed){.ops = all[kind], .left = size, .count = PACKED_COUNT_UNKNOWN};
}

enum packed_result packed_next(struct packed *k, const char *p, size_t n, struct packed_entry *out,
                               size_t *used)
{
    const uint8_t *at = (const uint8_t *)p;
    size_t avail = n < k->left ? n : (size_t)k->left;
    *used = 0;
    if (!k->headed) {
        if (k->left < k->ops->head_size)
            return PACKED_BAD;
        if (avail < k->ops->head_size)
            return PACKED_MORE;
        if (!k->ops->head(k, at, k->left))
            return PACKED_BAD;
        k->headed = true;
        k->left -= k->ops->head_size;
        *used = k->ops->head_size;
        at += *used;
        avail -= *used;
    }
    bool end = false;
    int64_t size = k->ops->entry(k, at, avail, out, &end);
    if (size < 0)
        return PACKED_BAD;
    if (size == 0 && !end)
        return avail == k->left ? PACKED_BAD : PACKED_MORE;
    k->left -= (uint64_t)size;
    *used += (size_t)size;
    if (!end) {
        k->seen++;
        return PACKED_ENTRY;
    }
    bool whole = k->left == 0 && (k->count == PACKED_COUNT_UNKNOWN || k->count == k->seen);
    return whole ? PACKED_END : PACKED_BAD;
}

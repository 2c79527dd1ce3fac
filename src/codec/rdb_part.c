// SPDX-License-Identifier: Apache-2.0
// The inside of one string of a value, read from the window or decompressed on the way.
#include "codec/rdb_impl.h"

#define PART_READ 4096 // decompressed bytes to ask for beyond what is unread

int rdb_part_begin(struct rdb_reader *r, enum rdb_part_kind kind, struct err *e)
{
    struct rdb_part *part = &r->part;
    struct rdb_scan s = rdb_scan_here(r);
    const uint8_t *start = s.p;
    struct rdb_str str;
    int rc = scan_str_head(&s, &str);
    if (rc <= 0)
        return rdb_scan_failed(r, e, rc, "the length of a string is broken");
    if (str.kind == STR_INT)
        return rdb_fail(r, e, ERR_CORRUPT, "an encoded value is an integer");
    r->pos += (uint64_t)(s.p - start);
    r->walk.pc++;
    part->kind = kind;
    part->lzf = str.kind == STR_LZF;
    part->end = r->pos + str.n;
    part->size = str.total;
    part->given = 0;
    if (part->lzf)
        lzf_stream_begin(&part->z, str.n, str.total);
    if (kind != PART_STRING)
        packed_begin(&part->packed, r->row->packed, str.total);
    return RDB_ITEM;
}

static const char *unread(const struct rdb_reader *r, size_t *n)
{
    if (r->part.lzf) {
        *n = lzf_stream_unread(&r->part.z);
        return lzf_stream_data(&r->part.z);
    }
    uint64_t end = r->end < r->part.end ? r->end : r->part.end;
    *n = end > r->pos ? (size_t)(end - r->pos) : 0;
    return *n ? rdb_at(r) : "";
}

static void take(struct rdb_reader *r, size_t n)
{
    if (r->part.lzf)
        r->part.z.head += n;
    else
        r->pos += n;
}

// Decompresses until `want` bytes are unread. RDB_ITEM when there are more unread bytes than
// before.
static int decompress(struct rdb_reader *r, size_t want, struct err *e)
{
    struct rdb_part *part = &r->part;
    size_t before = lzf_stream_unread(&part->z), used, avail = rdb_avail(r);
    int rc = lzf_stream_feed(&part->z, avail ? rdb_at(r) : "", avail, want, &used);
    r->pos += used;
    if (rc < 0)
        return rdb_fail(r, e, rc, "a compressed string cannot be decompressed");
    if (lzf_stream_unread(&part->z) > before)
        return RDB_ITEM;
    return rdb_scan_failed(r, e, SCAN_MORE, "");
}

int rdb_part_entries(struct rdb_reader *r, struct packed_entry *out, int n, struct err *e)
{
    for (;;) {
        struct packed *at = &r->part.packed, before = *at;
        size_t avail, used, sum = 0;
        const char *p = unread(r, &avail);
        enum packed_result rc = PACKED_ENTRY;
        int i = 0;
        for (; i < n && rc == PACKED_ENTRY; i++, sum += used)
            rc = packed_next(at, p + sum, avail - sum, &out[i], &used);
        if (rc == PACKED_ENTRY || (rc == PACKED_END && i == 1)) {
            take(r, sum);
            if (rc == PACKED_ENTRY)
                return RDB_ITEM;
            r->part.kind = PART_NONE;
            return RDB_DONE;
        }
        if (rc != PACKED_MORE)
            return rdb_fail(r, e, ERR_CORRUPT, "a %s is broken", at->ops->name);
        *at = before; // all entries at once, or none
        if (!r->part.lzf)
            return rdb_scan_failed(r, e, SCAN_MORE, "");
        int more = decompress(r, avail * 2 + PART_READ, e);
        if (more != RDB_ITEM)
            return more;
    }
}

struct slice rdb_entry_text(const struct packed_entry *entry, char num_text[24])
{
    if (entry->is_int)
        return slice_make(num_text, i64_format(num_text, entry->num));
    return entry->str;
}

int rdb_part_piece(struct rdb_reader *r, size_t limit, struct rdb_element *out, struct err *e)
{
    struct rdb_part *part = &r->part;
    uint64_t left = part->size - part->given;
    size_t want = left < limit ? (size_t)left : limit, avail;
    const char *p = unread(r, &avail);
    if (avail < want && part->lzf) {
        int rc = decompress(r, want, e);
        if (rc != RDB_ITEM)
            return rc;
        p = unread(r, &avail);
    }
    if (avail < want)
        return rdb_scan_failed(r, e, SCAN_MORE, "");
    out->value = slice_make(p, want);
    out->at = part->given;
    out->total = part->size;
    take(r, want);
    part->given += want;
    if (part->given == part->size)
        part->kind = PART_NONE;
    return RDB_ITEM;
}

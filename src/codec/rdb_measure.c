// SPDX-License-Identifier: Apache-2.0
// Telling what a value consists of while it is passed over.
#include <stdlib.h>

#include "base/mem.h"
#include "codec/rdb_impl.h"

#define HEAD 20
// Compressed bytes that surely decode to HEAD: at worst each byte is an instruction of its own.
#define HEAD_LZF (2 * HEAD + 4)
// A blob that does not say how many entries it has is counted entry by entry up to this size; a
// greater one is not made by any server with sane settings, and counts as what fits its header.
#define COUNTED_MAX ((uint64_t)4 << 20)

// Decodes until `want` bytes are out or the input ends; what is corrupt ends it too.
static size_t lzf_prefix(const uint8_t *ip, size_t n, char *out, size_t want)
{
    const uint8_t *end = ip + n;
    size_t got = 0;
    while (ip < end && got < want) {
        size_t run = *ip >> 5, head = run == 7 ? 3 : 2;
        if (run == 0) {
            run = (size_t)*ip++ + 1;
            for (; run > 0 && ip < end && got < want; run--)
                out[got++] = (char)*ip++;
            continue;
        }
        if ((size_t)(end - ip) < head)
            break;
        run += 2 + (run == 7 ? ip[1] : 0u);
        size_t back = ((size_t)(*ip & 31) << 8 | ip[head - 1]) + 1;
        if (back > got)
            break;
        for (; run > 0 && got < want; run--, got++)
            out[got] = out[got - back];
        ip += head;
    }
    return got;
}

static uint64_t count_entries(struct packed *k, const char *p, size_t n)
{
    struct packed_entry entry;
    size_t used;
    while (packed_next(k, p, n, &entry, &used) == PACKED_ENTRY) {
        p += used;
        n -= used;
    }
    return k->seen;
}

// The entries of a blob that does not tell them.
static int count_all(struct packed *k, const struct rdb_str *str, const struct rdb_scan *s,
                     uint64_t *entries)
{
    if (str->total > COUNTED_MAX || str->n > COUNTED_MAX) {
        *entries = UINT16_MAX;
        return SCAN_OK;
    }
    if (scan_left(s) < str->n)
        return SCAN_MORE;
    const char *bytes = (const char *)s->p;
    if (str->kind == STR_RAW) {
        *entries = count_entries(k, bytes, (size_t)str->n);
        return SCAN_OK;
    }
    char *text = xmalloc((size_t)str->total);
    bool ok = lzf_decompress(bytes, (size_t)str->n, text, (size_t)str->total);
    *entries = ok ? count_entries(k, text, (size_t)str->total) : 0;
    free(text);
    return ok ? SCAN_OK : SCAN_BAD;
}

static int blob_entries(const struct rdb_walk *w, const struct rdb_str *str, struct slice head,
                        const struct rdb_scan *s, uint64_t *entries)
{
    struct packed k;
    packed_begin(&k, w->row->packed, str->total);
    if (head.n < k.ops->head_size)
        return SCAN_BAD;
    struct packed headed = k;
    if (!k.ops->head(&headed, (const uint8_t *)head.p, str->total))
        return SCAN_BAD;
    *entries = headed.count;
    return headed.count == PACKED_COUNT_UNKNOWN ? count_all(&k, str, s, entries) : SCAN_OK;
}

int rdb_meter_str(struct rdb_walk *w, const struct rdb_str *str, const struct rdb_scan *s)
{
    char text[HEAD + 4];
    struct slice head = {(const char *)s->p, str->n < HEAD ? (size_t)str->n : HEAD};
    uint64_t size = str->total, entries = 0;
    if (str->kind == STR_INT) {
        head = slice_make(text, i64_format(text, str->num));
        size = head.n;
    } else {
        uint64_t need = str->kind == STR_LZF ? HEAD_LZF : HEAD;
        if (str->n < need)
            need = str->n;
        if (scan_left(s) < need)
            return SCAN_MORE;
        if (str->kind == STR_LZF) {
            size_t want = size < HEAD ? (size_t)size : HEAD;
            memset(text, 0, sizeof(text));
            head = slice_make(text, lzf_prefix(s->p, (size_t)need, text, want));
        }
    }
    char op = *w->pc;
    if (op == 'B' || op == 'P' || op == 'U' || (op == 'Q' && w->packed_node)) {
        int rc = blob_entries(w, str, head, s, &entries);
        if (rc <= 0)
            return rc;
    }
    w->meter->string(w->meter->arg, op, size, head, entries);
    return SCAN_OK;
}

void rdb_meter_number(struct rdb_walk *w, uint64_t v)
{
    if (*w->pc == 'K')
        w->packed_node = v == 2;
    w->meter->number(w->meter->arg, *w->pc, v);
}

int rdb_value_measure(struct rdb_reader *r, const struct rdb_meter *m, struct err *e)
{
    if (r->stage != STAGE_VALUE)
        return rdb_value_skip(r, e);
    if (r->mode != MODE_SKIP) {
        must(r->mode <= MODE_RAW);
        r->pos = r->value_start;
        r->mode = MODE_SKIP;
        rdb_walk_begin(&r->walk, r->row->walk);
        r->walk.meter = m;
        r->walk.row = r->row;
    }
    return rdb_value_skip(r, e);
}

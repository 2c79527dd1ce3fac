// SPDX-License-Identifier: Apache-2.0
// Reads an RDB file in elements and writes what tools/make-rdb-assets writes of a live server: one
// line for each fact. For tests of one file only, hence the static functions.
#ifndef GUNYU_TESTS_RDB_LINES_H
#define GUNYU_TESTS_RDB_LINES_H

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "codec/crc64.h"
#include "codec/rdb.h"

static inline void lines_show(struct buf *b, struct slice s)
{
    bool plain = s.n > 0 && s.n <= 40;
    for (size_t i = 0; plain && i < s.n; i++)
        plain = s.p[i] >= 33 && s.p[i] < 127 && s.p[i] != '#';
    if (plain)
        buf_append_slice(b, s);
    else
        buf_printf(b, "#%zu:%016llx", s.n, (unsigned long long)crc64_update(0, s.p, s.n));
}

struct lines {
    struct buf out, at, piece;
    uint64_t index;
    bool entry_open;
};

static inline void lines_free(struct lines *l)
{
    buf_free(&l->out);
    buf_free(&l->at);
    buf_free(&l->piece);
}

static inline void lines_stream(struct lines *l, const struct rdb_element *el)
{
    struct buf *b = &l->out;
    if (el->stream_step == RDB_STREAM_IDMP_ENTRY) // no server lists them
        return;
    if (l->entry_open && el->stream_step != RDB_STREAM_FIELD) {
        buf_append_char(b, '\n');
        l->entry_open = false;
    }
    if (el->stream_step != RDB_STREAM_FIELD)
        buf_append_slice(b, buf_slice(&l->at));
    switch (el->stream_step) {
    case RDB_STREAM_ENTRY:
        buf_printf(b, " entry %llu-%llu", (unsigned long long)el->id_ms,
                   (unsigned long long)el->id_seq);
        l->entry_open = true;
        return;
    case RDB_STREAM_FIELD:
        buf_append_char(b, ' ');
        lines_show(b, el->field);
        buf_append_char(b, ' ');
        lines_show(b, el->value);
        return;
    case RDB_STREAM_META:
        buf_printf(b, " meta %llu-%llu %llu-%llu %llu-%llu added=%llu length=%llu",
                   (unsigned long long)el->id_ms, (unsigned long long)el->id_seq,
                   (unsigned long long)el->first_ms, (unsigned long long)el->first_seq,
                   (unsigned long long)el->max_deleted_ms, (unsigned long long)el->max_deleted_seq,
                   (unsigned long long)el->entries_added, (unsigned long long)el->length);
        break;
    case RDB_STREAM_GROUP:
        buf_append_cstr(b, " group ");
        lines_show(b, el->value);
        buf_printf(b, " %llu-%llu", (unsigned long long)el->id_ms, (unsigned long long)el->id_seq);
        break;
    case RDB_STREAM_CONSUMER:
    case RDB_STREAM_PENDING:
        buf_append_cstr(b, el->stream_step == RDB_STREAM_CONSUMER ? " consumer " : " pending ");
        lines_show(b, el->field);
        buf_append_char(b, ' ');
        lines_show(b, el->value);
        if (el->stream_step == RDB_STREAM_CONSUMER)
            buf_printf(b, " seen=%lld", (long long)el->seen_ms);
        else
            buf_printf(b, " %llu-%llu time=%lld count=%llu", (unsigned long long)el->id_ms,
                       (unsigned long long)el->id_seq, (long long)el->delivery_time_ms,
                       (unsigned long long)el->delivery_count);
        break;
    case RDB_STREAM_NACKED:
        buf_append_cstr(b, " nacked ");
        lines_show(b, el->field);
        buf_printf(b, " %llu-%llu time=%lld count=%llu", (unsigned long long)el->id_ms,
                   (unsigned long long)el->id_seq, (long long)el->delivery_time_ms,
                   (unsigned long long)el->delivery_count);
        break;
    case RDB_STREAM_IDMP:
        buf_printf(b, " idmp duration=%llu max=%llu", (unsigned long long)el->idmp_duration_s,
                   (unsigned long long)el->idmp_max);
        break;
    case RDB_STREAM_IDMP_TOTALS:
        buf_printf(b, " idmp-totals added=%llu duplicates=%llu", (unsigned long long)el->idmp_added,
                   (unsigned long long)el->idmp_duplicates);
        break;
    default:
        break;
    }
    buf_append_char(b, '\n');
}

static inline void lines_element(struct lines *l, enum rdb_object object,
                                 const struct rdb_element *el)
{
    struct buf *b = &l->out;
    if (object == RDB_OBJ_STREAM) {
        lines_stream(l, el);
        return;
    }
    if (object == RDB_OBJ_STRING) {
        buf_append_slice(&l->piece, el->value);
        if (l->piece.n < el->total)
            return;
    }
    buf_append_slice(b, buf_slice(&l->at));
    buf_printf(b, " %s ", rdb_object_name(object));
    if (object == RDB_OBJ_LIST)
        buf_printf(b, "%llu ", (unsigned long long)l->index++);
    if (object == RDB_OBJ_ARRAY)
        buf_printf(b, "%llu/%llu %lld ", (unsigned long long)el->at, (unsigned long long)el->total,
                   (long long)el->insert_index);
    if (object == RDB_OBJ_PATH_HASH) {
        lines_show(b, el->path);
        buf_append_char(b, ' ');
    }
    if (object == RDB_OBJ_HASH || object == RDB_OBJ_PATH_HASH) {
        lines_show(b, el->field);
        buf_append_char(b, ' ');
    }
    lines_show(b, object == RDB_OBJ_STRING ? buf_slice(&l->piece) : el->value);
    if (object == RDB_OBJ_ZSET)
        buf_printf(b, " %.17g", el->score);
    if (object == RDB_OBJ_HASH)
        buf_printf(b, " expire=%lld", (long long)el->expire_ms);
    buf_append_char(b, '\n');
}

static inline void lines_item(struct lines *l, const struct rdb_item *item)
{
    if (item->kind == RDB_KIND_FUNCTION) {
        buf_append_cstr(&l->out, "function ");
        lines_show(&l->out, item->value);
        buf_append_char(&l->out, '\n');
    }
    if (item->kind == RDB_KIND_COMMAND) {
        buf_printf(&l->out, "%d command ", item->db);
        lines_show(&l->out, item->value);
        buf_append_char(&l->out, '\n');
    }
    if (item->kind == RDB_KIND_SLOT_IMPORT) {
        buf_append_cstr(&l->out, "import ");
        lines_show(&l->out, item->key);
        buf_append_char(&l->out, ' ');
        buf_append_slice(&l->out, item->value);
        buf_append_char(&l->out, '\n');
    }
    if (item->kind != RDB_KIND_KEY)
        return;
    buf_clear(&l->at);
    buf_printf(&l->at, "%d ", item->db);
    lines_show(&l->at, item->key);
    buf_append_slice(&l->out, buf_slice(&l->at));
    buf_printf(&l->out, " key %s expire=%lld\n", rdb_object_name(item->object),
               (long long)item->expire_ms);
    buf_clear(&l->piece);
    l->index = 0;
}

// How the bytes reach the reader: `step` more bytes after each RDB_MORE, each time in an allocation
// of its own that holds no byte which the reader has given up. The bytes may be cut at `n`.
struct lines_feed {
    const char *p;
    size_t n, step, shown;
    char *copy;
};

static inline bool lines_feed_more(struct lines_feed *f, struct rdb_reader *r)
{
    if (f->shown == f->n)
        return false;
    f->shown = f->n - f->shown < f->step ? f->n : f->shown + f->step;
    size_t from = (size_t)rdb_needs_from(r);
    free(f->copy);
    f->copy = malloc(f->shown - from + 1);
    memcpy(f->copy, f->p + from, f->shown - from);
    rdb_feed(r, f->copy, from, f->shown - from);
    return true;
}

// Returns RDB_DONE, RDB_MORE when the file is cut short, or the error.
static inline int lines_read(struct lines *l, struct rdb_reader *r, struct lines_feed *f,
                             size_t piece, struct err *e)
{
    struct rdb_item item = {0};
    bool in_value = false;
    int rc = RDB_MORE;
    lines_feed_more(f, r);
    for (;;) {
        struct rdb_element el;
        rc = in_value ? rdb_value_element(r, piece, &el, e) : rdb_next(r, &item, e);
        if (rc == RDB_ITEM && in_value) {
            lines_element(l, item.object, &el);
        } else if (rc == RDB_ITEM) {
            lines_item(l, &item);
            in_value = item.kind == RDB_KIND_KEY;
        } else if (rc == RDB_DONE && in_value) {
            in_value = false;
            if (l->entry_open)
                buf_append_char(&l->out, '\n');
            l->entry_open = false;
        } else if (rc != RDB_MORE || !lines_feed_more(f, r)) {
            break;
        }
    }
    free(f->copy);
    f->copy = NULL;
    return rc;
}

static inline int lines_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Sorts the lines by bytes, as the files are.
static inline void lines_sort(struct buf *b)
{
    size_t count = 0, cap = 1;
    buf_cstr(b);
    for (size_t i = 0; i < b->n; i++)
        cap += b->p[i] == '\n';
    char **lines = malloc(cap * sizeof(*lines));
    char *text = strdup(b->p), *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        lines[count++] = line;
    qsort(lines, count, sizeof(*lines), lines_compare);
    buf_clear(b);
    for (size_t i = 0; i < count; i++)
        buf_printf(b, "%s\n", lines[i]);
    free(lines);
    free(text);
}

#endif

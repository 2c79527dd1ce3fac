// SPDX-License-Identifier: Apache-2.0
// CSV: a row for each element. Bytes stay as they are.
#include "rdb/print.h"

struct row {
    struct slice part, id, field, value;
    bool has_score, has_time, has_count;
    double score;
    int64_t time;
    uint64_t count;
};

static void begin(struct print *p)
{
    TEXT(&p->t, "db,type,key,expire_at,part,id,field,value,time,count\n");
}

// The columns that all rows of a key share.
static void head(struct print *p, const struct rdb_item *item)
{
    struct text *t = &p->t;
    text_i64(t, item->db);
    TEXT(t, ",");
    text_put(t, slice_cstr(rdb_object_name(item->object)));
    TEXT(t, ",");
    if (!p->no_key)
        text_csv(t, item->key);
    TEXT(t, ",");
    if (item->expire_ms >= 0)
        text_i64(t, item->expire_ms);
}

static void write_row(struct print *p, const struct rdb_item *item, const struct row *r)
{
    struct text *t = &p->t;
    head(p, item);
    TEXT(t, ",");
    text_csv(t, r->part);
    TEXT(t, ",");
    text_put(t, r->id);
    TEXT(t, ",");
    text_csv(t, r->field);
    TEXT(t, ",");
    if (r->has_score)
        text_double(t, r->score);
    else
        text_csv(t, r->value);
    TEXT(t, ",");
    if (r->has_time)
        text_i64(t, r->time);
    TEXT(t, ",");
    if (r->has_count)
        text_u64(t, r->count);
    TEXT(t, "\n");
    text_flow(t);
}

static int string(struct print *p, const struct rdb_item *item, struct err *e)
{
    struct text *t = &p->t;
    struct rdb_element el;
    int rc = rdb_input_element(p->in, PRINT_WHOLE, &el, e);
    if (rc < 0)
        return rc;
    if (el.value.n == el.total) {
        write_row(p, item, &(struct row){.value = el.value});
        return 0;
    }
    head(p, item);
    TEXT(t, ",,,,\"");
    for (; rc == RDB_ITEM; rc = rdb_input_element(p->in, PRINT_WHOLE, &el, e))
        text_csv_part(t, el.value);
    TEXT(t, "\",,\n");
    return rc < 0 ? rc : 0;
}

static size_t format_id(char *to, uint64_t ms, uint64_t seq)
{
    size_t n = u64_format(to, ms);
    to[n++] = '-';
    return n + u64_format(to + n, seq);
}

static struct row stream_row(const struct rdb_element *el, struct slice id, char number[24])
{
    struct row r = {.id = id, .field = el->field, .value = el->value};
    switch ((enum rdb_stream_step)el->stream_step) {
    case RDB_STREAM_META:
        r.part = SLICE("meta");
        r.has_count = true;
        r.count = el->entries_added;
        break;
    case RDB_STREAM_GROUP:
        r.part = SLICE("group");
        r.field = el->value;
        r.value = el->entries_read < 0 ? slice_make("", 0)
                                       : slice_make(number, i64_format(number, el->entries_read));
        break;
    case RDB_STREAM_CONSUMER:
        r.part = SLICE("consumer");
        r.id = slice_make("", 0);
        r.has_time = el->seen_ms >= 0;
        r.time = el->seen_ms;
        break;
    case RDB_STREAM_PENDING:
    case RDB_STREAM_NACKED:
        r.part = el->stream_step == RDB_STREAM_NACKED ? SLICE("nacked") : SLICE("pending");
        r.has_time = r.has_count = true;
        r.time = el->delivery_time_ms;
        r.count = el->delivery_count;
        break;
    case RDB_STREAM_IDMP:
        r.part = SLICE("idmp");
        r.id = slice_make("", 0);
        r.value = slice_make(number, u64_format(number, el->idmp_max));
        r.has_time = true;
        r.time = (int64_t)el->idmp_duration_s;
        break;
    case RDB_STREAM_IDMP_ENTRY:
        r.part = SLICE("idmp-entry");
        break;
    case RDB_STREAM_IDMP_TOTALS:
        r.part = SLICE("idmp-totals");
        r.id = slice_make("", 0);
        r.value = slice_make(number, u64_format(number, el->idmp_duplicates));
        r.has_count = true;
        r.count = el->idmp_added;
        break;
    case RDB_STREAM_ENTRY:
    case RDB_STREAM_FIELD:
        r.part = SLICE("entry");
        break;
    }
    return r;
}

static int elements(struct print *p, const struct rdb_item *item, struct err *e)
{
    struct rdb_element el;
    char id[48], number[24];
    size_t id_n = 0;
    uint64_t index = 0;
    int rc;
    while ((rc = rdb_input_element(p->in, PRINT_WHOLE, &el, e)) == RDB_ITEM) {
        struct row r = {.field = el.field, .value = el.value};
        if (item->object == RDB_OBJ_STREAM) {
            if (el.stream_step != RDB_STREAM_FIELD)
                id_n = format_id(id, el.id_ms, el.id_seq);
            if (el.stream_step == RDB_STREAM_ENTRY && el.pairs)
                continue; // its fields bring it along
            r = stream_row(&el, slice_make(id, id_n), number);
        } else if (item->object == RDB_OBJ_LIST) {
            r.id = slice_make(id, u64_format(id, index++));
        } else if (item->object == RDB_OBJ_ARRAY) {
            r.id = slice_make(id, u64_format(id, el.at));
        } else if (item->object == RDB_OBJ_PATH_HASH) {
            r.part = el.path;
        } else if (item->object == RDB_OBJ_ZSET) {
            r.field = el.value;
            r.has_score = true;
            r.score = el.score;
        } else if (item->object == RDB_OBJ_HASH && el.expire_ms >= 0) {
            r.has_time = true;
            r.time = el.expire_ms;
        }
        write_row(p, item, &r);
    }
    return rc < 0 ? rc : 0;
}

static int key(struct print *p, const struct rdb_item *item, struct err *e)
{
    if (p->no_value || item->object == RDB_OBJ_MODULE) {
        write_row(p, item, &(struct row){0});
        return 0;
    }
    return item->object == RDB_OBJ_STRING ? string(p, item, e) : elements(p, item, e);
}

const struct print_format print_csv = {.name = "csv", .begin = begin, .key = key};

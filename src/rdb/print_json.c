// SPDX-License-Identifier: Apache-2.0
// JSON: one array, or an object a line; and redisGunYu's lines, which look like JSON.
#include "codec/resp.h"
#include "rdb/print.h"

int print_json_string(struct print *p, struct err *e)
{
    struct text *t = &p->t;
    struct rdb_element el = {0};
    int rc = rdb_input_element(p->in, PRINT_WHOLE, &el, e);
    if (rc < 0)
        return rc;
    if (el.value.n == el.total) {
        text_json_string(t, el.value);
        return 0;
    }
    TEXT(t, "{\"base64\":\"");
    while (rc == RDB_ITEM) {
        text_base64(t, el.value);
        if (el.at + el.value.n >= el.total)
            break;
        rc = rdb_input_element(p->in, PRINT_WHOLE, &el, e);
    }
    TEXT(t, "\"}");
    return rc < 0 ? rc : 0;
}

static void id(struct text *t, uint64_t ms, uint64_t seq)
{
    TEXT(t, "\"");
    text_u64(t, ms);
    TEXT(t, "-");
    text_u64(t, seq);
    TEXT(t, "\"");
}

static void named_id(struct text *t, struct slice name, uint64_t ms, uint64_t seq)
{
    text_put(t, name);
    id(t, ms, seq);
}

// Unknown (negative) is null.
static void named_i64(struct text *t, struct slice name, int64_t v)
{
    text_put(t, name);
    if (v < 0)
        TEXT(t, "null");
    else
        text_i64(t, v);
}

static void named_u64(struct text *t, struct slice name, uint64_t v)
{
    text_put(t, name);
    text_u64(t, v);
}

static void member(struct text *t, struct slice name, struct slice value)
{
    text_put(t, name);
    text_json_string(t, value);
}

static void element(struct text *t, enum rdb_object object, const struct rdb_element *el)
{
    if (object == RDB_OBJ_LIST || object == RDB_OBJ_SET) {
        text_json_string(t, el->value);
        return;
    }
    TEXT(t, "[");
    switch (object) {
    case RDB_OBJ_ZSET:
        text_json_string(t, el->value);
        TEXT(t, ",");
        text_double(t, el->score);
        break;
    case RDB_OBJ_ARRAY:
        text_u64(t, el->at);
        member(t, SLICE(","), el->value);
        break;
    case RDB_OBJ_PATH_HASH:
        text_json_string(t, el->path);
        TEXT(t, ",");
        // fallthrough
    default:
        text_json_string(t, el->field);
        member(t, SLICE(","), el->value);
        break;
    }
    if (el->expire_ms >= 0) {
        TEXT(t, ",");
        text_i64(t, el->expire_ms);
    }
    TEXT(t, "]");
}

// The elements of what is no stream and no string.
static int collection(struct print *p, enum rdb_object object, struct err *e)
{
    struct text *t = &p->t;
    struct rdb_element el;
    int rc;
    bool first = true;
    TEXT(t, "[");
    while ((rc = rdb_input_element(p->in, PRINT_WHOLE, &el, e)) == RDB_ITEM) {
        if (!first)
            TEXT(t, ",");
        first = false;
        element(t, object, &el);
        text_flow(t);
    }
    TEXT(t, "]");
    return rc < 0 ? rc : 0;
}

// What is open in the text of a stream. Levels close in this order.
struct stream_text {
    int64_t pairs_left; // of the entry
    bool any_entry, group, consumer, pending, nacked, idmp;
};

static void close_consumer(struct text *t, struct stream_text *s)
{
    if (s->consumer)
        TEXT(t, "]}");
    s->consumer = s->pending = false;
}

static void close_group(struct text *t, struct stream_text *s)
{
    close_consumer(t, s);
    if (s->group)
        TEXT(t, "]}");
    s->nacked = false;
}

static void pending(struct text *t, struct slice begin, const struct rdb_element *el)
{
    named_id(t, begin, el->id_ms, el->id_seq);
    named_i64(t, SLICE(",\"delivery_time\":"), el->delivery_time_ms);
    named_u64(t, SLICE(",\"delivery_count\":"), el->delivery_count);
    TEXT(t, "}");
}

// Closes the list of groups.
static void stream_idmp(struct text *t, struct stream_text *s, const struct rdb_element *el)
{
    close_group(t, s);
    named_u64(t, SLICE("],\"idmp\":{\"duration\":"), el->idmp_duration_s);
    named_u64(t, SLICE(",\"max_entries\":"), el->idmp_max);
    TEXT(t, ",\"entries\":[");
    s->group = s->pending = false;
    s->idmp = true;
}

static void stream_idmp_entry(struct text *t, struct stream_text *s, const struct rdb_element *el)
{
    member(t, s->pending ? SLICE(",{\"producer\":") : SLICE("{\"producer\":"), el->field);
    member(t, SLICE(",\"message\":"), el->value);
    named_id(t, SLICE(",\"id\":"), el->id_ms, el->id_seq);
    TEXT(t, "}");
    s->pending = true;
}

// Behind the consumers of the group.
static void stream_nacked(struct text *t, struct stream_text *s, const struct rdb_element *el)
{
    close_consumer(t, s);
    pending(t, s->nacked ? SLICE(",{\"id\":") : SLICE("],\"nacked\":[{\"id\":"), el);
    s->nacked = true;
}

static void stream_meta(struct text *t, const struct rdb_element *el)
{
    named_u64(t, SLICE("],\"length\":"), el->length);
    named_id(t, SLICE(",\"last_id\":"), el->id_ms, el->id_seq);
    named_id(t, SLICE(",\"first_id\":"), el->first_ms, el->first_seq);
    named_id(t, SLICE(",\"max_deleted_id\":"), el->max_deleted_ms, el->max_deleted_seq);
    named_u64(t, SLICE(",\"entries_added\":"), el->entries_added);
    TEXT(t, ",\"groups\":[");
}

static void stream_consumer(struct text *t, struct stream_text *s, const struct rdb_element *el)
{
    bool more = s->consumer;
    close_consumer(t, s);
    if (more)
        TEXT(t, ",");
    TEXT(t, "{\"name\":");
    text_json_string(t, el->value);
    named_i64(t, SLICE(",\"seen_time\":"), el->seen_ms);
    named_i64(t, SLICE(",\"active_time\":"), el->active_ms);
    TEXT(t, ",\"pending\":[");
    s->consumer = true;
}

static void stream_step(struct text *t, struct stream_text *s, const struct rdb_element *el)
{
    switch ((enum rdb_stream_step)el->stream_step) {
    case RDB_STREAM_ENTRY:
        named_id(t, s->any_entry ? SLICE(",{\"id\":") : SLICE("{\"id\":"), el->id_ms, el->id_seq);
        TEXT(t, ",\"fields\":[");
        s->any_entry = true;
        s->pairs_left = el->pairs;
        if (el->pairs == 0)
            TEXT(t, "]}");
        break;
    case RDB_STREAM_FIELD:
        TEXT(t, "[");
        text_json_string(t, el->field);
        TEXT(t, ",");
        text_json_string(t, el->value);
        text_put(t, --s->pairs_left ? SLICE("],") : SLICE("]]}"));
        break;
    case RDB_STREAM_META:
        stream_meta(t, el);
        break;
    case RDB_STREAM_GROUP:
        close_group(t, s);
        text_put(t, s->group ? SLICE(",{\"name\":") : SLICE("{\"name\":"));
        text_json_string(t, el->value);
        named_id(t, SLICE(",\"last_delivered_id\":"), el->id_ms, el->id_seq);
        named_i64(t, SLICE(",\"entries_read\":"), el->entries_read);
        TEXT(t, ",\"consumers\":[");
        s->group = true;
        break;
    case RDB_STREAM_CONSUMER:
        stream_consumer(t, s, el);
        break;
    case RDB_STREAM_PENDING:
        pending(t, s->pending ? SLICE(",{\"id\":") : SLICE("{\"id\":"), el);
        s->pending = true;
        break;
    case RDB_STREAM_NACKED:
        stream_nacked(t, s, el);
        break;
    case RDB_STREAM_IDMP:
        stream_idmp(t, s, el);
        break;
    case RDB_STREAM_IDMP_ENTRY:
        stream_idmp_entry(t, s, el);
        break;
    case RDB_STREAM_IDMP_TOTALS:
        named_u64(t, SLICE("],\"added\":"), el->idmp_added);
        named_u64(t, SLICE(",\"duplicates\":"), el->idmp_duplicates);
        break;
    }
}

static int stream(struct print *p, struct err *e)
{
    struct text *t = &p->t;
    struct stream_text s = {0};
    struct rdb_element el;
    int rc;
    TEXT(t, "{\"entries\":[");
    while ((rc = rdb_input_element(p->in, PRINT_WHOLE, &el, e)) == RDB_ITEM) {
        stream_step(t, &s, &el);
        text_flow(t);
    }
    close_group(t, &s);
    text_put(t, s.idmp ? SLICE("}}") : SLICE("]}"));
    return rc < 0 ? rc : 0;
}

static int value(struct print *p, const struct rdb_item *item, struct err *e)
{
    switch (item->object) {
    case RDB_OBJ_STRING:
        return print_json_string(p, e);
    case RDB_OBJ_STREAM:
        return stream(p, e);
    case RDB_OBJ_MODULE:
        TEXT(&p->t, "null");
        return 0;
    default:
        return collection(p, item->object, e);
    }
}

// jsonl: an object a line.

static void command(struct text *t, const struct rdb_item *item)
{
    struct resp_cmd c = {0};
    named_i64(t, SLICE(",\"db\":"), item->db);
    TEXT(t, ",\"args\":[");
    // The reader has found it well-formed.
    if (resp_cmd_parse(&c, item->value.p, item->value.n) == 1)
        for (int i = 0; i < c.argc; i++)
            member(t, i ? SLICE(",") : SLICE(""), c.argv[i]);
    TEXT(t, "]");
    resp_cmd_free(&c);
}

static int jsonl_other(struct print *p, const struct rdb_item *item, struct err *e)
{
    (void)e;
    struct text *t = &p->t;
    switch (item->kind) {
    case RDB_KIND_AUX:
        member(t, SLICE("{\"type\":\"aux\",\"name\":"), item->key);
        member(t, SLICE(",\"value\":"), item->value);
        break;
    case RDB_KIND_FUNCTION:
        member(t, SLICE("{\"type\":\"function\",\"code\":"), item->value);
        break;
    case RDB_KIND_MODULE_AUX:
        member(t, SLICE("{\"type\":\"module_aux\",\"module\":"), slice_cstr(item->module_name));
        break;
    case RDB_KIND_SLOT_IMPORT:
        member(t, SLICE("{\"type\":\"slot_import\",\"job\":"), item->key);
        member(t, SLICE(",\"slots\":"), item->value);
        break;
    case RDB_KIND_SKIPPED:
        member(t, SLICE("{\"type\":\"skipped\",\"what\":"), item->value);
        break;
    case RDB_KIND_COMMAND:
        TEXT(t, "{\"type\":\"command\"");
        command(t, item);
        break;
    default:
        return 0;
    }
    TEXT(t, "}\n");
    return 0;
}

static int jsonl_key(struct print *p, const struct rdb_item *item, struct err *e)
{
    struct text *t = &p->t;
    TEXT(t, "{\"db\":");
    text_i64(t, item->db);
    if (!p->no_key) {
        TEXT(t, ",\"key\":");
        text_json_string(t, item->key);
    }
    TEXT(t, ",\"type\":\"");
    text_put(t, slice_cstr(rdb_object_name(item->object)));
    named_i64(t, SLICE("\",\"expire_at\":"), item->expire_ms);
    if (item->idle_s >= 0)
        named_i64(t, SLICE(",\"idle\":"), item->idle_s);
    if (item->freq >= 0)
        named_i64(t, SLICE(",\"freq\":"), item->freq);
    int rc = 0;
    if (!p->no_value) {
        TEXT(t, ",\"value\":");
        rc = value(p, item, e);
    }
    TEXT(t, "}\n");
    return rc;
}

const struct print_format print_jsonl = {
    .name = "jsonl",
    .other = jsonl_other,
    .key = jsonl_key,
};

// json: the same objects in an array.

static void json_begin(struct print *p)
{
    TEXT(&p->t, "[\n");
}

static void separate(struct print *p)
{
    if (p->any)
        TEXT(&p->t, ",");
}

static int json_other(struct print *p, const struct rdb_item *item, struct err *e)
{
    separate(p);
    return jsonl_other(p, item, e);
}

static int json_key(struct print *p, const struct rdb_item *item, struct err *e)
{
    separate(p);
    return jsonl_key(p, item, e);
}

static void json_end(struct print *p)
{
    TEXT(&p->t, "]\n");
}

const struct print_format print_json = {
    .name = "json",
    .begin = json_begin,
    .other = json_other,
    .key = json_key,
    .end = json_end,
};

// redisGunYu's lines: the value of strings and AUX fields only.

static int line(struct print *p, const struct rdb_item *item, struct slice type, bool aux,
                struct err *e)
{
    struct text *t = &p->t;
    int rc = 0;
    if (p->no_key && p->no_value)
        return 0;
    TEXT(t, "{\"db\":");
    text_i64(t, item->db);
    if (!p->no_key) {
        TEXT(t, ", \"key\":");
        text_json_string(t, item->key);
    }
    if (!p->no_value) {
        TEXT(t, ", \"val\":");
        if (aux)
            text_json_string(t, item->value);
        else if (item->object == RDB_OBJ_STRING)
            rc = print_json_string(p, e);
        else
            TEXT(t, "\"\"");
    }
    TEXT(t, ", \"ttl\":");
    text_i64(t, aux || item->expire_ms < 0 ? 0 : item->expire_ms);
    TEXT(t, ", \"type\":\"");
    text_put(t, type);
    TEXT(t, "\"}\n");
    return rc;
}

static int line_other(struct print *p, const struct rdb_item *item, struct err *e)
{
    return item->kind != RDB_KIND_AUX ? 0 : line(p, item, SLICE("aux"), true, e);
}

static int line_key(struct print *p, const struct rdb_item *item, struct err *e)
{
    return line(p, item, slice_cstr(rdb_object_name(item->object)), false, e);
}

const struct print_format print_line = {.name = "line", .other = line_other, .key = line_key};

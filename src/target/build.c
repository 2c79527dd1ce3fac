// SPDX-License-Identifier: Apache-2.0
#include "target/build.h"

#include <math.h>
#include <stdio.h>

#include "codec/resp.h"
#include "codec/slot.h"
#include "target/load.h"

enum {
    COLLECT_ELEMENTS = 256,
    COLLECT_BYTES = 64 * 1024,
    TEMP_LIFE_MS = 24 * 3600 * 1000, // of a temporary key whose load is never finished
};

void build_free(struct build *u)
{
    buf_free(&u->temp);
    buf_free(&u->key);
    buf_free(&u->args);
    buf_free(&u->ttls);
    *u = (struct build){0};
}

static void arg(struct build *u, struct slice s)
{
    resp_put_bulk(&u->args, s);
    u->argc++;
}

static void arg_u64(struct build *u, uint64_t v)
{
    char tmp[24];
    arg(u, slice_make(tmp, u64_format(tmp, v)));
}

static void arg_i64(struct build *u, int64_t v)
{
    char tmp[24];
    arg(u, slice_make(tmp, i64_format(tmp, v)));
}

static void arg_id(struct build *u, uint64_t ms, uint64_t seq)
{
    char tmp[48];
    size_t n = u64_format(tmp, ms);
    tmp[n++] = '-';
    n += u64_format(tmp + n, seq);
    arg(u, slice_make(tmp, n));
}

static void arg_score(struct build *u, double score)
{
    char tmp[40];
    int n = isinf(score) ? snprintf(tmp, sizeof(tmp), "%s", score > 0 ? "inf" : "-inf")
                         : snprintf(tmp, sizeof(tmp), "%.17g", score);
    arg(u, slice_make(tmp, (size_t)n));
}

static void put_header(struct outq *q, uint32_t argc)
{
    char tmp[24];
    tmp[0] = '*';
    size_t n = 1 + u64_format(tmp + 1, argc);
    memcpy(tmp + n, "\r\n", 2);
    outq_put(q, tmp, n + 2);
}

static void begin_cmd(struct build *u, const char *name);
static void flush_collected(struct build *u);

static void flush_with(struct build *u, uint64_t ref)
{
    struct outq *q = sink_out(u->sink);
    if (u->argc) {
        put_header(q, u->argc);
        outq_put(q, u->args.p, u->args.n);
        sink_cmd(u->sink, ref);
    }
    if (u->ttl_cmds) {
        outq_put(q, u->ttls.p, u->ttls.n);
        for (uint32_t i = 0; i < u->ttl_cmds; i++)
            sink_cmd(u->sink, u->ref);
    }
    // What fits into one command is renamed right behind it.
    bool guard = u->argc && u->started && !u->guarded && u->cmds++ > 0;
    buf_clear(&u->args);
    buf_clear(&u->ttls);
    u->argc = u->elements = u->ttl_cmds = 0;
    if (guard) {
        u->guarded = true;
        begin_cmd(u, "PEXPIRE");
        arg_u64(u, TEMP_LIFE_MS);
        flush_collected(u);
    }
}

static void flush_collected(struct build *u)
{
    flush_with(u, u->ref);
}

static void begin_cmd(struct build *u, const char *name)
{
    arg(u, slice_cstr(name));
    arg(u, buf_slice(&u->temp));
}

// A command of its own, sent at once.
static void one(struct build *u, const char *name)
{
    flush_collected(u);
    begin_cmd(u, name);
}

void build_begin(struct build *u, struct sink *sink, const struct ability *can,
                 const char *temp_tag, const struct rdb_item *item, struct slice key, int slot,
                 int64_t expire_ms, bool no_replace)
{
    buf_clear(&u->temp);
    buf_clear(&u->key);
    buf_clear(&u->args);
    buf_clear(&u->ttls);
    u->sink = sink;
    u->can = can;
    u->object = item->object;
    u->expire_ms = expire_ms;
    u->no_replace = no_replace;
    u->ref = BUILD_REF | item->start;
    u->argc = u->elements = u->ttl_cmds = 0;
    u->pairs_left = 0;
    u->cmds = 0;
    u->run = false;
    u->started = u->guarded = u->part == BUILD_MESSAGES; // upon what BUILD_GROUPS has made
    buf_append_cstr(&u->temp, LOAD_TEMP_PREFIX);
    if (slot >= 0)
        buf_printf(&u->temp, "{%s}:", slot_tag(slot));
    buf_printf(&u->temp, "%s:%llu", temp_tag, (unsigned long long)item->start);
    buf_append_slice(&u->key, key);
}

// What an interrupted attempt left under the name must not become part of the value.
static void start(struct build *u)
{
    one(u, "DEL");
    flush_collected(u);
    u->started = true;
}

static void hash_field_expiry(struct build *u, struct slice field, int64_t ms)
{
    struct slice temp = buf_slice(&u->temp);
    resp_put_cmd(&u->ttls, "HPEXPIREAT %b %L FIELDS 1 %b", &temp, ms, &field);
    u->ttl_cmds++;
}

static void collect(struct build *u, const char *name)
{
    if (u->elements >= COLLECT_ELEMENTS || u->args.n >= COLLECT_BYTES)
        flush_collected(u);
    if (u->argc == 0)
        begin_cmd(u, name);
    u->elements++;
}

static void made_up_message(struct build *u, uint64_t ms, uint64_t seq)
{
    arg_id(u, ms, seq);
    arg(u, SLICE("x"));
    arg(u, SLICE("y"));
}

// Makes the stream without messages.
static void empty_stream(struct build *u)
{
    one(u, "XADD");
    arg(u, SLICE("MAXLEN"));
    arg_u64(u, 0);
    made_up_message(u, 0, 1);
}

// The next message of the empty stream may have any id.
static void rewind_ids(struct build *u)
{
    one(u, "XSETID");
    arg_id(u, 0, 0);
    flush_collected(u);
}

// Removes what the claims of a consumer were made upon. XDEL would raise the highest deleted id,
// below which no id can be set.
static void end_run(struct build *u)
{
    if (!u->run)
        return;
    u->run = false;
    one(u, "XTRIM");
    arg(u, SLICE("MAXLEN"));
    arg_u64(u, 0);
    rewind_ids(u);
}

static void stream_meta(struct build *u, const struct rdb_element *el)
{
    if (u->part == BUILD_GROUPS) {
        empty_stream(u);
        one(u, "XSETID");
        arg_id(u, 0, 0);
        if (u->can->stream_counters) { // a group's entries-read is bounded by it
            arg(u, SLICE("ENTRIESADDED"));
            arg_u64(u, el->entries_added);
        }
        flush_collected(u);
        return;
    }
    if (el->length == 0 && u->part == BUILD_WHOLE)
        empty_stream(u);
    one(u, "XSETID");
    arg_id(u, el->id_ms, el->id_seq);
    if (u->can->stream_counters) {
        arg(u, SLICE("ENTRIESADDED"));
        arg_u64(u, el->entries_added);
        arg(u, SLICE("MAXDELETEDID"));
        arg_id(u, el->max_deleted_ms, el->max_deleted_seq);
    }
    flush_collected(u);
}

static void stream_group(struct build *u, const struct rdb_element *el)
{
    end_run(u);
    flush_collected(u);
    arg(u, SLICE("XGROUP"));
    arg(u, SLICE("CREATE"));
    arg(u, buf_slice(&u->temp));
    arg(u, el->value);
    arg_id(u, el->id_ms, el->id_seq);
    if (u->can->stream_counters) {
        arg(u, SLICE("ENTRIESREAD"));
        arg_i64(u, el->entries_read);
    }
    flush_collected(u);
}

static void stream_consumer(struct build *u, const struct rdb_element *el)
{
    end_run(u);
    flush_collected(u);
    if (u->can->create_consumer) {
        arg(u, SLICE("XGROUP"));
        arg(u, SLICE("CREATECONSUMER"));
        arg(u, buf_slice(&u->temp));
        arg(u, el->field);
        arg(u, el->value);
    } else { // comes to be by asking for what is pending for it
        arg(u, SLICE("XREADGROUP"));
        arg(u, SLICE("GROUP"));
        arg(u, el->field);
        arg(u, el->value);
        arg(u, SLICE("STREAMS"));
        arg(u, buf_slice(&u->temp));
        arg_u64(u, 0);
    }
    flush_collected(u);
}

static void stream_pending(struct build *u, const struct rdb_element *el, struct slice consumer)
{
    if (u->part == BUILD_GROUPS) {
        u->run = true;
        one(u, "XADD");
        made_up_message(u, el->id_ms, el->id_seq);
    }
    one(u, "XCLAIM");
    arg(u, el->field);
    arg(u, consumer);
    arg_u64(u, 0);
    arg_id(u, el->id_ms, el->id_seq);
    arg(u, SLICE("TIME"));
    arg_i64(u, el->delivery_time_ms);
    arg(u, SLICE("RETRYCOUNT"));
    arg_u64(u, el->delivery_count);
    arg(u, SLICE("FORCE"));
    arg(u, SLICE("JUSTID"));
    flush_with(u, u->ref | BUILD_REF_CLAIM);
}

static bool left_to_other_part(const struct build *u, enum rdb_stream_step step)
{
    bool group = step == RDB_STREAM_GROUP || step == RDB_STREAM_CONSUMER ||
                 step == RDB_STREAM_PENDING || step == RDB_STREAM_NACKED;
    return (u->part == BUILD_GROUPS && !group && step != RDB_STREAM_META) ||
           (u->part == BUILD_MESSAGES && group);
}

static void stream_step(struct build *u, const struct rdb_element *el)
{
    if (left_to_other_part(u, (enum rdb_stream_step)el->stream_step))
        return;
    switch ((enum rdb_stream_step)el->stream_step) {
    case RDB_STREAM_ENTRY:
        one(u, "XADD");
        arg_id(u, el->id_ms, el->id_seq);
        u->pairs_left = el->pairs;
        break;
    case RDB_STREAM_FIELD:
        arg(u, el->field);
        arg(u, el->value);
        if (--u->pairs_left == 0)
            flush_collected(u);
        break;
    case RDB_STREAM_META:
        stream_meta(u, el);
        break;
    case RDB_STREAM_GROUP:
        stream_group(u, el);
        break;
    case RDB_STREAM_CONSUMER:
        stream_consumer(u, el);
        break;
    case RDB_STREAM_PENDING:
        stream_pending(u, el, el->value);
        break;
    case RDB_STREAM_NACKED:
        end_run(u);
        stream_pending(u, el, SLICE(BUILD_NOBODY));
        break;
    case RDB_STREAM_IDMP:
        one(u, "XCFGSET");
        arg(u, SLICE("IDMP-DURATION"));
        arg_u64(u, el->idmp_duration_s);
        arg(u, SLICE("IDMP-MAXSIZE"));
        arg_u64(u, el->idmp_max);
        flush_collected(u);
        break;
    case RDB_STREAM_IDMP_ENTRY:
        one(u, "XIDMPRECORD");
        arg(u, el->field);
        arg(u, el->value);
        arg_id(u, el->id_ms, el->id_seq);
        flush_collected(u);
        break;
    case RDB_STREAM_IDMP_TOTALS: // counters of the server's own
        break;
    }
}

void build_element(struct build *u, const struct rdb_element *el, int64_t field_expire_ms)
{
    if (!u->started)
        start(u);
    switch (u->object) {
    case RDB_OBJ_STRING:
        one(u, el->at ? "APPEND" : "SET");
        arg(u, el->value);
        flush_collected(u);
        break;
    case RDB_OBJ_LIST:
        collect(u, "RPUSH");
        arg(u, el->value);
        break;
    case RDB_OBJ_SET:
        collect(u, "SADD");
        arg(u, el->value);
        break;
    case RDB_OBJ_ZSET:
        collect(u, "ZADD");
        arg_score(u, el->score);
        arg(u, el->value);
        break;
    case RDB_OBJ_HASH:
        collect(u, u->can->hset_many ? "HSET" : "HMSET");
        arg(u, el->field);
        arg(u, el->value);
        if (field_expire_ms >= 0)
            hash_field_expiry(u, el->field, field_expire_ms);
        break;
    case RDB_OBJ_STREAM:
        stream_step(u, el);
        break;
    case RDB_OBJ_ARRAY:
        collect(u, "ARMSET");
        arg_u64(u, el->at);
        arg(u, el->value);
        u->insert_index = el->insert_index;
        break;
    case RDB_OBJ_PATH_HASH:
    case RDB_OBJ_MODULE:
        break;
    }
}

void build_end_groups(struct build *u)
{
    end_run(u);
    flush_collected(u);
}

void build_finish(struct build *u)
{
    flush_collected(u);
    if (!u->started)
        return;
    if (u->object == RDB_OBJ_ARRAY && u->insert_index < RDB_NO_INDEX - 1) {
        one(u, "ARSEEK");
        arg_u64(u, u->insert_index + 1);
    }
    bool was_guarded = u->guarded;
    u->guarded = true; // no guard from here on, it would replace the expiry
    if (u->expire_ms >= 0) {
        one(u, "PEXPIREAT");
        arg_i64(u, u->expire_ms);
    } else if (was_guarded) {
        one(u, "PERSIST");
    }
    one(u, u->no_replace ? "RENAMENX" : "RENAME");
    arg(u, buf_slice(&u->key));
    struct outq *q = sink_out(u->sink);
    put_header(q, u->argc);
    outq_put(q, u->args.p, u->args.n);
    sink_cmd(u->sink, u->ref | BUILD_REF_RENAME);
    buf_clear(&u->args);
    u->argc = 0;
    if (u->no_replace) {
        begin_cmd(u, "DEL");
        flush_collected(u);
    }
}

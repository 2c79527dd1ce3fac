// SPDX-License-Identifier: Apache-2.0
#include "rdb/commands_out.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "codec/dump.h"
#include "codec/rdb_types.h"
#include "codec/resp.h"

enum {
    COLLECT_ELEMENTS = 256,
    COLLECT_BYTES = 64 * 1024,
    PIECE = 256 * 1024,
    RESTORE_MAX = 512 << 20, // the largest payload that servers take by default
    STREAM_WHOLE = 8 << 20,  // of a stream that is read twice
};

struct commands_out {
    struct rdb_out *out;
    struct commands_out_options o;
    struct ability can;
    int db;
    struct buf key, args; // args: those of the command being collected
    size_t argc, elements;
    struct buf ttls;    // HPEXPIREAT commands to follow the fields
    int64_t pairs_left; // of the stream entry being collected
    uint64_t lost[LOSSES];
};

struct commands_out *commands_out_new(struct rdb_out *out, const struct commands_out_options *o)
{
    struct commands_out *c = xcalloc(1, sizeof(*c));
    c->out = out;
    c->o = *o;
    ability_of(&c->can, o->version, o->is_valkey);
    return c;
}

void commands_out_free(struct commands_out *c)
{
    if (!c)
        return;
    buf_free(&c->key);
    buf_free(&c->args);
    buf_free(&c->ttls);
    free(c);
}

static void put(struct commands_out *c, const void *p, size_t n)
{
    rdb_out_write(c->out, p, n, NULL);
}

static void put_number(struct commands_out *c, char mark, uint64_t n)
{
    char text[32] = {mark};
    size_t len = 1 + u64_format(text + 1, n);
    memcpy(text + len, "\r\n", 2);
    put(c, text, len + 2);
}

// A whole command by resp_put_cmd's format.
static void command(struct commands_out *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    buf_clear(&c->args);
    resp_put_vcmd(&c->args, fmt, ap);
    va_end(ap);
    put(c, c->args.p, c->args.n);
    buf_clear(&c->args);
}

static void arg(struct commands_out *c, struct slice s)
{
    resp_put_bulk(&c->args, s);
    c->argc++;
}

static void arg_u64(struct commands_out *c, uint64_t v)
{
    char text[24];
    arg(c, slice_make(text, u64_format(text, v)));
}

static void arg_i64(struct commands_out *c, int64_t v)
{
    char text[24];
    arg(c, slice_make(text, i64_format(text, v)));
}

static void arg_id(struct commands_out *c, uint64_t ms, uint64_t seq)
{
    char text[48];
    size_t n = u64_format(text, ms);
    text[n++] = '-';
    n += u64_format(text + n, seq);
    arg(c, slice_make(text, n));
}

static void arg_score(struct commands_out *c, double score)
{
    char text[40];
    int n = isinf(score) ? snprintf(text, sizeof(text), "%s", score > 0 ? "inf" : "-inf")
                         : snprintf(text, sizeof(text), "%.17g", score);
    arg(c, slice_make(text, (size_t)n));
}

static void flush(struct commands_out *c)
{
    if (c->argc) {
        put_number(c, '*', c->argc);
        put(c, c->args.p, c->args.n);
    }
    put(c, c->ttls.p, c->ttls.n);
    buf_clear(&c->args);
    buf_clear(&c->ttls);
    c->argc = c->elements = 0;
}

static void begin(struct commands_out *c, const char *name)
{
    flush(c);
    arg(c, slice_cstr(name));
    arg(c, buf_slice(&c->key));
}

static void collect(struct commands_out *c, const char *name)
{
    if (c->elements >= COLLECT_ELEMENTS || c->args.n >= COLLECT_BYTES)
        flush(c);
    if (c->argc == 0)
        begin(c, name);
    c->elements++;
}

// One command, whatever its size: its length is known before its bytes.
static void string_piece(struct commands_out *c, const struct rdb_element *el)
{
    if (el->at == 0) {
        put(c, "*3\r\n$3\r\nSET\r\n", 13);
        put_number(c, '$', c->key.n);
        put(c, c->key.p, c->key.n);
        put(c, "\r\n", 2);
        put_number(c, '$', el->total);
    }
    put(c, el->value.p, el->value.n);
    if (el->at + el->value.n == el->total)
        put(c, "\r\n", 2);
}

static void hash_field(struct commands_out *c, const struct rdb_element *el)
{
    collect(c, c->can.hset_many ? "HSET" : "HMSET");
    arg(c, el->field);
    arg(c, el->value);
    if (el->expire_ms < 0)
        return;
    struct slice key = buf_slice(&c->key);
    resp_put_cmd(&c->ttls, "HPEXPIREAT %b %L FIELDS 1 %b", &key, el->expire_ms, &el->field);
}

static void stream_meta(struct commands_out *c, const struct rdb_element *el)
{
    if (el->length == 0) {
        // An empty stream comes to be by adding an entry that is trimmed at once.
        begin(c, "XADD");
        arg(c, SLICE("MAXLEN"));
        arg_u64(c, 0);
        arg_id(c, 0, 1);
        arg(c, SLICE("x"));
        arg(c, SLICE("y"));
    }
    begin(c, "XSETID");
    arg_id(c, el->id_ms, el->id_seq);
    if (c->can.stream_counters) {
        arg(c, SLICE("ENTRIESADDED"));
        arg_u64(c, el->entries_added);
        arg(c, SLICE("MAXDELETEDID"));
        arg_id(c, el->max_deleted_ms, el->max_deleted_seq);
    }
    flush(c);
}

static void stream_group(struct commands_out *c, const char *subcommand, struct slice group)
{
    flush(c);
    arg(c, SLICE("XGROUP"));
    arg(c, slice_cstr(subcommand));
    arg(c, buf_slice(&c->key));
    arg(c, group);
}

static void stream_pending(struct commands_out *c, const struct rdb_element *el)
{
    begin(c, "XCLAIM");
    arg(c, el->field);
    arg(c, el->value);
    arg_u64(c, 0);
    arg_id(c, el->id_ms, el->id_seq);
    arg(c, SLICE("TIME"));
    arg_i64(c, el->delivery_time_ms);
    arg(c, SLICE("RETRYCOUNT"));
    arg_u64(c, el->delivery_count);
    arg(c, SLICE("FORCE"));
    arg(c, SLICE("JUSTID"));
    flush(c);
}

static void stream_step(struct commands_out *c, const struct rdb_element *el)
{
    switch ((enum rdb_stream_step)el->stream_step) {
    case RDB_STREAM_ENTRY:
        begin(c, "XADD");
        arg_id(c, el->id_ms, el->id_seq);
        c->pairs_left = el->pairs;
        break;
    case RDB_STREAM_FIELD:
        arg(c, el->field);
        arg(c, el->value);
        if (--c->pairs_left == 0)
            flush(c);
        break;
    case RDB_STREAM_META:
        stream_meta(c, el);
        break;
    case RDB_STREAM_GROUP:
        stream_group(c, "CREATE", el->value);
        arg_id(c, el->id_ms, el->id_seq);
        if (c->can.stream_counters) {
            arg(c, SLICE("ENTRIESREAD"));
            arg_i64(c, el->entries_read);
        }
        flush(c);
        break;
    case RDB_STREAM_CONSUMER:
        if (c->can.create_consumer) {
            stream_group(c, "CREATECONSUMER", el->field);
            arg(c, el->value);
            flush(c);
        }
        break;
    case RDB_STREAM_PENDING:
        stream_pending(c, el);
        break;
    case RDB_STREAM_NACKED:
    case RDB_STREAM_IDMP:
    case RDB_STREAM_IDMP_ENTRY:
    case RDB_STREAM_IDMP_TOTALS:
        break;
    }
}

static void element(struct commands_out *c, enum rdb_object object, const struct rdb_element *el)
{
    switch (object) {
    case RDB_OBJ_STRING:
        string_piece(c, el);
        break;
    case RDB_OBJ_LIST:
        collect(c, "RPUSH");
        arg(c, el->value);
        break;
    case RDB_OBJ_SET:
        collect(c, "SADD");
        arg(c, el->value);
        break;
    case RDB_OBJ_ZSET:
        collect(c, "ZADD");
        arg_score(c, el->score);
        arg(c, el->value);
        break;
    case RDB_OBJ_HASH:
        hash_field(c, el);
        break;
    case RDB_OBJ_STREAM:
        stream_step(c, el);
        break;
    default:
        break;
    }
}

// 0 when the loss is accepted.
static int lose(struct commands_out *c, bool of_key, enum loss what, struct err *e)
{
    if (c->o.degrade) {
        c->lost[what]++;
        return 0;
    }
    char server[64], key[120] = "";
    ability_name(&c->can, server, sizeof(server));
    if (of_key)
        snprintf(key, sizeof(key), "key \"%.*s\": ", (int)(c->key.n < 100 ? c->key.n : 100),
                 c->key.n ? c->key.p : "");
    return err_set(e, ERR_UNSUPPORTED, "%s%s cannot hold %s, or has no command for it", key, server,
                   loss_words(what));
}

static int restore(struct commands_out *c, struct rdb_input *in, const struct rdb_item *item,
                   struct err *e)
{
    struct slice raw;
    int rc = rdb_input_raw(in, RESTORE_MAX, &raw, e);
    if (rc == RDB_TOO_BIG)
        return err_set(e, ERR_TOO_BIG, "key \"%.*s\" is too big for one RESTORE",
                       (int)(c->key.n < 100 ? c->key.n : 100), c->key.p);
    if (rc < 0)
        return rc;
    uint8_t trailer[DUMP_TRAILER];
    int version = rdb_version(rdb_input_reader(in));
    if (version > c->can.rdb_version)
        version = c->can.rdb_version;
    dump_trailer(item->type, raw, (uint16_t)version, trailer);
    put(c, "*5\r\n$7\r\nRESTORE\r\n", 17);
    put_number(c, '$', c->key.n);
    put(c, c->key.p, c->key.n);
    put(c, "\r\n$1\r\n0\r\n", 9);
    put_number(c, '$', 1 + raw.n + DUMP_TRAILER);
    put(c, &item->type, 1);
    put(c, raw.p, raw.n);
    put(c, trailer, sizeof(trailer));
    put(c, "\r\n$7\r\nREPLACE\r\n", 15);
    return RDB_DONE;
}

// Whether elements tell all of it, and there are commands for them.
static bool has_commands(const struct rdb_item *item)
{
    return item->object <= RDB_OBJ_STREAM && item->type < 26;
}

static bool can_restore(const struct commands_out *c, struct rdb_input *in,
                        const struct rdb_item *item)
{
    return rdb_type_known_to(item->type, rdb_is_valkey(rdb_input_reader(in)), c->can.rdb_version,
                             c->can.is_valkey);
}

// No command makes an entry of a group pending whose message was deleted. A stream that may have
// such ones is copied as it is.
static int stream_as_bytes(struct rdb_input *in, const struct rdb_item *item, bool *as_bytes,
                           struct err *e)
{
    struct slice raw;
    struct rdb_element el;
    // Streams of the first version do not tell whether a message was deleted.
    bool deleted = item->type == 15, pending = false;
    *as_bytes = false;
    int rc = rdb_input_raw(in, STREAM_WHOLE, &raw, e);
    if (rc == RDB_TOO_BIG)
        return 0;
    if (rc < 0)
        return rc;
    rdb_input_again(in);
    while ((rc = rdb_input_element(in, PIECE, &el, e)) == RDB_ITEM) {
        if (el.stream_step == RDB_STREAM_META)
            deleted = deleted || el.entries_added != el.length;
        pending = pending || el.stream_step == RDB_STREAM_PENDING;
    }
    if (rc < 0)
        return rc;
    rdb_input_again(in);
    *as_bytes = deleted && pending;
    return 0;
}

// What the element means that the server may not be able to hold; LOSSES: nothing.
static enum loss risk(const struct rdb_item *item, const struct rdb_element *el)
{
    if (item->object == RDB_OBJ_HASH)
        return el->expire_ms >= 0 ? LOSS_FIELD_EXPIRY : LOSSES;
    if (item->object != RDB_OBJ_STREAM)
        return LOSSES;
    return el->stream_step == RDB_STREAM_NACKED       ? LOSS_NACK
           : el->stream_step == RDB_STREAM_IDMP_ENTRY ? LOSS_IDMP
                                                      : LOSSES;
}

static int elements(struct commands_out *c, struct rdb_input *in, const struct rdb_item *item,
                    struct err *e)
{
    struct rdb_element el;
    int rc;
    while ((rc = rdb_input_element(in, PIECE, &el, e)) == RDB_ITEM) {
        enum loss what = risk(item, &el);
        // There are no commands that make the last two as they were.
        bool lost = what == LOSS_NACK || what == LOSS_IDMP ||
                    (what != LOSSES && ability_lacks(&c->can, what));
        if (lost) {
            rc = lose(c, true, what, e);
            if (rc)
                return rc;
            el.expire_ms = -1;
        }
        element(c, item->object, &el);
    }
    flush(c);
    return rc;
}

// Of the value as a whole; LOSSES: every server can hold it.
static enum loss loss_of(enum rdb_object object)
{
    switch (object) {
    case RDB_OBJ_STREAM:
        return LOSS_STREAM;
    case RDB_OBJ_MODULE:
        return LOSS_MODULE;
    case RDB_OBJ_ARRAY:
        return LOSS_ARRAY;
    case RDB_OBJ_PATH_HASH:
        return LOSS_PATH_HASH;
    default:
        return LOSSES;
    }
}

int commands_out_key(struct commands_out *c, struct rdb_input *in, const struct rdb_item *item,
                     struct err *e)
{
    buf_clear(&c->key);
    buf_append_slice(&c->key, item->key);
    c->argc = c->elements = 0;
    buf_clear(&c->args);
    buf_clear(&c->ttls);
    enum loss what = loss_of(item->object);
    bool as_bytes = !has_commands(item) && can_restore(c, in, item);
    bool lost = what != LOSSES && ability_lacks(&c->can, what);
    if (lost || (item->object > RDB_OBJ_STREAM && !as_bytes))
        return lose(c, true, what, e);
    if (item->db != c->db) {
        command(c, "SELECT %L", (int64_t)item->db);
        c->db = item->db;
    }
    int rc = item->key_meta ? lose(c, true, LOSS_KEY_META, e) : 0;
    if (rc == 0 && item->object == RDB_OBJ_STREAM && !as_bytes && can_restore(c, in, item))
        rc = stream_as_bytes(in, item, &as_bytes, e);
    if (rc < 0)
        return rc;
    struct slice key = buf_slice(&c->key);
    if (c->o.replace && item->object != RDB_OBJ_STRING && !as_bytes)
        command(c, "DEL %b", &key);
    rc = as_bytes ? restore(c, in, item, e) : elements(c, in, item, e);
    if (rc < 0)
        return rc;
    if (item->expire_ms >= 0)
        command(c, "PEXPIREAT %b %L", &key, item->expire_ms);
    return 0;
}

int commands_out_other(struct commands_out *c, const struct rdb_item *item, struct err *e)
{
    switch (item->kind) {
    case RDB_KIND_FUNCTION:
        if (ability_lacks(&c->can, LOSS_FUNCTION))
            return lose(c, false, LOSS_FUNCTION, e);
        command(c, "FUNCTION LOAD REPLACE %b", &item->value);
        return 0;
    case RDB_KIND_MODULE_AUX:
        return lose(c, false, LOSS_MODULE_AUX, e);
    case RDB_KIND_COMMAND:
        if (item->db != c->db) {
            command(c, "SELECT %L", (int64_t)item->db);
            c->db = item->db;
        }
        put(c, item->value.p, item->value.n);
        return 0;
    default:
        return 0;
    }
}

uint64_t commands_out_lost(const struct commands_out *c, enum loss what)
{
    return c->lost[what];
}

// SPDX-License-Identifier: Apache-2.0
#include "rdb/convert_value.h"

#include <ctype.h>
#include <stdio.h>

#include "base/bytes.h"
#include "codec/rdb_types.h"

#define RAW_LIMIT ((uint64_t)256 << 10) // values up to here are looked at whole, bigger ones stream

enum {
    SINCE_BINARY_SCORES = 8,
    SINCE_FIELD_TTL_REDIS = 12,
    SINCE_FIELD_TTL_VALKEY = 80,
};

enum value_type {
    TYPE_LIST = 1,
    TYPE_SET = 2,
    TYPE_ZSET_TEXT = 3,
    TYPE_HASH = 4,
    TYPE_ZSET = 5,
    TYPE_STREAM_1 = 15,
    TYPE_STREAM_2 = 19,
    TYPE_STREAM_3 = 21,
    TYPE_HASH_TTL_VALKEY = 22,
    TYPE_HASH_TTL_REDIS = 24,
    TYPE_STREAM_4 = 26,
    TYPE_PATH_HASH_VALKEY = 23, // came with commands between the keys
};

void transfer_free(struct transfer *t)
{
    spool_free(&t->spool);
    buf_free(&t->buf);
}

static int spool_to_writer(struct transfer *t, struct rdb_writer *w, struct err *e)
{
    struct slice piece;
    do {
        int rc = spool_get(&t->spool, SPOOL_MEMORY, &piece, e);
        if (rc)
            return rc;
        rdb_write_bytes(w, piece.p, piece.n);
    } while (piece.n);
    return 0;
}

static int out_failed(struct rdb_writer *w, struct err *e)
{
    return rdb_out_failed(rdb_writer_out(w)) ? rdb_out_write(rdb_writer_out(w), "", 0, e) : 0;
}

const char *transfer_key_text(struct slice key, char dst[80])
{
    size_t n = 0;
    for (; n < key.n && n < 79; n++)
        dst[n] = isprint((unsigned char)key.p[n]) ? key.p[n] : '?';
    dst[n] = '\0';
    return dst;
}

// Counts what the target cannot hold, or fails for it. item: NULL for what is of no key.
static int lost(struct transfer *t, struct rdb_input *in, const struct rdb_item *item, enum loss w,
                uint64_t n, struct err *e)
{
    char key[80], where[120] = "";
    if (t->degrade) {
        t->lost[w] += n;
        return 0;
    }
    if (item)
        snprintf(where, sizeof(where), "db %d, key '%s': ", item->db,
                 transfer_key_text(item->key, key));
    return err_set(e, ERR_UNSUPPORTED,
                   "%s: %s%s cannot be held by %sRDB version %d; --degrade leaves out what cannot",
                   rdb_input_name(in), where, loss_words(w), t->target.valkey ? "Valkey " : "",
                   t->target.version);
}

// ---- as it is ----

static int copy_spans(struct rdb_writer *w, struct rdb_input *in, struct err *e)
{
    struct slice piece;
    int rc;
    while ((rc = rdb_input_span(in, &piece, e)) == RDB_ITEM) {
        rdb_write_bytes(w, piece.p, piece.n);
        if (rdb_out_failed(rdb_writer_out(w))) // a full disk need not wait for a big value's end
            return out_failed(w, e);
    }
    return rc < 0 ? rc : 0;
}

// The size decides, and it is known only behind the value.
static int copy_sized(struct transfer *t, struct rdb_writer *w, struct rdb_input *in,
                      const struct rdb_item *item, bool *written, struct err *e)
{
    struct slice piece;
    int rc;
    spool_clear(&t->spool);
    while ((rc = rdb_input_span(in, &piece, e)) == RDB_ITEM)
        spool_put(&t->spool, piece.p, piece.n);
    if (rc < 0)
        return rc;
    *written = selection_wants_size(t->size, t->spool.size);
    if (!*written)
        return 0;
    rdb_write_key(w, item, item->type);
    rc = spool_rewind(&t->spool, e);
    return rc ? rc : spool_to_writer(t, w, e);
}

static int copy_raw(struct transfer *t, struct rdb_writer *w, struct rdb_input *in,
                    const struct rdb_item *item, bool *written, struct err *e)
{
    struct slice raw;
    int rc = rdb_input_raw(in, RAW_LIMIT, &raw, e);
    if (rc < 0)
        return rc;
    if (rc == RDB_TOO_BIG) {
        if (t->size && !selection_wants_size(t->size, UINT64_MAX)) // it has an upper limit
            return copy_sized(t, w, in, item, written, e);
        if (t->size && !selection_wants_size(t->size, RAW_LIMIT + 1))
            return copy_sized(t, w, in, item, written, e);
        rdb_write_key(w, item, item->type);
        return copy_spans(w, in, e);
    }
    *written = !t->size || selection_wants_size(t->size, raw.n);
    if (*written) {
        rdb_write_key(w, item, item->type);
        rdb_write_bytes(w, raw.p, raw.n);
    }
    return 0;
}

// ---- a stream as an older version of it ----

// Which parts of a newer stream an older one has.
struct stream_layout {
    uint8_t type;
    int meta, group; // lengths kept of those behind the entries, and behind a group's name
    bool active;     // a consumer's time of last activity
    bool producers;  // what stands behind the groups
};

// The newest first.
static const struct stream_layout stream_layouts[] = {
    {TYPE_STREAM_4, 8, 3, true, true},
    {TYPE_STREAM_3, 8, 3, true, false},
    {TYPE_STREAM_2, 8, 3, false, false},
    {TYPE_STREAM_1, 3, 2, false, false},
};

static const struct stream_layout *stream_layout(const struct transfer *t)
{
    for (size_t i = 0; i < sizeof(stream_layouts) / sizeof(*stream_layouts); i++)
        if (rdb_type_known_to(stream_layouts[i].type, false, t->target.version, t->target.valkey))
            return &stream_layouts[i];
    return NULL;
}

// Where the walk over a stream is.
struct stream_walk {
    const struct stream_layout *layout;
    int lengths, keep; // since the stream's or the group's head
    int loops;         // begun since a group's head
    bool after_consumer, tail, groups;
    uint64_t consumers, consumers_at; // of the group: how many, where that stands in the spool
    uint64_t unowned, producers;      // pending entries of nobody; messages of producers
};

// An ID that nobody owns has to have a consumer in older versions.
static const char unowned_name[] = "gunyu:nacked";

static void put_fixed_len(char dst[9], uint64_t v)
{
    dst[0] = (char)0x81;
    store_be64(dst + 1, v);
}

// The third loop of a group: IDs that nobody owns, which become those of a consumer of their own.
static void begin_unowned(struct transfer *t, struct stream_walk *s, uint64_t n)
{
    char len[9];
    if (n == 0)
        return;
    s->unowned += n;
    put_fixed_len(len, s->consumers + 1);
    spool_patch(&t->spool, s->consumers_at, len, sizeof(len));
    buf_clear(&t->buf);
    rdb_put_string(&t->buf, SLICE(unowned_name));
    rdb_put_i64(&t->buf, t->now_ms);
    if (s->layout->active)
        rdb_put_i64(&t->buf, t->now_ms);
    rdb_put_len(&t->buf, n);
    spool_put(&t->spool, t->buf.p, t->buf.n);
}

// A length that says how often what follows is there. False when it is not to be copied.
static bool stream_loop(struct transfer *t, struct stream_walk *s, struct slice piece)
{
    if (!s->groups || s->tail || s->after_consumer)
        return true;
    s->loops++;
    if (s->loops == 2) { // consumers: their number may grow
        char len[9];
        s->consumers = rdb_get_len(piece);
        s->consumers_at = t->spool.size;
        put_fixed_len(len, s->consumers);
        spool_put(&t->spool, len, sizeof(len));
        return false;
    }
    if (s->loops == 3) {
        begin_unowned(t, s, rdb_get_len(piece));
        return false;
    }
    return true;
}

static bool stream_keeps(struct transfer *t, struct stream_walk *s, char op, struct slice piece)
{
    bool keep = true;
    switch (op) {
    case 'G':
        s->groups = true;
        s->lengths = s->loops = 0;
        s->keep = s->layout->group;
        break;
    case 'x':
        s->lengths++;
        // Behind the last group begins what is known of producers.
        if (s->lengths > (s->groups ? 3 : 8))
            s->tail = true;
        keep = s->tail || s->lengths <= s->keep;
        break;
    case 'v':
        keep = s->layout->active;
        break;
    case '(':
        keep = stream_loop(t, s, piece);
        break;
    case 'k':
        s->producers++;
        break;
    default:
        break;
    }
    s->after_consumer = op == 'c';
    return keep && (!s->tail || s->layout->producers);
}

static int convert_stream(struct transfer *t, struct rdb_writer *w, struct rdb_input *in,
                          const struct rdb_item *item, bool *written, struct err *e)
{
    struct stream_walk s = {.layout = stream_layout(t)};
    struct slice piece;
    char op;
    int rc;
    s.keep = s.layout->meta;
    spool_clear(&t->spool);
    while ((rc = rdb_input_step(in, &op, &piece, e)) == RDB_ITEM)
        if (stream_keeps(t, &s, op, piece))
            spool_put(&t->spool, piece.p, piece.n);
    if (rc >= 0)
        rc = spool_rewind(&t->spool, e);
    if (rc == 0 && s.unowned)
        rc = lost(t, in, item, LOSS_NACK, s.unowned, e);
    if (rc == 0 && s.producers && !s.layout->producers)
        rc = lost(t, in, item, LOSS_IDMP, s.producers, e);
    if (rc < 0)
        return rc;
    *written = !t->size || selection_wants_size(t->size, t->spool.size);
    if (!*written)
        return 0;
    rdb_write_key(w, item, s.layout->type);
    return spool_to_writer(t, w, e);
}

// ---- collections, element by element ----

struct collection {
    uint64_t count;
    uint64_t expiring; // fields, those included that have expired
    int64_t lowest_ms; // of the fields' expiries
};

static bool has_field_ttl(const struct transfer *t)
{
    return t->target.version >= (t->target.valkey ? SINCE_FIELD_TTL_VALKEY : SINCE_FIELD_TTL_REDIS);
}

// A field in the spool: its expiry, the size of what follows, name and value as in the file.
static void spool_field(struct transfer *t, const struct rdb_element *el)
{
    char head[16];
    buf_clear(&t->buf);
    rdb_put_string(&t->buf, el->field);
    rdb_put_string(&t->buf, el->value);
    store_le64(head, (uint64_t)el->expire_ms);
    store_le64(head + 8, t->buf.n);
    spool_put(&t->spool, head, sizeof(head));
    spool_put(&t->spool, t->buf.p, t->buf.n);
}

static void spool_member(struct transfer *t, enum rdb_object object, const struct rdb_element *el)
{
    buf_clear(&t->buf);
    rdb_put_string(&t->buf, el->value);
    if (object == RDB_OBJ_ZSET && t->target.version >= SINCE_BINARY_SCORES)
        rdb_put_double(&t->buf, el->score);
    else if (object == RDB_OBJ_ZSET)
        rdb_put_text_double(&t->buf, el->score);
    spool_put(&t->spool, t->buf.p, t->buf.n);
}

// False: not to be kept. Without its expiry an expired field would live again.
static bool take_field(struct transfer *t, struct collection *c, const struct rdb_element *el)
{
    if (el->expire_ms >= 0) {
        c->expiring++;
        if (el->expire_ms <= t->now_ms && !has_field_ttl(t))
            return false;
        if (el->expire_ms < c->lowest_ms)
            c->lowest_ms = el->expire_ms;
    }
    spool_field(t, el);
    return true;
}

static int collect(struct transfer *t, struct rdb_input *in, const struct rdb_item *item,
                   struct collection *c, struct err *e)
{
    struct rdb_element el;
    int rc;
    *c = (struct collection){.lowest_ms = INT64_MAX};
    spool_clear(&t->spool);
    while (!t->spool.failure.code && (rc = rdb_input_element(in, SIZE_MAX, &el, e)) == RDB_ITEM) {
        if (item->object != RDB_OBJ_HASH)
            spool_member(t, item->object, &el);
        else if (!take_field(t, c, &el))
            continue;
        c->count++;
    }
    return !t->spool.failure.code && rc < 0 ? rc : spool_rewind(&t->spool, e);
}

static uint8_t collection_type(const struct transfer *t, enum rdb_object object, bool expires)
{
    switch (object) {
    case RDB_OBJ_LIST:
        return TYPE_LIST;
    case RDB_OBJ_SET:
        return TYPE_SET;
    case RDB_OBJ_ZSET:
        return t->target.version >= SINCE_BINARY_SCORES ? TYPE_ZSET : TYPE_ZSET_TEXT;
    default:
        break;
    }
    if (!expires || !has_field_ttl(t))
        return TYPE_HASH;
    return t->target.valkey ? TYPE_HASH_TTL_VALKEY : TYPE_HASH_TTL_REDIS;
}

static int copy_n(struct transfer *t, struct rdb_writer *w, uint64_t n, struct err *e)
{
    struct slice piece;
    for (; n; n -= piece.n) {
        int rc = spool_get(&t->spool, n < SPOOL_MEMORY ? (size_t)n : SPOOL_MEMORY, &piece, e);
        if (rc)
            return rc;
        must(piece.n > 0);
        rdb_write_bytes(w, piece.p, piece.n);
    }
    return 0;
}

static int write_fields(struct transfer *t, struct rdb_writer *w, const struct collection *c,
                        uint8_t type, struct err *e)
{
    char head[16], expiry[8];
    for (uint64_t i = 0; i < c->count; i++) {
        int rc = spool_read(&t->spool, head, sizeof(head), e);
        if (rc)
            return rc;
        int64_t expire_ms = (int64_t)load_le64(head);
        // Counted from the lowest one, which is 1; 0 is none.
        if (type == TYPE_HASH_TTL_REDIS)
            rdb_write_len(w, expire_ms < 0 ? 0 : (uint64_t)(expire_ms - c->lowest_ms + 1));
        rc = copy_n(t, w, load_le64(head + 8), e);
        if (rc)
            return rc;
        store_le64(expiry, (uint64_t)expire_ms);
        if (type == TYPE_HASH_TTL_VALKEY)
            rdb_write_bytes(w, expiry, sizeof(expiry));
    }
    return 0;
}

static int convert_collection(struct transfer *t, struct rdb_writer *w, struct rdb_input *in,
                              const struct rdb_item *item, bool *written, struct err *e)
{
    struct collection c;
    int rc = collect(t, in, item, &c, e);
    uint8_t type = collection_type(t, item->object, c.expiring > 0);
    if (rc == 0 && c.expiring && type == TYPE_HASH)
        rc = lost(t, in, item, LOSS_FIELD_EXPIRY, c.expiring, e);
    if (rc)
        return rc;
    *written = c.count > 0 && (!t->size || selection_wants_size(t->size, t->spool.size));
    if (!*written)
        return 0;
    rdb_write_key(w, item, type);
    if (type == TYPE_HASH_TTL_REDIS) {
        char lowest[8];
        store_le64(lowest, (uint64_t)c.lowest_ms);
        rdb_write_bytes(w, lowest, sizeof(lowest));
    }
    rdb_write_len(w, c.count);
    if (item->object == RDB_OBJ_HASH)
        return write_fields(t, w, &c, type, e);
    return spool_to_writer(t, w, e);
}

// ---- which way ----

typedef int convert_fn(struct transfer *t, struct rdb_writer *w, struct rdb_input *in,
                       const struct rdb_item *item, bool *written, struct err *e);

static int convert_value(struct transfer *t, struct rdb_writer *w, struct rdb_input *in,
                         const struct rdb_item *item, bool *written, struct err *e)
{
    static const struct {
        convert_fn *fn; // NULL: no other form
        enum loss loss;
    } ways[] = {
        [RDB_OBJ_STRING] = {copy_raw, 0},         [RDB_OBJ_LIST] = {convert_collection, 0},
        [RDB_OBJ_SET] = {convert_collection, 0},  [RDB_OBJ_ZSET] = {convert_collection, 0},
        [RDB_OBJ_HASH] = {convert_collection, 0}, [RDB_OBJ_STREAM] = {convert_stream, LOSS_STREAM},
        [RDB_OBJ_ARRAY] = {NULL, LOSS_ARRAY},     [RDB_OBJ_PATH_HASH] = {NULL, LOSS_PATH_HASH},
        [RDB_OBJ_MODULE] = {NULL, LOSS_MODULE},
    };
    enum rdb_object o = item->object;
    if (ways[o].fn && (o != RDB_OBJ_STREAM || stream_layout(t)))
        return ways[o].fn(t, w, in, item, written, e);
    *written = false;
    int rc = lost(t, in, item, ways[o].loss, 1, e);
    if (rc == 0)
        rc = rdb_input_skip(in, e);
    return rc < 0 ? rc : 0;
}

int transfer_key(struct transfer *t, struct rdb_writer *w, struct rdb_input *in,
                 const struct rdb_item *item, bool *written, struct err *e)
{
    bool mine;
    if (!written)
        written = &mine;
    *written = true;
    bool known = rdb_type_known_to(item->type, rdb_is_valkey(rdb_input_reader(in)),
                                   t->target.version, t->target.valkey);
    int rc = (known ? copy_raw : convert_value)(t, w, in, item, written, e);
    if (rc == 0 && *written && item->key_meta)
        rc = lost(t, in, item, LOSS_KEY_META, item->key_meta, e);
    if (rc == 0)
        rc = out_failed(w, e);
    t->keys += rc == 0 && *written;
    return rc;
}

// ---- what is no key ----

static bool of_replication(struct slice name)
{
    static const char *const names[] = {"repl-stream-db", "repl-id", "repl-offset", "aof-preamble",
                                        "aof-base"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (slice_eq(name, slice_cstr(names[i])))
            return true;
    return false;
}

static int transfer_function(struct transfer *t, struct rdb_writer *const *w, size_t n,
                             struct rdb_input *in, const struct rdb_item *item, struct err *e)
{
    if (!rdb_writer_has_functions(w[0]))
        return lost(t, in, NULL, LOSS_FUNCTION, 1, e);
    for (size_t i = 0; i < n; i++)
        rdb_write_function(w[i], item->value);
    return 0;
}

static int transfer_module_aux(struct transfer *t, struct rdb_writer *const *w, size_t n,
                               struct rdb_input *in, const struct rdb_item *item, struct err *e)
{
    struct slice piece;
    int rc;
    if (!rdb_writer_has_module_aux(w[0]))
        return lost(t, in, NULL, LOSS_MODULE_AUX, 1, e);
    for (size_t i = 0; i < n; i++)
        rdb_write_module_aux(w[i], item->module_id);
    while ((rc = rdb_input_span(in, &piece, e)) == RDB_ITEM)
        for (size_t i = 0; i < n; i++)
            rdb_write_bytes(w[i], piece.p, piece.n);
    return rc < 0 ? rc : 0;
}

// Commands change keys that stand before them, wherever these went.
static int transfer_command(struct transfer *t, struct rdb_writer *const *w, struct rdb_input *in,
                            const struct rdb_item *item, struct err *e)
{
    if (!t->whole ||
        !rdb_type_known_to(TYPE_PATH_HASH_VALKEY, true, t->target.version, t->target.valkey))
        return err_set(
            e, ERR_UNSUPPORTED,
            "%s: was saved while its server went on, and holds commands between its keys; "
            "load it into a server and dump it from there",
            rdb_input_name(in));
    rdb_write_command(*w, item->db, item->value);
    return 0;
}

int transfer_other(struct transfer *t, struct rdb_writer *const *w, size_t n, struct rdb_input *in,
                   const struct rdb_item *item, struct err *e)
{
    switch (item->kind) {
    case RDB_KIND_AUX:
        for (size_t i = 0; i < n && !of_replication(item->key); i++)
            rdb_write_aux(w[i], item->key, item->value);
        return 0;
    case RDB_KIND_FUNCTION:
        return transfer_function(t, w, n, in, item, e);
    case RDB_KIND_MODULE_AUX:
        return transfer_module_aux(t, w, n, in, item, e);
    case RDB_KIND_COMMAND:
        return transfer_command(t, w, in, item, e);
    case RDB_KIND_SLOT_IMPORT:
        t->imports++;
        if (t->degrade)
            return 0;
        return err_set(
            e, ERR_UNSUPPORTED,
            "%s: was saved while its server took over slots %.*s; --degrade writes their "
            "keys as if it had them",
            rdb_input_name(in), item->value.n > 80 ? 80 : (int)item->value.n, item->value.p);
    default:
        return 0;
    }
}

void transfer_describe_losses(const struct transfer *t, struct buf *dst)
{
    buf_clear(dst);
    for (int i = 0; i < LOSSES; i++) {
        if (!t->lost[i])
            continue;
        buf_append_cstr(dst, dst->n ? ", " : "");
        buf_printf(dst, "%llu %s", (unsigned long long)t->lost[i], loss_words((enum loss)i));
    }
    if (t->imports)
        buf_printf(dst, "%s%llu imports of slots", dst->n ? ", " : "",
                   (unsigned long long)t->imports);
}

// SPDX-License-Identifier: Apache-2.0
#include "rdb/report.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"

const char *const report_ttl_names[REPORT_TTLS] = {
    [REPORT_TTL_NONE] = "no expiry",    [REPORT_TTL_EXPIRED] = "expired",
    [REPORT_TTL_HOUR] = "< 1 hour",     [REPORT_TTL_DAY] = "< 1 day",
    [REPORT_TTL_WEEK] = "< 7 days",     [REPORT_TTL_MONTH] = "< 30 days",
    [REPORT_TTL_QUARTER] = "< 90 days", [REPORT_TTL_YEAR] = "< 1 year",
    [REPORT_TTL_MORE] = ">= 1 year",
};

const char *const report_histogram_names[REPORT_HISTOGRAMS] = {
    [REPORT_KEY_LENGTH] = "key_length",
    [REPORT_KEY_MEMORY] = "memory",
    [REPORT_ELEMENTS] = "elements",
};

struct report *report_new(const struct report_options *o)
{
    struct report *r = xcalloc(1, sizeof(*r));
    r->o = o;
    r->now_ms = clock_unix_ms();
    r->slots = xcalloc(SLOT_COUNT, sizeof(*r->slots));
    r->prefixes = prefix_tree_new(&o->prefix);
    top_init(&r->by_memory, o->top);
    top_init(&r->by_elements, o->top);
    if (o->duplicates_min > 0)
        r->duplicates = duplicates_new(REPORT_DUPLICATE_GROUPS);
    return r;
}

void report_free(struct report *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->files_n; i++) {
        free(r->files[i].name);
        free(r->files[i].server);
    }
    free(r->files);
    free(r->dbs);
    free(r->slots);
    prefix_tree_free(r->prefixes);
    top_free(&r->by_memory);
    top_free(&r->by_elements);
    duplicates_free(r->duplicates);
    free(r);
}

unsigned report_bit(uint64_t v)
{
    unsigned bit = v ? 64 - (unsigned)__builtin_clzll(v) : 0;
    return bit < REPORT_BITS ? bit : REPORT_BITS - 1;
}

static void count_add(struct report_count *to, const struct report_count *c)
{
    to->keys += c->keys;
    to->bytes += c->bytes;
    to->elements += c->elements;
    to->serialized += c->serialized;
    to->expiring += c->expiring;
}

static void bucket_add(struct report_bucket *b, uint64_t bytes)
{
    b->keys++;
    b->bytes += bytes;
}

static enum report_ttl ttl_of(int64_t expire_ms, int64_t now_ms)
{
    static const int64_t days[REPORT_TTLS] = {
        [REPORT_TTL_DAY] = 1,      [REPORT_TTL_WEEK] = 7,   [REPORT_TTL_MONTH] = 30,
        [REPORT_TTL_QUARTER] = 90, [REPORT_TTL_YEAR] = 365,
    };
    if (expire_ms < 0)
        return REPORT_TTL_NONE;
    if (expire_ms <= now_ms)
        return REPORT_TTL_EXPIRED;
    uint64_t left = (uint64_t)expire_ms - (uint64_t)now_ms;
    if (left < 3600000)
        return REPORT_TTL_HOUR;
    for (int i = REPORT_TTL_DAY; i < REPORT_TTL_MORE; i++)
        if (left < (uint64_t)days[i] * 86400000)
            return (enum report_ttl)i;
    return REPORT_TTL_MORE;
}

// A pass over one file.
struct pass {
    struct report *r;
    struct report_file *file;
    struct memory_meter meter;
    uint64_t serialized;
    bool hashing; // a value of several pieces
    XXH128_hash_t hash;
    XXH3_state_t *state; // owns
    struct report_db *db;
    struct report_bucket *slot;
};

static struct report_db *db_of(struct report *r, int db)
{
    for (size_t i = 0; i < r->dbs_n; i++)
        if (r->dbs[i].db == db)
            return &r->dbs[i];
    if (r->dbs_n == REPORT_DBS)
        db = -1;
    if (r->dbs_n > REPORT_DBS)
        return &r->dbs[REPORT_DBS];
    r->dbs = xrealloc(r->dbs, (r->dbs_n + 1) * sizeof(*r->dbs));
    r->dbs[r->dbs_n] = (struct report_db){.db = db};
    return &r->dbs[r->dbs_n++];
}

static void take_bytes(void *arg, struct slice piece, bool last)
{
    struct pass *p = arg;
    p->serialized += piece.n;
    if (p->r->o->duplicates_min == 0)
        return;
    // Nearly all values come in one piece.
    if (last && !p->hashing) {
        p->hash = XXH3_128bits_withSeed(piece.p, piece.n, p->meter.row->type);
        return;
    }
    if (!p->hashing)
        XXH3_128bits_reset_withSeed(p->state, p->meter.row->type);
    p->hashing = true;
    XXH3_128bits_update(p->state, piece.p, piece.n);
    if (last) {
        p->hash = XXH3_128bits_digest(p->state);
        p->hashing = false;
    }
}

// The meter's other calls take the meter itself.
static void take_string(void *arg, char op, uint64_t size, struct slice head, uint64_t entries)
{
    memory_string(&((struct pass *)arg)->meter, op, size, head, entries);
}

static void take_number(void *arg, char op, uint64_t v)
{
    memory_number(&((struct pass *)arg)->meter, op, v);
}

static void take_stream_id(void *arg, char op, const uint8_t id[16])
{
    memory_stream_id(&((struct pass *)arg)->meter, op, id);
}

static void count_key(struct pass *p, const struct rdb_item *item, const struct memory_result *m)
{
    struct report *r = p->r;
    bool expires = item->expire_ms >= 0;
    prefix_tree_add(r->prefixes, item->key,
                    &(struct prefix_count){1, m->bytes, m->elements, expires});
    const struct report_count c = {1, m->bytes, m->elements, p->serialized, expires};
    count_add(&r->all, &c);
    count_add(&r->encodings[item->object][m->encoding], &c);
    if (!p->db || p->db->db != item->db)
        p->db = db_of(r, item->db);
    count_add(&p->db->count, &c);
    p->file->keys++;
    int64_t now = p->file->created_ms >= 0 ? p->file->created_ms : r->now_ms;
    bucket_add(&r->ttl[ttl_of(item->expire_ms, now)], m->bytes);
    bucket_add(p->slot, m->bytes);
    bucket_add(&r->histogram[REPORT_KEY_LENGTH][report_bit(item->key.n)], m->bytes);
    bucket_add(&r->histogram[REPORT_KEY_MEMORY][report_bit(m->bytes)], m->bytes);
    if (item->object != RDB_OBJ_STRING && item->object != RDB_OBJ_MODULE)
        bucket_add(&r->histogram[REPORT_ELEMENTS][report_bit(m->elements)], m->bytes);
}

static void list_key(struct pass *p, const struct rdb_item *item, const struct memory_result *m)
{
    struct report *r = p->r;
    struct top_key key = {
        .bytes = m->bytes,
        .elements = m->elements,
        .serialized = p->serialized,
        .expire_ms = item->expire_ms,
        .db = item->db,
        .object = item->object,
        .encoding = m->encoding,
    };
    if (r->duplicates && m->bytes >= r->o->duplicates_min)
        duplicates_add(r->duplicates, p->hash, &key, item->key);
    key.rank = m->bytes;
    if (top_wants(&r->by_memory, key.rank))
        top_add(&r->by_memory, &key, item->key);
    key.rank = item->object == RDB_OBJ_STRING || item->object == RDB_OBJ_MODULE ? 0 : m->elements;
    if (top_wants(&r->by_elements, key.rank))
        top_add(&r->by_elements, &key, item->key);
}

static int take_key(struct pass *p, struct rdb_input *in, const struct rdb_item *item,
                    const struct selection *wanted, struct err *e)
{
    const struct rdb_meter meter = {p, take_string, take_number, take_stream_id, take_bytes};
    struct rdb_reader *reader = rdb_input_reader(in);
    if (!selection_wants(wanted, item, p->r->now_ms))
        return rdb_input_skip(in, e);
    const struct rdb_type *row = rdb_type_find(item->type, rdb_is_valkey(reader));
    must(row);
    p->serialized = 0;
    p->hashing = false;
    p->slot = &p->r->slots[slot_of(item->key)];
    __builtin_prefetch(p->slot, 1);
    memory_begin(&p->meter, &p->file->model, item, row, rdb_version(reader));
    int rc = rdb_input_measure(in, &meter, e);
    if (rc < 0 || (selection_has_size(wanted) && !selection_wants_size(wanted, p->serialized)))
        return rc;
    if (p->r->duplicates)
        duplicates_prefetch(p->r->duplicates, p->hash);
    const struct memory_result m = memory_end(&p->meter, p->serialized);
    count_key(p, item, &m);
    list_key(p, item, &m);
    if (p->meter.field_expiries)
        p->r->field_expiry_hashes++;
    return 0;
}

static void take_aux(struct pass *p, const struct rdb_item *item)
{
    struct report_file *f = p->file;
    bool valkey = slice_eq(item->key, SLICE("valkey-ver"));
    int64_t seconds;
    if (valkey || slice_eq(item->key, SLICE("redis-ver"))) {
        free(f->server);
        f->server = xasprintf("%s %.*s", valkey ? "Valkey" : "Redis",
                              item->value.n < 40 ? (int)item->value.n : 40, item->value.p);
        if (!p->r->o->model)
            f->model.layout = memory_layout_of(valkey, item->value);
    } else if (slice_eq(item->key, SLICE("ctime")) && slice_i64(item->value, &seconds) &&
               seconds >= 0 && seconds < INT64_MAX / 1000) {
        f->created_ms = seconds * 1000;
    } else if (slice_eq(item->key, SLICE("used-mem"))) {
        slice_u64(item->value, &f->used_memory);
    }
}

// The tables of dbs: one for the keys, one for their expiries, of each file by itself.
struct db_tables {
    uint64_t keys, expiring;
};

static uint64_t table_bytes(const struct memory_model *m, uint64_t keys, uint64_t expiring)
{
    if (keys == 0)
        return 0;
    uint64_t n = memory_table(m, keys);
    if (expiring == 0)
        return n;
    // Redis has an entry of its own for an expiry, Valkey has it in the object.
    return n + memory_table(m, expiring) + (m->layout->key_inside ? 0 : 24 * expiring);
}

static int read_items(struct pass *p, struct rdb_input *in, const struct selection *wanted,
                      struct err *e)
{
    struct report *r = p->r;
    struct rdb_reader *reader = rdb_input_reader(in);
    struct rdb_item item = {0};
    int rc;
    while ((rc = rdb_input_next(in, &item, e)) == RDB_ITEM) {
        if (item.kind == RDB_KIND_KEY) {
            rc = take_key(p, in, &item, wanted, e);
            if (rc < 0)
                return rc;
            continue;
        }
        if (item.kind == RDB_KIND_AUX)
            take_aux(p, &item);
        r->commands += item.kind == RDB_KIND_COMMAND;
        r->functions += item.kind == RDB_KIND_FUNCTION;
        r->module_aux += item.kind == RDB_KIND_MODULE_AUX;
    }
    if (rc < 0)
        return rc;
    p->file->rdb_version = rdb_version(reader);
    p->file->valkey = rdb_is_valkey(reader);
    p->file->bytes = rdb_needs_from(reader);
    return 0;
}

int report_add(struct report *r, const char *path, const struct rdb_input_options *input,
               const struct selection *wanted, struct err *e)
{
    struct rdb_input *in;
    int rc = rdb_input_open(&in, path, input, e);
    if (rc)
        return rc;
    r->files = xrealloc(r->files, (r->files_n + 1) * sizeof(*r->files));
    struct report_file *f = &r->files[r->files_n++];
    *f = (struct report_file){
        .name = xstrdup(rdb_input_name(in)),
        .server = xstrdup(""),
        .created_ms = -1,
        .model = {.layout = r->o->model ? r->o->model : memory_layout_of(false, SLICE("")),
                  .quantum = r->o->quantum},
    };
    struct pass p = {.r = r, .file = f, .state = XXH3_createState()};
    must(p.state);
    struct db_tables *before = xcalloc(r->dbs_n + 1, sizeof(*before));
    size_t before_n = r->dbs_n;
    for (size_t i = 0; i < before_n; i++)
        before[i] = (struct db_tables){r->dbs[i].count.keys, r->dbs[i].count.expiring};
    rc = read_items(&p, in, wanted, e);
    for (size_t i = 0; i < r->dbs_n; i++) {
        struct db_tables old = i < before_n ? before[i] : (struct db_tables){0};
        r->table_bytes += table_bytes(&f->model, r->dbs[i].count.keys - old.keys,
                                      r->dbs[i].count.expiring - old.expiring);
    }
    free(before);
    XXH3_freeState(p.state);
    rdb_input_close(in);
    return rc;
}

// Length of the UTF-8 character at p, 0 when there is none.
static size_t utf8_length(const uint8_t *p, size_t n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = *p < 0x80 ? 1 : *p < 0xc2 ? 0 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : *p < 0xf5 ? 4 : 0;
    if (len == 0 || len > n)
        return 0;
    uint32_t v = len == 1 ? *p : *p & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        v = v << 6 | (p[i] & 0x3f);
    }
    bool surrogate = v >= 0xd800 && v < 0xe000;
    // Marks that turn the direction of writing or end lines would garble a table.
    bool unsafe = (v >= 0x80 && v < 0xa0) || (v >= 0x200b && v <= 0x200f) ||
                  (v >= 0x2028 && v <= 0x202e) || (v >= 0x2060 && v <= 0x206f) || v == 0xfeff;
    return v < least[len] || v > 0x10ffff || surrogate || unsafe ? 0 : len;
}

void report_readable(struct slice s, struct buf *out)
{
    static const struct {
        char byte;
        const char *text;
    } named[] = {{'\n', "\\n"}, {'\r', "\\r"}, {'\t', "\\t"}, {'\\', "\\\\"}};
    for (size_t i = 0; i < s.n;) {
        const uint8_t *p = (const uint8_t *)s.p + i;
        size_t len = *p < 0x20 || *p == 0x7f || *p == '\\' ? 0 : utf8_length(p, s.n - i);
        if (len > 0) {
            buf_append(out, p, len);
            i += len;
            continue;
        }
        size_t j = 0;
        while (j < sizeof(named) / sizeof(*named) && named[j].byte != s.p[i])
            j++;
        if (j < sizeof(named) / sizeof(*named))
            buf_append_cstr(out, named[j].text);
        else
            buf_printf(out, "\\x%02x", *p);
        i++;
    }
}

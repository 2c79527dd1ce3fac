// SPDX-License-Identifier: Apache-2.0
// A running server as one side: SCAN, then values as DUMP payloads, which go through the same
// reader as a file's. Big collections are read in pieces by the commands of their type, so that
// neither side holds a payload of them.
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "codec/dump.h"
#include "rdb/diff_int.h"
#include "redis/client.h"

enum {
    TIMEOUT_MS = 60000,
    SCAN_COUNT = 256,
    BIG = 4 << 20,         // estimated bytes; above: in pieces
    DUMP_WINDOW = 8 << 20, // estimated bytes that are asked for at once
    PIECE = 1 << 20,       // bytes of a string
    PAGE = 1 << 20,        // bytes of a collection, about
    FIRST_ELEMENTS = 16,   // of its first page
    MOST_ELEMENTS = 5000,
    ATTEMPTS = 5, // to see a set or hash that does not change meanwhile
    ELEMENT_PIECE = 64 << 10,
};

struct live_key {
    size_t at, n; // in names
    enum rdb_object object;
    int64_t expire_ms;
    uint64_t bytes; // estimated
    bool wanted;
};

struct live {
    struct diff_side *side;
    struct redis_client *c;
    struct redis_server server;
    bool has_expiretime, has_field_ttl;
    int64_t ahead_ms; // its clock against ours
    int db;
    struct diff_digest digest;
    struct rdb_reader *reader;
    struct buf cmd, cursor, names;
    struct live_key *keys; // owns
    size_t keys_n, keys_cap;
};

static struct slice key_name(const struct live *l, const struct live_key *k)
{
    return slice_make(l->names.p + k->at, k->n);
}

static int refused(const struct live *l, const struct redis_reply *r, const char *what,
                   struct err *e)
{
    return err_set(e, ERR_REPLY, "%s answered %s: %.*s", l->side->shown, what,
                   r->root.text.n > 200 ? 200 : (int)r->root.text.n, r->root.text.p);
}

static int odd(const struct live *l, const char *what, struct err *e)
{
    return err_set(e, ERR_PROTOCOL, "%s sent an unexpected reply to %s", l->side->shown, what);
}

static enum rdb_object object_of(struct slice type)
{
    for (int o = RDB_OBJ_STRING; o < RDB_OBJ_MODULE; o++)
        if (slice_eq(type, slice_cstr(rdb_object_name((enum rdb_object)o))))
            return (enum rdb_object)o;
    return RDB_OBJ_MODULE;
}

// ---- what is there ----

// One page of SCAN into names and keys.
static int scan_page(struct live *l, struct err *e)
{
    struct redis_reply r;
    struct resp_node n;
    struct slice cursor = buf_slice(&l->cursor);
    int rc = redis_call(l->c, &r, e, "SCAN %b COUNT %d", &cursor, SCAN_COUNT);
    if (rc)
        return rc;
    size_t pos = r.first_child;
    if (r.root.type != RESP_ARRAY || r.root.num != 2 || !resp_next(r.p, r.n, &pos, &n))
        return odd(l, "SCAN", e);
    buf_clear(&l->cursor);
    buf_append_slice(&l->cursor, n.text);
    buf_clear(&l->names);
    l->keys_n = 0;
    if (!resp_next(r.p, r.n, &pos, &n) || n.type != RESP_ARRAY)
        return odd(l, "SCAN", e);
    for (int64_t i = n.num; i > 0 && resp_next(r.p, r.n, &pos, &n); i--) {
        if (l->keys_n == l->keys_cap) {
            l->keys_cap = l->keys_cap ? 2 * l->keys_cap : SCAN_COUNT;
            l->keys = xrealloc(l->keys, l->keys_cap * sizeof(*l->keys));
        }
        l->keys[l->keys_n++] = (struct live_key){.at = l->names.n, .n = n.text.n};
        buf_append_slice(&l->names, n.text);
    }
    return 0;
}

static int64_t expiry_of(const struct live *l, const struct redis_reply *r)
{
    if (r->root.type != RESP_INTEGER || r->root.num < 0)
        return -1;
    return l->has_expiretime ? r->root.num : r->root.num + clock_unix_ms() + l->ahead_ms;
}

static int take_facts(struct live *l, struct live_key *k, struct err *e)
{
    struct redis_reply type, expiry, memory;
    enum rdb_object object;
    bool there;
    int rc = redis_receive(l->c, &type, e);
    if (rc)
        return rc;
    if (type.root.type != RESP_STATUS)
        return refused(l, &type, "TYPE", e);
    there = !slice_eq(type.root.text, SLICE("none"));
    object = object_of(type.root.text);
    rc = redis_receive(l->c, &expiry, e);
    if (rc)
        return rc;
    if (expiry.root.type == RESP_ERROR)
        return refused(l, &expiry, "PEXPIRETIME or PTTL", e);
    k->expire_ms = expiry_of(l, &expiry);
    rc = redis_receive(l->c, &memory, e);
    if (rc)
        return rc;
    // Where it is not allowed or not known, everything counts as small.
    k->bytes =
        memory.root.type == RESP_INTEGER && memory.root.num > 0 ? (uint64_t)memory.root.num : 1024;
    k->object = object;
    struct rdb_item item = {.kind = RDB_KIND_KEY,
                            .db = l->db,
                            .key = key_name(l, k),
                            .object = object,
                            .expire_ms = k->expire_ms,
                            .idle_s = -1,
                            .freq = -1};
    k->wanted = there && diff_wants(l->side, &item);
    return 0;
}

static int ask_facts(struct live *l, struct err *e)
{
    buf_clear(&l->cmd);
    for (size_t i = 0; i < l->keys_n; i++) {
        struct slice key = key_name(l, &l->keys[i]);
        resp_put_cmd(&l->cmd, "TYPE %b", &key);
        resp_put_cmd(&l->cmd, l->has_expiretime ? "PEXPIRETIME %b" : "PTTL %b", &key);
        resp_put_cmd(&l->cmd, "MEMORY USAGE %b", &key);
    }
    int rc = redis_send(l->c, buf_slice(&l->cmd), e);
    for (size_t i = 0; rc == 0 && i < l->keys_n; i++)
        rc = take_facts(l, &l->keys[i], e);
    return rc;
}

// ---- small values ----

static int keep(struct live *l, const struct live_key *k, struct err *e)
{
    struct diff_record rec = {.expire_ms = k->expire_ms};
    diff_digest_key(&rec, l->db, key_name(l, k));
    diff_digest_end(&l->digest, &rec);
    return diff_store_add(l->side->store, &rec, key_name(l, k), e);
}

static int decode(struct live *l, const struct live_key *k, struct slice payload, struct err *e)
{
    uint8_t type;
    uint16_t version;
    struct slice raw;
    struct rdb_element el;
    int rc = dump_parse(payload, &type, &raw, &version, e);
    diff_digest_begin(&l->digest, k->object);
    if (rc == 0 && k->object == RDB_OBJ_MODULE) {
        diff_digest_raw(&l->digest, raw);
        return 0;
    }
    if (rc == 0)
        rc = rdb_reader_open_value(l->reader, type, version, e);
    if (rc)
        return rc;
    rdb_feed(l->reader, raw.p, 0, raw.n);
    while ((rc = rdb_value_element(l->reader, ELEMENT_PIECE, &el, e)) == RDB_ITEM)
        diff_digest_element(&l->digest, &el);
    if (rc == RDB_MORE)
        return err_set(e, ERR_CORRUPT, "the payload ends early");
    return rc < 0 ? rc : 0;
}

static int take_dump(struct live *l, const struct live_key *k, struct err *e)
{
    struct redis_reply r;
    int rc = redis_receive(l->c, &r, e);
    if (rc || r.root.type == RESP_NIL) // expired or deleted meanwhile
        return rc;
    if (r.root.type != RESP_BULK)
        return refused(l, &r, "DUMP", e);
    rc = decode(l, k, r.root.text, e);
    if (rc) {
        err_wrap(e, "%s: DUMP of db %d, key \"%.*s\"", l->side->shown, l->db,
                 (int)(k->n < 80 ? k->n : 80), key_name(l, k).p);
        return rc;
    }
    return keep(l, k, e);
}

static bool goes_in_pieces(const struct live_key *k)
{
    return k->bytes > BIG && k->object <= RDB_OBJ_HASH;
}

// DUMPs keys[from, ...) as far as the window allows; *next is where to go on.
static int take_dumps(struct live *l, size_t from, size_t *next, struct err *e)
{
    uint64_t bytes = 0;
    size_t i;
    buf_clear(&l->cmd);
    for (i = from; i < l->keys_n && bytes < DUMP_WINDOW; i++) {
        const struct live_key *k = &l->keys[i];
        struct slice key = key_name(l, k);
        if (!k->wanted || goes_in_pieces(k))
            continue;
        resp_put_cmd(&l->cmd, "DUMP %b", &key);
        bytes += k->bytes;
    }
    *next = i;
    int rc = redis_send(l->c, buf_slice(&l->cmd), e);
    for (size_t at = from; rc == 0 && at < i; at++)
        if (l->keys[at].wanted && !goes_in_pieces(&l->keys[at]))
            rc = take_dump(l, &l->keys[at], e);
    return rc;
}

// ---- big values ----

static int count_elements(struct live *l, const char *command, struct slice key, int64_t *out,
                          struct err *e)
{
    struct redis_reply r;
    int rc = redis_call(l->c, &r, e, "%s %b", command, &key);
    *out = rc ? 0 : r.root.num;
    return rc;
}

static int read_big_string(struct live *l, struct slice key, struct err *e)
{
    for (int64_t at = 0;; at += PIECE) {
        struct redis_reply r;
        int rc = redis_call(l->c, &r, e, "GETRANGE %b %L %L", &key, at, at + PIECE - 1);
        if (rc)
            return rc;
        struct rdb_element el = {.value = r.root.text};
        if (r.root.type != RESP_BULK)
            return odd(l, "GETRANGE", e);
        if (el.value.n)
            diff_digest_element(&l->digest, &el);
        if (el.value.n < PIECE)
            return 0;
    }
}

// Takes the elements of an array reply whose header was read; `per` strings make one.
static int take_elements(struct live *l, const struct redis_reply *r, size_t pos, int64_t n,
                         int per, int64_t *taken, struct err *e)
{
    struct resp_node a, b = {.text = {"", 0}};
    for (; n >= per; n -= per) {
        if (!resp_next(r->p, r->n, &pos, &a) || (per == 2 && !resp_next(r->p, r->n, &pos, &b)))
            return odd(l, "a range", e);
        struct rdb_element el = {.value = a.text, .expire_ms = -1};
        if (l->digest.object == RDB_OBJ_ZSET) {
            char number[64];
            snprintf(number, sizeof(number), "%.*s", b.text.n < 63 ? (int)b.text.n : 63, b.text.p);
            el.score = strtod(number, NULL);
        } else if (per == 2) {
            el.field = a.text;
            el.value = b.text;
        }
        diff_digest_element(&l->digest, &el);
        ++*taken;
    }
    return 0;
}

// How many elements to ask for next, by the size of the last page.
static int next_page(int64_t taken, const struct redis_reply *r)
{
    int64_t fit = PAGE * (taken > 0 ? taken : 1) / (int64_t)(r->n + 1);
    return fit < 1 ? 1 : fit > MOST_ELEMENTS ? MOST_ELEMENTS : (int)fit;
}

// Lists and sorted sets: by rank, where nothing comes twice.
static int read_ranks(struct live *l, struct slice key, struct err *e)
{
    bool zset = l->digest.object == RDB_OBJ_ZSET;
    int page = FIRST_ELEMENTS;
    for (int64_t at = 0;;) {
        struct redis_reply r;
        int64_t taken = 0;
        int rc = redis_call(l->c, &r, e, zset ? "ZRANGE %b %L %L WITHSCORES" : "LRANGE %b %L %L",
                            &key, at, at + page - 1);
        if (rc == 0 && r.root.type != RESP_ARRAY)
            rc = odd(l, "a range", e);
        if (rc == 0)
            rc = take_elements(l, &r, r.first_child, r.root.num, zset ? 2 : 1, &taken, e);
        if (rc || taken < page)
            return rc;
        at += taken;
        page = next_page(taken, &r);
    }
}

// The fields of a hash whose expiries must be asked for as well; r is gone then.
static int take_fields(struct live *l, struct slice key, const struct redis_reply *scan, size_t pos,
                       int64_t n, int64_t *taken, struct err *e)
{
    struct buf page = {0};
    struct redis_reply r = {0};
    struct resp_node node;
    buf_append(&page, scan->p, scan->n);
    buf_clear(&l->cmd);
    resp_put_array(&l->cmd, (size_t)(n / 2) + 4);
    resp_put_bulk(&l->cmd, SLICE("HPEXPIRETIME"));
    resp_put_bulk(&l->cmd, key);
    resp_put_bulk(&l->cmd, SLICE("FIELDS"));
    resp_put_i64(&l->cmd, n / 2);
    size_t at = pos;
    for (int64_t i = 0; i < n && resp_next(page.p, page.n, &at, &node); i++)
        if (i % 2 == 0)
            resp_put_bulk(&l->cmd, node.text);
    int rc = n < 2 ? 0 : redis_call_raw(l->c, buf_slice(&l->cmd), 1, &r, e);
    if (rc == 0 && n >= 2 && (r.root.type != RESP_ARRAY || r.root.num != n / 2))
        rc = odd(l, "HPEXPIRETIME", e);
    size_t ttl_at = r.first_child;
    for (int64_t i = 0; rc == 0 && i < n / 2; i++) {
        struct resp_node field, value, ttl;
        if (!resp_next(page.p, page.n, &pos, &field) || !resp_next(page.p, page.n, &pos, &value) ||
            !resp_next(r.p, r.n, &ttl_at, &ttl)) {
            rc = odd(l, "HSCAN", e);
            break;
        }
        struct rdb_element el = {
            .field = field.text, .value = value.text, .expire_ms = ttl.num >= 0 ? ttl.num : -1};
        diff_digest_element(&l->digest, &el);
        ++*taken;
    }
    buf_free(&page);
    return rc;
}

static int scan_once(struct live *l, struct slice key, int64_t *taken, struct err *e)
{
    bool hash = l->digest.object == RDB_OBJ_HASH;
    struct buf cursor = {0};
    int rc, page = FIRST_ELEMENTS;
    buf_append_char(&cursor, '0');
    do {
        struct redis_reply r = {0};
        struct resp_node n;
        int64_t before = *taken;
        struct slice c = buf_slice(&cursor);
        rc = redis_call(l->c, &r, e, hash ? "HSCAN %b %b COUNT %d" : "SSCAN %b %b COUNT %d", &key,
                        &c, page);
        size_t pos = r.first_child;
        if (rc == 0 &&
            (r.root.type != RESP_ARRAY || r.root.num != 2 || !resp_next(r.p, r.n, &pos, &n)))
            rc = odd(l, "a scan", e);
        if (rc)
            break;
        buf_clear(&cursor);
        buf_append_slice(&cursor, n.text);
        if (!resp_next(r.p, r.n, &pos, &n) || n.type != RESP_ARRAY)
            rc = odd(l, "a scan", e);
        else if (hash && l->has_field_ttl)
            rc = take_fields(l, key, &r, pos, n.num, taken, e);
        else
            rc = take_elements(l, &r, pos, n.num, hash ? 2 : 1, taken, e);
        page = next_page(*taken - before, &r);
    } while (rc == 0 && !slice_eq(buf_slice(&cursor), SLICE("0")));
    buf_free(&cursor);
    return rc;
}

// A scan gives each element at least once; as many as there are means each exactly once.
static int read_scanned(struct live *l, struct slice key, struct err *e)
{
    enum rdb_object object = l->digest.object;
    for (int i = 0; i < ATTEMPTS; i++) {
        int64_t want, taken = 0;
        diff_digest_begin(&l->digest, object);
        int rc = scan_once(l, key, &taken, e);
        if (rc == 0)
            rc = count_elements(l, object == RDB_OBJ_HASH ? "HLEN" : "SCARD", key, &want, e);
        if (rc || taken == want)
            return rc;
    }
    return err_set(e, ERR_REPLY, "%s: db %d, key \"%.*s\" changes while it is read", l->side->shown,
                   l->db, (int)(key.n < 80 ? key.n : 80), key.p);
}

static int read_big(struct live *l, const struct live_key *k, struct err *e)
{
    struct slice key = key_name(l, k);
    int rc;
    diff_digest_begin(&l->digest, k->object);
    if (k->object == RDB_OBJ_STRING)
        rc = read_big_string(l, key, e);
    else if (k->object == RDB_OBJ_LIST || k->object == RDB_OBJ_ZSET)
        rc = read_ranks(l, key, e);
    else
        rc = read_scanned(l, key, e);
    return rc ? rc : keep(l, k, e);
}

// ---- driving ----

static int read_page(struct live *l, struct err *e)
{
    int rc = scan_page(l, e);
    if (rc == 0)
        rc = ask_facts(l, e);
    for (size_t i = 0; rc == 0 && i < l->keys_n;)
        rc = take_dumps(l, i, &i, e);
    for (size_t i = 0; rc == 0 && i < l->keys_n; i++)
        if (l->keys[i].wanted && goes_in_pieces(&l->keys[i]))
            rc = read_big(l, &l->keys[i], e);
    return rc;
}

static int read_db(struct live *l, int db, struct err *e)
{
    int rc = redis_call(l->c, NULL, e, "SELECT %d", db);
    l->db = db;
    buf_clear(&l->cursor);
    buf_append_char(&l->cursor, '0');
    while (rc == 0) {
        rc = read_page(l, e);
        if (slice_eq(buf_slice(&l->cursor), SLICE("0")))
            break;
    }
    return rc;
}

static int read_dbs(struct live *l, struct err *e)
{
    struct redis_reply r;
    int rc = redis_call(l->c, &r, e, "INFO keyspace");
    if (rc)
        return rc;
    struct buf info = {0};
    buf_append_slice(&info, r.root.text);
    const char *p = buf_cstr(&info);
    // Lines as "db3:keys=7,...".
    while (rc == 0 && (p = strstr(p, "\ndb"))) {
        char *end;
        p += 3;
        long db = strtol(p, &end, 10);
        if (end > p && *end == ':' && db >= 0 && db <= INT32_MAX)
            rc = read_db(l, (int)db, e);
    }
    buf_free(&info);
    return rc;
}

static int probe(struct live *l, struct err *e)
{
    struct redis_server *s = &l->server;
    int rc = redis_probe(l->c, s, e);
    if (rc)
        return rc;
    if (s->loading)
        return err_set(e, ERR_REPLY, "%s: LOADING it is loading its data; try later",
                       l->side->shown);
    l->has_expiretime = s->is_valkey || s->version >= 70000;
    l->has_field_ttl = s->is_valkey ? s->version >= 90000 : s->version >= 70400;
    l->ahead_ms = s->clock_ahead_ms;
    l->side->ttl_is_rough = !l->has_expiretime;
    return 0;
}

int diff_read_live(struct diff_side *s, struct err *e)
{
    struct live l = {.side = s};
    struct endpoint ep = s->endpoint;
    ep.db = 0;
    int rc = redis_connect(&l.c, &ep, TIMEOUT_MS, e);
    if (rc)
        return rc;
    l.reader = rdb_reader_new(false);
    diff_digest_init(&l.digest, s->drop_expired ? s->now_ms : 0);
    rc = probe(&l, e);
    if (rc == 0)
        rc = read_dbs(&l, e);
    diff_digest_free(&l.digest);
    rdb_reader_free(l.reader);
    buf_free(&l.cmd);
    buf_free(&l.cursor);
    buf_free(&l.names);
    free(l.keys);
    redis_close(l.c);
    return rc;
}

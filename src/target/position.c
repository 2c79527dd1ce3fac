// SPDX-License-Identifier: Apache-2.0
#include "target/position.h"

#include <limits.h>
#include <stdio.h>

#include "base/log.h"
#include "codec/crc64.h"
#include "codec/slot.h"

// The value is "gunyu/1" and then these fields in this order, marks= only in a cluster, source=
// only where it is known and the last three only while a snapshot loads: "gunyu/1 offset=42 db=3
// far=0 epoch=7 time=1700000000000 marks=5 source=8 rdb=99 rdb_db=0 rdb_version=11". Before there
// is a position: "gunyu/1 epoch=7 time=1700000000000".
#define VALUE_MAGIC "gunyu/1"
#define VALUE_CAP 320

enum {
    F_OFFSET,
    F_DB,
    F_FAR,
    F_EPOCH,
    F_TIME,
    F_MARKS,
    F_SOURCE,
    F_RDB_INDEX,
    F_RDB_DB,
    F_RDB_VERSION,
    F_COUNT,
};

static const struct {
    struct slice name; // with its separators
    uint64_t max;
} fields[F_COUNT] = {
    [F_OFFSET] = {{" offset=", 8}, INT64_MAX},
    [F_DB] = {{" db=", 4}, INT_MAX},
    [F_FAR] = {{" far=", 5}, 1},
    [F_EPOCH] = {{" epoch=", 7}, UINT64_MAX},
    [F_TIME] = {{" time=", 6}, INT64_MAX},
    [F_MARKS] = {{" marks=", 7}, UINT64_MAX},
    [F_SOURCE] = {{" source=", 8}, UINT64_MAX},
    [F_RDB_INDEX] = {{" rdb=", 5}, UINT64_MAX},
    [F_RDB_DB] = {{" rdb_db=", 8}, INT_MAX},
    [F_RDB_VERSION] = {{" rdb_version=", 13}, INT_MAX},
};

static bool is_optional(int field)
{
    return field == F_MARKS || field == F_SOURCE;
}

// ---- the record ----

uint64_t position_source(const char *tag)
{
    uint64_t source = crc64_update(0, tag, strlen(tag));
    return source ? source : 1;
}

struct slice position_key(const char *replid, char *dst)
{
    const size_t prefix = sizeof(POSITION_PREFIX) - 1;
    size_t n = strnlen(replid, REPLID_LEN);
    memcpy(dst, POSITION_PREFIX, prefix);
    memcpy(dst + prefix, replid, n);
    return slice_make(dst, prefix + n);
}

void position_put(struct buf *b, const struct position *p, int64_t now_ms)
{
    must(p->offset >= 0 && p->db >= 0 && now_ms >= 0);
    must(!p->loading || (p->rdb_db >= 0 && p->rdb_version >= 0));
    const uint64_t values[F_COUNT] = {
        [F_OFFSET] = (uint64_t)p->offset, [F_DB] = (uint64_t)p->db,
        [F_FAR] = p->far_expiries,        [F_EPOCH] = p->epoch,
        [F_TIME] = (uint64_t)now_ms,      [F_MARKS] = p->marks,
        [F_SOURCE] = p->source,           [F_RDB_INDEX] = p->rdb_index,
        [F_RDB_DB] = (uint64_t)p->rdb_db, [F_RDB_VERSION] = (uint64_t)p->rdb_version,
    };
    char text[VALUE_CAP], key[64];
    size_t n = sizeof(VALUE_MAGIC) - 1;
    memcpy(text, VALUE_MAGIC, n);
    for (int i = 0; i < (p->loading ? F_COUNT : F_RDB_INDEX); i++) {
        if (is_optional(i) && !values[i])
            continue;
        memcpy(text + n, fields[i].name.p, fields[i].name.n);
        n += fields[i].name.n;
        n += u64_format(text + n, values[i]);
    }
    const struct slice argv[] = {SLICE("SET"), position_key(p->replid, key), {text, n}};
    resp_put_argv(b, 3, argv);
}

struct slice position_turns_key(const char *replid, char *dst)
{
    char key[64];
    const char *tag = slot_tag(slot_of(position_key(replid, key)));
    int n = snprintf(dst, 128, TURNS_PREFIX "%.*s:{%s}", REPLID_LEN, replid, tag);
    return slice_make(dst, (size_t)n);
}

void position_put_turns(struct buf *b, const char *replid, struct slice record)
{
    char key[128];
    const struct slice argv[] = {SLICE("SET"), position_turns_key(replid, key), record};
    resp_put_argv(b, 3, argv);
}

int position_read_turns(struct redis_client *r, const char *id, struct buf *out, struct err *e)
{
    char name[128];
    struct slice key = position_turns_key(id, name);
    struct redis_reply reply = {0};
    int rc = redis_call(r, &reply, e, "GET %b", &key);
    if (rc == 0 && reply.root.type == RESP_BULK)
        buf_append_slice(out, reply.root.text);
    return rc;
}

void position_put_del(struct buf *b, const char *replid)
{
    char key[64], turns[128];
    const struct slice argv[] = {SLICE("DEL"), position_key(replid, key),
                                 position_turns_key(replid, turns)};
    resp_put_argv(b, 3, argv);
}

void position_put_epoch(struct buf *b, const char *replid, struct slice value, uint64_t epoch,
                        int64_t now_ms)
{
    char text[2 * VALUE_CAP], key[64];
    struct slice name = fields[F_EPOCH].name, rest = {0};
    struct position p;
    size_t n = sizeof(VALUE_MAGIC) - 1;
    memcpy(text, VALUE_MAGIC, n);
    if (value.n <= VALUE_CAP && position_parse(replid, value, &p)) {
        const char *at = memmem(value.p, value.n, name.p, name.n);
        n = (size_t)(at - value.p);
        memcpy(text, value.p, n);
        rest = slice_make(at + name.n, value.n - n - name.n);
        while (rest.n && *rest.p != ' ')
            rest = slice_make(rest.p + 1, rest.n - 1);
    }
    memcpy(text + n, name.p, name.n);
    n += name.n;
    n += u64_format(text + n, epoch);
    memcpy(text + n, rest.p ? rest.p : "", rest.n);
    n += rest.n;
    if (!rest.n) {
        memcpy(text + n, fields[F_TIME].name.p, fields[F_TIME].name.n);
        n += fields[F_TIME].name.n;
        n += u64_format(text + n, (uint64_t)now_ms);
    }
    const struct slice argv[] = {SLICE("SET"), position_key(replid, key), {text, n}};
    resp_put_argv(b, 3, argv);
}

// Takes one field off the front of *s.
static bool take_field(struct slice *s, int i, uint64_t *out)
{
    if (!slice_has_prefix(*s, fields[i].name))
        return false;
    const char *p = s->p + fields[i].name.n;
    size_t left = s->n - fields[i].name.n, n = 0;
    while (n < left && p[n] != ' ')
        n++;
    *s = slice_make(p + n, left - n);
    return slice_u64(slice_make(p, n), out) && *out <= fields[i].max;
}

bool position_parse(const char *replid, struct slice value, struct position *out)
{
    size_t idlen = strnlen(replid, REPLID_LEN + 1);
    if (idlen == 0 || idlen > REPLID_LEN || !slice_has_prefix(value, SLICE(VALUE_MAGIC)))
        return false;
    uint64_t v[F_COUNT] = {0};
    struct slice s =
        slice_make(value.p + sizeof(VALUE_MAGIC) - 1, value.n - sizeof(VALUE_MAGIC) + 1);
    bool epoch_only = slice_has_prefix(s, fields[F_EPOCH].name);
    int n = epoch_only ? F_EPOCH : 0;
    for (; n < F_COUNT && s.n > 0; n++)
        if (!take_field(&s, n, &v[n]) && !is_optional(n))
            return false;
    if (s.n > 0 ||
        (n != F_MARKS && (epoch_only || (n > F_RDB_INDEX && n < F_COUNT) || n < F_MARKS)))
        return false;
    *out = (struct position){
        .offset = (int64_t)v[F_OFFSET],
        .db = (int)v[F_DB],
        .loading = n == F_COUNT,
        .rdb_index = v[F_RDB_INDEX],
        .rdb_db = (int)v[F_RDB_DB],
        .rdb_version = (int)v[F_RDB_VERSION],
        .far_expiries = v[F_FAR] != 0,
        .epoch = v[F_EPOCH],
        .time_ms = (int64_t)v[F_TIME],
        .marks = v[F_MARKS],
        .source = v[F_SOURCE],
        .epoch_only = epoch_only,
    };
    memcpy(out->replid, replid, idlen);
    return true;
}

// A replication id as a server tells it: not "", and not the forty zeros of "none".
static bool id_given(const char *id)
{
    size_t n = strnlen(id, REPLID_LEN + 1);
    return n > 0 && n <= REPLID_LEN && strspn(id, "0") != n;
}

static int select_db(struct redis_client *r, int db, struct err *e)
{
    struct redis_reply reply = {0};
    return redis_call(r, &reply, e, "SELECT %d", db);
}

// ---- our own record ----

int position_read_own(struct redis_client *r, const char *id, struct position *out, bool *found,
                      struct err *e)
{
    if (!id_given(id))
        return 0;
    char name[64];
    struct slice key = position_key(id, name);
    struct redis_reply reply = {0};
    int rc = redis_call(r, &reply, e, "GET %b", &key);
    if (rc < 0) {
        err_wrap(e, "reading the position %.*s from the target", (int)key.n, key.p);
        return rc;
    }
    if (reply.root.type != RESP_BULK)
        return 0;
    bool read = position_parse(id, reply.root.text, out);
    *found = read && !out->epoch_only;
    if (!read)
        log_warn(NULL,
                 "the position %.*s in the target is not one that this version can read; it is "
                 "ignored, a full sync will replace it",
                 (int)key.n, key.p);
    return 0;
}

// ---- redisGunYu's record ----

#define FOREIGN_NAME_MAX 512
#define FOREIGN_DBS_MAX 65536

struct foreign {
    int64_t offset, mtime_ns;
    int db;
};

// A record that is not there for us: of another type, or not permitted to this user.
static bool reply_means_none(int rc, const struct redis_reply *reply)
{
    return rc == ERR_REPLY && (slice_has_prefix(reply->root.text, SLICE("WRONGTYPE")) ||
                               slice_has_prefix(reply->root.text, SLICE("NOPERM")));
}

// The name of the record of id; name->n is 0 when there is none.
static int foreign_name(struct redis_client *r, const char *id, struct buf *name, struct err *e)
{
    struct redis_reply reply = {0};
    buf_clear(name);
    int rc = redis_call(r, &reply, e, "HGET " POSITION_FOREIGN_INDEX " %s", id);
    if (reply_means_none(rc, &reply)) {
        log_info(NULL, "cannot look for a position of redisGunYu in the target: %s", e->msg);
        *e = (struct err){0};
        return 0;
    }
    if (rc < 0) {
        err_wrap(e, "looking for a position of redisGunYu in the target");
        return rc;
    }
    if (reply.root.type == RESP_BULK && reply.root.text.n <= FOREIGN_NAME_MAX)
        buf_append_slice(name, reply.root.text);
    return 0;
}

// The fields of one record in the selected db. Offsets below 0 are what redisGunYu writes when it
// has received nothing yet: no position.
static bool foreign_record_parse(const struct redis_reply *reply, const char *id,
                                 struct foreign *out)
{
    struct slice v[4] = {{0}};
    size_t pos = reply->first_child;
    if (reply->root.type != RESP_ARRAY || reply->root.num != 4)
        return false;
    for (int i = 0; i < 4; i++) {
        struct resp_node node;
        if (!resp_next(reply->p, reply->n, &pos, &node))
            return false;
        if (node.type == RESP_BULK)
            v[i] = node.text;
    }
    if (!slice_eq(v[0], slice_cstr(id)) || !slice_eq(v[1], SLICE("1")))
        return false;
    if (!slice_i64(v[2], &out->offset) || out->offset < 0)
        return false;
    if (!slice_i64(v[3], &out->mtime_ns))
        out->mtime_ns = 0;
    return true;
}

static int foreign_record(struct redis_client *r, struct slice name, const char *id, int db,
                          struct foreign *best, struct err *e)
{
    int rc = select_db(r, db, e);
    if (rc < 0) {
        err_wrap(e, "looking for a position of redisGunYu in db %d of the target", db);
        return rc;
    }
    struct redis_reply reply = {0};
    struct foreign f = {.db = db};
    rc = redis_call(r, &reply, e, "HMGET %b %s_runid %s_version %s_offset %s_mtime", &name, id, id,
                    id, id);
    if (reply_means_none(rc, &reply)) {
        *e = (struct err){0};
        return 0;
    }
    if (rc < 0) {
        err_wrap(e, "reading redisGunYu's position in db %d of the target", db);
        return rc;
    }
    if (foreign_record_parse(&reply, id, &f) &&
        (f.offset > best->offset || (f.offset == best->offset && f.mtime_ns > best->mtime_ns)))
        *best = f;
    return 0;
}

// Next "db<n>:keys=..." line of INFO keyspace at or after *at.
static bool next_db(struct slice info, size_t *at, int *db)
{
    while (*at < info.n) {
        const char *p = info.p + *at;
        const char *end = memchr(p, '\n', info.n - *at);
        size_t n = end ? (size_t)(end - p) : info.n - *at;
        *at += n + (end != NULL);
        const char *colon = memchr(p, ':', n);
        int64_t v;
        if (colon && colon - p > 2 && memcmp(p, "db", 2) == 0 &&
            slice_i64(slice_make(p + 2, (size_t)(colon - p) - 2), &v) && v >= 0 &&
            v < FOREIGN_DBS_MAX) {
            *db = (int)v;
            return true;
        }
    }
    return false;
}

// The best record of one id over all dbs; best->offset stays -1 when there is none. The record is
// written into whatever db is selected, so the db that holds the newest one is the selected one.
static int foreign_best(struct redis_client *r, const char *id, struct foreign *best, struct err *e)
{
    *best = (struct foreign){.offset = -1};
    if (!id_given(id))
        return 0;
    struct buf name = {0}, info = {0};
    struct redis_reply reply = {0};
    int rc = select_db(r, 0, e);
    if (rc == 0)
        rc = foreign_name(r, id, &name, e);
    if (rc < 0 || name.n == 0)
        goto out;
    rc = redis_call(r, &reply, e, "INFO keyspace");
    if (rc < 0) {
        err_wrap(e, "finding the db of redisGunYu's position in the target");
        goto out;
    }
    buf_append_slice(&info, reply.root.text);
    size_t at = 0;
    int db;
    while (rc == 0 && next_db(buf_slice(&info), &at, &db))
        rc = foreign_record(r, buf_slice(&name), id, db, best, e);
out:
    buf_free(&name);
    buf_free(&info);
    return rc;
}

// The same in a cluster: the index and the record may be at different masters.
static int foreign_of_cluster(const struct masters *m, const char *id, struct foreign *best,
                              struct err *e)
{
    *best = (struct foreign){.offset = -1};
    if (!id_given(id))
        return 0;
    struct buf name = {0};
    int rc = foreign_name(masters_owner(m, SLICE(POSITION_FOREIGN_INDEX)), id, &name, e);
    struct slice key = buf_slice(&name);
    if (rc == 0 && key.n)
        rc = foreign_record(masters_owner(m, key), key, id, 0, best, e);
    buf_free(&name);
    return rc;
}

static void foreign_choose(const char *id1, const struct foreign *f1, const char *id2,
                           const struct foreign *f2, struct position *out, bool *found)
{
    *found = f1->offset >= 0 || f2->offset >= 0;
    if (!*found)
        return;
    // redisGunYu moves its record from id2 to id1 by a copy into an arbitrary db, then a deletion;
    // while both hold the same offset, the older one still tells the right db.
    bool first = f1->offset > f2->offset;
    const struct foreign *f = first ? f1 : f2;
    *out = (struct position){
        .offset = f->offset, .db = f->db, .time_ms = f->mtime_ns / 1000000, .foreign = true};
    snprintf(out->replid, sizeof(out->replid), "%s", first ? id1 : id2);
}

static int read_foreign(struct redis_client *r, const char *id1, const char *id2,
                        struct position *out, bool *found, struct err *e)
{
    struct foreign f1, f2;
    int rc = foreign_best(r, id1, &f1, e);
    if (rc == 0)
        rc = foreign_best(r, id2, &f2, e);
    if (rc == 0)
        foreign_choose(id1, &f1, id2, &f2, out, found);
    return rc;
}

int position_read_foreign(const struct masters *m, const char *id1, const char *id2,
                          struct position *out, bool *found, struct err *e)
{
    struct foreign f1, f2;
    *found = false;
    int rc = foreign_of_cluster(m, id1, &f1, e);
    if (rc == 0)
        rc = foreign_of_cluster(m, id2, &f2, e);
    if (rc == 0)
        foreign_choose(id1, &f1, id2, &f2, out, found);
    return rc;
}

// ---- reading and cleaning ----

int position_read(struct redis_client *r, const char *id1, const char *id2, struct position *out,
                  bool *found, struct err *e)
{
    *found = false;
    int rc = select_db(r, 0, e);
    if (rc == 0 && id_given(id1))
        rc = position_read_own(r, id1, out, found, e);
    if (rc == 0 && !*found && id_given(id2))
        rc = position_read_own(r, id2, out, found, e);
    if (rc < 0 || *found)
        return rc;
    rc = read_foreign(r, id1, id2, out, found, e);
    // The connection is left in db 0, where the records are, whatever was scanned.
    if (rc == 0)
        rc = select_db(r, 0, e);
    return rc;
}

// The id in the name of a record of ours, if the key is one.
static bool key_replid(struct slice key, char *replid)
{
    struct slice prefix = SLICE(POSITION_PREFIX);
    if (!slice_has_prefix(key, prefix) || key.n == prefix.n || key.n > prefix.n + REPLID_LEN)
        return false;
    memcpy(replid, key.p + prefix.n, key.n - prefix.n);
    replid[key.n - prefix.n] = 0;
    return strlen(replid) == key.n - prefix.n;
}

// Removes one record if it is too old. WATCH makes sure that a lane which writes it now wins.
static int gc_one(struct redis_client *r, struct slice key, int64_t max_age_ms, int64_t now_ms,
                  int *removed, struct err *e)
{
    char replid[REPLID_LEN + 1];
    struct redis_reply reply = {0};
    struct position p;
    if (!key_replid(key, replid))
        return 0;
    int rc = redis_call(r, &reply, e, "WATCH %b", &key);
    if (rc == 0)
        rc = redis_call(r, &reply, e, "GET %b", &key);
    if (rc == ERR_REPLY && slice_has_prefix(reply.root.text, SLICE("WRONGTYPE"))) {
        *e = (struct err){0};
        return redis_call(r, &reply, e, "UNWATCH");
    }
    if (rc < 0)
        return rc;
    if (reply.root.type != RESP_BULK || !position_parse(replid, reply.root.text, &p) ||
        now_ms - p.time_ms <= max_age_ms)
        return redis_call(r, &reply, e, "UNWATCH");
    struct buf b = {0};
    resp_put_cmd(&b, "MULTI");
    position_put_del(&b, replid);
    resp_put_cmd(&b, "EXEC");
    rc = redis_call_raw(r, buf_slice(&b), 3, &reply, e);
    buf_free(&b);
    struct resp_node node;
    size_t pos = reply.first_child;
    if (rc == 0 && reply.root.type == RESP_ARRAY && resp_next(reply.p, reply.n, &pos, &node) &&
        node.type == RESP_INTEGER && node.num > 0)
        ++*removed;
    return rc;
}

static bool is_kept(struct slice key, const char *const *keep, int n)
{
    char name[64];
    for (int i = 0; i < n; i++)
        if (slice_eq(key, position_key(keep[i], name)))
            return true;
    return false;
}

// each is called for all keys of db 0 that are named as records; it may ask r.
static int each_record(struct redis_client *r,
                       int (*each)(void *ctx, struct redis_client *r, struct slice key,
                                   struct err *e),
                       void *ctx, struct err *e)
{
    struct buf cursor = {0}, page = {0};
    buf_append_char(&cursor, '0');
    int rc = select_db(r, 0, e);
    do {
        struct slice at = buf_slice(&cursor);
        struct redis_reply reply = {0};
        if (rc == 0)
            rc = redis_call(r, &reply, e, "SCAN %b MATCH " POSITION_PREFIX "* COUNT 1000", &at);
        if (rc < 0)
            break;
        // The reply is gone with the next call, so its page is copied.
        buf_clear(&page);
        buf_append(&page, reply.p, reply.n);
        size_t pos = reply.first_child;
        struct resp_node node = {0};
        bool ok = resp_next(page.p, page.n, &pos, &node) && node.type == RESP_BULK;
        buf_clear(&cursor);
        buf_append_slice(&cursor, node.text);
        ok = ok && resp_next(page.p, page.n, &pos, &node) && node.type == RESP_ARRAY;
        if (!ok) {
            rc = err_set(e, ERR_PROTOCOL, "the target's answer to SCAN is not one");
            break;
        }
        while (rc == 0 && resp_next(page.p, page.n, &pos, &node))
            if (node.type == RESP_BULK)
                rc = each(ctx, r, node.text, e);
    } while (rc == 0 && !slice_eq(buf_slice(&cursor), SLICE("0")));
    buf_free(&cursor);
    buf_free(&page);
    return rc;
}

struct gc {
    const char *const *keep;
    int n, *removed;
    int64_t max_age_ms, now_ms;
};

static int gc_unless_kept(void *ctx, struct redis_client *r, struct slice key, struct err *e)
{
    const struct gc *g = ctx;
    return is_kept(key, g->keep, g->n) ? 0
                                       : gc_one(r, key, g->max_age_ms, g->now_ms, g->removed, e);
}

int position_gc(struct redis_client *r, const char *const *keep, int n, int64_t max_age_ms,
                int64_t now_ms, int *removed, struct err *e)
{
    struct gc g = {keep, n, removed, max_age_ms, now_ms};
    *removed = 0;
    int rc = each_record(r, gc_unless_kept, &g, e);
    if (rc < 0)
        err_wrap(e, "removing old positions from the target");
    return rc < 0 ? rc : 0;
}

static int count_epoch_only(void *ctx, struct redis_client *r, struct slice key, struct err *e)
{
    int64_t *n = ctx;
    char replid[REPLID_LEN + 1];
    struct position p;
    struct redis_reply reply = {0};
    if (!key_replid(key, replid))
        return 0;
    int rc = redis_call(r, &reply, e, "GET %b", &key);
    *n += rc == 0 && reply.root.type == RESP_BULK && position_parse(replid, reply.root.text, &p) &&
          p.epoch_only;
    return rc == ERR_REPLY ? 0 : rc;
}

int position_count_epoch_only(struct redis_client *r, int64_t *n, struct err *e)
{
    *n = 0;
    return each_record(r, count_epoch_only, n, e);
}

// ---- other syncs ----

struct search {
    const struct position_owners *o;
    char *found;
};

// One of a file that was loaded has another kind of id.
static bool is_sync(const char *replid)
{
    return strspn(replid, "0123456789abcdef") == REPLID_LEN;
}

static bool is_owned(const struct position_owners *o, const char *replid, uint64_t source)
{
    for (size_t i = 0; i < o->ids_n; i++)
        if (strcmp(o->ids[i], replid) == 0)
            return true;
    for (size_t i = 0; source && i < o->sources_n; i++)
        if (o->sources[i] == source)
            return true;
    return false;
}

static int look_for_other(void *ctx, struct redis_client *r, struct slice key, struct err *e)
{
    struct search *s = ctx;
    char replid[REPLID_LEN + 1];
    struct redis_reply reply = {0};
    struct position p = {0};
    if (s->found[0] || !key_replid(key, replid) || !is_sync(replid) || is_owned(s->o, replid, 0))
        return 0;
    int rc = redis_call(r, &reply, e, "GET %b", &key);
    if (rc || reply.root.type != RESP_BULK) // gone meanwhile, or to another node
        return rc == ERR_REPLY ? 0 : rc;
    bool read = position_parse(replid, reply.root.text, &p);
    if (!(read && p.epoch_only) && !is_owned(s->o, replid, p.source))
        memcpy(s->found, replid, sizeof(replid));
    return 0;
}

int position_find_other(struct redis_client *r, const struct position_owners *o, char *replid,
                        struct err *e)
{
    struct search s = {o, replid};
    replid[0] = 0;
    return each_record(r, look_for_other, &s, e);
}

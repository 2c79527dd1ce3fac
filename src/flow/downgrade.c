// SPDX-License-Identifier: Apache-2.0
#include "flow/downgrade.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/dump.h"
#include "codec/rdb_types.h"
#include "flow/downgrade_impl.h"

enum {
    LOWEST_DUMP_VERSION = 6,
    VALKEY_TAKES_REDIS_MAX = 11,
    RESTORE_MAX = 64 << 20, // a payload that is not copied: the target says what it thinks of it
    TEMP_KEPT = 64 << 10,
    MODULES_ARE_SAFE_SINCE = 60200,
};

// ---- shapes that many rows share ----

enum rewrite_result downgrade_refuse(const struct downgrade_call *c)
{
    return rewrite_not(&c->d->out, REWRITE_REFUSED, c->row->becomes);
}

enum rewrite_result downgrade_drop(const struct downgrade_call *c)
{
    return rewrite_not(&c->d->out, REWRITE_DROP, c->row->becomes);
}

// The command under another name, with its arguments from argv[1] to argv[n].
static enum rewrite_result rename_to(const struct downgrade_call *c, const char *name, int n)
{
    struct rewrite *w = &c->d->out;
    rewrite_begin(w, 1, n + 1, 0);
    rewrite_name(w, slice_cstr(name));
    rewrite_args(w, c->argv + 1, n);
    return rewrite_done(w);
}

static enum rewrite_result to_del(const struct downgrade_call *c)
{
    bool many = slice_ieq(c->argv[0], SLICE("UNLINK"));
    return c->argc < 2 ? REWRITE_AS_IS : rename_to(c, "DEL", many ? c->argc - 1 : 1);
}

static enum rewrite_result flush(const struct downgrade_call *c)
{
    if ((arg_is(c, 1, "ASYNC") && lacks(c, DOWN_FLUSH_ASYNC)) ||
        (arg_is(c, 1, "SYNC") && lacks(c, DOWN_FLUSH_SYNC)))
        return rename_to(c, slice_ieq(c->argv[0], SLICE("FLUSHDB")) ? "FLUSHDB" : "FLUSHALL", 0);
    return REWRITE_AS_IS;
}

static enum rewrite_result spublish(const struct downgrade_call *c)
{
    return rename_to(c, "PUBLISH", c->argc - 1);
}

// ---- strings ----

// An expiry option as a command of its own.
static const char *expire_command(struct slice word)
{
    static const char *const commands[][2] = {
        {"EX", "EXPIRE"}, {"PX", "PEXPIRE"}, {"EXAT", "EXPIREAT"}, {"PXAT", "PEXPIREAT"}};
    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
        if (slice_ieq(word, slice_cstr(commands[i][0])))
            return commands[i][1];
    return NULL;
}

struct set_options {
    bool changed, keepttl, get;
    int condition, expiry; // positions; 0: none
};

// One SET, or what does the same at the target.
static void put_set(const struct downgrade_call *c, struct slice key, struct slice value,
                    const struct set_options *o)
{
    struct rewrite *w = &c->d->out;
    if (o->keepttl && lacks(c, DOWN_SET_KEEPTTL)) {
        downgrade_set_keepttl(w, key, value);
        return;
    }
    rewrite_name(w, SLICE("SET"));
    rewrite_arg(w, key);
    rewrite_arg(w, value);
    if (o->condition)
        rewrite_arg(w, c->argv[o->condition]);
    if (o->keepttl)
        rewrite_arg(w, SLICE("KEEPTTL"));
    if (o->get)
        rewrite_arg(w, SLICE("GET"));
    if (!o->expiry)
        return;
    // EXAT and PXAT are as old as GET; EX and PX were always there.
    if (c->argv[o->expiry].n == 4 && lacks(c, DOWN_SET_PXAT)) {
        rewrite_name(w, slice_cstr(expire_command(c->argv[o->expiry])));
        rewrite_arg(w, key);
        rewrite_arg(w, c->argv[o->expiry + 1]);
    } else {
        rewrite_args(w, c->argv + o->expiry, 2);
    }
}

// SET key value [condition] [GET] [expiry]
static enum rewrite_result set(const struct downgrade_call *c)
{
    struct set_options o = {0};
    for (int i = 3; i < c->argc; i++) {
        if (arg_is(c, i, "NX") || arg_is(c, i, "XX")) {
            o.condition = i;
        } else if (arg_is(c, i, "KEEPTTL")) {
            o.keepttl = true;
            o.changed |= lacks(c, DOWN_SET_KEEPTTL);
        } else if (arg_is(c, i, "GET")) {
            o.get = !lacks(c, DOWN_SET_GET);
            o.changed |= !o.get;
        } else if (i + 1 < c->argc && expire_command(c->argv[i])) {
            o.expiry = i++;
            o.changed |= c->argv[o.expiry].n == 4 && lacks(c, DOWN_SET_PXAT);
        } else if (i + 1 < c->argc && arg_is(c, i, "IFEQ")) {
            i++;
            o.changed |= lacks(c, DOWN_SET_IFEQ);
        } else if (i + 1 < c->argc &&
                   (arg_is(c, i, "IFNE") || arg_is(c, i, "IFDEQ") || arg_is(c, i, "IFDNE"))) {
            i++;
            o.changed |= lacks(c, DOWN_SET_IFNE);
        } else {
            return REWRITE_AS_IS;
        }
    }
    if (!o.changed)
        return REWRITE_AS_IS;
    rewrite_begin(&c->d->out, 2, c->argc + 4, 1);
    put_set(c, c->argv[1], c->argv[2], &o);
    return rewrite_done(&c->d->out);
}

// MSETEX numkeys key value ... [NX|XX] [KEEPTTL|expiry]
static enum rewrite_result msetex(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    struct set_options o = {0};
    int64_t n;
    if (c->argc < 4 || !slice_i64(c->argv[1], &n) || n < 1 || n > (c->argc - 2) / 2)
        return REWRITE_AS_IS;
    int end = 2 + 2 * (int)n;
    for (int i = end; i < c->argc; i++) {
        if (arg_is(c, i, "KEEPTTL"))
            o.keepttl = true;
        else if (i + 1 < c->argc && expire_command(c->argv[i]))
            o.expiry = i++;
        else if (!arg_is(c, i, "NX") && !arg_is(c, i, "XX"))
            return REWRITE_AS_IS;
    }
    rewrite_begin(w, 2 * (int)n, 9 * (int)n + 1, (int)n);
    if (!o.keepttl && !o.expiry) {
        rewrite_name(w, SLICE("MSET"));
        rewrite_args(w, c->argv + 2, end - 2);
        return rewrite_done(w);
    }
    for (int i = 2; i < end; i += 2)
        put_set(c, c->argv[i], c->argv[i + 1], &o);
    return rewrite_done(w);
}

// GETEX key [PERSIST|expiry]. It is there for its reply; rewrite_command has taken its expiry.
static enum rewrite_result getex(const struct downgrade_call *c)
{
    if (c->argc == 2)
        return downgrade_drop(c);
    return arg_is(c, 2, "PERSIST") ? rename_to(c, "PERSIST", 1) : REWRITE_AS_IS;
}

// Temporary keys in the slot of `like`, if it has no braces or whole ones; how long each name is.
static size_t name_temps(struct downgrade *d, struct slice like)
{
    const char *open = like.n ? memchr(like.p, '{', like.n) : NULL;
    const char *end = like.p + like.n;
    const char *close = open ? memchr(open + 1, '}', (size_t)(end - open - 1)) : NULL;
    struct slice tag = like;
    if (close && close > open + 1)
        tag = slice_make(open + 1, (size_t)(close - open - 1));
    buf_clear(&d->temp);
    for (int i = 0; i < 3; i++) {
        buf_append_cstr(&d->temp, "gunyu:tmp:bitop:");
        buf_append_i64(&d->temp, i);
        buf_append_char(&d->temp, '{');
        buf_append_slice(&d->temp, tag);
        buf_append_char(&d->temp, '}');
    }
    return d->temp.n / 3;
}

static struct slice temp_key(const struct downgrade *d, int i, size_t n)
{
    return slice_make(d->temp.p + (size_t)i * n, n);
}

static void put_bitop(struct rewrite *w, const char *op, struct slice to, struct slice a,
                      struct slice b)
{
    rewrite_name(w, SLICE("BITOP"));
    rewrite_arg(w, slice_cstr(op));
    rewrite_arg(w, to);
    rewrite_arg(w, a);
    rewrite_arg(w, b);
}

static void put_del(struct downgrade *d, int temps, size_t n)
{
    rewrite_name(&d->out, SLICE("DEL"));
    for (int i = 0; i < temps; i++)
        rewrite_arg(&d->out, temp_key(d, i, n));
}

// BITOP ONE: bits that are set in one key and in no other. Temporary keys: those seen, those seen
// again, and those of a key that were seen before it.
static enum rewrite_result bitop_one(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    int keys = c->argc - 3;
    size_t n = name_temps(c->d, c->argv[2]);
    struct slice seen = temp_key(c->d, 0, n), again = temp_key(c->d, 1, n);
    struct slice both = temp_key(c->d, 2, n);
    rewrite_begin(w, 3 * keys + 2, 15 * keys + 9, 0);
    for (int i = 0; i < keys; i++) {
        put_bitop(w, "AND", both, seen, c->argv[3 + i]);
        put_bitop(w, "OR", again, again, both);
        put_bitop(w, "OR", seen, seen, c->argv[3 + i]);
    }
    put_bitop(w, "XOR", c->argv[2], seen, again);
    put_del(c->d, 3, n);
    return rewrite_done(w);
}

// BITOP DIFF|DIFF1|ANDOR destination x y ...: x without any y; any y without x; x with any y.
static enum rewrite_result bitop(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    bool diff = arg_is(c, 1, "DIFF"), diff1 = arg_is(c, 1, "DIFF1");
    if (arg_is(c, 1, "ONE") && c->argc >= 4)
        return bitop_one(c);
    if (c->argc < 5 || !(diff || diff1 || arg_is(c, 1, "ANDOR")))
        return REWRITE_AS_IS;
    size_t n = name_temps(c->d, c->argv[2]);
    struct slice to = c->argv[2], x = c->argv[3], any = temp_key(c->d, 0, n);
    rewrite_begin(w, 4, c->argc + 14, 0);
    rewrite_name(w, SLICE("BITOP"));
    rewrite_arg(w, SLICE("OR"));
    rewrite_arg(w, any);
    rewrite_args(w, c->argv + 4, c->argc - 4);
    if (diff || diff1) {
        put_bitop(w, diff ? "AND" : "OR", any, x, any);
        put_bitop(w, "XOR", to, x, any);
    } else {
        put_bitop(w, "AND", to, x, any);
    }
    put_del(c->d, 1, n);
    return rewrite_done(w);
}

// ---- hashes ----

static struct slice hset_name(const struct downgrade_call *c)
{
    return lacks(c, DOWN_HSET_MANY) ? SLICE("HMSET") : SLICE("HSET");
}

static enum rewrite_result hset(const struct downgrade_call *c)
{
    return c->argc > 4 ? rename_to(c, "HMSET", c->argc - 1) : REWRITE_AS_IS;
}

static bool has_fields(const struct downgrade_call *c, int at, int step, int *n)
{
    int64_t v;
    *n = 0;
    if (!arg_is(c, at, "FIELDS") || at + 2 >= c->argc || !slice_i64(c->argv[at + 1], &v) || v < 1 ||
        v > (c->argc - at - 2) / step)
        return false;
    *n = (int)v;
    return true;
}

// HSETEX key [FNX|FXX] [KEEPTTL|expiry] FIELDS n field value ...
static enum rewrite_result hsetex(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    bool keepttl = false;
    int expiry = 0, n, at;
    for (at = 2; at < c->argc && !arg_is(c, at, "FIELDS"); at++) {
        if (arg_is(c, at, "KEEPTTL"))
            keepttl = true;
        else if (expire_command(c->argv[at]))
            expiry = at++;
    }
    if (!has_fields(c, at, 2, &n))
        return REWRITE_AS_IS;
    if (expiry && lacks(c, DOWN_FIELD_EXPIRY))
        return rewrite_not(w, REWRITE_REFUSED, downgrade_rows[DOWN_FIELD_EXPIRY].becomes);
    const struct slice *pairs = c->argv + at + 2;
    rewrite_begin(w, 2, 3 * n + 8, 2);
    if (keepttl && !lacks(c, DOWN_FIELD_EXPIRY)) {
        downgrade_hset_keepttl(w, c->argv[1], pairs, 2 * n);
        return rewrite_done(w);
    }
    rewrite_name(w, hset_name(c));
    rewrite_arg(w, c->argv[1]);
    rewrite_args(w, pairs, 2 * n);
    if (expiry) {
        // HEXPIRE and its kin are called as EXPIRE and its kin.
        bool seconds = c->argv[expiry].p[0] == 'E' || c->argv[expiry].p[0] == 'e';
        bool absolute = c->argv[expiry].n == 4;
        rewrite_name(w, seconds ? (absolute ? SLICE("HEXPIREAT") : SLICE("HEXPIRE"))
                                : (absolute ? SLICE("HPEXPIREAT") : SLICE("HPEXPIRE")));
        rewrite_arg(w, c->argv[1]);
        rewrite_arg(w, c->argv[expiry + 1]);
        rewrite_arg(w, SLICE("FIELDS"));
        rewrite_number(w, n);
        for (int i = 0; i < n; i++)
            rewrite_arg(w, pairs[2 * i]);
    }
    return rewrite_done(w);
}

// HGETEX key [PERSIST|expiry] FIELDS n field ...; as GETEX
static enum rewrite_result hgetex(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    int n;
    bool persist = arg_is(c, 2, "PERSIST");
    if (!has_fields(c, persist ? 3 : 2, 1, &n))
        return REWRITE_AS_IS;
    if (!persist || lacks(c, DOWN_HPERSIST))
        return downgrade_drop(c);
    rewrite_begin(w, 1, n + 4, 0);
    rewrite_name(w, SLICE("HPERSIST"));
    rewrite_arg(w, c->argv[1]);
    rewrite_args(w, c->argv + 3, n + 2);
    return rewrite_done(w);
}

// HGETDEL key FIELDS n field ...
static enum rewrite_result hgetdel(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    int n;
    if (!has_fields(c, 2, 1, &n))
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, n + 2, 0);
    rewrite_name(w, SLICE("HDEL"));
    rewrite_arg(w, c->argv[1]);
    rewrite_args(w, c->argv + 4, n);
    return rewrite_done(w);
}

// ---- lists and sorted sets ----

// LPOP, RPOP key count
static enum rewrite_result pop(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    int64_t n;
    if (c->argc != 3 || !slice_i64(c->argv[2], &n) || n < 1)
        return REWRITE_AS_IS;
    bool left = slice_ieq(c->argv[0], SLICE("LPOP"));
    rewrite_begin(w, 1, 4, 2);
    rewrite_name(w, SLICE("LTRIM"));
    rewrite_arg(w, c->argv[1]);
    rewrite_number(w, left ? n : 0);
    rewrite_number(w, left ? -1 : -n - 1);
    return rewrite_done(w);
}

// ZPOPMIN, ZPOPMAX key [count]
static enum rewrite_result zpop(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    int64_t n = 1;
    if (c->argc < 2 || c->argc > 3 || (c->argc == 3 && (!slice_i64(c->argv[2], &n) || n < 1)))
        return REWRITE_AS_IS;
    bool min = slice_ieq(c->argv[0], SLICE("ZPOPMIN"));
    rewrite_begin(w, 1, 4, 2);
    rewrite_name(w, SLICE("ZREMRANGEBYRANK"));
    rewrite_arg(w, c->argv[1]);
    rewrite_number(w, min ? 0 : -n);
    rewrite_number(w, min ? n - 1 : -1);
    return rewrite_done(w);
}

// A source that is gone leaves nothing to store. Servers before 6.2.6 keep the destination then.
static void put_del_first(const struct downgrade_call *c, struct slice to, struct slice from)
{
    if (slice_eq(to, from))
        return;
    rewrite_name(&c->d->out, SLICE("DEL"));
    rewrite_arg(&c->d->out, to);
}

static enum rewrite_result geo_as_is(const struct downgrade_call *c, struct slice to,
                                     struct slice from)
{
    struct rewrite *w = &c->d->out;
    if (slice_eq(to, from))
        return REWRITE_AS_IS;
    rewrite_begin(w, 2, c->argc + 2, 0);
    put_del_first(c, to, from);
    rewrite_name(w, c->argv[0]);
    rewrite_args(w, c->argv + 1, c->argc - 1);
    return rewrite_done(w);
}

// GEORADIUS key lon lat radius unit, GEORADIUSBYMEMBER key member radius unit: ... [STORE key]
// [STOREDIST key], the last of which counts
static enum rewrite_result georadius(const struct downgrade_call *c)
{
    int to = 0;
    for (int i = 5; i + 1 < c->argc; i++)
        if (arg_is(c, i, "STORE") || arg_is(c, i, "STOREDIST"))
            to = ++i;
    return to ? geo_as_is(c, c->argv[to], c->argv[1]) : REWRITE_AS_IS;
}

// GEOSEARCHSTORE destination source FROMMEMBER m|FROMLONLAT lon lat BYRADIUS r unit|BYBOX w h unit
// [ASC|DESC] [COUNT n [ANY]] [STOREDIST]
static enum rewrite_result geosearchstore(const struct downgrade_call *c)
{
    struct rewrite *w = &c->d->out;
    int member = 0, center = 0, radius = 0, count = 0, order = 0;
    bool distances = false;
    if (!lacks(c, DOWN_GEOSEARCHSTORE))
        return c->argc > 2 ? geo_as_is(c, c->argv[1], c->argv[2]) : REWRITE_AS_IS;
    for (int i = 3; i < c->argc; i++) {
        int left = c->argc - i - 1;
        if (arg_is(c, i, "FROMMEMBER") && left >= 1) {
            member = ++i;
        } else if (arg_is(c, i, "FROMLONLAT") && left >= 2) {
            center = i + 1;
            i += 2;
        } else if (arg_is(c, i, "BYRADIUS") && left >= 2) {
            radius = i + 1;
            i += 2;
        } else if (arg_is(c, i, "COUNT") && left >= 1) {
            count = i++;
        } else if (arg_is(c, i, "ASC") || arg_is(c, i, "DESC")) {
            order = i;
        } else if (arg_is(c, i, "STOREDIST")) {
            distances = true;
        } else {
            return rewrite_not(w, REWRITE_REFUSED,
                               "the target has no GEOSEARCHSTORE, and its GEORADIUS knows neither "
                               "BYBOX nor COUNT ANY");
        }
    }
    if (!radius || !member == !center)
        return REWRITE_AS_IS;
    rewrite_begin(w, 2, 13, 0);
    put_del_first(c, c->argv[1], c->argv[2]);
    rewrite_name(w, member ? SLICE("GEORADIUSBYMEMBER") : SLICE("GEORADIUS"));
    rewrite_arg(w, c->argv[2]);
    rewrite_args(w, c->argv + (member ? member : center), member ? 1 : 2);
    rewrite_args(w, c->argv + radius, 2);
    if (count)
        rewrite_args(w, c->argv + count, 2);
    if (order)
        rewrite_arg(w, c->argv[order]);
    rewrite_arg(w, distances ? SLICE("STOREDIST") : SLICE("STORE"));
    rewrite_arg(w, c->argv[1]);
    return rewrite_done(w);
}

// ---- values ----

// A server takes numbers up to its own, a Valkey none of Redis above 11.
static bool takes_version(const struct downgrade *d, int version)
{
    return version <= d->rdb_version &&
           !(d->is_valkey && version > VALKEY_TAKES_REDIS_MAX && version < RDB_VALKEY_MIN);
}

// RESTORE key ttl payload ...: the same value under the lowest number that has its type.
static enum rewrite_result restore(const struct downgrade_call *c)
{
    struct downgrade *d = c->d;
    uint8_t type, trailer[DUMP_TRAILER];
    uint16_t version;
    struct slice raw;
    if (c->argc < 4 || c->argv[3].n > RESTORE_MAX ||
        dump_parse(c->argv[3], &type, &raw, &version, NULL))
        return REWRITE_AS_IS;
    bool of_valkey = version >= RDB_VALKEY_MIN;
    const struct rdb_type *t = rdb_type_find(type, of_valkey);
    if (t && t->object == RDB_OBJ_MODULE && !d->is_valkey && d->version < MODULES_ARE_SAFE_SINCE)
        return rewrite_not(&d->out, REWRITE_REFUSED,
                           "a target before Redis 6.2 may exit at the value of a module");
    if (takes_version(d, version))
        return REWRITE_AS_IS;
    if (!t || !rdb_type_known_to(type, of_valkey, d->rdb_version, d->is_valkey))
        return rewrite_not(&d->out, REWRITE_REFUSED,
                           "the target cannot read the encoding of the value that RESTORE brings");
    dump_trailer(type, raw, t->since > LOWEST_DUMP_VERSION ? t->since : LOWEST_DUMP_VERSION,
                 trailer);
    buf_clear(&d->temp);
    buf_append(&d->temp, c->argv[3].p, 1 + raw.n);
    buf_append(&d->temp, trailer, DUMP_TRAILER);
    rewrite_begin(&d->out, 1, c->argc, 0);
    rewrite_name(&d->out, c->argv[0]);
    rewrite_args(&d->out, c->argv + 1, 2);
    rewrite_arg(&d->out, buf_slice(&d->temp));
    rewrite_args(&d->out, c->argv + 4, c->argc - 4);
    return rewrite_done(&d->out);
}

// ---- the table ----

#define VALKEY_ALWAYS 0
#define NEVER DOWN_NEVER

// clang-format off
const struct downgrade_row downgrade_rows[DOWN_ROWS] = {
    [DOWN_UNLINK] = {"unlink", "", 40000, VALKEY_ALWAYS, to_del, "DEL"},
    [DOWN_HSET_MANY] = {"hset", "several fields", 40000, VALKEY_ALWAYS, hset, "HMSET"},
    [DOWN_FLUSH_ASYNC] = {"flushall flushdb", "ASYNC", 40000, VALKEY_ALWAYS, flush, "left out"},
    [DOWN_SWAPDB] = {"swapdb", "", 40000, VALKEY_ALWAYS, downgrade_refuse, "the target has no SWAPDB"},
    [DOWN_STREAMS] = {"@STREAM", "", 50000, VALKEY_ALWAYS, downgrade_refuse, "the target has no streams"},
    [DOWN_ZPOP] = {"zpopmin zpopmax", "", 50000, VALKEY_ALWAYS, zpop, "ZREMRANGEBYRANK"},
    [DOWN_SET_KEEPTTL] = {"set", "KEEPTTL", 60000, VALKEY_ALWAYS, set, "script"},
    [DOWN_FLUSH_SYNC] = {"flushall flushdb", "SYNC", 60200, VALKEY_ALWAYS, flush, "left out"},
    [DOWN_SET_GET] = {"set", "GET", 60200, VALKEY_ALWAYS, set, "left out"},
    [DOWN_SET_PXAT] = {"set", "EXAT, PXAT", 60200, VALKEY_ALWAYS, set, "SET, EXPIREAT or PEXPIREAT"},
    [DOWN_GETDEL] = {"getdel", "", 60200, VALKEY_ALWAYS, to_del, "DEL"},
    [DOWN_GETEX] = {"getex", "", 60200, VALKEY_ALWAYS, getex, "PEXPIREAT, PERSIST or nothing"},
    [DOWN_COPY] = {"copy", "", 60200, VALKEY_ALWAYS, downgrade_copy, "script: DUMP, RESTORE"},
    [DOWN_LMOVE] = {"lmove", "", 60200, VALKEY_ALWAYS, downgrade_lmove, "RPOPLPUSH or script"},
    [DOWN_POP_COUNT] = {"lpop rpop", "count", 60200, VALKEY_ALWAYS, pop, "LTRIM"},
    [DOWN_ZADD_GT] = {"zadd", "GT, LT", 60200, VALKEY_ALWAYS, downgrade_zadd, "script"},
    [DOWN_ZRANGESTORE] = {"zrangestore", "", 60200, VALKEY_ALWAYS, downgrade_zrangestore, "script"},
    [DOWN_ZDIFFSTORE] = {"zdiffstore", "", 60200, VALKEY_ALWAYS, downgrade_zdiffstore, "script"},
    [DOWN_GEOSEARCHSTORE] = {"geosearchstore", "", 60200, VALKEY_ALWAYS, geosearchstore,
        "GEORADIUS, GEORADIUSBYMEMBER; BYBOX and COUNT ANY are refused"},
    [DOWN_GEO_GONE] = {"georadius georadiusbymember", "STORE, STOREDIST", 60206, VALKEY_ALWAYS, georadius, "DEL before it"},
    [DOWN_GEOSEARCH_GONE] = {"geosearchstore", "of a key that is gone", 60206, VALKEY_ALWAYS, geosearchstore,
        "DEL before it"},
    [DOWN_NOMKSTREAM] = {"xadd", "NOMKSTREAM", 60200, VALKEY_ALWAYS, downgrade_stream_trim, "left out"},
    [DOWN_MINID] = {"xadd xtrim", "MINID", 60200, VALKEY_ALWAYS, downgrade_stream_trim, "script: XRANGE, XDEL"},
    [DOWN_CREATECONSUMER] = {"xgroup|createconsumer", "", 60200, VALKEY_ALWAYS, downgrade_xgroup_consumer,
        "XREADGROUP of what the consumer has pending"},
    [DOWN_ENTRIESREAD] = {"xgroup|create xgroup|setid", "ENTRIESREAD", 70000, VALKEY_ALWAYS,
        downgrade_entries_read, "left out"},
    [DOWN_XSETID] = {"xsetid", "ENTRIESADDED, MAXDELETEDID", 70000, VALKEY_ALWAYS, downgrade_xsetid, "left out"},
    [DOWN_XCLAIM] = {"xclaim", "of a message that is gone", 70000, VALKEY_ALWAYS, downgrade_xclaim, "script: XCLAIM or XACK"},
    [DOWN_FUNCTION_LOAD] = {"function|load function|restore", "", 70000, VALKEY_ALWAYS, downgrade_refuse,
        "the target has no functions"},
    [DOWN_FUNCTION_DELETE] = {"function|delete function|flush", "", 70000, VALKEY_ALWAYS, downgrade_drop,
        "the target has no functions"},
    [DOWN_SPUBLISH] = {"spublish", "", 70000, VALKEY_ALWAYS, spublish, "PUBLISH"},
    [DOWN_FIELD_EXPIRY] = {"hexpire hpexpire hexpireat hpexpireat", "", 70400, 90000, downgrade_refuse,
        "the target has no expiries of hash fields"},
    [DOWN_HPERSIST] = {"hpersist", "", 70400, 90000, downgrade_drop, "the target has no expiries of hash fields"},
    [DOWN_HSETEX] = {"hsetex", "", 80000, 90000, hsetex, "HSET, HPEXPIREAT; KEEPTTL: script"},
    [DOWN_HGETEX] = {"hgetex", "", 80000, 90000, hgetex, "HPEXPIREAT, HPERSIST or nothing"},
    [DOWN_HGETDEL] = {"hgetdel", "", 80000, 90100, hgetdel, "HDEL"},
    [DOWN_VECTORS] = {"@VECTOR_SET", "", 80000, NEVER, downgrade_refuse, "the target has no vector sets"},
    [DOWN_STREAM_REFS] = {"xadd xtrim", "KEEPREF, DELREF, ACKED", 80200, NEVER, downgrade_stream_trim,
        "left out; DELREF: script with XACK; trimming by ACKED is refused"},
    [DOWN_XDELEX] = {"xdelex", "", 80200, NEVER, downgrade_stream_delete, "XDEL; DELREF, ACKED: script"},
    [DOWN_XACKDEL] = {"xackdel", "", 80200, NEVER, downgrade_stream_delete, "script: XACK, XDEL"},
    [DOWN_BITOP] = {"bitop", "DIFF, DIFF1, ANDOR, ONE", 80200, NEVER, bitop,
        "BITOP with temporary keys"},
    [DOWN_SET_IFEQ] = {"set", "IFEQ", 80400, 80100, set, "left out"},
    [DOWN_SET_IFNE] = {"set", "IFNE, IFDEQ, IFDNE", 80400, NEVER, set, "left out"},
    [DOWN_DELEX] = {"delex", "", 80400, NEVER, to_del, "DEL"},
    [DOWN_DELIFEQ] = {"delifeq", "", NEVER, 90000, to_del, "DEL"},
    [DOWN_MSETEX] = {"msetex", "", 80400, 90100, msetex, "MSET, or a SET for each key"},
    [DOWN_XCFGSET] = {"xcfgset", "", 80600, NEVER, downgrade_drop, "the target has no idempotent producers"},
    [DOWN_XIDMPRECORD] = {"xidmprecord", "", 80602, NEVER, downgrade_drop, "the target has no idempotent producers"},
    [DOWN_IDMP] = {"xadd", "IDMP, IDMPAUTO", NEVER, NEVER, downgrade_stream_trim,
        "XADD, and in a script XIDMPRECORD where there is one; nothing if it was a repetition"},
    [DOWN_TRIM_LIMIT] = {"xadd xtrim", "LIMIT of an exact trimming", NEVER, NEVER, downgrade_stream_trim, "left out"},
    [DOWN_RESTORE] = {"restore", "a value of a newer or foreign server", 81000, NEVER, restore,
        "RESTORE under an older number; refused where the target does not know the encoding, "
        "and for values of modules before Redis 6.2, which may exit at them"},
};
// clang-format on

static void add_command(struct downgrade *d, const struct cmd_info *info, int row)
{
    if (info)
        d->by_id[info->id] = (unsigned char)(row + 1);
}

static void add_row(struct downgrade *d, int row)
{
    const char *p = downgrade_rows[row].commands;
    if (*p == '@') {
        for (int id = 0; id < cmd_count(); id++) {
            const struct cmd_info *info = cmd_at(id);
            if ((info->flags & CMD_WRITE) && strcmp(info->group, p + 1) == 0)
                add_command(d, info, row);
        }
        return;
    }
    while (*p) {
        size_t n = strcspn(p, " ");
        add_command(d, cmd_by_name(slice_make(p, n)), row);
        p += n + strspn(p + n, " ");
    }
}

void downgrade_init(struct downgrade *d, bool is_valkey, int version, int rdb_version)
{
    *d = (struct downgrade){.version = version ? version : NEVER - 1,
                            .rdb_version = rdb_version,
                            .is_valkey = is_valkey};
    d->by_id = xcalloc((size_t)cmd_count(), 1);
    // Backwards: a whole group that is not there goes before what options became later.
    for (int i = DOWN_ROWS - 1; i >= 0; i--) {
        const struct downgrade_row *row = &downgrade_rows[i];
        if (d->version >= (is_valkey ? row->since_valkey : row->since_redis))
            continue;
        d->missing |= UINT64_C(1) << i;
        add_row(d, i);
    }
}

void downgrade_free(struct downgrade *d)
{
    rewrite_free(&d->out);
    free(d->by_id);
    buf_free(&d->temp);
    *d = (struct downgrade){0};
}

enum rewrite_result downgrade_command(struct downgrade *d, const struct cmd_info *info, int argc,
                                      const struct slice *argv)
{
    if (!downgrade_concerns(d, info))
        return REWRITE_AS_IS;
    if (d->temp.cap > TEMP_KEPT)
        buf_free(&d->temp);
    const struct downgrade_row *row = &downgrade_rows[d->by_id[info->id] - 1];
    return row->fn(&(struct downgrade_call){d, row, argc, argv});
}

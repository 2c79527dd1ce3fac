// SPDX-License-Identifier: Apache-2.0
#include "rdb/select.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/slot.h"
#include "rdb/verb.h"

struct patterns {
    const char **v; // owns the array
    size_t n;
};

enum ttl_wanted { TTL_ANY, TTL_NONE, TTL_SET, TTL_EXPIRED, TTL_BETWEEN };

struct selection {
    int *dbs; // owns
    size_t dbs_n;
    unsigned objects; // a bit for each; 0: all
    struct patterns keys, not_keys;
    uint64_t *slots; // owns; a bit for each slot; NULL: all
    uint64_t min_size, max_size;
    enum ttl_wanted ttl;
    int64_t ttl_from_ms, ttl_to_ms;
    bool given;
};

enum {
    OPT_DB = SELECTION_OPTION,
    OPT_TYPE,
    OPT_KEY,
    OPT_NOT_KEY,
    OPT_SLOT,
    OPT_MIN_SIZE,
    OPT_MAX_SIZE,
    OPT_TTL,
};

const struct option selection_options[] = {
    {"db", required_argument, NULL, OPT_DB},
    {"type", required_argument, NULL, OPT_TYPE},
    {"key", required_argument, NULL, OPT_KEY},
    {"not-key", required_argument, NULL, OPT_NOT_KEY},
    {"slot", required_argument, NULL, OPT_SLOT},
    {"min-size", required_argument, NULL, OPT_MIN_SIZE},
    {"max-size", required_argument, NULL, OPT_MAX_SIZE},
    {"ttl", required_argument, NULL, OPT_TTL},
};
const size_t selection_options_n = sizeof(selection_options) / sizeof(*selection_options);

const char selection_help[] =
    "Which keys:\n"
    "  --db N[,N...]        only these dbs\n"
    "  --type T[,T...]      string, list, set, zset, hash, stream, array,\n"
    "                       \"path hash\", module\n"
    "  --key PATTERN        a glob as KEYS takes it; may be given again, one must match\n"
    "  --not-key PATTERN    none of these may match\n"
    "  --slot A-B[,C...]    only keys of these cluster slots\n"
    "  --min-size SIZE      the value takes at least so many bytes in the file (10k, 1m, 2g)\n"
    "  --max-size SIZE      ... at most so many\n"
    "  --ttl WHICH          none, set, expired, or A..B: so long to live (..1h, 10m..7d, 1d..)\n";

struct selection *selection_new(void)
{
    struct selection *s = xcalloc(1, sizeof(*s));
    s->max_size = UINT64_MAX;
    return s;
}

void selection_free(struct selection *s)
{
    if (!s)
        return;
    free(s->dbs);
    free(s->keys.v);
    free(s->not_keys.v);
    free(s->slots);
    free(s);
}

static int bad(struct err *e, const char *option, const char *expected, struct slice got)
{
    return err_set(e, ERR_CONFIG, "--%s: expected %s, not \"%.*s\"", option, expected,
                   got.n > 60 ? 60 : (int)got.n, got.p);
}

typedef int item_fn(struct selection *s, struct slice item, struct err *e);

static int each(struct selection *s, const char *arg, item_fn *fn, struct err *e)
{
    for (;;) {
        size_t n = strcspn(arg, ",");
        int rc = fn(s, slice_make(arg, n), e);
        if (rc || !arg[n])
            return rc;
        arg += n + 1;
    }
}

static int add_db(struct selection *s, struct slice item, struct err *e)
{
    int64_t db;
    if (!slice_i64(item, &db) || db < 0 || db > INT32_MAX)
        return bad(e, "db", "a number of a db", item);
    s->dbs = xrealloc(s->dbs, (s->dbs_n + 1) * sizeof(*s->dbs));
    s->dbs[s->dbs_n++] = (int)db;
    return 0;
}

static int add_type(struct selection *s, struct slice item, struct err *e)
{
    for (int o = RDB_OBJ_STRING; o <= RDB_OBJ_MODULE; o++) {
        if (slice_ieq(item, slice_cstr(rdb_object_name((enum rdb_object)o)))) {
            s->objects |= 1u << o;
            return 0;
        }
    }
    return bad(e, "type", "a type as string or zset", item);
}

static int add_slots(struct selection *s, struct slice item, struct err *e)
{
    const char *dash = memchr(item.p, '-', item.n);
    struct slice first = item, last = item;
    if (dash) {
        first.n = (size_t)(dash - item.p);
        last = slice_make(dash + 1, item.n - first.n - 1);
    }
    uint64_t from, to;
    if (!slice_u64(first, &from) || !slice_u64(last, &to) || to >= SLOT_COUNT || from > to)
        return bad(e, "slot", "slots of 0 to 16383 as 5 or 0-8191", item);
    if (!s->slots)
        s->slots = xcalloc(SLOT_COUNT / 64, sizeof(*s->slots));
    for (; from <= to; from++)
        s->slots[from / 64] |= (uint64_t)1 << from % 64;
    return 0;
}

static void add_pattern(struct patterns *p, const char *arg)
{
    p->v = xrealloc(p->v, (p->n + 1) * sizeof(*p->v));
    p->v[p->n++] = arg;
}

static bool bound(struct slice text, int64_t missing, int64_t *out)
{
    char copy[32];
    *out = missing;
    if (text.n == 0)
        return true;
    if (text.n >= sizeof(copy))
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    return verb_span_ms(copy, out);
}

static int set_ttl(struct selection *s, const char *arg, struct err *e)
{
    static const struct {
        const char *name;
        enum ttl_wanted ttl;
    } words[] = {{"none", TTL_NONE}, {"set", TTL_SET}, {"expired", TTL_EXPIRED}};
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (strcmp(arg, words[i].name) == 0) {
            s->ttl = words[i].ttl;
            return 0;
        }
    }
    const char *dots = strstr(arg, "..");
    s->ttl = TTL_BETWEEN;
    if (!dots || !bound(slice_make(arg, (size_t)(dots - arg)), 0, &s->ttl_from_ms) ||
        !bound(slice_cstr(dots + 2), INT64_MAX, &s->ttl_to_ms) || s->ttl_from_ms > s->ttl_to_ms)
        return bad(e, "ttl", "none, set, expired, or a span as ..1h, 10m..7d, 1d..",
                   slice_cstr(arg));
    return 0;
}

static int set_option(struct selection *s, int option, const char *arg, struct err *e)
{
    switch (option) {
    case OPT_DB:
        return each(s, arg, add_db, e);
    case OPT_TYPE:
        return each(s, arg, add_type, e);
    case OPT_KEY:
        add_pattern(&s->keys, arg);
        return 0;
    case OPT_NOT_KEY:
        add_pattern(&s->not_keys, arg);
        return 0;
    case OPT_SLOT:
        return each(s, arg, add_slots, e);
    case OPT_MIN_SIZE:
        return verb_size(arg, &s->min_size) ? 0 : bad(e, "min-size", "a size", slice_cstr(arg));
    case OPT_MAX_SIZE:
        return verb_size(arg, &s->max_size) ? 0 : bad(e, "max-size", "a size", slice_cstr(arg));
    default:
        return set_ttl(s, arg, e);
    }
}

bool selection_option(struct selection *s, int option, const char *arg, int *rc, struct err *e)
{
    if (option < OPT_DB || option > OPT_TTL)
        return false;
    s->given = true;
    *rc = set_option(s, option, arg, e);
    return true;
}

// One element of a pattern against one byte; *used is what it takes of the pattern.
static bool match_one(const unsigned char *p, unsigned char c, size_t *used)
{
    const unsigned char *start = p;
    if (*p != '[') {
        bool escaped = *p == '\\' && p[1];
        *used = escaped ? 2 : 1;
        return (*p == '?' && !escaped) || p[escaped] == c;
    }
    bool negated = p[1] == '^', hit = false;
    for (p += 1 + negated; *p && *p != ']'; p++) {
        p += *p == '\\' && p[1];
        if (p[1] == '-' && p[2] && p[2] != ']') {
            unsigned char low = p[0] < p[2] ? p[0] : p[2], high = p[0] < p[2] ? p[2] : p[0];
            hit = hit || (c >= low && c <= high);
            p += 2;
        } else {
            hit = hit || *p == c;
        }
    }
    *used = (size_t)(p - start) + (*p == ']');
    return hit != negated;
}

// Only the last star is ever tried again, which is enough and keeps hostile patterns cheap.
static bool glob(const char *pattern, struct slice text)
{
    const unsigned char *p = (const unsigned char *)pattern, *star = NULL;
    const unsigned char *t = (const unsigned char *)text.p, *end = t + text.n, *retry = t;
    size_t used;
    while (t < end) {
        if (*p == '*') {
            star = ++p;
            retry = t;
        } else if (*p && match_one(p, *t, &used)) {
            p += used;
            t++;
        } else if (star) {
            p = star;
            t = ++retry;
        } else {
            return false;
        }
    }
    while (*p == '*')
        p++;
    return !*p;
}

static bool any_matches(const struct patterns *all, struct slice key)
{
    for (size_t i = 0; i < all->n; i++)
        if (glob(all->v[i], key))
            return true;
    return false;
}

static bool db_wanted(const struct selection *s, int db)
{
    for (size_t i = 0; i < s->dbs_n; i++)
        if (s->dbs[i] == db)
            return true;
    return s->dbs_n == 0;
}

static bool ttl_wanted(const struct selection *s, int64_t expire_ms, int64_t now_ms)
{
    switch (s->ttl) {
    case TTL_ANY:
        return true;
    case TTL_NONE:
        return expire_ms < 0;
    case TTL_SET:
        return expire_ms >= 0;
    case TTL_EXPIRED:
        return expire_ms >= 0 && expire_ms <= now_ms;
    default:
        return expire_ms > now_ms && expire_ms - now_ms >= s->ttl_from_ms &&
               expire_ms - now_ms <= s->ttl_to_ms;
    }
}

static bool slot_wanted(const struct selection *s, struct slice key)
{
    unsigned slot = (unsigned)slot_of(key);
    return s->slots[slot / 64] >> slot % 64 & 1;
}

bool selection_wants(const struct selection *s, const struct rdb_item *item, int64_t now_ms)
{
    return db_wanted(s, item->db) && (!s->objects || s->objects >> item->object & 1) &&
           (s->ttl == TTL_ANY || ttl_wanted(s, item->expire_ms, now_ms)) &&
           (!s->slots || slot_wanted(s, item->key)) &&
           (!s->keys.n || any_matches(&s->keys, item->key)) &&
           (!s->not_keys.n || !any_matches(&s->not_keys, item->key));
}

bool selection_wants_size(const struct selection *s, uint64_t bytes)
{
    return bytes >= s->min_size && bytes <= s->max_size;
}

bool selection_has_size(const struct selection *s)
{
    return s->min_size > 0 || s->max_size < UINT64_MAX;
}

bool selection_given(const struct selection *s)
{
    return s->given;
}

int selection_takes(const struct selection *s, struct rdb_input *in, bool *wanted, struct err *e)
{
    struct slice raw;
    uint64_t limit = s->max_size < UINT64_MAX ? s->max_size : s->min_size - 1;
    *wanted = true;
    if (!selection_has_size(s))
        return 0;
    int rc = rdb_input_raw(in, limit, &raw, e);
    if (rc < 0)
        return rc;
    if (rc == RDB_TOO_BIG) {
        *wanted = s->max_size == UINT64_MAX;
    } else {
        *wanted = selection_wants_size(s, raw.n);
        rdb_input_again(in);
    }
    return 0;
}

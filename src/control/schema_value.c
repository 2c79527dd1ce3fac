// SPDX-License-Identifier: Apache-2.0
// One value: text to field, field to text.
#include "control/schema.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

#define SLOT_MAX 16383
// Longer lists are a mistake, or an attack on our memory.
#define LIST_MAX 65536

// A bad value as shown in a message: short and printable.
static const char *shown(const char *text, char *dst, size_t cap)
{
    size_t n = 0;
    for (const char *p = text; *p && n + 4 < cap; p++)
        dst[n++] = isprint((unsigned char)*p) ? *p : '?';
    if (strlen(text) > n) {
        memcpy(dst + n, "...", 3);
        n += 3;
    }
    dst[n] = 0;
    return dst;
}

#define SHOWN(text) shown(text, (char[64]){0}, 64)

bool schema_is_list(const struct schema_row *r)
{
    return r->type == T_STRS || r->type == T_NAMES || r->type == T_ADDRS || r->type == T_INTS ||
           r->type == T_SLOTS;
}

static void strs_clear(struct str_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
    *l = (struct str_list){0};
}

void schema_clear(struct config *c, const struct schema_row *r)
{
    void *f = schema_field(c, r);
    switch (r->type) {
    case T_STR:
    case T_SECRET:
        free(*(char **)f);
        *(char **)f = NULL;
        break;
    case T_STRS:
    case T_NAMES:
    case T_ADDRS:
        strs_clear(f);
        break;
    case T_INTS:
        free(((struct int_list *)f)->v);
        *(struct int_list *)f = (struct int_list){0};
        break;
    case T_SLOTS:
        free(((struct slot_list *)f)->v);
        *(struct slot_list *)f = (struct slot_list){0};
        break;
    case T_DBMAP:
        free(((struct db_map *)f)->v);
        *(struct db_map *)f = (struct db_map){0};
        break;
    case T_BOOL:
    case T_INT:
    case T_INT32:
    case T_SIZE:
    case T_MS:
    case T_ENUM:
    case T_IGNORED:
        break;
    }
}

static int parse_i64(const char *text, int64_t *out, struct err *e)
{
    if (!slice_i64(slice_cstr(text), out))
        return err_set(e, ERR_CONFIG, "expected a whole number, not \"%s\"", SHOWN(text));
    return 0;
}

static int parse_bool(const char *text, bool *out, struct err *e)
{
    static const char *const yes[] = {"true", "yes", "on", "1", "t"};
    static const char *const no[] = {"false", "no", "off", "0", "f"};
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcasecmp(text, yes[i]) == 0)
            return *out = true, 0;
        if (strcasecmp(text, no[i]) == 0)
            return *out = false, 0;
    }
    return err_set(e, ERR_CONFIG, "expected true or false, not \"%s\"", SHOWN(text));
}

static int parse_size(const char *text, int64_t *out, struct err *e)
{
    static const struct {
        const char *unit;
        int shift;
    } units[] = {{"", 0},    {"b", 0},    {"kb", 10},  {"mb", 20},  {"gb", 30},
                 {"tb", 40}, {"kib", 10}, {"mib", 20}, {"gib", 30}, {"tib", 40}};
    size_t n = strspn(text, "-0123456789");
    const char *unit = text + n + strspn(text + n, " ");
    int64_t v;
    if (slice_i64(slice_make(text, n), &v)) {
        for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
            if (strcasecmp(unit, units[i].unit) != 0)
                continue;
            if (__builtin_mul_overflow(v, INT64_C(1) << units[i].shift, out))
                return err_set(e, ERR_CONFIG, "%s is too large", SHOWN(text));
            return 0;
        }
    }
    return err_set(e, ERR_CONFIG, "expected bytes (1048576, 100MiB, 50GiB), not \"%s\"",
                   SHOWN(text));
}

// One "1.5h" at *p; moves *p behind it. False: malformed or too long.
static bool parse_span(const char **p, int64_t *ns)
{
    static const struct {
        const char *unit;
        int64_t ns;
    } units[] = {
        {"ns", 1},         {"us", 1000},       {"\xc2\xb5s", 1000},  {"ms", 1000000},
        {"s", 1000000000}, {"m", 60000000000}, {"h", 3600000000000}, {"d", 86400000000000}};
    size_t whole = strspn(*p, "0123456789");
    const char *fraction = *p + whole + ((*p)[whole] == '.');
    size_t digits = fraction > *p + whole ? strspn(fraction, "0123456789") : 0;
    const char *unit = fraction + digits;
    size_t len = strcspn(unit, "0123456789."), u = 0, units_n = sizeof(units) / sizeof(units[0]);
    while (u < units_n && (strlen(units[u].unit) != len || memcmp(units[u].unit, unit, len) != 0))
        u++;
    if (u == units_n || whole + digits == 0)
        return false;
    *ns = 0;
    for (const char *d = *p; d < *p + whole; d++)
        if (__builtin_mul_overflow(*ns, 10, ns) || __builtin_add_overflow(*ns, *d - '0', ns))
            return false;
    if (__builtin_mul_overflow(*ns, units[u].ns, ns))
        return false;
    int64_t place = units[u].ns;
    for (size_t i = 0; i < digits && (place /= 10) > 0; i++)
        if (__builtin_add_overflow(*ns, place * (fraction[i] - '0'), ns))
            return false;
    *p = unit + len;
    return true;
}

// Go's duration syntax. A bare number was nanoseconds in redisGunYu's YAML.
static int parse_ms(const char *text, int64_t *out, struct err *e)
{
    const char *p = text + (*text == '-' || *text == '+');
    int64_t total = 0, span = 0;
    bool ok = *p != 0;
    if (slice_i64(slice_cstr(text), &total)) {
        total = total < 0 && total > INT64_MIN ? -total : total;
        ok = total >= 0;
        p += strlen(p);
    }
    while (ok && *p)
        ok = parse_span(&p, &span) && !__builtin_add_overflow(total, span, &total);
    if (!ok)
        return err_set(e, ERR_CONFIG, "expected a duration (500ms, 10s, 1h30m), not \"%s\"",
                       SHOWN(text));
    // Rounded up, so that what is not zero stays so.
    int64_t ms = total / 1000000 + (total % 1000000 != 0);
    *out = *text == '-' ? -ms : ms;
    return 0;
}

static int parse_enum(const struct schema_row *r, const char *text, void *field, struct err *e)
{
    for (const struct schema_word *w = r->words; w->text; w++) {
        if (strcasecmp(w->text, text) == 0) {
            memcpy(field, &w->value, sizeof(int));
            return 0;
        }
    }
    struct buf names = {0};
    for (const struct schema_word *w = r->words; w->text; w++)
        if (!w->alias)
            buf_printf(&names, "%s%s", names.n ? ", " : "", w->text);
    err_set(e, ERR_CONFIG, "expected one of %s, not \"%s\"", buf_cstr(&names), SHOWN(text));
    buf_free(&names);
    return ERR_CONFIG;
}

static int check_range(const struct schema_row *r, int64_t v, struct err *e)
{
    if ((r->min == 0 && r->max == 0) || (v >= r->min && v <= r->max))
        return 0;
    if (r->type == T_INTS || r->type == T_INT32 || r->type == T_DBMAP || r->out == OUT_ERROR)
        return err_set(e, ERR_CONFIG, "%" PRId64 " is outside of %" PRId64 " to %" PRId64, v,
                       r->min, r->max);
    return 0;
}

static void *grow(void *v, size_t n, size_t size)
{
    return (n & (n - 1)) == 0 ? xrealloc(v, (n ? n * 2 : 1) * size) : v;
}

static int add_slots(struct slot_list *l, const char *text, struct err *e)
{
    int64_t from, to;
    const char *comma = strchr(text, ',');
    size_t n = comma ? (size_t)(comma - text) : strlen(text);
    const char *second = comma ? comma + 1 + strspn(comma + 1, " ") : text;
    if (!slice_i64(slice_make(text, n), &from) ||
        !slice_i64(comma ? slice_cstr(second) : slice_make(text, n), &to))
        return err_set(e, ERR_CONFIG, "expected a slot or a range like [0, 1000], not \"%s\"",
                       SHOWN(text));
    if (from < 0 || to > SLOT_MAX || from > to)
        return err_set(e, ERR_CONFIG, "slots \"%s\" are not a range within 0 to %d", SHOWN(text),
                       SLOT_MAX);
    l->v = grow(l->v, l->n, sizeof(*l->v));
    l->v[l->n++] = (struct slot_range){(uint16_t)from, (uint16_t)to};
    return 0;
}

int schema_add(struct config *c, const struct schema_row *r, const char *text, struct err *e)
{
    void *f = schema_field(c, r);
    struct str_list *strs = f;
    struct int_list *ints = f;
    size_t n = r->type == T_INTS    ? ints->n
               : r->type == T_SLOTS ? ((struct slot_list *)f)->n
                                    : strs->n;
    if (n >= LIST_MAX)
        return err_set(e, ERR_CONFIG, "more than %d items", LIST_MAX);
    if (r->type == T_SLOTS)
        return add_slots(f, text, e);
    if (r->type == T_INTS) {
        int64_t v;
        int rc = parse_i64(text, &v, e);
        if (!rc)
            rc = check_range(r, v, e);
        if (rc)
            return rc;
        ints->v = grow(ints->v, n, sizeof(*ints->v));
        ints->v[ints->n++] = v;
        return 0;
    }
    if (!*text)
        return err_set(e, ERR_CONFIG, "an item is empty");
    strs->v = grow(strs->v, n, sizeof(*strs->v));
    strs->v[strs->n++] = xstrdup(text);
    if (r->type == T_NAMES)
        for (char *p = strs->v[n]; *p; p++)
            *p = (char)tolower((unsigned char)*p);
    return 0;
}

int schema_add_pair(struct config *c, const struct schema_row *r, const char *key,
                    const char *value, struct err *e)
{
    struct db_map *m = schema_field(c, r);
    int64_t from, to;
    if (!slice_i64(slice_cstr(key), &from) || !slice_i64(slice_cstr(value), &to) || from < 0 ||
        to < 0 || from > 1 << 20 || to > 1 << 20)
        return err_set(e, ERR_CONFIG, "expected pairs of db numbers, not \"%s: %s\"", SHOWN(key),
                       SHOWN(value));
    for (size_t i = 0; i < m->n; i++)
        if (m->v[i].from == from)
            return err_set(e, ERR_CONFIG, "db %" PRId64 " is mapped twice", from);
    if (m->n >= LIST_MAX)
        return err_set(e, ERR_CONFIG, "more than %d pairs", LIST_MAX);
    m->v = grow(m->v, m->n, sizeof(*m->v));
    m->v[m->n++] = (struct db_pair){(int)from, (int)to};
    return 0;
}

static char *trim(char *s)
{
    s += strspn(s, " \t");
    size_t n = strlen(s);
    while (n && (s[n - 1] == ' ' || s[n - 1] == '\t'))
        s[--n] = 0;
    return s;
}

// "[0,1000],[1002]", outer brackets optional; or "0,1000" alone.
static int set_slots(struct config *c, const struct schema_row *r, char *text, struct err *e)
{
    char *p = text;
    while (*p == '[' || *p == ' ')
        p++;
    for (size_t n = strlen(p); n && (p[n - 1] == ']' || p[n - 1] == ' ');)
        p[--n] = 0;
    while (*p) {
        size_t n = strcspn(p, "]");
        char *next = p + n;
        if (*next) {
            *next++ = 0;
            next += strspn(next, "], [");
        }
        int rc = schema_add(c, r, trim(p), e);
        if (rc)
            return rc;
        p = next;
    }
    return 0;
}

// "0:1,2:3", also as {"0":1,"2":3}.
static int set_map(struct config *c, const struct schema_row *r, char *text, struct err *e)
{
    size_t w = 0;
    for (size_t i = 0; text[i]; i++)
        if (!strchr("{}\"' ", text[i]))
            text[w++] = text[i];
    text[w] = 0;
    char *save = NULL;
    for (char *pair = strtok_r(text, ",", &save); pair; pair = strtok_r(NULL, ",", &save)) {
        char *colon = strchr(pair, ':');
        if (!colon)
            return err_set(e, ERR_CONFIG, "expected pairs like 0:1,2:3, not \"%s\"", SHOWN(pair));
        *colon = 0;
        int rc = schema_add_pair(c, r, pair, colon + 1, e);
        if (rc)
            return rc;
    }
    return 0;
}

static int set_list(struct config *c, const struct schema_row *r, char *text, struct err *e)
{
    char *save = NULL;
    for (char *item = strtok_r(text, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        int rc = schema_add(c, r, r->no_split ? item : trim(item), e);
        if (rc)
            return rc;
    }
    return 0;
}

static int set_number(const struct schema_row *r, const char *text, void *f, struct err *e)
{
    int64_t v = 0;
    int rc = r->type == T_MS     ? parse_ms(text, &v, e)
             : r->type == T_SIZE ? parse_size(text, &v, e)
                                 : parse_i64(text, &v, e);
    if (!rc && !(v == 0 && r->zero_ok))
        rc = check_range(r, v, e);
    if (rc)
        return rc;
    if (r->type == T_INT32)
        *(int *)f = (int)v;
    else
        *(int64_t *)f = v;
    return 0;
}

int schema_set(struct config *c, const struct schema_row *r, const char *text, struct err *e)
{
    void *f = schema_field(c, r);
    schema_clear(c, r);
    switch (r->type) {
    case T_BOOL: {
        bool v = false;
        int rc = parse_bool(text, &v, e);
        *(bool *)f = v != r->invert;
        return rc;
    }
    case T_INT:
    case T_INT32:
    case T_SIZE:
    case T_MS:
        return set_number(r, text, f, e);
    case T_ENUM:
        return parse_enum(r, text, f, e);
    case T_STR:
    case T_SECRET:
        *(char **)f = *text ? xstrdup(text) : NULL;
        return 0;
    case T_IGNORED:
        return 0;
    case T_STRS:
    case T_NAMES:
    case T_ADDRS:
    case T_INTS:
    case T_SLOTS:
    case T_DBMAP: {
        char *copy = xstrdup(text);
        int rc = r->type == T_SLOTS   ? set_slots(c, r, copy, e)
                 : r->type == T_DBMAP ? set_map(c, r, copy, e)
                                      : set_list(c, r, copy, e);
        free(copy);
        return rc;
    }
    }
    return 0;
}

void schema_redact_address(const char *address, struct buf *out)
{
    const char *at = strrchr(address, '@');
    const char *start = strstr(address, "://");
    start = start ? start + 3 : address;
    if (!at || at < start) {
        // A query may carry a password too (unix:///path?password=...).
        size_t n = strcspn(address, "?");
        buf_append(out, address, n);
        return;
    }
    buf_append(out, address, (size_t)(start - address));
    buf_append_cstr(out, "***");
    buf_append(out, at, strcspn(at, "?"));
}

void schema_format_ms(int64_t ms, struct buf *out)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    if (ms == 0)
        buf_append_cstr(out, "0s");
    if (ms < 0)
        buf_append_char(out, '-');
    uint64_t left = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]) && left; i++) {
        uint64_t n = left / (uint64_t)units[i].ms;
        left %= (uint64_t)units[i].ms;
        if (n)
            buf_printf(out, "%" PRIu64 "%s", n, units[i].unit);
    }
}

void schema_format_size(int64_t size, struct buf *out)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t u = 0;
    while (size && size % 1024 == 0 && u + 1 < sizeof(units) / sizeof(units[0])) {
        size /= 1024;
        u++;
    }
    buf_printf(out, "%" PRId64 "%s", size, units[u]);
}

static bool format_list(const struct schema_row *r, const void *f, bool redacted, struct buf *out)
{
    const struct str_list *strs = f;
    const struct int_list *ints = f;
    const struct slot_list *slots = f;
    const struct db_map *map = f;
    size_t n = r->type == T_INTS    ? ints->n
               : r->type == T_SLOTS ? slots->n
               : r->type == T_DBMAP ? map->n
                                    : strs->n;
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_append_char(out, ',');
        if (r->type == T_INTS)
            buf_append_i64(out, ints->v[i]);
        else if (r->type == T_SLOTS)
            buf_printf(out, "[%d,%d]", slots->v[i].from, slots->v[i].to);
        else if (r->type == T_DBMAP)
            buf_printf(out, "%d:%d", map->v[i].from, map->v[i].to);
        else if (r->type == T_ADDRS && redacted)
            schema_redact_address(strs->v[i], out);
        else
            buf_append_cstr(out, strs->v[i]);
    }
    return n > 0;
}

bool schema_format(const struct config *c, const struct schema_row *r, bool redacted,
                   struct buf *out)
{
    const void *f = schema_field(c, r);
    switch (r->type) {
    case T_BOOL:
        buf_append_cstr(out, *(const bool *)f != r->invert ? "true" : "false");
        return true;
    case T_INT:
        buf_append_i64(out, *(const int64_t *)f);
        return true;
    case T_INT32:
        buf_append_i64(out, *(const int *)f);
        return true;
    case T_SIZE:
        schema_format_size(*(const int64_t *)f, out);
        return true;
    case T_MS:
        schema_format_ms(*(const int64_t *)f, out);
        return true;
    case T_STR:
    case T_SECRET: {
        const char *s = *(char *const *)f;
        if (s)
            buf_append_cstr(out, r->type == T_SECRET && redacted ? "***" : s);
        return s != NULL;
    }
    case T_ENUM: {
        int v;
        memcpy(&v, f, sizeof(v));
        for (const struct schema_word *w = r->words; w->text; w++) {
            if (w->value == v && !w->alias) {
                buf_append_cstr(out, w->text);
                return true;
            }
        }
        return false;
    }
    case T_IGNORED:
        return false;
    case T_STRS:
    case T_NAMES:
    case T_ADDRS:
    case T_INTS:
    case T_SLOTS:
    case T_DBMAP:
        return format_list(r, f, redacted, out);
    }
    return false;
}

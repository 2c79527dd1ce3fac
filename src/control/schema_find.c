// SPDX-License-Identifier: Apache-2.0
#include "control/schema.h"

#include <ctype.h>
#include <string.h>

// Longer names are not worth comparing; they bound the cost on hostile input too.
#define NAME_MAX_LEN 64

static bool in_scope(const struct schema_row *r, enum config_scope s)
{
    return (r->scope & schema_scope(s)) != 0;
}

// Length of the first dotted component.
static size_t component(const char *p)
{
    return strcspn(p, ".");
}

// A given component is the canonical one, or that in lower case throughout (what Go's YAML makes of
// field names without a tag).
static bool component_eq(const char *canonical, const char *given, size_t n)
{
    if (memcmp(canonical, given, n) == 0)
        return true;
    for (size_t i = 0; i < n; i++)
        if (tolower((unsigned char)canonical[i]) != given[i])
            return false;
    return true;
}

// Matches `given` against the beginning of `canonical`. Returns the length of what matched of
// canonical, 0 when it does not match at whole components.
static size_t match_prefix(const char *canonical, const char *given)
{
    const char *c = canonical, *g = given;
    for (;;) {
        size_t nc = component(c), ng = component(g);
        if (nc != ng || !component_eq(c, g, nc))
            return 0;
        c += nc;
        g += ng;
        if (*g == 0)
            return (size_t)(c - canonical);
        if (*c == 0)
            return 0;
        c++;
        g++;
    }
}

static bool match(const char *canonical, const char *given)
{
    return canonical && match_prefix(canonical, given) == strlen(canonical);
}

static bool match_any(const char *list, const char *given)
{
    char one[128];
    for (const char *p = list; p && *p;) {
        size_t n = strcspn(p, " ");
        if (n < sizeof(one)) {
            memcpy(one, p, n);
            one[n] = 0;
            if (match(one, given))
                return true;
        }
        p += n + (p[n] == ' ');
    }
    return false;
}

// Rewrites a path that goes through a section's second name. False: it does not fit.
static bool resolve_section(const char *path, enum config_scope s, char *out, size_t cap)
{
    for (size_t i = 0; s == CONFIG_SYNC && i < schema_section_aliases_n; i++) {
        const struct schema_section_alias *a = &schema_section_aliases[i];
        size_t n = strlen(a->from);
        if (strlen(path) >= n && component_eq(a->from, path, n) &&
            (path[n] == '.' || path[n] == 0)) {
            int len = snprintf(out, cap, "%s%s", a->to, path + n);
            return len > 0 && (size_t)len < cap;
        }
    }
    int len = snprintf(out, cap, "%s", path);
    return len >= 0 && (size_t)len < cap;
}

int schema_row_index(const char *path, enum config_scope s)
{
    for (size_t i = 0; i < schema_rows_n; i++)
        if (in_scope(&schema_rows[i], s) && strcmp(schema_rows[i].path, path) == 0)
            return (int)i;
    return -1;
}

int schema_find(const char *path, enum config_scope s)
{
    char full[256];
    if (!resolve_section(path, s, full, sizeof(full)))
        return -1;
    for (size_t i = 0; i < schema_rows_n; i++) {
        const struct schema_row *r = &schema_rows[i];
        if (in_scope(r, s) && (match(r->path, full) || match_any(r->alias, full)))
            return (int)i;
    }
    return -1;
}

int schema_find_flag(const char *name, enum config_scope s)
{
    for (size_t i = 0; i < schema_rows_n; i++)
        if (in_scope(&schema_rows[i], s) && match(schema_rows[i].flag, name))
            return (int)i;
    return schema_find(name, s);
}

bool schema_is_section(const char *path, enum config_scope s, char *canonical, size_t cap)
{
    char full[256];
    if (!resolve_section(path, s, full, sizeof(full)))
        return false;
    for (size_t i = 0; i < schema_rows_n; i++) {
        const struct schema_row *r = &schema_rows[i];
        size_t n = in_scope(r, s) ? match_prefix(r->path, full) : 0;
        if (n && r->path[n] == '.' && n < cap) {
            memcpy(canonical, r->path, n);
            canonical[n] = 0;
            return true;
        }
    }
    return false;
}

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

// Edits (insert, delete, replace, swap of neighbours) that turn a into b, case aside.
static size_t distance(const char *a, size_t na, const char *b, size_t nb)
{
    size_t rows[3][NAME_MAX_LEN + 1];
    if (na > NAME_MAX_LEN || nb > NAME_MAX_LEN)
        return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t *cur = rows[i % 3], *prev = rows[(i + 2) % 3], *prev2 = rows[(i + 1) % 3];
        int ca = tolower((unsigned char)a[i - 1]);
        cur[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            int cb = tolower((unsigned char)b[j - 1]);
            cur[j] = min3(prev[j] + 1, cur[j - 1] + 1, prev[j - 1] + (ca != cb));
            bool swap = i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) &&
                        cb == tolower((unsigned char)a[i - 2]);
            if (swap && prev2[j - 2] + 1 < cur[j])
                cur[j] = prev2[j - 2] + 1;
        }
    }
    return rows[na % 3][nb];
}

struct nearest {
    const char *name, *best;
    size_t len, best_len, best_distance;
};

static void consider(struct nearest *n, const char *candidate, size_t len)
{
    size_t d = distance(n->name, n->len, candidate, len);
    // Further than a third of the name is another word, not a slip.
    size_t limit = n->len / 3 > 2 ? n->len / 3 : 2;
    if (d <= limit && d < n->len && d < n->best_distance) {
        n->best = candidate;
        n->best_len = len;
        n->best_distance = d;
    }
}

// The part of a row's path below the section; NULL: it is elsewhere.
static const char *below(const struct schema_row *r, const char *section)
{
    size_t n = strlen(section);
    if (strncmp(r->path, section, n) != 0)
        return NULL;
    if (n == 0)
        return r->path;
    return r->path[n] == '.' ? r->path + n + 1 : NULL;
}

bool schema_nearest(const char *section, const char *name, enum config_scope s, char *out,
                    size_t cap)
{
    struct nearest n = {.name = name, .len = strlen(name), .best_distance = SIZE_MAX};
    for (size_t i = 0; i < schema_rows_n; i++) {
        const char *rest = in_scope(&schema_rows[i], s) ? below(&schema_rows[i], section) : NULL;
        if (rest)
            consider(&n, rest, component(rest));
    }
    if (!n.best) {
        for (size_t i = 0; i < schema_rows_n && !n.best; i++) {
            const char *leaf = strrchr(schema_rows[i].path, '.');
            if (in_scope(&schema_rows[i], s) && leaf && strcasecmp(leaf + 1, name) == 0) {
                n.best = schema_rows[i].path;
                n.best_len = strlen(n.best);
            }
        }
    }
    if (n.best)
        snprintf(out, cap, "%.*s", (int)n.best_len, n.best);
    return n.best != NULL;
}

bool schema_nearest_flag(const char *name, enum config_scope s, char *out, size_t cap)
{
    struct nearest n = {.name = name, .len = strlen(name), .best_distance = SIZE_MAX};
    for (size_t i = 0; i < schema_rows_n; i++) {
        const struct schema_row *r = &schema_rows[i];
        if (!in_scope(r, s))
            continue;
        const char *flag = r->flag ? r->flag : r->path;
        consider(&n, flag, strlen(flag));
    }
    if (n.best)
        snprintf(out, cap, "%s", n.best);
    return n.best != NULL;
}

void schema_children(const char *section, enum config_scope s, struct buf *out)
{
    const char *last = "";
    for (size_t i = 0; i < schema_rows_n; i++) {
        const char *rest = in_scope(&schema_rows[i], s) ? below(&schema_rows[i], section) : NULL;
        if (!rest)
            continue;
        size_t n = component(rest);
        // Rows of a section stand together, so a repeated name follows itself.
        if (strncmp(last, rest, n) == 0 && (last[n] == '.' || last[n] == 0))
            continue;
        buf_printf(out, "%s%.*s", *last ? ", " : "", (int)n, rest);
        last = rest;
    }
}

// SPDX-License-Identifier: Apache-2.0
// A YAML document to rows. The tree is walked only as deep as the schema goes, so neither nesting
// nor references back to an anchor can make the walk long.
#include "control/config_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

// More nodes than any configuration has; libyaml's tree costs about 100 bytes each.
#define INPUT_MAX_SIZE (1u << 20)

struct walk {
    struct config_builder *b;
    const char *name;
    yaml_document_t *doc;
};

static struct config_mark mark_of(const struct walk *w, const yaml_node_t *n)
{
    return (struct config_mark){w->name, (int)n->start_mark.line + 1,
                                (int)n->start_mark.column + 1};
}

#define NODE_ERROR(w, node, ...)                                                                   \
    do {                                                                                           \
        struct config_mark mark_ = mark_of(w, node);                                               \
        config_diag_add((w)->b->d, DIAG_ERROR, mark_.file, mark_.line, mark_.col, __VA_ARGS__);    \
    } while (0)

static bool too_many(const struct walk *w)
{
    return w->b->d->errors >= CONFIG_ERRORS_MAX;
}

static const char *kind(const yaml_node_t *n)
{
    return n->type == YAML_SEQUENCE_NODE  ? "a list"
           : n->type == YAML_MAPPING_NODE ? "a mapping"
                                          : "a single value";
}

static bool is_null(const yaml_node_t *n)
{
    if (n->type == YAML_NO_NODE)
        return true;
    if (n->type != YAML_SCALAR_NODE || n->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    const char *s = (const char *)n->data.scalar.value;
    return !*s || strcmp(s, "~") == 0 || strcasecmp(s, "null") == 0;
}

static bool expand(struct walk *w, const yaml_node_t *n, struct buf *out)
{
    const char *s = (const char *)n->data.scalar.value;
    if (strlen(s) != n->data.scalar.length) {
        NODE_ERROR(w, n, "a value has a NUL byte in it");
        return false;
    }
    struct err e = {0};
    if (config_expand(s, out, &e)) {
        NODE_ERROR(w, n, "%s", e.msg);
        return false;
    }
    return true;
}

static void set_scalar(struct walk *w, int row, const yaml_node_t *n)
{
    const struct schema_row *r = &schema_rows[row];
    struct buf text = {0};
    struct err e = {0};
    if (expand(w, n, &text)) {
        const char *s = buf_cstr(&text);
        int rc = r->no_split && schema_is_list(r) ? schema_add(w->b->c, r, s, &e)
                                                  : schema_set(w->b->c, r, s, &e);
        if (rc)
            NODE_ERROR(w, n, "%s: %s", r->path, e.msg);
    }
    buf_free(&text);
}

// An item of a list as text; a pair of slots becomes "a,b".
static bool item_text(struct walk *w, int row, const yaml_node_t *n, struct buf *out)
{
    const struct schema_row *r = &schema_rows[row];
    if (n->type == YAML_SCALAR_NODE && !is_null(n))
        return expand(w, n, out);
    if (r->type != T_SLOTS || n->type != YAML_SEQUENCE_NODE) {
        NODE_ERROR(w, n, "%s: an item is %s; expected a single value", r->path,
                   is_null(n) ? "empty" : kind(n));
        return false;
    }
    size_t count = (size_t)(n->data.sequence.items.top - n->data.sequence.items.start);
    if (count < 1 || count > 2) {
        NODE_ERROR(w, n, "%s: a range is [slot] or [first, last]", r->path);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        yaml_node_t *item = yaml_document_get_node(w->doc, n->data.sequence.items.start[i]);
        if (!item || item->type != YAML_SCALAR_NODE) {
            NODE_ERROR(w, n, "%s: a range is [slot] or [first, last]", r->path);
            return false;
        }
        if (i)
            buf_append_char(out, ',');
        if (!expand(w, item, out))
            return false;
    }
    return true;
}

static void set_list(struct walk *w, int row, const yaml_node_t *n)
{
    for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
        yaml_node_t *item = yaml_document_get_node(w->doc, *i);
        struct buf text = {0};
        struct err e = {0};
        if (item && item_text(w, row, item, &text) &&
            schema_add(w->b->c, &schema_rows[row], buf_cstr(&text), &e))
            NODE_ERROR(w, item, "%s: %s", schema_rows[row].path, e.msg);
        buf_free(&text);
        if (too_many(w))
            return;
    }
}

static void set_map(struct walk *w, int row, const yaml_node_t *n)
{
    const struct schema_row *r = &schema_rows[row];
    for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
        yaml_node_t *key = yaml_document_get_node(w->doc, p->key);
        yaml_node_t *value = yaml_document_get_node(w->doc, p->value);
        struct buf k = {0}, v = {0};
        struct err e = {0};
        if (!key || !value || key->type != YAML_SCALAR_NODE || value->type != YAML_SCALAR_NODE)
            NODE_ERROR(w, n, "%s: expected pairs of db numbers", r->path);
        else if (expand(w, key, &k) && expand(w, value, &v) &&
                 schema_add_pair(w->b->c, r, buf_cstr(&k), buf_cstr(&v), &e))
            NODE_ERROR(w, key, "%s: %s", r->path, e.msg);
        buf_free(&k);
        buf_free(&v);
        if (too_many(w))
            return;
    }
}

static void set_row(struct walk *w, int row, const yaml_node_t *key, const yaml_node_t *value)
{
    const struct schema_row *r = &schema_rows[row];
    struct config_builder *b = w->b;
    if (b->c->given[row]) {
        NODE_ERROR(w, key, "%s is given twice; first in line %d", r->path, b->marks[row].line);
        return;
    }
    config_mark_given(b, row, mark_of(w, key));
    if (r->type == T_IGNORED) {
        config_row_diag(b, row, DIAG_WARNING, "%s has no effect: %s", r->path, r->note);
        return;
    }
    if (is_null(value)) {
        b->c->given[row] = 0;
        b->marks[row].line = 0;
        return;
    }
    schema_clear(b->c, r);
    if (value->type == YAML_SCALAR_NODE)
        set_scalar(w, row, value);
    else if (value->type == YAML_SEQUENCE_NODE && schema_is_list(r))
        set_list(w, row, value);
    else if (value->type == YAML_MAPPING_NODE && r->type == T_DBMAP)
        set_map(w, row, value);
    else
        NODE_ERROR(w, value, "%s: expected %s, not %s", r->path,
                   r->type == T_DBMAP  ? "a mapping"
                   : schema_is_list(r) ? "a list"
                                       : "a single value",
                   kind(value));
}

static void unknown_key(struct walk *w, const yaml_node_t *key, const char *section,
                        const char *name)
{
    char printable[80], near[256];
    size_t n = 0;
    for (; name[n] && n + 1 < sizeof(printable); n++)
        printable[n] = isprint((unsigned char)name[n]) ? name[n] : '?';
    printable[n] = 0;
    char where[256] = "";
    if (*section)
        snprintf(where, sizeof(where), " in %s", section);
    if (strcmp(name, "<<") == 0) {
        NODE_ERROR(w, key, "merge keys (<<) are not supported%s; write the keys out", where);
    } else if (schema_nearest(section, name, w->b->scope, near, sizeof(near))) {
        NODE_ERROR(w, key, "unknown key \"%s\"%s; did you mean \"%s\"?", printable, where, near);
    } else {
        struct buf all = {0};
        schema_children(section, w->b->scope, &all);
        NODE_ERROR(w, key, "unknown key \"%s\"%s; known are %s", printable, where, buf_cstr(&all));
        buf_free(&all);
    }
}

static void walk_section(struct walk *w, const yaml_node_t *n, const char *section);

// seen holds the sections met so far in this mapping, each between newlines.
static void walk_pair(struct walk *w, const char *section, const yaml_node_t *key,
                      const yaml_node_t *value, struct buf *seen)
{
    char path[256], canonical[256], line[260];
    if (key->type != YAML_SCALAR_NODE) {
        NODE_ERROR(w, key, "a key is %s; expected a name", kind(key));
        return;
    }
    const char *name = (const char *)key->data.scalar.value;
    int len = snprintf(path, sizeof(path), "%s%s%s", section, *section ? "." : "", name);
    // A dot in a key would reach into another section.
    if (len < 0 || (size_t)len >= sizeof(path) || strchr(name, '.') || !*name ||
        strlen(name) != key->data.scalar.length) {
        unknown_key(w, key, section, name);
        return;
    }
    int row = schema_find(path, w->b->scope);
    if (row >= 0) {
        set_row(w, row, key, value);
        return;
    }
    if (!schema_is_section(path, w->b->scope, canonical, sizeof(canonical))) {
        unknown_key(w, key, section, name);
        return;
    }
    snprintf(line, sizeof(line), "\n%s\n", canonical);
    if (strstr(buf_cstr(seen), line)) {
        NODE_ERROR(w, key, "section %s is given twice", canonical);
        return;
    }
    buf_append_cstr(seen, line);
    if (value->type == YAML_MAPPING_NODE)
        walk_section(w, value, canonical);
    else if (!is_null(value))
        NODE_ERROR(w, value, "%s: expected a mapping, not %s", canonical, kind(value));
}

static void walk_section(struct walk *w, const yaml_node_t *n, const char *section)
{
    struct buf seen = {0};
    for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
        yaml_node_t *key = yaml_document_get_node(w->doc, p->key);
        yaml_node_t *value = yaml_document_get_node(w->doc, p->value);
        if (key && value)
            walk_pair(w, section, key, value, &seen);
        if (too_many(w))
            break;
    }
    buf_free(&seen);
}

static void syntax_error(struct config_builder *b, const char *name, const yaml_parser_t *p)
{
    b->unreadable = true;
    const char *problem = p->problem ? p->problem : "not readable";
    if (p->error == YAML_READER_ERROR)
        config_diag_add(b->d, DIAG_ERROR, name, 0, 0, "not valid UTF-8 text at byte %zu: %s",
                        p->problem_offset, problem);
    else
        config_diag_add(b->d, DIAG_ERROR, name, (int)p->problem_mark.line + 1,
                        (int)p->problem_mark.column + 1, "YAML: %s%s%s", problem,
                        p->context ? ", " : "", p->context ? p->context : "");
}

static void read_document(struct config_builder *b, const char *name, yaml_document_t *doc)
{
    struct walk w = {b, name, doc};
    yaml_node_t *root = yaml_document_get_root_node(doc);
    b->unreadable = !root || root->type != YAML_MAPPING_NODE;
    if (!root || is_null(root))
        config_diag_add(b->d, DIAG_ERROR, name, 0, 0, "is empty");
    else if (b->unreadable)
        NODE_ERROR(&w, root, "expected a mapping at the top, not %s", kind(root));
    else
        walk_section(&w, root, "");
    if (too_many(&w)) {
        b->unreadable = true;
        config_diag_add(b->d, DIAG_ERROR, name, 0, 0, "too many errors; the rest was not read");
    }
}

void config_read_yaml(struct config_builder *b, const char *name, struct slice text)
{
    yaml_parser_t parser;
    yaml_document_t doc;
    if (text.n > INPUT_MAX_SIZE || !yaml_parser_initialize(&parser)) {
        b->unreadable = true;
        config_diag_add(b->d, DIAG_ERROR, name, 0, 0, "is too large");
        return;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)(text.n ? text.p : ""), text.n);
    if (!yaml_parser_load(&parser, &doc)) {
        syntax_error(b, name, &parser);
    } else {
        read_document(b, name, &doc);
        yaml_document_delete(&doc);
        if (!yaml_parser_load(&parser, &doc)) {
            syntax_error(b, name, &parser);
        } else {
            yaml_node_t *more = yaml_document_get_root_node(&doc);
            if (more)
                config_diag_add(b->d, DIAG_ERROR, name, (int)more->start_mark.line + 1, 1,
                                "a second YAML document; one file holds one");
            yaml_document_delete(&doc);
        }
    }
    yaml_parser_delete(&parser);
}

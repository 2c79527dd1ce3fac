// SPDX-License-Identifier: Apache-2.0
// A configuration as YAML or JSON: every key of its scope that has a value.
#include "control/config_internal.h"

#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

// A secret that came from a file is shown as the file.
static bool from_file(const struct config *c, const struct schema_row *r)
{
    char path[256];
    if (r->type != T_SECRET)
        return false;
    snprintf(path, sizeof(path), "%sFile", r->path);
    int row = schema_row_index(path, c->scope);
    return row >= 0 && *(char **)schema_field(c, &schema_rows[row]) != NULL;
}

static bool shows(const struct config *c, const struct schema_row *r)
{
    return (r->scope & schema_scope(c->scope)) && r->type != T_IGNORED && !r->hidden &&
           !from_file(c, r);
}

// The character at s, and its length; an invalid byte is a character of its own.
static size_t utf8_next(const unsigned char *s, uint32_t *cp)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80             ? 1
               : (s[0] & 0xe0) == 0xc0 ? 2
               : (s[0] & 0xf0) == 0xe0 ? 3
               : (s[0] & 0xf8) == 0xf0 ? 4
                                       : 0;
    uint32_t v = n == 1 ? s[0] : n ? s[0] & (0x7fu >> n) : 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            n = 0;
            break;
        }
        v = v << 6 | (s[i] & 0x3fu);
    }
    bool valid = n && (n == 1 || v >= least[n]) && v <= 0x10ffff && (v < 0xd800 || v > 0xdfff);
    *cp = valid ? v : s[0];
    return valid ? n : 1;
}

// YAML folds these, or takes them for the end of the text.
static bool yaml_needs_escape(uint32_t cp, size_t n)
{
    return cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || (n == 1 && cp >= 0x80) || cp == 0x2028 ||
           cp == 0x2029 || cp == 0xfeff || cp == 0xfffe || cp == 0xffff;
}

// Double-quoted YAML that reads back to the same text; ${ is kept from being substituted.
static void yaml_string(const char *text, struct buf *out)
{
    const unsigned char *s = (const unsigned char *)text;
    uint32_t cp;
    buf_append_char(out, '"');
    for (size_t n; *s; s += n) {
        n = utf8_next(s, &cp);
        if (s[0] == '$' && s[1] == '{')
            buf_append_cstr(out, "$$");
        else if (cp == '"' || cp == '\\')
            buf_printf(out, "\\%c", (char)cp);
        else if (yaml_needs_escape(cp, n))
            buf_printf(out, "\\u%04x", cp);
        else
            buf_append(out, s, n);
    }
    buf_append_char(out, '"');
}

static void yaml_list(const struct config *c, const struct schema_row *r, bool redacted,
                      struct buf *out)
{
    const struct str_list *l = schema_field(c, r);
    buf_append_char(out, '[');
    if (r->type == T_INTS || r->type == T_SLOTS) {
        schema_format(c, r, redacted, out);
    } else {
        for (size_t i = 0; i < l->n; i++) {
            struct buf item = {0};
            if (r->type == T_ADDRS && redacted)
                schema_redact_address(l->v[i], &item);
            else
                buf_append_cstr(&item, l->v[i]);
            if (i)
                buf_append_cstr(out, ", ");
            yaml_string(buf_cstr(&item), out);
            buf_free(&item);
        }
    }
    buf_append_char(out, ']');
}

static void yaml_value(const struct config *c, const struct schema_row *r, bool redacted,
                       struct buf *out)
{
    struct buf text = {0};
    bool set = schema_format(c, r, redacted, &text);
    if (schema_is_list(r)) {
        yaml_list(c, r, redacted, out);
    } else if (r->type == T_DBMAP) {
        const struct db_map *m = schema_field(c, r);
        buf_append_char(out, '{');
        for (size_t i = 0; i < m->n; i++)
            buf_printf(out, "%s%d: %d", i ? ", " : "", m->v[i].from, m->v[i].to);
        buf_append_char(out, '}');
    } else if (r->type == T_STR || r->type == T_SECRET) {
        yaml_string(set ? buf_cstr(&text) : "", out);
    } else {
        buf_append_slice(out, buf_slice(&text));
    }
    buf_free(&text);
}

// Opens the sections of path that are not those of the last one, and returns its leaf.
static const char *yaml_sections(const char *path, const char *last, struct buf *out)
{
    size_t common = 0, depth = 0;
    const char *p = path;
    for (size_t i = 0; path[i] && path[i] == last[i]; i++)
        if (path[i] == '.')
            common = i + 1;
    for (const char *dot; (dot = strchr(p, '.')); p = dot + 1, depth++)
        if ((size_t)(dot - path) >= common)
            buf_printf(out, "%*s%.*s:\n", (int)depth * 2, "", (int)(dot - p), p);
    buf_printf(out, "%*s", (int)depth * 2, "");
    return p;
}

void config_to_yaml(const struct config *c, bool redacted, struct buf *out)
{
    const char *last = "";
    for (size_t i = 0; i < schema_rows_n; i++) {
        const struct schema_row *r = &schema_rows[i];
        if (!shows(c, r))
            continue;
        // An empty metaEtcd would ask for etcd when read back.
        if (!c->cluster.etcd.present && strncmp(r->path, "cluster.metaEtcd.", 17) == 0)
            continue;
        // The directory is the default beside a single file.
        const char *leaf = strrchr(r->path, '.');
        if (leaf && strcmp(leaf, ".deadLetterFile") == 0 && !*(char **)schema_field(c, r))
            continue;
        buf_printf(out, "%s: ", yaml_sections(r->path, last, out));
        yaml_value(c, r, redacted, out);
        buf_append_char(out, '\n');
        last = r->path;
    }
}

// JSON is UTF-8; other bytes are shown as '?'.
static json_t *json_text(const char *s)
{
    json_t *v = json_string(s);
    if (v)
        return v;
    struct buf copy = {0};
    for (; *s; s++)
        buf_append_char(&copy, (unsigned char)*s < 0x80 ? *s : '?');
    v = json_string(buf_cstr(&copy));
    buf_free(&copy);
    return v;
}

static json_t *json_list(const struct config *c, const struct schema_row *r, bool redacted)
{
    json_t *a = json_array();
    const void *f = schema_field(c, r);
    const struct int_list *ints = f;
    const struct slot_list *slots = f;
    const struct str_list *strs = f;
    if (r->type == T_INTS) {
        for (size_t i = 0; i < ints->n; i++)
            json_array_append_new(a, json_integer(ints->v[i]));
        return a;
    }
    if (r->type == T_SLOTS) {
        for (size_t i = 0; i < slots->n; i++)
            json_array_append_new(a, json_pack("[i,i]", slots->v[i].from, slots->v[i].to));
        return a;
    }
    for (size_t i = 0; i < strs->n; i++) {
        struct buf item = {0};
        if (r->type == T_ADDRS && redacted)
            schema_redact_address(strs->v[i], &item);
        else
            buf_append_cstr(&item, strs->v[i]);
        json_array_append_new(a, json_text(buf_cstr(&item)));
        buf_free(&item);
    }
    return a;
}

static json_t *json_value(const struct config *c, const struct schema_row *r, bool redacted)
{
    const void *f = schema_field(c, r);
    if (schema_is_list(r))
        return json_list(c, r, redacted);
    if (r->type == T_BOOL)
        return json_boolean(*(const bool *)f != r->invert);
    if (r->type == T_INT || r->type == T_SIZE)
        return json_integer(*(const int64_t *)f);
    if (r->type == T_INT32)
        return json_integer(*(const int *)f);
    if (r->type == T_DBMAP) {
        const struct db_map *m = f;
        json_t *o = json_object();
        for (size_t i = 0; i < m->n; i++) {
            char key[16];
            snprintf(key, sizeof(key), "%d", m->v[i].from);
            json_object_set_new(o, key, json_integer(m->v[i].to));
        }
        return o;
    }
    struct buf text = {0};
    schema_format(c, r, redacted, &text);
    json_t *v = json_text(buf_cstr(&text));
    buf_free(&text);
    return v;
}

static void json_put(json_t *root, const char *path, json_t *value)
{
    char name[64];
    json_t *o = root;
    const char *dot;
    for (; (dot = strchr(path, '.')); path = dot + 1) {
        snprintf(name, sizeof(name), "%.*s", (int)(dot - path), path);
        json_t *sub = json_object_get(o, name);
        if (!sub) {
            sub = json_object();
            json_object_set_new(o, name, sub);
        }
        o = sub;
    }
    json_object_set_new(o, path, value);
}

void config_to_json(const struct config *c, bool redacted, struct buf *out)
{
    json_t *root = json_object();
    for (size_t i = 0; i < schema_rows_n; i++)
        if (shows(c, &schema_rows[i]))
            json_put(root, schema_rows[i].path, json_value(c, &schema_rows[i], redacted));
    char *text = json_dumps(root, JSON_INDENT(2));
    if (text)
        buf_append_cstr(out, text);
    buf_append_char(out, '\n');
    free(text);
    json_decref(root);
}

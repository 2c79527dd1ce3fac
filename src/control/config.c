// SPDX-License-Identifier: Apache-2.0
#include "control/config.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/config_internal.h"

// Far above any real configuration; bounds what a wrong path can cost.
#define FILE_MAX_SIZE (1u << 20)

__attribute__((format(printf, 6, 0))) static void diag_addv(struct config_diags *d,
                                                            enum diag_severity severity,
                                                            const char *file, int line, int col,
                                                            const char *fmt, va_list ap)
{
    char text[1024];
    vsnprintf(text, sizeof(text), fmt, ap);
    d->v = xrealloc(d->v, (d->n + 1) * sizeof(*d->v));
    d->v[d->n++] =
        (struct config_diag){severity, file ? xstrdup(file) : NULL, line, col, xstrdup(text)};
    d->errors += severity == DIAG_ERROR;
}

void config_diag_add(struct config_diags *d, enum diag_severity severity, const char *file,
                     int line, int col, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    diag_addv(d, severity, file, line, col, fmt, ap);
    va_end(ap);
}

void config_diags_print(const struct config_diags *d, FILE *f)
{
    for (size_t i = 0; i < d->n; i++) {
        const struct config_diag *g = &d->v[i];
        if (g->file && g->line)
            fprintf(f, "%s:%d:%d: ", g->file, g->line, g->col);
        else if (g->file)
            fprintf(f, "%s: ", g->file);
        fprintf(f, "%s: %s\n", g->severity == DIAG_ERROR ? "error" : "warning", g->text);
    }
}

void config_diags_free(struct config_diags *d)
{
    for (size_t i = 0; i < d->n; i++) {
        free(d->v[i].file);
        free(d->v[i].text);
    }
    free(d->v);
    *d = (struct config_diags){0};
}

void config_mark_given(struct config_builder *b, int row, struct config_mark at)
{
    b->c->given[row] = 1;
    b->marks[row] = at;
}

__attribute__((format(printf, 4, 0))) static void row_diagv(struct config_builder *b, int row,
                                                            enum diag_severity severity,
                                                            const char *fmt, va_list ap)
{
    const struct config_mark *m = &b->marks[row];
    diag_addv(b->d, severity, m->file, m->line, m->col, fmt, ap);
}

void config_row_diag(struct config_builder *b, int row, enum diag_severity severity,
                     const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    row_diagv(b, row, severity, fmt, ap);
    va_end(ap);
}

void config_path_diag(struct config_builder *b, const char *path, enum diag_severity severity,
                      const char *fmt, ...)
{
    int row = schema_row_index(path, b->scope);
    must(row >= 0);
    va_list ap;
    va_start(ap, fmt);
    row_diagv(b, row, severity, fmt, ap);
    va_end(ap);
}

bool config_given(const struct config_builder *b, const char *path)
{
    int row = schema_row_index(path, b->scope);
    return row >= 0 && b->c->given[row];
}

// Rows of both scopes are set, so that no field is ever without its default.
static struct config *defaults_new(enum config_scope scope)
{
    struct config *c = xcalloc(1, sizeof(*c));
    c->scope = scope;
    c->given = xcalloc(schema_rows_n, 1);
    for (size_t i = 0; i < schema_rows_n; i++) {
        const struct schema_row *r = &schema_rows[i];
        struct err e = {0};
        if (r->def)
            must(schema_set(c, r, r->def, &e) == 0);
    }
    return c;
}

static struct config_builder builder_new(enum config_scope scope, struct config_diags *d)
{
    return (struct config_builder){
        .c = defaults_new(scope),
        .d = d,
        .scope = scope,
        .marks = xcalloc(schema_rows_n, sizeof(struct config_mark)),
    };
}

struct config *config_default(enum config_scope scope)
{
    struct config_diags d = {0};
    struct config_builder b = builder_new(scope, &d);
    config_finish(&b);
    free(b.marks);
    config_diags_free(&d);
    return b.c;
}

static void free_endpoints(struct redis_config *r)
{
    for (size_t i = 0; i < r->endpoints_n; i++)
        endpoint_free(&r->endpoints[i]);
    free(r->endpoints);
    endpoint_free(&r->data);
}

void config_free(struct config *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < schema_rows_n; i++)
        schema_clear(c, &schema_rows[i]);
    free_endpoints(&c->input.redis);
    free_endpoints(&c->output.redis);
    free_endpoints(&c->rdb.load.redis);
    free(c->given);
    free(c);
}

static int read_file(const char *path, struct buf *out, struct config_diags *d)
{
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "re");
    if (!f) {
        config_diag_add(d, DIAG_ERROR, path, 0, 0, "cannot be opened: %s", err_text(-errno));
        return ERR_CONFIG;
    }
    size_t n;
    do {
        char *p = buf_reserve(out, 16384);
        n = fread(p, 1, 16384, f);
        out->n += n;
    } while (n > 0 && out->n <= FILE_MAX_SIZE);
    int rc = 0;
    if (ferror(f)) {
        config_diag_add(d, DIAG_ERROR, path, 0, 0, "cannot be read: %s", err_text(-errno));
        rc = ERR_CONFIG;
    } else if (out->n > FILE_MAX_SIZE) {
        config_diag_add(d, DIAG_ERROR, path, 0, 0, "is larger than %u MiB; not a configuration",
                        FILE_MAX_SIZE >> 20);
        rc = ERR_CONFIG;
    }
    if (!is_stdin)
        fclose(f);
    return rc;
}

int config_expand(const char *s, struct buf *out, struct err *e)
{
    while (*s) {
        if (strncmp(s, "$${", 3) == 0) {
            buf_append_cstr(out, "${");
            s += 3;
            continue;
        }
        if (strncmp(s, "${", 2) != 0) {
            buf_append_char(out, *s++);
            continue;
        }
        char name[129];
        size_t len = 0;
        while (isalnum((unsigned char)s[2 + len]) || s[2 + len] == '_')
            len++;
        if (len == 0 || len >= sizeof(name) || s[2 + len] != '}')
            return err_set(e, ERR_CONFIG,
                           "malformed ${...}: write ${NAME}, or $${ for a literal ${");
        memcpy(name, s + 2, len);
        name[len] = 0;
        const char *value = getenv(name);
        if (!value)
            return err_set(e, ERR_CONFIG, "environment variable %s is not set", name);
        buf_append_cstr(out, value);
        s += len + 3;
    }
    return 0;
}

int config_endpoint(struct endpoint *ep, const char *uri, struct err *e)
{
    struct buf text = {0};
    int rc = config_expand(uri, &text, e);
    if (rc == 0)
        rc = endpoint_parse(ep, buf_slice(&text), e);
    if (text.n)
        explicit_bzero(text.p, text.n);
    buf_free(&text);
    return rc;
}

static void set_uri(struct config_builder *b, const char *path, const char *uri)
{
    int row = schema_row_index(path, b->scope);
    must(row >= 0);
    schema_clear(b->c, &schema_rows[row]);
    struct err e = {0};
    struct buf text = {0};
    config_mark_given(b, row, (struct config_mark){0});
    if (config_expand(uri, &text, &e) || schema_add(b->c, &schema_rows[row], buf_cstr(&text), &e))
        config_row_diag(b, row, DIAG_ERROR, "%s: %s", path, e.msg);
    buf_free(&text);
}

// By place in the file, those without a place last. Stable, and few.
static void sort_diags(struct config_diags *d)
{
    for (size_t i = 1; i < d->n; i++) {
        struct config_diag x = d->v[i];
        size_t j = i;
        for (; j > 0 && x.line && (!d->v[j - 1].line || d->v[j - 1].line > x.line); j--)
            d->v[j] = d->v[j - 1];
        d->v[j] = x;
    }
}

static int builder_end(struct config_builder *b, size_t errors_before, struct config **out)
{
    config_finish(b);
    sort_diags(b->d);
    free(b->marks);
    if (b->d->errors > errors_before) {
        config_free(b->c);
        *out = NULL;
        return ERR_CONFIG;
    }
    *out = b->c;
    return 0;
}

int config_load_text(struct config **out, enum config_scope scope, const char *name,
                     struct slice text, struct config_diags *d)
{
    size_t errors = d->errors;
    struct config_builder b = builder_new(scope, d);
    config_read_yaml(&b, name, text);
    return builder_end(&b, errors, out);
}

int config_build(struct config **out, enum config_scope scope, const struct config_sources *src,
                 struct config_diags *d)
{
    size_t errors = d->errors;
    struct config_builder b = builder_new(scope, d);
    struct buf text = {0};
    b.unreadable = src->file && read_file(src->file, &text, d) != 0;
    if (src->file && !b.unreadable)
        config_read_yaml(&b, strcmp(src->file, "-") == 0 ? "stdin" : src->file, buf_slice(&text));
    buf_free(&text);
    if (src->from)
        set_uri(&b, "input.redis.addresses", src->from);
    if (src->to)
        set_uri(&b, scope == CONFIG_RDB ? "load.redis.addresses" : "output.redis.addresses",
                src->to);
    config_read_flags(&b, src->flags_n, src->flags);
    return builder_end(&b, errors, out);
}

int config_load_file(struct config **out, enum config_scope scope, const char *path,
                     struct config_diags *d)
{
    return config_build(out, scope, &(struct config_sources){.file = path}, d);
}

int config_from_flags(struct config **out, enum config_scope scope, int argc, char *const *argv,
                      struct config_diags *d)
{
    return config_build(out, scope, &(struct config_sources){.flags = argv, .flags_n = argc}, d);
}

int config_from_uris(struct config **out, const char *from, const char *to, struct config_diags *d)
{
    return config_build(out, CONFIG_SYNC, &(struct config_sources){.from = from, .to = to}, d);
}

int config_validate(const struct config *c, struct config_diags *d)
{
    size_t errors = d->errors;
    for (size_t i = 0; i < schema_refused_n; i++) {
        const struct schema_refused *x = &schema_refused[i];
        int row = schema_row_index(x->path, c->scope);
        struct buf value = {0};
        if (row >= 0 && schema_format(c, &schema_rows[row], true, &value) &&
            (!x->value || strcmp(buf_cstr(&value), x->value) == 0))
            config_diag_add(d, DIAG_ERROR, NULL, 0, 0,
                            "%s: %s: %s is not available in this version", x->path,
                            buf_cstr(&value), x->what);
        buf_free(&value);
    }
    return d->errors > errors ? ERR_CONFIG : 0;
}

int config_check(const char *path, enum config_scope scope, FILE *f)
{
    struct config_diags d = {0};
    struct config *c = NULL;
    int rc = config_load_file(&c, scope, path, &d);
    if (!rc)
        rc = config_validate(c, &d);
    config_diags_print(&d, f);
    size_t warnings = d.n - d.errors;
    if (rc)
        fprintf(f, "%s: not usable: %zu error%s, %zu warning%s\n", path, d.errors,
                d.errors == 1 ? "" : "s", warnings, warnings == 1 ? "" : "s");
    else
        fprintf(f, "%s: ok, %zu warning%s\n", path, warnings, warnings == 1 ? "" : "s");
    config_free(c);
    config_diags_free(&d);
    return rc;
}

static int as_int(int64_t v)
{
    return v > INT_MAX ? INT_MAX : (int)v;
}

struct log_options config_log_options(const struct config *c)
{
    return (struct log_options){
        .level = c->log.level,
        .format = c->log.format,
        .file = c->log.file,
        .also_stderr = c->log.file && c->log.to_stderr,
        .max_size_mb = as_int(c->log.max_size_mb),
        .max_backups = as_int(c->log.max_backups),
        .max_age_days = as_int(c->log.max_age_days),
        .with_caller = c->log.with_caller,
    };
}

// SPDX-License-Identifier: Apache-2.0
#include "control/form.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// New string, or NULL with e set.
static char *decode(struct slice s, struct err *e)
{
    char *out = xmalloc(s.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            int high = s.n - i > 2 ? hex_digit(s.p[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(s.p[i + 2]) : -1;
            if (low < 0) {
                err_set(e, ERR_CONFIG, "bad percent escape in the parameters; write %% as %%25");
                free(out);
                return NULL;
            }
            c = (char)(high * 16 + low);
            i += 2;
        }
        if ((unsigned char)c < 0x20 || c == 0x7f) {
            err_set(e, ERR_CONFIG, "control character in the parameters");
            free(out);
            return NULL;
        }
        out[n++] = c;
    }
    out[n] = 0;
    return out;
}

static int add_pair(struct form *f, struct slice pair, struct err *e)
{
    if (f->n == FORM_MAX_PARAMS)
        return err_set(e, ERR_CONFIG, "more than %d parameters", FORM_MAX_PARAMS);
    const char *eq = memchr(pair.p, '=', pair.n);
    size_t name_n = eq ? (size_t)(eq - pair.p) : pair.n;
    char *name = decode(slice_make(pair.p, name_n), e);
    if (!name)
        return ERR_CONFIG;
    if (form_get(f, name)) {
        err_set(e, ERR_CONFIG, "parameter '%.64s' is given twice", name);
        free(name);
        return ERR_CONFIG;
    }
    struct slice raw = eq ? slice_make(eq + 1, pair.n - name_n - 1) : SLICE("");
    char *value = decode(raw, e);
    if (!value) {
        free(name);
        return ERR_CONFIG;
    }
    f->params[f->n++] = (struct form_param){name, value};
    return 0;
}

int form_parse(struct form *f, struct slice encoded, struct err *e)
{
    while (encoded.n > 0) {
        const char *amp = memchr(encoded.p, '&', encoded.n);
        size_t n = amp ? (size_t)(amp - encoded.p) : encoded.n;
        if (n > 0) {
            int rc = add_pair(f, slice_make(encoded.p, n), e);
            if (rc < 0)
                return rc;
        }
        n += amp != NULL;
        encoded = slice_make(encoded.p + n, encoded.n - n);
    }
    return 0;
}

void form_free(struct form *f)
{
    for (size_t i = 0; i < f->n; i++) {
        free(f->params[i].name);
        free(f->params[i].value);
    }
    f->n = 0;
}

const char *form_get(const struct form *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->params[i].name, name) == 0)
            return f->params[i].value;
    return NULL;
}

int form_yes(const struct form *f, const char *name, bool *out, struct err *e)
{
    const char *v = form_get(f, name);
    *out = v && slice_ieq(slice_cstr(v), SLICE("yes"));
    if (!v || *out || slice_ieq(slice_cstr(v), SLICE("no")))
        return 0;
    return err_set(e, ERR_CONFIG, "parameter '%s' is '%.64s'; it must be yes or no", name, v);
}

static struct slice strip(struct slice s)
{
    while (s.n > 0 && s.p[0] == ' ')
        s = slice_make(s.p + 1, s.n - 1);
    while (s.n > 0 && s.p[s.n - 1] == ' ')
        s.n--;
    return s;
}

// Whether the comma list has the item already.
static bool listed(struct slice list, struct slice item)
{
    while (list.n > 0) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t n = comma ? (size_t)(comma - list.p) : list.n;
        if (slice_eq(slice_make(list.p, n), item))
            return true;
        n += comma != NULL;
        list = slice_make(list.p + n, list.n - n);
    }
    return false;
}

int form_inputs(const char *value, char **out, struct err *e)
{
    struct buf list = {0};
    struct slice rest = slice_cstr(value);
    bool all = false;
    size_t items = 0;
    int rc = 0;
    for (bool more = true; more && rc == 0;) {
        const char *comma = memchr(rest.p, ',', rest.n);
        size_t n = comma ? (size_t)(comma - rest.p) : rest.n;
        struct slice item = strip(slice_make(rest.p, n));
        if (++items > 4096)
            rc = err_set(e, ERR_CONFIG, "parameter 'inputs' has more than 4096 addresses");
        else if (item.n == 0)
            rc = err_set(e, ERR_CONFIG, "parameter 'inputs' has an empty address");
        else if (memchr(item.p, ' ', item.n))
            rc = err_set(e, ERR_CONFIG, "parameter 'inputs': put commas between addresses");
        all = all || slice_eq(item, SLICE("all"));
        if (rc == 0 && !listed(buf_slice(&list), item)) {
            if (list.n > 0)
                buf_append_char(&list, ',');
            buf_append_slice(&list, item);
        }
        more = comma != NULL;
        n += more;
        rest = slice_make(rest.p + n, rest.n - n);
    }
    if (rc == 0 && all && items > 1)
        rc = err_set(e, ERR_CONFIG, "parameter 'inputs': 'all' stands alone");
    if (rc == 0)
        *out = xstrdup(buf_cstr(&list));
    buf_free(&list);
    return rc;
}

int form_flush_command(const char *value, struct err *e)
{
    struct slice s = slice_cstr(value);
    size_t word = 0;
    while (word < s.n && s.p[word] != ' ')
        word++;
    bool ok = word > 0 && word <= 64;
    for (size_t i = 0; i < word && ok; i++) {
        char c = s.p[i] | 0x20;
        ok = (c >= 'a' && c <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9') || s.p[i] == '_' ||
             s.p[i] == '-' || s.p[i] == '.';
    }
    if (ok && word < s.n) {
        struct slice how = slice_make(s.p + word + 1, s.n - word - 1);
        ok = slice_ieq(how, SLICE("async")) || slice_ieq(how, SLICE("sync"));
    }
    if (ok)
        return 0;
    return err_set(e, ERR_CONFIG,
                   "parameter 'flushCommand' must be one command word, such as flushdb or "
                   "flushall, with async or sync after it or nothing");
}

int form_extra_keys(const struct form *f, bool *del, struct err *e)
{
    const char *v = form_get(f, "extraKeys");
    *del = v && strcmp(v, "delete") == 0;
    if (!v || *del || strcmp(v, "keep") == 0)
        return 0;
    return err_set(e, ERR_CONFIG, "parameter 'extraKeys' is '%.64s'; it must be keep or delete", v);
}

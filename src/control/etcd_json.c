// SPDX-License-Identifier: Apache-2.0
#include "control/etcd_json.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// ---- base64 ----

void etcd_base64(struct slice s, struct buf *out)
{
    for (size_t i = 0; i < s.n; i += 3) {
        uint32_t v = 0;
        for (size_t k = 0; k < 3; k++)
            v = v << 8 | (i + k < s.n ? (unsigned char)s.p[i + k] : 0u);
        for (size_t k = 0; k < 4; k++)
            buf_append_char(out, i + k > s.n ? '=' : digits[v >> (18 - 6 * k) & 63]);
    }
}

static int digit_of(char c)
{
    const char *p = c ? strchr(digits, c) : NULL;
    return p ? (int)(p - digits) : -1;
}

bool etcd_unbase64(struct slice s, struct buf *out)
{
    if (s.n % 4)
        return false;
    size_t pad = 0;
    while (pad < 2 && pad < s.n && s.p[s.n - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < s.n; i += 4) {
        uint32_t v = 0;
        size_t end = i + 4 == s.n ? pad : 0;
        for (size_t k = 0; k < 4; k++) {
            int d = k < 4 - end ? digit_of(s.p[i + k]) : 0;
            if (d < 0)
                return false;
            v = v << 6 | (uint32_t)d;
        }
        for (size_t k = 0; k < 3 - end; k++)
            buf_append_char(out, (char)(v >> (16 - 8 * k)));
    }
    return true;
}

json_t *etcd_bytes(const char *s)
{
    struct buf b = {0};
    etcd_base64(slice_cstr(s), &b);
    json_t *out = json_string(buf_cstr(&b));
    buf_free(&b);
    return out;
}

int64_t etcd_number(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);
    int64_t n = 0;
    if (json_is_integer(v))
        return json_integer_value(v);
    if (json_is_string(v))
        (void)slice_i64(slice_make(json_string_value(v), json_string_length(v)), &n);
    return n;
}

// ---- requests ----

static json_t *number(int64_t n)
{
    char text[24];
    size_t len = i64_format(text, n);
    return json_stringn(text, len);
}

// The end of the range is the prefix with its last byte one higher; ours end in '/'.
static void put_key(json_t *to, const char *key, bool is_prefix)
{
    json_object_set_new(to, "key", etcd_bytes(key));
    if (!is_prefix || !*key)
        return;
    char *end = xstrdup(key);
    end[strlen(end) - 1]++;
    json_object_set_new(to, "range_end", etcd_bytes(end));
    free(end);
}

json_t *etcd_range(const char *key, bool is_prefix)
{
    json_t *o = json_object();
    put_key(o, key, is_prefix);
    return o;
}

json_t *etcd_put(const char *key, const char *value, int64_t lease)
{
    json_t *o = json_object();
    put_key(o, key, false);
    json_object_set_new(o, "value", etcd_bytes(value));
    if (lease)
        json_object_set_new(o, "lease", number(lease));
    return o;
}

json_t *etcd_compare_created(const char *key, bool is_prefix, uint64_t revision)
{
    json_t *o = json_object();
    put_key(o, key, is_prefix);
    json_object_set_new(o, "target", json_string("CREATE"));
    json_object_set_new(o, "result", json_string("EQUAL"));
    json_object_set_new(o, "create_revision", number((int64_t)revision));
    return o;
}

json_t *etcd_op(const char *kind, json_t *request)
{
    char name[32];
    snprintf(name, sizeof(name), "request_%s", kind);
    json_t *o = json_object();
    json_object_set_new(o, name, request);
    return o;
}

json_t *etcd_txn(json_t *compare, json_t *success, json_t *failure)
{
    json_t *o = json_object(), *list = json_array();
    json_array_append_new(list, compare);
    json_object_set_new(o, "compare", list);
    json_object_set_new(o, "success", success ? success : json_array());
    json_object_set_new(o, "failure", failure ? failure : json_array());
    return o;
}

// ---- answers ----

static char *text_of(const json_t *kv, const char *name)
{
    const json_t *v = json_object_get(kv, name);
    struct buf b = {0};
    // What is empty is left out.
    if (v && (!json_is_string(v) ||
              !etcd_unbase64(slice_make(json_string_value(v), json_string_length(v)), &b) ||
              (b.n && memchr(b.p, 0, b.n)))) {
        buf_free(&b);
        return NULL;
    }
    char *out = xstrdup(buf_cstr(&b));
    buf_free(&b);
    return out;
}

static int by_key(const void *a, const void *b)
{
    const struct etcd_kv *x = a, *y = b;
    return strcmp(x->key, y->key);
}

int etcd_read_range(const json_t *answer, struct etcd_kvs *out, struct err *e)
{
    *out = (struct etcd_kvs){0};
    const json_t *kvs = json_object_get(answer, "kvs");
    if (!json_is_object(answer) || (kvs && !json_is_array(kvs)))
        return err_set(e, ERR_PROTOCOL, "etcd gave no list of keys");
    size_t n = json_array_size(kvs);
    out->v = xcalloc(n + 1, sizeof(*out->v));
    for (size_t i = 0; i < n; i++) {
        const json_t *kv = json_array_get(kvs, i);
        struct etcd_kv k = {
            .key = text_of(kv, "key"),
            .value = text_of(kv, "value"),
            .created = (uint64_t)etcd_number(kv, "create_revision"),
            .lease = etcd_number(kv, "lease"),
        };
        if (k.key && k.value) {
            out->v[out->n++] = k;
        } else {
            free(k.key);
            free(k.value);
        }
    }
    qsort(out->v, out->n, sizeof(*out->v), by_key);
    return 0;
}

int etcd_read_txn_range(const json_t *answer, size_t n, struct etcd_kvs *out, struct err *e)
{
    const json_t *one = json_array_get(json_object_get(answer, "responses"), n);
    return etcd_read_range(json_object_get(one, "response_range"), out, e);
}

bool etcd_succeeded(const json_t *txn_answer)
{
    return json_is_true(json_object_get(txn_answer, "succeeded"));
}

void etcd_kvs_free(struct etcd_kvs *kvs)
{
    for (size_t i = 0; i < kvs->n; i++) {
        free(kvs->v[i].key);
        free(kvs->v[i].value);
    }
    free(kvs->v);
    *kvs = (struct etcd_kvs){0};
}

const struct etcd_kv *etcd_find(const struct etcd_kvs *kvs, const char *key)
{
    for (size_t i = 0; i < kvs->n; i++)
        if (strcmp(kvs->v[i].key, key) == 0)
            return &kvs->v[i];
    return NULL;
}

const struct etcd_kv *etcd_oldest(const struct etcd_kvs *kvs, const char *prefix)
{
    const struct etcd_kv *best = NULL;
    for (size_t i = 0; i < kvs->n; i++)
        if (strncmp(kvs->v[i].key, prefix, strlen(prefix)) == 0 &&
            (!best || kvs->v[i].created < best->created))
            best = &kvs->v[i];
    return best;
}

static void copy_words(char *text, size_t cap, const char *words)
{
    size_t i = 0;
    for (; words && words[i] && i + 1 < cap; i++)
        text[i] = words[i] < ' ' && words[i] >= 0 ? ' ' : words[i];
    text[i] = '\0';
}

// {"code":5,"message":"..."}, or inside of a stream {"error":{"grpc_code":5,"message":"..."}}.
int etcd_error(const json_t *answer, char *text, size_t cap)
{
    const json_t *error = json_object_get(answer, "error");
    text[0] = '\0';
    if (!error)
        return ETCD_OK;
    const json_t *from = json_is_object(error) ? error : answer;
    int64_t code = etcd_number(from, json_object_get(from, "grpc_code") ? "grpc_code" : "code");
    const char *words = json_string_value(json_object_get(from, "message"));
    copy_words(text, cap, words ? words : json_string_value(error));
    return code > 0 && code < 100 ? (int)code : ETCD_UNKNOWN;
}

int etcd_read_watch(const json_t *message, struct etcd_event *out, struct err *e)
{
    char text[200];
    *out = (struct etcd_event){0};
    if (etcd_error(message, text, sizeof(text)))
        return err_set(e, ERR_REPLY, "etcd ended the watch: %s", text);
    const json_t *r = json_object_get(message, "result");
    if (!json_is_object(r))
        return err_set(e, ERR_PROTOCOL, "etcd's watch sent what is no event");
    out->created = json_is_true(json_object_get(r, "created"));
    out->canceled = json_is_true(json_object_get(r, "canceled"));
    out->compacted = etcd_number(r, "compact_revision") > 0;
    out->changed = json_array_size(json_object_get(r, "events")) > 0;
    int64_t revision = etcd_number(json_object_get(r, "header"), "revision");
    out->revision = revision > 0 ? revision : 0;
    return 0;
}

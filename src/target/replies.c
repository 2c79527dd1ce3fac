// SPDX-License-Identifier: Apache-2.0
#include "target/replies.h"

enum { LINE_MAX_BYTES = 64 * 1024 };

#define OK_LINE "+OK\r\n"
#define QUEUED_LINE "+QUEUED\r\n"

void replies_free(struct replies *r)
{
    buf_free(&r->line);
    *r = (struct replies){0};
}

static size_t count_run(const char *p, size_t n, const char *line, size_t len, uint32_t max,
                        uint32_t *count)
{
    size_t at = 0;
    *count = 0;
    while (*count < max && n - at >= len && memcmp(p + at, line, len) == 0) {
        at += len;
        (*count)++;
    }
    return at;
}

static bool is_aggregate(char type)
{
    return type == '*' || type == '~' || type == '%' || type == '>' || type == '|';
}

// A complete line, CRLF cut off. Fills out when a whole reply ended with it.
static int take_line(struct replies *r, const char *s, size_t n, bool expand, struct reply *out)
{
    if (n == 0)
        return ERR_PROTOCOL;
    char type = s[0];
    struct slice rest = slice_make(s + 1, n - 1);
    bool top = r->nested == 0;
    if (!top)
        r->nested--;
    if (is_aggregate(type) || type == '$' || type == '=' || type == '!') {
        int64_t len;
        if (!slice_i64(rest, &len) || len < -1 || len > ((int64_t)1 << 40))
            return ERR_PROTOCOL;
        if (len >= 0 && is_aggregate(type)) {
            if (top && expand && type == '*') {
                *out = (struct reply){.kind = REPLY_ARRAY, .num = len, .count = 1};
                return 0;
            }
            r->nested += (uint64_t)(type == '%' || type == '|' ? 2 * len : len);
            if (type == '|')
                r->nested++; // attributes come before the reply itself
            if (r->nested == 0)
                *out = (struct reply){.kind = REPLY_OK, .count = 1};
            return 0;
        }
        if (len >= 0) {
            r->skip = (uint64_t)len + 2;
            r->bulk_pending = r->nested == 0;
            return 0;
        }
        if (r->nested == 0)
            *out = (struct reply){.kind = top ? REPLY_NIL : REPLY_OK, .count = 1};
        return 0;
    }
    if (r->nested)
        return 0;
    *out = (struct reply){.kind = REPLY_OK, .count = 1, .text = rest};
    if (!top)
        return 0;
    if (type == '-') {
        out->kind = REPLY_ERROR;
    } else if (type == ':') {
        out->kind = REPLY_INTEGER;
        if (!slice_i64(rest, &out->num))
            return ERR_PROTOCOL;
    } else if (type == '_') {
        out->kind = REPLY_NIL;
    } else if (type == '+') {
        if (slice_eq(rest, SLICE("QUEUED")))
            out->kind = REPLY_QUEUED;
    } else if (type != ',' && type != '#' && type != '(') {
        return ERR_PROTOCOL;
    }
    return 0;
}

int replies_next(struct replies *r, const char *p, size_t n, size_t *used, bool expand,
                 uint32_t max_run, struct reply *out)
{
    size_t at = 0;
    out->kind = REPLY_NONE;
    while (at < n && out->kind == REPLY_NONE) {
        if (r->skip) {
            size_t k = r->skip < n - at ? (size_t)r->skip : n - at;
            r->skip -= k;
            at += k;
            if (r->skip == 0 && r->bulk_pending) {
                r->bulk_pending = false;
                *out = (struct reply){.kind = REPLY_OK, .count = 1};
            }
            continue;
        }
        if (r->nested == 0 && r->line.n == 0 && max_run > 0) {
            uint32_t count;
            size_t k =
                count_run(p + at, n - at, QUEUED_LINE, sizeof(QUEUED_LINE) - 1, max_run, &count);
            enum reply_kind kind = REPLY_QUEUED;
            if (count == 0) {
                k = count_run(p + at, n - at, OK_LINE, sizeof(OK_LINE) - 1, max_run, &count);
                kind = REPLY_OK;
            }
            if (count) {
                *out = (struct reply){.kind = kind, .count = count};
                at += k;
                break;
            }
        }
        const char *nl = memchr(p + at, '\n', n - at);
        size_t piece = nl ? (size_t)(nl - (p + at)) + 1 : n - at;
        if (r->line.n + piece > LINE_MAX_BYTES)
            return ERR_PROTOCOL;
        if (!nl || r->line.n) {
            buf_append(&r->line, p + at, piece);
            at += piece;
            if (!nl)
                break;
        } else {
            at += piece;
        }
        const char *line = r->line.n ? r->line.p : p + at - piece;
        size_t len = r->line.n ? r->line.n : piece;
        if (len < 2 || line[len - 2] != '\r')
            return ERR_PROTOCOL;
        int rc = take_line(r, line, len - 2, expand, out);
        r->line.n = 0; // the bytes stay until the next append, so out->text holds
        if (rc)
            return rc;
    }
    *used = at;
    return 0;
}

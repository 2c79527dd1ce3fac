// SPDX-License-Identifier: Apache-2.0
#include "target/replies.h"

enum { LINE_MAX_BYTES = 64 * 1024 };
#define MAX_LENGTH (INT64_C(1) << 40) // of a bulk, of the nodes of an array

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

// The header of an array or a bulk.
static int take_header(struct replies *r, char type, struct slice num, bool top, bool expand,
                       struct reply *out)
{
    int64_t len;
    if (!slice_i64(num, &len) || len < -1 || len > MAX_LENGTH)
        return ERR_PROTOCOL;
    if (len < 0) {
        if (r->nested == 0)
            *out = (struct reply){.kind = top ? REPLY_NIL : REPLY_OK, .count = 1};
    } else if (type == '$') {
        r->skip = (uint64_t)len + 2;
        r->bulk_pending = r->nested == 0;
    } else if (top && expand) {
        *out = (struct reply){.kind = REPLY_ARRAY, .num = len, .count = 1};
    } else {
        r->nested += (uint64_t)len;
        if (r->nested > MAX_LENGTH)
            return ERR_PROTOCOL;
        if (r->nested == 0)
            *out = (struct reply){.kind = REPLY_OK, .count = 1, .empty = top};
    }
    return 0;
}

// A complete line, CRLF cut off. Fills out when a whole reply ended with it.
static int take_line(struct replies *r, const char *s, size_t n, bool expand, struct reply *out)
{
    if (n == 0 || !memchr("+-:$*", s[0], 5))
        return ERR_PROTOCOL;
    char type = s[0];
    struct slice rest = slice_make(s + 1, n - 1);
    bool top = r->nested == 0;
    if (!top)
        r->nested--;
    if (type == '*' || type == '$')
        return take_header(r, type, rest, top, expand, out);
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
    } else if (slice_eq(rest, SLICE("QUEUED"))) {
        out->kind = REPLY_QUEUED;
    }
    return 0;
}

// As many "+QUEUED" or "+OK" lines as there are in a row; returns their bytes.
static size_t take_run(const char *p, size_t n, uint32_t max_run, struct reply *out)
{
    uint32_t count;
    enum reply_kind kind = REPLY_QUEUED;
    size_t k = count_run(p, n, QUEUED_LINE, sizeof(QUEUED_LINE) - 1, max_run, &count);
    if (count == 0) {
        k = count_run(p, n, OK_LINE, sizeof(OK_LINE) - 1, max_run, &count);
        kind = REPLY_OK;
    }
    if (count)
        *out = (struct reply){.kind = kind, .count = count};
    return k;
}

int replies_next(struct replies *r, const char *p, size_t n, size_t *used, bool expand,
                 uint32_t max_run, struct reply *out)
{
    size_t at = 0;
    out->kind = REPLY_NONE;
    while (at < n && out->kind == REPLY_NONE) {
        if (r->skip) {
            size_t k = r->skip < n - at ? (size_t)r->skip : n - at;
            if (r->keep && r->bulk_pending) {
                if (r->line.n + r->skip > LINE_MAX_BYTES)
                    return ERR_PROTOCOL;
                buf_append(&r->line, p + at, k);
            }
            r->skip -= k;
            at += k;
            if (r->skip == 0 && r->bulk_pending) {
                r->bulk_pending = false;
                *out = (struct reply){.kind = REPLY_OK, .count = 1};
                if (r->keep)
                    out->text = slice_make(r->line.p, r->line.n - 2);
                r->line.n = 0; // as below
            }
            continue;
        }
        if (r->nested == 0 && r->line.n == 0) {
            at += take_run(p + at, n - at, max_run, out);
            if (out->kind != REPLY_NONE)
                break;
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

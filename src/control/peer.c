// SPDX-License-Identifier: Apache-2.0
#include "control/peer.h"

#include <ctype.h>
#include <curl/curl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { BODY_MAX = 16 << 20, CONNECT_TIMEOUT_MS = 2000 };

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
    struct buf *b = ctx;
    if (b->n + size * n > BODY_MAX)
        return 0;
    buf_append(b, p, size * n);
    return size * n;
}

void peer_encode(struct buf *out, const char *value)
{
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
        if (isalnum(*p) || strchr("-._~", *p))
            buf_append_char(out, (char)*p);
        else
            buf_printf(out, "%%%02X", *p);
    }
}

static int refused(long status, const struct buf *body, size_t from, const char *url, struct err *e)
{
    json_error_t ignored;
    json_t *j = json_loadb(body->p + from, body->n - from, 0, &ignored);
    const char *why = json_string_value(json_object_get(j, "error"));
    int rc = err_set(e, status == 400 ? ERR_CONFIG : ERR_REPLY, "%s: %s (status %ld)", url,
                     why ? why : "refused", status);
    json_decref(j);
    return rc;
}

static CURL *prepare(const struct peer_request *q, const char *url, struct curl_slist *headers,
                     struct buf *body)
{
    CURL *c = curl_easy_init();
    must(c);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)q->timeout_ms);
    curl_easy_setopt(
        c, CURLOPT_CONNECTTIMEOUT_MS,
        (long)(q->timeout_ms < CONNECT_TIMEOUT_MS ? q->timeout_ms : CONNECT_TIMEOUT_MS));
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, body);
    if (q->post)
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, "");
    return c;
}

int peer_call(const struct peer_request *q, struct buf *body, struct err *e)
{
    size_t from = body->n;
    char *url = xasprintf("%s%s", q->url, q->path);
    struct curl_slist *headers = NULL;
    if (q->token) {
        char *bearer = xasprintf("Authorization: Bearer %s", q->token);
        headers = curl_slist_append(headers, bearer);
        free(bearer);
    }
    CURL *c = prepare(q, url, headers, body);
    CURLcode code = curl_easy_perform(c);
    long status = 0;
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    int rc = 0;
    if (code != CURLE_OK)
        rc = err_set(e, code == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT : ERR_CLOSED, "%s: %s",
                     q->url, curl_easy_strerror(code));
    else if (status >= 400)
        rc = refused(status, body, from, q->url, e);
    curl_easy_cleanup(c);
    curl_slist_free_all(headers);
    free(url);
    return rc;
}

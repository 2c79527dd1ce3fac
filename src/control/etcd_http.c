// SPDX-License-Identifier: Apache-2.0
#include "control/etcd_http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/etcd_json.h"

enum {
    ANSWER_MAX = 16 << 20,
    PORT = 2379,
    WAIT_STEP_MS = 200,
    LOGIN_MS = 4000,      // etcd's check of a password takes much time on purpose
    LOGIN_WAIT_MS = 1000, // after one that failed; doubled with each
    LOGIN_WAIT_MAX_MS = 16000,
    ENDPOINTS_MAX = 64,
};

struct etcd_http {
    const struct etcd_config *c;
    int timeout_ms;
    char **urls; // owns
    size_t urls_n, at;
    char *user, *password;           // own; NULL: no login
    char *token;                     // owns; NULL: not logged in; "": there is no need to
    int64_t login_at, login_wait_ms; // no attempt before; after one that failed
    struct err login_failed;
    int code; // of the last refusal
    int64_t synced_at;
    CURL *curl;
    struct buf answer;
    char words[CURL_ERROR_SIZE];
    // the stream
    CURLM *multi;
    CURL *stream;
    struct curl_slist *stream_headers, *stream_to;
    char *stream_body; // owns
    struct buf lines;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

// ---- endpoints ----

static bool plain_word(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || strchr("/?#@\\\"<>", s.p[i]))
            return false;
    return s.n > 0;
}

static bool has_port(struct slice s)
{
    const char *colon = memrchr(s.p, ':', s.n), *bracket = memrchr(s.p, ']', s.n);
    return colon && (!bracket || colon > bracket);
}

char *etcd_url(const char *endpoint, bool tls, char **login)
{
    *login = NULL;
    const char *p = endpoint;
    if (strncmp(p, "http://", 7) == 0) {
        p += 7;
        tls = false;
    } else if (strncmp(p, "https://", 8) == 0) {
        p += 8;
        tls = true;
    } else if (strstr(p, "://")) {
        return NULL;
    }
    struct slice rest = slice_make(p, strcspn(p, "/"));
    if (p[rest.n] && p[rest.n + 1])
        return NULL; // a path would be lost
    const char *at = memrchr(rest.p, '@', rest.n);
    struct slice host = at ? slice_make(at + 1, rest.n - (size_t)(at + 1 - rest.p)) : rest;
    if (!plain_word(host))
        return NULL;
    if (at)
        *login = xstrndup(rest.p, (size_t)(at - rest.p));
    const char *scheme = tls ? "https" : "http";
    if (has_port(host))
        return xasprintf("%s://%.*s", scheme, (int)host.n, host.p);
    return xasprintf("%s://%.*s:%d", scheme, (int)host.n, host.p, PORT);
}

static void take_login(struct etcd_http *h, char *login)
{
    char *colon = login ? strchr(login, ':') : NULL;
    if (colon && !h->user) {
        h->user = xstrndup(login, (size_t)(colon - login));
        h->password = xstrdup(colon + 1);
    }
    free(login);
}

static int take_endpoints(struct etcd_http *h, struct err *e)
{
    const struct str_list *l = &h->c->endpoints;
    if (h->c->username) {
        h->user = xstrdup(h->c->username);
        h->password = xstrdup(h->c->password ? h->c->password : "");
    }
    h->urls = xcalloc(ENDPOINTS_MAX, sizeof(*h->urls));
    for (size_t i = 0; i < l->n && h->urls_n < ENDPOINTS_MAX; i++) {
        char *login;
        h->urls[h->urls_n] = etcd_url(l->v[i], h->c->tls.enabled, &login);
        if (!h->urls[h->urls_n])
            return err_set(e, ERR_CONFIG,
                           "cluster.metaEtcd.endpoints: number %zu is no address; expected "
                           "host:port, http://... or https://...",
                           i + 1);
        h->urls_n++;
        take_login(h, login);
    }
    return h->urls_n ? 0 : err_set(e, ERR_CONFIG, "cluster.metaEtcd.endpoints is empty");
}

int etcd_http_open(struct etcd_http **out, const struct etcd_config *c, int timeout_ms,
                   struct err *e)
{
    pthread_once(&once, init_curl);
    struct etcd_http *h = xcalloc(1, sizeof(*h));
    h->c = c;
    h->timeout_ms = timeout_ms;
    h->synced_at = clock_boot_ms();
    h->curl = curl_easy_init();
    int rc = h->curl ? take_endpoints(h, e) : err_set(e, ERR_FULL, "libcurl cannot begin");
    if (rc) {
        etcd_http_close(h);
        return rc;
    }
    *out = h;
    return 0;
}

static void wipe(char *s)
{
    if (s)
        explicit_bzero(s, strlen(s));
    free(s);
}

void etcd_http_close(struct etcd_http *h)
{
    if (!h)
        return;
    etcd_stream_end(h);
    if (h->multi)
        curl_multi_cleanup(h->multi);
    if (h->curl)
        curl_easy_cleanup(h->curl);
    for (size_t i = 0; i < h->urls_n; i++)
        free(h->urls[i]);
    free(h->urls);
    free(h->user);
    wipe(h->password);
    wipe(h->token);
    buf_free(&h->answer);
    buf_free(&h->lines);
    free(h);
}

// ---- one request ----

static size_t on_bytes(char *p, size_t size, size_t n, void *arg)
{
    struct buf *b = arg;
    if (b->n + size * n > ANSWER_MAX)
        return 0; // libcurl ends the transfer with an error
    buf_append(b, p, size * n);
    return size * n;
}

static void set_tls(const struct etcd_http *h, CURL *c)
{
    const struct tls_options *t = &h->c->tls;
    static const long versions[] = {CURL_SSLVERSION_DEFAULT, CURL_SSLVERSION_TLSv1_2,
                                    CURL_SSLVERSION_TLSv1_3};
    if (t->ca_file || t->ca_dir) {
        curl_easy_setopt(c, CURLOPT_CAINFO, t->ca_file);
        curl_easy_setopt(c, CURLOPT_CAPATH, t->ca_dir);
    }
    if (t->cert_file) {
        curl_easy_setopt(c, CURLOPT_SSLCERT, t->cert_file);
        curl_easy_setopt(c, CURLOPT_SSLKEY, t->key_file);
    }
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, t->insecure ? 0L : 1L);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, t->insecure ? 0L : 2L);
    curl_easy_setopt(c, CURLOPT_SSLVERSION, versions[t->min_version]);
}

static long seconds(int64_t ms)
{
    return ms < 1000 ? 1 : (long)(ms / 1000);
}

// The name that is verified is the one in the URL; where another is configured, the URL gets that
// one and the connection goes to the endpoint all the same.
static struct curl_slist *set_url(const struct etcd_http *h, CURL *c, const char *path)
{
    const char *url = h->urls[h->at], *host = strstr(url, "://") + 3;
    struct curl_slist *to = NULL;
    char *text;
    if (h->c->tls.server_name && url[4] == 's') {
        char *rule = xasprintf("::%s", host);
        to = curl_slist_append(NULL, rule);
        free(rule);
        text = xasprintf("https://%s/%s", h->c->tls.server_name, path);
    } else {
        text = xasprintf("%s/%s", url, path);
    }
    curl_easy_setopt(c, CURLOPT_URL, text);
    curl_easy_setopt(c, CURLOPT_CONNECT_TO, to);
    free(text);
    return to;
}

static struct curl_slist *set_common(const struct etcd_http *h, CURL *c)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (h->token && *h->token) {
        char *line = xasprintf("Authorization: %s", h->token);
        headers = curl_slist_append(headers, line);
        wipe(line);
    }
    // A member that has lost the others says so instead of keeping silent.
    headers = curl_slist_append(headers, "Grpc-Metadata-hasleader: true");
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)h->timeout_ms);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPIDLE,
                     h->c->dial_keepalive_ms ? seconds(h->c->dial_keepalive_ms) : 5L);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPINTVL,
                     h->c->dial_keepalive_timeout_ms ? seconds(h->c->dial_keepalive_timeout_ms)
                                                     : 2L);
    set_tls(h, c);
    return headers;
}

static int curl_failed(struct etcd_http *h, CURLcode rc, struct err *e)
{
    int code = rc == CURLE_OPERATION_TIMEDOUT                                          ? ERR_TIMEOUT
               : rc == CURLE_PEER_FAILED_VERIFICATION || rc == CURLE_SSL_CONNECT_ERROR ? ERR_TLS
                                                                                       : ERR_CLOSED;
    const char *words = h->words[0] ? h->words : curl_easy_strerror(rc);
    return err_set(e, code, "etcd at %s: %.200s", h->urls[h->at], words);
}

static int refused(struct etcd_http *h, const json_t *answer, long status, struct err *e)
{
    char words[200];
    h->code = etcd_error(answer, words, sizeof(words));
    if (h->code)
        return err_set(e, ERR_REPLY, "etcd at %s: %s", h->urls[h->at], words);
    h->code = ETCD_UNKNOWN;
    return err_set(e, ERR_REPLY, "etcd at %s answered with HTTP status %ld%s", h->urls[h->at],
                   status, status == 404 ? "; it has to be etcd 3.4 or later" : "");
}

static int ask_endpoint(struct etcd_http *h, const char *path, const char *body, int timeout_ms,
                        json_t **answer, struct err *e)
{
    CURL *c = h->curl;
    long status = 0;
    curl_easy_reset(c);
    buf_clear(&h->answer);
    h->words[0] = '\0';
    struct curl_slist *headers = set_common(h, c), *to = set_url(h, c, path);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &h->answer);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->words);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
    CURLcode rc = curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    curl_slist_free_all(to);
    if (rc != CURLE_OK)
        return curl_failed(h, rc, e);
    *answer = json_loadb(h->answer.n ? h->answer.p : "", h->answer.n, 0, NULL);
    if (status == 200 && json_is_object(*answer) && !json_object_get(*answer, "error"))
        return 0;
    int failed = status == 200 && !*answer
                     ? err_set(e, ERR_PROTOCOL, "etcd at %s: that is no JSON", h->urls[h->at])
                     : refused(h, *answer, status, e);
    json_decref(*answer);
    *answer = NULL;
    return failed;
}

// ---- the login ----

static int try_login(struct etcd_http *h, struct err *e)
{
    json_t *o = json_object(), *answer = NULL;
    json_object_set_new(o, "name", json_string(h->user));
    json_object_set_new(o, "password", json_string(h->password));
    char *body = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    wipe(h->token);
    h->token = NULL;
    if (!body)
        return err_set(e, ERR_CONFIG, "cluster.metaEtcd: user and password have to be UTF-8");
    int rc = ask_endpoint(h, "v3/auth/authenticate", body, LOGIN_MS, &answer, e);
    wipe(body);
    const char *token = json_string_value(json_object_get(answer, "token"));
    if (rc == 0 && (!token || strpbrk(token, "\r\n")))
        rc = err_set(e, ERR_PROTOCOL, "etcd at %s gave no token", h->urls[h->at]);
    if (rc == 0)
        h->token = xstrdup(token);
    // Users may be configured before etcd asks for them.
    if (rc == ERR_REPLY && strstr(e->msg, "authentication is not enabled")) {
        h->token = xstrdup("");
        rc = 0;
    }
    if (rc == ERR_REPLY && (h->code == ETCD_INVALID || h->code == ETCD_UNAUTHENTICATED))
        rc = err_set(e, ERR_AUTH, "etcd refuses the login of user %s", h->user);
    json_decref(answer);
    if (h->answer.n)
        explicit_bzero(h->answer.p, h->answer.n);
    return rc;
}

static int log_in(struct etcd_http *h, struct err *e)
{
    if (clock_boot_ms() < h->login_at) {
        *e = h->login_failed;
        return e->code;
    }
    int rc = try_login(h, e);
    if (rc == 0) {
        h->login_wait_ms = 0;
        return 0;
    }
    h->login_wait_ms = h->login_wait_ms ? 2 * h->login_wait_ms : LOGIN_WAIT_MS;
    if (h->login_wait_ms > LOGIN_WAIT_MAX_MS)
        h->login_wait_ms = LOGIN_WAIT_MAX_MS;
    // Another endpoint may be asked at once.
    if (rc == ERR_AUTH || rc == ERR_TIMEOUT || h->urls_n == 1) {
        h->login_at = clock_boot_ms() + h->login_wait_ms;
        h->login_failed = *e;
    }
    return rc;
}

// The token has ended, or users were changed since.
static bool wants_login(const struct etcd_http *h, const struct err *e)
{
    return h->user && (h->code == ETCD_UNAUTHENTICATED || strstr(e->msg, "auth token") ||
                       strstr(e->msg, "auth store is old") || strstr(e->msg, "user name is empty"));
}

static int ask_logged_in(struct etcd_http *h, const char *path, const char *body, json_t **answer,
                         int64_t *sent, struct err *e)
{
    int rc = h->user && !h->token ? log_in(h, e) : 0;
    if (rc)
        return rc;
    h->code = ETCD_OK;
    *sent = clock_boot_ms();
    rc = ask_endpoint(h, path, body, h->timeout_ms, answer, e);
    if (rc != ERR_REPLY || !wants_login(h, e))
        return rc;
    rc = log_in(h, e);
    if (rc)
        return rc;
    h->code = ETCD_OK;
    *sent = clock_boot_ms();
    return ask_endpoint(h, path, body, h->timeout_ms, answer, e);
}

// Whether another endpoint may do better.
static bool is_local(const struct etcd_http *h, int rc)
{
    if (rc == ERR_AUTH)
        return false;
    return rc != ERR_REPLY || h->code == ETCD_UNAVAILABLE || h->code == ETCD_DEADLINE ||
           h->code == ETCD_UNKNOWN;
}

static void next_endpoint(struct etcd_http *h)
{
    h->at = (h->at + 1) % h->urls_n; // the token is known to all
}

static int ask_any(struct etcd_http *h, const char *path, const char *body, json_t **answer,
                   int64_t *sent, struct err *e)
{
    struct err all = {0};
    int rc = 0;
    for (size_t i = 0; i < h->urls_n; i++) {
        struct err one = {0};
        rc = ask_logged_in(h, path, body, answer, sent, &one);
        if (rc == 0)
            return 0;
        if (i)
            err_join(&all, &one);
        else
            all = one;
        if (!is_local(h, rc))
            break;
        next_endpoint(h);
    }
    if (e)
        *e = all;
    return rc;
}

// ---- members ----

static void take_members(struct etcd_http *h, const json_t *answer)
{
    size_t i, k, n = 0;
    const json_t *member, *url;
    char **urls = xcalloc(ENDPOINTS_MAX, sizeof(*urls));
    json_array_foreach(json_object_get(answer, "members"), i, member)
    {
        json_array_foreach(json_object_get(member, "clientURLs"), k, url)
        {
            char *login = NULL;
            const char *text = json_string_value(url);
            char *clean = text ? etcd_url(text, false, &login) : NULL;
            free(login);
            if (clean && n < ENDPOINTS_MAX)
                urls[n++] = clean;
            else
                free(clean);
        }
    }
    if (n == 0) {
        free(urls);
        return;
    }
    for (i = 0; i < h->urls_n; i++)
        free(h->urls[i]);
    free(h->urls);
    h->urls = urls;
    h->urls_n = n;
    h->at = 0;
}

static void sync_members(struct etcd_http *h)
{
    int64_t every = h->c->auto_sync_interval_ms, now = clock_boot_ms(), sent;
    if (every == 0 || now - h->synced_at < every)
        return;
    h->synced_at = now;
    json_t *answer = NULL;
    if (ask_any(h, "v3/cluster/member/list", "{}", &answer, &sent, NULL) == 0)
        take_members(h, answer);
    json_decref(answer);
}

int etcd_post(struct etcd_http *h, const char *path, json_t *body, json_t **answer, int64_t *sent,
              struct err *e)
{
    int64_t when;
    *answer = NULL;
    sync_members(h);
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    if (!text)
        return err_set(e, ERR_CONFIG, "what is to be stored in etcd has to be UTF-8");
    char *full = xasprintf("v3/%s", path);
    int rc = ask_any(h, full, text, answer, sent ? sent : &when, e);
    free(full);
    wipe(text);
    return rc;
}

int etcd_http_code(const struct etcd_http *h)
{
    return h->code;
}

// ---- the stream ----

void etcd_stream_end(struct etcd_http *h)
{
    if (!h->stream)
        return;
    curl_multi_remove_handle(h->multi, h->stream);
    curl_easy_cleanup(h->stream);
    curl_slist_free_all(h->stream_headers);
    curl_slist_free_all(h->stream_to);
    wipe(h->stream_body);
    h->stream = NULL;
    h->stream_headers = h->stream_to = NULL;
    h->stream_body = NULL;
    buf_clear(&h->lines);
}

bool etcd_stream_is_on(const struct etcd_http *h)
{
    return h->stream != NULL;
}

int etcd_stream_begin(struct etcd_http *h, const char *path, json_t *body, struct err *e)
{
    etcd_stream_end(h);
    h->stream_body = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    int rc = h->user && !h->token ? log_in(h, e) : 0;
    if (rc) {
        next_endpoint(h);
        wipe(h->stream_body);
        h->stream_body = NULL;
        return rc;
    }
    h->multi = h->multi ? h->multi : curl_multi_init();
    h->stream = curl_easy_init();
    must(h->multi && h->stream && h->stream_body);
    char *full = xasprintf("v3/%s", path);
    h->words[0] = '\0';
    h->stream_headers = set_common(h, h->stream);
    h->stream_to = set_url(h, h->stream, full);
    curl_easy_setopt(h->stream, CURLOPT_WRITEDATA, &h->lines);
    curl_easy_setopt(h->stream, CURLOPT_ERRORBUFFER, h->words);
    curl_easy_setopt(h->stream, CURLOPT_POSTFIELDS, h->stream_body);
    free(full);
    curl_multi_add_handle(h->multi, h->stream);
    return 0;
}

// 1: a line is there. Blank ones are passed over.
static int take_line(struct etcd_http *h, json_t **message, struct err *e)
{
    for (;;) {
        char *end = h->lines.n ? memchr(h->lines.p, '\n', h->lines.n) : NULL;
        if (!end)
            return 0;
        size_t n = (size_t)(end - h->lines.p);
        *message = n ? json_loadb(h->lines.p, n, 0, NULL) : NULL;
        buf_consume(&h->lines, n + 1);
        if (n == 0)
            continue;
        if (json_is_object(*message))
            return 1;
        json_decref(*message);
        *message = NULL;
        return err_set(e, ERR_PROTOCOL, "etcd at %s: its stream is no JSON", h->urls[h->at]);
    }
}

static int stream_ended(struct etcd_http *h, struct err *e)
{
    int left;
    CURLMsg *m = curl_multi_info_read(h->multi, &left);
    if (m && m->data.result != CURLE_OK)
        return curl_failed(h, m->data.result, e);
    json_t *last = json_loadb(h->lines.n ? h->lines.p : "", h->lines.n, 0, NULL);
    long status = 0;
    curl_easy_getinfo(h->stream, CURLINFO_RESPONSE_CODE, &status);
    bool says_why = json_object_get(last, "error") || status != 200;
    int rc = says_why ? refused(h, last, status, e) : 0;
    json_decref(last);
    if (says_why)
        return rc;
    return err_set(e, ERR_CLOSED, "etcd at %s ended the stream", h->urls[h->at]);
}

static int wait_line(struct etcd_http *h, uint64_t deadline, const atomic_bool *cancel,
                     json_t **message, struct err *e)
{
    for (;;) {
        int running = 0;
        curl_multi_perform(h->multi, &running);
        int rc = take_line(h, message, e);
        if (rc)
            return rc;
        if (!running)
            return stream_ended(h, e);
        uint64_t now = clock_mono_us();
        if (now >= deadline || atomic_load(cancel))
            return 0;
        uint64_t left = (deadline - now) / 1000 + 1;
        curl_multi_poll(h->multi, NULL, 0, left < WAIT_STEP_MS ? (int)left : WAIT_STEP_MS, NULL);
    }
}

int etcd_stream_next(struct etcd_http *h, int timeout_ms, const atomic_bool *cancel,
                     json_t **message, struct err *e)
{
    *message = NULL;
    uint64_t deadline = clock_mono_us() + (uint64_t)timeout_ms * 1000;
    int rc = wait_line(h, deadline, cancel, message, e);
    if (rc < 0) {
        etcd_stream_end(h);
        next_endpoint(h);
    }
    return rc;
}

// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/api.h"
#include "control/form.h"
#include "control/http.h"
#include "control/supervisor.h"
#include "source_tree.h"

// A supervisor that notes what it is asked. It takes the place of the real one at link time.
struct supervisor {
    struct lane_snapshot lanes[2];
    size_t n;
    bool ready;
    pthread_mutex_t lock; // guards calls
    char calls[4096];     // one line a call
    int result;           // of the calls that can fail
    const char *message;
    atomic_bool hold; // calls wait while it is set
    atomic_int waiting;
};

static void note(struct supervisor *s, const char *fmt, const char *a, const char *b)
{
    pthread_mutex_lock(&s->lock);
    size_t n = strlen(s->calls);
    snprintf(s->calls + n, sizeof(s->calls) - n, "%s %s %s\n", fmt, a, b);
    pthread_mutex_unlock(&s->lock);
    atomic_fetch_add(&s->waiting, 1);
    while (atomic_load(&s->hold))
        usleep(1000);
    atomic_fetch_sub(&s->waiting, 1);
}

static int result(struct supervisor *s, struct err *e)
{
    return s->result ? err_set(e, s->result, "%s", s->message) : 0;
}

size_t supervisor_snapshots(struct supervisor *s, struct lane_snapshot **out)
{
    *out = xcalloc(2, sizeof(**out));
    memcpy(*out, s->lanes, s->n * sizeof(**out));
    return s->n;
}

void supervisor_group_json(struct supervisor *s, struct buf *out)
{
    (void)s;
    buf_append_cstr(out, "{\"Group\":\"g\"}\n");
}

int supervisor_act(struct supervisor *s, enum supervisor_action a, const char *inputs,
                   bool resume_skip, bool passed_on, struct err *e)
{
    (void)passed_on;
    static const char *const names[] = {"pause", "resume", "handover", "stop", "restart"};
    note(s, names[a], inputs, resume_skip ? "skip" : "-");
    return result(s, e);
}

int supervisor_fullsync(struct supervisor *s, const char *inputs, const char *flush_command,
                        bool extra_delete, bool passed_on, struct err *e)
{
    (void)passed_on;
    const char *how = flush_command ? flush_command : "-";
    note(s, "fullsync", inputs, extra_delete ? "extra" : how);
    return result(s, e);
}

int supervisor_gc(struct supervisor *s, struct err *e)
{
    note(s, "gc", "-", "-");
    return result(s, e);
}

bool supervisor_ready(struct supervisor *s, char *why, size_t cap)
{
    snprintf(why, cap, "lane 10.0.0.1:6379: source not reachable");
    return s->ready;
}

struct fixture {
    struct supervisor sup;
    struct http_options o;
    struct http *http;
    atomic_int shutdowns;
};

static void config_text(void *ctx, bool json, struct buf *out)
{
    (void)ctx;
    buf_append_cstr(out, json ? "{\"password\": \"***\"}\n" : "password: '***'\n");
}

static void shutdown_wished(void *ctx)
{
    struct fixture *f = ctx;
    atomic_fetch_add(&f->shutdowns, 1);
}

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    pthread_mutex_init(&f->sup.lock, NULL);
    f->sup.n = 1;
    struct lane_snapshot *l = &f->sup.lanes[0];
    strcpy(l->input, "10.0.0.1:6379");
    strcpy(l->output, "10.0.0.2:6379");
    strcpy(l->role, "leader");
    l->transaction = true;
    l->state = LANE_RUN;
    l->phase = LANE_PHASE_STREAMING;
    l->lag_bytes = 17;
    l->applied_offset = -1;
    l->full_sync_percent = 12.345;
    f->o = (struct http_options){.listen = "127.0.0.1:0",
                                 .sup = &f->sup,
                                 .ctx = f,
                                 .config_text = config_text,
                                 .shutdown = shutdown_wished,
                                 .version = "1.2.3"};
    *state = f;
    return 0;
}

static void start(struct fixture *f)
{
    struct err e = {0};
    if (http_start(&f->http, &f->o, &e) < 0)
        fail_msg("%s", e.msg);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->sup.hold, false);
    http_stop(f->http);
    pthread_mutex_destroy(&f->sup.lock);
    free(f);
    return 0;
}

static int dial(const struct fixture *f)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)http_port(f->http)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool put(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t w = send(fd, p, n, MSG_NOSIGNAL);
        if (w <= 0)
            return false;
        p += w;
        n -= (size_t)w;
    }
    return true;
}

// Everything until the server closes; NULL when it does not within the time.
static char *read_all(int fd, int timeout_ms)
{
    struct buf b = {0};
    uint64_t end = clock_mono_us() + (uint64_t)timeout_ms * 1000;
    for (;;) {
        uint64_t now = clock_mono_us();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now >= end || poll(&p, 1, (int)((end - now) / 1000) + 1) == 0) {
            buf_free(&b);
            return NULL;
        }
        ssize_t r = recv(fd, buf_reserve(&b, 4096), 4096, 0);
        if (r <= 0)
            break;
        b.n += (size_t)r;
    }
    buf_cstr(&b);
    return b.p;
}

static char *ask_raw(const struct fixture *f, const char *bytes, size_t n)
{
    int fd = dial(f);
    assert_true(fd >= 0);
    put(fd, bytes, n);
    char *answer = read_all(fd, 20000);
    close(fd);
    assert_non_null(answer);
    return answer;
}

static char *ask(const struct fixture *f, const char *method, const char *target,
                 const char *headers, const char *body)
{
    char *text = xasprintf("%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%sContent-Length: %zu\r\n\r\n%s",
                           method, target, headers, strlen(body), body);
    char *answer = ask_raw(f, text, strlen(text));
    free(text);
    return answer;
}

static int status_of(const char *answer)
{
    int status = 0;
    sscanf(answer, "HTTP/1.1 %d", &status);
    return status;
}

static const char *body_of(const char *answer)
{
    const char *p = strstr(answer, "\r\n\r\n");
    return p ? p + 4 : "";
}

// The status of a request and whether the body holds a text.
static void expect_with(const struct fixture *f, const char *method, const char *target,
                        const char *headers, const char *body, int status, const char *text)
{
    char *a = ask(f, method, target, headers, body);
    if (status_of(a) != status || !strstr(body_of(a), text))
        fail_msg("%s %s: wanted %d with '%s', got:\n%s", method, target, status, text, a);
    if (status >= 400) {
        json_t *j = json_loads(body_of(a), 0, NULL);
        if (!j || json_integer_value(json_object_get(j, "status")) != status ||
            !json_is_string(json_object_get(j, "error")))
            fail_msg("%s %s: not an error as JSON: %s", method, target, a);
        json_decref(j);
    }
    free(a);
}

static void expect(const struct fixture *f, const char *method, const char *target, int status,
                   const char *text)
{
    expect_with(f, method, target, "", "", status, text);
}

static void assert_calls(struct fixture *f, const char *calls)
{
    pthread_mutex_lock(&f->sup.lock);
    if (strcmp(f->sup.calls, calls) != 0)
        fail_msg("wanted calls:\n%sgot:\n%s", calls, f->sup.calls);
    f->sup.calls[0] = 0;
    pthread_mutex_unlock(&f->sup.lock);
}

static void wait_until(const atomic_int *v, int at_least)
{
    for (int i = 0; i < 10000 && atomic_load(v) < at_least; i++)
        usleep(1000);
    assert_true(atomic_load(v) >= at_least);
}

static void every_route_answers(void **state)
{
    struct fixture *f = *state;
    f->sup.ready = true;
    start(f);
    expect(f, "GET", "/healthz", 200, "ok");
    expect(f, "GET", "/readyz", 200, "ready");
    expect(f, "GET", "/debug/health", 200, "");
    expect(f, "GET", "/prometheus", 200, "redisGunYu_output_send_cmd{input=\"10.0.0.1:6379\"} 0");
    expect(f, "GET", "/prometheus?names=gunyu", 200, "gunyu_lag_bytes");
    expect(f, "GET", "/metrics", 200, "gunyu_build_info{version=\"1.2.3\"} 1");
    expect(f, "GET", "/syncer/config", 200, "password: '***'");
    expect(f, "GET", "/syncer/config?format=json", 200, "{\"password\": \"***\"}");
    expect(f, "GET", "/syncer/config?format=xml", 400, "yaml or json");
    expect(f, "GET", "/debug/pprof/heap?debug=1", 404, "not a Go program");
    expect(f, "GET", "/nothing?x=%zz", 404, "no such path: /nothing");
    assert_calls(f, "");
    expect(f, "GET", "/storage/gc", 200, "");
    expect(f, "POST", "/storage/gc", 200, "");
    expect(f, "POST", "/syncer/restart", 200, "");
    expect(f, "POST", "/syncer/pause?inputs=10.0.0.1:6379", 200, "");
    expect(f, "POST", "/syncer/resume?inputs=all&skip=yes", 200, "");
    expect(f, "POST", "/syncer/handover?inputs=a:1,%20b:2,a:1", 200, "");
    assert_calls(f, "gc - -\ngc - -\nrestart all -\npause 10.0.0.1:6379 -\nresume all skip\n"
                    "handover a:1,b:2 -\n");
}

static void parameters_come_in_the_query_or_in_a_form(void **state)
{
    struct fixture *f = *state;
    start(f);
    const char *type = "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n";
    expect_with(f, "POST", "/syncer/pause", type, "inputs=%31.2.3.4%3A6379,+b:1", 200, "");
    expect_with(f, "POST", "/syncer/resume?inputs=a:1", type, "skip=yes", 200, "");
    expect_with(f, "POST", "/syncer/pause?inputs=a:1", type, "inputs=b:1", 400, "twice");
    expect_with(f, "POST", "/syncer/pause", "Content-Type: application/json\r\n",
                "{\"inputs\":\"all\"}", 415, "form-urlencoded");
    static const char pieces[] = "POST /syncer/pause HTTP/1.1\r\nHost: x\r\n"
                                 "Transfer-Encoding: chunked\r\n\r\n"
                                 "3\r\ninp\r\n7\r\nuts=all\r\n0\r\n\r\n";
    char *chunked = ask_raw(f, pieces, sizeof(pieces) - 1);
    assert_int_equal(status_of(chunked), 200);
    free(chunked);
    assert_calls(f, "pause 1.2.3.4:6379,b:1 -\nresume a:1 skip\npause all -\n");
}

static void bad_parameters_are_refused_before_anything_is_done(void **state)
{
    struct fixture *f = *state;
    start(f);
    expect(f, "POST", "/syncer/pause", 400, "the inputs here are 10.0.0.1:6379");
    expect(f, "POST", "/syncer/pause?inputs=", 400, "missing");
    expect(f, "POST", "/syncer/pause?inputs=+", 400, "missing");
    expect(f, "POST", "/syncer/pause?inputs=a:1,,b:2", 400, "empty address");
    expect(f, "POST", "/syncer/pause?inputs=all,b:2", 400, "stands alone");
    expect(f, "POST", "/syncer/pause?input=all", 400, "unknown parameter 'input'");
    expect(f, "POST", "/syncer/pause?inputs=%", 400, "percent");
    expect(f, "POST", "/syncer/pause?inputs=%4", 400, "percent");
    expect(f, "POST", "/syncer/pause?inputs=%G0", 400, "percent");
    expect(f, "POST", "/syncer/pause?inputs=a%00b", 400, "control");
    expect(f, "POST", "/syncer/pause?inputs=all%0d%0aX:y", 400, "control");
    expect(f, "POST", "/syncer/resume?inputs=all&skip=true", 400, "yes or no");
    expect(f, "POST", "/syncer/fullsync?inputs=all&flushdb=1", 400, "yes or no");
    expect(f, "POST", "/syncer/fullsync?inputs=all&extraKeys=yes", 400, "keep or delete");
    expect(f, "POST", "/syncer/fullsync?inputs=all&flushCommand=flushall", 400, "flushdb=yes");
    expect(f, "POST", "/syncer/fullsync?inputs=all&flushdb=yes&flushCommand=config+set+x", 400,
           "flushCommand");
    expect(f, "POST", "/syncer/pause?inputs=\xff%f0<x>\"", 200, "");
    assert_calls(f, "pause \xff\xf0<x>\" -\n");
}

static void a_method_that_a_path_lacks_is_404_and_named(void **state)
{
    struct fixture *f = *state;
    start(f);
    expect(f, "POST", "/syncer/status", 404, "use GET");
    expect(f, "GET", "/syncer/pause?inputs=all", 404, "use POST");
    expect(f, "PUT", "/", 404, "use GET or DELETE");
    expect(f, "BREW", "/storage/gc", 404, "use GET or POST");
    assert_calls(f, "");
}

static void failures_keep_their_message(void **state)
{
    struct fixture *f = *state;
    start(f);
    f->sup.result = ERR_CONFIG;
    f->sup.message = "unknown input \"x:1\"; known: 10.0.0.1:6379";
    expect(f, "POST", "/syncer/pause?inputs=x:1", 400, "unknown input \\\"x:1\\\"");
    f->sup.result = ERR_TIMEOUT;
    f->sup.message = "lane did not answer";
    expect(f, "POST", "/syncer/pause?inputs=all", 500, "lane did not answer");
    expect(f, "POST", "/syncer/fullsync?inputs=all", 500, "lane did not answer");
    expect(f, "GET", "/storage/gc", 500, "lane did not answer");
    expect(f, "GET", "/readyz", 503, "source not reachable");
}

static void status_begins_with_the_documented_fields(void **state)
{
    struct fixture *f = *state;
    f->sup.n = 2;
    strcpy(f->sup.lanes[1].input, "bad\"\\\n\x01\xff");
    f->sup.lanes[1].state = LANE_ERROR;
    strcpy(f->sup.lanes[1].error, "WRONGTYPE <script>");
    start(f);
    expect(f, "GET", "/syncer/status", 200,
           "[{\"Input\":\"10.0.0.1:6379\",\"Role\":\"leader\",\"Transaction\":true,"
           "\"State\":\"run\",");
    char *a = ask(f, "GET", "/syncer/status", "", "");
    json_t *j = json_loads(body_of(a), 0, NULL);
    assert_non_null(j);
    assert_int_equal(json_array_size(j), 2);
    json_t *l = json_array_get(j, 1);
    assert_string_equal(json_string_value(json_object_get(l, "Input")),
                        "bad\"\\\n\x01\xef\xbf\xbd");
    assert_string_equal(json_string_value(json_object_get(l, "Role")), "unknown");
    assert_string_equal(json_string_value(json_object_get(l, "State")), "stop");
    assert_string_equal(json_string_value(json_object_get(l, "LaneState")), "error");
    assert_string_equal(json_string_value(json_object_get(l, "Error")), "WRONGTYPE <script>");
    l = json_array_get(j, 0);
    assert_int_equal(json_integer_value(json_object_get(l, "LagBytes")), 17);
    assert_int_equal(json_integer_value(json_object_get(l, "AppliedOffset")), -1);
    assert_true(json_real_value(json_object_get(l, "FullSyncPercent")) == 12.34);
    assert_non_null(json_object_get(json_object_get(l, "Counters"), "FullSyncs"));
    json_decref(j);
    free(a);
    f->sup.n = 0;
    expect(f, "GET", "/syncer/status", 200, "[]");
    expect(f, "GET", "/syncer/group", 200, "\"Group\":\"g\"");
}

static void the_page_escapes_what_it_shows(void **state)
{
    struct fixture *f = *state;
    strcpy(f->sup.lanes[0].error, "<script>alert(1)</script>&\"'");
    start(f);
    char *a = ask(f, "GET", "/", "", "");
    assert_int_equal(status_of(a), 200);
    assert_non_null(strstr(a, "Content-Type: text/html"));
    assert_non_null(strstr(a, "default-src 'none'"));
    assert_null(strstr(a, "<script"));
    assert_non_null(strstr(a, "&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;"));
    assert_null(strstr(a, "http://"));
    free(a);
}

static void delete_ends_the_process_after_its_answer(void **state)
{
    struct fixture *f = *state;
    start(f);
    expect(f, "DELETE", "/", 200, "");
    wait_until(&f->shutdowns, 1);
    expect(f, "DELETE", "/syncer/status", 404, "use GET");
    assert_int_equal(atomic_load(&f->shutdowns), 1);
}

static void bug_32_resuming_a_lane_that_is_not_paused_is_answered(void **state)
{
    struct fixture *f = *state;
    start(f);
    for (int i = 0; i < 3; i++)
        expect(f, "POST", "/syncer/resume?inputs=all&flushdb=yes", 200, "");
    expect(f, "GET", "/healthz", 200, "ok");
    assert_calls(f, "resume all -\nresume all -\nresume all -\n");
}

static void bug_33_stop_stops_and_restart_restarts(void **state)
{
    struct fixture *f = *state;
    start(f);
    expect(f, "POST", "/syncer/stop", 200, "");
    expect(f, "POST", "/syncer/restart", 200, "");
    assert_calls(f, "stop all -\nrestart all -\n");
    assert_int_equal(atomic_load(&f->shutdowns), 0);
}

static void bug_34_fullsync_concerns_the_named_inputs_only(void **state)
{
    struct fixture *f = *state;
    start(f);
    expect(f, "POST", "/syncer/fullsync?inputs=10.0.0.1:6379", 200, "");
    expect(f, "POST", "/syncer/fullsync?inputs=a:1&flushdb=no", 200, "");
    expect(f, "POST", "/syncer/fullsync?inputs=a:1&flushdb=yes", 200, "");
    expect(f, "POST", "/syncer/fullsync?inputs=all&flushdb=yes&flushCommand=FLUSHALL%20async", 200,
           "");
    expect(f, "POST", "/syncer/fullsync?inputs=all&extraKeys=delete", 200, "");
    expect(f, "POST", "/syncer/fullsync?inputs=all&extraKeys=keep", 200, "");
    expect(f, "POST", "/syncer/fullsync", 400, "missing");
    assert_calls(f, "fullsync 10.0.0.1:6379 -\nfullsync a:1 -\nfullsync a:1 flushdb\n"
                    "fullsync all FLUSHALL async\nfullsync all extra\nfullsync all -\n");
}

static void bug_36_with_a_token_only_health_is_open(void **state)
{
    struct fixture *f = *state;
    f->o.token = "s3cret";
    start(f);
    const char *closed[][2] = {{"GET", "/"},
                               {"DELETE", "/"},
                               {"GET", "/prometheus"},
                               {"GET", "/metrics"},
                               {"GET", "/syncer/status"},
                               {"GET", "/syncer/config"},
                               {"GET", "/debug/pprof/heap"},
                               {"GET", "/storage/gc"},
                               {"POST", "/syncer/stop"},
                               {"GET", "/nothing"},
                               {"GET", "/healthz/../syncer/config"}};
    for (size_t i = 0; i < sizeof(closed) / sizeof(*closed); i++)
        expect(f, closed[i][0], closed[i][1], 401, "Authorization: Bearer");
    const char *wrong[] = {"Bearer",         "Bearer ",
                           "Bearer s3cre",   "Bearer s3crets",
                           "Bearer S3cret",  "bearer s3crs3cret",
                           "Basic czNjcmV0", "Basic dXNlcjp3cm9uZw==",
                           "s3cret",         "Basic ",
                           "Basic ====",     "Bearer s3cret x"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        char *h = xasprintf("Authorization: %s\r\n", wrong[i]);
        expect_with(f, "POST", "/syncer/stop", h, "", 401, "token");
        free(h);
    }
    assert_calls(f, "");
    expect(f, "GET", "/healthz", 200, "ok");
    expect(f, "GET", "/debug/health", 200, "");
    expect(f, "GET", "/readyz", 503, "not ready");
    char *a = ask(f, "GET", "/readyz", "", "");
    assert_null(strstr(a, "10.0.0.1"));
    free(a);
    expect_with(f, "GET", "/readyz", "Authorization: Bearer s3cret\r\n", "", 503, "10.0.0.1");
    expect_with(f, "POST", "/syncer/stop", "Authorization: bearer  s3cret\r\n", "", 200, "");
    expect_with(f, "GET", "/", "Authorization: Basic dXNlcjpzM2NyZXQ=\r\n", "", 200, "gunyu");
    a = ask(f, "GET", "/syncer/config", "Authorization: Bearer s3cret\r\n", "");
    assert_null(strstr(a, "s3cret"));
    free(a);
}

static void metrics_can_be_open_or_off(void **state)
{
    struct fixture *f = *state;
    f->o.token = "s3cret";
    f->o.metrics_open = true;
    f->o.metric_path = "/m";
    start(f);
    expect(f, "GET", "/m", 200, "redisGunYu_");
    expect(f, "GET", "/metrics", 200, "gunyu_");
    expect(f, "GET", "/prometheus", 401, "token");
    http_stop(f->http);
    f->o.no_metrics = true;
    f->o.token = NULL;
    start(f);
    expect(f, "GET", "/m", 404, "no such path");
    expect(f, "GET", "/metrics", 404, "no such path");
}

static void pages_of_other_sites_cannot_act(void **state)
{
    struct fixture *f = *state;
    start(f);
    const char *bad[] = {"Origin: http://evil.example\r\n", "Origin: null\r\n",
                         "Origin: http://\r\n", "Sec-Fetch-Site: cross-site\r\n",
                         "Sec-Fetch-Site: same-site\r\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        expect_with(f, "POST", "/syncer/stop", bad[i], "", 403, "another site");
        expect_with(f, "GET", "/storage/gc", bad[i], "", 403, "another site");
        expect_with(f, "DELETE", "/", bad[i], "", 403, "another site");
    }
    // A name of theirs that they let point here: Origin and Host agree.
    static const char rebound[] = "POST /syncer/stop HTTP/1.1\r\nHost: evil.example:80\r\n"
                                  "Origin: http://evil.example:80\r\nContent-Length: 0\r\n\r\n";
    char *a = ask_raw(f, rebound, sizeof(rebound) - 1);
    assert_int_equal(status_of(a), 403);
    free(a);
    assert_calls(f, "");
    expect_with(f, "POST", "/syncer/stop",
                "Origin: http://127.0.0.1\r\nSec-Fetch-Site: same-origin\r\n", "", 200, "");
    assert_calls(f, "stop all -\n");
}

static void a_big_body_or_head_is_refused(void **state)
{
    struct fixture *f = *state;
    start(f);
    char *big = xmalloc(300001);
    memset(big, 'a', 300000);
    big[300000] = 0;
    expect_with(f, "POST", "/syncer/pause", "", big, 413, "too big");
    char *head = xasprintf("GET /healthz HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", big);
    char *a = ask_raw(f, head, strlen(head));
    assert_true(status_of(a) >= 400 || a[0] == 0);
    free(a);
    free(head);
    head = xasprintf("GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", big);
    a = ask_raw(f, head, strlen(head));
    assert_true(status_of(a) >= 400 || a[0] == 0);
    free(a);
    free(head);
    head = xasprintf("POST /syncer/pause HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "493e0\r\n%s\r\n0\r\n\r\n",
                     big);
    a = ask_raw(f, head, strlen(head));
    assert_int_equal(status_of(a), 413);
    free(a);
    free(head);
    free(big);
    assert_calls(f, "");
    expect(f, "GET", "/healthz", 200, "ok");
}

static void garbage_ends_the_connection_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    f->o.receive_timeout_ms = 300;
    start(f);
    static const char *const garbage[] = {
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
        "*1\r\n$4\r\nPING\r\n",
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET  HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /syncer/pause HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST /syncer/pause HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /syncer/pause HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET /healthz HTTP/1.1\r\nHost",
        "GET /half-a-request-line",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"};
    for (size_t i = 0; i < sizeof(garbage) / sizeof(*garbage); i++)
        free(ask_raw(f, garbage[i], strlen(garbage[i])));
    assert_calls(f, "");
    expect(f, "GET", "/healthz", 200, "ok");
}

static void a_client_that_dribbles_is_cut_off(void **state)
{
    struct fixture *f = *state;
    f->o.receive_timeout_ms = 400;
    start(f);
    int fd = dial(f);
    assert_true(put(fd, "GET /healthz HTTP/1.1\r\n", 23));
    // A header byte now and then would keep an idle timeout from ever passing.
    uint64_t begun = clock_mono_us();
    bool cut = false;
    while (!cut && clock_mono_us() - begun < 10000000) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        cut = !put(fd, "X", 1) || poll(&p, 1, 20) > 0;
    }
    close(fd);
    assert_true(cut);
    fd = dial(f);
    static const char body[] =
        "POST /syncer/pause HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n";
    assert_true(put(fd, body, sizeof(body) - 1));
    char *a = read_all(fd, 10000);
    assert_non_null(a);
    free(a);
    close(fd);
    assert_calls(f, "");
}

static void config_text_huge(void *ctx, bool json, struct buf *out)
{
    (void)ctx;
    (void)json;
    size_t n = 64u << 20; // more than two sockets' buffers hold
    memset(buf_reserve(out, n), 'x', n);
    out->n += n;
}

static void a_client_that_does_not_read_is_cut_off(void **state)
{
    struct fixture *f = *state;
    f->o.send_timeout_ms = 400;
    f->o.config_text = config_text_huge;
    start(f);
    int fd = dial(f);
    static const char get[] = "GET /syncer/config HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_true(put(fd, get, sizeof(get) - 1));
    // Polled for nothing, it still tells of a reset, which comes in front of the unread bytes.
    struct pollfd p = {.fd = fd, .events = 0};
    assert_int_equal(poll(&p, 1, 10000), 1);
    assert_true(p.revents & (POLLERR | POLLHUP));
    close(fd);
    expect(f, "GET", "/healthz", 200, "ok");
}

static void slow_clients_in_great_number_do_not_keep_others_out(void **state)
{
    struct fixture *f = *state;
    f->o.max_connections = 16;
    f->o.max_per_ip = 16;
    f->o.receive_timeout_ms = 60000;
    start(f);
    int fds[300];
    for (int i = 0; i < 300; i++) {
        fds[i] = dial(f);
        if (fds[i] >= 0)
            put(fds[i], "GET /healthz HTTP/1.1\r\nHost", 27);
        if (i % 50 == 49)
            expect(f, "GET", "/healthz", 200, "ok");
    }
    for (int i = 0; i < 300; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    expect(f, "GET", "/healthz", 200, "ok");
}

static void *act_slowly(void *arg)
{
    free(ask(arg, "POST", "/syncer/pause?inputs=all", "", ""));
    return NULL;
}

static void a_supervisor_that_hangs_leaves_health_and_metrics_alone(void **state)
{
    struct fixture *f = *state;
    start(f);
    atomic_store(&f->sup.hold, true);
    pthread_t t[8];
    for (int i = 0; i < 8; i++)
        pthread_create(&t[i], NULL, act_slowly, f);
    wait_until(&f->sup.waiting, 8);
    expect(f, "POST", "/syncer/pause?inputs=all", 503, "try again");
    expect(f, "GET", "/healthz", 200, "ok");
    expect(f, "GET", "/prometheus", 200, "gunyu_");
    atomic_store(&f->sup.hold, false);
    for (int i = 0; i < 8; i++)
        pthread_join(t[i], NULL);
    expect(f, "POST", "/syncer/pause?inputs=all", 200, "");
}

static void *ask_often(void *arg)
{
    for (int i = 0; i < 25; i++) {
        char *a = ask(arg, "GET", i % 2 ? "/syncer/status" : "/prometheus", "", "");
        bool ok = status_of(a) == 200;
        free(a);
        if (!ok)
            return arg;
    }
    return NULL;
}

static void many_clients_at_once_are_all_served(void **state)
{
    struct fixture *f = *state;
    start(f);
    pthread_t t[24];
    for (int i = 0; i < 24; i++)
        pthread_create(&t[i], NULL, ask_often, f);
    for (int i = 0; i < 24; i++) {
        void *failed;
        pthread_join(t[i], &failed);
        assert_null(failed);
    }
}

static void the_port_in_use_is_named(void **state)
{
    struct fixture *f = *state;
    start(f);
    char listen[32];
    snprintf(listen, sizeof(listen), "127.0.0.1:%d", http_port(f->http));
    struct http_options o = f->o;
    o.listen = listen;
    struct http *second = NULL;
    struct err e = {0};
    assert_true(http_start(&second, &o, &e) == -EADDRINUSE);
    assert_non_null(strstr(e.msg, listen));
    assert_non_null(strstr(e.msg, "server.listen"));
    assert_null(second);
}

static void it_listens_on_ipv6(void **state)
{
    struct fixture *f = *state;
    f->o.listen = "[::1]:0";
    struct err e = {0};
    if (http_start(&f->http, &f->o, &e) < 0) {
        assert_true(e.code == -EADDRNOTAVAIL || e.code == -EAFNOSUPPORT);
        skip();
    }
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 a = {.sin6_family = AF_INET6,
                             .sin6_port = htons((uint16_t)http_port(f->http)),
                             .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    static const char get[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    put(fd, get, sizeof(get) - 1);
    char *answer = read_all(fd, 10000);
    close(fd);
    assert_non_null(answer);
    assert_int_equal(status_of(answer), 200);
    free(answer);
}

static void stopping_ends_idle_connections_at_once(void **state)
{
    struct fixture *f = *state;
    start(f);
    int fd = dial(f);
    put(fd, "GET ", 4);
    expect(f, "GET", "/healthz", 200, "ok");
    uint64_t begun = clock_mono_us();
    http_stop(f->http);
    f->http = NULL;
    assert_true(clock_mono_us() - begun < 5000000);
    char *a = read_all(fd, 10000);
    assert_non_null(a);
    free(a);
    close(fd);
}

static void head_is_get_without_a_body(void **state)
{
    struct fixture *f = *state;
    start(f);
    char *a = ask(f, "HEAD", "/syncer/status", "", "");
    assert_int_equal(status_of(a), 200);
    assert_string_equal(body_of(a), "");
    assert_null(strstr(a, "Content-Length: 0\r\n"));
    free(a);
}

static void inputs_are_cleaned(void **state)
{
    (void)state;
    const char *cases[][2] = {{"all", "all"},
                              {" a:1 , b:2 ", "a:1,b:2"},
                              {"a:1,a:1,a:10", "a:1,a:10"},
                              {"[::1]:6379", "[::1]:6379"},
                              {"", NULL},
                              {",", NULL},
                              {"a:1,", NULL},
                              {"a:1 b:2", NULL},
                              {"all,all", NULL}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char *out = NULL;
        struct err e = {0};
        int rc = form_inputs(cases[i][0], &out, &e);
        if (cases[i][1]) {
            assert_int_equal(rc, 0);
            assert_string_equal(out, cases[i][1]);
        } else {
            assert_int_equal(rc, ERR_CONFIG);
            assert_null(out);
        }
        free(out);
    }
}

static void docs_api_md_has_the_table_of_routes(void **state)
{
    (void)state;
    char *table = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&table, &n);
    assert_non_null(f);
    api_write_routes(f);
    fclose(f);
    char *docs = read_source("docs/api.md");
    if (!strstr(docs, table))
        fail_msg("docs/api.md must hold this table:\n%s", table);
    free(docs);
    free(table);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(every_route_answers),
        T(parameters_come_in_the_query_or_in_a_form),
        T(bad_parameters_are_refused_before_anything_is_done),
        T(a_method_that_a_path_lacks_is_404_and_named),
        T(failures_keep_their_message),
        T(status_begins_with_the_documented_fields),
        T(the_page_escapes_what_it_shows),
        T(delete_ends_the_process_after_its_answer),
        T(bug_32_resuming_a_lane_that_is_not_paused_is_answered),
        T(bug_33_stop_stops_and_restart_restarts),
        T(bug_34_fullsync_concerns_the_named_inputs_only),
        T(bug_36_with_a_token_only_health_is_open),
        T(metrics_can_be_open_or_off),
        T(pages_of_other_sites_cannot_act),
        T(a_big_body_or_head_is_refused),
        T(garbage_ends_the_connection_and_nothing_else),
        T(a_client_that_dribbles_is_cut_off),
        T(a_client_that_does_not_read_is_cut_off),
        T(slow_clients_in_great_number_do_not_keep_others_out),
        T(a_supervisor_that_hangs_leaves_health_and_metrics_alone),
        T(many_clients_at_once_are_all_served),
        T(the_port_in_use_is_named),
        T(it_listens_on_ipv6),
        T(stopping_ends_idle_connections_at_once),
        T(head_is_get_without_a_body),
        cmocka_unit_test(inputs_are_cleaned),
        cmocka_unit_test(docs_api_md_has_the_table_of_routes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

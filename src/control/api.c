// SPDX-License-Identifier: Apache-2.0
#include "control/api.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/form.h"
#include "control/metrics.h"
#include "control/status.h"
#include "control/supervisor.h"
#include "control/text.h"

// Requests that act wait for lanes; more of them at once would only fill the server's threads.
enum { MAX_ACTING = 8 };
static atomic_int acting; // process-wide: requests that act, now

enum method { M_GET = 1, M_POST = 2, M_DELETE = 4 };

static const struct {
    enum method bit;
    const char *name;
} methods[] = {{M_GET, "GET"}, {M_POST, "POST"}, {M_DELETE, "DELETE"}};

enum access {
    ACCESS_OPEN, // no token
    ACCESS_METRICS,
    ACCESS_READ,
    ACCESS_ACT, // changes something: not for another site's pages
};

struct call {
    const struct http_options *o;
    const struct api_request *q;
    const struct form *form;
    int arg;
};

typedef void handler_fn(const struct call *c, struct api_reply *r);

struct route {
    const char *path; // NULL: the metric path
    bool prefix;      // what lies below the path is meant too
    unsigned methods;
    enum access access;
    handler_fn *handler;
    int arg;
    const char *params; // all that it takes, with blanks around each; NULL: any are ignored
    const char *help;   // for the reference
};

void api_error(struct api_reply *r, int status, const char *fmt, ...)
{
    char msg[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    buf_clear(&r->body);
    buf_append_cstr(&r->body, "{\"error\":");
    text_json(&r->body, msg);
    buf_printf(&r->body, ",\"status\":%d}\n", status);
    r->status = status;
    r->content_type = "application/json";
}

static void reply_failed(struct api_reply *r, int code, const struct err *e)
{
    api_error(r, code == ERR_CONFIG ? 400 : 500, "%s", e->msg[0] ? e->msg : err_text(code));
}

static void reply_ok(struct api_reply *r)
{
    r->status = 200;
}

// Time depends on the given text only, which the client knows anyway.
static bool same_secret(const char *given, const char *want)
{
    size_t n = strlen(given), m = strlen(want);
    volatile unsigned char diff = n != m;
    for (size_t i = 0; i < n && m > 0; i++)
        diff |= (unsigned char)(given[i] ^ want[i % m]);
    return diff == 0;
}

static bool has_token(const struct http_options *o)
{
    return o->token && o->token[0];
}

static bool authorized(const struct http_options *o, const struct api_request *q)
{
    if (!has_token(o))
        return true;
    if (q->basic_password && same_secret(q->basic_password, o->token))
        return true;
    struct slice a = slice_cstr(q->authorization);
    if (a.n < 7 || !slice_ieq(slice_make(a.p, 7), SLICE("bearer ")))
        return false;
    const char *given = q->authorization + 7;
    return same_secret(given + strspn(given, " "), o->token);
}

static void handle_empty(const struct call *c, struct api_reply *r)
{
    (void)c;
    reply_ok(r);
}

static void handle_alive(const struct call *c, struct api_reply *r)
{
    (void)c;
    reply_ok(r);
    r->content_type = "application/json";
    buf_append_cstr(&r->body, "{\"status\":\"ok\"}\n");
}

static void handle_ready(const struct call *c, struct api_reply *r)
{
    char why[512] = "";
    if (supervisor_ready(c->o->sup, why, sizeof(why))) {
        reply_ok(r);
        r->content_type = "application/json";
        buf_append_cstr(&r->body, "{\"status\":\"ready\"}\n");
        return;
    }
    // The reason names addresses, which are not for everyone when there is a token.
    bool tell = why[0] && authorized(c->o, c->q);
    api_error(r, 503, "%s", tell ? why : "not ready");
}

static void handle_page(const struct call *c, struct api_reply *r)
{
    struct lane_snapshot *lanes = NULL;
    size_t n = supervisor_snapshots(c->o->sup, &lanes);
    reply_ok(r);
    r->content_type = "text/html; charset=utf-8";
    status_html(&r->body, lanes, n, c->o->version, c->o->no_metrics ? NULL : c->o->metric_path);
    free(lanes);
}

static void handle_status(const struct call *c, struct api_reply *r)
{
    struct lane_snapshot *lanes = NULL;
    size_t n = supervisor_snapshots(c->o->sup, &lanes);
    reply_ok(r);
    r->content_type = "application/json";
    status_json(&r->body, lanes, n);
    free(lanes);
}

static void handle_group(const struct call *c, struct api_reply *r)
{
    reply_ok(r);
    r->content_type = "application/json";
    supervisor_group_json(c->o->sup, &r->body);
}

static void handle_metrics(const struct call *c, struct api_reply *r)
{
    enum metrics_set set = (enum metrics_set)c->arg;
    const char *names = form_get(c->form, "names");
    if (names && !metrics_set_parse(names, &set)) {
        api_error(r, 400, "parameter 'names' must be all, gunyu or redisGunYu");
        return;
    }
    struct lane_snapshot *lanes = NULL;
    size_t n = supervisor_snapshots(c->o->sup, &lanes);
    reply_ok(r);
    r->content_type = "text/plain; version=0.0.4; charset=utf-8";
    metrics_render(&r->body, set, lanes, n, c->o->version);
    free(lanes);
}

static void handle_config(const struct call *c, struct api_reply *r)
{
    const char *format = form_get(c->form, "format");
    bool json = format && strcmp(format, "json") == 0;
    if (format && !json && strcmp(format, "yaml") != 0) {
        api_error(r, 400, "parameter 'format' must be yaml or json");
        return;
    }
    reply_ok(r);
    r->content_type = json ? "application/json" : "application/yaml; charset=utf-8";
    c->o->config_text(c->o->ctx, json, &r->body);
}

static void handle_pprof(const struct call *c, struct api_reply *r)
{
    (void)c;
    api_error(r, 404, "no pprof here: gunyu is not a Go program; profile it with perf");
}

static void handle_shutdown(const struct call *c, struct api_reply *r)
{
    (void)c;
    reply_ok(r);
    r->shutdown = true;
}

static void handle_gc(const struct call *c, struct api_reply *r)
{
    struct err e = {0};
    int rc = supervisor_gc(c->o->sup, &e);
    if (rc < 0)
        reply_failed(r, rc, &e);
    else
        reply_ok(r);
}

static void reply_no_inputs(const struct call *c, struct api_reply *r)
{
    struct lane_snapshot *lanes = NULL;
    size_t n = supervisor_snapshots(c->o->sup, &lanes);
    struct buf known = {0};
    for (size_t i = 0; i < n && known.n < 700; i++)
        buf_printf(&known, "%s%s", i ? ", " : "", lanes[i].input);
    api_error(r, 400, "parameter 'inputs' is missing: give all, or addresses with commas%s%s",
              n ? "; the inputs here are " : "; no input is known yet", n ? buf_cstr(&known) : "");
    buf_free(&known);
    free(lanes);
}

// The checked list in *inputs (new), or false with the reply made. fallback: when none are given.
static bool take_inputs(const struct call *c, struct api_reply *r, const char *fallback,
                        char **inputs)
{
    const char *given = form_get(c->form, "inputs");
    if (!given || !given[strspn(given, " ")])
        given = fallback;
    if (!given) {
        reply_no_inputs(c, r);
        return false;
    }
    struct err e = {0};
    int rc = form_inputs(given, inputs, &e);
    if (rc < 0)
        reply_failed(r, rc, &e);
    return rc == 0;
}

static void handle_act(const struct call *c, struct api_reply *r)
{
    enum supervisor_action a = (enum supervisor_action)c->arg;
    bool whole = a == SUP_STOP || a == SUP_RESTART;
    struct err e = {0};
    bool skip = false, passed_on = false;
    int rc = form_yes(c->form, "skip", &skip, &e);
    if (rc == 0)
        rc = form_yes(c->form, "passedOn", &passed_on, &e);
    if (rc < 0) {
        reply_failed(r, rc, &e);
        return;
    }
    char *inputs;
    if (!take_inputs(c, r, whole ? "all" : NULL, &inputs))
        return;
    rc = supervisor_act(c->o->sup, a, inputs, skip, passed_on, &e);
    free(inputs);
    if (rc < 0)
        reply_failed(r, rc, &e);
    else
        reply_ok(r);
}

static void handle_fullsync(const struct call *c, struct api_reply *r)
{
    struct err e = {0};
    bool flush = false, extra_delete = false, passed_on = false;
    const char *command = form_get(c->form, "flushCommand");
    int rc = form_yes(c->form, "flushdb", &flush, &e);
    if (rc == 0)
        rc = form_yes(c->form, "passedOn", &passed_on, &e);
    if (rc == 0)
        rc = form_extra_keys(c->form, &extra_delete, &e);
    if (rc == 0 && command)
        rc = form_flush_command(command, &e);
    if (rc == 0 && command && !flush)
        rc = err_set(&e, ERR_CONFIG, "parameter 'flushCommand' needs flushdb=yes beside it");
    if (rc < 0) {
        reply_failed(r, rc, &e);
        return;
    }
    char *inputs;
    if (!take_inputs(c, r, NULL, &inputs))
        return;
    if (flush && !command)
        command = "flushdb";
    rc = supervisor_fullsync(c->o->sup, inputs, command, extra_delete, passed_on, &e);
    free(inputs);
    if (rc < 0)
        reply_failed(r, rc, &e);
    else
        reply_ok(r);
}

// Scripts made for redisGunYu send flushdb to pause and resume too, where it means nothing.
#define P_INPUTS " inputs flushdb passedOn "

static const struct route routes[] = {
    {.methods = M_GET,
     .access = ACCESS_METRICS,
     .handler = handle_metrics,
     .arg = METRICS_ALL,
     .help = "Metrics in the Prometheus text format. `names=gunyu` or `names=redisGunYu` for one "
             "family."},
    {.path = "/metrics",
     .methods = M_GET,
     .access = ACCESS_METRICS,
     .handler = handle_metrics,
     .arg = METRICS_OWN,
     .help = "Metrics of gunyu's own names; `names` as above."},
    {.path = "/healthz",
     .methods = M_GET,
     .access = ACCESS_OPEN,
     .handler = handle_alive,
     .help = "200 while the process lives."},
    {.path = "/readyz",
     .methods = M_GET,
     .access = ACCESS_OPEN,
     .handler = handle_ready,
     .help = "200 when every lane reaches its source and its target, else 503 with the reason."},
    {.path = "/debug/health",
     .methods = M_GET,
     .access = ACCESS_OPEN,
     .handler = handle_empty,
     .help = "200 with an empty body, as redisGunYu."},
    {.path = "/debug/pprof",
     .prefix = true,
     .methods = M_GET | M_POST,
     .access = ACCESS_READ,
     .handler = handle_pprof,
     .help = "404 with all that lies below it: there is no Go runtime to profile."},
    {.path = "/",
     .methods = M_GET,
     .access = ACCESS_READ,
     .handler = handle_page,
     .help = "The lanes as a page for a browser."},
    {.path = "/",
     .methods = M_DELETE,
     .access = ACCESS_ACT,
     .handler = handle_shutdown,
     .help = "Ends the process gracefully, after the answer; exit code 0."},
    {.path = "/storage/gc",
     .methods = M_GET | M_POST,
     .access = ACCESS_ACT,
     .handler = handle_gc,
     .help =
         "Removes positions in the targets and journals on disk that are ours, belong to no lane "
         "and were not touched for `channel.staleCheckpointDuration`."},
    {.path = "/syncer/status",
     .methods = M_GET,
     .access = ACCESS_READ,
     .handler = handle_status,
     .help = "The lanes as a JSON array, see below."},
    {.path = "/syncer/group",
     .methods = M_GET,
     .access = ACCESS_READ,
     .handler = handle_group,
     .help = "The group that this node belongs to, see below."},
    {.path = "/syncer/config",
     .methods = M_GET,
     .access = ACCESS_READ,
     .handler = handle_config,
     .help = "The configuration with all secrets as `***`. `format=json`, or `yaml`, the default."},
    {.path = "/syncer/restart",
     .methods = M_POST,
     .access = ACCESS_ACT,
     .handler = handle_act,
     .arg = SUP_RESTART,
     .params = P_INPUTS,
     .help = "Stops and starts lanes; all of them without `inputs`."},
    {.path = "/syncer/stop",
     .methods = M_POST,
     .access = ACCESS_ACT,
     .handler = handle_act,
     .arg = SUP_STOP,
     .params = P_INPUTS,
     .help = "Stops lanes until they are restarted; all of them without `inputs`."},
    {.path = "/syncer/pause",
     .methods = M_POST,
     .access = ACCESS_ACT,
     .handler = handle_act,
     .arg = SUP_PAUSE,
     .params = P_INPUTS,
     .help = "Stops applying; the source is still drained into the journal."},
    {.path = "/syncer/resume",
     .methods = M_POST,
     .access = ACCESS_ACT,
     .handler = handle_act,
     .arg = SUP_RESUME,
     .params = P_INPUTS "skip ",
     .help =
         "Goes on applying. A lane in error tries its command again, with `skip=yes` it skips it."},
    {.path = "/syncer/handover",
     .methods = M_POST,
     .access = ACCESS_ACT,
     .handler = handle_act,
     .arg = SUP_HANDOVER,
     .params = P_INPUTS,
     .help = "Hands over to another node of the group, the one whose journal reaches furthest. "
             "Without a group: restarts lanes."},
    {.path = "/syncer/fullsync",
     .methods = M_POST,
     .access = ACCESS_ACT,
     .handler = handle_fullsync,
     .params = P_INPUTS "flushCommand extraKeys ",
     .help = "Syncs in full again. `flushdb=yes` empties the target first, by `flushCommand` "
             "(default `flushdb`); `extraKeys=delete` deletes keys that the source does not have."},
};
enum { ROUTES = sizeof(routes) / sizeof(*routes) };

static bool route_matches(const struct route *rt, const struct http_options *o, struct slice path)
{
    if (rt->access == ACCESS_METRICS && o->no_metrics)
        return false;
    struct slice want = slice_cstr(rt->path ? rt->path : o->metric_path);
    if (slice_eq(path, want))
        return true;
    return rt->prefix && path.n > want.n && slice_has_prefix(path, want) && path.p[want.n] == '/';
}

// HEAD is a GET whose body the server leaves out.
static unsigned method_bit(const char *method)
{
    if (strcmp(method, "HEAD") == 0)
        return M_GET;
    for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++)
        if (strcmp(method, methods[i].name) == 0)
            return methods[i].bit;
    return 0;
}

struct target {
    struct slice path, query;
};

static struct target split_target(const char *s)
{
    size_t n = strcspn(s, "?");
    return (struct target){slice_make(s, n), slice_cstr(s + n + (s[n] == '?'))};
}

// The route, or NULL with *other the methods that the path does have.
static const struct route *find_route(const struct http_options *o, const struct api_request *q,
                                      unsigned *other)
{
    struct slice path = split_target(q->target).path;
    unsigned bit = method_bit(q->method);
    *other = 0;
    for (int i = 0; i < ROUTES; i++) {
        if (!route_matches(&routes[i], o, path))
            continue;
        if (routes[i].methods & bit)
            return &routes[i];
        *other |= routes[i].methods;
    }
    return NULL;
}

static void reply_no_route(const struct api_request *q, unsigned other, struct api_reply *r)
{
    struct slice path = split_target(q->target).path;
    int n = path.n < 100 ? (int)path.n : 100;
    if (!other) {
        api_error(r, 404, "no such path: %.*s", n, path.p);
        return;
    }
    struct buf list = {0};
    for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++)
        if (other & methods[i].bit)
            buf_printf(&list, "%s%s", list.n ? " or " : "", methods[i].name);
    api_error(r, 404, "%.16s does not work on %.*s: use %s", q->method, n, path.p, buf_cstr(&list));
    buf_free(&list);
}

static bool local_name(struct slice host)
{
    size_t n = host.n;
    if (n > 0 && host.p[0] == '[')
        return true;
    const char *colon = memchr(host.p, ':', n);
    host.n = colon ? (size_t)(colon - host.p) : n;
    if (slice_ieq(host, SLICE("localhost")))
        return true;
    for (size_t i = 0; i < host.n; i++)
        if ((host.p[i] < '0' || host.p[i] > '9') && host.p[i] != '.')
            return false;
    return host.n > 0;
}

// A page of another site can make a browser send requests here, with the browser's stored
// password, and by DNS it can even make its own name point here. Programs send no Origin.
static bool foreign_page(const struct http_options *o, const struct api_request *q)
{
    struct slice site = slice_cstr(q->fetch_site);
    if (site.n && !slice_eq(site, SLICE("same-origin")) && !slice_eq(site, SLICE("none")))
        return true;
    if (!q->origin)
        return false;
    struct slice host = slice_cstr(q->host);
    struct slice origin = slice_cstr(q->origin);
    const struct slice schemes[] = {SLICE("http://"), SLICE("https://")};
    for (size_t i = 0; i < 2; i++) {
        if (!slice_has_prefix(origin, schemes[i]))
            continue;
        struct slice at = slice_make(origin.p + schemes[i].n, origin.n - schemes[i].n);
        return !slice_ieq(at, host) || (!has_token(o) && !local_name(host));
    }
    return true;
}

static bool needs_token(const struct http_options *o, const struct route *rt)
{
    if (rt && rt->access == ACCESS_METRICS)
        return !o->metrics_open;
    return !rt || rt->access != ACCESS_OPEN;
}

// True when the request may not pass, whatever its parameters; r is the answer.
static bool refuse(const struct http_options *o, const struct api_request *q, struct api_reply *r)
{
    unsigned other;
    const struct route *rt = find_route(o, q, &other);
    if (needs_token(o, rt) && !authorized(o, q)) {
        log_warn("api", "401 to %s: %s", q->peer,
                 q->authorization ? "wrong token" : "request without a token");
        api_error(r, 401, "token missing or wrong: send 'Authorization: Bearer TOKEN'");
        return true;
    }
    if (!rt) {
        reply_no_route(q, other, r);
        return true;
    }
    if (rt->access == ACCESS_ACT && foreign_page(o, q)) {
        log_warn("api", "403 to %s: %s asked for by a page of another site", q->peer, rt->path);
        api_error(r, 403, "refused: the request comes from a page of another site");
        return true;
    }
    return false;
}

static bool form_type(const char *content_type)
{
    struct slice want = SLICE("application/x-www-form-urlencoded");
    struct slice given = slice_make(content_type, strcspn(content_type, "; "));
    return slice_ieq(given, want);
}

// 0, or a negative code with the reply made.
static int read_params(const struct route *rt, const struct api_request *q, struct form *f,
                       struct api_reply *r)
{
    struct err e = {0};
    int rc = form_parse(f, split_target(q->target).query, &e);
    if (rc == 0 && q->body.n > 0) {
        if (q->content_type && !form_type(q->content_type)) {
            api_error(r, 415,
                      "send parameters in the query or as "
                      "application/x-www-form-urlencoded");
            return ERR_UNSUPPORTED;
        }
        rc = form_parse(f, q->body, &e);
    }
    for (size_t i = 0; rc == 0 && rt->params && i < f->n; i++) {
        char word[80];
        snprintf(word, sizeof(word), " %.70s ", f->params[i].name);
        if (strchr(f->params[i].name, ' ') || !strstr(rt->params, word))
            rc = err_set(&e, ERR_CONFIG, "unknown parameter '%.64s'; %s takes:%s",
                         f->params[i].name, rt->path, rt->params);
    }
    if (rc < 0)
        reply_failed(r, rc, &e);
    return rc;
}

void api_handle(const struct http_options *o, const struct api_request *q, struct api_reply *r)
{
    if (refuse(o, q, r))
        return;
    if (q->body_too_big) {
        api_error(r, 413, "body too big: at most %d bytes", API_MAX_BODY);
        return;
    }
    unsigned other;
    const struct route *rt = find_route(o, q, &other);
    bool act = rt->access == ACCESS_ACT;
    struct form form = {0};
    struct call call = {o, q, &form, rt->arg};
    if (act && atomic_fetch_add(&acting, 1) >= MAX_ACTING)
        api_error(r, 503, "%d requests are being carried out already; try again", MAX_ACTING);
    else if (read_params(rt, q, &form, r) == 0)
        rt->handler(&call, r);
    if (act) {
        atomic_fetch_sub(&acting, 1);
        log_info("api", "%s %s from %s: %d", q->method, rt->path, q->peer, r->status);
    }
    form_free(&form);
}

void api_write_routes(FILE *f)
{
    static const char *const access_names[] = {[ACCESS_OPEN] = "open",
                                               [ACCESS_METRICS] = "token*",
                                               [ACCESS_READ] = "token",
                                               [ACCESS_ACT] = "token"};
    fputs("| method | path | parameters | access | |\n|---|---|---|---|---|\n", f);
    for (const struct route *rt = routes; rt < routes + ROUTES; rt++) {
        const char *sep = "| ";
        for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++) {
            if (rt->methods & methods[i].bit) {
                fprintf(f, "%s%s", sep, methods[i].name);
                sep = ", ";
            }
        }
        fprintf(f, " | `%s` |%s| %s | %s |\n", rt->path ? rt->path : "/prometheus",
                rt->params ? rt->params : " ", access_names[rt->access], rt->help);
    }
}

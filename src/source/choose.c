// SPDX-License-Identifier: Apache-2.0
#include "source/choose.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "redis/client.h"

enum {
    CANDIDATES = 16,
    MAX_LAG_S = 10, // acknowledgements come each second
    CANDIDATE_TIMEOUT_MS = 2000,
};

struct candidate {
    char host[256];
    uint16_t port;
};

static void move_to(struct endpoint *ep, const char *host, uint16_t port)
{
    free(ep->host);
    free(ep->path);
    ep->host = xstrdup(host);
    ep->path = NULL;
    ep->port = port;
}

static int ask(const struct endpoint *ep, int timeout_ms, struct buf *info, struct err *e)
{
    struct redis_client *c;
    struct redis_reply reply;
    int rc = redis_connect(&c, ep, timeout_ms, e);
    if (rc)
        return rc;
    rc = redis_call(c, &reply, e, "INFO replication");
    buf_clear(info);
    if (rc == 0)
        buf_append_slice(info, reply.root.text);
    else
        err_wrap(e, "which node to read from");
    redis_close(c);
    return rc;
}

static bool field_is(struct slice info, const char *key, const char *value)
{
    struct slice v;
    return redis_info_field(info, key, &v) && slice_eq(v, slice_cstr(value));
}

static bool is_replica(struct slice info)
{
    return field_is(info, "role", "slave") || field_is(info, "role", "replica");
}

static int64_t number(struct slice info, const char *key)
{
    struct slice v;
    int64_t n;
    return redis_info_field(info, key, &v) && slice_i64(v, &n) ? n : -1;
}

// Whether the node has what follows on what is held, so that it needs no full sync.
static bool continues(struct slice info, const struct choose_options *o)
{
    int64_t next = (int64_t)o->offset + 1, first = number(info, "repl_backlog_first_byte_offset");
    if (!o->replid[0] || first < 0 || first > next)
        return false;
    return field_is(info, "master_replid", o->replid) ||
           (field_is(info, "master_replid2", o->replid) &&
            next <= number(info, "second_repl_offset"));
}

// NULL when the node is a replica that fits; else why not.
static const char *unfit(struct slice info, const struct choose_options *o)
{
    int64_t offset = number(info, "master_repl_offset");
    bool same =
        field_is(info, "master_replid", o->replid) || field_is(info, "master_replid2", o->replid);
    if (!is_replica(info))
        return "is not a replica";
    if (!field_is(info, "master_link_status", "up") ||
        field_is(info, "master_sync_in_progress", "1"))
        return "has lost its master";
    if (offset < 0)
        return "does not tell its offset";
    return same && (uint64_t)offset < o->offset ? "is behind what was read already" : NULL;
}

// "ip=..,port=..,state=..": the value of one name.
static bool part(struct slice line, const char *name, struct slice *value)
{
    while (line.n) {
        const char *comma = memchr(line.p, ',', line.n);
        size_t n = comma ? (size_t)(comma - line.p) : line.n, len = strlen(name);
        if (n > len && line.p[len] == '=' && memcmp(line.p, name, len) == 0) {
            *value = slice_make(line.p + len + 1, n - len - 1);
            return true;
        }
        line = comma ? slice_make(comma + 1, line.n - n - 1) : (struct slice){0};
    }
    return false;
}

static bool read_address(struct slice host, struct slice port, struct candidate *c)
{
    int64_t n;
    if (host.n == 0 || host.n >= sizeof(c->host) || memchr(host.p, 0, host.n) ||
        !slice_i64(port, &n) || n <= 0 || n > UINT16_MAX)
        return false;
    memcpy(c->host, host.p, host.n);
    c->host[host.n] = 0;
    c->port = (uint16_t)n;
    return true;
}

static int by_address(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    int c = strcmp(x->host, y->host);
    return c ? c : (x->port > y->port) - (x->port < y->port);
}

// The replicas that their master calls online, by address.
static int list_replicas(struct slice info, struct candidate *out)
{
    int n = 0;
    for (int i = 0; i < 4 * CANDIDATES && n < CANDIDATES; i++) {
        char key[16];
        struct slice line, host, port, state, lag;
        int64_t seconds = 0;
        snprintf(key, sizeof(key), "slave%d", i);
        if (!redis_info_field(info, key, &line))
            break;
        if (!part(line, "ip", &host) || !part(line, "port", &port) ||
            !part(line, "state", &state) || !slice_eq(state, SLICE("online")))
            continue;
        if (part(line, "lag", &lag) && slice_i64(lag, &seconds) &&
            (seconds < 0 || seconds > MAX_LAG_S))
            continue;
        n += read_address(host, port, &out[n]);
    }
    qsort(out, (size_t)n, sizeof(*out), by_address);
    return n;
}

// ep is the master. Every tool that reads from it is in its list too (we are), so each is asked.
// must_continue: one that needs a full sync does not fit.
static bool take_replica(struct endpoint *ep, struct slice master_info,
                         const struct choose_options *o, bool must_continue, struct buf *why)
{
    struct candidate list[CANDIDATES];
    struct buf info = {0};
    int n = list_replicas(master_info, list);
    bool found = false;
    for (int i = 0; i < n && !found; i++) {
        struct endpoint one;
        struct err e = {0};
        endpoint_copy(&one, ep);
        move_to(&one, list[i].host, list[i].port);
        const char *reason =
            ask(&one, CANDIDATE_TIMEOUT_MS, &info, &e) ? e.msg : unfit(buf_slice(&info), o);
        if (!reason && must_continue && !continues(buf_slice(&info), o))
            reason = "does not have what follows on what was read already";
        found = !reason;
        if (found)
            move_to(ep, list[i].host, list[i].port);
        else
            buf_printf(why, "%s%s:%u %s", why->n ? "; " : "", list[i].host, list[i].port, reason);
        endpoint_free(&one);
    }
    buf_free(&info);
    return found;
}

static int choose(struct endpoint *ep, const struct choose_options *o, struct buf *info,
                  struct buf *why, struct err *e)
{
    int rc = ask(ep, o->timeout_ms, info, e);
    if (rc)
        return rc;
    if (is_replica(buf_slice(info))) {
        struct slice host, port;
        struct candidate master;
        if (o->from != CHOOSE_MASTER && !unfit(buf_slice(info), o))
            return 0;
        if (!redis_info_field(buf_slice(info), "master_host", &host) ||
            !redis_info_field(buf_slice(info), "master_port", &port) ||
            !read_address(host, port, &master))
            return err_set(e, ERR_PROTOCOL, "the source is a replica and does not name its master");
        move_to(ep, master.host, master.port);
        rc = o->from == CHOOSE_MASTER ? 0 : ask(ep, o->timeout_ms, info, e);
        if (rc)
            return rc;
    }
    // A master that comes back as a replica has a history that begins anew; its heir's goes on.
    bool master_continues = continues(buf_slice(info), o);
    if (o->from == CHOOSE_MASTER || take_replica(ep, buf_slice(info), o, master_continues, why) ||
        o->from == CHOOSE_PREFER_REPLICA)
        return 0;
    buf_clear(why);
    if (master_continues && take_replica(ep, buf_slice(info), o, false, why))
        return 0;
    char name[300];
    return err_set(
        e, ERR_TIMEOUT, "input.syncFrom is slave, but %s has no replica to read from (%s); waiting",
        endpoint_name(ep, name, sizeof(name)), why->n ? buf_cstr(why) : "none is online");
}

int choose_source(struct endpoint *ep, const struct choose_options *o, struct err *e)
{
    struct buf info = {0}, why = {0};
    int rc = o->from == CHOOSE_GIVEN ? 0 : choose(ep, o, &info, &why, e);
    buf_free(&info);
    buf_free(&why);
    return rc;
}

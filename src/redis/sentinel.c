// SPDX-License-Identifier: Apache-2.0
#include "redis/sentinel.h"

#include <poll.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"

enum {
    SLICE_MS = 100, // between two looks at *cancel
    PING_MS = 1000, // of silence, after which a sentinel is asked whether it is there
};

// ---- which master ----

static int bad_answer(const struct endpoint *sentinel, struct err *e)
{
    char name[300];
    return err_set(e, ERR_PROTOCOL, "sentinel %s gives no address that can be used",
                   endpoint_name(sentinel, name, sizeof(name)));
}

static bool read_address(struct endpoint *out, const struct redis_reply *r,
                         const struct endpoint *data)
{
    struct resp_node host, port;
    size_t pos = r->first_child;
    uint64_t number;
    if (r->root.type != RESP_ARRAY || r->root.num != 2 || !resp_next(r->p, r->n, &pos, &host) ||
        !resp_next(r->p, r->n, &pos, &port))
        return false;
    if (!endpoint_host_ok(host.text) || !slice_u64(port.text, &number) || number == 0 ||
        number > UINT16_MAX)
        return false;
    char *text = xstrndup(host.text.p, host.text.n);
    endpoint_move(out, data, text, (uint16_t)number);
    free(text);
    return true;
}

// What this sentinel takes for the master. *out is to be freed.
static int ask_address(struct endpoint *out, const struct sentinel_options *o,
                       const struct endpoint *sentinel, struct err *e)
{
    struct redis_client *c;
    struct redis_reply reply;
    int rc = redis_connect(&c, sentinel, o->timeout_ms, e);
    if (rc)
        return rc;
    rc = redis_call(c, &reply, e, "SENTINEL get-master-addr-by-name %s", o->master_name);
    if (rc == 0 && reply.root.type == RESP_NIL) {
        char name[300];
        rc = err_set(e, ERR_REPLY, "sentinel %s knows of no master '%s'",
                     endpoint_name(sentinel, name, sizeof(name)), o->master_name);
    } else if (rc == 0 && !read_address(out, &reply, o->data)) {
        rc = bad_answer(sentinel, e);
    }
    redis_close(c);
    return rc;
}

static int ask_role(struct redis_client *c, bool *master, struct err *e)
{
    struct redis_reply reply;
    struct resp_node role;
    struct slice text;
    *master = false;
    int rc = redis_call(c, &reply, e, "ROLE");
    if (rc == 0) {
        size_t pos = reply.first_child;
        *master = reply.root.type == RESP_ARRAY && resp_next(reply.p, reply.n, &pos, &role) &&
                  slice_eq(role.text, SLICE("master"));
        return 0;
    }
    // INFO is allowed to users that may not ask ROLE.
    if (rc == ERR_REPLY)
        rc = redis_call(c, &reply, e, "INFO replication");
    if (rc == 0)
        *master =
            redis_info_field(reply.root.text, "role", &text) && slice_eq(text, SLICE("master"));
    return rc;
}

// A sentinel that has not heard of a failover still sends clients to the old master.
static int confirm_master(const struct endpoint *ep, int timeout_ms, struct err *e)
{
    struct endpoint plain = *ep;
    struct redis_client *c;
    bool master;
    plain.db = 0; // no right to SELECT is needed to ask
    int rc = redis_connect(&c, &plain, timeout_ms, e);
    if (rc)
        return rc;
    rc = ask_role(c, &master, e);
    redis_close(c);
    if (rc == 0 && !master) {
        char name[300];
        rc = err_set(e, ERR_REPLY, "%s is said to be the master and is none",
                     endpoint_name(ep, name, sizeof(name)));
    }
    return rc;
}

static int ask_master(struct endpoint *out, const struct sentinel_options *o,
                      const struct endpoint *sentinel, struct err *e)
{
    int rc = ask_address(out, o, sentinel, e);
    if (rc)
        return rc;
    rc = confirm_master(out, o->timeout_ms, e);
    if (rc)
        endpoint_free(out);
    return rc;
}

static int none_given(const struct sentinel_options *o, struct err *e)
{
    return o->n ? 0 : err_set(e, ERR_CONFIG, "no sentinel is given");
}

int sentinel_master(struct endpoint *out, const struct sentinel_options *o, struct err *e)
{
    struct err all = {0};
    int rc = none_given(o, e);
    if (rc)
        return rc;
    for (size_t i = 0; i < o->n; i++) {
        struct err one = {0};
        if (ask_master(out, o, &o->sentinels[i], &one) == 0)
            return 0;
        err_join(&all, &one);
    }
    return err_set(e, all.code, "master '%s': %s", o->master_name, all.msg);
}

// ---- a switch ----

struct wait {
    const struct sentinel_options *o;
    const atomic_bool *cancel;
    uint64_t deadline;
    struct endpoint current; // host NULL: not known yet
};

static bool is_over(const struct wait *w)
{
    return atomic_load(w->cancel) || clock_mono_us() >= w->deadline;
}

// "<master name> <old ip> <old port> <new ip> <new port>"
static bool is_switch(const struct wait *w, const struct redis_reply *r)
{
    struct resp_node kind, channel, text;
    size_t pos = r->first_child;
    struct slice name = slice_cstr(w->o->master_name);
    if (r->root.num != 3 || !resp_next(r->p, r->n, &pos, &kind) ||
        !resp_next(r->p, r->n, &pos, &channel) || !resp_next(r->p, r->n, &pos, &text))
        return false;
    return slice_eq(kind.text, SLICE("message")) &&
           slice_eq(channel.text, SLICE("+switch-master")) && text.text.n > name.n &&
           slice_has_prefix(text.text, name) && text.text.p[name.n] == ' ';
}

// What happened before the subscription: 1 when this sentinel has another master already.
static int compare_current(struct wait *w, const struct endpoint *sentinel)
{
    struct endpoint now;
    if (ask_master(&now, w->o, sentinel, NULL))
        return 0;
    if (!w->current.host) {
        w->current = now;
        return 0;
    }
    bool same = w->current.port == now.port && strcmp(w->current.host, now.host) == 0;
    endpoint_free(&now);
    return same ? 0 : 1;
}

static int send_ping(struct redis_client *c, struct err *e)
{
    return redis_send(c, SLICE("*1\r\n$4\r\nPING\r\n"), e);
}

// 1: there was a switch; 0: the wait is over; or an error of this sentinel.
static int listen_on(const struct wait *w, struct redis_client *c, struct err *e)
{
    uint64_t heard = clock_mono_us();
    bool asked = false;
    while (!is_over(w)) {
        struct redis_reply r;
        int rc = redis_wait(c, SLICE_MS, e);
        if (rc == 1) {
            rc = redis_receive(c, &r, e);
            if (rc == 0 && is_switch(w, &r))
                return 1;
            heard = clock_mono_us();
            asked = false;
        }
        uint64_t silent_ms = (clock_mono_us() - heard) / 1000;
        if (rc == 0 && !asked && silent_ms >= PING_MS) {
            asked = true;
            rc = send_ping(c, e);
        } else if (rc == 0 && asked && silent_ms >= PING_MS + (uint64_t)w->o->timeout_ms) {
            rc = err_set(e, ERR_TIMEOUT, "a sentinel is silent");
        }
        if (rc)
            return rc;
    }
    return 0;
}

static int subscribe_and_listen(struct wait *w, const struct endpoint *sentinel, bool *subscribed,
                                struct err *e)
{
    struct redis_client *c;
    int rc = redis_connect(&c, sentinel, w->o->timeout_ms, e);
    if (rc)
        return rc;
    rc = redis_call(c, NULL, e, "SUBSCRIBE +switch-master");
    *subscribed |= rc == 0;
    if (rc == 0)
        rc = compare_current(w, sentinel);
    if (rc == 0)
        rc = listen_on(w, c, e);
    redis_close(c);
    return rc;
}

// Once around; 1, 0 when the wait is over, or an error when nobody could be listened to.
static int wait_round(struct wait *w, struct err *e)
{
    struct err all = {0};
    bool subscribed = false;
    size_t i = 0;
    for (; i < w->o->n && !is_over(w); i++) {
        struct err one = {0};
        int rc = subscribe_and_listen(w, &w->o->sentinels[i], &subscribed, &one);
        if (rc >= 0)
            return rc;
        err_join(&all, &one);
    }
    if (subscribed || i < w->o->n)
        return 0;
    return err_set(e, all.code, "sentinels of '%s': %s", w->o->master_name, all.msg);
}

int sentinel_wait_other(const struct sentinel_options *o, const struct endpoint *current,
                        int timeout_ms, const atomic_bool *cancel, struct err *e)
{
    int rc = none_given(o, e);
    if (rc)
        return rc;
    struct wait w = {.o = o,
                     .cancel = cancel,
                     .deadline =
                         clock_mono_us() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000};
    if (current)
        endpoint_copy(&w.current, current);
    while (rc == 0 && !is_over(&w)) {
        rc = wait_round(&w, e);
        // Sentinels that hang up at once must not be dialled without end.
        if (rc == 0 && !is_over(&w))
            poll(NULL, 0, SLICE_MS);
    }
    endpoint_free(&w.current);
    return rc;
}

int sentinel_wait_switch(const struct sentinel_options *o, int timeout_ms,
                         const atomic_bool *cancel, struct err *e)
{
    return sentinel_wait_other(o, NULL, timeout_ms, cancel, e);
}

// SPDX-License-Identifier: Apache-2.0
#include "redis/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"

enum {
    READ_CHUNK = 16 * 1024,
    MAX_REPLY = 512 * 1024 * 1024,
};

struct redis_client {
    struct conn *conn;
    int timeout_ms;
    char name[300];
    struct buf in, out;
    size_t used; // bytes of `in` that the last reply took
    bool broken; // a reply may still be under way: nothing can be asked any more
};

static int io_failed(struct redis_client *r, int code, const char *what, struct err *e)
{
    r->broken = true;
    if (code == ERR_TIMEOUT)
        return err_set(e, code, "%s %s: no answer within %d ms", what, r->name, r->timeout_ms);
    return err_set(e, code, "%s %s: %s", what, r->name, conn_error_text(r->conn, code));
}

static int left_ms(uint64_t deadline)
{
    uint64_t now = clock_mono_us();
    return now >= deadline ? 0 : (int)((deadline - now + 999) / 1000);
}

static int send_all(struct redis_client *r, struct slice bytes, uint64_t deadline, struct err *e)
{
    while (bytes.n) {
        // sendmsg and the TLS layer only read the bytes.
        struct iovec iov = {(void *)(uintptr_t)bytes.p, bytes.n};
        ssize_t n = conn_writev(r->conn, &iov, 1);
        if (n == -EAGAIN) {
            int rc = conn_wait(r->conn, CONN_WRITE, left_ms(deadline));
            if (rc)
                return io_failed(r, rc, "write to", e);
            continue;
        }
        if (n < 0)
            return io_failed(r, (int)n, "write to", e);
        bytes = slice_make(bytes.p + n, bytes.n - (size_t)n);
    }
    return 0;
}

static int receive_some(struct redis_client *r, uint64_t deadline, struct err *e)
{
    if (r->in.n > MAX_REPLY)
        return io_failed(r, ERR_TOO_BIG, "read from", e);
    char *p = buf_reserve(&r->in, READ_CHUNK);
    for (;;) {
        ssize_t n = conn_recv(r->conn, p, r->in.cap - r->in.n);
        if (n > 0) {
            r->in.n += (size_t)n;
            return 0;
        }
        int rc = (int)n;
        if (n == -EAGAIN)
            rc = conn_wait(r->conn, CONN_READ, left_ms(deadline));
        if (rc)
            return io_failed(r, rc, "read from", e);
    }
}

static int receive_reply(struct redis_client *r, struct redis_reply *out, uint64_t deadline,
                         struct err *e)
{
    buf_consume(&r->in, r->used);
    r->used = 0;
    struct resp_scan scan = {0};
    size_t len = 0;
    for (;;) {
        int rc = r->in.n ? resp_scan(&scan, r->in.p, r->in.n, &len) : 0;
        if (rc < 0) {
            r->broken = true;
            return err_set(e, rc, "%s does not speak the Redis protocol", r->name);
        }
        if (rc == 1)
            break;
        rc = receive_some(r, deadline, e);
        if (rc)
            return rc;
    }
    r->used = len;
    *out = (struct redis_reply){.p = r->in.p, .n = len};
    size_t pos = 0;
    if (!resp_next(out->p, out->n, &pos, &out->root)) {
        r->broken = true;
        return err_set(e, ERR_PROTOCOL, "%s sent an empty reply", r->name);
    }
    out->first_child = pos;
    return 0;
}

static const struct slice auth_errors[] = {
    {"NOAUTH", 6},
    {"WRONGPASS", 9},
    {"NOPERM", 6},
    {"ERR invalid password", 20},
    {"ERR Client sent AUTH, but no password is set", 44},
    {"ERR AUTH <password> called without any password", 47},
    {"DENIED", 6},
};

static int reply_error(struct redis_client *r, struct slice text, struct err *e)
{
    int code = ERR_REPLY;
    for (size_t i = 0; i < sizeof(auth_errors) / sizeof(auth_errors[0]); i++)
        if (slice_has_prefix(text, auth_errors[i]))
            code = ERR_AUTH;
    int shown = text.n > 300 ? 300 : (int)text.n;
    return err_set(e, code, "%s answered: %.*s", r->name, shown, text.p);
}

static int usable(const struct redis_client *r, struct err *e)
{
    return r->broken ? err_set(e, ERR_CLOSED, "connection to %s has failed before", r->name) : 0;
}

static uint64_t deadline_from_now(const struct redis_client *r)
{
    return clock_mono_us() + (uint64_t)r->timeout_ms * 1000;
}

// First error of a pipeline, in the order of the replies; every reply is read all the same.
static int call(struct redis_client *r, struct slice commands, int replies,
                struct redis_reply *last, struct err *e)
{
    uint64_t deadline = deadline_from_now(r);
    int rc = usable(r, e);
    if (rc == 0)
        rc = send_all(r, commands, deadline, e);
    int first = 0;
    for (int i = 0; rc == 0 && i < replies; i++) {
        rc = receive_reply(r, last, deadline, e);
        if (rc == 0 && last->root.type == RESP_ERROR && first == 0)
            first = reply_error(r, last->root.text, e);
    }
    return rc ? rc : first;
}

// Outside the login a refusal is an error reply like any other.
static int plain_error(int rc, struct err *e)
{
    if (rc != ERR_AUTH)
        return rc;
    if (e)
        e->code = ERR_REPLY;
    return ERR_REPLY;
}

int redis_call_raw(struct redis_client *r, struct slice commands, int replies,
                   struct redis_reply *last, struct err *e)
{
    struct redis_reply mine;
    return plain_error(call(r, commands, replies, last ? last : &mine, e), e);
}

int redis_send(struct redis_client *r, struct slice commands, struct err *e)
{
    int rc = usable(r, e);
    return rc ? rc : send_all(r, commands, deadline_from_now(r), e);
}

int redis_receive(struct redis_client *r, struct redis_reply *out, struct err *e)
{
    int rc = usable(r, e);
    return rc ? rc : receive_reply(r, out, deadline_from_now(r), e);
}

int redis_wait(struct redis_client *r, int timeout_ms, struct err *e)
{
    int rc = usable(r, e);
    if (rc)
        return rc;
    if (r->in.n > r->used)
        return 1;
    rc = conn_wait(r->conn, CONN_READ, timeout_ms);
    if (rc == ERR_TIMEOUT)
        return 0;
    return rc ? io_failed(r, rc, "read from", e) : 1;
}

int redis_call(struct redis_client *r, struct redis_reply *out, struct err *e, const char *fmt, ...)
{
    struct redis_reply mine;
    buf_clear(&r->out);
    va_list ap;
    va_start(ap, fmt);
    resp_put_vcmd(&r->out, fmt, ap);
    va_end(ap);
    return plain_error(call(r, buf_slice(&r->out), 1, out ? out : &mine, e), e);
}

// AUTH and SELECT in one round trip; ERR_AUTH when the server refuses either.
static int log_in(struct redis_client *r, const struct endpoint *ep, struct err *e)
{
    int replies = 0;
    buf_clear(&r->out);
    if (ep->password && ep->user)
        resp_put_cmd(&r->out, "AUTH %s %s", ep->user, ep->password);
    else if (ep->password)
        resp_put_cmd(&r->out, "AUTH %s", ep->password);
    replies += ep->password != NULL;
    if (ep->db)
        resp_put_cmd(&r->out, "SELECT %d", ep->db);
    replies += ep->db != 0;
    struct redis_reply last;
    int rc = call(r, buf_slice(&r->out), replies, &last, e);
    if (r->out.n)
        explicit_bzero(r->out.p, r->out.n);
    buf_clear(&r->out);
    return rc;
}

int redis_connect(struct redis_client **out, const struct endpoint *ep, int timeout_ms,
                  struct err *e)
{
    struct conn *conn;
    int rc = conn_dial(&conn, ep, timeout_ms, e);
    if (rc)
        return rc;
    struct redis_client *r = xcalloc(1, sizeof(*r));
    r->conn = conn;
    r->timeout_ms = timeout_ms;
    endpoint_name(ep, r->name, sizeof(r->name));
    rc = log_in(r, ep, e);
    if (rc) {
        redis_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

void redis_close(struct redis_client *r)
{
    if (!r)
        return;
    conn_close(r->conn);
    buf_free(&r->in);
    buf_free(&r->out);
    free(r);
}

struct conn *redis_take_conn(struct redis_client *r)
{
    struct conn *c = r->conn;
    r->conn = NULL;
    redis_close(r);
    return c;
}

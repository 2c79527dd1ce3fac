// SPDX-License-Identifier: Apache-2.0
#include "target/wire.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"

enum {
    IOVECS = 64,
    RECV_SIZE = 64 * 1024,
    READS_A_TURN = 8,
    // A target answers a pipeline in small pieces, and a wake-up for each costs more than reading
    // it. While so many bytes are unanswered, its answers are taken once in REST_MS; no target does
    // them in less.
    REST_BYTES = 512 << 10,
    REST_MS = 1,
};

void wire_init(struct wire *w, uv_loop_t *loop, const struct wire_events *events, void *ctx,
               const char *fault)
{
    w->events = events;
    w->ctx = ctx;
    w->loop = loop;
    w->fault = fault;
    w->broken = true;
    w->rest = xmalloc(sizeof(*w->rest));
    must(uv_timer_init(loop, w->rest) == 0);
    w->rest->data = w;
}

static void end_rest(struct wire *w)
{
    w->resting = false;
    uv_timer_stop(w->rest);
}

void wire_detach(struct wire *w)
{
    if (w->conn)
        conn_close(w->conn);
    w->conn = NULL;
    end_rest(w);
    outq_free(&w->out);
    w->broken = true; // ends a loop over bytes already received from the old connection
}

static void rest_closed(uv_handle_t *h)
{
    free(h);
}

void wire_close(struct wire *w)
{
    wire_detach(w);
    uv_close((uv_handle_t *)w->rest, rest_closed);
}

bool wire_attached(const struct wire *w)
{
    return w->conn && !w->broken;
}

void wire_stop(struct wire *w)
{
    if (w->broken)
        return;
    w->broken = true;
    end_rest(w);
    conn_want(w->conn, 0);
}

static void fail(struct wire *w, const struct err *why)
{
    if (w->broken)
        return;
    wire_stop(w);
    w->events->failed(w->ctx, why);
}

static void update_want(struct wire *w)
{
    // Answers are taken also while the socket is full: a proxy may not take more before they are.
    conn_want(w->conn, (w->resting ? 0 : CONN_READ) | (w->blocked && !w->hung_up ? CONN_WRITE : 0));
}

void wire_send(struct wire *w)
{
    while (w->out.bytes && !w->broken && !w->blocked && !w->hung_up) {
        struct iovec iov[IOVECS];
        int n = outq_iov(&w->out, iov, IOVECS);
        ssize_t r = conn_writev(w->conn, iov, n);
        if (r == -EAGAIN) {
            w->blocked = true;
            break;
        }
        if (r == -EPIPE || r == -ECONNRESET) {
            // Why it did so is in what it has answered; behind that the read fails.
            w->hung_up = true;
            end_rest(w);
            break;
        }
        if (r < 0) {
            struct err e;
            err_sys(&e, (int)r, "write to the target");
            fail(w, &e);
            return;
        }
        w->sent_bytes += (uint64_t)r;
        outq_sent(&w->out, (size_t)r);
        fault_point(w->fault);
    }
    if (!w->broken)
        update_want(w);
}

static void on_ready(void *ctx, int events);

static void rested(uv_timer_t *t)
{
    struct wire *w = t->data;
    w->resting = false;
    update_want(w);
    on_ready(w, CONN_READ);
}

static void rest(struct wire *w, uint64_t ms)
{
    w->resting = true;
    uv_timer_start(w->rest, rested, ms, 0);
    update_want(w);
}

static void rest_if_busy(struct wire *w)
{
    uint64_t from;
    if (w->resting)
        return;
    // Of what TLS has read already the socket tells nothing any more.
    if (conn_has_buffered(w->conn))
        rest(w, 0);
    else if (!w->hung_up && w->events->may_rest(w->ctx, &from) && w->out.total - from >= REST_BYTES)
        rest(w, REST_MS);
}

static void on_ready(void *ctx, int events)
{
    struct wire *w = ctx;
    if (events & CONN_WRITE) {
        w->blocked = false;
        wire_send(w);
    }
    bool got = false;
    for (int i = 0; i < READS_A_TURN && (events & CONN_READ) && !w->broken; i++) {
        char tmp[RECV_SIZE];
        struct err e;
        ssize_t r = conn_recv(w->conn, tmp, sizeof(tmp));
        if (r == -EAGAIN)
            break;
        if (r < 0) {
            err_sys(&e, (int)r, "read from the target");
            fail(w, &e);
            return;
        }
        got = true;
        w->heard_us = clock_mono_us();
        int rc = w->events->take(w->ctx, tmp, (size_t)r);
        if (rc && !w->broken) {
            err_set(&e, rc, "the target sent a reply that fits no request");
            fail(w, &e);
            return;
        }
        if ((size_t)r < sizeof(tmp) && !(w->conn && conn_has_buffered(w->conn)))
            break;
    }
    if (!w->broken && (got || (events & CONN_WRITE)))
        w->events->turned(w->ctx);
    if (!w->broken)
        rest_if_busy(w);
}

void wire_attach(struct wire *w, struct conn *c)
{
    must(!w->conn);
    w->broken = w->blocked = w->hung_up = false;
    w->conn = c;
    w->heard_us = clock_mono_us();
    conn_watch(c, w->loop, on_ready, w);
    conn_want(c, CONN_READ);
}

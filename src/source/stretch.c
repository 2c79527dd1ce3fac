// SPDX-License-Identifier: Apache-2.0
#include "source/stretch.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "net/conn.h"

enum {
    DIAL_MS = 5000,
    LOOK_MS = 100, // whether it is cancelled
    SILENCE_MS = 20000,
    CHUNK = 256 << 10,
};

struct session {
    struct stretch *s;
    struct conn *conn;
    struct psync psync;
    struct buf in;
    uint64_t left; // of the stretch
};

static int wait_for(struct session *x, int want, struct err *e)
{
    for (int waited = 0; waited < SILENCE_MS; waited += LOOK_MS) {
        if (atomic_load(&x->s->cancel))
            return err_set(e, ERR_CLOSED, "given up");
        int rc = conn_has_buffered(x->conn) ? 0 : conn_wait(x->conn, want, LOOK_MS);
        if (rc != ERR_TIMEOUT)
            return rc ? err_sys(e, rc, "wait for the source") : 0;
    }
    return err_set(e, ERR_TIMEOUT, "the source is silent");
}

static int send_out(struct session *x, struct err *e)
{
    struct buf *out = &x->psync.out;
    while (out->n) {
        struct iovec iov = {out->p, out->n};
        ssize_t n = conn_writev(x->conn, &iov, 1);
        int rc = 0;
        if (n == -EAGAIN)
            rc = wait_for(x, CONN_WRITE, e);
        else if (n < 0)
            rc = err_set(e, (int)n, "write to the source: %s", conn_error_text(x->conn, (int)n));
        else
            buf_consume(out, (size_t)n);
        if (rc)
            return rc;
    }
    return 0;
}

static int receive(struct session *x, struct err *e)
{
    for (;;) {
        ssize_t n = conn_recv(x->conn, buf_reserve(&x->in, CHUNK), CHUNK);
        if (n > 0) {
            x->in.n += (size_t)n;
            return 0;
        }
        int rc = n == -EAGAIN ? wait_for(x, CONN_READ, e)
                              : err_set(e, n ? (int)n : ERR_CLOSED, "read from the source: %s",
                                        conn_error_text(x->conn, (int)n));
        if (rc)
            return rc;
    }
}

// Until the stream begins.
static int handshake(struct session *x, struct err *e)
{
    for (;;) {
        size_t used;
        enum psync_event event = psync_step(&x->psync, x->in.n ? x->in.p : "", x->in.n, &used);
        buf_consume(&x->in, used);
        int rc = 0;
        switch (event) {
        case PSYNC_NEED_MORE:
            rc = send_out(x, e);
            if (rc == 0)
                rc = receive(x, e);
            break;
        case PSYNC_CHOOSE: {
            // Asked for what it does not have, a source begins a full sync.
            int64_t first = x->psync.server.backlog_first;
            if (first > x->s->from.offset + 1)
                return err_set(e, -ERANGE, "the source's backlog does not hold it");
            psync_request(&x->psync, &x->s->from);
            break;
        }
        case PSYNC_CONTINUED:
            return 0;
        case PSYNC_WILL_SEND:
        case PSYNC_SNAPSHOT:
            return err_set(e, -ERANGE, "the source's backlog does not hold it");
        case PSYNC_ERROR:
            *e = x->psync.error;
            return e->code;
        }
        if (rc)
            return rc;
    }
}

static int take_stream(struct session *x, struct err *e)
{
    int rc = 0;
    while (rc == 0 && x->left) {
        size_t n = x->in.n < x->left ? x->in.n : (size_t)x->left;
        if (n)
            rc = x->s->take(x->s->ctx, x->in.p, n, e);
        x->left -= n;
        buf_clear(&x->in);
        if (rc == 0 && x->left)
            rc = receive(x, e);
    }
    return rc;
}

int stretch_read(struct stretch *s, struct err *e)
{
    struct session x = {.s = s, .left = s->to - (uint64_t)s->from.offset};
    int rc = conn_dial(&x.conn, &s->endpoint, DIAL_MS, e);
    if (rc)
        return rc;
    s->options.user = s->endpoint.user;
    s->options.password = s->endpoint.password;
    psync_begin(&x.psync, &s->options);
    rc = handshake(&x, e);
    if (rc == 0)
        rc = take_stream(&x, e);
    psync_free(&x.psync);
    buf_free(&x.in);
    conn_close(x.conn);
    return rc;
}

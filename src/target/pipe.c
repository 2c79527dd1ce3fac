// SPDX-License-Identifier: Apache-2.0
#include "target/pipe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "codec/resp.h"

enum {
    IOVECS = 256,
    RECV_SIZE = 64 * 1024,
    EAGER_SEND = 64 * 1024, // unsent bytes that are worth a system call
    READS_A_TURN = 8,
    FIRST_CAP = 1024, // power of two
    // While so many bytes are unanswered, replies are taken once in REST_MS: each wake-up costs
    // the target a system call too.
    REST_BYTES = 512 * 1024,
    REST_MS = 1,
};

enum phase { PHASE_ASKING, PHASE_MULTI, PHASE_BODY, PHASE_EXEC, PHASE_RESULTS };

struct pipe {
    const struct pipe_events *events;
    void *ctx;
    uv_loop_t *loop;
    struct conn *conn;
    struct outq out;
    struct replies in;
    int db;
    // reqs[first .. end), both only grow; the last one may be open
    struct pipe_req *reqs;
    uint64_t req_cap, req_first, req_end;
    bool open;
    // one entry a command of an unanswered request
    uint64_t *refs;
    uint64_t ref_cap, ref_first, ref_end;
    bool blocked; // the socket takes no more until it says so
    bool hung_up; // nor ever again
    bool broken;
    bool resting; // replies wait for `rest`
    uv_timer_t *rest;
    uint32_t txns; // under way
    uint64_t heard_us, alive_us, sent_bytes, answered;
};

struct pipe *pipe_new(uv_loop_t *loop, const struct pipe_events *events, void *ctx)
{
    struct pipe *p = xcalloc(1, sizeof(*p));
    p->loop = loop;
    p->events = events;
    p->ctx = ctx;
    p->req_cap = p->ref_cap = FIRST_CAP;
    p->reqs = xmalloc(p->req_cap * sizeof(*p->reqs));
    p->refs = xmalloc(p->ref_cap * sizeof(*p->refs));
    p->broken = true;
    p->rest = xmalloc(sizeof(*p->rest));
    must(uv_timer_init(loop, p->rest) == 0);
    p->rest->data = p;
    return p;
}

static void rest_closed(uv_handle_t *h)
{
    free(h);
}

void pipe_free(struct pipe *p)
{
    if (!p)
        return;
    if (p->conn)
        conn_close(p->conn);
    uv_close((uv_handle_t *)p->rest, rest_closed);
    outq_free(&p->out);
    replies_free(&p->in);
    free(p->reqs);
    free(p->refs);
    free(p);
}

void pipe_stop(struct pipe *p)
{
    if (p->broken)
        return;
    p->broken = true;
    p->resting = false;
    uv_timer_stop(p->rest);
    conn_want(p->conn, 0);
}

static void fail(struct pipe *p, const struct err *why)
{
    if (p->broken)
        return;
    pipe_stop(p);
    p->events->failed(p->ctx, p, why);
}

static void update_want(struct pipe *p)
{
    conn_want(p->conn, (p->resting ? 0 : CONN_READ) | (p->blocked && !p->hung_up ? CONN_WRITE : 0));
}

static void send_out(struct pipe *p)
{
    while (p->out.bytes && !p->broken && !p->blocked && !p->hung_up) {
        struct iovec iov[IOVECS];
        int n = outq_iov(&p->out, iov, IOVECS);
        ssize_t r = conn_writev(p->conn, iov, n);
        if (r == -EAGAIN) {
            p->blocked = true;
            break;
        }
        if (r == -EPIPE || r == -ECONNRESET) {
            // Why it did so is in what it has answered; behind that the read fails.
            p->hung_up = true;
            p->resting = false;
            uv_timer_stop(p->rest);
            break;
        }
        if (r < 0) {
            struct err e;
            err_sys(&e, (int)r, "write to the target");
            fail(p, &e);
            return;
        }
        p->sent_bytes += (uint64_t)r;
        outq_sent(&p->out, (size_t)r);
    }
    if (!p->broken)
        update_want(p);
}

// ---- requests ----

static struct pipe_req *req_at(const struct pipe *p, uint64_t i)
{
    return &p->reqs[i & (p->req_cap - 1)];
}

static struct pipe_req *last_req(const struct pipe *p)
{
    return req_at(p, p->req_end - 1);
}

static void grow_reqs(struct pipe *p)
{
    struct pipe_req *bigger = xmalloc(2 * p->req_cap * sizeof(*bigger));
    for (uint64_t i = p->req_first; i < p->req_end; i++)
        bigger[i & (2 * p->req_cap - 1)] = *req_at(p, i);
    free(p->reqs);
    p->reqs = bigger;
    p->req_cap *= 2;
}

static void grow_refs(struct pipe *p)
{
    uint64_t *bigger = xmalloc(2 * p->ref_cap * sizeof(*bigger));
    for (uint64_t i = p->ref_first; i < p->ref_end; i++)
        bigger[i & (2 * p->ref_cap - 1)] = p->refs[i & (p->ref_cap - 1)];
    free(p->refs);
    p->refs = bigger;
    p->ref_cap *= 2;
}

void pipe_begin(struct pipe *p, enum pipe_kind kind, bool asking)
{
    must(!p->open);
    if (p->req_end - p->req_first == p->req_cap)
        grow_reqs(p);
    if (p->req_end == p->req_first)
        p->heard_us = clock_mono_us();
    p->open = true;
    *req_at(p, p->req_end++) = (struct pipe_req){.slot = -1,
                                                 .unit = UINT64_MAX,
                                                 .kind = kind,
                                                 .asking = asking,
                                                 .phase = asking             ? PHASE_ASKING
                                                          : kind == PIPE_TXN ? PHASE_MULTI
                                                                             : PHASE_BODY,
                                                 .first_ref = p->ref_end,
                                                 .from = p->out.total,
                                                 .begun_us = uv_now(p->loop) * 1000};
    p->txns += kind == PIPE_TXN;
    // The node forgets ASKING after one command, but not within MULTI.
    if (asking)
        outq_put(&p->out, "*1\r\n$6\r\nASKING\r\n", 16);
    if (kind == PIPE_TXN)
        outq_put(&p->out, "*1\r\n$5\r\nMULTI\r\n", 15);
}

struct outq *pipe_out(struct pipe *p)
{
    return &p->out;
}

void pipe_cmd(struct pipe *p, uint64_t ref)
{
    must(p->open);
    if (p->ref_end - p->ref_first == p->ref_cap)
        grow_refs(p);
    p->refs[p->ref_end++ & (p->ref_cap - 1)] = ref;
    last_req(p)->cmds++;
}

struct pipe_req *pipe_open_req(struct pipe *p)
{
    must(p->open);
    return last_req(p);
}

// Never within MULTI: if that is refused, nobody knows which db the next command meets.
void pipe_select(struct pipe *p, int db)
{
    if (db == p->db)
        return;
    struct buf b = {0};
    resp_put_cmd(&b, "SELECT %d", db);
    pipe_begin(p, PIPE_BARE, false);
    outq_put(&p->out, b.p, b.n);
    pipe_cmd(p, PIPE_OWN_REF);
    pipe_end(p);
    buf_free(&b);
    p->db = db;
}

int pipe_db(const struct pipe *p)
{
    return p->db;
}

uint32_t pipe_cmds(const struct pipe *p)
{
    return p->open ? last_req(p)->cmds : 0;
}

void pipe_end(struct pipe *p)
{
    must(p->open);
    p->open = false;
    if (last_req(p)->kind == PIPE_TXN)
        outq_put(&p->out, "*1\r\n$4\r\nEXEC\r\n", 14);
    if (p->out.bytes >= EAGER_SEND && !p->blocked)
        send_out(p);
}

void pipe_flush(struct pipe *p)
{
    if (p->out.bytes && !p->broken && !p->open)
        send_out(p);
}

bool pipe_is_txn(const struct pipe_req *q)
{
    return q->kind == PIPE_TXN;
}

bool pipe_idle(const struct pipe *p)
{
    return p->req_first == p->req_end && p->out.bytes == 0;
}

size_t pipe_unsent(const struct pipe *p)
{
    return p->out.bytes;
}

uint32_t pipe_unanswered(const struct pipe *p)
{
    return (uint32_t)(p->req_end - p->req_first);
}

uint64_t pipe_heard_us(const struct pipe *p)
{
    return p->heard_us;
}

uint64_t pipe_alive_us(const struct pipe *p)
{
    return p->alive_us;
}

uint64_t pipe_sent_bytes(const struct pipe *p)
{
    return p->sent_bytes;
}

uint64_t pipe_answered(const struct pipe *p)
{
    return p->answered;
}

// ---- replies ----

static uint64_t ref_of(const struct pipe *p, const struct pipe_req *q, uint32_t i)
{
    return p->refs[(q->first_ref + i) & (p->ref_cap - 1)];
}

static void finish(struct pipe *p, struct pipe_req *q)
{
    struct pipe_req done = *q;
    p->ref_first = q->first_ref + q->cmds;
    p->req_first++;
    p->txns -= done.kind == PIPE_TXN;
    p->alive_us = done.begun_us;
    p->events->done(p->ctx, p, &done);
}

static bool is_empty(const struct reply *r)
{
    return r->kind == REPLY_NIL || (r->kind == REPLY_INTEGER && r->num == 0) || r->empty;
}

// A reply to a command of the body, or its result.
static void take_one(struct pipe *p, struct pipe_req *q, const struct reply *r)
{
    uint64_t ref = ref_of(p, q, q->answered);
    if (r->kind == REPLY_ERROR)
        p->events->error(p->ctx, p, q, ref, r->text, q->phase == PHASE_RESULTS);
    else if (is_empty(r) && ref != UINT64_MAX)
        p->events->empty(p->ctx, q, ref);
    if (r->kind != REPLY_ERROR && !(q->kind == PIPE_TXN && q->phase == PHASE_BODY))
        p->answered += r->count;
    q->answered += r->count;
}

static int take_reply(struct pipe *p, struct pipe_req *q, const struct reply *r)
{
    switch ((enum phase)q->phase) {
    case PHASE_ASKING:
        if (r->kind == REPLY_ERROR)
            p->events->error(p->ctx, p, q, UINT64_MAX, r->text, false);
        q->phase = q->kind == PIPE_TXN ? PHASE_MULTI : PHASE_BODY;
        break;
    case PHASE_MULTI:
        // Without it the body has been carried out bare: nothing here can be relied on.
        if (r->kind != REPLY_OK || r->count != 1)
            return ERR_PROTOCOL;
        q->phase = PHASE_BODY;
        break;
    case PHASE_BODY:
        if (q->kind == PIPE_TXN && r->kind != REPLY_ERROR && r->kind != REPLY_QUEUED)
            return ERR_PROTOCOL;
        if (q->kind == PIPE_TXN && r->kind == REPLY_QUEUED)
            q->answered += r->count;
        else
            take_one(p, q, r);
        if (p->broken || q->answered < q->cmds)
            break;
        if (q->kind == PIPE_TXN) {
            q->phase = PHASE_EXEC;
            q->answered = 0;
        } else {
            finish(p, q);
        }
        break;
    case PHASE_EXEC:
        if (r->kind == REPLY_ERROR || r->kind == REPLY_NIL) {
            p->events->error(p->ctx, p, q, UINT64_MAX,
                             r->kind == REPLY_ERROR ? r->text : SLICE("EXEC was discarded"), false);
            if (!p->broken)
                finish(p, q);
            break;
        }
        if (r->kind != REPLY_ARRAY || r->num != (int64_t)q->cmds)
            return ERR_PROTOCOL;
        q->phase = PHASE_RESULTS;
        break;
    case PHASE_RESULTS:
        take_one(p, q, r);
        if (!p->broken && q->answered == q->cmds)
            finish(p, q);
        break;
    }
    return 0;
}

// Replies in a row that may be taken as one.
static uint32_t expected_run(const struct pipe_req *q)
{
    return q->phase == PHASE_BODY || q->phase == PHASE_RESULTS ? q->cmds - q->answered : 1;
}

static int take_bytes(struct pipe *p, const char *at, size_t n)
{
    while (n && !p->broken) {
        if (p->req_first == p->req_end)
            return ERR_PROTOCOL;
        struct pipe_req *q = req_at(p, p->req_first);
        uint32_t run = expected_run(q);
        if (run == 0)
            return ERR_PROTOCOL;
        struct reply r;
        size_t used;
        int rc = replies_next(&p->in, at, n, &used, q->phase == PHASE_EXEC, run, &r);
        if (rc)
            return rc;
        at += used;
        n -= used;
        if (r.kind != REPLY_NONE && (rc = take_reply(p, q, &r)))
            return rc;
    }
    return 0;
}

static void on_ready(void *ctx, int events);

static void rested(uv_timer_t *t)
{
    struct pipe *p = t->data;
    p->resting = false;
    update_want(p);
    on_ready(p, CONN_READ);
}

// The reply to an EXEC is waited for: it lets its slot go on.
static void rest_if_busy(struct pipe *p)
{
    if (p->resting || p->hung_up || p->txns || p->req_first == p->req_end ||
        p->out.total - req_at(p, p->req_first)->from < REST_BYTES)
        return;
    p->resting = true;
    uv_timer_start(p->rest, rested, REST_MS, 0);
    update_want(p);
}

static void on_ready(void *ctx, int events)
{
    struct pipe *p = ctx;
    if (events & CONN_WRITE) {
        p->blocked = false;
        send_out(p);
    }
    bool got = false;
    for (int i = 0; i < READS_A_TURN && (events & CONN_READ) && !p->broken; i++) {
        char tmp[RECV_SIZE];
        struct err e;
        ssize_t r = conn_recv(p->conn, tmp, sizeof(tmp));
        if (r == -EAGAIN)
            break;
        if (r < 0) {
            err_sys(&e, (int)r, "read from the target");
            fail(p, &e);
            return;
        }
        got = true;
        p->heard_us = clock_mono_us();
        int rc = take_bytes(p, tmp, (size_t)r);
        if (rc && !p->broken) {
            err_set(&e, rc, "the target sent a reply that fits no request");
            fail(p, &e);
            return;
        }
        if ((size_t)r < sizeof(tmp) && !(p->conn && conn_has_buffered(p->conn)))
            break;
    }
    if (!p->broken && (got || (events & CONN_WRITE)))
        p->events->room(p->ctx, p);
    if (!p->broken)
        rest_if_busy(p);
}

void pipe_attach(struct pipe *p, struct conn *c)
{
    must(!p->conn);
    p->conn = c;
    p->broken = false;
    p->heard_us = clock_mono_us();
    conn_watch(c, p->loop, on_ready, p);
    conn_want(c, CONN_READ);
}

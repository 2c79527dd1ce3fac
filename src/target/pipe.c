// SPDX-License-Identifier: Apache-2.0
#include "target/pipe.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "codec/resp.h"
#include "target/wire.h"

enum {
    EAGER_SEND = 64 * 1024, // unsent bytes that are worth a system call
    FIRST_CAP = 1024,       // power of two
};

enum phase { PHASE_ASKING, PHASE_MULTI, PHASE_BODY, PHASE_EXEC, PHASE_RESULTS };

struct pipe {
    const struct pipe_events *events;
    void *ctx;
    uv_loop_t *loop;
    struct wire wire;
    struct replies in;
    int db;
    // reqs[first .. end), both only grow; the last one may be open
    struct pipe_req *reqs;
    uint64_t req_cap, req_first, req_end;
    bool open;
    // one entry a command of an unanswered request
    uint64_t *refs;
    uint64_t ref_cap, ref_first, ref_end;
    uint32_t txns; // under way
    uint64_t alive_us, answered;
};

static const struct wire_events wire_events;

struct pipe *pipe_new(uv_loop_t *loop, const struct pipe_events *events, void *ctx)
{
    struct pipe *p = xcalloc(1, sizeof(*p));
    p->loop = loop;
    p->events = events;
    p->ctx = ctx;
    p->req_cap = p->ref_cap = FIRST_CAP;
    p->reqs = xmalloc(p->req_cap * sizeof(*p->reqs));
    p->refs = xmalloc(p->ref_cap * sizeof(*p->refs));
    wire_init(&p->wire, loop, &wire_events, p, "pipe.sent");
    return p;
}

void pipe_free(struct pipe *p)
{
    if (!p)
        return;
    wire_close(&p->wire);
    replies_free(&p->in);
    free(p->reqs);
    free(p->refs);
    free(p);
}

void pipe_attach(struct pipe *p, struct conn *c)
{
    wire_attach(&p->wire, c);
}

void pipe_stop(struct pipe *p)
{
    wire_stop(&p->wire);
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
        p->wire.heard_us = clock_mono_us();
    p->open = true;
    *req_at(p, p->req_end++) = (struct pipe_req){.slot = -1,
                                                 .unit = UINT64_MAX,
                                                 .kind = (uint8_t)kind,
                                                 .asking = asking,
                                                 .phase = asking             ? PHASE_ASKING
                                                          : kind == PIPE_TXN ? PHASE_MULTI
                                                                             : PHASE_BODY,
                                                 .from = p->wire.out.total,
                                                 .begun_us = uv_now(p->loop) * 1000};
    p->txns += kind == PIPE_TXN;
    // The node forgets ASKING after one command, but not within MULTI.
    if (asking)
        outq_put(&p->wire.out, "*1\r\n$6\r\nASKING\r\n", 16);
    if (kind == PIPE_TXN)
        outq_put(&p->wire.out, "*1\r\n$5\r\nMULTI\r\n", 15);
}

struct outq *pipe_out(struct pipe *p)
{
    return &p->wire.out;
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
    outq_put(&p->wire.out, b.p, b.n);
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
        outq_put(&p->wire.out, "*1\r\n$4\r\nEXEC\r\n", 14);
    if (p->wire.out.bytes >= EAGER_SEND && !p->wire.blocked)
        wire_send(&p->wire);
}

void pipe_flush(struct pipe *p)
{
    if (p->wire.out.bytes && !p->wire.broken && !p->open)
        wire_send(&p->wire);
}

bool pipe_is_txn(const struct pipe_req *q)
{
    return q->kind == PIPE_TXN;
}

const struct pipe_req *pipe_ahead(const struct pipe *p, uint64_t n)
{
    return p->req_first + n < p->req_end ? req_at(p, p->req_first + n) : NULL;
}

bool pipe_idle(const struct pipe *p)
{
    return p->req_first == p->req_end && p->wire.out.bytes == 0;
}

size_t pipe_unsent(const struct pipe *p)
{
    return p->wire.out.bytes;
}

uint32_t pipe_unanswered(const struct pipe *p)
{
    return (uint32_t)(p->req_end - p->req_first);
}

uint64_t pipe_heard_us(const struct pipe *p)
{
    return p->wire.heard_us;
}

uint64_t pipe_alive_us(const struct pipe *p)
{
    return p->alive_us;
}

uint64_t pipe_sent_bytes(const struct pipe *p)
{
    return p->wire.sent_bytes;
}

uint64_t pipe_answered(const struct pipe *p)
{
    return p->answered;
}

// ---- replies ----

// Of the oldest request.
static uint64_t ref_of(const struct pipe *p, uint32_t i)
{
    return p->refs[(p->ref_first + i) & (p->ref_cap - 1)];
}

static void finish(struct pipe *p, struct pipe_req *q)
{
    struct pipe_req done = *q;
    p->ref_first += q->cmds;
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
    uint64_t ref = ref_of(p, q->answered);
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
        if (p->wire.broken || q->answered < q->cmds)
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
            if (!p->wire.broken)
                finish(p, q);
            break;
        }
        if (r->kind != REPLY_ARRAY || r->num != (int64_t)q->cmds)
            return ERR_PROTOCOL;
        q->phase = PHASE_RESULTS;
        break;
    case PHASE_RESULTS:
        take_one(p, q, r);
        if (!p->wire.broken && q->answered == q->cmds)
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
    while (n && !p->wire.broken) {
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

static int on_bytes(void *ctx, const char *at, size_t n)
{
    return take_bytes(ctx, at, n);
}

static void on_failed(void *ctx, const struct err *why)
{
    struct pipe *p = ctx;
    p->events->failed(p->ctx, p, why);
}

static void on_turned(void *ctx)
{
    struct pipe *p = ctx;
    p->events->room(p->ctx, p);
}

// The reply to an EXEC is waited for: it lets its slot go on.
static bool may_rest(void *ctx, uint64_t *from)
{
    struct pipe *p = ctx;
    if (p->txns || p->req_first == p->req_end)
        return false;
    *from = req_at(p, p->req_first)->from;
    return true;
}

static const struct wire_events wire_events = {
    .take = on_bytes,
    .failed = on_failed,
    .turned = on_turned,
    .may_rest = may_rest,
};

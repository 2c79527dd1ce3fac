// SPDX-License-Identifier: Apache-2.0
#include "target/batcher.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "codec/resp.h"
#include "target/replies.h"
#include "target/wire.h"

enum {
    BATCHES = 128,         // power of two
    QUEUE_LIMIT = 4 << 20, // unsent bytes before units have to wait
    EAGER_SEND = 256 << 10,
    // Commands after which a batch ends if it may. Fewer cost round trips, more fall out of the
    // target's cache before its EXEC comes. While EXEC has to wait, a batch grows beyond.
    GOOD_SIZE = 1000,
    REFS_LIMIT = 1 << 16, // unanswered commands before units have to wait
};

// What reply of the oldest batch comes next.
enum phase { PHASE_WATCH, PHASE_RECORD, PHASE_MULTI, PHASE_BODY, PHASE_EXEC, PHASE_RESULTS };

struct batch {
    bool wrapped, alone, closed, stores;
    bool unproved;    // the record is not known to be ours
    bool needs_multi; // a unit of it does; others are wrapped for the EXEC before them only
    enum phase phase;
    uint32_t cmds;      // in the body
    uint32_t tail;      // position commands behind them
    uint32_t answered;  // of the body, or of the results
    uint64_t from;      // bytes put into the queue before it
    uint64_t first_ref; // index into refs
    uint64_t began_us;
    struct batch_mark mark;
    bool has_mark;
    uint64_t bad_ref; // first command refused while queueing
    struct err why;   // code 0: none
};

struct batcher {
    struct sink sink;
    struct batcher_options o;
    struct wire wire;
    struct replies in;
    int db;
    // batches[head .. head + count), the last one may be open
    struct batch batches[BATCHES];
    uint32_t head, count;
    bool in_unit;
    int execs, bares; // closed and unanswered
    bool needless;    // the last one closed with an EXEC needed none
    // one entry a command of an unanswered batch; first and end only grow
    uint64_t *refs;
    uint64_t refs_cap, refs_first, refs_end;
    struct batch_mark current; // everything up to here is in some batch or was skipped
    struct batch_mark acked;   // and this far the target has confirmed
    struct batch_mark placed;  // the last position put into the pipeline; never goes backward
    bool has_current, has_acked, has_placed;
    bool dirty;                  // `placed` is behind `current`
    bool store_now, store_again; // again: also `placed` itself
    uint64_t stored_us;
    struct buf scratch;
    struct batcher_guard guard; // key NULL: none
    struct sink_stats stats;
};

static const struct sink_ops ops;
static const struct wire_events wire_events;

struct batcher *batcher_new(const struct batcher_options *o)
{
    struct batcher *b = xcalloc(1, sizeof(*b));
    b->sink.ops = &ops;
    b->o = *o;
    b->refs_cap = 4096;
    b->refs = xmalloc(b->refs_cap * sizeof(*b->refs));
    wire_init(&b->wire, o->loop, &wire_events, b, "batcher.sent");
    return b;
}

void batcher_detach(struct batcher *b)
{
    wire_detach(&b->wire);
    replies_free(&b->in);
    b->head = b->count = 0;
    b->in_unit = b->dirty = b->store_now = b->store_again = false;
    b->has_current = b->has_acked = b->has_placed = false;
    b->execs = b->bares = 0;
    b->refs_first = b->refs_end = 0;
}

void batcher_free(struct batcher *b)
{
    if (!b)
        return;
    batcher_detach(b);
    wire_close(&b->wire);
    buf_free(&b->scratch);
    free(b->refs);
    free(b);
}

bool batcher_attached(const struct batcher *b)
{
    return wire_attached(&b->wire);
}

static struct batch *batch_at(struct batcher *b, uint32_t i)
{
    return &b->batches[(b->head + i) & (BATCHES - 1)];
}

static struct batch *open_batch(struct batcher *b)
{
    struct batch *last = b->count ? batch_at(b, b->count - 1) : NULL;
    return last && !last->closed ? last : NULL;
}

void batcher_stop(struct batcher *b)
{
    wire_stop(&b->wire);
}

static void fail(struct batcher *b, uint64_t ref, const struct err *why)
{
    if (b->wire.broken)
        return;
    batcher_stop(b);
    b->o.events->failed(b->o.ctx, ref, why);
}

// A fault point that finds at the target what it follows in the code.
static void fault_after_sending(struct batcher *b, const char *name)
{
    if (!__builtin_expect(fault_armed, 0))
        return;
    wire_send(&b->wire);
    fault_point(name);
}

static bool mark_equal(const struct batch_mark *a, const struct batch_mark *b)
{
    return a->offset == b->offset && a->loading == b->loading && a->rdb_index == b->rdb_index;
}

static int append_position(struct batcher *b, const struct batch_mark *mark)
{
    buf_clear(&b->scratch);
    int n = b->o.events->put_position(b->o.ctx, mark, &b->scratch, &b->db);
    outq_put(&b->wire.out, b->scratch.p, b->scratch.n);
    b->stored_us = clock_mono_us();
    b->placed = *mark;
    b->has_placed = true;
    b->dirty = !mark_equal(mark, &b->current);
    b->store_now = b->store_now && b->dirty;
    b->store_again = false;
    return n;
}

static bool may_close(const struct batcher *b, const struct batch *t)
{
    return !t->wrapped || (b->bares == 0 && b->execs < b->o.max_exec && !t->unproved);
}

static void advance(struct batcher *b, struct batch *t);

static bool wrapped_needlessly(const struct batch *t)
{
    return t->wrapped && !t->needs_multi && t->cmds >= GOOD_SIZE;
}

static void close_batch(struct batcher *b, struct batch *t)
{
    t->closed = true;
    if (!t->wrapped) {
        b->bares++;
        advance(b, t); // its replies may all be in
        return;
    }
    b->needless = wrapped_needlessly(t);
    fault_after_sending(b, "batcher.body");
    t->tail = (uint32_t)append_position(b, &t->mark);
    t->stores = true;
    outq_put(&b->wire.out, "*1\r\n$4\r\nEXEC\r\n", 14);
    b->execs++;
}

static void put_guard(struct batcher *b, struct batch *t)
{
    char name[64];
    struct slice key = b->guard.key(b->guard.ctx, name);
    must(b->db == 0); // each wrapped batch ends there, and there are no others
    buf_clear(&b->scratch);
    resp_put_cmd(&b->scratch, "WATCH %b", &key);
    resp_put_cmd(&b->scratch, "GET %b", &key);
    outq_put(&b->wire.out, b->scratch.p, b->scratch.n);
    t->phase = PHASE_WATCH;
    t->unproved = true;
}

static struct batch *batch_new(struct batcher *b, bool wrapped)
{
    struct batch *t = batch_at(b, b->count++);
    *t = (struct batch){.wrapped = wrapped,
                        .phase = wrapped ? PHASE_MULTI : PHASE_BODY,
                        .first_ref = b->refs_end,
                        .from = b->wire.out.total,
                        .bad_ref = UINT64_MAX,
                        .began_us = clock_mono_us()};
    if (wrapped && b->guard.key)
        put_guard(b, t);
    if (wrapped)
        outq_put(&b->wire.out, "*1\r\n$5\r\nMULTI\r\n", 15);
    fault_after_sending(b, "batcher.multi");
    return t;
}

// A bare batch that holds nothing but the position of what is confirmed.
static void position_batch(struct batcher *b)
{
    const struct batch_mark *mark = b->count == 0 ? &b->current : &b->acked;
    if (b->count == BATCHES || (b->count && !b->has_acked) ||
        (b->has_placed && !batch_mark_after(mark, &b->placed) &&
         !(b->store_again && mark_equal(mark, &b->placed))))
        return;
    struct batch *t = batch_new(b, b->guard.key != NULL);
    t->mark = *mark;
    t->has_mark = t->stores = true;
    if (t->wrapped)
        return; // the next flush that may closes it
    t->tail = (uint32_t)append_position(b, &t->mark);
    close_batch(b, t);
}

static bool has_room(const struct batcher *b)
{
    return batcher_attached(b) && b->wire.out.bytes < QUEUE_LIMIT &&
           b->refs_end - b->refs_first < REFS_LIMIT;
}

static bool must_end(const struct batcher *b, const struct batch *t, bool wrapped, bool alone)
{
    return (wrapped && !t->wrapped) || alone || t->alone || t->cmds >= b->o.max_cmds ||
           b->wire.out.total - t->from >= b->o.max_bytes;
}

// What becomes of the open batch, if there is one, when a unit begins.
enum opening { OPENING_REFUSED, OPENING_JOINS, OPENING_NEW };

static enum opening unit_opening(struct batcher *b, bool wrapped, bool alone)
{
    const struct batch *t = open_batch(b);
    bool needless = b->needless;
    if (!has_room(b))
        return OPENING_REFUSED;
    if (t) {
        bool end = must_end(b, t, wrapped, alone);
        if (!may_close(b, t))
            return end ? OPENING_REFUSED : OPENING_JOINS;
        if (!end && t->cmds < GOOD_SIZE)
            return OPENING_JOINS;
        needless = wrapped_needlessly(t);
    }
    // A whole batch of bare units was wrapped for the EXEC before it. Rather than all that follow,
    // for the same reason, wait until none is out.
    bool exec_out = b->execs > 0 || (t && t->wrapped);
    if (!wrapped && exec_out && needless)
        return OPENING_REFUSED;
    return b->count < BATCHES ? OPENING_NEW : OPENING_REFUSED;
}

bool batcher_room(struct batcher *b)
{
    return has_room(b) && (b->in_unit || unit_opening(b, b->guard.key, false) != OPENING_REFUSED);
}

bool batcher_unit_begin(struct batcher *b, bool wrapped, bool alone)
{
    must(!b->in_unit);
    wrapped = wrapped || b->guard.key;
    enum opening opening = unit_opening(b, wrapped, alone);
    struct batch *t = open_batch(b);
    // Closed though nothing may follow at once: its EXEC is what the unit waits for.
    if (t && opening != OPENING_JOINS && may_close(b, t) && has_room(b))
        close_batch(b, t);
    if (opening == OPENING_REFUSED)
        return false;
    if (opening == OPENING_NEW) {
        // Bare commands take effect even when the EXEC before them is refused.
        t = batch_new(b, wrapped || b->execs > 0);
        t->alone = alone;
    }
    t->needs_multi = t->needs_multi || wrapped;
    b->in_unit = true;
    return true;
}

struct outq *batcher_out(struct batcher *b)
{
    return &b->wire.out;
}

static void push_ref(struct batcher *b, uint64_t ref)
{
    if (b->refs_end - b->refs_first == b->refs_cap) {
        uint64_t *bigger = xmalloc(2 * b->refs_cap * sizeof(*bigger));
        for (uint64_t i = b->refs_first; i < b->refs_end; i++)
            bigger[i & (2 * b->refs_cap - 1)] = b->refs[i & (b->refs_cap - 1)];
        free(b->refs);
        b->refs = bigger;
        b->refs_cap *= 2;
    }
    b->refs[b->refs_end++ & (b->refs_cap - 1)] = ref;
}

void batcher_cmd(struct batcher *b, uint64_t ref)
{
    struct batch *t = open_batch(b);
    must(b->in_unit && t);
    push_ref(b, ref);
    t->cmds++;
    b->stats.cmds_sent++;
    if (b->wire.out.bytes >= EAGER_SEND && !b->wire.blocked)
        wire_send(&b->wire);
}

void batcher_select(struct batcher *b, int db, uint64_t ref)
{
    if (db == b->db)
        return;
    char num[24], cmd[64];
    size_t n = i64_format(num, db);
    num[n] = 0;
    int len = snprintf(cmd, sizeof(cmd), "*2\r\n$6\r\nSELECT\r\n$%zu\r\n%s\r\n", n, num);
    outq_put(&b->wire.out, cmd, (size_t)len);
    b->db = db;
    batcher_cmd(b, ref);
}

static void set_mark(struct batcher *b, const struct batch_mark *mark)
{
    b->current = *mark;
    b->has_current = b->dirty = true;
}

void batcher_unit_end(struct batcher *b, const struct batch_mark *mark)
{
    must(b->in_unit);
    b->in_unit = false;
    struct batch *t = open_batch(b);
    if (!t->wrapped && t->cmds == 0) { // no reply would end it
        b->count--;
        batcher_skip_to(b, mark);
        return;
    }
    t->mark = *mark;
    t->has_mark = true;
    set_mark(b, mark);
}

void batcher_skip_to(struct batcher *b, const struct batch_mark *mark)
{
    must(!b->in_unit);
    struct batch *t = open_batch(b);
    if (t) {
        t->mark = *mark;
        set_mark(b, mark);
    } else if (batcher_attached(b)) {
        set_mark(b, mark);
        if (b->count == 0) {
            b->acked = *mark;
            b->has_acked = true;
            b->o.events->acked(b->o.ctx, mark, false);
        }
    }
}

bool batcher_idle(const struct batcher *b)
{
    return b->count == 0 && b->wire.out.bytes == 0;
}

uint64_t batcher_oldest_us(const struct batcher *b)
{
    return b->count ? b->batches[b->head].began_us : 0;
}

size_t batcher_unsent(const struct batcher *b)
{
    return b->wire.out.bytes;
}

void batcher_store_position(struct batcher *b)
{
    b->store_now = b->has_current && b->dirty;
}

// An idle connection whose other end is gone would stay unnoticed until the next write.
static void ping_if_idle(struct batcher *b)
{
    if (b->count || b->in_unit || !b->o.ping_us ||
        clock_mono_us() - b->wire.heard_us < b->o.ping_us)
        return;
    struct batch *t = batch_new(b, false);
    outq_put(&b->wire.out, "*1\r\n$4\r\nPING\r\n", 14);
    t->tail = 1;
    t->mark = b->current;
    t->has_mark = b->has_current;
    close_batch(b, t);
}

void batcher_flush(struct batcher *b)
{
    if (!batcher_attached(b))
        return;
    struct batch *t = b->in_unit ? NULL : open_batch(b);
    if (t && may_close(b, t))
        close_batch(b, t);
    if (b->dirty && !b->in_unit && !open_batch(b) &&
        (b->store_now || clock_mono_us() - b->stored_us >= b->o.position_us))
        position_batch(b);
    ping_if_idle(b);
    if (b->wire.out.bytes)
        wire_send(&b->wire);
    if (b->execs)
        fault_point("batcher.exec");
}

static uint64_t ref_of(const struct batcher *b, const struct batch *t, uint32_t i)
{
    return i < t->cmds ? b->refs[(t->first_ref + i) & (b->refs_cap - 1)] : UINT64_MAX;
}

static void finish_front(struct batcher *b)
{
    struct batch *t = batch_at(b, 0);
    struct batch_mark mark = t->mark;
    bool has_mark = t->has_mark, stores = t->stores;
    fault_point("batcher.replied");
    if (t->wrapped) {
        b->execs--;
        b->stats.wrapped_ok++;
    } else {
        b->bares--;
        b->stats.bare_ok += t->cmds > 0;
    }
    b->stats.cmds_ok += t->cmds;
    b->refs_first = t->first_ref + t->cmds;
    b->head = (b->head + 1) & (BATCHES - 1);
    b->count--;
    if (has_mark) {
        // What was skipped behind the last batch needs no reply of its own.
        if (!b->has_acked || batch_mark_after(&mark, &b->acked))
            b->acked = mark;
        if (b->count == 0 && b->has_current)
            b->acked = b->current;
        b->has_acked = true;
        if (stores)
            b->o.events->acked(b->o.ctx, &mark, true);
        if (!stores || batch_mark_after(&b->acked, &mark))
            b->o.events->acked(b->o.ctx, &b->acked, false);
    }
}

static void batch_refused(struct batcher *b, struct batch *t, struct slice text)
{
    if (t->wrapped)
        b->stats.wrapped_failed++;
    else
        b->stats.bare_failed++;
    if (!t->why.code)
        err_set(&t->why, ERR_REPLY, "%.*s", (int)(text.n < 300 ? text.n : 300), text.p);
    struct err why = t->why;
    fail(b, t->bad_ref, &why);
}

static void body_error(struct batcher *b, struct batch *t, struct slice text)
{
    uint64_t ref = ref_of(b, t, t->answered);
    if (t->wrapped) {
        if (!t->why.code) {
            t->bad_ref = ref;
            err_set(&t->why, ERR_REPLY, "%.*s", (int)(text.n < 300 ? text.n : 300), text.p);
        }
    } else if (ref == UINT64_MAX) {
        batch_refused(b, t, text);
    } else {
        b->o.events->cmd_failed(b->o.ctx, ref, text, false);
    }
}

// The end of a phase may be the end of the batch; an open batch waits for its rest.
static void advance(struct batcher *b, struct batch *t)
{
    if (t->phase == PHASE_BODY && t->closed && t->answered == t->cmds + t->tail) {
        if (t->wrapped) {
            t->phase = PHASE_EXEC;
            t->answered = 0;
        } else {
            finish_front(b);
        }
    } else if (t->phase == PHASE_RESULTS && t->answered == t->cmds + t->tail) {
        finish_front(b);
    }
}

static bool is_empty(const struct reply *r)
{
    return r->kind == REPLY_NIL || (r->kind == REPLY_INTEGER && r->num == 0) || r->empty;
}

// The answers to WATCH and GET, before those of the batch.
static int take_guard(struct batcher *b, struct batch *t, const struct reply *r)
{
    struct err e;
    if (r->kind == REPLY_ERROR) {
        batch_refused(b, t, r->text);
    } else if (r->kind != REPLY_NIL && r->kind != REPLY_OK) {
        return ERR_PROTOCOL;
    } else if (t->phase == PHASE_WATCH) {
        t->phase = PHASE_RECORD;
    } else if (r->kind == REPLY_OK && b->guard.holds(b->guard.ctx, r->text)) {
        t->unproved = false;
        t->phase = PHASE_MULTI;
    } else {
        err_set(&e, ERR_CLOSED, "the position there is not the one that was stored last");
        fail(b, UINT64_MAX, &e);
    }
    return 0;
}

static int take_reply(struct batcher *b, struct batch *t, const struct reply *r)
{
    struct err e;
    switch (t->phase) {
    case PHASE_WATCH:
    case PHASE_RECORD:
        return take_guard(b, t, r);
    case PHASE_MULTI:
        if (r->kind == REPLY_ERROR) {
            batch_refused(b, t, r->text);
            return 0;
        }
        if (r->kind != REPLY_OK || r->count != 1)
            return ERR_PROTOCOL;
        t->phase = PHASE_BODY;
        break;
    case PHASE_BODY:
        if (r->kind == REPLY_ERROR)
            body_error(b, t, r->text);
        else if (t->wrapped && r->kind != REPLY_QUEUED)
            return ERR_PROTOCOL;
        else if (is_empty(r) && ref_of(b, t, t->answered) != UINT64_MAX)
            b->o.events->cmd_empty(b->o.ctx, ref_of(b, t, t->answered));
        t->answered += r->count;
        break;
    case PHASE_EXEC:
        if (r->kind == REPLY_ERROR) {
            batch_refused(b, t, r->text);
            return 0;
        }
        if (r->kind == REPLY_NIL) {
            b->stats.wrapped_failed++;
            err_set(&e, ERR_CLOSED, "EXEC was discarded: somebody else has written the position");
            fail(b, UINT64_MAX, &e);
            return 0;
        }
        if (r->kind != REPLY_ARRAY || r->num != (int64_t)t->cmds + t->tail)
            return ERR_PROTOCOL;
        t->phase = PHASE_RESULTS;
        break;
    case PHASE_RESULTS:
        if (r->kind == REPLY_ERROR && t->answered < t->cmds)
            b->o.events->cmd_failed(b->o.ctx, ref_of(b, t, t->answered), r->text, true);
        else if (r->kind == REPLY_ERROR)
            batch_refused(b, t, r->text);
        else if (is_empty(r) && t->answered < t->cmds)
            b->o.events->cmd_empty(b->o.ctx, ref_of(b, t, t->answered));
        t->answered += r->count;
        break;
    }
    if (!b->wire.broken)
        advance(b, t);
    return 0;
}

// Replies in a row that may be taken as one.
static uint32_t expected_run(const struct batch *t)
{
    return t->phase == PHASE_BODY || t->phase == PHASE_RESULTS ? t->cmds + t->tail - t->answered
                                                               : 1;
}

static int take_bytes(struct batcher *b, const char *p, size_t n)
{
    while (n && !b->wire.broken) {
        if (b->count == 0)
            return ERR_PROTOCOL;
        struct batch *t = batch_at(b, 0);
        uint32_t run = expected_run(t);
        if (run == 0)
            return ERR_PROTOCOL;
        struct reply r;
        size_t used;
        b->in.keep = t->phase == PHASE_RECORD;
        int rc = replies_next(&b->in, p, n, &used, t->phase == PHASE_EXEC, run, &r);
        if (rc)
            return rc;
        p += used;
        n -= used;
        if (r.kind != REPLY_NONE && (rc = take_reply(b, t, &r)))
            return rc;
    }
    return 0;
}

static int on_bytes(void *ctx, const char *p, size_t n)
{
    return take_bytes(ctx, p, n);
}

static void on_failed(void *ctx, const struct err *why)
{
    struct batcher *b = ctx;
    b->o.events->failed(b->o.ctx, UINT64_MAX, why);
}

static void on_turned(void *ctx)
{
    struct batcher *b = ctx;
    batcher_flush(b);
    if (batcher_attached(b))
        b->o.events->room(b->o.ctx);
}

// An EXEC's reply is waited for: it lets the next one go.
static bool may_rest(void *ctx, uint64_t *from)
{
    struct batcher *b = ctx;
    if (b->execs || !b->count)
        return false;
    *from = b->batches[b->head].from;
    return true;
}

static const struct wire_events wire_events = {
    .take = on_bytes,
    .failed = on_failed,
    .turned = on_turned,
    .may_rest = may_rest,
};

void batcher_attach(struct batcher *b, struct conn *c, int db)
{
    batcher_detach(b);
    b->db = db;
    b->guard = (struct batcher_guard){0};
    b->stored_us = clock_mono_us();
    wire_attach(&b->wire, c);
}

void batcher_guard(struct batcher *b, const struct batcher_guard *g)
{
    b->guard = g ? *g : (struct batcher_guard){0};
}

void batcher_get_stats(const struct batcher *b, struct sink_stats *out)
{
    *out = b->stats;
    out->bytes_sent = b->wire.sent_bytes;
}

// ---- as a sink ----

static struct batcher *of(struct sink *s)
{
    return (struct batcher *)s;
}

static const struct batcher *of_const(const struct sink *s)
{
    return (const struct batcher *)s;
}

static int one_node(const struct sink *s)
{
    (void)s;
    return 1;
}

static bool as_unit_begin(struct sink *s, int slot, bool wrapped)
{
    (void)slot;
    return batcher_unit_begin(of(s), wrapped, false);
}

static bool as_room(struct sink *s)
{
    return batcher_room(of(s));
}

static void as_select(struct sink *s, int db, uint64_t ref)
{
    batcher_select(of(s), db, ref);
}

static struct outq *as_out(struct sink *s)
{
    return batcher_out(of(s));
}

static void as_cmd(struct sink *s, uint64_t ref)
{
    batcher_cmd(of(s), ref);
}

static void as_unit_end(struct sink *s, const struct batch_mark *mark)
{
    batcher_unit_end(of(s), mark);
}

static void as_skip_to(struct sink *s, const struct batch_mark *mark)
{
    batcher_skip_to(of(s), mark);
}

static void as_store_position(struct sink *s)
{
    batcher_store_position(of(s));
}

static void as_store_again(struct sink *s)
{
    struct batcher *b = of(s);
    b->store_now = b->dirty = b->store_again = b->has_current;
}

static void as_flush(struct sink *s)
{
    batcher_flush(of(s));
}

static bool as_idle(const struct sink *s)
{
    return batcher_idle(of_const(s));
}

static bool as_attached(const struct sink *s)
{
    return batcher_attached(of_const(s));
}

static void as_stop(struct sink *s)
{
    batcher_stop(of(s));
}

static void as_detach(struct sink *s)
{
    batcher_detach(of(s));
}

static void as_get_stats(const struct sink *s, struct sink_stats *out)
{
    batcher_get_stats(of_const(s), out);
}

static void as_free(struct sink *s)
{
    batcher_free(of(s));
}

static const struct sink_ops ops = {
    .room = as_room,
    .nodes = one_node,
    .unit_begin = as_unit_begin,
    .select = as_select,
    .out = as_out,
    .cmd = as_cmd,
    .unit_end = as_unit_end,
    .skip_to = as_skip_to,
    .store_position = as_store_position,
    .store_again = as_store_again,
    .flush = as_flush,
    .idle = as_idle,
    .attached = as_attached,
    .stop = as_stop,
    .detach = as_detach,
    .get_stats = as_get_stats,
    .free = as_free,
};

struct sink *batcher_sink(struct batcher *b)
{
    return &b->sink;
}

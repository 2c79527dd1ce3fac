// SPDX-License-Identifier: Apache-2.0
#include "target/router_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "codec/resp.h"

enum {
    LEAST_UNITS = 1 << 13, // unconfirmed; more of them only miss the caches
    MOST_UNITS = 1 << 16,  // unless they are on their way for so long: one a microsecond
    FIRST_UNITS = 1 << 10, // power of two
    FIRST_TICKETS = 1 << 10,
    NODE_UNSENT = 1 << 20, // bytes; what more there is for the node is held back
    RETRY_MS = 5,          // of what the cluster asks to try again
    NONE = 0,              // of a ticket's index
};

enum redirect { REDIRECT_NONE, REDIRECT_MOVED, REDIRECT_ASK, REDIRECT_AGAIN };

static const struct pipe_events pipe_events;

static void on_retry(uv_timer_t *t);

struct router *router_new(const struct router_options *o)
{
    struct router *r = xcalloc(1, sizeof(*r));
    r->sink.ops = &router_sink_ops;
    r->o = *o;
    r->slots = xcalloc(SLOT_COUNT, sizeof(*r->slots));
    r->marks = xcalloc(SLOT_COUNT, sizeof(*r->marks));
    r->units_cap = FIRST_UNITS;
    r->units = xmalloc(r->units_cap * sizeof(*r->units));
    r->retry_timer = xmalloc(sizeof(*r->retry_timer));
    must(uv_timer_init(o->loop, r->retry_timer) == 0);
    r->retry_timer->data = r;
    r->broken = true;
    return r;
}

struct sink *router_sink(struct router *r)
{
    return &r->sink;
}

void router_stop(struct router *r)
{
    r->broken = true;
    uv_timer_stop(r->retry_timer);
    for (int i = 0; i < r->nodes_n; i++)
        pipe_stop(r->pipes[i]);
}

static void fail(struct router *r, uint64_t ref, const struct err *why)
{
    if (r->broken)
        return;
    router_stop(r);
    r->o.events->sink->failed(r->o.ctx, ref, why);
}

static void fail_text(struct router *r, uint64_t ref, struct slice text)
{
    struct err e;
    err_set(&e, ERR_REPLY, "%.*s", (int)(text.n < 300 ? text.n : 300), text.p);
    fail(r, ref, &e);
}

void router_add_stats(const struct router *r, struct sink_stats *s)
{
    for (int i = 0; i < r->nodes_n; i++) {
        s->bytes_sent += pipe_sent_bytes(r->pipes[i]);
        s->cmds_ok += pipe_answered(r->pipes[i]);
    }
}

void router_detach(struct router *r)
{
    router_add_stats(r, &r->stats);
    for (int i = 0; i < r->nodes_n; i++)
        pipe_free(r->pipes[i]);
    free(r->pipes);
    free(r->nodes);
    free(r->ready);
    r->pipes = NULL;
    r->nodes = NULL;
    r->ready = NULL;
    r->nodes_n = 0;
    free(r->tickets);
    r->tickets = NULL;
    r->tickets_cap = r->tickets_free = 0;
    r->unit_first = r->unit_end = 0;
    r->unit_open = false;
    r->out = NULL;
    r->attached = false;
    r->broken = true;
    r->has_confirmed = r->has_told = r->has_stored = r->position_out = r->store_now = false;
    r->store_again = false;
    r->current = (struct batch_mark){0};
    r->samples_n = 0;
    uv_timer_stop(r->retry_timer);
}

static void timer_closed(uv_handle_t *h)
{
    free(h);
}

void router_free(struct router *r)
{
    router_detach(r);
    uv_close((uv_handle_t *)r->retry_timer, timer_closed);
    buf_free(&r->scratch);
    free(r->slots);
    free(r->marks);
    free(r->units);
    free(r);
}

static uint64_t units_limit(const struct router_target *t)
{
    uint64_t most = LEAST_UNITS;
    for (int i = 0; i < t->nodes_n; i++) {
        uint64_t rtt = conn_rtt_us(t->nodes[i].conn);
        most = rtt > most ? rtt : most;
    }
    return most < MOST_UNITS ? most : MOST_UNITS;
}

void router_attach(struct router *r, const struct router_target *t)
{
    router_detach(r);
    r->units_limit = units_limit(t);
    r->nodes_n = t->nodes_n;
    r->nodes = xcalloc((size_t)t->nodes_n, sizeof(*r->nodes));
    r->pipes = xcalloc((size_t)t->nodes_n, sizeof(struct pipe *));
    r->ready = xcalloc((size_t)t->nodes_n, sizeof(*r->ready));
    for (int i = 0; i < t->nodes_n; i++) {
        r->nodes[i] = t->nodes[i];
        r->nodes[i].conn = NULL;
        r->pipes[i] = pipe_new(r->o.loop, &pipe_events, r);
        r->ready[i] = (struct slot_list){-1, -1};
    }
    r->retry = (struct slot_list){-1, -1};
    r->marks_until = 0;
    for (int s = 0; s < SLOT_COUNT; s++) {
        r->slots[s] = (struct slot){.node = t->owner[s], .ask_node = -1};
        r->marks[s] = t->marks ? t->marks[s] : 0;
        if (r->marks[s] > r->marks_until)
            r->marks_until = r->marks[s];
    }
    r->marks_id = t->marks_id;
    r->attached = true;
    r->broken = false;
    r->stored_us = clock_mono_us();
    for (int i = 0; i < t->nodes_n; i++)
        pipe_attach(r->pipes[i], t->nodes[i].conn);
}

struct slice router_mark_key(uint64_t marks_id, int slot, char *dst)
{
    static const char prefix[] = "gunyu:mark:";
    size_t n = sizeof(prefix) - 1;
    memcpy(dst, prefix, n);
    n += u64_format(dst + n, marks_id);
    memcpy(dst + n, ":{", 2);
    n += 2;
    for (const char *tag = slot_tag(slot); *tag; tag++)
        dst[n++] = *tag;
    dst[n++] = '}';
    return slice_make(dst, n);
}

int router_put_mark(uint64_t marks_id, int slot, uint64_t offset, int db, struct buf *out)
{
    char name[64];
    struct slice key = router_mark_key(marks_id, slot, name);
    if (db)
        resp_put_cmd(out, "SELECT 0");
    char number[20];
    resp_put_array(out, 3);
    resp_put_bulk(out, SLICE("SET"));
    resp_put_bulk(out, key);
    resp_put_bulk(out, slice_make(number, u64_format(number, offset)));
    if (db)
        resp_put_cmd(out, "SELECT %d", db);
    return db ? 3 : 1;
}

// ---- lists of slots ----

static void list_push(struct router *r, struct slot_list *list, int slot)
{
    struct slot *s = &r->slots[slot];
    if (s->listed)
        return;
    s->listed = true;
    s->next_listed = -1;
    if (list->last >= 0)
        r->slots[list->last].next_listed = (int16_t)slot;
    else
        list->first = (int16_t)slot;
    list->last = (int16_t)slot;
}

static int list_pop(struct router *r, struct slot_list *list)
{
    int slot = list->first;
    if (slot < 0)
        return -1;
    list->first = r->slots[slot].next_listed;
    if (list->first < 0)
        list->last = -1;
    r->slots[slot].listed = false;
    return slot;
}

// ---- units ----

void router_push_unit(struct router *r, const struct unit *u)
{
    if (r->unit_end - r->unit_first == r->units_cap) {
        struct unit *bigger = xmalloc(2 * r->units_cap * sizeof(*bigger));
        for (uint64_t i = r->unit_first; i < r->unit_end; i++)
            bigger[i & (2 * r->units_cap - 1)] = *router_unit_at(r, i);
        free(r->units);
        r->units = bigger;
        r->units_cap *= 2;
    }
    *router_unit_at(r, r->unit_end++) = *u;
}

void router_advance(struct router *r)
{
    while (r->unit_first < r->unit_end && router_unit_at(r, r->unit_first)->left == 0) {
        const struct unit *u = router_unit_at(r, r->unit_first++);
        if (!u->torn) {
            r->confirmed = u->mark;
            r->has_confirmed = true;
        }
    }
}

static void unit_part_done(struct router *r, uint64_t unit)
{
    if (unit == UINT64_MAX)
        return;
    router_unit_at(r, unit)->left--;
    if (unit == r->unit_first)
        router_advance(r);
}

bool router_room(struct router *r)
{
    return r->attached && !r->broken && r->unit_end - r->unit_first < r->units_limit;
}

void router_unit_open(struct router *r, uint64_t from, int db, int64_t now_ms,
                      const struct batch_mark *mark, bool torn)
{
    must(!r->unit_open);
    struct unit u = {
        .mark = *mark, .from = from, .now_ms = now_ms, .db = db, .left = 1, .torn = torn};
    router_push_unit(r, &u);
    r->unit_open = true;
}

void router_unit_close(struct router *r)
{
    must(r->unit_open);
    r->unit_open = false;
    r->current = router_last_unit(r)->mark;
    unit_part_done(r, r->unit_end - 1);
}

bool router_drained(const struct router *r)
{
    return r->unit_first == r->unit_end;
}

uint64_t router_slot_mark(const struct router *r, int slot)
{
    return r->marks[slot];
}

int router_owner(const struct router *r, int slot)
{
    return r->slots[slot].node;
}

// ---- tickets ----

static uint32_t ticket_new(struct router *r)
{
    if (!r->tickets_free) {
        uint32_t old = r->tickets_cap, cap = old ? old * 2 : FIRST_TICKETS;
        r->tickets = xrealloc(r->tickets, cap * sizeof(*r->tickets));
        for (uint32_t i = old ? old : 1; i < cap; i++) {
            r->tickets[i].next = r->tickets_free;
            r->tickets_free = i;
        }
        r->tickets_cap = cap;
    }
    uint32_t t = r->tickets_free;
    r->tickets_free = r->tickets[t].next;
    return t;
}

void router_enqueue(struct router *r, int slot, const struct ticket *t, bool held)
{
    struct slot *s = &r->slots[slot];
    uint32_t i = ticket_new(r), before = s->tail;
    r->tickets[i] = *t;
    r->tickets[i].next = NONE;
    if (held) {
        if (!s->held)
            s->held = i;
        s->held_wrapped += t->wrapped;
    } else if (s->held) {
        before = NONE;
        for (uint32_t k = s->head; k != s->held; k = r->tickets[k].next)
            before = k;
        r->tickets[i].next = s->held;
    }
    if (before)
        r->tickets[before].next = i;
    else
        s->head = i;
    if (!r->tickets[i].next)
        s->tail = i;
}

static void pop_confirmed(struct router *r, int slot)
{
    struct slot *s = &r->slots[slot];
    uint32_t i = s->head;
    must(i != NONE && i != s->held);
    struct ticket t = r->tickets[i];
    s->head = t.next;
    if (!s->head)
        s->tail = NONE;
    r->tickets[i].next = r->tickets_free;
    r->tickets_free = i;
    if (t.kind == TICKET_POSITION)
        router_floor_stored(r);
    else
        unit_part_done(r, t.unit);
}

// ---- sending ----

// Where the next request of the slot goes.
static int node_of(const struct slot *s)
{
    return s->ask ? s->ask_node : s->node;
}

static struct pipe *pipe_of(const struct router *r, const struct slot *s)
{
    return r->pipes[node_of(s)];
}

static void request_begin(struct router *r, int slot, uint64_t unit, int to_db, bool txn)
{
    struct slot *s = &r->slots[slot];
    struct pipe *p = pipe_of(r, s);
    pipe_select(p, to_db);
    pipe_begin(p, txn ? PIPE_TXN : PIPE_BARE, s->ask);
    pipe_open_req(p)->slot = slot;
    pipe_open_req(p)->unit = unit;
    s->ask = false;
    s->in_flight++;
    s->exec_out = txn;
    r->out = p;
    r->out_slot = slot;
    r->out_txn = txn;
}

static void ping(struct pipe *p)
{
    outq_put(pipe_out(p), "*1\r\n$4\r\nPING\r\n", 14);
    pipe_cmd(p, PIPE_OWN_REF);
}

void router_ask_alive(struct pipe *p)
{
    pipe_begin(p, PIPE_BARE, false);
    ping(p);
    pipe_end(p);
}

// mark: of the last unit in it.
static void request_end(struct router *r, uint32_t tickets, uint64_t mark)
{
    struct pipe *p = r->out;
    pipe_open_req(p)->tickets = tickets;
    if (r->out_txn) {
        buf_clear(&r->scratch);
        int n = router_put_mark(r->marks_id, r->out_slot, mark, pipe_db(p), &r->scratch);
        outq_put(pipe_out(p), r->scratch.p, r->scratch.n);
        for (int i = 0; i < n; i++)
            pipe_cmd(p, PIPE_OWN_REF);
    } else if (pipe_cmds(p) == 0) {
        ping(p); // nothing else would answer
    }
    r->out = NULL;
    pipe_end(p);
    fault_point(r->out_txn ? "router.exec" : "router.bare");
}

static bool write_ticket(struct router *r, int slot, const struct ticket *t)
{
    if (t->kind == TICKET_STREAM) {
        const struct unit *u = router_unit_at(r, t->unit);
        return r->o.events->emit(r->o.ctx, u->from, u->db, u->now_ms, slot, t->as_is);
    }
    int db = 0;
    buf_clear(&r->scratch);
    int n = r->o.events->sink->put_position(r->o.ctx, &r->storing, &r->scratch, &db);
    outq_put(pipe_out(r->out), r->scratch.p, r->scratch.n);
    for (int i = 0; i < n; i++)
        pipe_cmd(r->out, PIPE_OWN_REF);
    return true;
}

// Sends held tickets of a slot in one request: a MULTI as far as they fit, else the first one.
static bool send_held(struct router *r, int slot)
{
    struct slot *s = &r->slots[slot];
    struct ticket first = r->tickets[s->held];
    bool txn = s->held_wrapped > 0 && first.kind == TICKET_STREAM;
    uint32_t n = 0;
    uint64_t mark = 0, begin = 0;
    request_begin(r, slot, first.unit, first.to_db, txn);
    struct pipe *p = r->out;
    begin = pipe_out(p)->total;
    do {
        struct ticket t = r->tickets[s->held];
        if (!write_ticket(r, slot, &t)) {
            fail_text(r, UINT64_MAX, SLICE("ERR the journal has lost what is to be sent again"));
            return false;
        }
        s->held = t.next;
        s->held_wrapped -= t.wrapped;
        if (t.kind == TICKET_STREAM)
            mark = router_unit_at(r, t.unit)->mark.offset;
        n++;
    } while (txn && !s->careful && s->held && r->tickets[s->held].kind == TICKET_STREAM &&
             r->tickets[s->held].to_db == first.to_db && pipe_cmds(p) < r->o.max_cmds &&
             pipe_out(p)->total - begin < r->o.max_bytes);
    request_end(r, n, mark);
    return true;
}

void router_try_send(struct router *r, int slot)
{
    struct slot *s = &r->slots[slot];
    while (s->held && !r->broken) {
        if (s->exec_out || ((s->careful || s->held_wrapped) && s->in_flight))
            return;
        if (s->listed)
            return;
        if (pipe_unsent(pipe_of(r, s)) >= NODE_UNSENT) {
            list_push(r, &r->ready[node_of(s)], slot);
            return;
        }
        if (!send_held(r, slot))
            return;
    }
}

// ---- parts ----

static bool must_hold(const struct router *r, const struct slot *s, bool wrapped)
{
    return s->held || s->exec_out || s->troubled || ((wrapped || s->careful) && s->in_flight) ||
           pipe_unsent(pipe_of(r, s)) >= NODE_UNSENT;
}

enum router_part router_part(struct router *r, int slot, int to_db, bool wrapped, size_t as_is)
{
    must(r->unit_open && !r->out);
    struct slot *s = &r->slots[slot];
    struct unit *u = router_last_unit(r);
    if (u->mark.offset <= r->marks_until && u->mark.offset <= r->marks[slot])
        return ROUTER_APPLIED;
    struct ticket t = {.unit = r->unit_end - 1,
                       .to_db = to_db,
                       .as_is = as_is <= UINT32_MAX ? (uint32_t)as_is : 0,
                       .kind = TICKET_STREAM,
                       .wrapped = wrapped};
    bool hold = must_hold(r, s, wrapped);
    u->left++;
    router_enqueue(r, slot, &t, hold);
    if (hold) {
        // Nothing in flight would send it. Not at once: the caller stands in the midst of it.
        if (!s->in_flight)
            list_push(r, &r->ready[node_of(s)], slot);
        return ROUTER_HELD;
    }
    request_begin(r, slot, t.unit, to_db, wrapped);
    return ROUTER_SEND;
}

struct outq *router_out(struct router *r)
{
    return pipe_out(r->out);
}

void router_cmd(struct router *r, uint64_t ref)
{
    pipe_cmd(r->out, ref);
    r->stats.cmds_sent++;
}

void router_part_end(struct router *r)
{
    request_end(r, 1, router_last_unit(r)->mark.offset);
}

// ---- what the nodes answer ----

// "MOVED 3999 host:port". The host may be missing: that of the node that says so.
static int node_named(const struct router *r, const struct pipe *from, struct slice text)
{
    const char *at = memrchr(text.p, ' ', text.n), *colon = memrchr(text.p, ':', text.n);
    int64_t port;
    if (!at || !colon || colon < at ||
        !slice_i64(slice_make(colon + 1, (size_t)(text.p + text.n - colon - 1)), &port))
        return -1;
    struct slice host = slice_make(at + 1, (size_t)(colon - at - 1));
    int same_port = -1, matches = 0;
    for (int i = 0; i < r->nodes_n; i++) {
        if (r->nodes[i].port != port)
            continue;
        const char *name = r->nodes[i].host;
        for (int k = 0; host.n == 0 && k < r->nodes_n; k++)
            if (r->pipes[k] == from && strcmp(r->nodes[k].host, name) == 0)
                return i;
        if (host.n && slice_eq(host, slice_cstr(name)))
            return i;
        same_port = i;
        matches++;
    }
    return matches == 1 ? same_port : -1;
}

static enum redirect redirect_of(struct slice text)
{
    return slice_has_prefix(text, SLICE("MOVED "))     ? REDIRECT_MOVED
           : slice_has_prefix(text, SLICE("ASK "))     ? REDIRECT_ASK
           : slice_has_prefix(text, SLICE("TRYAGAIN")) ? REDIRECT_AGAIN
                                                       : REDIRECT_NONE;
}

// False when the slot cannot be helped here.
static bool take_redirect(struct router *r, struct pipe *p, int slot, enum redirect kind,
                          struct slice text)
{
    struct slot *s = &r->slots[slot];
    int node = kind == REDIRECT_AGAIN ? -1 : node_named(r, p, text);
    if (kind == REDIRECT_MOVED && node < 0)
        return false;
    s->careful = true;
    // The first of several errors counts; those behind it follow from it.
    if (s->troubled)
        return true;
    s->troubled = true;
    if (kind == REDIRECT_MOVED) {
        s->node = (int16_t)node;
        r->o.events->moved(r->o.ctx);
    }
    // A node that is not known yet gets slots only: until it has this one, ask the owner again.
    s->ask = kind == REDIRECT_ASK && node >= 0;
    s->ask_node = (int16_t)node;
    return true;
}

static void on_error(void *ctx, struct pipe *p, struct pipe_req *q, uint64_t ref, struct slice text,
                     bool in_exec)
{
    struct router *r = ctx;
    if (in_exec) {
        if (ref == PIPE_OWN_REF)
            fail_text(r, UINT64_MAX, text);
        else
            r->o.events->sink->cmd_failed(r->o.ctx, ref, text, true);
        return;
    }
    enum redirect kind = redirect_of(text);
    bool once = q->slot >= 0 && !r->slots[q->slot].troubled &&
                r->tickets[r->slots[q->slot].head].kind == TICKET_SINK;
    if (kind && q->slot >= 0 && !once && take_redirect(r, p, q->slot, kind, text)) {
        q->troubled = true;
        return;
    }
    // EXECABORT follows from it; what is behind it in the slot came too early and is sent again.
    if (q->troubled || (q->slot >= 0 && r->slots[q->slot].troubled))
        return;
    // MULTI: the whole of it is refused now or at its EXEC. Else the rest of the request stands.
    if (ref == PIPE_OWN_REF || pipe_is_txn(q) || (kind && ref != UINT64_MAX))
        fail_text(r, ref == PIPE_OWN_REF ? UINT64_MAX : ref, text);
    else
        r->o.events->sink->cmd_failed(r->o.ctx, ref, text, false);
}

static void on_empty(void *ctx, struct pipe_req *q, uint64_t ref)
{
    struct router *r = ctx;
    if (ref != PIPE_OWN_REF && (q->slot < 0 || !r->slots[q->slot].troubled))
        r->o.events->sink->cmd_empty(r->o.ctx, ref);
}

// All that was sent in the slot is to be sent again, in order.
static void hold_again(struct router *r, int slot)
{
    struct slot *s = &r->slots[slot];
    s->troubled = false;
    s->held = s->head;
    s->held_wrapped = 0;
    r->o.events->again(r->o.ctx, r->current.offset);
    for (uint32_t i = s->head; i; i = r->tickets[i].next) {
        if (r->tickets[i].kind == TICKET_SINK) {
            fail_text(r, UINT64_MAX, SLICE("TRYAGAIN a slot is being moved"));
            return;
        }
        s->held_wrapped += r->tickets[i].wrapped;
    }
    if (s->ask) {
        router_try_send(r, slot);
        return;
    }
    list_push(r, &r->retry, slot);
    if (!uv_is_active((uv_handle_t *)r->retry_timer))
        uv_timer_start(r->retry_timer, on_retry, RETRY_MS, 0);
}

static void on_retry(uv_timer_t *t)
{
    struct router *r = t->data;
    struct slot_list due = r->retry;
    r->retry = (struct slot_list){-1, -1};
    for (int slot; (slot = list_pop(r, &due)) >= 0 && !r->broken;)
        router_try_send(r, slot);
    if (!r->broken)
        r->o.events->sink->room(r->o.ctx);
}

// With a full window none of what a reply is about is in the cache any more, and each hangs on the
// one before: that of the replies to come is asked for in time.
static void look_ahead(const struct router *r, const struct pipe *p)
{
    enum { FAR = 8, NEAR = 4 };
    const struct pipe_req *far = pipe_ahead(p, FAR), *near = pipe_ahead(p, NEAR);
    if (!far || far->slot < 0 || near->slot < 0)
        return;
    __builtin_prefetch(&r->slots[far->slot], 1);
    __builtin_prefetch(&router_unit_at(r, far->unit)->left, 1);
    __builtin_prefetch(&r->tickets[r->slots[near->slot].head], 1);
}

static void on_done(void *ctx, struct pipe *p, struct pipe_req *q)
{
    struct router *r = ctx;
    look_ahead(r, p);
    if (pipe_is_txn(q))
        r->stats.wrapped_ok += !q->troubled;
    else
        r->stats.bare_ok++;
    if (q->slot < 0) {
        unit_part_done(r, q->unit);
        return;
    }
    struct slot *s = &r->slots[q->slot];
    s->in_flight--;
    s->exec_out = false;
    if (!s->troubled) {
        for (uint32_t i = 0; i < q->tickets; i++)
            pop_confirmed(r, q->slot);
        s->careful = false;
        if (s->held)
            router_try_send(r, q->slot);
    } else if (s->in_flight == 0) {
        hold_again(r, q->slot);
    }
}

void router_node_failed(struct router *r, struct pipe *p, const struct err *why)
{
    struct err e = *why;
    for (int i = 0; i < r->nodes_n; i++)
        if (r->pipes[i] == p)
            err_wrap(&e, "node %s:%u", r->nodes[i].host, r->nodes[i].port);
    fail(r, UINT64_MAX, &e);
}

static void on_failed(void *ctx, struct pipe *p, const struct err *why)
{
    router_node_failed(ctx, p, why);
}

static void on_room(void *ctx, struct pipe *p)
{
    struct router *r = ctx;
    for (int i = 0; i < r->nodes_n && !r->broken; i++) {
        if (r->pipes[i] != p)
            continue;
        for (int slot;
             pipe_unsent(p) < NODE_UNSENT && (slot = list_pop(r, &r->ready[i])) >= 0 && !r->broken;)
            router_try_send(r, slot);
    }
    if (!r->broken)
        pipe_flush(p);
    if (!r->broken)
        router_tell(r);
    if (!r->broken)
        r->o.events->sink->room(r->o.ctx);
}

static const struct pipe_events pipe_events = {
    .error = on_error,
    .empty = on_empty,
    .done = on_done,
    .failed = on_failed,
    .room = on_room,
};

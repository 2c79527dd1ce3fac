// SPDX-License-Identifier: Apache-2.0
// The router as a sink: units that are not of the stream.
#include "base/clock.h"
#include "target/router_int.h"

enum { TOTAL_UNSENT = 16 << 20 }; // bytes; from here on nothing is taken

static struct router *of(struct sink *s)
{
    return (struct router *)s;
}

static const struct router *of_const(const struct sink *s)
{
    return (const struct router *)s;
}

static bool as_room(struct sink *s)
{
    struct router *r = of(s);
    size_t n = 0;
    for (int i = 0; i < r->nodes_n; i++)
        n += pipe_unsent(r->pipes[i]);
    return router_room(r) && (r->out || n < TOTAL_UNSENT);
}

static int as_nodes(const struct sink *s)
{
    return of_const(s)->nodes_n;
}

static bool as_unit_begin(struct sink *sink, int slot, bool wrapped)
{
    struct router *r = of(sink);
    if (!router_room(r))
        return false;
    struct slot *s = slot >= 0 ? &r->slots[slot] : NULL;
    if (wrapped && s && (s->held || s->exec_out || s->troubled || s->careful))
        return false;
    struct unit u = {.left = 2};
    router_push_unit(r, &u);
    r->unit_open = r->out_empty = true;
    r->out_wrapped = wrapped;
    int node = s ? s->node : slot <= sink_to_node(0) ? sink_to_node(0) - slot : 0;
    r->out = r->pipes[node < r->nodes_n ? node : 0];
    r->out_slot = slot < 0 ? -1 : slot;
    r->out_txn = false;
    return true;
}

// The request begins with the first command: a unit may turn out to have none.
static void sink_request(struct router *r)
{
    if (!r->out_empty)
        return;
    r->out_empty = false;
    pipe_begin(r->out, PIPE_BARE, false);
    struct pipe_req *q = pipe_open_req(r->out);
    q->slot = r->out_slot;
    q->unit = r->unit_end - 1;
    q->tickets = 1;
    if (r->out_slot >= 0) {
        struct ticket t = {.unit = q->unit, .kind = TICKET_SINK};
        r->slots[r->out_slot].in_flight++;
        router_enqueue(r, r->out_slot, &t, false);
    }
}

static void as_select(struct sink *s, int db, uint64_t ref)
{
    (void)ref;
    struct router *r = of(s);
    if (r->out_empty)
        pipe_select(r->out, db);
    else
        must(pipe_db(r->out) == db);
}

static struct outq *as_out(struct sink *s)
{
    sink_request(of(s));
    return pipe_out(of(s)->out);
}

static void as_cmd(struct sink *s, uint64_t ref)
{
    router_cmd(of(s), ref);
}

static void as_unit_end(struct sink *s, const struct batch_mark *mark)
{
    struct router *r = of(s);
    struct pipe *p = r->out;
    struct unit *u = router_last_unit(r);
    // It may go beside the stream, with a mark from before what is under way.
    if (!batch_mark_after(&r->current, mark))
        r->current = *mark;
    u->mark = r->current;
    u->left -= r->out_empty ? 2 : 1;
    r->unit_open = false;
    r->out = NULL;
    if (!r->out_empty)
        pipe_end(p);
    else if (r->out_wrapped) // the position has to say something else beside its mark
        r->store_now = r->store_again = true;
    router_advance(r);
}

static void as_skip_to(struct sink *s, const struct batch_mark *mark)
{
    struct router *r = of(s);
    if (!r->attached || r->broken)
        return;
    r->current = *mark;
    if (router_drained(r)) {
        r->confirmed = *mark;
        r->has_confirmed = true;
    } else if (!router_last_unit(r)->torn) {
        router_last_unit(r)->mark = *mark;
    } else {
        struct unit u = {.mark = *mark};
        router_push_unit(r, &u);
    }
}

// Where nothing is left to store the wish must not last: what comes later has to be old.
static void as_store_position(struct sink *s)
{
    struct router *r = of(s);
    r->store_now = r->store_now || !router_drained(r) || router_any_to_store(r);
}

static void as_store_again(struct sink *s)
{
    struct router *r = of(s);
    r->store_now = r->store_again = r->store_now || r->has_confirmed;
}

static void ping_idle(struct router *r)
{
    uint64_t now = clock_mono_us();
    for (int i = 0; i < r->nodes_n; i++) {
        struct pipe *p = r->pipes[i];
        if (r->o.ping_us && pipe_idle(p) && now - pipe_heard_us(p) >= r->o.ping_us)
            router_ask_alive(p);
    }
}

bool router_silent(const struct router *r, int node, uint64_t us)
{
    const struct pipe *p = r->pipes[node];
    return !pipe_idle(p) && clock_mono_us() - pipe_heard_us(p) >= us;
}

// The answers of the others would hide that one hangs.
static void give_up_silent(struct router *r)
{
    for (int i = 0; i < r->nodes_n && !r->broken && r->o.silence_us; i++) {
        if (!router_silent(r, i, r->o.silence_us))
            continue;
        struct err e;
        err_set(&e, ERR_TIMEOUT, "no answer for %d s", (int)(r->o.silence_us / 1000000));
        router_node_failed(r, r->pipes[i], &e);
    }
}

static void as_flush(struct sink *s)
{
    struct router *r = of(s);
    if (!r->attached || r->broken || r->out)
        return;
    router_tell(r);
    if (!r->broken)
        give_up_silent(r);
    if (r->broken)
        return;
    router_store_floor(r);
    ping_idle(r);
    for (int i = 0; i < r->nodes_n && !r->broken; i++)
        pipe_flush(r->pipes[i]);
}

static bool as_idle(const struct sink *s)
{
    const struct router *r = of_const(s);
    if (!router_drained(r) || r->position_out || r->unit_open)
        return false;
    if (r->store_now && router_any_to_store(r))
        return false;
    for (int i = 0; i < r->nodes_n; i++)
        if (!pipe_idle(r->pipes[i]))
            return false;
    return true;
}

static bool as_attached(const struct sink *s)
{
    return of_const(s)->attached && !of_const(s)->broken;
}

static void as_stop(struct sink *s)
{
    router_stop(of(s));
}

static void as_detach(struct sink *s)
{
    router_detach(of(s));
}

static void as_get_stats(const struct sink *s, struct sink_stats *out)
{
    *out = of_const(s)->stats;
    router_add_stats(of_const(s), out);
}

static void as_free(struct sink *s)
{
    router_free(of(s));
}

const struct sink_ops router_sink_ops = {
    .room = as_room,
    .nodes = as_nodes,
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

// SPDX-License-Identifier: Apache-2.0
#include "target/scatter.h"

#include <stdlib.h>

#include "base/mem.h"
#include "codec/txn.h"
#include "flow/route.h"
#include "target/stream.h"

// A command for every node stands alone: everything before it is confirmed and stored before it
// begins, and it is before anything follows.
enum barrier { BARRIER_NONE, BARRIER_BEFORE, BARRIER_SENDING, BARRIER_AFTER };

struct scatter {
    struct stream s;
    struct router *router;
    struct sink *sink;
    struct reading now, again; // what is new, and what is written again in between
    struct route route;        // of the command that was translated last
    struct txn_scan scan;
    bool staging; // the command at now.pos is under way in steps
    bool singly;  // in a transaction whose commands are units of their own
    enum barrier barrier;
    int barrier_node;
    int slots[SLOT_COUNT]; // of the unit, each once
    int slots_n;
    uint32_t seen[SLOT_COUNT], round;
    int64_t now_ms, hold_before;
};

static const struct apply_ops ops;

struct apply *scatter_new(const struct apply_options *o, uint64_t from, int db)
{
    struct scatter *a = xcalloc(1, sizeof(*a));
    stream_init(&a->s, &ops, o);
    a->router = o->router;
    a->sink = router_sink(o->router);
    reading_init(&a->now, o, from, db);
    reading_init(&a->again, o, from, db);
    txn_restart(&a->scan);
    return &a->s.base;
}

static void scatter_free(struct apply *base)
{
    struct scatter *a = (struct scatter *)base;
    stream_free(&a->s);
    reading_free(&a->now);
    reading_free(&a->again);
    route_free(&a->route);
    resp_cmd_free(&a->scan.cmd);
    free(a);
}

// ---- writing ----

// p is the command's first byte; NULL: it is not sent as it came.
static void write_known(struct scatter *a, struct reading *r, int n, const char *p)
{
    if (p) {
        outq_borrow(router_out(a->router), p + r->cmd.lead, r->cmd.len - r->cmd.lead);
        router_cmd(a->router, r->pos);
        return;
    }
    for (int k = 0; k < n; k++) {
        struct rewrite_cmd c = translate_known_get(&r->translate, k);
        // The part has its db already.
        if (c.argc == 2 && slice_ieq(c.argv[0], SLICE("select")))
            continue;
        outq_put_command(router_out(a->router), &a->s.text, r->view, c.argc, c.argv);
        router_cmd(a->router, r->pos);
    }
}

// Writes what of the command that was read goes to that slot.
static void write_slot(struct scatter *a, struct reading *r, const char *p, int slot)
{
    struct translate *t = &r->translate;
    for (int i = 0; i < t->n; i++) {
        struct rewrite_cmd c = translate_get(t, i);
        switch (route_command(&a->route, translate_info(t, i), c.argc, c.argv)) {
        case ROUTE_SLOT:
            if (a->route.slot == slot)
                write_known(a, r, t->as_is && !r->cmd.is_inline ? 0 : translate_known(t, i),
                            t->as_is && !r->cmd.is_inline ? p : NULL);
            break;
        case ROUTE_SPLIT:
            for (int k = 0; k < a->route.slots_n; k++)
                if (a->route.slots[k].slot == slot) {
                    struct rewrite_cmd part = route_part(&a->route, k);
                    write_known(a, r, translate_known_of(t, part.argc, part.argv), NULL);
                }
            break;
        case ROUTE_STAGE:
        case ROUTE_EVERY:
        case ROUTE_REFUSED:
            break;
        }
    }
    stream_report_expiries(&a->s, r, slot);
}

bool scatter_emit(struct apply *base, uint64_t from, int db, int64_t now_ms, int slot, size_t as_is)
{
    struct scatter *a = (struct scatter *)base;
    struct reading *r = &a->again;
    const char *p;
    size_t n;
    struct err e;
    if (journal_log_view(a->s.reader, from, &p, &n, &e))
        return false;
    if (as_is && as_is <= n && !a->s.skips) {
        outq_borrow(router_out(a->router), p, as_is);
        router_cmd(a->router, from);
        return true;
    }
    r->view = slice_make(p, n);
    r->pos = from;
    r->db = db;
    translate_set_clock(&r->translate, now_ms, a->hold_before);
    bool in_txn = false;
    do {
        if (resp_cmd_parse(&r->cmd, p, n) != 1)
            return false;
        const struct cmd_info *info = cmd_lookup(r->cmd.argc, r->cmd.argv);
        enum steer steer = stream_steer_of(&a->s, info);
        in_txn = steer == STEER_MULTI || (in_txn && steer != STEER_EXEC);
        if (steer == STEER_SELECT)
            (void)reading_select_db(r);
        else if (steer == STEER_NONE && r->cmd.argc && !stream_is_skipped(&a->s, r->pos) &&
                 translate_command(&r->translate, r->db, info, r->cmd.argc, r->cmd.argv) ==
                     TRANSLATE_SEND)
            write_slot(a, r, p, slot);
        r->pos += r->cmd.len;
        p += r->cmd.len;
        n -= r->cmd.len;
    } while (in_txn);
    return true;
}

// ---- units ----

static enum verdict refuse(struct scatter *a, const char *reason)
{
    return stream_refuse(&a->s, &a->now, reason);
}

static void skip_to(struct scatter *a, uint64_t end)
{
    struct batch_mark mark = reading_mark(&a->now, end);
    sink_skip_to(a->sink, &mark);
}

static void note_slot(struct scatter *a, int slot)
{
    if (a->seen[slot] == a->round)
        return;
    a->seen[slot] = a->round;
    a->slots[a->slots_n++] = slot;
}

static void begin_slots(struct scatter *a)
{
    a->slots_n = 0;
    if (++a->round == 0) {
        memset(a->seen, 0, sizeof(a->seen));
        a->round = 1;
    }
}

struct plan {
    bool every, stage;
    const char *refused;
    bool several_dbs;
    int db; // of the target; -1: none yet
};

// Adds the slots of the command that was translated.
static void plan_command(struct scatter *a, struct reading *r, struct plan *plan)
{
    struct translate *t = &r->translate;
    if (plan->db >= 0 && plan->db != t->db)
        plan->several_dbs = true;
    plan->db = t->db;
    for (int i = 0; i < t->n; i++) {
        struct rewrite_cmd c = translate_get(t, i);
        switch (route_command(&a->route, translate_info(t, i), c.argc, c.argv)) {
        case ROUTE_SLOT:
            note_slot(a, a->route.slot);
            break;
        case ROUTE_SPLIT:
            for (int k = 0; k < a->route.slots_n; k++)
                note_slot(a, a->route.slots[k].slot);
            break;
        case ROUTE_STAGE:
            plan->stage = true;
            break;
        case ROUTE_EVERY:
            plan->every = true;
            break;
        case ROUTE_REFUSED:
            plan->refused = a->route.reason;
            break;
        }
    }
}

// One part for each slot of a->slots. p: bytes of the single command that was read, or NULL for a
// whole transaction.
static void send_parts(struct scatter *a, uint64_t from, uint64_t end, int db, int to_db,
                       bool wrapped, const char *p, bool torn)
{
    struct batch_mark mark = reading_mark(&a->now, end);
    router_unit_open(a->router, from, db, a->now_ms, &mark, torn);
    for (int i = 0; i < a->slots_n; i++) {
        if (router_part(a->router, a->slots[i], to_db, wrapped, 0) != ROUTER_SEND)
            continue;
        if (p)
            write_slot(a, &a->now, p, a->slots[i]);
        else
            (void)scatter_emit(&a->s.base, from, db, a->now_ms, a->slots[i], 0);
        router_part_end(a->router);
    }
    router_unit_close(a->router);
}

// The common case of it: one command, one slot, both known.
static void send_one(struct scatter *a, const char *p, bool wrapped, bool torn)
{
    struct reading *r = &a->now;
    struct translate *t = &r->translate;
    struct batch_mark mark = reading_mark(&a->now, reading_end(r));
    bool as_is = t->as_is && !r->cmd.is_inline;
    // What else is to be said of it is said when it is sent.
    bool mute = !t->rewrite.expiries && !t->rewrite.moves_keys && !r->cmd.lead;
    size_t bytes = as_is && mute ? r->cmd.len : 0;
    router_unit_open(a->router, r->pos, r->db, a->now_ms, &mark, torn);
    if (router_part(a->router, a->route.slot, t->db, wrapped, bytes) == ROUTER_SEND) {
        write_known(a, r, as_is ? 0 : translate_known(t, 0), as_is ? p : NULL);
        stream_report_expiries(&a->s, r, a->route.slot);
        router_part_end(a->router);
    }
    router_unit_close(a->router);
}

// ---- what concerns every node ----

static enum verdict barrier_step(struct scatter *a)
{
    struct translate *t = &a->now.translate;
    struct batch_mark mark = reading_mark(&a->now, a->now.pos);
    switch (a->barrier) {
    case BARRIER_NONE:
        a->barrier = BARRIER_BEFORE;
        a->barrier_node = 0;
        // fall through
    case BARRIER_BEFORE:
        sink_store_position(a->sink);
        sink_flush(a->sink);
        if (!sink_idle(a->sink))
            return NOT_NOW;
        a->barrier = BARRIER_SENDING;
        // fall through
    case BARRIER_SENDING:
        for (; a->barrier_node < sink_nodes(a->sink); a->barrier_node++) {
            if (!sink_unit_begin(a->sink, sink_to_node(a->barrier_node), false))
                return NOT_NOW;
            sink_select(a->sink, t->db, a->now.pos);
            for (int i = 0; i < t->n; i++)
                for (int k = 0, n = translate_known(t, i); k < n; k++) {
                    struct rewrite_cmd c = translate_known_get(t, k);
                    outq_put_command(sink_out(a->sink), &a->s.text, a->now.view, c.argc, c.argv);
                    sink_cmd(a->sink, a->now.pos);
                }
            // Only when all have it is it done.
            if (a->barrier_node == sink_nodes(a->sink) - 1)
                mark = reading_mark(&a->now, reading_end(&a->now));
            sink_unit_end(a->sink, &mark);
        }
        a->barrier = BARRIER_AFTER;
        // fall through
    case BARRIER_AFTER:
        sink_store_position(a->sink);
        sink_flush(a->sink);
        if (!sink_idle(a->sink))
            return NOT_NOW;
        a->barrier = BARRIER_NONE;
        break;
    }
    return TAKEN;
}

// ---- what reads some slots and writes another ----

static enum verdict stage_step(struct scatter *a)
{
    struct reading *r = &a->now;
    const struct translate *t = &r->translate;
    if (t->n != 1)
        return refuse(a, "its keys lie in several slots of the cluster, and it takes several "
                         "commands to say it there");
    if (!router_drained(a->router))
        return NOT_NOW;
    struct rewrite_cmd c = translate_get(t, 0);
    struct apply_stage s = {.route = &a->route,
                            .argc = c.argc,
                            .argv = c.argv,
                            .db = t->db,
                            .ref = r->pos,
                            .end = reading_end(r)};
    enum apply_staged done = a->s.o.stage(a->s.o.ctx, &s);
    a->staging = done == APPLY_STAGE_WAIT;
    if (done == APPLY_STAGE_DONE) {
        a->s.stats.staged++;
        if (t->argc >= 2)
            stream_report_expiries(&a->s, r, slot_of(t->argv[1]));
    } else if (done == APPLY_STAGE_REFUSED) {
        a->s.stats.filtered++;
    }
    return done == APPLY_STAGE_WAIT ? NOT_NOW : done == APPLY_STAGE_STOP ? STOP : TAKEN;
}

// ---- reading ----

static bool wrapped_alone(const struct scatter *a, const struct cmd_info *info)
{
    return a->s.o.wrap_all || !info || !cmd_is_blind(info, a->now.cmd.argc, a->now.cmd.argv);
}

// One command that is a unit, or one of a transaction that cannot stay one.
static enum verdict single(struct scatter *a, const struct cmd_info *info, const char *p, bool torn,
                           bool drop)
{
    struct reading *r = &a->now;
    if ((a->s.skips && stream_is_skipped(&a->s, r->pos)) || drop) {
        a->s.stats.filtered++;
        if (!torn)
            skip_to(a, reading_end(r));
        return TAKEN;
    }
    enum translate_verdict v =
        translate_command(&r->translate, r->db, info, r->cmd.argc, r->cmd.argv);
    if (v != TRANSLATE_SEND) {
        enum verdict done = v == TRANSLATE_REFUSE ? refuse(a, r->translate.reason) : TAKEN;
        a->s.stats.filtered += v == TRANSLATE_DROP;
        if (done == TAKEN && !torn)
            skip_to(a, reading_end(r));
        return done;
    }
    struct plan plan = {.db = -1};
    begin_slots(a);
    plan_command(a, r, &plan);
    if (plan.refused || plan.stage) {
        enum verdict done = plan.refused ? refuse(a, plan.refused) : stage_step(a);
        if (done == TAKEN && !torn)
            skip_to(a, reading_end(r));
        return done;
    }
    if (plan.every && stream_is_clear(&a->s, r)) {
        enum verdict done = stream_clear(&a->s, r, a->sink);
        if (done == TAKEN && !torn)
            skip_to(a, reading_end(r));
        return done;
    }
    if (plan.every)
        return barrier_step(a);
    if (!router_room(a->router))
        return NOT_NOW;
    struct translate *t = &r->translate;
    bool wrapped = wrapped_alone(a, info);
    if (t->n == 1 && a->slots_n == 1 && a->route.kind == ROUTE_SLOT)
        send_one(a, p, wrapped, torn);
    else
        send_parts(a, r->pos, reading_end(r), r->db, t->db, wrapped, p, torn);
    stream_note_probe(&a->s, r);
    return TAKEN;
}

// Finds the slots of a transaction. Its commands that cannot be applied are refused on the way.
static enum verdict plan_transaction(struct scatter *a, const char *p, size_t len,
                                     struct plan *plan, int *db_after)
{
    struct reading *r = &a->now;
    uint64_t begin = r->pos;
    int db = r->db;
    enum verdict v = TAKEN;
    begin_slots(a);
    for (size_t at = 0; at < len && v == TAKEN; at += r->cmd.len) {
        if (resp_cmd_parse(&r->cmd, p + at, len - at) != 1)
            break;
        r->pos = begin + at;
        const struct cmd_info *info = cmd_lookup(r->cmd.argc, r->cmd.argv);
        enum steer steer = stream_steer_of(&a->s, info);
        if (steer == STEER_SELECT && !reading_select_db(r))
            v = refuse(a, "SELECT of a db that is no number");
        if (steer != STEER_NONE || !r->cmd.argc)
            continue;
        a->s.stats.received++;
        if (stream_is_skipped(&a->s, r->pos) ||
            (a->s.o.turn && turn_drops(a->s.o.turn, info, &r->cmd))) {
            a->s.stats.filtered++;
            continue;
        }
        enum translate_verdict t =
            translate_command(&r->translate, r->db, info, r->cmd.argc, r->cmd.argv);
        a->s.stats.filtered += t == TRANSLATE_DROP;
        if (t == TRANSLATE_REFUSE)
            v = refuse(a, r->translate.reason);
        if (t != TRANSLATE_SEND)
            continue;
        const char *refused = plan->refused;
        plan->refused = NULL;
        plan_command(a, r, plan);
        if (plan->refused)
            v = refuse(a, plan->refused);
        else
            plan->refused = refused;
    }
    *db_after = r->db;
    r->pos = begin;
    r->db = db;
    return v;
}

// It was taken apart before: by its marks a part of it is applied. Why it was so may be gone, as
// when an operator has let a command go; the rest is applied as it was begun.
static bool begun_singly(const struct scatter *a, uint64_t from, uint64_t end)
{
    for (int i = 0; i < a->slots_n; i++) {
        uint64_t mark = router_slot_mark(a->router, a->slots[i]);
        if (mark > from && mark < end)
            return true;
    }
    return false;
}

// MULTI was read. *taken: bytes that are dealt with. Errors negative.
static int transaction(struct scatter *a, const char *p, size_t n, size_t *taken, struct err *e)
{
    struct reading *r = &a->now;
    size_t len;
    int db_after, rc = txn_length(&a->scan, r->pos, p, n, &len);
    if (rc)
        return err_set(e, rc, "offset %llu of the stream begins no transaction",
                       (unsigned long long)r->pos);
    if (len == 0 || !router_room(a->router))
        return NOT_NOW;
    struct plan plan = {.db = -1};
    struct apply_stats before = a->s.stats;
    enum verdict v = plan_transaction(a, p, len, &plan, &db_after);
    if (v != TAKEN) {
        a->s.stats = before;
        return (int)v;
    }
    if (plan.every || plan.stage || plan.several_dbs || !a->s.o.transactions ||
        begun_singly(a, r->pos, r->pos + len)) {
        // One after another, MULTI and EXEC left out.
        a->s.stats = before;
        a->s.stats.split += a->s.o.transactions;
        a->singly = true;
        if (resp_cmd_parse(&r->cmd, p, n) == 1)
            *taken = r->cmd.len;
        return TAKEN;
    }
    uint64_t from = r->pos;
    int db = r->db;
    r->db = db_after;
    if (a->slots_n == 0)
        skip_to(a, from + len);
    else
        send_parts(a, from, from + len, db, plan.db, true, NULL, false);
    a->s.stats.split += a->slots_n > 1;
    *taken = len;
    return TAKEN;
}

static enum verdict check_turn(struct scatter *a, enum steer steer, const struct cmd_info *info,
                               const char *p, size_t n, bool *drop)
{
    struct reading *r = &a->now;
    *drop = false;
    if (a->barrier || a->s.clearing)
        return TAKEN;
    if (!a->singly)
        return stream_check_turn(&a->s, r, steer, info, p, n, drop);
    *drop = a->s.o.turn && steer == STEER_NONE && turn_drops(a->s.o.turn, info, &r->cmd);
    return TAKEN;
}

// p is the command's first byte, n what has come from there on.
static int take(struct stream *s, const char *p, size_t n, size_t *taken, struct err *e)
{
    struct scatter *a = (struct scatter *)s;
    struct reading *r = &a->now;
    const struct cmd_info *info = r->cmd.argc ? cmd_lookup(r->cmd.argc, r->cmd.argv) : NULL;
    enum steer steer = stream_steer_of(s, info);
    // The floor must not stand within a transaction.
    bool torn = a->singly && steer != STEER_EXEC;
    if (!r->cmd.argc) {
        if (!torn)
            skip_to(a, reading_end(r));
        return TAKEN;
    }
    bool drop;
    enum verdict v = check_turn(a, steer, info, p, n, &drop);
    if (v != TAKEN)
        return (int)v;
    if (steer == STEER_MULTI && !a->singly)
        return transaction(a, p, n, taken, e);
    if (steer == STEER_NONE) {
        v = single(a, info, p, torn, drop);
        s->stats.received += v == TAKEN;
    } else if (steer == STEER_SELECT && !reading_select_db(r)) {
        v = refuse(a, "SELECT of a db that is no number");
    } else if (steer == STEER_REPLCONF) {
        stream_replconf(s, r);
    }
    if (v == TAKEN && steer != STEER_NONE && !torn)
        skip_to(a, reading_end(r));
    if (v == TAKEN && steer == STEER_EXEC)
        a->singly = false;
    return (int)v;
}

static int scatter_pump(struct apply *base, size_t budget, int64_t now_ms, int64_t hold_before,
                        struct err *e)
{
    struct scatter *a = (struct scatter *)base;
    int rc = stream_view(&a->s, &a->now, e);
    if (rc)
        return rc;
    a->now_ms = now_ms;
    a->hold_before = hold_before;
    translate_set_clock(&a->now.translate, now_ms, hold_before);
    return stream_run(&a->s, &a->now, budget, take, e);
}

static uint64_t scatter_position(const struct apply *base)
{
    return ((const struct scatter *)base)->now.pos;
}

// The floor tells nothing of what lies behind it.
static uint64_t scatter_loose_until(const struct apply *base)
{
    const struct scatter *a = (const struct scatter *)base;
    return a->barrier || a->staging || a->s.clearing ? reading_end(&a->now) : a->now.pos;
}

static bool scatter_between_units(const struct apply *base, struct batch_mark *mark)
{
    const struct scatter *a = (const struct scatter *)base;
    *mark = reading_mark(&a->now, a->now.pos);
    return !a->singly && !a->barrier && !a->staging && !a->s.clearing;
}

static const struct apply_ops ops = {
    .free = scatter_free,
    .skip_offset = stream_skip_offset,
    .pump = scatter_pump,
    .position = scatter_position,
    .loose_until = scatter_loose_until,
    .between_units = scatter_between_units,
    .acked = stream_acked,
    .get_stats = stream_get_stats,
};

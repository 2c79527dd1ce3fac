// SPDX-License-Identifier: Apache-2.0
#include "target/scatter.h"

#include <stdlib.h>

#include "base/mem.h"
#include "flow/route.h"
#include "target/translate.h"
#include "target/turn.h"

enum { SKIPS = 64 };

// Commands of the stream that steer it.
enum steer {
    STEER_NONE,
    STEER_SELECT,
    STEER_MULTI,
    STEER_EXEC,
    STEER_PING,
    STEER_REPLCONF,
    STEERS
};

// Reads commands: one for what is new, one for what is written again in between.
struct reading {
    struct resp_cmd cmd;
    struct translate translate;
    struct route route;
    struct slice view; // journal bytes that commands are read from
    uint64_t pos;      // where the command begins
    int db;            // selected by the source
};

// A command for every node stands alone: everything before it is confirmed and stored before it
// begins, and it is before anything follows.
enum barrier { BARRIER_NONE, BARRIER_BEFORE, BARRIER_SENDING, BARRIER_AFTER };

struct scatter {
    struct apply base;
    struct apply_options o;
    struct router *router;
    struct sink *sink;
    struct journal_reader *reader;
    struct reading now, again;
    const struct cmd_info *steer[STEERS];
    // Looking for the EXEC of the MULTI at txn_from: so many bytes hold none.
    struct resp_cmd scan;
    uint64_t txn_from;
    size_t txn_scanned;
    bool staging; // the command at now.pos is under way in steps
    bool singly;  // in a transaction whose commands are units of their own
    enum barrier barrier;
    int barrier_node;
    struct buf text;
    int slots[SLOT_COUNT]; // of the unit, each once
    int slots_n;
    uint32_t seen[SLOT_COUNT], round;
    uint64_t skip[SKIPS];
    int skips;
    int64_t now_ms, hold_before;
    struct apply_stats stats;
};

static const struct apply_ops ops;

static void reading_init(struct reading *r, const struct apply_options *o, int db)
{
    r->db = db;
    translate_init(&r->translate, &(struct translate_options){
                                      .filter = o->filter,
                                      .dbs = o->dbs,
                                      .databases = o->databases,
                                      .target_version = o->target_version,
                                      .target_is_valkey = o->target_is_valkey,
                                      .source_is_valkey = o->source_is_valkey,
                                  });
}

static void reading_free(struct reading *r)
{
    resp_cmd_free(&r->cmd);
    translate_free(&r->translate);
    route_free(&r->route);
}

struct apply *scatter_new(const struct apply_options *o, uint64_t from, int db)
{
    static const struct slice names[STEERS] = {
        [STEER_NONE] = {"", 0},       [STEER_SELECT] = {"select", 6},
        [STEER_MULTI] = {"multi", 5}, [STEER_EXEC] = {"exec", 4},
        [STEER_PING] = {"ping", 4},   [STEER_REPLCONF] = {"replconf", 8},
    };
    struct scatter *a = xcalloc(1, sizeof(*a));
    a->base.ops = &ops;
    a->o = *o;
    a->router = o->router;
    a->sink = router_sink(o->router);
    a->reader = journal_reader_open(o->journal);
    reading_init(&a->now, o, db);
    reading_init(&a->again, o, db);
    a->now.pos = from;
    a->txn_from = UINT64_MAX;
    for (int i = 1; i < STEERS; i++) {
        a->steer[i] = cmd_by_name(names[i]);
        must(a->steer[i]);
    }
    return &a->base;
}

static void scatter_free(struct apply *base)
{
    struct scatter *a = (struct scatter *)base;
    journal_reader_close(a->reader);
    reading_free(&a->now);
    reading_free(&a->again);
    resp_cmd_free(&a->scan);
    buf_free(&a->text);
    free(a);
}

static void scatter_skip_offset(struct apply *base, uint64_t ref)
{
    struct scatter *a = (struct scatter *)base;
    a->skip[a->skips++ % SKIPS] = ref;
}

static bool is_skipped(const struct scatter *a, uint64_t ref)
{
    for (int i = 0; i < a->skips && i < SKIPS; i++)
        if (a->skip[i] == ref)
            return true;
    return false;
}

static enum steer steer_of(const struct scatter *a, const struct cmd_info *info)
{
    for (int i = 1; info && i < STEERS; i++)
        if (a->steer[i] == info)
            return (enum steer)i;
    return STEER_NONE;
}

static bool select_db(struct reading *r)
{
    int64_t db;
    if (r->cmd.argc != 2 || !slice_i64(r->cmd.argv[1], &db) || db < 0 || db > INT32_MAX)
        return false;
    r->db = (int)db;
    return true;
}

static uint64_t end_of(const struct reading *r)
{
    return r->pos + r->cmd.len;
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
        outq_put_command(router_out(a->router), &a->text, r->view, c.argc, c.argv);
        router_cmd(a->router, r->pos);
    }
}

static void report_expiries(struct scatter *a, struct reading *r, int slot)
{
    const struct translate *t = &r->translate;
    const struct rewrite *w = &t->rewrite;
    for (int i = 0; i < w->expiries; i++)
        if (w->expiry[i].held && slot_of(w->expiry[i].key) == slot)
            a->o.held(a->o.ctx, t->db, w->expiry[i].key, w->expiry[i].field, w->expiry[i].true_ms);
    if (w->moves_keys && t->argc >= 2 && slot_of(t->argv[1]) == slot)
        a->o.moved(a->o.ctx, t->db, t->argc, t->argv);
}

// Writes what of the command that was read goes to that slot.
static void write_slot(struct scatter *a, struct reading *r, const char *p, int slot)
{
    struct translate *t = &r->translate;
    for (int i = 0; i < t->n; i++) {
        struct rewrite_cmd c = translate_get(t, i);
        const struct cmd_info *info = cmd_lookup(c.argc, c.argv);
        switch (route_command(&r->route, info, c.argc, c.argv)) {
        case ROUTE_SLOT:
            if (r->route.slot == slot)
                write_known(a, r, t->as_is && !r->cmd.is_inline ? 0 : translate_known(t, i),
                            t->as_is && !r->cmd.is_inline ? p : NULL);
            break;
        case ROUTE_SPLIT:
            for (int k = 0; k < r->route.slots_n; k++)
                if (r->route.slots[k].slot == slot) {
                    struct rewrite_cmd part = route_part(&r->route, k);
                    write_known(a, r, translate_known_of(t, part.argc, part.argv), NULL);
                }
            break;
        case ROUTE_STAGE:
        case ROUTE_EVERY:
        case ROUTE_REFUSED:
            break;
        }
    }
    report_expiries(a, r, slot);
}

// Reads the command at r->pos; p are its bytes. 1, 0 when it is not whole, or an error.
static int read_command(struct reading *r, const char *p, size_t n)
{
    return resp_cmd_parse(&r->cmd, p, n);
}

bool scatter_emit(struct apply *base, uint64_t from, int db, int64_t now_ms, int slot)
{
    struct scatter *a = (struct scatter *)base;
    struct reading *r = &a->again;
    const char *p;
    size_t n;
    struct err e;
    if (journal_log_view(a->reader, from, &p, &n, &e))
        return false;
    r->view = slice_make(p, n);
    r->pos = from;
    r->db = db;
    translate_set_clock(&r->translate, now_ms, a->hold_before);
    bool in_txn = false;
    do {
        if (read_command(r, p, n) != 1)
            return false;
        const struct cmd_info *info = cmd_lookup(r->cmd.argc, r->cmd.argv);
        enum steer steer = steer_of(a, info);
        in_txn = steer == STEER_MULTI || (in_txn && steer != STEER_EXEC);
        if (steer == STEER_SELECT)
            (void)select_db(r);
        else if (steer == STEER_NONE && r->cmd.argc && !is_skipped(a, r->pos) &&
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

enum verdict { TAKEN, NOT_NOW, STOP };

static struct batch_mark mark_at(const struct scatter *a, uint64_t end)
{
    return (struct batch_mark){.offset = end, .db = a->now.db};
}

static enum verdict refuse(struct scatter *a, const char *reason)
{
    if (!a->o.refused(a->o.ctx, a->now.pos, slice_cstr(reason)))
        return STOP;
    a->stats.filtered++;
    return TAKEN;
}

static void skip_to(struct scatter *a, uint64_t end)
{
    struct batch_mark mark = mark_at(a, end);
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
        switch (route_command(&r->route, cmd_lookup(c.argc, c.argv), c.argc, c.argv)) {
        case ROUTE_SLOT:
            note_slot(a, r->route.slot);
            break;
        case ROUTE_SPLIT:
            for (int k = 0; k < r->route.slots_n; k++)
                note_slot(a, r->route.slots[k].slot);
            break;
        case ROUTE_STAGE:
            plan->stage = true;
            break;
        case ROUTE_EVERY:
            plan->every = true;
            break;
        case ROUTE_REFUSED:
            plan->refused = r->route.reason;
            break;
        }
    }
}

// One part for each slot of a->slots. p: bytes of the single command that was read, or NULL for a
// whole transaction.
static void send_parts(struct scatter *a, uint64_t from, uint64_t end, int db, int to_db,
                       bool wrapped, const char *p, bool torn)
{
    struct batch_mark mark = mark_at(a, end);
    router_unit_open(a->router, from, db, a->now_ms, &mark, torn);
    for (int i = 0; i < a->slots_n; i++) {
        if (router_part(a->router, a->slots[i], to_db, wrapped) != ROUTER_SEND)
            continue;
        if (p)
            write_slot(a, &a->now, p, a->slots[i]);
        else
            (void)scatter_emit(&a->base, from, db, a->now_ms, a->slots[i]);
        router_part_end(a->router);
    }
    router_unit_close(a->router);
}

// The common case of it: one command, one slot, both known.
static void send_one(struct scatter *a, const char *p, bool wrapped, bool torn)
{
    struct reading *r = &a->now;
    struct translate *t = &r->translate;
    struct batch_mark mark = mark_at(a, end_of(r));
    bool as_is = t->as_is && !r->cmd.is_inline;
    router_unit_open(a->router, r->pos, r->db, a->now_ms, &mark, torn);
    if (router_part(a->router, r->route.slot, t->db, wrapped) == ROUTER_SEND) {
        write_known(a, r, as_is ? 0 : translate_known(t, 0), as_is ? p : NULL);
        report_expiries(a, r, r->route.slot);
        router_part_end(a->router);
    }
    router_unit_close(a->router);
}

// ---- what concerns every node ----

static enum verdict barrier_step(struct scatter *a)
{
    struct translate *t = &a->now.translate;
    struct batch_mark mark = mark_at(a, a->now.pos);
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
                    outq_put_command(sink_out(a->sink), &a->text, a->now.view, c.argc, c.argv);
                    sink_cmd(a->sink, a->now.pos);
                }
            // Only when all have it is it done.
            if (a->barrier_node == sink_nodes(a->sink) - 1)
                mark = mark_at(a, end_of(&a->now));
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
    struct apply_stage s = {.route = &r->route,
                            .argc = c.argc,
                            .argv = c.argv,
                            .db = t->db,
                            .ref = r->pos,
                            .end = end_of(r)};
    enum apply_staged done = a->o.stage(a->o.ctx, &s);
    a->staging = done == APPLY_STAGE_WAIT;
    if (done == APPLY_STAGE_DONE) {
        a->stats.staged++;
        if (t->argc >= 2)
            report_expiries(a, r, slot_of(t->argv[1]));
    } else if (done == APPLY_STAGE_REFUSED) {
        a->stats.filtered++;
    }
    return done == APPLY_STAGE_WAIT ? NOT_NOW : done == APPLY_STAGE_STOP ? STOP : TAKEN;
}

// ---- reading ----

static bool wrapped_alone(const struct scatter *a, const struct cmd_info *info)
{
    return a->o.wrap_all || !info || !cmd_is_blind(info, a->now.cmd.argc, a->now.cmd.argv);
}

// One command that is a unit, or one of a transaction that cannot stay one.
static enum verdict single(struct scatter *a, const struct cmd_info *info, const char *p, bool torn,
                           bool drop)
{
    struct reading *r = &a->now;
    if ((a->skips && is_skipped(a, r->pos)) || drop) {
        a->stats.filtered++;
        if (!torn)
            skip_to(a, end_of(r));
        return TAKEN;
    }
    enum translate_verdict v =
        translate_command(&r->translate, r->db, info, r->cmd.argc, r->cmd.argv);
    if (v != TRANSLATE_SEND) {
        enum verdict done = v == TRANSLATE_REFUSE ? refuse(a, r->translate.reason) : TAKEN;
        a->stats.filtered += v == TRANSLATE_DROP;
        if (done == TAKEN && !torn)
            skip_to(a, end_of(r));
        return done;
    }
    struct plan plan = {.db = -1};
    begin_slots(a);
    plan_command(a, r, &plan);
    if (plan.refused || plan.stage) {
        enum verdict done = plan.refused ? refuse(a, plan.refused) : stage_step(a);
        if (done == TAKEN && !torn)
            skip_to(a, end_of(r));
        return done;
    }
    if (plan.every)
        return barrier_step(a);
    if (!router_room(a->router))
        return NOT_NOW;
    struct translate *t = &r->translate;
    bool wrapped = wrapped_alone(a, info);
    if (t->n == 1 && a->slots_n == 1 && r->route.kind == ROUTE_SLOT)
        send_one(a, p, wrapped, torn);
    else
        send_parts(a, r->pos, end_of(r), r->db, t->db, wrapped, p, torn);
    if (a->o.probe_key.n && t->argc >= 3 && slice_eq(t->argv[1], a->o.probe_key) &&
        slice_ieq(t->argv[0], SLICE("set")))
        a->o.probe_sent(a->o.ctx, end_of(r), t->argv[2]);
    return TAKEN;
}

// From MULTI at p on: the length of the transaction, 0 when its EXEC has not come. Goes on where it
// was: a transaction may come in many pieces.
static int transaction_length(struct scatter *a, const char *p, size_t n, size_t *len)
{
    *len = 0;
    if (a->txn_from != a->now.pos) {
        a->txn_from = a->now.pos;
        a->txn_scanned = 0;
    }
    for (;;) {
        struct resp_cmd *c = &a->scan;
        int rc = resp_cmd_parse(c, p + a->txn_scanned, n - a->txn_scanned);
        if (rc <= 0)
            return rc;
        enum steer steer = c->argc ? steer_of(a, cmd_lookup(c->argc, c->argv)) : STEER_NONE;
        if (steer == STEER_EXEC) {
            *len = a->txn_scanned + c->len;
            return 0;
        }
        a->txn_scanned += c->len;
    }
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
        if (read_command(r, p + at, len - at) != 1)
            break;
        r->pos = begin + at;
        const struct cmd_info *info = cmd_lookup(r->cmd.argc, r->cmd.argv);
        enum steer steer = steer_of(a, info);
        if (steer == STEER_SELECT && !select_db(r))
            v = refuse(a, "SELECT of a db that is no number");
        if (steer != STEER_NONE || !r->cmd.argc)
            continue;
        a->stats.received++;
        if (is_skipped(a, r->pos) || (a->o.turn && turn_drops(a->o.turn, info, &r->cmd))) {
            a->stats.filtered++;
            continue;
        }
        enum translate_verdict t =
            translate_command(&r->translate, r->db, info, r->cmd.argc, r->cmd.argv);
        a->stats.filtered += t == TRANSLATE_DROP;
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

// MULTI was read. *taken: bytes that are dealt with.
static enum verdict transaction(struct scatter *a, const char *p, size_t n, size_t *taken,
                                struct err *e, int *rc)
{
    struct reading *r = &a->now;
    size_t len;
    int db_after;
    *taken = 0;
    *rc = transaction_length(a, p, n, &len);
    if (*rc < 0) {
        *rc = err_set(e, *rc, "offset %llu of the stream begins no transaction",
                      (unsigned long long)r->pos);
        return STOP;
    }
    if (len == 0 || !router_room(a->router))
        return NOT_NOW;
    struct plan plan = {.db = -1};
    struct apply_stats before = a->stats;
    enum verdict v = plan_transaction(a, p, len, &plan, &db_after);
    if (v != TAKEN) {
        a->stats = before;
        return v;
    }
    if (plan.every || plan.stage || plan.several_dbs || !a->o.transactions ||
        begun_singly(a, r->pos, r->pos + len)) {
        // One after another, MULTI and EXEC left out.
        a->stats = before;
        a->stats.split += a->o.transactions;
        a->singly = true;
        (void)read_command(r, p, n);
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
    a->stats.split += a->slots_n > 1;
    *taken = len;
    return TAKEN;
}

static bool is_getack(const struct resp_cmd *c)
{
    return c->argc >= 2 && slice_ieq(c->argv[1], SLICE("getack"));
}

// A unit begins: whether it is its turn. *drop: it is not to be applied.
static enum verdict check_turn(struct scatter *a, enum steer steer, const struct cmd_info *info,
                               const char *p, size_t n, bool *drop)
{
    struct reading *r = &a->now;
    *drop = false;
    if (!a->o.turn || (steer != STEER_NONE && steer != STEER_MULTI))
        return TAKEN;
    if (a->singly) {
        *drop = steer == STEER_NONE && turn_drops(a->o.turn, info, &r->cmd);
        return TAKEN;
    }
    switch (steer == STEER_MULTI ? turn_transaction(a->o.turn, r->pos, p, n)
                                 : turn_command(a->o.turn, info, &r->cmd, r->pos, p, n)) {
    case TURN_TAKE:
        break;
    case TURN_DROP:
        *drop = true;
        break;
    case TURN_WAIT:
        return NOT_NOW;
    case TURN_REFUSE:
        *drop = true;
        return refuse(a, turn_reason(a->o.turn));
    }
    return TAKEN;
}

// One whole command, or a transaction; p is its first byte. *taken: how many bytes were dealt with.
static enum verdict take(struct scatter *a, const char *p, size_t n, size_t *taken, struct err *e,
                         int *rc)
{
    struct reading *r = &a->now;
    const struct cmd_info *info = cmd_lookup(r->cmd.argc, r->cmd.argv);
    enum steer steer = steer_of(a, info);
    bool drop;
    enum verdict v = a->barrier ? TAKEN : check_turn(a, steer, info, p, n, &drop);
    drop = !a->barrier && drop;
    *taken = r->cmd.len;
    if (v != TAKEN)
        return v;
    if (steer == STEER_MULTI && !a->singly)
        return transaction(a, p, n, taken, e, rc);
    // The floor must not stand within a transaction.
    bool torn = a->singly && steer != STEER_EXEC;
    if (steer == STEER_NONE) {
        v = single(a, info, p, torn, drop);
        a->stats.received += v == TAKEN;
    } else if (steer == STEER_SELECT && !select_db(r)) {
        v = refuse(a, "SELECT of a db that is no number");
    } else if (steer == STEER_REPLCONF && is_getack(&r->cmd)) {
        a->o.getack(a->o.ctx);
    }
    if (v == TAKEN && steer != STEER_NONE && !torn)
        skip_to(a, end_of(r));
    if (v == TAKEN && steer == STEER_EXEC)
        a->singly = false;
    return v;
}

static int scatter_pump(struct apply *base, size_t budget, int64_t now_ms, int64_t hold_before,
                        struct err *e)
{
    struct scatter *a = (struct scatter *)base;
    struct reading *r = &a->now;
    const char *p;
    size_t n, done = 0;
    int rc = journal_log_view(a->reader, r->pos, &p, &n, e);
    if (rc)
        return rc;
    r->view = slice_make(p, n);
    a->now_ms = now_ms;
    a->hold_before = hold_before;
    translate_set_clock(&r->translate, now_ms, hold_before);
    while (done < n) {
        if (done >= budget)
            return APPLY_MORE_NOW;
        rc = read_command(r, p + done, n - done);
        if (rc < 0)
            return err_set(e, rc, "offset %llu of the stream is not a command",
                           (unsigned long long)r->pos);
        if (rc == 0)
            break;
        size_t taken = r->cmd.len;
        if (r->cmd.argc) {
            rc = 0;
            enum verdict v = take(a, p + done, n - done, &taken, e, &rc);
            if (rc < 0)
                return rc;
            if (v == STOP)
                return APPLY_STOPPED;
            if (v == NOT_NOW)
                return APPLY_WAIT;
        } else if (!a->singly) {
            skip_to(a, end_of(r));
        }
        r->pos += taken;
        done += taken;
    }
    return APPLY_WAIT;
}

static uint64_t scatter_position(const struct apply *base)
{
    return ((const struct scatter *)base)->now.pos;
}

static bool scatter_between_units(const struct apply *base, struct batch_mark *mark)
{
    const struct scatter *a = (const struct scatter *)base;
    *mark = mark_at(a, a->now.pos);
    return !a->singly && !a->barrier && !a->staging;
}

static void scatter_acked(struct apply *base, uint64_t position)
{
    journal_log_release(((struct scatter *)base)->reader, position);
}

static void scatter_get_stats(const struct apply *base, struct apply_stats *out)
{
    *out = ((const struct scatter *)base)->stats;
}

static const struct apply_ops ops = {
    .free = scatter_free,
    .skip_offset = scatter_skip_offset,
    .pump = scatter_pump,
    .position = scatter_position,
    .between_units = scatter_between_units,
    .acked = scatter_acked,
    .get_stats = scatter_get_stats,
};

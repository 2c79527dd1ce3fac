// SPDX-License-Identifier: Apache-2.0
#include "target/apply.h"

#include <stdlib.h>

#include "base/mem.h"
#include "target/position.h"
#include "target/stream.h"

enum {
    // Bytes waiting in the journal: from here on the lane catches up, until it is nearly there.
    BEHIND_BYTES = 1 << 20,
    CAUGHT_UP_BYTES = 64 << 10,
};

// Into one connection, one command after another.
struct serial {
    struct stream s;
    struct reading now;
    bool in_txn; // between the source's MULTI and EXEC
    bool unit_open;
    bool catching_up;
    bool unit_bare;
    uint64_t loose_until;
    const struct cmd_info *swapdb;
};

static const struct apply_ops ops;

struct apply *apply_new(const struct apply_options *o, uint64_t from, int db)
{
    struct serial *a = xcalloc(1, sizeof(*a));
    stream_init(&a->s, &ops, o);
    reading_init(&a->now, o, from, db);
    a->swapdb = cmd_by_name(SLICE("swapdb"));
    return &a->s.base;
}

static void serial_free(struct apply *base)
{
    struct serial *a = (struct serial *)base;
    stream_free(&a->s);
    reading_free(&a->now);
    free(a);
}

// Begins the unit that a command needs, unless a source transaction's is open already.
static bool begin_unit(struct serial *a, const struct cmd_info *info)
{
    if (a->unit_open)
        return batcher_unsent(a->s.o.batcher) < (8u << 20);
    bool wrap_all = a->s.o.transactions && (a->in_txn || a->s.o.wrap_all || !a->catching_up);
    bool wrapped = wrap_all || !info || !cmd_is_blind(info, a->now.cmd.argc, a->now.cmd.argv);
    if (!batcher_unit_begin(a->s.o.batcher, wrapped, a->in_txn && a->s.o.transactions))
        return false;
    a->unit_open = true;
    a->unit_bare = !wrapped;
    return true;
}

// Everything up to end is dealt with; a mark inside a source transaction would tear it.
static void end_command(struct serial *a, uint64_t end)
{
    if (a->in_txn && a->s.o.transactions)
        return;
    struct batch_mark mark = reading_mark(&a->now, end);
    if (a->unit_open && a->unit_bare)
        a->loose_until = end;
    if (a->unit_open)
        batcher_unit_end(a->s.o.batcher, &mark);
    else
        batcher_skip_to(a->s.o.batcher, &mark);
    a->unit_open = false;
}

// SELECT goes through the batcher, which keeps track of the connection's db.
static void put_command(struct serial *a, struct rewrite_cmd c)
{
    int64_t db;
    if (c.argc == 2 && slice_ieq(c.argv[0], SLICE("select")) && slice_i64(c.argv[1], &db)) {
        batcher_select(a->s.o.batcher, (int)db, a->now.pos);
        return;
    }
    outq_put_command(batcher_out(a->s.o.batcher), &a->s.text, a->now.view, c.argc, c.argv);
    batcher_cmd(a->s.o.batcher, a->now.pos);
}

// The position record must not leave db 0; the end of the transaction writes it again.
static void drop_position(struct serial *a)
{
    batcher_select(a->s.o.batcher, 0, a->now.pos);
    for (size_t i = 0; i < sizeof(a->s.o.replids) / sizeof(a->s.o.replids[0]); i++) {
        if (!a->s.o.replids[i] || !a->s.o.replids[i][0])
            continue;
        buf_clear(&a->s.text);
        position_put_del(&a->s.text, a->s.o.replids[i]);
        outq_put(batcher_out(a->s.o.batcher), a->s.text.p, a->s.text.n);
        batcher_cmd(a->s.o.batcher, a->now.pos);
    }
}

static void put_translation(struct serial *a)
{
    struct translate *t = &a->now.translate;
    for (int i = 0; i < t->n; i++) {
        int n = translate_known(t, i);
        for (int k = 0; k < n; k++)
            put_command(a, translate_known_get(t, k));
    }
}

// p is the command's first byte. What needs no change is sent from there.
static enum verdict send_command(struct serial *a, const char *p)
{
    const struct translate *t = &a->now.translate;
    if (!begin_unit(a, t->info))
        return NOT_NOW;
    if (t->info == a->swapdb)
        drop_position(a);
    batcher_select(a->s.o.batcher, t->db, a->now.pos);
    if (t->as_is && !a->now.cmd.is_inline) {
        outq_borrow(batcher_out(a->s.o.batcher), p + a->now.cmd.lead,
                    a->now.cmd.len - a->now.cmd.lead);
        batcher_cmd(a->s.o.batcher, a->now.pos);
    } else {
        put_translation(a);
    }
    stream_report_expiries(&a->s, &a->now, -1);
    stream_note_probe(&a->s, &a->now);
    return TAKEN;
}

static enum verdict data_command(struct serial *a, const struct cmd_info *info, const char *p)
{
    if ((a->s.skips && stream_is_skipped(&a->s, a->now.pos)) ||
        (a->in_txn && a->s.o.turn && turn_drops(a->s.o.turn, info, &a->now.cmd))) {
        a->s.stats.filtered++;
        return TAKEN;
    }
    switch (
        translate_command(&a->now.translate, a->now.db, info, a->now.cmd.argc, a->now.cmd.argv)) {
    case TRANSLATE_SEND:
        break;
    case TRANSLATE_DROP:
        a->s.stats.filtered++;
        return TAKEN;
    case TRANSLATE_REFUSE:
        return stream_refuse(&a->s, &a->now, a->now.translate.reason);
    }
    if (stream_is_clear(&a->s, &a->now))
        return stream_clear(&a->s, &a->now, batcher_sink(a->s.o.batcher));
    return send_command(a, p);
}

// p is the command's first byte, n what has come from there on.
static int take(struct stream *s, const char *p, size_t n, size_t *taken, struct err *e)
{
    struct serial *a = (struct serial *)s;
    struct reading *r = &a->now;
    (void)taken, (void)e;
    if (!r->cmd.argc) {
        end_command(a, reading_end(r));
        return TAKEN;
    }
    const struct cmd_info *info = cmd_lookup(r->cmd.argc, r->cmd.argv);
    enum steer steer = stream_steer_of(s, info);
    bool drop = false;
    enum verdict v =
        a->in_txn || s->clearing ? TAKEN : stream_check_turn(s, r, steer, info, p, n, &drop);
    if (v != TAKEN)
        return (int)v;
    switch (steer) {
    case STEER_SELECT:
        v = reading_select_db(r) ? TAKEN : stream_refuse(s, r, "SELECT of a db that is no number");
        break;
    case STEER_MULTI:
        // Such a command is carried out over another connection, between what is confirmed.
        a->in_txn = !s->o.turn || !turn_clears(s->o.turn);
        s->stats.split += !a->in_txn && s->o.transactions;
        break;
    case STEER_EXEC:
        a->in_txn = false;
        break;
    case STEER_PING:
        break;
    case STEER_REPLCONF:
        stream_replconf(s, r);
        break;
    case STEER_NONE:
    case STEERS:
        v = drop ? TAKEN : data_command(a, info, p);
        s->stats.filtered += drop;
        s->stats.received += v == TAKEN;
        break;
    }
    if (v == TAKEN)
        end_command(a, reading_end(r));
    return (int)v;
}

static int serial_pump(struct apply *base, size_t budget, int64_t now_ms, int64_t hold_before,
                       struct err *e)
{
    struct serial *a = (struct serial *)base;
    int rc = stream_view(&a->s, &a->now, e);
    if (rc)
        return rc;
    translate_set_clock(&a->now.translate, now_ms, hold_before);
    if (a->now.view.n >= BEHIND_BYTES)
        a->catching_up = true;
    else if (a->now.view.n <= CAUGHT_UP_BYTES)
        a->catching_up = false;
    return stream_run(&a->s, &a->now, budget, take, e);
}

static uint64_t serial_position(const struct apply *base)
{
    const struct serial *a = (const struct serial *)base;
    return a->now.pos;
}

static uint64_t serial_loose_until(const struct apply *base)
{
    const struct serial *a = (const struct serial *)base;
    return a->s.clearing ? reading_end(&a->now) : a->loose_until;
}

int apply_command_at(struct journal_reader *r, uint64_t ref, struct buf *command, struct err *e)
{
    const char *p;
    size_t n;
    int rc = journal_log_view(r, ref, &p, &n, e);
    if (rc)
        return rc;
    struct resp_cmd c = {0};
    rc = resp_cmd_parse(&c, p, n);
    if (rc == 1)
        resp_put_argv(command, c.argc, c.argv);
    resp_cmd_free(&c);
    return rc == 1 ? 0
                   : err_set(e, ERR_CORRUPT, "no command at offset %llu", (unsigned long long)ref);
}

static bool serial_between_units(const struct apply *base, struct batch_mark *mark)
{
    const struct serial *a = (const struct serial *)base;
    *mark = reading_mark(&a->now, a->now.pos);
    return !a->unit_open && !a->in_txn && !a->s.clearing;
}

static const struct apply_ops ops = {
    .free = serial_free,
    .skip_offset = stream_skip_offset,
    .pump = serial_pump,
    .position = serial_position,
    .loose_until = serial_loose_until,
    .between_units = serial_between_units,
    .acked = stream_acked,
    .get_stats = stream_get_stats,
};

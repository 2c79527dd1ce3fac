// SPDX-License-Identifier: Apache-2.0
#include "target/apply.h"

#include <stdlib.h>

#include "base/mem.h"
#include "target/position.h"
#include "target/translate.h"
#include "target/turn.h"

enum {
    SKIPS = 64,
    // Bytes waiting in the journal: from here on the lane catches up, until it is nearly there.
    BEHIND_BYTES = 1 << 20,
    CAUGHT_UP_BYTES = 64 << 10,
};

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

// Into one connection, one command after another.
struct serial {
    struct apply base;
    struct apply_options o;
    struct journal_reader *reader;
    struct resp_cmd cmd;
    uint64_t pos;      // everything up to here is in the batcher
    struct slice view; // journal bytes that commands are read from
    int db;            // selected by the source
    bool in_txn;       // between the source's MULTI and EXEC
    bool unit_open;
    bool catching_up;
    struct translate translate;
    struct buf text;
    const struct cmd_info *steer[STEERS], *swapdb;
    uint64_t skip[SKIPS];
    int skips;
    struct apply_stats stats;
};

static const struct apply_ops ops;

struct apply *apply_new(const struct apply_options *o, uint64_t from, int db)
{
    static const struct slice names[STEERS] = {
        [STEER_NONE] = {"", 0},       [STEER_SELECT] = {"select", 6},
        [STEER_MULTI] = {"multi", 5}, [STEER_EXEC] = {"exec", 4},
        [STEER_PING] = {"ping", 4},   [STEER_REPLCONF] = {"replconf", 8},
    };
    struct serial *a = xcalloc(1, sizeof(*a));
    a->base.ops = &ops;
    a->o = *o;
    a->reader = journal_reader_open(o->journal);
    a->pos = from;
    a->db = db;
    for (int i = 1; i < STEERS; i++) {
        a->steer[i] = cmd_by_name(names[i]);
        must(a->steer[i]);
    }
    a->swapdb = cmd_by_name(SLICE("swapdb"));
    translate_init(&a->translate, &(struct translate_options){
                                      .filter = o->filter,
                                      .dbs = o->dbs,
                                      .databases = o->databases,
                                      .target_version = o->target_version,
                                      .target_is_valkey = o->target_is_valkey,
                                      .source_is_valkey = o->source_is_valkey,
                                  });
    return &a->base;
}

static void serial_free(struct apply *base)
{
    struct serial *a = (struct serial *)base;
    journal_reader_close(a->reader);
    resp_cmd_free(&a->cmd);
    translate_free(&a->translate);
    buf_free(&a->text);
    free(a);
}

static void serial_skip_offset(struct apply *base, uint64_t ref)
{
    struct serial *a = (struct serial *)base;
    a->skip[a->skips++ % SKIPS] = ref;
}

static bool is_skipped(const struct serial *a, uint64_t ref)
{
    for (int i = 0; i < a->skips && i < SKIPS; i++)
        if (a->skip[i] == ref)
            return true;
    return false;
}

static enum steer steer_of(const struct serial *a, const struct cmd_info *info)
{
    for (int i = 1; i < STEERS; i++)
        if (a->steer[i] == info)
            return (enum steer)i;
    return STEER_NONE;
}

static struct batch_mark mark_at(const struct serial *a, uint64_t end)
{
    return (struct batch_mark){.offset = end, .db = a->db};
}

// Begins the unit that a command needs, unless a source transaction's is open already.
static bool begin_unit(struct serial *a, const struct cmd_info *info)
{
    if (a->unit_open)
        return batcher_unsent(a->o.batcher) < (8u << 20);
    bool wrap_all = a->o.transactions && (a->in_txn || a->o.wrap_all || !a->catching_up);
    bool wrapped = wrap_all || !info || !cmd_is_blind(info, a->cmd.argc, a->cmd.argv);
    if (!batcher_unit_begin(a->o.batcher, wrapped, a->in_txn && a->o.transactions))
        return false;
    a->unit_open = true;
    return true;
}

// Everything up to end is dealt with; a mark inside a source transaction would tear it.
static void end_command(struct serial *a, uint64_t end)
{
    if (a->in_txn && a->o.transactions)
        return;
    struct batch_mark mark = mark_at(a, end);
    if (a->unit_open)
        batcher_unit_end(a->o.batcher, &mark);
    else
        batcher_skip_to(a->o.batcher, &mark);
    a->unit_open = false;
}

static void report_expiries(struct serial *a)
{
    const struct translate *t = &a->translate;
    const struct rewrite *w = &t->rewrite;
    for (int i = 0; i < w->expiries; i++)
        if (w->expiry[i].held)
            a->o.held(a->o.ctx, t->db, w->expiry[i].key, w->expiry[i].field, w->expiry[i].true_ms);
    if (w->moves_keys)
        a->o.moved(a->o.ctx, t->db, t->argc, t->argv);
}

enum verdict { TAKEN, NOT_NOW, STOP };

static enum verdict refuse(struct serial *a, const char *reason)
{
    if (!a->o.refused(a->o.ctx, a->pos, slice_cstr(reason)))
        return STOP;
    a->stats.filtered++;
    return TAKEN;
}

// SELECT goes through the batcher, which keeps track of the connection's db.
static void put_command(struct serial *a, struct rewrite_cmd c)
{
    int64_t db;
    if (c.argc == 2 && slice_ieq(c.argv[0], SLICE("select")) && slice_i64(c.argv[1], &db)) {
        batcher_select(a->o.batcher, (int)db, a->pos);
        return;
    }
    outq_put_command(batcher_out(a->o.batcher), &a->text, a->view, c.argc, c.argv);
    batcher_cmd(a->o.batcher, a->pos);
}

// The position record must not leave db 0; the end of the transaction writes it again.
static void drop_position(struct serial *a)
{
    batcher_select(a->o.batcher, 0, a->pos);
    for (size_t i = 0; i < sizeof(a->o.replids) / sizeof(a->o.replids[0]); i++) {
        if (!a->o.replids[i] || !a->o.replids[i][0])
            continue;
        buf_clear(&a->text);
        position_put_del(&a->text, a->o.replids[i]);
        outq_put(batcher_out(a->o.batcher), a->text.p, a->text.n);
        batcher_cmd(a->o.batcher, a->pos);
    }
}

static void put_translation(struct serial *a)
{
    struct translate *t = &a->translate;
    for (int i = 0; i < t->n; i++) {
        int n = translate_known(t, i);
        for (int k = 0; k < n; k++)
            put_command(a, translate_known_get(t, k));
    }
}

// p is the command's first byte. What needs no change is sent from there.
static enum verdict send_command(struct serial *a, const char *p)
{
    const struct translate *t = &a->translate;
    if (!begin_unit(a, t->info))
        return NOT_NOW;
    if (t->info == a->swapdb)
        drop_position(a);
    batcher_select(a->o.batcher, t->db, a->pos);
    if (t->as_is && !a->cmd.is_inline) {
        outq_borrow(batcher_out(a->o.batcher), p + a->cmd.lead, a->cmd.len - a->cmd.lead);
        batcher_cmd(a->o.batcher, a->pos);
    } else {
        put_translation(a);
    }
    report_expiries(a);
    if (a->o.probe_key.n && t->argc >= 3 && slice_eq(t->argv[1], a->o.probe_key) &&
        slice_ieq(t->argv[0], SLICE("set")))
        a->o.probe_sent(a->o.ctx, a->pos + a->cmd.len, t->argv[2]);
    return TAKEN;
}

static enum verdict data_command(struct serial *a, const struct cmd_info *info, const char *p)
{
    if ((a->skips && is_skipped(a, a->pos)) ||
        (a->in_txn && a->o.turn && turn_drops(a->o.turn, info, &a->cmd))) {
        a->stats.filtered++;
        return TAKEN;
    }
    switch (translate_command(&a->translate, a->db, info, a->cmd.argc, a->cmd.argv)) {
    case TRANSLATE_SEND:
        break;
    case TRANSLATE_DROP:
        a->stats.filtered++;
        return TAKEN;
    case TRANSLATE_REFUSE:
        return refuse(a, a->translate.reason);
    }
    return send_command(a, p);
}

static enum verdict select_db(struct serial *a)
{
    int64_t db;
    if (a->cmd.argc != 2 || !slice_i64(a->cmd.argv[1], &db) || db < 0 || db > INT32_MAX)
        return refuse(a, "SELECT of a db that is no number");
    a->db = (int)db;
    return TAKEN;
}

static bool is_getack(const struct resp_cmd *c)
{
    return c->argc >= 2 && slice_ieq(c->argv[1], SLICE("getack"));
}

// A unit begins: whether it is its turn. *drop: it is not to be applied.
static enum verdict check_turn(struct serial *a, enum steer steer, const struct cmd_info *info,
                               const char *p, size_t n, bool *drop)
{
    *drop = false;
    if (!a->o.turn || a->in_txn || (steer != STEER_NONE && steer != STEER_MULTI))
        return TAKEN;
    switch (steer == STEER_MULTI ? turn_transaction(a->o.turn, a->pos, p, n)
                                 : turn_command(a->o.turn, info, &a->cmd, a->pos, p, n)) {
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

// One whole command; p is its first byte, n what has come from there on.
static enum verdict take(struct serial *a, const char *p, size_t n)
{
    const struct cmd_info *info = cmd_lookup(a->cmd.argc, a->cmd.argv);
    uint64_t end = a->pos + a->cmd.len;
    enum steer steer = steer_of(a, info);
    bool drop;
    enum verdict v = check_turn(a, steer, info, p, n, &drop);
    if (v != TAKEN)
        return v;
    switch (steer) {
    case STEER_SELECT:
        v = select_db(a);
        break;
    case STEER_MULTI:
        a->in_txn = true;
        break;
    case STEER_EXEC:
        a->in_txn = false;
        break;
    case STEER_PING:
        break;
    case STEER_REPLCONF:
        if (is_getack(&a->cmd))
            a->o.getack(a->o.ctx);
        break;
    case STEER_NONE:
    case STEERS:
        v = drop ? TAKEN : data_command(a, info, p);
        a->stats.filtered += drop;
        a->stats.received += v == TAKEN;
        break;
    }
    if (v == TAKEN)
        end_command(a, end);
    return v;
}

static int serial_pump(struct apply *base, size_t budget, int64_t now_ms, int64_t hold_before,
                       struct err *e)
{
    struct serial *a = (struct serial *)base;
    const char *p;
    size_t n, done = 0;
    int rc = journal_log_view(a->reader, a->pos, &p, &n, e);
    if (rc)
        return rc;
    a->view = slice_make(p, n);
    translate_set_clock(&a->translate, now_ms, hold_before);
    if (n >= BEHIND_BYTES)
        a->catching_up = true;
    else if (n <= CAUGHT_UP_BYTES)
        a->catching_up = false;
    while (done < n) {
        if (done >= budget)
            return APPLY_MORE_NOW;
        rc = resp_cmd_parse(&a->cmd, p + done, n - done);
        if (rc < 0)
            return err_set(e, rc, "offset %llu of the stream is not a command",
                           (unsigned long long)a->pos);
        if (rc == 0)
            break;
        if (a->cmd.argc) {
            enum verdict v = take(a, p + done, n - done);
            if (v == STOP)
                return APPLY_STOPPED;
            if (v == NOT_NOW)
                return APPLY_WAIT;
        } else {
            end_command(a, a->pos + a->cmd.len);
        }
        a->pos += a->cmd.len;
        done += a->cmd.len;
    }
    return APPLY_WAIT;
}

static uint64_t serial_position(const struct apply *base)
{
    const struct serial *a = (const struct serial *)base;
    return a->pos;
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
    *mark = mark_at(a, a->pos);
    return !a->unit_open && !a->in_txn;
}

static void serial_acked(struct apply *base, uint64_t position)
{
    struct serial *a = (struct serial *)base;
    journal_log_release(a->reader, position);
}

static void serial_get_stats(const struct apply *base, struct apply_stats *out)
{
    const struct serial *a = (const struct serial *)base;
    *out = a->stats;
}

static const struct apply_ops ops = {
    .free = serial_free,
    .skip_offset = serial_skip_offset,
    .pump = serial_pump,
    .position = serial_position,
    .between_units = serial_between_units,
    .acked = serial_acked,
    .get_stats = serial_get_stats,
};

// SPDX-License-Identifier: Apache-2.0
#include "target/stream.h"

#include "codec/slot.h"

void stream_init(struct stream *s, const struct apply_ops *ops, const struct apply_options *o)
{
    static const struct slice names[STEERS] = {
        [STEER_NONE] = {"", 0},       [STEER_SELECT] = {"select", 6},
        [STEER_MULTI] = {"multi", 5}, [STEER_EXEC] = {"exec", 4},
        [STEER_PING] = {"ping", 4},   [STEER_REPLCONF] = {"replconf", 8},
    };
    s->base.ops = ops;
    s->o = *o;
    s->reader = journal_reader_open(o->journal);
    for (int i = 1; i < STEERS; i++) {
        s->steer[i] = cmd_by_name(names[i]);
        must(s->steer[i]);
    }
}

void stream_free(struct stream *s)
{
    journal_reader_close(s->reader);
    buf_free(&s->text);
}

void reading_init(struct reading *r, const struct apply_options *o, uint64_t from, int db)
{
    r->pos = from;
    r->db = db;
    translate_init(&r->translate, &(struct translate_options){
                                      .filter = o->filter,
                                      .dbs = o->dbs,
                                      .databases = o->databases,
                                      .target_version = o->target_version,
                                      .target_is_valkey = o->target_is_valkey,
                                      .source_is_valkey = o->source_is_valkey,
                                      .scripts = o->scripts,
                                  });
}

void reading_free(struct reading *r)
{
    resp_cmd_free(&r->cmd);
    translate_free(&r->translate);
}

void stream_skip_offset(struct apply *a, uint64_t ref)
{
    struct stream *s = (struct stream *)a;
    s->skip[s->skips++ % STREAM_SKIPS] = ref;
}

void stream_acked(struct apply *a, uint64_t position)
{
    journal_log_release(((struct stream *)a)->reader, position);
}

void stream_get_stats(const struct apply *a, struct apply_stats *out)
{
    *out = ((const struct stream *)a)->stats;
}

bool stream_is_skipped(const struct stream *s, uint64_t ref)
{
    for (int i = 0; i < s->skips && i < STREAM_SKIPS; i++)
        if (s->skip[i] == ref)
            return true;
    return false;
}

enum steer stream_steer_of(const struct stream *s, const struct cmd_info *info)
{
    for (int i = 1; info && i < STEERS; i++)
        if (s->steer[i] == info)
            return (enum steer)i;
    return STEER_NONE;
}

bool reading_select_db(struct reading *r)
{
    int64_t db;
    if (r->cmd.argc != 2 || !slice_i64(r->cmd.argv[1], &db) || db < 0 || db > INT32_MAX)
        return false;
    r->db = (int)db;
    return true;
}

uint64_t reading_end(const struct reading *r)
{
    return r->pos + r->cmd.len;
}

struct batch_mark reading_mark(const struct reading *r, uint64_t end)
{
    return (struct batch_mark){.offset = end, .db = r->db};
}

enum verdict stream_refuse(struct stream *s, const struct reading *r, const char *reason)
{
    if (!s->o.refused(s->o.ctx, r->pos, slice_cstr(reason)))
        return STOP;
    s->stats.filtered++;
    return TAKEN;
}

enum verdict stream_check_turn(struct stream *s, const struct reading *r, enum steer steer,
                               const struct cmd_info *info, const char *p, size_t n, bool *drop)
{
    *drop = false;
    if (!s->o.turn || (steer != STEER_NONE && steer != STEER_MULTI))
        return TAKEN;
    switch (steer == STEER_MULTI ? turn_transaction(s->o.turn, r->pos, p, n)
                                 : turn_command(s->o.turn, info, &r->cmd, r->pos, p, n)) {
    case TURN_TAKE:
        break;
    case TURN_DROP:
        *drop = true;
        break;
    case TURN_WAIT:
        return NOT_NOW;
    case TURN_REFUSE:
        *drop = true;
        return stream_refuse(s, r, turn_reason(s->o.turn));
    }
    return TAKEN;
}

bool stream_is_clear(const struct stream *s, const struct reading *r)
{
    return s->o.turn && turn_is_clear(s->o.turn, r->translate.info);
}

static enum verdict run_clear(struct stream *s, const struct reading *r, struct sink *sink)
{
    bool one = slice_ieq(r->cmd.argv[0], SLICE("flushdb"));
    struct apply_clear c = {
        .slots = turn_own(s->o.turn), .db = one ? r->db : -1, .ref = r->pos, .end = reading_end(r)};
    switch (s->o.clear(s->o.ctx, &c)) {
    case APPLY_STAGE_WAIT:
        return NOT_NOW;
    case APPLY_STAGE_STOP:
        s->clearing = CLEARING_NOTHING;
        return STOP;
    case APPLY_STAGE_REFUSED:
        s->stats.filtered++;
        break;
    case APPLY_STAGE_DONE:
        s->stats.staged++;
        break;
    }
    struct batch_mark mark = reading_mark(r, reading_end(r));
    sink_skip_to(sink, &mark);
    return TAKEN;
}

static enum verdict begin_clear(struct stream *s, const struct reading *r)
{
    switch (turn_clear(s->o.turn, r->pos, reading_end(r))) {
    case TURN_WAIT:
        return NOT_NOW;
    case TURN_REFUSE:
        return stream_refuse(s, r, turn_reason(s->o.turn));
    case TURN_TAKE:
    case TURN_DROP:
        s->clearing = CLEARING_BEFORE;
        break;
    }
    return TAKEN;
}

static bool all_stored(struct sink *sink)
{
    sink_store_position(sink);
    sink_flush(sink);
    return sink_idle(sink);
}

enum verdict stream_clear(struct stream *s, const struct reading *r, struct sink *sink)
{
    enum verdict v;
    switch (s->clearing) {
    case CLEARING_NOTHING:
        v = begin_clear(s, r);
        if (s->clearing == CLEARING_NOTHING)
            return v;
        // fall through
    case CLEARING_BEFORE:
        if (!all_stored(sink))
            return NOT_NOW;
        s->clearing = CLEARING_RUNS;
        // fall through
    case CLEARING_RUNS:
        v = run_clear(s, r, sink);
        if (v != TAKEN)
            return v;
        s->clearing = CLEARING_AFTER;
        // fall through
    case CLEARING_AFTER:
        if (!all_stored(sink))
            return NOT_NOW;
        s->clearing = CLEARING_NOTHING;
        break;
    }
    return TAKEN;
}

void stream_replconf(struct stream *s, const struct reading *r)
{
    if (r->cmd.argc >= 2 && slice_ieq(r->cmd.argv[1], SLICE("getack")))
        s->o.getack(s->o.ctx);
}

void stream_note_probe(struct stream *s, const struct reading *r)
{
    const struct translate *t = &r->translate;
    if (s->o.probe_key.n && t->argc >= 3 && slice_eq(t->argv[1], s->o.probe_key) &&
        slice_ieq(t->argv[0], SLICE("set")))
        s->o.probe_sent(s->o.ctx, reading_end(r), t->argv[2]);
}

static bool is_of(struct slice key, int slot)
{
    return slot < 0 || slot_of(key) == slot;
}

void stream_report_expiries(struct stream *s, const struct reading *r, int slot)
{
    const struct translate *t = &r->translate;
    const struct rewrite *w = &t->rewrite;
    for (int i = 0; i < w->expiries; i++)
        if (w->expiry[i].held && is_of(w->expiry[i].key, slot))
            s->o.held(s->o.ctx, t->db, w->expiry[i].key, w->expiry[i].field, w->expiry[i].true_ms);
    if (w->moves_keys && (slot < 0 || (t->argc >= 2 && is_of(t->argv[1], slot))))
        s->o.moved(s->o.ctx, t->db, t->argc, t->argv);
}

int stream_view(struct stream *s, struct reading *r, struct err *e)
{
    const char *p;
    size_t n;
    int rc = journal_log_view(s->reader, r->pos, &p, &n, e);
    if (rc == 0)
        r->view = slice_make(p, n);
    return rc;
}

int stream_run(struct stream *s, struct reading *r, size_t budget, stream_take_fn take,
               struct err *e)
{
    const char *p = r->view.p;
    size_t n = r->view.n, done = 0;
    while (done < n) {
        if (done >= budget)
            return APPLY_MORE_NOW;
        int rc = resp_cmd_parse(&r->cmd, p + done, n - done);
        if (rc < 0)
            return err_set(e, rc, "offset %llu of the stream is not a command",
                           (unsigned long long)r->pos);
        if (rc == 0)
            break;
        size_t taken = r->cmd.len;
        int v = take(s, p + done, n - done, &taken, e);
        if (v != TAKEN)
            return v < 0 ? v : v == STOP ? APPLY_STOPPED : APPLY_WAIT;
        r->pos += taken;
        done += taken;
    }
    return APPLY_WAIT;
}

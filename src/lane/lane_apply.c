// SPDX-License-Identifier: Apache-2.0
// What the target answers, and what follows from it.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "lane/lane_int.h"
#include "target/scatter.h"

bool target_error_is_transient(struct slice text)
{
    static const char *const words[] = {
        "LOADING", "READONLY",   "CLUSTERDOWN", "TRYAGAIN",    "MASTERDOWN",
        "OOM",     "MISCONF",    "NOREPLICAS",  "MOVED",       "ASK",
        "BUSY ",   "UNKILLABLE", "EXECABORT",   "NOGOODSLAVE", "ERR max number of clients",
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (slice_has_prefix(text, slice_cstr(words[i])))
            return true;
    return slice_has_prefix(text, SLICE("-EXECABORT")) || slice_eq(text, SLICE("BUSY"));
}

int lane_map_db(const struct lane *l, int db)
{
    int to = rewrite_map_db(&l->o.dbs, db);
    return l->server.databases > 0 && to >= l->server.databases ? -1 : to;
}

static int map_db(void *ctx, int db)
{
    return lane_map_db(ctx, db);
}

static void on_getack(void *ctx)
{
    struct lane *l = ctx;
    link_ack_now(l->link);
}

static bool open_dead_letters(struct lane *l, struct err *e)
{
    return l->dead || deadletter_open(&l->dead, l->o.dead_letter_path, e) == 0;
}

void lane_find_dead_letters(struct lane *l)
{
    struct err ignored; // told when the file is needed
    if (access(l->o.dead_letter_path, F_OK) == 0)
        (void)open_dead_letters(l, &ignored);
}

void lane_count_dead_letters(struct lane *l)
{
    struct err e;
    if (l->dead && deadletter_refresh(l->dead, &e) == 0)
        l->dead_letters_kept = deadletter_count(l->dead);
}

static bool keep_dead_letter(struct lane *l, uint64_t ref, struct slice command,
                             struct slice reason)
{
    struct deadletter_entry entry = {.offset = (int64_t)ref,
                                     .rdb = l->load != NULL,
                                     .db = l->has_mark ? lane_map_db(l, l->mark.db) : 0,
                                     .time_ms = clock_unix_ms(),
                                     .command = command,
                                     .reason = reason};
    memcpy(entry.replid, l->id1, sizeof(entry.replid));
    struct err e = {0};
    bool open = open_dead_letters(l, &e);
    if (open &&
        (entry.rdb ? deadletter_has_rdb : deadletter_has)(l->dead, entry.replid, entry.offset))
        return true;
    if (open && deadletter_append(l->dead, &entry, &e) == 0) {
        l->counters.dead_letters++;
        return true;
    }
    err_wrap(&e, "keep a refused command");
    lane_latch_error(l, ref, &e);
    return false;
}

// The command that begins after ref may be repeated in its place without changing the outcome.
static bool is_blind_at(struct lane *l, uint64_t ref)
{
    struct journal_reader *reader = journal_reader_open(l->journal);
    struct buf text = {0};
    struct resp_cmd c = {0};
    struct err e;
    bool blind = false;
    if (apply_command_at(reader, ref, &text, &e) == 0 && resp_cmd_parse(&c, text.p, text.n) == 1) {
        const struct cmd_info *info = cmd_lookup(c.argc, c.argv);
        blind = info && cmd_is_blind(info, c.argc, c.argv);
    }
    resp_cmd_free(&c);
    buf_free(&text);
    journal_reader_close(reader);
    return blind;
}

// An operator has let the command go before, in this process or an earlier one.
static bool was_given_up(struct lane *l, uint64_t ref)
{
    struct err e;
    return open_dead_letters(l, &e) && deadletter_has(l->dead, l->id1, (int64_t)ref);
}

bool lane_dead_letter(struct lane *l, uint64_t ref, struct slice reason)
{
    struct journal_reader *reader = journal_reader_open(l->journal);
    struct buf command = {0};
    struct err e = {0};
    if (!l->load && apply_command_at(reader, ref, &command, &e) != 0)
        log_warn(l->o.tag, "%s", e.msg);
    bool kept = keep_dead_letter(l, ref, buf_slice(&command), reason);
    buf_free(&command);
    journal_reader_close(reader);
    return kept;
}

void lane_skip_offset(struct lane *l, uint64_t ref)
{
    l->skips[l->skips_n++ % LANE_SKIPS] = ref;
    if (l->apply)
        apply_skip_offset(l->apply, ref);
}

bool lane_refused(void *ctx, uint64_t ref, struct slice reason)
{
    struct lane *l = ctx;
    l->counters.cmds_failed++;
    if (!l->o.stop_on_error || was_given_up(l, ref))
        return lane_dead_letter(l, ref, reason);
    struct err e;
    err_set(&e, ERR_UNSUPPORTED, "offset %llu: %.*s", (unsigned long long)ref, (int)reason.n,
            reason.p);
    lane_latch_error(l, ref, &e);
    return false;
}

// Who waits for the target to be as far as the source need not wait for the next tick as well.
static void tell_caught_up(struct lane *l)
{
    struct journal_info ji;
    if (!l->published.lag_bytes || l->mark.offset != apply_position(l->apply))
        return;
    journal_get_info(l->journal, &ji);
    if (ji.has_log && ji.right == l->mark.offset)
        lane_publish(l);
}

static void on_acked(void *ctx, const struct batch_mark *mark, bool stored)
{
    struct lane *l = ctx;
    // The position that is stored may be older than what is confirmed.
    if (!stored || !l->router)
        l->mark = *mark;
    l->has_mark = true;
    if (stored && !mark->loading) {
        l->stored_offset = mark->offset;
        l->stored_db = mark->db;
    }
    l->backoff_ms = 0;
    if (stored && l->router)
        lane_drop_stale_position(l);
    if (stored)
        l->stale_replid[0] = 0;
    if (stored)
        lane_takeback_stored(l, mark);
    if (stored)
        lane_turns_stored(l, mark->offset, mark->loading);
    // In a cluster what lies behind the position that is stored may be needed again.
    bool final = stored || !l->router;
    if (mark->loading) {
        if (l->load && final)
            load_acked(l->load, mark->rdb_index);
    } else if (l->apply) {
        if (final)
            apply_acked(l->apply, mark->offset);
        lane_probe_acked(l, mark->offset);
        tell_caught_up(l);
    }
}

static void on_failed(void *ctx, uint64_t ref, const struct err *why)
{
    struct lane *l = ctx;
    struct slice text = slice_cstr(why->msg);
    struct err e = *why;
    err_wrap(&e, "target %s", l->target_name);
    bool network = why->code != ERR_REPLY;
    if (network || target_error_is_transient(text)) {
        if (!network)
            l->counters.transient_errors++;
        lane_note_error(l, &e);
        lane_back_off(l);
    } else {
        l->counters.cmds_failed++;
        if (ref != UINT64_MAX && !l->load && (!l->o.stop_on_error || was_given_up(l, ref))) {
            // The batch is sent again without it.
            if (lane_dead_letter(l, ref, text)) {
                lane_skip_offset(l, ref);
                log_warn(l->o.tag, "refused for good, kept in %s: %s", l->o.dead_letter_path,
                         e.msg);
            }
            l->retry_ms = 0;
        } else {
            lane_latch_error(l, ref, &e);
        }
    }
    l->counters.target_reconnects++;
    lane_drop_target(l);
}

static void on_cmd_failed(void *ctx, uint64_t ref, struct slice text, bool in_exec)
{
    struct lane *l = ctx;
    struct err e;
    if (l->load) {
        if (target_error_is_transient(text)) {
            err_set(&e, ERR_REPLY, "%.*s", (int)(text.n < 300 ? text.n : 300), text.p);
            on_failed(l, UINT64_MAX, &e);
            return;
        }
        if (l->takeback)
            err_set(&e, ERR_REPLY, "taking back a key: the target answered %.*s",
                    (int)(text.n < 300 ? text.n : 300), text.p);
        else if (load_cmd_failed(l->load, ref, text, &e) == 0)
            return;
        l->counters.cmds_failed++;
        lane_latch_error(l, ref, &e);
        lane_drop_target(l);
        return;
    }
    if (ref == UINT64_MAX) {
        lane_expiry_failed(l, text);
        return;
    }
    if (!in_exec && target_error_is_transient(text)) {
        err_set(&e, ERR_REPLY, "%.*s", (int)(text.n < 300 ? text.n : 300), text.p);
        on_failed(l, ref, &e);
        return;
    }
    // A stretch of blind commands may be sent again after a crash; where the type of a key changes
    // within it, its beginning may not fit the key's later type. What follows in it sets that
    // right.
    if (ref < l->again_until && slice_has_prefix(text, SLICE("WRONGTYPE")) && is_blind_at(l, ref)) {
        log_debug(l->o.tag, "offset %llu was applied before", (unsigned long long)ref);
        return;
    }
    l->counters.cmds_failed++;
    bool kept = lane_dead_letter(l, ref, text);
    if (!kept && !in_exec)
        lane_drop_target(l);
    err_set(&e, ERR_REPLY,
            "target %s refused the command at offset %llu: %.*s (kept in %s; mend it with gunyu "
            "deadletter, then resume)",
            l->target_name, (unsigned long long)ref, (int)(text.n < 200 ? text.n : 200), text.p,
            l->o.dead_letter_path);
    if (l->o.stop_on_error)
        lane_latch_error(l, UINT64_MAX, &e);
    else if (kept)
        log_warn(l->o.tag, "%s", e.msg);
}

static void on_cmd_empty(void *ctx, uint64_t ref)
{
    struct lane *l = ctx;
    struct err e;
    if (!l->load || l->takeback || load_cmd_empty(l->load, ref, &e) == 0)
        return;
    lane_latch_error(l, ref, &e);
    lane_drop_target(l);
}

static int put_position(void *ctx, const struct batch_mark *mark, struct buf *out, int *db)
{
    struct lane *l = ctx;
    struct position *p = &l->position;
    int n = 1;
    if (*db != 0) {
        resp_put_cmd(out, "SELECT 0");
        *db = 0;
        n++;
    }
    lane_note_stale_position(l);
    memcpy(p->replid, l->id1, sizeof(p->replid));
    memcpy(l->record_id, l->id1, sizeof(l->record_id));
    l->epoch_firm = true;
    p->foreign = false;
    p->loading = mark->loading;
    p->offset = (int64_t)mark->offset;
    p->db = mark->loading ? 0 : mark->db;
    p->rdb_index = mark->loading ? mark->rdb_index : 0;
    p->rdb_db = mark->rdb_db;
    if (mark->loading && l->load) {
        p->rdb_index = load_safe_index(l->load, mark->rdb_index, &p->rdb_db);
        p->rdb_version = load_rdb_version(l->load);
    }
    if (mark->loading) {
        struct journal_info ji;
        journal_get_info(l->journal, &ji);
        p->offset = (int64_t)ji.snapshot_offset;
    }
    p->marks = l->router ? l->marks_id : 0;
    p->source = position_source(l->o.tag);
    p->epoch = l->epoch;
    p->far_expiries = l->far_flag || l->sweep || expiry_may_be_far(l->expiry);
    p->time_ms = clock_unix_ms();
    n += lane_turns_put(l, out);
    position_put(out, p, p->time_ms);
    if (!l->router && l->stale_replid[0] && strcmp(l->stale_replid, l->id1) != 0) {
        position_put_del(out, l->stale_replid);
        n++;
    }
    l->position_found = true;
    return n;
}

static void on_room(void *ctx)
{
    lane_pump(ctx);
}

const struct sink_events lane_sink_events = {
    .acked = on_acked,
    .cmd_failed = on_cmd_failed,
    .cmd_empty = on_cmd_empty,
    .failed = on_failed,
    .put_position = put_position,
    .room = on_room,
};

void lane_apply_start(struct lane *l, uint64_t from, int db)
{
    struct apply_options o = {
        .batcher = l->batcher,
        .router = l->router,
        .journal = l->journal,
        .filter = l->o.filter,
        .dbs = l->o.dbs,
        .transactions = l->o.transactions,
        .wrap_all = l->o.wrap_all,
        .databases = l->server.databases,
        .target_version = l->server.version,
        .target_is_valkey = l->server.is_valkey,
        .source_is_valkey = l->source_is_valkey,
        .replids = {l->id1, l->stale_replid},
        .getack = on_getack,
        .held = lane_expiry_held,
        .moved = lane_expiry_moved,
        .refused = lane_refused,
        .stage = lane_stage_command,
        .scripts = l->scripts,
        .clear = lane_clear_slots,
        .turn = l->turn,
        .probe_key = slice_cstr(l->o.delay_test_key ? l->o.delay_test_key : ""),
        .probe_sent = lane_probe_sent,
        .ctx = l,
    };
    o.dbs.by_slot = l->turn != NULL;
    lane_end_apply(l);
    lane_probe_forget(l);
    if (l->turn)
        turn_reset(l->turn);
    l->apply = l->router ? scatter_new(&o, from, db) : apply_new(&o, from, db);
    for (uint32_t i = 0; i < l->skips_n && i < LANE_SKIPS; i++)
        apply_skip_offset(l->apply, l->skips[i]);
    l->mark = (struct batch_mark){.offset = from, .db = db};
    l->has_mark = true;
    journal_mark(l->journal, from, db, clock_unix_ms());
    l->stored_offset = from;
    l->stored_db = db;
    log_info(l->o.tag, "applying the stream from offset %llu, db %d", (unsigned long long)from, db);
}

void lane_load_start(struct lane *l, uint64_t rdb_index, int db, int version, uint64_t again_until)
{
    struct load_options o = {
        .sink = l->sink,
        .journal = l->journal,
        .filter = l->o.filter,
        .exists = l->o.exists,
        .exists_log = l->o.exists_log,
        .cluster = l->router != NULL,
        .tag = l->o.tag,
        .functions = l->o.functions,
        .restore_enabled = l->o.restore_enabled,
        .skip_module_aux = l->o.skip_module_aux,
        .skip_unknown = l->o.skip_unknown,
        .degrade = l->o.degrade,
        .max_restore = l->o.max_restore,
        .target_version = l->server.version,
        .target_is_valkey = l->server.is_valkey,
        .target_missing = l->server.missing,
        .scripts = l->scripts,
        .temp_tag = l->id1,
        .map_db = map_db,
        .hold_expiry = lane_hold_expiry,
        .ctx = l,
    };
    lane_end_apply(l);
    lane_extra_load(l, rdb_index);
    if (l->extra)
        o.met = lane_extra_met;
    l->load = load_new(&o, rdb_index, db, version, again_until);
    lane_takeback_start(l);
    l->snapshot_fresh = false;
    log_info(l->o.tag, "loading the snapshot from byte %llu", (unsigned long long)rdb_index);
}

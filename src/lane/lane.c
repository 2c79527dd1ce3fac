// SPDX-License-Identifier: Apache-2.0
#include "lane/lane.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "lane/lane_int.h"

enum {
    TICK_MS = 100,
    TURN_BYTES = 1 << 20, // parsed in one turn of the loop
    EXPIRY_TABLE_BYTES = 12 << 20,
    SCRIPTS_BYTES = 8 << 20,
};

const char *lane_state_name(enum lane_state s)
{
    static const char *const names[] = {"ready_run", "run", "pause", "stop", "error", "lease_lost"};
    return names[s];
}

const char *lane_fence_name(enum lane_fence f)
{
    static const char *const names[] = {"unknown", "kill", "check", "lease"};
    return names[f];
}

const char *lane_phase_name(enum lane_phase p)
{
    static const char *const names[] = {"idle", "connecting", "wait_rdb", "full_sync", "streaming"};
    return names[p];
}

void lane_note_error(struct lane *l, const struct err *e)
{
    if (l->error_latched)
        return;
    if (strcmp(l->error.msg, e->msg) != 0)
        log_warn(l->o.tag, "%s", e->msg);
    l->error = *e;
}

void lane_latch_error(struct lane *l, uint64_t ref, const struct err *e)
{
    log_error(l->o.tag, "stopped: %s", e->msg);
    l->error = *e;
    l->error_latched = true;
    l->error_ref = ref;
    l->state = LANE_ERROR;
    lane_publish(l);
}

uint64_t lane_loose_until(const struct lane *l)
{
    uint64_t now = l->apply ? apply_loose_until(l->apply) : 0;
    return now > l->loose_until ? now : l->loose_until;
}

void lane_end_apply(struct lane *l)
{
    if (l->load) {
        struct load_stats s;
        load_get_stats(l->load, &s);
        lane_count_load(l, &l->counters);
        if (s.index > l->sent_until)
            l->sent_until = s.index;
        if (l->extra)
            extra_noted_until(l->extra, s.index);
        load_free(l->load);
        l->load = NULL;
        // The load has not begun, and the rest of its snapshot may have no room before it has.
        l->snapshot_fresh = l->snapshot_fresh || l->takeback;
        lane_takeback_end(l);
    }
    if (l->apply) {
        struct apply_stats s;
        apply_get_stats(l->apply, &s);
        l->counters.cmds_received += s.received;
        l->counters.cmds_filtered += s.filtered;
        l->counters.split_transactions += s.split;
        l->counters.staged_commands += s.staged;
        l->loose_until = lane_loose_until(l);
        apply_free(l->apply);
        l->apply = NULL;
    }
}

static void want_again(struct lane *l, bool yes);

void lane_start_link(struct lane *l)
{
    if (!l->source_ended)
        link_start(l->link);
}

void lane_drop_target(struct lane *l)
{
    l->drop_wanted = true;
    sink_stop(l->sink);
    want_again(l, true);
}

// The sink goes first: what it has not sent yet lies in journal memory that the readers pin.
void lane_drop_target_now(struct lane *l)
{
    l->drop_wanted = false;
    l->target_epoch++;
    l->target_state = TARGET_OFF;
    lane_stage_let_go(l);
    lane_hung_let_go(l);
    sink_detach(l->sink);
    lane_end_apply(l);
    l->position_known = false;
}

bool lane_lease_passed(const struct lane *l)
{
    return l->o.lease && clock_boot_ms() >= atomic_load(l->o.lease);
}

// Without it somebody else may write there by now, so nothing is sent and nothing is believed.
static void watch_lease(struct lane *l)
{
    bool lost = lane_lease_passed(l);
    if (lost && l->target_state != TARGET_OFF)
        lane_drop_target_now(l);
    if (lost && !l->lease_lost)
        log_warn(l->o.tag, "the lease has passed: nothing is sent to the target until it is "
                           "renewed");
    if (!lost && l->lease_lost) {
        log_info(l->o.tag, "the lease is renewed");
        l->retry_ms = 0;
    }
    l->lease_lost = lost;
}

// The position is looked for anew.
void lane_dial_again(struct lane *l)
{
    lane_drop_target_now(l);
    l->retry_ms = 0;
    lane_dial_target(l);
}

static bool may_apply(const struct lane *l)
{
    return l->target_state == TARGET_READY && !l->drop_wanted && sink_attached(l->sink) &&
           (l->state == LANE_RUN || l->state == LANE_READY_RUN) && lane_turns_open(l);
}

// ---- what to run ----

// A position of redisGunYu tells the target's db; the stream goes on in the source's.
static int source_db(const struct lane *l, int db)
{
    if (!l->position_found || !l->position.foreign)
        return db;
    for (int i = 0; i < l->o.dbs.map_n; i++)
        if (l->o.dbs.map[i] == db)
            return i;
    return db;
}

void lane_load_all(struct lane *l)
{
    // Whatever position the target holds is void from the first key on.
    lane_load_start(l, 0, 0, 0, 0);
    struct batch_mark mark = {.loading = true};
    sink_skip_to(l->sink, &mark);
    sink_store_position(l->sink);
    sink_flush(l->sink); // so the record goes out before the first key
    l->await_position = l->router;
}

void lane_arrange(struct lane *l)
{
    // The link waited for the target's position.
    if (lane_same_ids(l) && l->link_state == LINK_IDLE && l->state == LANE_PAUSE)
        lane_start_link(l);
    if (!may_apply(l) || l->apply || l->load)
        return;
    if (!lane_same_ids(l)) {
        // The source has named itself with other ids since the target was asked.
        lane_dial_again(l);
        return;
    }
    struct journal_info ji;
    journal_get_info(l->journal, &ji);
    if (l->snapshot_fresh) {
        if (ji.has_snapshot && !l->lost && lane_turns_may_load(l))
            lane_load_all(l);
        return;
    }
    struct resume_decision d;
    lane_decide(l, &d);
    switch (d.apply) {
    case RESUME_STREAM:
        if (ji.has_log && d.apply_from >= ji.left && d.apply_from <= ji.right && !d.reset_journal) {
            if (ji.right > l->again_until)
                l->again_until = ji.right;
            lane_apply_start(l, d.apply_from, source_db(l, d.db));
        } else if (l->link_state == LINK_STREAM)
            link_reconnect(l->link, d.reason);
        break;
    case RESUME_SNAPSHOT:
        if (l->lost || !lane_turns_may_load(l))
            break;
        if (lane_extra_lacks(l, d.rdb_index)) {
            lane_extra_again(l);
            break;
        }
        if (journal_asides(l->journal)) {
            lane_load_all(l); // taking back takes from what is loaded as well
            break;
        }
        lane_load_start(l, d.rdb_index, d.rdb_db,
                        l->position_found && l->position.loading ? l->position.rdb_version : 0,
                        l->sent_until);
        break;
    case RESUME_NOTHING:
        if (l->link_state == LINK_STREAM)
            link_reconnect(l->link, d.reason);
        break;
    }
    if (l->link_state == LINK_IDLE && l->state == LANE_RUN)
        lane_start_link(l);
}

static void load_finished(struct lane *l)
{
    struct journal_info ji;
    journal_get_info(l->journal, &ji);
    int db = load_stream_db(l->load);
    uint64_t offset = ji.snapshot_offset;
    fault_point("load.finished");
    lane_apply_start(l, offset, db);
    struct batch_mark mark = {.offset = offset, .db = db};
    sink_skip_to(l->sink, &mark);
    sink_store_position(l->sink);
    l->await_position = l->router;
    log_info(l->o.tag, "the snapshot is loaded");
}

// When the byte after the reader's place came, and how many more came until then. The commands of a
// source before 7.0 count their expiries from then.
static int64_t received_at(const struct lane *l, size_t *bytes)
{
    uint64_t pos = apply_position(l->apply);
    for (uint32_t i = 0; i < l->lag_count; i++) {
        const struct lag_sample *s = &l->lag[(l->lag_head + i) % LAG_SAMPLES];
        if (s->offset > pos) {
            if (*bytes > s->offset - pos)
                *bytes = s->offset - pos;
            return s->ms;
        }
    }
    return clock_unix_ms();
}

void lane_pump(struct lane *l)
{
    if (l->freed)
        return;
    if (l->drop_wanted)
        lane_drop_target_now(l);
    feeds_pump(l->feeds);
    lane_arrange(l);
    lane_turns_pumped(l);
    if (!may_apply(l)) {
        want_again(l, false);
        return;
    }
    struct err e = {0};
    int rc = 0;
    if (l->staging || (l->await_position && !sink_idle(l->sink))) {
        rc = LOAD_WAIT;
    } else if (l->takeback) {
        rc = (int)lane_takeback_pump(l, TURN_BYTES);
    } else if (l->load) {
        rc = load_pump(l->load, TURN_BYTES, &e);
        if (rc == LOAD_FINISHED && !lane_extra_done(l))
            rc = LOAD_WAIT;
        if (rc == LOAD_FINISHED)
            load_finished(l);
    } else if (l->apply) {
        size_t budget = TURN_BYTES;
        int64_t received = received_at(l, &budget) + l->source_ahead_ms;
        lane_settle(l);
        rc = apply_pump(l->apply, budget, received, lane_hold_before(l), &e);
    }
    lane_turns_pumped(l);
    l->await_position = l->await_position && !sink_idle(l->sink);
    bool damaged = journal_damaged(l->journal);
    if (damaged && rc >= 0)
        rc = err_set(&e, ERR_CORRUPT, "a page of the journal could not be read or written");
    if (rc < 0 && !l->error_latched) {
        err_wrap(&e, l->load ? "snapshot" : "stream");
        lane_latch_error(l, UINT64_MAX, &e);
        lane_drop_target(l);
    }
    if (!l->drop_wanted)
        sink_flush(l->sink);
    want_again(l, l->drop_wanted || (may_apply(l) && (rc == LOAD_MORE_NOW || rc == LOAD_FINISHED)));
    if (l->link_state == LINK_BLOCKED)
        link_kick(l->link);
}

static void on_again(uv_idle_t *handle)
{
    lane_pump(handle->data);
}

static void want_again(struct lane *l, bool yes)
{
    if (yes)
        uv_idle_start(&l->again, on_again);
    else
        uv_idle_stop(&l->again);
}

// ---- time ----

static void sample_lag(struct lane *l, int64_t now)
{
    struct journal_info ji;
    journal_get_info(l->journal, &ji);
    while (l->lag_count && l->lag[l->lag_head].offset <= l->mark.offset) {
        l->lag_head = (l->lag_head + 1) % LAG_SAMPLES;
        l->lag_count--;
    }
    if (!ji.has_log)
        return;
    // The log began anew, of another history that parts from the old one further back.
    while (l->lag_count && l->lag[(l->lag_head + l->lag_count - 1) % LAG_SAMPLES].offset > ji.right)
        l->lag_count--;
    uint32_t last = (l->lag_head + l->lag_count + LAG_SAMPLES - 1) % LAG_SAMPLES;
    if (ji.right <= l->mark.offset || (l->lag_count && l->lag[last].offset == ji.right))
        return;
    if (l->lag_count == LAG_SAMPLES) {
        l->lag[last].offset = ji.right; // the newest sample stretches; the oldest matter
        return;
    }
    l->lag[(l->lag_head + l->lag_count++) % LAG_SAMPLES] = (struct lag_sample){ji.right, now};
}

static void check_stopped(struct lane *l)
{
    if (!l->stopped || l->defusing || l->staging || (sink_attached(l->sink) && !sink_idle(l->sink)))
        return;
    void (*done)(void *) = l->stopped;
    l->stopped = NULL;
    lane_drop_target_now(l);
    done(l->stopped_ctx);
}

// A target that has gone without a word, or hangs: the fence makes asking again safe.
static void watch_target(struct lane *l, int64_t now)
{
    struct sink_stats s;
    sink_get_stats(l->sink, &s);
    uint64_t progress = s.bytes_sent + s.cmds_ok + s.wrapped_ok + s.bare_ok;
    if (!sink_attached(l->sink) || l->drop_wanted || sink_idle(l->sink) ||
        progress != l->target_progress) {
        l->target_progress = progress;
        l->target_progress_ms = now;
    } else if (now - l->target_progress_ms > TARGET_SILENCE_MS) {
        struct err e;
        err_set(&e, ERR_TIMEOUT, "no answer for %d s", TARGET_SILENCE_MS / 1000);
        lane_sink_events.failed(l, UINT64_MAX, &e);
    }
}

static void on_tick(uv_timer_t *handle)
{
    struct lane *l = handle->data;
    int64_t now = clock_unix_ms();
    struct err e = {0};
    if (journal_tick(l->journal, &e) < 0 && !l->error_latched) {
        err_wrap(&e, "journal");
        lane_latch_error(l, UINT64_MAX, &e);
        lane_drop_target(l);
    }
    sample_lag(l, now);
    watch_lease(l);
    if (l->state == LANE_RUN || l->state == LANE_READY_RUN || l->state == LANE_PAUSE)
        lane_dial_target(l);
    watch_target(l, now);
    lane_hung_tick(l, now);
    lane_expiry_tick(l);
    if (l->has_mark && !l->mark.loading)
        journal_mark(l->journal, l->mark.offset, l->mark.db, now);
    lane_turns_tick(l);
    sink_flush(l->sink);
    lane_pump(l);
    feeds_tick(l->feeds);
    lane_probe_tick(l, now);
    lane_count_dead_letters(l);
    check_stopped(l);
    lane_publish(l);
    lane_log_stats(l, now);
}

// ---- life ----

int lane_new(struct lane **out, const struct lane_options *o, struct err *e)
{
    struct lane *l = xcalloc(1, sizeof(*l));
    l->o = *o;
    l->error_ref = UINT64_MAX;
    // Until they are found.
    snprintf(l->source_name, sizeof(l->source_name), "%s", o->tag);
    snprintf(l->target_name, sizeof(l->target_name), "%s", "by sentinel");
    if (!o->find_source.fn)
        endpoint_name(&o->source, l->source_name, sizeof(l->source_name));
    if (!o->find_target.fn)
        endpoint_name(&o->target, l->target_name, sizeof(l->target_name));
    l->o.journal.loop = o->loop;
    l->o.journal.tag = o->tag;
    l->o.target.send_until = o->lease;
    l->seeds = xcalloc(o->target_seeds_n, sizeof(*l->seeds));
    for (size_t i = 0; i < o->target_seeds_n; i++) {
        endpoint_copy(&l->seeds[i], &o->target_seeds[i]);
        l->seeds[i].send_until = o->lease;
    }
    l->o.target_seeds = l->seeds;
    l->journal = o->open_journal;
    int rc = l->journal ? 0 : journal_open(&l->journal, &l->o.journal, e);
    if (rc) {
        endpoints_free(l->seeds, l->o.target_seeds_n);
        free(l);
        return rc;
    }
    must(uv_mutex_init(&l->lock) == 0);
    if (o->alive)
        atomic_fetch_add(o->alive, 1);
    struct link_options lo = {.loop = o->loop,
                              .endpoint = o->source,
                              .finder = o->find_source,
                              .from = o->from,
                              .gate = o->gate,
                              .version = o->source_version,
                              .journal = l->journal,
                              .tag = o->tag,
                              .psync_command = o->psync_command ? o->psync_command : "PSYNC",
                              .listening_port = o->listening_port,
                              .announce_ip = o->announce_ip,
                              .events = &lane_link_events,
                              .ctx = l};
    l->link = link_new(&lo);
    l->feeds = feeds_new(o->loop, l->journal, o->tag);
    struct batcher_options bo = {.loop = o->loop,
                                 .events = &lane_sink_events,
                                 .ctx = l,
                                 .max_cmds = o->batch_cmds,
                                 .max_bytes = o->batch_bytes,
                                 .max_exec = o->max_exec,
                                 .position_us = (uint64_t)o->position_ms * 1000,
                                 .ping_us = (uint64_t)o->keepalive_ms * 1000};
    if (o->target_cluster)
        l->router = lane_router_new(l);
    else
        l->batcher = batcher_new(&bo);
    l->sink = l->router ? router_sink(l->router) : batcher_sink(l->batcher);
    l->expiry = expiry_new(EXPIRY_TABLE_BYTES);
    char *scripts = o->journal.dir ? xasprintf("%s.scripts", o->journal.dir) : NULL;
    l->scripts = scripts_open(scripts, SCRIPTS_BYTES, o->tag);
    free(scripts);
    uv_timer_init(o->loop, &l->tick);
    uv_idle_init(o->loop, &l->again);
    uv_timer_init(o->loop, &l->turn_timer);
    l->tick.data = l->again.data = l->turn_timer.data = l;
    l->handles = 3;
    lane_turns_start(l);
    l->state = LANE_READY_RUN;
    struct journal_info ji;
    journal_get_info(l->journal, &ji);
    if (ji.replid[0]) {
        memcpy(l->id1, ji.replid, sizeof(l->id1));
        memcpy(l->id2, ji.replid2, sizeof(l->id2));
        l->id2_offset = (int64_t)ji.replid2_offset;
        l->ids_known = true;
    }
    // An earlier process may have sent all of it.
    l->loose_until = ji.has_log ? ji.right : 0;
    lane_find_dead_letters(l);
    lane_publish(l);
    *out = l;
    return 0;
}

void lane_start(struct lane *l)
{
    l->state = LANE_RUN;
    uv_timer_start(&l->tick, on_tick, 0, TICK_MS);
    lane_start_link(l);
    lane_publish(l);
}

void lane_pause(struct lane *l)
{
    if (l->state != LANE_RUN && l->state != LANE_READY_RUN)
        return;
    l->state = LANE_PAUSE;
    lane_defuse(l);
    sink_store_position(l->sink);
    log_info(l->o.tag, "paused: the source is still drained into the journal");
    lane_publish(l);
}

void lane_resume(struct lane *l, bool skip)
{
    if (l->state == LANE_RUN)
        return;
    bool from_stop = l->state == LANE_STOP;
    if (skip && l->error_ref != UINT64_MAX &&
        lane_dead_letter(l, l->error_ref, slice_cstr(l->error.msg)))
        lane_skip_offset(l, l->error_ref);
    l->error_latched = false;
    l->error_ref = UINT64_MAX;
    l->error = (struct err){0};
    // The next dial goes beyond all epochs that are there.
    if (l->fenced_off)
        l->epoch = 0;
    l->epoch_firm = l->epoch_firm && !l->fenced_off;
    l->fenced_off = false;
    l->state = LANE_RUN;
    lane_defuse_end(l);
    l->retry_ms = 0;
    log_info(l->o.tag, "resumed");
    if (from_stop || l->link_state == LINK_IDLE)
        lane_start_link(l);
    lane_pump(l);
    lane_publish(l);
}

void lane_stop(struct lane *l, void (*done)(void *ctx), void *ctx)
{
    l->state = LANE_STOP;
    link_stop(l->link);
    lane_defuse(l);
    lane_extra_cancel(l);
    sink_store_position(l->sink);
    lane_turns_tick(l);
    sink_flush(l->sink);
    l->stopped = done;
    l->stopped_ctx = ctx;
    lane_publish(l);
}

void lane_stop_now(struct lane *l)
{
    l->state = LANE_STOP;
    l->stopped = NULL;
    link_stop(l->link);
    lane_drop_target_now(l);
    lane_publish(l);
}

void lane_full_sync(struct lane *l, const char *flush_command, bool extra_delete)
{
    l->force_full = true;
    l->extra_once = l->extra_once || extra_delete;
    free(l->flush_command);
    l->flush_command = flush_command ? xstrdup(flush_command) : NULL;
    l->error_latched = false;
    l->error = (struct err){0};
    if (l->state != LANE_PAUSE)
        l->state = LANE_RUN;
    if (l->link_state == LINK_IDLE)
        lane_start_link(l);
    else
        link_reconnect(l->link, "a full sync was asked for");
}

void lane_source_moved(struct lane *l, const char *address)
{
    if (l->link_state == LINK_CONNECTING)
        link_hurry(l->link);
    else if (l->link_state != LINK_IDLE && strcmp(link_found(l->link), address) != 0)
        link_reconnect(l->link, "the master has changed");
}

void lane_target_moved(struct lane *l, const char *address)
{
    l->retry_ms = 0;
    if (l->target_state == TARGET_READY && strcmp(l->target_name, address) != 0) {
        log_info(l->o.tag, "the target is at %s now", address);
        lane_drop_target(l);
    }
}

void lane_end_source(struct lane *l)
{
    l->source_ended = true;
    link_stop(l->link);
}

bool lane_is_drained(const struct lane *l)
{
    struct journal_info ji;
    journal_get_info(l->journal, &ji);
    if (!l->source_ended || l->state == LANE_STOP || !ji.has_log)
        return true; // of a snapshot that is not whole nothing can be made
    // A command that is not whole at the end of the log stays unread.
    return l->state == LANE_RUN && l->apply && !l->load && !l->drop_wanted && !l->staging &&
           sink_attached(l->sink) && sink_idle(l->sink) && !l->await_position &&
           !lane_turns_wait(l) && !uv_is_active((const uv_handle_t *)&l->again);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct lane *l = handle->data;
    if (--l->handles == 0)
        lane_free(l);
}

struct journal *lane_free_but_journal(struct lane *l)
{
    struct journal *j = l->journal;
    l->freed = true;
    lane_sweep_cancel(l);
    lane_lost_let_go(l);
    lane_drop_target_now(l);
    link_free(l->link);
    feeds_free(l->feeds);
    sink_free(l->sink);
    expiry_free(l->expiry);
    scripts_close(l->scripts);
    lane_probe_free(l);
    lane_turns_free(l);
    if (l->dead)
        deadletter_close(l->dead);
    l->journal = NULL;
    uv_close((uv_handle_t *)&l->tick, on_handle_closed);
    uv_close((uv_handle_t *)&l->again, on_handle_closed);
    uv_close((uv_handle_t *)&l->turn_timer, on_handle_closed);
    return j;
}

void lane_free(struct lane *l)
{
    if (!l->freed) {
        journal_close(lane_free_but_journal(l));
    } else if (l->handles == 0) {
        free(l->flush_command);
        lane_extra_forget(l);
        endpoints_free(l->seeds, l->o.target_seeds_n);
        uv_mutex_destroy(&l->lock);
        if (l->o.alive)
            atomic_fetch_sub(l->o.alive, 1);
        free(l);
    }
}

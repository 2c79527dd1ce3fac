// SPDX-License-Identifier: Apache-2.0
// Exact expiry (flow/expiry.h): which expiries are held, when they are settled, the sweep for those
// that the table does not know, and making near ones far before the lane stands still.
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "flow/expiry.h"
#include "lane/lane_int.h"
#include "target/sweep.h"

enum {
    SWEEP_TIMEOUT_MS = 5000,
    // What a sweep finds this near goes to the table, which waits until the key is quiet.
    SWEEP_NEAR_MS = 10000,
    SWEEP_EVERY_MS = 2000,
    SWEEP_COST_FACTOR = 10, // and at most this part of the time
    SWEEP_RETRY_MS = 30000,
    // While paused, what expires within DEFUSE_NEAR_MS is made far, again and again.
    DEFUSE_NEAR_MS = 15 * 60 * 1000,
    DEFUSE_EVERY_MS = 5 * 60 * 1000,
    // A transaction of the source that has not ended by then will not: the source is gone.
    END_UNIT_MS = 1000,
    END_UNIT_COMMANDS = 4096,
};

// While the lane is behind, an expiry this near is held: nobody knows how long catching up takes.
#define BEHIND_HORIZON_MS ((int64_t)24 * 3600 * 1000)

// Lanes of this process that are behind. A target that several share is swept only when it is 0:
// what is far there may be another one's.
static atomic_int lanes_behind;
// One sweep at a time in this process: each takes a thread of the pool that others need.
static atomic_flag sweeping = ATOMIC_FLAG_INIT;

struct lane_sweep {
    uv_work_t work;
    struct lane *lane;
    atomic_bool cancel;
    struct endpoint node;         // borrows from the lane's options
    const struct endpoint *seeds; // of a cluster; else NULL
    size_t seeds_n;
    struct endpoint_finder find_target;
    struct lane_pass pass;
    struct sweep_options o;
    struct sweep_result r;
    int64_t began_ms;
    int rc;
    struct err err;
};

int64_t lane_source_ms(const struct lane *l)
{
    return clock_unix_ms() + l->source_ahead_ms;
}

static int64_t oldest_unapplied_ms(const struct lane *l)
{
    for (uint32_t i = 0; i < l->lag_count; i++) {
        const struct lag_sample *s = &l->lag[(l->lag_head + i) % LAG_SAMPLES];
        if (s->offset > l->mark.offset)
            return s->ms;
    }
    return 0;
}

bool lane_is_behind(const struct lane *l)
{
    int64_t oldest = oldest_unapplied_ms(l);
    return l->load || l->link_state != LINK_STREAM || !l->has_mark ||
           (int64_t)l->mark.offset < l->catch_up_to || (oldest && clock_unix_ms() - oldest > 1000);
}

static void count_behind(struct lane *l, bool behind)
{
    if (behind != l->counted_behind)
        atomic_fetch_add(&lanes_behind, behind ? 1 : -1);
    l->counted_behind = behind;
}

// ---- what the readers ask and report ----

static bool holds(const struct lane *l)
{
    return l->o.expiry_guard && !l->target_imports && l->target_scripts;
}

int64_t lane_hold_before(const struct lane *l)
{
    if (!holds(l))
        return 0;
    return lane_source_ms(l) + (lane_is_behind(l) ? BEHIND_HORIZON_MS : l->o.expiry_margin_ms);
}

int64_t lane_hold_expiry(void *ctx, int db, struct slice key, struct slice field, int64_t expire_ms)
{
    struct lane *l = ctx;
    int64_t now = lane_source_ms(l);
    if (!holds(l) || !expiry_can_be_far(expire_ms) || expire_ms >= now + BEHIND_HORIZON_MS)
        return expire_ms;
    lane_expiry_held(l, db, key, field, expire_ms);
    return expiry_far(expire_ms);
}

void lane_expiry_held(void *ctx, int db, struct slice key, struct slice field, int64_t true_ms)
{
    struct lane *l = ctx;
    l->counters.expiries_held++;
    expiry_held(l->expiry, db, key, field, true_ms, lane_source_ms(l));
}

// The target db of COPY's DB option, or of MOVE.
static int moved_to_db(const struct lane *l, int db, int argc, const struct slice *argv)
{
    int64_t to;
    if (slice_ieq(argv[0], SLICE("move")))
        return slice_i64(argv[2], &to) && to >= 0 && to < INT32_MAX ? lane_map_db(l, (int)to) : -1;
    for (int i = 3; i + 1 < argc; i++)
        if (slice_ieq(argv[i], SLICE("db")))
            return slice_i64(argv[i + 1], &to) && to >= 0 && to < INT32_MAX
                       ? lane_map_db(l, (int)to)
                       : -1;
    return db;
}

void lane_expiry_moved(void *ctx, int db, int argc, const struct slice *argv)
{
    struct lane *l = ctx;
    bool move = argc == 3 && slice_ieq(argv[0], SLICE("move"));
    bool follows = move || (argc >= 3 && (slice_ieq(argv[0], SLICE("rename")) ||
                                          slice_ieq(argv[0], SLICE("renamenx")) ||
                                          slice_ieq(argv[0], SLICE("copy"))));
    if (follows)
        expiry_follow(l->expiry, db, argv[1], moved_to_db(l, db, argc, argv), argv[move ? 1 : 2],
                      lane_source_ms(l));
    // A running sweep may have passed the new place already and not come to the old one.
    if (l->sweep || (!follows && expiry_any(l->expiry)))
        expiry_want_sweep(l->expiry);
}

void lane_expiry_failed(struct lane *l, struct slice text)
{
    expiry_want_sweep(l->expiry);
    // A key that has moved is found where it is now.
    if (!slice_has_prefix(text, SLICE("LATE")) && !target_error_is_transient(text))
        log_warn(l->o.tag, "set true expiries: %.*s", (int)(text.n < 200 ? text.n : 200), text.p);
}

void lane_expiry_forget(struct lane *l)
{
    l->far_flag = l->far_flag || expiry_any(l->expiry);
    expiry_clear(l->expiry);
}

void lane_expiry_target(struct lane *l)
{
    expiry_set_target(l->expiry, l->server.version, l->server.is_valkey, l->router);
    if (!l->target_scripts && l->o.expiry_guard)
        log_warn(
            l->o.tag,
            "the target does not let this user run EVAL with TIME and PEXPIRETIME (PTTL before "
            "Redis 7): expiries are set as they come, and a key that is renewed while the "
            "lane is behind may be lost");
    if (l->target_imports)
        log_info(l->o.tag,
                 "the target is in import mode: it expires nothing, so no expiry is held");
}

// ---- sweeping ----

static void sweep_job(uv_work_t *work)
{
    struct lane_sweep *j = work->data;
    const struct sweep_dial how = {.name = j->pass.name,
                                   .timeout_ms = SWEEP_TIMEOUT_MS,
                                   .admit = lane_pass_check,
                                   .ctx = &j->pass};
    struct endpoint node;
    j->rc = endpoint_find(&node, &j->node, &j->find_target, &j->err);
    if (j->rc)
        return;
    node.db = 0;
    // Under this name a later process fences it off.
    j->rc = j->seeds ? sweep_cluster(j->seeds, j->seeds_n, &how, &j->o, &j->r, &j->err)
                     : sweep_nodes(&node, 1, &how, &j->o, &j->r, &j->err);
    endpoint_free(&node);
}

static void take_left(struct lane *l, struct lane_sweep *j)
{
    struct slice left = buf_slice(&j->r.left);
    struct sweep_item it;
    while (sweep_next(&left, &it))
        expiry_found(l->expiry, it.db, it.key, it.field, it.true_ms, lane_source_ms(l));
}

static void settled_sweep(struct lane *l, struct lane_sweep *j)
{
    int64_t now = clock_unix_ms(), took = now - j->began_ms;
    int64_t rest = took * SWEEP_COST_FACTOR;
    l->sweep_due_ms = now + (rest > SWEEP_EVERY_MS ? rest : SWEEP_EVERY_MS);
    l->counters.expiries_settled += j->r.changed;
    take_left(l, j);
    if (j->rc || j->r.left_out)
        expiry_want_sweep(l->expiry);
    else
        l->far_flag = false;
    log_debug(l->o.tag, "swept the target for far expiries in %lld ms: %llu settled",
              (long long)took, (unsigned long long)j->r.changed);
}

static void sweep_done(uv_work_t *work, int status)
{
    (void)status;
    struct lane_sweep *j = work->data;
    struct lane *l = j->lane;
    atomic_flag_clear(&sweeping);
    l->handles--;
    l->sweep = NULL;
    if (l->freed) {
        if (l->handles == 0)
            lane_free(l);
    } else {
        // One that was cancelled puts nothing off: the lane runs again, and settles what is far.
        if (!j->o.defuse)
            settled_sweep(l, j);
        else if (!j->cancel)
            l->sweep_due_ms = clock_unix_ms() + DEFUSE_EVERY_MS;
        if (j->rc && !j->cancel) {
            l->sweep_due_ms = clock_unix_ms() + SWEEP_RETRY_MS;
            log_warn(l->o.tag, "look for far expiries at %s: %s", l->target_name, j->err.msg);
        }
    }
    buf_free(&j->r.left);
    free(j);
}

static void sweep_start(struct lane *l, bool defuse)
{
    if (clock_unix_ms() < l->sweep_due_ms || !l->target_scripts ||
        !sweep_is_possible(l->server.version, l->server.is_valkey) ||
        atomic_flag_test_and_set(&sweeping))
        return;
    struct lane_sweep *j = xcalloc(1, sizeof(*j));
    j->work.data = j;
    j->lane = l;
    j->node = l->o.target;
    j->find_target = l->o.find_target;
    j->seeds = l->router ? l->o.target_seeds : NULL;
    j->seeds_n = l->o.target_seeds_n;
    j->began_ms = clock_unix_ms();
    lane_pass_make(l, &j->pass);
    j->o = (struct sweep_options){.version = l->server.version,
                                  .is_valkey = l->server.is_valkey,
                                  .defuse = defuse,
                                  .fields = defuse || l->far_flag || expiry_any_fields(l->expiry),
                                  .near_ms = defuse ? DEFUSE_NEAR_MS : SWEEP_NEAR_MS,
                                  .ahead_ms = l->source_ahead_ms,
                                  .cancel = &j->cancel};
    l->sweep = j;
    l->handles++;
    if (!defuse)
        expiry_sweep_begun(l->expiry);
    must(uv_queue_work(l->o.loop, &j->work, sweep_job, sweep_done) == 0);
}

void lane_sweep_cancel(struct lane *l)
{
    if (l->sweep)
        l->sweep->cancel = true;
    count_behind(l, false);
}

static void sweep_tick(struct lane *l, bool ready)
{
    bool wanted = l->far_flag || expiry_wants_sweep(l->expiry);
    bool alone = !l->o.dbs.shared || atomic_load(&lanes_behind) == 0;
    if (l->sweep && (!ready || !alone))
        l->sweep->cancel = true;
    if (!l->sweep && ready && alone && wanted)
        sweep_start(l, false);
}

// ---- settling ----

void lane_settle(struct lane *l)
{
    struct batch_mark mark;
    if (!l->settle_due || lane_is_behind(l) || !apply_between_units(l->apply, &mark))
        return;
    l->settle_due =
        expiry_settle(l->expiry, l->sink, &mark, lane_source_ms(l), &l->counters.expiries_settled);
}

// ---- standing still ----

// A transaction of the source that is half in the sink is brought to its end.
static bool end_unit(struct lane *l, struct batch_mark *mark)
{
    struct err e;
    for (int i = 0; i < END_UNIT_COMMANDS && !apply_between_units(l->apply, mark); i++)
        if (apply_pump(l->apply, 1, lane_source_ms(l), lane_hold_before(l), &e) != APPLY_MORE_NOW)
            break;
    return apply_between_units(l->apply, mark);
}

static void defuse_step(struct lane *l)
{
    struct batch_mark mark;
    if (!l->defusing)
        return;
    bool gone = !l->apply || l->drop_wanted || !sink_attached(l->sink);
    if (!gone && end_unit(l, &mark)) {
        // The position that says so goes with each batch, and with an empty one before the scan.
        if (!expiry_defuse(l->expiry, l->sink, &mark, lane_source_ms(l)) &&
            (l->state != LANE_PAUSE || sink_unit_begin(l->sink, SINK_ANY_NODE, true))) {
            l->defusing = false;
            if (l->state == LANE_PAUSE) {
                l->far_flag = true;
                sink_unit_end(l->sink, &mark);
            }
        }
    } else if (gone || clock_unix_ms() > l->defuse_until_ms) {
        l->defusing = false;
    }
    sink_flush(l->sink);
}

void lane_defuse(struct lane *l)
{
    lane_sweep_cancel(l);
    if (!holds(l) || !l->apply)
        return;
    l->defusing = true;
    l->defuse_until_ms = clock_unix_ms() + END_UNIT_MS;
    l->sweep_due_ms = 0;
    expiry_defuse_begin(l->expiry);
    defuse_step(l);
}

void lane_defuse_end(struct lane *l)
{
    l->defusing = false;
    l->sweep_due_ms = 0;
    lane_sweep_cancel(l);
}

// Nobody else writes there, as far as the configuration tells.
static bool target_is_ours(const struct lane *l)
{
    bool ours = !l->o.dbs.shared && !l->o.dbs.forced;
    for (int db = 0; ours && l->o.filter && db < l->server.databases; db++)
        ours = filter_is_trivial(l->o.filter, db);
    return ours;
}

// What expires during the pause and was not in the table.
static void pause_tick(struct lane *l)
{
    if (target_is_ours(l) && holds(l) && !l->defusing && !l->sweep && l->far_flag &&
        sink_attached(l->sink) && sink_idle(l->sink))
        sweep_start(l, true);
}

void lane_expiry_tick(struct lane *l)
{
    bool running = l->state == LANE_RUN || l->state == LANE_READY_RUN;
    bool behind = !running || lane_is_behind(l);
    count_behind(l, behind);
    defuse_step(l);
    if (l->state == LANE_PAUSE) {
        pause_tick(l);
        return;
    }
    l->settle_due = true;
    sweep_tick(l, !behind && l->apply && !l->drop_wanted && sink_attached(l->sink));
}

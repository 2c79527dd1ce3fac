// SPDX-License-Identifier: Apache-2.0
#include "control/supervisor.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/gc.h"
#include "control/lane_config.h"
#include "control/peer.h"
#include "control/supervisor_int.h"

enum { WAIT_STEP_MS = 20, GC_MIN_MS = 5 * 60 * 1000 };

static void fill_db_map(struct supervisor *s, const struct db_map *map)
{
    for (size_t i = 0; i < map->n; i++)
        if (map->v[i].from >= s->db_map_n)
            s->db_map_n = map->v[i].from + 1;
    s->db_map = xcalloc((size_t)s->db_map_n, sizeof(*s->db_map));
    for (int i = 0; i < s->db_map_n; i++)
        s->db_map[i] = i;
    for (size_t i = 0; i < map->n; i++)
        s->db_map[map->v[i].from] = map->v[i].to;
}

static void on_gc_timer(uv_timer_t *timer)
{
    struct err e = {0};
    if (supervisor_gc(timer->data, &e))
        log_warn(NULL, "remove what is stale: %s", e.msg);
}

static void start_gc_timer(void *arg)
{
    struct supervisor *s = arg;
    uint64_t every = (uint64_t)s->cfg->channel.stale_checkpoint_ms / 2;
    if (every < GC_MIN_MS)
        every = GC_MIN_MS;
    must(uv_timer_init(worker_loop(s->keeper), &s->gc_timer) == 0);
    s->gc_timer.data = s;
    uv_timer_start(&s->gc_timer, on_gc_timer, every, every);
}

static void close_gc_timer(void *arg)
{
    struct supervisor *s = arg;
    uv_close((uv_handle_t *)&s->gc_timer, NULL);
}

static int start_all(struct supervisor *s, struct err *e)
{
    const struct redis_config *in = &s->cfg->input.redis;
    int rc = worker_start(&s->keeper, e);
    if (rc)
        return rc;
    worker_call(s->keeper, start_gc_timer, s);
    rc = sup_serve_start(s, e);
    if (rc == 0)
        rc = sup_roles_start(s, e);
    if (rc == 0)
        rc = sup_watch_start(s, e);
    size_t lanes = in->type == REDIS_STANDALONE ? in->endpoints_n : in->type == REDIS_SENTINEL;
    for (size_t i = 0; rc == 0 && i < lanes; i++) {
        struct sup_lane *sl;
        rc = sup_lane_start(s, &sl, i, NULL, i, lanes, e);
        if (rc)
            break;
        uv_rwlock_wrlock(&s->lock);
        sup_lane_list(s, sl);
        uv_rwlock_wrunlock(&s->lock);
    }
    return rc == 0 ? sup_roles_begin(s, e) : rc;
}

int supervisor_start(struct supervisor **out, const struct config *cfg, struct err *e)
{
    struct supervisor *s = xcalloc(1, sizeof(*s));
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    s->cfg = cfg;
    must(uv_rwlock_init(&s->lock) == 0);
    must(uv_mutex_init(&s->wake_lock) == 0 && uv_cond_init(&s->wake) == 0);
    fill_db_map(s, &cfg->output.replay.target_db_map);
    atomic_init(&s->gate.free, (int)cfg->input.rdb_parallel);
    s->workers_max = cpus > 0 ? (int)cpus : 1;
    s->workers = xcalloc((size_t)s->workers_max, sizeof(struct worker *));
    int rc = lane_config_filter(&s->filter, &cfg->output.filter, e);
    if (rc == 0)
        rc = start_all(s, e);
    if (rc) {
        supervisor_stop(s, 0);
        supervisor_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

// ---- stopping ----

// Under the lock.
static void stop_and_wait(struct supervisor *s, const bool *chosen, int timeout_ms)
{
    uint64_t deadline = clock_mono_us() + (uint64_t)timeout_ms * 1000;
    for (int i = 0; i < s->lanes_n; i++)
        if (!chosen || chosen[i])
            worker_call(s->lanes[i]->worker, timeout_ms ? sup_lane_stop : sup_lane_stop_now,
                        s->lanes[i]);
    for (int i = 0; i < s->lanes_n; i++) {
        struct sup_lane *sl = s->lanes[i];
        if (chosen && !chosen[i])
            continue;
        bool stopped;
        while (!(stopped = sup_lane_has_stopped(sl)) && clock_mono_us() < deadline)
            usleep(WAIT_STEP_MS * 1000);
        if (!stopped)
            worker_call(sl->worker, sup_lane_stop_now, sl);
    }
}

void supervisor_stop(struct supervisor *s, int timeout_ms)
{
    sup_serve_end(s);
    // First, so that no lane begins now.
    sup_watch_end(s);
    sup_roles_end(s);
    uv_rwlock_rdlock(&s->lock);
    stop_and_wait(s, NULL, timeout_ms);
    uv_rwlock_rdunlock(&s->lock);
}

void supervisor_free(struct supervisor *s)
{
    if (!s)
        return;
    sup_serve_end(s);
    sup_watch_end(s);
    if (s->keeper) {
        worker_call(s->keeper, close_gc_timer, s);
        worker_stop(s->keeper);
    }
    for (int i = 0; i < s->lanes_n; i++)
        worker_call(s->lanes[i]->worker, sup_lane_end, s->lanes[i]);
    for (int i = 0; i < s->workers_n; i++)
        worker_stop(s->workers[i]);
    sup_roles_free(s);
    for (int i = 0; i < s->lanes_n; i++)
        sup_lane_free(s->lanes[i]);
    for (int i = 0; i < s->ended_n; i++)
        sup_lane_free(s->ended[i]);
    sup_watch_free(s);
    filter_free(s->filter);
    free(s->db_map);
    free(s->lanes);
    free(s->ended);
    free(s->workers);
    uv_rwlock_destroy(&s->lock);
    uv_mutex_destroy(&s->wake_lock);
    uv_cond_destroy(&s->wake);
    free(s);
}

// ---- questions and commands ----

size_t supervisor_snapshots(struct supervisor *s, struct lane_snapshot **out)
{
    uv_rwlock_rdlock(&s->lock);
    size_t n = (size_t)s->lanes_n;
    *out = xcalloc(n, sizeof(**out));
    for (size_t i = 0; i < n; i++)
        sup_lane_snapshot(s->lanes[i], &(*out)[i]);
    sup_roles_describe(s, *out, n);
    uv_rwlock_rdunlock(&s->lock);
    return n;
}

// By the address that is shown, by the name in the log, or by any node of the shard.
static bool lane_is_called(struct sup_lane *sl, struct slice name)
{
    struct lane_snapshot now;
    sup_lane_snapshot(sl, &now);
    return slice_eq(name, slice_cstr(now.input)) || slice_eq(name, slice_cstr(sl->name)) ||
           (sl->shard && shard_has_address(sl->shard, name));
}

static int find_lane(const struct supervisor *s, struct slice name)
{
    for (int i = 0; i < s->lanes_n; i++)
        if (lane_is_called(s->lanes[i], name))
            return i;
    return -1;
}

static int unknown_input(const struct supervisor *s, struct slice name, struct err *e)
{
    struct buf known = {0};
    for (int i = 0; i < s->lanes_n; i++) {
        struct lane_snapshot now;
        sup_lane_snapshot(s->lanes[i], &now);
        buf_printf(&known, "%s%s", i ? ", " : "", now.input);
    }
    int rc = name.n ? err_set(e, ERR_CONFIG, "unknown input \"%.*s\"; known: %s",
                              (int)(name.n < 100 ? name.n : 100), name.p, buf_cstr(&known))
                    : err_set(e, ERR_CONFIG, "inputs is missing: \"all\" or a list of: %s",
                              buf_cstr(&known));
    buf_free(&known);
    return rc;
}

// chosen has lanes_n entries, all false.
static int choose(const struct supervisor *s, const char *inputs, bool *chosen, struct err *e)
{
    struct slice rest = slice_cstr(inputs ? inputs : "");
    if (rest.n == 0)
        return unknown_input(s, rest, e);
    if (slice_eq(rest, SLICE("all"))) {
        for (int i = 0; i < s->lanes_n; i++)
            chosen[i] = true;
        return 0;
    }
    while (rest.n) {
        const char *comma = memchr(rest.p, ',', rest.n);
        struct slice one = slice_make(rest.p, comma ? (size_t)(comma - rest.p) : rest.n);
        int i = find_lane(s, one);
        if (i < 0)
            return unknown_input(s, one, e);
        chosen[i] = true;
        rest = comma ? slice_make(comma + 1, rest.n - one.n - 1) : (struct slice){0};
    }
    return 0;
}

static void resume_lane(void *arg)
{
    struct sup_lane *sl = arg;
    if (sl->lane)
        lane_resume(sl->lane, false);
    else if (sl->follower)
        follower_resume(sl->follower);
}

static void resume_lane_skipping(void *arg)
{
    struct sup_lane *sl = arg;
    if (sl->lane)
        lane_resume(sl->lane, true);
    else if (sl->follower)
        follower_resume(sl->follower);
}

static void act_on(struct supervisor *s, const bool *chosen, worker_fn fn)
{
    for (int i = 0; i < s->lanes_n; i++)
        if (chosen[i])
            worker_call(s->lanes[i]->worker, fn, s->lanes[i]);
}

// Those that this node leads begin to go to another.
static int hand_over(struct supervisor *s, const bool *chosen, struct err *e)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < s->lanes_n; i++)
        if (chosen[i] && s->lanes[i]->lane)
            rc = sup_roles_hand_over(s, s->lanes[i], e);
    return rc;
}

// Asked of whoever leads them from now on. What cannot be told is done here all the same.
static int note_halts(struct supervisor *s, const bool *chosen, enum group_halt halt, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < s->lanes_n; i++) {
        struct err own;
        int told = chosen[i] && s->lanes[i]->lane ? sup_roles_halt(s, s->lanes[i], halt, &own) : 0;
        if (told && rc == 0) {
            rc = told;
            *e = own;
            err_wrap(e, "done here, but a node that takes over does not know of it; try again");
        }
    }
    return rc;
}

static int act_here(struct supervisor *s, enum supervisor_action a, const bool *chosen,
                    bool resume_skip, struct err *e)
{
    static const enum group_halt asked[] = {
        [SUP_PAUSE] = GROUP_PAUSED,  [SUP_RESUME] = GROUP_RUNS,  [SUP_STOP] = GROUP_STOPPED,
        [SUP_HANDOVER] = GROUP_RUNS, [SUP_RESTART] = GROUP_RUNS,
    };
    int timeout = (int)s->cfg->server.graceful_stop_ms;
    if (s->roles && a == SUP_HANDOVER)
        return hand_over(s, chosen, e);
    int rc = note_halts(s, chosen, asked[a], e);
    switch (a) {
    case SUP_PAUSE:
        act_on(s, chosen, sup_lane_pause);
        break;
    case SUP_RESUME:
        act_on(s, chosen, resume_skip ? resume_lane_skipping : resume_lane);
        break;
    case SUP_STOP:
        stop_and_wait(s, chosen, timeout);
        break;
    case SUP_HANDOVER: // without a group there is nobody to hand over to but ourselves
    case SUP_RESTART:
        stop_and_wait(s, chosen, timeout);
        act_on(s, chosen, resume_lane);
        break;
    }
    return rc;
}

int supervisor_act(struct supervisor *s, enum supervisor_action a, const char *inputs,
                   bool resume_skip, bool passed_on, struct err *e)
{
    static const char *const names[] = {
        [SUP_PAUSE] = "pause", [SUP_RESUME] = "resume", [SUP_HANDOVER] = "handover",
        [SUP_STOP] = "stop",   [SUP_RESTART] = NULL,
    };
    struct sup_passing pass = {.action = names[a], .more = resume_skip ? "&skip=yes" : ""};
    uv_rwlock_rdlock(&s->lock);
    bool *chosen = xcalloc((size_t)s->lanes_n, sizeof(*chosen));
    int rc = choose(s, inputs, chosen, e);
    if (rc == 0)
        rc = sup_pass_collect(s, &pass, chosen, passed_on, e);
    struct err here;
    int rc_here = rc == 0 ? act_here(s, a, chosen, resume_skip, &here) : 0;
    uv_rwlock_rdunlock(&s->lock);
    free(chosen);
    rc = sup_pass_on(s, &pass, rc, e);
    if (rc == 0 && rc_here)
        *e = here;
    return rc ? rc : rc_here;
}

struct full_sync_call {
    struct sup_lane *sl;
    const char *flush;
    bool extra_delete;
};

// A stopped one runs again.
static int note_runs(struct supervisor *s, struct sup_lane *sl, struct err *e)
{
    struct lane_snapshot now;
    sup_lane_snapshot(sl, &now);
    return sl->lane && now.state == LANE_STOP ? sup_roles_halt(s, sl, GROUP_RUNS, e) : 0;
}

static void full_sync_lane(void *arg)
{
    struct full_sync_call *c = arg;
    if (c->sl->lane)
        lane_full_sync(c->sl->lane, c->flush, c->extra_delete);
}

// The command is sent to the target as it is, so only what empties it is let through.
static bool is_flush(const char *command)
{
    static const char *const allowed[] = {"flushdb",        "flushall",     "flushdb async",
                                          "flushall async", "flushdb sync", "flushall sync"};
    for (size_t i = 0; i < sizeof(allowed) / sizeof(*allowed); i++)
        if (slice_ieq(slice_cstr(command), slice_cstr(allowed[i])))
            return true;
    return false;
}

int supervisor_fullsync(struct supervisor *s, const char *inputs, const char *flush_command,
                        bool extra_delete, bool passed_on, struct err *e)
{
    const char *refused = extra_delete ? config_extra_keys_refused(s->cfg) : NULL;
    if (refused)
        return err_set(e, ERR_CONFIG, "extraKeys=delete is not possible: %s", refused);
    if (flush_command && !is_flush(flush_command))
        return err_set(e, ERR_CONFIG,
                       "flushCommand may be flushdb or flushall, with async or sync");
    struct buf more = {0};
    if (flush_command) {
        buf_append_cstr(&more, "&flushdb=yes&flushCommand=");
        peer_encode(&more, flush_command);
    }
    if (extra_delete)
        buf_append_cstr(&more, "&extraKeys=delete");
    struct sup_passing pass = {.action = "fullsync", .more = buf_cstr(&more)};
    uv_rwlock_rdlock(&s->lock);
    bool *chosen = xcalloc((size_t)s->lanes_n, sizeof(*chosen));
    int rc = choose(s, inputs, chosen, e);
    if (rc == 0 && flush_command && s->cfg->input.redis.type == REDIS_CLUSTER && s->lanes_n > 1)
        rc = err_set(e, ERR_CONFIG,
                     "each shard's full sync would empty the target of what the others have "
                     "written: empty it yourself, then ask for a full sync without flushdb");
    if (rc == 0)
        rc = sup_pass_collect(s, &pass, chosen, passed_on, e);
    for (int i = 0; rc == 0 && i < s->lanes_n; i++) {
        struct full_sync_call c = {s->lanes[i], flush_command, extra_delete};
        if (!chosen[i])
            continue;
        rc = note_runs(s, s->lanes[i], e);
        if (rc == 0)
            worker_call(s->lanes[i]->worker, full_sync_lane, &c);
    }
    uv_rwlock_rdunlock(&s->lock);
    free(chosen);
    rc = sup_pass_on(s, &pass, rc, e);
    buf_free(&more);
    return rc;
}

int supervisor_gc(struct supervisor *s, struct err *e)
{
    uv_rwlock_rdlock(&s->lock);
    size_t n = (size_t)s->lanes_n;
    struct gc_lane *lanes = xcalloc(n, sizeof(*lanes));
    for (size_t i = 0; i < n; i++) {
        struct lane_snapshot now;
        sup_lane_snapshot(s->lanes[i], &now);
        memcpy(lanes[i].replid, now.replid, sizeof(lanes[i].replid));
        lanes[i].name = s->lanes[i]->name; // outlives the lane
    }
    uv_rwlock_rdunlock(&s->lock);
    int rc = gc_run(s->cfg, lanes, n, e);
    free(lanes);
    return rc;
}

bool supervisor_ready(struct supervisor *s, char *why, size_t cap)
{
    struct lane_snapshot *lanes;
    size_t n = supervisor_snapshots(s, &lanes);
    struct err e = {0};
    bool ready = n > 0;
    if (!ready) {
        if (s->shards)
            shards_unsettled(s->shards, &e);
        snprintf(why, cap, "no shard of the source is known yet%s%s", e.code ? ": " : "", e.msg);
    }
    for (size_t i = 0; ready && i < n; i++) {
        const struct lane_snapshot *l = &lanes[i];
        if (l->state == LANE_ERROR || l->state == LANE_STOP ||
            (l->state != LANE_PAUSE && l->phase == LANE_PHASE_CONNECTING)) {
            ready = false;
            snprintf(why, cap, "%s: %s%s%s", l->input, lane_state_name(l->state),
                     l->error[0] ? ": " : "", l->error);
        }
    }
    free(lanes);
    return ready;
}

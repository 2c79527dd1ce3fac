// SPDX-License-Identifier: Apache-2.0
#include "control/supervisor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/gc.h"
#include "control/lane_config.h"
#include "flow/filter.h"
#include "lane/lane.h"
#include "lane/worker.h"

enum { WAIT_STEP_MS = 20, GC_MIN_MS = 5 * 60 * 1000 };

struct sup_lane {
    struct lane *lane;
    struct worker *worker;
    char name[300];          // source address
    char *dir, *dead_letter; // owns
    bool stopped;            // worker thread; read after worker_call
};

struct supervisor {
    const struct config *cfg;
    struct worker **workers;
    int workers_n;
    struct sup_lane *lanes;
    int lanes_n;
    struct filter *filter;
    int *db_map; // target db of a source db, for the first db_map_n
    int db_map_n;
    struct link_gate gate;
    struct worker *keeper; // removes what is stale
    uv_timer_t gc_timer;
};

// ---- lanes from the configuration ----

static int make_dirs(const char *path, struct err *e)
{
    char *s = xstrdup(path);
    int rc = 0;
    for (char *p = s + 1; rc == 0 && *p; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        if (mkdir(s, 0755) != 0 && errno != EEXIST)
            rc = err_sys(e, -errno, "create directory %s", s);
        *p = '/';
    }
    if (rc == 0 && mkdir(s, 0700) != 0 && errno != EEXIST)
        rc = err_sys(e, -errno, "create directory %s", s);
    free(s);
    return rc;
}

static const struct endpoint *target_of(const struct config *c, size_t lane)
{
    const struct redis_config *out = &c->output.redis;
    return &out->endpoints[lane < out->endpoints_n ? lane : 0];
}

static bool target_is_shared(const struct config *c, size_t lane)
{
    char name[300], other[300];
    endpoint_name(target_of(c, lane), name, sizeof(name));
    for (size_t i = 0; i < c->input.redis.endpoints_n; i++)
        if (i != lane && strcmp(name, endpoint_name(target_of(c, i), other, sizeof(other))) == 0)
            return true;
    return false;
}

struct new_lane {
    struct sup_lane *sl;
    struct lane_options o;
    struct err *e;
    int rc;
};

static void create_lane(void *arg)
{
    struct new_lane *n = arg;
    n->rc = lane_new(&n->sl->lane, &n->o, n->e);
    if (n->rc == 0)
        lane_start(n->sl->lane);
}

static int start_lane(struct supervisor *s, int i, struct err *e)
{
    const struct config *c = s->cfg;
    struct sup_lane *sl = &s->lanes[i];
    sl->worker = s->workers[i % s->workers_n];
    endpoint_name(&c->input.redis.endpoints[i], sl->name, sizeof(sl->name));
    char *file = lane_config_name(sl->name);
    if (c->channel.type == JOURNAL_STORER) {
        sl->dir = xasprintf("%s/%s", c->channel.dir_path, file);
        int rc = make_dirs(c->channel.dir_path, e);
        if (rc) {
            free(file);
            return rc;
        }
    }
    const struct replay_config *r = &c->output.replay;
    int rc = r->dead_letter_dir ? make_dirs(r->dead_letter_dir, e) : 0;
    if (rc) {
        free(file);
        return rc;
    }
    sl->dead_letter = r->dead_letter_file ? xstrdup(r->dead_letter_file)
                                          : xasprintf("%s/%s.dead", r->dead_letter_dir, file);
    free(file);
    struct new_lane n = {.sl = sl, .e = e};
    lane_config_options(&n.o, c);
    n.o.tag = sl->name;
    n.o.source = c->input.redis.endpoints[i];
    n.o.target = *target_of(c, (size_t)i);
    n.o.target_cluster = c->output.redis.type == REDIS_CLUSTER;
    n.o.target_seeds = c->output.redis.endpoints;
    n.o.target_seeds_n = c->output.redis.endpoints_n;
    n.o.filter = s->filter;
    n.o.gate = &s->gate;
    n.o.dbs = (struct rewrite_dbs){.forced = r->target_db >= 0,
                                   .forced_db = r->target_db,
                                   .map = s->db_map,
                                   .map_n = s->db_map_n,
                                   .shared = target_is_shared(c, (size_t)i)};
    n.o.dead_letter_path = sl->dead_letter;
    n.o.journal.dir = sl->dir;
    n.o.loop = worker_loop(sl->worker);
    worker_call(sl->worker, create_lane, &n);
    return n.rc;
}

static int count_workers(int lanes)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    return cpus > 0 && cpus < lanes ? (int)cpus : lanes;
}

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

int supervisor_start(struct supervisor **out, const struct config *cfg, struct err *e)
{
    size_t in = cfg->input.redis.endpoints_n, to = cfg->output.redis.endpoints_n;
    if (cfg->output.redis.type != REDIS_CLUSTER && to != in && to != 1)
        return err_set(
            e, ERR_CONFIG,
            "%zu input addresses but %zu output addresses: give one output for each input, "
            "or one for all",
            in, to);
    struct supervisor *s = xcalloc(1, sizeof(*s));
    s->cfg = cfg;
    fill_db_map(s, &cfg->output.replay.target_db_map);
    int rc = lane_config_filter(&s->filter, &cfg->output.filter, e);
    atomic_init(&s->gate.free, (int)cfg->input.rdb_parallel);
    s->lanes = xcalloc(in, sizeof(*s->lanes));
    s->lanes_n = (int)in;
    s->workers = xcalloc(in, sizeof(struct worker *));
    for (int n = count_workers((int)in); rc == 0 && s->workers_n < n; s->workers_n++)
        rc = worker_start(&s->workers[s->workers_n], e);
    for (int i = 0; rc == 0 && i < s->lanes_n; i++)
        rc = start_lane(s, i, e);
    if (rc == 0)
        rc = worker_start(&s->keeper, e);
    if (rc == 0)
        worker_call(s->keeper, start_gc_timer, s);
    if (rc) {
        supervisor_stop(s, 0);
        supervisor_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

// ---- stopping ----

static void on_stopped(void *ctx)
{
    struct sup_lane *sl = ctx;
    sl->stopped = true;
}

static void stop_lane(void *arg)
{
    struct sup_lane *sl = arg;
    sl->stopped = false;
    lane_stop(sl->lane, on_stopped, sl);
}

static void stop_lane_now(void *arg)
{
    struct sup_lane *sl = arg;
    lane_stop_now(sl->lane);
    sl->stopped = true;
}

struct stop_check {
    struct sup_lane *sl;
    bool stopped;
};

static void check_stopped(void *arg)
{
    struct stop_check *c = arg;
    c->stopped = c->sl->stopped;
}

static void stop_and_wait(struct supervisor *s, const bool *chosen, int timeout_ms)
{
    uint64_t deadline = clock_mono_us() + (uint64_t)timeout_ms * 1000;
    for (int i = 0; i < s->lanes_n; i++)
        if (s->lanes[i].lane && (!chosen || chosen[i]))
            worker_call(s->lanes[i].worker, timeout_ms ? stop_lane : stop_lane_now, &s->lanes[i]);
    for (int i = 0; i < s->lanes_n; i++) {
        if (!s->lanes[i].lane || (chosen && !chosen[i]))
            continue;
        struct stop_check c = {.sl = &s->lanes[i]};
        for (;;) {
            worker_call(s->lanes[i].worker, check_stopped, &c);
            if (c.stopped || clock_mono_us() >= deadline)
                break;
            usleep(WAIT_STEP_MS * 1000);
        }
        if (!c.stopped)
            worker_call(s->lanes[i].worker, stop_lane_now, &s->lanes[i]);
    }
}

void supervisor_stop(struct supervisor *s, int timeout_ms)
{
    stop_and_wait(s, NULL, timeout_ms);
}

static void free_lane(void *arg)
{
    struct sup_lane *sl = arg;
    lane_free(sl->lane);
    sl->lane = NULL;
}

void supervisor_free(struct supervisor *s)
{
    if (!s)
        return;
    if (s->keeper) {
        worker_call(s->keeper, close_gc_timer, s);
        worker_stop(s->keeper);
    }
    for (int i = 0; i < s->lanes_n; i++)
        if (s->lanes[i].lane)
            worker_call(s->lanes[i].worker, free_lane, &s->lanes[i]);
    for (int i = 0; i < s->workers_n; i++)
        worker_stop(s->workers[i]);
    for (int i = 0; i < s->lanes_n; i++) {
        free(s->lanes[i].dir);
        free(s->lanes[i].dead_letter);
    }
    filter_free(s->filter);
    free(s->db_map);
    free(s->lanes);
    free(s->workers);
    free(s);
}

// ---- questions and commands ----

size_t supervisor_snapshots(struct supervisor *s, struct lane_snapshot **out)
{
    *out = xcalloc((size_t)s->lanes_n, sizeof(**out));
    for (int i = 0; i < s->lanes_n; i++)
        lane_get_snapshot(s->lanes[i].lane, &(*out)[i]);
    return (size_t)s->lanes_n;
}

static int find_lane(const struct supervisor *s, struct slice name)
{
    for (int i = 0; i < s->lanes_n; i++)
        if (slice_eq(name, slice_cstr(s->lanes[i].name)))
            return i;
    return -1;
}

static int unknown_input(const struct supervisor *s, struct slice name, struct err *e)
{
    struct buf known = {0};
    for (int i = 0; i < s->lanes_n; i++)
        buf_printf(&known, "%s%s", i ? ", " : "", s->lanes[i].name);
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

static void pause_lane(void *arg)
{
    struct sup_lane *sl = arg;
    lane_pause(sl->lane);
}

static void resume_lane(void *arg)
{
    struct sup_lane *sl = arg;
    lane_resume(sl->lane, false);
}

static void resume_lane_skipping(void *arg)
{
    struct sup_lane *sl = arg;
    lane_resume(sl->lane, true);
}

static void act_on(struct supervisor *s, const bool *chosen, worker_fn fn)
{
    for (int i = 0; i < s->lanes_n; i++)
        if (chosen[i])
            worker_call(s->lanes[i].worker, fn, &s->lanes[i]);
}

int supervisor_act(struct supervisor *s, enum supervisor_action a, const char *inputs,
                   bool resume_skip, struct err *e)
{
    bool *chosen = xcalloc((size_t)s->lanes_n, sizeof(*chosen));
    int timeout = (int)s->cfg->server.graceful_stop_ms;
    int rc = choose(s, inputs, chosen, e);
    if (rc == 0) {
        switch (a) {
        case SUP_PAUSE:
            act_on(s, chosen, pause_lane);
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
    }
    free(chosen);
    return rc;
}

struct full_sync_call {
    struct sup_lane *sl;
    const char *flush;
};

static void full_sync_lane(void *arg)
{
    struct full_sync_call *c = arg;
    lane_full_sync(c->sl->lane, c->flush);
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
                        struct err *e)
{
    if (flush_command && !is_flush(flush_command))
        return err_set(e, ERR_CONFIG,
                       "flushCommand may be flushdb or flushall, with async or sync");
    bool *chosen = xcalloc((size_t)s->lanes_n, sizeof(*chosen));
    int rc = choose(s, inputs, chosen, e);
    for (int i = 0; rc == 0 && i < s->lanes_n; i++) {
        struct full_sync_call c = {&s->lanes[i], flush_command};
        if (chosen[i])
            worker_call(s->lanes[i].worker, full_sync_lane, &c);
    }
    free(chosen);
    return rc;
}

int supervisor_gc(struct supervisor *s, struct err *e)
{
    struct lane_snapshot *lanes;
    size_t n = supervisor_snapshots(s, &lanes);
    int rc = gc_run(s->cfg, lanes, n, e);
    free(lanes);
    return rc;
}

bool supervisor_ready(struct supervisor *s, char *why, size_t cap)
{
    struct lane_snapshot *lanes;
    size_t n = supervisor_snapshots(s, &lanes);
    bool ready = true;
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

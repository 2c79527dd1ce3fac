// SPDX-License-Identifier: Apache-2.0
// Shards that come and go, and masters that move. Each thing that is watched has a thread, because
// asking blocks.
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/group.h"
#include "control/supervisor_int.h"

enum {
    ASK_TIMEOUT_MS = 2000,
    STEP_MS = 100,       // while a lane is leaving
    UNSETTLED_MS = 1000, // while something is amiss
};

struct moved_call {
    struct sup_lane *sl;
    const char *address;
};

static void source_moved(void *arg)
{
    struct moved_call *c = arg;
    if (c->sl->lane)
        lane_source_moved(c->sl->lane, c->address);
}

static void target_moved(void *arg)
{
    struct moved_call *c = arg;
    if (c->sl->lane)
        lane_target_moved(c->sl->lane, c->address);
}

// ---- sentinels ----

static void tell_lanes(struct supervisor *s, worker_fn fn, const char *address)
{
    uv_rwlock_rdlock(&s->lock);
    for (int i = 0; i < s->lanes_n; i++) {
        struct moved_call c = {s->lanes[i], address};
        worker_call(s->lanes[i]->worker, fn, &c);
    }
    uv_rwlock_rdunlock(&s->lock);
}

static void sources_moved(struct supervisor *s, const char *address)
{
    tell_lanes(s, source_moved, address);
}

static void targets_moved(struct supervisor *s, const char *address)
{
    tell_lanes(s, target_moved, address);
}

static void rest(const struct supervisor *s, int ms)
{
    for (int i = 0; i < ms / STEP_MS && !atomic_load(&s->ending); i++)
        uv_sleep(STEP_MS);
}

static void watch_sentinels(void *arg)
{
    struct sup_sentinel *w = arg;
    struct supervisor *s = w->s;
    struct endpoint now = {0};
    struct err e = {0}, said = {0};
    bool known = false;
    while (!atomic_load(&s->ending)) {
        int wait = (int)s->cfg->server.topology_ticker_ms, rc = 0;
        if (known)
            rc = sentinel_wait_other(&w->o, &now, wait, &s->ending, &e);
        struct endpoint found;
        if (rc >= 0)
            rc = sentinel_master(&found, &w->o, &e);
        if (rc < 0) {
            if (strcmp(said.msg, e.msg) != 0)
                log_warn(NULL, "%s", e.msg);
            said = e;
            rest(s, UNSETTLED_MS);
            continue;
        }
        said = (struct err){0};
        endpoint_free(&now);
        now = found;
        known = true;
        char address[300];
        w->moved(s, endpoint_name(&now, address, sizeof(address)));
    }
    endpoint_free(&now);
}

static int start_sentinel(struct supervisor *s, struct sup_sentinel *w,
                          const struct redis_config *r,
                          void (*moved)(struct supervisor *, const char *), struct err *e)
{
    if (r->type != REDIS_SENTINEL)
        return 0;
    w->s = s;
    w->moved = moved;
    w->o = config_sentinel(r);
    int rc = uv_thread_create(&w->thread, watch_sentinels, w);
    w->started = rc == 0;
    return rc ? err_sys(e, rc, "start a thread") : 0;
}

// ---- the cluster ----

static struct sup_lane *lane_of(const struct supervisor *s, const struct shard *shard)
{
    for (int i = 0; i < s->lanes_n; i++)
        if (s->lanes[i]->shard == shard)
            return s->lanes[i];
    return NULL;
}

// The unit that it is led as. Waits for the registry.
static int name_unit(struct supervisor *s, struct shard *shard, size_t *unit, struct err *e)
{
    struct shard_nodes nodes;
    const char *ids[SHARD_NODES];
    char name[GROUP_SHARD];
    if (!s->roles)
        return 0;
    shard_nodes_of(shard, &nodes);
    for (size_t i = 0; i < nodes.n; i++)
        ids[i] = nodes.ids[i];
    int rc = group_shard_name(sup_roles_group(s), ids, nodes.n, shard_name(shard), name, e);
    if (rc == 0)
        rc = group_set_undone(sup_roles_group(s), name, e);
    if (rc == 0)
        *unit = sup_roles_unit(s, name);
    return rc;
}

static void begin_lane(struct supervisor *s, struct shard *shard, size_t lanes)
{
    struct err e = {0};
    struct sup_lane *sl;
    size_t unit = 0;
    int rc = name_unit(s, shard, &unit, &e);
    if (rc == 0)
        rc = sup_lane_start(s, &sl, 0, shard, unit, lanes, &e);
    if (rc) {
        log_error(shard_name(shard), "no lane for this shard: %s", e.msg);
        if (!s->roles)
            sup_turns_gone(s, shard);
        return;
    }
    uv_rwlock_wrlock(&s->lock);
    sup_lane_list(s, sl);
    uv_rwlock_wrunlock(&s->lock);
}

struct drain_check {
    struct sup_lane *sl;
    bool here, fresh, drained; // fresh: the lane is another one than when it was asked last
};

static void check_drained(void *arg)
{
    struct drain_check *c = arg;
    struct lane *l = c->sl->lane;
    c->here = l != NULL;
    c->fresh = l && c->sl->source_ended != l;
    if (c->fresh)
        lane_end_source(l);
    c->sl->source_ended = l;
    c->drained = !l || lane_is_drained(l);
}

static void remove_lane(struct supervisor *s, struct sup_lane *sl)
{
    log_info(sl->name, "the lane ends: its shard has left the cluster");
    uv_rwlock_wrlock(&s->lock);
    for (int i = 0; i < s->lanes_n; i++)
        if (s->lanes[i] == sl)
            s->lanes[i] = s->lanes[--s->lanes_n];
    s->ended = xrealloc(s->ended, ((size_t)s->ended_n + 1) * sizeof(struct sup_lane *));
    s->ended[s->ended_n++] = sl;
    worker_call(sl->worker, sup_lane_end, sl);
    uv_rwlock_wrunlock(&s->lock);
    sup_turns_gone(s, sl->shard);
    sup_roles_gone(s, sl);
}

// The others need not lead it after us.
static bool tell_done(struct supervisor *s, const struct sup_lane *sl)
{
    struct err e = {0};
    if (s->roles && group_set_done(sup_roles_group(s), sup_roles_name(s, sl), &e))
        log_warn(sl->name, "the group is not told that all of it is applied: %s", e.msg);
    return e.code == 0;
}

// In a group whoever leads the shard does it, and the others keep its journal until it is done.
static void leave_to_leader(struct supervisor *s, struct sup_lane *sl)
{
    sl->leaving = LEAVING_NOT;
    if (s->roles && group_is_done(sup_roles_group(s), sup_roles_name(s, sl)))
        remove_lane(s, sl);
}

static void go_on_leaving(struct supervisor *s, struct sup_lane *sl)
{
    struct drain_check c = {.sl = sl};
    worker_call(sl->worker, check_drained, &c);
    if (s->roles && !c.here) {
        leave_to_leader(s, sl);
        return;
    }
    if (c.fresh)
        sl->leaving = LEAVING_NOT;
    switch (sl->leaving) {
    case LEAVING_NOT:
        sl->leaving = LEAVING_DRAINS;
        break;
    case LEAVING_DRAINS:
        if (!c.drained)
            break;
        worker_call(sl->worker, sup_lane_stop, sl);
        sl->leaving = LEAVING_STOPS;
        break;
    case LEAVING_STOPS:
        if (sup_lane_has_stopped(sl) && tell_done(s, sl))
            remove_lane(s, sl);
        break;
    }
}

// The group knows the shard by its master from now on.
static void keep_name(struct supervisor *s, struct sup_lane *sl)
{
    struct group *g = sup_roles_group(s);
    const char *name = sup_roles_name(s, sl);
    struct shard_nodes nodes;
    struct err e = {0};
    shard_nodes_of(sl->shard, &nodes);
    int rc = 0;
    if (nodes.n && strcmp(nodes.ids[0], sl->named_for) != 0)
        rc = group_name_master(g, nodes.ids[0], name, &e);
    if (rc == 0 && nodes.n)
        memcpy(sl->named_for, nodes.ids[0], sizeof(sl->named_for));
    if (rc)
        log_debug(sl->name, "%s", e.msg); // with the next look
}

static void keep_names(struct supervisor *s)
{
    for (int i = 0; s->roles && i < s->lanes_n; i++)
        if (!s->lanes[i]->leaving && shard_is_here(s->lanes[i]->shard))
            keep_name(s, s->lanes[i]);
}

// Another node has seen that a shard has gone, and has done with it.
static bool any_done(struct supervisor *s)
{
    bool any = false;
    for (int i = 0; s->roles && i < s->lanes_n && !any; i++)
        any = group_is_done(sup_roles_group(s), sup_roles_name(s, s->lanes[i]));
    return any;
}

// Makes the lanes those of the shards. Returns how many are leaving.
static int match_lanes(struct supervisor *s)
{
    struct shard **shards;
    size_t n = shards_list(s->shards, &shards), here = 0;
    int leaving = 0;
    for (size_t i = 0; i < n; i++) {
        bool is_here = shard_is_here(shards[i]);
        here += is_here;
        if (is_here && !lane_of(s, shards[i]))
            (s->roles ? sup_turns_elsewhere : sup_turns_expect)(s, shards[i]);
    }
    for (size_t i = 0; i < n && !atomic_load(&s->ending); i++) {
        struct sup_lane *sl = lane_of(s, shards[i]);
        if (!sl && shard_is_here(shards[i]))
            begin_lane(s, shards[i], here);
        // A shard that is back gets a new lane when the old one has ended.
        if (sl && (sl->leaving || !shard_is_here(shards[i]))) {
            go_on_leaving(s, sl);
            leaving++;
        }
    }
    free(shards);
    return leaving;
}

// Returns whether a link is down.
static bool tell_masters(struct supervisor *s)
{
    bool down = false;
    uv_rwlock_rdlock(&s->lock);
    for (int i = 0; i < s->lanes_n && !atomic_load(&s->ending); i++) {
        char address[300];
        struct lane_snapshot now;
        struct sup_lane *sl = s->lanes[i];
        struct moved_call c = {sl, address};
        sup_lane_snapshot(sl, &now);
        down = down || now.phase == LANE_PHASE_CONNECTING;
        shard_master(sl->shard, address, sizeof(address));
        if (!sl->leaving)
            worker_call(sl->worker, source_moved, &c);
    }
    uv_rwlock_rdunlock(&s->lock);
    return down;
}

static void wait_for_wake(struct supervisor *s, int64_t ms)
{
    uv_mutex_lock(&s->wake_lock);
    if (!s->woken && !atomic_load(&s->ending) && ms > 0)
        uv_cond_timedwait(&s->wake, &s->wake_lock, (uint64_t)ms * 1000000);
    s->woken = false;
    uv_mutex_unlock(&s->wake_lock);
}

void sup_watch_wake(struct supervisor *s)
{
    uv_mutex_lock(&s->wake_lock);
    s->woken = true;
    uv_cond_signal(&s->wake);
    uv_mutex_unlock(&s->wake_lock);
}

// A lane has looked on its way to a new master: what it found may concern others.
static void on_looked(void *ctx)
{
    struct supervisor *s = ctx;
    atomic_store(&s->looked, true);
    sup_watch_wake(s);
}

// Returns whether the cluster answered.
static bool look(struct supervisor *s, struct err *said)
{
    struct err e = {0};
    int rc = shards_look(s->shards, &e);
    if (rc && strcmp(said->msg, e.msg) != 0)
        log_warn(NULL, "the source cluster: %s", e.msg);
    *said = e;
    return rc == 0;
}

static void watch_cluster(void *arg)
{
    struct supervisor *s = arg;
    struct err said = {0};
    int64_t ticker = s->cfg->server.topology_ticker_ms, looked = 0;
    bool down = false;
    while (!atomic_load(&s->ending)) {
        int64_t now = (int64_t)(clock_mono_us() / 1000);
        down = atomic_exchange(&s->looked, false) || down;
        bool unsettled = down || any_done(s) || shards_unsettled(s->shards, NULL), fresh = false;
        int64_t every = unsettled && ticker > UNSETTLED_MS ? UNSETTLED_MS : ticker;
        every = sup_turns_look_ms(s, every);
        if (looked == 0 || now - looked >= every) {
            fresh = look(s, &said);
            looked = now = (int64_t)(clock_mono_us() / 1000);
            down = tell_masters(s);
        }
        int64_t left = looked + every - now;
        if (match_lanes(s) && left > STEP_MS)
            left = STEP_MS;
        if (fresh) {
            sup_turns_looked(s);
            keep_names(s);
        }
        wait_for_wake(s, left);
    }
}

static int start_cluster(struct supervisor *s, struct err *e)
{
    const struct redis_config *in = &s->cfg->input.redis;
    if (in->type != REDIS_CLUSTER)
        return 0;
    // Beside what the names are for: journals, or else dead letters.
    bool journals = s->cfg->channel.type == JOURNAL_STORER;
    const char *dir = journals ? s->cfg->channel.dir_path : s->cfg->output.replay.dead_letter_dir;
    int rc = dir ? sup_make_dirs(dir, e) : 0;
    if (rc)
        return rc;
    s->names_path = dir ? xasprintf("%s/shards", dir) : NULL;
    struct shards_options o = {.seeds = in->endpoints,
                               .seeds_n = in->endpoints_n,
                               .only_seeds = s->cfg->input.mode == INPUT_STATIC,
                               .names_path = s->names_path,
                               .timeout_ms = ASK_TIMEOUT_MS,
                               .stop = &s->ending,
                               .looked = on_looked,
                               .ctx = s};
    s->shards = shards_new(&o);
    rc = sup_turns_start(s, e);
    if (rc)
        return rc;
    rc = uv_thread_create(&s->watch, watch_cluster, s);
    s->watching = rc == 0;
    return rc ? err_sys(e, rc, "start a thread") : 0;
}

// ---- life ----

int sup_watch_start(struct supervisor *s, struct err *e)
{
    int rc = start_sentinel(s, &s->source_sentinel, &s->cfg->input.redis, sources_moved, e);
    if (rc == 0)
        rc = start_sentinel(s, &s->target_sentinel, &s->cfg->output.redis, targets_moved, e);
    if (rc == 0)
        rc = start_cluster(s, e);
    return rc;
}

void sup_watch_end(struct supervisor *s)
{
    atomic_store(&s->ending, true);
    sup_watch_wake(s);
    struct sup_sentinel *w[] = {&s->source_sentinel, &s->target_sentinel};
    for (int i = 0; i < 2; i++) {
        if (w[i]->started)
            uv_thread_join(&w[i]->thread);
        w[i]->started = false;
    }
    if (s->watching)
        uv_thread_join(&s->watch);
    s->watching = false;
    sup_turns_end(s);
}

void sup_watch_free(struct supervisor *s)
{
    sup_turns_free(s);
    shards_free(s->shards);
    free(s->names_path);
}

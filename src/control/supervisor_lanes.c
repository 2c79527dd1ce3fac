// SPDX-License-Identifier: Apache-2.0
// Lanes of the configuration and of the shards of a cluster.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "control/lane_config.h"
#include "control/supervisor_int.h"

int sup_make_dirs(const char *path, struct err *e)
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

// ---- where to ----

static const struct endpoint *target_of(const struct config *c, size_t place)
{
    const struct redis_config *out = &c->output.redis;
    return &out->endpoints[place < out->endpoints_n ? place : 0];
}

// Others write there too: a cluster may get more shards than it has now.
static bool target_is_shared(const struct config *c, size_t place)
{
    char name[300], other[300];
    if (c->input.redis.type != REDIS_STANDALONE)
        return c->input.redis.type == REDIS_CLUSTER;
    if (c->output.redis.type != REDIS_STANDALONE)
        return c->input.redis.endpoints_n > 1;
    endpoint_name(target_of(c, place), name, sizeof(name));
    for (size_t i = 0; i < c->input.redis.endpoints_n; i++)
        if (i != place && strcmp(name, endpoint_name(target_of(c, i), other, sizeof(other))) == 0)
            return true;
    return false;
}

static int find_by_sentinel(void *ctx, struct endpoint *out, struct err *e)
{
    return sentinel_master(out, ctx, e);
}

static void set_target(struct supervisor *s, struct lane_options *o, size_t place)
{
    const struct redis_config *out = &s->cfg->output.redis;
    switch (out->type) {
    case REDIS_STANDALONE:
        o->target = *target_of(s->cfg, place);
        break;
    case REDIS_SENTINEL:
        o->target = out->data;
        o->find_target = (struct endpoint_finder){find_by_sentinel, &s->target_sentinel.o};
        break;
    case REDIS_CLUSTER:
        o->target = out->endpoints[0];
        o->target_cluster = true;
        o->target_seeds = out->endpoints;
        o->target_seeds_n = out->endpoints_n;
        break;
    }
}

// ---- where from ----

void sup_source_name(const struct redis_config *in, size_t place, char *out)
{
    switch (in->type) {
    case REDIS_STANDALONE:
        endpoint_name(&in->endpoints[place], out, SUP_NAME);
        break;
    case REDIS_SENTINEL:
        snprintf(out, SUP_NAME, "sentinel-%s", in->sentinel.master_name);
        break;
    case REDIS_CLUSTER:
        out[0] = 0;
        break;
    }
}

void sup_lane_address(const struct sup_lane *sl, char *out)
{
    if (sl->shard)
        shard_master(sl->shard, out, SUP_NAME);
    else
        snprintf(out, SUP_NAME, "%s", sl->name);
}

static void set_source(struct supervisor *s, struct sup_lane *sl, struct lane_options *o,
                       size_t place)
{
    const struct redis_config *in = &s->cfg->input.redis;
    switch (in->type) {
    case REDIS_STANDALONE:
        endpoint_copy(&sl->source, &in->endpoints[place]);
        sup_source_name(in, place, sl->name);
        break;
    case REDIS_SENTINEL:
        endpoint_copy(&sl->source, &in->data);
        sup_source_name(in, place, sl->name);
        o->find_source = (struct endpoint_finder){find_by_sentinel, &s->source_sentinel.o};
        break;
    case REDIS_CLUSTER:
        endpoint_copy(&sl->source, &in->endpoints[0]);
        snprintf(sl->name, sizeof(sl->name), "%s", shard_name(sl->shard));
        o->find_source = (struct endpoint_finder){shard_find, sl->shard};
        break;
    }
    o->source = sl->source;
    o->source.db = 0;
    o->tag = sl->name;
}

static int set_files(struct supervisor *s, struct sup_lane *sl, struct lane_options *o,
                     struct err *e)
{
    const struct channel_config *ch = &s->cfg->channel;
    const struct replay_config *r = &s->cfg->output.replay;
    int rc = ch->type == JOURNAL_STORER ? sup_make_dirs(ch->dir_path, e) : 0;
    if (rc == 0 && r->dead_letter_dir)
        rc = sup_make_dirs(r->dead_letter_dir, e);
    if (rc)
        return rc;
    char *file = lane_config_name(sl->name);
    if (ch->type == JOURNAL_STORER)
        sl->dir = xasprintf("%s/%s", ch->dir_path, file);
    sl->dead_letter = r->dead_letter_file ? xstrdup(r->dead_letter_file)
                                          : xasprintf("%s/%s.dead", r->dead_letter_dir, file);
    free(file);
    o->dead_letter_path = sl->dead_letter;
    o->journal.dir = sl->dir;
    return 0;
}

// ---- the lane ----

// A worker of its own while there are fewer workers than CPUs, else the one with fewest lanes.
static int choose_worker(struct supervisor *s, struct worker **out, struct err *e)
{
    if (s->workers_n < s->workers_max) {
        int rc = worker_start(&s->workers[s->workers_n], e);
        if (rc == 0)
            *out = s->workers[s->workers_n++];
        return rc;
    }
    int least = INT_MAX;
    for (int w = 0; w < s->workers_n; w++) {
        int lanes = 0;
        for (int i = 0; i < s->lanes_n; i++)
            lanes += s->lanes[i]->worker == s->workers[w];
        if (lanes < least)
            *out = s->workers[w];
        least = lanes < least ? lanes : least;
    }
    return 0;
}

struct new_lane {
    struct sup_lane *sl;
    const struct endpoint *leader;
    const char *leader_name;
    bool follows;
    enum group_halt halt;
    struct err *e;
    int rc;
};

static void add_counters(struct lane_snapshot *to, const struct lane_snapshot *from)
{
#define X(name) to->name += from->name;
    LANE_COUNTERS(X)
#undef X
}

static void look_at(struct sup_lane *sl, struct lane_snapshot *out)
{
    if (sl->follower)
        follower_get_snapshot(sl->follower, out);
    else
        lane_get_snapshot(sl->lane, out);
}

// What has the journal open gives it back.
static struct journal *take_journal(struct sup_lane *sl)
{
    struct journal *j = NULL;
    struct lane_snapshot last = {0};
    if (sl->lane || sl->follower)
        look_at(sl, &last);
    add_counters(&sl->past, &last);
    if (sl->lane) {
        lane_stop_now(sl->lane);
        j = lane_free_but_journal(sl->lane);
    } else if (sl->follower) {
        j = follower_free(sl->follower);
    }
    sl->lane = NULL;
    sl->source_ended = NULL;
    sl->follower = NULL;
    sl->follows[0] = 0;
    return j;
}

// A leader that was started again may have another password at the same address.
static void name_place(const struct endpoint *ep, char *out, size_t cap)
{
    char address[300];
    snprintf(out, cap, "%s %s", endpoint_name(ep, address, sizeof(address)),
             ep->password ? ep->password : "");
}

static void follow(struct new_lane *n, struct journal *j)
{
    struct sup_lane *sl = n->sl;
    char source[SUP_NAME];
    sup_lane_address(sl, source);
    struct follower_options o = {.loop = sl->options.loop,
                                 .tag = sl->name,
                                 .source_name = source,
                                 .leader_name = n->leader_name,
                                 .listening_port = sl->options.listening_port};
    if (n->leader) {
        o.leader = *n->leader;
        name_place(n->leader, sl->follows, sizeof(sl->follows));
    }
    sl->follower = follower_new(&o, j);
}

// On the worker: makes it what it is to be, whatever it was.
static void create_lane(void *arg)
{
    struct new_lane *n = arg;
    struct sup_lane *sl = n->sl;
    struct journal *j = take_journal(sl);
    struct journal_options jo = sl->options.journal;
    jo.loop = sl->options.loop;
    jo.tag = sl->name;
    n->rc = j ? 0 : journal_open(&j, &jo, n->e);
    if (n->rc == 0 && n->follows) {
        follow(n, j);
    } else if (n->rc == 0) {
        struct lane_options o = sl->options;
        o.open_journal = j;
        n->rc = lane_new(&sl->lane, &o, n->e);
        lane_start(sl->lane);
        if (n->halt == GROUP_PAUSED)
            lane_pause(sl->lane);
        else if (n->halt == GROUP_STOPPED)
            sup_lane_stop(sl);
    }
    if (n->rc == 0 && sl->options.lease && !sl->reach)
        sl->reach = reach_new(&sl->options);
}

bool sup_lane_lead(struct supervisor *s, struct sup_lane *sl, uint64_t token, enum group_halt halt)
{
    struct err e;
    if (sl->lane)
        return true;
    // It might take the target away from the new lane.
    if (atomic_load(&sl->alive))
        return false;
    sl->options.epoch_floor = token;
    if (sl->shard) {
        sup_turns_expect(s, sl->shard);
        must(sup_turns_begin(s, sl->shard, &sl->options.turns, &e) == 0);
    }
    struct new_lane n = {.sl = sl, .halt = halt, .e = &e};
    worker_call(sl->worker, create_lane, &n);
    return true;
}

void sup_lane_follow(struct supervisor *s, struct sup_lane *sl, const struct endpoint *leader,
                     const char *name)
{
    struct err e;
    char at[sizeof(sl->follows)] = "";
    if (leader)
        name_place(leader, at, sizeof(at));
    if (sl->follower && strcmp(at, sl->follows) == 0)
        return;
    struct new_lane n = {.sl = sl, .leader = leader, .leader_name = name, .follows = true, .e = &e};
    worker_call(sl->worker, create_lane, &n);
    if (sl->shard)
        sup_turns_elsewhere(s, sl->shard);
}

void sup_lane_snapshot(struct sup_lane *sl, struct lane_snapshot *out)
{
    look_at(sl, out);
    add_counters(out, &sl->past);
    // A lane that was never connected, because it is stopped, knows no address of its shard.
    if (sl->shard && strcmp(out->input, sl->name) == 0)
        sup_lane_address(sl, out->input);
    if (!sl->reach)
        return;
    // A lane says itself what it cannot reach.
    char why[sizeof(out->error)];
    out->reaches = reach_ok(sl->reach, why, sizeof(why));
    if (sl->follower && !out->error[0])
        memcpy(out->error, why, sizeof(why));
}

int sup_lane_start(struct supervisor *s, struct sup_lane **out, size_t place, struct shard *shard,
                   size_t unit, size_t lanes, struct err *e)
{
    struct sup_lane *sl = xcalloc(1, sizeof(*sl));
    struct lane_options *o = &sl->options;
    struct new_lane n = {.sl = sl, .follows = s->roles != NULL, .e = e};
    sl->shard = shard;
    sl->unit = unit;
    lane_config_options(o, s->cfg, lanes);
    o->lease = sup_roles_lease(s, sl);
    o->alive = &sl->alive;
    set_source(s, sl, o, place);
    set_target(s, o, place);
    const struct replay_config *r = &s->cfg->output.replay;
    o->filter = s->filter;
    o->gate = &s->gate;
    o->dbs = (struct rewrite_dbs){.forced = r->target_db >= 0,
                                  .forced_db = r->target_db,
                                  .map = s->db_map,
                                  .map_n = s->db_map_n,
                                  .shared = target_is_shared(s->cfg, place)};
    int rc = set_files(s, sl, o, e);
    if (rc == 0 && shard)
        rc = sup_turns_begin(s, shard, &o->turns, e);
    if (rc == 0)
        rc = choose_worker(s, &sl->worker, e);
    if (rc == 0) {
        o->loop = worker_loop(sl->worker);
        worker_call(sl->worker, create_lane, &n);
        rc = n.rc;
    }
    if (rc)
        sup_lane_free(sl);
    else
        *out = sl;
    return rc;
}

void sup_lane_list(struct supervisor *s, struct sup_lane *sl)
{
    s->lanes = xrealloc(s->lanes, ((size_t)s->lanes_n + 1) * sizeof(struct sup_lane *));
    s->lanes[s->lanes_n++] = sl;
    sup_roles_listed(s, sl);
}

void sup_lane_free(struct sup_lane *sl)
{
    must(!sl->lane && !sl->follower);
    endpoint_free(&sl->source);
    free(sl->dir);
    free(sl->dead_letter);
    free(sl);
}

// ---- ending ----

static void on_stopped(void *ctx)
{
    struct sup_lane *sl = ctx;
    sl->stopped = true;
}

void sup_lane_stop(void *arg)
{
    struct sup_lane *sl = arg;
    sl->stopped = !sl->lane;
    if (sl->lane)
        lane_stop(sl->lane, on_stopped, sl);
}

void sup_lane_stop_now(void *arg)
{
    struct sup_lane *sl = arg;
    if (sl->lane)
        lane_stop_now(sl->lane);
    sl->stopped = true;
}

// Of a follower there is nothing to pause.
void sup_lane_pause(void *arg)
{
    struct sup_lane *sl = arg;
    if (sl->lane)
        lane_pause(sl->lane);
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

bool sup_lane_has_stopped(struct sup_lane *sl)
{
    struct stop_check c = {.sl = sl};
    worker_call(sl->worker, check_stopped, &c);
    return c.stopped;
}

void sup_lane_end(void *arg)
{
    struct sup_lane *sl = arg;
    if (sl->reach)
        reach_free(sl->reach);
    sl->reach = NULL;
    journal_close(take_journal(sl));
}

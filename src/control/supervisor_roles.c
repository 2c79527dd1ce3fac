// SPDX-License-Identifier: Apache-2.0
// A group: which sources are led here. Lanes become followers of another node, and lanes again.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/group.h"
#include "control/supervisor_int.h"

enum {
    REPORT_MS = 500,
    LOOK_MS = 50, // whether slots move
    ASK_MS = 200, // after an answer that did not come
    FINISH_STEP_MS = 5,
};

// The node that leads something, and where it serves replicas; "": there is none, or it does not
// say.
struct leader {
    char node[GROUP_NODE], replication[GROUP_NODE], password[1024];
};

// What is led as one: a source, or a shard of a cluster.
struct unit {
    char name[SUP_NAME];
    size_t place; // in the list
    // Guarded by the lock.
    bool gone; // no lane has it now
    bool changed;
    enum group_role role;
    uint64_t token; // of our leadership
    struct leader leader;
    enum group_halt halt; // while we lead
    bool halt_known;      // what the group has is that
    // Of the thread.
    uint64_t asked_us; // for that, in vain; 0: not yet
    bool leads;        // its lanes are lanes, or soon will be
    bool waits;        // for what earlier lanes have begun
    char followed[GROUP_NODE];
    int64_t finish_by_us; // they end, because another node takes over; 0: they do not
    uint64_t trouble_us;  // since when we lead and do not reach source or target; 0: we do
};

struct sup_roles {
    struct supervisor *s;
    struct group *group;
    uv_mutex_t lock;
    // Under the lock; only ever more, and each stays where it is.
    struct unit **units;
    size_t units_n;
    uv_cond_t cond;
    uv_thread_t thread;
    bool started;
    // Of the thread.
    bool gathers;   // the group was told that this node needs all shards
    size_t told_of; // units then
    bool anew;      // all lanes have ended and wait for each other to begin
};

static bool is_of(const struct sup_lane *sl, const struct unit *u)
{
    return sl->unit == u->place;
}

// NULL: behind the last one.
static struct unit *unit_at(struct sup_roles *r, size_t i)
{
    uv_mutex_lock(&r->lock);
    struct unit *u = i < r->units_n ? r->units[i] : NULL;
    uv_mutex_unlock(&r->lock);
    return u;
}

static void on_changed(void *ctx, const struct group_change *c)
{
    struct sup_roles *r = ctx;
    uv_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->units_n; i++) {
        struct unit *u = r->units[i];
        if (strcmp(u->name, c->shard) != 0)
            continue;
        u->role = c->role;
        u->token = c->token;
        u->changed = true;
        u->leader = (struct leader){0};
        cstr_copy(u->leader.node, sizeof(u->leader.node), c->leader);
        cstr_copy(u->leader.replication, sizeof(u->leader.replication), c->replication);
        cstr_copy(u->leader.password, sizeof(u->leader.password), c->password);
    }
    uv_cond_signal(&r->cond);
    uv_mutex_unlock(&r->lock);
}

// Something that an earlier lane has begun has not ended.
static bool any_alive(const struct supervisor *s)
{
    bool any = false;
    for (int i = 0; i < s->lanes_n && !any; i++)
        any = atomic_load(&s->lanes[i]->alive) > 0;
    for (int i = 0; i < s->ended_n && !any; i++)
        any = atomic_load(&s->ended[i]->alive) > 0;
    return any;
}

// ---- becoming what the group says ----

// What was asked of an earlier leader. False: the registry does not say now. Then nothing begins:
// whoever has paused a shard relies on it.
static bool know_halt(struct sup_roles *r, struct unit *u)
{
    struct err e;
    enum group_halt halt;
    uint64_t now = clock_mono_us();
    if (u->halt_known)
        return true;
    if (u->asked_us && now - u->asked_us < ASK_MS * 1000)
        return false;
    int rc = group_halt(r->group, u->name, &halt, &e);
    if (rc && !u->asked_us)
        log_warn(u->name, "whether it was paused or stopped is not known yet: %s", e.msg);
    if (rc == 0 && halt != GROUP_RUNS)
        log_info(u->name, "it was asked to %s, and does so until it is resumed",
                 halt == GROUP_PAUSED ? "pause" : "stop");
    u->asked_us = rc ? now : 0;
    uv_mutex_lock(&r->lock);
    u->halt = halt;
    u->halt_known = rc == 0;
    uv_mutex_unlock(&r->lock);
    return rc == 0;
}

static void lead(struct sup_roles *r, struct unit *u, uint64_t token)
{
    struct supervisor *s = r->s;
    u->waits = !u->leads && !know_halt(r, u);
    if (u->waits)
        return;
    if (!u->leads)
        log_info(u->name, "this node leads");
    uv_rwlock_wrlock(&s->lock);
    // What is on the pool may ask the arbiter of its lane.
    bool first = s->turns && !r->anew && !sup_turns_any_here(s), hold = first && any_alive(s);
    if (first && !hold)
        sup_turns_renew(s);
    u->waits = hold;
    for (int i = 0; i < s->lanes_n && !r->anew; i++) {
        if (!is_of(s->lanes[i], u))
            continue;
        s->lanes[i]->past.role_changes += !u->leads;
        u->waits = hold || !sup_lane_lead(s, s->lanes[i], token, u->halt);
    }
    uv_rwlock_wrunlock(&s->lock);
    u->leads = true;
}

// Each lane follows what the leader serves of its shard.
static void follow(struct sup_roles *r, struct unit *u, struct leader *leader)
{
    struct supervisor *s = r->s;
    struct err e = {0};
    struct endpoint place = {0};
    if (u->leads || strcmp(leader->node, u->followed) != 0)
        log_info(u->name, "%s leads; this node does not",
                 leader->node[0] ? leader->node : "nobody that is known");
    cstr_copy(u->followed, sizeof(u->followed), leader->node);
    bool known =
        leader->replication[0] && endpoint_parse(&place, slice_cstr(leader->replication), &e) == 0;
    if (e.code)
        log_warn(u->name, "%s serves replicas at no address: %s", leader->node, e.msg);
    uv_rwlock_wrlock(&s->lock);
    for (int i = 0; i < s->lanes_n; i++) {
        struct sup_lane *sl = s->lanes[i];
        char user[SUP_NAME];
        sup_lane_address(sl, user);
        struct endpoint at = {.host = place.host,
                              .port = place.port,
                              .user = user,
                              .password = leader->password,
                              .tls = s->cfg->server.replication.tls};
        if (is_of(sl, u))
            sup_lane_follow(s, sl, known ? &at : NULL, leader->node);
    }
    uv_mutex_lock(&r->lock);
    u->halt_known = false;
    uv_mutex_unlock(&r->lock);
    uv_rwlock_wrunlock(&s->lock);
    endpoint_free(&place);
    u->leads = false;
}

static void begin_finishing(struct sup_roles *r, struct unit *u)
{
    struct supervisor *s = r->s;
    u->finish_by_us = (int64_t)clock_mono_us() + s->cfg->server.graceful_stop_ms * 1000;
    uv_rwlock_rdlock(&s->lock);
    for (int i = 0; i < s->lanes_n; i++)
        if (is_of(s->lanes[i], u))
            worker_call(s->lanes[i]->worker, sup_lane_stop, s->lanes[i]);
    uv_rwlock_rdunlock(&s->lock);
}

// Returns whether all that was in flight is done with.
static bool has_finished(struct sup_roles *r, struct unit *u)
{
    struct supervisor *s = r->s;
    bool all = true;
    uv_rwlock_rdlock(&s->lock);
    for (int i = 0; all && i < s->lanes_n; i++)
        all = !is_of(s->lanes[i], u) || sup_lane_has_stopped(s->lanes[i]);
    uv_rwlock_rdunlock(&s->lock);
    return all || (int64_t)clock_mono_us() > u->finish_by_us;
}

static void go_on_finishing(struct sup_roles *r, struct unit *u)
{
    struct leader nobody = {0};
    if (!has_finished(r, u))
        return;
    u->finish_by_us = 0;
    follow(r, u, &nobody);
    group_released(r->group, u->name);
}

static void apply_role(struct sup_roles *r, struct unit *u, enum group_role role, uint64_t token,
                       struct leader *leader)
{
    struct leader nobody = {0};
    bool finishing = u->finish_by_us != 0;
    u->finish_by_us = 0;
    u->waits = false;
    switch (role) {
    case GROUP_LEADER:
        // The handover has come to nothing, and lanes that were ended do not begin again.
        if (finishing)
            follow(r, u, &nobody);
        lead(r, u, token);
        break;
    case GROUP_HANDING_OVER:
        begin_finishing(r, u);
        break;
    case GROUP_FOLLOWER:
    case GROUP_NONE:
        follow(r, u, leader);
        break;
    }
}

// ---- slots that move: one node leads all ----

static enum lane_state state_of(struct sup_lane *sl)
{
    struct lane_snapshot now;
    sup_lane_snapshot(sl, &now);
    return now.state;
}

// Under the lock of the lanes.
static bool leads_all(struct sup_roles *r)
{
    struct supervisor *s = r->s;
    bool all = true;
    uv_mutex_lock(&r->lock);
    for (int i = 0; i < s->lanes_n && all; i++) {
        const struct unit *u = r->units[s->lanes[i]->unit];
        all = u->leads && !u->changed && u->role == GROUP_LEADER && !u->finish_by_us &&
              state_of(s->lanes[i]) != LANE_STOP; // whose lane could not say how far it is
    }
    uv_mutex_unlock(&r->lock);
    return all;
}

// As in a process that begins: what the lanes have stored is all that is known.
static void end_all(struct sup_roles *r)
{
    struct supervisor *s = r->s;
    uv_rwlock_wrlock(&s->lock);
    r->anew = leads_all(r);
    for (int i = 0; i < s->lanes_n && r->anew; i++)
        sup_lane_follow(s, s->lanes[i], NULL, "");
    uv_rwlock_wrunlock(&s->lock);
    if (r->anew)
        log_info(NULL, "slots move between shards that were led apart: the lanes begin anew");
}

// All at once, so that none goes on without the others. Unless a shard is lost meanwhile.
static void begin_all(struct sup_roles *r)
{
    struct supervisor *s = r->s;
    uv_rwlock_wrlock(&s->lock);
    bool all = leads_all(r);
    if (all && any_alive(s)) {
        uv_rwlock_wrunlock(&s->lock);
        return;
    }
    r->anew = false;
    // Else with the first lane. Whole before there is a lane that could read its record.
    if (all) {
        sup_turns_renew(s);
        sup_turns_whole(s);
    }
    uv_mutex_lock(&r->lock);
    for (int i = 0; i < s->lanes_n; i++) {
        struct unit *u = r->units[s->lanes[i]->unit];
        if (all)
            (void)sup_lane_lead(s, s->lanes[i], u->token, u->halt);
        else
            u->changed = true;
    }
    uv_mutex_unlock(&r->lock);
    uv_rwlock_wrunlock(&s->lock);
}

static void tell_together(struct sup_roles *r, bool wanted)
{
    const char *names[SUP_SHARDS];
    size_t n = 0;
    uv_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->units_n && wanted && n < SUP_SHARDS; i++)
        if (!r->units[i]->gone)
            names[n++] = r->units[i]->name;
    bool same = wanted == r->gathers && n == r->told_of;
    uv_mutex_unlock(&r->lock);
    if (same)
        return;
    if (wanted != r->gathers)
        log_info(NULL, wanted ? "one node is to lead all shards: slots move, or may have"
                              : "the shards may be led by several nodes again");
    r->gathers = wanted;
    r->told_of = n;
    group_together(r->group, names, n);
}

static void begin_whole(struct sup_roles *r)
{
    struct supervisor *s = r->s;
    uv_rwlock_rdlock(&s->lock);
    if (leads_all(r))
        sup_turns_whole(s);
    uv_rwlock_rdunlock(&s->lock);
}

static void gather(struct sup_roles *r)
{
    struct supervisor *s = r->s;
    if (!s->turns)
        return;
    bool wanted = r->anew || sup_turns_want_all(s);
    tell_together(r, wanted);
    if (r->anew) {
        begin_all(r);
        return;
    }
    enum sup_turns_step step = wanted ? sup_turns_step(s) : SUP_TURNS_STAY;
    if (step == SUP_TURNS_WHOLE)
        begin_whole(r);
    else if (step == SUP_TURNS_ANEW)
        end_all(r);
}

// ---- what the group is told ----

// Most troubles pass by themselves; a leader may have one for as long as it could be dead.
static bool is_able(struct sup_roles *r, struct unit *u, bool reaches)
{
    const struct supervisor *s = r->s;
    uv_mutex_lock(&r->lock);
    bool leads = u->leads || u->role == GROUP_LEADER;
    uv_mutex_unlock(&r->lock);
    uint64_t patience = (uint64_t)s->cfg->cluster.lease_timeout_ms * 1000;
    uint64_t now = clock_mono_us();
    if (reaches || !leads)
        u->trouble_us = 0;
    else if (!u->trouble_us)
        u->trouble_us = now;
    return leads ? !u->trouble_us || now - u->trouble_us < patience : reaches;
}

static void report_unit(struct sup_roles *r, struct unit *u)
{
    struct supervisor *s = r->s;
    char replid[sizeof((struct lane_snapshot *)0)->replid] = "";
    uint64_t left = 0, right = 0;
    bool ready = false, able = false, idle = false;
    for (int k = 0; k < s->lanes_n; k++) {
        struct lane_snapshot now;
        const struct sup_lane *sl = s->lanes[k];
        if (!is_of(sl, u))
            continue;
        sup_lane_snapshot(s->lanes[k], &now);
        memcpy(replid, now.replid, sizeof(replid));
        left = now.journal_left > 0 ? (uint64_t)now.journal_left : 0;
        right = now.received_offset > 0 ? (uint64_t)now.received_offset : 0;
        ready = now.state != LANE_ERROR && now.phase == LANE_PHASE_STREAMING;
        able = is_able(r, u, now.reaches);
        idle = sl->lane && sl->shard && !ready && !sup_turns_is_open(s, sl->shard);
    }
    group_report(r->group, u->name, replid, left, right, ready, able);
    group_idle(r->group, u->name, idle);
}

static void report(struct sup_roles *r)
{
    struct supervisor *s = r->s;
    struct unit *u;
    uv_rwlock_rdlock(&s->lock);
    for (size_t i = 0; (u = unit_at(r, i)); i++)
        report_unit(r, u);
    uv_rwlock_rdunlock(&s->lock);
}

// Returns whether something is under way.
static bool turn(struct sup_roles *r)
{
    bool finishing = false;
    struct unit *u;
    for (size_t i = 0; (u = unit_at(r, i)); i++) {
        uv_mutex_lock(&r->lock);
        bool changed = u->changed;
        enum group_role role = u->role;
        uint64_t token = u->token;
        struct leader leader = u->leader;
        u->changed = false;
        uv_mutex_unlock(&r->lock);
        if (changed || u->waits)
            apply_role(r, u, role, token, &leader);
        else if (u->finish_by_us)
            go_on_finishing(r, u);
        finishing = finishing || u->finish_by_us || u->waits;
    }
    gather(r);
    return finishing || r->anew;
}

static void run(void *arg)
{
    struct sup_roles *r = arg;
    uint64_t reported = 0;
    int step = r->s->turns ? LOOK_MS : REPORT_MS;
    while (!atomic_load(&r->s->ending)) {
        bool finishing = turn(r);
        uint64_t now = clock_mono_us();
        if (now - reported >= REPORT_MS * 1000) {
            report(r);
            reported = now;
        }
        uv_mutex_lock(&r->lock);
        bool changed = false;
        for (size_t i = 0; i < r->units_n; i++)
            changed = changed || r->units[i]->changed;
        if (!changed)
            uv_cond_timedwait(&r->cond, &r->lock,
                              (uint64_t)(finishing ? FINISH_STEP_MS : step) * 1000000);
        uv_mutex_unlock(&r->lock);
    }
}

// ---- for the other files ----

void sup_roles_describe(struct supervisor *s, struct lane_snapshot *lanes, size_t n)
{
    if (!s->roles)
        return;
    char why[500];
    bool part = group_takes_part(s->roles->group, why, sizeof(why));
    for (size_t i = 0; i < n; i++) {
        lanes[i].group_joined = part;
        if (why[0] && !lanes[i].error[0])
            snprintf(lanes[i].error, sizeof(lanes[i].error), "group: %s", why);
    }
}

bool sup_roles_leader(struct supervisor *s, const struct sup_lane *sl, char *node, size_t cap)
{
    struct sup_roles *r = s->roles;
    uv_mutex_lock(&r->lock);
    cstr_copy(node, cap, r->units[sl->unit]->leader.node);
    uv_mutex_unlock(&r->lock);
    return node[0] != 0;
}

const _Atomic int64_t *sup_roles_lease(struct supervisor *s, const struct sup_lane *sl)
{
    struct sup_roles *r = s->roles;
    return r ? group_deadline(r->group, unit_at(r, sl->unit)->name) : NULL;
}

static void name_all(struct sup_roles *r)
{
    uv_mutex_lock(&r->lock);
    const char **names = xcalloc(r->units_n + 1, sizeof(*names));
    size_t n = 0;
    for (size_t i = 0; i < r->units_n; i++)
        if (!r->units[i]->gone)
            names[n++] = r->units[i]->name;
    // The names stay where they are. Under the lock, so that the latest list is the last one told.
    group_set_shards(r->group, names, n);
    uv_mutex_unlock(&r->lock);
    free(names);
}

static size_t add_unit(struct sup_roles *r, const char *name)
{
    size_t i = 0;
    uv_mutex_lock(&r->lock);
    while (i < r->units_n && strcmp(r->units[i]->name, name) != 0)
        i++;
    if (i == r->units_n) {
        struct unit *u = xcalloc(1, sizeof(*u));
        snprintf(u->name, sizeof(u->name), "%s", name);
        u->place = i;
        u->role = GROUP_NONE;
        r->units = xrealloc(r->units, (r->units_n + 1) * sizeof(struct unit *));
        r->units[r->units_n++] = u;
    }
    r->units[i]->gone = false;
    uv_mutex_unlock(&r->lock);
    return i;
}

size_t sup_roles_unit(struct supervisor *s, const char *name)
{
    if (!s->roles)
        return 0;
    size_t place = add_unit(s->roles, name);
    name_all(s->roles);
    return place;
}

void sup_roles_gone(struct supervisor *s, const struct sup_lane *sl)
{
    struct sup_roles *r = s->roles;
    if (!r)
        return;
    uv_mutex_lock(&r->lock);
    r->units[sl->unit]->gone = true;
    uv_mutex_unlock(&r->lock);
    name_all(r);
}

struct group *sup_roles_group(struct supervisor *s)
{
    return s->roles->group;
}

const char *sup_roles_name(struct supervisor *s, const struct sup_lane *sl)
{
    return unit_at(s->roles, sl->unit)->name;
}

void sup_roles_listed(struct supervisor *s, const struct sup_lane *sl)
{
    struct sup_roles *r = s->roles;
    if (!r)
        return;
    uv_mutex_lock(&r->lock);
    r->units[sl->unit]->changed = true;
    uv_cond_signal(&r->cond);
    uv_mutex_unlock(&r->lock);
}

int sup_roles_halt(struct supervisor *s, const struct sup_lane *sl, enum group_halt halt,
                   struct err *e)
{
    struct sup_roles *r = s->roles;
    if (!r)
        return 0;
    struct unit *u = unit_at(r, sl->unit);
    uv_mutex_lock(&r->lock);
    bool same = u->halt_known && u->halt == halt;
    uv_mutex_unlock(&r->lock);
    int rc = same ? 0 : group_set_halt(r->group, u->name, halt, e);
    uv_mutex_lock(&r->lock);
    u->halt = halt;
    u->halt_known = rc == 0;
    uv_mutex_unlock(&r->lock);
    return rc;
}

int sup_roles_hand_over(struct supervisor *s, const struct sup_lane *sl, struct err *e)
{
    return group_handover(s->roles->group, sup_roles_name(s, sl), NULL, e);
}

// ---- the group as JSON ----

static void put_nodes(json_t *out, const struct group_state *st)
{
    for (size_t i = 0; i < st->nodes_n; i++) {
        const struct group_node_state *n = &st->nodes[i];
        json_error_t ignored;
        json_t *record = n->record ? json_loads(n->record, 0, &ignored) : NULL;
        json_array_append_new(out,
                              json_pack("{s:s, s:b, s:I, s:o?}", "Node", n->name, "Self", n->self,
                                        "AliveMs", (json_int_t)n->alive_ms, "Record", record));
    }
}

static void put_shards(json_t *out, const struct group_state *st)
{
    for (size_t i = 0; i < st->shards_n; i++) {
        const struct group_shard_state *h = &st->shards[i];
        json_array_append_new(
            out,
            json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:s}", "Shard", h->name, "Role",
                      group_role_name(h->role), "Leader", h->leader, "Token", (json_int_t)h->token,
                      "LeaseLeftMs", (json_int_t)h->left_ms, "RenewedMs", (json_int_t)h->renewed_ms,
                      "LeaderlessMs", (json_int_t)h->leaderless_ms, "HandoverTo", h->handover_to));
    }
}

void supervisor_group_json(struct supervisor *s, struct buf *out)
{
    json_t *j = json_pack("{s:s}", "Group", s->roles ? s->cfg->cluster.group_name : "");
    if (s->roles) {
        struct group_state st;
        json_t *nodes = json_array(), *shards = json_array();
        group_state(s->roles->group, &st);
        put_nodes(nodes, &st);
        put_shards(shards, &st);
        json_t *more =
            json_pack("{s:s, s:s, s:b, s:b, s:s, s:I, s:I, s:I, s:o, s:o}", "Node",
                      s->cfg->server.listen_peer, "Registry", st.registry, "Joined", st.joined,
                      "Conflict", st.conflict, "Error", st.error, "SeenMs", (json_int_t)st.seen_ms,
                      "LeaseMs", (json_int_t)st.lease_ms, "MarginMs", (json_int_t)st.margin_ms,
                      "Nodes", nodes, "Shards", shards);
        json_object_update(j, more);
        json_decref(more);
        group_state_free(&st);
    }
    char *text = json_dumps(j, JSON_COMPACT | JSON_PRESERVE_ORDER);
    must(text);
    buf_append_cstr(out, text);
    buf_append_char(out, '\n');
    free(text);
    json_decref(j);
}

// ---- life ----

// Those of a cluster come with its shards.
static void add_units(struct sup_roles *r, const struct redis_config *in)
{
    char name[SUP_NAME];
    size_t n = in->type == REDIS_STANDALONE ? in->endpoints_n : in->type == REDIS_SENTINEL;
    for (size_t i = 0; i < n; i++) {
        sup_source_name(in, i, name);
        (void)add_unit(r, name);
    }
}

int sup_roles_start(struct supervisor *s, struct err *e)
{
    if (!s->cfg->cluster.group_name)
        return 0;
    struct sup_roles *r = xcalloc(1, sizeof(*r));
    char at[300] = "";
    s->roles = r;
    r->s = s;
    must(uv_mutex_init(&r->lock) == 0 && uv_cond_init(&r->cond) == 0);
    add_units(r, &s->cfg->input.redis);
    supervisor_replication_address(s, at, sizeof(at));
    struct group_options o = {.node = s->cfg->server.listen_peer,
                              .cluster = &s->cfg->cluster,
                              .source = &s->cfg->input.redis,
                              .api = s->cfg->server.listen_peer,
                              .replication = at,
                              .password = s->serve_password,
                              .handover_ms = s->cfg->server.graceful_stop_ms,
                              .changed = on_changed,
                              .ctx = r};
    int rc = group_start(&r->group, &o, e);
    if (rc)
        return rc;
    name_all(r);
    return 0;
}

// Once there are lanes.
int sup_roles_begin(struct supervisor *s, struct err *e)
{
    if (!s->roles)
        return 0;
    int rc = uv_thread_create(&s->roles->thread, run, s->roles);
    s->roles->started = rc == 0;
    return rc ? err_sys(e, rc, "start a thread") : 0;
}

void sup_roles_end(struct supervisor *s)
{
    struct sup_roles *r = s->roles;
    if (!r || !r->started)
        return;
    uv_mutex_lock(&r->lock);
    uv_cond_signal(&r->cond);
    uv_mutex_unlock(&r->lock);
    uv_thread_join(&r->thread);
    r->started = false;
}

// After the lanes, which look at their leases.
void sup_roles_free(struct supervisor *s)
{
    struct sup_roles *r = s->roles;
    if (!r)
        return;
    sup_roles_end(s);
    group_stop(r->group);
    uv_mutex_destroy(&r->lock);
    uv_cond_destroy(&r->cond);
    for (size_t i = 0; i < r->units_n; i++)
        free(r->units[i]);
    free(r->units);
    free(r);
    s->roles = NULL;
}

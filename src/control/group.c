// SPDX-License-Identifier: Apache-2.0
#include "control/group_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    POLL_MS = 250,     // of a registry that cannot be watched, or is not at the moment
    POLL_FAST_MS = 20, // ... while a shard is being handed over to us
    PUBLISH_MS = 1000,
    RETRY_MS = 250,
    NAP_MS = 1000,
    WATCH_MS = 5000,
    NOTE_MS = 5000, // the note outlives the handover that it announces
    HANDOVER_MS = 5000,
};

// ---- what the owner is told ----

static void told_free(struct group_told *t)
{
    free(t->leader);
    free(t->api);
    free(t->replication);
    free(t->password);
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_told(const struct group_told *t, const struct group_change *c)
{
    return t->role == c->role && t->token == c->token && same_text(t->leader, c->leader) &&
           same_text(t->api, c->api) && same_text(t->replication, c->replication) &&
           same_text(t->password, c->password);
}

static char *copy(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

static void tell(struct group *g, struct group_shard *s)
{
    const struct election *e = &s->election;
    struct group_change c = {.shard = s->name, .role = GROUP_NONE};
    if (e->role != ELECTION_FOLLOWER) {
        c.role = e->role == ELECTION_LEADER ? GROUP_LEADER : GROUP_HANDING_OVER;
        c.token = e->token;
        c.leader = g->o.node;
    } else if (s->leader && strcmp(s->leader, g->o.node) != 0) {
        const struct group_peer *p = group_peer(g, s->leader);
        const json_t *record = p ? p->record : NULL;
        c.role = GROUP_FOLLOWER;
        c.leader = s->leader;
        c.api = group_record_text(record, "api");
        c.replication = group_record_text(record, "replication");
        c.password = group_record_text(record, "password");
    }
    if (same_told(&s->told, &c))
        return;
    // It could not lead, or has not found out yet; now it has to try.
    if (c.role == GROUP_LEADER && s->told.role != GROUP_LEADER) {
        uv_mutex_lock(&g->lock);
        s->edge.able = true;
        uv_mutex_unlock(&g->lock);
    }
    if (s->told.role != c.role)
        log_info(s->name, "in the group: %s%s%s", group_role_name(c.role),
                 c.role == GROUP_FOLLOWER ? " of " : "", c.role == GROUP_FOLLOWER ? c.leader : "");
    told_free(&s->told);
    s->told = (struct group_told){
        c.role, c.token, copy(c.leader), copy(c.api), copy(c.replication), copy(c.password)};
    g->o.changed(g->o.ctx, &c);
}

void group_fail(struct group *g, const struct err *e)
{
    bool changed = strcmp(g->error, e ? e->msg : "") != 0;
    if (changed && e)
        log_warn("group", "%s", e->msg);
    else if (changed)
        log_info("group", "in order again; what was wrong: %s", g->error);
    uv_mutex_lock(&g->lock);
    snprintf(g->error, sizeof(g->error), "%s", e ? e->msg : "");
    uv_mutex_unlock(&g->lock);
}

// ---- steps ----

void group_step(struct group *g, struct group_shard *s, const struct election_event *ev)
{
    struct election_event now = *ev;
    now.now = clock_boot_ms();
    uv_mutex_lock(&g->lock);
    enum election_request r = election_step(&s->election, &now);
    bool leads = s->election.role != ELECTION_FOLLOWER;
    atomic_store(&s->deadline, leads ? s->election.deadline : 0);
    uv_mutex_unlock(&g->lock);
    if (r != ELECTION_NOTHING)
        s->pending = r;
    tell(g, s);
}

static void simple_step(struct group *g, struct group_shard *s, enum election_event_type type)
{
    group_step(g, s, &(struct election_event){.type = type});
}

static void set_to(struct group *g, struct group_shard *s, const char *to)
{
    uv_mutex_lock(&g->lock);
    free(s->to);
    s->to = copy(to);
    uv_mutex_unlock(&g->lock);
}

static void set_dirty(struct group *g)
{
    uv_mutex_lock(&g->lock);
    g->dirty = true;
    uv_mutex_unlock(&g->lock);
}

static char *note_key(const struct group_shard *s)
{
    return xasprintf(REGISTRY_NOTES "%s", s->name);
}

static void drop_note(struct group *g, struct group_shard *s)
{
    struct err e;
    char *key = note_key(s);
    if (registry_del(g->registry, key, &e))
        log_debug(s->name, "%s", e.msg); // it ends by itself
    free(key);
    free(s->note);
    s->note = NULL;
}

static void campaign(struct group *g, struct group_shard *s)
{
    struct registry_won won = {0};
    struct err e = {0};
    int rc = ERR_CLOSED;
    bool may = g->joined && g->source_is_ours && !g->conflict;
    if (may)
        rc = registry_campaign(g->registry, s->name, &won, &e);
    struct election_event ev = {.token = won.token, .since = won.since};
    ev.type = rc < 0 ? ELECTION_FAILED : rc ? ELECTION_WON : ELECTION_LOST;
    if (rc < 0)
        s->hold_until = clock_boot_ms() + RETRY_MS;
    if (may && rc < 0)
        group_fail(g, &e);
    set_dirty(g);
    group_step(g, s, &ev);
    if (s->election.role == ELECTION_FOLLOWER)
        return;
    set_to(g, s, NULL);
    if (s->note)
        drop_note(g, s);
}

static void resign(struct group *g, struct group_shard *s)
{
    struct err e = {0};
    int rc = registry_resign(g->registry, s->name, s->election.token, &e);
    if (rc)
        group_fail(g, &e);
    set_dirty(g);
    // The one that it goes to has time to see its note before this node campaigns again.
    s->hold_until = clock_boot_ms() + (s->to ? BALANCE_NOTE_WAIT_MS : RETRY_MS);
    simple_step(g, s, rc ? ELECTION_FAILED : ELECTION_RESIGNED);
}

// The name and all that is led are renewed together.
static void renew(struct group *g)
{
    static const enum election_event_type answers[] = {
        [REGISTRY_UNKNOWN] = ELECTION_FAILED,
        [REGISTRY_HELD] = ELECTION_RENEWED,
        [REGISTRY_NOT_HELD] = ELECTION_NOT_HELD,
    };
    struct group_shard *led[GROUP_SHARDS_MAX];
    struct registry_hold holds[GROUP_SHARDS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < g->mine_n; i++) {
        struct group_shard *s = g->mine[i];
        if (s->pending != ELECTION_RENEW)
            simple_step(g, s, ELECTION_RENEW_DUE);
        if (s->pending != ELECTION_RENEW)
            continue;
        s->pending = ELECTION_NOTHING;
        holds[n] = (struct registry_hold){s->name, s->election.token, REGISTRY_UNKNOWN};
        led[n++] = s;
    }
    int64_t since = 0;
    struct err e = {0};
    int rc = registry_renew(g->registry, holds, n, &since, &e);
    for (size_t i = 0; i < n; i++) {
        struct election_event ev = {.type = answers[holds[i].held], .since = since};
        if (rc)
            ev.type = rc < 0 ? ELECTION_FAILED : ELECTION_NOT_HELD;
        group_step(g, led[i], &ev);
    }
    g->renew_at = rc ? clock_boot_ms() + RETRY_MS : since + g->o.cluster->lease_renew_ms;
    if (rc < 0)
        group_fail(g, &e);
    if (rc > 0) {
        log_warn("group", "the lease of this node has ended in the registry");
        uv_mutex_lock(&g->lock);
        g->joined = false;
        uv_mutex_unlock(&g->lock);
        g->join_at = 0;
        g->source_is_ours = false;
    }
}

static void ask(struct group *g)
{
    bool asked = true;
    for (int round = 0; asked && round < 8; round++) {
        asked = false;
        for (size_t i = 0; i < g->mine_n; i++) {
            struct group_shard *s = g->mine[i];
            enum election_request what = s->pending;
            if (what == ELECTION_NOTHING)
                continue;
            asked = true;
            if (what == ELECTION_RENEW) {
                renew(g);
                continue;
            }
            s->pending = ELECTION_NOTHING;
            if (what == ELECTION_CAMPAIGN)
                campaign(g, s);
            else
                resign(g, s);
        }
    }
}

// ---- handover ----

void group_begin_handover(struct group *g, struct group_shard *s, const char *to)
{
    struct err e;
    char *key = note_key(s);
    int rc = registry_put(g->registry, key, to, g->o.handover_ms + NOTE_MS, &e);
    free(key);
    if (rc) {
        log_warn(s->name, "it is not handed over to %s: %s", to, e.msg);
        return;
    }
    log_info(s->name, "is handed over to %s", to);
    set_to(g, s, to);
    simple_step(g, s, ELECTION_HAND_OVER);
}

static void take_wish(struct group *g, struct group_shard *s)
{
    uv_mutex_lock(&g->lock);
    bool wanted = s->hand_over, released = s->released;
    char *to = s->wished;
    s->hand_over = s->released = false;
    s->wished = NULL;
    uv_mutex_unlock(&g->lock);
    if (wanted && s->election.role == ELECTION_LEADER) {
        const char *heir = to ? to : group_heir(g, s);
        if (heir)
            group_begin_handover(g, s, heir);
        else
            log_warn(s->name, "there is no other node to hand it over to");
    }
    free(to);
    if (released)
        simple_step(g, s, ELECTION_RELEASED);
}

// ---- the thread ----

static void join_group(struct group *g)
{
    int64_t since;
    struct err e = {0};
    int rc = registry_join(g->registry, &since, &e);
    g->join_at = clock_boot_ms() + 2 * RETRY_MS;
    if (rc > 0)
        err_set(&e, ERR_LOCKED,
                "another process is called %s (server.listenPeer) in the group %s, or was until "
                "less than cluster.leaseTimeout ago",
                g->o.node, g->o.cluster->group_name);
    group_fail(g, rc ? &e : NULL);
    if (rc)
        return;
    uv_mutex_lock(&g->lock);
    g->joined = true;
    uv_mutex_unlock(&g->lock);
    log_info("group", "%s is in the group %s (%s)", g->o.node, g->o.cluster->group_name,
             g->registry->ops->name);
    g->renew_at = since + g->o.cluster->lease_renew_ms;
    g->view_at = g->publish_at = g->published_at = 0;
}

static void publish(struct group *g, int64_t now)
{
    struct err e;
    uv_mutex_lock(&g->lock);
    bool at_once = g->publish;
    g->publish = false;
    uv_mutex_unlock(&g->lock);
    if (now < g->publish_at && !at_once)
        return;
    g->publish_at = now + PUBLISH_MS;
    char *record = group_record(g);
    bool ends = !g->registry->ops->can_watch && now - g->published_at >= g->registry->lease_ms / 3;
    if (g->published_at && !ends && same_text(record, g->published)) {
        free(record);
        return;
    }
    char *key = xasprintf(REGISTRY_RECORDS "%s", g->o.node);
    if (registry_keep(g->registry, key, record, &e)) {
        group_fail(g, &e);
        free(record);
    } else {
        free(g->published);
        g->published = record;
        g->published_at = now;
    }
    free(key);
}

static void take_shards(struct group *g)
{
    uv_mutex_lock(&g->lock);
    size_t n = 0;
    for (size_t i = 0; i < g->shards_n; i++) {
        struct group_shard *s = g->shards[i];
        if (s->leaving && s->election.role == ELECTION_FOLLOWER && !s->election.resigning &&
            s->election.stopped && s->pending == ELECTION_NOTHING) {
            g->gone = xrealloc(g->gone, (g->gone_n + 1) * sizeof(struct group_shard *));
            g->gone[g->gone_n++] = s;
        } else {
            s->election.o.lease_ms = g->registry->lease_ms;
            g->shards[n++] = s;
        }
    }
    g->shards_n = n;
    g->mine_n = n;
    if (n)
        memcpy(g->mine, g->shards, n * sizeof(struct group_shard *));
    uv_mutex_unlock(&g->lock);
}

static void run_elections(struct group *g)
{
    for (size_t i = 0; i < g->mine_n; i++) {
        struct group_shard *s = g->mine[i];
        bool stop = s->leaving || g->conflict;
        take_wish(g, s);
        if (stop != s->election.stopped)
            simple_step(g, s, stop ? ELECTION_STOP : ELECTION_START);
        simple_step(g, s, ELECTION_TICK);
    }
}

static bool is_heir(const struct group *g)
{
    for (size_t i = 0; i < g->mine_n; i++)
        if (g->mine[i]->note && g->mine[i]->election.role == ELECTION_FOLLOWER &&
            strcmp(g->mine[i]->note, g->o.node) == 0)
            return true;
    return false;
}

static int64_t poll_ms(struct group *g)
{
    uv_mutex_lock(&g->lock);
    bool watched = g->watch_ok;
    uv_mutex_unlock(&g->lock);
    if (watched)
        return g->o.cluster->lease_renew_ms;
    return is_heir(g) && !g->registry->ops->can_watch ? POLL_FAST_MS : GROUP_POLL_MS;
}

static void look(struct group *g, int64_t now)
{
    uv_mutex_lock(&g->lock);
    bool dirty = g->dirty;
    g->dirty = false;
    uv_mutex_unlock(&g->lock);
    if (dirty || now >= g->view_at) {
        bool seen = group_look(g);
        g->view_at = clock_boot_ms() + (seen ? poll_ms(g) : RETRY_MS);
    }
}

static void turn(struct group *g)
{
    take_shards(g);
    run_elections(g);
    if (!g->joined && clock_boot_ms() >= g->join_at)
        join_group(g);
    // Before anything is campaigned for: what is won lasts as long as the name.
    if (g->joined && clock_boot_ms() >= g->renew_at)
        renew(g);
    ask(g);
    if (!g->joined)
        return;
    look(g, clock_boot_ms());
    if (g->seen_at)
        group_advise(g);
    ask(g);
    publish(g, clock_boot_ms());
    for (size_t i = 0; i < g->mine_n; i++)
        tell(g, g->mine[i]);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void nap(struct group *g)
{
    int64_t now = clock_boot_ms();
    int64_t at = now + NAP_MS;
    for (size_t i = 0; i < g->mine_n; i++)
        at = earlier(at, election_next(&g->mine[i]->election));
    at = earlier(at, g->joined ? earlier(g->renew_at, g->view_at) : g->join_at);
    if (g->joined)
        at = earlier(at, g->publish_at);
    uv_mutex_lock(&g->lock);
    if (!g->woken && !g->dirty && at > now && !atomic_load(&g->stopping))
        uv_cond_timedwait(&g->wake, &g->lock, (uint64_t)(at - now) * 1000000);
    g->woken = false;
    uv_mutex_unlock(&g->lock);
}

static void give_all_up(struct group *g)
{
    struct err e;
    bool answers = true;
    take_shards(g);
    for (size_t i = 0; i < g->mine_n; i++) {
        struct group_shard *s = g->mine[i];
        simple_step(g, s, ELECTION_STOP);
        if (answers && s->pending == ELECTION_RESIGN)
            answers = registry_resign(g->registry, s->name, s->election.token, &e) == 0;
    }
    if (answers && g->joined)
        registry_leave(g->registry);
}

static void run(void *arg)
{
    struct group *g = arg;
    while (!atomic_load(&g->stopping)) {
        turn(g);
        nap(g);
    }
    give_all_up(g);
}

static void wake(struct group *g, bool dirty)
{
    uv_mutex_lock(&g->lock);
    g->woken = true;
    g->dirty = g->dirty || dirty;
    uv_cond_signal(&g->wake);
    uv_mutex_unlock(&g->lock);
}

static void watch(void *arg)
{
    struct group *g = arg;
    while (!atomic_load(&g->stopping)) {
        struct err e = {0};
        int rc = registry_watch(g->watcher, WATCH_MS, &g->stopping, &e);
        uv_mutex_lock(&g->lock);
        g->watch_ok = rc >= 0;
        uv_mutex_unlock(&g->lock);
        if (rc)
            wake(g, true);
        if (rc < 0) {
            log_debug("group", "%s; the registry is polled", e.msg);
            uv_sleep(RETRY_MS);
        }
    }
}

// ---- shards ----

static struct group_shard *find(struct group *g, const char *name)
{
    for (size_t i = 0; i < g->shards_n; i++)
        if (strcmp(g->shards[i]->name, name) == 0)
            return g->shards[i];
    return NULL;
}

static void add_shard(struct group *g, const char *name)
{
    struct group_shard *s = xcalloc(1, sizeof(*s));
    const struct election_options o = {g->o.cluster->lease_timeout_ms, g->o.cluster->lease_renew_ms,
                                       RETRY_MS, g->o.handover_ms};
    s->name = xstrdup(name);
    election_init(&s->election, &o);
    size_t at = g->shards_n;
    g->shards = xrealloc(g->shards, (g->shards_n + 1) * sizeof(struct group_shard *));
    for (; at && strcmp(g->shards[at - 1]->name, name) > 0; at--)
        g->shards[at] = g->shards[at - 1];
    g->shards[at] = s;
    g->shards_n++;
}

static bool named(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

void group_set_shards(struct group *g, const char *const *shards, size_t n)
{
    uv_mutex_lock(&g->lock);
    for (size_t i = 0; i < g->shards_n; i++)
        g->shards[i]->leaving = !named(shards, n, g->shards[i]->name);
    for (size_t i = 0; i < n; i++)
        if (!find(g, shards[i]) && g->shards_n < GROUP_SHARDS_MAX &&
            strlen(shards[i]) < GROUP_SHARD)
            add_shard(g, shards[i]);
    uv_mutex_unlock(&g->lock);
    wake(g, true);
}

void group_report(struct group *g, const char *shard, const char *replid, uint64_t left,
                  uint64_t right, bool ready, bool able)
{
    uv_mutex_lock(&g->lock);
    struct group_shard *s = find(g, shard);
    if (s) {
        s->edge = (struct group_edge){.left = left, .right = right, .ready = ready, .able = able};
        snprintf(s->edge.replid, sizeof(s->edge.replid), "%s", replid ? replid : "");
    }
    uv_mutex_unlock(&g->lock);
}

_Atomic int64_t *group_deadline(struct group *g, const char *shard)
{
    uv_mutex_lock(&g->lock);
    struct group_shard *s = find(g, shard);
    uv_mutex_unlock(&g->lock);
    return s ? &s->deadline : NULL;
}

static int check_handover(struct group *g, const struct group_shard *s, const char *to,
                          struct err *e)
{
    bool leads = s->election.role != ELECTION_FOLLOWER;
    if (!leads)
        return err_set(e, ERR_REPLY, "%s is led by %s", s->name, s->leader ? s->leader : "nobody");
    if (to && strcmp(to, g->o.node) == 0)
        return err_set(e, ERR_CONFIG, "%s leads %s already", to, s->name);
    if (to && !group_peer(g, to))
        return err_set(e, ERR_CONFIG, "there is no node %s in the group", to);
    if (g->peers_n < 2)
        return err_set(e, ERR_CONFIG, "there is no other node in the group");
    return 0;
}

int group_handover(struct group *g, const char *shard, const char *to, struct err *e)
{
    uv_mutex_lock(&g->lock);
    struct group_shard *s = find(g, shard);
    int rc =
        s ? check_handover(g, s, to, e) : err_set(e, ERR_CONFIG, "there is no shard %s", shard);
    if (rc == 0) {
        free(s->wished);
        s->wished = copy(to);
        s->hand_over = true;
    }
    uv_mutex_unlock(&g->lock);
    wake(g, false);
    return rc;
}

void group_released(struct group *g, const char *shard)
{
    uv_mutex_lock(&g->lock);
    struct group_shard *s = find(g, shard);
    if (s)
        s->released = true;
    uv_mutex_unlock(&g->lock);
    wake(g, false);
}

void group_together(struct group *g, const char *const *shards, size_t n)
{
    uv_mutex_lock(&g->lock);
    for (size_t i = 0; i < g->shards_n; i++)
        g->shards[i]->together = named(shards, n, g->shards[i]->name);
    g->publish = true;
    uv_mutex_unlock(&g->lock);
    wake(g, false);
}

void group_idle(struct group *g, const char *shard, bool idle)
{
    uv_mutex_lock(&g->lock);
    struct group_shard *s = find(g, shard);
    if (s)
        s->idle = idle;
    uv_mutex_unlock(&g->lock);
}

// ---- beginning and end ----

static void free_shard(struct group_shard *s)
{
    told_free(&s->told);
    free(s->name);
    free(s->wished);
    free(s->leader);
    free(s->to);
    free(s->last_leader);
    free(s->note);
    free(s);
}

static void free_group(struct group *g)
{
    for (size_t i = 0; i < g->shards_n; i++)
        free_shard(g->shards[i]);
    for (size_t i = 0; i < g->gone_n; i++)
        free_shard(g->gone[i]);
    free(g->shards);
    free(g->gone);
    group_peers_free(g->peers, g->peers_n);
    registry_close(g->registry);
    registry_close(g->watcher);
    registry_close(g->names);
    free(g->source_ids);
    free(g->published);
    uv_cond_destroy(&g->wake);
    uv_mutex_destroy(&g->lock);
    uv_mutex_destroy(&g->names_lock);
    // What the registries were opened with is borrowed from here.
    free((char *)(uintptr_t)g->o.node);
    free((char *)(uintptr_t)g->o.api);
    free((char *)(uintptr_t)g->o.replication);
    free((char *)(uintptr_t)g->o.password);
    free(g);
}

static void copy_options(struct group *g, const struct group_options *o)
{
    g->o = *o;
    g->o.node = xstrdup(o->node);
    g->o.api = copy(o->api);
    g->o.replication = copy(o->replication);
    g->o.password = copy(o->password);
    if (g->o.handover_ms <= 0)
        g->o.handover_ms = HANDOVER_MS;
}

static int start_threads(struct group *g, struct err *e)
{
    int rc = uv_thread_create(&g->thread, run, g);
    if (rc)
        return err_sys(e, rc, "start a thread");
    if (!g->watcher || uv_thread_create(&g->watch, watch, g) == 0)
        return 0;
    // It is polled then.
    registry_close(g->watcher);
    g->watcher = NULL;
    return 0;
}

int group_start(struct group **out, const struct group_options *o, struct err *e)
{
    struct group *g = xcalloc(1, sizeof(*g));
    copy_options(g, o);
    must(uv_mutex_init(&g->lock) == 0 && uv_mutex_init(&g->names_lock) == 0 &&
         uv_cond_init(&g->wake) == 0);
    g->source_ids = xstrdup("[]");
    const struct registry_options ro = {o->cluster->group_name, g->o.node, o->cluster, o->source};
    int rc = registry_open(&g->registry, &ro, e);
    if (rc == 0 && g->registry->ops->can_watch)
        rc = registry_open(&g->watcher, &ro, e);
    if (rc == 0)
        rc = start_threads(g, e);
    if (rc) {
        free_group(g);
        return rc;
    }
    *out = g;
    return 0;
}

void group_stop(struct group *g)
{
    if (!g)
        return;
    atomic_store(&g->stopping, true);
    wake(g, false);
    uv_thread_join(&g->thread);
    if (g->watcher)
        uv_thread_join(&g->watch);
    free_group(g);
}

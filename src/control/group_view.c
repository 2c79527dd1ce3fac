// SPDX-License-Identifier: Apache-2.0
// What the registry shows of the group, and what follows for this node.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/group_int.h"

// ---- nodes ----

static int by_name(const void *a, const void *b)
{
    const struct group_peer *x = a, *y = b;
    return strcmp(x->name, y->name);
}

struct group_peer *group_peer(const struct group *g, const char *name)
{
    for (size_t i = 0; i < g->peers_n; i++)
        if (strcmp(g->peers[i].name, name) == 0)
            return &g->peers[i];
    return NULL;
}

static void take_nodes(struct group *g, const struct registry_view *v, int64_t now)
{
    struct group_peer *peers = xcalloc(v->nodes.n + 1, sizeof(*peers));
    for (size_t i = 0; i < v->nodes.n; i++) {
        const struct group_peer *before = group_peer(g, v->nodes.v[i].key);
        peers[i] = (struct group_peer){
            .name = xstrdup(v->nodes.v[i].key),
            .seen_at = before ? before->seen_at : now,
            .record = group_record_read(v->nodes.v[i].value),
        };
    }
    qsort(peers, v->nodes.n, sizeof(*peers), by_name);
    uv_mutex_lock(&g->lock);
    struct group_peer *old = g->peers;
    size_t old_n = g->peers_n;
    g->peers = peers;
    g->peers_n = v->nodes.n;
    g->seen_at = now;
    uv_mutex_unlock(&g->lock);
    group_peers_free(old, old_n);
}

// ---- shards ----

static void replace(char **to, const char *s)
{
    char *old = *to;
    *to = s ? xstrdup(s) : NULL;
    free(old);
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void set_leader(struct group *g, struct group_shard *s, const char *leader, uint64_t token,
                       int64_t now)
{
    if (!same_text(s->leader, leader)) {
        g->changed_at = now;
        s->hold_until = 0;
        if (s->leader)
            replace(&s->last_leader, s->leader);
    }
    uv_mutex_lock(&g->lock);
    if (!same_text(s->leader, leader))
        replace(&s->leader, leader);
    s->leader_token = token;
    if (leader)
        s->leaderless_at = 0;
    else if (!s->leaderless_at)
        s->leaderless_at = now;
    uv_mutex_unlock(&g->lock);
}

// Ours in the registry, though we do not lead: a request was carried out that nobody waited for, or
// we stood still for too long. Campaigning finds out; without a right to lead it is given back.
static void take_stray(struct group *g, struct group_shard *s, uint64_t token, int64_t now)
{
    if (s->election.stopped || g->conflict) {
        struct err e;
        if (registry_resign(g->registry, s->name, token, &e))
            log_debug(s->name, "%s", e.msg); // the next view tries again
        return;
    }
    if (now >= s->hold_until)
        group_step(g, s, &(struct election_event){.type = ELECTION_WANT, .at = now});
}

static void take_claim(struct group *g, struct group_shard *s, const struct registry_view *v,
                       int64_t now)
{
    const struct registry_entry *claim = registry_find(&v->claims, s->name);
    const struct registry_entry *note = registry_find(&v->notes, s->name);
    s->unknown = registry_find(&v->unknown, s->name) != NULL;
    replace(&s->note, note ? note->value : NULL);
    s->done = same_text(s->note, GROUP_DONE);
    if (s->unknown)
        return;
    set_leader(g, s, claim ? claim->value : NULL, claim ? claim->token : 0, now);
    bool leads = s->election.role != ELECTION_FOLLOWER;
    if (leads && (!claim || !claim->mine)) {
        log_warn(s->name, "the lease of this shard is gone from the registry; %s leads it",
                 claim ? claim->value : "nobody");
        group_step(g, s, &(struct election_event){.type = ELECTION_NOT_HELD});
    } else if (!leads && claim && claim->mine) {
        take_stray(g, s, claim->token, now);
    }
    struct group_edge edge;
    struct group_peer *p = claim ? group_peer(g, claim->value) : NULL;
    if (p && group_record_edge(p->record, s->name, &edge))
        memcpy(s->last_replid, edge.replid, sizeof(s->last_replid));
}

bool group_look(struct group *g)
{
    struct registry_view v;
    struct err e;
    const char *names[GROUP_SHARDS_MAX];
    for (size_t i = 0; i < g->mine_n; i++)
        names[i] = g->mine[i]->name;
    int rc = registry_view(g->registry, names, g->mine_n, &v, &e);
    int64_t now = clock_boot_ms();
    if (rc) {
        group_fail(g, &e);
        return false;
    }
    take_nodes(g, &v, now);
    group_check_source(g, v.source);
    for (size_t i = 0; i < g->mine_n; i++)
        take_claim(g, g->mine[i], &v, now);
    registry_view_free(&v);
    group_fail(g, NULL);
    return true;
}

// ---- advice ----

struct picture {
    struct balance_group b;
    struct balance_node *nodes;   // owns
    struct balance_shard *shards; // owns
    struct balance_edge *edges;   // owns
};

static int place_of(const struct group *g, const char *name, int otherwise)
{
    const struct group_peer *p = name ? group_peer(g, name) : NULL;
    return p ? (int)(p - g->peers) : otherwise;
}

static void draw_edges(struct group *g, const struct group_shard *s, struct balance_edge *edges)
{
    uv_mutex_lock(&g->lock);
    bool able_here = s->edge.able;
    uv_mutex_unlock(&g->lock);
    for (size_t i = 0; i < g->peers_n; i++) {
        struct group_edge edge;
        bool known = group_record_edge(g->peers[i].record, s->name, &edge);
        bool same = !s->last_replid[0] || strcmp(edge.replid, s->last_replid) == 0;
        bool here = strcmp(g->peers[i].name, g->o.node) == 0; // newer than what it has published
        edges[i] = (struct balance_edge){known && same, edge.ready, here ? able_here : edge.able,
                                         edge.right};
    }
}

static bool is_together(const struct group *g, const struct group_shard *s)
{
    bool found = s->together;
    for (size_t i = 0; i < g->peers_n && !found; i++)
        found = group_record_together(g->peers[i].record, s->name);
    return found;
}

static void draw(struct group *g, struct picture *p)
{
    int64_t now = clock_boot_ms();
    size_t peers = g->peers_n;
    p->nodes = xcalloc(peers + 1, sizeof(*p->nodes));
    p->shards = xcalloc(g->mine_n + 1, sizeof(*p->shards));
    p->edges = xcalloc(peers * g->mine_n + 1, sizeof(*p->edges));
    for (size_t i = 0; i < peers; i++)
        p->nodes[i].alive_ms = now - g->peers[i].seen_at;
    for (size_t i = 0; i < g->mine_n; i++) {
        const struct group_shard *s = g->mine[i];
        draw_edges(g, s, &p->edges[i * peers]);
        p->shards[i] = (struct balance_shard){
            // A leader that is no node of ours counts as one all the same.
            .leader = s->leader ? place_of(g, s->leader, (int)peers) : BALANCE_NOBODY,
            .last_leader = place_of(g, s->last_leader, BALANCE_NOBODY),
            .note = place_of(g, s->note, BALANCE_NOBODY),
            .together = is_together(g, s),
            .idle = s->idle,
            .edges = &p->edges[i * peers],
        };
    }
    p->b = (struct balance_group){
        p->nodes,           peers,     place_of(g, g->o.node, BALANCE_NOBODY),
        p->shards,          g->mine_n, g->registry->lease_ms,
        now - g->changed_at};
}

static void erase(struct picture *p)
{
    free(p->nodes);
    free(p->shards);
    free(p->edges);
}

// A claim that vanishes without a note may have been deleted by hand while its leader goes on. One
// that polls the registry as we do finds out within this time.
static int64_t grace_ms(const struct group *g, const struct group_shard *s)
{
    bool polled = !g->registry->ops->can_watch;
    return polled && s->last_leader && !s->note && strcmp(s->last_leader, g->o.node) != 0
               ? GROUP_POLL_MS + 50
               : 0;
}

static void follow_advice(struct group *g, struct group_shard *s, const struct balance_advice *a)
{
    bool leads = s->election.role != ELECTION_FOLLOWER;
    if (a->what == BALANCE_HAND_OVER && s->election.role == ELECTION_LEADER) {
        group_begin_handover(g, s, g->peers[a->to].name);
        return;
    }
    if (leads || s->leaving || s->done)
        return;
    struct election_event ev = {.type = ELECTION_WANT, .at = ELECTION_NEVER};
    if (a->what == BALANCE_CAMPAIGN && !s->unknown && s->leaderless_at) {
        ev.at = s->leaderless_at + a->delay_ms + grace_ms(g, s);
        ev.at = ev.at > s->hold_until ? ev.at : s->hold_until;
    }
    group_step(g, s, &ev);
}

void group_advise(struct group *g)
{
    struct picture p;
    draw(g, &p);
    struct balance_advice *advice = xcalloc(g->mine_n + 1, sizeof(*advice));
    if (p.b.self != BALANCE_NOBODY) {
        balance_advise(&p.b, advice);
        for (size_t i = 0; i < g->mine_n; i++)
            follow_advice(g, g->mine[i], &advice[i]);
    }
    free(advice);
    erase(&p);
}

const char *group_heir(struct group *g, const struct group_shard *s)
{
    struct picture p;
    int heir = BALANCE_NOBODY;
    draw(g, &p);
    for (size_t i = 0; i < g->mine_n; i++)
        if (g->mine[i] == s && p.b.self != BALANCE_NOBODY)
            heir = balance_heir(&p.b, i);
    erase(&p);
    return heir == BALANCE_NOBODY ? NULL : g->peers[heir].name;
}

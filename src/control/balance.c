// SPDX-License-Identifier: Apache-2.0
#include "control/balance.h"

#include <stdlib.h>

#include "base/mem.h"

enum {
    NEAR_BYTES = 64 << 20, // what a node can fetch while a handover is under way
    SAME_BYTES = 1 << 20,  // journals that differ by less are as good as each other
    ALIVE_LEASES = 3,
    QUIET_MIN_MS = 5000,
};

struct plan {
    const struct balance_group *g;
    int *load; // shards led by each node, and those it will most likely win
    int home;  // of the shards that are to be together, or BALANCE_NOBODY
};

static const struct balance_edge *edge_of(const struct balance_shard *s, int node)
{
    return &s->edges[node];
}

static uint64_t furthest(const struct balance_group *g, const struct balance_shard *s)
{
    uint64_t best = 0;
    for (size_t i = 0; i < g->nodes_n; i++)
        if (s->edges[i].known && s->edges[i].right > best)
            best = s->edges[i].right;
    return best;
}

// How far a node is behind the furthest journal; the same for all that are about as far.
static uint64_t behind(const struct balance_shard *s, int node, uint64_t best)
{
    const struct balance_edge *e = edge_of(s, node);
    if (!e->known)
        return UINT64_MAX;
    return best - e->right < SAME_BYTES ? 0 : best - e->right;
}

// Whether a is the better leader of a shard that has none.
static bool better(const struct plan *p, const struct balance_shard *s, uint64_t best, int a, int b)
{
    if ((s->note == a) != (s->note == b))
        return s->note == a;
    // It is gone, most likely, even where its record is not yet.
    if ((s->last_leader == a) != (s->last_leader == b))
        return s->last_leader == b;
    if (edge_of(s, a)->able != edge_of(s, b)->able)
        return edge_of(s, a)->able;
    uint64_t behind_a = behind(s, a, best), behind_b = behind(s, b, best);
    if (behind_a != behind_b)
        return behind_a < behind_b;
    if (s->together && (p->home == a) != (p->home == b))
        return p->home == a;
    if (p->load[a] != p->load[b])
        return p->load[a] < p->load[b];
    return a < b;
}

static int rank_of(const struct plan *p, const struct balance_shard *s, int node)
{
    uint64_t best = furthest(p->g, s);
    int rank = 0;
    for (int i = 0; i < (int)p->g->nodes_n; i++)
        rank += i != node && better(p, s, best, i, node);
    return rank;
}

static int first_of(const struct plan *p, const struct balance_shard *s)
{
    for (int i = 0; i < (int)p->g->nodes_n; i++)
        if (rank_of(p, s, i) == 0)
            return i;
    return BALANCE_NOBODY;
}

static void advise_orphan(struct plan *p, size_t i, struct balance_advice *out)
{
    const struct balance_shard *s = &p->g->shards[i];
    int rank = rank_of(p, s, p->g->self), first = first_of(p, s);
    *out = (struct balance_advice){.what = BALANCE_CAMPAIGN};
    out->delay_ms = BALANCE_STEP_MS * (rank < BALANCE_RANKS ? rank : BALANCE_RANKS);
    if (s->note != BALANCE_NOBODY && s->note != p->g->self)
        out->delay_ms += BALANCE_NOTE_WAIT_MS;
    if (first != BALANCE_NOBODY)
        p->load[first]++;
}

static bool near_enough(const struct balance_group *g, const struct balance_shard *s, int node)
{
    const struct balance_edge *to = edge_of(s, node), *own = edge_of(s, g->self);
    return to->known && to->ready && to->able && own->known && to->right + NEAR_BYTES >= own->right;
}

static int find_home(const struct balance_group *g)
{
    int best = BALANCE_NOBODY, most = 0;
    for (int n = 0; n < (int)g->nodes_n; n++) {
        int led = 0;
        for (size_t i = 0; i < g->shards_n; i++)
            led += g->shards[i].together && g->shards[i].leader == n;
        if (led > most) {
            most = led;
            best = n;
        }
    }
    // So that all of them campaign for the same node's sake.
    for (size_t i = 0; i < g->shards_n && best == BALANCE_NOBODY && g->nodes_n; i++)
        best = g->shards[i].together ? 0 : BALANCE_NOBODY;
    return best;
}

static void bring_together(const struct plan *p, struct balance_advice *out)
{
    const struct balance_group *g = p->g;
    if (p->home == BALANCE_NOBODY || p->home == g->self)
        return;
    for (size_t i = 0; i < g->shards_n; i++) {
        const struct balance_shard *s = &g->shards[i];
        if (s->together && s->leader == g->self && s->note == BALANCE_NOBODY &&
            ((s->idle && edge_of(s, p->home)->able) || near_enough(g, s, p->home)))
            out[i] = (struct balance_advice){.what = BALANCE_HAND_OVER, .to = p->home};
    }
}

// The best of the other nodes for a shard that this one leads.
static int best_heir(const struct plan *p, size_t shard, bool near_only)
{
    const struct balance_group *g = p->g;
    struct balance_shard s = g->shards[shard];
    s.last_leader = g->self;
    uint64_t best = furthest(g, &s);
    int heir = BALANCE_NOBODY;
    for (int i = 0; i < (int)g->nodes_n; i++)
        if (i != g->self && (!near_only || near_enough(g, &s, i)) &&
            (heir == BALANCE_NOBODY || better(p, &s, best, i, heir)))
            heir = i;
    return heir;
}

// What this node leads and cannot serve goes to who can.
static void give_up(const struct plan *p, struct balance_advice *out)
{
    const struct balance_group *g = p->g;
    for (size_t i = 0; i < g->shards_n; i++) {
        const struct balance_shard *s = &g->shards[i];
        if (s->leader != g->self || s->note != BALANCE_NOBODY || edge_of(s, g->self)->able)
            continue;
        int to = best_heir(p, i, true);
        if (to != BALANCE_NOBODY)
            out[i] = (struct balance_advice){.what = BALANCE_HAND_OVER, .to = to};
    }
}

static bool is_settled(const struct balance_group *g)
{
    int64_t quiet = 2 * g->lease_ms > QUIET_MIN_MS ? 2 * g->lease_ms : QUIET_MIN_MS;
    if (g->quiet_ms < quiet)
        return false;
    for (size_t i = 0; i < g->shards_n; i++)
        if (g->shards[i].leader == BALANCE_NOBODY || g->shards[i].note != BALANCE_NOBODY)
            return false;
    return true;
}

static bool may_take(const struct plan *p, const struct balance_shard *s, int node)
{
    const struct balance_group *g = p->g;
    return node != g->self && p->load[node] + 1 < p->load[g->self] &&
           g->nodes[node].alive_ms >= ALIVE_LEASES * g->lease_ms && near_enough(g, s, node);
}

static void spread(const struct plan *p, struct balance_advice *out)
{
    const struct balance_group *g = p->g;
    for (size_t n = 0; n < g->nodes_n; n++)
        if (p->load[n] > p->load[g->self])
            return;
    int to = BALANCE_NOBODY;
    size_t shard = 0;
    for (size_t i = 0; i < g->shards_n; i++) {
        const struct balance_shard *s = &g->shards[i];
        if (s->leader != g->self || s->together)
            continue;
        for (int n = 0; n < (int)g->nodes_n; n++) {
            if (may_take(p, s, n) && (to == BALANCE_NOBODY || p->load[n] < p->load[to])) {
                to = n;
                shard = i;
            }
        }
    }
    if (to != BALANCE_NOBODY)
        out[shard] = (struct balance_advice){.what = BALANCE_HAND_OVER, .to = to};
}

void balance_advise(const struct balance_group *g, struct balance_advice *out)
{
    struct plan p = {.g = g, .home = find_home(g)};
    p.load = xcalloc(g->nodes_n + 1, sizeof(*p.load));
    for (size_t i = 0; i < g->shards_n; i++) {
        out[i] = (struct balance_advice){.what = BALANCE_STAY};
        if (g->shards[i].leader != BALANCE_NOBODY)
            p.load[g->shards[i].leader]++;
    }
    for (size_t i = 0; i < g->shards_n; i++)
        if (g->shards[i].leader == BALANCE_NOBODY)
            advise_orphan(&p, i, &out[i]);
    bring_together(&p, out);
    give_up(&p, out);
    if (is_settled(g))
        spread(&p, out);
    free(p.load);
}

int balance_heir(const struct balance_group *g, size_t shard)
{
    struct plan p = {.g = g, .home = find_home(g)};
    p.load = xcalloc(g->nodes_n + 1, sizeof(*p.load));
    int heir = best_heir(&p, shard, false);
    free(p.load);
    return heir;
}

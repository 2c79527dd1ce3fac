// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/group_int.h"

const char *group_role_name(enum group_role role)
{
    static const char *const names[] = {"none", "follower", "leader", "handing over"};
    return names[role];
}

static void copy_peer(const struct group *g, const struct group_peer *p, int64_t now,
                      struct group_node_state *out)
{
    cstr_copy(out->name, sizeof(out->name), p->name);
    out->self = strcmp(p->name, g->o.node) == 0;
    out->alive_ms = now - p->seen_at;
    out->record = p->record ? group_record_shown(p->record) : NULL;
}

static void copy_shard(const struct group_shard *s, int64_t now, struct group_shard_state *out)
{
    static const enum group_role roles[] = {GROUP_FOLLOWER, GROUP_LEADER, GROUP_HANDING_OVER};
    const struct election *e = &s->election;
    bool leads = e->role != ELECTION_FOLLOWER && now < e->deadline;
    cstr_copy(out->name, sizeof(out->name), s->name);
    cstr_copy(out->leader, sizeof(out->leader), s->leader);
    cstr_copy(out->handover_to, sizeof(out->handover_to), leads ? s->to : NULL);
    out->role = leads ? roles[e->role] : s->leader ? GROUP_FOLLOWER : GROUP_NONE;
    out->token = leads ? e->token : s->leader_token;
    out->renewed_ms = leads ? now - e->since : -1;
    out->left_ms = leads ? e->deadline - now : -1;
    out->leaderless_ms = s->leaderless_at && !leads ? now - s->leaderless_at : 0;
}

bool group_takes_part(struct group *g, char *why, size_t cap)
{
    uv_mutex_lock(&g->lock);
    bool part = g->joined && !g->conflict;
    cstr_copy(why, cap, g->error);
    uv_mutex_unlock(&g->lock);
    return part;
}

void group_state(struct group *g, struct group_state *out)
{
    int64_t now = clock_boot_ms();
    *out = (struct group_state){.registry = g->registry->ops->name};
    uv_mutex_lock(&g->lock);
    out->joined = g->joined;
    out->conflict = g->conflict;
    cstr_copy(out->error, sizeof(out->error), g->error);
    out->seen_ms = g->seen_at ? now - g->seen_at : -1;
    out->lease_ms = g->o.cluster->lease_timeout_ms;
    out->margin_ms = election_margin_ms(out->lease_ms);
    out->nodes = xcalloc(g->peers_n + 1, sizeof(*out->nodes));
    out->shards = xcalloc(g->shards_n + 1, sizeof(*out->shards));
    for (size_t i = 0; i < g->peers_n; i++)
        copy_peer(g, &g->peers[i], now, &out->nodes[out->nodes_n++]);
    for (size_t i = 0; i < g->shards_n; i++)
        if (!g->shards[i]->leaving)
            copy_shard(g->shards[i], now, &out->shards[out->shards_n++]);
    uv_mutex_unlock(&g->lock);
}

void group_state_free(struct group_state *s)
{
    for (size_t i = 0; i < s->nodes_n; i++)
        free(s->nodes[i].record);
    free(s->nodes);
    free(s->shards);
    *s = (struct group_state){0};
}

void group_peers_free(struct group_peer *peers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(peers[i].name);
        json_decref(peers[i].record);
    }
    free(peers);
}

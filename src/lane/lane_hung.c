// SPDX-License-Identifier: Apache-2.0
// A master of a cluster that owes an answer: the others are asked whether its slots have another
// owner by now. If so the target is let go at once: nothing that the master may still say counts.
#include <stdlib.h>

#include "base/mem.h"
#include "lane/lane_int.h"

enum { SILENT_US = 1000 * 1000, ASK_MS = 1000, TIMEOUT_MS = 1000 };

struct hung_node {
    struct endpoint endpoint; // owns
    char id[CLUSTER_NODE_ID + 1];
    bool silent;
};

// Of one attachment of the target. While the job runs, the lane touches only `let_go`.
struct lane_hung {
    uv_work_t work;
    struct lane *lane;
    struct hung_node *nodes; // owns; as the router has them
    size_t n;
    bool running, let_go;
    const struct hung_node *replaced; // NULL: none
    int64_t next_ms;
};

void lane_hung_attach(struct lane *l, const struct masters *m)
{
    must(!l->hung);
    struct lane_hung *h = xcalloc(1, sizeof(*h));
    h->work.data = h;
    h->lane = l;
    h->n = m->n;
    h->nodes = xcalloc(m->n, sizeof(*h->nodes));
    for (size_t i = 0; i < m->n; i++) {
        endpoint_copy(&h->nodes[i].endpoint, &m->endpoints[i]);
        memcpy(h->nodes[i].id, m->map.shards[i].master.id, sizeof(h->nodes[i].id));
    }
    l->hung = h;
}

static void hung_free(struct lane_hung *h)
{
    for (size_t i = 0; i < h->n; i++)
        endpoint_free(&h->nodes[i].endpoint);
    free(h->nodes);
    free(h);
}

void lane_hung_let_go(struct lane *l)
{
    struct lane_hung *h = l->hung;
    l->hung = NULL;
    if (h && h->running)
        h->let_go = true; // its end frees it
    else if (h)
        hung_free(h);
}

// ---- on the pool ----

static bool is_master(const struct cluster_map *m, const char *id)
{
    for (size_t i = 0; i < m->shards_n; i++)
        if (strcmp(m->shards[i].master.id, id) == 0)
            return true;
    return false;
}

// Slots go to another node by a vote of most masters, and the old owner cannot undo that.
static void judge(struct lane_hung *h, const struct cluster_map *m)
{
    // One that knows only a part of the cluster, or a cluster that nobody could attach to.
    if (m->covered != CLUSTER_SLOTS)
        return;
    for (size_t i = 0; i < h->n && !h->replaced; i++)
        if (h->nodes[i].silent && !is_master(m, h->nodes[i].id))
            h->replaced = &h->nodes[i];
}

static void ask(uv_work_t *work)
{
    struct lane_hung *h = work->data;
    struct cluster_map map;
    struct err e;
    for (size_t i = 0; i < h->n; i++) {
        if (h->nodes[i].silent || cluster_ask(&map, &h->nodes[i].endpoint, TIMEOUT_MS, &e))
            continue;
        judge(h, &map);
        cluster_free(&map);
        return;
    }
}

// ---- on the loop ----

static void ask_done(uv_work_t *work, int status)
{
    (void)status;
    struct lane_hung *h = work->data;
    struct lane *l = h->lane;
    l->handles--;
    h->running = false;
    if (h->let_go) {
        hung_free(h);
        if (l->freed && l->handles == 0)
            lane_free(l);
    } else if (h->replaced && !l->drop_wanted) {
        char name[300];
        struct err e;
        err_set(&e, ERR_TIMEOUT, "node %s: no answer, and its slots have another owner",
                endpoint_name(&h->replaced->endpoint, name, sizeof(name)));
        lane_sink_events.failed(l, UINT64_MAX, &e);
    }
}

void lane_hung_tick(struct lane *l, int64_t now)
{
    struct lane_hung *h = l->hung;
    // A clock that was set back must not silence it.
    if (!h || h->running || l->drop_wanted || !sink_attached(l->sink) ||
        (now < h->next_ms && h->next_ms - now <= ASK_MS))
        return;
    bool any = false;
    for (size_t i = 0; i < h->n; i++) {
        h->nodes[i].silent = router_silent(l->router, (int)i, SILENT_US);
        any = any || h->nodes[i].silent;
    }
    if (!any)
        return;
    h->next_ms = now + ASK_MS;
    h->running = true;
    h->replaced = NULL;
    l->handles++;
    must(uv_queue_work(l->o.loop, &h->work, ask, ask_done) == 0);
}

// SPDX-License-Identifier: Apache-2.0
// FLUSHALL and FLUSHDB of one shard of the source: the keys of its slots are looked for at the
// target and deleted, on a thread of the pool.
#include <stdio.h>
#include <unistd.h>

#include "base/fault.h"
#include "lane/lane_stage_int.h"

static bool is_node(const struct lane_stage *s, const struct endpoint *e)
{
    char a[300], b[300];
    endpoint_name(e, a, sizeof(a));
    for (int i = 0; i < s->nodes_n; i++)
        if (strcmp(a, endpoint_name(&s->nodes[i].endpoint, b, sizeof(b))) == 0)
            return true;
    return false;
}

// A master that joined after the target was attached was not looked at.
static int check_nodes(struct lane_stage *s)
{
    const struct lane_options *o = &s->lane->o;
    struct cluster_map map;
    int rc = cluster_find(&map, o->target_seeds, o->target_seeds_n, STAGE_TIMEOUT_MS, &s->err);
    if (rc)
        return rc;
    struct endpoint *masters = cluster_endpoints(&map, &o->target_seeds[0]);
    for (size_t i = 0; i < map.shards_n && rc == 0; i++)
        if (!is_node(s, &masters[i]))
            rc = err_set(&s->err, ERR_CLOSED, "the cluster has other masters by now");
    endpoints_free(masters, map.shards_n);
    cluster_free(&map);
    return rc;
}

static int clear_node(struct lane_stage *s, struct lane_node *n, bool asking)
{
    const struct purge_options o = {.scope = &s->scope,
                                    .unlink = s->unlink,
                                    .asking = asking,
                                    .cancel = &s->cancel,
                                    .keeps = s->keeps,
                                    .ctx = s};
    int rc = lane_stage_reach(s, n);
    n->db = -1; // whichever it stops in
    if (rc == 0) {
        rc = purge_run(n->client, &o, &s->purged, &s->err);
        struct slice text = slice_cstr(s->err.msg);
        if (rc == ERR_REPLY && !target_error_is_transient(text))
            s->step = (struct stage_step){.kind = STAGE_FAILED, .reason = text};
    }
    if (rc == 0)
        rc = lane_stage_await_replicas(s, n);
    if (rc && n->client) {
        redis_close(n->client); // answers may be outstanding
        n->client = NULL;
    }
    return rc;
}

// Keys that move to a node that was looked at before are found the next time.
static int clear_cluster(struct lane_stage *s)
{
    int rc = 0;
    bool found = true;
    for (int pass = 0; rc == 0 && (found || pass < 2); pass++) {
        uint64_t before = s->purged.found;
        if (pass == STAGE_AGAIN_TRIES)
            return err_set(&s->err, ERR_TIMEOUT, "keys are left that are being moved");
        if (pass)
            usleep(STAGE_AGAIN_MS * 1000);
        for (int i = 0; i < s->nodes_n && rc == 0; i++)
            rc = clear_node(s, &s->nodes[i], pass > 0);
        found = s->purged.found > before;
    }
    return rc ? rc : check_nodes(s);
}

void lane_stage_clear(struct lane_stage *s)
{
    s->step = (struct stage_step){.kind = STAGE_DONE};
    s->rc = s->lane->router ? clear_cluster(s) : clear_node(s, &s->nodes[0], false);
}

static void clear_run(uv_work_t *work)
{
    struct lane_stage *s = work->data;
    lane_stage_clear(s);
    if (s->rc == 0)
        fault_point("clear.done");
    else if (s->step.kind == STAGE_FAILED)
        s->rc = 0;
    else if (s->rc == ERR_REPLY && !target_error_is_transient(slice_cstr(s->err.msg)))
        s->err.code = ERR_CLOSED; // what is said on the way there may pass
}

// A slot with a later mark was cleared before: what came behind the command is in it. That can be
// when a failover took the position back.
static void leave_out_done(const struct lane *l, struct purge_scope *s, uint64_t end)
{
    for (int slot = 0; l->router && slot < SLOT_COUNT; slot++)
        if (router_slot_mark(l->router, slot) > end)
            slot_set_remove(s->slots, slot);
}

enum apply_staged lane_clear_slots(void *ctx, const struct apply_clear *c)
{
    struct lane *l = ctx;
    struct lane_stage *s = l->stage;
    enum apply_staged verdict;
    if (l->staging || !s)
        return APPLY_STAGE_WAIT;
    if (lane_stage_result(s, c->ref, &verdict))
        return verdict;
    s->scope = (struct purge_scope){.db = c->db, .dbs = l->o.dbs, .filter = l->o.filter};
    memcpy(s->scope.slots, c->slots, sizeof(s->scope.slots));
    leave_out_done(l, &s->scope, c->end);
    s->unlink = l->server.is_valkey || l->server.version >= 40000;
    s->keeps = NULL;
    lane_stage_start(s, c->ref, clear_run);
    return APPLY_STAGE_WAIT;
}

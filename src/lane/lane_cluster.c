// SPDX-License-Identifier: Apache-2.0
// A cluster as the target: reaching all of its masters, and what each slot says of how far it is.
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "lane/lane_dial.h"
#include "redis/cluster.h"
#include "target/scatter.h"

enum {
    FLOOR_AGE_US = 1000 * 1000, // what a replica that takes over has for sure
    MARKS_AT_ONCE = 1000,
};

// ---- dialling ----

struct cluster_dial {
    struct dial_job *j;
    struct cluster_map map;
    struct endpoint *endpoints; // owns; of the masters
    int64_t *ids;               // owns; of the connections to them
    struct redis_client **clients;
};

static struct redis_client *owner_of(const struct cluster_dial *d, struct slice key)
{
    return d->clients[d->map.owner[slot_of(key)]];
}

static int check_map(const struct cluster_map *m, struct err *e)
{
    if (m->covered == CLUSTER_SLOTS)
        return 0;
    return err_set(e, ERR_REPLY, "CLUSTERDOWN only %d of %d slots have an owner", m->covered,
                   CLUSTER_SLOTS);
}

static int ask_id(struct redis_client *c, int64_t *id, struct err *e)
{
    struct redis_reply reply;
    int rc = redis_call(c, &reply, e, "CLIENT ID");
    *id = rc == 0 && reply.root.type == RESP_INTEGER ? reply.root.num : -1;
    return rc == ERR_REPLY ? 0 : rc;
}

static int reach_node(struct cluster_dial *d, size_t i)
{
    struct dial_job *j = d->j;
    struct target_result *r = &j->r;
    struct redis_server server;
    int rc = redis_connect(&d->clients[i], &d->endpoints[i], CONNECT_TIMEOUT_MS, &r->err);
    if (rc == 0)
        rc = redis_probe(d->clients[i], &server, &r->err);
    if (rc == 0)
        rc = ask_id(d->clients[i], &d->ids[i], &r->err);
    if (rc)
        return rc;
    if (server.loading)
        return err_set(&r->err, ERR_REPLY, "LOADING the target is loading its data");
    if (server.is_replica)
        return err_set(&r->err, ERR_REPLY, "READONLY it is a replica now");
    if (server.version == 0)
        server.version = j->target_version;
    // The oldest of them says what may be sent.
    if (i == 0 || server.version < r->server.version) {
        int databases = i ? r->server.databases : dial_count_databases(d->clients[i]);
        unsigned missing = i ? r->server.missing : 0;
        r->server = server;
        r->server.databases = databases;
        r->server.missing |= missing;
    } else {
        r->server.missing |= server.missing;
    }
    // Named before the fence: of two processes that dial at once, neither may read what the other
    // is about to change without being seen by it.
    rc = dial_set_name(d->clients[i], j, &r->err);
    return rc ? rc : dial_fence(d->clients[i], j, &r->err);
}

static int reach_nodes(struct cluster_dial *d)
{
    struct err *e = &d->j->r.err;
    for (size_t i = 0; i < d->map.shards_n; i++) {
        cluster_endpoint(&d->endpoints[i], &d->map.shards[i].master, &d->j->seeds[0]);
        int rc = reach_node(d, i);
        if (rc) {
            char name[300];
            err_wrap(e, "node %s", endpoint_name(&d->endpoints[i], name, sizeof(name)));
            return rc;
        }
    }
    fault_point("lane.fenced");
    return 0;
}

static int read_position_of(struct cluster_dial *d, const char *id)
{
    struct target_result *r = &d->j->r;
    char name[64];
    if (r->found || !*id)
        return 0;
    return position_read_own(owner_of(d, position_key(id, name)), id, &r->position, &r->found,
                             &r->err);
}

static int read_position(struct cluster_dial *d)
{
    struct dial_job *j = d->j;
    int rc = 0;
    if (j->resume)
        rc = read_position_of(d, j->id1);
    if (rc == 0 && j->resume)
        rc = read_position_of(d, j->id2);
    for (size_t i = 0; rc == 0 && j->resume && i < j->known_n; i++)
        rc = read_position_of(d, j->known[i].replid);
    struct target_result *r = &j->r;
    char name[128];
    if (rc == 0 && j->turns_wanted && r->found)
        rc = position_read_turns(owner_of(d, position_turns_key(r->position.replid, name)),
                                 r->position.replid, &r->turns, &r->err);
    return rc;
}

static int is_empty(struct cluster_dial *d)
{
    struct target_result *r = &d->j->r;
    r->empty = true;
    for (size_t i = 0; i < d->map.shards_n; i++) {
        struct redis_reply reply;
        int rc = redis_call(d->clients[i], &reply, &r->err, "INFO keyspace");
        if (rc && rc != ERR_REPLY)
            return rc;
        if (rc || memmem(reply.root.text.p, reply.root.text.n, "db", 2))
            r->empty = false;
    }
    return 0;
}

// ---- marks ----

// The answer to a GET of a mark. 1: the key may have gone to the node that the slot is moving to.
static int take_mark(const struct redis_reply *reply, uint64_t *mark)
{
    uint64_t v;
    if (reply->root.type == RESP_BULK && slice_u64(reply->root.text, &v) && v > *mark)
        *mark = v;
    return reply->root.type == RESP_ERROR && slice_has_prefix(reply->root.text, SLICE("ASK "));
}

static int ask_mark(struct cluster_dial *d, int slot)
{
    char name[64];
    struct slice key = router_mark_key(d->j->r.position.marks, slot, name);
    uint64_t *mark = &d->j->r.marks[slot];
    // It is on one of the two sides; who it is does not matter.
    for (size_t i = 0; i < d->map.shards_n; i++) {
        struct redis_reply reply;
        struct err ignored;
        int rc = redis_call(d->clients[i], &reply, &d->j->r.err, "ASKING");
        if (rc && rc != ERR_REPLY)
            return rc;
        rc = redis_call(d->clients[i], &reply, &ignored, "GET %b", &key);
        if (rc && rc != ERR_REPLY)
            return err_set(&d->j->r.err, rc, "%s", ignored.msg);
        (void)take_mark(&reply, mark);
    }
    return 0;
}

// Slots of one node, in pipelines. verb: GET, or DEL of what an earlier history has left.
static int each_mark(struct cluster_dial *d, int16_t node, bool remove)
{
    struct target_result *r = &d->j->r;
    int slots[MARKS_AT_ONCE], n = 0, rc = 0;
    struct buf cmds = {0};
    for (int slot = 0; slot <= CLUSTER_SLOTS && rc == 0; slot++) {
        if (slot < CLUSTER_SLOTS && d->map.owner[slot] == node) {
            char name[64];
            struct slice key = router_mark_key(r->position.marks, slot, name);
            resp_put_cmd(&cmds, remove ? "DEL %b" : "GET %b", &key);
            slots[n++] = slot;
        }
        if (n < MARKS_AT_ONCE && slot < CLUSTER_SLOTS)
            continue;
        rc = redis_send(d->clients[node], buf_slice(&cmds), &r->err);
        buf_clear(&cmds);
        int asked[MARKS_AT_ONCE], asked_n = 0;
        for (int i = 0; i < n && rc == 0; i++) {
            struct redis_reply reply;
            rc = redis_receive(d->clients[node], &reply, &r->err);
            if (rc)
                break;
            if (reply.root.type == RESP_ERROR && slice_has_prefix(reply.root.text, SLICE("MOVED")))
                rc = err_set(&r->err, ERR_REPLY, "MOVED a slot while it was asked");
            else if (!remove && take_mark(&reply, &r->marks[slots[i]]))
                asked[asked_n++] = slots[i];
        }
        for (int i = 0; i < asked_n && rc == 0; i++)
            rc = ask_mark(d, asked[i]);
        n = 0;
    }
    buf_free(&cmds);
    return rc;
}

static int read_marks(struct cluster_dial *d)
{
    struct target_result *r = &d->j->r;
    if (!r->found || !r->position.marks)
        return 0;
    bool remove = !d->j->marks_wanted;
    if (!remove)
        r->marks = xcalloc(CLUSTER_SLOTS, sizeof(*r->marks));
    int rc = 0;
    for (size_t i = 0; i < d->map.shards_n && rc == 0; i++)
        rc = each_mark(d, (int16_t)i, remove);
    return rc;
}

// ---- all of it ----

// The position goes first: it must not outlive what it speaks of.
static int flush_nodes(struct cluster_dial *d)
{
    struct dial_job *j = d->j;
    struct redis_reply reply;
    int rc = 0;
    const char *ids[] = {j->id1, j->id2};
    for (size_t i = 0; i < 2 && rc == 0; i++) {
        char name[64];
        struct slice key = position_key(ids[i], name);
        if (*ids[i])
            rc = redis_call(owner_of(d, key), &reply, &j->r.err, "DEL %b", &key);
    }
    for (size_t i = 0; i < d->map.shards_n && rc == 0; i++)
        rc = redis_call(d->clients[i], &reply, &j->r.err, j->flush_command);
    fault_point("lane.flushed");
    return rc;
}

static int reach_cluster(struct cluster_dial *d)
{
    struct dial_job *j = d->j;
    struct err *e = &j->r.err;
    int rc = check_map(&d->map, e);
    if (rc == 0)
        rc = reach_nodes(d);
    if (rc == 0)
        rc = read_position(d);
    if (rc == 0)
        rc = dial_check_epoch(j);
    if (rc == 0 && !j->r.found)
        rc = is_empty(d);
    if (rc == 0)
        rc = read_marks(d);
    char name[64];
    struct slice key = position_key(j->id1[0] ? j->id1 : "none", name);
    if (rc == 0)
        rc = dial_probe_expiry(owner_of(d, key), &j->r, key);
    if (rc == 0)
        rc = dial_ask_source(j);
    if (rc == 0 && j->flush_command)
        rc = flush_nodes(d);
    return rc;
}

static void hand_over(struct cluster_dial *d)
{
    struct target_result *r = &d->j->r;
    r->nodes_n = (int)d->map.shards_n;
    r->nodes = xcalloc(d->map.shards_n, sizeof(*r->nodes));
    r->reached_n = r->nodes_n;
    r->reached = xcalloc(d->map.shards_n, sizeof(*r->reached));
    for (size_t i = 0; i < d->map.shards_n; i++) {
        struct router_node *n = &r->nodes[i];
        snprintf(n->host, sizeof(n->host), "%s", d->endpoints[i].host);
        n->port = d->endpoints[i].port;
        n->conn = redis_take_conn(d->clients[i]);
        d->clients[i] = NULL;
        r->reached[i] = (struct lane_node){.endpoint = d->endpoints[i], .client_id = d->ids[i]};
        d->endpoints[i] = (struct endpoint){0};
    }
    r->owner = xmalloc(CLUSTER_SLOTS * sizeof(*r->owner));
    memcpy(r->owner, d->map.owner, CLUSTER_SLOTS * sizeof(*r->owner));
}

void dial_cluster(struct dial_job *j)
{
    struct cluster_dial d = {.j = j};
    int rc = cluster_find(&d.map, j->seeds, j->seeds_n, CONNECT_TIMEOUT_MS, &j->r.err);
    if (rc)
        return;
    d.endpoints = xcalloc(d.map.shards_n + 1, sizeof(*d.endpoints));
    d.clients = xcalloc(d.map.shards_n + 1, sizeof(struct redis_client *));
    d.ids = xcalloc(d.map.shards_n + 1, sizeof(*d.ids));
    rc = reach_cluster(&d);
    if (rc == 0)
        hand_over(&d);
    for (size_t i = 0; i < d.map.shards_n; i++) {
        redis_close(d.clients[i]);
        endpoint_free(&d.endpoints[i]);
    }
    free(d.clients);
    free(d.ids);
    free(d.endpoints);
    cluster_free(&d.map);
}

void target_result_close(struct target_result *r)
{
    if (r->conn)
        conn_close(r->conn);
    r->conn = NULL;
    for (int i = 0; i < r->nodes_n; i++)
        if (r->nodes[i].conn)
            conn_close(r->nodes[i].conn);
    r->nodes_n = 0;
}

void target_result_free(struct target_result *r)
{
    free(r->nodes);
    free(r->owner);
    free(r->marks);
    lane_nodes_free(r->reached, r->reached_n);
    buf_free(&r->turns);
}

// ---- the router ----

static bool on_emit(void *ctx, uint64_t from, int db, int64_t now_ms, int slot)
{
    struct lane *l = ctx;
    return l->apply && scatter_emit(l->apply, from, db, now_ms, slot);
}

static int on_position_slot(void *ctx)
{
    struct lane *l = ctx;
    char name[64];
    return slot_of(position_key(l->id1, name));
}

static void on_moved(void *ctx)
{
    struct lane *l = ctx;
    log_debug(l->o.tag, "a slot of the target has moved");
}

static void on_again(void *ctx, uint64_t until)
{
    struct lane *l = ctx;
    if (until > l->again_until)
        l->again_until = until;
}

struct router *lane_router_new(struct lane *l)
{
    static const struct router_events events = {.sink = &lane_sink_events,
                                                .emit = on_emit,
                                                .position_slot = on_position_slot,
                                                .moved = on_moved,
                                                .again = on_again};
    struct router_options o = {.loop = l->o.loop,
                               .events = &events,
                               .ctx = l,
                               .position_us = (uint64_t)l->o.position_ms * 1000,
                               .ping_us = (uint64_t)l->o.keepalive_ms * 1000,
                               .silence_us = (uint64_t)TARGET_SILENCE_MS * 1000,
                               .floor_age_us = FLOOR_AGE_US,
                               .max_cmds = l->o.batch_cmds,
                               .max_bytes = l->o.batch_bytes};
    return router_new(&o);
}

static uint64_t new_marks_id(void)
{
    uint64_t id = 0;
    while (id == 0)
        if (getrandom(&id, sizeof(id), 0) != sizeof(id))
            id = (uint64_t)clock_unix_ns();
    return id;
}

void lane_attach_cluster(struct lane *l, struct target_result *r)
{
    bool goes_on = r->found && r->position.marks && !l->snapshot_fresh;
    l->marks_id = goes_on ? r->position.marks : new_marks_id();
    l->await_position = false;
    struct router_target t = {.nodes = r->nodes,
                              .nodes_n = r->nodes_n,
                              .owner = r->owner,
                              .marks = goes_on ? r->marks : NULL,
                              .marks_id = l->marks_id};
    router_attach(l->router, &t);
    lane_stage_attach(l, r);
    r->nodes_n = 0;
}

void lane_drop_stale_position(struct lane *l)
{
    if (!l->stale_replid[0] || strcmp(l->stale_replid, l->id1) == 0)
        return;
    char name[64];
    struct buf text = {0};
    struct slice key = position_key(l->stale_replid, name);
    if (sink_unit_begin(l->sink, slot_of(key), false)) {
        position_put_del(&text, l->stale_replid);
        outq_put(sink_out(l->sink), text.p, text.n);
        sink_cmd(l->sink, UINT64_MAX);
        sink_unit_end(l->sink, &l->mark);
    }
    buf_free(&text);
}

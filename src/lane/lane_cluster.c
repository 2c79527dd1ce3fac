// SPDX-License-Identifier: Apache-2.0
// A cluster as the target: reaching all of its masters, and what each slot says of how far it is.
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/crc64.h"
#include "lane/lane_dial.h"
#include "target/scatter.h"

enum {
    FLOOR_AGE_US = 1000 * 1000, // what a replica that takes over has for sure
    MARKS_AT_ONCE = 1000,
};

// ---- dialling ----

static int read_position_of(struct dial_job *j, const char *id)
{
    struct target_result *r = &j->r;
    char name[64];
    if (r->found || !*id)
        return 0;
    return position_read_own(masters_owner(&r->masters, position_key(id, name)), id, &r->position,
                             &r->found, &r->err);
}

static int read_own_position(struct dial_job *j)
{
    int rc = read_position_of(j, j->id1);
    if (rc == 0)
        rc = read_position_of(j, j->id2);
    for (size_t i = 0; rc == 0 && i < j->known_n; i++)
        rc = read_position_of(j, j->known[i].replid);
    return rc;
}

static int read_foreign_position(struct dial_job *j)
{
    struct target_result *r = &j->r;
    int rc = position_read_foreign(&r->masters, j->id1, j->id2, &r->position, &r->found, &r->err);
    for (size_t i = 0; rc == 0 && !r->found && i < j->known_n; i++)
        rc = position_read_foreign(&r->masters, j->known[i].replid, "", &r->position, &r->found,
                                   &r->err);
    return rc;
}

// For a position without marks: redisGunYu's, or of a target that was no cluster then. The same
// position has the same ones, so that after a failure those are found that were made before a
// position that names them was stored; what was made from any other position does not count.
static uint64_t marks_id_of(const struct position *p)
{
    uint64_t id = crc64_update(0, p->replid, strlen(p->replid));
    id = crc64_update(id, &p->offset, sizeof(p->offset));
    return id ? id : 1;
}

static int read_position(struct dial_job *j)
{
    struct target_result *r = &j->r;
    int rc = 0;
    if (j->resume)
        rc = read_own_position(j);
    if (rc == 0 && j->resume && !r->found)
        rc = read_foreign_position(j);
    if (rc == 0 && r->found && !r->position.loading && !r->position.marks)
        r->position.marks = marks_id_of(&r->position);
    return rc;
}

static int read_turns(struct dial_job *j)
{
    struct target_result *r = &j->r;
    char name[128];
    if (!j->turns_wanted || !r->found)
        return 0;
    return position_read_turns(
        masters_owner(&r->masters, position_turns_key(r->position.replid, name)),
        r->position.replid, &r->turns, &r->err);
}

static int is_empty(struct dial_job *j)
{
    struct target_result *r = &j->r;
    int rc = 0;
    r->empty = true;
    for (size_t i = 0; i < r->masters.n && rc == 0 && r->empty; i++)
        rc = dial_is_empty(r->masters.clients[i], &r->empty, &r->err);
    return rc;
}

// ---- marks ----

static void take_mark(const struct redis_reply *reply, uint64_t *mark)
{
    uint64_t v;
    if (reply->root.type == RESP_BULK && slice_u64(reply->root.text, &v) && v > *mark)
        *mark = v;
}

static bool is_error(const struct redis_reply *reply, const char *word)
{
    return reply->root.type == RESP_ERROR && slice_has_prefix(reply->root.text, slice_cstr(word));
}

// A mark that is not told is not a mark that is not there: what it covers would be applied again.
static int untold(const struct redis_reply *reply, struct err *e)
{
    struct slice text = reply->root.text;
    return err_set(e, ERR_REPLY, "a slot's mark: %.*s", (int)(text.n < 200 ? text.n : 200), text.p);
}

static int ask_mark(struct dial_job *j, int slot)
{
    struct target_result *r = &j->r;
    char name[64];
    struct slice key = router_mark_key(r->position.marks, slot, name);
    uint64_t *mark = &r->marks[slot];
    // It is on one of the two sides; who it is does not matter.
    for (size_t i = 0; i < r->masters.n; i++) {
        struct redis_reply reply;
        int rc = redis_call(r->masters.clients[i], &reply, &r->err, "ASKING");
        if (rc)
            return rc;
        rc = redis_call(r->masters.clients[i], &reply, &r->err, "GET %b", &key);
        // The one that it moves from, and those that have nothing to do with it.
        bool elsewhere =
            rc == ERR_REPLY && (is_error(&reply, "ASK ") || is_error(&reply, "MOVED "));
        if (rc && !elsewhere)
            return rc;
        take_mark(&reply, mark);
    }
    return 0;
}

// Slots of one node, in pipelines. verb: GET, or DEL of what an earlier history has left.
static int each_mark(struct dial_job *j, int16_t node, bool remove)
{
    struct target_result *r = &j->r;
    int slots[MARKS_AT_ONCE], n = 0, rc = 0;
    struct buf cmds = {0};
    for (int slot = 0; slot <= CLUSTER_SLOTS && rc == 0; slot++) {
        if (slot < CLUSTER_SLOTS && r->masters.map.owner[slot] == node) {
            char name[64];
            struct slice key = router_mark_key(r->position.marks, slot, name);
            resp_put_cmd(&cmds, remove ? "DEL %b" : "GET %b", &key);
            slots[n++] = slot;
        }
        if (n < MARKS_AT_ONCE && slot < CLUSTER_SLOTS)
            continue;
        rc = redis_send(r->masters.clients[node], buf_slice(&cmds), &r->err);
        buf_clear(&cmds);
        int asked[MARKS_AT_ONCE], asked_n = 0;
        for (int i = 0; i < n && rc == 0; i++) {
            struct redis_reply reply;
            rc = redis_receive(r->masters.clients[node], &reply, &r->err);
            if (rc)
                break;
            // The key may have gone to the node that the slot is moving to.
            if (is_error(&reply, "ASK "))
                asked[asked_n++] = slots[i];
            else if (reply.root.type == RESP_ERROR)
                rc = untold(&reply, &r->err);
            else if (!remove)
                take_mark(&reply, &r->marks[slots[i]]);
        }
        for (int i = 0; i < asked_n && rc == 0 && !remove; i++)
            rc = ask_mark(j, asked[i]);
        n = 0;
    }
    buf_free(&cmds);
    return rc;
}

static int read_marks(struct dial_job *j)
{
    struct target_result *r = &j->r;
    bool remove = !j->marks_wanted;
    // A flush takes them with what they speak of; one that fails must not have cost them.
    if (!r->found || !r->position.marks || (remove && j->flush_command))
        return 0;
    if (!remove)
        r->marks = xcalloc(CLUSTER_SLOTS, sizeof(*r->marks));
    int rc = 0;
    for (size_t i = 0; i < r->masters.n && rc == 0; i++)
        rc = each_mark(j, (int16_t)i, remove);
    return rc;
}

// ---- all of it ----

// A key that one master may expire has to be held, whatever the others do.
static int import_nodes(struct dial_job *j)
{
    struct target_result *r = &j->r;
    size_t on = 0;
    for (size_t i = 0; i < r->masters.n; i++) {
        bool one;
        int rc = dial_import_source(r->masters.clients[i], r, &one);
        if (rc) {
            masters_wrap(&r->masters, i, &r->err);
            return rc;
        }
        on += one;
    }
    r->imports = on == r->masters.n;
    if (on && !r->imports)
        log_warn(NULL, "import mode is on at %zu of the target's %zu masters: it is not relied on",
                 on, r->masters.n);
    return 0;
}

static int reach_cluster(struct dial_job *j)
{
    struct target_result *r = &j->r;
    r->server = r->masters.server;
    int rc = dial_claim(j, read_position);
    if (rc == 0)
        rc = read_turns(j);
    if (rc == 0 && !r->found)
        rc = is_empty(j);
    if (rc == 0)
        rc = read_marks(j);
    char name[64];
    struct slice key = position_key(j->id1[0] ? j->id1 : "none", name);
    if (rc == 0)
        rc = dial_probe_expiry(masters_owner(&r->masters, key), r, key);
    if (rc == 0)
        rc = import_nodes(j);
    if (rc == 0)
        rc = dial_ask_source(j);
    if (rc == 0 && j->flush_command)
        rc = dial_flush(j);
    return rc;
}

void dial_cluster(struct dial_job *j)
{
    struct target_result *r = &j->r;
    int rc = masters_open(&r->masters, j->seeds, j->seeds_n, CONNECT_TIMEOUT_MS, j->target_version,
                          &r->err);
    if (rc == 0)
        rc = reach_cluster(j);
    if (rc)
        masters_close(&r->masters);
}

void target_result_free(struct target_result *r)
{
    if (r->conn)
        conn_close(r->conn);
    endpoint_free(&r->endpoint);
    masters_close(&r->masters);
    free(r->marks);
    buf_free(&r->turns);
}

// ---- the router ----

static bool on_emit(void *ctx, uint64_t from, int db, int64_t now_ms, int slot, size_t as_is)
{
    struct lane *l = ctx;
    return l->apply && scatter_emit(l->apply, from, db, now_ms, slot, as_is);
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

static bool any_beyond(const uint64_t *marks, uint64_t offset)
{
    for (int slot = 0; slot < CLUSTER_SLOTS; slot++)
        if (marks[slot] > offset)
            return true;
    return false;
}

void lane_attach_cluster(struct lane *l, struct target_result *r)
{
    bool goes_on = r->found && r->position.marks && !l->snapshot_fresh;
    // A unit that a mark covers is not applied again, and the position is from before the far
    // expiry that it may have made. A master that was replaced may lack that one was set true.
    if (goes_on &&
        (l->target_epoch > 1 || !r->marks || any_beyond(r->marks, (uint64_t)r->position.offset)))
        l->far_flag = true;
    l->marks_id = goes_on ? r->position.marks : new_marks_id();
    l->await_position = false;
    router_attach_masters(l->router, &r->masters, goes_on ? r->marks : NULL, l->marks_id);
    lane_hung_attach(l, &r->masters);
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

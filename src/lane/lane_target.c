// SPDX-License-Identifier: Apache-2.0
// Reaching the target: dial, fence off older connections of ours, probe, read the position. One
// blocking job on the pool; its result comes back to the lane's loop.
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/crc64.h"
#include "lane/lane_dial.h"

enum {
    BACKOFF_MIN_MS = 50,
    BACKOFF_MAX_MS = 2000,
    FEW_KEYS = 256, // of a target that may hold nothing but epochs, of as many lanes
};

int dial_probe_expiry(struct redis_client *c, struct target_result *r, struct slice key)
{
    struct redis_reply reply;
    // EVAL alone does not help: what the scripts call must be allowed as well.
    char *script = xasprintf("%sms() at(KEYS[1]) return 1",
                             expiry_script_head(r->server.version, r->server.is_valkey));
    int rc = redis_call(c, &reply, &r->err, "EVAL %s 1 %b %L", script, &key, clock_unix_ms());
    free(script);
    r->scripts = rc == 0;
    return rc == ERR_REPLY ? 0 : rc;
}

int dial_import_source(struct redis_client *c, struct target_result *r, bool *on)
{
    *on = false;
    if (!r->server.is_valkey)
        return 0;
    int rc = redis_call(c, NULL, &r->err, "CLIENT IMPORT-SOURCE ON");
    *on = rc == 0;
    return rc == ERR_REPLY ? 0 : rc;
}

static int read_position(struct dial_job *j)
{
    struct target_result *r = &j->r;
    int rc = 0;
    if (j->resume)
        rc = position_read(j->client, j->id1, j->id2, &r->position, &r->found, &r->err);
    // The journal may know the way from an id that the source has forgotten.
    for (size_t i = 0; rc == 0 && j->resume && !r->found && i < j->known_n; i++)
        rc = position_read(j->client, j->known[i].replid, "", &r->position, &r->found, &r->err);
    return rc;
}

static int64_t keys_told(struct slice info)
{
    int64_t n = 0;
    const char *p = info.p, *end = info.p + info.n;
    while (p && (p = memmem(p, (size_t)(end - p), ":keys=", 6))) {
        int64_t v = 0;
        for (p += 6; p < end && *p >= '0' && *p <= '9' && v < INT32_MAX; p++)
            v = v * 10 + (*p - '0');
        n += v;
    }
    return n;
}

int dial_is_empty(struct redis_client *c, bool *empty, struct err *e)
{
    struct redis_reply reply;
    int64_t keys, none_yet = 0;
    int rc = redis_call(c, &reply, e, "INFO keyspace");
    keys = rc == 0 ? keys_told(reply.root.text) : INT32_MAX;
    if (rc == 0 && keys && keys <= FEW_KEYS)
        rc = position_count_epoch_only(c, &none_yet, e);
    *empty = rc == 0 && keys == none_yet;
    return rc == ERR_REPLY ? 0 : rc; // not allowed: then it does not count as empty
}

static int reach(struct dial_job *j)
{
    struct target_result *r = &j->r;
    struct redis_client *c = j->client;
    struct err *e = &r->err;
    int rc = redis_probe(c, &r->server, e);
    if (rc)
        return rc;
    if (r->server.version == 0)
        r->server.version = j->target_version;
    if (r->server.loading)
        return err_set(e, ERR_REPLY, "LOADING the target is loading its data");
    if (r->server.databases < 0)
        rc = redis_count_databases(c, &r->server.databases, e);
    if (rc == 0)
        rc = dial_claim(j, read_position);
    if (rc == 0 && j->turns_wanted && r->found)
        rc = position_read_turns(c, r->position.replid, &r->turns, e);
    if (rc == 0 && !r->found)
        rc = dial_is_empty(c, &r->empty, e);
    if (rc == 0)
        rc = dial_probe_expiry(c, r, SLICE(POSITION_PREFIX));
    if (rc == 0)
        rc = dial_import_source(c, r, &r->imports);
    if (rc == 0)
        rc = redis_call(c, NULL, e, "SELECT 0");
    if (rc == 0)
        rc = dial_ask_source(j);
    if (rc == 0 && j->flush_command)
        rc = dial_flush(j);
    return rc;
}

static void dial_run(uv_work_t *work)
{
    struct dial_job *j = work->data;
    if (j->seeds_n) {
        dial_cluster(j);
        return;
    }
    struct endpoint *ep = &j->r.endpoint;
    int rc = endpoint_find(ep, &j->endpoint, &j->find_target, &j->r.err);
    if (rc) {
        *ep = (struct endpoint){0};
        return;
    }
    ep->db = 0;
    endpoint_name(ep, j->r.name, sizeof(j->r.name));
    rc = redis_connect(&j->client, ep, CONNECT_TIMEOUT_MS, &j->r.err);
    if (rc == 0)
        rc = reach(j);
    if (rc == 0)
        j->r.conn = redis_take_conn(j->client);
    else
        redis_close(j->client);
}

static void dial_done(uv_work_t *work, int status)
{
    (void)status;
    struct dial_job *j = work->data;
    struct lane *l = j->lane;
    l->handles--;
    l->dialling = false;
    // What stands in the target is ours to keep, whatever became of the attempt.
    if (j->r.epoch) {
        l->epoch = j->r.epoch;
        l->epoch_firm = l->epoch_firm || (j->r.found && !j->r.position.foreign);
        memcpy(l->record_id, j->r.record_id, sizeof(l->record_id));
    }
    if (l->target_epoch != j->target_epoch || l->freed) {
        target_result_free(&j->r);
        if (l->freed && l->handles == 0)
            lane_free(l); // else the tick tries again
    } else {
        memcpy(l->position_ids[0], j->id1, sizeof(j->id1));
        memcpy(l->position_ids[1], j->id2, sizeof(j->id2));
        lane_target_ready(l, &j->r);
        target_result_free(&j->r);
    }
    free(j->flush_command);
    free(j);
}

void lane_dial_target(struct lane *l)
{
    // One attempt at a time: an outdated one may be about to flush the target.
    if (l->target_state != TARGET_OFF || l->dialling || l->staging || l->freed ||
        clock_unix_ms() < l->retry_ms || lane_lease_passed(l))
        return;
    // Without an id of the source there is no position to look for.
    if (!l->ids_known)
        return;
    l->target_state = TARGET_DIALLING;
    l->dialling = true;
    struct dial_job *j = xcalloc(1, sizeof(*j));
    j->work.data = j;
    j->lane = l;
    j->target_epoch = ++l->target_epoch;
    j->endpoint = l->o.target;
    j->seeds = l->o.target_seeds;
    j->seeds_n = l->o.target_cluster ? l->o.target_seeds_n : 0;
    j->turns_wanted = l->o.turns.ownership && !l->turns_joined;
    j->marks_wanted = !l->snapshot_fresh;
    j->find_target = l->o.find_target;
    j->find_source = l->o.find_source;
    memcpy(j->id1, l->id1, sizeof(j->id1));
    memcpy(j->id2, l->id2, sizeof(j->id2));
    struct journal_info ji;
    journal_get_info(l->journal, &ji);
    memcpy(j->known[0].replid, ji.replid, sizeof(ji.replid));
    memcpy(j->known[1].replid, ji.replid2, sizeof(ji.replid2));
    j->known_n = 2;
    for (size_t i = 0; i < ji.older_n && j->known_n < KNOWN_IDS; i++)
        j->known[j->known_n++] = ji.older[i];
    snprintf(j->source, sizeof(j->source),
             ":%016llx:", (unsigned long long)crc64_update(0, l->o.tag, strlen(l->o.tag)));
    j->resume = l->o.resume || l->epoch > 0;
    // One that was taken where there is no position says nothing beside the record of another id,
    // which the source may have named since.
    bool same = strcmp(l->record_id, l->id1) == 0 && strcmp(l->position_ids[1], l->id2) == 0;
    j->epoch = l->epoch_firm || same ? l->epoch : 0;
    j->floor = l->o.epoch_floor;
    j->target_version = l->o.target_version;
    j->source_endpoint = l->o.source;
    j->dbs = l->o.dbs;
    j->filter = l->o.filter;
    j->ask_source_dbs = l->o.dbs.source_dbs == 0 && (l->o.dbs.forced || l->o.dbs.map_n > 0);
    if (l->flush_command)
        j->flush_command = xstrdup(l->flush_command);
    l->handles++;
    must(uv_queue_work(l->o.loop, &j->work, dial_run, dial_done) == 0);
}

void lane_connection_name(const struct lane *l, char *dst)
{
    snprintf(dst, CONNECTION_NAME, "gunyu:%s:%016llx:%llu", l->id1,
             (unsigned long long)crc64_update(0, l->o.tag, strlen(l->o.tag)),
             (unsigned long long)l->epoch);
}

void lane_back_off(struct lane *l)
{
    l->backoff_ms = l->backoff_ms ? l->backoff_ms * 2 : BACKOFF_MIN_MS;
    if (l->backoff_ms > BACKOFF_MAX_MS)
        l->backoff_ms = BACKOFF_MAX_MS;
    l->retry_ms = clock_unix_ms() + l->backoff_ms;
}

static void take_fence(struct lane *l, const struct target_result *r)
{
    static const char *const without[] = {
        [LANE_FENCE_CHECK] = "each transaction checks the epoch in the position instead",
        [LANE_FENCE_LEASE] = "a process that was replaced is held back by nothing but its lease",
    };
    if (without[r->fence] && l->fence != r->fence)
        log_warn(l->o.tag, "the target does not allow what the fence needs (%s): %s", r->fence_why,
                 without[r->fence]);
    l->fence = r->fence;
    memcpy(l->fence_why, r->fence_why, sizeof(l->fence_why));
}

static struct slice guard_key(void *ctx, char *dst)
{
    struct lane *l = ctx;
    return position_key(l->record_id, dst);
}

static bool guard_holds(void *ctx, struct slice value)
{
    struct lane *l = ctx;
    struct position p;
    return position_parse(l->record_id, value, &p) && p.epoch == l->epoch;
}

static void attach_one(struct lane *l, struct target_result *r)
{
    const struct batcher_guard guard = {guard_key, guard_holds, l};
    batcher_attach(l->batcher, r->conn, 0);
    if (r->fence == LANE_FENCE_CHECK)
        batcher_guard(l->batcher, &guard);
}

void lane_target_ready(struct lane *l, struct target_result *r)
{
    if (r->name[0])
        memcpy(l->target_name, r->name, sizeof(l->target_name));
    if (!r->conn && !r->masters.n) {
        l->target_state = TARGET_OFF;
        lane_back_off(l);
        err_wrap(&r->err, "target %s", l->target_name);
        l->fenced_off = r->fenced_off;
        if (r->fenced_off || r->refused)
            lane_latch_error(l, UINT64_MAX, &r->err);
        else
            lane_note_error(l, &r->err);
        return;
    }
    l->target_state = TARGET_READY;
    l->server = r->server;
    if (!l->server_known)
        log_info(l->o.tag, "target %s: %s %d.%d.%d", l->target_name,
                 r->server.is_valkey ? "Valkey" : "Redis", r->server.version / 10000,
                 r->server.version / 100 % 100, r->server.version % 100);
    l->server_known = true;
    l->target_scripts = r->scripts;
    l->target_imports = r->imports;
    lane_expiry_target(l);
    if (r->source_dbs)
        l->o.dbs.source_dbs = r->source_dbs;
    l->position_known = true;
    l->position_found = r->found;
    l->target_empty = r->empty;
    if (r->found)
        l->position = r->position;
    lane_turns_target(l, buf_slice(&r->turns));
    take_fence(l, r);
    if (r->found && r->position.far_expiries)
        l->far_flag = true;
    if (l->flush_command)
        lane_takeback_flushed(l, l->flush_command);
    free(l->flush_command);
    l->flush_command = NULL;
    if (!l->error_latched)
        l->error = (struct err){0};
    if (l->router)
        lane_attach_cluster(l, r);
    else
        attach_one(l, r);
    if (l->router || l->turn || lane_extra_wanted(l))
        lane_stage_attach(l, r);
    r->conn = NULL;
    lane_arrange(l);
    lane_pump(l);
}

// SPDX-License-Identifier: Apache-2.0
// Keys that the target has and the snapshot has not: deleted when it is loaded and before anything
// of the stream is applied, on a thread of the pool. Until that is done the position says that the
// snapshot is being loaded.
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "lane/lane_stage_int.h"
#include "redis/cluster.h"
#include "source/psync.h"
#include "target/extra.h"

enum { OWN_IDS = 6 };
#define EXTRA_REF (UINT64_MAX - 1) // no command begins there

struct lane_extra_job {
    struct extra *keys; // the lane's, which leaves it alone meanwhile
    struct endpoint source;
    bool ask_source;
    char ids[OWN_IDS][REPLID_LEN + 1]; // of records that are ours
    uint64_t *sources;                 // owns
    size_t sources_n;
    char kept[200]; // why nothing is deleted; "": it is
};

bool lane_extra_wanted(const struct lane *l)
{
    return l->o.extra_delete || l->extra_once;
}

// ---- while the snapshot is loaded ----

// The snapshot is from now. Of slots that the shard gets later it lacks the keys.
void lane_extra_full_sync(struct lane *l)
{
    memset(l->extra_slots, 0, sizeof(l->extra_slots));
    if (l->turn)
        l->o.turns.slots_of(l->o.turns.ctx, l->o.turns.lane, l->extra_slots);
    l->extra_slots_known = true;
}

static bool reaches(const struct lane *l, uint64_t rdb_index)
{
    return rdb_index == 0 || (l->extra && extra_until(l->extra) >= rdb_index);
}

bool lane_extra_lacks(const struct lane *l, uint64_t rdb_index)
{
    // What can still be had of a shard that has gone is not given up for this.
    if (!lane_extra_wanted(l) || l->source_ended)
        return false;
    return (l->turn && !l->extra_slots_known) || !reaches(l, rdb_index);
}

void lane_extra_again(struct lane *l)
{
    if (!l->turn) {
        lane_load_all(l);
    } else if (!l->force_full) {
        log_info(l->o.tag, "which slots were the shard's when the snapshot in the journal was "
                           "taken is not known, so that extra keys cannot be told: another one is "
                           "asked for");
        lane_full_sync(l, NULL, l->extra_once);
    }
}

void lane_extra_load(struct lane *l, uint64_t rdb_index)
{
    bool whole = lane_extra_wanted(l) && reaches(l, rdb_index);
    if (whole && rdb_index)
        return;
    lane_extra_forget(l);
    if (!whole)
        return;
    char *file = xstrdup(l->o.dead_letter_path);
    l->extra = extra_new(l->o.journal.dir ? l->o.journal.dir : dirname(file), EXTRA_PASS_BYTES);
    free(file);
}

void lane_extra_met(void *ctx, uint64_t index, int target_db, struct slice key)
{
    struct lane *l = ctx;
    extra_note(l->extra, index, target_db, key);
}

void lane_extra_forget(struct lane *l)
{
    extra_free(l->extra);
    l->extra = NULL;
}

// ---- on the pool ----

static int look_at_node(struct lane_stage *s, struct lane_node *n,
                        const struct position_owners *owners)
{
    struct lane_extra_job *x = s->extra;
    char other[REPLID_LEN + 1];
    int rc = lane_stage_reach(s, n);
    n->db = 0;
    if (rc == 0)
        rc = position_find_other(n->client, owners, other, &s->err);
    if (rc == 0 && other[0])
        snprintf(x->kept, sizeof(x->kept), "another sync writes there (" POSITION_PREFIX "%s)",
                 other);
    if (rc && n->client) {
        redis_close(n->client); // answers may be outstanding
        n->client = NULL;
    }
    return rc;
}

// What others have brought is no snapshot's to delete.
static int look_for_others(struct lane_stage *s)
{
    struct lane_extra_job *x = s->extra;
    const char *ids[OWN_IDS];
    for (int i = 0; i < OWN_IDS; i++)
        ids[i] = x->ids[i];
    const struct position_owners owners = {ids, OWN_IDS, x->sources, x->sources_n};
    int rc = 0;
    for (int i = 0; i < s->nodes_n && rc == 0 && !x->kept[0]; i++)
        rc = look_at_node(s, &s->nodes[i], &owners);
    return rc;
}

// The arbiter may not have heard yet that a slot was moved before the snapshot was taken.
static int leave_out_moved(struct lane_stage *s)
{
    struct lane_extra_job *x = s->extra;
    const struct lane_turns *t = &s->lane->o.turns;
    struct cluster_map map;
    int rc = cluster_find(&map, &x->source, 1, STAGE_TIMEOUT_MS, &s->err);
    if (rc) {
        err_wrap(&s->err, "which slots are the shard's");
        return s->err.code = ERR_CLOSED; // the source may be back soon
    }
    for (int slot = 0; slot < SLOT_COUNT; slot++) {
        int owner = map.owner[slot];
        const char *id = owner >= 0 ? map.shards[owner].master.id : "";
        if (t->lane_of(t->ctx, slice_cstr(id)) != t->lane)
            slot_set_remove(s->scope.slots, slot);
        else if (map.shards[owner].migrating)
            snprintf(x->kept, sizeof(x->kept), "slots are being moved at the source");
    }
    cluster_free(&map);
    return 0;
}

static bool keeps(void *ctx, int target_db, struct slice key)
{
    struct lane_stage *s = ctx;
    return !extra_is(s->extra->keys, target_db, key) || !lane_turns_has(s->lane, key);
}

static int delete_extra(struct lane_stage *s)
{
    struct lane_extra_job *x = s->extra;
    int rc = 0;
    for (int pass = 0; pass < extra_passes(x->keys) && rc == 0; pass++) {
        struct err e;
        if (extra_pass(x->keys, pass, &e)) {
            snprintf(x->kept, sizeof(x->kept), "%.199s", e.msg);
            break;
        }
        lane_stage_clear(s);
        rc = s->rc;
    }
    return rc;
}

static void extra_run(uv_work_t *work)
{
    struct lane_stage *s = work->data;
    struct lane_extra_job *x = s->extra;
    fault_point("extra.begun");
    s->step = (struct stage_step){.kind = STAGE_DONE};
    int rc = look_for_others(s);
    if (rc == 0 && !x->kept[0] && x->ask_source)
        rc = leave_out_moved(s);
    if (rc == 0 && !x->kept[0])
        rc = delete_extra(s);
    if (rc)
        err_wrap(&s->err, "deleting keys that the source does not have");
    s->step.kind = STAGE_DONE; // what was refused is no command of the source's
    s->rc = rc;
    if (rc == 0)
        fault_point("extra.done");
}

// ---- in the lane ----

static void take_ids(const struct lane *l, struct lane_extra_job *x)
{
    struct journal_info ji;
    journal_get_info(l->journal, &ji);
    const char *ids[OWN_IDS] = {l->id1,          l->id2,    l->record_id,
                                l->stale_replid, ji.replid, ji.replid2};
    for (int i = 0; i < OWN_IDS; i++)
        snprintf(x->ids[i], sizeof(x->ids[i]), "%s", ids[i]);
}

static void take_source(struct lane_extra_job *x, const char *tag)
{
    x->sources = xrealloc(x->sources, (x->sources_n + 1) * sizeof(*x->sources));
    x->sources[x->sources_n++] = position_source(tag);
}

// The other shards' lanes are no others.
static void take_sources(const struct lane *l, struct lane_extra_job *x)
{
    const struct lane_turns *t = &l->o.turns;
    take_source(x, l->o.tag);
    for (int i = 0; l->turn; i++) {
        char name[300] = "";
        t->name_of(t->ctx, i, name, sizeof(name));
        if (!name[0])
            break;
        take_source(x, name);
    }
}

void lane_extra_job_free(struct lane_extra_job *x)
{
    if (!x)
        return;
    endpoint_free(&x->source);
    free(x->sources);
    free(x);
}

static void start(struct lane *l, struct lane_stage *s)
{
    struct lane_extra_job *x = xcalloc(1, sizeof(*x));
    struct psync_options ignored;
    lane_extra_job_free(s->extra);
    s->extra = x;
    x->keys = l->extra;
    x->ask_source = l->turn;
    if (l->turn && l->source_ended)
        snprintf(x->kept, sizeof(x->kept), "the shard has gone");
    link_peer(l->link, &x->source, &ignored);
    take_ids(l, x);
    take_sources(l, x);
    s->scope = (struct purge_scope){.db = -1, .dbs = l->o.dbs, .filter = l->o.filter};
    memcpy(s->scope.slots, l->extra_slots, sizeof(s->scope.slots));
    if (!l->turn)
        memset(s->scope.slots, 0xff, sizeof(s->scope.slots));
    s->purged = (struct purge_result){0};
    s->unlink = l->server.is_valkey || l->server.version >= 40000;
    s->keeps = keeps;
    log_info(l->o.tag, "looking for keys of the target that the source does not have");
    lane_stage_start(s, EXTRA_REF, extra_run);
}

static void report(struct lane *l, const struct lane_stage *s)
{
    unsigned long long n = s->purged.deleted;
    l->counters.extra_keys_deleted += s->purged.deleted;
    memcpy(l->counters.extra_keys_kept, s->extra->kept, sizeof(s->extra->kept));
    if (s->extra->kept[0])
        log_warn(l->o.tag, "keys that the source does not have stay at the target: %s",
                 s->extra->kept);
    if (n || !s->extra->kept[0])
        log_info(l->o.tag, "%llu keys that the source does not have are deleted from the target",
                 n);
}

bool lane_extra_done(struct lane *l)
{
    struct lane_stage *s = l->stage;
    enum apply_staged verdict;
    if (!l->extra)
        return true;
    if (!s) { // attached before this was asked for
        lane_drop_target(l);
        return false;
    }
    if (!lane_stage_result(s, EXTRA_REF, &verdict)) {
        start(l, s);
        return false;
    }
    report(l, s);
    lane_extra_forget(l);
    l->extra_once = false;
    return true;
}

void lane_extra_cancel(struct lane *l)
{
    if (l->staging && l->stage && l->stage->ref == EXTRA_REF)
        l->stage->cancel = true;
}

// SPDX-License-Identifier: Apache-2.0
// What the replication link asks and tells: where to go on, and what has come.
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "lane/lane_int.h"

bool lane_same_ids(const struct lane *l)
{
    return l->position_known && strcmp(l->position_ids[0], l->id1) == 0 &&
           strcmp(l->position_ids[1], l->id2) == 0;
}

void lane_decide(struct lane *l, struct resume_decision *d)
{
    struct journal_info ji;
    journal_get_info(l->journal, &ji);
    // Without a position nobody knows how far a target that holds keys is; going back to an old
    // snapshot would apply what followed it to them a second time.
    if (!l->position_found && !l->target_empty)
        ji.has_snapshot = false;
    // A position inside of a snapshot is from when all was noted that is to be taken back before
    // it.
    struct resume_input in = {.id1 = l->id1,
                              .id2 = l->id2,
                              .second_offset = l->id2_offset,
                              .position = l->position_found ? &l->position : NULL,
                              .journal = &ji,
                              .loose_until = lane_loose_until(l),
                              .to_take_back = journal_asides(l->journal) > 0};
    resume_decide(&in, d);
}

// What a full sync will be put down to, should the source answer with one.
static void set_reason(struct lane *l, const char *why)
{
    snprintf(l->asked_because, sizeof(l->asked_because), "%s", why);
}

static void on_choose(void *ctx, const struct redis_server *source, struct link_request *out)
{
    struct lane *l = ctx;
    l->source_is_valkey = source->is_valkey;
    l->source_version = source->version;
    l->source_is_cluster = source->cluster_enabled;
    l->source_ahead_ms = source->clock_ahead_ms;
    l->catch_up_to = source->repl_offset;
    if (source->repl_offset > (int64_t)l->again_until)
        l->again_until = (uint64_t)source->repl_offset;
    if (source->replid[0]) {
        memcpy(l->id1, source->replid, sizeof(l->id1));
        memcpy(l->id2, source->replid2, sizeof(l->id2));
        if (strspn(l->id2, "0") == REPLID_LEN)
            l->id2[0] = 0;
        l->id2_offset = source->second_repl_offset - 1;
        l->ids_known = true;
    }
    if (l->force_full) {
        set_reason(l, "asked for");
        return;
    }
    struct journal_info ji;
    journal_get_info(l->journal, &ji);
    if (lane_same_ids(l)) {
        struct resume_decision d;
        lane_decide(l, &d);
        set_reason(l, d.reason);
        memcpy(out->replid, d.psync_replid, sizeof(out->replid));
        out->offset = d.psync_offset;
        return;
    }
    if (journal_is_of(&ji, l->id1, l->id2, l->id2_offset)) {
        set_reason(l, "the source's backlog no longer covers what the journal holds");
        memcpy(out->replid, ji.replid, sizeof(out->replid));
        out->offset = (int64_t)ji.right;
        return;
    }
    // Only the target can tell where to begin, asked under these ids; the link starts again then.
    link_stop(l->link);
    if (!l->ids_known) {
        l->id1[0] = l->id2[0] = 0;
        l->ids_known = true;
    }
    lane_dial_again(l);
}

void lane_note_stale_position(struct lane *l)
{
    if (l->record_id[0] && strcmp(l->record_id, l->id1) != 0)
        memcpy(l->stale_replid, l->record_id, sizeof(l->stale_replid));
}

static void on_continued(void *ctx, const char *new_replid)
{
    struct lane *l = ctx;
    l->counters.partial_syncs++;
    log_info(l->o.tag, "the source continues%s%s", new_replid ? " under the new id " : "",
             new_replid ? new_replid : "");
    if (new_replid && strcmp(new_replid, l->id1) != 0) {
        memcpy(l->id2, l->id1, sizeof(l->id2));
        snprintf(l->id1, sizeof(l->id1), "%s", new_replid);
    }
    // Whatever was read under the old id holds under the new one.
    if (new_replid && l->position_known) {
        memcpy(l->position_ids[0], l->id1, sizeof(l->id1));
        memcpy(l->position_ids[1], l->id2, sizeof(l->id2));
    }
    lane_arrange(l);
    lane_pump(l);
}

static void on_full_sync(void *ctx, const char *replid, uint64_t offset, const char *reason)
{
    struct lane *l = ctx;
    l->counters.full_syncs++;
    snprintf(l->full_reason, sizeof(l->full_reason), "%s",
             l->asked_because[0] ? l->asked_because
             : reason            ? reason
                                 : "");
    log_info(l->o.tag, "full sync up to offset %llu: %s", (unsigned long long)offset,
             l->full_reason);
    // What is in flight belongs to the old history; the fence keeps it from coming late.
    lane_drop_target_now(l);
    lane_lost_note(l, replid, offset);
    l->loose_until = 0;
    lane_expiry_forget(l);
    lane_turns_forget(l);
    lane_extra_full_sync(l);
    l->force_full = false;
    l->snapshot_fresh = true;
    l->again_until = 0;
    l->sent_until = 0;
    l->lag_count = 0;
    l->has_mark = false;
    if (strcmp(l->id1, replid) != 0) {
        l->id2[0] = 0;
        snprintf(l->id1, sizeof(l->id1), "%s", replid);
        l->ids_known = true;
    }
    lane_note_stale_position(l);
    if (l->o.full_sync_flush && !l->flush_command)
        l->flush_command = xstrdup(l->o.full_sync_flush);
    l->retry_ms = 0;
    lane_dial_target(l);
}

static void on_grew(void *ctx)
{
    struct lane *l = ctx;
    lane_pump(l);
}

static void on_snapshot_done(void *ctx)
{
    struct lane *l = ctx;
    log_info(l->o.tag, "the snapshot has arrived");
    lane_pump(l);
}

static void on_link_state(void *ctx, enum link_state s, const struct err *why)
{
    struct lane *l = ctx;
    l->link_error = why && why->code ? *why : (struct err){0};
    l->link_state = s;
    lane_publish(l);
}

static void on_journal_failed(void *ctx, const struct err *why)
{
    struct lane *l = ctx;
    struct err e = *why;
    err_wrap(&e, "journal");
    lane_latch_error(l, UINT64_MAX, &e);
    lane_drop_target(l);
}

const struct link_events lane_link_events = {
    .choose = on_choose,
    .continued = on_continued,
    .full_sync = on_full_sync,
    .grew = on_grew,
    .snapshot_done = on_snapshot_done,
    .state = on_link_state,
    .journal_failed = on_journal_failed,
};

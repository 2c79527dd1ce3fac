// SPDX-License-Identifier: Apache-2.0
// Replicas that are fed from the lane's journal.
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "lane/lane_int.h"

// A replica that is too slow for the journal would ask for one full sync after the other.
#define REFRESH_EVERY_US (UINT64_C(10) * 60 * 1000 * 1000)

// A full sync loads the target anew, so it is taken only where that was configured.
static void refresh(struct lane *l, struct err *e)
{
    uint64_t now = clock_mono_us();
    bool busy = l->force_full || l->snapshot_fresh || l->load || l->state != LANE_RUN ||
                l->link_state != LINK_STREAM;
    if (!l->o.serve_refresh || busy || (l->refresh_us && now - l->refresh_us < REFRESH_EVERY_US))
        return;
    l->refresh_us = now;
    log_warn(l->o.tag, "a replica needs a snapshot and none is held: taking a full sync");
    lane_full_sync(l, NULL, false);
    err_set(e, ERR_REPLY, "NOMASTERLINK the snapshot that is needed is being taken");
}

int lane_serve(struct lane *l, struct serve_guest *g, struct err *e)
{
    bool needs_snapshot;
    int rc = feeds_attach(l->feeds, g, &needs_snapshot, e);
    if (rc && needs_snapshot)
        refresh(l, e);
    return rc;
}

// From where on a node that stands in for this one must have the log.
static void put_needed(const struct lane *l, struct serve_facts *f)
{
    struct journal_info ji;
    journal_get_info(l->journal, &ji);
    f->needed_offset = -1;
    if (l->load || l->snapshot_fresh || (l->position_found && l->position.loading)) {
        f->needed_snapshot = true;
        f->needed_offset = ji.has_snapshot ? (int64_t)ji.snapshot_offset : -1;
    } else if (l->has_mark && !l->mark.loading) {
        f->needed_offset = (int64_t)l->stored_offset;
    } else if (l->position_found) {
        f->needed_offset = l->position.offset;
    }
}

void lane_put_served(const struct lane *l, struct lane_snapshot *s)
{
    struct serve_facts *f = &s->served;
    snprintf(f->source, sizeof(f->source), "%s", s->input);
    f->link_up = l->link_state == LINK_STREAM || l->link_state == LINK_BLOCKED;
    f->cluster = l->source_is_cluster;
    f->is_valkey = l->source_is_valkey;
    f->version = l->source_version ? l->source_version : l->o.source_version;
    f->clock_ahead_ms = l->source_ahead_ms;
    put_needed(l, f);
    snapshot_put_feeds(s, l->feeds);
}

void snapshot_put_feeds(struct lane_snapshot *s, const struct feeds *feeds)
{
    struct feeds_stats fs;
    feeds_put_facts(feeds, &s->served);
    feeds_get_stats(feeds, &fs);
    s->replica_full_syncs = fs.full;
    s->replica_partial_syncs = fs.attached - fs.full;
    s->replicas_cut = fs.cut;
    s->replica_bytes = fs.bytes_sent;
}

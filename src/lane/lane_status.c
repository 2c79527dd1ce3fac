// SPDX-License-Identifier: Apache-2.0
// The lane's published state.
#include <stdatomic.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "lane/lane_int.h"

static enum lane_phase phase_of(const struct lane *l)
{
    if (l->state == LANE_STOP)
        return LANE_PHASE_IDLE;
    if (l->link_state == LINK_WAIT_RDB)
        return LANE_PHASE_WAIT_RDB;
    if (l->load || l->snapshot_fresh || l->link_state == LINK_RDB)
        return LANE_PHASE_FULL_SYNC;
    if (l->link_state != LINK_STREAM && l->link_state != LINK_BLOCKED)
        return LANE_PHASE_CONNECTING;
    return l->target_state == TARGET_READY && l->apply ? LANE_PHASE_STREAMING
                                                       : LANE_PHASE_CONNECTING;
}

void lane_count_load(const struct lane *l, struct lane_snapshot *s)
{
    struct load_stats ls;
    load_get_stats(l->load, &ls);
    s->rdb_keys_sent += ls.keys_sent;
    s->rdb_keys_filtered += ls.keys_filtered;
    s->rdb_keys_ignored += ls.keys_ignored;
    s->rdb_keys_replaced += ls.keys_replaced;
#define X(id, name, ...) s->degraded_##name += ls.degraded[LOSS_##id];
    ABILITY_LOSSES(X)
#undef X
    snprintf(s->unsupported, sizeof(s->unsupported), "%s", load_unsupported(l->load));
}

void snapshot_put_journal(struct lane_snapshot *s, const struct journal_info *ji)
{
    s->received_offset = ji->has_log ? (int64_t)ji->right : -1;
    s->journal_left = ji->has_log ? (int64_t)ji->left : -1;
    s->journal_bytes = ji->bytes;
    s->journal_max = ji->max_size;
    s->snapshot_size = ji->snapshot_size == JOURNAL_SIZE_UNKNOWN ? 0 : ji->snapshot_size;
}

static void put_positions(const struct lane *l, struct lane_snapshot *s, int64_t now)
{
    struct journal_info ji;
    journal_get_info(l->journal, &ji);
    snapshot_put_journal(s, &ji);
    s->applied_offset = l->has_mark && !l->mark.loading ? (int64_t)l->mark.offset : -1;
    s->sent_offset = l->apply ? (int64_t)apply_position(l->apply) : s->applied_offset;
    s->lag_bytes = s->received_offset >= 0 && s->applied_offset >= 0
                       ? s->received_offset - s->applied_offset
                       : 0;
    s->lag_ms = 0;
    for (uint32_t i = 0; i < l->lag_count && s->lag_bytes; i++) {
        const struct lag_sample *sample = &l->lag[(l->lag_head + i) % LAG_SAMPLES];
        if (sample->offset > l->mark.offset) {
            s->lag_ms = now - sample->ms;
            break;
        }
    }
    s->journal_full = l->link_state == LINK_BLOCKED;
    s->full_sync_percent = ji.has_log && !l->load && !l->snapshot_fresh ? 100 : 0;
    if (l->load) {
        struct load_stats ls;
        load_get_stats(l->load, &ls);
        s->snapshot_loaded = ls.index;
        lane_count_load(l, s);
        uint64_t total = s->snapshot_size;
        if (total)
            s->full_sync_percent = 100.0 * (double)ls.index / (double)total;
    }
    if (l->apply) {
        struct apply_stats as;
        apply_get_stats(l->apply, &as);
        s->cmds_received += as.received;
        s->cmds_filtered += as.filtered;
        s->split_transactions += as.split;
        s->staged_commands += as.staged;
    }
}

static void put_counters(const struct lane *l, struct lane_snapshot *s)
{
    struct link_stats ls;
    link_get_stats(l->link, &ls);
    s->rdb_bytes = ls.bytes_rdb;
    s->stream_bytes = ls.bytes_stream;
    s->reconnects = ls.reconnects;
    s->acked_source_offset = (int64_t)ls.last_ack;
    struct sink_stats bs;
    sink_get_stats(l->sink, &bs);
    s->cmds_sent = bs.cmds_sent;
    s->cmds_ok = bs.cmds_ok;
    s->bytes_sent = bs.bytes_sent;
    s->batches_txn_ok = bs.wrapped_ok;
    s->batches_txn_failed = bs.wrapped_failed;
    s->batches_plain_ok = bs.bare_ok;
    s->batches_plain_failed = bs.bare_failed;
    s->expiries_pending = expiry_count(l->expiry);
    s->dead_letters_kept = l->dead_letters_kept;
}

static int64_t lease_left(const struct lane *l)
{
    if (!l->o.lease)
        return -1;
    int64_t left = atomic_load(l->o.lease) - clock_boot_ms();
    return left > 0 ? left : 0;
}

void lane_publish(struct lane *l)
{
    struct lane_snapshot s = l->counters;
    int64_t now = clock_unix_ms();
    const char *found = link_found(l->link);
    snprintf(s.input, sizeof(s.input), "%s", found[0] ? found : l->source_name);
    snprintf(s.output, sizeof(s.output), "%s", l->target_name);
    snprintf(s.role, sizeof(s.role), "leader");
    s.epoch = l->epoch;
    s.lease_left_ms = lease_left(l);
    s.group_joined = -1;
    // A transaction of a cluster has one slot, and stays whole whoever has that at the target.
    s.transaction = l->o.transactions && (!l->router || l->source_is_cluster);
    s.state = l->lease_lost && (l->state == LANE_RUN || l->state == LANE_READY_RUN)
                  ? LANE_LEASE_LOST
                  : l->state;
    s.fence = l->fence;
    snprintf(s.fence_reason, sizeof(s.fence_reason), "%s", l->fence_why);
    s.phase = phase_of(l);
    snprintf(s.link, sizeof(s.link), "%s", link_state_name(l->link_state));
    const struct err *e = l->error.code ? &l->error : &l->link_error;
    snprintf(s.error, sizeof(s.error), "%s", e->code ? e->msg : "");
    if (!e->code)
        lane_turns_say(l, s.error, sizeof(s.error));
    snprintf(s.full_sync_reason, sizeof(s.full_sync_reason), "%s", l->full_reason);
    snprintf(s.replid, sizeof(s.replid), "%s", l->id1);
    s.sync_delay_ns = lane_probe_delay_ns(l);
    put_counters(l, &s);
    put_positions(l, &s, now);
    lane_put_served(l, &s);
    uv_mutex_lock(&l->lock);
    l->published = s;
    uv_mutex_unlock(&l->lock);
}

void lane_get_snapshot(struct lane *l, struct lane_snapshot *out)
{
    uv_mutex_lock(&l->lock);
    *out = l->published;
    uv_mutex_unlock(&l->lock);
}

void lane_log_stats(struct lane *l, int64_t now)
{
    const struct lane_snapshot *s = &l->published, *old = &l->logged;
    if (l->o.stats_ms <= 0 || (now < l->stats_due_ms && l->stats_due_ms - now <= l->o.stats_ms))
        return;
    l->stats_due_ms = now + l->o.stats_ms;
    if (s->cmds_received == old->cmds_received && s->rdb_keys_sent == old->rdb_keys_sent &&
        s->rdb_bytes == old->rdb_bytes && s->lag_bytes == old->lag_bytes &&
        s->cmds_failed == old->cmds_failed)
        return;
    log_info(l->o.tag,
             "stats: commands %llu received, %llu filtered, %llu applied, %llu failed; snapshot "
             "keys %llu; lag %lld bytes, %lld ms",
             (unsigned long long)s->cmds_received, (unsigned long long)s->cmds_filtered,
             (unsigned long long)s->cmds_ok, (unsigned long long)s->cmds_failed,
             (unsigned long long)s->rdb_keys_sent, (long long)s->lag_bytes, (long long)s->lag_ms);
    l->logged = *s;
}

// SPDX-License-Identifier: Apache-2.0
#include "control/metrics.h"

#include <stddef.h>

#include "base/slice.h"
#include "control/procstat.h"
#include "control/status.h"
#include "control/text.h"

// Values that belong to the process as a whole.
struct totals {
    struct procstat proc;
    int64_t storage_bytes;
    int64_t storage_ratio_ppm; // -1 when no lane has a limit
    const char *version;
};

enum row_type { COUNTER, GAUGE };

enum row_kind {
    ROW_U64,     // a field of the lane
    ROW_I64,     // a field of the lane; negative is unknown and leaves the sample out
    ROW_BOOL,    // a field of the lane
    ROW_FN,      // computed from the lane
    ROW_REPLICA, // computed from each of the lane's replicas
    ROW_TOTAL,   // an int64_t of struct totals; negative is unknown
    ROW_BUILD,   // 1, labelled with the version
};

typedef bool value_fn(const struct lane_snapshot *l, int arg, uint64_t *v);
typedef bool replica_fn(const struct lane_snapshot *l, const struct serve_replica *r, uint64_t *v);
typedef void labels_fn(struct buf *b, const struct lane_snapshot *l);

struct row {
    const char *name; // NULL: one more sample of the metric above
    enum row_type type;
    enum row_kind kind;
    const char *labels;      // constant labels beside input; NULL none
    labels_fn *labels_of;    // labels that depend on the lane; NULL none
    const char *label_names; // of labels_of, for the reference
    size_t offset;           // of the field
    unsigned decimals;       // the field counts units of 10^-decimals
    value_fn *value;
    replica_fn *of_replica;
    int arg;
    const char *help;
};

static bool state_is(const struct lane_snapshot *l, int arg, uint64_t *v)
{
    *v = (int)l->state == arg;
    return true;
}

static bool compat_state_is(const struct lane_snapshot *l, int arg, uint64_t *v)
{
    *v = (int)status_compat_state(l->state) == arg;
    return true;
}

static bool phase_is(const struct lane_snapshot *l, int arg, uint64_t *v)
{
    *v = (int)l->phase == arg;
    return true;
}

static bool compat_sync_kind(const struct lane_snapshot *l, int arg, uint64_t *v)
{
    (void)arg;
    bool full = l->phase == LANE_PHASE_WAIT_RDB || l->phase == LANE_PHASE_FULL_SYNC;
    *v = full ? 1 : l->phase == LANE_PHASE_STREAMING ? 2 : 0;
    return true;
}

static bool full_sync_hundredths(const struct lane_snapshot *l, int arg, uint64_t *v)
{
    (void)arg;
    *v = status_full_sync_hundredths(l);
    return true;
}

static bool journal_limit(const struct lane_snapshot *l, int arg, uint64_t *v)
{
    (void)arg;
    *v = l->journal_max > 0 ? (uint64_t)l->journal_max : 0;
    return l->journal_max > 0;
}

static bool snapshot_size(const struct lane_snapshot *l, int arg, uint64_t *v)
{
    (void)arg;
    *v = l->snapshot_size;
    return l->snapshot_size > 0;
}

static bool has_problem(const struct lane_snapshot *l, int arg, uint64_t *v)
{
    (void)arg;
    *v = l->error[0] != 0 || l->state == LANE_ERROR;
    return true;
}

static bool has_full_sync_reason(const struct lane_snapshot *l, int arg, uint64_t *v)
{
    (void)arg;
    *v = 1;
    return l->full_sync_reason[0] != 0;
}

static bool replicas_in_state(const struct lane_snapshot *l, int arg, uint64_t *v)
{
    *v = 0;
    for (size_t i = 0; i < l->served.replicas_n; i++)
        *v += (int)l->served.replicas[i].state == arg;
    return true;
}

static bool replica_lag(const struct lane_snapshot *l, const struct serve_replica *r, uint64_t *v)
{
    bool known = r->acked >= 0 && l->served.has_log;
    *v = known && l->served.right > (uint64_t)r->acked ? l->served.right - (uint64_t)r->acked : 0;
    return known;
}

static bool replica_acked(const struct lane_snapshot *l, const struct serve_replica *r, uint64_t *v)
{
    (void)l;
    *v = (uint64_t)r->acked;
    return r->acked >= 0;
}

static bool one(const struct lane_snapshot *l, int arg, uint64_t *v)
{
    (void)l;
    (void)arg;
    *v = 1;
    return true;
}

static bool leads(const struct lane_snapshot *l, int arg, uint64_t *v)
{
    (void)arg;
    *v = strcmp(l->role, "leader") == 0;
    return true;
}

static bool lease_left(const struct lane_snapshot *l, int arg, uint64_t *v)
{
    (void)arg;
    *v = (uint64_t)l->lease_left_ms;
    return l->lease_left_ms >= 0;
}

static bool group_joined(const struct lane_snapshot *l, int arg, uint64_t *v)
{
    (void)arg;
    *v = l->group_joined > 0;
    return l->group_joined >= 0;
}

static bool follower_offset(const struct lane_snapshot *l, int arg, uint64_t *v)
{
    (void)arg;
    *v = (uint64_t)l->received_offset;
    return strcmp(l->role, "follower") == 0 && l->received_offset >= 0;
}

static void role_label(struct buf *b, const struct lane_snapshot *l)
{
    buf_append_cstr(b, ",role=");
    text_label(b, l->role[0] ? l->role : "unknown");
}

static void lane_info_labels(struct buf *b, const struct lane_snapshot *l)
{
    buf_append_cstr(b, ",output=");
    text_label(b, l->output);
    role_label(b, l);
    buf_append_cstr(b, l->transaction ? ",transaction=\"yes\"" : ",transaction=\"no\"");
}

static void reason_label(struct buf *b, const struct lane_snapshot *l)
{
    buf_append_cstr(b, ",reason=");
    text_label(b, l->full_sync_reason);
}

#define FIELD(kind_, f) .kind = kind_, .offset = offsetof(struct lane_snapshot, f)
#define U64(f) FIELD(ROW_U64, f)
#define I64(f) FIELD(ROW_I64, f)
#define TOTAL(f) .kind = ROW_TOTAL, .offset = offsetof(struct totals, f)
#define FN(f, a) .kind = ROW_FN, .value = (f), .arg = (a)
#define HELP(name_, type_, help_) .name = (name_), .type = type_, .help = (help_)

static const struct row compat_rows[] = {
    {HELP("redisGunYu_input_sync_state", GAUGE, "1 for the state that the input is in, else 0."),
     .labels = "state=\"ready_run\"", FN(compat_state_is, LANE_READY_RUN)},
    {.labels = "state=\"run\"", FN(compat_state_is, LANE_RUN)},
    {.labels = "state=\"pause\"", FN(compat_state_is, LANE_PAUSE)},
    {.labels = "state=\"stop\"", FN(compat_state_is, LANE_STOP)},
    {HELP("redisGunYu_input_offset", GAUGE,
          "Replication offset that was last acknowledged to the source."),
     I64(acked_source_offset)},
    {HELP("redisGunYu_input_sync_type", COUNTER,
          "Synchronisations begun with the source: full, or continued (incr)."),
     .labels = "sync_type=\"full\"", U64(full_syncs)},
    {.labels = "sync_type=\"incr\"", U64(partial_syncs)},
    {HELP("redisGunYu_input_input_sync", GAUGE,
          "What the input is doing: 0 idle, 1 full sync, 2 incremental."),
     .labels_of = role_label, .label_names = "role", FN(compat_sync_kind, 0)},
    {HELP("redisGunYu_output_rdb_key_send", COUNTER, "Snapshot keys sent to the target."),
     U64(rdb_keys_sent)},
    {HELP("redisGunYu_output_rdb_key_filter", COUNTER, "Snapshot keys left out by filters."),
     U64(rdb_keys_filtered)},
    {HELP("redisGunYu_output_received_cmd", COUNTER, "Commands read from the source's stream."),
     U64(cmds_received)},
    {HELP("redisGunYu_output_send_cmd", COUNTER, "Commands sent to the target."), U64(cmds_sent)},
    {HELP("redisGunYu_output_filter_cmd", COUNTER, "Commands left out by filters."),
     U64(cmds_filtered)},
    {HELP("redisGunYu_output_send_size", COUNTER, "Bytes sent to the target."), U64(bytes_sent)},
    {HELP("redisGunYu_output_fail_cmd", COUNTER, "Commands that the target refused."),
     U64(cmds_failed)},
    {HELP("redisGunYu_output_success_cmd", COUNTER, "Commands that the target confirmed."),
     U64(cmds_ok)},
    {HELP("redisGunYu_output_sender", COUNTER,
          "Batches answered by the target, in a transaction or not."),
     .labels = "transaction=\"yes\",result=\"ok\"", U64(batches_txn_ok)},
    {.labels = "transaction=\"yes\",result=\"error\"", U64(batches_txn_failed)},
    {.labels = "transaction=\"no\",result=\"ok\"", U64(batches_plain_ok)},
    {.labels = "transaction=\"no\",result=\"error\"", U64(batches_plain_failed)},
    {HELP("redisGunYu_output_full_sync", GAUGE, "Progress of the full sync in percent."),
     .decimals = 2, FN(full_sync_hundredths, 0)},
    {HELP("redisGunYu_output_send_offset", GAUGE, "Replication offset sent to the target."),
     I64(sent_offset)},
    {HELP("redisGunYu_output_ack_offset", GAUGE, "Replication offset confirmed by the target."),
     I64(applied_offset)},
    {HELP("redisGunYu_output_sync_delay", GAUGE,
          "Nanoseconds from a write of syncDelayTestKey at the source to its arrival."),
     I64(sync_delay_ns)},
    {HELP("redisGunYu_aof_write", COUNTER, "Stream bytes written to the journal."),
     U64(stream_bytes)},
    {HELP("redisGunYu_rdb_write", COUNTER, "Snapshot bytes written to the journal."),
     U64(rdb_bytes)},
    {HELP("redisGunYu_syncer_role_change", COUNTER, "How often this node became the leader."),
     U64(role_changes)},
    {HELP("redisGunYu_replica_leader_send", COUNTER, "Bytes sent to followers and replicas."),
     U64(replica_bytes)},
    {HELP("redisGunYu_replica_follower_recv", COUNTER, "Bytes received from the leader."),
     U64(follower_bytes)},
    {HELP("redisGunYu_replica_follower_recv_offset", GAUGE,
          "Replication offset received from the leader."),
     FN(follower_offset, 0)},
    {HELP("redisGunYu_storage_size", GAUGE, "Bytes in the journals of all lanes."),
     TOTAL(storage_bytes)},
    {HELP("redisGunYu_storage_ratio", GAUGE, "Bytes in the journals divided by their limit."),
     .decimals = 6, TOTAL(storage_ratio_ppm)},
};

static const struct row own_rows[] = {
    {HELP("gunyu_build_info", GAUGE, "1, labelled with the version that runs."),
     .label_names = "version", .kind = ROW_BUILD},
    {HELP("gunyu_lane_info", GAUGE, "1, labelled with the ends of the lane."),
     .labels_of = lane_info_labels, .label_names = "output`, `role`, `transaction", FN(one, 0)},
    {HELP("gunyu_leader", GAUGE, "1 if this node leads the input, 0 if it follows."), FN(leads, 0)},
    {HELP("gunyu_group_joined", GAUGE, "1 while this node takes part in its group, else 0."),
     FN(group_joined, 0)},
    {HELP("gunyu_lease_seconds", GAUGE, "Time until a leader has to stop writing."), .decimals = 3,
     FN(lease_left, 0)},
    {HELP("gunyu_role_changes_total", COUNTER, "How often this node became the leader."),
     U64(role_changes)},
    {HELP("gunyu_follower_received_bytes_total", COUNTER, "Bytes received from the leader."),
     U64(follower_bytes)},
    {HELP("gunyu_lane_state", GAUGE, "1 for the state that the lane is in, else 0."),
     .labels = "state=\"ready_run\"", FN(state_is, LANE_READY_RUN)},
    {.labels = "state=\"run\"", FN(state_is, LANE_RUN)},
    {.labels = "state=\"pause\"", FN(state_is, LANE_PAUSE)},
    {.labels = "state=\"stop\"", FN(state_is, LANE_STOP)},
    {.labels = "state=\"error\"", FN(state_is, LANE_ERROR)},
    {.labels = "state=\"lease_lost\"", FN(state_is, LANE_LEASE_LOST)},
    {HELP("gunyu_lane_phase", GAUGE, "1 for the phase that the lane is in, else 0."),
     .labels = "phase=\"idle\"", FN(phase_is, LANE_PHASE_IDLE)},
    {.labels = "phase=\"connecting\"", FN(phase_is, LANE_PHASE_CONNECTING)},
    {.labels = "phase=\"wait_rdb\"", FN(phase_is, LANE_PHASE_WAIT_RDB)},
    {.labels = "phase=\"full_sync\"", FN(phase_is, LANE_PHASE_FULL_SYNC)},
    {.labels = "phase=\"streaming\"", FN(phase_is, LANE_PHASE_STREAMING)},
    {HELP("gunyu_lane_problem", GAUGE,
          "1 while the lane has a problem; its text is in the status."),
     FN(has_problem, 0)},
    {HELP("gunyu_lag_bytes", GAUGE, "Stream bytes received and not yet confirmed by the target."),
     I64(lag_bytes)},
    {HELP("gunyu_lag_seconds", GAUGE, "Age of the oldest byte not yet confirmed by the target."),
     .decimals = 3, I64(lag_ms)},
    {HELP("gunyu_sync_delay_seconds", GAUGE,
          "Time from a write of syncDelayTestKey at the source to its arrival."),
     .decimals = 9, I64(sync_delay_ns)},
    {HELP("gunyu_received_offset_bytes", GAUGE, "Replication offset received from the source."),
     I64(received_offset)},
    {HELP("gunyu_source_acked_offset_bytes", GAUGE,
          "Replication offset last acknowledged to the source."),
     I64(acked_source_offset)},
    {HELP("gunyu_sent_offset_bytes", GAUGE, "Replication offset sent to the target."),
     I64(sent_offset)},
    {HELP("gunyu_applied_offset_bytes", GAUGE, "Replication offset confirmed by the target."),
     I64(applied_offset)},
    {HELP("gunyu_source_syncs_total", COUNTER,
          "Synchronisations begun with the source: full, or continued (partial)."),
     .labels = "type=\"full\"", U64(full_syncs)},
    {.labels = "type=\"partial\"", U64(partial_syncs)},
    {HELP("gunyu_full_sync_reason_info", GAUGE,
          "1, labelled with why the last full sync was needed."),
     .labels_of = reason_label, .label_names = "reason", FN(has_full_sync_reason, 0)},
    {HELP("gunyu_full_sync_progress_ratio", GAUGE, "Progress of the full sync, 0 to 1."),
     .decimals = 4, FN(full_sync_hundredths, 0)},
    {HELP("gunyu_snapshot_size_bytes", GAUGE, "Size of the snapshot, where the source tells it."),
     FN(snapshot_size, 0)},
    {HELP("gunyu_snapshot_loaded_bytes", GAUGE, "Bytes of the snapshot that are loaded."),
     U64(snapshot_loaded)},
    {HELP("gunyu_snapshot_keys_total", COUNTER,
          "Snapshot keys: sent, left out by filters, ignored or replaced because they existed."),
     .labels = "result=\"sent\"", U64(rdb_keys_sent)},
    {.labels = "result=\"filtered\"", U64(rdb_keys_filtered)},
    {.labels = "result=\"ignored\"", U64(rdb_keys_ignored)},
    {.labels = "result=\"replaced\"", U64(rdb_keys_replaced)},
    {HELP("gunyu_degraded_total", COUNTER,
          "Keys and libraries of snapshots that came over incomplete or not at all, since the "
          "target cannot hold what the label names."),
     .labels = "what=\"functions\"", U64(degraded_functions)},
    {.labels = "what=\"field_expiries\"", U64(degraded_field_expiries)},
    {.labels = "what=\"streams\"", U64(degraded_streams)},
    {.labels = "what=\"stream_dedups\"", U64(degraded_stream_dedups)},
    {.labels = "what=\"stream_nacks\"", U64(degraded_stream_nacks)},
    {.labels = "what=\"arrays\"", U64(degraded_arrays)},
    {.labels = "what=\"path_hashes\"", U64(degraded_path_hashes)},
    {.labels = "what=\"modules\"", U64(degraded_modules)},
    {.labels = "what=\"key_metas\"", U64(degraded_key_metas)},
    {.labels = "what=\"module_auxes\"", U64(degraded_module_auxes)},
    {.labels = "what=\"pending_of_deleted\"", U64(degraded_pending_of_deleted)},
    {HELP("gunyu_source_reconnects_total", COUNTER, "Connections to the source that were lost."),
     U64(reconnects)},
    {HELP("gunyu_target_reconnects_total", COUNTER, "Connections to the target that were lost."),
     U64(target_reconnects)},
    {HELP("gunyu_received_bytes_total", COUNTER, "Bytes received from the source."),
     .labels = "kind=\"snapshot\"", U64(rdb_bytes)},
    {.labels = "kind=\"stream\"", U64(stream_bytes)},
    {HELP("gunyu_sent_bytes_total", COUNTER, "Bytes sent to the target."), U64(bytes_sent)},
    {HELP("gunyu_received_commands_total", COUNTER, "Commands read from the source's stream."),
     U64(cmds_received)},
    {HELP("gunyu_sent_commands_total", COUNTER, "Commands sent to the target."), U64(cmds_sent)},
    {HELP("gunyu_filtered_commands_total", COUNTER, "Commands left out by filters."),
     U64(cmds_filtered)},
    {HELP("gunyu_applied_commands_total", COUNTER, "Commands that the target confirmed."),
     U64(cmds_ok)},
    {HELP("gunyu_failed_commands_total", COUNTER, "Commands that the target refused."),
     U64(cmds_failed)},
    {HELP("gunyu_batches_total", COUNTER,
          "Batches answered by the target, in a transaction or not."),
     .labels = "transaction=\"yes\",result=\"ok\"", U64(batches_txn_ok)},
    {.labels = "transaction=\"yes\",result=\"error\"", U64(batches_txn_failed)},
    {.labels = "transaction=\"no\",result=\"ok\"", U64(batches_plain_ok)},
    {.labels = "transaction=\"no\",result=\"error\"", U64(batches_plain_failed)},
    {HELP("gunyu_split_transactions_total", COUNTER,
          "Transactions of the source whose keys lie in several slots of the target, applied slot "
          "by "
          "slot."),
     U64(split_transactions)},
    {HELP("gunyu_staged_commands_total", COUNTER,
          "Commands over several slots of the target, or that clear a shard's, carried out in "
          "steps."),
     U64(staged_commands)},
    {HELP("gunyu_dead_letters_total", COUNTER,
          "Commands and keys that the target refused for good, kept in the dead-letter file."),
     U64(dead_letters)},
    {HELP("gunyu_dead_letters", GAUGE,
          "Letters in the dead-letter file that were neither retried nor dropped yet."),
     U64(dead_letters_kept)},
    {HELP("gunyu_transient_errors_total", COUNTER, "Errors of the target that were waited out."),
     U64(transient_errors)},
    {HELP("gunyu_expiries_held_total", COUNTER,
          "Expiries put off, so that a key does not die at the target before its renewal arrives."),
     U64(expiries_held)},
    {HELP("gunyu_expiries_settled_total", COUNTER, "Expiries put off and set true again."),
     U64(expiries_settled)},
    {HELP("gunyu_extra_keys_deleted_total", COUNTER,
          "Keys that the source did not have, deleted from the target after a full sync."),
     U64(extra_keys_deleted)},
    {HELP("gunyu_expiries_pending", GAUGE, "Expiries put off and not yet set true."),
     U64(expiries_pending)},
    {HELP("gunyu_replicas", GAUGE, "Replicas that are attached to the replication server."),
     .labels = "state=\"wait_rdb\"", FN(replicas_in_state, REPLICA_WAITS)},
    {.labels = "state=\"rdb\"", FN(replicas_in_state, REPLICA_SNAPSHOT)},
    {.labels = "state=\"stream\"", FN(replicas_in_state, REPLICA_STREAM)},
    {HELP("gunyu_replica_lag_bytes", GAUGE,
          "Stream bytes received and not yet acknowledged by the replica."),
     .label_names = "replica", .kind = ROW_REPLICA, .of_replica = replica_lag},
    {HELP("gunyu_replica_acked_offset_bytes", GAUGE,
          "Replication offset that the replica acknowledged."),
     .label_names = "replica", .kind = ROW_REPLICA, .of_replica = replica_acked},
    {HELP("gunyu_replica_syncs_total", COUNTER,
          "Replicas that were given a snapshot, or continued (partial)."),
     .labels = "type=\"full\"", U64(replica_full_syncs)},
    {.labels = "type=\"partial\"", U64(replica_partial_syncs)},
    {HELP("gunyu_replicas_cut_total", COUNTER,
          "Replicas that were cut: silent, or too slow for what the journal holds."),
     U64(replicas_cut)},
    {HELP("gunyu_replica_sent_bytes_total", COUNTER, "Bytes sent to replicas."),
     U64(replica_bytes)},
    {HELP("gunyu_journal_bytes", GAUGE, "Bytes in the lane's journal."), I64(journal_bytes)},
    {HELP("gunyu_journal_limit_bytes", GAUGE,
          "Limit of the lane's journal; absent when unlimited."),
     FN(journal_limit, 0)},
    {HELP("gunyu_journal_full", GAUGE, "1 while the journal's limit holds back the source."),
     FIELD(ROW_BOOL, journal_full)},
    {HELP("gunyu_anonymous_memory_bytes", GAUGE,
          "Resident memory without mapped files, so without the journal."),
     TOTAL(proc.anonymous_bytes)},
    {HELP("gunyu_threads", GAUGE, "Threads of the process."), TOTAL(proc.threads)},
};

static const struct row process_rows[] = {
    {HELP("process_cpu_seconds_total", COUNTER, "User and system CPU time."), .decimals = 3,
     TOTAL(proc.cpu_ms)},
    {HELP("process_resident_memory_bytes", GAUGE,
          "Resident memory, journal pages in the page cache included."),
     TOTAL(proc.resident_bytes)},
    {HELP("process_virtual_memory_bytes", GAUGE, "Virtual memory."), TOTAL(proc.virtual_bytes)},
    {HELP("process_open_fds", GAUGE, "Open file descriptors."), TOTAL(proc.open_fds)},
    {HELP("process_max_fds", GAUGE, "Limit of open file descriptors."), TOTAL(proc.max_fds)},
    {HELP("process_start_time_seconds", GAUGE, "Start of the process, seconds since 1970 UTC."),
     .decimals = 3, TOTAL(proc.start_ms)},
};

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static const struct section {
    const struct row *rows;
    size_t n;
    enum metrics_set left_out_of; // METRICS_ALL: of none
    const char *title, *intro;
} sections[] = {
    {own_rows, COUNT(own_rows), METRICS_COMPAT, "Names of gunyu",
     "Units are base units (bytes, seconds, ratios); counters end in `_total`."},
    {compat_rows, COUNT(compat_rows), METRICS_OWN, "Names of redisGunYu",
     "Dashboards and alerts that were made for redisGunYu go on working. The names, the types "
     "and the labels are its own, so counters have no `_total`."},
    {process_rows, COUNT(process_rows), METRICS_ALL, "The process",
     "Named as the Prometheus client libraries name them."},
};

static bool known(int64_t i, uint64_t *v)
{
    *v = (uint64_t)i;
    return i >= 0;
}

// l is NULL for rows that are not a lane's, `of` for those that are not a replica's.
static bool row_value(const struct row *r, const struct lane_snapshot *l,
                      const struct serve_replica *of, const struct totals *t, uint64_t *v)
{
    if (r->kind == ROW_TOTAL)
        return known(*(const int64_t *)((const char *)t + r->offset), v);
    *v = 1;
    if (r->kind == ROW_BUILD || !l)
        return r->kind == ROW_BUILD;
    if (r->kind == ROW_FN)
        return r->value(l, r->arg, v);
    if (r->kind == ROW_REPLICA)
        return r->of_replica(l, of, v);
    const char *field = (const char *)l + r->offset;
    if (r->kind == ROW_I64)
        return known(*(const int64_t *)field, v);
    *v = r->kind == ROW_BOOL ? *(const bool *)field : *(const uint64_t *)field;
    return true;
}

static void row_labels(struct buf *b, const struct row *r, const struct lane_snapshot *l,
                       const struct serve_replica *of, const struct totals *t)
{
    if (r->kind == ROW_BUILD) {
        buf_append_cstr(b, "{version=");
        text_label(b, t->version);
        buf_append_char(b, '}');
    }
    if (r->kind == ROW_BUILD || r->kind == ROW_TOTAL)
        return;
    buf_append_cstr(b, "{input=");
    text_label(b, l->input);
    if (r->labels) {
        buf_append_char(b, ',');
        buf_append_cstr(b, r->labels);
    }
    if (r->labels_of)
        r->labels_of(b, l);
    if (r->kind == ROW_REPLICA) {
        buf_append_cstr(b, ",replica=");
        text_label(b, of->address);
    }
    buf_append_char(b, '}');
}

static const char *type_name(enum row_type t)
{
    return t == COUNTER ? "counter" : "gauge";
}

// All samples of one metric: first[0] has the name, the n - 1 rows behind it add to it.
static void render_metric(struct buf *b, const struct row *first, size_t n,
                          const struct lane_snapshot *lanes, size_t lanes_n, const struct totals *t)
{
    bool per_lane = first->kind != ROW_TOTAL && first->kind != ROW_BUILD;
    bool headed = false;
    for (size_t k = 0; k < (per_lane ? lanes_n : 1); k++) {
        const struct lane_snapshot *l = per_lane ? &lanes[k] : NULL;
        size_t samples = first->kind == ROW_REPLICA ? l->served.replicas_n : n;
        for (size_t i = 0; i < samples; i++) {
            const struct row *r = first->kind == ROW_REPLICA ? first : first + i;
            const struct serve_replica *of =
                first->kind == ROW_REPLICA ? &l->served.replicas[i] : NULL;
            uint64_t v;
            if (!row_value(r, l, of, t, &v))
                continue;
            if (!headed)
                buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", first->name, first->help, first->name,
                           type_name(first->type));
            headed = true;
            buf_append_cstr(b, first->name);
            row_labels(b, r, l, of, t);
            buf_append_char(b, ' ');
            text_fixed(b, v, first->decimals);
            buf_append_char(b, '\n');
        }
    }
}

// How many rows the metric at rows[i] has.
static size_t metric_rows(const struct section *s, size_t i)
{
    size_t n = 1;
    while (i + n < s->n && !s->rows[i + n].name)
        n++;
    return n;
}

static struct totals sum_up(const struct lane_snapshot *lanes, size_t n, const char *version)
{
    struct totals t = {.proc = procstat_read(), .storage_ratio_ppm = -1, .version = version};
    double used = 0, limit = 0;
    for (size_t i = 0; i < n; i++) {
        const struct lane_snapshot *l = &lanes[i];
        int64_t bytes = l->journal_bytes > 0 ? l->journal_bytes : 0;
        t.storage_bytes += bytes;
        if (l->journal_max > 0) {
            used += (double)bytes;
            limit += (double)l->journal_max;
        }
    }
    if (limit > 0)
        t.storage_ratio_ppm = (int64_t)(used / limit * 1e6);
    return t;
}

bool metrics_set_parse(const char *name, enum metrics_set *out)
{
    static const char *const names[] = {
        [METRICS_ALL] = "all", [METRICS_OWN] = "gunyu", [METRICS_COMPAT] = "redisGunYu"};
    for (size_t i = 0; i < COUNT(names); i++) {
        if (slice_ieq(slice_cstr(name), slice_cstr(names[i]))) {
            *out = (enum metrics_set)i;
            return true;
        }
    }
    return false;
}

void metrics_render(struct buf *b, enum metrics_set set, const struct lane_snapshot *lanes,
                    size_t n, const char *version)
{
    struct totals t = sum_up(lanes, n, version);
    for (const struct section *s = sections; s < sections + COUNT(sections); s++) {
        if (set != METRICS_ALL && s->left_out_of == set)
            continue;
        for (size_t i = 0; i < s->n; i += metric_rows(s, i))
            render_metric(b, &s->rows[i], metric_rows(s, i), lanes, n, &t);
    }
}

static void write_labels(FILE *f, const struct row *first, size_t n)
{
    const char *comma = "";
    if (first->kind != ROW_TOTAL && first->kind != ROW_BUILD) {
        fputs("`input`", f);
        comma = ", ";
    }
    for (const struct row *r = first; r < first + n; r++) {
        if (r->labels) {
            fprintf(f, "%s`%s`", comma, r->labels);
            comma = ", ";
        }
    }
    if (first->label_names)
        fprintf(f, "%s`%s`", comma, first->label_names);
}

static void write_section(FILE *f, const struct section *s)
{
    fprintf(f, "\n## %s\n\n%s\n\n| name | type | labels | meaning |\n|---|---|---|---|\n", s->title,
            s->intro);
    for (size_t i = 0; i < s->n; i += metric_rows(s, i)) {
        const struct row *r = &s->rows[i];
        fprintf(f, "| `%s` | %s | ", r->name, type_name(r->type));
        write_labels(f, r, metric_rows(s, i));
        fprintf(f, " | %s |\n", r->help);
    }
}

static const char docs_head[] =
    "# Metrics\n\n"
    "Generated from the table in `src/control/metrics.c` by `make docs`; a test compares the\n"
    "two.\n\n"
    "`GET /prometheus` (`server.metricRoutePath`) serves everything below, in the text format.\n"
    "Ours say all that redisGunYu's say and more, so one family can be scraped without the other:\n"
    "`?names=gunyu` or `?names=redisGunYu` asks for one, and `GET /metrics`, the path that\n"
    "Prometheus asks for by default, serves ours alone. The process's own numbers are in each.\n\n"
    "`promtool check metrics` accepts our names without a remark. It cannot accept redisGunYu's:\n"
    "it remarks on the capital letters of the prefix, whatever the type, and on counters without\n"
    "`_total`. They keep the type `counter` all the same, because agents that are not Prometheus\n"
    "(the OpenTelemetry collector, for one) compute no rate from anything else. Queries are not\n"
    "touched by either remark.\n\n"
    "A sample whose value is not known is left out rather than shown as zero: offsets before the\n"
    "first connection, the delay without `syncDelayTestKey`, the limit of an unlimited journal.\n"
    "The label `input` is the address of the source.\n";

static const char docs_tail[] =
    "\n## Differences from redisGunYu\n\n"
    "| name | here |\n|---|---|\n"
    "| `redisGunYu_input_sync_type` | a full sync counts as `full` only, not as `incr` too: the "
    "connection is kept |\n"
    "| `redisGunYu_input_sync_state` | a lane in error shows as `stop`; `gunyu_lane_state` has "
    "`error` |\n"
    "| `redisGunYu_aof_write`, `redisGunYu_rdb_write`, `redisGunYu_storage_size`, "
    "`redisGunYu_storage_ratio` | cover a channel of type `memory` as well and are always "
    "current |\n"
    "| `redisGunYu_output_bisync_*` | absent: they belong to bidirectional sync |\n"
    "| `go_*`, `promhttp_*` | absent: they describe the Go runtime |\n";

void metrics_write_docs(FILE *f)
{
    fputs(docs_head, f);
    for (size_t i = 0; i < COUNT(sections); i++)
        write_section(f, &sections[i]);
    fputs(docs_tail, f);
}

// SPDX-License-Identifier: Apache-2.0
// What a lane tells the world: plain values, copied out under the lane's lock about ten times a
// second and whenever its state changes. Status, metrics and the progress display read only this.
#ifndef GUNYU_LANE_SNAPSHOT_H
#define GUNYU_LANE_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "serve/feed.h"

// The contract's states, plus error, and of a lane that would run, that it waits for its lease.
enum lane_state {
    LANE_READY_RUN,
    LANE_RUN,
    LANE_PAUSE,
    LANE_STOP,
    LANE_ERROR,
    LANE_LEASE_LOST, // published only
};
const char *lane_state_name(enum lane_state s); // "ready_run", "run", "pause", "stop", "error", ...

// What keeps a process that was replaced from writing to the target.
enum lane_fence {
    LANE_FENCE_UNKNOWN, // no target was reached yet
    LANE_FENCE_KILL,    // its connections are killed
    LANE_FENCE_CHECK,   // each of its transactions checks the epoch
    LANE_FENCE_LEASE,   // the end of its lease, if it has one
};
const char *lane_fence_name(enum lane_fence f); // "unknown", "kill", "check", "lease"

enum lane_phase {
    LANE_PHASE_IDLE,
    LANE_PHASE_CONNECTING, // source or target not reachable yet
    LANE_PHASE_WAIT_RDB,
    LANE_PHASE_FULL_SYNC,
    LANE_PHASE_STREAMING,
};
const char *lane_phase_name(enum lane_phase p); // "idle", "connecting", "wait_rdb", ...

// Counters only grow while the process lives.
#define LANE_COUNTERS(X)                                                                           \
    X(full_syncs)    /* PSYNC outcomes: full */                                                    \
    X(partial_syncs) /* PSYNC outcomes: continued */                                               \
    X(reconnects)    /* connections to the source lost */                                          \
    X(target_reconnects)                                                                           \
    X(rdb_bytes) /* received from the source */                                                    \
    X(stream_bytes)                                                                                \
    X(rdb_keys_sent)                                                                               \
    X(rdb_keys_filtered)                                                                           \
    X(rdb_keys_ignored)   /* keyExists: ignore */                                                  \
    X(rdb_keys_replaced)  /* keyExistsLog: known to have replaced one */                           \
    X(degraded_functions) /* what the target cannot hold: see target/ability.h */                  \
    X(degraded_field_expiries)                                                                     \
    X(degraded_streams)                                                                            \
    X(degraded_stream_dedups)                                                                      \
    X(degraded_stream_nacks)                                                                       \
    X(degraded_arrays)                                                                             \
    X(degraded_path_hashes)                                                                        \
    X(degraded_modules)                                                                            \
    X(degraded_key_metas)                                                                          \
    X(degraded_module_auxes)                                                                       \
    X(degraded_pending_of_deleted)                                                                 \
    X(cmds_received)                                                                               \
    X(cmds_sent)                                                                                   \
    X(cmds_filtered)                                                                               \
    X(cmds_ok)                                                                                     \
    X(cmds_failed)                                                                                 \
    X(bytes_sent) /* to the target */                                                              \
    X(batches_txn_ok)                                                                              \
    X(batches_txn_failed)                                                                          \
    X(batches_plain_ok)                                                                            \
    X(batches_plain_failed)                                                                        \
    X(split_transactions) /* of the source, whose keys lie in several slots of the target */       \
    X(staged_commands)    /* whose keys do */                                                      \
    X(role_changes)       /* became the leader */                                                  \
    X(follower_bytes)     /* received from the leader */                                           \
    X(dead_letters)                                                                                \
    X(transient_errors)      /* retried */                                                         \
    X(replica_full_syncs)    /* replicas that were given a snapshot of ours */                     \
    X(replica_partial_syncs) /* and those that continued */                                        \
    X(replicas_cut)          /* by us: silent, or too slow for what the journal holds */           \
    X(replica_bytes)         /* sent to them */                                                    \
    X(expiries_held)         /* near expiries replaced by far ones */                              \
    X(expiries_settled)      /* and set true again */                                              \
    X(extra_keys_deleted)    /* of the target, which the source did not have: extraKeys */

struct lane_snapshot {
    char input[300];  // source address
    char output[300]; // target address
    char role[16];    // "leader", "follower"
    char leader[300]; // the node that a follower follows; "": none is known
    bool transaction;
    enum lane_state state;
    enum lane_phase phase;
    enum lane_fence fence;
    char fence_reason[200]; // why it is not LANE_FENCE_KILL, or less than that
    char link[24];          // link_state_name
    char error[512];        // "" when none: last problem, kept while it lasts
    char full_sync_reason[128];
    char unsupported[300]; // what the last snapshot may have held and the target lacks
    char
        extra_keys_kept[200]; // why such keys were not deleted at the last full sync; "": they were
    char replid[41];
    int64_t received_offset;     // right edge of the journal; -1 none
    int64_t acked_source_offset; // last REPLCONF ACK
    int64_t sent_offset;
    int64_t applied_offset;   // confirmed by the target
    int64_t lag_bytes;        // received - applied
    int64_t lag_ms;           // age of the oldest byte not applied; 0 when none
    double full_sync_percent; // 0..100
    uint64_t snapshot_size;   // bytes; 0 unknown
    uint64_t snapshot_loaded; // bytes
    int64_t journal_left;     // left edge of the journal; -1 none
    int64_t journal_bytes, journal_max;
    uint64_t epoch;        // of the fence at the target; 0 unknown
    int64_t lease_left_ms; // until the lane has to stop writing; -1: for ever, or it does not lead
    int group_joined;      // this node takes part in its group; -1: there is no group
    bool reaches;          // in a group: source and target answered when they were asked last
    bool journal_full;
    int64_t sync_delay_ns; // from syncDelayTestKey; -1 unknown
    uint64_t expiries_pending;
    uint64_t dead_letters_kept; // in the file: neither retried nor dropped yet
    struct serve_facts served;  // what the replication server says of this lane
#define X(name) uint64_t name;
    LANE_COUNTERS(X)
#undef X
};

// Of lane or follower. lane_status.c: what the journal holds; lane_serve.c: what the replicas have
// to tell.
void snapshot_put_journal(struct lane_snapshot *s, const struct journal_info *ji);
void snapshot_put_feeds(struct lane_snapshot *s, const struct feeds *feeds);

#endif

// SPDX-License-Identifier: Apache-2.0
// One source shard's whole path: link → journal → apply or load → batcher → target. Lives on one
// worker's loop; everything below is called there unless it says otherwise.
#ifndef GUNYU_LANE_LANE_H
#define GUNYU_LANE_LANE_H

#include "flow/filter.h"
#include "flow/rewrite.h"
#include "journal/journal.h"
#include "lane/snapshot.h"
#include "net/endpoint.h"
#include "serve/feed.h"
#include "source/link.h"
#include "target/load.h"

struct ownership;

// Of a lane whose source is a shard of a cluster: whose turn it is on a slot that moves
// (flow/ownership.h). Functions are called from the lane's thread and must not wait.
struct lane_turns {
    struct ownership *ownership; // NULL: no cluster
    int lane;
    // The lane of the shard that has this node, -1 if unknown.
    int (*lane_of)(void *ctx, struct slice node_id);
    void (*name_of)(void *ctx, int lane, char *out, size_t cap);
    // Adds the slots that its shard has at the source, as the source was last seen.
    void (*slots_of)(void *ctx, int lane, uint8_t *slots);
    void (*sign)(void *ctx); // slots are being moved, or there is a question of the arbiter's
    void (*joined)(void *ctx, int lane); // what the lane has stored is known to the arbiter
    bool (*open)(void *ctx, int lane);   // it may apply
    void *ctx;
};

// Borrowed strings and endpoints must outlive the lane.
struct lane_options {
    uv_loop_t *loop;
    const char *tag; // names the source for ever, for logs: an address, or a shard's name
    // With a finder only user, password and TLS matter.
    struct endpoint source, target;
    struct endpoint_finder find_source, find_target;
    // The target is a cluster that these nodes know; then `target` only names it.
    bool target_cluster;
    const struct endpoint *target_seeds;
    size_t target_seeds_n;
    struct journal_options journal; // loop and tag are filled in by the lane
    struct journal *open_journal;   // taken by lane_new, unless it is NULL: then it is opened
    const struct filter *filter;
    struct rewrite_dbs dbs; // mapping of source dbs to target dbs
    const char *psync_command, *announce_ip;
    int listening_port;
    enum choose_from from;
    struct link_gate *gate;             // shared by the lanes
    int source_version, target_version; // where INFO is not permitted; 0: unknown
    bool resume;                        // resumeFromBreakPoint
    bool transactions, wrap_all;
    int max_exec; // 1, or more in mode pipeline
    uint32_t batch_cmds;
    size_t batch_bytes;
    int64_t position_ms, keepalive_ms;
    enum load_exists exists;
    enum load_functions functions;
    bool exists_log, restore_enabled, skip_module_aux, skip_unknown, degrade;
    uint64_t max_restore;
    bool stop_on_error; // onError: stop
    const char *dead_letter_path;
    const char *full_sync_flush; // command sent to the target before each full sync, or NULL
    bool extra_delete; // after a full sync, keys of the target that the source does not have
    bool expiry_guard;
    int64_t expiry_margin_ms;
    const char *delay_test_key; // or NULL
    struct lane_turns turns;
    int64_t stats_ms; // statistics in the log this often; 0: never
    // clock_boot_ms from which on nothing may be sent to the target; NULL: no limit. When it has
    // passed the target is let go, until it lies ahead again.
    const _Atomic int64_t *lease;
    uint64_t epoch_floor; // the fence's epoch is no lower
    // Counts those that still may do something at the target, for a while after lane_free; or NULL.
    atomic_int *alive;
    // A replica that needs a snapshot which is no longer held makes the lane take a full sync.
    bool serve_refresh;
};

struct lane;

// Opens the journal; fails only for what a person must mend (a locked or unusable directory).
int lane_new(struct lane **out, const struct lane_options *o, struct err *e) must_check;
void lane_start(struct lane *l);
// The source is drained into the journal, nothing more is applied.
void lane_pause(struct lane *l);
// From pause, stop or error; a lane that was replaced takes the target back. skip: the command that
// stopped the lane goes to the dead letters.
void lane_resume(struct lane *l, bool skip);
// Finishes what is in flight and ends both connections. done(ctx) follows when that is so.
void lane_stop(struct lane *l, void (*done)(void *ctx), void *ctx);
// Ends at once whatever is in flight.
void lane_stop_now(struct lane *l);
// Asks the source for a full sync; flush_command, if any, empties the target first. extra_delete:
// as in the options, this time.
void lane_full_sync(struct lane *l, const char *flush_command, bool extra_delete);
// The source is at this address now, as its finder knows it: a link that was made elsewhere is made
// anew, one that waits for its next attempt does not wait longer.
void lane_source_moved(struct lane *l, const char *address);
void lane_target_moved(struct lane *l, const char *address);
// The source has ended: what was received of it is still applied, nothing more is asked for.
void lane_end_source(struct lane *l);
// After lane_end_source: nothing is left that could be applied.
bool lane_is_drained(const struct lane *l);
// Takes the guest over and feeds it from the journal. Else it stays the caller's, and e.msg is the
// error that its client is told.
int lane_serve(struct lane *l, struct serve_guest *g, struct err *e) must_check;
// After lane_stop or lane_stop_now; memory goes when the loop has closed its handles.
void lane_free(struct lane *l);
// The same, but the journal is given back open.
struct journal *lane_free_but_journal(struct lane *l);

// Any thread.
void lane_get_snapshot(struct lane *l, struct lane_snapshot *out);

#endif

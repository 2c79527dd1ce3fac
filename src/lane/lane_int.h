// SPDX-License-Identifier: Apache-2.0
// What the files of the lane share; nobody else includes it.
#ifndef GUNYU_LANE_LANE_INT_H
#define GUNYU_LANE_LANE_INT_H

#include "lane/lane.h"
#include "source/link.h"
#include "target/apply.h"
#include "target/batcher.h"
#include "target/deadletter.h"
#include "target/expiry.h"
#include "target/extra.h"
#include "target/position.h"
#include "target/resume.h"
#include "target/router.h"
#include "target/scripts.h"
#include "target/takeback.h"
#include "target/turn.h"

enum {
    LAG_SAMPLES = 2048,
    LANE_SKIPS = 64,
    TARGET_SILENCE_MS = 60000,
    CONNECTION_NAME = REPLID_LEN + 64
};

// When the journal's right edge passed an offset; the age of what is not applied comes from these.
struct lag_sample {
    uint64_t offset;
    int64_t ms;
};

// A master of the target.
struct lane_node {
    struct endpoint endpoint;    // owns
    struct redis_client *client; // of lane_stage.c; NULL: none yet
    int db;                      // that it has selected
    int64_t replicas;            // that are waited for
};

// What one attempt to reach the target found.
struct target_result {
    struct conn *conn;        // NULL: failed, or a cluster
    struct endpoint endpoint; // owns; where conn goes
    struct masters masters;   // of a cluster; n 0: failed
    uint64_t *marks;          // owns; or NULL
    struct redis_server server;
    struct position position;
    bool found;
    bool empty;                     // holds no keys
    bool fenced_off;                // a newer process writes here
    uint64_t epoch;                 // ours by now; 0: none
    char record_id[REPLID_LEN + 1]; // under which the record is that bears it; "": none
    enum lane_fence fence;
    char fence_why[200]; // it is not LANE_FENCE_KILL
    bool refused;        // a db of the source has no place here
    bool scripts;        // EVAL is allowed
    bool imports;        // Valkey's import mode is on at all masters, and these connections have it
    int source_dbs;      // how many the source has, if asked; 0 unknown
    char name[300];      // the address that was dialled
    struct buf turns;    // owns; the record of slots that move, if it was asked for
    struct err err;
};

enum target_state { TARGET_OFF, TARGET_DIALLING, TARGET_READY };

struct lane {
    struct lane_options o;
    char source_name[300], target_name[300];
    struct journal *journal;
    struct link *link;
    struct sink *sink;
    struct batcher *batcher; // the sink of a target that is no cluster; else NULL
    struct router *router;   // of one that is; else NULL
    uint64_t marks_id;
    bool await_position; // nothing is sent before the position is stored
    struct apply *apply; // at most one of apply and load
    struct load *load;
    struct takeback *takeback; // goes before the load; else NULL
    struct lane_lost *lost;    // goes before both; else NULL
    struct extra *extra;       // keys of the snapshot that is loaded; NULL: nobody asks for them
    bool extra_once;           // the next full sync deletes the others, whatever the options say
    bool extra_slots_known;    // a full sync began in this process
    uint8_t extra_slots[SLOT_SET_BYTES]; // that were the shard's then
    struct deadletter *dead;
    uint64_t dead_letters_kept;
    struct expiry *expiry;
    struct scripts *scripts;

    // what is wanted
    enum lane_state state;
    struct err error;   // last problem; code 0: none
    bool error_latched; // a person must resume
    uint64_t error_ref; // command that stopped the lane, or UINT64_MAX
    bool freed;

    // the source
    char id1[REPLID_LEN + 1], id2[REPLID_LEN + 1];
    int64_t id2_offset;
    bool ids_known;
    bool source_is_valkey, source_is_cluster;
    int source_version; // 0 unknown
    bool source_ended;  // for good
    bool force_full;
    bool snapshot_fresh;     // a full sync began and its load has not
    char asked_because[128]; // why a full sync would be needed now
    char full_reason[128];   // why the last one was
    enum link_state link_state;
    struct err link_error;

    // the target
    enum target_state target_state;
    uint64_t target_epoch; // tells an outdated attempt from the current one
    struct redis_server server;
    bool server_known;
    bool target_scripts, target_imports; // see target_result
    struct position position;            // as last read or written
    bool position_known;                 // looked for under the current ids
    bool position_found;
    bool target_empty;                    // when it was looked for
    char position_ids[2][REPLID_LEN + 1]; // the ids it was looked for under
    char stale_replid[REPLID_LEN + 1];    // record to delete with the next write
    char record_id[REPLID_LEN + 1];       // of the record in the target; "": there is none
    uint64_t epoch;                       // 0: none yet
    bool epoch_firm;                      // it stands, or stood, beside a position
    bool fenced_off;                      // the error is that another process has taken over
    enum lane_fence fence;
    char fence_why[200];
    bool lease_lost;
    struct endpoint *seeds;     // owns; o.target_seeds
    char *flush_command;        // to run before the load begins
    int64_t retry_ms;           // when to dial again
    bool dialling;              // an attempt runs, maybe an outdated one
    uint64_t target_progress;   // grows with whatever the target takes or answers
    int64_t target_progress_ms; // when it last did
    int backoff_ms;
    bool drop_wanted;
    struct lane_stage *stage;   // of a target that is attached; NULL: it has no use for one
    struct lane_hung *hung;     // of a cluster that is attached; else NULL
    bool staging;               // a command over several slots is under way, maybe an outdated one
    uint64_t sent_until;        // of the load, before the last disconnect
    uint64_t loose_until;       // see resume.h; of what is applied no more
    uint64_t again_until;       // no command that begins later has ever been sent to the target
    uint64_t skips[LANE_SKIPS]; // offsets of commands that are not sent again
    uint32_t skips_n;

    // progress
    struct batch_mark mark; // applied
    bool has_mark;
    uint64_t stored_offset; // the target's position is this or later; with has_mark
    int stored_db;
    struct lag_sample lag[LAG_SAMPLES];
    uint32_t lag_head, lag_count;
    int64_t last_apply_ms;

    // expiries
    bool far_flag; // far expiries may exist that the table does not know
    bool settle_due, defusing, counted_behind;
    int64_t source_ahead_ms; // the source's clock is ahead of ours by this
    int64_t catch_up_to;     // the source's offset when the link began
    int64_t defuse_until_ms, sweep_due_ms;
    struct lane_sweep *sweep; // NULL: none is under way

    // slots that move (lane_turns.c)
    struct turn *turn;             // NULL: the source is no cluster
    struct buf turns;              // the record as it was last made
    char turns_id[REPLID_LEN + 1]; // under which it was written
    bool turns_joined, turns_unstored;
    // Positions that were written and that are stored, since the target was reached, and the one
    // that the record went with.
    uint64_t positions_put, positions_stored, turns_put;
    uint64_t turns_seen; // changes

    struct feeds *feeds; // the replicas
    uint64_t refresh_us; // when one of them last made the lane take a full sync; 0: never

    struct lane_probe *probe;    // NULL: none
    struct lane_snapshot logged; // numbers of the last statistics line
    int64_t stats_due_ms;

    uv_timer_t tick, turn_timer;
    uv_idle_t again;
    int handles;
    void (*stopped)(void *ctx);
    void *stopped_ctx;

    uv_mutex_t lock; // guards published
    struct lane_snapshot published;
    struct lane_snapshot counters; // only its LANE_COUNTERS are used; lane thread
};

void lane_pump(struct lane *l);
void lane_publish(struct lane *l);
// Decides what to do with what is known of source, journal and target, and starts it.
void lane_arrange(struct lane *l);
// Lets go of the target connection, of what is in flight and of the readers, at the next turn of
// the loop: the caller may stand in the middle of any of them.
void lane_drop_target(struct lane *l);
// Unless the source has ended.
void lane_start_link(struct lane *l);
void lane_end_apply(struct lane *l);
uint64_t lane_loose_until(const struct lane *l); // see resume.h
// The record that was last read or written goes with the next write, if that has another id.
void lane_note_stale_position(struct lane *l);
// The command that begins after ref is not sent again.
void lane_skip_offset(struct lane *l, uint64_t ref);
// Opens what an earlier process has left.
void lane_find_dead_letters(struct lane *l);
void lane_count_dead_letters(struct lane *l);
// Keeps the command that begins after ref in the dead-letter file.
bool lane_dead_letter(struct lane *l, uint64_t ref, struct slice reason);
void lane_latch_error(struct lane *l, uint64_t ref, const struct err *e);
void lane_note_error(struct lane *l, const struct err *e);

// lane_expiry.c. The first five are what apply.h, load.h and sink.h describe.
int64_t lane_hold_before(const struct lane *l);
int64_t lane_hold_expiry(void *ctx, int db, struct slice key, struct slice field,
                         int64_t expire_ms);
void lane_expiry_held(void *ctx, int db, struct slice key, struct slice field, int64_t true_ms);
void lane_expiry_moved(void *ctx, int db, int argc, const struct slice *argv);
void lane_expiry_failed(struct lane *l, struct slice text);
int64_t lane_source_ms(const struct lane *l); // the source's clock
// What is received, or was written at the source when the link began, is not all applied.
bool lane_is_behind(const struct lane *l);
void lane_expiry_target(struct lane *l); // a target was reached
void lane_expiry_tick(struct lane *l);
void lane_settle(struct lane *l);        // in a turn of the lane, if the tick has said so
void lane_expiry_forget(struct lane *l); // a new history begins
void lane_sweep_cancel(struct lane *l);
// Before the lane stands still: makes near expiries far. `defusing` until that is done.
void lane_defuse(struct lane *l);
void lane_defuse_end(struct lane *l);

// lane_extra.c: at the end of a load, keys of the target that the snapshot does not have.
bool lane_extra_wanted(const struct lane *l);
void lane_extra_full_sync(struct lane *l); // a snapshot is being taken
// A load that goes on there could not tell which they are; _again begins one that can.
bool lane_extra_lacks(const struct lane *l, uint64_t rdb_index);
void lane_extra_again(struct lane *l);
void lane_extra_load(struct lane *l, uint64_t rdb_index); // the load begins there
void lane_extra_met(void *ctx, uint64_t index, int target_db, struct slice key); // as in load.h
void lane_extra_forget(struct lane *l);
// All of the snapshot is confirmed. True: they are deleted, or nobody wants it; else wait for the
// lane's next turn.
bool lane_extra_done(struct lane *l);
void lane_extra_cancel(struct lane *l); // its target is let go soon

// lane.c: as lane_drop_target, but now; and the position is looked for anew.
void lane_drop_target_now(struct lane *l);
void lane_dial_again(struct lane *l);
// lane_link.c: events of the link; the target's position was looked for under the ids that are
// known now; what to do with source, journal and position.
extern const struct link_events lane_link_events;
bool lane_same_ids(const struct lane *l);
void lane_decide(struct lane *l, struct resume_decision *d);

// lane_turns.c: slots that move between the shards of a source cluster. Each is a no-op otherwise.
void lane_turns_start(struct lane *l);
void lane_turns_free(struct lane *l);
bool lane_turns_open(const struct lane *l);                            // the lane may apply
bool lane_turns_may_load(const struct lane *l);                        // a snapshot may be loaded
void lane_turns_target(struct lane *l, struct slice record);           // the position was read
void lane_turns_forget(struct lane *l);                                // a new history begins
void lane_turns_stored(struct lane *l, uint64_t offset, bool loading); // the position is stored
int lane_turns_put(struct lane *l, struct buf *out); // before the position; how many commands
void lane_turns_pumped(struct lane *l);              // after each turn of the lane
void lane_turns_tick(struct lane *l);
bool lane_turns_wait(const struct lane *l);                  // for another lane
bool lane_turns_has(const struct lane *l, struct slice key); // no other lane may have written it
// What the lane waits for; false: nothing.
bool lane_turns_say(const struct lane *l, char *out, size_t cap);

// lane_lost.c. A full sync was granted under that id, at that offset, and the journal still holds
// what it held. What the target may have that the source has lost is noted, to be taken back. While
// `lost` is there the rest of it is asked for, and no load may begin.
void lane_lost_note(struct lane *l, const char *replid, uint64_t offset);
void lane_lost_let_go(struct lane *l);      // no result counts any more
bool lane_flushes_all(const char *command); // NULL: no

// lane_takeback.c. The load begins, maybe from the first byte: `takeback` is there if something is
// to be taken back before.
void lane_takeback_start(struct lane *l);
enum load_result lane_takeback_pump(struct lane *l, size_t budget); // the load follows
void lane_takeback_end(struct lane *l);
void lane_takeback_stored(struct lane *l, const struct batch_mark *mark); // as the position
void lane_takeback_flushed(struct lane *l, const char *flush_command);    // the target was

// lane_probe.c: the delay probe. Each is a no-op without one.
void lane_probe_tick(struct lane *l, int64_t now);
void lane_probe_sent(void *ctx, uint64_t end, struct slice value); // see apply.h
void lane_probe_acked(struct lane *l, uint64_t offset);
void lane_probe_forget(struct lane *l);            // what was sent may not arrive
int64_t lane_probe_delay_ns(const struct lane *l); // -1 unknown
void lane_probe_free(struct lane *l);

// lane_serve.c: for status and the replication server.
void lane_put_served(const struct lane *l, struct lane_snapshot *s);

// lane_status.c: adds what the load under way has counted.
void lane_count_load(const struct lane *l, struct lane_snapshot *s);
// The statistics line, when it is due and says something new.
void lane_log_stats(struct lane *l, int64_t now);

// lane_target.c: dial, fence, probe, read the position, off the loop.
void lane_dial_target(struct lane *l);
// The next dial waits, longer from time to time.
void lane_back_off(struct lane *l);
void lane_target_ready(struct lane *l, struct target_result *r);

// The name that connections to the target bear; dst has CONNECTION_NAME bytes.
void lane_connection_name(const struct lane *l, char *dst);

// lane_fence.c. What a connection beside those of the sink needs before it writes: it bears the
// name, and then a look at the record shows that nobody has taken over. Whoever takes over later
// finds the name.
struct lane_pass {
    char name[CONNECTION_NAME];
    char ids[3][REPLID_LEN + 1]; // under which the record may be
    uint64_t epoch;
    const struct endpoint *seeds; // of a cluster; borrowed
    size_t seeds_n;
};
void lane_pass_make(const struct lane *l, struct lane_pass *p);
// On the pool, c is named. Any error is ERR_CLOSED: the target is to be dialled again.
int lane_pass_check(void *pass, struct redis_client *c, struct err *e) must_check;
// Nothing may be sent to the target now.
bool lane_lease_passed(const struct lane *l);

// lane_stage.c: commands over several slots, in steps, on a thread of the pool.
// The target was attached; takes its endpoints.
void lane_stage_attach(struct lane *l, struct target_result *r);
// What is under way ends soon; its result does not count.
void lane_stage_let_go(struct lane *l);
enum apply_staged lane_stage_command(void *ctx, const struct apply_stage *c); // see apply.h
enum apply_staged lane_clear_slots(void *ctx, const struct apply_clear *c);   // the same

// lane_hung.c: masters of a cluster that do not answer, and what the others say of them.
// The target was attached, before the endpoints of m are taken.
void lane_hung_attach(struct lane *l, const struct masters *m);
void lane_hung_let_go(struct lane *l);
// Lets the target go if a master that does not answer is none any more. A no-op without a cluster.
void lane_hung_tick(struct lane *l, int64_t now);

// lane_cluster.c
struct router *lane_router_new(struct lane *l);
void lane_attach_cluster(struct lane *l, struct target_result *r);
void lane_drop_stale_position(struct lane *l);    // in a cluster, where it is another slot's
void target_result_free(struct target_result *r); // and the connections that it still has

// lane_apply.c: what the sink reports.
extern const struct sink_events lane_sink_events;
int lane_map_db(const struct lane *l, int db);
void lane_apply_start(struct lane *l, uint64_t from, int db);
void lane_load_all(struct lane *l); // lane.c: from the first byte
void lane_load_start(struct lane *l, uint64_t rdb_index, int db, int version, uint64_t again_until);
// The reader met a command that cannot be applied; see apply.h.
bool lane_refused(void *ctx, uint64_t ref, struct slice reason);
// The reply says that the same command may succeed later.
bool target_error_is_transient(struct slice text);

#endif

// SPDX-License-Identifier: Apache-2.0
// What lane_stage.c and lane_clear.c share: a job on a thread of the pool over connections of its
// own to the target's masters. Nobody else includes it.
#ifndef GUNYU_LANE_LANE_STAGE_INT_H
#define GUNYU_LANE_LANE_STAGE_INT_H

#include <stdatomic.h>

#include "lane/lane_int.h"
#include "target/purge.h"
#include "target/stage.h"
#include "target/translate.h"

enum {
    STAGE_TIMEOUT_MS = 30 * 1000, // a value may be big
    // A slot that is being moved: it takes as long as its keys do.
    STAGE_AGAIN_MS = 20,
    STAGE_AGAIN_TRIES = 100,
};

struct slot_owner {
    int slot, node;
};

// Of one attachment of the target. While the job runs, only `cancel` is touched by the lane.
struct lane_stage {
    uv_work_t work;
    struct lane *lane;
    atomic_bool cancel;
    struct lane_node *nodes; // owns
    int nodes_n;
    struct lane_pass pass; // as the command begins
    char tag[24];
    uint64_t marks_id;
    bool has_expiretime, imports;

    // the command
    struct stage stage;
    struct translate words;    // a thread of its own, so one of its own
    struct slot_owner *owners; // owns
    int owners_n;
    int db;
    uint64_t ref, end;
    struct stage_step step;
    struct buf text, replies, refused;
    struct stage_answer answer;
    bool big;

    // or a FLUSHALL, or what a snapshot does not have
    struct purge_scope scope;
    bool unlink;
    bool (*keeps)(void *ctx, int target_db, struct slice key); // as in purge.h, with the stage
    struct purge_result purged;
    struct lane_extra_job *extra; // owns; NULL: none

    // how it ended; what `step` says counts too
    int rc; // err
    struct err err;
    bool finished; // `verdict` waits to be asked for
    enum apply_staged verdict;
};

// Connects to the node, unless it is.
int lane_stage_reach(struct lane_stage *s, struct lane_node *n) must_check;
// What was done there may be followed by what another node does. A replica that takes over must not
// lack it.
int lane_stage_await_replicas(struct lane_stage *s, struct lane_node *n) must_check;
// lane_clear.c, on the pool: deletes what the scope tells, but what is kept, at all nodes. rc, err
// and step are set.
void lane_stage_clear(struct lane_stage *s);
// run is called on the pool. What it leaves in rc, err and step is what lane_stage_result says
// afterwards.
void lane_stage_start(struct lane_stage *s, uint64_t ref, uv_work_cb run);
// Whether the job of the command at ref has ended, and how: once.
bool lane_stage_result(struct lane_stage *s, uint64_t ref, enum apply_staged *verdict);

// lane_extra.c. NULL is none.
void lane_extra_job_free(struct lane_extra_job *x);

#endif

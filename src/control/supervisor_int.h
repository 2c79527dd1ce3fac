// SPDX-License-Identifier: Apache-2.0
// What the files of the supervisor share; nobody else includes it.
#ifndef GUNYU_CONTROL_SUPERVISOR_INT_H
#define GUNYU_CONTROL_SUPERVISOR_INT_H

#include <stdatomic.h>

#include "control/group.h"
#include "control/shards.h"
#include "control/supervisor.h"
#include "flow/filter.h"
#include "lane/follower.h"
#include "lane/lane.h"
#include "lane/reach.h"
#include "lane/worker.h"
#include "redis/sentinel.h"
#include "serve/server.h"

enum { SUP_NAME = 300 };

// A lane whose shard has left the cluster applies what it has received, and ends.
enum leaving { LEAVING_NOT, LEAVING_DRAINS, LEAVING_STOPS };

// Of lane and follower at most one is there; neither: it has ended.
struct sup_lane {
    struct lane *lane;
    struct follower *follower;   // in a group, while another node leads or nobody does
    struct reach *reach;         // NULL: no group
    struct lane_options options; // of the lane
    struct worker *worker;
    size_t unit;                       // of a group: what it is led as
    char named_for[SHARD_NODE_ID + 1]; // watch thread; the master that the group knows the name of
    char follows[1400];        // where the follower reads, and the password there; "": nowhere
    struct lane_snapshot past; // only its LANE_COUNTERS are used: of earlier lanes and followers
    char name[300];            // of the source, for ever; what the journal is called after
    struct endpoint source;    // see lane_options
    struct shard *shard;       // NULL: not of a cluster
    char *dir, *dead_letter;   // owns
    atomic_int alive;          // see lane_options
    bool stopped;              // worker thread; read after worker_call
    const struct lane *source_ended; // worker thread; the lane that was told so
    enum leaving leaving;            // watch thread
};

struct sup_sentinel {
    struct supervisor *s;
    struct sentinel_options o;
    void (*moved)(struct supervisor *s, const char *address);
    uv_thread_t thread;
    bool started;
};

struct sup_turns;
struct sup_roles;

struct supervisor {
    const struct config *cfg;
    struct worker **workers;
    int workers_n, workers_max;
    struct filter *filter;
    int *db_map; // target db of a source db, for the first db_map_n
    int db_map_n;
    struct link_gate gate;
    struct worker *keeper; // removes what is stale
    uv_timer_t gc_timer;

    // Readers may hold it for as long as lanes take to stop; lanes come and go under the writer.
    uv_rwlock_t lock; // guards lanes
    struct sup_lane **lanes;
    int lanes_n;
    struct sup_lane **ended; // their names may still be in use; freed with the supervisor
    int ended_n;

    struct sup_roles *roles;     // NULL: no group
    struct serve_server *server; // of replicas; NULL: none
    char *serve_password;        // owns; NULL: none

    atomic_bool ending;
    struct sup_sentinel source_sentinel, target_sentinel;
    struct shards *shards;   // NULL: the source is no cluster
    struct sup_turns *turns; // as shards
    char *names_path;        // owns; the file of shard_names.h
    bool watching;
    uv_thread_t watch;
    uv_mutex_t wake_lock;
    uv_cond_t wake;
    bool woken;
    atomic_bool looked; // the shards were looked at by somebody else
};

// supervisor_lanes.c: making and ending lanes. shard NULL: the source at its place in the list, or
// by sentinel. lanes: how many share the journal's limit. The new lane is not in the list yet.
// unit: of a group.
int sup_lane_start(struct supervisor *s, struct sup_lane **out, size_t place, struct shard *shard,
                   size_t unit, size_t lanes, struct err *e) must_check;
void sup_lane_list(struct supervisor *s, struct sup_lane *sl); // puts it into the list
void sup_lane_free(struct sup_lane *sl);                       // of a lane that has ended
// Under the lock. In a group the other node's name is in it, but not where that reads from.
void sup_lane_snapshot(struct sup_lane *sl, struct lane_snapshot *out);
// Both into SUP_NAME bytes. What any node of a group knows the lane's source by: of a shard its
// master's address, since its name is each node's own.
void sup_lane_address(const struct sup_lane *sl, char *out);
// The source at its place in the list, or the one by sentinel, for ever.
void sup_source_name(const struct redis_config *in, size_t place, char *out);
// Under the writer's lock. leader: the other node's replication server; NULL: nobody leads.
// token: of the leadership, higher than that of every earlier one. halt: it begins so.
// False: what an earlier lane has begun at the target has not ended yet; to be called again.
bool sup_lane_lead(struct supervisor *s, struct sup_lane *sl, uint64_t token, enum group_halt halt);
void sup_lane_follow(struct supervisor *s, struct sup_lane *sl, const struct endpoint *leader,
                     const char *name);
// For worker_call with a struct sup_lane. Of a follower there is nothing to stop.
void sup_lane_stop(void *arg);
void sup_lane_stop_now(void *arg);
void sup_lane_end(void *arg); // frees the lane in it
void sup_lane_pause(void *arg);
bool sup_lane_has_stopped(struct sup_lane *sl);
int sup_make_dirs(const char *path, struct err *e) must_check;

// supervisor_turns.c: slots that move between the shards of a source cluster.
enum { SUP_SHARDS = 256 }; // that were ever seen
int sup_turns_start(struct supervisor *s, struct err *e) must_check;
void sup_turns_end(struct supervisor *s); // waits for its thread
void sup_turns_free(struct supervisor *s);
// A lane for the shard is about to begin: no other may take it for gone. And: another node leads
// it, or nobody does.
void sup_turns_expect(struct supervisor *s, struct shard *shard);
void sup_turns_elsewhere(struct supervisor *s, struct shard *shard);
// It begins, or there is none any more.
int sup_turns_begin(struct supervisor *s, struct shard *shard, struct lane_turns *out,
                    struct err *e) must_check;
void sup_turns_gone(struct supervisor *s, struct shard *shard);
// In a group, under the writer's lock, with no lane: what was known counts no more.
void sup_turns_renew(struct supervisor *s);
bool sup_turns_any_here(struct supervisor *s);                           // a lane
bool sup_turns_is_open(struct supervisor *s, const struct shard *shard); // its lane may apply
// This node needs all lanes, since slots move; until some time after.
bool sup_turns_want_all(struct supervisor *s);
// What follows if it is to lead them all and does: nothing, the lanes wait for sup_turns_whole, or
// they have to begin anew, and then it is to be called.
enum sup_turns_step { SUP_TURNS_STAY, SUP_TURNS_WHOLE, SUP_TURNS_ANEW };
enum sup_turns_step sup_turns_step(struct supervisor *s);
void sup_turns_whole(struct supervisor *s);
// Watch thread: the shards were looked at, and have their lanes.
void sup_turns_looked(struct supervisor *s);
// How long the next look may wait.
int64_t sup_turns_look_ms(struct supervisor *s, int64_t otherwise);
// The watch thread is to go on.
void sup_watch_wake(struct supervisor *s);

// supervisor_roles.c: a group. Each is a no-op without one, but for the last ones.
int sup_roles_start(struct supervisor *s, struct err *e) must_check; // before the first lane
int sup_roles_begin(struct supervisor *s, struct err *e) must_check; // there may be lanes now
void sup_roles_end(struct supervisor *s);                            // waits for its thread
void sup_roles_free(struct supervisor *s);                           // after the lanes
// The place of the unit that is called so, which is new or was there; to be given to a lane.
size_t sup_roles_unit(struct supervisor *s, const char *name);
// No lane has it any more.
void sup_roles_gone(struct supervisor *s, const struct sup_lane *sl);
// Until when the lane may write; NULL: for ever.
const _Atomic int64_t *sup_roles_lease(struct supervisor *s, const struct sup_lane *sl);
// The lane is in the list.
void sup_roles_listed(struct supervisor *s, const struct sup_lane *sl);
// What the group adds to the state of lanes.
void sup_roles_describe(struct supervisor *s, struct lane_snapshot *lanes, size_t n);
// The node that leads; false: none is known.
bool sup_roles_leader(struct supervisor *s, const struct sup_lane *sl, char *node, size_t cap);
// Under the lock, of a lane that is led here: so that who leads it next does the same. Waits for
// the registry.
int sup_roles_halt(struct supervisor *s, const struct sup_lane *sl, enum group_halt halt,
                   struct err *e) must_check;
int sup_roles_hand_over(struct supervisor *s, const struct sup_lane *sl, struct err *e) must_check;
struct group *sup_roles_group(struct supervisor *s);
const char *sup_roles_name(struct supervisor *s,
                           const struct sup_lane *sl); // of its unit, for ever

// supervisor_pass.c: requests for what another node leads. Collected under the lock, passed on
// without it: that waits for the other nodes, for a bounded time.
struct sup_passing {
    const char *action, *more; // NULL: it concerns this node only; the rest of the query
    struct sup_passed *list;   // owns until sup_pass_on
    size_t n;
};
int sup_pass_collect(struct supervisor *s, struct sup_passing *p, const bool *chosen,
                     bool passed_on, struct err *e) must_check;
// rc: of what went before; if that failed nothing is passed on.
int sup_pass_on(struct supervisor *s, struct sup_passing *p, int rc, struct err *e) must_check;

// supervisor_serve.c: replicas that are served out of the lanes' journals.
int sup_serve_start(struct supervisor *s, struct err *e) must_check;
void sup_serve_end(struct supervisor *s);

// supervisor_watch.c: following a cluster and sentinels.
int sup_watch_start(struct supervisor *s, struct err *e) must_check;
void sup_watch_end(struct supervisor *s); // waits for the threads
void sup_watch_free(struct supervisor *s);

#endif

// SPDX-License-Identifier: Apache-2.0
// This process in its group: which of the source's shards it leads, whom it follows in the others.
// Has a thread of its own, which talks to the registry. Every function may be called from any
// thread; only those that say so wait for the registry.
#ifndef GUNYU_CONTROL_GROUP_H
#define GUNYU_CONTROL_GROUP_H

#include <stdatomic.h>

#include "control/config.h"

struct group;

enum {
    GROUP_SHARD = 300, // longest name of a shard, with its NUL
    GROUP_NODE = 300,
};

enum group_role {
    GROUP_NONE,         // nobody leads it that we know of
    GROUP_FOLLOWER,     // another node leads it
    GROUP_LEADER,       // we do, until the deadline of group_deadline
    GROUP_HANDING_OVER, // we do; finish, store the position, then call group_released
};

// Borrowed for the time of the call.
struct group_change {
    const char *shard;
    enum group_role role;
    uint64_t token;     // LEADER, HANDING_OVER: higher than that of every earlier leader
    const char *leader; // the node that leads; NULL: none
    const char *api, *replication, *password; // where the leader is reached; NULL: it does not say
};

struct group_options {
    const char *node; // the name of this node: server.listenPeer
    const struct cluster_config *cluster;
    const struct redis_config *source;
    const char *api, *replication, *password; // told to the others; NULL: none
    int64_t handover_ms;                      // how long a handover waits for group_released
    // On the group's thread, after each change for a shard. A leader that has become anything else
    // must not write any more; its deadline has passed already.
    void (*changed)(void *ctx, const struct group_change *c);
    void *ctx;
};

// All of o is copied, but cluster and source, which must outlive the group. The registry need not
// be reachable.
int group_start(struct group **out, const struct group_options *o, struct err *e) must_check;
// Gives up what it leads, as far as the registry answers within some seconds, and ends the thread.
// No callback comes after. NULL is allowed.
void group_stop(struct group *g);

// The shards that this process takes part in, from now on; those that are not named are given up.
void group_set_shards(struct group *g, const char *const *shards, size_t n);
// What the local journal has of the shard. ready: it needs no full sync to go on; able: source and
// target can be reached from here, and one who leads without that hands over to one who can. Cheap.
void group_report(struct group *g, const char *shard, const char *replid, uint64_t left,
                  uint64_t right, bool ready, bool able);
// Until when the shard may be written: CLOCK_BOOTTIME milliseconds, 0 unless we lead. Valid until
// group_stop, but stays 0 for a shard that was given up; ask anew when it is named again. NULL: no
// such shard.
_Atomic int64_t *group_deadline(struct group *g, const char *shard);
// Begins to hand the shard over to a node, NULL: to the one that is best for it. ERR_CONFIG: no
// such shard or node, or none to hand over to; ERR_REPLY: another node leads it (e names it).
int group_handover(struct group *g, const char *shard, const char *to, struct err *e) must_check;
// The owner of a shard that is handed over has stored its position and writes no more.
void group_released(struct group *g, const char *shard);
// These of the shards are to have one leader for the time; none ends it. Each node says what it
// sees, and it holds while any does.
void group_together(struct group *g, const char *const *shards, size_t n);
// While this node leads the shard, whether nothing is done with it until it is together with the
// others: it is handed over to where they are even if the journal there is far behind.
void group_idle(struct group *g, const char *shard, bool idle);

// These wait for the registry.
// The name of the shard with these node ids, the master's first, the same at every node of the
// group and for ever: the one that the master has got before, or any of the others, else `wanted`.
int group_shard_name(struct group *g, const char *const *ids, size_t n, const char *wanted,
                     char out[GROUP_SHARD], struct err *e) must_check;
// The node is the master of the shard now.
int group_name_master(struct group *g, const char *id, const char *shard, struct err *e) must_check;
// All that a shard which has left the source will ever say is applied: nobody needs to lead it any
// more. Known for an hour, and until it is back.
int group_set_done(struct group *g, const char *shard, struct err *e) must_check;
int group_set_undone(struct group *g, const char *shard, struct err *e) must_check;
// What was asked of whoever leads the shard. Stays until it is asked to run again.
enum group_halt { GROUP_RUNS, GROUP_PAUSED, GROUP_STOPPED };
int group_set_halt(struct group *g, const char *shard, enum group_halt halt,
                   struct err *e) must_check;
int group_halt(struct group *g, const char *shard, enum group_halt *out, struct err *e) must_check;
bool group_is_done(struct group *g, const char *shard); // by the last view; does not wait

struct group_node_state {
    char name[GROUP_NODE];
    bool self;
    int64_t alive_ms; // for how long we have seen it
    char *record;     // owns; what it tells of itself as JSON, without the password; or NULL
};

struct group_shard_state {
    char name[GROUP_SHARD];
    enum group_role role;
    char leader[GROUP_NODE];      // "": none
    uint64_t token;               // of the leader
    int64_t renewed_ms;           // since our lease was renewed; -1 unless we lead
    int64_t left_ms;              // until our deadline; -1 unless we lead
    int64_t leaderless_ms;        // 0: it has a leader
    char handover_to[GROUP_NODE]; // "": it is not being handed over
};

struct group_state {
    const char *registry; // "etcd" or "redis"
    bool joined;          // it is one of the group now
    bool conflict;        // the group's name is used for another source: nothing is led
    char error[512];      // "": none; what stands between this node and the group
    int64_t seen_ms;      // since the registry was read last; -1: never
    int64_t lease_ms, margin_ms;
    struct group_node_state *nodes; // owns
    size_t nodes_n;
    struct group_shard_state *shards; // owns
    size_t shards_n;
};

// This node can lead. why: what stands between it and the group; "": nothing.
bool group_takes_part(struct group *g, char *why, size_t cap);
void group_state(struct group *g, struct group_state *out);
void group_state_free(struct group_state *s);
const char *group_role_name(enum group_role role); // static

#endif

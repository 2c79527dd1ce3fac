// SPDX-License-Identifier: Apache-2.0
// One attempt to reach the target, on a thread of the pool: what lane_target.c and lane_cluster.c
// share; nobody else includes it.
#ifndef GUNYU_LANE_LANE_DIAL_H
#define GUNYU_LANE_LANE_DIAL_H

#include "lane/lane_int.h"

enum { CONNECT_TIMEOUT_MS = 5000, KNOWN_IDS = 16 };

struct dial_job {
    uv_work_t work;
    struct lane *lane;
    uint64_t target_epoch;
    // input, copied
    struct endpoint endpoint; // borrowed, as the finders
    struct endpoint_finder find_target, find_source;
    char id1[REPLID_LEN + 1], id2[REPLID_LEN + 1];
    struct journal_old_id known[KNOWN_IDS]; // the journal's ids
    size_t known_n;
    char source[24]; // ":<hash of the source's name>:"
    bool resume;
    uint64_t epoch;              // ours; 0: this process has none yet
    uint64_t floor;              // of the epoch
    uint64_t want;               // ours, or the one that we are about to raise
    uint64_t seen;               // the highest one of those that are connected
    bool no_kill, no_watch;      // not permitted
    struct redis_client *client; // of a target that is no cluster
    char *flush_command;
    struct endpoint source_endpoint; // borrowed
    bool ask_source_dbs;
    struct rewrite_dbs dbs;       // its map is borrowed
    const struct filter *filter;  // borrowed; or NULL
    int target_version;           // where INFO does not tell
    const struct endpoint *seeds; // of a cluster; borrowed
    size_t seeds_n;
    bool turns_wanted;
    bool marks_wanted; // what the position says of the slots holds; else it is removed
    struct target_result r;
};

// lane_fence.c: raises the epoch in the target, kills older connections of this sync on every node,
// and only then takes the position as `read` finds it (r.position and r.found, which it may be
// called for several times). fenced_off: another process has a higher epoch. What is not permitted
// makes the fence a weaker one (r.fence).
int dial_claim(struct dial_job *j, int (*read)(struct dial_job *j)) must_check;
// Empties all nodes; of what is ours the epoch stays.
int dial_flush(struct dial_job *j) must_check;
// It holds no keys but records that say only the epoch. Not where the server does not tell.
int dial_is_empty(struct redis_client *c, bool *empty, struct err *e) must_check;
// lane_source.c: how many dbs the source has, if that is wanted, and before a load: that those
// which hold keys have a place at the target. A source that does not answer is no error.
int dial_ask_source(struct dial_job *j) must_check;
// Whether the scripts of expiries are allowed; key: one that this server may be asked about.
int dial_probe_expiry(struct redis_client *c, struct target_result *r, struct slice key) must_check;
// Makes the connection one of Valkey's import mode. *on: the server is in it, and takes that.
int dial_import_source(struct redis_client *c, struct target_result *r, bool *on) must_check;
// The same for all masters of a cluster, and how far each slot is.
void dial_cluster(struct dial_job *j);

#endif

// SPDX-License-Identifier: Apache-2.0
// What the files of the group share; nobody else includes it.
#ifndef GUNYU_CONTROL_GROUP_INT_H
#define GUNYU_CONTROL_GROUP_INT_H

#include <jansson.h>
#include <uv.h>

#include "control/balance.h"
#include "control/election.h"
#include "control/group.h"
#include "control/registry.h"

enum {
    GROUP_SHARDS_MAX = 1024,
    GROUP_REPLID = 41,
    GROUP_POLL_MS = 250, // of a registry that cannot be watched, or is not at the moment
};

// In the place of an heir: nobody needs to lead the shard any more.
#define GROUP_DONE "/done"

struct group_edge {
    char replid[GROUP_REPLID]; // "": it has no journal
    uint64_t left, right;
    bool ready, able; // as struct balance_edge
};

struct group_shard {
    char *name; // owns
    _Atomic int64_t deadline;
    // Under the lock: what others say.
    struct group_edge edge;
    atomic_bool together, leaving, idle, done;
    bool released, hand_over;
    char *wished; // owns; who shall take it; NULL: whoever is best
    // Written by the thread under the lock, read by it without.
    struct election election;
    char *leader; // owns; NULL: none
    uint64_t leader_token;
    int64_t leaderless_at; // 0: it has a leader, or nothing was seen yet
    char *to;              // owns; who it is being handed over to
    // Of the thread.
    enum election_request pending;
    char *last_leader;              // owns
    char last_replid[GROUP_REPLID]; // of the last leader's journal
    char *note;                     // owns; who a leader hands it over to
    bool unknown;                   // the last view could not tell
    int64_t hold_until;             // no campaign before
    struct group_told {
        enum group_role role;
        uint64_t token;
        char *leader, *api, *replication, *password; // own
    } told;                                          // what the owner knows
};

// A node in the last view.
struct group_peer {
    char *name; // owns
    int64_t seen_at;
    json_t *record; // owns; NULL: none, or not to be read
};

struct group {
    struct group_options o; // owns the strings
    char *source_ids;       // owns; JSON list, see group_source_ids
    bool source_probed;
    int64_t probe_at;
    struct registry *registry, *watcher; // of their threads; watcher NULL: it is polled
    struct registry *names;              // under names_lock; opened when it is needed
    uv_mutex_t names_lock;
    uv_thread_t thread, watch;
    atomic_bool stopping;

    uv_mutex_t lock;
    uv_cond_t wake;
    bool woken, dirty, publish;  // dirty: the registry has changed; publish: at once
    struct group_shard **shards; // by name; those that have gone stay at the end of gone
    size_t shards_n;
    struct group_shard **gone;
    size_t gone_n;
    struct group_peer *peers; // by name
    size_t peers_n;
    bool joined, conflict;
    char error[512];
    int64_t seen_at; // 0: never

    // Of the thread.
    struct group_shard *mine[GROUP_SHARDS_MAX]; // the shards as of this turn
    size_t mine_n;
    int64_t join_at, renew_at, view_at, publish_at, published_at, kept_at, changed_at;
    bool watch_ok; // under the lock
    bool source_is_ours;
    char *published; // owns; the record as it is in the registry
};

// group.c
void group_fail(struct group *g, const struct err *e); // what state and log show; NULL: all is well
void group_step(struct group *g, struct group_shard *s, const struct election_event *ev);
void group_begin_handover(struct group *g, struct group_shard *s, const char *to);

// group_view.c: the group as the registry shows it.
bool group_look(struct group *g); // false: the registry does not answer
void group_advise(struct group *g);
struct group_peer *group_peer(const struct group *g, const char *name);
// The place of the best node for the shard other than this one, as its name; NULL: none.
const char *group_heir(struct group *g, const struct group_shard *s);

// group_record.c: what a node tells of itself.
char *group_record(struct group *g);      // new
json_t *group_record_read(const char *s); // new, or NULL
bool group_record_edge(const json_t *record, const char *shard, struct group_edge *out);
bool group_record_together(const json_t *record, const char *shard);
const char *group_record_text(const json_t *record, const char *name); // NULL: it has none
char *group_record_shown(const json_t *record);                        // new; without secrets

// group_source.c: whether two nodes mean the same source.
// What the source is known by: configured addresses, ids of nodes and of histories. Probes it;
// *probed: it has answered. New, a JSON list of text.
char *group_source_ids(const struct redis_config *source, int timeout_ms, bool *probed);
// Whether the two lists have anything in common. *all: both together, new, or NULL when b has
// nothing that a has not.
bool group_source_same(const char *a, const char *b, char **all);
void group_check_source(struct group *g, const char *there);

// group_state.c
void group_peers_free(struct group_peer *peers, size_t n);

#endif

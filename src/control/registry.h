// SPDX-License-Identifier: Apache-2.0
// Where the nodes of a group meet: etcd, or keys on the source Redis. Blocking calls with bounded
// time; one registry belongs to one thread. Errors never hold a password.
//
// A node holds its *name*, and under it the shards that it leads. Both are leases. Their times are
// CLOCK_BOOTTIME milliseconds from before the request was sent that made or renewed them.
#ifndef GUNYU_CONTROL_REGISTRY_H
#define GUNYU_CONTROL_REGISTRY_H

#include <stdatomic.h>

#include "control/config.h"

struct registry;

// Borrowed; all must outlive the registry.
struct registry_options {
    const char *group;
    const char *node; // listenPeer
    const struct cluster_config *cluster;
    const struct redis_config *source; // for keys on the source
};

// Keys of a group, as redisGunYu has them; the rest is ours.
#define REGISTRY_ROOT "/redis-gunyu/"
#define REGISTRY_NAMES "registry/"          // + node = node
#define REGISTRY_ELECTION "input-election/" // + shard + "/" (etcd: + lease) = node
#define REGISTRY_RECORDS "nodes/"           // + node = JSON
#define REGISTRY_NOTES "handover/"          // + shard = node
#define REGISTRY_HALTED "halted/"           // + shard = what its leader does, if it does not run
#define REGISTRY_SHARD_OF "shard-of/"       // + node id = shard
#define REGISTRY_SOURCE "source"            // what the group syncs

enum registry_held { REGISTRY_UNKNOWN, REGISTRY_HELD, REGISTRY_NOT_HELD };

struct registry_hold {
    const char *shard;
    uint64_t token;
    enum registry_held held; // out; UNKNOWN: what knows of this one did not answer
};

struct registry_won {
    uint64_t token; // higher with each winner of the shard
    int64_t since;
};

struct registry_entry {
    char *key;      // owns; shard or node
    char *value;    // owns; node or record; NULL: none
    uint64_t token; // of a claim
    bool mine;      // a claim of this process
};

struct registry_entries {
    struct registry_entry *v; // owns
    size_t n;
};

// All of the group at one time.
struct registry_view {
    struct registry_entries claims;  // shards that are led, and by whom
    struct registry_entries nodes;   // that are alive, with their records
    struct registry_entries notes;   // shards that are handed over, and to whom
    struct registry_entries unknown; // shards of which nothing could be read
    char *source;                    // owns; NULL: none
};

enum registry_joined { REGISTRY_JOINED = 0, REGISTRY_NAME_TAKEN = 1 };

struct registry_ops {
    const char *name;
    bool can_watch;
    int (*join)(struct registry *r, int64_t *since, struct err *e);
    int (*renew)(struct registry *r, struct registry_hold *holds, size_t n, int64_t *since,
                 struct err *e);
    int (*campaign)(struct registry *r, const char *shard, struct registry_won *out, struct err *e);
    int (*resign)(struct registry *r, const char *shard, uint64_t token, struct err *e);
    int (*view)(struct registry *r, const char *const *shards, size_t n, struct registry_view *out,
                struct err *e);
    int (*put)(struct registry *r, const char *key, const char *value, int64_t ttl_ms,
               struct err *e);
    int (*put_if_absent)(struct registry *r, const char *key, const char *value, bool leased,
                         char **there, struct err *e);
    int (*keep)(struct registry *r, const char *key, const char *value, struct err *e);
    int (*get)(struct registry *r, const char *key, char **value, struct err *e);
    int (*del)(struct registry *r, const char *key, struct err *e);
    int (*watch)(struct registry *r, int timeout_ms, const atomic_bool *cancel, struct err *e);
    void (*leave)(struct registry *r);
    void (*close)(struct registry *r);
};

// The head of each backend.
struct registry {
    const struct registry_ops *ops;
    struct registry_options o;
    int64_t lease_ms; // as granted; what deadlines are counted with
};

// etcd when cluster->etcd.present, else the source. Connects with the first call. Returns new.
int registry_open(struct registry **out, const struct registry_options *o,
                  struct err *e) must_check;
int registry_open_etcd(struct registry **out, const struct registry_options *o,
                       struct err *e) must_check;
int registry_open_redis(struct registry **out, const struct registry_options *o,
                        struct err *e) must_check;
void registry_close(struct registry *r); // gives nothing up; NULL is allowed

// Takes the name of the node, or 1 (REGISTRY_NAME_TAKEN) while another process, or this one's
// former life, has it.
int registry_join(struct registry *r, int64_t *since, struct err *e) must_check;
// Renews the name and these shards. 1: the name is lost, and with it all of them.
int registry_renew(struct registry *r, struct registry_hold *holds, size_t n, int64_t *since,
                   struct err *e) must_check;
// 1: won, or led already; 0: another leads. The name has to be held.
int registry_campaign(struct registry *r, const char *shard, struct registry_won *out,
                      struct err *e) must_check;
// Gives up what was won with the token; no error if it is not held.
int registry_resign(struct registry *r, const char *shard, uint64_t token,
                    struct err *e) must_check;
// shards: the ones of interest (a backend may tell of others too). *out is to be freed.
int registry_view(struct registry *r, const char *const *shards, size_t n,
                  struct registry_view *out, struct err *e) must_check;
void registry_view_free(struct registry_view *v);

// Single keys, below the group's prefix. A key with ttl_ms ends by itself; 0: it stays for ever.
int registry_put(struct registry *r, const char *key, const char *value, int64_t ttl_ms,
                 struct err *e) must_check;
// 1: it was put; 0: *there (new) is what was there. leased: it ends with this node.
int registry_put_if_absent(struct registry *r, const char *key, const char *value, bool leased,
                           char **there, struct err *e) must_check;
// Ends with this node unless it is kept again; to be repeated with each renewal.
int registry_keep(struct registry *r, const char *key, const char *value, struct err *e) must_check;
int registry_get(struct registry *r, const char *key, char **value, // new, or NULL: it has none
                 struct err *e) must_check;
int registry_del(struct registry *r, const char *key, struct err *e) must_check;

// Waits until something of the group has changed since the last call: 1; 0 after timeout_ms or
// *cancel (noticed within 200 ms). After an error something may have been missed.
int registry_watch(struct registry *r, int timeout_ms, const atomic_bool *cancel,
                   struct err *e) must_check;
// Gives up the name and all that is held, as far as the registry answers.
void registry_leave(struct registry *r);

// For backends: "/redis-gunyu/<group>/<key>", new.
char *registry_key(const struct registry *r, const char *key);
void registry_add(struct registry_entries *list, const char *key, size_t key_n, const char *value,
                  size_t value_n, uint64_t token, bool mine);
struct registry_entry *registry_find(const struct registry_entries *list, const char *key);
// How long one request may take: so that one that hangs leaves time for others within a lease.
int registry_timeout_ms(const struct registry *r);

#endif

// SPDX-License-Identifier: Apache-2.0
// The position record: what of a source the target has applied. One string key per source
// replication id, "gunyu:position:<replid>", always in db 0 of the target, always written whole (so
// that a FLUSHALL in the same transaction does not hurt it). Written in the transaction that
// applies the data.
#ifndef GUNYU_TARGET_POSITION_H
#define GUNYU_TARGET_POSITION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "journal/journal.h"
#include "redis/masters.h"

#define POSITION_PREFIX "gunyu:position:"
#define TURNS_PREFIX "gunyu:turns:"
// redisGunYu's hash of the names of its records.
#define POSITION_FOREIGN_INDEX "redis-gunyu-checkpoint-hash"

struct position {
    char replid[REPLID_LEN + 1];
    int64_t offset;     // stream applied up to here; while a snapshot loads: where that one ends
    int db;             // the source db selected at offset; when foreign: the target db
    bool loading;       // a snapshot is being loaded
    uint64_t rdb_index; // loading: everything before this index of the RDB is applied
    int rdb_db;         // loading: db selected at rdb_index
    int rdb_version;
    bool far_expiries; // keys with held (far) expiries may exist
    uint64_t epoch;    // fencing
    int64_t time_ms;
    uint64_t marks;  // names the slots' marks that belong to it (router.h); 0: none, no cluster
    uint64_t source; // names the source for ever, as its lane does (position_source); 0: unknown
    bool foreign;    // taken from redisGunYu; never written
    bool epoch_only; // says nothing but epoch and time_ms: no position is stored yet
};

// Of the name that a lane has for its source; never 0.
uint64_t position_source(const char *tag);
// Key name into dst (at least 64 bytes); returns it as a slice.
struct slice position_key(const char *replid, char *dst);
// Appends one SET command of the record; no allocation beyond b.
void position_put(struct buf *b, const struct position *p, int64_t now_ms);
// Appends a DEL of the record of another id. Belongs into the first transaction that is written
// under a new id, so that a target never holds two positions of one lane.
void position_put_del(struct buf *b, const char *replid);
// Appends one SET of the record of an id with another epoch. What else `value` says, the one that
// is stored, stays as it is, byte for byte; of one that is no record (there is none: n 0) nothing
// stays. To versions before this kind of record one that says only the epoch is none.
void position_put_epoch(struct buf *b, const char *replid, struct slice value, uint64_t epoch,
                        int64_t now_ms);
// Parses a stored value. Hostile bytes give false.
bool position_parse(const char *replid, struct slice value, struct position *out);

// The lane's record of slots that move (flow/ownership.h). A key of its own, because it may be long
// and seldom changes; in a cluster it has the slot of the position, and position_put_del removes it
// too. dst has 128 bytes.
struct slice position_turns_key(const char *replid, char *dst);
void position_put_turns(struct buf *b, const char *replid, struct slice record);
// Appends what is stored under the id, if anything.
int position_read_turns(struct redis_client *r, const char *id, struct buf *out,
                        struct err *e) must_check;

// Looks for a record of id1, else id2 (either may be ""), ours first, then redisGunYu's
// (redis-gunyu-checkpoint-hash and its per-db records, reference 5.9; a stored offset < 0 is none).
// Ours wins over theirs unless theirs has a higher offset and ours is absent; one that says only
// the epoch is none. *found is false when there is none. Blocking.
int position_read(struct redis_client *r, const char *id1, const char *id2, struct position *out,
                  bool *found, struct err *e) must_check;
// Ours of one id, from the node of a cluster that has it.
int position_read_own(struct redis_client *r, const char *id, struct position *out, bool *found,
                      struct err *e) must_check;
// redisGunYu's of id1, else id2 (either may be ""), in a cluster, where it is always in db 0.
// Blocking.
int position_read_foreign(const struct masters *m, const char *id1, const char *id2,
                          struct position *out, bool *found, struct err *e) must_check;
// How many records in db 0 say only the epoch. Leaves the connection in db 0. Blocking.
int position_count_epoch_only(struct redis_client *r, int64_t *n, struct err *e) must_check;
// Those whose records are ours: by a replication id (of at most REPLID_LEN) or by the source.
struct position_owners {
    const char *const *ids;
    size_t ids_n;
    const uint64_t *sources;
    size_t sources_n;
};
// Looks in db 0 for the position of another sync, one that cannot be read included. replid, of
// REPLID_LEN + 1, becomes its id, "" when there is none. Leaves the connection in db 0. Blocking.
int position_find_other(struct redis_client *r, const struct position_owners *o, char *replid,
                        struct err *e) must_check;
// Removes records of ours not written for max_age_ms, except those of keep[0..n). Returns how many
// in *removed. Blocking.
int position_gc(struct redis_client *r, const char *const *keep, int n, int64_t max_age_ms,
                int64_t now_ms, int *removed, struct err *e) must_check;

#endif

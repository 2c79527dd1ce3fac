// SPDX-License-Identifier: Apache-2.0
// Loads the journal's snapshot into the target: the cheapest command for each key, from RDB bytes
// that may still be arriving, resumable at any key.
//
// Strings go as SET, encoded values as RESTORE of their serialized bytes in place; what is too big
// for that, or what the target cannot restore, is built element by element under a temporary name
// and renamed, so that a key appears complete or not at all.
#ifndef GUNYU_TARGET_LOAD_H
#define GUNYU_TARGET_LOAD_H

#include "codec/rdb.h"
#include "flow/filter.h"
#include "journal/journal.h"
#include "target/ability.h"
#include "target/sink.h"

#define LOAD_TEMP_PREFIX "gunyu:tmp:"

enum load_exists { LOAD_REPLACE, LOAD_IGNORE, LOAD_ERROR };
enum load_functions { LOAD_FUNCTIONS_REPLACE, LOAD_FUNCTIONS_FLUSH, LOAD_FUNCTIONS_APPEND };

struct load_options {
    struct sink *sink;
    struct journal *journal;
    const struct filter *filter;
    enum load_exists exists;
    bool exists_log; // log keys that were there; replacing them then costs a second try each
    const char *tag; // for log lines
    enum load_functions functions;
    bool cluster;         // the sink's nodes are masters: a unit may have keys of one slot only
    bool restore_enabled; // false: every value by native commands
    bool skip_module_aux; // false: MODULE_AUX is an error
    bool skip_unknown;    // what only a newer server can have written; false: it is an error
    uint64_t max_restore; // bytes of a payload; above: by elements
    bool degrade;         // what the target cannot hold is left out; false: it is an error
    int target_version;   // 70015; with the family decides what commands are used. 0: newest
    bool target_is_valkey;
    unsigned target_missing; // commands, as in struct redis_server
    struct scripts *scripts; // takes note of the source's, or NULL; borrowed
    const char *temp_tag;    // makes temporary names unique among lanes into one target
    // Target db of a source db; -1 when the target has no such db.
    int (*map_db)(void *ctx, int db);
    // An expiry before this is replaced by a far one; asked for each key that has one. Returns the
    // time to set.
    int64_t (*hold_expiry)(void *ctx, int target_db, struct slice key, struct slice field,
                           int64_t expire_ms);
    // Whether a key that the filter lets pass is loaded; it has the source's db. NULL: all are.
    bool (*wants)(void *ctx, const struct rdb_item *item);
    // Told of each key that the filter lets pass, whatever becomes of it, with the target's db; in
    // the order of index, where its item begins. NULL: not told.
    void (*met)(void *ctx, uint64_t index, int target_db, struct slice key);
    void *ctx;
};

struct load_stats {
    uint64_t keys_sent, keys_filtered, keys_ignored, keys_replaced, functions;
    uint64_t degraded[LOSSES]; // keys and libraries that came over incomplete or not at all
    uint64_t unknown;          // things skipped
    uint64_t index;            // parsed up to here
};

enum load_result { LOAD_WAIT, LOAD_MORE_NOW, LOAD_FINISHED }; // errors negative

struct load;
// Goes on at rdb_index (0: from the start) with that db selected. What was sent but not stored as
// progress before may come again: `again_until` is the index below which an existing key is ours.
struct load *load_new(const struct load_options *o, uint64_t rdb_index, int db, int version,
                      uint64_t again_until);
void load_free(struct load *l);

// Sends until there is no room, no data, or the budget of bytes is used up. LOAD_WAIT: call again
// when the journal grew or the sink has room. LOAD_FINISHED: everything is sent and answered.
int load_pump(struct load *l, size_t budget, struct err *e) must_check;
// Mark of the stream's beginning: the db that the replication stream starts in.
int load_stream_db(const struct load *l);
int load_rdb_version(const struct load *l);
// To be called from the sink's events while loading. Returns 0 when dealt with; an error that
// ends the load otherwise.
int load_cmd_failed(struct load *l, uint64_t ref, struct slice text, struct err *e) must_check;
// A nil, a zero or an empty array where one means "the key was there already".
int load_cmd_empty(struct load *l, uint64_t ref, struct err *e) must_check;
// How far the load may be said to have come when the target confirmed everything below `index`:
// keys that must be built a second time hold it back.
uint64_t load_safe_index(const struct load *l, uint64_t index, int *db);
void load_acked(struct load *l, uint64_t rdb_index);
void load_get_stats(const struct load *l, struct load_stats *out);
// What the target lacks and a snapshot of this version may hold, for people; "" when nothing.
const char *load_unsupported(const struct load *l);

#endif

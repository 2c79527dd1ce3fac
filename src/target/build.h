// SPDX-License-Identifier: Apache-2.0
// Rebuilds one value with native commands under a temporary name and renames it: for values that
// are too big to RESTORE, or that the target cannot restore.
#ifndef GUNYU_TARGET_BUILD_H
#define GUNYU_TARGET_BUILD_H

#include "codec/rdb.h"
#include "target/ability.h"
#include "target/sink.h"

// Refs of commands that build; the low bits are the key's index in the RDB.
#define BUILD_REF ((uint64_t)1 << 63)
#define BUILD_REF_RENAME ((uint64_t)1 << 62)
#define BUILD_REF_CLAIM ((uint64_t)1 << 61)
#define BUILD_REF_INDEX (BUILD_REF_CLAIM - 1)

// A server takes no pending entry of a message that the stream does not hold. Such a stream is
// built in two goes over its value: first the groups, over messages made up and removed again, then
// the messages.
#define BUILD_NOBODY "gunyu:nacked" // consumer that is given what nobody owns
enum build_part { BUILD_WHOLE, BUILD_GROUPS, BUILD_MESSAGES };

struct build {
    struct sink *sink;
    const struct ability *can;
    enum build_part part;
    struct buf temp, key; // names; key is a copy
    enum rdb_object object;
    int64_t expire_ms; // -1 none
    bool no_replace;   // RENAMENX
    uint64_t ref;
    struct buf args; // of the command being collected
    uint32_t argc, elements;
    struct buf ttls; // HPEXPIREAT commands to follow the fields
    uint32_t ttl_cmds;
    uint32_t cmds;         // sent to the temporary key
    int64_t pairs_left;    // of the stream entry being collected
    uint64_t insert_index; // of an array
    bool run;              // BUILD_GROUPS: made-up messages of a consumer stand in the stream
    bool started, guarded; // the temporary key exists; and goes by itself if it is left behind
};

void build_free(struct build *u);
// temp_tag and the item's start make the temporary name. slot: the key's, which the name is to
// share; negative: any will do.
void build_begin(struct build *u, struct sink *sink, const struct ability *can,
                 const char *temp_tag, const struct rdb_item *item, struct slice key, int slot,
                 int64_t expire_ms, bool no_replace);
// Between sink_unit_begin and sink_unit_end. field_expire_ms is what to set for a hash field
// (the caller may have replaced it). The claim of a pending entry has BUILD_REF_CLAIM and is
// answered by an empty array if its message is not there. Not for what only RESTORE can set: module
// values and path hashes.
void build_element(struct build *u, const struct rdb_element *el, int64_t field_expire_ms);
// After BUILD_GROUPS, instead of build_finish.
void build_end_groups(struct build *u);
// Sends what is collected, sets the expiry and renames. If the expiry has passed by the target's
// clock, the command with BUILD_REF_RENAME fails with "no such key".
void build_finish(struct build *u);

#endif

// SPDX-License-Identifier: Apache-2.0
// Rebuilds one value with native commands under a temporary name and renames it: for values that
// are too big to RESTORE, or that the target cannot restore.
#ifndef GUNYU_TARGET_BUILD_H
#define GUNYU_TARGET_BUILD_H

#include "codec/rdb.h"
#include "target/batcher.h"

// Refs of commands that build; the low bits are the key's index in the RDB.
#define BUILD_REF ((uint64_t)1 << 63)
#define BUILD_REF_RENAME ((uint64_t)1 << 62)
#define BUILD_REF_INDEX (BUILD_REF_RENAME - 1)

struct build_target {
    int version; // 70015
    bool is_valkey;
};

struct build {
    struct batcher *b;
    struct build_target target;
    struct buf temp, key; // names; key is a copy
    enum rdb_object object;
    int64_t expire_ms; // -1 none
    bool no_replace;   // RENAMENX
    uint64_t ref;
    struct buf args; // of the command being collected
    uint32_t argc, elements;
    struct buf ttls; // HPEXPIREAT commands to follow the fields
    uint32_t ttl_cmds;
    int64_t pairs_left;    // of the stream entry being collected
    bool started, guarded; // the temporary key exists; and goes by itself if it is left behind
};

void build_free(struct build *u);
// temp_tag and the item's start make the temporary name.
void build_begin(struct build *u, struct batcher *b, struct build_target target,
                 const char *temp_tag, const struct rdb_item *item, struct slice key,
                 int64_t expire_ms, bool no_replace);
// Between batcher_unit_begin and batcher_unit_end. field_expire_ms is what to set for a hash field
// (the caller may have replaced it). ERR_UNSUPPORTED: the target has no command for it.
int build_element(struct build *u, const struct rdb_element *el, int64_t field_expire_ms,
                  struct err *e) must_check;
// Sends what is collected, sets the expiry and renames. If the expiry has passed by the target's
// clock, the command with BUILD_REF_RENAME fails with "no such key".
void build_finish(struct build *u);

#endif

// SPDX-License-Identifier: Apache-2.0
// What a target can hold, told by its family, version and missing commands, and how what it cannot
// hold is named and counted. Pure.
#ifndef GUNYU_TARGET_ABILITY_H
#define GUNYU_TARGET_ABILITY_H

#include <stdbool.h>
#include <stddef.h>

// What a snapshot may hold and a target may not: id, name in counters, the words for people, lowest
// version of Redis and of Valkey that has it (0: none), lowest RDB version of either that brings
// it.
#define ABILITY_LOSSES(X)                                                                          \
    X(FUNCTION, functions, "function libraries", 70000, 70200, 10, 11)                             \
    X(FIELD_EXPIRY, field_expiries, "expiries of hash fields", 70400, 90000, 12, 80)               \
    X(STREAM, streams, "streams", 50000, 70200, 9, 11)                                             \
    X(IDMP, stream_dedups, "idempotent producers of streams", 80600, 0, 13, 0)                     \
    X(NACK, stream_nacks, "negative acknowledgements of streams", 80800, 0, 14, 0)                 \
    X(ARRAY, arrays, "arrays", 80800, 0, 14, 0)                                                    \
    X(PATH_HASH, path_hashes, "path hashes", 0, 90200, 0, 81)                                      \
    X(MODULE, modules, "module values", 40000, 70200, 0, 0)                                        \
    X(KEY_META, key_metas, "what modules noted about a key", 0, 0, 0, 0)                           \
    X(MODULE_AUX, module_auxes, "global data of modules", 0, 0, 0, 0)                              \
    X(PENDING, pending_of_deleted, "pending entries of deleted messages", 50000, 70200, 0, 0)

enum loss {
#define X(id, name, words, redis, valkey, redis_rdb, valkey_rdb) LOSS_##id,
    ABILITY_LOSSES(X)
#undef X
        LOSSES
};
const char *loss_words(enum loss w);

struct ability {
    int version; // 70015; unknown is taken for newer than all
    bool is_valkey;
    int rdb_version;    // the highest that its RESTORE takes
    unsigned lacks;     // bits 1 << enum loss
    bool restore;       // RESTORE with REPLACE
    bool hset_many;     // else HMSET
    bool restore_times; // RESTORE ... ABSTTL, IDLETIME, FREQ
    bool set_pxat;
    bool create_consumer; // XGROUP CREATECONSUMER
    bool stream_counters; // ENTRIESADDED, MAXDELETEDID, ENTRIESREAD
};

// version 0: unknown.
void ability_of(struct ability *a, int version, bool is_valkey);
// Takes away what needs commands that the server says it does not have: bits 1 << enum
// redis_command.
void ability_without(struct ability *a, unsigned missing);
bool ability_lacks(const struct ability *a, enum loss w);
// "Redis 6.0.16"
void ability_name(const struct ability *a, char *dst, size_t cap);
// What a file of this RDB version may hold and the target lacks: bits as in lacks.
unsigned ability_risks(const struct ability *a, int rdb_version, bool rdb_is_valkey);

#endif

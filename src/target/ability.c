// SPDX-License-Identifier: Apache-2.0
#include "target/ability.h"

#include <limits.h>
#include <stdio.h>

#include "redis/client.h"

struct loss_row {
    const char *words;
    int redis, valkey;         // servers
    int redis_rdb, valkey_rdb; // files
};

static const struct loss_row losses[] = {
#define X(id, name, words, redis, valkey, redis_rdb, valkey_rdb)                                   \
    [LOSS_##id] = {words, redis, valkey, redis_rdb, valkey_rdb},
    ABILITY_LOSSES(X)
#undef X
};

// What cannot be had without a command.
static const struct {
    enum redis_command command;
    unsigned losses;
} by_command[] = {
    {REDIS_CMD_RESTORE, 1u << LOSS_MODULE | 1u << LOSS_PATH_HASH | 1u << LOSS_NACK},
    {REDIS_CMD_FUNCTION, 1u << LOSS_FUNCTION},
    {REDIS_CMD_HPEXPIREAT, 1u << LOSS_FIELD_EXPIRY},
    {REDIS_CMD_XADD, 1u << LOSS_STREAM},
    {REDIS_CMD_XIDMPRECORD, 1u << LOSS_IDMP},
    {REDIS_CMD_ARMSET, 1u << LOSS_ARRAY},
    {REDIS_ANY_MODULE, 1u << LOSS_MODULE},
};

// A server version and the RDB version that it writes by itself.
struct rdb_row {
    int server, rdb;
};
static const struct rdb_row redis_rdb[] = {{81000, 15}, {80800, 14}, {80600, 13}, {70400, 12},
                                           {70200, 11}, {70000, 10}, {50000, 9},  {40000, 8},
                                           {30200, 7},  {0, 6}};
static const struct rdb_row valkey_rdb[] = {{90200, 81}, {90000, 80}, {0, 11}};

const char *loss_words(enum loss w)
{
    return losses[w].words;
}

void ability_of(struct ability *a, int version, bool is_valkey)
{
    *a = (struct ability){.version = version > 0 ? version : INT_MAX, .is_valkey = is_valkey};
    version = a->version;
    const struct rdb_row *row = is_valkey ? valkey_rdb : redis_rdb;
    while (version < row->server)
        row++;
    a->rdb_version = row->rdb;
    for (int i = 0; i < LOSSES; i++) {
        int since = is_valkey ? losses[i].valkey : losses[i].redis;
        if (since == 0 || version < since)
            a->lacks |= 1u << i;
    }
    // Valkey begins as Redis 7.2.
    int as_redis = is_valkey ? INT_MAX : version;
    a->restore = as_redis >= 30000;
    a->hset_many = as_redis >= 40000;
    a->restore_times = as_redis >= 50000;
    a->set_pxat = as_redis >= 60200;
    a->create_consumer = as_redis >= 60200;
    a->stream_counters = as_redis >= 70000;
}

void ability_without(struct ability *a, unsigned missing)
{
    for (size_t i = 0; i < sizeof(by_command) / sizeof(*by_command); i++)
        if (missing & 1u << by_command[i].command)
            a->lacks |= by_command[i].losses;
    a->restore = a->restore && !(missing & 1u << REDIS_CMD_RESTORE);
}

bool ability_lacks(const struct ability *a, enum loss w)
{
    return a->lacks & 1u << w;
}

void ability_name(const struct ability *a, char *dst, size_t cap)
{
    const char *family = a->is_valkey ? "Valkey" : "Redis";
    if (a->version == INT_MAX)
        snprintf(dst, cap, "%s of an unknown version", family);
    else
        snprintf(dst, cap, "%s %d.%d.%d", family, a->version / 10000, a->version / 100 % 100,
                 a->version % 100);
}

unsigned ability_risks(const struct ability *a, int rdb_version, bool rdb_is_valkey)
{
    unsigned risks = 0;
    for (int i = 0; i < LOSSES; i++) {
        int since = rdb_is_valkey ? losses[i].valkey_rdb : losses[i].redis_rdb;
        if (ability_lacks(a, (enum loss)i) && since > 0 && rdb_version >= since)
            risks |= 1u << i;
    }
    return risks;
}

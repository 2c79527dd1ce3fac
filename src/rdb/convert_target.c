// SPDX-License-Identifier: Apache-2.0
#include "rdb/convert_target.h"

#include <string.h>

#include "codec/rdb_types.h"

// The first server of each version, in order.
static const struct {
    bool valkey;
    int major, minor, rdb;
} servers[] = {
    {false, 2, 6, 6},  {false, 3, 2, 7},  {false, 4, 0, 8},  {false, 5, 0, 9},  {false, 7, 0, 10},
    {false, 7, 2, 11}, {false, 7, 4, 12}, {false, 8, 6, 13}, {false, 8, 8, 14}, {false, 8, 10, 15},
    {true, 7, 2, 11},  {true, 9, 0, 80},  {true, 9, 2, 81},
};

enum { ANY_MINOR = 1000 };

// "7.2", "7" or "7.x"
static bool parse_version(const char *s, int *major, int *minor)
{
    uint64_t high, low = ANY_MINOR;
    const char *dot = strchr(s, '.');
    struct slice first = slice_make(s, dot ? (size_t)(dot - s) : strlen(s));
    bool line = !dot || strcmp(dot, ".x") == 0;
    if (!slice_u64(first, &high) || high >= 100)
        return false;
    if (!line && (!slice_u64(slice_cstr(dot + 1), &low) || low >= 100))
        return false;
    *major = (int)high;
    *minor = (int)low;
    return true;
}

// The version that a server of this number writes; of a whole line ("8") what all of it can read.
static int rdb_of(bool valkey, int major, int minor)
{
    int found = -1;
    for (size_t i = 0; i < sizeof(servers) / sizeof(*servers); i++) {
        if (servers[i].valkey != valkey || servers[i].major > major)
            continue;
        if (servers[i].major < major || servers[i].minor <= (minor == ANY_MINOR ? 0 : minor) ||
            (minor == ANY_MINOR && found < 0))
            found = servers[i].rdb;
    }
    return found;
}

int convert_target_server(struct convert_server *out, const char *name, struct err *e)
{
    const char *version = name;
    int major, minor;
    bool valkey = strncmp(name, "valkey-", 7) == 0;
    if (valkey)
        version += 7;
    else if (strncmp(name, "redis-", 6) == 0)
        version += 6;
    if (!parse_version(version, &major, &minor))
        return err_set(e, ERR_CONFIG,
                       "\"%.40s\" is no server version; for example redis-7.2, valkey-9", name);
    int rdb = rdb_of(valkey, major, minor);
    if (rdb < 0)
        return err_set(e, ERR_CONFIG, "%.40s: the oldest servers here are redis-2.6 and valkey-7.2",
                       name);
    out->is_valkey = valkey;
    out->version = major * 10000 + (minor == ANY_MINOR ? 0 : minor * 100);
    out->rdb = (struct rdb_target){rdb, rdb >= RDB_VALKEY_MIN};
    if (!rdb_version_known(out->rdb.version, out->rdb.valkey))
        return err_set(e, ERR_CONFIG, "%.40s needs RDB version %d, which this build does not know",
                       name, rdb);
    return 0;
}

int convert_target_number(struct rdb_target *out, const char *number, bool valkey, struct err *e)
{
    uint64_t n;
    if (!slice_u64(slice_cstr(number), &n) || n < RDB_WRITE_MIN || n > 999 ||
        !rdb_version_known((int)n, n >= RDB_VALKEY_MIN))
        return err_set(e, ERR_CONFIG, "RDB version \"%.20s\" cannot be written; %d to %d can",
                       number, RDB_WRITE_MIN, RDB_VERSION_MAX);
    if (valkey && n != 11 && n < RDB_VALKEY_MIN)
        return err_set(e, ERR_CONFIG, "%llu is no version of Valkey's: these are 11, 80 and above",
                       (unsigned long long)n);
    *out = (struct rdb_target){(int)n, n >= RDB_VALKEY_MIN};
    return 0;
}

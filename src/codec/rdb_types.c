// SPDX-License-Identifier: Apache-2.0
#include "codec/rdb_types.h"

#define WALK_STREAM_1 "(NP)xxxM(Gxxg(Y)(Cuc(J)))"
#define WALK_STREAM_2 "(NP)xxxxxxxxM(Gxxxg(Y)(Cuc(J)))"
#define WALK_STREAM_3 "(NP)xxxxxxxxM(Gxxxg(Y)(Cuvc(J)))"

#define LP PACKED_LISTPACK
#define ZL PACKED_ZIPLIST
#define IS PACKED_INTSET
#define ZM PACKED_ZIPMAP

// clang-format off
static const struct rdb_type types[] = {
    // in order of type
    // type dialect   object         packed tuple since walk          name
    {0,  RDB_ANY,   RDB_OBJ_STRING, 0,  0, 1,  "S",            "string"},
    {1,  RDB_ANY,   RDB_OBJ_LIST,   0,  0, 1,  "(V.)",         "list"},
    {2,  RDB_ANY,   RDB_OBJ_SET,    0,  0, 1,  "(V.)",         "set"},
    {3,  RDB_ANY,   RDB_OBJ_ZSET,   0,  0, 1,  "(VA.)",        "sorted set, text scores"},
    {4,  RDB_ANY,   RDB_OBJ_HASH,   0,  0, 1,  "(FV.)",        "hash"},
    {5,  RDB_ANY,   RDB_OBJ_ZSET,   0,  0, 8,  "(VD.)",        "sorted set"},
    {6,  RDB_ANY,   RDB_OBJ_MODULE, 0,  0, 8,  NULL,           "module value of a 4.0 preview"},
    {7,  RDB_ANY,   RDB_OBJ_MODULE, 0,  0, 8,  "lW",           "module value"},
    {9,  RDB_ANY,   RDB_OBJ_HASH,   ZM, 2, 1,  "B",            "hash, zipmap"},
    {10, RDB_ANY,   RDB_OBJ_LIST,   ZL, 1, 1,  "B",            "list, ziplist"},
    {11, RDB_ANY,   RDB_OBJ_SET,    IS, 1, 1,  "B",            "set, intset"},
    {12, RDB_ANY,   RDB_OBJ_ZSET,   ZL, 2, 2,  "B",            "sorted set, ziplist"},
    {13, RDB_ANY,   RDB_OBJ_HASH,   ZL, 2, 4,  "B",            "hash, ziplist"},
    {14, RDB_ANY,   RDB_OBJ_LIST,   ZL, 1, 7,  "(B)",          "list, quicklist of ziplists"},
    {15, RDB_ANY,   RDB_OBJ_STREAM, LP, 1, 9,  WALK_STREAM_1,  "stream, version 1"},
    {16, RDB_ANY,   RDB_OBJ_HASH,   LP, 2, 10, "B",            "hash, listpack"},
    {17, RDB_ANY,   RDB_OBJ_ZSET,   LP, 2, 10, "B",            "sorted set, listpack"},
    {18, RDB_ANY,   RDB_OBJ_LIST,   LP, 1, 10, "(KQ)",         "list, quicklist of listpacks"},
    {19, RDB_ANY,   RDB_OBJ_STREAM, LP, 1, 10, WALK_STREAM_2,  "stream, version 2"},
    {20, RDB_ANY,   RDB_OBJ_SET,    LP, 1, 11, "B",            "set, listpack"},
    {21, RDB_ANY,   RDB_OBJ_STREAM, LP, 1, 11, WALK_STREAM_3,  "stream, version 3"},
    {22, RDB_REDIS, RDB_OBJ_HASH,   0,  0, 12, "(tFV.)",       "hash with field expiry, 7.4 preview"},
    {23, RDB_REDIS, RDB_OBJ_HASH,   LP, 3, 12, "B",            "hash with field expiry, listpack, 7.4 preview"},
    {24, RDB_REDIS, RDB_OBJ_HASH,   0,  0, 12, "m(TFV.)",      "hash with field expiry"},
    {25, RDB_REDIS, RDB_OBJ_HASH,   LP, 3, 12, "mB",           "hash with field expiry, listpack"},
};
// clang-format on

const struct rdb_type *rdb_type_find(uint8_t type, bool valkey)
{
    unsigned dialect = valkey ? RDB_VALKEY : RDB_REDIS;
    for (size_t i = 0; i < sizeof(types) / sizeof(*types) && types[i].type <= type; i++)
        if (types[i].type == type && types[i].dialect & dialect)
            return &types[i];
    return NULL;
}

// Versions that this build reads, per magic.
static const struct {
    bool valkey;
    int min, max;
} versions[] = {{false, 1, RDB_VERSION_MAX}};

bool rdb_version_known(int version, bool valkey)
{
    for (size_t i = 0; i < sizeof(versions) / sizeof(*versions); i++)
        if (versions[i].valkey == valkey && version >= versions[i].min &&
            version <= versions[i].max)
            return true;
    return false;
}

const char *rdb_object_name(enum rdb_object o)
{
    static const char *const names[] = {
        [RDB_OBJ_STRING] = "string", [RDB_OBJ_LIST] = "list", [RDB_OBJ_SET] = "set",
        [RDB_OBJ_ZSET] = "zset",     [RDB_OBJ_HASH] = "hash", [RDB_OBJ_STREAM] = "stream",
        [RDB_OBJ_MODULE] = "module",
    };
    return names[o];
}

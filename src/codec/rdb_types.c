// SPDX-License-Identifier: Apache-2.0
#include "codec/rdb_types.h"

#define WALK_STREAM_1 "(NP)xxxM(Gxxg(Y)(Cuc(J)))"
#define WALK_STREAM_2 "(NP)xxxxxxxxM(Gxxxg(Y)(Cuc(J)))"
#define WALK_STREAM_3 "(NP)xxxxxxxxM(Gxxxg(Y)(Cuvc(J)))"

// Since then with the settings and entries of producers; since 5 with entries that nobody owns.
#define WALK_STREAM_HEAD "(NP)xxxxxxxxM"
#define WALK_PRODUCERS "xxi(O(Vxxk))xxj"
#define WALK_STREAM_4 WALK_STREAM_HEAD "(Gxxxg(Y)(Cuvc(J)))" WALK_PRODUCERS
#define WALK_STREAM_5 WALK_STREAM_HEAD "(Gxxxg(Y)(Cuvc(J))(Z))" WALK_PRODUCERS

#define LP PACKED_LISTPACK
#define ZL PACKED_ZIPLIST
#define IS PACKED_INTSET
#define ZM PACKED_ZIPMAP
#define REF (RDB_REDIS | RDB_FILE_ONLY)
#define VALKEY_FIRST 22

// clang-format off
static const struct rdb_type types[] = { // by number
    //     type dialect   object         packed tuple since walk          name
    [0]  = {0,  RDB_ANY,   RDB_OBJ_STRING, 0,  0, 1,  "S",            "string"},
    [1]  = {1,  RDB_ANY,   RDB_OBJ_LIST,   0,  0, 1,  "(V.)",         "list"},
    [2]  = {2,  RDB_ANY,   RDB_OBJ_SET,    0,  0, 1,  "(V.)",         "set"},
    [3]  = {3,  RDB_ANY,   RDB_OBJ_ZSET,   0,  0, 1,  "(VA.)",        "sorted set, text scores"},
    [4]  = {4,  RDB_ANY,   RDB_OBJ_HASH,   0,  0, 1,  "(FV.)",        "hash"},
    [5]  = {5,  RDB_ANY,   RDB_OBJ_ZSET,   0,  0, 8,  "(VD.)",        "sorted set"},
    [6]  = {6,  RDB_ANY,   RDB_OBJ_MODULE, 0,  0, 8,  NULL,           "module value of a 4.0 preview"},
    [7]  = {7,  RDB_ANY,   RDB_OBJ_MODULE, 0,  0, 8,  "lW",           "module value"},
    [9]  = {9,  RDB_ANY,   RDB_OBJ_HASH,   ZM, 2, 1,  "B",            "hash, zipmap"},
    [10] = {10, RDB_ANY,   RDB_OBJ_LIST,   ZL, 1, 1,  "B",            "list, ziplist"},
    [11] = {11, RDB_ANY,   RDB_OBJ_SET,    IS, 1, 1,  "B",            "set, intset"},
    [12] = {12, RDB_ANY,   RDB_OBJ_ZSET,   ZL, 2, 2,  "B",            "sorted set, ziplist"},
    [13] = {13, RDB_ANY,   RDB_OBJ_HASH,   ZL, 2, 4,  "B",            "hash, ziplist"},
    [14] = {14, RDB_ANY,   RDB_OBJ_LIST,   ZL, 1, 7,  "(B)",          "list, quicklist of ziplists"},
    [15] = {15, RDB_ANY,   RDB_OBJ_STREAM, LP, 1, 9,  WALK_STREAM_1,  "stream, version 1"},
    [16] = {16, RDB_ANY,   RDB_OBJ_HASH,   LP, 2, 10, "B",            "hash, listpack"},
    [17] = {17, RDB_ANY,   RDB_OBJ_ZSET,   LP, 2, 10, "B",            "sorted set, listpack"},
    [18] = {18, RDB_ANY,   RDB_OBJ_LIST,   LP, 1, 10, "(KQ)",         "list, quicklist of listpacks"},
    [19] = {19, RDB_ANY,   RDB_OBJ_STREAM, LP, 1, 10, WALK_STREAM_2,  "stream, version 2"},
    [20] = {20, RDB_ANY,   RDB_OBJ_SET,    LP, 1, 11, "B",            "set, listpack"},
    [21] = {21, RDB_ANY,   RDB_OBJ_STREAM, LP, 1, 11, WALK_STREAM_3,  "stream, version 3"},
    [22] = {22, RDB_REDIS, RDB_OBJ_HASH,   0,  0, 12, "(tFV.)",       "hash with field expiry, 7.4 preview"},
    [23] = {23, RDB_REDIS, RDB_OBJ_HASH,   LP, 3, 12, "B",            "hash with field expiry, listpack, 7.4 preview"},
    [24] = {24, RDB_REDIS, RDB_OBJ_HASH,   0,  0, 12, "m(TFV.)",      "hash with field expiry"},
    [25] = {25, RDB_REDIS, RDB_OBJ_HASH,   LP, 3, 12, "mB",           "hash with field expiry, listpack"},
    [26] = {26, RDB_REDIS, RDB_OBJ_STREAM, LP, 1, 13, WALK_STREAM_4,  "stream, version 4"},
    [27] = {27, RDB_REDIS, RDB_OBJ_STREAM, LP, 1, 14, WALK_STREAM_5,  "stream, version 5"},
    [28] = {28, RDB_REDIS, RDB_OBJ_ARRAY,  0,  0, 14, "[XE)",         "array"},
    [29] = {29, RDB_REDIS, RDB_OBJ_HASH,   LP, 1, 15, "HU",           "hash with template, listpack"},
    [30] = {30, REF,       RDB_OBJ_HASH,   LP, 1, 15, "U",            "hash of a template of the file, listpack"},
    [31] = {31, RDB_REDIS, RDB_OBJ_HASH,   0,  0, 15, "H{V.)",        "hash with template"},
    [32] = {32, REF,       RDB_OBJ_HASH,   0,  0, 15, "R{V.)",        "hash of a template of the file"},
};

// Where Valkey has gone its own way.
static const struct rdb_type valkey_types[] = {
    {22, RDB_VALKEY, RDB_OBJ_HASH,  0,  0, 80, "(FVe.)",       "hash with field expiry, Valkey"},
    {23, RDB_VALKEY, RDB_OBJ_PATH_HASH, 0, 0, 81, "(p(FV.))",  "path hash"},
};
// clang-format on

const struct rdb_type *rdb_type_find(uint8_t type, bool valkey)
{
    if (type >= VALKEY_FIRST && valkey) {
        size_t i = type - VALKEY_FIRST;
        return i < sizeof(valkey_types) / sizeof(*valkey_types) ? &valkey_types[i] : NULL;
    }
    bool known = type < sizeof(types) / sizeof(*types) && types[type].name;
    return known ? &types[type] : NULL;
}

bool rdb_type_known_to(uint8_t type, bool type_is_valkey, int target_rdb_version,
                       bool target_is_valkey)
{
    const struct rdb_type *row = rdb_type_find(type, type_is_valkey);
    unsigned target = target_is_valkey ? RDB_VALKEY : RDB_REDIS;
    return row && row->dialect & target && !(row->dialect & RDB_FILE_ONLY) &&
           target_rdb_version >= row->since;
}

// Versions that this build reads, per magic.
static const struct {
    bool valkey;
    int min, max;
} versions[] = {{false, 1, RDB_VERSION_MAX}, {true, RDB_VALKEY_MIN, RDB_VALKEY_VERSION_MAX}};

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
        [RDB_OBJ_STRING] = "string", [RDB_OBJ_LIST] = "list",           [RDB_OBJ_SET] = "set",
        [RDB_OBJ_ZSET] = "zset",     [RDB_OBJ_HASH] = "hash",           [RDB_OBJ_STREAM] = "stream",
        [RDB_OBJ_ARRAY] = "array",   [RDB_OBJ_PATH_HASH] = "path hash", [RDB_OBJ_MODULE] = "module",
    };
    return names[o];
}

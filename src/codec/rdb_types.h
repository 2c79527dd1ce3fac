// SPDX-License-Identifier: Apache-2.0
// What the RDB format consists of: value types as rows of a table, opcodes, versions. A row's
// `walk` is a small program over the serialized value; the reader interprets it both to skip the
// value and to take it apart, so that a new type is a new row.
//
//   structure   ( length, then the body so many times      ) end of body
//               [ the head of an array, then as (          { as (, for each field of the template
//               . an element is complete
//   strings     F field   V value   S string value (in pieces)   B packed blob
//               Q quicklist node   N stream node key   P stream node   G group   C consumer
//               O producer   p path   U packed values of a template's fields, after its ID
//   numbers     l length, ignored   K quicklist container   x length kept for a stream step
//               T length, expiry relative to m (0 none)   t length, absolute expiry (0 none)
//               m 8 bytes, lowest expiry   e 8 bytes, expiry (-1 none)   u seen, v active (8 bytes)
//               A double as text   D double as 8 bytes   X index in an array   R template ID
//               Y pending entry (ID, time, count)   J of a consumer, Z of nobody (ID)
//   mixed       E tagged value of an array   H a template's fields   o 4 bytes, ignored
//   steps       M stream meta   g group   c consumer   i, k, j what producers have sent
//   module      W opcodes up to the module's end mark
#ifndef GUNYU_CODEC_RDB_TYPES_H
#define GUNYU_CODEC_RDB_TYPES_H

#include <stdbool.h>
#include <stdint.h>

#include "codec/packed.h"
#include "codec/rdb.h"

#define RDB_VERSION_MAX 15 // of Redis
#define RDB_VALKEY_MIN 80  // from here on a version is Valkey's own
#define RDB_VALKEY_VERSION_MAX 81

// RDB_FILE_ONLY, or'ed: refers to other parts of its file, so it is not valid in a DUMP payload.
enum rdb_dialect { RDB_ANY = 3, RDB_REDIS = 1, RDB_VALKEY = 2, RDB_FILE_ONLY = 4 };

struct rdb_type {
    uint8_t type;
    uint8_t dialect;  // enum rdb_dialect: the same number can mean different things
    uint8_t object;   // enum rdb_object
    uint8_t packed;   // enum packed_kind of B, Q
    uint8_t tuple;    // packed entries that make an element
    uint16_t since;   // lowest RDB version that has it, of its dialect
    const char *walk; // NULL: known, but cannot be read
    const char *name;
};

// NULL when unknown.
const struct rdb_type *rdb_type_find(uint8_t type, bool valkey);
bool rdb_version_known(int version, bool valkey);
// Whether a server that writes RDB version target_rdb_version by itself can RESTORE a value of this
// type, which stood in a file of Valkey's own versions (type_is_valkey) or any other. A Valkey
// before 9 has version 11 and knows what Redis 7.2 knew. For a module value: its container only.
bool rdb_type_known_to(uint8_t type, bool type_is_valkey, int target_rdb_version,
                       bool target_is_valkey);

enum rdb_opcode {
    RDB_OP_HASH_TEMPLATE = 242, // Redis
    RDB_OP_UPDATE = 242,        // Valkey
    RDB_OP_KEY_META = 243,      // Redis
    RDB_OP_SLOT_IMPORT = 243,   // Valkey
    RDB_OP_SLOT_INFO = 244,
    RDB_OP_FUNCTION2 = 245,
    RDB_OP_FUNCTION_PRE_GA = 246,
    RDB_OP_MODULE_AUX = 247,
    RDB_OP_IDLE = 248,
    RDB_OP_FREQ = 249,
    RDB_OP_AUX = 250,
    RDB_OP_RESIZEDB = 251,
    RDB_OP_EXPIRE_MS = 252,
    RDB_OP_EXPIRE_S = 253,
    RDB_OP_SELECTDB = 254,
    RDB_OP_EOF = 255,
};

enum rdb_module_opcode {
    RDB_MODULE_EOF,
    RDB_MODULE_SINT,
    RDB_MODULE_UINT,
    RDB_MODULE_FLOAT,
    RDB_MODULE_DOUBLE,
    RDB_MODULE_STRING,
};

#endif

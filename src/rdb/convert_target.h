// SPDX-License-Identifier: Apache-2.0
// Servers by name, and the RDB versions that they write.
#ifndef GUNYU_RDB_CONVERT_TARGET_H
#define GUNYU_RDB_CONVERT_TARGET_H

#include "rdb/writer.h"

struct convert_server {
    bool is_valkey;
    int version; // 70200 = 7.2.0
    struct rdb_target rdb;
};

// "redis-7.2", "redis-7" (the newest 7), "redis-6.x", "7.2", "valkey-9".
int convert_target_server(struct convert_server *out, const char *name, struct err *e) must_check;
// A number of an RDB version.
int convert_target_number(struct rdb_target *out, const char *number, bool valkey,
                          struct err *e) must_check;

#endif

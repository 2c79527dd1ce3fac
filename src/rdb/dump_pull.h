// SPDX-License-Identifier: Apache-2.0
// Receives one snapshot of a live server, as a replica does, and nothing behind it. Blocking.
#ifndef GUNYU_RDB_DUMP_PULL_H
#define GUNYU_RDB_DUMP_PULL_H

#include "net/endpoint.h"
#include "rdb/out.h"
#include "rdb/writer.h"

struct pull_options {
    const struct endpoint *endpoint;
    const char *psync_command;
    // Called a few times a second; size is 0 when unknown, have is 0 before the snapshot begins.
    void (*progress)(void *arg, uint64_t have, uint64_t size);
    void *arg;
};

struct pull_result {
    uint64_t bytes;
    struct rdb_target target; // by its header
    bool checked;             // it had a checksum, which was right
};

// Writes it to out, which the caller commits when 0 is returned. A transfer that is cut is
// ERR_TRUNCATED with the bytes received.
int pull_snapshot(const struct pull_options *o, struct rdb_out *out, struct pull_result *result,
                  struct err *e) must_check;

#endif

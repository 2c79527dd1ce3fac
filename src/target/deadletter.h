// SPDX-License-Identifier: Apache-2.0
// Commands that the target refused for good, kept with their offset and reason so that nothing is
// lost in silence. An append-only file of self-checking records per lane.
#ifndef GUNYU_TARGET_DEADLETTER_H
#define GUNYU_TARGET_DEADLETTER_H

#include <stdio.h>

#include "base/err.h"
#include "base/slice.h"

struct deadletter_entry {
    uint64_t id;      // running number within the file
    int64_t offset;   // source position of the command's end; of the key's start in the RDB when rdb
    bool rdb;
    int db;           // target db
    int64_t time_ms;
    char replid[41];
    struct slice command; // RESP, as it was sent
    struct slice reason;  // the server's words
};

struct deadletter;
int deadletter_open(struct deadletter **out, const char *path, struct err *e) must_check;
void deadletter_close(struct deadletter *d);
// Appends and syncs to disk before it returns. The id is assigned.
int deadletter_append(struct deadletter *d, const struct deadletter_entry *entry,
                      struct err *e) must_check;
uint64_t deadletter_count(const struct deadletter *d); // not dropped yet
// True if an entry with this replid and offset is already there (a replay after a crash).
bool deadletter_has(const struct deadletter *d, const char *replid, int64_t offset);

// Behind `gunyu deadletter list|retry|drop`. The file may belong to a running process.
int deadletter_list(const char *path, FILE *out, bool json, struct err *e) must_check;
// Sends the entries (all, or the id) to the target and drops those that it accepts.
struct endpoint;
int deadletter_retry(const char *path, const struct endpoint *target, int64_t id, FILE *out,
                     struct err *e) must_check;
int deadletter_drop(const char *path, int64_t id, struct err *e) must_check; // id -1: all

#endif

// SPDX-License-Identifier: Apache-2.0
// Commands that the target refused for good, kept with their offset and reason so that nothing is
// lost in silence. An append-only file of self-checking records per lane.
#ifndef GUNYU_TARGET_DEADLETTER_H
#define GUNYU_TARGET_DEADLETTER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/slice.h"

struct deadletter_entry {
    uint64_t id;    // running number within the file
    int64_t offset; // source position of the command's end; of the key's start in the RDB when rdb
    bool rdb;
    int db; // target db
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
// Takes in what others (the command line) wrote since; a stat when there is nothing new.
int deadletter_refresh(struct deadletter *d, struct err *e) must_check;
// Not dropped yet, as of the last open, append or refresh.
uint64_t deadletter_count(const struct deadletter *d);
// True if a stream entry with this replid and offset was ever put there, dropped or not (a replay
// after a crash). _rdb: the same for a key of the snapshot.
bool deadletter_has(const struct deadletter *d, const char *replid, int64_t offset);
bool deadletter_has_rdb(const struct deadletter *d, const char *replid, int64_t index);

// Behind `gunyu deadletter list|retry|drop`. The file may belong to a running process.
int deadletter_list(const char *path, FILE *out, bool json, struct err *e) must_check;
// Sends the entries (all, or the id) to the target and drops those that it accepts.
struct endpoint;
int deadletter_retry(const char *path, const struct endpoint *target, int64_t id, FILE *out,
                     struct err *e) must_check;
int deadletter_drop(const char *path, int64_t id, struct err *e) must_check; // id -1: all

#endif

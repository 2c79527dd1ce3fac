// SPDX-License-Identifier: Apache-2.0
// Deletes from the target what snapshots have brought that were loaded in part and then given up:
// all keys of what the journal keeps aside of them, whether they came to the target or not. What
// of them the source still has comes again with the snapshot that is loaded next.
#ifndef GUNYU_TARGET_TAKEBACK_H
#define GUNYU_TARGET_TAKEBACK_H

#include "flow/filter.h"
#include "journal/journal.h"
#include "target/load.h"
#include "target/sink.h"

struct takeback_options {
    struct sink *sink;
    struct journal *journal;
    const struct filter *filter;      // as of the load; borrowed
    bool cluster;                     // as load.h
    bool unlink;                      // the target knows UNLINK
    bool skip_unknown;                // as load.h
    const char *tag;                  // for log lines
    int (*map_db)(void *ctx, int db); // as load.h
    // Whether nobody else may have brought this key meanwhile.
    bool (*is_ours)(void *ctx, struct slice key);
    void *ctx;
};

struct takeback;
struct takeback *takeback_new(const struct takeback_options *o);
void takeback_free(struct takeback *t);
// As load_pump. LOAD_FINISHED: all is sent and answered. Where bytes end early or are damaged, what
// lies behind is left out.
enum load_result takeback_pump(struct takeback *t, size_t budget);
uint64_t takeback_keys(const struct takeback *t); // sent

#endif

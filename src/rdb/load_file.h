// SPDX-License-Identifier: Apache-2.0
// Loads one RDB file into a target over a connection of its own. The file's bytes go through a
// journal in memory, from which target/load reads them as it does for a sync.
#ifndef GUNYU_RDB_LOAD_FILE_H
#define GUNYU_RDB_LOAD_FILE_H

#include <stdatomic.h>
#include <uv.h>

#include "flow/rewrite.h"
#include "lane/lane.h"
#include "rdb/select.h"

// So many a second, shared by threads. Zeroed is no limit; lock must be initialized.
struct load_rate {
    uv_mutex_t lock;
    double per_second; // 0: no limit
    uint64_t next_us;  // when what was spent is earned
};

// What all files share. Borrowed, and constant but for the rates and `stop`.
struct load_plan {
    struct endpoint target;
    const struct endpoint *seeds; // of a cluster; borrowed
    size_t seeds_n;               // 0: no cluster
    char target_name[300];
    struct lane_options replay; // of it: what target/load is told
    struct rewrite_dbs dbs;
    const struct filter *filter;
    const struct selection *selection;
    bool resume;    // keep the position in the target, go on from it
    int64_t window; // bytes of a file that are held in memory
    struct load_rate keys, bytes;
    atomic_bool stop; // let what is in flight end, then return
};

// Any thread may read these while the file loads.
struct load_progress {
    _Atomic uint64_t done; // bytes of the file that were loaded
    _Atomic uint64_t keys; // sent
};

struct load_outcome {
    char id[41]; // of the file; "" before its head was read
    bool was_done, resumed;
    uint64_t from; // byte of the RDB that the load went on at
    uint64_t keys, filtered, expired, ignored, replaced, functions, unknown;
    uint64_t degraded[LOSSES];
    bool abandoned; // a read of standard input is still under way: the process must end by _exit
};

// Returns when everything is confirmed, or with an error when that cannot be; `r` says what was
// sent in either case.
int load_file(struct load_plan *plan, const char *path, struct load_progress *progress,
              struct load_outcome *r, struct err *e) must_check;
// Removes the positions of files that are all loaded.
int load_forget(const struct load_plan *plan, const struct load_outcome *results, size_t n,
                struct err *e) must_check;

#endif

// SPDX-License-Identifier: Apache-2.0
// meta.json: what a journal directory holds, apart from the log bytes, which describe themselves.
#ifndef GUNYU_JOURNAL_META_H
#define GUNYU_JOURNAL_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "journal/journal.h"

#define META_HISTORY 16
#define META_MARKS 512
#define META_SIZE_MAX (1u << 20)

struct meta_mark {
    uint64_t offset;
    int db;
    int64_t unix_ms;
};

struct meta {
    uint64_t gen; // grows with each begin; files of another gen are leftovers
    char boot_id[40];
    bool clean; // all of it was on the disk when this was written, and nothing was added since
    char replid[REPLID_LEN + 1];
    char replid2[REPLID_LEN + 1];
    uint64_t replid2_offset;
    struct journal_old_id history[META_HISTORY]; // ids before replid2, newest first
    size_t history_count;
    bool has_log;
    uint64_t log_base; // position at which the log began
    bool has_snapshot;
    bool snapshot_complete;
    bool snapshot_synced;  // it is on the disk
    bool snapshot_loading; // the target may hold a part of it
    uint64_t snapshot_offset;
    uint64_t snapshot_size;             // of a complete one
    uint64_t snapshot_head;             // bytes below this index were given back
    struct meta_mark marks[META_MARKS]; // ascending by offset; thinned towards the past
    size_t mark_count;
};

bool meta_replid_valid(const char *id);
bool meta_position_valid(uint64_t position); // what fits a source's signed 64 bits with room
// JSON text; the caller frees.
char *meta_encode(const struct meta *m, size_t *n);
// ERR_CORRUPT with a reason for anything that meta_encode would not have written.
int meta_decode(struct meta *m, const char *text, size_t n, struct err *e) must_check;
// Adds a replid change: replid becomes replid2 and the older ones history.
void meta_set_replid(struct meta *m, const char *replid, uint64_t offset);
void meta_add_mark(struct meta *m, uint64_t offset, int db, int64_t unix_ms);
// Forgets marks above a position.
void meta_cut_marks(struct meta *m, uint64_t right);
// The newest mark at or before offset; NULL when there is none.
const struct meta_mark *meta_find_mark(const struct meta *m, uint64_t offset);
void meta_read_boot_id(char out[40]);

#endif

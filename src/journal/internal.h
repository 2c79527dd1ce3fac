// SPDX-License-Identifier: Apache-2.0
// What the journal's own files share; nobody else includes this.
//
// An epoch is what lies between two begins: at most one snapshot and one log. A begin makes a new
// epoch; the old one lives on, without files, until its last reader closes.
#ifndef GUNYU_JOURNAL_INTERNAL_H
#define GUNYU_JOURNAL_INTERNAL_H

#include "journal/bio.h"
#include "journal/files.h"
#include "journal/guard.h"
#include "journal/journal.h"
#include "journal/meta.h"
#include "journal/segment.h"
#include "journal/vmap.h"

#define NO_POSITION UINT64_MAX

struct snapshot {
    bool known; // one was begun in this epoch
    bool held;  // its bytes, from head on, are here
    bool complete;
    bool synced;  // on the disk
    bool loading; // the target may hold a part of it
    uint64_t offset;
    uint64_t size;  // JOURNAL_SIZE_UNKNOWN until known
    uint64_t have;  // bytes received
    uint64_t head;  // bytes below were given back
    uint64_t alloc; // room ends here
    uint64_t floor; // released by all readers
    uint64_t flushed;
    uint64_t cooled;
    int fd;
    struct vmap vm; // index: byte of the snapshot
};

struct log {
    bool present;
    uint64_t left, right;
    uint64_t room;      // end of what may be written now
    uint64_t ready;     // = room, or 0 to make journal_log_space look
    uint64_t slow_at;   // a commit that reaches this has more to do
    uint64_t block_end; // where the current block gets its sum; NO_POSITION: no sums
    uint64_t flush_at;  // where the flush policy wants to know
    uint64_t cooled;
    uint64_t floor; // released by all readers
    struct vmap vm; // index: position before the byte
    // storer
    struct segment *segs; // contiguous, ascending; all but the last are full
    size_t seg_count, seg_cap;
    struct segment_header *header; // of the last segment while it is written to, mapped
    struct guard *header_guard;
    int fd; // that segment; memory: the whole log
    unsigned tail_slot;
};

struct epoch {
    struct journal *j;
    bool dead;
    bool aside; // only a view of what is kept aside; goes with its reader
    struct journal_reader *readers;
    struct snapshot snap;
    struct log log;
    struct epoch *next; // in journal.dead
};

struct journal_reader {
    struct epoch *ep;
    uint64_t log_release, snap_release;
    bool snap_done; // needs nothing of the snapshot
    // Blocks in [verified_lo, verified_hi) matched their sums; sums are those of one segment.
    uint64_t verified_lo, verified_hi;
    uint64_t *sums;
    uint64_t sums_left;
    struct journal_reader *prev, *next;
};

enum spare_state { SPARE_NONE, SPARE_RUNNING, SPARE_READY, SPARE_FAILED };

struct journal {
    struct journal_options o;
    char *dir, *tag;
    bool memory;
    uint64_t max_size; // NO_POSITION: unlimited
    uint64_t log_size; // whole blocks
    uint64_t extent;   // bytes that were read are given back, and memory is taken, in this unit
    struct files files;
    struct bio bio;
    struct epoch *cur; // never NULL
    struct epoch *dead;
    atomic_bool damaged;
    struct err failure; // code 0: none
    bool failure_told;
    unsigned dead_names;

    struct meta meta;
    bool meta_dirty;
    int64_t meta_ms;      // when last written
    uint64_t meta_seq;    // of the last text made
    uv_mutex_t meta_lock; // meta_stored, and the writing itself
    uint64_t meta_stored;

    enum spare_state spare;
    int spare_fd;
    uint64_t spare_capacity;

    // Snapshots that the target may hold a part of and will not get whole. number: in the name.
    struct aside {
        uint64_t number, size;
    } * asides;
    size_t asides_n;
    bool asides_done; // taken back: they may go when room is needed
    int aside_fd;     // one that is written; -1: none
    uint64_t aside_size;

    char *landing; // received bytes that are not committed yet

    bool flush_running, flush_pending;
    uint64_t flush_submitted; // position
    int64_t flush_ms;
};

// journal.c
// Remembers the first failure; from then on nothing is written.
void journal_fail(struct journal *j, const struct err *e);
// Dropping is allowed only for what all readers released. True when something went.
bool journal_drop_oldest(struct journal *j, bool now);
// Bytes taken from max_size.
uint64_t journal_used(const struct journal *j);
// Makes room for n more bytes within max_size. ERR_FULL.
int journal_reserve(struct journal *j, uint64_t n, struct err *e) must_check;
struct epoch *epoch_new(struct journal *j);
void epoch_free(struct epoch *ep);
void epoch_update_floors(struct epoch *ep);

// landing.c
// A place for at most room bytes; returns how many.
size_t landing_space(struct journal *j, char **p, uint64_t room);
// Puts the first n landed bytes at that offset of the file, which is mapped at `mapped`. A failure
// is the journal's.
int landing_put(struct journal *j, int fd, uint64_t offset, char *mapped, size_t n,
                struct err *e) must_check;

// store.c: meta.json and the ends of files
// Writes meta.json, on the pool unless `wait`. Without wait a failure is told by journal_tick.
int store_meta(struct journal *j, bool wait, struct err *e) must_check;
// Takes files out of the directory's names at once; the unlinking, which can be slow, follows on
// the pool (or here with `now`).
void store_drop(struct journal *j, char (*names)[FILES_NAME_MAX], size_t n, bool now);
// Prepares the next segment on the pool.
void store_make_spare(struct journal *j);
// A preallocated file for a segment, under the spare's name. Returns a descriptor.
int store_take_spare(struct journal *j, uint64_t capacity, struct err *e) must_check;
#define STORE_SPARE FILES_TEMP_PREFIX "spare"

// log.c
void log_init(struct epoch *ep);
void log_begin(struct epoch *ep, uint64_t left);
// Takes over a segment found on disk, in order, at the log's right edge.
void log_adopt(struct epoch *ep, const struct segment *s);
void log_free(struct epoch *ep);
void log_release(struct epoch *ep);
bool log_drop_first(struct journal *j, bool now);
uint64_t log_used(const struct epoch *ep);

// snapshot.c
void snapshot_init(struct epoch *ep);
int snapshot_reopen(struct epoch *ep, struct err *e) must_check;
void snapshot_free(struct epoch *ep);
void snapshot_release(struct epoch *ep);
void snapshot_drop(struct journal *j, bool now);
bool snapshot_shed(struct journal *j); // gives back what was consumed; it cannot be read again
uint64_t snapshot_used(const struct epoch *ep);

// aside.c
// A file of that name and size was found.
void aside_found(struct journal *j, const char *name, uint64_t number);
// Puts a snapshot aside that is to be forgotten. have: its bytes; NO_POSITION: what the file seems
// to hold, and with `torn` some of its pages may never have been written. False: it is not kept,
// and the file is where it was.
bool aside_keep(struct journal *j, const char *name, uint64_t have, bool torn);
uint64_t aside_used(const struct journal *j);

// flush.c
void flush_init(struct journal *j);
void flush_committed(struct journal *j); // after a commit that reached flush_at
void flush_request(struct journal *j);
void flush_tick(struct journal *j, int64_t now_ms);

// recover.c
int recover(struct journal *j, struct err *e) must_check;

// A file in memory, for the memory type.
int memory_file(const char *name, struct err *e) must_check;

#endif

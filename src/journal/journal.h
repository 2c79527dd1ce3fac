// SPDX-License-Identifier: Apache-2.0
// The journal of one source shard: a snapshot (RDB bytes) and a log (replication stream bytes), on
// disk or in anonymous memory. It is a cache of the source; losing it costs a re-fetch, never data.
// docs/journal-format.md describes the files.
//
// Positions follow Redis: position X means "every byte up to and including X". The log holds the
// bytes after position `left` up to position `right`; PSYNC asks for right + 1.
//
// One thread (the lane's loop) calls everything here. fsync and unlink run on the thread pool of
// that loop.
#ifndef GUNYU_JOURNAL_JOURNAL_H
#define GUNYU_JOURNAL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

#define REPLID_LEN 40
#define JOURNAL_SIZE_UNKNOWN UINT64_MAX

enum journal_type { JOURNAL_STORER, JOURNAL_MEMORY };

struct journal_flush {
    bool every_write;    // fsync after each commit
    int64_t duration_ms; // fsync when this long since the last; 0: off
    int64_t dirty_size;  // fsync when this many bytes are dirty; 0: off
    bool auto_flush;     // leave it to the kernel
};

struct journal_options {
    enum journal_type type;
    const char *dir;    // storer: the directory of this shard; made with mode 0700 if absent
    int64_t max_size;   // bytes; negative: unlimited (storer only)
    int64_t log_size;   // bytes of one log segment, rounded up to pages
    int64_t max_age_ms; // log older than this and read by all may go even below max_size; 0: off
    struct journal_flush flush;
    bool verify_crc; // check block sums of what a reader maps
    uv_loop_t *loop; // NULL: fsync and unlink run inline (tests, command-line tools)
    const char *tag; // for log lines
};

// An id that the source had before replid2.
struct journal_old_id {
    char replid[REPLID_LEN + 1];
    uint64_t offset; // valid up to and including
};

struct journal_info {
    char replid[REPLID_LEN + 1];        // "" when the journal is empty
    char replid2[REPLID_LEN + 1];       // "" when none
    uint64_t replid2_offset;            // replid2 is valid up to and including this position
    const struct journal_old_id *older; // newest first; valid until the journal next changes
    size_t older_n;
    bool has_log;
    uint64_t left, right;
    bool has_snapshot; // and its first byte is still held
    bool snapshot_complete;
    uint64_t snapshot_offset; // the position that the snapshot ends at
    uint64_t snapshot_size;   // JOURNAL_SIZE_UNKNOWN until known
    uint64_t snapshot_have;   // bytes received
    uint64_t life;            // grows with each begin: what was held before is gone
    int64_t bytes;            // held on disk or in memory, preallocation not counted
    int64_t max_size;
    bool in_memory;
};

// The journal's log, all of it, is of the history of a server that names itself by these ids; id2
// is valid up to and including id2_end, negative: unknown.
bool journal_is_of(const struct journal_info *j, const char *id1, const char *id2, int64_t id2_end);

struct journal;
struct journal_reader;

// Opens or creates, takes the lock, recovers what is valid. A damaged journal opens with what is
// sound (possibly nothing) and logs what it dropped; errors are for what cannot be used at all
// (locked: ERR_LOCKED, not permitted, no space, not a directory).
int journal_open(struct journal **out, const struct journal_options *o, struct err *e) must_check;
// Records a clean end. Readers must be closed first.
void journal_close(struct journal *j);
void journal_get_info(const struct journal *j, struct journal_info *info);

// Full sync: forgets everything held and begins a snapshot that ends at position `offset`.
int journal_begin_snapshot(struct journal *j, const char *replid, uint64_t offset, uint64_t size,
                           struct err *e) must_check;
// A place to recv what comes next in the snapshot (at least 1 byte), good until any other call.
// ERR_FULL: the limit is reached, try again after readers released. -ENOSPC, -EIO: say so; -ENOSPC
// passes when there is room again.
int journal_snapshot_space(struct journal *j, char **p, size_t *n, struct err *e) must_check;
// The first n bytes of that place are the snapshot's next. An error: nothing was taken, and the
// journal is unusable until journal_close.
int journal_snapshot_commit(struct journal *j, size_t n, struct err *e) must_check;
// The snapshot is whole; final_size drops a trailing $EOF: marker. The log begins at its offset.
int journal_end_snapshot(struct journal *j, uint64_t final_size, struct err *e) must_check;

// Forgets everything and begins an empty log after position `offset` (the target was further).
int journal_begin_log(struct journal *j, const char *replid, uint64_t offset,
                      struct err *e) must_check;
// As for the snapshot.
int journal_log_space(struct journal *j, char **p, size_t *n, struct err *e) must_check;
int journal_log_commit(struct journal *j, size_t n, struct err *e) must_check;

// The source goes on under a new id: the old one becomes replid2, valid up to `offset`.
int journal_set_replid(struct journal *j, const char *replid, uint64_t offset,
                       struct err *e) must_check;
// Notes which db is selected at a position (for readers that start there) and the wall clock.
void journal_mark(struct journal *j, uint64_t offset, int db, int64_t unix_ms);
struct journal_mark {
    uint64_t offset;
    int db;
    int64_t unix_ms;
};
// The newest mark at or before a position; false when there is none. Marks of the far past are
// thinned out, so the db holds at the mark's offset only.
bool journal_find_mark(const struct journal *j, uint64_t position, struct journal_mark *out);
// The oldest one at or after a position.
bool journal_next_mark(const struct journal *j, uint64_t position, struct journal_mark *out);

// Flush policy, retention, metadata. Call about every 100 ms. Returns an error once when the disk
// fails (a failed fsync, a vanished directory, damage seen by the SIGBUS guard); the journal is
// then unusable until journal_close.
int journal_tick(struct journal *j, struct err *e) must_check;
// True once a mapped page could not be read or written; what was read since may be zeros, so check
// before anything read is sent on.
bool journal_damaged(const struct journal *j);

// A reader pins everything from its release position on. A new one pins from the left edge. While
// no reader is open nothing that was not released before is dropped; who wants a log without
// readers (a follower) keeps one open and releases. A begin makes open readers stale: their views
// fail with -ERANGE, their pointers stay valid until they close.
struct journal_reader *journal_reader_open(struct journal *j);
void journal_reader_close(struct journal_reader *r);
// All log bytes after position `from`, contiguous. Pointers stay valid until the reader releases
// past them or closes. n == 0 when there are none yet. ERR_CORRUPT: verify_crc failed (e names
// file and offset); -ERANGE: `from` is not held.
int journal_log_view(struct journal_reader *r, uint64_t from, const char **p, size_t *n,
                     struct err *e) must_check;
// Snapshot bytes from index `from` on, contiguous, valid likewise.
int journal_snapshot_view(struct journal_reader *r, uint64_t from, const char **p, size_t *n,
                          struct err *e) must_check;
// Nothing at or before this log position, or below this snapshot index, is needed any more.
// (The storer keeps files for others and for resumption as retention allows; the memory type
// frees them.) Releasing log from the snapshot's offset on releases the snapshot as well.
void journal_log_release(struct journal_reader *r, uint64_t position);
void journal_snapshot_release(struct journal_reader *r, uint64_t index);

// A guest pins nothing: retention, trimming and the readers go on as if it were not there. What is
// no longer held it is told by -ERANGE, after a begin for ever. It must be closed before the
// journal is.
struct journal_guest;
struct journal_guest *journal_guest_open(struct journal *j);
void journal_guest_close(struct journal_guest *g);
// As journal_log_view and journal_snapshot_view, but not always to the end of what is held, and the
// bytes may be touched only until the caller returns to the loop or calls anything else here.
int journal_guest_log(struct journal_guest *g, uint64_t from, const char **p, size_t *n,
                      struct err *e) must_check;
int journal_guest_snapshot(struct journal_guest *g, uint64_t from, const char **p, size_t *n,
                           struct err *e) must_check;
// Gives back the room of a file that was dropped while the guest had it. Call from time to time.
void journal_guest_tidy(struct journal_guest *g);

// A snapshot that the target holds a part of is kept aside by the begin that forgets it, and by the
// recovery that drops it, so that its keys can be taken back; within max_size, by the storer only.
//
// The target gets keys of the snapshot from now on; on record when this returns.
int journal_load_begun(struct journal *j, struct err *e) must_check;
// The target has all of the snapshot, or is beyond it: nothing is to be taken back any more.
void journal_load_finished(struct journal *j);
// Other keys that are to be taken back with them: an RDB file in pieces, of which the values do not
// count. Kept, on the disk, when the end returns; the begin of a snapshot may follow at once.
// -ENOTSUP: by the memory type. An error ends it, and nothing is kept.
int journal_aside_begin(struct journal *j, struct err *e) must_check;
int journal_aside_put(struct journal *j, const void *p, size_t n, struct err *e) must_check;
int journal_aside_end(struct journal *j, struct err *e) must_check;
// How many are kept aside.
size_t journal_asides(const struct journal *j);
// A reader of the i-th that takes journal_snapshot_view, journal_snapshot_release and
// journal_reader_close. Its end may be missing. What was done counts as not done. NULL: e says why.
struct journal_reader *journal_aside_open(struct journal *j, size_t i, struct err *e);
// They are taken back; they go when room is needed.
void journal_asides_done(struct journal *j);
void journal_drop_asides(struct journal *j);

#endif

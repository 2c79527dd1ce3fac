// SPDX-License-Identifier: Apache-2.0
// The file behind the dead letters. "gunyuDL1" and then records, little endian:
//   u32 magic "GDLR", u32 length n of the payload, u64 XXH3 of the payload, n bytes of payload.
// A payload begins with a byte for its kind: an entry, or a mark that ids first..last are dropped.
// Records are only ever appended, each with one write under flock, so a running process and the
// command line can both write.
#ifndef GUNYU_TARGET_DEADLETTER_FILE_H
#define GUNYU_TARGET_DEADLETTER_FILE_H

#include <sys/types.h>

#include "base/buf.h"
#include "target/deadletter.h"

struct deadletter_file {
    int fd;
    char *path;             // owns
    off_t end;              // bytes read or written so far; a record boundary
    uint64_t last_id;       // highest id given
    uint64_t live;          // entries not dropped
    unsigned char *dropped; // owns; one bit an id
    size_t dropped_cap;
    struct buf io;
};

// Called for each entry that a scan meets, with slices valid during the call. Non-zero ends it.
typedef int (*deadletter_fn)(void *ctx, const struct deadletter_entry *entry, struct err *e);

// flags: O_RDONLY or O_RDWR, O_CREAT. Checks that the file is one of ours.
int deadletter_file_open(struct deadletter_file *f, const char *path, int flags,
                         struct err *e) must_check;
void deadletter_file_close(struct deadletter_file *f); // zeroed or failed to open: harmless
int deadletter_file_lock(struct deadletter_file *f, struct err *e) must_check;
void deadletter_file_unlock(struct deadletter_file *f);

// Reads the records behind f->end, keeps last_id, live and the dropped ids, and calls fn (may be
// NULL) for each entry. Damaged bytes between sound records are stepped over with a warning. A tail
// that is no whole record is cut off when `repair` (only under the lock), else left alone.
int deadletter_file_scan(struct deadletter_file *f, bool repair, deadletter_fn fn, void *ctx,
                         struct err *e) must_check;
bool deadletter_file_is_dropped(const struct deadletter_file *f, uint64_t id);
// Under the lock, after a scan. Both return when the record is on disk.
int deadletter_file_append(struct deadletter_file *f, const struct deadletter_entry *entry,
                           struct err *e) must_check;
int deadletter_file_drop(struct deadletter_file *f, uint64_t first, uint64_t last,
                         struct err *e) must_check;

#endif

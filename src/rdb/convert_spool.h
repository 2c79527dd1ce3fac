// SPDX-License-Identifier: Apache-2.0
// Bytes that have to wait, because what stands before them in the file is known only after them: in
// memory while they are few, then in a file without a name.
#ifndef GUNYU_RDB_CONVERT_SPOOL_H
#define GUNYU_RDB_CONVERT_SPOOL_H

#include "base/buf.h"
#include "base/err.h"

#define SPOOL_MEMORY ((size_t)4 << 20)

// Zeroed is empty and valid.
struct spool {
    const char *dir; // where its file goes; NULL: $TMPDIR or /var/tmp
    struct buf buf;  // what is not in the file yet; when reading, what was read ahead
    size_t at;       // in buf, when reading
    int fd_plus_1;   // 0: no file
    uint64_t size;   // bytes put
    uint64_t left;   // of the file, to be read
    struct err failure;
};

// A file without a name, for reading and writing, or an error. dir: see above.
int spool_file(const char *dir, struct err *e) must_check;
void spool_free(struct spool *s);
void spool_clear(struct spool *s); // empty again; a big file is given back
// The first failure stays and is reported by spool_rewind.
void spool_put(struct spool *s, const void *p, size_t n);
// Writes over bytes that were put before.
void spool_patch(struct spool *s, uint64_t at, const void *p, size_t n);
// From putting to getting.
int spool_rewind(struct spool *s, struct err *e) must_check;
// The next bytes, at most n of them; empty at the end. Valid until the next call.
int spool_get(struct spool *s, size_t n, struct slice *out, struct err *e) must_check;
// Exactly n bytes into dst.
int spool_read(struct spool *s, void *dst, size_t n, struct err *e) must_check;

#endif

// SPDX-License-Identifier: Apache-2.0
// The bytes of a file or of standard input, decompressed when their first bytes say gzip, zstd or
// lz4. Several compressed members one after the other are one file.
#ifndef GUNYU_RDB_UNPACK_H
#define GUNYU_RDB_UNPACK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct unpack;

// "-" is standard input. Errors name the path.
int unpack_open(struct unpack **out, const char *path, struct err *e) must_check;
void unpack_close(struct unpack *u);
// At most n bytes into dst; *got is 0 only at the end. ERR_CORRUPT when the compressed data is
// broken or ends too early.
int unpack_read(struct unpack *u, char *dst, size_t n, size_t *got, struct err *e) must_check;

const char *unpack_name(const struct unpack *u); // the path; "standard input"
uint64_t unpack_size(const struct unpack *u);    // of the file itself; 0 unknown
uint64_t unpack_done(const struct unpack *u);    // bytes of the file itself that were used

#endif

// SPDX-License-Identifier: Apache-2.0
// What `gunyu journal list|verify|print DIR` does: reading a journal directory without changing it,
// whether its owner runs or not.
#ifndef GUNYU_JOURNAL_INSPECT_H
#define GUNYU_JOURNAL_INSPECT_H

#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

// One line for the journal, one for each file. Of a directory that holds journals (dirPath of the
// configuration), each of them under its path.
int inspect_list(const char *path, FILE *out, struct err *e) must_check;
// Checks every sum, the snapshot's own checksum, and that the log is contiguous. One line a file;
// ERR_CORRUPT when anything is wrong, after looking at everything.
int inspect_verify(const char *path, FILE *out, struct err *e) must_check;
// Writes the log bytes after position `from`, at most `limit` (0: all), as they are; from 0 means
// the left edge. The bytes of a segment are checked before they are written.
int inspect_print(const char *path, uint64_t from, uint64_t limit, FILE *out,
                  struct err *e) must_check;

#endif

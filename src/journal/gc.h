// SPDX-License-Identifier: Apache-2.0
// Journals that nobody comes back for.
#ifndef GUNYU_JOURNAL_GC_H
#define GUNYU_JOURNAL_GC_H

#include <stdint.h>

#include "base/err.h"

// Removes from the directory `root` the journals below it that nobody has open and nothing was
// written to for max_age_ms, except those named keep[0..n). A directory without a journal's files
// is left alone, and so is every file that a journal does not make, together with its directory.
// *removed counts the journals. A root that does not exist has none. Blocking.
int journal_gc(const char *root, const char *const *keep, int n, int64_t max_age_ms, int64_t now_ms,
               int *removed, struct err *e) must_check;

#endif

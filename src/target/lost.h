// SPDX-License-Identifier: Apache-2.0
// Writes that a source has lost after the journal had received them, as when a replica becomes the
// master that never got them. The keys that they name are kept aside in the journal, so that they
// are taken back (takeback.h) before the snapshot is loaded that begins the other history.
#ifndef GUNYU_TARGET_LOST_H
#define GUNYU_TARGET_LOST_H

#include "flow/filter.h"
#include "journal/journal.h"

struct lost_options {
    struct journal *journal;
    const struct filter *filter; // as of the stream; NULL: none; borrowed
    uint64_t from;               // the end of the history that is shared
};

struct lost_result {
    uint64_t from;    // what lies behind this is covered; beyond o.from: the journal knows no more
    uint64_t keys;    // that are kept, some maybe more than once
    uint64_t unknown; // commands whose keys cannot be told
};

// Of the log behind o.from: each key that a command names, in each db that it names it in. On the
// disk when this returns. -ENOENT: the journal does not tell where a command begins there; other
// errors as journal_aside_begin.
int lost_keep(const struct lost_options *o, struct lost_result *out, struct err *e) must_check;

#endif

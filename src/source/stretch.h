// SPDX-License-Identifier: Apache-2.0
// Reads a stretch of a source's stream over a connection of its own. Blocking; for a pool thread.
#ifndef GUNYU_SOURCE_STRETCH_H
#define GUNYU_SOURCE_STRETCH_H

#include <stdatomic.h>

#include "source/psync.h"

struct stretch {
    struct endpoint endpoint; // owns; of the node itself
    struct psync_options options;
    struct link_request from; // its id and what it begins behind
    uint64_t to;              // its last byte
    atomic_bool cancel;       // end soon, with an error
    // The next bytes of it; not 0: an error of its own, which ends it.
    int (*take)(void *ctx, const char *p, size_t n, struct err *e);
    void *ctx;
};

// -ERANGE: the source no longer has it.
int stretch_read(struct stretch *s, struct err *e) must_check;

#endif

// SPDX-License-Identifier: Apache-2.0
// Removing what is left of sources that nobody syncs any more.
#ifndef GUNYU_CONTROL_GC_H
#define GUNYU_CONTROL_GC_H

#include "control/config.h"

struct gc_lane {
    const char *name; // the journal is called after it
    char replid[41];  // "": not known yet
};

// Positions in the targets and journals below channel.storer.dirPath that are ours and were not
// touched for channel.staleCheckpointDuration, except those of the lanes. While a lane does not
// know its source's replication id, no position is removed: it may be that lane's. Blocking.
int gc_run(const struct config *cfg, const struct gc_lane *lanes, size_t n,
           struct err *e) must_check;

#endif

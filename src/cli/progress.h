// SPDX-License-Identifier: Apache-2.0
// What `gunyu sync` shows: one live line on a terminal, a plain line every few seconds elsewhere.
#ifndef GUNYU_CLI_PROGRESS_H
#define GUNYU_CLI_PROGRESS_H

#include "base/meter.h"
#include "control/supervisor.h"

struct progress {
    struct meter meter;
};

void progress_start(struct progress *p);
// Call a few times a second.
void progress_update(struct progress *p, struct supervisor *s);
// Leaves the line.
void progress_end(struct progress *p);

#endif

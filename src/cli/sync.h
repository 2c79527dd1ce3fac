// SPDX-License-Identifier: Apache-2.0
#ifndef GUNYU_CLI_SYNC_H
#define GUNYU_CLI_SYNC_H

#include "control/cli_args.h"

// Runs until a signal or DELETE / ends it. Returns the exit code.
int cli_sync(const struct cli_args *args);

#endif

// SPDX-License-Identifier: Apache-2.0
// `gunyu status`: a running gunyu, or the whole group that it belongs to, as a table.
#ifndef GUNYU_CLI_STATUS_H
#define GUNYU_CLI_STATUS_H

#include "control/cli_args.h"

// Exit codes: fine; failed when a node does not answer, a shard has no leader or a lane an error.
int cli_status(const struct cli_args *a);

#endif

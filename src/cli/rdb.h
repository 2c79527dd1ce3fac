// SPDX-License-Identifier: Apache-2.0
#ifndef GUNYU_CLI_RDB_H
#define GUNYU_CLI_RDB_H

#include "control/cli_args.h"

// `gunyu rdb VERB ...`, and redisGunYu's form of it (-cmd=rdb -conf FILE). Returns the exit code.
int cli_rdb(const struct cli_args *args);

#endif

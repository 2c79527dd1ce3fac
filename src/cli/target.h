// SPDX-License-Identifier: Apache-2.0
// Commands that work on a target without syncing.
#ifndef GUNYU_CLI_TARGET_H
#define GUNYU_CLI_TARGET_H

#include "control/cli_args.h"
#include "net/endpoint.h"

// The target of --to, or that of -conf, or --to with what -conf says about TLS and login. Findings
// about the file go to stderr. Free *out in any case.
int cli_target(const struct cli_args *a, struct endpoint *out, struct err *e) must_check;

// Sets the expiries that a stopped gunyu has left far (flow/expiry.h) and says on `out` how many.
// ERR_LOCKED while a lane is connected to the target.
int cli_settle(const struct endpoint *target, FILE *out, struct err *e) must_check;

#endif

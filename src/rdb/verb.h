// SPDX-License-Identifier: Apache-2.0
// What the rdb commands share at their edge: options, error lines, exit codes (those of
// control/cli_args.h).
#ifndef GUNYU_RDB_VERB_H
#define GUNYU_RDB_VERB_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "control/cli_args.h"

// Own options with an end row, in one table with those of the selection. Returns new.
struct option *verb_options(const struct option *own, bool with_selection);
// The next option as getopt_long gives it (a letter as value is a short option, too), -1 at the
// end. What is wrong is printed, and '?' returned. argv[0] is the command's name.
int verb_option(int argc, char **argv, const struct option *options);
// Print "gunyu rdb <verb>: <text>" and return the exit code.
int verb_usage(const char *verb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int verb_failed(const char *verb, const struct err *e);
// A size with an optional k, m, g or t (powers of 1024, any case, "kb" and "KiB" too).
bool verb_size(const char *text, uint64_t *out);
// A time span in s, m, h, d or ms; a number alone counts seconds.
bool verb_span_ms(const char *text, int64_t *out);

#endif

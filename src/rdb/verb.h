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
#include "rdb/select.h"

// The options of a command; "help" is one of all of them.
struct verb_syntax {
    const struct option *own; // a letter as value is a short option, too
    // Of an own option: EXIT_FINE, or the exit code after a line was printed. NULL: there are none.
    int (*take)(void *job, int option, const char *arg);
    const char *help;            // what --help prints first
    struct selection *wanted;    // the options of the selection set this; NULL: there are none
    struct rdb_unknown *unknown; // --unknown sets this; NULL: there is no such option
    // For verb_run. The words after the options: -1 to go on, or the exit code after a line.
    int (*words)(void *job, int n, char **words);
    int (*run)(void *job, struct err *e);
};
// Reads the options. -1: go on, words begin at optind. Else the exit code, after --help or a line
// that says what is wrong. argv[0] is the command's name.
int verb_parse(const struct verb_syntax *s, void *job, int argc, char **argv);
// The whole of a command with both: options, words, the work, what was skipped. Frees wanted.
// Returns the exit code.
int verb_run(const struct verb_syntax *s, void *job, int argc, char **argv);
// One line a thing that was skipped on standard error, after one with their number.
void verb_skipped(const char *verb, struct rdb_unknown *u);
// Print "gunyu rdb <verb>: <text>" and return the exit code.
int verb_usage(const char *verb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int verb_failed(const char *verb, const struct err *e);
// A size with an optional k, m, g or t (powers of 1024, any case, "kb" and "KiB" too).
bool verb_size(const char *text, uint64_t *out);
// A time span in s, m, h, d or ms; a number alone counts seconds.
bool verb_span_ms(const char *text, int64_t *out);

#endif

// SPDX-License-Identifier: Apache-2.0
// The command line: redisGunYu's (-cmd, -conf, --sync.*, ...) and ours (sync --from --to, config
// check FILE, ...). Flags may stand anywhere; -x and --x, -x=v and -x v are the same.
#ifndef GUNYU_CONTROL_CLI_ARGS_H
#define GUNYU_CONTROL_CLI_ARGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

// Exit codes, documented in the man page.
enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

enum cli_command {
    CLI_SYNC,
    CLI_RDB,
    CLI_AOF,
    CLI_CONFIG,     // check FILE, show FILE, docs
    CLI_JOURNAL,    // list|verify|print DIR
    CLI_DEADLETTER, // list|retry|drop FILE
    CLI_SETTLE,
    CLI_STATUS,
    CLI_VERSION,
    CLI_HELP,
};

// Strings borrow from argv.
struct cli_args {
    enum cli_command command;
    const char *conf;      // NULL: none
    const char *from, *to; // URIs; NULL: none
    const char *url;       // of an API; NULL: none
    bool watch;
    char **flags; // owns the array: --sync.* and --rdb.* with their values, in order
    int flags_n;
    char **rest; // owns the array: words after the command; all of them, options too, after `rdb`
    int rest_n;
    bool rdb_scope; // the configuration is the rdb command's
    struct {
        const char *action; // parse, verify, cmd
        const char *path;
        int64_t offset, size; // 0; -1: all
    } aof;
};

// 0, or ERR_CONFIG with one line in e (then exit with 2 after showing it). Free in both cases.
int cli_args_parse(struct cli_args *out, int argc, char *const *argv, struct err *e) must_check;
void cli_args_free(struct cli_args *a);
const char *cli_command_name(enum cli_command c);
// What -h shows.
void cli_usage(FILE *f);
// All --sync.* or --rdb.* flags with their help, one a line (for -h and completions).
void cli_usage_flags(FILE *f, bool rdb);
// The flags that are not keys, as a Markdown table.
void cli_docs(struct buf *out);

#endif

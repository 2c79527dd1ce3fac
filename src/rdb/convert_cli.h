// SPDX-License-Identifier: Apache-2.0
// What filter, split, merge, convert and dump share on the command line.
#ifndef GUNYU_RDB_CONVERT_CLI_H
#define GUNYU_RDB_CONVERT_CLI_H

#include "base/meter.h"
#include "net/endpoint.h"
#include "rdb/convert_value.h"
#include "rdb/verb.h"

enum {
    OPTION_ZSTD = 0x4000,
    OPTION_GZIP,
    OPTION_QUIET,
    OPTION_DEGRADE,
    OPTION_TLS,
    OPTION_OWN = OPTION_TLS + 5
};

#define OUTPUT_OPTIONS                                                                             \
    {"output", required_argument, NULL, 'o'}, {"zstd", no_argument, NULL, OPTION_ZSTD},            \
        {"gzip", no_argument, NULL, OPTION_GZIP},                                                  \
    {                                                                                              \
        "quiet", no_argument, NULL, OPTION_QUIET                                                   \
    }
#define OUTPUT_HELP                                                                                \
    "  -o, --output FILE   where to write; \"-\" is standard output\n"                             \
    "      --zstd, --gzip  compress it\n"                                                          \
    "      --quiet         no progress and no summary\n"

struct cli_output {
    const char *path; // NULL: not given
    enum rdb_out_format format;
    bool quiet;
    bool degrade;
    struct rdb_unknown *unknown; // policy for the input
};

// True when the option was one of OUTPUT_OPTIONS.
bool cli_output_option(struct cli_output *o, int option, const char *arg);
// Directory of the output, where temporary files may go too; NULL for standard output. Returns new.
char *cli_output_dir(const struct cli_output *o);

// For those who write values anew.
#define DEGRADE_OPTION                                                                             \
    {                                                                                              \
        "degrade", no_argument, NULL, OPTION_DEGRADE                                               \
    }
#define DEGRADE_HELP                                                                               \
    "      --degrade       leave out what the output cannot hold, and say how much\n"

// How to log in to a server, beside what its URI says.
#define LOGIN_OPTIONS                                                                              \
    {"cacert", required_argument, NULL, OPTION_TLS},                                               \
        {"cert", required_argument, NULL, OPTION_TLS + 1},                                         \
        {"key", required_argument, NULL, OPTION_TLS + 2},                                          \
        {"sni", required_argument, NULL, OPTION_TLS + 3},                                          \
    {                                                                                              \
        "insecure", no_argument, NULL, OPTION_TLS + 4                                              \
    }
#define LOGIN_HELP                                                                                 \
    "      --cacert FILE        with rediss://: who may sign the server's certificate\n"           \
    "      --cert FILE, --key FILE  our own certificate\n"                                         \
    "      --sni NAME           the server's name in its certificate\n"                            \
    "      --insecure           do not check the server's certificate\n"

struct cli_login {
    const char *files[4]; // cacert, cert, key, sni; NULL: not given
    bool insecure;
};
bool cli_login_option(struct cli_login *l, int option, const char *arg);
// Free *out in any case.
int cli_login_endpoint(const struct cli_login *l, const char *uri, struct endpoint *out,
                       struct err *e) must_check;

// The words after the options: one file; and there is an output. -1, or the exit code of what was
// printed.
int cli_one_file(const char *verb, const struct cli_output *o, int n, char **words,
                 const char **path);

// Progress over one input, on a terminal only.
struct cli_progress {
    struct meter meter;
    bool on;
    unsigned tick;
    const char *verb;
};
void cli_progress_start(struct cli_progress *p, const char *verb, const struct cli_output *o);
// Cheap enough for each item.
void cli_progress_step(struct cli_progress *p, const struct rdb_input *in, uint64_t keys);
void cli_progress_end(struct cli_progress *p);

// One line on standard error: keys, and what was left out.
void cli_summary(const char *verb, const struct cli_output *o, const struct transfer *t);

// The version to write what an input holds without converting it.
struct rdb_target cli_same_version(struct rdb_input *in);
// Opens an input and reads up to its first item, so that its version is known. Returns RDB_ITEM,
// RDB_DONE or an error (then *in is NULL).
int cli_input_open(struct rdb_input **in, const char *path, const struct cli_output *o,
                   struct rdb_item *first, struct err *e) must_check;
// Ends a file: commits it, or discards it when rc says that it went wrong. Frees both.
int cli_end_file(struct rdb_writer *w, struct rdb_out *out, int rc, struct err *e) must_check;
// Gives fn that first item (rc is what came with it) and all that follow, until one is answered by
// other than 0. *keys, for the progress, is how many were seen. 0 at the file's end.
typedef int cli_item_fn(void *ctx, struct rdb_input *in, struct rdb_item *item, struct err *e);
int cli_each_item(struct cli_progress *p, struct rdb_input *in, struct rdb_item *item, int rc,
                  const uint64_t *keys, cli_item_fn *fn, void *ctx, struct err *e) must_check;

#endif

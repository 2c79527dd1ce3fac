// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/rdb.h"
#include "cli/status.h"
#include "cli/sync.h"
#include "cli/target.h"
#include "control/config.h"
#include "control/metrics.h"
#include "journal/inspect.h"
#include "target/deadletter.h"

static int report(int rc, const struct err *e)
{
    if (rc == 0)
        return EXIT_FINE;
    fprintf(stderr, "gunyu: %s\n", e->msg);
    return rc == ERR_CONFIG ? EXIT_USAGE : EXIT_FAILED;
}

static int usage(const char *line)
{
    fprintf(stderr, "usage: gunyu %s\n", line);
    return EXIT_USAGE;
}

static bool word(const struct cli_args *a, int i, const char *s)
{
    return i < a->rest_n && strcmp(a->rest[i], s) == 0;
}

static bool number(const struct cli_args *a, int i, int64_t missing, int64_t *out)
{
    *out = missing;
    return i >= a->rest_n || slice_i64(slice_cstr(a->rest[i]), out);
}

static int show_config(const char *path, enum config_scope scope)
{
    struct config *c = NULL;
    struct config_diags d = {0};
    int rc = config_load_file(&c, scope, path, &d);
    config_diags_print(&d, stderr);
    config_diags_free(&d);
    if (rc == 0) {
        struct buf text = {0};
        config_to_yaml(c, true, &text);
        fwrite(text.p, 1, text.n, stdout);
        buf_free(&text);
    }
    config_free(c);
    return rc == 0 ? EXIT_FINE : EXIT_USAGE;
}

static int cli_config(const struct cli_args *a)
{
    enum config_scope scope = a->rdb_scope ? CONFIG_RDB : CONFIG_SYNC;
    if (word(a, 0, "check") && a->rest_n == 2)
        return config_check(a->rest[1], scope, stdout) == 0 ? EXIT_FINE : EXIT_USAGE;
    if (word(a, 0, "show") && a->rest_n == 2)
        return show_config(a->rest[1], scope);
    if (word(a, 0, "docs") && a->rest_n == 1) {
        struct buf text = {0};
        config_docs(&text);
        fwrite(text.p, 1, text.n, stdout);
        buf_free(&text);
        return EXIT_FINE;
    }
    if (word(a, 0, "docs") && word(a, 1, "metrics")) {
        metrics_write_docs(stdout);
        return EXIT_FINE;
    }
    return usage("config check FILE | show FILE | docs [metrics]");
}

static int cli_journal(const struct cli_args *a)
{
    struct err e = {0};
    int64_t from, limit;
    if (word(a, 0, "list") && a->rest_n == 2)
        return report(inspect_list(a->rest[1], stdout, &e), &e);
    if (word(a, 0, "verify") && a->rest_n == 2)
        return report(inspect_verify(a->rest[1], stdout, &e), &e);
    if (word(a, 0, "print") && a->rest_n >= 2 && a->rest_n <= 4 && number(a, 2, 0, &from) &&
        number(a, 3, 0, &limit) && from >= 0 && limit >= 0)
        return report(inspect_print(a->rest[1], (uint64_t)from, (uint64_t)limit, stdout, &e), &e);
    return usage("journal list DIR | verify DIR | print DIR [POSITION [BYTES]]");
}

static int cli_deadletter(const struct cli_args *a)
{
    struct err e = {0};
    int64_t id;
    bool json = word(a, 2, "json") && a->rest_n == 3, counted = a->rest_n == 2 || a->rest_n == 3;
    bool numbered = counted && number(a, 2, -1, &id) && (a->rest_n == 2 || id >= 0);
    if (word(a, 0, "list") && (json || a->rest_n == 2))
        return report(deadletter_list(a->rest[1], stdout, json, &e), &e);
    if (word(a, 0, "drop") && numbered)
        return report(deadletter_drop(a->rest[1], id, &e), &e);
    if (!word(a, 0, "retry") || !numbered || !(a->to || a->conf))
        return usage("deadletter list FILE [json] | retry FILE [ID] --to URI | drop FILE [ID]");
    struct endpoint to;
    int rc = cli_target(a, &to, &e);
    if (rc == 0)
        rc = deadletter_retry(a->rest[1], &to, id, stdout, &e);
    endpoint_free(&to);
    return report(rc, &e);
}

static int cli_settle_target(const struct cli_args *a)
{
    struct err e = {0};
    if (a->rest_n || !(a->to || a->conf))
        return usage("settle --to URI | -conf FILE");
    struct endpoint to;
    int rc = cli_target(a, &to, &e);
    if (rc == 0)
        rc = cli_settle(&to, stdout, &e);
    endpoint_free(&to);
    return report(rc, &e);
}

static int cli_aof(const struct cli_args *a)
{
    (void)a;
    fputs("gunyu: -cmd=aof reads redisGunYu's store, which gunyu does not use; its own is read by "
          "`gunyu journal list|verify|print DIR`\n",
          stderr);
    return EXIT_USAGE;
}

static int cli_version(const struct cli_args *a)
{
    (void)a;
    printf("gunyu %s\n", GUNYU_VERSION);
    return EXIT_FINE;
}

static int cli_help(const struct cli_args *a)
{
    (void)a;
    cli_usage(stdout);
    return EXIT_FINE;
}

static int (*const commands[])(const struct cli_args *) = {
    [CLI_SYNC] = cli_sync,
    [CLI_RDB] = cli_rdb,
    [CLI_AOF] = cli_aof,
    [CLI_CONFIG] = cli_config,
    [CLI_JOURNAL] = cli_journal,
    [CLI_DEADLETTER] = cli_deadletter,
    [CLI_SETTLE] = cli_settle_target,
    [CLI_STATUS] = cli_status,
    [CLI_VERSION] = cli_version,
    [CLI_HELP] = cli_help,
};

int main(int argc, char **argv)
{
    // Dials and lookups block pool threads up to their deadlines; fsync must not wait for them.
    setenv("UV_THREADPOOL_SIZE", "16", 0);
    signal(SIGPIPE, SIG_IGN);
    struct cli_args a;
    struct err e = {0};
    int rc = cli_args_parse(&a, argc, argv, &e);
    rc = rc ? report(rc, &e) : commands[a.command](&a);
    cli_args_free(&a);
    return rc;
}

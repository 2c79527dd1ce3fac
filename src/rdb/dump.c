// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rdb/commands.h"
#include "rdb/convert_cli.h"
#include "rdb/dump_pull.h"

enum { OPTION_FROM = OPTION_OWN, OPTION_PSYNC };

static const struct option own_options[] = {
    OUTPUT_OPTIONS,
    LOGIN_OPTIONS,
    {"from", required_argument, NULL, OPTION_FROM},
    {"psync-command", required_argument, NULL, OPTION_PSYNC},
    {0},
};

struct dump_job {
    struct cli_output output;
    struct cli_login login;
    const char *from, *psync_command;
    struct meter meter;
    bool meter_on;
};

static const char help[] =
    "usage: gunyu rdb dump --from URI [OPTIONS] -o OUTPUT\n\n"
    "Has a server make an RDB file as it does for a replica, and writes it.\n\n"
    "      --from URI           redis://[user[:password]@]host[:port], rediss:// or unix://\n"
    "      --psync-command WORD where PSYNC is renamed\n" LOGIN_HELP OUTPUT_HELP;

static void on_progress(void *arg, uint64_t have, uint64_t size)
{
    struct dump_job *job = arg;
    if (!job->meter_on)
        return;
    meter_count(&job->meter, 0, have);
    if (!meter_due(&job->meter))
        return;
    char got[32], rate[32], percent[16] = "", line[128];
    meter_human(got, sizeof(got), (double)have, "B");
    meter_human(rate, sizeof(rate), job->meter.byte_rate, "B");
    if (size)
        snprintf(percent, sizeof(percent), " %.0f%%", 100.0 * (double)have / (double)size);
    if (have)
        snprintf(line, sizeof(line), "dump:%s %s, %s/s", percent, got, rate);
    else
        snprintf(line, sizeof(line), "dump: the server prepares its snapshot");
    meter_show(&job->meter, line);
}

static int run(struct dump_job *job, struct err *e)
{
    struct endpoint ep;
    struct rdb_out *out = NULL;
    struct pull_result result = {0};
    int rc = cli_login_endpoint(&job->login, job->from, &ep, e);
    if (rc == 0)
        rc = rdb_out_open(&out, job->output.path, job->output.format, e);
    if (rc == 0) {
        struct pull_options o = {.endpoint = &ep,
                                 .psync_command = job->psync_command,
                                 .progress = on_progress,
                                 .arg = job};
        job->meter_on = !job->output.quiet && isatty(STDERR_FILENO);
        if (job->meter_on)
            meter_start(&job->meter, stderr);
        rc = pull_snapshot(&o, out, &result, e);
        if (job->meter_on)
            meter_end(&job->meter);
        if (rc == 0)
            rc = rdb_out_commit(out, e);
        else
            rdb_out_discard(out);
    }
    if (rc == 0 && !job->output.quiet)
        fprintf(stderr, "gunyu rdb dump: %llu bytes, %sRDB version %d%s\n",
                (unsigned long long)result.bytes, result.target.valkey ? "Valkey " : "",
                result.target.version, result.checked ? "" : ", without a checksum");
    endpoint_free(&ep);
    return rc;
}

static int take_option(void *arg, int c, const char *value)
{
    struct dump_job *job = arg;
    if (c == OPTION_FROM)
        job->from = value;
    else if (c == OPTION_PSYNC)
        job->psync_command = value;
    else if (!cli_output_option(&job->output, c, value))
        cli_login_option(&job->login, c, value);
    return EXIT_FINE;
}

int rdb_dump_main(int argc, char **argv)
{
    struct dump_job job = {.psync_command = "PSYNC"};
    const struct verb_syntax syntax = {.own = own_options, .take = take_option, .help = help};
    struct err e = {0};
    int code = verb_parse(&syntax, &job, argc, argv);
    if (code < 0 && optind != argc)
        code = verb_usage("dump", "\"%.40s\" is not an option; the server is named with --from",
                          argv[optind]);
    if (code < 0 && !job.from)
        code = verb_usage("dump", "say from which server: --from URI");
    if (code < 0 && !job.output.path)
        code = verb_usage("dump", "say where to write: --output FILE, or - for standard output");
    if (code < 0)
        code = run(&job, &e) == 0     ? EXIT_FINE
               : e.code == ERR_CONFIG ? verb_usage("dump", "%s", e.msg)
                                      : verb_failed("dump", &e);
    return code;
}

// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "rdb/commands.h"
#include "rdb/convert_cli.h"

static const struct option own_options[] = {OUTPUT_OPTIONS, DEGRADE_OPTION, {0}};

struct filter_job {
    struct cli_output output;
    struct selection *wanted;
    const char *path;
};

static const char help[] =
    "usage: gunyu rdb filter [OPTIONS] -o OUTPUT FILE\n\n"
    "Writes the selected keys of an RDB file, and its functions, into another of the same "
    "version.\n\n" OUTPUT_HELP DEGRADE_HELP "\n";

static int take_over(const struct filter_job *job, struct rdb_input *in, struct rdb_item *item,
                     int rc, struct transfer *t, struct rdb_writer *w, struct err *e)
{
    struct cli_progress progress;
    cli_progress_start(&progress, "filter", &job->output);
    for (; rc == RDB_ITEM; rc = rdb_input_next(in, item, e)) {
        int done = 0;
        if (item->kind != RDB_KIND_KEY)
            done = transfer_other(t, &w, 1, in, item, e);
        else if (t->items++, selection_wants(job->wanted, item, t->now_ms))
            done = transfer_key(t, w, in, item, NULL, e);
        if (done) {
            rc = done;
            break;
        }
        cli_progress_step(&progress, in, t->items);
    }
    cli_progress_end(&progress);
    return rc == RDB_DONE ? 0 : rc;
}

static int run(const struct filter_job *job, struct err *e)
{
    struct rdb_input *in;
    struct rdb_item item;
    struct rdb_out *out = NULL;
    struct rdb_writer *w = NULL;
    int rc = cli_input_open(&in, job->path, &job->output, &item, e);
    if (rc < 0)
        return rc;
    char *dir = cli_output_dir(&job->output);
    struct transfer t = {
        .now_ms = clock_unix_ms(), .degrade = job->output.degrade, .spool.dir = dir};
    t.target = cli_same_version(in);
    t.size = selection_has_size(job->wanted) ? job->wanted : NULL;
    int opened = rdb_out_open(&out, job->output.path, job->output.format, e);
    if (opened == 0) {
        w = rdb_writer_new(out, t.target);
        rc = take_over(job, in, &item, rc, &t, w, e);
        if (rc == 0) {
            rdb_writer_end(w);
            rc = rdb_out_commit(out, e);
            out = NULL;
        }
    } else {
        rc = opened;
    }
    if (rc == 0)
        cli_summary("filter", &job->output, &t);
    rdb_writer_free(w);
    rdb_out_discard(out);
    rdb_input_close(in);
    transfer_free(&t);
    free(dir);
    return rc;
}

static int take_option(void *arg, int c, const char *value)
{
    struct filter_job *job = arg;
    cli_output_option(&job->output, c, value);
    return EXIT_FINE;
}

int rdb_filter_main(int argc, char **argv)
{
    struct rdb_unknown unknown = {0};
    struct filter_job job = {.output.unknown = &unknown, .wanted = selection_new()};
    const struct verb_syntax syntax = {.own = own_options,
                                       .take = take_option,
                                       .help = help,
                                       .wanted = job.wanted,
                                       .unknown = &unknown};
    struct err e = {0};
    int code = verb_parse(&syntax, &job, argc, argv);
    if (code < 0)
        code = cli_one_file("filter", &job.output, argc, argv, &job.path);
    if (code < 0)
        code = run(&job, &e) ? verb_failed("filter", &e) : EXIT_FINE;
    verb_skipped("filter", &unknown);
    selection_free(job.wanted);
    return code;
}

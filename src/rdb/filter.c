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

struct filter {
    const struct filter_job *job;
    struct transfer t;
    struct rdb_writer *w;
};

static int take_item(void *ctx, struct rdb_input *in, struct rdb_item *item, struct err *e)
{
    struct filter *f = ctx;
    if (item->kind != RDB_KIND_KEY)
        return transfer_other(&f->t, &f->w, 1, in, item, e);
    f->t.items++;
    bool wanted = selection_wants(f->job->wanted, item, f->t.now_ms);
    return wanted ? transfer_key(&f->t, f->w, in, item, NULL, e) : 0;
}

static int run(void *arg, struct err *e)
{
    const struct filter_job *job = arg;
    struct rdb_input *in;
    struct rdb_item item;
    struct rdb_out *out;
    int first = cli_input_open(&in, job->path, &job->output, &item, e);
    if (first < 0)
        return first;
    char *dir = cli_output_dir(&job->output);
    struct filter f = {
        .job = job,
        .t = {.now_ms = clock_unix_ms(), .degrade = job->output.degrade, .spool.dir = dir},
    };
    f.t.target = cli_same_version(in);
    f.t.size = selection_has_size(job->wanted) ? job->wanted : NULL;
    int rc = rdb_out_open(&out, job->output.path, job->output.format, e);
    if (rc == 0) {
        struct cli_progress progress;
        f.w = rdb_writer_new(out, f.t.target);
        cli_progress_start(&progress, "filter", &job->output);
        rc = cli_each_item(&progress, in, &item, first, &f.t.items, take_item, &f, e);
        cli_progress_end(&progress);
        rc = cli_end_file(f.w, out, rc, e);
    }
    if (rc == 0)
        cli_summary("filter", &job->output, &f.t);
    rdb_input_close(in);
    transfer_free(&f.t);
    free(dir);
    return rc;
}

static int take_option(void *arg, int c, const char *value)
{
    struct filter_job *job = arg;
    cli_output_option(&job->output, c, value);
    return EXIT_FINE;
}

static int take_words(void *arg, int n, char **words)
{
    struct filter_job *job = arg;
    return cli_one_file("filter", &job->output, n, words, &job->path);
}

int rdb_filter_main(int argc, char **argv)
{
    struct rdb_unknown unknown = {0};
    struct filter_job job = {.output.unknown = &unknown, .wanted = selection_new()};
    const struct verb_syntax syntax = {.own = own_options,
                                       .take = take_option,
                                       .words = take_words,
                                       .run = run,
                                       .help = help,
                                       .wanted = job.wanted,
                                       .unknown = &unknown};
    return verb_run(&syntax, &job, argc, argv);
}

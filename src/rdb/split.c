// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "codec/slot.h"
#include "rdb/commands.h"
#include "rdb/convert_cli.h"
#include "rdb/split_layout.h"

enum { OPTION_SLOTS = OPTION_OWN, OPTION_CLUSTER, OPTION_NODES };

static const struct option own_options[] = {
    OUTPUT_OPTIONS,
    DEGRADE_OPTION,
    {"slots", required_argument, NULL, OPTION_SLOTS},
    {"cluster", required_argument, NULL, OPTION_CLUSTER},
    {"nodes", required_argument, NULL, OPTION_NODES},
    {0},
};

struct split_job {
    struct cli_output output;
    struct selection *wanted;
    const char *path, *slots, *cluster, *nodes;
};

struct part {
    struct rdb_out *out;
    uint64_t keys;
};

struct split {
    struct layout layout;
    struct part *parts;          // owns
    struct rdb_writer **writers; // owns; one for each part
    uint64_t nowhere;            // keys of slots that no part has
};

static const char help[] =
    "usage: gunyu rdb split --slots RANGES|--cluster URI|--nodes FILE [OPTIONS] -o DIR FILE\n\n"
    "Splits an RDB file by cluster slots into one file a part, each with the functions.\n\n"
    "  -o, --output DIR    where the parts go; it is made when it is missing\n"
    "      --slots RANGES  one part for each: 0-5460,5461-10922,10923-16383; a part of several\n"
    "                      ranges is joined by '+': 0-99+200-299\n"
    "      --cluster URI   the parts are what the masters of this cluster hold\n"
    "      --nodes FILE    the same by a nodes.conf or the output of CLUSTER NODES\n"
    "      --zstd, --gzip  compress the parts\n"
    "      --quiet         no progress and no summary\n" DEGRADE_HELP "\n";

static void split_free(struct split *s)
{
    for (int i = 0; i < s->layout.n; i++) {
        if (s->writers)
            rdb_writer_free(s->writers[i]);
        if (s->parts)
            rdb_out_discard(s->parts[i].out);
    }
    free(s->writers);
    free(s->parts);
    layout_free(&s->layout);
}

static int open_parts(struct split *s, const struct split_job *job, struct rdb_target target,
                      struct err *e)
{
    static const char *const endings[] = {
        [RDB_OUT_PLAIN] = "", [RDB_OUT_ZSTD] = ".zst", [RDB_OUT_GZIP] = ".gz"};
    must(job->output.path);
    if (mkdir(job->output.path, 0777) && errno != EEXIST)
        return err_sys(e, -errno, "%s: cannot make the directory", job->output.path);
    size_t n = (size_t)s->layout.n;
    s->parts = xcalloc(n, sizeof(*s->parts));
    s->writers = xcalloc(n, sizeof(*s->writers));
    for (size_t i = 0; i < n; i++) {
        char *path = xasprintf("%s/%s.rdb%s", job->output.path, s->layout.names[i],
                               endings[job->output.format]);
        int rc = rdb_out_open(&s->parts[i].out, path, job->output.format, e);
        free(path);
        if (rc)
            return rc;
        s->writers[i] = rdb_writer_new(s->parts[i].out, target);
    }
    return 0;
}

static int split_key(struct split *s, struct transfer *t, struct rdb_input *in,
                     const struct rdb_item *item, struct err *e)
{
    int part = s->layout.part_of[slot_of(item->key)];
    if (part < 0) {
        s->nowhere++;
        return 0;
    }
    bool written;
    int rc = transfer_key(t, s->writers[part], in, item, &written, e);
    s->parts[part].keys += rc == 0 && written;
    return rc;
}

static int split_items(struct split *s, const struct split_job *job, struct rdb_input *in,
                       struct rdb_item *item, int rc, struct transfer *t, struct err *e)
{
    struct cli_progress progress;
    cli_progress_start(&progress, "split", &job->output);
    for (; rc == RDB_ITEM; rc = rdb_input_next(in, item, e)) {
        int done = 0;
        if (item->kind != RDB_KIND_KEY)
            done = transfer_other(t, s->writers, (size_t)s->layout.n, in, item, e);
        else if (t->items++, selection_wants(job->wanted, item, t->now_ms))
            done = split_key(s, t, in, item, e);
        if (done) {
            rc = done;
            break;
        }
        cli_progress_step(&progress, in, t->items);
    }
    cli_progress_end(&progress);
    return rc == RDB_DONE ? 0 : rc;
}

// Each part is whole when it has its name, but the set may not be when one fails.
static int commit_parts(struct split *s, struct err *e)
{
    for (int i = 0; i < s->layout.n; i++) {
        rdb_writer_end(s->writers[i]);
        struct rdb_out *out = s->parts[i].out;
        s->parts[i].out = NULL;
        int rc = rdb_out_commit(out, e);
        if (rc && i > 0)
            err_wrap(e, "only %d of %d parts were written", i, s->layout.n);
        if (rc)
            return rc;
    }
    return 0;
}

static void summary(const struct split *s, const struct split_job *job, const struct transfer *t)
{
    if (job->output.quiet)
        return;
    cli_summary("split", &job->output, t);
    for (int i = 0; i < s->layout.n; i++)
        fprintf(stderr, "gunyu rdb split: %s: %llu keys\n", s->layout.names[i],
                (unsigned long long)s->parts[i].keys);
    if (s->nowhere)
        fprintf(stderr, "gunyu rdb split: %llu keys are in slots of no part and were left out\n",
                (unsigned long long)s->nowhere);
}

static int run(struct split *s, const struct split_job *job, struct err *e)
{
    struct rdb_input *in;
    struct rdb_item item;
    int first = cli_input_open(&in, job->path, &job->output, &item, e);
    if (first < 0)
        return first;
    struct transfer t = {
        .now_ms = clock_unix_ms(), .degrade = job->output.degrade, .spool.dir = job->output.path};
    t.target = cli_same_version(in);
    t.size = selection_has_size(job->wanted) ? job->wanted : NULL;
    int rc = open_parts(s, job, t.target, e);
    if (rc == 0)
        rc = split_items(s, job, in, &item, first, &t, e);
    if (rc == 0)
        rc = commit_parts(s, e);
    if (rc == 0)
        summary(s, job, &t);
    rdb_input_close(in);
    transfer_free(&t);
    return rc;
}

static int take_option(void *arg, int c, const char *value)
{
    struct split_job *job = arg;
    switch (c) {
    case OPTION_SLOTS:
        job->slots = value;
        break;
    case OPTION_CLUSTER:
        job->cluster = value;
        break;
    case OPTION_NODES:
        job->nodes = value;
        break;
    default:
        cli_output_option(&job->output, c, value);
    }
    return EXIT_FINE;
}

static int read_layout(struct layout *l, const struct split_job *job, struct err *e)
{
    if (job->slots)
        return layout_ranges(l, job->slots, e);
    return job->cluster ? layout_cluster(l, job->cluster, e) : layout_file(l, job->nodes, e);
}

static int checked(const struct split_job *job, int words)
{
    if (words != 1)
        return verb_usage("split", "name one RDB file");
    if (!job->output.path || strcmp(job->output.path, "-") == 0)
        return verb_usage("split", "say where to write: --output DIR");
    if (!!job->slots + !!job->cluster + !!job->nodes != 1)
        return verb_usage("split", "say how to split: one of --slots, --cluster and --nodes");
    return -1;
}

int rdb_split_main(int argc, char **argv)
{
    struct rdb_unknown unknown = {0};
    struct split_job job = {.output.unknown = &unknown, .wanted = selection_new()};
    struct split s = {0};
    const struct verb_syntax syntax = {.own = own_options,
                                       .take = take_option,
                                       .help = help,
                                       .wanted = job.wanted,
                                       .unknown = &unknown};
    struct err e = {0};
    int code = verb_parse(&syntax, &job, argc, argv);
    if (code < 0)
        code = checked(&job, argc - optind);
    job.path = code < 0 ? argv[optind] : NULL;
    if (code < 0 && read_layout(&s.layout, &job, &e))
        code = e.code == ERR_CONFIG ? verb_usage("split", "%s", e.msg) : verb_failed("split", &e);
    if (code < 0)
        code = run(&s, &job, &e) ? verb_failed("split", &e) : EXIT_FINE;
    verb_skipped("split", &unknown);
    split_free(&s);
    selection_free(job.wanted);
    return code;
}

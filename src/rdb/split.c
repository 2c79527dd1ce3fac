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

struct part {
    struct rdb_out *out;
    uint64_t keys;
};

struct split {
    struct cli_output output;
    struct selection *wanted;
    const char *path, *slots, *cluster, *nodes;
    struct layout layout;
    struct part *parts;          // owns
    struct rdb_writer **writers; // owns; one for each part
    uint64_t nowhere;            // keys of slots that no part has
    struct transfer t;
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
    transfer_free(&s->t);
}

static int open_parts(struct split *s, struct err *e)
{
    static const char *const endings[] = {
        [RDB_OUT_PLAIN] = "", [RDB_OUT_ZSTD] = ".zst", [RDB_OUT_GZIP] = ".gz"};
    must(s->output.path);
    if (mkdir(s->output.path, 0777) && errno != EEXIST)
        return err_sys(e, -errno, "%s: cannot make the directory", s->output.path);
    size_t n = (size_t)s->layout.n;
    s->parts = xcalloc(n, sizeof(*s->parts));
    s->writers = xcalloc(n, sizeof(*s->writers));
    for (size_t i = 0; i < n; i++) {
        char *path =
            xasprintf("%s/%s.rdb%s", s->output.path, s->layout.names[i], endings[s->output.format]);
        int rc = rdb_out_open(&s->parts[i].out, path, s->output.format, e);
        free(path);
        if (rc)
            return rc;
        s->writers[i] = rdb_writer_new(s->parts[i].out, s->t.target);
    }
    return 0;
}

static int split_key(struct split *s, struct rdb_input *in, const struct rdb_item *item,
                     struct err *e)
{
    int part = s->layout.part_of[slot_of(item->key)];
    if (part < 0) {
        s->nowhere++;
        return 0;
    }
    bool written;
    int rc = transfer_key(&s->t, s->writers[part], in, item, &written, e);
    s->parts[part].keys += rc == 0 && written;
    return rc;
}

static int take_item(void *ctx, struct rdb_input *in, struct rdb_item *item, struct err *e)
{
    struct split *s = ctx;
    if (item->kind != RDB_KIND_KEY)
        return transfer_other(&s->t, s->writers, (size_t)s->layout.n, in, item, e);
    s->t.items++;
    return selection_wants(s->wanted, item, s->t.now_ms) ? split_key(s, in, item, e) : 0;
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

static void summary(const struct split *s)
{
    if (s->output.quiet)
        return;
    cli_summary("split", &s->output, &s->t);
    for (int i = 0; i < s->layout.n; i++)
        fprintf(stderr, "gunyu rdb split: %s: %llu keys\n", s->layout.names[i],
                (unsigned long long)s->parts[i].keys);
    if (s->nowhere)
        fprintf(stderr, "gunyu rdb split: %llu keys are in slots of no part and were left out\n",
                (unsigned long long)s->nowhere);
}

static int run(void *arg, struct err *e)
{
    struct split *s = arg;
    struct rdb_input *in;
    struct rdb_item item;
    int first = cli_input_open(&in, s->path, &s->output, &item, e);
    if (first < 0)
        return first;
    s->t = (struct transfer){
        .now_ms = clock_unix_ms(), .degrade = s->output.degrade, .spool.dir = s->output.path};
    s->t.target = cli_same_version(in);
    s->t.size = selection_has_size(s->wanted) ? s->wanted : NULL;
    int rc = open_parts(s, e);
    if (rc == 0) {
        struct cli_progress progress;
        cli_progress_start(&progress, "split", &s->output);
        rc = cli_each_item(&progress, in, &item, first, &s->t.items, take_item, s, e);
        cli_progress_end(&progress);
    }
    if (rc == 0)
        rc = commit_parts(s, e);
    if (rc == 0)
        summary(s);
    rdb_input_close(in);
    return rc;
}

static int take_option(void *arg, int c, const char *value)
{
    struct split *s = arg;
    switch (c) {
    case OPTION_SLOTS:
        s->slots = value;
        break;
    case OPTION_CLUSTER:
        s->cluster = value;
        break;
    case OPTION_NODES:
        s->nodes = value;
        break;
    default:
        cli_output_option(&s->output, c, value);
    }
    return EXIT_FINE;
}

static int read_layout(struct split *s, struct err *e)
{
    if (s->slots)
        return layout_ranges(&s->layout, s->slots, e);
    return s->cluster ? layout_cluster(&s->layout, s->cluster, e)
                      : layout_file(&s->layout, s->nodes, e);
}

static int take_words(void *arg, int n, char **words)
{
    struct split *s = arg;
    struct err e = {0};
    if (n != 1)
        return verb_usage("split", "name one RDB file");
    if (!s->output.path || strcmp(s->output.path, "-") == 0)
        return verb_usage("split", "say where to write: --output DIR");
    if (!!s->slots + !!s->cluster + !!s->nodes != 1)
        return verb_usage("split", "say how to split: one of --slots, --cluster and --nodes");
    s->path = words[0];
    if (read_layout(s, &e) == 0)
        return -1;
    return e.code == ERR_CONFIG ? verb_usage("split", "%s", e.msg) : verb_failed("split", &e);
}

int rdb_split_main(int argc, char **argv)
{
    struct rdb_unknown unknown = {0};
    struct split s = {.output.unknown = &unknown, .wanted = selection_new()};
    const struct verb_syntax syntax = {.own = own_options,
                                       .take = take_option,
                                       .words = take_words,
                                       .run = run,
                                       .help = help,
                                       .wanted = s.wanted,
                                       .unknown = &unknown};
    int code = verb_run(&syntax, &s, argc, argv);
    split_free(&s);
    return code;
}

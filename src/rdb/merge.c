// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "rdb/commands.h"
#include "rdb/convert_cli.h"
#include "rdb/merge_functions.h"
#include "rdb/merge_keys.h"

enum { OPTION_CONFLICT = OPTION_OWN };

static const struct option own_options[] = {
    OUTPUT_OPTIONS,
    DEGRADE_OPTION,
    {"on-conflict", required_argument, NULL, OPTION_CONFLICT},
    {0},
};

enum conflict { CONFLICT_ERROR, CONFLICT_FIRST, CONFLICT_LAST, CONFLICT_NONE };

struct merge_job {
    struct cli_output output;
    struct selection *wanted;
    enum conflict conflict;
    char **paths;
    int n;
};

struct merge {
    const struct merge_job *job;
    struct transfer t;
    struct merge_keys *keys; // NULL with CONFLICT_NONE
    struct merge_functions functions;
    struct rdb_writer *w;
    uint64_t left_out;
    struct cli_progress progress;
};

static const char help[] =
    "usage: gunyu rdb merge [OPTIONS] -o OUTPUT FILE FILE...\n\n"
    "Writes the keys of several RDB files into one, of the newest version among them.\n\n"
    "      --on-conflict WHAT  a key that stands in several files: error (default), first, last,\n"
    "                          or none: do not look, for files that cannot share one\n" OUTPUT_HELP
        DEGRADE_HELP "\n";

// Each item of each file; ends at the first result of fn that is not 0.
static int each_item(struct merge *m, cli_item_fn *fn, struct err *e)
{
    for (int i = 0; i < m->job->n; i++) {
        struct rdb_input *in;
        struct rdb_item item;
        int rc = cli_input_open(&in, m->job->paths[i], &m->job->output, &item, e);
        if (rc < 0)
            return rc;
        merge_functions_next_file(&m->functions);
        rc = cli_each_item(&m->progress, in, &item, rc, &m->t.items, fn, m, e);
        rdb_input_close(in);
        if (rc)
            return rc;
    }
    return 0;
}

// ---- the version of the output ----

// Redis from 7.4 on and Valkey from 9 on have nothing newer in common than version 11.
static int settle_version(struct merge *m, struct err *e)
{
    int redis = 0, valkey = 0;
    const char *of_redis = "", *of_valkey = "";
    for (int i = 0; i < m->job->n; i++) {
        struct rdb_input *in;
        struct rdb_item item;
        int rc = cli_input_open(&in, m->job->paths[i], &m->job->output, &item, e);
        if (rc < 0)
            return rc;
        struct rdb_target of = cli_same_version(in);
        rdb_input_close(in);
        int *highest = of.valkey ? &valkey : &redis;
        if (of.version <= *highest)
            continue;
        *highest = of.version;
        *(of.valkey ? &of_valkey : &of_redis) = m->job->paths[i];
    }
    if (valkey && redis > 11)
        return err_set(e, ERR_UNSUPPORTED,
                       "%s is of Redis (RDB version %d) and %s of Valkey (%d): convert one of them "
                       "first",
                       of_redis, redis, of_valkey, valkey);
    m->t.target = valkey ? (struct rdb_target){valkey, true} : (struct rdb_target){redis, false};
    return 0;
}

// ---- the first pass: which keys are there twice ----

static bool wants(struct merge *m, const struct rdb_item *item)
{
    return item->kind == RDB_KIND_KEY && selection_wants(m->job->wanted, item, m->t.now_ms);
}

static int look(void *ctx, struct rdb_input *in, struct rdb_item *item, struct err *e)
{
    struct merge *m = ctx;
    if (item->kind == RDB_KIND_FUNCTION)
        return merge_functions_look(&m->functions, item->value, rdb_input_name(in), e);
    if (wants(m, item)) {
        m->t.items++;
        merge_keys_add(m->keys, item->db, item->key);
    }
    return 0;
}

// Names the first key of which there is another one before.
static int name_double(void *ctx, struct rdb_input *in, struct rdb_item *item, struct err *e)
{
    struct merge *m = ctx;
    int rc;
    if (!wants(m, item) || !merge_keys_drops(m->keys, &rc, e))
        return 0;
    char key[80];
    return err_set(e, ERR_CONFIG,
                   "%s: db %d, key '%s' stands in an earlier file too, as do %llu keys in all; "
                   "choose with --on-conflict first or last",
                   rdb_input_name(in), item->db, transfer_key_text(item->key, key),
                   (unsigned long long)merge_keys_doubles(m->keys));
}

static int find_doubles(struct merge *m, struct err *e)
{
    cli_progress_start(&m->progress, "merge: comparing keys", &m->job->output);
    int rc = each_item(m, look, e);
    cli_progress_end(&m->progress);
    m->t.items = 0;
    if (rc == 0)
        rc = merge_keys_settle(m->keys,
                               m->job->conflict == CONFLICT_LAST ? MERGE_LAST : MERGE_FIRST, e);
    if (rc == 0 && m->job->conflict == CONFLICT_ERROR && merge_keys_doubles(m->keys))
        rc = each_item(m, name_double, e);
    return rc;
}

// ---- the second: the file ----

static int take(void *ctx, struct rdb_input *in, struct rdb_item *item, struct err *e)
{
    struct merge *m = ctx;
    int rc = 0;
    if (item->kind == RDB_KIND_FUNCTION) {
        bool keep;
        rc = merge_functions_take(&m->functions, item->value, rdb_input_name(in), &keep, e);
        if (rc || !keep)
            return rc;
    }
    // What the files say of themselves is true of the first one at most; scripts add up.
    if (item->kind == RDB_KIND_AUX && m->functions.file > 1 && !slice_eq(item->key, SLICE("lua")))
        return 0;
    if (item->kind != RDB_KIND_KEY)
        return transfer_other(&m->t, &m->w, 1, in, item, e);
    m->t.items++;
    if (!wants(m, item))
        return 0;
    if (m->keys && merge_keys_drops(m->keys, &rc, e)) {
        m->left_out++;
        return rc;
    }
    return transfer_key(&m->t, m->w, in, item, NULL, e);
}

static int write_file(struct merge *m, struct err *e)
{
    struct rdb_out *out;
    int rc = rdb_out_open(&out, m->job->output.path, m->job->output.format, e);
    if (rc)
        return rc;
    m->w = rdb_writer_new(out, m->t.target);
    cli_progress_start(&m->progress, "merge", &m->job->output);
    rc = each_item(m, take, e);
    cli_progress_end(&m->progress);
    return cli_end_file(m->w, out, rc, e);
}

static int run(void *arg, struct err *e)
{
    const struct merge_job *job = arg;
    char *dir = cli_output_dir(&job->output);
    struct merge m = {
        .job = job,
        .t = {.now_ms = clock_unix_ms(), .degrade = job->output.degrade, .spool.dir = dir},
        .keys = job->conflict == CONFLICT_NONE ? NULL : merge_keys_new(dir),
        .functions = {.keep_last = job->conflict == CONFLICT_LAST,
                      .differ = job->conflict == CONFLICT_FIRST || job->conflict == CONFLICT_LAST},
    };
    m.t.size = selection_has_size(job->wanted) ? job->wanted : NULL;
    int rc = settle_version(&m, e);
    if (rc == 0 && m.keys)
        rc = find_doubles(&m, e);
    if (rc == 0) {
        merge_functions_rewind(&m.functions);
        // Asked for every key once more, from the first one on.
        if (m.keys && job->conflict == CONFLICT_ERROR) {
            merge_keys_free(m.keys);
            m.keys = NULL;
        }
        rc = write_file(&m, e);
    }
    if (rc == 0)
        cli_summary("merge", &job->output, &m.t);
    if (rc == 0 && m.left_out && !job->output.quiet)
        fprintf(stderr, "gunyu rdb merge: %llu keys of several files were written once only\n",
                (unsigned long long)m.left_out);
    merge_functions_free(&m.functions);
    merge_keys_free(m.keys);
    transfer_free(&m.t);
    free(dir);
    return rc;
}

static int take_option(void *arg, int c, const char *value)
{
    static const char *const words[] = {
        [CONFLICT_ERROR] = "error",
        [CONFLICT_FIRST] = "first",
        [CONFLICT_LAST] = "last",
        [CONFLICT_NONE] = "none",
    };
    struct merge_job *job = arg;
    if (c != OPTION_CONFLICT) {
        cli_output_option(&job->output, c, value);
        return EXIT_FINE;
    }
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (strcmp(words[i], value) == 0) {
            job->conflict = (enum conflict)i;
            return EXIT_FINE;
        }
    }
    return verb_usage("merge", "--on-conflict: expected error, first, last or none, not \"%.20s\"",
                      value);
}

static int take_words(void *arg, int n, char **words)
{
    struct merge_job *job = arg;
    job->paths = words;
    job->n = n;
    if (job->n < 1)
        return verb_usage("merge", "name the RDB files");
    if (!job->output.path)
        return verb_usage("merge", "say where to write: --output FILE, or - for standard output");
    for (int i = 0; i < job->n; i++)
        if (strcmp(job->paths[i], "-") == 0)
            return verb_usage("merge", "the files are read more than once, so none can be "
                                       "standard input");
    return -1;
}

int rdb_merge_main(int argc, char **argv)
{
    struct rdb_unknown unknown = {0};
    struct merge_job job = {.output.unknown = &unknown, .wanted = selection_new()};
    const struct verb_syntax syntax = {.own = own_options,
                                       .take = take_option,
                                       .words = take_words,
                                       .run = run,
                                       .help = help,
                                       .wanted = job.wanted,
                                       .unknown = &unknown};
    return verb_run(&syntax, &job, argc, argv);
}

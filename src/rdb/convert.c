// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "rdb/commands.h"
#include "rdb/commands_out.h"
#include "rdb/convert_cli.h"
#include "rdb/convert_target.h"

enum { OPTION_TO = OPTION_OWN, OPTION_RDB_VERSION, OPTION_VALKEY, OPTION_FOR };

static const struct option own_options[] = {
    OUTPUT_OPTIONS,
    DEGRADE_OPTION,
    {"to", required_argument, NULL, OPTION_TO},
    {"rdb-version", required_argument, NULL, OPTION_RDB_VERSION},
    {"valkey", no_argument, NULL, OPTION_VALKEY},
    {"for", required_argument, NULL, OPTION_FOR},
    {0},
};

struct convert_job {
    struct cli_output output;
    struct selection *wanted;
    const char *path, *to, *number, *server;
    bool valkey;
    bool commands; // RESP instead of an RDB file
    struct rdb_target target;
    struct commands_out_options commands_options;
};

static const char help[] =
    "usage: gunyu rdb convert --to VERSION [OPTIONS] -o OUTPUT FILE\n\n"
    "Writes an RDB file as another version of the format, for another server.\n\n"
    "      --to VERSION    a server, from redis-2.6 and valkey-7.2 on (redis-8 is for every "
    "8.x);\n                      or aof, resp: commands instead of an RDB file\n"
    "      --rdb-version N the version of the format instead\n"
    "      --valkey        N is one of Valkey's (80 and above are by themselves)\n"
    "      --for VERSION   the server that aof and resp are written for\n" OUTPUT_HELP DEGRADE_HELP
    "\n";

struct convert {
    const struct convert_job *job;
    struct transfer t;
    struct rdb_out *out;
    struct rdb_writer *w;   // into an RDB file
    struct commands_out *c; // into commands
    struct cli_progress progress;
};

// ---- into an RDB file ----

static int take_item(void *ctx, struct rdb_input *in, struct rdb_item *item, struct err *e)
{
    struct convert *v = ctx;
    if (item->kind == RDB_KIND_RESIZEDB && v->t.whole) {
        rdb_write_resizedb(v->w, item->db, item->db_size, item->expires_size);
        return 0;
    }
    if (item->kind != RDB_KIND_KEY)
        return transfer_other(&v->t, &v->w, 1, in, item, e);
    v->t.items++;
    bool wanted = selection_wants(v->job->wanted, item, v->t.now_ms);
    return wanted ? transfer_key(&v->t, v->w, in, item, NULL, e) : 0;
}

static int to_rdb(struct convert *v, struct rdb_input *in, struct rdb_item *item, int rc,
                  struct err *e)
{
    v->t.target = v->job->target;
    v->w = rdb_writer_new(v->out, v->t.target);
    rc = cli_each_item(&v->progress, in, item, rc, &v->t.items, take_item, v, e);
    return cli_end_file(v->w, v->out, rc, e);
}

// ---- into commands ----

static int put_item(struct convert *v, struct rdb_input *in, struct rdb_item *item, struct err *e)
{
    if (item->kind == RDB_KIND_COMMAND && !v->t.whole)
        return transfer_other(&v->t, NULL, 0, in, item, e); // which says why not
    if (item->kind != RDB_KIND_KEY)
        return commands_out_other(v->c, item, e);
    v->t.items++;
    if (!selection_wants(v->job->wanted, item, v->t.now_ms))
        return 0;
    v->t.keys++;
    return commands_out_key(v->c, in, item, e);
}

static int command_item(void *ctx, struct rdb_input *in, struct rdb_item *item, struct err *e)
{
    struct convert *v = ctx;
    int rc = put_item(v, in, item, e);
    return rc == 0 && rdb_out_failed(v->out) ? rdb_out_write(v->out, "", 0, e) : rc;
}

static int to_commands(struct convert *v, struct rdb_input *in, struct rdb_item *item, int rc,
                       struct err *e)
{
    v->c = commands_out_new(v->out, &v->job->commands_options);
    rc = cli_each_item(&v->progress, in, item, rc, &v->t.items, command_item, v, e);
    for (int i = 0; i < LOSSES; i++)
        v->t.lost[i] = commands_out_lost(v->c, (enum loss)i);
    commands_out_free(v->c);
    if (rc == 0)
        return rdb_out_commit(v->out, e);
    rdb_out_discard(v->out);
    return rc;
}

// ---- the command ----

static int run(void *arg, struct err *e)
{
    const struct convert_job *job = arg;
    struct rdb_input *in;
    struct rdb_item item;
    int first = cli_input_open(&in, job->path, &job->output, &item, e);
    if (first < 0)
        return first;
    char *dir = cli_output_dir(&job->output);
    struct convert v = {
        .job = job,
        .t = {.now_ms = clock_unix_ms(),
              .degrade = job->output.degrade,
              .whole = !selection_given(job->wanted),
              .size = selection_has_size(job->wanted) ? job->wanted : NULL,
              .spool.dir = dir},
    };
    int rc = rdb_out_open(&v.out, job->output.path, job->output.format, e);
    if (rc == 0) {
        cli_progress_start(&v.progress, "convert", &job->output);
        rc = (job->commands ? to_commands : to_rdb)(&v, in, &item, first, e);
        cli_progress_end(&v.progress);
    }
    if (rc == 0)
        cli_summary("convert", &job->output, &v.t);
    rdb_input_close(in);
    transfer_free(&v.t);
    free(dir);
    return rc;
}

// What --to and the like ask for; false with a text when they do not fit.
static int settle_target(struct convert_job *job, struct err *e)
{
    struct convert_server server = {0};
    job->commands = job->to && (strcmp(job->to, "aof") == 0 || strcmp(job->to, "resp") == 0);
    if (!job->to == !job->number)
        return err_set(e, ERR_CONFIG, "say into what: --to VERSION or --rdb-version N");
    if (job->server && !job->commands)
        return err_set(e, ERR_CONFIG, "--for goes with --to aof and --to resp");
    if (job->number)
        return convert_target_number(&job->target, job->number, job->valkey, e);
    const char *name = job->commands ? job->server : job->to;
    int rc = name ? convert_target_server(&server, name, e) : 0;
    job->target = server.rdb;
    job->commands_options.version = server.version;
    job->commands_options.is_valkey = server.is_valkey;
    job->commands_options.degrade = job->output.degrade;
    job->commands_options.replace = job->commands && strcmp(job->to, "resp") == 0;
    if (rc == 0 && job->commands && selection_has_size(job->wanted))
        return err_set(e, ERR_CONFIG, "sizes select in RDB files only; filter the file first");
    return rc;
}

static int take_option(void *arg, int c, const char *value)
{
    struct convert_job *job = arg;
    switch (c) {
    case OPTION_TO:
        job->to = value;
        break;
    case OPTION_RDB_VERSION:
        job->number = value;
        break;
    case OPTION_VALKEY:
        job->valkey = true;
        break;
    case OPTION_FOR:
        job->server = value;
        break;
    default:
        cli_output_option(&job->output, c, value);
    }
    return EXIT_FINE;
}

static int take_words(void *arg, int n, char **words)
{
    struct convert_job *job = arg;
    struct err e = {0};
    int code = cli_one_file("convert", &job->output, n, words, &job->path);
    if (code < 0 && settle_target(job, &e))
        code = verb_usage("convert", "%s", e.msg);
    return code;
}

int rdb_convert_main(int argc, char **argv)
{
    struct rdb_unknown unknown = {0};
    struct convert_job job = {.output.unknown = &unknown, .wanted = selection_new()};
    const struct verb_syntax syntax = {.own = own_options,
                                       .take = take_option,
                                       .words = take_words,
                                       .run = run,
                                       .help = help,
                                       .wanted = job.wanted,
                                       .unknown = &unknown};
    return verb_run(&syntax, &job, argc, argv);
}

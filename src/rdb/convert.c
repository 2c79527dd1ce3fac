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

// ---- into an RDB file ----

static int convert_items(const struct convert_job *job, struct rdb_input *in, struct rdb_item *item,
                         int rc, struct transfer *t, struct rdb_writer *w, struct err *e)
{
    struct cli_progress progress;
    cli_progress_start(&progress, "convert", &job->output);
    for (; rc == RDB_ITEM; rc = rdb_input_next(in, item, e)) {
        int done = 0;
        if (item->kind == RDB_KIND_RESIZEDB && t->whole)
            rdb_write_resizedb(w, item->db, item->db_size, item->expires_size);
        else if (item->kind != RDB_KIND_KEY)
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
    if (rc != RDB_DONE)
        return rc;
    rdb_writer_end(w);
    return 0;
}

static int to_rdb(const struct convert_job *job, struct rdb_input *in, struct rdb_item *item,
                  int rc, struct transfer *t, struct rdb_out *out, struct err *e)
{
    t->target = job->target;
    struct rdb_writer *w = rdb_writer_new(out, t->target);
    rc = convert_items(job, in, item, rc, t, w, e);
    rdb_writer_free(w);
    return rc;
}

// ---- into commands ----

static int command_item(const struct convert_job *job, struct rdb_input *in, struct rdb_item *item,
                        struct transfer *t, struct commands_out *c, struct err *e)
{
    if (item->kind == RDB_KIND_COMMAND && !t->whole)
        return transfer_other(t, NULL, 0, in, item, e); // which says why not
    if (item->kind != RDB_KIND_KEY)
        return commands_out_other(c, item, e);
    t->items++;
    if (!selection_wants(job->wanted, item, t->now_ms))
        return 0;
    t->keys++;
    return commands_out_key(c, in, item, e);
}

static int to_commands(const struct convert_job *job, struct rdb_input *in, struct rdb_item *item,
                       int rc, struct transfer *t, struct rdb_out *out, struct err *e)
{
    struct commands_out *c = commands_out_new(out, &job->commands_options);
    struct cli_progress progress;
    cli_progress_start(&progress, "convert", &job->output);
    for (; rc == RDB_ITEM; rc = rdb_input_next(in, item, e)) {
        int done = command_item(job, in, item, t, c, e);
        if (done || rdb_out_failed(out)) {
            rc = done ? done : rdb_out_write(out, "", 0, e);
            break;
        }
        cli_progress_step(&progress, in, t->items);
    }
    cli_progress_end(&progress);
    for (int i = 0; i < LOSSES; i++)
        t->lost[i] = commands_out_lost(c, (enum loss)i);
    commands_out_free(c);
    return rc == RDB_DONE ? 0 : rc;
}

// ---- the command ----

static int run(const struct convert_job *job, struct err *e)
{
    struct rdb_input *in;
    struct rdb_item item;
    struct rdb_out *out;
    int first = cli_input_open(&in, job->path, &job->output, &item, e);
    if (first < 0)
        return first;
    char *dir = cli_output_dir(&job->output);
    struct transfer t = {
        .now_ms = clock_unix_ms(),
        .degrade = job->output.degrade,
        .whole = !selection_given(job->wanted),
        .size = selection_has_size(job->wanted) ? job->wanted : NULL,
        .spool.dir = dir,
    };
    int rc = rdb_out_open(&out, job->output.path, job->output.format, e);
    if (rc == 0) {
        rc = (job->commands ? to_commands : to_rdb)(job, in, &item, first, &t, out, e);
        if (rc == 0)
            rc = rdb_out_commit(out, e);
        else
            rdb_out_discard(out);
    }
    if (rc == 0)
        cli_summary("convert", &job->output, &t);
    rdb_input_close(in);
    transfer_free(&t);
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

int rdb_convert_main(int argc, char **argv)
{
    struct rdb_unknown unknown = {0};
    struct convert_job job = {.output.unknown = &unknown, .wanted = selection_new()};
    const struct verb_syntax syntax = {.own = own_options,
                                       .take = take_option,
                                       .help = help,
                                       .wanted = job.wanted,
                                       .unknown = &unknown};
    struct err e = {0};
    int code = verb_parse(&syntax, &job, argc, argv);
    if (code < 0)
        code = cli_one_file("convert", &job.output, argc, argv, &job.path);
    if (code < 0 && settle_target(&job, &e))
        code = verb_usage("convert", "%s", e.msg);
    if (code < 0)
        code = run(&job, &e) ? verb_failed("convert", &e) : EXIT_FINE;
    verb_skipped("convert", &unknown);
    selection_free(job.wanted);
    return code;
}

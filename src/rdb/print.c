// SPDX-License-Identifier: Apache-2.0
#include "rdb/print.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "rdb/commands.h"
#include "rdb/select.h"
#include "rdb/verb.h"

// For the newest server of the family that wrote the file, which is known only now.
static struct commands_out *commands(struct print *p)
{
    if (!p->commands) {
        struct commands_out_options o = {.replace = true};
        o.is_valkey = rdb_is_valkey(rdb_input_reader(p->in));
        p->commands = commands_out_new(p->t.out, &o);
    }
    return p->commands;
}

static int resp_other(struct print *p, const struct rdb_item *item, struct err *e)
{
    // Whether the global data of modules may be left out is told by --module-aux.
    return item->kind == RDB_KIND_MODULE_AUX ? 0 : commands_out_other(commands(p), item, e);
}

static int resp_key(struct print *p, const struct rdb_item *item, struct err *e)
{
    return commands_out_key(commands(p), p->in, item, e);
}

const struct print_format print_resp = {.name = "resp", .other = resp_other, .key = resp_key};

static const struct print_format *const formats[] = {&print_line, &print_json, &print_jsonl,
                                                     &print_csv, &print_resp};

struct arguments {
    const char *file, *output;
    const struct print_format *format;
    bool no_key, no_value, module_aux_fails;
    struct selection *selection;
    struct rdb_unknown unknown;
};

static const char help[] =
    "usage: gunyu rdb print [OPTIONS] FILE\n"
    "Prints the keys of an RDB file. FILE may be \"-\", and compressed by gzip, zstd or lz4.\n"
    "\n"
    "  --format FORMAT      line (default): redisGunYu's lines, values of strings only\n"
    "                       jsonl: a JSON object a line, with the whole value\n"
    "                       json: the same objects in one array\n"
    "                       csv: a row for each element\n"
    "                       resp: commands that make the keys again, for redis-cli --pipe\n"
    "  -o, --output FILE    instead of standard output; appears when it is complete\n"
    "  --no-key             leave out the keys\n"
    "  --no-value           leave out the values\n"
    "  --module-aux POLICY  data that modules keep beside the keys: skip (default), fail\n";

enum { OPT_FORMAT = 256, OPT_NO_KEY, OPT_NO_VALUE, OPT_MODULE_AUX };

static const struct option options[] = {
    {"format", required_argument, NULL, OPT_FORMAT},
    {"output", required_argument, NULL, 'o'},
    {"no-key", no_argument, NULL, OPT_NO_KEY},
    {"no-value", no_argument, NULL, OPT_NO_VALUE},
    {"module-aux", required_argument, NULL, OPT_MODULE_AUX},
    {0},
};

static int one(struct print *p, const struct arguments *a, const struct rdb_item *item,
               int64_t now_ms, struct err *e)
{
    const struct print_format *f = a->format;
    bool wanted = true;
    switch (item->kind) {
    case RDB_KIND_SELECTDB:
    case RDB_KIND_RESIZEDB:
    case RDB_KIND_TEMPLATE:
        return 0;
    case RDB_KIND_KEY:
        if (selection_given(a->selection) && !selection_wants(a->selection, item, now_ms))
            return 0;
        if (selection_has_size(a->selection)) {
            int rc = selection_takes(a->selection, p->in, &wanted, e);
            if (rc < 0 || !wanted)
                return rc;
        }
        return f->key(p, item, e);
    case RDB_KIND_MODULE_AUX:
        if (a->module_aux_fails)
            return err_set(e, ERR_UNSUPPORTED,
                           "%s: byte %llu: the module %s keeps data beside the keys; "
                           "--module-aux skip passes over it",
                           rdb_input_name(p->in), (unsigned long long)item->start,
                           item->module_name);
        break;
    default:
        break;
    }
    return f->other && !selection_given(a->selection) ? f->other(p, item, e) : 0;
}

// Leaves out what is there of an entry that could not be completed.
static void drop_half(struct print *p, uint64_t start)
{
    if (start >= p->t.sent)
        p->t.b.n = (size_t)(start - p->t.sent);
    else
        TEXT(&p->t, "\n");
}

static int print_all(struct print *p, const struct arguments *a, struct err *e)
{
    struct rdb_item item;
    int64_t now_ms = clock_unix_ms();
    int rc;
    if (a->format->begin)
        a->format->begin(p);
    while ((rc = rdb_input_next(p->in, &item, e)) == RDB_ITEM) {
        uint64_t start = p->t.sent + p->t.b.n;
        rc = one(p, a, &item, now_ms, e);
        if (rc < 0)
            drop_half(p, start);
        p->any = p->any || p->t.sent + p->t.b.n > start;
        if (rc < 0 || rdb_out_failed(p->t.out))
            break;
        text_flow(&p->t);
    }
    if (rc >= 0 && a->format->end)
        a->format->end(p);
    text_send(&p->t);
    return rc < 0 ? rc : 0;
}

static int run(struct arguments *a, struct err *e)
{
    struct print p = {.no_key = a->no_key, .no_value = a->no_value};
    struct rdb_input_options o = {.check_crc = true, .unknown = &a->unknown};
    int rc = rdb_input_open(&p.in, a->file, &o, e);
    if (rc)
        return rc;
    rc = rdb_out_open(&p.t.out, a->output, RDB_OUT_PLAIN, e);
    if (rc) {
        rdb_input_close(p.in);
        return rc;
    }
    rc = print_all(&p, a, e);
    commands_out_free(p.commands);
    buf_free(&p.t.b);
    // Standard output gets what came before a failure; a file is either whole or not there.
    if (rc && strcmp(a->output, "-") != 0) {
        rdb_out_discard(p.t.out);
    } else {
        int written = rdb_out_commit(p.t.out, rc ? NULL : e);
        rc = rc ? rc : written;
    }
    rdb_input_close(p.in);
    return rc;
}

static int set_format(struct arguments *a, const char *name)
{
    for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++) {
        if (strcmp(formats[i]->name, name) == 0) {
            a->format = formats[i];
            return EXIT_FINE;
        }
    }
    return verb_usage("print", "--format: expected line, json, jsonl, csv or resp, not \"%.40s\"",
                      name);
}

static int take_option(void *job, int c, const char *arg)
{
    struct arguments *a = job;
    switch (c) {
    case OPT_FORMAT:
        return set_format(a, arg);
    case 'o':
        a->output = arg;
        return EXIT_FINE;
    case OPT_NO_KEY:
        a->no_key = true;
        return EXIT_FINE;
    case OPT_NO_VALUE:
        a->no_value = true;
        return EXIT_FINE;
    default:
        a->module_aux_fails = strcmp(arg, "fail") == 0;
        if (a->module_aux_fails || strcmp(arg, "skip") == 0)
            return EXIT_FINE;
        return verb_usage("print", "--module-aux: expected skip or fail, not \"%.40s\"", arg);
    }
}

static int parse(struct arguments *a, int argc, char **argv)
{
    const struct verb_syntax syntax = {.own = options,
                                       .take = take_option,
                                       .help = help,
                                       .wanted = a->selection,
                                       .unknown = &a->unknown};
    int code = verb_parse(&syntax, a, argc, argv);
    if (code >= 0)
        return code;
    if (argc - optind != 1)
        return verb_usage("print", "%s",
                          argc > optind ? "one file at a time"
                                        : "which file? (\"-\" is standard input)");
    a->file = argv[optind];
    if (a->format == &print_resp && (a->no_key || a->no_value))
        return verb_usage("print", "commands without keys or values make no sense");
    return -1;
}

int rdb_print_main(int argc, char **argv)
{
    struct arguments a = {.output = "-", .format = &print_line, .selection = selection_new()};
    struct err e = {0};
    int code = parse(&a, argc, argv);
    if (code < 0)
        code = run(&a, &e) ? verb_failed("print", &e) : EXIT_FINE;
    verb_skipped("print", &a.unknown);
    selection_free(a.selection);
    return code;
}

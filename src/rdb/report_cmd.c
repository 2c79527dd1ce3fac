// SPDX-License-Identifier: Apache-2.0
// gunyu rdb report
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "rdb/commands.h"
#include "rdb/report.h"
#include "rdb/verb.h"

enum {
    OPT_FORMAT = 0x100,
    OPT_TOP,
    OPT_DEPTH,
    OPT_SEPARATORS,
    OPT_MIN_SHARE,
    OPT_DUPLICATES,
    OPT_MODEL,
    OPT_QUANTUM,
    OPT_NO_CRC,
    OPT_OUTPUT = 'o',
};

static const struct option own[] = {
    {"format", required_argument, NULL, OPT_FORMAT},
    {"output", required_argument, NULL, OPT_OUTPUT},
    {"top", required_argument, NULL, OPT_TOP},
    {"depth", required_argument, NULL, OPT_DEPTH},
    {"separators", required_argument, NULL, OPT_SEPARATORS},
    {"min-share", required_argument, NULL, OPT_MIN_SHARE},
    {"duplicates", required_argument, NULL, OPT_DUPLICATES},
    {"model", required_argument, NULL, OPT_MODEL},
    {"quantum", required_argument, NULL, OPT_QUANTUM},
    {"no-crc", no_argument, NULL, OPT_NO_CRC},
    {0},
};

static const char help[] =
    "usage: gunyu rdb report [OPTIONS] FILE...\n"
    "\n"
    "What takes the memory: estimates by type, prefix and key, expiries, sizes, slots, "
    "duplicates.\n"
    "Several files (the shards of a cluster) make one report. \"-\" is standard input.\n"
    "\n"
    "  --format F           text (default), json, html: one file that needs no network\n"
    "  --output FILE        instead of standard output\n"
    "  --top N              keys in each list (20)\n"
    "  --depth N            segments of a name that are told apart (8)\n"
    "  --separators CHARS   bytes that end a segment; by default each name's first of " PREFIX_AUTO
    "\n"
    "  --min-share PERCENT  of the memory that a prefix needs to be shown (0.5)\n"
    "  --duplicates SIZE    compare values of keys from this memory on (128); 0: do not\n"
    "  --model M            whose layout: auto (default, that of the server that wrote the file) "
    "or\n"
    "                       " MEMORY_LAYOUT_NAMES "\n"
    "  --quantum N          of the server's jemalloc: 8 (default), 16 (packages of distributions)\n"
    "  --no-crc             do not check the checksum\n"
    "\n";

struct arguments {
    struct report_options report;
    struct rdb_input_options input;
    struct rdb_unknown unknown;
    const char *output;
};

static bool choose(const char *arg, const char *const *names, int *out)
{
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], arg) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool whole(const char *arg, int64_t min, int64_t max, int64_t *out)
{
    return slice_i64(slice_cstr(arg), out) && *out >= min && *out <= max;
}

// What is wrong with an option's argument; NULL: nothing.
static const char *set_option(struct arguments *a, int option, const char *arg)
{
    static const char *const formats[] = {"text", "json", "html", NULL};
    int choice = 0;
    int64_t n = 0;
    char *end;
    switch (option) {
    case OPT_FORMAT:
        if (!choose(arg, formats, &choice))
            return "--format must be text, json or html";
        a->report.format = (enum report_format)choice;
        return NULL;
    case OPT_OUTPUT:
        a->output = arg;
        return NULL;
    case OPT_TOP:
        if (!whole(arg, 0, REPORT_TOP_MAX, &n))
            return "--top must be a number from 0 to 10000";
        a->report.top = (size_t)n;
        return NULL;
    case OPT_DEPTH:
        if (!whole(arg, 1, PREFIX_DEPTH_MAX, &n))
            return "--depth must be a number from 1 to 16";
        a->report.prefix.depth = (int)n;
        return NULL;
    case OPT_SEPARATORS:
        a->report.prefix.separators = strcmp(arg, "auto") == 0 ? NULL : arg;
        return *arg ? NULL : "--separators needs at least one character";
    case OPT_MIN_SHARE:
        a->report.min_share = strtod(arg, &end) / 100;
        return end != arg && *end == '\0' && a->report.min_share >= 0 && a->report.min_share <= 1
                   ? NULL
                   : "--min-share must be a percentage from 0 to 100";
    case OPT_DUPLICATES:
        return verb_size(arg, &a->report.duplicates_min) ? NULL : "--duplicates must be a size";
    case OPT_MODEL:
        a->report.model = memory_layout_named(arg);
        return a->report.model || strcmp(arg, "auto") == 0
                   ? NULL
                   : "--model must be auto or one of " MEMORY_LAYOUT_NAMES;
    case OPT_QUANTUM:
        if (!whole(arg, 8, 16, &n) || n % 8)
            return "--quantum must be 8 or 16";
        a->report.quantum = (unsigned)n;
        return NULL;
    default:
        a->input.check_crc = false;
        return NULL;
    }
}

static int take_option(void *job, int option, const char *arg)
{
    const char *wrong = set_option(job, option, arg);
    return wrong ? verb_usage("report", "%s", wrong) : EXIT_FINE;
}

static int write_report(const struct report *r, const char *path, struct err *e)
{
    static void (*const render[])(const struct report *, struct rdb_out *) = {
        [REPORT_TEXT] = report_text, [REPORT_JSON] = report_json, [REPORT_HTML] = report_html};
    struct rdb_out *out;
    int rc = rdb_out_open(&out, path, RDB_OUT_PLAIN, e);
    if (rc)
        return rc;
    render[r->o->format](r, out);
    return rdb_out_commit(out, e);
}

static int run(const struct arguments *a, const struct selection *wanted, char **files)
{
    struct err e = {0};
    struct report *r = report_new(&a->report);
    int rc = 0;
    for (; *files && rc >= 0; files++)
        rc = report_add(r, *files, &a->input, wanted, &e);
    if (rc >= 0) {
        report_finish(r);
        rc = write_report(r, a->output, &e);
    }
    report_free(r);
    return rc < 0 ? verb_failed("report", &e) : EXIT_FINE;
}

int rdb_report_main(int argc, char **argv)
{
    struct arguments a = {
        .report = {.quantum = 8,
                   .top = REPORT_TOP,
                   .prefix = {.depth = PREFIX_DEPTH},
                   .min_share = 0.005,
                   .duplicates_min = REPORT_DUPLICATES_MIN},
        .input = {.check_crc = true},
        .output = "-",
    };
    a.input.unknown = &a.unknown;
    struct selection *wanted = selection_new();
    const struct verb_syntax syntax = {
        .own = own, .take = take_option, .help = help, .wanted = wanted, .unknown = &a.unknown};
    int code = verb_parse(&syntax, &a, argc, argv);
    if (code < 0 && optind >= argc)
        code = verb_usage("report", "no file is named");
    if (code < 0)
        code = run(&a, wanted, argv + optind);
    verb_skipped("report", &a.unknown);
    selection_free(wanted);
    return code;
}

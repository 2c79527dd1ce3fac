// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "control/config.h"
#include "rdb/commands.h"
#include "rdb/diff_int.h"
#include "rdb/print_text.h"
#include "rdb/verb.h"
#include "target/position.h"

// As diff(1) has them.
enum { EXIT_EQUAL = 0, EXIT_DIFFERENT = 1, EXIT_TROUBLE = 2 };

enum { DEFAULT_MEMORY = 64 << 20, MIN_MEMORY = 1 << 20 };

enum {
    OPT_FORMAT = 1,
    OPT_LIMIT,
    OPT_TOLERANCE,
    OPT_IGNORE_TTL,
    OPT_TMPDIR,
    OPT_MEMORY,
};

static const struct option own_options[] = {
    {"format", required_argument, NULL, OPT_FORMAT},
    {"limit", required_argument, NULL, OPT_LIMIT},
    {"ttl-tolerance", required_argument, NULL, OPT_TOLERANCE},
    {"ignore-ttl", no_argument, NULL, OPT_IGNORE_TTL},
    {"tmpdir", required_argument, NULL, OPT_TMPDIR},
    {"memory", required_argument, NULL, OPT_MEMORY},
    {"output", required_argument, NULL, 'o'},
    {NULL, 0, NULL, 0},
};

static const char usage_text[] =
    "usage: gunyu rdb diff A B [OPTIONS]\n"
    "\n"
    "Compares the keys of A and B, each an RDB file, \"-\" for standard input, or a running "
    "server\n"
    "as redis://, rediss:// or unix://. Values are compared by what they hold, not by encoding.\n"
    "Exit codes: 0 equal, 1 different, 2 trouble.\n"
    "\n"
    "  --format WHICH       text (default), json, jsonl\n"
    "  --output FILE        instead of standard output\n"
    "  --limit N            show no more than N differences; all are counted\n"
    "  --ttl-tolerance MS   expiries of keys so far apart are equal (default 0, or 1000 where a\n"
    "                       server cannot tell them exactly)\n"
    "  --ignore-ttl         do not compare expiries\n"
    "  --tmpdir DIR         for temporary files ($TMPDIR, else /tmp)\n"
    "  --memory SIZE        for comparing (64m)\n"
    "\n";

enum format { FORMAT_TEXT, FORMAT_JSON, FORMAT_JSONL };

struct diff {
    enum format format;
    uint64_t limit, shown;
    const char *tmpdir, *output;
    int64_t tolerance; // -1: not given
    struct diff_rules rules;
    struct diff_side sides[2];
    struct diff_counts counts;
    struct text text;
    struct buf name;
};

static const struct {
    const char *name; // in JSON, as the next
    const char *count;
    const char *text;
} kinds[DIFF_KINDS] = {
    [DIFF_MISSING] = {"missing", "missing", "only in A"},
    [DIFF_EXTRA] = {"extra", "extra", "only in B"},
    [DIFF_TYPE] = {"type", "type_different", "other type"},
    [DIFF_VALUE] = {"value", "different", "other value"},
    [DIFF_TTL] = {"ttl", "ttl_different", "other TTL"},
};

// ---- arguments ----

static int trouble(const char *verb, const struct err *e)
{
    verb_failed(verb, e);
    return EXIT_TROUBLE;
}

// 0, or EXIT_USAGE after the line is printed.
static int take_option(void *job, int c, const char *arg)
{
    static const char *const formats[] = {"text", "json", "jsonl"};
    static const char verb[] = "diff";
    struct diff *d = job;
    uint64_t v;
    switch (c) {
    case OPT_FORMAT:
        for (int i = 0; i < 3; i++) {
            if (strcmp(arg, formats[i]) == 0) {
                d->format = (enum format)i;
                return 0;
            }
        }
        return verb_usage(verb, "--format: expected text, json or jsonl, not \"%.40s\"", arg);
    case OPT_LIMIT:
        if (!slice_u64(slice_cstr(arg), &d->limit))
            return verb_usage(verb, "--limit: expected a number, not \"%.40s\"", arg);
        return 0;
    case OPT_TOLERANCE:
        if (!slice_i64(slice_cstr(arg), &d->tolerance) || d->tolerance < 0)
            return verb_usage(verb, "--ttl-tolerance: expected milliseconds, not \"%.40s\"", arg);
        return 0;
    case OPT_IGNORE_TTL:
        d->rules.ignore_ttl = true;
        return 0;
    case OPT_TMPDIR:
        d->tmpdir = arg;
        return 0;
    case 'o':
        d->output = arg;
        return 0;
    default:
        if (!verb_size(arg, &v) || v < MIN_MEMORY || v > SIZE_MAX / 4)
            return verb_usage(verb, "--memory: expected a size of at least 1m, not \"%.40s\"", arg);
        d->rules.memory = (size_t)v;
        return 0;
    }
}

static int take_side(struct diff_side *s, const char *verb, const char *name)
{
    static const char *const schemes[] = {"redis://", "rediss://", "unix://"};
    struct err e = {0};
    s->name = name;
    for (size_t i = 0; i < 3 && !s->live; i++)
        s->live = strncmp(name, schemes[i], strlen(schemes[i])) == 0;
    if (s->live && config_endpoint(&s->endpoint, name, &e))
        return verb_usage(verb, "%s", e.msg);
    if (s->endpoint.db)
        return verb_usage(verb, "choose a db with --db, not in the URI");
    if (s->live)
        endpoint_name(&s->endpoint, s->shown, sizeof(s->shown));
    else
        snprintf(s->shown, sizeof(s->shown), "%s", strcmp(name, "-") ? name : "standard input");
    return 0;
}

// -1: go on; else the exit code.
static int take_options(struct diff *d, struct selection *s, int argc, char **argv)
{
    struct rdb_unknown *unknown = &d->sides[0].unknown;
    const struct verb_syntax syntax = {.own = own_options,
                                       .take = take_option,
                                       .help = usage_text,
                                       .wanted = s,
                                       .unknown = unknown};
    int exit_code = verb_parse(&syntax, d, argc, argv);
    if (exit_code >= 0)
        return exit_code;
    d->sides[1].unknown = *unknown;
    if (argc - optind != 2)
        return verb_usage(argv[0], "expected two things to compare, not %d", argc - optind);
    if (selection_has_size(s))
        return verb_usage(argv[0], "--min-size and --max-size cannot select what is compared");
    if (strcmp(argv[optind], "-") == 0 && strcmp(argv[optind + 1], "-") == 0)
        return verb_usage(argv[0], "standard input can be one side only");
    for (int i = 0; i < 2; i++) {
        int rc = take_side(&d->sides[i], argv[0], argv[optind + i]);
        if (rc)
            return rc;
        d->sides[i].selection = s;
    }
    return -1;
}

// ---- output ----

static void put_cstr(struct text *t, const char *s)
{
    text_put(t, slice_cstr(s));
}

static void put_side(struct text *t, const struct diff_record *rec)
{
    if (!rec) {
        TEXT(t, "null");
        return;
    }
    TEXT(t, "{\"type\":\"");
    put_cstr(t, rdb_object_name((enum rdb_object)rec->object));
    put_cstr(t, rec->object == RDB_OBJ_STRING || rec->object == RDB_OBJ_MODULE
                    ? "\",\"bytes\":"
                    : "\",\"elements\":");
    text_u64(t, rec->elements);
    TEXT(t, ",\"expire_ms\":");
    if (rec->expire_ms < 0)
        TEXT(t, "null");
    else
        text_i64(t, rec->expire_ms);
    TEXT(t, "}");
}

static void put_json(struct diff *d, enum diff_kind kind, const struct diff_record *a,
                     const struct diff_record *b)
{
    struct text *t = &d->text;
    if (d->format == FORMAT_JSON && d->shown > 1)
        TEXT(t, ",");
    if (d->format == FORMAT_JSON)
        TEXT(t, "\n");
    TEXT(t, "{\"kind\":\"");
    put_cstr(t, kinds[kind].name);
    TEXT(t, "\",\"db\":");
    text_i64(t, a ? a->db : b->db);
    TEXT(t, ",\"key\":");
    text_json_string(t, buf_slice(&d->name));
    TEXT(t, ",\"a\":");
    put_side(t, a);
    TEXT(t, ",\"b\":");
    put_side(t, b);
    TEXT(t, "}");
    if (d->format == FORMAT_JSONL)
        TEXT(t, "\n");
}

static void put_what(struct text *t, const struct diff_record *rec, bool ttl)
{
    if (ttl && rec->expire_ms < 0) {
        TEXT(t, "none");
    } else if (ttl) {
        text_i64(t, rec->expire_ms);
    } else {
        put_cstr(t, rdb_object_name((enum rdb_object)rec->object));
        TEXT(t, " of ");
        text_u64(t, rec->elements);
    }
}

static void put_text(struct diff *d, enum diff_kind kind, const struct diff_record *a,
                     const struct diff_record *b)
{
    struct text *t = &d->text;
    bool ttl = kind == DIFF_TTL;
    put_cstr(t, kinds[kind].text);
    TEXT(t, ": db ");
    text_i64(t, a ? a->db : b->db);
    TEXT(t, " ");
    text_json_string(t, buf_slice(&d->name));
    TEXT(t, ": ");
    if (ttl && a && b && a->expire_ms == b->expire_ms) {
        TEXT(t, "of fields\n");
        return;
    }
    put_what(t, a ? a : b, ttl);
    if (a && b) {
        TEXT(t, " | ");
        put_what(t, b, ttl);
    }
    TEXT(t, "\n");
}

static int on_found(void *ctx, enum diff_kind kind, const struct diff_record *a,
                    const struct diff_record *b, struct err *e)
{
    struct diff *d = ctx;
    if (d->shown >= d->limit)
        return 0;
    d->shown++;
    int rc = diff_store_name(d->sides[a ? 0 : 1].store, a ? a : b, &d->name, e);
    if (rc)
        return rc;
    (d->format == FORMAT_TEXT ? put_text : put_json)(d, kind, a, b);
    text_flow(&d->text);
    return 0;
}

static void begin_output(struct diff *d)
{
    struct text *t = &d->text;
    if (d->format != FORMAT_JSON)
        return;
    TEXT(t, "{\"a\":");
    text_json_string(t, slice_cstr(d->sides[0].shown));
    TEXT(t, ",\"b\":");
    text_json_string(t, slice_cstr(d->sides[1].shown));
    TEXT(t, ",\"differences\":[");
}

static void end_json(struct diff *d)
{
    struct text *t = &d->text;
    put_cstr(t, d->format == FORMAT_JSON ? "],\n\"counts\":{" : "{\"counts\":{");
    TEXT(t, "\"a\":");
    text_u64(t, d->counts.a);
    TEXT(t, ",\"b\":");
    text_u64(t, d->counts.b);
    TEXT(t, ",\"equal\":");
    text_u64(t, d->counts.equal);
    for (int i = 0; i < DIFF_KINDS; i++) {
        TEXT(t, ",\"");
        put_cstr(t, kinds[i].count);
        TEXT(t, "\":");
        text_u64(t, d->counts.kinds[i]);
    }
    TEXT(t, ",\"expired\":");
    text_u64(t, d->sides[0].expired + d->sides[1].expired);
    TEXT(t, "}}\n");
}

static uint64_t differences(const struct diff *d)
{
    uint64_t n = 0;
    for (int i = 0; i < DIFF_KINDS; i++)
        n += d->counts.kinds[i];
    return n;
}

static void end_text(struct diff *d)
{
    struct text *t = &d->text;
    if (differences(d) > d->shown) {
        TEXT(t, "... and ");
        text_u64(t, differences(d) - d->shown);
        TEXT(t, " more\n");
    }
    text_u64(t, d->counts.a);
    TEXT(t, " keys in A, ");
    text_u64(t, d->counts.b);
    TEXT(t, " in B: ");
    text_u64(t, d->counts.equal);
    TEXT(t, " equal");
    for (int i = 0; i < DIFF_KINDS; i++) {
        TEXT(t, ", ");
        text_u64(t, d->counts.kinds[i]);
        TEXT(t, " ");
        put_cstr(t, kinds[i].text);
    }
    uint64_t expired = d->sides[0].expired + d->sides[1].expired;
    if (expired) {
        TEXT(t, "; ");
        text_u64(t, expired);
        TEXT(t, " expired ones not compared");
    }
    TEXT(t, "\n");
}

// ---- running ----

bool diff_wants(const struct diff_side *s, const struct rdb_item *item)
{
    return !slice_has_prefix(item->key, SLICE(POSITION_PREFIX)) &&
           !slice_has_prefix(item->key, SLICE(TURNS_PREFIX)) &&
           selection_wants(s->selection, item, s->now_ms);
}

static void read_side(void *arg)
{
    struct diff_side *s = arg;
    s->rc = (s->live ? diff_read_live : diff_read_file)(s, &s->err);
}

// Both at once: one waits for the disk while the other computes.
static int read_sides(struct diff *d, struct err *e)
{
    uv_thread_t other;
    must(uv_thread_create(&other, read_side, &d->sides[1]) == 0);
    read_side(&d->sides[0]);
    uv_thread_join(&other);
    for (int i = 0; i < 2; i++) {
        if (d->sides[i].rc) {
            *e = d->sides[i].err;
            return d->sides[i].rc;
        }
    }
    return 0;
}

static int compare(struct diff *d, struct err *e)
{
    int rc = rdb_out_open(&d->text.out, d->output ? d->output : "-", RDB_OUT_PLAIN, e);
    if (rc)
        return rc;
    begin_output(d);
    rc = diff_compare(d->sides[0].store, d->sides[1].store, &d->rules, &d->counts, e);
    if (rc) {
        rdb_out_discard(d->text.out);
        return rc;
    }
    (d->format == FORMAT_TEXT ? end_text : end_json)(d);
    text_send(&d->text);
    return rdb_out_commit(d->text.out, e);
}

static int run(struct diff *d, const char *verb)
{
    struct err e = {0};
    bool live = d->sides[0].live || d->sides[1].live, exact = true;
    for (int i = 0; i < 2; i++) {
        struct diff_side *s = &d->sides[i];
        // A server has no keys that have expired; a file may have them.
        s->drop_expired = live;
        s->now_ms = clock_unix_ms();
        s->store = diff_store_new(d->tmpdir);
    }
    int rc = read_sides(d, &e);
    for (int i = 0; i < 2; i++)
        exact = exact && !d->sides[i].ttl_is_rough;
    d->rules.ttl_tolerance_ms = d->tolerance >= 0 ? d->tolerance : exact ? 0 : 1000;
    if (rc == 0)
        rc = compare(d, &e);
    if (rc)
        return trouble(verb, &e);
    return differences(d) ? EXIT_DIFFERENT : EXIT_EQUAL;
}

int rdb_diff_main(int argc, char **argv)
{
    const char *tmpdir = getenv("TMPDIR");
    struct selection *s = selection_new();
    struct diff d = {.limit = UINT64_MAX,
                     .tolerance = -1,
                     .tmpdir = tmpdir && *tmpdir ? tmpdir : "/tmp",
                     .rules = {.memory = DEFAULT_MEMORY, .found = on_found}};
    d.rules.ctx = &d;
    int exit_code = take_options(&d, s, argc, argv);
    if (exit_code < 0)
        exit_code = run(&d, argv[0]);
    for (int i = 0; i < 2; i++) {
        verb_skipped(argv[0], &d.sides[i].unknown);
        diff_store_free(d.sides[i].store);
        endpoint_free(&d.sides[i].endpoint);
    }
    buf_free(&d.text.b);
    buf_free(&d.name);
    selection_free(s);
    return exit_code;
}

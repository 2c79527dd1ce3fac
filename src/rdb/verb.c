// SPDX-License-Identifier: Apache-2.0
#include "rdb/verb.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

enum { OPT_UNKNOWN = SELECTION_OPTION - 1 };

static const struct option common_options[] = {
    {"unknown", required_argument, NULL, OPT_UNKNOWN},
    {"help", no_argument, NULL, 'h'},
};
static const char unknown_help[] = "What only a newer server can have written:\n"
                                   "  --unknown WHAT       fail (default), or skip it where that "
                                   "is safe, and list it at the end\n";

static struct option *append(struct option *all, size_t *n, const struct option *more,
                             size_t more_n)
{
    all = xrealloc(all, (*n + more_n + 1) * sizeof(*all));
    if (more_n)
        memcpy(all + *n, more, more_n * sizeof(*all));
    *n += more_n;
    all[*n] = (struct option){0};
    return all;
}

static struct option *options_of(const struct verb_syntax *s)
{
    struct option *all = NULL;
    size_t own = 0, n = 0, skip = s->unknown ? 0 : 1;
    while (s->own && s->own[own].name)
        own++;
    all = append(all, &n, s->own, own);
    all = append(all, &n, common_options + skip, 2 - skip);
    return s->wanted ? append(all, &n, selection_options, selection_options_n) : all;
}

// The next option as getopt_long gives it, -1 at the end. What is wrong is printed, and '?'
// returned.
static int next_option(int argc, char **argv, const struct option *options)
{
    char letters[64] = ":";
    size_t n = 1;
    for (const struct option *o = options; o->name && n + 3 < sizeof(letters); o++) {
        if (o->val > 127)
            continue;
        letters[n++] = (char)o->val;
        if (o->has_arg == required_argument)
            letters[n++] = ':';
    }
    opterr = 0;
    int at = optind ? optind : 1;
    int c = getopt_long(argc, argv, letters, options, NULL);
    if (c == '?' || c == ':') {
        const char *word = argv[at < argc ? at : argc - 1];
        verb_usage(argv[0], c == ':' ? "%.80s needs a value" : "unknown option %.80s", word);
        return '?';
    }
    return c;
}

static int take_unknown(const char *verb, struct rdb_unknown *u, const char *arg)
{
    u->skip = strcmp(arg, "skip") == 0;
    if (u->skip || strcmp(arg, "fail") == 0)
        return EXIT_FINE;
    return verb_usage(verb, "--unknown: expected fail or skip, not \"%.40s\"", arg);
}

static int take(const struct verb_syntax *s, void *job, const char *verb, int c)
{
    struct err e = {0};
    int rc = 0;
    if (c == OPT_UNKNOWN)
        return take_unknown(verb, s->unknown, optarg);
    if (!s->wanted || !selection_option(s->wanted, c, optarg, &rc, &e))
        return s->take(job, c, optarg);
    return rc ? verb_usage(verb, "%s", e.msg) : EXIT_FINE;
}

int verb_parse(const struct verb_syntax *s, void *job, int argc, char **argv)
{
    struct option *all = options_of(s);
    int c, code = EXIT_FINE;
    bool help = false;
    while (code == EXIT_FINE && !help && (c = next_option(argc, argv, all)) != -1) {
        help = c == 'h';
        if (c == '?')
            code = EXIT_USAGE;
        else if (!help)
            code = take(s, job, argv[0], c);
    }
    if (help)
        printf("%s%s%s", s->help, s->wanted ? selection_help : "", s->unknown ? unknown_help : "");
    free(all);
    return code == EXIT_FINE && !help ? -1 : code;
}

int verb_run(const struct verb_syntax *s, void *job, int argc, char **argv)
{
    struct err e = {0};
    int code = verb_parse(s, job, argc, argv);
    if (code < 0)
        code = s->words(job, argc - optind, argv + optind);
    if (code < 0)
        code = s->run(job, &e) ? verb_failed(argv[0], &e) : EXIT_FINE;
    verb_skipped(argv[0], s->unknown);
    selection_free(s->wanted);
    return code;
}

void verb_skipped(const char *verb, struct rdb_unknown *u)
{
    if (u->n)
        fprintf(stderr, "gunyu rdb %s: skipped what this build does not know: %llu\n%s", verb,
                (unsigned long long)u->n, buf_cstr(&u->list));
    buf_free(&u->list);
}

__attribute__((format(printf, 2, 0))) static void line(const char *verb, const char *fmt,
                                                       va_list ap)
{
    char text[600];
    vsnprintf(text, sizeof(text), fmt, ap);
    fprintf(stderr, "gunyu rdb %s: %s", verb, text);
}

int verb_usage(const char *verb, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    line(verb, fmt, ap);
    va_end(ap);
    fprintf(stderr, "; see gunyu rdb %s --help\n", verb);
    return EXIT_USAGE;
}

int verb_failed(const char *verb, const struct err *e)
{
    fprintf(stderr, "gunyu rdb %s: %s\n", verb, e->msg);
    return EXIT_FAILED;
}

// The number in front and the unit behind it; false when there is no number.
static bool number_and_unit(const char *text, double *v, const char **unit)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *v = strtod(text, &end);
    *unit = end;
    return end > text && *v < 9e18;
}

bool verb_size(const char *text, uint64_t *out)
{
    static const char units[] = "kmgt";
    double v;
    const char *unit;
    if (!number_and_unit(text, &v, &unit))
        return false;
    const char *u = *unit ? strchr(units, *unit | 32) : NULL;
    if (*unit && u) {
        for (long i = 0; i <= u - units; i++)
            v *= 1024;
        unit++;
    }
    if (*unit && strcasecmp(unit, "b") != 0 && !(u && strcasecmp(unit, "ib") == 0))
        return false;
    if (v >= 9e18)
        return false;
    *out = (uint64_t)v;
    return true;
}

bool verb_span_ms(const char *text, int64_t *out)
{
    static const struct {
        const char *name;
        int64_t ms;
    } units[] = {{"", 1000},     {"ms", 1},      {"s", 1000},     {"m", 60000},
                 {"min", 60000}, {"h", 3600000}, {"d", 86400000}, {"w", 604800000}};
    double v;
    const char *unit;
    if (!number_and_unit(text, &v, &unit))
        return false;
    for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
        if (strcmp(units[i].name, unit) == 0 && v * (double)units[i].ms < 9e18) {
            *out = (int64_t)(v * (double)units[i].ms);
            return true;
        }
    }
    return false;
}

// SPDX-License-Identifier: Apache-2.0
#include "rdb/verb.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "rdb/select.h"

struct option *verb_options(const struct option *own, bool with_selection)
{
    size_t n = 0, more = with_selection ? selection_options_n : 0;
    while (own[n].name)
        n++;
    struct option *all = xcalloc(n + more + 1, sizeof(*all));
    memcpy(all, own, n * sizeof(*all));
    memcpy(all + n, selection_options, more * sizeof(*all));
    return all;
}

int verb_option(int argc, char **argv, const struct option *options)
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

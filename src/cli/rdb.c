// SPDX-License-Identifier: Apache-2.0
#include "cli/rdb.h"

#include <stdio.h>
#include <string.h>

#include "rdb/commands.h"

static const struct {
    const char *name;
    int (*main)(int argc, char **argv);
    const char *help;
} verbs[] = {
    {"load", rdb_load_main, "load files into a server"},
    {"print", rdb_print_main, "the keys as lines, JSON, CSV or commands"},
    {"filter", rdb_filter_main, "write the selected keys of a file into another"},
    {"split", rdb_split_main, "split a file by cluster slots"},
    {"merge", rdb_merge_main, "write the keys of several files into one"},
    {"dump", rdb_dump_main, "have a server make a file"},
    {"convert", rdb_convert_main, "write a file for another server version, or as commands"},
    {"diff", rdb_diff_main, "compare files, or a file with a running server"},
    {"report", rdb_report_main, "what takes the memory: types, prefixes, great keys, expiries"},
    {"verify", rdb_verify_main, "whether a file is sound"},
    {NULL, NULL, NULL},
};

static void help(FILE *f)
{
    fputs("usage: gunyu rdb COMMAND [OPTIONS] FILE...\n\n", f);
    for (size_t i = 0; verbs[i].name; i++)
        fprintf(f, "  %-8s %s\n", verbs[i].name, verbs[i].help);
    fputs("\n`gunyu rdb COMMAND --help` lists its options. FILE may be compressed by gzip, zstd or "
          "lz4;\n\"-\" is standard input.\n",
          f);
}

int cli_rdb(const struct cli_args *a)
{
    const char *verb = a->rest_n ? a->rest[0] : "";
    if (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0 || strcmp(verb, "help") == 0) {
        help(stdout);
        return EXIT_FINE;
    }
    for (size_t i = 0; verbs[i].name; i++)
        if (strcmp(verbs[i].name, verb) == 0)
            return verbs[i].main(a->rest_n, a->rest);
    if (a->rest_n) {
        fprintf(stderr, "gunyu: unknown rdb command \"%.40s\"; see gunyu rdb --help\n", verb);
        return EXIT_USAGE;
    }
    if (a->conf || a->flags_n)
        return rdb_compat_main(a->conf, a->flags, a->flags_n);
    help(stderr);
    return EXIT_USAGE;
}

// SPDX-License-Identifier: Apache-2.0
// For test_cmdtable_getkeys.py. Reads one command a line, arguments separated by tabs, and prints
// its keys, separated by tabs; "!" when the arguments do not fit, "?" when the command is unknown.
// With an argument it prints "blind" or "not blind" instead.
#include <stdio.h>
#include <stdlib.h>

#include "codec/cmdtable.h"

#define ARGS_MAX 256

static void print_keys(const struct cmd_info *info, int argc, const struct slice *argv)
{
    int pos[ARGS_MAX];
    int keys = info ? cmd_keys(info, argc, argv, pos) : -1;
    if (keys < 0)
        fputs(info ? "!" : "?", stdout);
    for (int i = 0; i < keys; i++)
        printf("%s%.*s", i ? "\t" : "", (int)argv[pos[i]].n, argv[pos[i]].p);
    putchar('\n');
}

int main(int args, char **arg)
{
    (void)arg;
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    while ((n = getline(&line, &cap, stdin)) > 0) {
        struct slice argv[ARGS_MAX];
        int argc = 0;
        const char *p = line, *end = line + n - (line[n - 1] == '\n');
        while (argc < ARGS_MAX) {
            const char *tab = memchr(p, '\t', (size_t)(end - p));
            argv[argc++] = slice_make(p, (size_t)((tab ? tab : end) - p));
            if (!tab)
                break;
            p = tab + 1;
        }
        const struct cmd_info *info = cmd_lookup(argc, argv);
        if (args < 2)
            print_keys(info, argc, argv);
        else
            puts(info && cmd_is_blind(info, argc, argv) ? "blind" : "not blind");
    }
    free(line);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
// redisGunYu's -cmd=rdb: what its file and flags say, in the words of our own commands.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/cli_args.h"
#include "control/config.h"
#include "rdb/commands.h"

struct words {
    char **v; // owns
    int n;
};

static void add(struct words *w, const char *text)
{
    w->v = xrealloc(w->v, (size_t)(w->n + 2) * sizeof(*w->v));
    w->v[w->n++] = xstrdup(text);
    w->v[w->n] = NULL;
}

static bool is_flag(const char *word)
{
    return strncmp(word, "-rdb.", 5) == 0 || strncmp(word, "--rdb.", 6) == 0;
}

// "-rdb.x", "v" as "--rdb.x=v".
static int add_flag(struct words *w, char *const *flags, int left)
{
    const char *name = flags[0] + (flags[0][1] == '-' ? 2 : 1);
    bool apart = !strchr(name, '=') && left > 1 && !is_flag(flags[1]);
    const char *value = strchr(name, '=') ? "" : apart ? flags[1] : "true";
    char *text = xasprintf("--%s%s%s", name, strchr(name, '=') ? "" : "=", value);
    add(w, text);
    free(text);
    return apart ? 2 : 1;
}

static void load_words(struct words *w, const char *conf, char *const *flags, int flags_n)
{
    add(w, "load");
    if (conf) {
        add(w, "--conf");
        add(w, conf);
    }
    for (int i = 0; i < flags_n;)
        i += add_flag(w, flags + i, flags_n - i);
}

static void print_words(struct words *w, const struct rdb_config *c)
{
    add(w, "print");
    add(w, "--module-aux");
    add(w, c->print_module_aux == MODULE_AUX_FAIL ? "fail" : "skip");
    if (c->print_no_key)
        add(w, "--no-key");
    if (c->print_no_value)
        add(w, "--no-value");
    if (c->print_output) {
        add(w, "--output");
        add(w, c->print_output);
    }
    add(w, "--");
    add(w, c->path);
}

int rdb_compat_main(const char *conf, char *const *flags, int flags_n)
{
    struct config *c = NULL;
    struct config_diags d = {0};
    struct config_sources src = {.file = conf, .flags = flags, .flags_n = flags_n};
    int rc = config_build(&c, CONFIG_RDB, &src, &d);
    if (rc == 0)
        rc = config_validate(c, &d);
    bool load = rc == 0 && c->rdb.action == RDB_ACTION_LOAD;
    if (!load) // which would show them once more
        config_diags_print(&d, stderr);
    config_diags_free(&d);
    struct words w = {0};
    int code = EXIT_USAGE;
    if (rc == 0 && load) {
        load_words(&w, conf, flags, flags_n);
        code = rdb_load_main(w.n, w.v);
    } else if (rc == 0) {
        print_words(&w, &c->rdb);
        code = rdb_print_main(w.n, w.v);
    }
    for (int i = 0; i < w.n; i++)
        free(w.v[i]);
    free(w.v);
    config_free(c);
    return code;
}

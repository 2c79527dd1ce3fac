// SPDX-License-Identifier: Apache-2.0
#include "control/config_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

static const char *const prefixes[] = {[CONFIG_SYNC] = "sync.", [CONFIG_RDB] = "rdb."};

// The name without dashes and prefix; NULL: not a flag of this scope.
static const char *strip(const char *arg, enum config_scope scope)
{
    size_t dashes = strspn(arg, "-");
    size_t n = strlen(prefixes[scope]);
    if (dashes < 1 || dashes > 2 || strncmp(arg + dashes, prefixes[scope], n) != 0)
        return NULL;
    return arg + dashes + n;
}

static void unknown_flag(struct config_builder *b, const char *arg, const char *name)
{
    char near[256];
    int shown = (int)strcspn(arg, "=");
    shown = shown > 120 ? 120 : shown;
    enum config_scope other = b->scope == CONFIG_SYNC ? CONFIG_RDB : CONFIG_SYNC;
    if (!name && strip(arg, other))
        config_diag_add(b->d, DIAG_ERROR, NULL, 0, 0, "flag %.*s belongs to another command", shown,
                        arg);
    else if (name && schema_nearest_flag(name, b->scope, near, sizeof(near)))
        config_diag_add(b->d, DIAG_ERROR, NULL, 0, 0, "unknown flag %.*s; did you mean --%s%s?",
                        shown, arg, prefixes[b->scope], near);
    else
        config_diag_add(b->d, DIAG_ERROR, NULL, 0, 0, "unknown flag %.*s", shown, arg);
}

static void set_flag(struct config_builder *b, int row, const char *value)
{
    const struct schema_row *r = &schema_rows[row];
    // A flag overrides the file; the same flag twice is as in Go: the last one wins.
    config_mark_given(b, row, (struct config_mark){0});
    if (r->type == T_IGNORED) {
        config_row_diag(b, row, DIAG_WARNING, "--%s%s has no effect: %s", prefixes[b->scope],
                        r->flag ? r->flag : r->path, r->note);
        return;
    }
    struct err e = {0};
    if (schema_set(b->c, r, value, &e))
        config_row_diag(b, row, DIAG_ERROR, "--%s%s: %s", prefixes[b->scope],
                        r->flag ? r->flag : r->path, e.msg);
}

static bool is_bool_word(const char *s)
{
    return strcasecmp(s, "true") == 0 || strcasecmp(s, "false") == 0;
}

// Returns how many arguments were used.
static int read_flag(struct config_builder *b, int argc, char *const *argv)
{
    const char *name = strip(argv[0], b->scope);
    const char *equals = strchr(argv[0], '=');
    if (!name) {
        unknown_flag(b, argv[0], NULL);
        return 1;
    }
    char *bare = xstrndup(name, equals ? (size_t)(equals - name) : strlen(name));
    int row = schema_find_flag(bare, b->scope);
    if (row < 0)
        unknown_flag(b, argv[0], bare);
    free(bare);
    if (row < 0)
        return argc > 1 && !equals && argv[1][0] != '-' ? 2 : 1;
    if (equals) {
        set_flag(b, row, equals + 1);
        return 1;
    }
    if (schema_rows[row].type == T_BOOL) {
        bool has_word = argc > 1 && is_bool_word(argv[1]);
        set_flag(b, row, has_word ? argv[1] : "true");
        return has_word ? 2 : 1;
    }
    if (argc < 2) {
        config_diag_add(b->d, DIAG_ERROR, NULL, 0, 0, "flag %.120s needs a value", argv[0]);
        return 1;
    }
    set_flag(b, row, argv[1]);
    return 2;
}

void config_read_flags(struct config_builder *b, int argc, char *const *argv)
{
    for (int i = 0; i < argc && b->d->errors < CONFIG_ERRORS_MAX;)
        i += read_flag(b, argc - i, argv + i);
}

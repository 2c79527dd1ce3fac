// SPDX-License-Identifier: Apache-2.0
#include "flow/rewrite.h"

#include <limits.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "flow/rewrite_impl.h"

static void register_rules(struct rewrite *w, const struct rewrite_rule *rules, int n, int first)
{
    for (int i = 0; i < n; i++) {
        const struct cmd_info *info = cmd_by_name(slice_cstr(rules[i].name));
        if (info)
            w->by_id[info->id] = (unsigned char)(first + i + 1);
    }
}

static void build_table(struct rewrite *w)
{
    must(rewrite_db_rule_count + rewrite_expiry_rule_count < UCHAR_MAX);
    w->by_id = xcalloc((size_t)cmd_count(), 1);
    register_rules(w, rewrite_db_rules, rewrite_db_rule_count, 0);
    register_rules(w, rewrite_expiry_rules, rewrite_expiry_rule_count, rewrite_db_rule_count);
}

void rewrite_free(struct rewrite *w)
{
    free(w->expiry);
    free(w->by_id);
    free(w->cmds);
    free(w->args);
    free(w->numbers);
    *w = (struct rewrite){0};
}

static bool is_mapped(const struct rewrite_dbs *dbs)
{
    return dbs->forced || dbs->map_n > 0 || dbs->shared;
}

enum rewrite_result rewrite_command(struct rewrite *w, const struct rewrite_input *in,
                                    const struct cmd_info *info, int argc, const struct slice *argv)
{
    w->expiries = 0;
    w->then_n = 0;
    w->moves_keys = false;
    if (!w->by_id)
        build_table(w);
    int i = info ? w->by_id[info->id] : 0;
    if (i == 0)
        return REWRITE_AS_IS;
    i--;
    const struct rewrite_rule *rule = i < rewrite_db_rule_count
                                          ? &rewrite_db_rules[i]
                                          : &rewrite_expiry_rules[i - rewrite_db_rule_count];
    w->moves_keys = rule->moves_keys;
    if (!rule->fn || (rule->needs_mapping && !is_mapped(in->dbs)))
        return REWRITE_AS_IS;
    struct rewrite_call call = {in, argc, argv};
    return rule->fn(w, rule, &call);
}

// ---- building ----

static void *make_room(void *p, int *cap, int n, size_t size)
{
    if (n <= *cap)
        return p;
    *cap = n < INT_MAX / 2 ? n * 2 : n;
    free(p);
    return xcalloc((size_t)*cap, size);
}

void rewrite_begin(struct rewrite *w, int cmds, int args, int numbers)
{
    w->cmds = make_room(w->cmds, &w->cmds_cap, cmds, sizeof(*w->cmds));
    w->args = make_room(w->args, &w->args_cap, args, sizeof(*w->args));
    w->numbers = make_room(w->numbers, &w->numbers_cap, numbers, sizeof(*w->numbers));
    w->cmds_n = w->args_n = w->numbers_n = 0;
}

void rewrite_name(struct rewrite *w, struct slice name)
{
    must(w->cmds_n < w->cmds_cap);
    w->cmds[w->cmds_n++] = (struct rewrite_cmd){0, w->args + w->args_n};
    rewrite_arg(w, name);
}

void rewrite_arg(struct rewrite *w, struct slice arg)
{
    must(w->args_n < w->args_cap);
    w->args[w->args_n++] = arg;
    w->cmds[w->cmds_n - 1].argc++;
}

void rewrite_args(struct rewrite *w, const struct slice *argv, int n)
{
    for (int i = 0; i < n; i++)
        rewrite_arg(w, argv[i]);
}

void rewrite_number(struct rewrite *w, int64_t v)
{
    must(w->numbers_n < w->numbers_cap);
    char *p = w->numbers[w->numbers_n++];
    rewrite_arg(w, slice_make(p, i64_format(p, v)));
}

enum rewrite_result rewrite_done(struct rewrite *w)
{
    w->argc = w->cmds[0].argc;
    w->argv = w->cmds[0].argv;
    w->then_n = w->cmds_n - 1;
    w->then = w->cmds + 1;
    return REWRITE_CHANGED;
}

void rewrite_note_held(struct rewrite *w, const struct slice *item, int n, int step,
                       const struct slice *hash, int64_t true_ms)
{
    w->expiry = make_room(w->expiry, &w->expiry_cap, n, sizeof(*w->expiry));
    w->expiries = n;
    for (int i = 0; i < n; i++) {
        struct slice it = item[i * step];
        w->expiry[i] = (struct rewrite_expiry){.key = hash ? *hash : it,
                                               .field = hash ? it : (struct slice){0},
                                               .true_ms = true_ms,
                                               .held = true};
    }
}

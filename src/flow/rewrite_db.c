// SPDX-License-Identifier: Apache-2.0
// Commands that name dbs or clear them.
#include <limits.h>

#include "flow/rewrite_impl.h"

#define DEFAULT_DBS 16

static bool db_number(struct slice s, int *db)
{
    int64_t v;
    if (!slice_i64(s, &v) || v < 0 || v > INT_MAX)
        return false;
    *db = (int)v;
    return true;
}

static bool source_has(const struct rewrite_dbs *dbs, int db)
{
    return dbs->source_dbs == 0 || db < dbs->source_dbs;
}

// No other db of this source writes into the target db of db.
static bool is_only_db(const struct rewrite_dbs *dbs, int db)
{
    if (dbs->forced)
        return dbs->source_dbs == 1;
    int target = rewrite_map_db(dbs, db);
    for (int other = 0; other < dbs->map_n; other++)
        if (other != db && source_has(dbs, other) && dbs->map[other] == target)
            return false;
    return target == db || !source_has(dbs, target) || rewrite_map_db(dbs, target) != target;
}

// Nor does another source.
static bool has_target_alone(const struct rewrite_dbs *dbs, int db)
{
    return !dbs->shared && is_only_db(dbs, db);
}

static enum rewrite_result select_db(struct rewrite *w, const struct rewrite_rule *rule,
                                     const struct rewrite_call *c)
{
    (void)rule;
    const struct rewrite_dbs *dbs = c->in->dbs;
    int db;
    if (c->argc != 2 || !db_number(c->argv[1], &db) || rewrite_map_db(dbs, db) == db)
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, 2, 1);
    rewrite_name(w, c->argv[0]);
    rewrite_number(w, rewrite_map_db(dbs, db));
    return rewrite_done(w);
}

static enum rewrite_result swap_dbs(struct rewrite *w, const struct rewrite_rule *rule,
                                    const struct rewrite_call *c)
{
    (void)rule;
    const struct rewrite_dbs *dbs = c->in->dbs;
    int a, b;
    if (c->argc != 3 || !db_number(c->argv[1], &a) || !db_number(c->argv[2], &b))
        return REWRITE_AS_IS;
    // Which of the dbs a key of the union came from is nowhere written, so nothing changes.
    if (rewrite_map_db(dbs, a) == rewrite_map_db(dbs, b))
        return rewrite_not(w, REWRITE_DROP, "both dbs are one at the target");
    if (!has_target_alone(dbs, a) || !has_target_alone(dbs, b))
        return rewrite_not(w, REWRITE_REFUSED,
                           "SWAPDB would move data of other dbs or sources at the target");
    if (rewrite_map_db(dbs, a) == a && rewrite_map_db(dbs, b) == b)
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, 3, 2);
    rewrite_name(w, c->argv[0]);
    rewrite_number(w, rewrite_map_db(dbs, a));
    rewrite_number(w, rewrite_map_db(dbs, b));
    return rewrite_done(w);
}

static enum rewrite_result move_key(struct rewrite *w, const struct rewrite_rule *rule,
                                    const struct rewrite_call *c)
{
    (void)rule;
    const struct rewrite_dbs *dbs = c->in->dbs;
    int db;
    if (c->argc != 3 || !db_number(c->argv[2], &db))
        return REWRITE_AS_IS;
    // The source moved it, so no key of that name was in the way: in the union it stays in place.
    if (rewrite_map_db(dbs, db) == rewrite_map_db(dbs, c->in->db))
        return rewrite_not(w, REWRITE_DROP, "both dbs are one at the target");
    if (rewrite_map_db(dbs, db) == db)
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, 3, 1);
    rewrite_name(w, c->argv[0]);
    rewrite_arg(w, c->argv[1]);
    rewrite_number(w, rewrite_map_db(dbs, db));
    return rewrite_done(w);
}

static enum rewrite_result copy_key(struct rewrite *w, const struct rewrite_rule *rule,
                                    const struct rewrite_call *c)
{
    (void)rule;
    const struct rewrite_dbs *dbs = c->in->dbs;
    int db = -1, at = 0;
    for (int i = 3; i < c->argc; i++)
        if (slice_ieq(c->argv[i], SLICE("DB")) && i + 1 < c->argc && db_number(c->argv[i + 1], &db))
            at = ++i;
    if (at == 0)
        return REWRITE_AS_IS;
    int target = rewrite_map_db(dbs, db);
    if (target == rewrite_map_db(dbs, c->in->db) && slice_eq(c->argv[1], c->argv[2]))
        return rewrite_not(w, REWRITE_DROP, "the key and its copy are one at the target");
    if (target == db)
        return REWRITE_AS_IS;
    rewrite_begin(w, 1, c->argc, 1);
    rewrite_name(w, c->argv[0]);
    rewrite_args(w, c->argv + 1, at - 1);
    rewrite_number(w, target);
    rewrite_args(w, c->argv + at + 1, c->argc - at - 1);
    return rewrite_done(w);
}

static enum rewrite_result flush_db(struct rewrite *w, const struct rewrite_rule *rule,
                                    const struct rewrite_call *c)
{
    (void)rule;
    const struct rewrite_dbs *dbs = c->in->dbs;
    if (dbs->by_slot ? is_only_db(dbs, c->in->db) : has_target_alone(dbs, c->in->db))
        return REWRITE_AS_IS;
    return rewrite_not(w, REWRITE_REFUSED,
                       "FLUSHDB would remove data of other dbs or sources at the target");
}

static bool is_first_with_target(const struct rewrite_dbs *dbs, int db)
{
    for (int i = 0; i < db; i++)
        if (rewrite_map_db(dbs, i) == rewrite_map_db(dbs, db))
            return false;
    return true;
}

static void flush_selected(struct rewrite *w, const struct rewrite_call *c)
{
    rewrite_name(w, SLICE("FLUSHDB"));
    rewrite_args(w, c->argv + 1, c->argc - 1);
}

// Everything of the source is gone: the dbs that hold it are cleared, and no others.
static enum rewrite_result flush_all(struct rewrite *w, const struct rewrite_rule *rule,
                                     const struct rewrite_call *c)
{
    (void)rule;
    const struct rewrite_dbs *dbs = c->in->dbs;
    if (dbs->by_slot)
        return REWRITE_AS_IS;
    if (dbs->shared)
        return rewrite_not(w, REWRITE_REFUSED,
                           "FLUSHALL would remove data of other sources at the target");
    if (c->argc > 2)
        return REWRITE_AS_IS;
    if (dbs->forced) {
        rewrite_begin(w, 1, c->argc, 0);
        flush_selected(w, c);
        return rewrite_done(w);
    }
    if (!c->in->several)
        return rewrite_not(w, REWRITE_REFUSED, "FLUSHALL takes several commands at the target");
    int n = dbs->source_dbs;
    if (n == 0)
        n = dbs->map_n > DEFAULT_DBS ? dbs->map_n : DEFAULT_DBS;
    rewrite_begin(w, 2 * n + 1, (2 + c->argc) * n + 2, n + 1);
    for (int db = 0; db < n; db++) {
        int target = rewrite_map_db(dbs, db);
        if ((c->in->target_dbs > 0 && target >= c->in->target_dbs) ||
            !is_first_with_target(dbs, db))
            continue;
        rewrite_name(w, SLICE("SELECT"));
        rewrite_number(w, target);
        flush_selected(w, c);
    }
    rewrite_name(w, SLICE("SELECT"));
    rewrite_number(w, rewrite_map_db(dbs, c->in->db));
    return rewrite_done(w);
}

const struct rewrite_rule rewrite_db_rules[] = {
    {.name = "select", .fn = select_db, .needs_mapping = true},
    {.name = "swapdb", .fn = swap_dbs, .needs_mapping = true, .moves_keys = true},
    {.name = "move", .fn = move_key, .needs_mapping = true, .moves_keys = true},
    {.name = "copy", .fn = copy_key, .needs_mapping = true, .moves_keys = true},
    {.name = "flushdb", .fn = flush_db, .needs_mapping = true},
    {.name = "flushall", .fn = flush_all, .needs_mapping = true},
    {.name = "rename", .moves_keys = true},
    {.name = "renamenx", .moves_keys = true},
    // Sources before 5.0 send scripts instead of what they did.
    {.name = "eval", .moves_keys = true},
    {.name = "evalsha", .moves_keys = true},
};
const int rewrite_db_rule_count = sizeof(rewrite_db_rules) / sizeof(rewrite_db_rules[0]);

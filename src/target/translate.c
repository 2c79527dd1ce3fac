// SPDX-License-Identifier: Apache-2.0
#include "target/translate.h"

#include <stdlib.h>

#include "base/mem.h"
#include "target/ability.h"

void translate_init(struct translate *t, const struct translate_options *o)
{
    *t = (struct translate){.o = *o};
    t->in = (struct rewrite_input){.dbs = &t->o.dbs,
                                   .several = true,
                                   .target_dbs = o->databases,
                                   .target_version = o->target_is_valkey ? 0 : o->target_version,
                                   .source_is_valkey = o->source_is_valkey};
    t->eval = cmd_by_name(SLICE("eval"));
    t->evalsha = cmd_by_name(SLICE("evalsha"));
    t->script_load = cmd_by_name(SLICE("script|load"));
    struct ability can;
    ability_of(&can, o->target_version, o->target_is_valkey);
    downgrade_init(&t->downgrade, o->target_is_valkey, o->target_version, can.rdb_version);
}

void translate_free(struct translate *t)
{
    rewrite_free(&t->rewrite);
    downgrade_free(&t->downgrade);
    filter_scratch_free(&t->scratch);
    free(t->spelled);
}

void translate_set_clock(struct translate *t, int64_t now_ms, int64_t hold_before)
{
    t->in.now_ms = now_ms;
    t->in.hold_before = hold_before;
}

static enum translate_verdict not_sent(struct translate *t, enum translate_verdict v,
                                       const char *reason)
{
    t->reason = reason;
    return v;
}

struct rewrite_cmd translate_get(const struct translate *t, int i)
{
    if (!t->rewritten)
        return (struct rewrite_cmd){t->argc, t->argv};
    return i == 0 ? (struct rewrite_cmd){t->rewrite.argc, t->rewrite.argv} : t->rewrite.then[i - 1];
}

const struct cmd_info *translate_info(const struct translate *t, int i)
{
    struct rewrite_cmd c = translate_get(t, i);
    return t->rewritten ? cmd_lookup(c.argc, c.argv) : t->info;
}

static int make_known(struct translate *t, const struct cmd_info *info, struct rewrite_cmd c)
{
    t->same = c;
    t->is_changed = false;
    if (!downgrade_concerns(&t->downgrade, info))
        return 1;
    switch (downgrade_command(&t->downgrade, info, c.argc, c.argv)) {
    case REWRITE_AS_IS:
        return 1;
    case REWRITE_CHANGED:
        t->is_changed = true;
        return 1 + t->downgrade.out.then_n;
    case REWRITE_DROP:
        t->reason = t->downgrade.out.reason;
        return 0;
    case REWRITE_REFUSED:
        t->reason = t->downgrade.out.reason;
        return -1;
    }
    return -1;
}

int translate_known_of(struct translate *t, int argc, const struct slice *argv)
{
    t->known = -1;
    return make_known(t, cmd_lookup(argc, argv), (struct rewrite_cmd){argc, argv});
}

int translate_known(struct translate *t, int i)
{
    if (t->known != i) {
        struct rewrite_cmd c = translate_get(t, i);
        t->known = i;
        t->known_n = make_known(t, translate_info(t, i), c);
    }
    return t->known_n;
}

struct rewrite_cmd translate_known_get(const struct translate *t, int i)
{
    const struct rewrite *w = &t->downgrade.out;
    if (!t->is_changed)
        return t->same;
    return i == 0 ? (struct rewrite_cmd){w->argc, w->argv} : w->then[i - 1];
}

// Nothing may be refused any more once the first of several commands is on its way.
static enum translate_verdict judge_known(struct translate *t)
{
    int sum = 0;
    for (int i = 0; i < t->n; i++) {
        int n = translate_known(t, i);
        if (n < 0)
            return TRANSLATE_REFUSE;
        sum += n;
    }
    return sum ? TRANSLATE_SEND : TRANSLATE_DROP;
}

static enum translate_verdict reword(struct translate *t)
{
    t->db = rewrite_map_db(&t->o.dbs, t->in.db);
    if (t->o.databases > 0 && t->db >= t->o.databases)
        return not_sent(t, TRANSLATE_REFUSE,
                        "the target has no such db; map it with output.replay.targetDbMap or raise "
                        "\"databases\" there");
    switch (rewrite_command(&t->rewrite, &t->in, t->info, t->argc, t->argv)) {
    case REWRITE_AS_IS:
        break;
    case REWRITE_CHANGED:
        t->rewritten = true;
        t->n = 1 + t->rewrite.then_n;
        break;
    case REWRITE_DROP:
        return not_sent(t, TRANSLATE_DROP, t->rewrite.reason);
    case REWRITE_REFUSED:
        return not_sent(t, TRANSLATE_REFUSE, t->rewrite.reason);
    }
    enum translate_verdict v = judge_known(t);
    t->as_is = t->as_is && !t->rewritten && !t->is_changed;
    return v;
}

static void note_script(struct translate *t)
{
    if (t->info == t->eval && t->argc > 1)
        scripts_note(t->o.scripts, t->argv[1]);
    else if (t->info == t->script_load && t->argc > 2)
        scripts_note(t->o.scripts, t->argv[2]);
}

// The target, or the node of it that has the keys, may not have been sent the script.
static void spell_script(struct translate *t)
{
    struct slice body;
    if (t->info != t->evalsha || t->argc < 2 || !scripts_find(t->o.scripts, t->argv[1], &body))
        return;
    if (t->argc > t->spelled_cap) {
        t->spelled_cap = t->argc;
        t->spelled = xrealloc(t->spelled, (size_t)t->argc * sizeof(*t->spelled));
    }
    memcpy(t->spelled, t->argv, (size_t)t->argc * sizeof(*t->spelled));
    t->spelled[0] = SLICE("EVAL");
    t->spelled[1] = body;
    t->info = t->eval;
    t->argv = t->spelled;
    t->as_is = false;
}

enum translate_verdict translate_command(struct translate *t, int db, const struct cmd_info *info,
                                         int argc, const struct slice *argv)
{
    t->in.db = db;
    t->info = info;
    t->argc = argc;
    t->argv = argv;
    t->n = 1;
    t->as_is = true;
    t->rewritten = false;
    t->known = -1;
    if (t->o.scripts && info)
        note_script(t);
    switch (t->o.filter ? filter_command(t->o.filter, db, info, argc, argv, &t->scratch)
                        : FILTER_PASS) {
    case FILTER_PASS:
        break;
    case FILTER_DROP:
        return not_sent(t, TRANSLATE_DROP, filter_reason_name(t->scratch.reason));
    case FILTER_PROJECT:
        t->info = t->scratch.info;
        t->argc = t->scratch.argc;
        t->argv = t->scratch.argv;
        t->as_is = false;
        break;
    }
    if (t->o.scripts && t->info)
        spell_script(t);
    return reword(t);
}

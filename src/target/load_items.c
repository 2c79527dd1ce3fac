// SPDX-License-Identifier: Apache-2.0
// What a snapshot holds beside keys: functions, scripts, commands.
#include <stdlib.h>

#include "base/mem.h"
#include "codec/cmdtable.h"
#include "codec/resp.h"
#include "codec/slot.h"
#include "target/load_int.h"
#include "target/scripts.h"

void load_take_stream_db(struct load *l, const struct rdb_item *item)
{
    int64_t v;
    if (slice_eq(item->key, SLICE("repl-stream-db")) && slice_i64(item->value, &v) && v >= 0 &&
        v <= INT32_MAX)
        l->stream_db = (int)v;
}

static void put_aside(struct load *l, struct pass *p, int db)
{
    struct aside *a = &l->aside;
    buf_clear(&a->text);
    a->cmds = a->node = 0;
    a->db = db;
    a->everywhere = false;
    p->slot = SINK_ANY_NODE;
    p->stage = STAGE_ASIDE;
}

static void put_aside_for_all(struct load *l, struct pass *p)
{
    put_aside(l, p, -1);
    l->aside.everywhere = true;
    p->slot = sink_to_node(0);
}

int load_function(struct load *l, struct pass *p, struct err *e)
{
    const struct rdb_item *item = &p->item;
    if (ability_lacks(&l->can, LOSS_FUNCTION))
        return load_lose_item(l, p, (struct slice){0}, LOSS_FUNCTION, e);
    struct aside *a = &l->aside;
    put_aside_for_all(l, p);
    if (l->o.functions == LOAD_FUNCTIONS_FLUSH && !l->functions_flushed) {
        l->functions_flushed = true;
        resp_put_cmd(&a->text, "FUNCTION FLUSH SYNC");
        a->cmds++;
    }
    if (l->o.functions == LOAD_FUNCTIONS_APPEND)
        resp_put_cmd(&a->text, "FUNCTION LOAD %b", &item->value);
    else
        resp_put_cmd(&a->text, "FUNCTION LOAD REPLACE %b", &item->value);
    a->cmds++;
    l->stats.functions++;
    return 0;
}

int load_module_aux(struct load *l, struct pass *p, struct err *e)
{
    if (!l->o.skip_module_aux)
        return load_lose_item(l, p, (struct slice){0}, LOSS_MODULE_AUX, e);
    l->stats.degraded[LOSS_MODULE_AUX]++;
    return 0;
}

void load_aux(struct load *l, struct pass *p)
{
    load_take_stream_db(l, &p->item);
    if (slice_eq(p->item.key, SLICE("lua"))) {
        put_aside_for_all(l, p);
        resp_put_cmd(&l->aside.text, "SCRIPT LOAD %b", &p->item.value);
        l->aside.cmds = 1;
        if (l->o.scripts)
            scripts_note(l->o.scripts, p->item.value);
    }
}

int load_no_such_db(int db, struct err *e)
{
    return err_set(e, ERR_UNSUPPORTED,
                   "the source uses db %d, which the target does not have; map it with "
                   "output.replay.targetDbMap or raise \"databases\" there",
                   db);
}

// In a cluster: the slot of a command's keys.
static int slot_of_command(const struct rdb_item *it, int argc, const struct slice *argv, int *slot,
                           struct err *e)
{
    const struct cmd_info *info = cmd_lookup(argc, argv);
    int *at = xcalloc((size_t)argc, sizeof(*at));
    int keys = info ? cmd_keys(info, argc, argv, at) : -1;
    bool one = keys > 0;
    for (int i = 0; i < keys; i++) {
        int s = slot_of(argv[at[i]]);
        one = one && (i == 0 || s == *slot);
        *slot = s;
    }
    free(at);
    if (!one)
        return err_set(e, ERR_UNSUPPORTED,
                       "byte %llu of the snapshot: a command (%.*s) whose keys are not known to "
                       "lie in one slot of the target",
                       (unsigned long long)it->start, (int)(argv[0].n < 40 ? argv[0].n : 40),
                       argv[0].p);
    return 0;
}

// What it names may be there when it is carried out.
static void tell_keys(struct load *l, const struct rdb_item *it, int db, int argc,
                      const struct slice *argv)
{
    const struct cmd_info *info = cmd_lookup(argc, argv);
    int *at = xcalloc((size_t)argc, sizeof(*at));
    int n = info ? cmd_keys(info, argc, argv, at) : 0;
    for (int i = 0; i < n; i++)
        l->o.met(l->o.ctx, it->start, db, argv[at[i]]);
    free(at);
}

// A write that the source carried out while it wrote the file.
int load_command(struct load *l, struct pass *p, struct err *e)
{
    const struct rdb_item *it = &p->item;
    struct resp_cmd c = {0};
    struct filter_scratch s = {0};
    int rc = 0, db = l->o.map_db(l->o.ctx, it->db);
    if (resp_cmd_parse(&c, it->value.p, it->value.n) != 1)
        rc = err_set(e, ERR_CORRUPT, "byte %llu of the snapshot: a command that is none",
                     (unsigned long long)it->start);
    int argc = c.argc;
    const struct slice *argv = c.argv;
    enum filter_verdict v = FILTER_PASS;
    if (rc == 0 && l->o.filter)
        v = filter_command(l->o.filter, it->db, cmd_lookup(argc, argv), argc, argv, &s);
    if (v == FILTER_PROJECT) {
        argc = s.argc;
        argv = s.argv;
    }
    if (rc == 0 && v != FILTER_DROP && db < 0)
        rc = load_no_such_db(it->db, e);
    int slot = SINK_ANY_NODE;
    if (rc == 0 && v != FILTER_DROP && l->o.cluster)
        rc = slot_of_command(it, argc, argv, &slot, e);
    if (rc == 0 && v != FILTER_DROP) {
        put_aside(l, p, db);
        p->slot = slot;
        resp_put_argv(&l->aside.text, argc, argv);
        l->aside.cmds = 1;
        if (l->o.met)
            tell_keys(l, it, db, argc, argv);
    }
    filter_scratch_free(&s);
    resp_cmd_free(&c);
    return rc;
}

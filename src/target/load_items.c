// SPDX-License-Identifier: Apache-2.0
// What a snapshot holds beside keys: functions, scripts, commands.
#include "codec/cmdtable.h"
#include "codec/resp.h"
#include "target/load_int.h"

void load_take_stream_db(struct load *l, const struct rdb_item *item)
{
    int64_t v;
    if (slice_eq(item->key, SLICE("repl-stream-db")) && slice_i64(item->value, &v) && v >= 0 &&
        v <= INT32_MAX)
        l->stream_db = (int)v;
}

int load_function(struct load *l, struct pass *p, struct err *e)
{
    const struct rdb_item *item = &p->item;
    if (ability_lacks(&l->can, LOSS_FUNCTION))
        return load_lose_item(l, p, (struct slice){0}, LOSS_FUNCTION, e);
    load_unit_begin(l);
    buf_clear(&l->scratch);
    if (l->o.functions == LOAD_FUNCTIONS_FLUSH && !l->functions_flushed) {
        l->functions_flushed = true;
        resp_put_cmd(&l->scratch, "FUNCTION FLUSH SYNC");
        load_send_scratch(l, BUILD_REF | item->start);
    }
    if (l->o.functions == LOAD_FUNCTIONS_APPEND)
        resp_put_cmd(&l->scratch, "FUNCTION LOAD %b", &item->value);
    else
        resp_put_cmd(&l->scratch, "FUNCTION LOAD REPLACE %b", &item->value);
    load_send_scratch(l, BUILD_REF | item->start);
    load_unit_end(l);
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

void load_aux(struct load *l, const struct rdb_item *item)
{
    load_take_stream_db(l, item);
    if (slice_eq(item->key, SLICE("lua"))) {
        load_unit_begin(l);
        buf_clear(&l->scratch);
        resp_put_cmd(&l->scratch, "SCRIPT LOAD %b", &item->value);
        load_send_scratch(l, BUILD_REF | item->start);
        load_unit_end(l);
    }
}

int load_no_such_db(int db, struct err *e)
{
    return err_set(e, ERR_UNSUPPORTED,
                   "the source uses db %d, which the target does not have; map it with "
                   "output.replay.targetDbMap or raise \"databases\" there",
                   db);
}

// A write that the source carried out while it wrote the file.
int load_command(struct load *l, const struct rdb_item *it, struct err *e)
{
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
    if (rc == 0 && v != FILTER_DROP) {
        load_unit_begin(l);
        sink_select(l->o.sink, db, BUILD_REF | it->start);
        buf_clear(&l->scratch);
        resp_put_argv(&l->scratch, argc, argv);
        load_send_scratch(l, BUILD_REF | it->start);
        load_unit_end(l);
    }
    filter_scratch_free(&s);
    resp_cmd_free(&c);
    return rc;
}

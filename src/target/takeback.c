// SPDX-License-Identifier: Apache-2.0
#include "target/takeback.h"

#include <stdlib.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/cmdtable.h"
#include "codec/resp.h"
#include "codec/slot.h"

enum { UNIT_KEYS = 32 };

// A key that is to be deleted.
struct wanted {
    size_t at, n; // in keys
    int db;       // target's
    uint64_t ref;
};

struct takeback {
    struct takeback_options o;
    size_t next; // of what is kept aside
    struct journal_reader *reader;
    struct rdb_reader *rdb; // NULL: between two files
    struct wanted *wanted;  // of one item
    size_t wanted_n, wanted_done, wanted_cap;
    struct buf keys, text;
    bool unit_open;
    int unit_keys, unit_slot, unit_db;
    uint64_t sent;
};

struct takeback *takeback_new(const struct takeback_options *o)
{
    struct takeback *t = xcalloc(1, sizeof(*t));
    t->o = *o;
    return t;
}

static void close_file(struct takeback *t)
{
    rdb_reader_free(t->rdb);
    t->rdb = NULL;
    journal_reader_close(t->reader);
    t->reader = NULL;
}

void takeback_free(struct takeback *t)
{
    if (!t)
        return;
    close_file(t);
    free(t->wanted);
    buf_free(&t->keys);
    buf_free(&t->text);
    free(t);
}

uint64_t takeback_keys(const struct takeback *t)
{
    return t->sent;
}

static void open_file(struct takeback *t)
{
    struct err e;
    t->reader = journal_aside_open(t->o.journal, t->next++, &e);
    if (!t->reader) {
        log_warn(t->o.tag, "%s; its keys are not taken back from the target", e.msg);
        return;
    }
    t->rdb = rdb_reader_new(false);
    rdb_reader_skip_unknown(t->rdb, t->o.skip_unknown);
}

// ---- sending ----

// Nothing of the snapshot that follows is loaded yet.
static void unit_close(struct takeback *t)
{
    struct batch_mark mark = {.loading = true};
    if (t->unit_open)
        sink_unit_end(t->o.sink, &mark);
    t->unit_open = false;
}

// False: not now.
static bool send_del(struct takeback *t, const struct wanted *w)
{
    struct slice key = slice_make(t->keys.p + w->at, w->n);
    int slot = t->o.cluster ? slot_of(key) : SINK_ANY_NODE;
    if (slot != t->unit_slot || w->db != t->unit_db || t->unit_keys == UNIT_KEYS)
        unit_close(t);
    if (!sink_room(t->o.sink))
        return false;
    if (!t->unit_open) {
        must(sink_unit_begin(t->o.sink, slot, false));
        sink_select(t->o.sink, w->db, w->ref);
        t->unit_open = true;
        t->unit_keys = 0;
        t->unit_slot = slot;
        t->unit_db = w->db;
    }
    buf_clear(&t->text);
    resp_put_cmd(&t->text, t->o.unlink ? "UNLINK %b" : "DEL %b", &key);
    outq_put(sink_out(t->o.sink), t->text.p, t->text.n);
    sink_cmd(t->o.sink, w->ref);
    t->unit_keys++;
    t->sent++;
    fault_point("takeback.key");
    return true;
}

static bool send_wanted(struct takeback *t)
{
    while (t->wanted_done < t->wanted_n)
        if (!send_del(t, &t->wanted[t->wanted_done]))
            return false;
        else
            t->wanted_done++;
    buf_clear(&t->keys);
    t->wanted_n = t->wanted_done = 0;
    return true;
}

static void take_key(struct takeback *t, const struct rdb_item *item, struct slice key)
{
    int db = t->o.map_db(t->o.ctx, item->db);
    if (db < 0 || (t->o.filter && !filter_key(t->o.filter, item->db, key)) ||
        !t->o.is_ours(t->o.ctx, key))
        return;
    if (t->wanted_n == t->wanted_cap) {
        t->wanted_cap = 2 * t->wanted_cap + 1;
        t->wanted = xrealloc(t->wanted, t->wanted_cap * sizeof(*t->wanted));
    }
    t->wanted[t->wanted_n++] =
        (struct wanted){.at = t->keys.n, .n = key.n, .db = db, .ref = item->start};
    buf_append_slice(&t->keys, key);
}

// A write that the source carried out while it wrote the file.
static void take_command(struct takeback *t, const struct rdb_item *item)
{
    struct resp_cmd c = {0};
    if (resp_cmd_parse(&c, item->value.p, item->value.n) == 1) {
        const struct cmd_info *info = cmd_lookup(c.argc, c.argv);
        int *at = xcalloc((size_t)c.argc, sizeof(*at));
        int n = info ? cmd_keys(info, c.argc, c.argv, at) : 0;
        for (int i = 0; i < n; i++)
            take_key(t, item, c.argv[at[i]]);
        free(at);
    }
    resp_cmd_free(&c);
}

// ---- reading ----

// One file, until the budget is used up.
static enum load_result run(struct takeback *t, size_t budget)
{
    struct err e;
    struct rdb_item item;
    const char *p;
    size_t n;
    uint64_t from = rdb_needs_from(t->rdb);
    journal_snapshot_release(t->reader, from);
    int rc = journal_snapshot_view(t->reader, from, &p, &n, &e);
    if (rc == 0)
        rdb_feed(t->rdb, p, from, n);
    while (rc == 0 && (rc = rdb_next(t->rdb, &item, &e)) == RDB_ITEM) {
        if (item.kind == RDB_KIND_KEY)
            take_key(t, &item, item.key);
        else if (item.kind == RDB_KIND_COMMAND)
            take_command(t, &item);
        if (!send_wanted(t))
            return LOAD_WAIT;
        if (item.start - from > budget)
            return LOAD_MORE_NOW;
        rc = 0;
    }
    if (rc < 0)
        log_warn(t->o.tag, "of what is to be taken back a part cannot be read: %s", e.msg);
    return LOAD_FINISHED;
}

enum load_result takeback_pump(struct takeback *t, size_t budget)
{
    if (!t->rdb && t->next < journal_asides(t->o.journal))
        open_file(t);
    if (t->rdb) {
        enum load_result r = send_wanted(t) ? run(t, budget) : LOAD_WAIT;
        unit_close(t);
        if (r == LOAD_FINISHED)
            close_file(t);
        return r == LOAD_WAIT ? LOAD_WAIT : LOAD_MORE_NOW;
    }
    if (t->next < journal_asides(t->o.journal))
        return LOAD_MORE_NOW;
    return sink_idle(t->o.sink) ? LOAD_FINISHED : LOAD_WAIT;
}

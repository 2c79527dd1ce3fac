// SPDX-License-Identifier: Apache-2.0
#include "target/load.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/fault.h"
#include "base/mem.h"
#include "codec/dump.h"
#include "codec/rdb_types.h"
#include "codec/slot.h"
#include "target/load_int.h"

enum {
    STRING_LIMIT = 1 << 20,  // longer strings go by RESTORE or in pieces
    PIECE_LIMIT = 256 << 10, // of a string that is built
    LOWEST_DUMP_VERSION = 6,
};

// A load that goes on in the middle needs what the file's head says.
static void read_head(struct load *l)
{
    struct rdb_reader *r = rdb_reader_new(false);
    struct rdb_item item;
    const char *p;
    size_t n;
    rdb_reader_skip_unknown(r, l->o.skip_unknown);
    if (journal_snapshot_view(l->reader, 0, &p, &n, NULL) == 0) {
        rdb_feed(r, p, 0, n);
        while (rdb_next(r, &item, NULL) == RDB_ITEM && item.kind != RDB_KIND_KEY)
            if (item.kind == RDB_KIND_AUX)
                load_take_stream_db(l, &item);
    }
    rdb_reader_share_templates(l->main.rdb, r);
    rdb_reader_free(r);
}

// What has to lie in the journal as a whole may be so long, beside what is in flight.
static uint64_t quarter_of_journal(const struct load_options *o)
{
    struct journal_info ji;
    journal_get_info(o->journal, &ji);
    return ji.max_size > 0 ? (uint64_t)ji.max_size / 4 : UINT64_MAX;
}

struct load *load_new(const struct load_options *o, uint64_t rdb_index, int db, int version,
                      uint64_t again_until)
{
    struct load *l = xcalloc(1, sizeof(*l));
    l->o = *o;
    l->rewind = quarter_of_journal(o);
    if (l->o.max_restore > l->rewind)
        l->o.max_restore = l->rewind;
    ability_of(&l->can, o->target_version, o->target_is_valkey);
    ability_without(&l->can, o->target_missing);
    l->o.restore_enabled = o->restore_enabled && l->can.restore;
    ability_name(&l->can, l->target_name, sizeof(l->target_name));
    l->reader = journal_reader_open(o->journal);
    l->main.rdb = rdb_reader_new(rdb_index == 0);
    rdb_reader_skip_unknown(l->main.rdb, o->skip_unknown);
    if (rdb_index) {
        rdb_reader_resume(l->main.rdb, rdb_index, db, version);
        read_head(l);
        l->in_data = true;
    }
    l->main.from = l->acked = l->released = l->stats.index = rdb_index;
    l->again_until = again_until;
    l->dbs = xmalloc(sizeof(*l->dbs));
    l->dbs[0] = (struct db_start){rdb_index, db};
    l->dbs_n = 1;
    return l;
}

static void pass_free(struct pass *p)
{
    rdb_reader_free(p->rdb);
    buf_free(&p->key);
    build_free(&p->build);
}

void load_free(struct load *l)
{
    if (!l)
        return;
    journal_reader_close(l->reader);
    pass_free(&l->main);
    pass_free(&l->again);
    buf_free(&l->scratch);
    buf_free(&l->gather.args);
    buf_free(&l->aside.text);
    free(l->redo);
    free(l->dbs);
    free(l);
}

static int db_of(const struct load *l, uint64_t index)
{
    int db = 0;
    for (size_t i = 0; i < l->dbs_n && l->dbs[i].index <= index; i++)
        db = l->dbs[i].db;
    return db;
}

static void note_db(struct load *l, uint64_t index, int db)
{
    if (l->dbs[l->dbs_n - 1].index >= index || l->dbs[l->dbs_n - 1].db == db)
        return;
    l->dbs = xrealloc(l->dbs, (l->dbs_n + 1) * sizeof(*l->dbs));
    l->dbs[l->dbs_n++] = (struct db_start){index, db};
}

// ---- items ----

static enum stage first_stage(const struct load *l, struct pass *p)
{
    const struct rdb_item *it = &p->item;
    bool from_valkey = rdb_is_valkey(p->rdb);
    const struct rdb_type *t = rdb_type_find(it->type, from_valkey);
    // A server takes any number up to its own and goes by the type byte: the lowest that has the
    // type is taken by all that know it.
    p->dump_version = t && t->since > LOWEST_DUMP_VERSION ? t->since : LOWEST_DUMP_VERSION;
    if (it->object == RDB_OBJ_MODULE)
        return STAGE_RAW;
    bool ranked = it->idle_s >= 0 || it->freq >= 0;
    if (it->object == RDB_OBJ_STRING)
        return ranked && l->o.restore_enabled ? STAGE_RAW : STAGE_VALUE;
    bool known = rdb_type_known_to(it->type, from_valkey, l->can.rdb_version, l->can.is_valkey);
    // RESTORE would set near expiries of fields at once; each must be asked for. The types 22 to 25
    // have them, whoever wrote them.
    bool field_expiries = it->object == RDB_OBJ_HASH && it->type >= 22 && it->type <= 25;
    return l->o.restore_enabled && known && !field_expiries ? STAGE_RAW : STAGE_BUILD;
}

// What values of this kind need beyond what every server has; LOSSES: nothing.
static enum loss need_of(enum rdb_object o)
{
    switch (o) {
    case RDB_OBJ_STREAM:
        return LOSS_STREAM;
    case RDB_OBJ_ARRAY:
        return LOSS_ARRAY;
    case RDB_OBJ_PATH_HASH:
        return LOSS_PATH_HASH;
    case RDB_OBJ_MODULE:
        return LOSS_MODULE;
    case RDB_OBJ_STRING:
    case RDB_OBJ_LIST:
    case RDB_OBJ_SET:
    case RDB_OBJ_ZSET:
    case RDB_OBJ_HASH:
        break;
    }
    return LOSSES;
}

static int begin_key(struct load *l, struct pass *p, struct err *e)
{
    struct rdb_item *it = &p->item;
    p->key_copied = false;
    p->lost = 0;
    if ((l->o.filter && !filter_key(l->o.filter, it->db, it->key)) ||
        (l->o.wants && !l->o.wants(l->o.ctx, it))) {
        l->stats.keys_filtered++;
        p->stage = STAGE_SKIP;
        return 0;
    }
    p->db = l->o.map_db(l->o.ctx, it->db);
    if (p->db < 0)
        return load_no_such_db(it->db, e);
    if (l->o.met && p == &l->main)
        l->o.met(l->o.ctx, it->start, p->db, it->key);
    enum loss need = need_of(it->object);
    if (need != LOSSES && ability_lacks(&l->can, need)) {
        p->stage = STAGE_SKIP;
        return load_lose_item(l, p, it->key, need, e);
    }
    int rc = it->key_meta ? load_lose_item(l, p, it->key, LOSS_KEY_META, e) : 0;
    if (rc)
        return rc;
    p->slot = l->o.cluster ? slot_of(it->key) : SINK_ANY_NODE;
    p->expire_ms = it->expire_ms;
    if (it->expire_ms >= 0)
        p->expire_ms = l->o.hold_expiry(l->o.ctx, p->db, it->key, (struct slice){0}, it->expire_ms);
    p->stage = first_stage(l, p);
    p->read = false;
    p->build.started = false;
    p->build.object = (enum rdb_object) - 1;
    return 0;
}

static int take_item(struct load *l, struct pass *p, struct err *e)
{
    if (!l->announced)
        load_announce(l);
    p->lost = 0;
    if (p == &l->again && p->item.kind != RDB_KIND_KEY) // a second look is for keys
        return 0;
    l->in_data |= p->item.kind == RDB_KIND_KEY || p->item.kind == RDB_KIND_SELECTDB;
    switch (p->item.kind) {
    case RDB_KIND_AUX:
        load_aux(l, p);
        break;
    case RDB_KIND_FUNCTION:
        return load_function(l, p, e);
    case RDB_KIND_MODULE_AUX:
        return load_module_aux(l, p, e);
    case RDB_KIND_SELECTDB:
        note_db(l, p->item.start, p->item.db);
        break;
    case RDB_KIND_COMMAND:
        return load_command(l, p, e);
    case RDB_KIND_SLOT_IMPORT:
        log_warn(l->o.tag, "the source imports slots %.*s: their keys are loaded as they are",
                 (int)p->item.value.n, p->item.value.p);
        break;
    case RDB_KIND_SKIPPED:
        l->stats.unknown++;
        log_warn(l->o.tag, "skipped (replay.onUnknown: skip): %.*s", (int)p->item.value.n,
                 p->item.value.p);
        break;
    case RDB_KIND_RESIZEDB:
    case RDB_KIND_TEMPLATE:
        break;
    case RDB_KIND_KEY:
        return begin_key(l, p, e);
    }
    return 0;
}

static struct slice pass_key(const struct pass *p)
{
    return p->key_copied ? buf_slice(&p->key) : p->item.key;
}

static void keep_key(struct pass *p)
{
    if (p->stage == STAGE_ITEM || p->stage == STAGE_ASIDE || p->key_copied)
        return;
    buf_clear(&p->key);
    buf_append_slice(&p->key, p->item.key);
    p->key_copied = true;
}

static void sent(struct load *l, struct pass *p)
{
    l->stats.keys_sent++;
    load_unit_end(l);
    p->stage = STAGE_ITEM;
    fault_point("load.key");
}

// field_ms: the expiry to set. gone: the element is not to be there at all.
static int check_element(struct load *l, struct pass *p, const struct rdb_element *el, int64_t *ms,
                         bool *gone, struct err *e)
{
    *gone = false;
    *ms = -1;
    if (p->item.object == RDB_OBJ_STREAM) {
        int step = el->stream_step;
        bool idmp = step == RDB_STREAM_IDMP || step == RDB_STREAM_IDMP_ENTRY;
        *gone = idmp && ability_lacks(&l->can, LOSS_IDMP);
        if (*gone && step == RDB_STREAM_IDMP_ENTRY)
            return load_lose_item(l, p, pass_key(p), LOSS_IDMP, e);
        // No command makes a pending entry that nobody owns.
        return step == RDB_STREAM_NACKED ? load_lose_item(l, p, pass_key(p), LOSS_NACK, e) : 0;
    }
    if (p->item.object != RDB_OBJ_HASH || el->expire_ms < 0)
        return 0;
    if (ability_lacks(&l->can, LOSS_FIELD_EXPIRY)) {
        // Nothing would ever remove it there.
        *gone = el->expire_ms <= clock_unix_ms();
        return load_lose_item(l, p, pass_key(p), LOSS_FIELD_EXPIRY, e);
    }
    *ms = l->o.hold_expiry(l->o.ctx, p->db, pass_key(p), el->field, el->expire_ms);
    return 0;
}

// A stream that cannot be read a second time must not get its name before its claims are answered,
// if one that is refused is to stop the load.
static bool claims_must_hold(const struct load *l, const struct pass *p)
{
    return p->item.object == RDB_OBJ_STREAM && !l->o.degrade && l->released > p->item.start &&
           !sink_idle(l->o.sink);
}

static int step_build(struct load *l, struct pass *p, struct err *e)
{
    if (p->item.object == RDB_OBJ_MODULE || p->item.object == RDB_OBJ_PATH_HASH) {
        // Only RESTORE could set it.
        p->stage = STAGE_SKIP;
        int rc = load_lose_item(l, p, pass_key(p), need_of(p->item.object), e);
        return rc ? rc : RDB_ITEM;
    }
    if (p->build.object != p->item.object) {
        p->build.part = p->part;
        build_begin(&p->build, l->o.sink, &l->can, l->o.temp_tag, &p->item, pass_key(p), p->slot,
                    p->expire_ms, load_must_be_new(l, p));
    }
    struct rdb_element el;
    int64_t field_ms;
    bool gone;
    int rc = p->read ? RDB_DONE : rdb_value_element(p->rdb, PIECE_LIMIT, &el, e);
    if (rc == RDB_MORE || rc < 0)
        return rc;
    if (rc == RDB_DONE && claims_must_hold(l, p)) {
        p->read = true;
        return RDB_MORE;
    }
    int bad = rc == RDB_ITEM ? check_element(l, p, &el, &field_ms, &gone, e) : 0;
    if (bad)
        return bad;
    load_unit_begin(l, p);
    load_send_gathered(l);
    sink_select(l->o.sink, p->db, BUILD_REF | p->item.start);
    if (rc == RDB_ITEM) {
        if (!gone)
            build_element(&p->build, &el, field_ms);
        load_unit_end(l);
    } else if (p->part == BUILD_GROUPS) {
        build_end_groups(&p->build);
        load_unit_end(l);
        p->stage = STAGE_ITEM;
    } else {
        build_finish(&p->build);
        sent(l, p);
    }
    return RDB_ITEM;
}

// One step of a pass: RDB_ITEM (go on), RDB_MORE, RDB_DONE, or an error.
static int step(struct load *l, struct pass *p, struct err *e)
{
    struct slice s;
    bool gathers;
    int rc;
    switch (p->stage) {
    case STAGE_ITEM:
        rc = rdb_next(p->rdb, &p->item, e);
        if (rc != RDB_ITEM)
            return rc;
        rc = take_item(l, p, e);
        return rc ? rc : RDB_ITEM;
    case STAGE_VALUE:
        rc = rdb_value_string(p->rdb, STRING_LIMIT, &s, e);
        if (rc == RDB_TOO_BIG) {
            p->stage = l->o.restore_enabled ? STAGE_RAW : STAGE_BUILD;
            return RDB_ITEM;
        }
        if (rc != RDB_ITEM)
            return rc;
        gathers = load_may_gather(l, p, s);
        load_unit_begin(l, p);
        if (!gathers || p->db != l->gather.db)
            load_send_gathered(l);
        sink_select(l->o.sink, p->db, BUILD_REF | p->item.start);
        (gathers ? load_gather : load_send_set)(l, p, pass_key(p), s);
        sent(l, p);
        return RDB_ITEM;
    case STAGE_RAW:
        rc = rdb_value_raw(p->rdb, l->o.max_restore, &s, e);
        if (rc == RDB_TOO_BIG) {
            p->stage = STAGE_BUILD;
            return RDB_ITEM;
        }
        if (rc != RDB_ITEM)
            return rc;
        load_unit_begin(l, p);
        load_send_gathered(l);
        sink_select(l->o.sink, p->db, BUILD_REF | p->item.start);
        load_send_restore(l, p, pass_key(p), s);
        sent(l, p);
        return RDB_ITEM;
    case STAGE_BUILD:
        return step_build(l, p, e);
    case STAGE_ASIDE:
        load_send_aside(l, p);
        return RDB_ITEM;
    case STAGE_SKIP:
        rc = rdb_value_skip(p->rdb, e);
        if (rc < 0 || rc == RDB_MORE)
            return rc;
        p->stage = STAGE_ITEM;
        return RDB_ITEM;
    case STAGE_DRAIN:
    case STAGE_DONE:
        break;
    }
    return RDB_DONE;
}

// ---- driving ----

static int feed(struct load *l, struct pass *p, size_t *n, struct err *e)
{
    const char *bytes;
    p->from = rdb_needs_from(p->rdb);
    int rc = journal_snapshot_view(l->reader, p->from, &bytes, n, e);
    if (rc == 0) {
        p->window = slice_make(bytes, *n);
        rdb_feed(p->rdb, bytes, p->from, *n);
    }
    return rc;
}

static bool step_may_send(const struct pass *p)
{
    return p->stage == STAGE_VALUE || p->stage == STAGE_RAW || p->stage == STAGE_BUILD ||
           p->stage == STAGE_ASIDE;
}

static int run_pass(struct load *l, struct pass *p, size_t budget, struct err *e)
{
    size_t n;
    int rc = feed(l, p, &n, e);
    if (rc)
        return rc;
    uint64_t until = p->from + (budget < n ? budget : n);
    do {
        if (step_may_send(p) ? !load_unit_ready(l, p) : !sink_room(l->o.sink)) {
            load_unit_close(l);
            keep_key(p);
            return LOAD_WAIT;
        }
        rc = step(l, p, e);
    } while (rc == RDB_ITEM && (p->item.start < until || p->stage != STAGE_ITEM) &&
             !(p == &l->again && p->stage == STAGE_ITEM));
    load_unit_close(l);
    if (rc < 0)
        return rc;
    keep_key(p);
    if (rc == RDB_DONE)
        return LOAD_FINISHED;
    return rc == RDB_MORE ? LOAD_WAIT : LOAD_MORE_NOW;
}

// Sends the next key of the redo list again: with native commands, or to replace what is there.
static int run_redo(struct load *l, size_t budget, struct err *e)
{
    struct pass *p = &l->again;
    struct redo *redo = &l->redo[l->redo_sent];
    if (!p->rdb) {
        p->part = redo->part;
        p->rdb = rdb_reader_new(false);
        rdb_reader_share_templates(p->rdb, l->main.rdb);
        rdb_reader_resume(p->rdb, redo->index, db_of(l, redo->index), rdb_version(l->main.rdb));
        p->stage = STAGE_ITEM;
    }
    if (p->stage == STAGE_ITEM) {
        size_t n;
        int rc = feed(l, p, &n, e);
        if (rc == 0)
            rc = step(l, p, e);
        if (rc != RDB_ITEM)
            return rc < 0 ? rc : LOAD_WAIT;
        if (p->stage == STAGE_ITEM)
            return LOAD_MORE_NOW;
        if (!redo->there && !redo->keys)
            p->stage = STAGE_BUILD;
        keep_key(p);
    }
    if (redo->expired) {
        if (!load_unit_ready(l, p))
            return LOAD_WAIT;
        load_send_del(l, p, pass_key(p));
        p->stage = STAGE_ITEM;
    } else {
        bool counts = p->stage != STAGE_SKIP && redo->part != BUILD_GROUPS;
        int rc = run_pass(l, p, budget, e);
        if (rc < 0 || p->stage != STAGE_ITEM)
            return rc;
        l->stats.keys_sent -= counts; // counted when it was sent first
        if (redo->keys && (!counts || --redo->keys))
            return LOAD_MORE_NOW;
    }
    rdb_reader_free(p->rdb);
    p->rdb = NULL;
    if (redo->part == BUILD_GROUPS)
        redo->part = BUILD_MESSAGES; // over the same value
    else
        l->redo_sent++;
    return LOAD_MORE_NOW;
}

static void redo_add(struct load *l, struct redo redo)
{
    if (l->redo_n == l->redo_cap) {
        l->redo_cap = l->redo_cap ? 2 * l->redo_cap : 16;
        l->redo = xrealloc(l->redo, l->redo_cap * sizeof(*l->redo));
    }
    l->redo[l->redo_n++] = redo;
}

static void release(struct load *l, uint64_t index)
{
    // The checksum is taken in steps and may lie behind what is confirmed.
    uint64_t needed = rdb_needs_from(l->main.rdb);
    if (index > needed)
        index = needed;
    if (index <= l->released)
        return;
    l->released = index;
    journal_snapshot_release(l->reader, index);
}

// With everything answered nothing behind the reader is needed: a value that is bigger than the
// journal must make room for its own rest. A stream may have to be read twice, if it can.
static void release_when_idle(struct load *l)
{
    const struct pass *p = &l->main;
    uint64_t index = rdb_needs_from(p->rdb);
    if (p->stage == STAGE_BUILD && p->item.object == RDB_OBJ_STREAM &&
        index - p->item.start <= l->rewind && l->released <= p->item.start)
        index = p->item.start;
    if (l->redo_n == 0 && sink_idle(l->o.sink))
        release(l, index);
}

// A second attempt at the key would meet the first one under the temporary name.
static bool main_is_at(const struct load *l, uint64_t index)
{
    return l->main.stage == STAGE_BUILD && l->main.item.start == index;
}

static bool redo_may_run(const struct load *l)
{
    // Only the answer to the first attempt's RENAMENX tells whose the key is that stands there.
    bool settled =
        l->redo[l->redo_sent].part != BUILD_GROUPS || l->again.rdb || sink_idle(l->o.sink);
    return settled && sink_room(l->o.sink);
}

static bool last_redo_is_of(const struct load *l, uint64_t index)
{
    return l->redo_n > l->redo_sent && l->redo[l->redo_n - 1].index == index;
}

static bool contains(struct slice text, const char *what)
{
    return memmem(text.p, text.n, what, strlen(what)) != NULL;
}

// What lies at an index, for an error message.
static void describe(struct load *l, uint64_t index, char *dst, size_t cap)
{
    struct rdb_reader *r = rdb_reader_new(false);
    struct rdb_item item;
    const char *p;
    size_t n;
    rdb_reader_resume(r, index, db_of(l, index), rdb_version(l->main.rdb));
    snprintf(dst, cap, "byte %llu of the snapshot", (unsigned long long)index);
    if (journal_snapshot_view(l->reader, index, &p, &n, NULL) == 0) {
        rdb_feed(r, p, index, n);
        int rc = rdb_next(r, &item, NULL);
        if (rc == RDB_ITEM && item.kind == RDB_KIND_KEY)
            snprintf(dst, cap, "key \"%.*s\" of db %d", (int)(item.key.n < 100 ? item.key.n : 100),
                     item.key.p, item.db);
        else if (rc == RDB_ITEM && item.kind == RDB_KIND_FUNCTION)
            snprintf(dst, cap, "a function library");
        else if (rc == RDB_ITEM && item.kind == RDB_KIND_AUX)
            snprintf(dst, cap, "a script");
    }
    rdb_reader_free(r);
}

static bool was_lost(const struct load *l, uint64_t index, enum loss what)
{
    return l->lost_of == index && l->lost_there == what;
}

// Once for each stream.
static int lose_of_stream(struct load *l, uint64_t index, enum loss what, struct err *e)
{
    char name[160];
    if (was_lost(l, index, what))
        return 0;
    l->lost_of = index;
    l->lost_there = what;
    describe(l, index, name, sizeof(name));
    return load_lose(l, index, name, what, e);
}

// The journal cannot keep all of a stream to read it twice, and needs the room for its end.
static int give_up_rewind(struct load *l, struct err *e)
{
    uint64_t index = l->main.item.start;
    if (!last_redo_is_of(l, index) || !main_is_at(l, index) ||
        (rdb_needs_from(l->main.rdb) - index) / 2 <= l->rewind)
        return 0;
    l->redo_n--;
    return lose_of_stream(l, index, LOSS_PENDING, e);
}

int load_pump(struct load *l, size_t budget, struct err *e)
{
    if (l->redo_n && l->redo_sent == l->redo_n) {
        if (!sink_idle(l->o.sink))
            return LOAD_WAIT;
        l->redo_n = l->redo_sent = 0;
    }
    int lost = give_up_rewind(l, e);
    if (lost)
        return lost;
    if (l->redo_n && !main_is_at(l, l->redo[l->redo_sent].index)) {
        int rc = redo_may_run(l) ? run_redo(l, budget, e) : LOAD_WAIT;
        load_unit_close(l);
        return rc;
    }
    if (l->main.stage == STAGE_DRAIN) {
        if (!sink_idle(l->o.sink))
            return LOAD_WAIT;
        l->main.stage = STAGE_DONE;
    }
    if (l->main.stage == STAGE_DONE)
        return LOAD_FINISHED;
    int rc = run_pass(l, &l->main, budget, e);
    l->stats.index = l->main.stage == STAGE_ITEM ? rdb_needs_from(l->main.rdb) : l->main.item.start;
    if (rc == LOAD_WAIT)
        release_when_idle(l);
    if (rc != LOAD_FINISHED)
        return rc;
    l->main.stage = STAGE_DRAIN;
    return LOAD_MORE_NOW;
}

int load_stream_db(const struct load *l)
{
    return l->stream_db;
}

int load_rdb_version(const struct load *l)
{
    return rdb_version(l->main.rdb);
}

static int existed(struct load *l, uint64_t index, struct err *e)
{
    bool maybe_ours = index < l->again_until;
    if (maybe_ours && l->o.exists != LOAD_REPLACE)
        return 0;
    char what[160] = "";
    if (l->o.exists_log || l->o.exists == LOAD_ERROR)
        describe(l, index, what, sizeof(what));
    if (l->o.exists == LOAD_REPLACE) {
        l->stats.keys_replaced += !maybe_ours;
        if (!maybe_ours)
            log_info(l->o.tag, "replacing %s, which the target has", what);
        if (!last_redo_is_of(l, index))
            redo_add(l, (struct redo){.index = index, .there = true});
        return 0;
    }
    if (last_redo_is_of(l, index))
        l->redo_n--;
    if (l->o.exists == LOAD_IGNORE) {
        l->stats.keys_ignored++;
        l->stats.keys_sent--;
        if (l->o.exists_log)
            log_warn(l->o.tag, "ignoring %s, which the target has", what);
        return 0;
    }
    return err_set(e, ERR_REPLY,
                   "%s exists at the target already and output.replay.keyExists is \"error\"",
                   what);
}

// One of the keys may not be set, or MSET not used: each by itself tells.
static void many_refused(struct load *l, uint64_t ref, struct slice text)
{
    if (!l->one_by_one)
        log_info(l->o.tag, "keys go one by one: the target answered MSET with %.*s",
                 (int)(text.n < 200 ? text.n : 200), text.p);
    l->one_by_one = true;
    redo_add(l, (struct redo){.index = ref & LOAD_REF_MANY_INDEX,
                              .keys = (uint32_t)((ref & ~LOAD_REF_MANY) >> LOAD_REF_MANY_SHIFT)});
}

int load_cmd_failed(struct load *l, uint64_t ref, struct slice text, struct err *e)
{
    if (!(ref & BUILD_REF) && ref & LOAD_REF_MANY) {
        many_refused(l, ref, text);
        return 0;
    }
    uint64_t index = ref & BUILD_REF_INDEX;
    bool build = ref & BUILD_REF;
    if (!build && (contains(text, "BUSYKEY") || contains(text, "Target key name")))
        return existed(l, index, e);
    if (!build && (contains(text, "Bad data format") || contains(text, "DUMP payload"))) {
        redo_add(l, (struct redo){.index = index});
        return 0;
    }
    if (build && (ref & BUILD_REF_RENAME) && contains(text, "no such key")) {
        // All of it has expired. With NX what stands there is not ours to remove.
        if (l->o.exists == LOAD_REPLACE)
            redo_add(l, (struct redo){.index = index, .expired = true});
        return 0;
    }
    if (build && contains(text, "No such message in stream")) // whose ID of a producer is kept
        return lose_of_stream(l, index, LOSS_IDMP, e);
    if (build && l->o.functions == LOAD_FUNCTIONS_APPEND && contains(text, "already exists")) {
        if (index >= l->again_until)
            log_warn(l->o.tag, "a function library is left out: %.*s",
                     (int)(text.n < 200 ? text.n : 200), text.p);
        return 0;
    }
    char what[160];
    describe(l, index, what, sizeof(what));
    return err_set(e, ERR_REPLY, "loading %s: the target answered %.*s", what,
                   (int)(text.n < 200 ? text.n : 200), text.p);
}

// A pending entry was not taken, since the stream does not hold its message.
static int claim_refused(struct load *l, uint64_t index, struct err *e)
{
    if (last_redo_is_of(l, index) || was_lost(l, index, LOSS_PENDING))
        return 0;
    if (index < l->released)
        return lose_of_stream(l, index, LOSS_PENDING, e);
    redo_add(l, (struct redo){.index = index, .part = BUILD_GROUPS});
    return 0;
}

int load_cmd_empty(struct load *l, uint64_t ref, struct err *e)
{
    uint64_t index = ref & BUILD_REF_INDEX;
    if (ref & BUILD_REF_CLAIM)
        return claim_refused(l, index, e);
    if ((ref & BUILD_REF) && !(ref & BUILD_REF_RENAME))
        return 0;
    return l->o.exists == LOAD_REPLACE && !l->o.exists_log ? 0 : existed(l, index, e);
}

uint64_t load_safe_index(const struct load *l, uint64_t index, int *db)
{
    for (size_t i = 0; i < l->redo_n; i++)
        if (l->redo[i].index < index)
            index = l->redo[i].index;
    *db = db_of(l, index);
    return index;
}

void load_acked(struct load *l, uint64_t rdb_index)
{
    int db;
    rdb_index = load_safe_index(l, rdb_index, &db);
    if (rdb_index > l->acked) {
        l->acked = rdb_index;
        release(l, rdb_index);
    }
}

void load_get_stats(const struct load *l, struct load_stats *out)
{
    *out = l->stats;
}

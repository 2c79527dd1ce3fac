// SPDX-License-Identifier: Apache-2.0
// The units that are sent, and the commands that set a key in one go, written straight into the
// output queue.
#include <stdio.h>

#include "base/clock.h"
#include "codec/dump.h"
#include "codec/resp.h"
#include "target/load_int.h"

enum {
    COPY_LIMIT = 1024, // longer spans are sent from where they lie
    UNIT_KEYS = 32,
};

static int db_of(const struct load *l, const struct pass *p)
{
    return p->stage == STAGE_ASIDE ? l->aside.db : p->db;
}

bool load_unit_ready(struct load *l, const struct pass *p)
{
    // In a cluster a unit selects its db once; a slot may have keys of several.
    if (l->unit_open && (l->unit_slot != p->slot || (l->o.cluster && l->unit_db != db_of(l, p))))
        load_unit_close(l);
    return sink_room(l->o.sink);
}

void load_unit_begin(struct load *l, const struct pass *p)
{
    if (!l->unit_open)
        must(sink_unit_begin(l->o.sink, p->slot, false));
    l->unit_open = true;
    l->unit_slot = p->slot;
    l->unit_db = db_of(l, p);
}

// Everything before the main pass's item has been sent; a second look at a key proves nothing more.
void load_unit_close(struct load *l)
{
    struct batch_mark mark = {.loading = true,
                              .rdb_index = l->in_data ? l->main.item.start : 0,
                              .rdb_db = l->main.item.db};
    if (l->unit_open) {
        load_send_gathered(l);
        sink_unit_end(l->o.sink, &mark);
    }
    l->unit_open = false;
    l->unit_keys = 0;
}

// Small keys share a unit; its bookkeeping would cost as much as they do.
void load_unit_end(struct load *l)
{
    if (++l->unit_keys >= UNIT_KEYS)
        load_unit_close(l);
}

void load_send_aside(struct load *l, struct pass *p)
{
    struct aside *a = &l->aside;
    uint64_t ref = BUILD_REF | p->item.start;
    load_unit_begin(l, p);
    load_send_gathered(l);
    if (a->db >= 0)
        sink_select(l->o.sink, a->db, ref);
    outq_put(sink_out(l->o.sink), a->text.p, a->text.n);
    for (int i = 0; i < a->cmds; i++)
        sink_cmd(l->o.sink, ref);
    load_unit_end(l);
    if (a->everywhere && ++a->node < sink_nodes(l->o.sink))
        p->slot = sink_to_node(a->node);
    else
        p->stage = STAGE_ITEM;
}

void load_send_del(struct load *l, const struct pass *p, struct slice key)
{
    load_unit_begin(l, p);
    load_send_gathered(l);
    sink_select(l->o.sink, p->db, BUILD_REF | p->item.start);
    buf_clear(&l->scratch);
    resp_put_cmd(&l->scratch, "DEL %b", &key);
    outq_put(sink_out(l->o.sink), l->scratch.p, l->scratch.n);
    sink_cmd(l->o.sink, BUILD_REF | p->item.start);
    load_unit_end(l);
}

static char *put_bulk_header(char *p, size_t n)
{
    *p++ = '$';
    p += u64_format(p, n);
    *p++ = '\r';
    *p++ = '\n';
    return p;
}

static char *put_bulk(char *p, struct slice s)
{
    p = put_bulk_header(p, s.n);
    memcpy(p, s.p, s.n);
    p += s.n;
    *p++ = '\r';
    *p++ = '\n';
    return p;
}

static char *put_literal(char *p, struct slice s)
{
    memcpy(p, s.p, s.n);
    return p + s.n;
}

static char *put_number(char *p, int64_t v)
{
    char tmp[24];
    return put_bulk(p, slice_make(tmp, i64_format(tmp, v)));
}

// For targets that take relative expiries only.
static int64_t time_left(const struct pass *p)
{
    int64_t left = p->expire_ms - clock_unix_ms();
    return left > 0 ? left : 1;
}

// The command has to fail where the key exists.
bool load_must_be_new(const struct load *l, const struct pass *p)
{
    if (p->part != BUILD_WHOLE) // the first attempt's key stands there
        return false;
    return l->o.exists != LOAD_REPLACE || (l->o.exists_log && p == &l->main);
}

void load_send_set(struct load *l, const struct pass *p, struct slice key, struct slice value)
{
    struct outq *q = sink_out(l->o.sink);
    bool nx = load_must_be_new(l, p);
    bool pxat = p->expire_ms >= 0 && l->can.set_pxat;
    // A separate PEXPIREAT would hit the key that NX spares.
    bool px = p->expire_ms >= 0 && !pxat && nx;
    bool borrow = value.n > COPY_LIMIT && value.p >= p->window.p &&
                  value.p < p->window.p + p->window.n; // not decoded into the reader's scratch
    static const struct slice heads[4] = {{"*3\r\n$3\r\nSET\r\n", 13},
                                          {"*4\r\n$3\r\nSET\r\n", 13},
                                          {"*5\r\n$3\r\nSET\r\n", 13},
                                          {"*6\r\n$3\r\nSET\r\n", 13}};
    char *start = outq_reserve(q, key.n + (borrow ? 0 : value.n) + 160);
    char *at = put_literal(start, heads[(pxat || px ? 2 : 0) + (nx ? 1 : 0)]);
    at = put_bulk(at, key);
    if (borrow) {
        at = put_bulk_header(at, value.n);
        outq_commit(q, (size_t)(at - start));
        outq_borrow(q, value.p, value.n);
        start = at = outq_reserve(q, 160);
        at = put_literal(at, SLICE("\r\n"));
    } else {
        at = put_bulk(at, value);
    }
    if (pxat) {
        at = put_literal(at, SLICE("$4\r\nPXAT\r\n"));
        at = put_number(at, p->expire_ms);
    }
    if (px) {
        at = put_literal(at, SLICE("$2\r\nPX\r\n"));
        at = put_number(at, time_left(p));
    }
    if (nx)
        at = put_literal(at, SLICE("$2\r\nNX\r\n"));
    outq_commit(q, (size_t)(at - start));
    sink_cmd(l->o.sink, p->item.start);
    if (p->expire_ms >= 0 && !pxat && !px) {
        buf_clear(&l->scratch);
        resp_put_cmd(&l->scratch, "PEXPIREAT %b %L", &key, p->expire_ms);
        outq_put(q, l->scratch.p, l->scratch.n);
        sink_cmd(l->o.sink, BUILD_REF | p->item.start);
    }
}

bool load_may_gather(const struct load *l, const struct pass *p, struct slice value)
{
    return !l->one_by_one && p == &l->main && p->expire_ms < 0 && value.n <= COPY_LIMIT &&
           !load_must_be_new(l, p);
}

void load_gather(struct load *l, const struct pass *p, struct slice key, struct slice value)
{
    struct gather *g = &l->gather;
    if (g->keys++ == 0)
        g->first = p->item.start;
    g->db = p->db;
    char *start = buf_reserve(&g->args, key.n + value.n + 64);
    char *at = put_bulk(put_bulk(start, key), value);
    g->args.n += (size_t)(at - start);
}

void load_send_gathered(struct load *l)
{
    struct gather *g = &l->gather;
    if (g->keys == 0)
        return;
    struct outq *q = sink_out(l->o.sink);
    char *start = outq_reserve(q, g->args.n + 64);
    char *at = start;
    bool one = g->keys == 1;
    *at++ = '*';
    at += u64_format(at, 1 + 2 * (uint64_t)g->keys);
    at = put_literal(at, one ? SLICE("\r\n$3\r\nSET\r\n") : SLICE("\r\n$4\r\nMSET\r\n"));
    at = put_literal(at, buf_slice(&g->args));
    outq_commit(q, (size_t)(at - start));
    uint64_t many = LOAD_REF_MANY | (uint64_t)g->keys << LOAD_REF_MANY_SHIFT;
    sink_cmd(l->o.sink, g->first | (one ? 0 : many));
    buf_clear(&g->args);
    g->keys = 0;
}

static int64_t restore_ttl(const struct load *l, const struct pass *p)
{
    if (p->expire_ms < 0)
        return 0;
    if (l->can.restore_times)
        return p->expire_ms;
    return time_left(p);
}

void load_send_restore(struct load *l, const struct pass *p, struct slice key, struct slice raw)
{
    bool modern = l->can.restore_times;
    bool replace = !load_must_be_new(l, p);
    bool absttl = p->expire_ms >= 0 && modern;
    bool idle = p->item.idle_s >= 0 && modern, freq = p->item.freq >= 0 && modern && !idle;
    struct outq *q = sink_out(l->o.sink);
    bool borrow = raw.n > COPY_LIMIT;
    char *start = outq_reserve(q, key.n + (borrow ? 0 : raw.n) + 256);
    char *at = start;
    *at++ = '*';
    at += u64_format(at, (uint64_t)(4 + replace + absttl + 2 * idle + 2 * freq));
    at = put_literal(at, SLICE("\r\n$7\r\nRESTORE\r\n"));
    at = put_bulk(at, key);
    at = put_number(at, restore_ttl(l, p));
    at = put_bulk_header(at, raw.n + 1 + DUMP_TRAILER);
    *at++ = (char)p->item.type;
    if (borrow) {
        outq_commit(q, (size_t)(at - start));
        outq_borrow(q, raw.p, raw.n);
        start = at = outq_reserve(q, 256);
    } else {
        at = put_literal(at, raw);
    }
    uint8_t trailer[DUMP_TRAILER];
    dump_trailer(p->item.type, raw, (uint16_t)p->dump_version, trailer);
    at = put_literal(at, slice_make((const char *)trailer, DUMP_TRAILER));
    at = put_literal(at, SLICE("\r\n"));
    if (replace)
        at = put_literal(at, SLICE("$7\r\nREPLACE\r\n"));
    if (absttl)
        at = put_literal(at, SLICE("$6\r\nABSTTL\r\n"));
    if (idle) {
        at = put_literal(at, SLICE("$8\r\nIDLETIME\r\n"));
        at = put_number(at, p->item.idle_s);
    }
    if (freq) {
        at = put_literal(at, SLICE("$4\r\nFREQ\r\n"));
        at = put_number(at, p->item.freq);
    }
    outq_commit(q, (size_t)(at - start));
    sink_cmd(l->o.sink, p->item.start);
}

// SPDX-License-Identifier: Apache-2.0
#include "target/purge.h"

#include <stdio.h>

#include "base/fault.h"

enum {
    DEFAULT_DBS = 16,
    PAGE_KEYS = 1000,
    LOOK_MS = 100, // whether it is cancelled
    TIMEOUT_MS = 30 * 1000,
};

// ---- what is to go ----

// A db of the source, `from` or behind it, that is cleared and goes into target_db; -1: none.
static int source_db(const struct purge_scope *s, int target_db, int from)
{
    const struct rewrite_dbs *d = &s->dbs;
    int forced = d->source_dbs ? d->source_dbs : DEFAULT_DBS;
    int n = d->forced ? forced : d->map_n;
    if (s->db >= 0)
        return s->db >= from && rewrite_map_db(d, s->db) == target_db ? s->db : -1;
    for (int db = from; db < n; db++)
        if (rewrite_map_db(d, db) == target_db)
            return db;
    return !d->forced && target_db >= n && target_db >= from ? target_db : -1;
}

bool purge_has_db(const struct purge_scope *s, int target_db)
{
    return source_db(s, target_db, 0) >= 0;
}

bool purge_has_key(const struct purge_scope *s, int target_db, struct slice key)
{
    int slot = slot_of(key);
    if (!slot_set_has(s->slots, slot) || slice_has_prefix(key, SLICE("gunyu:")))
        return false;
    for (int db = 0; (db = source_db(s, target_db, db)) >= 0; db++)
        if (!s->filter || filter_key(s->filter, db, key))
            return true;
    return false;
}

// ---- deleting it ----

struct purge {
    struct redis_client *c;
    const struct purge_options *o;
    struct purge_result *result;
    struct buf text, cursor;
    int replies;
    int db;
};

// The key is another node's by now, or on its way there.
static bool is_redirection(struct slice text)
{
    return slice_has_prefix(text, SLICE("MOVED ")) || slice_has_prefix(text, SLICE("ASK ")) ||
           slice_has_prefix(text, SLICE("TRYAGAIN"));
}

static int receive(struct purge *p, struct redis_reply *r, struct err *e)
{
    int rc = 0;
    for (int waited = 0; rc == 0; waited += LOOK_MS) {
        if (*p->o->cancel)
            return err_set(e, ERR_CLOSED, "cancelled");
        if (waited >= TIMEOUT_MS)
            return err_set(e, ERR_TIMEOUT, "no answer for %d s", TIMEOUT_MS / 1000);
        rc = redis_wait(p->c, LOOK_MS, e);
    }
    return rc < 0 ? rc : redis_receive(p->c, r, e);
}

// The server's words alone.
static int refused(const struct redis_reply *r, struct err *e)
{
    struct slice text = r->root.text;
    return err_set(e, ERR_REPLY, "%.*s", (int)(text.n < 300 ? text.n : 300), text.p);
}

// One key in each command, so that a cluster takes them.
static void put_key(struct purge *p, struct slice key)
{
    p->result->found++;
    if (p->o->asking) {
        resp_put_cmd(&p->text, "ASKING");
        p->replies++;
    }
    resp_put_cmd(&p->text, p->o->unlink ? "UNLINK %b" : "DEL %b", &key);
    p->replies++;
}

// What is in p->text.
static int ask(struct purge *p, struct redis_reply *r, struct err *e)
{
    int rc = redis_send(p->c, buf_slice(&p->text), e);
    buf_clear(&p->text);
    if (rc == 0)
        rc = receive(p, r, e);
    return rc == 0 && r->root.type == RESP_ERROR ? refused(r, e) : rc;
}

static int delete_page(struct purge *p, struct err *e)
{
    int rc = p->replies ? redis_send(p->c, buf_slice(&p->text), e) : 0;
    for (int i = 0; i < p->replies && rc == 0; i++) {
        struct redis_reply r;
        rc = receive(p, &r, e);
        if (rc == 0 && r.root.type == RESP_ERROR && !is_redirection(r.root.text))
            rc = refused(&r, e);
        else if (rc == 0 && r.root.type == RESP_INTEGER)
            p->result->deleted += r.root.num > 0;
    }
    if (p->replies)
        fault_point("purge.page");
    buf_clear(&p->text);
    return rc;
}

static bool goes(const struct purge *p, struct slice key)
{
    return purge_has_key(p->o->scope, p->db, key) &&
           !(p->o->keeps && p->o->keeps(p->o->ctx, p->db, key));
}

static int take_page(struct purge *p, const struct redis_reply *r, struct err *e)
{
    struct resp_node cursor, keys, key;
    size_t pos = r->first_child;
    bool ok = r->root.type == RESP_ARRAY && r->root.num == 2 &&
              resp_next(r->p, r->n, &pos, &cursor) && cursor.type == RESP_BULK &&
              resp_next(r->p, r->n, &pos, &keys) && keys.type == RESP_ARRAY;
    p->replies = 0;
    for (int64_t i = 0; ok && i < keys.num; i++) {
        ok = resp_next(r->p, r->n, &pos, &key) && key.type == RESP_BULK;
        if (ok && goes(p, key.text))
            put_key(p, key.text);
    }
    if (!ok)
        return err_set(e, ERR_PROTOCOL, "the target's answer to SCAN makes no sense");
    buf_clear(&p->cursor);
    buf_append_slice(&p->cursor, cursor.text);
    return 0;
}

static int purge_db(struct purge *p, struct err *e)
{
    struct redis_reply r;
    resp_put_cmd(&p->text, "SELECT %d", p->db);
    int rc = ask(p, &r, e);
    buf_clear(&p->cursor);
    buf_append_cstr(&p->cursor, "0");
    while (rc == 0) {
        struct slice cursor = buf_slice(&p->cursor);
        resp_put_cmd(&p->text, "SCAN %b COUNT %d", &cursor, PAGE_KEYS);
        rc = ask(p, &r, e);
        if (rc == 0)
            rc = take_page(p, &r, e);
        if (rc == 0)
            rc = delete_page(p, e);
        if (slice_eq(buf_slice(&p->cursor), SLICE("0")))
            break;
    }
    return rc;
}

// The next "db<n>:" line of INFO.
static bool next_db(struct slice *info, int *db)
{
    while (info->n) {
        const char *nl = memchr(info->p, '\n', info->n);
        size_t n = nl ? (size_t)(nl - info->p) + 1 : info->n;
        struct slice line = slice_make(info->p, n);
        const char *colon = memchr(line.p, ':', line.n);
        int64_t v;
        *info = slice_make(info->p + n, info->n - n);
        if (colon && slice_has_prefix(line, SLICE("db")) &&
            slice_i64(slice_make(line.p + 2, (size_t)(colon - line.p) - 2), &v) && v >= 0 &&
            v < INT32_MAX) {
            *db = (int)v;
            return true;
        }
    }
    return false;
}

int purge_run(struct redis_client *c, const struct purge_options *o, struct purge_result *result,
              struct err *e)
{
    struct purge p = {.c = c, .o = o, .result = result};
    struct redis_reply r;
    struct buf info = {0};
    resp_put_cmd(&p.text, "INFO keyspace");
    int rc = ask(&p, &r, e);
    if (rc == 0)
        buf_append_slice(&info, r.root.text);
    struct slice lines = buf_slice(&info);
    while (rc == 0 && next_db(&lines, &p.db))
        if (purge_has_db(o->scope, p.db))
            rc = purge_db(&p, e);
    buf_free(&info);
    buf_free(&p.text);
    buf_free(&p.cursor);
    return rc;
}

// SPDX-License-Identifier: Apache-2.0
// Two real servers, one that writes snapshots and one that is loaded, for tests of the loader.
#ifndef GUNYU_TESTS_LOAD_WORLD_H
#define GUNYU_TESTS_LOAD_WORLD_H

#include "target/load.h"

#include "ask.h"
#include "server.h"
#include "target_world.h"

#include "source_tree.h"

#include <sys/resource.h>

#define REPLID "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// Two servers: one writes or reads snapshots natively, the other is loaded.
static struct server source, target;
static struct redis_client *from, *to;

static inline int start_server(struct server *s, struct redis_client **client)
{
    static const char *const options[] = {"--enable-debug-command", "yes", NULL};
    server_init(s);
    server_start(s, options);
    return redis_connect(client, &s->endpoint, 20000, NULL);
}

static inline void stop_server(struct server *s, struct redis_client *client)
{
    redis_close(client);
    server_stop(s);
}

static inline int start_servers(void **state)
{
    (void)state;
    return start_server(&source, &from) || start_server(&target, &to);
}

static inline int stop_servers(void **state)
{
    (void)state;
    stop_server(&source, from);
    stop_server(&target, to);
    return 0;
}

static inline struct slice ask(struct redis_client *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct redis_reply reply = ask_args(c, fmt, ap);
    va_end(ap);
    return slice_make(reply.p, reply.n);
}

static inline void is(struct redis_client *c, const char *want, const char *cmd)
{
    struct slice got = ask(c, cmd);
    if (!slice_eq(got, slice_cstr(want)))
        fail_msg("%s: %.*s", cmd, (int)got.n, got.p);
}

static inline void empty(struct redis_client *c)
{
    ask(c, "FLUSHALL");
    ask(c, "FUNCTION FLUSH");
    ask(c, "SELECT 0");
}

static inline int clean(void **state)
{
    (void)state;
    empty(from);
    empty(to);
    return 0;
}

static inline void read_file(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("cannot open %s", path);
    size_t n;
    while ((n = fread(buf_reserve(out, 1 << 20), 1, 1 << 20, f)) > 0)
        out->n += n;
    fclose(f);
}

static inline void snapshot_of_source(struct buf *out)
{
    char path[128];
    ask(from, "SAVE");
    snprintf(path, sizeof(path), "%s/dump.rdb", source.dir);
    read_file(path, out);
}

// ---- one load ----

struct run {
    struct world w;
    struct journal *journal;
    struct load *load;
    struct load_options o;
    struct journal_options jo;
    struct slice rdb;
    size_t fed;          // bytes in the journal
    size_t step;         // fed in one turn
    uint64_t held_until; // hold_expiry makes earlier expiries far
    struct err error;
    bool errored;
    uint64_t safe; // rdb_index of the last position put
    int safe_db;
    void (*attach)(struct run *r); // connects the sink
    uint64_t stop_at;              // the load is given up once a position beyond this is stored
};

static inline int map_same(void *ctx, int db)
{
    (void)ctx;
    return db < 16 ? db : -1;
}

static inline int64_t hold_none(void *ctx, int db, struct slice key, struct slice field, int64_t ms)
{
    (void)ctx, (void)db, (void)key, (void)field;
    return ms;
}

static inline void on_acked(void *ctx, const struct batch_mark *mark)
{
    struct run *r = ctx;
    if (mark->loading)
        load_acked(r->load, mark->rdb_index);
}

static inline int on_position(void *ctx, const struct batch_mark *mark, struct buf *out, int *db)
{
    struct run *r = ctx;
    uint64_t safe = load_safe_index(r->load, mark->rdb_index, &r->safe_db);
    assert_true(safe >= r->safe);
    r->safe = safe;
    resp_put_cmd(out, "ECHO %U", r->safe); // leaves no key behind
    *db = *db + 0;
    return 1;
}

static inline bool on_failed(void *ctx, uint64_t ref, struct slice text)
{
    struct run *r = ctx;
    r->errored = load_cmd_failed(r->load, ref, text, &r->error) != 0;
    return !r->errored;
}

static inline bool on_empty(void *ctx, uint64_t ref)
{
    struct run *r = ctx;
    r->errored = load_cmd_empty(r->load, ref, &r->error) != 0;
    return !r->errored;
}

static inline void run_attach(struct run *r)
{
    struct conn *c;
    struct err e;
    assert_int_equal(conn_dial(&c, &target.endpoint, 5000, &e), 0);
    batcher_attach(r->w.b, c, 0);
}

static const struct batcher_options run_batches = {
    .max_cmds = 1000, .max_bytes = 1 << 20, .max_exec = 1, .position_us = 1000};

static inline void run_init(struct run *r, struct slice rdb)
{
    memset(r, 0, sizeof(*r));
    r->rdb = rdb;
    r->step = SIZE_MAX;
    r->attach = run_attach;
    r->jo = (struct journal_options){
        .type = JOURNAL_MEMORY, .max_size = 1 << 30, .log_size = 1 << 20, .tag = "test"};
    r->o = (struct load_options){.restore_enabled = true,
                                 .max_restore = 16 << 20,
                                 .target_version = 70015,
                                 .temp_tag = "t",
                                 .map_db = map_same,
                                 .hold_expiry = hold_none,
                                 .ctx = r};
    world_init(&r->w, run_batches);
    r->w.quiet = true;
    r->w.ctx = r;
    r->w.acked_hook = on_acked;
    r->w.position_hook = on_position;
    r->w.failed_hook = on_failed;
    r->w.empty_hook = on_empty;
}

static inline void feed_journal(struct run *r)
{
    struct err e;
    size_t end = r->rdb.n - r->fed < r->step ? r->rdb.n : r->fed + r->step;
    while (r->fed < end) {
        char *p;
        size_t n;
        int rc = journal_snapshot_space(r->journal, &p, &n, &e);
        if (rc == ERR_FULL)
            return;
        if (rc)
            fail_msg("%s", e.msg);
        n = n < end - r->fed ? n : end - r->fed;
        memcpy(p, r->rdb.p + r->fed, n);
        assert_int_equal(journal_snapshot_commit(r->journal, n, &e), 0);
        r->fed += n;
        if (r->fed == r->rdb.n)
            assert_int_equal(journal_end_snapshot(r->journal, r->fed, &e), 0);
    }
}

// Goes on from an index until the end, an error, or stop_at. Returns the result of load_pump.
static inline int run_from(struct run *r, uint64_t index, int db, int version, uint64_t again)
{
    struct err e = {0};
    int rc = LOAD_WAIT;
    if (!r->journal) {
        assert_int_equal(journal_open(&r->journal, &r->jo, &e), 0);
        assert_int_equal(journal_begin_snapshot(r->journal, REPLID, 1000, JOURNAL_SIZE_UNKNOWN, &e),
                         0);
    }
    r->attach(r);
    r->o.sink = r->w.sink;
    r->o.journal = r->journal;
    r->load = load_new(&r->o, index, db, version, again);
    uint64_t deadline = clock_mono_us() + 60 * 1000 * 1000;
    do {
        feed_journal(r);
        rc = load_pump(r->load, 1 << 20, &r->error);
        world_turn(&r->w);
        if (clock_mono_us() > deadline)
            fail_msg("the load stands still at %zu of %zu bytes", r->fed, r->rdb.n);
    } while (rc >= 0 && rc != LOAD_FINISHED && !r->errored && !r->w.fails &&
             !(r->stop_at && r->safe >= r->stop_at));
    return r->errored ? r->error.code : rc;
}

static inline void run_free(struct run *r)
{
    sink_detach(r->w.sink);
    load_free(r->load);
    world_free(&r->w);
    if (r->journal)
        journal_close(r->journal);
}

// Loads all of it, in this way unless it is NULL, and frees r. stats may be NULL.
static inline void run_whole(struct run *r, void (*way)(struct run *r), struct load_stats *stats)
{
    if (way)
        way(r);
    int rc = run_from(r, 0, 0, 0, 0);
    if (rc != LOAD_FINISHED)
        fail_msg("%d: %s", rc, r->error.msg);
    if (stats)
        load_get_stats(r->load, stats);
    run_free(r);
}

static inline void load_whole(struct slice rdb, void (*way)(struct run *r),
                              struct load_stats *stats)
{
    struct run r;
    run_init(&r, rdb);
    run_whole(&r, way, stats);
}

// The load is given up after the position `stop` and goes on from what is stored. Frees r.
static inline void run_in_two(struct run *r, uint64_t stop)
{
    char dir[] = "/tmp/gunyu-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    r->jo.type = JOURNAL_STORER;
    r->jo.dir = dir;
    r->stop_at = stop;
    r->step = 100000;
    assert_true(run_from(r, 0, 0, 0, 0) >= 0);
    int version = load_rdb_version(r->load);
    sink_detach(r->w.sink);
    load_free(r->load);
    r->stop_at = 0;
    if (run_from(r, r->safe, r->safe_db, version, 0) != LOAD_FINISHED)
        fail_msg("from %llu: %s", (unsigned long long)r->safe, r->error.msg);
    run_free(r);
    nftw(dir, server_remove, 8, FTW_DEPTH | FTW_PHYS);
}

// ---- comparison ----

static inline void copy_reply(struct buf *out, struct slice s)
{
    buf_clear(out);
    buf_append_slice(out, s);
}

static inline void same_answer(const char *what, struct slice key, const char *fmt)
{
    struct buf a = {0};
    copy_reply(&a, ask(from, fmt, &key));
    struct slice b = ask(to, fmt, &key);
    if (!slice_eq(buf_slice(&a), b))
        fail_msg("%s of %.*s: %.*s, not %.*s", what, (int)key.n, key.p,
                 (int)(b.n < 200 ? b.n : 200), b.p, (int)(a.n < 200 ? a.n : 200), a.p);
    buf_free(&a);
}

// Of what the source answered to KEYS.
static inline bool next_key(const struct buf *keys, size_t *pos, struct slice *key)
{
    struct resp_node node;
    while (resp_next(keys->p, keys->n, pos, &node))
        if (node.type == RESP_BULK) {
            *key = node.text;
            return true;
        }
    return false;
}

static inline void same_key(struct slice key, bool groups)
{
    same_answer("expiry", key, "PEXPIRETIME %b");
    same_answer("type", key, "TYPE %b");
    same_answer("value", key, "DEBUG DIGEST-VALUE %b");
    if (!slice_eq(ask(from, "TYPE %b", &key), SLICE("+stream\r\n")))
        return;
    if (groups)
        same_answer("groups", key, "XINFO GROUPS %b");
    same_answer("entries", key, "XRANGE %b - +");
}

static inline void compare(bool groups)
{
    struct buf keys = {0};
    for (int db = 0; db < 16; db++) {
        ask(from, "SELECT %d", db);
        ask(to, "SELECT %d", db);
        copy_reply(&keys, ask(from, "DBSIZE"));
        struct slice size = ask(to, "DBSIZE");
        if (!slice_eq(buf_slice(&keys), size))
            fail_msg("db %d: %.*s keys, not %.*s", db, (int)size.n, size.p, (int)keys.n, keys.p);
        copy_reply(&keys, ask(from, "KEYS *"));
        size_t pos = 0;
        struct slice key;
        while (next_key(&keys, &pos, &key))
            same_key(key, groups);
    }
    ask(from, "SELECT 0");
    ask(to, "SELECT 0");
    buf_free(&keys);
}

static inline void same_data(void)
{
    compare(true);
}

#endif

// SPDX-License-Identifier: Apache-2.0
#include "rdb/load_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "codec/rdb_types.h"
#include "rdb/unpack.h"
#include "target/batcher.h"
#include "target/position.h"
#include "target/router.h"

enum {
    HEAD_SIZE = 64 << 10, // bytes whose hash tells one file from another
    READ_SIZE = 1 << 20,
    TURN_BYTES = 1 << 20,
    LIMITED_TURN_BYTES = 16 << 10, // a rate limit is looked at between turns
    CONNECT_TIMEOUT_MS = 10000,
    ANSWER_TIMEOUT_US = 60000000,
    TICK_MS = 100,
    POSITION_US = 200000,
    TEMPLATES_SINCE = 15, // RDB version of Redis
};

struct loading {
    struct load_plan *plan;
    struct load_progress *progress;
    struct load_outcome *r;
    const struct endpoint *seeds; // of the cluster that the target is; borrowed
    size_t seeds_n;               // 0: it is none
    struct unpack *file;
    struct journal *journal;
    struct journal_reader *prefix; // pins what lies before `from` while that is read
    struct sink *sink;
    struct load *load; // NULL while the prefix is read
    struct redis_server server;
    char temp_tag[64];
    uint64_t from;
    int from_db, from_version;
    int64_t now_ms;     // when the load began: a key that must be sent twice is judged as before
    uint64_t have;      // bytes in the journal so far
    uint64_t file_done; // bytes of the file that they were made of
    bool at_end;        // of the file
    bool full;          // the journal has no room now

    uv_loop_t loop;
    uv_timer_t tick, wait; // wait: for a rate
    uv_idle_t again;
    uv_work_t work;
    bool reading;
    char *piece;     // owns; READ_SIZE bytes, the reading thread's while `reading`
    size_t got, put; // bytes in it, and of these in the journal
    int read_rc;
    struct err read_err;

    uint64_t counted_keys, counted_bytes; // already charged to the rates
    uint64_t moved_us, moved_bytes;       // when the target last took or answered something
    bool ending;                          // nothing more is begun; ends once all is answered
    bool over;
    int rc;
    struct err *e;
};

// Charges n and returns for how many ms to wait.
static uint64_t spend(struct load_rate *rate, uint64_t n)
{
    enum { BURST_US = 50000 };
    if (rate->per_second <= 0)
        return 0;
    uint64_t now = clock_mono_us();
    uv_mutex_lock(&rate->lock);
    if (rate->next_us + BURST_US < now)
        rate->next_us = now - BURST_US;
    rate->next_us += (uint64_t)((double)n * 1e6 / rate->per_second);
    uint64_t wait = rate->next_us > now ? (rate->next_us - now + 999) / 1000 : 0;
    uv_mutex_unlock(&rate->lock);
    return wait;
}

static void finish(struct loading *l)
{
    l->over = true;
    uv_stop(&l->loop);
}

// Nothing can be sent any more.
static void fail_now(struct loading *l, int rc, const struct err *why)
{
    if (l->over)
        return;
    if (!l->ending || l->rc == 0) {
        l->rc = rc;
        *l->e = *why;
    }
    sink_stop(l->sink);
    finish(l);
}

// Lets what is in flight be confirmed first.
static void fail_softly(struct loading *l, int rc, const struct err *why)
{
    if (l->ending)
        return;
    l->ending = true;
    l->rc = rc;
    *l->e = *why;
    if (l->plan->resume && l->load)
        sink_store_position(l->sink);
}

static void end_if_idle(struct loading *l)
{
    if (!l->ending)
        return;
    sink_flush(l->sink); // the position may wait for this
    if (sink_idle(l->sink))
        finish(l);
}

// ---- reading ----

static void read_run(uv_work_t *work)
{
    struct loading *l = work->data;
    l->read_rc = unpack_read(l->file, l->piece, READ_SIZE, &l->got, &l->read_err);
}

static void turn(struct loading *l);

// Moves what was read into the journal, as far as there is room.
static int put_piece(struct loading *l, struct err *e)
{
    int rc = 0;
    while (rc == 0 && l->put < l->got) {
        char *space;
        size_t n;
        rc = journal_snapshot_space(l->journal, &space, &n, e);
        if (rc)
            break;
        if (n > l->got - l->put)
            n = l->got - l->put;
        memcpy(space, l->piece + l->put, n);
        rc = journal_snapshot_commit(l->journal, n, e);
        l->put += n;
        l->have += n;
    }
    l->full = rc == ERR_FULL;
    return l->full ? 0 : rc;
}

static int take_read(struct loading *l, struct err *e)
{
    l->reading = false;
    l->file_done = unpack_done(l->file);
    if (l->read_rc) {
        l->got = l->put = 0;
        *e = l->read_err;
        return l->read_rc;
    }
    l->at_end = l->got == 0;
    l->put = 0;
    return put_piece(l, e);
}

static void read_done(uv_work_t *work, int status)
{
    (void)status;
    struct loading *l = work->data;
    struct err e = {0};
    int rc = take_read(l, &e);
    if (rc)
        fail_softly(l, rc, &e);
    turn(l);
}

static void want_read(struct loading *l)
{
    struct err e = {0};
    if (l->reading || l->at_end || l->ending)
        return;
    int rc = put_piece(l, &e);
    if (rc)
        fail_softly(l, rc, &e);
    if (rc || l->full)
        return;
    l->reading = true;
    must(uv_queue_work(&l->loop, &l->work, read_run, read_done) == 0);
}

// Size and beginning tell a file from others; an RDB's head holds when it was written.
static int read_head(struct loading *l, struct err *e)
{
    struct journal_options o = {
        .type = JOURNAL_MEMORY, .max_size = l->plan->window, .log_size = 1 << 20};
    int rc = journal_open(&l->journal, &o, e);
    if (rc == 0)
        rc = journal_begin_snapshot(l->journal, "rdb", 0, JOURNAL_SIZE_UNKNOWN, e);
    while (rc == 0 && l->have < HEAD_SIZE && !l->at_end) {
        read_run(&l->work);
        rc = take_read(l, e);
    }
    if (rc)
        return rc;
    const char *p;
    size_t n;
    l->prefix = journal_reader_open(l->journal);
    rc = journal_snapshot_view(l->prefix, 0, &p, &n, e);
    if (rc)
        return rc;
    XXH128_hash_t h = XXH3_128bits_withSeed(p, n < HEAD_SIZE ? n : HEAD_SIZE, unpack_size(l->file));
    snprintf(l->r->id, sizeof(l->r->id), "rdb-%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
    return 0;
}

// ---- what the loader asks ----

static int map_db(void *ctx, int db)
{
    const struct loading *l = ctx;
    int to = rewrite_map_db(&l->plan->dbs, db);
    return l->server.databases > 0 && to >= l->server.databases ? -1 : to;
}

static int64_t keep_expiry(void *ctx, int db, struct slice key, struct slice field,
                           int64_t expire_ms)
{
    (void)ctx;
    (void)db;
    (void)key;
    (void)field;
    return expire_ms;
}

static bool wants(void *ctx, const struct rdb_item *item)
{
    struct loading *l = ctx;
    if (!selection_wants(l->plan->selection, item, l->now_ms))
        return false;
    bool expired = item->expire_ms >= 0 && item->expire_ms <= l->now_ms;
    l->r->expired += expired;
    return !expired;
}

// ---- what the sink reports ----

static void on_acked(void *ctx, const struct batch_mark *mark, bool stored)
{
    struct loading *l = ctx;
    (void)stored;
    if (l->load)
        load_acked(l->load, mark->rdb_index);
}

static void on_failed(void *ctx, uint64_t ref, const struct err *why)
{
    struct loading *l = ctx;
    struct err e = *why;
    (void)ref;
    err_wrap(&e, "target %s", l->plan->target_name);
    fail_now(l, e.code, &e);
}

static void on_cmd_failed(void *ctx, uint64_t ref, struct slice text, bool in_exec)
{
    struct loading *l = ctx;
    struct err e = {0};
    (void)in_exec;
    int rc = load_cmd_failed(l->load, ref, text, &e);
    if (rc == 0)
        return;
    err_wrap(&e, "target %s", l->plan->target_name);
    fail_now(l, rc, &e);
}

static void on_cmd_empty(void *ctx, uint64_t ref)
{
    struct loading *l = ctx;
    struct err e = {0};
    int rc = load_cmd_empty(l->load, ref, &e);
    if (rc)
        fail_now(l, rc, &e);
}

static int put_position(void *ctx, const struct batch_mark *mark, struct buf *out, int *db)
{
    struct loading *l = ctx;
    struct position p = {.loading = true, .rdb_db = mark->rdb_db};
    int n = 1;
    if (*db != 0) {
        resp_put_cmd(out, "SELECT 0");
        *db = 0;
        n++;
    }
    snprintf(p.replid, sizeof(p.replid), "%s", l->r->id);
    p.rdb_index = load_safe_index(l->load, mark->rdb_index, &p.rdb_db);
    p.rdb_version = load_rdb_version(l->load);
    position_put(out, &p, clock_unix_ms());
    return n;
}

static void on_room(void *ctx)
{
    turn(ctx);
}

static const struct sink_events sink_calls = {
    .acked = on_acked,
    .cmd_failed = on_cmd_failed,
    .cmd_empty = on_cmd_empty,
    .failed = on_failed,
    .put_position = put_position,
    .room = on_room,
};

// ---- the target ----

static int connect_target(const struct load_plan *plan, struct redis_client **c, struct err *e)
{
    struct endpoint ep = plan->target;
    ep.db = 0;
    return redis_connect(c, &ep, CONNECT_TIMEOUT_MS, e);
}

// From the position in the target, if it is of this file. c: the server that has it.
static int where_to_begin(struct loading *l, struct redis_client *c, struct err *e)
{
    int rc = 0;
    struct position p;
    bool found = false;
    if (l->plan->resume)
        rc = position_read_own(c, l->r->id, &p, &found, e);
    if (rc || !found || p.foreign)
        return rc;
    l->r->was_done = !p.loading;
    // Hashes of these versions refer to templates at the file's beginning, which must be read again
    // as well; loading what was loaded is the simpler way.
    if (p.rdb_version >= TEMPLATES_SINCE && p.rdb_version < RDB_VALKEY_MIN)
        return 0;
    l->r->resumed = p.loading;
    l->r->from = l->from = p.rdb_index;
    l->from_db = p.rdb_db;
    l->from_version = p.rdb_version;
    return 0;
}

static int look_at(struct loading *l, struct redis_client *c, struct err *e)
{
    struct redis_server *s = &l->server;
    int rc = redis_probe(c, s, e);
    if (rc)
        return rc;
    if (s->version == 0)
        s->version = l->plan->replay.target_version;
    if (s->loading)
        return err_set(e, ERR_REPLY, "target %s: LOADING it is loading its own data; try later",
                       l->plan->target_name);
    if (s->cluster_enabled) {
        l->seeds = &l->plan->target;
        l->seeds_n = 1;
        return 0;
    }
    return where_to_begin(l, c, e);
}

// Another connection than a killed process's, whose last commands the target may not have read.
static int reach_server(struct loading *l, struct err *e)
{
    struct redis_client *c;
    int rc = connect_target(l->plan, &c, e);
    if (rc)
        return rc;
    rc = look_at(l, c, e);
    if (rc || l->r->was_done || l->seeds_n) {
        redis_close(c);
        return rc;
    }
    struct batcher_options o = {
        .loop = &l->loop,
        .events = &sink_calls,
        .ctx = l,
        .max_cmds = l->plan->replay.batch_cmds,
        .max_bytes = l->plan->replay.batch_bytes,
        .max_exec = 1,
        .position_us = l->plan->resume ? POSITION_US : UINT64_MAX,
    };
    struct batcher *b = batcher_new(&o);
    l->sink = batcher_sink(b);
    batcher_attach(b, redis_take_conn(c), 0);
    return 0;
}

static struct slice own_position_key(const struct loading *l, char *dst)
{
    return position_key(l->r->id, dst);
}

static int position_slot(void *ctx)
{
    char name[64];
    return slot_of(own_position_key(ctx, name));
}

static bool emit_nothing(void *ctx, uint64_t from, int db, int64_t now_ms, int slot, size_t as_is)
{
    (void)ctx, (void)from, (void)db, (void)now_ms, (void)slot, (void)as_is;
    return false;
}

static void moved(void *ctx)
{
    (void)ctx;
}

static int open_masters(const struct loading *l, struct masters *m, struct err *e)
{
    return masters_open(m, l->seeds, l->seeds_n, CONNECT_TIMEOUT_MS, l->plan->replay.target_version,
                        e);
}

static struct sink *sink_to_masters(struct loading *l, struct masters *m)
{
    static const struct router_events calls = {
        .sink = &sink_calls, .emit = emit_nothing, .position_slot = position_slot, .moved = moved};
    struct router_options o = {
        .loop = &l->loop,
        .events = &calls,
        .ctx = l,
        .position_us = l->plan->resume ? POSITION_US : UINT64_MAX,
        .max_cmds = l->plan->replay.batch_cmds,
        .max_bytes = l->plan->replay.batch_bytes,
    };
    struct router *r = router_new(&o);
    router_attach_masters(r, m, NULL, 0);
    return router_sink(r);
}

static int reach_cluster(struct loading *l, struct err *e)
{
    struct masters m;
    char name[64];
    int rc = open_masters(l, &m, e);
    if (rc)
        return rc;
    l->server = m.server;
    rc = where_to_begin(l, masters_owner(&m, own_position_key(l, name)), e);
    if (rc == 0 && !l->r->was_done)
        l->sink = sink_to_masters(l, &m);
    masters_close(&m);
    return rc;
}

static int reach_target(struct loading *l, struct err *e)
{
    int rc = l->seeds_n ? 0 : reach_server(l, e);
    return rc == 0 && l->seeds_n ? reach_cluster(l, e) : rc;
}

static void start_load(struct loading *l)
{
    const struct lane_options *r = &l->plan->replay;
    struct load_options o = {
        .sink = l->sink,
        .journal = l->journal,
        .filter = l->plan->filter,
        .exists = r->exists,
        .exists_log = r->exists_log,
        .cluster = l->seeds_n > 0,
        .functions = r->functions,
        .restore_enabled = r->restore_enabled,
        .skip_module_aux = r->skip_module_aux,
        .skip_unknown = r->skip_unknown,
        .degrade = r->degrade,
        .max_restore = r->max_restore,
        .target_version = l->server.version,
        .target_is_valkey = l->server.is_valkey,
        .target_missing = l->server.missing,
        .temp_tag = l->temp_tag,
        .map_db = map_db,
        .hold_expiry = keep_expiry,
        .wants = wants,
        .ctx = l,
    };
    l->load = load_new(&o, l->from, l->from_db, l->from_version, l->from);
    l->counted_bytes = l->from;
    journal_reader_close(l->prefix);
    l->prefix = NULL;
}

// ---- turns ----

static void on_wait(uv_timer_t *timer)
{
    turn(timer->data);
}

// What was read ahead does not count.
static void show_progress(struct loading *l, const struct load_stats *s)
{
    double part = l->have ? (double)s->index / (double)l->have : 0;
    atomic_store(&l->progress->done, (uint64_t)((double)l->file_done * part));
    atomic_store(&l->progress->keys, s->keys_sent);
}

// For how many ms the rates forbid to go on.
static uint64_t charge(struct loading *l)
{
    struct load_stats s;
    load_get_stats(l->load, &s);
    show_progress(l, &s);
    uint64_t bytes = s.index > l->counted_bytes ? s.index - l->counted_bytes : 0;
    uint64_t keys = s.keys_sent > l->counted_keys ? s.keys_sent - l->counted_keys : 0;
    uint64_t a = spend(&l->plan->keys, keys), b = spend(&l->plan->bytes, bytes);
    l->counted_bytes += bytes;
    l->counted_keys += keys;
    return a > b ? a : b;
}

// What was loaded before is read and let go.
static void pass_prefix(struct loading *l)
{
    journal_snapshot_release(l->prefix, l->have < l->from ? l->have : l->from);
    struct err e = {0};
    if (l->have >= l->from)
        start_load(l);
    else if (l->at_end)
        fail_softly(l,
                    err_set(&e, ERR_CORRUPT,
                            "%s: ends at byte %llu, but %llu bytes of it were loaded before: it "
                            "was cut off since",
                            unpack_name(l->file), (unsigned long long)l->have,
                            (unsigned long long)l->from),
                    &e);
}

// The loader waits, though it is owed no answer.
static void on_stuck(struct loading *l)
{
    struct err e = {0};
    if (l->at_end)
        fail_softly(l,
                    err_set(&e, ERR_CORRUPT,
                            "%s: the file ends at byte %llu, before the end of the RDB data: it "
                            "was cut off",
                            unpack_name(l->file), (unsigned long long)l->have),
                    &e);
    else if (l->full)
        fail_softly(l,
                    err_set(&e, ERR_TOO_BIG,
                            "%s: a value near byte %llu needs more of the file at once than the "
                            "%lld MiB that are held; raise --window",
                            unpack_name(l->file), (unsigned long long)l->have,
                            (long long)(l->plan->window >> 20)),
                    &e);
}

static bool is_limited(const struct load_plan *p)
{
    return p->keys.per_second > 0 || p->bytes.per_second > 0;
}

static int pump(struct loading *l)
{
    struct err e = {0};
    bool idle = sink_idle(l->sink);
    int rc = load_pump(l->load, is_limited(l->plan) ? LIMITED_TURN_BYTES : TURN_BYTES, &e);
    sink_flush(l->sink);
    if (rc < 0) {
        err_wrap(&e, "%s", unpack_name(l->file));
        fail_softly(l, rc, &e);
        return LOAD_WAIT;
    }
    if (rc == LOAD_FINISHED) {
        finish(l);
        return rc;
    }
    want_read(l);
    if (rc == LOAD_WAIT && idle && sink_idle(l->sink) && !l->reading)
        on_stuck(l);
    uint64_t wait = charge(l);
    if (wait)
        uv_timer_start(&l->wait, on_wait, wait, 0);
    return wait ? LOAD_WAIT : rc;
}

static void on_again(uv_idle_t *idle)
{
    turn(idle->data);
}

static void turn(struct loading *l)
{
    if (l->over)
        return;
    int rc = LOAD_WAIT;
    if (!l->load && !l->ending)
        pass_prefix(l);
    if (!l->load)
        want_read(l);
    else if (!l->ending && !uv_is_active((uv_handle_t *)&l->wait))
        rc = pump(l);
    end_if_idle(l);
    if (rc == LOAD_MORE_NOW && !l->over)
        uv_idle_start(&l->again, on_again);
    else
        uv_idle_stop(&l->again);
}

static void check_answers(struct loading *l)
{
    struct sink_stats s;
    sink_get_stats(l->sink, &s);
    uint64_t moved = s.bytes_sent + s.cmds_ok;
    if (moved != l->moved_bytes || sink_idle(l->sink)) {
        l->moved_bytes = moved;
        l->moved_us = clock_mono_us();
    } else if (clock_mono_us() - l->moved_us > ANSWER_TIMEOUT_US) {
        struct err e;
        err_set(&e, ERR_TIMEOUT, "target %s has not answered for %d s", l->plan->target_name,
                ANSWER_TIMEOUT_US / 1000000);
        fail_now(l, e.code, &e);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct loading *l = timer->data;
    struct err e = {0};
    if (atomic_load(&l->plan->stop))
        fail_softly(l, err_set(&e, ERR_CLOSED, "%s: stopped before its end", unpack_name(l->file)),
                    &e);
    if (l->load)
        sink_flush(l->sink);
    check_answers(l);
    turn(l);
}

static void run(struct loading *l)
{
    l->moved_us = clock_mono_us();
    uv_timer_init(&l->loop, &l->tick);
    uv_timer_init(&l->loop, &l->wait);
    uv_idle_init(&l->loop, &l->again);
    uv_timer_start(&l->tick, on_tick, 0, TICK_MS);
    uv_run(&l->loop, UV_RUN_DEFAULT);
}

static void take_stats(struct loading *l)
{
    struct load_stats s = {0};
    if (l->load)
        load_get_stats(l->load, &s);
    l->r->keys = s.keys_sent;
    l->r->filtered = s.keys_filtered - l->r->expired;
    l->r->ignored = s.keys_ignored;
    l->r->replaced = s.keys_replaced;
    l->r->functions = s.functions;
    l->r->unknown = s.unknown;
    for (int i = 0; i < LOSSES; i++)
        l->r->degraded[i] = s.degraded[i];
    show_progress(l, &s);
}

// So that a later run of several files does not load this one over the next ones.
static int mark_done(struct loading *l, struct err *e)
{
    struct redis_client *c;
    struct position p = {.offset = (int64_t)l->have};
    struct buf b = {0};
    snprintf(p.replid, sizeof(p.replid), "%s", l->r->id);
    position_put(&b, &p, clock_unix_ms());
    int rc = 0;
    if (l->seeds_n) {
        struct masters m;
        char name[64];
        rc = open_masters(l, &m, e);
        if (rc == 0) {
            c = masters_owner(&m, own_position_key(l, name));
            rc = redis_call_raw(c, buf_slice(&b), 1, NULL, e);
            masters_close(&m);
        }
    } else {
        rc = connect_target(l->plan, &c, e);
        if (rc == 0) {
            rc = redis_call_raw(c, buf_slice(&b), 1, NULL, e);
            redis_close(c);
        }
    }
    buf_free(&b);
    return rc;
}

static void close_handle(uv_handle_t *h, void *arg)
{
    (void)arg;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static void release(struct loading *l)
{
    load_free(l->load);
    sink_free(l->sink);
    uv_walk(&l->loop, close_handle, NULL);
    uv_run(&l->loop, UV_RUN_DEFAULT);
    must(uv_loop_close(&l->loop) == 0);
    if (l->prefix)
        journal_reader_close(l->prefix);
    journal_close(l->journal);
    unpack_close(l->file);
    free(l->piece);
    free(l);
}

int load_file(struct load_plan *plan, const char *path, struct load_progress *progress,
              struct load_outcome *r, struct err *e)
{
    struct loading *l = xcalloc(1, sizeof(*l));
    *r = (struct load_outcome){0};
    *l = (struct loading){.plan = plan,
                          .progress = progress,
                          .r = r,
                          .e = e,
                          .now_ms = clock_unix_ms(),
                          .seeds = plan->seeds,
                          .seeds_n = plan->seeds_n};
    l->piece = xmalloc(READ_SIZE);
    l->work.data = l->tick.data = l->wait.data = l->again.data = l;
    must(uv_loop_init(&l->loop) == 0);
    l->rc = unpack_open(&l->file, path, e);
    if (l->rc == 0)
        l->rc = read_head(l, e);
    // Two processes, or two files, must not meet in one temporary key.
    snprintf(l->temp_tag, sizeof(l->temp_tag), "%s:%d", r->id, (int)getpid());
    if (l->rc == 0)
        l->rc = reach_target(l, e);
    if (l->rc == 0 && !r->was_done) {
        run(l);
        take_stats(l);
        if (l->rc == 0 && plan->resume)
            l->rc = mark_done(l, e);
    }
    int rc = l->rc;
    // Only standard input can keep a read waiting for ever.
    r->abandoned = l->reading && strcmp(path, "-") == 0;
    if (!r->abandoned)
        release(l);
    return rc;
}

static int forget_one(struct redis_client *c, const struct load_outcome *r, struct err *e)
{
    char name[64];
    struct slice key = position_key(r->id, name);
    struct redis_reply reply;
    return redis_call(c, &reply, e, "DEL %b", &key);
}

static int forget_in_cluster(const struct load_plan *plan, const struct endpoint *seeds,
                             size_t seeds_n, const struct load_outcome *results, size_t n,
                             struct err *e)
{
    struct masters m;
    int rc = masters_open(&m, seeds, seeds_n, CONNECT_TIMEOUT_MS, plan->replay.target_version, e);
    if (rc)
        return rc;
    for (size_t i = 0; i < n && rc == 0; i++) {
        char name[64];
        rc = forget_one(masters_owner(&m, position_key(results[i].id, name)), &results[i], e);
    }
    masters_close(&m);
    return rc;
}

int load_forget(const struct load_plan *plan, const struct load_outcome *results, size_t n,
                struct err *e)
{
    struct redis_client *c;
    struct redis_server s;
    if (plan->seeds_n)
        return forget_in_cluster(plan, plan->seeds, plan->seeds_n, results, n, e);
    int rc = connect_target(plan, &c, e);
    if (rc)
        return rc;
    rc = redis_probe(c, &s, e);
    for (size_t i = 0; i < n && rc == 0 && !s.cluster_enabled; i++)
        rc = forget_one(c, &results[i], e);
    redis_close(c);
    return rc == 0 && s.cluster_enabled ? forget_in_cluster(plan, &plan->target, 1, results, n, e)
                                        : rc;
}

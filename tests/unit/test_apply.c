// SPDX-License-Identifier: Apache-2.0
#include "target/apply.h"

#include "redis_fixture.h"
#include "target/position.h"
#include "target/turn.h"
#include "target_world.h"

#define REPLID "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define START 1000

static struct redis_fixture target;

static int start(void **state)
{
    (void)state;
    return redis_fixture_start(&target, NULL) ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    redis_fixture_stop(&target);
    return 0;
}

static struct slice ask(const char *cmd)
{
    struct redis_reply reply;
    struct err e;
    struct buf text = {0};
    resp_put_cmd(&text, cmd);
    if (redis_call_raw(target.client, buf_slice(&text), 1, &reply, &e))
        fail_msg("%s: %s", cmd, e.msg);
    buf_free(&text);
    return slice_make(reply.p, reply.n);
}

static void is(const char *want, const char *cmd)
{
    struct slice got = ask(cmd);
    if (!slice_eq(got, slice_cstr(want)))
        fail_msg("%s: %.*s", cmd, (int)got.n, got.p);
}

static int clean(void **state)
{
    (void)state;
    ask("FLUSHALL");
    ask("SELECT 0");
    return 0;
}

struct stream {
    struct world w;
    struct journal *journal;
    struct apply *apply;
    struct apply_options o;
    int getacks, refusals;
    bool go_on; // after a refusal
    int64_t hold_before;
};

static void on_getack(void *ctx)
{
    ((struct stream *)ctx)->getacks++;
}

static void on_held(void *ctx, int db, struct slice key, struct slice field, int64_t ms)
{
    (void)ctx, (void)db, (void)key, (void)field, (void)ms;
}

static void on_moved(void *ctx, int db, int argc, const struct slice *argv)
{
    (void)ctx, (void)db, (void)argc, (void)argv;
}

static bool on_refused(void *ctx, uint64_t ref, struct slice reason)
{
    struct stream *s = ctx;
    (void)ref, (void)reason;
    s->refusals++;
    return s->go_on;
}

static void on_acked(void *ctx, const struct batch_mark *mark)
{
    struct stream *s = ctx;
    apply_acked(s->apply, mark->offset);
}

static int on_position(void *ctx, const struct batch_mark *mark, struct buf *out, int *db)
{
    (void)ctx;
    int n = 1;
    if (*db != 0) {
        resp_put_cmd(out, "SELECT 0");
        *db = 0;
        n++;
    }
    struct position p = {.replid = REPLID, .offset = (int64_t)mark->offset, .db = mark->db};
    position_put(out, &p, 1);
    return n;
}

static void stream_init(struct stream *s)
{
    memset(s, 0, sizeof(*s));
    struct batcher_options bo = {
        .max_cmds = 1000, .max_bytes = 1 << 20, .max_exec = 1, .position_us = UINT64_MAX / 2};
    world_init(&s->w, bo);
    s->w.ctx = s;
    s->w.acked_hook = on_acked;
    s->w.position_hook = on_position;
    s->o = (struct apply_options){.batcher = s->w.b,
                                  .transactions = true,
                                  .databases = 16,
                                  .target_version = 70015,
                                  .replids = {REPLID, ""},
                                  .getack = on_getack,
                                  .held = on_held,
                                  .moved = on_moved,
                                  .refused = on_refused,
                                  .ctx = s};
}

static void stream_open(struct stream *s)
{
    struct err e;
    struct conn *c;
    struct journal_options jo = {
        .type = JOURNAL_MEMORY, .max_size = 1 << 28, .log_size = 1 << 20, .tag = "test"};
    assert_int_equal(journal_open(&s->journal, &jo, &e), 0);
    assert_int_equal(journal_begin_log(s->journal, REPLID, START, &e), 0);
    assert_int_equal(conn_dial(&c, &target.endpoint, 5000, &e), 0);
    batcher_attach(s->w.b, c, 0);
    s->o.journal = s->journal;
    s->apply = apply_new(&s->o, START, 0);
}

static void stream_free(struct stream *s)
{
    batcher_detach(s->w.b);
    apply_free(s->apply);
    world_free(&s->w);
    journal_close(s->journal);
}

static int pump(struct stream *s)
{
    struct err e;
    int rc = apply_pump(s->apply, 1 << 20, clock_unix_ms(), s->hold_before, &e);
    if (rc < 0)
        fail_msg("%s", e.msg);
    return rc;
}

static void put(struct stream *s, struct slice bytes)
{
    struct err e;
    while (bytes.n) {
        char *p;
        size_t n;
        assert_int_equal(journal_log_space(s->journal, &p, &n, &e), 0);
        n = n < bytes.n ? n : bytes.n;
        memcpy(p, bytes.p, n);
        assert_int_equal(journal_log_commit(s->journal, n, &e), 0);
        bytes = slice_make(bytes.p + n, bytes.n - n);
    }
}

static void put_cmd(struct stream *s, const char *fmt, ...)
{
    struct buf text = {0};
    va_list ap;
    va_start(ap, fmt);
    resp_put_vcmd(&text, fmt, ap);
    va_end(ap);
    put(s, buf_slice(&text));
    buf_free(&text);
}

static uint64_t right(struct stream *s)
{
    struct journal_info ji;
    journal_get_info(s->journal, &ji);
    return ji.right;
}

// Until all of the journal is applied.
static void finish(struct stream *s)
{
    uint64_t deadline = clock_mono_us() + 20 * 1000 * 1000;
    while (s->w.acked.offset < right(s) || !batcher_idle(s->w.b)) {
        pump(s);
        world_turn(&s->w);
        if (s->w.fails || clock_mono_us() > deadline)
            fail_msg("applied to %llu of %llu: %s (%s)", (unsigned long long)s->w.acked.offset,
                     (unsigned long long)right(s), s->w.refusal, buf_cstr(&s->w.events));
    }
}

static int64_t stored_offset(void)
{
    char key[64];
    struct position p;
    struct redis_reply reply;
    struct err e;
    struct slice name = position_key(REPLID, key);
    if (redis_call(target.client, &reply, &e, "GET %b", &name) != 0 || reply.root.type != RESP_BULK)
        return -1;
    assert_true(position_parse(REPLID, reply.root.text, &p));
    return p.offset;
}

static void run_mix(bool transactions, size_t piece)
{
    struct stream s;
    struct buf all = {0};
    stream_init(&s);
    s.o.transactions = transactions;
    stream_open(&s);
    resp_put_cmd(&all, "SELECT 0");
    resp_put_cmd(&all, "SET a 1");
    buf_append_cstr(&all, "\n\n");
    resp_put_cmd(&all, "INCR n");
    buf_append_cstr(&all, "PING\r\n");
    resp_put_cmd(&all, "SELECT 5");
    resp_put_cmd(&all, "MULTI");
    resp_put_cmd(&all, "RPUSH l a");
    resp_put_cmd(&all, "SELECT 0");
    resp_put_cmd(&all, "INCR n");
    resp_put_cmd(&all, "DEL none");
    resp_put_cmd(&all, "GETDEL none");
    resp_put_cmd(&all, "EXEC");
    resp_put_cmd(&all, "REPLCONF GETACK *");
    resp_put_cmd(&all, "SET b 2 PXAT 33000000000000");
    buf_append_cstr(&all, "SET inline \"with spaces\"\r\n");
    resp_put_cmd(&all, "SELECT 5");
    resp_put_cmd(&all, "APPEND s xyz");
    for (size_t at = 0; at < all.n; at += piece) {
        put(&s, slice_make(all.p + at, all.n - at < piece ? all.n - at : piece));
        pump(&s);
        batcher_flush(s.w.b);
        if (at % 7 == 0)
            uv_run(&s.w.loop, UV_RUN_NOWAIT);
    }
    finish(&s);
    assert_int_equal(s.getacks, 1);
    assert_int_equal(apply_position(s.apply), START + all.n);
    is("$1\r\n2\r\n", "GET n");
    is("$1\r\n1\r\n", "GET a");
    is("$11\r\nwith spaces\r\n", "GET inline");
    is(":33000000000000\r\n", "PEXPIRETIME b");
    ask("SELECT 5");
    is("*1\r\n$1\r\na\r\n", "LRANGE l 0 -1");
    is("$3\r\nxyz\r\n", "GET s");
    ask("SELECT 0");
    assert_int_equal(s.w.refusals, 0);
    batcher_store_position(s.w.b);
    world_until(&s.w, s.w.stored.offset == START + all.n);
    assert_int_equal(stored_offset(), START + all.n);
    assert_int_equal(s.w.stored.db, 5);
    stream_free(&s);
    buf_free(&all);
    ask("FLUSHALL");
}

static void a_stream_is_applied_exactly_at_every_split(void **state)
{
    (void)state;
    for (int transactions = 0; transactions < 2; transactions++)
        for (size_t piece = 1; piece < 600; piece = piece < 60 ? piece + 1 : piece * 2)
            run_mix(transactions, piece);
}

static void a_source_transaction_is_applied_whole_or_not_at_all(void **state)
{
    (void)state;
    struct stream s;
    stream_init(&s);
    stream_open(&s);
    put_cmd(&s, "SET before 1");
    put_cmd(&s, "MULTI");
    for (int i = 0; i < 3000; i++) {
        put_cmd(&s, "SET k%d v", i);
        pump(&s);
        world_turn(&s.w);
    }
    for (int i = 0; i < 20; i++)
        world_turn(&s.w);
    struct batch_mark mark;
    assert_false(apply_between_units(s.apply, &mark));
    is(":2\r\n", "DBSIZE"); // what came before, and the position
    int64_t at_multi = stored_offset();
    put_cmd(&s, "SET last v");
    uint64_t in_txn = right(&s);
    put_cmd(&s, "EXEC");
    put_cmd(&s, "SET after 1");
    assert_true(at_multi > START && (uint64_t)at_multi < in_txn - 3000 * 20);
    finish(&s);
    is(":3004\r\n", "DBSIZE");
    assert_true(apply_between_units(s.apply, &mark));
    stream_free(&s);
}

static void bug_20_filtered_traffic_moves_the_position(void **state)
{
    (void)state;
    struct stream s;
    stream_init(&s);
    stream_open(&s);
    for (int i = 0; i < 100; i++)
        put_cmd(&s, "PING");
    put_cmd(&s, "MULTI");
    put_cmd(&s, "EXEC");
    put_cmd(&s, "SELECT 3");
    finish(&s);
    is(":0\r\n", "DBSIZE");
    batcher_store_position(s.w.b);
    world_until(&s.w, s.w.stored.offset == right(&s));
    assert_int_equal(s.w.stored.db, 3);
    stream_free(&s);
}

static void swapdb_leaves_the_position_where_it_is_looked_for(void **state)
{
    (void)state;
    for (int txn = 0; txn < 2; txn++) {
        struct stream s;
        stream_init(&s);
        stream_open(&s);
        put_cmd(&s, "SET zero 0");
        put_cmd(&s, "SELECT 4");
        put_cmd(&s, "SET four 4");
        finish(&s);
        if (txn)
            put_cmd(&s, "MULTI");
        put_cmd(&s, "SWAPDB 0 4");
        put_cmd(&s, "SET from-zero 1");
        if (txn) {
            put_cmd(&s, "SWAPDB 4 7");
            put_cmd(&s, "SWAPDB 7 0");
            put_cmd(&s, "EXEC");
        }
        finish(&s);
        assert_int_equal(stored_offset(), right(&s));
        if (txn) {
            is("$1\r\n0\r\n", "GET zero");
            is("$1\r\n1\r\n", "GET from-zero");
            is(":3\r\n", "DBSIZE");
            ask("SELECT 7");
            is("*1\r\n$4\r\nfour\r\n", "KEYS *");
            ask("SELECT 4");
            is(":0\r\n", "DBSIZE");
        } else {
            is("$1\r\n4\r\n", "GET four");
            is(":2\r\n", "DBSIZE");
            ask("SELECT 4");
            is("$1\r\n0\r\n", "GET zero");
            is(":2\r\n", "DBSIZE");
        }
        stream_free(&s);
        clean(NULL);
    }
}

static void bug_21_commands_over_dbs_are_applied(void **state)
{
    (void)state;
    struct stream s;
    stream_init(&s);
    stream_open(&s);
    put_cmd(&s, "SET a 1");
    put_cmd(&s, "COPY a b DB 2");
    put_cmd(&s, "MOVE a 3");
    finish(&s);
    ask("SELECT 2");
    is("$1\r\n1\r\n", "GET b");
    ask("SELECT 3");
    is("$1\r\n1\r\n", "GET a");
    put_cmd(&s, "SELECT 3");
    put_cmd(&s, "FLUSHDB");
    finish(&s);
    is(":0\r\n", "DBSIZE");
    put_cmd(&s, "FLUSHALL");
    finish(&s);
    ask("SELECT 2");
    is(":0\r\n", "DBSIZE");
    ask("SELECT 0");
    assert_int_equal(stored_offset(), right(&s));
    is(":1\r\n", "DBSIZE");
    stream_free(&s);
}

static void bug_21_and_between_mapped_dbs(void **state)
{
    (void)state;
    static const int map[] = {8, 9, 10, 11, 4};
    struct stream s;
    stream_init(&s);
    s.o.dbs = (struct rewrite_dbs){.map = map, .map_n = 5, .source_dbs = 5};
    stream_open(&s);
    ask("SET foreign 1");
    put_cmd(&s, "SET a 1");
    put_cmd(&s, "COPY a b DB 2");
    put_cmd(&s, "MOVE a 3");
    put_cmd(&s, "SWAPDB 2 1");
    finish(&s);
    ask("SELECT 9");
    is("$1\r\n1\r\n", "GET b");
    ask("SELECT 11");
    is("$1\r\n1\r\n", "GET a");
    put_cmd(&s, "FLUSHALL"); // several commands at the target
    put_cmd(&s, "SET x 1");
    finish(&s);
    is(":0\r\n", "DBSIZE");
    ask("SELECT 8");
    is("*1\r\n$1\r\nx\r\n", "KEYS *");
    ask("SELECT 0");
    is("$1\r\n1\r\n", "GET foreign");
    assert_int_equal(stored_offset(), right(&s));
    stream_free(&s);
}

static void what_cannot_be_applied_stops_or_is_left_out(void **state)
{
    (void)state;
    for (int go_on = 0; go_on < 2; go_on++) {
        struct stream s;
        stream_init(&s);
        s.go_on = go_on;
        s.o.databases = 4;
        stream_open(&s);
        put_cmd(&s, "SET a 1");
        put_cmd(&s, "SELECT 9");
        uint64_t before = right(&s);
        put_cmd(&s, "SET b 1");
        put_cmd(&s, "SELECT 0");
        put_cmd(&s, "SET c 1");
        if (go_on) {
            finish(&s);
            is(":3\r\n", "DBSIZE");
            assert_int_equal(s.refusals, 1);
        } else {
            uint64_t deadline = clock_mono_us() + 20 * 1000 * 1000;
            while (s.w.acked.offset < before && clock_mono_us() < deadline) {
                assert_int_equal(pump(&s), APPLY_STOPPED);
                world_turn(&s.w);
            }
            assert_int_equal(s.w.acked.offset, before);
            assert_int_equal(apply_position(s.apply), before);
            is(":0\r\n", "EXISTS c");
        }
        stream_free(&s);
        clean(NULL);
    }
}

static void a_command_skipped_by_offset_is_left_out(void **state)
{
    (void)state;
    struct stream s;
    struct err e;
    struct buf text = {0};
    stream_init(&s);
    stream_open(&s);
    put_cmd(&s, "SET a 1");
    uint64_t ref = right(&s);
    put_cmd(&s, "NOSUCHCOMMAND x y");
    put_cmd(&s, "SET b 1");
    struct journal_reader *r = journal_reader_open(s.journal);
    assert_int_equal(apply_command_at(r, ref, &text, &e), 0);
    assert_non_null(strstr(buf_cstr(&text), "NOSUCHCOMMAND"));
    journal_reader_close(r);
    pump(&s);
    world_until(&s.w, s.w.fails > 0);
    assert_non_null(strstr(s.w.refusal, "unknown command"));
    is(":0\r\n", "DBSIZE"); // nothing of its batch
    char want[64];
    snprintf(want, sizeof(want), "failed:%llu ", (unsigned long long)ref);
    assert_string_equal(buf_cstr(&s.w.events), want);
    stream_free(&s);
    stream_init(&s);
    stream_open(&s);
    apply_skip_offset(s.apply, ref);
    put_cmd(&s, "SET a 1");
    put_cmd(&s, "NOSUCHCOMMAND x y");
    put_cmd(&s, "SET b 1");
    finish(&s);
    is(":3\r\n", "DBSIZE");
    stream_free(&s);
    buf_free(&text);
}

static void a_long_rewritten_command_is_not_copied(void **state)
{
    (void)state;
    struct stream s;
    stream_init(&s);
    stream_open(&s);
    size_t n = 20u << 20;
    char *big = malloc(n);
    memset(big, 'x', n);
    struct slice value = slice_make(big, n);
    put_cmd(&s, "SET k %b EX 1000000", &value);
    put_cmd(&s, "SET k2 v EX 1000000");
    free(big);
    pump(&s);
    struct iovec iov[16];
    int pieces = outq_iov(batcher_out(s.w.b), iov, 16);
    size_t biggest = 0;
    for (int i = 0; i < pieces; i++)
        biggest = iov[i].iov_len > biggest ? iov[i].iov_len : biggest;
    const char *p;
    size_t held;
    struct err e;
    struct journal_reader *r = journal_reader_open(s.journal);
    assert_int_equal(journal_log_view(r, START, &p, &held, &e), 0);
    bool borrowed = batcher_unsent(s.w.b) < 1024; // all of it went at once
    for (int i = 0; i < pieces; i++)
        if (iov[i].iov_len == biggest && (const char *)iov[i].iov_base > p &&
            (const char *)iov[i].iov_base < p + held)
            borrowed = true;
    assert_true(borrowed);
    journal_reader_close(r);
    finish(&s);
    is(":20971520\r\n", "STRLEN k");
    is("$1\r\nv\r\n", "GET k2");
    assert_false(slice_eq(ask("PTTL k"), SLICE(":-1\r\n")));
    stream_free(&s);
}

static void what_is_no_command_is_an_error(void **state)
{
    (void)state;
    struct stream s;
    struct err e;
    stream_init(&s);
    stream_open(&s);
    put(&s, SLICE("*1\r\n$x\r\n"));
    assert_int_equal(apply_pump(s.apply, 1000, 0, 0, &e), ERR_PROTOCOL);
    assert_non_null(strstr(e.msg, "offset 1000 of the stream"));
    stream_free(&s);
}

// ---- a shard of a source cluster ----

static struct {
    int asked, waits; // so often it is still under way
    int db;
    uint64_t end, stored;
    int own; // slots
    enum apply_staged verdict;
} clearing;

static enum apply_staged on_clear(void *ctx, const struct apply_clear *c)
{
    struct stream *s = ctx;
    assert_true(batcher_idle(s->w.b));
    clearing.own = 0;
    for (int i = 0; i < SLOT_COUNT; i++)
        clearing.own += c->slots[i >> 3] >> (i & 7) & 1;
    clearing.db = c->db;
    clearing.end = c->end;
    clearing.stored = s->w.stored.offset;
    return clearing.asked++ < clearing.waits ? APPLY_STAGE_WAIT : clearing.verdict;
}

static void on_sign(void *ctx)
{
    (void)ctx;
}

// The lane's shard has a third of the slots.
static void shard_init(struct stream *s, struct ownership **o)
{
    static int16_t owners[SLOT_COUNT];
    for (int i = 0; i < SLOT_COUNT; i++)
        owners[i] = i % 3 == 0 ? 0 : 1;
    owners[slot_of(SLICE("k"))] = owners[slot_of(SLICE("n"))] = 0;
    *o = ownership_new(2, owners);
    memset(&clearing, 0, sizeof(clearing));
    clearing.waits = 3;
    clearing.verdict = APPLY_STAGE_DONE;
    stream_init(s);
    s->o.turn = turn_new(&(struct turn_options){.ownership = *o, .lane = 0, .sign = on_sign});
    s->o.dbs = (struct rewrite_dbs){.shared = true, .by_slot = true};
    s->o.clear = on_clear;
    stream_open(s);
}

static void shard_free(struct stream *s, struct ownership *o)
{
    stream_free(s);
    turn_free(s->o.turn);
    ownership_free(o);
}

static void flushall_of_a_shard_is_given_away_when_all_before_it_is_stored(void **state)
{
    (void)state;
    struct stream s;
    struct ownership *o;
    shard_init(&s, &o);
    put_cmd(&s, "INCR n");
    put_cmd(&s, "SET k 1");
    uint64_t before = right(&s);
    put_cmd(&s, "FLUSHALL");
    uint64_t end = right(&s);
    put_cmd(&s, "INCR n");
    uint64_t deadline = clock_mono_us() + 10 * 1000 * 1000;
    while (clearing.asked < 2 && clock_mono_us() < deadline) {
        pump(&s);
        world_turn(&s.w);
    }
    assert_int_equal(clearing.asked, 2);
    assert_int_equal(clearing.stored, before);
    assert_int_equal(clearing.end, end);
    assert_int_equal(clearing.db, -1);
    assert_in_range(clearing.own, SLOT_COUNT / 3, SLOT_COUNT / 3 + 3);
    is("$1\r\n1\r\n", "GET n");
    struct batch_mark mark;
    assert_false(apply_between_units(s.apply, &mark));
    finish(&s);
    assert_int_equal(clearing.asked, 4);
    assert_int_equal(s.w.refusals + s.refusals, 0);
    is("$1\r\n2\r\n", "GET n"); // the target was not cleared by us
    is("$1\r\n1\r\n", "GET k");
    shard_free(&s, o);
}

static void a_transaction_with_a_flushdb_is_taken_apart(void **state)
{
    (void)state;
    struct stream s;
    struct ownership *o;
    shard_init(&s, &o);
    put_cmd(&s, "SELECT 3");
    put_cmd(&s, "MULTI");
    put_cmd(&s, "INCR n");
    put_cmd(&s, "FLUSHDB ASYNC");
    put_cmd(&s, "INCR n");
    put_cmd(&s, "EXEC");
    put_cmd(&s, "MULTI");
    put_cmd(&s, "INCR n");
    put_cmd(&s, "EXEC");
    finish(&s);
    assert_int_equal(clearing.asked, 4);
    assert_int_equal(clearing.db, 3);
    ask("SELECT 3");
    is("$1\r\n3\r\n", "GET n");
    struct apply_stats st;
    apply_get_stats(s.apply, &st);
    assert_int_equal(st.split, 1);
    assert_int_equal(st.staged, 1);
    shard_free(&s, o);
}

static void a_clearing_that_fails_stops_or_is_left_out(void **state)
{
    (void)state;
    struct stream s;
    struct ownership *o;
    shard_init(&s, &o);
    clearing.waits = 0;
    clearing.verdict = APPLY_STAGE_STOP;
    put_cmd(&s, "FLUSHALL");
    put_cmd(&s, "INCR n");
    assert_int_equal(pump(&s), APPLY_STOPPED);
    assert_int_equal(apply_position(s.apply), START);
    clearing.verdict = APPLY_STAGE_REFUSED;
    finish(&s);
    is("$1\r\n1\r\n", "GET n");
    shard_free(&s, o);
}

int main(void)
{
#define APPLY_TEST(f) cmocka_unit_test_setup(f, clean)
    const struct CMUnitTest tests[] = {
        APPLY_TEST(a_stream_is_applied_exactly_at_every_split),
        APPLY_TEST(a_source_transaction_is_applied_whole_or_not_at_all),
        APPLY_TEST(bug_20_filtered_traffic_moves_the_position),
        APPLY_TEST(swapdb_leaves_the_position_where_it_is_looked_for),
        APPLY_TEST(bug_21_commands_over_dbs_are_applied),
        APPLY_TEST(bug_21_and_between_mapped_dbs),
        APPLY_TEST(what_cannot_be_applied_stops_or_is_left_out),
        APPLY_TEST(a_command_skipped_by_offset_is_left_out),
        APPLY_TEST(a_long_rewritten_command_is_not_copied),
        APPLY_TEST(what_is_no_command_is_an_error),
        APPLY_TEST(flushall_of_a_shard_is_given_away_when_all_before_it_is_stored),
        APPLY_TEST(a_transaction_with_a_flushdb_is_taken_apart),
        APPLY_TEST(a_clearing_that_fails_stops_or_is_left_out),
    };
    return cmocka_run_group_tests(tests, start, stop);
}

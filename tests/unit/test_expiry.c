// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ask.h"
#include "base/clock.h"
#include "flow/expiry.h"
#include "redis_fixture.h"
#include "target/batcher.h"
#include "target/expiry.h"
#include "target/sweep.h"

static struct redis_fixture server;
static uv_loop_t loop;
static struct batcher *batcher;
static struct expiry *table;
static uint64_t settled, script_errors;
static const struct batch_mark mark = {.offset = 1};

// ---- the batcher under the table ----

static void on_acked(void *ctx, const struct batch_mark *m, bool stored)
{
    (void)ctx, (void)m, (void)stored;
}

static void on_cmd_failed(void *ctx, uint64_t ref, struct slice text, bool in_exec)
{
    (void)ctx, (void)ref, (void)in_exec;
    assert_true(slice_has_prefix(text, SLICE("LATE")));
    script_errors++;
}

static void on_cmd_empty(void *ctx, uint64_t ref)
{
    (void)ctx, (void)ref;
}

static void on_failed(void *ctx, uint64_t ref, const struct err *why)
{
    (void)ctx, (void)ref;
    fail_msg("%s", why->msg);
}

static int put_position(void *ctx, const struct batch_mark *m, struct buf *out, int *db)
{
    (void)ctx, (void)m, (void)db;
    resp_put_cmd(out, "PING");
    return 1;
}

static void on_room(void *ctx)
{
    (void)ctx;
}

static const struct sink_events events = {
    .acked = on_acked,
    .cmd_failed = on_cmd_failed,
    .cmd_empty = on_cmd_empty,
    .failed = on_failed,
    .put_position = put_position,
    .room = on_room,
};

static void drain(void)
{
    batcher_flush(batcher);
    while (!batcher_idle(batcher)) {
        uv_run(&loop, UV_RUN_ONCE);
        batcher_flush(batcher);
    }
}

static int start(void **state)
{
    (void)state;
    if (!redis_fixture_start(&server, NULL))
        return -1;
    return uv_loop_init(&loop);
}

static int stop(void **state)
{
    (void)state;
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    redis_fixture_stop(&server);
    return 0;
}

static int begin_with(size_t bytes)
{
    struct batcher_options o = {.loop = &loop,
                                .events = &events,
                                .max_cmds = 100,
                                .max_bytes = 1 << 20,
                                .max_exec = 1,
                                .position_us = 1000000};
    struct conn *c;
    if (redis_call(server.client, NULL, NULL, "FLUSHALL") ||
        redis_call(server.client, NULL, NULL, "SELECT 0") ||
        conn_dial(&c, &server.endpoint, 5000, NULL))
        return -1;
    batcher = batcher_new(&o);
    batcher_attach(batcher, c, 0);
    table = expiry_new(bytes);
    settled = script_errors = 0;
    return 0;
}

static int begin(void **state)
{
    (void)state;
    return begin_with(64 << 20);
}

static int begin_small(void **state)
{
    (void)state;
    return begin_with(16 << 10);
}

static int end(void **state)
{
    (void)state;
    batcher_free(batcher);
    expiry_free(table);
    return 0;
}

// ---- shorthands ----

static int64_t number(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct redis_reply reply = ask_args(server.client, fmt, ap);
    va_end(ap);
    return reply.root.num;
}

static int64_t expiry_at(const char *key)
{
    return number("PEXPIRETIME %s", key);
}

// Static.
static const char *numbered(int i)
{
    static char key[16];
    snprintf(key, sizeof(key), "k%d", i);
    return key;
}

// The key is far at the target and held here.
static void hold(int db, const char *key, int64_t true_ms, int64_t now_ms)
{
    number("SELECT %d", db);
    number("SET %s v PXAT %L", key, expiry_far(true_ms));
    number("SELECT 0");
    expiry_held(table, db, slice_cstr(key), (struct slice){0}, true_ms, now_ms);
}

static bool settle(int64_t now_ms)
{
    bool more = expiry_settle(table, batcher_sink(batcher), &mark, now_ms, &settled);
    drain();
    return more;
}

static void defuse(int64_t now_ms)
{
    expiry_defuse_begin(table);
    while (expiry_defuse(table, batcher_sink(batcher), &mark, now_ms))
        drain();
    drain();
}

// ---- the table ----

static void a_key_is_settled_to_the_millisecond_once_quiet(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms(), until = now + 100123;
    hold(0, "k", until - 50000, now);
    settle(now + 2900);
    assert_int_equal(expiry_at("k"), expiry_far(until - 50000));
    hold(0, "k", until, now + 2900); // renewed: the quiet time begins again
    settle(now + 5000);
    assert_int_equal(expiry_at("k"), expiry_far(until));
    assert_int_equal(expiry_count(table), 1);
    assert_false(settle(now + 6000));
    assert_int_equal(expiry_at("k"), until);
    assert_int_equal(settled, 1);
    assert_false(expiry_any(table));
}

static void a_short_life_has_a_short_quiet_time(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms();
    hold(0, "k", now + 2000, now);
    settle(now + 1100);
    assert_int_equal(settled, 0); // one that is renewed each second is never settled
    settle(now + 1300);
    assert_int_equal(settled, 1);
    hold(0, "s", now + 2000, now);
    expiry_held(table, 0, SLICE("s"), (struct slice){0}, now + 500, now); // sooner than it was
    settle(now + 400);
    assert_int_equal(settled, 2);
}

static void a_key_that_has_changed_is_left_alone(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms(), until = now + 60000;
    const char *const keys[] = {"persisted", "renamed over", "given another", "deleted", "same"};
    for (size_t i = 0; i < 5; i++)
        hold(0, keys[i], until, now);
    const struct slice over = SLICE("renamed over");
    number("PERSIST persisted");
    number("SET %b v PXAT %L", &over, expiry_far(until + 1));
    const struct slice other = SLICE("given another");
    number("PEXPIREAT %b %L", &other, until + 5000);
    number("DEL deleted");
    settle(now + 4000);
    assert_int_equal(expiry_at("persisted"), -1);
    assert_int_equal(number("PEXPIRETIME %b", &over), expiry_far(until + 1));
    assert_int_equal(number("PEXPIRETIME %b", &other), until + 5000);
    assert_int_equal(number("EXISTS deleted"), 0);
    assert_int_equal(expiry_at("same"), until);
}

static void dbs_share_a_unit_and_keep_their_keys(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms();
    for (int i = 0; i < 200; i++)
        hold(i % 3, numbered(i), now + 50000 + i, now);
    settle(now + 4000);
    for (int i = 0; i < 200; i++) {
        number("SELECT %d", i % 3);
        assert_int_equal(expiry_at(numbered(i)), now + 50000 + i);
    }
    number("SELECT 0");
}

static void what_has_passed_is_deleted_after_the_grace_only(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms();
    hold(0, "dead", now - 100, now);
    settle(now + 4900);
    assert_int_equal(number("EXISTS dead"), 1);
    settle(now + 5000);
    assert_int_equal(number("EXISTS dead"), 0);
    assert_int_equal(expiry_count(table), 0);
}

// The target gets to it when most of the key's time is over, while a renewal may be behind it.
static void a_late_target_does_not_set_what_a_renewal_may_follow(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms(), until = now + 3000;
    hold(0, "k", until, now - 17000);
    settle(now - 13000);
    assert_int_equal(settled, 1);
    assert_int_equal(expiry_at("k"), expiry_far(until));
    assert_false(settle(until + EXPIRY_GRACE_MS)); // nothing came: it has died at the source
    assert_int_equal(expiry_at("k"), until);
}

static void a_defused_key_is_far_until_it_is_settled_again(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms();
    for (int i = 0; i < 3000; i++)
        hold(i % 2, numbered(i), now + 60000 + i, now);
    while (settle(now + 4000))
        ;
    number("PEXPIREAT k0 %L", now + 99999);
    hold(0, "held", now + 70000, now + 4000);
    assert_int_equal(expiry_count(table), 1);
    defuse(now + 4000);
    assert_int_equal(expiry_count(table), 3001);
    assert_int_equal(expiry_at("k0"), now + 99999);
    for (int i = 2; i < 3000; i += 2)
        assert_int_equal(expiry_at(numbered(i)), expiry_far(now + 60000 + i));
    defuse(now + 4000);
    assert_int_equal(expiry_at("k2"), expiry_far(now + 60002));
    while (settle(now + 8000))
        ;
    for (int i = 2; i < 3000; i += 2)
        assert_int_equal(expiry_at(numbered(i)), now + 60000 + i);
    assert_int_equal(expiry_at("held"), now + 70000);
}

static void a_full_table_asks_for_a_sweep_and_stays_bounded(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms();
    char key[16];
    for (int i = 0; i < 1000; i++)
        expiry_held(table, 0, slice_cstr(numbered(i)), (struct slice){0}, now + 60000, now);
    assert_true(expiry_wants_sweep(table));
    size_t most = expiry_count(table);
    assert_in_range(most, 50, 200);
    expiry_sweep_begun(table);
    while (settle(now + 5000))
        ;
    assert_int_equal(settled, most);
    // What was settled does not take the room of what is held.
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof(key), "h%d", i);
        expiry_held(table, 0, slice_cstr(key), (struct slice){0}, now + 60000, now);
    }
    assert_in_range(expiry_count(table), most / 2 - 1, most);
}

// Those that are not remembered cannot be looked at again: a sweep must find them.
static void late_keys_beyond_the_memory_are_reported(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms();
    for (int i = 0; i < 80; i++)
        hold(0, numbered(i), now + 2000, now - 18000);
    settle(now - 14000);
    assert_true(script_errors > 0);
}

static void an_expiry_follows_its_key(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms(), until = now + 40000;
    hold(0, "a", until, now);
    number("COPY a b");
    number("COPY a c DB 2");
    number("RENAME a d");
    expiry_follow(table, 0, SLICE("a"), 0, SLICE("b"), now);
    expiry_follow(table, 0, SLICE("a"), 2, SLICE("c"), now);
    expiry_follow(table, 0, SLICE("a"), 0, SLICE("d"), now);
    expiry_follow(table, 0, SLICE("unknown"), 0, SLICE("e"), now);
    assert_false(expiry_wants_sweep(table));
    settle(now + 4000);
    assert_int_equal(expiry_at("b"), until);
    assert_int_equal(expiry_at("d"), until);
    number("RENAME d f");
    expiry_follow(table, 0, SLICE("d"), 0, SLICE("f"), now);
    defuse(now + 4000);
    assert_int_equal(expiry_at("f"), expiry_far(until));
    number("SELECT 2");
    assert_int_equal(expiry_at("c"), expiry_far(until));
    number("SELECT 0");
    expiry_held(table, 0, SLICE("hash"), SLICE("field"), until, now);
    expiry_follow(table, 0, SLICE("hash"), 0, SLICE("other"), now);
    assert_true(expiry_wants_sweep(table));
}

static void what_a_sweep_found_does_not_outdo_the_stream(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms(), until = now + 60000;
    hold(0, "k", until, now);
    expiry_found(table, 0, SLICE("k"), (struct slice){0}, now + 20000, now);
    expiry_found(table, 0, SLICE("new"), (struct slice){0}, now + 30000, now);
    number("SET new v PXAT %L", expiry_far(now + 30000));
    settle(now + 4000);
    assert_int_equal(expiry_at("k"), until);
    assert_int_equal(expiry_at("new"), now + 30000);
}

static void many_entries_come_due_in_order_of_time(void **state)
{
    (void)state;
    enum { COUNT = 200000 };
    int64_t now = clock_unix_ms();
    char key[16];
    for (int renewal = 0; renewal < 3; renewal++)
        for (int i = 0; i < COUNT; i++) {
            size_t n = i64_format(key, i);
            expiry_held(table, 0, slice_make(key, n), (struct slice){0},
                        now + 1000000 + (i * 7919LL) % 1000, now + (i * 104729LL) % 10000);
        }
    assert_int_equal(expiry_count(table), COUNT);
    uint64_t before = 0;
    for (int64_t t = 0; t <= 13000; t += 1000) {
        while (expiry_settle(table, batcher_sink(batcher), &mark, now + t, &settled))
            drain();
        drain();
        uint64_t want = t < 3000 ? 0 : (uint64_t)(t - 3000) * COUNT / 10000;
        assert_in_range(settled, want, want + COUNT / 1000);
        assert_true(settled >= before);
        before = settled;
    }
    assert_int_equal(settled, COUNT);
}

// ---- the sweep ----

static atomic_bool cancel;

static struct sweep_result sweep(int version, bool defusing, int64_t near_ms)
{
    struct sweep_options o = {.version = version,
                              .defuse = defusing,
                              .near_ms = near_ms,
                              .fields = true,
                              .cancel = &cancel};
    struct sweep_result r = {0};
    struct err e = {0};
    if (sweep_run(server.client, &o, &r, &e))
        fail_msg("%s", e.msg);
    number("SELECT 0");
    return r;
}

static void sweep_exactly(int version)
{
    int64_t now = clock_unix_ms();
    for (int i = 0; i < 1200; i++)
        hold(i % 2 * 3, numbered(i), now + 100000 + i, now);
    number("SET near v PXAT %L", expiry_far(now + 5000));
    number("SET dead v PXAT %L", expiry_far(now - 60000));
    number("SET just v PXAT %L", expiry_far(now - 1000));
    number("SET own v PXAT %L", now + 3000);
    number("SET none v");
    struct sweep_result r = sweep(version, false, 10000);
    assert_int_equal(r.changed, 1201);
    for (int i = 0; i < 1200; i++) {
        number("SELECT %d", i % 2 * 3);
        assert_int_equal(expiry_at(numbered(i)), now + 100000 + i);
    }
    number("SELECT 0");
    assert_int_equal(expiry_at("near"), expiry_far(now + 5000));
    assert_int_equal(expiry_at("just"), expiry_far(now - 1000));
    assert_int_equal(expiry_at("own"), now + 3000);
    assert_int_equal(expiry_at("none"), -1);
    assert_int_equal(number("EXISTS dead"), 0);
    struct slice left = buf_slice(&r.left);
    struct sweep_item it;
    int n = 0;
    while (sweep_next(&left, &it)) {
        bool is_near = slice_eq(it.key, SLICE("near"));
        assert_true(is_near || slice_eq(it.key, SLICE("just")));
        assert_int_equal(it.true_ms, is_near ? now + 5000 : now - 1000);
        assert_int_equal(it.db, 0);
        assert_null(it.field.p);
        n++;
    }
    assert_int_equal(n, 2);
    buf_free(&r.left);
}

static void a_sweep_settles_what_is_far_and_hands_back_what_is_near(void **state)
{
    (void)state;
    sweep_exactly(70015);
}

static void a_sweep_without_pexpiretime_is_as_exact(void **state)
{
    (void)state;
    sweep_exactly(60200);
}

static void a_defusing_sweep_makes_far_what_expires_soon(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms();
    number("SET soon v PXAT %L", now + 60000);
    number("SET later v PXAT %L", now + 6000000);
    number("SET far v PXAT %L", expiry_far(now + 5));
    number("SET none v");
    struct sweep_result r = sweep(70015, true, 900000);
    assert_int_equal(r.changed, 1);
    assert_int_equal(expiry_at("soon"), expiry_far(now + 60000));
    assert_int_equal(expiry_at("later"), now + 6000000);
    assert_int_equal(expiry_at("far"), expiry_far(now + 5));
    assert_int_equal(expiry_at("none"), -1);
    buf_free(&r.left);
}

static void a_sweep_ends_when_it_is_cancelled(void **state)
{
    (void)state;
    hold(0, "k", clock_unix_ms() + 100000, clock_unix_ms());
    cancel = true;
    struct sweep_options o = {.version = 70015, .near_ms = 1000, .cancel = &cancel};
    struct sweep_result r = {0};
    assert_int_equal(sweep_run(server.client, &o, &r, NULL), ERR_CLOSED);
    buf_free(&r.left);
    cancel = false;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
#define SMALL(name) cmocka_unit_test_setup_teardown(name, begin_small, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_key_is_settled_to_the_millisecond_once_quiet),
        TEST(a_short_life_has_a_short_quiet_time),
        TEST(a_key_that_has_changed_is_left_alone),
        TEST(dbs_share_a_unit_and_keep_their_keys),
        TEST(what_has_passed_is_deleted_after_the_grace_only),
        TEST(a_late_target_does_not_set_what_a_renewal_may_follow),
        TEST(a_defused_key_is_far_until_it_is_settled_again),
        SMALL(a_full_table_asks_for_a_sweep_and_stays_bounded),
        SMALL(late_keys_beyond_the_memory_are_reported),
        TEST(an_expiry_follows_its_key),
        TEST(what_a_sweep_found_does_not_outdo_the_stream),
        TEST(many_entries_come_due_in_order_of_time),
        TEST(a_sweep_settles_what_is_far_and_hands_back_what_is_near),
        TEST(a_sweep_without_pexpiretime_is_as_exact),
        TEST(a_defusing_sweep_makes_far_what_expires_soon),
        TEST(a_sweep_ends_when_it_is_cancelled),
    };
    return cmocka_run_group_tests(tests, start, stop);
}

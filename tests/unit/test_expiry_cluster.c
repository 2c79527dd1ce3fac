// SPDX-License-Identifier: Apache-2.0
// The expiry table and the sweep against masters that serve a part of the slots each.
#include "ask.h"
#include "flow/expiry.h"
#include "slot_sink.h"
#include "target/expiry.h"
#include "target/sweep.h"

static struct world world;
static struct slot_sink sink;
static struct expiry *table;
static uint64_t settled;
static const struct batch_mark mark = {.offset = 1};

static int start(void **state)
{
    (void)state;
    slot_servers_start();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    slot_servers_stop();
    return 0;
}

static int begin(void **state)
{
    (void)state;
    struct batcher_options o = {
        .max_cmds = 100, .max_bytes = 1 << 20, .max_exec = 1, .position_us = 1000000};
    for (int i = 0; i < SLOT_NODES; i++)
        must(redis_call(slot_clients[i], NULL, NULL, "FLUSHALL") == 0);
    world_init(&world, o);
    world.quiet = true;
    slot_sink_init(&sink, &world, o);
    slot_sink_attach(&sink);
    table = expiry_new(64 << 20);
    expiry_set_target(table, 70015, false, true);
    settled = 0;
    return 0;
}

static int end(void **state)
{
    (void)state;
    assert_int_equal(world.refusals + world.fails, 0);
    expiry_free(table);
    world_free(&world);
    return 0;
}

static int64_t number(const char *key, const char *fmt, ...)
{
    struct redis_client *master = slot_clients[slot_node_of(slot_of(slice_cstr(key)))];
    va_list ap;
    va_start(ap, fmt);
    struct redis_reply reply = ask_args(master, fmt, ap);
    va_end(ap);
    return reply.root.num;
}

static int64_t expiry_at(const char *key)
{
    return number(key, "PEXPIRETIME %s", key);
}

static void hold(const char *key, int64_t true_ms, int64_t now_ms)
{
    number(key, "SET %s v PXAT %L", key, expiry_far(true_ms));
    expiry_held(table, 0, slice_cstr(key), (struct slice){0}, true_ms, now_ms);
}

static void settle(int64_t now_ms)
{
    world_until(&world, !expiry_settle(table, &sink.sink, &mark, now_ms, &settled));
    world_until(&world, sink_idle(&sink.sink));
}

static void defuse(int64_t now_ms)
{
    expiry_defuse_begin(table);
    world_until(&world, !expiry_defuse(table, &sink.sink, &mark, now_ms));
    world_until(&world, sink_idle(&sink.sink));
}

// Half of them share their slots. Static.
static const char *numbered(int i)
{
    static char key[24];
    if (i % 2)
        snprintf(key, sizeof(key), "k%d", i);
    else
        snprintf(key, sizeof(key), "k{%d}%d", i % 14, i);
    return key;
}

// n keys, of which each expires a millisecond after the one before.
static void hold_many(int n, int64_t first_ms, int64_t now_ms)
{
    for (int i = 0; i < n; i++)
        hold(numbered(i), first_ms + i, now_ms);
}

static void many_are_settled(int n, int64_t first_ms)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(expiry_at(numbered(i)), first_ms + i);
}

static void many_are_far(int n, int64_t first_ms)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(expiry_at(numbered(i)), expiry_far(first_ms + i));
}

static void keys_are_settled_and_made_far_slot_by_slot(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    int64_t now = clock_unix_ms();
    hold_many(COUNT, now + 60000, now);
    settle(now + 4000);
    assert_int_equal(settled, COUNT);
    assert_int_equal(expiry_count(table), 0);
    assert_false(expiry_any(table));
    assert_true(expiry_may_be_far(table));
    many_are_settled(COUNT, now + 60000);
    sink.many_keys = 0;
    defuse(now + 4000);
    assert_true(sink.many_keys > 0);
    assert_int_equal(expiry_count(table), COUNT);
    many_are_far(COUNT, now + 60000);
    settle(now + 8000);
    many_are_settled(COUNT, now + 60000);
}

static void keys_of_a_slot_that_are_due_together_share_a_script(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms();
    char key[24];
    for (int i = 0; i < 640; i++) {
        snprintf(key, sizeof(key), "{tag}%d", i);
        hold(key, now + 60000, now);
    }
    uint64_t before = sink.nodes[0].cmds + sink.nodes[1].cmds;
    settle(now + 4000);
    assert_int_equal(sink.nodes[0].cmds + sink.nodes[1].cmds - before, 10);
    assert_int_equal(expiry_at("{tag}639"), now + 60000);
}

// A node that is busy keeps what it is owed, and nothing is forgotten.
static void a_refused_unit_is_sent_later(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms();
    hold_many(500, now + 60000, now);
    sink.refuse_every = 3;
    settle(now + 4000);
    assert_int_equal(settled, 500);
    defuse(now + 4000);
    many_are_far(500, now + 60000);
}

static void the_position_tells_of_settled_keys_only_in_a_cluster(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms();
    assert_false(expiry_may_be_far(table));
    hold("k", now + 60000, now);
    settle(now + 4000);
    assert_true(expiry_may_be_far(table));
    settle(now + 60000 + EXPIRY_GRACE_MS); // its time has passed: nothing can make it far
    assert_false(expiry_may_be_far(table));
}

// ---- the sweep ----

static struct sweep_result sweep(bool defusing)
{
    atomic_bool cancel = false;
    struct sweep_options o = {.version = 70015,
                              .near_ms = defusing ? 900000 : 10000,
                              .defuse = defusing,
                              .fields = true,
                              .cancel = &cancel};
    const struct sweep_dial how = {.name = "gunyu:test", .timeout_ms = 5000};
    struct sweep_result r = {0};
    struct err e = {0};
    if (sweep_cluster(&slot_servers[1].endpoint, 1, &how, &o, &r, &e))
        fail_msg("%s", e.msg);
    return r;
}

static void a_sweep_goes_over_every_master(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms();
    for (int i = 0; i < 1200; i++) {
        const char *key = numbered(i);
        number(key, "SET %s v PXAT %L", key, expiry_far(now + 100000 + i));
    }
    number("near", "SET near v PXAT %L", expiry_far(now + 5000));
    number("dead", "SET dead v PXAT %L", expiry_far(now - 60000));
    struct sweep_result r = sweep(false);
    assert_int_equal(r.changed, 1201);
    assert_false(r.left_out);
    struct slice left = buf_slice(&r.left);
    struct sweep_item it;
    assert_true(sweep_next(&left, &it));
    assert_true(slice_eq(it.key, SLICE("near")));
    assert_false(sweep_next(&left, &it));
    many_are_settled(1200, now + 100000);
    assert_int_equal(number("dead", "EXISTS dead"), 0);
    buf_free(&r.left);
    r = sweep(true);
    assert_int_equal(r.changed, 1200);
    assert_int_equal(expiry_at("k1"), expiry_far(now + 100001));
    buf_free(&r.left);
}

// As while it is moved: the key is there, but it is not this node's to change.
static void a_key_of_another_nodes_slot_is_left_to_a_later_sweep(void **state)
{
    (void)state;
    int64_t now = clock_unix_ms();
    int slot = slot_of(SLICE("moving"));
    struct redis_client *master = slot_clients[slot_node_of(slot)];
    number("moving", "SET moving v PXAT %L", expiry_far(now + 100000));
    number("stays", "SET stays v PXAT %L", expiry_far(now + 100000));
    must(redis_call(master, NULL, NULL, "CLUSTER DELSLOTS %d", slot) == 0);
    struct sweep_result r = sweep(false);
    must(redis_call(master, NULL, NULL, "CLUSTER ADDSLOTS %d", slot) == 0);
    assert_true(r.left_out);
    assert_int_equal(r.changed, 1);
    assert_int_equal(expiry_at("stays"), now + 100000);
    assert_int_equal(expiry_at("moving"), expiry_far(now + 100000));
    buf_free(&r.left);
    r = sweep(false);
    assert_false(r.left_out);
    assert_int_equal(expiry_at("moving"), now + 100000);
    buf_free(&r.left);
}

// Its keys may go from a node that is still to be walked to one that was.
static void a_slot_that_moves_makes_another_sweep_necessary(void **state)
{
    (void)state;
    struct redis_reply reply;
    struct sweep_result r = sweep(false);
    assert_false(r.left_out);
    buf_free(&r.left);
    must(redis_call(slot_clients[1], &reply, NULL, "CLUSTER MYID") == 0);
    char id[64];
    snprintf(id, sizeof(id), "%.*s", (int)reply.root.text.n, reply.root.text.p);
    must(redis_call(slot_clients[0], NULL, NULL, "CLUSTER SETSLOT 5 MIGRATING %s", id) == 0);
    r = sweep(false);
    assert_true(r.left_out);
    buf_free(&r.left);
    must(redis_call(slot_clients[0], NULL, NULL, "CLUSTER SETSLOT 5 STABLE") == 0);
    r = sweep(false);
    assert_false(r.left_out);
    buf_free(&r.left);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keys_are_settled_and_made_far_slot_by_slot),
        TEST(keys_of_a_slot_that_are_due_together_share_a_script),
        TEST(a_refused_unit_is_sent_later),
        TEST(the_position_tells_of_settled_keys_only_in_a_cluster),
        TEST(a_sweep_goes_over_every_master),
        TEST(a_key_of_another_nodes_slot_is_left_to_a_later_sweep),
        TEST(a_slot_that_moves_makes_another_sweep_necessary),
    };
    return cmocka_run_group_tests(tests, start, stop);
}

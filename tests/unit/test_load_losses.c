// SPDX-License-Identifier: Apache-2.0
// What the target does not know: other commands are used, or it is refused or left out by policy.
#include "load_data.h"

// A file of one hash with two fields, the second of which expires.
static void hash_with_field_expiry(struct buf *b, uint64_t lowest)
{
    // Type 24: lowest expiry, count, then for each field: expiry above it, field, value.
    buf_append_slice(b, SLICE("REDIS0012\xfe"));
    buf_append(b, "\0\x18\1h", 4);
    buf_append(b, &lowest, 8);
    buf_append(b, "\2\0\1f\1v\1\1g\1w\xff\0\0\0\0\0\0\0\0", 20);
}

static void degrading(struct run *r)
{
    r->o.degrade = true;
}

static void field_expiries_are_refused_by_an_older_target(void **state)
{
    (void)state;
    struct buf b = {0};
    hash_with_field_expiry(&b, 33000000000000);
    struct run r;
    run_init(&r, buf_slice(&b));
    assert_int_equal(run_from(&r, 0, 0, 0, 0), ERR_UNSUPPORTED);
    assert_string_equal(r.error.msg,
                        "key \"h\" of db 0: the target (Redis 7.0.15) cannot hold expiries of hash "
                        "fields; set replay.onUnsupported to degrade to go on without");
    assert_string_equal(load_unsupported(r.load), "expiries of hash fields");
    run_free(&r);
    is(to, ":0\r\n", "EXISTS h");
    buf_free(&b);
}

static void field_expiries_are_left_out_by_policy(void **state)
{
    (void)state;
    struct buf b = {0};
    struct load_stats stats;
    hash_with_field_expiry(&b, 33000000000000);
    load_whole(buf_slice(&b), degrading, &stats);
    is(to, "*4\r\n$1\r\nf\r\n$1\r\nv\r\n$1\r\ng\r\n$1\r\nw\r\n", "HGETALL h");
    assert_int_equal(stats.degraded[LOSS_FIELD_EXPIRY], 1);
    assert_int_equal(stats.keys_sent, 1);
    // A field that has expired would stay for good.
    buf_clear(&b);
    hash_with_field_expiry(&b, 1000);
    load_whole(buf_slice(&b), degrading, &stats);
    is(to, "*2\r\n$1\r\nf\r\n$1\r\nv\r\n", "HGETALL h");
    buf_free(&b);
}

static void functions_are_refused_or_left_out_by_policy(void **state)
{
    (void)state;
    struct slice lib =
        SLICE("#!lua name=mine\nredis.register_function('f', function() return 1 end)");
    struct buf rdb = {0};
    struct load_stats stats;
    struct run r;
    ask(from, "FUNCTION LOAD %b", &lib);
    ask(from, "SET a b");
    snapshot_of_source(&rdb);
    run_init(&r, buf_slice(&rdb));
    r.o.target_version = 60016;
    assert_int_equal(run_from(&r, 0, 0, 0, 0), ERR_UNSUPPORTED);
    assert_string_equal(r.error.msg,
                        "function library \"mine\": the target (Redis 6.0.16) cannot hold function "
                        "libraries; set replay.onUnsupported to degrade to go on without");
    run_free(&r);
    is(to, ":0\r\n", "EXISTS a");
    run_init(&r, buf_slice(&rdb));
    r.o.target_version = 60016;
    r.o.degrade = true;
    assert_int_equal(run_from(&r, 0, 0, 0, 0), LOAD_FINISHED);
    load_get_stats(r.load, &stats);
    assert_int_equal(stats.degraded[LOSS_FUNCTION], 1);
    run_free(&r);
    is(to, "*0\r\n", "FUNCTION LIST");
    is(to, "$1\r\nb\r\n", "GET a");
    buf_free(&rdb);
}

static void before_streams(struct run *r)
{
    r->o.target_version = 40014;
    r->o.degrade = true;
}

static void streams_are_left_out_before_5_0(void **state)
{
    (void)state;
    struct buf rdb = {0};
    struct load_stats stats;
    ask(from, "XADD x 1-1 a b");
    ask(from, "HSET h f v");
    ask(from, "PEXPIREAT h 33000000000000");
    snapshot_of_source(&rdb);
    load_whole(buf_slice(&rdb), before_streams, &stats);
    assert_int_equal(stats.degraded[LOSS_STREAM], 1);
    is(to, ":0\r\n", "EXISTS x");
    is(to, "$1\r\nv\r\n", "HGET h f");
    buf_free(&rdb);
}

// Type 7 with the ID of no module that the target has, an integer, the end mark.
static void module_values_that_the_target_refuses_follow_the_policy(void **state)
{
    (void)state;
    struct buf b = {0};
    struct load_stats stats;
    struct run r;
    buf_append_slice(&b, SLICE("REDIS0010\xfe"));
    buf_append(&b, "\0\7\1m\x81\x45\x45\x45\x45\x45\x45\x44\x01\2\5\0\0\1a\1b", 21);
    buf_append(&b, "\xff\0\0\0\0\0\0\0\0", 9);
    run_init(&r, buf_slice(&b));
    int rc = run_from(&r, 0, 0, 0, 0);
    if (rc != ERR_UNSUPPORTED || !strstr(r.error.msg, "key \"m\" of db 0: the target"))
        fail_msg("%d: %s", rc, r.error.msg);
    run_free(&r);
    load_whole(buf_slice(&b), degrading, &stats);
    assert_int_equal(stats.degraded[LOSS_MODULE], 1);
    assert_int_equal(stats.keys_sent, 1);
    is(to, "*1\r\n$1\r\na\r\n", "KEYS *");
    buf_free(&b);
}

// ---- pending entries of deleted messages ----

static void same_pending(void)
{
    static const char *const streams[] = {"holes", "gone", "full"};
    for (int i = 0; i < 3; i++) {
        struct slice key = slice_cstr(streams[i]);
        same_answer("groups", key, "XINFO GROUPS %b");
        same_answer("entries", key, "XRANGE %b - +");
        same_answer("pending of g", key, "XPENDING %b g");
        same_answer("pending of h", key, "XPENDING %b h");
        same_answer("acked", key, "XACK %b g 2-1 3-1 9-1");
    }
}

static void by_elements_logging(struct run *r)
{
    r->o.restore_enabled = false;
    r->o.exists_log = true;
}

static void by_elements_as_6_0(struct run *r)
{
    r->o.restore_enabled = false;
    r->o.target_version = 60016;
}

static void pending_entries_of_deleted_messages_stay(void **state)
{
    (void)state;
    void (*const ways[])(struct run *) = {by_elements, keep_existing_by_elements,
                                          by_elements_logging};
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct buf rdb = {0};
        struct load_stats stats;
        clean(NULL);
        fill_streams();
        snapshot_of_source(&rdb);
        load_whole(buf_slice(&rdb), ways[i], &stats);
        assert_int_equal(stats.keys_sent, 3);
        assert_int_equal(stats.keys_ignored, 0);
        is(to, ":3\r\n", "DBSIZE");
        same_data();
        same_pending();
        buf_free(&rdb);
    }
}

static void a_stream_that_the_target_keeps_is_not_built_a_second_time(void **state)
{
    (void)state;
    struct buf rdb = {0};
    struct load_stats stats;
    fill_streams();
    snapshot_of_source(&rdb);
    ask(to, "XADD holes 77-1 mine 1");
    load_whole(buf_slice(&rdb), keep_existing_by_elements, &stats);
    assert_int_equal(stats.keys_ignored, 1);
    is(to, ":1\r\n", "XLEN holes");
    is(to, ":3\r\n", "DBSIZE");
    buf_free(&rdb);
}

static void consumers_come_to_be_without_createconsumer(void **state)
{
    (void)state;
    struct buf rdb = {0};
    fill_streams();
    snapshot_of_source(&rdb);
    ask(to, "CONFIG RESETSTAT");
    load_whole(buf_slice(&rdb), by_elements_as_6_0, NULL);
    struct slice used = ask(to, "INFO commandstats");
    assert_null(memmem(used.p, used.n, "createconsumer", 14));
    struct slice consumers = ask(to, "XINFO CONSUMERS full g");
    assert_non_null(memmem(consumers.p, consumers.n, "lazy", 4));
    buf_free(&rdb);
}

static void small_journal(struct run *r)
{
    r->o.restore_enabled = false;
    r->jo.max_size = 8 << 20;
    r->step = 100000;
}

static void small_journal_degrading(struct run *r)
{
    small_journal(r);
    r->o.degrade = true;
}

static void a_stream_too_long_to_read_twice_follows_the_policy(void **state)
{
    (void)state;
    struct buf rdb = {0};
    struct load_stats stats;
    struct run r;
    char *text = malloc(100000);
    uint32_t seed = 7;
    for (int i = 0; i < 120; i++) {
        for (size_t at = 0; at < 100000; at++)
            text[at] = (char)((seed = seed * 1664525 + 1013904223) >> 24);
        struct slice value = slice_make(text, 100000);
        ask(from, "XADD long %d-1 f %b", i + 1, &value);
    }
    free(text);
    ask(from, "XGROUP CREATE long g 0");
    ask(from, "XREADGROUP GROUP g c COUNT 3 STREAMS long >");
    ask(from, "XDEL long 2-1");
    snapshot_of_source(&rdb);
    run_init(&r, buf_slice(&rdb));
    small_journal(&r);
    int rc = run_from(&r, 0, 0, 0, 0);
    if (rc != ERR_UNSUPPORTED)
        fail_msg("%d: %s", rc, r.error.msg);
    run_free(&r);
    is(to, ":0\r\n", "EXISTS long");
    load_whole(buf_slice(&rdb), small_journal_degrading, &stats);
    assert_int_equal(stats.degraded[LOSS_PENDING], 1);
    is(to, ":119\r\n", "XLEN long");
    buf_free(&rdb);
}

// ---- items between the keys ----

static void commands_in_a_snapshot_are_carried_out_in_order(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_append_slice(&b, SLICE("VALKEY081\xfe\3"));
    buf_append(&b, "\0\1a\1b", 5);
    buf_append_slice(&b, SLICE("\xf2*3\r\n$6\r\nAPPEND\r\n$1\r\na\r\n$1\r\nc\r\n"));
    buf_append(&b, "\0\1d\1e\xff\0\0\0\0\0\0\0\0", 14);
    load_whole(buf_slice(&b), NULL, NULL);
    ask(to, "SELECT 3");
    is(to, "$2\r\nbc\r\n", "GET a");
    is(to, "$1\r\ne\r\n", "GET d");
    ask(to, "SELECT 0");
    buf_free(&b);
}

// ---- other commands ----

static void older_than_its_types(struct run *r)
{
    r->o.target_version = 60200;
}

static void a_target_older_than_the_types_is_given_elements(void **state)
{
    (void)state;
    struct buf rdb = {0};
    ask(from, "HSET h a 1 b 2");
    ask(from, "RPUSH l a b");
    ask(from, "ZADD z 1 a");
    snapshot_of_source(&rdb);
    ask(to, "CONFIG RESETSTAT");
    load_whole(buf_slice(&rdb), older_than_its_types, NULL);
    same_data();
    struct slice stats = ask(to, "INFO commandstats");
    assert_null(memmem(stats.p, stats.n, "cmdstat_restore:", 16));
    buf_free(&rdb);
}

static void a_refused_restore_stops_with_the_key_and_the_reason(void **state)
{
    (void)state;
    struct buf rdb = {0};
    ask(from, "HSET h a 1 b 2");
    snapshot_of_source(&rdb);
    struct run r;
    run_init(&r, buf_slice(&rdb));
    ask(to, "ACL SETUSER default -restore");
    int rc = run_from(&r, 0, 0, 0, 0);
    ask(to, "ACL SETUSER default +restore");
    assert_int_equal(rc, ERR_REPLY);
    assert_non_null(strstr(r.error.msg, "loading key \"h\" of db 0: the target answered NOPERM"));
    run_free(&r);
    buf_free(&rdb);
}

static void bug_11_bad_data_format_falls_back_to_elements(void **state)
{
    (void)state;
    struct buf rdb = {0};
    for (int i = 0; i < 3000; i++) {
        ask(from, "HSET h:%d a 1 b %d", i, i);
        ask(from, "PEXPIREAT h:%d 33000000000000", i);
        ask(to, "HSET h:%d a 0 old 0", i);
        ask(from, "SET s:%d x", i);
    }
    snapshot_of_source(&rdb);
    struct load_stats stats;
    ask(to, "ACL SETUSER default -restore");
    load_whole(buf_slice(&rdb), seen_as_bad_format, &stats);
    ask(to, "ACL SETUSER default +restore");
    assert_int_equal(stats.keys_sent, 6000);
    same_data();
    buf_free(&rdb);
}

static void skipping_module_aux(struct run *r)
{
    r->o.skip_module_aux = true;
}

// The ID of no module that the target has, when, a text, the end mark; then a key.
static void global_data_of_modules_follows_its_policy(void **state)
{
    (void)state;
    void (*const lenient[])(struct run * r) = {skipping_module_aux, degrading};
    struct buf b = {0};
    struct load_stats stats;
    struct run r;
    buf_append_slice(&b, SLICE("REDIS0010"));
    buf_append(&b, "\xf7\x81\x45\x45\x45\x45\x45\x45\x44\x01\2\1\5\3abc\0", 18);
    buf_append(&b, "\xfe\0\0\1a\1b\xff\0\0\0\0\0\0\0\0", 16);
    run_init(&r, buf_slice(&b));
    int rc = run_from(&r, 0, 0, 0, 0);
    if (rc != ERR_UNSUPPORTED || !strstr(r.error.msg, "the global data of module \""))
        fail_msg("%d: %s", rc, r.error.msg);
    run_free(&r);
    is(to, ":0\r\n", "EXISTS a");
    for (int i = 0; i < 2; i++) {
        load_whole(buf_slice(&b), lenient[i], &stats);
        assert_int_equal(stats.degraded[LOSS_MODULE_AUX], 1);
        is(to, "$1\r\nb\r\n", "GET a");
        ask(to, "DEL a");
    }
    buf_free(&b);
}

static void scripts_of_a_snapshot_are_known_to_the_target(void **state)
{
    (void)state;
    struct buf b = {0};
    ask(to, "SCRIPT FLUSH");
    put_script(&b);
    load_whole(buf_slice(&b), NULL, NULL);
    knows_script(to);
    buf_free(&b);
}

// A list that was idle for 6000 s, and one that was used 77 times as LFU counts.
static void idle_time_and_frequency_arrive(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_append_slice(&b, SLICE("REDIS0009\xfe"));
    buf_append(&b, "\0\xf8\x57\x70\1\1i\1\1x\xf9\x4d\1\1f\1\1x\xff\0\0\0\0\0\0\0\0", 27);
    load_whole(buf_slice(&b), NULL, NULL);
    struct slice idle = ask(to, "OBJECT IDLETIME i");
    int64_t seconds = 0;
    assert_true(slice_i64(slice_make(idle.p + 1, idle.n - 3), &seconds));
    assert_in_range(seconds, 6000, 6600);
    ask(to, "CONFIG SET maxmemory-policy allkeys-lfu");
    load_whole(buf_slice(&b), NULL, NULL);
    is(to, ":77\r\n", "OBJECT FREQ f");
    ask(to, "CONFIG SET maxmemory-policy noeviction");
    buf_free(&b);
}

// A version that no build knows yet, otherwise as version 12.
static void a_newer_snapshot_is_refused_or_read_by_policy(void **state)
{
    (void)state;
    struct buf b = {0};
    struct load_stats stats;
    struct run r;
    buf_append_slice(&b, SLICE("REDIS0016\xfe"));
    buf_append(&b, "\0\0\1a\1b\xff\0\0\0\0\0\0\0\0", 15);
    run_init(&r, buf_slice(&b));
    assert_int_equal(run_from(&r, 0, 0, 0, 0), ERR_UNSUPPORTED);
    assert_non_null(strstr(r.error.msg, "RDB version 16 of Redis is not supported"));
    run_free(&r);
    run_init(&r, buf_slice(&b));
    r.o.skip_unknown = true;
    assert_int_equal(run_from(&r, 0, 0, 0, 0), LOAD_FINISHED);
    load_get_stats(r.load, &stats);
    assert_int_equal(stats.unknown, 1);
    run_free(&r);
    is(to, "$1\r\nb\r\n", "GET a");
    buf_free(&b);
}

int main(void)
{
#define LOAD_TEST(f) cmocka_unit_test_setup(f, clean)
    const struct CMUnitTest tests[] = {
        LOAD_TEST(field_expiries_are_refused_by_an_older_target),
        LOAD_TEST(field_expiries_are_left_out_by_policy),
        LOAD_TEST(functions_are_refused_or_left_out_by_policy),
        LOAD_TEST(streams_are_left_out_before_5_0),
        LOAD_TEST(module_values_that_the_target_refuses_follow_the_policy),
        LOAD_TEST(global_data_of_modules_follows_its_policy),
        LOAD_TEST(scripts_of_a_snapshot_are_known_to_the_target),
        LOAD_TEST(idle_time_and_frequency_arrive),
        LOAD_TEST(a_newer_snapshot_is_refused_or_read_by_policy),
        LOAD_TEST(pending_entries_of_deleted_messages_stay),
        LOAD_TEST(a_stream_that_the_target_keeps_is_not_built_a_second_time),
        LOAD_TEST(consumers_come_to_be_without_createconsumer),
        LOAD_TEST(a_stream_too_long_to_read_twice_follows_the_policy),
        LOAD_TEST(commands_in_a_snapshot_are_carried_out_in_order),
        LOAD_TEST(a_target_older_than_the_types_is_given_elements),
        LOAD_TEST(a_refused_restore_stops_with_the_key_and_the_reason),
        LOAD_TEST(bug_11_bad_data_format_falls_back_to_elements),
    };
    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}

// SPDX-License-Identifier: Apache-2.0
#include "load_data.h"

static void byte_for_byte(struct run *r)
{
    r->step = 997;
}

static void every_path_gives_the_same_values(void **state)
{
    (void)state;
    struct buf rdb = {0};
    fill_source();
    snapshot_of_source(&rdb);
    load_whole(buf_slice(&rdb), NULL, NULL);
    same_data();
    load_whole(buf_slice(&rdb), NULL, NULL); // over what is there
    same_data();
    load_whole(buf_slice(&rdb), by_elements, NULL);
    same_data();
    ask(to, "FLUSHALL");
    load_whole(buf_slice(&rdb), by_elements, NULL);
    same_data();
    ask(to, "FLUSHALL");
    load_whole(buf_slice(&rdb), in_tiny_pieces, NULL);
    same_data();
    ask(to, "FLUSHALL");
    load_whole(buf_slice(&rdb), byte_for_byte, NULL);
    same_data();
    buf_free(&rdb);
}

static void files_of_the_corpus_load_as_redis_loads_them(void **state)
{
    (void)state;
    struct buf rdb = {0};
    for (size_t i = 0; source_loads_file(i, &rdb); i++) {
        load_whole(buf_slice(&rdb), NULL, NULL);
        same_data();
        ask(to, "FLUSHALL");
        load_whole(buf_slice(&rdb), by_elements, NULL);
        // Streams of old servers do not tell how many entries a group has read; Redis guesses.
        compare(false);
        clean(NULL);
    }
    buf_free(&rdb);
}

// ---- keyExists ----

static void keep_existing_on_an_old_target(struct run *r)
{
    r->o.exists = LOAD_IGNORE;
    r->o.target_version = 60000; // no PXAT
}

static void bug_10_existing_keys_are_left_alone_in_every_path(void **state)
{
    (void)state;
    void (*const ways[])(struct run *) = {keep_existing, keep_existing_by_elements,
                                          keep_existing_on_an_old_target};
    struct buf rdb = {0};
    ask(from, "SET str new PXAT 33000000000000");
    ask(from, "HSET hash f new g new");
    ask(from, "PEXPIREAT hash 33000000000000");
    ask(from, "RPUSH list new");
    ask(from, "SET other new PX 10000000");
    snapshot_of_source(&rdb);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        ask(to, "FLUSHALL");
        ask(to, "SET str old");
        ask(to, "HSET hash f old");
        ask(to, "RPUSH list old");
        load_whole(buf_slice(&rdb), ways[i], NULL);
        is(to, "$3\r\nold\r\n", "GET str");
        is(to, ":-1\r\n", "PTTL str");
        is(to, "*2\r\n$1\r\nf\r\n$3\r\nold\r\n", "HGETALL hash");
        is(to, ":-1\r\n", "PTTL hash");
        is(to, "*1\r\n$3\r\nold\r\n", "LRANGE list 0 -1");
        is(to, "$3\r\nnew\r\n", "GET other");
        is(to, ":4\r\n", "DBSIZE"); // no temporary key stays
        assert_false(slice_eq(ask(to, "PTTL other"), SLICE(":-1\r\n")));
    }
    buf_free(&rdb);
}

static void bug_11_replacing_leaves_nothing_of_the_old_key(void **state)
{
    (void)state;
    struct buf rdb = {0};
    ask(from, "HSET hash a 1");
    ask(from, "PEXPIREAT hash 33000000000000");
    ask(from, "HSET lasting a 1");
    ask(from, "SET str new");
    snapshot_of_source(&rdb);
    for (int way = 0; way < 2; way++) {
        ask(to, "FLUSHALL");
        ask(to, "HSET hash a 0 b 0");
        ask(to, "SET lasting was-a-string PX 100000");
        ask(to, "SET str old PX 100000");
        ask(to, "HSET gunyu:tmp:t:0 left over"); // and of no interrupted attempt
        ask(to, "DEL gunyu:tmp:t:0");
        load_whole(buf_slice(&rdb), way ? by_elements : NULL, NULL);
        same_data();
    }
    buf_free(&rdb);
}

static void an_existing_key_stops_the_load_when_asked(void **state)
{
    (void)state;
    struct buf rdb = {0};
    ask(from, "SET str new");
    snapshot_of_source(&rdb);
    ask(from, "FLUSHALL");
    ask(from, "RPUSH str new");
    struct buf rdb2 = {0};
    snapshot_of_source(&rdb2);
    ask(to, "SET str old");
    for (int way = 0; way < 3; way++) {
        struct run r;
        run_init(&r, buf_slice(way ? &rdb2 : &rdb));
        r.o.exists = LOAD_ERROR;
        r.o.restore_enabled = way != 2;
        assert_int_equal(run_from(&r, 0, 0, 0, 0), ERR_REPLY);
        assert_non_null(strstr(r.error.msg, "key \"str\" of db 0 exists"));
        run_free(&r);
    }
    is(to, "$3\r\nold\r\n", "GET str");
    // What an earlier attempt of ours set is no foreign key.
    struct run r;
    run_init(&r, buf_slice(&rdb));
    r.o.exists = LOAD_ERROR;
    assert_int_equal(run_from(&r, 0, 0, 0, rdb.n), LOAD_FINISHED);
    run_free(&r);
    buf_free(&rdb);
    buf_free(&rdb2);
}

// ---- expiry ----

static int64_t hold_far(void *ctx, int db, struct slice key, struct slice field, int64_t ms)
{
    (void)ctx, (void)db, (void)key, (void)field;
    return ms + 40000000000000;
}

static void with_far_expiries(struct run *r)
{
    r->o.hold_expiry = hold_far;
}

static void with_far_expiries_by_elements(struct run *r)
{
    r->o.hold_expiry = hold_far;
    r->o.restore_enabled = false;
}

static void expired_keys_go_and_held_ones_stay(void **state)
{
    (void)state;
    struct buf rdb = {0};
    const char *const expired[] = {"str", "list"};
    ask(from, "SET str v");
    ask(from, "RPUSH list v w");
    ask(from, "SET stays v");
    snapshot_of_expired(expired, 2, &rdb);
    for (int way = 0; way < 2; way++) {
        ask(to, "FLUSHALL");
        ask(to, "RPUSH list older"); // must go as well
        ask(to, "SET str older");
        load_whole(buf_slice(&rdb), way ? by_elements : NULL, NULL);
        is(to, "*1\r\n$5\r\nstays\r\n", "KEYS *");
        load_whole(buf_slice(&rdb), way ? with_far_expiries_by_elements : with_far_expiries, NULL);
        is(to, ":3\r\n", "DBSIZE");
        assert_false(slice_eq(ask(to, "PTTL list"), SLICE(":-1\r\n")));
        assert_false(slice_eq(ask(to, "PTTL str"), SLICE(":-1\r\n")));
    }
    // With what stands there to be kept, the expiry is not for it.
    ask(to, "FLUSHALL");
    ask(to, "RPUSH list older");
    load_whole(buf_slice(&rdb), keep_existing_by_elements, NULL);
    is(to, "*1\r\n$5\r\nolder\r\n", "LRANGE list 0 -1");
    buf_free(&rdb);
}

// ---- functions ----

static void bug_28_bug_44_functions_are_loaded_by_policy_before_the_keys(void **state)
{
    (void)state;
    struct buf rdb = {0};
    snapshot_of_libraries(&rdb);
    void (*const ways[])(struct run *) = {NULL, with_functions_flushed, with_functions_appended};
    for (size_t i = 0; i < 3; i++) {
        put_other_libraries(to);
        load_whole(buf_slice(&rdb), ways[i], NULL);
        has_libraries(to, i != 1);
    }
    buf_free(&rdb);
}

// ---- resumption, limits ----

static void a_load_goes_on_where_its_position_says(void **state)
{
    (void)state;
    struct buf rdb = {0};
    fill_source();
    add_library(from, SLICE(LIB("one")));
    snapshot_of_source(&rdb);
    for (uint64_t stop = 1; stop < rdb.n; stop += rdb.n / 9) {
        ask(to, "FLUSHALL");
        ask(to, "FUNCTION FLUSH");
        struct run r;
        run_init(&r, buf_slice(&rdb));
        with_functions_flushed(&r);
        run_in_two(&r, stop);
        same_data();
        is(to, ":1\r\n", "FCALL one 0");
    }
    buf_free(&rdb);
}

static void the_db_of_the_stream_is_known_after_a_resumption(void **state)
{
    (void)state;
    static const char head[] = "REDIS0010\xfa\x0erepl-stream-db\xc0\x05\xfe";
    struct buf b = {0};
    buf_append(&b, head, sizeof(head) - 1);
    buf_append(&b, "\0\0\1a\1b\0\1c\1d\xff\0\0\0\0\0\0\0\0", 20);
    struct run r;
    run_init(&r, buf_slice(&b));
    struct err e;
    assert_int_equal(journal_open(&r.journal, &r.jo, &e), 0);
    assert_int_equal(journal_begin_snapshot(r.journal, REPLID, 1000, JOURNAL_SIZE_UNKNOWN, &e), 0);
    feed_journal(&r);
    assert_int_equal(run_from(&r, sizeof(head) - 1 + 6, 0, 10, 0), LOAD_FINISHED);
    assert_int_equal(load_stream_db(r.load), 5);
    run_free(&r);
    is(to, "*1\r\n$1\r\nc\r\n", "KEYS *");
    buf_free(&b);
}

static int64_t peak_kib(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

static void with_a_small_journal(struct run *r)
{
    r->jo.max_size = 16 << 20;
}

static void values_bigger_than_the_journal_pass_through_it(void **state)
{
    (void)state;
    size_t n = 60u << 20;
    struct buf rdb = {0};
    char *big = malloc(n);
    uint32_t seed = 1;
    for (size_t i = 0; i < n; i++)
        big[i] = (char)((seed = seed * 1664525 + 1013904223) >> 24);
    struct slice value = slice_make(big, n);
    ask(from, "SET random %b", &value);
    memset(big, 'x', n);
    ask(from, "SET folded %b", &value);
    for (int i = 0; i < 40; i++) {
        value.n = 1 << 20;
        ask(from, "RPUSH list %b", &value);
    }
    free(big);
    snapshot_of_source(&rdb);
    int64_t before = peak_kib();
    load_whole(buf_slice(&rdb), with_a_small_journal, NULL);
    load_whole(buf_slice(&rdb), by_elements, NULL);
    int64_t grown = peak_kib() - before;
    // The journal's own memory, twice as much is allowed for.
    if (grown > 160 << 10)
        fail_msg("%lld KiB", (long long)grown);
    same_answer("value", SLICE("random"), "DEBUG DIGEST-VALUE %b");
    same_answer("value", SLICE("folded"), "DEBUG DIGEST-VALUE %b");
    same_answer("value", SLICE("list"), "DEBUG DIGEST-VALUE %b");
    buf_free(&rdb);
}

// ---- being told of the keys ----

static struct buf met;
static uint64_t met_at;

static void on_met(void *ctx, uint64_t index, int target_db, struct slice key)
{
    (void)ctx;
    assert_true(index > met_at);
    met_at = index;
    buf_printf(&met, "%d:%.*s ", target_db, (int)key.n, key.p);
}

static int map_up(void *ctx, int db)
{
    (void)ctx;
    return db + 2;
}

static struct filter *no_theirs;

static void with_met(struct run *r)
{
    met_at = 0;
    r->o.met = on_met;
    r->o.map_db = map_up;
    r->o.filter = no_theirs;
    r->o.exists = LOAD_IGNORE;
}

static void with_met_by_elements(struct run *r)
{
    with_met(r);
    by_elements(r);
}

static void each_key_that_the_filter_lets_pass_is_told_once_and_whatever_becomes_of_it(void **state)
{
    (void)state;
    char prefix[] = "theirs:", *prefixes[] = {prefix};
    struct filter_rules rules = {.prefix_blacklist = {prefixes, 1}};
    struct buf rdb = {0};
    assert_int_equal(filter_new(&no_theirs, &rules, NULL), 0);
    ask(from, "SET theirs:a 1");
    ask(from, "SET a 1");
    ask(from, "SELECT 3");
    ask(from, "RPUSH b 1 2");
    snapshot_of_source(&rdb);
    void (*const ways[])(struct run *) = {with_met, with_met_by_elements}; // the second finds both
    for (int i = 0; i < 2; i++) {
        buf_clear(&met);
        load_whole(buf_slice(&rdb), ways[i], NULL);
        assert_string_equal(buf_cstr(&met), "2:a 5:b ");
    }
    filter_free(no_theirs);
    buf_free(&met);
    buf_free(&rdb);
}

int main(void)
{
#define LOAD_TEST(f) cmocka_unit_test_setup(f, clean)
    const struct CMUnitTest tests[] = {
        LOAD_TEST(every_path_gives_the_same_values),
        LOAD_TEST(files_of_the_corpus_load_as_redis_loads_them),
        LOAD_TEST(bug_10_existing_keys_are_left_alone_in_every_path),
        LOAD_TEST(bug_11_replacing_leaves_nothing_of_the_old_key),
        LOAD_TEST(an_existing_key_stops_the_load_when_asked),
        LOAD_TEST(expired_keys_go_and_held_ones_stay),
        LOAD_TEST(bug_28_bug_44_functions_are_loaded_by_policy_before_the_keys),
        LOAD_TEST(a_load_goes_on_where_its_position_says),
        LOAD_TEST(the_db_of_the_stream_is_known_after_a_resumption),
        LOAD_TEST(values_bigger_than_the_journal_pass_through_it),
        LOAD_TEST(each_key_that_the_filter_lets_pass_is_told_once_and_whatever_becomes_of_it),
    };
    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}

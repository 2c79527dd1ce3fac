// SPDX-License-Identifier: Apache-2.0
// A load into a cluster: the sink checks that each unit's keys are of its slot, and the masters,
// which are real and serve a part of the slots each, refuse what is not theirs.
#include "load_data.h"
#include "slot_sink.h"

static struct slot_sink sink;
static uint32_t refuse_every;
static uint64_t msets;

static int start_cluster(void **state)
{
    (void)state;
    slot_servers_start();
    return start_server(&source, &from);
}

static int stop_cluster(void **state)
{
    (void)state;
    stop_server(&source, from);
    slot_servers_stop();
    return 0;
}

static void on_every_master(const char *cmd)
{
    for (int i = 0; i < SLOT_NODES; i++)
        ask(slot_clients[i], cmd);
}

static int clean_cluster(void **state)
{
    (void)state;
    empty(from);
    for (int i = 0; i < SLOT_NODES; i++)
        empty(slot_clients[i]);
    refuse_every = 0;
    return 0;
}

static struct redis_client *master_of(const char *key)
{
    return slot_clients[slot_node_of(slot_of(slice_cstr(key)))];
}

static void attach(struct run *r)
{
    (void)r;
    sink.refuse_every = refuse_every;
    slot_sink_attach(&sink);
}

static int map_all(void *ctx, int db)
{
    (void)ctx, (void)db;
    return 0;
}

static void note_command(int slot, int argc, const struct slice *argv)
{
    (void)slot, (void)argc;
    msets += slice_eq(argv[0], SLICE("MSET"));
}

static void cluster_run_init(struct run *r, struct slice rdb)
{
    run_init(r, rdb);
    slot_sink_init(&sink, &r->w, run_batches);
    sink.seen = note_command;
    msets = 0;
    r->attach = attach;
    r->o.cluster = true;
    r->o.map_db = map_all;
}

static void load_all(struct slice rdb, void (*way)(struct run *r), struct load_stats *stats)
{
    struct run r;
    cluster_run_init(&r, rdb);
    run_whole(&r, way, stats);
}

static int64_t keys_in(struct redis_client *c)
{
    int64_t n = 0;
    struct slice s = ask(c, "DBSIZE");
    assert_true(slice_i64(slice_make(s.p + 1, s.n - 3), &n));
    return n;
}

// What all dbs of the source hold, each key on its master.
static void same_cluster_data(bool groups)
{
    struct buf keys = {0};
    int64_t want = 0, have = 0;
    for (int db = 0; db < 16; db++) {
        ask(from, "SELECT %d", db);
        want += keys_in(from);
        copy_reply(&keys, ask(from, "KEYS *"));
        size_t pos = 0;
        struct slice key;
        while (next_key(&keys, &pos, &key)) {
            to = slot_clients[slot_node_of(slot_of(key))];
            same_key(key, groups);
        }
    }
    ask(from, "SELECT 0");
    for (int i = 0; i < SLOT_NODES; i++)
        have += keys_in(slot_clients[i]);
    assert_int_equal(have, want);
    buf_free(&keys);
}

static void every_path_gives_the_same_values(void **state)
{
    (void)state;
    void (*const ways[])(struct run *) = {NULL, by_elements, in_tiny_pieces};
    struct buf rdb = {0};
    fill_source();
    for (int i = 0; i < 500; i++)
        ask(from, "SET key:%d value:%d", i, i);
    snapshot_of_source(&rdb);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        on_every_master("FLUSHALL");
        for (int again = 0; again < 2; again++) {
            load_all(buf_slice(&rdb), ways[i], NULL);
            same_cluster_data(true);
        }
    }
    buf_free(&rdb);
}

static void without_room_the_load_goes_on_later(void **state)
{
    (void)state;
    struct buf rdb = {0};
    fill_source();
    add_library(from, SLICE(LIB("one")));
    for (int i = 0; i < 100; i++)
        ask(from, "SET key:%d value:%d", i, i);
    snapshot_of_source(&rdb);
    refuse_every = 2;
    load_all(buf_slice(&rdb), in_tiny_pieces, NULL);
    same_cluster_data(true);
    for (int i = 0; i < SLOT_NODES; i++)
        is(slot_clients[i], ":1\r\n", "FCALL one 0");
    buf_free(&rdb);
}

static bool is_of_first_db(void *ctx, const struct rdb_item *item)
{
    (void)ctx;
    return item->db == 0;
}

static void first_db(struct run *r)
{
    r->o.wants = is_of_first_db;
}

static void first_db_by_elements(struct run *r)
{
    first_db(r);
    by_elements(r);
}

static void files_of_the_corpus_load_as_redis_loads_them(void **state)
{
    (void)state;
    struct buf rdb = {0};
    for (size_t i = 0; source_loads_file(i, &rdb); i++) {
        for (int db = 1; db < 16; db++) {
            ask(from, "SELECT %d", db);
            ask(from, "FLUSHDB");
        }
        load_all(buf_slice(&rdb), first_db, NULL);
        same_cluster_data(true);
        on_every_master("FLUSHALL");
        load_all(buf_slice(&rdb), first_db_by_elements, NULL);
        // Streams of old servers do not tell how many entries a group has read; Redis guesses.
        same_cluster_data(false);
        clean_cluster(NULL);
    }
    buf_free(&rdb);
}

static void strings_of_one_slot_in_a_row_share_a_command(void **state)
{
    (void)state;
    struct buf rdb = {0};
    for (int i = 0; i < 300; i++)
        ask(from, "SET {tag}:%d value:%d", i, i);
    snapshot_of_source(&rdb);
    load_all(buf_slice(&rdb), NULL, NULL);
    same_cluster_data(true);
    assert_in_range(msets, 10, 12);
    buf_free(&rdb);
}

static void a_refused_mset_is_repeated_key_by_key(void **state)
{
    (void)state;
    struct buf rdb = {0};
    struct load_stats stats;
    for (int i = 0; i < 300; i++)
        ask(from, "SET {tag%d}:%d value:%d", i % 2, i, i);
    snapshot_of_source(&rdb);
    on_every_master("ACL SETUSER default -mset");
    load_all(buf_slice(&rdb), NULL, &stats);
    on_every_master("ACL SETUSER default +mset");
    assert_true(msets > 0);
    assert_int_equal(stats.keys_sent, 300);
    same_cluster_data(true);
    buf_free(&rdb);
}

static void bad_data_format_falls_back_to_elements(void **state)
{
    (void)state;
    struct buf rdb = {0};
    struct load_stats stats;
    for (int i = 0; i < 1000; i++) {
        ask(from, "HSET h:%d a 1 b %d", i, i);
        ask(from, "PEXPIREAT h:%d 33000000000000", i);
        ask(from, "SET s:%d x", i);
    }
    snapshot_of_source(&rdb);
    on_every_master("ACL SETUSER default -restore");
    load_all(buf_slice(&rdb), seen_as_bad_format, &stats);
    on_every_master("ACL SETUSER default +restore");
    assert_int_equal(stats.keys_sent, 2000);
    same_cluster_data(true);
    buf_free(&rdb);
}

static void pending_entries_of_deleted_messages_stay(void **state)
{
    (void)state;
    struct buf rdb = {0};
    fill_streams();
    snapshot_of_source(&rdb);
    load_all(buf_slice(&rdb), by_elements, NULL);
    same_cluster_data(true);
    to = master_of("holes");
    same_answer("pending of g", SLICE("holes"), "XPENDING %b g");
    buf_free(&rdb);
}

static void an_expired_key_that_is_built_removes_the_older_one(void **state)
{
    (void)state;
    struct buf rdb = {0};
    const char *const expired[] = {"list"};
    ask(from, "RPUSH list v w");
    ask(from, "SET stays v");
    snapshot_of_expired(expired, 1, &rdb);
    ask(master_of("list"), "RPUSH list older");
    refuse_every = 3;
    load_all(buf_slice(&rdb), by_elements, NULL);
    is(master_of("list"), ":0\r\n", "EXISTS list");
    is(master_of("stays"), "$1\r\nv\r\n", "GET stays");
    buf_free(&rdb);
}

// ---- keyExists, after a reset that a redirection has brought ----

static void stop_at_existing(struct run *r)
{
    r->o.exists = LOAD_ERROR;
}

static void stop_at_existing_by_elements(struct run *r)
{
    r->o.exists = LOAD_ERROR;
    r->o.restore_enabled = false;
}

static void fill_small(void)
{
    for (int i = 0; i < 200; i++) {
        ask(from, "SET str:%d new PXAT 33000000000000", i);
        ask(from, "HSET hash:%d f new g new", i);
        ask(from, "RPUSH list:%d new", i);
        ask(from, "XADD stream:%d 1-1 a b", i);
    }
}

static void everything_may_be_sent_a_second_time(void **state)
{
    (void)state;
    void (*const ways[])(struct run *) = {NULL,
                                          by_elements,
                                          keep_existing,
                                          keep_existing_by_elements,
                                          stop_at_existing,
                                          stop_at_existing_by_elements};
    struct buf rdb = {0};
    fill_small();
    snapshot_of_source(&rdb);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct run r;
        struct load_stats stats;
        on_every_master("FLUSHALL");
        cluster_run_init(&r, buf_slice(&rdb));
        if (ways[i])
            ways[i](&r);
        assert_int_equal(run_from(&r, 0, 0, 0, 0), LOAD_FINISHED);
        // All of it was sent and nothing was confirmed.
        load_get_stats(r.load, &stats);
        sink_detach(r.w.sink);
        load_free(r.load);
        r.safe = 0;
        journal_close(r.journal);
        r.journal = NULL;
        r.fed = 0;
        int rc = run_from(&r, 0, 0, 0, stats.index);
        if (rc != LOAD_FINISHED)
            fail_msg("way %zu: %s", i, r.error.msg);
        load_get_stats(r.load, &stats);
        assert_int_equal(stats.keys_sent, 800);
        assert_int_equal(stats.keys_ignored, 0);
        run_free(&r);
        same_cluster_data(true);
    }
    buf_free(&rdb);
}

static void existing_keys_are_left_alone_in_every_path(void **state)
{
    (void)state;
    void (*const ways[])(struct run *) = {keep_existing, keep_existing_by_elements};
    struct buf rdb = {0};
    struct load_stats stats;
    fill_small();
    snapshot_of_source(&rdb);
    for (int i = 0; i < 2; i++) {
        on_every_master("FLUSHALL");
        ask(master_of("str:1"), "SET str:1 old");
        ask(master_of("hash:1"), "HSET hash:1 f old");
        ask(master_of("list:1"), "RPUSH list:1 old");
        load_all(buf_slice(&rdb), ways[i], &stats);
        is(master_of("str:1"), "$3\r\nold\r\n", "GET str:1");
        is(master_of("hash:1"), "*2\r\n$1\r\nf\r\n$3\r\nold\r\n", "HGETALL hash:1");
        is(master_of("list:1"), "*1\r\n$3\r\nold\r\n", "LRANGE list:1 0 -1");
        assert_int_equal(stats.keys_ignored, 3);
        assert_int_equal(stats.keys_sent, 797);
        // No temporary key stays.
        assert_int_equal(keys_in(slot_clients[0]) + keys_in(slot_clients[1]), 800);
    }
    buf_free(&rdb);
}

// ---- what is no key ----

static void bug_13_functions_go_to_every_master_by_policy(void **state)
{
    (void)state;
    void (*const ways[])(struct run *) = {NULL, with_functions_flushed, with_functions_appended};
    struct buf rdb = {0};
    struct load_stats stats;
    snapshot_of_libraries(&rdb);
    for (size_t way = 0; way < 3; way++) {
        for (int i = 0; i < SLOT_NODES; i++)
            put_other_libraries(slot_clients[i]);
        load_all(buf_slice(&rdb), ways[way], &stats);
        assert_int_equal(stats.functions, 2);
        for (int i = 0; i < SLOT_NODES; i++)
            has_libraries(slot_clients[i], way != 1);
    }
    same_cluster_data(true);
    buf_free(&rdb);
}

static void scripts_of_a_snapshot_are_known_to_every_master(void **state)
{
    (void)state;
    struct buf b = {0};
    on_every_master("SCRIPT FLUSH");
    put_script(&b);
    load_all(buf_slice(&b), NULL, NULL);
    for (int i = 0; i < SLOT_NODES; i++)
        knows_script(slot_clients[i]);
    buf_free(&b);
}

static void commands_in_a_snapshot_go_to_their_slot_or_are_refused(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_append_slice(&b, SLICE("VALKEY081\xfe"));
    buf_append(&b, "\0\0\1a\1b", 6);
    buf_append_slice(&b, SLICE("\xf2*3\r\n$6\r\nAPPEND\r\n$1\r\na\r\n$1\r\nc\r\n"));
    size_t good = b.n;
    buf_append(&b, "\xff\0\0\0\0\0\0\0\0", 9);
    load_all(buf_slice(&b), NULL, NULL);
    is(master_of("a"), "$2\r\nbc\r\n", "GET a");
    b.n = good;
    buf_append_slice(&b, SLICE("\xf2*3\r\n$3\r\nDEL\r\n$1\r\na\r\n$1\r\nb\r\n"));
    buf_append(&b, "\xff\0\0\0\0\0\0\0\0", 9);
    struct run r;
    cluster_run_init(&r, buf_slice(&b));
    assert_int_equal(run_from(&r, 0, 0, 0, 0), ERR_UNSUPPORTED);
    assert_non_null(strstr(r.error.msg, "a command (DEL) whose keys"));
    run_free(&r);
    buf_free(&b);
}

// ---- resumption ----

static void a_load_goes_on_where_all_masters_have_confirmed(void **state)
{
    (void)state;
    struct buf rdb = {0};
    fill_source();
    for (int i = 0; i < 500; i++)
        ask(from, "SET key:%d value:%d", i, i);
    add_library(from, SLICE(LIB("one")));
    snapshot_of_source(&rdb);
    for (uint64_t stop = 1; stop < rdb.n; stop += rdb.n / 9) {
        on_every_master("FLUSHALL");
        on_every_master("FUNCTION FLUSH");
        struct run r;
        cluster_run_init(&r, buf_slice(&rdb));
        with_functions_flushed(&r);
        run_in_two(&r, stop);
        same_cluster_data(true);
        for (int i = 0; i < SLOT_NODES; i++)
            is(slot_clients[i], ":1\r\n", "FCALL one 0");
    }
    buf_free(&rdb);
}

int main(void)
{
#define LOAD_TEST(f) cmocka_unit_test_setup(f, clean_cluster)
    const struct CMUnitTest tests[] = {
        LOAD_TEST(every_path_gives_the_same_values),
        LOAD_TEST(without_room_the_load_goes_on_later),
        LOAD_TEST(files_of_the_corpus_load_as_redis_loads_them),
        LOAD_TEST(strings_of_one_slot_in_a_row_share_a_command),
        LOAD_TEST(a_refused_mset_is_repeated_key_by_key),
        LOAD_TEST(bad_data_format_falls_back_to_elements),
        LOAD_TEST(pending_entries_of_deleted_messages_stay),
        LOAD_TEST(an_expired_key_that_is_built_removes_the_older_one),
        LOAD_TEST(everything_may_be_sent_a_second_time),
        LOAD_TEST(existing_keys_are_left_alone_in_every_path),
        LOAD_TEST(bug_13_functions_go_to_every_master_by_policy),
        LOAD_TEST(scripts_of_a_snapshot_are_known_to_every_master),
        LOAD_TEST(commands_in_a_snapshot_go_to_their_slot_or_are_refused),
        LOAD_TEST(a_load_goes_on_where_all_masters_have_confirmed),
    };
    return cmocka_run_group_tests(tests, start_cluster, stop_cluster);
}

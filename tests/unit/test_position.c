// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "redis_fixture.h"
#include "codec/slot.h"
#include "target/position.h"

#define ID_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define ID_NONE "0000000000000000000000000000000000000000"
#define CALL(...)                                                                                  \
    do {                                                                                           \
        struct redis_reply reply_;                                                                 \
        struct err e_ = {0};                                                                       \
        if (redis_call(server.client, &reply_, &e_, __VA_ARGS__) != 0)                             \
            fail_msg("%s", e_.msg);                                                                \
    } while (0)

static struct redis_fixture server;

static int start(void **state)
{
    (void)state;
    return redis_fixture_start(&server, NULL) ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    redis_fixture_stop(&server);
    return 0;
}

static int empty(void **state)
{
    (void)state;
    CALL("FLUSHALL");
    CALL("SELECT 0");
    return 0;
}

static const struct position streaming = {
    .replid = ID_A, .offset = 123456789012, .db = 3, .epoch = 7, .far_expiries = true};
static const struct position loading = {.replid = ID_A,
                                        .offset = 500,
                                        .db = 0,
                                        .loading = true,
                                        .rdb_index = 1 << 20,
                                        .rdb_db = 2,
                                        .rdb_version = 11,
                                        .epoch = UINT64_MAX};

static void put(const struct position *p, int64_t now_ms)
{
    struct buf b = {0};
    struct err e = {0};
    position_put(&b, p, now_ms);
    if (redis_call_raw(server.client, buf_slice(&b), 1, NULL, &e) != 0)
        fail_msg("%s", e.msg);
    buf_free(&b);
}

static bool read_for(const char *id1, const char *id2, struct position *out)
{
    struct err e = {0};
    bool found;
    int rc = position_read(server.client, id1, id2, out, &found, &e);
    if (rc != 0)
        fail_msg("%s", e.msg);
    return found;
}

static void assert_same(const struct position *a, const struct position *b)
{
    assert_string_equal(a->replid, b->replid);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->db, b->db);
    assert_int_equal(a->loading, b->loading);
    assert_true(a->rdb_index == b->rdb_index);
    assert_int_equal(a->rdb_db, b->rdb_db);
    assert_int_equal(a->rdb_version, b->rdb_version);
    assert_int_equal(a->far_expiries, b->far_expiries);
    assert_true(a->epoch == b->epoch);
}

// ---- pure ----

static void the_record_is_one_readable_set_command(void **state)
{
    (void)state;
    struct buf b = {0};
    position_put(&b, &streaming, 1700000000000);
    struct resp_cmd c = {0};
    assert_int_equal(resp_cmd_parse(&c, b.p, b.n), 1);
    assert_int_equal(c.len, b.n);
    assert_int_equal(c.argc, 3);
    assert_true(slice_eq(c.argv[0], SLICE("SET")));
    assert_true(slice_eq(c.argv[1], SLICE("gunyu:position:" ID_A)));
    assert_true(slice_eq(
        c.argv[2], SLICE("gunyu/1 offset=123456789012 db=3 far=1 epoch=7 time=1700000000000")));
    resp_cmd_free(&c);
    buf_free(&b);
}

static void reads_back(const struct position *p)
{
    struct buf b = {0};
    struct resp_cmd c = {0};
    struct position q;
    position_put(&b, p, 5);
    assert_int_equal(resp_cmd_parse(&c, b.p, b.n), 1);
    assert_true(position_parse(ID_A, c.argv[2], &q));
    assert_same(p, &q);
    assert_true(p->marks == q.marks && p->source == q.source);
    resp_cmd_free(&c);
    buf_free(&b);
}

static void marks_and_source_are_there_if_they_are_known(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        struct position p = i & 4 ? loading : streaming;
        p.marks = i & 1 ? UINT64_MAX : 0;
        p.source = i & 2 ? UINT64_MAX : 0;
        reads_back(&p);
    }
}

static void raise_and_compare(const char *before, const char *after)
{
    struct buf b = {0};
    struct resp_cmd c = {0};
    position_put_epoch(&b, ID_A, slice_cstr(before), 18446744073709551615u, 1700000000000);
    assert_int_equal(resp_cmd_parse(&c, b.p, b.n), 1);
    assert_int_equal(c.len, b.n);
    assert_true(slice_eq(c.argv[0], SLICE("SET")));
    assert_true(slice_eq(c.argv[1], SLICE("gunyu:position:" ID_A)));
    assert_int_equal(c.argv[2].n, strlen(after));
    assert_memory_equal(c.argv[2].p, after, strlen(after));
    struct position p;
    assert_true(position_parse(ID_A, c.argv[2], &p));
    assert_true(p.epoch == UINT64_MAX);
    resp_cmd_free(&c);
    buf_free(&b);
}

static void a_raised_epoch_changes_nothing_else_of_a_record(void **state)
{
    (void)state;
    raise_and_compare("gunyu/1 offset=42 db=3 far=1 epoch=7 time=5",
                      "gunyu/1 offset=42 db=3 far=1 epoch=18446744073709551615 time=5");
    raise_and_compare(
        "gunyu/1 offset=1 db=0 far=0 epoch=0 time=5 marks=9 rdb=99 rdb_db=2 rdb_version=11",
        "gunyu/1 offset=1 db=0 far=0 epoch=18446744073709551615 time=5 marks=9 rdb=99 rdb_db=2 "
        "rdb_version=11");
    raise_and_compare("gunyu/1 epoch=7 time=5", "gunyu/1 epoch=18446744073709551615 time=5");
}

static void where_there_is_no_record_one_says_only_the_epoch(void **state)
{
    (void)state;
    static const char only[] = "gunyu/1 epoch=18446744073709551615 time=1700000000000";
    static const char *const none[] = {"", "gunyu/2 offset=1 epoch=3 time=1", "x epoch=3 ",
                                       "gunyu/1 epoch=7", "gunyu/1 epoch=7 time=5 marks=3"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        raise_and_compare(none[i], only);
    struct position p;
    assert_true(position_parse(ID_A, slice_cstr(only), &p));
    assert_true(p.epoch_only);
    assert_int_equal(p.time_ms, 1700000000000);
}

static void a_record_that_says_only_the_epoch_is_no_position(void **state)
{
    (void)state;
    struct position p;
    struct buf b = {0};
    struct err e = {0};
    position_put_epoch(&b, ID_A, (struct slice){0}, 3, 1700000000000);
    assert_int_equal(redis_call_raw(server.client, buf_slice(&b), 1, NULL, &e), 0);
    assert_false(read_for(ID_A, "", &p));
    int64_t n;
    CALL("SET gunyu:position:" ID_B " x");
    assert_int_equal(position_count_epoch_only(server.client, &n, &e), 0);
    assert_int_equal(n, 1);
    put(&(struct position){.replid = ID_B, .offset = 8, .epoch = 2}, 1);
    assert_true(read_for(ID_A, ID_B, &p));
    assert_int_equal(p.offset, 8);
    assert_false(p.epoch_only);
    buf_free(&b);
}

static void a_record_comes_back_as_it_was_written(void **state)
{
    (void)state;
    const struct position *all[] = {&streaming, &loading};
    for (int i = 0; i < 2; i++) {
        struct buf b = {0};
        position_put(&b, all[i], INT64_MAX);
        struct resp_cmd c = {0};
        assert_int_equal(resp_cmd_parse(&c, b.p, b.n), 1);
        struct position p;
        assert_true(position_parse(ID_A, c.argv[2], &p));
        assert_same(&p, all[i]);
        assert_true(p.time_ms == INT64_MAX);
        assert_false(p.foreign);
        // A record that ends at the end of a field, or within its name, is refused.
        struct slice whole = c.argv[2];
        for (size_t n = 0; n < whole.n; n++) {
            bool only_snapshot_missing =
                slice_has_prefix(slice_make(whole.p + n, whole.n - n), SLICE(" rdb="));
            if ((whole.p[n] < '0' || whole.p[n] > '9') && !only_snapshot_missing)
                assert_false(position_parse(ID_A, slice_make(whole.p, n), &p));
        }
        resp_cmd_free(&c);
        buf_free(&b);
    }
}

static void hostile_values_are_no_positions(void **state)
{
    (void)state;
    const char *bad[] = {
        "",
        "gunyu/1",
        "gunyu/2 offset=1 db=0 far=0 epoch=0 time=0",
        "gunyu/1offset=1 db=0 far=0 epoch=0 time=0",
        "gunyu/1 offset=-1 db=0 far=0 epoch=0 time=0",
        "gunyu/1 offset=01 db=0 far=0 epoch=0 time=0",
        "gunyu/1 offset=+1 db=0 far=0 epoch=0 time=0",
        "gunyu/1 offset= db=0 far=0 epoch=0 time=0",
        "gunyu/1 offset=9223372036854775808 db=0 far=0 epoch=0 time=0",
        "gunyu/1 offset=1 db=2147483648 far=0 epoch=0 time=0",
        "gunyu/1 offset=1 db=-1 far=0 epoch=0 time=0",
        "gunyu/1 offset=1 db=0 far=2 epoch=0 time=0",
        "gunyu/1 offset=1 db=0 far=0 epoch=18446744073709551616 time=0",
        "gunyu/1 db=0 offset=1 far=0 epoch=0 time=0",
        "gunyu/1 offset=1 db=0 far=0 epoch=0",
        "gunyu/1 offset=1 db=0 far=0 epoch=0 time=0 ",
        "gunyu/1 offset=1 db=0 far=0 epoch=0 time=0\n",
        "gunyu/1 offset=1 db=0 far=0 epoch=0 time=0 rdb=1",
        "gunyu/1 offset=1 db=0 far=0 epoch=0 time=0 rdb=1 rdb_db=0",
        "gunyu/1 offset=1 db=0 far=0 epoch=0 time=0 rdb=1 rdb_db=0 rdb_version=11 x=1",
        "gunyu/1 offset=1  db=0 far=0 epoch=0 time=0",
    };
    struct position p;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (position_parse(ID_A, slice_cstr(bad[i]), &p))
            fail_msg("accepted: %s", bad[i]);
    struct slice good = SLICE("gunyu/1 offset=1 db=0 far=0 epoch=0 time=0");
    assert_true(position_parse(ID_A, good, &p));
    assert_false(position_parse("", good, &p));
    assert_false(position_parse(ID_A "x", good, &p));
}

// ---- against a server ----

static bool finds_other(const char *id, uint64_t source, const char *other)
{
    const struct position_owners o = {&id, 1, &source, 1};
    char replid[REPLID_LEN + 1];
    struct err e;
    assert_int_equal(position_find_other(server.client, &o, replid, &e), 0);
    return strcmp(replid, other) == 0;
}

static void a_position_of_another_sync_is_told_from_our_own(void **state)
{
    (void)state;
    struct position p = streaming;
    assert_true(finds_other(ID_B, 7, ""));
    CALL("SET gunyu:position:rdb-0123456789abcdef0123456789abcdef x"); // of a file
    CALL("SET gunyu:position:" ID_B " x");
    assert_true(finds_other(ID_B, 7, ""));
    CALL("SET gunyu:position:" ID_A " %s", "gunyu/1 epoch=7 time=5");
    assert_true(finds_other(ID_B, 7, ""));
    p.source = 7;
    put(&p, 5);
    assert_true(finds_other(ID_B, 7, ""));
    assert_true(finds_other(ID_B, 8, ID_A));
    p.source = 0;
    put(&p, 5);
    assert_true(finds_other(ID_B, 7, ID_A));
    assert_true(finds_other(ID_A, 7, ID_B)); // which cannot be read
}

static void an_empty_target_has_no_position(void **state)
{
    (void)state;
    struct position p;
    assert_false(read_for(ID_A, ID_B, &p));
    assert_false(read_for("", "", &p));
}

static void our_record_is_found_under_either_id_the_newer_first(void **state)
{
    (void)state;
    struct position p;
    put(&streaming, 1000);
    assert_true(read_for(ID_A, "", &p));
    assert_same(&p, &streaming);
    assert_int_equal(p.time_ms, 1000);
    assert_true(read_for(ID_B, ID_A, &p));
    assert_same(&p, &streaming);
    assert_false(read_for(ID_B, ID_NONE, &p));
    struct position newer = streaming;
    strcpy(newer.replid, ID_B);
    newer.offset++;
    put(&newer, 2000);
    assert_true(read_for(ID_B, ID_A, &p));
    assert_same(&p, &newer);

    struct buf b = {0};
    struct err e = {0};
    position_put_del(&b, ID_B);
    assert_int_equal(redis_call_raw(server.client, buf_slice(&b), 1, NULL, &e), 0);
    buf_free(&b);
    assert_true(read_for(ID_B, ID_A, &p));
    assert_same(&p, &streaming);
}

static void the_record_of_moving_slots_is_beside_the_position_and_goes_with_it(void **state)
{
    (void)state;
    char key[64], turns[128];
    assert_int_equal(slot_of(position_turns_key(ID_A, turns)), slot_of(position_key(ID_A, key)));
    struct buf b = {0}, got = {0};
    struct err e = {0};
    assert_int_equal(position_read_turns(server.client, ID_A, &got, &e), 0);
    assert_int_equal(got.n, 0);
    position_put_turns(&b, ID_A, SLICE("t0-5:1:0;"));
    assert_int_equal(redis_call_raw(server.client, buf_slice(&b), 1, NULL, &e), 0);
    assert_int_equal(position_read_turns(server.client, ID_A, &got, &e), 0);
    assert_true(slice_eq(buf_slice(&got), SLICE("t0-5:1:0;")));
    buf_clear(&b);
    buf_clear(&got);
    position_put_del(&b, ID_A);
    assert_int_equal(redis_call_raw(server.client, buf_slice(&b), 1, NULL, &e), 0);
    assert_int_equal(position_read_turns(server.client, ID_A, &got, &e), 0);
    assert_int_equal(got.n, 0);
    buf_free(&b);
    buf_free(&got);
}

static void our_record_is_read_from_db_0_whatever_is_selected(void **state)
{
    (void)state;
    struct position p;
    put(&loading, 1000);
    CALL("SELECT 5");
    assert_true(read_for(ID_A, "", &p));
    assert_same(&p, &loading);
}

static void an_unreadable_record_of_ours_is_none(void **state)
{
    (void)state;
    struct position p;
    CALL("SET gunyu:position:" ID_A " gunyu/9");
    assert_false(read_for(ID_A, "", &p));
}

// The fields as redisGunYu writes them; mtime NULL as in its incremental updates.
static void put_foreign(int db, const char *name, const char *id, const char *offset,
                        const char *mtime)
{
    CALL("SELECT %d", db);
    CALL("HSET %s %s_runid %s %s_version 1", name, id, id, id);
    CALL("HSET %s %s_offset %s", name, id, offset);
    if (mtime)
        CALL("HSET %s %s_mtime %s", name, id, mtime);
    CALL("SELECT 0");
}

static void redisgunyu_is_taken_over_in_the_db_of_its_largest_offset(void **state)
{
    (void)state;
    struct position p;
    CALL("HSET redis-gunyu-checkpoint-hash " ID_A " redis-gunyu-checkpoint");
    put_foreign(0, "redis-gunyu-checkpoint", ID_A, "1000", "1700000000000000000");
    put_foreign(3, "redis-gunyu-checkpoint", ID_A, "2500", NULL);
    put_foreign(9, "redis-gunyu-checkpoint", ID_A, "2400", NULL);
    put_foreign(12, "redis-gunyu-checkpoint", ID_B, "9999", NULL);
    assert_true(read_for(ID_A, "", &p));
    assert_string_equal(p.replid, ID_A);
    assert_int_equal(p.offset, 2500);
    assert_int_equal(p.db, 3);
    assert_true(p.foreign);
    assert_false(p.loading);
    assert_int_equal(p.epoch, 0);
    // The connection is back in db 0.
    CALL("SET probe 1");
    assert_true(read_for("", ID_A, &p));
    assert_int_equal(p.offset, 2500);
    assert_false(read_for(ID_B, "", &p)); // no index entry
}

static void redisgunyu_ties_go_to_the_newer_mtime(void **state)
{
    (void)state;
    struct position p;
    CALL("HSET redis-gunyu-checkpoint-hash " ID_A " cp");
    put_foreign(1, "cp", ID_A, "1000", "1700000000000000001");
    put_foreign(4, "cp", ID_A, "1000", "1700000000000000002");
    put_foreign(6, "cp", ID_A, "1000", "1700000000000000000");
    assert_true(read_for(ID_A, "", &p));
    assert_int_equal(p.db, 4);
    assert_int_equal(p.time_ms, 1700000000000);
}

static void bug_1_a_stored_offset_of_minus_1_is_no_position(void **state)
{
    (void)state;
    struct position p;
    CALL("HSET redis-gunyu-checkpoint-hash " ID_A " cp");
    put_foreign(0, "cp", ID_A, "-1", NULL);
    assert_false(read_for(ID_A, "", &p));
    put_foreign(2, "cp", ID_A, "77", NULL);
    assert_true(read_for(ID_A, "", &p));
    assert_int_equal(p.offset, 77);
    assert_int_equal(p.db, 2);
}

static void bug_3_a_migration_cut_short_keeps_the_db_of_the_older_id(void **state)
{
    (void)state;
    struct position p;
    CALL("HSET redis-gunyu-checkpoint-hash " ID_A " cp " ID_B " cp");
    put_foreign(5, "cp", ID_A, "1000", "1");
    put_foreign(2, "cp", ID_B, "1000", "1700000000000000000");
    assert_true(read_for(ID_B, ID_A, &p));
    assert_string_equal(p.replid, ID_A);
    assert_int_equal(p.db, 5);
    put_foreign(7, "cp", ID_B, "1001", NULL);
    assert_true(read_for(ID_B, ID_A, &p));
    assert_string_equal(p.replid, ID_B);
    assert_int_equal(p.db, 7);
}

static void damaged_records_of_redisgunyu_are_none(void **state)
{
    (void)state;
    struct position p;
    CALL("SET redis-gunyu-checkpoint-hash not-a-hash");
    assert_false(read_for(ID_A, ID_B, &p));
    CALL("DEL redis-gunyu-checkpoint-hash");
    CALL("HSET redis-gunyu-checkpoint-hash " ID_A " cp");
    assert_false(read_for(ID_A, ID_B, &p)); // index without a record
    CALL("SET cp not-a-hash");
    assert_false(read_for(ID_A, ID_B, &p));
    CALL("DEL cp");
    CALL("HSET cp " ID_A "_offset 5"); // no runid, no version
    assert_false(read_for(ID_A, ID_B, &p));
    CALL("HSET cp " ID_A "_runid " ID_A " " ID_A "_version 2");
    assert_false(read_for(ID_A, ID_B, &p));
    CALL("HSET cp " ID_A "_version 1 " ID_A "_offset 5x");
    assert_false(read_for(ID_A, ID_B, &p));
    CALL("HSET cp " ID_A "_offset 5");
    assert_true(read_for(ID_A, ID_B, &p));
}

static void ours_wins_over_redisgunyus(void **state)
{
    (void)state;
    struct position p;
    CALL("HSET redis-gunyu-checkpoint-hash " ID_A " cp");
    put_foreign(0, "cp", ID_A, "999999999999999", "1");
    put(&streaming, 1000);
    assert_true(read_for(ID_A, "", &p));
    assert_same(&p, &streaming);
    assert_false(p.foreign);
}

static void a_user_without_rights_on_redisgunyus_keys_sees_no_takeover(void **state)
{
    (void)state;
    CALL("ACL SETUSER lane on >pw ~gunyu:* +@all");
    struct endpoint ep = server.endpoint;
    char user[] = "lane", password[] = "pw";
    ep.user = user;
    ep.password = password;
    struct redis_client *c;
    struct err e = {0};
    struct position p;
    bool found = true;
    assert_int_equal(redis_connect(&c, &ep, 5000, &e), 0);
    if (position_read(c, ID_A, "", &p, &found, &e) != 0)
        fail_msg("%s", e.msg);
    assert_false(found);
    redis_close(c);
    CALL("ACL DELUSER lane");
}

static void gc_removes_only_old_records_of_ours_that_nobody_keeps(void **state)
{
    (void)state;
    struct position p = streaming;
    for (int i = 0; i < 3000; i++) {
        snprintf(p.replid, sizeof(p.replid), "%040d", i + 1);
        put(&p, i < 2000 ? 1000 : 50000);
    }
    CALL("SET gunyu:position:" ID_A " mine");
    CALL("HSET gunyu:position:" ID_B " f v");
    CALL("SET gunyu:position: x");
    CALL("SET gunyu:other " ID_A);
    const char *keep[] = {"0000000000000000000000000000000000000001", ID_A};
    int removed;
    struct err e = {0};
    int rc = position_gc(server.client, keep, 2, 30000, 60000, &removed, &e);
    if (rc != 0)
        fail_msg("%s", e.msg);
    assert_int_equal(removed, 1999);
    struct redis_reply reply;
    assert_int_equal(redis_call(server.client, &reply, &e, "DBSIZE"), 0);
    assert_int_equal(reply.root.num, 1001 + 4);
    assert_int_equal(redis_call(server.client, &reply, &e, "EXISTS gunyu:position:%s", keep[0]), 0);
    assert_int_equal(reply.root.num, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_record_is_one_readable_set_command),
        cmocka_unit_test(marks_and_source_are_there_if_they_are_known),
        cmocka_unit_test(a_record_comes_back_as_it_was_written),
        cmocka_unit_test(a_raised_epoch_changes_nothing_else_of_a_record),
        cmocka_unit_test(where_there_is_no_record_one_says_only_the_epoch),
        cmocka_unit_test_setup(a_record_that_says_only_the_epoch_is_no_position, empty),
        cmocka_unit_test(hostile_values_are_no_positions),
        cmocka_unit_test_setup(a_position_of_another_sync_is_told_from_our_own, empty),
        cmocka_unit_test_setup(an_empty_target_has_no_position, empty),
        cmocka_unit_test_setup(our_record_is_found_under_either_id_the_newer_first, empty),
        cmocka_unit_test(the_record_of_moving_slots_is_beside_the_position_and_goes_with_it),
        cmocka_unit_test_setup(our_record_is_read_from_db_0_whatever_is_selected, empty),
        cmocka_unit_test_setup(an_unreadable_record_of_ours_is_none, empty),
        cmocka_unit_test_setup(redisgunyu_is_taken_over_in_the_db_of_its_largest_offset, empty),
        cmocka_unit_test_setup(redisgunyu_ties_go_to_the_newer_mtime, empty),
        cmocka_unit_test_setup(bug_1_a_stored_offset_of_minus_1_is_no_position, empty),
        cmocka_unit_test_setup(bug_3_a_migration_cut_short_keeps_the_db_of_the_older_id, empty),
        cmocka_unit_test_setup(damaged_records_of_redisgunyu_are_none, empty),
        cmocka_unit_test_setup(ours_wins_over_redisgunyus, empty),
        cmocka_unit_test_setup(a_user_without_rights_on_redisgunyus_keys_sees_no_takeover, empty),
        cmocka_unit_test_setup(gc_removes_only_old_records_of_ours_that_nobody_keeps, empty),
    };
    return cmocka_run_group_tests(tests, start, stop);
}

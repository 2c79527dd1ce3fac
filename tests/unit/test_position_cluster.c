// SPDX-License-Identifier: Apache-2.0
// redisGunYu's position in a cluster, where each master refuses what is not in its slots.
#include "slot_sink.h"

#include "target/position.h"

#define ID_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define SHARED "redis-gunyu-checkpoint" // at the last master, the index at the first
#define OF_SHARD "redis-gunyu-checkpoint-aaaaaaaaaaaaaaaaaaac" // at the first

static struct masters masters;

static int start(void **state)
{
    (void)state;
    struct err e = {0};
    slot_servers_start();
    if (masters_open(&masters, &slot_servers[1].endpoint, 1, 5000, 0, &e))
        fail_msg("%s", e.msg);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    masters_close(&masters);
    slot_servers_stop();
    return 0;
}

static int clean(void **state)
{
    (void)state;
    for (int i = 0; i < SLOT_NODES; i++)
        must(redis_call(slot_clients[i], NULL, NULL, "FLUSHALL") == 0);
    return 0;
}

static struct redis_client *owner(const char *key)
{
    return slot_clients[slot_node_of(slot_of(slice_cstr(key)))];
}

static void set(const char *key, const char *field, const char *value)
{
    must(redis_call(owner(key), NULL, NULL, "HSET %s %s %s", key, field, value) == 0);
}

// As redisGunYu leaves it.
static void put_foreign(const char *name, const char *id, const char *offset)
{
    char field[64];
    set(POSITION_FOREIGN_INDEX, id, name);
    snprintf(field, sizeof(field), "%s_runid", id);
    set(name, field, id);
    snprintf(field, sizeof(field), "%s_version", id);
    set(name, field, "1");
    snprintf(field, sizeof(field), "%s_offset", id);
    set(name, field, offset);
    snprintf(field, sizeof(field), "%s_mtime", id);
    set(name, field, "1700000000000000000");
}

static bool read_for(const char *id1, const char *id2, struct position *out)
{
    struct err e = {0};
    bool found = true;
    if (position_read_foreign(&masters, id1, id2, out, &found, &e))
        fail_msg("%s", e.msg);
    return found;
}

static void check(const struct position *p, const char *id, int64_t offset)
{
    assert_string_equal(p->replid, id);
    assert_int_equal(p->offset, offset);
    assert_int_equal(p->db, 0);
    assert_int_equal(p->time_ms, 1700000000000);
    assert_true(p->foreign);
    assert_false(p->loading || p->far_expiries);
    assert_true(p->marks == 0 && p->epoch == 0);
}

static void index_and_record_are_read_at_their_owners(void **state)
{
    (void)state;
    struct position p;
    assert_ptr_not_equal(owner(POSITION_FOREIGN_INDEX), owner(SHARED));
    assert_ptr_not_equal(owner(OF_SHARD), owner(SHARED));
    assert_false(read_for(ID_A, ID_B, &p));
    put_foreign(SHARED, ID_A, "2500");
    assert_true(read_for(ID_A, ID_B, &p));
    check(&p, ID_A, 2500);
    assert_true(read_for("", ID_A, &p));
    check(&p, ID_A, 2500);
    assert_false(read_for(ID_B, "", &p));
}

static void each_shard_finds_its_own_record(void **state)
{
    (void)state;
    struct position p;
    put_foreign(OF_SHARD, ID_A, "100");
    put_foreign(SHARED, ID_B, "200");
    assert_true(read_for(ID_A, "", &p));
    check(&p, ID_A, 100);
    assert_true(read_for(ID_B, "", &p));
    check(&p, ID_B, 200);
}

static void of_two_ids_the_further_one_counts(void **state)
{
    (void)state;
    struct position p;
    put_foreign(SHARED, ID_A, "100");
    put_foreign(SHARED, ID_B, "101");
    assert_true(read_for(ID_A, ID_B, &p));
    check(&p, ID_B, 101);
    assert_true(read_for(ID_B, ID_A, &p));
    check(&p, ID_B, 101);
}

static void what_is_no_record_is_none(void **state)
{
    (void)state;
    static const char *const offsets[] = {"-1", "5x", "", "9223372036854775808"};
    struct position p;
    for (size_t i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
        put_foreign(SHARED, ID_A, offsets[i]);
        assert_false(read_for(ID_A, "", &p));
    }
    put_foreign(SHARED, ID_A, "5");
    set(SHARED, ID_A "_version", "2");
    assert_false(read_for(ID_A, "", &p));
    set(SHARED, ID_A "_version", "1");
    set(SHARED, ID_A "_runid", ID_B);
    assert_false(read_for(ID_A, "", &p));
    set(SHARED, ID_A "_runid", ID_A);
    assert_true(read_for(ID_A, "", &p));
    set(POSITION_FOREIGN_INDEX, ID_A, "\r\nno such name {");
    assert_false(read_for(ID_A, "", &p));
    set(POSITION_FOREIGN_INDEX, ID_A, "");
    assert_false(read_for(ID_A, "", &p));
    set(POSITION_FOREIGN_INDEX, ID_A, SHARED);
    must(redis_call(owner(SHARED), NULL, NULL, "SET " SHARED " text") == 0);
    assert_false(read_for(ID_A, "", &p));
    must(redis_call(owner(POSITION_FOREIGN_INDEX), NULL, NULL,
                    "SET " POSITION_FOREIGN_INDEX " text") == 0);
    assert_false(read_for(ID_A, "", &p));
}

static void a_slot_that_has_moved_is_an_error_and_not_a_missing_position(void **state)
{
    (void)state;
    struct err e = {0};
    struct position p;
    bool found;
    put_foreign(SHARED, ID_A, "100");
    int slot = slot_of(SLICE(SHARED));
    int16_t right = masters.map.owner[slot];
    masters.map.owner[slot] = (int16_t)(1 - right);
    int rc = position_read_foreign(&masters, ID_A, "", &p, &found, &e);
    masters.map.owner[slot] = right;
    assert_int_equal(rc, ERR_REPLY);
    assert_non_null(strstr(e.msg, "MOVED"));
    assert_true(read_for(ID_A, "", &p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(index_and_record_are_read_at_their_owners, clean),
        cmocka_unit_test_setup(each_shard_finds_its_own_record, clean),
        cmocka_unit_test_setup(of_two_ids_the_further_one_counts, clean),
        cmocka_unit_test_setup(what_is_no_record_is_none, clean),
        cmocka_unit_test_setup(a_slot_that_has_moved_is_an_error_and_not_a_missing_position, clean),
    };
    return cmocka_run_group_tests(tests, start, stop);
}

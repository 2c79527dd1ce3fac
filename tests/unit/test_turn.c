// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "target/turn.h"
#include "target/turn_ahead.h"

enum { A, B, LANES };

// The stream of lane B, at offset 1000.
static struct world {
    struct ownership *o;
    struct turn *turn;
    struct buf stream;
    struct resp_cmd cmd;
    int signs;
} w;

static int lane_of(void *ctx, struct slice node_id)
{
    (void)ctx;
    return slice_eq(node_id, SLICE("node-a")) ? A : B;
}

static void sign(void *ctx)
{
    (void)ctx;
    w.signs++;
}

static int setup(void **state)
{
    (void)state;
    static int16_t owners[SLOT_COUNT];
    for (int s = 0; s < SLOT_COUNT; s++)
        owners[s] = A;
    owners[slot_of(SLICE("mine"))] = B;
    w = (struct world){.o = ownership_new(LANES, owners)};
    w.turn = turn_new(
        &(struct turn_options){.ownership = w.o, .lane = B, .lane_of = lane_of, .sign = sign});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    turn_free(w.turn);
    ownership_free(w.o);
    buf_free(&w.stream);
    resp_cmd_free(&w.cmd);
    return 0;
}

// The command that begins at byte `at` of the stream.
static enum turn_verdict command_at(size_t at)
{
    const char *p = w.stream.p + at;
    assert_int_equal(resp_cmd_parse(&w.cmd, p, w.stream.n - at), 1);
    return turn_command(w.turn, cmd_lookup(w.cmd.argc, w.cmd.argv), &w.cmd, 1000 + at, p,
                        w.stream.n - at);
}

static enum turn_verdict command(const char *line)
{
    buf_clear(&w.stream);
    resp_put_cmd(&w.stream, line);
    return command_at(0);
}

static enum turn_verdict transaction(void)
{
    return turn_transaction(w.turn, 1000, w.stream.p, w.stream.n);
}

static bool waits(const char *key)
{
    int slot;
    return turn_waits(w.turn, &slot) && slot == slot_of(slice_cstr(key));
}

static void commands_wait_for_the_lane_that_has_the_turn_on_their_slot(void **state)
{
    (void)state;
    assert_int_equal(command("INCR mine"), TURN_TAKE);
    assert_int_equal(w.signs, 0);
    assert_int_equal(command("PING"), TURN_TAKE);
    assert_int_equal(command("INCR other"), TURN_WAIT);
    assert_true(waits("other"));
    assert_true(w.signs > 0);
    ownership_lane_gone(w.o, A);
    assert_int_equal(command("INCR other"), TURN_TAKE);
    assert_false(waits("other"));
}

static void one_slot_that_waits_holds_the_command(void **state)
{
    (void)state;
    assert_int_equal(command("MSET mine 1 other 2"), TURN_WAIT);
    assert_true(waits("other"));
}

static void a_transaction_is_judged_when_it_is_whole(void **state)
{
    (void)state;
    resp_put_cmd(&w.stream, "MULTI");
    resp_put_cmd(&w.stream, "INCR mine");
    assert_int_equal(transaction(), TURN_WAIT);
    assert_false(waits("mine"));
    resp_put_cmd(&w.stream, "EXEC");
    resp_put_cmd(&w.stream, "INCR other");
    assert_int_equal(transaction(), TURN_TAKE);
}

static void half_a_command_is_forgotten_when_reading_begins_anew(void **state)
{
    (void)state;
    resp_put_cmd(&w.stream, "MULTI");
    buf_append_cstr(&w.stream, "*2\r\n$4\r\nIN");
    assert_int_equal(transaction(), TURN_WAIT);
    turn_reset(w.turn);
    buf_clear(&w.stream);
    resp_put_cmd(&w.stream, "MULTI");
    resp_put_cmd(&w.stream, "INCR mine");
    resp_put_cmd(&w.stream, "EXEC");
    assert_int_equal(transaction(), TURN_TAKE);
}

static void a_transaction_waits_for_any_of_its_slots(void **state)
{
    (void)state;
    resp_put_cmd(&w.stream, "MULTI");
    resp_put_cmd(&w.stream, "INCR mine");
    resp_put_cmd(&w.stream, "INCR other");
    resp_put_cmd(&w.stream, "EXEC");
    assert_int_equal(transaction(), TURN_WAIT);
    assert_true(waits("other"));
}

static void put_task(const char *state, int slot)
{
    char *task = xasprintf("t1:node-a:node-b:import:%s:%d-%d", state, slot, slot);
    resp_put_cmd(&w.stream, "CLUSTER SYNCSLOTS CONF ASM-TASK %s", task);
    free(task);
}

static void what_an_import_repeats_is_dropped(void **state)
{
    (void)state;
    put_task("connecting", slot_of(SLICE("mine")));
    assert_int_equal(command_at(0), TURN_TAKE);
    size_t at = w.stream.n;
    resp_put_cmd(&w.stream, "FUNCTION RESTORE payload");
    assert_int_equal(command_at(at), TURN_DROP);
    at = w.stream.n;
    resp_put_cmd(&w.stream, "SET mine 1");
    assert_int_equal(command_at(at), TURN_DROP);
    assert_false(turn_drops(w.turn, cmd_by_name(SLICE("ping")), &w.cmd));
    assert_true(turn_drops(w.turn, cmd_by_name(SLICE("set")), &w.cmd));
}

static void outside_of_an_import_functions_are_restored(void **state)
{
    (void)state;
    assert_int_equal(command("FUNCTION RESTORE payload"), TURN_TAKE);
}

static void the_end_of_an_import_is_looked_for_ahead(void **state)
{
    (void)state;
    int slot = slot_of(SLICE("other"));
    resp_put_cmd(&w.stream, "CLUSTER SYNCSLOTS ESTABLISH SOURCE node-a NAME job SLOTSRANGE %d %d",
                 slot, slot);
    assert_int_equal(command_at(0), TURN_TAKE);
    size_t at = w.stream.n;
    resp_put_cmd(&w.stream, "SET other 1");
    assert_int_equal(command_at(at), TURN_WAIT);
    resp_put_cmd(&w.stream, "CLUSTER SYNCSLOTS FINISH STATE FAILED NAME job MESSAGE x");
    assert_int_equal(command_at(at), TURN_WAIT);
    assert_int_equal(command_at(at), TURN_DROP);
}

static void a_move_that_cannot_be_read_is_refused(void **state)
{
    (void)state;
    assert_int_equal(command("CLUSTER SYNCSLOTS CONF ASM-TASK nonsense"), TURN_REFUSE);
    assert_non_null(strstr(turn_reason(w.turn), "migration"));
}

// B stands before `other`, which A has; A waits for B with `mine`, which does not follow.
static void a_lane_that_stands_says_which_slots_do_not_follow(void **state)
{
    (void)state;
    resp_put_cmd(&w.stream, "INCR other");
    resp_put_cmd(&w.stream, "INCR something");
    struct ownership_unit u = {
        .lane = A, .slot = slot_of(SLICE("mine")), .end = 10, .received = 10};
    struct ownership_question q;
    assert_int_equal(ownership_unit(w.o, &u), OWNERSHIP_WAIT);
    assert_true(ownership_question(w.o, &q));
    ownership_answer(w.o, q.id, 1000 + w.stream.n, true);
    ownership_applied(w.o, B, 1000);
    assert_int_equal(command_at(0), TURN_WAIT);
    usleep(250 * 1000);
    assert_int_equal(command_at(0), TURN_WAIT);
    assert_int_equal(ownership_unit(w.o, &u), OWNERSHIP_WAIT); // what B has applied is not stored
    turn_stored(w.turn, 1000);
    assert_int_equal(command_at(0), TURN_WAIT);
    assert_int_equal(ownership_unit(w.o, &u), OWNERSHIP_APPLY);
}

static bool is_own(const char *key)
{
    int slot = slot_of(slice_cstr(key));
    return turn_own(w.turn)[slot >> 3] >> (slot & 7) & 1;
}

static void clearing_says_which_slots_are_ours(void **state)
{
    (void)state;
    assert_true(turn_is_clear(w.turn, cmd_by_name(SLICE("flushall"))));
    assert_true(turn_is_clear(w.turn, cmd_by_name(SLICE("flushdb"))));
    assert_false(turn_is_clear(w.turn, cmd_by_name(SLICE("swapdb"))));
    assert_false(turn_is_clear(w.turn, NULL));
    assert_int_equal(turn_clear(w.turn, 1000, 1010), TURN_TAKE);
    assert_true(is_own("mine"));
    assert_false(is_own("other"));
}

static void clearing_waits_for_a_slot_that_we_are_given(void **state)
{
    (void)state;
    static int16_t owners[SLOT_COUNT];
    for (int s = 0; s < SLOT_COUNT; s++)
        owners[s] = A;
    owners[slot_of(SLICE("mine"))] = owners[slot_of(SLICE("other"))] = B;
    ownership_map(w.o, owners);
    assert_int_equal(turn_clear(w.turn, 1000, 1010), TURN_WAIT);
    assert_true(waits("other"));
    assert_true(w.signs > 0);
    struct ownership_question q;
    while (ownership_question(w.o, &q))
        ownership_answer(w.o, q.id, 900, true);
    ownership_applied(w.o, A, 900);
    assert_int_equal(turn_clear(w.turn, 1000, 1010), TURN_TAKE);
    assert_false(waits("other"));
    assert_true(is_own("other"));
}

static void a_transaction_that_clears_is_told(void **state)
{
    (void)state;
    resp_put_cmd(&w.stream, "MULTI");
    resp_put_cmd(&w.stream, "INCR mine");
    resp_put_cmd(&w.stream, "FLUSHDB");
    resp_put_cmd(&w.stream, "EXEC");
    assert_int_equal(transaction(), TURN_TAKE);
    assert_true(turn_clears(w.turn));
    assert_int_equal(command("INCR mine"), TURN_TAKE);
    assert_false(turn_clears(w.turn));
}

// As above, but that a FLUSHALL follows.
static void a_lane_that_stands_before_a_clearing_has_all_slots_ahead(void **state)
{
    (void)state;
    resp_put_cmd(&w.stream, "INCR other");
    resp_put_cmd(&w.stream, "FLUSHALL");
    uint64_t key = turn_key_hash(SLICE("mine"));
    struct ownership_unit u = {.lane = A,
                               .slot = slot_of(SLICE("mine")),
                               .end = 10,
                               .received = 10,
                               .keys = &key,
                               .keys_n = 1};
    struct ownership_question q;
    assert_int_equal(ownership_unit(w.o, &u), OWNERSHIP_WAIT);
    assert_true(ownership_question(w.o, &q));
    ownership_answer(w.o, q.id, 1000 + w.stream.n, true);
    ownership_applied(w.o, B, 1000);
    turn_stored(w.turn, 1000);
    assert_int_equal(command_at(0), TURN_WAIT);
    usleep(250 * 1000);
    assert_int_equal(command_at(0), TURN_WAIT);
    assert_int_equal(ownership_unit(w.o, &u), OWNERSHIP_WAIT);
}

static bool a_may_go(const char *key, struct ownership_unit *u)
{
    uint64_t hash = turn_key_hash(slice_cstr(key));
    u->keys = &hash;
    u->keys_n = 1;
    u->end++; // another unit
    enum ownership_verdict v = ownership_unit(w.o, u);
    if (v != OWNERSHIP_WAIT)
        return true;
    assert_int_equal(command_at(0), TURN_WAIT);
    return ownership_unit(w.o, u) == OWNERSHIP_APPLY;
}

// Units of both slots follow in both lanes, so only the keys tell.
static void a_lane_that_stands_says_which_keys_do_not_follow(void **state)
{
    (void)state;
    resp_put_cmd(&w.stream, "INCR other");
    resp_put_cmd(&w.stream, "DEL {mine}1");
    resp_put_cmd(&w.stream, "MULTI");
    resp_put_cmd(&w.stream, "MSET {mine}2 1 {mine}3 1");
    resp_put_cmd(&w.stream, "EXEC");
    struct ownership_unit u = {
        .lane = A, .slot = slot_of(SLICE("mine")), .end = 10, .received = 1000};
    struct ownership_question q;
    assert_int_equal(ownership_unit(w.o, &u), OWNERSHIP_WAIT);
    assert_true(ownership_question(w.o, &q));
    ownership_answer(w.o, q.id, 1000 + w.stream.n, true);
    turn_stored(w.turn, 1000);
    ownership_applied(w.o, B, 1000);
    assert_int_equal(command_at(0), TURN_WAIT);
    usleep(250 * 1000);
    assert_true(a_may_go("{mine}4", &u));
    assert_false(a_may_go("{mine}1", &u));
    assert_false(a_may_go("{mine}3", &u));
    assert_true(a_may_go("{mine}5", &u));
}

// Its keys were not noted when they were looked at: the slot did not move.
static void what_follows_is_looked_at_again_when_another_slot_begins_to_move(void **state)
{
    (void)state;
    resp_put_cmd(&w.stream, "INCR other");
    resp_put_cmd(&w.stream, "DEL {mine}1");
    turn_stored(w.turn, 1000);
    ownership_applied(w.o, B, 1000);
    assert_int_equal(command_at(0), TURN_WAIT);
    usleep(250 * 1000);
    assert_int_equal(command_at(0), TURN_WAIT);
    struct ownership_unit u = {
        .lane = A, .slot = slot_of(SLICE("mine")), .end = 10, .received = 1000};
    struct ownership_question q;
    assert_int_equal(ownership_unit(w.o, &u), OWNERSHIP_WAIT);
    while (ownership_question(w.o, &q))
        ownership_answer(w.o, q.id, 1000 + w.stream.n, true);
    assert_false(a_may_go("{mine}1", &u));
    assert_true(a_may_go("{mine}2", &u));
}

static uint64_t second_key_follows(const void *ctx, uint64_t key)
{
    (void)ctx;
    return key == turn_key_hash(SLICE("{other}2")) ? 500 : UINT64_MAX;
}

static uint64_t no_key_follows(const void *ctx, uint64_t key)
{
    (void)ctx, (void)key;
    return UINT64_MAX;
}

static void the_keys_of_a_transaction_are_all_pleaded_for(void **state)
{
    (void)state;
    ownership_applied(w.o, A, 100);
    resp_put_cmd(&w.stream, "MULTI");
    resp_put_cmd(&w.stream, "INCR {other}1");
    resp_put_cmd(&w.stream, "INCR {other}2");
    resp_put_cmd(&w.stream, "EXEC");
    assert_int_equal(transaction(), TURN_WAIT); // from now on the slot moves
    assert_int_equal(transaction(), TURN_WAIT);
    struct ownership_question q;
    while (ownership_question(w.o, &q))
        ownership_answer(w.o, q.id, 900, true);
    static uint64_t first[SLOT_COUNT];
    memset(first, 0xff, sizeof(first));
    first[slot_of(SLICE("other"))] = 200;
    struct ownership_ahead ahead = {.upto = 1000,
                                    .unsettled = ownership_unsettled(w.o),
                                    .first = first,
                                    .first_of = second_key_follows};
    ownership_ahead(w.o, A, &ahead);
    assert_int_equal(transaction(), TURN_WAIT);
    ahead.first_of = no_key_follows;
    ownership_ahead(w.o, A, &ahead);
    assert_int_equal(transaction(), TURN_TAKE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(commands_wait_for_the_lane_that_has_the_turn_on_their_slot),
        TEST(one_slot_that_waits_holds_the_command),
        TEST(a_transaction_is_judged_when_it_is_whole),
        TEST(half_a_command_is_forgotten_when_reading_begins_anew),
        TEST(a_transaction_waits_for_any_of_its_slots),
        TEST(what_an_import_repeats_is_dropped),
        TEST(outside_of_an_import_functions_are_restored),
        TEST(the_end_of_an_import_is_looked_for_ahead),
        TEST(a_move_that_cannot_be_read_is_refused),
        TEST(a_lane_that_stands_says_which_slots_do_not_follow),
        TEST(clearing_says_which_slots_are_ours),
        TEST(clearing_waits_for_a_slot_that_we_are_given),
        TEST(a_transaction_that_clears_is_told),
        TEST(a_lane_that_stands_before_a_clearing_has_all_slots_ahead),
        TEST(a_lane_that_stands_says_which_keys_do_not_follow),
        TEST(what_follows_is_looked_at_again_when_another_slot_begins_to_move),
        TEST(the_keys_of_a_transaction_are_all_pleaded_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

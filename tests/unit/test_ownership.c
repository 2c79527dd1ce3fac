// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "flow/ownership.h"

enum { A, B, C, LANES };
#define S 100

static int16_t owners[SLOT_COUNT];

static struct ownership *world(void)
{
    for (int s = 0; s < SLOT_COUNT; s++)
        owners[s] = A;
    struct ownership *o = ownership_new(LANES, owners);
    ownership_map(o, owners);
    return o;
}

static void map(struct ownership *o, int owner)
{
    owners[S] = (int16_t)owner;
    ownership_map(o, owners);
}

static enum ownership_verdict unit(struct ownership *o, int lane, uint64_t end, bool restore)
{
    struct ownership_unit u = {
        .lane = lane, .slot = S, .restore = restore, .end = end, .received = end + 50};
    return ownership_unit(o, &u);
}
#define WRITES(lane, end) unit(o, lane, end, false)
#define RESTORES(lane, end) unit(o, lane, end, true)

// Answers all that is asked; a lane's offset is offset[lane].
static void answer(struct ownership *o, const uint64_t *offset)
{
    struct ownership_question q;
    while (ownership_question(o, &q))
        ownership_answer(o, q.id, offset[q.lane], true);
}

static void an_owner_writes_without_asking_and_nobody_else_does(void **state)
{
    (void)state;
    struct ownership *o = world();
    assert_true(ownership_settled(ownership_fast(o), A, S));
    assert_false(ownership_settled(ownership_fast(o), B, S));
    assert_int_equal(WRITES(A, 10), OWNERSHIP_APPLY);
    struct ownership_stats st;
    ownership_get_stats(o, &st);
    assert_int_equal(st.moving, 0);
    ownership_free(o);
}

static void an_import_waits_until_the_exporter_has_applied_what_it_had_then(void **state)
{
    (void)state;
    struct ownership *o = world();
    ownership_applied(o, A, 90);
    assert_int_equal(RESTORES(B, 500), OWNERSHIP_WAIT);
    answer(o, (uint64_t[]){100, 600, 0});
    assert_int_equal(RESTORES(B, 500), OWNERSHIP_WAIT);
    assert_int_equal(WRITES(A, 95), OWNERSHIP_APPLY);
    uint64_t before = ownership_changes(o);
    ownership_applied(o, A, 100);
    assert_true(ownership_changes(o) > before);
    assert_int_equal(RESTORES(B, 500), OWNERSHIP_APPLY);
    assert_int_equal(WRITES(B, 540), OWNERSHIP_APPLY); // one question covers what was received
    assert_int_equal(WRITES(B, 700), OWNERSHIP_WAIT);  // and no more
    ownership_free(o);
}

static void a_map_gives_the_slot_to_the_new_owner_for_good(void **state)
{
    (void)state;
    struct ownership *o = world();
    map(o, B);
    struct ownership_question q;
    assert_true(ownership_question(o, &q));
    assert_int_equal(q.lane, A);
    assert_int_equal(q.slot, S);
    ownership_answer(o, q.id, 100, false); // still has keys: does not count
    answer(o, (uint64_t[]){100, 600, 0});
    ownership_applied(o, A, 200);
    assert_int_equal(WRITES(B, 500), OWNERSHIP_WAIT);
    map(o, B);
    answer(o, (uint64_t[]){200, 600, 0});
    assert_int_equal(WRITES(B, 500), OWNERSHIP_APPLY);
    assert_true(ownership_settled(ownership_fast(o), B, S));
    assert_false(ownership_settled(ownership_fast(o), A, S));
    ownership_free(o);
}

// Both streams come out of a backlog, so every question is answered too late.
static void a_slot_that_came_back_unseen_goes_to_the_other_lane_first(void **state)
{
    (void)state;
    struct ownership *o = world();
    const uint64_t late[] = {1000, 1000, 0};
    ownership_applied(o, A, 99);
    assert_int_equal(RESTORES(A, 100), OWNERSHIP_WAIT); // back from B
    answer(o, late);
    assert_int_equal(RESTORES(A, 100), OWNERSHIP_WAIT);
    assert_int_equal(RESTORES(B, 10), OWNERSHIP_APPLY); // A -> B
    assert_int_equal(RESTORES(B, 20), OWNERSHIP_APPLY);
    assert_int_equal(RESTORES(A, 100), OWNERSHIP_WAIT);
    assert_int_equal(WRITES(B, 30), OWNERSHIP_APPLY);
    ownership_applied(o, B, 1000);
    answer(o, late);
    assert_int_equal(RESTORES(A, 100), OWNERSHIP_APPLY);
    struct ownership_stats st;
    ownership_get_stats(o, &st);
    assert_int_equal(st.bounced, 1);
    ownership_free(o);
}

static void a_turn_is_handed_on_when_what_was_done_in_it_is_stored(void **state)
{
    (void)state;
    struct ownership *o = world();
    struct ownership_unit back = {
        .lane = A, .slot = S, .restore = true, .begin = 99, .end = 100, .received = 150};
    ownership_applied(o, A, 80);
    assert_int_equal(WRITES(A, 90), OWNERSHIP_APPLY); // under way
    assert_int_equal(ownership_unit(o, &back), OWNERSHIP_WAIT);
    assert_int_equal(RESTORES(B, 10), OWNERSHIP_WAIT);
    map(o, B);
    assert_int_equal(RESTORES(B, 10), OWNERSHIP_WAIT);
    ownership_applied(o, A, 99);
    assert_int_equal(RESTORES(B, 10), OWNERSHIP_APPLY);
    ownership_free(o);
}

static void a_shard_that_is_gone_is_not_waited_for(void **state)
{
    (void)state;
    struct ownership *o = world();
    int for_lane;
    map(o, B);
    assert_int_equal(WRITES(B, 500), OWNERSHIP_WAIT);
    assert_int_equal(ownership_waiting(o, B, &for_lane), 1);
    assert_int_equal(for_lane, A);
    ownership_lane_gone(o, A);
    answer(o, (uint64_t[]){0, 600, 0});
    assert_int_equal(WRITES(B, 500), OWNERSHIP_APPLY);
    assert_int_equal(ownership_waiting(o, B, &for_lane), 0);
    ownership_free(o);
}

static void offsets_of_an_older_history_are_asked_for_again(void **state)
{
    (void)state;
    struct ownership *o = world();
    map(o, B);
    answer(o, (uint64_t[]){100000, 600, 0});
    assert_int_equal(WRITES(B, 500), OWNERSHIP_WAIT);
    ownership_lane_reset(o, A, 40);
    answer(o, (uint64_t[]){40, 600, 0});
    assert_int_equal(WRITES(B, 500), OWNERSHIP_APPLY);
    ownership_free(o);
}

static struct ownership_move parse(const char *const *words, bool *is_move, int *rc)
{
    struct slice argv[16];
    int argc = 0;
    for (; words[argc]; argc++)
        argv[argc] = slice_cstr(words[argc]);
    struct ownership_move m;
    struct err e = {0};
    *rc = ownership_parse_move(argc, argv, &m, is_move, &e);
    return m;
}
#define SYNCSLOTS(...) ((const char *const[]){"CLUSTER", "SYNCSLOTS", __VA_ARGS__, NULL})
#define TASK(task) SYNCSLOTS("CONF", "ASM-TASK", task)

static void moves_are_read_as_servers_write_them(void **state)
{
    (void)state;
    const struct {
        const char *const *words;
        bool is_move;
        enum ownership_phase phase;
    } cases[] = {
        {TASK("b4f4:8595:66a6:import:connecting:8999-8999"), true, OWNERSHIP_IMPORT_REPLAYED},
        {TASK("b4f4:8595:66a6:import:completed:8999-8999"), true, OWNERSHIP_IMPORT_DONE},
        {TASK("b4f4:8595:66a6:import:failed:8999-8999"), true, OWNERSHIP_IMPORT_FAILED},
        {TASK("b4f4:8595:66a6:migrate:wait-rdbchannel:8999-8999"), false, 0},
        {TASK("b4f4:8595:66a6:migrate:failed:8999-8999"), false, 0},
        {TASK("b4f4:8595:66a6:migrate:completed:8999-8999"), true, OWNERSHIP_EXPORT_DONE},
        {SYNCSLOTS("CONF", "SLOT-INFO", "8999:5010:1"), false, 0},
        {SYNCSLOTS("ESTABLISH", "SOURCE", "8595", "NAME", "b4f4", "SLOTSRANGE", "8999", "8999"),
         true, OWNERSHIP_IMPORT_MOVED},
        {SYNCSLOTS("FINISH", "STATE", "SUCCESS", "NAME", "b4f4", "MESSAGE", ""), true,
         OWNERSHIP_IMPORT_DONE},
        {SYNCSLOTS("FINISH", "STATE", "FAILED", "NAME", "b4f4", "MESSAGE", "why"), true,
         OWNERSHIP_IMPORT_FAILED},
        {SYNCSLOTS("SNAPSHOT-EOF"), false, 0},
        {SYNCSLOTS("ACK"), false, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool is_move;
        int rc;
        struct ownership_move m = parse(cases[i].words, &is_move, &rc);
        assert_int_equal(rc, 0);
        assert_int_equal(is_move, cases[i].is_move);
        if (!is_move)
            continue;
        assert_int_equal(m.phase, cases[i].phase);
        assert_true(slice_eq(m.id, SLICE("b4f4")));
        if (m.ranges_n) {
            assert_true(slice_eq(m.source, SLICE("8595")));
            assert_int_equal(m.ranges[0].first, 8999);
            assert_int_equal(m.ranges[0].last, 8999);
        }
    }
}

static void ranges_that_are_none_are_an_error_of_the_protocol(void **state)
{
    (void)state;
    const char *const *bad[] = {
        TASK("b4f4:8595:66a6:import:connecting:"),
        TASK("b4f4:8595:66a6:import:connecting:5"),
        TASK("b4f4:8595:66a6:import:connecting:9-5"),
        TASK("b4f4:8595:66a6:import:connecting:0-16384"),
        TASK("b4f4:8595:66a6:import:connecting:0-9 x-y"),
        TASK("b4f4:8595:66a6:import:connecting:0-99999999999999999999"),
        SYNCSLOTS("ESTABLISH", "NAME", "b4f4", "SLOTSRANGE", "5"),
        SYNCSLOTS("ESTABLISH", "NAME", "b4f4", "SLOTSRANGE", "-1", "5"),
        SYNCSLOTS("FINISH", "STATE", "SUCCESS"),
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        bool is_move;
        int rc;
        parse(bad[i], &is_move, &rc);
        assert_int_equal(rc, ERR_PROTOCOL);
    }
}

static void move_event(struct ownership *o, int lane, enum ownership_phase phase, uint64_t end,
                       int peer)
{
    struct ownership_move m = {
        .phase = phase, .id = SLICE("job"), .ranges_n = 1, .ranges = {{S, S + 1}}};
    struct err e = {0};
    assert_int_equal(ownership_move(o, lane, &m, end, peer, &e), 0);
}

static void a_replayed_import_is_dropped_and_its_owner_begins_behind_the_old_one(void **state)
{
    (void)state;
    struct ownership *o = world();
    move_event(o, B, OWNERSHIP_IMPORT_REPLAYED, 400, A);
    assert_int_equal(WRITES(B, 420), OWNERSHIP_DROP);
    move_event(o, B, OWNERSHIP_IMPORT_DONE, 450, A);
    assert_int_equal(WRITES(B, 440), OWNERSHIP_DROP);
    assert_int_equal(WRITES(B, 460), OWNERSHIP_WAIT);
    move_event(o, A, OWNERSHIP_EXPORT_DONE, 70, B);
    ownership_applied(o, A, 70);
    assert_int_equal(WRITES(B, 460), OWNERSHIP_APPLY);
    ownership_free(o);
}

static void a_failed_import_leaves_nothing(void **state)
{
    (void)state;
    struct ownership *o = world();
    move_event(o, B, OWNERSHIP_IMPORT_MOVED, 400, A);
    assert_int_equal(WRITES(B, 420), OWNERSHIP_LOOK);
    move_event(o, B, OWNERSHIP_IMPORT_FAILED, 450, A);
    assert_int_equal(WRITES(B, 420), OWNERSHIP_DROP);
    ownership_applied(o, B, 460);
    assert_true(ownership_settled(ownership_fast(o), A, S));
    ownership_free(o);
}

static void what_is_stored_brings_back_turns_and_moves(void **state)
{
    (void)state;
    struct ownership *o = world();
    struct buf b = {0}, a = {0};
    struct err e = {0};
    assert_false(ownership_put(o, B, &b));
    map(o, B);
    answer(o, (uint64_t[]){100, 600, 0});
    ownership_applied(o, A, 100);
    move_event(o, B, OWNERSHIP_IMPORT_REPLAYED, 700, C);
    assert_true(ownership_put(o, B, &b));
    assert_false(ownership_put(o, B, &b));
    ownership_free(o);
    o = world();
    owners[S] = A;
    assert_int_equal(ownership_restore(o, B, buf_slice(&b), &e), 0);
    assert_int_equal(WRITES(B, 690), OWNERSHIP_APPLY);
    assert_int_equal(WRITES(B, 710), OWNERSHIP_DROP);
    assert_true(ownership_put(o, B, &a));
    assert_true(slice_eq(buf_slice(&a), buf_slice(&b)));
    ownership_free(o);
    buf_free(&a);
    buf_free(&b);
}

// A lane that stands: what follows it.
static struct follows {
    uint64_t first[SLOT_COUNT];
    uint64_t key, at; // one key of a slot that moves
} follows;

static uint64_t first_of(const void *ctx, uint64_t key)
{
    (void)ctx;
    return key == follows.key ? follows.at : UINT64_MAX;
}

static void nothing_follows(void)
{
    for (int s = 0; s < SLOT_COUNT; s++)
        follows.first[s] = UINT64_MAX;
    follows.at = UINT64_MAX;
}

static void stands(struct ownership *o, int lane, uint64_t upto)
{
    struct ownership_ahead a = {.upto = upto,
                                .unsettled = ownership_unsettled(o),
                                .first = follows.first,
                                .first_of = first_of};
    ownership_ahead(o, lane, &a);
}

static void a_lane_that_stands_still_is_not_waited_for_with_slots_that_do_not_follow(void **state)
{
    (void)state;
    struct ownership *o = world();
    nothing_follows();
    ownership_applied(o, A, 100);
    assert_int_equal(RESTORES(B, 500), OWNERSHIP_WAIT);
    answer(o, (uint64_t[]){300, 500, 0});
    assert_int_equal(RESTORES(B, 500), OWNERSHIP_WAIT);
    follows.first[S] = 250;
    stands(o, A, 1000);
    assert_int_equal(RESTORES(B, 500), OWNERSHIP_WAIT);
    follows.first[S] = UINT64_MAX;
    stands(o, A, 299);
    assert_int_equal(RESTORES(B, 500), OWNERSHIP_WAIT);
    uint64_t before = ownership_changes(o);
    stands(o, A, 300);
    assert_true(ownership_changes(o) > before);
    assert_int_equal(RESTORES(B, 500), OWNERSHIP_APPLY);
    ownership_free(o);
}

static enum ownership_verdict key_unit(struct ownership *o, int slot, int lane, uint64_t end,
                                       uint64_t key)
{
    struct ownership_unit u = {.lane = lane,
                               .slot = slot,
                               .restore = true,
                               .end = end,
                               .received = 1000,
                               .keys = &key,
                               .keys_n = 1};
    return ownership_unit(o, &u);
}

// S moves to B, S + 1 to A; the offsets were asked when both lanes were far behind, and units of
// either slot follow in the stream of the lane that has it.
static void slots_that_move_both_ways_at_once_do_not_stop_two_lanes(void **state)
{
    (void)state;
    struct ownership *o = world();
    owners[S + 1] = B;
    ownership_free(o);
    o = ownership_new(LANES, owners);
    nothing_follows();
    ownership_applied(o, A, 100);
    ownership_applied(o, B, 200);
    assert_int_equal(key_unit(o, S + 1, A, 110, 7), OWNERSHIP_WAIT);
    assert_int_equal(key_unit(o, S, B, 210, 5), OWNERSHIP_WAIT);
    answer(o, (uint64_t[]){900, 900, 0});
    follows.first[S] = follows.first[S + 1] = 300;
    follows.key = 5;
    follows.at = 400; // only A is before a unit of a key that the other waits with
    stands(o, A, 1000);
    assert_int_equal(key_unit(o, S, B, 210, 5), OWNERSHIP_WAIT);
    stands(o, B, 899);
    assert_int_equal(key_unit(o, S + 1, A, 110, 7), OWNERSHIP_WAIT);
    stands(o, B, 900);
    assert_int_equal(key_unit(o, S + 1, A, 110, 7), OWNERSHIP_APPLY);
    assert_int_equal(key_unit(o, S, B, 210, 5), OWNERSHIP_WAIT);
    // The word was given for that unit, not for the next one.
    assert_int_equal(key_unit(o, S + 1, A, 120, 8), OWNERSHIP_WAIT);
    ownership_free(o);
}

static void what_was_looked_at_before_a_slot_began_to_move_does_not_count(void **state)
{
    (void)state;
    struct ownership *o = world();
    nothing_follows();
    follows.first[S] = 300;
    struct ownership_ahead before = {.upto = 1000,
                                     .unsettled = ownership_unsettled(o),
                                     .first = follows.first,
                                     .first_of = first_of};
    assert_int_equal(key_unit(o, S, B, 210, 5), OWNERSHIP_WAIT);
    answer(o, (uint64_t[]){900, 900, 0});
    ownership_ahead(o, A, &before);
    assert_int_equal(key_unit(o, S, B, 210, 5), OWNERSHIP_WAIT);
    stands(o, A, 1000);
    assert_int_equal(key_unit(o, S, B, 210, 5), OWNERSHIP_APPLY);
    ownership_free(o);
}

static void
a_new_owner_goes_before_units_of_other_keys_but_not_before_its_own_next_tenure(void **state)
{
    (void)state;
    struct ownership *o = world();
    nothing_follows();
    follows.first[S] = 300;
    map(o, B);
    assert_int_equal(key_unit(o, S, B, 210, 5), OWNERSHIP_WAIT);
    answer(o, (uint64_t[]){900, 150, 0});
    stands(o, A, 1000);
    assert_int_equal(key_unit(o, S, B, 210, 5), OWNERSHIP_APPLY);
    map(o, A);
    assert_int_equal(key_unit(o, S, B, 220, 5), OWNERSHIP_WAIT);
    stands(o, A, 1000);
    assert_int_equal(key_unit(o, S, B, 220, 5), OWNERSHIP_WAIT); // where it ends is not known yet
    answer(o, (uint64_t[]){950, 219, 0});
    map(o, B);
    answer(o, (uint64_t[]){960, 250, 0});
    assert_int_equal(key_unit(o, S, B, 220, 5), OWNERSHIP_WAIT);
    ownership_free(o);
}

static void a_snapshot_waits_until_its_slots_have_come(void **state)
{
    (void)state;
    struct ownership *o = world();
    assert_true(ownership_may_load(o, B));
    map(o, B);
    assert_false(ownership_may_load(o, B));
    assert_true(ownership_may_load(o, A));
    answer(o, (uint64_t[]){100, 500, 0});
    assert_false(ownership_may_load(o, B));
    ownership_applied(o, A, 100);
    assert_true(ownership_may_load(o, B));
    ownership_free(o);
}

static void a_lane_that_comes_back_is_waited_for_again(void **state)
{
    (void)state;
    struct ownership *o = world();
    ownership_lane_gone(o, A);
    assert_int_equal(WRITES(B, 500), OWNERSHIP_APPLY);
    ownership_lane_here(o, A);
    assert_int_equal(WRITES(B, 600), OWNERSHIP_WAIT);
    ownership_free(o);
}

static void owners_of_the_first_map_are_stored(void **state)
{
    (void)state;
    struct err e = {0};
    struct buf b = {0};
    struct ownership *o = ownership_new(LANES, NULL);
    for (int s = 0; s < SLOT_COUNT; s++)
        owners[s] = A;
    ownership_map(o, owners);
    assert_true(ownership_put(o, A, &b));
    assert_true(b.n < 40);
    ownership_free(o);
    // The slot moved while nobody looked: what A has left comes before.
    o = ownership_new(LANES, NULL);
    assert_int_equal(ownership_restore(o, A, buf_slice(&b), &e), 0);
    ownership_applied(o, A, 50);
    map(o, B);
    assert_int_equal(WRITES(A, 90), OWNERSHIP_APPLY);
    assert_int_equal(WRITES(B, 10), OWNERSHIP_WAIT);
    ownership_free(o);
    buf_free(&b);
}

static int in_another_order(void *ctx, struct slice node)
{
    (void)ctx;
    return node.p[0] == 'b' ? C : OWNERSHIP_NOBODY;
}

// The process that reads the record may have seen the shards in another order.
static void where_an_import_comes_from_is_stored_by_node(void **state)
{
    (void)state;
    struct ownership_move m = {.phase = OWNERSHIP_IMPORT_MOVED,
                               .id = SLICE("job"),
                               .source = SLICE("b222222222222222222222222222222222222222"),
                               .ranges_n = 1,
                               .ranges = {{S, S}}};
    struct err e = {0};
    struct buf b = {0};
    struct ownership *o = world();
    assert_int_equal(ownership_move(o, A, &m, 400, B, &e), 0);
    assert_true(ownership_put(o, A, &b));
    ownership_free(o);
    o = world();
    ownership_names(o, in_another_order, NULL);
    assert_int_equal(ownership_restore(o, A, buf_slice(&b), &e), 0);
    m.phase = OWNERSHIP_IMPORT_DONE;
    assert_int_equal(ownership_move(o, A, &m, 450, OWNERSHIP_NOBODY, &e), 0);
    struct ownership_question q = {0};
    assert_true(ownership_question(o, &q));
    for (; q.lane != C; assert_true(ownership_question(o, &q)))
        assert_int_not_equal(q.lane, B);
    ownership_free(o);
    buf_free(&b);
}

static void who_comes_next_may_be_restored_before_who_has_the_turn(void **state)
{
    (void)state;
    struct err e = {0};
    struct ownership *o = ownership_new(LANES, NULL);
    assert_int_equal(ownership_restore(o, B, SLICE("n100:3:20000:90:10;"), &e), 0);
    ownership_applied(o, B, 50);
    assert_int_equal(ownership_restore(o, A, SLICE("t0-16383:1:0;"), &e), 0);
    ownership_applied(o, A, 80);
    map(o, B);
    assert_int_equal(WRITES(B, 60), OWNERSHIP_WAIT);
    ownership_applied(o, A, 90);
    assert_int_equal(WRITES(B, 60), OWNERSHIP_APPLY);
    ownership_free(o);
    // What A has stored is lost.
    o = ownership_new(LANES, NULL);
    assert_int_equal(ownership_restore(o, B, SLICE("n100:3:20000:90:10;"), &e), 0);
    ownership_applied(o, B, 50);
    owners[S] = OWNERSHIP_NOBODY;
    ownership_map(o, owners);
    assert_int_equal(WRITES(B, 60), OWNERSHIP_WAIT);
    map(o, B);
    assert_int_equal(WRITES(B, 60), OWNERSHIP_APPLY);
    ownership_free(o);
}

// C's record has what lies between those of A and B, and it comes last.
static void no_turn_is_given_before_all_records_are_restored(void **state)
{
    (void)state;
    struct err e = {0};
    struct ownership *o = ownership_new(LANES, NULL);
    assert_int_equal(ownership_restore(o, A, SLICE("t0-16383:1:0;"), &e), 0);
    ownership_applied(o, A, 500);
    assert_int_equal(ownership_restore(o, B, SLICE("n100:3:30001:90:10;"), &e), 0); // of C: 90
    ownership_applied(o, B, 50);
    assert_int_equal(ownership_restore(o, C, SLICE("t100-100:30000:20;"), &e), 0);
    ownership_applied(o, C, 80);
    map(o, B);
    assert_int_equal(WRITES(B, 60), OWNERSHIP_WAIT);
    assert_int_equal(WRITES(C, 85), OWNERSHIP_APPLY);
    ownership_applied(o, C, 90);
    assert_int_equal(WRITES(B, 60), OWNERSHIP_APPLY);
    ownership_free(o);
}

static void a_replayed_import_is_known_by_its_bytes(void **state)
{
    (void)state;
    struct ownership *o = world();
    assert_false(ownership_replays(o, B, 750));
    move_event(o, B, OWNERSHIP_IMPORT_REPLAYED, 700, A);
    assert_false(ownership_replays(o, B, 700));
    assert_true(ownership_replays(o, B, 750));
    assert_false(ownership_replays(o, A, 750));
    move_event(o, B, OWNERSHIP_IMPORT_DONE, 800, A);
    assert_true(ownership_replays(o, B, 800));
    assert_false(ownership_replays(o, B, 801));
    ownership_free(o);
}

// What a FLUSHALL of the lane that ends there does with slot S.
enum cleared { TAKES, LEAVES, WAITS, MIXED };

static enum cleared clears(struct ownership *o, int lane, uint64_t end)
{
    uint8_t own[SLOT_SET_BYTES];
    struct ownership_unit u = {.lane = lane, .end = end};
    enum ownership_clear v = ownership_clear(o, &u, own);
    if (v != OWNERSHIP_CLEAR) {
        assert_int_equal(u.slot, S);
        return v == OWNERSHIP_CLEAR_WAIT ? WAITS : MIXED;
    }
    bool others = own[(S + 9) >> 3] >> ((S + 9) & 7) & 1;
    assert_int_equal(others, lane == A);
    return own[S >> 3] >> (S & 7) & 1 ? TAKES : LEAVES;
}

static void clearing_takes_the_slots_of_the_lane_alone(void **state)
{
    (void)state;
    struct ownership *o = world();
    assert_int_equal(clears(o, A, 10), TAKES);
    assert_int_equal(clears(o, B, 10), LEAVES);
    ownership_free(o);
}

static void clearing_goes_with_the_slot_to_its_new_owner(void **state)
{
    (void)state;
    struct ownership *o = world();
    map(o, B);
    assert_int_equal(clears(o, B, 650), WAITS);
    answer(o, (uint64_t[]){100, 600, 0});
    assert_int_equal(clears(o, A, 90), TAKES);
    assert_int_equal(clears(o, A, 110), LEAVES);
    assert_int_equal(clears(o, C, 10), LEAVES);
    assert_int_equal(clears(o, B, 650), WAITS);
    ownership_applied(o, A, 100);
    assert_int_equal(clears(o, B, 590), TAKES); // what it has brought along by then
    assert_int_equal(clears(o, B, 650), TAKES);
    assert_int_equal(clears(o, A, 120), LEAVES);
    assert_true(ownership_settled(ownership_fast(o), B, S));
    ownership_free(o);
}

static void clearing_before_an_atomic_import_leaves_what_that_brings(void **state)
{
    (void)state;
    struct ownership *o = world();
    struct buf record = {0};
    struct err e = {0};
    move_event(o, A, OWNERSHIP_EXPORT_DONE, 70, B);
    answer(o, (uint64_t[]){100, 450, 0});
    ownership_applied(o, A, 70);
    assert_int_equal(clears(o, B, 400), LEAVES);
    assert_int_equal(clears(o, B, 500), TAKES);
    assert_true(ownership_put(o, B, &record));
    ownership_free(o);
    o = world();
    owners[S] = A;
    assert_int_equal(ownership_restore(o, B, buf_slice(&record), &e), 0);
    assert_int_equal(clears(o, B, 400), LEAVES);
    assert_int_equal(clears(o, B, 500), TAKES);
    ownership_free(o);
    buf_free(&record);
}

static void clearing_what_is_half_moved_away_is_not_known(void **state)
{
    (void)state;
    struct ownership *o = world();
    assert_int_equal(RESTORES(B, 500), OWNERSHIP_WAIT);
    assert_int_equal(clears(o, A, 80), TAKES); // B's key comes behind it
    answer(o, (uint64_t[]){100, 600, 0});
    ownership_applied(o, A, 100);
    assert_int_equal(RESTORES(B, 500), OWNERSHIP_APPLY);
    assert_int_equal(clears(o, A, 120), MIXED);
    assert_int_equal(clears(o, B, 520), WAITS); // it will have all of the slot
    map(o, B);
    answer(o, (uint64_t[]){150, 600, 0});
    ownership_applied(o, A, 150);
    assert_int_equal(clears(o, B, 520), TAKES);
    ownership_free(o);
}

static void a_full_sync_makes_clearing_possible_again(void **state)
{
    (void)state;
    struct ownership *o = world();
    assert_int_equal(RESTORES(B, 500), OWNERSHIP_WAIT);
    answer(o, (uint64_t[]){100, 600, 0});
    ownership_applied(o, A, 100);
    assert_int_equal(RESTORES(B, 500), OWNERSHIP_APPLY);
    ownership_lane_reset(o, A, 0);
    assert_int_equal(clears(o, A, 120), TAKES);
    ownership_free(o);
}

// ---- several processes ----

static void store(struct ownership *o, int lane, struct buf *record)
{
    buf_clear(record);
    assert_true(ownership_put(o, lane, record));
    ownership_stored(o, lane);
}

// The records of lanes that may be alone; A has all slots.
static void parted(struct buf *records)
{
    struct ownership *o = ownership_new(LANES, NULL);
    for (int s = 0; s < SLOT_COUNT; s++)
        owners[s] = A;
    ownership_map(o, owners);
    store(o, A, &records[A]);
    assert_true(ownership_part(o));
    for (int l = 0; l < LANES; l++)
        store(o, l, &records[l]);
    ownership_free(o);
}

static struct ownership *process_with(const struct buf *records, int lane)
{
    struct err e;
    struct ownership *o = ownership_new(LANES, NULL);
    ownership_hold(o);
    for (int l = 0; l < LANES; l++)
        ownership_lane_elsewhere(o, l);
    ownership_lane_here(o, lane);
    assert_int_equal(ownership_restore(o, lane, buf_slice(&records[lane]), &e), 0);
    return o;
}

static void free_records(struct buf *records)
{
    for (int l = 0; l < LANES; l++)
        buf_free(&records[l]);
}

static void apart_a_lane_writes_what_its_record_has_and_no_turn_goes_on(void **state)
{
    (void)state;
    struct buf records[LANES] = {0};
    parted(records);
    struct ownership *o = process_with(records, A);
    assert_true(ownership_may_be_alone(o, A));
    map(o, A);
    assert_true(ownership_quiet(o));
    assert_int_equal(WRITES(A, 10), OWNERSHIP_APPLY);
    map(o, B);
    answer(o, (uint64_t[]){100, 600, 0});
    ownership_applied(o, A, 100);
    assert_false(ownership_quiet(o));
    assert_int_equal(WRITES(A, 90), OWNERSHIP_APPLY);
    ownership_free(o);

    o = process_with(records, B);
    assert_true(ownership_may_be_alone(o, B));
    map(o, B); // B's record knows nothing of the slot
    assert_false(ownership_quiet(o));
    assert_int_equal(WRITES(B, 610), OWNERSHIP_WAIT);
    assert_false(ownership_may_load(o, B));
    ownership_free(o);
    free_records(records);
}

static void apart_a_lane_of_which_something_moves_waits_for_the_others(void **state)
{
    (void)state;
    struct buf records[LANES] = {0}, moving = {0};
    parted(records);
    struct ownership *o = process_with(records, B);
    map(o, A);
    map(o, B);
    store(o, B, &moving);
    ownership_free(o);
    assert_false(ownership_passed_over(o = process_with(records, B)));
    ownership_free(o);
    buf_clear(&records[B]);
    buf_append(&records[B], moving.p, moving.n);
    o = process_with(records, B);
    assert_false(ownership_may_be_alone(o, B));
    assert_true(ownership_passed_over(o));
    assert_false(ownership_has_new(o, B)); // what is stored stays
    assert_false(ownership_whole(o));
    assert_false(ownership_may_load(o, B));
    ownership_free(o);
    buf_free(&moving);
    free_records(records);
}

static void a_turn_waits_until_the_record_of_the_former_owner_lets_nobody_go_on_alone(void **state)
{
    (void)state;
    struct err e;
    struct buf records[LANES] = {0}, now = {0};
    parted(records);
    struct ownership *o = ownership_new(LANES, NULL);
    for (int l = 0; l < LANES; l++)
        assert_int_equal(ownership_restore(o, l, buf_slice(&records[l]), &e), 0);
    map(o, B);
    answer(o, (uint64_t[]){100, 600, 0});
    ownership_applied(o, A, 100);
    assert_int_equal(WRITES(B, 610), OWNERSHIP_WAIT);
    assert_true(ownership_put(o, A, &now));
    assert_int_equal(WRITES(B, 610), OWNERSHIP_WAIT);
    ownership_put_lost(o, A);
    assert_true(ownership_has_new(o, A));
    store(o, A, &now);
    assert_int_equal(WRITES(B, 610), OWNERSHIP_APPLY);
    ownership_free(o);
    buf_free(&now);
    free_records(records);
}

static void lanes_part_when_nothing_moves_all_is_here_and_stored(void **state)
{
    (void)state;
    struct buf record = {0};
    struct ownership *o = ownership_new(LANES, NULL);
    for (int s = 0; s < SLOT_COUNT; s++)
        owners[s] = A;
    assert_false(ownership_part(o)); // no map yet
    ownership_map(o, owners);
    assert_false(ownership_part(o));
    ownership_lane_elsewhere(o, C);
    store(o, A, &record);
    assert_false(ownership_part(o));
    ownership_free(o);
    o = ownership_new(LANES, NULL);
    owners[S] = A;
    ownership_map(o, owners);
    store(o, A, &record);
    map(o, B);
    store(o, B, &record);
    assert_false(ownership_part(o));
    answer(o, (uint64_t[]){0, 600, 0});
    ownership_applied(o, A, 1);
    store(o, B, &record);
    assert_true(ownership_part(o));
    assert_false(ownership_all_stored(o));
    // A has lost the slot, and its record says nothing of it any more.
    store(o, A, &record);
    struct slice text = buf_slice(&record);
    assert_int_equal(slice_has_prefix(text, SLICE("a;t0-99:")), 1);
    ownership_free(o);
    buf_free(&record);
}

static void the_record_of_a_lane_that_is_back_late_is_for_a_new_arbiter(void **state)
{
    (void)state;
    struct buf record = {0}, again = {0};
    struct err e = {0};
    struct ownership *o = world();
    map(o, B);
    store(o, B, &record); // B has the slot next
    ownership_lane_elsewhere(o, B);
    ownership_lane_here(o, B);
    assert_int_equal(ownership_restore(o, B, buf_slice(&record), &e), 0);
    map(o, B);
    answer(o, (uint64_t[]){100, 600, 0});
    ownership_applied(o, A, 100);
    ownership_applied(o, B, 600);
    struct ownership_stats st;
    ownership_get_stats(o, &st);
    assert_int_equal(st.turns, 0); // none until then
    store(o, B, &again);
    assert_false(ownership_part(o));
    ownership_free(o);
    buf_free(&record);
    buf_free(&again);
}

static void a_shard_that_does_not_answer_holds_up_no_other(void **state)
{
    (void)state;
    struct ownership_question q, first;
    struct ownership *o = world();
    map(o, B);
    assert_true(ownership_question(o, &first));
    ownership_no_answer(o, first.id);
    assert_true(ownership_question(o, &q));
    assert_int_not_equal(q.id, first.id);
    assert_true(ownership_question(o, &q));
    assert_int_equal(q.id, first.id);
    ownership_no_answer(o, first.id);
    ownership_lane_gone(o, first.lane);
    assert_false(ownership_question(o, &q));
    ownership_free(o);
}

static void a_damaged_record_is_an_error(void **state)
{
    (void)state;
    static const char *const bad[] = {";",
                                      "x",
                                      "t",
                                      "t1-0:5:5;",
                                      "t0-16384:5:5;",
                                      "t0-1:5;",
                                      "m1::5:id,0-1;",
                                      "m1:1:5:5:id,0-16384;",
                                      "m1:1:5:5:id,5;",
                                      "n16384:3:1:1:1;",
                                      "n1:3:1:1;",
                                      "n1:3:1:1:;"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct ownership *o = world();
        struct err e = {0};
        assert_int_equal(ownership_restore(o, B, slice_cstr(bad[i]), &e), ERR_CORRUPT);
        ownership_free(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_owner_writes_without_asking_and_nobody_else_does),
        cmocka_unit_test(clearing_takes_the_slots_of_the_lane_alone),
        cmocka_unit_test(clearing_goes_with_the_slot_to_its_new_owner),
        cmocka_unit_test(clearing_before_an_atomic_import_leaves_what_that_brings),
        cmocka_unit_test(clearing_what_is_half_moved_away_is_not_known),
        cmocka_unit_test(a_full_sync_makes_clearing_possible_again),
        cmocka_unit_test(an_import_waits_until_the_exporter_has_applied_what_it_had_then),
        cmocka_unit_test(a_map_gives_the_slot_to_the_new_owner_for_good),
        cmocka_unit_test(a_slot_that_came_back_unseen_goes_to_the_other_lane_first),
        cmocka_unit_test(a_shard_that_is_gone_is_not_waited_for),
        cmocka_unit_test(offsets_of_an_older_history_are_asked_for_again),
        cmocka_unit_test(moves_are_read_as_servers_write_them),
        cmocka_unit_test(ranges_that_are_none_are_an_error_of_the_protocol),
        cmocka_unit_test(a_replayed_import_is_dropped_and_its_owner_begins_behind_the_old_one),
        cmocka_unit_test(a_failed_import_leaves_nothing),
        cmocka_unit_test(what_is_stored_brings_back_turns_and_moves),
        cmocka_unit_test(a_lane_that_stands_still_is_not_waited_for_with_slots_that_do_not_follow),
        cmocka_unit_test(slots_that_move_both_ways_at_once_do_not_stop_two_lanes),
        cmocka_unit_test(what_was_looked_at_before_a_slot_began_to_move_does_not_count),
        cmocka_unit_test(
            a_new_owner_goes_before_units_of_other_keys_but_not_before_its_own_next_tenure),
        cmocka_unit_test(a_snapshot_waits_until_its_slots_have_come),
        cmocka_unit_test(a_lane_that_comes_back_is_waited_for_again),
        cmocka_unit_test(owners_of_the_first_map_are_stored),
        cmocka_unit_test(where_an_import_comes_from_is_stored_by_node),
        cmocka_unit_test(who_comes_next_may_be_restored_before_who_has_the_turn),
        cmocka_unit_test(no_turn_is_given_before_all_records_are_restored),
        cmocka_unit_test(a_replayed_import_is_known_by_its_bytes),
        cmocka_unit_test(apart_a_lane_writes_what_its_record_has_and_no_turn_goes_on),
        cmocka_unit_test(apart_a_lane_of_which_something_moves_waits_for_the_others),
        cmocka_unit_test(a_turn_waits_until_the_record_of_the_former_owner_lets_nobody_go_on_alone),
        cmocka_unit_test(lanes_part_when_nothing_moves_all_is_here_and_stored),
        cmocka_unit_test(a_turn_is_handed_on_when_what_was_done_in_it_is_stored),
        cmocka_unit_test(the_record_of_a_lane_that_is_back_late_is_for_a_new_arbiter),
        cmocka_unit_test(a_shard_that_does_not_answer_holds_up_no_other),
        cmocka_unit_test(a_damaged_record_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

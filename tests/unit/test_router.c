// SPDX-License-Identifier: Apache-2.0
#include "target/router.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "codec/resp.h"
#include "fake_cluster.h"

enum { START = 1000, UNIT = 10, UNITS = 4096, AGE_US = 1000 * 1000, POSITION_US = 100 * 1000 };

struct unit_text {
    int slot;
    struct buf text;
};

struct bench {
    struct fake_cluster c;
    struct router *router;
    struct sink *sink;
    struct router_target target;
    struct router_node nodes[FAKE_NODES];
    int16_t owner[SLOT_COUNT];
    uint64_t marks[SLOT_COUNT];
    struct unit_text units[UNITS];
    int units_n, db;
    uint64_t acked, stored, last_ref, again;
    int fails, refusals, moves;
    char text[200]; // of the last failure or refusal
};

static struct bench *b;

static void on_acked(void *ctx, const struct batch_mark *mark, bool stored)
{
    (void)ctx;
    if (stored)
        b->stored = mark->offset;
    else
        b->acked = mark->offset;
}

static void on_cmd_failed(void *ctx, uint64_t ref, struct slice text, bool in_exec)
{
    (void)ctx, (void)in_exec;
    b->refusals++;
    b->last_ref = ref;
    snprintf(b->text, sizeof(b->text), "%.*s", (int)text.n, text.p);
}

static void on_empty(void *ctx, uint64_t ref)
{
    (void)ctx, (void)ref;
}

static void on_failed(void *ctx, uint64_t ref, const struct err *why)
{
    (void)ctx;
    b->fails++;
    b->last_ref = ref;
    snprintf(b->text, sizeof(b->text), "%.190s", why->msg);
}

static void on_room(void *ctx)
{
    (void)ctx;
    sink_flush(b->sink);
}

static void write_unit(int i)
{
    outq_put(router_out(b->router), b->units[i].text.p, b->units[i].text.n);
    router_cmd(b->router, START + (uint64_t)i * UNIT);
}

static bool on_emit(void *ctx, uint64_t from, int db, int64_t now_ms, int slot, size_t as_is)
{
    (void)ctx, (void)db, (void)now_ms;
    assert_int_equal(as_is, UNIT);
    int i = (int)((from - START) / UNIT);
    assert_true(i < b->units_n);
    assert_int_equal(slot, fake_slot(b->units[i].slot));
    write_unit(i);
    return true;
}

static void on_moved(void *ctx)
{
    (void)ctx;
    b->moves++;
}

static void on_again(void *ctx, uint64_t until)
{
    (void)ctx;
    b->again = until;
}

static const struct sink_events sink_events = {
    .acked = on_acked,
    .cmd_failed = on_cmd_failed,
    .cmd_empty = on_empty,
    .failed = on_failed,
    .put_position = fake_put_position,
    .room = on_room,
};

static const struct router_events router_events = {
    .sink = &sink_events,
    .emit = on_emit,
    .position_slot = fake_position_slot,
    .moved = on_moved,
    .again = on_again,
};

static void attach(void)
{
    fake_target(&b->c, 0, &b->target, b->nodes, b->owner);
    b->target.marks = b->marks;
    router_attach(b->router, &b->target);
}

static int set_up(void **state)
{
    (void)state;
    b = xcalloc(1, sizeof(*b));
    fake_init(&b->c);
    b->c.logged = true;
    struct router_options o = {.loop = &b->c.loop,
                               .events = &router_events,
                               .position_us = POSITION_US,
                               .floor_age_us = AGE_US,
                               .max_cmds = 100,
                               .max_bytes = 1 << 20};
    b->router = router_new(&o);
    b->sink = router_sink(b->router);
    attach();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sink_free(b->sink);
    fake_free(&b->c);
    for (int i = 0; i < b->units_n; i++)
        buf_free(&b->units[i].text);
    free(b);
    return 0;
}

// One command is a unit. Blind or wrapped, in that slot (of fake_slot).
static enum router_part unit(bool wrapped, int slot, const char *fmt, ...)
{
    int i = b->units_n++;
    uint64_t from = START + (uint64_t)i * UNIT;
    struct batch_mark mark = {.offset = from + UNIT};
    assert_true(i < UNITS);
    b->units[i].slot = slot;
    va_list ap;
    va_start(ap, fmt);
    resp_put_vcmd(&b->units[i].text, fmt, ap);
    va_end(ap);
    router_unit_open(b->router, from, b->db, 0, &mark, false);
    enum router_part part = router_part(b->router, fake_slot(slot), b->db, wrapped, UNIT);
    if (part == ROUTER_SEND) {
        write_unit(i);
        router_part_end(b->router);
    }
    router_unit_close(b->router);
    return part;
}

static uint64_t end_of_units(void)
{
    return START + (uint64_t)b->units_n * UNIT;
}

static void set(int slot, int key, int value)
{
    (void)unit(false, slot, "SET %s %d", fake_key(slot, key), value);
}

static void incr(int slot, int key)
{
    (void)unit(true, slot, "INCR %s", fake_key(slot, key));
}

// A node reads what was sent to it; its answers stay on the way.
static void serve(int node)
{
    sink_flush(b->sink);
    (void)fake_serve(fake_conn(&b->c, node), INT32_MAX);
}

static void answer(int node)
{
    fake_deliver(fake_conn(&b->c, node), SIZE_MAX);
}

static void settle(void)
{
    sink_flush(b->sink);
    fake_settle(&b->c);
}

static void time_passes(uint64_t us)
{
    for (uint64_t done = 0; done < us; done += 5000) {
        fake_now_us += 5000;
        uv_run(&b->c.loop, UV_RUN_NOWAIT);
        settle();
    }
}

// What the node has read since it was asked last, keys as "<slot>.<key>".
static void has_read(int node, const char *want)
{
    struct buf *log = &b->c.nodes[node].log;
    if (!slice_eq(buf_slice(log), slice_cstr(want)))
        fail_msg("node %d has read '%.*s' instead of '%s'", node, (int)log->n, log->p, want);
    buf_clear(log);
}

static void holds(int node, int slot, int key, const char *want)
{
    const char *got = fake_get(&b->c.nodes[node], slot, key);
    if (!got || strcmp(got, want) != 0)
        fail_msg("%d.%d on node %d is '%s' instead of '%s'", slot, key, node, got ? got : "none",
                 want);
}

static void forget_logs(void)
{
    for (int i = 0; i < FAKE_NODES; i++)
        buf_clear(&b->c.nodes[i].log);
}

// ---- order ----

static void blind_units_are_pipelined(void **state)
{
    (void)state;
    set(0, 0, 1);
    set(0, 1, 2);
    set(0, 0, 3);
    serve(0);
    has_read(0, "SET 0.0 1;SET 0.1 2;SET 0.0 3;");
    answer(0);
    assert_int_equal(b->acked, end_of_units());
}

static void a_wrapped_unit_waits_for_its_slot_and_for_no_other(void **state)
{
    (void)state;
    set(0, 0, 1);
    incr(0, 0);
    incr(3, 0); // on the same node
    incr(1, 0);
    serve(0);
    serve(1);
    has_read(0, "SET 0.0 1;MULTI;INCR 3.0;SET 3.m 1030;EXEC;");
    has_read(1, "MULTI;INCR 1.0;SET 1.m 1040;EXEC;");
    answer(0);
    serve(0);
    has_read(0, "MULTI;INCR 0.0;SET 0.m 1020;EXEC;");
    settle();
    holds(0, 0, 0, "2");
}

static void what_follows_a_wrapped_unit_waits_for_it(void **state)
{
    (void)state;
    incr(0, 0);
    set(0, 0, 7);
    set(3, 0, 8);
    serve(0);
    has_read(0, "MULTI;INCR 0.0;SET 0.m 1010;EXEC;SET 3.0 8;");
    answer(0);
    serve(0);
    has_read(0, "SET 0.0 7;");
}

static void held_units_of_a_slot_go_in_one_multi(void **state)
{
    (void)state;
    incr(0, 0);
    set(0, 1, 1);
    incr(0, 1);
    incr(1, 0);
    set(0, 2, 5);
    serve(0);
    has_read(0, "MULTI;INCR 0.0;SET 0.m 1010;EXEC;");
    answer(0);
    serve(0);
    has_read(0, "MULTI;SET 0.1 1;INCR 0.1;SET 0.2 5;SET 0.m 1050;EXEC;");
    settle();
    holds(0, 0, 1, "2");
    assert_int_equal(b->acked, end_of_units());
}

// That is where they are looked for; Valkey has clusters with several dbs.
static void marks_are_in_db_0_whatever_the_units_have(void **state)
{
    (void)state;
    b->db = 3;
    incr(0, 0);
    set(0, 1, 1);
    serve(0);
    answer(0);
    serve(0);
    has_read(0, "SELECT 3;MULTI;INCR 0.0;SELECT 0;SET 0.m 1010;SELECT 3;EXEC;SET 0.1 1;");
}

static void what_a_mark_covers_is_not_sent(void **state)
{
    (void)state;
    sink_detach(b->sink);
    b->marks[fake_slot(0)] = START + UNIT;
    attach();
    assert_int_equal(unit(true, 0, "INCR %s", fake_key(0, 0)), ROUTER_APPLIED);
    assert_int_equal(unit(true, 0, "INCR %s", fake_key(0, 0)), ROUTER_SEND);
    assert_int_equal(unit(false, 1, "SET %s 1", fake_key(1, 0)), ROUTER_SEND);
    settle();
    holds(0, 0, 0, "1");
    assert_int_equal(b->acked, end_of_units());
}

// ---- slots that move ----

static void moved_sends_the_slot_again_in_order_and_stops_no_other(void **state)
{
    (void)state;
    fake_begin_move(&b->c, 0, 2);
    fake_end_move(&b->c, 0, true);
    set(0, 0, 1);
    set(0, 0, 2);
    set(3, 0, 3);
    settle();
    has_read(0, "SET 0.0 1;SET 0.0 2;SET 3.0 3;");
    has_read(2, "");
    set(0, 0, 4);
    set(3, 0, 5);
    time_passes(10 * 1000);
    has_read(0, "SET 3.0 5;");
    has_read(2, "SET 0.0 1;SET 0.0 2;SET 0.0 4;");
    assert_int_equal(b->moves, 1);
    assert_int_equal(b->acked, end_of_units());
    assert_int_equal(b->fails + b->refusals, 0);
}

static void moved_sends_a_wrapped_unit_again_whole(void **state)
{
    (void)state;
    fake_begin_move(&b->c, 0, 2);
    fake_end_move(&b->c, 0, true);
    incr(0, 0);
    incr(0, 0);
    time_passes(10 * 1000);
    holds(2, 0, 0, "2");
    holds(2, 0, FAKE_MARK, "1020");
    assert_int_equal(b->fails + b->refusals, 0);
}

static void ask_sends_the_one_and_then_what_is_behind_it(void **state)
{
    (void)state;
    set(0, 1, 0);
    settle();
    forget_logs();
    fake_begin_move(&b->c, 0, 1);
    set(0, 0, 1); // not there: to be asked for
    set(0, 1, 2);
    set(3, 0, 3);
    settle();
    has_read(0, "SET 0.0 1;SET 0.1 2;SET 3.0 3;SET 0.1 2;");
    has_read(1, "ASKING;SET 0.0 1;");
    holds(1, 0, 0, "1");
    holds(0, 0, 1, "2");
    assert_int_equal(b->acked, end_of_units());
}

static void a_wrapped_unit_asks_once_for_all_its_commands(void **state)
{
    (void)state;
    fake_begin_move(&b->c, 0, 1);
    fake_move_key(&b->c, 0, 0);
    b->c.nodes[1].values[0][0] = (struct fake_value){.type = 's', .n = 1, .text = "4"};
    b->c.nodes[1].values[0][FAKE_MARK] = (struct fake_value){.type = 's', .n = 1, .text = "1"};
    incr(0, 0);
    settle();
    has_read(1, "ASKING;MULTI;INCR 0.0;SET 0.m 1010;EXEC;");
    holds(1, 0, 0, "5");
}

static void tryagain_holds_the_slot_until_its_keys_are_on_one_side(void **state)
{
    (void)state;
    for (int version = 6; version <= 7; version++) {
        b->c.version = version;
        incr(0, 0);
        settle();
        fake_begin_move(&b->c, 0, 1);
        fake_move_key(&b->c, 0, FAKE_MARK);
        incr(0, 0);
        set(0, 1, 1);
        set(3, 0, version);
        time_passes(100 * 1000);
        assert_true(b->acked < end_of_units());
        holds(0, 3, 0, version == 6 ? "6" : "7");
        fake_move_key(&b->c, 0, 0);
        time_passes(100 * 1000);
        assert_int_equal(b->acked, end_of_units());
        holds(1, 0, 0, version == 6 ? "2" : "4");
        assert_int_equal(b->fails + b->refusals, 0);
        fake_end_move(&b->c, 0, true);
        fake_begin_move(&b->c, 0, 0);
        fake_end_move(&b->c, 0, true);
        fake_tell_all(&b->c, 0);
    }
}

// What came before its time and is sent again has no say.
static void an_error_behind_a_redirect_is_none(void **state)
{
    (void)state;
    set(0, 1, 1);
    set(0, 2, 1);
    settle();
    fake_begin_move(&b->c, 0, 1);
    (void)unit(false, 0, "DEL %s %s", fake_key(0, 0), fake_key(0, 1)); // TRYAGAIN
    (void)unit(false, 0, "HSET %s a 1", fake_key(0, 1));
    settle();
    assert_int_equal(b->refusals, 0);
    fake_end_move(&b->c, 0, true);
    time_passes(20 * 1000);
    assert_int_equal(b->acked, end_of_units());
    assert_int_equal(b->refusals + b->fails, 0);
    assert_int_equal(b->c.nodes[1].values[0][1].type, 'h');
}

static void what_may_be_sent_twice_is_told(void **state)
{
    (void)state;
    set(0, 1, 1);
    set(0, 2, 1);
    (void)unit(false, 0, "DEL %s", fake_key(0, 2));
    settle();
    fake_begin_move(&b->c, 0, 1);
    assert_int_equal(b->again, 0);
    (void)unit(false, 0, "DEL %s %s", fake_key(0, 0), fake_key(0, 1)); // TRYAGAIN
    (void)unit(false, 0, "DEL %s", fake_key(0, 1));                    // done
    settle();
    assert_int_equal(b->again, end_of_units());
}

static void an_ask_for_a_node_without_room_is_sent_when_it_has_room(void **state)
{
    (void)state;
    static char big[16 * 1024];
    struct slice value = slice_make(memset(big, 'x', sizeof(big)), sizeof(big));
    fake_writable(fake_conn(&b->c, 1), 0);
    for (int i = 0; i < 100; i++)
        (void)unit(false, 1, "SET %s %b", fake_key(1, 0), &value);
    fake_begin_move(&b->c, 0, 1);
    set(0, 0, 1);
    settle();
    fake_writable(fake_conn(&b->c, 1), SIZE_MAX);
    time_passes(50 * 1000);
    holds(1, 0, 0, "1");
    assert_int_equal(b->acked, end_of_units());
}

static void moved_to_an_unknown_node_fails(void **state)
{
    (void)state;
    snprintf(b->c.nodes[2].host, sizeof(b->c.nodes[2].host), "10.9.9.9");
    b->c.nodes[2].port = 9999;
    fake_begin_move(&b->c, 0, 2);
    fake_end_move(&b->c, 0, true);
    set(0, 0, 1);
    settle();
    assert_int_equal(b->fails, 1);
    assert_non_null(strstr(b->text, "MOVED"));
}

static void ask_for_an_unknown_node_waits_until_it_has_the_slot(void **state)
{
    (void)state;
    snprintf(b->c.nodes[2].host, sizeof(b->c.nodes[2].host), "10.9.9.9");
    b->c.nodes[2].port = 9999;
    fake_begin_move(&b->c, 0, 2);
    set(0, 0, 1);
    set(3, 0, 1);
    time_passes(50 * 1000);
    assert_int_equal(b->fails, 0);
    holds(0, 3, 0, "1");
    fake_end_move(&b->c, 0, true);
    time_passes(50 * 1000);
    assert_int_equal(b->fails, 1);
}

// ---- failures ----

static void a_lost_node_fails_once(void **state)
{
    (void)state;
    set(0, 0, 1);
    set(1, 0, 1);
    sink_flush(b->sink);
    fake_hang_up(fake_conn(&b->c, 1));
    fake_hang_up(fake_conn(&b->c, 2));
    settle();
    assert_int_equal(b->fails, 1);
    assert_non_null(strstr(b->text, "10.0.0."));
    assert_false(sink_attached(b->sink));
    assert_false(router_room(b->router));
}

static void a_command_refused_in_a_multi_fails_with_its_place(void **state)
{
    (void)state;
    b->c.nodes[0].refuse = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    set(1, 0, 1);
    incr(0, 0);
    settle();
    assert_int_equal(b->fails, 1);
    assert_int_equal(b->last_ref, START + UNIT);
    assert_null(fake_get(&b->c.nodes[0], 0, FAKE_MARK));
}

static void a_command_that_fails_in_exec_is_told_and_the_rest_stands(void **state)
{
    (void)state;
    set(0, 0, 1);
    (void)unit(true, 0, "RPUSH %s x", fake_key(0, 0));
    settle();
    assert_int_equal(b->refusals, 1);
    assert_int_equal(b->last_ref, START + UNIT);
    holds(0, 0, FAKE_MARK, "1020");
    assert_int_equal(b->acked, end_of_units());
}

static void a_slow_node_does_not_stop_the_others(void **state)
{
    (void)state;
    static char big[16 * 1024];
    struct slice value = slice_make(memset(big, 'x', sizeof(big)), sizeof(big));
    fake_writable(fake_conn(&b->c, 0), 0);
    enum router_part part = ROUTER_SEND;
    int n = 0;
    for (; n < 1000 && part == ROUTER_SEND; n++) {
        part = unit(false, n % 2 ? 3 : 0, "SET %s %b", fake_key(n % 2 ? 3 : 0, 0), &value);
        set(1, 0, n);
    }
    assert_int_equal(part, ROUTER_HELD);
    set(0, 0, 1);
    set(3, 0, 2);
    assert_true(sink_room(b->sink));
    settle();
    char text[20];
    snprintf(text, sizeof(text), "%d", n - 1);
    holds(1, 1, 0, text);
    assert_int_equal(b->acked, 0);
    fake_writable(fake_conn(&b->c, 0), SIZE_MAX);
    time_passes(50 * 1000);
    holds(0, 0, 0, "1");
    holds(0, 3, 0, "2");
    assert_int_equal(b->acked, end_of_units());
}

// ---- the floor ----

static void the_floor_does_not_pass_what_is_not_confirmed(void **state)
{
    (void)state;
    set(0, 0, 1);
    set(1, 0, 1);
    set(2, 0, 1);
    sink_flush(b->sink);
    serve(1);
    serve(2);
    answer(1);
    answer(2);
    assert_int_equal(b->acked, 0);
    serve(0);
    answer(0);
    assert_int_equal(b->acked, end_of_units());
}

static void the_floor_is_stored_when_it_is_a_second_old(void **state)
{
    (void)state;
    set(0, 0, 1);
    time_passes(AGE_US - 100 * 1000);
    assert_int_equal(b->stored, 0);
    time_passes(200 * 1000);
    assert_int_equal(b->stored, end_of_units());
    holds(0, 0, FAKE_POSITION, "1010");
    set(0, 0, 2);
    time_passes(AGE_US - 100 * 1000);
    assert_int_equal(b->stored, START + UNIT);
}

static void the_floor_is_stored_at_once_when_asked_for(void **state)
{
    (void)state;
    set(0, 0, 1);
    sink_store_position(b->sink);
    assert_false(sink_idle(b->sink));
    settle();
    assert_true(sink_idle(b->sink));
    assert_int_equal(b->stored, end_of_units());
}

static void storing_at_once_does_not_outlast_what_it_was_asked_for(void **state)
{
    (void)state;
    set(0, 0, 1);
    time_passes(2 * AGE_US);
    assert_int_equal(b->stored, START + UNIT);
    sink_store_position(b->sink);
    settle();
    assert_true(sink_idle(b->sink));
    set(0, 0, 2);
    time_passes(AGE_US - 100 * 1000);
    assert_int_equal(b->acked, end_of_units());
    assert_int_equal(b->stored, START + UNIT);
}

// A host that is gone closes no connection, and its replica lacks what it confirmed last.
static void the_floor_stays_while_a_node_is_silent(void **state)
{
    (void)state;
    set(1, 0, 1);
    settle();
    for (uint64_t t = 0; t < 10 * AGE_US; t += 50 * 1000) {
        fake_now_us += 50 * 1000;
        uv_run(&b->c.loop, UV_RUN_NOWAIT);
        set(0, 0, (int)t);
        sink_flush(b->sink);
        serve(0);
        answer(0);
        serve(2);
        answer(2);
    }
    assert_int_equal(b->acked, end_of_units());
    assert_int_equal(b->stored, 0);
    uint64_t confirmed = end_of_units();
    time_passes(100 * 1000);
    assert_true(b->stored > START && b->stored < confirmed);
    time_passes(AGE_US + 300 * 1000);
    assert_int_equal(b->stored, confirmed);
}

static void the_position_is_stored_while_its_slot_moves(void **state)
{
    (void)state;
    set(1, 0, 1);
    sink_store_position(b->sink);
    settle();
    fake_begin_move(&b->c, 0, 1);
    set(1, 0, 2);
    sink_store_position(b->sink);
    settle();
    holds(0, 0, FAKE_POSITION, "1020");
    fake_move_key(&b->c, 0, FAKE_POSITION);
    set(1, 0, 3);
    sink_store_position(b->sink);
    settle();
    holds(1, 0, FAKE_POSITION, "1030");
    fake_end_move(&b->c, 0, true);
    set(1, 0, 4);
    sink_store_position(b->sink);
    time_passes(20 * 1000);
    holds(1, 0, FAKE_POSITION, "1040");
    assert_int_equal(b->stored, end_of_units());
}

static void a_unit_beside_the_stream_does_not_set_the_floor_back(void **state)
{
    (void)state;
    set(0, 0, 1);
    set(0, 0, 2);
    struct batch_mark old = {.offset = START + UNIT};
    assert_true(sink_unit_begin(b->sink, fake_slot(1), false));
    struct buf text = {0};
    resp_put_cmd(&text, "SET %s 1", fake_key(1, 0));
    outq_put(sink_out(b->sink), text.p, text.n);
    buf_free(&text);
    sink_cmd(b->sink, UINT64_MAX);
    sink_unit_end(b->sink, &old);
    sink_store_position(b->sink);
    settle();
    assert_int_equal(b->acked, end_of_units());
    assert_int_equal(b->stored, end_of_units());
}

static int units_before_no_room(uint32_t rtt_us)
{
    struct batch_mark mark = {.offset = START};
    int n = 0;
    b->c.rtt_us = rtt_us;
    attach();
    for (; router_room(b->router); n++) {
        uint64_t from = mark.offset++;
        router_unit_open(b->router, from, 0, 0, &mark, false);
        assert_int_equal(router_part(b->router, fake_slot(0), 0, false, 0), ROUTER_SEND);
        outq_put(router_out(b->router), "*1\r\n$4\r\nPING\r\n", 14);
        router_cmd(b->router, from);
        router_part_end(b->router);
        router_unit_close(b->router);
        sink_flush(b->sink);
    }
    return n;
}

static void as_much_is_on_its_way_as_the_network_is_long(void **state)
{
    (void)state;
    assert_int_equal(units_before_no_room(50), 8192);
    assert_int_equal(units_before_no_room(30 * 1000), 30 * 1000);
    assert_int_equal(units_before_no_room(200 * 1000), 65536);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(blind_units_are_pipelined),
        TEST(a_wrapped_unit_waits_for_its_slot_and_for_no_other),
        TEST(what_follows_a_wrapped_unit_waits_for_it),
        TEST(held_units_of_a_slot_go_in_one_multi),
        TEST(marks_are_in_db_0_whatever_the_units_have),
        TEST(what_a_mark_covers_is_not_sent),
        TEST(moved_sends_the_slot_again_in_order_and_stops_no_other),
        TEST(moved_sends_a_wrapped_unit_again_whole),
        TEST(ask_sends_the_one_and_then_what_is_behind_it),
        TEST(a_wrapped_unit_asks_once_for_all_its_commands),
        TEST(tryagain_holds_the_slot_until_its_keys_are_on_one_side),
        TEST(an_error_behind_a_redirect_is_none),
        TEST(what_may_be_sent_twice_is_told),
        TEST(an_ask_for_a_node_without_room_is_sent_when_it_has_room),
        TEST(moved_to_an_unknown_node_fails),
        TEST(ask_for_an_unknown_node_waits_until_it_has_the_slot),
        TEST(a_lost_node_fails_once),
        TEST(a_command_refused_in_a_multi_fails_with_its_place),
        TEST(a_command_that_fails_in_exec_is_told_and_the_rest_stands),
        TEST(a_slow_node_does_not_stop_the_others),
        TEST(as_much_is_on_its_way_as_the_network_is_long),
        TEST(the_floor_does_not_pass_what_is_not_confirmed),
        TEST(the_floor_is_stored_when_it_is_a_second_old),
        TEST(the_floor_is_stored_at_once_when_asked_for),
        TEST(storing_at_once_does_not_outlast_what_it_was_asked_for),
        TEST(the_floor_stays_while_a_node_is_silent),
        TEST(the_position_is_stored_while_its_slot_moves),
        TEST(a_unit_beside_the_stream_does_not_set_the_floor_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

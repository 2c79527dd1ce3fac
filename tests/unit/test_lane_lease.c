// SPDX-License-Identifier: Apache-2.0
// A lane between two servers, whose lease a test moves.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lane/lane.h"
#include "server.h"

enum { PATIENCE_MS = 20000 };

struct fixture {
    struct server source, target;
    struct redis_client *at_source, *at_target;
    uv_loop_t loop;
    uv_timer_t wake; // so that the loop never blocks for long
    char dir[100], letters[100];
    _Atomic int64_t lease;
    struct lane *lane;
};

static void on_wake(uv_timer_t *t)
{
    (void)t;
}

static void open_fixture(struct fixture *f)
{
    struct err e = {0};
    memset(f, 0, sizeof(*f));
    server_init(&f->source);
    server_init(&f->target);
    server_start(&f->source, NULL);
    server_start(&f->target, NULL);
    assert_int_equal(redis_connect(&f->at_source, &f->source.endpoint, 20000, NULL), 0);
    assert_int_equal(redis_connect(&f->at_target, &f->target.endpoint, 20000, NULL), 0);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    uv_timer_init(&f->loop, &f->wake);
    uv_timer_start(&f->wake, on_wake, 5, 5);
    snprintf(f->dir, sizeof(f->dir), "%s/journal", f->source.dir);
    snprintf(f->letters, sizeof(f->letters), "%s/letters", f->source.dir);
    f->lease = INT64_MAX;
    const struct lane_options o = {
        .loop = &f->loop,
        .tag = "test",
        .source = f->source.endpoint,
        .target = f->target.endpoint,
        .journal = {.type = JOURNAL_STORER,
                    .dir = f->dir,
                    .max_size = -1,
                    .log_size = 1 << 20,
                    .flush = {.auto_flush = true}},
        .resume = true,
        .transactions = true,
        .max_exec = 1,
        .batch_cmds = 100,
        .batch_bytes = 1 << 20,
        .position_ms = 10,
        .restore_enabled = true,
        .max_restore = 1 << 20,
        .stop_on_error = true,
        .dead_letter_path = f->letters,
        .lease = &f->lease,
    };
    if (lane_new(&f->lane, &o, &e))
        fail_msg("%s", e.msg);
    lane_start(f->lane);
}

static void close_fixture(struct fixture *f)
{
    lane_stop_now(f->lane);
    lane_free(f->lane);
    uv_close((uv_handle_t *)&f->wake, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    redis_close(f->at_source);
    redis_close(f->at_target);
    server_stop(&f->source);
    server_stop(&f->target);
}

static int64_t number(struct redis_client *c, const char *command)
{
    struct redis_reply reply;
    int64_t v = 0;
    if (redis_call(c, &reply, NULL, command) == 0 && reply.root.type == RESP_BULK)
        (void)slice_i64(reply.root.text, &v);
    return v;
}

static bool has_connection(struct fixture *f)
{
    struct redis_reply reply;
    assert_int_equal(redis_call(f->at_target, &reply, NULL, "CLIENT LIST"), 0);
    return memmem(reply.root.text.p, reply.root.text.n, "name=gunyu:", 11);
}

static enum lane_state state_of(struct fixture *f)
{
    struct lane_snapshot s;
    lane_get_snapshot(f->lane, &s);
    return s.state;
}

#define WAIT(f, condition)                                                                         \
    do {                                                                                           \
        int64_t until_ = clock_boot_ms() + PATIENCE_MS;                                            \
        while (!(condition)) {                                                                     \
            if (clock_boot_ms() > until_)                                                          \
                fail_msg("never: %s", #condition);                                                 \
            uv_run(&(f)->loop, UV_RUN_ONCE);                                                       \
        }                                                                                          \
    } while (0)

static void incr(struct fixture *f)
{
    assert_int_equal(redis_call(f->at_source, NULL, NULL, "INCR n"), 0);
}

static void a_lane_without_its_lease_lets_the_target_go_until_it_has_one(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    incr(&f);
    WAIT(&f, number(f.at_target, "GET n") == 1 && state_of(&f) == LANE_RUN);
    assert_true(has_connection(&f));
    f.lease = clock_boot_ms();
    incr(&f);
    WAIT(&f, state_of(&f) == LANE_LEASE_LOST && !has_connection(&f));
    struct lane_snapshot s;
    lane_get_snapshot(f.lane, &s);
    // What it received meanwhile waits in the journal.
    int64_t received = s.received_offset;
    incr(&f);
    WAIT(&f, (lane_get_snapshot(f.lane, &s), s.received_offset > received));
    assert_int_equal(number(f.at_target, "GET n"), 1);
    assert_false(has_connection(&f));
    f.lease = INT64_MAX;
    WAIT(&f, number(f.at_target, "GET n") == 3 && state_of(&f) == LANE_RUN);
    close_fixture(&f);
}

static void a_lane_that_never_had_a_lease_sends_nothing(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    f.lease = 0;
    incr(&f);
    WAIT(&f, state_of(&f) == LANE_LEASE_LOST);
    for (int i = 0; i < 100; i++)
        uv_run(&f.loop, UV_RUN_ONCE);
    struct redis_reply reply;
    assert_int_equal(redis_call(f.at_target, &reply, NULL, "DBSIZE"), 0);
    assert_int_equal(reply.root.num, 0);
    f.lease = INT64_MAX;
    WAIT(&f, number(f.at_target, "GET n") == 1);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lane_without_its_lease_lets_the_target_go_until_it_has_one),
        cmocka_unit_test(a_lane_that_never_had_a_lease_sends_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
#include "target/pipe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "codec/resp.h"
#include "fake_cluster.h"

struct bench {
    struct fake_cluster c;
    struct pipe *p;
    struct conn *conn;
    struct buf events; // as words
    int rooms;
};

static struct bench *b;

static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *fmt, ...)
{
    char text[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    buf_append_cstr(&b->events, text);
}

static void on_error(void *ctx, struct pipe *p, struct pipe_req *q, uint64_t ref, struct slice text,
                     bool in_exec)
{
    (void)ctx, (void)p, (void)q;
    note("%s:%lld:%.*s ", in_exec ? "exec-error" : "error", (long long)ref,
         (int)(text.n < 8 ? text.n : 8), text.p);
}

static void on_empty(void *ctx, struct pipe_req *q, uint64_t ref)
{
    (void)ctx, (void)q;
    note("empty:%lld ", (long long)ref);
}

static void on_done(void *ctx, struct pipe *p, struct pipe_req *q)
{
    (void)ctx, (void)p;
    note("done:%d ", q->slot);
}

static void on_failed(void *ctx, struct pipe *p, const struct err *why)
{
    (void)ctx, (void)p, (void)why;
    note("failed ");
}

static void on_room(void *ctx, struct pipe *p)
{
    (void)ctx, (void)p;
    b->rooms++;
}

static const struct pipe_events events = {
    .error = on_error, .empty = on_empty, .done = on_done, .failed = on_failed, .room = on_room};

static int set_up(void **state)
{
    (void)state;
    b = xcalloc(1, sizeof(*b));
    fake_init(&b->c);
    b->c.logged = true;
    b->conn = fake_connect(&b->c, 0);
    b->p = pipe_new(&b->c.loop, &events, NULL);
    pipe_attach(b->p, b->conn);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pipe_free(b->p);
    fake_free(&b->c);
    buf_free(&b->events);
    free(b);
    return 0;
}

// A request with so many commands, whose refs are slot * 10 and on.
static void request(enum pipe_kind kind, int slot, int cmds)
{
    pipe_begin(b->p, kind, false);
    pipe_open_req(b->p)->slot = slot;
    for (int i = 0; i < cmds; i++) {
        outq_put(pipe_out(b->p), "*1\r\n$4\r\nPING\r\n", 14);
        pipe_cmd(b->p, (uint64_t)(slot * 10 + i));
    }
    pipe_end(b->p);
    pipe_flush(b->p);
}

static void happened(const char *want)
{
    if (!slice_eq(buf_slice(&b->events), slice_cstr(want)))
        fail_msg("'%s' instead of '%s'", buf_cstr(&b->events), want);
    buf_clear(&b->events);
}

static void says(const char *bytes)
{
    fake_say(b->conn, bytes);
    fake_deliver(b->conn, SIZE_MAX);
}

static void replies_find_their_commands_at_every_split(void **state)
{
    static const char answers[] =
        "+OK\r\n:0\r\n-ERR no\r\n"
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$3\r\na\r\n\r\n-WRONGTYPE x\r\n"
        "*2\r\n$1\r\na\r\n*0\r\n$-1\r\n";
    for (size_t piece = 1; piece < sizeof(answers); piece++) {
        (void)set_up(state);
        request(PIPE_BARE, 1, 3);
        request(PIPE_TXN, 2, 2);
        request(PIPE_BARE, 3, 2);
        fake_say(b->conn, answers);
        while (fake_waiting(b->conn))
            fake_deliver(b->conn, piece);
        happened("empty:11 error:12:ERR no done:1 exec-error:21:WRONGTYP done:2 empty:31 done:3 ");
        assert_true(pipe_idle(b->p));
        if (piece + 1 < sizeof(answers))
            (void)tear_down(state);
    }
}

static void a_transaction_that_was_refused_is_one_error_more_than_its_causes(void **state)
{
    (void)state;
    request(PIPE_TXN, 1, 3);
    says("+OK\r\n+QUEUED\r\n-OOM x\r\n+QUEUED\r\n-EXECABORT x\r\n");
    happened("error:11:OOM x error:-1:EXECABOR done:1 ");
    request(PIPE_TXN, 2, 1);
    says("+OK\r\n+QUEUED\r\n*-1\r\n");
    happened("error:-1:EXEC was done:2 ");
}

static void answers_that_fit_no_request_fail_the_connection(void **state)
{
    static const char *const nonsense[] = {
        "-ERR no MULTI\r\n",                    // its body was carried out bare
        "+QUEUED\r\n",                          // before MULTI's
        "+OK\r\n+OK\r\n",                       // not queued
        "+OK\r\n+QUEUED\r\n*2\r\n",             // more results than commands
        "+OK\r\n+QUEUED\r\n+OK\r\n",            // EXEC without results
        "+OK\r\n+QUEUED\r\n*1\r\n:1\r\n:1\r\n", // one more
        "!\r\n",
    };
    for (size_t i = 0; i < sizeof(nonsense) / sizeof(*nonsense); i++) {
        if (i)
            (void)set_up(state);
        request(PIPE_TXN, 1, 1);
        says(nonsense[i]);
        if (!memmem(b->events.p, b->events.n, "failed ", 7))
            fail_msg("%s is taken", nonsense[i]);
        size_t told = b->events.n;
        says("+OK\r\n");
        assert_int_equal(b->events.n, told);
        if (i + 1 < sizeof(nonsense) / sizeof(*nonsense))
            (void)tear_down(state);
    }
}

static void requests_may_be_many(void **state)
{
    (void)state;
    for (int i = 0; i < 5000; i++)
        request(PIPE_BARE, 1, 2);
    assert_int_equal(pipe_unanswered(b->p), 5000);
    for (int i = 0; i < 5000; i++)
        fake_say(b->conn, "+OK\r\n+OK\r\n");
    fake_deliver(b->conn, SIZE_MAX);
    assert_true(pipe_idle(b->p));
    assert_int_equal(b->events.n, 5000 * strlen("done:1 "));
    assert_int_equal(pipe_answered(b->p), 10000);
}

static void a_db_is_selected_where_it_changes_and_never_within_a_multi(void **state)
{
    (void)state;
    pipe_select(b->p, 0);
    pipe_select(b->p, 2);
    request(PIPE_TXN, 1, 1);
    pipe_select(b->p, 2);
    request(PIPE_BARE, 2, 1);
    pipe_select(b->p, 0);
    request(PIPE_BARE, 3, 1);
    (void)fake_serve(b->conn, INT32_MAX);
    struct slice read = buf_slice(&b->c.nodes[0].log);
    assert_true(slice_eq(read, SLICE("SELECT 2;MULTI;PING;EXEC;PING;SELECT 0;PING;")));
    fake_deliver(b->conn, SIZE_MAX);
    happened("done:-1 done:1 done:2 done:-1 done:3 ");
}

static void asking_goes_before_the_request_and_has_a_reply(void **state)
{
    (void)state;
    pipe_begin(b->p, PIPE_TXN, true);
    outq_put(pipe_out(b->p), "*1\r\n$4\r\nPING\r\n", 14);
    pipe_cmd(b->p, 5);
    pipe_end(b->p);
    pipe_flush(b->p);
    (void)fake_serve(b->conn, INT32_MAX);
    assert_true(slice_eq(buf_slice(&b->c.nodes[0].log), SLICE("ASKING;MULTI;PING;EXEC;")));
    fake_deliver(b->conn, 5); // +OK of ASKING
    happened("");
    fake_deliver(b->conn, SIZE_MAX);
    happened("done:-1 ");
}

static void why_a_node_hung_up_is_read_first(void **state)
{
    (void)state;
    request(PIPE_BARE, 1, 1);
    fake_say(b->conn, "-NOAUTH x\r\n");
    fake_hang_up(b->conn);
    request(PIPE_BARE, 2, 1); // is told that nobody reads
    happened("");
    fake_deliver(b->conn, SIZE_MAX);
    fake_deliver(b->conn, SIZE_MAX);
    happened("error:10:NOAUTH x done:1 failed ");
}

static void after_a_stop_nothing_is_told(void **state)
{
    (void)state;
    request(PIPE_BARE, 1, 1);
    pipe_stop(b->p);
    says("+OK\r\n");
    fake_hang_up(b->conn);
    fake_deliver(b->conn, SIZE_MAX);
    happened("");
}

static void a_node_was_alive_when_the_last_it_answered_was_asked(void **state)
{
    (void)state;
    uv_run(&b->c.loop, UV_RUN_NOWAIT);
    uint64_t asked = fake_now_us;
    request(PIPE_BARE, 1, 1);
    fake_now_us += 500 * 1000;
    uv_run(&b->c.loop, UV_RUN_NOWAIT);
    assert_int_equal(pipe_alive_us(b->p), 0);
    says("+OK\r\n");
    assert_int_equal(pipe_alive_us(b->p) / 1000, asked / 1000);
    assert_int_equal(pipe_heard_us(b->p), fake_now_us);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(replies_find_their_commands_at_every_split, tear_down),
        TEST(a_transaction_that_was_refused_is_one_error_more_than_its_causes),
        TEST(answers_that_fit_no_request_fail_the_connection),
        TEST(requests_may_be_many),
        TEST(a_db_is_selected_where_it_changes_and_never_within_a_multi),
        TEST(asking_goes_before_the_request_and_has_a_reply),
        TEST(why_a_node_hung_up_is_read_first),
        TEST(after_a_stop_nothing_is_told),
        TEST(a_node_was_alive_when_the_last_it_answered_was_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

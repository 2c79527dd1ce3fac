// SPDX-License-Identifier: Apache-2.0
#include "target/replies.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

// Reads everything in pieces of at most `piece` bytes into one line of text; runs count as their
// single replies.
static int read_all(struct slice in, size_t first, size_t piece, bool expand, uint32_t max_run,
                    struct buf *out)
{
    struct replies r = {0};
    size_t at = 0, end = first < in.n ? first : in.n;
    int rc = 0;
    while (rc == 0 && at < in.n) {
        struct reply reply;
        size_t used;
        rc = replies_next(&r, in.p + at, end - at, &used, expand, max_run, &reply);
        if (rc)
            break;
        at += used;
        for (uint32_t i = 0; reply.kind != REPLY_NONE && i < reply.count; i++) {
            switch (reply.kind) {
            case REPLY_OK:
                buf_append_cstr(out, "ok ");
                break;
            case REPLY_QUEUED:
                buf_append_cstr(out, "queued ");
                break;
            case REPLY_INTEGER:
                buf_printf(out, "%lld ", (long long)reply.num);
                break;
            case REPLY_NIL:
                buf_append_cstr(out, "nil ");
                break;
            case REPLY_ERROR:
                buf_printf(out, "(%.*s) ", (int)reply.text.n, reply.text.p);
                break;
            case REPLY_ARRAY:
                buf_printf(out, "[%lld] ", (long long)reply.num);
                break;
            case REPLY_NONE:
                break;
            }
        }
        assert_true(used > 0 || reply.kind != REPLY_NONE || at == end);
        if (at == end && end < in.n)
            end = in.n - end < piece ? in.n : end + piece;
    }
    replies_free(&r);
    return rc;
}

static void check(struct slice in, bool expand, const char *want)
{
    for (size_t first = 1; first <= in.n; first++) {
        for (size_t piece = 1; piece <= in.n; piece = piece < 4 ? piece + 1 : piece * 3) {
            struct buf got = {0};
            assert_int_equal(read_all(in, first, piece, expand, 1 + (uint32_t)(first % 7), &got),
                             0);
            assert_string_equal(buf_cstr(&got), want);
            buf_free(&got);
        }
    }
}

static void every_kind_is_told_at_every_split(void **state)
{
    (void)state;
    check(SLICE("+OK\r\n+QUEUED\r\n+QUEUED\r\n:12\r\n:-1\r\n:0\r\n$-1\r\n*-1\r\n$0\r\n\r\n"
                "$5\r\nab\r\nc\r\n-ERR no\r\n+PONG\r\n+QUEUE\r\n+OKAY\r\n"),
          false, "ok queued queued 12 -1 0 nil nil ok ok (ERR no) ok ok ok ");
}

static void a_nested_array_is_one_reply(void **state)
{
    (void)state;
    check(SLICE("*3\r\n*2\r\n:1\r\n$3\r\na\r\n\r\n*0\r\n*1\r\n*1\r\n-ERR inside\r\n:7\r\n"
                "*0\r\n*2\r\n$-1\r\n*-1\r\n*1\r\n$2\r\nxy\r\n+OK\r\n"),
          false, "ok 7 ok ok ok ok ");
}

static void the_elements_of_an_exec_are_replies(void **state)
{
    (void)state;
    check(SLICE("*6\r\n+OK\r\n:1\r\n$-1\r\n-OOM x\r\n$3\r\nabc\r\n+OK\r\n"), true,
          "[6] ok 1 nil (OOM x) ok ok ");
    check(SLICE("*0\r\n"), true, "[0] ");
    check(SLICE("*-1\r\n"), true, "nil ");
}

static void an_exec_may_hold_arrays(void **state)
{
    (void)state;
    // As the batcher does it: only the header is asked to be taken apart.
    struct slice in = SLICE("*2\r\n*2\r\n:1\r\n*1\r\n:2\r\n:3\r\n");
    struct replies r = {0};
    struct reply reply;
    size_t used, at = 0;
    assert_int_equal(replies_next(&r, in.p, in.n, &used, true, 1, &reply), 0);
    assert_int_equal(reply.kind, REPLY_ARRAY);
    at += used;
    assert_int_equal(replies_next(&r, in.p + at, in.n - at, &used, false, 2, &reply), 0);
    assert_int_equal(reply.kind, REPLY_OK);
    at += used;
    assert_int_equal(replies_next(&r, in.p + at, in.n - at, &used, false, 1, &reply), 0);
    assert_int_equal(reply.kind, REPLY_INTEGER);
    assert_int_equal(reply.num, 3);
    replies_free(&r);
}

static void a_bulk_of_any_size_is_passed_over_and_not_kept(void **state)
{
    (void)state;
    struct replies r = {0};
    struct reply reply;
    size_t used;
    const uint64_t size = UINT64_C(5) << 30;
    char head[64];
    int n = snprintf(head, sizeof(head), "*2\r\n:1\r\n$%llu\r\n", (unsigned long long)size);
    assert_int_equal(replies_next(&r, head, (size_t)n, &used, false, 1, &reply), 0);
    assert_int_equal(reply.kind, REPLY_NONE);
    static char piece[1 << 20]; // newlines and bytes that look like replies
    memset(piece, '\n', sizeof(piece));
    memcpy(piece, "+OK\r\n", 5);
    for (uint64_t at = 0; at < size; at += sizeof(piece)) {
        assert_int_equal(replies_next(&r, piece, sizeof(piece), &used, false, 9, &reply), 0);
        assert_int_equal(used, sizeof(piece));
        assert_int_equal(reply.kind, REPLY_NONE);
    }
    assert_true(r.line.cap < 1024);
    assert_int_equal(replies_next(&r, "\r\n+QUEUED\r\n", 11, &used, false, 1, &reply), 0);
    assert_int_equal(reply.kind, REPLY_OK);
    assert_int_equal(used, 2);
    replies_free(&r);
}

static void runs_stop_at_their_limit(void **state)
{
    (void)state;
    struct replies r = {0};
    struct reply reply;
    size_t used;
    struct slice in = SLICE("+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
    assert_int_equal(replies_next(&r, in.p, in.n, &used, false, 2, &reply), 0);
    assert_int_equal(reply.count, 2);
    assert_int_equal(used, 18);
    replies_free(&r);
}

static void what_is_no_reply_is_an_error(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\r\n",    "hello\r\n", "$x\r\n", "$-2\r\n",
        "*-5\r\n", ":1x\r\n",   "+OK\n",  "$99999999999999\r\n",
        "*+1\r\n", ":\r\n",     "%1\r\n", "*1099511627776\r\n*1099511627776\r\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct buf got = {0};
        if (read_all(slice_cstr(bad[i]), 1, 1, false, 1, &got) != ERR_PROTOCOL)
            fail_msg("%s was taken", bad[i]);
        buf_free(&got);
    }
    // A line that never ends is not collected for ever.
    struct replies r = {0};
    struct reply reply;
    size_t used;
    char line[1000];
    memset(line, '+', sizeof(line));
    int rc = 0;
    for (int i = 0; i < 100 && rc == 0; i++)
        rc = replies_next(&r, line, sizeof(line), &used, false, 1, &reply);
    assert_int_equal(rc, ERR_PROTOCOL);
    replies_free(&r);
}

static void a_bulk_that_is_kept_is_told_at_every_split(void **state)
{
    (void)state;
    struct slice in = SLICE("$7\r\nab\r\ncd\n\r\n+OK\r\n");
    for (size_t first = 1; first < in.n; first++) {
        struct replies r = {.keep = true};
        struct reply reply = {0};
        size_t used, at = 0;
        for (size_t end = first; at < in.n; end = in.n) {
            assert_int_equal(replies_next(&r, in.p + at, end - at, &used, false, 9, &reply), 0);
            at += used;
            if (reply.kind != REPLY_NONE)
                break;
        }
        assert_int_equal(reply.kind, REPLY_OK);
        assert_int_equal(reply.text.n, 7);
        assert_memory_equal(reply.text.p, "ab\r\ncd\n", 7);
        r.keep = false;
        assert_int_equal(replies_next(&r, in.p + at, in.n - at, &used, false, 9, &reply), 0);
        assert_int_equal(reply.kind, REPLY_OK);
        assert_int_equal(at + used, in.n);
        replies_free(&r);
    }
    struct replies r = {.keep = true};
    struct reply reply;
    size_t used;
    struct slice big = SLICE("$70000\r\nx");
    assert_int_equal(replies_next(&r, big.p, big.n, &used, false, 9, &reply), ERR_PROTOCOL);
    replies_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_is_told_at_every_split),
        cmocka_unit_test(a_nested_array_is_one_reply),
        cmocka_unit_test(the_elements_of_an_exec_are_replies),
        cmocka_unit_test(an_exec_may_hold_arrays),
        cmocka_unit_test(a_bulk_of_any_size_is_passed_over_and_not_kept),
        cmocka_unit_test(a_bulk_that_is_kept_is_told_at_every_split),
        cmocka_unit_test(runs_stop_at_their_limit),
        cmocka_unit_test(what_is_no_reply_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
#include "target/outq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/buf.h"

static char pool[1 << 20]; // what is borrowed

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

// Takes up to n bytes off the queue as a socket would.
static void take(struct outq *q, size_t n, struct buf *out)
{
    struct iovec iov[7];
    int k = outq_iov(q, iov, 7);
    size_t sent = 0;
    for (int i = 0; i < k && sent < n; i++) {
        size_t part = iov[i].iov_len < n - sent ? iov[i].iov_len : n - sent;
        buf_append(out, iov[i].iov_base, part);
        sent += part;
    }
    outq_sent(q, sent);
}

static void bytes_leave_in_the_order_they_came(void **state)
{
    (void)state;
    struct outq q = {0};
    struct buf want = {0}, got = {0};
    uint32_t seed = 7;
    for (size_t i = 0; i < sizeof(pool); i++)
        pool[i] = (char)next_random(&seed);
    for (int round = 0; round < 20000; round++) {
        size_t n = next_random(&seed) % (round % 100 == 0 ? 200000 : 300);
        size_t at = next_random(&seed) % (sizeof(pool) - n);
        switch (next_random(&seed) % 4) {
        case 0:
            outq_put(&q, pool + at, n);
            break;
        case 1:
            outq_borrow(&q, pool + at, n);
            break;
        case 2:
            memcpy(outq_reserve(&q, n + 100), pool + at, n);
            outq_commit(&q, n);
            break;
        case 3:
            n = 0;
            take(&q, next_random(&seed) % 4000, &got);
            break;
        }
        buf_append(&want, pool + at, n);
        assert_int_equal(q.bytes, want.n - got.n);
        assert_int_equal(q.total, want.n);
    }
    while (q.bytes)
        take(&q, SIZE_MAX, &got);
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.p, want.p, want.n);
    outq_put(&q, pool, 100000); // freed with bytes unsent
    outq_free(&q);
    buf_free(&want);
    buf_free(&got);
}

static void long_spans_are_borrowed_and_short_ones_copied(void **state)
{
    (void)state;
    struct outq q = {0};
    char text[] = "ten bytes.";
    outq_borrow(&q, text, 10);
    outq_borrow(&q, pool, 1000);
    outq_borrow(&q, pool + 1000, 5); // joins
    memset(text, 'x', 10);
    struct iovec iov[4];
    assert_int_equal(outq_iov(&q, iov, 4), 2);
    assert_memory_equal(iov[0].iov_base, "ten bytes.", 10);
    assert_ptr_equal(iov[1].iov_base, pool);
    assert_int_equal(iov[1].iov_len, 1005);
    outq_free(&q);
}

static void a_big_piece_is_not_kept_once_it_is_sent(void **state)
{
    (void)state;
    struct outq q = {0};
    size_t n = 8 << 20;
    memset(outq_reserve(&q, n), 'x', n);
    outq_commit(&q, n);
    outq_sent(&q, n);
    assert_null(q.current);
    outq_put(&q, "abc", 3);
    struct iovec iov[2];
    assert_int_equal(outq_iov(&q, iov, 2), 1);
    assert_memory_equal(iov[0].iov_base, "abc", 3);
    outq_free(&q);
}

static void the_ring_grows_with_its_order_kept(void **state)
{
    (void)state;
    struct outq q = {0};
    struct buf want = {0}, got = {0};
    // Every second byte apart, so that nothing joins; the head is not at the ring's start.
    for (size_t i = 0; i < 3000; i++) {
        outq_borrow(&q, pool + 100 * (i % 5000), 50);
        buf_append(&want, pool + 100 * (i % 5000), 50);
        if (i < 40)
            take(&q, 50, &got);
    }
    assert_int_equal(q.count, 3000 - 40);
    while (q.bytes)
        take(&q, 333, &got);
    assert_memory_equal(got.p, want.p, want.n);
    outq_free(&q);
    buf_free(&want);
    buf_free(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_leave_in_the_order_they_came),
        cmocka_unit_test(long_spans_are_borrowed_and_short_ones_copied),
        cmocka_unit_test(a_big_piece_is_not_kept_once_it_is_sent),
        cmocka_unit_test(the_ring_grows_with_its_order_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "listener.h"
#include "net/conn.h"

struct reader {
    struct conn *conn;
    size_t got;
    ssize_t ended;
};

// As a reader does that leaves off when it has enough for one turn.
static void read_a_little(void *ctx, int events)
{
    struct reader *r = ctx;
    char piece[100];
    if (!(events & CONN_READ))
        return;
    ssize_t n = conn_recv(r->conn, piece, sizeof(piece));
    if (n > 0)
        r->got += (size_t)n;
    else if (n != -EAGAIN)
        r->ended = n;
}

static void a_reset_behind_what_is_still_to_be_read_is_told(void **state)
{
    (void)state;
    struct sockaddr_in at;
    int listener = listen_somewhere(&at);
    char text[32];
    snprintf(text, sizeof(text), "127.0.0.1:%d", ntohs(at.sin_port));
    struct endpoint ep;
    struct err e = {0};
    assert_int_equal(endpoint_parse(&ep, slice_cstr(text), &e), 0);
    struct reader r = {0};
    assert_int_equal(conn_dial(&r.conn, &ep, 5000, &e), 0);
    int peer = accept(listener, NULL, NULL);
    char bytes[1000] = {0};
    assert_int_equal(send(peer, bytes, sizeof(bytes), 0), sizeof(bytes));
    assert_int_equal(
        setsockopt(peer, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)), 0);
    close(peer);

    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    conn_watch(r.conn, &loop, read_a_little, &r);
    conn_want(r.conn, CONN_READ);
    for (int i = 0; i < 1000 && !r.ended; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(100);
    }
    assert_true(r.ended < 0);
    conn_close(r.conn);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    endpoint_free(&ep);
    close(listener);
}

static void nothing_is_written_when_the_deadline_has_passed(void **state)
{
    (void)state;
    struct sockaddr_in at;
    int listener = listen_somewhere(&at);
    _Atomic int64_t deadline = INT64_MAX;
    char host[] = "127.0.0.1", got[8];
    struct endpoint fixed = {.host = host, .port = ntohs(at.sin_port), .send_until = &deadline};
    struct endpoint ep;
    struct err e = {0};
    const struct endpoint_finder none = {0};
    assert_int_equal(endpoint_find(&ep, &fixed, &none, &e), 0);
    struct conn *c;
    assert_int_equal(conn_dial(&c, &ep, 5000, &e), 0);
    int peer = accept(listener, NULL, NULL);
    struct iovec iov = {.iov_base = host, .iov_len = 3};
    assert_int_equal(conn_writev(c, &iov, 1), 3);
    deadline = clock_boot_ms();
    assert_int_equal(conn_writev(c, &iov, 1), ERR_LEASE);
    deadline = clock_boot_ms() + 60000;
    assert_int_equal(conn_writev(c, &iov, 1), 3);
    conn_close(c);
    size_t n = 0;
    for (ssize_t r; (r = recv(peer, got + n, sizeof(got) - n, 0)) > 0;)
        n += (size_t)r;
    assert_int_equal(n, 6);
    endpoint_free(&ep);
    close(peer);
    close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reset_behind_what_is_still_to_be_read_is_told),
        cmocka_unit_test(nothing_is_written_when_the_deadline_has_passed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

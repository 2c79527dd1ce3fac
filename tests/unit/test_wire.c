// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "listener.h"
#include "target/wire.h"
#include "tls_files.h"

enum { ANSWERS = 200 };

struct peer {
    int listener;
    char dir[32], cert[64], key[64];
    struct conn *conn;
};

// Shakes hands, then sends one TLS record an answer, all of them in one piece.
static void *answer_in_records(void *arg)
{
    struct peer *p = arg;
    struct tls_options o = {.enabled = true, .cert_file = p->cert, .key_file = p->key};
    struct tls_server *server;
    struct err e;
    char c;
    int on = 1, off = 0;
    must(tls_server_new(&server, &o, &e) == 0);
    int fd = accept(p->listener, NULL, NULL);
    must(fd >= 0 && conn_accept(&p->conn, fd, server) == 0);
    while (conn_recv(p->conn, &c, 1) == -EAGAIN)
        must(conn_wait(p->conn, CONN_READ, 5000) == 0);
    must(c == '!');
    must(setsockopt(conn_fd(p->conn), IPPROTO_TCP, TCP_CORK, &on, sizeof(on)) == 0);
    char ok[] = "+OK\r\n";
    struct iovec answer = {.iov_base = ok, .iov_len = 5};
    for (int i = 0; i < ANSWERS; i++)
        must(conn_writev(p->conn, &answer, 1) == 5);
    must(setsockopt(conn_fd(p->conn), IPPROTO_TCP, TCP_CORK, &off, sizeof(off)) == 0);
    tls_server_free(server);
    return NULL;
}

static struct conn *dial(struct peer *p, pthread_t *thread)
{
    struct sockaddr_in at;
    struct conn *c;
    struct err e;
    snprintf(p->dir, sizeof(p->dir), "/tmp/gunyu-wire-XXXXXX");
    must(mkdtemp(p->dir));
    snprintf(p->cert, sizeof(p->cert), "%s/cert.pem", p->dir);
    snprintf(p->key, sizeof(p->key), "%s/key.pem", p->dir);
    tls_files_write(p->cert, p->key, "IP:127.0.0.1");
    p->listener = listen_somewhere(&at);
    must(pthread_create(thread, NULL, answer_in_records, p) == 0);
    char host[] = "127.0.0.1";
    struct endpoint ep = {
        .host = host, .port = ntohs(at.sin_port), .tls = {.enabled = true, .insecure = true}};
    assert_int_equal(conn_dial(&c, &ep, 5000, &e), 0);
    return c;
}

static size_t taken;

static int take(void *ctx, const char *p, size_t n)
{
    (void)ctx, (void)p;
    taken += n;
    return 0;
}

static void failed(void *ctx, const struct err *why)
{
    (void)ctx;
    fail_msg("%s", why->msg);
}

static void turned(void *ctx)
{
    (void)ctx;
}

static bool may_rest(void *ctx, uint64_t *from)
{
    (void)ctx, (void)from;
    return false;
}

static void too_late(uv_timer_t *t)
{
    t->data = NULL;
}

// The socket tells nothing of what OpenSSL has read already.
static void answers_in_more_records_than_are_read_at_a_turn_are_all_taken(void **state)
{
    (void)state;
    static const struct wire_events events = {
        .take = take, .failed = failed, .turned = turned, .may_rest = may_rest};
    struct peer p;
    pthread_t thread;
    struct wire w = {0};
    uv_loop_t loop;
    uv_timer_t patience;
    must(uv_loop_init(&loop) == 0 && uv_timer_init(&loop, &patience) == 0);
    wire_init(&w, &loop, &events, NULL, "test");
    struct conn *c = dial(&p, &thread);
    char greeting[] = "!";
    struct iovec hello = {.iov_base = greeting, .iov_len = 1};
    assert_int_equal(conn_writev(c, &hello, 1), 1);
    pthread_join(thread, NULL);
    wire_attach(&w, c);
    patience.data = &w;
    uv_timer_start(&patience, too_late, 3000, 0);
    while (taken < 5 * ANSWERS && patience.data)
        uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(taken, 5 * ANSWERS);
    wire_close(&w);
    uv_close((uv_handle_t *)&patience, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    must(uv_loop_close(&loop) == 0);
    conn_close(p.conn);
    close(p.listener);
    unlink(p.cert);
    unlink(p.key);
    rmdir(p.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_in_more_records_than_are_read_at_a_turn_are_all_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

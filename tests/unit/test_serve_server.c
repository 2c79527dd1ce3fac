// SPDX-License-Identifier: Apache-2.0
// The listener and its thread, with clients over real sockets.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/server.h"

enum { LONG_MS = 10000 };

struct world {
    struct serve_server *server;
    uv_mutex_t lock; // guards what follows
    struct serve_guest *guest;
    char shard[SESSION_NAME_MAX];
};

static int facts(void *ctx, const char *shard, struct serve_facts *out, struct err *e)
{
    (void)ctx;
    (void)shard;
    (void)e;
    *out = (struct serve_facts){.needed_offset = -1, .replid2_offset = -1};
    return 0;
}

static int attach(void *ctx, const char *shard, struct serve_guest *g, struct err *e)
{
    struct world *w = ctx;
    if (strcmp(shard, "later") == 0)
        return err_set(e, ERR_REPLY, "NOMASTERLINK not yet");
    uv_mutex_lock(&w->lock);
    w->guest = g;
    snprintf(w->shard, sizeof(w->shard), "%s", shard);
    uv_mutex_unlock(&w->lock);
    return 0;
}

static void start(struct world *w, const char *password)
{
    *w = (struct world){0};
    must(uv_mutex_init(&w->lock) == 0);
    struct serve_server_options o = {.listen = "127.0.0.1:0",
                                     .password = password,
                                     .version = "1",
                                     .ops = {.facts = facts, .attach = attach, .ctx = w}};
    struct err e = {0};
    if (serve_server_start(&w->server, &o, &e))
        fail_msg("%s", e.msg);
}

static void stop(struct world *w)
{
    serve_server_stop(w->server);
    serve_guest_free(w->guest);
    uv_mutex_destroy(&w->lock);
}

static int dial(const struct world *w)
{
    char at[80];
    serve_server_address(w->server, at, sizeof(at));
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)atoi(strrchr(at, ':') + 1)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static void say(int fd, const char *s)
{
    assert_int_equal(send(fd, s, strlen(s), MSG_NOSIGNAL), strlen(s));
}

// Reads until the text has come; false when the connection ends or nothing comes.
static bool hear(int fd, const char *expected)
{
    char got[4096] = {0};
    size_t n = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (n < strlen(expected) && poll(&p, 1, LONG_MS) > 0) {
        ssize_t r = recv(fd, got + n, strlen(expected) - n, 0);
        if (r <= 0)
            return false;
        n += (size_t)r;
    }
    if (strcmp(got, expected) != 0)
        fail_msg("%s instead of %s", got, expected);
    return true;
}

static bool ended(int fd)
{
    char byte;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (poll(&p, 1, LONG_MS) > 0) {
        ssize_t r = recv(fd, &byte, 1, 0);
        if (r <= 0)
            return true;
    }
    return false;
}

static void a_client_is_handed_over_with_what_it_has_said(void **state)
{
    (void)state;
    struct world w;
    start(&w, "secret");
    int fd = dial(&w);
    say(fd, "AUTH shard-a secret\r\nREPLCONF capa psync2\r\nPSYNC ? -1\r\nREPLCONF ACK 5\r\n");
    struct serve_guest *g = NULL;
    for (int i = 0; i < LONG_MS && !g; i++) {
        usleep(1000);
        uv_mutex_lock(&w.lock);
        g = w.guest;
        uv_mutex_unlock(&w.lock);
    }
    assert_non_null(g);
    assert_string_equal(w.shard, "shard-a");
    assert_string_equal(g->peer, "127.0.0.1");
    assert_true(g->request.psync2);
    assert_string_equal(buf_cstr(&g->in), "REPLCONF ACK 5\r\n");
    // Replies that were not sent yet go before what the new owner says.
    assert_string_equal(buf_cstr(&g->out), "+OK\r\n+OK\r\n");
    char hi[] = "hi";
    struct iovec iov = {hi, 2};
    assert_int_equal(conn_writev(g->conn, &iov, 1), 2);
    assert_true(hear(fd, "hi"));
    close(fd);
    stop(&w);
}

static void who_is_refused_is_told_why_and_may_ask_again(void **state)
{
    (void)state;
    struct world w;
    start(&w, "secret");
    int fd = dial(&w);
    say(fd, "AUTH later secret\r\nPSYNC ? -1\r\n");
    assert_true(hear(fd, "+OK\r\n-NOMASTERLINK not yet\r\n"));
    say(fd, "PSYNC ? -1\r\nPING\r\n");
    assert_true(hear(fd, "-NOMASTERLINK not yet\r\n+PONG\r\n"));
    say(fd, "QUIT\r\n");
    assert_true(hear(fd, "+OK\r\n"));
    assert_true(ended(fd));
    close(fd);
    stop(&w);
}

static void strangers_do_not_keep_others_out(void **state)
{
    (void)state;
    struct world w;
    start(&w, "secret");
    int known = dial(&w);
    say(known, "AUTH secret\r\n");
    assert_true(hear(known, "+OK\r\n"));
    int strangers[150];
    for (int i = 0; i < 150; i++)
        strangers[i] = dial(&w);
    int late = dial(&w);
    say(late, "AUTH secret\r\nPING\r\n");
    assert_true(hear(late, "+OK\r\n+PONG\r\n"));
    say(known, "PING\r\n");
    assert_true(hear(known, "+PONG\r\n"));
    assert_true(ended(strangers[0]));
    for (int i = 0; i < 150; i++)
        close(strangers[i]);
    close(known);
    close(late);
    stop(&w);
}

static void a_stranger_is_heard_for_so_many_bytes_only(void **state)
{
    (void)state;
    struct world w;
    start(&w, "secret");
    int fd = dial(&w);
    int rc = 0;
    for (int i = 0; i < 100 && rc == 0; i++) {
        char line[1001];
        memset(line, '\n', 1000);
        line[1000] = 0;
        rc = send(fd, line, 1000, MSG_NOSIGNAL) < 0 ? -errno : 0;
    }
    assert_true(rc < 0 || ended(fd));
    close(fd);
    stop(&w);
}

static void an_address_that_cannot_be_served_is_an_error(void **state)
{
    (void)state;
    struct world w;
    start(&w, NULL);
    char at[80];
    struct serve_server *other;
    struct err e = {0};
    struct serve_server_options o = {.version = "1"};
    o.listen = serve_server_address(w.server, at, sizeof(at));
    assert_int_equal(serve_server_start(&other, &o, &e), -EADDRINUSE);
    assert_non_null(strstr(e.msg, "server.replication.listen"));
    o.listen = "127.0.0.1:0";
    char nowhere[] = "/nowhere";
    o.tls = (struct tls_options){.enabled = true, .cert_file = nowhere, .key_file = nowhere};
    assert_int_equal(serve_server_start(&other, &o, &e), ERR_TLS);
    assert_non_null(strstr(e.msg, "server.replication"));
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_is_handed_over_with_what_it_has_said),
        cmocka_unit_test(who_is_refused_is_told_why_and_may_ask_again),
        cmocka_unit_test(strangers_do_not_keep_others_out),
        cmocka_unit_test(a_stranger_is_heard_for_so_many_bytes_only),
        cmocka_unit_test(an_address_that_cannot_be_served_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
// Sentinels that answer nonsense or hang up; live ones are in tests/integration/test_topology.py.
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "listener.h"
#include "redis/sentinel.h"

// Sentinel and master at once, on a thread: to each command the answer that begins with its name
// ("" hangs up, NULL says nothing). One connection after the other, or two that overlap.
struct fake {
    const char *sentinel, *role, *info, *subscribe, *ping;
    int listener, wake[2];
    pthread_t thread;
    uint16_t port;
    struct endpoint endpoint;
    atomic_int subscriptions;
};

enum { CONNECTIONS = 8 };

static const char *answer(struct fake *f, const char *command)
{
    if (strstr(command, "SUBSCRIBE"))
        atomic_fetch_add(&f->subscriptions, 1);
    return strstr(command, "SENTINEL")    ? f->sentinel
           : strstr(command, "ROLE")      ? f->role
           : strstr(command, "INFO")      ? f->info
           : strstr(command, "SUBSCRIBE") ? f->subscribe
                                          : f->ping;
}

// False: the connection is over.
static bool serve(struct fake *f, int fd)
{
    char command[256];
    ssize_t n = recv(fd, command, sizeof(command) - 1, 0);
    if (n <= 0)
        return false;
    command[n] = '\0';
    const char *text = answer(f, command);
    if (text && text[0])
        assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    return !text || text[0];
}

static void *run(void *arg)
{
    struct fake *f = arg;
    struct pollfd p[2 + CONNECTIONS] = {{.fd = f->listener, .events = POLLIN},
                                        {.fd = f->wake[0], .events = POLLIN}};
    for (int i = 0; i < CONNECTIONS; i++)
        p[2 + i] = (struct pollfd){.fd = -1, .events = POLLIN};
    while (poll(p, 2 + CONNECTIONS, -1) > 0 && !p[1].revents) {
        for (int i = 2; i < 2 + CONNECTIONS; i++)
            if (p[i].fd >= 0 && p[i].revents && !serve(f, p[i].fd)) {
                close(p[i].fd);
                p[i].fd = -1;
            }
        for (int i = 2; p[0].revents && i < 2 + CONNECTIONS; i++)
            if (p[i].fd < 0) {
                p[i].fd = accept(f->listener, NULL, NULL);
                p[i].revents = 0;
                break;
            }
    }
    for (int i = 2; i < 2 + CONNECTIONS; i++)
        if (p[i].fd >= 0)
            close(p[i].fd);
    return NULL;
}

static void start(struct fake *f)
{
    static char host[] = "127.0.0.1";
    struct sockaddr_in a;
    memset(f, 0, sizeof(*f));
    f->role = "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
    f->subscribe = "*3\r\n+subscribe\r\n+x\r\n:1\r\n";
    f->ping = "*2\r\n+pong\r\n+\r\n";
    f->listener = listen_somewhere(&a);
    must(pipe(f->wake) == 0);
    f->port = ntohs(a.sin_port);
    f->endpoint = (struct endpoint){.host = host, .port = f->port};
}

static void go(struct fake *f)
{
    must(pthread_create(&f->thread, NULL, run, f) == 0);
}

static void stop(struct fake *f)
{
    must(write(f->wake[1], "x", 1) == 1);
    pthread_join(f->thread, NULL);
    close(f->listener);
    close(f->wake[0]);
    close(f->wake[1]);
}

static struct sentinel_options options(const struct fake *f, const struct endpoint *data)
{
    return (struct sentinel_options){.sentinels = &f->endpoint,
                                     .n = 1,
                                     .master_name = "mymaster",
                                     .data = data,
                                     .timeout_ms = 2000};
}

static const char *address_of(const struct fake *f, char text[64])
{
    char port[8];
    int n = snprintf(port, sizeof(port), "%u", (unsigned)f->port);
    snprintf(text, 64, "*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n", n, port);
    return text;
}

static int master_of(const char *sentinel, const char *role, const char *info)
{
    struct fake f;
    struct endpoint found;
    const struct endpoint data = {.db = 7}; // not selected to ask for the role
    struct err e = {0};
    char text[64];
    start(&f);
    f.sentinel = sentinel ? sentinel : address_of(&f, text);
    f.role = role ? role : f.role;
    f.info = info;
    go(&f);
    const struct sentinel_options o = options(&f, &data);
    int rc = sentinel_master(&found, &o, &e);
    assert_int_equal(rc, e.code);
    if (rc == 0) {
        assert_int_equal(found.port, f.port);
        assert_int_equal(found.db, 7);
        endpoint_free(&found);
    }
    stop(&f);
    return rc;
}

static void answers_that_name_no_address_are_errors(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        int rc;
    } table[] = {
        {"*-1\r\n", ERR_REPLY},
        {"$-1\r\n", ERR_REPLY},
        {"-IDONTKNOW\r\n", ERR_REPLY},
        {"+OK\r\n", ERR_PROTOCOL},
        {":2\r\n", ERR_PROTOCOL},
        {"*0\r\n", ERR_PROTOCOL},
        {"*1\r\n+127.0.0.1\r\n", ERR_PROTOCOL},
        {"*2\r\n*1\r\n+127.0.0.1\r\n+1\r\n", ERR_PROTOCOL},
        {"*2\r\n+127.0.0.1\r\n+0\r\n", ERR_PROTOCOL},
        {"*2\r\n+127.0.0.1\r\n+65536\r\n", ERR_PROTOCOL},
        {"*2\r\n+127.0.0.1\r\n+x\r\n", ERR_PROTOCOL},
        {"*2\r\n$-1\r\n+1\r\n", ERR_PROTOCOL},
        {"*2\r\n+a b\r\n+1\r\n", ERR_PROTOCOL},
        {"nonsense\r\n", ERR_PROTOCOL},
        {"", ERR_CLOSED},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        assert_int_equal(master_of(table[i].answer, NULL, NULL), table[i].rc);
}

static void only_what_calls_itself_a_master_is_one(void **state)
{
    (void)state;
    static const char refused[] = "-NOPERM no\r\n";
    assert_int_equal(master_of(NULL, NULL, NULL), 0);
    assert_int_equal(master_of(NULL, "*1\r\n+slave\r\n", NULL), ERR_REPLY);
    assert_int_equal(master_of(NULL, "*1\r\n+sentinel\r\n", NULL), ERR_REPLY);
    assert_int_equal(master_of(NULL, "*0\r\n", NULL), ERR_REPLY);
    assert_int_equal(master_of(NULL, "+master\r\n", NULL), ERR_REPLY);
    assert_int_equal(master_of(NULL, "", NULL), ERR_CLOSED);
    assert_int_equal(master_of(NULL, refused, "$13\r\nrole:master\r\n\r\n"), 0);
    assert_int_equal(master_of(NULL, refused, "$12\r\nrole:slave\r\n\r\n"), ERR_REPLY);
    assert_int_equal(master_of(NULL, refused, refused), ERR_REPLY);
}

static int wait_for(struct fake *f, int ms, const struct endpoint *current)
{
    const struct endpoint data = {0};
    const struct sentinel_options o = options(f, &data);
    atomic_bool cancel = false;
    struct err e = {0};
    int rc = sentinel_wait_other(&o, current, ms, &cancel, &e);
    assert_true(rc == e.code || rc == 1);
    return rc;
}

#define SUBSCRIBED "*3\r\n+subscribe\r\n+x\r\n:1\r\n"
#define MESSAGE(channel, text) "*3\r\n+message\r\n+" channel "\r\n+" text "\r\n"

static void only_a_switch_of_this_master_ends_the_wait(void **state)
{
    (void)state;
    static const struct {
        const char *said;
        int rc;
    } table[] = {
        {SUBSCRIBED MESSAGE("+switch-master", "mymaster 1 2 3 4"), 1},
        {SUBSCRIBED MESSAGE("+switch-master", "other 1 2 3 4"), 0},
        {SUBSCRIBED MESSAGE("+switch-master", "mymaster2 1 2 3 4"), 0},
        {SUBSCRIBED MESSAGE("+switch-master", "mymaster"), 0},
        {SUBSCRIBED MESSAGE("+sdown", "mymaster 1 2 3 4"), 0},
        {SUBSCRIBED ":3\r\n*0\r\n*3\r\n*0\r\n*0\r\n*0\r\n$-1\r\n", 0},
        {SUBSCRIBED MESSAGE("+switch-master", "other 1") MESSAGE("+switch-master", "mymaster 1"),
         1},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct fake f;
        char text[64];
        start(&f);
        f.sentinel = address_of(&f, text);
        f.subscribe = table[i].said;
        go(&f);
        assert_int_equal(wait_for(&f, table[i].rc ? 20000 : 150, NULL), table[i].rc);
        stop(&f);
    }
}

static void another_master_than_the_known_one_ends_the_wait(void **state)
{
    (void)state;
    struct fake f;
    char text[64];
    start(&f);
    f.sentinel = address_of(&f, text);
    go(&f);
    struct endpoint known = f.endpoint;
    assert_int_equal(wait_for(&f, 150, &known), 0);
    known.port++;
    assert_int_equal(wait_for(&f, 20000, &known), 1);
    stop(&f);
}

static void who_refuses_the_subscription_is_an_error(void **state)
{
    (void)state;
    static const struct {
        const char *said;
        int rc;
    } table[] = {{"-NOPERM no\r\n", ERR_REPLY}, {"", ERR_CLOSED}, {"x\r\n", ERR_PROTOCOL}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct fake f;
        start(&f);
        f.subscribe = table[i].said;
        go(&f);
        assert_int_equal(wait_for(&f, 20000, NULL), table[i].rc);
        stop(&f);
    }
}

static void who_hangs_up_again_and_again_is_not_dialled_without_end(void **state)
{
    (void)state;
    struct fake f;
    char text[64];
    start(&f);
    f.sentinel = address_of(&f, text);
    f.subscribe = SUBSCRIBED "nonsense\r\n";
    go(&f);
    assert_int_equal(wait_for(&f, 1000, NULL), 0);
    assert_in_range(atomic_load(&f.subscriptions), 2, 12);
    stop(&f);
}

static void nobody_to_ask_is_an_error(void **state)
{
    (void)state;
    const struct sentinel_options o = {.timeout_ms = 1};
    struct endpoint found;
    struct err e = {0};
    assert_int_equal(sentinel_master(&found, &o, &e), ERR_CONFIG);
    assert_int_equal(e.code, ERR_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_that_name_no_address_are_errors),
        cmocka_unit_test(only_what_calls_itself_a_master_is_one),
        cmocka_unit_test(only_a_switch_of_this_master_ends_the_wait),
        cmocka_unit_test(another_master_than_the_known_one_ends_the_wait),
        cmocka_unit_test(who_refuses_the_subscription_is_an_error),
        cmocka_unit_test(who_hangs_up_again_and_again_is_not_dialled_without_end),
        cmocka_unit_test(nobody_to_ask_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
// Connections and the blocking client against a real server, plain, by unix socket and by TLS.
#include <errno.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/mem.h"
#include "redis/info.h"
#include "server.h"
#include "tls_files.h"

static struct server plain, tls;
static char cert[128], key[128], other_cert[128], other_key[128], unix_path[128];

static int start_servers(void **state)
{
    (void)state;
    server_init(&plain);
    snprintf(unix_path, sizeof(unix_path), "%s/s", plain.dir);
    const char *const options[] = {"--unixsocket", unix_path, "--databases", "23",    "--user",
                                   "limited",      "on",      ">pw",         "+ping", "~*",
                                   "--maxmemory",  "100mb",   "--user",      "empty", "on",
                                   "nopass",       "+role",   NULL};
    server_start(&plain, options);
    server_init(&tls);
    snprintf(cert, sizeof(cert), "%s/cert.pem", tls.dir);
    snprintf(key, sizeof(key), "%s/key.pem", tls.dir);
    snprintf(other_cert, sizeof(other_cert), "%s/other-cert.pem", tls.dir);
    snprintf(other_key, sizeof(other_key), "%s/other-key.pem", tls.dir);
    tls_files_write(cert, key, "DNS:localhost");
    tls_files_write(other_cert, other_key, "DNS:client");
    char port[8];
    snprintf(port, sizeof(port), "%u", (unsigned)tls.tls_port);
    const char *const tls_options[] = {"--tls-port",
                                       port,
                                       "--tls-cert-file",
                                       cert,
                                       "--tls-key-file",
                                       key,
                                       "--tls-ca-cert-file",
                                       cert,
                                       "--tls-auth-clients",
                                       "optional",
                                       "--requirepass",
                                       "pw",
                                       NULL};
    server_start(&tls, tls_options);
    return 0;
}

static int stop_servers(void **state)
{
    (void)state;
    server_stop(&plain);
    server_stop(&tls);
    return 0;
}

static struct redis_client *must_connect(const struct endpoint *ep)
{
    struct redis_client *r;
    struct err e = {0};
    if (redis_connect(&r, ep, 5000, &e))
        fail_msg("%s", e.msg);
    return r;
}

static void assert_alive(struct redis_client *r)
{
    struct redis_reply reply;
    assert_int_equal(redis_call(r, &reply, NULL, "PING"), 0);
    assert_true(slice_eq(reply.root.text, SLICE("PONG")));
}

static void calls_bring_whole_replies(void **state)
{
    (void)state;
    struct redis_client *r = must_connect(&plain.endpoint);
    struct redis_reply reply;
    struct err e = {0};
    assert_int_equal(redis_call(r, NULL, &e, "RPUSH list %s %d %L", "a", 2, (int64_t)3), 0);
    assert_int_equal(redis_call(r, &reply, &e, "LRANGE list 0 -1"), 0);
    assert_int_equal(reply.root.type, RESP_ARRAY);
    assert_int_equal(reply.root.num, 3);
    struct resp_node n;
    size_t pos = reply.first_child;
    assert_true(resp_next(reply.p, reply.n, &pos, &n));
    assert_true(slice_eq(n.text, SLICE("a")));
    assert_int_equal(redis_call(r, &reply, &e, "INCR list"), ERR_REPLY);
    assert_int_equal(e.code, ERR_REPLY);
    assert_non_null(strstr(e.msg, "WRONGTYPE"));
    assert_int_equal(reply.root.type, RESP_ERROR);
    assert_alive(r);
    redis_close(r);
}

static void a_pipeline_tells_its_first_error_and_stays_in_step(void **state)
{
    (void)state;
    struct redis_client *r = must_connect(&plain.endpoint);
    struct buf b = {0};
    struct redis_reply last;
    struct err e = {0};
    resp_put_cmd(&b, "SET text x");
    resp_put_cmd(&b, "INCR text");
    resp_put_cmd(&b, "NOSUCH");
    resp_put_cmd(&b, "ECHO end");
    assert_int_equal(redis_call_raw(r, buf_slice(&b), 4, &last, &e), ERR_REPLY);
    assert_non_null(strstr(e.msg, "not an integer"));
    assert_true(slice_eq(last.root.text, SLICE("end")));
    assert_alive(r);
    buf_free(&b);
    redis_close(r);
}

static void a_wait_tells_whether_something_has_come_and_breaks_nothing(void **state)
{
    (void)state;
    struct redis_client *r = NULL;
    struct redis_reply reply;
    assert_int_equal(redis_connect(&r, &plain.endpoint, 20000, NULL), 0);
    assert_int_equal(redis_wait(r, 10, NULL), 0);
    assert_int_equal(redis_send(r, SLICE("PING\r\nECHO two\r\n"), NULL), 0);
    assert_int_equal(redis_wait(r, 20000, NULL), 1);
    assert_int_equal(redis_receive(r, &reply, NULL), 0);
    assert_int_equal(redis_wait(r, 20000, NULL), 1); // be it on the socket or read already
    assert_int_equal(redis_receive(r, &reply, NULL), 0);
    assert_true(slice_eq(reply.root.text, SLICE("two")));
    assert_int_equal(redis_wait(r, 0, NULL), 0);
    assert_int_equal(redis_call(r, &reply, NULL, "QUIT"), 0);
    assert_int_equal(redis_wait(r, 20000, NULL), 1);
    assert_int_equal(redis_receive(r, &reply, NULL), ERR_CLOSED);
    assert_int_equal(redis_wait(r, 20000, NULL), ERR_CLOSED);
    redis_close(r);
}

static void large_values_pass_in_both_directions(void **state)
{
    (void)state;
    struct endpoint ep = tls.endpoint;
    ep.port = tls.tls_port;
    ep.password = (char[]){"pw"};
    ep.tls = (struct tls_options){.enabled = true, .insecure = true};
    const struct endpoint *const both[] = {&plain.endpoint, &ep};
    enum { N = 20 * 1000 * 1000 };
    char *p = xmalloc(N);
    for (size_t i = 0; i < N; i++)
        p[i] = (char)(i * 31 + i / 1000);
    for (int i = 0; i < 2; i++) {
        struct redis_client *r = must_connect(both[i]);
        struct slice value = slice_make(p, N);
        struct redis_reply reply;
        struct err e = {0};
        assert_int_equal(redis_call(r, &reply, &e, "SET big %b", &value), 0);
        assert_int_equal(redis_call(r, &reply, &e, "GET big"), 0);
        assert_true(slice_eq(reply.root.text, value));
        assert_int_equal(redis_call(r, &reply, &e, "DEL big"), 0);
        redis_close(r);
    }
    free(p);
}

static void the_login_is_used_and_its_refusal_named(void **state)
{
    (void)state;
    struct endpoint ep = plain.endpoint;
    struct redis_client *r;
    struct err e = {0};
    ep.user = (char[]){"limited"};
    ep.password = (char[]){"pw"};
    r = must_connect(&ep);
    assert_alive(r);
    redis_close(r);
    ep.db = 3;
    assert_int_equal(redis_connect(&r, &ep, 5000, &e), ERR_AUTH);
    ep.db = 0;
    ep.password = (char[]){"SECRET"};
    assert_int_equal(redis_connect(&r, &ep, 5000, &e), ERR_AUTH);
    assert_non_null(strstr(e.msg, "WRONGPASS"));
    assert_null(strstr(e.msg, "SECRET"));
    ep = tls.endpoint;
    r = must_connect(&ep);
    assert_int_equal(redis_call(r, NULL, &e, "PING"), ERR_REPLY);
    assert_non_null(strstr(e.msg, "NOAUTH"));
    redis_close(r);
    ep.password = (char[]){"pw"};
    r = must_connect(&ep);
    assert_alive(r);
    redis_close(r);
}

static void a_database_is_selected(void **state)
{
    (void)state;
    struct endpoint ep = plain.endpoint;
    ep.db = 22;
    struct redis_client *r = must_connect(&ep);
    struct redis_reply reply;
    assert_int_equal(redis_call(r, &reply, NULL, "CLIENT INFO"), 0);
    assert_non_null(memmem(reply.root.text.p, reply.root.text.n, " db=22 ", 7));
    redis_close(r);
    struct err e = {0};
    ep.db = 23;
    assert_int_equal(redis_connect(&r, &ep, 5000, &e), ERR_REPLY);
    assert_non_null(strstr(e.msg, "out of range"));
}

static void a_unix_socket_is_dialled(void **state)
{
    (void)state;
    struct endpoint ep = {.path = unix_path};
    struct redis_client *r = must_connect(&ep);
    assert_alive(r);
    redis_close(r);
}

static void every_address_of_a_name_is_tried(void **state)
{
    (void)state;
    // The name often has ::1 in front, where nothing listens.
    struct endpoint ep = {.host = (char[]){"localhost"}, .port = plain.port};
    struct redis_client *r = must_connect(&ep);
    assert_alive(r);
    redis_close(r);
}

static void failures_to_connect_say_what_and_where(void **state)
{
    (void)state;
    struct endpoint ep = plain.endpoint;
    struct conn *c;
    struct err e = {0};
    ep.port = server_free_port();
    assert_int_equal(conn_dial(&c, &ep, 1000, &e), -ECONNREFUSED);
    assert_non_null(strstr(e.msg, "127.0.0.1:"));
    assert_non_null(strstr(e.msg, "refused"));
    ep.host = (char[]){"no-such-host.invalid"};
    int rc = conn_dial(&c, &ep, 2000, &e);
    assert_true(rc == ERR_RESOLVE || rc == ERR_TIMEOUT);
    assert_non_null(strstr(e.msg, "no-such-host.invalid"));
    ep = (struct endpoint){.path = (char[]){"/nonexistent/s"}};
    assert_int_equal(conn_dial(&c, &ep, 1000, &e), -ENOENT);
}

static void bug_22_half_open_peers_are_noticed(void **state)
{
    (void)state;
    struct redis_client *r = must_connect(&plain.endpoint);
    struct conn *c = redis_take_conn(r);
    int on = 0, timeout = 0;
    socklen_t n = sizeof(int);
    assert_int_equal(getsockopt(conn_fd(c), SOL_SOCKET, SO_KEEPALIVE, &on, &n), 0);
    assert_int_equal(getsockopt(conn_fd(c), IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, &n), 0);
    assert_true(on && timeout > 0);
    conn_close(c);
}

static void bug_22_a_hung_server_is_a_timeout(void **state)
{
    (void)state;
    struct redis_client *r;
    struct err e = {0};
    assert_int_equal(redis_connect(&r, &plain.endpoint, 300, &e), 0);
    kill(plain.pid, SIGSTOP);
    int rc = redis_call(r, NULL, &e, "PING");
    kill(plain.pid, SIGCONT);
    assert_int_equal(rc, ERR_TIMEOUT);
    // The late answer must not be taken for that of the next question.
    assert_int_equal(redis_call(r, NULL, &e, "ECHO x"), ERR_CLOSED);
    redis_close(r);
}

// ---- TLS ----

static struct endpoint tls_endpoint(void)
{
    static char localhost[] = "localhost", pw[] = "pw";
    struct endpoint ep = {.host = localhost, .port = tls.tls_port, .password = pw};
    ep.tls.enabled = true;
    ep.tls.ca_file = cert;
    return ep;
}

static void tls_works_with_the_right_ca_and_name(void **state)
{
    (void)state;
    struct endpoint ep = tls_endpoint();
    struct redis_client *r = must_connect(&ep);
    assert_alive(r);
    redis_close(r);
    ep.tls.min_version = TLS_1_3;
    ep.tls.cert_file = cert;
    ep.tls.key_file = key;
    r = must_connect(&ep);
    assert_alive(r);
    redis_close(r);
    ep.host = plain.endpoint.host;
    ep.tls.server_name = (char[]){"localhost"};
    r = must_connect(&ep);
    assert_alive(r);
    redis_close(r);
}

static void assert_refused_within(const struct endpoint *ep, int timeout_ms, const char *words)
{
    struct redis_client *r;
    struct err e = {0};
    int rc = redis_connect(&r, ep, timeout_ms, &e);
    assert_true(rc < 0 && e.code == rc);
    if (!strstr(e.msg, words))
        fail_msg("'%s' does not say '%s'", e.msg, words);
}

static void assert_refused(const struct endpoint *ep, const char *words)
{
    assert_refused_within(ep, 20000, words);
}

static void tls_refuses_what_it_cannot_verify_and_says_why(void **state)
{
    (void)state;
    struct endpoint ep = tls_endpoint();
    ep.tls.ca_file = NULL;
    assert_refused(&ep, "certificate verify failed: self-signed certificate (host localhost");
    assert_refused(&ep, "tls.caFile");
    ep.tls.insecure = true;
    struct redis_client *r = must_connect(&ep);
    assert_alive(r);
    redis_close(r);
    ep = tls_endpoint();
    ep.tls.ca_file = other_cert;
    assert_refused(&ep, "certificate verify failed");
    ep = tls_endpoint();
    ep.host = plain.endpoint.host;
    assert_refused(&ep, "IP address mismatch");
    ep.tls.server_name = (char[]){"redis.example"};
    assert_refused(&ep, "ostname mismatch");
}

static void tls_misuse_is_explained(void **state)
{
    (void)state;
    struct endpoint ep = tls_endpoint();
    ep.tls.ca_file = (char[]){"/nonexistent.pem"};
    assert_refused(&ep, "tls.caFile '/nonexistent.pem'");
    ep = tls_endpoint();
    ep.tls.cert_file = cert;
    assert_refused(&ep, "belong together");
    ep.tls.key_file = other_key;
    assert_refused(&ep, "tls.keyFile");
    ep = tls_endpoint();
    ep.port = tls.port;
    assert_refused_within(&ep, 500, "does this port speak TLS?");
    ep.tls.cert_file = other_cert;
    ep.tls.key_file = other_key;
    ep.port = tls.tls_port;
    // The refusal comes after the handshake: as an alert, unless a reset overtakes it.
    struct redis_client *r;
    struct err e = {0};
    assert_true(redis_connect(&r, &ep, 20000, &e) < 0);
    assert_true(strstr(e.msg, "alert") || strstr(e.msg, "want tls.certFile"));
}

// ---- what a server is ----

static void a_probe_finds_what_the_server_says(void **state)
{
    (void)state;
    struct redis_client *r = must_connect(&plain.endpoint);
    struct redis_server s;
    struct err e = {0};
    assert_int_equal(redis_probe(r, &s, &e), 0);
    assert_true(s.version >= 60000 && s.version < 990000);
    assert_false(s.is_valkey || s.is_replica || s.cluster_enabled || s.loading);
    assert_int_equal(strlen(s.replid), 40);
    assert_string_equal(s.replid2, "");
    assert_int_equal(s.databases, 23);
    assert_int_equal(s.maxmemory, 100 * 1024 * 1024);
    assert_true(s.used_memory > 0);
    assert_string_equal(s.maxmemory_policy, "noeviction");
    assert_int_equal(s.repl_offset, 0);
    // A Redis 7.0 at least, of any newer version.
    assert_false(s.missing & (1u << REDIS_CMD_RESTORE | 1u << REDIS_CMD_FUNCTION));
    assert_int_equal(!(s.missing & 1u << REDIS_CMD_HPEXPIREAT), s.version >= 70400);
    assert_alive(r);
    redis_close(r);
}

static void a_probe_that_is_refused_is_partial(void **state)
{
    (void)state;
    struct endpoint ep = plain.endpoint;
    ep.user = (char[]){"empty"};
    ep.password = (char[]){""};
    struct redis_client *r = must_connect(&ep);
    struct redis_server s;
    struct err e = {0};
    assert_int_equal(redis_probe(r, &s, &e), 0);
    assert_int_equal(s.version, 0);
    assert_int_equal(s.databases, -1);
    assert_int_equal(s.maxmemory, -1);
    assert_int_equal(s.repl_offset, 0); // of ROLE
    assert_int_equal(e.code, 0);
    redis_close(r);
}

static void info_texts_of_the_field_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int version;
        bool valkey, cluster, replica;
    } table[] = {
        {"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.3\r\n", 80103, true,
         false, false},
        {"redis_version:2.8.24\r\nredis_mode:cluster\r\nrole:slave\r\n", 20824, false, true, true},
        {"redis_version:255.255.255\r\ncluster_enabled:1\r\n", 2559999, false, true, false},
        {"redis_version:8.0-rc1\r\n", 80000, false, false, false},
        {"redis_version:99999999999.1\r\n", 0, false, false, false},
        {"redis_version:\r\n", 0, false, false, false},
        {"xredis_version:1.2.3\nredis_version", 0, false, false, false},
        {"", 0, false, false, false},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct redis_server s;
        redis_server_init(&s);
        redis_server_parse(&s, slice_cstr(table[i].text));
        assert_int_equal(s.version, table[i].version);
        assert_int_equal(s.is_valkey, table[i].valkey);
        assert_int_equal(s.cluster_enabled, table[i].cluster);
        assert_int_equal(s.is_replica, table[i].replica);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_bring_whole_replies),
        cmocka_unit_test(a_pipeline_tells_its_first_error_and_stays_in_step),
        cmocka_unit_test(a_wait_tells_whether_something_has_come_and_breaks_nothing),
        cmocka_unit_test(large_values_pass_in_both_directions),
        cmocka_unit_test(the_login_is_used_and_its_refusal_named),
        cmocka_unit_test(a_database_is_selected),
        cmocka_unit_test(a_unix_socket_is_dialled),
        cmocka_unit_test(every_address_of_a_name_is_tried),
        cmocka_unit_test(failures_to_connect_say_what_and_where),
        cmocka_unit_test(bug_22_half_open_peers_are_noticed),
        cmocka_unit_test(bug_22_a_hung_server_is_a_timeout),
        cmocka_unit_test(tls_works_with_the_right_ca_and_name),
        cmocka_unit_test(tls_refuses_what_it_cannot_verify_and_says_why),
        cmocka_unit_test(tls_misuse_is_explained),
        cmocka_unit_test(a_probe_finds_what_the_server_says),
        cmocka_unit_test(a_probe_that_is_refused_is_partial),
        cmocka_unit_test(info_texts_of_the_field_are_read),
    };
    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}

// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "serve/session.h"

#define ID1 "1111111111111111111111111111111111111111"
#define ID2 "2222222222222222222222222222222222222222"

static int64_t a_time(void)
{
    return 1700000000000;
}

static int facts(void *ctx, const char *shard, struct serve_facts *out, struct err *e)
{
    (void)ctx;
    *out = (struct serve_facts){.source = "10.1.2.3:6379",
                                .link_up = true,
                                .version = 70015,
                                .replid = ID1,
                                .replid2 = ID2,
                                .replid2_offset = 800,
                                .has_log = true,
                                .left = 400,
                                .right = 1000,
                                .clock_ahead_ms = 5,
                                .needed_offset = 700,
                                .replicas_n = 1,
                                .replicas = {{"[::1]:7000", REPLICA_STREAM, 990, 1, 2500}}};
    if (strcmp(shard, "nobody") == 0)
        return err_set(e, ERR_REPLY, "NOMASTERLINK no such\r\nshard");
    return 0;
}

static const struct session_options open_to_all = {
    .version = "9.9", .port = 7, .unix_ms = a_time, .facts = facts};
static const struct session_options guarded = {
    .password = "secret", .version = "9.9", .port = 7, .unix_ms = a_time, .facts = facts};

// Gives the bytes in two parts; what comes out, and what it ended with, as text.
static void talk(const struct session_options *o, const char *in, size_t n, size_t first,
                 struct buf *out)
{
    struct session s;
    struct buf bytes = {0};
    enum session_verdict v = SESSION_MORE;
    session_begin(&s, o, 42);
    for (int part = 0; part < 2 && v == SESSION_MORE; part++) {
        buf_append(&bytes, part ? in + first : in, part ? n - first : first);
        size_t used;
        v = session_step(&s, bytes.p ? bytes.p : "", bytes.n, &used);
        assert_true(used <= bytes.n);
        buf_consume(&bytes, used);
        // As the user does, which sends at once.
        buf_append(out, s.out.p, s.out.n);
        buf_clear(&s.out);
    }
    if (v == SESSION_END)
        buf_append_cstr(out, "<end>");
    if (v == SESSION_SERVE) {
        const struct serve_request *r = &s.request;
        // What follows may be in the second part, of which nothing was given then.
        buf_printf(out, "<serve %s %lld%s%s%s %s:%d shard=%s>", r->replid, (long long)r->offset,
                   r->sync ? " sync" : "", r->eof ? " eof" : "", r->psync2 ? " psync2" : "",
                   r->address, r->port, s.shard);
    }
    buf_free(&bytes);
    session_free(&s);
}

static void expect(const struct session_options *o, const char *in, const char *out)
{
    size_t n = strlen(in);
    for (size_t first = 0; first <= n; first++) {
        struct buf got = {0};
        talk(o, in, n, first, &got);
        if (strcmp(buf_cstr(&got), out) != 0)
            fail_msg("%s\nsplit at %zu gives\n%s\nnot\n%s", in, first, buf_cstr(&got), out);
        buf_free(&got);
    }
}

static void replicas_of_all_kinds_get_through(void **state)
{
    (void)state;
    // Redis 7
    expect(&open_to_all,
           "*1\r\n$4\r\nPING\r\n*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n6380\r\n"
           "*5\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n"
           "*3\r\n$5\r\nPSYNC\r\n$40\r\n" ID1 "\r\n$3\r\n901\r\n",
           "+PONG\r\n+OK\r\n+OK\r\n<serve " ID1 " 901 eof psync2 :6380 shard=>");
    // Redis 8 and Valkey 8 and 9 would like a channel of its own for the snapshot, or tell more.
    expect(&open_to_all,
           "REPLCONF capa eof capa psync2 capa rdb-channel-repl capa dual-channel\r\n"
           "REPLCONF version 9.0.1\r\nREPLCONF ip-address replica.example\r\n"
           "REPLCONF rdb-channel 1\r\nREPLCONF rdb-only 1\r\n"
           "REPLCONF rdb-filter-only functions\r\nREPLCONF main-ch-client-id 7\r\nPSYNC ? -1\r\n",
           "+OK\r\n+OK\r\n+OK\r\n-ERR Unrecognized REPLCONF option: 'rdb-channel'\r\n"
           "-ERR Unrecognized REPLCONF option: 'rdb-only'\r\n"
           "-ERR Unrecognized REPLCONF option: 'rdb-filter-only'\r\n"
           "-ERR Unrecognized REPLCONF option: 'main-ch-client-id'\r\n"
           "<serve ? -1 eof psync2 replica.example:0 shard=>");
    // Redis 2.6
    expect(&open_to_all, "PING\r\nSYNC\r\n", "+PONG\r\n<serve ? -1 sync :0 shard=>");
    // With a password, by shard.
    expect(&guarded, "PING\r\nAUTH shard-a secret\r\nREPLCONF capa psync2\r\nPSYNC ? -1\r\n",
           "-NOAUTH Authentication required.\r\n+OK\r\n+OK\r\n<serve ? -1 psync2 :0 "
           "shard=shard-a>");
    expect(&guarded, "AUTH secret\r\nPSYNC ? -1\r\n", "+OK\r\n<serve ? -1 :0 shard=>");
    expect(&guarded, "AUTH default secret\r\nPSYNC ? -1\r\n", "+OK\r\n<serve ? -1 :0 shard=>");
    expect(&open_to_all, "AUTH shard-b whatever\r\nSYNC\r\n",
           "+OK\r\n<serve ? -1 sync :0 shard=shard-b>");
}

static void who_has_no_password_gets_nothing(void **state)
{
    (void)state;
    expect(&guarded,
           "PSYNC ? -1\r\nSYNC\r\nINFO\r\nROLE\r\nREPLCONF capa eof\r\nSELECT 0\r\nSET a b\r\n"
           "nonsense\r\nHELLO 3\r\nAUTH wrong\r\nAUTH default secre\r\nAUTH default secrets\r\n"
           "AUTH\r\nQUIT\r\n",
           "-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n"
           "-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n"
           "-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n"
           "-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n"
           "-NOAUTH HELLO must be called with the client already authenticated, otherwise the "
           "HELLO <proto> AUTH <user> <pass> option can be used\r\n"
           "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
           "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
           "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
           "-ERR wrong number of arguments for 'AUTH' command\r\n+OK\r\n<end>");
    const char *wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    char out[600];
    snprintf(out, sizeof(out), "%s%s%s%s%s<end>", wrong, wrong, wrong, wrong, wrong);
    expect(&guarded, "AUTH a\r\nAUTH b\r\nAUTH c\r\nAUTH d\r\nAUTH e\r\nAUTH secret\r\n", out);
}

static void hello_speaks_both_protocols(void **state)
{
    (void)state;
    expect(&open_to_all, "HELLO\r\n",
           "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n"
           "$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:42\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n"
           "$4\r\nrole\r\n$7\r\nreplica\r\n$7\r\nmodules\r\n*0\r\n");
    expect(&guarded, "HELLO 3 AUTH default secret SETNAME x\r\nCLIENT GETNAME\r\n",
           "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n"
           "$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:42\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n"
           "$4\r\nrole\r\n$7\r\nreplica\r\n$7\r\nmodules\r\n*0\r\n$1\r\nx\r\n");
    expect(&open_to_all, "HELLO 4\r\nHELLO x\r\nHELLO 3 AUTH a\r\n",
           "-NOPROTO unsupported protocol version\r\n-NOPROTO unsupported protocol version\r\n"
           "-ERR syntax error in HELLO\r\n");
}

static void what_is_asked_of_a_replica_is_answered(void **state)
{
    (void)state;
    expect(&open_to_all, "ROLE\r\n",
           "*5\r\n$5\r\nslave\r\n$8\r\n10.1.2.3\r\n:6379\r\n$9\r\nconnected\r\n:1000\r\n");
    expect(&open_to_all, "AUTH nobody x\r\nROLE\r\n", "+OK\r\n-NOMASTERLINK no such  shard\r\n");
    expect(&open_to_all,
           "CLIENT ID\r\nCLIENT SETINFO a b\r\nECHO hi\r\nSELECT 0\r\nSELECT 1\r\n"
           "COMMAND\r\nCOMMAND COUNT\r\nCLUSTER INFO\r\nREPLCONF ACK 5\r\n",
           ":42\r\n+OK\r\n$2\r\nhi\r\n+OK\r\n-ERR DB index is out of range\r\n*0\r\n:0\r\n"
           "-ERR This instance has cluster support disabled\r\n");
    expect(&open_to_all, "SET a b\r\nnonsense\r\n",
           "-READONLY gunyu serves replication here and holds no data: 'SET' is not carried "
           "out\r\n-ERR unknown command 'nonsense'\r\n");
    expect(&open_to_all, "PSYNC ? x\r\nPSYNC " ID1 " 5 FAILOVER\r\nREPLCONF capa\r\n",
           "-ERR value is not an integer or out of range\r\n"
           "-ERR value is not an integer or out of range\r\n-ERR syntax error\r\n");
}

static void info_says_what_a_reader_needs(void **state)
{
    (void)state;
    struct buf got = {0};
    const char in[] = "INFO\r\n";
    talk(&open_to_all, in, strlen(in), 0, &got);
    static const char *const lines[] = {
        "redis_version:7.0.15\r\n",
        "server_time_usec:1700000000005000\r\n",
        "loading:0\r\n",
        "role:slave\r\nmaster_host:10.1.2.3\r\nmaster_port:6379\r\nmaster_link_status:up\r\n",
        "slave0:ip=::1,port=7000,state=online,offset=990,lag=2\r\n",
        "master_replid:" ID1 "\r\nmaster_replid2:" ID2 "\r\n",
        "master_repl_offset:1000\r\nsecond_repl_offset:801\r\n",
        "repl_backlog_first_byte_offset:401\r\nrepl_backlog_histlen:600\r\n",
        "gunyu_needed_offset:700\r\ngunyu_needed_snapshot:0\r\n",
        "cluster_enabled:0\r\n",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        if (!strstr(buf_cstr(&got), lines[i]))
            fail_msg("%s is not in\n%s", lines[i], buf_cstr(&got));
    buf_clear(&got);
    const char one[] = "INFO keyspace\r\n";
    talk(&open_to_all, one, strlen(one), 3, &got);
    assert_string_equal(buf_cstr(&got), "$12\r\n# Keyspace\r\n\r\n");
    buf_free(&got);
}

static void hostile_input_is_bounded_and_ends_the_session(void **state)
{
    (void)state;
    expect(&guarded, "*x\r\n", "-ERR Protocol error\r\n<end>");
    expect(&guarded, "*1\r\n$99999999999999999999\r\n", "-ERR Protocol error\r\n<end>");
    expect(&open_to_all, "*0\r\n\r\n\n\n*-1\r\nPING\r\n", "+PONG\r\n");
    // A reply is one line whatever the question was.
    expect(&open_to_all, "*1\r\n$5\r\na\r\nb'\r\n", "-ERR unknown command 'a..b.'\r\n");
    // A web page that makes a browser post commands here.
    expect(&open_to_all, "POST / HTTP/1.1\r\nPSYNC ? -1\r\n",
           "-ERR unknown command 'POST'\r\n<end>");
    expect(&open_to_all, "GET / HTTP/1.1\r\nHost: a\r\nPSYNC ? -1\r\n",
           "-READONLY gunyu serves replication here and holds no data: 'GET' is not carried "
           "out\r\n-ERR unknown command 'Host:'\r\n<end>");
    // What never ends.
    struct session s;
    struct buf bytes = {0}, junk = {0};
    session_begin(&s, &guarded, 1);
    buf_append_cstr(&bytes, "*2\r\n$4\r\nAUTH\r\n$100000\r\n");
    enum session_verdict v = SESSION_MORE;
    while (v == SESSION_MORE && bytes.n < 100000) {
        size_t used;
        buf_append_char(&bytes, 'a');
        v = session_step(&s, bytes.p, bytes.n, &used);
        assert_int_equal(used, 0);
    }
    assert_int_equal(v, SESSION_END);
    assert_true(bytes.n <= SESSION_COMMAND_MAX + 1);
    session_free(&s);
    buf_free(&bytes);
    buf_free(&junk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replicas_of_all_kinds_get_through),
        cmocka_unit_test(who_has_no_password_gets_nothing),
        cmocka_unit_test(hello_speaks_both_protocols),
        cmocka_unit_test(what_is_asked_of_a_replica_is_answered),
        cmocka_unit_test(info_says_what_a_reader_needs),
        cmocka_unit_test(hostile_input_is_bounded_and_ends_the_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "source/psync.h"

#define ID1 "1111111111111111111111111111111111111111"
#define ID2 "2222222222222222222222222222222222222222"
#define MARKER "0123456789abcdef0123456789abcdef01234567"

// What a session did, as text: the events, the snapshot and the stream.
struct outcome {
    struct buf events, sent, rdb, stream;
};

static void outcome_free(struct outcome *o)
{
    buf_free(&o->events);
    buf_free(&o->sent);
    buf_free(&o->rdb);
    buf_free(&o->stream);
}

static void record(struct psync *p, enum psync_event ev, struct outcome *o)
{
    char reason[256];
    switch (ev) {
    case PSYNC_NEED_MORE:
        break;
    case PSYNC_CHOOSE:
        buf_printf(&o->events, "choose(%s,%d) ", p->server.replid, p->server.version);
        break;
    case PSYNC_WILL_SEND:
        buf_printf(&o->events, "full(%s,%llu) ", p->plain_sync ? "made-up" : p->replid,
                   (unsigned long long)p->offset);
        break;
    case PSYNC_SNAPSHOT:
        buf_printf(&o->events, "rdb(%lld) ", (long long)p->rdb_size);
        psync_full_reason(p, reason, sizeof(reason));
        assert_true(strlen(reason) > 0);
        break;
    case PSYNC_CONTINUED:
        buf_printf(&o->events, "continue(%s) ", p->new_replid);
        break;
    case PSYNC_ERROR:
        buf_printf(&o->events, "error(%d) ", p->error.code);
        break;
    }
}

static bool take_rdb(struct psync *p, struct buf *in, struct outcome *o)
{
    bool done;
    uint64_t size = 0;
    size_t take = psync_rdb(p, in->p ? in->p : "", in->n, &done, &size);
    buf_append(&o->rdb, in->p, take);
    buf_consume(in, take);
    if (done) {
        assert_true(size <= o->rdb.n);
        o->rdb.n = size;
        buf_printf(&o->events, "done ");
    }
    return done;
}

// Everything that the machine can do with the bytes so far. False after an error.
static bool pump(struct psync *p, struct buf *in, const struct link_request *ask, struct outcome *o)
{
    for (;;) {
        if (p->state == PSYNC_STREAM) {
            buf_append(&o->stream, in->p, in->n);
            buf_clear(in);
            return true;
        }
        if (p->state == PSYNC_RDB) {
            if (!take_rdb(p, in, o))
                return true;
            continue;
        }
        size_t used;
        // Memory of exactly these bytes, so that a sanitizer sees a read beyond them.
        char *copy = in->n ? memcpy(xmalloc(in->n), in->p, in->n) : xmalloc(1);
        enum psync_event ev = psync_step(p, copy, in->n, &used);
        free(copy);
        assert_true(used <= in->n);
        buf_consume(in, used);
        record(p, ev, o);
        if (ev == PSYNC_CHOOSE)
            psync_request(p, ask);
        buf_append_slice(&o->sent, buf_slice(&p->out));
        buf_clear(&p->out);
        if (ev == PSYNC_NEED_MORE || ev == PSYNC_ERROR)
            return ev != PSYNC_ERROR;
    }
}

// Feeds `script` in pieces of `piece` bytes, the first one `first` bytes long.
static void run(const struct psync_options *opts, const struct link_request *ask,
                struct slice script, size_t first, size_t piece, struct outcome *o)
{
    struct psync p = {0};
    struct buf in = {0};
    memset(o, 0, sizeof(*o));
    psync_begin(&p, opts);
    buf_append_slice(&o->sent, buf_slice(&p.out));
    buf_clear(&p.out);
    size_t at = 0, next = first ? first : piece;
    bool ok = pump(&p, &in, ask, o);
    while (ok && at < script.n) {
        size_t n = script.n - at < next ? script.n - at : next;
        buf_append(&in, script.p + at, n);
        at += n;
        next = piece;
        ok = pump(&p, &in, ask, o);
    }
    buf_free(&in);
    psync_free(&p);
}

static const struct psync_options plain = {.psync_command = "PSYNC"};
static const struct link_request anything = {"?", -1};
static const struct link_request known = {ID1, 100};

#define PONG "+PONG\r\n"
#define INFO_TEXT                                                                                  \
    "$100\r\nredis_version:7.0.15\r\nmaster_replid:" ID1 "\r\nmaster_repl_offset:9\r\n"            \
    "\r\n"
#define HELLO PONG "-NOPERM no info\r\n+OK\r\n"

struct session {
    const char *name;
    const struct link_request *ask;
    struct slice script;
    const char *events, *rdb, *stream;
};

#define S(lit)                                                                                     \
    {                                                                                              \
        lit, sizeof(lit) - 1                                                                       \
    }

static const struct session sessions[] = {
    {"length", &anything, S(HELLO "+FULLRESYNC " ID1 " 42\r\n$5\r\nhello*1\r\n"),
     "choose(,0) full(" ID1 ",42) rdb(5) done ", "hello", "*1\r\n"},
    {"keepalives", &anything,
     S("\n" PONG "\n-NOPERM no info\r\n\n\n+OK\r\n\n\n\n+FULLRESYNC " ID1
       " 42\r\n\n\n\n\n$5\r\n\nell\n\n*1\r\n"),
     "choose(,0) full(" ID1 ",42) rdb(5) done ", "\nell\n", "\n*1\r\n"},
    {"length 0", &anything, S(HELLO "+FULLRESYNC " ID1 " 0\r\n$0\r\nx"),
     "choose(,0) full(" ID1 ",0) rdb(0) done ", "", "x"},
    {"marker", &anything,
     S(HELLO "+FULLRESYNC " ID1 " 42\r\n$EOF:" MARKER "\r\nhello" MARKER "*1\r\n"),
     "choose(,0) full(" ID1 ",42) rdb(-1) done ", "hello", "*1\r\n"},
    {"marker after its own beginning", &anything,
     S(HELLO "+FULLRESYNC " ID1 " 42\r\n$EOF:" MARKER
             "\r\n0123456789abcdef0123456789abcdef0123456" MARKER MARKER),
     "choose(,0) full(" ID1 ",42) rdb(-1) done ", "0123456789abcdef0123456789abcdef0123456",
     MARKER},
    {"marker and nothing before it", &anything,
     S(HELLO "+FULLRESYNC " ID1 " 42\r\n$EOF:" MARKER "\r\n" MARKER),
     "choose(,0) full(" ID1 ",42) rdb(-1) done ", "", ""},
    {"continue", &known, S(HELLO "+CONTINUE\r\n\n*1\r\n"), "choose(,0) continue() ", "",
     "\n*1\r\n"},
    {"continue with the same id", &known, S(HELLO "+CONTINUE " ID1 "\r\nabc"),
     "choose(,0) continue() ", "", "abc"},
    {"continue with a new id", &known, S(HELLO "+CONTINUE " ID2 "\r\nabc"),
     "choose(,0) continue(" ID2 ") ", "", "abc"},
    {"info", &known, S(PONG INFO_TEXT "-ERR no capa\r\n+CONTINUE\r\n"),
     "choose(" ID1 ",70015) continue() ", "", ""},
    {"2.6", &known, S(HELLO "-ERR unknown command 'PSYNC'\r\n\n$5\r\nhello*1\r\n"),
     "choose(,0) full(made-up,0) rdb(5) done ", "hello", "*1\r\n"},
    {"no master link", &known, S(HELLO "-NOMASTERLINK Can't SYNC\r\n"), "choose(,0) error(-1011) ",
     "", ""},
    {"loading at PING", &known, S("-LOADING Redis is loading\r\n"), "error(-1011) ", "", ""},
    {"loading at PSYNC", &known, S(HELLO "-LOADING wait\r\n"), "choose(,0) error(-1011) ", "", ""},
    {"password missing", &known, S("-NOAUTH Authentication required.\r\n"), "error(-1004) ", "",
     ""},
    {"not permitted", &known, S(HELLO "-NOPERM no psync\r\n"), "choose(,0) error(-1004) ", "", ""},
    {"other refusal", &known, S(HELLO "-ERR what\r\n"), "choose(,0) error(-1011) ", "", ""},
    {"failed BGSAVE", &known,
     S(HELLO "+FULLRESYNC " ID1 " 42\r\n\n-ERR BGSAVE failed, replication can't continue\r\n"),
     "choose(,0) full(" ID1 ",42) error(-1011) ", "", ""},
    {"neither command", &known, S(HELLO "-ERR unknown command\r\n-ERR unknown command\r\n"),
     "choose(,0) full(made-up,0) error(-1002) ", "", ""},
    {"renamed command of a new source", &known, S(PONG INFO_TEXT "+OK\r\n-ERR unknown command\r\n"),
     "choose(" ID1 ",70015) error(-1005) ", "", ""},
    {"continue that was not asked for", &anything, S(HELLO "+CONTINUE\r\n"),
     "choose(,0) error(-1000) ", "", ""},
    {"short id", &anything, S(HELLO "+FULLRESYNC 123 4\r\n"), "choose(,0) error(-1000) ", "", ""},
    {"no offset", &anything, S(HELLO "+FULLRESYNC " ID1 "\r\n"), "choose(,0) error(-1000) ", "",
     ""},
    {"negative offset", &anything, S(HELLO "+FULLRESYNC " ID1 " -1\r\n"),
     "choose(,0) error(-1000) ", "", ""},
    {"negative length", &anything, S(HELLO "+FULLRESYNC " ID1 " 1\r\n$-1\r\n"),
     "choose(,0) full(" ID1 ",1) error(-1000) ", "", ""},
    {"short marker", &anything, S(HELLO "+FULLRESYNC " ID1 " 1\r\n$EOF:123\r\n"),
     "choose(,0) full(" ID1 ",1) error(-1000) ", "", ""},
    {"no header", &anything, S(HELLO "+FULLRESYNC " ID1 " 1\r\n*1\r\n"),
     "choose(,0) full(" ID1 ",1) error(-1000) ", "", ""},
    {"HTTP", &anything, S("HTTP/1.1 400 Bad Request\r\n\r\n"), "error(-1000) ", "", ""},
};

static void check(const struct session *s, size_t first, size_t piece, const struct outcome *o)
{
    struct slice want[] = {slice_cstr(s->events), slice_cstr(s->rdb), slice_cstr(s->stream)};
    const struct buf *got[] = {&o->events, &o->rdb, &o->stream};
    for (size_t i = 0; i < 3; i++)
        if (!slice_eq(buf_slice(got[i]), want[i]))
            fail_msg("%s, pieces of %zu after %zu: '%.*s' instead of '%s'", s->name, piece, first,
                     (int)got[i]->n, got[i]->p, want[i].p);
}

static void every_answer_is_understood_however_it_is_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(sessions) / sizeof(sessions[0]); i++) {
        const struct session *s = &sessions[i];
        struct outcome o;
        for (size_t first = 0; first <= s->script.n; first++) {
            run(&plain, s->ask, s->script, first, s->script.n, &o);
            check(s, first, s->script.n, &o);
            outcome_free(&o);
        }
        for (size_t piece = 1; piece < 90; piece++) {
            run(&plain, s->ask, s->script, 0, piece, &o);
            check(s, 0, piece, &o);
            outcome_free(&o);
        }
    }
}

static void the_marker_is_found_in_large_data_at_every_split(void **state)
{
    (void)state;
    enum { SIZE = 3000, AFTER = 50 };
    char data[SIZE + PSYNC_MARKER_LEN + AFTER];
    unsigned seed = 1;
    for (size_t i = 0; i < SIZE; i++) // characters of the marker, the hard case
        data[i] = "0123456789abcdef"[(seed = seed * 1103515245u + 12345u) >> 28];
    memcpy(data + SIZE - 20, MARKER, 20); // half a marker just before the whole one
    memcpy(data + SIZE, MARKER, PSYNC_MARKER_LEN);
    memset(data + SIZE + PSYNC_MARKER_LEN, 'x', AFTER);
    struct buf script = {0};
    buf_append_cstr(&script, HELLO "+FULLRESYNC " ID1 " 1\r\n$EOF:" MARKER "\r\n");
    size_t head = script.n;
    buf_append(&script, data, sizeof(data));
    for (size_t first = head; first <= script.n; first++) {
        struct outcome o;
        run(&plain, &anything, buf_slice(&script), first, 37 + first % 64, &o);
        assert_int_equal(o.rdb.n, SIZE);
        assert_memory_equal(o.rdb.p, data, SIZE);
        assert_int_equal(o.stream.n, AFTER);
        outcome_free(&o);
    }
    buf_free(&script);
}

static void the_questions_are_asked_in_order(void **state)
{
    (void)state;
    const struct psync_options full = {.user = "u",
                                       .password = "p",
                                       .psync_command = "MYPSYNC",
                                       .announce_ip = "10.0.0.9",
                                       .listening_port = 7001};
    static const struct slice script =
        S("+OK\r\n" PONG "$0\r\n\r\n+OK\r\n-ERR no ip\r\n+OK\r\n+CONTINUE\r\n");
    struct outcome o;
    run(&full, &known, script, 0, 1, &o);
    struct buf want = {0};
    resp_put_cmd(&want, "AUTH u p");
    resp_put_cmd(&want, "PING");
    resp_put_cmd(&want, "INFO");
    resp_put_cmd(&want, "REPLCONF listening-port 7001");
    resp_put_cmd(&want, "REPLCONF ip-address 10.0.0.9");
    resp_put_cmd(&want, "REPLCONF capa eof capa psync2");
    resp_put_cmd(&want, "MYPSYNC " ID1 " 101");
    assert_true(slice_eq(buf_slice(&o.sent), buf_slice(&want)));
    buf_free(&want);
    outcome_free(&o);
}

static void the_version_is_told_to_those_who_choose_the_format_by_it(void **state)
{
    (void)state;
    static const struct {
        struct slice script;
        bool told;
    } cases[] = {
        {S("+PONG\r\n$41\r\nvalkey_version:9.1.2\r\nredis_version:7.2.4\r\n+OK\r\n+OK\r\n+"
           "CONTINUE\r\n"),
         true},
        {S("+PONG\r\n$41\r\nvalkey_version:8.1.3\r\nredis_version:7.2.4\r\n+OK\r\n+CONTINUE\r\n"),
         false},
        {S("+PONG\r\n$19\r\nredis_version:9.0.0\r\n+OK\r\n+CONTINUE\r\n"), false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct outcome o;
        run(&plain, &known, cases[i].script, 0, 1, &o);
        assert_int_equal(memmem(o.sent.p, o.sent.n, "version\r\n$5\r\n9.0.0", 18) != NULL,
                         cases[i].told);
        assert_non_null(memmem(o.sent.p, o.sent.n, "PSYNC", 5));
        outcome_free(&o);
    }
}

static void bug_43_the_eof_capability_is_announced(void **state)
{
    (void)state;
    struct outcome o;
    static const struct slice script = S(HELLO);
    run(&plain, &anything, script, 0, 1, &o);
    assert_non_null(memmem(o.sent.p, o.sent.n, "capa\r\n$3\r\neof", 13));
    assert_non_null(memmem(o.sent.p, o.sent.n, "PSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n", 22));
    outcome_free(&o);
}

static void a_refused_password_is_named_but_not_shown(void **state)
{
    (void)state;
    const struct psync_options o = {.password = "SECRET", .psync_command = "PSYNC"};
    struct psync p = {0};
    psync_begin(&p, &o);
    buf_clear(&p.out);
    size_t used;
    static const char reply[] = "-WRONGPASS invalid username-password pair\r\n";
    assert_int_equal(psync_step(&p, reply, sizeof(reply) - 1, &used), PSYNC_ERROR);
    assert_int_equal(p.error.code, ERR_AUTH);
    assert_non_null(strstr(p.error.msg, "WRONGPASS"));
    assert_null(strstr(p.error.msg, "SECRET"));
    psync_free(&p);
}

static void a_source_that_only_talks_is_refused(void **state)
{
    (void)state;
    struct psync p = {0};
    psync_begin(&p, &plain);
    enum { N = 1100 * 1024 };
    char *endless = xmalloc(N);
    memset(endless, 'x', N);
    endless[0] = '+';
    size_t used;
    assert_int_equal(psync_step(&p, endless, N, &used), PSYNC_ERROR);
    assert_int_equal(p.error.code, ERR_PROTOCOL);
    free(endless);
    psync_free(&p);
}

static void no_acknowledgement_goes_to_a_source_that_would_answer_it(void **state)
{
    (void)state;
    struct psync p = {0};
    psync_begin(&p, &plain);
    buf_clear(&p.out);
    psync_ack(&p, 17);
    assert_non_null(memmem(p.out.p, p.out.n, "ACK\r\n$2\r\n17\r\n", 13));
    buf_clear(&p.out);
    p.plain_sync = true;
    psync_ack(&p, 17);
    assert_int_equal(p.out.n, 0);
    psync_free(&p);
}

static void getack_is_seen_at_the_end_only(void **state)
{
    (void)state;
    static const char q[] = "PING*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\nx";
    assert_true(psync_ends_with_getack(q, sizeof(q) - 2));
    assert_false(psync_ends_with_getack(q, sizeof(q) - 1));
    assert_false(psync_ends_with_getack(q, sizeof(q) - 3));
    assert_false(psync_ends_with_getack(q, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_answer_is_understood_however_it_is_split),
        cmocka_unit_test(the_marker_is_found_in_large_data_at_every_split),
        cmocka_unit_test(the_questions_are_asked_in_order),
        cmocka_unit_test(the_version_is_told_to_those_who_choose_the_format_by_it),
        cmocka_unit_test(bug_43_the_eof_capability_is_announced),
        cmocka_unit_test(a_refused_password_is_named_but_not_shown),
        cmocka_unit_test(a_source_that_only_talks_is_refused),
        cmocka_unit_test(no_acknowledgement_goes_to_a_source_that_would_answer_it),
        cmocka_unit_test(getack_is_seen_at_the_end_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

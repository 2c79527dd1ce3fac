// SPDX-License-Identifier: Apache-2.0
// Replicas on one end of a socket, a journal on the other.
#include "test_journal_util.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "serve/feed.h"

struct world {
    uv_loop_t loop;
    char *dir;
    struct journal *j;
    struct feeds *feeds;
    int fd; // the replica's end
    struct buf got;
};

static void setup(struct world *w, enum journal_type type, int64_t max_size)
{
    memset(w, 0, sizeof(*w));
    must(uv_loop_init(&w->loop) == 0);
    w->dir = make_dir();
    struct journal_options o = storer(w->dir);
    o.type = type;
    o.max_size = max_size;
    w->j = open_ok(&o);
    w->feeds = feeds_new(&w->loop, w->j, "test");
    w->fd = -1;
}

static void teardown(struct world *w)
{
    feeds_free(w->feeds);
    journal_close(w->j);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    must(uv_loop_close(&w->loop) == 0);
    if (w->fd >= 0)
        close(w->fd);
    buf_free(&w->got);
    remove_dir(w->dir);
}

static int attach(struct world *w, struct serve_request r, struct err *e)
{
    bool needs_snapshot;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    struct serve_guest *guest = xcalloc(1, sizeof(*guest));
    guest->request = r;
    strcpy(guest->peer, "127.0.0.1");
    buf_append_cstr(&guest->out, "+OK\r\n");
    assert_int_equal(conn_accept(&guest->conn, pair[1], NULL), 0);
    if (w->fd >= 0)
        close(w->fd);
    w->fd = pair[0];
    buf_clear(&w->got);
    int rc = feeds_attach(w->feeds, guest, &needs_snapshot, e);
    assert_true(rc == 0 || needs_snapshot == (strstr(e->msg, "no snapshot") != NULL));
    if (rc)
        serve_guest_free(guest);
    return rc;
}

static struct serve_request full(bool eof)
{
    return (struct serve_request){
        .replid = "?", .offset = -1, .eof = eof, .psync2 = true, .port = 7};
}

static struct serve_request from(const char *id, int64_t offset)
{
    struct serve_request r = full(true);
    memcpy(r.replid, id, REPLID_LEN);
    r.offset = offset;
    return r;
}

// True while the connection lives.
static bool take(struct world *w)
{
    char piece[65536];
    for (;;) {
        uv_run(&w->loop, UV_RUN_NOWAIT);
        ssize_t n = recv(w->fd, piece, sizeof(piece), 0);
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0)
            return false;
        buf_append(&w->got, piece, (size_t)n);
    }
}

static void say(struct world *w, const char *s)
{
    assert_int_equal(send(w->fd, s, strlen(s), 0), strlen(s));
    uv_run(&w->loop, UV_RUN_NOWAIT);
}

static size_t expect_start(struct world *w, const char *s)
{
    assert_true(w->got.n >= strlen(s));
    if (memcmp(w->got.p, s, strlen(s)) != 0)
        fail_msg("%.*s", (int)(w->got.n < 200 ? w->got.n : 200), w->got.p);
    return strlen(s);
}

static void a_whole_snapshot_goes_by_length_and_the_stream_at_once(void **state)
{
    (void)state;
    struct world w;
    setup(&w, JOURNAL_STORER, -1);
    ok(journal_begin_snapshot(w.j, ID_A, 5000, JOURNAL_SIZE_UNKNOWN, &failure));
    ok(append_snapshot(w.j, MIB + 40, 100000, &failure));
    ok(journal_end_snapshot(w.j, MIB, &failure));
    ok(append(w.j, 2 * MIB, 70001, &failure));
    ok(attach(&w, full(true), &failure));
    assert_true(take(&w));
    size_t at = expect_start(&w, "+OK\r\n+FULLRESYNC " ID_A " 5000\r\n$1048576\r\n");
    assert_int_equal(w.got.n, at + 3 * MIB);
    assert_true(matches(w.got.p + at, 0, MIB));
    assert_true(matches(w.got.p + at + MIB, 5000, 2 * MIB));
    // What comes later comes as it arrives.
    buf_clear(&w.got);
    ok(append(w.j, 100, 100, &failure));
    feeds_pump(w.feeds);
    assert_true(take(&w));
    assert_int_equal(w.got.n, 100);
    teardown(&w);
}

static void a_snapshot_that_arrives_goes_with_a_mark_and_the_stream_waits_for_the_ack(void **state)
{
    (void)state;
    struct world w;
    setup(&w, JOURNAL_STORER, -1);
    ok(journal_begin_snapshot(w.j, ID_A, 5000, JOURNAL_SIZE_UNKNOWN, &failure));
    ok(append_snapshot(w.j, 100000, 1000, &failure));
    ok(attach(&w, full(true), &failure));
    assert_true(take(&w));
    size_t at = expect_start(&w, "+OK\r\n+FULLRESYNC " ID_A " 5000\r\n$EOF:");
    char mark[41] = {0};
    memcpy(mark, w.got.p + at, 40);
    at += 42;
    // The last 40 bytes may be the end mark of the snapshot's own source.
    assert_int_equal(w.got.n - at, 100000 - 40);
    ok(append_snapshot(w.j, 40, 1000, &failure));
    ok(journal_end_snapshot(w.j, 100000, &failure));
    ok(append(w.j, 500, 500, &failure));
    feeds_pump(w.feeds);
    assert_true(take(&w));
    assert_int_equal(w.got.n - at, 100000 + 40);
    assert_true(matches(w.got.p + at, 0, 100000));
    assert_memory_equal(w.got.p + at + 100000, mark, 40);
    buf_clear(&w.got);
    say(&w, "\n\n*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$4\r\n5000\r\n");
    assert_true(take(&w));
    assert_int_equal(w.got.n, 500);
    assert_true(matches(w.got.p, 5000, 500));
    struct serve_facts f;
    const struct serve_replica *r = f.replicas;
    feeds_put_facts(w.feeds, &f);
    assert_int_equal(f.replicas_n, 1);
    assert_string_equal(f.replid, ID_A);
    assert_int_equal(r[0].state, REPLICA_STREAM);
    assert_int_equal(r[0].acked, 5000);
    assert_string_equal(r[0].address, "127.0.0.1:7");
    // Nobody has what was not sent.
    say(&w, "REPLCONF ACK 99999\r\nREPLCONF ACK 5400 FACK 5400\r\nPING\r\n");
    assert_true(take(&w));
    feeds_put_facts(w.feeds, &f);
    assert_int_equal(r[0].acked, 5400);
    teardown(&w);
}

static void who_knows_no_mark_waits_for_the_length_under_newlines(void **state)
{
    (void)state;
    struct world w;
    setup(&w, JOURNAL_STORER, -1);
    ok(journal_begin_snapshot(w.j, ID_A, 5000, JOURNAL_SIZE_UNKNOWN, &failure));
    ok(append_snapshot(w.j, 1000, 1000, &failure));
    ok(attach(&w, full(false), &failure));
    size_t at = strlen("+OK\r\n+FULLRESYNC " ID_A " 5000\r\n");
    for (int i = 0; i < 400 && w.got.n <= at; i++) {
        usleep(10000);
        feeds_tick(w.feeds);
        assert_true(take(&w));
    }
    assert_true(w.got.n > at);
    for (size_t i = at; i < w.got.n; i++)
        assert_int_equal(w.got.p[i], '\n');
    at = w.got.n;
    ok(journal_end_snapshot(w.j, 960, &failure));
    feeds_pump(w.feeds);
    assert_true(take(&w));
    assert_memory_equal(w.got.p + at, "$960\r\n", 6);
    assert_int_equal(w.got.n, at + 6 + 960);
    teardown(&w);
}

static void a_length_that_is_known_goes_before_the_snapshot_is_here(void **state)
{
    (void)state;
    struct world w;
    setup(&w, JOURNAL_MEMORY, 16 * MIB);
    ok(journal_begin_snapshot(w.j, ID_A, 5000, 3000, &failure));
    ok(append_snapshot(w.j, 1000, 1000, &failure));
    ok(attach(&w, full(false), &failure));
    assert_true(take(&w));
    size_t at = expect_start(&w, "+OK\r\n+FULLRESYNC " ID_A " 5000\r\n$3000\r\n");
    assert_int_equal(w.got.n, at + 1000);
    ok(append_snapshot(w.j, 2000, 1000, &failure));
    ok(journal_end_snapshot(w.j, 3000, &failure));
    ok(append(w.j, 70, 70, &failure));
    feeds_pump(w.feeds);
    assert_true(take(&w));
    assert_int_equal(w.got.n, at + 3070);
    teardown(&w);
}

static void sync_has_no_answer_before_the_snapshot(void **state)
{
    (void)state;
    struct world w;
    setup(&w, JOURNAL_STORER, -1);
    ok(journal_begin_snapshot(w.j, ID_A, 5000, JOURNAL_SIZE_UNKNOWN, &failure));
    ok(append_snapshot(w.j, 10, 10, &failure));
    ok(journal_end_snapshot(w.j, 10, &failure));
    struct serve_request r = full(false);
    r.sync = true;
    ok(attach(&w, r, &failure));
    assert_true(take(&w));
    expect_start(&w, "+OK\r\n$10\r\n");
    teardown(&w);
}

static void a_replica_continues_anywhere_and_a_new_history_ends_it(void **state)
{
    (void)state;
    struct world w;
    setup(&w, JOURNAL_STORER, -1);
    ok(journal_begin_log(w.j, ID_A, 0, &failure));
    ok(append(w.j, 2 * MIB, 70001, &failure));
    ok(attach(&w, from(ID_A, MIB + 1), &failure));
    assert_true(take(&w));
    size_t at = expect_start(&w, "+OK\r\n+CONTINUE " ID_A "\r\n");
    assert_int_equal(w.got.n, at + MIB);
    assert_true(matches(w.got.p + at, MIB, MIB));
    ok(journal_set_replid(w.j, ID_B, 2 * MIB, &failure));
    feeds_pump(w.feeds);
    assert_false(take(&w));
    struct serve_request r = from(ID_A, 2 * MIB + 1);
    r.psync2 = false;
    ok(attach(&w, r, &failure));
    assert_true(take(&w));
    expect_start(&w, "+OK\r\n+CONTINUE\r\n");
    ok(journal_begin_log(w.j, ID_B, 7, &failure));
    feeds_pump(w.feeds);
    assert_false(take(&w));
    struct feeds_stats s;
    feeds_get_stats(w.feeds, &s);
    assert_int_equal(s.attached, 2);
    assert_int_equal(s.full, 0);
    assert_int_equal(s.cut, 0);
    teardown(&w);
}

static void a_slow_replica_is_cut_when_the_log_has_gone_on(void **state)
{
    (void)state;
    struct world w;
    setup(&w, JOURNAL_STORER, 8 * MIB);
    ok(journal_begin_log(w.j, ID_A, 0, &failure));
    struct journal_reader *r = journal_reader_open(w.j);
    ok(append(w.j, 2 * MIB, 70001, &failure));
    ok(attach(&w, from(ID_A, 1), &failure));
    for (int i = 0; i < 20; i++) { // never blocked by the replica that does not read
        journal_log_release(r, info_of(w.j).right);
        ok(append(w.j, MIB, 70001, &failure));
        uv_run(&w.loop, UV_RUN_NOWAIT);
        feeds_tick(w.feeds);
    }
    assert_false(take(&w));
    size_t at = expect_start(&w, "+OK\r\n+CONTINUE " ID_A "\r\n");
    assert_true(w.got.n < 8 * MIB);
    assert_true(matches(w.got.p + at, 0, w.got.n - at));
    struct feeds_stats s;
    feeds_get_stats(w.feeds, &s);
    assert_int_equal(s.cut, 1);
    journal_reader_close(r);
    teardown(&w);
}

static void silence_ends_a_replica_and_a_word_keeps_it(void **state)
{
    (void)state;
    struct world w;
    setup(&w, JOURNAL_STORER, -1);
    uint64_t usual = feeds_silence_us;
    feeds_silence_us = 200 * 1000;
    ok(journal_begin_log(w.j, ID_A, 0, &failure));
    ok(attach(&w, from(ID_A, 1), &failure));
    for (int i = 0; i < 20; i++) {
        usleep(20000);
        say(&w, i % 2 ? "\n" : "REPLCONF ACK 0\r\n");
        feeds_tick(w.feeds);
    }
    assert_true(take(&w));
    for (int i = 0; i < 200 && take(&w); i++) {
        usleep(20000);
        feeds_tick(w.feeds);
    }
    assert_false(take(&w));
    feeds_silence_us = usual;
    teardown(&w);
}

static void garbage_ends_the_one_that_sends_it(void **state)
{
    (void)state;
    struct world w;
    setup(&w, JOURNAL_STORER, -1);
    ok(journal_begin_log(w.j, ID_A, 0, &failure));
    ok(attach(&w, from(ID_A, 1), &failure));
    say(&w, "*x\r\n");
    assert_false(take(&w));
    ok(attach(&w, from(ID_A, 1), &failure));
    char *junk = xcalloc(1, 20001);
    memset(junk, 'a', 20000);
    say(&w, junk);
    free(junk);
    assert_false(take(&w));
    teardown(&w);
}

static void who_cannot_be_served_is_told_why(void **state)
{
    (void)state;
    struct world w;
    struct err e = {0};
    setup(&w, JOURNAL_STORER, -1);
    assert_int_equal(attach(&w, full(true), &e), ERR_REPLY);
    assert_string_equal(e.msg, "NOMASTERLINK nothing of the source is here yet");
    ok(journal_begin_log(w.j, ID_A, 100, &failure));
    assert_int_equal(attach(&w, from(ID_A, 103), &e), ERR_REPLY);
    assert_non_null(strstr(e.msg, "NOMASTERLINK offset 102 is ahead"));
    assert_int_equal(attach(&w, full(true), &e), ERR_REPLY);
    assert_non_null(strstr(e.msg, "the journal holds no snapshot"));
    teardown(&w);
}

static void there_is_an_end_to_the_places(void **state)
{
    (void)state;
    struct world w;
    setup(&w, JOURNAL_STORER, -1);
    ok(journal_begin_log(w.j, ID_A, 0, &failure));
    int fds[SERVE_REPLICAS];
    for (int i = 0; i < SERVE_REPLICAS; i++) {
        ok(attach(&w, from(ID_A, 1), &failure));
        fds[i] = w.fd;
        w.fd = -1;
    }
    struct err e = {0};
    assert_int_equal(attach(&w, from(ID_A, 1), &e), ERR_FULL);
    close(fds[3]);
    uv_run(&w.loop, UV_RUN_NOWAIT);
    ok(attach(&w, from(ID_A, 1), &failure));
    for (int i = 0; i < SERVE_REPLICAS; i++)
        if (i != 3)
            close(fds[i]);
    teardown(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_snapshot_goes_by_length_and_the_stream_at_once),
        cmocka_unit_test(a_snapshot_that_arrives_goes_with_a_mark_and_the_stream_waits_for_the_ack),
        cmocka_unit_test(who_knows_no_mark_waits_for_the_length_under_newlines),
        cmocka_unit_test(a_length_that_is_known_goes_before_the_snapshot_is_here),
        cmocka_unit_test(sync_has_no_answer_before_the_snapshot),
        cmocka_unit_test(a_replica_continues_anywhere_and_a_new_history_ends_it),
        cmocka_unit_test(a_slow_replica_is_cut_when_the_log_has_gone_on),
        cmocka_unit_test(silence_ends_a_replica_and_a_word_keeps_it),
        cmocka_unit_test(garbage_ends_the_one_that_sends_it),
        cmocka_unit_test(who_cannot_be_served_is_told_why),
        cmocka_unit_test(there_is_an_end_to_the_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

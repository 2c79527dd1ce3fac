// SPDX-License-Identifier: Apache-2.0
// The link against a scripted master and a journal of a few lines that can offer little room, be
// full, and fail.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "fake_master.h"
#include "source/link.h"

#define ID1 "1111111111111111111111111111111111111111"
#define ID2 "2222222222222222222222222222222222222222"
#define GETACK "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n"

// ---- the journal ----

struct journal {
    struct buf snapshot, log;
    char replid[REPLID_LEN + 1], replid2[REPLID_LEN + 1];
    uint64_t left, replid2_offset, announced_size;
    bool has_log, complete;
    size_t room;   // offered at a time
    size_t limit;  // of the log
    int fail_with; // of journal_log_space
    int snapshots, logs;
};

void journal_get_info(const struct journal *j, struct journal_info *info)
{
    memset(info, 0, sizeof(*info));
    memcpy(info->replid, j->replid, sizeof(info->replid));
    info->has_log = j->has_log;
    info->left = j->left;
    info->right = j->left + j->log.n;
}

static void forget(struct journal *j, const char *replid, uint64_t offset)
{
    buf_clear(&j->snapshot);
    buf_clear(&j->log);
    j->has_log = j->complete = false;
    j->left = offset;
    snprintf(j->replid, sizeof(j->replid), "%s", replid);
}

int journal_begin_snapshot(struct journal *j, const char *replid, uint64_t offset, uint64_t size,
                           struct err *e)
{
    (void)e;
    forget(j, replid, offset);
    j->announced_size = size;
    j->snapshots++;
    return 0;
}

static int space(struct journal *j, struct buf *b, char **p, size_t *n)
{
    *p = buf_reserve(b, j->room);
    *n = j->room;
    return 0;
}

int journal_snapshot_space(struct journal *j, char **p, size_t *n, struct err *e)
{
    (void)e;
    assert_false(j->complete);
    return space(j, &j->snapshot, p, n);
}

int journal_snapshot_commit(struct journal *j, size_t n, struct err *e)
{
    (void)e;
    j->snapshot.n += n;
    return 0;
}

int journal_end_snapshot(struct journal *j, uint64_t final_size, struct err *e)
{
    (void)e;
    assert_true(final_size <= j->snapshot.n);
    j->snapshot.n = final_size;
    j->complete = j->has_log = true;
    return 0;
}

int journal_begin_log(struct journal *j, const char *replid, uint64_t offset, struct err *e)
{
    (void)e;
    forget(j, replid, offset);
    j->has_log = true;
    j->logs++;
    return 0;
}

int journal_log_space(struct journal *j, char **p, size_t *n, struct err *e)
{
    assert_true(j->has_log);
    if (j->fail_with)
        return err_sys(e, j->fail_with, "write");
    if (j->log.n >= j->limit)
        return err_set(e, ERR_FULL, "full");
    space(j, &j->log, p, n);
    *n = *n < j->limit - j->log.n ? *n : j->limit - j->log.n;
    return 0;
}

int journal_log_commit(struct journal *j, size_t n, struct err *e)
{
    (void)e;
    j->log.n += n;
    return 0;
}

int journal_set_replid(struct journal *j, const char *replid, uint64_t offset, struct err *e)
{
    (void)e;
    memcpy(j->replid2, j->replid, sizeof(j->replid2));
    j->replid2_offset = offset;
    snprintf(j->replid, sizeof(j->replid), "%s", replid);
    return 0;
}

// ---- the fixture ----

struct fixture {
    uv_loop_t loop;
    uv_timer_t wake; // so that a wait looks again
    struct journal journal;
    struct fake_master master;
    struct link_options options;
    struct link *link;
    bool impatient; // asks again at once after a failure
    struct link_request ask;
    bool ask_given; // instead of what the journal has
    enum link_state state;
    int failures, full_syncs, continued, snapshots_done, journal_failures;
    unsigned states_seen; // bits
    struct err last;
    char new_replid[REPLID_LEN + 1];
};

static const char replication_id[] = ID1;
static char rdb_bytes[150], stream_bytes[150];

static void choose(void *ctx, const struct redis_server *source, struct link_request *out)
{
    struct fixture *f = ctx;
    assert_int_equal(source->version, 0);
    if (f->ask_given) {
        *out = f->ask;
    } else if (f->journal.has_log) {
        snprintf(out->replid, sizeof(out->replid), "%s", f->journal.replid);
        out->offset = (int64_t)(f->journal.left + f->journal.log.n);
    }
}

static void continued(void *ctx, const char *new_replid)
{
    struct fixture *f = ctx;
    f->continued++;
    if (new_replid)
        snprintf(f->new_replid, sizeof(f->new_replid), "%s", new_replid);
}

static void full_sync(void *ctx, const char *replid, uint64_t offset, const char *reason)
{
    struct fixture *f = ctx;
    assert_int_equal(strlen(replid), REPLID_LEN);
    assert_true(f->master.only_sync ? offset == 0 : offset == f->master.snapshot_offset);
    assert_true(strlen(reason) > 0);
    f->full_syncs++;
}

static void grew(void *ctx)
{
    (void)ctx;
}

static void snapshot_done(void *ctx)
{
    struct fixture *f = ctx;
    assert_true(f->journal.complete);
    f->snapshots_done++;
}

static void on_state(void *ctx, enum link_state s, const struct err *why)
{
    struct fixture *f = ctx;
    f->state = s;
    f->states_seen |= 1u << s;
    if (!why)
        return;
    f->failures++;
    f->last = *why;
    if (f->impatient)
        link_reconnect(f->link, "test");
}

static void journal_failed(void *ctx, const struct err *why)
{
    struct fixture *f = ctx;
    f->journal_failures++;
    f->last = *why;
    link_free(f->link);
    f->link = NULL;
}

static void on_wake(uv_timer_t *t)
{
    (void)t;
}

static const struct link_events events = {
    .choose = choose,
    .continued = continued,
    .full_sync = full_sync,
    .grew = grew,
    .snapshot_done = snapshot_done,
    .state = on_state,
    .journal_failed = journal_failed,
};

static void open_fixture(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    for (size_t i = 0; i < sizeof(rdb_bytes); i++)
        rdb_bytes[i] = (char)i;
    for (size_t i = 0; i < sizeof(stream_bytes); i++)
        stream_bytes[i] = (char)(i * 7 + 3);
    uv_loop_init(&f->loop);
    uv_timer_init(&f->loop, &f->wake);
    uv_timer_start(&f->wake, on_wake, 5, 5);
    fake_master_init(&f->master);
    f->master.replid = replication_id;
    f->master.snapshot_offset = 1000;
    f->master.rdb = slice_make(rdb_bytes, sizeof(rdb_bytes));
    f->master.stream = slice_make(stream_bytes, sizeof(stream_bytes));
    f->journal.room = 4096;
    f->journal.limit = 1 << 20;
    f->options = (struct link_options){
        .loop = &f->loop,
        .endpoint = {.path = f->master.path},
        .journal = &f->journal,
        .tag = "test",
        .connect_timeout_ms = 5000,
        .read_timeout_ms = 20000,
        .events = &events,
        .ctx = f,
    };
}

static void start_link(struct fixture *f)
{
    f->link = link_new(&f->options);
    link_start(f->link);
}

static void close_link(struct fixture *f)
{
    link_free(f->link);
    f->link = NULL;
}

static void close_fixture(struct fixture *f)
{
    close_link(f);
    uv_close((uv_handle_t *)&f->wake, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    buf_free(&f->journal.snapshot);
    buf_free(&f->journal.log);
}

static void run_until(struct fixture *f, bool (*done)(struct fixture *f), const char *what)
{
    uint64_t deadline = clock_mono_us() + 20 * 1000 * 1000;
    while (!done(f)) {
        uv_run(&f->loop, UV_RUN_ONCE);
        if (clock_mono_us() > deadline)
            fail_msg("not in time: %s (state %s, %s)", what, link_state_name(f->state),
                     f->last.msg);
    }
}

static bool all_received(struct fixture *f)
{
    return f->journal.has_log &&
           f->journal.left + f->journal.log.n == f->master.snapshot_offset + f->master.stream.n;
}

static bool all_acked(struct fixture *f)
{
    return all_received(f) &&
           atomic_load(&f->master.last_ack) == f->master.snapshot_offset + f->master.stream.n;
}

static void assert_exact(struct fixture *f)
{
    assert_int_equal(f->journal.snapshot.n, f->master.rdb.n);
    assert_memory_equal(f->journal.snapshot.p, f->master.rdb.p, f->master.rdb.n);
    assert_int_equal(f->journal.log.n, f->master.stream.n);
    assert_memory_equal(f->journal.log.p, f->master.stream.p, f->master.stream.n);
    assert_true(f->journal.complete);
}

// ---- the tests ----

static void snapshot_and_stream_are_exact_with_any_room_in_the_journal(void **state)
{
    (void)state;
    for (int eof_form = 0; eof_form < 2; eof_form++) {
        for (size_t room = 1; room < 200; room++) {
            struct fixture f;
            open_fixture(&f);
            f.master.eof_form = eof_form;
            f.journal.room = room;
            fake_master_start(&f.master);
            start_link(&f);
            run_until(&f, all_received, "everything");
            assert_exact(&f);
            assert_true(f.journal.announced_size ==
                        (eof_form ? JOURNAL_SIZE_UNKNOWN : sizeof(rdb_bytes)));
            close_fixture(&f);
            fake_master_stop(&f.master);
        }
    }
}

static void a_session_cut_at_every_byte_is_resumed_exactly(void **state)
{
    (void)state;
    for (int eof_form = 0; eof_form < 2; eof_form++) {
        // Answers of the handshake, snapshot with its frame, and the stream.
        long total =
            7 + 17 + 5 + 60 + 8 + 200 + (long)sizeof(rdb_bytes) + (long)sizeof(stream_bytes);
        struct fixture f;
        int fulls = 0, partials = 0;
        for (long cut = 0; cut < total; cut++) {
            open_fixture(&f);
            f.impatient = true;
            f.master.eof_form = eof_form;
            atomic_store(&f.master.cut_after, cut);
            fake_master_start(&f.master);
            start_link(&f);
            run_until(&f, all_received, "everything");
            assert_exact(&f);
            // A stream that was cut goes on; only a snapshot that was cut is sent again.
            if (f.continued)
                assert_int_equal(f.full_syncs, 1);
            assert_int_equal(f.snapshots_done, 1);
            fulls += f.full_syncs == 2;
            partials += f.continued == 1;
            close_fixture(&f);
            fake_master_stop(&f.master);
        }
        assert_true(fulls >= (int)sizeof(rdb_bytes));
        assert_true(partials >= (int)sizeof(stream_bytes) - 1);
    }
}

static void bug_42_the_stream_follows_the_snapshot_on_one_connection(void **state)
{
    (void)state;
    for (int eof_form = 0; eof_form < 2; eof_form++) {
        struct fixture f;
        open_fixture(&f);
        f.master.eof_form = eof_form;
        fake_master_start(&f.master);
        start_link(&f);
        run_until(&f, all_acked, "everything");
        assert_exact(&f);
        assert_int_equal(atomic_load(&f.master.connections), 1);
        assert_int_equal(f.full_syncs, 1);
        assert_int_equal(f.continued, 0);
        unsigned want = 1u << LINK_CONNECTING | 1u << LINK_HANDSHAKE | 1u << LINK_WAIT_RDB |
                        1u << LINK_RDB | 1u << LINK_STREAM;
        assert_int_equal(f.states_seen, want);
        struct link_stats st;
        link_get_stats(f.link, &st);
        assert_int_equal(st.bytes_stream, sizeof(stream_bytes));
        assert_int_equal(st.bytes_rdb, sizeof(rdb_bytes) + (eof_form ? 40 : 0));
        assert_int_equal(st.last_ack, 1000 + sizeof(stream_bytes));
        assert_int_equal(st.full_syncs, 1);
        close_fixture(&f);
        fake_master_stop(&f.master);
    }
}

static bool is_blocked(struct fixture *f)
{
    return f->state == LINK_BLOCKED;
}

static bool acked_twice_more(struct fixture *f)
{
    return atomic_load(&f->master.acks) >= 4;
}

static bool one_more_byte(struct fixture *f)
{
    return f->journal.log.n == 61;
}

static void a_full_journal_blocks_the_link_but_not_its_acknowledgements(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    f.journal.limit = 60;
    fake_master_start(&f.master);
    start_link(&f);
    run_until(&f, is_blocked, "blocked");
    assert_int_equal(f.journal.log.n, 60);
    atomic_store(&f.master.acks, 2);
    run_until(&f, acked_twice_more, "acknowledgements while blocked");
    assert_int_equal(atomic_load(&f.master.last_ack), 1060);
    f.states_seen = 0;
    link_kick(f.link);
    f.journal.limit = 61;
    run_until(&f, one_more_byte, "one byte");
    assert_int_equal(f.states_seen, 0);
    assert_int_equal(f.state, LINK_BLOCKED);
    f.journal.limit = 1000;
    link_kick(f.link);
    run_until(&f, all_received, "the rest");
    assert_exact(&f);
    assert_int_equal(f.state, LINK_STREAM);
    assert_int_equal(atomic_load(&f.master.connections), 1);
    close_fixture(&f);
    fake_master_stop(&f.master);
}

static void large_pieces_that_hold_both_snapshot_and_stream_are_exact(void **state)
{
    (void)state;
    enum { RDB = 700 * 1000, STREAM = 900 * 1000 };
    char *p = xmalloc(RDB + STREAM);
    for (size_t i = 0; i < RDB + STREAM; i++)
        p[i] = (char)(i * 13 + i / 777);
    for (int i = 0; i < 20; i++) {
        struct fixture f;
        open_fixture(&f);
        f.master.eof_form = i % 2;
        f.master.rdb = slice_make(p, RDB - (size_t)i * 1001);
        f.master.stream = slice_make(p + RDB, STREAM);
        f.journal.room = i < 10 ? 100001 : 1 << 20;
        f.journal.limit = 1 << 30;
        fake_master_start(&f.master);
        start_link(&f);
        run_until(&f, all_received, "everything");
        assert_exact(&f);
        assert_int_equal(atomic_load(&f.master.connections), 1);
        close_fixture(&f);
        fake_master_stop(&f.master);
    }
    free(p);
}

static void a_getack_is_answered_at_once(void **state)
{
    (void)state;
    for (size_t room = 10; room < 100; room += 13) {
        struct fixture f;
        open_fixture(&f);
        f.journal.room = room;
        memcpy(stream_bytes + sizeof(stream_bytes) - 37, GETACK, 37);
        fake_master_start(&f.master);
        uint64_t begin = clock_mono_us();
        start_link(&f);
        run_until(&f, all_acked, "acknowledgement");
        // The periodic one comes a second after the connection.
        assert_true(atomic_load(&f.master.ack_us) - begin < 900 * 1000);
        close_fixture(&f);
        fake_master_stop(&f.master);
    }
}

static void link_ack_now_acknowledges_what_came_since(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    fake_master_start(&f.master);
    uint64_t begin = clock_mono_us();
    start_link(&f);
    run_until(&f, all_received, "everything");
    link_ack_now(f.link);
    run_until(&f, all_acked, "acknowledgement");
    assert_true(atomic_load(&f.master.ack_us) - begin < 900 * 1000);
    close_fixture(&f);
    fake_master_stop(&f.master);
}

static bool has_failed_thrice(struct fixture *f)
{
    return f->failures >= 3;
}

static void bug_50_a_source_that_is_down_at_start_is_a_state(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    start_link(&f);
    run_until(&f, has_failed_thrice, "attempts");
    assert_int_equal(f.state, LINK_CONNECTING);
    assert_int_equal(f.last.code, -ENOENT);
    assert_non_null(strstr(f.last.msg, f.master.path));
    fake_master_start(&f.master);
    run_until(&f, all_received, "everything");
    assert_exact(&f);
    close_fixture(&f);
    fake_master_stop(&f.master);
}

static bool has_failed(struct fixture *f)
{
    return f->failures > 0;
}

static void an_unsuitable_answer_is_a_reason_and_a_retry(void **state)
{
    (void)state;
    static const struct {
        const char *reply;
        int code;
    } answers[] = {
        {"-NOMASTERLINK Can't SYNC while not connected\r\n", ERR_REPLY},
        {"-LOADING Redis is loading the dataset in memory\r\n", ERR_REPLY},
        {"-NOPERM this user has no permissions\r\n", ERR_AUTH},
        {"-ERR something else\r\n", ERR_REPLY},
        {":17\r\n", ERR_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct fixture f;
        open_fixture(&f);
        atomic_store(&f.master.psync_reply, answers[i].reply);
        fake_master_start(&f.master);
        start_link(&f);
        run_until(&f, has_failed, "failure");
        assert_int_equal(f.last.code, answers[i].code);
        run_until(&f, all_received, "everything");
        assert_exact(&f);
        assert_int_equal(f.failures, 1);
        close_fixture(&f);
        fake_master_stop(&f.master);
    }
}

static void a_new_replication_id_goes_on_without_a_full_sync(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    atomic_store(&f.master.psync_reply, "+CONTINUE " ID2 "\r\n");
    strcpy(f.journal.replid, ID1);
    f.journal.has_log = true;
    f.journal.left = 1000;
    buf_append(&f.journal.log, stream_bytes, 50);
    fake_master_start(&f.master);
    start_link(&f);
    run_until(&f, all_received, "everything");
    assert_memory_equal(f.journal.log.p, stream_bytes, sizeof(stream_bytes));
    assert_int_equal(f.journal.logs, 0);
    assert_string_equal(f.journal.replid, ID2);
    assert_string_equal(f.journal.replid2, ID1);
    assert_int_equal(f.journal.replid2_offset, 1050);
    assert_string_equal(f.new_replid, ID2);
    assert_int_equal(f.full_syncs, 0);
    close_fixture(&f);
    fake_master_stop(&f.master);
}

static void a_position_off_the_journals_edge_begins_a_new_log(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    f.ask = (struct link_request){ID1, 1100};
    f.ask_given = true;
    strcpy(f.journal.replid, ID1);
    f.journal.has_log = true;
    f.journal.left = 1000;
    buf_append(&f.journal.log, stream_bytes, 50);
    fake_master_start(&f.master);
    start_link(&f);
    run_until(&f, all_received, "everything");
    assert_int_equal(f.journal.logs, 1);
    assert_int_equal(f.journal.left, 1100);
    assert_int_equal(f.journal.log.n, 50);
    assert_memory_equal(f.journal.log.p, stream_bytes + 100, 50);
    assert_int_equal(f.continued, 1);
    close_fixture(&f);
    fake_master_stop(&f.master);
}

static void a_position_that_is_gone_ends_in_a_full_sync(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    f.ask = (struct link_request){ID2, 1100};
    f.ask_given = true;
    fake_master_start(&f.master);
    start_link(&f);
    run_until(&f, all_received, "everything");
    assert_exact(&f);
    assert_int_equal(f.full_syncs, 1);
    close_fixture(&f);
    fake_master_stop(&f.master);
}

static bool ticked_in_stream(struct fixture *f)
{
    struct link_stats st;
    link_get_stats(f->link, &st);
    return all_received(f) && clock_unix_ms() - st.last_io_ms > 1500;
}

static void a_source_with_only_sync_gets_no_acknowledgements(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    f.master.only_sync = true;
    f.master.snapshot_offset = 0;
    fake_master_start(&f.master);
    start_link(&f);
    run_until(&f, ticked_in_stream, "a tick in the stream");
    assert_exact(&f);
    assert_int_equal(atomic_load(&f.master.acks), 0);
    assert_int_equal(f.failures, 0);
    close_fixture(&f);
    fake_master_stop(&f.master);
}

static void bug_22_a_silent_source_is_given_up(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    f.master.silent = true;
    f.options.read_timeout_ms = 500;
    fake_master_start(&f.master);
    start_link(&f);
    run_until(&f, has_failed, "timeout");
    assert_int_equal(f.last.code, ERR_TIMEOUT);
    close_fixture(&f);
    fake_master_stop(&f.master);
}

static bool journal_gave_up(struct fixture *f)
{
    return f->journal_failures > 0;
}

static void a_failed_journal_stops_the_link(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    f.journal.fail_with = -ENOSPC;
    fake_master_start(&f.master);
    start_link(&f);
    run_until(&f, journal_gave_up, "failure");
    assert_int_equal(f.last.code, -ENOSPC);
    assert_int_equal(f.state, LINK_IDLE);
    close_fixture(&f);
    fake_master_stop(&f.master);
}

static bool dial_hangs(struct fixture *f)
{
    return atomic_load(&f->master.connections) > 0;
}

static void a_link_can_be_freed_while_it_connects(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    f.master.silent = true;
    f.options.endpoint.tls = (struct tls_options){.enabled = true, .insecure = true};
    f.options.connect_timeout_ms = 300;
    fake_master_start(&f.master);
    start_link(&f);
    run_until(&f, dial_hangs, "TLS handshake");
    close_fixture(&f);
    assert_int_equal(f.failures, 0);
    fake_master_stop(&f.master);
}

static void a_stopped_link_goes_on_where_it_was(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f);
    f.journal.limit = 60;
    fake_master_start(&f.master);
    start_link(&f);
    run_until(&f, is_blocked, "blocked");
    link_stop(f.link);
    assert_int_equal(f.state, LINK_IDLE);
    f.journal.limit = 1000;
    link_kick(f.link);
    link_start(f.link);
    run_until(&f, all_received, "everything");
    assert_exact(&f);
    assert_int_equal(f.full_syncs, 1);
    assert_int_equal(f.continued, 1);
    close_fixture(&f);
    fake_master_stop(&f.master);
}

int main(void)
{
    struct err e;
    const struct log_options quiet = {.level = LOG_OFF};
    if (log_setup(&quiet, &e))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshot_and_stream_are_exact_with_any_room_in_the_journal),
        cmocka_unit_test(large_pieces_that_hold_both_snapshot_and_stream_are_exact),
        cmocka_unit_test(a_session_cut_at_every_byte_is_resumed_exactly),
        cmocka_unit_test(bug_42_the_stream_follows_the_snapshot_on_one_connection),
        cmocka_unit_test(a_full_journal_blocks_the_link_but_not_its_acknowledgements),
        cmocka_unit_test(a_getack_is_answered_at_once),
        cmocka_unit_test(link_ack_now_acknowledges_what_came_since),
        cmocka_unit_test(bug_50_a_source_that_is_down_at_start_is_a_state),
        cmocka_unit_test(an_unsuitable_answer_is_a_reason_and_a_retry),
        cmocka_unit_test(a_new_replication_id_goes_on_without_a_full_sync),
        cmocka_unit_test(a_position_off_the_journals_edge_begins_a_new_log),
        cmocka_unit_test(a_position_that_is_gone_ends_in_a_full_sync),
        cmocka_unit_test(a_source_with_only_sync_gets_no_acknowledgements),
        cmocka_unit_test(bug_22_a_silent_source_is_given_up),
        cmocka_unit_test(a_failed_journal_stops_the_link),
        cmocka_unit_test(a_link_can_be_freed_while_it_connects),
        cmocka_unit_test(a_stopped_link_goes_on_where_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

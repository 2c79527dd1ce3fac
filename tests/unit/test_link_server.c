// SPDX-License-Identifier: Apache-2.0
// The link between a real server and the real journal.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/log.h"
#include "codec/crc64.h"
#include "server.h"
#include "source/link.h"
#include "tls_files.h"

struct fixture {
    struct server server;
    uv_loop_t loop;
    uv_timer_t wake;
    char dir[80];
    struct journal *journal;
    struct journal_reader *reader;
    struct link_options options;
    struct link *link;
    struct redis_client *client;
    enum link_state state;
    int full_syncs, continued, failures, blocked;
    char reason[256];
    struct err last;
};

static void choose(void *ctx, const struct redis_server *source, struct link_request *out)
{
    struct fixture *f = ctx;
    (void)source;
    struct journal_info info;
    journal_get_info(f->journal, &info);
    if (info.has_log) {
        memcpy(out->replid, info.replid, sizeof(out->replid));
        out->offset = (int64_t)info.right;
    }
}

static void continued(void *ctx, const char *new_replid)
{
    struct fixture *f = ctx;
    (void)new_replid;
    f->continued++;
}

static void full_sync(void *ctx, const char *replid, uint64_t offset, const char *reason)
{
    struct fixture *f = ctx;
    (void)replid, (void)offset;
    snprintf(f->reason, sizeof(f->reason), "%s", reason);
    f->full_syncs++;
    if (f->reader)
        journal_reader_close(f->reader);
    f->reader = NULL;
}

static void on_state(void *ctx, enum link_state s, const struct err *why)
{
    struct fixture *f = ctx;
    f->state = s;
    f->blocked += s == LINK_BLOCKED;
    if (why) {
        f->failures++;
        f->last = *why;
    }
}

static void on_wake(uv_timer_t *t)
{
    struct fixture *f = t->data;
    struct err e = {0};
    if (journal_tick(f->journal, &e))
        fail_msg("%s", e.msg);
}

static const struct link_events events = {
    .choose = choose, .continued = continued, .full_sync = full_sync, .state = on_state};

static void open_fixture(struct fixture *f, const char *const *options, int64_t memory_size)
{
    memset(f, 0, sizeof(*f));
    server_init(&f->server);
    server_start(&f->server, options);
    uv_loop_init(&f->loop);
    uv_timer_init(&f->loop, &f->wake);
    f->wake.data = f;
    uv_timer_start(&f->wake, on_wake, 5, 5);
    snprintf(f->dir, sizeof(f->dir), "%s/journal", f->server.dir);
    const struct journal_options jo = {
        .type = memory_size ? JOURNAL_MEMORY : JOURNAL_STORER,
        .dir = f->dir,
        .max_size = memory_size ? memory_size : -1,
        .log_size = 1 << 20,
        .flush = {.auto_flush = true},
        .loop = &f->loop,
        .tag = "test",
    };
    struct err e = {0};
    if (journal_open(&f->journal, &jo, &e))
        fail_msg("%s", e.msg);
    f->options = (struct link_options){
        .loop = &f->loop,
        .endpoint = f->server.endpoint,
        .journal = f->journal,
        .tag = "test",
        .events = &events,
        .ctx = f,
    };
    assert_int_equal(redis_connect(&f->client, &f->server.endpoint, 20000, NULL), 0);
}

static void start_link(struct fixture *f)
{
    f->link = link_new(&f->options);
    link_start(f->link);
}

static void close_fixture(struct fixture *f)
{
    link_free(f->link);
    if (f->reader)
        journal_reader_close(f->reader);
    journal_close(f->journal);
    redis_close(f->client);
    uv_close((uv_handle_t *)&f->wake, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    server_stop(&f->server);
}

static void run_until(struct fixture *f, bool (*done)(struct fixture *f), const char *what)
{
    uint64_t deadline = clock_mono_us() + 30 * 1000 * 1000;
    while (!done(f)) {
        uv_run(&f->loop, UV_RUN_ONCE);
        if (clock_mono_us() > deadline)
            fail_msg("not in time: %s (state %s, %s)", what, link_state_name(f->state),
                     f->last.msg);
    }
}

static void call(struct redis_client *r, const char *command)
{
    struct buf b = {0};
    struct err e = {0};
    buf_append_cstr(&b, command);
    buf_append_cstr(&b, "\r\n");
    if (redis_call_raw(r, buf_slice(&b), 1, NULL, &e))
        fail_msg("%s: %s", command, e.msg);
    buf_free(&b);
}

static bool is_streaming(struct fixture *f)
{
    return f->state == LINK_STREAM;
}

static bool is_level(struct fixture *f)
{
    struct journal_info info;
    struct redis_server s;
    assert_int_equal(redis_probe(f->client, &s, NULL), 0);
    journal_get_info(f->journal, &info);
    return f->state == LINK_STREAM && info.has_log && info.right == (uint64_t)s.repl_offset;
}

// The snapshot in the journal is a whole RDB: its head, its end and the checksum over all of it.
static void assert_whole_rdb(struct fixture *f)
{
    struct journal_info info;
    struct err e = {0};
    journal_get_info(f->journal, &info);
    assert_true(info.snapshot_complete);
    struct journal_reader *r = journal_reader_open(f->journal);
    struct buf all = {0};
    while (all.n < info.snapshot_size) {
        const char *p;
        size_t n;
        assert_int_equal(journal_snapshot_view(r, all.n, &p, &n, &e), 0);
        assert_true(n > 0);
        buf_append(&all, p, n);
    }
    journal_reader_close(r);
    assert_int_equal(all.n, info.snapshot_size);
    assert_memory_equal(all.p, "REDIS00", 7);
    assert_int_equal((unsigned char)all.p[all.n - 9], 0xff);
    assert_true(crc64_update(0, all.p, all.n - 8) == load_le64(all.p + all.n - 8));
    buf_free(&all);
}

// The log holds SET k <n> for n = first..last in order, each once.
static void assert_sets(struct fixture *f, int first, int last)
{
    struct journal_info info;
    struct err e = {0};
    journal_get_info(f->journal, &info);
    struct journal_reader *r = journal_reader_open(f->journal);
    uint64_t at = info.left;
    int next = first;
    struct resp_cmd c = {0};
    while (at < info.right) {
        const char *p;
        size_t n;
        assert_int_equal(journal_log_view(r, at, &p, &n, &e), 0);
        assert_int_equal(resp_cmd_parse(&c, p, n), 1);
        at += c.len;
        int64_t value;
        if (c.argc == 3 && slice_eq(c.argv[1], SLICE("k"))) {
            assert_true(slice_i64(c.argv[2], &value));
            assert_int_equal(value, next++);
        }
    }
    resp_cmd_free(&c);
    journal_reader_close(r);
    assert_int_equal(next, last + 1);
}

static void set(struct fixture *f, int n)
{
    assert_int_equal(redis_call(f->client, NULL, NULL, "SET k %d", n), 0);
}

static void fill(struct fixture *f, int keys)
{
    for (int i = 0; i < keys; i++)
        assert_int_equal(redis_call(f->client, NULL, NULL, "SET key:%d value-%d", i, i), 0);
}

static const char *const no_options[] = {NULL};
static const char *const disk_options[] = {"--repl-diskless-sync", "no", NULL};

static void snapshot_and_stream_of_a_real_server_are_whole(void **state)
{
    (void)state;
    const char *const *const ways[] = {no_options, disk_options};
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        open_fixture(&f, ways[i], 0);
        fill(&f, 3000);
        start_link(&f);
        run_until(&f, is_streaming, "stream");
        for (int n = 1; n <= 500; n++)
            set(&f, n);
        run_until(&f, is_level, "everything");
        assert_whole_rdb(&f);
        assert_sets(&f, 1, 500);
        assert_int_equal(f.full_syncs, 1);
        assert_int_equal(f.failures, 0);
        close_fixture(&f);
    }
}

static void wait_on_the_source_counts_the_link(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, no_options, 0);
    start_link(&f);
    run_until(&f, is_level, "stream");
    set(&f, 1);
    struct conn *c;
    struct buf b = {0};
    assert_int_equal(conn_dial(&c, &f.server.endpoint, 1000, NULL), 0);
    // WAIT is for what this client wrote, so both go over one connection.
    resp_put_cmd(&b, "SET k 2");
    resp_put_cmd(&b, "WAIT 1 10000");
    struct iovec iov = {b.p, b.n};
    uint64_t begin = clock_mono_us();
    assert_int_equal(conn_writev(c, &iov, 1), (ssize_t)b.n);
    buf_clear(&b);
    while (b.n < 9) {
        uv_run(&f.loop, UV_RUN_ONCE);
        ssize_t n = conn_recv(c, buf_reserve(&b, 64), 64);
        if (n > 0)
            b.n += (size_t)n;
        assert_true(n > 0 || n == -EAGAIN);
    }
    assert_memory_equal(b.p, "+OK\r\n:1\r\n", 9);
    assert_true(clock_mono_us() - begin < 500 * 1000);
    buf_free(&b);
    conn_close(c);
    close_fixture(&f);
}

static bool has_continued(struct fixture *f)
{
    return f->continued > 0 && f->state == LINK_STREAM;
}

static void a_cut_connection_loses_and_repeats_nothing(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, no_options, 0);
    start_link(&f);
    run_until(&f, is_streaming, "stream");
    for (int round = 0; round < 5; round++) {
        for (int n = 1; n <= 100; n++) {
            set(&f, round * 100 + n);
            if (n == 50)
                call(f.client, "CLIENT KILL TYPE replica");
        }
        f.continued = 0;
        run_until(&f, has_continued, "partial sync");
    }
    run_until(&f, is_level, "everything");
    assert_sets(&f, 1, 500);
    assert_int_equal(f.full_syncs, 1);
    close_fixture(&f);
}

static bool second_full_sync(struct fixture *f)
{
    return f->full_syncs == 2 && f->state == LINK_STREAM;
}

static void a_restarted_source_is_a_full_sync_with_a_reason(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, no_options, 0);
    start_link(&f);
    run_until(&f, is_streaming, "stream");
    redis_close(f.client);
    server_kill(&f.server);
    server_start(&f.server, no_options);
    assert_int_equal(redis_connect(&f.client, &f.server.endpoint, 5000, NULL), 0);
    run_until(&f, second_full_sync, "second full sync");
    assert_non_null(strstr(f.reason, "does not know replication id"));
    assert_true(f.failures > 0);
    set(&f, 1);
    run_until(&f, is_level, "everything");
    assert_sets(&f, 1, 1);
    close_fixture(&f);
}

static void a_small_backlog_is_named_as_the_reason(void **state)
{
    (void)state;
    struct fixture f;
    static const char *const options[] = {"--repl-backlog-size", "16384", NULL};
    open_fixture(&f, options, 0);
    start_link(&f);
    run_until(&f, is_streaming, "stream");
    link_stop(f.link);
    for (int n = 1; n <= 3000; n++)
        set(&f, n);
    link_start(f.link);
    run_until(&f, second_full_sync, "second full sync");
    assert_non_null(strstr(f.reason, "backlog"));
    close_fixture(&f);
}

static bool has_new_id(struct fixture *f)
{
    struct journal_info info;
    journal_get_info(f->journal, &info);
    return f->state == LINK_STREAM && info.replid2[0];
}

static void a_promoted_source_goes_on_under_its_new_id(void **state)
{
    (void)state;
    struct fixture f;
    struct server master;
    server_init(&master);
    server_start(&master, NULL);
    open_fixture(&f, no_options, 0);
    struct redis_client *writer;
    assert_int_equal(redis_connect(&writer, &master.endpoint, 5000, NULL), 0);
    assert_int_equal(redis_call(f.client, NULL, NULL, "REPLICAOF 127.0.0.1 %d", (int)master.port),
                     0);
    // The source refuses with NOMASTERLINK until its own link is up.
    start_link(&f);
    run_until(&f, is_streaming, "stream");
    for (int n = 1; n <= 50; n++)
        assert_int_equal(redis_call(writer, NULL, NULL, "SET k %d", n), 0);
    call(writer, "WAIT 1 5000");
    run_until(&f, is_level, "the master's writes");
    int fulls = f.full_syncs;
    call(f.client, "REPLICAOF NO ONE");
    run_until(&f, has_new_id, "new id");
    for (int n = 51; n <= 100; n++)
        set(&f, n);
    run_until(&f, is_level, "everything");
    assert_sets(&f, 1, 100);
    assert_int_equal(f.full_syncs, fulls);
    struct redis_server s;
    struct journal_info info;
    assert_int_equal(redis_probe(f.client, &s, NULL), 0);
    journal_get_info(f.journal, &info);
    assert_string_equal(info.replid, s.replid);
    assert_string_equal(info.replid2, s.replid2);
    redis_close(writer);
    server_stop(&master);
    close_fixture(&f);
}

static void a_slow_snapshot_does_not_time_out(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        open_fixture(&f, i ? disk_options : no_options, 0);
        fill(&f, 3000);
        call(f.client, "CONFIG SET rdb-key-save-delay 1000");
        call(f.client, "CONFIG SET repl-timeout 2");
        call(f.client, "CONFIG SET repl-ping-replica-period 1");
        f.options.read_timeout_ms = 2000;
        uint64_t begin = clock_mono_us();
        start_link(&f);
        run_until(&f, is_streaming, "stream");
        assert_true(clock_mono_us() - begin > 2500 * 1000);
        assert_int_equal(f.failures, 0);
        assert_int_equal(f.full_syncs, 1);
        run_until(&f, is_level, "everything");
        assert_whole_rdb(&f);
        close_fixture(&f);
    }
}

static bool is_blocked(struct fixture *f)
{
    return f->state == LINK_BLOCKED;
}

static uint64_t pause_end;

static bool pause_over(struct fixture *f)
{
    (void)f;
    return clock_mono_us() > pause_end;
}

static bool level_while_kicked(struct fixture *f)
{
    struct journal_info info;
    journal_get_info(f->journal, &info);
    journal_log_release(f->reader, info.right);
    link_kick(f->link);
    return is_level(f);
}

static void a_blocked_link_is_not_dropped_by_the_source(void **state)
{
    (void)state;
    struct fixture f;
    static const char *const options[] = {"--repl-timeout", "2", "--repl-ping-replica-period", "1",
                                          NULL};
    open_fixture(&f, options, 4 << 20);
    start_link(&f);
    run_until(&f, is_streaming, "stream");
    f.reader = journal_reader_open(f.journal);
    struct journal_info info;
    journal_get_info(f.journal, &info);
    journal_snapshot_release(f.reader, info.snapshot_size);
    struct buf value = {0};
    memset(buf_reserve(&value, 100000), 'v', 100000);
    value.n = 100000;
    struct slice v = buf_slice(&value);
    for (int n = 0; n < 300; n++)
        assert_int_equal(redis_call(f.client, NULL, NULL, "SET big %b", &v), 0);
    run_until(&f, is_blocked, "blocked");
    pause_end = clock_mono_us() + 4 * 1000 * 1000;
    run_until(&f, pause_over, "longer than repl-timeout");
    assert_int_equal(f.state, LINK_BLOCKED);
    run_until(&f, level_while_kicked, "everything");
    assert_int_equal(f.failures, 0);
    assert_int_equal(f.full_syncs, 1);
    buf_free(&value);
    close_fixture(&f);
}

static void a_user_with_only_the_replication_commands_suffices(void **state)
{
    (void)state;
    struct fixture f;
    static const char *const options[] = {"--user", "repl",      "on", ">pw",
                                          "+psync", "+replconf", NULL};
    open_fixture(&f, options, 0);
    f.options.endpoint.user = (char[]){"repl"};
    f.options.endpoint.password = (char[]){"pw"};
    start_link(&f);
    run_until(&f, is_level, "stream");
    set(&f, 1);
    run_until(&f, is_level, "everything");
    assert_sets(&f, 1, 1);
    assert_int_equal(f.failures, 0);
    close_fixture(&f);
}

static void tls_carries_snapshot_and_stream(void **state)
{
    (void)state;
    struct fixture f;
    char cert[128], key[128], port[8];
    struct server files; // only for its directory and port
    server_init(&files);
    snprintf(cert, sizeof(cert), "%s/cert.pem", files.dir);
    snprintf(key, sizeof(key), "%s/key.pem", files.dir);
    tls_files_write(cert, key, "IP:127.0.0.1");
    snprintf(port, sizeof(port), "%u", (unsigned)files.tls_port);
    const char *const options[] = {"--tls-port",
                                   port,
                                   "--tls-cert-file",
                                   cert,
                                   "--tls-key-file",
                                   key,
                                   "--tls-ca-cert-file",
                                   cert,
                                   "--tls-auth-clients",
                                   "no",
                                   NULL};
    open_fixture(&f, options, 0);
    f.options.endpoint.port = files.tls_port;
    f.options.endpoint.tls.enabled = true;
    f.options.endpoint.tls.ca_file = cert;
    fill(&f, 20000);
    start_link(&f);
    run_until(&f, is_streaming, "stream");
    for (int n = 1; n <= 2000; n++)
        set(&f, n);
    run_until(&f, is_level, "everything");
    assert_whole_rdb(&f);
    assert_sets(&f, 1, 2000);
    assert_int_equal(f.failures, 0);
    close_fixture(&f);
    server_stop(&files);
}

int main(void)
{
    struct err e;
    const struct log_options quiet = {.level = LOG_OFF};
    if (log_setup(&quiet, &e))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshot_and_stream_of_a_real_server_are_whole),
        cmocka_unit_test(wait_on_the_source_counts_the_link),
        cmocka_unit_test(a_cut_connection_loses_and_repeats_nothing),
        cmocka_unit_test(a_restarted_source_is_a_full_sync_with_a_reason),
        cmocka_unit_test(a_small_backlog_is_named_as_the_reason),
        cmocka_unit_test(a_promoted_source_goes_on_under_its_new_id),
        cmocka_unit_test(a_slow_snapshot_does_not_time_out),
        cmocka_unit_test(a_blocked_link_is_not_dropped_by_the_source),
        cmocka_unit_test(a_user_with_only_the_replication_commands_suffices),
        cmocka_unit_test(tls_carries_snapshot_and_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

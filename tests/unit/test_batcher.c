// SPDX-License-Identifier: Apache-2.0
#include "target/batcher.h"

#include "redis_fixture.h"
#include "target_world.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

// A server that shows what it received and answers when it is told to.
struct fake {
    int listener, fd;
    char dir[64], path[80];
    struct endpoint endpoint;
    struct buf in;
    struct buf received; // every command so far: its words joined by ':', then a space
    struct buf queue;    // unanswered ones, NUL-terminated
    bool in_txn, dirty;
    int queued;
    struct buf out;          // answers that the socket has not taken
    struct buf results;      // replies of the transaction being queued
    const char *refuse;      // commands that contain this are refused when they come
    const char *refuse_exec; // and these when they are executed
    const char *error;
    const char *record; // what GET is answered
    bool changed;       // what is watched
};

static void fake_start(struct fake *f)
{
    memset(f, 0, sizeof(*f));
    strcpy(f->dir, "/tmp/gunyu-test-XXXXXX");
    must(mkdtemp(f->dir) != NULL);
    snprintf(f->path, sizeof(f->path), "%s/s", f->dir);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, f->path);
    f->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    must(bind(f->listener, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(f->listener, 5) == 0);
    f->endpoint.path = f->path;
    f->fd = -1;
    f->error = "OOM command not allowed";
}

static void fake_forget(struct fake *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    buf_clear(&f->in);
    buf_clear(&f->received);
    buf_clear(&f->queue);
    buf_clear(&f->out);
    buf_clear(&f->results);
    f->in_txn = f->dirty = false;
    f->refuse = f->refuse_exec = f->record = NULL;
    f->changed = false;
}

static void fake_stop(struct fake *f)
{
    fake_forget(f);
    close(f->listener);
    unlink(f->path);
    rmdir(f->dir);
    buf_free(&f->in);
    buf_free(&f->received);
    buf_free(&f->queue);
    buf_free(&f->out);
    buf_free(&f->results);
}

static void fake_attach(struct fake *f, struct world *w)
{
    struct conn *c;
    struct err e;
    assert_int_equal(conn_dial(&c, &f->endpoint, 5000, &e), 0);
    f->fd = accept(f->listener, NULL, NULL);
    assert_true(f->fd >= 0);
    batcher_attach(w->b, c, 0);
}

static void fake_send(struct fake *f)
{
    ssize_t n = send(f->fd, f->out.p, f->out.n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0)
        buf_consume(&f->out, (size_t)n);
}

static void fake_read(struct fake *f)
{
    fake_send(f);
    for (;;) {
        ssize_t n = recv(f->fd, buf_reserve(&f->in, 1 << 16), 1 << 16, MSG_DONTWAIT);
        if (n <= 0)
            break;
        f->in.n += (size_t)n;
    }
    struct resp_cmd c = {0};
    size_t used = 0;
    while (used < f->in.n && resp_cmd_parse(&c, f->in.p + used, f->in.n - used) == 1) {
        struct buf word = {0};
        for (int i = 0; i < c.argc; i++) {
            buf_append_cstr(&word, i ? ":" : "");
            buf_append_slice(&word, c.argv[i].n < 40 ? c.argv[i] : SLICE("LONG"));
        }
        buf_append_slice(&f->received, buf_slice(&word));
        buf_append_char(&f->received, ' ');
        buf_append_slice(&f->queue, buf_slice(&word));
        buf_append_char(&f->queue, 0);
        buf_free(&word);
        used += c.len;
    }
    resp_cmd_free(&c);
    buf_consume(&f->in, used);
}

static void execute(struct fake *f, const char *cmd, struct buf *out)
{
    if (f->refuse_exec && strstr(cmd, f->refuse_exec))
        buf_printf(out, "-%s\r\n", f->error);
    else if (strncmp(cmd, "DEL", 3) == 0)
        buf_append_cstr(out, ":0\r\n");
    else if (strncmp(cmd, "GET", 3) == 0 && f->record)
        buf_printf(out, "$%zu\r\n%s\r\n", strlen(f->record), f->record);
    else if (strncmp(cmd, "GET", 3) == 0)
        buf_append_cstr(out, "$-1\r\n");
    else if (strncmp(cmd, "LRANGE", 6) == 0)
        buf_append_cstr(out, "*2\r\n$1\r\na\r\n*1\r\n:1\r\n");
    else
        buf_append_cstr(out, "+OK\r\n");
}

static void answer(struct fake *f, const char *cmd, struct buf *out)
{
    bool refused = f->refuse && strstr(cmd, f->refuse);
    if (strcmp(cmd, "MULTI") == 0) {
        f->in_txn = true;
        f->dirty = false;
        f->queued = 0;
        buf_clear(&f->results);
        buf_append_cstr(out, "+OK\r\n");
    } else if (strcmp(cmd, "EXEC") == 0) {
        f->in_txn = false;
        if (f->dirty)
            buf_append_cstr(out, "-EXECABORT Transaction discarded\r\n");
        else if (f->changed)
            buf_append_cstr(out, "*-1\r\n");
        else
            buf_printf(out, "*%d\r\n%.*s", f->queued, (int)f->results.n, f->results.p);
    } else if (refused) {
        f->dirty = true;
        buf_printf(out, "-%s\r\n", f->error);
    } else if (f->in_txn) {
        f->queued++;
        execute(f, cmd, &f->results);
        buf_append_cstr(out, "+QUEUED\r\n");
    } else {
        execute(f, cmd, out);
    }
}

// Answers up to n of the commands that have come; returns how many.
static int fake_answer(struct fake *f, int n)
{
    int done = 0;
    size_t at = 0;
    for (; done < n && at < f->queue.n; done++) {
        answer(f, f->queue.p + at, &f->out);
        at += strlen(f->queue.p + at) + 1;
    }
    buf_consume(&f->queue, at);
    fake_send(f);
    return done;
}

static const struct batcher_options defaults = {
    .max_cmds = 1000, .max_bytes = 1 << 20, .max_exec = 1, .position_us = UINT64_MAX / 2};

static void begin(struct fake *f, struct world *w, struct batcher_options o)
{
    fake_start(f);
    world_init(w, o);
    fake_attach(f, w);
}

static void end(struct fake *f, struct world *w)
{
    world_free(w);
    fake_stop(f);
}

static bool try_unit(struct world *w, bool wrapped, uint64_t offset)
{
    if (!batcher_unit_begin(w->b, wrapped, false))
        return false;
    world_cmd(w, offset, "SET k%U v", offset);
    struct batch_mark mark = at(offset);
    batcher_unit_end(w->b, &mark);
    return true;
}

static void unit(struct world *w, bool wrapped, uint64_t offset)
{
    assert_true(try_unit(w, wrapped, offset));
}

// Lets everything that can move do so, without an answer.
static const char *settle(struct fake *f, struct world *w)
{
    for (int i = 0; i < 3; i++) {
        world_turn(w);
        fake_read(f);
    }
    return buf_cstr(&f->received);
}

static void a_wrapped_batch_carries_its_position(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    begin(&f, &w, defaults);
    unit(&w, true, 5);
    unit(&w, true, 9);
    assert_string_equal(settle(&f, &w), "MULTI SET:k5:v SET:k9:v SET:position:9 EXEC ");
    assert_int_equal(w.events.n, 0);
    fake_answer(&f, 4);
    settle(&f, &w);
    assert_int_equal(w.events.n, 0); // queued is not applied
    fake_answer(&f, 1);
    settle(&f, &w);
    assert_string_equal(buf_cstr(&w.events), "stored:9 ");
    assert_true(batcher_idle(w.b));
    end(&f, &w);
}

static void an_exec_waits_for_the_one_before(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    begin(&f, &w, defaults);
    unit(&w, true, 1);
    settle(&f, &w);
    unit(&w, true, 2);
    assert_string_equal(settle(&f, &w), "MULTI SET:k1:v SET:position:1 EXEC MULTI SET:k2:v ");
    unit(&w, true, 3);
    fake_answer(&f, 3);
    assert_string_equal(settle(&f, &w),
                        "MULTI SET:k1:v SET:position:1 EXEC MULTI SET:k2:v SET:k3:v ");
    fake_answer(&f, 3);
    assert_string_equal(settle(&f, &w),
                        "MULTI SET:k1:v SET:position:1 EXEC MULTI SET:k2:v SET:k3:v "
                        "SET:position:3 EXEC ");
    fake_answer(&f, 100);
    settle(&f, &w);
    assert_string_equal(buf_cstr(&w.events), "stored:1 stored:3 ");
    end(&f, &w);
}

static void an_exec_waits_for_bare_batches(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    begin(&f, &w, defaults);
    unit(&w, false, 1);
    settle(&f, &w);
    unit(&w, false, 2);
    unit(&w, true, 3);
    assert_string_equal(settle(&f, &w), "SET:k1:v SET:k2:v MULTI SET:k3:v ");
    fake_answer(&f, 1);
    assert_string_equal(settle(&f, &w), "SET:k1:v SET:k2:v MULTI SET:k3:v ");
    fake_answer(&f, 1);
    assert_string_equal(settle(&f, &w), "SET:k1:v SET:k2:v MULTI SET:k3:v SET:position:3 EXEC ");
    fake_answer(&f, 100);
    settle(&f, &w);
    assert_string_equal(buf_cstr(&w.events), "acked:1 acked:2 stored:3 ");
    end(&f, &w);
}

static void nothing_goes_bare_behind_an_unanswered_exec(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    begin(&f, &w, defaults);
    unit(&w, true, 1);
    settle(&f, &w);
    unit(&w, false, 2);
    assert_string_equal(settle(&f, &w), "MULTI SET:k1:v SET:position:1 EXEC MULTI SET:k2:v ");
    f.refuse = "k1";
    fake_answer(&f, 100);
    settle(&f, &w);
    assert_string_equal(buf_cstr(&w.events), "failed:1 ");
    assert_null(strstr(settle(&f, &w), "position:2"));
    end(&f, &w);
}

// MULTI costs the target, and an EXEC that is out makes the next batch need one: a stream that was
// wrapped once must not stay so for as long as it is busy.
static void a_full_batch_wrapped_for_the_exec_before_it_is_the_last(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    uint64_t offset = 1;
    begin(&f, &w, defaults);
    unit(&w, true, offset);
    settle(&f, &w);
    while (try_unit(&w, false, offset + 1))
        offset++;
    assert_int_equal(offset, 1001); // a batch full of what needs no MULTI, behind an EXEC
    fake_answer(&f, 4);
    settle(&f, &w);
    assert_false(try_unit(&w, false, offset + 1));
    assert_false(batcher_room(w.b));
    fake_answer(&f, 10000);
    settle(&f, &w);
    buf_clear(&f.received);
    unit(&w, false, 1002);
    assert_string_equal(settle(&f, &w), "SET:k1002:v ");
    end(&f, &w);
}

static void a_refused_batch_lets_no_later_one_commit(void **state)
{
    (void)state;
    static const char *const errors[] = {"OOM command not allowed", "MISCONF snapshots fail",
                                         "READONLY You can't write"};
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct fake f;
        struct world w;
        begin(&f, &w, defaults);
        f.error = errors[i];
        f.refuse = "k1:";
        unit(&w, true, 7);
        unit(&w, true, 1);
        settle(&f, &w);
        unit(&w, true, 2);
        unit(&w, false, 3);
        settle(&f, &w);
        fake_answer(&f, 5);
        settle(&f, &w);
        assert_string_equal(buf_cstr(&w.events), "failed:1 ");
        assert_string_equal(w.refusal, errors[i]);
        assert_string_equal(settle(&f, &w), "MULTI SET:k7:v SET:k1:v SET:position:1 EXEC MULTI "
                                            "SET:k2:v SET:k3:v ");
        assert_false(try_unit(&w, true, 4));
        assert_false(batcher_room(w.b));
        end(&f, &w);
    }
}

static void an_error_within_exec_is_told_and_the_rest_stands(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    begin(&f, &w, defaults);
    f.refuse_exec = "k2:";
    unit(&w, true, 1);
    unit(&w, true, 2);
    unit(&w, true, 3);
    settle(&f, &w);
    fake_answer(&f, 100);
    settle(&f, &w);
    assert_string_equal(buf_cstr(&w.events), "exec-error:2 stored:3 ");
    end(&f, &w);
}

static void bare_positions_cover_confirmed_commands_only(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    struct batcher_options o = defaults;
    o.position_us = 0;
    begin(&f, &w, o);
    unit(&w, false, 10);
    settle(&f, &w);
    unit(&w, false, 20);
    assert_string_equal(settle(&f, &w), "SET:k10:v SET:k20:v ");
    fake_answer(&f, 1);
    assert_string_equal(settle(&f, &w), "SET:k10:v SET:k20:v SET:position:10 ");
    fake_answer(&f, 1);
    fake_answer(&f, 1);
    assert_string_equal(settle(&f, &w), "SET:k10:v SET:k20:v SET:position:10 SET:position:20 ");
    fake_answer(&f, 1);
    settle(&f, &w);
    assert_true(batcher_idle(w.b));
    assert_int_equal(w.stored.offset, 20);
    end(&f, &w);
}

static void a_stop_over_a_refused_bare_command_stores_no_position(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    struct batcher_options o = defaults;
    o.position_us = 0;
    begin(&f, &w, o);
    w.stop_on_refusal = true;
    f.refuse = "k2:";
    unit(&w, false, 1);
    unit(&w, false, 2);
    unit(&w, false, 3);
    settle(&f, &w);
    unit(&w, true, 4);
    settle(&f, &w);
    fake_answer(&f, 100);
    settle(&f, &w);
    assert_string_equal(settle(&f, &w), "SET:k1:v SET:k2:v SET:k3:v MULTI SET:k4:v ");
    assert_string_equal(buf_cstr(&w.events), "error:2 ");
    assert_int_equal(w.acked.offset, 0);
    // The owner lets go later, in another turn, and begins again.
    batcher_detach(w.b);
    fake_forget(&f);
    buf_clear(&w.events);
    fake_attach(&f, &w);
    unit(&w, true, 1);
    settle(&f, &w);
    fake_answer(&f, 100);
    settle(&f, &w);
    assert_string_equal(buf_cstr(&w.events), "stored:1 ");
    end(&f, &w);
}

static void a_load_writes_its_first_position_and_each_later_one(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    begin(&f, &w, defaults);
    struct batch_mark mark = {.loading = true};
    batcher_skip_to(w.b, &mark);
    batcher_store_position(w.b);
    assert_string_equal(settle(&f, &w), "SET:position:0 ");
    fake_answer(&f, 1);
    settle(&f, &w);
    assert_true(batcher_unit_begin(w.b, false, false));
    world_cmd(&w, 50, "SET a b");
    mark.rdb_index = 50;
    batcher_unit_end(w.b, &mark);
    settle(&f, &w);
    fake_answer(&f, 1);
    settle(&f, &w);
    batcher_store_position(w.b);
    settle(&f, &w);
    fake_answer(&f, 1);
    settle(&f, &w);
    // From a snapshot of an empty history the stream begins at the same offset.
    mark = at(0);
    batcher_skip_to(w.b, &mark);
    batcher_store_position(w.b);
    assert_string_equal(settle(&f, &w), "SET:position:0 SET:a:b SET:position:50 SET:position:0 ");
    fake_answer(&f, 1);
    settle(&f, &w);
    assert_string_equal(buf_cstr(&w.events),
                        "acked:0 stored:0 acked:50 stored:50 acked:0 stored:0 ");
    assert_false(w.stored.loading);
    end(&f, &w);
}

static void bug_20_what_is_skipped_moves_the_position(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    struct batcher_options o = defaults;
    o.position_us = 0;
    begin(&f, &w, o);
    struct batch_mark mark = at(100);
    batcher_skip_to(w.b, &mark);
    assert_string_equal(settle(&f, &w), "SET:position:100 ");
    fake_answer(&f, 1);
    unit(&w, true, 200);
    settle(&f, &w);
    mark = at(300); // behind a batch that is not answered yet
    batcher_skip_to(w.b, &mark);
    settle(&f, &w);
    assert_int_equal(w.acked.offset, 100);
    fake_answer(&f, 100);
    settle(&f, &w);
    assert_int_equal(w.acked.offset, 300);
    fake_answer(&f, 100);
    settle(&f, &w);
    assert_int_equal(w.stored.offset, 300);
    end(&f, &w);
}

static void an_idle_connection_is_pinged_and_a_busy_one_is_not(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    struct batcher_options o = defaults;
    o.ping_us = 1;
    o.position_us = UINT64_MAX;
    begin(&f, &w, o);
    struct batch_mark mark = at(50);
    batcher_skip_to(w.b, &mark);
    assert_string_equal(settle(&f, &w), "PING ");
    settle(&f, &w); // one is enough while its answer is due
    assert_string_equal(settle(&f, &w), "PING ");
    mark = at(100);
    batcher_skip_to(w.b, &mark);
    assert_int_equal(w.acked.offset, 50);
    fake_answer(&f, 1);
    settle(&f, &w);
    assert_int_equal(w.acked.offset, 100);
    end(&f, &w);
}

static void a_source_transaction_is_a_batch_of_its_own(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    struct batcher_options o = defaults;
    o.max_cmds = 3; // a transaction is not split at it
    begin(&f, &w, o);
    assert_true(batcher_unit_begin(w.b, true, true));
    for (uint64_t i = 10; i < 16; i++) {
        world_cmd(&w, i, "SET k%U v", i);
        settle(&f, &w); // many turns
        if (i == 12)
            fake_answer(&f, 2);
    }
    struct batch_mark mark = at(16);
    assert_string_equal(settle(&f, &w), "MULTI SET:k10:v SET:k11:v SET:k12:v SET:k13:v SET:k14:v "
                                        "SET:k15:v ");
    batcher_unit_end(w.b, &mark);
    unit(&w, true, 20); // does not join
    assert_false(batcher_unit_begin(w.b, true, true));
    assert_string_equal(settle(&f, &w), "MULTI SET:k10:v SET:k11:v SET:k12:v SET:k13:v SET:k14:v "
                                        "SET:k15:v SET:position:16 EXEC MULTI SET:k20:v ");
    fake_answer(&f, 100);
    settle(&f, &w);
    fake_answer(&f, 100);
    settle(&f, &w);
    assert_string_equal(buf_cstr(&w.events), "stored:16 stored:20 ");
    end(&f, &w);
}

static void a_transaction_of_200000_commands_goes_through(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    begin(&f, &w, defaults);
    f.refuse_exec = "k150000:";
    const uint64_t n = 200000;
    unit(&w, true, 1); // so that the ring's start is not its first slot
    settle(&f, &w);
    fake_answer(&f, 100);
    settle(&f, &w);
    buf_clear(&w.events);
    assert_true(batcher_unit_begin(w.b, true, true));
    for (uint64_t i = 1; i <= n; i++) {
        world_cmd(&w, i, "SET k%U v", i);
        if (i % 1000 == 0) {
            settle(&f, &w);
            fake_answer(&f, 700);
        }
    }
    struct batch_mark mark = at(n);
    batcher_unit_end(w.b, &mark);
    uint64_t deadline = clock_mono_us() + 20 * 1000 * 1000;
    while (!batcher_idle(w.b) && clock_mono_us() < deadline) {
        settle(&f, &w);
        fake_answer(&f, 2000);
    }
    assert_string_equal(buf_cstr(&w.events), "exec-error:150000 stored:200000 ");
    end(&f, &w);
}

static void units_wait_while_too_much_is_unanswered(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    struct batcher_options o = defaults;
    o.max_cmds = 10;
    begin(&f, &w, o);
    uint64_t n = 0;
    while (n < 100000 && try_unit(&w, true, n + 1))
        n++;
    assert_int_equal(n, 20); // one batch's EXEC is out, the next is full
    settle(&f, &w);
    fake_answer(&f, 100);
    settle(&f, &w);
    assert_true(try_unit(&w, true, ++n));
    end(&f, &w);

    o.max_bytes = 1000;
    o.max_cmds = 1000000;
    begin(&f, &w, o);
    for (n = 0; n < 100000 && try_unit(&w, true, n + 1);)
        n++;
    assert_in_range(n, 50, 90);
    end(&f, &w);

    begin(&f, &w, defaults);
    char *big = calloc(1, 1 << 20);
    for (n = 0; n < 100 && batcher_room(w.b); n++) {
        assert_true(batcher_unit_begin(w.b, false, false));
        struct slice value = slice_make(big, 1 << 20);
        world_cmd(&w, n, "SET a %b", &value);
        struct batch_mark mark = at(n + 1);
        batcher_unit_end(w.b, &mark);
    }
    assert_in_range(n, 4, 12);
    free(big);
    end(&f, &w);

    begin(&f, &w, defaults);
    for (n = 0; n < 1000 && batcher_room(w.b); n++) {
        unit(&w, false, n + 1);
        settle(&f, &w);
    }
    assert_in_range(n, 100, 200);
    end(&f, &w);
}

static void with_max_exec_2_two_are_in_flight(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    struct batcher_options o = defaults;
    o.max_exec = 2;
    begin(&f, &w, o);
    for (uint64_t i = 1; i <= 3; i++) {
        unit(&w, true, i);
        settle(&f, &w);
    }
    assert_string_equal(settle(&f, &w), "MULTI SET:k1:v SET:position:1 EXEC MULTI SET:k2:v "
                                        "SET:position:2 EXEC MULTI SET:k3:v ");
    end(&f, &w);
}

static void a_lost_connection_is_told_once(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    begin(&f, &w, defaults);
    unit(&w, true, 1);
    settle(&f, &w);
    close(f.fd);
    f.fd = -1;
    assert_true(batcher_unit_begin(w.b, true, true));
    // The write fails within batcher_cmd; the unit goes on as if nothing had been.
    char *big = calloc(1, 1 << 20);
    for (uint64_t i = 0; i < 20; i++) {
        struct slice value = slice_make(big, 1 << 20);
        world_cmd(&w, i, "SET a %b", &value);
    }
    free(big);
    struct batch_mark mark = at(2);
    batcher_unit_end(w.b, &mark);
    for (int i = 0; i < 5; i++)
        world_turn(&w);
    assert_int_equal(w.fails, 1);
    assert_false(batcher_attached(w.b));
    assert_false(batcher_unit_begin(w.b, true, false));
    mark = at(3);
    batcher_skip_to(w.b, &mark);
    batcher_store_position(w.b);
    world_turn(&w);
    assert_string_equal(buf_cstr(&w.events), "failed:-1 ");
    batcher_detach(w.b);
    batcher_detach(w.b);
    world_turn(&w);
    assert_int_equal(w.fails, 1);
    fake_forget(&f);
    fake_attach(&f, &w);
    unit(&w, true, 1);
    assert_string_equal(settle(&f, &w), "MULTI SET:k1:v SET:position:1 EXEC ");
    end(&f, &w);
}

static void replies_that_fit_nothing_end_the_connection(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "+OK\r\n+OK\r\n",                                           // not queued
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n",                      // too many results
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n+OK\r\n",                     // EXEC is no array
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n+OK\r\n", // one too many
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n",
        ":1\r\n",
        "garbage\r\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fake f;
        struct world w;
        begin(&f, &w, defaults);
        unit(&w, true, 1);
        settle(&f, &w);
        assert_true(send(f.fd, bad[i], strlen(bad[i]), 0) > 0);
        world_until(&w, w.fails > 0);
        assert_int_equal(w.fails, 1);
        assert_int_equal(w.acked.offset, i == 3 ? 1 : 0);
        end(&f, &w);
    }
}

static void a_bare_batch_may_be_answered_before_it_is_closed(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    begin(&f, &w, defaults);
    char *big = calloc(1, 300 << 10);
    assert_true(batcher_unit_begin(w.b, false, false));
    struct slice value = slice_make(big, 300 << 10);
    world_cmd(&w, 1, "SET a %b", &value); // sent at once, being big
    struct batch_mark mark = at(1);
    batcher_unit_end(w.b, &mark);
    free(big);
    uint64_t deadline = clock_mono_us() + 20 * 1000 * 1000;
    while (f.queue.n == 0 && clock_mono_us() < deadline) {
        fake_read(&f);
        uv_run(&w.loop, UV_RUN_NOWAIT); // without a flush
    }
    fake_answer(&f, 1);
    world_until(&w, batcher_idle(w.b));
    assert_string_equal(buf_cstr(&w.events), "acked:1 ");
    end(&f, &w);
}

static void a_bare_unit_without_commands_only_moves_the_mark(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    begin(&f, &w, defaults);
    assert_true(batcher_unit_begin(w.b, false, false));
    struct batch_mark mark = at(7);
    batcher_unit_end(w.b, &mark);
    world_until(&w, batcher_idle(w.b));
    assert_string_equal(buf_cstr(&w.events), "acked:7 ");
    end(&f, &w);
}

static void empty_replies_are_told_with_their_command(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    begin(&f, &w, defaults);
    for (int wrapped = 0; wrapped < 2; wrapped++) {
        assert_true(batcher_unit_begin(w.b, wrapped, false));
        world_cmd(&w, 1, "DEL a");
        world_cmd(&w, 2, "LRANGE a 0 1");
        struct batch_mark mark = at(1 + (uint64_t)wrapped);
        batcher_unit_end(w.b, &mark);
        settle(&f, &w);
        fake_answer(&f, 100);
        settle(&f, &w);
        assert_int_equal(w.empties, wrapped + 1);
    }
    assert_int_equal(w.stored.offset, 2);
    end(&f, &w);
}

// ---- a real server ----

static void attach_to(struct redis_fixture *r, struct world *w)
{
    struct conn *c;
    struct err e;
    assert_int_equal(conn_dial(&c, &r->endpoint, 5000, &e), 0);
    batcher_attach(w->b, c, 0);
}

static int64_t number(struct redis_fixture *r, const char *cmd)
{
    struct redis_reply reply;
    struct err e;
    int64_t v = 0;
    if (redis_call(r->client, &reply, &e, cmd) != 0)
        fail_msg("%s: %s", cmd, e.msg);
    if (reply.root.type == RESP_INTEGER)
        return reply.root.num;
    return reply.root.type == RESP_BULK && slice_i64(reply.root.text, &v) ? v : -1;
}

static void call(struct redis_fixture *r, const char *cmd)
{
    struct redis_reply reply;
    struct err e;
    if (redis_call(r->client, &reply, &e, cmd) != 0)
        fail_msg("%s: %s", cmd, e.msg);
}

// Wrapped INCRs and blind bare writes in two dbs, with the memory limit coming and going and the
// connection dying: what is stored tells exactly what is applied.
static void counts_are_exact_through_refusals_and_cuts(void **state)
{
    (void)state;
    struct redis_fixture r;
    struct world w;
    assert_true(redis_fixture_start(&r, NULL));
    struct batcher_options o = defaults;
    o.position_us = 1000;
    o.max_cmds = 50;
    world_init(&w, o);
    w.quiet = w.stop_on_refusal = true;
    uint64_t next = 0;
    const uint64_t last = 30000;
    uint32_t seed = 3;
    int cuts = 0;
    uint64_t deadline = clock_mono_us() + 60 * 1000 * 1000;
    while (clock_mono_us() < deadline) {
        if (!batcher_attached(w.b)) {
            batcher_detach(w.b);
            call(&r, "CONFIG SET maxmemory 0");
            next = (uint64_t)number(&r, "GET " WORLD_POSITION);
            if (next == UINT64_MAX)
                next = 0;
            assert_int_equal(number(&r, "GET n"), next ? (int64_t)(next / 2) : -1);
            attach_to(&r, &w);
        }
        for (int i = 0; i < 200 && next < last; i++) {
            uint64_t id = next + 1;
            bool counts = id % 2 == 0;
            if (!batcher_unit_begin(w.b, counts, false))
                break;
            batcher_select(w.b, counts ? 0 : 3, id);
            if (counts)
                world_cmd(&w, id, "INCR n");
            else
                world_cmd(&w, id, "SET last %U", id);
            struct batch_mark mark = at(id);
            batcher_unit_end(w.b, &mark);
            next = id;
        }
        world_turn(&w);
        seed = seed * 1664525 + 1013904223;
        if (cuts < 40 && (seed >> 8) % 20 == 0) {
            cuts++;
            call(&r, cuts % 2 ? "CONFIG SET maxmemory 1" : "CLIENT KILL TYPE normal SKIPME yes");
        }
        if (next == last && batcher_attached(w.b) && batcher_idle(w.b) && cuts % 2 == 0)
            break;
    }
    assert_int_equal(number(&r, "GET n"), last / 2);
    call(&r, "SELECT 3");
    assert_int_equal(number(&r, "GET last"), last - 1);
    assert_true(cuts > 10);
    world_free(&w);
    redis_fixture_stop(&r);
}

static struct slice guard_key(void *ctx, char *dst)
{
    (void)ctx, (void)dst;
    return SLICE("rec");
}

static bool guard_holds(void *ctx, struct slice value)
{
    (void)ctx;
    return slice_eq(value, SLICE("mine"));
}

static void begin_guarded(struct fake *f, struct world *w)
{
    static const struct batcher_guard guard = {guard_key, guard_holds, NULL};
    begin(f, w, defaults);
    f->record = "mine";
    batcher_guard(w->b, &guard);
}

static void with_a_guard_an_exec_waits_for_the_record(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    begin_guarded(&f, &w);
    unit(&w, false, 5); // nothing goes bare
    assert_string_equal(settle(&f, &w), "WATCH:rec GET:rec MULTI SET:k5:v ");
    fake_answer(&f, 1);
    assert_string_equal(settle(&f, &w), "WATCH:rec GET:rec MULTI SET:k5:v ");
    fake_answer(&f, 1);
    assert_string_equal(settle(&f, &w), "WATCH:rec GET:rec MULTI SET:k5:v SET:position:5 EXEC ");
    buf_clear(&f.received);
    unit(&w, true, 6);
    assert_string_equal(settle(&f, &w), "WATCH:rec GET:rec MULTI SET:k6:v ");
    fake_answer(&f, 4); // of the first batch
    assert_string_equal(settle(&f, &w), "WATCH:rec GET:rec MULTI SET:k6:v ");
    assert_string_equal(buf_cstr(&w.events), "stored:5 ");
    fake_answer(&f, 2);
    assert_string_equal(settle(&f, &w), "WATCH:rec GET:rec MULTI SET:k6:v SET:position:6 EXEC ");
    fake_answer(&f, 100);
    settle(&f, &w);
    assert_string_equal(buf_cstr(&w.events), "stored:5 stored:6 ");
    assert_true(batcher_idle(w.b));
    end(&f, &w);
}

static void with_a_guard_no_exec_follows_the_record_of_another(void **state)
{
    (void)state;
    static const char *const others[] = {"theirs", "", NULL};
    for (size_t i = 0; i < 3; i++) {
        struct fake f;
        struct world w;
        begin_guarded(&f, &w);
        f.record = others[i];
        unit(&w, true, 5);
        settle(&f, &w);
        fake_answer(&f, 100);
        assert_string_equal(settle(&f, &w), "WATCH:rec GET:rec MULTI SET:k5:v ");
        assert_string_equal(buf_cstr(&w.events), "failed:-1 ");
        assert_false(batcher_attached(w.b));
        end(&f, &w);
    }
}

static void a_record_that_changes_behind_the_look_at_it_ends_the_connection(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    begin_guarded(&f, &w);
    f.changed = true;
    unit(&w, true, 5);
    settle(&f, &w);
    fake_answer(&f, 2);
    settle(&f, &w);
    fake_answer(&f, 100);
    settle(&f, &w);
    assert_string_equal(buf_cstr(&w.events), "failed:-1 ");
    assert_non_null(strstr(w.refusal, "somebody else has written the position"));
    end(&f, &w);
}

static void a_position_is_stored_again_when_that_is_asked_for(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    begin(&f, &w, defaults);
    struct batch_mark mark = at(9);
    batcher_skip_to(w.b, &mark);
    batcher_store_position(w.b);
    settle(&f, &w);
    fake_answer(&f, 1);
    settle(&f, &w);
    sink_store_again(batcher_sink(w.b));
    batcher_flush(w.b);
    assert_string_equal(settle(&f, &w), "SET:position:9 SET:position:9 ");
    fake_answer(&f, 1);
    settle(&f, &w);
    batcher_flush(w.b);
    assert_string_equal(settle(&f, &w), "SET:position:9 SET:position:9 ");
    assert_true(batcher_idle(w.b));
    end(&f, &w);
}

static void with_a_guard_a_position_alone_is_a_transaction(void **state)
{
    (void)state;
    struct fake f;
    struct world w;
    begin_guarded(&f, &w);
    struct batch_mark mark = at(9);
    batcher_skip_to(w.b, &mark);
    batcher_store_position(w.b);
    batcher_flush(w.b);
    settle(&f, &w);
    fake_answer(&f, 2);
    assert_string_equal((batcher_flush(w.b), settle(&f, &w)),
                        "WATCH:rec GET:rec MULTI SET:position:9 EXEC ");
    fake_answer(&f, 100);
    settle(&f, &w);
    assert_string_equal(buf_cstr(&w.events), "acked:9 stored:9 ");
    assert_true(batcher_idle(w.b));
    end(&f, &w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrapped_batch_carries_its_position),
        cmocka_unit_test(an_exec_waits_for_the_one_before),
        cmocka_unit_test(an_exec_waits_for_bare_batches),
        cmocka_unit_test(nothing_goes_bare_behind_an_unanswered_exec),
        cmocka_unit_test(a_full_batch_wrapped_for_the_exec_before_it_is_the_last),
        cmocka_unit_test(a_refused_batch_lets_no_later_one_commit),
        cmocka_unit_test(an_error_within_exec_is_told_and_the_rest_stands),
        cmocka_unit_test(bare_positions_cover_confirmed_commands_only),
        cmocka_unit_test(a_stop_over_a_refused_bare_command_stores_no_position),
        cmocka_unit_test(a_load_writes_its_first_position_and_each_later_one),
        cmocka_unit_test(bug_20_what_is_skipped_moves_the_position),
        cmocka_unit_test(an_idle_connection_is_pinged_and_a_busy_one_is_not),
        cmocka_unit_test(a_source_transaction_is_a_batch_of_its_own),
        cmocka_unit_test(a_transaction_of_200000_commands_goes_through),
        cmocka_unit_test(units_wait_while_too_much_is_unanswered),
        cmocka_unit_test(with_max_exec_2_two_are_in_flight),
        cmocka_unit_test(a_lost_connection_is_told_once),
        cmocka_unit_test(replies_that_fit_nothing_end_the_connection),
        cmocka_unit_test(a_bare_batch_may_be_answered_before_it_is_closed),
        cmocka_unit_test(a_bare_unit_without_commands_only_moves_the_mark),
        cmocka_unit_test(empty_replies_are_told_with_their_command),
        cmocka_unit_test(with_a_guard_an_exec_waits_for_the_record),
        cmocka_unit_test(with_a_guard_no_exec_follows_the_record_of_another),
        cmocka_unit_test(a_record_that_changes_behind_the_look_at_it_ends_the_connection),
        cmocka_unit_test(a_position_is_stored_again_when_that_is_asked_for),
        cmocka_unit_test(with_a_guard_a_position_alone_is_a_transaction),
        cmocka_unit_test(counts_are_exact_through_refusals_and_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

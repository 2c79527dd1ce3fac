// SPDX-License-Identifier: Apache-2.0
#include "target/stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/mem.h"
#include "codec/resp.h"
#include "codec/slot.h"
#include "server.h"
#include "words.h"

#define OFFSET 1000

// ---- two servers: one in cluster mode with all slots, one standalone ----

struct peer {
    struct server server;
    struct redis_client *client;
};
static struct peer cluster, standalone;

static struct redis_reply ask(struct peer *p, const char *line)
{
    struct words w;
    struct buf text = {0};
    struct redis_reply reply = {0};
    struct err e;
    split(&w, line, "''");
    resp_put_argv(&text, w.argc, w.argv);
    if (redis_send(p->client, buf_slice(&text), &e) || redis_receive(p->client, &reply, &e))
        fail_msg("%s: %s", line, e.msg);
    buf_free(&text);
    return reply;
}

static void start_peer(struct peer *p, bool as_cluster)
{
    char bus[8];
    struct err e;
    server_init(&p->server);
    snprintf(bus, sizeof(bus), "%u", (unsigned)p->server.tls_port);
    const char *options[] = {
        "--enable-debug-command", "yes", "--cluster-enabled", "yes", "--cluster-port", bus, NULL};
    if (!as_cluster)
        options[2] = NULL;
    server_start(&p->server, options);
    if (redis_connect(&p->client, &p->server.endpoint, 20000, &e))
        fail_msg("%s", e.msg);
}

static int start(void **state)
{
    (void)state;
    start_peer(&standalone, false);
    start_peer(&cluster, true);
    ask(&cluster, "CLUSTER ADDSLOTSRANGE 0 16383");
    uint64_t deadline = clock_mono_us() + 20 * 1000 * 1000;
    while (ask(&cluster, "DEL a").root.type == RESP_ERROR) {
        must(clock_mono_us() < deadline);
        usleep(20000);
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    struct peer *peers[] = {&cluster, &standalone};
    for (int i = 0; i < 2; i++) {
        redis_close(peers[i]->client);
        server_stop(&peers[i]->server);
    }
    return 0;
}

// ---- what a server holds, as a text ----

#define RECORD_PREFIX "gunyu:record:"

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int sorted_keys(struct peer *p, char **keys, int cap)
{
    struct redis_reply r = ask(p, "KEYS *");
    struct resp_node node;
    int n = 0;
    for (size_t pos = r.first_child; resp_next(r.p, r.n, &pos, &node);) {
        if (slice_has_prefix(node.text, SLICE(RECORD_PREFIX)))
            continue;
        must(n < cap);
        keys[n++] = xstrndup(node.text.p, node.text.n);
    }
    qsort(keys, (size_t)n, sizeof(*keys), by_bytes);
    return n;
}

static void contents(struct peer *p, struct buf *out)
{
    char *keys[32], line[200];
    int n = sorted_keys(p, keys, 32);
    for (int i = 0; i < n; i++) {
        snprintf(line, sizeof(line), "DEBUG DIGEST-VALUE %s", keys[i]);
        struct redis_reply r = ask(p, line);
        struct resp_node node;
        size_t pos = r.first_child;
        must(resp_next(r.p, r.n, &pos, &node));
        buf_printf(out, "%s %.*s ", keys[i], (int)node.text.n, node.text.p);
        snprintf(line, sizeof(line), "PEXPIRETIME %s", keys[i]);
        buf_append_i64(out, ask(p, line).root.num);
        buf_append_char(out, '\n');
        free(keys[i]);
    }
}

// ---- a driver ----

static uint64_t read_mark(void *ctx, int slot)
{
    (void)ctx;
    char line[100];
    snprintf(line, sizeof(line), "GET " RECORD_PREFIX "{%s}", slot_tag(slot));
    struct redis_reply r = ask(&cluster, line);
    uint64_t v;
    return slice_u64(r.root.text, &v) ? v : 0;
}

static int put_step(const struct stage_step *step, struct buf *text)
{
    int replies = step->n;
    if (step->record)
        resp_put_cmd(text, "MULTI");
    for (int i = 0; i < step->n; i++)
        resp_put_argv(text, step->cmds[i].argc, step->cmds[i].argv);
    if (!step->record)
        return replies;
    resp_put_cmd(text, "SET " RECORD_PREFIX "{%s} %d", slot_tag(step->slot), OFFSET);
    resp_put_cmd(text, "EXEC");
    return replies + 3;
}

static void carry_out(const struct stage_step *step, struct buf *replies, struct buf *refused)
{
    struct buf text = {0};
    struct redis_reply r;
    struct err e;
    buf_clear(replies);
    buf_clear(refused);
    int n = put_step(step, &text);
    assert_int_equal(redis_send(cluster.client, buf_slice(&text), &e), 0);
    for (int i = 0; i < n; i++) {
        assert_int_equal(redis_receive(cluster.client, &r, &e), 0);
        if (!step->record)
            buf_append(replies, r.p, r.n);
        else if (i == n - 1 && r.root.type == RESP_ARRAY)
            buf_append(replies, r.p + r.first_child, r.n - r.first_child);
        else if (i == n - 1)
            buf_append_slice(refused, r.root.text);
    }
    buf_free(&text);
}

// A crash: at this step, before it is sent, or after it was carried out.
struct crash {
    int step; // -1: none
    bool after;
};

struct outcome {
    bool crashed, applied;
    enum stage_kind kind;
    int steps;
    char reason[200];
};

static bool has_expiretime = true;

static struct outcome run(const char *line, struct crash crash)
{
    struct words w;
    struct route route = {0};
    struct stage stage = {0};
    struct stage_step step;
    struct buf replies = {0}, refused = {0};
    struct outcome o = {0};
    struct stage_options options = {
        .tag = "lane", .has_expiretime = has_expiretime, .mark = read_mark};
    split(&w, line, "''");
    if (route_command(&route, cmd_lookup(w.argc, w.argv), w.argc, w.argv) != ROUTE_STAGE)
        fail_msg("%s: kind %d", line, route.kind);
    stage_begin(&stage, &options, &route, w.argc, w.argv, OFFSET);
    // The stage has its own copy.
    memset(w.text, 'x', sizeof(w.text));
    route_free(&route);
    stage_next(&stage, NULL, &step);
    for (; step.kind == STAGE_SEND; o.steps++) {
        o.crashed = o.steps == crash.step;
        if (!o.crashed || crash.after)
            carry_out(&step, &replies, &refused);
        if (o.crashed)
            break;
        struct stage_answer answer = {buf_slice(&replies), buf_slice(&refused)};
        stage_next(&stage, &answer, &step);
    }
    o.kind = step.kind;
    o.applied = step.applied;
    if (step.kind == STAGE_FAILED)
        snprintf(o.reason, sizeof(o.reason), "%.*s", (int)step.reason.n, step.reason.p);
    buf_free(&replies);
    buf_free(&refused);
    stage_free(&stage);
    return o;
}

// ---- equality with a standalone server ----

struct example {
    const char *setup[6];
    const char *command;
    const char *error; // the command's own
};

// Keys of one letter lie in slots of their own.
static const struct example examples[] = {
    {{"SADD a 1 2 x", "SADD b 2 3", "SADD d old"}, "SUNIONSTORE d a b", NULL},
    {{"SADD a 1 2 x", "SADD b 2 3"}, "SINTERSTORE d a b a", NULL},
    {{"SADD a 1 2 x", "SADD d 2 3"}, "SDIFFSTORE d d a", NULL},
    {{"SADD d 2 3"}, "SUNIONSTORE d a b", NULL},
    {{"ZADD a 1 m 2 n", "ZADD b 5 n"}, "ZUNIONSTORE d 2 a b WEIGHTS 2 3 AGGREGATE MAX", NULL},
    {{"ZADD a 1 m 2 n", "ZADD b 5 n"}, "ZINTERSTORE d 2 a b", NULL},
    {{"ZADD a 1 m 2 n", "ZADD b 5 n"}, "ZDIFFSTORE d 2 a b", NULL},
    {{"ZADD a 1 m 2 n 3 o", "PEXPIREAT a 4102444800123"}, "ZRANGESTORE d a 0 1", NULL},
    {{"GEOADD a 13 38 x 15 37 y"}, "GEOSEARCHSTORE d a FROMLONLAT 15 37 BYRADIUS 99 km", NULL},
    {{"GEOADD a 13 38 x 15 37 y"}, "GEORADIUS a 15 37 300 km STORE d", NULL},
    {{"GEOADD a 13 38 x 15 37 y"}, "GEORADIUSBYMEMBER a y 300 km STOREDIST d", NULL},
    {{"PFADD a 1 2", "PFADD b 2 3", "PFADD d 9"}, "PFMERGE d a b", NULL},
    {{"SET a abc", "SET b xyz"}, "BITOP XOR d a b", NULL},
    {{"SET a v", "PEXPIREAT a 4102444800123", "SET d w"}, "COPY a d REPLACE", NULL},
    {{"SET a v", "SET d w"}, "COPY a d", NULL},
    {{"RPUSH a 3 1 2"}, "SORT a LIMIT 0 2 DESC STORE d", NULL},
    {{"HSET a f v", "PEXPIREAT a 4102444800123", "SET d w"}, "RENAME a d", NULL},
    {{"SET a v"}, "RENAMENX a d", NULL},
    {{"SET a v", "SET d w", "PEXPIREAT a 4102444800123"}, "RENAMENX a d", NULL},
    {{"SADD a 1 2", "SADD d 3", "PEXPIREAT a 4102444800123"}, "SMOVE a d 1", NULL},
    {{"SADD a 1", "PEXPIREAT a 4102444800123"}, "SMOVE a d 1", NULL},
    {{"RPUSH a 1 2 3", "RPUSH d 9", "PEXPIREAT a 4102444800123"}, "LMOVE a d LEFT RIGHT", NULL},
    {{"RPUSH a 1 2 3"}, "RPOPLPUSH a d", NULL},
    {{"RPUSH a 1"}, "RPOPLPUSH a d", NULL},
    {{"RPUSH a 1 2"}, "BLMOVE a d RIGHT LEFT 0", NULL},
    {{"SADD {d}a 1", "SADD b 2", "SADD {b}c 3", "SADD e 4"}, "SUNIONSTORE d {d}a b {b}c e", NULL},
    {{"SET a v", "SADD b 1", "SADD d 2"}, "SUNIONSTORE d a b", "WRONGTYPE"},
    {{"SET d w"}, "RENAME a d", "no such key"},
    {{"SADD a 1 2", "SET d w", "PEXPIREAT a 4102444800123"}, "SMOVE a d 1", "WRONGTYPE"},
    {{"RPUSH a 1 2", "SET d w"}, "LMOVE a d LEFT LEFT", "WRONGTYPE"},
};
enum { EXAMPLES = sizeof(examples) / sizeof(examples[0]) };

static void set_up(struct peer *p, const struct example *x)
{
    ask(p, "FLUSHALL");
    for (int i = 0; i < 6 && x->setup[i]; i++)
        if (ask(p, x->setup[i]).root.type == RESP_ERROR)
            fail_msg("%s", x->setup[i]);
}

static void want_outcome(const struct example *x, const struct outcome *o)
{
    if (!x->error && o->kind != STAGE_DONE)
        fail_msg("%s: %s", x->command, o->reason);
    if (x->error && (o->kind != STAGE_FAILED || !o->applied || !strstr(o->reason, x->error)))
        fail_msg("%s: kind %d, %s", x->command, o->kind, o->reason);
}

static void want_contents(const char *command, const struct buf *want)
{
    struct buf got = {0};
    contents(&cluster, &got);
    if (!slice_eq(buf_slice(&got), buf_slice(want)))
        fail_msg("%s: want\n%.*s, got\n%.*s", command, (int)want->n, want->p, (int)got.n, got.p);
    buf_free(&got);
}

static void ask_standalone(const struct example *x, struct buf *want)
{
    set_up(&standalone, x);
    struct redis_reply r = ask(&standalone, x->command);
    assert_int_equal(r.root.type == RESP_ERROR, x->error != NULL);
    contents(&standalone, want);
}

static void staged_commands_leave_what_a_standalone_server_holds(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * EXAMPLES; i++) {
        const struct example *x = &examples[i / 2];
        struct buf want = {0};
        has_expiretime = i % 2;
        ask_standalone(x, &want);
        set_up(&cluster, x);
        struct outcome o = run(x->command, (struct crash){-1, false});
        want_outcome(x, &o);
        want_contents(x->command, &want);
        buf_free(&want);
    }
    has_expiretime = true;
}

// Crashes at both places, each before or after the step took effect, then to the end, and once more
// as if the position had been lost.
static void crash_twice(const struct example *x, struct crash first, struct crash second,
                        const struct buf *want)
{
    set_up(&cluster, x);
    assert_true(run(x->command, first).crashed);
    struct outcome o = run(x->command, second);
    if (o.crashed)
        o = run(x->command, (struct crash){-1, false});
    want_contents(x->command, want);
    // Once recorded, the command's own error is not told again.
    if (!x->error)
        want_outcome(x, &o);
    o = run(x->command, (struct crash){-1, false});
    assert_int_equal(o.kind, STAGE_DONE);
    want_contents(x->command, want);
}

static void every_crash_is_followed_by_the_same_end(void **state)
{
    (void)state;
    for (int i = 0; i < EXAMPLES; i++) {
        const struct example *x = &examples[i];
        struct buf want = {0};
        ask_standalone(x, &want);
        set_up(&cluster, x);
        int steps = run(x->command, (struct crash){-1, false}).steps;
        for (int a = 0; a < 2 * steps; a++)
            for (int b = 0; b < 2 * steps; b++)
                crash_twice(x, (struct crash){a / 2, a % 2}, (struct crash){b / 2, b % 2}, &want);
        buf_free(&want);
    }
}

// ---- by itself, with replies made up ----

static uint64_t marks[SLOT_COUNT];

static uint64_t fake_mark(void *ctx, int slot)
{
    (void)ctx;
    return marks[slot];
}

static int slot(const char *key)
{
    return slot_of(slice_cstr(key));
}

static void begin(struct stage *s, const char *line, const struct stage_options *o,
                  struct stage_step *step)
{
    struct words w;
    struct route route = {0};
    struct stage_options options = o ? *o : (struct stage_options){.has_expiretime = true};
    options.tag = "lane";
    options.mark = fake_mark;
    split(&w, line, "''");
    assert_int_equal(route_command(&route, cmd_lookup(w.argc, w.argv), w.argc, w.argv),
                     ROUTE_STAGE);
    stage_begin(s, &options, &route, w.argc, w.argv, OFFSET);
    stage_next(s, NULL, step);
    route_free(&route);
}

static void answer(struct stage *s, const char *replies, struct stage_step *step)
{
    struct stage_answer a = {.replies = slice_cstr(replies)};
    assert_int_equal(step->kind, STAGE_SEND);
    stage_next(s, &a, step);
}

static void refuse(struct stage *s, const char *why, struct stage_step *step)
{
    struct stage_answer a = {.refused = slice_cstr(why)};
    assert_true(step->record);
    stage_next(s, &a, step);
}

static void sends(const struct stage_step *step, const char *key, const char *want)
{
    struct buf got = {0};
    assert_int_equal(step->kind, STAGE_SEND);
    assert_int_equal(step->slot, slot(key));
    for (int i = 0; i < step->n; i++) {
        buf_append_cstr(&got, i ? "; " : "");
        for (int k = 0; k < step->cmds[i].argc; k++) {
            buf_append_cstr(&got, k ? " " : "");
            buf_append_slice(&got, step->cmds[i].argv[k]);
        }
    }
    assert_string_equal(buf_cstr(&got), want);
    buf_free(&got);
}

static void fails(const struct stage_step *step, bool applied, const char *why)
{
    char reason[300];
    assert_int_equal(step->kind, STAGE_FAILED);
    snprintf(reason, sizeof(reason), "%.*s", (int)step->reason.n, step->reason.p);
    if (!strstr(reason, why))
        fail_msg("%s", reason);
    assert_int_equal(step->applied, applied);
}

static int no_marks(void **state)
{
    (void)state;
    memset(marks, 0, sizeof(marks));
    return 0;
}

static const char dump_v[] = "$1\r\nv\r\n:4102444800123\r\n";

static void steps_are_sent_to_the_slots_of_their_keys(void **state)
{
    (void)state;
    struct stage s = {0};
    struct stage_step step;
    char temp[64], want[200];
    snprintf(temp, sizeof(temp), "gunyu:stage:{%s}:lane:0", slot_tag(slot("d")));
    begin(&s, "RENAME a d", NULL, &step);
    sends(&step, "a", "DUMP a; PEXPIRETIME a");
    assert_false(step.record);
    answer(&s, dump_v, &step);
    snprintf(want, sizeof(want), "RESTORE %s 0 v REPLACE; PEXPIREAT %s 4102444800123", temp, temp);
    sends(&step, "d", want);
    answer(&s, "+OK\r\n:1\r\n", &step);
    snprintf(want, sizeof(want), "RENAME %s d", temp);
    sends(&step, "d", want);
    assert_true(step.record && step.is_command);
    answer(&s, "+OK\r\n", &step);
    snprintf(want, sizeof(want), "DUMP %s; PEXPIRETIME %s", temp, temp);
    sends(&step, "d", want);
    answer(&s, "$-1\r\n:-2\r\n", &step);
    sends(&step, "a", "DEL a");
    assert_true(step.record && !step.is_command);
    answer(&s, ":1\r\n", &step);
    snprintf(want, sizeof(want), "DEL %s", temp);
    sends(&step, "d", want);
    answer(&s, ":0\r\n", &step);
    assert_int_equal(step.kind, STAGE_DONE);
    stage_free(&s);
}

static void without_pexpiretime_the_clock_is_asked_until_it_stands_still(void **state)
{
    (void)state;
    struct stage s = {0};
    struct stage_step step;
    struct stage_options old = {0};
    begin(&s, "COPY a d", &old, &step);
    sends(&step, "a", "DUMP a; TIME; PTTL a; TIME");
    answer(&s,
           "$1\r\nv\r\n*2\r\n$10\r\n1700000000\r\n$3\r\n999\r\n:5\r\n"
           "*2\r\n$10\r\n1700000000\r\n$4\r\n1000\r\n",
           &step);
    sends(&step, "a", "DUMP a; TIME; PTTL a; TIME");
    answer(&s,
           "$1\r\nv\r\n*2\r\n$10\r\n1700000000\r\n$4\r\n2000\r\n:5\r\n"
           "*2\r\n$10\r\n1700000000\r\n$4\r\n2999\r\n",
           &step);
    assert_int_equal(step.n, 2);
    assert_true(slice_eq(step.cmds[1].argv[2], SLICE("1700000000007")));
    stage_free(&s);
}

static void a_key_that_expires_between_the_questions_is_gone(void **state)
{
    (void)state;
    struct stage s = {0};
    struct stage_step step;
    begin(&s, "COPY a d", NULL, &step);
    answer(&s, "$1\r\nv\r\n:-2\r\n", &step);
    assert_true(slice_eq(step.cmds[0].argv[0], SLICE("DEL")));
    begin(&s, "COPY a d", NULL, &step);
    answer(&s, "$1\r\nv\r\n:-1\r\n", &step);
    assert_int_equal(step.n, 1);
    assert_true(slice_eq(step.cmds[0].argv[0], SLICE("RESTORE")));
    stage_free(&s);
}

static void marks_tell_where_to_go_on(void **state)
{
    (void)state;
    struct stage s = {0};
    struct stage_step step;
    marks[slot("d")] = OFFSET - 1;
    begin(&s, "RENAME a d", NULL, &step);
    sends(&step, "a", "DUMP a; PEXPIRETIME a");
    marks[slot("d")] = OFFSET;
    begin(&s, "RENAME a d", NULL, &step);
    assert_int_equal(step.slot, slot("d"));
    assert_true(slice_eq(step.cmds[0].argv[0], SLICE("DUMP")));
    begin(&s, "COPY a d", NULL, &step);
    assert_true(slice_eq(step.cmds[0].argv[0], SLICE("DEL")));
    marks[slot("a")] = OFFSET;
    begin(&s, "RENAME a d", NULL, &step);
    assert_true(slice_eq(step.cmds[0].argv[0], SLICE("DEL")));
    stage_free(&s);
}

static void what_a_failover_lost_is_not_computed_from_later_keys(void **state)
{
    (void)state;
    struct stage s = {0};
    struct stage_step step;
    marks[slot("a")] = OFFSET;
    begin(&s, "RENAME a d", NULL, &step);
    answer(&s, ":0\r\n", &step);
    fails(&step, false, "failover");
    begin(&s, "COPY a d", NULL, &step);
    sends(&step, "a", "DUMP a; PEXPIRETIME a");
    marks[slot("a")] = OFFSET + 1;
    begin(&s, "COPY a d", NULL, &step);
    answer(&s, ":0\r\n", &step);
    fails(&step, false, "failover");
    stage_free(&s);
}

static void too_big_a_value_is_refused_and_leaves_nothing_behind(void **state)
{
    (void)state;
    struct stage s = {0};
    struct stage_step step;
    struct stage_options o = {.has_expiretime = true, .max_payload = 3};
    begin(&s, "SUNIONSTORE d a", &o, &step);
    answer(&s, "$4\r\nvvvv\r\n:-1\r\n", &step);
    assert_true(slice_eq(step.cmds[0].argv[0], SLICE("DEL")));
    answer(&s, ":0\r\n", &step);
    fails(&step, false, "too big");
    stage_free(&s);
}

static void a_refused_transaction_changes_nothing_but_temporary_keys(void **state)
{
    (void)state;
    struct stage s = {0};
    struct stage_step step;
    begin(&s, "RENAME a d", NULL, &step);
    answer(&s, dump_v, &step);
    answer(&s, "+OK\r\n:1\r\n", &step);
    refuse(&s, "NOPERM no", &step);
    assert_true(slice_eq(step.cmds[0].argv[0], SLICE("DEL")));
    assert_int_equal(step.slot, slot("d"));
    answer(&s, ":1\r\n", &step);
    fails(&step, false, "NOPERM no");
    stage_free(&s);
}

// The command has run on a copy of a, whose rest is asked for next, to go back.
static void begin_copying_back(struct stage *s, struct stage_step *step)
{
    begin(s, "LMOVE a d LEFT LEFT", NULL, step);
    answer(s, dump_v, step);
    answer(s, "+OK\r\n:1\r\n", step);
    answer(s, "$1\r\nx\r\n", step);
}

static void what_copying_back_needs_stays_when_it_fails(void **state)
{
    (void)state;
    struct stage s = {0};
    struct stage_step step;
    for (int i = 0; i < 2; i++) {
        begin_copying_back(&s, &step);
        answer(&s, i == 0 ? dump_v : "+OK\r\n", &step);
        if (i == 0)
            refuse(&s, "ERR Bad data format", &step);
        fails(&step, false, i == 0 ? "Bad data format" : "something else");
        stage_free(&s);
    }
}

// Its record was written all the same, so nobody would ever begin it again.
static void an_error_of_copying_back_that_was_recorded_is_the_commands(void **state)
{
    (void)state;
    struct stage s = {0};
    struct stage_step step;
    begin_copying_back(&s, &step);
    answer(&s, dump_v, &step);
    answer(&s, "-ERR Bad data format\r\n:0\r\n+OK\r\n", &step);
    assert_true(slice_eq(step.cmds[0].argv[0], SLICE("DEL")));
    answer(&s, ":1\r\n", &step);
    fails(&step, true, "Bad data format");
    stage_free(&s);
}

static void replies_that_were_not_asked_for_fail(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "$1\r\nv\r\n",
        "+OK\r\n:1\r\n",
        "$1\r\nv\r\n$1\r\n1\r\n",
        "*1\r\n$1\r\nv\r\n:1\r\n",
        "-ERR unknown command 'DUMP'\r\n-ERR unknown\r\n",
    };
    struct stage s = {0};
    struct stage_step step;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        begin(&s, "COPY a d", NULL, &step);
        answer(&s, bad[i], &step);
        assert_true(slice_eq(step.cmds[0].argv[0], SLICE("DEL")));
        answer(&s, ":0\r\n", &step);
        fails(&step, false, i == 5 ? "unknown command" : "something else");
    }
    stage_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(staged_commands_leave_what_a_standalone_server_holds),
        cmocka_unit_test(every_crash_is_followed_by_the_same_end),
        cmocka_unit_test_setup(steps_are_sent_to_the_slots_of_their_keys, no_marks),
        cmocka_unit_test_setup(without_pexpiretime_the_clock_is_asked_until_it_stands_still,
                               no_marks),
        cmocka_unit_test_setup(a_key_that_expires_between_the_questions_is_gone, no_marks),
        cmocka_unit_test_setup(marks_tell_where_to_go_on, no_marks),
        cmocka_unit_test_setup(what_a_failover_lost_is_not_computed_from_later_keys, no_marks),
        cmocka_unit_test_setup(too_big_a_value_is_refused_and_leaves_nothing_behind, no_marks),
        cmocka_unit_test_setup(a_refused_transaction_changes_nothing_but_temporary_keys, no_marks),
        cmocka_unit_test_setup(what_copying_back_needs_stays_when_it_fails, no_marks),
        cmocka_unit_test_setup(an_error_of_copying_back_that_was_recorded_is_the_commands,
                               no_marks),
        cmocka_unit_test_setup(replies_that_were_not_asked_for_fail, no_marks),
    };
    return cmocka_run_group_tests(tests, start, stop);
}

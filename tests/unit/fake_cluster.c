// SPDX-License-Identifier: Apache-2.0
#include "fake_cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "codec/resp.h"
#include "target/position.h"

struct conn {
    struct fake_cluster *cluster;
    int node;
    struct conn *next;
    struct buf in, out;
    size_t in_at, out_at;
    size_t arrives, writable;
    bool hung_up, closed;
    conn_ready_fn on_ready;
    void *ctx;
    int want;
    // the session
    bool asking, multi, dirty;
    struct buf queue;
};

// ---- time ----

uint64_t fake_now_us = 1000 * 1000;

// For base/clock.h and for libuv's timers.
int clock_gettime(clockid_t __clock_id, struct timespec *__tp)
{
    (void)__clock_id;
    __tp->tv_sec = (time_t)(fake_now_us / 1000000);
    __tp->tv_nsec = (long)(fake_now_us % 1000000) * 1000;
    return 0;
}

// ---- names ----

static char key_names[FAKE_SLOTS][FAKE_SLOT_KEYS][80];
static int slot_numbers[FAKE_SLOTS];

static void name_keys(void)
{
    char text[64];
    struct slice position = position_key(FAKE_REPLID, text);
    for (int i = 0; i < FAKE_SLOTS; i++) {
        int slot = (slot_of(position) + i * 3000) % SLOT_COUNT;
        char mark[64];
        struct slice key = router_mark_key(FAKE_MARKS_ID, slot, mark);
        slot_numbers[i] = slot;
        for (int k = 0; k < FAKE_KEYS; k++)
            snprintf(key_names[i][k], sizeof(key_names[i][k]), "k%d:{%s}", k, slot_tag(slot));
        snprintf(key_names[i][FAKE_MARK], sizeof(key_names[i][0]), "%.*s", (int)key.n, key.p);
    }
    snprintf(key_names[0][FAKE_POSITION], sizeof(key_names[0][0]), "%.*s", (int)position.n,
             position.p);
}

int fake_slot(int i)
{
    return slot_numbers[i];
}

const char *fake_key(int i, int k)
{
    return key_names[i][k];
}

struct place {
    int slot, key;
};

static struct place place_of(struct slice name)
{
    for (int i = 0; i < FAKE_SLOTS; i++)
        for (int k = 0; k < FAKE_SLOT_KEYS; k++)
            if (slice_eq(name, slice_cstr(key_names[i][k])))
                return (struct place){i, k};
    must(false);
    return (struct place){0, 0};
}

const char *fake_get(const struct fake_node *n, int slot, int key)
{
    static char text[FAKE_VALUE + 1];
    const struct fake_value *v = &n->values[slot][key];
    snprintf(text, sizeof(text), "%.*s", (int)v->n, v->text);
    return v->type ? text : NULL;
}

// ---- commands ----

static struct fake_value *value_of(struct fake_node *n, struct slice key)
{
    struct place at = place_of(key);
    return &n->values[at.slot][at.key];
}

static void value_append(struct fake_value *v, struct slice text)
{
    size_t room = sizeof(v->text) - v->n, add = text.n < room ? text.n : room;
    memcpy(v->text + v->n, text.p, add);
    v->n = (uint8_t)(v->n + add);
}

// NULL: it is of another type.
static struct fake_value *value_as(struct fake_node *n, struct slice key, char type)
{
    struct fake_value *v = value_of(n, key);
    return v->type && v->type != type ? NULL : v;
}

static void value_set(struct fake_value *v, struct slice text)
{
    *v = (struct fake_value){.type = 's'};
    value_append(v, text);
}

#define WRONGTYPE "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"

static const char *run_get(struct fake_node *n, int argc, const struct slice *argv, struct buf *out)
{
    (void)argc;
    const struct fake_value *v = value_of(n, argv[1]);
    if (v->type == 's')
        resp_put_bulk(out, slice_make(v->text, v->n));
    return !v->type ? "$-1\r\n" : v->type == 's' ? "" : WRONGTYPE;
}

static const char *run_set(struct fake_node *n, int argc, const struct slice *argv, struct buf *out)
{
    (void)argc, (void)out;
    value_set(value_of(n, argv[1]), argv[2]);
    return "+OK\r\n";
}

static const char *run_mset(struct fake_node *n, int argc, const struct slice *argv,
                            struct buf *out)
{
    (void)out;
    for (int i = 1; i + 1 < argc; i += 2)
        value_set(value_of(n, argv[i]), argv[i + 1]);
    return "+OK\r\n";
}

static const char *run_del(struct fake_node *n, int argc, const struct slice *argv, struct buf *out)
{
    (void)out;
    bool any = false;
    for (int i = 1; i < argc; i++) {
        struct fake_value *v = value_of(n, argv[i]);
        any = any || v->type;
        *v = (struct fake_value){0};
    }
    return any ? ":1\r\n" : ":0\r\n";
}

static const char *run_incr(struct fake_node *n, int argc, const struct slice *argv,
                            struct buf *out)
{
    (void)argc, (void)out;
    struct fake_value *v = value_as(n, argv[1], 's');
    int64_t number = 0;
    if (!v)
        return WRONGTYPE;
    if (v->type && (!slice_i64(slice_make(v->text, v->n), &number) || number > INT32_MAX))
        return "-ERR value is not an integer or out of range\r\n";
    char text[24];
    snprintf(text, sizeof(text), "%lld", (long long)number + 1);
    value_set(v, slice_cstr(text));
    return ":1\r\n";
}

static const char *run_append(struct fake_node *n, int argc, const struct slice *argv,
                              struct buf *out)
{
    (void)argc, (void)out;
    struct fake_value *v = value_as(n, argv[1], 's');
    if (!v)
        return WRONGTYPE;
    v->type = 's';
    value_append(v, argv[2]);
    return ":1\r\n";
}

static const char *run_rpush(struct fake_node *n, int argc, const struct slice *argv,
                             struct buf *out)
{
    (void)argc, (void)out;
    struct fake_value *v = value_as(n, argv[1], 'l');
    if (!v)
        return WRONGTYPE;
    v->type = 'l';
    value_append(v, SLICE(","));
    value_append(v, argv[2]);
    return ":1\r\n";
}

// Fields have one letter, a to h, and values eight bytes.
static const char *run_hset(struct fake_node *n, int argc, const struct slice *argv,
                            struct buf *out)
{
    (void)argc, (void)out;
    struct fake_value *v = value_as(n, argv[1], 'h');
    if (!v)
        return WRONGTYPE;
    v->type = 'h';
    v->n = 64;
    must(argv[2].n == 1 && argv[2].p[0] >= 'a' && argv[2].p[0] <= 'h' && argv[3].n <= 8);
    char *at = v->text + 8 * (argv[2].p[0] - 'a');
    memset(at, 0, 8);
    memcpy(at, argv[3].p, argv[3].n);
    return ":1\r\n";
}

static const char *run_ping(struct fake_node *n, int argc, const struct slice *argv,
                            struct buf *out)
{
    (void)n, (void)argc, (void)argv, (void)out;
    return "+PONG\r\n";
}

static const char *run_select(struct fake_node *n, int argc, const struct slice *argv,
                              struct buf *out)
{
    (void)n, (void)argc, (void)argv, (void)out;
    return "+OK\r\n";
}

struct command {
    const char *name;
    int min, last, step; // keys: argv[1], and up to `last` (-1: the end) in steps; step 0: none
    const char *(*run)(struct fake_node *n, int argc, const struct slice *argv, struct buf *out);
};

static const struct command commands[] = {
    {"get", 2, 1, 1, run_get},       {"set", 3, 1, 1, run_set},   {"mset", 3, -1, 2, run_mset},
    {"del", 2, -1, 1, run_del},      {"incr", 2, 1, 1, run_incr}, {"append", 3, 1, 1, run_append},
    {"rpush", 3, 1, 1, run_rpush},   {"hset", 4, 1, 1, run_hset}, {"ping", 1, 0, 0, run_ping},
    {"select", 2, 0, 0, run_select},
};

static const struct command *command_named(int argc, const struct slice *argv)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
        if (slice_ieq(argv[0], slice_cstr(commands[i].name)) && argc >= commands[i].min)
            return &commands[i];
    return NULL;
}

bool fake_run(struct fake_node *n, int argc, const struct slice *argv, struct buf *out)
{
    const struct command *c = command_named(argc, argv);
    must(c);
    const char *answer = c->run(n, argc, argv, out);
    buf_append_cstr(out, answer);
    return answer[0] != '-';
}

// ---- who serves a slot ----

struct keys {
    int slot; // -1: none yet
    struct place first;
    int missing, existing;
    bool several, crossed;
};

static void look_at_keys(const struct fake_node *n, int argc, const struct slice *argv,
                         struct keys *keys)
{
    const struct command *c = command_named(argc, argv);
    if (!c || !c->step)
        return;
    for (int i = 1; i < argc && (c->last < 0 || i <= c->last); i += c->step) {
        struct place at = place_of(argv[i]);
        if (keys->slot < 0) {
            keys->slot = at.slot;
            keys->first = at;
        }
        keys->crossed = keys->crossed || at.slot != keys->slot;
        keys->several = keys->several || at.key != keys->first.key;
        if (n->values[at.slot][at.key].type)
            keys->existing++;
        else
            keys->missing++;
    }
}

static void put_redirect(struct conn *c, const char *word, int slot, int node)
{
    char text[128];
    const struct fake_node *n = &c->cluster->nodes[node];
    snprintf(text, sizeof(text), "-%s %d %s:%u\r\n", word, fake_slot(slot), n->host, n->port);
    buf_append_cstr(&c->out, text);
}

// As getNodeByQuery() of Redis. False: the answer is written.
static bool served_here(struct conn *c, const struct keys *keys)
{
    const struct fake_node *n = &c->cluster->nodes[c->node];
    if (keys->slot < 0)
        return true;
    if (keys->crossed) {
        buf_append_cstr(&c->out, "-CROSSSLOT Keys in request don't hash to the same slot\r\n");
        return false;
    }
    const struct fake_view *v = &n->view[keys->slot];
    if (v->owner < 0) {
        buf_append_cstr(&c->out, "-CLUSTERDOWN Hash slot not served\r\n");
        return false;
    }
    bool migrating = v->owner == c->node && v->migrating_to >= 0;
    if (migrating && keys->missing && keys->existing && c->cluster->version >= 7) {
        buf_append_cstr(&c->out, "-TRYAGAIN Multiple keys request during rehashing of slot\r\n");
        return false;
    }
    if (migrating && keys->missing) {
        put_redirect(c, "ASK", keys->slot, v->migrating_to);
        return false;
    }
    if (v->owner != c->node && v->importing && c->asking) {
        if (!keys->several || !keys->missing)
            return true;
        buf_append_cstr(&c->out, "-TRYAGAIN Multiple keys request during rehashing of slot\r\n");
        return false;
    }
    if (v->owner != c->node)
        put_redirect(c, "MOVED", keys->slot, v->owner);
    return v->owner == c->node;
}

// ---- sessions ----

static void end_multi(struct conn *c)
{
    c->multi = c->dirty = false;
    buf_clear(&c->queue);
}

// The queued commands, one after another.
static bool next_queued(const struct conn *c, size_t *at, struct resp_cmd *cmd)
{
    if (*at == c->queue.n)
        return false;
    must(resp_cmd_parse(cmd, c->queue.p + *at, c->queue.n - *at) == 1);
    *at += cmd->len;
    return true;
}

static void run_exec(struct conn *c)
{
    struct fake_node *n = &c->cluster->nodes[c->node];
    struct keys keys = {.slot = -1};
    struct resp_cmd cmd = {0};
    char text[24];
    int count = 0;
    for (size_t at = 0; next_queued(c, &at, &cmd); count++)
        look_at_keys(n, cmd.argc, cmd.argv, &keys);
    if (served_here(c, &keys)) {
        if (c->dirty) {
            buf_append_cstr(&c->out,
                            "-EXECABORT Transaction discarded because of previous errors.\r\n");
        } else {
            snprintf(text, sizeof(text), "*%d\r\n", count);
            buf_append_cstr(&c->out, text);
            for (size_t at = 0; next_queued(c, &at, &cmd);)
                (void)fake_run(n, cmd.argc, cmd.argv, &c->out);
        }
    }
    end_multi(c);
    resp_cmd_free(&cmd);
}

static void run_keyed(struct conn *c, const struct resp_cmd *cmd)
{
    struct fake_node *n = &c->cluster->nodes[c->node];
    struct keys keys = {.slot = -1};
    const struct command *known = command_named(cmd->argc, cmd->argv);
    look_at_keys(n, cmd->argc, cmd->argv, &keys);
    const char *refuse = !known ? "-ERR unknown command\r\n" : known->step ? n->refuse : NULL;
    if (refuse)
        buf_append_cstr(&c->out, refuse);
    if (refuse && known)
        n->refuse = NULL;
    if (refuse || !served_here(c, &keys)) {
        c->dirty = c->multi;
    } else if (c->multi) {
        buf_append(&c->queue, c->in.p + c->in_at, cmd->len);
        buf_append_cstr(&c->out, "+QUEUED\r\n");
    } else {
        (void)fake_run(n, cmd->argc, cmd->argv, &c->out);
    }
}

// Keys as "<slot>.<key>", the mark's as "<slot>.m", the position's as "position".
static void log_word(struct fake_node *n, struct slice word)
{
    char text[90];
    snprintf(text, sizeof(text), "%.*s", (int)(word.n < 80 ? word.n : 80), word.p);
    for (int i = 0; i < FAKE_SLOTS; i++)
        for (int k = 0; k < FAKE_SLOT_KEYS; k++)
            if (slice_eq(word, slice_cstr(key_names[i][k])))
                snprintf(text, sizeof(text), k == FAKE_MARK ? "%d.m" : "%d.%d", i, k);
    buf_append_cstr(&n->log,
                    slice_eq(word, slice_cstr(key_names[0][FAKE_POSITION])) ? "position" : text);
}

static void log_command(struct fake_node *n, const struct resp_cmd *cmd)
{
    for (int i = 0; i < cmd->argc; i++) {
        log_word(n, cmd->argv[i]);
        buf_append_cstr(&n->log, i + 1 < cmd->argc ? " " : ";");
    }
}

static void serve_one(struct conn *c, const struct resp_cmd *cmd)
{
    if (c->cluster->logged)
        log_command(&c->cluster->nodes[c->node], cmd);
    bool was_asking = slice_ieq(cmd->argv[0], SLICE("asking"));
    if (was_asking) {
        c->asking = true;
        buf_append_cstr(&c->out, "+OK\r\n");
    } else if (slice_ieq(cmd->argv[0], SLICE("multi"))) {
        must(!c->multi);
        c->multi = true;
        buf_append_cstr(&c->out, "+OK\r\n");
    } else if (slice_ieq(cmd->argv[0], SLICE("exec"))) {
        must(c->multi);
        run_exec(c);
    } else {
        run_keyed(c, cmd);
    }
    if (!c->multi && !was_asking)
        c->asking = false;
}

int fake_serve(struct conn *c, int n)
{
    struct resp_cmd cmd = {0};
    int done = 0;
    for (; done < n && !c->hung_up && c->in_at < c->in.n; done++) {
        int rc = resp_cmd_parse(&cmd, c->in.p + c->in_at, c->in.n - c->in_at);
        must(rc >= 0);
        if (rc == 0)
            break;
        serve_one(c, &cmd);
        c->in_at += cmd.len;
    }
    if (c->in_at == c->in.n) {
        buf_clear(&c->in);
        c->in_at = 0;
    }
    resp_cmd_free(&cmd);
    return done;
}

// ---- connections ----

struct conn *fake_conn(struct fake_cluster *c, int node)
{
    for (struct conn *k = c->conns; k; k = k->next)
        if (k->node == node && !k->closed)
            return k;
    return NULL;
}

struct conn *fake_connect(struct fake_cluster *c, int node)
{
    struct conn *k = xcalloc(1, sizeof(*k));
    k->cluster = c;
    k->node = node;
    k->writable = SIZE_MAX;
    k->next = c->conns;
    c->conns = k;
    return k;
}

void fake_say(struct conn *c, const char *bytes)
{
    buf_append_cstr(&c->out, bytes);
}

size_t fake_waiting(const struct conn *c)
{
    return c->out.n - c->out_at;
}

void fake_deliver(struct conn *c, size_t n)
{
    c->arrives = n;
    // Who does not want it now finds it later.
    if (c->closed || !(c->want & CONN_READ))
        return;
    if (fake_waiting(c) || c->hung_up)
        c->on_ready(c->ctx, CONN_READ);
    c->arrives = 0;
}

void fake_writable(struct conn *c, size_t n)
{
    c->writable = n;
    if (!c->closed && n && (c->want & CONN_WRITE))
        c->on_ready(c->ctx, CONN_WRITE);
}

void fake_hang_up(struct conn *c)
{
    c->hung_up = true;
}

bool fake_hung_up(const struct conn *c)
{
    return c->hung_up;
}

void fake_reap(struct fake_cluster *c)
{
    for (struct conn **at = &c->conns; *at;) {
        struct conn *k = *at;
        if (!k->closed) {
            at = &k->next;
            continue;
        }
        *at = k->next;
        buf_free(&k->in);
        buf_free(&k->out);
        buf_free(&k->queue);
        free(k);
    }
}

void fake_settle(struct fake_cluster *c)
{
    for (bool any = true; any;) {
        any = false;
        for (struct conn *k = c->conns; k; k = k->next) {
            any = fake_serve(k, INT32_MAX) > 0 || any;
            size_t before = fake_waiting(k);
            fake_deliver(k, SIZE_MAX);
            any = any || fake_waiting(k) != before;
        }
    }
}

ssize_t conn_recv(struct conn *c, void *p, size_t n)
{
    size_t have = fake_waiting(c);
    if (have > c->arrives)
        have = c->arrives;
    if (have > n)
        have = n;
    if (have == 0)
        return c->hung_up && fake_waiting(c) == 0 ? ERR_CLOSED : -EAGAIN;
    memcpy(p, c->out.p + c->out_at, have);
    c->out_at += have;
    c->arrives -= have;
    if (c->out_at == c->out.n) {
        buf_clear(&c->out);
        c->out_at = 0;
    }
    return (ssize_t)have;
}

ssize_t conn_writev(struct conn *c, const struct iovec *iov, int n)
{
    ssize_t sent = 0;
    if (c->hung_up)
        return -EPIPE;
    for (int i = 0; i < n && c->writable; i++) {
        size_t add = iov[i].iov_len < c->writable ? iov[i].iov_len : c->writable;
        buf_append(&c->in, iov[i].iov_base, add);
        sent += (ssize_t)add;
        if (c->writable != SIZE_MAX)
            c->writable -= add;
    }
    return sent ? sent : -EAGAIN;
}

void conn_watch(struct conn *c, uv_loop_t *loop, conn_ready_fn on_ready, void *ctx)
{
    (void)loop;
    c->on_ready = on_ready;
    c->ctx = ctx;
}

void conn_want(struct conn *c, int want)
{
    c->want = want;
}

void conn_close(struct conn *c)
{
    c->closed = true;
}

bool conn_has_buffered(const struct conn *c)
{
    (void)c;
    return false;
}

uint32_t conn_rtt_us(const struct conn *c)
{
    return c->cluster->rtt_us;
}

int conn_fd(const struct conn *c)
{
    (void)c;
    return -1;
}

const char *conn_error_text(const struct conn *c, int code)
{
    (void)c;
    return err_text(code);
}

// Nobody dials here; with all of net/conn.h defined, the real one is not linked.
int conn_dial(struct conn **out, const struct endpoint *ep, int timeout_ms, struct err *e)
{
    (void)out, (void)ep, (void)timeout_ms;
    return err_set(e, ERR_UNSUPPORTED, "no dialling");
}

int conn_wait(struct conn *c, int want, int timeout_ms)
{
    (void)c, (void)want, (void)timeout_ms;
    return ERR_UNSUPPORTED;
}

void conn_expect_much(struct conn *c)
{
    (void)c;
}

// ---- the cluster ----

void fake_init(struct fake_cluster *c)
{
    if (!key_names[0][0][0])
        name_keys();
    memset(c, 0, sizeof(*c));
    must(uv_loop_init(&c->loop) == 0);
    c->version = 7;
    for (int i = 0; i < FAKE_NODES; i++) {
        struct fake_node *n = &c->nodes[i];
        snprintf(n->host, sizeof(n->host), "10.0.0.%d", i);
        n->port = 7000;
        for (int s = 0; s < FAKE_SLOTS; s++)
            n->view[s] = (struct fake_view){.owner = (int8_t)(s % FAKE_NODES), .migrating_to = -1};
    }
}

void fake_free(struct fake_cluster *c)
{
    while (uv_run(&c->loop, UV_RUN_NOWAIT))
        fake_now_us += 1000;
    assert_int_equal(uv_loop_close(&c->loop), 0);
    for (struct conn *k = c->conns; k; k = k->next)
        k->closed = true;
    fake_reap(c);
    for (int i = 0; i < FAKE_NODES; i++)
        buf_free(&c->nodes[i].log);
}

void fake_target(struct fake_cluster *c, int asked, struct router_target *t,
                 struct router_node *nodes, int16_t *owner)
{
    memset(owner, 0, SLOT_COUNT * sizeof(*owner));
    for (int s = 0; s < FAKE_SLOTS; s++)
        owner[fake_slot(s)] = c->nodes[asked].view[s].owner;
    for (int i = 0; i < FAKE_NODES; i++) {
        memcpy(nodes[i].host, c->nodes[i].host, sizeof(c->nodes[i].host));
        nodes[i].port = c->nodes[i].port;
        nodes[i].conn = fake_connect(c, i);
    }
    *t = (struct router_target){
        .nodes = nodes, .nodes_n = FAKE_NODES, .owner = owner, .marks_id = FAKE_MARKS_ID};
}

// The answer of a node to GET; true unless it is an error. The number in it, or 0.
static bool ask_number(struct fake_cluster *c, int node, bool asking, const char *key,
                       uint64_t *number, bool *redirected)
{
    struct conn *k = fake_connect(c, node);
    struct slice name = slice_cstr(key);
    k->asking = asking;
    resp_put_cmd(&k->in, "GET %b", &name);
    (void)fake_serve(k, 1);
    bool ok = k->out.p[0] == '$';
    *redirected = k->out.n > 4 && memcmp(k->out.p, "-ASK", 4) == 0;
    const char *body = memchr(k->out.p, '\n', k->out.n);
    *number = 0;
    if (ok && body + 1 < k->out.p + k->out.n)
        ok = slice_u64(slice_make(body + 1, (size_t)(k->out.p + k->out.n - body - 3)), number);
    conn_close(k);
    return ok;
}

static bool read_mark(struct fake_cluster *c, int owner, int slot, uint64_t *mark)
{
    bool moved_on, ignored;
    const char *key = fake_key(slot, FAKE_MARK);
    if (ask_number(c, owner, false, key, mark, &moved_on))
        return true;
    for (int i = 0; moved_on && i < FAKE_NODES; i++) {
        uint64_t other;
        if (ask_number(c, i, true, key, &other, &ignored) && other > *mark)
            *mark = other;
    }
    return moved_on;
}

bool fake_read_marks(struct fake_cluster *c, const int16_t *owner, uint64_t *floor, uint64_t *marks)
{
    bool ignored;
    memset(marks, 0, SLOT_COUNT * sizeof(*marks));
    bool ok =
        ask_number(c, owner[fake_slot(0)], false, fake_key(0, FAKE_POSITION), floor, &ignored);
    for (int s = 0; s < FAKE_SLOTS && ok; s++)
        ok = read_mark(c, owner[fake_slot(s)], s, &marks[fake_slot(s)]);
    fake_reap(c);
    return ok;
}

// ---- a position in the first slot ----

int fake_put_position(void *ctx, const struct batch_mark *mark, struct buf *out, int *db)
{
    (void)ctx;
    assert_int_equal(*db, 0);
    resp_put_cmd(out, "SET %s %U", fake_key(0, FAKE_POSITION), mark->offset);
    return 1;
}

int fake_position_slot(void *ctx)
{
    (void)ctx;
    return fake_slot(0);
}

// ---- slots that move ----

// The one that both sides agree on, or the one that gives the slot away.
static int giver(const struct fake_cluster *c, int slot)
{
    for (int i = 0; i < FAKE_NODES; i++)
        if (c->nodes[i].view[slot].owner == i && c->nodes[i].view[slot].migrating_to >= 0)
            return i;
    for (int i = 0; i < FAKE_NODES; i++)
        if (c->nodes[i].view[slot].owner == i)
            return i;
    must(false);
    return -1;
}

bool fake_is_moving(const struct fake_cluster *c, int slot)
{
    return c->nodes[giver(c, slot)].view[slot].migrating_to >= 0;
}

void fake_begin_move(struct fake_cluster *c, int slot, int to)
{
    int from = giver(c, slot);
    c->nodes[to].view[slot].importing = true;
    c->nodes[from].view[slot].migrating_to = (int8_t)to;
}

void fake_move_key(struct fake_cluster *c, int slot, int key)
{
    struct fake_node *from = &c->nodes[giver(c, slot)];
    struct fake_node *to = &c->nodes[from->view[slot].migrating_to];
    if (!from->values[slot][key].type)
        return;
    // MIGRATE ... REPLACE, as redis-cli --cluster has it.
    to->values[slot][key] = from->values[slot][key];
    from->values[slot][key] = (struct fake_value){0};
}

void fake_end_move(struct fake_cluster *c, int slot, bool both)
{
    int from = giver(c, slot), to = c->nodes[from].view[slot].migrating_to;
    for (int k = 0; k < FAKE_SLOT_KEYS; k++)
        fake_move_key(c, slot, k);
    c->nodes[to].view[slot] = (struct fake_view){.owner = (int8_t)to, .migrating_to = -1};
    if (both)
        c->nodes[from].view[slot] = (struct fake_view){.owner = (int8_t)to, .migrating_to = -1};
}

void fake_tell_all(struct fake_cluster *c, int slot)
{
    int owner = giver(c, slot);
    if (c->nodes[owner].view[slot].migrating_to >= 0) {
        int to = c->nodes[owner].view[slot].migrating_to;
        if (c->nodes[to].view[slot].owner != to)
            return;
        owner = to;
    }
    for (int i = 0; i < FAKE_NODES; i++)
        c->nodes[i].view[slot] = (struct fake_view){.owner = (int8_t)owner, .migrating_to = -1};
}

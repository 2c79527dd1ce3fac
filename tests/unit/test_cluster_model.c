// SPDX-License-Identifier: Apache-2.0
// A random stream goes through scatter and router into a cluster that answers late, moves its
// slots, loses connections and falls back to what a replica knew, while the tool is killed and
// begins again. At the end the nodes together hold what a plain interpreter of the stream holds.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "codec/resp.h"
#include "fake_cluster.h"
#include "target/scatter.h"

enum {
    START = 1000,
    FLOOR_AGE_US = 100 * 1000,
    POSITION_US = 30 * 1000,
    MAX_PAST = 64,
    STEPS_LIMIT = 200000,
    ROUNDS = 4000,
};

struct past {
    uint64_t us;
    struct fake_value values[FAKE_SLOTS][FAKE_SLOT_KEYS];
};

struct model {
    struct fake_cluster c;
    struct fake_node plain; // what the source holds
    uint64_t random;
    struct journal *journal;
    struct router *router;
    struct apply *apply;
    struct apply_options o;
    struct buf stream;
    size_t fed;
    uint64_t number, floor_seen, stored, again_until;
    bool failed; // the router gave up; to be attached again
    bool pausing;
    struct past past[FAKE_NODES][MAX_PAST]; // of each node, in order of time
    int past_n[FAKE_NODES];
    int generation; // of addresses
    // Nodes that a slot was on while this tool is there, as bits. A slot that comes back to one key
    // by key while an ASK for it is on its way would have the request carried out on the wrong
    // side; the protocol knows no remedy.
    unsigned visited[FAKE_SLOTS];
    int16_t owner[SLOT_COUNT];
    uint64_t marks[SLOT_COUNT];
    uint64_t attached, fallen_back, moved; // to see that things happen
};

static struct model *m;
static uint64_t seed_now;

static uint32_t below(uint32_t n)
{
    m->random ^= m->random << 13;
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return (uint32_t)(m->random >> 33) % n;
}

static bool chance(uint32_t percent)
{
    return below(100) < percent;
}

#define BROKEN(...)                                                                                \
    do {                                                                                           \
        print_error("seed %llu: ", (unsigned long long)seed_now);                                  \
        fail_msg(__VA_ARGS__);                                                                     \
    } while (0)

// ---- the stream ----

// Appends it if the source would have carried it out.
static bool add_command(const char *fmt, ...)
{
    struct buf text = {0}, answer = {0};
    struct resp_cmd cmd = {0};
    va_list ap;
    va_start(ap, fmt);
    resp_put_vcmd(&text, fmt, ap);
    va_end(ap);
    assert_int_equal(resp_cmd_parse(&cmd, text.p, text.n), 1);
    bool ok = fake_run(&m->plain, cmd.argc, cmd.argv, &answer);
    if (ok)
        buf_append(&m->stream, text.p, text.n);
    resp_cmd_free(&cmd);
    buf_free(&text);
    buf_free(&answer);
    return ok;
}

static bool is_full(int slot, int key)
{
    return m->plain.values[slot][key].type != 'h' && m->plain.values[slot][key].n > FAKE_VALUE - 16;
}

static void add_one(int slot)
{
    int key = (int)below(FAKE_KEYS), other = (int)below(FAKE_KEYS);
    const char *k = fake_key(slot, key), *o = fake_key(slot, other);
    const char *far = fake_key((int)below(FAKE_SLOTS), other);
    char letter[2] = {(char)('a' + below(4)), 0};
    uint64_t v = ++m->number;
    switch (is_full(slot, key) ? 6 + below(2) : below(10)) {
    case 0:
    case 1:
        add_command("INCR %s", k);
        break;
    case 2:
        add_command("APPEND %s %U", k, v % 10);
        break;
    case 3:
        add_command("RPUSH %s %U", k, v);
        break;
    case 4:
        add_command("HSET %s %s %U", k, letter, v);
        break;
    case 5:
        if (chance(50))
            add_command("MSET %s %U %s %U", k, v, o, v + 1);
        else
            add_command("MSET %s %U %s %U", k, v, far, v + 1);
        break;
    case 6:
        add_command("DEL %s", k);
        break;
    case 7:
        if (chance(50))
            add_command("DEL %s %s", k, o);
        else
            add_command("DEL %s %s", k, far);
        break;
    default:
        add_command("SET %s %U", k, v);
        break;
    }
}

static void add_plain(const char *text)
{
    resp_put_cmd(&m->stream, text);
}

static void make_stream(void)
{
    int units = 5 + (int)below(60), slots = 1 + (int)below(FAKE_SLOTS);
    add_plain("SELECT 0");
    for (int i = 0; i < units; i++) {
        bool txn = chance(15);
        int slot = (int)below((uint32_t)slots);
        if (txn)
            add_plain("MULTI");
        for (int n = txn ? 1 + (int)below(4) : 1; n > 0; n--) {
            add_one(slot);
            if (txn && chance(50))
                slot = (int)below((uint32_t)slots);
        }
        if (txn)
            add_plain("EXEC");
        if (chance(5))
            add_plain(chance(50) ? "PING" : "SELECT 0");
    }
}

static void feed(void)
{
    size_t n = 1 + below(200), left = m->stream.n - m->fed;
    struct err e;
    char *p;
    size_t room;
    if (left == 0)
        return;
    n = n < left ? n : left;
    assert_int_equal(journal_log_space(m->journal, &p, &room, &e), 0);
    n = n < room ? n : room;
    memcpy(p, m->stream.p + m->fed, n);
    assert_int_equal(journal_log_commit(m->journal, n, &e), 0);
    m->fed += n;
}

// ---- the tool ----

static void on_acked(void *ctx, const struct batch_mark *mark, bool stored)
{
    (void)ctx;
    if (!stored)
        return;
    if (mark->offset < m->stored)
        BROKEN("the floor went back");
    m->stored = mark->offset;
    apply_acked(m->apply, mark->offset);
}

static void on_cmd_failed(void *ctx, uint64_t ref, struct slice text, bool in_exec)
{
    (void)ctx, (void)in_exec;
    if (slice_has_prefix(text, SLICE("WRONGTYPE")) && ref < m->again_until)
        return;
    BROKEN("%.*s", (int)text.n, text.p);
}

static void on_empty(void *ctx, uint64_t ref)
{
    (void)ctx, (void)ref;
}

static void on_failed(void *ctx, uint64_t ref, const struct err *why)
{
    (void)ctx, (void)ref, (void)why;
    m->failed = true;
}

static void on_nothing(void *ctx)
{
    (void)ctx;
}

static bool on_emit(void *ctx, uint64_t from, int db, int64_t now_ms, int slot, size_t as_is)
{
    (void)ctx;
    return scatter_emit(m->apply, from, db, now_ms, slot, as_is);
}

static void on_again(void *ctx, uint64_t until)
{
    (void)ctx;
    if (until > m->again_until)
        m->again_until = until;
}

static const struct sink_events sink_events = {
    .acked = on_acked,
    .cmd_failed = on_cmd_failed,
    .cmd_empty = on_empty,
    .failed = on_failed,
    .put_position = fake_put_position,
    .room = on_nothing,
};

static const struct router_events router_events = {
    .sink = &sink_events,
    .emit = on_emit,
    .position_slot = fake_position_slot,
    .moved = on_nothing,
    .again = on_again,
};

static void on_held(void *ctx, int db, struct slice key, struct slice field, int64_t ms)
{
    (void)ctx, (void)db, (void)key, (void)field, (void)ms;
}

static void on_keys_moved(void *ctx, int db, int argc, const struct slice *argv)
{
    (void)ctx, (void)db, (void)argc, (void)argv;
}

static bool on_refused(void *ctx, uint64_t ref, struct slice reason)
{
    (void)ctx, (void)ref;
    BROKEN("%.*s", (int)reason.n, reason.p);
    return false;
}

// Keys on the move are lost with a node that falls back, and a floor that is stored at once speaks
// of what is not old: neither is promised.
static void forget_past(void)
{
    for (int i = 0; i < FAKE_NODES; i++)
        m->past_n[i] = 0;
}

static void tool_gone(void)
{
    sink_detach(router_sink(m->router));
    if (m->apply)
        apply_free(m->apply);
    m->apply = NULL;
    m->failed = true;
    if (m->pausing)
        forget_past();
    m->pausing = false;
    fake_reap(&m->c);
}

// Everything that an earlier tool knew is gone; a node may not answer yet as it should.
static void tool_attach(void)
{
    struct router_target t;
    struct router_node nodes[FAKE_NODES];
    uint64_t floor;
    tool_gone();
    fake_target(&m->c, (int)below(FAKE_NODES), &t, nodes, m->owner);
    if (!fake_read_marks(&m->c, m->owner, &floor, m->marks)) {
        for (int i = 0; i < FAKE_NODES; i++)
            conn_close(nodes[i].conn);
        fake_reap(&m->c);
        return;
    }
    t.marks = m->marks;
    m->failed = false;
    m->stored = floor;
    m->again_until = START + m->fed;
    m->attached++;
    memset(m->visited, 0, sizeof(m->visited));
    router_attach(m->router, &t);
    m->apply = scatter_new(&m->o, floor, 0);
}

static void tool_pump(void)
{
    struct err e;
    if (m->failed)
        return;
    if (!m->pausing && apply_pump(m->apply, 1 + below(2000), clock_unix_ms(), 0, &e) < 0)
        BROKEN("%s", e.msg);
    sink_flush(router_sink(m->router));
}

// ---- what happens to the nodes ----

static void remember(int node)
{
    if (m->past_n[node] == MAX_PAST)
        memmove(m->past[node], m->past[node] + 1, (size_t)--m->past_n[node] * sizeof(struct past));
    struct past *p = &m->past[node][m->past_n[node]++];
    p->us = fake_now_us;
    memcpy(p->values, m->c.nodes[node].values, sizeof(p->values));
}

static struct conn *any_conn(void)
{
    return fake_conn(&m->c, (int)below(FAKE_NODES));
}

static void node_serves(void)
{
    int node = (int)below(FAKE_NODES);
    struct conn *c = fake_conn(&m->c, node);
    if (!c)
        return;
    remember(node);
    (void)fake_serve(c, 1 + (int)below(8));
}

static void answers_arrive(void)
{
    struct conn *c = any_conn();
    if (c)
        fake_deliver(c, chance(60) ? SIZE_MAX : 1 + below(60));
}

static void connection_stalls(void)
{
    struct conn *c = any_conn();
    if (c)
        fake_writable(c, chance(50) ? below(40) : SIZE_MAX);
}

static void connection_dies(void)
{
    struct conn *c = any_conn();
    if (!c)
        return;
    (void)fake_serve(c, (int)below(20));
    fake_hang_up(c);
}

static void tool_dies(void)
{
    for (int i = 0; i < FAKE_NODES; i++) {
        struct conn *c = fake_conn(&m->c, i);
        if (c)
            (void)fake_serve(c, (int)below(20));
    }
    tool_gone();
}

// A replica takes over with what it had at some moment, under an address of its own.
static void node_falls_back(void)
{
    if (m->pausing)
        return;
    int node = (int)below(FAKE_NODES), first = 0;
    struct conn *c = fake_conn(&m->c, node);
    while (first < m->past_n[node] && fake_now_us - m->past[node][first].us >= FLOOR_AGE_US)
        first++;
    if (first < m->past_n[node]) {
        int at = first + (int)below((uint32_t)(m->past_n[node] - first));
        memcpy(m->c.nodes[node].values, m->past[node][at].values, sizeof(m->past[0][0].values));
        m->past_n[node] = at;
        m->fallen_back++;
    }
    if (c)
        fake_hang_up(c);
    m->c.nodes[node].port = (uint16_t)(7001 + ++m->generation);
}

static void slot_moves(void)
{
    int slot = (int)below(FAKE_SLOTS);
    forget_past();
    if (!fake_is_moving(&m->c, slot)) {
        int to = (int)below(FAKE_NODES);
        if (m->c.nodes[to].view[slot].owner == to)
            return;
        unsigned owner = 0;
        for (unsigned i = 0; i < FAKE_NODES; i++)
            owner |= (m->c.nodes[i].view[slot].owner == (int)i ? 1u : 0) << i;
        bool back = m->visited[slot] & (1u << to);
        m->visited[slot] |= owner | 1u << to;
        m->moved++;
        fake_begin_move(&m->c, slot, to);
        if (back || chance(30)) {
            fake_end_move(&m->c, slot, true);
            fake_tell_all(&m->c, slot);
        }
    } else if (chance(75)) {
        fake_move_key(&m->c, slot, (int)below(FAKE_SLOT_KEYS));
    } else {
        fake_end_move(&m->c, slot, chance(50));
        if (chance(50))
            fake_tell_all(&m->c, slot);
    }
}

static void slots_rest(void)
{
    forget_past();
    for (int slot = 0; slot < FAKE_SLOTS; slot++) {
        if (fake_is_moving(&m->c, slot))
            fake_end_move(&m->c, slot, true);
        fake_tell_all(&m->c, slot);
    }
}

static void time_passes(void)
{
    fake_now_us += chance(80) ? 1000 + below(8000) : 20000 + below(60000);
    uv_run(&m->c.loop, UV_RUN_NOWAIT);
}

// As before a pause of the lane: what is confirmed is stored at once. That is not safe from a node
// that falls back just then, and not promised to be.
static void tool_pauses(void)
{
    if (m->failed || m->pausing)
        return;
    for (int i = 0; i < FAKE_NODES; i++)
        if (!fake_conn(&m->c, i) || fake_hung_up(fake_conn(&m->c, i)))
            return;
    sink_store_position(router_sink(m->router));
    m->pausing = true;
}

static void end_pause(void)
{
    if (!m->pausing || m->failed || !sink_idle(router_sink(m->router)))
        return;
    m->pausing = false;
    forget_past();
}

// ---- a round ----

struct mood {
    uint32_t moves, deaths, kills, falls, stalls, pauses; // of 1000
};

static void step(const struct mood *mood)
{
    uint32_t what = below(1000);
    const uint32_t bad[] = {mood->moves, mood->deaths, mood->kills,
                            mood->falls, mood->stalls, mood->pauses};
    void (*const act[])(void) = {slot_moves,      connection_dies,   tool_dies,
                                 node_falls_back, connection_stalls, tool_pauses};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        if (what < bad[i]) {
            act[i]();
            return;
        }
        what -= bad[i];
    }
    void (*const good[])(void) = {feed,        tool_pump,      tool_pump,   node_serves,
                                  node_serves, answers_arrive, time_passes, answers_arrive};
    good[below(8)]();
    if (m->failed && chance(20))
        tool_attach();
    end_pause();
}

static bool all_done(void)
{
    return m->fed == m->stream.n && !m->failed && apply_position(m->apply) == START + m->fed &&
           router_drained(m->router);
}

static void finish(void)
{
    slots_rest();
    fake_settle(&m->c); // what has died is noticed
    for (int steps = 0; !all_done(); steps++) {
        if (steps > 100000)
            BROKEN("no progress: applied to %llu of %llu",
                   (unsigned long long)(m->apply ? apply_position(m->apply) : 0),
                   (unsigned long long)(START + m->stream.n));
        feed();
        if (m->failed)
            tool_attach();
        tool_pump();
        end_pause();
        for (int i = 0; i < FAKE_NODES; i++)
            if (fake_conn(&m->c, i))
                fake_writable(fake_conn(&m->c, i), SIZE_MAX);
        fake_settle(&m->c);
        time_passes();
    }
}

static void compare(void)
{
    for (int slot = 0; slot < FAKE_SLOTS; slot++)
        for (int k = 0; k < FAKE_KEYS; k++)
            for (int i = 0; i < FAKE_NODES; i++) {
                static const struct fake_value none;
                bool owns = m->c.nodes[i].view[slot].owner == i;
                const struct fake_value *want = owns ? &m->plain.values[slot][k] : &none;
                const struct fake_value *got = &m->c.nodes[i].values[slot][k];
                if (want->type != got->type ||
                    (want->type && (want->n != got->n || memcmp(want->text, got->text, want->n))))
                    BROKEN("slot %d key %d on node %d: %c '%.*s' instead of %c '%.*s'", slot, k, i,
                           got->type ? got->type : '-', got->type ? got->n : 0, got->text,
                           want->type ? want->type : '-', want->type ? want->n : 0, want->text);
            }
}

static void open_all(void)
{
    struct err e;
    struct journal_options jo = {
        .type = JOURNAL_MEMORY, .max_size = 1 << 24, .log_size = 1 << 20, .tag = "test"};
    struct router_options ro = {.loop = &m->c.loop,
                                .events = &router_events,
                                .position_us = POSITION_US,
                                .floor_age_us = FLOOR_AGE_US,
                                .max_cmds = 1 + below(20),
                                .max_bytes = 1 << 20};
    assert_int_equal(journal_open(&m->journal, &jo, &e), 0);
    assert_int_equal(journal_begin_log(m->journal, FAKE_REPLID, START, &e), 0);
    m->router = router_new(&ro);
    m->o = (struct apply_options){.router = m->router,
                                  .journal = m->journal,
                                  .transactions = chance(75),
                                  .wrap_all = chance(10),
                                  .databases = 1,
                                  .target_version = 70015,
                                  .replids = {FAKE_REPLID, ""},
                                  .getack = on_nothing,
                                  .held = on_held,
                                  .moved = on_keys_moved,
                                  .refused = on_refused};
}

static void close_all(void)
{
    tool_gone();
    sink_free(router_sink(m->router));
    journal_close(m->journal);
    fake_free(&m->c);
    buf_free(&m->stream);
}

static void start(uint64_t seed)
{
    m = xcalloc(1, sizeof(*m));
    seed_now = seed;
    m->random = seed * 0x9e3779b97f4a7c15u + 1;
    for (int i = 0; i < 8; i++)
        (void)below(2);
    fake_init(&m->c);
    m->c.version = chance(30) ? 6 : 7;
    open_all();
    struct fake_value *p = &m->c.nodes[0].values[0][FAKE_POSITION];
    *p = (struct fake_value){.type = 's', .n = 4, .text = "1000"};
    m->failed = true;
}

static void end(void)
{
    finish();
    compare();
    close_all();
    free(m);
    m = NULL;
}

static void run_round(uint64_t seed)
{
    start(seed);
    make_stream();
    struct mood mood = {.moves = chance(60) ? below(100) : 0,
                        .deaths = chance(40) ? below(20) : 0,
                        .kills = chance(40) ? below(20) : 0,
                        .falls = chance(40) ? below(20) : 0,
                        .stalls = chance(30) ? below(50) : 0,
                        .pauses = chance(20) ? below(20) : 0};
    tool_attach();
    for (int i = 0, n = 200 + (int)below(1500); i < n; i++)
        step(&mood);
    end();
}

static uint64_t from_env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void every_unit_is_applied_exactly_once_whatever_happens(void **state)
{
    (void)state;
    uint64_t first = from_env("GUNYU_TEST_SEED", 1), n = from_env("GUNYU_TEST_ROUNDS", ROUNDS);
    for (uint64_t i = 0; i < n; i++)
        run_round(first + i);
}

// As after an operator has let a command go that was why it was taken apart.
static void a_transaction_that_was_begun_singly_is_not_begun_again(void **state)
{
    (void)state;
    start(1);
    m->o.transactions = true;
    add_plain("MULTI");
    add_command("INCR %s", fake_key(0, 0));
    uint64_t applied = START + m->stream.n;
    memcpy(m->c.nodes[0].values, m->plain.values, sizeof(m->plain.values));
    add_command("INCR %s", fake_key(0, 0));
    add_command("INCR %s", fake_key(1, 0));
    add_plain("EXEC");
    struct fake_value *p = m->c.nodes[0].values[0];
    p[FAKE_POSITION] = (struct fake_value){.type = 's', .n = 4, .text = "1000"};
    p[FAKE_MARK] = (struct fake_value){.type = 's'};
    p[FAKE_MARK].n =
        (uint8_t)snprintf(p[FAKE_MARK].text, FAKE_VALUE, "%llu", (unsigned long long)applied);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transaction_that_was_begun_singly_is_not_begun_again),
        cmocka_unit_test(every_unit_is_applied_exactly_once_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

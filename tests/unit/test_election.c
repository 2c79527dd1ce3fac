// SPDX-License-Identifier: Apache-2.0
// Who leads a shard: the rules one by one, and a model with several nodes whose messages are
// delayed and lost, whose clocks differ, and that stand still for a while.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/election.h"

enum { LEASE = 10000, RENEW = 3000, RETRY = 500, HANDOVER = 2000, MARGIN = 1000 };

static const struct election_options options = {LEASE, RENEW, RETRY, HANDOVER};

static enum election_request step(struct election *e, enum election_event_type type, int64_t now)
{
    const struct election_event ev = {.type = type, .now = now};
    return election_step(e, &ev);
}

static enum election_request want(struct election *e, int64_t now, int64_t at)
{
    const struct election_event ev = {.type = ELECTION_WANT, .now = now, .at = at};
    return election_step(e, &ev);
}

static enum election_request answer(struct election *e, enum election_event_type type, int64_t now,
                                    int64_t since, uint64_t token)
{
    const struct election_event ev = {.type = type, .now = now, .since = since, .token = token};
    return election_step(e, &ev);
}

static struct election leader_at(int64_t now)
{
    struct election e;
    election_init(&e, &options);
    assert_int_equal(want(&e, now, now), ELECTION_CAMPAIGN);
    assert_int_equal(answer(&e, ELECTION_WON, now, now, 7), ELECTION_NOTHING);
    assert_int_equal(e.role, ELECTION_LEADER);
    return e;
}

static void the_deadline_counts_from_before_the_request(void **state)
{
    (void)state;
    struct election e;
    election_init(&e, &options);
    assert_int_equal(want(&e, 100, 100), ELECTION_CAMPAIGN);
    answer(&e, ELECTION_WON, 900, 100, 3);
    assert_int_equal(e.deadline, 100 + LEASE - MARGIN);
    assert_int_equal(e.token, 3);
    assert_int_equal(election_margin_ms(3000), 500);
    assert_int_equal(election_margin_ms(60000), 6000);
}

static void a_win_that_comes_too_late_is_none(void **state)
{
    (void)state;
    struct election e;
    election_init(&e, &options);
    want(&e, 100, 100);
    assert_int_equal(answer(&e, ELECTION_WON, 100 + LEASE - MARGIN, 100, 3), ELECTION_CAMPAIGN);
    assert_int_equal(e.role, ELECTION_FOLLOWER);
    assert_int_equal(e.deadline, 0);
}

static void renewals_are_asked_for_and_move_the_deadline(void **state)
{
    (void)state;
    struct election e = leader_at(0);
    assert_int_equal(election_next(&e), RENEW);
    assert_int_equal(step(&e, ELECTION_TICK, RENEW - 1), ELECTION_NOTHING);
    assert_int_equal(step(&e, ELECTION_TICK, RENEW), ELECTION_RENEW);
    assert_int_equal(step(&e, ELECTION_TICK, RENEW + 1), ELECTION_NOTHING);
    answer(&e, ELECTION_RENEWED, RENEW + 400, RENEW, 0);
    assert_int_equal(e.deadline, RENEW + LEASE - MARGIN);
    assert_int_equal(election_next(&e), 2 * RENEW);
}

static void a_leader_that_cannot_renew_stops_at_the_deadline(void **state)
{
    (void)state;
    struct election e = leader_at(0);
    int64_t now = RENEW;
    for (; now < LEASE - MARGIN; now += RETRY) {
        assert_int_equal(step(&e, ELECTION_TICK, now), ELECTION_RENEW);
        assert_int_equal(step(&e, ELECTION_FAILED, now + 1), ELECTION_NOTHING);
        assert_int_equal(e.role, ELECTION_LEADER);
        now++;
    }
    step(&e, ELECTION_TICK, LEASE - MARGIN);
    assert_int_equal(e.role, ELECTION_FOLLOWER);
    assert_int_equal(e.deadline, 0);
}

static void a_renewal_answered_after_the_deadline_brings_nothing_back(void **state)
{
    (void)state;
    struct election e = leader_at(0);
    assert_int_equal(step(&e, ELECTION_TICK, RENEW), ELECTION_RENEW);
    answer(&e, ELECTION_RENEWED, RENEW + LEASE + 1, RENEW, 0);
    assert_int_equal(e.role, ELECTION_FOLLOWER);
    answer(&e, ELECTION_RENEWED, RENEW + LEASE + 2, RENEW + LEASE, 0);
    assert_int_equal(e.role, ELECTION_FOLLOWER);
}

static void a_node_that_wakes_steps_down_before_anything_else(void **state)
{
    (void)state;
    const enum election_event_type first[] = {ELECTION_TICK,      ELECTION_RENEWED,
                                              ELECTION_HAND_OVER, ELECTION_RELEASED,
                                              ELECTION_FAILED,    ELECTION_RENEW_DUE};
    for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
        struct election e = leader_at(0);
        step(&e, ELECTION_TICK, RENEW);
        answer(&e, first[i], 1000000, 999999, 9);
        assert_int_equal(e.role, ELECTION_FOLLOWER);
        assert_int_equal(e.deadline, 0);
    }
}

static void a_key_that_is_gone_ends_the_leadership_at_once(void **state)
{
    (void)state;
    struct election e = leader_at(0);
    assert_int_equal(step(&e, ELECTION_NOT_HELD, 10), ELECTION_NOTHING);
    assert_int_equal(e.role, ELECTION_FOLLOWER);
    e = leader_at(0);
    step(&e, ELECTION_TICK, RENEW);
    step(&e, ELECTION_NOT_HELD, RENEW + 1);
    assert_int_equal(e.role, ELECTION_FOLLOWER);
    assert_int_equal(want(&e, RENEW + 2, RENEW + 2), ELECTION_CAMPAIGN);
}

static void a_handover_waits_for_the_owner_and_renews_meanwhile(void **state)
{
    (void)state;
    struct election e = leader_at(0);
    assert_int_equal(step(&e, ELECTION_HAND_OVER, RENEW - 500), ELECTION_NOTHING);
    assert_int_equal(e.role, ELECTION_HANDING_OVER);
    assert_true(e.deadline > 0);
    assert_int_equal(step(&e, ELECTION_TICK, RENEW), ELECTION_RENEW);
    answer(&e, ELECTION_RENEWED, RENEW + 1, RENEW, 0);
    assert_int_equal(step(&e, ELECTION_RELEASED, RENEW + 2), ELECTION_RESIGN);
    assert_int_equal(e.role, ELECTION_FOLLOWER);
    assert_int_equal(e.deadline, 0);
    assert_int_equal(e.token, 7);
}

static void an_owner_that_does_not_finish_is_not_waited_for_longer(void **state)
{
    (void)state;
    struct election e = leader_at(0);
    step(&e, ELECTION_HAND_OVER, 100);
    assert_int_equal(election_next(&e), 100 + HANDOVER);
    assert_int_equal(step(&e, ELECTION_TICK, 100 + HANDOVER), ELECTION_RESIGN);
    assert_int_equal(e.role, ELECTION_FOLLOWER);
}

static void nothing_is_campaigned_for_until_a_resignation_is_answered(void **state)
{
    (void)state;
    struct election e = leader_at(0);
    step(&e, ELECTION_HAND_OVER, 100);
    assert_int_equal(step(&e, ELECTION_RELEASED, 101), ELECTION_RESIGN);
    assert_int_equal(step(&e, ELECTION_FAILED, 200), ELECTION_NOTHING);
    assert_int_equal(want(&e, 300, 300), ELECTION_NOTHING);
    assert_int_equal(step(&e, ELECTION_TICK, 200 + RETRY), ELECTION_RESIGN);
    assert_int_equal(step(&e, ELECTION_RESIGNED, 201 + RETRY), ELECTION_CAMPAIGN);
}

static void a_stopped_node_gives_up_what_it_wins_afterwards(void **state)
{
    (void)state;
    struct election e;
    election_init(&e, &options);
    assert_int_equal(want(&e, 0, 0), ELECTION_CAMPAIGN);
    assert_int_equal(step(&e, ELECTION_STOP, 1), ELECTION_NOTHING);
    assert_int_equal(answer(&e, ELECTION_WON, 2, 0, 3), ELECTION_RESIGN);
    assert_int_equal(e.role, ELECTION_FOLLOWER);
    assert_int_equal(step(&e, ELECTION_RESIGNED, 3), ELECTION_NOTHING);
    assert_int_equal(want(&e, 4, ELECTION_NEVER), ELECTION_NOTHING);
    e = leader_at(0);
    assert_int_equal(step(&e, ELECTION_STOP, 5), ELECTION_RESIGN);
}

static void answers_to_what_was_not_asked_are_not_believed(void **state)
{
    (void)state;
    struct election e;
    election_init(&e, &options);
    answer(&e, ELECTION_WON, 1, 1, 5);
    assert_int_equal(e.role, ELECTION_FOLLOWER);
    e = leader_at(0);
    answer(&e, ELECTION_RENEWED, 10, 10, 0);
    assert_int_equal(e.deadline, LEASE - MARGIN);
}

// ---- the model ----

// A registry with one shard. With `by_process` it is etcd: a lease of a process, claims that live
// as long. Else it is Redis: a key with a time to live. Both as registry_etcd.c and
// registry_redis.c use them.
enum { NODES = 4, MESSAGES = 64, PAUSE_MAX = 40000, DELAY_MAX = 15000, GIVE_UP = 6000 };

struct message {
    bool used, arrived; // arrived: carried out, the answer is under way
    bool lost_answer;
    int64_t at; // when the next of the two happens, in the world's time
    int node;
    unsigned life; // of the node that asked
    enum election_request what;
    uint64_t token;
    int64_t since; // of the node's clock
    enum election_event_type answer;
};

struct model_node {
    struct election e;
    unsigned life;
    int64_t paused_until; // INT64_MAX: dead
    double rate;          // of its clock
    int64_t offset;
    int64_t give_up_at;             // of its clock: an open request has failed
    int64_t lease_since, lease_end; // by_process: as the node knows, and as the registry does
    int64_t keep_at;
};

struct model {
    bool by_process;
    int64_t now;
    struct model_node nodes[NODES];
    struct message messages[MESSAGES];
    int owner; // of the key; -1: none
    uint64_t token, last_token;
    int64_t expires; // Redis
    unsigned seed;
    int wins, kills;
    unsigned rough; // one message in so many is lost, one late
    bool calm;      // no delays, losses and pauses any more
};

static unsigned roll(struct model *m, unsigned n)
{
    m->seed = m->seed * 1664525u + 1013904223u;
    return (unsigned)(((uint64_t)(m->seed >> 8) * n) >> 24);
}

static int64_t clock_of(const struct model *m, const struct model_node *n)
{
    return n->offset + (int64_t)((double)m->now * n->rate);
}

static void post_message(struct model *m, int node, enum election_request what)
{
    struct model_node *n = &m->nodes[node];
    n->give_up_at = clock_of(m, n) + GIVE_UP;
    for (int i = 0; i < MESSAGES; i++) {
        struct message *g = &m->messages[i];
        if (g->used)
            continue;
        bool slow = !m->calm && roll(m, m->rough) == 0, lost = !m->calm && roll(m, m->rough) == 0;
        *g = (struct message){.used = !lost,
                              .at = m->now + 1 + (slow ? roll(m, DELAY_MAX) : roll(m, 20)),
                              .node = node,
                              .life = n->life,
                              .what = what,
                              .token = n->e.token,
                              .since = clock_of(m, n),
                              .lost_answer = !m->calm && roll(m, m->rough) == 0};
        return;
    }
}

static void expire_keys(struct model *m)
{
    if (m->owner >= 0 && m->now >= (m->by_process ? m->nodes[m->owner].lease_end : m->expires))
        m->owner = -1;
}

static enum election_event_type carry_out(struct model *m, struct message *g)
{
    struct model_node *n = &m->nodes[g->node];
    bool ours = m->owner == g->node;
    if (m->by_process && g->life != n->life)
        return ELECTION_FAILED; // its lease is another one
    switch (g->what) {
    case ELECTION_CAMPAIGN:
        if (m->owner >= 0 && !ours)
            return ELECTION_LOST;
        if (m->by_process && m->now >= n->lease_end)
            return ELECTION_FAILED;
        if (!ours)
            m->token = ++m->last_token;
        m->owner = g->node;
        m->expires = m->now + LEASE;
        g->token = m->token;
        return ELECTION_WON;
    case ELECTION_RENEW:
        if (!ours || m->token != g->token)
            return ELECTION_NOT_HELD;
        if (m->by_process && m->now < n->lease_end)
            n->lease_end = m->now + LEASE;
        m->expires = m->now + LEASE;
        return ELECTION_RENEWED;
    default:
        if (ours && m->token == g->token)
            m->owner = -1;
        return ELECTION_RESIGNED;
    }
}

static void tell(struct model *m, int node, struct election_event *ev)
{
    struct model_node *n = &m->nodes[node];
    ev->now = clock_of(m, n);
    enum election_role before = n->e.role;
    enum election_request r = election_step(&n->e, ev);
    m->wins += before == ELECTION_FOLLOWER && n->e.role == ELECTION_LEADER;
    if (r != ELECTION_NOTHING)
        post_message(m, node, r);
}

static void deliver(struct model *m, struct message *g)
{
    struct model_node *n = &m->nodes[g->node];
    if (!g->arrived) {
        g->answer = carry_out(m, g);
        g->arrived = true;
        g->at = m->now + 1 + (m->calm || roll(m, m->rough) ? roll(m, 20) : roll(m, DELAY_MAX));
        g->used = !g->lost_answer;
        return;
    }
    if (m->now < n->paused_until)
        return; // it waits in the socket
    g->used = false;
    // One request is open at a time; the answer to one that was given up is not read.
    if (g->life != n->life || n->e.asked != g->what || g->since < n->give_up_at - GIVE_UP)
        return;
    if (m->by_process && g->answer == ELECTION_RENEWED)
        n->lease_since = g->since;
    struct election_event ev = {.type = g->answer, .token = g->token, .since = g->since};
    if (m->by_process && g->answer == ELECTION_WON)
        ev.since = n->lease_since;
    tell(m, g->node, &ev);
}

// The lease of the process, kept alive beside: only what the node knows of it may be wrong.
static void keep_process_alive(struct model *m, struct model_node *n)
{
    int64_t now = clock_of(m, n);
    if (!m->by_process || now < n->keep_at)
        return;
    n->keep_at = now + RENEW;
    if (m->now >= n->lease_end) {
        n->life++;
        n->e.asked = ELECTION_NOTHING;
        const struct election_event ev = {.type = ELECTION_NOT_HELD, .now = now};
        (void)election_step(&n->e, &ev);
    } else if (!m->calm && roll(m, 4) == 0) {
        return;
    }
    n->lease_end = m->now + LEASE;
    n->lease_since = now;
}

static void run_node(struct model *m, int node)
{
    struct model_node *n = &m->nodes[node];
    if (m->now < n->paused_until)
        return;
    int64_t now = clock_of(m, n);
    keep_process_alive(m, n);
    if (n->e.asked != ELECTION_NOTHING && now >= n->give_up_at)
        tell(m, node, &(struct election_event){.type = ELECTION_FAILED});
    // What a view shows, a little late or not at all.
    if (n->e.role == ELECTION_FOLLOWER && m->owner < 0 && roll(m, 50) == 0)
        tell(m, node, &(struct election_event){.type = ELECTION_WANT, .at = now});
    if (n->e.role == ELECTION_FOLLOWER && m->owner == node && roll(m, 50) == 0)
        tell(m, node, &(struct election_event){.type = ELECTION_WANT, .at = now});
    if (n->e.role != ELECTION_FOLLOWER && m->owner != node && roll(m, 20000) == 0)
        tell(m, node, &(struct election_event){.type = ELECTION_NOT_HELD});
    if (!m->calm && roll(m, 4000) == 0)
        tell(m, node, &(struct election_event){.type = ELECTION_HAND_OVER});
    if (n->e.role == ELECTION_HANDING_OVER && roll(m, 100) == 0)
        tell(m, node, &(struct election_event){.type = ELECTION_RELEASED});
    tell(m, node, &(struct election_event){.type = ELECTION_TICK});
    if (!m->calm && roll(m, 8000) == 0)
        n->paused_until = m->now + roll(m, PAUSE_MAX);
}

// What its lane goes by: no thread of the node need have run for it.
static bool acts(const struct model *m, const struct model_node *n)
{
    return n->paused_until != INT64_MAX && n->e.role != ELECTION_FOLLOWER &&
           clock_of(m, n) < n->e.deadline;
}

static int count_leaders(const struct model *m)
{
    int leaders = 0;
    for (int i = 0; i < NODES; i++)
        leaders += acts(m, &m->nodes[i]);
    return leaders;
}

static void pass(struct model *m)
{
    m->now++;
    expire_keys(m);
    for (int i = 0; i < MESSAGES; i++)
        if (m->messages[i].used && m->now >= m->messages[i].at)
            deliver(m, &m->messages[i]);
    for (int i = 0; i < NODES; i++)
        run_node(m, i);
    int leaders = count_leaders(m);
    if (leaders > 1)
        fail_msg("seed ends %u, %s: %d leaders at %lld", m->seed, m->by_process ? "etcd" : "redis",
                 leaders, (long long)m->now);
}

static void begin(struct model *m, bool by_process, unsigned seed)
{
    memset(m, 0, sizeof(*m));
    m->by_process = by_process;
    m->seed = seed * 2654435761u + 1;
    m->owner = -1;
    m->rough = seed % 2 ? 20 : 3;
    for (int i = 0; i < NODES; i++) {
        struct model_node *n = &m->nodes[i];
        election_init(&n->e, &options);
        n->rate = 1.0 + ((double)roll(m, 800) - 400) / 10000; // up to 4 % fast or slow
        n->offset = roll(m, 1000000);
        n->lease_since = n->offset;
        n->lease_end = LEASE;
        n->keep_at = n->offset;
    }
}

static void check_liveness(struct model *m)
{
    m->calm = true;
    for (int i = 0; i < NODES; i++)
        m->nodes[i].paused_until = 0;
    for (int t = 0; t < 3 * DELAY_MAX; t++)
        pass(m);
    assert_int_equal(count_leaders(m), 1);
    for (int i = 0; i < NODES; i++)
        if (acts(m, &m->nodes[i]))
            m->nodes[i].paused_until = INT64_MAX;
    int without = 0;
    while (count_leaders(m) == 0 && without < 10 * LEASE) {
        pass(m);
        without++;
    }
    if (without > LEASE + 1000)
        fail_msg("%s: no leader for %d ms", m->by_process ? "etcd" : "redis", without);
}

static void never_two_leaders_and_soon_one(void **state)
{
    (void)state;
    static struct model m;
    int wins = 0;
    for (unsigned seed = 1; seed <= 100; seed++) {
        for (int by_process = 0; by_process < 2; by_process++) {
            begin(&m, by_process, seed);
            for (int t = 0; t < 150000; t++)
                pass(&m);
            check_liveness(&m);
            wins += m.wins;
        }
    }
    assert_true(wins > 200 * 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_deadline_counts_from_before_the_request),
        cmocka_unit_test(a_win_that_comes_too_late_is_none),
        cmocka_unit_test(renewals_are_asked_for_and_move_the_deadline),
        cmocka_unit_test(a_leader_that_cannot_renew_stops_at_the_deadline),
        cmocka_unit_test(a_renewal_answered_after_the_deadline_brings_nothing_back),
        cmocka_unit_test(a_node_that_wakes_steps_down_before_anything_else),
        cmocka_unit_test(a_key_that_is_gone_ends_the_leadership_at_once),
        cmocka_unit_test(a_handover_waits_for_the_owner_and_renews_meanwhile),
        cmocka_unit_test(an_owner_that_does_not_finish_is_not_waited_for_longer),
        cmocka_unit_test(nothing_is_campaigned_for_until_a_resignation_is_answered),
        cmocka_unit_test(a_stopped_node_gives_up_what_it_wins_afterwards),
        cmocka_unit_test(answers_to_what_was_not_asked_are_not_believed),
        cmocka_unit_test(never_two_leaders_and_soon_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

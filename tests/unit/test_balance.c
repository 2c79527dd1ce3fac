// SPDX-License-Identifier: Apache-2.0
// Which node should lead what.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/balance.h"

enum { NODES = 4, SHARDS = 12, LEASE = 10000, LONG = 1000000, BIG = 1 << 30 };

struct world {
    struct balance_node nodes[NODES];
    struct balance_shard shards[SHARDS];
    struct balance_edge edges[SHARDS][NODES];
    struct balance_group g;
    struct balance_advice advice[SHARDS];
};

// Everybody has been there for long, every journal is ready and at the same place, nobody leads.
static void set_up(struct world *w, size_t nodes, size_t shards)
{
    memset(w, 0, sizeof(*w));
    w->g = (struct balance_group){w->nodes, nodes, 0, w->shards, shards, LEASE, LONG};
    for (size_t i = 0; i < nodes; i++)
        w->nodes[i].alive_ms = LONG;
    for (size_t i = 0; i < shards; i++) {
        w->shards[i] = (struct balance_shard){BALANCE_NOBODY, BALANCE_NOBODY, BALANCE_NOBODY,
                                              false,          false,          w->edges[i]};
        for (size_t n = 0; n < nodes; n++)
            w->edges[i][n] = (struct balance_edge){true, true, true, BIG};
    }
}

static struct balance_advice *ask(struct world *w, int self)
{
    w->g.self = self;
    balance_advise(&w->g, w->advice);
    return w->advice;
}

static int delay(struct world *w, int self, size_t shard)
{
    assert_int_equal(ask(w, self)[shard].what, BALANCE_CAMPAIGN);
    return (int)w->advice[shard].delay_ms;
}

// How many handovers a node is advised; the last of them in *shard and *to.
static int handovers(struct world *w, int self, size_t *shard, int *to)
{
    int n = 0;
    ask(w, self);
    for (size_t i = 0; i < w->g.shards_n; i++) {
        if (w->advice[i].what != BALANCE_HAND_OVER)
            continue;
        n++;
        *shard = i;
        *to = w->advice[i].to;
    }
    return n;
}

static void a_node_alone_campaigns_for_all_at_once(void **state)
{
    (void)state;
    struct world w;
    set_up(&w, 1, 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(delay(&w, 0, i), 0);
}

static void shards_that_nobody_leads_are_shared_out(void **state)
{
    (void)state;
    struct world w;
    set_up(&w, 3, 6);
    int first[NODES] = {0};
    for (size_t i = 0; i < 6; i++) {
        int at_once = 0;
        for (int n = 0; n < 3; n++) {
            bool now = delay(&w, n, i) == 0;
            at_once += now;
            first[n] += now;
        }
        assert_int_equal(at_once, 1);
    }
    for (int n = 0; n < 3; n++)
        assert_int_equal(first[n], 2);
}

static void the_furthest_journal_campaigns_first_and_the_others_soon(void **state)
{
    (void)state;
    struct world w;
    set_up(&w, 4, 1);
    w.shards[0].last_leader = 0;
    w.edges[0][1].right = BIG - (100 << 20);
    w.edges[0][2].right = BIG;
    w.edges[0][3].known = false;
    assert_int_equal(delay(&w, 2, 0), 0);
    assert_int_equal(delay(&w, 1, 0), BALANCE_STEP_MS);
    assert_int_equal(delay(&w, 3, 0), 2 * BALANCE_STEP_MS);
    assert_int_equal(delay(&w, 0, 0), 3 * BALANCE_STEP_MS);
}

static void no_delay_is_longer_than_half_a_second(void **state)
{
    (void)state;
    struct world w;
    set_up(&w, 4, 1);
    for (int n = 0; n < 4; n++)
        assert_true(delay(&w, n, 0) <= 500);
}

static void whoever_it_is_handed_to_comes_first_and_the_others_wait(void **state)
{
    (void)state;
    struct world w;
    set_up(&w, 3, 1);
    w.shards[0].note = 2;
    w.edges[0][2].known = false;
    assert_int_equal(delay(&w, 2, 0), 0);
    assert_true(delay(&w, 0, 0) >= BALANCE_NOTE_WAIT_MS);
    assert_true(delay(&w, 1, 0) >= BALANCE_NOTE_WAIT_MS);
}

static void led_by(struct world *w, const char *leaders)
{
    for (size_t i = 0; leaders[i]; i++)
        w->shards[i].leader = leaders[i] - '0';
}

static void one_shard_at_a_time_goes_to_whoever_has_fewer(void **state)
{
    (void)state;
    struct world w;
    size_t shard;
    int to;
    set_up(&w, 2, 4);
    led_by(&w, "0000");
    assert_int_equal(handovers(&w, 0, &shard, &to), 1);
    assert_int_equal(to, 1);
    assert_int_equal(handovers(&w, 1, &shard, &to), 0);
    led_by(&w, "0001");
    assert_int_equal(handovers(&w, 0, &shard, &to), 1);
    led_by(&w, "0011");
    assert_int_equal(handovers(&w, 0, &shard, &to), 0);
    set_up(&w, 2, 3);
    led_by(&w, "001");
    assert_int_equal(handovers(&w, 0, &shard, &to), 0);
}

static void nothing_is_handed_over_before_it_is_time(void **state)
{
    (void)state;
    struct world w;
    size_t shard;
    int to;
    for (int what = 0; what < 7; what++) {
        set_up(&w, 2, 4);
        led_by(&w, "0000");
        assert_int_equal(handovers(&w, 0, &shard, &to), 1);
        for (size_t i = 0; i < 4; i++) {
            if (what == 0)
                w.edges[i][1].ready = false;
            if (what == 1)
                w.edges[i][1].known = false;
            if (what == 2)
                w.edges[i][1].right = BIG - (200 << 20);
        }
        if (what == 3)
            w.nodes[1].alive_ms = 2 * LEASE;
        if (what == 4)
            w.g.quiet_ms = LEASE;
        if (what == 5)
            w.shards[3].note = 1;
        if (what == 6)
            w.shards[3].leader = BALANCE_NOBODY;
        assert_int_equal(handovers(&w, 0, &shard, &to), 0);
    }
}

static void shards_that_belong_together_go_to_the_node_that_leads_most_of_them(void **state)
{
    (void)state;
    struct world w;
    size_t shard;
    int to;
    set_up(&w, 3, 6);
    led_by(&w, "011222");
    for (size_t i = 0; i < 3; i++)
        w.shards[i].together = true;
    w.g.quiet_ms = 0; // there is no time to wait
    w.nodes[1].alive_ms = 0;
    assert_int_equal(handovers(&w, 0, &shard, &to), 1);
    assert_int_equal(shard, 0);
    assert_int_equal(to, 1);
    assert_int_equal(handovers(&w, 1, &shard, &to), 0);
    led_by(&w, "111222");
    w.g.quiet_ms = LONG;
    assert_int_equal(handovers(&w, 1, &shard, &to), 0); // they stay, uneven as it is
    w.edges[0][1].ready = false;
    led_by(&w, "011222");
    w.g.quiet_ms = 0;
    assert_int_equal(handovers(&w, 0, &shard, &to), 0);
    w.shards[0].leader = BALANCE_NOBODY;
    assert_int_equal(delay(&w, 1, 0), 0);
}

static void shards_that_belong_together_begin_at_one_node(void **state)
{
    (void)state;
    struct world w;
    set_up(&w, 3, 3);
    for (size_t i = 0; i < 3; i++)
        w.shards[i].together = true;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(delay(&w, 0, i), 0);
        assert_true(delay(&w, 1, i) > 0);
        assert_true(delay(&w, 2, i) > 0);
    }
}

static void a_shard_that_waits_for_the_others_goes_to_them_without_a_journal(void **state)
{
    (void)state;
    struct world w;
    size_t shard;
    int to;
    set_up(&w, 2, 3);
    led_by(&w, "011");
    for (size_t i = 0; i < 3; i++)
        w.shards[i].together = true;
    w.edges[0][1] = (struct balance_edge){.able = true};
    assert_int_equal(handovers(&w, 0, &shard, &to), 0);
    w.shards[0].idle = true;
    assert_int_equal(handovers(&w, 0, &shard, &to), 1);
    assert_int_equal(to, 1);
}

static void the_heir_is_the_other_node_that_is_furthest(void **state)
{
    (void)state;
    struct world w;
    set_up(&w, 3, 1);
    led_by(&w, "0");
    w.edges[0][1].right = BIG - (50 << 20);
    assert_int_equal(balance_heir(&w.g, 0), 2);
    set_up(&w, 1, 1);
    assert_int_equal(balance_heir(&w.g, 0), BALANCE_NOBODY);
}

static void a_leader_that_cannot_reach_its_servers_hands_over_to_a_node_that_can(void **state)
{
    (void)state;
    struct world w;
    size_t shard;
    int to;
    set_up(&w, 3, 2);
    led_by(&w, "01");
    w.g.quiet_ms = 0; // there is no time to wait
    w.edges[0][0].able = w.edges[0][1].able = false;
    assert_int_equal(handovers(&w, 0, &shard, &to), 1);
    assert_int_equal(shard, 0);
    assert_int_equal(to, 2);
    assert_int_equal(handovers(&w, 1, &shard, &to), 0);
    w.shards[0].note = 2;
    assert_int_equal(handovers(&w, 0, &shard, &to), 0);
    w.shards[0].note = BALANCE_NOBODY;
    w.edges[0][2].able = false; // nobody can: the servers are down
    assert_int_equal(handovers(&w, 0, &shard, &to), 0);
}

static void who_cannot_reach_the_servers_comes_last(void **state)
{
    (void)state;
    struct world w;
    set_up(&w, 3, 1);
    w.edges[0][0].able = false;
    w.edges[0][0].right = BIG + (50 << 20);
    assert_int_equal(delay(&w, 1, 0), 0);
    assert_int_equal(delay(&w, 0, 0), 2 * BALANCE_STEP_MS);
    led_by(&w, "1");
    w.g.self = 1;
    assert_int_equal(balance_heir(&w.g, 0), 2);
    // And gets nothing for the sake of balance.
    size_t shard;
    int to;
    set_up(&w, 2, 4);
    led_by(&w, "0000");
    for (int i = 0; i < 4; i++)
        w.edges[i][1].able = false;
    assert_int_equal(handovers(&w, 0, &shard, &to), 0);
}

// However it begins, the nodes get to an even share by themselves, and then leave it alone.
static void every_group_comes_to_rest_evenly(void **state)
{
    (void)state;
    struct world w;
    size_t shard = 0;
    int to = 0;
    srand(1);
    for (int round = 0; round < 2000; round++) {
        size_t nodes = 1 + (size_t)rand() % NODES, shards = 1 + (size_t)rand() % SHARDS;
        set_up(&w, nodes, shards);
        for (size_t i = 0; i < shards; i++)
            w.shards[i].leader = rand() % (int)nodes;
        int moves = 0;
        bool moved = true;
        while (moved) {
            moved = false;
            for (int n = 0; n < (int)nodes; n++) {
                int some = handovers(&w, n, &shard, &to);
                assert_true(some <= 1);
                if (some == 0)
                    continue;
                w.shards[shard].leader = to;
                moved = true;
                assert_true(++moves <= SHARDS);
            }
        }
        int load[NODES] = {0};
        for (size_t i = 0; i < shards; i++)
            load[w.shards[i].leader]++;
        for (size_t n = 1; n < nodes; n++)
            assert_true(abs(load[n] - load[0]) <= 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_alone_campaigns_for_all_at_once),
        cmocka_unit_test(shards_that_nobody_leads_are_shared_out),
        cmocka_unit_test(the_furthest_journal_campaigns_first_and_the_others_soon),
        cmocka_unit_test(no_delay_is_longer_than_half_a_second),
        cmocka_unit_test(whoever_it_is_handed_to_comes_first_and_the_others_wait),
        cmocka_unit_test(one_shard_at_a_time_goes_to_whoever_has_fewer),
        cmocka_unit_test(nothing_is_handed_over_before_it_is_time),
        cmocka_unit_test(shards_that_belong_together_go_to_the_node_that_leads_most_of_them),
        cmocka_unit_test(shards_that_belong_together_begin_at_one_node),
        cmocka_unit_test(a_shard_that_waits_for_the_others_goes_to_them_without_a_journal),
        cmocka_unit_test(the_heir_is_the_other_node_that_is_furthest),
        cmocka_unit_test(a_leader_that_cannot_reach_its_servers_hands_over_to_a_node_that_can),
        cmocka_unit_test(who_cannot_reach_the_servers_comes_last),
        cmocka_unit_test(every_group_comes_to_rest_evenly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

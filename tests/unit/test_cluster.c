// SPDX-License-Identifier: Apache-2.0
// What nodes of a cluster say, taken apart; live clusters are in
// tests/integration/test_topology.py.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "redis/cluster_impl.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C "cccccccccccccccccccccccccccccccccccccccc"
#define D "dddddddddddddddddddddddddddddddddddddddd"
#define WHOLE A " 10.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-16383\n"

static char seed_host[] = "seed";
static const struct endpoint seed = {.host = seed_host, .port = 1};

// shards: RESP text or NULL.
static int parse(struct cluster_map *m, const char *nodes, const char *shards,
                 const struct endpoint *via)
{
    struct redis_reply r = {.p = shards, .n = shards ? strlen(shards) : 0};
    struct resp_scan scan = {0};
    size_t len;
    if (shards) {
        assert_int_equal(resp_scan(&scan, r.p, r.n, &len), 1);
        assert_true(resp_next(r.p, r.n, &r.first_child, &r.root));
    }
    struct err e = {0};
    int rc = cluster_parse(m, slice_cstr(nodes), shards ? &r : NULL, via, &e);
    assert_int_equal(rc, e.code);
    return rc;
}

static void must_parse(struct cluster_map *m, const char *nodes, const char *shards)
{
    assert_int_equal(parse(m, nodes, shards, &seed), 0);
}

static void check_node(const struct cluster_node *n, const char *id, const char *host, int port)
{
    assert_string_equal(n->id, id);
    assert_string_equal(n->host, host);
    assert_int_equal(n->port, port);
}

static void shards_are_in_the_order_of_their_slots_with_their_replicas(void **state)
{
    (void)state;
    struct cluster_map m;
    must_parse(&m,
               D " 10.0.0.4:7003@17003,name slave " B " 0 1 2 connected\n" A
                 " 10.0.0.1:7000@17000 master - 0 0 1 connected 9000-16383 5\r\n" C
                 " 10.0.0.3:7002@17002 slave,fail " B " 0 0 0 disconnected\n" B
                 " 10.0.0.2:7001@17001 myself,master - 0 0 2 connected 0-4 6-8999\n",
               NULL);
    assert_int_equal(m.shards_n, 2);
    assert_int_equal(m.covered, CLUSTER_SLOTS);
    check_node(&m.shards[0].master, B, "10.0.0.2", 7001);
    check_node(&m.shards[1].master, A, "10.0.0.1", 7000);
    assert_int_equal(m.shards[0].slots, 8999);
    assert_int_equal(m.shards[1].slots, 7385);
    assert_int_equal(m.owner[4], 0);
    assert_int_equal(m.owner[5], 1);
    assert_int_equal(m.owner[6], 0);
    assert_int_equal(m.owner[16383], 1);
    assert_int_equal(m.shards[0].replicas_n, 2);
    check_node(&m.shards[0].replicas[0], C, "10.0.0.3", 7002);
    check_node(&m.shards[0].replicas[1], D, "10.0.0.4", 7003);
    assert_true(m.shards[0].replicas[0].failed);
    assert_false(m.shards[0].replicas[1].failed);
    assert_int_equal(m.shards[1].replicas_n, 0);
    assert_int_equal(cluster_shard_of(&m, D), 0);
    assert_int_equal(cluster_shard_of(&m, A), 1);
    assert_int_equal(cluster_shard_of(&m, "x"), CLUSTER_NO_SHARD);
    cluster_free(&m);
}

static void nodes_without_slots_or_address_are_left_out(void **state)
{
    (void)state;
    struct cluster_map m;
    must_parse(&m,
               A " 10.0.0.1:7000@17000 master - 0 0 1 connected\n" B
                 " :0@0 master,noaddr - 0 0 1 disconnected 0-10\n" C
                 " 10.0.0.3:7000@17000 handshake - 0 0 0 disconnected\n" D
                 " 10.0.0.4:7000@17000 myself,master,fail? - 0 0 1 connected 11\n",
               NULL);
    assert_int_equal(m.shards_n, 1);
    assert_int_equal(m.covered, 1);
    assert_int_equal(m.owner[10], CLUSTER_NO_SHARD);
    assert_int_equal(m.owner[11], 0);
    assert_int_equal(m.shards[0].slots, 1);
    assert_false(m.shards[0].master.failed); // only suspected
    cluster_free(&m);
}

static void addresses_are_read_in_every_form(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
        int port;
    } table[] = {
        {"10.0.0.1:7000@17000", "10.0.0.1", 7000},
        {"10.0.0.1:7000", "10.0.0.1", 7000},
        {"10.0.0.1:7000@17000,db.example", "10.0.0.1", 7000},
        {"10.0.0.1:7000@17000,,shard-id=1:2", "10.0.0.1", 7000},
        {"2001:db8::1:7000@17000", "2001:db8::1", 7000},
        {":7000@17000", "seed", 7000},
        {"a b", NULL, 0},
        {"x\"y:7000@17000", "seed", 7000},
        {"10.0.0.1:0@10000", NULL, 0},
        {"10.0.0.1:65536@1", NULL, 0},
        {"10.0.0.1", NULL, 0},
        {"", NULL, 0},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct cluster_map m;
        char text[256];
        snprintf(text, sizeof(text), A " %s master - 0 0 1 connected 0\n", table[i].text);
        must_parse(&m, text, NULL);
        assert_int_equal(m.shards_n, table[i].host ? 1 : 0);
        if (table[i].host)
            check_node(&m.shards[0].master, A, table[i].host, table[i].port);
        cluster_free(&m);
    }
}

// {id, port, tls-port, ip, endpoint} of a node of CLUSTER SHARDS.
#define SHARDS(ports, endpoint)                                                                    \
    "*1\r\n*4\r\n+slots\r\n*2\r\n:0\r\n:16383\r\n+nodes\r\n*1\r\n*10\r\n+id\r\n+" A "\r\n" ports   \
    "+ip\r\n+10.9.9.9\r\n+endpoint\r\n" endpoint "+health\r\n+online\r\n"
#define PLAIN "+port\r\n:7001\r\n"

static void clients_go_where_the_shards_reply_says(void **state)
{
    (void)state;
    static const struct {
        const char *reply, *host;
        int port;
    } table[] = {
        {SHARDS(PLAIN, "+db.example\r\n"), "db.example", 7001},
        {SHARDS(PLAIN, "$-1\r\n"), "seed", 7001},
        {SHARDS(PLAIN, "$0\r\n\r\n"), "seed", 7001},
        {SHARDS(PLAIN, "+?\r\n"), "10.9.9.9", 7001},
        {SHARDS(PLAIN, "+no host\r\n"), "seed", 7001},
        {SHARDS("+port\r\n:0\r\n", "+h\r\n"), "h", 7000},
        {SHARDS("+port\r\n:70000\r\n", "+h\r\n"), "h", 7000},
        {SHARDS("+tls-port\r\n:7443\r\n", "+h\r\n"), "h", 7000},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct cluster_map m;
        must_parse(&m, WHOLE, table[i].reply);
        check_node(&m.shards[0].master, A, table[i].host, table[i].port);
        cluster_free(&m);
    }
}

static void who_came_by_tls_is_sent_to_tls_ports(void **state)
{
    (void)state;
    struct endpoint via = seed;
    struct cluster_map m;
    via.tls.enabled = true;
    assert_int_equal(parse(&m, WHOLE, SHARDS("+tls-port\r\n:7443\r\n", "+h\r\n"), &via), 0);
    check_node(&m.shards[0].master, A, "h", 7443);
    cluster_free(&m);
    assert_int_equal(parse(&m, WHOLE, SHARDS(PLAIN, "+h\r\n"), &via), 0);
    check_node(&m.shards[0].master, A, "h", 7001);
    cluster_free(&m);
}

static void a_node_reached_by_unix_socket_without_an_address_is_on_this_machine(void **state)
{
    (void)state;
    static char path[] = "/run/s";
    const struct endpoint via = {.path = path};
    struct cluster_map m;
    assert_int_equal(parse(&m, A " :7000@17000 myself,master - 0 0 0 connected 0", NULL, &via), 0);
    check_node(&m.shards[0].master, A, "127.0.0.1", 7000);
    cluster_free(&m);
}

static void the_rest_of_the_endpoint_is_the_seeds(void **state)
{
    (void)state;
    static char user[] = "u", password[] = "p", name[] = "cert", path[] = "/s", host[] = "h";
    const struct endpoint from = {.path = path,
                                  .user = user,
                                  .password = password,
                                  .db = 3,
                                  .tls = {.enabled = true, .server_name = name}};
    const struct cluster_node node = {.host = host, .port = 7};
    struct endpoint ep;
    cluster_endpoint(&ep, &node, &from);
    assert_string_equal(ep.host, "h");
    assert_int_equal(ep.port, 7);
    assert_null(ep.path);
    assert_string_equal(ep.user, "u");
    assert_string_equal(ep.password, "p");
    assert_string_equal(ep.tls.server_name, "cert");
    assert_true(ep.tls.enabled);
    assert_int_equal(ep.db, 0);
    endpoint_free(&ep);
}

#define TWO(marks_of_a, marks_of_b)                                                                \
    A " 10.0.0.1:1@2 myself,master - 0 0 1 connected 0-99" marks_of_a "\n" B                       \
      " 10.0.0.2:1@2 master - 0 0 2 connected 100-16383" marks_of_b "\n" C                         \
      " 10.0.0.3:1@2 slave " B " 0 0 2 connected\n"

static void a_move_marks_both_ends(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool a, b;
    } table[] = {
        {TWO("", ""), false, false},
        {TWO(" [93->-" B "]", ""), true, true},
        {TWO(" [193-<-" B "]", ""), true, true},
        {TWO("", " [193->-" C "]"), false, true},
        {TWO(" [93->-" D "]", ""), true, false},
        {TWO(" [", ""), false, false},
        {TWO(" []", ""), true, false},
        {TWO(" [93->-]", ""), true, false},
        {TWO(" [93->-" A B C "]", ""), true, false},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct cluster_map m;
        must_parse(&m, table[i].text, NULL);
        assert_int_equal(m.covered, CLUSTER_SLOTS);
        assert_int_equal(m.shards[0].migrating, table[i].a);
        assert_int_equal(m.shards[1].migrating, table[i].b);
        cluster_free(&m);
        // Another master is asked after the map was made.
        must_parse(&m, TWO("", ""), NULL);
        cluster_mark_moves(&m, slice_cstr(table[i].text));
        assert_int_equal(m.shards[0].migrating, table[i].a);
        assert_int_equal(m.shards[1].migrating, table[i].b);
        cluster_free(&m);
    }
}

static void what_contradicts_itself_gives_a_map_all_the_same(void **state)
{
    (void)state;
    static const struct {
        const char *nodes;
        size_t shards;
        int covered;
    } table[] = {
        {A " h:1@2 master - 0 0 1 c 0-10\n" B " h:2@2 master - 0 0 1 c 5-20\n", 2, 21},
        {A " h:1@2 master - 0 0 1 c 0-10\n" A " h:2@2 master - 0 0 1 c 0-10\n", 1, 11},
        {A " h:1@2 master - 0 0 1 c 10-0 -1 16384 0-16384 3-x 99999999999999999999 7\n", 1, 1},
        {A " h:1@2 slave " A " 0 0 1 c 0-10\n", 0, 0},
        {A " h:1@2 master,slave " A " 0 0 1 c 0\n", 1, 1},
        {A " h:1@2 master\n", 0, 0},
        {A A " h:1@2 master - 0 0 1 c 1\n" B " h:1@2 master - 0 0 1 c 2", 1, 1},
        {"\n\n" A "  h:1@2 master - 0 0 1 c 1\n\n" B " h:2@2 master - 0 0 1 c 2\n", 1, 1},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct cluster_map m;
        must_parse(&m, table[i].nodes, NULL);
        assert_int_equal(m.shards_n, table[i].shards);
        assert_int_equal(m.covered, table[i].covered);
        cluster_free(&m);
    }
}

static void what_is_no_list_of_nodes_is_an_error(void **state)
{
    (void)state;
    static const char no_space[] = A A " h:1 master";
    static const char *const table[] = {"", "\n", "OK", "<html>\n</html>\n", A, no_space};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct cluster_map m;
        assert_int_equal(parse(&m, table[i], NULL, &seed), ERR_PROTOCOL);
        cluster_free(&m);
    }
}

static void more_nodes_than_slots_are_refused(void **state)
{
    (void)state;
    struct buf text = {0};
    struct cluster_map m;
    for (int i = 0; i < CLUSTER_SLOTS; i++)
        buf_printf(&text, "n%d h:1@2 master - 0 0 1 c %d\n", i, i);
    must_parse(&m, buf_cstr(&text), NULL);
    assert_int_equal(m.shards_n, CLUSTER_SLOTS);
    for (int i = 0; i < CLUSTER_SLOTS; i++)
        assert_int_equal(m.owner[i], i);
    cluster_free(&m);
    buf_append_cstr(&text, "more h:1@2 master - 0 0 1 c\n");
    assert_int_equal(parse(&m, buf_cstr(&text), NULL, &seed), ERR_PROTOCOL);
    cluster_free(&m);
    buf_free(&text);
}

static void a_shards_reply_of_another_form_changes_nothing(void **state)
{
    (void)state;
    static const char *const table[] = {
        "*0\r\n",
        "+OK\r\n",
        ":5\r\n",
        "*-1\r\n",
        "*2\r\n+nodes\r\n*1\r\n+id\r\n",
        "*1\r\n*1\r\n+nodes\r\n",
        "*1\r\n*2\r\n+nodes\r\n*1\r\n*3\r\n+port\r\n:9\r\n+id\r\n",
        "*1\r\n*2\r\n+nodes\r\n*1\r\n*2\r\n*2\r\n+id\r\n+id\r\n+" A "\r\n",
        "*1\r\n*2\r\n+nodes\r\n*1\r\n*4\r\n+id\r\n*1\r\n+" A "\r\n+port\r\n:9\r\n",
        "*1\r\n*2\r\n+nodes\r\n*1\r\n*4\r\n+id\r\n+" B "\r\n+port\r\n:9\r\n",
        "*1\r\n*2\r\n*2\r\n+nodes\r\n*1\r\n*4\r\n+id\r\n+" A "\r\n+port\r\n:9\r\n+x\r\n",
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct cluster_map m;
        must_parse(&m, WHOLE, table[i]);
        check_node(&m.shards[0].master, A, "10.0.0.1", 7000);
        cluster_free(&m);
    }
}

static void a_shards_reply_may_be_of_maps_and_have_more_in_it(void **state)
{
    (void)state;
    struct cluster_map m;
    must_parse(&m, WHOLE,
               "*1\r\n%3\r\n+new\r\n%1\r\n*1\r\n+a\r\n*2\r\n:1\r\n*0\r\n+nodes\r\n*1\r\n%4\r\n+tags"
               "\r\n*2\r\n+x\r\n+y\r\n+port\r\n:9\r\n+id\r\n+" A
               "\r\n+endpoint\r\n+h\r\n+slots\r\n*0\r\n");
    check_node(&m.shards[0].master, A, "h", 9);
    cluster_free(&m);
}

static void nobody_to_ask_is_an_error(void **state)
{
    (void)state;
    struct cluster_map m;
    struct err e = {0};
    assert_int_equal(cluster_find(&m, NULL, 0, 1, &e), ERR_CONFIG);
    assert_int_equal(e.code, ERR_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_are_in_the_order_of_their_slots_with_their_replicas),
        cmocka_unit_test(nodes_without_slots_or_address_are_left_out),
        cmocka_unit_test(addresses_are_read_in_every_form),
        cmocka_unit_test(clients_go_where_the_shards_reply_says),
        cmocka_unit_test(who_came_by_tls_is_sent_to_tls_ports),
        cmocka_unit_test(a_node_reached_by_unix_socket_without_an_address_is_on_this_machine),
        cmocka_unit_test(the_rest_of_the_endpoint_is_the_seeds),
        cmocka_unit_test(a_move_marks_both_ends),
        cmocka_unit_test(what_contradicts_itself_gives_a_map_all_the_same),
        cmocka_unit_test(what_is_no_list_of_nodes_is_an_error),
        cmocka_unit_test(more_nodes_than_slots_are_refused),
        cmocka_unit_test(a_shards_reply_of_another_form_changes_nothing),
        cmocka_unit_test(a_shards_reply_may_be_of_maps_and_have_more_in_it),
        cmocka_unit_test(nobody_to_ask_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

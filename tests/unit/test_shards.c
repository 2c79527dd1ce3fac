// SPDX-License-Identifier: Apache-2.0
// Shards are known again by their nodes: over failovers, restarts, and when they come and go.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "control/shards.h"

static const char *const ids[] = {
    "0000000000000000000000000000000000000000", "1111111111111111111111111111111111111111",
    "2222222222222222222222222222222222222222", "3333333333333333333333333333333333333333",
    "4444444444444444444444444444444444444444", "5555555555555555555555555555555555555555",
};

static void set_node(struct cluster_node *n, int id)
{
    *n = (struct cluster_node){.host = xstrdup("h"), .port = (uint16_t)(7000 + id)};
    memcpy(n->id, ids[id], sizeof(n->id));
}

// A shard is "01": master 0, replica 1; shards are separated by blanks.
static struct cluster_map map_of(const char *text, int covered)
{
    struct cluster_map m = {.covered = covered};
    m.shards = xcalloc(strlen(text) + 1, sizeof(*m.shards));
    for (const char *p = text; *p; p += *p == ' ') {
        struct cluster_shard *s = &m.shards[m.shards_n++];
        s->slots = 1;
        set_node(&s->master, *p++ - '0');
        s->replicas = xcalloc(8, sizeof(*s->replicas));
        while (*p && *p != ' ')
            set_node(&s->replicas[s->replicas_n++], *p++ - '0');
    }
    return m;
}

static void take(struct shards *s, const char *text, int covered)
{
    struct cluster_map m = map_of(text, covered);
    shards_take(s, &m);
    cluster_free(&m);
}

static struct endpoint seed = {.host = (char[]){"h"}, .port = 7000};

static struct shards *new_shards(const char *path)
{
    struct shards_options o = {.seeds = &seed, .seeds_n = 1, .names_path = path, .timeout_ms = 100};
    return shards_new(&o);
}

// "name@master " of the shards that are here, in the order they were first seen.
static const char *here(struct shards *s)
{
    static char out[1000];
    struct shard **v;
    size_t n = shards_list(s, &v), used = 0;
    out[0] = 0;
    for (size_t i = 0; i < n; i++) {
        char master[300];
        shard_master(v[i], master, sizeof(master));
        if (shard_is_here(v[i]))
            used += (size_t)snprintf(out + used, sizeof(out) - used, "%.8s%s@%s ", shard_name(v[i]),
                                     shard_name(v[i]) + strlen("shard-") + 11, master);
    }
    free(v);
    return out;
}

static void a_failover_leaves_the_shard_what_it_is(void **state)
{
    (void)state;
    struct shards *s = new_shards(NULL);
    take(s, "01 23", CLUSTER_SLOTS);
    assert_string_equal(here(s), "shard-000@h:7000 shard-222@h:7002 ");
    take(s, "10 23", CLUSTER_SLOTS);
    assert_string_equal(here(s), "shard-000@h:7001 shard-222@h:7002 ");
    // The dead master is in no shard meanwhile, and back when its successor has gone.
    take(s, "1 23", CLUSTER_SLOTS);
    take(s, "0 23", CLUSTER_SLOTS);
    assert_string_equal(here(s), "shard-000@h:7000 shard-222@h:7002 ");
    shards_free(s);
}

static void a_shard_has_gone_when_two_whole_looks_miss_it(void **state)
{
    (void)state;
    struct shards *s = new_shards(NULL);
    take(s, "0 1 2", CLUSTER_SLOTS);
    take(s, "0 1", CLUSTER_SLOTS);
    assert_true(shards_unsettled(s, NULL));
    assert_string_equal(here(s), "shard-000@h:7000 shard-111@h:7001 shard-222@h:7002 ");
    take(s, "0 1", CLUSTER_SLOTS);
    assert_false(shards_unsettled(s, NULL));
    assert_string_equal(here(s), "shard-000@h:7000 shard-111@h:7001 ");
    take(s, "0 1 2", CLUSTER_SLOTS);
    assert_string_equal(here(s), "shard-000@h:7000 shard-111@h:7001 shard-222@h:7002 ");
    shards_free(s);
}

static void an_answer_that_lacks_slots_takes_no_shard_away(void **state)
{
    (void)state;
    struct shards *s = new_shards(NULL);
    take(s, "0 1 2", CLUSTER_SLOTS);
    take(s, "0 1", 10000);
    take(s, "0 1 2", CLUSTER_SLOTS);
    take(s, "0 1", 10000);
    take(s, "0 1 2", CLUSTER_SLOTS);
    assert_string_equal(here(s), "shard-000@h:7000 shard-111@h:7001 shard-222@h:7002 ");
    shards_free(s);
}

static void a_replica_that_moved_and_was_promoted_belongs_to_where_it_was_last(void **state)
{
    (void)state;
    struct shards *s = new_shards(NULL);
    take(s, "012 3", CLUSTER_SLOTS);
    take(s, "01 32", CLUSTER_SLOTS);
    take(s, "01 2", CLUSTER_SLOTS);
    assert_string_equal(here(s), "shard-000@h:7000 shard-333@h:7002 ");
    // An emptied master becomes a replica of the heir, and later founds a shard of its own.
    take(s, "012", CLUSTER_SLOTS);
    take(s, "012", CLUSTER_SLOTS);
    take(s, "01 2", CLUSTER_SLOTS);
    assert_string_equal(here(s), "shard-000@h:7000 shard-222@h:7002 ");
    shards_free(s);
}

static void a_name_that_is_taken_is_not_given_twice(void **state)
{
    (void)state;
    struct shards *s = new_shards(NULL);
    take(s, "01 3", CLUSTER_SLOTS);
    take(s, "1 03", CLUSTER_SLOTS);
    take(s, "1 3 0", CLUSTER_SLOTS);
    assert_string_equal(here(s), "shard-000@h:7001 shard-333@h:7003 shard-000-2@h:7000 ");
    shards_free(s);
}

static void any_node_of_a_shard_names_it(void **state)
{
    (void)state;
    struct shards *s = new_shards(NULL);
    struct shard **v;
    take(s, "01 2", CLUSTER_SLOTS);
    size_t n = shards_list(s, &v);
    assert_int_equal(n, 2);
    assert_true(shard_has_address(v[0], SLICE("h:7001")));
    assert_true(shard_has_address(v[0], SLICE("h:7000")));
    assert_false(shard_has_address(v[1], SLICE("h:7001")));
    take(s, "0 2", CLUSTER_SLOTS);
    assert_false(shard_has_address(v[0], SLICE("h:7001")));
    free(v);
    shards_free(s);
}

static void names_are_kept_over_a_restart_and_a_failover(void **state)
{
    (void)state;
    char dir[] = "/tmp/test_shards.XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *path = xasprintf("%s/shards", dir);
    struct shards *s = new_shards(path);
    take(s, "01 23", CLUSTER_SLOTS);
    shards_free(s);
    s = new_shards(path);
    take(s, "3 1", CLUSTER_SLOTS);
    assert_string_equal(here(s), "shard-222@h:7003 shard-000@h:7001 ");
    shards_free(s);
    unlink(path);
    rmdir(dir);
    free(path);
}

static void a_file_of_others_is_left_alone(void **state)
{
    (void)state;
    char path[] = "/tmp/test_shards.XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "my notes\n", 9), 9);
    close(fd);
    struct shard_names *names;
    struct shard_nodes nodes = {.n = 0};
    struct err e = {0};
    assert_int_equal(shard_names_load(&names, path, &e), ERR_CORRUPT);
    shard_nodes_add(&nodes, ids[0]);
    shard_names_put(names, "shard-0", &nodes);
    assert_string_equal(shard_names_find(names, &nodes), "shard-0");
    assert_int_equal(shard_names_save(names, &e), 0);
    shard_names_free(names);
    char text[20] = "";
    FILE *f = fopen(path, "r");
    assert_int_equal(fread(text, 1, sizeof(text), f), 9);
    fclose(f);
    assert_string_equal(text, "my notes\n");
    unlink(path);
}

static void bad_lists_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "gunyu shards 1",
        "gunyu shards 2\n",
        "gunyu shards 1\nshard-0\n",
        "gunyu shards 1\nshard-0 \n",
        "gunyu shards 1\n\n",
        "gunyu shards 1\nshard-0 0000\n",
        "gunyu shards 1\n../etc 0000000000000000000000000000000000000000\n",
        "gunyu shards 1\nshard/0 0000000000000000000000000000000000000000\n",
        "gunyu shards 1\nshard-0 000000000000000000000000000000000000000G\n",
        "gunyu shards 1\nshard-0 0000000000000000000000000000000000000000",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct shard_names *names;
        struct err e = {0};
        assert_int_equal(shard_names_load(&names, NULL, &e), 0);
        assert_int_equal(shard_names_parse(names, slice_cstr(bad[i]), &e), ERR_CORRUPT);
        shard_names_free(names);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failover_leaves_the_shard_what_it_is),
        cmocka_unit_test(a_shard_has_gone_when_two_whole_looks_miss_it),
        cmocka_unit_test(an_answer_that_lacks_slots_takes_no_shard_away),
        cmocka_unit_test(a_replica_that_moved_and_was_promoted_belongs_to_where_it_was_last),
        cmocka_unit_test(a_name_that_is_taken_is_not_given_twice),
        cmocka_unit_test(any_node_of_a_shard_names_it),
        cmocka_unit_test(names_are_kept_over_a_restart_and_a_failover),
        cmocka_unit_test(a_file_of_others_is_left_alone),
        cmocka_unit_test(bad_lists_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

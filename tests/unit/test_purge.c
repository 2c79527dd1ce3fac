// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "ask.h"
#include "redis_fixture.h"
#include "target/purge.h"

static struct redis_fixture server;
static struct purge_scope scope;
static atomic_bool cancel;

static int start(void **state)
{
    (void)state;
    return redis_fixture_start(&server, NULL) ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    redis_fixture_stop(&server);
    return 0;
}

static int64_t ask(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct redis_reply r = ask_args(server.client, fmt, ap);
    va_end(ap);
    return r.root.num;
}

static int setup(void **state)
{
    (void)state;
    ask("FLUSHALL");
    ask("SELECT 0");
    scope = (struct purge_scope){.db = -1};
    cancel = false;
    return 0;
}

static void take_slot(const char *key)
{
    int slot = slot_of(slice_cstr(key));
    scope.slots[slot >> 3] |= (uint8_t)(1 << (slot & 7));
}

static bool has(int db, const char *key)
{
    return purge_has_key(&scope, db, slice_cstr(key));
}

static void keys_go_by_slot(void **state)
{
    (void)state;
    take_slot("a");
    assert_true(has(0, "a"));
    assert_true(has(7, "{a}b"));
    assert_false(has(0, "b"));
}

static void what_the_sync_keeps_there_stays(void **state)
{
    (void)state;
    memset(scope.slots, 0xff, sizeof(scope.slots));
    assert_true(has(0, "gunyu"));
    assert_false(has(0, "gunyu:position:0123"));
    assert_false(has(0, "gunyu:mark:1:{a}"));
}

static void dbs_are_those_that_the_source_goes_into(void **state)
{
    (void)state;
    static const int map[] = {4, 4, 2};
    memset(scope.slots, 0xff, sizeof(scope.slots));
    scope.dbs = (struct rewrite_dbs){.map = map, .map_n = 3};
    for (int db = 0; db < 7; db++)
        assert_int_equal(purge_has_db(&scope, db), db >= 2);
    scope.db = 1;
    for (int db = 0; db < 7; db++)
        assert_int_equal(purge_has_db(&scope, db), db == 4);
    assert_true(has(4, "a"));
    assert_false(has(2, "a"));
    scope.dbs = (struct rewrite_dbs){.forced = true, .forced_db = 9};
    for (int from = -1; from < 2; from++) {
        scope.db = from;
        for (int db = 0; db < 12; db++)
            assert_int_equal(purge_has_db(&scope, db), db == 9);
        assert_true(has(9, "a"));
    }
}

static void a_key_stays_that_no_db_of_the_source_may_send(void **state)
{
    (void)state;
    char prefix[] = "theirs:", *prefixes[] = {prefix};
    static const int64_t dbs[] = {0};
    static const int map[] = {5, 5};
    struct filter_rules rules = {.prefix_blacklist = {prefixes, 1}, .db_blacklist = {dbs, 1}};
    struct filter *f;
    struct err e;
    assert_int_equal(filter_new(&f, &rules, &e), 0);
    memset(scope.slots, 0xff, sizeof(scope.slots));
    scope.filter = f;
    assert_false(has(0, "a"));
    assert_true(has(1, "a"));
    assert_false(has(1, "theirs:a"));
    scope.dbs = (struct rewrite_dbs){.map = map, .map_n = 2};
    assert_true(has(5, "a")); // db 1's
    scope.db = 0;
    assert_false(has(5, "a"));
    filter_free(f);
}

static uint64_t purge(void)
{
    struct purge_options o = {.scope = &scope, .unlink = true, .cancel = &cancel};
    struct purge_result found = {0};
    struct err e;
    if (purge_run(server.client, &o, &found, &e))
        fail_msg("%s", e.msg);
    return found.found;
}

static void fill(int db, int n)
{
    ask("SELECT %d", db);
    for (int i = 0; i < n; i++)
        ask("SET key:%d x", i);
}

static int in_slots(int n)
{
    int found = 0;
    char key[32];
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "key:%d", i);
        found += has(0, key);
    }
    return found;
}

static void a_server_loses_the_keys_of_the_slots_in_all_dbs(void **state)
{
    (void)state;
    memset(scope.slots, 0xff, sizeof(scope.slots) / 2);
    fill(0, 3000);
    ask("SET gunyu:position:x 1");
    fill(3, 500);
    int gone = in_slots(3000), gone3 = in_slots(500);
    assert_true(gone > 1000 && gone < 2000);
    assert_int_equal(purge(), gone + gone3);
    ask("SELECT 3");
    assert_int_equal(ask("DBSIZE"), 500 - gone3);
    ask("SELECT 0");
    assert_int_equal(ask("DBSIZE"), 3001 - gone);
    assert_int_equal(purge(), 0);
}

static bool is_even(void *ctx, int target_db, struct slice key)
{
    uint64_t *seen = ctx;
    ++*seen;
    return target_db == 3 && (key.p[key.n - 1] - '0') % 2 == 0;
}

static void what_is_kept_stays_and_is_not_counted(void **state)
{
    (void)state;
    uint64_t seen = 0;
    memset(scope.slots, 0xff, sizeof(scope.slots));
    fill(0, 40);
    fill(3, 40);
    struct purge_options o = {.scope = &scope, .cancel = &cancel, .keeps = is_even, .ctx = &seen};
    struct purge_result r = {0};
    struct err e;
    assert_int_equal(purge_run(server.client, &o, &r, &e), 0);
    assert_int_equal(seen, 80);
    assert_int_equal(r.found, 60);
    assert_int_equal(r.deleted, 60);
    ask("SELECT 0");
    assert_int_equal(ask("DBSIZE"), 0);
    ask("SELECT 3");
    assert_int_equal(ask("DBSIZE"), 20);
}

static bool cancel_and_keep_none(void *ctx, int target_db, struct slice key)
{
    (void)ctx, (void)target_db, (void)key;
    cancel = true;
    return false;
}

static void it_ends_when_it_is_cancelled(void **state)
{
    (void)state;
    memset(scope.slots, 0xff, sizeof(scope.slots));
    fill(0, 3000);
    struct purge_options o = {.scope = &scope, .cancel = &cancel, .keeps = cancel_and_keep_none};
    struct purge_result found = {0};
    struct redis_client *c;
    struct err e;
    assert_int_equal(redis_connect(&c, &server.endpoint, 5000, &e), 0);
    assert_int_equal(purge_run(c, &o, &found, &e), ERR_CLOSED);
    redis_close(c);
    assert_in_range(found.found, 1, 2999);
}

static void an_error_is_told_in_the_servers_words(void **state)
{
    (void)state;
    memset(scope.slots, 0xff, sizeof(scope.slots));
    fill(0, 5);
    ask("ACL SETUSER default -unlink");
    struct purge_options o = {.scope = &scope, .unlink = true, .cancel = &cancel};
    struct purge_result found = {0};
    struct err e;
    struct redis_client *c;
    assert_int_equal(redis_connect(&c, &server.endpoint, 5000, &e), 0);
    assert_int_equal(purge_run(c, &o, &found, &e), ERR_REPLY);
    assert_memory_equal(e.msg, "NOPERM", 6);
    redis_close(c);
    ask("ACL SETUSER default +unlink -scan");
    assert_int_equal(purge_run(server.client, &o, &found, &e), ERR_REPLY);
    assert_memory_equal(e.msg, "NOPERM", 6);
    ask("ACL SETUSER default +scan");
}

int main(void)
{
#define PURGE_TEST(f) cmocka_unit_test_setup(f, setup)
    const struct CMUnitTest tests[] = {
        PURGE_TEST(keys_go_by_slot),
        PURGE_TEST(what_the_sync_keeps_there_stays),
        PURGE_TEST(dbs_are_those_that_the_source_goes_into),
        PURGE_TEST(a_key_stays_that_no_db_of_the_source_may_send),
        PURGE_TEST(a_server_loses_the_keys_of_the_slots_in_all_dbs),
        PURGE_TEST(what_is_kept_stays_and_is_not_counted),
        PURGE_TEST(it_ends_when_it_is_cancelled),
        PURGE_TEST(an_error_is_told_in_the_servers_words),
    };
    return cmocka_run_group_tests(tests, start, stop);
}

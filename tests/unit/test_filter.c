// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "codec/slot.h"
#include "flow/filter.h"

#define ARGS_MAX 32
#define NAMES(...)                                                                                 \
    (struct filter_names)                                                                          \
    {                                                                                              \
        (char *const *)(uintptr_t)(const char *const[]){__VA_ARGS__},                              \
            sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)                            \
    }
#define DBS(...)                                                                                   \
    (struct filter_dbs)                                                                            \
    {                                                                                              \
        (int64_t[]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)               \
    }

static struct filter *make(struct filter_rules rules)
{
    struct filter *f = NULL;
    struct err e = {0};
    if (filter_new(&f, &rules, &e) != 0)
        fail_msg("%s", e.msg);
    return f;
}

// "pass", the reason of a drop, or the projected command in brackets.
static void expect(const struct filter *f, int db, const char *command, const char *want)
{
    struct slice argv[ARGS_MAX];
    int argc = 0;
    for (const char *p = command;; p++) {
        size_t n = strcspn(p, " ");
        argv[argc++] = slice_make(p, n);
        p += n;
        if (*p == '\0')
            break;
    }
    struct filter_scratch s = {0};
    struct buf out = {0};
    const struct cmd_info *info = cmd_lookup(argc, argv);
    switch (filter_command(f, db, info, argc, argv, &s)) {
    case FILTER_PASS:
        buf_append_cstr(&out, "pass");
        break;
    case FILTER_DROP:
        buf_append_cstr(&out, filter_reason_name(s.reason));
        break;
    case FILTER_PROJECT:
        assert_ptr_equal(s.info, cmd_lookup(s.argc, s.argv));
        for (int i = 0; i < s.argc; i++) {
            buf_append_char(&out, i ? ' ' : '[');
            buf_append_slice(&out, s.argv[i]);
        }
        buf_append_char(&out, ']');
        break;
    }
    if (strcmp(buf_cstr(&out), want) != 0)
        fail_msg("%s: %s, not %s", command, buf_cstr(&out), want);
    buf_free(&out);
    filter_scratch_free(&s);
}

static void without_rules_only_bookkeeping_and_server_commands_are_dropped(void **state)
{
    (void)state;
    struct filter *f = make((struct filter_rules){0});
    assert_true(filter_is_trivial(f, 0));
    expect(f, 0, "set k v", "pass");
    expect(f, 5, "eval s 0", "pass");
    expect(f, 0, "nosuch a b", "pass");
    expect(f, 0, "multi", "pass");
    expect(f, 0, "select 3", "pass");
    expect(f, 0, "config set a b", "admin");
    expect(f, 0, "ping", "admin");
    expect(f, 0, "migrate h 1 k 0 9", "admin");
    expect(f, 0, "publish __sentinel__:hello x", "admin");
    expect(f, 0, "publish news x", "pass");
    expect(f, 0, "hset redis-gunyu-checkpoint x y", "key");
    expect(f, 0, "hset redis-gunyu-checkpoint-hash x y", "key");
    expect(f, 0, "set /redis-gunyu/leader x", "key");
    expect(f, 0, "set redis-gunyu-bisync:a:marker:{x} 1", "key");
    expect(f, 0, "set gunyu:position:abc x", "key");
    expect(f, 0, "set gunyu:other x", "pass");
    expect(f, 0, "set redis-gunyu x", "pass");
    expect(f, 0, "set r x", "pass");
    expect(f, 0, "del gunyu:position:abc k", "[del k]");
    assert_true(filter_key(f, 3, SLICE("k")));
    assert_true(filter_key(f, 3, SLICE("")));
    assert_false(filter_key(f, 0, SLICE("gunyu:position:abc")));
    filter_free(f);
}

// A source that is itself a target builds big keys aside.
static void a_temporary_key_and_its_rename_pass_together(void **state)
{
    (void)state;
    struct filter *f = make((struct filter_rules){0});
    expect(f, 0, "rpush gunyu:tmp:a:1 v", "pass");
    expect(f, 0, "rename gunyu:tmp:a:1 list", "pass");
    filter_free(f);
}

static void dbs_are_black_and_white(void **state)
{
    (void)state;
    struct filter *f = make((struct filter_rules){.db_blacklist = DBS(2, 7)});
    expect(f, 2, "set k v", "db");
    expect(f, 7, "nosuch k", "db");
    expect(f, 0, "set k v", "pass");
    assert_false(filter_key(f, 2, SLICE("k")));
    assert_true(filter_key(f, 1, SLICE("k")));
    assert_true(filter_is_trivial(f, 1));
    assert_false(filter_is_trivial(f, 2));
    filter_free(f);
    f = make((struct filter_rules){.db_whitelist = DBS(0, 1), .db_blacklist = DBS(1)});
    expect(f, 0, "set k v", "pass");
    expect(f, 1, "set k v", "db");
    expect(f, 2, "set k v", "db");
    filter_free(f);
}

static void what_belongs_to_no_db_passes_the_db_rules(void **state)
{
    (void)state;
    struct filter *f = make((struct filter_rules){.db_blacklist = DBS(2)});
    expect(f, 2, "select 0", "pass");
    expect(f, 2, "exec", "pass");
    expect(f, 2, "function load x", "pass");
    expect(f, 2, "script load x", "pass");
    expect(f, 2, "flushall", "pass");
    expect(f, 2, "publish c m", "pass");
    expect(f, 2, "flushdb", "db");
    filter_free(f);
}

static void commands_that_name_another_db_are_judged_by_it(void **state)
{
    (void)state;
    struct filter *f = make((struct filter_rules){.db_blacklist = DBS(2)});
    expect(f, 0, "swapdb 0 1", "pass");
    expect(f, 2, "swapdb 0 1", "pass");
    expect(f, 0, "swapdb 2 1", "db");
    expect(f, 0, "swapdb 0 2", "db");
    expect(f, 0, "copy a b db 2", "db");
    expect(f, 0, "copy a b replace DB 1", "pass");
    expect(f, 0, "copy a b", "pass");
    expect(f, 0, "move k 1", "pass");
    expect(f, 0, "move k 2", "[DEL k]");
    expect(f, 2, "move k 1", "db");
    expect(f, 0, "move k", "pass");
    expect(f, 0, "swapdb x", "pass");
    filter_free(f);
}

static void commands_are_dropped_by_name_and_subcommand(void **state)
{
    (void)state;
    struct filter *f = make((struct filter_rules){
        .command_blacklist = NAMES("FLUSHALL", "xgroup-create", "Script Load", "function",
                                   "restore-asking", "tair.set")});
    assert_false(filter_is_trivial(f, 0));
    expect(f, 0, "flushall", "command");
    expect(f, 0, "flushdb", "pass");
    expect(f, 0, "XGROUP CREATE s g $", "command");
    expect(f, 0, "xgroup destroy s g", "pass");
    expect(f, 0, "script load x", "command");
    expect(f, 0, "script flush", "pass");
    expect(f, 0, "function load x", "command");
    expect(f, 0, "function flush", "command");
    expect(f, 0, "restore-asking k 0 x", "command");
    expect(f, 0, "restore k 0 x", "pass");
    expect(f, 0, "TAIR.SET k v", "command");
    expect(f, 0, "other.set k v", "pass");
    assert_string_equal(filter_unknown_command(f, 0), "tair.set");
    assert_null(filter_unknown_command(f, 1));
    filter_free(f);
}

static void a_whitelist_of_commands_and_groups_drops_the_rest(void **state)
{
    (void)state;
    struct filter *f = make((struct filter_rules){.command_whitelist = NAMES("set", "my.cmd"),
                                                  .group_whitelist = NAMES("sorted-set", "HASH"),
                                                  .command_blacklist = NAMES("zincrby")});
    expect(f, 0, "set k v", "pass");
    expect(f, 0, "hset h f v", "pass");
    expect(f, 0, "zadd z 1 a", "pass");
    expect(f, 0, "zincrby z 1 a", "command");
    expect(f, 0, "del k", "command");
    expect(f, 0, "my.cmd k", "pass");
    expect(f, 0, "your.cmd k", "command");
    expect(f, 0, "multi", "pass");
    expect(f, 0, "exec", "pass");
    expect(f, 0, "select 1", "pass");
    filter_free(f);
    f = make((struct filter_rules){.group_blacklist = NAMES("string", "scripting")});
    expect(f, 0, "incr k", "command");
    expect(f, 0, "eval s 0", "command");
    expect(f, 0, "sadd s a", "pass");
    filter_free(f);
}

static void an_unknown_group_or_slot_is_an_error(void **state)
{
    (void)state;
    struct filter *f = NULL;
    struct err e = {0};
    assert_int_equal(
        filter_new(&f, &(struct filter_rules){.group_blacklist = NAMES("strings")}, &e),
        ERR_CONFIG);
    assert_non_null(strstr(e.msg, "\"strings\""));
    struct filter_slot_range bad[] = {{0, 16384}}, backward[] = {{5, 4}};
    assert_int_equal(filter_new(&f, &(struct filter_rules){.slot_blacklist = {bad, 1}}, &e),
                     ERR_CONFIG);
    assert_int_equal(filter_new(&f, &(struct filter_rules){.slot_blacklist = {backward, 1}}, &e),
                     ERR_CONFIG);
}

static void prefixes_are_black_and_white(void **state)
{
    (void)state;
    struct filter *f =
        make((struct filter_rules){.prefix_whitelist = NAMES("user:", "order:", "user:1", "a"),
                                   .prefix_blacklist = NAMES("user:9", "order:")});
    expect(f, 0, "set user:1 v", "pass");
    expect(f, 0, "set user:12 v", "pass");
    expect(f, 0, "set user:91 v", "key");
    expect(f, 0, "set order:1 v", "key");
    expect(f, 0, "set user v", "key");
    expect(f, 0, "set a v", "pass");
    expect(f, 0, "set abc v", "pass");
    expect(f, 0, "set b v", "key");
    expect(f, 0, "set User:1 v", "key");
    assert_true(filter_key(f, 0, SLICE("user:5")));
    assert_false(filter_key(f, 0, SLICE("user:9")));
    assert_false(filter_key(f, 0, SLICE("")));
    filter_free(f);
    f = make((struct filter_rules){.prefix_whitelist = NAMES("")});
    expect(f, 0, "set anything v", "pass");
    assert_true(filter_key(f, 0, SLICE("")));
    filter_free(f);
}

static void a_prefix_is_found_whatever_stands_between_it_and_the_key(void **state)
{
    (void)state;
    struct filter *f =
        make((struct filter_rules){.prefix_blacklist = NAMES("k", "k1", "k5", "l", "k2:")});
    expect(f, 0, "set k9 v", "key");
    expect(f, 0, "set k v", "key");
    expect(f, 0, "set l2 v", "key");
    expect(f, 0, "set j v", "pass");
    filter_free(f);
}

static void commands_that_split_are_projected_and_others_dropped_whole(void **state)
{
    (void)state;
    struct filter *f = make((struct filter_rules){.prefix_blacklist = NAMES("x")});
    expect(f, 0, "del a x1 b x2", "[del a b]");
    expect(f, 0, "UNLINK x1 b", "[UNLINK b]");
    expect(f, 0, "touch x a", "[touch a]");
    expect(f, 0, "mset a 1 x 2 b x3", "[mset a 1 b x3]");
    expect(f, 0, "json.mset a $ 1 x $ 2", "[json.mset a $ 1]");
    expect(f, 0, "del x1 x2", "key");
    expect(f, 0, "mset x 1", "key");
    expect(f, 0, "mset a 1 x", "partial");
    expect(f, 0, "msetnx a 1 x 2", "partial");
    expect(f, 0, "rename a x", "partial");
    expect(f, 0, "sunionstore a b x", "partial");
    expect(f, 0, "eval s 2 a x", "partial");
    expect(f, 0, "eval s 1 a x", "pass");
    expect(f, 0, "sort a store x", "partial");
    expect(f, 0, "set a", "pass");
    filter_free(f);
}

static void bug_18_overlapping_slot_ranges_hold(void **state)
{
    (void)state;
    unsigned a = (unsigned)slot_of(SLICE("a"));
    struct filter_slot_range ranges[] = {{(uint16_t)(a - 10), (uint16_t)(a + 500)},
                                         {(uint16_t)(a - 5), (uint16_t)(a - 4)},
                                         {(uint16_t)(a - 8), (uint16_t)(a - 8)}};
    struct filter *f = make((struct filter_rules){.slot_blacklist = {ranges, 3}});
    expect(f, 0, "set a v", "slot");
    expect(f, 0, "set {a}b{c} v", "slot");
    expect(f, 0, "set b v", "pass");
    filter_free(f);
    f = make((struct filter_rules){.slot_whitelist = {ranges, 3}});
    expect(f, 0, "set a v", "pass");
    expect(f, 0, "set b v", "slot");
    expect(f, 0, "del a b", "[del a]");
    assert_true(filter_key(f, 0, SLICE("a")));
    assert_false(filter_key(f, 0, SLICE("b")));
    filter_free(f);
    struct filter_slot_range all[] = {{0, 16383}}, one[] = {{(uint16_t)a, (uint16_t)a}};
    f = make((struct filter_rules){.slot_whitelist = {all, 1}, .slot_blacklist = {one, 1}});
    expect(f, 0, "set a v", "slot");
    expect(f, 0, "set b v", "pass");
    filter_free(f);
}

static void bug_28_functions_and_scripts_are_not_subject_to_key_rules(void **state)
{
    (void)state;
    struct filter_slot_range one[] = {{1, 1}};
    struct filter *f =
        make((struct filter_rules){.prefix_whitelist = NAMES("user:"), .slot_whitelist = {one, 1}});
    expect(f, 0, "function load x", "pass");
    expect(f, 0, "script load x", "pass");
    expect(f, 0, "flushall", "pass");
    expect(f, 0, "eval s 0 x", "pass");
    expect(f, 0, "publish c m", "pass");
    filter_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_rules_only_bookkeeping_and_server_commands_are_dropped),
        cmocka_unit_test(a_temporary_key_and_its_rename_pass_together),
        cmocka_unit_test(dbs_are_black_and_white),
        cmocka_unit_test(what_belongs_to_no_db_passes_the_db_rules),
        cmocka_unit_test(commands_that_name_another_db_are_judged_by_it),
        cmocka_unit_test(commands_are_dropped_by_name_and_subcommand),
        cmocka_unit_test(a_whitelist_of_commands_and_groups_drops_the_rest),
        cmocka_unit_test(an_unknown_group_or_slot_is_an_error),
        cmocka_unit_test(prefixes_are_black_and_white),
        cmocka_unit_test(a_prefix_is_found_whatever_stands_between_it_and_the_key),
        cmocka_unit_test(commands_that_split_are_projected_and_others_dropped_whole),
        cmocka_unit_test(bug_18_overlapping_slot_ranges_hold),
        cmocka_unit_test(bug_28_functions_and_scripts_are_not_subject_to_key_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

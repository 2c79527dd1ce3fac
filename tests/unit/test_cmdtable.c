// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/buf.h"
#include "codec/cmdtable.h"

#define ARGS_MAX 32

// Splits text at spaces; "''" is an empty argument.
static int split(const char *text, struct slice *argv)
{
    int argc = 0;
    for (const char *p = text;;) {
        size_t n = strcspn(p, " ");
        assert_true(argc < ARGS_MAX);
        argv[argc] = slice_make(p, n);
        if (slice_eq(argv[argc], SLICE("''")))
            argv[argc].n = 0;
        argc++;
        if (p[n] == '\0')
            return argc;
        p += n + 1;
    }
}

static const struct cmd_info *look_up(const char *text)
{
    struct slice argv[ARGS_MAX];
    return cmd_lookup(split(text, argv), argv);
}

static void expect_keys(const char *text, const char *want)
{
    struct slice argv[ARGS_MAX];
    int pos[ARGS_MAX];
    struct buf out = {0};
    int argc = split(text, argv);
    const struct cmd_info *info = cmd_lookup(argc, argv);
    assert_non_null(info);
    int n = cmd_keys(info, argc, argv, pos);
    if (n < 0)
        buf_append_cstr(&out, "!");
    for (int i = 0; i < n; i++) {
        buf_append_cstr(&out, i ? " " : "");
        buf_append_slice(&out, argv[pos[i]]);
    }
    if (strcmp(buf_cstr(&out), want) != 0)
        fail_msg("%s: keys \"%s\", not \"%s\"", text, buf_cstr(&out), want);
    buf_free(&out);
}

static bool blind(const char *text)
{
    struct slice argv[ARGS_MAX];
    int argc = split(text, argv);
    const struct cmd_info *info = cmd_lookup(argc, argv);
    assert_non_null(info);
    return cmd_is_blind(info, argc, argv);
}

static void names_are_found_in_any_case_and_containers_resolve(void **state)
{
    (void)state;
    assert_string_equal(look_up("SeT k v")->name, "set");
    assert_string_equal(look_up("XGROUP Create s g $")->name, "xgroup|create");
    assert_string_equal(look_up("xgroup nosuch s g")->name, "xgroup");
    assert_string_equal(look_up("XGROUP")->name, "xgroup");
    assert_string_equal(look_up("JSON.SET k $ 1")->name, "json.set");
    assert_null(look_up("set|x k"));
    assert_null(look_up("xgroup|create s g $"));
    assert_null(look_up("nosuch"));
    assert_null(look_up("se"));
    assert_null(look_up("''"));
    assert_null(cmd_lookup(0, NULL));
    assert_string_equal(cmd_by_name(SLICE("XGROUP|CREATE"))->name, "xgroup|create");
    assert_null(cmd_by_name(SLICE("xgroup|")));
    static char big[1 << 16];
    assert_null(cmd_by_name(slice_make(big, sizeof(big))));
}

static void every_row_is_found_by_its_own_name_under_its_own_id(void **state)
{
    (void)state;
    assert_true(cmd_count() > 500);
    for (int i = 0; i < cmd_count(); i++) {
        const struct cmd_info *info = cmd_at(i);
        assert_int_equal(info->id, i);
        assert_ptr_equal(cmd_by_name(slice_cstr(info->name)), info);
        assert_true(info->arity != 0 && info->group[0] != '\0');
    }
}

static void every_row_stands_hostile_argument_counts(void **state)
{
    (void)state;
    struct slice argv[ARGS_MAX];
    const char *fill[] = {"keys", "store", "streams", "2", "99999999999", "-1", "", "auth2"};
    for (int i = 0; i < cmd_count(); i++) {
        for (size_t f = 0; f < sizeof(fill) / sizeof(fill[0]); f++) {
            for (int argc = 1; argc <= 12; argc++) {
                int pos[ARGS_MAX];
                for (int a = 0; a < argc; a++)
                    argv[a] = slice_cstr(a % 3 == 2 ? "x" : fill[f]);
                int n = cmd_keys(cmd_at(i), argc, argv, pos);
                assert_true(n >= -1 && n <= argc);
                for (int k = 0; k < n; k++)
                    assert_true(pos[k] > 0 && pos[k] < argc);
                (void)cmd_is_blind(cmd_at(i), argc, argv);
            }
        }
    }
}

static void keys_are_found_where_the_layout_says(void **state)
{
    (void)state;
    expect_keys("set k v ex 5", "k");
    expect_keys("mset a 1 b 2", "a b");
    expect_keys("bitop and d a b", "d a b");
    expect_keys("eval s 2 a b c", "a b");
    expect_keys("eval s 0 c", "");
    expect_keys("eval s 3 a b", "!");
    expect_keys("eval s x a b", "!");
    expect_keys("eval s -1 a b", "!");
    expect_keys("eval s 9223372036854775807 a b", "!");
    expect_keys("sort l by store get store store d", "l d");
    expect_keys("sort l store a store b", "l b");
    expect_keys("georadius g 1 2 3 km storedist d", "g d");
    expect_keys("zunionstore d 2 a b weights 1 2", "d a b");
    expect_keys("xreadgroup group streams c streams a b > >", "a b");
    expect_keys("xread count 1 streams a 0", "a");
    expect_keys("migrate h 1 k 0 9", "k");
    expect_keys("migrate h 1 '' 0 9 auth2 keys p keys a b", "a b");
    expect_keys("migrate h 1 '' 0 9 copy", "!");
    expect_keys("xgroup create s g $", "s");
    expect_keys("msetex 2 a 1 b 2 ex 5", "a b");
    expect_keys("flushall async", "");
    expect_keys("spublish c m", "");
    expect_keys("get", "!");
    expect_keys("get a b", "!");
    expect_keys("pfmerge d", "d");
}

static void module_commands_have_keys(void **state)
{
    (void)state;
    expect_keys("JSON.SET k $ 1", "k");
    expect_keys("json.mset a $ 1 b $ 2", "a b");
    expect_keys("json.mget a b $", "a b");
    expect_keys("cms.merge d 2 a b weights 1 2", "d a b");
    expect_keys("tdigest.merge d 1 a override", "d a");
    expect_keys("ts.madd a 1 1 b 2 2", "a b");
    expect_keys("ts.createrule a b aggregation avg 60", "a b");
    expect_keys("ft.create i schema t text", "");
    expect_keys("bf.add k i", "k");
    assert_true(look_up("ft.create i schema t text")->flags & CMD_BROADCAST);
    assert_true(look_up("JSON.SET k $ 1")->flags & CMD_WRITE);
    assert_string_equal(look_up("ts.add k * 1")->group, "TIMESERIES");
    assert_false(blind("json.set k $ 1"));
}

static void flags_say_what_kind_of_command_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t has, lacks;
    } want[] = {
        {"set", CMD_WRITE | CMD_BLIND | CMD_EXPIRY, CMD_READONLY | CMD_KEYLESS | CMD_ADMIN},
        {"get", CMD_READONLY, CMD_WRITE | CMD_KEYLESS | CMD_ADMIN},
        {"eval", CMD_WRITE | CMD_MOVABLE_KEYS, CMD_BLIND | CMD_KEYLESS},
        {"multi", CMD_TXN | CMD_KEYLESS, CMD_ADMIN},
        {"flushall", CMD_WRITE | CMD_KEYLESS | CMD_BROADCAST, CMD_ADMIN | CMD_BLIND},
        {"swapdb", CMD_BROADCAST, CMD_ADMIN},
        {"function|load", CMD_BROADCAST, CMD_ADMIN},
        {"script|load", CMD_BROADCAST | CMD_BLIND, CMD_ADMIN},
        {"script|kill", CMD_ADMIN, CMD_BROADCAST},
        {"publish", CMD_BROADCAST, CMD_ADMIN | CMD_BLIND},
        {"restore-asking", CMD_WRITE, CMD_ADMIN},
        {"select", CMD_KEYLESS, CMD_ADMIN},
        {"migrate", CMD_ADMIN, CMD_BLIND},
        {"trimslots", CMD_ADMIN, 0},
        {"xgroup|create", CMD_WRITE, CMD_KEYLESS | CMD_BLIND},
        {"sort", CMD_MOVABLE_KEYS | CMD_WRITE, CMD_BLIND},
        {"pexpireat", CMD_EXPIRY | CMD_WRITE, CMD_BLIND},
        {"pfcount", CMD_READONLY, CMD_WRITE | CMD_BLIND},
    };
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        const struct cmd_info *info = cmd_by_name(slice_cstr(want[i].name));
        assert_non_null(info);
        if ((info->flags & want[i].has) != want[i].has || (info->flags & want[i].lacks))
            fail_msg("%s has flags %#x", want[i].name, info->flags);
    }
}

// The list that redisGunYu drops by name, without what is data after all.
static void server_commands_are_admin(void **state)
{
    (void)state;
    static const char *const names[] = {
        "cluster",
        "asking",
        "readonly",
        "readwrite",
        "auth",
        "client",
        "quit",
        "reset",
        "echo",
        "command",
        "latency",
        "module",
        "psync",
        "replconf",
        "save",
        "shutdown",
        "slaveof",
        "slowlog",
        "sync",
        "bgsave",
        "bgrewriteaof",
        "opinfo",
        "lastsave",
        "monitor",
        "role",
        "debug",
        "migrate",
        "wait",
        "pfdebug",
        "ping",
        "pfselftest",
        "replicaof",
        "failover",
        "config",
        "acl",
        "hello",
        "cluster|setslot",
        "config|set",
        "subscribe",
        "info",
        "acl|setuser",
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct cmd_info *info = cmd_by_name(slice_cstr(names[i]));
        assert_non_null(info);
        if (!(info->flags & CMD_ADMIN))
            fail_msg("%s is not CMD_ADMIN", names[i]);
    }
}

static void bug_9_and_21_restore_asking_and_flushes_are_data(void **state)
{
    (void)state;
    const char *const names[] = {"restore-asking", "flushall", "flushdb", "swapdb"};
    for (int i = 0; i < 4; i++)
        assert_false(cmd_by_name(slice_cstr(names[i]))->flags & CMD_ADMIN);
}

static void blind_depends_on_the_options(void **state)
{
    (void)state;
    const char *const yes[] = {
        "set k v",
        "MSET a 1 b 2",
        "del a b",
        "unlink a",
        "hset h f v",
        "sadd s a b",
        "zadd z 1 nx",
        "zadd z ch 1 a 2 b",
        "geoadd g 1 2 m",
        "setbit k 1 1",
        "setrange k 0 v",
        "persist k",
        "pfadd k a",
        "xdel s 1-1",
        "xack s g 1-1",
        "restore k 0 \x04load replace",
        "restore k 0 \x04load idletime 5 replace",
        "getset k v",
        "get k",
        "script load x",
    };
    const char *const no[] = {
        "set k v nx",
        "set k v xx",
        "set k v get",
        "set k v keepttl",
        "set k v px 5",
        "set k v pxat 1",
        "set k v exat 1",
        "set k v ex 5",
        "set k v ifeq x",
        "setex k 5 v",
        "zadd z nx 1 a",
        "zadd z ch XX 1 a",
        "zadd z gt 1 a",
        "zadd z incr 1 a",
        "geoadd g nx 1 2 m",
        "hsetnx h f v",
        "setnx k v",
        "incr k",
        "append k v",
        "rpush l a",
        "xadd s * f v",
        "lset l 0 v",
        "spop s",
        "restore k 0 \x04load",
        "restore k 5 \x04load replace",
        "restore k 0 \x19load replace",
        "restore k 0 \x04load absttl",
        "pexpireat k 1",
        "sunionstore d a b",
        "eval s 1 k",
        "rename a b",
        "publish c m",
        "flushall",
        "msetex 1 a 1",
        "bitop not d a",
    };
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
        if (!blind(yes[i]))
            fail_msg("not blind: %s", yes[i]);
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
        if (blind(no[i]))
            fail_msg("blind: %s", no[i]);
}

// {a, b} with an expiry; SREM a, SADD a, SREM b leaves {a} with it. Repeated from there, SREM a
// would remove the key and its expiry.
static void removing_elements_is_not_blind_as_it_may_remove_the_key_and_its_expiry(void **state)
{
    (void)state;
    assert_false(blind("srem s a"));
    assert_false(blind("hdel h f"));
    assert_false(blind("zrem z m"));
    assert_false(blind("zremrangebyscore z 0 1"));
}

static void blind_flag_and_verdict_agree(void **state)
{
    (void)state;
    struct slice argv[3] = {SLICE("x"), SLICE("k"), SLICE("v")};
    for (int i = 0; i < cmd_count(); i++) {
        const struct cmd_info *info = cmd_at(i);
        if (cmd_is_blind(info, 3, argv))
            assert_true(info->flags & CMD_BLIND);
    }
}

static void commands_that_split_by_key_say_their_stride(void **state)
{
    (void)state;
    int first, step;
    assert_true(cmd_splittable(cmd_by_name(SLICE("del")), &first, &step));
    assert_int_equal(first, 1);
    assert_int_equal(step, 1);
    assert_true(cmd_splittable(cmd_by_name(SLICE("mset")), &first, &step));
    assert_int_equal(step, 2);
    assert_true(cmd_splittable(cmd_by_name(SLICE("json.mset")), &first, &step));
    assert_int_equal(step, 3);
    assert_false(cmd_splittable(cmd_by_name(SLICE("msetnx")), &first, &step));
    assert_false(cmd_splittable(cmd_by_name(SLICE("sunionstore")), &first, &step));
    assert_false(cmd_splittable(cmd_by_name(SLICE("set")), &first, &step));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_found_in_any_case_and_containers_resolve),
        cmocka_unit_test(every_row_is_found_by_its_own_name_under_its_own_id),
        cmocka_unit_test(every_row_stands_hostile_argument_counts),
        cmocka_unit_test(keys_are_found_where_the_layout_says),
        cmocka_unit_test(module_commands_have_keys),
        cmocka_unit_test(flags_say_what_kind_of_command_it_is),
        cmocka_unit_test(server_commands_are_admin),
        cmocka_unit_test(bug_9_and_21_restore_asking_and_flushes_are_data),
        cmocka_unit_test(blind_depends_on_the_options),
        cmocka_unit_test(removing_elements_is_not_blind_as_it_may_remove_the_key_and_its_expiry),
        cmocka_unit_test(blind_flag_and_verdict_agree),
        cmocka_unit_test(commands_that_split_by_key_say_their_stride),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "control/cli_args.h"

static struct cli_args parse_line(const char *line, int expect)
{
    static char copy[512];
    char *argv[32] = {(char[]){"gunyu"}}, *save = NULL;
    static char *kept[32];
    int argc = 1;
    snprintf(copy, sizeof(copy), "%s", line);
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    memcpy(kept, argv, sizeof(argv));
    struct cli_args a;
    struct err e = {0};
    assert_int_equal(cli_args_parse(&a, argc, kept, &e), expect);
    assert_true(expect == 0 || e.msg[0]);
    return a;
}

static void command_lines_of_both_kinds_are_understood(void **state)
{
    (void)state;
    struct cli_args a = parse_line("-conf x.yaml", 0);
    assert_int_equal(a.command, CLI_SYNC);
    assert_string_equal(a.conf, "x.yaml");
    cli_args_free(&a);
    a = parse_line("-cmd=rdb --rdb.action print -rdb.print.noLogKey --rdb.rdbPath=/x", 0);
    assert_int_equal(a.command, CLI_RDB);
    assert_true(a.rdb_scope);
    assert_int_equal(a.flags_n, 4);
    cli_args_free(&a);
    a = parse_line("deadletter retry FILE --to redis://a", 0);
    assert_int_equal(a.command, CLI_DEADLETTER);
    assert_string_equal(a.to, "redis://a");
    cli_args_free(&a);
    a = parse_line("settle --to b:1", 0);
    assert_int_equal(a.command, CLI_SETTLE);
    assert_string_equal(a.to, "b:1");
    cli_args_free(&a);
    a = parse_line("sync --from redis://a --to=b:1 --sync.channel.verifyCrc false", 0);
    assert_string_equal(a.from, "redis://a");
    assert_string_equal(a.to, "b:1");
    assert_int_equal(a.flags_n, 2);
    cli_args_free(&a);
    a = parse_line("-cmd aof -aof.action=verify -aof.path 5.aof -aof.offset 7 -aof.size=-1", 0);
    assert_int_equal(a.command, CLI_AOF);
    assert_string_equal(a.aof.action, "verify");
    assert_int_equal(a.aof.offset, 7);
    assert_int_equal(a.aof.size, -1);
    cli_args_free(&a);
    a = parse_line("config check f.yaml", 0);
    assert_int_equal(a.command, CLI_CONFIG);
    assert_int_equal(a.rest_n, 2);
    assert_string_equal(a.rest[1], "f.yaml");
    cli_args_free(&a);
    a = parse_line("rdb print --to x --sync.y -- -h", 0);
    assert_int_equal(a.command, CLI_RDB);
    assert_int_equal(a.rest_n, 6);
    assert_int_equal(a.flags_n, 0);
    assert_string_equal(a.rest[1], "--to");
    assert_string_equal(a.rest[5], "-h");
    cli_args_free(&a);
    a = parse_line("rdb --help", 0);
    assert_int_equal(a.command, CLI_RDB);
    assert_string_equal(a.rest[0], "--help");
    cli_args_free(&a);
    a = parse_line("rdb -conf x.yaml --rdb.action load", 0);
    assert_int_equal(a.command, CLI_RDB);
    assert_int_equal(a.rest_n, 0);
    assert_int_equal(a.flags_n, 2);
    assert_string_equal(a.conf, "x.yaml");
    cli_args_free(&a);
    a = parse_line("-version", 0);
    assert_int_equal(a.command, CLI_VERSION);
    cli_args_free(&a);
    a = parse_line("--version=false -diff.mode scan -diff.parallel -1", 0);
    assert_int_equal(a.command, CLI_SYNC);
    cli_args_free(&a);
    a = parse_line("config check --rdb f.yaml", 0);
    assert_int_equal(a.command, CLI_CONFIG);
    assert_true(a.rdb_scope);
    assert_string_equal(a.rest[1], "f.yaml");
    cli_args_free(&a);
}

static void wrong_command_lines_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const char *const bad[] = {"-cmd=diff",
                                      "-cmd=x",
                                      "frobnicate",
                                      "--nosuch",
                                      "-conf",
                                      "sync a.yaml",
                                      "-cmd aof",
                                      "rdb --from a:1",
                                      "settle --from a:1",
                                      "journal list DIR --to a:1",
                                      "-cmd=aof -aof.path x -aof.offset y",
                                      "-cmd=aof -aof.path x -aof.action y"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct cli_args a = parse_line(bad[i], ERR_CONFIG);
        cli_args_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(command_lines_of_both_kinds_are_understood),
        cmocka_unit_test(wrong_command_lines_are_refused_with_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

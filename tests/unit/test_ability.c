// SPDX-License-Identifier: Apache-2.0
#include "target/ability.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "redis/client.h"

#define BIT(w) (1u << LOSS_##w)
#define NEVER (BIT(MODULE_AUX) | BIT(KEY_META))
#define NEWEST_REDIS (BIT(IDMP) | BIT(NACK) | BIT(ARRAY))

static void each_server_version_has_its_rdb_version_and_its_gaps(void **state)
{
    (void)state;
    static const struct {
        int version;
        bool is_valkey;
        int rdb;
        unsigned lacks;
    } cases[] = {
        {20811, false, 6, ~0u}, // before modules, too
        {40014, false, 8,
         BIT(FUNCTION) | BIT(FIELD_EXPIRY) | BIT(STREAM) | BIT(PENDING) | NEWEST_REDIS |
             BIT(PATH_HASH)},
        {50000, false, 9, BIT(FUNCTION) | BIT(FIELD_EXPIRY) | NEWEST_REDIS | BIT(PATH_HASH)},
        {60299, false, 9, BIT(FUNCTION) | BIT(FIELD_EXPIRY) | NEWEST_REDIS | BIT(PATH_HASH)},
        {70000, false, 10, BIT(FIELD_EXPIRY) | NEWEST_REDIS | BIT(PATH_HASH)},
        {70200, false, 11, BIT(FIELD_EXPIRY) | NEWEST_REDIS | BIT(PATH_HASH)},
        {70400, false, 12, NEWEST_REDIS | BIT(PATH_HASH)},
        {80002, false, 12, NEWEST_REDIS | BIT(PATH_HASH)},
        {80603, false, 13, BIT(NACK) | BIT(ARRAY) | BIT(PATH_HASH)},
        {80800, false, 14, BIT(PATH_HASH)},
        {81000, false, 15, BIT(PATH_HASH)},
        {0, false, 15, BIT(PATH_HASH)}, // unknown
        {70200, true, 11, BIT(FIELD_EXPIRY) | NEWEST_REDIS | BIT(PATH_HASH)},
        {80101, true, 11, BIT(FIELD_EXPIRY) | NEWEST_REDIS | BIT(PATH_HASH)},
        {90102, true, 80, NEWEST_REDIS | BIT(PATH_HASH)},
        {90200, true, 81, NEWEST_REDIS},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ability a;
        unsigned want = cases[i].lacks == ~0u ? (1u << LOSSES) - 1 : cases[i].lacks | NEVER;
        ability_of(&a, cases[i].version, cases[i].is_valkey);
        if (a.rdb_version != cases[i].rdb || a.lacks != want)
            fail_msg("case %zu: RDB %d, lacks %x, not %d, %x", i, a.rdb_version, a.lacks,
                     cases[i].rdb, want);
    }
}

static void what_a_file_may_bring_depends_on_its_version(void **state)
{
    (void)state;
    struct ability six, eight, valkey;
    ability_of(&six, 60016, false);
    ability_of(&eight, 80002, false);
    ability_of(&valkey, 80101, true);
    assert_int_equal(ability_risks(&six, 9, false), 0);
    assert_int_equal(ability_risks(&six, 10, false), BIT(FUNCTION));
    assert_int_equal(ability_risks(&six, 12, false), BIT(FUNCTION) | BIT(FIELD_EXPIRY));
    assert_int_equal(ability_risks(&six, 80, true), BIT(FUNCTION) | BIT(FIELD_EXPIRY));
    assert_int_equal(ability_risks(&eight, 13, false), BIT(IDMP));
    assert_int_equal(ability_risks(&eight, 80, true), 0);
    assert_int_equal(ability_risks(&valkey, 11, false), 0);
    assert_int_equal(ability_risks(&valkey, 80, true), BIT(FIELD_EXPIRY));
}

static void a_missing_command_counts_for_more_than_the_version(void **state)
{
    (void)state;
    struct ability a;
    ability_of(&a, 80002, false);
    ability_without(&a, 1u << REDIS_CMD_FUNCTION | 1u << REDIS_CMD_RESTORE);
    assert_true(ability_lacks(&a, LOSS_FUNCTION));
    assert_true(ability_lacks(&a, LOSS_MODULE));
    assert_false(ability_lacks(&a, LOSS_FIELD_EXPIRY));
    assert_false(a.restore);
    ability_of(&a, 80002, false);
    ability_without(&a, 1u << REDIS_CMD_XIDMPRECORD);
    assert_true(a.restore);
    ability_of(&a, 20824, false);
    ability_without(&a, 0);
    assert_false(a.restore);
    ability_of(&a, 60016, false);
    assert_false(ability_lacks(&a, LOSS_MODULE));
    ability_without(&a, 1u << REDIS_ANY_MODULE);
    assert_true(ability_lacks(&a, LOSS_MODULE));
    assert_true(a.restore);
}

static void names_are_for_people(void **state)
{
    (void)state;
    struct ability a;
    char name[40];
    ability_of(&a, 60016, false);
    ability_name(&a, name, sizeof(name));
    assert_string_equal(name, "Redis 6.0.16");
    ability_of(&a, 90102, true);
    ability_name(&a, name, sizeof(name));
    assert_string_equal(name, "Valkey 9.1.2");
    ability_of(&a, 0, false);
    ability_name(&a, name, sizeof(name));
    assert_string_equal(name, "Redis of an unknown version");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_server_version_has_its_rdb_version_and_its_gaps),
        cmocka_unit_test(what_a_file_may_bring_depends_on_its_version),
        cmocka_unit_test(a_missing_command_counts_for_more_than_the_version),
        cmocka_unit_test(names_are_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

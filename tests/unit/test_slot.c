// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "codec/slot.h"

static int slot(const char *key)
{
    return slot_of(slice_cstr(key));
}

static void crc16_gives_the_check_value_of_the_specification(void **state)
{
    (void)state;
    assert_int_equal(crc16("123456789", 9), 0x31c3);
    assert_int_equal(crc16("", 0), 0);
}

// The numbers are what CLUSTER KEYSLOT answers.
static void slots_agree_with_a_server(void **state)
{
    (void)state;
    assert_int_equal(slot("foo"), 12182);
    assert_int_equal(slot("somekey"), 11058);
    assert_int_equal(slot("foo{hash_tag}"), 2515);
    assert_int_equal(slot(""), 0);
    assert_int_equal(slot_of(slice_make(NULL, 0)), 0);
}

static void bug_18_first_brace_pair_decides_the_slot(void **state)
{
    (void)state;
    assert_int_equal(slot("{}{x}"), crc16("{}{x}", 5) & 16383);
    assert_int_not_equal(slot("{}{x}"), slot("x"));
    assert_int_equal(slot("{a}{b}"), slot("a"));
    assert_int_equal(slot("p{a}{b}q"), slot("a"));
    assert_int_equal(slot("foo{{bar}}zap"), slot("{bar"));
    assert_int_equal(slot("}{a}"), slot("a"));
    assert_int_equal(slot("{a"), crc16("{a", 2) & 16383);
    assert_int_equal(slot("a{"), crc16("a{", 2) & 16383);
}

static void every_slot_has_a_tag_that_hashes_to_it(void **state)
{
    (void)state;
    for (int i = 0; i < SLOT_COUNT; i++) {
        const char *tag = slot_tag(i);
        char key[32];
        snprintf(key, sizeof(key), "gunyu:x:{%s}:y", tag);
        assert_in_range(strlen(tag), 1, 4);
        assert_int_equal(strspn(tag, "0123456789abcdefghijklmnopqrstuvwxyz"), strlen(tag));
        assert_int_equal(slot(tag), i);
        assert_int_equal(slot(key), i);
    }
}

// Keys of the target are found by their tags after a new start, and by a newer program.
static void tags_stay_the_same(void **state)
{
    (void)state;
    assert_string_equal(slot_tag(0), "1bz");
    assert_string_equal(slot_tag(16383), "hia");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc16_gives_the_check_value_of_the_specification),
        cmocka_unit_test(slots_agree_with_a_server),
        cmocka_unit_test(bug_18_first_brace_pair_decides_the_slot),
        cmocka_unit_test(every_slot_has_a_tag_that_hashes_to_it),
        cmocka_unit_test(tags_stay_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

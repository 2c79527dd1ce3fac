// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "target/extra.h"

static struct extra *new_extra(size_t pass_bytes)
{
    const char *tmp = getenv("TMPDIR");
    return extra_new(tmp ? tmp : "/tmp", pass_bytes);
}

static struct slice name(int i)
{
    static char text[32];
    return slice_make(text, (size_t)snprintf(text, sizeof(text), "key:%d", i));
}

static void note_all(struct extra *x, int from, int to)
{
    for (int i = from; i < to; i++)
        extra_note(x, (uint64_t)i * 10, i % 3, name(i));
}

// How many of the keys are extra, over all passes.
static int count(struct extra *x, int from, int to, int db_shift)
{
    struct err e;
    int n = 0;
    for (int pass = 0; pass < extra_passes(x); pass++) {
        if (extra_pass(x, pass, &e))
            fail_msg("%s", e.msg);
        for (int i = from; i < to; i++)
            n += extra_is(x, (i + db_shift) % 3, name(i));
    }
    return n;
}

static void keys_beside_those_of_the_snapshot_are_extra(void **state)
{
    (void)state;
    struct extra *x = new_extra(EXTRA_PASS_BYTES);
    assert_int_equal(extra_passes(x), 1);
    assert_int_equal(count(x, 0, 5, 0), 5);
    note_all(x, 0, 100);
    assert_int_equal(count(x, 0, 150, 0), 50);
    assert_int_equal(count(x, 0, 100, 1), 100); // of another db
    extra_free(x);
}

static void many_keys_are_looked_up_in_passes_of_bounded_memory(void **state)
{
    (void)state;
    enum { KEYS = 100000, BYTES = 1 << 16 };
    struct extra *x = new_extra(BYTES);
    note_all(x, 0, KEYS);
    assert_in_range(extra_passes(x), KEYS * 8 / BYTES, KEYS * 8 / BYTES * 3);
    assert_int_equal(count(x, 0, KEYS + 500, 0), 500);
    assert_int_equal(count(x, 0, KEYS, 1), KEYS);
    extra_free(x);
}

static void a_load_that_goes_on_further_back_notes_nothing_twice(void **state)
{
    (void)state;
    struct extra *x = new_extra(1 << 16);
    note_all(x, 0, 60000);
    int passes = extra_passes(x);
    for (int i = 0; i < 5; i++)
        note_all(x, 100, 60000);
    assert_int_equal(extra_passes(x), passes);
    note_all(x, 50000, 61000);
    assert_int_equal(count(x, 0, 61100, 0), 100);
    extra_free(x);
}

static void all_keys_of_one_item_are_noted(void **state)
{
    (void)state;
    struct extra *x = new_extra(EXTRA_PASS_BYTES);
    for (int i = 0; i < 30; i++)
        extra_note(x, 7, i % 3, name(i));
    assert_int_equal(count(x, 0, 31, 0), 1);
    extra_free(x);
}

static void how_far_it_reaches_never_shrinks(void **state)
{
    (void)state;
    struct extra *x = new_extra(EXTRA_PASS_BYTES);
    assert_true(extra_until(x) == 0);
    extra_noted_until(x, 50);
    extra_noted_until(x, 20);
    assert_true(extra_until(x) == 50);
    extra_free(x);
}

static void a_file_that_cannot_be_made_is_told_and_names_no_key(void **state)
{
    (void)state;
    struct err e = {0};
    struct extra *x = extra_new("/nonexistent/at/all", EXTRA_PASS_BYTES);
    note_all(x, 0, 20000);
    assert_true(extra_pass(x, 0, &e) < 0);
    assert_non_null(strstr(e.msg, "/nonexistent/at/all"));
    extra_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_beside_those_of_the_snapshot_are_extra),
        cmocka_unit_test(many_keys_are_looked_up_in_passes_of_bounded_memory),
        cmocka_unit_test(a_load_that_goes_on_further_back_notes_nothing_twice),
        cmocka_unit_test(all_keys_of_one_item_are_noted),
        cmocka_unit_test(how_far_it_reaches_never_shrinks),
        cmocka_unit_test(a_file_that_cannot_be_made_is_told_and_names_no_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

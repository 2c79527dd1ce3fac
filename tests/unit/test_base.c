// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

static void integers_parse_exactly_as_redis_reads_them(void **state)
{
    (void)state;
    int64_t v;
    assert_true(slice_i64(SLICE("-9223372036854775808"), &v) && v == INT64_MIN);
    assert_true(slice_i64(SLICE("9223372036854775807"), &v) && v == INT64_MAX);
    const char *bad[] = {"",
                         "-",
                         "+1",
                         "01",
                         "-0",
                         "9223372036854775808",
                         " 1",
                         "1 ",
                         "1x",
                         "-9223372036854775809",
                         "99999999999999999999999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_false(slice_i64(slice_cstr(bad[i]), &v));
}

static void integers_of_any_length_print(void **state)
{
    (void)state;
    for (uint64_t unit = 1, more = 1; more; more = unit <= UINT64_MAX / 10, unit *= 10) {
        for (uint64_t v = unit - 1; v <= unit + 101 && v >= unit - 1; v++) {
            char text[24], want[24];
            size_t n = u64_format(text, v);
            assert_int_equal(n, snprintf(want, sizeof(want), "%" PRIu64, v));
            assert_memory_equal(text, want, n);
        }
    }
}

static void integers_print_at_their_limits(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_append_i64(&b, INT64_MIN);
    buf_append_char(&b, ' ');
    buf_append_u64(&b, UINT64_MAX);
    buf_append_char(&b, ' ');
    buf_append_i64(&b, 0);
    assert_string_equal(buf_cstr(&b), "-9223372036854775808 18446744073709551615 0");
    buf_consume(&b, 21);
    assert_string_equal(buf_cstr(&b), "18446744073709551615 0");
    buf_free(&b);
}

static void errors_wrap_from_the_inside_out_and_never_overflow(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(err_set(&e, ERR_CORRUPT, "block %d", 3), ERR_CORRUPT);
    err_wrap(&e, "segment %s", "a");
    assert_string_equal(e.msg, "segment a: block 3");
    for (int i = 0; i < 100; i++)
        err_wrap(&e, "outer layer %d", i);
    assert_int_equal(e.code, ERR_CORRUPT);
    assert_true(strlen(e.msg) == sizeof(e.msg) - 1);
}

static void joined_errors_keep_the_first_code_and_never_overflow(void **state)
{
    (void)state;
    struct err e = {0}, one = {0};
    err_set(&one, ERR_AUTH, "a refused");
    err_join(&e, &one);
    err_set(&one, ERR_CLOSED, "b is gone");
    err_join(&e, &one);
    err_join(NULL, &one);
    assert_int_equal(e.code, ERR_AUTH);
    assert_string_equal(e.msg, "a refused; b is gone");
    for (int i = 0; i < 100; i++)
        err_join(&e, &one);
    assert_true(strlen(e.msg) == sizeof(e.msg) - 1);
}

static void comparison_ignores_case_only_where_asked(void **state)
{
    (void)state;
    assert_true(slice_ieq(SLICE("GetEx"), SLICE("gETeX")));
    assert_false(slice_eq(SLICE("a"), SLICE("A")));
    assert_true(slice_cmp(SLICE("a"), SLICE("ab")) < 0);
    assert_true(slice_has_prefix(SLICE("abc"), SLICE("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_parse_exactly_as_redis_reads_them),
        cmocka_unit_test(integers_of_any_length_print),
        cmocka_unit_test(integers_print_at_their_limits),
        cmocka_unit_test(errors_wrap_from_the_inside_out_and_never_overflow),
        cmocka_unit_test(joined_errors_keep_the_first_code_and_never_overflow),
        cmocka_unit_test(comparison_ignores_case_only_where_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

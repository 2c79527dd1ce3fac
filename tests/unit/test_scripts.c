// SPDX-License-Identifier: Apache-2.0
#include "target/scripts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ONE "return 1"
#define ONE_DIGEST "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"

enum { LIMIT = 1 << 16 };

static char dir[64], path[80];

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/gunyu-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/scripts", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static bool knows(const struct scripts *s, const char *digest, const char *want)
{
    struct slice body;
    if (!scripts_find(s, slice_cstr(digest), &body))
        return false;
    assert_int_equal(body.n, strlen(want));
    assert_memory_equal(body.p, want, body.n);
    return true;
}

static off_t size_of_file(void)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void a_script_is_found_by_its_digest_in_any_case(void **state)
{
    (void)state;
    struct scripts *s = scripts_open(NULL, LIMIT, NULL);
    assert_false(knows(s, ONE_DIGEST, ONE));
    scripts_note(s, SLICE(ONE));
    scripts_note(s, SLICE(""));
    assert_true(knows(s, ONE_DIGEST, ONE));
    assert_true(knows(s, "E0E1F9FABFC9D4800C877A703B823AC0578FF8DB", ONE));
    assert_true(knows(s, "da39a3ee5e6b4b0d3255bfef95601890afd80709", ""));
    scripts_close(s);
}

static void what_is_no_digest_is_not_found(void **state)
{
    (void)state;
    struct scripts *s = scripts_open(NULL, LIMIT, NULL);
    scripts_note(s, SLICE(ONE));
    assert_false(knows(s, "", ONE));
    assert_false(knows(s, "e0e1", ONE));
    assert_false(knows(s, ONE_DIGEST "0", ONE));
    assert_false(knows(s, "g0e1f9fabfc9d4800c877a703b823ac0578ff8db", ONE));
    scripts_close(s);
}

static void many_scripts_are_kept_for_the_next_process_once_each(void **state)
{
    (void)state;
    char body[32];
    struct scripts *s = scripts_open(path, LIMIT, NULL);
    for (int i = 0; i < 1000; i++) {
        snprintf(body, sizeof(body), "return %d", i % 500);
        scripts_note(s, slice_cstr(body));
    }
    scripts_close(s);
    off_t size = size_of_file();
    s = scripts_open(path, LIMIT, NULL);
    for (int i = 0; i < 500; i++) {
        snprintf(body, sizeof(body), "return %d", i);
        scripts_note(s, slice_cstr(body));
    }
    assert_true(knows(s, ONE_DIGEST, ONE));
    scripts_close(s);
    assert_int_equal(size_of_file(), size);
}

static void what_was_half_written_is_cut_off_and_written_again(void **state)
{
    (void)state;
    struct scripts *s = scripts_open(path, LIMIT, NULL);
    scripts_note(s, SLICE(ONE));
    off_t one = size_of_file();
    scripts_note(s, SLICE("return 2"));
    scripts_close(s);
    off_t both = size_of_file();
    for (off_t cut = both - 1; cut >= 0; cut--) {
        assert_int_equal(truncate(path, cut), 0);
        s = scripts_open(path, LIMIT, NULL);
        assert_int_equal(size_of_file(), cut < one ? 0 : one);
        assert_int_equal(knows(s, ONE_DIGEST, ONE), cut >= one);
        scripts_note(s, SLICE(ONE));
        scripts_note(s, SLICE("return 2"));
        scripts_close(s);
        assert_int_equal(size_of_file(), both);
    }
}

static void a_file_of_something_else_is_begun_anew(void **state)
{
    (void)state;
    static const char *const texts[] = {"no commands\r\n", "*1\r\n$4\r\nPING\r\n", "*3\r\n$-7\r\n"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(texts[i], f);
        assert_int_equal(fclose(f), 0);
        struct scripts *s = scripts_open(path, LIMIT, NULL);
        scripts_note(s, SLICE(ONE));
        scripts_close(s);
        s = scripts_open(path, LIMIT, NULL);
        assert_true(knows(s, ONE_DIGEST, ONE));
        scripts_close(s);
    }
}

static void what_goes_beyond_the_limit_takes_the_place_of_all(void **state)
{
    (void)state;
    static char big[LIMIT];
    memset(big, '-', sizeof(big));
    struct scripts *s = scripts_open(path, LIMIT, NULL);
    scripts_note(s, slice_make(big, LIMIT - 1));
    off_t size = size_of_file();
    scripts_note(s, SLICE(ONE));
    assert_true(knows(s, ONE_DIGEST, ONE));
    assert_true(size_of_file() < size);
    scripts_close(s);
    s = scripts_open(path, LIMIT, NULL);
    assert_true(knows(s, ONE_DIGEST, ONE));
    scripts_close(s);
}

static void without_its_file_it_knows_what_it_has_seen(void **state)
{
    (void)state;
    char nowhere[128];
    snprintf(nowhere, sizeof(nowhere), "%s/none/scripts", dir);
    struct scripts *s = scripts_open(nowhere, LIMIT, NULL);
    scripts_note(s, SLICE(ONE));
    assert_true(knows(s, ONE_DIGEST, ONE));
    scripts_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_script_is_found_by_its_digest_in_any_case),
        cmocka_unit_test(what_is_no_digest_is_not_found),
        cmocka_unit_test_setup_teardown(many_scripts_are_kept_for_the_next_process_once_each,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_half_written_is_cut_off_and_written_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_file_of_something_else_is_begun_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_goes_beyond_the_limit_takes_the_place_of_all, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(without_its_file_it_knows_what_it_has_seen, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
#include "test_journal_util.h"

#include "journal/gc.h"

#define HOUR ((int64_t)3600 * 1000)

static char *root;

static int set_up(void **state)
{
    (void)state;
    root = make_dir();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[4200];
    snprintf(command, sizeof(command), "rm -rf '%s'", root);
    assert_int_equal(system(command), 0);
    free(root);
    return 0;
}

static const char *in_root(const char *name)
{
    static char path[4200];
    snprintf(path, sizeof(path), "%s/%s", root, name);
    return path;
}

static void put_file(const char *name)
{
    int fd = open(in_root(name), O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static bool exists(const char *name)
{
    return access(in_root(name), F_OK) == 0;
}

static struct journal *open_journal(const char *name)
{
    struct journal_options o = {
        .type = JOURNAL_STORER, .dir = in_root(name), .max_size = -1, .log_size = 64 * KIB};
    struct journal *j;
    struct err e = {0};
    assert_int_equal(journal_open(&j, &o, &e), 0);
    assert_int_equal(journal_begin_log(j, ID_A, 100, &e), 0);
    char *p;
    size_t n;
    assert_int_equal(journal_log_space(j, &p, &n, &e), 0);
    memset(p, 'x', 10);
    assert_int_equal(journal_log_commit(j, 10, &e), 0);
    return j;
}

static void make_journal(const char *name)
{
    journal_close(open_journal(name));
}

// age: how long ago the journals seem to have been written, with one hour allowed.
static int collect(int64_t age_ms, const char *keep)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct err e = {0};
    int removed = -1;
    assert_int_equal(journal_gc(root, &keep, keep ? 1 : 0, HOUR,
                                (int64_t)now.tv_sec * 1000 + age_ms, &removed, &e),
                     0);
    return removed;
}

static void a_stale_journal_is_removed_with_its_directory(void **state)
{
    (void)state;
    make_journal("a_1");
    make_journal("b_2");
    assert_int_equal(collect(2 * HOUR, "b_2"), 1);
    assert_false(exists("a_1"));
    assert_true(exists("b_2/meta.json"));
}

static void a_young_journal_stays(void **state)
{
    (void)state;
    make_journal("a_1");
    assert_int_equal(collect(HOUR / 2, NULL), 0);
    assert_true(exists("a_1/meta.json"));
}

static void an_open_journal_stays_however_old(void **state)
{
    (void)state;
    struct journal *j = open_journal("a_1");
    assert_int_equal(collect(100 * HOUR, NULL), 0);
    assert_true(exists("a_1/meta.json"));
    journal_close(j);
    assert_int_equal(collect(100 * HOUR, NULL), 1);
}

static void bug_35_what_is_not_ours_is_never_removed(void **state)
{
    (void)state;
    put_file("file");
    mkdir(in_root("foreign"), 0700);
    put_file("foreign/data");
    mkdir(in_root("empty"), 0700);
    mkdir(in_root("looks_similar"), 0700);
    put_file("looks_similar/log-1.seg");
    make_journal("mixed");
    put_file("mixed/notes.txt");
    assert_int_equal(symlink("/", in_root("link")), 0);
    assert_int_equal(collect(100 * HOUR, NULL), 1);
    assert_true(exists("file") && exists("foreign/data") && exists("empty") && exists("link"));
    assert_true(exists("looks_similar/log-1.seg"));
    assert_false(exists("foreign/lock") || exists("looks_similar/lock"));
    assert_true(exists("mixed/notes.txt"));
    assert_false(exists("mixed/meta.json"));
}

static void a_directory_that_is_not_there_has_nothing(void **state)
{
    (void)state;
    struct err e = {0};
    int removed = -1;
    assert_int_equal(journal_gc(in_root("none"), NULL, 0, HOUR, 0, &removed, &e), 0);
    assert_int_equal(removed, 0);
    put_file("file");
    assert_true(journal_gc(in_root("file"), NULL, 0, HOUR, 0, &removed, &e) < 0);
    assert_non_null(strstr(e.msg, "/file"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_stale_journal_is_removed_with_its_directory),
        TEST(a_young_journal_stays),
        TEST(an_open_journal_stays_however_old),
        TEST(bug_35_what_is_not_ours_is_never_removed),
        TEST(a_directory_that_is_not_there_has_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
#include "test_journal_util.h"

#include <errno.h>

static void check_guest(struct journal_guest *g, struct journal *j, uint64_t from)
{
    uint64_t right = info_of(j).right;
    while (from < right) {
        const char *p;
        size_t n;
        ok(journal_guest_log(g, from, &p, &n, &failure));
        assert_true(n > 0 && n <= right - from);
        assert_true(matches(p, from, n));
        from += n;
    }
}

static int look(struct journal_guest *g, uint64_t from)
{
    const char *p;
    size_t n;
    struct err e = {0};
    return journal_guest_log(g, from, &p, &n, &e);
}

static void a_guest_reads_what_readers_have_let_go(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    o.verify_crc = *state != NULL;
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 1001, &failure));
    struct journal_reader *r = journal_reader_open(j);
    struct journal_guest *g = journal_guest_open(j);
    // More than the reader's address space is given back in.
    for (int i = 0; i < 40; i++) {
        ok(append(j, MIB, 70001, &failure));
        journal_log_release(r, info_of(j).right);
    }
    check_guest(g, j, 1001);
    check_guest(g, j, 1001 + 17 * MIB + 5);
    check_guest(g, j, info_of(j).right - 3);
    assert_int_equal(look(g, info_of(j).right), 0);
    assert_int_equal(look(g, info_of(j).right + 1), -ERANGE);
    assert_int_equal(look(g, 1000), -ERANGE);
    journal_reader_close(r);
    journal_guest_close(g);
    journal_close(j);

    j = open_ok(&o);
    g = journal_guest_open(j);
    check_guest(g, j, 1001);
    journal_guest_close(g);
    journal_close(j);
    remove_dir(dir);
}

static void a_guest_holds_nothing_back(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    o.max_size = 4 * MIB;
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 0, &failure));
    struct journal_reader *r = journal_reader_open(j);
    struct journal_guest *g = journal_guest_open(j);
    ok(append(j, 100, 100, &failure));
    assert_int_equal(look(g, 0), 0);
    for (int i = 0; i < 80; i++) {
        journal_log_release(r, info_of(j).right);
        ok(append(j, 128 * KIB, 70001, &failure));
        assert_true(info_of(j).bytes <= 4 * MIB);
        journal_guest_tidy(g);
    }
    assert_true(info_of(j).left > 4 * MIB);
    assert_int_equal(look(g, 0), -ERANGE);
    assert_int_equal(look(g, info_of(j).left - 1), -ERANGE);
    check_guest(g, j, info_of(j).left);
    journal_reader_close(r);
    journal_guest_close(g);
    journal_close(j);
    remove_dir(dir);
}

static void a_begin_ends_a_guests_view_for_ever(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 0, &failure));
    ok(append(j, MIB, 70001, &failure));
    struct journal_guest *g = journal_guest_open(j);
    uint64_t life = info_of(j).life;
    assert_int_equal(look(g, 5), 0);
    ok(journal_begin_log(j, ID_A, 0, &failure));
    ok(append(j, MIB, 70001, &failure));
    assert_true(info_of(j).life > life);
    assert_int_equal(look(g, 5), -ERANGE);
    journal_guest_tidy(g);
    journal_guest_close(g);
    journal_close(j);
    remove_dir(dir);
}

static void a_guest_reads_a_snapshot_as_it_arrives(void **state)
{
    (void)state;
    char *dir = make_dir();
    for (int memory = 0; memory < 2; memory++) {
        struct journal_options o = storer(dir);
        o.type = memory ? JOURNAL_MEMORY : JOURNAL_STORER;
        o.max_size = 64 * MIB;
        struct journal *j = open_ok(&o);
        ok(journal_begin_snapshot(j, ID_A, 5000, JOURNAL_SIZE_UNKNOWN, &failure));
        struct journal_guest *g = journal_guest_open(j);
        uint64_t index = 0;
        const char *p;
        size_t n;
        for (int i = 0; i < 30; i++) {
            ok(append_snapshot(j, 700 * KIB, 100000, &failure));
            for (;;) {
                ok(journal_guest_snapshot(g, index, &p, &n, &failure));
                if (n == 0)
                    break;
                assert_true(matches(p, index, n));
                index += n;
            }
            assert_int_equal(index, info_of(j).snapshot_have);
        }
        ok(journal_end_snapshot(j, index, &failure));
        ok(append(j, 100 * KIB, 999, &failure));
        check_guest(g, j, 5000);
        ok(journal_guest_snapshot(g, 3, &p, &n, &failure));
        assert_true(matches(p, 3, n));
        struct err e = {0};
        assert_int_equal(journal_guest_snapshot(g, index + 1, &p, &n, &e), -ERANGE);
        journal_guest_close(g);
        journal_close(j);
    }
    remove_dir(dir);
}

static void in_memory_a_guest_sees_what_is_not_consumed(void **state)
{
    (void)state;
    struct journal_options o = {.type = JOURNAL_MEMORY, .max_size = 16 * MIB};
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 777, &failure));
    struct journal_reader *r = journal_reader_open(j);
    struct journal_guest *g = journal_guest_open(j);
    ok(append(j, 6 * MIB, 70001, &failure));
    check_guest(g, j, 777);
    journal_log_release(r, 777 + 5 * MIB);
    assert_int_equal(look(g, 777), -ERANGE);
    check_guest(g, j, info_of(j).left);
    journal_reader_close(r);
    journal_guest_close(g);
    journal_close(j);
}

static void damage_is_told_where_sums_are_checked(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    o.verify_crc = true;
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 0, &failure));
    ok(append(j, MIB, 70001, &failure));
    char path[4200], name[64];
    snprintf(name, sizeof(name), "log-%020d", 0);
    DIR *d = opendir(dir);
    struct dirent *ent;
    name[0] = 0;
    while ((ent = readdir(d)))
        if (strncmp(ent->d_name, "log-", 4) == 0 && (!name[0] || strcmp(ent->d_name, name) < 0))
            snprintf(name, sizeof(name), "%.60s", ent->d_name);
    closedir(d);
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "X!", 2, 2 * MIB + 1000), 2); // the header takes 2 MiB
    close(fd);
    struct journal_guest *g = journal_guest_open(j);
    assert_int_equal(look(g, 0), ERR_CORRUPT);
    journal_guest_close(g);
    journal_close(j);
    remove_dir(dir);
}

int main(void)
{
    static int with_sums = 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guest_reads_what_readers_have_let_go),
        cmocka_unit_test_prestate(a_guest_reads_what_readers_have_let_go, &with_sums),
        cmocka_unit_test(a_guest_holds_nothing_back),
        cmocka_unit_test(a_begin_ends_a_guests_view_for_ever),
        cmocka_unit_test(a_guest_reads_a_snapshot_as_it_arrives),
        cmocka_unit_test(in_memory_a_guest_sees_what_is_not_consumed),
        cmocka_unit_test(damage_is_told_where_sums_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

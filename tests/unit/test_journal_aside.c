// SPDX-License-Identifier: Apache-2.0
#include "test_journal_util.h"

#include <signal.h>
#include <sys/wait.h>

enum { HAVE = 300001 };

static char *dir;
static struct journal_options options;

static int set_up(void **state)
{
    (void)state;
    dir = make_fast_dir();
    options = storer(dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    clear_dir(dir);
    remove_dir(dir);
    return 0;
}

static void begin(struct journal *j, const char *id, uint64_t offset, uint64_t n)
{
    ok(journal_begin_snapshot(j, id, offset, JOURNAL_SIZE_UNKNOWN, &failure));
    ok(append_snapshot(j, n, 50000, &failure));
}

static void begin_half_loaded(struct journal *j, uint64_t offset, uint64_t n)
{
    begin(j, ID_A, offset, n);
    ok(journal_load_begun(j, &failure));
}

static void check_kept(struct journal *j, size_t i, uint64_t least, uint64_t most)
{
    const char *p;
    size_t n;
    struct journal_reader *r = journal_aside_open(j, i, &failure);
    assert_non_null(r);
    ok(journal_snapshot_view(r, 0, &p, &n, &failure));
    assert_in_range(n, least, most);
    assert_true(matches(p, 0, n));
    uint64_t half = n / 2;
    journal_snapshot_release(r, half);
    ok(journal_snapshot_view(r, half, &p, &n, &failure));
    assert_true(matches(p, half, n));
    journal_reader_close(r);
}

static void what_the_next_begin_forgets_half_loaded_is_kept_aside(void **state)
{
    (void)state;
    struct journal *j = open_ok(&options);
    begin_half_loaded(j, 5, HAVE);
    begin_half_loaded(j, 6, HAVE + 7);
    assert_int_equal(journal_asides(j), 1);
    begin(j, ID_B, 6, 100);
    assert_int_equal(journal_asides(j), 2);
    check_kept(j, 0, HAVE, HAVE);
    check_kept(j, 1, HAVE + 7, HAVE + 7);
    journal_close(j);
    j = open_ok(&options);
    assert_int_equal(journal_asides(j), 2);
    assert_int_equal(count_files(dir, "snapshot-"), 0);
    journal_drop_asides(j);
    assert_int_equal(journal_asides(j), 0);
    assert_int_equal(count_files(dir, "aside-"), 0);
    journal_close(j);
}

static void one_that_has_arrived_whole_is_kept_as_well(void **state)
{
    (void)state;
    struct journal *j = open_ok(&options);
    begin(j, ID_A, 5, HAVE);
    ok(journal_end_snapshot(j, HAVE, &failure));
    ok(journal_load_begun(j, &failure));
    journal_close(j);
    j = open_ok(&options); // still half loaded
    begin(j, ID_B, 9, 100);
    assert_int_equal(journal_asides(j), 1);
    check_kept(j, 0, HAVE, HAVE);
    journal_close(j);
}

static void what_the_target_has_nothing_or_all_of_is_not_kept(void **state)
{
    (void)state;
    struct journal *j = open_ok(&options);
    begin(j, ID_A, 5, HAVE);
    begin_half_loaded(j, 6, HAVE);
    ok(journal_end_snapshot(j, HAVE, &failure));
    journal_load_finished(j);
    begin(j, ID_A, 7, 100);
    assert_int_equal(journal_asides(j), 0);
    begin_half_loaded(j, 8, HAVE);
    begin(j, ID_A, 9, 100);
    assert_int_equal(journal_asides(j), 1);
    journal_load_finished(j); // and with it goes what was kept before
    assert_int_equal(journal_asides(j), 0);
    begin(j, ID_A, 10, HAVE);
    journal_close(j);
    j = open_ok(&options);
    assert_int_equal(journal_asides(j), 0);
    assert_int_equal(count_files(dir, "snapshot-") + count_files(dir, "aside-"), 0);
    journal_close(j);
}

static void half_load_and_die(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        begin_half_loaded(open_ok(&options), 5, HAVE);
        kill(getpid(), SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void what_a_killed_process_had_half_loaded_is_kept_up_to_its_last_byte(void **state)
{
    (void)state;
    half_load_and_die();
    for (int i = 0; i < 2; i++) {
        struct journal *j = open_ok(&options);
        assert_int_equal(journal_asides(j), 1);
        // Zeros at its end cannot be told from room.
        check_kept(j, 0, HAVE - 8, HAVE);
        journal_close(j);
    }
}

static void pages_that_never_reached_the_disk_end_what_is_kept(void **state)
{
    (void)state;
    char path[4096];
    half_load_and_die();
    snprintf(path, sizeof(path), "%s/snapshot-%020d.rdb.part", dir, 5);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    char zeros[4096] = {0};
    assert_int_equal(pwrite(fd, zeros, 4096, 40960), 4096);
    close(fd);
    pretend_machine_crash(dir);
    struct journal *j = open_ok(&options);
    assert_int_equal(journal_asides(j), 1);
    check_kept(j, 0, 40960, 40960);
    journal_close(j);
}

static void they_share_max_size_and_make_room_when_they_are_done(void **state)
{
    (void)state;
    options.max_size = 8 * MIB;
    struct journal *j = open_ok(&options);
    begin_half_loaded(j, 5, 5 * MIB);
    begin_half_loaded(j, 6, 0);
    struct err e;
    assert_int_equal(append_snapshot(j, 6 * MIB, 50000, &e), ERR_FULL);
    begin(j, ID_A, 7, 0);
    assert_int_equal(journal_asides(j), 2);
    assert_int_equal(append_snapshot(j, MIB, 50000, &e), ERR_FULL);
    assert_true(info_of(j).bytes <= 8 * MIB);
    journal_asides_done(j);
    check_kept(j, 0, 5 * MIB, 5 * MIB); // needed once more
    assert_int_equal(append_snapshot(j, MIB, 50000, &e), ERR_FULL);
    journal_asides_done(j);
    ok(append_snapshot(j, 7 * MIB, 50000, &failure));
    assert_int_equal(journal_asides(j), 0);
    journal_close(j);
}

static void what_was_given_back_for_room_cannot_be_kept(void **state)
{
    (void)state;
    options.max_size = 4 * MIB;
    struct journal *j = open_ok(&options);
    begin_half_loaded(j, 5, 0);
    struct journal_reader *r = journal_reader_open(j);
    struct err e;
    assert_int_equal(append_snapshot(j, 5 * MIB, 50000, &e), ERR_FULL);
    journal_snapshot_release(r, 2 * MIB);
    ok(append_snapshot(j, MIB, 50000, &failure));
    journal_reader_close(r);
    begin(j, ID_A, 7, 0);
    assert_int_equal(journal_asides(j), 0);
    journal_close(j);
}

static void a_lower_max_size_drops_what_no_longer_fits(void **state)
{
    (void)state;
    struct journal *j = open_ok(&options);
    for (uint64_t i = 5; i < 10; i++)
        begin_half_loaded(j, i, MIB);
    journal_close(j);
    options.max_size = 2 * MIB;
    j = open_ok(&options);
    assert_int_equal(journal_asides(j), 2);
    assert_int_equal(count_files(dir, "aside-"), 2);
    journal_close(j);
}

static void memory_keeps_nothing(void **state)
{
    (void)state;
    options = (struct journal_options){
        .type = JOURNAL_MEMORY, .max_size = 16 * MIB, .log_size = 256 * KIB};
    struct journal *j = open_ok(&options);
    begin_half_loaded(j, 5, HAVE);
    begin(j, ID_A, 6, 100);
    assert_int_equal(journal_asides(j), 0);
    journal_close(j);
}

static void what_a_begin_that_was_interrupted_leaves_is_kept(void **state)
{
    (void)state;
    char path[4096];
    half_load_and_die();
    // As if the record of the next one had been written, and the file not been renamed yet.
    char was[4096];
    snprintf(was, sizeof(was), "%s/snapshot-%020d.rdb.part", dir, 5);
    snprintf(path, sizeof(path), "%s/snapshot-%020d.rdb.part", dir, 4);
    int fd = open(was, O_RDWR);
    assert_int_equal(pwrite(fd, "REDIS0011", 9, 0), 9);
    close(fd);
    assert_int_equal(rename(was, path), 0);
    struct journal *j = open_ok(&options);
    assert_int_equal(journal_asides(j), 1);
    journal_close(j);
}

static void keys_of_our_own_are_kept_like_a_snapshot(void **state)
{
    (void)state;
    char bytes[1000];
    fill(bytes, 0, sizeof(bytes));
    struct journal *j = open_ok(&options);
    ok(journal_aside_begin(j, &failure));
    ok(journal_aside_put(j, bytes, 700, &failure));
    ok(journal_aside_put(j, bytes + 700, 300, &failure));
    assert_int_equal(journal_asides(j), 0);
    ok(journal_aside_end(j, &failure));
    begin(j, ID_A, 5, 100);
    check_kept(j, 0, 1000, 1000);
    ok(journal_aside_begin(j, &failure));
    ok(journal_aside_put(j, bytes, 10, &failure));
    ok(journal_aside_end(j, &failure));
    assert_int_equal(journal_asides(j), 2);
    journal_close(j);
    j = open_ok(&options);
    assert_int_equal(journal_asides(j), 2);
    journal_drop_asides(j);
    assert_int_equal(count_files(dir, "aside-"), 0);
    journal_close(j);
}

static void keys_that_are_not_whole_or_have_no_room_are_not_kept(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct journal *j = open_ok(&options);
        ok(journal_aside_begin(j, &failure));
        ok(journal_aside_put(j, "REDIS", 5, &failure));
        kill(getpid(), SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    options.max_size = 1 << 20;
    struct journal *j = open_ok(&options);
    assert_int_equal(journal_asides(j), 0);
    assert_int_equal(count_files(dir, ".gunyu-aside"), 0);
    static char big[(1 << 20) + 1];
    ok(journal_aside_begin(j, &failure));
    ok(journal_aside_put(j, big, sizeof(big), &failure));
    assert_int_equal(journal_aside_end(j, &failure), ERR_FULL);
    assert_int_equal(count_files(dir, ".gunyu-aside") + count_files(dir, "aside-"), 0);
    ok(journal_aside_begin(j, &failure)); // and the next one is
    ok(journal_aside_put(j, big, 10, &failure));
    ok(journal_aside_end(j, &failure));
    assert_int_equal(journal_asides(j), 1);
    journal_close(j);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(what_the_next_begin_forgets_half_loaded_is_kept_aside),
        T(one_that_has_arrived_whole_is_kept_as_well),
        T(what_the_target_has_nothing_or_all_of_is_not_kept),
        T(what_a_killed_process_had_half_loaded_is_kept_up_to_its_last_byte),
        T(pages_that_never_reached_the_disk_end_what_is_kept),
        T(they_share_max_size_and_make_room_when_they_are_done),
        T(what_was_given_back_for_room_cannot_be_kept),
        T(a_lower_max_size_drops_what_no_longer_fits),
        T(memory_keeps_nothing),
        T(keys_of_our_own_are_kept_like_a_snapshot),
        T(keys_that_are_not_whole_or_have_no_room_are_not_kept),
        T(what_a_begin_that_was_interrupted_leaves_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

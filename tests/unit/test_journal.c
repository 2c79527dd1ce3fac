// SPDX-License-Identifier: Apache-2.0
#include "test_journal_util.h"

#include <errno.h>
#include <sys/wait.h>

#include "journal/vmap.h"

static void log_views_are_contiguous_over_segment_borders(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 1001, &failure));
    struct journal_reader *r = journal_reader_open(j);
    const char *first, *p;
    size_t n;
    ok(journal_log_view(r, 1001, &first, &n, &failure));
    assert_int_equal(n, 0);
    ok(append(j, 10, 3, &failure));
    ok(journal_log_view(r, 1001, &first, &n, &failure));
    ok(append(j, 3 * MIB, 70001, &failure));
    assert_true(count_files(dir, "log-") > 10);
    check_log(r, j, 1001);
    ok(journal_log_view(r, 1001, &p, &n, &failure));
    assert_ptr_equal(p, first);
    assert_true(matches(first, 1001, 10));
    check_log(r, j, 1001 + 777777);
    struct err e = {0};
    assert_int_equal(journal_log_view(r, 1000, &p, &n, &e), -ERANGE);
    assert_int_equal(journal_log_view(r, info_of(j).right + 1, &p, &n, &e), -ERANGE);
    journal_reader_close(r);
    journal_close(j);
    remove_dir(dir);
}

static void a_journal_reopens_as_it_was_closed(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    struct journal *j = open_ok(&o);
    ok(journal_begin_snapshot(j, ID_A, 5000, JOURNAL_SIZE_UNKNOWN, &failure));
    ok(append_snapshot(j, 3 * MIB + 17 + 40, 100000, &failure));
    ok(journal_end_snapshot(j, 3 * MIB + 17, &failure));
    ok(append(j, 700 * KIB, 999, &failure));
    ok(journal_set_replid(j, ID_B, 5000 + 600 * KIB, &failure));
    journal_mark(j, 5000, 0, 1000);
    journal_mark(j, 6000, 7, 2000);
    journal_close(j);

    j = open_ok(&o);
    struct journal_info info = info_of(j);
    assert_string_equal(info.replid, ID_B);
    assert_string_equal(info.replid2, ID_A);
    assert_int_equal(info.replid2_offset, 5000 + 600 * KIB);
    assert_true(info.has_snapshot && info.snapshot_complete && info.has_log);
    assert_int_equal(info.snapshot_size, 3 * MIB + 17);
    assert_int_equal(info.snapshot_have, 3 * MIB + 17);
    assert_int_equal(info.left, 5000);
    assert_int_equal(info.right, 5000 + 700 * KIB);
    assert_int_equal(info.bytes, 3 * MIB + 17 + 700 * KIB);
    struct journal_mark mark;
    assert_true(journal_find_mark(j, 100000, &mark));
    assert_int_equal(mark.db, 7);
    assert_true(journal_find_mark(j, 5999, &mark));
    assert_int_equal(mark.db, 0);
    assert_false(journal_find_mark(j, 4999, &mark));

    struct journal_reader *r = journal_reader_open(j);
    const char *p;
    size_t n;
    ok(journal_snapshot_view(r, 0, &p, &n, &failure));
    assert_int_equal(n, 3 * MIB + 17);
    assert_true(matches(p, 0, n));
    check_log(r, j, 5000);
    ok(append(j, 900 * KIB, 4096, &failure));
    check_log(r, j, 5000);
    journal_reader_close(r);
    journal_close(j);

    char path[4096];
    snprintf(path, sizeof(path), "%s/snapshot-%020d.rdb", dir, 5000);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 3 * MIB + 17);
    remove_dir(dir);
}

static void snapshot_views_grow_while_it_arrives(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    struct journal *j = open_ok(&o);
    ok(journal_begin_snapshot(j, ID_A, 77, 150 * MIB, &failure));
    struct journal_reader *r = journal_reader_open(j);
    char *w;
    size_t room;
    ok(journal_snapshot_space(j, &w, &room, &failure));
    assert_true(room >= 64 * KIB);
    const char *first = NULL, *p;
    size_t n;
    for (int i = 0; i < 150; i++) {
        ok(append_snapshot(j, MIB, MIB, &failure));
        ok(journal_snapshot_view(r, 0, &p, &n, &failure));
        assert_int_equal(n, (i + 1) * MIB);
        if (!first)
            first = p;
        assert_ptr_equal(p, first);
    }
    struct err e = {0};
    assert_true(journal_snapshot_space(j, &w, &room, &e) < 0);
    assert_true(matches(p, 0, n));
    ok(journal_end_snapshot(j, 150 * MIB, &failure));
    assert_int_equal(info_of(j).left, 77);
    ok(append(j, 1000, 1000, &failure));
    check_log(r, j, 77);
    assert_true(matches(first, 0, 150 * MIB));
    journal_reader_close(r);
    journal_close(j);
    remove_dir(dir);
}

static void an_empty_snapshot_is_a_snapshot(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    struct journal *j = open_ok(&o);
    ok(journal_begin_snapshot(j, ID_A, 0, 0, &failure));
    ok(journal_end_snapshot(j, 0, &failure));
    ok(append(j, 5, 5, &failure));
    journal_close(j);
    j = open_ok(&o);
    assert_true(info_of(j).has_snapshot);
    assert_int_equal(info_of(j).right, 5);
    journal_close(j);
    remove_dir(dir);
}

static void a_begin_leaves_old_pointers_alive_until_their_reader_closes(void **state)
{
    (void)state;
    for (int memory = 0; memory < 2; memory++) {
        char *dir = make_dir();
        struct journal_options o = storer(dir);
        if (memory) {
            o.type = JOURNAL_MEMORY;
            o.max_size = 64 * MIB;
        }
        struct journal *j = open_ok(&o);
        ok(journal_begin_log(j, ID_A, 100, &failure));
        ok(append(j, 2 * MIB, 100000, &failure));
        struct journal_reader *r = journal_reader_open(j);
        const char *p, *q;
        size_t n, m;
        ok(journal_log_view(r, 100, &p, &n, &failure));
        // The same name is taken again at once.
        ok(journal_begin_log(j, ID_B, 100, &failure));
        ok(append(j, 100, 100, &failure));
        struct err e = {0};
        assert_int_equal(journal_log_view(r, 100, &q, &m, &e), -ERANGE);
        assert_true(matches(p, 100, n));
        journal_reader_close(r);
        r = journal_reader_open(j);
        check_log(r, j, 100);
        assert_int_equal(info_of(j).right, 200);
        journal_reader_close(r);
        journal_close(j);
        if (!memory) {
            assert_int_equal(count_files(dir, "log-"), 1);
            assert_int_equal(count_files(dir, ".gunyu"), 0);
        }
        remove_dir(dir);
    }
}

static void views_stay_contiguous_when_the_address_space_moves_on(void **state)
{
    (void)state;
    size_t saved = vmap_reserve;
    vmap_reserve = 2 * MIB;
    for (int memory = 0; memory < 2; memory++) {
        char *dir = make_dir();
        struct journal_options o = storer(dir);
        if (memory) {
            o.type = JOURNAL_MEMORY;
            o.max_size = 16 * MIB;
        }
        struct journal *j = open_ok(&o);
        ok(journal_begin_log(j, ID_A, 9, &failure));
        struct journal_reader *r = journal_reader_open(j);
        ok(append(j, 300 * KIB, 5000, &failure));
        const char *held;
        size_t held_n;
        ok(journal_log_view(r, 9, &held, &held_n, &failure));
        for (int i = 0; i < 12; i++) {
            ok(append(j, MIB - 1, 50000, &failure));
            check_log(r, j, memory ? 9 : 20);
            journal_log_release(r, 10 + (uint64_t)i); // pins what is held
            assert_true(matches(held + 20, 29, held_n - 20));
        }
        uint64_t at = 9;
        for (int i = 0; i < 60; i++) {
            at = info_of(j).right - 100 * KIB;
            journal_log_release(r, at);
            ok(append(j, MIB / 2 + 13, 50000, &failure));
            check_log(r, j, at);
        }
        journal_reader_close(r);
        r = journal_reader_open(j);
        check_log(r, j, info_of(j).left);
        journal_reader_close(r);
        journal_close(j);
        remove_dir(dir);
    }
    vmap_reserve = saved;
}

static void a_snapshot_outgrows_its_address_space(void **state)
{
    (void)state;
    size_t saved = vmap_reserve;
    vmap_reserve = 64 * MIB;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    struct journal *j = open_ok(&o);
    ok(journal_begin_snapshot(j, ID_A, 1, JOURNAL_SIZE_UNKNOWN, &failure));
    ok(append_snapshot(j, 200 * MIB, MIB, &failure));
    ok(journal_end_snapshot(j, 200 * MIB, &failure));
    struct journal_reader *r = journal_reader_open(j);
    const char *p;
    size_t n;
    ok(journal_snapshot_view(r, 0, &p, &n, &failure));
    assert_int_equal(n, 200 * MIB);
    assert_true(matches(p, 0, n));
    journal_reader_close(r);
    journal_close(j);
    remove_dir(dir);
    vmap_reserve = saved;
}

static void bug_41_max_size_holds_and_unread_data_is_never_dropped(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    o.max_size = 4 * MIB;
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 50, &failure));
    struct journal_reader *r = journal_reader_open(j);
    struct err e = {0};
    assert_int_equal(append(j, 10 * MIB, 10000, &e), ERR_FULL);
    assert_true(strstr(e.msg, "maxSize"));
    uint64_t right = info_of(j).right;
    assert_true(right - 50 <= 4 * MIB && right - 50 > 2 * MIB);
    check_log(r, j, 50);
    // Full is a state, not a failure.
    ok(journal_tick(j, &failure));
    // The reader takes half: as much fits again, and what it has not taken is intact.
    uint64_t half = 50 + (right - 50) / 2;
    journal_log_release(r, half);
    assert_int_equal(append(j, 10 * MIB, 10000, &e), ERR_FULL);
    struct journal_info info = info_of(j);
    assert_true(info.right > right && info.left <= half && info.left > 50);
    assert_true(info.bytes <= 4 * MIB);
    check_log(r, j, half);
    // A second reader that begins at the left edge holds it.
    journal_log_release(r, info.right);
    struct journal_reader *slow = journal_reader_open(j);
    assert_int_equal(append(j, MIB, 10000, &e), ERR_FULL);
    assert_int_equal(info_of(j).left, info.left);
    check_log(slow, j, info.left);
    journal_reader_close(slow);
    ok(append(j, MIB, 10000, &failure));
    journal_reader_close(r);

    long used = 0;
    DIR *d = opendir(dir);
    for (struct dirent *ent; (ent = readdir(d));) {
        struct stat st;
        if (fstatat(dirfd(d), ent->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            used += st.st_blocks * 512;
    }
    closedir(d);
    assert_true(used <= 4 * MIB + 64 * KIB);
    journal_close(j);
    remove_dir(dir);
}

static void without_a_reader_nothing_unread_is_dropped(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    o.max_size = 2 * MIB;
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 0, &failure));
    struct err e = {0};
    assert_int_equal(append(j, 10 * MIB, 10000, &e), ERR_FULL);
    assert_int_equal(info_of(j).left, 0);
    journal_close(j);
    remove_dir(dir);
}

static void flow_through(uint64_t max_size)
{
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    o.max_size = (int64_t)max_size;
    struct journal *j = open_ok(&o);
    ok(journal_begin_snapshot(j, ID_A, 33, 40 * MIB, &failure));
    struct journal_reader *r = journal_reader_open(j);
    uint64_t done = 0;
    int full = 0;
    while (done < 40 * MIB) {
        struct err e = {0};
        int rc = append_snapshot(j, 40 * MIB - info_of(j).snapshot_have, 300000, &e);
        assert_true(rc == 0 || rc == ERR_FULL);
        full += rc == ERR_FULL;
        assert_true(info_of(j).bytes <= (int64_t)max_size);
        const char *p;
        size_t n;
        ok(journal_snapshot_view(r, done, &p, &n, &failure));
        assert_true(n > 0 && matches(p, done, n));
        done += n;
        journal_snapshot_release(r, done);
    }
    assert_true(full > 3);
    ok(journal_end_snapshot(j, 40 * MIB, &failure));
    assert_false(info_of(j).has_snapshot);
    // With its end still held, by a reader that has taken all of it and asks for the stream.
    struct journal_reader *stream = journal_reader_open(j);
    journal_reader_close(r);
    journal_log_release(stream, 33);
    ok(append(j, max_size / 2, 5000, &failure));
    check_log(stream, j, 33);
    journal_reader_close(stream);
    journal_close(j);
    j = open_ok(&o);
    assert_false(info_of(j).has_snapshot);
    assert_int_equal(info_of(j).right, 33 + max_size / 2);
    journal_close(j);
    remove_dir(dir);
}

static void a_snapshot_above_max_size_flows_through_a_storer(void **state)
{
    (void)state;
    flow_through(8 * MIB);
    flow_through(MIB);
}

static void memory_holds_its_cap_and_frees_what_is_read(void **state)
{
    (void)state;
    struct journal_options o = {
        .type = JOURNAL_MEMORY, .max_size = 64 * MIB, .log_size = 100 * MIB};
    struct journal *j = open_ok(&o);
    ok(journal_begin_snapshot(j, ID_A, 5, JOURNAL_SIZE_UNKNOWN, &failure));
    struct journal_reader *r = journal_reader_open(j);
    struct err e = {0};
    assert_int_equal(append_snapshot(j, 100 * MIB, 300000, &e), ERR_FULL);
    assert_int_equal(info_of(j).bytes, 64 * MIB);
    const char *p;
    size_t n;
    ok(journal_snapshot_view(r, 0, &p, &n, &failure));
    assert_true(n == 64 * MIB && matches(p, 0, n));
    journal_snapshot_release(r, 60 * MIB);
    assert_int_equal(info_of(j).bytes, 4 * MIB);
    assert_false(info_of(j).has_snapshot);
    ok(append_snapshot(j, 6 * MIB, 300000, &failure));
    ok(journal_end_snapshot(j, 70 * MIB, &failure));
    // The log shares the cap with what is left of the snapshot.
    assert_int_equal(append(j, 100 * MIB, 300000, &e), ERR_FULL);
    assert_true(info_of(j).bytes <= 64 * MIB);
    uint64_t right = info_of(j).right;
    assert_int_equal(right, 5 + 54 * MIB);
    check_log(r, j, 5);
    ok(journal_snapshot_view(r, 60 * MIB, &p, &n, &failure));
    assert_true(n == 10 * MIB && matches(p, 60 * MIB, n));
    journal_snapshot_release(r, 70 * MIB);
    ok(append(j, 10 * MIB, 300000, &failure));
    journal_log_release(r, right);
    ok(append(j, 50 * MIB, 300000, &failure));
    check_log(r, j, right);
    assert_int_equal(journal_log_view(r, 5, &p, &n, &e), -ERANGE);
    journal_reader_close(r);
    journal_close(j);
}

static void memory_streams_far_more_than_its_cap(void **state)
{
    (void)state;
    struct journal_options o = {.type = JOURNAL_MEMORY, .max_size = MIB};
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 123, &failure));
    struct journal_reader *r = journal_reader_open(j);
    uint64_t at = 123;
    while (at < 50 * MIB) {
        struct err e = {0};
        int rc = append(j, 3 * MIB, 7777, &e);
        assert_true(rc == 0 || rc == ERR_FULL);
        check_log(r, j, at);
        at = info_of(j).right;
        journal_log_release(r, at);
        assert_true(info_of(j).bytes <= MIB);
    }
    journal_reader_close(r);
    journal_close(j);
}

static void old_and_read_segments_go_by_age(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    o.max_age_ms = 1;
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 0, &failure));
    ok(append(j, 2 * MIB, 100000, &failure));
    struct journal_reader *r = journal_reader_open(j);
    usleep(3000);
    ok(journal_tick(j, &failure));
    assert_int_equal(info_of(j).left, 0);
    journal_log_release(r, MIB);
    ok(journal_tick(j, &failure));
    assert_int_equal(info_of(j).left, MIB);
    journal_reader_close(r);
    journal_close(j);
    remove_dir(dir);
}

static void a_second_owner_is_refused_by_name(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    struct journal *j = open_ok(&o), *k = NULL;
    struct err e = {0};
    char pid[32];
    snprintf(pid, sizeof(pid), "process %d", (int)getpid());
    assert_int_equal(journal_open(&k, &o, &e), ERR_LOCKED);
    assert_non_null(strstr(e.msg, pid));
    assert_null(k);
    journal_close(j);
    j = open_ok(&o);
    journal_close(j);
    remove_dir(dir);
}

static void a_directory_that_cannot_be_written_is_a_clear_error(void **state)
{
    (void)state;
    char *dir = make_dir();
    chmod(dir, 0555);
    pid_t pid = fork();
    if (pid == 0) {
        if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0)
            _exit(9);
        struct journal_options o = storer(dir);
        struct journal *j = NULL;
        struct err e = {0};
        int rc = journal_open(&j, &o, &e);
        _exit(rc == -EACCES && !j && strstr(e.msg, dir) ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    chmod(dir, 0700);

    char path[4096];
    path_of(path, dir, "file");
    close(open(path, O_CREAT | O_WRONLY, 0600));
    struct journal_options o = storer(path);
    struct journal *j;
    struct err e = {0};
    assert_int_equal(journal_open(&j, &o, &e), -ENOTDIR);
    path_of(path, dir, "a/b/c");
    j = open_ok(&o);
    journal_close(j);
    clear_dir(path);
    rmdir(path);
    path_of(path, dir, "a/b");
    rmdir(path);
    path_of(path, dir, "a");
    rmdir(path);
    remove_dir(dir);
}

static void a_vanished_directory_is_told_once(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 0, &failure));
    ok(append(j, 100, 100, &failure));
    ok(journal_tick(j, &failure));
    clear_dir(dir);
    rmdir(dir);
    struct err e = {0};
    assert_int_equal(journal_tick(j, &e), -ENOENT);
    assert_non_null(strstr(e.msg, "vanished"));
    assert_int_equal(journal_tick(j, &e), 0);
    char *p;
    size_t n;
    assert_int_equal(journal_log_space(j, &p, &n, &e), -ENOENT);
    assert_int_equal(journal_begin_log(j, ID_A, 0, &e), -ENOENT);
    journal_close(j);
    free(dir);
}

static void hostile_ids_and_offsets_are_refused(void **state)
{
    (void)state;
    struct journal_options o = {.type = JOURNAL_MEMORY, .max_size = MIB};
    struct journal *j = open_ok(&o);
    struct err e = {0};
    assert_int_equal(journal_begin_log(j, "", 0, &e), ERR_PROTOCOL);
    assert_int_equal(journal_begin_log(j, "a\"b", 0, &e), ERR_PROTOCOL);
    assert_int_equal(journal_begin_log(j, ID_A "x", 0, &e), ERR_PROTOCOL);
    assert_int_equal(journal_begin_log(j, ID_A, UINT64_MAX - 5, &e), ERR_PROTOCOL);
    assert_int_equal(journal_begin_snapshot(j, ID_A, 1, UINT64_MAX - 1, &e), ERR_PROTOCOL);
    journal_close(j);
    o.max_size = -1;
    assert_int_equal(journal_open(&j, &o, &e), ERR_CONFIG);
}

static void each_flush_policy_records_what_it_flushed(void **state)
{
    (void)state;
    static const struct journal_flush policies[] = {
        {.every_write = true}, {.duration_ms = 1}, {.dirty_size = 1000}, {.auto_flush = true}};
    for (size_t i = 0; i < 4; i++) {
        char *dir = make_dir();
        struct journal_options o = storer(dir);
        o.flush = policies[i];
        struct journal *j = open_ok(&o);
        ok(journal_begin_log(j, ID_A, 0, &failure));
        ok(append(j, 300 * KIB + 5, 100 * KIB, &failure));
        usleep(3000);
        ok(journal_tick(j, &failure));
        char path[4096];
        uint64_t synced = 0;
        segment_path(path, dir, 256 * KIB);
        int fd = open(path, O_RDONLY);
        assert_int_equal(pread(fd, &synced, 8, 136), 8);
        close(fd);
        if (policies[i].auto_flush)
            assert_int_equal(synced, 256 * KIB);
        else
            assert_int_equal(synced, 300 * KIB + 5);
        journal_close(j);
        remove_dir(dir);
    }
}

static uv_sem_t pool_gate;

static void hold_a_thread(uv_work_t *w)
{
    (void)w;
    uv_sem_wait(&pool_gate);
}

static void the_pool_does_the_slow_work_and_close_waits_for_it(void **state)
{
    (void)state;
    char *dir = make_dir();
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    struct journal_options o = storer(dir);
    o.loop = &loop;
    o.max_size = 4 * MIB;
    o.flush = (struct journal_flush){.every_write = true};
    struct journal *j = open_ok(&o);
    ok(journal_begin_snapshot(j, ID_A, 0, JOURNAL_SIZE_UNKNOWN, &failure));
    ok(append_snapshot(j, 100000, 5000, &failure));
    ok(journal_end_snapshot(j, 100000, &failure));
    struct journal_reader *r = journal_reader_open(j);
    for (int i = 0; i < 100; i++) {
        ok(append(j, 200 * KIB, 50000, &failure));
        journal_log_release(r, info_of(j).right - 1000);
        if (i % 3 == 0)
            uv_run(&loop, UV_RUN_NOWAIT);
        ok(journal_tick(j, &failure));
    }
    check_log(r, j, info_of(j).right - 1000);
    journal_reader_close(r);
    // The old file is unlinked later, under another name: the new one takes its name at once.
    uv_work_t held[4];
    assert_int_equal(uv_sem_init(&pool_gate, 0), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(uv_queue_work(&loop, &held[i], hold_a_thread, NULL), 0);
    for (int i = 0; i < 3; i++) {
        ok(journal_begin_log(j, ID_A, 4000, &failure));
        ok(append(j, 300 * KIB, 50000, &failure));
    }
    for (int i = 0; i < 4; i++)
        uv_sem_post(&pool_gate);
    uint64_t right = info_of(j).right;
    journal_close(j);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    uv_sem_destroy(&pool_gate);
    assert_int_equal(count_files(dir, ".gunyu"), 0);
    o.loop = NULL;
    j = open_ok(&o);
    assert_int_equal(info_of(j).left, 4000);
    assert_int_equal(info_of(j).right, right);
    journal_close(j);
    remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_views_are_contiguous_over_segment_borders),
        cmocka_unit_test(a_journal_reopens_as_it_was_closed),
        cmocka_unit_test(snapshot_views_grow_while_it_arrives),
        cmocka_unit_test(an_empty_snapshot_is_a_snapshot),
        cmocka_unit_test(a_begin_leaves_old_pointers_alive_until_their_reader_closes),
        cmocka_unit_test(views_stay_contiguous_when_the_address_space_moves_on),
        cmocka_unit_test(a_snapshot_outgrows_its_address_space),
        cmocka_unit_test(bug_41_max_size_holds_and_unread_data_is_never_dropped),
        cmocka_unit_test(without_a_reader_nothing_unread_is_dropped),
        cmocka_unit_test(a_snapshot_above_max_size_flows_through_a_storer),
        cmocka_unit_test(memory_holds_its_cap_and_frees_what_is_read),
        cmocka_unit_test(memory_streams_far_more_than_its_cap),
        cmocka_unit_test(old_and_read_segments_go_by_age),
        cmocka_unit_test(a_second_owner_is_refused_by_name),
        cmocka_unit_test(a_directory_that_cannot_be_written_is_a_clear_error),
        cmocka_unit_test(a_vanished_directory_is_told_once),
        cmocka_unit_test(hostile_ids_and_offsets_are_refused),
        cmocka_unit_test(each_flush_policy_records_what_it_flushed),
        cmocka_unit_test(the_pool_does_the_slow_work_and_close_waits_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

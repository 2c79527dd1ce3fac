// SPDX-License-Identifier: Apache-2.0
// What is left after a kill, a machine crash, damage, and a full disk.
#include "test_journal_util.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "journal/inspect.h"

#define HEADER ((uint64_t)2 * 1024 * 1024) // before the data of a small segment

static uint64_t seed = 88172645463325252u;

static uint64_t rnd(uint64_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % n;
}

static void poke(const char *path, uint64_t at, char x)
{
    int fd = open(path, O_RDWR);
    char c;
    assert_int_equal(pread(fd, &c, 1, (off_t)at), 1);
    c = (char)(c ^ x);
    assert_int_equal(pwrite(fd, &c, 1, (off_t)at), 1);
    close(fd);
}

// A log of n bytes after position 1000 in segments of 256 KiB, left as a kill would.
static void make_log(const struct journal_options *o, uint64_t n)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct journal *j;
        struct err e;
        if (journal_open(&j, o, &e) < 0 || journal_begin_log(j, ID_A, 1000, &e) < 0 ||
            append(j, n, 50000, &e) < 0)
            _exit(1);
        kill(getpid(), SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void check_all(struct journal *j)
{
    struct journal_reader *r = journal_reader_open(j);
    check_log(r, j, info_of(j).left);
    journal_reader_close(r);
}

struct shared {
    _Atomic uint64_t right; // committed
    _Atomic uint64_t left;
    _Atomic bool steady; // no begin under way
};

// Does everything a journal can do, as fast as it can, until killed.
static void live(const struct journal_options *o, struct shared *s)
{
    struct journal *j;
    struct err e;
    if (journal_open(&j, o, &e) < 0)
        _exit(1);
    struct journal_reader *r = NULL;
    for (;;) {
        uint64_t what = rnd(40);
        struct journal_info info = info_of(j);
        if (!info.has_log || what == 0) {
            s->steady = false;
            journal_reader_close(r);
            uint64_t at = rnd(1 << 30), n = rnd(300000);
            if (what % 2 ? journal_begin_log(j, ID_A, at, &e) < 0
                         : journal_begin_snapshot(j, ID_B, at, n, &e) < 0 ||
                               append_snapshot(j, n, 30000, &e) < 0 ||
                               journal_end_snapshot(j, n, &e) < 0) {
                fprintf(stderr, "begin: %s\n", e.msg);
                _exit(2);
            }
            r = journal_reader_open(j);
            s->left = s->right = at;
            s->steady = true;
        } else if (what < 3 && journal_set_replid(j, rnd(2) ? ID_A : ID_B, info.right, &e) < 0) {
            _exit(3);
        }
        int rc = append(j, 1 + rnd(200000), 1 + (size_t)rnd(70000), &e);
        s->right = info_of(j).right;
        if (rc < 0 && rc != ERR_FULL)
            _exit(4);
        if (r && (rc == ERR_FULL || rnd(4) == 0)) {
            journal_snapshot_release(r, info_of(j).snapshot_have);
            journal_log_release(r, info_of(j).right - rnd(info_of(j).right - info_of(j).left + 1));
        }
        if (journal_tick(j, &e) < 0)
            _exit(5);
    }
}

static void kill_9_at_any_moment_loses_no_committed_byte(void **state)
{
    (void)state;
    const char *more = getenv("GUNYU_TEST_KILLS");
    int kills = more ? atoi(more) : 150;
    char *dir = make_fast_dir();
    struct shared *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t logs = 0, snapshots = 0;
    seed ^= (uint64_t)time(NULL);
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < kills; i++) {
        struct journal_options o = storer(dir);
        o.max_size = rnd(2) ? -1 : 4 * MIB;
        o.log_size = rnd(2) ? 256 * KIB : 128 * KIB;
        o.verify_crc = rnd(2);
        o.flush.every_write = rnd(4) == 0;
        s->steady = false;
        // Not the parent's own sequence: children would begin snapshots at the same offsets, and
        // what a killed one left, which is no RDB here, is foreign to the next.
        uint64_t child_seed = rnd(UINT64_MAX) * 0x9e3779b97f4a7c15u;
        pid_t pid = fork();
        if (pid == 0) {
            seed = child_seed;
            live(&o, s);
        }
        usleep((useconds_t)rnd(20000));
        kill(pid, SIGKILL);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFSIGNALED(status))
            fail_msg("the writer failed with %d", WEXITSTATUS(status));
        struct journal *j = open_ok(&o);
        struct journal_info info = info_of(j);
        if (s->steady) {
            assert_true(info.has_log);
            assert_true(info.right >= s->right);
            assert_true(info.left >= s->left);
        }
        if (info.has_log) {
            logs += info.right > info.left;
            check_all(j);
        }
        if (info.has_snapshot) {
            struct journal_reader *r = journal_reader_open(j);
            const char *p;
            size_t n;
            snapshots++;
            assert_true(info.snapshot_complete);
            ok(journal_snapshot_view(r, 0, &p, &n, &failure));
            assert_int_equal(n, info.snapshot_size);
            assert_true(matches(p, 0, n));
            journal_reader_close(r);
        }
        journal_close(j);
    }
    // The test is about something.
    assert_true(logs > (uint64_t)kills / 4 && snapshots > 0);
    munmap(s, 4096);
    remove_dir(dir);
}

static void a_machine_crash_keeps_what_was_flushed_and_cuts_what_is_torn(void **state)
{
    (void)state;
    for (int i = 0; i < 40; i++) {
        char *dir = make_fast_dir();
        struct journal_options o = storer(dir);
        o.log_size = MIB;
        struct journal *j = open_ok(&o);
        ok(journal_begin_log(j, ID_A, 1000, &failure));
        ok(append(j, 1 + rnd(MIB - 2), 50000, &failure));
        uint64_t flushed = info_of(j).right;
        journal_close(j);
        o.flush = (struct journal_flush){.duration_ms = 1};
        j = open_ok(&o);
        journal_close(j); // flushes
        o.flush = (struct journal_flush){.auto_flush = true};
        j = open_ok(&o);
        ok(append(j, 1 + rnd(1000 + MIB - flushed), 50000, &failure));
        uint64_t right = info_of(j).right;
        journal_close(j);
        // Pages that never reached the disk read as they were before: zero.
        char path[4096];
        segment_path(path, dir, 1000);
        uint64_t lost = flushed + rnd(right - flushed);
        uint64_t zero = right - lost;
        int fd = open(path, O_RDWR);
        char *zeros = calloc(1, zero);
        bool torn = rnd(4) > 0;
        if (torn)
            assert_int_equal(pwrite(fd, zeros, zero, (off_t)(HEADER + lost - 1000)), zero);
        free(zeros);
        close(fd);
        pretend_machine_crash(dir);
        j = open_ok(&o);
        struct journal_info info = info_of(j);
        assert_int_equal(info.left, 1000);
        assert_true(info.right >= flushed && info.right <= right);
        check_all(j);
        // It goes on from there.
        ok(append(j, 2 * MIB, 50000, &failure));
        check_all(j);
        journal_close(j);
        pretend_machine_crash(dir);
        o.verify_crc = true;
        j = open_ok(&o);
        check_all(j);
        journal_close(j);
        remove_dir(dir);
    }
}

static void bug_38_the_segment_being_written_passes_verification(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    o.verify_crc = true;
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 1000, &failure));
    struct journal_reader *r = journal_reader_open(j);
    for (int i = 0; i < 60; i++) {
        ok(append(j, 1 + rnd(40000), 9999, &failure));
        check_log(r, j, 1000);
    }
    journal_reader_close(r);
    journal_close(j);
    FILE *out = tmpfile();
    ok(inspect_verify(dir, out, &failure));
    fclose(out);
    remove_dir(dir);
}

static void bug_26_neither_a_crash_nor_a_zero_checksum_is_corruption(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    o.verify_crc = true;
    make_log(&o, 300 * KIB + 77);
    struct journal *j = open_ok(&o);
    assert_int_equal(info_of(j).right, 1000 + 300 * KIB + 77);
    check_all(j);

    static const char rdb[] = "REDIS0009\xff\0\0\0\0\0\0\0\0"; // checksum 0: none
    ok(journal_begin_snapshot(j, ID_A, 5, sizeof(rdb) - 1, &failure));
    char *p;
    size_t n;
    ok(journal_snapshot_space(j, &p, &n, &failure));
    memcpy(p, rdb, sizeof(rdb) - 1);
    ok(journal_snapshot_commit(j, sizeof(rdb) - 1, &failure));
    ok(journal_end_snapshot(j, sizeof(rdb) - 1, &failure));
    journal_close(j);
    FILE *out = tmpfile();
    ok(inspect_verify(dir, out, &failure));
    fclose(out);

    char path[4096];
    path_of(path, dir, "snapshot-00000000000000000005.rdb");
    poke(path, 12, 1);
    out = tmpfile();
    assert_int_equal(inspect_verify(dir, out, &failure), ERR_CORRUPT);
    fclose(out);
    remove_dir(dir);
}

static void bug_25_a_flipped_bit_has_its_own_error_and_a_begin_clears_it(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    o.verify_crc = true;
    make_log(&o, MIB);
    char path[4096], name[64];
    uint64_t left = 1000 + 256 * KIB;
    segment_path(path, dir, left);
    poke(path, HEADER + 65536 + 5, 0x10);
    FILE *out = tmpfile();
    struct err e = {0};
    assert_int_equal(inspect_verify(dir, out, &e), ERR_CORRUPT);
    fclose(out);
    struct journal *j = open_ok(&o);
    struct journal_reader *r = journal_reader_open(j);
    const char *p;
    size_t n;
    assert_int_equal(journal_log_view(r, 1000, &p, &n, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.msg, path));
    snprintf(name, sizeof(name), "byte %llu", (unsigned long long)(HEADER + 65536));
    assert_non_null(strstr(e.msg, name));
    // Again, not passed over; what lies behind it is fine.
    assert_int_equal(journal_log_view(r, 2000, &p, &n, &e), ERR_CORRUPT);
    check_log(r, j, left + 3 * 65536);
    journal_reader_close(r);
    ok(journal_begin_log(j, ID_A, 1000, &failure));
    ok(append(j, MIB, 50000, &failure));
    check_all(j);
    journal_close(j);

    // After a machine crash the damaged part is cut off at once: only the newest run is kept.
    poke(path, HEADER + 65536 + 5, 0x10);
    pretend_machine_crash(dir);
    j = open_ok(&o);
    assert_int_equal(info_of(j).left, 1000 + 512 * KIB);
    assert_int_equal(info_of(j).right, 1000 + MIB);
    check_all(j);
    journal_close(j);
    remove_dir(dir);
}

static void bug_35_foreign_files_are_neither_read_nor_removed(void **state)
{
    (void)state;
    static const char *const names[] = {"precious.txt",
                                        "log-00000000000000001000.seg.bak",
                                        "log-1000.seg",
                                        "log-00000000000000777777.seg",
                                        "snapshot-00000000000000000009.rdb",
                                        "snapshot-00000000000000000009.rdb.part",
                                        "dump.rdb",
                                        "appendonly.aof"};
    char *dir = make_dir();
    char path[4096], sub[4096];
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        path_of(path, dir, names[i]);
        FILE *f = fopen(path, "w");
        fputs("this is somebody's file and has some length", f);
        fclose(f);
    }
    path_of(sub, dir, "log-00000000000000888888.seg");
    mkdir(sub, 0700);
    path_of(path, dir, "log-00000000000000999999.seg");
    assert_int_equal(symlink("/etc/passwd", path), 0);
    struct journal_options o = storer(dir);
    o.max_size = 2 * MIB;
    o.max_age_ms = 1;
    for (int i = 0; i < 3; i++) {
        struct journal *j = open_ok(&o);
        ok(journal_begin_log(j, ID_A, 1000, &failure));
        struct journal_reader *r = journal_reader_open(j);
        for (int k = 0; k < 10; k++) {
            ok(append(j, 76000, 50000, &failure));
            journal_log_release(r, info_of(j).right);
            ok(journal_tick(j, &failure));
        }
        journal_reader_close(r);
        ok(journal_begin_snapshot(j, ID_A, 10, 0, &failure));
        journal_close(j);
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        path_of(path, dir, names[i]);
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, 43);
    }
    // Where the log would need that name it says so, and the file stays.
    struct journal *j = open_ok(&o);
    struct err e = {0};
    ok(journal_begin_log(j, ID_A, 777777, &failure));
    assert_int_equal(append(j, 1, 1, &e), -EEXIST);
    assert_non_null(strstr(e.msg, "log-00000000000000777777.seg"));
    ok(journal_begin_log(j, ID_A, 777778, &failure));
    ok(append(j, 1, 1, &failure));
    journal_close(j);
    rmdir(sub);
    remove_dir(dir);
}

static void a_missing_segment_leaves_the_newest_run(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    make_log(&o, MIB + 5000);
    char path[4096];
    segment_path(path, dir, 1000 + 512 * KIB);
    unlink(path);
    struct journal *j = open_ok(&o);
    assert_int_equal(info_of(j).left, 1000 + 768 * KIB);
    assert_int_equal(info_of(j).right, 1000 + MIB + 5000);
    check_all(j);
    ok(append(j, MIB, 50000, &failure));
    check_all(j);
    journal_close(j);
    assert_int_equal(count_files(dir, "log-"), 6);
    remove_dir(dir);
}

static void a_snapshot_stays_only_while_the_log_continues_it(void **state)
{
    (void)state;
    for (int gap = 0; gap < 2; gap++) {
        char *dir = make_dir();
        struct journal_options o = storer(dir);
        struct journal *j = open_ok(&o);
        ok(journal_begin_snapshot(j, ID_A, 1000, 100000, &failure));
        ok(append_snapshot(j, 100000, 100000, &failure));
        ok(journal_end_snapshot(j, 100000, &failure));
        ok(append(j, MIB, 50000, &failure));
        journal_close(j);
        char path[4096];
        if (gap) {
            segment_path(path, dir, 1000 + 256 * KIB);
            unlink(path);
        }
        j = open_ok(&o);
        assert_int_equal(info_of(j).has_snapshot, !gap);
        assert_int_equal(count_files(dir, "snapshot-"), !gap);
        journal_close(j);
        remove_dir(dir);
    }
}

static void an_incomplete_snapshot_does_not_survive(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    struct journal *j = open_ok(&o);
    ok(journal_begin_snapshot(j, ID_A, 1000, 100000, &failure));
    ok(append_snapshot(j, 50000, 100000, &failure));
    assert_int_equal(count_files(dir, "snapshot-"), 1);
    journal_close(j);
    j = open_ok(&o);
    assert_false(info_of(j).has_snapshot || info_of(j).has_log);
    assert_string_equal(info_of(j).replid, "");
    assert_int_equal(count_files(dir, "snapshot-"), 0);
    journal_close(j);
    remove_dir(dir);
}

static void garbage_in_any_file_ends_in_less_data_never_in_wrong_data(void **state)
{
    (void)state;
    for (int i = 0; i < 120; i++) {
        char *dir = make_fast_dir();
        struct journal_options o = storer(dir);
        make_log(&o, 700 * KIB);
        char path[4096];
        if (i % 4 == 0)
            path_of(path, dir, "meta.json");
        else
            segment_path(path, dir, 1000 + 256 * KIB * (uint64_t)(i % 4 - 1));
        int fd = open(path, O_RDWR);
        struct stat st;
        fstat(fd, &st);
        switch (i / 4 % 4) {
        case 0: // a torn or emptied file
            assert_int_equal(ftruncate(fd, i < 16 ? 0 : (off_t)rnd((uint64_t)st.st_size)), 0);
            break;
        case 1: { // garbage in the header
            uint64_t junk = rnd(UINT64_MAX);
            assert_int_equal(pwrite(fd, &junk, 8, (off_t)rnd(200)), 8);
            break;
        }
        case 2: // one bit of it
            poke(path, rnd(200), (char)(1 << rnd(8)));
            break;
        default: { // zeroed header
            char zeros[4096] = {0};
            assert_int_equal(pwrite(fd, zeros, sizeof(zeros), 0), 4096);
        }
        }
        close(fd);
        if (rnd(2)) {
            o.verify_crc = true;
        }
        struct journal *j = open_ok(&o);
        struct journal_info info = info_of(j);
        if (info.has_log) {
            assert_true(info.left >= 1000);
            if (info.right <= 1000 + 700 * KIB)
                check_all(j);
        }
        struct err e = {0};
        int rc = journal_begin_log(j, ID_B, 77, &e);
        assert_int_equal(rc, 0);
        ok(append(j, 100000, 50000, &failure));
        check_all(j);
        journal_close(j);
        remove_dir(dir);
    }
}

// Cuts the only segment behind the first 8192 bytes of the log.
static void cut_log(const char *dir)
{
    char path[4096];
    segment_path(path, dir, 1000);
    assert_int_equal(truncate(path, (off_t)(HEADER + 8192)), 0);
}

static void a_file_truncated_under_a_reader_is_damage_not_a_crash(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 1000, &failure));
    ok(append(j, 100000, 50000, &failure));
    struct journal_reader *r = journal_reader_open(j);
    const char *p;
    size_t n;
    ok(journal_log_view(r, 1000, &p, &n, &failure));
    assert_false(journal_damaged(j));
    cut_log(dir);
    assert_true(matches(p, 1000, 8192));
    assert_int_equal(p[8192 + 10], 0);
    assert_true(journal_damaged(j));
    char *w;
    size_t room;
    struct err e = {0};
    assert_int_equal(journal_tick(j, &e), -EIO);
    assert_non_null(strstr(e.msg, dir));
    assert_int_equal(journal_tick(j, &e), 0);
    assert_int_equal(journal_log_space(j, &w, &room, &e), -EIO);
    journal_reader_close(r);
    journal_close(j);
    remove_dir(dir);
}

static void a_write_behind_the_end_of_a_truncated_file_is_an_error_and_makes_no_hole(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 1000, &failure));
    ok(append(j, 100000, 50000, &failure));
    cut_log(dir);
    struct err e = {0};
    assert_int_equal(append(j, 50000, 50000, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.msg, dir));
    assert_int_equal(info_of(j).right, 101000);
    char path[4096];
    struct stat st;
    segment_path(path, dir, 1000);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, HEADER + 8192);
    assert_int_equal(journal_tick(j, &e), ERR_CORRUPT);
    journal_close(j);
    remove_dir(dir);
}

static void a_truncated_file_is_seen_before_anybody_touches_it(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 1000, &failure));
    ok(append(j, 100, 100, &failure));
    cut_log(dir);
    struct err e = {0};
    assert_int_equal(journal_tick(j, &e), ERR_CORRUPT);
    journal_close(j);
    remove_dir(dir);
}

// Runs in a process of its own that may mount.
static int on_a_small_disk(const char *dir)
{
    uid_t uid = geteuid();
    if (unshare(uid == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return 77;
    if (uid != 0) {
        FILE *f = fopen("/proc/self/uid_map", "w");
        if (!f || fprintf(f, "0 %u 1", uid) < 0 || fclose(f) != 0)
            return 77;
    }
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=777") < 0)
        return 77;
    char shard[4096];
    path_of(shard, dir, "shard");
    struct journal_options o = storer(shard);
    o.log_size = 512 * KIB;
    struct journal *j;
    struct err e = {0};
    if (journal_open(&j, &o, &e) < 0 || journal_begin_log(j, ID_A, 1000, &e) < 0)
        return 1;
    if (append(j, 100 * MIB, 50000, &e) != -ENOSPC || !strstr(e.msg, shard))
        return 2;
    uint64_t right = info_of(j).right;
    if (right < 1000 + 2 * MIB || journal_tick(j, &e) < 0)
        return 3;
    // Fill the last page, so that nothing at all can be written.
    char path[4096];
    path_of(path, dir, "filler");
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    static char zeros[4096];
    while (write(fd, zeros, sizeof(zeros)) > 0)
        ;
    close(fd);
    if (journal_set_replid(j, ID_B, right, &e) != -ENOSPC || strcmp(info_of(j).replid, ID_A) != 0)
        return 4;
    // What a reader has taken gives way.
    struct journal_reader *r = journal_reader_open(j);
    const char *p;
    size_t n;
    if (journal_log_view(r, 1000, &p, &n, &e) < 0 || !matches(p, 1000, n))
        return 5;
    journal_log_release(r, right);
    if (append(j, MIB, 50000, &e) < 0 || info_of(j).left <= 1000)
        return 6;
    journal_reader_close(r);
    uint64_t left = info_of(j).left;
    right = info_of(j).right;
    journal_close(j);
    if (journal_open(&j, &o, &e) == 0)
        journal_close(j);
    unlink(path);
    if (journal_open(&j, &o, &e) < 0 || info_of(j).left != left || info_of(j).right != right)
        return 7;
    // A full sync on a full disk empties first.
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    while (write(fd, zeros, sizeof(zeros)) > 0)
        ;
    close(fd);
    if (journal_begin_log(j, ID_B, 5, &e) < 0 || append(j, MIB, 50000, &e) < 0)
        return 8;
    r = journal_reader_open(j);
    if (journal_log_view(r, 5, &p, &n, &e) < 0 || n != MIB || !matches(p, 5, n))
        return 9;
    journal_reader_close(r);
    journal_close(j);
    return 0;
}

static void a_full_disk_is_an_error_that_passes(void **state)
{
    (void)state;
    char *dir = make_dir();
    pid_t pid = fork();
    if (pid == 0)
        _exit(on_a_small_disk(dir));
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    rmdir(dir);
    free(dir);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
}

static void inspection_reads_a_journal_in_use_and_changes_nothing(void **state)
{
    (void)state;
    char *dir = make_dir();
    struct journal_options o = storer(dir);
    struct journal *j = open_ok(&o);
    ok(journal_begin_log(j, ID_A, 1000, &failure));
    ok(append(j, 600 * KIB, 50000, &failure));
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    ok(inspect_list(dir, out, &failure));
    fclose(out);
    assert_non_null(strstr(text, "in use by process"));
    assert_non_null(strstr(text, "positions 525288 to 615400"));
    free(text);
    out = open_memstream(&text, &n);
    ok(inspect_verify(dir, out, &failure));
    fclose(out);
    free(text);
    out = open_memstream(&text, &n);
    ok(inspect_print(dir, 5000, 500000, out, &failure));
    fclose(out);
    assert_int_equal(n, 500000);
    assert_true(matches(text, 5000, n));
    free(text);
    out = open_memstream(&text, &n);
    ok(inspect_print(dir, 0, 0, out, &failure));
    fclose(out);
    assert_int_equal(n, 600 * KIB);
    assert_true(matches(text, 1000, n));
    free(text);
    struct err e = {0};
    out = tmpfile();
    assert_int_equal(inspect_print(dir, 999, 0, out, &e), -ERANGE);
    assert_int_equal(inspect_list("/nonexistent-dir", out, &e), -ENOENT);
    fclose(out);
    ok(append(j, 10000, 5000, &failure));
    check_all(j);
    journal_close(j);
    remove_dir(dir);
}

static void a_listing_of_a_directory_of_journals_shows_each(void **state)
{
    (void)state;
    char *parent = make_dir(), *text = NULL;
    size_t n;
    char dirs[2][200];
    for (int i = 0; i < 2; i++) {
        snprintf(dirs[i], sizeof(dirs[i]), "%.150s/10.0.0.%d_6379", parent, i);
        struct journal_options o = storer(dirs[i]);
        struct journal *j = open_ok(&o);
        ok(journal_begin_log(j, i ? ID_B : ID_A, 1000, &failure));
        journal_close(j);
    }
    FILE *out = open_memstream(&text, &n);
    ok(inspect_list(parent, out, &failure));
    fclose(out);
    for (int i = 0; i < 2; i++) {
        assert_non_null(strstr(text, dirs[i]));
        assert_non_null(strstr(text, i ? ID_B : ID_A));
        clear_dir(dirs[i]);
        rmdir(dirs[i]);
    }
    free(text);
    out = tmpfile();
    struct err e = {0};
    assert_int_equal(inspect_list(parent, out, &e), -ENOENT);
    fclose(out);
    remove_dir(parent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kill_9_at_any_moment_loses_no_committed_byte),
        cmocka_unit_test(a_machine_crash_keeps_what_was_flushed_and_cuts_what_is_torn),
        cmocka_unit_test(bug_38_the_segment_being_written_passes_verification),
        cmocka_unit_test(bug_26_neither_a_crash_nor_a_zero_checksum_is_corruption),
        cmocka_unit_test(bug_25_a_flipped_bit_has_its_own_error_and_a_begin_clears_it),
        cmocka_unit_test(bug_35_foreign_files_are_neither_read_nor_removed),
        cmocka_unit_test(a_missing_segment_leaves_the_newest_run),
        cmocka_unit_test(a_snapshot_stays_only_while_the_log_continues_it),
        cmocka_unit_test(an_incomplete_snapshot_does_not_survive),
        cmocka_unit_test(garbage_in_any_file_ends_in_less_data_never_in_wrong_data),
        cmocka_unit_test(a_file_truncated_under_a_reader_is_damage_not_a_crash),
        cmocka_unit_test(a_write_behind_the_end_of_a_truncated_file_is_an_error_and_makes_no_hole),
        cmocka_unit_test(a_truncated_file_is_seen_before_anybody_touches_it),
        cmocka_unit_test(a_full_disk_is_an_error_that_passes),
        cmocka_unit_test(inspection_reads_a_journal_in_use_and_changes_nothing),
        cmocka_unit_test(a_listing_of_a_directory_of_journals_shows_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

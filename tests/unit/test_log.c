// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

struct fixture {
    char dir[64];
    char file[128];
    char err[128]; // what stderr was redirected to
    int old_stderr;
    struct log_options o;
};

static int begin(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    snprintf(f->dir, sizeof(f->dir), "/tmp/gunyu-log-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    snprintf(f->file, sizeof(f->file), "%s/a.log", f->dir);
    snprintf(f->err, sizeof(f->err), "%s/stderr", f->dir);
    fflush(stderr);
    f->old_stderr = dup(STDERR_FILENO);
    int fd = open(f->err, O_RDWR | O_CREAT | O_APPEND, 0600);
    dup2(fd, STDERR_FILENO);
    close(fd);
    unsetenv("JOURNAL_STREAM");
    f->o = (struct log_options){.level = LOG_INFO};
    *state = f;
    return 0;
}

static int end(void **state)
{
    struct fixture *f = *state;
    char cmd[128];
    log_close();
    dup2(f->old_stderr, STDERR_FILENO);
    close(f->old_stderr);
    snprintf(cmd, sizeof(cmd), "rm -rf %s", f->dir);
    free(f);
    return system(cmd);
}

static void setup(struct fixture *f)
{
    struct err e = {0};
    assert_int_equal(log_setup(&f->o, &e), 0);
}

// Returns new.
static char *slurp(const char *path)
{
    struct buf b = {0};
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n;
    while ((n = fread(buf_reserve(&b, 4096), 1, 4096, f)) > 0)
        b.n += n;
    fclose(f);
    char *s = xstrdup(buf_cstr(&b));
    buf_free(&b);
    return s;
}

static size_t count(const char *text, const char *part)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, part)); p += strlen(part))
        n++;
    return n;
}

static size_t rotated(const struct fixture *f)
{
    size_t n = 0;
    DIR *d = opendir(f->dir);
    assert_non_null(d);
    for (struct dirent *ent; (ent = readdir(d));)
        n += strncmp(ent->d_name, "a-2", 3) == 0;
    closedir(d);
    return n;
}

static void a_line_has_time_level_tag_and_message(void **state)
{
    struct fixture *f = *state;
    f->o.with_caller = true;
    setup(f);
    log_warn("10.0.0.1:6379", "slow by %d ms", 7);
    log_debug(NULL, "not shown");
    char *s = slurp(f->err);
    assert_true(s[4] == '-' && s[10] == 'T' && s[23] == 'Z');
    assert_string_equal(strstr(s, "warn "), strstr(s, "warn  test_log.c:"));
    assert_non_null(strstr(s, " [10.0.0.1:6379] slow by 7 ms\n"));
    assert_null(strstr(s, "not shown"));
    free(s);
}

static void levels_are_a_threshold_and_off_is_silent(void **state)
{
    struct fixture *f = *state;
    f->o.level = LOG_DEBUG;
    setup(f);
    log_debug(NULL, "one");
    f->o.level = LOG_OFF;
    setup(f);
    log_error(NULL, "two");
    char *s = slurp(f->err);
    assert_int_equal(count(s, "\n"), 1);
    assert_non_null(strstr(s, "debug one"));
    free(s);
}

static void json_lines_are_valid_whatever_the_text(void **state)
{
    struct fixture *f = *state;
    f->o.format = LOG_JSON;
    setup(f);
    log_error("t\"", "a\n\"b\\ %s \xc3\xa4 \xff \xed\xa0\x80", "\x01");
    char *s = slurp(f->err);
    assert_non_null(strstr(s, "{\"time\":\"2"));
    assert_non_null(strstr(s, "\"level\":\"error\",\"tag\":\"t\\\"\",\"msg\":\"a\\u000a\\\"b\\\\ "
                              "\\u0001 \xc3\xa4 \\ufffd \\ufffd\\ufffd\\ufffd\"}\n"));
    free(s);
}

static void text_of_a_peer_cannot_forge_a_line(void **state)
{
    struct fixture *f = *state;
    setup(f);
    log_info("x\ny", "bad\n2026-01-01 error forged \x1b[31m");
    char *s = slurp(f->err);
    assert_int_equal(count(s, "\n"), 1);
    assert_non_null(strstr(s, "[x\\ny] bad\\n2026-01-01 error forged \\x1b[31m"));
    free(s);
}

static void long_messages_are_cut_visibly(void **state)
{
    struct fixture *f = *state;
    setup(f);
    char *big = xcalloc(10001, 1);
    memset(big, 'x', 10000);
    log_info(NULL, "%s", big);
    free(big);
    char *s = slurp(f->err);
    assert_true(strlen(s) < 4000);
    assert_string_equal(s + strlen(s) - 4, "...\n");
    free(s);
}

static void one_site(int i)
{
    log_info(NULL, "again %d", i);
}

static void a_repeating_site_is_held_back_and_counted(void **state)
{
    struct fixture *f = *state;
    setup(f);
    for (int i = 0; i < 5000; i++)
        one_site(i);
    uint64_t start = clock_mono_us();
    // Another site is not affected.
    log_info(NULL, "other");
    char *s = NULL;
    // The next second lets one through, which tells how many were held back.
    while (clock_mono_us() - start < 10000000) {
        one_site(-1);
        free(s);
        s = slurp(f->err);
        if (strstr(s, "more like this held back)"))
            break;
        usleep(20000);
    }
    assert_non_null(strstr(s, "other\n"));
    char *held = strstr(s, "again -1 (");
    assert_non_null(held);
    unsigned long n = strtoul(held + strlen("again -1 ("), NULL, 10);
    // 5000 may have been spread over two seconds of ten lines each.
    assert_true(n >= 4980);
    assert_true(count(s, "again") <= 31);
    free(s);
}

static void under_journald_lines_have_a_priority_and_no_time(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    char own[64];
    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    setenv("JOURNAL_STREAM", own, 1);
    setup(f);
    log_error("api", "x");
    log_warn(NULL, "y");
    log_info(NULL, "z");
    char *s = slurp(f->err);
    assert_string_equal(s, "<3>[api] x\n<4>y\n<6>z\n");
    free(s);
    // Someone else's stream is not ours.
    setenv("JOURNAL_STREAM", "1:1", 1);
    setup(f);
    log_error("api", "later");
    s = slurp(f->err);
    assert_null(strstr(s, "<3>[api] later"));
    free(s);
    unsetenv("JOURNAL_STREAM");
}

static void a_file_takes_the_lines_and_stderr_too_when_asked(void **state)
{
    struct fixture *f = *state;
    f->o.file = f->file;
    setup(f);
    log_info(NULL, "only file");
    f->o.also_stderr = true;
    setup(f);
    log_info(NULL, "both");
    char *file = slurp(f->file), *err = slurp(f->err);
    assert_non_null(strstr(file, "only file\n"));
    assert_non_null(strstr(file, "both\n"));
    assert_null(strstr(err, "only file"));
    assert_non_null(strstr(err, "both\n"));
    free(file);
    free(err);
}

static void an_unopenable_file_is_an_error_and_keeps_the_old_setting(void **state)
{
    struct fixture *f = *state;
    f->o.file = f->file;
    setup(f);
    struct err e = {0};
    struct log_options bad = f->o;
    char path[128];
    snprintf(path, sizeof(path), "%s/a.log/below", f->dir);
    bad.file = path;
    assert_true(log_setup(&bad, &e) < 0);
    assert_non_null(strstr(e.msg, "cannot be opened"));
    log_info(NULL, "still here");
    char *s = slurp(f->file);
    assert_non_null(strstr(s, "still here"));
    free(s);
}

static void reopening_follows_a_file_that_was_moved_away(void **state)
{
    struct fixture *f = *state;
    char moved[160];
    snprintf(moved, sizeof(moved), "%s.1", f->file);
    f->o.file = f->file;
    setup(f);
    log_info(NULL, "before");
    assert_int_equal(rename(f->file, moved), 0);
    log_info(NULL, "between");
    log_reopen();
    log_info(NULL, "after");
    char *old = slurp(moved), *now = slurp(f->file);
    assert_non_null(strstr(old, "before"));
    assert_non_null(strstr(old, "between"));
    assert_null(strstr(old, "after"));
    assert_non_null(strstr(now, "after"));
    free(old);
    free(now);
}

static void touch(const struct fixture *f, const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static bool exists(const struct fixture *f, const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    return access(path, F_OK) == 0;
}

static void a_full_file_is_rotated_and_only_so_many_are_kept(void **state)
{
    struct fixture *f = *state;
    f->o.file = f->file;
    f->o.max_size_mb = 1;
    f->o.max_backups = 2;
    touch(f, "a-keep-me.log");
    touch(f, "a-2020-01-02T03-04-05.678.log");
    touch(f, "a-2020-01-02T03-04-05.678.log.gz");
    setup(f);
    char line[1024];
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = 0;
    for (int i = 0; i < 5000; i++)
        log_line(NULL, LOG_INFO, __FILE__, __LINE__, NULL, "%d %s", i, line);
    assert_int_equal(rotated(f), 3); // two of them, and the foreign .gz
    assert_true(exists(f, "a-keep-me.log"));
    assert_true(exists(f, "a-2020-01-02T03-04-05.678.log.gz"));
    assert_false(exists(f, "a-2020-01-02T03-04-05.678.log"));
    struct stat st;
    assert_int_equal(stat(f->file, &st), 0);
    assert_true(st.st_size <= 1 << 20);
    char *s = slurp(f->file);
    assert_non_null(strstr(s, "4999 xxx"));
    free(s);
}

static void rotated_files_past_their_age_are_removed(void **state)
{
    struct fixture *f = *state;
    f->o.file = f->file;
    f->o.max_age_days = 30;
    touch(f, "a-2020-01-02T03-04-05.678.log");
    touch(f, "a-2999-01-02T03-04-05.678.log");
    setup(f);
    assert_false(exists(f, "a-2020-01-02T03-04-05.678.log"));
    assert_true(exists(f, "a-2999-01-02T03-04-05.678.log"));
}

static void a_full_disk_sends_lines_to_stderr(void **state)
{
    struct fixture *f = *state;
    if (access("/dev/full", W_OK) != 0)
        skip();
    f->o.file = "/dev/full";
    setup(f);
    log_error(NULL, "important");
    char *s = slurp(f->err);
    assert_non_null(strstr(s, "/dev/full: cannot be written"));
    assert_non_null(strstr(s, "No space left"));
    assert_non_null(strstr(s, "important\n"));
    free(s);
}

static void *chatter(void *arg)
{
    for (int i = 0; i < 2000; i++) {
        log_line(NULL, LOG_INFO, __FILE__, __LINE__, "thread", "line %d of %d end", i, *(int *)arg);
        one_site(i);
        if (i % 500 == 0)
            log_reopen();
    }
    return NULL;
}

static void threads_never_mix_their_lines(void **state)
{
    struct fixture *f = *state;
    f->o.file = f->file;
    setup(f);
    pthread_t t[4];
    int ids[4] = {0, 1, 2, 3};
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, chatter, &ids[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    char *s = slurp(f->file);
    assert_int_equal(count(s, " end\n"), 8000);
    assert_int_equal(count(s, "[thread] line "), 8000);
    free(s);
}

static void errno_survives_a_log_line(void **state)
{
    struct fixture *f = *state;
    setup(f);
    errno = 42;
    log_info(NULL, "x");
    assert_int_equal(errno, 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_line_has_time_level_tag_and_message, begin, end),
        cmocka_unit_test_setup_teardown(levels_are_a_threshold_and_off_is_silent, begin, end),
        cmocka_unit_test_setup_teardown(json_lines_are_valid_whatever_the_text, begin, end),
        cmocka_unit_test_setup_teardown(text_of_a_peer_cannot_forge_a_line, begin, end),
        cmocka_unit_test_setup_teardown(long_messages_are_cut_visibly, begin, end),
        cmocka_unit_test_setup_teardown(a_repeating_site_is_held_back_and_counted, begin, end),
        cmocka_unit_test_setup_teardown(under_journald_lines_have_a_priority_and_no_time, begin,
                                        end),
        cmocka_unit_test_setup_teardown(a_file_takes_the_lines_and_stderr_too_when_asked, begin,
                                        end),
        cmocka_unit_test_setup_teardown(an_unopenable_file_is_an_error_and_keeps_the_old_setting,
                                        begin, end),
        cmocka_unit_test_setup_teardown(reopening_follows_a_file_that_was_moved_away, begin, end),
        cmocka_unit_test_setup_teardown(a_full_file_is_rotated_and_only_so_many_are_kept, begin,
                                        end),
        cmocka_unit_test_setup_teardown(rotated_files_past_their_age_are_removed, begin, end),
        cmocka_unit_test_setup_teardown(a_full_disk_sends_lines_to_stderr, begin, end),
        cmocka_unit_test_setup_teardown(threads_never_mix_their_lines, begin, end),
        cmocka_unit_test_setup_teardown(errno_survives_a_log_line, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

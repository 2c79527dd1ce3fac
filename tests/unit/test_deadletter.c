// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/stat.h>

#include "redis_fixture.h"
#include "target/deadletter.h"

#define ID_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define INCR "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"

static char dir[64], path[80];

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/gunyu-test-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/dead", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static struct deadletter *must_open(void)
{
    struct deadletter *d;
    struct err e = {0};
    if (deadletter_open(&d, path, &e) != 0)
        fail_msg("%s", e.msg);
    return d;
}

static void append_full(struct deadletter *d, int64_t offset, bool rdb, int db,
                        struct slice command)
{
    struct deadletter_entry entry = {.offset = offset,
                                     .rdb = rdb,
                                     .db = db,
                                     .time_ms = 1700000000123,
                                     .replid = ID_A,
                                     .command = command,
                                     .reason = SLICE("WRONGTYPE bad \"kind\"")};
    struct err e = {0};
    if (deadletter_append(d, &entry, &e) != 0)
        fail_msg("%s", e.msg);
}

static void append(struct deadletter *d, int64_t offset)
{
    append_full(d, offset, false, 0, SLICE(INCR));
}

static void drop(int64_t id)
{
    struct err e = {0};
    if (deadletter_drop(path, id, &e) != 0)
        fail_msg("%s", e.msg);
}

static char *listing(bool json)
{
    char *text = NULL;
    size_t n;
    struct err e = {0};
    FILE *out = open_memstream(&text, &n);
    int rc = deadletter_list(path, out, json, &e);
    fclose(out);
    if (rc != 0)
        fail_msg("%s", e.msg);
    return text;
}

static uint64_t count_after_reopening(void)
{
    struct deadletter *d = must_open();
    uint64_t n = deadletter_count(d);
    deadletter_close(d);
    return n;
}

static off_t size_of_file(void)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

// ---- the file ----

static void entries_survive_and_are_known_again(void **state)
{
    (void)state;
    struct deadletter *d = must_open();
    assert_int_equal(deadletter_count(d), 0);
    for (int i = 0; i < 500; i++)
        append(d, i * 10);
    for (int pass = 0; pass < 2; pass++) {
        assert_int_equal(deadletter_count(d), 500);
        for (int i = 0; i < 500; i++)
            assert_true(deadletter_has(d, ID_A, i * 10));
        assert_false(deadletter_has(d, ID_A, 5));
        assert_false(deadletter_has(d, ID_B, 10));
        deadletter_close(d);
        d = must_open();
    }
    deadletter_close(d);
}

static void only_the_owner_may_read_it(void **state)
{
    (void)state;
    mode_t old = umask(0);
    deadletter_close(must_open());
    umask(old);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void snapshot_and_stream_entries_of_one_number_are_different(void **state)
{
    (void)state;
    struct deadletter *d = must_open();
    append_full(d, 77, true, 0, SLICE(INCR));
    assert_false(deadletter_has(d, ID_A, 77));
    assert_true(deadletter_has_rdb(d, ID_A, 77));
    append(d, 77);
    assert_true(deadletter_has(d, ID_A, 77));
    deadletter_close(d);
}

static void a_tail_torn_at_any_byte_loses_nothing_before_it(void **state)
{
    (void)state;
    struct deadletter *d = must_open();
    append(d, 1);
    append(d, 2);
    off_t two = size_of_file();
    append(d, 3);
    off_t three = size_of_file();
    deadletter_close(d);
    for (off_t cut = three - 1; cut >= two; cut--) {
        assert_int_equal(truncate(path, cut), 0);
        d = must_open();
        assert_int_equal(deadletter_count(d), 2);
        assert_false(deadletter_has(d, ID_A, 3));
        assert_int_equal(size_of_file(), two);
        append(d, 3);
        assert_int_equal(size_of_file(), three);
        deadletter_close(d);
        assert_int_equal(count_after_reopening(), 3);
    }
}

static void a_head_torn_at_any_byte_is_made_whole(void **state)
{
    (void)state;
    deadletter_close(must_open());
    off_t head = size_of_file();
    for (off_t cut = head; cut >= 0; cut--) {
        assert_int_equal(truncate(path, cut), 0);
        deadletter_close(must_open());
        assert_int_equal(size_of_file(), head);
    }
}

static void a_flipped_bit_costs_one_record(void **state)
{
    (void)state;
    struct deadletter *d = must_open();
    append(d, 1);
    off_t begin = size_of_file();
    append(d, 2);
    off_t end = size_of_file();
    append(d, 3);
    deadletter_close(d);
    int fd = open(path, O_RDWR);
    for (off_t at = begin; at < end; at++) {
        char c;
        assert_int_equal(pread(fd, &c, 1, at), 1);
        char bad = (char)(c ^ 0x10);
        assert_int_equal(pwrite(fd, &bad, 1, at), 1);
        d = must_open();
        assert_int_equal(deadletter_count(d), 2);
        assert_true(deadletter_has(d, ID_A, 1) && deadletter_has(d, ID_A, 3));
        deadletter_close(d);
        assert_int_equal(pwrite(fd, &c, 1, at), 1);
    }
    close(fd);
    assert_int_equal(count_after_reopening(), 3);
}

// The search reads blocks; the sound record may begin anywhere in one, or across two.
static void a_record_after_damage_of_any_length_is_found(void **state)
{
    (void)state;
    static char big[4200];
    for (size_t n = 3960; n < 4000; n++) {
        struct deadletter *d = must_open();
        off_t begin = size_of_file();
        append_full(d, 1, false, 0, slice_make(big, n));
        append(d, 2);
        deadletter_close(d);
        int fd = open(path, O_WRONLY);
        assert_int_equal(pwrite(fd, "x", 1, begin), 1);
        close(fd);
        d = must_open();
        assert_int_equal(deadletter_count(d), 1);
        assert_true(deadletter_has(d, ID_A, 2));
        deadletter_close(d);
        unlink(path);
    }
    deadletter_close(must_open());
}

static void a_file_of_someone_else_is_refused_and_left_alone(void **state)
{
    (void)state;
    FILE *f = fopen(path, "w");
    fputs("precious", f);
    fclose(f);
    struct deadletter *d;
    struct err e = {0};
    assert_int_equal(deadletter_open(&d, path, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.msg, path));
    assert_int_equal(deadletter_drop(path, -1, &e), ERR_CORRUPT);
    assert_int_equal(size_of_file(), 8);
}

static void hostile_lengths_and_ids_are_stepped_over(void **state)
{
    (void)state;
    deadletter_close(must_open());
    int fd = open(path, O_WRONLY | O_APPEND);
    char junk[4000];
    memset(junk, 0xff, sizeof(junk));
    for (size_t i = 0; i + 4 <= sizeof(junk); i += 20)
        memcpy(junk + i, "GDLR", 4);
    assert_int_equal(write(fd, junk, sizeof(junk)), sizeof(junk));
    close(fd);
    assert_int_equal(count_after_reopening(), 0);
    struct deadletter *d = must_open();
    append(d, 1);
    deadletter_close(d);
    assert_int_equal(count_after_reopening(), 1);
}

static void a_missing_directory_is_a_clear_error(void **state)
{
    (void)state;
    struct deadletter *d;
    struct err e = {0};
    assert_int_equal(deadletter_open(&d, "/nonexistent/dir/dead", &e), -ENOENT);
    assert_non_null(strstr(e.msg, "/nonexistent/dir/dead"));
}

static void a_removed_file_is_begun_anew(void **state)
{
    (void)state;
    struct deadletter *d = must_open();
    append(d, 1);
    assert_int_equal(unlink(path), 0);
    append(d, 2);
    assert_int_equal(deadletter_count(d), 1);
    deadletter_close(d);
    assert_int_equal(count_after_reopening(), 1);
}

// ---- list, drop ----

static void drop_marks_one_or_all_while_a_process_has_it_open(void **state)
{
    (void)state;
    struct err e = {0};
    struct deadletter *d = must_open();
    for (int i = 1; i <= 5; i++)
        append(d, i);
    drop(2);
    assert_int_equal(deadletter_drop(path, 2, &e), -ENOENT);
    assert_int_equal(deadletter_drop(path, 6, &e), -ENOENT);
    assert_int_equal(deadletter_drop(path, 0, &e), -ENOENT);
    assert_int_equal(deadletter_drop(path, -7, &e), -ENOENT);
    assert_int_equal(deadletter_count(d), 5);
    assert_int_equal(deadletter_refresh(d, &e), 0);
    assert_int_equal(deadletter_count(d), 4);
    drop(4);
    append(d, 6);
    assert_int_equal(deadletter_count(d), 4);
    char *text = listing(false);
    assert_null(strstr(text, "offset 2 "));
    assert_non_null(strstr(text, "6  2023-11-14T22:13:20.123Z  offset 6  db 0"));
    free(text);
    drop(-1);
    drop(-1);
    append(d, 7);
    assert_int_equal(deadletter_count(d), 1);
    assert_true(deadletter_has(d, ID_A, 2)); // dropped, yet known
    deadletter_close(d);
    assert_int_equal(count_after_reopening(), 1);
    text = listing(false);
    assert_non_null(strstr(text, "7  2023"));
    free(text);
}

static void an_empty_list_says_so(void **state)
{
    (void)state;
    deadletter_close(must_open());
    char *text = listing(false);
    assert_string_equal(text, "no dead letters\n");
    free(text);
    text = listing(true);
    assert_string_equal(text, "[]\n");
    free(text);
}

static void binary_arguments_are_shown_escaped(void **state)
{
    (void)state;
    struct deadletter *d = must_open();
    append_full(d, 9, true, 4, SLICE("*3\r\n$3\r\nSET\r\n$4\r\n\"\\\n\xff\r\n$1\r\nv\r\n"));
    append_full(d, 10, false, 4, SLICE("*1\r\n$5\r\nMULTI\r\n" INCR "*1\r\n$4\r\nEXEC\r\n"));
    append_full(d, 11, false, 4, SLICE("not a command"));
    deadletter_close(d);
    char *text = listing(false);
    assert_non_null(strstr(text, "rdb 9  db 4  \"SET\" \"\\\"\\\\\\x0a\\xff\" \"v\"\n"));
    assert_non_null(strstr(text, "WRONGTYPE bad \\\"kind\\\"\n"));
    assert_non_null(strstr(text, "\"MULTI\"; \"INCR\" \"n\"; \"EXEC\"\n"));
    free(text);
    text = listing(true);
    assert_non_null(strstr(text, "{\"id\":1,\"time\":\"2023-11-14T22:13:20.123Z\",\"from\":\"rdb\","
                                 "\"replid\":\"" ID_A "\",\"offset\":9,\"db\":4,\"commands\":"
                                 "[[\"SET\",\"\\\"\\\\\\\\\\\\x0a\\\\xff\",\"v\"]],"
                                 "\"reason\":\"WRONGTYPE bad \\\"kind\\\"\"},\n"));
    free(text);
}

static void two_processes_append_and_drop_without_loss(void **state)
{
    (void)state;
    struct deadletter *d = must_open();
    for (int i = 0; i < 100; i++)
        append(d, i);
    pid_t child = fork();
    if (child == 0) {
        struct err e = {0};
        for (int id = 1; id <= 100; id++)
            if (deadletter_drop(path, id, &e) != 0)
                _exit(1);
        _exit(0);
    }
    for (int i = 100; i < 200; i++)
        append(d, i);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    struct err e = {0};
    assert_int_equal(deadletter_refresh(d, &e), 0);
    assert_int_equal(deadletter_count(d), 100);
    deadletter_close(d);
    assert_int_equal(count_after_reopening(), 100);
}

// ---- retry ----

static void retry_sends_to_the_right_db_and_drops_what_is_accepted(void **state)
{
    (void)state;
    struct redis_fixture server;
    struct redis_reply reply;
    struct err e = {0};
    assert_true(redis_fixture_start(&server, NULL));
    assert_int_equal(redis_call(server.client, &reply, &e, "LPUSH list x"), 0);
    struct deadletter *d = must_open();
    append_full(d, 1, false, 3, SLICE(INCR));
    append_full(d, 2, false, 0, SLICE("*2\r\n$4\r\nINCR\r\n$4\r\nlist\r\n"));
    append_full(d, 3, false, 0,
                SLICE("*1\r\n$5\r\nMULTI\r\n" INCR "*2\r\n$4\r\nINCR\r\n$4\r\nlist\r\n"
                      "*1\r\n$4\r\nEXEC\r\n"));
    append_full(d, 4, false, 0, SLICE("not a command"));
    append_full(d, 5, false, 0, SLICE("*1\r\n$5\r\nMULTI\r\n" INCR "*1\r\n$4\r\nEXEC\r\n"));
    append_full(d, 6, false, 99999, SLICE(INCR));

    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    assert_int_equal(deadletter_retry(path, &server.endpoint, -1, out, &e), ERR_REPLY);
    assert_string_equal(e.msg, "4 of 6 entries were refused again");
    fflush(out);
    assert_non_null(strstr(text, "1: accepted\n2: refused: "));
    assert_non_null(strstr(text, "3: refused: WRONGTYPE"));
    assert_non_null(strstr(text, "4: refused: its bytes"));
    assert_non_null(strstr(text, "5: accepted\n6: refused: "));
    assert_int_equal(deadletter_refresh(d, &e), 0);
    assert_int_equal(deadletter_count(d), 4);

    // What stood in the way is gone: one by its number, then those that are left.
    assert_int_equal(redis_call(server.client, &reply, &e, "DEL list"), 0);
    assert_int_equal(deadletter_retry(path, &server.endpoint, 2, out, &e), 0);
    assert_int_equal(deadletter_retry(path, &server.endpoint, 2, out, &e), -ENOENT);
    assert_int_equal(redis_call(server.client, &reply, &e, "GET list"), 0);
    assert_true(slice_eq(reply.root.text, SLICE("1")));
    assert_int_equal(redis_call(server.client, &reply, &e, "SELECT 3"), 0);
    assert_int_equal(redis_call(server.client, &reply, &e, "GET n"), 0);
    assert_true(slice_eq(reply.root.text, SLICE("1")));

    redis_fixture_stop(&server);
    int rc = deadletter_retry(path, &(struct endpoint){.path = path}, -1, out, &e);
    assert_true(rc < 0 && rc != ERR_REPLY);
    assert_int_equal(deadletter_refresh(d, &e), 0);
    assert_int_equal(deadletter_count(d), 3);
    fclose(out);
    free(text);
    deadletter_close(d);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(entries_survive_and_are_known_again),
        TEST(only_the_owner_may_read_it),
        TEST(snapshot_and_stream_entries_of_one_number_are_different),
        TEST(a_tail_torn_at_any_byte_loses_nothing_before_it),
        TEST(a_head_torn_at_any_byte_is_made_whole),
        TEST(a_flipped_bit_costs_one_record),
        TEST(a_record_after_damage_of_any_length_is_found),
        TEST(a_file_of_someone_else_is_refused_and_left_alone),
        TEST(hostile_lengths_and_ids_are_stepped_over),
        TEST(a_missing_directory_is_a_clear_error),
        TEST(a_removed_file_is_begun_anew),
        TEST(drop_marks_one_or_all_while_a_process_has_it_open),
        TEST(an_empty_list_says_so),
        TEST(binary_arguments_are_shown_escaped),
        TEST(two_processes_append_and_drop_without_loss),
        TEST(retry_sends_to_the_right_db_and_drops_what_is_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
#include <errno.h>

#include "test_journal_util.h"

#include "base/mem.h"
#include "codec/rdb.h"
#include "codec/resp.h"
#include "target/lost.h"

static char *dir;
static struct journal *journal;
static struct buf stream, found; // found: "db key", one a line

static int set_up(void **state)
{
    (void)state;
    dir = make_fast_dir();
    struct journal_options o = storer(dir);
    journal = open_ok(&o);
    ok(journal_begin_log(journal, ID_A, 1000, &failure));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    journal_close(journal);
    clear_dir(dir);
    remove_dir(dir);
    buf_free(&stream);
    buf_free(&found);
    return 0;
}

// "SET a 1;SELECT 2": as the stream has it.
static void say(const char *commands)
{
    struct slice words[16];
    for (const char *p = commands; *p;) {
        size_t n = strcspn(p, ";");
        int argc = 0;
        for (const char *w = p; w < p + n;) {
            size_t k = strcspn(w, " ;");
            words[argc++] = slice_make(w, k);
            w += k + (w[k] == ' ');
        }
        resp_put_argv(&stream, argc, words);
        p += n + (p[n] == ';');
    }
}

static uint64_t here(void)
{
    return 1000 + stream.n;
}

static void into_the_log(void)
{
    struct journal_info ji = info_of(journal);
    const char *p = stream.p + (ji.right - 1000);
    for (size_t left = stream.n - (ji.right - 1000), n; left; left -= n, p += n) {
        char *to;
        ok(journal_log_space(journal, &to, &n, &failure));
        n = n < left ? n : left;
        memcpy(to, p, n);
        ok(journal_log_commit(journal, n, &failure));
    }
}

static const char *kept(const struct lost *l)
{
    const char *p;
    size_t n;
    struct rdb_item item;
    struct err e;
    journal_drop_asides(journal);
    ok(lost_keep(l, journal, &failure));
    struct journal_reader *r = journal_aside_open(journal, 0, &failure);
    assert_non_null(r);
    ok(journal_snapshot_view(r, 0, &p, &n, &failure));
    struct rdb_reader *rdb = rdb_reader_new(false);
    rdb_feed(rdb, p, 0, n);
    buf_clear(&found);
    while (rdb_next(rdb, &item, &e) == RDB_ITEM)
        if (item.kind == RDB_KIND_KEY)
            buf_printf(&found, "%d %.*s\n", item.db, (int)(item.key.n < 20 ? item.key.n : 20),
                       item.key.p);
    rdb_reader_free(rdb);
    journal_reader_close(r);
    return buf_cstr(&found);
}

static const char *keys_of(const char *commands, uint64_t unknown)
{
    struct lost *l = lost_new(NULL, 0, 0, 0);
    buf_clear(&stream);
    say(commands);
    ok(lost_feed(l, stream.p, stream.n, &failure));
    assert_int_equal(lost_unknown(l), unknown);
    const char *text = kept(l);
    lost_free(l);
    return text;
}

static void every_key_that_a_command_names_is_kept(void **state)
{
    (void)state;
    assert_string_equal(keys_of("SET a 1;MSET b 1 c 2;DEL d e", 0), "0 a\n0 b\n0 c\n0 d\n0 e\n");
    assert_string_equal(keys_of("SUNIONSTORE to x y;RENAME x z", 0), "0 to\n0 x\n0 y\n0 z\n");
    assert_string_equal(keys_of("EVAL script 2 k1 k2 arg;PING;PUBLISH c m;FLUSHALL", 0),
                        "0 k1\n0 k2\n");
    assert_string_equal(keys_of("MULTI;INCR n;EXEC;REPLCONF GETACK *", 0), "0 n\n");
}

static void keys_are_of_the_db_that_is_selected_and_of_the_one_they_go_to(void **state)
{
    (void)state;
    assert_string_equal(keys_of("SET a 1;SELECT 3;SET a 1;SELECT 0;SET b 1", 0), "0 a\n3 a\n0 b\n");
    assert_string_equal(keys_of("SELECT 2;MOVE a 5", 0), "2 a\n5 a\n");
    assert_string_equal(keys_of("COPY a b DB 70000 REPLACE;COPY c d", 0),
                        "0 a\n70000 a\n0 b\n70000 b\n0 c\n0 d\n");
}

static void what_names_no_keys_and_changes_them_is_counted(void **state)
{
    (void)state;
    assert_string_equal(keys_of("SWAPDB 0 1;NOSUCH a;SET b 1", 2), "0 b\n");
}

static void a_key_is_not_kept_again_at_once(void **state)
{
    (void)state;
    assert_string_equal(keys_of("INCR a;INCR a;INCR b;INCR a;SELECT 1;INCR a", 0),
                        "0 a\n0 b\n1 a\n");
}

static void names_of_any_length_are_kept(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 63, 64, 16383, 16384, 100000};
    struct lost *l = lost_new(NULL, 0, 0, 0);
    char *name = xmalloc(100000);
    memset(name, 'x', 100000);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        struct slice argv[] = {SLICE("INCR"), slice_make(name, lengths[i])};
        resp_put_argv(&stream, 2, argv);
    }
    ok(lost_feed(l, stream.p, stream.n, &failure));
    assert_int_equal(lost_keys(l), 7);
    assert_string_equal(kept(l), "0 \n0 x\n0 xxxxxxxxxxxxxxxxxxxx\n0 xxxxxxxxxxxxxxxxxxxx\n"
                                 "0 xxxxxxxxxxxxxxxxxxxx\n0 xxxxxxxxxxxxxxxxxxxx\n"
                                 "0 xxxxxxxxxxxxxxxxxxxx\n");
    free(name);
    lost_free(l);
}

static void commands_may_be_cut_anywhere(void **state)
{
    (void)state;
    say("SET a 1;SELECT 7;MSET b 1 c 2;MOVE d 1");
    for (size_t cut = 0; cut <= stream.n; cut++) {
        struct lost *l = lost_new(NULL, 0, 0, 0);
        ok(lost_feed(l, stream.p, cut, &failure));
        for (size_t i = cut; i < stream.n; i += 3)
            ok(lost_feed(l, stream.p + i, stream.n - i < 3 ? stream.n - i : 3, &failure));
        assert_string_equal(kept(l), "0 a\n7 b\n7 c\n7 d\n1 d\n");
        lost_free(l);
    }
}

static void bytes_that_are_no_commands_are_an_error(void **state)
{
    (void)state;
    struct lost *l = lost_new(NULL, 0, 0, 0);
    struct err e;
    assert_true(lost_feed(l, "*x\r\n", 4, &e) < 0);
    lost_free(l);
}

static void what_the_filter_keeps_out_is_not_kept(void **state)
{
    (void)state;
    struct err e;
    struct filter *f;
    char a[] = "no", b[] = "append", *prefix = a, *command = b;
    struct filter_rules rules = {.prefix_blacklist = {.v = &prefix, .n = 1},
                                 .command_blacklist = {.v = &command, .n = 1}};
    assert_int_equal(filter_new(&f, &rules, &e), 0);
    struct lost *l = lost_new(f, 0, 0, 0);
    say("SET a 1;APPEND b 1;MSET no1 1 c 2;SET no2 1");
    ok(lost_feed(l, stream.p, stream.n, &failure));
    assert_string_equal(kept(l), "0 a\n0 c\n");
    lost_free(l);
    filter_free(f);
}

static const char *of_log(uint64_t from, uint64_t *covered)
{
    struct lost *l = lost_of_log(journal, NULL, from, covered, &failure);
    assert_non_null(l);
    const char *text = kept(l);
    lost_free(l);
    return text;
}

static void of_the_log_what_lies_behind_the_fork_is_kept(void **state)
{
    (void)state;
    uint64_t covered;
    journal_mark(journal, 1000, 4, 0);
    say("SET a 1;SELECT 5;SET b 1");
    uint64_t fork = here();
    say("SET c 1;SELECT 6;SET d 1");
    into_the_log();
    assert_string_equal(of_log(fork, &covered), "5 c\n6 d\n");
    assert_int_equal(covered, fork);
    // A position within a command: what ends behind it counts.
    assert_string_equal(of_log(fork - 1, &covered), "5 b\n5 c\n6 d\n");
    assert_string_equal(of_log(1000, &covered), "4 a\n5 b\n5 c\n6 d\n");
}

static void where_the_log_begins_too_late_the_rest_is_kept_and_that_is_said(void **state)
{
    (void)state;
    uint64_t covered;
    say("SET a 1");
    uint64_t known = here();
    say("SET b 1");
    into_the_log();
    struct err e = {0};
    assert_null(lost_of_log(journal, NULL, 1000, &covered, &e));
    assert_int_equal(e.code, -ENOENT);
    journal_mark(journal, known, 2, 0);
    assert_string_equal(of_log(1000, &covered), "2 b\n");
    assert_int_equal(covered, known);
    assert_string_equal(of_log(5, &covered), "2 b\n");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(every_key_that_a_command_names_is_kept),
        T(keys_are_of_the_db_that_is_selected_and_of_the_one_they_go_to),
        T(what_names_no_keys_and_changes_them_is_counted),
        T(a_key_is_not_kept_again_at_once),
        T(names_of_any_length_are_kept),
        T(commands_may_be_cut_anywhere),
        T(bytes_that_are_no_commands_are_an_error),
        T(what_the_filter_keeps_out_is_not_kept),
        T(of_the_log_what_lies_behind_the_fork_is_kept),
        T(where_the_log_begins_too_late_the_rest_is_kept_and_that_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
#include "target/translate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "codec/resp.h"
#include "target/outq.h"
#include "words.h"

static struct words cmd;

static enum translate_verdict translate(struct translate *t, const char *line)
{
    split(&cmd, line, "''");
    return translate_command(t, 0, cmd_lookup(cmd.argc, cmd.argv), cmd.argc, cmd.argv);
}

static void put(struct buf *out, struct rewrite_cmd c)
{
    if (out->n)
        buf_append_cstr(out, "; ");
    for (int i = 0; i < c.argc; i++) {
        if (i)
            buf_append_char(out, ' ');
        buf_append_slice(out, c.argv[i]);
    }
}

// What the target is sent, for a command that goes on.
static void becomes(struct translate *t, const char *line, const char *want)
{
    struct buf got = {0};
    assert_int_equal(translate(t, line), TRANSLATE_SEND);
    for (int i = 0; i < t->n; i++) {
        int n = translate_known(t, i);
        for (int k = 0; k < n; k++)
            put(&got, translate_known_get(t, k));
    }
    assert_string_equal(buf_cstr(&got), want);
    buf_free(&got);
}

static struct translate_options options(int version)
{
    return (struct translate_options){.databases = 16, .target_version = version};
}

static void what_needs_no_change_is_as_is(void **state)
{
    (void)state;
    struct translate_options o = options(70015);
    struct translate t;
    translate_init(&t, &o);
    becomes(&t, "SET k v", "SET k v");
    assert_true(t.as_is);
    assert_ptr_equal(t.argv, cmd.argv);
    becomes(&t, "NEW.COMMAND k", "NEW.COMMAND k");
    assert_true(t.as_is);
    becomes(&t, "RESTORE-ASKING k 0 x", "RESTORE k 0 x REPLACE");
    assert_false(t.as_is);
    translate_free(&t);
}

static void a_db_that_the_target_lacks_is_refused_with_the_reason(void **state)
{
    (void)state;
    static const int map[] = {16};
    struct translate_options o = options(70015);
    o.dbs = (struct rewrite_dbs){.map = map, .map_n = 1};
    struct translate t;
    translate_init(&t, &o);
    assert_int_equal(translate(&t, "SET k v"), TRANSLATE_REFUSE);
    assert_non_null(strstr(t.reason, "targetDbMap"));
    translate_free(&t);
}

static void what_the_filter_leaves_is_what_is_translated(void **state)
{
    (void)state;
    char *black[] = {(char[]){"no:"}};
    struct filter_rules rules = {.prefix_blacklist = {black, 1}};
    struct translate_options o = options(30200);
    struct filter *f;
    struct err e;
    assert_int_equal(filter_new(&f, &rules, &e), 0);
    o.filter = f;
    struct translate t;
    translate_init(&t, &o);
    assert_int_equal(translate(&t, "SET no:k v"), TRANSLATE_DROP);
    assert_string_equal(t.reason, "key");
    becomes(&t, "UNLINK no:1 a no:2 b", "DEL a b");
    assert_int_equal(t.argc, 3);
    assert_false(t.as_is);
    becomes(&t, "DEL no:1 a", "DEL a");
    assert_false(t.as_is);
    translate_free(&t);
    filter_free(f);
}

static void rewritten_commands_are_said_in_the_targets_words(void **state)
{
    (void)state;
    static const int map[] = {5};
    struct translate_options o = options(30200);
    o.dbs = (struct rewrite_dbs){.map = map, .map_n = 1, .source_dbs = 1};
    struct translate t;
    translate_init(&t, &o);
    becomes(&t, "FLUSHALL ASYNC", "SELECT 5; FLUSHDB; SELECT 5");
    assert_int_equal(t.db, 5);
    assert_int_equal(t.n, 3);
    struct buf plain = {0};
    put(&plain, translate_get(&t, 1));
    assert_string_equal(buf_cstr(&plain), "FLUSHDB ASYNC");
    buf_free(&plain);
    translate_free(&t);
}

static void near_expiries_are_told_with_their_commands(void **state)
{
    (void)state;
    struct translate_options o = options(60000);
    struct translate t;
    translate_init(&t, &o);
    translate_set_clock(&t, 1700000000000, 1700000060000);
    becomes(&t, "SET k v PXAT 1700000001000", "SET k v; PEXPIREAT k 36884372089832");
    assert_int_equal(t.rewrite.expiries, 1);
    assert_true(t.rewrite.expiry[0].held);
    assert_int_equal(t.rewrite.expiry[0].true_ms, 1700000001000);
    translate_free(&t);
}

static void what_the_target_cannot_know_is_refused_or_dropped(void **state)
{
    (void)state;
    struct translate_options o = options(40000);
    struct translate t;
    translate_init(&t, &o);
    assert_int_equal(translate(&t, "XADD s 1-1 f v"), TRANSLATE_REFUSE);
    assert_string_equal(t.reason, "the target has no streams");
    assert_int_equal(translate(&t, "FUNCTION FLUSH"), TRANSLATE_DROP);
    assert_string_equal(t.reason, "the target has no functions");
    translate_free(&t);
}

static void a_part_of_a_command_is_said_by_itself(void **state)
{
    (void)state;
    struct translate_options o = options(60000);
    struct translate t;
    translate_init(&t, &o);
    assert_int_equal(translate(&t, "COPY a b REPLACE"), TRANSLATE_SEND);
    assert_int_equal(translate_known(&t, 0), 1);
    assert_true(slice_eq(translate_known_get(&t, 0).argv[0], SLICE("EVAL")));
    const struct slice other[] = {SLICE("COPY"), SLICE("tmp"), SLICE("b"), SLICE("REPLACE")};
    assert_int_equal(translate_known_of(&t, 4, other), 1);
    assert_true(slice_eq(translate_known_get(&t, 0).argv[3], SLICE("tmp")));
    // The command itself can still be had.
    assert_int_equal(translate_known(&t, 0), 1);
    assert_true(slice_eq(translate_known_get(&t, 0).argv[3], SLICE("a")));
    const struct slice none[] = {SLICE("FUNCTION"), SLICE("LOAD"), SLICE("x")};
    assert_int_equal(translate_known_of(&t, 3, none), -1);
    assert_string_equal(t.reason, "the target has no functions");
    translate_free(&t);
}

static void long_arguments_in_view_are_borrowed_and_all_others_copied(void **state)
{
    (void)state;
    enum { LONG = 3000 };
    char *view = malloc(LONG), *other = malloc(LONG);
    memset(view, 'v', LONG);
    memset(other, 'o', LONG);
    struct slice argv[] = {slice_make(view, 4), slice_make(view, LONG), slice_make(other, LONG)};
    struct outq q = {0};
    struct buf text = {0}, want = {0}, got = {0};
    resp_put_argv(&want, 3, argv);
    outq_put_command(&q, &text, slice_make(view, LONG), 3, argv);
    free(other);
    struct iovec iov[8];
    int n = outq_iov(&q, iov, 8), borrowed = 0;
    for (int i = 0; i < n; i++) {
        borrowed += iov[i].iov_base == view;
        buf_append(&got, iov[i].iov_base, iov[i].iov_len);
    }
    assert_int_equal(borrowed, 1);
    assert_true(slice_eq(buf_slice(&got), buf_slice(&want)));
    outq_free(&q);
    buf_free(&text);
    buf_free(&want);
    buf_free(&got);
    free(view);
}

static void a_script_named_by_its_digest_is_sent_in_its_words_once_it_was_seen(void **state)
{
    (void)state;
    struct translate_options o = options(70015);
    struct translate t;
    o.scripts = scripts_open(NULL, 1 << 20, NULL);
    translate_init(&t, &o);
    becomes(&t, "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 1 k a",
            "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 1 k a");
    assert_true(t.as_is);
    becomes(&t, "EVAL return_1 1 k", "EVAL return_1 1 k");
    assert_true(t.as_is);
    becomes(&t, "evalsha 7AD9C72C4B8F2B5E8A7A1B0D44E4C3B3D8E1E3AC 1 k a",
            "evalsha 7AD9C72C4B8F2B5E8A7A1B0D44E4C3B3D8E1E3AC 1 k a");
    becomes(&t, "EVALSHA 0e827dba1cd0b069d55dcd6e142eef60dc18bf61 2 k l a b c",
            "EVAL return_1 2 k l a b c");
    assert_false(t.as_is);
    assert_string_equal(t.info->name, "eval");
    becomes(&t, "script load return_2", "script load return_2");
    becomes(&t, "EVALSHA 3efecbbf75994d2452360fc6083a9a335f146beb 0", "EVAL return_2 0");
    becomes(&t, "EVALSHA", "EVALSHA");
    translate_free(&t);
    scripts_close(o.scripts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_needs_no_change_is_as_is),
        cmocka_unit_test(a_db_that_the_target_lacks_is_refused_with_the_reason),
        cmocka_unit_test(what_the_filter_leaves_is_what_is_translated),
        cmocka_unit_test(rewritten_commands_are_said_in_the_targets_words),
        cmocka_unit_test(near_expiries_are_told_with_their_commands),
        cmocka_unit_test(what_the_target_cannot_know_is_refused_or_dropped),
        cmocka_unit_test(a_script_named_by_its_digest_is_sent_in_its_words_once_it_was_seen),
        cmocka_unit_test(a_part_of_a_command_is_said_by_itself),
        cmocka_unit_test(long_arguments_in_view_are_borrowed_and_all_others_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

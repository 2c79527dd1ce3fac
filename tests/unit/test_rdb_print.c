// SPDX-License-Identifier: Apache-2.0
// What the commands print and verify say, of files made by hand: one each for what redisGunYu got
// wrong, for the forms of text, and for what verify must find.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "rdb/commands.h"
#include "rdb/print_text.h"
#include "rdb_file.h"
#include "rdb/verb.h"

static struct buf file, text;
static const char *said;

static const char *printed(const char *format)
{
    rdb_write(&file, scratch_path("in"));
    int rc = run_verb(rdb_print_main, &said, "print", "--format", format, "-o", scratch_path("out"),
                      scratch_path("in"), NULL);
    if (rc != EXIT_FINE)
        fail_msg("exit %d: %s", rc, said);
    return file_read(scratch_path("out"), &text).p;
}

static void begin(void)
{
    rdb_begin(&file);
}

static void string_key(const char *key, struct slice value)
{
    rdb_key(&file, 0, key);
    rdb_str(&file, value);
}

static void lines_are_as_redisgunyu_wrote_them(void **state)
{
    (void)state;
    begin();
    rdb_byte(&file, 0xfa);
    rdb_str(&file, SLICE("redis-ver"));
    rdb_str(&file, SLICE("7.2.4"));
    string_key("greeting", SLICE("hello"));
    rdb_byte(&file, 0xfe);
    rdb_byte(&file, 3);
    rdb_expire(&file, 1893456000000);
    rdb_key(&file, 4, "user:1");
    rdb_byte(&file, 1);
    rdb_str(&file, SLICE("f"));
    rdb_str(&file, SLICE("v"));
    assert_string_equal(
        printed("line"),
        "{\"db\":0, \"key\":\"redis-ver\", \"val\":\"7.2.4\", \"ttl\":0, \"type\":\"aux\"}\n"
        "{\"db\":0, \"key\":\"greeting\", \"val\":\"hello\", \"ttl\":0, \"type\":\"string\"}\n"
        "{\"db\":3, \"key\":\"user:1\", \"val\":\"\", \"ttl\":1893456000000, \"type\":\"hash\"}\n");
}

static void values_are_escaped_as_json(void **state)
{
    (void)state;
    begin();
    string_key("quote\"key", SLICE("back\\slash\n\x01\x7f \xc3\xa9 \xf0\x9f\x98\x80"));
    assert_string_equal(
        printed("line"),
        "{\"db\":0, \"key\":\"quote\\\"key\", \"val\":\"back\\\\slash\\n\\u0001\x7f "
        "\xc3\xa9 \xf0\x9f\x98\x80\", \"ttl\":0, \"type\":\"string\"}\n");
}

// Strings are looked at eight bytes at a time, and what is shorter in a way of its own.
static void a_mark_is_escaped_at_any_place_of_a_string_of_any_length(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 20; n++) {
        for (size_t at = 0; at <= n; at++) { // n: no mark
            char value[21], inside[24], want[120];
            for (size_t i = 0; i < n; i++)
                value[i] = (char)('a' + i);
            if (at < n)
                value[at] = '"';
            snprintf(inside, sizeof(inside), "%.*s%s%.*s", (int)at, value, at < n ? "\\\"" : "",
                     at < n ? (int)(n - at - 1) : 0, value + (at < n ? at + 1 : 0));
            begin();
            string_key("k", slice_make(value, n));
            snprintf(want, sizeof(want),
                     "{\"db\":0,\"key\":\"k\",\"type\":\"string\",\"expire_at\":null,"
                     "\"value\":\"%s\"}\n",
                     inside);
            assert_string_equal(printed("jsonl"), want);
        }
    }
}

static void bytes_that_are_no_utf8_are_base64(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *text;
    } rows[] = {
        {"\xff", "/w=="},     {"a\xff", "Yf8="},        {"ab\xff", "YWL/"},
        {"\xc0\xaf", "wK8="}, {"\xed\xa0\x80", "7aCA"}, {"\xf4\x90\x80\x80", "9JCAgA=="},
        {"\xe2\x82", "4oI="}, {"\x80", "gA=="},         {"\xe0\x80\x80", "4ICA"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char want[200];
        begin();
        string_key("k", slice_cstr(rows[i].bytes));
        snprintf(want, sizeof(want),
                 "{\"db\":0,\"key\":\"k\",\"type\":\"string\",\"expire_at\":null,"
                 "\"value\":{\"base64\":\"%s\"}}\n",
                 rows[i].text);
        assert_string_equal(printed("jsonl"), want);
    }
}

static void the_empty_key_is_printed(void **state)
{
    (void)state;
    begin();
    string_key("", SLICE("v"));
    assert_string_equal(
        printed("line"),
        "{\"db\":0, \"key\":\"\", \"val\":\"v\", \"ttl\":0, \"type\":\"string\"}\n");
}

static void output_replaces_what_was_there(void **state)
{
    (void)state;
    begin();
    string_key("a", SLICE("a long value that was there before"));
    size_t before = strlen(printed("line"));
    begin();
    string_key("b", SLICE("c"));
    assert_true(strlen(printed("line")) < before);
    assert_null(strstr(text.p, "before"));
}

// A hash of more than 16 MiB came as several lines, one a part of it.
static void a_big_hash_is_one_line(void **state)
{
    (void)state;
    const size_t n = 1 << 20;
    char *value = xmalloc(n);
    memset(value, 'x', n);
    begin();
    rdb_key(&file, 4, "big");
    rdb_byte(&file, 20);
    for (unsigned i = 0; i < 20; i++) {
        char field[8];
        snprintf(field, sizeof(field), "f%u", i);
        rdb_str(&file, slice_cstr(field));
        rdb_str(&file, slice_make(value, n));
    }
    free(value);
    assert_string_equal(
        printed("line"),
        "{\"db\":0, \"key\":\"big\", \"val\":\"\", \"ttl\":0, \"type\":\"hash\"}\n");
}

static void bug_29_a_truncated_file_fails_with_the_offset(void **state)
{
    (void)state;
    begin();
    string_key("whole", SLICE("v"));
    size_t boundary = file.n;
    string_key("next", SLICE("w"));
    // At a boundary of records, and inside of one.
    for (size_t cut = boundary; cut <= boundary + 3; cut += 3) {
        char where[40];
        unlink(scratch_path("out"));
        file_write(scratch_path("in"), file.p, cut);
        int rc = run_verb(rdb_print_main, &said, "print", "-o", scratch_path("out"),
                          scratch_path("in"), NULL);
        assert_int_equal(rc, EXIT_FAILED);
        snprintf(where, sizeof(where), "byte %zu,", cut);
        assert_non_null(strstr(said, where));
        assert_non_null(strchr(said, '\n'));
        assert_null(strchr(strchr(said, '\n') + 1, '\n'));
        assert_int_equal(access(scratch_path("out"), F_OK), -1);
    }
}

static void typed_values_in_jsonl(void **state)
{
    (void)state;
    double score = -0.1;
    begin();
    rdb_key(&file, 1, "l");
    rdb_byte(&file, 2);
    rdb_str(&file, SLICE("a"));
    rdb_str(&file, SLICE(""));
    rdb_key(&file, 5, "z");
    rdb_byte(&file, 1);
    rdb_str(&file, SLICE("m"));
    buf_append(&file, &score, 8);
    rdb_key(&file, 4, "h");
    rdb_byte(&file, 1);
    rdb_str(&file, SLICE("f"));
    rdb_str(&file, SLICE("v"));
    assert_string_equal(
        printed("jsonl"),
        "{\"db\":0,\"key\":\"l\",\"type\":\"list\",\"expire_at\":null,\"value\":[\"a\",\"\"]}\n"
        "{\"db\":0,\"key\":\"z\",\"type\":\"zset\",\"expire_at\":null,\"value\":[[\"m\",-0.1]]}\n"
        "{\"db\":0,\"key\":\"h\",\"type\":\"hash\",\"expire_at\":null,\"value\":[[\"f\",\"v\"]]}"
        "\n");
    assert_non_null(strstr(printed("json"), "[\n{\"db\":0"));
    assert_string_equal(printed("csv"),
                        "db,type,key,expire_at,part,id,field,value,time,count\n"
                        "0,list,l,,,0,,a,,\n0,list,l,,,1,,,,\n0,zset,z,,,,m,-0.1,,\n"
                        "0,hash,h,,,,f,v,,\n");
}

static void csv_quotes_what_it_must(void **state)
{
    (void)state;
    begin();
    string_key("a,b", SLICE("say \"hi\"\n"));
    assert_string_equal(printed("csv"), "db,type,key,expire_at,part,id,field,value,time,count\n"
                                        "0,string,\"a,b\",,,,,\"say \"\"hi\"\"\n\",,\n");
}

static void resp_makes_the_keys_again(void **state)
{
    (void)state;
    begin();
    string_key("s", SLICE("v"));
    rdb_byte(&file, 0xfe);
    rdb_byte(&file, 2);
    rdb_expire(&file, 4102444800000);
    rdb_key(&file, 1, "l");
    rdb_byte(&file, 1);
    rdb_str(&file, SLICE("e"));
    assert_string_equal(printed("resp"),
                        "*3\r\n$3\r\nSET\r\n$1\r\ns\r\n$1\r\nv\r\n"
                        "*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n"
                        "*2\r\n$3\r\nDEL\r\n$1\r\nl\r\n"
                        "*3\r\n$5\r\nRPUSH\r\n$1\r\nl\r\n$1\r\ne\r\n"
                        "*3\r\n$9\r\nPEXPIREAT\r\n$1\r\nl\r\n$13\r\n4102444800000\r\n");
}

static void a_string_beyond_a_piece_is_base64_of_all_of_it(void **state)
{
    (void)state;
    const size_t n = (13 << 20) + 1;
    char *value = xmalloc(n);
    memset(value, 'x', n);
    begin();
    string_key("k", slice_make(value, n));
    free(value);
    const char *out = printed("jsonl");
    const char *from = strstr(out, "{\"base64\":\"eHh4");
    assert_non_null(from);
    assert_int_equal(strlen(from), 11 + (n + 2) / 3 * 4 + 4);
    assert_non_null(strstr(out, "eHg=\"}}\n"));
    // As it is where the format has no need of UTF-8.
    assert_int_equal(strlen(printed("csv")),
                     strlen("db,type,key,expire_at,part,id,field,value,time,count\n"
                            "0,string,k,,,,,\"\",,\n") +
                         n);
}

static void no_key_and_no_value_leave_them_out(void **state)
{
    (void)state;
    begin();
    string_key("k", SLICE("v"));
    rdb_write(&file, scratch_path("in"));
    run_verb(rdb_print_main, &said, "print", "--format", "jsonl", "--no-key", "-o",
             scratch_path("out"), scratch_path("in"), NULL);
    assert_string_equal(file_read(scratch_path("out"), &text).p,
                        "{\"db\":0,\"type\":\"string\",\"expire_at\":null,\"value\":\"v\"}\n");
    run_verb(rdb_print_main, &said, "print", "--no-value", "-o", scratch_path("out"),
             scratch_path("in"), NULL);
    assert_string_equal(file_read(scratch_path("out"), &text).p,
                        "{\"db\":0, \"key\":\"k\", \"ttl\":0, \"type\":\"string\"}\n");
}

static void keys_are_selected_by_size(void **state)
{
    (void)state;
    static const struct {
        const char *option, *size, *keys;
    } rows[] = {{"--min-size", "5", "bc"},
                {"--max-size", "5", "ab"},
                {"--min-size", "1k", ""},
                {"--max-size", "1", ""},
                {"--min-size", "0", "abc"}};
    begin();
    string_key("a", SLICE("1"));          // 2 bytes
    string_key("b", SLICE("four"));       // 5
    string_key("c", SLICE("longer one")); // 11
    rdb_write(&file, scratch_path("in"));
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char got[4] = "";
        run_verb(rdb_print_main, &said, "print", rows[i].option, rows[i].size, "-o",
                 scratch_path("out"), scratch_path("in"), NULL);
        struct slice out = file_read(scratch_path("out"), &text);
        for (const char *p = out.p; (p = strstr(p, "\"key\":\"")); p++)
            strncat(got, p + 7, 1);
        assert_string_equal(got, rows[i].keys);
        // Each value is still whole.
        assert_true(!strchr(got, 'b') || strstr(out.p, "\"val\":\"four\""));
    }
}

static void numbers_read_back_and_are_short(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *text;
    } rows[] = {{0, "0"},
                {-0.0, "-0"},
                {0.1, "0.1"},
                {1.5, "1.5"},
                {-2.25, "-2.25"},
                {1e15, "1000000000000000"},
                {1e-5, "0.00001"},
                {1.0 / 3, "0.3333333333333333"},
                {123456.789, "123456.789"},
                {INFINITY, "\"inf\""},
                {-INFINITY, "\"-inf\""},
                {9007199254740991, "9007199254740991"},
                {1e300, "1e+300"}};
    struct text t = {0};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        t.b.n = 0;
        text_double(&t, rows[i].v);
        assert_string_equal(buf_cstr(&t.b), rows[i].text);
    }
    srand48(1);
    for (int i = 0; i < 200000; i++) {
        double v = (drand48() - 0.5) * pow(10, drand48() * 40 - 20);
        t.b.n = 0;
        text_double(&t, v);
        if (strtod(buf_cstr(&t.b), NULL) != v)
            fail_msg("%.17g became %s", v, buf_cstr(&t.b));
    }
    buf_free(&t.b);
}

static int verified(const char *option)
{
    rdb_write(&file, scratch_path("in"));
    return run_verb(rdb_verify_main, &said, "verify", "-q", option, scratch_path("in"), NULL);
}

static void expect_bad(const char *what)
{
    assert_int_equal(verified("-q"), EXIT_FAILED);
    if (!strstr(said, what) || !strstr(said, "key 'k'") || !strstr(said, "byte "))
        fail_msg("expected \"%s\": %s", what, said);
}

static void verify_finds_a_member_that_is_there_twice(void **state)
{
    (void)state;
    begin();
    rdb_key(&file, 2, "k");
    rdb_byte(&file, 3);
    for (int i = 0; i < 3; i++)
        rdb_str(&file, i == 1 ? SLICE("other") : SLICE("same"));
    expect_bad("a member is there twice");
    begin();
    rdb_key(&file, 4, "k");
    rdb_byte(&file, 2);
    for (int i = 0; i < 4; i++)
        rdb_str(&file, SLICE("x"));
    expect_bad("a field is there twice");
}

static void verify_finds_an_intset_out_of_order(void **state)
{
    (void)state;
    static const char in_order[] = "\2\0\0\0\2\0\0\0\1\0\2\0",
                      out_of_order[] = "\2\0\0\0\2\0\0\0\2\0\1\0";
    begin();
    rdb_key(&file, 11, "k");
    rdb_str(&file, slice_make(in_order, 12));
    assert_int_equal(verified("-q"), EXIT_FINE);
    begin();
    rdb_key(&file, 11, "k");
    rdb_str(&file, slice_make(out_of_order, 12));
    expect_bad("not in order");
}

static void verify_finds_a_broken_listpack(void **state)
{
    (void)state;
    // Size, count, entries "a" and "b" with their back lengths, end.
    char listpack[] = "\x0d\0\0\0\2\0\x81"
                      "a\2\x81"
                      "b\2\xff";
    begin();
    rdb_key(&file, 20, "k");
    rdb_str(&file, slice_make(listpack, 13));
    assert_int_equal(verified("-q"), EXIT_FINE);
    for (size_t i = 0; i < 13; i++) {
        if (i == 7 || i == 10) // the members themselves
            continue;
        char changed[13];
        memcpy(changed, listpack, 13);
        changed[i] ^= 8;
        begin();
        rdb_key(&file, 20, "k");
        rdb_str(&file, slice_make(changed, 13));
        if (verified("-q") != EXIT_FAILED)
            fail_msg("a change of byte %zu was not found", i);
    }
}

static void verify_all_goes_on_behind_a_bad_value(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 2; i++) {
        rdb_key(&file, 2, i ? "bad2" : "bad1");
        rdb_byte(&file, 2);
        rdb_str(&file, SLICE("same"));
        rdb_str(&file, SLICE("same"));
        string_key("good", SLICE("v"));
    }
    assert_int_equal(verified("-q"), EXIT_FAILED);
    assert_non_null(strstr(said, "bad1"));
    assert_null(strstr(said, "bad2"));
    assert_int_equal(verified("--all"), EXIT_FAILED);
    assert_non_null(strstr(said, "bad1"));
    assert_non_null(strstr(said, "bad2"));
}

static void verify_finds_a_wrong_checksum(void **state)
{
    (void)state;
    begin();
    string_key("k", SLICE("value"));
    rdb_write(&file, scratch_path("in"));
    file.p[13] ^= 1;
    file_write(scratch_path("in"), file.p, file.n);
    assert_int_equal(run_verb(rdb_verify_main, &said, "verify", scratch_path("in"), NULL),
                     EXIT_FAILED);
    assert_non_null(strstr(said, "checksum"));
}

static void usage_errors_are_one_line_and_exit_2(void **state)
{
    (void)state;
    assert_int_equal(run_verb(rdb_print_main, &said, "print", NULL), EXIT_USAGE);
    assert_int_equal(run_verb(rdb_print_main, &said, "print", "--format", "xml", "f", NULL),
                     EXIT_USAGE);
    assert_non_null(strstr(said, "gunyu rdb print: --format"));
    assert_int_equal(run_verb(rdb_print_main, &said, "print", "--nope", "f", NULL), EXIT_USAGE);
    assert_non_null(strstr(said, "--nope"));
    assert_int_equal(run_verb(rdb_print_main, &said, "print", "--db", "x", "f", NULL), EXIT_USAGE);
    assert_int_equal(run_verb(rdb_verify_main, &said, "verify", NULL), EXIT_USAGE);
}

static int done(void **state)
{
    buf_free(&file);
    buf_free(&text);
    return scratch_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_as_redisgunyu_wrote_them),
        cmocka_unit_test(values_are_escaped_as_json),
        cmocka_unit_test(a_mark_is_escaped_at_any_place_of_a_string_of_any_length),
        cmocka_unit_test(bytes_that_are_no_utf8_are_base64),
        cmocka_unit_test(the_empty_key_is_printed),
        cmocka_unit_test(output_replaces_what_was_there),
        cmocka_unit_test(a_big_hash_is_one_line),
        cmocka_unit_test(bug_29_a_truncated_file_fails_with_the_offset),
        cmocka_unit_test(typed_values_in_jsonl),
        cmocka_unit_test(csv_quotes_what_it_must),
        cmocka_unit_test(resp_makes_the_keys_again),
        cmocka_unit_test(a_string_beyond_a_piece_is_base64_of_all_of_it),
        cmocka_unit_test(no_key_and_no_value_leave_them_out),
        cmocka_unit_test(keys_are_selected_by_size),
        cmocka_unit_test(numbers_read_back_and_are_short),
        cmocka_unit_test(verify_finds_a_member_that_is_there_twice),
        cmocka_unit_test(verify_finds_an_intset_out_of_order),
        cmocka_unit_test(verify_finds_a_broken_listpack),
        cmocka_unit_test(verify_all_goes_on_behind_a_bad_value),
        cmocka_unit_test(verify_finds_a_wrong_checksum),
        cmocka_unit_test(usage_errors_are_one_line_and_exit_2),
    };
    return cmocka_run_group_tests(tests, scratch_make, done);
}

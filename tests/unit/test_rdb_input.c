// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/mem.h"
#include "rdb/input.h"
#include "rdb/out.h"
#include "rdb/select.h"
#include "rdb/verb.h"
#include "rdb_file.h"
#include "source_tree.h"

static const struct rdb_input_options checked = {.check_crc = true};

// All items with all their elements as one hash; ERR_* when the file is bad.
static int read_all(const char *path, uint64_t *sum, struct err *e)
{
    struct rdb_input *in;
    struct rdb_item item;
    struct rdb_element el;
    *sum = 0;
    int rc = rdb_input_open(&in, path, &checked, e);
    if (rc)
        return rc;
    while ((rc = rdb_input_next(in, &item, e)) == RDB_ITEM) {
        *sum = crc64_update(*sum, item.key.p, item.kind == RDB_KIND_KEY ? item.key.n : 0);
        if (item.kind != RDB_KIND_KEY)
            continue;
        while ((rc = rdb_input_element(in, 1000, &el, e)) == RDB_ITEM)
            *sum = crc64_update(*sum, el.value.p, el.value.n);
        if (rc < 0)
            break;
    }
    rdb_input_close(in);
    return rc;
}

static const char *asset(const char *name)
{
    static char path[4096];
    char below[64];
    snprintf(below, sizeof(below), "tests/data/rdb/%s", name);
    source_path(below, path, sizeof(path));
    return path;
}

static void every_truncation_fails_with_the_offset(void **state)
{
    (void)state;
    static const char *const names[] = {"idle.rdb", "no-checksum.rdb"};
    struct buf b = {0};
    for (size_t k = 0; k < 2; k++) {
        struct slice whole = file_read(asset(names[k]), &b);
        assert_true(whole.n > 100);
        for (size_t n = 0; n < whole.n; n++) {
            const char *path = scratch_path("cut");
            char where[40];
            struct err e = {0};
            uint64_t sum;
            file_write(path, whole.p, n);
            assert_int_equal(read_all(path, &sum, &e), ERR_CORRUPT);
            snprintf(where, sizeof(where), "byte %zu,", n);
            if (n > 0 && !strstr(e.msg, where))
                fail_msg("cut at %zu: %s", n, e.msg);
            assert_non_null(strstr(e.msg, path));
        }
    }
    buf_free(&b);
}

static void shell(char *command)
{
    int rc = system(command);
    free(command);
    if (rc != 0)
        skip(); // the tool is not installed
}

static void compressed(const char *tool)
{
    char plain[4096], packed[4096];
    uint64_t want, got;
    struct err e = {0};
    struct buf b = {0};
    snprintf(plain, sizeof(plain), "%s", asset("packed.rdb"));
    snprintf(packed, sizeof(packed), "%s", scratch_path("packed"));
    shell(xasprintf("%s -c < '%s' > '%s'", tool, plain, packed));
    assert_int_equal(read_all(plain, &want, &e), RDB_DONE);
    assert_int_equal(read_all(packed, &got, &e), RDB_DONE);
    assert_true(want == got);

    // Each cut is an error, never a shorter file.
    struct slice whole = file_read(packed, &b);
    for (size_t n = 1; n < whole.n; n += 97) {
        file_write(scratch_path("cut"), whole.p, n);
        assert_int_equal(read_all(scratch_path("cut"), &got, &e), ERR_CORRUPT);
    }
    buf_free(&b);

    // Two members, one after the other, are one file.
    shell(xasprintf("(head -c 1000 '%s' | %s -c; tail -c +1001 '%s' | %s -c) > '%s'", plain, tool,
                    plain, tool, packed));
    assert_int_equal(read_all(packed, &got, &e), RDB_DONE);
    assert_true(want == got);
}

static void gzip_is_told_by_magic(void **state)
{
    (void)state;
    compressed("gzip");
}

// ISA-L says of such data that more of it is left than there was.
static void broken_gzip_names_a_byte_of_the_file(void **state)
{
    (void)state;
    static const uint8_t packed[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02,
                                     0x03, 0x0b, 0x72, 0x75, 0xf1, 0x0c, 0x36, 0xd8, 0x30,
                                     0x34, 0x4c, 0x4c, 0x4a, 0x1e, 0x10, 0x04, 0x00, 0x0a,
                                     0x4b, 0x4e, 0xc0, 0x81, 0x00, 0x00, 0x00};
    struct err e;
    uint64_t sum;
    file_write(scratch_path("broken"), packed, sizeof(packed));
    assert_int_equal(read_all(scratch_path("broken"), &sum, &e), ERR_CORRUPT);
    const char *at = strstr(e.msg, "near byte ");
    assert_non_null(at);
    assert_true(strtoull(at + strlen("near byte "), NULL, 10) <= sizeof(packed));
}

static void zstd_is_told_by_magic(void **state)
{
    (void)state;
    compressed("zstd -q");
}

static void lz4_is_told_by_magic(void **state)
{
    (void)state;
    compressed("lz4 -q");
}

static void a_score_with_a_space_before_it_is_refused(void **state)
{
    (void)state;
    // Redis 7 reads "\rinf" as infinity, Redis 8 as 0.
    static const char *const scores[] = {"2.5", "\rinf", " 2.5"};
    struct buf b = {0};
    for (size_t i = 0; i < 3; i++) {
        struct err e;
        uint64_t sum;
        rdb_begin(&b);
        rdb_key(&b, 3, "zset");
        rdb_len(&b, 1);
        rdb_str(&b, SLICE("member"));
        rdb_str(&b, slice_cstr(scores[i]));
        rdb_write(&b, scratch_path("score"));
        assert_int_equal(read_all(scratch_path("score"), &sum, &e), i ? ERR_CORRUPT : RDB_DONE);
    }
    buf_free(&b);
}

static void what_cannot_be_read_is_said_with_its_name(void **state)
{
    (void)state;
    static const struct {
        const char *name, *content;
        int code;
        const char *text;
    } rows[] = {
        {"empty", "", ERR_CORRUPT, "is empty"},
        {"short", "hi", ERR_CORRUPT, "no RDB file"},
        {"other", "hello, this is a text", ERR_CORRUPT, "no RDB file"},
        {"newer", "REDIS0099 and so on", ERR_UNSUPPORTED, "version 99"},
        {"word", "REDISxxxx and so on", ERR_CORRUPT, "not a number"},
        {"missing", NULL, -ENOENT, "cannot open"},
    };
    struct err e;
    uint64_t sum;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        const char *path = scratch_path(rows[i].name);
        if (rows[i].content)
            file_write(path, rows[i].content, strlen(rows[i].content));
        assert_int_equal(read_all(path, &sum, &e), rows[i].code);
        assert_non_null(strstr(e.msg, rows[i].text));
        assert_non_null(strstr(e.msg, path));
    }
    assert_int_equal(read_all(scratch, &sum, &e), -EISDIR);
}

static void a_value_bigger_than_the_window_comes_in_pieces_and_whole(void **state)
{
    (void)state;
    const size_t n = 5 << 20;
    struct buf b = {0};
    char *big = xmalloc(n);
    for (size_t i = 0; i < n; i++)
        big[i] = (char)(i * 7);
    rdb_begin(&b);
    rdb_key(&b, 0, "small");
    rdb_str(&b, SLICE("x"));
    for (int i = 0; i < 2; i++) {
        rdb_key(&b, 0, i ? "b" : "a");
        rdb_str(&b, slice_make(big, n));
    }
    rdb_write(&b, scratch_path("big"));

    struct rdb_input *in;
    struct rdb_item item;
    struct rdb_element el;
    struct slice raw;
    struct err e;
    assert_int_equal(rdb_input_open(&in, scratch_path("big"), &checked, &e), 0);
    assert_int_equal(rdb_input_next(in, &item, &e), RDB_ITEM);
    assert_int_equal(rdb_input_next(in, &item, &e), RDB_ITEM);
    assert_int_equal(rdb_input_raw(in, 1 << 20, &raw, &e), RDB_TOO_BIG);
    uint64_t at = 0;
    while (at < n) {
        assert_int_equal(rdb_input_element(in, 100000, &el, &e), RDB_ITEM);
        assert_true(el.at == at && el.total == n);
        assert_memory_equal(el.value.p, big + at, el.value.n);
        at += el.value.n;
    }
    assert_int_equal(rdb_input_next(in, &item, &e), RDB_ITEM);
    assert_int_equal(rdb_input_raw(in, 16 << 20, &raw, &e), RDB_ITEM);
    assert_memory_equal(raw.p + 5, big, n);
    rdb_input_again(in);
    assert_int_equal(rdb_input_element(in, n, &el, &e), RDB_ITEM);
    assert_memory_equal(el.value.p, big, n);
    assert_int_equal(rdb_input_next(in, &item, &e), RDB_DONE);
    assert_true(rdb_input_has_checksum(in));
    rdb_input_close(in);
    buf_free(&b);
    free(big);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static void output_has_its_name_only_when_it_is_whole(void **state)
{
    (void)state;
    struct rdb_out *o;
    struct err e = {0};
    struct buf b = {0};
    char path[4096];
    snprintf(path, sizeof(path), "%s", scratch_path("out"));
    assert_int_equal(rdb_out_open(&o, path, RDB_OUT_PLAIN, &e), 0);
    rdb_out_write(o, "one", 3, NULL);
    assert_false(exists(path));
    rdb_out_discard(o);
    assert_false(exists(path));

    assert_int_equal(rdb_out_open(&o, path, RDB_OUT_PLAIN, &e), 0);
    rdb_out_printf(o, "%s-%d", "two", 2);
    assert_int_equal(rdb_out_bytes(o), 5);
    assert_int_equal(rdb_out_commit(o, &e), 0);
    assert_string_equal(file_read(path, &b).p, "two-2");

    // A failure leaves what was there before.
    assert_int_equal(rdb_out_open(&o, path, RDB_OUT_PLAIN, &e), 0);
    rdb_out_write(o, "three", 5, NULL);
    rdb_out_discard(o);
    assert_string_equal(file_read(path, &b).p, "two-2");
    buf_free(&b);
}

static void output_compressed_reads_back(void **state)
{
    (void)state;
    struct buf b = {0};
    struct err e = {0};
    uint64_t want, got;
    struct slice whole = file_read(asset("tables.rdb"), &b);
    assert_int_equal(read_all(asset("tables.rdb"), &want, &e), RDB_DONE);
    for (int format = RDB_OUT_ZSTD; format <= RDB_OUT_GZIP; format++) {
        struct rdb_out *o;
        assert_int_equal(rdb_out_open(&o, scratch_path("z"), (enum rdb_out_format)format, &e), 0);
        for (size_t i = 0; i < whole.n; i += 1000)
            rdb_out_write(o, whole.p + i, whole.n - i < 1000 ? whole.n - i : 1000, NULL);
        assert_int_equal(rdb_out_commit(o, &e), 0);
        struct stat st;
        assert_int_equal(stat(scratch_path("z"), &st), 0);
        assert_true((size_t)st.st_size < whole.n);
        assert_int_equal(read_all(scratch_path("z"), &got, &e), RDB_DONE);
        assert_true(want == got);
    }
    buf_free(&b);
}

static void a_full_disk_is_an_error_of_the_output(void **state)
{
    (void)state;
    struct rdb_out *o;
    struct err e = {0};
    assert_int_equal(rdb_out_open(&o, "/dev/full", RDB_OUT_PLAIN, &e), 0);
    rdb_out_write(o, "x", 1, NULL);
    assert_int_equal(rdb_out_commit(o, &e), -ENOSPC);
    assert_non_null(strstr(e.msg, "/dev/full"));
}

struct wish {
    const char *option, *value;
};

static int option_value(const char *name)
{
    for (size_t i = 0; i < selection_options_n; i++)
        if (strcmp(selection_options[i].name, name) == 0)
            return selection_options[i].val;
    return 0;
}

static bool wanted(const char *option, const char *value, const struct rdb_item *item)
{
    struct selection *s = selection_new();
    struct err e = {0};
    int rc = -1;
    assert_true(selection_option(s, option_value(option), value, &rc, &e));
    assert_int_equal(rc, 0);
    bool yes = selection_wants(s, item, 1000000);
    selection_free(s);
    return yes;
}

static void keys_are_selected_by_pattern(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *key;
        bool match;
    } rows[] = {
        {"*", "", true},
        {"a*", "abc", true},
        {"a*c", "abc", true},
        {"a*c", "abd", false},
        {"a?c", "abc", true},
        {"a?c", "ac", false},
        {"[ab]x", "bx", true},
        {"[^ab]x", "bx", false},
        {"[a-c]x", "bx", true},
        {"[c-a]x", "bx", true},
        {"\\*x", "*x", true},
        {"\\*x", "ax", false},
        {"\\?", "?", true},
        {"\\?", "a", false},
        {"*a*b*c*", "xaxbxc", true},
        {"user:*:x", "user:1:x", true},
        {"user:*:x", "user:1:y", false},
        {"a", "ab", false},
        {"[", "[", false},
        {"a**b", "ab", true},
        {"*?", "", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct rdb_item item = {.key = slice_cstr(rows[i].key), .expire_ms = -1};
        if (wanted("key", rows[i].pattern, &item) != rows[i].match)
            fail_msg("%s against %s", rows[i].pattern, rows[i].key);
        assert_int_equal(wanted("not-key", rows[i].pattern, &item), !rows[i].match);
    }
}

static void a_hostile_pattern_takes_no_exponential_time(void **state)
{
    (void)state;
    static char key[4000];
    memset(key, 'a', sizeof(key));
    struct rdb_item item = {.key = slice_make(key, sizeof(key))};
    assert_false(wanted("key", "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", &item));
}

static void keys_are_selected_by_db_type_slot_and_ttl(void **state)
{
    (void)state;
    // The slot of "foo" is 12182; it has 60 s to live.
    const struct rdb_item item = {
        .key = SLICE("foo"), .db = 3, .object = RDB_OBJ_ZSET, .expire_ms = 1060000};
    static const struct {
        const char *option, *value;
        bool match;
    } rows[] = {
        {"db", "3", true},          {"db", "0,3", true},
        {"db", "0,1", false},       {"type", "zset", true},
        {"type", "set,ZSET", true}, {"type", "set,hash", false},
        {"slot", "12182", true},    {"slot", "0-5,12000-13000", true},
        {"slot", "0-12181", false}, {"ttl", "set", true},
        {"ttl", "none", false},     {"ttl", "expired", false},
        {"ttl", "..1m", true},      {"ttl", "61s..", false},
        {"ttl", "10s..2h", true},   {"ttl", "..59999ms", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        if (wanted(rows[i].option, rows[i].value, &item) != rows[i].match)
            fail_msg("--%s %s", rows[i].option, rows[i].value);
}

static void a_bad_selection_is_refused_with_the_option(void **state)
{
    (void)state;
    static const struct wish rows[] = {{"db", "x"},       {"db", "-1"},       {"type", "text"},
                                       {"slot", "16384"}, {"slot", "9-3"},    {"ttl", "soon"},
                                       {"ttl", "2h..1h"}, {"min-size", "1x"}, {"max-size", "-5"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct selection *s = selection_new();
        struct err e = {0};
        int rc = 0;
        assert_true(selection_option(s, option_value(rows[i].option), rows[i].value, &rc, &e));
        assert_int_equal(rc, ERR_CONFIG);
        assert_non_null(strstr(e.msg, rows[i].option));
        selection_free(s);
    }
}

static void sizes_and_spans_are_read(void **state)
{
    (void)state;
    uint64_t size;
    int64_t ms;
    assert_true(verb_size("10k", &size) && size == 10240);
    assert_true(verb_size("1.5MiB", &size) && size == 3 << 19);
    assert_true(verb_size("7", &size) && size == 7);
    assert_true(verb_size("2GB", &size) && size == (uint64_t)2 << 30);
    assert_false(verb_size("k", &size) || verb_size("1kk", &size) || verb_size("", &size));
    assert_true(verb_span_ms("90", &ms) && ms == 90000);
    assert_true(verb_span_ms("15ms", &ms) && ms == 15);
    assert_true(verb_span_ms("1.5h", &ms) && ms == 5400000);
    assert_false(verb_span_ms("h", &ms) || verb_span_ms("1y", &ms));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation_fails_with_the_offset),
        cmocka_unit_test(gzip_is_told_by_magic),
        cmocka_unit_test(broken_gzip_names_a_byte_of_the_file),
        cmocka_unit_test(zstd_is_told_by_magic),
        cmocka_unit_test(lz4_is_told_by_magic),
        cmocka_unit_test(a_score_with_a_space_before_it_is_refused),
        cmocka_unit_test(what_cannot_be_read_is_said_with_its_name),
        cmocka_unit_test(a_value_bigger_than_the_window_comes_in_pieces_and_whole),
        cmocka_unit_test(output_has_its_name_only_when_it_is_whole),
        cmocka_unit_test(output_compressed_reads_back),
        cmocka_unit_test(a_full_disk_is_an_error_of_the_output),
        cmocka_unit_test(keys_are_selected_by_pattern),
        cmocka_unit_test(a_hostile_pattern_takes_no_exponential_time),
        cmocka_unit_test(keys_are_selected_by_db_type_slot_and_ttl),
        cmocka_unit_test(a_bad_selection_is_refused_with_the_option),
        cmocka_unit_test(sizes_and_spans_are_read),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "codec/resp.h"

// Parses the first command as it would arrive byte by byte, each time in freshly allocated memory
// of exactly the bytes so far, so that a sanitizer sees any read beyond them and any kept pointer.
static int parse_bytewise(struct resp_cmd *c, const char *p, size_t n, char **last, size_t *needed)
{
    *last = NULL;
    for (size_t k = 1; k <= n; k++) {
        free(*last);
        *last = xmalloc(k);
        memcpy(*last, p, k);
        *needed = k;
        int rc = resp_cmd_parse(c, *last, k);
        if (rc != 0)
            return rc;
    }
    return 0;
}

// Text of a parse of the whole input: "lead/len: arg|arg" lines, "error" or "more" at the end.
static void describe(const char *p, size_t n, bool bytewise, struct buf *out)
{
    struct resp_cmd c = {0};
    size_t at = 0;
    buf_clear(out);
    while (at < n) {
        char *copy = NULL;
        size_t seen = n - at;
        int rc = bytewise ? parse_bytewise(&c, p + at, n - at, &copy, &seen)
                          : resp_cmd_parse(&c, p + at, n - at);
        if (rc <= 0) {
            buf_append_cstr(out, rc == 0 ? "more" : rc == ERR_PROTOCOL ? "error" : "?");
            free(copy);
            break;
        }
        assert_true(c.len <= seen && c.len > 0 && c.lead <= c.len);
        if (c.argc > 0)
            buf_printf(out, "%s", c.is_inline ? "inline " : "");
        for (int i = 0; i < c.argc; i++) {
            buf_append_cstr(out, i ? "|" : "");
            buf_append_slice(out, c.argv[i]);
        }
        if (c.argc > 0)
            buf_printf(out, " @%zu\n", at + c.len);
        at += c.len;
        free(copy);
    }
    resp_cmd_free(&c);
}

static void expect(const char *p, size_t n, const char *want)
{
    struct buf out = {0};
    describe(p, n, false, &out);
    assert_string_equal(buf_cstr(&out), want);
    describe(p, n, true, &out);
    assert_string_equal(buf_cstr(&out), want);
    buf_free(&out);
}
#define EXPECT(lit, want) expect(lit, sizeof(lit) - 1, want)

static void commands_are_found_at_the_exact_byte_however_split(void **state)
{
    (void)state;
    EXPECT("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nv\r\nal\r\n*1\r\n$4\r\nPING\r\n",
           "SET|k|v\r\nal @31\nPING @45\n");
    EXPECT("*2\r\n$3\r\nGET\r\n$0\r\n\r\n", "GET| @19\n");
    EXPECT("*0\r\n*-1\r\n*1\r\n$1\r\nx\r\n", "x @20\n");
    EXPECT("*2\r\n$3\r\nGET\r\n$2\r\nk", "more");
}

static void newlines_are_keepalives_and_count_into_the_length(void **state)
{
    (void)state;
    EXPECT("\n\n*1\r\n$1\r\na\r\n\r\n\n*1\r\n$1\r\nb\r\n\n", "a @13\nb @27\n");
    struct resp_cmd c = {0};
    assert_int_equal(resp_cmd_parse(&c, "\n\n\n", 3), 1);
    assert_int_equal(c.len, 3);
    assert_int_equal(c.argc, 0);
    assert_int_equal(resp_cmd_parse(&c, "\n*", 2), 1);
    assert_int_equal(c.len, 1);
    assert_int_equal(resp_cmd_parse(&c, "\r", 1), 0);
    assert_int_equal(resp_cmd_parse(&c, "\r\n", 2), 1);
    assert_int_equal(c.len, 2);
    assert_int_equal(resp_cmd_parse(&c, "\n*1\r\n$1\r\na\r\n", 12), 1);
    assert_int_equal(c.lead, 1);
    assert_int_equal(c.len, 12);
    resp_cmd_free(&c);
}

static void inline_commands_are_split_as_a_server_splits_them(void **state)
{
    (void)state;
    EXPECT("PING\r\n", "inline PING @6\n");
    EXPECT("\nPING\n", "inline PING @6\n");
    EXPECT("  set\tk  v \n", "inline set|k|v @12\n");
    EXPECT("set \"a b\" 'c d'\n", "inline set|a b|c d @16\n");
    EXPECT("set \"\\x41\\n\\q\\\"\" 'it\\'s\\n'\r\n", "inline set|A\nq\"|it's\\n @28\n");
    EXPECT("set foo\"bar\" \"\"\n", "inline set|foobar| @16\n");
    EXPECT("   \r\nPING\r\n", "inline PING @11\n");
    EXPECT("set \"open\n", "error");
    EXPECT("set \"a\"b\n", "error");
    EXPECT("set 'open\n", "error");
    EXPECT("set a\0b\n", "error");
}

static void an_endless_inline_line_is_refused(void **state)
{
    (void)state;
    size_t n = RESP_MAX_INLINE + 1;
    char *p = xmalloc(n);
    memset(p, 'x', n);
    struct resp_cmd c = {0};
    assert_int_equal(resp_cmd_parse(&c, p, n - 1), 0);
    assert_int_equal(resp_cmd_parse(&c, p, n), ERR_PROTOCOL);
    resp_cmd_free(&c);
    free(p);
}

static void what_is_not_resp_is_refused(void **state)
{
    (void)state;
    EXPECT("*x\r\n", "error");
    EXPECT("*\r\n", "error");
    EXPECT("*+1\r\n", "error");
    EXPECT("*01\r\n", "error");
    EXPECT("*1 \r\n", "error");
    EXPECT("*1\n", "error");
    EXPECT("*1\rx", "error");
    EXPECT("*9999999999\r\n", "error");
    EXPECT("*99999999999999999999999\r\n", "error");
    EXPECT("*-0\r\n", "error");
    EXPECT("*1\r\n:1\r\n", "error");
    EXPECT("*1\r\n$-1\r\n", "error");
    EXPECT("*1\r\n$4294967297\r\n", "error");
    EXPECT("*1\r\n$1\r\nabc", "error");
    EXPECT("*1\r\n$1\r\na\rb", "error");
}

static void a_bulk_beyond_512_mib_is_awaited_and_a_huge_count_allocates_nothing(void **state)
{
    (void)state;
    struct resp_cmd c = {0};
    assert_int_equal(resp_cmd_parse(&c, "*1\r\n$4294967296\r\n", 17), 0);
    resp_cmd_free(&c);
    assert_int_equal(resp_cmd_parse(&c, "*2147483647\r\n", 13), 0);
    assert_true(c.cap < 100);
    resp_cmd_free(&c);
}

static void what_one_command_writes_the_parser_reads_back(void **state)
{
    (void)state;
    struct buf b = {0};
    char binary[256];
    for (int i = 0; i < 256; i++)
        binary[i] = (char)i;
    struct slice argv[] = {SLICE("RESTORE"), slice_make(binary, sizeof(binary)), SLICE("")};
    resp_put_argv(&b, 3, argv);
    struct resp_cmd c = {0};
    assert_int_equal(resp_cmd_parse(&c, b.p, b.n), 1);
    assert_int_equal(c.len, b.n);
    assert_int_equal(c.argc, 3);
    for (int i = 0; i < 3; i++)
        assert_true(slice_eq(c.argv[i], argv[i]));
    resp_cmd_free(&c);
    buf_free(&b);
}

static void the_command_writer_knows_its_conversions(void **state)
{
    (void)state;
    struct buf b = {0};
    struct slice key = SLICE("a b"), empty = SLICE("");
    resp_put_cmd(&b, "SET %b x%s:%d%% %L %U %b", &key, "y", -7, INT64_MIN, UINT64_MAX, &empty);
    assert_string_equal(buf_cstr(&b), "*6\r\n$3\r\nSET\r\n$3\r\na b\r\n$6\r\nxy:-7%\r\n"
                                      "$20\r\n-9223372036854775808\r\n"
                                      "$20\r\n18446744073709551615\r\n$0\r\n\r\n");
    buf_clear(&b);
    resp_put_array(&b, 2);
    resp_put_i64(&b, -12);
    resp_put_bulk_header(&b, 5);
    assert_string_equal(buf_cstr(&b), "*2\r\n$3\r\n-12\r\n$5\r\n");
    buf_free(&b);
}

static void scan(const char *p, size_t n, size_t want)
{
    struct resp_scan s = {0};
    size_t len = 0;
    assert_int_equal(resp_scan(&s, p, n, &len), 1);
    assert_int_equal(len, want);
    for (size_t k = 0; k < want; k++) {
        char *copy = xmalloc(k + 1);
        memcpy(copy, p, k);
        assert_int_equal(resp_scan(&s, copy, k, &len), 0);
        free(copy);
    }
    len = 0;
    assert_int_equal(resp_scan(&s, p, n, &len), 1);
    assert_int_equal(len, want);
}
#define SCAN(lit) scan(lit "+next\r\n", sizeof(lit "+next\r\n") - 1, sizeof(lit) - 1)

static void replies_end_at_the_exact_byte_however_split(void **state)
{
    (void)state;
    SCAN("+OK\r\n");
    SCAN("-ERR what\r\n");
    SCAN("+lone\rcr\nand lf\r\n");
    SCAN(":-12\r\n");
    SCAN("$5\r\na\r\nbc\r\n");
    SCAN("$-1\r\n");
    SCAN("*-1\r\n");
    SCAN("*0\r\n");
    SCAN("_\r\n");
    SCAN("#t\r\n");
    SCAN(",-inf\r\n");
    SCAN("(3492890328409238509324850943850943825024385\r\n");
    SCAN("!5\r\nERR x\r\n");
    SCAN("=7\r\ntxt:abc\r\n");
    SCAN("*3\r\n:1\r\n*2\r\n$1\r\na\r\n*0\r\n%1\r\n+k\r\n~2\r\n:1\r\n:2\r\n");
    SCAN(">2\r\n+message\r\n+x\r\n");
    SCAN("|1\r\n+ttl\r\n:3\r\n*2\r\n|1\r\n+a\r\n*1\r\n:9\r\n:1\r\n:2\r\n");
}

static void malformed_replies_are_refused(void **state)
{
    (void)state;
    const char *bad[] = {"x\r\n",
                         ":x\r\n",
                         ":\r\n",
                         "$x\r\n",
                         "$-2\r\n",
                         "*-2\r\n",
                         "%-1\r\n",
                         "#x\r\n",
                         "_x\r\n",
                         "$1\r\nab\r\n",
                         "*4294967296\r\n",
                         "$?\r\n",
                         "\r\n",
                         "$99999999999999\r\n",
                         "*1\r\n@\r\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct resp_scan s = {0};
        size_t len;
        assert_int_equal(resp_scan(&s, bad[i], strlen(bad[i]), &len), ERR_PROTOCOL);
    }
}

static void nodes_come_depth_first_and_without_attributes(void **state)
{
    (void)state;
    static const char in[] =
        "|1\r\n+skip\r\n*1\r\n|1\r\n:5\r\n:6\r\n:7\r\n"
        "*5\r\n%1\r\n+k\r\n=7\r\ntxt:abc\r\n#t\r\n_\r\n|1\r\n:8\r\n:9\r\n:-3\r\n,1.5\r\n";
    static const struct {
        enum resp_type type;
        const char *text;
        int64_t num;
    } want[] = {
        {RESP_ARRAY, "", 5}, {RESP_MAP, "", 2}, {RESP_STATUS, "k", 0},    {RESP_BULK, "abc", 0},
        {RESP_BOOL, "t", 1}, {RESP_NIL, "", 0}, {RESP_INTEGER, "-3", -3}, {RESP_DOUBLE, "1.5", 0},
    };
    size_t len = 0, pos = 0;
    struct resp_scan s = {0};
    assert_int_equal(resp_scan(&s, in, sizeof(in) - 1, &len), 1);
    assert_int_equal(len, sizeof(in) - 1);
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        struct resp_node node;
        assert_true(resp_next(in, len, &pos, &node));
        assert_int_equal(node.type, want[i].type);
        assert_int_equal(node.num, want[i].num);
        assert_true(slice_eq(node.text, slice_cstr(want[i].text)));
    }
    struct resp_node node;
    assert_false(resp_next(in, len, &pos, &node));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_found_at_the_exact_byte_however_split),
        cmocka_unit_test(newlines_are_keepalives_and_count_into_the_length),
        cmocka_unit_test(inline_commands_are_split_as_a_server_splits_them),
        cmocka_unit_test(an_endless_inline_line_is_refused),
        cmocka_unit_test(what_is_not_resp_is_refused),
        cmocka_unit_test(a_bulk_beyond_512_mib_is_awaited_and_a_huge_count_allocates_nothing),
        cmocka_unit_test(what_one_command_writes_the_parser_reads_back),
        cmocka_unit_test(the_command_writer_knows_its_conversions),
        cmocka_unit_test(replies_end_at_the_exact_byte_however_split),
        cmocka_unit_test(malformed_replies_are_refused),
        cmocka_unit_test(nodes_come_depth_first_and_without_attributes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
// The newest formats and those that no server at hand writes, from bytes made by hand.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "codec/rdb_types.h"
#include "rdb_lines.h"

// ---- building ----

static void byte(struct buf *b, unsigned v)
{
    buf_append_char(b, (char)v);
}

static void length(struct buf *b, uint64_t n)
{
    uint8_t be[8];
    if (n < 64) {
        byte(b, (unsigned)n);
        return;
    }
    store_be64(be, n);
    byte(b, 0x81);
    buf_append(b, be, 8);
}

static void str(struct buf *b, const char *s)
{
    length(b, strlen(s));
    buf_append_cstr(b, s);
}

static void number64(struct buf *b, uint64_t v)
{
    uint8_t le[8];
    store_le64(le, v);
    buf_append(b, le, 8);
}

static void real(struct buf *b, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    number64(b, bits);
}

static void raw_id(struct buf *b, uint64_t ms, uint64_t seq)
{
    uint8_t be[16];
    store_be64(be, ms);
    store_be64(be + 8, seq);
    buf_append(b, be, 16);
}

// A listpack of short strings and, where one begins with '#', small numbers.
static void listpack(struct buf *b, int n, const char *const *entries)
{
    struct buf body = {0};
    for (int i = 0; i < n; i++) {
        size_t len = strlen(entries[i]);
        if (entries[i][0] == '#') {
            byte(&body, (unsigned)atoi(entries[i] + 1));
            byte(&body, 1);
        } else {
            byte(&body, 0x80 | (unsigned)len);
            buf_append(&body, entries[i], len);
            byte(&body, (unsigned)len + 1);
        }
    }
    uint8_t head[6];
    store_le32(head, (uint32_t)body.n + 7);
    store_le16(head + 4, (uint16_t)n);
    length(b, body.n + 7);
    buf_append(b, head, 6);
    buf_append_slice(b, buf_slice(&body));
    byte(b, 255);
    buf_free(&body);
}
#define LISTPACK(b, ...)                                                                           \
    listpack(b, (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)),                \
             (const char *const[]){__VA_ARGS__})

static void begin(struct buf *b, const char *magic)
{
    buf_clear(b);
    buf_append_cstr(b, magic);
}

static void end(struct buf *b)
{
    byte(b, RDB_OP_EOF);
    number64(b, 0);
}

static void key(struct buf *b, unsigned type, const char *name)
{
    byte(b, type);
    str(b, name);
}

// ---- reading ----

static int read_all(struct slice file, size_t step, struct buf *out, struct err *e)
{
    struct rdb_reader *r = rdb_reader_new(true);
    struct lines l = {0};
    struct lines_feed f = {.p = file.p, .n = file.n, .step = step};
    int rc = lines_read(&l, r, &f, 1000, e);
    rdb_reader_free(r);
    *out = l.out;
    l.out = (struct buf){0};
    lines_free(&l);
    return rc;
}

// Reads the file whole, byte by byte, and cut at every byte.
static void expect(const struct buf *file, const char *lines)
{
    struct buf got;
    struct err e = {0};
    for (size_t step = 1; step <= file->n; step = step < 3 ? step + 1 : step * 40) {
        int rc = read_all(buf_slice(file), step, &got, &e);
        if (rc != RDB_DONE)
            fail_msg("in steps of %zu: %d %s", step, rc, e.msg);
        assert_string_equal(buf_cstr(&got), lines);
        buf_free(&got);
    }
    for (size_t n = 0; n < file->n; n++) {
        int rc = read_all(slice_make(file->p, n), n ? n : 1, &got, &e);
        if (rc != RDB_MORE)
            fail_msg("cut at %zu of %zu: %d %s", n, file->n, rc, e.msg);
        buf_free(&got);
    }
}

static void expect_failure(const struct buf *file, int code, const char *says)
{
    struct buf got;
    struct err e = {0};
    int rc = read_all(buf_slice(file), file->n, &got, &e);
    buf_free(&got);
    if (rc != code || !strstr(e.msg, says))
        fail_msg("%d %s, expected: %s", rc, e.msg, says);
}

// ---- templates ----

static void template_record(struct buf *b, uint64_t id)
{
    byte(b, RDB_OP_HASH_TEMPLATE);
    length(b, id);
    length(b, 2);
    str(b, "age");
    str(b, "name");
}

static void hashes_take_their_fields_from_the_templates_of_the_file(void **state)
{
    (void)state;
    struct buf b = {0};
    begin(&b, "REDIS0015");
    template_record(&b, 70);
    template_record(&b, 0);
    byte(&b, RDB_OP_SELECTDB);
    length(&b, 0);
    key(&b, 30, "packed");
    LISTPACK(&b, "#70", "#42", "Ann");
    key(&b, 32, "plain");
    length(&b, 0);
    byte(&b, 0xc0);
    byte(&b, 7);
    str(&b, "Bob");
    key(&b, 0, "after");
    str(&b, "x");
    end(&b);
    expect(&b, "0 packed key hash expire=-1\n"
               "0 packed hash age 42 expire=-1\n0 packed hash name Ann expire=-1\n"
               "0 plain key hash expire=-1\n"
               "0 plain hash age 7 expire=-1\n0 plain hash name Bob expire=-1\n"
               "0 after key string expire=-1\n0 after string x\n");
    buf_free(&b);
}

static void payloads_bring_their_fields(void **state)
{
    (void)state;
    struct buf b = {0};
    begin(&b, "REDIS0015");
    key(&b, 29, "lp-lp");
    length(&b, 0);
    LISTPACK(&b, "age", "name");
    LISTPACK(&b, "#0", "#42", "Ann");
    key(&b, 29, "list-lp");
    length(&b, 1);
    length(&b, 2);
    str(&b, "age");
    str(&b, "name");
    LISTPACK(&b, "#9", "#43", "Bob");
    key(&b, 31, "lp-list");
    length(&b, 0);
    LISTPACK(&b, "age", "name");
    str(&b, "44");
    str(&b, "Cy");
    end(&b);
    expect(&b, "0 lp-lp key hash expire=-1\n"
               "0 lp-lp hash age 42 expire=-1\n0 lp-lp hash name Ann expire=-1\n"
               "0 list-lp key hash expire=-1\n"
               "0 list-lp hash age 43 expire=-1\n0 list-lp hash name Bob expire=-1\n"
               "0 lp-list key hash expire=-1\n"
               "0 lp-list hash age 44 expire=-1\n0 lp-list hash name Cy expire=-1\n");
    buf_free(&b);
}

static void broken_templates_are_refused(void **state)
{
    (void)state;
    struct buf b = {0};
    begin(&b, "REDIS0015");
    key(&b, 32, "k");
    length(&b, 5);
    str(&b, "v");
    expect_failure(&b, ERR_CORRUPT, "key 'k': a hash names template 5");
    begin(&b, "REDIS0015");
    template_record(&b, 0);
    key(&b, 30, "k");
    LISTPACK(&b, "#0", "one");
    expect_failure(&b, ERR_CORRUPT, "not as many values");
    begin(&b, "REDIS0015");
    template_record(&b, 0);
    key(&b, 30, "k");
    LISTPACK(&b, "#0", "one", "two", "three");
    expect_failure(&b, ERR_CORRUPT, "not as many values");
    begin(&b, "REDIS0015");
    template_record(&b, 0);
    key(&b, 30, "k");
    LISTPACK(&b, "zero", "one", "two");
    expect_failure(&b, ERR_CORRUPT, "template's ID");
    begin(&b, "REDIS0015");
    key(&b, 29, "k");
    length(&b, 2);
    expect_failure(&b, ERR_CORRUPT, "fields of a hash");
    begin(&b, "REDIS0015");
    byte(&b, RDB_OP_HASH_TEMPLATE);
    length(&b, 0);
    length(&b, 0);
    expect_failure(&b, ERR_CORRUPT, "opcode");
    // Another list under the same ID.
    begin(&b, "REDIS0015");
    template_record(&b, 0);
    byte(&b, RDB_OP_HASH_TEMPLATE);
    length(&b, 0);
    length(&b, 1);
    str(&b, "age");
    expect_failure(&b, ERR_CORRUPT, "opcode");
    buf_free(&b);
}

static void next_key(struct rdb_reader *r, struct rdb_item *item)
{
    struct err e = {0};
    do
        if (rdb_next(r, item, &e) != RDB_ITEM)
            fail_msg("%s", e.msg);
    while (item->kind != RDB_KIND_KEY);
}

static void what_refers_to_its_file_is_never_raw(void **state)
{
    (void)state;
    struct buf b = {0};
    begin(&b, "REDIS0015");
    template_record(&b, 3);
    key(&b, 30, "packed");
    LISTPACK(&b, "#3", "#42", "Ann");
    key(&b, 31, "own");
    length(&b, 0);
    LISTPACK(&b, "f");
    str(&b, "v");
    key(&b, 32, "plain");
    length(&b, 3);
    str(&b, "1");
    str(&b, "2");
    end(&b);
    struct rdb_reader *r = rdb_reader_new(true), *second = rdb_reader_new(false);
    struct rdb_item item;
    struct rdb_element el;
    struct slice raw;
    struct err e;
    rdb_feed(r, b.p, 0, b.n);
    next_key(r, &item);
    assert_int_equal(rdb_value_raw(r, UINT64_MAX, &raw, &e), RDB_TOO_BIG);
    assert_int_equal(rdb_value_element(r, 100, &el, &e), RDB_ITEM);
    assert_true(slice_eq(el.field, SLICE("age")));
    next_key(r, &item);
    assert_int_equal(rdb_value_raw(r, UINT64_MAX, &raw, &e), RDB_ITEM);
    assert_int_equal(raw.p[0], 0);
    next_key(r, &item);
    assert_int_equal(rdb_value_raw(r, UINT64_MAX, &raw, &e), RDB_TOO_BIG);
    // One that begins here has only the templates that it is given.
    rdb_reader_resume(second, item.start, 0, 15);
    rdb_feed(second, b.p, 0, b.n);
    next_key(second, &item);
    assert_int_equal(rdb_value_skip(second, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.msg, "template"));
    rdb_reader_share_templates(second, r);
    rdb_reader_free(r);
    rdb_reader_resume(second, item.start, 0, 15);
    rdb_feed(second, b.p, 0, b.n);
    next_key(second, &item);
    assert_int_equal(rdb_value_element(second, 100, &el, &e), RDB_ITEM);
    assert_int_equal(rdb_value_element(second, 100, &el, &e), RDB_ITEM);
    assert_true(slice_eq(el.field, SLICE("name")) && slice_eq(el.value, SLICE("2")));
    assert_int_equal(rdb_value_element(second, 100, &el, &e), RDB_DONE);
    assert_int_equal(rdb_next(second, &item, &e), RDB_DONE);
    assert_int_equal(rdb_reader_open_value(second, 32, 15, &e), ERR_UNSUPPORTED);
    rdb_reader_free(second);
    buf_free(&b);
}

// ---- arrays ----

static void arrays_come_with_index_and_text(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *text;
    } doubles[] = {{1, "1.0"},           {0.1, "0.1"},   {-2.5, "-2.5"},
                   {1e21, "1e+21"},      {1e-7, "1e-7"}, {1.5e300, "1.5e+300"},
                   {0.00025, "0.00025"}, {-0.0, "-0.0"}, {123456.789, "123456.789"}};
    struct buf b = {0}, want = {0};
    begin(&b, "REDIS0014");
    key(&b, 28, "a");
    length(&b, 3 + sizeof(doubles) / sizeof(*doubles));
    length(&b, 1);
    length(&b, 11);
    length(&b, 4);
    length(&b, 0);
    str(&b, "long string");
    length(&b, 5);
    length(&b, 3);
    str(&b, "short");
    length(&b, 1000000);
    length(&b, 1);
    number64(&b, (uint64_t)-77);
    buf_append_cstr(&want, "0 a key array expire=-1\n0 a array 4/12 11 #11:");
    buf_printf(&want, "%016llx\n", (unsigned long long)crc64_update(0, "long string", 11));
    buf_append_cstr(&want, "0 a array 5/12 11 short\n0 a array 1000000/12 11 -77\n");
    for (size_t i = 0; i < sizeof(doubles) / sizeof(*doubles); i++) {
        length(&b, 2000000 + i);
        length(&b, 2);
        real(&b, doubles[i].v);
        buf_printf(&want, "0 a array %zu/12 11 %s\n", 2000000 + i, doubles[i].text);
    }
    key(&b, 28, "b");
    length(&b, 1);
    length(&b, 0);
    length(&b, 0);
    length(&b, 0);
    str(&b, "x");
    buf_append_cstr(&want, "0 b key array expire=-1\n0 b array 0/1 -1 x\n");
    end(&b);
    expect(&b, buf_cstr(&want));
    begin(&b, "REDIS0014");
    key(&b, 28, "a");
    length(&b, 1);
    length(&b, 0);
    length(&b, 0);
    length(&b, 4);
    expect_failure(&b, ERR_CORRUPT, "element of an array");
    buf_free(&b);
    buf_free(&want);
}

// ---- streams ----

static void stream_head(struct buf *b, unsigned type)
{
    key(b, type, "s");
    length(b, 1);
    length(b, 16);
    raw_id(b, 5, 1);
    LISTPACK(b, "#1", "#0", "#1", "f", "#0", "#2", "#0", "#0", "v", "#4");
    static const uint64_t meta[] = {1, 5, 9, 5, 1, 0, 0, 3};
    for (int i = 0; i < 8; i++)
        length(b, meta[i]);
    length(b, 1); // group
    str(b, "g");
    length(b, 5);
    length(b, 9);
    length(b, 3);
    length(b, 2); // pending: one of a consumer, one of nobody
    raw_id(b, 5, 1);
    number64(b, 100);
    length(b, 2);
    raw_id(b, 5, 7);
    number64(b, 0);
    length(b, 3);
    length(b, 1); // consumer
    str(b, "c");
    number64(b, 90);
    number64(b, 91);
    length(b, 1);
    raw_id(b, 5, 1);
}

static void stream_producers(struct buf *b)
{
    length(b, 300);
    length(b, 50);
    length(b, 1);
    str(b, "p1");
    length(b, 2);
    str(b, "i1");
    length(b, 5);
    length(b, 1);
    byte(b, 0xc0); // the producer's ID is a number
    byte(b, 9);
    length(b, 5);
    length(b, 9);
    length(b, 4);
    length(b, 1);
}

static void streams_of_8_8_keep_producers_and_what_nobody_owns(void **state)
{
    (void)state;
    struct buf b = {0};
    begin(&b, "REDIS0014");
    stream_head(&b, 27);
    length(&b, 1);
    raw_id(&b, 5, 7);
    stream_producers(&b);
    end(&b);
    expect(&b, "0 s key stream expire=-1\n0 s entry 5-1 f v\n"
               "0 s meta 5-9 5-1 0-0 added=3 length=1\n0 s group g 5-9\n"
               "0 s consumer g c seen=90\n0 s pending g c 5-1 time=100 count=2\n"
               "0 s nacked g 5-7 time=0 count=3\n0 s idmp duration=300 max=50\n"
               "0 s idmp-totals added=4 duplicates=1\n");

    struct rdb_reader *r = rdb_reader_new(true);
    struct rdb_item item;
    struct rdb_element el;
    struct err e;
    int entries = 0;
    rdb_feed(r, b.p, 0, b.n);
    next_key(r, &item);
    while (rdb_value_element(r, 100, &el, &e) == RDB_ITEM) {
        if (el.stream_step != RDB_STREAM_IDMP_ENTRY)
            continue;
        entries++;
        assert_true(slice_eq(el.field, SLICE("p1")));
        assert_true(slice_eq(el.value, entries == 1 ? SLICE("i1") : SLICE("9")));
        assert_int_equal(el.id_ms, 5);
        assert_int_equal(el.id_seq, entries == 1 ? 1 : 9);
    }
    assert_int_equal(entries, 2);
    rdb_reader_free(r);

    // Without the list of those that nobody owns, one is left over.
    begin(&b, "REDIS0013");
    stream_head(&b, 26);
    stream_producers(&b);
    end(&b);
    expect_failure(&b, ERR_CORRUPT, "2 pending entries, its consumers have 1");
    begin(&b, "REDIS0014");
    stream_head(&b, 27);
    length(&b, 1);
    raw_id(&b, 6, 6);
    expect_failure(&b, ERR_CORRUPT, "a released pending entry 6-6");
    buf_free(&b);
}

// ---- Valkey ----

static void numbers_mean_in_valkey_what_they_mean_there(void **state)
{
    (void)state;
    struct buf b = {0};
    begin(&b, "VALKEY081");
    byte(&b, RDB_OP_SLOT_IMPORT);
    str(&b, "job");
    length(&b, 2);
    for (int i = 0; i < 4; i++)
        length(&b, (uint64_t[]){0, 10, 16383, 16383}[i]);
    key(&b, 22, "h");
    length(&b, 2);
    str(&b, "a");
    str(&b, "1");
    number64(&b, (uint64_t)-1);
    str(&b, "b");
    str(&b, "2");
    number64(&b, 4102444800123);
    byte(&b, RDB_OP_UPDATE);
    buf_append_cstr(&b, "*2\r\n$4\r\nINCR\r\n$1\r\nx\r\n");
    byte(&b, RDB_OP_SELECTDB);
    length(&b, 2);
    key(&b, 23, "paths");
    length(&b, 2);
    str(&b, "/a");
    length(&b, 2);
    str(&b, "f");
    str(&b, "1");
    str(&b, "g");
    str(&b, "2");
    str(&b, "/b");
    length(&b, 1);
    str(&b, "f");
    str(&b, "3");
    byte(&b, RDB_OP_SELECTDB);
    length(&b, 0);
    key(&b, 0, "again");
    str(&b, "x");
    end(&b);
    static const char text[] = "*2\r\n$4\r\nINCR\r\n$1\r\nx\r\n";
    struct buf want = {0};
    buf_printf(&want,
               "import job 0-10,16383-16383\n"
               "0 h key hash expire=-1\n0 h hash a 1 expire=-1\n"
               "0 h hash b 2 expire=4102444800123\n"
               "0 command #%zu:%016llx\n"
               "2 paths key path hash expire=-1\n2 paths path hash /a f 1\n"
               "2 paths path hash /a g 2\n2 paths path hash /b f 3\n"
               "0 again key string expire=-1\n0 again string x\n",
               strlen(text), (unsigned long long)crc64_update(0, text, strlen(text)));
    expect(&b, buf_cstr(&want));
    buf_free(&want);
    static const char *const bad[] = {
        "$1\r\n",           "*0\r\n", "*1\r\n:1\r\n", "*1\r\n$x\r\n", "*1\r\n$1\r\nabc\r\n",
        "*99999999999\r\n", "*1\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        begin(&b, "VALKEY081");
        byte(&b, RDB_OP_UPDATE);
        buf_append_cstr(&b, bad[i]);
        expect_failure(&b, ERR_CORRUPT, "byte 9");
    }
    begin(&b, "VALKEY080");
    byte(&b, RDB_OP_SLOT_IMPORT);
    str(&b, "job");
    length(&b, 1);
    length(&b, 3);
    length(&b, 16384);
    expect_failure(&b, ERR_CORRUPT, "opcode");
    buf_free(&b);
}

// ---- what belongs to a key ----

static void metadata_of_modules_is_counted_with_its_key_only(void **state)
{
    (void)state;
    struct buf b = {0};
    begin(&b, "REDIS0013");
    uint64_t start = b.n;
    byte(&b, RDB_OP_EXPIRE_MS);
    number64(&b, 4102444800123);
    byte(&b, RDB_OP_KEY_META);
    length(&b, 2);
    for (int i = 0; i < 2; i++) {
        buf_append(&b, "\x01\x02\x03\x04", 4);
        length(&b, RDB_MODULE_UINT);
        length(&b, 7);
        length(&b, RDB_MODULE_STRING);
        str(&b, "text");
        length(&b, RDB_MODULE_DOUBLE);
        real(&b, 1);
        length(&b, RDB_MODULE_EOF);
    }
    key(&b, 0, "k");
    str(&b, "v");
    key(&b, 0, "plain");
    str(&b, "v");
    end(&b);
    expect(&b, "0 k key string expire=4102444800123\n0 k string v\n"
               "0 plain key string expire=-1\n0 plain string v\n");
    struct rdb_reader *r = rdb_reader_new(true);
    struct rdb_item item;
    rdb_feed(r, b.p, 0, b.n);
    next_key(r, &item);
    assert_int_equal(item.key_meta, 2);
    assert_int_equal(item.start, start);
    next_key(r, &item);
    assert_int_equal(item.key_meta, 0);
    rdb_reader_free(r);
    buf_free(&b);
}

// ---- what is not known ----

static void newer_versions_are_read_as_far_as_they_are_known_if_asked_to(void **state)
{
    (void)state;
    static const char *const magics[] = {"REDIS0016", "VALKEY099"};
    for (int i = 0; i < 2; i++) {
        struct buf b = {0};
        begin(&b, magics[i]);
        key(&b, 0, "k");
        str(&b, "v");
        key(&b, 99, "unknown");
        struct rdb_reader *r = rdb_reader_new(true);
        struct rdb_item item;
        struct err e;
        rdb_reader_skip_unknown(r, true);
        rdb_feed(r, b.p, 0, b.n);
        assert_int_equal(rdb_next(r, &item, &e), RDB_ITEM);
        assert_int_equal(item.kind, RDB_KIND_SKIPPED);
        assert_int_equal(item.start, 0);
        assert_non_null(memmem(item.value.p, item.value.n, magics[i] + 7, 2));
        next_key(r, &item);
        assert_true(slice_eq(item.key, SLICE("k")));
        assert_int_equal(rdb_next(r, &item, &e), ERR_UNSUPPORTED);
        assert_non_null(strstr(e.msg, "key 'unknown': value type 99"));
        rdb_reader_free(r);
        buf_free(&b);
    }
    struct rdb_reader *r = rdb_reader_new(true);
    struct rdb_item item;
    rdb_reader_skip_unknown(r, true);
    rdb_feed(r, "REDIS0080", 0, 9); // this number is Valkey's, with its own magic
    assert_int_equal(rdb_next(r, &item, NULL), ERR_UNSUPPORTED);
    rdb_reader_free(r);
}

static void who_knows_a_type_is_told_for_writers(void **state)
{
    (void)state;
    static const struct {
        uint8_t type;
        bool valkey;
        int to;
        bool to_valkey, known;
    } cases[] = {
        {0, false, 6, false, true},    {14, false, 6, false, false},  {14, false, 7, false, true},
        {15, false, 8, false, false},  {21, false, 11, true, true},   {21, false, 80, true, true},
        {21, true, 11, false, true},   {24, false, 12, false, true},  {24, false, 80, true, false},
        {22, false, 80, true, false},  {22, true, 80, true, true},    {22, true, 11, true, false},
        {22, true, 15, false, false},  {23, true, 80, true, false},   {26, false, 12, false, false},
        {26, false, 13, false, true},  {27, false, 13, false, false}, {29, false, 15, false, true},
        {30, false, 15, false, false}, {32, false, 99, false, false}, {99, false, 15, false, false},
        {20, true, 10, false, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        if (rdb_type_known_to(cases[i].type, cases[i].valkey, cases[i].to, cases[i].to_valkey) !=
            cases[i].known)
            fail_msg("case %zu: type %u to version %d", i, cases[i].type, cases[i].to);
}

// ---- old files ----

static void the_oldest_files_are_read(void **state)
{
    (void)state;
    struct buf b = {0};
    begin(&b, "REDIS0001");
    byte(&b, RDB_OP_SELECTDB);
    length(&b, 3);
    byte(&b, RDB_OP_EXPIRE_S);
    buf_append(&b, "\x00\x94\x35\x77", 4); // 2000000000
    key(&b, 1, "list");
    length(&b, 2);
    str(&b, "a");
    str(&b, "b");
    key(&b, 3, "zset");
    length(&b, 3);
    str(&b, "m");
    str(&b, "1.25");
    str(&b, "up");
    byte(&b, 254);
    str(&b, "down");
    byte(&b, 255);
    key(&b, 9, "zipmap");
    length(&b, 14);
    buf_append(&b,
               "\x02\x01"
               "a\x01\x02"
               "1??\x01"
               "b\x01\x00"
               "2\xff",
               14);
    key(&b, 4, "hash");
    length(&b, 1);
    str(&b, "f");
    str(&b, "v");
    byte(&b, RDB_OP_EOF);
    expect(&b, "3 list key list expire=2000000000000\n3 list list 0 a\n3 list list 1 b\n"
               "3 zset key zset expire=-1\n3 zset zset m 1.25\n3 zset zset up inf\n"
               "3 zset zset down -inf\n3 zipmap key hash expire=-1\n"
               "3 zipmap hash a 1 expire=-1\n3 zipmap hash b 2 expire=-1\n"
               "3 hash key hash expire=-1\n3 hash hash f v expire=-1\n");
    buf_free(&b);
}

static void fields_that_come_twice_are_given_twice(void **state)
{
    (void)state;
    struct buf b = {0};
    begin(&b, "REDIS0012");
    key(&b, 16, "h");
    LISTPACK(&b, "f", "1", "f", "2");
    end(&b);
    expect(&b, "0 h key hash expire=-1\n0 h hash f 1 expire=-1\n0 h hash f 2 expire=-1\n");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_take_their_fields_from_the_templates_of_the_file),
        cmocka_unit_test(payloads_bring_their_fields),
        cmocka_unit_test(broken_templates_are_refused),
        cmocka_unit_test(what_refers_to_its_file_is_never_raw),
        cmocka_unit_test(arrays_come_with_index_and_text),
        cmocka_unit_test(streams_of_8_8_keep_producers_and_what_nobody_owns),
        cmocka_unit_test(numbers_mean_in_valkey_what_they_mean_there),
        cmocka_unit_test(metadata_of_modules_is_counted_with_its_key_only),
        cmocka_unit_test(newer_versions_are_read_as_far_as_they_are_known_if_asked_to),
        cmocka_unit_test(who_knows_a_type_is_told_for_writers),
        cmocka_unit_test(the_oldest_files_are_read),
        cmocka_unit_test(fields_that_come_twice_are_given_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

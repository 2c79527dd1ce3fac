// SPDX-License-Identifier: Apache-2.0
// LZF, packed encodings, and the value types that a 7.0 server cannot write.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "codec/lzf.h"
#include "codec/packed.h"
#include "rdb_lines.h"

static void put_len(struct buf *b, uint64_t n)
{
    if (n < 64) {
        buf_append_char(b, (char)n);
        return;
    }
    char head[9] = {(char)0x81};
    store_le64(head + 1, htobe64(n));
    buf_append(b, head, sizeof(head));
}

static void put_str(struct buf *b, struct slice s)
{
    put_len(b, s.n);
    buf_append_slice(b, s);
}

static void put_le64(struct buf *b, uint64_t v)
{
    char p[8];
    store_le64(p, v);
    buf_append(b, p, 8);
}

static void put_id(struct buf *b, uint64_t ms, uint64_t seq)
{
    put_le64(b, htobe64(ms));
    put_le64(b, htobe64(seq));
}

// A listpack under construction; its header is set by lp_end.
static void lp_begin(struct buf *b)
{
    buf_clear(b);
    buf_append(b, "\0\0\0\0\0\0", 6);
}

static void lp_str(struct buf *b, struct slice s)
{
    assert_true(s.n < 64);
    buf_append_char(b, (char)(0x80 | s.n));
    buf_append_slice(b, s);
    buf_append_char(b, (char)(s.n + 1));
}

static void lp_int(struct buf *b, int64_t v)
{
    buf_append_char(b, (char)0xf4);
    put_le64(b, (uint64_t)v);
    buf_append_char(b, 9);
}

static void lp_end(struct buf *b, uint16_t count)
{
    buf_append_char(b, (char)0xff);
    uint32_t n = (uint32_t)b->n;
    store_le32(b->p, n);
    store_le16(b->p + 4, count);
}

// The lines of one bare value, fed in steps; the error's text when it fails.
static int value_lines(uint8_t type, struct slice value, size_t step, struct buf *out,
                       struct err *e)
{
    struct rdb_reader *r = rdb_reader_new(false);
    struct lines l = {0};
    struct lines_feed f = {.p = value.p, .n = value.n, .step = step};
    struct rdb_element el;
    int rc = rdb_reader_open_value(r, type, 12, e);
    enum rdb_object object = type == 15 || type == 19 || type == 21  ? RDB_OBJ_STREAM
                             : type == 20                            ? RDB_OBJ_SET
                             : type == 1 || type == 10 || type == 18 ? RDB_OBJ_LIST
                             : type == 3 || type == 5                ? RDB_OBJ_ZSET
                                                                     : RDB_OBJ_HASH;
    buf_append_cstr(&l.at, "k");
    lines_feed_more(&f, r);
    while (rc >= 0) {
        rc = rdb_value_element(r, 100, &el, e);
        if (rc == RDB_ITEM)
            lines_element(&l, object, &el);
        else if (rc == RDB_DONE || rc < 0 || !lines_feed_more(&f, r))
            break;
    }
    if (l.entry_open)
        buf_append_char(&l.out, '\n');
    free(f.copy);
    rdb_reader_free(r);
    *out = l.out;
    l.out = (struct buf){0};
    lines_free(&l);
    return rc;
}

static void reads_as(uint8_t type, const struct buf *value, const char *lines)
{
    for (size_t step = 1; step <= value->n; step += value->n - 1) {
        struct buf got = {0};
        struct err e = {0};
        int rc = value_lines(type, buf_slice(value), step, &got, &e);
        if (rc != RDB_DONE)
            fail_msg("type %u in steps of %zu: %s", type, step, e.msg);
        assert_string_equal(buf_cstr(&got), lines);
        buf_free(&got);
    }
    // Cut anywhere, it waits.
    for (size_t n = 0; n < value->n; n++) {
        struct buf got = {0};
        struct err e = {0};
        assert_int_equal(value_lines(type, slice_make(value->p, n), n, &got, &e), RDB_MORE);
        buf_free(&got);
    }
    // Passing over it and copying it find the same end.
    struct rdb_reader *r = rdb_reader_new(false);
    struct err e = {0};
    struct slice raw;
    assert_int_equal(rdb_reader_open_value(r, type, 12, &e), 0);
    rdb_feed(r, value->p, 0, value->n);
    assert_int_equal(rdb_value_raw(r, UINT64_MAX, &raw, &e), RDB_ITEM);
    assert_int_equal(raw.n, value->n);
    rdb_reader_free(r);
}

static void is_refused(uint8_t type, const struct buf *value, const char *says)
{
    struct buf got = {0};
    struct err e = {0};
    int rc = value_lines(type, buf_slice(value), value->n, &got, &e);
    if (rc != ERR_CORRUPT || !strstr(e.msg, says))
        fail_msg("expected \"%s\", got %d \"%s\"", says, rc, e.msg);
    buf_free(&got);
}

static void bug_14_hashes_with_field_expiry_are_read(void **state)
{
    (void)state;
    const char *lines = "k hash plain 1 expire=-1\nk hash soon 2 expire=5000\n"
                        "k hash later 3 expire=5700\n";
    struct buf b = {0}, lp = {0};
    // 24: lowest expiry, then each relative to it plus one
    put_le64(&b, 5000);
    put_len(&b, 3);
    put_len(&b, 0), put_str(&b, SLICE("plain")), put_str(&b, SLICE("1"));
    put_len(&b, 1), put_str(&b, SLICE("soon")), put_str(&b, SLICE("2"));
    put_len(&b, 701), put_str(&b, SLICE("later")), put_str(&b, SLICE("3"));
    reads_as(24, &b, lines);
    // 22: absolute
    buf_clear(&b);
    put_len(&b, 3);
    put_len(&b, 0), put_str(&b, SLICE("plain")), put_str(&b, SLICE("1"));
    put_len(&b, 5000), put_str(&b, SLICE("soon")), put_str(&b, SLICE("2"));
    put_len(&b, 5700), put_str(&b, SLICE("later")), put_str(&b, SLICE("3"));
    reads_as(22, &b, lines);
    // 25: lowest expiry and a listpack of triplets; 23: the listpack alone
    lp_begin(&lp);
    lp_str(&lp, SLICE("plain")), lp_int(&lp, 1), lp_int(&lp, 0);
    lp_str(&lp, SLICE("soon")), lp_int(&lp, 2), lp_int(&lp, 5000);
    lp_str(&lp, SLICE("later")), lp_str(&lp, SLICE("3")), lp_int(&lp, 5700);
    lp_end(&lp, 9);
    buf_clear(&b);
    put_le64(&b, 5000);
    put_str(&b, buf_slice(&lp));
    reads_as(25, &b, lines);
    buf_clear(&b);
    put_str(&b, buf_slice(&lp));
    reads_as(23, &b, lines);
    buf_free(&b);
    buf_free(&lp);
}

static void field_expiries_that_are_no_time_are_refused(void **state)
{
    (void)state;
    struct buf b = {0}, lp = {0};
    put_le64(&b, 5000);
    put_len(&b, 1);
    put_len(&b, UINT64_MAX), put_str(&b, SLICE("f")), put_str(&b, SLICE("v"));
    is_refused(24, &b, "expiry of a field");
    buf_clear(&b);
    put_le64(&b, INT64_MAX);
    put_len(&b, 1);
    put_len(&b, 5), put_str(&b, SLICE("f")), put_str(&b, SLICE("v"));
    is_refused(24, &b, "expiry of a field");
    lp_begin(&lp);
    lp_str(&lp, SLICE("f")), lp_int(&lp, 1), lp_str(&lp, SLICE("x"));
    lp_end(&lp, 3);
    buf_clear(&b);
    put_str(&b, buf_slice(&lp));
    is_refused(23, &b, "expiry of a field");
    // Two fields of a triplet
    lp_begin(&lp);
    lp_str(&lp, SLICE("f")), lp_int(&lp, 1);
    lp_end(&lp, 2);
    buf_clear(&b);
    put_str(&b, buf_slice(&lp));
    is_refused(23, &b, "listpack is broken");
    buf_free(&b);
    buf_free(&lp);
}

static void bug_49_a_listpack_count_of_65535_means_unknown(void **state)
{
    (void)state;
    const int entries = 70000;
    struct buf lp = {0}, b = {0};
    lp_begin(&lp);
    for (int i = 0; i < entries; i++)
        lp_int(&lp, i);
    lp_end(&lp, 0xffff);
    put_str(&b, buf_slice(&lp));
    struct rdb_reader *r = rdb_reader_new(false);
    struct rdb_element el;
    struct err e = {0};
    int seen = 0, rc;
    assert_int_equal(rdb_reader_open_value(r, 20, 11, &e), 0);
    rdb_feed(r, b.p, 0, b.n);
    while ((rc = rdb_value_element(r, 100, &el, &e)) == RDB_ITEM)
        seen++;
    assert_int_equal(rc, RDB_DONE);
    assert_int_equal(seen, entries);
    rdb_reader_free(r);
    // A known count has to be right.
    lp_begin(&lp);
    lp_int(&lp, 1), lp_int(&lp, 2);
    lp_end(&lp, 3);
    buf_clear(&b);
    put_str(&b, buf_slice(&lp));
    is_refused(20, &b, "listpack is broken");
    buf_free(&lp);
    buf_free(&b);
}

// A node: header, the master fields "a" and "b", then what the caller adds.
static void node_begin(struct buf *lp, int live, int deleted)
{
    lp_begin(lp);
    lp_int(lp, live), lp_int(lp, deleted), lp_int(lp, 2);
    lp_str(lp, SLICE("a")), lp_str(lp, SLICE("b")), lp_int(lp, 0);
}

static void same(struct buf *lp, int flags, int64_t ms, int64_t seq, const char *a, const char *b)
{
    lp_int(lp, flags | 2), lp_int(lp, ms), lp_int(lp, seq);
    lp_str(lp, slice_cstr(a)), lp_str(lp, slice_cstr(b)), lp_int(lp, 5);
}

static void own(struct buf *lp, int flags, int64_t ms, int64_t seq, const char *field,
                const char *value)
{
    lp_int(lp, flags), lp_int(lp, ms), lp_int(lp, seq), lp_int(lp, 1);
    lp_str(lp, slice_cstr(field)), lp_str(lp, slice_cstr(value)), lp_int(lp, 6);
}

// A stream of version 3 with this node alone, and the given number of entries.
static void stream_of(struct buf *b, const struct buf *lp, uint64_t length)
{
    buf_clear(b);
    put_len(b, 1);
    put_len(b, 16), put_id(b, 100, 10);
    put_str(b, buf_slice(lp));
    put_len(b, length), put_len(b, 200), put_len(b, 0);
    put_len(b, 100), put_len(b, 10), put_len(b, 150), put_len(b, 7), put_len(b, 99);
}

static void bug_30_an_entry_with_its_own_fields_leaves_the_master_fields_alone(void **state)
{
    (void)state;
    struct buf lp = {0}, b = {0};
    node_begin(&lp, 4, 1);
    same(&lp, 0, 0, 0, "1", "2");
    own(&lp, 0, 1, -10, "other", "x");
    same(&lp, 0, 1, -9, "3", "4");
    own(&lp, 1, 2, 0, "deleted", "y");
    same(&lp, 0, 3, 0, "5", "6");
    lp_end(&lp, 0xffff);
    stream_of(&b, &lp, 4);
    put_len(&b, 0);
    reads_as(21, &b,
             "k entry 100-10 a 1 b 2\nk entry 101-0 other x\nk entry 101-1 a 3 b 4\n"
             "k entry 103-10 a 5 b 6\nk meta 200-0 100-10 150-7 added=99 length=4\n");
    buf_free(&lp);
    buf_free(&b);
}

static void groups_consumers_and_pending_entries_are_read(void **state)
{
    (void)state;
    struct buf lp = {0}, b = {0};
    node_begin(&lp, 1, 0);
    same(&lp, 0, 0, 0, "1", "2");
    lp_end(&lp, 12);
    stream_of(&b, &lp, 1);
    put_len(&b, 2);
    put_str(&b, SLICE("g1")), put_len(&b, 100), put_len(&b, 10), put_len(&b, 55);
    put_len(&b, 3);
    put_id(&b, 1, 1), put_le64(&b, 1111), put_len(&b, 1);
    put_id(&b, 1, 2), put_le64(&b, 2222), put_len(&b, 70);
    put_id(&b, 3, 0), put_le64(&b, 3333), put_len(&b, 3);
    put_len(&b, 3);
    put_str(&b, SLICE("c1")), put_le64(&b, 7), put_le64(&b, 8), put_len(&b, 2);
    put_id(&b, 1, 1), put_id(&b, 3, 0);
    put_str(&b, SLICE("idle")), put_le64(&b, 9), put_le64(&b, UINT64_MAX), put_len(&b, 0);
    put_str(&b, SLICE("c2")), put_le64(&b, 10), put_le64(&b, 11), put_len(&b, 1);
    put_id(&b, 1, 2);
    put_str(&b, SLICE("g2")), put_len(&b, 0), put_len(&b, 0), put_len(&b, 0), put_len(&b, 0);
    put_len(&b, 0);
    reads_as(21, &b,
             "k entry 100-10 a 1 b 2\nk meta 200-0 100-10 150-7 added=99 length=1\n"
             "k group g1 100-10\nk consumer g1 c1 seen=7\n"
             "k pending g1 c1 1-1 time=1111 count=1\nk pending g1 c1 3-0 time=3333 count=3\n"
             "k consumer g1 idle seen=9\nk consumer g1 c2 seen=10\n"
             "k pending g1 c2 1-2 time=2222 count=70\nk group g2 0-0\n");
    buf_free(&lp);
    buf_free(&b);
}

static void broken_streams_are_refused(void **state)
{
    (void)state;
    struct buf lp = {0}, b = {0};
    // A group's entry that no consumer has
    node_begin(&lp, 1, 0);
    same(&lp, 0, 0, 0, "1", "2");
    lp_end(&lp, 12);
    stream_of(&b, &lp, 1);
    put_len(&b, 1);
    put_str(&b, SLICE("g")), put_len(&b, 0), put_len(&b, 0), put_len(&b, 0);
    put_len(&b, 1), put_id(&b, 1, 1), put_le64(&b, 1), put_len(&b, 1);
    put_len(&b, 0);
    is_refused(21, &b, "pending entries");
    // A consumer's entry that the group has not
    stream_of(&b, &lp, 1);
    put_len(&b, 1);
    put_str(&b, SLICE("g")), put_len(&b, 0), put_len(&b, 0), put_len(&b, 0);
    put_len(&b, 1), put_id(&b, 1, 1), put_le64(&b, 1), put_len(&b, 1);
    put_len(&b, 1), put_str(&b, SLICE("c")), put_le64(&b, 0), put_le64(&b, 0);
    put_len(&b, 1), put_id(&b, 2, 2);
    is_refused(21, &b, "2-2");
    // More entries than the node's header says
    node_begin(&lp, 1, 0);
    same(&lp, 0, 0, 0, "1", "2"), same(&lp, 0, 1, 0, "1", "2");
    lp_end(&lp, 18);
    stream_of(&b, &lp, 2);
    is_refused(21, &b, "as many entries");
    // A number of fields that the bytes cannot hold
    lp_begin(&lp);
    lp_int(&lp, 1), lp_int(&lp, 0), lp_int(&lp, INT64_MAX);
    lp_end(&lp, 3);
    stream_of(&b, &lp, 1);
    is_refused(21, &b, "more fields than bytes");
    // An entry's own number of fields
    node_begin(&lp, 1, 0);
    lp_int(&lp, 0), lp_int(&lp, 0), lp_int(&lp, 0), lp_int(&lp, 1 << 30);
    lp_end(&lp, 10);
    stream_of(&b, &lp, 1);
    is_refused(21, &b, "more fields than there are bytes");
    // A wrong length behind an entry
    node_begin(&lp, 1, 0);
    lp_int(&lp, 2), lp_int(&lp, 0), lp_int(&lp, 0), lp_str(&lp, SLICE("1")),
        lp_str(&lp, SLICE("2"));
    lp_int(&lp, 6);
    lp_end(&lp, 12);
    stream_of(&b, &lp, 1);
    is_refused(21, &b, "length is wrong");
    buf_free(&lp);
    buf_free(&b);
}

static void many_pending_entries_are_found_by_their_marks(void **state)
{
    (void)state;
    const uint64_t entries = 50000, consumers = 7;
    struct buf b = {0};
    put_len(&b, 0); // no nodes
    for (int i = 0; i < 8; i++)
        put_len(&b, 0);
    put_len(&b, 1);
    put_str(&b, SLICE("g")), put_len(&b, 0), put_len(&b, 0), put_len(&b, 0);
    put_len(&b, entries);
    for (uint64_t i = 0; i < entries; i++)
        put_id(&b, 1, i), put_le64(&b, i * 3), put_len(&b, i);
    put_len(&b, consumers);
    for (uint64_t c = 0; c < consumers; c++) {
        put_len(&b, 1), put_len(&b, c); // a name of one byte
        put_le64(&b, c), put_le64(&b, c);
        put_len(&b, (entries - c + consumers - 1) / consumers);
        for (uint64_t i = c; i < entries; i += consumers)
            put_id(&b, 1, i);
    }
    struct rdb_reader *r = rdb_reader_new(false);
    struct rdb_element el;
    struct err e = {0};
    uint64_t seen = 0;
    int rc;
    assert_int_equal(rdb_reader_open_value(r, 21, 12, &e), 0);
    rdb_feed(r, b.p, 0, b.n);
    while ((rc = rdb_value_element(r, 100, &el, &e)) == RDB_ITEM) {
        if (el.stream_step != RDB_STREAM_PENDING)
            continue;
        assert_int_equal(el.delivery_time_ms, el.id_seq * 3);
        assert_int_equal(el.delivery_count, el.id_seq);
        assert_int_equal(el.value.p[0], el.id_seq % consumers);
        seen++;
    }
    if (rc != RDB_DONE)
        fail_msg("%s", e.msg);
    assert_int_equal(seen, entries);
    rdb_reader_free(r);
    buf_free(&b);
}

static void scores_that_are_not_numbers_are_refused(void **state)
{
    (void)state;
    struct buf b = {0};
    put_len(&b, 1), put_str(&b, SLICE("m")), buf_append_char(&b, (char)253);
    is_refused(3, &b, "score");
    buf_clear(&b);
    put_len(&b, 1), put_str(&b, SLICE("m")), put_str(&b, SLICE("1.5x"));
    is_refused(3, &b, "score");
    buf_clear(&b);
    put_len(&b, 1), put_str(&b, SLICE("m")), put_le64(&b, 0x7ff8000000000000);
    is_refused(5, &b, "score");
    buf_free(&b);
}

static void a_quicklist_node_can_be_one_big_element(void **state)
{
    (void)state;
    struct buf b = {0}, lp = {0};
    lp_begin(&lp);
    lp_str(&lp, SLICE("b")), lp_int(&lp, -3);
    lp_end(&lp, 2);
    put_len(&b, 2);
    put_len(&b, 1), put_str(&b, SLICE("plain"));
    put_len(&b, 2), put_str(&b, buf_slice(&lp));
    reads_as(18, &b, "k list 0 plain\nk list 1 b\nk list 2 -3\n");
    buf_clear(&b);
    put_len(&b, 1), put_len(&b, 3), put_str(&b, SLICE("x"));
    is_refused(18, &b, "kind of list node");
    buf_free(&b);
    buf_free(&lp);
}

static void modules_are_walked_and_copied_but_not_taken_apart(void **state)
{
    (void)state;
    struct buf b = {0};
    struct rdb_reader *r = rdb_reader_new(false);
    struct rdb_element el;
    struct slice raw;
    struct err e = {0};
    put_len(&b, 1ull << 60);
    put_len(&b, 2), put_len(&b, 77);
    put_len(&b, 1), put_len(&b, UINT64_MAX);
    put_len(&b, 5), put_str(&b, SLICE("a string"));
    put_len(&b, 3), buf_append_cstr(&b, "fltx");
    put_len(&b, 4), put_le64(&b, 5);
    put_len(&b, 0);
    for (size_t n = 0; n <= b.n; n++) {
        assert_int_equal(rdb_reader_open_value(r, 7, 12, &e), 0);
        rdb_feed(r, b.p, 0, n);
        assert_int_equal(rdb_value_raw(r, 1000, &raw, &e), n < b.n ? RDB_MORE : RDB_ITEM);
    }
    assert_int_equal(raw.n, b.n);
    assert_int_equal(rdb_reader_open_value(r, 7, 12, &e), 0);
    rdb_feed(r, b.p, 0, b.n);
    assert_int_equal(rdb_value_element(r, 100, &el, &e), ERR_UNSUPPORTED);
    rdb_reader_free(r);
    buf_free(&b);
}

// The lead byte of each listpack and ziplist form with the value that it stands for.
struct form {
    const char *bytes; // of the entry, without what links it to its neighbours
    size_t n;
    int64_t num;
};

static void holds_one(enum packed_kind kind, struct slice blob, bool is_int, int64_t num)
{
    for (size_t n = 0; n <= blob.n; n++) {
        // An exact copy, so that reading past the end is seen by the sanitizer.
        char *copy = malloc(n + 1);
        memcpy(copy, blob.p, n);
        struct packed k;
        struct packed_entry entry;
        size_t used, sum = 0;
        enum packed_result rc = PACKED_ENTRY;
        int entries = 0;
        packed_begin(&k, kind, blob.n);
        while (rc == PACKED_ENTRY) {
            rc = packed_next(&k, copy + sum, n - sum, &entry, &used);
            sum += used;
            entries += rc == PACKED_ENTRY;
            if (rc == PACKED_ENTRY) {
                assert_int_equal(entry.is_int, is_int);
                if (is_int)
                    assert_int_equal(entry.num, num);
                else
                    assert_int_equal(entry.str.n, num);
            }
        }
        assert_int_equal(rc, n < blob.n ? PACKED_MORE : PACKED_END);
        if (n == blob.n)
            assert_int_equal(entries, 1);
        free(copy);
    }
}

#define FORM(s, v)                                                                                 \
    {                                                                                              \
        s, sizeof(s) - 1, v                                                                        \
    }

static void every_integer_form_keeps_its_sign(void **state)
{
    (void)state;
    static const struct form lp[] = {
        FORM("\x00", 0),
        FORM("\x7f", 127),
        FORM("\xc0\x01", 1),
        FORM("\xcf\xff", 4095),
        FORM("\xd0\x00", -4096),
        FORM("\xdf\xff", -1),
        FORM("\xf1\x00\x80", -32768),
        FORM("\xf2\xff\xff\x7f", 8388607),
        FORM("\xf2\x00\x00\x80", -8388608),
        FORM("\xf3\xff\xff\xff\xff", -1),
        FORM("\xf3\x00\x00\x00\x80", INT32_MIN),
        FORM("\xf4\x00\x00\x00\x00\x00\x00\x00\x80", INT64_MIN),
    };
    static const struct form zl[] = {
        FORM("\xf1", 0),
        FORM("\xfd", 12),
        FORM("\xfe\x80", -128),
        FORM("\xc0\x00\x80", -32768),
        FORM("\xf0\x00\x00\x80", -8388608),
        FORM("\xf0\xff\xff\x7f", 8388607),
        FORM("\xd0\x00\x00\x00\x80", INT32_MIN),
        FORM("\xe0\x00\x00\x00\x00\x00\x00\x00\x80", INT64_MIN),
    };
    struct buf b = {0};
    for (size_t i = 0; i < sizeof(lp) / sizeof(*lp); i++) {
        lp_begin(&b);
        buf_append(&b, lp[i].bytes, lp[i].n);
        buf_append_char(&b, (char)lp[i].n);
        lp_end(&b, 1);
        holds_one(PACKED_LISTPACK, buf_slice(&b), true, lp[i].num);
    }
    for (size_t i = 0; i < sizeof(zl) / sizeof(*zl); i++) {
        buf_clear(&b);
        buf_append(&b, "\0\0\0\0\x0a\0\0\0\x01\0\0", 11);
        buf_append(&b, zl[i].bytes, zl[i].n);
        buf_append_char(&b, (char)0xff);
        store_le32(b.p, (uint32_t)b.n);
        holds_one(PACKED_ZIPLIST, buf_slice(&b), true, zl[i].num);
    }
    buf_free(&b);
}

static void strings_of_every_length_form_are_read(void **state)
{
    (void)state;
    static const struct {
        size_t n;
        const char *head, *tail;
        size_t head_n, tail_n;
    } forms[] = {
        {0, "\x80", "\x01", 1, 1},
        {63, "\xbf", "\x40", 1, 1},
        {64, "\xe0\x40", "\x42", 2, 1},
        {126, "\xe0\x7e", "\x01\x80", 2, 2},
        {4095, "\xef\xff", "\x20\x81", 2, 2},
        {4096, "\xf0\x00\x10\x00\x00", "\x20\x85", 5, 2},
        {20000, "\xf0\x20\x4e\x00\x00", "\x01\x9c\xa5", 5, 3},
    };
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        struct buf b = {0};
        lp_begin(&b);
        buf_append(&b, forms[i].head, forms[i].head_n);
        memset(buf_reserve(&b, forms[i].n), 'x', forms[i].n);
        b.n += forms[i].n;
        buf_append(&b, forms[i].tail, forms[i].tail_n);
        lp_end(&b, 1);
        struct packed k;
        struct packed_entry entry;
        size_t used, rest;
        packed_begin(&k, PACKED_LISTPACK, b.n);
        assert_int_equal(packed_next(&k, b.p, b.n, &entry, &used), PACKED_ENTRY);
        assert_int_equal(entry.str.n, forms[i].n);
        assert_int_equal(packed_next(&k, b.p + used, b.n - used, &entry, &rest), PACKED_END);
        buf_free(&b);
    }
}

static void entries_that_reach_past_their_blob_are_bad(void **state)
{
    (void)state;
    static const struct {
        enum packed_kind kind;
        const char *bytes;
        size_t n;
    } bad[] = {
        {PACKED_LISTPACK, "\x08\0\0\0\x01\0\xff", 7},         // total
        {PACKED_LISTPACK, "\x09\0\0\0\x01\0\x85x\xff", 9},    // string too long
        {PACKED_LISTPACK, "\x09\0\0\0\x01\0\x05\x02\xff", 9}, // backward length
        {PACKED_LISTPACK, "\x08\0\0\0\xff\xff\x05\x01", 8},   // no terminator
        {PACKED_LISTPACK, "\x08\0\0\0\xff\xff\xff\xff", 8},   // terminator before the end
        {PACKED_LISTPACK, "\x09\0\0\0\x01\0\xf9\x01\xff", 9}, // no such form
        {PACKED_LISTPACK, "\x0d\0\0\0\x01\0\xf0\xff\xff\xff\xff\x05\xff", 13},
        {PACKED_ZIPLIST, "\x0c\0\0\0\x0a\0\0\0\0\0\xff", 11},           // total
        {PACKED_ZIPLIST, "\x0d\0\0\0\x0a\0\0\0\x01\0\x07\xf1\xff", 13}, // previous length
        {PACKED_ZIPLIST, "\x0d\0\0\0\x0a\0\0\0\x01\0\0\x05\xff", 13},   // string too long
        {PACKED_ZIPLIST, "\x0d\0\0\0\x0a\0\0\0\x01\0\0\xc1\xff", 13},   // no such form
        {PACKED_INTSET, "\x03\0\0\0\x01\0\0\0abc", 11},                 // width
        {PACKED_INTSET, "\x02\0\0\0\x02\0\0\0ab", 10},                  // count
        {PACKED_INTSET,
         "\x08\0\0\0\xff\xff\xff\xff"
         "12345678",
         16},
        {PACKED_ZIPMAP,
         "\x01\x01"
         "f\xff",
         4}, // a field without a value
        {PACKED_ZIPMAP,
         "\x01\x01"
         "f\x05\x00v\xff",
         7}, // value too long
        {PACKED_ZIPMAP, "\x01\xfe\xff\xff\xff\xff\xff", 7},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct packed k;
        struct packed_entry entry;
        size_t used, sum = 0;
        enum packed_result rc = PACKED_ENTRY;
        packed_begin(&k, bad[i].kind, bad[i].n);
        while (rc == PACKED_ENTRY) {
            rc = packed_next(&k, bad[i].bytes + sum, bad[i].n - sum, &entry, &used);
            sum += used;
        }
        if (rc != PACKED_BAD)
            fail_msg("case %zu: %d", i, rc);
    }
}

// Literals, short and long references, overlapping ones, and one that reaches back 8 KiB.
static void make_lzf(struct buf *z, struct buf *plain)
{
    unsigned seed = 1;
    while (plain->n < 60000) {
        seed = seed * 1103515245 + 12345;
        size_t n = (seed >> 16) % 32 + 1, back = (seed >> 8) % 8192 + 1;
        if (plain->n < 9000 || seed & 0x40000000) {
            buf_append_char(z, (char)(n - 1));
            for (size_t i = 0; i < n; i++) {
                seed = seed * 1103515245 + 12345;
                buf_append_char(z, (char)(seed >> 16));
                buf_append_char(plain, (char)(seed >> 16));
            }
            continue;
        }
        size_t len = (seed >> 12) % 262 + 3;
        if (seed & 0x20000000)
            back = n;
        unsigned code = (unsigned)(len - 2), off = (unsigned)(back - 1);
        buf_append_char(z, (char)((code < 7 ? code : 7) << 5 | off >> 8));
        if (code >= 7)
            buf_append_char(z, (char)(code - 7));
        buf_append_char(z, (char)off);
        for (size_t i = 0; i < len; i++)
            buf_append_char(plain, plain->p[plain->n - back]);
    }
}

static void lzf_streams_equal_whole_decompression_at_any_split(void **state)
{
    (void)state;
    struct buf z = {0}, plain = {0};
    make_lzf(&z, &plain);
    char *out = malloc(plain.n);
    assert_true(lzf_decompress(z.p, z.n, out, plain.n));
    assert_memory_equal(out, plain.p, plain.n);
    static const size_t steps[] = {1, 3, 40, 1000, 100000}, wants[] = {1, 100, 30000, 100000};
    for (size_t s = 0; s < 5; s++) {
        for (size_t w = 0; w < 4; w++) {
            struct lzf_stream stream = {0};
            size_t at = 0, shown = 0, got = 0;
            lzf_stream_begin(&stream, z.n, plain.n);
            while (got < plain.n) {
                size_t used, unread = lzf_stream_unread(&stream);
                assert_int_equal(
                    lzf_stream_feed(&stream, z.p + at, shown - at, unread + wants[w], &used), 0);
                at += used;
                unread = lzf_stream_unread(&stream);
                assert_true(got + unread <= plain.n);
                assert_memory_equal(lzf_stream_data(&stream), plain.p + got, unread);
                stream.head += unread;
                got += unread;
                if (unread == 0)
                    shown = z.n - shown < steps[s] ? z.n : shown + steps[s];
            }
            assert_int_equal(at, z.n);
            lzf_stream_free(&stream);
        }
    }
    free(out);
    buf_free(&z);
    buf_free(&plain);
}

static void lzf_refuses_what_does_not_fit(void **state)
{
    (void)state;
    char out[64];
    assert_true(lzf_decompress("\x02"
                               "abc",
                               4, out, 3));
    assert_false(lzf_decompress("\x02"
                                "abc",
                                4, out, 2)); // too long
    assert_false(lzf_decompress("\x02"
                                "abc",
                                4, out, 4)); // too short
    assert_false(lzf_decompress("\x02"
                                "ab",
                                3, out, 3));             // cut
    assert_false(lzf_decompress("\x20\x00", 2, out, 3)); // reaches before the start
    assert_false(lzf_decompress("\x00"
                                "a\x20\x01",
                                4, out, 4)); // the same
    assert_true(lzf_decompress("\x00"
                               "a\x20\x00",
                               4, out, 4));
    assert_false(lzf_decompress("\x00"
                                "a\xe0\x00",
                                4, out, 10)); // cut
    assert_true(lzf_plausible(4, 4) && lzf_plausible(3, 264));
    assert_false(lzf_plausible(4, 1ull << 40));
    assert_false(lzf_plausible(0, 1));
}

static void a_compressed_blob_is_walked_as_it_is_decompressed(void **state)
{
    (void)state;
    struct buf lp = {0}, z = {0}, b = {0}, plain = {0}, got = {0}, expected = {0};
    lp_begin(&lp);
    for (int i = 0; i < 60; i++) {
        char text[8];
        lp_str(&lp, slice_make(text, (size_t)snprintf(text, sizeof(text), "m%d", i)));
    }
    lp_end(&lp, 60);
    for (size_t i = 0; i < lp.n; i += 32) {
        size_t n = lp.n - i < 32 ? lp.n - i : 32;
        buf_append_char(&z, (char)(n - 1));
        buf_append(&z, lp.p + i, n);
    }
    buf_append_char(&b, (char)0xc3);
    put_len(&b, z.n);
    put_len(&b, lp.n);
    buf_append_slice(&b, buf_slice(&z));
    put_str(&plain, buf_slice(&lp));
    struct err e = {0};
    assert_int_equal(value_lines(20, buf_slice(&plain), plain.n, &expected, &e), RDB_DONE);
    reads_as(20, &b, buf_cstr(&expected));
    // Integers are no blobs.
    buf_clear(&b);
    buf_append(&b, "\xc0\x05", 2);
    is_refused(20, &b, "integer");
    buf_free(&lp);
    buf_free(&z);
    buf_free(&b);
    buf_free(&plain);
    buf_free(&got);
    buf_free(&expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bug_14_hashes_with_field_expiry_are_read),
        cmocka_unit_test(field_expiries_that_are_no_time_are_refused),
        cmocka_unit_test(bug_49_a_listpack_count_of_65535_means_unknown),
        cmocka_unit_test(bug_30_an_entry_with_its_own_fields_leaves_the_master_fields_alone),
        cmocka_unit_test(groups_consumers_and_pending_entries_are_read),
        cmocka_unit_test(broken_streams_are_refused),
        cmocka_unit_test(many_pending_entries_are_found_by_their_marks),
        cmocka_unit_test(scores_that_are_not_numbers_are_refused),
        cmocka_unit_test(a_quicklist_node_can_be_one_big_element),
        cmocka_unit_test(modules_are_walked_and_copied_but_not_taken_apart),
        cmocka_unit_test(every_integer_form_keeps_its_sign),
        cmocka_unit_test(strings_of_every_length_form_are_read),
        cmocka_unit_test(entries_that_reach_past_their_blob_are_bad),
        cmocka_unit_test(lzf_streams_equal_whole_decompression_at_any_split),
        cmocka_unit_test(lzf_refuses_what_does_not_fit),
        cmocka_unit_test(a_compressed_blob_is_walked_as_it_is_decompressed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

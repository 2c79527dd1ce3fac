// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "codec/dump.h"
#include "codec/lzf.h"
#include "rdb_lines.h"

static const char *const assets[] = {"packed",    "tables",     "no-checksum", "idle",
                                     "old",       "redis-next", "valkey-9",    "redis-2.4",
                                     "redis-2.8", "redis-3.2",  "redis-4.0",   "redis-5.0",
                                     "redis-6.2", "redis-7.2",  "redis-7.4"};
#define ASSETS (sizeof(assets) / sizeof(*assets))

static struct buf load(const char *name, const char *suffix)
{
    char path[512];
    const char *root = getenv("GUNYU_SOURCE_ROOT");
    snprintf(path, sizeof(path), "%s/tests/data/rdb/%s.%s", root ? root : ".", name, suffix);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("cannot open %s", path);
    struct buf b = {0};
    size_t n;
    while ((n = fread(buf_reserve(&b, 65536), 1, 65536, f)) > 0)
        b.n += n;
    fclose(f);
    return b;
}

static int read_lines(struct slice file, size_t step, size_t piece, struct buf *out, struct err *e)
{
    struct rdb_reader *r = rdb_reader_new(true);
    struct lines l = {0};
    struct lines_feed f = {.p = file.p, .n = file.n, .step = step};
    int rc = lines_read(&l, r, &f, piece, e);
    rdb_reader_free(r);
    *out = l.out;
    l.out = (struct buf){0};
    lines_free(&l);
    return rc;
}

static void every_encoding_decodes_to_what_the_server_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < ASSETS; i++) {
        struct buf rdb = load(assets[i], "rdb"), expected = load(assets[i], "txt"), got;
        struct err e = {0};
        int rc = read_lines(buf_slice(&rdb), rdb.n, 1 << 20, &got, &e);
        if (rc != RDB_DONE)
            fail_msg("%s: %s", assets[i], e.msg);
        lines_sort(&got);
        assert_string_equal(buf_cstr(&got), buf_cstr(&expected));
        buf_free(&rdb);
        buf_free(&expected);
        buf_free(&got);
    }
}

static void feeding_byte_by_byte_equals_feeding_whole(void **state)
{
    (void)state;
    static const size_t steps[] = {1, 7, 1000};
    for (size_t i = 0; i < ASSETS; i++) {
        struct buf rdb = load(assets[i], "rdb"), whole, split;
        struct err e = {0};
        assert_int_equal(read_lines(buf_slice(&rdb), rdb.n, 64, &whole, &e), RDB_DONE);
        for (size_t k = 0; k < sizeof(steps) / sizeof(*steps); k++) {
            int rc = read_lines(buf_slice(&rdb), steps[k], 64, &split, &e);
            if (rc != RDB_DONE)
                fail_msg("%s in steps of %zu: %s", assets[i], steps[k], e.msg);
            assert_true(slice_eq(buf_slice(&whole), buf_slice(&split)));
            buf_free(&split);
        }
        buf_free(&whole);
        buf_free(&rdb);
    }
}

static void a_file_cut_at_any_byte_asks_for_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < ASSETS; i++) {
        struct buf rdb = load(assets[i], "rdb"), got;
        // Every byte of the small ones, a prime step in the large ones.
        for (size_t n = 0; n<rdb.n; n += rdb.n> 4000 ? 23 : 1) {
            struct err e = {0};
            int rc = read_lines(slice_make(rdb.p, n), n, 100, &got, &e);
            if (rc != RDB_MORE)
                fail_msg("%s cut at %zu of %zu: %d %s", assets[i], n, rdb.n, rc, e.msg);
            buf_free(&got);
        }
        buf_free(&rdb);
    }
}

static void a_flipped_byte_never_passes_the_checksum(void **state)
{
    (void)state;
    struct buf rdb = load("idle", "rdb"), got;
    for (size_t i = 0; i < rdb.n; i++) {
        rdb.p[i] ^= 0x10;
        struct err e = {0};
        assert_int_not_equal(read_lines(buf_slice(&rdb), rdb.n, 100, &got, &e), RDB_DONE);
        rdb.p[i] ^= 0x10;
        buf_free(&got);
    }
    buf_free(&rdb);
}

// Walks all keys with one way to take the value; returns how many there were.
enum way { WAY_SKIP, WAY_IGNORE, WAY_RAW };

static size_t walk(struct slice file, size_t step, enum way way)
{
    struct rdb_reader *r = rdb_reader_new(true);
    struct lines_feed f = {.p = file.p, .n = file.n, .step = step};
    struct rdb_item item = {0};
    struct err e = {0};
    size_t keys = 0;
    bool in_value = false;
    lines_feed_more(&f, r);
    for (;;) {
        struct slice raw;
        int rc = !in_value        ? rdb_next(r, &item, &e)
                 : way == WAY_RAW ? rdb_value_raw(r, UINT64_MAX, &raw, &e)
                                  : rdb_value_skip(r, &e);
        if (rc < 0)
            fail_msg("%s", e.msg);
        if (rc == RDB_MORE) {
            assert_true(lines_feed_more(&f, r));
            continue;
        }
        if (rc == RDB_DONE && !in_value)
            break;
        if (in_value && way == WAY_RAW) {
            assert_memory_equal(raw.p, file.p + item.value_start, raw.n);
            // The value ends where the reader stands, so the next item parses.
            assert_true(rdb_needs_from(r) <= item.value_start + raw.n);
        }
        in_value = !in_value && item.kind == RDB_KIND_KEY && way != WAY_IGNORE;
        keys += !in_value && item.kind == RDB_KIND_KEY;
    }
    free(f.copy);
    rdb_reader_free(r);
    return keys;
}

static void skipping_and_raw_see_the_same_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < ASSETS; i++) {
        struct buf rdb = load(assets[i], "rdb");
        size_t keys = walk(buf_slice(&rdb), rdb.n, WAY_SKIP);
        assert_true(keys > 0);
        assert_int_equal(walk(buf_slice(&rdb), rdb.n, WAY_IGNORE), keys);
        assert_int_equal(walk(buf_slice(&rdb), rdb.n, WAY_RAW), keys);
        assert_int_equal(walk(buf_slice(&rdb), 1, WAY_SKIP), keys);
        assert_int_equal(walk(buf_slice(&rdb), 1, WAY_RAW), keys);
        buf_free(&rdb);
    }
}

static void raw_values_decode_as_the_values_in_the_file(void **state)
{
    (void)state;
    struct buf rdb = load("tables", "rdb"), payload = {0};
    struct rdb_reader *r = rdb_reader_new(true), *bare = rdb_reader_new(false);
    struct rdb_item item;
    struct err e = {0};
    int rc, values = 0;
    rdb_feed(r, rdb.p, 0, rdb.n);
    while ((rc = rdb_next(r, &item, &e)) == RDB_ITEM) {
        struct slice raw, again;
        uint8_t trailer[DUMP_TRAILER], type;
        uint16_t version;
        struct rdb_element el;
        if (item.kind != RDB_KIND_KEY)
            continue;
        assert_int_equal(rdb_value_raw(r, UINT64_MAX, &raw, &e), RDB_ITEM);
        dump_trailer(item.type, raw, 10, trailer);
        buf_clear(&payload);
        buf_append_char(&payload, (char)item.type);
        buf_append_slice(&payload, raw);
        buf_append(&payload, trailer, sizeof(trailer));
        assert_int_equal(dump_parse(buf_slice(&payload), &type, &again, &version, &e), 0);
        assert_int_equal(version, 10);
        assert_int_equal(rdb_reader_open_value(bare, type, version, &e), 0);
        rdb_feed(bare, again.p, 0, again.n);
        while ((rc = rdb_value_element(bare, 1000, &el, &e)) == RDB_ITEM)
            ;
        assert_int_equal(rc, RDB_DONE);
        assert_int_equal(rdb_needs_from(bare), again.n);
        values++;
    }
    assert_int_equal(rc, RDB_DONE);
    assert_true(values > 20);
    rdb_reader_free(r);
    rdb_reader_free(bare);
    buf_free(&rdb);
    buf_free(&payload);
}

// A file built by hand.
static void head(struct buf *b, const char *magic)
{
    buf_clear(b);
    buf_append_cstr(b, magic);
}

static void byte(struct buf *b, int v)
{
    buf_append_char(b, (char)v);
}

static void str(struct buf *b, const char *s)
{
    byte(b, (int)strlen(s));
    buf_append_cstr(b, s);
}

static void end(struct buf *b)
{
    byte(b, 255);
    char zero[8] = {0};
    buf_append(b, zero, sizeof(zero));
}

static void bug_26_a_stored_checksum_of_zero_means_none(void **state)
{
    (void)state;
    struct buf rdb = load("no-checksum", "rdb"), got;
    struct err e = {0};
    assert_int_equal(load_le64(rdb.p + rdb.n - 8), 0);
    assert_int_equal(read_lines(buf_slice(&rdb), rdb.n, 100, &got, &e), RDB_DONE);
    buf_free(&got);
    rdb.p[rdb.n - 1] = 1;
    assert_int_equal(read_lines(buf_slice(&rdb), rdb.n, 100, &got, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.msg, "checksum"));
    buf_free(&got);
    buf_free(&rdb);
}

static void bug_19_the_expiry_belongs_to_the_key_and_is_known_before_its_first_element(void **state)
{
    (void)state;
    struct buf b = {0};
    head(&b, "REDIS0009");
    byte(&b, 252);
    uint8_t when[8];
    store_le64(when, 4102444800123);
    buf_append(&b, when, 8);
    byte(&b, 4);
    str(&b, "hash");
    byte(&b, 3);
    for (int i = 0; i < 3; i++) {
        str(&b, "field");
        str(&b, "value");
    }
    byte(&b, 0);
    str(&b, "next");
    str(&b, "no expiry");
    end(&b);
    struct rdb_reader *r = rdb_reader_new(true);
    struct rdb_item item;
    struct rdb_element el;
    struct err e;
    rdb_feed(r, b.p, 0, b.n);
    assert_int_equal(rdb_next(r, &item, &e), RDB_ITEM);
    assert_int_equal(item.expire_ms, 4102444800123);
    assert_int_equal(item.start, 9);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rdb_value_element(r, 1, &el, &e), RDB_ITEM);
        assert_int_equal(item.expire_ms, 4102444800123);
        assert_int_equal(el.expire_ms, -1); // a field's own expiry, which it has not
    }
    assert_int_equal(rdb_value_element(r, 1, &el, &e), RDB_DONE);
    assert_int_equal(rdb_next(r, &item, &e), RDB_ITEM);
    assert_int_equal(item.expire_ms, -1);
    rdb_reader_free(r);
    buf_free(&b);
}

static void opcodes_of_every_kind_are_read(void **state)
{
    (void)state;
    struct buf b = {0};
    head(&b, "REDIS0012");
    byte(&b, 250);
    str(&b, "redis-ver");
    str(&b, "7.4.0");
    byte(&b, 250);
    str(&b, "redis-bits");
    byte(&b, 0xc0);
    byte(&b, 64);
    byte(&b,
         247); // module aux: id of nine letters, when, then a string, a double, a float, the end
    uint8_t id[9] = {0x81};
    for (int i = 1; i < 9; i++)
        id[i] = 0;
    buf_append(&b, id, 9);
    buf_append(&b,
               "\x02\x01\x05\x03zzz\x04"
               "12345678\x03"
               "1234\x00",
               22);
    byte(&b, 245);
    str(&b, "#!lua name=x\ncode");
    byte(&b, 246);
    str(&b, "lib");
    str(&b, "LUA");
    byte(&b, 1);
    str(&b, "what it is for");
    str(&b, "return 1");
    byte(&b, 254);
    byte(&b, 5);
    byte(&b, 251);
    byte(&b, 10);
    byte(&b, 4);
    byte(&b, 244);
    buf_append(&b, "\x01\x02\x03", 3);
    byte(&b, 253);
    buf_append(&b, "\x00\x94\x35\x77", 4); // 2,000,000,000 s
    byte(&b, 248);
    byte(&b, 33);
    byte(&b, 249);
    byte(&b, 200);
    byte(&b, 0);
    str(&b, "key");
    str(&b, "value");
    end(&b);

    struct rdb_reader *r = rdb_reader_new(true);
    struct lines_feed f = {.p = b.p, .n = b.n, .step = 1};
    struct rdb_item item;
    struct err e = {0};
    int rc, seen = 0;
    uint64_t key_start = 0;
    while ((rc = rdb_next(r, &item, &e)) != RDB_DONE) {
        if (rc == RDB_MORE) {
            assert_true(lines_feed_more(&f, r));
            continue;
        }
        if (rc != RDB_ITEM)
            fail_msg("%s", e.msg);
        switch (seen++) {
        case 0:
            assert_int_equal(item.kind, RDB_KIND_AUX);
            assert_true(slice_eq(item.key, SLICE("redis-ver")));
            assert_true(slice_eq(item.value, SLICE("7.4.0")));
            break;
        case 1:
            assert_true(slice_eq(item.key, SLICE("redis-bits")));
            assert_true(slice_eq(item.value, SLICE("64")));
            break;
        case 2:
            assert_int_equal(item.kind, RDB_KIND_MODULE_AUX);
            assert_string_equal(item.module_name, "AAAAAAAAA");
            break;
        case 3:
            assert_int_equal(item.kind, RDB_KIND_FUNCTION);
            assert_true(slice_eq(item.value, SLICE("#!lua name=x\ncode")));
            break;
        case 4:
            assert_int_equal(item.kind, RDB_KIND_FUNCTION);
            assert_true(slice_eq(item.value, SLICE("#!lua name=lib\nreturn 1")));
            break;
        case 5:
            assert_int_equal(item.kind, RDB_KIND_SELECTDB);
            assert_int_equal(item.db, 5);
            break;
        case 6:
            assert_int_equal(item.kind, RDB_KIND_RESIZEDB);
            assert_int_equal(item.db_size, 10);
            assert_int_equal(item.expires_size, 4);
            break;
        default:
            assert_int_equal(item.kind, RDB_KIND_KEY);
            assert_int_equal(item.db, 5);
            assert_int_equal(item.expire_ms, 2000000000000);
            assert_int_equal(item.idle_s, 33);
            assert_int_equal(item.freq, 200);
            key_start = item.start;
        }
    }
    assert_int_equal(seen, 8);
    assert_int_equal((uint8_t)b.p[key_start], 253);
    // From the item's start with its db a new reader goes on.
    struct rdb_reader *second = rdb_reader_new(true);
    struct slice value;
    rdb_reader_resume(second, key_start, 5, 12);
    rdb_feed(second, b.p + key_start, key_start, b.n - key_start);
    assert_int_equal(rdb_next(second, &item, &e), RDB_ITEM);
    assert_int_equal(item.expire_ms, 2000000000000);
    assert_int_equal(rdb_value_string(second, 100, &value, &e), RDB_ITEM);
    assert_true(slice_eq(value, SLICE("value")));
    assert_int_equal(rdb_next(second, &item, &e), RDB_DONE);
    rdb_reader_free(second);
    rdb_reader_free(r);
    free(f.copy);
    buf_free(&b);
}

static void old_versions_end_without_a_checksum(void **state)
{
    (void)state;
    struct buf b = {0};
    head(&b, "REDIS0003");
    byte(&b, 0);
    str(&b, "k");
    str(&b, "v");
    byte(&b, 255);
    struct buf got;
    struct err e = {0};
    assert_int_equal(read_lines(buf_slice(&b), 1, 100, &got, &e), RDB_DONE);
    assert_string_equal(buf_cstr(&got), "0 k key string expire=-1\n0 k string v\n");
    buf_free(&got);
    buf_free(&b);
}

static void what_cannot_be_read_is_named_with_its_place(void **state)
{
    (void)state;
    struct {
        const char *magic;
        const char *rest;
        size_t n;
        int code;
        const char *says;
    } cases[] = {
        {"HELLO0009", "", 0, ERR_CORRUPT, "no RDB file"},
        {"REDIS00x9", "", 0, ERR_CORRUPT, "not a number"},
        {"REDIS0000", "", 0, ERR_UNSUPPORTED, "version 0"},
        {"REDIS0099", "", 0, ERR_UNSUPPORTED, "version 99"},
        {"REDIS0016", "", 0, ERR_UNSUPPORTED, "1 to 15 of Redis and 80 to 81 of Valkey"},
        {"REDIS0080", "", 0, ERR_UNSUPPORTED, "version 80 of Redis"},
        {"VALKEY082", "", 0, ERR_UNSUPPORTED, "version 82 of Valkey"},
        {"VALKEY011", "", 0, ERR_UNSUPPORTED, "version 11 of Valkey"},
        {"REDIS0012", "\x22\x03key\x01", 6, ERR_UNSUPPORTED,
         "RDB version 12, byte 9, db 0, key 'key': value type 34"},
        {"VALKEY080", "\x18\x03key\x01", 6, ERR_UNSUPPORTED,
         "RDB version 80, byte 9, db 0, key 'key': value type 24"},
        {"REDIS0012", "\x06\x03key\x01", 6, ERR_UNSUPPORTED, "key 'key'"},
        {"REDIS0012", "\xfe\x07\xf1", 3, ERR_UNSUPPORTED, "byte 11, db 7: opcode 241"},
        {"REDIS0012", "\x00\xbf\x00\x00\x00\x00", 6, ERR_CORRUPT, "length of a key"},
        {"REDIS0012", "\x00\x01k\x81\xff\xff\xff\xff\xff\xff\xff\xff", 12, ERR_CORRUPT,
         "length of a string"},
        {"REDIS0012", "\xfe\x81\xff\xff\xff\xff\xff\xff\xff\xff", 10, ERR_CORRUPT,
         "number of a db"},
        // 1 TiB out of 4 bytes
        {"REDIS0012", "\x00\x01k\xc3\x04\x81\x00\x00\x01\x00\x00\x00\x00\x00zzzz", 18, ERR_CORRUPT,
         "length of a string"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct buf b = {0}, got;
        struct err e = {0};
        head(&b, cases[i].magic);
        buf_append(&b, cases[i].rest, cases[i].n);
        int rc = read_lines(buf_slice(&b), b.n, 100, &got, &e);
        if (rc != cases[i].code || !strstr(e.msg, cases[i].says))
            fail_msg("case %zu: %d %s", i, rc, e.msg);
        buf_free(&got);
        buf_free(&b);
    }
}

static void a_failed_reader_stays_failed(void **state)
{
    (void)state;
    struct rdb_reader *r = rdb_reader_new(true);
    struct rdb_item item;
    struct err e = {0}, again = {0};
    rdb_feed(r, "HELLO0009", 0, 9);
    assert_int_equal(rdb_next(r, &item, &e), ERR_CORRUPT);
    assert_int_equal(rdb_next(r, &item, &again), ERR_CORRUPT);
    assert_string_equal(e.msg, again.msg);
    rdb_reader_free(r);
}

// "REDIS0012", a string key of `total` bytes that compress well, EOF, checksum.
static void big_compressed(struct buf *b, size_t total)
{
    head(b, "REDIS0012");
    byte(b, 0);
    str(b, "big");
    struct buf z = {0};
    byte(&z, 0);
    byte(&z, 'a');
    size_t n = 1;
    while (n < total) {
        // References of at most 264 bytes, one byte back.
        size_t len = total - n < 264 ? total - n : 264;
        if (len < 9) {
            byte(&z, (int)len - 1);
            for (size_t i = 0; i < len; i++)
                byte(&z, 'a');
        } else {
            byte(&z, 7 << 5);
            byte(&z, (int)len - 9);
            byte(&z, 0);
        }
        n += len;
    }
    uint8_t len[5] = {0x80};
    byte(b, 0xc3);
    store_be32(len + 1, (uint32_t)z.n);
    buf_append(b, len, 5);
    store_be32(len + 1, (uint32_t)total);
    buf_append(b, len, 5);
    buf_append_slice(b, buf_slice(&z));
    byte(b, 255);
    uint8_t crc[8];
    store_le64(crc, crc64_update(0, b->p, b->n));
    buf_append(b, crc, 8);
    buf_free(&z);
}

static void a_big_compressed_string_comes_in_pieces_through_a_small_window(void **state)
{
    (void)state;
    const size_t total = 40 << 20, piece = 1 << 20, window = 4096;
    struct buf b = {0};
    big_compressed(&b, total);
    struct rdb_reader *r = rdb_reader_new(true);
    struct rdb_item item = {0};
    struct rdb_element el;
    struct err e = {0};
    size_t got = 0, pieces = 0;
    bool in_value = false;
    rdb_feed(r, b.p, 0, window);
    for (;;) {
        int rc = in_value ? rdb_value_element(r, piece, &el, &e) : rdb_next(r, &item, &e);
        if (rc == RDB_MORE) {
            uint64_t from = rdb_needs_from(r);
            assert_true(from < b.n);
            rdb_feed(r, b.p + from, from, b.n - from < window ? b.n - from : window);
            continue;
        }
        if (rc < 0)
            fail_msg("%s", e.msg);
        if (rc == RDB_DONE && !in_value)
            break;
        if (in_value && rc == RDB_ITEM) {
            assert_int_equal(el.at, got);
            assert_int_equal(el.total, total);
            assert_true(el.value.n == piece || got + el.value.n == total);
            assert_int_equal(el.value.p[0], 'a');
            assert_int_equal(el.value.p[el.value.n - 1], 'a');
            got += el.value.n;
            pieces++;
        }
        in_value = rc == RDB_ITEM;
    }
    assert_int_equal(got, total);
    assert_int_equal(pieces, 40);
    rdb_reader_free(r);
    buf_free(&b);
}

static void a_value_beyond_the_limit_can_still_be_taken_in_elements(void **state)
{
    (void)state;
    struct buf b = {0}, got = {0};
    head(&b, "REDIS0012");
    byte(&b, 1);
    str(&b, "list");
    byte(&b, 60);
    for (int i = 0; i < 60; i++)
        str(&b, "an element");
    byte(&b, 0);
    str(&b, "after");
    str(&b, "x");
    end(&b);
    const uint64_t size = 1 + 60 * 11;
    for (uint64_t limit = 0; limit < size + 2; limit++) {
        struct rdb_reader *r = rdb_reader_new(true);
        struct rdb_item item;
        struct rdb_element el;
        struct slice raw, value;
        struct err e = {0};
        rdb_feed(r, b.p, 0, b.n);
        assert_int_equal(rdb_next(r, &item, &e), RDB_ITEM);
        int rc = rdb_value_raw(r, limit, &raw, &e);
        assert_int_equal(rc, limit < size ? RDB_TOO_BIG : RDB_ITEM);
        if (rc == RDB_TOO_BIG) {
            int n = 0;
            while ((rc = rdb_value_element(r, 100, &el, &e)) == RDB_ITEM)
                n += slice_eq(el.value, SLICE("an element"));
            assert_int_equal(rc, RDB_DONE);
            assert_int_equal(n, 60);
        } else {
            assert_int_equal(raw.n, size);
        }
        assert_int_equal(rdb_next(r, &item, &e), RDB_ITEM);
        assert_true(slice_eq(item.key, SLICE("after")));
        assert_int_equal(rdb_value_string(r, 0, &value, &e), RDB_TOO_BIG);
        assert_int_equal(rdb_value_string(r, 1, &value, &e), RDB_ITEM);
        assert_int_equal(rdb_next(r, &item, &e), RDB_DONE);
        rdb_reader_free(r);
    }
    // Known to be too big from its header alone, with no byte of it there.
    struct rdb_reader *r = rdb_reader_new(true);
    struct rdb_item item;
    struct slice raw;
    struct err e = {0};
    head(&b, "REDIS0012");
    byte(&b, 0);
    str(&b, "k");
    buf_append(&b, "\x80\x7f\xff\xff\xff", 5);
    rdb_feed(r, b.p, 0, b.n);
    assert_int_equal(rdb_next(r, &item, &e), RDB_ITEM);
    assert_int_equal(rdb_value_raw(r, 1 << 20, &raw, &e), RDB_TOO_BIG);
    rdb_reader_free(r);
    buf_free(&b);
    buf_free(&got);
}

static void a_value_left_half_read_is_skipped(void **state)
{
    (void)state;
    for (size_t i = 0; i < ASSETS; i++) {
        struct buf rdb = load(assets[i], "rdb");
        size_t keys = walk(buf_slice(&rdb), rdb.n, WAY_SKIP);
        for (int take = 1; take < 40; take += 3) {
            struct rdb_reader *r = rdb_reader_new(true);
            struct rdb_item item;
            struct rdb_element el;
            struct err e = {0};
            size_t seen = 0;
            int rc;
            rdb_feed(r, rdb.p, 0, rdb.n);
            while ((rc = rdb_next(r, &item, &e)) == RDB_ITEM) {
                seen += item.kind == RDB_KIND_KEY;
                for (int k = 0; k < take && item.kind == RDB_KIND_KEY; k++)
                    assert_true(rdb_value_element(r, 16, &el, &e) >= 0);
            }
            assert_int_equal(rc, RDB_DONE);
            assert_int_equal(seen, keys);
            rdb_reader_free(r);
        }
        buf_free(&rdb);
    }
}

static void crc64_matches_the_known_value(void **state)
{
    (void)state;
    assert_true(crc64_update(0, "123456789", 9) == 0xe9c6d914c4b8d9ca);
    uint64_t crc = 0;
    for (int i = 0; i < 9; i++)
        crc = crc64_update(crc, &"123456789"[i], 1);
    assert_true(crc == 0xe9c6d914c4b8d9ca);
}

static void dump_payloads_are_checked(void **state)
{
    (void)state;
    // What redis-server 7.0 answers to DUMP of a key that holds "x".
    char known[] = "\x00\x01x\x0a\x00\0\0\0\0\0\0\0\0";
    uint8_t trailer[DUMP_TRAILER], type;
    uint16_t version;
    struct slice raw;
    struct err e = {0};
    dump_trailer(0, slice_make(known + 1, 2), 10, trailer);
    memcpy(known + 3, trailer, sizeof(trailer));
    assert_int_equal(dump_parse(slice_make(known, 13), &type, &raw, &version, &e), 0);
    assert_int_equal(type, 0);
    assert_true(slice_eq(raw, SLICE("\x01x")));
    for (size_t i = 0; i < 13; i++) {
        known[i] ^= 1;
        assert_int_equal(dump_parse(slice_make(known, 13), &type, &raw, &version, &e), ERR_CORRUPT);
        known[i] ^= 1;
    }
    for (size_t n = 0; n < 13; n++)
        assert_true(dump_parse(slice_make(known, n), &type, &raw, &version, &e) < 0);
    dump_trailer(0, slice_make(known + 1, 2), 99, trailer);
    memcpy(known + 3, trailer, sizeof(trailer));
    assert_int_equal(dump_parse(slice_make(known, 13), &type, &raw, &version, &e), ERR_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_encoding_decodes_to_what_the_server_says),
        cmocka_unit_test(feeding_byte_by_byte_equals_feeding_whole),
        cmocka_unit_test(a_file_cut_at_any_byte_asks_for_more),
        cmocka_unit_test(a_flipped_byte_never_passes_the_checksum),
        cmocka_unit_test(skipping_and_raw_see_the_same_keys),
        cmocka_unit_test(raw_values_decode_as_the_values_in_the_file),
        cmocka_unit_test(bug_26_a_stored_checksum_of_zero_means_none),
        cmocka_unit_test(
            bug_19_the_expiry_belongs_to_the_key_and_is_known_before_its_first_element),
        cmocka_unit_test(opcodes_of_every_kind_are_read),
        cmocka_unit_test(old_versions_end_without_a_checksum),
        cmocka_unit_test(what_cannot_be_read_is_named_with_its_place),
        cmocka_unit_test(a_failed_reader_stays_failed),
        cmocka_unit_test(a_big_compressed_string_comes_in_pieces_through_a_small_window),
        cmocka_unit_test(a_value_beyond_the_limit_can_still_be_taken_in_elements),
        cmocka_unit_test(a_value_left_half_read_is_skipped),
        cmocka_unit_test(crc64_matches_the_known_value),
        cmocka_unit_test(dump_payloads_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

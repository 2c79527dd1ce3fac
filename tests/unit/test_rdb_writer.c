// SPDX-License-Identifier: Apache-2.0
// What filter, split, merge and convert are made of: the writer, values taken over into other
// versions, sorting of keys on disk, layouts of clusters.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/mem.h"
#include "rdb/convert_target.h"
#include "rdb/convert_value.h"
#include "rdb/merge_functions.h"
#include "rdb/merge_keys.h"
#include "rdb/merge_sort.h"
#include "rdb/split_layout.h"

#define NOW ((int64_t)1700000000000)

struct files {
    char dir[64], in[80], out[80];
};

static int files_begin(void **state)
{
    struct files *f = xcalloc(1, sizeof(*f));
    snprintf(f->dir, sizeof(f->dir), "/tmp/gunyu-writer-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    snprintf(f->in, sizeof(f->in), "%s/in.rdb", f->dir);
    snprintf(f->out, sizeof(f->out), "%s/out.rdb", f->dir);
    *state = f;
    return 0;
}

static int files_end(void **state)
{
    struct files *f = *state;
    unlink(f->in);
    unlink(f->out);
    rmdir(f->dir);
    free(f);
    return 0;
}

static struct rdb_writer *begin(const char *path, int version, struct rdb_out **out)
{
    struct err e = {0};
    assert_int_equal(0, rdb_out_open(out, path, RDB_OUT_PLAIN, &e));
    return rdb_writer_new(*out, (struct rdb_target){version, version >= 80});
}

static void finish(struct rdb_writer *w, struct rdb_out *out)
{
    struct err e = {0};
    rdb_writer_end(w);
    rdb_writer_free(w);
    assert_int_equal(0, rdb_out_commit(out, &e));
}

static struct rdb_input *open_input(const char *path)
{
    struct rdb_input *in;
    struct err e = {0};
    struct rdb_input_options o = {.check_crc = true};
    assert_int_equal(0, rdb_input_open(&in, path, &o, &e));
    rdb_reader_give_aux(rdb_input_reader(in));
    return in;
}

static struct rdb_item key_item(int db, const char *key)
{
    return (struct rdb_item){.kind = RDB_KIND_KEY,
                             .db = db,
                             .key = slice_cstr(key),
                             .expire_ms = -1,
                             .idle_s = -1,
                             .freq = -1};
}

// Takes over f->in into f->out; the result of the first key that could not be.
static int convert(const struct files *f, int version, struct transfer *t, struct err *e)
{
    struct rdb_out *out;
    struct rdb_writer *w = begin(f->out, version, &out);
    struct rdb_input *in = open_input(f->in);
    struct rdb_item item;
    int rc;
    t->target = (struct rdb_target){version, version >= 80};
    t->now_ms = NOW;
    while ((rc = rdb_input_next(in, &item, e)) == RDB_ITEM) {
        rc = item.kind == RDB_KIND_KEY ? transfer_key(t, w, in, &item, NULL, e)
                                       : transfer_other(t, &w, 1, in, &item, e);
        if (rc)
            break;
    }
    rdb_input_close(in);
    transfer_free(t);
    if (rc == RDB_DONE) {
        finish(w, out);
        return 0;
    }
    rdb_writer_free(w);
    rdb_out_discard(out);
    return rc;
}

static void a_file_reads_back_with_its_checksum(void **state)
{
    struct files *f = *state;
    for (int version = RDB_WRITE_MIN; version <= 80; version = version == 12 ? 80 : version + 1) {
        struct rdb_out *out;
        struct rdb_writer *w = begin(f->in, version, &out);
        struct rdb_item item = key_item(3, "k"), got;
        struct slice value;
        struct err e = {0};
        item.expire_ms = 12345;
        item.idle_s = 7;
        rdb_write_aux(w, SLICE("name"), SLICE("v"));
        rdb_write_key(w, &item, 0);
        rdb_write_string(w, SLICE("value"));
        finish(w, out);

        struct rdb_input *in = open_input(f->in);
        assert_int_equal(RDB_ITEM, rdb_input_next(in, &got, &e));
        if (version >= 7) {
            assert_int_equal(RDB_KIND_AUX, got.kind);
            assert_int_equal(RDB_ITEM, rdb_input_next(in, &got, &e));
        }
        assert_int_equal(RDB_KIND_SELECTDB, got.kind);
        assert_int_equal(RDB_ITEM, rdb_input_next(in, &got, &e));
        assert_int_equal(RDB_KIND_KEY, got.kind);
        assert_int_equal(3, got.db);
        assert_int_equal(12345, got.expire_ms);
        assert_int_equal(version >= 9 ? 7 : -1, got.idle_s);
        assert_int_equal(RDB_ITEM, rdb_input_string(in, 100, &value, &e));
        assert_true(slice_eq(value, SLICE("value")));
        assert_int_equal(RDB_DONE, rdb_input_next(in, &got, &e));
        assert_int_equal(version, rdb_version(rdb_input_reader(in)));
        assert_int_equal(version >= 80, rdb_is_valkey(rdb_input_reader(in)));
        rdb_input_close(in);
    }
}

static void lengths_of_every_size_read_back(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {
        0, 1, 63, 64, 16383, 16384, UINT32_MAX, (uint64_t)UINT32_MAX + 1, 1 << 20, UINT64_MAX};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        struct buf b = {0};
        rdb_put_len(&b, lengths[i]);
        assert_int_equal(lengths[i], rdb_get_len(buf_slice(&b)));
        buf_free(&b);
    }
}

static void a_value_bigger_than_every_buffer_is_copied(void **state)
{
    struct files *f = *state;
    struct rdb_out *out;
    struct rdb_writer *w = begin(f->in, 11, &out);
    struct rdb_item item = key_item(0, "big");
    size_t n = (size_t)9 << 20;
    char *p = xmalloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)(i * 7 + i / 4096);
    rdb_write_key(w, &item, 0);
    rdb_write_string(w, slice_make(p, n));
    finish(w, out);

    struct transfer t = {0};
    struct err e = {0};
    struct slice got;
    assert_int_equal(0, convert(f, 11, &t, &e));
    struct rdb_input *in = open_input(f->out);
    assert_int_equal(RDB_ITEM, rdb_input_next(in, &item, &e));
    assert_int_equal(RDB_ITEM, rdb_input_next(in, &item, &e));
    assert_int_equal(RDB_ITEM, rdb_input_string(in, n, &got, &e));
    assert_true(slice_eq(got, slice_make(p, n)));
    rdb_input_close(in);
    free(p);
}

static void read_file(const char *path, struct buf *b)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    b->n += fread(buf_reserve(b, 1 << 16), 1, 1 << 16, f);
    fclose(f);
}

enum taking { TAKE_RAW, TAKE_SPANS, TAKE_STEPS };

// The raw values of a file that arrives in pieces of `piece` bytes.
static void take_values(struct slice file, size_t piece, enum taking how, struct buf *out)
{
    struct rdb_reader *r = rdb_reader_new(true);
    struct rdb_item item;
    struct err e = {0};
    struct slice s = {0};
    size_t have = 0;
    bool in_value = false;
    char op;
    for (;;) {
        rdb_feed(r, file.p + rdb_needs_from(r), rdb_needs_from(r), have - rdb_needs_from(r));
        int rc = !in_value           ? rdb_next(r, &item, &e)
                 : how == TAKE_RAW   ? rdb_value_raw(r, UINT64_MAX, &s, &e)
                 : how == TAKE_SPANS ? rdb_value_span(r, &s, &e)
                                     : rdb_value_step(r, &op, &s, &e);
        assert_true(rc >= 0);
        if (rc == RDB_MORE) {
            assert_true(have < file.n);
            have = have + piece < file.n ? have + piece : file.n;
        } else if (!in_value && rc == RDB_DONE) {
            break;
        } else if (in_value) {
            if (rc == RDB_ITEM)
                buf_append_slice(out, s);
            in_value = rc == RDB_ITEM && how != TAKE_RAW;
        } else {
            in_value = item.kind == RDB_KIND_KEY;
        }
    }
    rdb_reader_free(r);
}

static void write_newest_stream(const struct files *f);

static void spans_and_steps_are_the_raw_value_however_it_arrives(void **state)
{
    struct files *f = *state;
    struct buf file = {0}, raw = {0}, got = {0};
    write_newest_stream(f);
    read_file(f->in, &file);
    take_values(buf_slice(&file), file.n, TAKE_RAW, &raw);
    assert_true(raw.n > 50);
    for (size_t piece = 1; piece < 40; piece++) {
        for (int how = TAKE_SPANS; how <= TAKE_STEPS; how++) {
            buf_clear(&got);
            take_values(buf_slice(&file), piece, (enum taking)how, &got);
            assert_true(slice_eq(buf_slice(&raw), buf_slice(&got)));
        }
    }
    buf_free(&file);
    buf_free(&raw);
    buf_free(&got);
}

// A hash of three fields, of which one has expired by NOW and one expires after it.
static void write_expiring_hash(const struct files *f)
{
    struct rdb_out *out;
    struct rdb_writer *w = begin(f->in, 80, &out);
    struct rdb_item item = key_item(0, "h");
    const int64_t expiries[] = {NOW - 5, NOW + 5, -1};
    rdb_write_key(w, &item, 22);
    rdb_write_len(w, 3);
    for (int i = 0; i < 3; i++) {
        struct buf b = {0};
        buf_printf(&b, "f%d", i);
        rdb_write_string(w, buf_slice(&b));
        rdb_write_string(w, SLICE("v"));
        buf_clear(&b);
        rdb_put_i64(&b, expiries[i]);
        rdb_write_bytes(w, b.p, b.n);
        buf_free(&b);
    }
    finish(w, out);
}

static void expiries_of_fields_go_from_valkey_to_redis(void **state)
{
    struct files *f = *state;
    struct transfer t = {0};
    struct err e = {0};
    struct rdb_item item;
    struct rdb_element el;
    write_expiring_hash(f);
    assert_int_equal(0, convert(f, 12, &t, &e));
    struct rdb_input *in = open_input(f->out);
    assert_int_equal(RDB_ITEM, rdb_input_next(in, &item, &e));
    assert_int_equal(RDB_ITEM, rdb_input_next(in, &item, &e));
    assert_int_equal(24, item.type);
    const int64_t expiries[] = {NOW - 5, NOW + 5, -1};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(RDB_ITEM, rdb_input_element(in, 100, &el, &e));
        assert_int_equal(expiries[i], el.expire_ms);
    }
    assert_int_equal(RDB_DONE, rdb_input_element(in, 100, &el, &e));
    rdb_input_close(in);
}

static void an_expired_field_does_not_live_again_where_fields_cannot_expire(void **state)
{
    struct files *f = *state;
    struct transfer t = {.degrade = true};
    struct err e = {0};
    struct rdb_item item;
    struct rdb_element el;
    write_expiring_hash(f);
    assert_int_equal(0, convert(f, 11, &t, &e));
    assert_int_equal(2, t.lost[LOSS_FIELD_EXPIRY]);
    struct rdb_input *in = open_input(f->out);
    assert_int_equal(RDB_ITEM, rdb_input_next(in, &item, &e));
    assert_int_equal(RDB_ITEM, rdb_input_next(in, &item, &e));
    assert_int_equal(4, item.type);
    assert_int_equal(RDB_ITEM, rdb_input_element(in, 100, &el, &e));
    assert_true(slice_eq(el.field, SLICE("f1")));
    assert_int_equal(RDB_ITEM, rdb_input_element(in, 100, &el, &e));
    assert_true(slice_eq(el.field, SLICE("f2")));
    assert_int_equal(RDB_DONE, rdb_input_element(in, 100, &el, &e));
    rdb_input_close(in);
}

static void what_cannot_be_held_fails_and_names_the_key(void **state)
{
    struct files *f = *state;
    struct transfer t = {0};
    struct err e = {0};
    write_expiring_hash(f);
    assert_int_equal(ERR_UNSUPPORTED, convert(f, 11, &t, &e));
    assert_non_null(strstr(e.msg, "key 'h'"));
    assert_non_null(strstr(e.msg, "version 11"));
    assert_int_not_equal(0, access(f->out, F_OK));
}

static void put_id(struct buf *b, uint64_t ms, uint64_t seq)
{
    char p[16];
    store_be64(p, ms);
    store_be64(p + 8, seq);
    buf_append(b, p, sizeof(p));
}

static void put_lens(struct buf *b, size_t n, const uint64_t *v)
{
    for (size_t i = 0; i < n; i++)
        rdb_put_len(b, v[i]);
}

// A stream of RDB 14 without entries: two groups, one with an ID of a consumer and one of nobody,
// and a producer.
static void write_newest_stream(const struct files *f)
{
    struct rdb_out *out;
    struct rdb_writer *w = begin(f->in, 14, &out);
    struct rdb_item item = key_item(0, "s");
    struct buf b = {0};
    put_lens(&b, 9, (uint64_t[]){0, 0, 9, 1, 0, 0, 4, 2, 9}); // nodes; length, last, first, ...
    rdb_put_len(&b, 2);
    rdb_put_string(&b, SLICE("idle"));
    put_lens(&b, 6, (uint64_t[]){9, 1, 5, 0, 0, 0});
    rdb_put_string(&b, SLICE("g"));
    put_lens(&b, 4, (uint64_t[]){9, 1, 7, 2});
    put_id(&b, 5, 0);
    rdb_put_i64(&b, NOW);
    rdb_put_len(&b, 3);
    put_id(&b, 6, 0);
    rdb_put_i64(&b, NOW);
    rdb_put_len(&b, 4);
    rdb_put_len(&b, 1);
    rdb_put_string(&b, SLICE("alice"));
    rdb_put_i64(&b, NOW);
    rdb_put_i64(&b, NOW);
    rdb_put_len(&b, 1);
    put_id(&b, 5, 0);
    rdb_put_len(&b, 1); // of nobody
    put_id(&b, 6, 0);
    put_lens(&b, 3, (uint64_t[]){100, 10, 1}); // producers
    rdb_put_string(&b, SLICE("producer"));
    rdb_put_len(&b, 1);
    rdb_put_string(&b, SLICE("message"));
    put_lens(&b, 4, (uint64_t[]){5, 0, 1, 0});
    rdb_write_key(w, &item, 27);
    rdb_write_bytes(w, b.p, b.n);
    buf_free(&b);
    finish(w, out);
}

// The steps of the stream's groups as text, from the converted file.
static void read_stream(const struct files *f, int type, struct buf *text)
{
    struct err e = {0};
    struct rdb_item item;
    struct rdb_element el;
    int rc;
    struct rdb_input *in = open_input(f->out);
    assert_int_equal(RDB_ITEM, rdb_input_next(in, &item, &e));
    assert_int_equal(RDB_ITEM, rdb_input_next(in, &item, &e));
    assert_int_equal(type, item.type);
    while ((rc = rdb_input_element(in, 100, &el, &e)) == RDB_ITEM) {
        if (el.stream_step == RDB_STREAM_GROUP)
            buf_printf(text, "[%.*s]", (int)el.value.n, el.value.p);
        else if (el.stream_step == RDB_STREAM_CONSUMER)
            buf_printf(text, " %.*s:", (int)el.value.n, el.value.p);
        else if (el.stream_step == RDB_STREAM_PENDING)
            buf_printf(text, " %d x%d", (int)el.id_ms, (int)el.delivery_count);
        else if (el.stream_step == RDB_STREAM_IDMP_ENTRY)
            buf_printf(text, "[producer %.*s]", (int)el.value.n, el.value.p);
    }
    assert_int_equal(RDB_DONE, rc);
    assert_int_equal(RDB_DONE, rdb_input_next(in, &item, &e));
    rdb_input_close(in);
}

static void pending_entries_of_nobody_get_a_consumer_in_older_versions(void **state)
{
    struct files *f = *state;
    static const struct {
        int version, type;
        const char *text;
        uint64_t producers;
    } rows[] = {
        {14, 27, NULL, 0},
        {13, 26, "[idle][g] alice: 5 x3 gunyu:nacked: 6 x4[producer message]", 0},
        {12, 21, "[idle][g] alice: 5 x3 gunyu:nacked: 6 x4", 1},
        {10, 19, "[idle][g] alice: 5 x3 gunyu:nacked: 6 x4", 1},
        {9, 15, "[idle][g] alice: 5 x3 gunyu:nacked: 6 x4", 1},
    };
    write_newest_stream(f);
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct transfer t = {.degrade = true};
        struct err e = {0};
        struct buf text = {0};
        assert_int_equal(0, convert(f, rows[i].version, &t, &e));
        read_stream(f, rows[i].type, &text);
        if (rows[i].text) {
            assert_string_equal(rows[i].text, buf_cstr(&text));
            assert_int_equal(1, t.lost[LOSS_NACK]);
        }
        assert_int_equal(rows[i].producers, t.lost[LOSS_IDMP]);
        buf_free(&text);
    }
}

static void a_spool_gives_back_what_was_put_and_patched(void **state)
{
    struct files *f = *state;
    struct spool s = {.dir = f->dir};
    struct err e = {0};
    enum { N = 3000000 };
    for (uint32_t i = 0; i < N; i++)
        spool_put(&s, &i, sizeof(i));
    const uint32_t mark = 0xdeadbeef;
    const uint32_t at[] = {0, (SPOOL_MEMORY / 4) - 1, 2 * (SPOOL_MEMORY / 4), N - 1};
    for (size_t i = 0; i < 4; i++)
        spool_patch(&s, at[i] * 4ull, &mark, sizeof(mark));
    spool_patch(&s, 2 * SPOOL_MEMORY - 2, "\xff\xff\xff\xff", 4); // half in the file
    assert_int_equal(0, spool_rewind(&s, &e));
    for (uint32_t i = 0; i < N; i++) {
        uint32_t v, want = i;
        for (size_t k = 0; k < 4; k++)
            want = at[k] == i ? mark : want;
        if (i == SPOOL_MEMORY / 2 - 1)
            want |= 0xffff0000;
        if (i == SPOOL_MEMORY / 2)
            want |= 0xffff;
        assert_int_equal(0, spool_read(&s, &v, sizeof(v), &e));
        assert_int_equal(want, v);
    }
    spool_free(&s);
}

static void a_spool_without_room_reports_it(void **state)
{
    (void)state;
    struct spool s = {.dir = "/nonexistent"};
    struct err e = {0};
    char *p = xcalloc(1, SPOOL_MEMORY);
    spool_put(&s, p, SPOOL_MEMORY);
    spool_put(&s, p, SPOOL_MEMORY);
    free(p);
    assert_true(spool_rewind(&s, &e) < 0);
    assert_non_null(strstr(e.msg, "/nonexistent"));
    spool_free(&s);
}

static void records_beyond_memory_come_back_sorted(void **state)
{
    struct files *f = *state;
    struct merge_sort *s = merge_sort_new(f->dir);
    struct sort_record r, before = {{0}};
    struct err e = {0};
    const uint64_t n = 2500000;
    uint64_t sum = 0, count = 0;
    for (uint64_t i = 0; i < n; i++) {
        r = (struct sort_record){{i * 0x9e3779b97f4a7c15u % 1000003, i, 0}};
        sum += r.word[0];
        merge_sort_add(s, &r);
    }
    assert_int_equal(0, merge_sort_begin(s, &e));
    while (merge_sort_next(s, &r, &e) == 1) {
        assert_true(before.word[0] < r.word[0] ||
                    (before.word[0] == r.word[0] && (count == 0 || before.word[1] < r.word[1])));
        sum -= r.word[0];
        count++;
        before = r;
    }
    assert_int_equal(n, count);
    assert_int_equal(0, sum);
    merge_sort_free(s);
}

static void one_of_equal_keys_is_kept(void **state)
{
    struct files *f = *state;
    static const struct {
        int db;
        const char *key;
        bool drop_first, drop_last; // of the two ways of keeping: is it dropped
    } rows[] = {{0, "a", false, true}, {0, "b", false, false}, {1, "a", false, false},
                {0, "a", true, true},  {0, "a", true, false},  {1, "c", false, false}};
    for (int keep = MERGE_FIRST; keep <= MERGE_LAST; keep++) {
        struct merge_keys *m = merge_keys_new(f->dir);
        struct err e = {0};
        int rc;
        for (size_t i = 0; i < 6; i++)
            merge_keys_add(m, rows[i].db, slice_cstr(rows[i].key));
        assert_int_equal(0, merge_keys_settle(m, (enum merge_keep)keep, &e));
        assert_int_equal(2, merge_keys_doubles(m));
        for (size_t i = 0; i < 6; i++)
            assert_int_equal(keep == MERGE_FIRST ? rows[i].drop_first : rows[i].drop_last,
                             merge_keys_drops(m, &rc, &e));
        merge_keys_free(m);
    }
}

static void libraries_of_one_name_are_taken_once(void **state)
{
    (void)state;
    const struct slice a = SLICE("#!lua name=x\nreturn 1"), b = SLICE("#!lua name=x\nreturn 2");
    struct err e = {0};
    bool keep;
    struct merge_functions f = {.differ = true, .keep_last = true};
    for (int i = 0; i < 3; i++) {
        merge_functions_next_file(&f);
        assert_int_equal(0, merge_functions_look(&f, i == 0 ? a : b, "file", &e));
    }
    merge_functions_rewind(&f);
    for (int i = 0; i < 3; i++) {
        merge_functions_next_file(&f);
        assert_int_equal(0, merge_functions_take(&f, i == 0 ? a : b, "file", &keep, &e));
        assert_int_equal(i == 1, keep);
    }
    merge_functions_free(&f);
    f = (struct merge_functions){0};
    assert_int_equal(0, merge_functions_look(&f, a, "one", &e));
    assert_int_equal(0, merge_functions_look(&f, a, "two", &e));
    assert_int_equal(ERR_CONFIG, merge_functions_look(&f, b, "three", &e));
    assert_non_null(strstr(e.msg, "'x'"));
    merge_functions_free(&f);
}

static void ranges_of_slots_make_parts(void **state)
{
    (void)state;
    struct layout l;
    struct err e = {0};
    assert_int_equal(0, layout_ranges(&l, "0-99,100+200-300", &e));
    assert_int_equal(2, l.n);
    assert_string_equal("slots-0-99", l.names[0]);
    assert_string_equal("slots-100+200-300", l.names[1]);
    assert_int_equal(0, l.part_of[99]);
    assert_int_equal(1, l.part_of[100]);
    assert_int_equal(-1, l.part_of[101]);
    assert_int_equal(1, l.part_of[300]);
    layout_free(&l);
    static const char *const wrong[] = {"",        "x",  "5-4", "0-16384", "1,1",
                                        "0-5,3-9", "1-", "-1",  "1++2",    "1,,2"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        assert_int_equal(ERR_CONFIG, layout_ranges(&l, wrong[i], &e));
        layout_free(&l);
    }
}

#define ID(c) c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c

static void a_nodes_conf_makes_a_part_for_each_master(void **state)
{
    (void)state;
    struct layout l;
    struct err e = {0};
    const struct slice text = SLICE(
        ID("a") " 10.0.0.1:6379@16379,host,,tls-port=0 myself,master - 0 0 1 connected 0-8191 "
                "9000\n" ID("b") " ::1:6380@16380 master - 0 0 2 connected 8192-8999 9001-16383 "
                                 "[77->-" ID("a") "]\n" ID("c") " 10.0.0.1:6381@16381 slave " ID(
                                     "a") " 0 0 1 connected\n" ID("d") " 10.0.0.1:6382@16382 "
                                                                       "master - 0 0 3 connected\n"
                                                                       "vars currentEpoch 3 "
                                                                       "lastVoteEpoch 0\n");
    assert_int_equal(0, layout_nodes(&l, text, "nodes.conf", &e));
    assert_int_equal(2, l.n);
    assert_string_equal("10.0.0.1-6379", l.names[0]);
    assert_string_equal("--1-6380", l.names[1]);
    assert_int_equal(0, l.part_of[9000]);
    assert_int_equal(1, l.part_of[9001]);
    layout_free(&l);
}

static void a_slot_without_a_master_is_refused(void **state)
{
    (void)state;
    struct layout l;
    struct err e = {0};
    const struct slice text = SLICE(ID("a") " h:1@2 master - 0 0 1 connected 0-4 6-16383\n");
    assert_int_equal(ERR_CORRUPT, layout_nodes(&l, text, "nodes.conf", &e));
    assert_non_null(strstr(e.msg, "the first is 5"));
    layout_free(&l);
}

static void servers_have_their_rdb_versions(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int version;
    } rows[] = {{"redis-2.8", 6},   {"redis-3.0", 6},  {"redis-3.2", 7},  {"redis-4.0", 8},
                {"redis-5.0", 9},   {"redis-6.x", 9},  {"6.2", 9},        {"redis-7.0", 10},
                {"redis-7", 10},    {"redis-7.2", 11}, {"redis-7.4", 12}, {"redis-8.0", 12},
                {"redis-8", 12},    {"redis-8.x", 12}, {"redis-8.4", 12}, {"redis-8.6", 13},
                {"valkey-7.2", 11}, {"valkey-7", 11},  {"valkey-8", 11},  {"valkey-8.1", 11},
                {"valkey-9", 80},   {"valkey-9.0", 80}};
    struct convert_server s;
    struct err e = {0};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        assert_int_equal(0, convert_target_server(&s, rows[i].name, &e));
        assert_int_equal(rows[i].version, s.rdb.version);
        assert_int_equal(rows[i].version >= 80, s.rdb.valkey);
    }
    static const char *const wrong[] = {"redis", "redis-", "redis-2.4", "valkey-6",
                                        "7.",    "7.0x",   "x-7",       "redis-7.0.1"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        assert_int_equal(ERR_CONFIG, convert_target_server(&s, wrong[i], &e));
}

#define FILES(fn) cmocka_unit_test_setup_teardown(fn, files_begin, files_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILES(a_file_reads_back_with_its_checksum),
        cmocka_unit_test(lengths_of_every_size_read_back),
        FILES(a_value_bigger_than_every_buffer_is_copied),
        FILES(spans_and_steps_are_the_raw_value_however_it_arrives),
        FILES(expiries_of_fields_go_from_valkey_to_redis),
        FILES(an_expired_field_does_not_live_again_where_fields_cannot_expire),
        FILES(what_cannot_be_held_fails_and_names_the_key),
        FILES(pending_entries_of_nobody_get_a_consumer_in_older_versions),
        FILES(a_spool_gives_back_what_was_put_and_patched),
        cmocka_unit_test(a_spool_without_room_reports_it),
        FILES(records_beyond_memory_come_back_sorted),
        FILES(one_of_equal_keys_is_kept),
        cmocka_unit_test(libraries_of_one_name_are_taken_once),
        cmocka_unit_test(ranges_of_slots_make_parts),
        cmocka_unit_test(a_nodes_conf_makes_a_part_for_each_master),
        cmocka_unit_test(a_slot_without_a_master_is_refused),
        cmocka_unit_test(servers_have_their_rdb_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

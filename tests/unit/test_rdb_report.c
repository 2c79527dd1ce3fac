// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/mem.h"
#include "rdb/report.h"
#include "source_tree.h"

static struct memory_model redis = {.quantum = 8}, redis16 = {.quantum = 16},
                           valkey16 = {.quantum = 16};

static int find_layouts(void **state)
{
    (void)state;
    redis.layout = redis16.layout = memory_layout_of(false, SLICE("7.2.5"));
    valkey16.layout = memory_layout_of(true, SLICE("8.1.1"));
    return 0;
}

static void a_version_has_its_layout(void **state)
{
    (void)state;
    static const struct {
        bool valkey;
        const char *version, *name;
    } rows[] = {{false, "", "redis"},           {false, "6.0.16", "redis"},
                {false, "8.0.2", "redis"},      {false, "8.2", "redis-8.2"},
                {false, "8.10.0", "redis-8.2"}, {false, "255.255.255", "redis-8.2"},
                {true, "7.2.4", "valkey-7"},    {true, "8.0.1", "valkey-7"},
                {true, "8.1.1", "valkey-8.1"},  {true, "9.1.2", "valkey-9"},
                {true, "x", "valkey-7"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        assert_string_equal(memory_layout_of(rows[i].valkey, slice_cstr(rows[i].version))->name,
                            rows[i].name);
    assert_null(memory_layout_named("other"));
    assert_ptr_equal(memory_layout_named("redis"), redis.layout);
}

// ---- memory ----

static void allocations_are_rounded_as_jemalloc_does(void **state)
{
    (void)state;
    static const struct {
        uint64_t n, with_8, with_16;
    } rows[] = {{0, 8, 8},
                {1, 8, 8},
                {8, 8, 8},
                {9, 16, 16},
                {17, 24, 32},
                {33, 40, 48},
                {64, 64, 64},
                {65, 80, 80},
                {129, 160, 160},
                {257, 320, 320},
                {513, 640, 640},
                {4097, 5120, 5120},
                {16385, 20480, 20480},
                {70000, 81920, 81920},
                {1 << 20, 1 << 20, 1 << 20}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        assert_int_equal(memory_class(&redis, rows[i].n), rows[i].with_8);
        assert_int_equal(memory_class(&redis16, rows[i].n), rows[i].with_16);
    }
    assert_true(memory_class(&redis, UINT64_MAX - 1) >= UINT64_MAX - 1);
}

static uint64_t string_memory(const struct memory_model *m, const char *key, size_t n, bool expires)
{
    struct memory_meter meter;
    struct rdb_item item = {.key = slice_cstr(key), .expire_ms = expires ? 1 : -1};
    char text[20];
    memset(text, 'x', sizeof(text));
    memory_begin(&meter, m, &item, rdb_type_find(0, false), 11);
    memory_string(&meter, 'S', n, slice_make(text, n < 20 ? n : 20), 0);
    return memory_end(&meter, n).bytes;
}

// The numbers are what servers with that allocator answered to MEMORY USAGE.
static void strings_take_what_servers_say(void **state)
{
    (void)state;
    static const struct {
        size_t n;
        uint64_t redis;
    } rows[] = {{0, 64}, {20, 80}, {44, 96}, {45, 112}, {61, 128}, {128, 208}, {70000, 81968}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        assert_int_equal(string_memory(&redis16, "abc", rows[i].n, false), rows[i].redis);
    assert_int_equal(string_memory(&valkey16, "abc", 5, false), 32);
    assert_int_equal(string_memory(&valkey16, "abc", 32, false), 64);
    assert_int_equal(string_memory(&valkey16, "tttttttt", 20, true), 64);
}

static uint64_t rax_nodes(size_t n, uint64_t first, uint64_t step)
{
    struct memory_rax r;
    memory_rax_begin(&r, &redis);
    for (size_t i = 0; i < n; i++) {
        uint8_t key[16] = {0};
        uint64_t v = first + i * step;
        for (int b = 0; b < 8; b++)
            key[b] = (uint8_t)(v >> (56 - 8 * b));
        memory_rax_add(&r, key);
    }
    memory_rax_end(&r);
    return r.nodes;
}

static void a_radix_tree_has_the_nodes_of_its_branches(void **state)
{
    (void)state;
    assert_int_equal(rax_nodes(0, 0, 1), 1);
    // One run of 16 bytes and its end.
    assert_int_equal(rax_nodes(1, 5, 1), 2);
    // Seven bytes, the branch, and for each key eight bytes and an end.
    assert_int_equal(rax_nodes(2, 5, 1), 2 + 2 * 2);
    assert_int_equal(rax_nodes(200, 5, 1), 2 + 200 * 2);
    // 512 keys: six bytes, a branch of two, and below each a branch of 256.
    assert_int_equal(rax_nodes(512, 0, 1), 2 + 2 + 512 * 2);
}

// ---- prefixes ----

static void add(struct prefix_tree *t, const char *key, uint64_t bytes)
{
    prefix_tree_add(t, slice_cstr(key), &(struct prefix_count){1, bytes, 1, 0});
}

static uint32_t find_prefix(const struct prefix_tree *t, const char *name)
{
    const struct prefix_node *nodes = prefix_tree_nodes(t);
    for (uint32_t i = 1; i < PREFIX_NODES; i++) {
        char text[2048];
        if (nodes[i].segment && prefix_tree_name(t, i, text, sizeof(text)) == strlen(name) &&
            strcmp(text, name) == 0)
            return i;
    }
    return 0;
}

static uint64_t keys_below(const struct prefix_tree *t, const char *name)
{
    uint32_t i = find_prefix(t, name);
    if (i == 0)
        fail_msg("no prefix %s", name);
    return prefix_tree_nodes(t)[i].count.keys;
}

// No node counts less than its children do, and the root counts everything.
static void check_sums(const struct prefix_tree *t, uint64_t keys)
{
    const struct prefix_node *nodes = prefix_tree_nodes(t);
    assert_int_equal(nodes[0].count.keys, keys);
    uint32_t live = 1;
    for (uint32_t i = 0; i < PREFIX_NODES; i++) {
        uint64_t sum = 0;
        uint32_t children = 0;
        if (i != 0 && !nodes[i].segment)
            continue;
        live += i != 0;
        for (uint32_t c = nodes[i].child; c; c = nodes[c].sibling, children++) {
            assert_int_equal(nodes[c].parent, i);
            sum += nodes[c].count.keys;
        }
        assert_true(sum <= nodes[i].count.keys);
        assert_int_equal(children, nodes[i].children);
    }
    assert_int_equal(live, prefix_tree_used(t));
}

static void names_are_cut_behind_their_first_kind_of_separator(void **state)
{
    (void)state;
    struct prefix_tree *t = prefix_tree_new(&(struct prefix_options){.depth = 8});
    add(t, "app:user-1:name", 10);
    add(t, "app:user-2:name", 20);
    add(t, "path/to/file.txt", 1);
    add(t, "under_score_d", 1);
    add(t, "plain7", 1);
    add(t, "plain8", 1);
    add(t, "double::colon", 1);
    add(t, "", 1);
    assert_int_equal(keys_below(t, "app:"), 2);
    assert_int_equal(keys_below(t, "app:user-1:name"), 1);
    assert_int_equal(keys_below(t, "path/to/"), 1);
    assert_int_equal(keys_below(t, "under_score_"), 1);
    assert_int_equal(keys_below(t, "plain"), 2);
    assert_int_equal(keys_below(t, "double::"), 1);
    assert_int_equal(find_prefix(t, "app:user-"), 0);
    check_sums(t, 8);
    prefix_tree_free(t);
}

static void named_separators_all_cut_and_depth_ends_it(void **state)
{
    (void)state;
    struct prefix_tree *t =
        prefix_tree_new(&(struct prefix_options){.depth = 3, .separators = ":-"});
    add(t, "a-b:c-d:e", 1);
    assert_int_equal(keys_below(t, "a-"), 1);
    assert_int_equal(keys_below(t, "a-b:"), 1);
    assert_int_equal(keys_below(t, "a-b:c-d:e"), 1);
    assert_int_equal(prefix_tree_used(t), 4);
    prefix_tree_free(t);
}

static void many_names_become_a_pattern(void **state)
{
    (void)state;
    struct prefix_tree *t = prefix_tree_new(&(struct prefix_options){.depth = 8});
    for (int i = 0; i < 50000; i++) {
        char key[64];
        snprintf(key, sizeof(key), "user:%d:cart", i);
        add(t, key, 100);
        snprintf(key, sizeof(key), "user:%d:name", i);
        add(t, key, 10);
        snprintf(key, sizeof(key), "tenant:%s:%d", i % 10 ? "big" : "small", i);
        add(t, key, 5);
        snprintf(key, sizeof(key), "counter:%d", i);
        add(t, key, 1);
    }
    assert_true(keys_below(t, "user:*:cart") > 49000);
    assert_true(keys_below(t, "user:*:name") > 49000);
    assert_true(keys_below(t, "counter:*") > 49000);
    assert_int_equal(keys_below(t, "tenant:big:"), 45000);
    assert_true(keys_below(t, "tenant:small:*") > 4900);
    check_sums(t, 200000);
    prefix_tree_free(t);
}

// A great one among many small ones keeps its name.
static void a_great_child_keeps_its_name(void **state)
{
    (void)state;
    struct prefix_tree *t = prefix_tree_new(&(struct prefix_options){.depth = 8});
    for (int i = 0; i < 5000; i++) {
        char key[64];
        snprintf(key, sizeof(key), "shop:%d:item", i);
        add(t, key, 10);
        add(t, "shop:huge:item", 100);
    }
    assert_int_equal(keys_below(t, "shop:huge:"), 5000);
    check_sums(t, 10000);
    prefix_tree_free(t);
}

static void memory_stays_bounded_whatever_the_names(void **state)
{
    (void)state;
    struct prefix_tree *t =
        prefix_tree_new(&(struct prefix_options){.depth = 16, .separators = ":"});
    srandom(7);
    for (int i = 0; i < 100000; i++) {
        char key[400];
        size_t n = (size_t)(random() % (i % 100 ? 40 : 300));
        for (size_t j = 0; j < n; j++)
            key[j] = random() % 4 ? (char)(uint8_t)random() : ':';
        prefix_tree_add(t, slice_make(key, n), &(struct prefix_count){1, n, 1, 0});
        assert_true(prefix_tree_used(t) <= PREFIX_NODES);
    }
    check_sums(t, 100000);
    prefix_tree_free(t);
}

// ---- lists, duplicates, text ----

static void the_top_list_keeps_the_greatest_in_order(void **state)
{
    (void)state;
    struct top_list l;
    top_init(&l, 10);
    for (uint64_t i = 0; i < 1000; i++) {
        struct top_key k = {.rank = i * 7919 % 1000};
        char name[32];
        int n = snprintf(name, sizeof(name), "key%llu", (unsigned long long)k.rank);
        if (top_wants(&l, k.rank))
            top_add(&l, &k, slice_make(name, (size_t)n));
    }
    top_sort(&l);
    assert_int_equal(l.n, 10);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(l.heap[i].rank, 999 - i);
    assert_string_equal(l.heap[0].name, "key999");
    top_free(&l);
}

static void no_place_in_a_list_is_no_crash(void **state)
{
    (void)state;
    struct top_list l;
    top_init(&l, 0);
    assert_false(top_wants(&l, 5));
    top_free(&l);
}

static void repeats_are_counted_and_memory_is_bounded(void **state)
{
    (void)state;
    struct duplicates *d = duplicates_new(64);
    const uint64_t distinct = 100000;
    for (uint64_t i = 0; i < distinct; i++)
        duplicates_add(d, XXH3_128bits(&i, sizeof(i)), &(struct top_key){.bytes = 100},
                       slice_cstr("once"));
    assert_int_equal(d->repeats, 0);
    uint64_t v = 5;
    for (int i = 0; i < 9; i++)
        duplicates_add(d, XXH3_128bits(&v, sizeof(v)), &(struct top_key){.bytes = 100},
                       slice_cstr("again"));
    assert_int_equal(d->repeats, 9);
    assert_int_equal(d->wasted, 900);
    // More values that repeat than there are counters: the great one stays.
    for (uint64_t i = 1000; i < 3000; i++)
        duplicates_add(d, XXH3_128bits(&i, sizeof(i)), &(struct top_key){.bytes = 100},
                       slice_cstr("twice"));
    assert_int_equal(d->repeats, 2009);
    size_t n = duplicates_sort(d);
    assert_true(n > 1 && n <= 64);
    assert_int_equal(d->groups[0].count, 10);
    assert_string_equal(d->groups[0].name, "again");
    duplicates_free(d);
}

static void histogram_buckets_are_powers_of_two(void **state)
{
    (void)state;
    assert_int_equal(report_bit(0), 0);
    assert_int_equal(report_bit(1), 1);
    assert_int_equal(report_bit(2), 2);
    assert_int_equal(report_bit(3), 2);
    assert_int_equal(report_bit(4), 3);
    assert_int_equal(report_bit(UINT64_MAX), REPORT_BITS - 1);
}

static void any_bytes_become_readable(void **state)
{
    (void)state;
    struct buf b = {0};
    report_readable(SLICE("a\n\\\xff\xc3\xa9\x00z\xe2\x80\xa8\xed\xa0\x80\xf0\x9f\x98\x80\xc0\x80"),
                    &b);
    assert_string_equal(buf_cstr(&b), "a\\n\\\\\\xff\xc3\xa9\\x00z\\xe2\\x80\\xa8\\xed\\xa0\\x80"
                                      "\xf0\x9f\x98\x80\\xc0\\x80");
    buf_free(&b);
}

// ---- whole files ----

static const struct report_options options = {
    .quantum = 8, .top = 5, .prefix = {.depth = 8}, .duplicates_min = 8};

static char *temporary(const char *bytes, size_t n)
{
    char path[] = "/tmp/gunyu-report-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
    return xstrdup(path);
}

static void plain(struct buf *b, const char *s)
{
    buf_append_char(b, (char)strlen(s));
    buf_append_cstr(b, s);
}

static void small_file(struct buf *b)
{
    buf_append_cstr(b, "REDIS0010");
    buf_append(b,
               "\xfa\x09redis-ver\x05"
               "7.0.0",
               17);
    buf_append(b,
               "\xfa\x05"
               "ctime\xc2\x00\x00\x00\x40",
               12);
    buf_append(b, "\xfe\x00", 2);
    buf_append_char(b, '\0');
    plain(b, "</script><script>alert(1)//");
    plain(b, "the same value");
    buf_append_char(b, '\0');
    plain(b, "b:\"\\\x01\xff");
    plain(b, "the same value");
    // Expires an hour after the file was made, and long before now.
    int64_t at = ((int64_t)0x40000000 + 3600) * 1000;
    buf_append_char(b, '\xfc');
    buf_append(b, &at, 8);
    buf_append_char(b, 2);
    plain(b, "a:set");
    buf_append_char(b, 2);
    plain(b, "x");
    plain(b, "y");
    buf_append(b, "\xff\0\0\0\0\0\0\0\0", 9);
}

// The report of a file as text of the format; NULL with the error.
static char *reported(const char *path, enum report_format format, size_t *n, struct err *e)
{
    struct report_options o = options;
    o.format = format;
    struct report *r = report_new(&o);
    struct selection *all = selection_new();
    char *text = NULL;
    int rc = report_add(r, path, &(struct rdb_input_options){0}, all, e);
    if (rc >= 0) {
        static void (*const render[])(const struct report *,
                                      struct rdb_out *) = {report_text, report_json, report_html};
        char *to = temporary("", 0);
        struct rdb_out *out;
        report_finish(r);
        assert_int_equal(rdb_out_open(&out, to, RDB_OUT_PLAIN, e), 0);
        render[format](r, out);
        assert_int_equal(rdb_out_commit(out, e), 0);
        FILE *f = fopen(to, "r");
        text = xcalloc(1, 1 << 20);
        *n = fread(text, 1, (1 << 20) - 1, f);
        fclose(f);
        unlink(to);
        free(to);
    }
    selection_free(all);
    report_free(r);
    return text;
}

static void names_cannot_break_out_of_the_page_or_the_json(void **state)
{
    (void)state;
    struct buf b = {0};
    struct err e = {0};
    size_t n;
    small_file(&b);
    char *path = temporary(b.p, b.n), *json = reported(path, REPORT_JSON, &n, &e);
    json_error_t je;
    json_t *j = json_loadb(json, n, 0, &je);
    if (!j)
        fail_msg("%s", je.text);
    json_t *totals = json_object_get(j, "totals"), *top = json_object_get(j, "top_memory");
    assert_int_equal(json_integer_value(json_object_get(totals, "keys")), 3);
    assert_int_equal(json_array_size(top), 3);
    bool tag = false, bytes = false;
    for (size_t i = 0; i < 3; i++) {
        const char *key = json_string_value(json_object_get(json_array_get(top, i), "key"));
        tag |= strcmp(key, "</script><script>alert(1)//") == 0;
        bytes |= strcmp(key, "b:\"\\\\\\x01\\xff") == 0;
    }
    assert_true(tag && bytes);
    json_decref(j);
    free(json);

    char *html = reported(path, REPORT_HTML, &n, &e);
    assert_null(strstr(html, "alert(1)//<"));
    assert_null(strstr(html, "</script><script>alert"));
    assert_non_null(strstr(html, "\\u003c/script\\u003e"));
    free(html);
    unlink(path);
    free(path);
    buf_free(&b);
}

static void counts_are_those_of_the_file(void **state)
{
    (void)state;
    struct buf b = {0};
    struct err e = {0};
    small_file(&b);
    char *path = temporary(b.p, b.n);
    struct report *r = report_new(&options);
    struct selection *all = selection_new();
    for (int i = 0; i < 2; i++)
        assert_int_equal(report_add(r, path, &(struct rdb_input_options){0}, all, &e), 0);
    report_finish(r);
    assert_int_equal(r->all.keys, 6);
    assert_int_equal(r->all.expiring, 2);
    assert_int_equal(r->all.elements, 2 * (1 + 1 + 2));
    // By the clock of the file, not ours.
    assert_int_equal(r->ttl[REPORT_TTL_DAY].keys, 2);
    assert_int_equal(r->ttl[REPORT_TTL_NONE].keys, 4);
    assert_int_equal(r->encodings[RDB_OBJ_SET][MEMORY_HASHTABLE].keys, 2);
    assert_int_equal(r->encodings[RDB_OBJ_STRING][MEMORY_EMBSTR].keys, 4);
    assert_int_equal(r->duplicates->compared, 6);
    assert_int_equal(r->duplicates->repeats, 3 + 1);
    assert_int_equal(r->by_elements.n, 2);
    assert_int_equal(r->by_elements.heap[0].elements, 2);
    assert_int_equal(r->slots[slot_of(SLICE("a:set"))].keys, 2);
    assert_string_equal(r->files[1].server, "Redis 7.0.0");
    assert_int_equal(r->files[1].keys, 3);
    selection_free(all);
    report_free(r);
    unlink(path);
    free(path);
    buf_free(&b);
}

static void a_file_cut_anywhere_is_an_error_with_the_offset(void **state)
{
    (void)state;
    struct buf b = {0};
    small_file(&b);
    for (size_t cut = 1; cut < b.n; cut++) {
        struct err e = {0};
        size_t n;
        char *path = temporary(b.p, cut);
        assert_null(reported(path, REPORT_JSON, &n, &e));
        if (!strstr(e.msg, path))
            fail_msg("cut at %zu: %s", cut, e.msg);
        unlink(path);
        free(path);
    }
    buf_free(&b);
}

// ---- the meter of the codec ----

struct transcript {
    struct buf text;
    uint64_t bytes;
    bool ended;
};

static void note_string(void *arg, char op, uint64_t size, struct slice head, uint64_t entries)
{
    struct transcript *t = arg;
    buf_printf(&t->text, "%c%llu/%llu:", op, (unsigned long long)size, (unsigned long long)entries);
    report_readable(head, &t->text);
    buf_append_char(&t->text, ' ');
}

static void note_number(void *arg, char op, uint64_t v)
{
    buf_printf(&((struct transcript *)arg)->text, "%c%llu ", op, (unsigned long long)v);
}

static void note_id(void *arg, char op, const uint8_t id[16])
{
    buf_printf(&((struct transcript *)arg)->text, "%c%02x%02x ", op, id[0], id[15]);
}

static void note_bytes(void *arg, struct slice piece, bool last)
{
    struct transcript *t = arg;
    assert_false(t->ended);
    t->bytes += piece.n;
    t->ended = last;
}

// Everything that is measured in a file whose bytes arrive `step` at a time.
static void transcribe(const char *file, size_t n, size_t step, struct buf *out)
{
    struct transcript t = {0};
    const struct rdb_meter meter = {&t, note_string, note_number, note_id, note_bytes};
    struct rdb_reader *r = rdb_reader_new(true);
    struct rdb_item item = {0};
    struct err e = {0};
    size_t have = 0;
    bool in_value = false;
    for (;;) {
        int rc = in_value ? rdb_value_measure(r, &meter, &e) : rdb_next(r, &item, &e);
        if (rc == RDB_MORE) {
            assert_true(have < n);
            have = n - have < step ? n : have + step;
            uint64_t from = rdb_needs_from(r);
            rdb_feed(r, file + from, from, have - from);
            continue;
        }
        if (rc < 0)
            fail_msg("%s", e.msg);
        if (in_value) {
            assert_true(t.ended);
            buf_printf(&t.text, "= %llu bytes\n", (unsigned long long)t.bytes);
            t.bytes = 0;
            t.ended = in_value = false;
        } else if (rc == RDB_DONE) {
            break;
        } else {
            in_value = item.kind == RDB_KIND_KEY;
        }
    }
    rdb_reader_free(r);
    *out = t.text;
}

static const char *const assets[] = {"old", "packed", "tables", "idle", "redis-next", "valkey-9"};
#define ASSETS (sizeof(assets) / sizeof(*assets))

// New memory.
static char *asset(size_t i, size_t *n)
{
    char below[64], path[4096];
    snprintf(below, sizeof(below), "tests/data/rdb/%s.rdb", assets[i]);
    source_path(below, path, sizeof(path));
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char *file = xmalloc(1 << 17);
    *n = fread(file, 1, 1 << 17, f);
    fclose(f);
    return file;
}

// What a flipped bit makes of a file may be an error or another value, but nothing worse; the
// sanitizers look on.
static void a_broken_file_does_no_harm(void **state)
{
    (void)state;
    srandom(5);
    int failed = 0;
    for (size_t i = 0; i < ASSETS; i++) {
        size_t n;
        char *file = asset(i, &n);
        for (int round = 0; round < 60; round++) {
            size_t at = 9 + (size_t)random() % (n - 9);
            char was = file[at];
            file[at] = (char)(uint8_t)random();
            struct err e = {0};
            size_t text_n;
            char *path = temporary(file, n), *text = reported(path, REPORT_JSON, &text_n, &e);
            failed += !text;
            assert_true(text || strstr(e.msg, path));
            free(text);
            unlink(path);
            free(path);
            file[at] = was;
        }
        free(file);
    }
    assert_true(failed > 10);
}

static void a_meter_tells_the_same_however_the_bytes_come(void **state)
{
    (void)state;
    for (size_t i = 0; i < ASSETS; i++) {
        size_t n;
        char *file = asset(i, &n);
        struct buf whole, bytewise;
        transcribe(file, n, n, &whole);
        transcribe(file, n, 1, &bytewise);
        assert_true(whole.n > 0);
        assert_string_equal(buf_cstr(&bytewise), buf_cstr(&whole));
        buf_free(&whole);
        buf_free(&bytewise);
        free(file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_version_has_its_layout),
        cmocka_unit_test(allocations_are_rounded_as_jemalloc_does),
        cmocka_unit_test(strings_take_what_servers_say),
        cmocka_unit_test(a_radix_tree_has_the_nodes_of_its_branches),
        cmocka_unit_test(names_are_cut_behind_their_first_kind_of_separator),
        cmocka_unit_test(named_separators_all_cut_and_depth_ends_it),
        cmocka_unit_test(many_names_become_a_pattern),
        cmocka_unit_test(a_great_child_keeps_its_name),
        cmocka_unit_test(memory_stays_bounded_whatever_the_names),
        cmocka_unit_test(the_top_list_keeps_the_greatest_in_order),
        cmocka_unit_test(no_place_in_a_list_is_no_crash),
        cmocka_unit_test(repeats_are_counted_and_memory_is_bounded),
        cmocka_unit_test(histogram_buckets_are_powers_of_two),
        cmocka_unit_test(any_bytes_become_readable),
        cmocka_unit_test(names_cannot_break_out_of_the_page_or_the_json),
        cmocka_unit_test(counts_are_those_of_the_file),
        cmocka_unit_test(a_file_cut_anywhere_is_an_error_with_the_offset),
        cmocka_unit_test(a_broken_file_does_no_harm),
        cmocka_unit_test(a_meter_tells_the_same_however_the_bytes_come),
    };
    return cmocka_run_group_tests(tests, find_layouts, NULL);
}

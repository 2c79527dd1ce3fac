// SPDX-License-Identifier: Apache-2.0
// Digests of values and the store that brings the records of two sides together.
#include "rdb/diff_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct diff_record digest_of(enum rdb_object object, const struct rdb_element *v, size_t n)
{
    struct diff_digest d;
    struct diff_record r = {0};
    diff_digest_init(&d, 0);
    diff_digest_begin(&d, object);
    for (size_t i = 0; i < n; i++)
        diff_digest_element(&d, &v[i]);
    diff_digest_end(&d, &r);
    diff_digest_free(&d);
    return r;
}

static bool same(const struct diff_record *a, const struct diff_record *b)
{
    return a->value[0] == b->value[0] && a->value[1] == b->value[1];
}

static bool same_values(enum rdb_object object, const struct rdb_element *a, size_t an,
                        const struct rdb_element *b, size_t bn)
{
    struct diff_record x = digest_of(object, a, an), y = digest_of(object, b, bn);
    return same(&x, &y);
}

#define EL(f, v)                                                                                   \
    {                                                                                              \
        .field = SLICE(f), .value = SLICE(v), .expire_ms = -1                                      \
    }

static void the_pieces_of_a_string_do_not_matter(void **state)
{
    (void)state;
    const struct rdb_element whole[] = {EL("", "abcdef")},
                             pieces[] = {EL("", "ab"), EL("", "cdef")},
                             other[] = {EL("", "abcdeg")};
    assert_true(same_values(RDB_OBJ_STRING, whole, 1, pieces, 2));
    assert_false(same_values(RDB_OBJ_STRING, whole, 1, other, 1));
    assert_int_equal(digest_of(RDB_OBJ_STRING, pieces, 2).elements, 6);
}

static void order_counts_in_lists_only(void **state)
{
    (void)state;
    const struct rdb_element ab[] = {EL("f", "a"), EL("g", "b")},
                             ba[] = {EL("g", "b"), EL("f", "a")};
    assert_false(same_values(RDB_OBJ_LIST, ab, 2, ba, 2));
    assert_true(same_values(RDB_OBJ_SET, ab, 2, ba, 2));
    assert_true(same_values(RDB_OBJ_ZSET, ab, 2, ba, 2));
    assert_true(same_values(RDB_OBJ_HASH, ab, 2, ba, 2));
}

static void boundaries_and_pairings_count(void **state)
{
    (void)state;
    const struct rdb_element a[] = {EL("f", "ab"), EL("g", "c")},
                             b[] = {EL("f", "a"), EL("g", "bc")},
                             swapped[] = {EL("f", "c"), EL("g", "ab")},
                             turned[] = {EL("ab", "f"), EL("c", "g")};
    assert_false(same_values(RDB_OBJ_LIST, a, 2, b, 2));
    assert_false(same_values(RDB_OBJ_HASH, a, 2, swapped, 2));
    assert_false(same_values(RDB_OBJ_HASH, a, 2, turned, 2));
    assert_false(same_values(RDB_OBJ_SET, a, 1, a, 2));
    // Twice the same pair must not cancel out.
    const struct rdb_element twice[] = {EL("f", "ab"), EL("f", "ab")};
    assert_false(same_values(RDB_OBJ_SET, twice, 2, a, 0));
}

static void scores_and_expiries_of_fields(void **state)
{
    (void)state;
    struct rdb_element a[] = {EL("", "m")}, b[] = {EL("", "m")};
    b[0].score = -0.0;
    assert_true(same_values(RDB_OBJ_ZSET, a, 1, b, 1));
    b[0].score = 1e-300;
    assert_false(same_values(RDB_OBJ_ZSET, a, 1, b, 1));
    struct rdb_element h[] = {EL("f", "v"), EL("g", "v")}, k[] = {EL("f", "v"), EL("g", "v")};
    h[0].expire_ms = k[1].expire_ms = 1000;
    struct diff_record x = digest_of(RDB_OBJ_HASH, h, 2), y = digest_of(RDB_OBJ_HASH, k, 2);
    assert_true(same(&x, &y));
    assert_true(x.field_ttls != y.field_ttls);
}

static void types_and_dbs_count(void **state)
{
    (void)state;
    const struct rdb_element a[] = {EL("", "x")};
    assert_false(same_values(RDB_OBJ_LIST, a, 0, a, 1));
    struct diff_record list = digest_of(RDB_OBJ_LIST, a, 1), set = digest_of(RDB_OBJ_SET, a, 1);
    assert_false(same(&list, &set));
    diff_digest_key(&list, 0, SLICE("k"));
    diff_digest_key(&set, 1, SLICE("k"));
    assert_true(list.key[0] != set.key[0]);
}

// ---- the store ----

enum { KEYS = 40000 };

struct seen {
    struct diff_store *a, *b;
    struct buf name;
    unsigned char kind[KEYS]; // 1 + kind
    int total;
};

static int on_found(void *ctx, enum diff_kind kind, const struct diff_record *a,
                    const struct diff_record *b, struct err *e)
{
    struct seen *s = ctx;
    int rc = diff_store_name(a ? s->a : s->b, a ? a : b, &s->name, e);
    assert_int_equal(rc, 0);
    int i = (int)strtol(buf_cstr(&s->name) + 1, NULL, 10);
    assert_in_range(i, 0, KEYS - 1);
    s->kind[i] = (unsigned char)(1 + kind);
    s->total++;
    return 0;
}

static void put(struct diff_store *s, int i, uint64_t value, int64_t expire_ms)
{
    char name[32];
    struct err e;
    struct slice key = {name, (size_t)snprintf(name, sizeof(name), "k%d", i)};
    struct diff_record r = {.value = {value, value}, .expire_ms = expire_ms};
    diff_digest_key(&r, 0, key);
    assert_int_equal(diff_store_add(s, &r, key, &e), 0);
}

static void compare_many(size_t memory, int64_t tolerance)
{
    struct seen s = {.a = diff_store_new("/tmp"), .b = diff_store_new("/tmp")};
    struct diff_rules rules = {
        .memory = memory, .ttl_tolerance_ms = tolerance, .found = on_found, .ctx = &s};
    struct diff_counts c;
    struct err e = {0};
    for (int i = 0; i < KEYS; i++) {
        if (i % 1000 != 1)
            put(s.a, i, (uint64_t)i, i % 1000 == 4 ? 5000 : -1);
        if (i % 1000 == 5) // an older record of the key, as a scan may give one
            put(s.b, i, 12345678, -1);
    }
    for (int i = KEYS - 1; i >= 0; i--)
        if (i % 1000 != 2)
            put(s.b, i, (uint64_t)i + (i % 1000 == 3), i % 1000 == 4 ? 5010 : -1);
    assert_int_equal(diff_compare(s.a, s.b, &rules, &c, &e), 0);
    const int each = KEYS / 1000, ttl = tolerance < 10 ? each : 0;
    assert_int_equal(c.a, KEYS - each);
    assert_int_equal(c.b, KEYS - each);
    assert_int_equal(c.kinds[DIFF_EXTRA], each);
    assert_int_equal(c.kinds[DIFF_MISSING], each);
    assert_int_equal(c.kinds[DIFF_VALUE], each);
    assert_int_equal(c.kinds[DIFF_TTL], ttl);
    assert_int_equal(c.equal, KEYS - 3 * each - ttl);
    assert_int_equal(s.total, 3 * each + ttl);
    static const int expected[] = {1 + DIFF_EXTRA, 1 + DIFF_MISSING, 1 + DIFF_VALUE};
    for (int i = 0; i < KEYS; i++)
        if (i % 1000 >= 1 && i % 1000 <= 3)
            assert_int_equal(s.kind[i], expected[i % 1000 - 1]);
    diff_store_free(s.a);
    diff_store_free(s.b);
    buf_free(&s.name);
}

static void each_difference_is_told_once(void **state)
{
    (void)state;
    compare_many((size_t)64 << 20, 0);
    compare_many((size_t)64 << 20, 10);
}

static void a_part_bigger_than_the_memory_is_compared_in_slices(void **state)
{
    (void)state;
    compare_many(1, 0);
    compare_many(4096, 9);
}

static void a_directory_that_cannot_be_written_is_an_error(void **state)
{
    (void)state;
    struct diff_store *s = diff_store_new("/nonexistent");
    struct diff_record r = {0};
    struct err e = {0};
    int rc = 0;
    for (int i = 0; i < 1000 && rc == 0; i++)
        rc = diff_store_add(s, &r, SLICE("key"), &e);
    assert_true(rc < 0);
    assert_non_null(strstr(e.msg, "/nonexistent"));
    diff_store_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pieces_of_a_string_do_not_matter),
        cmocka_unit_test(order_counts_in_lists_only),
        cmocka_unit_test(boundaries_and_pairings_count),
        cmocka_unit_test(scores_and_expiries_of_fields),
        cmocka_unit_test(types_and_dbs_count),
        cmocka_unit_test(each_difference_is_told_once),
        cmocka_unit_test(a_part_bigger_than_the_memory_is_compared_in_slices),
        cmocka_unit_test(a_directory_that_cannot_be_written_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

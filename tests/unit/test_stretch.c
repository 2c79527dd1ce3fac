// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_master.h"
#include "source/stretch.h"

#define ID "1111111111111111111111111111111111111111"

enum { BEGINS = 1000, BYTES = 700000 };

static struct fake_master master;
static struct stretch stretch;
static struct buf stream, got;
static int refuse_with;

static int take(void *ctx, const char *p, size_t n, struct err *e)
{
    assert_ptr_equal(ctx, &stretch);
    buf_append(&got, p, n);
    return refuse_with ? err_set(e, refuse_with, "enough") : 0;
}

static int set_up(void **state)
{
    (void)state;
    for (int i = 0; i < BYTES; i++)
        buf_append(&stream, &(char){(char)(i * 7 + i / 251)}, 1);
    fake_master_init(&master);
    master.replid = ID;
    master.snapshot_offset = BEGINS;
    master.stream = buf_slice(&stream);
    master.rdb = SLICE("REDIS0011");
    fake_master_start(&master);
    stretch = (struct stretch){.endpoint = {.path = master.path},
                               .options = {.psync_command = "PSYNC"},
                               .from = {.replid = ID, .offset = BEGINS},
                               .to = BEGINS + BYTES,
                               .take = take,
                               .ctx = &stretch};
    refuse_with = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fake_master_stop(&master);
    buf_free(&stream);
    buf_free(&got);
    return 0;
}

static void all_of_the_stretch_comes_and_no_more(void **state)
{
    (void)state;
    static const struct {
        uint64_t from, to;
    } rows[] = {{0, BYTES}, {0, 1}, {1, 2}, {17, BYTES - 1}, {BYTES - 1, BYTES}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct err e = {0};
        buf_clear(&got);
        stretch.from.offset = (int64_t)(BEGINS + rows[i].from);
        stretch.to = BEGINS + rows[i].to;
        if (stretch_read(&stretch, &e))
            fail_msg("row %zu: %s", i, e.msg);
        assert_int_equal(got.n, rows[i].to - rows[i].from);
        assert_memory_equal(got.p, stream.p + rows[i].from, got.n);
    }
}

static void what_the_source_no_longer_has_is_said(void **state)
{
    (void)state;
    struct err e = {0};
    stretch.from.offset = BEGINS - 1;
    assert_int_equal(stretch_read(&stretch, &e), -ERANGE);
    assert_int_equal(got.n, 0);
}

static void an_end_in_the_middle_is_an_error(void **state)
{
    (void)state;
    struct err e = {0};
    atomic_store(&master.cut_after, 300000);
    assert_true(stretch_read(&stretch, &e) < 0);
    assert_true(e.msg[0] && got.n < BYTES);
}

static void who_takes_it_may_refuse(void **state)
{
    (void)state;
    struct err e = {0};
    refuse_with = ERR_FULL;
    assert_int_equal(stretch_read(&stretch, &e), ERR_FULL);
}

static void a_silent_source_is_left_when_that_is_wanted(void **state)
{
    (void)state;
    struct err e = {0};
    master.silent = true;
    atomic_store(&stretch.cancel, true);
    assert_int_equal(stretch_read(&stretch, &e), ERR_CLOSED);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(all_of_the_stretch_comes_and_no_more),
        T(what_the_source_no_longer_has_is_said),
        T(an_end_in_the_middle_is_an_error),
        T(who_takes_it_may_refuse),
        T(a_silent_source_is_left_when_that_is_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "codec/resp.h"
#include "codec/slot.h"
#include "rdb_file.h"
#include "target/takeback.h"

#define ID "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// A sink that notes what it gets: "db key", one a line, a "|" where a unit ends.
static struct fake {
    struct sink sink;
    struct outq out;
    struct buf text;
    bool in_unit;
    int db, slot, commands;
    int rooms, room_every; // each so many times that it is asked there is room; 0: always
    bool busy;             // not idle
} fake;

static bool fake_room(struct sink *s)
{
    (void)s;
    return !fake.room_every || ++fake.rooms % fake.room_every == 0;
}

static bool fake_begin(struct sink *s, int slot, bool wrapped)
{
    (void)s;
    assert_false(fake.in_unit || wrapped);
    fake.in_unit = true;
    fake.slot = slot;
    fake.db = -1;
    return true;
}

static void fake_select(struct sink *s, int db, uint64_t ref)
{
    (void)s;
    (void)ref;
    assert_true(fake.in_unit && fake.db == -1);
    fake.db = db;
}

static struct outq *fake_out(struct sink *s)
{
    (void)s;
    assert_true(fake.in_unit);
    return &fake.out;
}

static void fake_cmd(struct sink *s, uint64_t ref)
{
    (void)s;
    (void)ref;
    struct iovec iov[8];
    struct buf bytes = {0};
    int n = outq_iov(&fake.out, iov, 8);
    for (int i = 0; i < n; i++)
        buf_append(&bytes, iov[i].iov_base, iov[i].iov_len);
    outq_sent(&fake.out, bytes.n);
    struct resp_cmd c = {0};
    assert_int_equal(resp_cmd_parse(&c, bytes.p, bytes.n), 1);
    assert_int_equal(c.argc, 2);
    if (fake.slot >= 0)
        assert_int_equal(slot_of(c.argv[1]), fake.slot);
    buf_printf(&fake.text, "%.*s %d %.*s\n", (int)c.argv[0].n, c.argv[0].p, fake.db,
               (int)c.argv[1].n, c.argv[1].p);
    resp_cmd_free(&c);
    buf_free(&bytes);
    fake.commands++;
}

static void fake_end(struct sink *s, const struct batch_mark *mark)
{
    (void)s;
    assert_true(fake.in_unit);
    assert_true(mark->loading && mark->rdb_index == 0);
    fake.in_unit = false;
    buf_append_cstr(&fake.text, "|\n");
}

static bool fake_idle(const struct sink *s)
{
    (void)s;
    return !fake.busy;
}

static const struct sink_ops fake_ops = {
    .room = fake_room,
    .unit_begin = fake_begin,
    .select = fake_select,
    .out = fake_out,
    .cmd = fake_cmd,
    .unit_end = fake_end,
    .idle = fake_idle,
};

static struct journal *journal;
static struct takeback_options options;

static int map_db(void *ctx, int db)
{
    (void)ctx;
    return db == 9 ? -1 : db + 10;
}

static bool is_ours(void *ctx, struct slice key)
{
    (void)ctx;
    return !slice_has_prefix(key, SLICE("moved"));
}

static int set_up(void **state)
{
    (void)state;
    struct err e;
    struct journal_options o = {
        .type = JOURNAL_STORER, .dir = scratch_path("journal"), .max_size = -1};
    if (journal_open(&journal, &o, &e))
        return -1;
    journal_drop_asides(journal);
    fake = (struct fake){.sink.ops = &fake_ops};
    options = (struct takeback_options){.sink = &fake.sink,
                                        .journal = journal,
                                        .unlink = true,
                                        .map_db = map_db,
                                        .is_ours = is_ours};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    journal_drop_asides(journal);
    journal_close(journal);
    outq_free(&fake.out);
    buf_free(&fake.text);
    return 0;
}

static void keep_aside(struct slice rdb)
{
    static uint64_t offset;
    struct err e;
    assert_int_equal(journal_begin_snapshot(journal, ID, ++offset, JOURNAL_SIZE_UNKNOWN, &e), 0);
    for (size_t n; rdb.n; rdb = slice_make(rdb.p + n, rdb.n - n)) {
        char *p;
        assert_int_equal(journal_snapshot_space(journal, &p, &n, &e), 0);
        n = n < rdb.n ? n : rdb.n;
        memcpy(p, rdb.p, n);
        assert_int_equal(journal_snapshot_commit(journal, n, &e), 0);
    }
    assert_int_equal(journal_load_begun(journal, &e), 0);
    assert_int_equal(journal_begin_snapshot(journal, ID, ++offset, JOURNAL_SIZE_UNKNOWN, &e), 0);
}

static void take_back(size_t budget)
{
    struct takeback *t = takeback_new(&options);
    int calls = 0;
    while (takeback_pump(t, budget) != LOAD_FINISHED) {
        assert_false(fake.in_unit);
        assert_true(++calls < 10000);
    }
    assert_int_equal(takeback_keys(t), fake.commands);
    takeback_free(t);
}

static void put_string(struct buf *b, const char *key, const char *value)
{
    rdb_key(b, 0, key);
    rdb_str(b, slice_cstr(value));
}

static void select_db(struct buf *b, unsigned db)
{
    rdb_byte(b, 0xfe);
    rdb_byte(b, db);
}

static struct slice small_file(struct buf *b)
{
    rdb_begin(b);
    select_db(b, 0);
    put_string(b, "a", "1");
    rdb_expire(b, 99);
    put_string(b, "b", "2");
    put_string(b, "moved", "to another shard");
    select_db(b, 9);
    put_string(b, "nowhere", "3");
    select_db(b, 2);
    rdb_key(b, 1, "list");
    rdb_len(b, 2);
    rdb_str(b, SLICE("x"));
    rdb_str(b, SLICE("yy"));
    return buf_slice(b);
}

static void every_key_goes_where_the_load_put_it(void **state)
{
    (void)state;
    struct buf b = {0};
    keep_aside(small_file(&b));
    take_back(1 << 20);
    assert_string_equal(buf_cstr(&fake.text), "UNLINK 10 a\nUNLINK 10 b\n|\nUNLINK 12 list\n|\n");
    buf_free(&b);
}

static void old_servers_get_del(void **state)
{
    (void)state;
    struct buf b = {0};
    keep_aside(small_file(&b));
    options.unlink = false;
    take_back(1 << 20);
    assert_string_equal(buf_cstr(&fake.text), "DEL 10 a\nDEL 10 b\n|\nDEL 12 list\n|\n");
    buf_free(&b);
}

static void what_the_filter_kept_out_stays(void **state)
{
    (void)state;
    struct buf b = {0};
    struct err e;
    struct filter *f;
    char b_only[] = "b", *prefix = b_only;
    struct filter_rules rules = {.prefix_blacklist = {.v = &prefix, .n = 1}};
    assert_int_equal(filter_new(&f, &rules, &e), 0);
    keep_aside(small_file(&b));
    options.filter = f;
    take_back(1 << 20);
    assert_string_equal(buf_cstr(&fake.text), "UNLINK 10 a\n|\nUNLINK 12 list\n|\n");
    filter_free(f);
    buf_free(&b);
}

static void all_that_is_kept_is_taken_back_and_confirmed(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < 3; i++)
        keep_aside(small_file(&b));
    fake.busy = true;
    struct takeback *t = takeback_new(&options);
    while (takeback_pump(t, 1 << 20) == LOAD_MORE_NOW)
        continue;
    assert_int_equal(fake.commands, 9);
    assert_int_equal(takeback_pump(t, 1 << 20), LOAD_WAIT);
    fake.busy = false;
    assert_int_equal(takeback_pump(t, 1 << 20), LOAD_FINISHED);
    takeback_free(t);
    buf_free(&b);
}

static void nothing_is_left_out_where_room_is_scarce(void **state)
{
    (void)state;
    struct buf b = {0};
    rdb_begin(&b);
    for (int i = 0; i < 500; i++) {
        char key[20];
        snprintf(key, sizeof(key), "key:%d", i);
        put_string(&b, key, "value");
    }
    keep_aside(buf_slice(&b));
    for (int cluster = 0; cluster < 2; cluster++) {
        options.cluster = cluster;
        buf_clear(&fake.text);
        fake.commands = 0;
        fake.room_every = 3;
        take_back(700);
        assert_int_equal(fake.commands, 500);
        const char *at = buf_cstr(&fake.text);
        for (int i = 0; i < 500; i++) {
            char line[40];
            snprintf(line, sizeof(line), "10 key:%d\n", i);
            at = strstr(at, line);
            assert_non_null(at);
        }
    }
    buf_free(&b);
}

static void an_end_that_is_missing_or_damaged_is_no_error(void **state)
{
    (void)state;
    struct buf b = {0};
    struct slice whole = small_file(&b);
    int before = 0;
    for (size_t n = 1; n <= whole.n; n++) {
        keep_aside(slice_make(whole.p, n));
        fake.commands = 0;
        take_back(1 << 20);
        assert_in_range(fake.commands, before, before + 1);
        before = fake.commands;
        journal_drop_asides(journal);
    }
    assert_int_equal(before, 3);
    rdb_byte(&b, 0xf0); // no such type
    buf_append_cstr(&b, "garbage");
    keep_aside(buf_slice(&b));
    fake.commands = 0;
    take_back(1 << 20);
    assert_int_equal(fake.commands, 3);
    buf_free(&b);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(every_key_goes_where_the_load_put_it),
        T(old_servers_get_del),
        T(what_the_filter_kept_out_stays),
        T(all_that_is_kept_is_taken_back_and_confirmed),
        T(nothing_is_left_out_where_room_is_scarce),
        T(an_end_that_is_missing_or_damaged_is_no_error),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

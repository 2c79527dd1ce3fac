// SPDX-License-Identifier: Apache-2.0
// What the tests of the loader put into the source, and the ways in which they load it.
#ifndef GUNYU_TESTS_LOAD_DATA_H
#define GUNYU_TESTS_LOAD_DATA_H

#include "load_world.h"

#define LIB(name) "#!lua name=" name "\nredis.register_function('" name "',function() return 1 end)"

// Each type, small and big, in two dbs without a name in common.
static inline void fill_source(void)
{
    ask(from, "SET s1 plain");
    ask(from, "SET s2 12345");
    ask(from, "SET s3 v PXAT 33000000000000");
    ask(from, "SELECT 3");
    ask(from, "SET expired v PXAT 33000000000001");
    for (int i = 0; i < 1500; i++) {
        ask(from, "RPUSH list:%d element:%d", i % 3 ? 1 : 2, i);
        ask(from, "SADD set member:%d", i);
        ask(from, "ZADD zset %d.5 member:%d", i - 700, i);
        ask(from, "HSET hash field:%d value:%d", i, i);
        ask(from, "XADD stream %d-1 a %d b x", i + 1, i);
    }
    ask(from, "SADD ints 1 2 300");
    ask(from, "HSET small a b c d");
    ask(from, "ZADD extremes inf a -inf b 0.1 c");
    ask(from, "PEXPIREAT hash 33000000000002");
    ask(from, "PEXPIREAT list:1 33000000000003");
    ask(from, "PEXPIREAT stream 33000000000004");
    ask(from, "XADD stream 5000-0 odd field-list 1 2 3 4");
    ask(from, "XADD stream 5001-0 a 1 b 2"); // like the first entry's fields again
    ask(from, "XGROUP CREATE stream g1 100-1");
    ask(from, "XGROUP CREATE stream g2 0");
    ask(from, "XREADGROUP GROUP g1 c1 COUNT 5 STREAMS stream >");
    ask(from, "XREADGROUP GROUP g2 c2 COUNT 50 STREAMS stream >");
    ask(from, "XGROUP CREATECONSUMER stream g2 lazy");
    ask(from, "XGROUP CREATE empty g $ MKSTREAM");
    ask(from, "XADD gone 7-7 a b");
    ask(from, "XDEL gone 7-7");
    ask(from, "SELECT 0");
    char *big = malloc(3 << 20);
    for (size_t i = 0; i < 3 << 20; i++)
        big[i] = (char)(i * 2654435761u >> 13);
    struct slice value = slice_make(big, 3 << 20);
    ask(from, "SET random %b PXAT 33000000000005", &value);
    memset(big, 'x', 3 << 20);
    ask(from, "SET folded %b", &value);
    ask(from, "RPUSH biglist %b small", &value);
    free(big);
}

// Pending entries of deleted messages, which are built in two goes.
static inline void fill_streams(void)
{
    for (int i = 1; i <= 9; i++) {
        ask(from, "XADD holes %d-1 f %d", i, i);
        ask(from, "XADD gone %d-1 f %d", i, i);
    }
    ask(from, "XADD full 1-1 f v");
    static const char *const names[] = {"holes", "gone", "full"};
    for (int i = 0; i < 3; i++) {
        ask(from, "XGROUP CREATE %s g 0", names[i]);
        ask(from, "XGROUP CREATE %s h 2-1", names[i]);
        ask(from, "XGROUP CREATECONSUMER %s g lazy", names[i]);
        ask(from, "XREADGROUP GROUP g a COUNT 3 STREAMS %s >", names[i]);
        ask(from, "XREADGROUP GROUP g b COUNT 4 STREAMS %s >", names[i]);
        ask(from, "XREADGROUP GROUP h a COUNT 9 STREAMS %s >", names[i]);
        ask(from, "XCLAIM %s g b 0 1-1 RETRYCOUNT 7 TIME 1000 JUSTID", names[i]);
    }
    ask(from, "XDEL holes 2-1 5-1 9-1");
    ask(from, "XTRIM gone MAXLEN 0");
}

// A snapshot in which these keys of the source have expired.
static inline void snapshot_of_expired(const char *const *keys, int n, struct buf *rdb)
{
    ask(from, "DEBUG SET-ACTIVE-EXPIRE 0");
    int64_t soon = clock_unix_ms() + 30;
    for (int i = 0; i < n; i++)
        ask(from, "PEXPIREAT %s %L", keys[i], soon);
    snapshot_of_source(rdb);
    ask(from, "DEBUG SET-ACTIVE-EXPIRE 1");
    while (clock_unix_ms() <= soon)
        usleep(1000);
}

// Puts a file of tests/data/rdb into rdb and has the source load it. False: there is no i-th.
static inline bool source_loads_file(size_t i, struct buf *rdb)
{
    static const char *const files[] = {"idle", "no-checksum", "old", "packed", "tables"};
    char path[512], name[64];
    if (i == sizeof(files) / sizeof(files[0]))
        return false;
    snprintf(name, sizeof(name), "tests/data/rdb/%s.rdb", files[i]);
    source_path(name, path, sizeof(path));
    buf_clear(rdb);
    read_file(path, rdb);
    snprintf(path, sizeof(path), "%s/dump.rdb", source.dir);
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(rdb->p, 1, rdb->n, f) == rdb->n && fclose(f) == 0);
    ask(from, "DEBUG RELOAD NOSAVE");
    return true;
}

// ---- functions and scripts ----

static inline void add_library(struct redis_client *c, struct slice code)
{
    ask(c, "FUNCTION LOAD %b", &code);
}

// Libraries one and two, and a key.
static inline void snapshot_of_libraries(struct buf *rdb)
{
    add_library(from, SLICE(LIB("one")));
    add_library(from, SLICE(LIB("two")));
    ask(from, "SET a b");
    snapshot_of_source(rdb);
}

// One of the snapshot's, and one that it does not know.
static inline void put_other_libraries(struct redis_client *c)
{
    ask(c, "FUNCTION FLUSH");
    add_library(c, SLICE(LIB("mine")));
    add_library(c, SLICE(LIB("one")));
}

// mine: whether the one that the snapshot does not know is still there.
static inline void has_libraries(struct redis_client *c, bool mine)
{
    is(c, ":1\r\n", "FCALL one 0");
    is(c, ":1\r\n", "FCALL two 0");
    struct slice list = ask(c, "FUNCTION LIST");
    assert_int_equal(memmem(list.p, list.n, "mine", 4) != NULL, mine);
}

// A snapshot of one script.
static inline void put_script(struct buf *rdb)
{
    buf_append_slice(rdb, SLICE("REDIS0009\xfa\3lua\10return 1"));
    buf_append(rdb, "\xff\0\0\0\0\0\0\0\0", 9);
}

static inline void knows_script(struct redis_client *c)
{
    is(c, "*1\r\n:1\r\n", "SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
}

// ---- ways ----

static inline void by_elements(struct run *r)
{
    r->o.restore_enabled = false;
}

static inline void in_tiny_pieces(struct run *r)
{
    r->o.max_restore = 10;
    r->step = 5000;
}

static inline void keep_existing(struct run *r)
{
    r->o.exists = LOAD_IGNORE;
}

static inline void keep_existing_by_elements(struct run *r)
{
    keep_existing(r);
    by_elements(r);
}

static inline void with_functions_flushed(struct run *r)
{
    r->o.functions = LOAD_FUNCTIONS_FLUSH;
}

static inline void with_functions_appended(struct run *r)
{
    r->o.functions = LOAD_FUNCTIONS_APPEND;
}

// What the target forbids stands for what it cannot read.
static inline bool as_bad_format(void *ctx, uint64_t ref, struct slice text)
{
    if (memmem(text.p, text.n, "NOPERM", 6))
        text = SLICE("ERR Bad data format");
    return on_failed(ctx, ref, text);
}

static inline void seen_as_bad_format(struct run *r)
{
    r->step = 3000;
    r->w.failed_hook = as_bad_format;
}

#endif

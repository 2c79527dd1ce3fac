// SPDX-License-Identifier: Apache-2.0
// What the tests of the loader put into the source.
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

#endif

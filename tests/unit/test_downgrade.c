// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "codec/dump.h"
#include "codec/rdb_types.h"
#include "flow/downgrade.h"
#include "flow/downgrade_impl.h"
#include "redis_fixture.h"
#include "source_tree.h"
#include "words.h"

enum { REDIS = 0, VALKEY = 1 };

#define EMPTY "~~"

static void put_words(struct buf *b, int argc, const struct slice *argv)
{
    bool eval = slice_eq(argv[0], SLICE("EVAL"));
    for (int i = 0; i < argc; i++) {
        if (i)
            buf_append_char(b, ' ');
        buf_append_slice(b, eval && i == 1 ? SLICE("...") : argv[i].n ? argv[i] : SLICE(EMPTY));
    }
}

// What becomes of a command, as text: "=" as is, "-" dropped, "! and the reason" refused, else the
// commands, scripts as "...".
static const char *outcome(struct downgrade *d, const char *line, struct buf *b)
{
    struct words words;
    split(&words, line, EMPTY);
    enum rewrite_result r =
        downgrade_command(d, cmd_lookup(words.argc, words.argv), words.argc, words.argv);
    buf_clear(b);
    switch (r) {
    case REWRITE_AS_IS:
        return "=";
    case REWRITE_DROP:
        assert_non_null(d->out.reason);
        return "-";
    case REWRITE_REFUSED:
        buf_printf(b, "! %s", d->out.reason);
        return buf_cstr(b);
    case REWRITE_CHANGED:
        break;
    }
    put_words(b, d->out.argc, d->out.argv);
    for (int i = 0; i < d->out.then_n; i++) {
        buf_append_cstr(b, "; ");
        put_words(b, d->out.then[i].argc, d->out.then[i].argv);
    }
    return buf_cstr(b);
}

struct row_case {
    enum downgrade_id row;
    int valkey, version;
    const char *command, *want;
};

#define T "gunyu:tmp:bitop:"

static const struct row_case cases[] = {
    {DOWN_UNLINK, REDIS, 30200, "UNLINK a b", "DEL a b"},
    {DOWN_HSET_MANY, REDIS, 30200, "hset h a 1 b 2", "HMSET h a 1 b 2"},
    {DOWN_HSET_MANY, REDIS, 30200, "HSET h a 1", "="},
    {DOWN_FLUSH_ASYNC, REDIS, 30200, "FLUSHALL ASYNC", "FLUSHALL"},
    {DOWN_FLUSH_ASYNC, REDIS, 30200, "FLUSHDB async", "FLUSHDB"},
    {DOWN_FLUSH_ASYNC, REDIS, 60000, "FLUSHDB ASYNC", "="},
    {DOWN_SWAPDB, REDIS, 30200, "SWAPDB 0 1", "! the target has no SWAPDB"},
    {DOWN_STREAMS, REDIS, 40000, "XADD x 1-1 f v", "! the target has no streams"},
    {DOWN_STREAMS, REDIS, 40000, "XGROUP CREATE x g 0", "! the target has no streams"},
    {DOWN_STREAMS, REDIS, 40000, "XDEL x 1-1", "! the target has no streams"},
    {DOWN_ZPOP, REDIS, 40000, "ZPOPMIN z", "ZREMRANGEBYRANK z 0 0"},
    {DOWN_ZPOP, REDIS, 40000, "ZPOPMIN z 3", "ZREMRANGEBYRANK z 0 2"},
    {DOWN_ZPOP, REDIS, 40000, "ZPOPMAX z 3", "ZREMRANGEBYRANK z -3 -1"},
    {DOWN_SET_KEEPTTL, REDIS, 50000, "SET k v KEEPTTL", "EVAL ... 1 k v"},
    {DOWN_SET_KEEPTTL, REDIS, 60000, "SET k v KEEPTTL", "="},
    {DOWN_FLUSH_SYNC, REDIS, 60000, "FLUSHALL SYNC", "FLUSHALL"},
    {DOWN_FLUSH_SYNC, REDIS, 60000, "FLUSHALL", "="},
    {DOWN_SET_GET, REDIS, 60000, "SET k v GET", "SET k v"},
    {DOWN_SET_GET, REDIS, 60000, "SET k v XX GET KEEPTTL", "SET k v XX KEEPTTL"},
    {DOWN_SET_PXAT, REDIS, 60000, "SET k v PXAT 1700000000000",
     "SET k v; PEXPIREAT k 1700000000000"},
    {DOWN_SET_PXAT, REDIS, 60000, "SET k v EXAT 1700000000", "SET k v; EXPIREAT k 1700000000"},
    {DOWN_SET_PXAT, REDIS, 60000, "SET k v EX 10", "="},
    {DOWN_SET_PXAT, REDIS, 60000, "SET k v", "="},
    {DOWN_GETDEL, REDIS, 60000, "GETDEL k", "DEL k"},
    {DOWN_GETEX, REDIS, 60000, "GETEX k PERSIST", "PERSIST k"},
    {DOWN_GETEX, REDIS, 60000, "GETEX k", "-"},
    {DOWN_COPY, REDIS, 60000, "COPY a b", "EVAL ... 2 a b ~~ ~~ ABSTTL"},
    {DOWN_COPY, REDIS, 60000, "COPY a b DB 3 REPLACE", "EVAL ... 2 a b 3 REPLACE ABSTTL"},
    {DOWN_COPY, REDIS, 40000, "COPY a b REPLACE", "EVAL ... 2 a b ~~ REPLACE ~~"},
    {DOWN_LMOVE, REDIS, 60000, "LMOVE a b RIGHT LEFT", "RPOPLPUSH a b"},
    {DOWN_LMOVE, REDIS, 60000, "lmove a b left right", "EVAL ... 2 a b 0 RPUSH LPOP"},
    {DOWN_LMOVE, REDIS, 60000, "LMOVE a b RIGHT RIGHT", "EVAL ... 2 a b -1 RPUSH RPOP"},
    {DOWN_LMOVE, REDIS, 60000, "LMOVE a b LEFT LEFT", "EVAL ... 2 a b 0 LPUSH LPOP"},
    {DOWN_LMOVE, REDIS, 60000, "LMOVE a b LEFT MIDDLE", "="},
    {DOWN_POP_COUNT, REDIS, 60000, "LPOP l 2", "LTRIM l 2 -1"},
    {DOWN_POP_COUNT, REDIS, 60000, "RPOP l 2", "LTRIM l 0 -3"},
    {DOWN_POP_COUNT, REDIS, 60000, "RPOP l", "="},
    {DOWN_ZADD_GT, REDIS, 60000, "ZADD z GT CH 3 a 4 b", "EVAL ... 1 z GT ~~ ~~ 3 a 4 b"},
    {DOWN_ZADD_GT, REDIS, 60000, "ZADD z XX LT INCR 3 a", "EVAL ... 1 z LT XX INCR 3 a"},
    {DOWN_ZADD_GT, REDIS, 60000, "ZADD z NX 3 gt", "="},
    {DOWN_ZRANGESTORE, REDIS, 60000, "ZRANGESTORE d s 0 -1",
     "EVAL ... 2 d s ZRANGE 0 -1 WITHSCORES"},
    {DOWN_ZRANGESTORE, REDIS, 60000, "ZRANGESTORE d s (5 1 BYSCORE REV LIMIT 0 1",
     "EVAL ... 2 d s ZREVRANGEBYSCORE (5 1 WITHSCORES LIMIT 0 1"},
    {DOWN_ZRANGESTORE, REDIS, 60000, "ZRANGESTORE d s - [c BYLEX",
     "EVAL ... 2 d s ZRANGEBYLEX - [c"},
    {DOWN_ZDIFFSTORE, REDIS, 60000, "ZDIFFSTORE d 2 a b", "EVAL ... 3 d a b"},
    {DOWN_GEOSEARCHSTORE, REDIS, 60000,
     "GEOSEARCHSTORE d s FROMLONLAT 15 37 BYRADIUS 200 km ASC COUNT 3",
     "DEL d; GEORADIUS s 15 37 200 km COUNT 3 ASC STORE d"},
    {DOWN_GEOSEARCHSTORE, REDIS, 60000, "GEOSEARCHSTORE d s BYRADIUS 200 km FROMMEMBER p STOREDIST",
     "DEL d; GEORADIUSBYMEMBER s p 200 km STOREDIST d"},
    {DOWN_GEOSEARCHSTORE, REDIS, 60000, "GEOSEARCHSTORE s s FROMMEMBER p BYRADIUS 200 km",
     "GEORADIUSBYMEMBER s p 200 km STORE s"},
    {DOWN_GEOSEARCHSTORE, REDIS, 60000, "GEOSEARCHSTORE d s FROMMEMBER p BYBOX 2 2 km",
     "! the target has no GEOSEARCHSTORE, and its GEORADIUS knows neither BYBOX nor COUNT ANY"},
    {DOWN_GEO_GONE, REDIS, 60000, "GEORADIUS s 15 37 200 km COUNT 3 STORE d",
     "DEL d; GEORADIUS s 15 37 200 km COUNT 3 STORE d"},
    {DOWN_GEO_GONE, REDIS, 60205, "georadiusbymember s p 2 km store x storedist d",
     "DEL d; georadiusbymember s p 2 km store x storedist d"},
    {DOWN_GEO_GONE, REDIS, 60000, "GEORADIUS s 15 37 200 km STORE s", "="},
    {DOWN_GEO_GONE, REDIS, 60000, "GEORADIUSBYMEMBER s p 200 km ASC", "="},
    {DOWN_GEO_GONE, REDIS, 60206, "GEORADIUS s 15 37 200 km STORE d", "="},
    {DOWN_GEOSEARCH_GONE, REDIS, 60205, "GEOSEARCHSTORE d s FROMMEMBER p BYBOX 2 2 km",
     "DEL d; GEOSEARCHSTORE d s FROMMEMBER p BYBOX 2 2 km"},
    {DOWN_GEOSEARCH_GONE, REDIS, 60205, "GEOSEARCHSTORE s s FROMMEMBER p BYBOX 2 2 km", "="},
    {DOWN_GEOSEARCH_GONE, REDIS, 60206, "GEOSEARCHSTORE d s FROMMEMBER p BYBOX 2 2 km", "="},
    {DOWN_NOMKSTREAM, REDIS, 60000, "XADD x NOMKSTREAM 5-1 f v", "XADD x 5-1 f v"},
    {DOWN_NOMKSTREAM, REDIS, 60000, "XADD x MAXLEN = 3 NOMKSTREAM 5-1 NOMKSTREAM v",
     "XADD x MAXLEN = 3 5-1 NOMKSTREAM v"},
    {DOWN_NOMKSTREAM, REDIS, 70000, "XADD x NOMKSTREAM 5-1 f v", "="},
    {DOWN_NOMKSTREAM, REDIS, 60000, "XADD x 5-1 NOMKSTREAM v", "="},
    {DOWN_MINID, REDIS, 60000, "XADD x MINID = 4-1 5-1 f v", "XADD x 5-1 f v; EVAL ... 1 x 4 0"},
    {DOWN_MINID, REDIS, 60000, "XADD x MINID 4 5-1 f v",
     "XADD x 5-1 f v; EVAL ... 1 x 3 18446744073709551615"},
    {DOWN_MINID, REDIS, 60000, "XADD x MINID 0-0 5-1 f v", "XADD x 5-1 f v"},
    {DOWN_MINID, REDIS, 60000, "XTRIM x MINID 4-1", "EVAL ... 1 x 4 0"},
    {DOWN_MINID, REDIS, 60000, "XTRIM x MINID 0", "-"},
    {DOWN_MINID, REDIS, 60000, "XTRIM x MINID ~ 4-1",
     "! the target cannot trim a stream by about MINID"},
    {DOWN_MINID, REDIS, 60000, "XTRIM x MAXLEN ~ 4", "="},
    {DOWN_CREATECONSUMER, REDIS, 60000, "XGROUP CREATECONSUMER x g c",
     "XREADGROUP GROUP g c COUNT 1 STREAMS x 0"},
    {DOWN_ENTRIESREAD, REDIS, 60000, "XGROUP CREATE x g 0 MKSTREAM ENTRIESREAD 3",
     "XGROUP CREATE x g 0 MKSTREAM"},
    {DOWN_ENTRIESREAD, REDIS, 60000, "XGROUP SETID x g 5-1 ENTRIESREAD 3", "XGROUP SETID x g 5-1"},
    {DOWN_ENTRIESREAD, REDIS, 60000, "XGROUP SETID x g 5-1", "="},
    {DOWN_XSETID, REDIS, 60000, "XSETID x 5-1 ENTRIESADDED 9 MAXDELETEDID 4-1", "XSETID x 5-1"},
    {DOWN_XSETID, REDIS, 60000, "XSETID x 5-1", "="},
    {DOWN_XCLAIM, REDIS, 60000, "XCLAIM x g c 0 1-1 TIME 5 RETRYCOUNT 2 FORCE JUSTID LASTID 1-1",
     "EVAL ... 1 x g c 0 1-1 TIME 5 RETRYCOUNT 2 FORCE JUSTID LASTID 1-1"},
    {DOWN_XCLAIM, REDIS, 60000, "XCLAIM x g c 0 1-1 JUSTID", "="},
    {DOWN_FUNCTION_LOAD, REDIS, 60200, "FUNCTION LOAD code", "! the target has no functions"},
    {DOWN_FUNCTION_LOAD, REDIS, 60200, "FUNCTION RESTORE p", "! the target has no functions"},
    {DOWN_FUNCTION_DELETE, REDIS, 60200, "FUNCTION DELETE lib", "-"},
    {DOWN_FUNCTION_DELETE, REDIS, 60200, "FUNCTION FLUSH ASYNC", "-"},
    {DOWN_SPUBLISH, REDIS, 60200, "SPUBLISH c m", "PUBLISH c m"},
    {DOWN_FIELD_EXPIRY, REDIS, 70200, "HPEXPIREAT h 1700000000000 FIELDS 1 a",
     "! the target has no expiries of hash fields"},
    {DOWN_FIELD_EXPIRY, VALKEY, 80100, "HPEXPIREAT h 1700000000000 FIELDS 1 a",
     "! the target has no expiries of hash fields"},
    {DOWN_FIELD_EXPIRY, VALKEY, 90000, "HPEXPIREAT h 1700000000000 FIELDS 1 a", "="},
    {DOWN_HPERSIST, VALKEY, 80100, "HPERSIST h FIELDS 1 a", "-"},
    {DOWN_HSETEX, REDIS, 70200, "HSETEX h KEEPTTL FIELDS 1 a 1.5", "HSET h a 1.5"},
    {DOWN_HSETEX, REDIS, 70400, "HSETEX h KEEPTTL FIELDS 1 a 1.5", "EVAL ... 1 h a 1.5"},
    {DOWN_HSETEX, REDIS, 70400, "HSETEX h FNX PXAT 1700000000000 FIELDS 2 a 1 b 2",
     "HSET h a 1 b 2; HPEXPIREAT h 1700000000000 FIELDS 2 a b"},
    {DOWN_HSETEX, REDIS, 70400, "HSETEX h EXAT 1700000000 FIELDS 1 a 1",
     "HSET h a 1; HEXPIREAT h 1700000000 FIELDS 1 a"},
    {DOWN_HSETEX, VALKEY, 80100, "HSETEX h PXAT 1700000000000 FIELDS 1 a 1",
     "! the target has no expiries of hash fields"},
    {DOWN_HSETEX, VALKEY, 80100, "HSETEX h FXX FIELDS 1 a 1", "HSET h a 1"},
    {DOWN_HSETEX, REDIS, 30200, "HSETEX h FIELDS 2 a 1 b 2", "HMSET h a 1 b 2"},
    {DOWN_HSETEX, VALKEY, 90000, "HSETEX h FXX FIELDS 1 a 1", "="},
    {DOWN_HSETEX, REDIS, 70400, "HSETEX h FIELDS 2 a 1", "="},
    {DOWN_HGETEX, REDIS, 70400, "HGETEX h PERSIST FIELDS 2 a b", "HPERSIST h FIELDS 2 a b"},
    {DOWN_HGETEX, REDIS, 70200, "HGETEX h PERSIST FIELDS 2 a b", "-"},
    {DOWN_HGETEX, REDIS, 70400, "HGETEX h FIELDS 1 a", "-"},
    {DOWN_HGETDEL, VALKEY, 90000, "HGETDEL h FIELDS 2 a b", "HDEL h a b"},
    {DOWN_HGETDEL, VALKEY, 90100, "HGETDEL h FIELDS 2 a b", "="},
    {DOWN_VECTORS, REDIS, 70400, "VADD v VALUES 1 1 e", "! the target has no vector sets"},
    {DOWN_VECTORS, VALKEY, 90100, "VREM v e", "! the target has no vector sets"},
    {DOWN_STREAM_REFS, REDIS, 70000, "XADD x KEEPREF MAXLEN = 3 5-1 f v",
     "XADD x MAXLEN = 3 5-1 f v"},
    {DOWN_STREAM_REFS, REDIS, 70000, "XADD x DELREF MAXLEN 3 5-1 f v",
     "XADD x 5-1 f v; EVAL ... 1 x MAXLEN 3; XTRIM x MAXLEN 3"},
    {DOWN_STREAM_REFS, REDIS, 70000, "XADD x DELREF 5-1 f v", "XADD x 5-1 f v"},
    {DOWN_STREAM_REFS, VALKEY, 90100, "XADD x DELREF MINID = 3-1 5-1 f v",
     "XADD x 5-1 f v; EVAL ... 1 x MINID 3 0; XTRIM x MINID = 3-1"},
    {DOWN_STREAM_REFS, REDIS, 60000, "XTRIM x MINID 3-1 DELREF",
     "EVAL ... 1 x MINID 3 0; EVAL ... 1 x 3 0"},
    {DOWN_STREAM_REFS, REDIS, 70000, "XTRIM x MAXLEN 3 KEEPREF", "XTRIM x MAXLEN 3"},
    {DOWN_STREAM_REFS, REDIS, 70000, "XTRIM x MAXLEN = 3 ACKED",
     "! the target cannot trim a stream by what its groups have ACKED"},
    {DOWN_STREAM_REFS, REDIS, 80200, "XTRIM x MAXLEN = 3 ACKED", "="},
    {DOWN_XDELEX, REDIS, 80000, "XDELEX x IDS 2 1-1 1-2", "XDEL x 1-1 1-2"},
    {DOWN_XDELEX, REDIS, 80000, "XDELEX x KEEPREF IDS 1 1-1", "XDEL x 1-1"},
    {DOWN_XDELEX, REDIS, 80000, "XDELEX x DELREF IDS 1 1-1", "EVAL ... 1 x DELREF ~~ ~~ 1-1"},
    {DOWN_XDELEX, REDIS, 80000, "XDELEX x IDS 2 1-1", "="},
    {DOWN_XACKDEL, VALKEY, 90100, "XACKDEL x g IDS 1 1-1", "EVAL ... 1 x KEEPREF 1 g 1-1"},
    {DOWN_XACKDEL, REDIS, 80000, "XACKDEL x g ACKED IDS 2 1-1 1-2",
     "EVAL ... 1 x ACKED 1 g 1-1 1-2"},
    {DOWN_BITOP, REDIS, 80000, "BITOP DIFF d x y z",
     "BITOP OR " T "0{d} y z; BITOP AND " T "0{d} x " T "0{d}; BITOP XOR d x " T "0{d}; DEL " T
     "0{d}"},
    {DOWN_BITOP, VALKEY, 90100, "BITOP DIFF1 a{t}d x y",
     "BITOP OR " T "0{t} y; BITOP OR " T "0{t} x " T "0{t}; BITOP XOR a{t}d x " T "0{t}; DEL " T
     "0{t}"},
    {DOWN_BITOP, REDIS, 80000, "BITOP andor d x y",
     "BITOP OR " T "0{d} y; BITOP AND d x " T "0{d}; DEL " T "0{d}"},
    {DOWN_BITOP, REDIS, 80000, "BITOP ONE d x",
     "BITOP AND " T "2{d} " T "0{d} x; BITOP OR " T "1{d} " T "1{d} " T "2{d}; BITOP OR " T
     "0{d} " T "0{d} x; BITOP XOR d " T "0{d} " T "1{d}; DEL " T "0{d} " T "1{d} " T "2{d}"},
    {DOWN_BITOP, REDIS, 80000, "BITOP XOR d x y", "="},
    {DOWN_SET_IFEQ, REDIS, 80000, "SET k v IFEQ old", "SET k v"},
    {DOWN_SET_IFEQ, REDIS, 80200, "SET k v IFEQ KEEPTTL KEEPTTL", "SET k v KEEPTTL"},
    {DOWN_SET_IFEQ, VALKEY, 80000, "SET k v PXAT 1700000000000 IFEQ old",
     "SET k v PXAT 1700000000000"},
    {DOWN_SET_IFEQ, REDIS, 60000, "SET k v PXAT 1700000000000 IFEQ old",
     "SET k v; PEXPIREAT k 1700000000000"},
    {DOWN_SET_IFEQ, VALKEY, 80100, "SET k v IFEQ old", "="},
    {DOWN_SET_IFNE, VALKEY, 90100, "SET k v IFNE old", "SET k v"},
    {DOWN_SET_IFNE, REDIS, 80200, "SET k v IFDEQ 00 KEEPTTL", "SET k v KEEPTTL"},
    {DOWN_SET_IFNE, REDIS, 80400, "SET k v IFDNE 00", "="},
    {DOWN_DELEX, VALKEY, 90100, "DELEX k", "DEL k"},
    {DOWN_DELEX, REDIS, 80200, "DELEX k IFEQ v", "DEL k"},
    {DOWN_DELIFEQ, REDIS, 80600, "DELIFEQ k v", "DEL k"},
    {DOWN_DELIFEQ, VALKEY, 90000, "DELIFEQ k v", "="},
    {DOWN_MSETEX, REDIS, 80200, "MSETEX 2 a 1 b 2", "MSET a 1 b 2"},
    {DOWN_MSETEX, REDIS, 80200, "MSETEX 2 a 1 b 2 XX PXAT 1700000000000",
     "SET a 1 PXAT 1700000000000; SET b 2 PXAT 1700000000000"},
    {DOWN_MSETEX, REDIS, 60000, "MSETEX 1 a 1 PXAT 1700000000000",
     "SET a 1; PEXPIREAT a 1700000000000"},
    {DOWN_MSETEX, VALKEY, 90000, "MSETEX 2 a 1 b 2 NX KEEPTTL", "SET a 1 KEEPTTL; SET b 2 KEEPTTL"},
    {DOWN_MSETEX, REDIS, 50000, "MSETEX 2 a 1 b 2 KEEPTTL", "EVAL ... 1 a 1; EVAL ... 1 b 2"},
    {DOWN_MSETEX, REDIS, 80200, "MSETEX 9 a 1", "="},
    {DOWN_XCFGSET, REDIS, 80200, "XCFGSET x IDMP-MAXSIZE 10", "-"},
    {DOWN_XCFGSET, REDIS, 80600, "XCFGSET x IDMP-MAXSIZE 10", "="},
    {DOWN_XIDMPRECORD, REDIS, 80200, "XIDMPRECORD x p i 5-1", "-"},
    {DOWN_IDMP, REDIS, 0, "XADD x IDMP p i 5-1 f v", "XADD x 5-1 f v; EVAL ... 1 x p i 5-1"},
    {DOWN_IDMP, REDIS, 80600, "XADD x IDMP p i 5-1 f v", "XADD x 5-1 f v"},
    {DOWN_IDMP, VALKEY, 90100, "XADD x IDMP p i MAXLEN = 3 5-1 f v", "XADD x MAXLEN = 3 5-1 f v"},
    {DOWN_IDMP, REDIS, 80602, "XADD x IDMPAUTO p 5-1 f v", "XADD x 5-1 f v"},
    {DOWN_IDMP, REDIS, 0, "XADD x IDMP p i * f v", "-"},
    {DOWN_TRIM_LIMIT, REDIS, 0, "XADD x MINID = 1-0 LIMIT 10 5-1 f v",
     "XADD x MINID = 1-0 5-1 f v"},
    {DOWN_TRIM_LIMIT, REDIS, 0, "XTRIM x MAXLEN = 3 LIMIT 10 ACKED", "XTRIM x MAXLEN = 3 ACKED"},
    {DOWN_TRIM_LIMIT, VALKEY, 0, "XADD x MAXLEN ~ 3 LIMIT 10 5-1 f v", "="},
    {DOWN_TRIM_LIMIT, REDIS, 60000, "XADD x MINID = 4-1 LIMIT 10 5-1 f v",
     "XADD x 5-1 f v; EVAL ... 1 x 4 0"},
};
enum { CASES = sizeof(cases) / sizeof(cases[0]) };

static void each_case_becomes_what_the_table_says(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < CASES; i++) {
        struct downgrade d;
        downgrade_init(&d, cases[i].valkey, cases[i].version, 12);
        const char *got = outcome(&d, cases[i].command, &b);
        if (strcmp(cases[i].want, got) != 0)
            fail_msg("%s for %s %d\n wanted %s\n got    %s", cases[i].command,
                     cases[i].valkey ? "Valkey" : "Redis", cases[i].version, cases[i].want, got);
        downgrade_free(&d);
    }
    buf_free(&b);
}

static void each_row_has_a_case_that_it_changes(void **state)
{
    (void)state;
    for (int row = 0; row < DOWN_ROWS; row++) {
        int n = row == DOWN_RESTORE; // a test of its own
        for (int i = 0; i < CASES; i++)
            n += cases[i].row == (enum downgrade_id)row && strcmp(cases[i].want, "=") != 0;
        if (n == 0)
            fail_msg("row %d (%s %s) has no case", row, downgrade_rows[row].commands,
                     downgrade_rows[row].option);
    }
}

static void a_target_as_new_as_the_row_gets_the_command_as_it_is(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < CASES; i++) {
        const struct downgrade_row *row = &downgrade_rows[cases[i].row];
        if (row->since_redis == DOWN_NEVER)
            continue;
        struct downgrade d;
        downgrade_init(&d, false, 0, RDB_VERSION_MAX);
        assert_string_equal(outcome(&d, cases[i].command, &b), "=");
        downgrade_free(&d);
    }
    buf_free(&b);
}

static void every_command_of_the_table_is_known(void **state)
{
    (void)state;
    for (int row = 0; row < DOWN_ROWS; row++) {
        char names[256];
        snprintf(names, sizeof(names), "%s", downgrade_rows[row].commands);
        for (char *save, *p = strtok_r(names, " ", &save); p; p = strtok_r(NULL, " ", &save))
            if (*p != '@' && !cmd_by_name(slice_cstr(p)))
                fail_msg("no command %s", p);
    }
}

static void arguments_that_are_cut_short_change_nothing_or_stay_within(void **state)
{
    (void)state;
    static const int versions[] = {30200, 40000, 50000, 60000, 70000, 70400, 80000, 0};
    struct buf b = {0};
    for (size_t v = 0; v < sizeof(versions) / sizeof(*versions); v++) {
        struct downgrade d;
        downgrade_init(&d, false, versions[v], 9);
        for (int i = 0; i < CASES; i++) {
            struct words words;
            split(&words, cases[i].command, EMPTY);
            for (int n = 1; n <= words.argc; n++) {
                // Of exactly this size, so that a sanitizer sees what reads past the end.
                struct slice *argv = xcalloc((size_t)n, sizeof(*argv));
                memcpy(argv, words.argv, (size_t)n * sizeof(*argv));
                enum rewrite_result r = downgrade_command(&d, cmd_lookup(n, argv), n, argv);
                if (r == REWRITE_CHANGED)
                    assert_true(d.out.argc > 0);
                free(argv);
            }
        }
        downgrade_free(&d);
    }
    buf_free(&b);
}

// ---- RESTORE ----

// "key", with a payload of this type that says this version; what becomes of it for a target.
static enum rewrite_result restored(struct downgrade *d, uint8_t type, uint16_t version,
                                    bool valkey, int target, int target_rdb)
{
    char payload[4 + DUMP_TRAILER] = {(char)type, 'r', 'a', 'w'};
    dump_trailer(type, slice_make(payload + 1, 3), version, (uint8_t *)payload + 4);
    struct slice argv[] = {SLICE("RESTORE"), SLICE("k"), SLICE("0"),
                           slice_make(payload, sizeof(payload)), SLICE("REPLACE")};
    downgrade_init(d, valkey, target, target_rdb);
    enum rewrite_result r = downgrade_command(d, cmd_lookup(5, argv), 5, argv);
    if (r == REWRITE_CHANGED) {
        assert_int_equal(d->out.argc, 5);
        assert_true(slice_eq(d->out.argv[4], argv[4]));
    }
    return r;
}

static int new_version(const struct downgrade *d)
{
    uint8_t type;
    uint16_t version;
    struct slice raw;
    struct err e;
    assert_int_equal(dump_parse(d->out.argv[3], &type, &raw, &version, &e), 0);
    assert_true(slice_eq(raw, SLICE("raw")));
    return version;
}

static void a_restored_value_gets_the_lowest_number_that_has_its_type(void **state)
{
    (void)state;
    static const struct {
        uint8_t type;
        uint16_t version;
        bool valkey;
        int target, rdb, want; // 0 as it is, -1 refused
    } values[] = {
        {0, 12, REDIS, 60000, 9, 6},     // a string
        {0, 9, REDIS, 60000, 9, 0},      //
        {17, 13, REDIS, 70000, 10, 10},  // listpack
        {17, 13, REDIS, 60000, 9, -1},   //
        {20, 80, REDIS, 80000, 12, 11},  // of a Valkey 9
        {22, 80, REDIS, 80000, 12, -1},  // a hash with expiries of its fields, Valkey's
        {17, 12, VALKEY, 90000, 80, 10}, // Valkey takes no 12
        {17, 11, VALKEY, 90000, 80, 0},  //
        {17, 80, VALKEY, 80100, 11, 10}, //
        {17, 13, REDIS, 81000, 15, 0},   //
        {7, 9, REDIS, 60016, 9, -1},     // of a module, at which such a server may exit
        {6, 8, REDIS, 40000, 8, -1},     //
        {7, 12, REDIS, 60200, 9, 8},     //
        {7, 9, VALKEY, 80000, 11, 0},    //
    };
    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        struct downgrade d;
        enum rewrite_result r = restored(&d, values[i].type, values[i].version, values[i].valkey,
                                         values[i].target, values[i].rdb);
        int got = r == REWRITE_AS_IS ? 0 : r == REWRITE_REFUSED ? -1 : new_version(&d);
        if (got != values[i].want)
            fail_msg("case %zu: %d", i, got);
        downgrade_free(&d);
    }
}

// ---- scripts for servers older or newer than those that tests can have ----

static struct redis_fixture server;

static int start(void **state)
{
    (void)state;
    // A newer one than that of the path knows expiries of fields.
    return redis_fixture_start(&server, getenv("GUNYU_TEST_SERVER")) ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    redis_fixture_stop(&server);
    return 0;
}

static const char *reply_to(struct slice cmd, int n, struct buf *b)
{
    struct redis_reply reply;
    struct err e = {0};
    buf_clear(b);
    int rc = redis_call_raw(server.client, cmd, n, &reply, &e);
    if (rc)
        buf_append_cstr(b, e.msg);
    else
        buf_append_slice(b, slice_make(reply.p, reply.n));
    return buf_cstr(b);
}

static const char *ask(const char *line, struct buf *b)
{
    struct buf text = {0};
    resp_put_cmd(&text, line);
    const char *answer = reply_to(buf_slice(&text), 1, b);
    buf_free(&text);
    return answer;
}

// What a target of this version gets instead of the command.
static void apply_as(int version, const char *line, struct buf *b)
{
    struct downgrade d;
    struct words words;
    struct buf text = {0};
    split(&words, line, EMPTY);
    downgrade_init(&d, false, version, 9);
    const struct cmd_info *info = cmd_lookup(words.argc, words.argv);
    assert_int_equal(downgrade_command(&d, info, words.argc, words.argv), REWRITE_CHANGED);
    resp_put_argv(&text, d.out.argc, d.out.argv);
    assert_int_equal(d.out.then_n, 0);
    assert_string_equal(reply_to(buf_slice(&text), 1, b), ":1\r\n");
    buf_free(&text);
    downgrade_free(&d);
}

static void keepttl_before_6_0_keeps_the_exact_expiry(void **state)
{
    (void)state;
    struct buf b = {0};
    ask("SET k v PXAT 4000000000123", &b);
    for (int i = 0; i < 20; i++) {
        apply_as(50000, "SET k 1.5 KEEPTTL", &b);
        assert_string_equal(ask("PEXPIRETIME k", &b), ":4000000000123\r\n");
    }
    assert_string_equal(ask("GET k", &b), "$3\r\n1.5\r\n");
    apply_as(50000, "SET new 1 KEEPTTL", &b);
    assert_string_equal(ask("PTTL new", &b), ":-1\r\n");
    buf_free(&b);
}

static void keepttl_of_fields_keeps_the_exact_expiry(void **state)
{
    (void)state;
    struct buf b = {0};
    if (strstr(ask("HPEXPIRETIME none FIELDS 1 a", &b), "unknown command")) {
        buf_free(&b);
        skip();
    }
    ask("HSET h a 1 b 2", &b);
    ask("HPEXPIREAT h 4000000000123 FIELDS 1 a", &b);
    apply_as(70400, "HSETEX h KEEPTTL FIELDS 3 a 1.5 b 2.5 c 3.5", &b);
    assert_string_equal(ask("HPEXPIRETIME h FIELDS 3 a b c", &b),
                        "*3\r\n:4000000000123\r\n:-1\r\n:-1\r\n");
    assert_string_equal(ask("HMGET h a b c", &b), "*3\r\n$3\r\n1.5\r\n$3\r\n2.5\r\n$3\r\n3.5\r\n");
    apply_as(70400, "HSETEX fresh KEEPTTL FIELDS 1 a 1", &b);
    assert_string_equal(ask("HGET fresh a", &b), "$1\r\n1\r\n");
    buf_free(&b);
}

// ---- the document ----

static void put_version(struct buf *b, int version)
{
    if (version == 0)
        buf_append_cstr(b, "all");
    else if (version == DOWN_NEVER)
        buf_append_cstr(b, "none");
    else
        buf_printf(b, version % 100 ? "%d.%d.%d" : "%d.%d", version / 10000, version / 100 % 100,
                   version % 100);
}

static void the_document_has_the_table(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int row = 0; row < DOWN_ROWS; row++) {
        const struct downgrade_row *r = &downgrade_rows[row];
        buf_append_cstr(&b, "| ");
        for (const char *p = r->commands; *p; p++) {
            if (*p == '@')
                buf_append_cstr(&b, "all of group ");
            else if (*p == ' ')
                buf_append_cstr(&b, ", ");
            else
                buf_append_char(&b, *p == '|' ? ' ' : (char)(*p >= 'a' ? *p & ~0x20 : *p));
        }
        buf_printf(&b, " | %s | ", r->option);
        put_version(&b, r->since_redis);
        buf_append_cstr(&b, " | ");
        put_version(&b, r->since_valkey);
        const char *how = r->fn == downgrade_refuse ? "refused: "
                          : r->fn == downgrade_drop ? "nothing: "
                                                    : "";
        buf_printf(&b, " | %s%s |\n", how, r->becomes);
    }
    char *document = read_source("docs/stream-rewrites.md");
    if (!strstr(document, buf_cstr(&b))) {
        fputs(b.p, stderr);
        fail_msg("this is the table that docs/stream-rewrites.md should have");
    }
    free(document);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_case_becomes_what_the_table_says),
        cmocka_unit_test(each_row_has_a_case_that_it_changes),
        cmocka_unit_test(a_target_as_new_as_the_row_gets_the_command_as_it_is),
        cmocka_unit_test(every_command_of_the_table_is_known),
        cmocka_unit_test(arguments_that_are_cut_short_change_nothing_or_stay_within),
        cmocka_unit_test(a_restored_value_gets_the_lowest_number_that_has_its_type),
        cmocka_unit_test(keepttl_before_6_0_keeps_the_exact_expiry),
        cmocka_unit_test(keepttl_of_fields_keeps_the_exact_expiry),
        cmocka_unit_test(the_document_has_the_table),
    };
    return cmocka_run_group_tests(tests, start, stop);
}

// SPDX-License-Identifier: Apache-2.0
#include "flow/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/buf.h"
#include "codec/slot.h"
#include "source_tree.h"
#include "words.h"

static struct route route;
static struct words cmd;

static int clean(void **state)
{
    (void)state;
    route_free(&route);
    return 0;
}

static enum route_kind ask(const char *line)
{
    split(&cmd, line, "''");
    return route_command(&route, cmd_lookup(cmd.argc, cmd.argv), cmd.argc, cmd.argv);
}

static int slot(const char *key)
{
    return slot_of(slice_cstr(key));
}

static void goes_to(const char *line, const char *key)
{
    if (ask(line) != ROUTE_SLOT || route.slot != slot(key))
        fail_msg("%s: kind %d, slot %d", line, route.kind, route.slot);
}

static void is_refused(const char *line, const char *why)
{
    if (ask(line) != ROUTE_REFUSED || !strstr(route.reason, why))
        fail_msg("%s: kind %d, %s", line, route.kind, route.reason ? route.reason : "no reason");
}

static void splits(const char *line, const char *want)
{
    struct buf got = {0};
    if (ask(line) != ROUTE_SPLIT)
        fail_msg("%s: kind %d", line, route.kind);
    for (int i = 0; i < route.slots_n; i++) {
        struct rewrite_cmd part = route_part(&route, i);
        const struct cmd_info *info = cmd_lookup(part.argc, part.argv);
        int pos[ARGS_MAX], keys = cmd_keys(info, part.argc, part.argv, pos);
        assert_int_equal(keys, route.slots[i].keys);
        for (int k = 0; k < keys; k++)
            assert_int_equal(slot_of(part.argv[pos[k]]), route.slots[i].slot);
        buf_append_cstr(&got, i ? "; " : "");
        for (int k = 0; k < part.argc; k++) {
            buf_append_cstr(&got, k ? " " : "");
            buf_append_slice(&got, part.argv[k]);
        }
    }
    assert_string_equal(buf_cstr(&got), want);
    buf_free(&got);
}

// written and drained: the keys.
static void is_staged(const char *line, const char *written, const char *drained)
{
    if (ask(line) != ROUTE_STAGE)
        fail_msg("%s: kind %d", line, route.kind);
    assert_int_equal(route.slot, slot(written));
    assert_true(slice_eq(cmd.argv[route.written], slice_cstr(written)));
    if (!drained)
        assert_int_equal(route.drained, 0);
    else
        assert_true(slice_eq(cmd.argv[route.drained], slice_cstr(drained)));
}

static void keys_of_one_slot_go_to_its_owner(void **state)
{
    (void)state;
    goes_to("SET a 1", "a");
    goes_to("DEL {t}a {t}b", "t");
    goes_to("MSETNX {t}a 1 {t}b 2", "t");
    goes_to("RENAME {t}a {t}b", "t");
    goes_to("SUNIONSTORE {t}d {t}a {t}b", "t");
    goes_to("EVAL return 2 {t}a {t}b", "t");
    goes_to("SORT a BY w_* GET #", "a");
    goes_to("XGROUP CREATE s g $", "s");
    goes_to("GETSET '' v", "");
    goes_to("MOVE a 1", "a");
}

static void messages_go_to_the_slot_of_their_channel(void **state)
{
    (void)state;
    goes_to("PUBLISH news hello", "news");
    goes_to("SPUBLISH news hello", "news");
    is_refused("PUBLISH news", "arguments");
}

static void what_splits_goes_in_parts_that_keep_their_order(void **state)
{
    (void)state;
    splits("DEL {a}1 {b}1 {a}2 {c}1 {b}2 {a}3", "DEL {a}1 {a}2 {a}3; DEL {b}1 {b}2; DEL {c}1");
    splits("unlink a b", "unlink a; unlink b");
    splits("TOUCH a b", "TOUCH a; TOUCH b");
    splits("MSET {a}1 x {b}1 y {a}1 z", "MSET {a}1 x {a}1 z; MSET {b}1 y");
    splits("JSON.MSET a $ 1 b $ 2", "JSON.MSET a $ 1; JSON.MSET b $ 2");
    splits("TS.MADD a 1 2 b 3 4", "TS.MADD a 1 2; TS.MADD b 3 4");
}

static void conditions_that_held_at_the_source_are_left_out_of_parts(void **state)
{
    (void)state;
    splits("MSETNX {a}1 x {b}1 y {a}2 z", "MSET {a}1 x {a}2 z; MSET {b}1 y");
    splits("MSETEX 3 {a}1 x {b}1 y {a}2 z NX PXAT 99",
           "MSETEX 2 {a}1 x {a}2 z PXAT 99; MSETEX 1 {b}1 y PXAT 99");
    splits("MSETEX 2 a x b nx KEEPTTL xx", "MSETEX 1 a x KEEPTTL; MSETEX 1 b nx KEEPTTL");
}

static void what_reads_one_slot_and_writes_another_is_staged(void **state)
{
    (void)state;
    is_staged("SUNIONSTORE d a b", "d", NULL);
    is_staged("SINTERSTORE d a", "d", NULL);
    is_staged("SDIFFSTORE d a b", "d", NULL);
    is_staged("ZUNIONSTORE d 2 a b WEIGHTS 1 2", "d", NULL);
    is_staged("ZINTERSTORE d 2 a b AGGREGATE MAX", "d", NULL);
    is_staged("ZDIFFSTORE d 2 a b", "d", NULL);
    is_staged("ZRANGESTORE d a 0 -1", "d", NULL);
    is_staged("GEOSEARCHSTORE d a FROMLONLAT 1 2 BYRADIUS 3 km", "d", NULL);
    is_staged("PFMERGE d a b", "d", NULL);
    is_staged("BITOP AND d a b", "d", NULL);
    is_staged("CMS.MERGE d 2 a b", "d", NULL);
    is_staged("TDIGEST.MERGE d 2 a b", "d", NULL);
    is_staged("COPY a d REPLACE", "d", NULL);
    is_staged("SORT a BY nosort STORE d", "d", NULL);
    is_staged("GEORADIUS a 1 2 3 km STORE d", "d", NULL);
    is_staged("GEORADIUSBYMEMBER a m 3 km STOREDIST d", "d", NULL);
    is_staged("RENAME a d", "d", "a");
    is_staged("RENAMENX a d", "d", "a");
    is_staged("SMOVE a d m", "d", "a");
    is_staged("LMOVE a d LEFT RIGHT", "d", "a");
    is_staged("BLMOVE a d LEFT RIGHT 0", "d", "a");
    is_staged("RPOPLPUSH a d", "d", "a");
    is_staged("BRPOPLPUSH a d 0", "d", "a");
}

static void what_belongs_to_no_key_goes_to_every_master(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "FLUSHALL",        "FLUSHDB ASYNC",
        "SCRIPT LOAD x",   "SCRIPT FLUSH",
        "FUNCTION LOAD x", "FUNCTION DELETE name",
        "FUNCTION FLUSH",  "FUNCTION RESTORE x",
        "FT.DROP i",       "FT.CREATE i SCHEMA f TEXT",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        if (ask(lines[i]) != ROUTE_EVERY)
            fail_msg("%s: kind %d", lines[i], route.kind);
}

static void what_has_no_place_is_refused_with_the_reason(void **state)
{
    (void)state;
    is_refused("EVAL return 0", "script that names no keys");
    is_refused("FCALL f 0 x", "script that names no keys");
    is_refused("EVAL return 2 a b", "keys of the script lie in several slots");
    is_refused("FCALL f 2 a b", "keys of the script lie in several slots");
    is_refused("SWAPDB 0 1", "SWAPDB");
    is_refused("NEW.COMMAND a", "unknown");
    is_refused("EVAL return 3 a", "arguments");
    is_refused("SET a", "arguments");
    is_refused("MSET a 1 b", "lacks its arguments");
    is_refused("CONFIG SET a b", "server");
    is_refused("MIGRATE h 1 '' 0 5 KEYS a b", "server");
    is_refused("RANDOMKEY", "names no key");
    is_refused("TS.CREATERULE a b AGGREGATION avg 1", "several slots");
    is_refused("LMPOP 2 a b LEFT", "several slots");
    split(&cmd, "", "''");
    assert_int_equal(route_command(&route, NULL, 0, cmd.argv), ROUTE_REFUSED);
}

static void slots_are_told_once_in_the_order_of_their_keys(void **state)
{
    (void)state;
    assert_int_equal(ask("SUNIONSTORE {c}d {a}1 {c}1 {b}1 {a}2"), ROUTE_STAGE);
    assert_int_equal(route.slots_n, 3);
    assert_int_equal(route.slots[0].slot, slot("c"));
    assert_int_equal(route.slots[0].keys, 2);
    assert_int_equal(route.slots[1].slot, slot("a"));
    assert_int_equal(route.slots[2].slot, slot("b"));
    assert_int_equal(ask("DEL {a}1 {a}2"), ROUTE_SLOT);
    assert_int_equal(route.slots_n, 1);
    assert_int_equal(route.slots[0].keys, 2);
    assert_int_equal(ask("FLUSHALL"), ROUTE_EVERY);
    assert_int_equal(route.slots_n, 0);
    assert_int_equal(ask("DEL a b c"), ROUTE_SPLIT);
    assert_int_equal(route.slots_n, 3);
}

static void parts_of_a_huge_command_are_the_command(void **state)
{
    (void)state;
    enum { KEYS = 60000 };
    struct slice *argv = calloc(KEYS + 1, sizeof(*argv));
    char(*names)[8] = calloc(KEYS, sizeof(*names));
    bool *seen = calloc(KEYS, sizeof(*seen));
    argv[0] = SLICE("DEL");
    for (int i = 0; i < KEYS; i++)
        argv[i + 1] = slice_make(names[i], (size_t)snprintf(names[i], sizeof(names[i]), "%d", i));
    assert_int_equal(route_command(&route, cmd_lookup(KEYS + 1, argv), KEYS + 1, argv),
                     ROUTE_SPLIT);
    int sum = 0;
    for (int i = 0; i < route.slots_n; i++) {
        struct rewrite_cmd part = route_part(&route, i);
        for (int k = 1; k < part.argc; k++) {
            int64_t key;
            assert_int_equal(slot_of(part.argv[k]), route.slots[i].slot);
            assert_true(slice_i64(part.argv[k], &key) && !seen[key]);
            seen[key] = true;
            sum++;
        }
    }
    assert_int_equal(sum, KEYS);
    assert_true(route.slots_n > 15000);
    free(argv);
    free(names);
    free(seen);
}

// Scripts apart: what writes several keys and is refused is in this list, so that a new command is
// thought about.
static void no_write_of_several_keys_was_forgotten(void **state)
{
    (void)state;
    static const char *const refused[] = {
        "lmpop",    "blmpop",   "zmpop",      "bzmpop",        "blpop",         "brpop",
        "bzpopmin", "bzpopmax", "xreadgroup", "ts.createrule", "ts.deleterule",
    };
    char *corpus = read_source("tests/data/getkeys-corpus.txt"), *save;
    int several = 0;
    for (char *line = strtok_r(corpus, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (*line == '#' || *line == '!')
            continue;
        split(&cmd, line, "''");
        const struct cmd_info *info = cmd_lookup(cmd.argc, cmd.argv);
        if (!info || !(info->flags & CMD_WRITE) || info->flags & CMD_ADMIN ||
            !strcmp(info->group, "SCRIPTING") || ask(line) == ROUTE_SLOT || route.keys < 2)
            continue;
        several++;
        bool listed = false;
        for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
            listed |= !strcmp(refused[i], info->name);
        if ((route.kind == ROUTE_REFUSED) != listed)
            fail_msg("%s: kind %d", line, route.kind);
    }
    assert_true(several > 20);
    free(corpus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_one_slot_go_to_its_owner),
        cmocka_unit_test(messages_go_to_the_slot_of_their_channel),
        cmocka_unit_test(what_splits_goes_in_parts_that_keep_their_order),
        cmocka_unit_test(conditions_that_held_at_the_source_are_left_out_of_parts),
        cmocka_unit_test(what_reads_one_slot_and_writes_another_is_staged),
        cmocka_unit_test(what_belongs_to_no_key_goes_to_every_master),
        cmocka_unit_test(what_has_no_place_is_refused_with_the_reason),
        cmocka_unit_test(slots_are_told_once_in_the_order_of_their_keys),
        cmocka_unit_test(parts_of_a_huge_command_are_the_command),
        cmocka_unit_test(no_write_of_several_keys_was_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, clean);
}

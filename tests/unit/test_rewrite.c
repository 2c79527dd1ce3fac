// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "flow/expiry.h"
#include "flow/rewrite.h"
#include "redis_fixture.h"
#include "words.h"

// now 1700000000000; what lies before 1700000100000 is held where a case asks for it.
#define NOW 1700000000000
#define HOLD 1700000100000
// 2^45 ms + the time
#define FAR(ms) ((ms) + 35184372088832)

#define EMPTY "~"

static void put_words(struct buf *b, int argc, const struct slice *argv)
{
    for (int i = 0; i < argc; i++) {
        if (i)
            buf_append_char(b, ' ');
        buf_append_slice(b, argv[i].n ? argv[i] : SLICE(EMPTY));
    }
}

// What becomes of a command, as text: "=" as is, "-" dropped, "!" refused, else the commands, then
// " | " and what is held.
static const char *outcome(struct rewrite *w, const struct rewrite_input *in, const char *line,
                           struct buf *b)
{
    struct words words;
    split(&words, line, EMPTY);
    const struct cmd_info *info = cmd_lookup(words.argc, words.argv);
    w->reason = NULL;
    enum rewrite_result r = rewrite_command(w, in, info, words.argc, words.argv);
    buf_clear(b);
    if (r != REWRITE_CHANGED)
        assert_int_equal(w->expiries, 0);
    if (r == REWRITE_DROP || r == REWRITE_REFUSED)
        assert_non_null(w->reason);
    switch (r) {
    case REWRITE_AS_IS:
        return "=";
    case REWRITE_DROP:
        return "-";
    case REWRITE_REFUSED:
        return "!";
    case REWRITE_CHANGED:
        break;
    }
    put_words(b, w->argc, w->argv);
    for (int i = 0; i < w->then_n; i++) {
        buf_append_cstr(b, "; ");
        put_words(b, w->then[i].argc, w->then[i].argv);
    }
    for (int i = 0; i < w->expiries; i++) {
        const struct rewrite_expiry *x = &w->expiry[i];
        assert_true(x->held);
        buf_append_cstr(b, i ? " " : " | ");
        put_words(b, 1, &x->key);
        if (x->field.p) {
            buf_append_char(b, '/');
            put_words(b, 1, &x->field);
        }
        buf_printf(b, "@%lld", (long long)x->true_ms);
    }
    return buf_cstr(b);
}

struct rewrite_case {
    const char *command, *plain, *holding;
};

static const struct rewrite_dbs no_mapping = {0};

static void check_cases(const struct rewrite_case *cases, size_t n, struct rewrite_input in)
{
    struct rewrite w = {0};
    struct buf b = {0};
    in.now_ms = NOW;
    if (!in.dbs)
        in.dbs = &no_mapping;
    for (size_t i = 0; i < n; i++) {
        for (int hold = 0; hold < 2; hold++) {
            in.hold_before = hold ? HOLD : 0;
            const char *want = hold && cases[i].holding ? cases[i].holding : cases[i].plain;
            const char *got = outcome(&w, &in, cases[i].command, &b);
            if (strcmp(want, got) != 0)
                fail_msg("%s (%s)\n wanted %s\n got    %s", cases[i].command,
                         hold ? "holding" : "plain", want, got);
        }
    }
    buf_free(&b);
    rewrite_free(&w);
}
#define CHECK(cases, ...)                                                                          \
    check_cases(cases, sizeof(cases) / sizeof(*(cases)), (struct rewrite_input){__VA_ARGS__})

// ---- expiry ----

static void far_expiries_are_told_from_true_ones_and_keep_their_order(void **state)
{
    (void)state;
    int64_t times[] = {EXPIRY_TRUE_MIN, 1700000000000, 1700000000001, EXPIRY_TRUE_MAX};
    for (size_t i = 0; i < 4; i++) {
        assert_true(expiry_can_be_far(times[i]));
        assert_false(expiry_is_far(times[i]));
        assert_true(expiry_is_far(expiry_far(times[i])));
        assert_true(expiry_true(expiry_far(times[i])) == times[i]);
        assert_true(expiry_true(times[i]) == times[i]);
        if (i)
            assert_true(expiry_far(times[i]) > expiry_far(times[i - 1]));
    }
    assert_false(expiry_can_be_far(EXPIRY_TRUE_MIN - 1));
    assert_false(expiry_can_be_far(EXPIRY_TRUE_MAX + 1));
    assert_false(expiry_is_far(expiry_far(EXPIRY_TRUE_MIN) - 1));
    assert_false(expiry_is_far(expiry_far(EXPIRY_TRUE_MAX) + 1));
    assert_false(expiry_is_far(INT64_MAX) || expiry_is_far(INT64_MIN) || expiry_is_far(-1));
    assert_true(FAR(0) == EXPIRY_FAR_SHIFT);
}

static void relative_expiries_become_absolute_and_near_ones_far(void **state)
{
    (void)state;
    static const struct rewrite_case cases[] = {
        {"EXPIRE k 10", "PEXPIREAT k 1700000010000",
         "PEXPIREAT k 36884372098832 | k@1700000010000"},
        {"expire k 100", "PEXPIREAT k 1700000100000", NULL},
        {"PEXPIRE k 99999", "PEXPIREAT k 1700000099999",
         "PEXPIREAT k 36884372188831 | k@1700000099999"},
        {"PEXPIRE k 100000", "PEXPIREAT k 1700000100000", NULL},
        {"EXPIRE k -5", "PEXPIREAT k 1699999995000",
         "PEXPIREAT k 36884372083832 | k@1699999995000"},
        {"EXPIREAT k 1700000010", "=", "PEXPIREAT k 36884372098832 | k@1700000010000"},
        {"EXPIREAT k 1700000100", "=", NULL},
        {"PEXPIREAT k 1700000010000", "=", "PEXPIREAT k 36884372098832 | k@1700000010000"},
        {"PEXPIREAT ~ 1700000010000", "=", "PEXPIREAT ~ 36884372098832 | ~@1700000010000"},
        {"PEXPIREAT k 1700000100000", "=", NULL},
        {"PEXPIREAT k 36884372098832", "=", NULL}, // far already
        // Before 2004: expired at the source as well, its DEL follows.
        {"PEXPIREAT k 1", "=", NULL},
        {"PEXPIREAT k -1", "=", NULL},
        {"SETEX k 10 v", "SET k v PXAT 1700000010000",
         "SET k v PXAT 36884372098832 | k@1700000010000"},
        {"PSETEX k 10 v", "SET k v PXAT 1700000000010",
         "SET k v PXAT 36884372088842 | k@1700000000010"},
        {"SETEX k 1000 EX", "SET k EX PXAT 1700001000000", NULL},
        {"SET k v", "=", NULL},
        {"SET k v NX", "=", NULL},
        {"SET k v KEEPTTL GET", "=", NULL},
        {"SET EX PX", "=", NULL},
        {"SET k v EX 10", "SET k v PXAT 1700000010000",
         "SET k v PXAT 36884372098832 | k@1700000010000"},
        {"SET k v NX px 10 GET", "SET k v NX GET PXAT 1700000000010",
         "SET k v NX GET PXAT 36884372088842 | k@1700000000010"},
        {"SET k v EXAT 1700000010", "=", "SET k v PXAT 36884372098832 | k@1700000010000"},
        {"SET k v PXAT 1700000010000", "=", "SET k v PXAT 36884372098832 | k@1700000010000"},
        {"SET k v PXAT 1700000100000", "=", NULL},
        {"SET k v IFEQ EX EX 10", "SET k v IFEQ EX PXAT 1700000010000",
         "SET k v IFEQ EX PXAT 36884372098832 | k@1700000010000"},
        {"SET k v IFEQ EX", "=", NULL},
        {"MSETEX 2 a 1 EX 10 EX 10", "MSETEX 2 a 1 EX 10 PXAT 1700000010000",
         "MSETEX 2 a 1 EX 10 PXAT 36884372098832 | a@1700000010000 EX@1700000010000"},
        {"MSETEX 1 a 1 NX PXAT 1700000010000 XX", "=",
         "MSETEX 1 a 1 NX PXAT 36884372098832 XX | a@1700000010000"},
        {"MSETEX 1 a 1 KEEPTTL", "=", NULL},
        {"GETEX k EX 10", "PEXPIREAT k 1700000010000",
         "PEXPIREAT k 36884372098832 | k@1700000010000"},
        {"GETEX k PXAT 1700000010000", "PEXPIREAT k 1700000010000",
         "PEXPIREAT k 36884372098832 | k@1700000010000"},
        {"GETEX k PERSIST", "=", NULL},
        {"GETEX k", "=", NULL},
        {"DEL k", "=", NULL},
        {"PERSIST k", "=", NULL},
        {"NOSUCHCOMMAND k EX 10", "=", NULL},
    };
    CHECK(cases);
}

static void conditions_that_held_at_the_source_are_not_asked_again(void **state)
{
    (void)state;
    static const struct rewrite_case cases[] = {
        {"PEXPIREAT k 1700000010000 GT", "PEXPIREAT k 1700000010000",
         "PEXPIREAT k 36884372098832 | k@1700000010000"},
        {"PEXPIREAT k 1700000100000 xx lt", "PEXPIREAT k 1700000100000", NULL},
        {"EXPIRE k 1000 NX", "PEXPIREAT k 1700001000000", NULL},
        {"PEXPIREAT k 1700000100000 GT NEWOPTION", "PEXPIREAT k 1700000100000 NEWOPTION", NULL},
        {"HPEXPIREAT h 1700000100000 GT FIELDS 1 GT", "HPEXPIREAT h 1700000100000 FIELDS 1 GT",
         NULL},
    };
    CHECK(cases);
    CHECK(cases, .target_version = 60016);
    // A Valkey source also names the fields that did not meet it.
    static const struct rewrite_case valkey[] = {
        {"PEXPIREAT k 1700000100000 GT", "PEXPIREAT k 1700000100000", NULL},
        {"HPEXPIREAT h 1700000010000 GT FIELDS 2 a b", "=", NULL},
        {"HPEXPIREAT h 1700000010000 LT FIELDS 2 a b", "=", NULL},
        {"HPEXPIREAT h 1700000010000 NX FIELDS 2 a b", "=",
         "HPEXPIREAT h 36884372098832 NX FIELDS 2 a b | h/a@1700000010000 h/b@1700000010000"},
        {"HEXPIRE h 10 GT FIELDS 1 a", "HPEXPIREAT h 1700000010000 GT FIELDS 1 a", NULL},
        {"HPEXPIREAT h 1700000010000 FIELDS 1 a", "=",
         "HPEXPIREAT h 36884372098832 FIELDS 1 a | h/a@1700000010000"},
    };
    CHECK(valkey, .source_is_valkey = true);
}

static void hash_fields_are_held_one_by_one(void **state)
{
    (void)state;
    static const struct rewrite_case cases[] = {
        {"HEXPIRE h 10 FIELDS 2 a ~", "HPEXPIREAT h 1700000010000 FIELDS 2 a ~",
         "HPEXPIREAT h 36884372098832 FIELDS 2 a ~ | h/a@1700000010000 h/~@1700000010000"},
        {"HPEXPIRE h 10 XX FIELDS 1 a", "HPEXPIREAT h 1700000000010 FIELDS 1 a",
         "HPEXPIREAT h 36884372088842 FIELDS 1 a | h/a@1700000000010"},
        {"HEXPIREAT h 1700000010 FIELDS 1 FIELDS", "=",
         "HPEXPIREAT h 36884372098832 FIELDS 1 FIELDS | h/FIELDS@1700000010000"},
        {"HPEXPIREAT h 1700000100000 FIELDS 1 a", "=", NULL},
        {"HSETEX h EX 10 FIELDS 2 a 1 b 2", "HSETEX h PXAT 1700000010000 FIELDS 2 a 1 b 2",
         "HSETEX h PXAT 36884372098832 FIELDS 2 a 1 b 2 | h/a@1700000010000 h/b@1700000010000"},
        {"HSETEX h FNX PX 10 FIELDS 1 a EX", "HSETEX h FNX PXAT 1700000000010 FIELDS 1 a EX",
         "HSETEX h FNX PXAT 36884372088842 FIELDS 1 a EX | h/a@1700000000010"},
        {"HSETEX h FIELDS 1 a EX PXAT 1700000010000", "=",
         "HSETEX h FIELDS 1 a EX PXAT 36884372098832 | h/a@1700000010000"},
        {"HSETEX h PXAT 1700000100000 FIELDS 1 a 1", "=", NULL},
        {"HSETEX h KEEPTTL FIELDS 1 EX 10", "=", NULL},
        {"HSET h EX 10", "=", NULL},
        {"HGETEX h EX 10 FIELDS 1 a", "HPEXPIREAT h 1700000010000 FIELDS 1 a",
         "HPEXPIREAT h 36884372098832 FIELDS 1 a | h/a@1700000010000"},
        {"HGETEX h PXAT 1700000100000 FIELDS 2 a b", "HPEXPIREAT h 1700000100000 FIELDS 2 a b",
         NULL},
        {"HGETEX h PERSIST FIELDS 1 a", "=", NULL},
        {"HGETEX h FIELDS 1 a", "=", NULL},
    };
    CHECK(cases);
}

static void bug_9_restore_asking_is_applied_as_restore(void **state)
{
    (void)state;
    static const struct rewrite_case cases[] = {
        {"RESTORE-ASKING k 0 p REPLACE ABSTTL", "RESTORE k 0 p REPLACE", NULL},
        {"RESTORE-ASKING k 1700000100000 p ABSTTL REPLACE IDLETIME 5",
         "RESTORE k 1700000100000 p IDLETIME 5 REPLACE ABSTTL", NULL},
        {"restore-asking k 10 p", "RESTORE k 1700000000010 p REPLACE ABSTTL",
         "RESTORE k 36884372088842 p REPLACE ABSTTL | k@1700000000010"},
        {"RESTORE k 0 p", "=", NULL},
        {"RESTORE k 0 p ABSTTL", "=", NULL},
        {"RESTORE k 1000 p FREQ 3", "RESTORE k 1700000001000 p FREQ 3 ABSTTL",
         "RESTORE k 36884372089832 p FREQ 3 ABSTTL | k@1700000001000"},
        {"RESTORE k 1700000010000 p REPLACE ABSTTL", "=",
         "RESTORE k 36884372098832 p REPLACE ABSTTL | k@1700000010000"},
        {"RESTORE k 1700000100000 p REPLACE ABSTTL", "=", NULL},
    };
    CHECK(cases);
    static const struct rewrite_case old[] = {
        {"RESTORE-ASKING k 1700000000700 p ABSTTL REPLACE IDLETIME 5", "RESTORE k 700 p REPLACE",
         "RESTORE k 35184372089532 p REPLACE | k@1700000000700"},
        {"RESTORE k 1600000000000 p ABSTTL", "RESTORE k 1 p",
         "RESTORE k 35084372088832 p | k@1600000000000"},
        {"RESTORE k 0 p REPLACE FREQ 3", "RESTORE k 0 p REPLACE", NULL},
    };
    CHECK(old, .target_version = 40000);
}

static void targets_without_pxat_get_the_expiry_in_a_command_of_its_own(void **state)
{
    (void)state;
    static const struct rewrite_case cases[] = {
        {"SET k v PXAT 1700000100000", "SET k v; PEXPIREAT k 1700000100000", NULL},
        {"SET k v XX GET EXAT 1700000010", "SET k v XX; PEXPIREAT k 1700000010000",
         "SET k v XX; PEXPIREAT k 36884372098832 | k@1700000010000"},
        {"SETEX k 1000 v", "SET k v; PEXPIREAT k 1700001000000", NULL},
        {"SET k v", "=", NULL},
    };
    CHECK(cases, .target_version = 60016, .several = true);
    static const struct rewrite_case one[] = {
        {"SET k v PXAT 1700000100000", "PSETEX k 100000 v", NULL},
        {"SET k v PXAT 1600000000000", "PSETEX k 1 v",
         "PSETEX k 35084372088832 v | k@1600000000000"},
    };
    CHECK(one, .target_version = 60016);
}

static void what_is_no_layout_of_the_command_leaves_as_it_is(void **state)
{
    (void)state;
    static const struct rewrite_case cases[] = {
        {"EXPIRE", "=", NULL},
        {"EXPIRE k", "=", NULL},
        {"EXPIRE k x", "=", NULL},
        {"EXPIRE k 9223372036854775", "=", NULL},
        {"EXPIRE k 9223372036854775807", "=", NULL},
        {"PEXPIRE k 9223372036854775807", "=", NULL},
        {"EXPIREAT k -9223372036854775808", "=", NULL},
        {"SETEX k 1", "=", NULL},
        {"SETEX k x v", "=", NULL},
        {"SETEX k 1 v v", "=", NULL},
        {"SET", "=", NULL},
        {"SET k", "=", NULL},
        {"SET k v EX", "=", NULL},
        {"SET k v EX x", "=", NULL},
        {"MSETEX", "=", NULL},
        {"MSETEX 0 a 1 EX 1", "=", NULL},
        {"MSETEX -1 a 1 EX 1", "=", NULL},
        {"MSETEX 99999999999 a 1 EX 1", "=", NULL},
        {"MSETEX 2147483647 a 1 EX 1", "=", NULL},
        {"GETEX", "=", NULL},
        {"GETEX k EX", "=", NULL},
        {"RESTORE k", "=", NULL},
        {"RESTORE k -1 p", "=", NULL},
        {"RESTORE k x p", "=", NULL},
        {"RESTORE-ASKING", "=", NULL},
        {"HEXPIRE h 1 FIELDS 1", "=", NULL},
        {"HEXPIRE h 1 FIELDS 3 a b", "=", NULL},
        {"HEXPIRE h 1 FIELDS 0 a", "=", NULL},
        {"HEXPIRE h 1 a b c d", "=", NULL},
        {"HEXPIRE h 1 a b FIELDS", "=", NULL},
        {"HSETEX h EX 1 FIELDS 2 a 1 b", "=", NULL},
        {"HSETEX h FIELDS 1 a 1 EX", "=", NULL},
        {"HSETEX h EX FIELDS 1 a 1", "=", NULL},
        {"HGETEX h EX", "=", NULL},
        {"HGETEX h EX 1 FIELDS 2147483647 a", "=", NULL},
        {"SELECT", "=", NULL},
        {"SELECT x", "=", NULL},
        {"SELECT -1", "=", NULL},
        {"SWAPDB 0", "=", NULL},
        {"SWAPDB 0 x", "=", NULL},
        {"MOVE k", "=", NULL},
        {"MOVE k x", "=", NULL},
        {"COPY", "=", NULL},
        {"COPY a b DB", "=", NULL},
        {"COPY a b DB x", "=", NULL},
        {"FLUSHALL ASYNC SYNC", "=", NULL},
    };
    CHECK(cases);
    static const int map[] = {1, 0};
    CHECK(cases, .dbs = &(struct rewrite_dbs){.map = map, .map_n = 2});
}

// ---- dbs ----

static void without_a_mapping_dbs_are_left_alone(void **state)
{
    (void)state;
    static const struct rewrite_case cases[] = {
        {"SELECT 5", "=", NULL},      {"SWAPDB 0 1", "=", NULL},    {"MOVE k 1", "=", NULL},
        {"COPY a b DB 3", "=", NULL}, {"FLUSHDB ASYNC", "=", NULL}, {"FLUSHALL", "=", NULL},
    };
    CHECK(cases);
}

static void one_target_db_for_all_makes_moves_between_dbs_nothing(void **state)
{
    (void)state;
    static const struct rewrite_case cases[] = {
        {"SELECT 5", "SELECT 9", NULL},
        {"SELECT 9", "=", NULL},
        {"SWAPDB 0 1", "-", NULL},
        {"MOVE k 1", "-", NULL},
        {"COPY a b DB 3", "COPY a b DB 9", NULL},
        {"COPY a b db 3 REPLACE", "COPY a b db 9 REPLACE", NULL},
        {"COPY a b REPLACE DB 9", "=", NULL},
        {"COPY a a DB 3", "-", NULL},
        {"COPY a b", "=", NULL},
        {"FLUSHDB", "!", NULL},
        {"FLUSHALL ASYNC", "FLUSHDB ASYNC", NULL},
        {"FLUSHALL", "FLUSHDB", NULL},
    };
    struct rewrite_dbs dbs = {.forced = true, .forced_db = 9};
    CHECK(cases, .dbs = &dbs);
    static const struct rewrite_case single[] = {
        {"FLUSHDB", "=", NULL},
        {"FLUSHALL", "FLUSHDB", NULL},
    };
    dbs.source_dbs = 1;
    CHECK(single, .dbs = &dbs);
    static const struct rewrite_case shared[] = {
        {"FLUSHDB", "!", NULL},
        {"FLUSHALL", "!", NULL},
        {"SWAPDB 0 1", "-", NULL},
    };
    dbs.shared = true;
    CHECK(shared, .dbs = &dbs);
}

static void a_shared_target_is_never_cleared_or_swapped(void **state)
{
    (void)state;
    static const struct rewrite_case cases[] = {
        {"FLUSHDB", "!", NULL},    {"FLUSHALL", "!", NULL}, {"SWAPDB 0 1", "!", NULL},
        {"SWAPDB 1 1", "-", NULL}, {"MOVE k 1", "=", NULL}, {"SELECT 1", "=", NULL},
    };
    CHECK(cases, .dbs = &(struct rewrite_dbs){.shared = true});
}

static void where_sources_share_by_slot_clearing_is_left_to_the_caller(void **state)
{
    (void)state;
    static const struct rewrite_case cases[] = {
        {"FLUSHDB", "=", NULL},
        {"FLUSHALL ASYNC", "=", NULL},
        {"SWAPDB 0 1", "!", NULL},
    };
    CHECK(cases, .dbs = &(struct rewrite_dbs){.shared = true, .by_slot = true});
    static const struct rewrite_case several_dbs[] = {
        {"FLUSHDB", "!", NULL},
        {"FLUSHALL", "=", NULL},
    };
    struct rewrite_dbs dbs = {.shared = true, .by_slot = true, .forced = true, .forced_db = 9};
    CHECK(several_dbs, .dbs = &dbs);
    dbs.source_dbs = 1;
    static const struct rewrite_case one_db[] = {{"FLUSHDB", "=", NULL}};
    CHECK(one_db, .dbs = &dbs);
}

static void a_map_of_dbs_is_followed_and_keeps_strangers_safe(void **state)
{
    (void)state;
    // 0 and 1 change places, 2 and 3 share 5, where 5 itself is as well.
    static const int map[] = {1, 0, 5, 5};
    struct rewrite_dbs dbs = {.map = map, .map_n = 4, .source_dbs = 7};
    static const struct rewrite_case in_0[] = {
        {"SELECT 0", "SELECT 1", NULL},
        {"SELECT 4", "=", NULL},
        {"SELECT 3", "SELECT 5", NULL},
        {"SWAPDB 0 1", "SWAPDB 1 0", NULL},
        {"SWAPDB 0 4", "SWAPDB 1 4", NULL},
        {"SWAPDB 4 6", "=", NULL},
        {"SWAPDB 2 3", "-", NULL},
        {"SWAPDB 0 2", "!", NULL},
        {"SWAPDB 5 0", "!", NULL},
        {"MOVE k 1", "MOVE k 0", NULL},
        {"MOVE k 2", "MOVE k 5", NULL},
        {"MOVE k 4", "=", NULL},
        {"COPY a a DB 3", "COPY a a DB 5", NULL},
        {"FLUSHDB", "=", NULL},
        {"FLUSHALL SYNC",
         "SELECT 1; FLUSHDB SYNC; SELECT 0; FLUSHDB SYNC; SELECT 5; FLUSHDB SYNC; "
         "SELECT 4; FLUSHDB SYNC; SELECT 6; FLUSHDB SYNC; SELECT 1",
         NULL},
    };
    CHECK(in_0, .dbs = &dbs, .several = true);
    static const struct rewrite_case in_2[] = {
        {"MOVE k 3", "-", NULL},
        {"MOVE k 5", "-", NULL},
        {"COPY a a DB 3", "-", NULL},
        {"COPY a b DB 3", "COPY a b DB 5", NULL},
        {"FLUSHDB", "!", NULL},
        {"FLUSHALL", "!", NULL}, // several commands are not allowed here
    };
    CHECK(in_2, .dbs = &dbs, .db = 2);
    static const struct rewrite_case few[] = {
        {"FLUSHALL",
         "SELECT 1; FLUSHDB; SELECT 0; FLUSHDB; SELECT 5; FLUSHDB; SELECT 4; FLUSHDB; SELECT 1",
         NULL},
    };
    CHECK(few, .dbs = &dbs, .several = true, .target_dbs = 6);
}

static void a_db_that_another_is_mapped_onto_is_shared(void **state)
{
    (void)state;
    static const int map[] = {0, 7};
    static const struct rewrite_case cases[] = {
        {"SWAPDB 0 1", "!", NULL}, {"SWAPDB 7 0", "!", NULL}, {"SWAPDB 0 2", "=", NULL},
        {"SWAPDB 1 7", "-", NULL}, {"FLUSHDB", "!", NULL},
    };
    CHECK(cases, .dbs = &(struct rewrite_dbs){.map = map, .map_n = 2}, .db = 1);
    static const struct rewrite_case alone[] = {
        {"SWAPDB 0 1", "SWAPDB 0 7", NULL},
        {"FLUSHDB", "=", NULL},
    };
    CHECK(alone, .dbs = &(struct rewrite_dbs){.map = map, .map_n = 2, .source_dbs = 7}, .db = 1);
}

static void commands_that_rename_keys_are_told(void **state)
{
    (void)state;
    struct rewrite w = {0};
    struct buf b = {0};
    struct rewrite_input in = {.dbs = &no_mapping, .now_ms = NOW};
    const char *moving[] = {"RENAME a b", "RENAMENX a b", "COPY a b", "MOVE a 1", "SWAPDB 0 1"};
    for (size_t i = 0; i < sizeof(moving) / sizeof(*moving); i++) {
        assert_string_equal(outcome(&w, &in, moving[i], &b), "=");
        assert_true(w.moves_keys);
        assert_string_equal(outcome(&w, &in, "SET a b", &b), "=");
        assert_false(w.moves_keys);
        assert_string_equal(outcome(&w, &in, "UNKNOWN a b", &b), "=");
        assert_false(w.moves_keys);
    }
    buf_free(&b);
    rewrite_free(&w);
}

static void thousands_of_fields_fit(void **state)
{
    (void)state;
    enum { FIELDS = 100000 };
    struct slice *argv = xcalloc(FIELDS + 5, sizeof(*argv));
    const char *head[] = {"HPEXPIREAT", "h", "1700000010000", "FIELDS", "100000"};
    for (int i = 0; i < 5; i++)
        argv[i] = slice_cstr(head[i]);
    for (int i = 0; i < FIELDS; i++)
        argv[5 + i] = SLICE("f");
    struct rewrite w = {0};
    struct rewrite_input in = {.dbs = &no_mapping, .now_ms = NOW, .hold_before = HOLD};
    const struct cmd_info *info = cmd_lookup(FIELDS + 5, argv);
    assert_int_equal(rewrite_command(&w, &in, info, FIELDS + 5, argv), REWRITE_CHANGED);
    assert_int_equal(w.argc, FIELDS + 5);
    assert_int_equal(w.expiries, FIELDS);
    assert_true(w.expiry[FIELDS - 1].true_ms == 1700000010000);
    rewrite_free(&w);
    free(argv);
}

// ---- against servers ----

static void send_argv(struct redis_client *r, int argc, const struct slice *argv,
                      struct redis_reply *reply)
{
    struct buf b = {0};
    struct err e = {0};
    resp_put_argv(&b, argc, argv);
    int rc = redis_call_raw(r, buf_slice(&b), 1, reply, &e);
    buf_free(&b);
    if (rc != 0)
        fail_msg("%s", e.msg);
}

static void send_line(struct redis_client *r, const char *line, struct redis_reply *reply)
{
    struct words words;
    split(&words, line, EMPTY);
    send_argv(r, words.argc, words.argv, reply);
}

// Applies what a command becomes.
static void apply(struct redis_client *r, const struct rewrite_input *in, const char *line)
{
    struct rewrite w = {0};
    struct words words;
    struct redis_reply reply;
    split(&words, line, EMPTY);
    enum rewrite_result result =
        rewrite_command(&w, in, cmd_lookup(words.argc, words.argv), words.argc, words.argv);
    if (result == REWRITE_AS_IS)
        send_argv(r, words.argc, words.argv, &reply);
    else
        assert_int_equal(result, REWRITE_CHANGED);
    if (result == REWRITE_CHANGED)
        send_argv(r, w.argc, w.argv, &reply);
    for (int i = 0; i < w.then_n; i++)
        send_argv(r, w.then[i].argc, w.then[i].argv, &reply);
    rewrite_free(&w);
}

static int64_t ask(struct redis_client *r, const char *line)
{
    struct redis_reply reply;
    send_line(r, line, &reply);
    size_t pos = reply.first_child;
    struct resp_node node = reply.root;
    if (node.type == RESP_ARRAY)
        assert_true(resp_next(reply.p, reply.n, &pos, &node));
    assert_int_equal(node.type, RESP_INTEGER);
    return node.num;
}

struct server_case {
    const char *setup, *command, *question;
    int64_t true_ms;
};

static void check_on_server(struct redis_client *r, const struct server_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct server_case *c = &cases[i];
        for (int hold = 0; hold < 2; hold++) {
            struct redis_reply reply;
            struct rewrite_input in = {.dbs = &no_mapping, .now_ms = 2000000000000};
            in.hold_before = hold ? 2000000100000 : 0;
            send_line(r, "FLUSHALL", &reply);
            send_line(r, c->setup, &reply);
            apply(r, &in, c->command);
            int64_t want = hold ? expiry_far(c->true_ms) : c->true_ms, got = ask(r, c->question);
            if (got != want)
                fail_msg("%s: %lld instead of %lld", c->command, (long long)got, (long long)want);
        }
    }
}

// In 2033, so that the server does not expire them while they are not held.
static void redis_7_takes_what_commands_become(void **state)
{
    (void)state;
    static const struct server_case cases[] = {
        {"SET k v", "EXPIRE k 10", "PEXPIRETIME k", 2000000010000},
        {"SET k v", "PEXPIRE k 10", "PEXPIRETIME k", 2000000000010},
        {"SET k v", "EXPIREAT k 2000000010", "PEXPIRETIME k", 2000000010000},
        {"SET k v", "PEXPIREAT k 2000000010001", "PEXPIRETIME k", 2000000010001},
        {"PING", "SETEX k 10 v", "PEXPIRETIME k", 2000000010000},
        {"PING", "PSETEX k 10 v", "PEXPIRETIME k", 2000000000010},
        {"PING", "SET k v EX 10", "PEXPIRETIME k", 2000000010000},
        {"SET k old", "SET k v XX GET PX 10", "PEXPIRETIME k", 2000000000010},
        {"PING", "SET k v EXAT 2000000010 NX", "PEXPIRETIME k", 2000000010000},
        {"PING", "SET k v PXAT 2000000010001", "PEXPIRETIME k", 2000000010001},
        {"SET k v", "GETEX k EX 10", "PEXPIRETIME k", 2000000010000},
        {"SET k v", "GETEX k PXAT 2000000010001", "PEXPIRETIME k", 2000000010001},
        // The target holds a far expiry, which these compare with.
        {"SET k v PXAT 36984372088832", "PEXPIREAT k 2000000010001 GT", "PEXPIRETIME k",
         2000000010001},
        {"SET k v PXAT 2000000000000", "PEXPIREAT k 2000000010001 LT", "PEXPIRETIME k",
         2000000010001},
    };
    struct redis_fixture server;
    assert_true(redis_fixture_start(&server, NULL));
    check_on_server(server.client, cases, sizeof(cases) / sizeof(*cases));

    // RESTORE, with a payload of the server itself.
    struct redis_reply reply;
    struct err e = {0};
    send_line(server.client, "FLUSHALL", &reply);
    send_line(server.client, "SET k v", &reply);
    send_line(server.client, "DUMP k", &reply);
    struct buf payload = {0};
    buf_append_slice(&payload, reply.root.text);
    for (int hold = 0; hold < 2; hold++) {
        struct slice argv[] = {
            SLICE("RESTORE-ASKING"), SLICE("k"),        SLICE("10"), buf_slice(&payload),
            SLICE("REPLACE"),        SLICE("IDLETIME"), SLICE("5")};
        struct rewrite w = {0};
        struct rewrite_input in = {
            .dbs = &no_mapping, .now_ms = 2000000000000, .hold_before = hold ? 2000000100000 : 0};
        assert_int_equal(rewrite_command(&w, &in, cmd_lookup(7, argv), 7, argv), REWRITE_CHANGED);
        send_argv(server.client, w.argc, w.argv, &reply);
        rewrite_free(&w);
        int64_t want = hold ? expiry_far(2000000000010) : 2000000000010;
        assert_true(ask(server.client, "PEXPIRETIME k") == want);
    }
    buf_free(&payload);

    // A past expiry that is held leaves the key alive, one that is not removes it.
    struct rewrite_input in = {.dbs = &no_mapping, .now_ms = NOW, .hold_before = HOLD};
    apply(server.client, &in, "PEXPIREAT k 1700000000000");
    assert_int_equal(ask(server.client, "EXISTS k"), 1);
    in.hold_before = 0;
    apply(server.client, &in, "PEXPIREAT k 1700000000000");
    assert_int_equal(ask(server.client, "EXISTS k"), 0);

    // FLUSHALL clears the dbs that the source has, and no other one.
    static const int map[] = {1, 0};
    struct rewrite_dbs dbs = {.map = map, .map_n = 2, .source_dbs = 2};
    in = (struct rewrite_input){.dbs = &dbs, .now_ms = NOW, .several = true};
    for (int db = 0; db < 3; db++) {
        assert_int_equal(redis_call(server.client, &reply, &e, "SELECT %d", db), 0);
        send_line(server.client, "SET k v", &reply);
    }
    apply(server.client, &in, "FLUSHALL");
    send_line(server.client, "SET here 1", &reply);
    static const int64_t sizes[] = {0, 1, 1};
    for (int db = 0; db < 3; db++) {
        assert_int_equal(redis_call(server.client, &reply, &e, "SELECT %d", db), 0);
        assert_int_equal(ask(server.client, "DBSIZE"), sizes[db]);
    }
    redis_fixture_stop(&server);
}

// Runs where GUNYU_REDIS8 names a redis-server 8.
static void redis_8_takes_what_hash_commands_become(void **state)
{
    (void)state;
    static const struct server_case cases[] = {
        {"HSET h a 1", "HEXPIRE h 10 FIELDS 1 a", "HPEXPIRETIME h FIELDS 1 a", 2000000010000},
        {"HSET h a 1", "HPEXPIRE h 10 NX FIELDS 1 a", "HPEXPIRETIME h FIELDS 1 a", 2000000000010},
        {"HSET h a 1", "HEXPIREAT h 2000000010 FIELDS 1 a", "HPEXPIRETIME h FIELDS 1 a",
         2000000010000},
        {"HSETEX h PXAT 36984372088832 FIELDS 1 a 1", "HPEXPIREAT h 2000000010001 GT FIELDS 1 a",
         "HPEXPIRETIME h FIELDS 1 a", 2000000010001},
        {"PING", "HSETEX h EX 10 FIELDS 2 a 1 b 2", "HPEXPIRETIME h FIELDS 1 b", 2000000010000},
        {"HSET h a 1", "HSETEX h FXX PXAT 2000000010001 FIELDS 1 a 2", "HPEXPIRETIME h FIELDS 1 a",
         2000000010001},
        {"HSET h a 1", "HGETEX h PX 10 FIELDS 2 a nofield", "HPEXPIRETIME h FIELDS 1 a",
         2000000000010},
        {"SET k v", "EXPIRE k 10", "PEXPIRETIME k", 2000000010000},
    };
    const char *program = getenv("GUNYU_REDIS8");
    struct redis_fixture server;
    if (!program)
        skip();
    assert_true(redis_fixture_start(&server, program));
    check_on_server(server.client, cases, sizeof(cases) / sizeof(*cases));
    redis_fixture_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(far_expiries_are_told_from_true_ones_and_keep_their_order),
        cmocka_unit_test(relative_expiries_become_absolute_and_near_ones_far),
        cmocka_unit_test(conditions_that_held_at_the_source_are_not_asked_again),
        cmocka_unit_test(hash_fields_are_held_one_by_one),
        cmocka_unit_test(bug_9_restore_asking_is_applied_as_restore),
        cmocka_unit_test(targets_without_pxat_get_the_expiry_in_a_command_of_its_own),
        cmocka_unit_test(what_is_no_layout_of_the_command_leaves_as_it_is),
        cmocka_unit_test(without_a_mapping_dbs_are_left_alone),
        cmocka_unit_test(one_target_db_for_all_makes_moves_between_dbs_nothing),
        cmocka_unit_test(a_shared_target_is_never_cleared_or_swapped),
        cmocka_unit_test(where_sources_share_by_slot_clearing_is_left_to_the_caller),
        cmocka_unit_test(a_map_of_dbs_is_followed_and_keeps_strangers_safe),
        cmocka_unit_test(a_db_that_another_is_mapped_onto_is_shared),
        cmocka_unit_test(commands_that_rename_keys_are_told),
        cmocka_unit_test(thousands_of_fields_fit),
        cmocka_unit_test(redis_7_takes_what_commands_become),
        cmocka_unit_test(redis_8_takes_what_hash_commands_become),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "serve/grant.h"

#define NOW "cccccccccccccccccccccccccccccccccccccccc"
#define TWO "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define OLD "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ALIEN "dddddddddddddddddddddddddddddddddddddddd"

static const struct journal_old_id older[] = {{OLD, 500}};

// Log after 400 up to 1000, under an id that began at 800.
static struct journal_info with_log(void)
{
    return (struct journal_info){.replid = NOW,
                                 .replid2 = TWO,
                                 .replid2_offset = 800,
                                 .older = older,
                                 .older_n = 1,
                                 .has_log = true,
                                 .left = 400,
                                 .right = 1000};
}

static struct grant ask(const struct journal_info *j, const char *id, int64_t offset)
{
    struct serve_request r = {.offset = offset};
    struct grant g;
    snprintf(r.replid, sizeof(r.replid), "%s", id);
    grant_decide(j, &r, &g);
    return g;
}

static void a_replica_continues_wherever_its_history_and_the_log_reach(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        int64_t offset; // first byte that is asked for
        enum grant_kind kind;
    } cases[] = {
        {NOW, 401, GRANT_CONTINUE},       {NOW, 1001, GRANT_CONTINUE},   {NOW, 400, GRANT_SNAPSHOT},
        {NOW, 1002, GRANT_LATER},         {TWO, 801, GRANT_CONTINUE},    {TWO, 802, GRANT_SNAPSHOT},
        {TWO, 401, GRANT_CONTINUE},       {OLD, 501, GRANT_CONTINUE},    {OLD, 502, GRANT_SNAPSHOT},
        {OLD, 400, GRANT_SNAPSHOT},       {ALIEN, 700, GRANT_SNAPSHOT},  {"?", -1, GRANT_SNAPSHOT},
        {"", 500, GRANT_SNAPSHOT},        {NOW, 0, GRANT_SNAPSHOT},      {NOW, -5, GRANT_SNAPSHOT},
        {NOW, INT64_MIN, GRANT_SNAPSHOT}, {NOW, INT64_MAX, GRANT_LATER},
    };
    struct journal_info j = with_log();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct grant g = ask(&j, cases[i].id, cases[i].offset);
        if (g.kind != cases[i].kind)
            fail_msg("%s %lld: %d", cases[i].id, (long long)cases[i].offset, g.kind);
        if (g.kind == GRANT_CONTINUE)
            assert_int_equal(g.offset, cases[i].offset - 1);
        else
            assert_true(g.why[0]);
    }
}

static void a_snapshot_serves_only_with_the_log_behind_it(void **state)
{
    (void)state;
    struct journal_info j = with_log();
    j.has_snapshot = j.snapshot_complete = true;
    j.snapshot_offset = 400;
    struct grant g = ask(&j, "?", -1);
    assert_int_equal(g.kind, GRANT_FULL);
    assert_int_equal(g.offset, 400);
    assert_int_equal(ask(&j, ALIEN, 700).kind, GRANT_FULL);
    assert_int_equal(ask(&j, NOW, 700).kind, GRANT_CONTINUE);
    j.left = 401;
    assert_int_equal(ask(&j, "?", -1).kind, GRANT_SNAPSHOT);
}

static void a_snapshot_that_arrives_serves_too(void **state)
{
    (void)state;
    struct journal_info j = {.replid = NOW, .has_snapshot = true, .snapshot_offset = 70};
    struct grant g = ask(&j, "?", -1);
    assert_int_equal(g.kind, GRANT_FULL);
    assert_int_equal(g.offset, 70);
    assert_int_equal(ask(&j, NOW, 71).kind, GRANT_FULL);
}

static void an_empty_journal_asks_for_patience(void **state)
{
    (void)state;
    struct journal_info j = {0};
    assert_int_equal(ask(&j, "?", -1).kind, GRANT_LATER);
    // No id of the journal's may be matched by an empty one.
    j = with_log();
    j.replid2[0] = 0;
    assert_int_equal(ask(&j, "", 500).kind, GRANT_SNAPSHOT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replica_continues_wherever_its_history_and_the_log_reach),
        cmocka_unit_test(a_snapshot_serves_only_with_the_log_behind_it),
        cmocka_unit_test(a_snapshot_that_arrives_serves_too),
        cmocka_unit_test(an_empty_journal_asks_for_patience),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "target/resume.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define X "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

// Positions: P(id, offset) in the stream, L(id, offset, index) while a snapshot loads.
#define P(id, off)                                                                                 \
    {                                                                                              \
        .replid = (id), .offset = (off), .db = 3                                                   \
    }
#define L(id, off, index)                                                                          \
    {                                                                                              \
        .replid = (id), .offset = (off), .loading = true, .rdb_index = (index), .rdb_db = 5,       \
        .db = 1                                                                                    \
    }
#define NO_POSITION                                                                                \
    {                                                                                              \
        .replid = "none"                                                                           \
    }
// Journals: a log, and a snapshot of 1000 bytes before it.
#define LOG(id, l, r) .replid = (id), .has_log = true, .left = (l), .right = (r)
#define SNAP(off)                                                                                  \
    .has_snapshot = true, .snapshot_complete = true, .snapshot_offset = (off),                     \
    .snapshot_size = 1000, .snapshot_have = 1000
#define WAS(id, off) .replid2 = (id), .replid2_offset = (off)
#define OLDER(id, off) .older = (const struct journal_old_id[]){{(id), (off)}}, .older_n = 1

struct wanted {
    const char *psync;
    int64_t offset;
    bool reset;
    enum resume_apply apply;
    uint64_t from, rdb_index;
    int db, rdb_db;
    const char *reason; // a part of it
};
#define FULL(why)                                                                                  \
    {                                                                                              \
        "?", -1, false, RESUME_NOTHING, 0, 0, 0, 0, why                                            \
    }
#define IN_JOURNAL(id, right, from)                                                                \
    {                                                                                              \
        id, right, false, RESUME_STREAM, from, 0, 3, 0, "in the journal"                           \
    }
#define AT_SOURCE(id, from)                                                                        \
    {                                                                                              \
        id, from, true, RESUME_STREAM, from, 0, 3, 0, "does not hold"                              \
    }
#define GO_ON_LOADING(id, right, from, index)                                                      \
    {                                                                                              \
        id, right, false, RESUME_SNAPSHOT, from, index, 1, 5, "where the target stopped"           \
    }
#define LOAD(id, right, from)                                                                      \
    {                                                                                              \
        id, right, false, RESUME_SNAPSHOT, from, 0, 0, 0, "no position to go on from"              \
    }

static const struct resume_case {
    const char *name;
    const char *id1, *id2;
    int64_t second;
    struct position position;
    struct journal_info journal;
    struct wanted wanted;
} cases[] = {
    // Position and journal of the source's id.
    {"in the journal", A, "", -1, P(A, 150), {LOG(A, 100, 200)}, IN_JOURNAL(A, 200, 150)},
    {"at the left edge", A, "", -1, P(A, 100), {LOG(A, 100, 200)}, IN_JOURNAL(A, 200, 100)},
    {"at the right edge", A, "", -1, P(A, 200), {LOG(A, 100, 200)}, IN_JOURNAL(A, 200, 200)},
    {"offset 0 is a position", A, "", -1, P(A, 0), {LOG(A, 0, 9)}, IN_JOURNAL(A, 9, 0)},
    {"left of the journal", A, "", -1, P(A, 99), {LOG(A, 100, 200)}, AT_SOURCE(A, 99)},
    {"right of the journal", A, "", -1, P(A, 201), {LOG(A, 100, 200)}, AT_SOURCE(A, 201)},
    {"left of the journal, not its snapshot",
     A,
     "",
     -1,
     P(A, 99),
     {LOG(A, 100, 200), SNAP(100)},
     AT_SOURCE(A, 99)},
    {"no journal", A, "", -1, P(A, 99), {.replid = ""}, AT_SOURCE(A, 99)},
    {"an id that only the journal's history knows",
     B,
     X,
     -1,
     P(A, 140),
     {LOG(B, 100, 200), WAS(X, 180), OLDER(A, 150)},
     IN_JOURNAL(B, 200, 140)},
    {"an old id, past its end",
     B,
     X,
     -1,
     P(A, 160),
     {LOG(B, 100, 200), WAS(X, 180), OLDER(A, 150)},
     FULL("another history")},
    {"a journal that only began its snapshot",
     A,
     "",
     -1,
     P(A, 99),
     {.replid = A, .has_snapshot = true, .snapshot_offset = 50, .snapshot_have = 10},
     AT_SOURCE(A, 99)},
    {"journal of another source", A, "", -1, P(A, 150), {LOG(X, 100, 200)}, AT_SOURCE(A, 150)},
    {"further than the source has ever been: PSYNC decides",
     A,
     "",
     -1,
     P(A, 1000000),
     {LOG(A, 100, 200)},
     AT_SOURCE(A, 1000000)},
    {"a journal that does not fit into offsets",
     A,
     "",
     -1,
     P(A, 150),
     {LOG(A, 100, UINT64_MAX)},
     AT_SOURCE(A, 150)},

    // After a failover of the source: it was B up to 180.
    {"old id within, journal old and within",
     A,
     B,
     180,
     P(B, 150),
     {LOG(B, 100, 170)},
     IN_JOURNAL(B, 170, 150)},
    {"old id within, journal old at the end",
     A,
     B,
     180,
     P(B, 180),
     {LOG(B, 100, 180)},
     IN_JOURNAL(B, 180, 180)},
    {"old id within, journal old and beyond",
     A,
     B,
     180,
     P(B, 150),
     {LOG(B, 100, 181)},
     AT_SOURCE(B, 150)},
    {"old id at the end, no journal", A, B, 180, P(B, 180), {.replid = ""}, AT_SOURCE(B, 180)},
    {"old id beyond", A, B, 180, P(B, 181), {LOG(B, 100, 200)}, FULL("shares its history")},
    {"old id beyond, journal new",
     A,
     B,
     180,
     P(B, 181),
     {LOG(A, 100, 300), WAS(B, 180)},
     FULL("shares its history")},
    {"old id beyond, the end unknown: PSYNC decides",
     A,
     B,
     -1,
     P(B, 181),
     {.replid = ""},
     AT_SOURCE(B, 181)},
    {"old id within, journal already new",
     A,
     B,
     180,
     P(B, 150),
     {LOG(A, 100, 300), WAS(B, 180)},
     IN_JOURNAL(A, 300, 150)},
    {"old id within, journal begun under the new id",
     A,
     B,
     180,
     P(B, 150),
     {LOG(A, 100, 300)},
     IN_JOURNAL(A, 300, 150)},
    {"the same with the end unknown", A, B, -1, P(B, 150), {LOG(A, 100, 300)}, AT_SOURCE(B, 150)},
    {"old id within, new journal begins later",
     A,
     B,
     180,
     P(B, 150),
     {LOG(A, 160, 300)},
     AT_SOURCE(B, 150)},
    {"new id, journal still old",
     A,
     B,
     180,
     P(A, 150),
     {LOG(B, 100, 170)},
     IN_JOURNAL(B, 170, 150)},
    {"new id, journal old and beyond", A, B, 180, P(A, 190), {LOG(B, 100, 200)}, AT_SOURCE(A, 190)},
    {"two failovers: only the journal knows the position's id",
     A,
     B,
     280,
     P(X, 150),
     {LOG(B, 100, 250), WAS(X, 180)},
     IN_JOURNAL(B, 250, 150)},
    {"two failovers, position at the end of the first",
     A,
     B,
     280,
     P(X, 180),
     {LOG(B, 100, 250), WAS(X, 180)},
     IN_JOURNAL(B, 250, 180)},
    {"two failovers, position beyond the first",
     A,
     B,
     280,
     P(X, 181),
     {LOG(B, 100, 250), WAS(X, 180)},
     FULL("another history")},
    {"the source went back to its old id, the journal did not",
     B,
     "",
     -1,
     P(B, 150),
     {LOG(A, 100, 300), WAS(B, 180)},
     AT_SOURCE(B, 150)},
    {"the source went back to its old id, the target did not",
     B,
     "",
     -1,
     P(A, 190),
     {LOG(A, 100, 300), WAS(B, 180)},
     FULL("another history")},
    {"another source altogether",
     A,
     B,
     180,
     P(X, 150),
     {LOG(X, 100, 200)},
     FULL("another history")},

    // While a snapshot loads.
    {"loading, snapshot whole",
     A,
     "",
     -1,
     L(A, 100, 400),
     {LOG(A, 100, 200), SNAP(100)},
     GO_ON_LOADING(A, 200, 100, 400)},
    {"loading, at the snapshot's end",
     A,
     "",
     -1,
     L(A, 100, 1000),
     {LOG(A, 100, 100), SNAP(100)},
     GO_ON_LOADING(A, 100, 100, 1000)},
    {"loading, index beyond the snapshot",
     A,
     "",
     -1,
     L(A, 100, 1001),
     {LOG(A, 100, 200), SNAP(100)},
     LOAD(A, 200, 100)},
    {"loading, snapshot whole, failover since",
     A,
     B,
     180,
     L(B, 100, 400),
     {LOG(B, 100, 150), SNAP(100)},
     GO_ON_LOADING(B, 150, 100, 400)},
    {"loading, snapshot whole, journal already new",
     A,
     B,
     180,
     L(B, 100, 400),
     {LOG(A, 100, 300), SNAP(100), WAS(B, 180)},
     GO_ON_LOADING(A, 300, 100, 400)},
    {"loading, snapshot whole, but the source left its history",
     A,
     B,
     80,
     L(B, 100, 400),
     {LOG(B, 100, 150), SNAP(100)},
     FULL("part of a snapshot")},
    {"loading, snapshot incomplete",
     A,
     "",
     -1,
     L(A, 100, 400),
     {.replid = A,
      .has_snapshot = true,
      .snapshot_offset = 100,
      .snapshot_size = 1000,
      .snapshot_have = 500},
     FULL("part of a snapshot")},
    {"loading, snapshot incomplete beside a log",
     A,
     "",
     -1,
     L(A, 100, 400),
     {LOG(A, 100, 200), .has_snapshot = true, .snapshot_offset = 100, .snapshot_size = 1000},
     FULL("part of a snapshot")},
    {"loading, snapshot gone",
     A,
     "",
     -1,
     L(A, 100, 400),
     {LOG(A, 100, 200)},
     FULL("part of a snapshot")},
    {"loading, the log does not go on from the snapshot",
     A,
     "",
     -1,
     L(A, 100, 400),
     {LOG(A, 101, 200), SNAP(100)},
     FULL("part of a snapshot")},
    {"loading, no journal", A, "", -1, L(A, 100, 400), {.replid = ""}, FULL("part of a snapshot")},
    {"loading, the journal has a later whole snapshot",
     A,
     "",
     -1,
     L(A, 100, 400),
     {LOG(A, 150, 200), SNAP(150)},
     LOAD(A, 200, 150)},
    {"loading, snapshot of another source",
     A,
     "",
     -1,
     L(A, 100, 400),
     {LOG(X, 100, 200), SNAP(100)},
     FULL("part of a snapshot")},

    // Without a position.
    {"nothing at all", A, "", -1, NO_POSITION, {.replid = ""}, FULL("has no position")},
    {"no position, a log alone",
     A,
     "",
     -1,
     NO_POSITION,
     {LOG(A, 100, 200)},
     FULL("has no position")},
    {"no position, a whole snapshot",
     A,
     "",
     -1,
     NO_POSITION,
     {LOG(A, 100, 200), SNAP(100)},
     LOAD(A, 200, 100)},
    {"no position, a whole snapshot of the old id",
     A,
     B,
     250,
     NO_POSITION,
     {LOG(B, 100, 200), SNAP(100)},
     LOAD(B, 200, 100)},
    {"no position, a whole snapshot, the old id's log beyond",
     A,
     B,
     150,
     NO_POSITION,
     {LOG(B, 100, 200), SNAP(100)},
     FULL("has no position")},
    {"no position, a whole snapshot of another source",
     A,
     B,
     250,
     NO_POSITION,
     {LOG(X, 100, 200), SNAP(100)},
     FULL("has no position")},
    {"no position, the log begins after the snapshot",
     A,
     "",
     -1,
     NO_POSITION,
     {LOG(A, 120, 200), SNAP(100)},
     FULL("has no position")},
    {"no position, snapshot incomplete",
     A,
     "",
     -1,
     NO_POSITION,
     {.replid = A, .has_snapshot = true, .snapshot_offset = 100},
     FULL("has no position")},
    {"a useless position, a whole snapshot",
     A,
     B,
     180,
     P(X, 150),
     {LOG(A, 200, 300), SNAP(200)},
     LOAD(A, 300, 200)},

    // The source does not tell its ids.
    {"silent source, in the journal",
     "",
     "",
     -1,
     P(X, 150),
     {LOG(X, 100, 200)},
     IN_JOURNAL(X, 200, 150)},
    {"silent source, older id known to the journal",
     "",
     "",
     -1,
     P(B, 150),
     {LOG(X, 100, 200), WAS(B, 160)},
     IN_JOURNAL(X, 200, 150)},
    {"silent source, older id beyond",
     "",
     "",
     -1,
     P(B, 170),
     {LOG(X, 100, 200), WAS(B, 160)},
     AT_SOURCE(B, 170)},
    {"silent source, journal of another id",
     "",
     "",
     -1,
     P(X, 150),
     {LOG(A, 100, 200)},
     AT_SOURCE(X, 150)},
    {"silent source, no journal", "", "", -1, P(X, 150), {.replid = ""}, AT_SOURCE(X, 150)},
    {"silent source, loading",
     "",
     "",
     -1,
     L(X, 100, 400),
     {LOG(X, 100, 200), SNAP(100)},
     GO_ON_LOADING(X, 200, 100, 400)},
    {"silent source, a whole snapshot",
     "",
     "",
     -1,
     NO_POSITION,
     {LOG(X, 100, 200), SNAP(100)},
     LOAD(X, 200, 100)},
    {"silent source, nothing", "", "", -1, NO_POSITION, {.replid = ""}, FULL("has no position")},

    // Positions that are none.
    {"BUG-1: offset -1", A, "", -1, P(A, -1), {LOG(A, 0, 200)}, FULL("no offset")},
    {"BUG-1: offset -1 while loading", A, "", -1, L(A, -1, 7), {.replid = ""}, FULL("no offset")},
    {"a position without an id", A, "", -1, P("", 150), {LOG(A, 100, 200)}, FULL("no offset")},
};

static void check(const struct resume_case *c, const struct resume_decision *d)
{
    const struct wanted *w = &c->wanted;
    bool ok = strcmp(d->psync_replid, w->psync) == 0 && d->psync_offset == w->offset &&
              d->reset_journal == w->reset && d->apply == w->apply && d->apply_from == w->from &&
              d->rdb_index == w->rdb_index && d->db == w->db && d->rdb_db == w->rdb_db &&
              strstr(d->reason, w->reason) != NULL;
    if (!ok)
        fail_msg("%s: PSYNC %s %lld, reset %d, apply %d from %llu, rdb %llu, db %d, rdb_db %d: %s",
                 c->name, d->psync_replid, (long long)d->psync_offset, d->reset_journal, d->apply,
                 (unsigned long long)d->apply_from, (unsigned long long)d->rdb_index, d->db,
                 d->rdb_db, d->reason);
}

static struct resume_decision decide(const struct resume_case *c, const struct position *p)
{
    struct resume_decision d;
    memset(&d, 0xee, sizeof(d));
    bool none = strcmp(c->position.replid, "none") == 0;
    resume_decide(&(struct resume_input){.id1 = c->id1,
                                         .id2 = c->id2,
                                         .second_offset = c->second,
                                         .position = none ? NULL : p,
                                         .journal = &c->journal},
                  &d);
    return d;
}

static void every_case_of_the_table_is_decided_as_it_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct resume_decision d = decide(&cases[i], &cases[i].position);
        check(&cases[i], &d);
    }
}

// redisGunYu's records know of the stream only.
static void a_foreign_position_is_used_in_the_stream_and_never_for_a_snapshot(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct position p = cases[i].position;
        p.foreign = true;
        struct resume_decision d = decide(&cases[i], &p);
        if (!p.loading)
            check(&cases[i], &d);
        else
            assert_int_equal(d.rdb_index, 0);
    }
}

// What the stream is applied from must be on the way that PSYNC continues, whatever the input.
static void nothing_is_ever_applied_that_the_journal_will_not_hold(void **state)
{
    (void)state;
    static const char *const ids[] = {"", A, B, X};
    uint64_t seen[3] = {0};
    for (int i = 0; i < 4 * 4 * 4 * 4 * 4 * 6 * 6 * 2 * 2; i++) {
        int n = i;
        struct resume_input in = {.id1 = ids[n % 4], .id2 = ids[n / 4 % 4]};
        n /= 16;
        struct journal_info j = {.has_log = true, .left = 100, .right = 200};
        strcpy(j.replid, ids[n % 4]);
        strcpy(j.replid2, ids[n / 4 % 4]);
        n /= 16;
        struct position p = {.rdb_index = 7};
        strcpy(p.replid, ids[n % 4]);
        n /= 4;
        static const int64_t at[] = {-1, 99, 100, 150, 200, 201};
        p.offset = at[n % 6];
        in.second_offset = at[n / 6 % 6];
        j.replid2_offset = 150;
        n /= 36;
        p.loading = n % 2;
        j.has_snapshot = j.snapshot_complete = n / 2 % 2;
        j.snapshot_offset = 100;
        j.snapshot_size = 1000;
        in.position = &p;
        in.journal = &j;
        struct resume_decision d;
        resume_decide(&in, &d);
        seen[d.apply]++;
        assert_non_null(d.reason);
        if (d.apply == RESUME_NOTHING) {
            assert_string_equal(d.psync_replid, "?");
            assert_int_equal(d.psync_offset, -1);
            continue;
        }
        if (d.apply == RESUME_STREAM) {
            assert_true((int64_t)d.apply_from == p.offset && !p.loading && p.offset >= 0);
        } else {
            assert_true(d.apply_from == j.snapshot_offset && j.has_snapshot && !d.reset_journal);
            assert_true(d.rdb_index == 0 || p.loading);
        }
        if (d.reset_journal) {
            assert_true((int64_t)d.apply_from == d.psync_offset);
            assert_string_equal(d.psync_replid, p.replid);
        } else {
            assert_true((int64_t)j.right == d.psync_offset && j.left <= d.apply_from);
            assert_string_equal(d.psync_replid, j.replid);
        }
        // What is asked for is something that the source may know.
        if (in.id1[0])
            assert_true(strcmp(d.psync_replid, in.id1) == 0 ||
                        (strcmp(d.psync_replid, in.id2) == 0 &&
                         (in.second_offset < 0 || d.psync_offset <= in.second_offset)));
    }
    assert_true(seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
}

static void histories_are_shared_up_to_where_they_part(void **state)
{
    (void)state;
    const struct {
        struct journal_info journal;
        const char *id1;
        uint64_t offset;
        const char *id2;
        int64_t second;
        int64_t fork; // -1: unknown
    } rows[] = {
        {{LOG(A, 100, 200)}, A, 300, "", -1, 200},
        {{LOG(A, 100, 200)}, A, 150, "", -1, 150}, // it went back in time
        {{LOG(A, 100, 200)}, B, 300, A, 180, 180},
        {{LOG(A, 100, 200)}, B, 300, A, 250, 200},
        {{LOG(A, 100, 200)}, B, 300, A, -1, -1},
        {{LOG(A, 100, 200)}, B, 300, X, 180, -1},
        {{LOG(A, 100, 200)}, B, 300, "", -1, -1},
        {{LOG(A, 100, 200), WAS(B, 150)}, X, 300, B, 170, 150},
        {{LOG(A, 100, 200), WAS(B, 150)}, B, 140, "", -1, 140}, // the old master is back
        {{LOG(A, 100, 200), WAS(B, 150)}, X, 300, A, 190, 190},
        {{LOG(A, 100, 200), WAS(B, 150)}, A, 300, B, 150, 200},
        {{LOG(A, 100, 200), WAS(B, 150), OLDER(X, 120)}, "other", 300, X, 130, 120},
        {{.replid = ""}, A, 300, "", -1, -1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        uint64_t fork;
        bool known = resume_fork(&rows[i].journal, rows[i].id1, rows[i].offset, rows[i].id2,
                                 rows[i].second, &fork);
        if (known != (rows[i].fork >= 0) || (known && fork != (uint64_t)rows[i].fork))
            fail_msg("row %zu: %d, %llu", i, known, (unsigned long long)fork);
    }
}

static const char *decided(const struct position *p, const struct journal_info *j, uint64_t loose,
                           bool to_take_back, enum resume_apply *apply)
{
    struct resume_input in = {.id1 = A,
                              .id2 = B,
                              .second_offset = 180,
                              .position = p,
                              .journal = j,
                              .loose_until = loose,
                              .to_take_back = to_take_back};
    struct resume_decision d;
    resume_decide(&in, &d);
    *apply = d.apply;
    return d.reason;
}

static void what_may_have_got_beyond_the_fork_needs_a_full_sync(void **state)
{
    (void)state;
    struct position old = P(B, 150), new = P(A, 150);
    struct journal_info beyond = {LOG(B, 100, 200)}, within = {LOG(B, 100, 180)};
    enum resume_apply apply;
    decided(&old, &beyond, 180, false, &apply);
    assert_int_equal(apply, RESUME_STREAM);
    assert_non_null(strstr(decided(&old, &beyond, 181, false, &apply), "has lost"));
    assert_int_equal(apply, RESUME_NOTHING);
    decided(&old, &within, 180, false, &apply);
    assert_int_equal(apply, RESUME_STREAM);
    // The target went on in the new history: the journal is from before.
    decided(&new, &beyond, 200, false, &apply);
    assert_int_equal(apply, RESUME_STREAM);
}

static void what_is_not_taken_back_yet_needs_a_full_sync(void **state)
{
    (void)state;
    struct position stream = P(A, 150), loading = L(A, 100, 400);
    struct journal_info journal = {LOG(A, 100, 200), SNAP(100)};
    enum resume_apply apply;
    assert_non_null(strstr(decided(&stream, &journal, 0, true, &apply), "taken back"));
    assert_int_equal(apply, RESUME_NOTHING);
    decided(&loading, &journal, 0, true, &apply);
    assert_int_equal(apply, RESUME_SNAPSHOT);
    decided(NULL, &journal, 0, true, &apply);
    assert_int_equal(apply, RESUME_SNAPSHOT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_of_the_table_is_decided_as_it_says),
        cmocka_unit_test(a_foreign_position_is_used_in_the_stream_and_never_for_a_snapshot),
        cmocka_unit_test(histories_are_shared_up_to_where_they_part),
        cmocka_unit_test(what_may_have_got_beyond_the_fork_needs_a_full_sync),
        cmocka_unit_test(what_is_not_taken_back_yet_needs_a_full_sync),
        cmocka_unit_test(nothing_is_ever_applied_that_the_journal_will_not_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

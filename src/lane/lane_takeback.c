// SPDX-License-Identifier: Apache-2.0
// Before a snapshot is loaded from its beginning: what those brought that were loaded in part and
// never whole is taken back, and what writes made that the source has lost.
#include <string.h>
#include <strings.h>

#include "base/fault.h"
#include "base/log.h"
#include "lane/lane_int.h"
#include "target/lost.h"

static int map_db(void *ctx, int db)
{
    return lane_map_db(ctx, db);
}

static bool is_ours(void *ctx, struct slice key)
{
    return lane_turns_has(ctx, key);
}

static void start(struct lane *l)
{
    struct takeback_options o = {
        .sink = l->sink,
        .journal = l->journal,
        .filter = l->o.filter,
        .cluster = l->router != NULL,
        .unlink = l->server.is_valkey || l->server.version >= 40000,
        .skip_unknown = l->o.skip_unknown,
        .tag = l->o.tag,
        .map_db = map_db,
        .is_ours = is_ours,
        .ctx = l,
    };
    log_info(l->o.tag,
             "taking back what the source may no longer have: keys of %zu file(s) that the journal "
             "keeps aside",
             journal_asides(l->journal));
    l->takeback = takeback_new(&o);
    fault_point("takeback.begun");
}

static bool flushes_all(const char *command)
{
    return command && strncasecmp(command, "FLUSHALL", 8) == 0;
}

// Everything up to the fork is at the target, and nothing behind it.
static bool stands_before(const struct lane *l, uint64_t fork)
{
    return l->position_found && !l->position.foreign && !l->position.loading &&
           l->position.offset >= 0 && (uint64_t)l->position.offset <= fork &&
           l->loose_until <= fork;
}

static void warn_lost(const struct lane *l, uint64_t from, uint64_t to, const char *why)
{
    log_warn(l->o.tag,
             "the source has lost what it wrote from offset %llu on; the target may have it up to "
             "%llu, and what of that made keys stays there: %s",
             (unsigned long long)from, (unsigned long long)to, why);
}

static void keep_lost(struct lane *l, const struct journal_info *ji, uint64_t fork)
{
    struct lost_options o = {.journal = l->journal, .filter = l->o.filter, .from = fork};
    struct lost_result r;
    struct err e = {0};
    bool of_snapshot = ji->has_snapshot && fork < ji->snapshot_offset;
    // A snapshot with lost writes in it is as one that was loaded in part.
    if (of_snapshot && journal_load_begun(l->journal, &e) < 0) {
        warn_lost(l, fork, ji->right, e.msg);
        return;
    }
    if (lost_keep(&o, &r, &e) < 0) {
        warn_lost(l, fork, ji->right, e.msg);
        return;
    }
    log_info(
        l->o.tag,
        "the source has lost what it wrote from offset %llu to %llu: %llu keys are to be taken "
        "back from the target",
        (unsigned long long)fork, (unsigned long long)ji->right, (unsigned long long)r.keys);
    if (r.from > fork && !of_snapshot)
        warn_lost(l, fork, r.from, "the journal no longer tells its keys");
    if (r.unknown)
        log_warn(l->o.tag, "of %llu commands among them the keys are not known and may stay",
                 (unsigned long long)r.unknown);
}

void lane_takeback_lost(struct lane *l, const char *replid, uint64_t offset)
{
    struct journal_info ji;
    uint64_t fork;
    journal_get_info(l->journal, &ji);
    const char *flush = l->flush_command ? l->flush_command : l->o.full_sync_flush;
    if (l->o.exists != LOAD_REPLACE || flushes_all(flush))
        return;
    const char *id2 = strcmp(replid, l->id1) == 0 ? l->id2 : ""; // named together
    // What another process has applied, whose journal this is not.
    struct journal_info at = {.right = (uint64_t)l->position.offset};
    memcpy(at.replid, l->position.replid, sizeof(at.replid));
    if (l->position_found && !l->position.loading && l->position.offset >= 0 &&
        (!ji.has_log || at.right > ji.right) &&
        resume_fork(&at, replid, offset, id2, l->id2_offset, &fork) && fork < at.right)
        warn_lost(l, fork, at.right, "the journal does not hold it");
    if (!ji.has_log)
        return;
    if (!resume_fork(&ji, replid, offset, id2, l->id2_offset, &fork))
        log_warn(l->o.tag, "how much of what the journal holds the source has written as well is "
                           "not known: keys at the target that it does not have stay there");
    else if (fork < ji.right && !stands_before(l, fork))
        keep_lost(l, &ji, fork);
}

void lane_takeback_start(struct lane *l)
{
    struct err e = {0};
    // A key that was left alone would be deleted.
    if (l->o.exists != LOAD_REPLACE) {
        journal_drop_asides(l->journal);
        return;
    }
    if (journal_asides(l->journal))
        start(l);
    else if (l->snapshot_fresh && l->position_found && l->position.loading)
        log_warn(l->o.tag, "the target holds a part of another snapshot that the journal does not "
                           "know: keys in it that the source no longer has may stay");
    if (journal_load_begun(l->journal, &e) < 0) {
        err_wrap(&e, "journal");
        lane_latch_error(l, UINT64_MAX, &e);
        lane_drop_target(l);
    }
}

enum load_result lane_takeback_pump(struct lane *l, size_t budget)
{
    enum load_result r = takeback_pump(l->takeback, budget);
    if (r != LOAD_FINISHED)
        return r;
    fault_point("takeback.confirmed");
    log_info(l->o.tag, "%llu keys are taken back", (unsigned long long)takeback_keys(l->takeback));
    lane_takeback_end(l);
    journal_asides_done(l->journal);
    return LOAD_MORE_NOW;
}

void lane_takeback_end(struct lane *l)
{
    takeback_free(l->takeback);
    l->takeback = NULL;
}

// As long as the position stands at the snapshot's first byte, all of it may have to be repeated:
// a target that goes back in time, as a replica that is promoted, does so with its position.
void lane_takeback_stored(struct lane *l, const struct batch_mark *mark)
{
    if (!mark->loading) {
        journal_load_finished(l->journal);
    } else if (mark->rdb_index && !l->takeback && journal_asides(l->journal)) {
        journal_drop_asides(l->journal);
        fault_point("takeback.done");
    }
}

void lane_takeback_flushed(struct lane *l, const char *flush_command)
{
    if (!flushes_all(flush_command))
        return; // other dbs may be left
    l->position_found = false;
    journal_drop_asides(l->journal);
}

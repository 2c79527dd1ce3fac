// SPDX-License-Identifier: Apache-2.0
// Before a snapshot is loaded from its beginning: what those brought that were loaded in part and
// never whole is taken back, and what writes made that the source has lost.

#include "base/fault.h"
#include "base/log.h"
#include "lane/lane_int.h"

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
    else if (l->snapshot_fresh && l->position_found && l->position.loading && !lane_extra_wanted(l))
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
    if (!lane_flushes_all(flush_command))
        return; // other dbs may be left
    l->position_found = false;
    journal_drop_asides(l->journal);
}

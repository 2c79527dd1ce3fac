// SPDX-License-Identifier: Apache-2.0
// A source that has lost writes which the target may have got, as when its heir never had them.
// Both histories part at a fork. A snapshot of the new one replaces values and removes no keys, so
// these have to go from the target: what the lost writes name, from the journal's log, and what the
// heir has deleted between the fork and its snapshot, from its stream.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "lane/lane_int.h"
#include "source/stretch.h"
#include "target/lost.h"

enum { TRIES = 3, PAUSE_US = 500 * 1000 };

// The heir's part, read on a thread of the pool.
struct lane_lost {
    uv_work_t work;
    struct lane *lane;
    struct stretch stretch;
    const struct filter *filter;
    int db;
    struct lost *lost;
    int rc;
    struct err err;
};

bool lane_flushes_all(const char *command)
{
    return command && strncasecmp(command, "FLUSHALL", 8) == 0;
}

static void warn_lost(const struct lane *l, uint64_t from, uint64_t to, const char *why)
{
    if (!lane_extra_wanted(l))
        log_warn(l->o.tag,
                 "between offset %llu and %llu the source has lost or deleted keys that the target "
                 "may have, and which they are is not known; they stay there "
                 "(output.replay.extraKeys): %s",
                 (unsigned long long)from, (unsigned long long)to, why);
}

// Of a target that was in step with the source once.
static void warn_stay(const struct lane *l)
{
    if (!lane_extra_wanted(l))
        log_warn(l->o.tag, "keys that the source has deleted without being able to tell stay at "
                           "the target (output.replay.extraKeys)");
}

static void warn_unknown(const struct lane *l, const struct lost *lost)
{
    if (lost_unknown(lost) && !lane_extra_wanted(l))
        log_warn(l->o.tag,
                 "of %llu commands that the source has lost the keys are not known: what "
                 "they made may stay at the target",
                 (unsigned long long)lost_unknown(lost));
}

// ---- the heir's stream ----

static int take(void *ctx, const char *p, size_t n, struct err *e)
{
    struct lane_lost *x = ctx;
    return lost_feed(x->lost, p, n, e);
}

static void read_run(uv_work_t *work)
{
    struct lane_lost *x = work->data;
    for (int i = 0; i < TRIES; i++) {
        lost_free(x->lost);
        uint64_t from = (uint64_t)x->stretch.from.offset;
        x->lost = lost_new(x->filter, from, x->db, from);
        x->rc = stretch_read(&x->stretch, &x->err);
        if (x->rc == 0 || x->rc == -ERANGE || x->rc == ERR_FULL || atomic_load(&x->stretch.cancel))
            break;
        usleep(PAUSE_US);
    }
}

static void lost_job_free(struct lane_lost *x)
{
    endpoint_free(&x->stretch.endpoint);
    lost_free(x->lost);
    free(x);
}

static void read_done(uv_work_t *work, int status)
{
    (void)status;
    struct lane_lost *x = work->data;
    struct lane *l = x->lane;
    uint64_t from = (uint64_t)x->stretch.from.offset, to = x->stretch.to;
    bool counts = l->lost == x;
    l->handles--;
    fault_point("lost.read");
    if (counts) {
        l->lost = NULL;
        if (x->rc == 0)
            x->rc = lost_keep(x->lost, l->journal, &x->err);
        if (x->rc)
            warn_lost(l, from, to, x->err.msg);
        else
            log_info(l->o.tag,
                     "%llu keys that the source has written to since offset %llu are to "
                     "be taken back as well",
                     (unsigned long long)lost_keys(x->lost), (unsigned long long)from);
        warn_unknown(l, x->lost);
    }
    lost_job_free(x);
    if (l->freed && l->handles == 0)
        lane_free(l);
    else if (counts)
        lane_pump(l);
}

// What the source has written behind `from` and up to its snapshot.
static void read_heir(struct lane *l, const char *replid, uint64_t from, int db, uint64_t to)
{
    if (from >= to)
        return;
    struct lane_lost *x = xcalloc(1, sizeof(*x));
    x->work.data = x;
    x->lane = l;
    x->filter = l->o.filter;
    x->db = db;
    link_peer(l->link, &x->stretch.endpoint, &x->stretch.options);
    bool old = strcmp(replid, l->id1) == 0 && l->id2[0] && l->id2_offset >= 0 &&
               from <= (uint64_t)l->id2_offset;
    memcpy(x->stretch.from.replid, old ? l->id2 : replid, REPLID_LEN + 1);
    x->stretch.from.offset = (int64_t)from;
    x->stretch.to = to;
    x->stretch.take = take;
    x->stretch.ctx = x;
    l->lost = x;
    l->handles++;
    must(uv_queue_work(l->o.loop, &x->work, read_run, read_done) == 0);
}

void lane_lost_let_go(struct lane *l)
{
    if (l->lost)
        atomic_store(&l->lost->stretch.cancel, true);
    l->lost = NULL;
}

// ---- where the histories part ----

struct fork {
    const char *replid; // of the full sync
    uint64_t offset;    // its snapshot's
    const char *id2;
};

static bool find_fork(const struct lane *l, const struct fork *f, const struct journal_info *j,
                      uint64_t *fork)
{
    return resume_fork(j, f->replid, f->offset, f->id2, l->id2_offset, fork);
}

// The target's position tells an offset: of the stream, or of the snapshot that it is in.
static bool has_offset(const struct lane *l)
{
    return l->position_found && !l->position.foreign && l->position.offset >= 0;
}

// What the journal has received behind the fork, and what lies between the target's position and
// it: that deletes keys as well.
static bool keep_log(struct lane *l, const struct journal_info *ji, uint64_t fork)
{
    struct err e = {0};
    uint64_t from = fork, covered = fork;
    if (has_offset(l) && (uint64_t)l->position.offset < fork)
        from = (uint64_t)l->position.offset;
    else if (!l->position_found)
        from = ji->left; // it may be anywhere
    bool in_snapshot = ji->has_snapshot && from < ji->snapshot_offset;
    // A snapshot with lost writes in it is as one that was loaded in part.
    int rc = in_snapshot ? journal_load_begun(l->journal, &e) : 0;
    struct lost *lost = rc ? NULL : lost_of_log(l->journal, l->o.filter, from, &covered, &e);
    if (lost)
        rc = lost_keep(lost, l->journal, &e);
    if (!lost || rc) {
        warn_lost(l, from, ji->right, e.msg);
        lost_free(lost);
        return false;
    }
    log_info(
        l->o.tag,
        "the source has lost what it wrote from offset %llu to %llu: %llu keys are to be taken "
        "back from the target",
        (unsigned long long)fork, (unsigned long long)ji->right,
        (unsigned long long)lost_keys(lost));
    if (covered > from && !in_snapshot)
        warn_lost(l, from, covered, "the journal does not tell any more");
    warn_unknown(l, lost);
    lost_free(lost);
    return true;
}

// The same history goes on, but the stream up to the snapshot is never applied.
static void read_skipped(struct lane *l, const struct fork *f, uint64_t from)
{
    int db = l->position.db;
    // The position that was written last may not be stored.
    if (l->has_mark && !l->mark.loading && l->stored_offset < from) {
        from = l->stored_offset;
        db = l->stored_db;
    }
    read_heir(l, f->replid, from, db, f->offset);
}

// By the target's position, where the journal says nothing. False: what the source has deleted
// since is not known.
static bool note_position(struct lane *l, const struct fork *f, const struct journal_info *ji)
{
    struct journal_info at = {.right = (uint64_t)l->position.offset};
    uint64_t fork;
    memcpy(at.replid, l->position.replid, sizeof(at.replid));
    if (!has_offset(l))
        return !ji->has_log || l->target_empty;
    if (!find_fork(l, f, &at, &fork))
        return false;
    // An earlier full sync did not get to its end, or not even to its load: what the source has
    // deleted since is in none of the two snapshots.
    if (l->position.loading || journal_asides(l->journal))
        read_heir(l, f->replid, fork, l->position.db, f->offset);
    else if (fork < at.right && (!ji->has_log || at.right > ji->right))
        warn_lost(l, fork, at.right, "the journal does not hold it");
    else
        read_skipped(l, f, fork);
    return true;
}

void lane_lost_note(struct lane *l, const char *replid, uint64_t offset)
{
    struct journal_info ji;
    struct fork f = {replid, offset, strcmp(replid, l->id1) == 0 ? l->id2 : ""}; // named together
    uint64_t fork;
    journal_get_info(l->journal, &ji);
    lane_lost_let_go(l);
    if (l->o.exists != LOAD_REPLACE ||
        lane_flushes_all(l->flush_command ? l->flush_command : l->o.full_sync_flush))
        return;
    bool known = ji.has_log && find_fork(l, &f, &ji, &fork);
    // Everything up to the fork is at the target, and nothing behind it.
    bool before = known && has_offset(l) && !l->position.loading &&
                  (uint64_t)l->position.offset <= fork && l->loose_until <= fork;
    if (known && fork < ji.right && !before) {
        if (keep_log(l, &ji, fork))
            read_heir(l, replid, fork, 0, offset);
    } else if (!note_position(l, &f, &ji)) {
        warn_stay(l);
    }
}

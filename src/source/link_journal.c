// SPDX-License-Identifier: Apache-2.0
// What the source sends goes into the journal: where it belongs there, and what it ends.
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "source/link_int.h"

enum {
    CHUNK = 256 * 1024,
    EAGER_TICK_MS = 20, // while a source may not be ready to take the acknowledgement of a snapshot
    EAGER_TICKS = 250,
};

// Sorts out an error of a journal call; the link is blocked, or stopped.
static void journal_refused(struct link *l, int rc, const struct err *e)
{
    if (rc != ERR_FULL) {
        link_journal_failed(l, e);
        return;
    }
    if (l->state != LINK_BLOCKED)
        log_warn(l->o.tag, "the journal has no room: the source waits until the target catches up");
    l->blocked = true;
    link_update_want(l);
    link_set_state(l, LINK_BLOCKED, NULL);
}

void link_begin_snapshot(struct link *l)
{
    unsigned session = l->session;
    char reason[256];
    struct err e = {0};
    struct psync *p = &l->psync;
    psync_full_reason(p, reason, sizeof(reason));
    log_debug(l->o.tag, "full sync at offset %llu of %s: %s", (unsigned long long)p->offset,
              p->replid, reason);
    l->stats.full_syncs++;
    fault_point("link.full_sync");
    if (l->o.events->full_sync)
        l->o.events->full_sync(l->o.ctx, p->replid, p->offset, reason);
    if (l->session != session)
        return;
    int rc = journal_begin_snapshot(l->o.journal, p->replid, p->offset, p->rdb_size, &e);
    if (rc) {
        link_journal_failed(l, &e);
        return;
    }
    fault_point("link.snapshot_begun");
    link_set_state(l, LINK_RDB, NULL);
}

static bool log_continues_at(const struct link *l, const struct link_request *r)
{
    struct journal_info info;
    journal_get_info(l->o.journal, &info);
    return info.has_log && r->offset >= 0 && info.right == (uint64_t)r->offset &&
           strcmp(info.replid, r->replid) == 0;
}

static int prepare_log(struct link *l, struct err *e)
{
    const struct psync *p = &l->psync;
    const struct link_request *r = &p->request;
    int rc = 0;
    if (p->new_replid[0])
        fault_point("link.new_id");
    if (!log_continues_at(l, r))
        rc = journal_begin_log(l->o.journal, r->replid, (uint64_t)r->offset, e);
    if (!rc && p->new_replid[0])
        rc = journal_set_replid(l->o.journal, p->new_replid, (uint64_t)r->offset, e);
    return rc;
}

static void begin_stream(struct link *l)
{
    link_gate_leave(l);
    l->attempt = 0;
    l->last_read_us = clock_mono_us();
    link_set_state(l, LINK_STREAM, NULL);
}

void link_continue_stream(struct link *l)
{
    unsigned session = l->session;
    struct err e = {0};
    const char *id = l->psync.new_replid[0] ? l->psync.new_replid : NULL;
    log_info(l->o.tag, "continuing at offset %lld%s%s", (long long)l->psync.request.offset + 1,
             id ? " under the new replication id " : "", id ? id : "");
    if (prepare_log(l, &e)) {
        link_journal_failed(l, &e);
        return;
    }
    if (id)
        fault_point("link.new_id_stored");
    l->right = (uint64_t)l->psync.request.offset;
    l->stats.partial_syncs++;
    if (l->o.events->continued)
        l->o.events->continued(l->o.ctx, id);
    if (l->session == session)
        begin_stream(l);
}

// The last byte of the snapshot is in the journal.
static void end_snapshot(struct link *l, uint64_t final_size)
{
    unsigned session = l->session;
    struct err e = {0};
    fault_point("link.snapshot_end");
    int rc = journal_end_snapshot(l->o.journal, final_size, &e);
    if (rc) {
        link_journal_failed(l, &e);
        return;
    }
    l->right = l->psync.offset;
    l->snapshot_grew = false;
    log_info(l->o.tag, "snapshot of %llu bytes received", (unsigned long long)final_size);
    if (l->o.events->snapshot_done)
        l->o.events->snapshot_done(l->o.ctx);
    if (l->session != session)
        return;
    begin_stream(l);
    if (l->session != session)
        return;
    link_send_ack(l);
    // A source that sends its snapshot from a child begins the stream at the first acknowledgement
    // after it has seen the child end, and forgets the ones before.
    l->eager_ticks = EAGER_TICKS;
    uv_timer_start(&l->timer, link_on_tick, EAGER_TICK_MS, EAGER_TICK_MS);
}

static void commit_stream(struct link *l, const char *p, size_t n)
{
    struct err e = {0};
    if (journal_log_commit(l->o.journal, n, &e)) {
        link_journal_failed(l, &e);
        return;
    }
    l->tail_n = tail_keep(l->tail, sizeof(l->tail), l->tail_n, p, n);
    l->right += n;
    l->stats.bytes_stream += n;
    l->stream_grew = true;
    if (l->eager_ticks)
        l->eager_ticks = 1;
    fault_point("link.committed");
}

// n bytes at p, the place that the journal gave. What lies behind the snapshot's end is the stream
// and goes (back) to the link's buffer, from where it gets into the log.
static void commit_snapshot(struct link *l, const char *p, size_t n, bool from_buffer)
{
    bool done;
    uint64_t final_size = 0;
    size_t take = psync_rdb(&l->psync, p, n, &done, &final_size);
    if (from_buffer)
        l->in_used -= n - take;
    else if (take < n)
        buf_append(&l->in, p + take, n - take);
    struct err e = {0};
    if (journal_snapshot_commit(l->o.journal, take, &e)) {
        link_journal_failed(l, &e);
        return;
    }
    l->stats.bytes_rdb += take;
    l->snapshot_grew = true;
    if (done)
        end_snapshot(l, final_size);
}

bool link_in_payload(const struct link *l)
{
    return l->psync.state == PSYNC_RDB || l->psync.state == PSYNC_STREAM;
}

// Room for the payload that comes next. False: the link is blocked or stopped.
bool link_payload_space(struct link *l, char **p, size_t *n)
{
    struct err e = {0};
    bool rdb = l->psync.state == PSYNC_RDB;
    int rc = rdb ? journal_snapshot_space(l->o.journal, p, n, &e)
                 : journal_log_space(l->o.journal, p, n, &e);
    if (rc) {
        journal_refused(l, rc, &e);
        return false;
    }
    size_t left = rdb ? psync_rdb_left(&l->psync) : SIZE_MAX;
    *n = *n < left ? *n : left;
    *n = *n < CHUNK ? *n : CHUNK;
    return true;
}

void link_commit_payload(struct link *l, const char *p, size_t n, bool from_buffer)
{
    if (l->psync.state == PSYNC_RDB)
        commit_snapshot(l, p, n, from_buffer);
    else
        commit_stream(l, p, n);
}

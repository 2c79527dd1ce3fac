// SPDX-License-Identifier: Apache-2.0
#include "lane/follower.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "source/link.h"

enum { TICK_MS = 100 };

struct follower {
    struct follower_options o;
    struct endpoint leader; // owns
    char source_name[300], leader_name[300];
    struct journal *journal;
    struct journal_reader *keeper; // holds nothing back, and lets the journal drop what is old
    struct link *link;             // NULL: no leader
    struct feeds *feeds;           // replicas of ours
    struct serve_facts source;     // as the leader told
    struct link_events events;
    enum link_state link_state;
    struct err error, link_error;
    bool failed; // the journal; a person has to look
    uv_timer_t tick;
    uv_mutex_t lock; // guards published
    struct lane_snapshot published;
    struct lane_snapshot counters; // only its LANE_COUNTERS are used
};

static void put_served(struct follower *f, struct lane_snapshot *s)
{
    s->served = f->source;
    s->served.needed_offset = -1;
    s->served.link_up = f->link_state == LINK_STREAM || f->link_state == LINK_BLOCKED;
    if (f->leader.host)
        endpoint_name(&f->leader, s->served.source, sizeof(s->served.source));
    snapshot_put_feeds(s, f->feeds);
}

static void publish(struct follower *f)
{
    struct lane_snapshot s = f->counters;
    struct journal_info ji;
    journal_get_info(f->journal, &ji);
    snprintf(s.input, sizeof(s.input), "%s", f->source_name);
    snprintf(s.role, sizeof(s.role), "follower");
    snprintf(s.leader, sizeof(s.leader), "%s", f->leader_name);
    snprintf(s.link, sizeof(s.link), "%s", link_state_name(f->link_state));
    snprintf(s.replid, sizeof(s.replid), "%s", ji.replid);
    s.state = f->failed ? LANE_ERROR : LANE_RUN;
    s.phase = f->link_state == LINK_STREAM ? LANE_PHASE_STREAMING
              : f->link_state == LINK_RDB  ? LANE_PHASE_FULL_SYNC
                                           : LANE_PHASE_CONNECTING;
    const struct err *e = f->error.code ? &f->error : &f->link_error;
    snprintf(s.error, sizeof(s.error), "%s", e->code ? e->msg : "");
    snapshot_put_journal(&s, &ji);
    s.applied_offset = s.sent_offset = -1;
    s.journal_full = f->link_state == LINK_BLOCKED;
    s.sync_delay_ns = s.lease_left_ms = -1;
    s.group_joined = -1;
    put_served(f, &s);
    if (f->link) {
        struct link_stats ls;
        link_get_stats(f->link, &ls);
        s.follower_bytes = ls.bytes_rdb + ls.bytes_stream;
        s.reconnects = ls.reconnects;
        s.acked_source_offset = (int64_t)ls.last_ack;
    }
    uv_mutex_lock(&f->lock);
    f->published = s;
    uv_mutex_unlock(&f->lock);
}

static void note(struct follower *f, const struct err *e)
{
    f->error = *e;
    f->failed = true;
    log_error(f->o.tag, "stopped: %s", e->msg);
    publish(f);
}

// ---- the journal ----

// What the journal may drop when it needs room. On disk all of it; in memory, where what was
// released is gone at once, what is beyond three quarters of the limit.
static void release(struct follower *f)
{
    struct journal_info ji;
    journal_get_info(f->journal, &ji);
    if (!f->keeper || !ji.has_log)
        return;
    uint64_t keep = 0;
    if (ji.in_memory)
        keep = (uint64_t)ji.max_size / 4 * 3;
    if (ji.has_snapshot && (uint64_t)ji.bytes > keep)
        journal_snapshot_release(f->keeper, ji.snapshot_have);
    if (ji.right - ji.left > keep)
        journal_log_release(f->keeper, ji.right - keep);
}

// ---- the link ----

static bool continues(const struct journal_info *ji, const struct redis_server *s)
{
    return journal_is_of(ji, s->replid, s->replid2, s->second_repl_offset - 1) &&
           (s->backlog_first <= 0 || ji->right + 1 >= (uint64_t)s->backlog_first);
}

static void on_choose(void *ctx, const struct redis_server *leader, struct link_request *out)
{
    struct follower *f = ctx;
    struct journal_info ji;
    journal_get_info(f->journal, &ji);
    f->source.version = leader->version;
    f->source.is_valkey = leader->is_valkey;
    f->source.cluster = leader->cluster_enabled;
    f->source.clock_ahead_ms = leader->clock_ahead_ms;
    if (continues(&ji, leader)) {
        memcpy(out->replid, ji.replid, sizeof(out->replid));
        out->offset = (int64_t)ji.right;
    } else if (leader->needed_offset >= 0 && !leader->needed_snapshot && leader->replid[0]) {
        memcpy(out->replid, leader->replid, sizeof(out->replid));
        out->offset = leader->needed_offset;
    }
}

static void open_keeper(struct follower *f)
{
    if (!f->keeper)
        f->keeper = journal_reader_open(f->journal);
}

static void close_keeper(struct follower *f)
{
    journal_reader_close(f->keeper);
    f->keeper = NULL;
}

static void on_continued(void *ctx, const char *new_replid)
{
    struct follower *f = ctx;
    f->counters.partial_syncs++;
    log_info(f->o.tag, "following %s%s%s", f->leader_name,
             new_replid ? "; the source has the new id " : "", new_replid ? new_replid : "");
    // A log that was begun anew has left the reader behind.
    close_keeper(f);
    open_keeper(f);
}

static void on_full_sync(void *ctx, const char *replid, uint64_t offset, const char *reason)
{
    struct follower *f = ctx;
    (void)replid;
    (void)reason;
    f->counters.full_syncs++;
    log_info(f->o.tag, "following %s from its snapshot at offset %llu on", f->leader_name,
             (unsigned long long)offset);
    close_keeper(f);
}

static void on_grew(void *ctx)
{
    struct follower *f = ctx;
    open_keeper(f);
    feeds_pump(f->feeds);
    release(f);
    if (f->link_state == LINK_BLOCKED)
        link_kick(f->link);
}

static void on_state(void *ctx, enum link_state s, const struct err *why)
{
    struct follower *f = ctx;
    f->link_state = s;
    f->link_error = why && why->code ? *why : (struct err){0};
    publish(f);
}

static void on_journal_failed(void *ctx, const struct err *why)
{
    struct err e = *why;
    err_wrap(&e, "journal");
    note(ctx, &e);
}

// ---- life ----

static void on_tick(uv_timer_t *t)
{
    struct follower *f = t->data;
    struct err e = {0};
    if (journal_tick(f->journal, &e) < 0 && !f->failed) {
        err_wrap(&e, "journal");
        note(f, &e);
    }
    release(f);
    feeds_tick(f->feeds);
    if (f->link && f->link_state == LINK_BLOCKED)
        link_kick(f->link);
    publish(f);
}

struct follower *follower_new(const struct follower_options *o, struct journal *j)
{
    struct follower *f = xcalloc(1, sizeof(*f));
    f->o = *o;
    f->journal = j;
    cstr_copy(f->source_name, sizeof(f->source_name), o->source_name);
    cstr_copy(f->leader_name, sizeof(f->leader_name), o->leader_name);
    endpoint_copy(&f->leader, &o->leader);
    f->o.leader = f->leader;
    must(uv_mutex_init(&f->lock) == 0);
    f->feeds = feeds_new(o->loop, j, o->tag);
    f->events = (struct link_events){.choose = on_choose,
                                     .continued = on_continued,
                                     .full_sync = on_full_sync,
                                     .grew = on_grew,
                                     .state = on_state,
                                     .journal_failed = on_journal_failed};
    uv_timer_init(o->loop, &f->tick);
    f->tick.data = f;
    uv_timer_start(&f->tick, on_tick, TICK_MS, TICK_MS);
    if (f->leader.host) {
        struct link_options lo = {.loop = o->loop,
                                  .endpoint = f->leader,
                                  .journal = j,
                                  .tag = o->tag,
                                  .psync_command = "PSYNC",
                                  .listening_port = o->listening_port,
                                  .events = &f->events,
                                  .ctx = f};
        f->link = link_new(&lo);
        open_keeper(f);
        link_start(f->link);
    }
    publish(f);
    return f;
}

int follower_serve(struct follower *f, struct serve_guest *g, struct err *e)
{
    bool needs_snapshot;
    return feeds_attach(f->feeds, g, &needs_snapshot, e);
}

void follower_resume(struct follower *f)
{
    if (!f->failed)
        return;
    f->failed = false;
    f->error = (struct err){0};
    if (f->link)
        link_start(f->link);
    publish(f);
}

static void on_closed(uv_handle_t *h)
{
    struct follower *f = h->data;
    endpoint_free(&f->leader);
    uv_mutex_destroy(&f->lock);
    free(f);
}

struct journal *follower_free(struct follower *f)
{
    struct journal *j = f->journal;
    if (f->link)
        link_free(f->link);
    f->link = NULL;
    feeds_free(f->feeds);
    close_keeper(f);
    uv_timer_stop(&f->tick);
    uv_close((uv_handle_t *)&f->tick, on_closed);
    return j;
}

void follower_get_snapshot(struct follower *f, struct lane_snapshot *out)
{
    uv_mutex_lock(&f->lock);
    *out = f->published;
    uv_mutex_unlock(&f->lock);
}

// SPDX-License-Identifier: Apache-2.0
#include "journal/journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "journal/internal.h"

#define EXTENT_MAX ((uint64_t)1 << 20)
#define SIZE_MIN ((uint64_t)1 << 20) // of max_size
#define SHARES 8                     // a segment is at most this part of max_size
#define META_EVERY_MS 5000
#define MARK_EVERY_MS 1000

struct epoch *epoch_new(struct journal *j)
{
    struct epoch *ep = xcalloc(1, sizeof(*ep));
    ep->j = j;
    snapshot_init(ep);
    log_init(ep);
    return ep;
}

void epoch_free(struct epoch *ep)
{
    snapshot_free(ep);
    log_free(ep);
    free(ep);
}

void epoch_update_floors(struct epoch *ep)
{
    // Without readers the floors stay: what nobody has read is not dropped for want of a reader.
    if (!ep->readers)
        return;
    uint64_t log = NO_POSITION, snap = NO_POSITION;
    for (struct journal_reader *r = ep->readers; r; r = r->next) {
        if (r->log_release < log)
            log = r->log_release;
        if (!r->snap_done && r->snap_release < snap)
            snap = r->snap_release;
    }
    ep->log.floor = log;
    ep->snap.floor = snap;
}

void journal_fail(struct journal *j, const struct err *e)
{
    if (j->failure.code)
        return;
    j->failure = *e;
    j->cur->log.ready = 0;
    log_error(j->tag, "%s", e->msg);
}

uint64_t journal_used(const struct journal *j)
{
    uint64_t n = snapshot_used(j->cur) + log_used(j->cur) + aside_used(j);
    for (const struct epoch *ep = j->dead; ep && j->memory; ep = ep->next)
        n += snapshot_used(ep) + log_used(ep);
    if (j->spare == SPARE_RUNNING || j->spare == SPARE_READY)
        n += j->spare_capacity + segment_header_used(j->spare_capacity);
    return n;
}

static bool snapshot_unneeded(const struct epoch *ep)
{
    return ep->snap.held && ep->snap.complete && ep->snap.floor >= ep->snap.have;
}

bool journal_drop_oldest(struct journal *j, bool now)
{
    if (j->memory)
        return false;
    if (j->asides_done && j->asides_n) {
        journal_drop_asides(j);
        return true;
    }
    if (snapshot_unneeded(j->cur)) {
        snapshot_drop(j, now);
        return true;
    }
    // The log is not cut off from a snapshot that somebody still loads.
    return j->cur->snap.held ? snapshot_shed(j) : log_drop_first(j, now);
}

int journal_reserve(struct journal *j, uint64_t n, struct err *e)
{
    if (j->max_size == NO_POSITION)
        return 0;
    while (journal_used(j) + n > j->max_size)
        if (!journal_drop_oldest(j, false))
            return err_set(e, ERR_FULL,
                           "journal %s has reached maxSize (%llu MiB) and the target has not taken "
                           "the oldest data yet",
                           j->dir, (unsigned long long)(j->max_size >> 20));
    return 0;
}

static int configure(struct journal *j, const struct journal_options *o, struct err *e)
{
    j->o = *o;
    j->memory = o->type == JOURNAL_MEMORY;
    j->dir = xstrdup(o->dir && !j->memory ? o->dir : "in memory");
    j->tag = o->tag ? xstrdup(o->tag) : NULL;
    j->o.dir = j->dir;
    j->o.tag = j->tag;
    j->spare_fd = j->aside_fd = -1;
    j->files = (struct files){.fd = -1, .lock_fd = -1};
    if (!j->memory && !o->dir)
        return err_set(e, ERR_CONFIG, "a journal of type storer needs a directory");
    if (j->memory && o->max_size < 0)
        return err_set(e, ERR_CONFIG, "a journal in memory needs a maxSize");
    j->max_size = o->max_size < 0 ? NO_POSITION : (uint64_t)o->max_size;
    if (j->max_size < SIZE_MIN)
        return err_set(e, ERR_CONFIG, "maxSize of a journal must be at least %llu bytes, not %lld",
                       (unsigned long long)SIZE_MIN, (long long)o->max_size);
    uint64_t size = o->log_size > 0 ? (uint64_t)o->log_size : (uint64_t)100 << 20;
    if (size > SEGMENT_CAPACITY_MAX)
        size = SEGMENT_CAPACITY_MAX;
    if (j->max_size != NO_POSITION && size > j->max_size / SHARES - VMAP_BLOCK)
        size = j->max_size / SHARES - VMAP_BLOCK;
    uint64_t unit = size >= SEGMENT_ALIGN ? SEGMENT_ALIGN : VMAP_BLOCK;
    j->log_size = (size + unit - 1) / unit * unit;
    if (j->max_size != NO_POSITION && j->log_size > j->max_size / SHARES)
        j->log_size -= unit;
    j->extent = j->max_size / 16 / VMAP_BLOCK * VMAP_BLOCK;
    if (j->extent > EXTENT_MAX)
        j->extent = EXTENT_MAX;
    return 0;
}

static void journal_free(struct journal *j)
{
    epoch_free(j->cur);
    while (j->dead) {
        struct epoch *ep = j->dead;
        j->dead = ep->next;
        epoch_free(ep);
    }
    if (j->spare_fd >= 0) {
        close(j->spare_fd);
        unlinkat(j->files.fd, STORE_SPARE, 0);
    }
    files_close(&j->files);
    bio_free(&j->bio);
    uv_mutex_destroy(&j->meta_lock);
    free(j->asides);
    free(j->landing);
    free(j->dir);
    free(j->tag);
    free(j);
}

int journal_open(struct journal **out, const struct journal_options *o, struct err *e)
{
    *out = NULL;
    journal_guard_install();
    struct journal *j = xcalloc(1, sizeof(*j));
    bio_init(&j->bio, o->loop);
    must(uv_mutex_init(&j->meta_lock) == 0);
    j->cur = epoch_new(j);
    int rc = configure(j, o, e);
    if (rc == 0 && !j->memory)
        rc = files_open(&j->files, j->dir, e);
    if (rc == 0 && !j->memory)
        rc = recover(j, e);
    if (rc < 0) {
        bio_drain(&j->bio);
        journal_free(j);
        return rc;
    }
    flush_init(j);
    j->flush_ms = clock_unix_ms();
    *out = j;
    return 0;
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    must(!j->cur->readers && !j->dead);
    // With `auto` the kernel writes when it likes; the sums tell the next process how far it got.
    bool force = !j->memory && !j->o.flush.auto_flush;
    if (force)
        flush_request(j);
    bio_drain(&j->bio);
    struct err e;
    j->meta.clean = force && !j->failure.code && !journal_damaged(j);
    if (!j->memory && !j->failure.code && store_meta(j, true, &e) < 0)
        log_warn(j->tag, "%s", e.msg);
    journal_free(j);
}

void journal_get_info(const struct journal *j, struct journal_info *info)
{
    const struct snapshot *s = &j->cur->snap;
    const struct log *l = &j->cur->log;
    memset(info, 0, sizeof(*info));
    memcpy(info->replid, j->meta.replid, sizeof(info->replid));
    memcpy(info->replid2, j->meta.replid2, sizeof(info->replid2));
    info->replid2_offset = j->meta.replid2_offset;
    info->older = j->meta.history;
    info->older_n = j->meta.history_count;
    info->has_log = l->present;
    info->left = l->present ? l->left : 0;
    info->right = l->present ? l->right : 0;
    info->has_snapshot = s->held && s->head == 0;
    info->snapshot_complete = s->complete;
    info->snapshot_offset = s->offset;
    info->snapshot_size = s->size;
    info->snapshot_have = s->have;
    info->life = j->meta.gen;
    info->bytes = (int64_t)(s->held ? s->have - s->head : 0);
    info->bytes += (int64_t)(l->present ? l->right - l->left : 0);
    info->bytes += (int64_t)aside_used(j);
    info->max_size = j->o.max_size;
    info->in_memory = j->memory;
}

bool journal_is_of(const struct journal_info *j, const char *id1, const char *id2, int64_t id2_end)
{
    return j->has_log && j->replid[0] &&
           (strcmp(j->replid, id1) == 0 ||
            (strcmp(j->replid, id2) == 0 && id2_end >= 0 && j->right <= (uint64_t)id2_end));
}

// Takes the current epoch's files out of the directory, oldest data first, so that what an
// interruption leaves is still contiguous.
static void drop_files(struct epoch *ep, bool now)
{
    struct journal *j = ep->j;
    struct log *l = &ep->log;
    struct snapshot *s = &ep->snap;
    if (j->memory)
        return;
    size_t n = 0;
    char(*names)[FILES_NAME_MAX] = xcalloc(l->seg_count + 1, sizeof(*names));
    if (s->held)
        files_snapshot_name(names[n++], s->offset, s->complete);
    for (size_t i = 0; i < l->seg_count; i++)
        files_segment_name(names[n++], l->segs[i].left);
    if (n)
        store_drop(j, names, n, now);
    free(names);
}

// What the target has got of the old snapshot must be found again.
static void put_aside(struct epoch *ep)
{
    struct snapshot *s = &ep->snap;
    char name[FILES_NAME_MAX];
    if (!s->held || !s->loading || s->have == 0 || ep->j->memory)
        return;
    files_snapshot_name(name, s->offset, s->complete);
    if (s->head > 0)
        log_warn(ep->j->tag,
                 "journal %s: of a snapshot that was loaded in part the beginning was given back "
                 "(maxSize): its keys cannot be taken back from the target",
                 ep->j->dir);
    else
        aside_keep(ep->j, name, s->have, false);
}

static void retire(struct epoch *ep)
{
    ep->dead = true;
    if (!ep->readers) {
        epoch_free(ep);
    } else {
        ep->next = ep->j->dead;
        ep->j->dead = ep;
    }
}

// A new epoch, on record before anything of it exists.
static int begin(struct journal *j, const char *replid, struct epoch *ep, struct err *e)
{
    struct epoch *old = j->cur;
    struct meta before = j->meta;
    memset(&j->meta, 0, sizeof(j->meta));
    j->meta.gen = before.gen + 1;
    memcpy(j->meta.boot_id, before.boot_id, sizeof(before.boot_id));
    memcpy(j->meta.replid, replid, strlen(replid));
    j->cur = ep;
    int rc = store_meta(j, true, e);
    bool full = rc == -ENOSPC || rc == -EDQUOT;
    if (rc < 0 && !full) {
        j->cur = old;
        j->meta = before;
        epoch_free(ep);
        return rc;
    }
    fault_point("journal.begun");
    if (!full)
        put_aside(old);
    drop_files(old, full);
    retire(old);
    // On a full disk the old data has to make room for the record that it is gone.
    if (full)
        rc = store_meta(j, true, e);
    flush_init(j);
    return rc;
}

static int check_begin(struct journal *j, const char *replid, uint64_t offset, struct err *e)
{
    if (j->failure.code) {
        if (e)
            *e = j->failure;
        return j->failure.code;
    }
    if (!meta_replid_valid(replid))
        return err_set(e, ERR_PROTOCOL, "the source's replication id is not one");
    if (!meta_position_valid(offset))
        return err_set(e, ERR_PROTOCOL, "the source's replication offset is out of range");
    return 0;
}

int journal_begin_snapshot(struct journal *j, const char *replid, uint64_t offset, uint64_t size,
                           struct err *e)
{
    int rc = check_begin(j, replid, offset, e);
    if (rc < 0)
        return rc;
    if (size != JOURNAL_SIZE_UNKNOWN && !meta_position_valid(size))
        return err_set(e, ERR_PROTOCOL, "the source announces a snapshot of impossible size");
    struct epoch *ep = epoch_new(j);
    ep->snap.known = ep->snap.held = true;
    ep->snap.offset = offset;
    ep->snap.size = size;
    return begin(j, replid, ep, e);
}

int journal_begin_log(struct journal *j, const char *replid, uint64_t offset, struct err *e)
{
    int rc = check_begin(j, replid, offset, e);
    if (rc < 0)
        return rc;
    struct epoch *ep = epoch_new(j);
    log_begin(ep, offset);
    return begin(j, replid, ep, e);
}

int journal_set_replid(struct journal *j, const char *replid, uint64_t offset, struct err *e)
{
    int rc = check_begin(j, replid, offset, e);
    if (rc < 0 || strcmp(j->meta.replid, replid) == 0)
        return rc;
    struct meta before = j->meta;
    meta_set_replid(&j->meta, replid, offset);
    rc = store_meta(j, true, e);
    if (rc < 0)
        j->meta = before;
    return rc;
}

void journal_mark(struct journal *j, uint64_t offset, int db, int64_t unix_ms)
{
    struct meta *m = &j->meta;
    const struct meta_mark *last = m->mark_count ? &m->marks[m->mark_count - 1] : NULL;
    if (last && last->db == db && unix_ms - last->unix_ms < MARK_EVERY_MS &&
        unix_ms >= last->unix_ms)
        return;
    if (db < 0 || !meta_position_valid(offset) || (last && offset < last->offset))
        return;
    meta_add_mark(m, offset, db, unix_ms);
    j->meta_dirty = true;
    if (!last)
        j->meta_ms = 0; // the log cannot be read from its beginning without it
}

bool journal_find_mark(const struct journal *j, uint64_t position, struct journal_mark *out)
{
    const struct meta_mark *m = meta_find_mark(&j->meta, position);
    if (m)
        *out = (struct journal_mark){m->offset, m->db, m->unix_ms};
    return m != NULL;
}

bool journal_next_mark(const struct journal *j, uint64_t position, struct journal_mark *out)
{
    const struct meta *m = &j->meta;
    for (size_t i = 0; i < m->mark_count; i++)
        if (m->marks[i].offset >= position) {
            const struct meta_mark *k = &m->marks[i];
            *out = (struct journal_mark){k->offset, k->db, k->unix_ms};
            return true;
        }
    return false;
}

static void drop_aged(struct journal *j, int64_t now)
{
    struct log *l = &j->cur->log;
    while (j->o.max_age_ms > 0 && l->seg_count > 1 && l->segs[0].end_unix_ms > 0 &&
           now - l->segs[0].end_unix_ms > j->o.max_age_ms &&
           l->segs[0].left + l->segs[0].capacity <= l->floor &&
           (!j->cur->snap.held || snapshot_unneeded(j->cur)))
        if (!journal_drop_oldest(j, false))
            break;
}

static int check_files(struct journal *j, struct err *e)
{
    struct log *l = &j->cur->log;
    struct stat st;
    int rc = files_check(&j->files, e);
    if (rc < 0 || !l->header)
        return rc;
    const struct segment *s = &l->segs[l->seg_count - 1];
    if (fstat(l->fd, &st) < 0)
        return err_sys(e, -errno, "cannot examine the log of journal %s", j->dir);
    if (st.st_nlink == 0)
        return err_set(e, -ENOENT, "a log file of journal %s was removed by someone", j->dir);
    if ((uint64_t)st.st_size < s->header_size + s->capacity)
        return err_set(e, ERR_CORRUPT, "a log file of journal %s was truncated by someone", j->dir);
    return 0;
}

int journal_tick(struct journal *j, struct err *e)
{
    int64_t now = clock_unix_ms();
    struct err found = {0};
    if (!j->failure.code && journal_damaged(j))
        err_set(&found, -EIO,
                "journal %s could not be read or written (disk error, or a file was "
                "truncated)",
                j->dir);
    else if (!j->failure.code && !j->memory && check_files(j, &found) == 0)
        found.code = 0;
    if (found.code)
        journal_fail(j, &found);
    if (!j->failure.code && !j->memory) {
        flush_tick(j, now);
        drop_aged(j, now);
        if (j->meta_dirty && now - j->meta_ms >= META_EVERY_MS && store_meta(j, false, &found) < 0)
            journal_fail(j, &found);
    }
    if (!j->failure.code || j->failure_told)
        return 0;
    j->failure_told = true;
    if (e)
        *e = j->failure;
    return j->failure.code;
}

bool journal_damaged(const struct journal *j)
{
    return atomic_load_explicit(&j->damaged, memory_order_acquire);
}

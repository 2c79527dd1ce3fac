// SPDX-License-Identifier: Apache-2.0
// When written bytes are forced to the disk. At most one flush runs and one waits.
#include "journal/internal.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define FLUSH_FILES 16 // segments a job; what is left comes with the next

struct flush_item {
    int fd;
    uint64_t left, right;
    int rc;
};

struct flush_job {
    struct bio_job job;
    struct journal *j;
    struct epoch *ep;
    struct flush_item log[FLUSH_FILES];
    size_t n;
    bool more;
    int snapshot_fd; // -1: none
    bool snapshot_complete;
    int snapshot_rc;
};

static void flush_run(struct bio_job *job)
{
    struct flush_job *f = (struct flush_job *)job;
    for (size_t i = 0; i < f->n; i++) {
        struct flush_item *it = &f->log[i];
        it->rc = fdatasync(it->fd) < 0 ? -errno : 0;
        // Later than the data by nature; an older value on disk only means more to verify.
        uint64_t synced = htole64(it->right);
        if (it->rc == 0 &&
            pwrite(it->fd, &synced, sizeof(synced), offsetof(struct segment_header, synced)) < 0)
            it->rc = -errno;
    }
    if (f->snapshot_fd >= 0)
        f->snapshot_rc = fdatasync(f->snapshot_fd) < 0 ? -errno : 0;
}

static void fail(struct journal *j, int rc, const char *what)
{
    struct err e;
    err_sys(&e, rc, "cannot flush the %s of journal %s to disk", what, j->dir);
    journal_fail(j, &e);
}

static void flush_done(struct bio_job *job)
{
    struct flush_job *f = (struct flush_job *)job;
    struct journal *j = f->j;
    bool current = f->ep == j->cur;
    j->flush_running = false;
    for (size_t i = 0; i < f->n; i++) {
        struct flush_item *it = &f->log[i];
        if (it->rc < 0)
            fail(j, it->rc, "log");
        close(it->fd);
        for (size_t k = 0; current && it->rc == 0 && k < j->cur->log.seg_count; k++)
            if (j->cur->log.segs[k].left == it->left)
                j->cur->log.segs[k].synced = it->right;
    }
    if (f->snapshot_fd >= 0) {
        if (f->snapshot_rc < 0)
            fail(j, f->snapshot_rc, "snapshot");
        close(f->snapshot_fd);
        if (current && f->snapshot_rc == 0 && f->snapshot_complete && j->cur->snap.held) {
            j->cur->snap.synced = true;
            j->meta_dirty = true;
        }
    }
    if (current && f->n > 0)
        j->cur->log.tail_slot ^= 1;
    if ((j->flush_pending || f->more) && !j->failure.code) {
        j->flush_pending = false;
        flush_request(j);
    }
}

// The incomplete block's sum goes to the slot that no finished flush relies on.
static void write_tail(struct log *l)
{
    if (!l->header)
        return;
    uint64_t start = l->block_end - VMAP_BLOCK;
    if (l->right == start)
        return;
    uint64_t sum = segment_sum(vmap_at(&l->vm, start), l->right - start);
    l->header->tail[l->tail_slot].right = htole64(l->right);
    l->header->tail[l->tail_slot].sum = htole64(sum);
}

static void collect(struct journal *j, struct flush_job *f)
{
    struct log *l = &j->cur->log;
    for (size_t i = 0; i < l->seg_count; i++) {
        struct segment *s = &l->segs[i];
        bool last = i + 1 == l->seg_count;
        uint64_t right = last ? l->right : s->left + s->capacity;
        if (s->synced >= right)
            continue;
        if (f->n == FLUSH_FILES) {
            f->more = true;
            return;
        }
        char name[FILES_NAME_MAX];
        files_segment_name(name, s->left);
        struct err e;
        int fd = last && l->fd >= 0 ? fcntl(l->fd, F_DUPFD_CLOEXEC, 0)
                                    : files_open_file(&j->files, name, O_RDWR, &e);
        if (fd < 0) {
            fail(j, last && l->fd >= 0 ? -errno : fd, "log");
            return;
        }
        f->log[f->n++] = (struct flush_item){.fd = fd, .left = s->left, .right = right};
    }
}

void flush_request(struct journal *j)
{
    if (j->memory || j->failure.code)
        return;
    if (j->flush_running) {
        j->flush_pending = true;
        return;
    }
    struct snapshot *s = &j->cur->snap;
    write_tail(&j->cur->log);
    struct flush_job *f = xcalloc(1, sizeof(*f));
    f->job.run = flush_run;
    f->job.done = flush_done;
    f->j = j;
    f->ep = j->cur;
    f->snapshot_fd = -1;
    collect(j, f);
    if (s->held && !s->synced && s->fd >= 0)
        f->snapshot_fd = fcntl(s->fd, F_DUPFD_CLOEXEC, 0);
    f->snapshot_complete = s->complete;
    s->flushed = s->have;
    j->flush_submitted = j->cur->log.right;
    if (j->o.flush.dirty_size > 0)
        j->cur->log.flush_at = j->flush_submitted + (uint64_t)j->o.flush.dirty_size;
    if (f->n == 0 && f->snapshot_fd < 0) {
        free(f);
        return;
    }
    j->flush_running = true;
    bio_submit(&j->bio, &f->job);
}

void flush_init(struct journal *j)
{
    struct log *l = &j->cur->log;
    j->flush_submitted = l->right;
    l->flush_at = NO_POSITION;
    if (j->memory)
        return;
    if (j->o.flush.every_write)
        l->flush_at = 0;
    else if (j->o.flush.dirty_size > 0)
        l->flush_at = l->right + (uint64_t)j->o.flush.dirty_size;
    l->slow_at = l->block_end < l->flush_at ? l->block_end : l->flush_at;
}

void flush_committed(struct journal *j)
{
    flush_request(j);
    if (j->o.flush.every_write)
        j->cur->log.flush_at = 0;
}

void flush_tick(struct journal *j, int64_t now_ms)
{
    const struct journal_flush *o = &j->o.flush;
    struct snapshot *s = &j->cur->snap;
    struct log *l = &j->cur->log;
    uint64_t log_dirty = l->present ? l->right - j->flush_submitted : 0;
    uint64_t dirty = log_dirty + (s->held && !s->complete ? s->have - s->flushed : 0);
    if (dirty == 0)
        return;
    if ((o->duration_ms > 0 && now_ms - j->flush_ms >= o->duration_ms) ||
        (o->dirty_size > 0 && dirty >= (uint64_t)o->dirty_size) || (o->every_write && log_dirty)) {
        j->flush_ms = now_ms;
        flush_request(j);
    }
}

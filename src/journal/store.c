// SPDX-License-Identifier: Apache-2.0
// meta.json, the spare segment, and how files end.
#include "journal/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"

struct meta_job {
    struct bio_job job;
    struct journal *j;
    char *text;
    size_t n;
    uint64_t seq;
    int rc;
    struct err e;
};

static void meta_run(struct bio_job *job)
{
    struct meta_job *m = (struct meta_job *)job;
    uv_mutex_lock(&m->j->meta_lock);
    // A later text may have overtaken this one.
    if (m->seq > m->j->meta_stored) {
        m->rc = files_replace(&m->j->files, FILES_META, m->text, m->n, &m->e);
        if (m->rc == 0)
            m->j->meta_stored = m->seq;
    }
    uv_mutex_unlock(&m->j->meta_lock);
}

static void meta_done(struct bio_job *job)
{
    struct meta_job *m = (struct meta_job *)job;
    // Marks are hints: on a full disk they wait, and nothing that they describe is lost.
    if (m->rc == -ENOSPC || m->rc == -EDQUOT)
        m->j->meta_dirty = true;
    else if (m->rc < 0)
        journal_fail(m->j, &m->e);
    free(m->text);
}

int store_meta(struct journal *j, bool wait, struct err *e)
{
    if (j->memory)
        return 0;
    struct snapshot *s = &j->cur->snap;
    struct meta *m = &j->meta;
    m->has_log = j->cur->log.present;
    m->log_base = j->cur->log.left;
    m->has_snapshot = s->held;
    m->snapshot_complete = s->complete;
    m->snapshot_synced = s->synced;
    m->snapshot_loading = s->loading;
    m->snapshot_offset = s->offset;
    m->snapshot_size = s->have;
    m->snapshot_head = s->head;
    j->meta_dirty = false;
    j->meta_ms = clock_unix_ms();

    struct meta_job *job = xcalloc(1, sizeof(*job));
    *job = (struct meta_job){.job = {.run = meta_run, .done = meta_done}, .j = j};
    job->text = meta_encode(m, &job->n);
    job->seq = ++j->meta_seq;
    if (!wait) {
        bio_submit(&j->bio, &job->job);
        return 0;
    }
    meta_run(&job->job);
    int rc = job->rc;
    if (rc < 0) {
        j->meta_dirty = true;
        if (e)
            *e = job->e;
    }
    free(job->text);
    free(job);
    return rc;
}

struct unlink_job {
    struct bio_job job;
    int dir;
    char (*names)[FILES_NAME_MAX];
    size_t n;
};

static void unlink_run(struct bio_job *job)
{
    struct unlink_job *u = (struct unlink_job *)job;
    for (size_t i = 0; i < u->n; i++)
        unlinkat(u->dir, u->names[i], 0);
}

static void unlink_done(struct bio_job *job)
{
    free(((struct unlink_job *)job)->names);
}

void store_drop(struct journal *j, char (*names)[FILES_NAME_MAX], size_t n, bool now)
{
    struct unlink_job *u = xcalloc(1, sizeof(*u));
    *u = (struct unlink_job){.job = {.run = unlink_run, .done = unlink_done}, .dir = j->files.fd};
    u->names = xcalloc(n, sizeof(*u->names));
    for (size_t i = 0; i < n; i++) {
        // A new file may take the old name before the pool gets to it.
        char *to = u->names[u->n];
        snprintf(to, FILES_NAME_MAX, FILES_TEMP_PREFIX "dead-%016llx%08x",
                 (unsigned long long)j->meta.gen, j->dead_names++);
        if (renameat(j->files.fd, names[i], j->files.fd, to) == 0)
            u->n++;
        else if (errno != ENOENT)
            log_warn(j->tag, "journal %s: cannot remove %s: %s", j->dir, names[i],
                     err_text(-errno));
    }
    if (!now) {
        bio_submit(&j->bio, &u->job);
        return;
    }
    unlink_run(&u->job);
    unlink_done(&u->job);
    free(u);
}

struct spare_job {
    struct bio_job job;
    struct journal *j;
    uint64_t capacity;
    int fd; // or -errno
};

static int make_spare(struct journal *j, uint64_t capacity)
{
    unlinkat(j->files.fd, STORE_SPARE, 0);
    int fd =
        openat(j->files.fd, STORE_SPARE, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int rc = files_preallocate(fd, 0, segment_header_used(capacity));
    if (rc == 0)
        rc = files_preallocate(fd, segment_header_size(capacity), capacity);
    if (rc == 0)
        return fd;
    close(fd);
    unlinkat(j->files.fd, STORE_SPARE, 0);
    return rc;
}

static void spare_run(struct bio_job *job)
{
    struct spare_job *s = (struct spare_job *)job;
    s->fd = make_spare(s->j, s->capacity);
}

static void spare_done(struct bio_job *job)
{
    struct spare_job *s = (struct spare_job *)job;
    s->j->spare = s->fd >= 0 ? SPARE_READY : SPARE_FAILED;
    s->j->spare_fd = s->fd >= 0 ? s->fd : -1;
}

void store_make_spare(struct journal *j)
{
    uint64_t capacity = j->log_size;
    j->spare = SPARE_FAILED;
    // Not worth a part of the snapshot.
    bool fits = j->max_size == NO_POSITION ||
                journal_used(j) + capacity + segment_header_used(capacity) <= j->max_size;
    if (!fits && j->cur->snap.held)
        return;
    if (journal_reserve(j, capacity + segment_header_used(capacity), NULL) < 0)
        return;
    struct spare_job *s = xcalloc(1, sizeof(*s));
    *s = (struct spare_job){
        .job = {.run = spare_run, .done = spare_done}, .j = j, .capacity = capacity, .fd = -1};
    j->spare = SPARE_RUNNING;
    j->spare_capacity = capacity;
    bio_submit(&j->bio, &s->job);
}

int store_take_spare(struct journal *j, uint64_t capacity, struct err *e)
{
    if (j->spare == SPARE_RUNNING)
        bio_drain(&j->bio);
    int fd = j->spare == SPARE_READY ? j->spare_fd : -1;
    bool refused = fault_point("journal.no_space");
    j->spare = SPARE_NONE;
    j->spare_fd = -1;
    if (refused && fd >= 0)
        close(fd);
    if (refused)
        fd = -ENOSPC;
    else if (fd < 0)
        fd = make_spare(j, capacity);
    if (fd < 0)
        return err_sys(e, fd, "cannot make a segment of %llu MiB in %s",
                       (unsigned long long)(capacity >> 20), j->dir);
    return fd;
}

int memory_file(const char *name, struct err *e)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    return fd < 0 ? err_sys(e, -errno, "cannot make a file in memory") : fd;
}

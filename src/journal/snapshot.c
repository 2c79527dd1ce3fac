// SPDX-License-Identifier: Apache-2.0
// The snapshot: RDB bytes in one growing file, on disk or in memory.
#include "journal/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"

#define STEP ((uint64_t)64 << 20) // the file grows by this
#define COOL ((uint64_t)32 << 20)

static uint64_t round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static int map_snapshot(void *ctx, char *addr, uint64_t lo, uint64_t hi, struct err *e)
{
    struct epoch *ep = ctx;
    struct snapshot *s = &ep->snap;
    int prot = s->complete ? PROT_READ : PROT_READ | PROT_WRITE;
    if (mmap(addr, hi - lo, prot, MAP_SHARED | MAP_FIXED, s->fd, (off_t)lo) == MAP_FAILED)
        return err_sys(e, -errno, "cannot map the snapshot of %s", ep->j->dir);
    return 0;
}

void snapshot_init(struct epoch *ep)
{
    struct snapshot *s = &ep->snap;
    *s = (struct snapshot){.fd = -1, .size = JOURNAL_SIZE_UNKNOWN};
    vmap_init(&s->vm, 0, ep->j->memory ? ep->j->extent : COOL, map_snapshot, ep, &ep->j->damaged);
}

void snapshot_free(struct epoch *ep)
{
    struct snapshot *s = &ep->snap;
    vmap_free(&s->vm);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->held = false;
    s->alloc = s->head;
}

uint64_t snapshot_used(const struct epoch *ep)
{
    return ep->snap.held ? ep->snap.alloc - ep->snap.head : 0;
}

static int create(struct epoch *ep, struct err *e)
{
    struct journal *j = ep->j;
    struct snapshot *s = &ep->snap;
    char name[FILES_NAME_MAX];
    if (j->memory) {
        s->fd = memory_file("gunyu-snapshot", e);
        return s->fd < 0 ? s->fd : 0;
    }
    files_snapshot_name(name, s->offset, false);
    s->fd = files_open_file(&j->files, name, O_RDWR | O_CREAT | O_EXCL, e);
    return s->fd < 0 ? s->fd : 0;
}

// Grows the file by a step, or by what max_size leaves.
static int extend(struct epoch *ep, struct err *e)
{
    struct journal *j = ep->j;
    struct snapshot *s = &ep->snap;
    if (s->fd < 0) {
        int rc = create(ep, e);
        if (rc < 0)
            return rc;
    }
    uint64_t step = j->memory ? j->extent : STEP;
    if (s->size != JOURNAL_SIZE_UNKNOWN && s->size > s->alloc && !j->memory &&
        round_up(s->size - s->alloc, VMAP_BLOCK) < step)
        step = round_up(s->size - s->alloc, VMAP_BLOCK);
    // A smaller step before anything is given up for a larger one.
    uint64_t used = journal_used(j), rest = used < j->max_size ? j->max_size - used : 0;
    if (step > rest && rest >= j->extent && !j->memory)
        step = rest / VMAP_BLOCK * VMAP_BLOCK;
    int rc;
    while ((rc = journal_reserve(j, step, e)) == ERR_FULL && step > j->extent)
        step = round_up(step / 2, VMAP_BLOCK);
    if (rc < 0)
        return rc;
    if (j->memory)
        rc = ftruncate(s->fd, (off_t)(s->alloc + step)) < 0 ? -errno : 0;
    else
        rc = files_preallocate(s->fd, s->alloc, step);
    if (rc < 0)
        return err_sys(e, rc, "cannot extend the snapshot of %s", j->dir);
    rc = vmap_cover(&s->vm, s->alloc, s->alloc + step, e);
    if (rc == 0)
        s->alloc += step;
    return rc;
}

int journal_snapshot_space(struct journal *j, char **p, size_t *n, struct err *e)
{
    struct epoch *ep = j->cur;
    struct snapshot *s = &ep->snap;
    if (j->failure.code) {
        if (e)
            *e = j->failure;
        return j->failure.code;
    }
    if (!s->held || s->complete || s->have >= s->size)
        return err_set(e, -EINVAL, "no snapshot is being received");
    if (s->have == s->alloc) {
        int rc = extend(ep, e);
        if (rc < 0)
            return rc;
    }
    uint64_t room = s->alloc - s->have, left = s->size - s->have;
    *n = landing_space(j, p, room < left ? room : left);
    return 0;
}

int journal_snapshot_commit(struct journal *j, size_t n, struct err *e)
{
    struct epoch *ep = j->cur;
    struct snapshot *s = &ep->snap;
    must(n <= s->alloc - s->have);
    if (n == 0)
        return 0;
    int rc = landing_put(j, s->fd, s->have, vmap_at(&s->vm, s->have), n, e);
    if (rc < 0)
        return rc;
    s->have += n;
    while (s->have - s->cooled >= 2 * COOL) {
        if (s->floor < s->cooled)
            vmap_cool(&s->vm, s->cooled, s->cooled + COOL);
        s->cooled += COOL;
    }
    return 0;
}

// Gives bytes back to the system.
static void punch(struct snapshot *s, uint64_t from, uint64_t to)
{
    fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from));
}

void snapshot_release(struct epoch *ep)
{
    struct snapshot *s = &ep->snap;
    if (!s->held)
        return;
    bool all = s->complete && s->floor >= s->have;
    if (!ep->j->memory) {
        uint64_t keep = s->floor < s->have ? s->floor : s->have;
        if (ep->readers)
            vmap_trim(&s->vm, keep);
        return;
    }
    if (all) {
        s->head = s->have;
        snapshot_free(ep);
        return;
    }
    uint64_t to = s->floor - s->floor % ep->j->extent;
    if (to > s->alloc)
        to = s->alloc;
    if (to > s->head) {
        vmap_trim(&s->vm, to);
        punch(s, s->head, to);
        s->head = to;
    }
}

bool snapshot_shed(struct journal *j)
{
    struct epoch *ep = j->cur;
    struct snapshot *s = &ep->snap;
    if (!s->held || j->memory || s->fd < 0)
        return false;
    uint64_t from = s->head, to = (s->floor < s->have ? s->floor : s->have) / j->extent * j->extent;
    if (to <= from)
        return false;
    // On record before the bytes go, so that no later process takes the hole for data.
    s->head = to;
    struct err e;
    if (from == 0 && s->complete && store_meta(j, true, &e) < 0) {
        s->head = from;
        log_warn(j->tag, "journal %s: %s", j->dir, e.msg);
        return false;
    }
    if (from == 0)
        log_info(
            j->tag,
            "journal %s: maxSize is reached; the loaded part of the snapshot is dropped, so it "
            "cannot be loaded a second time",
            j->dir);
    vmap_cut(&s->vm, to);
    punch(s, from, to);
    return true;
}

void snapshot_drop(struct journal *j, bool now)
{
    struct epoch *ep = j->cur;
    struct snapshot *s = &ep->snap;
    if (!s->held)
        return;
    char name[1][FILES_NAME_MAX];
    files_snapshot_name(name[0], s->offset, s->complete);
    log_debug(j->tag, "journal %s: dropping %s, read by all", j->dir, name[0]);
    snapshot_free(ep);
    store_drop(j, name, 1, now);
    j->meta_dirty = true;
}

int journal_end_snapshot(struct journal *j, uint64_t final_size, struct err *e)
{
    struct epoch *ep = j->cur;
    struct snapshot *s = &ep->snap;
    if (!s->held || s->complete || final_size > s->have)
        return err_set(e, -EINVAL, "a snapshot of %llu bytes cannot end: %llu were received",
                       (unsigned long long)final_size, (unsigned long long)s->have);
    if (s->fd < 0) {
        int rc = create(ep, e);
        if (rc < 0)
            return rc;
    }
    if (!j->memory) {
        char from[FILES_NAME_MAX], to[FILES_NAME_MAX];
        files_snapshot_name(from, s->offset, false);
        files_snapshot_name(to, s->offset, true);
        if (ftruncate(s->fd, (off_t)final_size) < 0 ||
            renameat2(j->files.fd, from, j->files.fd, to, RENAME_NOREPLACE) < 0)
            return err_sys(e, -errno, "cannot complete %s/%s", j->dir, to);
        s->alloc = round_up(final_size, VMAP_BLOCK);
    }
    fault_point("journal.snapshot_renamed");
    s->have = s->size = final_size;
    s->complete = true;
    log_begin(ep, s->offset);
    flush_init(j);
    epoch_update_floors(ep);
    int rc = store_meta(j, true, e);
    // On a full disk the record follows when there is room; a crash before costs the snapshot.
    if (rc == -ENOSPC || rc == -EDQUOT)
        rc = 0;
    if (rc == 0 && !j->memory && !j->o.flush.auto_flush)
        flush_request(j);
    return rc;
}

int snapshot_reopen(struct epoch *ep, struct err *e)
{
    struct snapshot *s = &ep->snap;
    char name[FILES_NAME_MAX];
    files_snapshot_name(name, s->offset, true);
    s->fd = files_open_file(&ep->j->files, name, O_RDWR, e);
    return s->fd < 0 ? s->fd : 0;
}

int journal_snapshot_view(struct journal_reader *r, uint64_t from, const char **p, size_t *n,
                          struct err *e)
{
    struct epoch *ep = r->ep;
    struct snapshot *s = &ep->snap;
    *p = "";
    *n = 0;
    if (ep->dead || !s->held || from < s->head || from > s->have)
        return err_set(e, -ERANGE, "snapshot byte %llu is not held", (unsigned long long)from);
    if (from == s->have)
        return 0;
    if (from < s->vm.lo || s->have > s->vm.hi) {
        int rc = vmap_cover(&s->vm, from, s->have, e);
        if (rc < 0)
            return rc;
    }
    *p = vmap_at(&s->vm, from);
    *n = s->have - from;
    return 0;
}

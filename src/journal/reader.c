// SPDX-License-Identifier: Apache-2.0
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "journal/internal.h"

struct journal_reader *journal_reader_open(struct journal *j)
{
    struct epoch *ep = j->cur;
    struct journal_reader *r = xcalloc(1, sizeof(*r));
    r->ep = ep;
    r->log_release = ep->log.present ? ep->log.left : ep->snap.offset;
    r->snap_release = ep->snap.head;
    r->next = ep->readers;
    if (ep->readers)
        ep->readers->prev = r;
    ep->readers = r;
    epoch_update_floors(ep);
    return r;
}

void journal_reader_close(struct journal_reader *r)
{
    if (!r)
        return;
    struct epoch *ep = r->ep;
    if (r->prev)
        r->prev->next = r->next;
    else
        ep->readers = r->next;
    if (r->next)
        r->next->prev = r->prev;
    free(r->sums);
    free(r);
    if (ep->readers) {
        epoch_update_floors(ep);
        log_release(ep);
        snapshot_release(ep);
    } else if (ep->aside) {
        epoch_free(ep);
    } else if (ep->dead) {
        struct epoch **p = &ep->j->dead;
        while (*p != ep)
            p = &(*p)->next;
        *p = ep->next;
        epoch_free(ep);
    }
}

void journal_log_release(struct journal_reader *r, uint64_t position)
{
    struct epoch *ep = r->ep;
    if (!ep->log.present)
        return;
    if (position > ep->log.right)
        position = ep->log.right;
    // Whoever is at the log's beginning has all of the snapshot that it follows.
    bool passed = ep->snap.known && !r->snap_done && position >= ep->snap.offset;
    if (position <= r->log_release && !passed)
        return;
    if (position > r->log_release)
        r->log_release = position;
    r->snap_done |= passed;
    if (ep->dead)
        return;
    epoch_update_floors(ep);
    log_release(ep);
    if (passed)
        snapshot_release(ep);
}

void journal_snapshot_release(struct journal_reader *r, uint64_t index)
{
    struct epoch *ep = r->ep;
    if (index > ep->snap.have)
        index = ep->snap.have;
    if (index <= r->snap_release)
        return;
    r->snap_release = index;
    if (ep->dead)
        return;
    epoch_update_floors(ep);
    snapshot_release(ep);
}

static int load_sums(struct journal_reader *r, const struct segment *s, struct err *e)
{
    if (r->sums && r->sums_left == s->left)
        return 0;
    struct journal *j = r->ep->j;
    size_t n = s->capacity / VMAP_BLOCK * sizeof(uint64_t);
    char name[FILES_NAME_MAX];
    files_segment_name(name, s->left);
    int fd = files_open_file(&j->files, name, O_RDONLY, e);
    if (fd < 0)
        return fd;
    free(r->sums);
    r->sums = xmalloc(n);
    r->sums_left = s->left;
    ssize_t got = files_pread_full(fd, r->sums, n, SEGMENT_FIXED);
    close(fd);
    if (got == (ssize_t)n)
        return 0;
    free(r->sums);
    r->sums = NULL;
    return err_sys(e, got < 0 ? (int)got : -EIO, "cannot read %s/%s", j->dir, name);
}

// The sum of a complete block; 0 when the segment has none for it.
static int block_sum(struct journal_reader *r, const struct segment *s, uint64_t at, uint64_t *sum,
                     struct err *e)
{
    struct log *l = &r->ep->log;
    uint64_t i = (at - s->left) / VMAP_BLOCK;
    if (l->header && s == &l->segs[l->seg_count - 1]) {
        *sum = le64toh(l->header->sums[i]);
        return 0;
    }
    int rc = load_sums(r, s, e);
    *sum = rc < 0 ? 0 : le64toh(r->sums[i]);
    return rc;
}

// Checks what this reader has not checked yet. The block that still fills has no sum.
static int verify(struct journal_reader *r, uint64_t from, struct err *e)
{
    struct log *l = &r->ep->log;
    if (l->seg_count == 0)
        return 0;
    if (from < r->verified_lo || from > r->verified_hi || r->verified_hi == 0)
        r->verified_lo = r->verified_hi = from - (from - l->vm.base) % VMAP_BLOCK;
    size_t i = 0;
    for (uint64_t at = r->verified_hi; at + VMAP_BLOCK <= l->right; at += VMAP_BLOCK) {
        while (l->segs[i].left + l->segs[i].capacity <= at)
            i++;
        const struct segment *s = &l->segs[i];
        uint64_t sum;
        int rc = block_sum(r, s, at, &sum, e);
        if (rc < 0)
            return rc;
        if (sum == 0 || sum != segment_sum(vmap_at(&l->vm, at), VMAP_BLOCK)) {
            char name[FILES_NAME_MAX];
            files_segment_name(name, s->left);
            return err_set(
                e, ERR_CORRUPT, "%s/%s is damaged between byte %llu and %llu (positions from %llu)",
                r->ep->j->dir, name, (unsigned long long)(s->header_size + (at - s->left)),
                (unsigned long long)(s->header_size + (at - s->left) + VMAP_BLOCK),
                (unsigned long long)at);
        }
        r->verified_hi = at + VMAP_BLOCK;
    }
    return 0;
}

int journal_log_view(struct journal_reader *r, uint64_t from, const char **p, size_t *n,
                     struct err *e)
{
    struct epoch *ep = r->ep;
    struct log *l = &ep->log;
    *p = "";
    *n = 0;
    if (ep->dead || !l->present || from < l->left || from > l->right)
        return err_set(e, -ERANGE, "log position %llu is not held", (unsigned long long)from);
    if (from == l->right)
        return 0;
    if (from < l->vm.lo || l->right > l->vm.hi) {
        int rc = vmap_cover(&l->vm, from, l->right, e);
        if (rc < 0)
            return rc;
    }
    if (ep->j->o.verify_crc && !ep->j->memory) {
        int rc = verify(r, from, e);
        if (rc < 0)
            return rc;
    }
    *p = vmap_at(&l->vm, from);
    *n = l->right - from;
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
// The log: segments in files, or one file in memory. Both are seen through a vmap.
#include "journal/internal.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"

// Page tables of what was written but will be read much later are given back in this unit.
#define COOL ((uint64_t)32 << 20)
// Address space is given back in this unit.
#define GRAIN ((uint64_t)16 << 20)

static struct segment *last_segment(struct log *l)
{
    return l->seg_count ? &l->segs[l->seg_count - 1] : NULL;
}

// What follows is written, not read: reading ahead would only clear pages for it.
static void no_readahead(void *addr, size_t n)
{
    madvise(addr, n, MADV_RANDOM);
}

// Files are opened for the moment of mapping only: descriptors are scarcer than mappings.
static int map_segment(struct journal *j, const struct segment *s, bool last, char *addr,
                       uint64_t lo, uint64_t hi, struct err *e)
{
    char name[FILES_NAME_MAX];
    files_segment_name(name, s->left);
    int fd = files_open_file(&j->files, name, O_RDWR, e);
    if (fd < 0)
        return fd;
    struct segment found;
    int rc = 0;
    if (segment_read(fd, s->left, &found, e) != SEGMENT_OURS || found.gen != s->gen) {
        rc = err_set(e, ERR_CORRUPT, "%s/%s was changed by someone else", j->dir, name);
    } else if (mmap(addr, hi - lo, last ? PROT_READ | PROT_WRITE : PROT_READ,
                    MAP_SHARED | MAP_FIXED, fd,
                    (off_t)(s->header_size + (lo - s->left))) == MAP_FAILED) {
        rc = err_sys(e, -errno, "cannot map %s/%s (vm.max_map_count, logSize)", j->dir, name);
    } else if (last) {
        no_readahead(addr, hi - lo);
    }
    close(fd);
    return rc;
}

static int map_segments(void *ctx, char *addr, uint64_t lo, uint64_t hi, struct err *e)
{
    struct epoch *ep = ctx;
    struct log *l = &ep->log;
    for (size_t i = 0; i < l->seg_count && lo < hi; i++) {
        const struct segment *s = &l->segs[i];
        uint64_t end = s->left + s->capacity;
        if (end <= lo)
            continue;
        uint64_t stop = end < hi ? end : hi;
        int rc = map_segment(ep->j, s, i + 1 == l->seg_count, addr, lo, stop, e);
        if (rc < 0)
            return rc;
        addr += stop - lo;
        lo = stop;
    }
    return 0;
}

static int map_memory(void *ctx, char *addr, uint64_t lo, uint64_t hi, struct err *e)
{
    struct log *l = &((struct epoch *)ctx)->log;
    if (mmap(addr, hi - lo, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, l->fd,
             (off_t)(lo - l->vm.base)) == MAP_FAILED)
        return err_sys(e, -errno, "cannot map memory");
    return 0;
}

void log_init(struct epoch *ep)
{
    ep->log = (struct log){
        .fd = -1, .block_end = NO_POSITION, .slow_at = NO_POSITION, .flush_at = NO_POSITION};
}

void log_begin(struct epoch *ep, uint64_t left)
{
    struct log *l = &ep->log;
    struct journal *j = ep->j;
    l->present = true;
    l->left = l->right = l->room = l->floor = l->cooled = left;
    l->ready = 0;
    vmap_init(&l->vm, left, j->memory ? j->extent : GRAIN, j->memory ? map_memory : map_segments,
              ep, &j->damaged);
}

static void seal(struct log *l)
{
    if (!l->header)
        return;
    guard_remove(l->header_guard);
    munmap(l->header, segment_header_used(last_segment(l)->capacity));
    l->header = NULL;
    l->header_guard = NULL;
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    l->block_end = NO_POSITION;
}

void log_free(struct epoch *ep)
{
    struct log *l = &ep->log;
    seal(l);
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    if (l->present)
        vmap_free(&l->vm);
    free(l->segs);
    l->segs = NULL;
    l->seg_count = 0;
    l->present = false;
    l->ready = 0;
}

uint64_t log_used(const struct epoch *ep)
{
    const struct log *l = &ep->log;
    if (ep->j->memory)
        return l->present ? l->room - l->left : 0;
    uint64_t n = 0;
    for (size_t i = 0; i < l->seg_count; i++)
        n += segment_header_used(l->segs[i].capacity) + l->segs[i].capacity;
    return n;
}

static void set_slow_at(struct log *l)
{
    l->slow_at = l->block_end < l->flush_at ? l->block_end : l->flush_at;
}

// Begins or goes on writing in the last segment, whose file is open as fd.
static int activate(struct epoch *ep, int fd, struct err *e)
{
    struct log *l = &ep->log;
    struct segment *s = last_segment(l);
    struct segment_header *h =
        mmap(NULL, segment_header_used(s->capacity), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (h == MAP_FAILED)
        return err_sys(e, -errno, "cannot map a segment of %s", ep->j->dir);
    no_readahead(h, segment_header_used(s->capacity));
    uint64_t done = (l->right - s->left) / VMAP_BLOCK * VMAP_BLOCK;
    uint64_t lo = s->left + (done < s->capacity ? done : s->capacity - VMAP_BLOCK);
    int rc = vmap_cover(&l->vm, lo, s->left + s->capacity, e);
    if (rc < 0) {
        munmap(h, segment_header_used(s->capacity));
        return rc;
    }
    l->header = h;
    l->header_guard = guard_add(h, segment_header_used(s->capacity), &ep->j->damaged);
    l->fd = fd;
    l->room = s->left + s->capacity;
    l->block_end = s->left + done + VMAP_BLOCK;
    l->tail_slot = le64toh(h->tail[0].right) > le64toh(h->tail[1].right);
    set_slow_at(l);
    return 0;
}

// After recovery the last segment may have room left.
static int resume_last(struct epoch *ep, struct err *e)
{
    struct segment *s = last_segment(&ep->log);
    char name[FILES_NAME_MAX];
    files_segment_name(name, s->left);
    int fd = files_open_file(&ep->j->files, name, O_RDWR, e);
    if (fd < 0)
        return fd;
    // Mapped without readahead, as the rest will be written.
    posix_fadvise(fd, s->header_size, (off_t)(s->right - s->left), POSIX_FADV_WILLNEED);
    int rc = s->short_file ? files_preallocate(fd, s->header_size, s->capacity) : 0;
    if (rc < 0)
        rc = err_sys(e, rc, "cannot extend %s/%s to its full size", ep->j->dir, name);
    else
        rc = activate(ep, fd, e);
    if (rc < 0)
        close(fd);
    else
        s->short_file = false;
    return rc;
}

static int write_header(struct journal *j, int fd, const struct segment *s, struct err *e)
{
    struct segment_header *h = xcalloc(1, SEGMENT_FIXED);
    segment_init(h, s);
    ssize_t n = pwrite(fd, h, SEGMENT_FIXED, 0);
    free(h);
    if (n == SEGMENT_FIXED)
        return 0;
    return err_sys(e, n < 0 ? -errno : -ENOSPC, "cannot write a segment of %s", j->dir);
}

static void push_segment(struct log *l, const struct segment *s)
{
    if (l->seg_count == l->seg_cap) {
        l->seg_cap = l->seg_cap ? l->seg_cap * 2 : 16;
        l->segs = xrealloc(l->segs, l->seg_cap * sizeof(*l->segs));
    }
    l->segs[l->seg_count++] = *s;
}

void log_adopt(struct epoch *ep, const struct segment *s)
{
    struct log *l = &ep->log;
    if (l->seg_count)
        last_segment(l)->end_unix_ms = s->start_unix_ms;
    push_segment(l, s);
    l->right = l->room = l->cooled = s->right;
}

// The file gets its name last, so that a name always has a header.
static int add_segment(struct epoch *ep, struct err *e)
{
    struct journal *j = ep->j;
    struct log *l = &ep->log;
    int64_t now = clock_unix_ms();
    struct segment s = {.gen = j->meta.gen,
                        .left = l->right,
                        .right = l->right,
                        .synced = l->right,
                        .capacity = j->log_size,
                        .header_size = segment_header_size(j->log_size),
                        .start_unix_ms = now,
                        .db = -1};
    memcpy(s.replid, j->meta.replid, sizeof(s.replid));
    const struct meta_mark *mark = meta_find_mark(&j->meta, l->right);
    if (mark) {
        s.db = mark->db;
        s.db_offset = mark->offset;
    }
    int fd = store_take_spare(j, s.capacity, e);
    if (fd < 0)
        return fd;
    char name[FILES_NAME_MAX];
    files_segment_name(name, s.left);
    int rc = write_header(j, fd, &s, e);
    fault_point("journal.segment_written");
    if (rc == 0 && renameat2(j->files.fd, STORE_SPARE, j->files.fd, name, RENAME_NOREPLACE) < 0)
        rc = err_sys(e, -errno, "cannot make %s/%s (a file that is not the journal's?)", j->dir,
                     name);
    if (rc < 0) {
        unlinkat(j->files.fd, STORE_SPARE, 0);
        close(fd);
        return rc;
    }
    fault_point("journal.segment_created");
    seal(l);
    if (l->seg_count)
        last_segment(l)->end_unix_ms = now;
    push_segment(l, &s);
    rc = activate(ep, fd, e);
    if (rc < 0)
        close(fd);
    return rc;
}

static int extend_storer(struct epoch *ep, struct err *e)
{
    struct journal *j = ep->j;
    struct log *l = &ep->log;
    struct segment *s = last_segment(l);
    if (s && l->right < s->left + s->capacity)
        return resume_last(ep, e);
    if (j->spare == SPARE_NONE || j->spare == SPARE_FAILED) {
        int rc = journal_reserve(j, j->log_size + segment_header_used(j->log_size), e);
        if (rc < 0)
            return rc;
    }
    int rc = add_segment(ep, e);
    // A full disk: older data that nobody needs gives way, one file at a time.
    while (rc == -ENOSPC && journal_drop_oldest(j, true))
        rc = add_segment(ep, e);
    return rc;
}

static int extend_memory(struct epoch *ep, struct err *e)
{
    struct journal *j = ep->j;
    struct log *l = &ep->log;
    int rc = journal_reserve(j, j->extent, e);
    if (rc < 0)
        return rc;
    if (l->fd < 0 && (l->fd = memory_file("gunyu-log", e)) < 0)
        return l->fd;
    uint64_t end = l->room + j->extent;
    if (ftruncate(l->fd, (off_t)(end - l->vm.base)) < 0)
        return err_sys(e, -errno, "cannot extend the log in memory");
    rc = vmap_cover(&l->vm, l->room, end, e);
    if (rc == 0)
        l->room = end;
    return rc;
}

static int make_room(struct journal *j, struct err *e)
{
    struct epoch *ep = j->cur;
    struct log *l = &ep->log;
    if (j->failure.code) {
        if (e)
            *e = j->failure;
        return j->failure.code;
    }
    if (!l->present)
        return err_set(e, -EINVAL, "the journal has no log yet");
    if (l->right == l->room) {
        int rc = j->memory ? extend_memory(ep, e) : extend_storer(ep, e);
        if (rc < 0) {
            l->ready = 0;
            return rc;
        }
    }
    l->ready = l->room;
    return 0;
}

int journal_log_space(struct journal *j, char **p, size_t *n, struct err *e)
{
    struct log *l = &j->cur->log;
    if (__builtin_expect(l->right >= l->ready, 0)) {
        int rc = make_room(j, e);
        if (rc < 0)
            return rc;
    }
    *n = landing_space(j, p, l->room - l->right);
    return 0;
}

// The block that is being filled is read once more, for its sum.
static uint64_t writing_from(const struct log *l)
{
    return l->header ? l->block_end - VMAP_BLOCK : l->right;
}

// Where the log lies behind its readers only the address space is given back; where a reader lies
// far behind the log, the page tables between the two.
static void tidy(struct epoch *ep)
{
    struct log *l = &ep->log;
    if (!ep->readers)
        vmap_trim(&l->vm, writing_from(l));
    while (l->right - l->cooled >= 2 * COOL) {
        if (ep->readers && l->floor < l->cooled)
            vmap_cool(&l->vm, l->cooled, l->cooled + COOL);
        l->cooled += COOL;
    }
}

static void commit_slow(struct journal *j, uint64_t right)
{
    struct epoch *ep = j->cur;
    struct log *l = &ep->log;
    if (l->header) {
        struct segment *s = last_segment(l);
        for (; right >= l->block_end; l->block_end += VMAP_BLOCK) {
            uint64_t start = l->block_end - VMAP_BLOCK;
            l->header->sums[(start - s->left) / VMAP_BLOCK] =
                htole64(segment_sum(vmap_at(&l->vm, start), VMAP_BLOCK));
        }
        segment_set_right(l->header, right);
    }
    l->right = right;
    if (l->header) {
        struct segment *s = last_segment(l);
        if (j->spare == SPARE_NONE && right - s->left >= s->capacity / 2)
            store_make_spare(j);
        tidy(ep);
    }
    if (right >= l->flush_at)
        flush_committed(j);
    set_slow_at(l);
}

// Where the log's right edge lies in the file that is written to.
static uint64_t file_offset(const struct log *l)
{
    if (!l->header)
        return l->right - l->vm.base;
    const struct segment *s = &l->segs[l->seg_count - 1];
    return s->header_size + (l->right - s->left);
}

int journal_log_commit(struct journal *j, size_t n, struct err *e)
{
    struct log *l = &j->cur->log;
    must(n <= l->room - l->right);
    if (n == 0)
        return 0;
    int rc = landing_put(j, l->fd, file_offset(l), vmap_at(&l->vm, l->right), n, e);
    if (rc < 0)
        return rc;
    uint64_t right = l->right + n;
    if (__builtin_expect(right >= l->slow_at, 0)) {
        commit_slow(j, right);
        return 0;
    }
    l->right = right;
    if (l->header)
        segment_set_right(l->header, right);
    return 0;
}

static void release_memory(struct epoch *ep)
{
    struct log *l = &ep->log;
    uint64_t lo = l->floor - (l->floor - l->vm.base) % ep->j->extent;
    if (lo > l->room)
        lo = l->room;
    if (lo <= l->left)
        return;
    vmap_trim(&l->vm, lo);
    fallocate(l->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(l->left - l->vm.base),
              (off_t)(lo - l->left));
    l->left = lo;
}

void log_release(struct epoch *ep)
{
    struct log *l = &ep->log;
    if (!l->present)
        return;
    if (ep->j->memory)
        release_memory(ep);
    else if (ep->readers)
        vmap_trim(&l->vm, l->floor < writing_from(l) ? l->floor : writing_from(l));
}

bool log_drop_first(struct journal *j, bool now)
{
    struct log *l = &j->cur->log;
    if (j->memory || l->seg_count < 2)
        return false;
    uint64_t end = l->segs[0].left + l->segs[0].capacity;
    if (end > l->floor)
        return false;
    // A mapping keeps the file's room.
    vmap_cut(&l->vm, end);
    char name[1][FILES_NAME_MAX];
    files_segment_name(name[0], l->segs[0].left);
    log_debug(j->tag, "journal %s: dropping %s, read by all", j->dir, name[0]);
    store_drop(j, name, 1, now);
    fault_point("journal.segment_dropped");
    l->seg_count--;
    memmove(l->segs, l->segs + 1, l->seg_count * sizeof(*l->segs));
    l->left = end;
    return true;
}

// SPDX-License-Identifier: Apache-2.0
// Reading without pinning: a guest maps a piece of a file by itself, so that the readers' mappings
// go as they always do, and looks at what is held before each use.
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "journal/internal.h"

// Mapped at a time; whole blocks.
#define PIECE ((uint64_t)8 << 20)

enum piece_of { PIECE_NONE, PIECE_LOG, PIECE_SNAPSHOT };

struct journal_guest {
    struct journal *j;
    uint64_t life;
    enum piece_of of;
    uint64_t lo, hi; // positions, or indexes of the snapshot
    char *addr;
    struct guard *guard;
};

struct journal_guest *journal_guest_open(struct journal *j)
{
    struct journal_guest *g = xcalloc(1, sizeof(*g));
    g->j = j;
    g->life = j->meta.gen;
    return g;
}

static void let_go(struct journal_guest *g)
{
    if (g->of == PIECE_NONE)
        return;
    guard_remove(g->guard);
    munmap(g->addr, g->hi - g->lo);
    g->of = PIECE_NONE;
}

void journal_guest_close(struct journal_guest *g)
{
    if (!g)
        return;
    let_go(g);
    free(g);
}

static bool log_holds(const struct journal_guest *g, uint64_t from)
{
    const struct log *l = &g->j->cur->log;
    return g->life == g->j->meta.gen && l->present && from >= l->left && from <= l->right;
}

static bool snapshot_holds(const struct journal_guest *g, uint64_t from)
{
    const struct snapshot *s = &g->j->cur->snap;
    return g->life == g->j->meta.gen && s->held && from >= s->head && from <= s->have;
}

void journal_guest_tidy(struct journal_guest *g)
{
    bool held = g->of == PIECE_LOG ? log_holds(g, g->lo) : snapshot_holds(g, g->lo);
    if (!held)
        let_go(g);
}

static int map_piece(struct journal_guest *g, enum piece_of of, int fd, uint64_t at, uint64_t lo,
                     uint64_t hi, struct err *e)
{
    let_go(g);
    char *p = mmap(NULL, hi - lo, PROT_READ, MAP_SHARED, fd, (off_t)at);
    if (p == MAP_FAILED)
        return err_sys(e, -errno, "cannot map a piece of journal %s", g->j->dir);
    madvise(p, hi - lo, MADV_SEQUENTIAL);
    g->of = of;
    g->addr = p;
    g->lo = lo;
    g->hi = hi;
    g->guard = guard_add(p, hi - lo, &g->j->damaged);
    return 0;
}

static bool has_piece(const struct journal_guest *g, enum piece_of of, uint64_t from)
{
    return g->of == of && from >= g->lo && from < g->hi;
}

static int check_sums(struct journal_guest *g, const struct segment *s, int fd, struct err *e)
{
    size_t n = (g->hi - g->lo) / VMAP_BLOCK, i = (g->lo - s->left) / VMAP_BLOCK;
    uint64_t *sums = xmalloc(n * sizeof(*sums));
    ssize_t got = files_pread_full(fd, sums, n * sizeof(*sums), SEGMENT_FIXED + i * sizeof(*sums));
    int rc = got == (ssize_t)(n * sizeof(*sums)) ? 0 : -EIO;
    for (size_t k = 0; rc == 0 && k < n && g->lo + (k + 1) * VMAP_BLOCK <= s->right; k++)
        if (le64toh(sums[k]) != segment_sum(g->addr + k * VMAP_BLOCK, VMAP_BLOCK))
            rc = ERR_CORRUPT;
    free(sums);
    if (rc)
        err_sys(e, rc, "journal %s: the log after position %llu", g->j->dir,
                (unsigned long long)g->lo);
    return rc;
}

// All segments but the last are full, and theirs is the right edge in the list.
static int map_segment(struct journal_guest *g, const struct segment *s, bool last, uint64_t from,
                       struct err *e)
{
    char name[FILES_NAME_MAX];
    files_segment_name(name, s->left);
    int fd = files_open_file(&g->j->files, name, O_RDONLY, e);
    if (fd < 0)
        return fd;
    struct segment found;
    uint64_t lo = from - (from - s->left) % VMAP_BLOCK, end = s->left + s->capacity;
    int rc = 0;
    if (segment_read(fd, s->left, &found, e) != SEGMENT_OURS || found.gen != s->gen)
        rc = err_set(e, ERR_CORRUPT, "%s/%s was changed by someone else", g->j->dir, name);
    if (rc == 0)
        rc = map_piece(g, PIECE_LOG, fd, s->header_size + (lo - s->left), lo,
                       end - lo < PIECE ? end : lo + PIECE, e);
    // What fills at this moment came from the source just now, and has no sums yet.
    if (rc == 0 && g->j->o.verify_crc && !last)
        rc = check_sums(g, &found, fd, e);
    close(fd);
    if (rc)
        let_go(g);
    return rc;
}

static int map_log(struct journal_guest *g, uint64_t from, struct err *e)
{
    const struct log *l = &g->j->cur->log;
    for (size_t i = l->seg_count; i-- > 0;)
        if (l->segs[i].left <= from)
            return map_segment(g, &l->segs[i], i + 1 == l->seg_count, from, e);
    // In memory.
    uint64_t lo = from - (from - l->vm.base) % VMAP_BLOCK;
    uint64_t hi = l->room - lo < PIECE ? l->room : lo + PIECE;
    return map_piece(g, PIECE_LOG, l->fd, lo - l->vm.base, lo, hi, e);
}

int journal_guest_log(struct journal_guest *g, uint64_t from, const char **p, size_t *n,
                      struct err *e)
{
    const struct log *l = &g->j->cur->log;
    *p = "";
    *n = 0;
    if (!log_holds(g, from))
        return err_set(e, -ERANGE, "log position %llu is not held", (unsigned long long)from);
    if (from == l->right)
        return 0;
    // Most guests are where the readers are.
    if (from >= l->vm.lo && l->right <= l->vm.hi && !g->j->o.verify_crc) {
        let_go(g);
        *p = vmap_at(&l->vm, from);
        *n = l->right - from;
        return 0;
    }
    int rc = has_piece(g, PIECE_LOG, from) ? 0 : map_log(g, from, e);
    if (rc < 0)
        return rc;
    *p = g->addr + (from - g->lo);
    *n = (l->right < g->hi ? l->right : g->hi) - from;
    return 0;
}

int journal_guest_snapshot(struct journal_guest *g, uint64_t from, const char **p, size_t *n,
                           struct err *e)
{
    const struct snapshot *s = &g->j->cur->snap;
    *p = "";
    *n = 0;
    if (!snapshot_holds(g, from))
        return err_set(e, -ERANGE, "snapshot byte %llu is not held", (unsigned long long)from);
    if (from == s->have)
        return 0;
    uint64_t lo = from - from % VMAP_BLOCK;
    int rc = has_piece(g, PIECE_SNAPSHOT, from)
                 ? 0
                 : map_piece(g, PIECE_SNAPSHOT, s->fd, lo, lo, lo + PIECE, e);
    if (rc < 0)
        return rc;
    *p = g->addr + (from - g->lo);
    *n = (s->have < g->hi ? s->have : g->hi) - from;
    return 0;
}

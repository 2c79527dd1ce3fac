// SPDX-License-Identifier: Apache-2.0
#include "journal/vmap.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define VMAP_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define VMAP_SANITIZED 1
#endif

#ifdef VMAP_SANITIZED
#define VMAP_RESERVE ((size_t)4 << 30)
#else
#define VMAP_RESERVE ((size_t)256 << 30)
#endif
#define VMAP_RESERVE_MIN ((size_t)4 << 30)

size_t vmap_reserve = VMAP_RESERVE;

static char *reserve_at(char *addr, size_t size)
{
    char *p = mmap(addr, size, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (addr ? MAP_FIXED : 0), -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static struct window *window_new(uint64_t need, struct err *e)
{
    size_t size = vmap_reserve;
    while (size < need * 2)
        size *= 2;
    char *p = NULL;
    for (; !p && size >= need; size /= 2) {
        p = reserve_at(NULL, size);
        if (p || size / 2 < VMAP_RESERVE_MIN)
            break;
    }
    if (!p) {
        err_sys(e, -errno, "cannot reserve %zu MiB of address space (raise RLIMIT_AS)", size >> 20);
        return NULL;
    }
    struct window *w = xcalloc(1, sizeof(*w));
    w->reserved = p;
    w->reserved_size = size;
    size_t skip = -(uintptr_t)p % VMAP_ALIGN;
    w->addr = p + skip;
    w->size = size - skip;
    return w;
}

static void window_free(struct window *w)
{
    guard_remove(w->guard);
    munmap(w->reserved, w->reserved_size);
    free(w);
}

void vmap_init(struct vmap *m, uint64_t base, uint64_t grain, vmap_provider *map, void *ctx,
               atomic_bool *damaged)
{
    *m = (struct vmap){.map = map,
                       .ctx = ctx,
                       .damaged = damaged,
                       .base = base,
                       .grain = grain,
                       .lo = base,
                       .hi = base};
}

void vmap_free(struct vmap *m)
{
    if (m->cur)
        window_free(m->cur);
    while (m->old) {
        struct window *w = m->old;
        m->old = w->next;
        window_free(w);
    }
    m->cur = NULL;
    m->lo = m->hi = m->base;
}

static uint64_t down(const struct vmap *m, uint64_t i, uint64_t step)
{
    return i - (i - m->base) % step;
}

// Moves to a window that holds [lo, hi). It begins at the stream's base when that leaves room to
// grow, so that a reader who starts further back finds its place.
static int switch_window(struct vmap *m, uint64_t lo, uint64_t hi, struct err *e)
{
    uint64_t start = down(m, lo, VMAP_ALIGN);
    struct window *w = window_new(hi - start + VMAP_ALIGN, e);
    if (!w)
        return e ? e->code : -ENOMEM;
    w->origin = hi - m->base <= w->size / 2 ? m->base : start;
    int rc = m->map(m->ctx, w->addr + (lo - w->origin), lo, hi, e);
    if (rc < 0) {
        window_free(w);
        return rc;
    }
    w->guard = guard_add(w->addr, w->size, m->damaged);
    if (m->cur && m->lo < m->hi) {
        m->cur->until = m->hi;
        m->cur->next = m->old;
        m->old = m->cur;
    } else if (m->cur) {
        window_free(m->cur);
    }
    m->cur = w;
    m->lo = lo;
    m->hi = hi;
    return 0;
}

int vmap_cover(struct vmap *m, uint64_t lo, uint64_t hi, struct err *e)
{
    lo = down(m, lo, VMAP_BLOCK);
    hi = down(m, hi + VMAP_BLOCK - 1, VMAP_BLOCK);
    if (m->cur && m->lo < m->hi && lo >= m->lo && hi <= m->hi)
        return 0;
    bool empty = m->lo == m->hi;
    uint64_t want_lo = empty || lo < m->lo ? lo : m->lo;
    uint64_t want_hi = empty || hi > m->hi ? hi : m->hi;
    struct window *w = m->cur;
    if (!w || want_lo < w->origin || want_hi - w->origin > w->size)
        return switch_window(m, want_lo, want_hi, e);
    int rc = 0;
    if (empty) {
        m->lo = m->hi = want_lo;
    } else if (want_lo < m->lo) {
        rc = m->map(m->ctx, vmap_at(m, want_lo), want_lo, m->lo, e);
        if (rc == 0)
            m->lo = want_lo;
    }
    if (rc == 0 && want_hi > m->hi) {
        rc = m->map(m->ctx, vmap_at(m, m->hi), m->hi, want_hi, e);
        if (rc == 0)
            m->hi = want_hi;
    }
    return rc;
}

void vmap_cut(struct vmap *m, uint64_t lo)
{
    for (struct window **p = &m->old; *p;) {
        struct window *w = *p;
        if (lo < w->until) {
            p = &w->next;
            continue;
        }
        *p = w->next;
        window_free(w);
    }
    if (lo <= m->lo)
        return;
    lo = down(m, lo < m->hi ? lo : m->hi, VMAP_BLOCK);
    // A failure (too many mappings) leaves the part mapped; the next call tries again.
    if (lo > m->lo && reserve_at(vmap_at(m, m->lo), lo - m->lo))
        m->lo = lo;
}

void vmap_trim(struct vmap *m, uint64_t lo)
{
    if (m->old || lo >= m->lo + m->grain)
        vmap_cut(m, lo);
}

void vmap_cool(struct vmap *m, uint64_t lo, uint64_t hi)
{
    lo = down(m, lo, VMAP_BLOCK);
    hi = down(m, hi, VMAP_BLOCK);
    if (m->cur && lo >= m->lo && hi <= m->hi && lo < hi) {
        struct err e;
        // Whatever fails here leaves the old mapping in place or the range guarded by the caller's
        // damage flag; it must not pass for data.
        if (m->map(m->ctx, vmap_at(m, lo), lo, hi, &e) < 0)
            atomic_store(m->damaged, true);
    }
}

// SPDX-License-Identifier: Apache-2.0
// One stream of bytes, addressed by a 64-bit index and kept in any number of files, seen at
// contiguous addresses. A large part of the address space is reserved, and the files are mapped
// into it side by side. When the reserve is used up, what is in use is mapped a second time in a
// new one, and the old one stays until nobody can hold a pointer into it.
#ifndef GUNYU_JOURNAL_VMAP_H
#define GUNYU_JOURNAL_VMAP_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "journal/guard.h"

// Files are mapped in multiples of this, which no page size exceeds; also the unit of block sums.
#define VMAP_BLOCK 65536u
// Addresses are congruent to indexes (from the base) by this: the size of a large page.
#define VMAP_ALIGN ((size_t)2 << 20)

// Maps the stream's bytes [lo, hi) at addr, over what is there (MAP_FIXED). Both bounds are whole
// blocks from the stream's base.
typedef int vmap_provider(void *ctx, char *addr, uint64_t lo, uint64_t hi, struct err *e);

struct window {
    char *addr;
    size_t size;
    char *reserved; // what was asked for, before alignment
    size_t reserved_size;
    uint64_t origin; // index of the byte at addr
    uint64_t until;  // retired: needed until all indexes below this are released
    struct guard *guard;
    struct window *next;
};

struct vmap {
    vmap_provider *map;
    void *ctx;
    atomic_bool *damaged;
    uint64_t base;      // blocks are counted from here; no index is lower
    uint64_t grain;     // unmapping goes in steps of this
    uint64_t lo, hi;    // what is mapped
    struct window *cur; // NULL until the first cover
    struct window *old;
};

// Bytes of address space that a window asks for; halved down to what is needed when refused.
// Only tests change it.
extern size_t vmap_reserve;

void vmap_init(struct vmap *m, uint64_t base, uint64_t grain, vmap_provider *map, void *ctx,
               atomic_bool *damaged);
void vmap_free(struct vmap *m);
// Makes [lo, hi) addressable, beside what already is. Addresses handed out before stay valid.
int vmap_cover(struct vmap *m, uint64_t lo, uint64_t hi, struct err *e) must_check;
// Nobody needs an address below index lo any more. Acts only when a grain or more can go.
void vmap_trim(struct vmap *m, uint64_t lo);
// The same at once, to the block.
void vmap_cut(struct vmap *m, uint64_t lo);
// Maps [lo, hi) afresh at the same addresses, which gives back the page tables of a part that was
// written and will be read much later.
void vmap_cool(struct vmap *m, uint64_t lo, uint64_t hi);

static inline char *vmap_at(const struct vmap *m, uint64_t i)
{
    return m->cur->addr + (i - m->cur->origin);
}

#endif

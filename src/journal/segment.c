// SPDX-License-Identifier: Apache-2.0
#include "journal/segment.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/mem.h"

static const char segment_magic[8] = {'G', 'U', 'N', 'Y', 'U', 'L', 'O', 'G'};

#define IDENT_SIZE offsetof(struct segment_header, ident_sum)
static_assert(IDENT_SIZE == 112, "the layout is on disks");
static_assert(offsetof(struct segment_header, right) == 128, "the layout is on disks");
static_assert(offsetof(struct segment_header, sums) == SEGMENT_FIXED, "the layout is on disks");

uint64_t segment_header_used(uint64_t capacity)
{
    uint64_t n = SEGMENT_FIXED + capacity / VMAP_BLOCK * sizeof(uint64_t);
    return (n + VMAP_BLOCK - 1) / VMAP_BLOCK * VMAP_BLOCK;
}

uint32_t segment_header_size(uint64_t capacity)
{
    uint64_t n = segment_header_used(capacity);
    return (uint32_t)((n + SEGMENT_ALIGN - 1) / SEGMENT_ALIGN * SEGMENT_ALIGN);
}

uint64_t segment_sum(const void *p, size_t n)
{
    uint64_t sum = XXH3_64bits(p, n);
    return sum ? sum : 1;
}

void segment_init(struct segment_header *h, const struct segment *s)
{
    memcpy(h->magic, segment_magic, sizeof(h->magic));
    h->version = htole32(SEGMENT_VERSION);
    h->header_size = htole32(segment_header_size(s->capacity));
    h->gen = htole64(s->gen);
    h->left = htole64(s->left);
    h->capacity = htole64(s->capacity);
    memcpy(h->replid, s->replid, REPLID_LEN);
    h->start_unix_ms = (int64_t)htole64((uint64_t)s->start_unix_ms);
    h->db = (int64_t)htole64((uint64_t)(int64_t)s->db);
    h->db_offset = htole64(s->db_offset);
    h->block_size = htole32(VMAP_BLOCK);
    h->right = htole64(s->left);
    h->synced = htole64(s->left);
    h->ident_sum = htole64(segment_sum(h, IDENT_SIZE));
}

void segment_set_right(struct segment_header *h, uint64_t right)
{
    // Released after the data, so that whoever finds this position in the file (the next process
    // after a kill, a reader of a living journal) finds the bytes as well.
    __atomic_store_n(&h->right, htole64(right), __ATOMIC_RELEASE);
}

static bool all_zero(const void *p, size_t n)
{
    const char *s = p;
    return n == 0 || (s[0] == 0 && memcmp(s, s + 1, n - 1) == 0);
}

static enum segment_kind foreign(struct err *e, const char *what)
{
    err_set(e, ERR_CORRUPT, "%s", what);
    return SEGMENT_FOREIGN;
}

enum segment_kind segment_read(int fd, uint64_t left, struct segment *s, struct err *e)
{
    struct segment_header h;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return foreign(e, "cannot be examined");
    ssize_t n = files_pread_full(fd, &h, SEGMENT_FIXED, 0);
    if (n < 0)
        return foreign(e, "cannot be read");
    if (all_zero(&h, (size_t)n))
        return SEGMENT_EMPTY;
    if (n < SEGMENT_FIXED || memcmp(h.magic, segment_magic, sizeof(h.magic)) != 0)
        return foreign(e, "is not a journal segment");
    if (le32toh(h.version) != SEGMENT_VERSION)
        return foreign(e, "has a format version that this program does not know");
    if (le64toh(h.ident_sum) != segment_sum(&h, IDENT_SIZE) || le32toh(h.block_size) != VMAP_BLOCK)
        return foreign(e, "has a damaged header");
    *s = (struct segment){.gen = le64toh(h.gen),
                          .left = le64toh(h.left),
                          .right = le64toh(h.right),
                          .capacity = le64toh(h.capacity),
                          .synced = le64toh(h.synced),
                          .header_size = le32toh(h.header_size),
                          .start_unix_ms = (int64_t)le64toh((uint64_t)h.start_unix_ms),
                          .db = (int)(int64_t)le64toh((uint64_t)h.db),
                          .db_offset = le64toh(h.db_offset)};
    memcpy(s->replid, h.replid, REPLID_LEN);
    if (s->left != left || s->capacity == 0 || s->capacity % VMAP_BLOCK != 0 ||
        s->capacity > SEGMENT_CAPACITY_MAX || s->left > INT64_MAX - SEGMENT_CAPACITY_MAX ||
        s->header_size != segment_header_size(s->capacity))
        return foreign(e, "has a header that contradicts its name or itself");
    if (s->right < s->left || s->right - s->left > s->capacity)
        return foreign(e, "has a damaged length");
    uint64_t size = (uint64_t)st.st_size;
    uint64_t data = size > s->header_size ? size - s->header_size : 0;
    s->short_file = data < s->capacity;
    if (s->right - s->left > data)
        s->right = s->left + data;
    if (s->synced < s->left || s->synced > s->right)
        s->synced = s->left;
    return SEGMENT_OURS;
}

// The sound part of a block that no sum vouches for: what was flushed, and what a tail sum covers.
static uint64_t tail_sound(const struct segment *s, const struct segment_header *h,
                           const char *block, uint64_t start, uint64_t have)
{
    uint64_t best = start;
    if (s->synced > start)
        best = s->synced < start + have ? s->synced : start + have;
    for (int i = 0; i < 2; i++) {
        uint64_t right = le64toh(h->tail[i].right);
        if (right > best && right <= start + have &&
            le64toh(h->tail[i].sum) == segment_sum(block, right - start))
            best = right;
    }
    return best;
}

int segment_verify(int fd, const struct segment *s, uint64_t from, bool strict, uint64_t *sound,
                   uint64_t *unsummed, struct err *e)
{
    *unsummed = 0;
    *sound = s->left;
    size_t header = segment_header_used(s->capacity);
    struct segment_header *h = xmalloc(header);
    char *block = xmalloc(VMAP_BLOCK);
    int rc = 0;
    if (files_pread_full(fd, h, header, 0) != (ssize_t)header)
        rc = err_set(e, -EIO, "cannot read the header of the segment at %llu",
                     (unsigned long long)s->left);
    uint64_t i = from > s->left ? (from - s->left) / VMAP_BLOCK : 0;
    uint64_t at = s->left + i * VMAP_BLOCK;
    while (rc == 0 && at < s->right) {
        uint64_t have = s->right - at < VMAP_BLOCK ? s->right - at : VMAP_BLOCK;
        ssize_t n = files_pread_full(fd, block, have, s->header_size + (at - s->left));
        if (n != (ssize_t)have) {
            rc = err_set(e, n < 0 ? (int)n : -EIO, "cannot read the segment at %llu, byte %llu",
                         (unsigned long long)s->left, (unsigned long long)(at - s->left));
            break;
        }
        uint64_t sum = le64toh(h->sums[i]);
        if (have < VMAP_BLOCK || sum == 0) {
            uint64_t end = tail_sound(s, h, block, at, have);
            *unsummed = at + have - end;
            at = strict ? end : at + have;
            break;
        }
        if (sum != segment_sum(block, VMAP_BLOCK)) {
            uint64_t end = tail_sound(s, h, block, at, have);
            rc = err_set(e, ERR_CORRUPT,
                         "block %llu (positions %llu to %llu) does not match its sum",
                         (unsigned long long)i, (unsigned long long)at,
                         (unsigned long long)(at + VMAP_BLOCK));
            at = end;
            break;
        }
        at += VMAP_BLOCK;
        i++;
    }
    *sound = at < s->right ? at : s->right;
    free(block);
    free(h);
    return rc;
}

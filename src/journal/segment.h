// SPDX-License-Identifier: Apache-2.0
// The file of one log segment: a header area with block sums, then data. docs/journal-format.md.
#ifndef GUNYU_JOURNAL_SEGMENT_H
#define GUNYU_JOURNAL_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "journal/files.h"
#include "journal/journal.h"
#include "journal/vmap.h"

#define SEGMENT_VERSION 1
#define SEGMENT_FIXED 4096 // block sums begin here
#define SEGMENT_ALIGN VMAP_ALIGN
#define SEGMENT_CAPACITY_MAX ((uint64_t)64 << 30)

// On disk, little-endian. Positions are the source's replication offsets.
struct segment_header {
    char magic[8];
    uint32_t version;
    uint32_t header_size; // bytes before the data
    uint64_t gen;         // the life of the journal that it belongs to, see meta.json
    uint64_t left;        // position before the first byte
    uint64_t capacity;    // bytes of data, whole blocks
    char replid[REPLID_LEN];
    int64_t start_unix_ms;
    int64_t db;         // selected at db_offset; -1 unknown
    uint64_t db_offset; // at or before left
    uint32_t block_size;
    uint32_t reserved;
    uint64_t ident_sum; // XXH3-64 of all before
    uint64_t unused;
    // From here on updated in place.
    uint64_t right;  // position of the last byte; written after the byte
    uint64_t synced; // position up to which data is known to be on the disk
    // Sum over the last, incomplete block up to a position; written in turn before a flush, so that
    // one of them always describes bytes that are on the disk.
    struct {
        uint64_t right;
        uint64_t sum;
    } tail[2];
    char pad[SEGMENT_FIXED - 176];
    uint64_t sums[]; // one a data block once that is full; 0: none
};

// A validated header, in the machine's byte order.
struct segment {
    uint64_t gen, left, right, capacity, synced;
    uint32_t header_size;
    int64_t start_unix_ms;
    int64_t end_unix_ms; // 0: unknown
    int db;
    uint64_t db_offset;
    char replid[REPLID_LEN + 1];
    bool short_file; // the file holds less than the header says; right is cut to what it holds
};

// Bytes before the data: whole SEGMENT_ALIGN, so that the kernel can map the large folios of the
// page cache in one piece (measured: a quarter of the CPU of mapping them page by page).
uint32_t segment_header_size(uint64_t capacity);
// The part of that which is ever written and takes room; the rest is a hole.
uint64_t segment_header_used(uint64_t capacity);
uint64_t segment_sum(const void *p, size_t n); // never 0
void segment_init(struct segment_header *h, const struct segment *s);
void segment_set_right(struct segment_header *h, uint64_t right);

enum segment_kind { SEGMENT_OURS, SEGMENT_EMPTY, SEGMENT_FOREIGN };
// Reads and checks the header of an open file whose name says `left`. EMPTY: nothing was ever
// written to it. FOREIGN: e says what is wrong.
enum segment_kind segment_read(int fd, uint64_t left, struct segment *s, struct err *e);
// Checks block sums from position `from` on, and returns the position up to which all is sound
// (<= s->right). *unsummed counts bytes at the end that no sum covers; they are not sound with
// `strict`, and are otherwise.
int segment_verify(int fd, const struct segment *s, uint64_t from, bool strict, uint64_t *sound,
                   uint64_t *unsummed, struct err *e) must_check;

#endif

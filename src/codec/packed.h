// SPDX-License-Identifier: Apache-2.0
// A walk over the entries of a packed encoding (listpack, ziplist, intset, zipmap) whose bytes may
// still be arriving. The caller presents the unread bytes; nothing is copied.
#ifndef GUNYU_CODEC_PACKED_H
#define GUNYU_CODEC_PACKED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

enum packed_kind { PACKED_LISTPACK, PACKED_ZIPLIST, PACKED_INTSET, PACKED_ZIPMAP };

// PACKED_BAD: the bytes are not what the encoding allows.
enum packed_result { PACKED_BAD = -1, PACKED_MORE = 0, PACKED_ENTRY = 1, PACKED_END = 2 };

struct packed_entry {
    struct slice str; // in the presented bytes; unused when is_int
    int64_t num;
    bool is_int;
};

#define PACKED_COUNT_UNKNOWN UINT64_MAX

struct packed {
    const struct packed_ops *ops;
    uint64_t left;  // bytes of the blob not read yet
    uint64_t count; // entries by the header, or PACKED_COUNT_UNKNOWN
    uint64_t seen;  // entries read
    uint32_t state; // the encoding's own: previous entry's size, integer width
    bool headed;
};

// How an encoding is read. `head` gets the whole header, `entry` the unread bytes; both return the
// size they read, 0 for "more bytes", -1 for bad ones. An entry whose size is the rest of the blob
// and that is the terminator sets *end.
struct packed_ops {
    const char *name;
    uint32_t head_size;
    bool (*head)(struct packed *k, const uint8_t *p, uint64_t size);
    int64_t (*entry)(struct packed *k, const uint8_t *p, size_t n, struct packed_entry *out,
                     bool *end);
};

extern const struct packed_ops listpack_ops, ziplist_ops, intset_ops, zipmap_ops;

// size: bytes of the whole blob.
void packed_begin(struct packed *k, enum packed_kind kind, uint64_t size);
// Reads the next entry from p[0..n) and sets *used to what it took (the header counts with the
// first one, and with PACKED_MORE). PACKED_END comes once, after the terminator; the blob is then
// read to its last byte and its count was right.
enum packed_result packed_next(struct packed *k, const char *p, size_t n, struct packed_entry *out,
                               size_t *used) must_check;

#endif

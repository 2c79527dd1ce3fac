// SPDX-License-Identifier: Apache-2.0
// Bytes on their way to a target: copied small pieces and borrowed spans (journal memory), in
// order, handed to writev without being joined.
#ifndef GUNYU_TARGET_OUTQ_H
#define GUNYU_TARGET_OUTQ_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"

struct outq_block;

struct outq_seg {
    const char *p;
    size_t n;
    struct outq_block *block; // NULL: borrowed
};

// Zeroed is empty and valid. head..tail is a ring of segments; every block with unsent bytes is
// owned by the segments that point into it.
struct outq {
    struct outq_seg *segs; // owns
    uint32_t cap, head, count;
    struct outq_block *current, *spare;
    int spares;
    size_t bytes;   // unsent, borrowed ones included
    uint64_t total; // ever put in
};

void outq_free(struct outq *q);
// Copies.
void outq_put(struct outq *q, const void *p, size_t n);
// Room for n contiguous bytes to be filled in; outq_commit says how many were used.
char *outq_reserve(struct outq *q, size_t n);
void outq_commit(struct outq *q, size_t n);
// Borrows until the bytes are sent (outq_sent) or the queue is freed. Short spans are copied.
void outq_borrow(struct outq *q, const char *p, size_t n);
// A command. Long arguments that lie in `view` are borrowed, the rest is copied; `text` is scratch.
void outq_put_command(struct outq *q, struct buf *text, struct slice view, int argc,
                      const struct slice *argv);
// Fills up to max entries; returns how many.
int outq_iov(const struct outq *q, struct iovec *iov, int max);
void outq_sent(struct outq *q, size_t n);

#endif

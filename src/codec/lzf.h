// SPDX-License-Identifier: Apache-2.0
// LZF decompression, whole and as a stream that keeps only the 8 KiB that references can reach.
#ifndef GUNYU_CODEC_LZF_H
#define GUNYU_CODEC_LZF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

// Whether n compressed bytes can decode to total bytes at all: checked before memory is taken.
bool lzf_plausible(uint64_t n, uint64_t total);

// Decodes exactly n bytes into exactly total; false on anything else.
bool lzf_decompress(const char *in, size_t n, char *out, size_t total) must_check;

// Zeroed is empty. Unread output is out.p[head .. out.n).
struct lzf_stream {
    struct buf out;
    size_t head;
    uint64_t left_in;  // compressed bytes not taken yet
    uint64_t left_out; // bytes not decoded yet
};

void lzf_stream_begin(struct lzf_stream *z, uint64_t n, uint64_t total);
void lzf_stream_free(struct lzf_stream *z);
// Decodes from in[0..n) until at least `want` bytes are unread or the input is used up, and sets
// *used. ERR_CORRUPT, else 0. What is left in `in` must be presented again with more behind it.
int lzf_stream_feed(struct lzf_stream *z, const char *in, size_t n, size_t want,
                    size_t *used) must_check;

static inline const char *lzf_stream_data(const struct lzf_stream *z)
{
    return z->out.p ? z->out.p + z->head : "";
}

static inline size_t lzf_stream_unread(const struct lzf_stream *z)
{
    return z->out.n - z->head;
}

#endif

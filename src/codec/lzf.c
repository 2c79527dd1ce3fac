// SPDX-License-Identifier: Apache-2.0
#include "codec/lzf.h"

#include <string.h>

#define LZF_HISTORY 8192 // the farthest a reference reaches back
#define LZF_MAX_LITERAL 32
#define LZF_MAX_RUN 264   // the most that one instruction decodes to
#define LZF_COMPACT 32768 // read bytes that are worth moving the rest for
#define LZF_CHUNK 16384   // output is grown in such steps, so that memory follows the input

enum run { RUN_OK, RUN_SHORT, RUN_CORRUPT };

struct cursor {
    const uint8_t *ip, *iend;
    uint8_t *base, *op;
    const uint8_t *oend;
};

static inline enum run literal(struct cursor *c)
{
    size_t n = (size_t)*c->ip + 1;
    if ((size_t)(c->iend - c->ip) < n + 1)
        return RUN_SHORT;
    if ((size_t)(c->oend - c->op) < n)
        return RUN_CORRUPT;
    memcpy(c->op, c->ip + 1, n);
    c->op += n;
    c->ip += n + 1;
    return RUN_OK;
}

static inline enum run reference(struct cursor *c)
{
    const uint8_t *ip = c->ip;
    size_t n = *ip >> 5, avail = (size_t)(c->iend - ip);
    size_t head = n == 7 ? 3 : 2;
    if (avail < head)
        return RUN_SHORT;
    if (n == 7)
        n += ip[1];
    n += 2;
    size_t back = ((size_t)(*ip & 31) << 8 | ip[head - 1]) + 1;
    if (back > (size_t)(c->op - c->base) || n > (size_t)(c->oend - c->op))
        return RUN_CORRUPT;
    const uint8_t *from = c->op - back;
    if (back >= 8 && n <= 64 && (size_t)(c->oend - c->op) >= n + 8)
        for (size_t i = 0; i < n; i += 8)
            memcpy(c->op + i, from + i, 8);
    else if (back >= n)
        memcpy(c->op, from, n);
    else if (back == 1) // padding; worth a call of its own
        memset(c->op, *from, n);
    else
        for (size_t i = 0; i < n; i++)
            c->op[i] = from[i];
    c->op += n;
    c->ip += head;
    return RUN_OK;
}

// Most instructions by far: literals, and references to 3 to 8 bytes, that are not near an end. A
// copy of a fixed size is a few instructions; what it writes too much is written over.
static void run_inside(struct cursor *c, const uint8_t *stop)
{
    const uint8_t *ip = c->ip, *iend = c->iend, *oend = c->oend;
    uint8_t *base = c->base, *op = c->op;
    while (op < stop && iend - ip > LZF_MAX_LITERAL && oend - op >= LZF_MAX_LITERAL) {
        size_t n = *ip;
        if (n < 32) {
            memcpy(op, ip + 1, LZF_MAX_LITERAL);
            op += n + 1;
            ip += n + 2;
            continue;
        }
        size_t back = ((n & 31) << 8 | ip[1]) + 1;
        if (n >= 7 << 5 || back < 8 || back > (size_t)(op - base))
            break;
        memcpy(op, op - back, 8);
        op += (n >> 5) + 2;
        ip += 2;
    }
    c->ip = ip;
    c->op = op;
}

// Whole instructions only, until `stop` is reached or the input ends.
static enum run run(struct cursor *c, const uint8_t *stop)
{
    for (;;) {
        run_inside(c, stop);
        if (c->op >= stop || c->ip >= c->iend)
            return RUN_OK;
        enum run r = *c->ip < 32 ? literal(c) : reference(c);
        if (r != RUN_OK)
            return r;
    }
}

bool lzf_plausible(uint64_t n, uint64_t total)
{
    // Three bytes decode to at most LZF_MAX_RUN; two bytes to at most 8.
    return n > 0 && total > 0 && total / (LZF_MAX_RUN / 3) <= n;
}

bool lzf_decompress(const char *in, size_t n, char *out, size_t total)
{
    struct cursor c = {.ip = (const uint8_t *)in, .base = (uint8_t *)out, .op = (uint8_t *)out};
    c.iend = c.ip + n;
    c.oend = c.op + total;
    return run(&c, c.oend) == RUN_OK && c.ip == c.iend && c.op == c.oend;
}

void lzf_stream_begin(struct lzf_stream *z, uint64_t n, uint64_t total)
{
    buf_clear(&z->out);
    z->head = 0;
    z->left_in = n;
    z->left_out = total;
}

void lzf_stream_free(struct lzf_stream *z)
{
    buf_free(&z->out);
    *z = (struct lzf_stream){0};
}

static void compact(struct lzf_stream *z)
{
    size_t keep_from = z->out.n > LZF_HISTORY ? z->out.n - LZF_HISTORY : 0;
    if (keep_from > z->head)
        keep_from = z->head;
    if (keep_from >= LZF_COMPACT && keep_from >= z->out.n - keep_from) {
        memmove(z->out.p, z->out.p + keep_from, z->out.n - keep_from);
        z->out.n -= keep_from;
        z->head -= keep_from;
    }
}

int lzf_stream_feed(struct lzf_stream *z, const char *in, size_t n, size_t want, size_t *used)
{
    size_t start = n < z->left_in ? n : (size_t)z->left_in;
    const uint8_t *p = (const uint8_t *)in;
    struct cursor c = {.ip = p, .iend = p + start};
    enum run r = RUN_OK;
    *used = 0;
    compact(z);
    while (r == RUN_OK && lzf_stream_unread(z) < want && c.ip < c.iend) {
        size_t step = want - lzf_stream_unread(z);
        step = (step < LZF_CHUNK ? step : LZF_CHUNK) + LZF_MAX_RUN;
        size_t room = step < z->left_out ? step : (size_t)z->left_out;
        c.base = (uint8_t *)buf_reserve(&z->out, room + 1) - z->out.n;
        c.op = c.base + z->out.n;
        c.oend = c.op + room;
        const uint8_t *before = c.op;
        // Stopping short of the room leaves space for a last long instruction.
        r = run(&c, room > LZF_MAX_RUN ? c.oend - LZF_MAX_RUN : c.oend);
        z->out.n += (size_t)(c.op - before);
        z->left_out -= (uint64_t)(c.op - before);
        if (z->left_out == 0 && c.ip < c.iend)
            r = RUN_CORRUPT;
    }
    *used = (size_t)(c.ip - p);
    z->left_in -= *used;
    bool ended = start == z->left_in + *used;
    if (r == RUN_CORRUPT || (r == RUN_SHORT && ended) || (z->left_in == 0) != (z->left_out == 0))
        return ERR_CORRUPT;
    return 0;
}

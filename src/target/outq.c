// SPDX-License-Identifier: Apache-2.0
#include "target/outq.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "codec/resp.h"

enum {
    BLOCK_SIZE = 64 * 1024,
    SPARE_BLOCKS = 8,
    COPY_BELOW = 32,     // an iovec entry costs more than copying this
    BORROW_ABOVE = 1024, // bytes of an argument
};

struct outq_block {
    struct outq_block *next; // in the spare list
    size_t used, cap;
    size_t unsent;
    char data[];
};

static void block_done(struct outq *q, struct outq_block *b)
{
    if (b == q->current && b->cap == BLOCK_SIZE) {
        b->used = 0;
        return;
    }
    if (b == q->current)
        q->current = NULL;
    if (b->cap == BLOCK_SIZE && q->spares < SPARE_BLOCKS) {
        b->used = 0;
        b->next = q->spare;
        q->spare = b;
        q->spares++;
    } else {
        free(b);
    }
}

static struct outq_block *block_take(struct outq *q, size_t need)
{
    if (need <= BLOCK_SIZE && q->spare) {
        struct outq_block *b = q->spare;
        q->spare = b->next;
        q->spares--;
        return b;
    }
    size_t cap = need > BLOCK_SIZE ? need : BLOCK_SIZE;
    struct outq_block *b = xmalloc(sizeof(*b) + cap);
    *b = (struct outq_block){.cap = cap};
    return b;
}

void outq_free(struct outq *q)
{
    struct outq_block *last = NULL;
    for (uint32_t i = 0; i < q->count; i++) {
        struct outq_block *b = q->segs[(q->head + i) & (q->cap - 1)].block;
        if (b && b != last && b != q->current) {
            free(last);
            last = b;
        }
    }
    free(last);
    free(q->current);
    while (q->spare) {
        struct outq_block *b = q->spare;
        q->spare = b->next;
        free(b);
    }
    free(q->segs);
    *q = (struct outq){0};
}

static struct outq_seg *seg_last(struct outq *q)
{
    return &q->segs[(q->head + q->count - 1) & (q->cap - 1)];
}

// Whether bytes at p just make the last segment longer.
static bool seg_joins(struct outq *q, const char *p, const struct outq_block *b)
{
    if (q->count == 0)
        return false;
    const struct outq_seg *last = seg_last(q);
    return last->block == b && last->p + last->n == p;
}

static void seg_push(struct outq *q, const char *p, size_t n, struct outq_block *b)
{
    q->bytes += n;
    q->total += n;
    if (b)
        b->unsent += n;
    if (seg_joins(q, p, b)) {
        seg_last(q)->n += n;
        return;
    }
    if (q->count == q->cap) {
        uint32_t cap = q->cap ? q->cap * 2 : 64;
        struct outq_seg *segs = xmalloc(cap * sizeof(*segs));
        for (uint32_t i = 0; i < q->count; i++)
            segs[i] = q->segs[(q->head + i) & (q->cap - 1)];
        free(q->segs);
        q->segs = segs;
        q->cap = cap;
        q->head = 0;
    }
    q->segs[(q->head + q->count++) & (q->cap - 1)] = (struct outq_seg){p, n, b};
}

char *outq_reserve(struct outq *q, size_t n)
{
    struct outq_block *b = q->current;
    if (!b || b->cap - b->used < n) {
        struct outq_block *full = b;
        b = q->current = block_take(q, n);
        if (full && full->unsent == 0)
            block_done(q, full);
    }
    return b->data + b->used;
}

void outq_commit(struct outq *q, size_t n)
{
    struct outq_block *b = q->current;
    must(b && b->cap - b->used >= n);
    if (n == 0)
        return;
    const char *p = b->data + b->used;
    b->used += n;
    seg_push(q, p, n, b);
}

void outq_put(struct outq *q, const void *p, size_t n)
{
    if (n == 0)
        return;
    memcpy(outq_reserve(q, n), p, n);
    outq_commit(q, n);
}

void outq_borrow(struct outq *q, const char *p, size_t n)
{
    if (n < COPY_BELOW && !seg_joins(q, p, NULL))
        outq_put(q, p, n);
    else if (n)
        seg_push(q, p, n, NULL);
}

static bool lies_in(struct slice s, struct slice view)
{
    return s.p >= view.p && s.p < view.p + view.n;
}

void outq_put_command(struct outq *q, struct buf *text, struct slice view, int argc,
                      const struct slice *argv)
{
    buf_clear(text);
    resp_put_array(text, (size_t)argc);
    for (int i = 0; i < argc; i++) {
        const struct slice *s = &argv[i];
        if (s->n <= BORROW_ABOVE || !lies_in(*s, view)) {
            resp_put_bulk(text, *s);
            continue;
        }
        resp_put_bulk_header(text, s->n);
        outq_put(q, text->p, text->n);
        outq_borrow(q, s->p, s->n);
        buf_clear(text);
        buf_append_cstr(text, "\r\n");
    }
    outq_put(q, text->p, text->n);
}

int outq_iov(const struct outq *q, struct iovec *iov, int max)
{
    int n = q->count < (uint32_t)max ? (int)q->count : max;
    for (int i = 0; i < n; i++) {
        const struct outq_seg *s = &q->segs[(q->head + (uint32_t)i) & (q->cap - 1)];
        iov[i] = (struct iovec){(void *)(uintptr_t)s->p, s->n};
    }
    return n;
}

void outq_sent(struct outq *q, size_t n)
{
    must(n <= q->bytes);
    q->bytes -= n;
    while (n) {
        struct outq_seg *s = &q->segs[q->head];
        size_t k = n < s->n ? n : s->n;
        s->p += k;
        s->n -= k;
        n -= k;
        struct outq_block *b = s->block;
        if (s->n == 0) {
            q->head = (q->head + 1) & (q->cap - 1);
            q->count--;
        }
        if (b && (b->unsent -= k) == 0)
            block_done(q, b);
    }
}

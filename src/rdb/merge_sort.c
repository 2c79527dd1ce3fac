// SPDX-License-Identifier: Apache-2.0
#include "rdb/merge_sort.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "rdb/convert_spool.h"

enum {
    RUN_RECORDS = 1 << 19, // 12 MiB
    READ_RECORDS = 1 << 9, // 12 KiB of each run; a thousand runs are 5 * 10^8 records
};

// A sorted stretch of the file, with what was read of it.
struct run {
    uint64_t at, left; // records, in the file
    uint32_t have, next;
    struct sort_record *ahead;
};

struct merge_sort {
    const char *dir;
    struct sort_record *records; // owns; the run that is being filled, later what is read ahead
    size_t n;
    int fd; // -1: all is in memory
    struct run *runs;
    size_t runs_n;
    size_t *heap; // of runs, the least record on top
    size_t heap_n, next;
    struct err failure;
};

struct merge_sort *merge_sort_new(const char *dir)
{
    struct merge_sort *s = xcalloc(1, sizeof(*s));
    s->dir = dir;
    s->fd = -1;
    s->records = xmalloc(RUN_RECORDS * sizeof(*s->records));
    return s;
}

void merge_sort_free(struct merge_sort *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    for (size_t i = 0; i < s->runs_n; i++)
        free(s->runs[i].ahead);
    free(s->runs);
    free(s->heap);
    free(s->records);
    free(s);
}

static int compare(const void *a, const void *b)
{
    const struct sort_record *x = a, *y = b;
    for (int i = 0; i < 3; i++)
        if (x->word[i] != y->word[i])
            return x->word[i] < y->word[i] ? -1 : 1;
    return 0;
}

static void write_run(struct merge_sort *s)
{
    qsort(s->records, s->n, sizeof(*s->records), compare);
    if (s->fd < 0)
        s->fd = spool_file(s->dir, &s->failure);
    const char *p = (const char *)s->records;
    for (size_t left = s->n * sizeof(*s->records); left && !s->failure.code;) {
        ssize_t n = write(s->fd, p, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            err_sys(&s->failure, n ? -errno : -EIO, "cannot write a temporary file");
            break;
        }
        p += n;
        left -= (size_t)n;
    }
    s->runs = xrealloc(s->runs, (s->runs_n + 1) * sizeof(*s->runs));
    uint64_t at = s->runs_n ? s->runs[s->runs_n - 1].at + s->runs[s->runs_n - 1].left : 0;
    s->runs[s->runs_n++] = (struct run){.at = at, .left = s->n};
    s->n = 0;
}

void merge_sort_add(struct merge_sort *s, const struct sort_record *r)
{
    if (s->failure.code)
        return;
    s->records[s->n++] = *r;
    if (s->n == RUN_RECORDS)
        write_run(s);
}

static int read_run(struct merge_sort *s, struct run *r, struct err *e)
{
    uint32_t want = r->left < READ_RECORDS ? (uint32_t)r->left : READ_RECORDS;
    size_t bytes = want * sizeof(*r->ahead), done = 0;
    if (!r->ahead)
        r->ahead = xmalloc(READ_RECORDS * sizeof(*r->ahead));
    while (done < bytes) {
        ssize_t n = pread(s->fd, (char *)r->ahead + done, bytes - done,
                          (off_t)(r->at * sizeof(*r->ahead) + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_sys(e, n ? -errno : -EIO, "cannot read a temporary file");
        done += (size_t)n;
    }
    r->at += want;
    r->left -= want;
    r->have = want;
    r->next = 0;
    return 0;
}

static const struct sort_record *top_of(const struct merge_sort *s, size_t heap_at)
{
    const struct run *r = &s->runs[s->heap[heap_at]];
    return &r->ahead[r->next];
}

static void sink(struct merge_sort *s, size_t at)
{
    for (;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < s->heap_n; child++)
            if (compare(top_of(s, child), top_of(s, least)) < 0)
                least = child;
        if (least == at)
            return;
        size_t moved = s->heap[at];
        s->heap[at] = s->heap[least];
        s->heap[least] = moved;
        at = least;
    }
}

int merge_sort_begin(struct merge_sort *s, struct err *e)
{
    s->next = 0;
    if (s->fd < 0 && !s->failure.code) {
        qsort(s->records, s->n, sizeof(*s->records), compare);
        return 0;
    }
    if (s->n && !s->failure.code)
        write_run(s);
    free(s->records);
    s->records = NULL;
    if (s->failure.code) {
        *e = s->failure;
        return e->code;
    }
    s->heap = xmalloc(s->runs_n * sizeof(*s->heap));
    for (size_t i = 0; i < s->runs_n; i++) {
        int rc = read_run(s, &s->runs[i], e);
        if (rc)
            return rc;
        s->heap[s->heap_n++] = i;
    }
    for (size_t i = s->heap_n; i-- > 0;)
        sink(s, i);
    return 0;
}

int merge_sort_next(struct merge_sort *s, struct sort_record *out, struct err *e)
{
    if (s->fd < 0) {
        if (s->next == s->n)
            return 0;
        *out = s->records[s->next++];
        return 1;
    }
    if (s->heap_n == 0)
        return 0;
    struct run *r = &s->runs[s->heap[0]];
    *out = r->ahead[r->next++];
    if (r->next == r->have && r->left) {
        int rc = read_run(s, r, e);
        if (rc)
            return rc;
    }
    if (r->next == r->have)
        s->heap[0] = s->heap[--s->heap_n];
    sink(s, 0);
    return 1;
}

// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "rdb/diff_int.h"

enum {
    PARTS = 256,       // by the digest's first byte
    CHUNK = 64,        // records that are written together
    NAMES = 256 << 10, // bytes of keys that are
};

struct part {
    struct diff_record *tail; // owns; CHUNK records, of which `count % CHUNK` are in use
    uint64_t count;
    uint64_t *chunks; // owns; where the file has the full ones
    size_t chunks_n, chunks_cap;
};

struct diff_store {
    char *dir;
    int records_fd, names_fd; // -1: nothing was written yet
    uint64_t records_end;     // bytes in the file
    struct part parts[PARTS];
    struct buf names; // not written yet
    uint64_t names_end;
};

struct diff_store *diff_store_new(const char *dir)
{
    struct diff_store *s = xcalloc(1, sizeof(*s));
    s->dir = xstrdup(dir);
    s->records_fd = s->names_fd = -1;
    return s;
}

void diff_store_free(struct diff_store *s)
{
    if (!s)
        return;
    for (int i = 0; i < PARTS; i++) {
        free(s->parts[i].tail);
        free(s->parts[i].chunks);
    }
    if (s->records_fd >= 0)
        close(s->records_fd);
    if (s->names_fd >= 0)
        close(s->names_fd);
    buf_free(&s->names);
    free(s->dir);
    free(s);
}

static int open_temp(const struct diff_store *s, int *fd, struct err *e)
{
    if (*fd >= 0)
        return 0;
    *fd = open(s->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (*fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        char *name = xasprintf("%s/gunyu-diff-XXXXXX", s->dir);
        *fd = mkostemp(name, O_CLOEXEC);
        if (*fd >= 0)
            unlink(name);
        free(name);
    }
    return *fd < 0 ? err_sys(e, -errno, "cannot make a temporary file in %s", s->dir) : 0;
}

static int write_at(const struct diff_store *s, int fd, const void *p, size_t n, uint64_t at,
                    struct err *e)
{
    for (size_t done = 0; done < n;) {
        ssize_t rc = pwrite(fd, (const char *)p + done, n - done, (off_t)(at + done));
        if (rc < 0 && errno == EINTR)
            continue;
        if (rc <= 0)
            return err_sys(e, rc < 0 ? -errno : -EIO,
                           "cannot write a temporary file in %s (choose another place with "
                           "--tmpdir)",
                           s->dir);
        done += (size_t)rc;
    }
    return 0;
}

static int read_at(const struct diff_store *s, int fd, void *p, size_t n, uint64_t at,
                   struct err *e)
{
    for (size_t done = 0; done < n;) {
        ssize_t rc = pread(fd, (char *)p + done, n - done, (off_t)(at + done));
        if (rc < 0 && errno == EINTR)
            continue;
        if (rc <= 0)
            return err_sys(e, rc < 0 ? -errno : -EIO, "cannot read a temporary file in %s", s->dir);
        done += (size_t)rc;
    }
    return 0;
}

static int spill(struct diff_store *s, struct part *p, struct err *e)
{
    const size_t n = CHUNK * sizeof(*p->tail);
    int rc = open_temp(s, &s->records_fd, e);
    if (rc == 0)
        rc = write_at(s, s->records_fd, p->tail, n, s->records_end, e);
    if (rc)
        return rc;
    if (p->chunks_n == p->chunks_cap) {
        p->chunks_cap = p->chunks_cap ? 2 * p->chunks_cap : 16;
        p->chunks = xrealloc(p->chunks, p->chunks_cap * sizeof(*p->chunks));
    }
    p->chunks[p->chunks_n++] = s->records_end;
    s->records_end += n;
    return 0;
}

static int keep_name(struct diff_store *s, struct diff_record *rec, struct slice key, struct err *e)
{
    if (s->names.n + key.n > NAMES && s->names.n) {
        int rc = open_temp(s, &s->names_fd, e);
        if (rc == 0)
            rc = write_at(s, s->names_fd, s->names.p, s->names.n, s->names_end, e);
        if (rc)
            return rc;
        s->names_end += s->names.n;
        buf_clear(&s->names);
    }
    rec->name_at = s->names_end + s->names.n;
    rec->name_n = (uint32_t)key.n;
    buf_append_slice(&s->names, key);
    return 0;
}

int diff_store_add(struct diff_store *s, struct diff_record *rec, struct slice key, struct err *e)
{
    struct part *p = &s->parts[rec->key[0] >> 56];
    int rc = keep_name(s, rec, key, e);
    if (rc)
        return rc;
    if (!p->tail)
        p->tail = xmalloc(CHUNK * sizeof(*p->tail));
    p->tail[p->count++ % CHUNK] = *rec;
    return p->count % CHUNK == 0 ? spill(s, p, e) : 0;
}

int diff_store_name(struct diff_store *s, const struct diff_record *rec, struct buf *out,
                    struct err *e)
{
    buf_clear(out);
    char *to = buf_reserve(out, rec->name_n);
    out->n = rec->name_n;
    if (rec->name_n == 0)
        return 0;
    if (rec->name_at >= s->names_end) {
        memcpy(to, s->names.p + (rec->name_at - s->names_end), rec->name_n);
        return 0;
    }
    return read_at(s, s->names_fd, to, rec->name_n, rec->name_at, e);
}

// ---- comparing ----

struct records {
    struct diff_record *v; // owns
    size_t n, cap;
};

static void take(struct records *r, const struct diff_record *from, size_t n, uint64_t slice,
                 uint64_t slices)
{
    for (size_t i = 0; i < n; i++) {
        if (from[i].key[1] % slices != slice)
            continue;
        if (r->n == r->cap) {
            r->cap = r->cap ? r->cap + r->cap / 2 : 1024;
            r->v = xrealloc(r->v, r->cap * sizeof(*r->v));
        }
        r->v[r->n++] = from[i];
    }
}

static int by_key(const void *pa, const void *pb)
{
    const struct diff_record *a = pa, *b = pb;
    for (int i = 0; i < 2; i++)
        if (a->key[i] != b->key[i])
            return a->key[i] < b->key[i] ? -1 : 1;
    return a->name_at < b->name_at ? -1 : a->name_at > b->name_at;
}

static bool same_key(const struct diff_record *a, const struct diff_record *b)
{
    return a->key[0] == b->key[0] && a->key[1] == b->key[1];
}

// The records of a part's slice in order. Of a key that came twice (SCAN may do that) the last.
static int read_slice(struct diff_store *s, int part, uint64_t slice, uint64_t slices,
                      struct records *r, struct err *e)
{
    struct part *p = &s->parts[part];
    struct diff_record chunk[CHUNK];
    r->n = 0;
    for (size_t i = 0; i < p->chunks_n; i++) {
        int rc = read_at(s, s->records_fd, chunk, sizeof(chunk), p->chunks[i], e);
        if (rc)
            return rc;
        take(r, chunk, CHUNK, slice, slices);
    }
    take(r, p->tail, p->count % CHUNK, slice, slices);
    if (r->n)
        qsort(r->v, r->n, sizeof(*r->v), by_key);
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (n && same_key(&r->v[n - 1], &r->v[i]))
            n--;
        r->v[n++] = r->v[i];
    }
    r->n = n;
    return 0;
}

static bool same_ttl(const struct diff_rules *r, const struct diff_record *a,
                     const struct diff_record *b)
{
    if (r->ignore_ttl)
        return true;
    if (a->field_ttls != b->field_ttls || (a->expire_ms < 0) != (b->expire_ms < 0))
        return false;
    uint64_t apart = a->expire_ms > b->expire_ms ? (uint64_t)a->expire_ms - (uint64_t)b->expire_ms
                                                 : (uint64_t)b->expire_ms - (uint64_t)a->expire_ms;
    return apart <= (uint64_t)r->ttl_tolerance_ms;
}

static int compare_pair(const struct diff_rules *r, const struct diff_record *a,
                        const struct diff_record *b, struct diff_counts *c, struct err *e)
{
    enum diff_kind kind;
    c->a += a != NULL;
    c->b += b != NULL;
    if (!b) {
        kind = DIFF_MISSING;
    } else if (!a) {
        kind = DIFF_EXTRA;
    } else if (a->object != b->object) {
        kind = DIFF_TYPE;
    } else if (a->value[0] != b->value[0] || a->value[1] != b->value[1]) {
        kind = DIFF_VALUE;
    } else if (!same_ttl(r, a, b)) {
        kind = DIFF_TTL;
    } else {
        c->equal++;
        return 0;
    }
    c->kinds[kind]++;
    return r->found(r->ctx, kind, a, b, e);
}

static int merge(const struct diff_rules *r, const struct records *a, const struct records *b,
                 struct diff_counts *c, struct err *e)
{
    size_t i = 0, k = 0;
    int rc = 0;
    while (rc == 0 && (i < a->n || k < b->n)) {
        const struct diff_record *x = i < a->n ? &a->v[i] : NULL, *y = k < b->n ? &b->v[k] : NULL;
        if (x && y && !same_key(x, y)) {
            if (by_key(x, y) < 0)
                y = NULL;
            else
                x = NULL;
        }
        i += x != NULL;
        k += y != NULL;
        rc = compare_pair(r, x, y, c, e);
    }
    return rc;
}

int diff_compare(struct diff_store *a, struct diff_store *b, const struct diff_rules *r,
                 struct diff_counts *counts, struct err *e)
{
    struct records ra = {0}, rb = {0};
    int rc = 0;
    *counts = (struct diff_counts){0};
    for (int part = 0; rc == 0 && part < PARTS; part++) {
        uint64_t bytes = (a->parts[part].count + b->parts[part].count) * sizeof(struct diff_record);
        uint64_t slices = bytes / r->memory + 1;
        for (uint64_t slice = 0; rc == 0 && slice < slices; slice++) {
            rc = read_slice(a, part, slice, slices, &ra, e);
            if (rc == 0)
                rc = read_slice(b, part, slice, slices, &rb, e);
            if (rc == 0)
                rc = merge(r, &ra, &rb, counts, e);
        }
    }
    free(ra.v);
    free(rb.v);
    return rc;
}

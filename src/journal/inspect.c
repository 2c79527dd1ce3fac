// SPDX-License-Identifier: Apache-2.0
#include "journal/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "codec/crc64.h"
#include "journal/files.h"
#include "journal/meta.h"
#include "journal/segment.h"

#define CHUNK ((size_t)1 << 20)

struct item {
    char name[FILES_NAME_MAX];
    bool snapshot, complete;
    uint64_t at;
    enum segment_kind kind;
    struct segment seg;
    uint64_t size;
    char why[256]; // not empty: what is wrong with it
};

struct dir {
    struct files files;
    struct meta *meta;
    bool meta_valid;
    char meta_why[256];
    long owner;
    struct item *items;
    size_t n, cap;
};

static void examine(struct dir *d, struct item *it)
{
    struct err e = {0};
    struct stat st;
    int fd = files_open_file(&d->files, it->name, O_RDONLY, &e);
    if (fd < 0) {
        it->kind = SEGMENT_FOREIGN;
        snprintf(it->why, sizeof(it->why), "%.200s", e.msg);
        return;
    }
    if (fstat(fd, &st) == 0)
        it->size = (uint64_t)st.st_size;
    if (!it->snapshot) {
        it->kind = segment_read(fd, it->at, &it->seg, &e);
        if (it->kind == SEGMENT_FOREIGN)
            snprintf(it->why, sizeof(it->why), "%.200s", e.msg);
    }
    close(fd);
}

static int on_file(void *ctx, const char *name)
{
    struct dir *d = ctx;
    struct item it = {0};
    it.snapshot = files_is_snapshot(name, &it.at, &it.complete);
    if (!it.snapshot && !files_is_segment(name, &it.at))
        return 0;
    snprintf(it.name, sizeof(it.name), "%.47s", name);
    examine(d, &it);
    if (d->n == d->cap) {
        d->cap = d->cap ? d->cap * 2 : 32;
        d->items = xrealloc(d->items, d->cap * sizeof(*d->items));
    }
    d->items[d->n++] = it;
    return 0;
}

static int by_position(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->snapshot != y->snapshot)
        return x->snapshot ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static void dir_close(struct dir *d)
{
    files_close(&d->files);
    free(d->items);
    free(d->meta);
}

static int dir_open(struct dir *d, const char *path, struct err *e)
{
    memset(d, 0, sizeof(*d));
    int rc = files_open_read(&d->files, path, &d->owner, e);
    if (rc < 0)
        return rc;
    d->meta = xcalloc(1, sizeof(*d->meta));
    struct err me = {0};
    size_t n = 0;
    char *text = files_slurp(&d->files, FILES_META, META_SIZE_MAX, &n, &me);
    d->meta_valid = text && meta_decode(d->meta, text, n, &me) == 0;
    snprintf(d->meta_why, sizeof(d->meta_why), "%.200s", me.msg);
    free(text);
    rc = files_each(&d->files, on_file, d, e);
    if (rc < 0) {
        dir_close(d);
        return rc;
    }
    if (d->n)
        qsort(d->items, d->n, sizeof(*d->items), by_position);
    if (!d->meta_valid && d->n == 0) {
        rc = err_set(e, -ENOENT, "%s is not a journal directory: %s", path, d->meta_why);
        dir_close(d);
    }
    return rc;
}

static void print_head(const struct dir *d, FILE *out)
{
    const struct meta *m = d->meta;
    if (!d->meta_valid) {
        fprintf(out, "meta      invalid: %s\n", d->meta_why);
        return;
    }
    fprintf(out, "journal   replid %s", m->replid[0] ? m->replid : "-");
    if (m->replid2[0])
        fprintf(out, "  replid2 %s up to %" PRIu64, m->replid2, m->replid2_offset);
    if (d->owner)
        fprintf(out, "  in use by process %ld\n", d->owner);
    else
        fprintf(out, "  not in use, %s\n", m->clean ? "closed cleanly" : "not closed cleanly");
}

static void format_time(char *p, size_t n, int64_t unix_ms)
{
    time_t t = (time_t)(unix_ms / 1000);
    struct tm tm;
    if (!gmtime_r(&t, &tm) || strftime(p, n, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(p, n, "-");
}

static void print_item(const struct dir *d, const struct item *it, FILE *out)
{
    if (it->snapshot) {
        fprintf(out, "snapshot  %s  offset %" PRIu64 "  %" PRIu64 " bytes  %s\n", it->name, it->at,
                it->size, it->complete ? "complete" : "incomplete");
    } else if (it->kind == SEGMENT_OURS) {
        char when[40], db[24] = "-";
        format_time(when, sizeof(when), it->seg.start_unix_ms);
        if (it->seg.db >= 0)
            snprintf(db, sizeof(db), "%d", it->seg.db);
        fprintf(out,
                "segment   %s  positions %" PRIu64 " to %" PRIu64 "  %" PRIu64
                " bytes  db %s  from %s%s\n",
                it->name, it->seg.left, it->seg.right, it->seg.right - it->seg.left, db, when,
                d->meta_valid && it->seg.gen != d->meta->gen ? "  (left over)" : "");
    } else {
        fprintf(out, "foreign   %s  %s\n", it->name,
                it->kind == SEGMENT_EMPTY ? "is empty" : it->why);
    }
}

static int list_one(const char *path, FILE *out, struct err *e)
{
    struct dir d;
    int rc = dir_open(&d, path, e);
    if (rc < 0)
        return rc;
    print_head(&d, out);
    for (size_t i = 0; i < d.n; i++)
        print_item(&d, &d.items[i], out);
    dir_close(&d);
    return 0;
}

struct parent {
    const char *path;
    FILE *out;
    int found;
};

static int list_child(void *ctx, const char *name)
{
    struct parent *p = ctx;
    struct err e;
    struct stat st;
    char *path = xasprintf("%s/%s", p->path, name);
    char *meta = xasprintf("%s/%s", path, FILES_META);
    if (stat(meta, &st) == 0) {
        fprintf(p->out, "%s%s\n", p->found++ ? "\n" : "", path);
        // One that is damaged, or goes away meanwhile, does not hide the others.
        if (list_one(path, p->out, &e))
            fprintf(p->out, "%s\n", e.msg);
    }
    free(meta);
    free(path);
    return 0;
}

int inspect_list(const char *path, FILE *out, struct err *e)
{
    struct parent p = {path, out, 0};
    int rc = list_one(path, out, e);
    if (rc != -ENOENT)
        return rc;
    struct files f;
    struct err ignored;
    long owner;
    if (files_open_read(&f, path, &owner, &ignored))
        return rc;
    if (files_each(&f, list_child, &p, &ignored) == 0 && p.found)
        rc = 0;
    files_close(&f);
    return rc;
}

// The checksum that ends an RDB; zero there means that the source writes none.
static int verify_snapshot(const struct dir *d, const struct item *it, FILE *out)
{
    struct err e = {0};
    int fd = files_open_file(&d->files, it->name, O_RDONLY, &e);
    unsigned char *buf = xmalloc(CHUNK);
    uint64_t at = 0, end = it->size >= 8 ? it->size - 8 : 0, crc = 0, stored = 0;
    int rc = fd < 0 || it->size < 17 ? ERR_CORRUPT : 0;
    while (rc == 0 && at < end) {
        size_t part = end - at < CHUNK ? (size_t)(end - at) : CHUNK;
        if (files_pread_full(fd, buf, part, at) != (ssize_t)part)
            rc = ERR_CORRUPT;
        crc = crc64_update(crc, buf, part);
        at += part;
    }
    if (rc == 0 && files_pread_full(fd, buf, 8, end) == 8)
        stored = load_le64(buf);
    free(buf);
    if (fd >= 0)
        close(fd);
    if (rc < 0)
        fprintf(out, "%s: damaged: too short or unreadable\n", it->name);
    else if (stored == 0)
        fprintf(out, "%s: ok, written without a checksum\n", it->name);
    else if (stored != crc)
        fprintf(out, "%s: damaged: checksum %016" PRIx64 ", computed %016" PRIx64 "\n", it->name,
                stored, crc);
    else
        fprintf(out, "%s: ok\n", it->name);
    return rc == 0 && stored != 0 && stored != crc ? ERR_CORRUPT : rc;
}

static int verify_segment(const struct dir *d, const struct item *it, FILE *out)
{
    struct err e = {0};
    uint64_t sound, unsummed;
    int fd = files_open_file(&d->files, it->name, O_RDONLY, &e);
    int rc = fd < 0 ? fd : segment_verify(fd, &it->seg, it->seg.left, false, &sound, &unsummed, &e);
    if (fd >= 0)
        close(fd);
    if (rc < 0)
        fprintf(out, "%s: damaged: %s\n", it->name, e.msg);
    else if (unsummed)
        fprintf(out, "%s: ok, the last %" PRIu64 " bytes have no sum yet\n", it->name, unsummed);
    else
        fprintf(out, "%s: ok\n", it->name);
    return rc;
}

static bool current(const struct dir *d, const struct item *it)
{
    return !it->snapshot && it->kind == SEGMENT_OURS &&
           (!d->meta_valid || it->seg.gen == d->meta->gen);
}

int inspect_verify(const char *path, FILE *out, struct err *e)
{
    struct dir d;
    int rc = dir_open(&d, path, e);
    if (rc < 0)
        return rc;
    size_t bad = 0;
    if (!d.meta_valid) {
        fprintf(out, "%s: damaged: %s\n", FILES_META, d.meta_why);
        bad++;
    }
    const struct item *before = NULL;
    for (size_t i = 0; i < d.n; i++) {
        const struct item *it = &d.items[i];
        if (it->snapshot && !it->complete) {
            fprintf(out, "%s: incomplete\n", it->name);
        } else if (it->snapshot) {
            bool shed =
                d.meta_valid && d.meta->snapshot_head > 0 && d.meta->snapshot_offset == it->at;
            if (shed)
                fprintf(out, "%s: its beginning was given back\n", it->name);
            bad += !shed && verify_snapshot(&d, it, out) < 0;
        } else if (!current(&d, it)) {
            print_item(&d, it, out);
        } else {
            if (before && before->seg.right != it->seg.left) {
                fprintf(out, "%s: does not continue %s, which ends at %" PRIu64 "\n", it->name,
                        before->name, before->seg.right);
                bad++;
            }
            bad += verify_segment(&d, it, out) < 0;
            before = it;
        }
    }
    dir_close(&d);
    return bad ? err_set(e, ERR_CORRUPT, "%s: %zu problems found", path, bad) : 0;
}

static int print_segment(const struct dir *d, const struct item *it, uint64_t from, uint64_t to,
                         FILE *out, struct err *e)
{
    uint64_t sound, unsummed;
    int fd = files_open_file(&d->files, it->name, O_RDONLY, e);
    int rc = fd < 0 ? fd : segment_verify(fd, &it->seg, from, false, &sound, &unsummed, e);
    if (rc < 0)
        err_wrap(e, "%s/%s", d->files.path, it->name);
    char *buf = xmalloc(CHUNK);
    while (rc == 0 && from < to) {
        size_t part = to - from < CHUNK ? (size_t)(to - from) : CHUNK;
        ssize_t n = files_pread_full(fd, buf, part, it->seg.header_size + (from - it->seg.left));
        if (n != (ssize_t)part)
            rc = err_sys(e, n < 0 ? (int)n : -EIO, "cannot read %s/%s", d->files.path, it->name);
        else if (fwrite(buf, 1, part, out) != part)
            rc = err_sys(e, errno ? -errno : -EIO, "cannot write");
        from += part;
    }
    free(buf);
    if (fd >= 0)
        close(fd);
    return rc;
}

int inspect_print(const char *path, uint64_t from, uint64_t limit, FILE *out, struct err *e)
{
    struct dir d;
    int rc = dir_open(&d, path, e);
    if (rc < 0)
        return rc;
    bool begun = false;
    uint64_t left = 0, right = 0, end = UINT64_MAX;
    for (size_t i = 0; i < d.n && rc == 0; i++) {
        const struct item *it = &d.items[i];
        if (!current(&d, it))
            continue;
        if (left == 0)
            left = it->seg.left;
        right = it->seg.right;
        if (!begun && from == 0)
            from = it->seg.left;
        if (from < it->seg.left || from > it->seg.right || from >= end)
            continue;
        if (!begun && limit > 0 && limit < UINT64_MAX - from)
            end = from + limit;
        begun = true;
        uint64_t to = right < end ? right : end;
        rc = print_segment(&d, it, from, to, out, e);
        from = to;
    }
    if (rc == 0 && !begun)
        rc = err_set(e, -ERANGE, "%s holds positions %" PRIu64 " to %" PRIu64 ", not %" PRIu64,
                     path, left, right, from);
    dir_close(&d);
    return rc;
}

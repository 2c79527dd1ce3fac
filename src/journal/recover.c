// SPDX-License-Identifier: Apache-2.0
// What an earlier process left: the newest contiguous run of segments, and the snapshot if the log
// goes on from it. The rest of what is ours is removed; what is not ours is left alone.
#include "journal/internal.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

struct found {
    struct journal *j;
    bool meta_valid;
    bool trusted; // the page cache was not lost since the files were written
    struct segment *segs;
    size_t n, cap;
    char (*halves)[FILES_NAME_MAX]; // snapshots that the target may hold a part of
    size_t halves_n;
};

static void remove_ours(struct journal *j, const char *name)
{
    if (unlinkat(j->files.fd, name, 0) < 0 && errno != ENOENT)
        log_warn(j->tag, "journal %s: cannot remove %s: %s", j->dir, name, err_text(-errno));
}

static void found_segment(struct found *f, const char *name, uint64_t left)
{
    struct journal *j = f->j;
    struct err e;
    struct segment s;
    int fd = files_open_file(&j->files, name, O_RDONLY, &e);
    if (fd < 0) {
        log_warn(j->tag, "%s; it is ignored", e.msg);
        return;
    }
    enum segment_kind kind = segment_read(fd, left, &s, &e);
    close(fd);
    if (kind == SEGMENT_FOREIGN) {
        log_warn(j->tag, "%s/%s %s; it is ignored, not removed", j->dir, name, e.msg);
        return;
    }
    if (kind == SEGMENT_EMPTY || !f->meta_valid || s.gen != j->meta.gen) {
        remove_ours(j, name);
        return;
    }
    if (f->n == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 64;
        f->segs = xrealloc(f->segs, f->cap * sizeof(*f->segs));
    }
    f->segs[f->n++] = s;
}

// Ours when the record names it, or when it looks like what we write under such a name.
static bool snapshot_is_ours(struct journal *j, const char *name)
{
    static const char zeros[9];
    char head[9] = {0};
    struct err e;
    int fd = files_open_file(&j->files, name, O_RDONLY, &e);
    if (fd < 0)
        return false;
    ssize_t n = files_pread_full(fd, head, sizeof(head), 0);
    close(fd);
    return n >= 0 && (memcmp(head, zeros, sizeof(head)) == 0 || memcmp(head, "REDIS", 5) == 0 ||
                      memcmp(head, "VALKEY", 6) == 0);
}

// To be renamed when the directory has been read.
static void found_half(struct found *f, const char *name)
{
    f->halves = xrealloc(f->halves, (f->halves_n + 1) * sizeof(*f->halves));
    snprintf(f->halves[f->halves_n++], FILES_NAME_MAX, "%.*s", FILES_NAME_MAX - 1, name);
}

static void keep_halves(struct found *f)
{
    for (size_t i = 0; i < f->halves_n; i++)
        if (!aside_keep(f->j, f->halves[i], NO_POSITION, !f->trusted))
            remove_ours(f->j, f->halves[i]);
}

static int found_file(void *ctx, const char *name)
{
    struct found *f = ctx;
    struct meta *m = &f->j->meta;
    uint64_t at;
    bool complete;
    if (strncmp(name, FILES_TEMP_PREFIX, strlen(FILES_TEMP_PREFIX)) == 0) {
        remove_ours(f->j, name);
    } else if (files_is_segment(name, &at)) {
        found_segment(f, name, at);
    } else if (files_is_snapshot(name, &at, &complete)) {
        bool recorded = f->meta_valid && m->has_snapshot && m->snapshot_offset == at;
        if (recorded && complete && m->snapshot_complete)
            return 0;
        // One that is not on record was about to be dropped, or to be kept aside.
        if (recorded ? m->snapshot_loading : snapshot_is_ours(f->j, name))
            found_half(f, name);
        else if (recorded)
            remove_ours(f->j, name);
    } else if (files_is_aside(name, &at)) {
        aside_found(f->j, name, at);
    }
    return 0;
}

static int by_left(const void *a, const void *b)
{
    uint64_t x = ((const struct segment *)a)->left, y = ((const struct segment *)b)->left;
    return x < y ? -1 : x > y;
}

// Cuts a segment to what its sums vouch for.
static void verify_segment(struct found *f, struct segment *s)
{
    struct journal *j = f->j;
    char name[FILES_NAME_MAX];
    files_segment_name(name, s->left);
    struct err e = {0};
    uint64_t sound = s->left, unsummed;
    int fd = files_open_file(&j->files, name, O_RDWR, &e);
    if (fd >= 0) {
        int rc = segment_verify(fd, s, s->synced, true, &sound, &unsummed, &e);
        if (rc == 0 && sound < s->right)
            err_set(&e, ERR_CORRUPT, "the last bytes were not flushed before the machine stopped");
    }
    if (sound < s->right) {
        log_warn(j->tag, "%s/%s: positions after %llu are dropped (%llu bytes): %s", j->dir, name,
                 (unsigned long long)sound, (unsigned long long)(s->right - sound), e.msg);
        s->right = sound;
        if (s->synced > sound)
            s->synced = sound;
        uint64_t right = htole64(sound), synced = htole64(s->synced);
        if (pwrite(fd, &right, sizeof(right), offsetof(struct segment_header, right)) < 0 ||
            pwrite(fd, &synced, sizeof(synced), offsetof(struct segment_header, synced)) < 0)
            s->right = s->left;
    }
    if (fd >= 0)
        close(fd);
}

// Index of the first segment of the newest contiguous run. An empty segment that continues nothing
// is no run: it is what a rotation left whose predecessor lost its end.
static size_t newest_run(struct found *f)
{
    struct journal *j = f->j;
    char name[FILES_NAME_MAX];
    while (f->n > 1) {
        const struct segment *last = &f->segs[f->n - 1], *before = &f->segs[f->n - 2];
        if (last->right > last->left || before->right == last->left)
            break;
        files_segment_name(name, last->left);
        remove_ours(j, name);
        f->n--;
    }
    size_t first = f->n ? f->n - 1 : 0;
    while (first > 0) {
        const struct segment *s = &f->segs[first - 1];
        if (s->right != f->segs[first].left || s->right - s->left != s->capacity)
            break;
        first--;
    }
    for (size_t i = 0; i < first; i++) {
        files_segment_name(name, f->segs[i].left);
        log_warn(j->tag, "journal %s: %s does not connect to what follows; dropped", j->dir, name);
        remove_ours(j, name);
    }
    return first;
}

static bool snapshot_usable(struct found *f, uint64_t left, uint64_t right, bool has_log)
{
    struct journal *j = f->j;
    struct meta *m = &j->meta;
    char name[FILES_NAME_MAX];
    struct stat st;
    files_snapshot_name(name, m->snapshot_offset, true);
    if (!m->snapshot_complete || fstatat(j->files.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        !S_ISREG(st.st_mode))
        return false;
    const char *why = NULL;
    if (m->snapshot_head > 0)
        why = "a part of it was given back";
    else if ((uint64_t)st.st_size != m->snapshot_size)
        why = "its size is not the recorded one";
    else if (!f->trusted && !m->snapshot_synced)
        why = "it was not flushed before the machine stopped";
    else if (has_log && (m->snapshot_offset < left || m->snapshot_offset > right))
        why = "the log does not continue it";
    if (!why)
        return true;
    log_warn(j->tag, "journal %s: %s is dropped: %s", j->dir, name, why);
    if (m->snapshot_loading && m->snapshot_head == 0)
        found_half(f, name);
    else
        remove_ours(j, name);
    return false;
}

static void adopt(struct found *f, size_t first)
{
    struct journal *j = f->j;
    struct epoch *ep = j->cur;
    struct meta *m = &j->meta;
    bool has_segs = first < f->n;
    uint64_t left = has_segs ? f->segs[first].left : 0;
    uint64_t right = has_segs ? f->segs[f->n - 1].right : 0;
    struct snapshot *s = &ep->snap;
    struct err e;
    if (m->has_snapshot && snapshot_usable(f, left, right, has_segs)) {
        s->known = s->held = s->complete = true;
        s->synced = m->snapshot_synced;
        s->loading = m->snapshot_loading;
        s->offset = m->snapshot_offset;
        s->size = s->have = m->snapshot_size;
        s->alloc = (s->have + VMAP_BLOCK - 1) / VMAP_BLOCK * VMAP_BLOCK;
        s->flushed = s->cooled = s->have;
        if (snapshot_reopen(ep, &e) < 0) {
            log_warn(j->tag, "%s", e.msg);
            snapshot_init(ep);
        }
    }
    if (has_segs)
        log_begin(ep, left);
    else if (s->held)
        log_begin(ep, s->offset);
    else if (m->has_log)
        log_begin(ep, m->log_base);
    for (size_t i = first; i < f->n; i++)
        log_adopt(ep, &f->segs[i]);
}

static bool load_meta(struct journal *j)
{
    struct err e = {0};
    size_t n;
    char *text = files_slurp(&j->files, FILES_META, META_SIZE_MAX, &n, &e);
    bool ok = text && meta_decode(&j->meta, text, n, &e) == 0;
    if (!ok && (text || e.code != -ENOENT))
        log_warn(j->tag, "journal %s: %s %s; starting empty", j->dir, FILES_META, e.msg);
    free(text);
    return ok;
}

int recover(struct journal *j, struct err *e)
{
    char boot[40];
    meta_read_boot_id(boot);
    struct found f = {.j = j, .meta_valid = load_meta(j)};
    struct meta *m = &j->meta;
    f.trusted = f.meta_valid && (m->clean || (boot[0] && strcmp(boot, m->boot_id) == 0));
    int rc = files_each(&j->files, found_file, &f, e);
    if (rc == 0) {
        if (f.n)
            qsort(f.segs, f.n, sizeof(*f.segs), by_left);
        for (size_t i = 0; i < f.n && !f.trusted; i++)
            verify_segment(&f, &f.segs[i]);
        adopt(&f, newest_run(&f));
        keep_halves(&f);
        struct log *l = &j->cur->log;
        if (!l->present) {
            uint64_t gen = m->gen;
            memset(m, 0, sizeof(*m));
            m->gen = gen;
        }
        meta_cut_marks(m, l->right);
        m->clean = false;
        m->gen += m->gen == 0;
        memcpy(m->boot_id, boot, sizeof(boot));
        // Before anything is added, so that a crash after this does not count as a clean end.
        rc = store_meta(j, true, e);
        if (l->present)
            log_info(j->tag, "journal %s: %s positions %llu to %llu", j->dir,
                     j->cur->snap.held ? "a snapshot and" : "", (unsigned long long)l->left,
                     (unsigned long long)l->right);
    }
    free(f.segs);
    free(f.halves);
    return rc;
}

// SPDX-License-Identifier: Apache-2.0
// Snapshots that were loaded in part and will never be whole, kept until their keys are taken back.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "journal/internal.h"

#define PAGE ((uint64_t)4096)

uint64_t aside_used(const struct journal *j)
{
    uint64_t n = 0;
    for (size_t i = 0; i < j->asides_n; i++)
        n += (j->asides[i].size + PAGE - 1) / PAGE * PAGE;
    return n;
}

static bool fits(const struct journal *j, const char *name, uint64_t size)
{
    if (aside_used(j) + size <= j->max_size)
        return true;
    log_warn(j->tag,
             "journal %s: %s, which was loaded in part, has no room beside others (maxSize): its "
             "keys cannot be taken back from the target",
             j->dir, name);
    return false;
}

static void add(struct journal *j, uint64_t number, uint64_t size)
{
    j->asides = xrealloc(j->asides, (j->asides_n + 1) * sizeof(*j->asides));
    j->asides[j->asides_n++] = (struct aside){number, size};
    j->asides_done = false;
}

void aside_found(struct journal *j, const char *name, uint64_t number)
{
    struct stat st;
    if (fstatat(j->files.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return;
    if (fits(j, name, (uint64_t)st.st_size))
        add(j, number, (uint64_t)st.st_size);
    else
        unlinkat(j->files.fd, name, 0);
}

static bool is_zero(const char *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

// The file's room reaches beyond what was written; who wrote it took the number of bytes with him.
static uint64_t written_end(int fd, uint64_t size)
{
    char page[PAGE];
    while (size > 0) {
        uint64_t at = (size - 1) / PAGE * PAGE;
        ssize_t n = files_pread_full(fd, page, (size_t)(size - at), at);
        while (n > 0 && page[n - 1] == 0)
            n--;
        if (n != 0)
            return n < 0 ? 0 : at + (uint64_t)n;
        size = at;
    }
    return 0;
}

// What follows a page that never reached the disk would be taken for what it is not.
static uint64_t first_hole(int fd, uint64_t size)
{
    char page[PAGE];
    for (uint64_t at = 0; at + PAGE <= size; at += PAGE)
        if (files_pread_full(fd, page, PAGE, at) != (ssize_t)PAGE || is_zero(page, PAGE))
            return at;
    return size;
}

static uint64_t next_number(const struct journal *j)
{
    uint64_t next = 0;
    for (size_t i = 0; i < j->asides_n; i++)
        if (j->asides[i].number >= next)
            next = j->asides[i].number + 1;
    return next;
}

static bool put_aside(struct journal *j, const char *name, uint64_t number, int fd, uint64_t size)
{
    char to[FILES_NAME_MAX];
    files_aside_name(to, number);
    if (ftruncate(fd, (off_t)size) < 0 ||
        renameat2(j->files.fd, name, j->files.fd, to, RENAME_NOREPLACE) < 0) {
        log_warn(j->tag, "journal %s: cannot keep %s: %s", j->dir, name, err_text(-errno));
        return false;
    }
    log_info(j->tag,
             "journal %s: %s was loaded in part; %llu bytes are kept as %s until its keys are "
             "taken back from the target",
             j->dir, name, (unsigned long long)size, to);
    add(j, number, size);
    fault_point("journal.aside");
    return true;
}

bool aside_keep(struct journal *j, const char *name, uint64_t have, bool torn)
{
    struct err e;
    struct stat st;
    int fd = files_open_file(&j->files, name, O_RDWR, &e);
    if (fd < 0 || fstat(fd, &st) < 0) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    if (have == NO_POSITION) {
        have = written_end(fd, (uint64_t)st.st_size);
        if (torn)
            have = first_hole(fd, have);
    }
    bool kept = have > 0 && fits(j, name, have) && put_aside(j, name, next_number(j), fd, have);
    close(fd);
    return kept;
}

#define ASIDE_TEMP FILES_TEMP_PREFIX "aside"

static int give_up(struct journal *j, int rc)
{
    close(j->aside_fd);
    j->aside_fd = -1;
    unlinkat(j->files.fd, ASIDE_TEMP, 0);
    return rc;
}

int journal_aside_begin(struct journal *j, struct err *e)
{
    if (j->memory)
        return err_set(e, -ENOTSUP, "a journal in memory keeps nothing aside");
    must(j->aside_fd < 0);
    unlinkat(j->files.fd, ASIDE_TEMP, 0);
    j->aside_size = 0;
    j->aside_fd =
        openat(j->files.fd, ASIDE_TEMP, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return j->aside_fd < 0 ? err_sys(e, -errno, "cannot make a file in %s", j->dir) : 0;
}

int journal_aside_put(struct journal *j, const void *p, size_t n, struct err *e)
{
    const char *from = p;
    while (n > 0) {
        ssize_t put = write(j->aside_fd, from, n);
        if (put < 0)
            return give_up(j, err_sys(e, -errno, "cannot write to %s", j->dir));
        from += put;
        n -= (size_t)put;
        j->aside_size += (uint64_t)put;
    }
    return 0;
}

int journal_aside_end(struct journal *j, struct err *e)
{
    char to[FILES_NAME_MAX];
    uint64_t number = next_number(j);
    files_aside_name(to, number);
    if (aside_used(j) + j->aside_size > j->max_size)
        return give_up(j, err_set(e, ERR_FULL, "journal %s has no room for it (maxSize)", j->dir));
    if (fsync(j->aside_fd) < 0 ||
        renameat2(j->files.fd, ASIDE_TEMP, j->files.fd, to, RENAME_NOREPLACE) < 0 ||
        fsync(j->files.fd) < 0)
        return give_up(j, err_sys(e, -errno, "cannot keep a file in %s", j->dir));
    close(j->aside_fd);
    j->aside_fd = -1;
    add(j, number, j->aside_size);
    fault_point("journal.aside_written");
    return 0;
}

int journal_load_begun(struct journal *j, struct err *e)
{
    struct snapshot *s = &j->cur->snap;
    if (!s->held || s->loading || j->memory)
        return 0;
    s->loading = true;
    int rc = store_meta(j, true, e);
    // On a full disk the record follows when there is room; the load may be what makes it.
    return rc == -ENOSPC || rc == -EDQUOT ? 0 : rc;
}

void journal_load_finished(struct journal *j)
{
    struct snapshot *s = &j->cur->snap;
    j->meta_dirty = j->meta_dirty || s->loading;
    s->loading = false;
    journal_drop_asides(j);
}

size_t journal_asides(const struct journal *j)
{
    return j->asides_n;
}

struct journal_reader *journal_aside_open(struct journal *j, size_t i, struct err *e)
{
    must(i < j->asides_n);
    j->asides_done = false; // they are needed again
    char name[FILES_NAME_MAX];
    files_aside_name(name, j->asides[i].number);
    int fd = files_open_file(&j->files, name, O_RDONLY, e);
    if (fd < 0)
        return NULL;
    struct stat st;
    struct epoch *ep = epoch_new(j);
    struct snapshot *s = &ep->snap;
    ep->aside = true;
    s->known = s->held = s->complete = true;
    s->fd = fd;
    s->size = s->have = fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
    s->alloc = (s->have + VMAP_BLOCK - 1) / VMAP_BLOCK * VMAP_BLOCK;
    struct journal_reader *r = xcalloc(1, sizeof(*r));
    r->ep = ep;
    ep->readers = r;
    return r;
}

void journal_asides_done(struct journal *j)
{
    j->asides_done = true;
}

void journal_drop_asides(struct journal *j)
{
    if (!j->asides_n)
        return;
    char(*names)[FILES_NAME_MAX] = xcalloc(j->asides_n, sizeof(*names));
    for (size_t i = 0; i < j->asides_n; i++)
        files_aside_name(names[i], j->asides[i].number);
    store_drop(j, names, j->asides_n, false);
    free(names);
    j->asides_n = 0;
    j->asides_done = false;
}

// SPDX-License-Identifier: Apache-2.0
#include "journal/gc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "journal/files.h"

struct look {
    const struct files *files;
    bool has_meta;
    int64_t newest_ms;
};

static bool is_ours(const char *name)
{
    uint64_t v;
    bool complete;
    return strcmp(name, FILES_META) == 0 || strcmp(name, FILES_LOCK) == 0 ||
           strncmp(name, FILES_TEMP_PREFIX, strlen(FILES_TEMP_PREFIX)) == 0 ||
           files_is_segment(name, &v) || files_is_snapshot(name, &v, &complete) ||
           files_is_aside(name, &v);
}

static int look_at(void *ctx, const char *name)
{
    struct look *l = ctx;
    struct stat st;
    if (fstatat(l->files->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return 0;
    int64_t ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    if (ms > l->newest_ms)
        l->newest_ms = ms;
    l->has_meta = l->has_meta || (strcmp(name, FILES_META) == 0 && S_ISREG(st.st_mode));
    return 0;
}

static int remove_one(void *ctx, const char *name)
{
    const struct files *f = ctx;
    if (is_ours(name) && strcmp(name, FILES_LOCK) != 0)
        unlinkat(f->fd, name, 0);
    return 0;
}

static bool is_stale(const struct files *f, int64_t before_ms)
{
    struct look l = {.files = f};
    struct err ignored;
    return files_each(f, look_at, &l, &ignored) == 0 && l.has_meta && l.newest_ms < before_ms;
}

// The directory is looked at without the lock first, since taking it writes a file.
static bool remove_if_stale(const char *path, int64_t before_ms)
{
    struct files f = {.fd = -1, .lock_fd = -1};
    struct err ignored;
    long locked_by = 0;
    if (files_open_read(&f, path, &locked_by, &ignored))
        return false;
    bool stale = !locked_by && is_stale(&f, before_ms);
    files_close(&f);
    if (!stale || files_open(&f, path, &ignored))
        return false;
    // Another process may have come and gone in between; taking the lock touches its file only.
    struct stat st;
    stale = fstatat(f.fd, FILES_META, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            (int64_t)st.st_mtim.tv_sec * 1000 < before_ms;
    if (stale && files_each(&f, remove_one, &f, &ignored))
        stale = false;
    if (stale)
        unlinkat(f.fd, FILES_LOCK, 0);
    files_close(&f);
    if (stale && rmdir(path) != 0)
        log_info(NULL, "%s: the stale journal is removed; files that are not ours stay", path);
    return stale;
}

static bool is_kept(const char *name, const char *const *keep, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(name, keep[i]) == 0)
            return true;
    return false;
}

int journal_gc(const char *root, const char *const *keep, int n, int64_t max_age_ms, int64_t now_ms,
               int *removed, struct err *e)
{
    *removed = 0;
    DIR *dir = opendir(root);
    if (!dir)
        return errno == ENOENT ? 0 : err_sys(e, -errno, "read directory %s", root);
    const struct dirent *d;
    while ((d = readdir(dir))) {
        struct stat st;
        if (d->d_name[0] == '.' || is_kept(d->d_name, keep, n) ||
            fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode))
            continue;
        char *path = xasprintf("%s/%s", root, d->d_name);
        *removed += remove_if_stale(path, now_ms - max_age_ms);
        free(path);
    }
    closedir(dir);
    return 0;
}

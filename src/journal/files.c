// SPDX-License-Identifier: Apache-2.0
#include "journal/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/slice.h"

static int make_dirs(const char *path, struct err *e)
{
    char *p = xstrdup(path);
    int rc = 0;
    for (char *s = p + 1; rc == 0; s++) {
        if (*s != '/' && *s != 0)
            continue;
        char c = *s;
        *s = 0;
        if (mkdir(p, 0700) < 0 && errno != EEXIST && (c == 0 || access(p, F_OK) < 0))
            rc = err_sys(e, -errno, "cannot make journal directory %s", p);
        *s = c;
        if (c == 0)
            break;
    }
    free(p);
    return rc;
}

static int open_dir(struct files *f, const char *path, struct err *e)
{
    *f = (struct files){.fd = -1, .lock_fd = -1};
    f->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (f->fd < 0 || fstat(f->fd, &st) < 0) {
        int rc = err_sys(e, -errno, "cannot open journal directory %s", path);
        files_close(f);
        return rc;
    }
    f->path = xstrdup(path);
    f->dev = st.st_dev;
    f->ino = st.st_ino;
    return 0;
}

static long lock_holder(int fd)
{
    char text[32] = {0};
    if (pread(fd, text, sizeof(text) - 1, 0) <= 0)
        return 0;
    return strtol(text, NULL, 10);
}

// The lock belongs to the open file and goes with the process, however it ends.
static int lock_take(struct files *f, struct err *e)
{
    f->lock_fd = openat(f->fd, FILES_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (f->lock_fd < 0)
        return err_sys(e, -errno, "cannot write in journal directory %s (its owner and mode?)",
                       f->path);
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(f->lock_fd, F_OFD_SETLK, &l) < 0) {
        if (errno != EAGAIN && errno != EACCES)
            return err_sys(e, -errno, "cannot lock journal directory %s", f->path);
        return err_set(e, ERR_LOCKED, "journal directory %s is in use by process %ld", f->path,
                       lock_holder(f->lock_fd));
    }
    char pid[32];
    int n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    if (ftruncate(f->lock_fd, 0) < 0 || pwrite(f->lock_fd, pid, (size_t)n, 0) != n)
        return err_sys(e, errno ? -errno : -ENOSPC, "cannot write %s/%s", f->path, FILES_LOCK);
    return 0;
}

int files_open(struct files *f, const char *path, struct err *e)
{
    *f = (struct files){.fd = -1, .lock_fd = -1};
    int rc = make_dirs(path, e);
    if (rc == 0)
        rc = open_dir(f, path, e);
    if (rc == 0)
        rc = lock_take(f, e);
    if (rc < 0)
        files_close(f);
    return rc;
}

int files_open_read(struct files *f, const char *path, long *locked_by, struct err *e)
{
    int rc = open_dir(f, path, e);
    *locked_by = 0;
    if (rc < 0)
        return rc;
    int fd = openat(f->fd, FILES_LOCK, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fd >= 0 && fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK)
        *locked_by = lock_holder(fd);
    if (fd >= 0)
        close(fd);
    return 0;
}

void files_close(struct files *f)
{
    if (f->lock_fd >= 0)
        close(f->lock_fd);
    if (f->fd >= 0)
        close(f->fd);
    free(f->path);
    *f = (struct files){.fd = -1, .lock_fd = -1};
}

int files_check(const struct files *f, struct err *e)
{
    struct stat st;
    if (stat(f->path, &st) < 0)
        return err_sys(e, -errno, "journal directory %s has vanished", f->path);
    if (st.st_dev != f->dev || st.st_ino != f->ino)
        return err_set(e, -ESTALE, "journal directory %s was replaced by another", f->path);
    return 0;
}

void files_segment_name(char out[FILES_NAME_MAX], uint64_t left)
{
    snprintf(out, FILES_NAME_MAX, "log-%020llu.seg", (unsigned long long)left);
}

void files_snapshot_name(char out[FILES_NAME_MAX], uint64_t offset, bool complete)
{
    snprintf(out, FILES_NAME_MAX, "snapshot-%020llu.rdb%s", (unsigned long long)offset,
             complete ? "" : ".part");
}

void files_aside_name(char out[FILES_NAME_MAX], uint64_t number)
{
    snprintf(out, FILES_NAME_MAX, "aside-%020llu.rdb", (unsigned long long)number);
}

// The 20 digits after a prefix, and what follows them.
static bool numbered(const char *name, const char *prefix, uint64_t *v, const char **rest)
{
    size_t n = strlen(prefix);
    if (strncmp(name, prefix, n) != 0 || strspn(name + n, "0123456789") != 20)
        return false;
    errno = 0;
    *v = strtoull(name + n, NULL, 10);
    *rest = name + n + 20;
    return errno == 0;
}

bool files_is_segment(const char *name, uint64_t *left)
{
    const char *rest;
    return numbered(name, "log-", left, &rest) && strcmp(rest, ".seg") == 0;
}

bool files_is_snapshot(const char *name, uint64_t *offset, bool *complete)
{
    const char *rest;
    if (!numbered(name, "snapshot-", offset, &rest))
        return false;
    *complete = strcmp(rest, ".rdb") == 0;
    return *complete || strcmp(rest, ".rdb.part") == 0;
}

bool files_is_aside(const char *name, uint64_t *number)
{
    const char *rest;
    return numbered(name, "aside-", number, &rest) && strcmp(rest, ".rdb") == 0;
}

int files_open_file(const struct files *f, const char *name, int flags, struct err *e)
{
    int fd = openat(f->fd, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    struct stat st;
    if (fd < 0)
        return err_sys(e, -errno, "cannot open %s/%s", f->path, name);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    close(fd);
    return err_set(e, -EINVAL, "%s/%s is not a regular file", f->path, name);
}

static int write_full(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t r = write(fd, p, n);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return r < 0 ? -errno : -EIO;
        p += r;
        n -= (size_t)r;
    }
    return 0;
}

// For file systems without fallocate: zeros take the room.
static int fill_zeros(int fd, uint64_t offset, uint64_t n)
{
    static const char zeros[65536];
    while (n > 0) {
        size_t part = n < sizeof(zeros) ? n : sizeof(zeros);
        ssize_t r = pwrite(fd, zeros, part, (off_t)offset);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return r < 0 ? -errno : -ENOSPC;
        offset += (uint64_t)r;
        n -= (uint64_t)r;
    }
    return 0;
}

int files_preallocate(int fd, uint64_t offset, uint64_t n)
{
    int rc;
    do
        rc = fallocate(fd, 0, (off_t)offset, (off_t)n);
    while (rc < 0 && errno == EINTR);
    if (rc == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return -errno;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    uint64_t end = offset + n, have = (uint64_t)st.st_size;
    if (have > offset)
        offset = have;
    return offset < end ? fill_zeros(fd, offset, end - offset) : 0;
}

int files_replace(const struct files *f, const char *name, const char *text, size_t n,
                  struct err *e)
{
    static const char temp[] = FILES_TEMP_PREFIX "meta";
    unlinkat(f->fd, temp, 0);
    int fd = openat(f->fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int rc = fd < 0 ? -errno : write_full(fd, text, n);
    if (rc == 0 && fsync(fd) < 0)
        rc = -errno;
    if (fd >= 0)
        close(fd);
    fault_point("journal.meta_written");
    if (rc == 0 && renameat(f->fd, temp, f->fd, name) < 0)
        rc = -errno;
    if (rc == 0 && fsync(f->fd) < 0)
        rc = -errno;
    if (rc == 0)
        return 0;
    unlinkat(f->fd, temp, 0);
    return err_sys(e, rc, "cannot write %s/%s", f->path, name);
}

char *files_slurp(const struct files *f, const char *name, size_t max, size_t *n, struct err *e)
{
    int fd = files_open_file(f, name, O_RDONLY, e);
    if (fd < 0)
        return NULL;
    struct stat st;
    char *p = NULL;
    if (fstat(fd, &st) < 0) {
        err_sys(e, -errno, "cannot read %s/%s", f->path, name);
    } else if ((uint64_t)st.st_size > max) {
        err_set(e, ERR_TOO_BIG, "%s/%s has %lld bytes, more than any journal writes", f->path, name,
                (long long)st.st_size);
    } else {
        p = xmalloc((size_t)st.st_size + 1);
        ssize_t r = files_pread_full(fd, p, (size_t)st.st_size, 0);
        *n = r < 0 ? 0 : (size_t)r;
        p[*n] = 0;
        if (r < 0) {
            err_sys(e, (int)r, "cannot read %s/%s", f->path, name);
            free(p);
            p = NULL;
        }
    }
    close(fd);
    return p;
}

ssize_t files_pread_full(int fd, void *p, size_t n, uint64_t offset)
{
    size_t done = 0;
    while (done < n) {
        ssize_t r = pread(fd, (char *)p + done, n - done, (off_t)(offset + done));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0)
            break;
        done += (size_t)r;
    }
    return (ssize_t)done;
}

int files_each(const struct files *f, int (*fn)(void *ctx, const char *name), void *ctx,
               struct err *e)
{
    int fd = openat(f->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int rc = err_sys(e, -errno, "cannot list journal directory %s", f->path);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    int rc = 0;
    for (struct dirent *ent; rc >= 0 && (ent = readdir(d));)
        if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0)
            rc = fn(ctx, ent->d_name);
    closedir(d);
    return rc;
}

// SPDX-License-Identifier: Apache-2.0
// A file that is only in memory, for fuzz targets of code that opens and writes files.
#ifndef GUNYU_FUZZ_FILE_DRIVE_H
#define GUNYU_FUZZ_FILE_DRIVE_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/slice.h"

struct memory_file {
    int fd_plus_1; // 0: none yet
    char path[32];
};

static inline void memory_file_set(struct memory_file *f, const void *p, size_t n)
{
    if (!f->fd_plus_1) {
        f->fd_plus_1 = memfd_create("fuzz", MFD_CLOEXEC) + 1;
        snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->fd_plus_1 - 1);
    }
    int fd = f->fd_plus_1 - 1;
    if (ftruncate(fd, 0) || pwrite(fd, p, n, 0) != (ssize_t)n || lseek(fd, 0, SEEK_SET))
        abort();
}

// What was written into it; returns new.
static inline char *memory_file_get(const struct memory_file *f, size_t *n)
{
    off_t size = lseek(f->fd_plus_1 - 1, 0, SEEK_END);
    char *p = malloc((size_t)size + 1);
    if (size < 0 || !p || pread(f->fd_plus_1 - 1, p, (size_t)size, 0) != size)
        abort();
    *n = (size_t)size;
    return p;
}

// Makes descriptor `fd` (standard input or output) this one, and returns what it was; undone with
// redirect_end.
static inline int redirect(int fd, int to)
{
    fflush(stdout);
    int saved = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (dup2(to, fd) != fd)
        abort();
    return saved;
}

static inline void redirect_end(int fd, int saved)
{
    if (saved < 0) {
        close(fd);
        return;
    }
    dup2(saved, fd);
    close(saved);
}

#endif

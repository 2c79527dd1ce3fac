// SPDX-License-Identifier: Apache-2.0
// The directory of one journal: its lock, the names in it, and the few file operations used.
#ifndef GUNYU_JOURNAL_FILES_H
#define GUNYU_JOURNAL_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define FILES_NAME_MAX 48
#define FILES_META "meta.json"
#define FILES_LOCK "lock"
// Names with this prefix are work in progress or waiting to be unlinked; nobody else makes them.
#define FILES_TEMP_PREFIX ".gunyu-"

struct files {
    char *path;
    int fd; // of the directory
    int lock_fd;
    dev_t dev;
    ino_t ino;
};

// Makes the directory (and its parents) with mode 0700 if absent, and takes the lock. ERR_LOCKED
// names the holder's process id.
int files_open(struct files *f, const char *path, struct err *e) must_check;
// Opens an existing directory without the lock; *locked_by is the holder's process id or 0.
int files_open_read(struct files *f, const char *path, long *locked_by, struct err *e) must_check;
void files_close(struct files *f);
// The directory is still where it was opened.
int files_check(const struct files *f, struct err *e) must_check;

void files_segment_name(char out[FILES_NAME_MAX], uint64_t left);
void files_snapshot_name(char out[FILES_NAME_MAX], uint64_t offset, bool complete);
void files_aside_name(char out[FILES_NAME_MAX], uint64_t number);
// True when name is exactly what the functions above make.
bool files_is_segment(const char *name, uint64_t *left);
bool files_is_snapshot(const char *name, uint64_t *offset, bool *complete);
bool files_is_aside(const char *name, uint64_t *number);

// A regular file, symbolic links refused. Returns a descriptor or -errno.
int files_open_file(const struct files *f, const char *name, int flags, struct err *e) must_check;
// Room for [offset, offset + n); the file grows. -ENOSPC when the disk is full. Any thread.
int files_preallocate(int fd, uint64_t offset, uint64_t n);
// Replaces name by text, durably: temporary file, fsync, rename, fsync of the directory. Any
// thread.
int files_replace(const struct files *f, const char *name, const char *text, size_t n,
                  struct err *e) must_check;
// Reads a file of at most max bytes, adds a NUL; the caller frees. NULL: e says why.
char *files_slurp(const struct files *f, const char *name, size_t max, size_t *n, struct err *e);
ssize_t files_pread_full(int fd, void *p, size_t n, uint64_t offset);

// Calls fn for each entry but "." and ".."; stops at the first result below 0.
int files_each(const struct files *f, int (*fn)(void *ctx, const char *name), void *ctx,
               struct err *e) must_check;

#endif

// SPDX-License-Identifier: Apache-2.0
// Shared by the journal's tests: a throwaway directory, and bytes that are a function of their
// position, so that any stretch of a log can be checked without a copy of it.
#ifndef GUNYU_TEST_JOURNAL_UTIL_H
#define GUNYU_TEST_JOURNAL_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/journal.h"

#define ID_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define KIB ((int64_t)1024)
#define MIB ((int64_t)1024 * 1024)

static inline char byte_at(uint64_t i)
{
    return (char)((i * UINT64_C(0x9E3779B97F4A7C15)) >> 56);
}

static inline void fill(char *p, uint64_t from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = byte_at(from + i);
}

static inline bool matches(const char *p, uint64_t from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != byte_at(from + i))
            return false;
    return true;
}

static inline char *make_dir_in(const char *base)
{
    char *path = malloc(4096);
    snprintf(path, 4096, "%s/gunyu-journal-XXXXXX", base);
    assert_non_null(mkdtemp(path));
    return path;
}

static inline char *make_dir(void)
{
    const char *base = getenv("TMPDIR");
    return make_dir_in(base ? base : "/tmp");
}

// For loops that would otherwise wait for fsync most of the time.
static inline char *make_fast_dir(void)
{
    return access("/dev/shm", W_OK) == 0 && !getenv("TMPDIR") ? make_dir_in("/dev/shm")
                                                              : make_dir();
}

static inline void clear_dir(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *ent; d && (ent = readdir(d));)
        unlinkat(dirfd(d), ent->d_name, 0); // not the directories
    if (d)
        closedir(d);
}

static inline void remove_dir(char *path)
{
    clear_dir(path);
    rmdir(path);
    free(path);
}

static inline struct journal_options storer(const char *dir)
{
    return (struct journal_options){.type = JOURNAL_STORER,
                                    .dir = dir,
                                    .max_size = -1,
                                    .log_size = 256 * KIB,
                                    .flush = {.auto_flush = true}};
}

static inline struct journal *open_ok(const struct journal_options *o)
{
    struct journal *j = NULL;
    struct err e = {0};
    if (journal_open(&j, o, &e) < 0)
        fail_msg("journal_open: %s", e.msg);
    return j;
}

static struct err failure; // of the last call in ok()

#define ok(expr)                                                                                   \
    do {                                                                                           \
        if ((expr) < 0)                                                                            \
            fail_msg("%s: %s", #expr, failure.msg);                                                \
    } while (0)

// Appends n bytes of the function, at most `chunk` a commit. Returns 0 or the first error.
static inline int append(struct journal *j, uint64_t n, size_t chunk, struct err *e)
{
    struct journal_info info;
    journal_get_info(j, &info);
    uint64_t at = info.right;
    while (n > 0) {
        char *p;
        size_t room;
        int rc = journal_log_space(j, &p, &room, e);
        if (rc < 0)
            return rc;
        size_t part = room < chunk ? room : chunk;
        if (part > n)
            part = (size_t)n;
        fill(p, at, part);
        rc = journal_log_commit(j, part, e);
        if (rc < 0)
            return rc;
        at += part;
        n -= part;
    }
    return 0;
}

static inline int append_snapshot(struct journal *j, uint64_t n, size_t chunk, struct err *e)
{
    struct journal_info info;
    journal_get_info(j, &info);
    uint64_t at = info.snapshot_have;
    while (n > 0) {
        char *p;
        size_t room;
        int rc = journal_snapshot_space(j, &p, &room, e);
        if (rc < 0)
            return rc;
        size_t part = room < chunk ? room : chunk;
        if (part > n)
            part = (size_t)n;
        fill(p, at, part);
        rc = journal_snapshot_commit(j, part, e);
        if (rc < 0)
            return rc;
        at += part;
        n -= part;
    }
    return 0;
}

static inline struct journal_info info_of(struct journal *j)
{
    struct journal_info info;
    journal_get_info(j, &info);
    return info;
}

// The log after `from` is one stretch up to the right edge and has the right bytes.
static inline void check_log(struct journal_reader *r, struct journal *j, uint64_t from)
{
    const char *p;
    size_t n;
    ok(journal_log_view(r, from, &p, &n, &failure));
    assert_int_equal(n, info_of(j).right - from);
    assert_true(matches(p, from, n));
}

static inline int count_files(const char *dir, const char *prefix)
{
    DIR *d = opendir(dir);
    int n = 0;
    for (struct dirent *ent; d && (ent = readdir(d));)
        n += strncmp(ent->d_name, prefix, strlen(prefix)) == 0;
    if (d)
        closedir(d);
    return n;
}

static inline void path_of(char out[4096], const char *dir, const char *name)
{
    snprintf(out, 4096, "%s/%s", dir, name);
}

static inline void segment_path(char out[4096], const char *dir, uint64_t left)
{
    snprintf(out, 4096, "%s/log-%020llu.seg", dir, (unsigned long long)left);
}

// The machine went down: another boot id, no clean end.
static inline void pretend_machine_crash(const char *dir)
{
    char path[4096], text[65536];
    path_of(path, dir, "meta.json");
    FILE *f = fopen(path, "r");
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = 0;
    char *id = strstr(text, "\"boot_id\": \""), *clean = strstr(text, "\"clean\": true");
    assert_non_null(id);
    id[12] = id[12] == 'x' ? 'y' : 'x';
    if (clean)
        memcpy(clean, "\"clean\":false", 13);
    f = fopen(path, "w");
    fwrite(text, 1, n, f);
    fclose(f);
}

#endif

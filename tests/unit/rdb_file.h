// SPDX-License-Identifier: Apache-2.0
// Small RDB files made by hand, temporary files, and running a command of the rdb family with what
// it says to stderr caught. For tests of one file only, hence the static functions.
#ifndef GUNYU_TESTS_RDB_FILE_H
#define GUNYU_TESTS_RDB_FILE_H

#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "codec/crc64.h"

static char scratch[] = "/tmp/gunyu-rdb-test-XXXXXX";

static inline int scratch_make(void **state)
{
    (void)state;
    return mkdtemp(scratch) ? 0 : -1;
}

static inline int scratch_remove(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof(command), "rm -r %s", scratch);
    return system(command);
}

// Valid until the fourth next call.
static inline const char *scratch_path(const char *name)
{
    static char paths[4][PATH_MAX];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, PATH_MAX, "%s/%s", scratch, name);
    return path;
}

static inline void file_write(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f))
        abort();
}

static inline struct slice file_read(const char *path, struct buf *b)
{
    buf_clear(b);
    FILE *f = fopen(path, "rb");
    for (size_t n = 1; f && n;) {
        n = fread(buf_reserve(b, 65536), 1, 65536, f);
        b->n += n;
    }
    if (f)
        fclose(f);
    return slice_make(buf_cstr(b), b->n);
}

static inline void rdb_begin(struct buf *b)
{
    buf_clear(b);
    buf_append_cstr(b, "REDIS0011");
}

static inline void rdb_byte(struct buf *b, unsigned v)
{
    buf_append_char(b, (char)v);
}

static inline void rdb_len(struct buf *b, size_t n)
{
    if (n < 64) {
        rdb_byte(b, (unsigned)n);
        return;
    }
    uint8_t be[5] = {0x80, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
    buf_append(b, be, sizeof(be));
}

static inline void rdb_str(struct buf *b, struct slice s)
{
    rdb_len(b, s.n);
    buf_append_slice(b, s);
}

static inline void rdb_key(struct buf *b, unsigned type, const char *key)
{
    rdb_byte(b, type);
    rdb_str(b, slice_cstr(key));
}

static inline void rdb_expire(struct buf *b, int64_t ms)
{
    uint8_t le[8];
    rdb_byte(b, 0xfc);
    store_le64(le, (uint64_t)ms);
    buf_append(b, le, 8);
}

// Ends the file and writes it.
static inline void rdb_write(struct buf *b, const char *path)
{
    uint8_t le[8];
    rdb_byte(b, 0xff);
    store_le64(le, crc64_update(0, b->p, b->n));
    buf_append(b, le, 8);
    file_write(path, b->p, b->n);
}

// The exit code; *said is what came to stderr, valid until the next run.
static inline int run_verb(int (*verb)(int, char **), const char **said, ...)
{
    char *argv[24];
    int argc = 0;
    va_list ap;
    va_start(ap, said);
    while ((argv[argc] = va_arg(ap, char *)))
        argc++;
    va_end(ap);
    static struct buf text;
    const char *path = scratch_path("stderr");
    fflush(stderr);
    int saved = dup(2), fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    dup2(fd, 2);
    close(fd);
    optind = 0;
    int rc = verb(argc, argv);
    fflush(stderr);
    dup2(saved, 2);
    close(saved);
    file_read(path, &text);
    *said = buf_cstr(&text);
    return rc;
}

#endif

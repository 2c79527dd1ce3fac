// SPDX-License-Identifier: Apache-2.0
#include "rdb/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <isa-l/igzip_lib.h>
#include <lz4frame.h>
#include <zstd.h>

#include "base/mem.h"

#define PACKED_READ ((size_t)256 << 10) // bytes of a compressed file read at once

struct format {
    const char *name;
    uint8_t magic[4];
    size_t magic_n;
    int (*begin)(struct unpack *u);
    int (*step)(struct unpack *u, char *dst, size_t n, size_t *got);
    void (*end)(struct unpack *u);
};

struct unpack {
    int fd;
    char *name; // owns
    uint64_t size, read;
    const struct format *format; // NULL: not compressed
    char *in;                    // owns; PACKED_READ bytes, of which [at, n) are unread
    size_t at, n;
    bool at_end; // of the file
    bool inside; // a compressed member has begun and not ended
    union {
        struct inflate_state *gzip;
        ZSTD_DStream *zstd;
        LZ4F_dctx *lz4;
    } state; // owns
};

static int gzip_begin(struct unpack *u)
{
    u->state.gzip = xmalloc(sizeof(*u->state.gzip));
    isal_inflate_init(u->state.gzip);
    u->state.gzip->crc_flag = ISAL_GZIP;
    return 0;
}

static int gzip_step(struct unpack *u, char *dst, size_t n, size_t *got)
{
    struct inflate_state *s = u->state.gzip;
    if (!u->inside) {
        isal_inflate_reset(s);
        s->crc_flag = ISAL_GZIP;
        u->inside = true;
    }
    s->next_in = (uint8_t *)u->in + u->at;
    s->avail_in = (uint32_t)(u->n - u->at);
    s->next_out = (uint8_t *)dst;
    s->avail_out = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    uint32_t room = s->avail_out;
    int rc = isal_inflate(s);
    *got = room - s->avail_out;
    if (s->avail_in <= u->n - u->at) // of broken data it may say that more is left than there was
        u->at = u->n - s->avail_in;
    if (rc < 0 || rc == ISAL_NEED_DICT)
        return ERR_CORRUPT;
    u->inside = s->block_state != ISAL_BLOCK_FINISH;
    return 0;
}

static void gzip_end(struct unpack *u)
{
    free(u->state.gzip);
}

static int zstd_begin(struct unpack *u)
{
    u->state.zstd = ZSTD_createDStream();
    return u->state.zstd ? 0 : -ENOMEM;
}

static int zstd_step(struct unpack *u, char *dst, size_t n, size_t *got)
{
    ZSTD_inBuffer in = {u->in, u->n, u->at};
    ZSTD_outBuffer out = {dst, n, 0};
    size_t rc = ZSTD_decompressStream(u->state.zstd, &out, &in);
    u->at = in.pos;
    *got = out.pos;
    u->inside = rc != 0;
    return ZSTD_isError(rc) ? ERR_CORRUPT : 0;
}

static void zstd_end(struct unpack *u)
{
    ZSTD_freeDStream(u->state.zstd);
}

static int lz4_begin(struct unpack *u)
{
    return LZ4F_isError(LZ4F_createDecompressionContext(&u->state.lz4, LZ4F_VERSION)) ? -ENOMEM : 0;
}

static int lz4_step(struct unpack *u, char *dst, size_t n, size_t *got)
{
    size_t used = u->n - u->at;
    *got = n;
    size_t rc = LZ4F_decompress(u->state.lz4, dst, got, u->in + u->at, &used, NULL);
    if (LZ4F_isError(rc))
        return ERR_CORRUPT;
    u->at += used;
    u->inside = rc != 0;
    return 0;
}

static void lz4_end(struct unpack *u)
{
    LZ4F_freeDecompressionContext(u->state.lz4);
}

static const struct format formats[] = {
    {"gzip", {0x1f, 0x8b}, 2, gzip_begin, gzip_step, gzip_end},
    {"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, zstd_begin, zstd_step, zstd_end},
    {"lz4", {0x04, 0x22, 0x4d, 0x18}, 4, lz4_begin, lz4_step, lz4_end},
};

// One read; *got 0 at the end.
static int read_file(struct unpack *u, char *dst, size_t n, size_t *got, struct err *e)
{
    ssize_t rc;
    do
        rc = read(u->fd, dst, n);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return err_sys(e, -errno, "%s: cannot read at byte %llu", u->name,
                       (unsigned long long)u->read);
    u->read += (uint64_t)rc;
    u->at_end = rc == 0;
    *got = (size_t)rc;
    return 0;
}

// Reads the first bytes, which tell the format.
static int look(struct unpack *u, struct err *e)
{
    while (u->n < sizeof(formats->magic) && !u->at_end) {
        size_t got;
        int rc = read_file(u, u->in + u->n, PACKED_READ - u->n, &got, e);
        if (rc)
            return rc;
        u->n += got;
    }
    if (u->n == 0)
        return err_set(e, ERR_CORRUPT, "%s: is empty", u->name);
    for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++) {
        const struct format *f = &formats[i];
        if (u->n < f->magic_n || memcmp(u->in, f->magic, f->magic_n) != 0)
            continue;
        int rc = f->begin(u);
        if (rc)
            return err_sys(e, rc, "%s: cannot begin to decompress", u->name);
        u->format = f;
    }
    return 0;
}

int unpack_open(struct unpack **out, const char *path, struct err *e)
{
    bool standard = strcmp(path, "-") == 0;
    struct stat st;
    *out = NULL;
    int fd = standard ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, -errno, "%s: cannot open", standard ? "standard input" : path);
    struct unpack *u = xcalloc(1, sizeof(*u));
    u->fd = fd;
    u->name = xstrdup(standard ? "standard input" : path);
    u->in = xmalloc(PACKED_READ);
    int rc = 0;
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        rc = err_set(e, -EISDIR, "%s: is a directory, not an RDB file", u->name);
    else if (S_ISREG(st.st_mode))
        u->size = (uint64_t)st.st_size;
    if (rc == 0) {
        posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        rc = look(u, e);
    }
    if (rc) {
        unpack_close(u);
        return rc;
    }
    *out = u;
    return 0;
}

void unpack_close(struct unpack *u)
{
    if (!u)
        return;
    if (u->format)
        u->format->end(u);
    close(u->fd);
    free(u->in);
    free(u->name);
    free(u);
}

static int read_plain(struct unpack *u, char *dst, size_t n, size_t *got, struct err *e)
{
    if (u->at == u->n)
        return u->at_end ? 0 : read_file(u, dst, n, got, e);
    *got = u->n - u->at < n ? u->n - u->at : n;
    memcpy(dst, u->in + u->at, *got);
    u->at += *got;
    return 0;
}

int unpack_read(struct unpack *u, char *dst, size_t n, size_t *got, struct err *e)
{
    *got = 0;
    if (!u->format)
        return read_plain(u, dst, n, got, e);
    while (*got == 0) {
        if (u->at == u->n && !u->at_end) {
            u->at = 0;
            int rc = read_file(u, u->in, PACKED_READ, &u->n, e);
            if (rc)
                return rc;
        }
        if (u->at == u->n && !u->inside)
            return 0;
        // With no input left the decoder may still hold output.
        size_t before = u->at;
        if (u->format->step(u, dst, n, got))
            return err_set(e, ERR_CORRUPT, "%s: the %s data is broken near byte %llu", u->name,
                           u->format->name, (unsigned long long)unpack_done(u));
        if (*got == 0 && u->at == before && u->at == u->n && u->at_end && u->inside)
            return err_set(e, ERR_CORRUPT,
                           "%s: the %s data ends too early, at byte %llu: the file was cut off",
                           u->name, u->format->name, (unsigned long long)unpack_done(u));
    }
    return 0;
}

const char *unpack_name(const struct unpack *u)
{
    return u->name;
}

uint64_t unpack_size(const struct unpack *u)
{
    return u->size;
}

uint64_t unpack_done(const struct unpack *u)
{
    return u->read - (u->n - u->at);
}

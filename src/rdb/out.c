// SPDX-License-Identifier: Apache-2.0
#include "rdb/out.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include "base/mem.h"

#define OUT_BUFFER ((size_t)256 << 10)

struct gzip_state {
    struct isal_zstream z;
    uint8_t level_buf[ISAL_DEF_LVL1_DEFAULT];
};

struct rdb_out {
    int fd;
    enum rdb_out_format format;
    char *path;      // owns; "standard output"
    char *temp;      // owns; where the bytes are until commit; NULL: they have no name or need none
    bool named_late; // a file of its own that gets its name at commit
    struct err failure;
    uint64_t bytes;
    char *buf; // owns
    size_t n;
    char *packed; // owns; compressed bytes on their way out
    ZSTD_CCtx *zstd;
    struct gzip_state *gzip;
};

static int fail(struct rdb_out *o, int code, const char *what)
{
    if (!o->failure.code)
        err_sys(&o->failure, code, "%s: cannot %s", o->path, what);
    return o->failure.code;
}

static int write_file(struct rdb_out *o, const char *p, size_t n)
{
    while (n) {
        ssize_t rc = write(o->fd, p, n);
        if (rc < 0 && errno == EINTR)
            continue;
        if (rc <= 0)
            return fail(o, rc ? -errno : -EIO, "write");
        p += rc;
        n -= (size_t)rc;
    }
    return 0;
}

static int write_zstd(struct rdb_out *o, const char *p, size_t n, bool last)
{
    ZSTD_inBuffer in = {p, n, 0};
    size_t left;
    do {
        ZSTD_outBuffer out = {o->packed, OUT_BUFFER, 0};
        left = ZSTD_compressStream2(o->zstd, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
        if (ZSTD_isError(left))
            return fail(o, -EIO, "compress");
        int rc = write_file(o, o->packed, out.pos);
        if (rc)
            return rc;
    } while (in.pos < in.size || (last && left));
    return 0;
}

static int write_gzip(struct rdb_out *o, const char *p, size_t n, bool last)
{
    struct isal_zstream *z = &o->gzip->z;
    z->next_in = (uint8_t *)(uintptr_t)p;
    z->avail_in = (uint32_t)n;
    z->end_of_stream = last;
    do {
        z->next_out = (uint8_t *)o->packed;
        z->avail_out = OUT_BUFFER;
        if (isal_deflate(z) != COMP_OK)
            return fail(o, -EIO, "compress");
        int rc = write_file(o, o->packed, OUT_BUFFER - z->avail_out);
        if (rc)
            return rc;
    } while (z->avail_in || z->avail_out == 0 || (last && z->internal_state.state != ZSTATE_END));
    return 0;
}

// Bytes on their way to the file; at most UINT32_MAX at once.
static int put(struct rdb_out *o, const char *p, size_t n, bool last)
{
    if (o->format == RDB_OUT_ZSTD)
        return write_zstd(o, p, n, last);
    if (o->format == RDB_OUT_GZIP)
        return write_gzip(o, p, n, last);
    return write_file(o, p, n);
}

static int flush(struct rdb_out *o, bool last)
{
    int rc = put(o, o->buf, o->n, last);
    o->n = 0;
    return rc;
}

static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return xstrdup(".");
    return xstrndup(path, slash == path ? 1 : (size_t)(slash - path));
}

// A file without a name leaves nothing behind whatever happens; not every file system has them.
static int open_temp(struct rdb_out *o)
{
    char *dir = directory_of(o->path);
    o->fd = open(dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    free(dir);
    o->temp = xasprintf("%s.%ld.tmp", o->path, (long)getpid());
    o->named_late = o->fd >= 0;
    if (o->fd < 0)
        o->fd = open(o->temp, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666);
    return o->fd < 0 ? -errno : 0;
}

static int open_file(struct rdb_out *o, struct err *e)
{
    struct stat st;
    bool exists = stat(o->path, &st) == 0;
    if (exists && S_ISDIR(st.st_mode))
        return err_set(e, -EISDIR, "%s: is a directory; name a file in it", o->path);
    int rc = 0;
    if (exists && !S_ISREG(st.st_mode)) { // a device or a pipe takes the bytes as they come
        o->fd = open(o->path, O_WRONLY | O_CLOEXEC);
        rc = o->fd < 0 ? -errno : 0;
    } else {
        rc = open_temp(o);
    }
    return rc ? err_sys(e, rc, "%s: cannot create", o->path) : 0;
}

static int begin_format(struct rdb_out *o, struct err *e)
{
    if (o->format == RDB_OUT_PLAIN)
        return 0;
    o->packed = xmalloc(OUT_BUFFER);
    if (o->format == RDB_OUT_GZIP) {
        o->gzip = xmalloc(sizeof(*o->gzip));
        isal_deflate_init(&o->gzip->z);
        o->gzip->z.gzip_flag = IGZIP_GZIP;
        o->gzip->z.level = 1;
        o->gzip->z.level_buf = o->gzip->level_buf;
        o->gzip->z.level_buf_size = sizeof(o->gzip->level_buf);
        return 0;
    }
    o->zstd = ZSTD_createCCtx();
    if (!o->zstd || ZSTD_isError(ZSTD_CCtx_setParameter(o->zstd, ZSTD_c_checksumFlag, 1)))
        return err_sys(e, -ENOMEM, "%s: cannot begin to compress", o->path);
    return 0;
}

int rdb_out_open(struct rdb_out **out, const char *path, enum rdb_out_format format, struct err *e)
{
    bool standard = strcmp(path, "-") == 0;
    *out = NULL;
    struct rdb_out *o = xcalloc(1, sizeof(*o));
    o->format = format;
    o->path = xstrdup(standard ? "standard output" : path);
    o->fd = -1;
    int rc = 0;
    if (standard)
        o->fd = STDOUT_FILENO;
    else
        rc = open_file(o, e);
    if (rc == 0)
        rc = begin_format(o, e);
    if (rc) {
        rdb_out_discard(o);
        return rc;
    }
    o->buf = xmalloc(OUT_BUFFER);
    *out = o;
    return 0;
}

int rdb_out_write(struct rdb_out *o, const void *p, size_t n, struct err *e)
{
    const char *from = p;
    while (n && !o->failure.code) {
        if (o->n == 0 && n >= OUT_BUFFER) {
            size_t piece = n > ((size_t)1 << 30) ? (size_t)1 << 30 : n;
            put(o, from, piece, false);
            from += piece;
            n -= piece;
            o->bytes += piece;
            continue;
        }
        size_t room = OUT_BUFFER - o->n, piece = n < room ? n : room;
        memcpy(o->buf + o->n, from, piece);
        o->n += piece;
        from += piece;
        n -= piece;
        o->bytes += piece;
        if (o->n == OUT_BUFFER)
            flush(o, false);
    }
    if (o->failure.code && e)
        *e = o->failure;
    return o->failure.code;
}

int rdb_out_printf(struct rdb_out *o, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    int rc = n < 0 ? fail(o, -ENOMEM, "format") : rdb_out_write(o, text, (size_t)n, NULL);
    if (n >= 0)
        free(text);
    return rc;
}

bool rdb_out_failed(const struct rdb_out *o)
{
    return o->failure.code != 0;
}

uint64_t rdb_out_bytes(const struct rdb_out *o)
{
    return o->bytes;
}

// The name itself must survive a crash, too.
static int sync_directory(struct rdb_out *o)
{
    char *dir = directory_of(o->path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(dir);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) ? -errno : 0;
    close(fd);
    return rc;
}

static int give_name(struct rdb_out *o)
{
    if (fsync(o->fd))
        return fail(o, -errno, "sync");
    if (o->named_late) {
        char self[64];
        snprintf(self, sizeof(self), "/proc/self/fd/%d", o->fd);
        unlink(o->temp);
        if (linkat(AT_FDCWD, self, AT_FDCWD, o->temp, AT_SYMLINK_FOLLOW))
            return fail(o, -errno, "give the file its name");
        o->named_late = false;
    }
    if (rename(o->temp, o->path))
        return fail(o, -errno, "rename the temporary file");
    free(o->temp);
    o->temp = NULL;
    int rc = sync_directory(o);
    return rc ? fail(o, rc, "sync the directory") : 0;
}

int rdb_out_commit(struct rdb_out *o, struct err *e)
{
    if (!o->failure.code)
        flush(o, true);
    if (!o->failure.code && o->temp)
        give_name(o);
    // Some file systems report a failed write only here.
    if (!o->failure.code && o->fd != STDOUT_FILENO) {
        int fd = o->fd;
        o->fd = -1;
        if (close(fd))
            fail(o, -errno, "close");
    }
    int rc = o->failure.code;
    if (rc && e)
        *e = o->failure;
    rdb_out_discard(o);
    return rc;
}

void rdb_out_discard(struct rdb_out *o)
{
    if (!o)
        return;
    if (o->fd >= 0 && o->fd != STDOUT_FILENO)
        close(o->fd);
    if (o->temp && !o->named_late)
        unlink(o->temp);
    ZSTD_freeCCtx(o->zstd);
    free(o->gzip);
    free(o->temp);
    free(o->packed);
    free(o->path);
    free(o->buf);
    free(o);
}

// SPDX-License-Identifier: Apache-2.0
#include "rdb/convert_spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

void spool_clear(struct spool *s)
{
    if (s->fd_plus_1)
        close(s->fd_plus_1 - 1);
    s->fd_plus_1 = 0;
    if (s->buf.cap > 2 * SPOOL_MEMORY)
        buf_free(&s->buf);
    buf_clear(&s->buf);
    s->at = 0;
    s->size = s->left = 0;
    s->failure = (struct err){0};
}

void spool_free(struct spool *s)
{
    spool_clear(s);
    buf_free(&s->buf);
}

int spool_file(const char *dir, struct err *e)
{
    if (!dir)
        dir = getenv("TMPDIR");
    if (!dir || !*dir)
        dir = "/var/tmp";
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    char *path = xasprintf("%s/gunyu-rdb-XXXXXX", dir); // not every file system can do without
    fd = mkostemp(path, O_CLOEXEC);
    int failed = errno;
    if (fd >= 0)
        unlink(path);
    free(path);
    return fd >= 0 ? fd : err_sys(e, -failed, "%s: cannot create a temporary file", dir);
}

static void to_file(struct spool *s)
{
    if (!s->fd_plus_1) {
        int fd = spool_file(s->dir, &s->failure);
        s->fd_plus_1 = fd < 0 ? 0 : fd + 1;
    }
    for (size_t done = 0; done < s->buf.n && !s->failure.code;) {
        ssize_t n = write(s->fd_plus_1 - 1, s->buf.p + done, s->buf.n - done);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            err_sys(&s->failure, n ? -errno : -EIO, "cannot write a temporary file");
    }
    buf_clear(&s->buf);
}

void spool_put(struct spool *s, const void *p, size_t n)
{
    if (s->failure.code)
        return;
    buf_append(&s->buf, p, n);
    s->size += n;
    if (s->buf.n >= SPOOL_MEMORY)
        to_file(s);
}

void spool_patch(struct spool *s, uint64_t at, const void *p, size_t n)
{
    must(at + n <= s->size);
    uint64_t in_file = s->size - s->buf.n;
    if (at < in_file && at + n > in_file) {
        to_file(s);
        in_file = s->size;
    }
    if (at >= in_file)
        memcpy(s->buf.p + (at - in_file), p, n);
    else if (!s->failure.code && pwrite(s->fd_plus_1 - 1, p, n, (off_t)at) != (ssize_t)n)
        err_sys(&s->failure, errno ? -errno : -EIO, "cannot write a temporary file");
}

int spool_rewind(struct spool *s, struct err *e)
{
    s->at = 0;
    s->left = 0;
    if (s->fd_plus_1) {
        to_file(s);
        if (!s->failure.code && lseek(s->fd_plus_1 - 1, 0, SEEK_SET) != 0)
            err_sys(&s->failure, -errno, "cannot go back in a temporary file");
        s->left = s->size;
    }
    if (s->failure.code && e)
        *e = s->failure;
    return s->failure.code;
}

static int read_ahead(struct spool *s, struct err *e)
{
    size_t want = s->left < SPOOL_MEMORY ? (size_t)s->left : SPOOL_MEMORY;
    buf_clear(&s->buf);
    s->at = 0;
    while (s->buf.n < want) {
        ssize_t n = read(s->fd_plus_1 - 1, buf_reserve(&s->buf, want), want - s->buf.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_sys(e, n ? -errno : -EIO, "cannot read a temporary file");
        s->buf.n += (size_t)n;
        s->left -= (size_t)n;
    }
    return 0;
}

int spool_get(struct spool *s, size_t n, struct slice *out, struct err *e)
{
    if (s->at == s->buf.n && s->left) {
        int rc = read_ahead(s, e);
        if (rc)
            return rc;
    }
    size_t have = s->buf.n - s->at;
    *out = slice_make(have ? s->buf.p + s->at : "", have < n ? have : n);
    s->at += out->n;
    return 0;
}

int spool_read(struct spool *s, void *dst, size_t n, struct err *e)
{
    struct slice piece;
    for (char *to = dst; n; to += piece.n, n -= piece.n) {
        int rc = spool_get(s, n, &piece, e);
        if (rc)
            return rc;
        must(piece.n > 0); // no more is read than was put
        memcpy(to, piece.p, piece.n);
    }
    return 0;
}

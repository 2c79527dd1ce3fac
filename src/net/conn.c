// SPDX-License-Identifier: Apache-2.0
#include "net/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/dial.h"
#include "net/tls.h"

struct conn {
    int fd;
    const _Atomic int64_t *send_until;
    struct tls *tls; // NULL: plain
    bool watched;
    int want;   // what the user waits for
    int polled; // uv mask in force
    uv_poll_t poll;
    conn_ready_fn on_ready;
    void *ctx;
};

// Takes fd; rc: what went before.
static int made(struct conn **out, int rc, int fd, struct tls *tls)
{
    if (rc) {
        close(fd);
        return rc;
    }
    struct conn *c = xcalloc(1, sizeof(*c));
    c->fd = fd;
    c->tls = tls;
    *out = c;
    return 0;
}

int conn_dial(struct conn **out, const struct endpoint *ep, int timeout_ms, struct err *e)
{
    uint64_t deadline = clock_mono_us() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000;
    int fd = -1;
    int rc = dial_socket(&fd, ep, deadline, e);
    if (rc)
        return rc;
    struct tls *tls = NULL;
    if (ep->tls.enabled)
        rc = tls_connect(&tls, fd, ep, deadline, e);
    rc = made(out, rc, fd, tls);
    if (rc == 0)
        (*out)->send_until = ep->send_until;
    return rc;
}

int conn_accept(struct conn **out, int fd, struct tls_server *server)
{
    struct tls *tls = NULL;
    int flags = fcntl(fd, F_GETFL);
    int rc = flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
    dial_set_options(fd);
    if (rc == 0 && server)
        rc = tls_accept(&tls, fd, server);
    return made(out, rc, fd, tls);
}

int conn_poll_mask(const struct conn *c, int want)
{
    return c->tls ? tls_poll_mask(c->tls, want) : want;
}

int conn_poll_ready(struct conn *c, int ready)
{
    return c->tls ? tls_ready(c->tls, ready) : ready;
}

int conn_fd(const struct conn *c)
{
    return c->fd;
}

uint32_t conn_rtt_us(const struct conn *c)
{
    struct tcp_info info = {0};
    socklen_t n = sizeof(info);
    return getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &n) == 0 ? info.tcpi_rtt : 0;
}

bool conn_has_buffered(const struct conn *c)
{
    return c->tls && tls_has_buffered(c->tls);
}

const char *conn_error_text(const struct conn *c, int code)
{
    return c->tls ? tls_error_text(c->tls, code) : err_text(code);
}

static int mask_of(const struct conn *c)
{
    int need = c->tls ? tls_poll_mask(c->tls, c->want) : c->want;
    return ((need & CONN_READ) ? UV_READABLE : 0) | ((need & CONN_WRITE) ? UV_WRITABLE : 0);
}

static void on_poll(uv_poll_t *h, int status, int events);

static void poll_update(struct conn *c)
{
    if (!c->watched)
        return;
    int mask = mask_of(c);
    if (mask == c->polled)
        return;
    c->polled = mask;
    int rc = mask ? uv_poll_start(&c->poll, mask, on_poll) : uv_poll_stop(&c->poll);
    must(rc == 0);
}

static void on_poll(uv_poll_t *h, int status, int events)
{
    struct conn *c = h->data;
    int ready =
        ((events & UV_READABLE) ? CONN_READ : 0) | ((events & UV_WRITABLE) ? CONN_WRITE : 0);
    // A poll error shows up as an errno in a recv or writev, behind what can still be read. libuv
    // has stopped polling.
    if (status < 0) {
        ready = CONN_READ | CONN_WRITE;
        c->polled = 0;
    } else if (c->tls) {
        ready = tls_ready(c->tls, ready);
    }
    ready &= c->want;
    poll_update(c);
    if (ready)
        c->on_ready(c->ctx, ready);
}

ssize_t conn_recv(struct conn *c, void *p, size_t n)
{
    if (c->tls) {
        ssize_t got = tls_read(c->tls, p, n);
        poll_update(c);
        return got;
    }
    for (;;) {
        ssize_t got = recv(c->fd, p, n, MSG_DONTWAIT);
        if (got > 0)
            return got;
        if (got == 0)
            return n ? ERR_CLOSED : 0;
        if (errno != EINTR)
            return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
}

// Asked at the last moment: a process that was stopped for a while must not rely on an older look
// at the clock.
static bool may_send(const struct conn *c)
{
    return !c->send_until || clock_boot_ms() < atomic_load(c->send_until);
}

ssize_t conn_writev(struct conn *c, const struct iovec *iov, int n)
{
    if (!may_send(c))
        return ERR_LEASE;
    if (c->tls) {
        ssize_t put = tls_writev(c->tls, iov, n);
        poll_update(c);
        return put;
    }
    // Both point at constant bytes; sendmsg only reads them.
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov,
                       .msg_iovlen = (size_t)(n > IOV_MAX ? IOV_MAX : n)};
    for (;;) {
        ssize_t put = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put >= 0)
            return put;
        if (errno != EINTR)
            return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
}

void conn_expect_much(struct conn *c)
{
    // Unlike SO_RCVBUF, which ends the kernel's own tuning, a raised low-water mark only has the
    // buffer enlarged; lowered again, it wakes the reader for every byte as before.
    int much = 1 << 20, one = 1;
    setsockopt(c->fd, SOL_SOCKET, SO_RCVLOWAT, &much, sizeof(much));
    setsockopt(c->fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
}

int conn_wait(struct conn *c, int want, int timeout_ms)
{
    uint64_t deadline = clock_mono_us() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000;
    for (;;) {
        if ((want & CONN_READ) && conn_has_buffered(c))
            return 0;
        int need = c->tls ? tls_poll_mask(c->tls, want) : want;
        int ready = dial_poll(c->fd, need, deadline);
        if (ready < 0)
            return ready;
        if (!c->tls || (tls_ready(c->tls, ready) & want))
            return 0;
    }
}

void conn_watch(struct conn *c, uv_loop_t *loop, conn_ready_fn on_ready, void *ctx)
{
    c->on_ready = on_ready;
    c->ctx = ctx;
    if (c->watched)
        return;
    must(uv_poll_init(loop, &c->poll, c->fd) == 0);
    c->poll.data = c;
    c->watched = true;
}

void conn_want(struct conn *c, int want)
{
    c->want = want;
    poll_update(c);
}

static void conn_free(uv_handle_t *h)
{
    free(h->data);
}

void conn_close(struct conn *c)
{
    if (!c)
        return;
    if (c->tls)
        tls_free(c->tls);
    c->tls = NULL;
    // Before the descriptor is closed: it may be another thread's the moment after.
    if (c->watched)
        uv_close((uv_handle_t *)&c->poll, conn_free);
    close(c->fd);
    c->fd = -1;
    if (!c->watched)
        free(c);
}

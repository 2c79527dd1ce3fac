// SPDX-License-Identifier: Apache-2.0
#include "serve/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/listen.h"

enum {
    SESSIONS = 128,
    STRANGERS = 64, // of them: not authenticated, or have not said anything yet
    STRANGER_US = 10 * 1000 * 1000,
    IDLE_US = 300 * 1000 * 1000,
    STRANGER_BYTES = 64 * 1024, // received before AUTH
    UNSENT_MAX = 256 * 1024,
    READ_MAX = 16 * 1024,
    REST_MS = 100, // when there are no descriptors
};

struct visitor {
    struct conn *conn;
    struct session session;
    struct buf in;
    char peer[64];
    uint64_t begun_us, heard_us;
    size_t received;
    bool known; // authenticated, and has said something
    bool ending;
};

struct serve_server {
    struct serve_server_options o;
    struct session_options session;
    struct tls_server *tls;
    char *listen_at, *password;
    int fd, wake;
    struct sockaddr_storage bound;
    uv_thread_t thread;
    bool resting;
    uint64_t next_id;
    char refused[512]; // what was last said to one that was
    struct visitor *visitors[SESSIONS];
    size_t n;
};

static const char log_tag[] = "replication server";

// ---- addresses ----

static char *address_text(const struct sockaddr_storage *a, bool port, char *dst, size_t cap)
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (a->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)a;
        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
            inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], host, sizeof(host));
        else
            inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
        if (port)
            snprintf(dst, cap, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, ntohs(v6->sin6_port));
    } else {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)a;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
        if (port)
            snprintf(dst, cap, "%s:%d", host, ntohs(v4->sin_port));
    }
    if (!port)
        snprintf(dst, cap, "%s", host);
    return dst;
}

char *serve_server_address(const struct serve_server *s, char *dst, size_t cap)
{
    return address_text(&s->bound, true, dst, cap);
}

static int port_of(const struct serve_server *s)
{
    // The port lies at the same place in both.
    return ntohs(((const struct sockaddr_in *)&s->bound)->sin_port);
}

// ---- one visitor ----

static void visitor_free(struct visitor *v)
{
    conn_close(v->conn);
    if (v->in.p) // may hold a password
        explicit_bzero(v->in.p, v->in.cap);
    buf_free(&v->in);
    session_free(&v->session);
    free(v);
}

static void drop(struct serve_server *s, size_t i)
{
    visitor_free(s->visitors[i]);
    s->visitors[i] = s->visitors[--s->n];
}

// False: the connection has ended.
static bool flush(struct visitor *v)
{
    struct buf *out = &v->session.out;
    while (out->n) {
        struct iovec iov = {out->p, out->n};
        ssize_t put = conn_writev(v->conn, &iov, 1);
        if (put == -EAGAIN)
            return out->n <= UNSENT_MAX;
        if (put < 0)
            return false;
        buf_consume(out, (size_t)put);
    }
    return !v->ending;
}

// What was received behind the request and what was not sent yet goes along.
static struct serve_guest *make_guest(struct visitor *v, size_t used)
{
    struct serve_guest *g = xcalloc(1, sizeof(*g));
    g->conn = v->conn;
    g->request = v->session.request;
    memcpy(g->peer, v->peer, sizeof(g->peer));
    buf_append(&g->in, v->in.p + used, v->in.n - used);
    buf_append(&g->out, v->session.out.p, v->session.out.n);
    return g;
}

// True: the connection is somebody else's now.
static bool hand_over(struct serve_server *s, struct visitor *v, size_t used)
{
    struct err e = {0};
    struct serve_guest *g = make_guest(v, used);
    int rc = s->o.ops.attach(s->o.ops.ctx, v->session.shard, g, &e);
    if (rc == 0) {
        v->conn = NULL;
        return true;
    }
    // Replicas ask again each second.
    if (strcmp(s->refused, e.msg) != 0)
        log_info(log_tag, "%s: refused: %s", v->peer, e.msg);
    snprintf(s->refused, sizeof(s->refused), "%s", e.msg);
    g->conn = NULL;
    serve_guest_free(g);
    buf_printf(&v->session.out, "-%s\r\n", e.msg);
    return false;
}

// False: it is done with.
static bool take_input(struct serve_server *s, struct visitor *v)
{
    while (!v->ending) {
        size_t used;
        enum session_verdict verdict =
            session_step(&v->session, v->in.p ? v->in.p : "", v->in.n, &used);
        if (verdict == SESSION_SERVE && hand_over(s, v, used))
            return false;
        explicit_bzero(v->in.p, used);
        buf_consume(&v->in, used);
        v->known = v->known || (v->session.authenticated && used);
        v->ending = verdict == SESSION_END;
        if (verdict == SESSION_MORE)
            break;
    }
    bool stranger = !v->session.authenticated;
    return flush(v) && !(stranger && v->received > STRANGER_BYTES);
}

static bool receive(struct serve_server *s, struct visitor *v)
{
    do {
        char *p = buf_reserve(&v->in, READ_MAX);
        ssize_t n = conn_recv(v->conn, p, READ_MAX);
        if (n == -EAGAIN)
            break;
        if (n < 0) {
            if (n != ERR_CLOSED)
                log_info(log_tag, "%s: %s", v->peer, conn_error_text(v->conn, (int)n));
            return false;
        }
        v->in.n += (size_t)n;
        v->received += (size_t)n;
        v->heard_us = clock_mono_us();
        if (!take_input(s, v))
            return false;
    } while (conn_has_buffered(v->conn));
    return true;
}

static bool serve_visitor(struct serve_server *s, struct visitor *v, int events)
{
    int ready = ((events & POLLIN) ? CONN_READ : 0) | ((events & POLLOUT) ? CONN_WRITE : 0);
    if (events & (POLLERR | POLLHUP | POLLNVAL))
        ready = CONN_READ | CONN_WRITE;
    ready = conn_poll_ready(v->conn, ready);
    if ((ready & CONN_WRITE) && !flush(v))
        return false;
    return !(ready & CONN_READ) || receive(s, v);
}

static bool in_time(const struct visitor *v, uint64_t now)
{
    // It may have been heard, or have come, after `now`.
    return v->known ? now < v->heard_us + IDLE_US : now < v->begun_us + STRANGER_US;
}

// ---- who comes ----

static size_t count_strangers(const struct serve_server *s, size_t *oldest)
{
    size_t n = 0;
    *oldest = SESSIONS;
    for (size_t i = 0; i < s->n; i++) {
        const struct visitor *v = s->visitors[i];
        if (v->known)
            continue;
        n++;
        if (*oldest == SESSIONS || v->begun_us < s->visitors[*oldest]->begun_us)
            *oldest = i;
    }
    return n;
}

// Whoever holds all places without a word must not keep others out.
static bool make_room(struct serve_server *s)
{
    size_t oldest, strangers = count_strangers(s, &oldest);
    if (strangers >= STRANGERS || (s->n == SESSIONS && strangers))
        drop(s, oldest);
    return s->n < SESSIONS;
}

static void welcome(struct serve_server *s, int fd, const struct sockaddr_storage *from)
{
    struct conn *c;
    if (!make_room(s)) {
        close(fd);
        return;
    }
    if (conn_accept(&c, fd, s->tls))
        return;
    struct visitor *v = xcalloc(1, sizeof(*v));
    v->conn = c;
    v->begun_us = v->heard_us = clock_mono_us();
    address_text(from, false, v->peer, sizeof(v->peer));
    session_begin(&v->session, &s->session, ++s->next_id);
    s->visitors[s->n++] = v;
}

static void accept_all(struct serve_server *s)
{
    for (int i = 0; i < STRANGERS; i++) {
        struct sockaddr_storage from = {0};
        socklen_t len = sizeof(from);
        int fd = accept4(s->fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            welcome(s, fd, &from);
            continue;
        }
        s->resting = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
        if (s->resting)
            log_warn(log_tag, "cannot accept connections: %s", err_text(-errno));
        return;
    }
}

// ---- the thread ----

static short mask_of(const struct visitor *v)
{
    int want = (v->ending ? 0 : CONN_READ) | (v->session.out.n ? CONN_WRITE : 0);
    int mask = conn_poll_mask(v->conn, want);
    return (short)(((mask & CONN_READ) ? POLLIN : 0) | ((mask & CONN_WRITE) ? POLLOUT : 0));
}

static bool turn(struct serve_server *s)
{
    struct pollfd p[SESSIONS + 2] = {{.fd = s->wake, .events = POLLIN},
                                     {.fd = s->resting ? -1 : s->fd, .events = POLLIN}};
    size_t n = s->n;
    for (size_t i = 0; i < n; i++)
        p[i + 2] =
            (struct pollfd){.fd = conn_fd(s->visitors[i]->conn), .events = mask_of(s->visitors[i])};
    (void)poll(p, n + 2, s->resting ? REST_MS : s->n ? 1000 : -1);
    s->resting = false;
    if (p[0].revents)
        return false;
    uint64_t now = clock_mono_us();
    // From the end, since the last one takes the place of one that is dropped.
    for (size_t i = n; i-- > 0;) {
        struct visitor *v = s->visitors[i];
        bool alive = !p[i + 2].revents || serve_visitor(s, v, p[i + 2].revents);
        if (!alive || !in_time(v, now))
            drop(s, i);
    }
    if (p[1].revents)
        accept_all(s);
    return true;
}

static void run(void *arg)
{
    struct serve_server *s = arg;
    while (turn(s))
        ;
    while (s->n)
        drop(s, s->n - 1);
}

// ---- life ----

static int open_port(struct serve_server *s, struct err *e)
{
    s->fd = net_listen(s->listen_at, "replication", "server.replication.listen", e);
    socklen_t n = sizeof(s->bound);
    if (s->fd < 0)
        return s->fd;
    return getsockname(s->fd, (struct sockaddr *)&s->bound, &n) < 0
               ? err_sys(e, -errno, "address of %s", s->listen_at)
               : 0;
}

static void server_free(struct serve_server *s)
{
    if (s->fd >= 0)
        close(s->fd);
    if (s->wake >= 0)
        close(s->wake);
    tls_server_free(s->tls);
    if (s->password)
        explicit_bzero(s->password, strlen(s->password));
    free(s->password);
    free(s->listen_at);
    free(s);
}

int serve_server_start(struct serve_server **out, const struct serve_server_options *o,
                       struct err *e)
{
    struct serve_server *s = xcalloc(1, sizeof(*s));
    s->o = *o;
    s->fd = -1;
    s->listen_at = xstrdup(o->listen);
    s->password = o->password ? xstrdup(o->password) : NULL;
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = s->wake < 0 ? err_sys(e, -errno, "replication server") : open_port(s, e);
    if (rc == 0 && o->tls.enabled) {
        rc = tls_server_new(&s->tls, &o->tls, e);
        if (rc)
            err_wrap(e, "server.replication");
    }
    if (rc == 0) {
        s->session = (struct session_options){.password = s->password,
                                              .version = o->version,
                                              .port = port_of(s),
                                              .unix_ms = clock_unix_ms,
                                              .facts = o->ops.facts,
                                              .ctx = o->ops.ctx};
        rc = uv_thread_create(&s->thread, run, s);
        if (rc)
            err_sys(e, rc, "start a thread of the replication server");
    }
    if (rc) {
        server_free(s);
        return rc;
    }
    char at[80];
    log_info(log_tag, "listens on %s%s", serve_server_address(s, at, sizeof(at)),
             s->tls ? " with TLS" : "");
    *out = s;
    return 0;
}

void serve_server_stop(struct serve_server *s)
{
    if (!s)
        return;
    uint64_t one = 1;
    while (write(s->wake, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    uv_thread_join(&s->thread);
    server_free(s);
}

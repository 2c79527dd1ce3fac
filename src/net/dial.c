// SPDX-License-Identifier: Apache-2.0
#include "net/dial.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/conn.h"

enum {
    KEEPALIVE_IDLE_S = 20,
    KEEPALIVE_INTERVAL_S = 5,
    KEEPALIVE_COUNT = 4,
    // Also bounds a peer that acknowledges but never reads, so it is longer than a slow script.
    USER_TIMEOUT_MS = 60000,
};

static int left_ms(uint64_t deadline)
{
    uint64_t now = clock_mono_us();
    return now >= deadline ? 0 : (int)((deadline - now + 999) / 1000);
}

int dial_poll(int fd, int want, uint64_t deadline)
{
    for (;;) {
        struct pollfd p = {.fd = fd};
        p.events = (short)(((want & CONN_READ) ? POLLIN : 0) | ((want & CONN_WRITE) ? POLLOUT : 0));
        int rc = poll(&p, 1, left_ms(deadline));
        if (rc < 0 && errno == EINTR)
            continue;
        if (rc < 0)
            return -errno;
        if (rc == 0)
            return ERR_TIMEOUT;
        if (p.revents & (POLLERR | POLLHUP | POLLNVAL))
            return want;
        return ((p.revents & POLLIN) ? CONN_READ : 0) | ((p.revents & POLLOUT) ? CONN_WRITE : 0);
    }
}

// ---- name lookup ----

// getaddrinfo has no deadline, so it runs on a thread that is left behind when it takes too long.
struct lookup {
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    int refs;
    bool done;
    int rc;
    char *host;
    char port[8];
    struct addrinfo *result;
};

static int lookup_now(const char *host, const char *port, int flags, struct addrinfo **out)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    hints.ai_flags = flags | AI_NUMERICSERV;
    return getaddrinfo(host, port, &hints, out);
}

// Call with the lock held; drops it.
static void lookup_unref(struct lookup *k)
{
    int refs = --k->refs;
    pthread_mutex_unlock(&k->lock);
    if (refs)
        return;
    if (k->result)
        freeaddrinfo(k->result);
    pthread_cond_destroy(&k->done_cond);
    pthread_mutex_destroy(&k->lock);
    free(k->host);
    free(k);
}

static void lookup_done(struct lookup *k, int rc, struct addrinfo *result)
{
    k->rc = rc;
    k->result = rc ? NULL : result;
    k->done = true;
}

static void *lookup_run(void *arg)
{
    struct lookup *k = arg;
    struct addrinfo *result = NULL;
    int rc = lookup_now(k->host, k->port, AI_ADDRCONFIG, &result);
    pthread_mutex_lock(&k->lock);
    lookup_done(k, rc, result);
    pthread_cond_signal(&k->done_cond);
    lookup_unref(k);
    return NULL;
}

static struct lookup *lookup_start(const char *host, const char *port)
{
    struct lookup *k = xcalloc(1, sizeof(*k));
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&k->done_cond, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&k->lock, NULL);
    k->host = xstrdup(host);
    snprintf(k->port, sizeof(k->port), "%s", port);
    k->refs = 2;
    pthread_t t;
    if (pthread_create(&t, NULL, lookup_run, k) == 0) {
        pthread_detach(t);
        return k;
    }
    // Without a thread the lookup takes as long as it takes.
    struct addrinfo *result = NULL;
    k->refs = 1;
    lookup_done(k, lookup_now(host, port, AI_ADDRCONFIG, &result), result);
    return k;
}

static int resolve(const char *host, uint16_t port_number, uint64_t deadline, struct addrinfo **out,
                   struct err *e)
{
    char port[8];
    snprintf(port, sizeof(port), "%u", (unsigned)port_number);
    if (lookup_now(host, port, AI_NUMERICHOST, out) == 0)
        return 0;
    struct lookup *k = lookup_start(host, port);
    struct timespec until = {(time_t)(deadline / 1000000), (long)(deadline % 1000000) * 1000};
    pthread_mutex_lock(&k->lock);
    while (!k->done && pthread_cond_timedwait(&k->done_cond, &k->lock, &until) != ETIMEDOUT)
        continue;
    bool done = k->done;
    int rc = k->rc;
    *out = k->result;
    k->result = NULL;
    lookup_unref(k);
    if (!done)
        return err_set(e, ERR_TIMEOUT, "name lookup of '%s' timed out", host);
    if (rc)
        return err_set(e, ERR_RESOLVE, "name lookup of '%s' failed: %s", host, gai_strerror(rc));
    return 0;
}

// ---- connect ----

static void set_option(int fd, int level, int name, int value)
{
    // An option that the kernel refuses costs latency or a later notice, never correctness.
    (void)setsockopt(fd, level, name, &value, sizeof(value));
}

void dial_set_options(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS);
}

// 0 with *out set, ERR_TIMEOUT or -errno.
static int connect_to(int *out, const struct sockaddr *addr, socklen_t len, uint64_t deadline)
{
    int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (addr->sa_family != AF_UNIX)
        dial_set_options(fd);
    int rc = 0;
    if (connect(fd, addr, len) < 0) {
        rc = -errno;
        if (rc == -EINPROGRESS || rc == -EINTR) {
            int ready = dial_poll(fd, CONN_WRITE, deadline);
            int error = 0;
            socklen_t size = sizeof(error);
            rc = ready < 0 ? ready : 0;
            if (!rc && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
                rc = -errno;
            else if (!rc)
                rc = -error;
        }
    }
    if (rc) {
        close(fd);
        return rc;
    }
    *out = fd;
    return 0;
}

static int dial_unix(int *fd, const struct endpoint *ep, uint64_t deadline, struct err *e)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t n = strlen(ep->path);
    if (n >= sizeof(addr.sun_path))
        return err_set(e, ERR_CONFIG, "path of the unix socket is too long: %s", ep->path);
    memcpy(addr.sun_path, ep->path, n + 1);
    int rc = connect_to(fd, (struct sockaddr *)&addr, sizeof(addr), deadline);
    return rc ? err_sys(e, rc, "connect to unix:%s", ep->path) : 0;
}

static int count_addresses(const struct addrinfo *a)
{
    int n = 0;
    for (; a; a = a->ai_next)
        n++;
    return n;
}

static int connect_failed(const struct endpoint *ep, const struct addrinfo *a, int tried, int rc,
                          struct err *e)
{
    char name[300], number[64] = "";
    endpoint_name(ep, name, sizeof(name));
    getnameinfo(a->ai_addr, a->ai_addrlen, number, sizeof(number), NULL, 0, NI_NUMERICHOST);
    if (!strcmp(number, ep->host))
        return err_sys(e, rc, "connect to %s", name);
    if (tried > 1)
        return err_sys(e, rc, "connect to %s (%d addresses tried, last %s)", name, tried, number);
    return err_sys(e, rc, "connect to %s (%s)", name, number);
}

int dial_socket(int *fd, const struct endpoint *ep, uint64_t deadline, struct err *e)
{
    if (ep->path)
        return dial_unix(fd, ep, deadline, e);
    if (!ep->host)
        return err_set(e, ERR_CONFIG, "server address without a host");
    struct addrinfo *list = NULL;
    int rc = resolve(ep->host, ep->port, deadline, &list, e);
    if (rc)
        return rc;
    rc = ERR_RESOLVE;
    int tried = 0;
    for (struct addrinfo *a = list; a; a = a->ai_next) {
        // A black hole among the addresses must leave time for the others.
        uint64_t now = clock_mono_us();
        uint64_t share = now >= deadline ? 0 : (deadline - now) / (uint64_t)count_addresses(a);
        tried++;
        rc = connect_to(fd, a->ai_addr, a->ai_addrlen, now + share);
        if (rc == 0)
            break;
        if (!a->ai_next)
            connect_failed(ep, a, tried, rc, e);
    }
    freeaddrinfo(list);
    return rc;
}

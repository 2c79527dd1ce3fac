// SPDX-License-Identifier: Apache-2.0
#include "control/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/api.h"
#include "net/listen.h"

enum {
    MAX_CONNECTIONS = 256,
    SPARE_CONNECTIONS = 128, // dropped ones that have not ended yet
    HEADER_BYTES = 16 * 1024,
    STACK_BYTES = 1024 * 1024,
};

enum conn_state { CONN_FREE, CONN_RECEIVING, CONN_SERVING, CONN_SENDING, CONN_DROPPED };

// One request a connection, so that a deadline of the connection is one of the request.
struct conn {
    enum conn_state state;
    uint64_t since_us; // when the state began
    int fd;            // of the library; open until it reports the end
    unsigned char ip[16];
};

struct http {
    struct http_options o;
    struct MHD_Daemon *daemon;
    int port;
    pthread_t reaper;
    bool reaper_runs;
    pthread_mutex_t lock; // guards all below
    pthread_cond_t wake;
    bool stopping;
    int open; // conns that are not free
    struct conn conns[MAX_CONNECTIONS + SPARE_CONNECTIONS];
};

struct request {
    char *target; // owns
    struct buf body;
    bool begun, too_big, shutdown;
};

// IPv4 as mapped IPv6; of IPv6 only the network, because one host has a whole one to itself.
static void address_key(const struct sockaddr *sa, unsigned char key[16])
{
    memset(key, 0, 16);
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, sa, sizeof(v4));
        memset(key + 10, 0xff, 2);
        memcpy(key + 12, &v4.sin_addr, 4);
    } else if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, sa, sizeof(v6));
        bool mapped = IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr);
        memcpy(key, &v6.sin6_addr, mapped ? 16 : 8);
    }
}

static void peer_text(struct MHD_Connection *c, char *dst, size_t cap)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char host[64], port[16];
    snprintf(dst, cap, "?");
    if (!info || !info->client_addr)
        return;
    bool v6 = info->client_addr->sa_family == AF_INET6;
    socklen_t n = v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getnameinfo(info->client_addr, n, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(dst, cap, v6 ? "[%s]:%s" : "%s:%s", host, port);
}

// The library's thread of the connection sees the end of its socket and cleans up. What was not
// sent by then is thrown away, else the kernel would keep it for a client that does not read.
static void drop(struct conn *c)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    shutdown(c->fd, SHUT_RDWR);
    c->state = CONN_DROPPED;
}

static bool waits_for_client(const struct conn *c)
{
    return c->state == CONN_RECEIVING || c->state == CONN_SENDING;
}

// Makes room by dropping the client that keeps us waiting longest; an honest one is served within
// milliseconds of its coming. ip NULL: of any address. False when all are being served.
static bool drop_oldest(struct http *h, const unsigned char *ip)
{
    struct conn *oldest = NULL;
    for (struct conn *c = h->conns; c < h->conns + MAX_CONNECTIONS + SPARE_CONNECTIONS; c++) {
        if (!waits_for_client(c) || (ip && memcmp(c->ip, ip, 16) != 0))
            continue;
        if (!oldest || c->since_us < oldest->since_us)
            oldest = c;
    }
    if (oldest)
        drop(oldest);
    return oldest != NULL;
}

static void conn_open(struct http *h, struct MHD_Connection *mc, void **context)
{
    const union MHD_ConnectionInfo *fd =
        MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD);
    const union MHD_ConnectionInfo *addr =
        MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    struct conn fresh = {
        .state = CONN_RECEIVING, .since_us = clock_mono_us(), .fd = fd->connect_fd};
    address_key(addr->client_addr, fresh.ip);
    pthread_mutex_lock(&h->lock);
    struct conn *slot = NULL;
    int live = 0, same = 0;
    for (struct conn *c = h->conns; c < h->conns + MAX_CONNECTIONS + SPARE_CONNECTIONS; c++) {
        if (c->state == CONN_FREE) {
            slot = c;
        } else if (c->state != CONN_DROPPED) {
            live++;
            same += memcmp(c->ip, fresh.ip, 16) == 0;
        }
    }
    bool room = true;
    if (same >= h->o.max_per_ip)
        room = drop_oldest(h, fresh.ip);
    else if (live >= h->o.max_connections)
        room = drop_oldest(h, NULL);
    if (!room)
        log_warn("api", "connection refused: all %d allowed ones are being served",
                 same >= h->o.max_per_ip ? h->o.max_per_ip : h->o.max_connections);
    if (slot) {
        *slot = fresh;
        h->open++;
        *context = slot;
        if (!room)
            drop(slot);
        pthread_cond_signal(&h->wake);
    }
    pthread_mutex_unlock(&h->lock);
}

static void on_connection(void *cls, struct MHD_Connection *mc, void **context,
                          enum MHD_ConnectionNotificationCode toe)
{
    struct http *h = cls;
    if (toe == MHD_CONNECTION_NOTIFY_STARTED) {
        conn_open(h, mc, context);
    } else if (*context) {
        struct conn *c = *context;
        pthread_mutex_lock(&h->lock);
        c->state = CONN_FREE;
        h->open--;
        pthread_mutex_unlock(&h->lock);
    }
}

static void conn_enter(struct http *h, struct MHD_Connection *mc, enum conn_state state)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mc, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct conn *c = info ? info->socket_context : NULL;
    if (!c)
        return;
    pthread_mutex_lock(&h->lock);
    if (c->state != CONN_DROPPED) {
        c->state = state;
        c->since_us = clock_mono_us();
    }
    pthread_mutex_unlock(&h->lock);
}

static void drop_late(struct http *h)
{
    uint64_t now = clock_mono_us();
    for (struct conn *c = h->conns; c < h->conns + MAX_CONNECTIONS + SPARE_CONNECTIONS; c++) {
        if (!waits_for_client(c))
            continue;
        int ms = c->state == CONN_SENDING ? h->o.send_timeout_ms : h->o.receive_timeout_ms;
        if (now - c->since_us > (uint64_t)ms * 1000)
            drop(c);
    }
}

static void *reap(void *arg)
{
    struct http *h = arg;
    pthread_mutex_lock(&h->lock);
    while (!h->stopping) {
        if (h->open == 0) {
            pthread_cond_wait(&h->wake, &h->lock);
            continue;
        }
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_nsec += 100000000;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&h->wake, &h->lock, &t);
        drop_late(h);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

static void *on_target(void *cls, const char *target, struct MHD_Connection *mc)
{
    (void)cls;
    (void)mc;
    struct request *r = xcalloc(1, sizeof(*r));
    r->target = xstrdup(target);
    return r;
}

static void on_completed(void *cls, struct MHD_Connection *mc, void **con_cls,
                         enum MHD_RequestTerminationCode toe)
{
    (void)mc;
    (void)toe;
    struct http *h = cls;
    struct request *r = *con_cls;
    if (!r)
        return;
    if (r->shutdown && h->o.shutdown)
        h->o.shutdown(h->o.ctx);
    free(r->target);
    buf_free(&r->body);
    free(r);
    *con_cls = NULL;
}

static void add_headers(struct MHD_Response *mr, const struct api_reply *r)
{
    const struct {
        int status; // 0: all
        const char *name, *value;
    } headers[] = {
        {0, "Connection", "close"},
        {0, "Cache-Control", "no-store"},
        {0, "X-Content-Type-Options", "nosniff"},
        {0, "X-Frame-Options", "DENY"},
        {0, "Referrer-Policy", "no-referrer"},
        {0, "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"},
        {401, "WWW-Authenticate", "Bearer realm=\"gunyu\""},
        {401, "WWW-Authenticate", "Basic realm=\"gunyu\", charset=\"UTF-8\""},
        {503, "Retry-After", "1"},
    };
    for (size_t i = 0; i < sizeof(headers) / sizeof(*headers); i++)
        if (headers[i].status == 0 || headers[i].status == r->status)
            MHD_add_response_header(mr, headers[i].name, headers[i].value);
    if (r->content_type)
        MHD_add_response_header(mr, "Content-Type", r->content_type);
}

// Takes the body out of r.
static enum MHD_Result send_reply(struct MHD_Connection *mc, struct api_reply *r)
{
    static char nothing[1];
    bool empty = r->body.n == 0;
    struct MHD_Response *mr =
        MHD_create_response_from_buffer(r->body.n, empty ? nothing : r->body.p,
                                        empty ? MHD_RESPMEM_PERSISTENT : MHD_RESPMEM_MUST_FREE);
    if (empty || !mr)
        buf_free(&r->body);
    if (!mr)
        return MHD_NO;
    add_headers(mr, r);
    enum MHD_Result rc = MHD_queue_response(mc, (unsigned)r->status, mr);
    MHD_destroy_response(mr);
    return rc;
}

static const char *header(struct MHD_Connection *mc, const char *name)
{
    return MHD_lookup_connection_value(mc, MHD_HEADER_KIND, name);
}

static enum MHD_Result answer(struct http *h, struct MHD_Connection *mc, const char *method,
                              struct request *req)
{
    char peer[96];
    peer_text(mc, peer, sizeof(peer));
    struct api_request q = {
        .method = method,
        .target = req->target,
        .content_type = header(mc, "Content-Type"),
        .authorization = header(mc, "Authorization"),
        .host = header(mc, "Host"),
        .origin = header(mc, "Origin"),
        .fetch_site = header(mc, "Sec-Fetch-Site"),
        .body = buf_slice(&req->body),
        .body_too_big = req->too_big,
        .peer = peer,
    };
    char *password = NULL;
    char *user = MHD_basic_auth_get_username_password(mc, &password);
    q.basic_password = password;
    struct api_reply r = {0};
    conn_enter(h, mc, CONN_SERVING);
    api_handle(&h->o, &q, &r);
    MHD_free(user);
    MHD_free(password);
    req->shutdown = r.shutdown;
    conn_enter(h, mc, CONN_SENDING);
    return send_reply(mc, &r);
}

// The library calls once with the headers, once for each piece of the body, once at the end. A body
// that nobody wants is read all the same: closing on unread bytes would destroy the answer on its
// way. Its deadline bounds it.
static enum MHD_Result on_request(void *cls, struct MHD_Connection *mc, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_n, void **con_cls)
{
    (void)url;
    (void)version;
    struct request *req = *con_cls;
    if (!req)
        return MHD_NO;
    if (!req->begun) {
        req->begun = true;
        return MHD_YES;
    }
    if (*data_n > 0) {
        req->too_big = req->too_big || req->body.n + *data_n > API_MAX_BODY;
        if (!req->too_big)
            buf_append(&req->body, data, *data_n);
        *data_n = 0;
        return MHD_YES;
    }
    return answer(cls, mc, method, req);
}

static void on_log(void *cls, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void on_log(void *cls, const char *fmt, va_list ap)
{
    (void)cls;
    char line[256];
    vsnprintf(line, sizeof(line), fmt, ap);
    line[strcspn(line, "\n")] = 0;
    log_debug("api", "%s", line);
}

static int port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {0};
    socklen_t n = sizeof(a);
    if (getsockname(fd, &a.any, &n) < 0)
        return 0;
    return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

static int or_default(int value, int fallback)
{
    return value > 0 ? value : fallback;
}

static struct http *http_new(const struct http_options *o)
{
    struct http *h = xcalloc(1, sizeof(*h));
    h->o = *o;
    h->o.listen = o->listen ? o->listen : "127.0.0.1:18001";
    h->o.metric_path = o->metric_path ? o->metric_path : "/prometheus";
    h->o.version = o->version ? o->version : "unknown";
    h->o.max_connections = or_default(o->max_connections, 64);
    if (h->o.max_connections > MAX_CONNECTIONS)
        h->o.max_connections = MAX_CONNECTIONS;
    h->o.max_per_ip = or_default(o->max_per_ip, 32);
    h->o.receive_timeout_ms = or_default(o->receive_timeout_ms, 10000);
    h->o.send_timeout_ms = or_default(o->send_timeout_ms, 30000);
    pthread_mutex_init(&h->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&h->wake, &attr);
    pthread_condattr_destroy(&attr);
    return h;
}

static int start_threads(struct http *h, int fd)
{
    if (pthread_create(&h->reaper, NULL, reap, h) != 0) {
        close(fd);
        return -EAGAIN;
    }
    h->reaper_runs = true;
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION |
                     MHD_USE_POLL | MHD_USE_ITC | MHD_USE_ERROR_LOG;
    h->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, h, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, (MHD_socket)fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)(h->o.max_connections + SPARE_CONNECTIONS), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HEADER_BYTES, MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK, on_target, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
        h, MHD_OPTION_END);
    if (h->daemon)
        return 0;
    close(fd);
    return -ENOMEM;
}

int http_start(struct http **out, const struct http_options *o, struct err *e)
{
    struct http *h = http_new(o);
    int rc = net_listen(h->o.listen, "HTTP", "server.listen", e);
    if (rc >= 0) {
        h->port = port_of(rc);
        // Signals are the main thread's.
        sigset_t all, old;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        rc = start_threads(h, rc);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (rc < 0)
            err_sys(e, rc, "cannot start the HTTP server");
    }
    if (rc < 0) {
        http_stop(h);
        return rc;
    }
    *out = h;
    return 0;
}

int http_port(const struct http *h)
{
    return h->port;
}

void http_stop(struct http *h)
{
    if (!h)
        return;
    if (h->daemon)
        MHD_stop_daemon(h->daemon);
    if (h->reaper_runs) {
        pthread_mutex_lock(&h->lock);
        h->stopping = true;
        pthread_cond_signal(&h->wake);
        pthread_mutex_unlock(&h->lock);
        pthread_join(h->reaper, NULL);
    }
    pthread_cond_destroy(&h->wake);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

// SPDX-License-Identifier: Apache-2.0
// A master of the replication protocol on a thread, behind a unix socket: it owns one snapshot and
// one stream, and can be told to cut connections and to answer otherwise.
#ifndef GUNYU_TESTS_FAKE_MASTER_H
#define GUNYU_TESTS_FAKE_MASTER_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "codec/resp.h"

#define FAKE_MARKER "89abcdef0123456789abcdef0123456701234567"

struct fake_master {
    // Set up before the start; `psync_reply` and `cut_after` may change between connections.
    const char *replid;
    uint64_t snapshot_offset; // the stream begins behind it
    struct slice rdb, stream;
    bool eof_form;
    bool only_sync;                    // knows no PSYNC
    bool silent;                       // accepts and says nothing
    _Atomic(const char *) psync_reply; // instead of the right one, for one connection
    atomic_long cut_after;             // bytes sent on one connection; -1: never; once
    // Observed.
    atomic_int connections;
    atomic_int acks;
    atomic_ullong last_ack;
    atomic_ullong ack_us; // when last_ack came
    // Private.
    char path[64];
    int listener;
    int wake[2];
    pthread_t thread;
};

struct fake_session {
    struct fake_master *m;
    int fd;
    long left; // bytes until the cut; < 0: unlimited
    bool cut;
};

static inline void fake_send(struct fake_session *s, const void *p, size_t n)
{
    const char *at = p;
    while (n && !s->cut) {
        size_t k = s->left >= 0 && (size_t)s->left < n ? (size_t)s->left : n;
        ssize_t put = k ? send(s->fd, at, k, MSG_NOSIGNAL) : 0;
        if (put < 0 || k == 0) {
            s->cut = true;
            break;
        }
        at += put;
        n -= (size_t)put;
        if (s->left >= 0)
            s->left -= put;
    }
    if (s->left == 0)
        s->cut = true;
}

static inline void fake_snapshot(struct fake_session *s)
{
    struct fake_master *m = s->m;
    char head[64];
    int n = m->eof_form ? snprintf(head, sizeof(head), "\n$EOF:%s\r\n", FAKE_MARKER)
                        : snprintf(head, sizeof(head), "\n$%zu\r\n", m->rdb.n);
    fake_send(s, head, (size_t)n);
    fake_send(s, m->rdb.p, m->rdb.n);
    if (m->eof_form)
        fake_send(s, FAKE_MARKER, 40);
    fake_send(s, m->stream.p, m->stream.n);
}

static inline void fake_psync(struct fake_session *s, struct slice id, struct slice offset)
{
    struct fake_master *m = s->m;
    const char *other = atomic_exchange(&m->psync_reply, NULL);
    int64_t at = -1;
    char line[96];
    if (other)
        fake_send(s, other, strlen(other));
    if (other && other[0] != '+') {
        s->cut = true;
        return;
    }
    bool known = slice_i64(offset, &at) && at > (int64_t)m->snapshot_offset &&
                 at <= (int64_t)(m->snapshot_offset + m->stream.n) + 1 &&
                 (other || slice_eq(id, slice_cstr(m->replid)));
    if (known) {
        size_t skip = (size_t)at - (size_t)m->snapshot_offset - 1;
        if (!other)
            fake_send(s, "+CONTINUE\r\n", 11);
        fake_send(s, m->stream.p + skip, m->stream.n - skip);
        return;
    }
    int n = snprintf(line, sizeof(line), "+FULLRESYNC %s %llu\r\n", m->replid,
                     (unsigned long long)m->snapshot_offset);
    fake_send(s, line, (size_t)n);
    fake_snapshot(s);
}

static inline void fake_command(struct fake_session *s, const struct resp_cmd *c)
{
    struct fake_master *m = s->m;
    struct slice name = c->argv[0];
    if (slice_eq(name, SLICE("PING")))
        fake_send(s, "+PONG\r\n", 7);
    else if (slice_eq(name, SLICE("INFO")))
        fake_send(s, "-NOPERM no INFO\r\n", 17);
    else if (slice_eq(name, SLICE("PSYNC")) && c->argc == 3 && !m->only_sync)
        fake_psync(s, c->argv[1], c->argv[2]);
    else if (slice_eq(name, SLICE("SYNC")))
        fake_snapshot(s);
    else if (c->argc == 3 && slice_eq(c->argv[1], SLICE("ACK"))) {
        uint64_t v = 0;
        (void)slice_u64(c->argv[2], &v);
        atomic_store(&m->ack_us, clock_mono_us());
        atomic_store(&m->last_ack, v);
        atomic_fetch_add(&m->acks, 1);
    } else if (slice_eq(name, SLICE("REPLCONF")))
        fake_send(s, "+OK\r\n", 5);
    else
        fake_send(s, "-ERR unknown command\r\n", 22);
}

// False when the master is being stopped.
static inline bool fake_readable(struct fake_master *m, int fd)
{
    struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = m->wake[0], .events = POLLIN}};
    return poll(p, 2, -1) > 0 && p[1].revents == 0;
}

static inline void fake_session_run(struct fake_master *m, int fd)
{
    struct fake_session s = {.m = m, .fd = fd, .left = atomic_exchange(&m->cut_after, -1)};
    struct buf in = {0};
    struct resp_cmd c = {0};
    s.cut = s.left == 0;
    while (fake_readable(m, fd)) {
        ssize_t n = recv(fd, buf_reserve(&in, 4096), 4096, 0);
        if (n <= 0)
            break;
        in.n += (size_t)n;
        while (!m->silent && !s.cut && resp_cmd_parse(&c, in.p, in.n) == 1) {
            if (c.argc)
                fake_command(&s, &c);
            buf_consume(&in, c.len);
        }
        // Shut down rather than closed, so that what was sent arrives.
        if (s.cut)
            shutdown(fd, SHUT_WR);
    }
    resp_cmd_free(&c);
    buf_free(&in);
    close(fd);
}

static inline void *fake_run(void *arg)
{
    struct fake_master *m = arg;
    while (fake_readable(m, m->listener)) {
        int fd = accept(m->listener, NULL, NULL);
        if (fd < 0)
            continue;
        atomic_fetch_add(&m->connections, 1);
        fake_session_run(m, fd);
    }
    return NULL;
}

static inline void fake_master_init(struct fake_master *m)
{
    static atomic_int number;
    memset(m, 0, sizeof(*m));
    atomic_store(&m->cut_after, -1);
    snprintf(m->path, sizeof(m->path), "/tmp/gunyu-master-%d-%d", (int)getpid(),
             atomic_fetch_add(&number, 1));
}

static inline void fake_master_start(struct fake_master *m)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, m->path);
    m->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(bind(m->listener, (struct sockaddr *)&a, sizeof(a)) == 0);
    must(listen(m->listener, 16) == 0);
    must(pipe(m->wake) == 0);
    must(pthread_create(&m->thread, NULL, fake_run, m) == 0);
}

static inline void fake_master_stop(struct fake_master *m)
{
    must(write(m->wake[1], "x", 1) == 1);
    pthread_join(m->thread, NULL);
    close(m->listener);
    close(m->wake[0]);
    close(m->wake[1]);
    unlink(m->path);
}

#endif

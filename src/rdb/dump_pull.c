// SPDX-License-Identifier: Apache-2.0
#include "rdb/dump_pull.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/mem.h"
#include "codec/crc64.h"
#include "source/psync.h"

enum {
    CONNECT_MS = 5000,
    SILENCE_MS = 60000, // servers send something at least each 10 s
    TICK_MS = 500,
    CHUNK = 256 * 1024,
    CHECKSUM = 8,
    HEADER = 9,
    CHECKSUM_SINCE = 5,
    HOLD_MAX = PSYNC_MARKER_LEN + CHECKSUM,
};

struct pull {
    const struct pull_options *o;
    struct rdb_out *out;
    struct pull_result *result;
    struct conn *conn;
    struct psync psync;
    struct buf in; // of the handshake
    char peer[300];
    char *chunk;       // owns; bytes held back, then room for new ones
    size_t held, hold; // the last bytes may be checksum and marker
    uint64_t crc, crc_bytes;
    bool begun; // the header was looked at
};

// ---- the connection ----

static int lost(struct pull *p, int code, struct err *e)
{
    const char *why =
        code == ERR_TIMEOUT ? "nothing came for 60 s" : conn_error_text(p->conn, code);
    if (p->psync.state != PSYNC_RDB)
        return err_set(e, code, "%s: %s", p->peer, why);
    char of[40] = "";
    if (p->psync.rdb_size != JOURNAL_SIZE_UNKNOWN)
        snprintf(of, sizeof(of), " of %llu", (unsigned long long)p->psync.rdb_size);
    return err_set(e, ERR_TRUNCATED, "%s: the snapshot broke off after %llu%s bytes: %s", p->peer,
                   (unsigned long long)p->psync.rdb_have, of, why);
}

static void show(struct pull *p)
{
    const struct psync *s = &p->psync;
    if (p->o->progress)
        p->o->progress(p->o->arg, s->state == PSYNC_RDB ? s->rdb_have : 0,
                       s->rdb_size == JOURNAL_SIZE_UNKNOWN ? 0 : s->rdb_size);
}

static int send_out(struct pull *p, struct err *e)
{
    struct buf *out = &p->psync.out;
    while (out->n) {
        struct iovec iov = {out->p, out->n};
        ssize_t n = conn_writev(p->conn, &iov, 1);
        int rc = n < 0 ? (int)n : 0;
        if (rc == -EAGAIN)
            rc = conn_wait(p->conn, CONN_WRITE, SILENCE_MS);
        else if (n > 0)
            buf_consume(out, (size_t)n);
        if (rc)
            return lost(p, rc, e);
    }
    return 0;
}

// At least one byte into dst.
static int receive(struct pull *p, char *dst, size_t room, size_t *got, struct err *e)
{
    uint64_t deadline = clock_mono_us() + (uint64_t)SILENCE_MS * 1000;
    for (;;) {
        ssize_t n = conn_recv(p->conn, dst, room);
        if (n > 0) {
            *got = (size_t)n;
            show(p);
            return 0;
        }
        int rc = (int)n;
        if (rc == -EAGAIN)
            rc = conn_wait(p->conn, CONN_READ, TICK_MS);
        show(p);
        if (rc && (rc != ERR_TIMEOUT || clock_mono_us() > deadline))
            return lost(p, rc, e);
    }
}

// ---- up to the snapshot ----

// True when it begins with the next byte; what of it came already stays in `in`.
static int handshake_event(struct pull *p, bool *begins, bool *more, struct err *e)
{
    static const struct link_request whole = {"?", -1};
    size_t used;
    enum psync_event event = psync_step(&p->psync, p->in.n ? p->in.p : "", p->in.n, &used);
    buf_consume(&p->in, used);
    *begins = event == PSYNC_SNAPSHOT;
    *more = event == PSYNC_NEED_MORE;
    switch (event) {
    case PSYNC_CHOOSE:
        psync_request(&p->psync, &whole);
        break;
    case PSYNC_ERROR:
        *e = p->psync.error;
        err_wrap(e, "%s", p->peer);
        return e->code;
    case PSYNC_CONTINUED: // cannot be: nothing was there to go on from
        return err_set(e, ERR_PROTOCOL, "%s: no snapshot was sent", p->peer);
    default:
        break;
    }
    return 0;
}

static int handshake(struct pull *p, struct err *e)
{
    for (;;) {
        bool begins, more;
        int rc = handshake_event(p, &begins, &more, e);
        if (rc || begins)
            return rc;
        rc = send_out(p, e);
        if (rc)
            return rc;
        if (!more)
            continue;
        size_t got;
        rc = receive(p, buf_reserve(&p->in, CHUNK), CHUNK, &got, e);
        if (rc)
            return rc;
        p->in.n += got;
    }
}

// ---- the snapshot ----

static int look_at_header(struct pull *p, const char *at, size_t n, struct err *e)
{
    bool valkey = n >= HEADER && memcmp(at, "VALKEY", 6) == 0;
    if (n < HEADER + 1 || (!valkey && memcmp(at, "REDIS", 5) != 0))
        return err_set(e, ERR_CORRUPT, "%s: what was sent is no RDB file", p->peer);
    int version = 0;
    for (int i = valkey ? 6 : 5; i < HEADER && isdigit((unsigned char)at[i]); i++)
        version = version * 10 + (at[i] - '0');
    p->result->target = (struct rdb_target){version, valkey};
    p->begun = true;
    return 0;
}

static int emit(struct pull *p, const char *at, size_t n, size_t summed, struct err *e)
{
    p->crc = crc64_update(p->crc, at, summed);
    p->result->bytes += n;
    return rdb_out_write(p->out, at, n, e);
}

// The last bytes: [0, n) of the chunk without the marker.
static int finish(struct pull *p, size_t n, struct err *e)
{
    if (!p->begun) {
        int rc = look_at_header(p, p->chunk, n, e);
        if (rc)
            return rc;
    }
    size_t tail = p->result->target.version >= CHECKSUM_SINCE ? CHECKSUM : 0;
    if (n < tail)
        return err_set(e, ERR_CORRUPT, "%s: the snapshot has no end", p->peer);
    int rc = emit(p, p->chunk, n, n - tail, e);
    if (rc)
        return rc;
    uint64_t stored = tail ? load_le64(p->chunk + n - tail) : 0;
    p->result->checked = stored != 0;
    if (stored && stored != p->crc)
        return err_set(e, ERR_CORRUPT,
                       "%s: the snapshot's checksum is %016llx, but what came has %016llx", p->peer,
                       (unsigned long long)stored, (unsigned long long)p->crc);
    return 0;
}

// `got` new bytes lie behind the held ones.
static int take(struct pull *p, size_t got, bool *done, struct err *e)
{
    uint64_t final_size;
    bool marker = p->psync.rdb_size == JOURNAL_SIZE_UNKNOWN;
    size_t n = p->held + psync_rdb(&p->psync, p->chunk + p->held, got, done, &final_size);
    if (*done) {
        if (marker && n < PSYNC_MARKER_LEN)
            return err_set(e, ERR_CORRUPT, "%s: the snapshot has no end", p->peer);
        return finish(p, marker ? n - PSYNC_MARKER_LEN : n, e);
    }
    if (n <= p->hold + HEADER) {
        p->held = n;
        return 0;
    }
    size_t ready = n - p->hold;
    int rc = p->begun ? 0 : look_at_header(p, p->chunk, n, e);
    if (rc == 0)
        rc = emit(p, p->chunk, ready, ready, e);
    memmove(p->chunk, p->chunk + ready, p->hold);
    p->held = p->hold;
    return rc;
}

static int snapshot(struct pull *p, struct err *e)
{
    bool done = psync_rdb_left(&p->psync) == 0;
    if (done)
        return err_set(e, ERR_CORRUPT, "%s: the snapshot is empty", p->peer);
    p->hold = p->psync.rdb_size == JOURNAL_SIZE_UNKNOWN ? HOLD_MAX : CHECKSUM;
    p->chunk = xmalloc(HOLD_MAX + HEADER + CHUNK);
    while (!done) {
        size_t got = p->in.n < CHUNK ? p->in.n : CHUNK;
        int rc = 0;
        if (got)
            memcpy(p->chunk + p->held, p->in.p, got);
        else
            rc = receive(p, p->chunk + p->held, CHUNK, &got, e);
        if (rc == 0 && p->in.n)
            buf_consume(&p->in, got);
        if (rc == 0)
            rc = take(p, got, &done, e);
        if (rc)
            return rc;
    }
    return 0;
}

int pull_snapshot(const struct pull_options *o, struct rdb_out *out, struct pull_result *result,
                  struct err *e)
{
    struct psync_options po = {
        .user = o->endpoint->user,
        .password = o->endpoint->password,
        .psync_command = o->psync_command,
    };
    struct pull p = {.o = o, .out = out, .result = result};
    endpoint_name(o->endpoint, p.peer, sizeof(p.peer));
    int rc = conn_dial(&p.conn, o->endpoint, CONNECT_MS, e);
    if (rc)
        return rc;
    psync_begin(&p.psync, &po);
    rc = send_out(&p, e);
    if (rc == 0)
        rc = handshake(&p, e);
    if (rc == 0)
        rc = snapshot(&p, e);
    conn_close(p.conn);
    psync_free(&p.psync);
    buf_free(&p.in);
    free(p.chunk);
    return rc;
}

// SPDX-License-Identifier: Apache-2.0
#include "serve/feed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "codec/resp.h"

#define ULL(x) ((unsigned long long)(x))

enum {
    MARKER = 40,
    WRITE_MAX = 256 * 1024, // bytes in one write
    TURN_MAX = 512 * 1024,  // bytes to one replica in one turn
    READ_MAX = 16 * 1024,
    NEWLINE_US = 1000 * 1000,
    PAGE = 4096,
};

uint64_t feeds_silence_us = UINT64_C(60) * 1000 * 1000;

enum phase {
    PHASE_WAIT,     // the snapshot cannot be sent in a form that the replica knows yet
    PHASE_SNAPSHOT, // its bytes
    PHASE_ACK,      // a replica finds the end mark only where nothing follows it yet
    PHASE_STREAM,
};

struct feed {
    struct feeds *set;
    struct feed *next;
    struct conn *conn; // NULL: ended
    struct journal_guest *guest;
    struct serve_request request;
    char address[80];
    char replid[REPLID_LEN + 1]; // the history that it was granted
    uint64_t life;
    enum phase phase;
    bool blocked;   // the socket is full
    bool counted;   // the snapshot's length was announced, not a mark
    uint64_t index; // next byte of the snapshot
    uint64_t pos;   // position sent
    char mark[MARKER + 1];
    struct buf out, in;
    struct resp_cmd cmd;
    int64_t acked;
    uint64_t sent;
    uint64_t heard_us, moved_us, newline_us;
};

struct feeds {
    uv_loop_t *loop;
    struct journal *journal;
    const char *tag;
    struct feed *first;
    size_t n;
    bool ended; // some have ended and are still in the list
    int depth;  // calls that walk the list
    struct feeds_stats stats;
};

void serve_guest_free(struct serve_guest *g)
{
    if (!g)
        return;
    conn_close(g->conn);
    buf_free(&g->out);
    buf_free(&g->in);
    free(g);
}

// ---- ends ----

static void end(struct feed *f, bool by_us, const char *why)
{
    if (!f->conn)
        return;
    log_info(f->set->tag, "replica %s at offset %llu: %s", f->address, ULL(f->pos), why);
    conn_close(f->conn);
    f->conn = NULL;
    journal_guest_close(f->guest);
    f->guest = NULL;
    f->set->n--;
    f->set->ended = true;
    f->set->stats.cut += by_us;
}

static void feed_free(struct feed *f)
{
    resp_cmd_free(&f->cmd);
    buf_free(&f->out);
    buf_free(&f->in);
    free(f);
}

// Not while somebody walks the list.
static void sweep(struct feeds *s)
{
    if (s->depth || !s->ended)
        return;
    s->ended = false;
    for (struct feed **p = &s->first; *p;) {
        struct feed *f = *p;
        if (f->conn) {
            p = &f->next;
            continue;
        }
        *p = f->next;
        feed_free(f);
    }
}

// ---- sending ----

enum sent { SENT_ALL, SENT_SOME, SENT_ENDED };

// Brings the pages in, so that what cannot be read is known before anything is sent on.
static bool readable(const struct feed *f, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i += PAGE)
        (void)*(const volatile char *)(p + i);
    if (n)
        (void)*(const volatile char *)(p + n - 1);
    return !journal_damaged(f->set->journal);
}

static enum sent put(struct feed *f, const char *p, size_t n, size_t *done)
{
    *done = 0;
    // sendmsg only reads.
    struct iovec iov = {(void *)(uintptr_t)p, n};
    ssize_t put = conn_writev(f->conn, &iov, 1);
    if (put == -EAGAIN) {
        f->blocked = true;
        return SENT_SOME;
    }
    if (put < 0) {
        end(f, false, conn_error_text(f->conn, (int)put));
        return SENT_ENDED;
    }
    *done = (size_t)put;
    f->sent += (uint64_t)put;
    f->set->stats.bytes_sent += (uint64_t)put;
    if (put)
        f->moved_us = clock_mono_us();
    return *done == n ? SENT_ALL : SENT_SOME;
}

static enum sent put_out(struct feed *f)
{
    enum sent rc = SENT_ALL;
    while (f->out.n && rc != SENT_ENDED && !f->blocked) {
        size_t done;
        rc = put(f, f->out.p, f->out.n, &done);
        if (done)
            buf_consume(&f->out, done);
    }
    return f->out.n && rc == SENT_ALL ? SENT_SOME : rc;
}

// A length if there is one; a mark where the replica knows marks.
static bool begin_snapshot(struct feed *f, const struct journal_info *j)
{
    bool known = j->snapshot_complete || j->snapshot_size != JOURNAL_SIZE_UNKNOWN;
    if (!known && !f->request.eof)
        return false;
    f->counted = known;
    if (known) {
        buf_printf(&f->out, "$%llu\r\n",
                   ULL(j->snapshot_complete ? j->snapshot_have : j->snapshot_size));
    } else {
        random_hex(f->mark, MARKER);
        buf_printf(&f->out, "$EOF:%s\r\n", f->mark);
    }
    f->phase = PHASE_SNAPSHOT;
    return true;
}

static void begin_stream(struct feed *f)
{
    f->phase = PHASE_STREAM;
    f->heard_us = clock_mono_us();
    log_info(f->set->tag, "replica %s: the snapshot is sent, the stream goes on from offset %llu",
             f->address, ULL(f->pos));
}

// The last bytes of one whose size is not known may be its source's end mark.
static uint64_t snapshot_end(const struct journal_info *j)
{
    bool sure = j->snapshot_complete || j->snapshot_size != JOURNAL_SIZE_UNKNOWN;
    return sure ? j->snapshot_have : j->snapshot_have > MARKER ? j->snapshot_have - MARKER : 0;
}

// What is to be sent next of the journal; *n 0: nothing now.
static int next_bytes(struct feed *f, const struct journal_info *j, const char **p, size_t *n,
                      struct err *e)
{
    *n = 0;
    if (f->phase == PHASE_STREAM)
        return journal_guest_log(f->guest, f->pos, p, n, e);
    if (f->phase != PHASE_SNAPSHOT)
        return 0;
    int rc = journal_guest_snapshot(f->guest, f->index, p, n, e);
    uint64_t end_at = snapshot_end(j), left = end_at > f->index ? end_at - f->index : 0;
    if (*n > left)
        *n = (size_t)left;
    return rc;
}

// To the next phase, if this one is through. True when there may be more to send.
static bool advance(struct feed *f, const struct journal_info *j)
{
    switch (f->phase) {
    case PHASE_WAIT:
        return begin_snapshot(f, j);
    case PHASE_SNAPSHOT:
        if (!j->snapshot_complete || f->index < j->snapshot_have || !j->has_log)
            return false;
        if (f->counted) {
            begin_stream(f);
        } else {
            buf_append(&f->out, f->mark, MARKER);
            f->phase = PHASE_ACK;
        }
        return true;
    case PHASE_ACK:
    case PHASE_STREAM:
        break;
    }
    return false;
}

static bool same_history(struct feed *f, const struct journal_info *j)
{
    if (f->life != j->life)
        end(f, false, "the journal begins anew; it shall ask again");
    else if (strcmp(f->replid, j->replid) != 0)
        end(f, false, "the source goes on under a new replication id; it shall ask again");
    return f->conn != NULL;
}

static void send_more(struct feed *f)
{
    struct journal_info j;
    journal_get_info(f->set->journal, &j);
    if (!same_history(f, &j))
        return;
    size_t turn = 0;
    while (turn < TURN_MAX && !f->blocked) {
        if (put_out(f) != SENT_ALL)
            return;
        const char *p;
        size_t n, done;
        struct err e = {0};
        int rc = next_bytes(f, &j, &p, &n, &e);
        if (rc < 0) {
            end(f, true,
                rc == -ERANGE ? "what it needs is no longer held (it is too slow for the journal's "
                                "size)"
                              : e.msg);
            return;
        }
        if (n == 0) {
            if (advance(f, &j))
                continue;
            return;
        }
        n = n < WRITE_MAX ? n : WRITE_MAX;
        if (!readable(f, p, n)) {
            end(f, true, "the journal could not be read");
            return;
        }
        if (put(f, p, n, &done) == SENT_ENDED)
            return;
        turn += done;
        *(f->phase == PHASE_STREAM ? &f->pos : &f->index) += done;
    }
}

static bool has_more(const struct feed *f)
{
    struct journal_info j;
    journal_get_info(f->set->journal, &j);
    return f->out.n || (f->phase == PHASE_STREAM && f->pos < j.right) ||
           (f->phase == PHASE_SNAPSHOT && f->index < snapshot_end(&j));
}

static void pump(struct feed *f)
{
    if (!f->conn)
        return;
    if (!f->blocked)
        send_more(f);
    if (f->conn)
        conn_want(f->conn, CONN_READ | (f->blocked || has_more(f) ? CONN_WRITE : 0));
}

// ---- receiving ----

static void take_command(struct feed *f)
{
    const struct resp_cmd *c = &f->cmd;
    int64_t ack;
    if (c->argc < 3 || !slice_ieq(c->argv[0], SLICE("REPLCONF")) ||
        !slice_ieq(c->argv[1], SLICE("ACK")) || !slice_i64(c->argv[2], &ack))
        return; // a replica expects no answers any more
    if (f->phase == PHASE_ACK && !f->out.n)
        begin_stream(f);
    if (f->phase == PHASE_STREAM && ack >= 0 && (uint64_t)ack <= f->pos)
        f->acked = ack;
}

static void take_input(struct feed *f)
{
    size_t used = 0;
    while (f->conn && used < f->in.n) {
        int rc = resp_cmd_parse(&f->cmd, f->in.p + used, f->in.n - used);
        if (rc < 0 || (rc == 0 && f->in.n - used > SESSION_COMMAND_MAX)) {
            end(f, true, "it breaks the protocol");
            return;
        }
        if (rc == 0)
            break;
        used += f->cmd.len;
        if (f->cmd.argc > 0)
            take_command(f);
    }
    if (used)
        buf_consume(&f->in, used);
}

static void receive(struct feed *f)
{
    do {
        char *p = buf_reserve(&f->in, READ_MAX);
        ssize_t n = conn_recv(f->conn, p, READ_MAX);
        if (n == -EAGAIN)
            return;
        if (n < 0) {
            end(f, false, conn_error_text(f->conn, (int)n));
            return;
        }
        f->in.n += (size_t)n;
        f->heard_us = clock_mono_us();
        take_input(f);
    } while (f->conn && conn_has_buffered(f->conn));
}

static void on_ready(void *ctx, int events)
{
    struct feed *f = ctx;
    struct feeds *s = f->set;
    s->depth++;
    if (events & CONN_WRITE)
        f->blocked = false;
    if (events & CONN_READ)
        receive(f);
    pump(f);
    s->depth--;
    sweep(s);
}

// ---- time ----

static void check_time(struct feed *f, uint64_t now)
{
    // A replica that takes a snapshot says nothing; one that asked by SYNC never does.
    uint64_t last = f->heard_us;
    bool talks = f->phase == PHASE_ACK || f->phase == PHASE_STREAM;
    if ((!talks || f->request.sync) && f->moved_us > last)
        last = f->moved_us;
    bool due = (talks && !f->request.sync) || has_more(f);
    if (!due) {
        f->moved_us = now;
    } else if (now > last && now - last > feeds_silence_us) {
        end(f, true, "silent for too long");
        return;
    }
    // Before a snapshot newlines are no part of anything. In the stream they would be counted as
    // bytes of it.
    if (f->phase == PHASE_WAIT && now - f->newline_us >= NEWLINE_US) {
        f->newline_us = now;
        if (f->out.n == 0)
            buf_append_char(&f->out, '\n');
    }
    journal_guest_tidy(f->guest);
}

void feeds_tick(struct feeds *s)
{
    uint64_t now = clock_mono_us();
    s->depth++;
    for (struct feed *f = s->first; f; f = f->next) {
        if (f->conn)
            check_time(f, now);
        // Who cannot write is told so by the loop; what it needs may be gone meanwhile.
        struct journal_info j;
        journal_get_info(s->journal, &j);
        if (f->conn && f->blocked && same_history(f, &j) && f->phase == PHASE_STREAM &&
            f->pos < j.left)
            end(f, true, "what it needs is no longer held (it is too slow for the journal's size)");
    }
    s->depth--;
    feeds_pump(s);
}

void feeds_pump(struct feeds *s)
{
    if (!s->first)
        return;
    s->depth++;
    for (struct feed *f = s->first; f; f = f->next)
        pump(f);
    s->depth--;
    sweep(s);
}

// ---- life ----

struct feeds *feeds_new(uv_loop_t *loop, struct journal *j, const char *tag)
{
    struct feeds *s = xcalloc(1, sizeof(*s));
    s->loop = loop;
    s->journal = j;
    s->tag = tag;
    return s;
}

void feeds_free(struct feeds *s)
{
    if (!s)
        return;
    s->depth++;
    for (struct feed *f = s->first; f; f = f->next)
        end(f, false, "this process ends");
    s->depth--;
    sweep(s);
    free(s);
}

static void set_address(struct feed *f, const struct serve_guest *g)
{
    const char *host = g->request.address[0] ? g->request.address : g->peer;
    bool v6 = strchr(host, ':') != NULL;
    snprintf(f->address, sizeof(f->address), "%s%.64s%s:%d", v6 ? "[" : "", host, v6 ? "]" : "",
             g->request.port);
}

static void answer(struct feed *f, const struct grant *grant)
{
    if (f->request.sync)
        return;
    if (grant->kind == GRANT_FULL)
        buf_printf(&f->out, "+FULLRESYNC %s %llu\r\n", f->replid, ULL(grant->offset));
    else if (f->request.psync2)
        buf_printf(&f->out, "+CONTINUE %s\r\n", f->replid);
    else
        buf_append_cstr(&f->out, "+CONTINUE\r\n");
}

static void attach(struct feeds *s, struct serve_guest *g, const struct journal_info *j,
                   const struct grant *grant)
{
    struct feed *f = xcalloc(1, sizeof(*f));
    uint64_t now = clock_mono_us();
    *f = (struct feed){.set = s,
                       .next = s->first,
                       .conn = g->conn,
                       .guest = journal_guest_open(s->journal),
                       .request = g->request,
                       .life = j->life,
                       .phase = grant->kind == GRANT_FULL ? PHASE_WAIT : PHASE_STREAM,
                       .pos = grant->offset,
                       .acked = -1,
                       .out = g->out,
                       .in = g->in,
                       .heard_us = now,
                       .moved_us = now,
                       .newline_us = now};
    memcpy(f->replid, j->replid, sizeof(f->replid));
    set_address(f, g);
    free(g);
    s->first = f;
    s->n++;
    s->stats.attached++;
    s->stats.full += grant->kind == GRANT_FULL;
    log_info(s->tag, "replica %s: %s offset %llu%s%s", f->address,
             grant->kind == GRANT_FULL ? "gets the snapshot of" : "continues after",
             ULL(grant->offset), grant->why[0] ? ": " : "", grant->why);
    answer(f, grant);
    conn_watch(f->conn, s->loop, on_ready, f);
    s->depth++;
    take_input(f);
    pump(f);
    if (f->conn && conn_has_buffered(f->conn))
        receive(f);
    s->depth--;
    sweep(s);
}

int feeds_attach(struct feeds *s, struct serve_guest *g, bool *needs_snapshot, struct err *e)
{
    struct journal_info j;
    struct grant grant;
    journal_get_info(s->journal, &j);
    grant_decide(&j, &g->request, &grant);
    *needs_snapshot = grant.kind == GRANT_SNAPSHOT;
    if (*needs_snapshot)
        return err_set(e, ERR_REPLY,
                       "NOMASTERLINK %s, and the journal holds no snapshot for a full sync",
                       grant.why);
    if (grant.kind == GRANT_LATER)
        return err_set(e, ERR_REPLY, "NOMASTERLINK %s", grant.why);
    if (s->n >= SERVE_REPLICAS)
        return err_set(e, ERR_FULL, "NOMASTERLINK there are %d replicas already", SERVE_REPLICAS);
    attach(s, g, &j, &grant);
    return 0;
}

void feeds_get_stats(const struct feeds *s, struct feeds_stats *out)
{
    *out = s->stats;
}

static size_t list(const struct feeds *s, struct serve_replica *out)
{
    static const enum serve_replica_state states[] = {[PHASE_WAIT] = REPLICA_WAITS,
                                                      [PHASE_SNAPSHOT] = REPLICA_SNAPSHOT,
                                                      [PHASE_ACK] = REPLICA_SNAPSHOT,
                                                      [PHASE_STREAM] = REPLICA_STREAM};
    uint64_t now = clock_mono_us();
    size_t n = 0;
    for (const struct feed *f = s->first; f && n < SERVE_REPLICAS; f = f->next) {
        if (!f->conn)
            continue;
        out[n] = (struct serve_replica){.state = states[f->phase],
                                        .acked = f->acked,
                                        .bytes_sent = f->sent,
                                        .silent_ms = (int64_t)(now - f->heard_us) / 1000};
        memcpy(out[n].address, f->address, sizeof(out[n].address));
        n++;
    }
    return n;
}

void feeds_put_facts(const struct feeds *s, struct serve_facts *f)
{
    struct journal_info j;
    journal_get_info(s->journal, &j);
    memcpy(f->replid, j.replid, sizeof(f->replid));
    memcpy(f->replid2, j.replid2, sizeof(f->replid2));
    f->replid2_offset = j.replid2[0] ? (int64_t)j.replid2_offset : -1;
    f->has_log = j.has_log;
    f->left = j.left;
    f->right = j.right;
    f->replicas_n = list(s, f->replicas);
}

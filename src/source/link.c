// SPDX-License-Identifier: Apache-2.0
#include "source/link_int.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    RETRY_MIN_MS = 100,
    RETRY_MAX_MS = 10000,
    TICK_MS = 1000, // acknowledgements and timeouts
    WRITE_TIMEOUT_US = 30 * 1000 * 1000,
    TURN_BYTES = 1024 * 1024,
    TURN_US = 1000,
    HANDSHAKE_CHUNK = 16 * 1024,
    MAX_UNSENT = 64 * 1024, // acknowledgements are left out while the source does not read
    GATE_MS = 500,          // how often a closed gate is tried
};

// A connection attempt on the thread pool; outlives a link that goes away meanwhile.
struct dial {
    uv_work_t req;
    struct link *link;        // NULL: nobody waits any more
    struct endpoint endpoint; // as configured, then the chosen node
    struct endpoint_finder finder;
    char found[300]; // what the finder gave
    struct choose_options choose;
    struct conn *conn;
    int rc;
    struct err err;
};

static void connect_soon(struct link *l, uint64_t delay_ms);
static void run_turn(struct link *l);

const char *link_state_name(enum link_state s)
{
    static const char *const names[] = {
        [LINK_IDLE] = "idle",
        [LINK_CONNECTING] = "connecting",
        [LINK_HANDSHAKE] = "handshake",
        [LINK_WAIT_RDB] = "wait_rdb",
        [LINK_RDB] = "rdb",
        [LINK_STREAM] = "stream",
        [LINK_BLOCKED] = "blocked",
    };
    return names[s];
}

void link_set_state(struct link *l, enum link_state s, const struct err *why)
{
    if (l->state == s && !why)
        return;
    l->state = s;
    if (l->o.events->state)
        l->o.events->state(l->o.ctx, s, why);
}

// ---- full syncs at the same time ----

static bool gate_enter(struct link *l)
{
    if (!l->o.gate || l->in_gate)
        return true;
    int n = atomic_load(&l->o.gate->free);
    while (n > 0 && !atomic_compare_exchange_weak(&l->o.gate->free, &n, n - 1))
        ;
    l->in_gate = n > 0;
    return l->in_gate;
}

void link_gate_leave(struct link *l)
{
    if (l->in_gate)
        atomic_fetch_add(&l->o.gate->free, 1);
    l->in_gate = false;
}

// ---- the connection's end ----

static void disconnect(struct link *l)
{
    l->session++;
    uv_timer_stop(&l->timer);
    uv_timer_stop(&l->again);
    l->resting = false;
    link_gate_leave(l);
    if (l->dial)
        l->dial->link = NULL;
    l->dial = NULL;
    if (l->conn)
        conn_close(l->conn);
    l->conn = NULL;
    l->blocked = false;
    l->acked = false;
    l->eager_ticks = 0;
    l->tail_n = 0;
    l->stream_grew = l->snapshot_grew = false;
    buf_clear(&l->in);
    l->in_used = 0;
    buf_clear(&l->psync.out);
}

static uint64_t retry_delay(struct link *l)
{
    unsigned shift = l->attempt < 10 ? l->attempt : 10;
    uint64_t top = (uint64_t)RETRY_MIN_MS << shift;
    top = top > RETRY_MAX_MS ? RETRY_MAX_MS : top;
    l->attempt++;
    uint32_t random = 0;
    (void)uv_random(NULL, NULL, &random, sizeof(random), 0, NULL);
    // Many links that lost the same source must not come back in one moment.
    return top / 2 + random % (top / 2 + 1);
}

static void give_up(struct link *l, const struct err *why)
{
    struct err e = *why;
    disconnect(l);
    uint64_t delay = retry_delay(l);
    log_warn(l->o.tag, "replication link: %s; next attempt in %llu ms", e.msg,
             (unsigned long long)delay);
    connect_soon(l, delay);
    link_set_state(l, LINK_CONNECTING, &e);
}

static void io_failed(struct link *l, const char *what, int code)
{
    struct err e = {0};
    enum psync_state state = l->psync.state;
    // What a source cannot write into the file it tells to its own log only.
    bool broken_off = code == ERR_CLOSED && (state == PSYNC_RDB_HEADER || state == PSYNC_RDB);
    err_set(&e, code, "%s %s: %s%s", what, l->peer, conn_error_text(l->conn, code),
            broken_off ? " during its snapshot; its log may say why" : "");
    give_up(l, &e);
}

void link_journal_failed(struct link *l, const struct err *why)
{
    struct err e = *why;
    disconnect(l);
    l->started = false;
    link_set_state(l, LINK_IDLE, &e);
    if (l->o.events->journal_failed)
        l->o.events->journal_failed(l->o.ctx, &e);
}

// ---- sending ----

void link_update_want(struct link *l)
{
    int want = l->blocked || l->resting ? 0 : CONN_READ;
    if (l->psync.out.n)
        want |= CONN_WRITE;
    conn_want(l->conn, want);
}

static void send_out(struct link *l)
{
    struct buf *out = &l->psync.out;
    while (out->n) {
        struct iovec iov = {out->p, out->n};
        ssize_t n = conn_writev(l->conn, &iov, 1);
        if (n == -EAGAIN)
            break;
        if (n < 0) {
            io_failed(l, "write to", (int)n);
            return;
        }
        buf_consume(out, (size_t)n);
        l->stuck_since_us = 0;
    }
    if (!out->n)
        l->stuck_since_us = 0;
    else if (!l->stuck_since_us)
        l->stuck_since_us = clock_mono_us();
    link_update_want(l);
}

static bool streaming(const struct link *l)
{
    return l->conn && l->psync.state == PSYNC_STREAM;
}

// Position 0 before the stream: the source sees that the replica lives, and WAIT does not count it.
void link_send_ack(struct link *l)
{
    if (l->psync.out.n > MAX_UNSENT)
        return;
    bool stream = streaming(l);
    psync_ack(&l->psync, stream ? l->right : 0);
    if (stream) {
        l->stats.last_ack = l->right;
        l->acked = true;
    }
    send_out(l);
}

void link_ack_now(struct link *l)
{
    // What was asked up to here has been answered already when nothing came since.
    if (streaming(l) && !(l->acked && l->stats.last_ack == l->right))
        link_send_ack(l);
}

// ---- the handshake ----

static void wait_for_gate(struct link *l)
{
    disconnect(l);
    l->wants_gate = true;
    connect_soon(l, GATE_MS);
    link_set_state(l, LINK_CONNECTING, NULL);
    log_info(l->o.tag, "a full sync has to wait: as many as input.rdbParallel allows are running");
}

// One event of the handshake. False when there is none, or the session has ended.
static bool handshake(struct link *l)
{
    unsigned session = l->session;
    size_t used;
    enum psync_event event =
        psync_step(&l->psync, l->in.n ? l->in.p + l->in_used : "", l->in.n - l->in_used, &used);
    l->in_used += used;
    switch (event) {
    case PSYNC_NEED_MORE:
        buf_consume(&l->in, l->in_used);
        l->in_used = 0;
        break;
    case PSYNC_CHOOSE: {
        struct link_request request = {"?", -1};
        l->o.events->choose(l->o.ctx, &l->psync.server, &request);
        if (l->session != session)
            return false;
        if (request.offset < 0 && !gate_enter(l)) {
            wait_for_gate(l);
            return false;
        }
        psync_request(&l->psync, &request);
        break;
    }
    case PSYNC_WILL_SEND:
        if (!gate_enter(l)) {
            wait_for_gate(l);
            return false;
        }
        link_set_state(l, LINK_WAIT_RDB, NULL);
        break;
    case PSYNC_SNAPSHOT:
        link_begin_snapshot(l);
        if (l->session == session && psync_rdb_left(&l->psync) == 0)
            link_commit_payload(l, "", 0, false);
        break;
    case PSYNC_CONTINUED:
        link_continue_stream(l);
        break;
    case PSYNC_ERROR: {
        struct err e = l->psync.error;
        err_wrap(&e, "%s", l->peer);
        give_up(l, &e);
        return false;
    }
    }
    if (l->session != session)
        return false;
    send_out(l);
    return l->session == session && event != PSYNC_NEED_MORE;
}

// Empties the link's own buffer: first the handshake, then payload that came with it. Returns
// false when no more may be received now.
static bool drain_in(struct link *l)
{
    unsigned session = l->session;
    while (!link_in_payload(l))
        if (!handshake(l))
            return l->session == session;
    while (l->in_used < l->in.n) {
        char *p;
        size_t n;
        if (!link_payload_space(l, &p, &n))
            return false;
        size_t have = l->in.n - l->in_used;
        n = n < have ? n : have;
        memcpy(p, l->in.p + l->in_used, n);
        l->in_used += n;
        link_commit_payload(l, p, n, true);
        if (l->session != session)
            return false;
    }
    buf_free(&l->in);
    l->in_used = 0;
    return true;
}

// ---- receiving ----

// One recv to where the bytes belong. Returns the bytes received, 0 when there were none. *more:
// another try may bring something.
static size_t receive(struct link *l, bool *more)
{
    char *p;
    size_t n = HANDSHAKE_CHUNK;
    bool direct = link_in_payload(l);
    *more = false;
    if (!direct)
        p = buf_reserve(&l->in, n);
    else if (!link_payload_space(l, &p, &n))
        return 0;
    ssize_t got = conn_recv(l->conn, p, n);
    if (got == -EAGAIN)
        return 0;
    if (got < 0) {
        io_failed(l, got == ERR_CLOSED ? "lost" : "read from", (int)got);
        return 0;
    }
    // A short read has emptied a plain socket; of TLS it is one record.
    *more = (size_t)got == n || l->o.endpoint.tls.enabled;
    fault_point("link.received");
    if (direct)
        link_commit_payload(l, p, (size_t)got, false);
    else
        l->in.n += (size_t)got;
    return (size_t)got;
}

static void turn_ends(struct link *l)
{
    if (!l->stream_grew && !l->snapshot_grew)
        return;
    if (l->stream_grew && psync_ends_with_getack(l->tail, l->tail_n)) {
        unsigned session = l->session;
        link_ack_now(l);
        if (l->session != session)
            return;
    }
    l->stream_grew = l->snapshot_grew = false;
    if (l->o.events->grew)
        l->o.events->grew(l->o.ctx);
}

static void go_on(uv_timer_t *t)
{
    struct link *l = t->data;
    if (l->conn && !l->blocked)
        run_turn(l);
}

// A snapshot comes in small pieces; a wake-up for each costs more than receiving it. So while it
// keeps coming the socket is looked at once a millisecond.
static void rest(struct link *l, size_t received)
{
    bool was = l->resting;
    l->resting = l->psync.state == PSYNC_RDB && received > 0 && !l->blocked;
    if (l->resting)
        uv_timer_start(&l->again, go_on, 1, 0);
    if (was != l->resting)
        link_update_want(l);
}

// Receives for a bounded time, so that the other work of the loop's thread stays on time.
static void run_turn(struct link *l)
{
    unsigned session = l->session;
    uint64_t begin = clock_mono_us(), now = begin;
    size_t total = 0;
    bool more = true;
    while (drain_in(l) && more && total < TURN_BYTES && now - begin < TURN_US) {
        total += receive(l, &more);
        if (l->session != session)
            return;
        now = clock_mono_us();
    }
    if (l->session != session)
        return;
    if (total) {
        l->last_read_us = now;
        l->stats.last_io_ms = clock_unix_ms();
    }
    // The poll does not tell of bytes that are inside TLS.
    if (!l->blocked && conn_has_buffered(l->conn))
        uv_timer_start(&l->again, go_on, 0, 0);
    rest(l, total);
    if (!l->blocked && l->state == LINK_BLOCKED)
        link_set_state(l, l->psync.state == PSYNC_RDB ? LINK_RDB : LINK_STREAM, NULL);
    if (l->session == session)
        turn_ends(l);
}

static void on_ready(void *ctx, int events)
{
    struct link *l = ctx;
    unsigned session = l->session;
    if ((events & CONN_WRITE) && l->psync.out.n)
        send_out(l);
    if (l->session == session && (events & CONN_READ) && !l->blocked)
        run_turn(l);
}

void link_kick(struct link *l)
{
    if (!l->conn || !l->blocked)
        return;
    l->blocked = false;
    l->last_read_us = clock_mono_us();
    link_update_want(l);
    // Not from here: a reader that releases bytes may be the caller.
    uv_timer_start(&l->again, go_on, 0, 0);
}

// ---- connecting ----

void link_on_tick(uv_timer_t *t)
{
    struct link *l = t->data;
    uint64_t now = clock_mono_us();
    if (!l->blocked && now - l->last_read_us > (uint64_t)l->o.read_timeout_ms * 1000) {
        io_failed(l, "read from", ERR_TIMEOUT);
        return;
    }
    if (l->stuck_since_us && now - l->stuck_since_us > WRITE_TIMEOUT_US) {
        io_failed(l, "write to", ERR_TIMEOUT);
        return;
    }
    if (l->eager_ticks && --l->eager_ticks == 0)
        uv_timer_start(t, link_on_tick, TICK_MS, TICK_MS);
    if (l->psync.state >= PSYNC_RDB_HEADER)
        link_send_ack(l);
}

static void session_begin(struct link *l, struct conn *c)
{
    l->conn = c;
    l->last_read_us = clock_mono_us();
    l->stuck_since_us = 0;
    conn_expect_much(c);
    psync_begin(&l->psync, &l->psync_options);
    conn_watch(c, l->o.loop, on_ready, l);
    uv_timer_start(&l->timer, link_on_tick, TICK_MS, TICK_MS);
    unsigned session = l->session;
    link_set_state(l, LINK_HANDSHAKE, NULL);
    if (l->session == session)
        send_out(l);
}

static void dial_work(uv_work_t *req)
{
    struct dial *d = req->data;
    struct endpoint at;
    d->rc = endpoint_find(&at, &d->endpoint, &d->finder, &d->err);
    if (d->rc)
        return;
    endpoint_free(&d->endpoint);
    d->endpoint = at;
    if (d->finder.fn)
        endpoint_name(&at, d->found, sizeof(d->found));
    d->rc = choose_source(&d->endpoint, &d->choose, &d->err);
    if (d->rc == 0)
        d->rc = conn_dial(&d->conn, &d->endpoint, d->choose.timeout_ms, &d->err);
}

static void dial_done(uv_work_t *req, int status)
{
    struct dial *d = req->data;
    struct link *l = d->link;
    (void)status;
    if (l)
        l->dial = NULL;
    if (l && d->found[0])
        memcpy(l->found, d->found, sizeof(l->found));
    if (l && d->conn) {
        endpoint_name(&d->endpoint, l->peer, sizeof(l->peer));
        endpoint_free(&l->at);
        endpoint_copy(&l->at, &d->endpoint);
        if (l->o.from != CHOOSE_GIVEN || l->o.finder.fn)
            log_info(l->o.tag, "reading from %s", l->peer);
        session_begin(l, d->conn);
    } else if (l) {
        give_up(l, &d->err);
    } else if (d->conn) {
        conn_close(d->conn);
    }
    endpoint_free(&d->endpoint);
    free(d);
}

static void connect_now(uv_timer_t *t)
{
    struct link *l = t->data;
    if (l->wants_gate && !gate_enter(l)) {
        uv_timer_start(&l->timer, connect_now, GATE_MS, 0);
        return;
    }
    l->wants_gate = false;
    struct dial *d = xcalloc(1, sizeof(*d));
    struct journal_info ji;
    journal_get_info(l->o.journal, &ji);
    d->req.data = d;
    d->link = l;
    d->choose.from = l->o.from;
    d->choose.timeout_ms = l->o.connect_timeout_ms;
    if (ji.has_log)
        memcpy(d->choose.replid, ji.replid, sizeof(d->choose.replid));
    d->choose.offset = ji.right;
    d->finder = l->o.finder;
    endpoint_copy(&d->endpoint, &l->o.endpoint);
    l->dial = d;
    must(uv_queue_work(l->o.loop, &d->req, dial_work, dial_done) == 0);
}

static void connect_soon(struct link *l, uint64_t delay_ms)
{
    l->stats.reconnects++;
    uv_timer_start(&l->timer, connect_now, delay_ms, 0);
}

// ---- life ----

struct link *link_new(const struct link_options *o)
{
    must(o->loop && o->journal && o->events && o->events->choose);
    struct link *l = xcalloc(1, sizeof(*l));
    l->o = *o;
    if (l->o.connect_timeout_ms <= 0)
        l->o.connect_timeout_ms = 5000;
    if (l->o.read_timeout_ms <= 0)
        l->o.read_timeout_ms = 60000;
    l->psync_options = (struct psync_options){
        .user = o->endpoint.user,
        .password = o->endpoint.password,
        .psync_command = o->psync_command ? o->psync_command : "PSYNC",
        .announce_ip = o->announce_ip,
        .listening_port = o->listening_port,
        .version = o->version,
    };
    uv_timer_init(o->loop, &l->timer);
    uv_timer_init(o->loop, &l->again);
    l->timer.data = l->again.data = l;
    l->handles = 2;
    return l;
}

void link_start(struct link *l)
{
    if (l->started || l->freed)
        return;
    l->started = true;
    l->attempt = 0;
    uv_timer_start(&l->timer, connect_now, 0, 0);
    link_set_state(l, LINK_CONNECTING, NULL);
}

void link_stop(struct link *l)
{
    if (!l->started)
        return;
    l->started = false;
    disconnect(l);
    link_set_state(l, LINK_IDLE, NULL);
}

void link_reconnect(struct link *l, const char *why)
{
    if (!l->started)
        return;
    log_info(l->o.tag, "replication link: reconnecting: %s", why);
    disconnect(l);
    connect_soon(l, 0);
    link_set_state(l, LINK_CONNECTING, NULL);
}

void link_hurry(struct link *l)
{
    if (l->started && !l->conn && !l->dial)
        uv_timer_start(&l->timer, connect_now, 0, 0);
}

const char *link_found(const struct link *l)
{
    return l->found;
}

void link_peer(const struct link *l, struct endpoint *at, struct psync_options *o)
{
    endpoint_copy(at, &l->at);
    *o = l->psync_options;
}

static void handle_closed(uv_handle_t *h)
{
    struct link *l = h->data;
    if (--l->handles)
        return;
    psync_free(&l->psync);
    buf_free(&l->in);
    endpoint_free(&l->at);
    free(l);
}

void link_free(struct link *l)
{
    if (!l || l->freed)
        return;
    l->freed = true;
    l->started = false;
    disconnect(l);
    uv_close((uv_handle_t *)&l->timer, handle_closed);
    uv_close((uv_handle_t *)&l->again, handle_closed);
}

void link_get_stats(const struct link *l, struct link_stats *out)
{
    *out = l->stats;
}

// SPDX-License-Identifier: Apache-2.0
// A source cluster whose slots move, lanes that follow its shards each at its own pace and crash,
// and one target. At the end the target must hold what the cluster holds. The lanes are one
// process's, or those of several that crash on their own and come together while slots move.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/mem.h"
#include "flow/ownership_impl.h"

#define SHARDS 3
#define SLOTS 3
#define KEYS 4
#define EVENTS 6000
#define QUESTIONS 256

// A value tells its whole history: APPEND is not idempotent and does not commute.
struct value {
    bool is;
    uint64_t h;
};

enum event_type { SET, APPEND, DEL, RESTORE, MOVE };
struct event {
    enum event_type type;
    int slot, key;
    uint64_t h;
    struct ownership_move move;
    int peer;
    char id[16];
};

struct shard {
    struct event *log;
    uint64_t n;
    struct value data[SLOTS][KEYS];
};

// What it has read up to `pos` was decided on, what is up to `closed` is under way with a position,
// and what is up to `done` the target has. A lost connection loses the rest.
struct lane {
    uint64_t pos, closed, done, reported, received;
    bool kept[EVENTS]; // else dropped
    int speed;
    struct buf record, sent; // of the target, and what goes there with the next position
    int at;                  // its process
    bool open;               // may apply
    bool unstored, landed;   // the record: it is sent, it is there and nobody knows
};

enum style { KEY_BY_KEY, REPLAYED, MOVED };
struct moving_slot {
    bool on;
    unsigned unseen; // processes that no map has told of the last change
    enum style style;
    int from, to, forwarded, cleanup; // cleanup: the shard that still deletes, -1
    bool snapshot, fails;
    struct value staged[KEYS];
    char id[16];
};

struct asked {
    int process;
    struct ownership_question q;
    bool sampled, empty;
    uint64_t offset;
};

struct world {
    uint32_t rng;
    struct ownership *o[SHARDS]; // of each process; NULL: it has no lane
    bool several;                // several processes
    int whole;                   // one that had all lanes and gives turns, -1
    uint64_t clock;
    struct shard shard[SHARDS];
    struct lane lane[SHARDS];
    int owner[SLOTS];
    struct moving_slot slot[SLOTS];
    struct value target[SLOTS][KEYS];
    struct asked asked[QUESTIONS];
    int asked_n, ids;
    uint64_t next_value;
    int16_t base[SLOT_COUNT];
    unsigned styles; // bits of enum style
    bool up;         // atomic moves of Valkey: which way all moves go
    int moves, crashes, partings;
};

static struct ownership *arbiter(const struct world *w, int lane)
{
    return w->o[w->lane[lane].at];
}

static uint32_t rnd(struct world *w, uint32_t n)
{
    w->rng ^= w->rng << 13;
    w->rng ^= w->rng >> 17;
    w->rng ^= w->rng << 5;
    return w->rng % n;
}

static void log_event(struct world *w, int shard, struct event e)
{
    struct shard *s = &w->shard[shard];
    assert_true(s->n < EVENTS);
    s->log[s->n++] = e;
}

static void carry_out(struct value *v, const struct event *e)
{
    switch (e->type) {
    case SET:
    case RESTORE:
        *v = (struct value){true, e->h};
        break;
    case APPEND:
        *v = (struct value){true, (v->is ? v->h : 7) * 1000003 + e->h};
        break;
    case DEL:
        *v = (struct value){0};
        break;
    case MOVE:
        break;
    }
}

static struct slice node_of(int shard)
{
    static const char *const ids[SHARDS] = {"a111111111111111111111111111111111111111",
                                            "b222222222222222222222222222222222222222",
                                            "c333333333333333333333333333333333333333"};
    return slice_cstr(ids[shard]);
}

static int lane_of(void *ctx, struct slice node)
{
    (void)ctx;
    for (int l = 0; l < SHARDS; l++)
        if (slice_eq(node, node_of(l)))
            return l;
    return OWNERSHIP_NOBODY;
}

static void log_move(struct world *w, int shard, int s, enum ownership_phase phase, int peer)
{
    struct event e = {.type = MOVE, .slot = s, .peer = peer};
    snprintf(e.id, sizeof(e.id), "%s", w->slot[s].id);
    e.move.phase = phase;
    e.move.source = node_of(peer);
    e.move.ranges_n = phase == OWNERSHIP_IMPORT_DONE || phase == OWNERSHIP_IMPORT_FAILED ? 0 : 1;
    e.move.ranges[0] = (struct ownership_range){s, s};
    log_event(w, shard, e);
}

// The write of a client, wherever the cluster sends it.
static void client(struct world *w)
{
    int s = (int)rnd(w, SLOTS), k = (int)rnd(w, KEYS);
    struct moving_slot *m = &w->slot[s];
    int at = w->owner[s];
    if (m->on && m->style == KEY_BY_KEY && !w->shard[at].data[s][k].is)
        at = m->to; // ASK
    struct value *v = &w->shard[at].data[s][k];
    uint32_t r = rnd(w, 10);
    struct event e = {.type = r < 6 ? APPEND : r < 8 ? SET : DEL, .slot = s, .key = k};
    e.h = ++w->next_value;
    if (e.type == DEL && !v->is)
        return;
    carry_out(v, &e);
    log_event(w, at, e);
    if (m->on && m->style != KEY_BY_KEY && m->snapshot) {
        carry_out(&m->staged[k], &e);
        log_event(w, m->to, e);
    }
}

static bool is_apart(const struct world *w)
{
    bool apart = w->whole < 0;
    for (int l = 0; l < SHARDS; l++)
        apart |= w->lane[l].at != w->whole || !w->lane[l].open;
    return apart;
}

static bool all_known(const struct world *w, int s)
{
    // Apart, a slot may move once before all are together.
    for (int p = 0; p < SHARDS && is_apart(w); p++)
        if (w->o[p] && w->o[p]->slot[s])
            return false;
    for (int l = 0; l < SHARDS; l++)
        if (!w->lane[l].open)
            return false;
    if (is_apart(w))
        return true;
    const struct ownership *o = arbiter(w, 0);
    const struct moving *m = o->slot[s];
    if (m && m->n >= OWNERSHIP_TENURES / 4)
        return false;
    for (int l = 0; l < SHARDS; l++)
        if (o->lane[l].changed)
            return false; // not yet stored
    for (int i = 0; m && i < m->n; i++)
        if (!m->next[i].cut.known || !m->next[i].since.known)
            return false;
    return true;
}

static bool all_is_applied(const struct world *w)
{
    for (int l = 0; l < SHARDS; l++) {
        const struct lane *n = &w->lane[l];
        if (n->done < w->shard[l].n || n->reported < n->done)
            return false;
    }
    return true;
}

// The old owner's clean-up is what Valkey's atomic moves do later than the new owner's first
// writes, so both ways at once two lanes may wait for each other; docs/slot-migration.md says so.
static bool may_go(struct world *w, const struct moving_slot *m)
{
    if (!(w->styles & 1u << MOVED))
        return true;
    bool others = false;
    for (int s = 0; s < SLOTS; s++)
        others |= &w->slot[s] != m && (w->slot[s].on || w->slot[s].cleanup >= 0);
    for (int p = 0; p < SHARDS; p++)
        others |= w->o[p] && !ownership_quiet(w->o[p]);
    if (!others && all_is_applied(w))
        w->up = m->to > m->from;
    return w->up == (m->to > m->from);
}

static void begin_migration(struct world *w, int s)
{
    struct moving_slot *m = &w->slot[s];
    enum style style = (enum style)rnd(w, 3);
    if (!(w->styles & 1u << style) || m->cleanup >= 0)
        return;
    // What the scheme rests on: each owner is seen by a poll before the next move.
    if (m->unseen || !all_known(w, s))
        return;
    *m = (struct moving_slot){.on = true, .style = style, .from = w->owner[s], .cleanup = -1};
    m->to = (m->from + 1 + (int)rnd(w, SHARDS - 1)) % SHARDS;
    if (!may_go(w, m)) {
        m->on = false;
        return;
    }
    m->fails = style != KEY_BY_KEY && rnd(w, 4) == 0;
    snprintf(m->id, sizeof(m->id), "job%d", ++w->ids);
    if (style != KEY_BY_KEY)
        log_move(w, m->to, s,
                 style == REPLAYED ? OWNERSHIP_IMPORT_REPLAYED : OWNERSHIP_IMPORT_MOVED, m->from);
    w->moves++;
}

static void migrate_key(struct world *w, int s)
{
    struct moving_slot *m = &w->slot[s];
    for (int k = 0; k < KEYS; k++) {
        struct value *v = &w->shard[m->from].data[s][k];
        if (!v->is)
            continue;
        log_event(w, m->to, (struct event){.type = RESTORE, .slot = s, .key = k, .h = v->h});
        w->shard[m->to].data[s][k] = *v;
        *v = (struct value){0};
        log_event(w, m->from, (struct event){.type = DEL, .slot = s, .key = k});
        if (rnd(w, 2))
            return; // else one MIGRATE of several keys
    }
    for (int k = 0; k < KEYS; k++)
        if (w->shard[m->from].data[s][k].is)
            return;
    m->on = false;
    m->unseen = (1u << SHARDS) - 1;
    w->owner[s] = m->to;
}

static void send_snapshot(struct world *w, int s)
{
    struct moving_slot *m = &w->slot[s];
    m->snapshot = true;
    for (int k = 0; k < KEYS; k++) {
        m->staged[k] = w->shard[m->from].data[s][k];
        struct event e = {.type = SET, .slot = s, .key = k, .h = m->staged[k].h};
        if (m->staged[k].is)
            log_event(w, m->to, e);
    }
}

static void hand_over(struct world *w, int s)
{
    struct moving_slot *m = &w->slot[s];
    log_move(w, m->to, s, m->fails ? OWNERSHIP_IMPORT_FAILED : OWNERSHIP_IMPORT_DONE, m->from);
    m->on = false;
    if (m->fails)
        return;
    for (int k = 0; k < KEYS; k++)
        w->shard[m->to].data[s][k] = m->staged[k];
    w->owner[s] = m->to;
    m->unseen = (1u << SHARDS) - 1;
    m->cleanup = m->from;
}

static void clean_up(struct world *w, int s)
{
    struct moving_slot *m = &w->slot[s];
    if (m->style == REPLAYED)
        log_move(w, m->cleanup, s, OWNERSHIP_EXPORT_DONE, m->to);
    for (int k = 0; k < KEYS; k++) {
        struct value *v = &w->shard[m->cleanup].data[s][k];
        if (v->is && m->style == MOVED)
            log_event(w, m->cleanup, (struct event){.type = DEL, .slot = s, .key = k});
        *v = (struct value){0};
    }
    m->cleanup = -1;
}

static void migration(struct world *w, bool may_begin)
{
    int s = (int)rnd(w, SLOTS);
    struct moving_slot *m = &w->slot[s];
    if (m->cleanup >= 0)
        clean_up(w, s);
    else if (m->on && m->style == KEY_BY_KEY)
        migrate_key(w, s);
    else if (m->on && !m->snapshot)
        send_snapshot(w, s);
    else if (m->on && rnd(w, 3) == 0)
        hand_over(w, s);
    else if (!m->on && may_begin && rnd(w, 4) == 0)
        begin_migration(w, s);
}

// Of lanes that are here and may not go on alone nothing is told, unless all are here.
static void poll_map(struct world *w, int p)
{
    int16_t owner[SLOT_COUNT];
    memset(owner, 0xff, sizeof(owner));
    for (int s = 0; s < SLOTS; s++) {
        const struct lane *n = &w->lane[w->owner[s]];
        w->slot[s].unseen &= ~(1u << p);
        if (w->whole == p || n->at != p || n->open)
            owner[s] = (int16_t)w->owner[s];
    }
    if (!w->o[p])
        return;
    if (w->whole != p)
        ownership_count_from(w->o[p], ++w->clock << 20);
    ownership_map(w->o[p], owner);
}

static void questions(struct world *w)
{
    struct ownership_question q;
    int p = (int)rnd(w, SHARDS);
    if (w->o[p] && w->asked_n < QUESTIONS && ownership_question(w->o[p], &q))
        w->asked[w->asked_n++] = (struct asked){.process = p, .q = q};
    if (!w->asked_n)
        return;
    int i = (int)rnd(w, (uint32_t)w->asked_n);
    struct asked *a = &w->asked[i];
    if (!a->sampled) {
        a->empty = true;
        for (int k = 0; k < KEYS && a->q.slot >= 0; k++)
            a->empty &= !w->shard[a->q.lane].data[a->q.slot][k].is;
        a->offset = w->shard[a->q.lane].n;
        a->sampled = true;
        return;
    }
    if (rnd(w, 8) == 0)
        ownership_no_answer(w->o[a->process], a->q.id);
    else
        ownership_answer(w->o[a->process], a->q.id, a->offset, a->empty);
    w->asked[i] = w->asked[--w->asked_n];
}

static void apply(struct world *w, int l, uint64_t at)
{
    const struct event *e = &w->shard[l].log[at];
    if (e->type != MOVE && w->lane[l].kept[at])
        carry_out(&w->target[e->slot][e->key], e);
}

// The position and what goes with it are carried out, and nobody has been told.
static void land(struct world *w, int l)
{
    struct lane *n = &w->lane[l];
    while (n->done < n->closed)
        apply(w, l, n->done++);
    if (!n->unstored)
        return;
    buf_clear(&n->record);
    buf_append(&n->record, n->sent.p, n->sent.n);
    n->landed = true;
}

static void commit(struct world *w, int l)
{
    struct buf b = {0};
    struct lane *n = &w->lane[l];
    if (!n->open || n->done < n->closed)
        return;
    if (ownership_put(arbiter(w, l), l, &b)) {
        buf_clear(&n->sent);
        buf_append(&n->sent, b.p, b.n);
        n->unstored = true;
        n->landed = false;
    }
    buf_free(&b);
    n->closed = n->pos;
}

static void report(struct world *w, int l)
{
    struct lane *n = &w->lane[l];
    n->reported = n->done;
    if (n->landed)
        ownership_stored(arbiter(w, l), l);
    n->unstored &= !n->landed;
    n->landed = false;
    ownership_applied(arbiter(w, l), l, n->done);
}

// The lane reads the position again.
static void lose_connection(struct world *w, int l)
{
    struct lane *n = &w->lane[l];
    n->pos = n->closed = n->done;
    if (!n->open)
        return;
    n->reported = n->done;
    ownership_applied(arbiter(w, l), l, n->done);
    if (n->unstored)
        ownership_put_lost(arbiter(w, l), l);
    n->unstored = n->landed = false;
}

static uint64_t key_hash(const struct event *e)
{
    return (uint64_t)(e->slot * KEYS + e->key);
}

static enum ownership_verdict ask_unit(struct world *w, int l, uint64_t at)
{
    const struct event *e = &w->shard[l].log[at];
    uint64_t key = key_hash(e);
    struct ownership_unit u = {.lane = l,
                               .slot = e->slot,
                               .keys = &key,
                               .keys_n = 1,
                               .restore = e->type == RESTORE,
                               .begin = at,
                               .end = at + 1,
                               .received = w->lane[l].received};
    if (!u.restore && ownership_settled(ownership_fast(arbiter(w, l)), l, e->slot))
        return OWNERSHIP_APPLY;
    enum ownership_verdict v = ownership_unit(arbiter(w, l), &u);
    return v;
}

static void tell_move(struct world *w, int l, uint64_t at)
{
    struct event *e = &w->shard[l].log[at];
    struct err err = {0};
    e->move.id = slice_cstr(e->id);
    assert_int_equal(ownership_move(arbiter(w, l), l, &e->move, at + 1, e->peer, &err), 0);
}

struct looked {
    const struct event *log;
    uint64_t from, to;
};

static uint64_t first_of(const void *ctx, uint64_t key)
{
    const struct looked *k = ctx;
    for (uint64_t at = k->from; at < k->to; at++)
        if (k->log[at].type != MOVE && key_hash(&k->log[at]) == key)
            return at;
    return UINT64_MAX;
}

static void look_ahead(struct world *w, int l, enum ownership_verdict v)
{
    struct lane *n = &w->lane[l];
    uint64_t first[SLOT_COUNT];
    memset(first, 0xff, sizeof(first));
    for (uint64_t at = n->pos; at < n->received; at++) {
        const struct event *e = &w->shard[l].log[at];
        if (e->type == MOVE && v == OWNERSHIP_LOOK)
            tell_move(w, l, at);
        if (e->type != MOVE && first[e->slot] > at)
            first[e->slot] = at;
    }
    if (n->reported < n->pos)
        return;
    struct looked k = {w->shard[l].log, n->pos, n->received};
    struct ownership_ahead found = {.upto = n->received,
                                    .unsettled = ownership_unsettled(arbiter(w, l)),
                                    .first = first,
                                    .first_of = first_of,
                                    .ctx = &k};
    ownership_ahead(arbiter(w, l), l, &found);
}

static void step(struct world *w, int l)
{
    struct lane *n = &w->lane[l];
    if (n->pos >= n->received || !n->open)
        return;
    if (w->shard[l].log[n->pos].type == MOVE) {
        tell_move(w, l, n->pos);
    } else {
        enum ownership_verdict v = ask_unit(w, l, n->pos);
        n->kept[n->pos] = v == OWNERSHIP_APPLY;
        if (v != OWNERSHIP_APPLY && v != OWNERSHIP_DROP) {
            look_ahead(w, l, v);
            return;
        }
    }
    n->pos++;
}

static void free_arbiter(struct world *w, int p)
{
    ownership_free(w->o[p]);
    w->o[p] = NULL;
    for (int i = w->asked_n; i-- > 0;)
        if (w->asked[i].process == p)
            w->asked[i] = w->asked[--w->asked_n];
}

static void restore(struct world *w, int l)
{
    struct err e = {0};
    struct lane *n = &w->lane[l];
    n->pos = n->closed = n->done;
    n->unstored = n->landed = false;
    if (ownership_restore(arbiter(w, l), l, buf_slice(&w->lane[l].record), &e))
        fail_msg("lane %d %s: %.*s", l, e.msg, (int)w->lane[l].record.n, w->lane[l].record.p);
}

// All lanes begin in one process.
static void start(struct world *w, int p)
{
    for (int l = 0; l < SHARDS; l++)
        if (w->lane[l].open && rnd(w, 2))
            land(w, l);
    for (int i = 0; i < SHARDS; i++)
        free_arbiter(w, i);
    w->o[p] = ownership_new(SHARDS, w->base);
    ownership_names(w->o[p], lane_of, NULL);
    w->whole = p;
    for (uint32_t i = 0, first = rnd(w, SHARDS); i < SHARDS; i++) {
        int l = (int)((first + i) % SHARDS);
        w->lane[l].at = p;
        w->lane[l].open = true;
        restore(w, l);
        report(w, l);
    }
    for (int i = 0; i < SHARDS; i++)
        poll_map(w, i);
}

static void crash(struct world *w)
{
    for (int p = 0; p < SHARDS; p++)
        free_arbiter(w, p);
    for (int l = 0; l < SHARDS; l++) {
        if (rnd(w, 2))
            land(w, l);
        w->lane[l].open = false;
    }
    w->crashes++;
    for (uint32_t i = rnd(w, 40); i > 0; i--)
        if (rnd(w, 2))
            client(w);
        else
            migration(w, false);
    start(w, 0);
}

// ---- several processes ----

static bool has_lane(const struct world *w, int p)
{
    bool has = false;
    for (int l = 0; l < SHARDS; l++)
        has |= w->lane[l].at == p;
    return has;
}

// The lane begins in a process that may have others of them.
static void begin_in(struct world *w, int l, int p)
{
    struct lane *n = &w->lane[l];
    n->at = p;
    if (!w->o[p]) {
        w->o[p] = ownership_new(SHARDS, NULL);
        ownership_names(w->o[p], lane_of, NULL);
        ownership_hold(w->o[p]);
        for (int i = 0; i < SHARDS; i++)
            ownership_lane_elsewhere(w->o[p], i);
    }
    ownership_lane_here(w->o[p], l);
    restore(w, l);
    report(w, l);
    n->open = ownership_may_be_alone(w->o[p], l);
    // What it was told before may not be stored.
    for (int i = 0; i < SLOTS; i++)
        w->slot[i].unseen |= 1u << p;
}

static void move_lane(struct world *w, int l, int p)
{
    int from = w->lane[l].at;
    if (from == p)
        return;
    w->lane[l].at = -1;
    if (rnd(w, 2))
        land(w, l);
    if (!has_lane(w, from)) {
        free_arbiter(w, from);
        w->whole = w->whole == from ? -1 : w->whole;
    } else if (w->o[from])
        ownership_lane_elsewhere(w->o[from], l);
    begin_in(w, l, p);
}

static void part(struct world *w)
{
    if (w->whole < 0 || !ownership_part(w->o[w->whole]))
        return;
    w->whole = -1;
    w->partings++;
}

static bool needs_all(const struct world *w)
{
    bool needs = false;
    for (int p = 0; p < SHARDS; p++)
        needs |= w->o[p] && !ownership_quiet(w->o[p]);
    for (int l = 0; l < SHARDS; l++)
        needs |= !w->lane[l].open;
    return needs;
}

// One process dies, and others take its lanes.
static void crash_one(struct world *w)
{
    int p = (int)rnd(w, SHARDS);
    if (!w->o[p])
        return;
    w->crashes++;
    free_arbiter(w, p);
    w->whole = w->whole == p ? -1 : w->whole;
    for (int l = 0; l < SHARDS; l++)
        if (w->lane[l].at == p && rnd(w, 2))
            land(w, l);
    for (uint32_t i = rnd(w, 20); i > 0; i--)
        if (rnd(w, 2))
            client(w);
    for (int l = 0; l < SHARDS; l++)
        if (w->lane[l].at == p)
            begin_in(w, l, (int)((unsigned)p + 1 + rnd(w, SHARDS - 1)) % SHARDS);
}

static void spread(struct world *w)
{
    if (!w->several)
        return;
    if (rnd(w, 20) == 0)
        part(w);
    // One at a time they come together as well, and a whole one may lose its lease.
    if (rnd(w, w->whole < 0 && !needs_all(w) ? 20 : 200) == 0)
        move_lane(w, (int)rnd(w, SHARDS), (int)rnd(w, SHARDS));
    if (is_apart(w) && needs_all(w) && rnd(w, 30) == 0)
        start(w, (int)rnd(w, SHARDS));
    if (rnd(w, 200) == 0)
        crash_one(w);
}

static void turn(struct world *w)
{
    for (int l = 0; l < SHARDS; l++) {
        struct lane *n = &w->lane[l];
        uint64_t left = w->shard[l].n - n->received;
        if (left && rnd(w, 2))
            n->received += 1 + rnd(w, (uint32_t)left);
        if ((int)rnd(w, 100) < n->speed)
            step(w, l);
        if (rnd(w, 3) == 0)
            land(w, l);
        if (rnd(w, 3) == 0)
            report(w, l);
        if (rnd(w, 2) == 0)
            commit(w, l);
        if (rnd(w, 400) == 0)
            lose_connection(w, l);
    }
    questions(w);
    for (int p = 0; p < SHARDS; p++)
        if (rnd(w, 60) == 0)
            poll_map(w, p);
    spread(w);
    if (rnd(w, 100) == 0)
        w->lane[rnd(w, SHARDS)].speed = rnd(w, 3) ? (int)rnd(w, 100) : 0;
}

static void drain(struct world *w, uint32_t seed)
{
    for (int s = 0; s < SLOTS; s++)
        while (w->slot[s].on || w->slot[s].cleanup >= 0)
            migration(w, false);
    for (int i = 0; !all_is_applied(w); i++) {
        for (int l = 0; l < SHARDS; l++)
            w->lane[l].speed = 100;
        turn(w);
        if (i > 200000)
            fail_msg("seed %u: the lanes wait for each other", seed);
    }
}

static void compare(const struct world *w, uint32_t seed)
{
    for (int s = 0; s < SLOTS; s++)
        for (int k = 0; k < KEYS; k++) {
            const struct value *want = &w->shard[w->owner[s]].data[s][k], *is = &w->target[s][k];
            if (want->is != is->is || (want->is && want->h != is->h))
                fail_msg("seed %u: key %d of slot %d is %s", seed, k, s,
                         !is->is     ? "lost"
                         : !want->is ? "too much"
                                     : "another");
        }
}

static void world_free(struct world *w)
{
    for (int l = 0; l < SHARDS; l++) {
        free(w->shard[l].log);
        buf_free(&w->lane[l].record);
        buf_free(&w->lane[l].sent);
    }
    for (int p = 0; p < SHARDS; p++)
        ownership_free(w->o[p]);
    free(w);
}

struct totals {
    uint64_t moves, crashes, dropped, bounced, turns, partings;
};

enum { CRASHES = 1, SEVERAL = 2 };

static void run(uint32_t seed, unsigned styles, unsigned what, struct totals *t)
{
    struct world *w = xcalloc(1, sizeof(*w));
    w->rng = seed * 2654435761u + 1;
    w->styles = styles;
    memset(w->base, 0xff, sizeof(w->base));
    for (int s = 0; s < SLOTS; s++) {
        w->owner[s] = (int)rnd(w, SHARDS);
        if (!(what & SEVERAL)) // else the first map tells
            w->base[s] = (int16_t)w->owner[s];
        w->slot[s].cleanup = -1;
    }
    for (int l = 0; l < SHARDS; l++) {
        w->shard[l].log = xcalloc(EVENTS, sizeof(struct event));
        w->lane[l].speed = (int)rnd(w, 100);
    }
    start(w, 0);
    for (int l = 0; l < SHARDS; l++) {
        commit(w, l);
        land(w, l);
    }
    w->several = what & SEVERAL;
    for (int i = 0; i < 1500; i++) {
        if (rnd(w, 3) == 0)
            client(w);
        if (rnd(w, 4) == 0)
            migration(w, true);
        turn(w);
        if (what & CRASHES && rnd(w, 300) == 0)
            crash(w);
        if (styles & 1u << MOVED && rnd(w, 100) == 0)
            drain(w, seed); // so that moves may go the other way
    }
    drain(w, seed);
    compare(w, seed);
    struct ownership_stats stats;
    ownership_get_stats(arbiter(w, 0), &stats);
    t->partings += (uint64_t)w->partings;
    t->moves += (uint64_t)w->moves;
    t->crashes += (uint64_t)w->crashes;
    t->dropped += stats.dropped;
    t->bounced += stats.bounced;
    t->turns += stats.turns;
    world_free(w);
}

static void run_seeds(unsigned styles, unsigned what)
{
    struct totals t = {0};
    const char *n = getenv("GUNYU_TEST_ROUNDS"), *only = getenv("GUNYU_TEST_SEED");
    uint32_t first = only ? (uint32_t)atoi(only) : 1;
    uint32_t last = only ? first : n ? (uint32_t)atoi(n) : 300;
    for (uint32_t seed = first; seed <= last; seed++)
        run(seed, styles, what, &t);
    print_message("moves %llu crashes %llu turns %llu dropped %llu bounced %llu partings %llu\n",
                  (unsigned long long)t.moves, (unsigned long long)t.crashes,
                  (unsigned long long)t.turns, (unsigned long long)t.dropped,
                  (unsigned long long)t.bounced, (unsigned long long)t.partings);
    if (!only && what & SEVERAL)
        assert_true(t.moves > 1000 && t.partings > 1000);
    else if (!only)
        assert_true(t.moves > 1000 && t.turns > 100);
}

static void lanes_of_any_speed_agree_with_the_cluster_when_keys_move_one_by_one(void **state)
{
    (void)state;
    run_seeds(1u << KEY_BY_KEY, 0);
}

static void the_same_with_crashes(void **state)
{
    (void)state;
    run_seeds(1u << KEY_BY_KEY, CRASHES);
}

static void atomic_moves_whose_import_is_a_replay(void **state)
{
    (void)state;
    run_seeds(1u << REPLAYED, CRASHES);
}

static void atomic_moves_whose_import_is_the_data(void **state)
{
    (void)state;
    run_seeds(1u << MOVED, CRASHES);
}

static void moves_of_every_kind_with_crashes(void **state)
{
    (void)state;
    run_seeds(1u << KEY_BY_KEY | 1u << REPLAYED | 1u << MOVED, CRASHES);
}

static void several_processes_when_keys_move_one_by_one(void **state)
{
    (void)state;
    run_seeds(1u << KEY_BY_KEY, SEVERAL | CRASHES);
}

static void several_processes_and_replays(void **state)
{
    (void)state;
    run_seeds(1u << REPLAYED, SEVERAL | CRASHES);
}

static void several_processes_and_imports_that_are_the_data(void **state)
{
    (void)state;
    run_seeds(1u << MOVED, SEVERAL | CRASHES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_of_any_speed_agree_with_the_cluster_when_keys_move_one_by_one),
        cmocka_unit_test(the_same_with_crashes),
        cmocka_unit_test(atomic_moves_whose_import_is_a_replay),
        cmocka_unit_test(atomic_moves_whose_import_is_the_data),
        cmocka_unit_test(moves_of_every_kind_with_crashes),
        cmocka_unit_test(several_processes_when_keys_move_one_by_one),
        cmocka_unit_test(several_processes_and_replays),
        cmocka_unit_test(several_processes_and_imports_that_are_the_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

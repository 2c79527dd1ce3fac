// SPDX-License-Identifier: Apache-2.0
#include "flow/ownership_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct ownership *ownership_new(int lanes, const int16_t *turn)
{
    struct ownership *o = xcalloc(1, sizeof(*o));
    pthread_mutex_init(&o->lock, NULL);
    o->lanes = lanes;
    o->whole = true;
    o->lane = xcalloc((size_t)lanes, sizeof(*o->lane));
    for (int l = 0; l < lanes; l++)
        o->lane[l].plea.clear = xcalloc((size_t)lanes, sizeof(uint64_t));
    o->pairs = xcalloc((size_t)lanes * (size_t)lanes, sizeof(*o->pairs));
    for (int s = 0; s < SLOT_COUNT; s++) {
        o->turn[s] = turn ? turn[s] : OWNERSHIP_NOBODY;
        o->guest[s] = OWNERSHIP_NOBODY;
        atomic_init(&o->fast.settled[s], o->turn[s]);
    }
    return o;
}

void ownership_free(struct ownership *o)
{
    if (!o)
        return;
    for (int s = 0; s < SLOT_COUNT; s++)
        if (o->slot[s]) {
            free(o->slot[s]->places);
            free(o->slot[s]->next);
            free(o->slot[s]);
        }
    pthread_mutex_destroy(&o->lock);
    for (int l = 0; l < o->lanes; l++) {
        free(o->lane[l].had);
        free(o->lane[l].plea.clear);
    }
    free(o->lane);
    free(o->pairs);
    free(o->moves);
    free(o->questions);
    free(o);
}

void ownership_names(struct ownership *o, int (*lane_of)(void *ctx, struct slice node_id),
                     void *ctx)
{
    o->lane_of = lane_of;
    o->names = ctx;
}

const struct ownership_fast *ownership_fast(const struct ownership *o)
{
    return &o->fast;
}

void *ownership_grow(void *p, int n, int *cap, size_t size)
{
    if (n < *cap)
        return p;
    *cap = *cap ? 2 * *cap : 4;
    return xrealloc(p, (size_t)*cap * size);
}

void ownership_changed(struct ownership *o)
{
    atomic_fetch_add(&o->changes, 1);
}

uint64_t ownership_changes(const struct ownership *o)
{
    return atomic_load(&o->changes);
}

static struct place *place_find(const struct moving *m, int lane)
{
    for (int i = 0; m && i < m->places_n; i++)
        if (m->places[i].lane == lane)
            return &m->places[i];
    return NULL;
}

static struct place *place_of(struct moving *m, int lane)
{
    struct place *p = place_find(m, lane);
    if (p)
        return p;
    m->places = ownership_grow(m->places, m->places_n, &m->places_cap, sizeof(*m->places));
    p = &m->places[m->places_n++];
    *p = (struct place){.lane = (int16_t)lane};
    return p;
}

uint64_t ownership_progress(const struct ownership *o, int lane, int slot)
{
    if (o->lane[lane].gone)
        return UINT64_MAX;
    const struct place *p = place_find(o->slot[slot], lane);
    uint64_t at = atomic_load(&o->lane[lane].applied);
    return p && p->ahead > at ? p->ahead : at;
}

struct moving *ownership_unsettle(struct ownership *o, int slot)
{
    if (!o->slot[slot]) {
        o->slot[slot] = xcalloc(1, sizeof(*o->slot[slot]));
        atomic_store(&o->fast.settled[slot], OWNERSHIP_NOBODY);
        atomic_fetch_add(&o->unsettled, 1);
        o->slot[slot]->at = atomic_fetch_add(&o->moving_n, 1);
        o->list[o->slot[slot]->at] = (int16_t)slot;
    }
    return o->slot[slot];
}

static void settle_if_quiet(struct ownership *o, int slot)
{
    struct moving *m = o->slot[slot];
    if (!m || m->n || ownership_moves_with(o, slot))
        return;
    for (int i = 0; i < m->places_n; i++)
        if (m->places[i].blocked)
            return;
    int last = o->list[atomic_fetch_sub(&o->moving_n, 1) - 1];
    o->list[m->at] = (int16_t)last;
    o->slot[last]->at = m->at;
    free(m->places);
    free(m->next);
    free(m);
    o->slot[slot] = NULL;
    atomic_store_explicit(&o->fast.settled[slot], o->turn[slot], memory_order_release);
}

void ownership_note_turn(struct ownership *o, int lane, int slot, struct had h)
{
    // Its process notes it.
    if (o->lane[lane].where == LANE_ELSEWHERE)
        return;
    if (!o->lane[lane].had)
        o->lane[lane].had = xcalloc(SLOT_COUNT, sizeof(struct had));
    o->lane[lane].had[slot] = h;
    o->lane[lane].changed = true;
}

static void give_turn(struct ownership *o, int slot, int lane, uint64_t since, uint64_t serial)
{
    struct moving *m = o->slot[slot];
    o->turn[slot] = (int16_t)lane;
    o->since[slot] = since;
    o->turn_serial[slot] = serial;
    o->at_once[slot] = false;
    o->guest[slot] = OWNERSHIP_NOBODY;
    // Whether the new holder has been elsewhere since is to be found out anew.
    for (int i = 0; m && i < m->places_n; i++)
        m->places[i].returned = false;
    ownership_note_turn(o, lane, slot, (struct had){serial, since});
    o->stats.turns++;
    ownership_changed(o);
}

static void drop_first(struct moving *m)
{
    memmove(m->next, m->next + 1, (size_t)--m->n * sizeof(m->next[0]));
}

// The holder stands before a unit of a later tenure of its own, and what it did before is stored.
static bool holder_returned(const struct ownership *o, const struct moving *m, int slot)
{
    const struct place *p = o->turn[slot] < 0 ? NULL : place_find(m, o->turn[slot]);
    return p && p->blocked && p->returned && ownership_progress(o, p->lane, slot) >= p->at;
}

// Its turn may go on to another. Not while its record lets another process go on without knowing,
// nor before the first map: who has had the slot in between may be in a record to come. And not
// when a lane has been lost to another process: then all begin anew.
static bool may_give(const struct ownership *o, int lane)
{
    return o->whole && o->mapped && !o->away && !o->lane[lane].permit;
}

void ownership_advance(struct ownership *o, int slot)
{
    struct moving *m = o->slot[slot];
    // Without a holder: who it was is in a record that has not been restored yet.
    while (m && m->n && o->turn[slot] >= 0 && may_give(o, o->turn[slot])) {
        const struct tenure *t = &m->next[0];
        bool done = t->cut.known && t->since.known &&
                    ownership_progress(o, o->turn[slot], slot) >= t->cut.at;
        if (!done && !holder_returned(o, m, slot))
            break;
        o->stats.bounced += !t->cut.known;
        give_turn(o, slot, t->lane, t->since.known ? t->since.at : UINT64_MAX, t->serial);
        o->at_once[slot] = t->exact;
        drop_first(m);
    }
    settle_if_quiet(o, slot);
}

int ownership_last(const struct ownership *o, int slot)
{
    const struct moving *m = o->slot[slot];
    return m && m->n ? m->next[m->n - 1].lane : o->turn[slot];
}

static struct question *new_question(struct ownership *o, int lane, int slot)
{
    o->questions =
        ownership_grow(o->questions, o->questions_n, &o->questions_cap, sizeof(*o->questions));
    struct question *q = &o->questions[o->questions_n++];
    *q = (struct question){.q = {.id = ++o->serial, .lane = lane, .slot = slot}};
    return q;
}

static void ask_mark(struct ownership *o, struct mark *k, enum asked_for what, int lane, int slot,
                     uint64_t serial)
{
    if (k->known || k->asked)
        return;
    if (o->lane[lane].gone) {
        k->known = true;
        return;
    }
    k->asked = true;
    // A cut counts only once the old owner has no keys of the slot: until then it may delete some.
    struct question *q = new_question(o, lane, what == ASKED_CUT ? slot : -1);
    q->what = what;
    q->slot = slot;
    q->serial = serial;
}

static int lane_before(const struct ownership *o, int slot, int i)
{
    return i ? o->slot[slot]->next[i - 1].lane : o->turn[slot];
}

static void ask_tenure(struct ownership *o, int slot, int i)
{
    struct tenure *t = &o->slot[slot]->next[i];
    if (lane_before(o, slot, i) >= 0)
        ask_mark(o, &t->cut, ASKED_CUT, lane_before(o, slot, i), slot, t->serial);
    ask_mark(o, &t->since, ASKED_SINCE, t->lane, slot, t->serial);
}

struct tenure *ownership_add_tenure(struct moving *m)
{
    if (m->n == OWNERSHIP_TENURES)
        return NULL;
    m->next = ownership_grow(m->next, m->n, &m->cap, sizeof(*m->next));
    m->next[m->n] = (struct tenure){0};
    return &m->next[m->n++];
}

struct tenure *ownership_push(struct ownership *o, int slot, int lane)
{
    struct moving *m = ownership_unsettle(o, slot);
    struct tenure *t = ownership_add_tenure(m);
    if (!t)
        return NULL; // a later map says it again
    t->lane = (int16_t)lane;
    t->serial = ++o->serial;
    ask_tenure(o, slot, m->n - 1);
    o->lane[lane].changed = true;
    ownership_changed(o);
    return t;
}

// Noted as a turn, so that after a restart the map does not decide again.
static void first_owner(struct ownership *o, int slot, int lane)
{
    o->turn[slot] = (int16_t)lane;
    o->turn_serial[slot] = ++o->serial;
    ownership_note_turn(o, lane, slot, (struct had){.serial = o->serial});
    if (!o->slot[slot])
        atomic_store(&o->fast.settled[slot], (int16_t)lane);
    ownership_changed(o);
}

// Nobody has stored who had the slot. If somebody has stored that he got it next, it is his.
static void begin_slot(struct ownership *o, int slot, int owner)
{
    struct moving *m = o->slot[slot];
    if (!m || !m->n) {
        first_owner(o, slot, owner);
        return;
    }
    struct tenure t = m->next[0];
    drop_first(m);
    give_turn(o, slot, t.lane, t.since.known ? t.since.at : 0, t.serial);
    o->at_once[slot] = t.exact;
}

void ownership_map(struct ownership *o, const int16_t *owner)
{
    int strange = 0;
    pthread_mutex_lock(&o->lock);
    o->mapped = true;
    for (int s = 0; s < SLOT_COUNT; s++) {
        bool known = owner[s] >= 0 && owner[s] < o->lanes;
        // Who had it before a lane of ours got it is known where all lanes are.
        if (known && o->turn[s] < 0 && !o->whole && o->lane[owner[s]].where != LANE_ELSEWHERE) {
            strange++;
            continue;
        }
        if (known && o->turn[s] < 0)
            begin_slot(o, s, owner[s]);
        if (known && ownership_last(o, s) != owner[s])
            ownership_push(o, s, owner[s]);
        for (int i = 0; o->slot[s] && i < o->slot[s]->n; i++)
            ask_tenure(o, s, i);
        ownership_advance(o, s);
    }
    atomic_store(&o->strange, strange);
    pthread_mutex_unlock(&o->lock);
}

// The offset that lane m must have applied before u. False: to be asked for.
static bool cut_for(struct ownership *o, const struct ownership_unit *u, int m, uint64_t *cut)
{
    struct pair *p = &o->pairs[u->lane * o->lanes + m];
    if (p->known && p->upto >= u->end) {
        *cut = p->cut;
        return true;
    }
    if (!p->asking) {
        p->asking = true;
        p->asking_upto = u->received > u->end ? u->received : u->end;
        struct question *q = new_question(o, m, -1);
        q->what = ASKED_PAIR;
        q->for_lane = u->lane;
        ownership_changed(o);
    }
    return false;
}

// Lane m has nothing left up to `cut` that must come before u.
static bool is_clear(const struct ownership *o, const struct ownership_unit *u, int m, uint64_t cut)
{
    const struct plea *p = &o->lane[u->lane].plea;
    return ownership_progress(o, m, u->slot) >= cut ||
           (p->on && p->end == u->end && p->clear[m] >= cut);
}

static bool lane_is_past(struct ownership *o, const struct ownership_unit *u, int m)
{
    uint64_t cut;
    return o->lane[m].gone || (cut_for(o, u, m, &cut) && is_clear(o, u, m, cut));
}

// The lane has the slot next, the unit is of that tenure, and only units of other keys come before.
static bool may_go_before(const struct ownership *o, const struct ownership_unit *u)
{
    const struct moving *m = o->slot[u->slot];
    const struct tenure *t = &m->next[0], *after = m->n > 1 ? t + 1 : NULL;
    return t->lane == u->lane && may_give(o, o->turn[u->slot]) && t->cut.known &&
           is_clear(o, u, o->turn[u->slot], t->cut.at) &&
           (!after || (after->cut.known && u->end <= after->cut.at));
}

static enum ownership_verdict wait_here(struct ownership *o, const struct ownership_unit *u,
                                        bool returned)
{
    struct place *p = place_of(ownership_unsettle(o, u->slot), u->lane);
    if (!p->blocked || p->returned != returned)
        ownership_changed(o);
    p->blocked = true;
    p->returned = returned;
    p->at = u->begin;
    ownership_advance(o, u->slot);
    return OWNERSHIP_WAIT;
}

static enum ownership_verdict holders_unit(struct ownership *o, const struct ownership_unit *u)
{
    const struct moving *m = o->slot[u->slot];
    if (m && m->n && m->next[0].cut.known && u->end > m->next[0].cut.at)
        return wait_here(o, u, true);
    if (!u->restore || u->end <= o->since[u->slot])
        return OWNERSHIP_APPLY;
    // The key comes back to its owner, so somebody had it. Who is not known.
    if (m && m->n)
        return wait_here(o, u, true);
    bool past = true;
    for (int i = 0; i < o->lanes; i++)
        if (i != u->lane && !lane_is_past(o, u, i))
            past = false;
    return past ? OWNERSHIP_APPLY : wait_here(o, u, true);
}

static enum ownership_verdict others_unit(struct ownership *o, const struct ownership_unit *u)
{
    const struct moving *m = o->slot[u->slot];
    int holder = o->turn[u->slot];
    if (m && m->n) // else advance gives us the turn
        return may_go_before(o, u) ? OWNERSHIP_APPLY : wait_here(o, u, false);
    if (may_give(o, holder) && holder_returned(o, m, u->slot)) {
        o->stats.bounced++;
        give_turn(o, u->slot, u->lane, u->received, ++o->serial);
        return OWNERSHIP_APPLY;
    }
    if (!lane_is_past(o, u, holder))
        return wait_here(o, u, false);
    o->guest[u->slot] = (int16_t)u->lane;
    return OWNERSHIP_APPLY;
}

static enum ownership_verdict decide(struct ownership *o, const struct ownership_unit *given)
{
    struct ownership_unit u = *given;
    const struct move *v = ownership_move_at(o, u.lane, u.slot, u.end);
    if (v && v->replayed)
        return OWNERSHIP_DROP;
    if (v && v->open)
        return OWNERSHIP_LOOK;
    if (v && v->failed)
        return OWNERSHIP_DROP;
    if (v)
        u.restore = true;
    if (o->turn[u.slot] < 0)
        return wait_here(o, &u, false);
    return o->turn[u.slot] == u.lane ? holders_unit(o, &u) : others_unit(o, &u);
}

static void unblock(struct ownership *o, int slot, int lane)
{
    struct place *p = place_find(o->slot[slot], lane);
    if (!p || !p->blocked)
        return;
    p->blocked = p->returned = false;
    ownership_changed(o);
    ownership_advance(o, slot);
}

static void plead(struct ownership *o, const struct ownership_unit *u)
{
    struct plea *p = &o->lane[u->lane].plea;
    if (p->on && p->end == u->end)
        return;
    p->on = u->keys_n > 0;
    p->end = u->end;
    p->n = u->keys_n;
    for (int i = 0; i < u->keys_n; i++)
        p->keys[i] = u->keys[i];
    memset(p->clear, 0, (size_t)o->lanes * sizeof(*p->clear));
    ownership_changed(o);
}

enum ownership_verdict ownership_unit(struct ownership *o, const struct ownership_unit *u)
{
    pthread_mutex_lock(&o->lock);
    ownership_advance(o, u->slot);
    enum ownership_verdict v = decide(o, u);
    // Waiting may itself have given us the turn.
    if (v == OWNERSHIP_WAIT && o->slot[u->slot])
        v = decide(o, u);
    o->stats.dropped += v == OWNERSHIP_DROP;
    if (v == OWNERSHIP_WAIT)
        plead(o, u);
    if (v == OWNERSHIP_APPLY || v == OWNERSHIP_DROP)
        unblock(o, u->slot, u->lane);
    pthread_mutex_unlock(&o->lock);
    return v;
}

// ---- clearing ----

static bool gets_turn(const struct moving *m, int lane)
{
    for (int i = 0; m && i < m->n; i++)
        if (m->next[i].lane == lane)
            return true;
    return false;
}

// What a slot has when its last owner has applied everything is what the lane has put there, so
// one that takes over waits for that. One that gives the slot away shares it until it has gone.
static enum ownership_clear clear_slot(struct ownership *o, const struct ownership_unit *u,
                                       bool *own)
{
    const struct moving *m = o->slot[u->slot];
    bool holds = o->turn[u->slot] == u->lane;
    bool left = holds && m && m->n && m->next[0].cut.known && u->end > m->next[0].cut.at;
    int guest = o->guest[u->slot];
    *own = false;
    if (((!holds || left) && gets_turn(m, u->lane)) || (!holds && guest == u->lane)) {
        (void)wait_here(o, u, left);
        return OWNERSHIP_CLEAR_WAIT;
    }
    if (!holds || left || (o->at_once[u->slot] && u->end <= o->since[u->slot]))
        return OWNERSHIP_CLEAR;
    *own = true;
    return guest == OWNERSHIP_NOBODY ? OWNERSHIP_CLEAR : OWNERSHIP_CLEAR_MIXED;
}

enum ownership_clear ownership_clear(struct ownership *o, struct ownership_unit *u,
                                     uint8_t own[SLOT_SET_BYTES])
{
    enum ownership_clear v = OWNERSHIP_CLEAR;
    memset(own, 0, SLOT_SET_BYTES);
    pthread_mutex_lock(&o->lock);
    for (u->slot = 0; u->slot < SLOT_COUNT; u->slot++) {
        bool is_own;
        ownership_advance(o, u->slot);
        v = clear_slot(o, u, &is_own);
        if (v == OWNERSHIP_CLEAR_WAIT && o->turn[u->slot] == u->lane)
            v = clear_slot(o, u, &is_own); // waiting has itself given us the turn
        if (v != OWNERSHIP_CLEAR)
            break;
        unblock(o, u->slot, u->lane);
        if (is_own)
            slot_set_add(own, u->slot);
    }
    pthread_mutex_unlock(&o->lock);
    return v;
}

void ownership_applied(struct ownership *o, int lane, uint64_t position)
{
    // Sequentially consistent on purpose: either we see that a slot moves, or who makes it move
    // sees the position.
    atomic_store(&o->lane[lane].applied, position);
    if (!atomic_load(&o->moving_n) && !atomic_load(&o->moves_open))
        return;
    pthread_mutex_lock(&o->lock);
    ownership_forget_moves(o, lane);
    for (int i = atomic_load(&o->moving_n); i-- > 0;)
        ownership_advance(o, o->list[i]);
    ownership_changed(o);
    pthread_mutex_unlock(&o->lock);
}

static bool clear_slots(struct ownership *o, int lane, const struct ownership_ahead *a)
{
    bool grew = false;
    for (int i = atomic_load(&o->moving_n); i-- > 0;) {
        int slot = o->list[i];
        struct place *p = place_of(o->slot[slot], lane);
        uint64_t ahead = a->first[slot] < a->upto ? a->first[slot] : a->upto;
        if (ahead <= p->ahead)
            continue;
        p->ahead = ahead;
        grew = true;
        ownership_advance(o, slot);
    }
    return grew;
}

static bool clear_keys(struct ownership *o, int lane, const struct ownership_ahead *a)
{
    bool grew = false;
    for (int l = 0; l < o->lanes; l++) {
        struct plea *p = &o->lane[l].plea;
        uint64_t ahead = a->upto;
        if (l == lane || !p->on || p->clear[lane] >= a->upto)
            continue;
        for (int i = 0; i < p->n; i++) {
            uint64_t first = a->first_of(a->ctx, p->keys[i]);
            ahead = first < ahead ? first : ahead;
        }
        grew |= ahead > p->clear[lane];
        p->clear[lane] = ahead > p->clear[lane] ? ahead : p->clear[lane];
    }
    return grew;
}

void ownership_ahead(struct ownership *o, int lane, const struct ownership_ahead *a)
{
    pthread_mutex_lock(&o->lock);
    bool slots = clear_slots(o, lane, a);
    bool keys = a->unsettled == atomic_load(&o->unsettled) && clear_keys(o, lane, a);
    if (slots || keys)
        ownership_changed(o);
    pthread_mutex_unlock(&o->lock);
}

bool ownership_question(struct ownership *o, struct ownership_question *out)
{
    bool any = false;
    pthread_mutex_lock(&o->lock);
    for (int i = 0; i < o->questions_n && !any; i++)
        if (!o->questions[i].sent) {
            o->questions[i].sent = any = true;
            *out = o->questions[i].q;
        }
    pthread_mutex_unlock(&o->lock);
    return any;
}

static bool take_question(struct ownership *o, uint64_t id, struct question *out)
{
    for (int i = 0; i < o->questions_n; i++)
        if (o->questions[i].q.id == id) {
            *out = o->questions[i];
            memmove(&o->questions[i], &o->questions[i + 1],
                    (size_t)(--o->questions_n - i) * sizeof(o->questions[0]));
            return true;
        }
    return false;
}

static void drop_questions(struct ownership *o, int lane)
{
    int kept = 0;
    for (int i = 0; i < o->questions_n; i++)
        if (o->questions[i].q.lane != lane)
            o->questions[kept++] = o->questions[i];
    o->questions_n = kept;
    for (int i = 0; i < o->lanes; i++)
        o->pairs[i * o->lanes + lane].asking = false;
}

static void answer_tenure(struct ownership *o, const struct question *q, uint64_t offset,
                          bool empty)
{
    struct moving *m = o->slot[q->slot];
    for (int i = 0; m && i < m->n; i++) {
        struct mark *k = q->what == ASKED_CUT ? &m->next[i].cut : &m->next[i].since;
        if (m->next[i].serial != q->serial)
            continue;
        k->asked = false; // if it does not count, the next map asks again
        if (!k->known && (empty || q->what == ASKED_SINCE))
            *k = (struct mark){.known = true, .at = offset};
        o->lane[m->next[i].lane].changed = true;
    }
    ownership_advance(o, q->slot);
}

static void answer_pair(struct ownership *o, const struct question *q, uint64_t offset)
{
    struct pair *p = &o->pairs[q->for_lane * o->lanes + q->q.lane];
    p->asking = false;
    p->known = true;
    p->upto = p->asking_upto;
    p->cut = offset;
}

void ownership_answer(struct ownership *o, uint64_t id, uint64_t offset, bool empty)
{
    struct question q;
    pthread_mutex_lock(&o->lock);
    if (take_question(o, id, &q)) {
        if (q.what == ASKED_PAIR)
            answer_pair(o, &q, offset);
        else
            answer_tenure(o, &q, offset, empty);
        ownership_changed(o);
    }
    pthread_mutex_unlock(&o->lock);
}

void ownership_no_answer(struct ownership *o, uint64_t id)
{
    struct question q;
    pthread_mutex_lock(&o->lock);
    // Last in turn from now on: a shard that cannot be asked does not hold up the others.
    if (take_question(o, id, &q)) {
        q.sent = false;
        o->questions[o->questions_n++] = q;
    }
    pthread_mutex_unlock(&o->lock);
}

// An answer that comes all the same is of an older history.
static void forget_asked(struct ownership *o, int slot, struct tenure *t)
{
    int kept = 0;
    for (int i = 0; i < o->questions_n; i++) {
        const struct question *q = &o->questions[i];
        if (q->what == ASKED_PAIR || q->slot != slot || q->serial != t->serial)
            o->questions[kept++] = *q;
    }
    o->questions_n = kept;
    t->cut.asked = t->since.asked = false;
}

static void reset_marks(struct ownership *o, int slot, int lane)
{
    struct moving *m = o->slot[slot];
    if (o->turn[slot] == lane)
        o->since[slot] = 0;
    if (o->turn[slot] == lane || o->guest[slot] == lane)
        o->guest[slot] = OWNERSHIP_NOBODY;
    for (int i = 0; m && i < m->n; i++) {
        struct tenure *t = &m->next[i];
        if (lane_before(o, slot, i) == lane)
            t->cut = (struct mark){0};
        else if (t->lane == lane)
            t->since = (struct mark){0};
        else
            continue;
        forget_asked(o, slot, t);
        ask_tenure(o, slot, i);
    }
}

static void reset_place(struct ownership *o, int slot, int lane)
{
    struct place *p = place_find(o->slot[slot], lane);
    if (!p)
        return;
    p->blocked = p->returned = false;
    p->ahead = 0;
}

void ownership_reset(struct ownership *o, int lane, uint64_t position, bool other_history)
{
    atomic_store(&o->lane[lane].applied, position);
    for (int i = 0; i < o->lanes; i++) {
        o->pairs[lane * o->lanes + i].known = o->pairs[i * o->lanes + lane].known = false;
        o->pairs[lane * o->lanes + i].asking_upto = o->pairs[i * o->lanes + lane].asking_upto = 0;
        o->lane[i].plea.clear[lane] = 0;
    }
    o->lane[lane].plea.on = false;
    for (int i = 0; i < o->moves_n; i++)
        if (o->moves[i].lane == lane) {
            o->moves[i].open = false;
            o->moves[i].end = 0;
        }
    ownership_forget_moves(o, lane);
    for (int s = 0; s < SLOT_COUNT; s++) {
        reset_place(o, s, lane);
        if (other_history)
            reset_marks(o, s, lane);
        ownership_advance(o, s);
    }
    ownership_changed(o);
}

void ownership_lane_reset(struct ownership *o, int lane, uint64_t position)
{
    pthread_mutex_lock(&o->lock);
    ownership_reset(o, lane, position, true);
    pthread_mutex_unlock(&o->lock);
}

void ownership_lane_gone(struct ownership *o, int lane)
{
    pthread_mutex_lock(&o->lock);
    o->lane[lane].gone = true;
    ownership_set_where(o, lane, LANE_HERE);
    drop_questions(o, lane);
    for (int s = 0; s < SLOT_COUNT; s++) {
        for (int i = 0; o->slot[s] && i < o->slot[s]->n; i++) {
            struct tenure *t = &o->slot[s]->next[i];
            t->cut.known |= lane_before(o, s, i) == lane;
            t->since.known |= t->lane == lane;
        }
        ownership_advance(o, s);
    }
    ownership_changed(o);
    pthread_mutex_unlock(&o->lock);
}

bool ownership_quiet(const struct ownership *o)
{
    return !atomic_load(&o->moving_n) && !atomic_load(&o->moves_open) && !atomic_load(&o->strange);
}

uint64_t ownership_unsettled(const struct ownership *o)
{
    return atomic_load(&o->unsettled);
}

bool ownership_may_load(struct ownership *o, int lane)
{
    pthread_mutex_lock(&o->lock);
    bool may = o->whole || (o->mapped && !atomic_load(&o->strange));
    for (int k = atomic_load(&o->moving_n); k-- > 0 && may;) {
        const struct moving *m = o->slot[o->list[k]];
        for (int i = 0; i < m->n; i++)
            may = may && m->next[i].lane != lane;
    }
    pthread_mutex_unlock(&o->lock);
    return may;
}

int ownership_waiting(struct ownership *o, int lane, int *for_lane)
{
    int n = 0;
    *for_lane = OWNERSHIP_NOBODY;
    pthread_mutex_lock(&o->lock);
    for (int s = 0; s < SLOT_COUNT; s++) {
        const struct place *p = place_find(o->slot[s], lane);
        if (!p || !p->blocked)
            continue;
        if (!n++)
            *for_lane = o->turn[s] != lane ? o->turn[s]
                        : o->slot[s]->n    ? o->slot[s]->next[0].lane
                                           : OWNERSHIP_NOBODY;
    }
    pthread_mutex_unlock(&o->lock);
    return n;
}

void ownership_get_stats(struct ownership *o, struct ownership_stats *out)
{
    pthread_mutex_lock(&o->lock);
    *out = o->stats;
    out->moving = atomic_load(&o->moving_n);
    pthread_mutex_unlock(&o->lock);
}

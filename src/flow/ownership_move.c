// SPDX-License-Identifier: Apache-2.0
// Atomic moves: what the streams say of them, and what has to survive a crash.
#include <stdlib.h>
#include <string.h>

#include "flow/ownership_impl.h"

struct move *ownership_move_at(struct ownership *o, int lane, int slot, uint64_t end)
{
    for (int i = 0; i < o->moves_n; i++) {
        struct move *v = &o->moves[i];
        if (v->lane == lane && end > v->begin && (v->open || end <= v->end) &&
            slot_set_has(v->slots, slot))
            return v;
    }
    return NULL;
}

bool ownership_moves_with(const struct ownership *o, int slot)
{
    for (int i = 0; i < o->moves_n; i++)
        if (slot_set_has(o->moves[i].slots, slot))
            return true;
    return false;
}

static bool is_past(const struct ownership *o, const struct move *v)
{
    if (v->open || atomic_load(&o->lane[v->lane].applied) < v->end)
        return false;
    for (int s = 0; s < SLOT_COUNT; s++)
        if (slot_set_has(v->slots, s) && ownership_progress(o, v->lane, s) < v->end)
            return false;
    return true;
}

void ownership_forget_moves(struct ownership *o, int lane)
{
    for (int i = o->moves_n; i-- > 0;) {
        struct move v = o->moves[i];
        if (v.lane != lane || !is_past(o, &v))
            continue;
        o->moves[i] = o->moves[--o->moves_n];
        atomic_fetch_sub(&o->moves_open, 1);
        o->lane[lane].changed = true;
        for (int s = 0; s < SLOT_COUNT; s++)
            if (slot_set_has(v.slots, s))
                ownership_advance(o, s);
    }
}

static bool parse_ranges(struct slice s, struct ownership_move *m)
{
    // "0-5460 7000-7000"
    while (s.n) {
        int v[2] = {0, 0}, k = 0;
        for (; s.n && *s.p != ' '; s.p++, s.n--) {
            if (*s.p == '-' && k == 0)
                k = 1;
            else if (*s.p >= '0' && *s.p <= '9' && v[k] < SLOT_COUNT)
                v[k] = 10 * v[k] + (*s.p - '0');
            else
                return false;
        }
        if (!k || v[0] > v[1] || v[1] >= SLOT_COUNT || m->ranges_n == 64)
            return false;
        m->ranges[m->ranges_n++] = (struct ownership_range){v[0], v[1]};
        if (s.n)
            s.p++, s.n--;
    }
    return m->ranges_n > 0;
}

static struct slice until(struct slice *s, char c)
{
    struct slice part = {s->p, 0};
    while (part.n < s->n && s->p[part.n] != c)
        part.n++;
    size_t skip = part.n < s->n ? part.n + 1 : part.n;
    s->p += skip;
    s->n -= skip;
    return part;
}

// <id>:<source>:<dest>:<import|migrate>:<state>:<ranges>
static bool parse_task(struct slice s, struct ownership_move *m, bool *is_move)
{
    m->id = until(&s, ':');
    m->source = until(&s, ':');
    m->dest = until(&s, ':');
    bool import = slice_eq(until(&s, ':'), SLICE("import"));
    struct slice state = until(&s, ':');
    bool done = slice_eq(state, SLICE("completed"));
    bool failed = slice_eq(state, SLICE("failed")) || slice_eq(state, SLICE("canceled"));
    *is_move = import || done;
    m->phase = !import  ? OWNERSHIP_EXPORT_DONE
               : done   ? OWNERSHIP_IMPORT_DONE
               : failed ? OWNERSHIP_IMPORT_FAILED
                        : OWNERSHIP_IMPORT_REPLAYED;
    return m->id.n && parse_ranges(s, m);
}

static struct slice named(int argc, const struct slice *argv, struct slice name)
{
    for (int i = 3; i + 1 < argc; i++)
        if (slice_ieq(argv[i], name))
            return argv[i + 1];
    return (struct slice){0};
}

static bool parse_establish(int argc, const struct slice *argv, struct ownership_move *m)
{
    m->phase = OWNERSHIP_IMPORT_MOVED;
    m->id = named(argc, argv, SLICE("name"));
    m->source = named(argc, argv, SLICE("source"));
    int i = 3;
    while (i < argc && !slice_ieq(argv[i], SLICE("slotsrange")))
        i++;
    for (i++; i + 1 < argc; i += 2) {
        int64_t a, b;
        if (!slice_i64(argv[i], &a) || !slice_i64(argv[i + 1], &b) || a < 0 || a > b ||
            b >= SLOT_COUNT || m->ranges_n == 64)
            return false;
        m->ranges[m->ranges_n++] = (struct ownership_range){(int)a, (int)b};
    }
    return m->id.n && m->ranges_n;
}

int ownership_parse_move(int argc, const struct slice *argv, struct ownership_move *m,
                         bool *is_move, struct err *e)
{
    bool ok = true;
    *m = (struct ownership_move){0};
    *is_move = false;
    if (argc < 4 || !slice_ieq(argv[0], SLICE("cluster")) ||
        !slice_ieq(argv[1], SLICE("syncslots")))
        return 0;
    if (slice_ieq(argv[2], SLICE("conf")) && argc >= 5 && slice_ieq(argv[3], SLICE("asm-task"))) {
        ok = parse_task(argv[4], m, is_move);
    } else if (slice_ieq(argv[2], SLICE("establish"))) {
        *is_move = true;
        ok = parse_establish(argc, argv, m);
    } else if (slice_ieq(argv[2], SLICE("finish"))) {
        *is_move = true;
        m->id = named(argc, argv, SLICE("name"));
        m->phase = slice_ieq(named(argc, argv, SLICE("state")), SLICE("success"))
                       ? OWNERSHIP_IMPORT_DONE
                       : OWNERSHIP_IMPORT_FAILED;
        ok = m->id.n > 0;
    }
    return ok ? 0 : err_set(e, ERR_PROTOCOL, "a slot migration in the stream cannot be read");
}

static struct move *find_move(struct ownership *o, int lane, struct slice id, bool open)
{
    for (int i = 0; i < o->moves_n; i++)
        if (o->moves[i].lane == lane && o->moves[i].open == open &&
            slice_eq(slice_cstr(o->moves[i].id), id))
            return &o->moves[i];
    return NULL;
}

static struct move *add_move(struct ownership *o, int lane, struct slice id)
{
    if (o->moves_n == OWNERSHIP_MOVES || id.n >= sizeof(o->moves->id))
        return NULL;
    o->moves = ownership_grow(o->moves, o->moves_n, &o->moves_cap, sizeof(*o->moves));
    struct move *v = &o->moves[o->moves_n++];
    *v = (struct move){.lane = lane, .open = true};
    memcpy(v->id, id.p, id.n);
    atomic_fetch_add(&o->moves_open, 1);
    o->lane[lane].changed = true;
    return v;
}

static void add_range(struct ownership *o, struct move *v, struct ownership_range r)
{
    for (int s = r.first; s <= r.last; s++) {
        slot_set_add(v->slots, s);
        ownership_unsettle(o, s);
    }
}

// Of a record it must not end a part.
static void note_source(struct move *v, struct slice node)
{
    if (node.n == OWNERSHIP_NODE_ID && !memchr(node.p, ':', node.n) && !memchr(node.p, ';', node.n))
        memcpy(v->from, node.p, node.n);
}

static int begin_import(struct ownership *o, int lane, const struct ownership_move *m, uint64_t end,
                        int peer, struct err *e)
{
    // A task that is told of twice (its next state), or read again after a crash.
    if (find_move(o, lane, m->id, true) || find_move(o, lane, m->id, false))
        return 0;
    struct move *v = add_move(o, lane, m->id);
    if (!v)
        return err_set(e, ERR_TOO_BIG, "too many slot migrations at once");
    v->replayed = m->phase == OWNERSHIP_IMPORT_REPLAYED;
    v->begin = end;
    v->peer = peer;
    note_source(v, m->source);
    for (int i = 0; i < m->ranges_n; i++)
        add_range(o, v, m->ranges[i]);
    return 0;
}

// A map or the old owner may have told of it before.
static bool knows_tenure(const struct ownership *o, int slot, int lane, uint64_t end)
{
    const struct moving *m = o->slot[slot];
    for (int i = 0; m && i < m->n; i++)
        if (m->next[i].lane == lane && (!m->next[i].since.known || m->next[i].since.at >= end))
            return true;
    return o->lane[lane].had && o->lane[lane].had[slot].since >= end;
}

// The lane already has the turn: what was between is learned only now.
static void push_between(struct ownership *o, const struct move *v, int slot)
{
    struct tenure *t = v->peer >= 0 && v->peer != v->lane ? ownership_push(o, slot, v->peer) : NULL;
    if (t)
        t->cut = (struct mark){.known = true, .at = v->begin}; // at the latest
}

static void end_import(struct ownership *o, int lane, const struct ownership_move *m, uint64_t end)
{
    struct move *v = find_move(o, lane, m->id, true);
    if (!v)
        return;
    v->open = false;
    v->end = end;
    v->failed = m->phase == OWNERSHIP_IMPORT_FAILED;
    o->lane[lane].changed = true;
    for (int s = 0; s < SLOT_COUNT && !v->failed; s++) {
        if (!slot_set_has(v->slots, s) || knows_tenure(o, s, lane, end))
            continue;
        if (ownership_last(o, s) == lane)
            push_between(o, v, s);
        struct tenure *t = ownership_last(o, s) != lane ? ownership_push(o, s, lane) : NULL;
        if (t)
            t->since = (struct mark){.known = true, .at = end};
    }
}

// The tenure that begins where `lane` ends at `end`.
static struct tenure *tenure_after(struct ownership *o, int slot, int lane, uint64_t end)
{
    struct moving *m = o->slot[slot];
    for (int i = 0; m && i < m->n; i++) {
        struct tenure *t = &m->next[i];
        int before = i ? m->next[i - 1].lane : o->turn[slot];
        uint64_t began = i ? m->next[i - 1].since.at : o->since[slot];
        if (before == lane && began < end && !t->exact && (!t->cut.known || t->cut.at >= end))
            return t;
    }
    return NULL;
}

static void end_export(struct ownership *o, int lane, int peer, struct ownership_range r,
                       uint64_t end)
{
    for (int s = r.first; s <= r.last; s++) {
        struct tenure *t = tenure_after(o, s, lane, end);
        bool is_new = ownership_last(o, s) == lane && !knows_tenure(o, s, lane, end);
        if (!t && peer >= 0 && is_new)
            t = ownership_push(o, s, peer);
        if (t) {
            o->lane[t->lane].changed = true;
            t->exact = true;
            t->cut = (struct mark){.known = true, .at = end};
        }
    }
}

int ownership_move(struct ownership *o, int lane, const struct ownership_move *m, uint64_t end,
                   int peer, struct err *e)
{
    int rc = 0;
    pthread_mutex_lock(&o->lock);
    switch (m->phase) {
    case OWNERSHIP_IMPORT_REPLAYED:
    case OWNERSHIP_IMPORT_MOVED:
        rc = begin_import(o, lane, m, end, peer, e);
        break;
    case OWNERSHIP_IMPORT_DONE:
    case OWNERSHIP_IMPORT_FAILED:
        end_import(o, lane, m, end);
        break;
    case OWNERSHIP_EXPORT_DONE:
        for (int i = 0; i < m->ranges_n; i++)
            end_export(o, lane, peer, m->ranges[i], end);
        break;
    }
    ownership_changed(o);
    pthread_mutex_unlock(&o->lock);
    return rc;
}

bool ownership_replays(struct ownership *o, int lane, uint64_t end)
{
    bool found = false;
    pthread_mutex_lock(&o->lock);
    for (int i = 0; i < o->moves_n && !found; i++) {
        const struct move *v = &o->moves[i];
        found = v->lane == lane && v->replayed && end > v->begin && (v->open || end <= v->end);
    }
    pthread_mutex_unlock(&o->lock);
    return found;
}

static void put_slots(const struct move *v, struct buf *out)
{
    for (int s = 0; s < SLOT_COUNT; s++) {
        if (!slot_set_has(v->slots, s))
            continue;
        int last = s;
        while (last + 1 < SLOT_COUNT && slot_set_has(v->slots, last + 1))
            last++;
        buf_printf(out, ",%d-%d", s, last);
        s = last;
    }
}

static void put_tenures(const struct ownership *o, int lane, struct buf *out)
{
    for (int k = 0; k < atomic_load(&o->moving_n); k++) {
        const struct moving *m = o->slot[o->list[k]];
        for (int i = 0; i < m->n; i++) {
            const struct tenure *t = &m->next[i];
            if (t->lane == lane)
                buf_printf(out, "n%d:%d:%llu:%llu:%llu;", o->list[k],
                           t->cut.known | t->since.known << 1 | t->exact << 2,
                           (unsigned long long)t->serial, (unsigned long long)t->cut.at,
                           (unsigned long long)t->since.at);
        }
    }
}

static void put_turns(const struct had *had, struct buf *out)
{
    for (int s = 0; had && s < SLOT_COUNT; s++) {
        int first = s;
        if (!had[s].serial)
            continue;
        while (s + 1 < SLOT_COUNT && had[s + 1].since == had[s].since &&
               had[s + 1].serial == had[s].serial + 1)
            s++;
        buf_printf(out, "t%d-%d:%llu:%llu;", first, s, (unsigned long long)had[first].serial,
                   (unsigned long long)had[s].since);
    }
}

static void put_lane(struct ownership *o, int lane, struct buf *out)
{
    struct lane_state *l = &o->lane[lane];
    size_t before = out->n;
    l->changed = false;
    l->put_alone = l->alone;
    l->permit = l->permit || l->alone;
    if (l->alone)
        buf_append_cstr(out, "a;");
    put_turns(l->had, out);
    put_tenures(o, lane, out);
    l->unstored = out->n > before;
}

// a: it may be alone, first. turn: t<first>-<last>:<serial of first>:<since>; who comes next:
// n<slot>:<flags>:<serial>:<cut>:<since>; a move: m<flags>:<source node>:<begin>:<end>:<id>,ranges
bool ownership_put(struct ownership *o, int lane, struct buf *out)
{
    pthread_mutex_lock(&o->lock);
    bool changed = o->lane[lane].changed;
    if (changed)
        put_lane(o, lane, out);
    for (int i = 0; changed && i < o->moves_n; i++) {
        const struct move *v = &o->moves[i];
        if (v->lane != lane)
            continue;
        buf_printf(out, "m%d:%s:%llu:%llu:%s", v->replayed | v->open << 1 | v->failed << 2, v->from,
                   (unsigned long long)v->begin, (unsigned long long)v->end, v->id);
        put_slots(v, out);
        buf_append_char(out, ';');
    }
    pthread_mutex_unlock(&o->lock);
    return changed;
}

static bool take_u64(struct slice *s, char end, uint64_t *v)
{
    return slice_u64(until(s, end), v);
}

static void forget_passed(struct ownership *o, int slot)
{
    struct moving *m = o->slot[slot];
    int kept = 0;
    for (int i = 0; m && i < m->n; i++)
        if (m->next[i].serial > o->turn_serial[slot])
            m->next[kept++] = m->next[i];
    if (m)
        m->n = kept;
}

static bool restore_turn(struct ownership *o, int lane, struct slice s)
{
    uint64_t first, last, serial, since;
    if (!take_u64(&s, '-', &first) || !take_u64(&s, ':', &last) || !take_u64(&s, ':', &serial) ||
        !take_u64(&s, ':', &since) || first > last || last >= SLOT_COUNT)
        return false;
    for (uint64_t i = first; i <= last; i++, serial++) {
        if (serial > o->serial)
            o->serial = serial;
        ownership_note_turn(o, lane, (int)i, (struct had){serial, since});
        if (serial < o->turn_serial[i])
            continue; // another lane had it later
        o->turn_serial[i] = serial;
        o->turn[i] = (int16_t)lane;
        o->since[i] = since;
        o->at_once[i] = true; // how it got the slot is not stored
        forget_passed(o, (int)i);
        if (!o->slot[i])
            atomic_store(&o->fast.settled[i], (int16_t)lane);
    }
    return true;
}

static bool restore_tenure(struct ownership *o, int lane, struct slice s)
{
    uint64_t slot, flags, serial, cut, since;
    if (!take_u64(&s, ':', &slot) || !take_u64(&s, ':', &flags) || !take_u64(&s, ':', &serial) ||
        !take_u64(&s, ':', &cut) || !take_u64(&s, ':', &since) || slot >= SLOT_COUNT)
        return false;
    if (serial > o->serial)
        o->serial = serial;
    struct moving *m = ownership_unsettle(o, (int)slot);
    if (serial <= o->turn_serial[slot])
        return true;
    if (!ownership_add_tenure(m))
        return false;
    int i = m->n - 1;
    for (; i > 0 && m->next[i - 1].serial > serial; i--)
        m->next[i] = m->next[i - 1];
    m->next[i] = (struct tenure){.lane = (int16_t)lane,
                                 .exact = flags & 4,
                                 .serial = serial,
                                 // Whom the cut is of is known to the process alone that had it.
                                 .cut = {.known = flags & 1 && !o->lane[lane].permit, .at = cut},
                                 .since = {.known = flags & 2, .at = since}};
    return true;
}

static bool restore_move(struct ownership *o, int lane, struct slice s)
{
    uint64_t flags, begin, end, first, last;
    bool ok = take_u64(&s, ':', &flags);
    struct slice from = until(&s, ':');
    if (!ok || !take_u64(&s, ':', &begin) || !take_u64(&s, ':', &end))
        return false;
    struct move *v = add_move(o, lane, until(&s, ','));
    if (!v)
        return false;
    v->peer = from.n && o->lane_of ? o->lane_of(o->names, from) : OWNERSHIP_NOBODY;
    note_source(v, from);
    v->replayed = flags & 1;
    v->open = flags & 2;
    v->failed = flags & 4;
    v->begin = begin;
    v->end = end;
    while (s.n) {
        struct slice r = until(&s, ',');
        if (!take_u64(&r, '-', &first) || !take_u64(&r, ' ', &last) || first > last ||
            last >= SLOT_COUNT)
            return false;
        add_range(o, v, (struct ownership_range){(int)first, (int)last});
    }
    return true;
}

static bool restore_permit(struct ownership *o, int lane)
{
    o->lane[lane].permit = true;
    o->lane[lane].alone = !o->whole;
    return true;
}

// What was moving when it was stored is for a process that has all lanes.
static bool goes_alone(struct slice record)
{
    bool permit = false, moves = false;
    while (record.n) {
        struct slice part = until(&record, ';');
        permit = permit || (part.n && *part.p == 'a');
        moves = moves || (part.n && *part.p != 'a' && *part.p != 't');
    }
    return permit && !moves;
}

int ownership_restore(struct ownership *o, int lane, struct slice record, struct err *e)
{
    bool ok = true;
    pthread_mutex_lock(&o->lock);
    bool taken = o->lane[lane].where != LANE_LATE && (o->whole || goes_alone(record));
    o->passed_over |= !taken;
    while (taken && ok && record.n) {
        struct slice part = until(&record, ';');
        struct slice body = part.n ? slice_make(part.p + 1, part.n - 1) : part;
        ok = part.n && (*part.p == 'a'   ? restore_permit(o, lane)
                        : *part.p == 't' ? restore_turn(o, lane, body)
                        : *part.p == 'm' ? restore_move(o, lane, body)
                        : *part.p == 'n' ? restore_tenure(o, lane, body)
                                         : false);
    }
    o->lane[lane].changed |= taken;
    pthread_mutex_unlock(&o->lock);
    return ok ? 0 : err_set(e, ERR_CORRUPT, "the record of slot migrations is damaged");
}

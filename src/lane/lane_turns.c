// SPDX-License-Identifier: Apache-2.0
// Slots that move between the shards of a source cluster: what the lane tells the arbiter, what it
// stores for it, and how long it waits.
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "codec/slot.h"
#include "lane/lane_int.h"

enum { LOOK_MS = 5 }; // while it waits: whether anything has changed

static struct ownership *arbiter(const struct lane *l)
{
    return l->o.turns.ownership;
}

bool lane_turns_wait(const struct lane *l)
{
    int slot;
    return arbiter(l) && ((l->apply && turn_waits(l->turn, &slot)) || !lane_turns_open(l) ||
                          (!l->apply && !l->load && !lane_turns_may_load(l)));
}

static void on_turn_timer(uv_timer_t *handle)
{
    struct lane *l = handle->data;
    uint64_t changes = ownership_changes(arbiter(l));
    if (changes == l->turns_seen)
        return;
    l->turns_seen = changes;
    lane_pump(l);
}

void lane_turns_start(struct lane *l)
{
    const struct lane_turns *t = &l->o.turns;
    if (!t->ownership)
        return;
    l->turn = turn_new(&(struct turn_options){.ownership = t->ownership,
                                              .lane = t->lane,
                                              .lane_of = t->lane_of,
                                              .sign = t->sign,
                                              .ctx = t->ctx});
}

void lane_turns_free(struct lane *l)
{
    uv_timer_stop(&l->turn_timer);
    turn_free(l->turn);
    l->turn = NULL;
    buf_free(&l->turns);
}

bool lane_turns_open(const struct lane *l)
{
    return !arbiter(l) || l->o.turns.open(l->o.turns.ctx, l->o.turns.lane);
}

bool lane_turns_may_load(const struct lane *l)
{
    return !arbiter(l) || ownership_may_load(arbiter(l), l->o.turns.lane);
}

bool lane_turns_has(const struct lane *l, struct slice key)
{
    return !arbiter(l) ||
           ownership_settled(ownership_fast(arbiter(l)), l->o.turns.lane, slot_of(key));
}

void lane_turns_target(struct lane *l, struct slice record)
{
    if (!arbiter(l))
        return;
    struct err e;
    const struct position *p = &l->position;
    if (record.n && ownership_restore(arbiter(l), l->o.turns.lane, record, &e))
        log_warn(l->o.tag, "%s; slots that were moving may be applied out of order", e.msg);
    bool applied = l->position_found && !p->loading && !p->foreign && !l->snapshot_fresh;
    uint64_t at = applied ? (uint64_t)p->offset : 0;
    turn_stored(l->turn, at);
    ownership_applied(arbiter(l), l->o.turns.lane, at);
    l->turns_id[0] = 0; // what was written last may be lost
    if (l->turns_unstored)
        ownership_put_lost(arbiter(l), l->o.turns.lane);
    l->turns_unstored = false;
    l->positions_put = l->positions_stored = 0;
    if (!l->turns_joined)
        l->o.turns.joined(l->o.turns.ctx, l->o.turns.lane);
    l->turns_joined = true;
}

void lane_turns_forget(struct lane *l)
{
    if (!arbiter(l))
        return;
    turn_stored(l->turn, 0);
    ownership_lane_reset(arbiter(l), l->o.turns.lane, 0);
    l->turns_id[0] = 0;
}

void lane_turns_stored(struct lane *l, uint64_t offset, bool loading)
{
    if (!arbiter(l))
        return;
    // Into a cluster one is under way at a time, and may have been written more than once.
    l->positions_stored = l->router ? l->positions_put : l->positions_stored + 1;
    if (l->turns_unstored && l->positions_stored >= l->turns_put) {
        l->turns_unstored = false;
        ownership_stored(arbiter(l), l->o.turns.lane);
    }
    if (loading)
        return;
    turn_stored(l->turn, offset);
    ownership_applied(arbiter(l), l->o.turns.lane, offset);
}

int lane_turns_put(struct lane *l, struct buf *out)
{
    struct buf record = {0};
    if (!arbiter(l))
        return 0;
    l->positions_put++;
    bool changed = ownership_put(arbiter(l), l->o.turns.lane, &record);
    if (changed) {
        buf_free(&l->turns);
        l->turns = record;
    }
    bool first = changed || strcmp(l->turns_id, l->id1) != 0;
    // Until it is stored with each position: a cluster may have sent the one that it went with
    // elsewhere.
    if ((!first && !l->turns_unstored) || !l->turns.n)
        return 0;
    if (first)
        l->turns_put = l->positions_put;
    snprintf(l->turns_id, sizeof(l->turns_id), "%s", l->id1);
    l->turns_unstored = true;
    position_put_turns(out, l->id1, buf_slice(&l->turns));
    return 1;
}

void lane_turns_pumped(struct lane *l)
{
    if (!arbiter(l))
        return;
    if (!lane_turns_wait(l))
        uv_timer_stop(&l->turn_timer);
    else if (!uv_is_active((uv_handle_t *)&l->turn_timer))
        uv_timer_start(&l->turn_timer, on_turn_timer, LOOK_MS, LOOK_MS);
}

static void store_record(struct lane *l)
{
    // A sink that nothing has gone through yet does not know of a position.
    if (sink_attached(l->sink) && sink_idle(l->sink) && l->has_mark && !l->mark.loading &&
        l->mark.offset == apply_position(l->apply))
        sink_skip_to(l->sink, &l->mark);
    sink_store_again(l->sink);
}

// Another lane may wait for what is applied here and not stored, another process for the record.
void lane_turns_tick(struct lane *l)
{
    if (!arbiter(l) || !l->apply)
        return;
    if (ownership_has_new(arbiter(l), l->o.turns.lane))
        store_record(l);
    else if (!ownership_quiet(arbiter(l)))
        sink_store_position(l->sink);
}

bool lane_turns_say(const struct lane *l, char *out, size_t cap)
{
    if (!arbiter(l) || l->target_state != TARGET_READY)
        return false;
    int slot, other;
    if (!lane_turns_open(l)) {
        snprintf(out, cap, "waits until it is known how far the lanes of the other shards are");
        return true;
    }
    if (!l->apply || !turn_waits(l->turn, &slot))
        return false;
    char name[100] = "another shard";
    ownership_waiting(arbiter(l), l->o.turns.lane, &other);
    if (other != OWNERSHIP_NOBODY)
        l->o.turns.name_of(l->o.turns.ctx, other, name, sizeof(name));
    snprintf(out, cap, "waits at offset %llu for %s, from which slot %d is moved",
             (unsigned long long)apply_position(l->apply), name, slot);
    return true;
}

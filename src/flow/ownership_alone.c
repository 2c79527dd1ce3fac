// SPDX-License-Identifier: Apache-2.0
// Lanes that have turns without the others: what is given and stored while another process may have
// some of the lanes.
#include <stdlib.h>

#include "flow/ownership_impl.h"

static bool is_here(const struct lane_state *l)
{
    return !l->gone && l->where != LANE_ELSEWHERE;
}

void ownership_hold(struct ownership *o)
{
    pthread_mutex_lock(&o->lock);
    o->whole = false;
    pthread_mutex_unlock(&o->lock);
}

bool ownership_whole(struct ownership *o)
{
    pthread_mutex_lock(&o->lock);
    bool may = !o->passed_over;
    o->whole = may;
    o->mapped = o->mapped && !may;
    for (int i = 0; i < o->lanes && may; i++) {
        o->lane[i].alone = false;
        o->lane[i].changed |= o->lane[i].permit;
    }
    ownership_changed(o);
    pthread_mutex_unlock(&o->lock);
    return may;
}

// Who has the turn has stored so by now.
static void forget_former_turns(struct ownership *o, int lane)
{
    struct had *had = o->lane[lane].had;
    for (int s = 0; had && s < SLOT_COUNT; s++)
        if (o->turn[s] != lane)
            had[s] = (struct had){0};
}

bool ownership_part(struct ownership *o)
{
    pthread_mutex_lock(&o->lock);
    bool may = o->whole && o->mapped && !o->away && ownership_quiet(o);
    for (int i = 0; i < o->lanes && may; i++)
        may = o->lane[i].gone || ownership_is_stored(&o->lane[i]);
    for (int i = 0; i < o->lanes && may; i++) {
        forget_former_turns(o, i);
        o->lane[i].alone = o->lane[i].changed = is_here(&o->lane[i]);
    }
    o->whole = o->whole && !may;
    pthread_mutex_unlock(&o->lock);
    return may;
}

void ownership_set_where(struct ownership *o, int lane, enum whereabouts where)
{
    struct lane_state *l = &o->lane[lane];
    o->away += (where != LANE_HERE) - (l->where != LANE_HERE);
    l->where = where;
}

void ownership_lane_elsewhere(struct ownership *o, int lane)
{
    struct lane_state *l = &o->lane[lane];
    pthread_mutex_lock(&o->lock);
    l->gone = l->permit = l->alone = l->unstored = l->changed = false;
    ownership_set_where(o, lane, LANE_ELSEWHERE);
    free(l->had);
    l->had = NULL;
    ownership_reset(o, lane, 0, false);
    pthread_mutex_unlock(&o->lock);
}

bool ownership_lane_here(struct ownership *o, int lane)
{
    struct lane_state *l = &o->lane[lane];
    pthread_mutex_lock(&o->lock);
    bool back = l->where == LANE_ELSEWHERE, late = back && o->whole && o->mapped;
    atomic_store(&l->applied, 0);
    // What maps have said of it is no more than that; its record knows.
    for (int s = 0; back && s < SLOT_COUNT; s++)
        o->turn_serial[s] = o->turn[s] == lane ? 0 : o->turn_serial[s];
    ownership_set_where(o, lane, late ? LANE_LATE : LANE_HERE);
    l->gone = l->permit = l->alone = l->unstored = l->changed = false;
    pthread_mutex_unlock(&o->lock);
    return late;
}

bool ownership_may_be_alone(struct ownership *o, int lane)
{
    pthread_mutex_lock(&o->lock);
    bool alone = o->lane[lane].alone;
    pthread_mutex_unlock(&o->lock);
    return alone;
}

bool ownership_passed_over(struct ownership *o)
{
    pthread_mutex_lock(&o->lock);
    bool any = o->passed_over;
    pthread_mutex_unlock(&o->lock);
    return any;
}

bool ownership_has_new(struct ownership *o, int lane)
{
    pthread_mutex_lock(&o->lock);
    bool changed = o->lane[lane].changed;
    pthread_mutex_unlock(&o->lock);
    return changed;
}

void ownership_stored(struct ownership *o, int lane)
{
    struct lane_state *l = &o->lane[lane];
    pthread_mutex_lock(&o->lock);
    l->unstored = false;
    bool was = l->permit;
    l->permit = l->put_alone;
    for (int i = was && !l->permit ? atomic_load(&o->moving_n) : 0; i-- > 0;)
        ownership_advance(o, o->list[i]);
    if (was && !l->permit)
        ownership_changed(o);
    pthread_mutex_unlock(&o->lock);
}

void ownership_put_lost(struct ownership *o, int lane)
{
    pthread_mutex_lock(&o->lock);
    o->lane[lane].changed |= o->lane[lane].unstored;
    pthread_mutex_unlock(&o->lock);
}

bool ownership_all_stored(struct ownership *o)
{
    bool all = true;
    pthread_mutex_lock(&o->lock);
    for (int i = 0; i < o->lanes && all; i++)
        all = !is_here(&o->lane[i]) || ownership_is_stored(&o->lane[i]);
    pthread_mutex_unlock(&o->lock);
    return all;
}

void ownership_count_from(struct ownership *o, uint64_t serial)
{
    pthread_mutex_lock(&o->lock);
    o->serial = serial > o->serial ? serial : o->serial;
    pthread_mutex_unlock(&o->lock);
}

// SPDX-License-Identifier: Apache-2.0
// The floor: what is confirmed, and which of it may be stored as the position.
#include "base/clock.h"
#include "target/router_int.h"

enum { SAMPLE_US = 50 * 1000 };

void router_tell(struct router *r)
{
    if (r->has_confirmed && (!r->has_told || batch_mark_after(&r->confirmed, &r->told))) {
        r->has_told = true;
        r->told = r->confirmed;
        r->o.events->sink->acked(r->o.ctx, &r->told, false);
    }
}

static void sample_floor(struct router *r, uint64_t now)
{
    if (!r->has_confirmed || now - r->sampled_us < SAMPLE_US)
        return;
    r->sampled_us = now;
    // Every second one goes: a node may take long, and old ones are of use then.
    if (r->samples_n == ROUTER_SAMPLES)
        for (r->samples_n = 0; r->samples_n < ROUTER_SAMPLES / 2; r->samples_n++)
            r->samples[r->samples_n] = r->samples[2 * r->samples_n];
    r->samples[r->samples_n++] = (struct sample){now, r->confirmed};
}

// All nodes were alive at that time. One that dies unnoticed loses what was confirmed just before;
// the floor must not go past that while nobody misses the node. Those with nothing to do are asked.
static bool all_alive(struct router *r, uint64_t then)
{
    bool all = true;
    for (int i = 0; i < r->nodes_n; i++) {
        struct pipe *p = r->pipes[i];
        if (pipe_alive_us(p) >= then)
            continue;
        all = false;
        if (pipe_idle(p))
            router_ask_alive(p);
    }
    return all;
}

static bool is_new(const struct router *r, const struct batch_mark *mark)
{
    if (!r->has_stored)
        return true;
    return r->store_again ? !batch_mark_after(&r->stored, mark)
                          : batch_mark_after(mark, &r->stored);
}

bool router_any_to_store(const struct router *r)
{
    return r->has_confirmed && is_new(r, &r->confirmed);
}

// What may be stored now; false: nothing new.
static bool storable(struct router *r, uint64_t now, struct batch_mark *out)
{
    uint64_t age = r->o.floor_age_us;
    if (r->store_now && router_drained(r) && r->has_confirmed) {
        *out = r->confirmed;
        return is_new(r, out);
    }
    uint32_t n = r->samples_n;
    while (n && now - r->samples[n - 1].us < age)
        n--;
    while (n && is_new(r, &r->samples[n - 1].mark) && !all_alive(r, r->samples[n - 1].us + age))
        n--;
    if (n == 0 || !is_new(r, &r->samples[n - 1].mark))
        return false;
    *out = r->samples[n - 1].mark;
    return true;
}

void router_store_floor(struct router *r)
{
    uint64_t now = clock_mono_us();
    sample_floor(r, now);
    if (r->store_now && !r->position_out && router_drained(r) && !router_any_to_store(r))
        r->store_now = r->store_again = false;
    if (r->position_out || (!r->store_now && now - r->stored_us < r->o.position_us) ||
        !storable(r, now, &r->storing))
        return;
    r->position_out = true;
    r->stored_us = now;
    r->store_now = r->store_now && batch_mark_after(&r->current, &r->storing);
    r->store_again = r->store_again && r->store_now;
    struct ticket t = {.unit = UINT64_MAX, .kind = TICKET_POSITION};
    int slot = r->o.events->position_slot(r->o.ctx);
    router_enqueue(r, slot, &t, true);
    router_try_send(r, slot);
}

void router_floor_stored(struct router *r)
{
    r->position_out = false;
    r->stored = r->storing;
    r->has_stored = true;
    r->o.events->sink->acked(r->o.ctx, &r->stored, true);
}

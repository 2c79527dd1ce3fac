// SPDX-License-Identifier: Apache-2.0
#include "control/election.h"

#include <stddef.h>

enum { MARGIN_MIN_MS = 500, MARGIN_PART = 10 };

void election_init(struct election *e, const struct election_options *o)
{
    *e = (struct election){.o = *o, .campaign_at = ELECTION_NEVER};
}

int64_t election_margin_ms(int64_t lease_ms)
{
    int64_t part = lease_ms / MARGIN_PART;
    return part > MARGIN_MIN_MS ? part : MARGIN_MIN_MS;
}

static void step_down(struct election *e)
{
    e->role = ELECTION_FOLLOWER;
    e->deadline = 0;
}

static void give_up(struct election *e, int64_t now)
{
    e->resigning = true;
    e->resign_at = now;
    step_down(e);
}

// Comes before every event: whatever a node that was stopped for long hears first on waking, it is
// not the leader any more.
static void pass_time(struct election *e, int64_t now)
{
    if (e->role == ELECTION_FOLLOWER)
        return;
    if (now >= e->deadline)
        step_down(e);
    else if (e->role == ELECTION_HANDING_OVER && now >= e->handover_until)
        give_up(e, now);
}

static int64_t deadline_of(const struct election *e, int64_t since)
{
    return since + e->o.lease_ms - election_margin_ms(e->o.lease_ms);
}

static void won(struct election *e, const struct election_event *ev)
{
    e->token = ev->token;
    if (e->stopped) {
        give_up(e, ev->now);
        return;
    }
    if (ev->now >= deadline_of(e, ev->since)) {
        e->campaign_at = ev->now;
        return;
    }
    e->role = ELECTION_LEADER;
    e->since = ev->since;
    e->deadline = deadline_of(e, ev->since);
    e->renew_at = ev->since + e->o.renew_ms;
    e->campaign_at = ELECTION_NEVER;
}

static void renewed(struct election *e, const struct election_event *ev)
{
    if (e->role == ELECTION_FOLLOWER)
        return;
    if (ev->since > e->since) {
        e->since = ev->since;
        e->deadline = deadline_of(e, ev->since);
    }
    e->renew_at = e->since + e->o.renew_ms;
    if (e->renew_at <= ev->now)
        e->renew_at = ev->now + e->o.retry_ms;
    pass_time(e, ev->now);
}

static void failed(struct election *e, enum election_request asked, int64_t now)
{
    int64_t again = now + e->o.retry_ms;
    if (asked == ELECTION_CAMPAIGN && e->campaign_at != ELECTION_NEVER)
        e->campaign_at = again;
    else if (asked == ELECTION_RENEW)
        e->renew_at = again;
    else if (asked == ELECTION_RESIGN)
        e->resign_at = again;
}

// The request that an event answers; ELECTION_NOTHING: none, or whichever is open.
static enum election_request answered(const struct election *e, enum election_event_type type)
{
    switch (type) {
    case ELECTION_WON:
    case ELECTION_LOST:
        return ELECTION_CAMPAIGN;
    case ELECTION_RENEWED:
        return ELECTION_RENEW;
    case ELECTION_NOT_HELD:
        return e->asked == ELECTION_RENEW ? ELECTION_RENEW : ELECTION_NOTHING;
    case ELECTION_RESIGNED:
        return ELECTION_RESIGN;
    case ELECTION_FAILED:
        return e->asked;
    default:
        return ELECTION_NOTHING;
    }
}

static void take(struct election *e, const struct election_event *ev, enum election_request asked)
{
    switch (ev->type) {
    case ELECTION_TICK:
        break;
    case ELECTION_WANT:
        e->campaign_at = ev->at;
        break;
    case ELECTION_RENEW_DUE:
        e->renew_at = ev->now;
        break;
    case ELECTION_WON:
        won(e, ev);
        break;
    case ELECTION_LOST:
        e->campaign_at = ELECTION_NEVER;
        break;
    case ELECTION_RENEWED:
        renewed(e, ev);
        break;
    case ELECTION_NOT_HELD:
        step_down(e);
        break;
    case ELECTION_RESIGNED:
        e->resigning = false;
        break;
    case ELECTION_FAILED:
        failed(e, asked, ev->now);
        break;
    case ELECTION_HAND_OVER:
        if (e->role == ELECTION_LEADER) {
            e->role = ELECTION_HANDING_OVER;
            e->handover_until = ev->now + e->o.handover_ms;
        }
        break;
    case ELECTION_RELEASED:
        if (e->role == ELECTION_HANDING_OVER)
            give_up(e, ev->now);
        break;
    case ELECTION_STOP:
        e->stopped = true;
        e->campaign_at = ELECTION_NEVER;
        if (e->role != ELECTION_FOLLOWER)
            give_up(e, ev->now);
        break;
    case ELECTION_START:
        e->stopped = false;
        break;
    }
}

// Nothing is campaigned for while a resignation may still be under way: carried out late, it would
// take the lease from under a leader.
static enum election_request due(const struct election *e, int64_t now)
{
    if (e->resigning)
        return now >= e->resign_at ? ELECTION_RESIGN : ELECTION_NOTHING;
    if (e->role != ELECTION_FOLLOWER)
        return now >= e->renew_at ? ELECTION_RENEW : ELECTION_NOTHING;
    return now >= e->campaign_at ? ELECTION_CAMPAIGN : ELECTION_NOTHING;
}

enum election_request election_step(struct election *e, const struct election_event *ev)
{
    enum election_request asked = answered(e, ev->type);
    pass_time(e, ev->now);
    if (asked != e->asked && (ev->type == ELECTION_WON || ev->type == ELECTION_LOST ||
                              ev->type == ELECTION_RENEWED || ev->type == ELECTION_RESIGNED))
        return ELECTION_NOTHING;
    if (asked != ELECTION_NOTHING)
        e->asked = ELECTION_NOTHING;
    take(e, ev, asked);
    if (e->asked == ELECTION_NOTHING) {
        e->asked = due(e, ev->now);
        return e->asked;
    }
    return ELECTION_NOTHING;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t election_next(const struct election *e)
{
    int64_t at = ELECTION_NEVER;
    if (e->role != ELECTION_FOLLOWER)
        at = e->deadline;
    if (e->role == ELECTION_HANDING_OVER)
        at = earlier(at, e->handover_until);
    if (e->asked != ELECTION_NOTHING)
        return at;
    if (e->resigning)
        return earlier(at, e->resign_at);
    return earlier(at, e->role == ELECTION_FOLLOWER ? e->campaign_at : e->renew_at);
}

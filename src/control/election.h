// SPDX-License-Identifier: Apache-2.0
// Who leads one shard, as one node sees it: events in, what to ask the registry for out. Pure.
//
// All times are CLOCK_BOOTTIME milliseconds of this node. A leader may act until `deadline`, which
// is counted from before the request that won or renewed was sent: the lease in the registry begins
// later than that, so it ends later, and an answer that comes late brings no more time.
#ifndef GUNYU_CONTROL_ELECTION_H
#define GUNYU_CONTROL_ELECTION_H

#include <stdbool.h>
#include <stdint.h>

#define ELECTION_NEVER INT64_MAX

enum election_role { ELECTION_FOLLOWER, ELECTION_LEADER, ELECTION_HANDING_OVER };

struct election_options {
    int64_t lease_ms;    // as the registry gives it
    int64_t renew_ms;    // between renewals
    int64_t retry_ms;    // after a request that got no answer
    int64_t handover_ms; // how long the owner may take to finish before it hands over
};

// What the registry is to be asked for. Each has to be answered by one event, a failure included.
enum election_request { ELECTION_NOTHING, ELECTION_CAMPAIGN, ELECTION_RENEW, ELECTION_RESIGN };

enum election_event_type {
    ELECTION_TICK,      // time passes
    ELECTION_WANT,      // campaign at `at` while nobody leads (ELECTION_NEVER: do not)
    ELECTION_RENEW_DUE, // renew now, as others of this node are renewed
    ELECTION_WON,       // answers CAMPAIGN: token, since
    ELECTION_LOST,      // answers CAMPAIGN: another leads
    ELECTION_RENEWED,   // answers RENEW: since
    ELECTION_NOT_HELD,  // answers RENEW; or at any time: the registry shows that it is not ours
    ELECTION_RESIGNED,  // answers RESIGN: it is not ours any more
    ELECTION_FAILED,    // answers any: nobody knows whether it was carried out
    ELECTION_HAND_OVER, // finish, then give it up
    ELECTION_RELEASED,  // the owner has finished
    ELECTION_STOP,      // give it up now and ask for nothing
    ELECTION_START,     // after STOP: take part again
};

struct election_event {
    enum election_event_type type;
    int64_t now;
    int64_t at;     // WANT
    int64_t since;  // WON, RENEWED: before the request that the lease stands on was sent
    uint64_t token; // WON
};

struct election {
    struct election_options o;
    enum election_role role;
    int64_t deadline; // 0 unless it leads; from then on it must not act
    int64_t since;    // of the lease that deadline is of
    uint64_t token;   // of the last win; kept for the resignation
    // private
    enum election_request asked;
    int64_t campaign_at, renew_at, resign_at, handover_until;
    bool resigning; // until the registry has said that it is not ours
    bool stopped;
};

void election_init(struct election *e, const struct election_options *o);
// How much before the end of the lease a leader stops: a tenth of it, at least 500 ms. It has to
// cover what clocks drift apart in a lease and what the registry's own counting is coarser than.
int64_t election_margin_ms(int64_t lease_ms);
// Returns what the registry is to be asked for now; at most one request is open at a time. Read
// role, token and deadline of *e after each step.
enum election_request election_step(struct election *e, const struct election_event *ev);
// When the next step is due at the latest, if nothing else happens; ELECTION_NEVER: never.
int64_t election_next(const struct election *e);

#endif

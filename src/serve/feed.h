// SPDX-License-Identifier: Apache-2.0
// The replicas that are attached to one lane: each gets snapshot and log straight from the
// journal's mapping. They pin nothing: who falls out of what the journal holds is cut.
//
// Lives on the lane's loop; everything here is called there.
#ifndef GUNYU_SERVE_FEED_H
#define GUNYU_SERVE_FEED_H

#include <uv.h>

#include "net/conn.h"
#include "serve/grant.h"
#include "serve/session.h"

// A connection whose client has asked for the stream, on its way from the server to a lane.
struct serve_guest {
    struct conn *conn; // owns; not watched
    struct serve_request request;
    char peer[64];      // address of the other end
    struct buf out, in; // own; not sent yet, and received behind the request
};
void serve_guest_free(struct serve_guest *g);

struct feeds;
struct feeds *feeds_new(uv_loop_t *loop, struct journal *j, const char *tag);
// Ends all connections.
void feeds_free(struct feeds *s);

// Takes the guest over and gives it what was granted (GRANT_CONTINUE or GRANT_FULL). ERR_FULL:
// there are SERVE_REPLICAS already, and the guest stays the caller's.
int feeds_attach(struct feeds *s, struct serve_guest *g, const struct grant *grant,
                 struct err *e) must_check;
// The journal grew or changed.
void feeds_pump(struct feeds *s);
// About every 100 ms.
void feeds_tick(struct feeds *s);

// How long a replica may be silent. Only tests change it.
extern uint64_t feeds_silence_us;

struct feeds_stats {
    uint64_t attached;   // ever: with a snapshot or without
    uint64_t full;       // of them with a snapshot
    uint64_t cut;        // by us: silent, or out of what is held
    uint64_t bytes_sent; // to replicas, present and past
};
void feeds_get_stats(const struct feeds *s, struct feeds_stats *out);
// Returns how many; out has SERVE_REPLICAS places.
size_t feeds_list(const struct feeds *s, struct serve_replica *out);

#endif

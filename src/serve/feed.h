// SPDX-License-Identifier: Apache-2.0
// The replicas that are attached to one journal: each gets snapshot and log straight from the
// journal's mapping. They pin nothing: who falls out of what the journal holds is cut.
//
// Lives on the journal's loop; everything here is called there.
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
// Ends all connections. Before the journal is closed.
void feeds_free(struct feeds *s);

// Takes the guest over and gives it what it asked for, as far as the journal has it. Else it stays
// the caller's: *needs_snapshot tells that only a snapshot would help, and e.msg is the error that
// the client is told.
int feeds_attach(struct feeds *s, struct serve_guest *g, bool *needs_snapshot,
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
// Fills in what the journal and its replicas are.
void feeds_put_facts(const struct feeds *s, struct serve_facts *f);

#endif

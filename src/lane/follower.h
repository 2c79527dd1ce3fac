// SPDX-License-Identifier: Apache-2.0
// The journal of a source shard that another node of the group leads: it is kept as the leader's
// is, from the leader's replication server, and nothing is applied. Lives on one worker's loop;
// everything below is called there unless it says otherwise.
#ifndef GUNYU_LANE_FOLLOWER_H
#define GUNYU_LANE_FOLLOWER_H

#include <uv.h>

#include "journal/journal.h"
#include "lane/snapshot.h"
#include "net/endpoint.h"

// Borrowed strings must outlive the follower.
struct follower_options {
    uv_loop_t *loop;
    const char *tag;
    // The leader's replication server, with the shard's name as the user; copied. host NULL: nobody
    // is known to lead, and nothing is received.
    struct endpoint leader;
    const char *source_name; // for the status, as the next ones; copied
    const char *leader_name;
    int listening_port;
};

struct follower;

// Takes the journal.
struct follower *follower_new(const struct follower_options *o, struct journal *j);
// As lane_serve.
int follower_serve(struct follower *f, struct serve_guest *g, struct err *e) must_check;
// Tries again what a person has mended.
void follower_resume(struct follower *f);
// Memory goes when the loop has closed its handles. Gives the journal back.
struct journal *follower_free(struct follower *f);

// Any thread.
void follower_get_snapshot(struct follower *f, struct lane_snapshot *out);

#endif

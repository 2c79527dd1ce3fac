// SPDX-License-Identifier: Apache-2.0
// Which shards a node should campaign for, and which it should hand over. Pure: every node decides
// for itself from what it sees of the group, and nodes that see the same agree.
#ifndef GUNYU_CONTROL_BALANCE_H
#define GUNYU_CONTROL_BALANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BALANCE_NOBODY = -1,
    BALANCE_STEP_MS = 150,      // each rank waits this much longer before it campaigns
    BALANCE_RANKS = 3,          // ranks behind this one wait no longer than it
    BALANCE_NOTE_WAIT_MS = 2000 // for the node that a leader hands over to
};

// What a node has of a shard's journal.
struct balance_edge {
    bool known; // it has a journal of the same history as the leader's, or the last leader's
    bool ready; // it follows, and would need no full sync
    bool able;  // it can reach source and target; of the leader: it has not failed to for long
    uint64_t right;
};

struct balance_shard {
    int leader;                       // a place in nodes, or BALANCE_NOBODY
    int last_leader;                  // while there is none
    int note;                         // who a leader hands it over to
    bool together;                    // is to be led by the node that leads the others of these
    bool idle;                        // its leader does nothing with it until it is
    const struct balance_edge *edges; // of each node
};

struct balance_node {
    int64_t alive_ms; // for how long it has been seen without a gap
};

// Nodes and shards are in the order of their names.
struct balance_group {
    const struct balance_node *nodes;
    size_t nodes_n;
    int self;
    const struct balance_shard *shards;
    size_t shards_n;
    int64_t lease_ms;
    int64_t quiet_ms; // since any shard changed its leader
};

enum balance_what { BALANCE_STAY, BALANCE_CAMPAIGN, BALANCE_HAND_OVER };

struct balance_advice {
    enum balance_what what;
    int64_t delay_ms; // CAMPAIGN: after it was first seen that nobody leads
    int to;           // HAND_OVER
};

// Advice for each shard in out. At most one shard is handed over for the sake of balance, and only
// after some quiet time, to a node that has been there for some leases and whose journal is near
// the leader's edge; shards that are to be together, or whose leader is not able to while another
// node is, are handed over as soon as the journal is near, the former also if nothing is done with
// them before.
void balance_advise(const struct balance_group *g, struct balance_advice *out);
// The node that an operator's handover without a name goes to: not self, able if any is, journal
// furthest.
// BALANCE_NOBODY: there is none.
int balance_heir(const struct balance_group *g, size_t shard);

#endif

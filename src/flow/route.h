// SPDX-License-Identifier: Apache-2.0
// Where in a cluster a command goes. Pure, and no allocation per command once warm.
//
// Asked about commands as rewrite_command leaves them: what becomes of one for an older target has
// the same keys and goes the same way. SELECT, MULTI and EXEC are not for here.
#ifndef GUNYU_FLOW_ROUTE_H
#define GUNYU_FLOW_ROUTE_H

#include "flow/rewrite.h"

enum route_kind {
    ROUTE_SLOT,    // to the owner of `slot`
    ROUTE_SPLIT,   // keys in several slots, and each part is a command: route_part
    ROUTE_STAGE,   // reads keys of some slots and writes into another one: target/stage.h
    ROUTE_EVERY,   // to every master
    ROUTE_REFUSED, // nowhere; reason
};

struct route_slot {
    int slot;
    int keys;        // how many of the command's keys are in it
    int first, last; // private
};

// Zeroed is ready; route_free afterwards. What it says is of the last route_command, valid until
// the next.
struct route {
    enum route_kind kind;
    int slot;           // SLOT; STAGE: of the key that is written. PUBLISH has that of its channel,
                        // so that messages keep their order
    const char *reason; // REFUSED; for people, static
    // The slots of its keys, each once, in the order of their first keys.
    int slots_n;
    struct route_slot *slots; // owns
    int keys;                 // and where they are in argv
    int *pos;                 // owns
    // STAGE: where in argv the key is that is written, and the one that is read and changed as well
    // (0: none).
    int written, drained;

    // private
    int argc;
    const struct slice *argv;
    int first, step;  // SPLIT: the first key's position, a key's group of arguments
    const char *name; // SPLIT: of the parts; NULL: as the command's
    int *next;        // owns; by key, the next one in its slot
    int cap, slots_cap, part_cap;
    struct slice *part; // owns
    char count[24];
    struct route_seen *seen; // owns; by slot
    uint32_t round;
};

// info: cmd_lookup of the command, NULL when unknown. argv is borrowed until the next call.
enum route_kind route_command(struct route *r, const struct cmd_info *info, int argc,
                              const struct slice *argv);
// SPLIT: what of the command concerns slots[i]; valid until the next call. Conditions (NX, XX) are
// left out: a source sends the command only when they held.
struct rewrite_cmd route_part(struct route *r, int i);
void route_free(struct route *r);

#endif

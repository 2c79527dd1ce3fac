// SPDX-License-Identifier: Apache-2.0
// Which node of a master and its replicas to read from.
#ifndef GUNYU_SOURCE_CHOOSE_H
#define GUNYU_SOURCE_CHOOSE_H

#include "journal/journal.h"
#include "net/endpoint.h"

enum choose_from {
    CHOOSE_GIVEN,          // the configured node, whatever it is
    CHOOSE_PREFER_REPLICA, // a replica that fits, else the master
    CHOOSE_MASTER,
    CHOOSE_REPLICA, // a replica that fits, or nothing
};

struct choose_options {
    enum choose_from from;
    // What is held already; a replica that has less of this history would cost a full sync.
    char replid[REPLID_LEN + 1]; // "": nothing
    uint64_t offset;
    int timeout_ms;
};

// Replaces the address in *ep, which is the configured node, by the chosen one; user, password and
// TLS stay. A replica fits when its link to the master is up, the master has heard of it in the
// last seconds, and it is as far as what is held; where the master has what follows on that, a
// replica that has not is the last choice. Of several the first by address is taken.
// Blocking; run it on a pool thread.
int choose_source(struct endpoint *ep, const struct choose_options *o, struct err *e) must_check;

#endif

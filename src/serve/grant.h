// SPDX-License-Identifier: Apache-2.0
// What a replica's PSYNC can be given out of a journal. Pure.
#ifndef GUNYU_SERVE_GRANT_H
#define GUNYU_SERVE_GRANT_H

#include "journal/journal.h"

// What a replica asked for, and what it said of itself before.
struct serve_request {
    char replid[REPLID_LEN + 1]; // "?": a full sync
    int64_t offset;              // first byte that it lacks; -1 with "?"
    bool sync;                   // SYNC: no positions, no acknowledgements
    bool eof, psync2;            // capabilities
    int port;                    // that it announced; 0: none
    char address[64];            // likewise; ""
};

enum grant_kind {
    GRANT_CONTINUE,
    GRANT_FULL,     // from the snapshot that the journal holds or receives
    GRANT_LATER,    // not now
    GRANT_SNAPSHOT, // only a full sync would do, and the journal has no snapshot for it
};

struct grant {
    enum grant_kind kind;
    uint64_t offset; // the stream begins after this position
    char why[200];   // not GRANT_CONTINUE: for people
};

void grant_decide(const struct journal_info *j, const struct serve_request *r, struct grant *out);

#endif

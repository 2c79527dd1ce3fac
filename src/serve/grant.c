// SPDX-License-Identifier: Apache-2.0
#include "serve/grant.h"

#include <stdio.h>
#include <string.h>

#define ULL(x) ((unsigned long long)(x))

// Up to where the history that the journal holds has this id: NULL when it never had.
static const uint64_t *id_until(const struct journal_info *j, const char *id)
{
    static const uint64_t all = UINT64_MAX;
    if (strcmp(id, j->replid) == 0)
        return &all;
    if (j->replid2[0] && strcmp(id, j->replid2) == 0)
        return &j->replid2_offset;
    for (size_t i = 0; i < j->older_n; i++)
        if (strcmp(id, j->older[i].replid) == 0)
            return &j->older[i].offset;
    return NULL;
}

// The log that follows the snapshot is there, or comes with its end.
static bool snapshot_serves(const struct journal_info *j)
{
    return j->has_snapshot &&
           (!j->snapshot_complete || (j->has_log && j->left <= j->snapshot_offset));
}

static void full(const struct journal_info *j, struct grant *out)
{
    out->kind = snapshot_serves(j) ? GRANT_FULL : GRANT_SNAPSHOT;
    out->offset = j->snapshot_offset;
}

#define WHY(...) snprintf(out->why, sizeof(out->why), __VA_ARGS__)

void grant_decide(const struct journal_info *j, const struct serve_request *r, struct grant *out)
{
    *out = (struct grant){.kind = GRANT_LATER};
    if (!j->replid[0] || (!j->has_log && !j->has_snapshot)) {
        WHY("nothing of the source is here yet");
        return;
    }
    full(j, out);
    if (r->offset <= 0 || strlen(r->replid) != REPLID_LEN) {
        WHY("it has no position to continue from");
        return;
    }
    uint64_t have = (uint64_t)r->offset - 1;
    const uint64_t *until = id_until(j, r->replid);
    if (!until) {
        WHY("the source never had the replication id %s", r->replid);
    } else if (have > *until) {
        WHY("offset %llu is beyond the history that the source shares with %s (up to %llu)",
            ULL(have), r->replid, ULL(*until));
    } else if (!j->has_log) {
        WHY("the log begins with the snapshot that is being received");
    } else if (have < j->left) {
        WHY("the log after offset %llu is no longer held, only that after %llu", ULL(have),
            ULL(j->left));
    } else if (have > j->right) {
        // As after a crash, which took the end of the log; the source has it still.
        out->kind = GRANT_LATER;
        WHY("offset %llu is ahead of what has been received of the source (%llu)", ULL(have),
            ULL(j->right));
    } else {
        out->kind = GRANT_CONTINUE;
        out->offset = have;
    }
}

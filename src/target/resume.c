// SPDX-License-Identifier: Apache-2.0
#include "target/resume.h"

#include <string.h>

// Byte strings that several ids can name: an id is valid up to an offset of the history that it is
// part of. What follows asks of each id whether it names the history of the source or the journal.

static bool id_eq(const char *a, const char *b)
{
    return a[0] != 0 && strcmp(a, b) == 0;
}

static bool source_named_itself(const struct resume_input *in)
{
    return in->id1[0] != 0;
}

// The source's own history passes through (id, offset), as far as it told its ids.
static bool on_source(const struct resume_input *in, const char *id, int64_t offset)
{
    if (!source_named_itself(in) || id_eq(id, in->id1))
        return true;
    return id_eq(id, in->id2) && (in->second_offset < 0 || offset <= in->second_offset);
}

// The source would go on behind the journal's right edge, so its bytes are the source's.
static bool journal_on_source(const struct resume_input *in)
{
    const struct journal_info *j = in->journal;
    return j->replid[0] != 0 && j->has_log && j->left <= j->right && j->right <= INT64_MAX &&
           on_source(in, j->replid, (int64_t)j->right);
}

// By the journal's ids its bytes pass through (id, offset).
static bool journal_names(const struct journal_info *j, const char *id, int64_t offset)
{
    if (id_eq(id, j->replid))
        return true;
    if (id_eq(id, j->replid2) && (uint64_t)offset <= j->replid2_offset)
        return true;
    for (size_t i = 0; i < j->older_n; i++)
        if (id_eq(id, j->older[i].replid) && (uint64_t)offset <= j->older[i].offset)
            return true;
    return false;
}

// The bytes of a journal that is on the source's history pass through (id, offset): by the
// journal's ids, or because both are on the source's.
static bool journal_passes(const struct resume_input *in, const char *id, int64_t offset)
{
    if (journal_names(in->journal, id, offset))
        return true;
    bool id2_end_known = in->second_offset >= 0;
    return source_named_itself(in) && id2_end_known && on_source(in, id, offset);
}

struct history {
    const char *id1, *id2;
    uint64_t end1, end2; // up to where each is valid; end2 0: unknown
};

static void share(const struct history *h, const char *id, uint64_t end, uint64_t *fork,
                  bool *found)
{
    for (int i = 0; i < 2; i++) {
        uint64_t theirs = i ? h->end2 : h->end1;
        if (!id_eq(i ? h->id2 : h->id1, id) || theirs == 0)
            continue;
        uint64_t common = theirs < end ? theirs : end;
        *fork = common > *fork ? common : *fork;
        *found = true;
    }
}

bool resume_fork(const struct journal_info *j, const char *id1, uint64_t offset, const char *id2,
                 int64_t second_offset, uint64_t *fork)
{
    struct history h = {id1, id2, offset, second_offset > 0 ? (uint64_t)second_offset : 0};
    bool found = false;
    *fork = 0;
    share(&h, j->replid, j->right, fork, &found);
    share(&h, j->replid2, j->replid2_offset, fork, &found);
    for (size_t i = 0; i < j->older_n; i++)
        share(&h, j->older[i].replid, j->older[i].offset, fork, &found);
    return found;
}

// What the target has got behind its position may be what the source has lost since.
static bool has_lost_writes(const struct resume_input *in, const struct position *p)
{
    uint64_t fork;
    return source_named_itself(in) && in->journal->has_log &&
           journal_names(in->journal, p->replid, p->offset) &&
           resume_fork(in->journal, in->id1, UINT64_MAX, in->id2, in->second_offset, &fork) &&
           in->loose_until > fork;
}

// The position lies in the journal's log.
static bool journal_covers(const struct resume_input *in, const struct position *p)
{
    const struct journal_info *j = in->journal;
    return journal_on_source(in) && journal_passes(in, p->replid, p->offset) &&
           j->left <= (uint64_t)p->offset && (uint64_t)p->offset <= j->right;
}

// The journal holds a whole snapshot and the log that goes on from it.
static bool journal_loadable(const struct resume_input *in)
{
    const struct journal_info *j = in->journal;
    return journal_on_source(in) && j->has_snapshot && j->snapshot_complete &&
           j->left <= j->snapshot_offset && j->snapshot_offset <= j->right;
}

static bool same_snapshot(const struct resume_input *in, const struct position *p)
{
    const struct journal_info *j = in->journal;
    return journal_loadable(in) && j->snapshot_offset == (uint64_t)p->offset &&
           journal_passes(in, p->replid, p->offset) &&
           (j->snapshot_size == JOURNAL_SIZE_UNKNOWN || p->rdb_index <= j->snapshot_size);
}

static void ask(struct resume_decision *out, const char *replid, int64_t offset)
{
    size_t n = strnlen(replid, REPLID_LEN);
    memcpy(out->psync_replid, replid, n);
    out->psync_replid[n] = 0;
    out->psync_offset = offset;
}

static void go_on_in_stream(struct resume_decision *out, const struct position *p)
{
    out->apply = RESUME_STREAM;
    out->apply_from = (uint64_t)p->offset;
    out->db = p->db;
}

static void load_snapshot(const struct resume_input *in, struct resume_decision *out,
                          const struct position *from)
{
    out->apply = RESUME_SNAPSHOT;
    out->apply_from = in->journal->snapshot_offset;
    if (from) {
        out->rdb_index = from->rdb_index;
        out->rdb_db = from->rdb_db;
        out->db = from->db;
    }
    ask(out, in->journal->replid, (int64_t)in->journal->right);
}

// The reason why a position does not help. Static text.
static const char *why_not(const struct resume_input *in, const struct position *p)
{
    if (!p)
        return "the target has no position of this source";
    if (p->offset < 0 || p->replid[0] == 0)
        return "the target's position has no offset";
    if (p->loading)
        return "the target holds a part of a snapshot that the journal does not hold whole";
    if (in->to_take_back)
        return "what the source has lost is not taken back from the target yet";
    if (on_source(in, p->replid, p->offset))
        return "the target may hold writes that the source has lost";
    if (id_eq(p->replid, in->id2))
        return "the target is further than the point up to which the source shares its history";
    return "the target's position belongs to another history than the source's";
}

// Goes on from the target's position, if that is possible.
static bool from_position(const struct resume_input *in, struct resume_decision *out)
{
    const struct position *p = in->position;
    if (!p || p->offset < 0 || p->replid[0] == 0)
        return false;
    if (p->loading) {
        if (p->foreign || !same_snapshot(in, p))
            return false;
        load_snapshot(in, out, p);
        out->reason = "going on with the snapshot in the journal where the target stopped";
        return true;
    }
    if (in->to_take_back)
        return false;
    if (journal_covers(in, p)) {
        go_on_in_stream(out, p);
        ask(out, in->journal->replid, (int64_t)in->journal->right);
        out->reason = "going on from the target's position in the journal";
        return true;
    }
    if (!on_source(in, p->replid, p->offset) || has_lost_writes(in, p))
        return false;
    go_on_in_stream(out, p);
    ask(out, p->replid, p->offset);
    out->reset_journal = true;
    out->reason = "going on from the target's position, which the journal does not hold";
    return true;
}

void resume_decide(const struct resume_input *in, struct resume_decision *out)
{
    memset(out, 0, sizeof(*out));
    if (from_position(in, out))
        return;
    bool owed = in->to_take_back && in->position && !in->position->loading;
    if (journal_loadable(in) && !owed) {
        load_snapshot(in, out, NULL);
        out->reason = "no position to go on from; loading the snapshot in the journal";
        return;
    }
    ask(out, "?", -1);
    out->apply = RESUME_NOTHING;
    out->reason = why_not(in, in->position);
}

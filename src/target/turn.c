// SPDX-License-Identifier: Apache-2.0
#include "target/turn.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/txn.h"
#include "target/turn_ahead.h"

struct turn {
    struct turn_options o;
    const struct ownership_fast *fast;
    const struct cmd_info *syncslots, *asking, *functions;
    struct key_places places;
    struct resp_cmd cmd; // of a transaction, or of what is looked at ahead
    struct txn_scan txn;
    struct turn_ahead *ahead;
    uint64_t told; // marks are told up to here
    uint64_t stored;
    int waits;  // slot, or -1
    bool looks; // ... for the end of an import
    bool dropping, clears;
    uint8_t own[SLOT_SET_BYTES];     // of the last turn_clear
    uint8_t dropped[SLOT_SET_BYTES]; // slots of the transaction
    struct err err;
};

// A unit that is judged.
struct judged {
    uint64_t begin, end, received;
    bool restore;
    int keys_n; // of keys; more than there is room for: all the same
    uint64_t keys[OWNERSHIP_KEYS];
};

static void judged_init(struct judged *j, uint64_t begin, uint64_t end, uint64_t received,
                        bool restore)
{
    j->begin = begin;
    j->end = end;
    j->received = received;
    j->restore = restore;
    j->keys_n = 0;
}

struct turn *turn_new(const struct turn_options *o)
{
    struct turn *t = xcalloc(1, sizeof(*t));
    t->o = *o;
    t->fast = ownership_fast(o->ownership);
    t->syncslots = cmd_by_name(SLICE("cluster|syncslots"));
    t->asking = cmd_by_name(SLICE("restore-asking"));
    t->functions = cmd_by_name(SLICE("function|restore"));
    must(t->syncslots && t->asking && t->functions);
    t->ahead = turn_ahead_new(o->ownership, o->lane);
    turn_reset(t);
    return t;
}

void turn_free(struct turn *t)
{
    if (!t)
        return;
    resp_cmd_free(&t->cmd);
    resp_cmd_free(&t->txn.cmd);
    key_places_free(&t->places);
    turn_ahead_free(t->ahead);
    free(t);
}

void turn_reset(struct turn *t)
{
    txn_restart(&t->txn);
    turn_ahead_reset(t->ahead);
    t->told = 0;
    t->waits = -1;
    t->looks = t->dropping = t->clears = false;
}

bool turn_waits(const struct turn *t, int *slot)
{
    *slot = t->waits;
    return t->waits >= 0;
}

const char *turn_reason(const struct turn *t)
{
    return t->err.msg;
}

// A mark of an atomic move.
static enum turn_verdict tell(struct turn *t, const struct resp_cmd *cmd, uint64_t end)
{
    struct ownership_move m;
    bool is_move;
    int rc = ownership_parse_move(cmd->argc, cmd->argv, &m, &is_move, &t->err);
    if (rc == 0 && is_move) {
        struct slice node = m.phase == OWNERSHIP_EXPORT_DONE ? m.dest : m.source;
        int peer = node.n ? t->o.lane_of(t->o.ctx, node) : OWNERSHIP_NOBODY;
        rc = ownership_move(t->o.ownership, t->o.lane, &m, end, peer, &t->err);
        t->o.sign(t->o.ctx);
    }
    return rc ? TURN_REFUSE : TURN_TAKE;
}

static enum turn_verdict ask(struct turn *t, int slot, const struct judged *j)
{
    if (!j->restore && ownership_settled(t->fast, t->o.lane, slot))
        return TURN_TAKE;
    struct ownership_unit u = {.lane = t->o.lane,
                               .slot = slot,
                               .restore = j->restore,
                               .begin = j->begin,
                               .end = j->end,
                               .received = j->received,
                               .keys = j->keys,
                               .keys_n = j->keys_n <= OWNERSHIP_KEYS ? j->keys_n : 0};
    switch (ownership_unit(t->o.ownership, &u)) {
    case OWNERSHIP_APPLY:
        return TURN_TAKE;
    case OWNERSHIP_DROP:
        t->dropping = true;
        slot_set_add(t->dropped, slot);
        return TURN_DROP;
    case OWNERSHIP_LOOK:
        t->looks = true;
        break;
    case OWNERSHIP_WAIT:
        break;
    }
    t->waits = slot;
    t->o.sign(t->o.ctx);
    return TURN_WAIT;
}

static void note_keys(struct turn *t, struct judged *j, const struct cmd_info *info,
                      const struct resp_cmd *cmd)
{
    int n = key_places_of(&t->places, info, cmd);
    for (int i = 0; i < n; i++, j->keys_n++)
        if (j->keys_n < OWNERSHIP_KEYS)
            j->keys[j->keys_n] = turn_key_hash(cmd->argv[t->places.at[i]]);
}

static void note_transaction(struct turn *t, struct judged *j, const char *p, size_t len)
{
    resp_cmd_restart(&t->cmd);
    for (size_t at = 0; at < len && resp_cmd_parse(&t->cmd, p + at, len - at) == 1;
         at += t->cmd.len)
        if (t->cmd.argc)
            note_keys(t, j, cmd_lookup(t->cmd.argc, t->cmd.argv), &t->cmd);
}

static enum turn_verdict judge(struct turn *t, const struct cmd_info *info,
                               const struct resp_cmd *cmd, const struct judged *j)
{
    enum turn_verdict v = TURN_TAKE;
    int n = key_places_of(&t->places, info, cmd), last = -1, kept = 0;
    for (int i = 0; i < n; i++) {
        int slot = slot_of(cmd->argv[t->places.at[i]]);
        if (slot == last)
            continue;
        last = slot;
        v = ask(t, slot, j);
        if (v == TURN_WAIT)
            return v;
        kept += v == TURN_TAKE;
    }
    return kept ? TURN_TAKE : v;
}

// Whether an import counts is known at its end, which lies behind the unit.
static void look_ahead(struct turn *t, uint64_t at, const char *p, size_t n)
{
    size_t done = t->told > at ? (size_t)(t->told - at) : 0;
    resp_cmd_restart(&t->cmd);
    while (done < n && resp_cmd_parse(&t->cmd, p + done, n - done) == 1) {
        done += t->cmd.len;
        if (t->cmd.argc && cmd_lookup(t->cmd.argc, t->cmd.argv) == t->syncslots)
            (void)tell(t, &t->cmd, at + done); // what is wrong with it is told when it is its turn
    }
    t->told = at + done;
}

void turn_stored(struct turn *t, uint64_t position)
{
    t->stored = position;
}

static void begin(struct turn *t)
{
    t->waits = -1;
    t->looks = t->clears = false;
    if (t->dropping)
        memset(t->dropped, 0, sizeof(t->dropped));
    t->dropping = false;
}

enum turn_verdict turn_command(struct turn *t, const struct cmd_info *info,
                               const struct resp_cmd *cmd, uint64_t at, const char *p, size_t n)
{
    begin(t);
    if (info == t->syncslots)
        return tell(t, cmd, at + cmd->len);
    // The old owner's functions come along, in the form of the source's version.
    if (info == t->functions && ownership_replays(t->o.ownership, t->o.lane, at + cmd->len))
        return TURN_DROP;
    struct judged j;
    judged_init(&j, at, at + cmd->len, at + n, info == t->asking);
    if (j.restore)
        t->o.sign(t->o.ctx);
    if (!ownership_quiet(t->o.ownership))
        note_keys(t, &j, info, cmd);
    enum turn_verdict v = judge(t, info, cmd, &j);
    if (t->looks)
        look_ahead(t, at, p, n);
    if (t->waits >= 0)
        turn_ahead_look(t->ahead, t->stored, at, p, n);
    return v;
}

enum turn_verdict turn_transaction(struct turn *t, uint64_t at, const char *p, size_t n)
{
    begin(t);
    size_t len, done = 0;
    if (txn_length(&t->txn, at, p, n, &len) || !len)
        return TURN_WAIT;
    struct judged j;
    judged_init(&j, at, at + len, at + n, false);
    if (!ownership_quiet(t->o.ownership))
        note_transaction(t, &j, p, len);
    enum turn_verdict v = TURN_TAKE;
    resp_cmd_restart(&t->cmd);
    while (done < len && v != TURN_WAIT && resp_cmd_parse(&t->cmd, p + done, n - done) == 1) {
        done += t->cmd.len;
        const struct cmd_info *info = t->cmd.argc ? cmd_lookup(t->cmd.argc, t->cmd.argv) : NULL;
        j.restore = info == t->asking;
        t->clears = t->clears || turn_is_clear(t, info);
        v = judge(t, info, &t->cmd, &j);
    }
    if (t->looks)
        look_ahead(t, at, p, n);
    if (t->waits >= 0)
        turn_ahead_look(t->ahead, t->stored, at, p, n);
    return v == TURN_WAIT ? v : TURN_TAKE;
}

bool turn_is_clear(const struct turn *t, const struct cmd_info *info)
{
    return turn_ahead_is_clear(t->ahead, info);
}

bool turn_clears(const struct turn *t)
{
    return t->clears;
}

const uint8_t *turn_own(const struct turn *t)
{
    return t->own;
}

enum turn_verdict turn_clear(struct turn *t, uint64_t at, uint64_t end)
{
    struct ownership_unit u = {.lane = t->o.lane, .begin = at, .end = end, .received = end};
    t->waits = -1;
    switch (ownership_clear(t->o.ownership, &u, t->own)) {
    case OWNERSHIP_CLEAR:
        return TURN_TAKE;
    case OWNERSHIP_CLEAR_WAIT:
        break;
    case OWNERSHIP_CLEAR_MIXED:
        err_set(&t->err, ERR_UNSUPPORTED,
                "slot %d is being moved away, and which of its keys are gone is not known: a full "
                "sync is needed",
                u.slot);
        return TURN_REFUSE;
    }
    t->waits = u.slot;
    t->o.sign(t->o.ctx);
    return TURN_WAIT;
}

bool turn_drops(struct turn *t, const struct cmd_info *info, const struct resp_cmd *cmd)
{
    if (!t->dropping || key_places_of(&t->places, info, cmd) == 0)
        return false;
    int slot = slot_of(cmd->argv[t->places.at[0]]);
    return slot_set_has(t->dropped, slot);
}

// SPDX-License-Identifier: Apache-2.0
#include "target/turn.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "codec/txn.h"

enum {
    STAND_US = 200 * 1000,
    LOOK_BYTES = 1 << 20, // at once
};

struct turn {
    struct turn_options o;
    const struct ownership_fast *fast;
    const struct cmd_info *syncslots, *asking, *functions;
    int *pos; // of keys
    int pos_cap;
    struct resp_cmd cmd; // of what is looked at ahead
    struct txn_scan txn;
    uint64_t ahead; // marks are told up to here
    uint64_t stored, stand_at, stand_us;
    uint64_t *first; // [SLOT_COUNT]: where the first unit of the slot begins behind stand_at
    uint64_t looked; // that is known up to here
    int waits;       // slot, or -1
    bool holds;
    bool dropping;
    uint8_t dropped[SLOT_COUNT / 8]; // slots of the transaction
    struct err err;
};

// A unit that is judged.
struct judged {
    uint64_t end, received;
    bool restore;
};

struct turn *turn_new(const struct turn_options *o)
{
    struct turn *t = xcalloc(1, sizeof(*t));
    t->o = *o;
    t->fast = ownership_fast(o->ownership);
    t->syncslots = cmd_by_name(SLICE("cluster|syncslots"));
    t->asking = cmd_by_name(SLICE("restore-asking"));
    t->functions = cmd_by_name(SLICE("function|restore"));
    must(t->syncslots && t->asking && t->functions);
    turn_reset(t);
    return t;
}

void turn_free(struct turn *t)
{
    if (!t)
        return;
    resp_cmd_free(&t->cmd);
    resp_cmd_free(&t->txn.cmd);
    free(t->pos);
    free(t->first);
    free(t);
}

void turn_reset(struct turn *t)
{
    txn_restart(&t->txn);
    t->stand_at = UINT64_MAX;
    t->ahead = 0;
    t->waits = -1;
    t->holds = t->dropping = false;
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
                               .end = j->end,
                               .received = j->received};
    switch (ownership_unit(t->o.ownership, &u)) {
    case OWNERSHIP_APPLY:
        return TURN_TAKE;
    case OWNERSHIP_DROP:
        t->dropping = true;
        t->dropped[slot >> 3] |= (uint8_t)(1 << (slot & 7));
        return TURN_DROP;
    case OWNERSHIP_HOLD:
        t->holds = true;
        break;
    case OWNERSHIP_WAIT:
        break;
    }
    t->waits = slot;
    t->o.sign(t->o.ctx);
    return TURN_WAIT;
}

static int keys_of(struct turn *t, const struct cmd_info *info, const struct resp_cmd *cmd)
{
    if (!info || info->flags & (CMD_ADMIN | CMD_KEYLESS | CMD_BROADCAST))
        return 0;
    if (cmd->argc > t->pos_cap) {
        t->pos_cap = 2 * cmd->argc;
        t->pos = xrealloc(t->pos, (size_t)t->pos_cap * sizeof(*t->pos));
    }
    return cmd_keys(info, cmd->argc, cmd->argv, t->pos);
}

static enum turn_verdict judge(struct turn *t, const struct cmd_info *info,
                               const struct resp_cmd *cmd, const struct judged *j)
{
    enum turn_verdict v = TURN_TAKE;
    int n = keys_of(t, info, cmd), last = -1, kept = 0;
    for (int i = 0; i < n; i++) {
        int slot = slot_of(cmd->argv[t->pos[i]]);
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

// A slot is held until the end of an import is known, and that end lies behind the unit.
static void look_ahead(struct turn *t, uint64_t at, const char *p, size_t n)
{
    size_t done = t->ahead > at ? (size_t)(t->ahead - at) : 0;
    resp_cmd_restart(&t->cmd);
    while (done < n && resp_cmd_parse(&t->cmd, p + done, n - done) == 1) {
        done += t->cmd.len;
        if (t->cmd.argc && cmd_lookup(t->cmd.argc, t->cmd.argv) == t->syncslots)
            (void)tell(t, &t->cmd, at + done); // what is wrong with it is told when it is its turn
    }
    t->ahead = at + done;
}

void turn_stored(struct turn *t, uint64_t position)
{
    t->stored = position;
}

static void note_first(struct turn *t, uint64_t at)
{
    const struct cmd_info *info = t->cmd.argc ? cmd_lookup(t->cmd.argc, t->cmd.argv) : NULL;
    int n = keys_of(t, info, &t->cmd);
    for (int i = 0; i < n; i++) {
        uint64_t *first = &t->first[slot_of(t->cmd.argv[t->pos[i]])];
        if (*first > at)
            *first = at;
    }
}

static void stand(struct turn *t, uint64_t at, const char *p, size_t n)
{
    uint64_t now = clock_mono_us();
    if (t->stand_at != at) {
        t->stand_at = t->looked = at;
        t->stand_us = now;
        free(t->first);
        t->first = NULL;
    }
    if (now - t->stand_us < STAND_US || t->stored < at)
        return;
    if (!t->first) {
        t->first = xmalloc(SLOT_COUNT * sizeof(*t->first));
        memset(t->first, 0xff, SLOT_COUNT * sizeof(*t->first));
    }
    size_t done = (size_t)(t->looked - at), end = n - done > LOOK_BYTES ? done + LOOK_BYTES : n;
    resp_cmd_restart(&t->cmd);
    while (done < end && resp_cmd_parse(&t->cmd, p + done, n - done) == 1) {
        note_first(t, at + done);
        done += t->cmd.len;
    }
    t->looked = at + done;
    ownership_ahead(t->o.ownership, t->o.lane, t->first, t->looked);
}

static void begin(struct turn *t)
{
    t->waits = -1;
    t->holds = false;
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
    struct judged j = {at + cmd->len, at + n, info == t->asking};
    if (j.restore)
        t->o.sign(t->o.ctx);
    enum turn_verdict v = judge(t, info, cmd, &j);
    if (t->holds)
        look_ahead(t, at, p, n);
    if (t->waits >= 0)
        stand(t, at, p, n);
    return v;
}

enum turn_verdict turn_transaction(struct turn *t, uint64_t at, const char *p, size_t n)
{
    begin(t);
    size_t len, done = 0;
    if (txn_length(&t->txn, at, p, n, &len) || !len)
        return TURN_WAIT;
    struct judged j = {at + len, at + n, false};
    enum turn_verdict v = TURN_TAKE;
    resp_cmd_restart(&t->cmd);
    while (done < len && v != TURN_WAIT && resp_cmd_parse(&t->cmd, p + done, n - done) == 1) {
        done += t->cmd.len;
        const struct cmd_info *info = t->cmd.argc ? cmd_lookup(t->cmd.argc, t->cmd.argv) : NULL;
        j.restore = info == t->asking;
        v = judge(t, info, &t->cmd, &j);
    }
    if (t->holds)
        look_ahead(t, at, p, n);
    if (t->waits >= 0)
        stand(t, at, p, n);
    return v == TURN_WAIT ? v : TURN_TAKE;
}

bool turn_drops(struct turn *t, const struct cmd_info *info, const struct resp_cmd *cmd)
{
    if (!t->dropping || keys_of(t, info, cmd) <= 0)
        return false;
    int slot = slot_of(cmd->argv[t->pos[0]]);
    return t->dropped[slot >> 3] >> (slot & 7) & 1;
}

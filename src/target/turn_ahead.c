// SPDX-License-Identifier: Apache-2.0
#include "target/turn_ahead.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/mem.h"

enum {
    STAND_US = 200 * 1000,
    LOOK_BYTES = 1 << 20, // at once
    KEYS_MAX = 1 << 19,   // 16 MiB; what follows the last of them is not looked at
};

// Keys of slots that move, by hash; first 0: free.
struct seen_key {
    uint64_t hash, first;
};

struct turn_ahead {
    struct ownership *o;
    int lane;
    const struct cmd_info *flushall, *flushdb;
    uint64_t at, since_us;
    bool looking;
    uint64_t looked;            // known up to here
    uint64_t unsettled;         // what was moving when it began
    uint64_t first[SLOT_COUNT]; // where the first unit of a slot begins
    uint64_t first_clear;       // ... the first of all of them
    struct seen_key *keys;
    size_t keys_n, keys_cap;
    struct key_places places;
    struct resp_cmd cmd;
};

int key_places_of(struct key_places *k, const struct cmd_info *info, const struct resp_cmd *cmd)
{
    if (!info || info->flags & (CMD_ADMIN | CMD_KEYLESS | CMD_BROADCAST))
        return 0;
    if (cmd->argc > k->cap) {
        k->cap = 2 * cmd->argc;
        k->at = xrealloc(k->at, (size_t)k->cap * sizeof(*k->at));
    }
    int n = cmd_keys(info, cmd->argc, cmd->argv, k->at);
    return n > 0 ? n : 0;
}

void key_places_free(struct key_places *k)
{
    free(k->at);
}

uint64_t turn_key_hash(struct slice key)
{
    return XXH3_64bits(key.p, key.n);
}

struct turn_ahead *turn_ahead_new(struct ownership *o, int lane)
{
    struct turn_ahead *a = xcalloc(1, sizeof(*a));
    a->o = o;
    a->lane = lane;
    a->flushall = cmd_by_name(SLICE("flushall"));
    a->flushdb = cmd_by_name(SLICE("flushdb"));
    must(a->flushall && a->flushdb);
    turn_ahead_reset(a);
    return a;
}

static void forget(struct turn_ahead *a)
{
    free(a->keys);
    a->keys = NULL;
    a->keys_n = a->keys_cap = 0;
    a->looking = false;
}

void turn_ahead_reset(struct turn_ahead *a)
{
    forget(a);
    a->at = UINT64_MAX;
}

void turn_ahead_free(struct turn_ahead *a)
{
    forget(a);
    key_places_free(&a->places);
    resp_cmd_free(&a->cmd);
    free(a);
}

static struct seen_key *find(const struct turn_ahead *a, uint64_t hash)
{
    size_t i = hash & (a->keys_cap - 1);
    while (a->keys[i].first && a->keys[i].hash != hash)
        i = (i + 1) & (a->keys_cap - 1);
    return &a->keys[i];
}

static void grow(struct turn_ahead *a)
{
    struct seen_key *old = a->keys;
    size_t n = a->keys_cap;
    a->keys_cap = n ? 2 * n : 1024;
    a->keys = xcalloc(a->keys_cap, sizeof(*a->keys));
    for (size_t i = 0; i < n; i++)
        if (old[i].first)
            *find(a, old[i].hash) = old[i];
    free(old);
}

static void note_key(struct turn_ahead *a, uint64_t hash, uint64_t at)
{
    if (2 * a->keys_n >= a->keys_cap)
        grow(a);
    struct seen_key *k = find(a, hash);
    if (k->first)
        return;
    *k = (struct seen_key){hash, at};
    a->keys_n++;
}

static uint64_t first_of(const void *ctx, uint64_t key)
{
    const struct turn_ahead *a = ctx;
    const struct seen_key *k = a->keys_n ? find(a, key) : NULL;
    uint64_t first = k && k->first ? k->first : UINT64_MAX;
    return first < a->first_clear ? first : a->first_clear;
}

bool turn_ahead_is_clear(const struct turn_ahead *a, const struct cmd_info *info)
{
    return info && (info == a->flushall || info == a->flushdb);
}

static void note_clear(struct turn_ahead *a, uint64_t at)
{
    for (int s = 0; s < SLOT_COUNT; s++)
        if (a->first[s] > at)
            a->first[s] = at;
    if (a->first_clear > at)
        a->first_clear = at;
}

static void note_unit(struct turn_ahead *a, uint64_t at)
{
    const struct cmd_info *info = a->cmd.argc ? cmd_lookup(a->cmd.argc, a->cmd.argv) : NULL;
    if (turn_ahead_is_clear(a, info))
        note_clear(a, at);
    int n = key_places_of(&a->places, info, &a->cmd);
    for (int i = 0; i < n; i++) {
        struct slice key = a->cmd.argv[a->places.at[i]];
        int slot = slot_of(key);
        if (a->first[slot] > at)
            a->first[slot] = at;
        if (ownership_moves(ownership_fast(a->o), slot))
            note_key(a, turn_key_hash(key), at);
    }
}

static void begin(struct turn_ahead *a)
{
    forget(a);
    a->unsettled = ownership_unsettled(a->o);
    a->looking = true;
    a->looked = a->at;
    memset(a->first, 0xff, sizeof(a->first));
    a->first_clear = UINT64_MAX;
}

void turn_ahead_look(struct turn_ahead *a, uint64_t stored, uint64_t at, const char *p, size_t n)
{
    uint64_t now = clock_mono_us();
    if (a->at != at) {
        forget(a);
        a->at = at;
        a->since_us = now;
    }
    if (now - a->since_us < STAND_US || stored < at)
        return;
    // Keys of a slot that has begun to move since were not noted.
    if (!a->looking || a->unsettled != ownership_unsettled(a->o))
        begin(a);
    size_t done = (size_t)(a->looked - at), end = n - done > LOOK_BYTES ? done + LOOK_BYTES : n;
    resp_cmd_restart(&a->cmd);
    while (done < end && a->keys_n < KEYS_MAX && resp_cmd_parse(&a->cmd, p + done, n - done) == 1) {
        note_unit(a, at + done);
        done += a->cmd.len;
    }
    a->looked = at + done;
    struct ownership_ahead found = {.upto = a->looked,
                                    .unsettled = a->unsettled,
                                    .first = a->first,
                                    .first_of = first_of,
                                    .ctx = a};
    ownership_ahead(a->o, a->lane, &found);
}

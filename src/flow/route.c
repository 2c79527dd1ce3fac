// SPDX-License-Identifier: Apache-2.0
#include "flow/route.h"

#include <limits.h>
#include <stdlib.h>

#include "base/mem.h"
#include "codec/slot.h"

struct route_seen {
    uint32_t round; // of the command that had a key in the slot
    int index;      // in its slots
};

// Commands that read keys and write another one. A source propagates RENAMENX only when it renamed;
// blocking forms are never in a stream but mean the same.
static const struct staged {
    const char *name;
    bool writes_last; // the last of its keys is written, else the first
    bool drains;      // the key that it takes from is changed as well
} staged[] = {
    {"sunionstore", false, false}, {"sinterstore", false, false},
    {"sdiffstore", false, false},  {"zunionstore", false, false},
    {"zinterstore", false, false}, {"zdiffstore", false, false},
    {"zrangestore", false, false}, {"geosearchstore", false, false},
    {"pfmerge", false, false},     {"bitop", false, false},
    {"cms.merge", false, false},   {"tdigest.merge", false, false},
    {"copy", true, false},         {"sort", true, false},
    {"georadius", true, false},    {"georadiusbymember", true, false},
    {"rename", true, true},        {"renamenx", true, true},
    {"smove", true, true},         {"lmove", true, true},
    {"blmove", true, true},        {"rpoplpush", true, true},
    {"brpoplpush", true, true},
};

// What splits beyond cmd_splittable, because here no key is left out.
static const struct split {
    const char *name, *part;
    int first, step;
} splits[] = {
    {"msetnx", "MSET", 1, 2},
    {"msetex", NULL, 2, 2},
};

void route_free(struct route *r)
{
    free(r->slots);
    free(r->pos);
    free(r->next);
    free(r->part);
    free(r->seen);
    *r = (struct route){0};
}

static enum route_kind refuse(struct route *r, const char *reason)
{
    r->reason = reason;
    return r->kind = ROUTE_REFUSED;
}

static enum route_kind to_slot(struct route *r, int slot)
{
    r->slot = slot;
    return r->kind = ROUTE_SLOT;
}

static bool is(const struct cmd_info *info, const char *name)
{
    return strcmp(info->name, name) == 0;
}

static bool is_script(const struct cmd_info *info)
{
    return strcmp(info->group, "SCRIPTING") == 0;
}

static enum route_kind without_keys(struct route *r, const struct cmd_info *info)
{
    if (info->flags & CMD_ADMIN)
        return refuse(r, "it concerns a server, not its data");
    if (is(info, "publish") || is(info, "spublish"))
        return to_slot(r, slot_of(r->argv[1]));
    if (is(info, "swapdb"))
        return refuse(r, "clusters have no SWAPDB");
    if (info->flags & CMD_BROADCAST)
        return r->kind = ROUTE_EVERY;
    if (is_script(info))
        return refuse(r, "a script that names no keys may touch any; in a cluster no node has all");
    return refuse(r, "it names no key, so no node of the cluster can be chosen");
}

static void reserve(struct route *r, int argc)
{
    if (argc <= r->cap)
        return;
    r->cap = argc < 16 ? 16 : argc < INT_MAX / 2 ? 2 * argc : argc;
    r->pos = xrealloc(r->pos, (size_t)r->cap * sizeof(*r->pos));
    r->next = xrealloc(r->next, (size_t)r->cap * sizeof(*r->next));
}

static void add_slot(struct route *r, int slot, int key)
{
    if (r->slots_n == r->slots_cap) {
        r->slots_cap = r->slots_cap ? 2 * r->slots_cap : 16;
        r->slots = xrealloc(r->slots, (size_t)r->slots_cap * sizeof(*r->slots));
    }
    r->slots[r->slots_n++] = (struct route_slot){slot, 1, key, key};
}

static void add_key(struct route *r, int slot, int key)
{
    struct route_seen *seen = &r->seen[slot];
    r->next[key] = -1;
    if (seen->round != r->round) {
        *seen = (struct route_seen){r->round, r->slots_n};
        add_slot(r, slot, key);
        return;
    }
    struct route_slot *s = &r->slots[seen->index];
    r->next[s->last] = key;
    s->last = key;
    s->keys++;
}

static void group_keys(struct route *r)
{
    if (!r->seen)
        r->seen = xcalloc(SLOT_COUNT, sizeof(*r->seen));
    if (++r->round == 0) {
        memset(r->seen, 0, SLOT_COUNT * sizeof(*r->seen));
        r->round = 1;
    }
    r->slots_n = 0;
    for (int i = 0; i < r->keys; i++)
        add_key(r, slot_of(r->argv[r->pos[i]]), i);
}

static bool find_slots(struct route *r)
{
    int slot = slot_of(r->argv[r->pos[0]]), i = 1;
    while (i < r->keys && slot_of(r->argv[r->pos[i]]) == slot)
        i++;
    if (i == r->keys) {
        add_slot(r, slot, 0);
        r->slots[0].keys = r->keys;
        return true;
    }
    group_keys(r);
    return false;
}

static bool splits_into(struct route *r, const struct cmd_info *info)
{
    r->name = NULL;
    if (cmd_splittable(info, &r->first, &r->step))
        return true;
    for (size_t i = 0; i < sizeof(splits) / sizeof(splits[0]); i++) {
        if (!is(info, splits[i].name))
            continue;
        r->name = splits[i].part;
        r->first = splits[i].first;
        r->step = splits[i].step;
        return true;
    }
    return false;
}

static enum route_kind split(struct route *r)
{
    int64_t end = r->first + (int64_t)r->keys * r->step;
    if (end > r->argc)
        return refuse(r, "a key lacks its arguments");
    return r->kind = ROUTE_SPLIT;
}

static enum route_kind stage(struct route *r, const struct staged *s)
{
    r->written = r->pos[0];
    for (int i = 1; i < r->keys && s->writes_last; i++)
        if (r->pos[i] > r->written)
            r->written = r->pos[i];
    r->drained = s->drains ? r->pos[0] : 0;
    r->slot = slot_of(r->argv[r->written]);
    return r->kind = ROUTE_STAGE;
}

static enum route_kind over_slots(struct route *r, const struct cmd_info *info)
{
    if (splits_into(r, info))
        return split(r);
    for (size_t i = 0; i < sizeof(staged) / sizeof(staged[0]); i++)
        if (is(info, staged[i].name))
            return stage(r, &staged[i]);
    if (is_script(info))
        return refuse(r, "the keys of the script lie in several slots of the cluster");
    return refuse(r, "its keys lie in several slots of the cluster, and it does not split");
}

enum route_kind route_command(struct route *r, const struct cmd_info *info, int argc,
                              const struct slice *argv)
{
    r->argc = argc;
    r->argv = argv;
    r->keys = r->slots_n = 0;
    if (!info)
        return refuse(r, "the command is unknown, and so are its keys");
    reserve(r, argc);
    r->keys = info->flags & CMD_ADMIN ? 0 : cmd_keys(info, argc, argv, r->pos);
    if (r->keys < 0) {
        r->keys = 0;
        return refuse(r, "its arguments do not tell its keys");
    }
    if (r->keys == 0)
        return without_keys(r, info);
    return find_slots(r) ? to_slot(r, r->slots[0].slot) : over_slots(r, info);
}

// ---- parts ----

static bool is_condition(struct slice word)
{
    return slice_ieq(word, SLICE("nx")) || slice_ieq(word, SLICE("xx"));
}

struct rewrite_cmd route_part(struct route *r, int i)
{
    const struct route_slot *s = &r->slots[i];
    if (r->part_cap < r->argc) {
        r->part_cap = r->cap;
        r->part = xrealloc(r->part, (size_t)r->part_cap * sizeof(*r->part));
    }
    int n = 0;
    r->part[n++] = r->name ? slice_cstr(r->name) : r->argv[0];
    if (r->first > 1)
        r->part[n++] = slice_make(r->count, i64_format(r->count, s->keys));
    for (int key = s->first; key >= 0; key = r->next[key])
        for (int k = 0; k < r->step; k++)
            r->part[n++] = r->argv[r->pos[key] + k];
    for (int k = r->first + r->keys * r->step; k < r->argc; k++)
        if (!is_condition(r->argv[k]))
            r->part[n++] = r->argv[k];
    return (struct rewrite_cmd){n, r->part};
}

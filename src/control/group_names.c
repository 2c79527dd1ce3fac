// SPDX-License-Identifier: Apache-2.0
// What the nodes of the group have to know of shards whoever leads them: what those of a source
// cluster are called, which are over, which are not to run.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/group_int.h"

enum { DONE_MS = 3600 * 1000 }; // nodes that are away for longer find out by leading the shard

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// What some id is called already wins over what was put here just now.
static int agree_on_name(struct registry *r, const char **ids, size_t n, const char *wanted,
                         char out[GROUP_SHARD], struct err *e)
{
    bool found = false;
    snprintf(out, GROUP_SHARD, "%s", wanted);
    for (size_t i = 0; i < n; i++) {
        char *key = xasprintf(REGISTRY_SHARD_OF "%s", ids[i]), *there = NULL;
        int rc = registry_put_if_absent(r, key, out, false, &there, e);
        free(key);
        bool other = rc == 0 && there && *there && strcmp(there, out) != 0;
        if (other && !found) {
            snprintf(out, GROUP_SHARD, "%s", there);
            for (size_t k = 0; k < i && rc >= 0; k++) {
                key = xasprintf(REGISTRY_SHARD_OF "%s", ids[k]);
                rc = registry_put(r, key, out, 0, e);
                free(key);
            }
        }
        found = found || (rc == 0 && there && *there);
        free(there);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int open_names(struct group *g, struct err *e)
{
    return g->names ? 0 : registry_open(&g->names, &g->registry->o, e);
}

int group_shard_name(struct group *g, const char *const *ids, size_t n, const char *wanted,
                     char out[GROUP_SHARD], struct err *e)
{
    const char **sorted = xcalloc(n + 1, sizeof(*sorted));
    if (n)
        memcpy(sorted, ids, n * sizeof(*sorted));
    // In one order, so that two nodes that name a new shard at a time agree. A replica may have
    // been in another shard once, so where the master has a name that one counts.
    qsort(sorted, n, sizeof(*sorted), by_text);
    uv_mutex_lock(&g->names_lock);
    int rc = open_names(g, e);
    if (rc == 0)
        rc = agree_on_name(g->names, sorted, n, wanted, out, e);
    if (rc == 0 && n)
        rc = agree_on_name(g->names, (const char *[]){ids[0]}, 1, out, out, e);
    uv_mutex_unlock(&g->names_lock);
    free(sorted);
    return rc;
}

// value NULL: the key goes.
static int set(struct group *g, const char *dir, const char *name, const char *value,
               int64_t ttl_ms, struct err *e)
{
    char *key = xasprintf("%s%s", dir, name);
    uv_mutex_lock(&g->names_lock);
    int rc = open_names(g, e);
    if (rc == 0)
        rc = value ? registry_put(g->names, key, value, ttl_ms, e) : registry_del(g->names, key, e);
    uv_mutex_unlock(&g->names_lock);
    free(key);
    return rc;
}

// *value: new, or NULL.
static int get(struct group *g, const char *dir, const char *name, char **value, struct err *e)
{
    char *key = xasprintf("%s%s", dir, name);
    *value = NULL;
    uv_mutex_lock(&g->names_lock);
    int rc = open_names(g, e);
    if (rc == 0)
        rc = registry_get(g->names, key, value, e);
    uv_mutex_unlock(&g->names_lock);
    free(key);
    return rc;
}

int group_name_master(struct group *g, const char *id, const char *shard, struct err *e)
{
    return set(g, REGISTRY_SHARD_OF, id, shard, 0, e);
}

int group_set_done(struct group *g, const char *shard, struct err *e)
{
    int rc = set(g, REGISTRY_NOTES, shard, GROUP_DONE, DONE_MS, e);
    return rc ? rc : set(g, REGISTRY_HALTED, shard, NULL, 0, e);
}

int group_set_undone(struct group *g, const char *shard, struct err *e)
{
    char *note;
    int rc = get(g, REGISTRY_NOTES, shard, &note, e);
    if (rc == 0 && note && strcmp(note, GROUP_DONE) == 0)
        rc = set(g, REGISTRY_NOTES, shard, NULL, 0, e);
    free(note);
    return rc;
}

static const char *const halts[] = {
    [GROUP_RUNS] = NULL, [GROUP_PAUSED] = "pause", [GROUP_STOPPED] = "stop"};

int group_set_halt(struct group *g, const char *shard, enum group_halt halt, struct err *e)
{
    return set(g, REGISTRY_HALTED, shard, halts[halt], 0, e);
}

int group_halt(struct group *g, const char *shard, enum group_halt *out, struct err *e)
{
    char *there;
    int rc = get(g, REGISTRY_HALTED, shard, &there, e);
    *out = GROUP_RUNS;
    for (size_t i = GROUP_PAUSED; there && i <= GROUP_STOPPED; i++)
        if (strcmp(there, halts[i]) == 0)
            *out = (enum group_halt)i;
    free(there);
    return rc;
}

bool group_is_done(struct group *g, const char *shard)
{
    bool done = false;
    uv_mutex_lock(&g->lock);
    for (size_t i = 0; i < g->shards_n; i++)
        done = done || (strcmp(g->shards[i]->name, shard) == 0 && g->shards[i]->done);
    uv_mutex_unlock(&g->lock);
    return done;
}

// SPDX-License-Identifier: Apache-2.0
#include "control/registry.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int registry_open(struct registry **out, const struct registry_options *o, struct err *e)
{
    // Keys of another group would lie below ours.
    if (!*o->group || strchr(o->group, '/'))
        return err_set(e, ERR_CONFIG, "cluster.groupName must not be empty or hold a '/'");
    return o->cluster->etcd.present ? registry_open_etcd(out, o, e)
                                    : registry_open_redis(out, o, e);
}

void registry_close(struct registry *r)
{
    if (r)
        r->ops->close(r);
}

int registry_join(struct registry *r, int64_t *since, struct err *e)
{
    return r->ops->join(r, since, e);
}

int registry_renew(struct registry *r, struct registry_hold *holds, size_t n, int64_t *since,
                   struct err *e)
{
    return r->ops->renew(r, holds, n, since, e);
}

int registry_campaign(struct registry *r, const char *shard, struct registry_won *out,
                      struct err *e)
{
    return r->ops->campaign(r, shard, out, e);
}

int registry_resign(struct registry *r, const char *shard, uint64_t token, struct err *e)
{
    return r->ops->resign(r, shard, token, e);
}

int registry_view(struct registry *r, const char *const *shards, size_t n,
                  struct registry_view *out, struct err *e)
{
    *out = (struct registry_view){0};
    int rc = r->ops->view(r, shards, n, out, e);
    if (rc)
        registry_view_free(out);
    return rc;
}

int registry_put(struct registry *r, const char *key, const char *value, int64_t ttl_ms,
                 struct err *e)
{
    return r->ops->put(r, key, value, ttl_ms, e);
}

int registry_put_if_absent(struct registry *r, const char *key, const char *value, bool leased,
                           char **there, struct err *e)
{
    *there = NULL;
    return r->ops->put_if_absent(r, key, value, leased, there, e);
}

int registry_keep(struct registry *r, const char *key, const char *value, struct err *e)
{
    return r->ops->keep(r, key, value, e);
}

int registry_get(struct registry *r, const char *key, char **value, struct err *e)
{
    *value = NULL;
    return r->ops->get(r, key, value, e);
}

int registry_del(struct registry *r, const char *key, struct err *e)
{
    return r->ops->del(r, key, e);
}

int registry_watch(struct registry *r, int timeout_ms, const atomic_bool *cancel, struct err *e)
{
    return r->ops->watch(r, timeout_ms, cancel, e);
}

void registry_leave(struct registry *r)
{
    r->ops->leave(r);
}

char *registry_key(const struct registry *r, const char *key)
{
    return xasprintf(REGISTRY_ROOT "%s/%s", r->o.group, key);
}

int registry_timeout_ms(const struct registry *r)
{
    int64_t part = r->o.cluster->lease_timeout_ms / 6;
    int64_t most = r->o.cluster->etcd.present ? r->o.cluster->etcd.dial_timeout_ms : 5000;
    part = part > 5000 ? 5000 : part;
    return (int)(part < most ? part : most);
}

void registry_add(struct registry_entries *list, const char *key, size_t key_n, const char *value,
                  size_t value_n, uint64_t token, bool mine)
{
    list->v = xrealloc(list->v, (list->n + 1) * sizeof(*list->v));
    list->v[list->n++] = (struct registry_entry){
        .key = xstrndup(key, key_n),
        .value = value ? xstrndup(value, value_n) : NULL,
        .token = token,
        .mine = mine,
    };
}

struct registry_entry *registry_find(const struct registry_entries *list, const char *key)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->v[i].key, key) == 0)
            return &list->v[i];
    return NULL;
}

static void free_entries(struct registry_entries *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free(list->v[i].key);
        free(list->v[i].value);
    }
    free(list->v);
}

void registry_view_free(struct registry_view *v)
{
    free_entries(&v->claims);
    free_entries(&v->nodes);
    free_entries(&v->notes);
    free_entries(&v->unknown);
    free(v->source);
    *v = (struct registry_view){0};
}

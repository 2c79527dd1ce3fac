// SPDX-License-Identifier: Apache-2.0
#include "control/shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/log.h"
#include "base/mem.h"

enum { MISSES = 2, SHORT_ID = 12, SEEDS_MAX = 4096 };

struct shard {
    struct shards *set;
    char name[SHARD_NAME];
    int number;
    // guarded by the set's lock
    struct shard_nodes nodes;
    struct endpoint master;
    bool master_failed;
    char **addresses; // of the nodes that are in it now
    size_t addresses_n;
    bool wanted; // mode static: a seed is in it
    bool seen;   // in the answer that is being taken in
    bool here;
    int misses; // looks in a row
};

struct shards {
    struct shards_options o;
    uv_mutex_t lock; // guards all below
    struct shard_names *names;
    struct shard **v;
    size_t n;
    int16_t owner[CLUSTER_SLOTS]; // number of a shard, or -1; at the last look
    int covered;                  // slots with an owner, at the last look
    struct endpoint *known;       // nodes of the last look
    size_t known_n;
    char (*seed_ids)[CLUSTER_NODE_ID + 1]; // mode static; "" while a seed has not told
    struct err failed;                     // the last look; code 0: it did not
};

struct shards *shards_new(const struct shards_options *o)
{
    struct shards *s = xcalloc(1, sizeof(*s));
    struct err e = {0};
    s->o = *o;
    memset(s->owner, -1, sizeof(s->owner));
    must(uv_mutex_init(&s->lock) == 0);
    s->seed_ids = xcalloc(o->seeds_n, sizeof(*s->seed_ids));
    if (shard_names_load(&s->names, o->names_path, &e))
        log_warn(NULL, "the shards of an earlier run are not known: %s", e.msg);
    return s;
}

static void free_known(struct shards *s)
{
    for (size_t i = 0; i < s->known_n; i++)
        endpoint_free(&s->known[i]);
    free(s->known);
    s->known = NULL;
    s->known_n = 0;
}

static void free_addresses(struct shard *h)
{
    for (size_t i = 0; i < h->addresses_n; i++)
        free(h->addresses[i]);
    free(h->addresses);
    h->addresses = NULL;
    h->addresses_n = 0;
}

void shards_free(struct shards *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++) {
        free_addresses(s->v[i]);
        endpoint_free(&s->v[i]->master);
        free(s->v[i]);
    }
    free(s->v);
    free_known(s);
    free(s->seed_ids);
    shard_names_free(s->names);
    uv_mutex_destroy(&s->lock);
    free(s);
}

// ---- taking in what the cluster says ----

static void nodes_of(const struct cluster_shard *c, struct shard_nodes *out)
{
    out->n = 0;
    shard_nodes_add(out, c->master.id);
    for (size_t i = 0; i < c->replicas_n; i++)
        shard_nodes_add(out, c->replicas[i].id);
}

static struct shard *find_by(struct shards *s, const struct shard_nodes *nodes, size_t first,
                             size_t end)
{
    for (size_t k = first; k < end; k++)
        for (size_t i = 0; i < s->n; i++)
            if (!s->v[i]->seen && shard_nodes_have(&s->v[i]->nodes, nodes->ids[k]))
                return s->v[i];
    return NULL;
}

static bool name_is_used(const struct shards *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->v[i]->name, name) == 0)
            return true;
    return false;
}

static struct shard *add_shard(struct shards *s, const struct shard_nodes *nodes)
{
    struct shard *h = xcalloc(1, sizeof(*h));
    const char *name = shard_names_find(s->names, nodes);
    h->set = s;
    if (name && !name_is_used(s, name))
        snprintf(h->name, sizeof(h->name), "%s", name);
    else
        snprintf(h->name, sizeof(h->name), "shard-%.*s", SHORT_ID, nodes->ids[0]);
    // A node may have founded a shard, left it and founded another.
    for (int i = 2; name_is_used(s, h->name) || (!name && shard_names_taken(s->names, h->name));
         i++)
        snprintf(h->name, sizeof(h->name), "shard-%.*s-%d", SHORT_ID, nodes->ids[0], i);
    s->v = xrealloc(s->v, (s->n + 1) * sizeof(struct shard *));
    h->number = (int)s->n;
    s->v[s->n++] = h;
    return h;
}

static void add_address(struct shard *h, const struct endpoint *ep)
{
    char name[300];
    h->addresses = xrealloc(h->addresses, (h->addresses_n + 1) * sizeof(char *));
    h->addresses[h->addresses_n++] = xstrdup(endpoint_name(ep, name, sizeof(name)));
}

static void add_known(struct shards *s, struct shard *h, const struct cluster_node *node)
{
    struct endpoint ep;
    cluster_endpoint(&ep, node, &s->o.seeds[0]);
    add_address(h, &ep);
    s->known = xrealloc(s->known, (s->known_n + 1) * sizeof(*s->known));
    s->known[s->known_n++] = ep;
}

// Nodes that were in the shard and are in none now stay: they may come back.
static void keep_nodes(const struct cluster_map *m, const struct shard_nodes *old,
                       struct shard_nodes *now)
{
    for (size_t i = 0; i < old->n; i++)
        if (cluster_shard_of(m, old->ids[i]) == CLUSTER_NO_SHARD)
            shard_nodes_add(now, old->ids[i]);
}

// A node that is in another shard now says nothing of this one any more.
static void forget_nodes(const struct cluster_map *m, struct shard_nodes *nodes)
{
    struct shard_nodes left = {.n = 0};
    keep_nodes(m, nodes, &left);
    *nodes = left;
}

static bool has_seed(const struct shards *s, const struct shard *h)
{
    for (size_t i = 0; i < s->o.seeds_n; i++)
        if (s->seed_ids[i][0] && shard_nodes_have(&h->nodes, s->seed_ids[i]))
            return true;
    return false;
}

static void update_shard(struct shards *s, struct shard *h, const struct cluster_map *m,
                         const struct cluster_shard *c)
{
    char was[300], now[300];
    struct shard_nodes nodes;
    struct endpoint master;
    nodes_of(c, &nodes);
    keep_nodes(m, &h->nodes, &nodes);
    h->nodes = nodes;
    h->seen = true;
    h->misses = 0;
    cluster_endpoint(&master, &c->master, &s->o.seeds[0]);
    endpoint_name(&h->master, was, sizeof(was));
    endpoint_name(&master, now, sizeof(now));
    if (!h->here)
        log_info(h->name, "a shard of %d slots, its master is %s", c->slots, now);
    else if (strcmp(was, now) != 0)
        log_info(h->name, "its master is %s now, it was %s", now, was);
    h->here = true;
    endpoint_free(&h->master);
    h->master = master;
    h->master_failed = c->master.failed;
    free_addresses(h);
    add_known(s, h, &c->master);
    for (size_t i = 0; i < c->replicas_n && s->known_n < SEEDS_MAX; i++)
        add_known(s, h, &c->replicas[i]);
    h->wanted = h->wanted || !s->o.only_seeds || has_seed(s, h);
    shard_names_put(s->names, h->name, &h->nodes);
}

static void take(struct shards *s, const struct cluster_map *m)
{
    struct shard **of = xcalloc(m->shards_n, sizeof(struct shard *));
    for (size_t i = 0; i < s->n; i++)
        s->v[i]->seen = false;
    // A master says more of where a shard went than a replica, which may have been lent out.
    for (int by_replica = 0; by_replica < 2; by_replica++) {
        for (size_t i = 0; i < m->shards_n; i++) {
            struct shard_nodes nodes;
            nodes_of(&m->shards[i], &nodes);
            if (of[i])
                continue;
            of[i] = by_replica ? find_by(s, &nodes, 1, nodes.n) : find_by(s, &nodes, 0, 1);
            if (of[i])
                of[i]->seen = true;
        }
    }
    free_known(s);
    for (size_t i = 0; i < m->shards_n; i++) {
        struct shard_nodes nodes;
        nodes_of(&m->shards[i], &nodes);
        if (nodes.n && !of[i])
            of[i] = add_shard(s, &nodes);
        if (nodes.n)
            update_shard(s, of[i], m, &m->shards[i]);
    }
    for (int slot = 0; slot < CLUSTER_SLOTS; slot++) {
        const struct shard *h = m->owner[slot] >= 0 ? of[m->owner[slot]] : NULL;
        s->owner[slot] = (int16_t)(h && h->wanted ? h->number : -1);
    }
    for (size_t i = 0; i < s->n; i++) {
        struct shard *h = s->v[i];
        if (!h->seen)
            forget_nodes(m, &h->nodes);
        // What is missing together with its slots is an answer that is not whole.
        if (h->seen || !h->here || m->covered < s->covered || ++h->misses < MISSES)
            continue;
        h->here = false;
        log_info(h->name, "the shard has left the cluster: others have its slots");
    }
    s->covered = m->covered;
    free(of);
}

void shards_take(struct shards *s, const struct cluster_map *m)
{
    struct err e = {0};
    uv_mutex_lock(&s->lock);
    take(s, m);
    if (shard_names_save(s->names, &e))
        log_warn(NULL, "the names of the shards are not kept: %s", e.msg);
    uv_mutex_unlock(&s->lock);
}

// ---- asking ----

// Nodes of the last look first: a configured one may have left the cluster since.
static struct endpoint *copy_seeds(struct shards *s, size_t *n)
{
    uv_mutex_lock(&s->lock);
    struct endpoint *v = xcalloc(s->known_n + s->o.seeds_n, sizeof(*v));
    *n = 0;
    for (size_t i = 0; i < s->known_n; i++)
        endpoint_copy(&v[(*n)++], &s->known[i]);
    for (size_t i = 0; i < s->o.seeds_n; i++)
        endpoint_copy(&v[(*n)++], &s->o.seeds[i]);
    uv_mutex_unlock(&s->lock);
    return v;
}

static bool stopping(const struct shards *s)
{
    return s->o.stop && atomic_load(s->o.stop);
}

static bool any_failed(const struct cluster_map *m)
{
    for (size_t i = 0; i < m->shards_n; i++)
        if (m->shards[i].master.failed)
            return true;
    return false;
}

// Whoever still has a failed master may not have heard of its successor; then others are asked.
static int ask(struct shards *s, struct cluster_map *out, struct err *e)
{
    size_t n;
    struct endpoint *seeds = copy_seeds(s, &n);
    bool have = false;
    struct err all = {0};
    for (size_t i = 0; i < n && !stopping(s); i++) {
        struct cluster_map m = {0};
        struct err one = {0};
        if (cluster_ask(&m, &seeds[i], s->o.timeout_ms, &one)) {
            err_join(&all, &one);
            continue;
        }
        if (have)
            cluster_free(out);
        *out = m;
        have = true;
        if (!any_failed(&m))
            break;
    }
    for (size_t i = 0; i < n; i++)
        endpoint_free(&seeds[i]);
    free(seeds);
    if (have)
        return 0;
    if (!all.code)
        err_set(&all, ERR_CLOSED, "stopped");
    if (e)
        *e = all;
    return all.code;
}

static int ask_id(const struct endpoint *seed, int timeout_ms, char *id)
{
    struct redis_client *c;
    struct redis_reply reply;
    if (redis_connect(&c, seed, timeout_ms, NULL))
        return ERR_CLOSED;
    int rc = redis_call(c, &reply, NULL, "CLUSTER MYID");
    if (rc == 0 && reply.root.text.n == CLUSTER_NODE_ID)
        memcpy(id, reply.root.text.p, CLUSTER_NODE_ID);
    else
        rc = ERR_PROTOCOL;
    redis_close(c);
    return rc;
}

// An address may be one of several of its node, so the node is asked who it is.
static void ask_seed_ids(struct shards *s)
{
    for (size_t i = 0; i < s->o.seeds_n && !stopping(s); i++) {
        char id[CLUSTER_NODE_ID + 1] = "";
        uv_mutex_lock(&s->lock);
        bool known = s->seed_ids[i][0];
        uv_mutex_unlock(&s->lock);
        if (known || ask_id(&s->o.seeds[i], s->o.timeout_ms, id))
            continue;
        uv_mutex_lock(&s->lock);
        memcpy(s->seed_ids[i], id, sizeof(id));
        uv_mutex_unlock(&s->lock);
    }
}

int shards_look(struct shards *s, struct err *e)
{
    struct cluster_map m = {0};
    struct err failed = {0};
    if (s->o.only_seeds)
        ask_seed_ids(s);
    int rc = ask(s, &m, &failed);
    if (rc == 0) {
        shards_take(s, &m);
        cluster_free(&m);
    } else if (e) {
        *e = failed;
    }
    uv_mutex_lock(&s->lock);
    s->failed = failed;
    uv_mutex_unlock(&s->lock);
    return rc;
}

bool shards_unsettled(struct shards *s, struct err *e)
{
    uv_mutex_lock(&s->lock);
    bool unsettled = s->failed.code != 0 || s->n == 0;
    if (e)
        *e = s->failed;
    for (size_t i = 0; i < s->n; i++)
        unsettled = unsettled || (s->v[i]->here && s->v[i]->misses > 0);
    uv_mutex_unlock(&s->lock);
    return unsettled;
}

size_t shards_list(struct shards *s, struct shard ***out)
{
    uv_mutex_lock(&s->lock);
    size_t n = s->n;
    *out = xcalloc(n, sizeof(struct shard *));
    for (size_t i = 0; i < n; i++)
        (*out)[i] = s->v[i];
    uv_mutex_unlock(&s->lock);
    return n;
}

// ---- one shard ----

const char *shard_name(const struct shard *h)
{
    return h->name;
}

bool shard_is_here(struct shard *h)
{
    uv_mutex_lock(&h->set->lock);
    bool here = h->here && h->wanted;
    uv_mutex_unlock(&h->set->lock);
    return here;
}

void shard_master(struct shard *h, char *out, size_t cap)
{
    uv_mutex_lock(&h->set->lock);
    endpoint_name(&h->master, out, cap);
    uv_mutex_unlock(&h->set->lock);
}

void shard_nodes_of(struct shard *h, struct shard_nodes *out)
{
    uv_mutex_lock(&h->set->lock);
    *out = h->nodes;
    uv_mutex_unlock(&h->set->lock);
}

bool shard_has_address(struct shard *h, struct slice address)
{
    bool has = false;
    uv_mutex_lock(&h->set->lock);
    for (size_t i = 0; i < h->addresses_n && !has; i++)
        has = slice_eq(address, slice_cstr(h->addresses[i]));
    uv_mutex_unlock(&h->set->lock);
    return has;
}

int shard_number(const struct shard *h)
{
    return h->number;
}

bool shard_endpoint(struct shards *s, int number, struct endpoint *out)
{
    uv_mutex_lock(&s->lock);
    bool ok = number >= 0 && (size_t)number < s->n && s->v[number]->master.host &&
              !s->v[number]->master_failed;
    if (ok)
        endpoint_copy(out, &s->v[number]->master);
    uv_mutex_unlock(&s->lock);
    return ok;
}

bool shard_name_of(struct shards *s, int number, char *out, size_t cap)
{
    uv_mutex_lock(&s->lock);
    bool ok = number >= 0 && (size_t)number < s->n;
    if (ok)
        snprintf(out, cap, "%s", s->v[number]->name);
    uv_mutex_unlock(&s->lock);
    return ok;
}

int shards_with_node(struct shards *s, struct slice node_id)
{
    char id[CLUSTER_NODE_ID + 1] = "";
    int number = -1;
    if (node_id.n != CLUSTER_NODE_ID)
        return -1;
    memcpy(id, node_id.p, CLUSTER_NODE_ID);
    uv_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->n && number < 0; i++)
        if (shard_nodes_have(&s->v[i]->nodes, id))
            number = s->v[i]->number;
    uv_mutex_unlock(&s->lock);
    return number;
}

void shards_owners(struct shards *s, int16_t *owner)
{
    uv_mutex_lock(&s->lock);
    memcpy(owner, s->owner, sizeof(s->owner));
    uv_mutex_unlock(&s->lock);
}

int shard_find(void *shard, struct endpoint *out, struct err *e)
{
    struct shard *h = shard;
    struct shards *s = h->set;
    char name[300];
    int rc = shards_look(s, e);
    if (s->o.looked)
        s->o.looked(s->o.ctx);
    if (rc)
        return rc;
    uv_mutex_lock(&s->lock);
    endpoint_name(&h->master, name, sizeof(name));
    if (!h->here || h->misses)
        rc = err_set(e, ERR_TIMEOUT, "the shard has no slots in the cluster any more");
    else if (h->master_failed)
        rc = err_set(e, ERR_TIMEOUT,
                     "the cluster calls %s, the master of the shard, failed; waiting for another",
                     name);
    else
        endpoint_copy(out, &h->master);
    uv_mutex_unlock(&s->lock);
    return rc;
}

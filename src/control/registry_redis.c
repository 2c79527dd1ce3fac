// SPDX-License-Identifier: Apache-2.0
// The registry as keys on the source Redis. A lease is a key with a time to live, counted by the
// server from when it carried the command out.
//
// A win counts up a token beside the key. Renewing and resigning name the token, so that one of
// them that is carried out late, when the shard was lost and won again, does nothing.
#include "control/registry.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/random.h"
#include "codec/slot.h"
#include "redis/cluster.h"

enum { MAX_HOPS = 3, INSTANCE = 32, MEMBERS_MAX = 1024 };

struct server_link {
    struct endpoint ep;
    struct redis_client *client; // NULL: not connected
};

struct redis_registry {
    struct registry base;
    struct server_link *links; // owns; of a cluster its masters
    size_t links_n;
    struct cluster_map map; // of a cluster
    size_t seed;            // the one that answered last
    char instance[INSTANCE + 1];
    int64_t name_since;
};

// One command and what came back.
struct ask {
    char *key; // owns; says which node it goes to
    struct buf command;
    int rc;         // of this one alone
    struct err why; // unless rc is 0
    enum resp_type type;
    int64_t num;
    char *text;   // owns; of a status, error or bulk
    char **items; // owns; of an array of strings
    size_t items_n;
};

struct asks {
    struct ask *v; // owns
    size_t n;
};

#define CLAIM                                                                                      \
    "local v=redis.call('get',KEYS[1]) if v==ARGV[1] then redis.call('pexpire',KEYS[1],ARGV[2]) "  \
    "local t=redis.call('get',KEYS[2]) if t then return tonumber(t) end "                          \
    "return redis.call('incr',KEYS[2]) end if v then return false end "                            \
    "redis.call('set',KEYS[1],ARGV[1],'PX',ARGV[2]) return redis.call('incr',KEYS[2])"
#define RENEW                                                                                      \
    "if redis.call('get',KEYS[1])==ARGV[1] and redis.call('get',KEYS[2])==ARGV[3] then "           \
    "redis.call('pexpire',KEYS[1],ARGV[2]) return 1 end return 0"
#define RESIGN                                                                                     \
    "if redis.call('get',KEYS[1])==ARGV[1] and redis.call('get',KEYS[2])==ARGV[2] then "           \
    "redis.call('del',KEYS[1]) end return 1"
#define CLAIM_NAME                                                                                 \
    "local v=redis.call('get',KEYS[1]) if v==ARGV[1] then redis.call('pexpire',KEYS[1],ARGV[2]) "  \
    "return 1 end if v then return 0 end redis.call('set',KEYS[1],ARGV[1],'PX',ARGV[2]) return 1"
#define RENEW_NAME                                                                                 \
    "if redis.call('get',KEYS[1])==ARGV[1] then redis.call('pexpire',KEYS[1],ARGV[2]) return 1 "   \
    "end return 0"
#define LEAVE_NAME                                                                                 \
    "if redis.call('get',KEYS[1])==ARGV[1] then redis.call('del',KEYS[1]) end return 1"

static struct redis_registry *self(struct registry *r)
{
    return (struct redis_registry *)r; // base is its first member
}

// ---- asking ----

#define TOKENS "token/" // + shard

// In the slot of the shard's claim: who can win that can read and write the others as well.
static char *key_beside_claim(const struct registry *r, const char *dir, const char *shard)
{
    char *below = xasprintf(REGISTRY_ELECTION "%s/", shard), *claim = registry_key(r, below);
    char *key = xasprintf(REGISTRY_ROOT "{%s}/%s/%s%s", slot_tag(slot_of(slice_cstr(claim))),
                          r->o.group, dir, shard);
    free(claim);
    free(below);
    return key;
}

static char *key_for(const struct registry *r, const char *below)
{
    static const char *const beside[] = {REGISTRY_NOTES, REGISTRY_HALTED, TOKENS};
    for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++)
        if (strncmp(below, beside[i], strlen(beside[i])) == 0)
            return key_beside_claim(r, beside[i], below + strlen(beside[i]));
    return registry_key(r, below);
}

static struct buf *ask(struct asks *a, const struct registry *r, const char *dir, const char *name)
{
    a->v = xrealloc(a->v, (a->n + 1) * sizeof(*a->v));
    struct ask *q = &a->v[a->n++];
    *q = (struct ask){.rc = ERR_CLOSED};
    char *below = xasprintf("%s%s", dir, name);
    q->key = key_for(r, below);
    free(below);
    return &q->command;
}

static const char *key_of(const struct asks *a)
{
    return a->v[a->n - 1].key;
}

static void clear_answer(struct ask *q)
{
    free(q->text);
    for (size_t i = 0; i < q->items_n; i++)
        free(q->items[i]);
    free(q->items);
    q->text = NULL;
    q->items = NULL;
    q->items_n = 0;
}

static void asks_free(struct asks *a)
{
    for (size_t i = 0; i < a->n; i++) {
        clear_answer(&a->v[i]);
        free(a->v[i].key);
        buf_free(&a->v[i].command);
    }
    free(a->v);
}

static void unlink_servers(struct redis_registry *r)
{
    for (size_t i = 0; i < r->links_n; i++) {
        redis_close(r->links[i].client);
        endpoint_free(&r->links[i].ep);
    }
    free(r->links);
    cluster_free(&r->map);
    r->map = (struct cluster_map){0};
    r->links = NULL;
    r->links_n = 0;
}

static int find_cluster(struct redis_registry *r, struct err *e)
{
    const struct redis_config *s = r->base.o.source;
    int rc = ERR_CONFIG, timeout_ms = registry_timeout_ms(&r->base);
    uint64_t last = clock_mono_us() + (uint64_t)timeout_ms * 2000;
    for (size_t i = 0; i < s->endpoints_n && rc && clock_mono_us() < last; i++) {
        rc = cluster_ask(&r->map, &s->endpoints[r->seed], timeout_ms, e);
        if (rc)
            r->seed = (r->seed + 1) % s->endpoints_n;
    }
    if (rc)
        return rc;
    struct endpoint *eps = cluster_endpoints(&r->map, &s->endpoints[0]);
    r->links_n = r->map.shards_n;
    r->links = xcalloc(r->links_n + 1, sizeof(*r->links));
    for (size_t i = 0; i < r->links_n; i++)
        r->links[i].ep = eps[i]; // what it owns goes along
    free(eps);
    return 0;
}

static int find_server(struct redis_registry *r, struct err *e)
{
    const struct redis_config *s = r->base.o.source;
    struct endpoint ep = {0};
    int rc = 0;
    if (s->type == REDIS_SENTINEL) {
        struct sentinel_options so = config_sentinel(s);
        so.timeout_ms = registry_timeout_ms(&r->base);
        rc = sentinel_master(&ep, &so, e);
    } else {
        endpoint_copy(&ep, &s->endpoints[0]);
        ep.db = 0;
    }
    if (rc)
        return rc;
    r->links = xcalloc(1, sizeof(*r->links));
    r->links[0].ep = ep;
    r->links_n = 1;
    return 0;
}

// A replica says where its master is: 1, and then the link is moved there.
static int ask_role(struct server_link *l, struct err *e)
{
    struct redis_reply reply;
    struct resp_node word, host, port;
    size_t pos;
    int rc = redis_call(l->client, &reply, e, "ROLE");
    if (rc == ERR_REPLY)
        return 0; // not permitted; a write will tell
    if (rc)
        return rc;
    pos = reply.first_child;
    if (!resp_next(reply.p, reply.n, &pos, &word) || !slice_eq(word.text, SLICE("slave")) ||
        !resp_next(reply.p, reply.n, &pos, &host) || !resp_next(reply.p, reply.n, &pos, &port))
        return 0;
    if (port.type != RESP_INTEGER || port.num <= 0 || port.num > UINT16_MAX ||
        !endpoint_host_ok(host.text))
        return err_set(e, ERR_PROTOCOL, "a replica that does not say where its master is");
    char *name = xstrndup(host.text.p, host.text.n);
    struct endpoint moved;
    endpoint_move(&moved, &l->ep, name, (uint16_t)port.num);
    free(name);
    endpoint_free(&l->ep);
    l->ep = moved;
    return 1;
}

static int connect_link(struct redis_registry *r, struct server_link *l, struct err *e)
{
    for (int hop = 0; !l->client; hop++) {
        if (hop == MAX_HOPS)
            return err_set(e, ERR_REPLY, "the source is a replica of a replica of a replica");
        int rc = redis_connect(&l->client, &l->ep, registry_timeout_ms(&r->base), e);
        if (rc)
            return rc;
        if (r->base.o.source->type == REDIS_CLUSTER)
            return 0;
        rc = ask_role(l, e);
        if (rc == 0)
            return 0;
        redis_close(l->client);
        l->client = NULL;
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int link_of(const struct redis_registry *r, const char *key)
{
    if (r->base.o.source->type != REDIS_CLUSTER)
        return 0;
    return r->map.owner[slot_of(slice_cstr(key))];
}

static void take_items(struct ask *q, const struct redis_reply *reply)
{
    struct resp_node n;
    size_t pos = reply->first_child;
    while (q->items_n < MEMBERS_MAX && resp_next(reply->p, reply->n, &pos, &n)) {
        if (n.type != RESP_BULK)
            continue;
        q->items = xrealloc(q->items, (q->items_n + 1) * sizeof(*q->items));
        q->items[q->items_n++] = xstrndup(n.text.p, n.text.n);
    }
}

static int take_answer(struct ask *q, const struct redis_reply *reply)
{
    const struct resp_node *n = &reply->root;
    clear_answer(q);
    q->type = n->type;
    q->num = n->num;
    if (n->type == RESP_ARRAY || n->type == RESP_SET)
        take_items(q, reply);
    else if (n->type == RESP_BULK || n->type == RESP_STATUS)
        q->text = xstrndup(n->text.p, n->text.n);
    if (n->type != RESP_ERROR)
        return 0;
    int shown = n->text.n > 200 ? 200 : (int)n->text.n;
    return err_set(&q->why, ERR_REPLY, "the source answered: %.*s", shown, n->text.p);
}

static void drop_link(struct server_link *l)
{
    redis_close(l->client);
    l->client = NULL;
}

static bool is_of(const struct redis_registry *r, const struct ask *q, size_t link)
{
    return q->rc != 0 && link_of(r, q->key) == (int)link;
}

static void send_to(struct redis_registry *r, struct asks *a, size_t link)
{
    struct server_link *l = &r->links[link];
    struct buf all = {0};
    for (size_t i = 0; i < a->n; i++)
        if (is_of(r, &a->v[i], link))
            buf_append_slice(&all, buf_slice(&a->v[i].command));
    struct err e = {0};
    int rc = 0;
    if (all.n) {
        rc = connect_link(r, l, &e);
        if (rc == 0)
            rc = redis_send(l->client, buf_slice(&all), &e);
    }
    for (size_t i = 0; rc && i < a->n; i++)
        if (is_of(r, &a->v[i], link))
            a->v[i].why = e;
    if (rc)
        drop_link(l);
    buf_free(&all);
}

static void receive_from(struct redis_registry *r, struct asks *a, size_t link)
{
    struct server_link *l = &r->links[link];
    bool refused = false;
    for (size_t i = 0; i < a->n && l->client; i++) {
        struct ask *q = &a->v[i];
        struct redis_reply reply;
        if (!is_of(r, q, link))
            continue;
        int rc = redis_receive(l->client, &reply, &q->why);
        if (rc)
            drop_link(l);
        else
            rc = take_answer(q, &reply);
        refused = refused || rc == ERR_REPLY;
        q->rc = rc;
    }
    // It may be a replica by now, or another's slot: the next ask looks anew.
    if (refused)
        drop_link(l);
}

static int first_error(const struct asks *a, struct err *e)
{
    for (size_t i = 0; i < a->n; i++) {
        if (a->v[i].rc == 0)
            continue;
        if (e)
            *e = a->v[i].why;
        return a->v[i].rc;
    }
    return 0;
}

static int ask_once(struct redis_registry *r, struct asks *a, struct err *e)
{
    int rc = 0;
    if (!r->links)
        rc = r->base.o.source->type == REDIS_CLUSTER ? find_cluster(r, e) : find_server(r, e);
    if (rc)
        return rc;
    for (size_t i = 0; i < a->n; i++)
        err_set(&a->v[i].why, ERR_REPLY, "the slot of %s has no master", a->v[i].key);
    for (size_t i = 0; i < r->links_n; i++)
        send_to(r, a, i);
    for (size_t i = 0; i < r->links_n; i++)
        receive_from(r, a, i);
    return first_error(a, e);
}

// Answers are in each ask, and so is what went wrong with it. Returns the first failure. Whatever
// fails is asked once more of whoever is the master then.
static int ask_all(struct redis_registry *r, struct asks *a, struct err *e)
{
    uint64_t began = clock_mono_us();
    struct err first = {0};
    int rc = ask_once(r, a, &first);
    if (rc) {
        unlink_servers(r);
        // Not after a long silence: who waits has leases to keep.
        if (clock_mono_us() - began < (uint64_t)registry_timeout_ms(&r->base) * 500)
            rc = ask_once(r, a, &first);
        if (rc)
            unlink_servers(r);
    }
    if (rc && e)
        *e = first;
    return rc;
}

static int ask_and_free(struct redis_registry *r, struct asks *a, struct err *e)
{
    int rc = ask_all(r, a, e);
    asks_free(a);
    return rc;
}

// ---- names and shards ----

static void put_alive(struct redis_registry *r, struct asks *a)
{
    const char *node = r->base.o.node;
    struct buf *b = ask(a, &r->base, REGISTRY_NAMES, node);
    resp_put_cmd(b, "SET %s %s PX %L", key_of(a), node, r->base.lease_ms);
    b = ask(a, &r->base, "members", "");
    resp_put_cmd(b, "SADD %s %s", key_of(a), node);
}

static void put_script(struct buf *b, const char *script, const char *key)
{
    resp_put_array(b, 6);
    resp_put_bulk(b, SLICE("EVAL"));
    resp_put_bulk(b, slice_cstr(script));
    resp_put_i64(b, 1);
    resp_put_bulk(b, slice_cstr(key));
}

static void put_name_script(struct redis_registry *r, struct asks *a, const char *script)
{
    struct buf *b = ask(a, &r->base, "instance/", r->base.o.node);
    put_script(b, script, key_of(a));
    resp_put_bulk(b, slice_cstr(r->instance));
    resp_put_i64(b, r->base.lease_ms);
}

static int join(struct registry *base, int64_t *since, struct err *e)
{
    struct redis_registry *r = self(base);
    struct asks a = {0};
    int64_t sent = clock_boot_ms();
    put_name_script(r, &a, CLAIM_NAME);
    int rc = ask_all(r, &a, e);
    bool taken = rc == 0 && a.v[0].num != 1;
    asks_free(&a);
    if (rc || taken)
        return rc ? rc : REGISTRY_NAME_TAKEN;
    struct asks alive = {0};
    put_alive(r, &alive);
    rc = ask_and_free(r, &alive, e);
    *since = r->name_since = sent;
    return rc;
}

static struct buf *ask_shard(struct redis_registry *r, struct asks *a, const char *shard)
{
    char *name = xasprintf("%s/", shard);
    struct buf *b = ask(a, &r->base, REGISTRY_ELECTION, name);
    free(name);
    return b;
}

static void put_shard_script(struct redis_registry *r, struct asks *a, const char *script,
                             const char *shard, const int64_t *args, int args_n)
{
    struct buf *b = ask_shard(r, a, shard);
    char *token = key_beside_claim(&r->base, TOKENS, shard);
    resp_put_array(b, (size_t)(6 + args_n));
    resp_put_bulk(b, SLICE("EVAL"));
    resp_put_bulk(b, slice_cstr(script));
    resp_put_i64(b, 2);
    resp_put_bulk(b, slice_cstr(key_of(a)));
    resp_put_bulk(b, slice_cstr(token));
    resp_put_bulk(b, slice_cstr(r->base.o.node));
    for (int i = 0; i < args_n; i++)
        resp_put_i64(b, args[i]);
    free(token);
}

static int renew(struct registry *base, struct registry_hold *holds, size_t n, int64_t *since,
                 struct err *e)
{
    struct redis_registry *r = self(base);
    struct asks a = {0};
    int64_t sent = clock_boot_ms();
    put_name_script(r, &a, RENEW_NAME);
    for (size_t i = 0; i < n; i++) {
        const int64_t args[] = {base->lease_ms, (int64_t)holds[i].token};
        put_shard_script(r, &a, RENEW, holds[i].shard, args, 2);
    }
    put_alive(r, &a);
    (void)ask_all(r, &a, e);
    for (size_t i = 0; i < n; i++)
        holds[i].held = a.v[i + 1].rc         ? REGISTRY_UNKNOWN
                        : a.v[i + 1].num == 1 ? REGISTRY_HELD
                                              : REGISTRY_NOT_HELD;
    int rc = a.v[0].rc;
    if (rc == 0 && a.v[0].num != 1)
        rc = REGISTRY_NAME_TAKEN;
    if (rc == 0)
        *since = r->name_since = sent;
    asks_free(&a);
    return rc;
}

static int campaign(struct registry *base, const char *shard, struct registry_won *out,
                    struct err *e)
{
    struct redis_registry *r = self(base);
    struct asks a = {0};
    int64_t sent = clock_boot_ms();
    put_shard_script(r, &a, CLAIM, shard, &base->lease_ms, 1);
    int rc = ask_all(r, &a, e);
    bool won = rc == 0 && a.v[0].type == RESP_INTEGER;
    out->token = won ? (uint64_t)a.v[0].num : 0;
    // The name tells two processes apart, so what is held in its name ends with it.
    out->since = sent < r->name_since ? sent : r->name_since;
    asks_free(&a);
    return rc ? rc : won;
}

static int resign(struct registry *base, const char *shard, uint64_t token, struct err *e)
{
    struct redis_registry *r = self(base);
    struct asks a = {0};
    const int64_t arg = (int64_t)token;
    put_shard_script(r, &a, RESIGN, shard, &arg, 1);
    return ask_and_free(r, &a, e);
}

// ---- the view ----

static void ask_get(struct redis_registry *r, struct asks *a, const char *dir, const char *name)
{
    struct buf *b = ask(a, &r->base, dir, name);
    resp_put_cmd(b, "GET %s", key_of(a));
}

enum { ASKS_A_SHARD = 3, ASKS_A_NODE = 2 };

static void ask_shards(struct redis_registry *r, struct asks *a, const char *const *shards,
                       size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct buf *b = ask_shard(r, a, shards[i]);
        resp_put_cmd(b, "GET %s", key_of(a));
        ask_get(r, a, TOKENS, shards[i]);
        ask_get(r, a, REGISTRY_NOTES, shards[i]);
    }
}

static void take_shards(struct redis_registry *r, const struct ask *v, const char *const *shards,
                        size_t n, struct registry_view *out)
{
    for (size_t i = 0; i < n; i++, v += ASKS_A_SHARD) {
        uint64_t token = 0;
        if (v[0].rc || v[1].rc || v[2].rc) {
            registry_add(&out->unknown, shards[i], strlen(shards[i]), NULL, 0, 0, false);
            continue;
        }
        if (v[1].text)
            (void)slice_u64(slice_cstr(v[1].text), &token);
        if (v[0].text)
            registry_add(&out->claims, shards[i], strlen(shards[i]), v[0].text, strlen(v[0].text),
                         token, strcmp(v[0].text, r->base.o.node) == 0);
        if (v[2].text)
            registry_add(&out->notes, shards[i], strlen(shards[i]), v[2].text, strlen(v[2].text), 0,
                         false);
    }
}

// Who has not renewed its name is gone; it comes back into the list when it does. Whose name cannot
// be read counts as alive.
static void view_nodes(struct redis_registry *r, char *const *names, size_t n,
                       struct registry_view *out)
{
    struct asks a = {0}, gone = {0};
    for (size_t i = 0; i < n; i++) {
        ask_get(r, &a, REGISTRY_NAMES, names[i]);
        ask_get(r, &a, REGISTRY_RECORDS, names[i]);
    }
    (void)ask_all(r, &a, NULL);
    for (size_t i = 0; i < n; i++) {
        const struct ask *q = &a.v[i * ASKS_A_NODE];
        if (q[0].text || q[0].rc) {
            registry_add(&out->nodes, names[i], strlen(names[i]), q[1].text,
                         q[1].text ? strlen(q[1].text) : 0, 0,
                         strcmp(names[i], r->base.o.node) == 0);
            continue;
        }
        struct buf *b = ask(&gone, &r->base, "members", "");
        resp_put_cmd(b, "SREM %s %s", key_of(&gone), names[i]);
    }
    asks_free(&a);
    if (gone.n)
        (void)ask_all(r, &gone, NULL); // or the next view does it
    asks_free(&gone);
}

static int view(struct registry *base, const char *const *shards, size_t n,
                struct registry_view *out, struct err *e)
{
    struct redis_registry *r = self(base);
    struct asks a = {0};
    struct buf *b = ask(&a, base, "members", "");
    resp_put_cmd(b, "SMEMBERS %s", key_of(&a));
    ask_get(r, &a, REGISTRY_SOURCE, "");
    ask_shards(r, &a, shards, n);
    (void)ask_all(r, &a, e);
    int rc = a.v[0].rc;
    if (rc == 0) {
        take_shards(r, &a.v[2], shards, n, out);
        out->source = a.v[1].text ? xstrdup(a.v[1].text) : NULL;
        view_nodes(r, a.v[0].items, a.v[0].items_n, out);
    }
    asks_free(&a);
    return rc;
}

// ---- single keys ----

static int put(struct registry *base, const char *key, const char *value, int64_t ttl_ms,
               struct err *e)
{
    struct asks a = {0};
    struct buf *b = ask(&a, base, key, "");
    if (ttl_ms)
        resp_put_cmd(b, "SET %s %s PX %L", key_of(&a), value, ttl_ms);
    else
        resp_put_cmd(b, "SET %s %s", key_of(&a), value);
    return ask_and_free(self(base), &a, e);
}

static int keep(struct registry *base, const char *key, const char *value, struct err *e)
{
    return put(base, key, value, base->lease_ms, e);
}

static int put_if_absent(struct registry *base, const char *key, const char *value, bool leased,
                         char **there, struct err *e)
{
    struct asks a = {0};
    struct buf *b = ask(&a, base, key, "");
    if (leased)
        resp_put_cmd(b, "SET %s %s NX PX %L", key_of(&a), value, base->lease_ms);
    else
        resp_put_cmd(b, "SET %s %s NX", key_of(&a), value);
    ask_get(self(base), &a, key, "");
    int rc = ask_all(self(base), &a, e);
    bool was_put = rc == 0 && a.v[0].type == RESP_STATUS;
    if (rc == 0 && !was_put)
        *there = xstrdup(a.v[1].text ? a.v[1].text : "");
    asks_free(&a);
    return rc ? rc : was_put;
}

static int get(struct registry *base, const char *key, char **value, struct err *e)
{
    struct asks a = {0};
    ask_get(self(base), &a, key, "");
    int rc = ask_all(self(base), &a, e);
    if (rc == 0 && a.v[0].text)
        *value = xstrdup(a.v[0].text);
    asks_free(&a);
    return rc;
}

static int del(struct registry *base, const char *key, struct err *e)
{
    struct asks a = {0};
    struct buf *b = ask(&a, base, key, "");
    resp_put_cmd(b, "DEL %s", key_of(&a));
    return ask_and_free(self(base), &a, e);
}

static void leave(struct registry *base)
{
    struct redis_registry *r = self(base);
    struct asks a = {0};
    const char *node = base->o.node;
    const char *const dirs[] = {REGISTRY_NAMES, REGISTRY_RECORDS};
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
        struct buf *b = ask(&a, base, dirs[i], node);
        resp_put_cmd(b, "DEL %s", key_of(&a));
    }
    struct buf *b = ask(&a, base, "members", "");
    resp_put_cmd(b, "SREM %s %s", key_of(&a), node);
    put_name_script(r, &a, LEAVE_NAME);
    (void)ask_all(r, &a, NULL);
    asks_free(&a);
}

static void close_registry(struct registry *base)
{
    struct redis_registry *r = self(base);
    unlink_servers(r);
    free(r);
}

static const struct registry_ops redis_ops = {
    .name = "redis",
    .join = join,
    .renew = renew,
    .campaign = campaign,
    .resign = resign,
    .view = view,
    .put = put,
    .put_if_absent = put_if_absent,
    .keep = keep,
    .get = get,
    .del = del,
    .leave = leave,
    .close = close_registry,
};

int registry_open_redis(struct registry **out, const struct registry_options *o, struct err *e)
{
    if (o->source->endpoints_n == 0)
        return err_set(e, ERR_CONFIG, "a group needs etcd or a source to keep its keys on");
    struct redis_registry *r = xcalloc(1, sizeof(*r));
    r->base = (struct registry){&redis_ops, *o, o->cluster->lease_timeout_ms};
    random_hex(r->instance, INSTANCE);
    *out = &r->base;
    return 0;
}

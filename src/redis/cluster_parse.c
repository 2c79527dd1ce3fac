// SPDX-License-Identifier: Apache-2.0
#include "redis/cluster_impl.h"

#include <stdlib.h>

#include "base/mem.h"

// As many as there are slots; a peer does not make us allocate more.
enum { MAX_NODES = CLUSTER_SLOTS, NO_OWNER = -1 };

// One line of CLUSTER NODES; everything borrows the replies.
struct line {
    struct slice id, flags, master, slots;
    struct slice ip;       // as CLUSTER NODES has it; may be empty
    struct slice endpoint; // as CLUSTER SHARDS has it; may be empty
    uint16_t port, tls_port;
};

struct lines {
    struct line *v; // owns; by id
    size_t n;
};

// ---- CLUSTER NODES ----

// The part before the first c, or all; *s becomes what follows c.
static struct slice take_until(struct slice *s, char c)
{
    const char *at = s->n ? memchr(s->p, c, s->n) : NULL;
    struct slice head = slice_make(s->p, at ? (size_t)(at - s->p) : s->n);
    *s = at ? slice_make(at + 1, s->n - head.n - 1) : (struct slice){0};
    return head;
}

static struct slice take_line(struct slice *text)
{
    struct slice line = take_until(text, '\n');
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

static bool has_flag(struct slice flags, struct slice flag)
{
    while (flags.n)
        if (slice_eq(take_until(&flags, ','), flag))
            return true;
    return false;
}

static uint16_t port_of(struct slice s)
{
    uint64_t port;
    return slice_u64(s, &port) && port <= UINT16_MAX ? (uint16_t)port : 0;
}

// "ip:port@bus-port,hostname,..."; an IPv6 address stands there without brackets.
static void read_address(struct line *l, struct slice s)
{
    struct slice rest = take_until(&s, ',');
    struct slice both = take_until(&rest, '@');
    const char *colon = both.n ? memrchr(both.p, ':', both.n) : NULL;
    if (!colon)
        return;
    l->ip = slice_make(both.p, (size_t)(colon - both.p));
    l->port = port_of(slice_make(colon + 1, both.n - l->ip.n - 1));
}

static bool id_ok(struct slice id)
{
    return id.n <= CLUSTER_NODE_ID && endpoint_host_ok(id);
}

// <id> <address> <flags> <master> <ping> <pong> <epoch> <link> <slot> <slot>...
static bool read_line(struct line *l, struct slice s)
{
    *l = (struct line){.id = take_until(&s, ' ')};
    read_address(l, take_until(&s, ' '));
    l->flags = take_until(&s, ' ');
    l->master = take_until(&s, ' ');
    for (int i = 0; i < 4; i++)
        take_until(&s, ' ');
    l->slots = s;
    return id_ok(l->id) && l->flags.n;
}

static int by_id(const void *a, const void *b)
{
    return slice_cmp(((const struct line *)a)->id, ((const struct line *)b)->id);
}

static struct line *find_line(const struct lines *ls, struct slice id)
{
    struct line key = {.id = id};
    return ls->n ? bsearch(&key, ls->v, ls->n, sizeof(key), by_id) : NULL;
}

static void sort_and_drop_repeated(struct lines *ls)
{
    qsort(ls->v, ls->n, sizeof(ls->v[0]), by_id);
    size_t kept = 1;
    for (size_t i = 1; i < ls->n; i++)
        if (!slice_eq(ls->v[i].id, ls->v[kept - 1].id))
            ls->v[kept++] = ls->v[i];
    ls->n = kept;
}

static int read_lines(struct lines *ls, struct slice text, struct err *e)
{
    size_t cap = 0;
    while (text.n) {
        struct line l;
        if (!read_line(&l, take_line(&text)))
            continue;
        if (ls->n == MAX_NODES)
            return err_set(e, ERR_PROTOCOL, "CLUSTER NODES lists more than %d nodes", MAX_NODES);
        if (ls->n == cap) {
            cap = cap ? cap * 2 : 16;
            ls->v = xrealloc(ls->v, cap * sizeof(l));
        }
        ls->v[ls->n++] = l;
    }
    if (ls->n == 0)
        return err_set(e, ERR_PROTOCOL, "CLUSTER NODES lists no node");
    sort_and_drop_repeated(ls);
    return 0;
}

// ---- CLUSTER SHARDS ----

struct walk {
    const struct redis_reply *reply;
    size_t pos;
};

static bool is_aggregate(const struct resp_node *n)
{
    return n->type == RESP_ARRAY || n->type == RESP_SET || n->type == RESP_MAP;
}

static bool next(struct walk *w, struct resp_node *n)
{
    return resp_next(w->reply->p, w->reply->n, &w->pos, n);
}

static void skip_children(struct walk *w, const struct resp_node *n)
{
    struct resp_node child;
    for (int64_t left = is_aggregate(n) ? n->num : 0; left > 0 && next(w, &child); left--)
        left += is_aggregate(&child) ? child.num : 0;
}

// A key and the head of its value; false at the end of the pairs. *left counts keys and values.
static bool next_pair(struct walk *w, int64_t *left, struct resp_node *key, struct resp_node *value)
{
    if (*left <= 0 || !next(w, key))
        return false;
    skip_children(w, key);
    *left -= 2;
    return *left >= 0 && next(w, value);
}

// Where the node wants its clients: "" where it was reached, "?" when it does not know, which is
// then its address.
static void read_endpoint(struct line *l, struct slice endpoint, struct slice ip)
{
    l->endpoint = slice_eq(endpoint, SLICE("?")) ? ip : endpoint;
    l->ip = (struct slice){0};
}

static void read_shard_node(struct walk *w, const struct resp_node *head, const struct lines *ls)
{
    struct resp_node key, value;
    struct slice id = {0}, endpoint = {0}, ip = {0};
    int64_t port = 0, tls_port = 0, left = head->num;
    bool told = false;
    while (next_pair(w, &left, &key, &value)) {
        if (slice_eq(key.text, SLICE("id"))) {
            id = value.text;
        } else if (slice_eq(key.text, SLICE("endpoint"))) {
            endpoint = value.text;
            told = true;
        } else if (slice_eq(key.text, SLICE("ip"))) {
            ip = value.text;
        } else if (slice_eq(key.text, SLICE("port"))) {
            port = value.num;
        } else if (slice_eq(key.text, SLICE("tls-port"))) {
            tls_port = value.num;
        }
        skip_children(w, &value);
    }
    struct line *l = find_line(ls, id);
    if (!l)
        return;
    if (told)
        read_endpoint(l, endpoint, ip);
    if (port > 0 && port <= UINT16_MAX)
        l->port = (uint16_t)port;
    if (tls_port > 0 && tls_port <= UINT16_MAX)
        l->tls_port = (uint16_t)tls_port;
}

static void read_shards(const struct redis_reply *reply, const struct lines *ls)
{
    struct walk w = {reply, reply->first_child};
    struct resp_node shard, key, value, node;
    for (int64_t i = 0; i < reply->root.num && next(&w, &shard); i++) {
        int64_t left = is_aggregate(&shard) ? shard.num : 0;
        while (next_pair(&w, &left, &key, &value)) {
            if (!is_aggregate(&value) || !slice_eq(key.text, SLICE("nodes"))) {
                skip_children(&w, &value);
                continue;
            }
            for (int64_t k = 0; k < value.num && next(&w, &node); k++)
                if (is_aggregate(&node))
                    read_shard_node(&w, &node, ls);
        }
    }
}

// ---- the map ----

static bool is_reachable(const struct line *l)
{
    return !has_flag(l->flags, SLICE("handshake")) && !has_flag(l->flags, SLICE("noaddr"));
}

static bool node_make(struct cluster_node *node, const struct line *l, const struct endpoint *via)
{
    struct slice host = l->endpoint.n ? l->endpoint : l->ip;
    *node = (struct cluster_node){.failed = has_flag(l->flags, SLICE("fail"))};
    node->port = via->tls.enabled && l->tls_port ? l->tls_port : l->port;
    if (node->port == 0 || !is_reachable(l))
        return false;
    memcpy(node->id, l->id.p, l->id.n);
    if (endpoint_host_ok(host))
        node->host = xstrndup(host.p, host.n);
    else // a unix socket is on this machine
        node->host = xstrdup(via->host ? via->host : "127.0.0.1");
    return true;
}

static bool read_slot(struct slice s, int *out)
{
    uint64_t v;
    if (!slice_u64(s, &v) || v >= CLUSTER_SLOTS)
        return false;
    *out = (int)v;
    return true;
}

// "5461 6000-6005 [93->-id]" goes into owner, where nobody is the owner yet.
static void claim_slots(int16_t owner[CLUSTER_SLOTS], struct slice slots, int16_t by)
{
    while (slots.n) {
        struct slice word = take_until(&slots, ' ');
        struct slice first = take_until(&word, '-');
        int a, b;
        if (!read_slot(first, &a))
            continue;
        if (!word.n)
            b = a;
        else if (!read_slot(word, &b))
            continue;
        for (int i = a; i <= b; i++)
            if (owner[i] == NO_OWNER)
                owner[i] = by;
    }
}

static void claim_all(int16_t owner[CLUSTER_SLOTS], const struct lines *ls)
{
    for (int i = 0; i < CLUSTER_SLOTS; i++)
        owner[i] = NO_OWNER;
    for (size_t i = 0; i < ls->n; i++)
        if (has_flag(ls->v[i].flags, SLICE("master")))
            claim_slots(owner, ls->v[i].slots, (int16_t)i);
}

// From slot to line becomes from slot to shard, in the order in which the slots name them.
static void make_shards(struct cluster_map *m, const struct lines *ls, const struct endpoint *via)
{
    enum { UNSEEN = -2 };
    int16_t *shard_of = xmalloc(ls->n * sizeof(*shard_of));
    for (size_t i = 0; i < ls->n; i++)
        shard_of[i] = UNSEEN;
    m->shards = xcalloc(ls->n, sizeof(m->shards[0]));
    for (int slot = 0; slot < CLUSTER_SLOTS; slot++) {
        if (m->owner[slot] == NO_OWNER)
            continue;
        int16_t *shard = &shard_of[m->owner[slot]];
        if (*shard == UNSEEN) {
            struct cluster_node *master = &m->shards[m->shards_n].master;
            bool ok = node_make(master, &ls->v[m->owner[slot]], via);
            *shard = ok ? (int16_t)m->shards_n++ : CLUSTER_NO_SHARD;
        }
        m->owner[slot] = *shard;
        if (*shard == CLUSTER_NO_SHARD)
            continue;
        m->shards[*shard].slots++;
        m->covered++;
    }
    free(shard_of);
}

static int shard_of_master(const struct cluster_map *m, struct slice id)
{
    for (size_t i = 0; i < m->shards_n; i++)
        if (slice_eq(slice_cstr(m->shards[i].master.id), id))
            return (int)i;
    return CLUSTER_NO_SHARD;
}

static int by_address(const void *a, const void *b)
{
    const struct cluster_node *x = a, *y = b;
    int order = strcmp(x->host, y->host);
    return order ? order : (int)x->port - (int)y->port;
}

static void add_replicas(struct cluster_map *m, const struct lines *ls, const struct endpoint *via)
{
    for (size_t i = 0; i < ls->n; i++) {
        const struct line *l = &ls->v[i];
        bool replica = has_flag(l->flags, SLICE("slave")) || has_flag(l->flags, SLICE("replica"));
        int at = replica ? shard_of_master(m, l->master) : CLUSTER_NO_SHARD;
        struct cluster_node node;
        if (at == CLUSTER_NO_SHARD || !node_make(&node, l, via))
            continue;
        struct cluster_shard *s = &m->shards[at];
        s->replicas = xrealloc(s->replicas, (s->replicas_n + 1) * sizeof(node));
        s->replicas[s->replicas_n++] = node;
    }
    for (size_t i = 0; i < m->shards_n; i++)
        if (m->shards[i].replicas_n)
            qsort(m->shards[i].replicas, m->shards[i].replicas_n, sizeof(struct cluster_node),
                  by_address);
}

int cluster_parse(struct cluster_map *out, struct slice nodes, const struct redis_reply *shards,
                  const struct endpoint *via, struct err *e)
{
    struct lines ls = {0};
    memset(out, 0, sizeof(*out));
    int rc = read_lines(&ls, nodes, e);
    if (rc == 0) {
        if (shards)
            read_shards(shards, &ls);
        claim_all(out->owner, &ls);
        make_shards(out, &ls, via);
        add_replicas(out, &ls, via);
        cluster_mark_moves(out, nodes);
    }
    free(ls.v);
    return rc;
}

// ---- moves ----

static void mark(struct cluster_map *m, struct slice id)
{
    char text[CLUSTER_NODE_ID + 1] = "";
    if (!id.p || !id_ok(id))
        return;
    memcpy(text, id.p, id.n);
    int shard = cluster_shard_of(m, text);
    if (shard != CLUSTER_NO_SHARD)
        m->shards[shard].migrating = true;
}

void cluster_mark_moves(struct cluster_map *m, struct slice nodes)
{
    while (nodes.n) {
        struct line l;
        if (!read_line(&l, take_line(&nodes)))
            continue;
        while (l.slots.n) {
            // "[93->-id]" goes, "[77-<-id]" comes.
            struct slice word = take_until(&l.slots, ' ');
            if (word.n < 2 || word.p[0] != '[' || word.p[word.n - 1] != ']')
                continue;
            word.n--;
            take_until(&word, '-');
            take_until(&word, '-');
            mark(m, l.id);
            mark(m, word);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
// The registry in etcd. A process has one lease; its name, its record and the shards that it leads
// are keys of that lease, so that renewing it renews all and its end frees all at once.
//
// A shard is won by the transaction that creates a key below its prefix where there is none. As
// with redisGunYu the oldest key below the prefix leads; its create revision is the token.
#include "control/registry.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/etcd_http.h"
#include "control/etcd_json.h"

struct etcd_registry {
    struct registry base;
    struct etcd_http *http;
    char *prefix;    // owns; "/redis-gunyu/<group>/"
    int64_t lease;   // 0: none
    int64_t since;   // before the request was sent that granted it or kept it alive last
    int64_t watched; // revision up to which the watch has told; 0: none
};

static struct etcd_registry *self(struct registry *r)
{
    return (struct etcd_registry *)r; // base is its first member
}

static json_t *one_op(const char *kind, json_t *request)
{
    json_t *list = json_array();
    json_array_append_new(list, etcd_op(kind, request));
    return list;
}

static json_t *and_op(json_t *list, const char *kind, json_t *request)
{
    json_array_append_new(list, etcd_op(kind, request));
    return list;
}

static int post(struct etcd_registry *r, const char *path, json_t *body, json_t **answer,
                struct err *e)
{
    int rc = etcd_post(r->http, path, body, answer, NULL, e);
    // Whatever was held by the lease is gone with it.
    if (rc == ERR_REPLY && etcd_http_code(r->http) == ETCD_NOT_FOUND)
        r->lease = 0;
    return rc;
}

static int post_only(struct etcd_registry *r, const char *path, json_t *body, struct err *e)
{
    json_t *answer;
    int rc = post(r, path, body, &answer, e);
    json_decref(answer);
    return rc;
}

static json_t *lease_id(int64_t lease)
{
    json_t *o = json_object();
    char text[24];
    size_t n = i64_format(text, lease);
    json_object_set_new(o, "ID", json_stringn(text, n));
    return o;
}

static void drop_lease(struct etcd_registry *r)
{
    struct err e;
    if (r->lease && post_only(r, "lease/revoke", lease_id(r->lease), &e))
        log_debug("group", "%s", e.msg); // it ends by itself
    r->lease = 0;
}

// ---- the lease ----

static int grant(struct etcd_registry *r, int64_t ttl_s, int64_t *lease, int64_t *granted_s,
                 int64_t *sent, struct err *e)
{
    json_t *body = json_object(), *answer;
    json_object_set_new(body, "TTL", json_integer(ttl_s));
    int rc = etcd_post(r->http, "lease/grant", body, &answer, sent, e);
    *lease = etcd_number(answer, "ID");
    *granted_s = etcd_number(answer, "TTL");
    json_decref(answer);
    if (rc == 0 && (*lease == 0 || *granted_s <= 0))
        rc = err_set(e, ERR_PROTOCOL, "etcd granted no lease");
    return rc;
}

static int begin_lease(struct etcd_registry *r, struct err *e)
{
    int64_t want = r->base.o.cluster->lease_timeout_ms / 1000, got, sent;
    int rc = grant(r, want, &r->lease, &got, &sent, e);
    if (rc)
        return rc;
    r->since = sent;
    r->base.lease_ms = (got < want ? got : want) * 1000;
    if (got > want)
        log_warn("group",
                 "etcd grants leases of at least %" PRId64 " s: the shards of a node that dies "
                 "have no leader for that long, not for the %" PRId64 " s of cluster.leaseTimeout",
                 got, want);
    return 0;
}

static int keep_alive(struct etcd_registry *r, bool *alive, struct err *e)
{
    json_t *answer;
    int64_t sent;
    char words[200];
    int rc = etcd_post(r->http, "lease/keepalive", lease_id(r->lease), &answer, &sent, e);
    if (rc == 0 && etcd_error(answer, words, sizeof(words)))
        rc = err_set(e, ERR_REPLY, "etcd does not keep the lease: %s", words);
    *alive = etcd_number(json_object_get(answer, "result"), "TTL") > 0;
    json_decref(answer);
    if (rc == 0 && *alive)
        r->since = sent;
    return rc;
}

// ---- the name ----

static char *below(const struct etcd_registry *r, const char *dir, const char *name)
{
    return xasprintf("%s%s%s", r->prefix, dir, name);
}

enum name { NAME_OURS, NAME_FREE, NAME_OTHERS };

// One transaction tells whose the name is and lists all claims. take: it becomes ours if it is
// nobody's. Without, nothing is written: an etcd that has no more room still keeps leases.
static int ask_name(struct etcd_registry *r, bool take, struct etcd_kvs *claims, enum name *whose,
                    struct err *e)
{
    char *name = below(r, REGISTRY_NAMES, r->base.o.node), *all = below(r, REGISTRY_ELECTION, "");
    json_t *yes = one_op("range", etcd_range(all, true)), *answer;
    json_t *no = and_op(one_op("range", etcd_range(all, true)), "range", etcd_range(name, false));
    if (take)
        yes = and_op(yes, "put", etcd_put(name, r->base.o.node, r->lease));
    int rc = post(r, "kv/txn", etcd_txn(etcd_compare_created(name, false, 0), yes, no), &answer, e);
    *claims = (struct etcd_kvs){0};
    if (rc == 0)
        rc = etcd_read_txn_range(answer, 0, claims, e);
    bool nobodys = rc == 0 && etcd_succeeded(answer);
    struct etcd_kvs who = {0};
    if (rc == 0 && !nobodys)
        rc = etcd_read_txn_range(answer, 1, &who, e);
    bool ours = who.n == 1 && who.v[0].lease == r->lease;
    *whose = nobodys && !take ? NAME_FREE : nobodys || ours ? NAME_OURS : NAME_OTHERS;
    etcd_kvs_free(&who);
    json_decref(answer);
    free(name);
    free(all);
    return rc;
}

static int join(struct registry *base, int64_t *since, struct err *e)
{
    struct etcd_registry *r = self(base);
    struct etcd_kvs claims;
    enum name whose;
    if (r->lease == 0) {
        int rc = begin_lease(r, e);
        if (rc)
            return rc;
    }
    int rc = ask_name(r, true, &claims, &whose, e);
    etcd_kvs_free(&claims);
    if (rc == 0 && whose != NAME_OURS) {
        drop_lease(r);
        return REGISTRY_NAME_TAKEN;
    }
    *since = r->since;
    return rc;
}

// ---- shards ----

static char *claim_key(const struct etcd_registry *r, const char *shard)
{
    return xasprintf("%s" REGISTRY_ELECTION "%s/%" PRIx64, r->prefix, shard, (uint64_t)r->lease);
}

static char *claim_prefix(const struct etcd_registry *r, const char *shard)
{
    return xasprintf("%s" REGISTRY_ELECTION "%s/", r->prefix, shard);
}

static bool is_ours(const struct etcd_registry *r, const struct etcd_kv *kv)
{
    return kv && r->lease && kv->lease == r->lease;
}

static bool holds(const struct etcd_registry *r, const struct etcd_kvs *claims,
                  const struct registry_hold *h)
{
    char *prefix = claim_prefix(r, h->shard);
    const struct etcd_kv *first = etcd_oldest(claims, prefix);
    free(prefix);
    return is_ours(r, first) && first->created == h->token;
}

static int renew(struct registry *base, struct registry_hold *list, size_t n, int64_t *since,
                 struct err *e)
{
    struct etcd_registry *r = self(base);
    struct etcd_kvs claims;
    bool alive = false;
    enum name whose = NAME_FREE;
    if (r->lease == 0)
        return REGISTRY_NAME_TAKEN;
    int rc = keep_alive(r, &alive, e);
    if (rc)
        return rc;
    if (!alive) {
        r->lease = 0;
        return REGISTRY_NAME_TAKEN;
    }
    int64_t sent = r->since;
    rc = ask_name(r, false, &claims, &whose, e);
    if (rc == 0 && whose == NAME_FREE) {
        etcd_kvs_free(&claims);
        rc = ask_name(r, true, &claims, &whose, e);
    }
    bool ours = whose == NAME_OURS;
    for (size_t i = 0; rc == 0 && i < n; i++)
        list[i].held = ours && holds(r, &claims, &list[i]) ? REGISTRY_HELD : REGISTRY_NOT_HELD;
    etcd_kvs_free(&claims);
    if (rc)
        return rc;
    *since = sent;
    if (!ours)
        drop_lease(r);
    return ours ? REGISTRY_JOINED : REGISTRY_NAME_TAKEN;
}

static int withdraw(struct etcd_registry *r, const char *key, struct err *e)
{
    json_t *body = json_object();
    json_object_set_new(body, "key", etcd_bytes(key));
    return post_only(r, "kv/deleterange", body, e);
}

static int campaign(struct registry *base, const char *shard, struct registry_won *out,
                    struct err *e)
{
    struct etcd_registry *r = self(base);
    if (r->lease == 0)
        return err_set(e, ERR_CLOSED, "the lease in etcd has ended");
    char *prefix = claim_prefix(r, shard), *key = claim_key(r, shard);
    json_t *yes = and_op(one_op("put", etcd_put(key, base->o.node, r->lease)), "range",
                         etcd_range(prefix, true));
    json_t *no =
        and_op(one_op("range", etcd_range(prefix, true)), "range", etcd_range(prefix, true));
    json_t *answer;
    // The lease may have been kept alive long ago: what is won lasts no longer than that.
    out->since = r->since;
    int rc =
        post(r, "kv/txn", etcd_txn(etcd_compare_created(prefix, true, 0), yes, no), &answer, e);
    struct etcd_kvs claims = {0};
    if (rc == 0)
        rc = etcd_read_txn_range(answer, 1, &claims, e);
    const struct etcd_kv *first = etcd_oldest(&claims, prefix);
    bool won = rc == 0 && is_ours(r, first) && strcmp(first->key, key) == 0;
    out->token = won ? first->created : 0;
    if (rc == 0 && !won && etcd_find(&claims, key))
        rc = withdraw(r, key, e);
    etcd_kvs_free(&claims);
    json_decref(answer);
    free(prefix);
    free(key);
    return rc ? rc : won;
}

static int resign(struct registry *base, const char *shard, uint64_t token, struct err *e)
{
    struct etcd_registry *r = self(base);
    if (r->lease == 0)
        return 0;
    char *key = claim_key(r, shard);
    json_t *yes = one_op("delete_range", etcd_range(key, false));
    int rc =
        post_only(r, "kv/txn", etcd_txn(etcd_compare_created(key, false, token), yes, NULL), e);
    free(key);
    return rc;
}

// ---- the view ----

static const char *after(const char *s, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(s, prefix, n) == 0 ? s + n : NULL;
}

// "<shard>/<lease>"; the oldest of a shard is its leader.
static void add_claim(const struct etcd_registry *r, const struct etcd_kvs *all,
                      const struct etcd_kv *kv, const char *name, struct registry_view *out)
{
    const char *slash = strrchr(name, '/');
    if (!slash)
        return;
    char *prefix = xstrndup(kv->key, (size_t)(slash + 1 - kv->key));
    if (etcd_oldest(all, prefix) == kv)
        registry_add(&out->claims, name, (size_t)(slash - name), kv->value, strlen(kv->value),
                     kv->created, is_ours(r, kv));
    free(prefix);
}

static void add_record(const struct etcd_kv *kv, const char *name, struct registry_view *out)
{
    struct registry_entry *node = registry_find(&out->nodes, name);
    if (!node)
        return;
    free(node->value);
    node->value = xstrdup(kv->value);
}

// The key below the group's prefix; NULL: that was not asked for.
static const char *below_prefix(const struct etcd_registry *r, const struct etcd_kv *kv)
{
    return after(kv->key, r->prefix);
}

static void read_view(const struct etcd_registry *r, const struct etcd_kvs *all,
                      struct registry_view *out)
{
    const char *key, *name;
    for (size_t i = 0; i < all->n; i++)
        if ((key = below_prefix(r, &all->v[i])) && (name = after(key, REGISTRY_NAMES)))
            registry_add(&out->nodes, name, strlen(name), NULL, 0, 0, is_ours(r, &all->v[i]));
    for (size_t i = 0; i < all->n; i++) {
        const struct etcd_kv *kv = &all->v[i];
        if (!(key = below_prefix(r, kv)))
            continue;
        if ((name = after(key, REGISTRY_ELECTION)))
            add_claim(r, all, kv, name, out);
        else if ((name = after(key, REGISTRY_RECORDS)))
            add_record(kv, name, out);
        else if ((name = after(key, REGISTRY_NOTES)))
            registry_add(&out->notes, name, strlen(name), kv->value, strlen(kv->value), 0, false);
        else if (strcmp(key, REGISTRY_SOURCE) == 0 && !out->source)
            out->source = xstrdup(kv->value);
    }
}

static int read_range(struct etcd_registry *r, const char *key, bool is_prefix,
                      struct etcd_kvs *out, struct err *e)
{
    json_t *answer;
    int rc = post(r, "kv/range", etcd_range(key, is_prefix), &answer, e);
    if (rc == 0)
        rc = etcd_read_range(answer, out, e);
    json_decref(answer);
    return rc;
}

static int view(struct registry *base, const char *const *shards, size_t n,
                struct registry_view *out, struct err *e)
{
    (void)shards, (void)n; // it tells of all
    struct etcd_registry *r = self(base);
    struct etcd_kvs all = {0};
    int rc = read_range(r, r->prefix, true, &all, e);
    if (rc == 0)
        read_view(r, &all, out);
    etcd_kvs_free(&all);
    return rc;
}

// ---- single keys ----

static int put_leased(struct etcd_registry *r, const char *key, const char *value, int64_t lease,
                      struct err *e)
{
    char *full = registry_key(&r->base, key);
    int rc = post_only(r, "kv/put", etcd_put(full, value, lease), e);
    free(full);
    return rc;
}

static int put(struct registry *base, const char *key, const char *value, int64_t ttl_ms,
               struct err *e)
{
    struct etcd_registry *r = self(base);
    int64_t lease = 0, got, sent;
    int rc = ttl_ms ? grant(r, (ttl_ms + 999) / 1000, &lease, &got, &sent, e) : 0;
    return rc ? rc : put_leased(r, key, value, lease, e);
}

static int keep(struct registry *base, const char *key, const char *value, struct err *e)
{
    struct etcd_registry *r = self(base);
    if (r->lease == 0)
        return err_set(e, ERR_CLOSED, "the lease in etcd has ended");
    return put_leased(r, key, value, r->lease, e);
}

static int put_if_absent(struct registry *base, const char *key, const char *value, bool leased,
                         char **there, struct err *e)
{
    struct etcd_registry *r = self(base);
    char *full = registry_key(base, key);
    json_t *yes = one_op("put", etcd_put(full, value, leased ? r->lease : 0));
    json_t *no = one_op("range", etcd_range(full, false));
    json_t *answer;
    int rc = post(r, "kv/txn", etcd_txn(etcd_compare_created(full, false, 0), yes, no), &answer, e);
    bool was_put = rc == 0 && etcd_succeeded(answer);
    struct etcd_kvs kvs = {0};
    if (rc == 0 && !was_put)
        rc = etcd_read_txn_range(answer, 0, &kvs, e);
    if (rc == 0 && !was_put)
        *there = xstrdup(kvs.n ? kvs.v[0].value : "");
    etcd_kvs_free(&kvs);
    json_decref(answer);
    free(full);
    return rc ? rc : was_put;
}

static int get(struct registry *base, const char *key, char **value, struct err *e)
{
    char *full = registry_key(base, key);
    struct etcd_kvs kvs = {0};
    int rc = read_range(self(base), full, false, &kvs, e);
    if (rc == 0 && kvs.n)
        *value = xstrdup(kvs.v[0].value);
    etcd_kvs_free(&kvs);
    free(full);
    return rc;
}

static int del(struct registry *base, const char *key, struct err *e)
{
    char *full = registry_key(base, key);
    int rc = withdraw(self(base), full, e);
    free(full);
    return rc;
}

// ---- the watch ----

static int begin_watch(struct etcd_registry *r, struct err *e)
{
    json_t *body = json_object(), *request = etcd_range(r->prefix, true);
    char text[24];
    size_t n = i64_format(text, r->watched + 1);
    if (r->watched)
        json_object_set_new(request, "start_revision", json_stringn(text, n));
    json_object_set_new(body, "create_request", request);
    return etcd_stream_begin(r->http, "watch", body, e);
}

// 1: something has changed, or may have.
static int take_message(struct etcd_registry *r, const json_t *message, struct err *e)
{
    struct etcd_event ev;
    int rc = etcd_read_watch(message, &ev, e);
    if (rc || ev.canceled) {
        etcd_stream_end(r->http);
        // What it should begin with is gone, or nobody knows: it begins anew with what is there.
        r->watched = 0;
        if (rc || ev.compacted)
            return rc ? rc : 1;
        return err_set(e, ERR_CLOSED, "etcd ended the watch");
    }
    bool blind = ev.created && r->watched == 0;
    if (ev.revision && (ev.changed || blind))
        r->watched = ev.revision;
    return ev.changed || blind;
}

static int watch(struct registry *base, int timeout_ms, const atomic_bool *cancel, struct err *e)
{
    struct etcd_registry *r = self(base);
    uint64_t deadline = clock_mono_us() + (uint64_t)timeout_ms * 1000;
    int rc = etcd_stream_is_on(r->http) ? 0 : begin_watch(r, e);
    while (rc == 0) {
        uint64_t now = clock_mono_us();
        if (now >= deadline || atomic_load(cancel))
            return 0;
        json_t *message;
        rc = etcd_stream_next(r->http, (int)((deadline - now) / 1000) + 1, cancel, &message, e);
        if (rc == 1)
            rc = take_message(r, message, e);
        json_decref(message);
    }
    return rc;
}

static void leave(struct registry *base)
{
    drop_lease(self(base));
}

static void close_registry(struct registry *base)
{
    struct etcd_registry *r = self(base);
    etcd_http_close(r->http);
    free(r->prefix);
    free(r);
}

static const struct registry_ops etcd_ops = {
    .name = "etcd",
    .can_watch = true,
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
    .watch = watch,
    .leave = leave,
    .close = close_registry,
};

int registry_open_etcd(struct registry **out, const struct registry_options *o, struct err *e)
{
    struct etcd_registry *r = xcalloc(1, sizeof(*r));
    r->base = (struct registry){&etcd_ops, *o, o->cluster->lease_timeout_ms};
    int rc = etcd_http_open(&r->http, &o->cluster->etcd, registry_timeout_ms(&r->base), e);
    if (rc) {
        free(r);
        return rc;
    }
    r->prefix = registry_key(&r->base, "");
    *out = &r->base;
    return 0;
}

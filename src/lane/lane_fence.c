// SPDX-License-Identifier: Apache-2.0
// The fence: of processes that write to one target for one sync, the one with the highest epoch
// goes on. The epoch stands in the position record and in the names of the connections. The order
// of the steps is what docs/exactly-once.md argues from.
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "lane/lane_dial.h"

enum { ROUNDS = 16 };

// ---- the target's connections ----

static size_t nodes_n(const struct dial_job *j)
{
    return j->seeds_n ? j->r.masters.n : 1;
}

static struct redis_client *node_at(const struct dial_job *j, size_t i)
{
    return j->seeds_n ? j->r.masters.clients[i] : j->client;
}

static struct redis_client *owner_of(const struct dial_job *j, struct slice key)
{
    return j->seeds_n ? masters_owner(&j->r.masters, key) : j->client;
}

// each is called for all nodes; an error names the node.
static int for_nodes(struct dial_job *j, int (*each)(struct dial_job *j, struct redis_client *c))
{
    int rc = 0;
    for (size_t i = 0; i < nodes_n(j) && rc == 0; i++) {
        rc = each(j, node_at(j, i));
        if (rc && j->seeds_n)
            masters_wrap(&j->r.masters, i, &j->r.err);
    }
    return rc;
}

// What the server does not let us do makes the fence a weaker one, and is no error.
static int permitted(struct dial_job *j, int rc, bool *without)
{
    struct target_result *r = &j->r;
    if (rc != ERR_REPLY)
        return rc;
    *without = true;
    if (!r->fence_why[0])
        snprintf(r->fence_why, sizeof(r->fence_why), "%.199s", r->err.msg);
    r->err = (struct err){0};
    return 0;
}

static int replaced(struct dial_job *j, uint64_t by)
{
    j->r.fenced_off = true;
    return err_set(&j->r.err, ERR_LOCKED,
                   "replaced: another gunyu has taken over this target (epoch %llu, ours %llu)",
                   (unsigned long long)by, (unsigned long long)j->want);
}

// ---- names ----

// Connections are named gunyu:<replid>:<source>:<epoch>. One of the two holds whenever a sync is
// the same: after a full sync under a new id, and when the source is reached by another address.
struct named {
    int64_t id;
    uint64_t epoch;
};

static bool take_line(struct slice line, const struct dial_job *j, struct named *out)
{
    const char *name = memmem(line.p, line.n, " name=gunyu:", 12);
    if (!name || line.n < 4 || memcmp(line.p, "id=", 3) != 0)
        return false;
    const char *from = name + 12, *end = line.p + line.n;
    const char *until = memchr(from, ' ', (size_t)(end - from));
    struct slice rest = slice_make(from, (size_t)((until ? until : end) - from));
    bool ours = (*j->id1 && slice_has_prefix(rest, slice_cstr(j->id1))) ||
                (*j->id2 && slice_has_prefix(rest, slice_cstr(j->id2))) ||
                memmem(rest.p, rest.n, j->source, strlen(j->source));
    const char *colon = memrchr(rest.p, ':', rest.n);
    const char *space = memchr(line.p, ' ', line.n);
    out->epoch = 0; // one that has none is older than all
    if (colon)
        (void)slice_u64(slice_make(colon + 1, (size_t)(rest.p + rest.n - colon - 1)), &out->epoch);
    return ours && slice_i64(slice_make(line.p + 3, (size_t)(space - line.p - 3)), &out->id);
}

static bool next_named(struct slice *list, const struct dial_job *j, struct named *out)
{
    while (list->n) {
        const char *nl = memchr(list->p, '\n', list->n);
        size_t n = nl ? (size_t)(nl - list->p) : list->n;
        struct slice line = slice_make(list->p, n);
        *list = slice_make(list->p + n + (nl != NULL), list->n - n - (nl != NULL));
        if (take_line(line, j, out))
            return true;
    }
    return false;
}

static int list_clients(struct dial_job *j, struct redis_client *c, struct buf *out)
{
    struct redis_reply reply;
    int rc = redis_call(c, &reply, &j->r.err, "CLIENT LIST");
    if (rc == 0)
        buf_append_slice(out, reply.root.text);
    return permitted(j, rc, &j->no_kill);
}

// A lane that begins goes beyond the epochs of those that are connected.
static int look_at_node(struct dial_job *j, struct redis_client *c)
{
    struct buf text = {0};
    int rc = list_clients(j, c, &text);
    struct slice list = buf_slice(&text);
    struct named one;
    while (next_named(&list, j, &one))
        if (one.epoch > j->seen)
            j->seen = one.epoch;
    buf_free(&text);
    return rc;
}

static int kill_one(struct dial_job *j, struct redis_client *c, int64_t id)
{
    // SKIPME: of those with our name one is c itself.
    return permitted(j, redis_call(c, NULL, &j->r.err, "CLIENT KILL ID %L SKIPME yes", id),
                     &j->no_kill);
}

// What an earlier connection of this sync has sent may still wait in the target's socket. It must
// not be carried out after the position was read.
static int kill_at_node(struct dial_job *j, struct redis_client *c)
{
    struct buf text = {0};
    bool elsewhere = j->no_kill;
    j->no_kill = false; // of this node
    int rc = list_clients(j, c, &text);
    struct slice list = buf_slice(&text);
    struct named one;
    uint64_t highest = 0;
    while (next_named(&list, j, &one))
        if (one.epoch > highest)
            highest = one.epoch;
    // One that does not exist: whether it is permitted must be known before there is need.
    if (rc == 0 && text.n)
        rc = kill_one(j, c, INT64_MAX);
    if (rc == 0 && highest > j->want)
        rc = replaced(j, highest);
    list = buf_slice(&text);
    while (rc == 0 && !j->no_kill && next_named(&list, j, &one))
        rc = kill_one(j, c, one.id);
    j->no_kill = j->no_kill || elsewhere;
    buf_free(&text);
    return rc;
}

// Before the last look at the record: of two processes that dial at once, neither may read what the
// other is about to change without being seen by it.
static int name_node(struct dial_job *j, struct redis_client *c)
{
    int rc =
        redis_call(c, NULL, &j->r.err, "CLIENT SETNAME gunyu:%s%s%U", j->id1, j->source, j->want);
    return permitted(j, rc, &j->no_kill);
}

// ---- the record ----

// Where the record is, or is to be.
static const char *record_id(const struct dial_job *j)
{
    const struct target_result *r = &j->r;
    return r->found && !r->position.foreign ? r->position.replid : j->id1;
}

static int read_record(struct dial_job *j, const char *id, struct redis_reply *reply,
                       uint64_t *epoch)
{
    char name[64];
    struct position p;
    struct slice key = position_key(id, name);
    int rc = redis_call(owner_of(j, key), reply, &j->r.err, "GET %b", &key);
    bool is = rc == 0 && reply->root.type == RESP_BULK && position_parse(id, reply->root.text, &p);
    *epoch = is ? p.epoch : 0;
    return rc;
}

// As redis_call, but only what an access list or a proxy says means that it is not permitted.
static int watch_record(struct dial_job *j, const char *id)
{
    char name[64];
    struct redis_reply reply;
    struct slice key = position_key(id, name);
    int rc = redis_call(owner_of(j, key), &reply, &j->r.err, "WATCH %b", &key);
    bool never = rc == ERR_REPLY && (slice_has_prefix(reply.root.text, SLICE("NOPERM")) ||
                                     slice_has_prefix(reply.root.text, SLICE("ERR")));
    return never ? permitted(j, rc, &j->no_watch) : rc;
}

// *stored: it bears `want` now. Else somebody else has written it meanwhile.
static int write_epoch(struct dial_job *j, const char *id, struct slice value, bool *stored)
{
    char name[64];
    struct redis_reply reply;
    struct resp_node node = {0};
    struct buf b = {0};
    resp_put_cmd(&b, "MULTI");
    position_put_epoch(&b, id, value, j->want, clock_unix_ms());
    resp_put_cmd(&b, "EXEC");
    int rc =
        redis_call_raw(owner_of(j, position_key(id, name)), buf_slice(&b), 3, &reply, &j->r.err);
    buf_free(&b);
    size_t pos = reply.first_child;
    *stored = rc == 0 && reply.root.type == RESP_ARRAY;
    if (*stored && resp_next(reply.p, reply.n, &pos, &node) && node.type == RESP_ERROR)
        return err_set(&j->r.err, ERR_REPLY, "%.*s", (int)(node.text.n < 300 ? node.text.n : 300),
                       node.text.p);
    return rc;
}

// Sets what epoch is wanted and, unless the record has it, raises that. Never over a position that
// was written between reading and raising it: that one's data would be applied again.
static int raise_epoch(struct dial_job *j, const char *id, bool *raised)
{
    struct redis_reply reply = {0};
    uint64_t stored = 0;
    *raised = true;
    int rc = *id ? watch_record(j, id) : 0;
    if (rc == 0 && *id)
        rc = read_record(j, id, &reply, &stored);
    if (rc)
        return rc;
    snprintf(j->r.record_id, sizeof(j->r.record_id), "%s", id);
    j->want = j->epoch ? j->epoch : (stored > j->seen ? stored : j->seen) + 1;
    if (j->want < j->floor)
        j->want = j->floor;
    if (stored > j->want)
        return replaced(j, stored);
    if (*id && !j->no_watch && stored != j->want) {
        struct slice value = reply.root.type == RESP_BULK ? reply.root.text : (struct slice){0};
        rc = write_epoch(j, id, value, raised);
        fault_point("lane.raised");
    } else if (*id && !j->no_watch) {
        char name[64];
        rc = redis_call(owner_of(j, position_key(id, name)), NULL, &j->r.err, "UNWATCH");
    }
    if (rc == 0 && *raised && *id)
        j->epoch = j->r.epoch = j->want; // also if the rest of this attempt fails
    return rc;
}

// Nobody has written the record between raising it and the kill.
static int verify(struct dial_job *j, bool *done)
{
    struct redis_reply reply;
    uint64_t stored = j->want;
    const char *id = record_id(j);
    int rc = *id ? read_record(j, id, &reply, &stored) : 0;
    if (rc == 0 && stored > j->want)
        return replaced(j, stored);
    *done = rc == 0 && (stored == j->want || j->no_watch);
    return rc;
}

static int read_anew(struct dial_job *j, int (*read)(struct dial_job *j))
{
    j->r.found = false;
    j->r.position = (struct position){0};
    return read(j);
}

int dial_claim(struct dial_job *j, int (*read)(struct dial_job *j))
{
    struct target_result *r = &j->r;
    int rc = j->epoch ? 0 : for_nodes(j, look_at_node);
    bool done = false, raised;
    for (int i = 0; i < ROUNDS && rc == 0 && !done; i++) {
        rc = read_anew(j, read);
        if (rc == 0)
            rc = raise_epoch(j, record_id(j), &raised);
        if (rc == 0)
            rc = for_nodes(j, name_node);
        if (rc == 0)
            rc = for_nodes(j, kill_at_node);
        if (rc || !raised)
            continue;
        fault_point("lane.fenced");
        rc = read_anew(j, read);
        if (rc == 0)
            rc = verify(j, &done);
    }
    if (rc == 0 && !done)
        rc = err_set(&r->err, ERR_LOCKED, "somebody else goes on writing the position there");
    r->fence = !j->no_kill                 ? LANE_FENCE_KILL
               : j->seeds_n || j->no_watch ? LANE_FENCE_LEASE
                                           : LANE_FENCE_CHECK;
    fault_point("lane.position_read");
    return rc;
}

// ---- emptying the target ----

static int flush_node(struct dial_job *j, struct redis_client *c)
{
    char name[64];
    struct buf b = {0};
    bool keeps = *j->id1 && c == owner_of(j, position_key(j->id1, name));
    if (keeps)
        resp_put_cmd(&b, "MULTI");
    resp_put_cmd(&b, j->flush_command);
    if (keeps) {
        position_put_epoch(&b, j->id1, (struct slice){0}, j->want, clock_unix_ms());
        resp_put_cmd(&b, "EXEC");
    }
    int rc = redis_call_raw(c, buf_slice(&b), keeps ? 4 : 1, NULL, &j->r.err);
    buf_free(&b);
    return rc;
}

// The position goes first: it must not outlive what it speaks of. In a cluster the way to
// redisGunYu's goes with the first node for the same reason.
int dial_flush(struct dial_job *j)
{
    char name[64];
    int rc = 0;
    const char *ids[] = {j->id1, j->id2};
    for (size_t i = 0; i < 2 && rc == 0; i++) {
        struct buf b = {0};
        if (!*ids[i])
            continue;
        if (i == 0)
            position_put_epoch(&b, ids[i], (struct slice){0}, j->want, clock_unix_ms());
        else
            position_put_del(&b, ids[i]);
        rc = redis_call_raw(owner_of(j, position_key(ids[i], name)), buf_slice(&b), 1, NULL,
                            &j->r.err);
        buf_free(&b);
    }
    if (rc == 0 && j->seeds_n)
        rc = flush_node(j, owner_of(j, SLICE(POSITION_FOREIGN_INDEX)));
    if (rc == 0)
        rc = for_nodes(j, flush_node);
    if (rc == 0 && *j->id1)
        snprintf(j->r.record_id, sizeof(j->r.record_id), "%s", j->id1);
    fault_point("lane.flushed");
    return rc;
}

// ---- other connections ----

void lane_pass_make(const struct lane *l, struct lane_pass *p)
{
    *p = (struct lane_pass){.epoch = l->epoch,
                            .seeds = l->router ? l->o.target_seeds : NULL,
                            .seeds_n = l->router ? l->o.target_seeds_n : 0};
    lane_connection_name(l, p->name);
    memcpy(p->ids[0], l->record_id, sizeof(p->ids[0]));
    memcpy(p->ids[1], l->id1, sizeof(p->ids[1]));
    memcpy(p->ids[2], l->stale_replid, sizeof(p->ids[2]));
}

static int ask_owner(const struct lane_pass *p, struct slice key, struct redis_reply *reply,
                     struct redis_client **owner, struct err *e)
{
    struct cluster_map map;
    struct endpoint ep;
    int rc = cluster_find(&map, p->seeds, p->seeds_n, CONNECT_TIMEOUT_MS, e);
    if (rc)
        return rc;
    int16_t shard = map.owner[slot_of(key)];
    if (shard < 0) {
        cluster_free(&map);
        return err_set(e, ERR_REPLY, "CLUSTERDOWN a slot has no owner");
    }
    cluster_endpoint(&ep, &map.shards[shard].master, &p->seeds[0]);
    rc = redis_connect(owner, &ep, CONNECT_TIMEOUT_MS, e);
    endpoint_free(&ep);
    cluster_free(&map);
    return rc ? rc : redis_call(*owner, reply, e, "GET %b", &key);
}

static int read_epoch(const struct lane_pass *p, struct redis_client *c, const char *id,
                      uint64_t *epoch, struct err *e)
{
    char name[64];
    struct position at;
    struct redis_reply reply;
    struct redis_client *owner = NULL;
    struct slice key = position_key(id, name);
    int rc = redis_call(c, &reply, e, "GET %b", &key);
    if (rc == ERR_REPLY && p->seeds_n && slice_has_prefix(reply.root.text, SLICE("MOVED ")))
        rc = ask_owner(p, key, &reply, &owner, e);
    if (rc == 0 && reply.root.type == RESP_BULK && position_parse(id, reply.root.text, &at) &&
        at.epoch > *epoch)
        *epoch = at.epoch;
    redis_close(owner);
    return rc;
}

int lane_pass_check(void *pass, struct redis_client *c, struct err *e)
{
    const struct lane_pass *p = pass;
    uint64_t epoch = 0;
    int rc = 0;
    for (size_t i = 0; i < 3 && rc == 0; i++)
        if (p->ids[i][0] && (i == 0 || strcmp(p->ids[i], p->ids[0]) != 0))
            rc = read_epoch(p, c, p->ids[i], &epoch, e);
    if (rc == 0 && epoch && epoch <= p->epoch)
        return 0;
    if (rc == 0)
        err_set(e, ERR_CLOSED, "another process has taken over, or the position there has gone");
    e->code = ERR_CLOSED; // whatever it was, a new look at the target decides
    return ERR_CLOSED;
}

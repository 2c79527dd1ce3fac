// SPDX-License-Identifier: Apache-2.0
#include "target/sweep.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "codec/slot.h"
#include "flow/expiry.h"
#include "redis/cluster.h"
#include "target/expiry.h"

enum {
    PAGE = 500,
    // The target works for us a quarter of the time at most.
    REST_FACTOR = 3,
    REST_MAX_US = 100000,
    LEFT_MAX = 8 << 20,
    MAX_DBS = 1 << 16,
};

// ARGV: time, what is dead, what is near, 1 to defuse, 1 for fields, cursor. KEYS: a hash whose
// fields the cursor is of; none: the cursor is of the keys.
// Reply: the next cursor, how many were changed, hashes that are too big for one page, of those
// that must wait: key, field or false, true expiry; and how many keys are there but belong to
// another node of the cluster, while a slot moves.
static const char script[] =
    "local dead,near,now=tonumber(ARGV[2]),tonumber(ARGV[3]),ms() "
    "local defuse,changed,big,left,others=ARGV[4]=='1',0,{},{},0 "
    "local function text(n) return string.format('%.0f',n) end "
    "local function judge(at,set,k,f) "
    "if defuse then if at>now and at<=now+near then set(text(at+2^45)) changed=changed+1 end "
    "return end "
    "local t=at-2^45 if t<2^40 or t>2^41 then return end "
    "if t<=dead or t>now+near then set(text(t)) changed=changed+1 "
    "else left[#left+1]=k left[#left+1]=f left[#left+1]=text(t) end end "
    "local function fields(k,cursor) local r=redis.call('HSCAN',k,cursor,'COUNT',500) "
    "for i=1,#r[2],2 do local f=r[2][i] local t=redis.call('HPEXPIRETIME',k,'FIELDS',1,f) "
    "if t[1] and t[1]>0 then judge(t[1],function(v) "
    "redis.call('HPEXPIREAT',k,v,'FIELDS',1,f) end,k,f) end end return r[1] end "
    "if KEYS[1] then "
    "if redis.call('TYPE',KEYS[1]).ok~='hash' then return {'0',0,{},{}} end "
    "return {fields(KEYS[1],ARGV[6]),changed,{},left,0} end "
    "local function look(k) local t=at(k) "
    "if t>0 then judge(t,function(v) redis.call('PEXPIREAT',k,v) end,k,false) end "
    "if ARGV[5]=='1' and redis.call('TYPE',k).ok=='hash' and fields(k,'0')~='0' "
    "then big[#big+1]=k end end "
    "local r=redis.call('SCAN',ARGV[6],'COUNT',500) "
    "for _,k in ipairs(r[2]) do local ok,e=pcall(look,k) if not ok then "
    "local text=tostring(type(e)=='table' and e.err or e) "
    "if not text:find('non local key',1,true) and not text:find('slot not served',1,true) "
    "then error(e,0) end others=others+1 end end return {r[1],changed,big,left,others}";

struct sweep {
    struct redis_client *c;
    const struct sweep_options *o;
    struct sweep_result *r;
    struct buf script, text, cursor, big;
    bool fields; // of the current db
    int db;
};

bool sweep_is_possible(int version, bool is_valkey)
{
    return is_valkey || version == 0 || version >= 30200;
}

static void put_left(struct sweep *s, struct slice key, struct slice field, int64_t true_ms)
{
    uint32_t head[4] = {(uint32_t)s->db, (uint32_t)key.n, (uint32_t)field.n, field.p != NULL};
    struct buf *b = &s->r->left;
    if (b->n + sizeof(head) + sizeof(true_ms) + key.n + field.n > LEFT_MAX) {
        s->r->left_out = true;
        return;
    }
    buf_append(b, head, sizeof(head));
    buf_append(b, &true_ms, sizeof(true_ms));
    buf_append_slice(b, key);
    buf_append_slice(b, field);
}

bool sweep_next(struct slice *left, struct sweep_item *out)
{
    uint32_t head[4];
    size_t fixed = sizeof(head) + sizeof(out->true_ms);
    if (left->n < fixed)
        return false;
    memcpy(head, left->p, sizeof(head));
    memcpy(&out->true_ms, left->p + sizeof(head), sizeof(out->true_ms));
    out->db = (int)head[0];
    out->key = slice_make(left->p + fixed, head[1]);
    out->field = head[3] ? slice_make(out->key.p + head[1], head[2]) : (struct slice){0};
    size_t n = fixed + head[1] + head[2];
    *left = slice_make(left->p + n, left->n - n);
    return true;
}

static bool next_of(const struct redis_reply *p, size_t *pos, enum resp_type type,
                    struct resp_node *n)
{
    return resp_next(p->p, p->n, pos, n) && n->type == type;
}

static bool take_left(struct sweep *s, const struct redis_reply *p, size_t *pos)
{
    struct resp_node list, key, field, at;
    if (!next_of(p, pos, RESP_ARRAY, &list))
        return false;
    for (int64_t i = 0; i + 2 < list.num; i += 3) {
        int64_t ms;
        if (!next_of(p, pos, RESP_BULK, &key) || !resp_next(p->p, p->n, pos, &field) ||
            !next_of(p, pos, RESP_BULK, &at) || !slice_i64(at.text, &ms))
            return false;
        struct slice f = field.type == RESP_BULK ? field.text : (struct slice){0};
        if (field.type == RESP_BULK && !f.p)
            f.p = "";
        put_left(s, key.text, f, ms);
    }
    return true;
}

static bool take_big(struct sweep *s, const struct redis_reply *p, size_t *pos)
{
    struct resp_node list, key;
    buf_clear(&s->big);
    if (!next_of(p, pos, RESP_ARRAY, &list))
        return false;
    for (int64_t i = 0; i < list.num; i++) {
        if (!next_of(p, pos, RESP_BULK, &key))
            return false;
        buf_append(&s->big, &key.text.n, sizeof(key.text.n));
        buf_append_slice(&s->big, key.text);
    }
    return true;
}

static int take_page(struct sweep *s, const struct redis_reply *p, bool of_keys, struct err *e)
{
    struct resp_node cursor, changed, skipped, others;
    size_t pos = p->first_child;
    if (p->root.type != RESP_ARRAY || !next_of(p, &pos, RESP_BULK, &cursor) ||
        !next_of(p, &pos, RESP_INTEGER, &changed) ||
        !(of_keys ? take_big(s, p, &pos) : next_of(p, &pos, RESP_ARRAY, &skipped)) ||
        !take_left(s, p, &pos) || !next_of(p, &pos, RESP_INTEGER, &others))
        return err_set(e, ERR_PROTOCOL, "the target's answer to a sweep makes no sense");
    buf_clear(&s->cursor);
    buf_append_slice(&s->cursor, cursor.text);
    s->r->changed += (uint64_t)changed.num;
    s->r->left_out |= others.num > 0;
    return 0;
}

// One page of the db (hash NULL) or of a hash.
static int page(struct sweep *s, const struct slice *hash, struct err *e)
{
    int64_t now = clock_unix_ms() + s->o->ahead_ms;
    const struct slice cursor = buf_slice(&s->cursor);
    buf_clear(&s->text);
    resp_put_array(&s->text, (size_t)(9 + (hash != NULL)));
    resp_put_bulk(&s->text, SLICE("EVAL"));
    resp_put_bulk(&s->text, buf_slice(&s->script));
    resp_put_i64(&s->text, hash != NULL);
    if (hash)
        resp_put_bulk(&s->text, *hash);
    resp_put_i64(&s->text, now);
    resp_put_i64(&s->text, now - EXPIRY_GRACE_MS);
    resp_put_i64(&s->text, s->o->near_ms);
    resp_put_i64(&s->text, s->o->defuse);
    resp_put_i64(&s->text, s->fields);
    resp_put_bulk(&s->text, cursor);
    struct redis_reply reply;
    uint64_t began = clock_mono_us();
    int rc = redis_call_raw(s->c, buf_slice(&s->text), 1, &reply, e);
    if (rc == 0)
        rc = take_page(s, &reply, hash == NULL, e);
    if (rc)
        return rc;
    uint64_t rest = (clock_mono_us() - began) * REST_FACTOR;
    usleep((useconds_t)(rest < REST_MAX_US ? rest : REST_MAX_US));
    return *s->o->cancel ? err_set(e, ERR_CLOSED, "cancelled") : 0;
}

static bool at_end(const struct sweep *s)
{
    return slice_eq(buf_slice(&s->cursor), SLICE("0"));
}

// The hash is another node's by now, or on its way there.
static bool is_redirection(const struct err *e)
{
    static const char *const words[] = {"MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strstr(e->msg, words[i]))
            return true;
    return false;
}

static int big_hashes(struct sweep *s, struct err *e)
{
    int rc = 0;
    for (size_t at = 0, n; rc == 0 && at < s->big.n; at += sizeof(n) + n) {
        memcpy(&n, s->big.p + at, sizeof(n));
        struct slice key = slice_make(s->big.p + at + sizeof(n), n);
        buf_clear(&s->cursor);
        buf_append_cstr(&s->cursor, "0");
        do
            rc = page(s, &key, e);
        while (rc == 0 && !at_end(s));
        if (rc == ERR_REPLY && is_redirection(e)) {
            s->r->left_out = true;
            rc = 0;
        }
    }
    return rc;
}

static int sweep_db(struct sweep *s, struct err *e)
{
    struct redis_reply reply;
    int rc = redis_call(s->c, &reply, e, "SELECT %d", s->db);
    struct buf next = {0};
    buf_clear(&s->cursor);
    buf_append_cstr(&s->cursor, "0");
    while (rc == 0) {
        rc = page(s, NULL, e);
        if (rc == 0 && s->big.n) {
            buf_clear(&next);
            buf_append_slice(&next, buf_slice(&s->cursor));
            rc = big_hashes(s, e);
            buf_clear(&s->cursor);
            buf_append_slice(&s->cursor, buf_slice(&next));
        }
        if (at_end(s))
            break;
    }
    buf_free(&next);
    return rc;
}

// "keys=9,expires=2,...": the number behind a name; 0 when it is not there.
static int64_t number_of(struct slice text, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i + n < text.n; i++)
        if (memcmp(text.p + i, name, n) == 0 && text.p[i + n] == '=') {
            size_t end = i + n + 1;
            while (end < text.n && text.p[end] >= '0' && text.p[end] <= '9')
                end++;
            int64_t v = 0;
            (void)slice_i64(slice_make(text.p + i + n + 1, end - i - n - 1), &v);
            return v;
        }
    return 0;
}

int sweep_run(struct redis_client *c, const struct sweep_options *o, struct sweep_result *r,
              struct err *e)
{
    struct sweep s = {.c = c, .o = o, .r = r};
    struct redis_reply reply;
    int rc = redis_call(c, &reply, e, "INFO keyspace");
    if (rc)
        return rc;
    struct buf info = {0};
    buf_append_slice(&info, reply.root.text);
    buf_append_cstr(&s.script, expiry_script_head(o->version, o->is_valkey));
    buf_append_cstr(&s.script, script);
    for (s.db = 0; rc == 0 && s.db < MAX_DBS; s.db++) {
        char name[16];
        struct slice line;
        snprintf(name, sizeof(name), "db%d", s.db);
        if (!redis_info_field(buf_slice(&info), name, &line))
            continue;
        s.fields = o->fields && (number_of(line, "subexpiry") > 0 ||
                                 number_of(line, "keys_with_volatile_items") > 0);
        if (s.fields || number_of(line, "expires") > 0)
            rc = sweep_db(&s, e);
    }
    buf_free(&info);
    buf_free(&s.script);
    buf_free(&s.text);
    buf_free(&s.cursor);
    buf_free(&s.big);
    return rc;
}

// ---- nodes ----

static int connect_node(const struct endpoint *node, const struct sweep_dial *d,
                        struct redis_client **c, struct err *e)
{
    int rc = redis_connect(c, node, d->timeout_ms, e);
    fault_point("sweep.connected");
    if (rc == 0 && d->name)
        rc = redis_call(*c, NULL, e, "CLIENT SETNAME %s", d->name);
    if ((rc == 0 || rc == ERR_REPLY) && d->admit)
        rc = d->admit(d->ctx, *c, e);
    return rc == ERR_REPLY ? 0 : rc;
}

static struct slice cut_at(struct slice *text, char sep)
{
    const char *at = text->n ? memchr(text->p, sep, text->n) : NULL;
    size_t n = at ? (size_t)(at - text->p) : text->n;
    struct slice head = slice_make(text->p, n);
    *text = slice_make(text->p + n + (at != NULL), text->n - n - (at != NULL));
    return head;
}

// Appends what the node says of itself: the slots that it serves and those that it moves.
static int own_slots(struct redis_client *c, struct buf *out, struct err *e)
{
    enum { FLAGS_AT = 2, SLOTS_AT = 8 };
    struct redis_reply reply;
    int rc = redis_call(c, &reply, e, "CLUSTER NODES");
    struct slice text = reply.root.text;
    while (rc == 0 && text.n) {
        struct slice line = cut_at(&text, '\n');
        bool own = false;
        for (int i = 0; i < SLOTS_AT; i++) {
            struct slice word = cut_at(&line, ' ');
            own = own || (i == FLAGS_AT && slice_has_prefix(word, SLICE("myself")));
        }
        if (own)
            buf_append_slice(out, line);
    }
    buf_append_char(out, ' ');
    return rc;
}

static int slots_of_all(const struct endpoint *nodes, size_t n, const struct sweep_dial *d,
                        struct buf *out, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct redis_client *c = NULL;
        rc = connect_node(&nodes[i], d, &c, e);
        if (rc == 0)
            rc = own_slots(c, out, e);
        redis_close(c);
    }
    return rc;
}

// Ranges and single slots: "0-100 200". "[...]" is on the move.
static bool all_slots_rest(struct slice text)
{
    int64_t slots = 0;
    while (text.n) {
        struct slice last = cut_at(&text, ' '), first = cut_at(&last, '-');
        int64_t from, to;
        if (first.n == 0)
            continue;
        if (!slice_i64(first, &from) || !slice_i64(last.n ? last : first, &to))
            return false;
        slots += to - from + 1;
    }
    return slots == SLOT_COUNT;
}

int sweep_nodes(const struct endpoint *nodes, size_t n, const struct sweep_dial *d,
                const struct sweep_options *o, struct sweep_result *r, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct redis_client *c = NULL;
        rc = connect_node(&nodes[i], d, &c, e);
        if (rc == 0)
            rc = sweep_run(c, o, r, e);
        redis_close(c);
    }
    return rc;
}

static int sweep_masters(const struct endpoint *masters, size_t n, const struct sweep_dial *d,
                         const struct sweep_options *o, struct sweep_result *r, struct err *e)
{
    struct buf before = {0}, after = {0};
    int rc = slots_of_all(masters, n, d, &before, e);
    if (rc == 0)
        rc = sweep_nodes(masters, n, d, o, r, e);
    if (rc == 0)
        rc = slots_of_all(masters, n, d, &after, e);
    if (!all_slots_rest(buf_slice(&before)) || !slice_eq(buf_slice(&before), buf_slice(&after)))
        r->left_out = true;
    buf_free(&before);
    buf_free(&after);
    return rc;
}

int sweep_cluster(const struct endpoint *seeds, size_t n, const struct sweep_dial *d,
                  const struct sweep_options *o, struct sweep_result *r, struct err *e)
{
    struct cluster_map map;
    int rc = cluster_find(&map, seeds, n, d->timeout_ms, e);
    if (rc)
        return rc;
    struct endpoint *masters = cluster_endpoints(&map, &seeds[0]);
    rc = sweep_masters(masters, map.shards_n, d, o, r, e);
    endpoints_free(masters, map.shards_n);
    cluster_free(&map);
    return rc;
}

// SPDX-License-Identifier: Apache-2.0
#include "target/expiry.h"

#include <stddef.h>
#include <stdlib.h>
#include <uthash.h>

#include "base/mem.h"
#include "codec/resp.h"
#include "codec/slot.h"
#include "flow/expiry.h"

enum {
    KEYS_PER_SCRIPT = 64,
    KEYS_PER_UNIT = 4 * KEYS_PER_SCRIPT,
    KEYS_PER_CALL = 8 * KEYS_PER_UNIT,
    LOOKS_PER_CALL = 16384,
    // A held key is left alone for a part of its life, so that one that is renewed again and again
    // never has a near expiry at the target: this is what survives a crash of ours.
    QUIET_MAX_MS = 3000,
    MALLOC_OVERHEAD = 16,
};

struct entry {
    int64_t true_ms;
    int64_t due_ms;  // held: when to settle; settled: when to forget
    int64_t heap_ms; // what the heap is ordered by, at most due_ms: a renewal leaves the heap alone
    UT_hash_handle hh;
    uint32_t heap_at;
    uint32_t key_len, field_len;
    int16_t slot; // SINK_ANY_NODE when the target is no cluster
    bool settled;
    struct {
        uint32_t db, key_len, is_field;
    } head;      // with what follows, the hash key
    char name[]; // key, field
};
_Static_assert(offsetof(struct entry, name) == offsetof(struct entry, head) + 12, "one hash key");

struct expiry {
    struct entry *entries;
    struct entry **heap; // earliest heap_ms first
    uint32_t heap_n, heap_cap;
    uint32_t defused; // heap[0 .. defused) are not settled
    bool unordered;   // the heap, since expiry_defuse_begin
    size_t bytes, max_bytes;
    size_t settled_bytes; // part of bytes; at most half of max_bytes
    size_t held;
    bool sweep, any_fields, cluster;
    const char *script_head;
    struct buf name, text, script;
};

struct expiry *expiry_new(size_t max_bytes)
{
    struct expiry *x = xcalloc(1, sizeof(*x));
    x->max_bytes = max_bytes;
    x->script_head = expiry_script_head(0, false);
    return x;
}

void expiry_set_target(struct expiry *x, int version, bool is_valkey, bool cluster)
{
    must(cluster == x->cluster || !x->entries);
    x->cluster = cluster;
    x->script_head = expiry_script_head(version, is_valkey);
}

// ---- the heap ----

static void heap_put(struct expiry *x, uint32_t i, struct entry *n)
{
    x->heap[i] = n;
    n->heap_at = i;
}

static void heap_up(struct expiry *x, uint32_t i)
{
    struct entry *n = x->heap[i];
    for (; i && x->heap[(i - 1) / 2]->heap_ms > n->heap_ms; i = (i - 1) / 2)
        heap_put(x, i, x->heap[(i - 1) / 2]);
    heap_put(x, i, n);
}

static void heap_down(struct expiry *x, uint32_t i)
{
    struct entry *n = x->heap[i];
    for (uint32_t child; (child = 2 * i + 1) < x->heap_n; i = child) {
        if (child + 1 < x->heap_n && x->heap[child + 1]->heap_ms < x->heap[child]->heap_ms)
            child++;
        if (x->heap[child]->heap_ms >= n->heap_ms)
            break;
        heap_put(x, i, x->heap[child]);
    }
    heap_put(x, i, n);
}

static void heap_add(struct expiry *x, struct entry *n)
{
    if (x->heap_n == x->heap_cap) {
        x->heap_cap = x->heap_cap ? 2 * x->heap_cap : 64;
        x->heap = xrealloc(x->heap, x->heap_cap * sizeof(*x->heap));
    }
    n->heap_ms = n->due_ms;
    x->heap[x->heap_n] = n;
    heap_up(x, x->heap_n++);
}

static void heap_remove(struct expiry *x, struct entry *n)
{
    uint32_t i = n->heap_at;
    struct entry *last = x->heap[--x->heap_n];
    if (last == n)
        return;
    heap_put(x, i, last);
    heap_up(x, i);
    heap_down(x, last->heap_at);
}

static void heap_order(struct expiry *x)
{
    for (uint32_t i = x->heap_n / 2; i-- > 0;)
        heap_down(x, i);
}

// ---- entries ----

static size_t entry_size(const struct entry *n)
{
    return sizeof(*n) + n->key_len + n->field_len + sizeof(void *) + MALLOC_OVERHEAD;
}

// Counts it in (sign 1) or out (-1).
static void entry_count(struct expiry *x, const struct entry *n, int sign)
{
    size_t size = entry_size(n);
    x->bytes = sign > 0 ? x->bytes + size : x->bytes - size;
    if (n->settled)
        x->settled_bytes = sign > 0 ? x->settled_bytes + size : x->settled_bytes - size;
    else
        x->held = sign > 0 ? x->held + 1 : x->held - 1;
}

// Must not be in the heap any more.
static void entry_free(struct expiry *x, struct entry *n)
{
    entry_count(x, n, -1);
    HASH_DEL(x->entries, n);
    free(n);
}

void expiry_clear(struct expiry *x)
{
    struct entry *n, *next;
    HASH_ITER(hh, x->entries, n, next)
    entry_free(x, n);
    x->heap_n = x->defused = 0;
    x->unordered = false;
    x->sweep = x->any_fields = false;
}

void expiry_free(struct expiry *x)
{
    if (!x)
        return;
    expiry_clear(x);
    free(x->heap);
    buf_free(&x->name);
    buf_free(&x->text);
    buf_free(&x->script);
    free(x);
}

// x->name becomes the hash key.
static struct entry *find(struct expiry *x, int db, struct slice key, struct slice field)
{
    uint32_t head[3] = {(uint32_t)db, (uint32_t)key.n, field.p != NULL};
    buf_clear(&x->name);
    buf_append(&x->name, head, sizeof(head));
    buf_append_slice(&x->name, key);
    buf_append_slice(&x->name, field);
    struct entry *n;
    HASH_FIND(hh, x->entries, x->name.p, x->name.n, n);
    return n;
}

// Adds what `find` has just not found. NULL: no room.
static struct entry *add(struct expiry *x, struct slice key, struct slice field, int64_t true_ms,
                         int64_t due_ms, bool settled)
{
    struct entry *n = NULL;
    size_t size = sizeof(*n) + key.n + field.n + sizeof(void *) + MALLOC_OVERHEAD;
    if (key.n > UINT32_MAX || field.n > UINT32_MAX || size > x->max_bytes - x->bytes ||
        (settled && size > x->max_bytes / 2 - x->settled_bytes))
        return NULL;
    n = xmalloc(sizeof(*n) + key.n + field.n);
    n->true_ms = true_ms;
    n->due_ms = due_ms;
    n->key_len = (uint32_t)key.n;
    n->field_len = (uint32_t)field.n;
    n->slot = (int16_t)(x->cluster ? slot_of(key) : SINK_ANY_NODE);
    n->settled = settled;
    memcpy(&n->head, x->name.p, x->name.n);
    HASH_ADD(hh, x->entries, head, x->name.n, n);
    entry_count(x, n, 1);
    heap_add(x, n);
    return n;
}

static void set_settled(struct expiry *x, struct entry *n, bool settled)
{
    entry_count(x, n, -1);
    n->settled = settled;
    entry_count(x, n, 1);
}

static int64_t due_of(int64_t true_ms, int64_t now_ms)
{
    int64_t left = true_ms - now_ms;
    if (left <= 0)
        return now_ms + EXPIRY_GRACE_MS;
    int64_t quiet = left * 6 / 10;
    return now_ms + (quiet < QUIET_MAX_MS ? quiet : QUIET_MAX_MS);
}

void expiry_held(struct expiry *x, int db, struct slice key, struct slice field, int64_t true_ms,
                 int64_t now_ms)
{
    int64_t due_ms = due_of(true_ms, now_ms);
    x->any_fields = x->any_fields || field.p;
    struct entry *n = find(x, db, key, field);
    if (!n) {
        if (!add(x, key, field, true_ms, due_ms, false))
            x->sweep = true;
        return;
    }
    if (n->settled)
        set_settled(x, n, false);
    n->true_ms = true_ms;
    n->due_ms = due_ms;
    if (due_ms < n->heap_ms) {
        n->heap_ms = due_ms;
        heap_up(x, n->heap_at);
    }
}

void expiry_found(struct expiry *x, int db, struct slice key, struct slice field, int64_t true_ms,
                  int64_t now_ms)
{
    struct entry *n = find(x, db, key, field);
    if (!n || n->settled)
        expiry_held(x, db, key, field, true_ms, now_ms);
}

void expiry_follow(struct expiry *x, int from_db, struct slice from, int to_db, struct slice to,
                   int64_t now_ms)
{
    struct slice none = {0};
    struct entry *n = find(x, from_db, from, none);
    // The key may be a hash with fields in the table.
    if (x->any_fields)
        x->sweep = true;
    if (!n)
        return;
    if (!n->settled) {
        expiry_held(x, to_db, to, none, n->true_ms, now_ms);
        return;
    }
    int64_t true_ms = n->true_ms, due_ms = n->due_ms;
    n = find(x, to_db, to, none);
    if (!n)
        (void)add(x, to, none, true_ms, due_ms, true);
    else if (n->settled)
        n->true_ms = true_ms;
}

void expiry_want_sweep(struct expiry *x)
{
    x->sweep = true;
}

bool expiry_wants_sweep(const struct expiry *x)
{
    return x->sweep;
}

void expiry_sweep_begun(struct expiry *x)
{
    x->sweep = false;
}

bool expiry_any(const struct expiry *x)
{
    return x->held || x->sweep;
}

bool expiry_may_be_far(const struct expiry *x)
{
    return expiry_any(x) || (x->cluster && x->heap_n);
}

bool expiry_any_fields(const struct expiry *x)
{
    return x->any_fields;
}

size_t expiry_count(const struct expiry *x)
{
    return x->held;
}

// ---- scripts ----

#define LUA_CLOCK                                                                                  \
    "local function ms() local t=redis.call('TIME') "                                              \
    "return t[1]*1000+math.floor(t[2]/1000) end "
#define LUA_EXACT "local function same(a,b) return a==b end "

const char *expiry_script_head(int version, bool is_valkey)
{
    if (is_valkey || version == 0 || version >= 70000)
        return LUA_CLOCK LUA_EXACT "local function at(k) return redis.call('PEXPIRETIME',k) end ";
    // PTTL and TIME of the same millisecond tell an expiry exactly.
    if (version >= 30200)
        return "redis.replicate_commands() " LUA_CLOCK LUA_EXACT "local function at(k) local a,p,b "
               "repeat a=ms() p=redis.call('PTTL',k) b=ms() until a==b "
               "if p<0 then return p end return a+p end ";
    // These take no write after TIME.
    return "local function ms() return tonumber(ARGV[1]) end "
           "local function at(k) local p=redis.call('PTTL',k) "
           "if p<0 then return p end return ms()+p end "
           "local function same(a,b) return math.abs(a-b)<2000 end ";
}

#define LUA_FAR "35184372088832"
_Static_assert(EXPIRY_FAR_SHIFT == INT64_C(35184372088832), "the scripts know the shift");

// ARGV: time of sending, what is dead, 1 to report the late; then as many true times as keys.
// The target may get to this late. A key must then still have half of the time that it had when
// this was sent, for a renewal that comes behind this; or it was dead already.
static const char settle_keys[] =
    "local now,late=ms(),false "
    "for i,k in ipairs(KEYS) do local t=tonumber(ARGV[i+3]) "
    "if same(at(k),t+" LUA_FAR ") then "
    "if t<=tonumber(ARGV[2]) or (t-now)*2>t-ARGV[1] then redis.call('PEXPIREAT',k,ARGV[i+3]) "
    "else late=true end end end "
    "if late and ARGV[3]=='1' then return redis.error_reply('LATE some keys') end return 1";

// As above for one field, ARGV[5].
static const char settle_field[] =
    "local r=redis.pcall('HPEXPIRETIME',KEYS[1],'FIELDS',1,ARGV[5]) local t=tonumber(ARGV[4]) "
    "if r and r[1] and r[1]==t+" LUA_FAR " then "
    "if t<=tonumber(ARGV[2]) or (t-ms())*2>t-ARGV[1] then "
    "redis.call('HPEXPIREAT',KEYS[1],ARGV[4],'FIELDS',1,ARGV[5]) "
    "elseif ARGV[3]=='1' then return redis.error_reply('LATE some keys') end end return 1";

static const char defuse_keys[] =
    "for i,k in ipairs(KEYS) do local t=tonumber(ARGV[i+3]) if same(at(k),t) then "
    "redis.call('PEXPIREAT',k,string.format('%.0f',t+" LUA_FAR ")) end end return 1";

static const char defuse_field[] =
    "local r=redis.pcall('HPEXPIRETIME',KEYS[1],'FIELDS',1,ARGV[5]) local t=tonumber(ARGV[4]) "
    "if r and r[1] and r[1]==t then redis.call('HPEXPIREAT',KEYS[1],string.format('%.0f',t+" LUA_FAR
    "),'FIELDS',1,ARGV[5]) end return 1";

struct script_call {
    const char *keys, *field; // script of keys, script of one field
    int64_t now_ms;
    bool report;
};

static struct slice entry_key(const struct entry *n)
{
    return slice_make(n->name, n->key_len);
}

static void send_script(struct expiry *x, struct sink *s, const struct script_call *c,
                        struct entry *const *list, int n)
{
    bool field = list[0]->head.is_field;
    buf_clear(&x->script);
    buf_append_cstr(&x->script, x->script_head);
    buf_append_cstr(&x->script, field ? c->field : c->keys);
    buf_clear(&x->text);
    resp_put_array(&x->text, (size_t)(6 + 2 * n + field));
    resp_put_bulk(&x->text, SLICE("EVAL"));
    resp_put_bulk(&x->text, buf_slice(&x->script));
    resp_put_i64(&x->text, n);
    for (int i = 0; i < n; i++)
        resp_put_bulk(&x->text, entry_key(list[i]));
    resp_put_i64(&x->text, c->now_ms);
    resp_put_i64(&x->text, c->now_ms - EXPIRY_GRACE_MS);
    resp_put_i64(&x->text, c->report);
    for (int i = 0; i < n; i++)
        resp_put_i64(&x->text, list[i]->true_ms);
    if (field)
        resp_put_bulk(&x->text, slice_make(list[0]->name + list[0]->key_len, list[0]->field_len));
    sink_select(s, (int)list[0]->head.db, UINT64_MAX);
    outq_put(sink_out(s), x->text.p, x->text.n);
    sink_cmd(s, UINT64_MAX);
}

static int by_db(const void *a, const void *b)
{
    const struct entry *l = *(struct entry *const *)a, *r = *(struct entry *const *)b;
    return l->head.db < r->head.db ? -1 : l->head.db > r->head.db;
}

// One script for as many keys of one db as it takes; fields, which are rare, one each.
static void send_all(struct expiry *x, struct sink *s, const struct script_call *c,
                     struct entry **list, int n)
{
    qsort(list, (size_t)n, sizeof(struct entry *), by_db);
    for (int i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && end - i < KEYS_PER_SCRIPT; end++)
            if (list[end]->head.db != list[i]->head.db || list[end]->head.is_field ||
                list[i]->head.is_field)
                break;
        send_script(x, s, c, list + i, end - i);
    }
}

// ---- settling ----

// The first entry that is due, out of the heap's lazy order. NULL: none, or *looks is used up.
static struct entry *first_due(struct expiry *x, int64_t now_ms, int *looks)
{
    while (x->heap_n && x->heap[0]->heap_ms <= now_ms && *looks > 0) {
        struct entry *n = x->heap[0];
        if (n->due_ms <= now_ms)
            return n;
        n->heap_ms = n->due_ms;
        heap_down(x, 0);
        --*looks;
    }
    return NULL;
}

// It was sent: a second look when its time has passed removes it, if the target was too late now.
static bool remember(struct expiry *x, struct entry *n, int64_t now_ms)
{
    if (n->settled || n->true_ms <= now_ms - EXPIRY_GRACE_MS)
        return false;
    n->due_ms = n->true_ms + EXPIRY_GRACE_MS;
    if (x->settled_bytes + entry_size(n) > x->max_bytes / 2)
        return false;
    set_settled(x, n, true);
    heap_add(x, n);
    return true;
}

static bool can_remember(const struct expiry *x, struct entry *const *list, int n)
{
    size_t size = x->settled_bytes;
    for (int i = 0; i < n; i++)
        size += list[i]->settled ? 0 : entry_size(list[i]);
    return size <= x->max_bytes / 2;
}

// Both may be in one unit. In a cluster that has one slot and one db.
static bool goes_with(const struct expiry *x, const struct entry *a, const struct entry *b)
{
    return !x->cluster || (a->slot == b->slot && a->head.db == b->head.db);
}

static int collect(struct expiry *x, struct entry **list, const struct entry *first, int64_t now_ms,
                   int *looks)
{
    int n = 0;
    struct entry *it;
    while (n < KEYS_PER_UNIT && (it = first_due(x, now_ms, looks)) && goes_with(x, first, it)) {
        heap_remove(x, it);
        list[n++] = it;
    }
    return n;
}

bool expiry_settle(struct expiry *x, struct sink *s, const struct batch_mark *mark, int64_t now_ms,
                   uint64_t *settled)
{
    int looks = LOOKS_PER_CALL;
    if (x->unordered)
        heap_order(x);
    x->unordered = false;
    for (int n, keys = 0; keys < KEYS_PER_CALL; keys += n) {
        struct entry *list[KEYS_PER_UNIT], *first = first_due(x, now_ms, &looks);
        if (!first)
            return looks == 0;
        if (!sink_unit_begin(s, first->slot, true))
            return true;
        n = collect(x, list, first, now_ms, &looks);
        struct script_call c = {settle_keys, settle_field, now_ms, !can_remember(x, list, n)};
        send_all(x, s, &c, list, n);
        sink_unit_end(s, mark);
        for (int i = 0; i < n; i++) {
            *settled += !list[i]->settled;
            if (!remember(x, list[i], now_ms))
                entry_free(x, list[i]);
        }
    }
    return true;
}

static int by_slot(const void *a, const void *b)
{
    const struct entry *l = *(struct entry *const *)a, *r = *(struct entry *const *)b;
    return l->slot != r->slot ? l->slot - r->slot : by_db(a, b);
}

static void slot_order(struct expiry *x)
{
    if (x->heap_n)
        qsort(x->heap, x->heap_n, sizeof(struct entry *), by_slot);
    for (uint32_t i = 0; i < x->heap_n; i++)
        x->heap[i]->heap_at = i;
}

// What expires first goes first. In a cluster it takes fewer units when those of a slot follow each
// other.
void expiry_defuse_begin(struct expiry *x)
{
    if (x->cluster)
        slot_order(x);
    else
        heap_order(x);
    x->unordered = true;
    x->defused = 0;
}

// Those at *at and behind that are settled, as many as go into one unit. Moves *at behind them.
static int collect_settled(const struct expiry *x, struct entry **list, uint32_t *at)
{
    int n = 0;
    for (; *at < x->heap_n && n < KEYS_PER_UNIT; ++*at) {
        struct entry *it = x->heap[*at];
        if (it->settled && n && !goes_with(x, list[0], it))
            break;
        if (it->settled)
            list[n++] = it;
    }
    return n;
}

bool expiry_defuse(struct expiry *x, struct sink *s, const struct batch_mark *mark, int64_t now_ms)
{
    const struct script_call c = {defuse_keys, defuse_field, now_ms, false};
    for (int n, keys = 0; keys < KEYS_PER_CALL; keys += n) {
        struct entry *list[KEYS_PER_UNIT];
        uint32_t at = x->defused;
        n = collect_settled(x, list, &at);
        if (n == 0) {
            x->defused = at;
            return false;
        }
        if (!sink_unit_begin(s, list[0]->slot, true))
            return true;
        x->defused = at;
        send_all(x, s, &c, list, n);
        sink_unit_end(s, mark);
        for (int i = 0; i < n; i++) {
            set_settled(x, list[i], false);
            list[i]->due_ms = list[i]->heap_ms = due_of(list[i]->true_ms, now_ms);
        }
    }
    return true;
}

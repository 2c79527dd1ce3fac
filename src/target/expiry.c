// SPDX-License-Identifier: Apache-2.0
#include "target/expiry.h"

#include <stdlib.h>
#include <uthash.h>

#include "base/mem.h"
#include "codec/resp.h"
#include "flow/expiry.h"

enum {
    KEYS_PER_UNIT = 64,
    UNITS_PER_CALL = 32,
    // A held key is left alone for a part of its life, so that one that is renewed again and again
    // never has a near expiry at the target: this is what survives a pause or a crash of ours.
    QUIET_MAX_MS = 3000,
    // An expiry that has passed is set only after this: the source's own DEL is on its way, and the
    // clocks of source and target may differ a little.
    GRACE_MS = 5000,
};

struct entry {
    int64_t true_ms, due_ms;
    UT_hash_handle hh;
    uint32_t db, key_len, field_len;
    char name[]; // db, key length (4 bytes each), key, field: the hash key
};

struct expiry {
    struct entry *entries;
    size_t bytes, max_bytes;
    bool sweep;
    struct buf name, text;
};

struct expiry *expiry_new(size_t max_bytes)
{
    struct expiry *x = xcalloc(1, sizeof(*x));
    x->max_bytes = max_bytes;
    return x;
}

static size_t entry_size(const struct entry *n)
{
    return sizeof(*n) + 8 + n->key_len + n->field_len;
}

static void entry_remove(struct expiry *x, struct entry *n)
{
    x->bytes -= entry_size(n);
    HASH_DEL(x->entries, n);
    free(n);
}

void expiry_clear(struct expiry *x)
{
    struct entry *n, *next;
    HASH_ITER (hh, x->entries, n, next)
        entry_remove(x, n);
    x->sweep = false;
}

void expiry_free(struct expiry *x)
{
    if (!x)
        return;
    expiry_clear(x);
    buf_free(&x->name);
    buf_free(&x->text);
    free(x);
}

static int64_t due_of(int64_t true_ms, int64_t now_ms)
{
    int64_t left = true_ms - now_ms;
    if (left <= 0)
        return now_ms + GRACE_MS;
    int64_t quiet = left * 6 / 10;
    return now_ms + (quiet < QUIET_MAX_MS ? quiet : QUIET_MAX_MS);
}

void expiry_held(struct expiry *x, int db, struct slice key, struct slice field, int64_t true_ms,
                 int64_t now_ms)
{
    uint32_t head[2] = {(uint32_t)db, (uint32_t)key.n};
    buf_clear(&x->name);
    buf_append(&x->name, head, sizeof(head));
    buf_append_slice(&x->name, key);
    buf_append_slice(&x->name, field);
    struct entry *n;
    HASH_FIND(hh, x->entries, x->name.p, x->name.n, n);
    if (!n) {
        size_t size = sizeof(*n) + x->name.n;
        if (x->bytes + size > x->max_bytes || key.n > UINT32_MAX || field.n > UINT32_MAX) {
            x->sweep = true;
            return;
        }
        n = xmalloc(size);
        n->db = (uint32_t)db;
        n->key_len = (uint32_t)key.n;
        n->field_len = (uint32_t)field.n;
        memcpy(n->name, x->name.p, x->name.n);
        HASH_ADD(hh, x->entries, name, x->name.n, n);
        x->bytes += size;
    }
    n->true_ms = true_ms;
    n->due_ms = due_of(true_ms, now_ms);
}

void expiry_moved(struct expiry *x)
{
    x->sweep = true;
}

bool expiry_any(const struct expiry *x)
{
    return x->entries || x->sweep;
}

bool expiry_wants_sweep(const struct expiry *x)
{
    return x->sweep;
}

void expiry_swept(struct expiry *x)
{
    x->sweep = false;
}

size_t expiry_count(const struct expiry *x)
{
    return HASH_COUNT(x->entries);
}

// The far value is looked for at the target, so that a key whose expiry the stream has changed since
// is left alone. 3e13 ms are 950 years: no real TTL.
static const char key_script[] =
    "for i,k in ipairs(KEYS) do if redis.call('PTTL',k)>30000000000000 then "
    "redis.call('PEXPIREAT',k,ARGV[i]) end end return 1";
static const char field_script[] =
    "for i=2,#ARGV,2 do local t=redis.call('HPTTL',KEYS[1],'FIELDS',1,ARGV[i]) "
    "if t and t[1] and t[1]>30000000000000 then "
    "redis.call('HPEXPIREAT',KEYS[1],ARGV[i-1],'FIELDS',1,ARGV[i]) end end return 1";

static void put_i64(struct buf *b, int64_t v)
{
    char tmp[24];
    resp_put_bulk(b, slice_make(tmp, i64_format(tmp, v)));
}

static struct slice entry_key(const struct entry *n)
{
    return slice_make(n->name + 8, n->key_len);
}

// Fields of one key, one at a time: they are rare.
static void send_field(struct expiry *x, struct batcher *b, const struct entry *n)
{
    buf_clear(&x->text);
    resp_put_array(&x->text, 6);
    resp_put_bulk(&x->text, SLICE("EVAL"));
    resp_put_bulk(&x->text, slice_cstr(field_script));
    put_i64(&x->text, 1);
    resp_put_bulk(&x->text, entry_key(n));
    put_i64(&x->text, n->true_ms);
    resp_put_bulk(&x->text, slice_make(n->name + 8 + n->key_len, n->field_len));
    batcher_select(b, (int)n->db, UINT64_MAX);
    outq_put(batcher_out(b), x->text.p, x->text.n);
    batcher_cmd(b, UINT64_MAX);
}

static void send_keys(struct expiry *x, struct batcher *b, struct entry *const *list, int n)
{
    buf_clear(&x->text);
    resp_put_array(&x->text, (size_t)(3 + 2 * n));
    resp_put_bulk(&x->text, SLICE("EVAL"));
    resp_put_bulk(&x->text, slice_cstr(key_script));
    put_i64(&x->text, n);
    for (int i = 0; i < n; i++)
        resp_put_bulk(&x->text, entry_key(list[i]));
    for (int i = 0; i < n; i++)
        put_i64(&x->text, list[i]->true_ms);
    batcher_select(b, (int)list[0]->db, UINT64_MAX);
    outq_put(batcher_out(b), x->text.p, x->text.n);
    batcher_cmd(b, UINT64_MAX);
}

// The due keys of one db, at most `max`; the first due field ends the list alone.
static int collect(struct expiry *x, int64_t now_ms, struct entry **list, int max)
{
    int n = 0;
    struct entry *it, *next;
    HASH_ITER (hh, x->entries, it, next) {
        if (it->due_ms > now_ms || (n && (it->db != list[0]->db || it->field_len)))
            continue;
        list[n++] = it;
        if (n == max || it->field_len)
            break;
    }
    return n;
}

bool expiry_settle(struct expiry *x, struct batcher *b, const struct batch_mark *mark,
                   int64_t now_ms, uint64_t *settled)
{
    for (int unit = 0; unit < UNITS_PER_CALL; unit++) {
        struct entry *list[KEYS_PER_UNIT];
        int n = collect(x, now_ms, list, KEYS_PER_UNIT);
        if (n == 0)
            return false;
        if (!batcher_unit_begin(b, true, false))
            return true;
        if (list[0]->field_len)
            send_field(x, b, list[0]);
        else
            send_keys(x, b, list, n);
        batcher_unit_end(b, mark);
        for (int i = 0; i < n; i++)
            entry_remove(x, list[i]);
        *settled += (uint64_t)n;
    }
    return true;
}

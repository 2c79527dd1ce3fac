// SPDX-License-Identifier: Apache-2.0
// Streams: nodes of delta-encoded entries, consumer groups and their pending entries.
#include <stdlib.h>

#include "base/mem.h"
#include "codec/rdb_impl.h"

#define FLAG_DELETED 1
#define FLAG_SAME_FIELDS 2
#define BUF_KEEP ((size_t)1 << 20)

static void pel_reset(struct rdb_pel *pel)
{
    *pel = (struct rdb_pel){.marks = pel->marks, .stride = 1, .start = RDB_NONE};
}

void rdb_stream_reset(struct rdb_stream_state *s)
{
    struct buf *const all[] = {&s->master, &s->group, &s->consumer};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (all[i]->cap > BUF_KEEP)
            buf_free(all[i]);
    s->num_count = 0;
    s->any = false;
    pel_reset(&s->pel);
}

void rdb_stream_free(struct rdb_stream_state *s)
{
    buf_free(&s->master);
    buf_free(&s->group);
    buf_free(&s->consumer);
    free(s->pel.marks);
}

void rdb_stream_node_begin(struct rdb_stream_state *s)
{
    s->step = NODE_LIVE;
    s->live = s->deleted = s->width = s->left = 0;
    buf_clear(&s->master);
}

static int node_broken(struct rdb_reader *r, struct err *e, const char *what)
{
    return rdb_fail(r, e, ERR_CORRUPT, "a stream node is broken: %s", what);
}

// Keeps a field name of the node's first entry; later entries refer to them.
static void keep_master_field(struct rdb_stream_state *s, const struct packed_entry *entry)
{
    char num[24], size[4];
    struct slice text = rdb_entry_text(entry, num);
    store_le32(size, (uint32_t)text.n);
    buf_append(&s->master, size, sizeof(size));
    buf_append_slice(&s->master, text);
}

static struct slice next_master_field(struct rdb_stream_state *s)
{
    const char *p = s->master.p + s->master_at;
    struct slice text = slice_make(p + 4, load_le32(p));
    s->master_at += 4 + text.n;
    return text;
}

// The entry's fields come next. Their number is a promise that the bytes left must be able to hold.
static int entry_begins(struct rdb_reader *r, int64_t pairs, struct rdb_element *out, struct err *e)
{
    struct rdb_stream_state *s = &r->stream;
    uint64_t least = s->flags & FLAG_SAME_FIELDS ? 2 : 4;
    if (pairs < 0 || (uint64_t)pairs > r->part.packed.left / least)
        return node_broken(r, e, "an entry has more fields than there are bytes");
    s->pairs = s->left = pairs;
    s->master_at = 0;
    s->step = pairs ? NODE_FIELDS : NODE_COUNT;
    if (s->flags & FLAG_DELETED) {
        s->deleted--;
        return RDB_MORE;
    }
    s->live--;
    if (!s->any) {
        s->any = true;
        s->first_ms = s->ms;
        s->first_seq = s->seq;
    }
    out->stream_step = RDB_STREAM_ENTRY;
    out->id_ms = s->ms;
    out->id_seq = s->seq;
    out->pairs = pairs;
    return RDB_ITEM;
}

// One integer of the node: RDB_ITEM when it completes something to give, RDB_MORE to go on.
static int node_number(struct rdb_reader *r, int64_t v, struct rdb_element *out, struct err *e)
{
    struct rdb_stream_state *s = &r->stream;
    bool same = s->flags & FLAG_SAME_FIELDS;
    switch (s->step) {
    case NODE_LIVE:
    case NODE_DELETED:
        *(s->step == NODE_LIVE ? &s->live : &s->deleted) = v;
        s->step++;
        break;
    case NODE_WIDTH:
        if (v < 0 || (uint64_t)v > r->part.packed.left)
            return node_broken(r, e, "it has more fields than bytes");
        s->width = s->left = v;
        s->step = v ? NODE_MASTER : NODE_ZERO;
        break;
    case NODE_ZERO:
        if (v != 0)
            return node_broken(r, e, "its first entry does not end");
        s->step = NODE_FLAGS;
        break;
    case NODE_FLAGS:
        s->flags = v;
        s->step = NODE_MS;
        break;
    case NODE_MS:
        s->ms = s->master_ms + (uint64_t)v;
        s->step = NODE_SEQ;
        break;
    case NODE_SEQ:
        s->seq = s->master_seq + (uint64_t)v;
        if (same)
            return entry_begins(r, s->width, out, e);
        s->step = NODE_PAIRS;
        break;
    case NODE_PAIRS:
        return entry_begins(r, v, out, e);
    default: // NODE_COUNT
        if (v != (same ? s->pairs + 3 : s->pairs * 2 + 4))
            return node_broken(r, e, "an entry's length is wrong");
        s->step = NODE_FLAGS;
        break;
    }
    return RDB_MORE;
}

static int node_field(struct rdb_reader *r, struct rdb_element *out, struct err *e)
{
    struct rdb_stream_state *s = &r->stream;
    struct packed_entry entry[2];
    bool same = s->flags & FLAG_SAME_FIELDS;
    int rc = rdb_part_entries(r, entry, same ? 1 : 2, e);
    if (rc == RDB_DONE)
        return node_broken(r, e, "it ends inside an entry");
    if (rc != RDB_ITEM)
        return rc;
    out->stream_step = RDB_STREAM_FIELD;
    out->field = same ? next_master_field(s) : rdb_entry_text(&entry[0], r->num_text[0]);
    out->value = rdb_entry_text(&entry[same ? 0 : 1], r->num_text[1]);
    if (--s->left == 0)
        s->step = NODE_COUNT;
    return RDB_ITEM;
}

static int node_end(struct rdb_reader *r, struct err *e)
{
    struct rdb_stream_state *s = &r->stream;
    if (s->step != NODE_FLAGS)
        return node_broken(r, e, "it ends inside an entry");
    if (s->live != 0 || s->deleted != 0)
        return node_broken(r, e, "it does not have as many entries as it says");
    return RDB_DONE;
}

int rdb_stream_node(struct rdb_reader *r, struct rdb_element *out, struct err *e)
{
    struct rdb_stream_state *s = &r->stream;
    for (;;) {
        struct packed_entry entry;
        int rc;
        if (s->step == NODE_FIELDS) {
            rc = node_field(r, out, e);
            if (rc != RDB_ITEM || !(s->flags & FLAG_DELETED))
                return rc;
            *out = (struct rdb_element){
                .expire_ms = -1, .entries_read = -1, .seen_ms = -1, .active_ms = -1};
            continue;
        }
        rc = rdb_part_entries(r, &entry, 1, e);
        if (rc == RDB_DONE)
            return node_end(r, e);
        if (rc != RDB_ITEM)
            return rc;
        if (s->step == NODE_MASTER) {
            keep_master_field(s, &entry);
            if (--s->left == 0)
                s->step = NODE_ZERO;
            continue;
        }
        if (!entry.is_int)
            return node_broken(r, e, "a number is a string");
        rc = node_number(r, entry.num, out, e);
        if (rc != RDB_MORE)
            return rc;
    }
}

int rdb_stream_meta(struct rdb_reader *r, struct rdb_element *out)
{
    struct rdb_stream_state *s = &r->stream;
    const uint64_t *n = s->nums;
    out->stream_step = RDB_STREAM_META;
    out->length = n[0];
    out->id_ms = n[1];
    out->id_seq = n[2];
    if (s->num_count == 8) {
        out->first_ms = n[3];
        out->first_seq = n[4];
        out->max_deleted_ms = n[5];
        out->max_deleted_seq = n[6];
        out->entries_added = n[7];
    } else {
        // Version 1 has no more than this; a server that loads it concludes the same.
        out->first_ms = s->any ? s->first_ms : 0;
        out->first_seq = s->any ? s->first_seq : 0;
        out->entries_added = n[0];
    }
    s->num_count = 0;
    return RDB_ITEM;
}

int rdb_stream_group(struct rdb_reader *r, struct rdb_element *out)
{
    struct rdb_stream_state *s = &r->stream;
    out->stream_step = RDB_STREAM_GROUP;
    out->value = buf_slice(&s->group);
    out->id_ms = s->nums[0];
    out->id_seq = s->nums[1];
    out->entries_read = s->num_count == 3 ? (int64_t)s->nums[2] : -1;
    s->num_count = 0;
    return RDB_ITEM;
}

int rdb_stream_consumer(struct rdb_reader *r, struct rdb_element *out)
{
    struct rdb_stream_state *s = &r->stream;
    out->stream_step = RDB_STREAM_CONSUMER;
    out->field = buf_slice(&s->group);
    out->value = buf_slice(&s->consumer);
    out->seen_ms = s->seen_ms;
    out->active_ms = s->active_ms;
    s->pel.cursor = s->pel.start;
    s->pel.found_ms = s->pel.found_seq = 0;
    return RDB_ITEM;
}

static bool id_less(uint64_t a_ms, uint64_t a_seq, uint64_t b_ms, uint64_t b_seq)
{
    return a_ms < b_ms || (a_ms == b_ms && a_seq < b_seq);
}

int rdb_stream_group_end(struct rdb_reader *r, struct err *e)
{
    struct rdb_pel *pel = &r->stream.pel;
    if (pel->taken != pel->count)
        return rdb_fail(r, e, ERR_CORRUPT,
                        "a stream's group has %llu pending entries, its consumers have %llu",
                        (unsigned long long)pel->count, (unsigned long long)pel->taken);
    pel_reset(pel);
    return 0;
}

static void pel_mark(struct rdb_pel *pel, uint64_t ms, uint64_t seq, uint64_t at)
{
    if (pel->count % pel->stride != 0)
        return;
    if (pel->marked == RDB_PEL_MARKS) {
        for (size_t i = 0; i < RDB_PEL_MARKS / 2; i++)
            pel->marks[i] = pel->marks[i * 2];
        pel->marked = RDB_PEL_MARKS / 2;
        pel->stride *= 2;
        if (pel->count % pel->stride != 0)
            return;
    }
    if (!pel->marks)
        pel->marks = xmalloc(RDB_PEL_MARKS * sizeof(*pel->marks));
    pel->marks[pel->marked++] = (struct rdb_pel_mark){ms, seq, at};
}

struct pel_entry {
    uint64_t ms, seq, count;
    int64_t time_ms;
};

static int scan_pel(struct rdb_scan *s, struct pel_entry *out)
{
    const uint8_t *p;
    int rc = scan_bytes(s, 24, &p);
    if (rc > 0)
        rc = scan_len(s, &out->count);
    if (rc > 0) {
        out->ms = load_be64(p);
        out->seq = load_be64(p + 8);
        out->time_ms = (int64_t)load_le64(p + 16);
    }
    return rc;
}

int rdb_stream_pel(struct rdb_reader *r, struct err *e)
{
    struct rdb_pel *pel = &r->stream.pel;
    struct rdb_scan s = rdb_scan_here(r);
    const uint8_t *start = s.p;
    struct pel_entry entry;
    int rc = scan_pel(&s, &entry);
    if (rc <= 0)
        return rdb_scan_failed(r, e, rc, "a pending entry is broken");
    if (pel->count > 0 && !id_less(pel->last_ms, pel->last_seq, entry.ms, entry.seq))
        return rdb_fail(r, e, ERR_CORRUPT, "a group's pending entries are not in order");
    if (pel->count == 0)
        pel->start = r->pos;
    pel_mark(pel, entry.ms, entry.seq, r->pos);
    pel->count++;
    pel->last_ms = entry.ms;
    pel->last_seq = entry.seq;
    r->pos += (uint64_t)(s.p - start);
    pel->end = r->pos;
    return RDB_ITEM;
}

// The place from which a search for the ID has the shortest way.
static uint64_t pel_seek(const struct rdb_pel *pel, uint64_t ms, uint64_t seq)
{
    size_t low = 0, high = pel->marked; // the last mark that is not above the ID
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (id_less(ms, seq, pel->marks[mid].ms, pel->marks[mid].seq))
            high = mid;
        else
            low = mid + 1;
    }
    uint64_t at = low > 0 ? pel->marks[low - 1].at : pel->start;
    bool ahead = id_less(pel->found_ms, pel->found_seq, ms, seq);
    return ahead && pel->cursor > at ? pel->cursor : at;
}

static bool pel_find(struct rdb_reader *r, uint64_t ms, uint64_t seq, struct pel_entry *out)
{
    struct rdb_pel *pel = &r->stream.pel;
    if (pel->count == 0)
        return false;
    const uint8_t *win = (const uint8_t *)r->win;
    struct rdb_scan s = {win + (pel_seek(pel, ms, seq) - r->from), win + (pel->end - r->from)};
    while (scan_pel(&s, out) > 0 && !id_less(ms, seq, out->ms, out->seq)) {
        if (out->ms != ms || out->seq != seq)
            continue;
        pel->cursor = r->from + (uint64_t)(s.p - win);
        pel->found_ms = ms;
        pel->found_seq = seq;
        return true;
    }
    return false;
}

int rdb_stream_pending(struct rdb_reader *r, bool nacked, struct rdb_element *out, struct err *e)
{
    struct rdb_stream_state *s = &r->stream;
    if (rdb_avail(r) < 16)
        return rdb_scan_failed(r, e, SCAN_MORE, "");
    uint64_t ms = load_be64(rdb_at(r)), seq = load_be64(rdb_at(r) + 8);
    struct pel_entry entry;
    if (!pel_find(r, ms, seq, &entry))
        return rdb_fail(r, e, ERR_CORRUPT, "a %s pending entry %llu-%llu is not its group's",
                        nacked ? "released" : "consumer's", (unsigned long long)ms,
                        (unsigned long long)seq);
    r->pos += 16;
    s->pel.taken++;
    out->stream_step = nacked ? RDB_STREAM_NACKED : RDB_STREAM_PENDING;
    out->id_ms = ms;
    out->id_seq = seq;
    out->field = buf_slice(&s->group);
    if (!nacked)
        out->value = buf_slice(&s->consumer);
    out->delivery_time_ms = entry.time_ms;
    out->delivery_count = entry.count;
    return RDB_ITEM;
}

int rdb_stream_idmp(struct rdb_reader *r, char op, struct rdb_element *out, struct err *e)
{
    struct rdb_stream_state *s = &r->stream;
    // The last group is complete only here, where something follows the groups.
    int rc = op == 'i' ? rdb_stream_group_end(r, e) : 0;
    if (rc < 0)
        return rc;
    const uint64_t *n = s->nums;
    s->num_count = 0;
    if (op == 'k') {
        out->stream_step = RDB_STREAM_IDMP_ENTRY;
        out->field = buf_slice(&s->consumer);
        out->id_ms = n[0];
        out->id_seq = n[1];
        if (!rdb_str_text(&r->value.str, r->win + (r->value.at - r->from), &r->text[0],
                          &out->value))
            return rdb_fail(r, e, ERR_CORRUPT, "a compressed string cannot be decompressed");
        r->keep = RDB_NONE;
        return RDB_ITEM;
    }
    out->stream_step = op == 'i' ? RDB_STREAM_IDMP : RDB_STREAM_IDMP_TOTALS;
    *(op == 'i' ? &out->idmp_duration_s : &out->idmp_added) = n[0];
    *(op == 'i' ? &out->idmp_max : &out->idmp_duplicates) = n[1];
    return RDB_ITEM;
}

// SPDX-License-Identifier: Apache-2.0
// Taking values: as raw bytes, as a short string, as elements.
#include <math.h>
#include <stdlib.h>

#include "codec/rdb_impl.h"

// Results of an operation of a walk program beside RDB_*: nothing to give yet.
enum { STEP_ON = 100 };

int rdb_value_skip(struct rdb_reader *r, struct err *e)
{
    if (r->stage == STAGE_FAILED) {
        if (e)
            *e = r->failure;
        return r->failure.code;
    }
    if (r->stage != STAGE_VALUE)
        return RDB_DONE;
    if (r->mode == MODE_FRESH)
        rdb_walk_begin(&r->walk, r->row->walk);
    if (r->mode == MODE_ELEMENTS) {
        if (r->part.kind != PART_NONE)
            r->walk.skip = r->part.end - r->pos;
        r->part.kind = PART_NONE;
        r->keep = RDB_NONE;
        rdb_stream_reset(&r->stream);
    }
    r->mode = MODE_SKIP;
    int rc = rdb_walk_on(r, RDB_NONE, e);
    if (rc == RDB_DONE)
        rdb_value_end(r);
    return rc;
}

// Begins or goes on with a walk that gives away what it passes; RDB_DONE when there is no value.
static int span_begin(struct rdb_reader *r, struct err *e)
{
    if (r->stage == STAGE_MODULE_AUX)
        return RDB_ITEM;
    if (r->stage != STAGE_VALUE)
        return rdb_value_skip(r, e);
    must(r->mode == MODE_FRESH || r->mode == MODE_SKIP);
    if (r->mode == MODE_FRESH)
        rdb_walk_begin(&r->walk, r->row->walk);
    r->mode = MODE_SKIP;
    return RDB_ITEM;
}

static void span_end(struct rdb_reader *r)
{
    if (r->stage == STAGE_MODULE_AUX)
        r->stage = STAGE_NEXT;
    else
        rdb_value_end(r);
}

int rdb_value_span(struct rdb_reader *r, struct slice *piece, struct err *e)
{
    int rc = span_begin(r, e);
    if (rc != RDB_ITEM)
        return rc;
    uint64_t from = r->pos;
    rc = rdb_walk_on(r, RDB_NONE, e);
    if (rc < 0)
        return rc;
    if (rc == RDB_DONE)
        span_end(r);
    *piece = slice_make(r->win + (from - r->from), (size_t)(r->pos - from));
    return piece->n > 0 ? RDB_ITEM : rc;
}

int rdb_value_step(struct rdb_reader *r, char *op, struct slice *piece, struct err *e)
{
    int rc = span_begin(r, e);
    if (rc != RDB_ITEM)
        return rc;
    rc = rdb_walk_step(r, op, piece, e);
    if (rc == RDB_DONE)
        span_end(r);
    return rc;
}

int rdb_value_raw(struct rdb_reader *r, uint64_t limit, struct slice *raw, struct err *e)
{
    must(r->stage == STAGE_VALUE && r->mode <= MODE_RAW);
    if (r->row->dialect & RDB_FILE_ONLY)
        return RDB_TOO_BIG;
    if (r->mode == MODE_FRESH) {
        rdb_walk_begin(&r->walk, r->row->walk);
        r->mode = MODE_RAW;
    }
    uint64_t end = limit < RDB_NONE - r->value_start ? r->value_start + limit : RDB_NONE;
    int rc = rdb_walk_on(r, end, e);
    if (rc < 0)
        return rc;
    if (rc == RDB_DONE) {
        *raw = slice_make(r->win + (r->value_start - r->from), (size_t)(r->pos - r->value_start));
        rdb_value_end(r);
        return RDB_ITEM;
    }
    bool over = r->pos > end || r->walk.skip > end - r->pos;
    // What stopped at the limit with bytes left behind it, or has to pass it, is too big.
    if (r->end <= end && !over)
        return RDB_MORE;
    r->pos = r->value_start;
    r->mode = MODE_FRESH;
    return RDB_TOO_BIG;
}

void rdb_value_again(struct rdb_reader *r)
{
    must(r->stage == STAGE_NEXT && r->value_start >= r->from);
    r->pos = r->value_start;
    r->stage = STAGE_VALUE;
    r->mode = MODE_FRESH;
}

int rdb_value_string(struct rdb_reader *r, size_t limit, struct slice *value, struct err *e)
{
    must(r->stage == STAGE_VALUE && r->mode == MODE_FRESH && r->row->object == RDB_OBJ_STRING);
    struct rdb_scan s = rdb_scan_here(r);
    const uint8_t *start = s.p;
    const char *bytes;
    size_t n;
    if (scan_plain(&s, &bytes, &n)) {
        if (n > limit)
            return RDB_TOO_BIG;
        *value = slice_make(bytes, n);
        r->pos += (uint64_t)(s.p - start);
        rdb_value_end(r);
        return RDB_ITEM;
    }
    struct rdb_str str;
    int rc = scan_str_head(&s, &str);
    if (rc <= 0)
        return rdb_scan_failed(r, e, rc, "the length of a string is broken");
    if (str.total > limit)
        return RDB_TOO_BIG;
    if (scan_left(&s) < str.n)
        return rdb_scan_failed(r, e, SCAN_MORE, "");
    if (!rdb_str_text(&str, (const char *)s.p, &r->text[0], value))
        return rdb_fail(r, e, ERR_CORRUPT, "a compressed string cannot be decompressed");
    r->pos += (uint64_t)(s.p - start) + str.n;
    rdb_value_end(r);
    return RDB_ITEM;
}

// Passes a string and remembers where it is; it is kept in the window until its element is given.
static int op_token(struct rdb_reader *r, struct rdb_token *token, struct err *e)
{
    struct rdb_scan s = rdb_scan_here(r);
    const uint8_t *start = s.p;
    const char *bytes;
    int rc = scan_str(&s, &token->str, &bytes);
    if (rc <= 0)
        return rdb_scan_failed(r, e, rc, "the length of a string is broken");
    if (r->keep == RDB_NONE)
        r->keep = r->pos;
    r->pos += (uint64_t)(s.p - start);
    token->at = r->pos - token->str.n;
    r->walk.pc++;
    return STEP_ON;
}

static bool token_text(struct rdb_reader *r, const struct rdb_token *token, struct buf *text,
                       struct slice *out)
{
    return rdb_str_text(&token->str, r->win + (token->at - r->from), text, out);
}

static int op_emit(struct rdb_reader *r, struct rdb_element *out, struct err *e)
{
    bool ok = token_text(r, &r->value, &r->text[0], &out->value);
    if (r->tmpl)
        out->field = rdb_template_next(r);
    else if (ok && (r->row->object == RDB_OBJ_HASH || r->row->object == RDB_OBJ_PATH_HASH))
        ok = token_text(r, &r->field, &r->text[1], &out->field);
    if (!ok)
        return rdb_fail(r, e, ERR_CORRUPT, "a compressed string cannot be decompressed");
    if (r->row->object == RDB_OBJ_PATH_HASH)
        out->path = buf_slice(&r->stream.group);
    out->score = r->score;
    out->expire_ms = r->field_expire_ms;
    out->total = out->value.n;
    r->keep = RDB_NONE;
    r->walk.pc++;
    return RDB_ITEM;
}

// A whole name, copied since it is needed longer than its bytes are there.
static int op_name(struct rdb_reader *r, struct buf *name, struct err *e)
{
    struct rdb_scan s = rdb_scan_here(r);
    const uint8_t *start = s.p;
    struct rdb_str str;
    const char *bytes;
    struct slice text;
    int rc = scan_str(&s, &str, &bytes);
    if (rc <= 0)
        return rdb_scan_failed(r, e, rc, "the length of a string is broken");
    if (str.n > RDB_STRING_MAX || !rdb_str_text(&str, bytes, &r->text[0], &text))
        return rdb_fail(r, e, ERR_CORRUPT, "a name cannot be decompressed or is too long");
    buf_clear(name);
    buf_append_slice(name, text);
    r->pos += (uint64_t)(s.p - start);
    r->walk.pc++;
    return STEP_ON;
}

static int op_node_key(struct rdb_reader *r, struct err *e)
{
    struct buf *key = &r->text[1];
    int rc = op_name(r, key, e);
    if (rc != STEP_ON)
        return rc;
    if (key->n != 16)
        return rdb_fail(r, e, ERR_CORRUPT, "the key of a stream node has %zu bytes, not 16",
                        key->n);
    r->stream.master_ms = load_be64(key->p);
    r->stream.master_seq = load_be64(key->p + 8);
    return STEP_ON;
}

static int op_number(struct rdb_reader *r, uint64_t *v, struct err *e)
{
    struct rdb_scan s = rdb_scan_here(r);
    const uint8_t *start = s.p;
    int rc = scan_len(&s, v);
    if (rc <= 0)
        return rdb_scan_failed(r, e, rc, "a length is broken");
    r->pos += (uint64_t)(s.p - start);
    r->walk.pc++;
    return STEP_ON;
}

static int op_bytes8(struct rdb_reader *r, int64_t *v)
{
    if (rdb_avail(r) < 8) {
        rdb_crc_catch_up(r);
        return RDB_MORE;
    }
    *v = (int64_t)load_le64(rdb_at(r));
    r->pos += 8;
    r->walk.pc++;
    return STEP_ON;
}

// Out of line, so that its text is not in the frame of who reads other elements.
static __attribute__((noinline)) bool parse_score(const char *p, size_t n, double *score)
{
    char text[256], *end;
    // No server writes spaces before a number; some read past them and some take it for 0.
    if (n == 0 || n >= sizeof(text) || (uint8_t)*p <= ' ')
        return false;
    memcpy(text, p, n);
    text[n] = '\0';
    *score = strtod(text, &end);
    return end == text + n && !isnan(*score);
}

static int op_text_score(struct rdb_reader *r, struct err *e)
{
    struct rdb_scan s = rdb_scan_here(r);
    if (scan_left(&s) == 0 || (*s.p < 253 && scan_left(&s) < 1u + *s.p))
        return rdb_scan_failed(r, e, SCAN_MORE, "");
    uint8_t n = *s.p;
    bool ok = n != 253;
    if (n < 253)
        ok = parse_score((const char *)s.p + 1, n, &r->score);
    else
        r->score = n == 254 ? INFINITY : -INFINITY;
    if (!ok)
        return rdb_fail(r, e, ERR_CORRUPT, "the score of a member is not a number");
    r->pos += n < 253 ? 1u + n : 1u;
    r->walk.pc++;
    return STEP_ON;
}

static int op_binary_score(struct rdb_reader *r, struct err *e)
{
    int64_t bits;
    int rc = op_bytes8(r, &bits);
    if (rc != STEP_ON)
        return rc;
    memcpy(&r->score, &bits, sizeof(bits));
    if (isnan(r->score))
        return rdb_fail(r, e, ERR_CORRUPT, "the score of a member is not a number");
    return STEP_ON;
}

// 0 means no expiry; base counts from the lowest one, which has distance 1.
static int field_expiry(struct rdb_reader *r, uint64_t v, int64_t base, struct err *e)
{
    r->field_expire_ms = -1;
    if (v == 0)
        return STEP_ON;
    int64_t sum;
    if (v > INT64_MAX || __builtin_add_overflow((int64_t)v, base, &sum) || sum < 0)
        return rdb_fail(r, e, ERR_CORRUPT, "the expiry of a field is no time");
    r->field_expire_ms = sum;
    return STEP_ON;
}

static int op_field_expiry(struct rdb_reader *r, bool relative, struct err *e)
{
    uint64_t v = 0;
    if (relative && (r->expire_base < 0 || r->expire_base == INT64_MIN))
        return rdb_fail(r, e, ERR_CORRUPT, "the lowest expiry of the fields is no time");
    int rc = op_number(r, &v, e);
    return rc != STEP_ON ? rc : field_expiry(r, v, relative ? r->expire_base - 1 : 0, e);
}

static int op_stored_expiry(struct rdb_reader *r, struct err *e)
{
    int rc = op_bytes8(r, &r->field_expire_ms);
    if (rc == STEP_ON && r->field_expire_ms < -1)
        return rdb_fail(r, e, ERR_CORRUPT, "the expiry of a field is no time");
    return rc;
}

static int op_template(struct rdb_reader *r, uint64_t id, struct err *e)
{
    const struct rdb_template *t = rdb_template_find(r, id);
    if (!t)
        return rdb_fail(r, e, ERR_CORRUPT,
                        "a hash names template %llu, which its file does not have before it",
                        (unsigned long long)id);
    rdb_template_use(r, t);
    return STEP_ON;
}

static int op_template_id(struct rdb_reader *r, struct err *e)
{
    uint64_t id = 0;
    int rc = op_number(r, &id, e);
    return rc == STEP_ON ? op_template(r, id, e) : rc;
}

// What a scan takes as a whole.
static int op_scan(struct rdb_reader *r, int (*scan)(struct rdb_reader *, struct rdb_scan *),
                   const char *broken, struct err *e)
{
    struct rdb_scan s = rdb_scan_here(r);
    const uint8_t *start = s.p;
    int rc = scan(r, &s);
    if (rc <= 0)
        return rdb_scan_failed(r, e, rc, broken);
    r->pos += (uint64_t)(s.p - start);
    return STEP_ON;
}

static int op_fields(struct rdb_reader *r, struct err *e)
{
    int rc = op_scan(r, rdb_template_inline, "the fields of a hash are broken", e);
    if (rc == STEP_ON)
        r->walk.pc++;
    return rc;
}

static int op_array(struct rdb_reader *r, struct err *e)
{
    int rc = op_scan(r, rdb_array_head, "the head of an array is broken", e);
    if (rc == STEP_ON)
        rdb_walk_loop(&r->walk, r->array_count);
    return rc;
}

static int op_loop(struct rdb_reader *r, struct err *e)
{
    uint64_t count = 0;
    const char *at = r->walk.pc;
    int rc = op_number(r, &count, e);
    if (rc == STEP_ON) {
        r->walk.pc = at;
        rdb_walk_loop(&r->walk, count);
    }
    return rc;
}

static int op_part(struct rdb_reader *r, enum rdb_part_kind kind, struct err *e)
{
    int rc = rdb_part_begin(r, kind, e);
    return rc == RDB_ITEM ? STEP_ON : rc;
}

// A node of a quicklist is one big element or a blob of several.
static int op_quicklist(struct rdb_reader *r, struct rdb_element *out, struct err *e)
{
    if (r->container == 2)
        return op_part(r, PART_PACKED, e);
    if (r->container != 1)
        return rdb_fail(r, e, ERR_CORRUPT, "%llu is no kind of list node",
                        (unsigned long long)r->container);
    int rc = op_token(r, &r->value, e);
    if (rc != STEP_ON)
        return rc;
    rc = op_emit(r, out, e);
    r->walk.pc--; // the token has moved on already
    return rc;
}

static int op_string(struct rdb_reader *r, struct rdb_element *out, struct err *e)
{
    struct rdb_scan s = rdb_scan_here(r);
    if (scan_left(&s) == 0 || *s.p < 0xc0 || *s.p == 0xc3)
        return op_part(r, PART_STRING, e);
    int rc = op_token(r, &r->value, e);
    if (rc != STEP_ON)
        return rc;
    rc = op_emit(r, out, e);
    r->walk.pc--;
    return rc;
}

static int op_length(struct rdb_reader *r, uint64_t *to, struct err *e)
{
    uint64_t ignored;
    return op_number(r, to ? to : &ignored, e);
}

static int op_kept_length(struct rdb_reader *r, struct err *e)
{
    struct rdb_stream_state *s = &r->stream;
    must(s->num_count < (int)(sizeof(s->nums) / sizeof(*s->nums)));
    int rc = op_number(r, &s->nums[s->num_count], e);
    if (rc == STEP_ON)
        s->num_count++;
    return rc;
}

// Passes on what a step found, once it has.
static int give(struct rdb_reader *r, int rc)
{
    if (rc == RDB_ITEM || rc == STEP_ON)
        r->walk.pc++;
    return rc;
}

static int stream_op(struct rdb_reader *r, struct rdb_element *out, struct err *e)
{
    struct rdb_stream_state *s = &r->stream;
    int rc;
    switch (*r->walk.pc) {
    case 'N':
        return op_node_key(r, e);
    case 'P':
        rdb_stream_node_begin(s);
        return op_part(r, PART_STREAM, e);
    case 'x':
        return op_kept_length(r, e);
    case 'M':
        return give(r, rdb_stream_meta(r, out));
    case 'G':
        rc = rdb_stream_group_end(r, e);
        return rc < 0 ? rc : op_name(r, &s->group, e);
    case 'g':
        return give(r, rdb_stream_group(r, out));
    case 'C':
        rc = op_name(r, &s->consumer, e);
        s->active_ms = -1;
        return rc;
    case 'u':
        return op_bytes8(r, &s->seen_ms);
    case 'v':
        return op_bytes8(r, &s->active_ms);
    case 'c':
        return give(r, rdb_stream_consumer(r, out));
    case 'Y':
        rc = rdb_stream_pel(r, e);
        return rc == RDB_ITEM ? give(r, STEP_ON) : rc;
    case 'J':
    case 'Z':
        return give(r, rdb_stream_pending(r, *r->walk.pc == 'Z', out, e));
    case 'O':
        return op_name(r, &s->consumer, e);
    case 'k':
    case 'i':
    case 'j':
        return give(r, rdb_stream_idmp(r, *r->walk.pc, out, e));
    default:
        return rdb_fail(r, e, ERR_UNSUPPORTED, "a value of this type has no elements");
    }
}

// Templates, arrays, path hashes.
static int rare_op(struct rdb_reader *r, struct rdb_element *out, struct err *e)
{
    switch (*r->walk.pc) {
    case 'H':
        return op_fields(r, e);
    case 'R':
        return op_template_id(r, e);
    case '{':
        rdb_walk_loop(&r->walk, r->tmpl_left);
        return STEP_ON;
    case 'U':
        r->tmpl_id_due = true;
        return op_part(r, PART_TEMPLATE, e);
    case '[':
        return op_array(r, e);
    case 'X':
        return op_number(r, &r->array_index, e);
    case 'E':
        return give(r, rdb_array_element(r, out, e));
    case 'p':
        return op_name(r, &r->stream.group, e);
    default:
        return rdb_fail(r, e, ERR_UNSUPPORTED, "a value of this type has no elements");
    }
}

static int value_op(struct rdb_reader *r, struct rdb_element *out, struct err *e)
{
    switch (*r->walk.pc) {
    case '(':
        return op_loop(r, e);
    case ')':
        rdb_walk_loop_end(&r->walk);
        return STEP_ON;
    case '.':
        return op_emit(r, out, e);
    case 'F':
        return op_token(r, &r->field, e);
    case 'V':
        return op_token(r, &r->value, e);
    case 'S':
        return op_string(r, out, e);
    case 'B':
        return op_part(r, PART_PACKED, e);
    case 'K':
        return op_length(r, &r->container, e);
    case 'Q':
        return op_quicklist(r, out, e);
    case 'l':
        return op_length(r, NULL, e);
    case 'm':
        return op_bytes8(r, &r->expire_base);
    case 'e':
        return op_stored_expiry(r, e);
    case 'T':
    case 't':
        return op_field_expiry(r, *r->walk.pc == 'T', e);
    case 'A':
        return op_text_score(r, e);
    case 'D':
        return op_binary_score(r, e);
    default:
        return r->row->object == RDB_OBJ_STREAM ? stream_op(r, out, e) : rare_op(r, out, e);
    }
}

static bool entry_score(const struct packed_entry *entry, double *score)
{
    if (!entry->is_int)
        return parse_score(entry->str.p, entry->str.n, score);
    *score = (double)entry->num;
    return true;
}

// An element of a packed blob: value; value and score; field, value and perhaps an expiry.
static int packed_element(struct rdb_reader *r, struct rdb_element *out, struct err *e)
{
    struct packed_entry entry[3];
    int rc = rdb_part_entries(r, entry, r->row->tuple, e);
    if (rc != RDB_ITEM)
        return rc == RDB_DONE ? STEP_ON : rc;
    if (r->row->object == RDB_OBJ_HASH) {
        out->field = rdb_entry_text(&entry[0], r->num_text[0]);
        out->value = rdb_entry_text(&entry[1], r->num_text[1]);
        if (r->row->tuple == 3) {
            if (!entry[2].is_int || entry[2].num < 0)
                return rdb_fail(r, e, ERR_CORRUPT, "the expiry of a field is no time");
            out->expire_ms = entry[2].num == 0 ? -1 : entry[2].num;
        }
    } else {
        out->value = rdb_entry_text(&entry[0], r->num_text[0]);
        if (r->row->object == RDB_OBJ_ZSET && !entry_score(&entry[1], &out->score))
            return rdb_fail(r, e, ERR_CORRUPT, "the score of a member is not a number");
    }
    out->total = out->value.n;
    return RDB_ITEM;
}

// The values of a template's fields in one blob, whose first entry is the template's ID. In a
// payload that brings its fields that ID means nothing.
static int template_element(struct rdb_reader *r, struct rdb_element *out, struct err *e)
{
    struct packed_entry entry;
    int rc = rdb_part_entries(r, &entry, 1, e);
    if (rc < 0 || rc == RDB_MORE)
        return rc;
    bool named = r->tmpl && !r->tmpl_id_due;
    if (rc == RDB_DONE && named && r->tmpl_left == 0)
        return STEP_ON;
    if (rc == RDB_DONE || (named && r->tmpl_left == 0))
        return rdb_fail(r, e, ERR_CORRUPT, "a hash has not as many values as its template fields");
    if (r->tmpl_id_due) {
        if (!entry.is_int)
            return rdb_fail(r, e, ERR_CORRUPT, "a hash does not begin with its template's ID");
        r->tmpl_id_due = false;
        return r->tmpl ? STEP_ON : op_template(r, (uint64_t)entry.num, e);
    }
    out->field = rdb_template_next(r);
    out->value = rdb_entry_text(&entry, r->num_text[0]);
    out->total = out->value.n;
    return RDB_ITEM;
}

static int part_step(struct rdb_reader *r, size_t limit, struct rdb_element *out, struct err *e)
{
    if (r->part.kind == PART_STRING)
        return rdb_part_piece(r, limit, out, e);
    if (r->part.kind == PART_PACKED)
        return packed_element(r, out, e);
    if (r->part.kind == PART_TEMPLATE)
        return template_element(r, out, e);
    int rc = rdb_stream_node(r, out, e);
    return rc == RDB_DONE ? STEP_ON : rc;
}

static int elements_begin(struct rdb_reader *r, struct err *e)
{
    if (r->row->object == RDB_OBJ_MODULE)
        return rdb_fail(r, e, ERR_UNSUPPORTED,
                        "a module value cannot be taken apart, only copied as it is");
    r->pos = r->value_start;
    r->mode = MODE_ELEMENTS;
    r->part.kind = PART_NONE;
    r->field_expire_ms = -1;
    r->score = 0;
    rdb_template_use(r, NULL);
    rdb_walk_begin(&r->walk, r->row->walk);
    rdb_stream_reset(&r->stream);
    return 0;
}

// What only streams fill is most of it; to clear that for each member would take longer than to
// read one.
static inline void element_clear(const struct rdb_reader *r, struct rdb_element *out)
{
    if (r->row->object == RDB_OBJ_STREAM) {
        *out = (struct rdb_element){
            .expire_ms = -1, .entries_read = -1, .seen_ms = -1, .active_ms = -1};
        return;
    }
    out->field = out->value = (struct slice){0};
    out->score = 0;
    out->expire_ms = -1;
    out->at = out->total = 0;
}

int rdb_value_element(struct rdb_reader *r, size_t piece_limit, struct rdb_element *out,
                      struct err *e)
{
    if (r->stage != STAGE_VALUE)
        return rdb_value_skip(r, e);
    must(r->mode != MODE_SKIP);
    int rc = 0;
    if (r->mode != MODE_ELEMENTS)
        rc = elements_begin(r, e);
    if (rc < 0)
        return rc;
    element_clear(r, out);
    for (;;) {
        if (r->part.kind != PART_NONE) {
            rc = part_step(r, piece_limit ? piece_limit : 1, out, e);
        } else if (*r->walk.pc) {
            rc = value_op(r, out, e);
        } else {
            rc = r->row->object == RDB_OBJ_STREAM ? rdb_stream_group_end(r, e) : 0;
            if (rc < 0)
                return rc;
            rdb_value_end(r);
            return RDB_DONE;
        }
        if (rc != STEP_ON) {
            if (r->pos > r->crc_pos && r->pos - r->crc_pos >= RDB_CRC_STEP)
                rdb_crc_catch_up(r);
            return rc;
        }
    }
}

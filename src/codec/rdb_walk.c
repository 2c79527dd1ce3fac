// SPDX-License-Identifier: Apache-2.0
// Passing over serialized values.
#include "codec/rdb_impl.h"

enum skip_kind {
    SKIP_STEP,
    SKIP_STR,
    SKIP_LEN,
    SKIP_BYTES,
    SKIP_TEXT_DOUBLE,
    SKIP_PEL,
    SKIP_MODULE,
    SKIP_FIELDS,
    SKIP_TEMPLATE,
    SKIP_TAGGED,
    SKIP_ARRAY,
    SKIP_EACH_FIELD,
    SKIP_LOOP,
    SKIP_LOOP_END
};

static const struct {
    uint8_t kind, n;
} skips[128] = {
    ['('] = {SKIP_LOOP, 0},   [')'] = {SKIP_LOOP_END, 0},    ['F'] = {SKIP_STR, 0},
    ['V'] = {SKIP_STR, 0},    ['S'] = {SKIP_STR, 0},         ['B'] = {SKIP_STR, 0},
    ['Q'] = {SKIP_STR, 0},    ['N'] = {SKIP_STR, 0},         ['P'] = {SKIP_STR, 0},
    ['G'] = {SKIP_STR, 0},    ['C'] = {SKIP_STR, 0},         ['l'] = {SKIP_LEN, 0},
    ['K'] = {SKIP_LEN, 0},    ['x'] = {SKIP_LEN, 0},         ['T'] = {SKIP_LEN, 0},
    ['t'] = {SKIP_LEN, 0},    ['m'] = {SKIP_BYTES, 8},       ['e'] = {SKIP_BYTES, 8},
    ['u'] = {SKIP_BYTES, 8},  ['v'] = {SKIP_BYTES, 8},       ['D'] = {SKIP_BYTES, 8},
    ['J'] = {SKIP_BYTES, 16}, ['A'] = {SKIP_TEXT_DOUBLE, 0}, ['Y'] = {SKIP_PEL, 0},
    ['W'] = {SKIP_MODULE, 0}, ['U'] = {SKIP_STR, 0},         ['O'] = {SKIP_STR, 0},
    ['p'] = {SKIP_STR, 0},    ['X'] = {SKIP_LEN, 0},         ['Z'] = {SKIP_BYTES, 16},
    ['o'] = {SKIP_BYTES, 4},  ['H'] = {SKIP_FIELDS, 0},      ['R'] = {SKIP_TEMPLATE, 0},
    ['E'] = {SKIP_TAGGED, 0}, ['['] = {SKIP_ARRAY, 0},       ['{'] = {SKIP_EACH_FIELD, 0},
};

void rdb_walk_begin(struct rdb_walk *w, const char *program)
{
    w->pc = program;
    w->skip = 0;
    w->depth = 0;
    w->broken = NULL;
    w->meter = NULL;
    w->metered = false;
}

void rdb_walk_loop(struct rdb_walk *w, uint64_t count)
{
    w->pc++;
    if (count > 0) {
        must(w->depth < RDB_LOOPS);
        w->loop[w->depth].body = w->pc;
        w->loop[w->depth].left = count;
        w->depth++;
        return;
    }
    for (int open = 1; open > 0; w->pc++)
        open += *w->pc == '(' ? 1 : *w->pc == ')' ? -1 : 0;
}

void rdb_walk_loop_end(struct rdb_walk *w)
{
    if (--w->loop[w->depth - 1].left > 0) {
        w->pc = w->loop[w->depth - 1].body;
    } else {
        w->depth--;
        w->pc++;
    }
}

// Moves over a string, or into it, leaving the rest to w->skip.
static int skip_str(struct rdb_walk *w, struct rdb_scan *s)
{
    struct rdb_str str;
    int rc = scan_str_head(s, &str);
    if (rc > 0 && w->meter)
        rc = rdb_meter_str(w, &str, s);
    if (rc <= 0)
        return rc;
    size_t n = str.n < scan_left(s) ? (size_t)str.n : scan_left(s);
    s->p += n;
    w->skip = str.n - n;
    return SCAN_OK;
}

static int skip_text_double(struct rdb_scan *s)
{
    if (scan_left(s) == 0)
        return SCAN_MORE;
    size_t n = *s->p < 253 ? 1u + *s->p : 1u;
    if (scan_left(s) < n)
        return SCAN_MORE;
    s->p += n;
    return SCAN_OK;
}

static int skip_bytes(struct rdb_scan *s, size_t n)
{
    const uint8_t *p;
    return scan_bytes(s, n, &p);
}

// One module opcode with its operand. *last: it was the end mark.
static int skip_module(struct rdb_walk *w, struct rdb_scan *s, bool *last)
{
    uint64_t opcode, v;
    int rc = scan_len(s, &opcode);
    if (rc <= 0)
        return rc;
    switch (opcode) {
    case RDB_MODULE_EOF:
        *last = true;
        return SCAN_OK;
    case RDB_MODULE_SINT:
    case RDB_MODULE_UINT:
        return scan_len(s, &v);
    case RDB_MODULE_FLOAT:
        return skip_bytes(s, 4);
    case RDB_MODULE_DOUBLE:
        return skip_bytes(s, 8);
    case RDB_MODULE_STRING:
        return skip_str(w, s);
    default:
        return SCAN_BAD;
    }
}

static int skip_pel(struct rdb_scan *s)
{
    uint64_t v;
    int rc = skip_bytes(s, 24);
    return rc <= 0 ? rc : scan_len(s, &v);
}

static int skip_template(struct rdb_reader *r, struct rdb_scan *s)
{
    uint64_t id;
    int rc = scan_len(s, &id);
    const struct rdb_template *t = rc > 0 ? rdb_template_find(r, id) : NULL;
    if (rc > 0 && !t) {
        r->walk.broken = "a hash names a template that its file does not have before it";
        return SCAN_BAD;
    }
    rdb_template_use(r, t);
    return rc;
}

// An array's value. Only one that is a string can be longer than what is there.
static int skip_tagged(struct rdb_walk *w, struct rdb_scan *s)
{
    bool string = false;
    int rc = rdb_array_skip(s, &string);
    return rc > 0 && string ? skip_str(w, s) : rc;
}

// The operations of types that are rare, out of the way of the others.
static int __attribute__((noinline)) skip_rare(struct rdb_reader *r, struct rdb_scan *s, int kind)
{
    struct rdb_walk *w = &r->walk;
    uint64_t count = 0;
    int rc = SCAN_OK;
    switch (kind) {
    case SKIP_FIELDS:
        rc = rdb_template_inline(r, s);
        break;
    case SKIP_TEMPLATE:
        rc = skip_template(r, s);
        break;
    case SKIP_TAGGED:
        rc = skip_tagged(w, s);
        break;
    case SKIP_ARRAY:
        rc = rdb_array_head(r, s);
        count = r->array_count;
        break;
    default: // SKIP_EACH_FIELD
        count = r->tmpl_left;
        break;
    }
    if (rc <= 0)
        return rc;
    if (kind != SKIP_ARRAY && kind != SKIP_EACH_FIELD) {
        w->pc++;
        return rc;
    }
    if (w->meter)
        rdb_meter_number(w, count);
    rdb_walk_loop(w, count);
    return rc;
}

static inline int __attribute__((always_inline)) skip_op(struct rdb_reader *r, struct rdb_scan *s)
{
    struct rdb_walk *w = &r->walk;
    uint8_t op = (uint8_t)*w->pc & 127;
    uint64_t v;
    const uint8_t *id;
    bool last = false;
    int rc = SCAN_OK;
    switch (skips[op].kind) {
    case SKIP_STR:
        rc = skip_str(w, s);
        break;
    case SKIP_LEN:
        rc = scan_len(s, &v);
        if (rc > 0 && w->meter)
            rdb_meter_number(w, v);
        break;
    case SKIP_BYTES:
        rc = skip_bytes(s, skips[op].n);
        if (rc > 0 && w->meter && op == 'J')
            w->meter->stream_id(w->meter->arg, 'J', s->p - 16);
        break;
    case SKIP_TEXT_DOUBLE:
        rc = skip_text_double(s);
        break;
    case SKIP_PEL:
        id = s->p;
        rc = skip_pel(s);
        if (rc > 0 && w->meter)
            w->meter->stream_id(w->meter->arg, 'Y', id);
        break;
    case SKIP_MODULE:
        rc = skip_module(w, s, &last);
        if (rc > 0 && !last)
            return rc;
        break;
    case SKIP_LOOP:
        rc = scan_len(s, &v);
        if (rc > 0 && w->meter)
            rdb_meter_number(w, v);
        if (rc > 0)
            rdb_walk_loop(w, v);
        return rc;
    case SKIP_LOOP_END:
        rdb_walk_loop_end(w);
        return rc;
    case SKIP_STEP:
        break;
    default:
        return skip_rare(r, s, skips[op].kind);
    }
    if (rc > 0)
        w->pc++;
    return rc;
}

static void meter_bytes(struct rdb_walk *w, const uint8_t *from, const uint8_t *to)
{
    w->metered = !*w->pc && w->skip == 0;
    w->meter->bytes(w->meter->arg, slice_make((const char *)from, (size_t)(to - from)), w->metered);
}

int rdb_walk_on(struct rdb_reader *r, uint64_t end, struct err *e)
{
    struct rdb_walk *w = &r->walk;
    for (;;) {
        struct rdb_scan s = rdb_scan_here(r);
        if (end < r->end)
            s.end = end > r->pos ? s.p + (end - r->pos) : s.p;
        size_t n = w->skip < scan_left(&s) ? (size_t)w->skip : scan_left(&s);
        w->skip -= n;
        if (w->meter && n)
            meter_bytes(w, s.p, s.p + n);
        s.p += n;
        r->pos += n;
        if (w->skip > 0)
            return rdb_scan_failed(r, e, SCAN_MORE, "");

        int rc = SCAN_OK;
        const uint8_t *start = s.p;
        // In steps, so that the checksum runs over bytes that are still in the cache.
        const uint8_t *done = s.p,
                      *pause = scan_left(&s) > RDB_CRC_STEP ? s.p + RDB_CRC_STEP : s.end;
        while (*w->pc && w->skip == 0 && rc > 0 && s.p <= pause) {
            done = s.p;
            rc = skip_op(r, &s);
        }
        if (rc <= 0)
            s.p = done;
        if (w->meter && s.p > start)
            meter_bytes(w, start, s.p);
        r->pos += (uint64_t)(s.p - start);
        if (r->pos > r->crc_pos && r->pos - r->crc_pos >= RDB_CRC_STEP)
            rdb_crc_catch_up(r);
        if (rc <= 0)
            return rdb_scan_failed(r, e, rc, w->broken ? w->broken : "a value is broken");
        if (!*w->pc && w->skip == 0) {
            // The end of a loop takes no bytes and may come alone.
            if (w->meter && !w->metered)
                meter_bytes(w, s.p, s.p);
            return RDB_DONE;
        }
    }
}

int rdb_walk_step(struct rdb_reader *r, char *op, struct slice *piece, struct err *e)
{
    struct rdb_walk *w = &r->walk;
    struct rdb_scan s = rdb_scan_here(r);
    const uint8_t *start = s.p;
    if (w->skip > 0) {
        size_t n = w->skip < scan_left(&s) ? (size_t)w->skip : scan_left(&s);
        if (n == 0)
            return rdb_scan_failed(r, e, SCAN_MORE, "");
        *op = w->pc[-1];
        w->skip -= n;
        s.p += n;
    } else {
        if (!*w->pc)
            return RDB_DONE;
        *op = *w->pc;
        int rc = skip_op(r, &s);
        if (rc <= 0)
            return rdb_scan_failed(r, e, rc, w->broken ? w->broken : "a value is broken");
    }
    *piece = slice_make((const char *)start, (size_t)(s.p - start));
    r->pos += piece->n;
    if (r->pos > r->crc_pos && r->pos - r->crc_pos >= RDB_CRC_STEP)
        rdb_crc_catch_up(r);
    return RDB_ITEM;
}

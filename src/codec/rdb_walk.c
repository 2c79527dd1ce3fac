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
    ['W'] = {SKIP_MODULE, 0},
};

void rdb_walk_begin(struct rdb_walk *w, const char *program)
{
    w->pc = program;
    w->skip = 0;
    w->depth = 0;
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

static int skip_op(struct rdb_walk *w, struct rdb_scan *s)
{
    uint8_t op = (uint8_t)*w->pc & 127;
    uint64_t v;
    bool last = false;
    int rc = SCAN_OK;
    switch (skips[op].kind) {
    case SKIP_STR:
        rc = skip_str(w, s);
        break;
    case SKIP_LEN:
        rc = scan_len(s, &v);
        break;
    case SKIP_BYTES:
        rc = skip_bytes(s, skips[op].n);
        break;
    case SKIP_TEXT_DOUBLE:
        rc = skip_text_double(s);
        break;
    case SKIP_PEL:
        rc = skip_pel(s);
        break;
    case SKIP_MODULE:
        rc = skip_module(w, s, &last);
        if (rc > 0 && !last)
            return rc;
        break;
    case SKIP_LOOP:
        rc = scan_len(s, &v);
        if (rc > 0)
            rdb_walk_loop(w, v);
        return rc;
    case SKIP_LOOP_END:
        rdb_walk_loop_end(w);
        return rc;
    default:
        break;
    }
    if (rc > 0)
        w->pc++;
    return rc;
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
        s.p += n;
        r->pos += n;
        if (w->skip > 0)
            return RDB_MORE;

        int rc = SCAN_OK;
        const uint8_t *start = s.p;
        // In steps, so that the checksum runs over bytes that are still in the cache.
        const uint8_t *done = s.p,
                      *pause = scan_left(&s) > RDB_CRC_STEP ? s.p + RDB_CRC_STEP : s.end;
        while (*w->pc && w->skip == 0 && rc > 0 && s.p <= pause) {
            done = s.p;
            rc = skip_op(w, &s);
        }
        if (rc <= 0)
            s.p = done;
        r->pos += (uint64_t)(s.p - start);
        if (r->pos > r->crc_pos && r->pos - r->crc_pos >= RDB_CRC_STEP)
            rdb_crc_catch_up(r);
        if (rc <= 0)
            return rdb_scan_failed(r, e, rc, "a value is broken");
        if (!*w->pc && w->skip == 0)
            return RDB_DONE;
    }
}

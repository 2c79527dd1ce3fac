// SPDX-License-Identifier: Apache-2.0
#include "rdb/writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "codec/crc64.h"
#include "codec/rdb_types.h"

#define COLLECT ((size_t)64 << 10)

// Lowest versions of what is optional.
enum {
    SINCE_AUX = 7,
    SINCE_RESIZEDB = 7,
    SINCE_EVICTION = 9,
    SINCE_MODULE_AUX = 9,
    SINCE_FUNCTION = 10
};

struct rdb_writer {
    struct rdb_out *out;
    struct rdb_target target;
    struct buf buf; // not given to out yet, nor counted in crc
    uint64_t crc;
    int db; // selected; -1 none yet
};

static void flush(struct rdb_writer *w)
{
    w->crc = crc64_update(w->crc, w->buf.p, w->buf.n);
    rdb_out_write(w->out, w->buf.p, w->buf.n, NULL);
    buf_clear(&w->buf);
}

static void flush_full(struct rdb_writer *w)
{
    if (w->buf.n >= COLLECT)
        flush(w);
}

struct rdb_writer *rdb_writer_new(struct rdb_out *out, struct rdb_target target)
{
    struct rdb_writer *w = xcalloc(1, sizeof(*w));
    w->out = out;
    w->target = target;
    w->db = -1;
    buf_printf(&w->buf, target.valkey ? "VALKEY%03d" : "REDIS%04d", target.version);
    return w;
}

void rdb_writer_free(struct rdb_writer *w)
{
    if (!w)
        return;
    buf_free(&w->buf);
    free(w);
}

struct rdb_out *rdb_writer_out(struct rdb_writer *w)
{
    return w->out;
}

void rdb_writer_end(struct rdb_writer *w)
{
    char crc[8];
    buf_append_char(&w->buf, (char)RDB_OP_EOF);
    flush(w);
    store_le64(crc, w->crc);
    rdb_out_write(w->out, crc, sizeof(crc), NULL);
}

// ---- parts ----

void rdb_put_i64(struct buf *b, int64_t v)
{
    store_le64(buf_reserve(b, 8), (uint64_t)v);
    b->n += 8;
}

void rdb_put_double(struct buf *b, double v)
{
    int64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    rdb_put_i64(b, bits);
}

void rdb_put_text_double(struct buf *b, double v)
{
    if (isinf(v)) {
        buf_append_char(b, (char)(v > 0 ? 254 : 255));
        return;
    }
    char text[40];
    int n = snprintf(text, sizeof(text), "%.17g", v);
    buf_append_char(b, (char)n);
    buf_append(b, text, (size_t)n);
}

void rdb_write_bytes(struct rdb_writer *w, const void *p, size_t n)
{
    if (n < COLLECT) {
        buf_append(&w->buf, p, n);
        flush_full(w);
        return;
    }
    flush(w);
    w->crc = crc64_update(w->crc, p, n);
    rdb_out_write(w->out, p, n, NULL);
}

void rdb_write_len(struct rdb_writer *w, uint64_t v)
{
    rdb_put_len(&w->buf, v);
}

void rdb_write_string(struct rdb_writer *w, struct slice s)
{
    rdb_put_len(&w->buf, s.n);
    rdb_write_bytes(w, s.p, s.n);
}

// ---- opcodes ----

static void put_op(struct rdb_writer *w, enum rdb_opcode op)
{
    buf_append_char(&w->buf, (char)op);
}

void rdb_write_aux(struct rdb_writer *w, struct slice name, struct slice value)
{
    if (w->target.version < SINCE_AUX)
        return;
    put_op(w, RDB_OP_AUX);
    rdb_write_string(w, name);
    rdb_write_string(w, value);
}

bool rdb_writer_has_functions(const struct rdb_writer *w)
{
    return w->target.version >= SINCE_FUNCTION;
}

void rdb_write_function(struct rdb_writer *w, struct slice library)
{
    put_op(w, RDB_OP_FUNCTION2);
    rdb_write_string(w, library);
}

bool rdb_writer_has_module_aux(const struct rdb_writer *w)
{
    return w->target.version >= SINCE_MODULE_AUX;
}

void rdb_write_module_aux(struct rdb_writer *w, uint64_t module_id)
{
    put_op(w, RDB_OP_MODULE_AUX);
    rdb_write_len(w, module_id);
}

static void select_db(struct rdb_writer *w, int db)
{
    if (w->db == db)
        return;
    w->db = db;
    put_op(w, RDB_OP_SELECTDB);
    rdb_write_len(w, (uint64_t)db);
}

void rdb_write_resizedb(struct rdb_writer *w, int db, uint64_t size, uint64_t expires)
{
    if (w->target.version < SINCE_RESIZEDB)
        return;
    select_db(w, db);
    put_op(w, RDB_OP_RESIZEDB);
    rdb_write_len(w, size);
    rdb_write_len(w, expires);
}

void rdb_write_command(struct rdb_writer *w, int db, struct slice command)
{
    select_db(w, db);
    put_op(w, RDB_OP_UPDATE);
    rdb_write_bytes(w, command.p, command.n);
}

void rdb_write_key(struct rdb_writer *w, const struct rdb_item *item, uint8_t type)
{
    select_db(w, item->db);
    if (item->expire_ms != -1) {
        put_op(w, RDB_OP_EXPIRE_MS);
        rdb_put_i64(&w->buf, item->expire_ms);
    }
    if (w->target.version >= SINCE_EVICTION && item->idle_s >= 0) {
        put_op(w, RDB_OP_IDLE);
        rdb_write_len(w, (uint64_t)item->idle_s);
    }
    if (w->target.version >= SINCE_EVICTION && item->freq >= 0) {
        put_op(w, RDB_OP_FREQ);
        buf_append_char(&w->buf, (char)item->freq);
    }
    buf_append_char(&w->buf, (char)type);
    rdb_write_string(w, item->key);
}

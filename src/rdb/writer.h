// SPDX-License-Identifier: Apache-2.0
// Writes an RDB file of any version of either family, front to back: header, what stands before the
// keys, keys, end and checksum. What the version has no opcode for (AUX below 7, LFU below 9, ...)
// is left out; whether it knows a value's type is the caller's care.
//
// Writes do not fail one by one: the output keeps its first error, which rdb_out_commit reports.
#ifndef GUNYU_RDB_WRITER_H
#define GUNYU_RDB_WRITER_H

#include "codec/rdb.h"
#include "codec/rdb_len.h"
#include "rdb/out.h"

#define RDB_WRITE_MIN 6 // Redis 2.6 and 2.8; older files had no checksum and other expiries

struct rdb_target {
    int version;
    bool valkey; // magic VALKEY
};

struct rdb_writer;

// Writes the header. The output stays the caller's.
struct rdb_writer *rdb_writer_new(struct rdb_out *out, struct rdb_target target);
void rdb_writer_free(struct rdb_writer *w);
struct rdb_out *rdb_writer_out(struct rdb_writer *w);
// The end mark and the checksum. To be followed by rdb_out_commit.
void rdb_writer_end(struct rdb_writer *w);

void rdb_write_aux(struct rdb_writer *w, struct slice name, struct slice value);
bool rdb_writer_has_functions(const struct rdb_writer *w);
void rdb_write_function(struct rdb_writer *w, struct slice library);
bool rdb_writer_has_module_aux(const struct rdb_writer *w);
void rdb_write_module_aux(struct rdb_writer *w, uint64_t module_id); // its bytes follow
void rdb_write_resizedb(struct rdb_writer *w, int db, uint64_t size, uint64_t expires);
// A command that a Valkey of RDB version 81 on carries out while it loads; in RESP.
void rdb_write_command(struct rdb_writer *w, int db, struct slice command);
// A key up to its value: SELECTDB when the db changes, expiry, idle time or frequency, type, name.
void rdb_write_key(struct rdb_writer *w, const struct rdb_item *item, uint8_t type);

// Parts of a value.
void rdb_write_bytes(struct rdb_writer *w, const void *p, size_t n);
void rdb_write_len(struct rdb_writer *w, uint64_t v);
void rdb_write_string(struct rdb_writer *w, struct slice s);

// The same parts into a buffer; lengths and strings are codec/rdb_len.h's.
void rdb_put_i64(struct buf *b, int64_t v);        // 8 bytes
void rdb_put_double(struct buf *b, double v);      // 8 bytes
void rdb_put_text_double(struct buf *b, double v); // as versions below 8 have it

#endif

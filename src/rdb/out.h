// SPDX-License-Identifier: Apache-2.0
// What an rdb command writes: a file that gets its final name only when it is whole (a failure, a
// full disk or a kill leaves nothing under that name), or standard output for "-".
#ifndef GUNYU_RDB_OUT_H
#define GUNYU_RDB_OUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

enum rdb_out_format { RDB_OUT_PLAIN, RDB_OUT_ZSTD, RDB_OUT_GZIP };

struct rdb_out;

int rdb_out_open(struct rdb_out **out, const char *path, enum rdb_out_format format,
                 struct err *e) must_check;
// Buffered. The first failure stays: later writes do nothing and commit reports it, so that a
// caller of many small writes may check there only.
int rdb_out_write(struct rdb_out *o, const void *p, size_t n, struct err *e);
int rdb_out_printf(struct rdb_out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool rdb_out_failed(const struct rdb_out *o);
uint64_t rdb_out_bytes(const struct rdb_out *o); // written so far, before compression
// Flushes, syncs and gives the file its name; frees o in every case.
int rdb_out_commit(struct rdb_out *o, struct err *e) must_check;
// Removes what was written; frees o.
void rdb_out_discard(struct rdb_out *o);

#endif

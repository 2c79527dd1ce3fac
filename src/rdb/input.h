// SPDX-License-Identifier: Apache-2.0
// An RDB file, or a stream of one, as the rdb commands read it: plain or compressed (gzip, zstd,
// lz4, told by magic), from a path or "-" (standard input), front to back, in constant memory.
//
// The calls are those of codec/rdb.h, but they read what is missing and so never answer RDB_MORE.
// A file that ends too early is ERR_CORRUPT with the offset.
#ifndef GUNYU_RDB_INPUT_H
#define GUNYU_RDB_INPUT_H

#include "codec/rdb.h"

struct rdb_input;

// Policy for what only a server newer than this build can have written, and what came of it.
struct rdb_unknown {
    bool skip;       // as far as that is safe; else it is an error
    uint64_t n;      // things skipped
    struct buf list; // the first of them, a line each; free with buf_free
};

struct rdb_input_options {
    bool check_crc;
    struct rdb_unknown *unknown; // NULL: an error
};

// Fails for what is missing, unreadable, a directory or empty, with a text that names the path.
int rdb_input_open(struct rdb_input **out, const char *path, const struct rdb_input_options *o,
                   struct err *e) must_check;
void rdb_input_close(struct rdb_input *in);

const char *rdb_input_name(const struct rdb_input *in); // the path; "standard input"
struct rdb_reader *rdb_input_reader(struct rdb_input *in);
// Bytes of the file itself (compressed ones, if it is) and how many of them were read: for
// progress. Size is 0 when it is not known.
uint64_t rdb_input_size(const struct rdb_input *in);
uint64_t rdb_input_done(const struct rdb_input *in);

int rdb_input_next(struct rdb_input *in, struct rdb_item *item, struct err *e) must_check;
int rdb_input_raw(struct rdb_input *in, uint64_t limit, struct slice *raw,
                  struct err *e) must_check;
// Right after rdb_input_raw gave the value: it can be taken once more.
void rdb_input_again(struct rdb_input *in);
int rdb_input_element(struct rdb_input *in, size_t piece_limit, struct rdb_element *out,
                      struct err *e) must_check;
int rdb_input_string(struct rdb_input *in, size_t limit, struct slice *value,
                     struct err *e) must_check;
int rdb_input_skip(struct rdb_input *in, struct err *e) must_check;
int rdb_input_measure(struct rdb_input *in, const struct rdb_meter *m, struct err *e) must_check;
int rdb_input_span(struct rdb_input *in, struct slice *piece, struct err *e) must_check;
int rdb_input_step(struct rdb_input *in, char *op, struct slice *piece, struct err *e) must_check;

// After a failure in a value whose end is known: goes on there, without the checksum.
void rdb_input_resume(struct rdb_input *in, uint64_t at, int db);
// After RDB_DONE: whether the file has a checksum; and how many bytes follow, read to the end,
// which also checks the sum of a compressed file.
bool rdb_input_has_checksum(const struct rdb_input *in);
int rdb_input_rest(struct rdb_input *in, uint64_t *n, struct err *e) must_check;

#endif

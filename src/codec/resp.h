// SPDX-License-Identifier: Apache-2.0
// RESP2/RESP3, both directions, over contiguous memory that the caller owns. Pure; no allocation
// per command or reply.
#ifndef GUNYU_CODEC_RESP_H
#define GUNYU_CODEC_RESP_H

#include <stdarg.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

// ---- commands: the replication stream, an AOF ----

#define RESP_MAX_ARG (UINT64_C(4) << 30) // bytes of one argument; a primary's may exceed 512 MiB
#define RESP_MAX_ARGS INT32_MAX
#define RESP_MAX_INLINE (64 << 10) // bytes of an inline command

// Parser of one command at a time. Zeroed is ready. Between calls that return 0 the caller may
// append to the bytes and may move them, but must present the same start; the work done is kept.
struct resp_cmd {
    int argc;
    struct slice *argv; // owns the array. The slices borrow the input (inline ones this parser) and
                        // are valid only after a call that returned 1, until the next call
    size_t len;         // bytes consumed, leading newlines included
    size_t lead;        // how many of these are leading newlines (keepalives)
    bool is_inline;     // written as an inline command: must be re-encoded to be sent on. Servers
                        // since 5.0 take one from their primary as a sign of lost sync
    // private: the state of an unfinished command
    size_t pos; // in argv, .p counts from the start of the input until the command is complete
    int want, cap;
    struct buf scratch; // holds inline arguments after unquoting
};

// 1: a command is complete (argc may be 0 when only newlines, a blank line or an empty array were
// consumed: skip len bytes; newlines are handed out this way when what follows is not there yet).
// 0: more bytes are needed. ERR_PROTOCOL: not RESP (bad length, missing CRLF, beyond the limits
// above); the parser is then of no further use. argv grows with the arguments that have arrived,
// never with the announced count.
int resp_cmd_parse(struct resp_cmd *c, const char *p, size_t n) must_check;
// Forgets a command of which only the beginning has come: the next input is another one.
void resp_cmd_restart(struct resp_cmd *c);
void resp_cmd_free(struct resp_cmd *c);

// ---- replies ----

enum resp_type {
    RESP_STATUS,  // +
    RESP_ERROR,   // - and !
    RESP_INTEGER, // :
    RESP_BULK,    // $ and = (without the format prefix "txt:")
    RESP_NIL,     // $-1, *-1, _
    RESP_ARRAY,   // *
    RESP_SET,     // ~
    RESP_MAP,     // % (n counts keys and values)
    RESP_PUSH,    // >
    RESP_BOOL,    // #
    RESP_DOUBLE,  // ,
    RESP_BIGNUM,  // (
};

// One node of a reply. Aggregates carry their number of children, which follow in order.
struct resp_node {
    enum resp_type type;
    struct slice text; // status, error, bulk, double, bignum: the bytes
    int64_t num;       // integer, bool; aggregates: children
};

// Finds the end of the first whole reply without building anything. Zeroed is ready; keeps its
// place across calls like resp_cmd. Returns 1 and sets *len, 0 for more, ERR_PROTOCOL.
struct resp_scan {
    // private
    size_t pos;   // start of the next node
    size_t line;  // searched up to here for the end of the node's first line
    int64_t left; // nodes still to come
};
int resp_scan(struct resp_scan *s, const char *p, size_t n, size_t *len) must_check;

// Reads the node at *pos of a whole reply and moves *pos to the next node (depth first; attributes
// are skipped). Only for bytes that resp_scan has accepted. Returns false at the end.
bool resp_next(const char *p, size_t n, size_t *pos, struct resp_node *out);

// ---- writing ----

void resp_put_array(struct buf *b, size_t n);
void resp_put_bulk(struct buf *b, struct slice s);
// Only "$n CRLF"; the caller sends the n bytes and the CRLF by other means.
void resp_put_bulk_header(struct buf *b, size_t n);
void resp_put_i64(struct buf *b, int64_t v); // as a bulk string in decimal
void resp_put_argv(struct buf *b, int argc, const struct slice *argv);
// Words split at single spaces; %s takes const char *, %b const struct slice *, %d int, %L int64_t,
// %U uint64_t, %% a percent sign; a word may mix text and conversions:
// resp_put_cmd(b, "SET %b %b PXAT %L", &key, &value, ms).
void resp_put_cmd(struct buf *b, const char *fmt, ...);
void resp_put_vcmd(struct buf *b, const char *fmt, va_list ap);

#endif

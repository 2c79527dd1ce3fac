// SPDX-License-Identifier: Apache-2.0
// Reads the replies of a RESP2 pipeline as they arrive. Only what matters is looked at (status,
// error text, integer, nil); bulk data is passed over without being kept, so a reply may be of any
// size.
#ifndef GUNYU_TARGET_REPLIES_H
#define GUNYU_TARGET_REPLIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum reply_kind {
    REPLY_NONE,    // more bytes are needed
    REPLY_OK,      // status, bulk, nested array: not an error
    REPLY_QUEUED,  // "+QUEUED", `count` of them in a row
    REPLY_INTEGER, // num
    REPLY_NIL,
    REPLY_ERROR, // text without the leading '-'
    REPLY_ARRAY, // only when exec was asked for: num elements follow as replies of their own
};

struct reply {
    enum reply_kind kind;
    int64_t num;
    uint32_t count;    // REPLY_QUEUED and REPLY_OK: so many at once, at least 1
    bool empty;        // REPLY_OK: an array without elements
    struct slice text; // of a line, or a bulk that is kept; borrowed until the next call
};

// Zeroed is ready.
struct replies {
    struct buf line;   // an unfinished line
    uint64_t skip;     // bytes of a bulk (with its CRLF) still to pass over
    uint64_t nested;   // nodes of the current reply still to come
    bool bulk_pending; // the bulk being skipped is itself a reply to report
    bool keep;         // set by the owner: of such a bulk the bytes are told, if they are few
};

void replies_free(struct replies *r);
// Takes bytes from p and reports one reply (or a run of equal ones, at most max_run). *used says
// how many bytes were consumed; call again with the rest. expand: a top-level array is reported as
// REPLY_ARRAY and its elements follow one by one.
int replies_next(struct replies *r, const char *p, size_t n, size_t *used, bool expand,
                 uint32_t max_run, struct reply *out) must_check;

#endif

// SPDX-License-Identifier: Apache-2.0
// Requests to the HTTP API of another gunyu.
#ifndef GUNYU_CONTROL_PEER_H
#define GUNYU_CONTROL_PEER_H

#include "base/buf.h"
#include "base/err.h"

struct peer_request {
    const char *url;   // http://host:port
    const char *token; // bearer token; NULL: none
    const char *path;  // with the query, encoded
    bool post;
    int timeout_ms;
};

// Appends what was answered to *body. An answer of 400 or more is ERR_REPLY (of 400 itself
// ERR_CONFIG), with its "error" in the message. Blocks for up to timeout_ms; any thread.
int peer_call(const struct peer_request *q, struct buf *body, struct err *e) must_check;

// The value, percent-encoded for a query.
void peer_encode(struct buf *out, const char *value);

#endif

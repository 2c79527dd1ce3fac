// SPDX-License-Identifier: Apache-2.0
// The HTTP server. It has threads of its own, so a slow or hostile client can hold up nothing but
// itself: every phase of a connection has a deadline, and the oldest client that keeps the server
// waiting is dropped when room runs out.
#ifndef GUNYU_CONTROL_HTTP_H
#define GUNYU_CONTROL_HTTP_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

struct supervisor;

// All is borrowed and must outlive the server; NULL or 0 means the default in parentheses.
struct http_options {
    const char *listen;      // host:port or [v6]:port (127.0.0.1:18001); port 0: see http_port
    const char *metric_path; // (/prometheus)
    bool no_metrics;
    const char *token;   // (no authentication)
    bool metrics_open;   // metrics need no token
    const char *version; // (unknown)
    struct supervisor *sup;
    void *ctx; // for the two callbacks
    // Appends the configuration with all secrets redacted. Any thread, several at once.
    void (*config_text)(void *ctx, bool json, struct buf *out);
    // Asks the process to end gracefully. Must only post the wish: http_stop is not to be called
    // from inside.
    void (*shutdown)(void *ctx);
    int max_connections;    // (64), at most 256
    int max_per_ip;         // (32)
    int receive_timeout_ms; // (10000) for a whole request
    int send_timeout_ms;    // (30000) for a whole response
};

struct http;

int http_start(struct http **out, const struct http_options *o, struct err *e) must_check;
int http_port(const struct http *h);
// Closes the port, waits for requests that are being served, frees. h may be NULL.
void http_stop(struct http *h);

#endif

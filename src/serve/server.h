// SPDX-License-Identifier: Apache-2.0
// The replication server: a listener on a thread of its own, which talks to clients up to PSYNC and
// then hands the connection over.
#ifndef GUNYU_SERVE_SERVER_H
#define GUNYU_SERVE_SERVER_H

#include "net/endpoint.h"
#include "serve/feed.h"
#include "serve/session.h"

// Called on the server's thread. A shard is named as by the client, "" when it named none; of an
// error e.msg is sent to the client as an error reply.
struct serve_ops {
    session_facts_fn facts;
    // Takes the guest over, or refuses it, and then it stays the caller's.
    int (*attach)(void *ctx, const char *shard, struct serve_guest *g, struct err *e);
    void *ctx;
};

struct serve_server_options {
    const char *listen;     // host:port, [v6]:port; port 0: any
    const char *password;   // NULL: everybody may
    struct tls_options tls; // of the server; borrowed
    const char *version;
    struct serve_ops ops;
};

struct serve_server;
int serve_server_start(struct serve_server **out, const struct serve_server_options *o,
                       struct err *e) must_check;
// Ends the thread and the connections that were not handed over.
void serve_server_stop(struct serve_server *s);
// Where it listens, as "host:port", into at least 64 bytes; returns dst.
char *serve_server_address(const struct serve_server *s, char *dst, size_t cap);

#endif

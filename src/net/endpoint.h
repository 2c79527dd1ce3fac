// SPDX-License-Identifier: Apache-2.0
// Where a server is and how to talk to it. Plain data, set up by the configuration, immutable
// after.
#ifndef GUNYU_NET_ENDPOINT_H
#define GUNYU_NET_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

enum tls_version { TLS_ANY, TLS_1_2, TLS_1_3 };

struct tls_options {
    bool enabled;
    bool insecure; // do not verify the peer
    char *ca_file; // NULL: the system's
    char *ca_dir;
    char *cert_file; // client certificate chain, PEM
    char *key_file;
    char *server_name; // SNI and the name verified; NULL: the host
    enum tls_version min_version;
};

struct endpoint {
    char *host; // owns; NULL with a unix socket
    uint16_t port;
    char *path; // owns; unix socket
    char *user; // NULL: AUTH with the password alone
    char *password;
    int db;
    struct tls_options tls;
    // clock_boot_ms from which on nothing may be sent there: writes fail with ERR_LEASE. It may
    // change at any time. Borrowed; NULL: no limit.
    const _Atomic int64_t *send_until;
};

// How to find a server whose address changes. fn NULL: it does not. fn puts where the server is now
// into *out, which is to be freed; it blocks, so it runs on a pool thread. ctx is borrowed for as
// long as a connection attempt may run.
struct endpoint_finder {
    int (*fn)(void *ctx, struct endpoint *out, struct err *e);
    void *ctx;
};
// Where the finder says, or a copy of `fixed` without one; send_until is that of `fixed`. *out is
// to be freed unless it fails.
int endpoint_find(struct endpoint *out, const struct endpoint *fixed,
                  const struct endpoint_finder *f, struct err *e) must_check;

void endpoint_free(struct endpoint *ep);              // what it owns, not ep itself
void endpoints_free(struct endpoint *list, size_t n); // an array and all that it owns
void endpoint_copy(struct endpoint *dst, const struct endpoint *src);
// A copy of src (user, password, db, TLS) that is at another address.
void endpoint_move(struct endpoint *dst, const struct endpoint *src, const char *host,
                   uint16_t port);
// Whether s can be a host: a name or an address. For what peers announce.
bool endpoint_host_ok(struct slice s);

// redis://[user[:password]@]host[:port][/db], rediss:// (TLS), unix:///path[?db=n],
// host:port, [v6]:port. Percent-encoding is decoded. Errors never repeat the password.
int endpoint_parse(struct endpoint *ep, struct slice uri, struct err *e) must_check;
// "host:port", "[v6]:port" or "unix:/path" into a buffer of at least 300 bytes; returns dst.
char *endpoint_name(const struct endpoint *ep, char *dst, unsigned long cap);

#endif

// SPDX-License-Identifier: Apache-2.0
// A TLS session over a connected non-blocking socket that the caller owns. Private to net.
#ifndef GUNYU_NET_TLS_H
#define GUNYU_NET_TLS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"
#include "net/endpoint.h"

struct tls;
struct tls_server; // net/conn.h

// Handshake up to the monotonic deadline, with verification unless the endpoint says insecure.
int tls_connect(struct tls **out, int fd, const struct endpoint *ep, uint64_t deadline,
                struct err *e) must_check;
// As the server's end. The handshake goes on inside of the first tls_read.
int tls_accept(struct tls **out, int fd, struct tls_server *s) must_check;
// Tells the peer (without waiting) and frees.
void tls_free(struct tls *t);

// As conn_recv and conn_writev. Bytes that tls_writev has accepted may still wait inside for the
// socket; tls_poll_mask asks for what they need and tls_ready sends them.
ssize_t tls_read(struct tls *t, void *p, size_t n) must_check;
ssize_t tls_writev(struct tls *t, const struct iovec *iov, int n) must_check;
bool tls_has_buffered(const struct tls *t);

// Masks of enum conn_want. What the socket must be polled for, so that `want` can go on; and what
// may be tried, now that the socket is ready for `ready`.
int tls_poll_mask(const struct tls *t, int want);
int tls_ready(struct tls *t, int ready);

// Words for an error of tls_read or tls_writev; what OpenSSL said when it is ERR_TLS.
const char *tls_error_text(struct tls *t, int code);

#endif

// SPDX-License-Identifier: Apache-2.0
// One non-blocking stream connection: TCP, TLS or unix socket. Dialled off the loop (name lookup,
// connect and TLS handshake block up to a deadline) or accepted, then watched by one loop.
#ifndef GUNYU_NET_CONN_H
#define GUNYU_NET_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <uv.h>

#include "base/err.h"
#include "net/endpoint.h"

struct conn;

enum conn_want { CONN_READ = 1, CONN_WRITE = 2 };

// Blocking; run it on a pool thread. Sets TCP_NODELAY and keepalive. Returns new.
int conn_dial(struct conn **out, const struct endpoint *ep, int timeout_ms,
              struct err *e) must_check;

// What accepted TLS connections share. certFile and keyFile of o are needed; with a CA clients must
// show a certificate of it.
struct tls_server;
int tls_server_new(struct tls_server **out, const struct tls_options *o, struct err *e) must_check;
void tls_server_free(struct tls_server *s); // after the connections
// Takes an accepted socket, and closes it when that fails. server NULL: plain. A TLS handshake goes
// on in conn_recv, which returns -EAGAIN meanwhile.
int conn_accept(struct conn **out, int fd, struct tls_server *server) must_check;

// > 0 bytes; -EAGAIN; ERR_CLOSED at end of stream; ERR_TLS; -errno.
ssize_t conn_recv(struct conn *c, void *p, size_t n) must_check;
// The same, and ERR_LEASE when the endpoint's send_until has passed.
ssize_t conn_writev(struct conn *c, const struct iovec *iov, int n) must_check;
// A long stream is to come: the socket gets a large receive buffer at once.
void conn_expect_much(struct conn *c);
// Waits off the loop until readable/writable: 0, ERR_TIMEOUT, -errno.
int conn_wait(struct conn *c, int want, int timeout_ms) must_check;
// Decrypted bytes wait inside TLS: the poll would not tell, call conn_recv again.
bool conn_has_buffered(const struct conn *c);
int conn_fd(const struct conn *c);
// How long a round trip takes, as TCP has it; 0: not known, or no network in between.
uint32_t conn_rtt_us(const struct conn *c);
// Words for an error of conn_recv or conn_writev; of ERR_TLS what OpenSSL said.
const char *conn_error_text(const struct conn *c, int code);

// on_ready(ctx, events) runs on the loop with a mask of conn_want. A TLS connection that needs the
// other direction is handled inside: the wanted call just returns -EAGAIN until it can go on.
typedef void (*conn_ready_fn)(void *ctx, int events);
// For who polls by himself, before conn_watch: what conn_fd must be polled for, so that `want` can
// go on; and what of it may be tried, now that the socket is ready for `ready`.
int conn_poll_mask(const struct conn *c, int want);
int conn_poll_ready(struct conn *c, int ready);
void conn_watch(struct conn *c, uv_loop_t *loop, conn_ready_fn on_ready, void *ctx);
void conn_want(struct conn *c, int want); // replaces the mask; cheap when unchanged
// Closes at once; no callback comes after. c must not be used again (memory goes at the end of the
// loop's turn when it was watched).
void conn_close(struct conn *c);

#endif

// SPDX-License-Identifier: Apache-2.0
// Requests to etcd's JSON gateway (etcd 3.4 or later): endpoints in turn until one answers, TLS, a
// login that is renewed when its token has ended. Belongs to one thread; blocking, with bounded
// time. Neither a password nor a token is in any error.
#ifndef GUNYU_CONTROL_ETCD_HTTP_H
#define GUNYU_CONTROL_ETCD_HTTP_H

#include <jansson.h>
#include <stdatomic.h>

#include "control/config.h"

struct etcd_http;

// c is borrowed. timeout_ms: of each attempt at one endpoint.
int etcd_http_open(struct etcd_http **out, const struct etcd_config *c, int timeout_ms,
                   struct err *e) must_check;
void etcd_http_close(struct etcd_http *h); // NULL is allowed

// Posts the body (taken) to "/v3/<path>". *answer is new. *sent (may be NULL) is the CLOCK_BOOTTIME
// millisecond before the attempt that was answered was sent. ERR_REPLY: etcd refused, and
// etcd_http_code tells why (enum etcd_code).
int etcd_post(struct etcd_http *h, const char *path, json_t *body, json_t **answer, int64_t *sent,
              struct err *e) must_check;
int etcd_http_code(const struct etcd_http *h);

// A request whose answer is a stream of messages. One at a time. The body is taken.
int etcd_stream_begin(struct etcd_http *h, const char *path, json_t *body,
                      struct err *e) must_check;
bool etcd_stream_is_on(const struct etcd_http *h);
// The next message: 1 with *message new; 0 after timeout_ms or *cancel. An error ends the stream;
// the next one is begun at another endpoint.
int etcd_stream_next(struct etcd_http *h, int timeout_ms, const atomic_bool *cancel,
                     json_t **message, struct err *e) must_check;
void etcd_stream_end(struct etcd_http *h);

// "http://host:port" (or https) of an endpoint as it is configured, new; user and password that
// stand in it go to *login ("user:password", new, or NULL). NULL: malformed.
char *etcd_url(const char *endpoint, bool tls, char **login);

#endif

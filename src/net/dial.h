// SPDX-License-Identifier: Apache-2.0
// A connected, non-blocking socket to an endpoint, within a deadline. Private to net.
#ifndef GUNYU_NET_DIAL_H
#define GUNYU_NET_DIAL_H

#include <stdint.h>

#include "base/err.h"
#include "net/endpoint.h"

// Blocks until connected or until the monotonic deadline (clock_mono_us). Every address of the
// name is tried. Returns the socket in *fd.
int dial_socket(int *fd, const struct endpoint *ep, uint64_t deadline, struct err *e) must_check;

// Of a TCP socket: no delay, and peers that are gone are noticed.
void dial_set_options(int fd);

// Waits for a mask of enum conn_want: the mask that is ready, ERR_TIMEOUT or -errno.
int dial_poll(int fd, int want, uint64_t deadline) must_check;

#endif

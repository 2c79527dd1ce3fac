// SPDX-License-Identifier: Apache-2.0
// A place to be connected to, for tests.
#ifndef GUNYU_TESTS_LISTENER_H
#define GUNYU_TESTS_LISTENER_H

#include <arpa/inet.h>
#include <sys/socket.h>

#include "base/err.h"

// Listens at a free port of loopback, which *at gets. The descriptor is the caller's.
static inline int listen_somewhere(struct sockaddr_in *at)
{
    socklen_t n = sizeof(*at);
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(bind(fd, (struct sockaddr *)at, n) == 0 && listen(fd, 16) == 0);
    must(getsockname(fd, (struct sockaddr *)at, &n) == 0);
    return fd;
}

#endif

// SPDX-License-Identifier: Apache-2.0
#include "net/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

static int listen_on(const struct addrinfo *ai)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int on = 1, off = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 128) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

int net_listen(const char *at, const char *what, const char *setting, struct err *e)
{
    const char *colon = strrchr(at, ':');
    if (!colon)
        return err_set(e, ERR_CONFIG, "%s: no port in '%.100s'", setting, at);
    size_t n = (size_t)(colon - at);
    bool brackets = n >= 2 && at[0] == '[' && colon[-1] == ']';
    char *host = xstrndup(at + brackets, brackets ? n - 2 : n);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list;
    int rc = getaddrinfo(host[0] ? host : NULL, colon + 1, &hints, &list);
    free(host);
    if (rc != 0)
        return err_set(e, ERR_RESOLVE, "%s: cannot resolve %s: %s", setting, at, gai_strerror(rc));
    int fd = -1;
    for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next)
        fd = listen_on(ai);
    freeaddrinfo(list);
    return fd < 0 ? err_sys(e, fd, "cannot serve %s on %s (%s)", what, at, setting) : fd;
}

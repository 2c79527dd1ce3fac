// SPDX-License-Identifier: Apache-2.0
// Preloaded into one process of a test: its connections to some ports of 127.0.0.1 go to others,
// where a proxy of the test stands that can cut them. GUNYU_TEST_ROUTES="7801=9001,7802=9002".
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

typedef int connect_fn(int fd, const struct sockaddr *to, socklen_t n);

static unsigned short route(unsigned short port)
{
    const char *p = getenv("GUNYU_TEST_ROUTES");
    while (p && *p) {
        unsigned from = 0, to = 0;
        if (sscanf(p, "%u=%u", &from, &to) == 2 && from == port)
            return (unsigned short)to;
        p = strchr(p, ',');
        p = p ? p + 1 : NULL;
    }
    return port;
}

int connect(int fd, const struct sockaddr *to, socklen_t n)
{
    connect_fn *real = (connect_fn *)dlsym(RTLD_NEXT, "connect");
    struct sockaddr_in in;
    if (to->sa_family != AF_INET || n < sizeof(in))
        return real(fd, to, n);
    memcpy(&in, to, sizeof(in));
    in.sin_port = htons(route(ntohs(in.sin_port)));
    return real(fd, (struct sockaddr *)&in, sizeof(in));
}

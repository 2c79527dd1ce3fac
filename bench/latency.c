// SPDX-License-Identifier: Apache-2.0
// Time from the source's reply to a SET until a GET at the target shows it.
//   latency SOURCE-PORT TARGET-PORT COUNT    prints p50 p99 p999 max in microseconds
// Spins on GET, so a figure includes one round trip to the target.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int dial(const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
        perror(port);
        exit(1);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

// One command, one reply; replies here are shorter than a segment and arrive whole.
static size_t ask(int fd, const char *command, size_t n, char *reply, size_t cap)
{
    if (send(fd, command, n, MSG_NOSIGNAL) != (ssize_t)n) {
        perror("send");
        exit(1);
    }
    ssize_t r = recv(fd, reply, cap - 1, 0);
    if (r <= 0) {
        perror("recv");
        exit(1);
    }
    reply[r] = '\0';
    return (size_t)r;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: latency SOURCE-PORT TARGET-PORT COUNT\n");
        return 2;
    }
    int source = dial(argv[1]), target = dial(argv[2]);
    size_t count = strtoul(argv[3], NULL, 10);
    double *took = calloc(count, sizeof(*took));
    if (!took || count == 0)
        return 2;
    static const char get[] = "*2\r\n$3\r\nGET\r\n$12\r\ngunyu-marker\r\n";
    unsigned salt = (unsigned)time(NULL);
    for (size_t i = 0; i < count; i++) {
        char set[128], want[64], reply[512];
        int n = snprintf(set, sizeof(set),
                         "*3\r\n$3\r\nSET\r\n$12\r\ngunyu-marker\r\n$16\r\n%08x%08zx\r\n", salt, i);
        snprintf(want, sizeof(want), "$16\r\n%08x%08zx\r\n", salt, i);
        ask(source, set, (size_t)n, reply, sizeof(reply));
        double begin = now();
        do {
            ask(target, get, sizeof(get) - 1, reply, sizeof(reply));
            took[i] = now() - begin;
        } while (strcmp(reply, want) != 0 && took[i] < 1e7);
        // Lets the pipe fall idle, at a phase that no timer of a peer can lock to.
        usleep(200 + (unsigned)(i * 7919 % 1800));
    }
    qsort(took, count, sizeof(*took), by_value);
    printf("%.1f %.1f %.1f %.1f\n", took[count / 2], took[count * 99 / 100],
           took[count * 999 / 1000], took[count - 1]);
    free(took);
    return 0;
}

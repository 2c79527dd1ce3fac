// SPDX-License-Identifier: Apache-2.0
// Writes prepared commands to a server as fast as it takes them: what a target can do at most.
//   pump make FILE COUNT SIZE PREFIX   COUNT commands SET <PREFIX><i> <SIZE bytes that do not
//   compress> pump run PORT FILE COUNT           sends FILE, waits for COUNT one-line replies,
//   prints seconds
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int fail(const char *what)
{
    fprintf(stderr, "pump: %s: %s\n", what, strerror(errno));
    return 1;
}

static void noise(char *p, size_t n, uint64_t *state)
{
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (size_t i = 0; i < n; i++) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        p[i] = set[*state >> 58];
    }
}

static int make(const char *path, long count, size_t size, const char *prefix)
{
    FILE *f = fopen(path, "wb");
    char *value = malloc(size + 1);
    if (!f || !value) {
        int rc = fail(path);
        free(value);
        if (f)
            fclose(f);
        return rc;
    }
    uint64_t state = 88172645463325252U;
    int bad = 0;
    for (long i = 0; i < count; i++) {
        char key[128];
        int n = snprintf(key, sizeof(key), "%s%ld", prefix, i);
        noise(value, size, &state);
        bad |= fprintf(f, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%zu\r\n", n, key, size) < 0;
        bad |= fwrite(value, 1, size, f) != size || fwrite("\r\n", 1, 2, f) != 2;
    }
    free(value);
    if (fclose(f) != 0 || bad)
        return fail(path);
    return 0;
}

static int dial(const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

// Counts line ends; an error reply among them ends the run, as the figure would be worthless.
static long count_replies(const char *p, size_t n, bool *error)
{
    long lines = 0;
    for (size_t i = 0; i < n; i++) {
        lines += p[i] == '\n';
        *error |= p[i] == '-';
    }
    return lines;
}

static int transfer(int fd, const char *data, size_t size, long count)
{
    size_t sent = 0;
    long replies = 0;
    static char in[1 << 18];
    while (replies < count) {
        struct pollfd p = {.fd = fd, .events = (short)(POLLIN | (sent < size ? POLLOUT : 0))};
        if (poll(&p, 1, 60000) <= 0)
            return fail("no answer for a minute");
        if (p.revents & POLLOUT) {
            size_t part = size - sent < (1U << 20) ? size - sent : 1U << 20;
            ssize_t n = send(fd, data + sent, part, MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN)
                return fail("send");
            sent += n > 0 ? (size_t)n : 0;
        }
        if (p.revents & (POLLIN | POLLHUP)) {
            bool error = false;
            ssize_t n = recv(fd, in, sizeof(in), 0);
            if (n == 0 || (n < 0 && errno != EAGAIN))
                return fail("recv");
            replies += n > 0 ? count_replies(in, (size_t)n, &error) : 0;
            if (error) {
                fprintf(stderr, "pump: an error reply: %.*s\n", (int)(n < 200 ? n : 200), in);
                return 1;
            }
        }
    }
    return 0;
}

static int run(const char *port, const char *path, long count)
{
    struct stat st;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &st) != 0)
        return fail(path);
    size_t size = (size_t)st.st_size;
    char *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (data == MAP_FAILED)
        return fail(path);
    int fd = dial(port);
    if (fd < 0)
        return fail(port);
    double begin = now();
    int rc = transfer(fd, data, size, count);
    if (rc == 0)
        printf("%.6f\n", now() - begin);
    close(fd);
    close(file);
    munmap(data, size);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "make") == 0)
        return make(argv[2], strtol(argv[3], NULL, 10), strtoul(argv[4], NULL, 10), argv[5]);
    if (argc == 5 && strcmp(argv[1], "run") == 0)
        return run(argv[2], argv[3], strtol(argv[4], NULL, 10));
    fprintf(stderr, "usage: pump make FILE COUNT SIZE PREFIX | pump run PORT FILE COUNT\n");
    return 2;
}

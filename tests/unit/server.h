// SPDX-License-Identifier: Apache-2.0
// A throw-away redis-server on free loopback ports with a directory of its own and any options.
#ifndef GUNYU_TESTS_SERVER_H
#define GUNYU_TESTS_SERVER_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "redis/client.h"

enum { SERVER_MAX_ARGS = 40 };

struct server {
    pid_t pid;
    char dir[64];
    uint16_t port, tls_port;
    struct endpoint endpoint; // plain, loopback; nothing in it is owned
};

static inline uint16_t server_free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    must(bind(fd, (struct sockaddr *)&a, n) == 0);
    must(getsockname(fd, (struct sockaddr *)&a, &n) == 0);
    close(fd);
    return ntohs(a.sin_port);
}

// A directory for what the options name; before server_start.
static inline void server_init(struct server *s)
{
    static char host[] = "127.0.0.1";
    memset(s, 0, sizeof(*s));
    strcpy(s->dir, "/tmp/gunyu-test-XXXXXX");
    must(mkdtemp(s->dir) != NULL);
    s->port = server_free_port();
    s->tls_port = server_free_port();
    s->endpoint.host = host;
    s->endpoint.port = s->port;
}

static inline void server_exec(struct server *s, const char *const *options, pid_t parent)
{
    char port[8], *argv[SERVER_MAX_ARGS] = {0};
    snprintf(port, sizeof(port), "%u", (unsigned)s->port);
    const char *const fixed[] = {"redis-server",
                                 "--bind",
                                 "127.0.0.1",
                                 "--port",
                                 port,
                                 "--dir",
                                 s->dir,
                                 "--save",
                                 "",
                                 "--repl-diskless-sync-delay",
                                 "0"};
    int argc = 0;
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        argv[argc++] = strdup(fixed[i]);
    for (; options && *options && argc < SERVER_MAX_ARGS - 1; options++)
        argv[argc++] = strdup(*options);
    // It must not outlive a test that dies.
    int null = open("/dev/null", O_RDWR);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent || null < 0 ||
        dup2(null, 1) < 0 || dup2(null, 2) < 0)
        _exit(1);
    execvp(argv[0], argv);
    _exit(127);
}

// options: NULL-terminated words of the command line. Waits until it accepts connections.
static inline void server_start(struct server *s, const char *const *options)
{
    pid_t parent = getpid();
    s->pid = fork();
    if (s->pid == 0)
        server_exec(s, options, parent);
    uint64_t deadline = clock_mono_us() + 20 * 1000 * 1000;
    for (;;) {
        struct conn *c;
        if (conn_dial(&c, &s->endpoint, 1000, NULL) == 0) {
            conn_close(c);
            return;
        }
        must(clock_mono_us() < deadline && waitpid(s->pid, NULL, WNOHANG) == 0);
        usleep(5000);
    }
}

static inline void server_kill(struct server *s)
{
    if (s->pid > 0) {
        kill(s->pid, SIGKILL);
        waitpid(s->pid, NULL, 0);
    }
    s->pid = 0;
}

static inline int server_remove(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

static inline void server_stop(struct server *s)
{
    server_kill(s);
    if (s->dir[0])
        nftw(s->dir, server_remove, 8, FTW_DEPTH | FTW_PHYS);
    s->dir[0] = '\0';
}

#endif

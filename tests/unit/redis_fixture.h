// SPDX-License-Identifier: Apache-2.0
// A throw-away redis-server behind a unix socket in a directory of its own, for tests.
#ifndef GUNYU_TESTS_REDIS_FIXTURE_H
#define GUNYU_TESTS_REDIS_FIXTURE_H

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "redis/client.h"

struct redis_fixture {
    pid_t pid;
    char dir[64];
    char socket[80];
    struct endpoint endpoint; // its path is `socket`: not to be freed
    struct redis_client *client;
};

// program NULL: redis-server of the PATH. Returns false when it cannot be started.
static inline bool redis_fixture_start(struct redis_fixture *f, const char *program)
{
    memset(f, 0, sizeof(*f));
    strcpy(f->dir, "/tmp/gunyu-test-XXXXXX");
    if (!mkdtemp(f->dir))
        return false;
    snprintf(f->socket, sizeof(f->socket), "%s/s", f->dir);
    f->endpoint.path = f->socket;
    pid_t parent = getpid();
    f->pid = fork();
    if (f->pid == 0) {
        // It must not outlive a test that dies.
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
            _exit(1);
        int null = open("/dev/null", O_RDWR);
        if (null < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
            _exit(1);
        program = program ? program : "redis-server";
        execlp(program, program, "--port", "0", "--unixsocket", f->socket, "--dir", f->dir,
               "--save", "", "--appendonly", "no", (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 1000 && f->pid > 0; i++) {
        struct err e;
        if (redis_connect(&f->client, &f->endpoint, 5000, &e) == 0)
            return true;
        if (waitpid(f->pid, NULL, WNOHANG) == f->pid) {
            f->pid = 0;
            return false;
        }
        usleep(10000);
    }
    return false;
}

static inline void redis_fixture_stop(struct redis_fixture *f)
{
    redis_close(f->client);
    f->client = NULL;
    if (f->pid > 0) {
        kill(f->pid, SIGKILL);
        waitpid(f->pid, NULL, 0);
    }
    if (f->dir[0]) {
        unlink(f->socket);
        rmdir(f->dir);
    }
    memset(f, 0, sizeof(*f));
}

#endif

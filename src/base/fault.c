// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool fault_armed;

static struct {
    char name[64], action[8];
    atomic_long left; // passes until it happens
} armed = {.action = "kill"};

// Before main, so that no program that links this can forget it.
__attribute__((constructor)) static void fault_init(void)
{
    const char *spec = getenv("GUNYU_FAULT");
    char count[16] = "";
    if (!spec || !*spec)
        return;
    (void)sscanf(spec, "%63[^:]:%15[0-9]:%7s", armed.name, count, armed.action);
    long n = strtol(count, NULL, 10);
    if (n < 1) {
        fprintf(stderr, "GUNYU_FAULT is name:n[:kill|stop|exit|err], not \"%s\"\n", spec);
        _exit(2);
    }
    atomic_init(&armed.left, n);
    fault_armed = true;
}

bool fault_hit(const char *name)
{
    if (strcmp(name, armed.name) != 0)
        return false;
    long left = atomic_fetch_sub(&armed.left, 1);
    if (strcmp(armed.action, "err") == 0)
        return left <= 1;
    if (left != 1)
        return false;
    // For the test that wants to know whether its place was reached.
    fprintf(stderr, "fault %s: %s\n", armed.name, armed.action);
    if (strcmp(armed.action, "exit") == 0)
        _exit(99);
    raise(strcmp(armed.action, "stop") == 0 ? SIGSTOP : SIGKILL);
    return false;
}

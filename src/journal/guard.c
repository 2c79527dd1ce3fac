// SPDX-License-Identifier: Apache-2.0
#include "journal/guard.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"

// Entries are pushed and reused, never freed, so that the handler can walk the list at any moment.
struct guard {
    _Atomic uintptr_t base; // 0: free
    atomic_size_t size;
    _Atomic(atomic_bool *) damaged;
    struct guard *next;
};

// Process-wide, because a signal handler is.
static _Atomic(struct guard *) guards;
static pthread_mutex_t guards_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction guards_previous;
static uintptr_t guards_page;

static void pass_on(int sig, siginfo_t *info, void *context)
{
    if (guards_previous.sa_flags & SA_SIGINFO) {
        guards_previous.sa_sigaction(sig, info, context);
        return;
    }
    // Under the default action the same instruction faults again and the process ends as it would
    // have; a signal sent by kill() has no instruction and is raised again.
    signal(sig, SIG_DFL);
    if (info->si_code <= 0)
        raise(sig);
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr;
    for (struct guard *g = info->si_code > 0 ? atomic_load(&guards) : NULL; g; g = g->next) {
        uintptr_t base = atomic_load(&g->base);
        if (base == 0 || at < base || at - base >= atomic_load(&g->size))
            continue;
        char *page = (char *)info->si_addr - (at & (guards_page - 1));
        if (mmap(page, guards_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                 -1, 0) == MAP_FAILED)
            break;
        atomic_store(atomic_load(&g->damaged), true);
        return;
    }
    pass_on(sig, info, context);
}

void journal_guard_install(void)
{
    pthread_mutex_lock(&guards_lock);
    struct sigaction now;
    sigaction(SIGBUS, NULL, &now);
    // Somebody may have put another handler in between.
    if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != on_sigbus) {
        guards_page = (uintptr_t)sysconf(_SC_PAGESIZE);
        guards_previous = now;
        struct sigaction sa = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
        sigemptyset(&sa.sa_mask);
        sigaction(SIGBUS, &sa, NULL);
    }
    pthread_mutex_unlock(&guards_lock);
}

struct guard *guard_add(const void *base, size_t size, atomic_bool *damaged)
{
    pthread_mutex_lock(&guards_lock);
    struct guard *g = atomic_load(&guards);
    while (g && atomic_load(&g->base) != 0)
        g = g->next;
    bool fresh = !g;
    if (fresh)
        g = xcalloc(1, sizeof(*g));
    atomic_store(&g->size, size);
    atomic_store(&g->damaged, damaged);
    atomic_store(&g->base, (uintptr_t)base);
    if (fresh) {
        g->next = atomic_load(&guards);
        atomic_store(&guards, g);
    }
    pthread_mutex_unlock(&guards_lock);
    return g;
}

void guard_remove(struct guard *g)
{
    if (g)
        atomic_store(&g->base, 0);
}

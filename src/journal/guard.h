// SPDX-License-Identifier: Apache-2.0
// A mapped file page that cannot be read (truncated file, bad disk, full disk) raises SIGBUS. The
// guard turns that into a flag on the owner of the mapping: it puts a zero page there, so that
// execution goes on, and the owner checks the flag before anything read is believed.
#ifndef GUNYU_JOURNAL_GUARD_H
#define GUNYU_JOURNAL_GUARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct guard;

// Installs the process-wide SIGBUS handler, unless it is in place. Faults outside guarded ranges go
// to the handler that was there before.
void journal_guard_install(void);

// Guards [base, base + size). *damaged is set, never cleared, and must outlive the guard.
struct guard *guard_add(const void *base, size_t size, atomic_bool *damaged);
void guard_remove(struct guard *g); // NULL is fine

#endif

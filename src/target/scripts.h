// SPDX-License-Identifier: Apache-2.0
// Scripts that the source has shown, by their digest. A source that replicates scripts as they were
// called (the default before Redis 5) sends each one once and then names it; a node that joined the
// target or took over since has never seen it.
#ifndef GUNYU_TARGET_SCRIPTS_H
#define GUNYU_TARGET_SCRIPTS_H

#include "base/err.h"
#include "base/slice.h"

struct scripts;

// path: a file that keeps them for the next process, NULL: none. limit: bytes of all; what would go
// beyond takes the place of all others. A file that cannot be used costs a warning. tag: of the
// log, borrowed.
struct scripts *scripts_open(const char *path, size_t limit, const char *tag);
void scripts_close(struct scripts *s);
void scripts_note(struct scripts *s, struct slice body);
// digest: as EVALSHA takes it. false: unknown. *body is valid until the next scripts_note.
bool scripts_find(const struct scripts *s, struct slice digest, struct slice *body);

#endif

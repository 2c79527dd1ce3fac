// SPDX-License-Identifier: Apache-2.0
// Which keys of a target a snapshot does not have. While it is loaded a hash of each of its keys
// goes into a file that has no name; afterwards keys are looked up in it in passes, each over a
// part of all hashes, so that memory is bounded whatever the snapshot's size.
#ifndef GUNYU_TARGET_EXTRA_H
#define GUNYU_TARGET_EXTRA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

#define EXTRA_PASS_BYTES ((size_t)32 << 20) // of three million keys

struct extra;
// dir: where the file is made; copied. pass_bytes: of memory, for one pass. An error of the file is
// told by extra_pass.
struct extra *extra_new(const char *dir, size_t pass_bytes);
void extra_free(struct extra *x);

// Notes the key of an item that begins there; items come in order. What was noted before is not
// noted again, so a load that goes on further back is no matter.
void extra_note(struct extra *x, uint64_t index, int db, struct slice key);
// All keys of items that begin before the index have been noted.
void extra_noted_until(struct extra *x, uint64_t index);
uint64_t extra_until(const struct extra *x);

// From the end of the load on, on any one thread.
int extra_passes(const struct extra *x);
// Begins one of them, 0 to extra_passes - 1.
int extra_pass(struct extra *x, int pass, struct err *e) must_check;
// In the pass that was begun: the key is one of its part and the snapshot does not have it.
bool extra_is(const struct extra *x, int db, struct slice key);

#endif

// SPDX-License-Identifier: Apache-2.0
// Applies the replication stream to a cluster: units go to the router in parts, one a slot.
//
// A unit that is held back is not kept: it is a place in the journal, and is read from there again
// when its slot lets it go, or sent as it lies there. So whatever decides how a command looks at
// the target must say the same again later; what depends on the clock is given back by the router.
#ifndef GUNYU_TARGET_SCATTER_H
#define GUNYU_TARGET_SCATTER_H

#include "target/apply.h"
#include "target/router.h"

struct apply *scatter_new(const struct apply_options *o, uint64_t from, int db);
// For router_events.emit.
bool scatter_emit(struct apply *a, uint64_t from, int db, int64_t now_ms, int slot, size_t as_is);

#endif

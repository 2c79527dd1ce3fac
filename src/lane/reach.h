// SPDX-License-Identifier: Apache-2.0
// Whether a source and its target can be reached from here: asked every few seconds over
// connections of its own, on a thread of the pool, so that a group knows who is able to lead.
// Belongs to one loop; everything below is called there unless it says otherwise.
#ifndef GUNYU_LANE_REACH_H
#define GUNYU_LANE_REACH_H

#include "lane/lane.h"

struct reach;

// o: of the lane; what its finders need must outlive the loop.
struct reach *reach_new(const struct lane_options *o);
void reach_free(struct reach *r); // memory goes when the loop has closed its handles
// Both answered when they were asked last; false before the first time. why: "" or which one did
// not. Any thread.
bool reach_ok(struct reach *r, char *why, size_t cap);

#endif

// SPDX-License-Identifier: Apache-2.0
// What the renderings of a report share.
#ifndef GUNYU_RDB_REPORT_IMPL_H
#define GUNYU_RDB_REPORT_IMPL_H

#include "base/buf.h"
#include "rdb/report.h"

#define REPORT_RANGE (SLOT_COUNT / REPORT_SLOT_RANGES)
#define REPORT_CHILDREN 48 // of a prefix that are shown
#define REPORT_TOP_SLOTS 10

struct report_writer {
    struct rdb_out *out;
    bool comma;
    struct buf scratch; // owns
};

// Of the slots that hold keys; all 16384 count for the least.
struct report_slots {
    unsigned used;
    struct report_bucket min, max; // keys and bytes apart, not of the same slot
    struct report_bucket ranges[REPORT_SLOT_RANGES];
    unsigned top[REPORT_TOP_SLOTS];
    size_t top_n;
};
void report_slots(const struct report *r, struct report_slots *s);

// The children of a prefix that have their share of the memory, the greatest first.
uint32_t report_children(const struct report *r, uint32_t node, uint32_t out[REPORT_CHILDREN]);

// The page, made by tools/embed-page from report_page.{html,css,js}.
extern const char report_page_head[], report_page_tail[];

#endif

// SPDX-License-Identifier: Apache-2.0
// A live line of progress: redrawn in place on a terminal, every few seconds elsewhere.
#ifndef GUNYU_BASE_METER_H
#define GUNYU_BASE_METER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct meter {
    FILE *out;
    bool terminal, shown;
    uint64_t last_us, printed_us;
    uint64_t last_items, last_bytes;
    double item_rate, byte_rate; // smoothed, a second
};

void meter_start(struct meter *m, FILE *out);
// Totals so far; the rates follow from them. Call a few times a second.
void meter_count(struct meter *m, uint64_t items, uint64_t bytes);
// A line that is shown now would not come too often.
bool meter_due(const struct meter *m);
void meter_show(struct meter *m, const char *line);
// Leaves the last line.
void meter_end(struct meter *m);

// "1.5 MB" for 1500000 and "B"; the unit may be "".
void meter_human(char *dst, size_t cap, double v, const char *unit);

#endif

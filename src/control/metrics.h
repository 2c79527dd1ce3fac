// SPDX-License-Identifier: Apache-2.0
// Metrics in the Prometheus text format. One table of rows says the names, the types, the help
// texts and where each value comes from; the reference in docs/metrics.md is printed from it.
#ifndef GUNYU_CONTROL_METRICS_H
#define GUNYU_CONTROL_METRICS_H

#include <stdio.h>

#include "base/buf.h"
#include "lane/snapshot.h"

// Ours say all that redisGunYu's say, so that one set can be scraped without the other.
enum metrics_set { METRICS_ALL, METRICS_OWN, METRICS_COMPAT };

// The names "all", "gunyu" and "redisGunYu". False for any other.
bool metrics_set_parse(const char *name, enum metrics_set *out) __attribute__((warn_unused_result));

// Also reads the process's own numbers from /proc. Any thread.
void metrics_render(struct buf *b, enum metrics_set set, const struct lane_snapshot *lanes,
                    size_t n, const char *version);

// The reference as Markdown.
void metrics_write_docs(FILE *f);

#endif

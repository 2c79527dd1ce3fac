// SPDX-License-Identifier: Apache-2.0
// Lanes as the JSON of GET /syncer/status and as the page of GET /.
#ifndef GUNYU_CONTROL_STATUS_H
#define GUNYU_CONTROL_STATUS_H

#include "base/buf.h"
#include "lane/snapshot.h"

// A state of redisGunYu's four; a lane in error is LANE_STOP to its scripts.
enum lane_state status_compat_state(enum lane_state s);
// Progress of the full sync, 0 to 10000, whatever the lane's number holds.
unsigned status_full_sync_hundredths(const struct lane_snapshot *l);

void status_json(struct buf *b, const struct lane_snapshot *lanes, size_t n);
// A whole page: no script, nothing loaded from elsewhere, reloads itself. metric_path may be NULL.
void status_html(struct buf *b, const struct lane_snapshot *lanes, size_t n, const char *version,
                 const char *metric_path);

#endif

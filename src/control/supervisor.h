// SPDX-License-Identifier: Apache-2.0
// Owns the lanes and their worker threads. Everything here may be called from any thread; the calls
// that wait say so.
#ifndef GUNYU_CONTROL_SUPERVISOR_H
#define GUNYU_CONTROL_SUPERVISOR_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "control/config.h"
#include "lane/snapshot.h"

struct supervisor;

// cfg is borrowed and must outlive it.
int supervisor_start(struct supervisor **out, const struct config *cfg, struct err *e) must_check;
// Drains and stops all lanes, waits up to timeout_ms; 0 ends at once.
void supervisor_stop(struct supervisor *s, int timeout_ms);
void supervisor_free(struct supervisor *s);

// Copies the state of every lane. Returns how many; *out is new, free it.
size_t supervisor_snapshots(struct supervisor *s, struct lane_snapshot **out);

// The group as a JSON object; its "Group" is empty where there is none.
void supervisor_group_json(struct supervisor *s, struct buf *out);

enum supervisor_action { SUP_PAUSE, SUP_RESUME, SUP_HANDOVER, SUP_STOP, SUP_RESTART };
// inputs: "all" or a comma list of source addresses; an empty or unknown one is ERR_CONFIG with the
// known ones named, and then nothing is done. Idempotent. Waits until the lanes took it (bounded).
// In a group what another node leads is passed on to that node, but for SUP_RESTART; passed_on: it
// was already.
// resume_skip: a lane in state error skips the command that stopped it instead of retrying.
int supervisor_act(struct supervisor *s, enum supervisor_action a, const char *inputs,
                   bool resume_skip, bool passed_on, struct err *e) must_check;
// Forces a full sync; flush_command is NULL or what empties the target first ("flushdb").
// extra_delete: as output.replay.extraKeys: delete, this time; ERR_CONFIG where that is none.
int supervisor_fullsync(struct supervisor *s, const char *inputs, const char *flush_command,
                        bool extra_delete, bool passed_on, struct err *e) must_check;
// Stale positions in the targets and stale journal directories of ours.
int supervisor_gc(struct supervisor *s, struct err *e) must_check;
// Where replicas are served, as "host:port"; false: nowhere.
bool supervisor_replication_address(const struct supervisor *s, char *dst, size_t cap);
// All lanes can reach source and target (readyz).
bool supervisor_ready(struct supervisor *s, char *why, size_t cap);

#endif

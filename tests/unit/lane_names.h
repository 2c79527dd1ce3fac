// SPDX-License-Identifier: Apache-2.0
// Names of lane states for tests that render snapshots without a lane. Weak: where the lane layer
// is linked in, its own are used.
#ifndef TESTS_UNIT_LANE_NAMES_H
#define TESTS_UNIT_LANE_NAMES_H

#include "lane/snapshot.h"

__attribute__((weak)) const char *lane_state_name(enum lane_state s)
{
    static const char *const names[] = {"ready_run", "run", "pause", "stop", "error"};
    return names[s];
}

__attribute__((weak)) const char *lane_phase_name(enum lane_phase p)
{
    static const char *const names[] = {"idle", "connecting", "wait_rdb", "full_sync", "streaming"};
    return names[p];
}

#endif

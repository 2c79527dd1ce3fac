// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <math.h>
#include <stdlib.h>

struct totals {
    size_t lanes;
    uint64_t items, bytes, snapshot_size, snapshot_loaded;
    int64_t lag_bytes, lag_ms;
    double percent; // of the lane that is least far
    enum lane_phase phase;
    bool paused;
    const char *error;
};

void progress_start(struct progress *p)
{
    meter_start(&p->meter, stdout);
}

static void add_up(struct totals *t, const struct lane_snapshot *lanes, size_t n)
{
    *t = (struct totals){.lanes = n, .percent = 100, .phase = LANE_PHASE_STREAMING};
    for (size_t i = 0; i < n; i++) {
        const struct lane_snapshot *l = &lanes[i];
        t->items += l->rdb_keys_sent + l->cmds_ok;
        t->bytes += l->bytes_sent;
        t->snapshot_size += l->snapshot_size;
        t->snapshot_loaded += l->snapshot_loaded;
        t->lag_bytes += l->lag_bytes;
        if (l->lag_ms > t->lag_ms)
            t->lag_ms = l->lag_ms;
        if (l->full_sync_percent < t->percent)
            t->percent = l->full_sync_percent;
        if (l->phase < t->phase)
            t->phase = l->phase;
        t->paused |= l->state == LANE_PAUSE;
        if (l->error[0] && !t->error)
            t->error = l->error;
    }
    if (n == 0)
        t->phase = LANE_PHASE_CONNECTING;
}

static void describe(const struct progress *p, const struct totals *t, char *line, size_t cap)
{
    char items[32], bytes[32], lag[32];
    meter_human(items, sizeof(items), p->meter.item_rate, "");
    meter_human(bytes, sizeof(bytes), p->meter.byte_rate, "B");
    meter_human(lag, sizeof(lag), (double)t->lag_bytes, "B");
    switch (t->phase) {
    case LANE_PHASE_FULL_SYNC: {
        double left = t->snapshot_size > t->snapshot_loaded
                          ? (double)(t->snapshot_size - t->snapshot_loaded)
                          : 0;
        char eta[32] = "";
        if (p->meter.byte_rate > 0 && t->snapshot_size)
            snprintf(eta, sizeof(eta), "  eta %.0f s", ceil(left / p->meter.byte_rate));
        char percent[24] = "";
        if (t->snapshot_size)
            snprintf(percent, sizeof(percent), " %5.1f%%", t->percent);
        snprintf(line, cap, "full sync%s  %s keys/s  %s/s%s", percent, items, bytes, eta);
        break;
    }
    case LANE_PHASE_STREAMING:
        snprintf(line, cap, "%s  %s commands/s  %s/s  lag %s, %lld ms",
                 t->paused ? "paused" : "streaming", items, bytes, lag, (long long)t->lag_ms);
        break;
    case LANE_PHASE_WAIT_RDB:
        snprintf(line, cap, "waiting for the source's snapshot");
        break;
    case LANE_PHASE_CONNECTING:
    case LANE_PHASE_IDLE:
        snprintf(line, cap, "%s%s%s", lane_phase_name(t->phase), t->error ? ": " : "",
                 t->error ? t->error : "");
        break;
    }
}

void progress_update(struct progress *p, struct supervisor *s)
{
    struct lane_snapshot *lanes;
    size_t n = supervisor_snapshots(s, &lanes);
    struct totals t;
    add_up(&t, lanes, n);
    meter_count(&p->meter, t.items, t.bytes);
    if (meter_due(&p->meter)) {
        char line[400];
        describe(p, &t, line, sizeof(line));
        meter_show(&p->meter, line);
    }
    free(lanes);
}

void progress_end(struct progress *p)
{
    meter_end(&p->meter);
}

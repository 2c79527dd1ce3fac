// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

enum { PLAIN_EVERY_US = 5000000 };

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
    *p = (struct progress){.terminal = isatty(STDOUT_FILENO) == 1, .last_us = clock_mono_us()};
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
}

static void human(char *dst, size_t cap, double v, const char *unit)
{
    static const char *const prefix[] = {"", "k", "M", "G", "T"};
    int i = 0;
    while (v >= 1000 && i < 4) {
        v /= 1000;
        i++;
    }
    const char *space = *prefix[i] || *unit ? " " : "";
    snprintf(dst, cap, v < 10 && i ? "%.1f%s%s%s" : "%.0f%s%s%s", v, space, prefix[i], unit);
}

static void smooth(double *rate, double now)
{
    *rate = *rate > 0 ? *rate * 0.7 + now * 0.3 : now;
}

static void describe(const struct progress *p, const struct totals *t, char *line, size_t cap)
{
    char items[32], bytes[32], lag[32];
    human(items, sizeof(items), p->item_rate, "");
    human(bytes, sizeof(bytes), p->byte_rate, "B");
    human(lag, sizeof(lag), (double)t->lag_bytes, "B");
    switch (t->phase) {
    case LANE_PHASE_FULL_SYNC: {
        double left = t->snapshot_size > t->snapshot_loaded
                          ? (double)(t->snapshot_size - t->snapshot_loaded)
                          : 0;
        char eta[32] = "";
        if (p->byte_rate > 0 && t->snapshot_size)
            snprintf(eta, sizeof(eta), "  eta %.0f s", ceil(left / p->byte_rate));
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
    uint64_t now = clock_mono_us();
    double seconds = (double)(now - p->last_us) / 1e6;
    if (seconds > 0.05) {
        smooth(&p->item_rate, (double)(t.items - p->last_items) / seconds);
        smooth(&p->byte_rate, (double)(t.bytes - p->last_bytes) / seconds);
        p->last_us = now;
        p->last_items = t.items;
        p->last_bytes = t.bytes;
    }
    if (p->terminal || now - p->printed_us >= PLAIN_EVERY_US || p->printed_us == 0) {
        char line[400];
        describe(p, &t, line, sizeof(line));
        printf(p->terminal ? "\r\033[K%.110s" : "%s\n", line);
        fflush(stdout);
        p->printed_us = now;
        p->shown = true;
    }
    free(lanes);
}

void progress_end(struct progress *p)
{
    if (p->terminal && p->shown)
        putchar('\n');
    fflush(stdout);
}

// SPDX-License-Identifier: Apache-2.0
#include "base/meter.h"

#include <unistd.h>

#include "base/clock.h"

enum { PLAIN_EVERY_US = 5000000 };

void meter_start(struct meter *m, FILE *out)
{
    *m = (struct meter){
        .out = out, .terminal = isatty(fileno(out)) == 1, .last_us = clock_mono_us()};
}

static void smooth(double *rate, double now)
{
    *rate = *rate > 0 ? *rate * 0.7 + now * 0.3 : now;
}

void meter_count(struct meter *m, uint64_t items, uint64_t bytes)
{
    uint64_t now = clock_mono_us();
    double seconds = (double)(now - m->last_us) / 1e6;
    if (seconds <= 0.05)
        return;
    smooth(&m->item_rate, (double)(items - m->last_items) / seconds);
    smooth(&m->byte_rate, (double)(bytes - m->last_bytes) / seconds);
    m->last_us = now;
    m->last_items = items;
    m->last_bytes = bytes;
}

bool meter_due(const struct meter *m)
{
    return m->terminal || m->printed_us == 0 || clock_mono_us() - m->printed_us >= PLAIN_EVERY_US;
}

void meter_show(struct meter *m, const char *line)
{
    fprintf(m->out, m->terminal ? "\r\033[K%.110s" : "%s\n", line);
    fflush(m->out);
    m->printed_us = clock_mono_us();
    m->shown = true;
}

void meter_end(struct meter *m)
{
    if (m->terminal && m->shown)
        fputc('\n', m->out);
    fflush(m->out);
}

void meter_human(char *dst, size_t cap, double v, const char *unit)
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

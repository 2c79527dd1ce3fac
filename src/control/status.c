// SPDX-License-Identifier: Apache-2.0
#include "control/status.h"

#include "base/slice.h"
#include "control/text.h"

enum lane_state status_compat_state(enum lane_state s)
{
    return s == LANE_ERROR ? LANE_STOP : s == LANE_LEASE_LOST ? LANE_READY_RUN : s;
}

unsigned status_full_sync_hundredths(const struct lane_snapshot *l)
{
    double percent = l->full_sync_percent;
    if (!(percent > 0))
        return 0;
    return percent >= 100 ? 10000 : (unsigned)(percent * 100);
}

// The separator goes in front, so the first member of an object is written by hand.
static void json_string(struct buf *b, const char *name, const char *value)
{
    buf_printf(b, ",\"%s\":", name);
    text_json(b, value);
}

static void json_i64(struct buf *b, const char *name, int64_t value)
{
    buf_printf(b, ",\"%s\":", name);
    buf_append_i64(b, value);
}

static void json_bool(struct buf *b, const char *name, bool value)
{
    buf_printf(b, ",\"%s\":%s", name, value ? "true" : "false");
}

// "full_syncs" becomes "FullSyncs", as the other members of a status are spelt.
static void append_pascal(struct buf *b, const char *name)
{
    bool up = true;
    for (; *name; name++) {
        if (*name != '_')
            buf_append_char(b, up && *name >= 'a' && *name <= 'z' ? (char)(*name - 32) : *name);
        up = *name == '_';
    }
}

static void json_replicas(struct buf *b, const struct serve_facts *f)
{
    buf_append_cstr(b, ",\"Replicas\":[");
    for (size_t i = 0; i < f->replicas_n; i++) {
        const struct serve_replica *r = &f->replicas[i];
        buf_append_cstr(b, i ? ",{\"Address\":" : "{\"Address\":");
        text_json(b, r->address);
        json_string(b, "State", serve_replica_state_name(r->state));
        json_i64(b, "AckedOffset", r->acked);
        json_i64(b, "BytesSent", (int64_t)r->bytes_sent);
        json_i64(b, "SilentMs", r->silent_ms);
        buf_append_char(b, '}');
    }
    buf_append_char(b, ']');
}

static void json_counters(struct buf *b, const struct lane_snapshot *l)
{
    const struct {
        const char *name;
        uint64_t value;
    } counters[] = {
#define X(name) {#name, l->name},
        LANE_COUNTERS(X)
#undef X
    };
    buf_append_cstr(b, ",\"Counters\":{");
    for (size_t i = 0; i < sizeof(counters) / sizeof(*counters); i++) {
        buf_append_cstr(b, i ? ",\"" : "\"");
        append_pascal(b, counters[i].name);
        buf_append_cstr(b, "\":");
        buf_append_u64(b, counters[i].value);
    }
    buf_append_char(b, '}');
}

static void json_lane(struct buf *b, const struct lane_snapshot *l)
{
    buf_append_cstr(b, "{\"Input\":");
    text_json(b, l->input);
    json_string(b, "Role", l->role[0] ? l->role : "unknown");
    json_bool(b, "Transaction", l->transaction);
    json_string(b, "State", lane_state_name(status_compat_state(l->state)));
    json_string(b, "LaneState", lane_state_name(l->state));
    json_string(b, "Phase", lane_phase_name(l->phase));
    json_string(b, "Link", l->link);
    json_string(b, "Output", l->output);
    json_string(b, "Fence", lane_fence_name(l->fence));
    json_string(b, "FenceReason", l->fence_reason);
    json_string(b, "Error", l->error);
    json_i64(b, "LagBytes", l->lag_bytes);
    json_i64(b, "LagMs", l->lag_ms);
    json_i64(b, "ReceivedOffset", l->received_offset);
    json_i64(b, "AckedSourceOffset", l->acked_source_offset);
    json_i64(b, "SentOffset", l->sent_offset);
    json_i64(b, "AppliedOffset", l->applied_offset);
    buf_append_cstr(b, ",\"FullSyncPercent\":");
    text_fixed(b, status_full_sync_hundredths(l), 2);
    json_string(b, "FullSyncReason", l->full_sync_reason);
    json_string(b, "Unsupported", l->unsupported);
    json_string(b, "ExtraKeysKept", l->extra_keys_kept);
    json_i64(b, "SnapshotBytes", (int64_t)l->snapshot_size);
    json_i64(b, "SnapshotLoadedBytes", (int64_t)l->snapshot_loaded);
    json_string(b, "ReplId", l->replid);
    json_string(b, "Leader", l->leader);
    json_i64(b, "Epoch", (int64_t)l->epoch);
    json_i64(b, "JournalLeft", l->journal_left);
    json_i64(b, "JournalBytes", l->journal_bytes);
    json_i64(b, "JournalMaxBytes", l->journal_max);
    json_bool(b, "JournalFull", l->journal_full);
    json_i64(b, "SyncDelayNs", l->sync_delay_ns);
    json_i64(b, "ExpiriesPending", (int64_t)l->expiries_pending);
    json_i64(b, "DeadLetters", (int64_t)l->dead_letters_kept);
    json_replicas(b, &l->served);
    json_counters(b, l);
    buf_append_char(b, '}');
}

void status_json(struct buf *b, const struct lane_snapshot *lanes, size_t n)
{
    buf_append_char(b, '[');
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_append_char(b, ',');
        json_lane(b, &lanes[i]);
    }
    buf_append_cstr(b, "]\n");
}

static void human_bytes(struct buf *b, int64_t v)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    if (v < 0) {
        buf_append_cstr(b, "–");
        return;
    }
    uint64_t tenths = (uint64_t)v < UINT64_MAX / 10 ? (uint64_t)v * 10 : (uint64_t)v;
    size_t unit = 0;
    for (; tenths >= 10240 && unit + 1 < sizeof(units) / sizeof(*units); unit++)
        tenths /= 1024;
    text_fixed(b, unit ? tenths : tenths / 10 * 10, 1);
    buf_printf(b, " %s", units[unit]);
}

static void human_ms(struct buf *b, int64_t ms)
{
    if (ms < 0)
        buf_append_cstr(b, "–");
    else if (ms < 1000)
        buf_printf(b, "%d ms", (int)ms);
    else if (ms < 120000)
        buf_printf(b, "%d.%d s", (int)(ms / 1000), (int)(ms % 1000 / 100));
    else
        buf_printf(b, "%lld min", (long long)(ms / 60000));
}

static void html_offset(struct buf *b, int64_t v)
{
    if (v < 0)
        buf_append_cstr(b, "–");
    else
        buf_append_i64(b, v);
}

static const char page_head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
    "<meta http-equiv=\"refresh\" content=\"2\">"
    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
    "<title>gunyu</title><style>\n"
    ":root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b2430;--dim:#66717f;"
    "--line:#e3e7ec;--ok:#12805c;--wait:#9a6700;--bad:#c62f3e;--bar:#3b76d6}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#11161d;--card:#19212b;--ink:#e2e8f0;"
    "--dim:#8d99a8;--line:#2a3542;--ok:#3ecf9b;--wait:#e0b040;--bad:#ff6b78;--bar:#6aa2ff}}\n"
    "*{box-sizing:border-box}body{margin:0;padding:clamp(.75rem,4vw,2rem);background:var(--bg);"
    "color:var(--ink);"
    "font:15px/1.5 system-ui,sans-serif}\n"
    "header{display:flex;gap:1rem;align-items:baseline;margin-bottom:1.25rem}"
    "h1{font-size:1.4rem;margin:0}header span{color:var(--dim)}nav{margin-left:auto}"
    "a{color:var(--bar);text-decoration:none;margin-left:1rem}a:hover{text-decoration:underline}\n"
    ".wrap{overflow-x:auto;background:var(--card);border:1px solid var(--line);"
    "border-radius:10px}\ntable{border-collapse:collapse;width:100%}"
    "th,td{padding:.6rem .9rem;text-align:left;white-space:nowrap}"
    "th{font-size:.75rem;text-transform:uppercase;letter-spacing:.04em;color:var(--dim)}"
    "tbody tr:not(.note){border-top:1px solid var(--line)}"
    ".n{text-align:right;font-variant-numeric:tabular-nums}\n"
    ".note td{padding-top:0;white-space:normal;color:var(--bad);overflow-wrap:anywhere}"
    ".note.why td{color:var(--dim)}\n"
    ".s{font-weight:600}.s::before{content:\"\";display:inline-block;width:.6em;height:.6em;"
    "border-radius:50%;margin-right:.5em;background:currentColor}"
    ".run{color:var(--ok)}.ready_run,.pause{color:var(--wait)}.stop{color:var(--dim)}"
    ".error{color:var(--bad)}\n"
    "progress{width:7rem;accent-color:var(--bar);vertical-align:middle}"
    ".empty{padding:2rem;color:var(--dim)}\n"
    "</style></head><body>";

static void html_phase(struct buf *b, const struct lane_snapshot *l)
{
    text_html(b, lane_phase_name(l->phase));
    if (l->phase != LANE_PHASE_FULL_SYNC)
        return;
    buf_append_cstr(b, " <progress max=\"100\" value=\"");
    text_fixed(b, status_full_sync_hundredths(l), 2);
    buf_append_cstr(b, "\"></progress> ");
    text_fixed(b, status_full_sync_hundredths(l) / 10, 1);
    buf_append_cstr(b, " %");
}

static void html_note(struct buf *b, const char *kind, const char *label, const char *text)
{
    if (!text[0])
        return;
    buf_printf(b, "<tr class=\"note%s\"><td colspan=\"10\">%s", kind, label);
    text_html(b, text);
    buf_append_cstr(b, "</td></tr>\n");
}

static void html_lane(struct buf *b, const struct lane_snapshot *l)
{
    buf_append_cstr(b, "<tr><td>");
    text_html(b, l->input);
    buf_append_cstr(b, "</td><td>");
    text_html(b, l->output);
    const char *state = lane_state_name(l->state);
    bool troubled = l->error[0] && l->state == LANE_RUN;
    buf_printf(b, "</td><td class=\"s %s\">%s</td><td>", troubled ? "ready_run" : state, state);
    html_phase(b, l);
    buf_append_cstr(b, "</td><td class=\"n\">");
    human_bytes(b, l->lag_bytes);
    buf_append_cstr(b, "</td><td class=\"n\">");
    human_ms(b, l->lag_ms);
    buf_append_cstr(b, "</td><td class=\"n\">");
    html_offset(b, l->applied_offset);
    buf_append_cstr(b, "</td><td class=\"n\">");
    human_bytes(b, l->journal_bytes);
    buf_append_cstr(b, l->journal_full ? " (full)</td><td class=\"n\">" : "</td><td class=\"n\">");
    buf_append_u64(b, l->cmds_ok);
    buf_append_cstr(b, "</td><td class=\"n\">");
    buf_append_u64(b, l->dead_letters_kept);
    buf_append_cstr(b, "</td></tr>\n");
    html_note(b, "", "", l->error);
    html_note(b, " why", "last full sync: ", l->full_sync_reason);
    html_note(b, " why", "not known to the target: ", l->unsupported);
    html_note(b, " why", "keys that the source does not have stay: ", l->extra_keys_kept);
}

void status_html(struct buf *b, const struct lane_snapshot *lanes, size_t n, const char *version,
                 const char *metric_path)
{
    buf_append_cstr(b, page_head);
    buf_append_cstr(b, "<header><h1>gunyu</h1><span>");
    text_html(b, version);
    buf_append_cstr(b, "</span><nav><a href=\"/syncer/status\">status</a>"
                       "<a href=\"/syncer/config\">config</a>");
    if (metric_path) {
        buf_append_cstr(b, "<a href=\"");
        text_html(b, metric_path);
        buf_append_cstr(b, "\">metrics</a>");
    }
    buf_append_cstr(b, "</nav></header><div class=\"wrap\">");
    if (n == 0) {
        buf_append_cstr(b, "<div class=\"empty\">No lane yet: neither the source's topology nor "
                           "an earlier run is known.</div>");
    } else {
        buf_append_cstr(b, "<table><thead><tr><th>Source</th><th>Target</th><th>State</th>"
                           "<th>Phase</th><th class=\"n\">Lag</th><th class=\"n\">Behind</th>"
                           "<th class=\"n\">Applied offset</th><th class=\"n\">Journal</th>"
                           "<th class=\"n\">Commands</th><th class=\"n\">Dead letters</th></tr>"
                           "</thead><tbody>\n");
        for (size_t i = 0; i < n; i++)
            html_lane(b, &lanes[i]);
        buf_append_cstr(b, "</tbody></table>");
    }
    buf_append_cstr(b, "</div></body></html>\n");
}

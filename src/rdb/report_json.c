// SPDX-License-Identifier: Apache-2.0
// The report as JSON. Names are made readable first (see report_readable), so they are valid text
// whatever bytes they have; '<', '>' and '&' are escaped, so that the text may stand inside a page.
#include <math.h>

#include "rdb/report_impl.h"

static void comma(struct report_writer *w)
{
    if (w->comma)
        rdb_out_write(w->out, ",", 1, NULL);
    w->comma = true;
}

static void write_escaped(struct report_writer *w, struct slice s)
{
    rdb_out_write(w->out, "\"", 1, NULL);
    size_t from = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x20 && !strchr("\"\\<>&", c))
            continue;
        rdb_out_write(w->out, s.p + from, i - from, NULL);
        rdb_out_printf(w->out, "\\u%04x", c);
        from = i + 1;
    }
    rdb_out_write(w->out, s.p + from, s.n - from, NULL);
    rdb_out_write(w->out, "\"", 1, NULL);
}

static void name(struct report_writer *w, const char *key)
{
    comma(w);
    if (key)
        rdb_out_printf(w->out, "\"%s\":", key);
}

static void open(struct report_writer *w, const char *key, char bracket)
{
    name(w, key);
    rdb_out_write(w->out, &bracket, 1, NULL);
    w->comma = false;
}

static void close(struct report_writer *w, char bracket)
{
    rdb_out_write(w->out, &bracket, 1, NULL);
    w->comma = true;
}

static void number(struct report_writer *w, const char *key, uint64_t v)
{
    name(w, key);
    rdb_out_printf(w->out, "%llu", (unsigned long long)v);
}

static void time_or_null(struct report_writer *w, const char *key, int64_t ms)
{
    name(w, key);
    if (ms < 0)
        rdb_out_write(w->out, "null", 4, NULL);
    else
        rdb_out_printf(w->out, "%lld", (long long)ms);
}

static void boolean(struct report_writer *w, const char *key, bool v)
{
    name(w, key);
    rdb_out_printf(w->out, "%s", v ? "true" : "false");
}

static void text(struct report_writer *w, const char *key, const char *s)
{
    name(w, key);
    write_escaped(w, slice_cstr(s));
}

static void bytes(struct report_writer *w, const char *key, struct slice s)
{
    buf_clear(&w->scratch);
    report_readable(s, &w->scratch);
    name(w, key);
    write_escaped(w, buf_slice(&w->scratch));
}

static void counts(struct report_writer *w, const struct report_count *c)
{
    number(w, "keys", c->keys);
    number(w, "memory", c->bytes);
    number(w, "elements", c->elements);
    number(w, "serialized", c->serialized);
    number(w, "expiring", c->expiring);
}

static void files(struct report_writer *w, const struct report *r)
{
    open(w, "files", '[');
    for (size_t i = 0; i < r->files_n; i++) {
        const struct report_file *f = &r->files[i];
        open(w, NULL, '{');
        bytes(w, "name", slice_cstr(f->name));
        bytes(w, "server", slice_cstr(f->server));
        number(w, "rdb_version", (uint64_t)f->rdb_version);
        boolean(w, "valkey", f->valkey);
        number(w, "bytes", f->bytes);
        number(w, "keys", f->keys);
        time_or_null(w, "created_ms", f->created_ms);
        number(w, "used_memory", f->used_memory);
        text(w, "model", f->model.layout->name);
        number(w, "quantum", f->model.quantum);
        close(w, '}');
    }
    close(w, ']');
}

static void totals(struct report_writer *w, const struct report *r)
{
    open(w, "totals", '{');
    counts(w, &r->all);
    number(w, "table_memory", r->table_bytes);
    number(w, "functions", r->functions);
    number(w, "module_aux", r->module_aux);
    number(w, "commands", r->commands);
    number(w, "hashes_with_field_expiry", r->field_expiry_hashes);
    close(w, '}');
    open(w, "databases", '[');
    for (size_t i = 0; i < r->dbs_n; i++) {
        open(w, NULL, '{');
        name(w, "db");
        rdb_out_printf(w->out, "%d", r->dbs[i].db);
        counts(w, &r->dbs[i].count);
        close(w, '}');
    }
    close(w, ']');
}

static void types(struct report_writer *w, const struct report *r)
{
    open(w, "types", '[');
    for (int o = 0; o < REPORT_OBJECTS; o++) {
        for (int e = 0; e < MEMORY_ENCODINGS; e++) {
            if (r->encodings[o][e].keys == 0)
                continue;
            open(w, NULL, '{');
            text(w, "type", rdb_object_name((enum rdb_object)o));
            text(w, "encoding", memory_encoding_name((enum memory_encoding)e));
            counts(w, &r->encodings[o][e]);
            close(w, '}');
        }
    }
    close(w, ']');
}

static void prefix(struct report_writer *w, const struct report *r, uint32_t node)
{
    const struct prefix_node *n = &prefix_tree_nodes(r->prefixes)[node];
    char path[PREFIX_DEPTH_MAX * PREFIX_SEGMENT_MAX + 1];
    size_t path_n = prefix_tree_name(r->prefixes, node, path, sizeof(path));
    open(w, NULL, '{');
    bytes(w, "prefix", slice_make(path, path_n));
    bytes(w, "segment",
          n->segment ? slice_make(n->segment, n->segment_n) : slice_cstr(node == 0 ? "" : "*"));
    number(w, "keys", n->count.keys);
    number(w, "memory", n->count.bytes);
    number(w, "elements", n->count.elements);
    number(w, "expiring", n->count.expiring);
    uint32_t children[REPORT_CHILDREN];
    uint32_t shown = report_children(r, node, children);
    if (shown > 0) {
        open(w, "children", '[');
        for (uint32_t i = 0; i < shown; i++)
            prefix(w, r, children[i]);
        close(w, ']');
    }
    close(w, '}');
}

static void ttl(struct report_writer *w, const struct report *r)
{
    open(w, "ttl", '[');
    for (int i = 0; i < REPORT_TTLS; i++) {
        open(w, NULL, '{');
        text(w, "bucket", report_ttl_names[i]);
        number(w, "keys", r->ttl[i].keys);
        number(w, "memory", r->ttl[i].bytes);
        close(w, '}');
    }
    close(w, ']');
}

static void histograms(struct report_writer *w, const struct report *r)
{
    open(w, "histograms", '{');
    for (int h = 0; h < REPORT_HISTOGRAMS; h++) {
        open(w, report_histogram_names[h], '[');
        for (unsigned i = 0; i < REPORT_BITS; i++) {
            if (r->histogram[h][i].keys == 0)
                continue;
            open(w, NULL, '{');
            number(w, "from", i ? (uint64_t)1 << (i - 1) : 0);
            number(w, "to", ((uint64_t)1 << i) - 1);
            number(w, "keys", r->histogram[h][i].keys);
            number(w, "memory", r->histogram[h][i].bytes);
            close(w, '}');
        }
        close(w, ']');
    }
    close(w, '}');
}

static void top(struct report_writer *w, const char *title, const struct top_list *l)
{
    open(w, title, '[');
    for (size_t i = 0; i < l->n; i++) {
        const struct top_key *k = &l->heap[i];
        open(w, NULL, '{');
        bytes(w, "key", slice_make(k->name, k->name_n));
        number(w, "key_bytes", k->key_n);
        number(w, "db", (uint64_t)k->db);
        text(w, "type", rdb_object_name(k->object));
        text(w, "encoding", memory_encoding_name(k->encoding));
        number(w, "memory", k->bytes);
        number(w, "elements", k->elements);
        number(w, "serialized", k->serialized);
        time_or_null(w, "expire_ms", k->expire_ms);
        close(w, '}');
    }
    close(w, ']');
}

static void bucket(struct report_writer *w, const struct report_bucket *b)
{
    number(w, "keys", b->keys);
    number(w, "memory", b->bytes);
    close(w, '}');
}

static void slots(struct report_writer *w, const struct report *r)
{
    struct report_slots s;
    report_slots(r, &s);
    open(w, "slots", '{');
    number(w, "used", s.used);
    open(w, "min", '{');
    bucket(w, &s.min);
    open(w, "max", '{');
    bucket(w, &s.max);
    open(w, "top", '[');
    for (size_t i = 0; i < s.top_n; i++) {
        open(w, NULL, '{');
        number(w, "slot", s.top[i]);
        bucket(w, &r->slots[s.top[i]]);
    }
    close(w, ']');
    open(w, "ranges", '[');
    for (unsigned i = 0; i < REPORT_SLOT_RANGES; i++) {
        open(w, NULL, '{');
        number(w, "from", i * REPORT_RANGE);
        number(w, "to", (i + 1) * REPORT_RANGE - 1);
        bucket(w, &s.ranges[i]);
    }
    close(w, ']');
    close(w, '}');
}

static void duplicates(struct report_writer *w, const struct report *r)
{
    const struct duplicates *d = r->duplicates;
    if (!d)
        return;
    open(w, "duplicates", '{');
    number(w, "min_size", r->o->duplicates_min);
    number(w, "compared", d->compared);
    number(w, "repeats", d->repeats);
    number(w, "wasted", d->wasted);
    open(w, "values", '[');
    for (size_t i = 0; i < r->duplicates_n && i < r->o->top; i++) {
        const struct duplicate *g = &d->groups[i];
        open(w, NULL, '{');
        bytes(w, "key", slice_make(g->name, g->name_n));
        number(w, "key_bytes", g->key_n);
        number(w, "db", (uint64_t)g->db);
        text(w, "type", rdb_object_name(g->object));
        number(w, "count", g->count);
        number(w, "memory", g->bytes);
        number(w, "wasted", (g->count - 1) * g->bytes);
        close(w, '}');
    }
    close(w, ']');
    close(w, '}');
}

void report_json(const struct report *r, struct rdb_out *out)
{
    struct report_writer w = {.out = out};
    open(&w, NULL, '{');
    text(&w, "gunyu", GUNYU_VERSION);
    number(&w, "generated_ms", (uint64_t)r->now_ms);
    files(&w, r);
    totals(&w, r);
    types(&w, r);
    name(&w, "prefixes");
    w.comma = false;
    prefix(&w, r, 0);
    ttl(&w, r);
    top(&w, "top_memory", &r->by_memory);
    top(&w, "top_elements", &r->by_elements);
    histograms(&w, r);
    slots(&w, r);
    duplicates(&w, r);
    close(&w, '}');
    rdb_out_write(out, "\n", 1, NULL);
    buf_free(&w.scratch);
}

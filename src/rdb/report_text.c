// SPDX-License-Identifier: Apache-2.0
// The report as text: tables whose last column is the name, so that names of any width do no harm.
#include <stdio.h>

#include "rdb/report_impl.h"

#define WIDTH 32 // enough for any number below

static const char *human(uint64_t n, char out[WIDTH])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)n;
    size_t unit = 0;
    for (; v >= 1023.95 && unit + 1 < sizeof(units) / sizeof(*units); unit++)
        v /= 1024;
    snprintf(out, WIDTH, unit ? "%.1f %s" : "%.0f %s", v, units[unit]);
    return out;
}

static const char *grouped(uint64_t n, char out[WIDTH])
{
    char digits[WIDTH];
    int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n), at = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

static double share(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void title(struct report_writer *w, const char *text)
{
    rdb_out_printf(w->out, "\n%s\n", text);
}

static void words(struct report_writer *w, struct slice s)
{
    buf_clear(&w->scratch);
    report_readable(s, &w->scratch);
    rdb_out_write(w->out, w->scratch.p, w->scratch.n, NULL);
}

static void readable(struct report_writer *w, struct slice s, uint64_t whole_n)
{
    words(w, s);
    if (whole_n > s.n)
        rdb_out_printf(w->out, "... (%llu bytes)", (unsigned long long)whole_n);
    rdb_out_write(w->out, "\n", 1, NULL);
}

// Keys, memory and share, the columns that nearly every table begins with.
static void columns(struct report_writer *w, const struct report *r, uint64_t keys, uint64_t bytes)
{
    char a[WIDTH], b[WIDTH];
    rdb_out_printf(w->out, "  %14s  %10s  %5.1f %%", grouped(keys, a), human(bytes, b),
                   share(bytes, r->all.bytes));
}

static const char head[] = "            keys      memory    share";

static void summary(struct report_writer *w, const struct report *r)
{
    char a[WIDTH], b[WIDTH], c[WIDTH];
    title(w, "Summary");
    rdb_out_printf(w->out, "  %-18s %s\n", "keys", grouped(r->all.keys, a));
    rdb_out_printf(w->out, "  %-18s %s (keys and values %s, tables of the dbs %s)\n",
                   "estimated memory", human(r->all.bytes + r->table_bytes, a),
                   human(r->all.bytes, b), human(r->table_bytes, c));
    rdb_out_printf(w->out, "  %-18s %s\n", "size of values", human(r->all.serialized, a));
    rdb_out_printf(w->out, "  %-18s %s (%.1f %%)\n", "keys that expire",
                   grouped(r->all.expiring, a), share(r->all.expiring, r->all.keys));
    if (r->field_expiry_hashes)
        rdb_out_printf(w->out, "  %-18s %s\n", "with field expiry",
                       grouped(r->field_expiry_hashes, a));
    if (r->functions)
        rdb_out_printf(w->out, "  %-18s %s\n", "function libraries", grouped(r->functions, a));
    if (r->commands)
        rdb_out_printf(w->out, "  %-18s %s, which are not in these numbers\n", "commands inside",
                       grouped(r->commands, a));
    for (size_t i = 0; i < r->files_n; i++) {
        const struct report_file *f = &r->files[i];
        rdb_out_printf(w->out, "  %-18s %s, ", i ? "" : "files", human(f->bytes, a));
        words(w, slice_cstr(*f->server ? f->server : "unknown server"));
        rdb_out_printf(w->out, ", %sRDB version %d, %s keys", f->valkey ? "Valkey " : "",
                       f->rdb_version, grouped(f->keys, b));
        if (f->used_memory)
            rdb_out_printf(w->out, ", server used %s", human(f->used_memory, c));
        rdb_out_printf(w->out, ": ");
        readable(w, slice_cstr(f->name), 0);
    }
}

static void dbs(struct report_writer *w, const struct report *r)
{
    if (r->dbs_n < 2)
        return;
    title(w, "Databases");
    rdb_out_printf(w->out, "%s   expire  db\n", head);
    for (size_t i = 0; i < r->dbs_n; i++) {
        const struct report_count *c = &r->dbs[i].count;
        columns(w, r, c->keys, c->bytes);
        rdb_out_printf(w->out, "  %5.1f %%", share(c->expiring, c->keys));
        if (r->dbs[i].db < 0)
            rdb_out_printf(w->out, "  others\n");
        else
            rdb_out_printf(w->out, "  %d\n", r->dbs[i].db);
    }
}

static void types(struct report_writer *w, const struct report *r)
{
    char a[WIDTH];
    bool modules = false;
    title(w, "Types and encodings");
    rdb_out_printf(w->out, "%s   expire        elements  type\n", head);
    for (int o = 0; o < REPORT_OBJECTS; o++) {
        for (int e = 0; e < MEMORY_ENCODINGS; e++) {
            const struct report_count *c = &r->encodings[o][e];
            if (c->keys == 0)
                continue;
            columns(w, r, c->keys, c->bytes);
            rdb_out_printf(w->out, "  %5.1f %%  %14s  %s", share(c->expiring, c->keys),
                           grouped(c->elements, a), rdb_object_name((enum rdb_object)o));
            modules |= e == MEMORY_MODULE;
            rdb_out_printf(w->out, e == MEMORY_MODULE || e == MEMORY_STREAM ? "\n" : ", %s\n",
                           memory_encoding_name((enum memory_encoding)e));
        }
    }
    if (modules)
        rdb_out_printf(w->out, "  Values of modules count as their serialized size.\n");
}

static void prefix(struct report_writer *w, const struct report *r, uint32_t node)
{
    const struct prefix_node *n = &prefix_tree_nodes(r->prefixes)[node];
    uint32_t children[REPORT_CHILDREN], shown = report_children(r, node, children);
    // A key alone is in the lists of keys; a prefix that goes on in one way only is shown there.
    bool passed =
        shown == 1 && prefix_tree_nodes(r->prefixes)[children[0]].count.keys == n->count.keys;
    if (node != 0 && !passed && n->count.keys > 1) {
        char path[PREFIX_DEPTH_MAX * PREFIX_SEGMENT_MAX + 1], a[WIDTH];
        size_t path_n = prefix_tree_name(r->prefixes, node, path, sizeof(path));
        columns(w, r, n->count.keys, n->count.bytes);
        rdb_out_printf(w->out, "  %10s  %5.1f %%  ",
                       human(n->count.keys ? n->count.bytes / n->count.keys : 0, a),
                       share(n->count.expiring, n->count.keys));
        readable(w, slice_make(path, path_n), 0);
    }
    for (uint32_t i = 0; i < shown; i++)
        prefix(w, r, children[i]);
}

static void prefixes(struct report_writer *w, const struct report *r)
{
    rdb_out_printf(w->out, "\nPrefixes with at least %g %% of the memory\n", r->o->min_share * 100);
    rdb_out_printf(w->out, "%s    mean key   expire  prefix\n", head);
    prefix(w, r, 0);
}

static void bar(struct report_writer *w, uint64_t n, uint64_t most)
{
    static const char full[] = "##############################";
    size_t len = most ? (size_t)((double)n / (double)most * (sizeof(full) - 1) + 0.5) : 0;
    rdb_out_printf(w->out, "  %.*s\n", (int)(len ? len : n > 0), full);
}

static void ttl(struct report_writer *w, const struct report *r)
{
    uint64_t most = 0;
    for (int i = 0; i < REPORT_TTLS; i++)
        most = r->ttl[i].keys > most ? r->ttl[i].keys : most;
    title(w, "Time to live when the file was made");
    rdb_out_printf(w->out, "%s\n", head);
    for (int i = 0; i < REPORT_TTLS; i++) {
        columns(w, r, r->ttl[i].keys, r->ttl[i].bytes);
        rdb_out_printf(w->out, "  %-14s", report_ttl_names[i]);
        bar(w, r->ttl[i].keys, most);
    }
}

static void histogram(struct report_writer *w, const struct report *r, int h, const char *text,
                      bool sizes)
{
    const struct report_bucket *b = r->histogram[h];
    uint64_t most = 0;
    unsigned first = REPORT_BITS, last = 0;
    for (unsigned i = 0; i < REPORT_BITS; i++) {
        if (b[i].keys == 0)
            continue;
        first = i < first ? i : first;
        last = i;
        most = b[i].keys > most ? b[i].keys : most;
    }
    if (most == 0)
        return;
    title(w, text);
    rdb_out_printf(w->out, "%s         up to\n", head);
    for (unsigned i = first; i <= last; i++) {
        char a[WIDTH];
        uint64_t to = i ? ((uint64_t)1 << i) - 1 : 0;
        columns(w, r, b[i].keys, b[i].bytes);
        rdb_out_printf(w->out, "  %12s", sizes ? human(to + 1, a) : grouped(to, a));
        bar(w, b[i].keys, most);
    }
}

static void top(struct report_writer *w, const struct report *r, const struct top_list *l,
                const char *what)
{
    if (l->n == 0)
        return;
    char a[WIDTH], b[WIDTH];
    rdb_out_printf(w->out, "\n%s %zu keys by %s\n", l->n == l->max ? "The greatest" : "All", l->n,
                   what);
    rdb_out_printf(w->out, "      memory    share        elements    db  type    key\n");
    for (size_t i = 0; i < l->n; i++) {
        const struct top_key *k = &l->heap[i];
        rdb_out_printf(w->out, "  %10s  %5.1f %%  %14s  %4d  %-6s  ", human(k->bytes, a),
                       share(k->bytes, r->all.bytes), grouped(k->elements, b), k->db,
                       rdb_object_name(k->object));
        readable(w, slice_make(k->name, k->name_n), k->key_n);
    }
}

static void slots(struct report_writer *w, const struct report *r)
{
    struct report_slots s;
    char a[WIDTH], b[WIDTH], c[WIDTH];
    report_slots(r, &s);
    title(w, "Cluster slots");
    rdb_out_printf(w->out, "  %u of %d hold keys\n", s.used, SLOT_COUNT);
    rdb_out_printf(w->out, "  %-18s least %s, mean %.1f, most %s\n", "keys of a slot",
                   grouped(s.min.keys, a), (double)r->all.keys / SLOT_COUNT,
                   grouped(s.max.keys, b));
    rdb_out_printf(w->out, "  %-18s least %s, mean %s, most %s\n", "memory of a slot",
                   human(s.min.bytes, a), human(r->all.bytes / SLOT_COUNT, b),
                   human(s.max.bytes, c));
    rdb_out_printf(w->out, "%s  slot\n", head);
    for (size_t i = 0; i < s.top_n; i++) {
        columns(w, r, r->slots[s.top[i]].keys, r->slots[s.top[i]].bytes);
        rdb_out_printf(w->out, "  %u\n", s.top[i]);
    }
}

static void duplicates(struct report_writer *w, const struct report *r)
{
    const struct duplicates *d = r->duplicates;
    if (!d)
        return;
    char a[WIDTH], b[WIDTH], c[WIDTH];
    title(w, "Values that occur more than once");
    rdb_out_printf(w->out,
                   "  %s of the values of %s keys from %s on repeat another one: %s in all\n",
                   grouped(d->repeats, a), grouped(d->compared, b), human(r->o->duplicates_min, c),
                   human(d->wasted, (char[WIDTH]){0}));
    if (r->duplicates_n == 0)
        return;
    rdb_out_printf(w->out,
                   "           times     memory      wasted    db  type    one of the keys\n");
    for (size_t i = 0; i < r->duplicates_n && i < r->o->top; i++) {
        const struct duplicate *g = &d->groups[i];
        rdb_out_printf(w->out, "  %14s %10s  %10s  %4d  %-6s  ", grouped(g->count, a),
                       human(g->bytes, b), human((g->count - 1) * g->bytes, c), g->db,
                       rdb_object_name(g->object));
        readable(w, slice_make(g->name, g->name_n), g->key_n);
    }
}

void report_text(const struct report *r, struct rdb_out *out)
{
    struct report_writer w = {.out = out};
    rdb_out_printf(out, "RDB report by gunyu %s\n", GUNYU_VERSION);
    summary(&w, r);
    if (r->all.keys > 0) {
        dbs(&w, r);
        types(&w, r);
        prefixes(&w, r);
        top(&w, r, &r->by_memory, "memory");
        top(&w, r, &r->by_elements, "number of elements");
        ttl(&w, r);
        histogram(&w, r, REPORT_KEY_MEMORY, "Memory of a key with its value", true);
        histogram(&w, r, REPORT_ELEMENTS, "Elements of a collection", false);
        histogram(&w, r, REPORT_KEY_LENGTH, "Length of a key's name", false);
        slots(&w, r);
        duplicates(&w, r);
    }
    buf_free(&w.scratch);
}

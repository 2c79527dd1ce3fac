// SPDX-License-Identifier: Apache-2.0
// Hash templates: lists of field names that hashes share. A file holds them as records before its
// keys; a DUMP payload brings its own.
#include <stdlib.h>

#include "base/mem.h"
#include "codec/rdb_impl.h"

// All that a reader keeps of a file grows with what the file really holds, but only up to here.
#define TEMPLATES_MAX ((size_t)256 << 20)
#define FIELDS_MAX ((size_t)64 << 20) // of one template
#define TEMPLATE_COUNT_MAX ((size_t)1 << 17)

static void add_field(struct rdb_template *t, struct slice name)
{
    char size[4];
    store_le32(size, (uint32_t)name.n);
    buf_append(&t->fields, size, sizeof(size));
    buf_append_slice(&t->fields, name);
    t->count++;
}

static int read_fields(struct rdb_scan *s, struct rdb_template *t, struct buf *text)
{
    uint64_t count;
    int rc = scan_len(s, &count);
    if (rc > 0 && count == 0)
        rc = SCAN_BAD;
    for (; rc > 0 && count > 0; count--) {
        struct rdb_str str;
        const char *bytes;
        struct slice name;
        rc = scan_str(s, &str, &bytes);
        if (rc <= 0)
            return rc;
        if (str.n > FIELDS_MAX || str.total > FIELDS_MAX || !rdb_str_text(&str, bytes, text, &name))
            return SCAN_BAD;
        add_field(t, name);
        if (t->fields.n > FIELDS_MAX)
            return SCAN_BAD;
    }
    return rc;
}

static int read_packed_fields(struct rdb_scan *s, struct rdb_template *t, struct buf *text)
{
    struct rdb_str str;
    const char *bytes;
    struct slice blob;
    int rc = scan_str(s, &str, &bytes);
    if (rc <= 0)
        return rc;
    if (str.kind == STR_INT || str.n > FIELDS_MAX || str.total > FIELDS_MAX ||
        !rdb_str_text(&str, bytes, text, &blob))
        return SCAN_BAD;
    struct packed k;
    packed_begin(&k, PACKED_LISTPACK, blob.n);
    for (;;) {
        struct packed_entry entry;
        char num[24];
        size_t used;
        enum packed_result got = packed_next(&k, blob.p, blob.n, &entry, &used);
        if (got != PACKED_ENTRY)
            return got == PACKED_END && t->count > 0 ? SCAN_OK : SCAN_BAD;
        add_field(t, rdb_entry_text(&entry, num));
        blob = slice_make(blob.p + used, blob.n - used);
    }
}

static void template_reset(struct rdb_template *t)
{
    t->count = 0;
    buf_clear(&t->fields);
}

int rdb_template_inline(struct rdb_reader *r, struct rdb_scan *s)
{
    struct rdb_scan at = *s;
    uint64_t form;
    template_reset(&r->own);
    int rc = scan_len(&at, &form);
    if (rc > 0)
        rc = form == 0   ? read_packed_fields(&at, &r->own, &r->text[0])
             : form == 1 ? read_fields(&at, &r->own, &r->text[0])
                         : SCAN_BAD;
    if (rc <= 0)
        return rc;
    rdb_template_use(r, &r->own);
    *s = at;
    return rc;
}

// Where a template of this id is or belongs.
static size_t place_of(const struct rdb_templates *all, uint64_t id)
{
    size_t low = 0, high = all->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (all->list[mid]->id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const struct rdb_template *rdb_template_find(const struct rdb_reader *r, uint64_t id)
{
    if (!r->templates)
        return NULL;
    size_t i = place_of(r->templates, id);
    return i < r->templates->count && r->templates->list[i]->id == id ? r->templates->list[i]
                                                                      : NULL;
}

static bool insert(struct rdb_templates *all, const struct rdb_template *t)
{
    if (all->count == TEMPLATE_COUNT_MAX || all->bytes + t->fields.n > TEMPLATES_MAX)
        return false;
    if (all->count == all->cap) {
        all->cap = all->cap ? all->cap * 2 : 16;
        all->list = xrealloc(all->list, all->cap * sizeof(struct rdb_template *));
    }
    size_t i = place_of(all, t->id);
    memmove(all->list + i + 1, all->list + i, (all->count - i) * sizeof(struct rdb_template *));
    all->list[i] = xmalloc(sizeof(*t));
    *all->list[i] = *t;
    all->count++;
    all->bytes += t->fields.n;
    return true;
}

int rdb_template_record(struct rdb_reader *r, struct rdb_scan *s)
{
    struct rdb_template t = {0};
    int rc = scan_len(s, &t.id);
    if (rc > 0)
        rc = read_fields(s, &t, &r->text[0]);
    const struct rdb_template *old = rc > 0 ? rdb_template_find(r, t.id) : NULL;
    if (rc > 0 && !old) {
        if (!r->templates) {
            r->templates = xcalloc(1, sizeof(*r->templates));
            r->templates->refs = 1;
        }
        if (insert(r->templates, &t))
            return rc;
        rc = SCAN_BAD;
    }
    // A reader that went back in its file meets its records again; another list is a broken file.
    if (old && !slice_eq(buf_slice(&old->fields), buf_slice(&t.fields)))
        rc = SCAN_BAD;
    buf_free(&t.fields);
    return rc;
}

void rdb_template_use(struct rdb_reader *r, const struct rdb_template *t)
{
    r->tmpl = t;
    r->tmpl_at = 0;
    r->tmpl_left = t ? t->count : 0;
}

struct slice rdb_template_next(struct rdb_reader *r)
{
    must(r->tmpl_left > 0);
    const char *p = r->tmpl->fields.p + r->tmpl_at;
    struct slice name = slice_make(p + 4, load_le32(p));
    r->tmpl_at += 4 + name.n;
    r->tmpl_left--;
    return name;
}

static void drop(struct rdb_templates *all)
{
    if (!all || --all->refs > 0)
        return;
    for (size_t i = 0; i < all->count; i++) {
        buf_free(&all->list[i]->fields);
        free(all->list[i]);
    }
    free(all->list);
    free(all);
}

void rdb_templates_free(struct rdb_reader *r)
{
    drop(r->templates);
    buf_free(&r->own.fields);
}

void rdb_reader_share_templates(struct rdb_reader *r, const struct rdb_reader *from)
{
    if (r->templates == from->templates)
        return;
    drop(r->templates);
    r->templates = from->templates;
    if (r->templates)
        r->templates->refs++;
}

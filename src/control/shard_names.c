// SPDX-License-Identifier: Apache-2.0
#include "control/shard_names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

#define FIRST_LINE "gunyu shards 1"

enum { FILE_MAX = 1 << 20 };

struct entry {
    char name[SHARD_NAME];
    struct shard_nodes nodes;
};

struct shard_names {
    struct entry *v;
    size_t n;
    char *path;    // NULL: not kept
    bool changed;  // since the file was read or written
    bool not_ours; // the file is left alone
};

bool shard_nodes_have(const struct shard_nodes *nodes, const char *id)
{
    for (size_t i = 0; i < nodes->n; i++)
        if (strcmp(nodes->ids[i], id) == 0)
            return true;
    return false;
}

void shard_nodes_add(struct shard_nodes *nodes, const char *id)
{
    if (nodes->n < SHARD_NODES && strlen(id) == SHARD_NODE_ID && !shard_nodes_have(nodes, id))
        memcpy(nodes->ids[nodes->n++], id, SHARD_NODE_ID + 1);
}

static bool same_nodes(const struct shard_nodes *a, const struct shard_nodes *b)
{
    for (size_t i = 0; a->n == b->n && i < a->n; i++)
        if (strcmp(a->ids[i], b->ids[i]) != 0)
            return false;
    return a->n == b->n;
}

static void remove_id(struct shard_nodes *nodes, const char *id)
{
    for (size_t i = 0; i < nodes->n; i++) {
        if (strcmp(nodes->ids[i], id) != 0)
            continue;
        memmove(nodes->ids[i], nodes->ids[i + 1], (nodes->n - i - 1) * sizeof(nodes->ids[0]));
        nodes->n--;
        return;
    }
}

// ---- the file ----

// The next word of a line; empty at its end.
static struct slice take_word(struct slice *line)
{
    const char *space = memchr(line->p, ' ', line->n);
    struct slice word = slice_make(line->p, space ? (size_t)(space - line->p) : line->n);
    size_t used = word.n + (space != NULL);
    *line = slice_make(line->p + used, line->n - used);
    return word;
}

// It becomes a file's name.
static bool name_ok(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!(s.p[i] == '-' || (s.p[i] >= '0' && s.p[i] <= '9') ||
              (s.p[i] >= 'a' && s.p[i] <= 'z')))
            return false;
    return s.n > 0 && s.n < SHARD_NAME && s.p[0] != '-';
}

static bool id_ok(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
            return false;
    return s.n == SHARD_NODE_ID;
}

static bool parse_line(struct slice line, struct entry *entry)
{
    struct slice word = take_word(&line);
    if (!name_ok(word))
        return false;
    *entry = (struct entry){0};
    memcpy(entry->name, word.p, word.n);
    while (line.n) {
        char id[SHARD_NODE_ID + 1] = "";
        word = take_word(&line);
        if (!id_ok(word))
            return false;
        memcpy(id, word.p, word.n);
        shard_nodes_add(&entry->nodes, id);
    }
    return entry->nodes.n > 0;
}

static void add(struct shard_names *s, const struct entry *entry)
{
    s->v = xrealloc(s->v, (s->n + 1) * sizeof(*s->v));
    s->v[s->n++] = *entry;
}

int shard_names_parse(struct shard_names *s, struct slice text, struct err *e)
{
    for (int number = 1; number == 1 || text.n; number++) {
        const char *nl = text.n ? memchr(text.p, '\n', text.n) : NULL;
        if (!nl)
            return err_set(e, ERR_CORRUPT, "line %d has no end", number);
        struct slice line = slice_make(text.p, (size_t)(nl - text.p));
        struct entry entry;
        bool ok = number == 1 ? slice_eq(line, SLICE(FIRST_LINE)) : parse_line(line, &entry);
        if (!ok)
            return err_set(e, ERR_CORRUPT, "line %d is not one of a list of shards", number);
        if (number > 1 && !shard_names_taken(s, entry.name))
            add(s, &entry);
        text = slice_make(nl + 1, text.n - line.n - 1);
    }
    return 0;
}

int shard_names_load(struct shard_names **out, const char *path, struct err *e)
{
    struct shard_names *s = xcalloc(1, sizeof(*s));
    *out = s;
    FILE *f = path ? fopen(path, "re") : NULL;
    s->path = path ? xstrdup(path) : NULL;
    if (!f)
        return !path || errno == ENOENT ? 0 : err_sys(e, -errno, "read %s", path);
    struct buf text = {0};
    text.n = fread(buf_reserve(&text, FILE_MAX), 1, FILE_MAX, f);
    int rc =
        ferror(f) ? err_sys(e, -EIO, "read %s", path) : shard_names_parse(s, buf_slice(&text), e);
    if (rc == ERR_CORRUPT)
        err_wrap(e, "%s is left alone", path);
    if (rc)
        s->n = 0;
    s->not_ours = rc != 0;
    fclose(f);
    buf_free(&text);
    return rc;
}

static int write_file(const char *path, struct slice text, struct err *e)
{
    char *temp = xasprintf("%s.new", path);
    FILE *f = fopen(temp, "we");
    int rc = 0;
    if (!f) {
        rc = err_sys(e, -errno, "write %s", temp);
    } else {
        bool ok = fwrite(text.p, 1, text.n, f) == text.n;
        ok = fclose(f) == 0 && ok;
        if (!ok || rename(temp, path) != 0) {
            rc = err_sys(e, errno ? -errno : -EIO, "write %s", path);
            unlink(temp);
        }
    }
    free(temp);
    return rc;
}

int shard_names_save(struct shard_names *s, struct err *e)
{
    if (!s->changed || !s->path || s->not_ours)
        return 0;
    struct buf text = {0};
    buf_append_cstr(&text, FIRST_LINE "\n");
    for (size_t i = 0; i < s->n; i++) {
        const struct entry *entry = &s->v[i];
        if (entry->nodes.n == 0)
            continue;
        buf_append_cstr(&text, entry->name);
        for (size_t k = 0; k < entry->nodes.n; k++)
            buf_printf(&text, " %s", entry->nodes.ids[k]);
        buf_append_char(&text, '\n');
    }
    int rc = write_file(s->path, buf_slice(&text), e);
    s->changed = rc != 0;
    buf_free(&text);
    return rc;
}

void shard_names_free(struct shard_names *s)
{
    if (!s)
        return;
    free(s->path);
    free(s->v);
    free(s);
}

// ---- what is asked ----

const char *shard_names_find(const struct shard_names *s, const struct shard_nodes *nodes)
{
    for (size_t k = 0; k < nodes->n; k++)
        for (size_t i = 0; i < s->n; i++)
            if (shard_nodes_have(&s->v[i].nodes, nodes->ids[k]))
                return s->v[i].name;
    return NULL;
}

bool shard_names_taken(const struct shard_names *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->v[i].name, name) == 0)
            return true;
    return false;
}

void shard_names_put(struct shard_names *s, const char *name, const struct shard_nodes *nodes)
{
    struct entry *mine = NULL;
    for (size_t i = 0; i < s->n; i++) {
        struct entry *entry = &s->v[i];
        if (strcmp(entry->name, name) == 0) {
            mine = entry;
            continue;
        }
        size_t was = entry->nodes.n;
        for (size_t k = 0; k < nodes->n; k++)
            remove_id(&entry->nodes, nodes->ids[k]);
        s->changed = s->changed || entry->nodes.n != was;
    }
    if (mine && same_nodes(&mine->nodes, nodes))
        return;
    s->changed = true;
    if (mine) {
        mine->nodes = *nodes;
        return;
    }
    struct entry entry = {.nodes = *nodes};
    snprintf(entry.name, sizeof(entry.name), "%s", name);
    add(s, &entry);
}

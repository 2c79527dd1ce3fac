// SPDX-License-Identifier: Apache-2.0
#include "rdb/prefix.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/err.h"
#include "base/mem.h"

#define CHILDREN_MAX 128      // of a node, before they are taken together
#define ROOT_CHILDREN_MAX 512 // names of applications are more worth than those of users
#define OUTSTANDING 4         // times the mean: such a child keeps its name
#define KEPT_MAX 32           // children that keep their names
#define NONE 0

struct prefix_tree {
    struct prefix_node *nodes; // owns; [0] is the root
    uint32_t *buckets;         // owns; by parent and segment
    uint32_t mask, used, max, free;
    uint32_t *scratch; // owns; children that are being sorted or moved
    int depth;
    bool automatic;
    bool separator[256];
};

struct prefix_tree *prefix_tree_new(const struct prefix_options *o)
{
    struct prefix_tree *t = xcalloc(1, sizeof(*t));
    t->max = o->max_nodes ? o->max_nodes : PREFIX_NODES;
    must(t->max >= 2 * ROOT_CHILDREN_MAX);
    t->depth = o->depth < 1 ? 1 : o->depth > PREFIX_DEPTH_MAX ? PREFIX_DEPTH_MAX : o->depth;
    uint32_t buckets = 1;
    while (buckets < t->max)
        buckets *= 2;
    t->mask = buckets - 1;
    t->buckets = xcalloc(buckets, sizeof(*t->buckets));
    t->nodes = xcalloc(t->max, sizeof(*t->nodes));
    t->scratch = xcalloc(t->max, sizeof(*t->scratch));
    t->used = 1;
    for (uint32_t i = t->max - 1; i > 0; i--) {
        t->nodes[i].hash_next = t->free;
        t->free = i;
    }
    t->automatic = o->separators == NULL;
    for (const char *s = o->separators ? o->separators : ""; *s; s++)
        t->separator[(unsigned char)*s] = true;
    return t;
}

void prefix_tree_free(struct prefix_tree *t)
{
    if (!t)
        return;
    for (uint32_t i = 0; i < t->max; i++)
        free(t->nodes[i].segment);
    free(t->nodes);
    free(t->buckets);
    free(t->scratch);
    free(t);
}

static uint32_t hash_of(uint32_t parent, struct slice segment)
{
    return (uint32_t)XXH3_64bits_withSeed(segment.p, segment.n, parent);
}

// A segment as it is, or, in its place, what stands for many: "*" and the separator.
struct segment {
    struct slice text;
    char end, wild[2];
};

static struct segment segment_of(struct slice text, char end)
{
    return (struct segment){.text = text, .end = end, .wild = {'*', end}};
}

static struct slice wild_text(const struct segment *s)
{
    return slice_make(s->wild, s->end ? 2 : 1);
}

static bool is_wild(const struct prefix_node *n)
{
    return n->segment[0] == '*' && n->segment_n == (n->end ? 2 : 1);
}

static uint32_t find(const struct prefix_tree *t, uint32_t parent, struct slice segment,
                     uint32_t hash)
{
    uint32_t i = t->buckets[hash & t->mask];
    for (; i != NONE; i = t->nodes[i].hash_next) {
        const struct prefix_node *n = &t->nodes[i];
        if (n->hash == hash && n->parent == parent && n->segment_n == segment.n &&
            memcmp(n->segment, segment.p, segment.n) == 0)
            return i;
    }
    return NONE;
}

static void link_node(struct prefix_tree *t, uint32_t i, uint32_t parent)
{
    struct prefix_node *n = &t->nodes[i], *p = &t->nodes[parent];
    n->parent = parent;
    n->hash = hash_of(parent, slice_make(n->segment, n->segment_n));
    n->hash_next = t->buckets[n->hash & t->mask];
    t->buckets[n->hash & t->mask] = i;
    n->sibling = p->child;
    p->child = i;
    p->children++;
}

static void unhash(struct prefix_tree *t, uint32_t i)
{
    uint32_t *at = &t->buckets[t->nodes[i].hash & t->mask];
    while (*at != i)
        at = &t->nodes[*at].hash_next;
    *at = t->nodes[i].hash_next;
}

static uint32_t make(struct prefix_tree *t, uint32_t parent, struct slice segment, char end)
{
    uint32_t i = t->free;
    must(i != NONE);
    struct prefix_node *n = &t->nodes[i];
    t->free = n->hash_next;
    t->used++;
    *n = (struct prefix_node){.depth = (uint8_t)(t->nodes[parent].depth + 1),
                              .segment_n = (uint8_t)segment.n,
                              .end = end,
                              .segment = xstrndup(segment.p, segment.n)};
    link_node(t, i, parent);
    return i;
}

static void drop(struct prefix_tree *t, uint32_t i)
{
    free(t->nodes[i].segment);
    t->nodes[i] = (struct prefix_node){.hash_next = t->free};
    t->free = i;
    t->used--;
}

static void count_add(struct prefix_count *to, const struct prefix_count *c)
{
    to->keys += c->keys;
    to->bytes += c->bytes;
    to->elements += c->elements;
    to->expiring += c->expiring;
}

// Makes `from`, which is in no hash chain and no list of children any more, a part of `to`. Goes
// down no deeper than the tree is.
static void merge(struct prefix_tree *t, uint32_t to, uint32_t from)
{
    count_add(&t->nodes[to].count, &t->nodes[from].count);
    t->nodes[to].collapsed |= t->nodes[from].collapsed;
    uint32_t next;
    for (uint32_t i = t->nodes[from].child; i != NONE; i = next) {
        struct prefix_node *n = &t->nodes[i];
        next = n->sibling;
        unhash(t, i);
        struct slice segment = slice_make(n->segment, n->segment_n);
        uint32_t same = find(t, to, segment, hash_of(to, segment));
        if (same != NONE)
            merge(t, same, i);
        else
            link_node(t, i, to);
    }
    drop(t, from);
}

typedef bool keep_fn(const struct prefix_node *n, uint64_t bytes, uint64_t keys);

// Makes two lists of the children: those that stay are linked again, the others returned.
static uint32_t sort_out(struct prefix_tree *t, uint32_t parent, keep_fn *keep, uint64_t bytes,
                         uint64_t keys)
{
    uint32_t small = NONE, next, kept = 0;
    uint32_t list = t->nodes[parent].child;
    t->nodes[parent].child = NONE;
    t->nodes[parent].children = 0;
    for (uint32_t i = list; i != NONE; i = next) {
        struct prefix_node *n = &t->nodes[i];
        next = n->sibling;
        unhash(t, i);
        bool outstanding = kept < KEPT_MAX && keep(n, bytes, keys);
        kept += outstanding;
        if (outstanding || is_wild(n)) {
            link_node(t, i, parent);
        } else {
            n->sibling = small;
            small = i;
        }
    }
    return small;
}

// Takes the children of `parent` for which keep says no together.
static void collapse(struct prefix_tree *t, uint32_t parent, keep_fn *keep, uint64_t bytes,
                     uint64_t keys)
{
    uint32_t small = sort_out(t, parent, keep, bytes, keys), next;
    // One alone would only lose its name.
    if (small != NONE && t->nodes[small].sibling == NONE && !t->nodes[parent].collapsed) {
        link_node(t, small, parent);
        return;
    }
    for (uint32_t i = small; i != NONE; i = next) {
        next = t->nodes[i].sibling;
        const struct segment s = segment_of(slice_make(NULL, 0), t->nodes[i].end);
        struct slice wild = wild_text(&s);
        uint32_t star = find(t, parent, wild, hash_of(parent, wild));
        if (star == NONE)
            star = make(t, parent, wild, s.end);
        merge(t, star, i);
        t->nodes[parent].collapsed = true;
    }
}

static bool outstanding(const struct prefix_node *n, uint64_t bytes, uint64_t keys)
{
    return n->count.bytes >= bytes || n->count.keys >= keys;
}

static uint32_t children_max(uint32_t node)
{
    return node == 0 ? ROOT_CHILDREN_MAX : CHILDREN_MAX;
}

// Merged children bring their own; so the collapse goes on below.
static void collapse_crowded(struct prefix_tree *t, uint32_t parent)
{
    const struct prefix_node *p = &t->nodes[parent];
    if (p->children > children_max(parent)) {
        uint64_t bytes = p->count.bytes / p->children * OUTSTANDING + 1;
        uint64_t keys = p->count.keys / p->children * OUTSTANDING + 1;
        collapse(t, parent, outstanding, bytes, keys);
    }
    for (uint32_t i = t->nodes[parent].child; i != NONE; i = t->nodes[i].sibling)
        if (t->nodes[i].child != NONE)
            collapse_crowded(t, i);
}

static bool big_enough(const struct prefix_node *n, uint64_t bytes, uint64_t keys)
{
    (void)keys;
    return n->count.bytes >= bytes;
}

static void prune_below(struct prefix_tree *t, uint32_t parent, uint64_t bytes)
{
    if (t->nodes[parent].children > 1)
        collapse(t, parent, big_enough, bytes, 0);
    for (uint32_t i = t->nodes[parent].child; i != NONE; i = t->nodes[i].sibling)
        if (t->nodes[i].child != NONE)
            prune_below(t, i, bytes);
}

// The tree is full: what is small everywhere goes, until a half is free.
static void prune(struct prefix_tree *t)
{
    uint64_t bytes = t->nodes[0].count.bytes / t->max + 1;
    for (; t->used > t->max / 2; bytes = bytes > UINT64_MAX / 4 ? UINT64_MAX : bytes * 4) {
        prune_below(t, 0, bytes);
        if (bytes == UINT64_MAX)
            break;
    }
    must(t->free != NONE);
}

// How a name is cut: behind each byte of the set, or at one place only.
struct cut {
    const bool *set;
    size_t at; // without a set
};

static struct cut cut_of(const struct prefix_tree *t, struct slice key, bool set[256])
{
    if (!t->automatic)
        return (struct cut){.set = t->separator};
    // The last byte separates nothing.
    for (const char *s = PREFIX_AUTO; *s && key.n > 1; s++) {
        if (memchr(key.p, *s, key.n - 1)) {
            set[(unsigned char)*s] = true;
            return (struct cut){.set = set};
        }
    }
    size_t at = 0;
    while (at < key.n && (key.p[at] < '0' || key.p[at] > '9'))
        at++;
    return (struct cut){.at = at > 0 && at < key.n ? at : key.n};
}

static size_t segment_end(const struct cut *cut, struct slice key, size_t at)
{
    if (!cut->set)
        return at < cut->at ? cut->at : key.n;
    while (at < key.n && !cut->set[(unsigned char)key.p[at]])
        at++;
    // Separators that follow one another belong together.
    while (at < key.n && cut->set[(unsigned char)key.p[at]])
        at++;
    return at;
}

static uint32_t step(struct prefix_tree *t, uint32_t at, struct slice text, char end)
{
    const struct segment s = segment_of(text, end);
    if (text.n > PREFIX_SEGMENT_MAX)
        text = wild_text(&s);
    uint32_t i = find(t, at, text, hash_of(at, text));
    if (i != NONE)
        return i;
    if (t->nodes[at].collapsed) {
        text = wild_text(&s);
        i = find(t, at, text, hash_of(at, text));
        return i != NONE ? i : make(t, at, text, end);
    }
    i = make(t, at, text, end);
    if (t->nodes[at].children <= children_max(at))
        return i;
    collapse_crowded(t, at);
    return step(t, at, text, end);
}

void prefix_tree_add(struct prefix_tree *t, struct slice key, const struct prefix_count *c)
{
    bool set[256];
    if (t->automatic)
        memset(set, 0, sizeof(set));
    const struct cut cut = cut_of(t, key, set);
    // Each segment may take a node, and a collapse makes one before it gives some back.
    if (t->max - t->used <= 2 * PREFIX_DEPTH_MAX)
        prune(t);
    count_add(&t->nodes[0].count, c);
    uint32_t at = 0;
    size_t from = 0;
    for (int depth = 0; from < key.n && depth < t->depth; depth++) {
        size_t to = depth + 1 < t->depth ? segment_end(&cut, key, from) : key.n;
        char last = key.p[to - 1];
        bool ends = cut.set && cut.set[(unsigned char)last];
        at = step(t, at, slice_make(key.p + from, to - from), ends ? last : '\0');
        count_add(&t->nodes[at].count, c);
        from = to;
    }
}

const struct prefix_node *prefix_tree_nodes(const struct prefix_tree *t)
{
    return t->nodes;
}

uint32_t prefix_tree_used(const struct prefix_tree *t)
{
    return t->used;
}

size_t prefix_tree_name(const struct prefix_tree *t, uint32_t node, char *out, size_t n)
{
    uint32_t path[PREFIX_DEPTH_MAX + 1];
    int depth = 0;
    for (; node != 0; node = t->nodes[node].parent)
        path[depth++] = node;
    size_t at = 0;
    while (depth-- > 0) {
        const struct prefix_node *p = &t->nodes[path[depth]];
        struct slice s = slice_make(p->segment, p->segment_n);
        size_t room = n - 1 - at, take = s.n < room ? s.n : room;
        memcpy(out + at, s.p, take);
        at += take;
    }
    out[at] = '\0';
    return at;
}

static int by_bytes(const void *a, const void *b, void *arg)
{
    const struct prefix_node *nodes = arg;
    const struct prefix_count *x = &nodes[*(const uint32_t *)a].count;
    const struct prefix_count *y = &nodes[*(const uint32_t *)b].count;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->keys < y->keys ? 1 : x->keys > y->keys ? -1 : 0;
}

uint32_t prefix_tree_children(const struct prefix_tree *t, uint32_t node, uint32_t *out,
                              uint32_t max)
{
    uint32_t n = 0;
    for (uint32_t i = t->nodes[node].child; i != NONE; i = t->nodes[i].sibling)
        t->scratch[n++] = i;
    qsort_r(t->scratch, n, sizeof(*t->scratch), by_bytes, t->nodes);
    if (n > max)
        n = max;
    memcpy(out, t->scratch, n * sizeof(*out));
    return n;
}

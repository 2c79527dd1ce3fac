// SPDX-License-Identifier: Apache-2.0
// A tree of what the names of keys have in common, in bounded memory. A name is cut into segments
// behind each separator. When a node gets too many children, those that are no greater than the
// others are taken together as "*" (or "*:", with their separator): user:1:cart, user:2:cart, ...
// become user:*:cart. So patterns are found without knowing them.
#ifndef GUNYU_RDB_PREFIX_H
#define GUNYU_RDB_PREFIX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct prefix_options {
    // Bytes that end a segment. NULL: for each name the first of ":/|._-" that it has; without any,
    // the place before its first digit.
    const char *separators;
    int depth;          // segments that are told apart; 1 to PREFIX_DEPTH_MAX
    uint32_t max_nodes; // 0: PREFIX_NODES
};

#define PREFIX_DEPTH_MAX 16
#define PREFIX_DEPTH 8
#define PREFIX_NODES 32768
#define PREFIX_AUTO ":/|._-"
#define PREFIX_SEGMENT_MAX 96 // a longer one goes to a "*"

struct prefix_count {
    uint64_t keys, bytes, elements, expiring;
};

struct prefix_node {
    uint32_t parent, child, sibling; // indexes; 0 is none (and the root)
    uint32_t hash_next, hash;
    uint32_t children;
    struct prefix_count count; // of all keys at and below this node
    char *segment;             // owns; with its separator; of the root NULL
    uint8_t segment_n;
    char end; // the separator that the segment ends with, or 0
    uint8_t depth;
    bool collapsed; // a segment that is not known goes to a "*"
};

struct prefix_tree;

struct prefix_tree *prefix_tree_new(const struct prefix_options *o);
void prefix_tree_free(struct prefix_tree *t);
void prefix_tree_add(struct prefix_tree *t, struct slice key, const struct prefix_count *c);

// For reading: node 0 is the root; children are linked by `child` and `sibling`. Valid until the
// next add.
const struct prefix_node *prefix_tree_nodes(const struct prefix_tree *t);
uint32_t prefix_tree_used(const struct prefix_tree *t); // nodes that live
// The node's whole name, cut to n - 1 bytes; raw bytes. Returns its length.
size_t prefix_tree_name(const struct prefix_tree *t, uint32_t node, char *out, size_t n);
// The children of a node, the one with the most bytes first; returns how many of them (at most
// max).
uint32_t prefix_tree_children(const struct prefix_tree *t, uint32_t node, uint32_t *out,
                              uint32_t max);

#endif

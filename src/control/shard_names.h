// SPDX-License-Identifier: Apache-2.0
// What the shards of a source cluster are called here, and by which node ids they are known again:
// a shard keeps its journal and its dead letters over failovers and restarts. Kept in a small text
// file; losing it costs fetching data again, never data. Not thread-safe.
#ifndef GUNYU_CONTROL_SHARD_NAMES_H
#define GUNYU_CONTROL_SHARD_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/slice.h"

enum { SHARD_NAME = 64, SHARD_NODE_ID = 40, SHARD_NODES = 32 };

// The nodes that are in a shard, or were and are in no other since.
struct shard_nodes {
    char ids[SHARD_NODES][SHARD_NODE_ID + 1]; // the first is the master
    size_t n;
};

bool shard_nodes_have(const struct shard_nodes *nodes, const char *id);
void shard_nodes_add(struct shard_nodes *nodes, const char *id); // left out when there is no room

struct shard_names;

// path NULL: kept in memory only. A file that cannot be read or is none of ours is left alone and
// named in e; *out is usable all the same.
int shard_names_load(struct shard_names **out, const char *path, struct err *e) must_check;
void shard_names_free(struct shard_names *s);
// The name that was given to a shard with one of these nodes, or NULL. Valid until the next put.
const char *shard_names_find(const struct shard_names *s, const struct shard_nodes *nodes);
bool shard_names_taken(const struct shard_names *s, const char *name);
// Notes the nodes of a shard; they belong to no other one any more.
void shard_names_put(struct shard_names *s, const char *name, const struct shard_nodes *nodes);
// Writes the file if anything changed, by atomic rename.
int shard_names_save(struct shard_names *s, struct err *e) must_check;

// The text of the file; for tests and fuzzing. ERR_CORRUPT for what no shard_names_save wrote.
int shard_names_parse(struct shard_names *s, struct slice text, struct err *e) must_check;

#endif

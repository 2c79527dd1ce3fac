// SPDX-License-Identifier: Apache-2.0
// Takes over what stands in one RDB file into another, whose version may be another one: a value as
// its own bytes where the new version knows them, else built anew.
//
// Constant memory: a value whose count of elements has to stand before them waits in a spool.
#ifndef GUNYU_RDB_CONVERT_VALUE_H
#define GUNYU_RDB_CONVERT_VALUE_H

#include "rdb/convert_spool.h"
#include "rdb/input.h"
#include "rdb/select.h"
#include "rdb/writer.h"
#include "target/ability.h"

struct transfer {
    struct rdb_target target;
    bool degrade;                 // leave out what the target cannot hold, instead of failing
    bool whole;                   // all of the file goes into one other
    const struct selection *size; // drops values by their size; NULL: none
    int64_t now_ms;
    struct spool spool;
    struct buf buf;
    uint64_t keys;         // written
    uint64_t items;        // keys seen
    uint64_t lost[LOSSES]; // what could not be kept, under degrade
    uint64_t imports;      // slots that were being taken over, and are no more, under degrade
};

void transfer_free(struct transfer *t);

// A key's name for a message; returns dst.
const char *transfer_key_text(struct slice key, char dst[80]);
// The value of a key that was just read. *written (may be NULL): it was not left out.
// ERR_UNSUPPORTED names the key when the target cannot hold it.
int transfer_key(struct transfer *t, struct rdb_writer *w, struct rdb_input *in,
                 const struct rdb_item *item, bool *written, struct err *e) must_check;
// An item that is no key, into each of n files. AUX fields by which a server would go on with a
// replication stream are left out: the new file is not what that stream continues. RESIZEDB, a hint
// that may no longer be true, is left out too, and so are hash templates: hashes that refer to them
// are written with their fields.
int transfer_other(struct transfer *t, struct rdb_writer *const *w, size_t n, struct rdb_input *in,
                   const struct rdb_item *item, struct err *e) must_check;
// "3 streams, 12 expiries of hash fields" into dst, empty when nothing was lost.
void transfer_describe_losses(const struct transfer *t, struct buf *dst);

#endif

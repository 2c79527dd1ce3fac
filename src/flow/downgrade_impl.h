// SPDX-License-Identifier: Apache-2.0
// Shared by the files of the downgrader.
#ifndef GUNYU_FLOW_DOWNGRADE_IMPL_H
#define GUNYU_FLOW_DOWNGRADE_IMPL_H

#include "flow/downgrade.h"
#include "flow/rewrite_impl.h"

enum downgrade_id {
    DOWN_UNLINK,
    DOWN_HSET_MANY,
    DOWN_FLUSH_ASYNC,
    DOWN_SWAPDB,
    DOWN_STREAMS,
    DOWN_ZPOP,
    DOWN_SET_KEEPTTL,
    DOWN_FLUSH_SYNC,
    DOWN_SET_GET,
    DOWN_SET_PXAT,
    DOWN_GETDEL,
    DOWN_GETEX,
    DOWN_COPY,
    DOWN_LMOVE,
    DOWN_POP_COUNT,
    DOWN_ZADD_GT,
    DOWN_ZRANGESTORE,
    DOWN_ZDIFFSTORE,
    DOWN_GEOSEARCHSTORE,
    DOWN_GEO_GONE,
    DOWN_GEOSEARCH_GONE,
    DOWN_NOMKSTREAM,
    DOWN_MINID,
    DOWN_CREATECONSUMER,
    DOWN_ENTRIESREAD,
    DOWN_XSETID,
    DOWN_XCLAIM,
    DOWN_FUNCTION_LOAD,
    DOWN_FUNCTION_DELETE,
    DOWN_SPUBLISH,
    DOWN_FIELD_EXPIRY,
    DOWN_HPERSIST,
    DOWN_HSETEX,
    DOWN_HGETEX,
    DOWN_HGETDEL,
    DOWN_VECTORS,
    DOWN_STREAM_REFS,
    DOWN_XDELEX,
    DOWN_XACKDEL,
    DOWN_BITOP,
    DOWN_SET_IFEQ,
    DOWN_SET_IFNE,
    DOWN_DELEX,
    DOWN_DELIFEQ,
    DOWN_MSETEX,
    DOWN_XCFGSET,
    DOWN_XIDMPRECORD,
    DOWN_IDMP,
    DOWN_TRIM_LIMIT,
    DOWN_RESTORE,
    DOWN_ROWS
};
_Static_assert(DOWN_ROWS <= 64, "a bit each");

struct downgrade_call {
    struct downgrade *d;
    const struct downgrade_row *row; // the last one that names the command and concerns the target
    int argc;
    const struct slice *argv;
};
typedef enum rewrite_result (*downgrade_fn)(const struct downgrade_call *c);

struct downgrade_row {
    const char *commands;          // separated by spaces; "@GROUP": all that write of a group
    const char *option;            // for people; "" for the whole command
    int since_redis, since_valkey; // DOWN_NEVER: no client may send it
    downgrade_fn fn;               // the same one in all rows of a command, but for a whole group's
    const char *becomes;           // for people; the reason when dropped or refused
};
#define DOWN_NEVER INT32_MAX
extern const struct downgrade_row downgrade_rows[DOWN_ROWS];

// The functions of rows that are refused or dropped as a whole.
enum rewrite_result downgrade_refuse(const struct downgrade_call *c);
enum rewrite_result downgrade_drop(const struct downgrade_call *c);

static inline bool lacks(const struct downgrade_call *c, enum downgrade_id id)
{
    return c->d->missing >> id & 1;
}

static inline bool arg_is(const struct downgrade_call *c, int i, const char *word)
{
    return i < c->argc && slice_ieq(c->argv[i], slice_cstr(word));
}

// Begins EVAL script with its keys; the arguments follow.
void downgrade_eval(struct rewrite *w, const char *script, const struct slice *keys, int n);

enum rewrite_result downgrade_copy(const struct downgrade_call *c);
enum rewrite_result downgrade_lmove(const struct downgrade_call *c);
enum rewrite_result downgrade_zadd(const struct downgrade_call *c);
enum rewrite_result downgrade_zrangestore(const struct downgrade_call *c);
enum rewrite_result downgrade_zdiffstore(const struct downgrade_call *c);
void downgrade_set_keepttl(struct rewrite *w, struct slice key, struct slice value);
void downgrade_hset_keepttl(struct rewrite *w, struct slice key, const struct slice *pairs, int n);

enum rewrite_result downgrade_stream_trim(const struct downgrade_call *c);   // XADD, XTRIM
enum rewrite_result downgrade_stream_delete(const struct downgrade_call *c); // XDELEX, XACKDEL
enum rewrite_result downgrade_xgroup_consumer(const struct downgrade_call *c);
enum rewrite_result downgrade_entries_read(const struct downgrade_call *c);
enum rewrite_result downgrade_xclaim(const struct downgrade_call *c);
enum rewrite_result downgrade_xsetid(const struct downgrade_call *c);

#endif

// SPDX-License-Identifier: Apache-2.0
// What the readers of the replication stream share: apply.c (into one connection) and scatter.c
// (into a cluster). Nobody else includes it.
#ifndef GUNYU_TARGET_STREAM_H
#define GUNYU_TARGET_STREAM_H

#include "target/apply.h"
#include "target/translate.h"
#include "target/turn.h"

enum { STREAM_SKIPS = 64 };

// Commands of the stream that steer it.
enum steer {
    STEER_NONE,
    STEER_SELECT,
    STEER_MULTI,
    STEER_EXEC,
    STEER_PING,
    STEER_REPLCONF,
    STEERS
};

// How far a FLUSHALL or FLUSHDB is that takes only some slots' keys.
enum clearing { CLEARING_NOTHING, CLEARING_BEFORE, CLEARING_RUNS, CLEARING_AFTER };

// What became of a command; errors are negative.
enum verdict { TAKEN, NOT_NOW, STOP };

// A place in the stream, and the command that begins there.
struct reading {
    struct resp_cmd cmd;
    struct translate translate;
    struct slice view; // journal bytes that commands are read from
    uint64_t pos;      // everything up to here is taken
    int db;            // selected by the source
};

// The first member of a reader.
struct stream {
    struct apply base;
    struct apply_options o;
    struct journal_reader *reader;
    const struct cmd_info *steer[STEERS];
    struct buf text;
    uint64_t skip[STREAM_SKIPS];
    int skips;
    enum clearing clearing;
    struct apply_stats stats;
};

void stream_init(struct stream *s, const struct apply_ops *ops, const struct apply_options *o);
void stream_free(struct stream *s); // what it owns, not s itself
void reading_init(struct reading *r, const struct apply_options *o, uint64_t from, int db);
void reading_free(struct reading *r);

// For apply_ops.
void stream_skip_offset(struct apply *a, uint64_t ref);
void stream_acked(struct apply *a, uint64_t position);
void stream_get_stats(const struct apply *a, struct apply_stats *out);

bool stream_is_skipped(const struct stream *s, uint64_t ref);
// info may be NULL.
enum steer stream_steer_of(const struct stream *s, const struct cmd_info *info);
// The source selects another db; false: that is no db.
bool reading_select_db(struct reading *r);
uint64_t reading_end(const struct reading *r);
struct batch_mark reading_mark(const struct reading *r, uint64_t end);

// The command that was read cannot be applied: TAKEN to go on without it, or STOP.
enum verdict stream_refuse(struct stream *s, const struct reading *r, const char *reason);
// A unit begins: whether it is its turn. *drop: it is not to be applied.
enum verdict stream_check_turn(struct stream *s, const struct reading *r, enum steer steer,
                               const struct cmd_info *info, const char *p, size_t n, bool *drop);
// The translated command would clear what other shards of the source have as well.
bool stream_is_clear(const struct stream *s, const struct reading *r);
// Carries it out alone: everything before it is confirmed and stored before it begins, and it is
// before anything follows. NOT_NOW: to be asked again with the same command.
enum verdict stream_clear(struct stream *s, const struct reading *r, struct sink *sink);
// GETACK among the REPLCONFs is answered.
void stream_replconf(struct stream *s, const struct reading *r);
// A SET of the probe's key is on its way to the target.
void stream_note_probe(struct stream *s, const struct reading *r);
// Far expiries and keys that move with theirs, of the translated command; slot: only its keys, -1
// all.
void stream_report_expiries(struct stream *s, const struct reading *r, int slot);

// What of the journal r may read from r->pos on.
int stream_view(struct stream *s, struct reading *r, struct err *e) must_check;
// Takes what r->view has, as apply_pump is described. take() is given one whole command, or nothing
// but newlines (argc 0), with its first byte and all that follows; *taken, the command's length,
// may be made longer.
typedef int (*stream_take_fn)(struct stream *s, const char *p, size_t n, size_t *taken,
                              struct err *e);
int stream_run(struct stream *s, struct reading *r, size_t budget, stream_take_fn take,
               struct err *e) must_check;

#endif

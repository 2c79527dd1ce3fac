// SPDX-License-Identifier: Apache-2.0
// The keys that a stretch of a replication stream names: of writes that a source has lost after the
// journal had received them, and of those that its heir made before its snapshot. They are kept
// aside in the journal, to be taken back (takeback.h) before that snapshot is loaded.
#ifndef GUNYU_TARGET_LOST_H
#define GUNYU_TARGET_LOST_H

#include "flow/filter.h"
#include "journal/journal.h"

struct lost;

// The bytes begin behind position `at`, with db selected; of commands that end at or before `from`
// only the db counts. filter: as of the stream; NULL: none; borrowed.
struct lost *lost_new(const struct filter *filter, uint64_t at, int db, uint64_t from);
void lost_free(struct lost *l);
// The next bytes; commands may be cut anywhere. ERR_FULL: there are more keys than are held.
int lost_feed(struct lost *l, const char *p, size_t n, struct err *e) must_check;
// What the journal's log has from that position on, and at least all behind `from`. NULL: e says
// why; -ENOENT: the journal does not know where a command begins. *covered > from: what lies before
// is not known any more.
struct lost *lost_of_log(struct journal *j, const struct filter *filter, uint64_t from,
                         uint64_t *covered, struct err *e);
// As journal_aside_begin to journal_aside_end.
int lost_keep(const struct lost *l, struct journal *j, struct err *e) must_check;
uint64_t lost_keys(const struct lost *l);    // some maybe more than once
uint64_t lost_unknown(const struct lost *l); // commands whose keys cannot be told

#endif

// SPDX-License-Identifier: Apache-2.0
#include "target/deadletter.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/mem.h"
#include "target/deadletter_file.h"

// A set of 64-bit hashes, open addressing, at most half full. 0 marks an empty place.
struct hash_set {
    uint64_t *at; // owns
    size_t cap, n;
};

struct deadletter {
    struct deadletter_file file;
    struct hash_set seen; // (replid, offset, rdb) of every entry, dropped ones too
};

static void set_put(struct hash_set *s, uint64_t h);

static void set_grow(struct hash_set *s)
{
    struct hash_set bigger = {.cap = s->cap ? s->cap * 2 : 64};
    bigger.at = xcalloc(bigger.cap, sizeof(*bigger.at));
    for (size_t i = 0; i < s->cap; i++)
        if (s->at[i])
            set_put(&bigger, s->at[i]);
    free(s->at);
    *s = bigger;
}

static void set_put(struct hash_set *s, uint64_t h)
{
    if (2 * (s->n + 1) > s->cap)
        set_grow(s);
    size_t i = h & (s->cap - 1);
    while (s->at[i] && s->at[i] != h)
        i = (i + 1) & (s->cap - 1);
    s->n += s->at[i] == 0;
    s->at[i] = h;
}

static bool set_has(const struct hash_set *s, uint64_t h)
{
    if (s->n == 0)
        return false;
    size_t i = h & (s->cap - 1);
    while (s->at[i] && s->at[i] != h)
        i = (i + 1) & (s->cap - 1);
    return s->at[i] == h;
}

static uint64_t entry_hash(const char *replid, int64_t offset, bool rdb)
{
    char text[40 + 9] = {0};
    memcpy(text, replid, strnlen(replid, 40));
    memcpy(text + 40, &offset, sizeof(offset));
    text[48] = rdb;
    uint64_t h = XXH3_64bits(text, sizeof(text));
    return h ? h : 1;
}

static int note_entry(void *ctx, const struct deadletter_entry *entry, struct err *e)
{
    (void)e;
    struct deadletter *d = ctx;
    set_put(&d->seen, entry_hash(entry->replid, entry->offset, entry->rdb));
    return 0;
}

int deadletter_open(struct deadletter **out, const char *path, struct err *e)
{
    struct deadletter *d = xcalloc(1, sizeof(*d));
    int rc = deadletter_file_open(&d->file, path, O_RDWR | O_CREAT, e);
    if (rc == 0)
        rc = deadletter_file_lock(&d->file, e);
    if (rc == 0) {
        rc = deadletter_file_scan(&d->file, true, note_entry, d, e);
        deadletter_file_unlock(&d->file);
    }
    if (rc < 0) {
        deadletter_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

void deadletter_close(struct deadletter *d)
{
    if (!d)
        return;
    deadletter_file_close(&d->file);
    free(d->seen.at);
    free(d);
}

// When the file was removed under us, a new one is begun: what goes into the old one is lost.
static int reopen_if_removed(struct deadletter *d, struct err *e)
{
    struct stat st;
    if (fstat(d->file.fd, &st) < 0 || st.st_nlink > 0)
        return 0;
    struct deadletter_file fresh;
    int rc = deadletter_file_open(&fresh, d->file.path, O_RDWR | O_CREAT, e);
    if (rc < 0) {
        deadletter_file_close(&fresh);
        return rc;
    }
    log_warn(NULL, "%s was removed; a new one begins", d->file.path);
    deadletter_file_close(&d->file);
    d->file = fresh;
    return 0;
}

int deadletter_append(struct deadletter *d, const struct deadletter_entry *entry, struct err *e)
{
    int rc = reopen_if_removed(d, e);
    if (rc == 0)
        rc = deadletter_file_lock(&d->file, e);
    if (rc < 0)
        return rc;
    // Others may have written since: their records come first, and a torn one of theirs goes.
    rc = deadletter_file_scan(&d->file, true, note_entry, d, e);
    if (rc == 0)
        rc = deadletter_file_append(&d->file, entry, e);
    if (rc == 0)
        note_entry(d, entry, NULL);
    deadletter_file_unlock(&d->file);
    return rc;
}

int deadletter_refresh(struct deadletter *d, struct err *e)
{
    struct stat st;
    if (fstat(d->file.fd, &st) == 0 && st.st_size == d->file.end)
        return 0;
    int rc = deadletter_file_lock(&d->file, e);
    if (rc < 0)
        return rc;
    rc = deadletter_file_scan(&d->file, true, note_entry, d, e);
    deadletter_file_unlock(&d->file);
    return rc;
}

uint64_t deadletter_count(const struct deadletter *d)
{
    return d->file.live;
}

bool deadletter_has(const struct deadletter *d, const char *replid, int64_t offset)
{
    return set_has(&d->seen, entry_hash(replid, offset, false));
}

bool deadletter_has_rdb(const struct deadletter *d, const char *replid, int64_t index)
{
    return set_has(&d->seen, entry_hash(replid, index, true));
}

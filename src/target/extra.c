// SPDX-License-Identifier: Apache-2.0
#include "target/extra.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/random.h"

enum {
    BLOCK = 8192, // hashes that are read or written at once
    SLOTS_MIN = 1024,
};

struct extra {
    char *dir;
    uint64_t seed; // a new one for each snapshot: nobody can make keys that share a hash
    uint64_t last, until;
    int fd;             // -1: no file yet
    struct err failure; // of the file
    uint64_t n;         // hashes, those in `block` too
    uint64_t block[BLOCK];
    size_t block_n;

    size_t slots_max, slots; // of the table, powers of two
    uint64_t *table;
    size_t used;
    bool has_zero; // 0 is an empty slot
    int pass, passes;
};

struct extra *extra_new(const char *dir, size_t pass_bytes)
{
    struct extra *x = xcalloc(1, sizeof(*x));
    char digits[17];
    random_hex(digits, 16);
    x->seed = strtoull(digits, NULL, 16);
    x->dir = xstrdup(dir);
    x->fd = -1;
    x->slots_max = SLOTS_MIN;
    while (2 * x->slots_max * sizeof(*x->table) <= pass_bytes)
        x->slots_max *= 2;
    return x;
}

void extra_free(struct extra *x)
{
    if (!x)
        return;
    if (x->fd >= 0)
        close(x->fd);
    free(x->table);
    free(x->dir);
    free(x);
}

static uint64_t hash_of(const struct extra *x, int db, struct slice key)
{
    return XXH3_64bits_withSeed(key.p, key.n,
                                x->seed + (uint64_t)(unsigned)db * UINT64_C(0x9E3779B97F4A7C15));
}

// ---- while the snapshot is loaded ----

static int open_file(struct extra *x)
{
    int fd = open(x->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) { // not every file system can do without a name
        char *path = xasprintf("%s/keys-XXXXXX", x->dir);
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0)
            unlink(path);
        free(path);
    }
    if (fd < 0)
        return err_sys(&x->failure, -errno, "%s: cannot create a temporary file", x->dir);
    x->fd = fd;
    return 0;
}

static void write_block(struct extra *x)
{
    const char *p = (const char *)x->block;
    size_t left = x->block_n * sizeof(*x->block);
    x->block_n = 0;
    if (x->failure.code || (x->fd < 0 && open_file(x)))
        return;
    while (left) {
        ssize_t n = fault_point("extra.write") ? (errno = ENOSPC, -1) : write(x->fd, p, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            err_sys(&x->failure, n ? -errno : -EIO, "%s: cannot write a temporary file", x->dir);
            return;
        }
        p += n;
        left -= (size_t)n;
    }
}

void extra_note(struct extra *x, uint64_t index, int db, struct slice key)
{
    if (index < x->last)
        return;
    x->last = index; // the next key of the same item has it too
    x->block[x->block_n++] = hash_of(x, db, key);
    x->n++;
    if (x->block_n == BLOCK)
        write_block(x);
}

void extra_noted_until(struct extra *x, uint64_t index)
{
    x->until = index > x->until ? index : x->until;
}

uint64_t extra_until(const struct extra *x)
{
    return x->until;
}

// ---- looking up ----

// A quarter of the slots is to stay free; that a part has far more than its share does not happen
// by chance.
static size_t share(size_t slots)
{
    return slots / 4 * 3;
}

int extra_passes(const struct extra *x)
{
    return (int)(x->n / share(x->slots_max) + 1);
}

static void empty_table(struct extra *x)
{
    size_t slots = SLOTS_MIN;
    while (slots < x->slots_max && share(slots) < x->n)
        slots *= 2;
    if (slots != x->slots) {
        free(x->table);
        x->table = xmalloc(slots * sizeof(*x->table));
        x->slots = slots;
    }
    memset(x->table, 0, slots * sizeof(*x->table));
    x->used = 0;
    x->has_zero = false;
}

static bool in_pass(const struct extra *x, uint64_t hash)
{
    return (int)((hash >> 32) * (uint64_t)x->passes >> 32) == x->pass;
}

static size_t slot_of_hash(const struct extra *x, uint64_t hash)
{
    size_t at = hash & (x->slots - 1);
    while (x->table[at] && x->table[at] != hash)
        at = (at + 1) & (x->slots - 1);
    return at;
}

static int put(struct extra *x, uint64_t hash, struct err *e)
{
    if (!in_pass(x, hash))
        return 0;
    if (hash == 0) {
        x->has_zero = true;
        return 0;
    }
    size_t at = slot_of_hash(x, hash);
    if (x->table[at])
        return 0;
    if (x->used == x->slots / 8 * 7)
        return err_set(e, ERR_FULL, "the hashes of the snapshot's keys are not spread evenly");
    x->table[at] = hash;
    x->used++;
    return 0;
}

static int put_block(struct extra *x, const uint64_t *block, size_t n, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = put(x, block[i], e);
    return rc;
}

static int put_file(struct extra *x, struct err *e)
{
    uint64_t *block = xmalloc(BLOCK * sizeof(*block));
    off_t at = 0;
    int rc = 0;
    for (uint64_t left = x->n - x->block_n; left && rc == 0;) {
        size_t want = BLOCK * sizeof(*block);
        ssize_t n = pread(x->fd, block, want, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n != (ssize_t)want) { // only whole blocks are written
            rc = err_sys(e, n < 0 ? -errno : -EIO, "%s: cannot read a temporary file", x->dir);
            break;
        }
        rc = put_block(x, block, BLOCK, e);
        at += n;
        left -= BLOCK;
    }
    free(block);
    return rc;
}

int extra_pass(struct extra *x, int pass, struct err *e)
{
    if (x->failure.code) {
        *e = x->failure;
        return e->code;
    }
    empty_table(x);
    x->pass = pass;
    x->passes = extra_passes(x);
    int rc = put_file(x, e);
    return rc ? rc : put_block(x, x->block, x->block_n, e);
}

bool extra_is(const struct extra *x, int db, struct slice key)
{
    uint64_t hash = hash_of(x, db, key);
    if (!in_pass(x, hash))
        return false;
    return hash ? x->table[slot_of_hash(x, hash)] == 0 : !x->has_zero;
}

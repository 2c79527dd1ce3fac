// SPDX-License-Identifier: Apache-2.0
#include "target/deadletter_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"

static const char file_magic[8] = {'g', 'u', 'n', 'y', 'u', 'D', 'L', '1'};
static const char record_magic[4] = {'G', 'D', 'L', 'R'};

enum { KIND_ENTRY = 1, KIND_DROP = 2 };
enum {
    RECORD_HEAD = 16, // magic, length, sum
    // An entry: kind u8, rdb u8, 2 zero, db i32, id u64, offset i64, time i64, replid, command
    // length u32, reason length u32, command, reason.
    ENTRY_HEAD = 4 + 4 + 8 + 8 + 8 + 40 + 4 + 4,
    DROP_SIZE = 8 + 8 + 8, // kind u8, 7 zero, first u64, last u64
};
#define RECORD_MAX ((uint64_t)INT32_MAX)

// ---- open, lock ----

static int read_at(const struct deadletter_file *f, void *p, size_t n, off_t at, struct err *e)
{
    char *to = p;
    while (n > 0) {
        ssize_t got = pread(f->fd, to, n, at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_sys(e, -errno, "reading %s", f->path);
        if (got == 0)
            return err_set(e, ERR_TRUNCATED, "%s became shorter while it was read", f->path);
        to += got;
        n -= (size_t)got;
        at += got;
    }
    return 0;
}

static int file_size(const struct deadletter_file *f, off_t *size, struct err *e)
{
    struct stat st;
    if (fstat(f->fd, &st) < 0)
        return err_sys(e, -errno, "reading the size of %s", f->path);
    *size = st.st_size;
    return 0;
}

// Writes all of it at the end of the file and to the disk. What a failure leaves behind is cut off,
// so that the next record does not follow a torn one.
static int write_out(struct deadletter_file *f, const void *p, size_t n, struct err *e)
{
    const char *from = p;
    size_t left = n;
    int failed = 0;
    while (left > 0 && failed == 0) {
        ssize_t put = write(f->fd, from, left);
        if (put < 0 && errno != EINTR)
            failed = -errno;
        if (put > 0) {
            from += put;
            left -= (size_t)put;
        }
    }
    if (failed == 0 && fdatasync(f->fd) < 0)
        failed = -errno;
    if (failed == 0) {
        f->end += (off_t)n;
        return 0;
    }
    if (ftruncate(f->fd, f->end) < 0)
        log_warn(NULL, "%s ends in a torn record; the next writer removes it", f->path);
    return err_sys(e, failed, "writing %s", f->path);
}

// Makes the name of a new file last.
static int sync_directory(const struct deadletter_file *f, struct err *e)
{
    char *copy = xstrdup(f->path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    int rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    return rc < 0 ? err_sys(e, rc, "syncing the directory of %s", f->path) : 0;
}

static int check_magic(struct deadletter_file *f, bool may_write, struct err *e)
{
    char head[sizeof(file_magic)];
    off_t size = 0;
    int rc = file_size(f, &size, e);
    if (rc < 0)
        return rc;
    size_t have = size < (off_t)sizeof(head) ? (size_t)size : sizeof(head);
    rc = read_at(f, head, have, 0, e);
    if (rc < 0)
        return rc;
    if (memcmp(head, file_magic, have) != 0)
        return err_set(e, ERR_CORRUPT, "%s is not a dead-letter file; it is left alone", f->path);
    f->end = (off_t)have;
    if (have == sizeof(head) || !may_write)
        return 0;
    rc = write_out(f, file_magic + have, sizeof(file_magic) - have, e);
    return rc < 0 ? rc : sync_directory(f, e);
}

int deadletter_file_open(struct deadletter_file *f, const char *path, int flags, struct err *e)
{
    *f = (struct deadletter_file){.fd = -1, .path = xstrdup(path)};
    f->fd = open(path, flags | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    if (f->fd < 0)
        return err_sys(e, -errno, "opening the dead-letter file %s", path);
    struct stat st;
    if (fstat(f->fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(e, ERR_CORRUPT, "%s is not a regular file", path);
    int rc = deadletter_file_lock(f, e);
    if (rc < 0)
        return rc;
    rc = check_magic(f, (flags & O_ACCMODE) == O_RDWR, e);
    deadletter_file_unlock(f);
    return rc;
}

void deadletter_file_close(struct deadletter_file *f)
{
    if (f->path && f->fd >= 0)
        close(f->fd);
    free(f->path);
    free(f->dropped);
    buf_free(&f->io);
    *f = (struct deadletter_file){.fd = -1};
}

int deadletter_file_lock(struct deadletter_file *f, struct err *e)
{
    while (flock(f->fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return err_sys(e, -errno, "locking %s", f->path);
    return 0;
}

void deadletter_file_unlock(struct deadletter_file *f)
{
    flock(f->fd, LOCK_UN);
}

// ---- what was dropped ----

bool deadletter_file_is_dropped(const struct deadletter_file *f, uint64_t id)
{
    return id / 8 < f->dropped_cap && (f->dropped[id / 8] >> (id % 8) & 1);
}

static void mark_dropped(struct deadletter_file *f, uint64_t first, uint64_t last)
{
    if (last > f->last_id)
        last = f->last_id;
    if (first < 1 || first > last)
        return;
    if (last / 8 >= f->dropped_cap) {
        size_t cap = (size_t)(last / 8 + 1) * 2;
        f->dropped = xrealloc(f->dropped, cap);
        memset(f->dropped + f->dropped_cap, 0, cap - f->dropped_cap);
        f->dropped_cap = cap;
    }
    for (uint64_t id = first; id <= last; id++) {
        f->live -= !deadletter_file_is_dropped(f, id);
        f->dropped[id / 8] |= (unsigned char)(1 << (id % 8));
    }
}

// ---- reading ----

static bool entry_parse(struct slice payload, struct deadletter_entry *out)
{
    const char *p = payload.p;
    if (payload.n < ENTRY_HEAD)
        return false;
    *out = (struct deadletter_entry){
        .rdb = p[1] != 0,
        .db = (int)load_le32(p + 4),
        .id = load_le64(p + 8),
        .offset = (int64_t)load_le64(p + 16),
        .time_ms = (int64_t)load_le64(p + 24),
    };
    memcpy(out->replid, p + 32, 40);
    uint64_t command = load_le32(p + 72), reason = load_le32(p + 76);
    if (ENTRY_HEAD + command + reason != payload.n)
        return false;
    out->command = slice_make(p + ENTRY_HEAD, (size_t)command);
    out->reason = slice_make(p + ENTRY_HEAD + command, (size_t)reason);
    return true;
}

static int take_payload(struct deadletter_file *f, struct slice payload, deadletter_fn fn,
                        void *ctx, struct err *e)
{
    struct deadletter_entry entry;
    if (payload.p[0] == KIND_DROP && payload.n == DROP_SIZE) {
        mark_dropped(f, load_le64(payload.p + 8), load_le64(payload.p + 16));
        return 0;
    }
    // Ids are given one by one, so no entry has one beyond what the bytes before it have room for.
    uint64_t id_max = (uint64_t)f->end / (RECORD_HEAD + ENTRY_HEAD) + 1;
    if (payload.p[0] != KIND_ENTRY || !entry_parse(payload, &entry) || entry.id <= f->last_id ||
        entry.id > id_max) {
        log_warn(NULL, "%s: a record of an unknown kind is stepped over", f->path);
        return 0;
    }
    f->last_id = entry.id;
    f->live++;
    return fn ? fn(ctx, &entry, e) : 0;
}

// Reads the record at `at`, if a sound one is there. 1: yes, *next is behind it. 0: no.
static int read_record(struct deadletter_file *f, off_t at, off_t size, struct slice *payload,
                       off_t *next, struct err *e)
{
    char head[RECORD_HEAD];
    if (size - at < RECORD_HEAD)
        return 0;
    int rc = read_at(f, head, sizeof(head), at, e);
    if (rc < 0)
        return rc;
    uint64_t n = load_le32(head + 4);
    if (memcmp(head, record_magic, sizeof(record_magic)) != 0 || n == 0 || n > RECORD_MAX ||
        n > (uint64_t)(size - at - RECORD_HEAD))
        return 0;
    buf_clear(&f->io);
    char *p = buf_reserve(&f->io, (size_t)n);
    rc = read_at(f, p, (size_t)n, at + RECORD_HEAD, e);
    if (rc < 0)
        return rc;
    if (XXH3_64bits(p, (size_t)n) != load_le64(head + 8))
        return 0;
    *payload = slice_make(p, (size_t)n);
    *next = at + RECORD_HEAD + (off_t)n;
    return 1;
}

// Finds the next sound record after damage at `at`. 1: *found is where it begins; 0: there is none.
static int find_record(struct deadletter_file *f, off_t at, off_t size, off_t *found, struct err *e)
{
    char chunk[4096];
    for (at++; size - at >= RECORD_HEAD;) {
        size_t n = size - at < (off_t)sizeof(chunk) ? (size_t)(size - at) : sizeof(chunk);
        int rc = read_at(f, chunk, n, at, e);
        if (rc < 0)
            return rc;
        for (size_t i = 0; i + sizeof(record_magic) <= n; i++) {
            if (memcmp(chunk + i, record_magic, sizeof(record_magic)) != 0)
                continue;
            struct slice payload;
            off_t next;
            rc = read_record(f, at + (off_t)i, size, &payload, &next, e);
            *found = at + (off_t)i;
            if (rc != 0)
                return rc;
        }
        at += (off_t)(n - sizeof(record_magic) + 1);
    }
    return 0;
}

static int scan_to(struct deadletter_file *f, off_t size, deadletter_fn fn, void *ctx,
                   struct err *e)
{
    while (f->end < size) {
        struct slice payload;
        off_t next;
        int rc = read_record(f, f->end, size, &payload, &next, e);
        if (rc == 1) {
            rc = take_payload(f, payload, fn, ctx, e);
            f->end = next;
            if (rc == 0)
                continue;
        }
        if (rc != 0)
            return rc;
        rc = find_record(f, f->end, size, &next, e);
        if (rc <= 0)
            return rc;
        log_warn(NULL, "%s: %lld damaged bytes at %lld are stepped over", f->path,
                 (long long)(next - f->end), (long long)f->end);
        f->end = next;
    }
    return 0;
}

int deadletter_file_scan(struct deadletter_file *f, bool repair, deadletter_fn fn, void *ctx,
                         struct err *e)
{
    off_t size = 0;
    int rc = file_size(f, &size, e);
    if (rc < 0)
        return rc;
    if (size < f->end)
        return err_set(e, ERR_CORRUPT, "%s became shorter: someone else has cut it", f->path);
    rc = scan_to(f, size, fn, ctx, e);
    if (rc != 0 || f->end == size || !repair)
        return rc;
    log_warn(NULL, "%s: removing %lld bytes of a record that was not written to its end", f->path,
             (long long)(size - f->end));
    if (ftruncate(f->fd, f->end) < 0)
        return err_sys(e, -errno, "removing the torn end of %s", f->path);
    return 0;
}

// ---- writing ----

static int append_record(struct deadletter_file *f, struct err *e)
{
    char *p = f->io.p;
    size_t n = f->io.n - RECORD_HEAD;
    memcpy(p, record_magic, sizeof(record_magic));
    store_le32(p + 4, (uint32_t)n);
    store_le64(p + 8, XXH3_64bits(p + RECORD_HEAD, n));
    return write_out(f, p, f->io.n, e);
}

int deadletter_file_append(struct deadletter_file *f, const struct deadletter_entry *entry,
                           struct err *e)
{
    if (entry->command.n > RECORD_MAX - ENTRY_HEAD ||
        entry->reason.n > RECORD_MAX - ENTRY_HEAD - entry->command.n)
        return err_set(e, ERR_TOO_BIG, "a command of %zu bytes is too big for %s", entry->command.n,
                       f->path);
    buf_clear(&f->io);
    char *p = buf_reserve(&f->io, RECORD_HEAD + ENTRY_HEAD) + RECORD_HEAD;
    memset(p, 0, ENTRY_HEAD);
    p[0] = KIND_ENTRY;
    p[1] = entry->rdb;
    store_le32(p + 4, (uint32_t)entry->db);
    store_le64(p + 8, f->last_id + 1);
    store_le64(p + 16, (uint64_t)entry->offset);
    store_le64(p + 24, (uint64_t)entry->time_ms);
    memcpy(p + 32, entry->replid, strnlen(entry->replid, 40));
    store_le32(p + 72, (uint32_t)entry->command.n);
    store_le32(p + 76, (uint32_t)entry->reason.n);
    f->io.n = RECORD_HEAD + ENTRY_HEAD;
    buf_append_slice(&f->io, entry->command);
    buf_append_slice(&f->io, entry->reason);
    int rc = append_record(f, e);
    if (rc < 0)
        return rc;
    f->last_id++;
    f->live++;
    return 0;
}

int deadletter_file_drop(struct deadletter_file *f, uint64_t first, uint64_t last, struct err *e)
{
    buf_clear(&f->io);
    char *p = buf_reserve(&f->io, RECORD_HEAD + DROP_SIZE) + RECORD_HEAD;
    memset(p, 0, DROP_SIZE);
    p[0] = KIND_DROP;
    store_le64(p + 8, first);
    store_le64(p + 16, last);
    f->io.n = RECORD_HEAD + DROP_SIZE;
    int rc = append_record(f, e);
    if (rc == 0)
        mark_dropped(f, first, last);
    return rc;
}

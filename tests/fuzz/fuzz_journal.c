// SPDX-License-Identifier: Apache-2.0
// Recovery from hostile files. The first byte chooses options; the rest is split by the line
// "--FILE--" into meta.json and the heads of the files of a journal directory.
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "journal/inspect.h"
#include "journal/journal.h"

#define HEADER (2 << 20)
#define MARK "--FILE--"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {
    "meta.json",
    "log-00000000000000001000.seg",
    "log-00000000000000066536.seg",
    "snapshot-00000000000000001000.rdb",
    ".gunyu-spare",
};
#define NAMES (sizeof(names) / sizeof(*names))

// A segment's identity is summed; without the right sum no input would get past it.
static void repair(int fd, unsigned flags)
{
    char h[128];
    if ((flags & 1) == 0 || pread(fd, h, sizeof(h), 0) != (ssize_t)sizeof(h))
        return;
    memcpy(h, "GUNYULOG", 8);
    XXH64_hash_t sum = XXH3_64bits(h, 112);
    memcpy(h + 112, &sum, 8);
    if (pwrite(fd, h, 120, 0) < 0 || ftruncate(fd, flags & 2 ? HEADER + 65536 : HEADER + 100) < 0)
        abort();
}

static void put(const char *dir, size_t i, const uint8_t *p, size_t n, unsigned flags)
{
    char path[4200];
    snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, p, n) != (ssize_t)n)
        abort();
    if (i == 1 || i == 2)
        repair(fd, flags);
    close(fd);
}

static void use(struct journal *j)
{
    struct journal_info info;
    struct err e;
    journal_get_info(j, &info);
    struct journal_reader *r = journal_reader_open(j);
    const char *p;
    size_t n;
    volatile char sum = 0;
    if (info.has_log && journal_log_view(r, info.left, &p, &n, &e) == 0)
        for (size_t i = 0; i < n; i++)
            sum = (char)(sum + p[i]);
    if (info.has_snapshot && journal_snapshot_view(r, 0, &p, &n, &e) == 0)
        for (size_t i = 0; i < n; i++)
            sum = (char)(sum + p[i]);
    char *w;
    if (info.has_log && journal_log_space(j, &w, &n, &e) == 0) {
        memset(w, 'x', n < 70000 ? n : 70000);
        if (journal_log_commit(j, n < 70000 ? n : 70000, &e) < 0)
            sum = 0;
    }
    if (journal_tick(j, &e) < 0)
        sum = 0;
    journal_reader_close(r);
}

static void remove_dir(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *ent; d && (ent = readdir(d));)
        unlinkat(dirfd(d), ent->d_name, 0);
    if (d)
        closedir(d);
    rmdir(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 200000)
        return 0;
    unsigned flags = data[0];
    char dir[4096];
    const char *base = getenv("TMPDIR");
    snprintf(dir, sizeof(dir), "%s/gunyu-fuzz-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(dir))
        abort();
    const uint8_t *p = data + 1, *end = data + size;
    for (size_t i = 0; i < NAMES && p <= end; i++) {
        const uint8_t *cut = memmem(p, (size_t)(end - p), MARK, strlen(MARK));
        put(dir, i, p, (size_t)((cut ? cut : end) - p), flags);
        p = cut ? cut + strlen(MARK) : end + 1;
    }
    struct journal_options o = {.dir = dir,
                                .max_size = flags & 4 ? -1 : 4 << 20,
                                .log_size = 65536,
                                .verify_crc = flags & 8,
                                .flush = {.auto_flush = true}};
    struct err e;
    FILE *out = fopen("/dev/null", "w");
    int rc = inspect_list(dir, out, &e);
    rc |= inspect_verify(dir, out, &e);
    rc |= inspect_print(dir, 0, 0, out, &e);
    fclose(out);
    for (int i = 0; i < 2; i++) {
        struct journal *j = NULL;
        if (journal_open(&j, &o, &e) == 0) {
            use(j);
            if (i == 1)
                rc |= journal_begin_log(j, "a", 7, &e);
            journal_close(j);
        }
    }
    remove_dir(dir);
    (void)rc;
    return 0;
}

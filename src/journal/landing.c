// SPDX-License-Identifier: Apache-2.0
// Where received bytes land before they are in the journal's file.
#include "journal/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

// Small enough to stay in the processor's cache between recv and write.
#define LANDING ((size_t)128 << 10)
// Whoever touches a page of the mapping that holds nothing yet makes the kernel clear it, and its
// neighbours by way of readahead; a write clears nothing. So only what stays within a page that has
// content goes into the mapping, without a system call.
#define PAGE ((uint64_t)4096)

size_t landing_space(struct journal *j, char **p, uint64_t room)
{
    if (!j->landing)
        j->landing = xmalloc(LANDING);
    *p = j->landing;
    return room < LANDING ? (size_t)room : LANDING;
}

static int failed(struct journal *j, struct err *e)
{
    journal_fail(j, e);
    return e->code;
}

// The file has had its room since it was made. Behind an end that somebody else has set, a write
// would make a hole, and its zeros would pass for data.
static int check_end(struct journal *j, int fd, uint64_t end, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(e, -errno, "cannot examine a file of journal %s", j->dir);
    if ((uint64_t)st.st_size < end)
        return err_set(e, ERR_CORRUPT, "a file of journal %s was truncated by someone", j->dir);
    return 0;
}

int landing_put(struct journal *j, int fd, uint64_t offset, char *mapped, size_t n, struct err *e)
{
    uint64_t in_page = offset % PAGE;
    if (in_page && in_page + n <= PAGE) {
        memcpy(mapped, j->landing, n);
        return 0;
    }
    if (check_end(j, fd, offset + n, e) < 0)
        return failed(j, e);
    for (size_t done = 0; done < n;) {
        ssize_t r = pwrite(fd, j->landing + done, n - done, (off_t)(offset + done));
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0) {
            err_sys(e, r < 0 ? -errno : -EIO, "cannot write the journal %s", j->dir);
            return failed(j, e);
        }
        done += (size_t)r;
    }
    return 0;
}

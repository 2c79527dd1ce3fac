// SPDX-License-Identifier: Apache-2.0
#include "target/scripts.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/resp.h"

enum { FIRST_PLACES = 64 }; // a power of two

struct script {
    unsigned char digest[SHA_DIGEST_LENGTH];
    char *body; // owns; NULL: the place is empty
    size_t n;
};

// Open addressing, at most half full. The file is a row of SCRIPT LOAD commands.
struct scripts {
    struct script *at; // owns
    size_t cap, n, bytes, limit;
    int fd; // -1: nothing is kept
    const char *tag;
};

// ---- the table ----

static struct script *place_of(const struct scripts *s, const unsigned char *digest)
{
    uint64_t h;
    memcpy(&h, digest, sizeof(h));
    size_t i = h & (s->cap - 1);
    while (s->at[i].body && memcmp(s->at[i].digest, digest, SHA_DIGEST_LENGTH) != 0)
        i = (i + 1) & (s->cap - 1);
    return &s->at[i];
}

static void resize(struct scripts *s, size_t cap)
{
    struct scripts old = *s;
    s->cap = cap;
    s->at = xcalloc(cap, sizeof(*s->at));
    for (size_t i = 0; i < old.cap; i++)
        if (old.at[i].body)
            *place_of(s, old.at[i].digest) = old.at[i];
    free(old.at);
}

static void forget(struct scripts *s)
{
    for (size_t i = 0; i < s->cap; i++)
        free(s->at[i].body);
    memset(s->at, 0, s->cap * sizeof(*s->at));
    s->n = s->bytes = 0;
}

static void digest_of(struct slice body, unsigned char *out)
{
    must(SHA1((const unsigned char *)body.p, body.n, out));
}

static void put(struct scripts *s, const unsigned char *digest, struct slice body)
{
    if (2 * (s->n + 1) > s->cap)
        resize(s, 2 * s->cap);
    struct script *place = place_of(s, digest);
    memcpy(place->digest, digest, SHA_DIGEST_LENGTH);
    place->body = xmalloc(body.n + 1);
    memcpy(place->body, body.p, body.n);
    place->n = body.n;
    s->n++;
    s->bytes += body.n;
}

// ---- the file ----

static void give_up_file(struct scripts *s, const char *what)
{
    log_warn(s->tag, "scripts of the source are not kept for the next start: %s: %s", what,
             err_text(-errno));
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

static void append(struct scripts *s, struct slice body)
{
    struct buf text = {0};
    resp_put_cmd(&text, "SCRIPT LOAD %b", &body);
    for (size_t done = 0; s->fd >= 0 && done < text.n;) {
        ssize_t n = write(s->fd, text.p + done, text.n - done);
        if (n > 0)
            done += (size_t)n;
        else if (errno != EINTR)
            give_up_file(s, "write");
    }
    buf_free(&text);
}

static int read_all(int fd, struct buf *out)
{
    enum { PIECE = 1 << 16 };
    ssize_t n;
    while ((n = read(fd, buf_reserve(out, PIECE), PIECE)) > 0)
        out->n += (size_t)n;
    return n < 0 ? -1 : 0;
}

// What a process that was killed has left half written is cut off.
static void take_file(struct scripts *s)
{
    struct buf text = {0};
    struct resp_cmd c = {0};
    size_t done = 0;
    int rc = read_all(s->fd, &text);
    while (rc == 0 && resp_cmd_parse(&c, text.p + done, text.n - done) == 1) {
        unsigned char digest[SHA_DIGEST_LENGTH];
        if (c.argc != 3)
            break;
        digest_of(c.argv[2], digest);
        if (!place_of(s, digest)->body)
            put(s, digest, c.argv[2]);
        done += c.len;
    }
    resp_cmd_free(&c);
    buf_free(&text);
    if (rc || ftruncate(s->fd, (off_t)done) || lseek(s->fd, 0, SEEK_END) < 0)
        give_up_file(s, "read");
}

// ---- the whole ----

struct scripts *scripts_open(const char *path, size_t limit, const char *tag)
{
    struct scripts *s = xcalloc(1, sizeof(*s));
    s->limit = limit;
    s->tag = tag;
    resize(s, FIRST_PLACES);
    s->fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    if (s->fd >= 0)
        take_file(s);
    else if (path)
        give_up_file(s, path);
    return s;
}

void scripts_close(struct scripts *s)
{
    forget(s);
    if (s->fd >= 0)
        close(s->fd);
    free(s->at);
    free(s);
}

void scripts_note(struct scripts *s, struct slice body)
{
    unsigned char digest[SHA_DIGEST_LENGTH];
    digest_of(body, digest);
    if (place_of(s, digest)->body || body.n > s->limit)
        return;
    if (s->bytes + body.n > s->limit) {
        log_warn(s->tag, "%zu scripts of the source are forgotten: they are too many", s->n);
        forget(s);
        if (s->fd >= 0 && (ftruncate(s->fd, 0) || lseek(s->fd, 0, SEEK_SET) < 0))
            give_up_file(s, "truncate");
    }
    put(s, digest, body);
    append(s, body);
}

static int nibble(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool scripts_find(const struct scripts *s, struct slice text, struct slice *body)
{
    unsigned char digest[SHA_DIGEST_LENGTH];
    if (text.n != 2 * sizeof(digest))
        return false;
    for (size_t i = 0; i < sizeof(digest); i++) {
        int high = nibble(text.p[2 * i]), low = nibble(text.p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        digest[i] = (unsigned char)(high << 4 | low);
    }
    const struct script *found = place_of(s, digest);
    *body = slice_make(found->body, found->n);
    return found->body;
}

// SPDX-License-Identifier: Apache-2.0
// Files as they come, perhaps compressed, read whole from a file and in pieces from standard input.
// The first byte says what is done to the bytes before: nothing, or compressed by us (lowest two
// bits; in two members with the third), and then one byte changed (0x40) or the end cut off (0x80).
// The second one is the size of the pieces, and the place of the damage.
#include <sys/socket.h>

#include <isa-l/igzip_lib.h>
#include <lz4frame.h>
#include <zstd.h>

#include "base/buf.h"
#include "file_drive.h"
#include "rdb/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PACKETS = 64, READ_MAX = 8 << 20, INPUT_MAX = 64 << 10 };
enum packing { PLAIN, GZIP, ZSTD, LZ4 };

static void pack(struct buf *b, enum packing how, const uint8_t *p, size_t n)
{
    size_t room = n + 4096;
    char *dst = buf_reserve(b, room);
    struct isal_zstream z = {0}; // all of it, or the same bytes are packed in different ways
    switch (how) {
    case GZIP:
        isal_deflate_stateless_init(&z);
        z.gzip_flag = IGZIP_GZIP;
        z.end_of_stream = 1;
        z.next_in = (uint8_t *)(uintptr_t)p;
        z.avail_in = (uint32_t)n;
        z.next_out = (uint8_t *)dst;
        z.avail_out = (uint32_t)room;
        if (isal_deflate_stateless(&z) != COMP_OK)
            abort();
        b->n += z.total_out;
        break;
    case ZSTD:
        b->n += ZSTD_compress(dst, room, p, n, 1);
        break;
    case LZ4:
        b->n += LZ4F_compressFrame(dst, room, p, n, NULL);
        break;
    default:
        buf_append(b, p, n);
    }
}

// All of it up to READ_MAX, and what came of it.
static int read_all(const char *path, size_t piece, struct buf *out)
{
    struct unpack *u;
    struct err e;
    size_t got = 0;
    int rc = unpack_open(&u, path, &e);
    if (rc)
        return rc;
    do {
        char *exact = malloc(piece);
        rc = unpack_read(u, exact, piece, &got, &e);
        if (rc == 0 && got > piece)
            abort();
        if (rc == 0)
            buf_append(out, exact, got);
        free(exact);
    } while (rc == 0 && got > 0 && out->n < READ_MAX);
    if (unpack_size(u) && unpack_done(u) > unpack_size(u))
        abort();
    unpack_close(u);
    return rc;
}

// The same as packets, each of which is one read.
static int read_pieces(const struct buf *file, size_t piece, struct buf *out)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        abort();
    if (piece < file->n / PACKETS + 1)
        piece = file->n / PACKETS + 1;
    for (size_t at = 0; at < file->n; at += piece)
        if (write(pair[0], file->p + at, file->n - at < piece ? file->n - at : piece) < 0)
            abort();
    close(pair[0]);
    int saved = redirect(STDIN_FILENO, pair[1]);
    close(pair[1]);
    int rc = read_all("-", piece < 64 ? 64 : piece, out);
    redirect_end(STDIN_FILENO, saved);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct memory_file file;
    struct buf packed = {0}, whole = {0}, pieces = {0};
    if (size < 2 || size > INPUT_MAX)
        return 0;
    const uint8_t *p = data + 2;
    size_t n = size - 2, half = data[0] & 4 ? n / 2 : n;
    enum packing how = data[0] & 3;
    pack(&packed, how, p, half);
    if (half < n)
        pack(&packed, how, p + half, n - half);
    bool damaged = data[0] & 0xc0 && packed.n > 0;
    size_t place = packed.n ? data[1] * packed.n / 256 : 0;
    if (data[0] & 0x40 && packed.n)
        packed.p[place] ^= (char)(data[0] >> 3 | 1);
    if (data[0] & 0x80)
        packed.n = place;
    memory_file_set(&file, packed.p, packed.n);
    int a = read_all(file.path, 64 << 10, &whole);
    int b = read_pieces(&packed, data[1] % 64 + 1u, &pieces);
    size_t common = whole.n < pieces.n ? whole.n : pieces.n;
    // Libzstd compares the length that a frame claims only when it gets all of it at once.
    bool lax = packed.n >= 4 && memcmp(packed.p, "\x28\xb5\x2f\xfd", 4) == 0;
    if ((a != b && !lax) || (common && memcmp(whole.p, pieces.p, common) != 0))
        abort();
    if (a == 0 && b == 0 && whole.n < READ_MAX && pieces.n < READ_MAX && whole.n != pieces.n)
        abort();
    if (how != PLAIN && !damaged && (a || whole.n != n || (n && memcmp(whole.p, p, n) != 0)))
        abort();
    buf_free(&packed);
    buf_free(&whole);
    buf_free(&pieces);
    return 0;
}

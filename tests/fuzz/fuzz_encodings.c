// SPDX-License-Identifier: Apache-2.0
// One bare value (first byte its type, second one the step and the dialect), in elements, raw and
// skipped; and the same bytes as an LZF stream.
#include "codec/lzf.h"
#include "rdb_drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int drive_bare(struct drive *d, uint8_t type, int version, enum drive_way way, size_t limit)
{
    struct err e;
    int rc = rdb_reader_open_value(d->r, type, version, &e);
    if (rc < 0)
        return rc;
    drive_more(d);
    do
        rc = drive_value(d, &way, type == 0, limit);
    while (rc == RDB_ITEM || (rc == RDB_MORE && drive_more(d)));
    return rc;
}

static void drive_lzf(const uint8_t *p, size_t n, size_t total, size_t step)
{
    char *out = malloc(total + 1);
    bool ok = lzf_decompress((const char *)p, n, out, total);
    struct lzf_stream z = {0};
    lzf_stream_begin(&z, n, total);
    size_t at = 0, shown = 0, got = 0, used;
    int rc = 0;
    while (rc == 0 && (shown < n || z.left_in > 0)) {
        shown = n - shown < step ? n : shown + step;
        rc = lzf_stream_feed(&z, (const char *)p + at, shown - at, total + 1, &used);
        at += used;
    }
    got = lzf_stream_unread(&z);
    if (ok != (rc == 0 && got == total && n > 0 && total > 0) && n > 0 && total > 0)
        abort();
    if (ok && got == total && memcmp(out, lzf_stream_data(&z), got) != 0)
        abort();
    lzf_stream_free(&z);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    const uint8_t *p = data + 2;
    size_t n = size - 2, step = (data[1] & 15) + 1u;
    int rc[5];
    struct drive d[5];
    for (int i = 0; i < 5; i++) {
        static const enum drive_way ways[] = {DRIVE_ELEMENTS, DRIVE_ELEMENTS, DRIVE_RAW, DRIVE_SKIP,
                                              DRIVE_SKIP};
        d[i] = (struct drive){.r = rdb_reader_new(false), .p = p, .n = n, .step = i & 1 ? step : n};
        rc[i] =
            drive_bare(&d[i], data[0], data[1] & 0x80 ? 80 : 12, ways[i], i < 2 ? 100 : SIZE_MAX);
    }
    // A failure may be seen earlier or later, depending on how much is decompressed at once.
    bool same = rc[0] == rc[1] && (rc[0] < 0 || d[0].digest == d[1].digest) && rc[2] == rc[3] &&
                rc[3] == rc[4];
    // What can be taken apart can be passed over.
    if (!same || (rc[0] == RDB_DONE && rc[3] != RDB_DONE))
        abort();
    for (int i = 0; i < 5; i++)
        drive_end(&d[i]);
    drive_lzf(p, n, data[1] * 8u + 1, step);
    return 0;
}

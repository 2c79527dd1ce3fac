// SPDX-License-Identifier: Apache-2.0
// An RDB file, read whole and in steps. The first byte says how values are taken, whether newer
// versions are read and whether the checksum counts, the second one the step and limits; a file
// that starts at once is read as it is.
#include "rdb_drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice item_text(const struct rdb_item *item)
{
    switch (item->kind) {
    case RDB_KIND_KEY:
    case RDB_KIND_AUX:
        return item->key;
    case RDB_KIND_COMMAND:
    case RDB_KIND_TEMPLATE:
    case RDB_KIND_FUNCTION:
    case RDB_KIND_SLOT_IMPORT:
    case RDB_KIND_SKIPPED:
        return item->value;
    default:
        return (struct slice){0};
    }
}

static int drive_file(struct drive *d, enum drive_way way, size_t limit)
{
    struct rdb_item item = {0};
    struct err e;
    bool in_value = false;
    enum drive_way now = way;
    drive_more(d);
    for (;;) {
        int rc = in_value ? drive_value(d, &now, item.object == RDB_OBJ_STRING, limit)
                          : rdb_next(d->r, &item, &e);
        if (rc == RDB_MORE && drive_more(d))
            continue;
        if (rc < 0 || rc == RDB_MORE || (rc == RDB_DONE && !in_value))
            return rc;
        if (!in_value) {
            drive_digest(d, item_text(&item));
            in_value = item.kind == RDB_KIND_KEY;
            now = way;
        } else if (rc == RDB_DONE) {
            in_value = false;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    bool plain = data[0] == 'R' || data[0] == 'V';
    enum drive_way way = plain ? DRIVE_ELEMENTS : (data[0] & 0x3f) % DRIVE_WAYS;
    size_t limit = plain ? 1000 : (size_t)(data[1] >> 4) * 50;
    const uint8_t *p = plain ? data : data + 2;
    size_t n = plain ? size : size - 2;
    bool check = !plain && data[0] & 0x80;
    struct drive whole = {.r = rdb_reader_new(check), .p = p, .n = n, .step = n};
    struct drive steps = {.r = rdb_reader_new(check), .p = p, .n = n, .step = (data[1] & 15) + 1u};
    rdb_reader_skip_unknown(whole.r, !plain && data[0] & 0x40);
    rdb_reader_skip_unknown(steps.r, !plain && data[0] & 0x40);
    int a = drive_file(&whole, way, limit), b = drive_file(&steps, way, limit);
    // A failure may be seen earlier or later, depending on how much is decompressed at once.
    if (a != b || (a >= 0 && whole.digest != steps.digest))
        abort();
    drive_end(&whole);
    drive_end(&steps);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
// Commands of a hostile source, rewritten for a target that the first byte names: what comes out is
// RESP again, of commands that we know.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/dump.h"
#include "codec/resp.h"
#include "flow/downgrade.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct target {
    bool is_valkey;
    int version, rdb_version;
} targets[] = {
    {false, 20800, 6},  {false, 30200, 7},  {false, 40000, 8},  {false, 50000, 9},
    {false, 60000, 9},  {false, 60200, 9},  {false, 70000, 10}, {false, 70200, 11},
    {false, 70400, 12}, {false, 80000, 12}, {false, 80600, 13}, {false, 80800, 14},
    {true, 70200, 11},  {true, 80100, 11},  {true, 90000, 80},  {true, 90200, 81},
};
enum { TARGETS = sizeof(targets) / sizeof(*targets) };

struct filters {
    struct downgrade down;
    struct resp_cmd read;
    struct buf text;
};

// Makes the checksum of a RESTORE right, which no mutation would.
static void mend(const struct resp_cmd *cmd, char *from)
{
    if (cmd->argc < 4 || cmd->is_inline || !slice_ieq(cmd->argv[0], SLICE("RESTORE")))
        return;
    struct slice payload = cmd->argv[3];
    if (payload.n < 1 + DUMP_TRAILER)
        return;
    size_t n = payload.n - DUMP_TRAILER;
    uint8_t trailer[DUMP_TRAILER];
    uint16_t version = (uint8_t)payload.p[n] | (uint16_t)((uint8_t)payload.p[n + 1] << 8);
    dump_trailer((uint8_t)payload.p[0], slice_make(payload.p + 1, n - 1), version, trailer);
    memcpy(from + (payload.p - from) + n, trailer, sizeof(trailer));
}

// One command that goes to the target.
static void check(struct filters *f, int argc, const struct slice *argv)
{
    buf_clear(&f->text);
    if (argc < 1)
        abort();
    resp_put_argv(&f->text, argc, argv);
    f->read.pos = 0;
    if (resp_cmd_parse(&f->read, f->text.p, f->text.n) != 1 || f->read.argc != argc ||
        f->read.len != f->text.n)
        abort();
    if (!cmd_lookup(argc, argv))
        abort();
}

static void apply(struct filters *f, const struct rewrite *w, enum rewrite_result result)
{
    if (result == REWRITE_DROP || result == REWRITE_REFUSED) {
        if (!w->reason || !*w->reason)
            abort();
        return;
    }
    if (result != REWRITE_CHANGED)
        return;
    check(f, w->argc, w->argv);
    for (int i = 0; i < w->then_n; i++)
        check(f, w->then[i].argc, w->then[i].argv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct filters all[TARGETS];
    if (size < 1)
        return 0;
    struct filters *f = &all[data[0] % TARGETS];
    const struct target *t = &targets[data[0] % TARGETS];
    if (!f->down.by_id)
        downgrade_init(&f->down, t->is_valkey, t->version, t->rdb_version);
    struct resp_cmd cmd = {0};
    char *copy = xmalloc(size), *p = copy;
    size_t n = size - 1;
    memcpy(copy, data + 1, n);
    while (n > 0 && resp_cmd_parse(&cmd, p, n) == 1) {
        const struct cmd_info *info = cmd.argc ? cmd_lookup(cmd.argc, cmd.argv) : NULL;
        mend(&cmd, p);
        if (info)
            apply(f, &f->down.out, downgrade_command(&f->down, info, cmd.argc, cmd.argv));
        p += cmd.len;
        n -= cmd.len;
    }
    resp_cmd_free(&cmd);
    free(copy);
    return 0;
}

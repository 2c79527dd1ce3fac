// SPDX-License-Identifier: Apache-2.0
#include "codec/txn.h"

#include "codec/cmdtable.h"

void txn_restart(struct txn_scan *s)
{
    s->at = UINT64_MAX;
    s->scanned = 0;
    resp_cmd_restart(&s->cmd);
}

int txn_length(struct txn_scan *s, uint64_t at, const char *p, size_t n, size_t *len)
{
    const struct cmd_info *exec = cmd_by_name(SLICE("exec"));
    *len = 0;
    if (s->at != at)
        txn_restart(s);
    s->at = at;
    for (;;) {
        struct resp_cmd *c = &s->cmd;
        int rc = resp_cmd_parse(c, p + s->scanned, n - s->scanned);
        if (rc <= 0)
            return rc;
        // An EXEC that was found is found again when it is asked for once more.
        if (c->argc && cmd_lookup(c->argc, c->argv) == exec) {
            *len = s->scanned + c->len;
            return 0;
        }
        s->scanned += c->len;
    }
}

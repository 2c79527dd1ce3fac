// SPDX-License-Identifier: Apache-2.0
// Requests for what another node of the group leads go to that node.
#include <stdlib.h>

#include "base/mem.h"
#include "control/group.h"
#include "control/peer.h"
#include "control/supervisor_int.h"

enum { TIMEOUT_MS = 10000 };

struct sup_passed {
    char node[GROUP_NODE], input[SUP_NAME];
};

static int collect_one(struct supervisor *s, struct sup_passing *p, const struct sup_lane *sl,
                       bool passed_on, struct err *e)
{
    struct sup_passed to;
    sup_lane_address(sl, to.input);
    if (!sup_roles_leader(s, sl, to.node, sizeof(to.node)))
        return err_set(e, ERR_REPLY, "no node leads %s now; try again", to.input);
    // Two nodes that took each other for the leader would pass it to and fro.
    if (passed_on)
        return err_set(e, ERR_REPLY, "%s is led by %s now; try again", to.input, to.node);
    p->list = xrealloc(p->list, (p->n + 1) * sizeof(*p->list));
    p->list[p->n++] = to;
    return 0;
}

int sup_pass_collect(struct supervisor *s, struct sup_passing *p, const bool *chosen,
                     bool passed_on, struct err *e)
{
    int rc = 0;
    for (int i = 0; rc == 0 && p->action && i < s->lanes_n; i++)
        if (chosen[i] && s->lanes[i]->follower)
            rc = collect_one(s, p, s->lanes[i], passed_on, e);
    return rc;
}

int sup_pass_on(struct supervisor *s, struct sup_passing *p, int rc, struct err *e)
{
    for (size_t i = 0; rc == 0 && i < p->n; i++) {
        struct buf path = {0}, body = {0};
        buf_printf(&path, "/syncer/%s?passedOn=yes%s&inputs=", p->action, p->more);
        peer_encode(&path, p->list[i].input);
        char *url = xasprintf("http://%s", p->list[i].node);
        struct peer_request q = {.url = url,
                                 .token = s->cfg->server.token,
                                 .path = buf_cstr(&path),
                                 .post = true,
                                 .timeout_ms = TIMEOUT_MS};
        rc = peer_call(&q, &body, e);
        if (rc)
            err_wrap(e, "passed on to the node that leads %s", p->list[i].input);
        buf_free(&path);
        buf_free(&body);
        free(url);
    }
    free(p->list);
    p->list = NULL;
    return rc;
}

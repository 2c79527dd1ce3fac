// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "target/router.h"

void router_attach_masters(struct router *r, struct masters *m, const uint64_t *marks,
                           uint64_t marks_id)
{
    struct router_node *nodes = xcalloc(m->n, sizeof(*nodes));
    for (size_t i = 0; i < m->n; i++) {
        snprintf(nodes[i].host, sizeof(nodes[i].host), "%s", m->endpoints[i].host);
        nodes[i].port = m->endpoints[i].port;
        nodes[i].conn = redis_take_conn(m->clients[i]);
        m->clients[i] = NULL;
    }
    struct router_target t = {.nodes = nodes,
                              .nodes_n = (int)m->n,
                              .owner = m->map.owner,
                              .marks = marks,
                              .marks_id = marks_id};
    router_attach(r, &t);
    free(nodes);
}

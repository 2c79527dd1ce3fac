// SPDX-License-Identifier: Apache-2.0
// The text of INFO.
#ifndef GUNYU_SERVE_SESSION_INFO_H
#define GUNYU_SERVE_SESSION_INFO_H

#include "serve/session.h"

// f NULL: no shard was picked.
void session_info(struct buf *b, const struct session_options *o, const struct serve_facts *f,
                  int sections_n, const struct slice *sections);
// 70015 is "7.0.15"; 0 is "".
void session_version(int version, char out[24]);
// The host of "host:port" or "[v6]:port"; returns the port, 0 when there is none.
int session_split(const char *address, char host[SESSION_NAME_MAX]);

#endif

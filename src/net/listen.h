// SPDX-License-Identifier: Apache-2.0
// A socket that listens.
#ifndef GUNYU_NET_LISTEN_H
#define GUNYU_NET_LISTEN_H

#include "base/err.h"

// at: host:port or [v6]:port; no host is every address of this machine, port 0 any free one. what
// is served there, and the setting that says where, are for messages. Returns a non-blocking
// socket, or a negative code.
int net_listen(const char *at, const char *what, const char *setting, struct err *e) must_check;

#endif

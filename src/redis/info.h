// SPDX-License-Identifier: Apache-2.0
// What an INFO text says of a server; for those who send INFO themselves.
#ifndef GUNYU_REDIS_INFO_H
#define GUNYU_REDIS_INFO_H

#include "redis/client.h"

// "Nothing is known."
void redis_server_init(struct redis_server *s);
// Fills in what the text has; any part of INFO will do, several may be added up.
void redis_server_parse(struct redis_server *s, struct slice info);

#endif

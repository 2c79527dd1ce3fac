// SPDX-License-Identifier: Apache-2.0
// The routes: what a request means, apart from how it came in.
#ifndef GUNYU_CONTROL_API_H
#define GUNYU_CONTROL_API_H

#include <stdio.h>

#include "base/buf.h"
#include "base/slice.h"
#include "control/http.h"

// Longest form body that is read.
enum { API_MAX_BODY = 64 * 1024 };

// Borrowed for the call. NULL when a header is absent.
struct api_request {
    const char *method;
    const char *target; // path and query as they came
    const char *content_type;
    const char *authorization;
    const char *basic_password; // of HTTP Basic; NULL when the scheme is another
    const char *host, *origin, *fetch_site;
    struct slice body;
    bool body_too_big; // there was more than API_MAX_BODY; body is not to be used
    const char *peer;  // for the log
};

struct api_reply {
    int status;
    const char *content_type; // static; NULL with an empty body
    struct buf body;          // owns
    bool shutdown;            // once the reply is sent, end the process
};

// Fills r. May wait, as supervisor.h says.
void api_handle(const struct http_options *o, const struct api_request *q, struct api_reply *r);
// A reply with the JSON body of all errors. Replaces what r had.
void api_error(struct api_reply *r, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// The table of all routes as Markdown.
void api_write_routes(FILE *f);

#endif

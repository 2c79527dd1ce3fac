// SPDX-License-Identifier: Apache-2.0
// Shared by the config_*.c files only.
#ifndef GUNYU_CONTROL_CONFIG_INTERNAL_H
#define GUNYU_CONTROL_CONFIG_INTERNAL_H

#include "control/config.h"
#include "control/schema.h"

// Where a value came from. file is NULL for flags.
struct config_mark {
    const char *file; // borrowed for the time of building
    int line, col;
};

struct config_builder {
    struct config *c;
    struct config_diags *d;
    enum config_scope scope;
    struct config_mark *marks; // one a row
    bool unreadable;           // the file was not read, so missing keys are no finding
};

// A file of more errors than this is not a configuration; reading it stops.
#define CONFIG_ERRORS_MAX 100

// Notes that the user set the row, and where.
void config_mark_given(struct config_builder *b, int row, struct config_mark at);
// A finding about a row, placed where the user set it (or at the whole when unset).
void config_row_diag(struct config_builder *b, int row, enum diag_severity severity,
                     const char *fmt, ...) __attribute__((format(printf, 4, 5)));
// The same by canonical path.
void config_path_diag(struct config_builder *b, const char *path, enum diag_severity severity,
                      const char *fmt, ...) __attribute__((format(printf, 4, 5)));
bool config_given(const struct config_builder *b, const char *path);

void config_read_yaml(struct config_builder *b, const char *name, struct slice text);
void config_read_flags(struct config_builder *b, int argc, char *const *argv);
// Completes what is derived, reads secret files, checks what spans several keys.
void config_finish(struct config_builder *b);
// Makes the endpoints of a redis block of its addresses, user, password and TLS.
void config_finish_redis(struct config_builder *b, const char *path, struct redis_config *r);
// Whether TLS is on where only its block says so, and whether its files go together.
void config_finish_tls(struct config_builder *b, const char *path, struct tls_options *t);
// server.tokenFile, cluster.metaEtcd.passwordFile.
void config_finish_secrets(struct config_builder *b);

#endif

// SPDX-License-Identifier: Apache-2.0
// The configuration: built once from defaults, a YAML file, URIs and flags (in this order, later
// ones win), checked as a whole, immutable afterwards. Every key is one row of control/schema.c.
// Units are in the names: _ms milliseconds, _size bytes unless the comment says otherwise.
#ifndef GUNYU_CONTROL_CONFIG_H
#define GUNYU_CONTROL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "journal/journal.h"
#include "net/endpoint.h"
#include "redis/sentinel.h"

struct str_list {
    char **v; // owns
    size_t n;
};

struct int_list {
    int64_t *v; // owns
    size_t n;
};

// Both ends included.
struct slot_range {
    uint16_t from, to;
};

struct slot_list {
    struct slot_range *v; // owns
    size_t n;
};

struct db_pair {
    int from, to;
};

// A source db appears once.
struct db_map {
    struct db_pair *v; // owns
    size_t n;
};

enum redis_type { REDIS_STANDALONE, REDIS_CLUSTER, REDIS_SENTINEL };

// Type sentinel.
struct sentinel_config {
    char *master_name;
    char *user_name, *password, *password_file; // at the sentinels; NULL when absent
    bool tls;
};

struct redis_config {
    // One for each address, in order, with user, password and TLS filled in: what to dial.
    struct endpoint *endpoints; // owns
    size_t endpoints_n;
    struct endpoint data; // type sentinel: user, password and TLS of the servers; no address
    struct sentinel_config sentinel;
    enum redis_type type;
    char *version;      // where INFO is not permitted; NULL: none given
    int version_number; // the same; 0: none given
    // As written; endpoints is made of them.
    struct str_list addresses;
    char *user_name, *password, *password_file; // NULL when absent
    struct tls_options tls;
};

enum input_mode { INPUT_DYNAMIC, INPUT_STATIC };
enum sync_from { SYNC_NODE, SYNC_PREFER_SLAVE, SYNC_MASTER, SYNC_SLAVE };

struct input_config {
    struct redis_config redis;
    int64_t rdb_parallel; // full syncs at the same time
    enum input_mode mode;
    enum sync_from sync_from;
    char *sync_delay_test_key; // NULL: no probe
    char *psync_command;       // "PSYNC"
    char *announce_ip;         // NULL: not announced
};

enum key_exists { KEY_REPLACE, KEY_IGNORE, KEY_ERROR };
enum function_exists { FUNCTION_REPLACE, FUNCTION_FLUSH, FUNCTION_APPEND };
enum module_aux { MODULE_AUX_FAIL, MODULE_AUX_SKIP };
enum on_unknown { ON_UNKNOWN_FAIL, ON_UNKNOWN_SKIP };
enum on_unsupported { ON_UNSUPPORTED_FAIL, ON_UNSUPPORTED_DEGRADE };
enum replay_mode { REPLAY_SYNC, REPLAY_PIPELINE, REPLAY_PARALLEL };
enum on_error { ON_ERROR_STOP, ON_ERROR_SKIP };
enum extra_keys { EXTRA_KEYS_KEEP, EXTRA_KEYS_DELETE };
enum full_sync_flush { FLUSH_NONE, FLUSH_DB, FLUSH_ALL };

struct replay_config {
    bool resume;           // resumeFromBreakPoint
    bool replace_hash_tag; // remove the first '{' and the first '}' of keys
    enum key_exists key_exists;
    bool key_exists_log;
    enum function_exists function_exists;
    enum module_aux module_aux;
    enum on_unsupported on_unsupported;
    enum on_unknown on_unknown;
    int64_t max_proto_bulk_len; // bytes; a larger payload is not sent by RESTORE
    int target_db;              // -1: the source's; wins over target_db_map
    struct db_map target_db_map;
    int64_t batch_cmd_count;      // upper bound of commands in a batch; 0: adaptive
    int64_t batch_buffer_size;    // upper bound of bytes in a batch; 0: adaptive
    int64_t keepalive_ticker_ms;  // PING to an idle target
    bool enable_restore;          // replayRdbEnableRestore
    int64_t update_checkpoint_ms; // without transactions: how often the position is stored
    bool transaction;             // replayTransaction
    bool bisync;
    enum replay_mode mode;
    bool legacy_pipeline; // enableAofPipeline; mode is already set by it
    int64_t parallelism;  // lanes of mode parallel; 0: one a target shard
    bool stats_log;       // stats.disableLog is its opposite
    int64_t stats_log_interval_ms;
    enum on_error on_error;
    char *dead_letter_dir;  // one file a lane in it; NULL when dead_letter_file is set
    char *dead_letter_file; // one file for all lanes
    enum full_sync_flush full_sync_flush;
    enum extra_keys extra_keys; // sync only
    bool wrap_all;              // catching up, too, sends nothing outside MULTI
    bool expiry_guard;
    int64_t expiry_margin_ms;
};

// Names are lower case. An empty list filters nothing.
struct filter_config {
    struct int_list db_blacklist, db_whitelist;
    struct str_list command_blacklist, command_whitelist;
    struct str_list command_group_blacklist, command_group_whitelist;
    struct str_list key_prefix_blacklist, key_prefix_whitelist; // case kept
    struct slot_list slot_blacklist, slot_whitelist;
};

struct output_config {
    struct redis_config redis;
    struct replay_config replay;
    struct filter_config filter;
};

struct channel_config {
    enum journal_type type;
    bool verify_crc;
    int64_t stale_checkpoint_ms;
    int64_t max_age_ms; // 0: off
    char *dir_path;     // storer; holds a directory for each source shard
    // Of the whole process, not of a lane: divide max_size by the number of lanes.
    int64_t storer_max_size; // negative: unlimited
    int64_t storer_log_size;
    struct journal_flush flush;
    int64_t memory_max_size;
    int64_t memory_log_size;
};

struct etcd_config {
    bool present;
    struct str_list endpoints;
    char *username, *password, *password_file; // password is the one to use, from either
    struct tls_options tls;
    int64_t auto_sync_interval_ms, dial_timeout_ms;
    int64_t dial_keepalive_ms, dial_keepalive_timeout_ms; // 0: ours
};

struct cluster_config {
    char *group_name; // NULL: no high availability
    int64_t lease_timeout_ms, lease_renew_ms;
    struct etcd_config etcd;
};

struct log_config {
    enum log_level level;
    enum log_format format;
    char *file; // NULL: stderr
    int64_t max_size_mb, max_backups, max_age_days;
    bool to_stderr; // handler.stdout
    bool with_caller;
};

enum serve_full_sync {
    SERVE_HELD,    // from the snapshot that the journal holds
    SERVE_REFRESH, // and if it holds none, a new one is taken of the source
};

// The replication server.
struct replication_config {
    char *listen;                   // NULL: there is none
    char *password, *password_file; // password is the one to check, from whichever source
    struct tls_options tls;
    enum serve_full_sync full_sync;
};

struct server_config {
    char *listen;      // host:port, [v6]:port
    char *listen_peer; // defaults to listen
    char *metric_path; // begins with '/'
    int64_t topology_ticker_ms;
    int64_t graceful_stop_ms;
    char *token, *token_file; // token is the one to check, from whichever source; NULL: none
    bool metrics_enable;
    bool metrics_token; // the token is asked for metrics as well
    struct replication_config replication;
};

enum rdb_action { RDB_ACTION_NONE, RDB_ACTION_PRINT, RDB_ACTION_LOAD };

// The `rdb` command.
struct rdb_config {
    enum rdb_action action;
    char *path;
    bool print_no_key, print_no_value;
    char *print_output; // NULL: stdout
    enum module_aux print_module_aux;
    struct output_config load;
};

enum config_scope { CONFIG_SYNC, CONFIG_RDB };

struct config {
    enum config_scope scope;
    struct input_config input;
    struct output_config output;
    struct channel_config channel;
    struct cluster_config cluster;
    struct log_config log;
    struct server_config server;
    struct rdb_config rdb;
    uint8_t *given; // owns; a byte for each row of the schema: set by the user (file or flag)
};

enum diag_severity { DIAG_WARNING, DIAG_ERROR };

// One finding. Never holds a secret.
struct config_diag {
    enum diag_severity severity;
    char *file;    // owns; NULL: a flag or the whole
    int line, col; // from 1; 0 unknown
    char *text;    // owns; one line
};

// Zeroed is empty.
struct config_diags {
    struct config_diag *v;
    size_t n, errors;
};

void config_diag_add(struct config_diags *d, enum diag_severity severity, const char *file,
                     int line, int col, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
// "file:line:col: error: text", one a line.
void config_diags_print(const struct config_diags *d, FILE *f);
void config_diags_free(struct config_diags *d);

// What a configuration is made of; each member may be NULL (0). Later ones win.
struct config_sources {
    const char *file;      // path, or "-" for stdin
    const char *from, *to; // URIs
    char *const *flags;    // "--sync.x.y=v", "-rdb.x=v", or "--sync.x.y", "v"; nothing else
    int flags_n;
};

// Builds, completes and checks. Returns 0 with *out new, or ERR_CONFIG with at least one error in
// d. All findings of all sources are reported, not only the first.
int config_build(struct config **out, enum config_scope scope, const struct config_sources *src,
                 struct config_diags *d) must_check;
int config_load_file(struct config **out, enum config_scope scope, const char *path,
                     struct config_diags *d) must_check;
int config_load_text(struct config **out, enum config_scope scope, const char *name,
                     struct slice text, struct config_diags *d) must_check;
int config_from_flags(struct config **out, enum config_scope scope, int argc, char *const *argv,
                      struct config_diags *d) must_check;
int config_from_uris(struct config **out, const char *from, const char *to,
                     struct config_diags *d) must_check;
// All defaults; has no addresses, so it is not runnable. Returns new.
struct config *config_default(enum config_scope scope);
void config_free(struct config *c);

// Why keys that the source does not have may not be deleted from the target; NULL: they may.
// Static.
const char *config_extra_keys_refused(const struct config *c);
// Refuses what this version cannot run yet, for the command of the configuration's scope: an error
// for each such setting in d, and ERR_CONFIG.
int config_validate(const struct config *c, struct config_diags *d) must_check;

// `gunyu config check FILE`: prints the findings and one closing line; 0 when it may be run.
int config_check(const char *path, enum config_scope scope, FILE *f);

// Every key with its value. Redacted: passwords and tokens as "***", also inside of URIs.
void config_to_yaml(const struct config *c, bool redacted, struct buf *out);
void config_to_json(const struct config *c, bool redacted, struct buf *out);
// The reference of all keys and flags, as Markdown (docs/configuration.md).
void config_docs(struct buf *out);

// Appends s with ${NAME} replaced by the environment's; $${ stands for a literal ${. ERR_CONFIG
// when a name is not set or malformed; e never shows a value.
int config_expand(const char *s, struct buf *out, struct err *e) must_check;
// What --from and --to take: endpoint_parse after config_expand.
int config_endpoint(struct endpoint *ep, const char *uri, struct err *e) must_check;

// How a deployment of type sentinel is found; borrows from r.
struct sentinel_options config_sentinel(const struct redis_config *r);
// The one server that r means, be it by sentinel, or a node of the cluster; to be freed. Blocking.
int config_server(const struct redis_config *r, struct endpoint *out, struct err *e) must_check;

// Borrows from c.
struct log_options config_log_options(const struct config *c);

#endif

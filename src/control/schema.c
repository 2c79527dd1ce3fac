// SPDX-License-Identifier: Apache-2.0
#include "control/schema.h"

#include <assert.h>

#define KIB INT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

#define AT(member) .off = (uint32_t)offsetof(struct config, member)
#define RANGE(lo, hi, what) .min = (lo), .max = (hi), .out = (what)

static_assert(sizeof(enum redis_type) == 4, "enum fields are set through an int");

static const struct schema_word redis_types[] = {
    {"standalone", REDIS_STANDALONE, false},
    {"cluster", REDIS_CLUSTER, false},
    {"sentinel", REDIS_SENTINEL, false},
    {NULL, 0, false},
};
static const struct schema_word tls_versions[] = {
    {"any", TLS_ANY, false},    {"1.2", TLS_1_2, false},    {"1.3", TLS_1_3, false},
    {"TLSv1.2", TLS_1_2, true}, {"TLSv1.3", TLS_1_3, true}, {"TLS1.2", TLS_1_2, true},
    {"TLS1.3", TLS_1_3, true},  {NULL, 0, false},
};
static const struct schema_word input_modes[] = {
    {"dynamic", INPUT_DYNAMIC, false},
    {"static", INPUT_STATIC, false},
    {"auto", INPUT_DYNAMIC, true},
    {NULL, 0, false},
};
static const struct schema_word sync_froms[] = {
    {"node", SYNC_NODE, false},
    {"prefer_slave", SYNC_PREFER_SLAVE, false},
    {"master", SYNC_MASTER, false},
    {"slave", SYNC_SLAVE, false},
    {"prefer_replica", SYNC_PREFER_SLAVE, true},
    {"replica", SYNC_SLAVE, true},
    {NULL, 0, false},
};
static const struct schema_word key_exists[] = {
    {"replace", KEY_REPLACE, false},
    {"ignore", KEY_IGNORE, false},
    {"error", KEY_ERROR, false},
    {NULL, 0, false},
};
static const struct schema_word function_exists[] = {
    {"replace", FUNCTION_REPLACE, false},
    {"flush", FUNCTION_FLUSH, false},
    {"append", FUNCTION_APPEND, false},
    {NULL, 0, false},
};
static const struct schema_word module_aux[] = {
    {"fail", MODULE_AUX_FAIL, false}, {"skip", MODULE_AUX_SKIP, false}, {NULL, 0, false}};
static const struct schema_word on_unsupporteds[] = {{"fail", ON_UNSUPPORTED_FAIL, false},
                                                     {"degrade", ON_UNSUPPORTED_DEGRADE, false},
                                                     {NULL, 0, false}};
static const struct schema_word on_unknowns[] = {
    {"fail", ON_UNKNOWN_FAIL, false}, {"skip", ON_UNKNOWN_SKIP, false}, {NULL, 0, false}};
static const struct schema_word replay_modes[] = {
    {"sync", REPLAY_SYNC, false},
    {"pipeline", REPLAY_PIPELINE, false},
    {"parallel", REPLAY_PARALLEL, false},
    {NULL, 0, false},
};
static const struct schema_word on_errors[] = {
    {"stop", ON_ERROR_STOP, false}, {"skip", ON_ERROR_SKIP, false}, {NULL, 0, false}};
static const struct schema_word full_sync_flushes[] = {
    {"none", FLUSH_NONE, false},
    {"flushdb", FLUSH_DB, false},
    {"flushall", FLUSH_ALL, false},
    {NULL, 0, false},
};
static const struct schema_word extra_keys[] = {
    {"keep", EXTRA_KEYS_KEEP, false}, {"delete", EXTRA_KEYS_DELETE, false}, {NULL, 0, false}};
static const struct schema_word channel_types[] = {
    {"storer", JOURNAL_STORER, false}, {"memory", JOURNAL_MEMORY, false}, {NULL, 0, false}};
static const struct schema_word log_levels[] = {
    {"debug", LOG_DEBUG, false}, {"info", LOG_INFO, false},
    {"warn", LOG_WARN, false},   {"error", LOG_ERROR, false},
    {"off", LOG_OFF, false},     {"warning", LOG_WARN, true},
    {"dpanic", LOG_ERROR, true}, {"panic", LOG_ERROR, true},
    {"fatal", LOG_ERROR, true},  {NULL, 0, false},
};
static const struct schema_word log_formats[] = {
    {"text", LOG_TEXT, false}, {"json", LOG_JSON, false}, {NULL, 0, false}};
static const struct schema_word serve_full_syncs[] = {
    {"serve", SERVE_HELD, false}, {"refresh", SERVE_REFRESH, false}, {NULL, 0, false}};
static const struct schema_word rdb_actions[] = {
    {"print", RDB_ACTION_PRINT, false}, {"load", RDB_ACTION_LOAD, false}, {NULL, 0, false}};

// clang-format off
#define REDIS_ROWS(S, P, M) \
    {.path = P ".addresses", .scope = S, .type = T_ADDRS, AT(M.addresses), \
     .help = "Servers, each host:port, [v6]:port, unix:///path, redis://... or rediss://... " \
             "(user, password and TLS of a URI win over the keys below). Required.", \
     .note = "A scalar with commas is read as a list."}, \
    {.path = P ".userName", .scope = S, .type = T_STR, AT(M.user_name), \
     .help = "ACL user for AUTH."}, \
    {.path = P ".password", .scope = S, .type = T_SECRET, AT(M.password), \
     .help = "Password for AUTH. Better: passwordFile, or ${VARIABLE}."}, \
    {.path = P ".passwordFile", .scope = S, .type = T_STR, AT(M.password_file), .ours = true, \
     .help = "File that holds the password; a newline at its end is dropped."}, \
    {.path = P ".tlsEnable", .scope = S, .type = T_BOOL, AT(M.tls.enabled), .def = "false", \
     .help = "TLS. Given implicitly by a tls block or a rediss:// address.", \
     .note = "redisGunYu never verified the server. Here certificate and name are verified unless " \
             "tls.insecureSkipVerify is true."}, \
    {.path = P ".tls.caFile", .scope = S, .type = T_STR, AT(M.tls.ca_file), .ours = true, \
     .help = "PEM file of trusted CAs.", .def_note = "the system's"}, \
    {.path = P ".tls.caDir", .scope = S, .type = T_STR, AT(M.tls.ca_dir), .ours = true, \
     .help = "Directory of trusted CAs (hashed names)."}, \
    {.path = P ".tls.certFile", .scope = S, .type = T_STR, AT(M.tls.cert_file), .ours = true, \
     .help = "PEM file of the client certificate chain; needs keyFile."}, \
    {.path = P ".tls.keyFile", .scope = S, .type = T_STR, AT(M.tls.key_file), .ours = true, \
     .help = "PEM file of the client key; needs certFile."}, \
    {.path = P ".tls.serverName", .scope = S, .type = T_STR, AT(M.tls.server_name), .ours = true, \
     .help = "Name sent as SNI and verified.", .def_note = "the host of the address"}, \
    {.path = P ".tls.minVersion", .scope = S, .type = T_ENUM, AT(M.tls.min_version), \
     .ours = true, .def = "any", .words = tls_versions, \
     .help = "Lowest TLS version; any leaves it to OpenSSL."}, \
    {.path = P ".tls.insecureSkipVerify", .scope = S, .type = T_BOOL, AT(M.tls.insecure), \
     .ours = true, .def = "false", .help = "Do not verify the server's certificate."}, \
    {.path = P ".type", .scope = S, .type = T_ENUM, AT(M.type), .def = "standalone", \
     .words = redis_types, .help = "Kind of deployment.", \
     .note = "redisGunYu read an unknown type as standalone; here it is an error."}, \
    {.path = P ".sentinelOptions.masterName", .scope = S, .type = T_STR, \
     AT(M.sentinel.master_name), .ours = true, \
     .help = "Type sentinel: the name of the master that the sentinels watch; required then. " \
             "addresses are the sentinels, userName, password and TLS above those of the " \
             "servers."}, \
    {.path = P ".sentinelOptions.userName", .scope = S, .type = T_STR, \
     AT(M.sentinel.user_name), .ours = true, .help = "ACL user at the sentinels."}, \
    {.path = P ".sentinelOptions.password", .scope = S, .type = T_SECRET, \
     AT(M.sentinel.password), .ours = true, .help = "Password at the sentinels."}, \
    {.path = P ".sentinelOptions.passwordFile", .scope = S, .type = T_STR, \
     AT(M.sentinel.password_file), .ours = true, .help = "File that holds it."}, \
    {.path = P ".sentinelOptions.tlsEnable", .scope = S, .type = T_BOOL, \
     AT(M.sentinel.tls), .ours = true, .def = "false", \
     .help = "TLS to the sentinels, with the files and checks of the tls block."}, \
    {.path = P ".otype", .scope = S, .type = T_IGNORED, \
     .help = "Internal to redisGunYu.", .note = "type overwrites it."}, \
    {.path = P ".version", .scope = S, .type = T_STR, AT(M.version), \
     .help = "Version of the server, used where INFO is not permitted: 7.0.15.", \
     .def_note = "asked by INFO", .note = "Where INFO answers, its answer is used."}, \
    {.path = P ".clusterOptions.handleMoveErr", .scope = S, .type = T_IGNORED, \
     .help = "Follow MOVED.", .note = "Redirections are always followed."}, \
    {.path = P ".clusterOptions.handleAskErr", .scope = S, .type = T_IGNORED, \
     .help = "Follow ASK.", .note = "Redirections are always followed."}, \
    {.path = P ".keepAlive", .scope = S, .type = T_IGNORED, \
     .help = "Connections kept for each cluster node.", \
     .note = "There is no pool: a lane sends over one connection to each node."}, \
    {.path = P ".aliveTime", .scope = S, .type = T_IGNORED, \
     .help = "An idle connection is closed after this.", \
     .note = "There is no pool: a lane keeps its connections while it runs."}

#define REPLAY_ROWS(S, P, M) \
    {.path = P ".resumeFromBreakPoint", .scope = S, .type = T_BOOL, AT(M.resume), .def = "true", \
     .help = "Store the position in the target and go on from it after a restart.", \
     .note = "Works together with targetDb; redisGunYu refused or ignored that."}, \
    {.path = P ".replaceHashTag", .scope = S, .type = T_BOOL, AT(M.replace_hash_tag), \
     .def = "false", .help = "Remove the first { and the first } of key names."}, \
    {.path = P ".keyExists", .scope = S, .type = T_ENUM, AT(M.key_exists), .def = "replace", \
     .words = key_exists, .help = "A key of the snapshot that the target has already.", \
     .note = "redisGunYu read an unknown value as replace; here it is an error."}, \
    {.path = P ".keyExistsLog", .scope = S, .type = T_BOOL, AT(M.key_exists_log), \
     .def = "false", .help = "Log keys that were replaced (info) or ignored (warn)."}, \
    {.path = P ".functionExists", .scope = S, .type = T_ENUM, AT(M.function_exists), \
     .def = "replace", .words = function_exists, \
     .help = "Function libraries that the target has already: replace those of the same name, " \
             "flush all first, or append and keep the target's where a name is taken (logged)."}, \
    {.path = P ".moduleAuxPolicy", .scope = S, .type = T_ENUM, AT(M.module_aux), .def = "fail", \
     .words = module_aux, .help = "Global data of modules in a snapshot (MODULE_AUX)."}, \
    {.path = P ".onUnsupported", .scope = S, .type = T_ENUM, AT(M.on_unsupported), .ours = true, \
     .def = "fail", .words = on_unsupporteds, \
     .help = "What a snapshot holds and this target cannot: functions before Redis 7.0, expiries " \
             "of hash fields before Redis 7.4 and Valkey 9, streams before 5.0, module values. " \
             "fail: the lane stops at the key, of which nothing is written; degrade: the closest " \
             "that the target can hold is written, counted and logged."}, \
    {.path = P ".onUnknown", .scope = S, .type = T_ENUM, AT(M.on_unknown), .ours = true, \
     .def = "fail", .words = on_unknowns, \
     .help = "What only a source newer than this build can have put into a snapshot. skip: it is " \
             "passed over where that is safe, which is a newer version of the format as a whole, " \
             "and logged; a value of an unknown type always stops the load."}, \
    {.path = P ".maxProtoBulkLen", .scope = S, .type = T_SIZE, AT(M.max_proto_bulk_len), \
     .def = "512MiB", RANGE(1, INT64_MAX, OUT_DEFAULT), \
     .help = "The target's proto-max-bulk-len. Bigger values are rebuilt element by element."}, \
    {.path = P ".targetDb", .flag = P ".targetDbCfg", .scope = S, .type = T_INT32, \
     AT(M.target_db), .def = "-1", RANGE(-1, 1 << 20, OUT_ERROR), \
     .help = "Put every db into this one; -1 keeps them apart. Wins over targetDbMap.", \
     .note = "redisGunYu had a second flag, targetDb, without effect; here both work."}, \
    {.path = P ".targetDbMap", .scope = S, .type = T_DBMAP, AT(M.target_db_map), \
     .help = "Source db: target db. Dbs not named keep their number.", \
     .note = "As a flag: 0:1,2:3 (redisGunYu had no flag for it)."}, \
    {.path = P ".batchCmdCount", .scope = S, .type = T_INT, AT(M.batch_cmd_count), .def = "0", \
     RANGE(0, 65535, OUT_ERROR), .help = "Upper bound of commands in a batch; 0: adaptive.", \
     .note = "redisGunYu: default 100, and more than 200 was read as 100. It had no flag for it."}, \
    {.path = P ".batchTicker", .scope = S, .type = T_IGNORED, \
     .help = "Longest wait for a fuller batch.", \
     .note = "Nothing waits for a fuller batch: what arrives while one is in flight is the next."}, \
    {.path = P ".batchBufferSize", .scope = S, .type = T_SIZE, AT(M.batch_buffer_size), \
     .def = "0", RANGE(0, 100 * MIB - 1, OUT_ERROR), \
     .help = "Upper bound of bytes in a batch; 0: adaptive.", \
     .note = "redisGunYu: default 65535, no flag."}, \
    {.path = P ".keepaliveTicker", .scope = S, .type = T_MS, AT(M.keepalive_ticker_ms), \
     .def = "3s", RANGE(SECOND + 1, DAY, OUT_DEFAULT), \
     .help = "PING an idle target this often. One that answers nothing for 60s while something is " \
             "asked of it counts as lost, and the lane connects again; a master of a cluster as " \
             "soon as another node has its slots."}, \
    {.path = P ".replayRdbParallel", .scope = S, .type = T_IGNORED, \
     .help = "Workers that load a snapshot.", \
     .note = "Snapshot keys are pipelined; batchCmdCount and batchBufferSize bound them."}, \
    {.path = P ".replayRdbEnableRestore", .scope = S, .type = T_BOOL, AT(M.enable_restore), \
     .def = "true", .help = "Load values by RESTORE; false rebuilds them by commands."}, \
    {.path = P ".updateCheckpointTicker", .scope = S, .type = T_MS, AT(M.update_checkpoint_ms), \
     .def = "1s", RANGE(2, 10 * SECOND, OUT_DEFAULT), \
     .help = "Without transactions: how often the position is stored."}, \
    {.path = P ".replayTransaction", .scope = S, .type = T_BOOL, AT(M.transaction), \
     .def = "true", .help = "Apply batches in MULTI/EXEC together with their position."}, \
    {.path = P ".bisyncEnabled", .scope = S, .type = T_BOOL, AT(M.bisync), .def = "false", \
     .help = "Sync in both directions."}, \
    {.path = P ".mode", .scope = S, .type = T_ENUM, AT(M.mode), .def = "sync", \
     .words = replay_modes, .help = "Batches in flight: one (sync), several (pipeline), or lanes " \
     "by slot (parallel, with bisyncEnabled)."}, \
    {.path = P ".enableAofPipeline", .flag = P ".legacyAofPipelineMode", .scope = S, \
     .type = T_BOOL, .hidden = true, AT(M.legacy_pipeline), .def = "false", \
     .help = "Old form of mode: true is pipeline.", \
     .note = "It is an error beside another mode."}, \
    {.path = P ".parallelism", .scope = S, .type = T_INT, AT(M.parallelism), .def = "0", \
     RANGE(0, 16384, OUT_ERROR), .needs = P ".mode", .help = "Lanes of mode parallel; 0: one for each target shard."}, \
    {.path = P ".stats.disableLog", .scope = S, .type = T_BOOL, .invert = true, \
     AT(M.stats_log), .def = "false", .help = "No periodic statistics in the log."}, \
    {.path = P ".stats.logInterval", .scope = S, .type = T_MS, AT(M.stats_log_interval_ms), \
     .def = "5s", RANGE(SECOND, DAY, OUT_DEFAULT), .help = "Time between them."}, \
    {.path = P ".metric", .scope = S, .type = T_IGNORED, \
     .help = "In redisGunYu's sample files.", .note = "Metrics are always on."}, \
    {.path = P ".onError", .scope = S, .type = T_ENUM, AT(M.on_error), .ours = true, \
     .def = "stop", .words = on_errors, \
     .help = "A command that the target refuses for good: stop the lane, or skip it and go on. " \
             "Either way it is written to the dead-letter file."}, \
    {.path = P ".deadLetterDir", .scope = S, .type = T_STR, AT(M.dead_letter_dir), .ours = true, \
     .def_note = "channel.storer.dirPath", \
     .help = "Directory of the dead-letter files, one for each source shard."}, \
    {.path = P ".deadLetterFile", .scope = S, .type = T_STR, AT(M.dead_letter_file), \
     .ours = true, .help = "One dead-letter file for all; instead of deadLetterDir."}, \
    {.path = P ".fullSyncFlush", .scope = S, .type = T_ENUM, AT(M.full_sync_flush), \
     .ours = true, .def = "none", .words = full_sync_flushes, \
     .help = "Empty the target before a full sync."}, \
    {.path = P ".wrapAll", .scope = S, .type = T_BOOL, AT(M.wrap_all), .ours = true, \
     .def = "false", \
     .help = "Wrap every unit, for readers of the target who must not see a write twice. Else " \
             "writes that may be repeated go without MULTI while the lane catches up."}, \
    {.path = P ".expiryGuard", .scope = S, .type = T_BOOL, AT(M.expiry_guard), .ours = true, \
     .def = "true", \
     .help = "Hold back near expiries, which the source may have renewed since: those of the " \
             "next 24 hours while the lane is behind or loads a snapshot, else expiryMargin."}, \
    {.path = P ".expiryMargin", .scope = S, .type = T_MS, AT(M.expiry_margin_ms), .ours = true, \
     .def = "60s", RANGE(0, 7 * DAY, OUT_ERROR), \
     .help = "Expiries nearer than this are held back while the lane is not behind, until the key " \
             "was quiet for a while."}

#define FILTER_ROWS(S, P, M) \
    {.path = P ".dbBlacklist", .scope = S, .type = T_INTS, AT(M.db_blacklist), \
     RANGE(0, 1 << 20, OUT_ERROR), .help = "Source dbs that are left out."}, \
    {.path = P ".dbWhitelist", .scope = S, .type = T_INTS, AT(M.db_whitelist), .ours = true, \
     RANGE(0, 1 << 20, OUT_ERROR), .help = "Only these source dbs."}, \
    {.path = P ".commandBlacklist", .flag = P ".cmdBlacklist", .scope = S, .type = T_NAMES, \
     AT(M.command_blacklist), .help = "Commands that are left out of the stream."}, \
    {.path = P ".commandWhitelist", .scope = S, .type = T_NAMES, AT(M.command_whitelist), \
     .ours = true, .help = "Only these commands of the stream."}, \
    {.path = P ".commandGroupBlacklist", .scope = S, .type = T_NAMES, \
     AT(M.command_group_blacklist), .ours = true, \
     .help = "Command groups that are left out (string, list, scripting, ...)."}, \
    {.path = P ".commandGroupWhitelist", .scope = S, .type = T_NAMES, \
     AT(M.command_group_whitelist), .ours = true, .help = "Only these command groups."}, \
    {.path = P ".keyFilter.prefixKeyWhitelist", .scope = S, .type = T_STRS, .no_split = true, \
     AT(M.key_prefix_whitelist), .help = "Only keys that begin with one of these."}, \
    {.path = P ".keyFilter.prefixKeyBlacklist", .scope = S, .type = T_STRS, .no_split = true, \
     AT(M.key_prefix_blacklist), .help = "Keys that begin with one of these are left out."}, \
    {.path = P ".slotFilter.keySlotWhitelist", .scope = S, .type = T_SLOTS, \
     AT(M.slot_whitelist), .help = "Only keys of these slots: [[0, 1000], [1002]].", \
     .note = "redisGunYu skipped malformed ranges; here they are errors."}, \
    {.path = P ".slotFilter.keySlotBlacklist", .scope = S, .type = T_SLOTS, \
     AT(M.slot_blacklist), .help = "Keys of these slots are left out."}

const struct schema_row schema_rows[] = {
    {.path = "action", .scope = SCOPE_RDB, .type = T_ENUM, AT(rdb.action), .words = rdb_actions,
     .help = "What to do with the RDB file. Required."},
    {.path = "rdbPath", .scope = SCOPE_RDB, .type = T_STR, AT(rdb.path),
     .help = "The RDB file. Required."},
    {.path = "print.noLogKey", .scope = SCOPE_RDB, .type = T_BOOL, AT(rdb.print_no_key),
     .def = "false", .help = "Leave out keys.",
     .note = "redisGunYu took this spelling as a flag only and nologkey in YAML; both work."},
    {.path = "print.noLogValue", .scope = SCOPE_RDB, .type = T_BOOL, AT(rdb.print_no_value),
     .def = "false", .help = "Leave out values."},
    {.path = "print.output", .scope = SCOPE_RDB, .type = T_STR, AT(rdb.print_output),
     .help = "File to print to.", .def_note = "standard output"},
    {.path = "print.moduleAuxPolicy", .scope = SCOPE_RDB, .type = T_ENUM,
     AT(rdb.print_module_aux), .def = "fail", .words = module_aux,
     .help = "Global data of modules in the file."},
    REDIS_ROWS(SCOPE_RDB, "load.redis", rdb.load.redis),
    REPLAY_ROWS(SCOPE_RDB, "load.replay", rdb.load.replay),
    FILTER_ROWS(SCOPE_RDB, "load.filter", rdb.load.filter),

    REDIS_ROWS(SCOPE_SYNC, "input.redis", input.redis),
    {.path = "input.rdbParallel", .scope = SCOPE_SYNC, .type = T_INT, AT(input.rdb_parallel),
     .def = "100", RANGE(1, 65535, OUT_DEFAULT),
     .help = "Most full syncs that download at the same time; partial ones are not limited."},
    {.path = "input.mode", .scope = SCOPE_SYNC, .type = T_ENUM, AT(input.mode), .def = "dynamic",
     .words = input_modes,
     .help = "Of a cluster: every shard, also those that come later (dynamic), or the shards of the "
             "addresses (static).",
     .note = "auto is dynamic. redisGunYu read an unknown value as dynamic; here it is an error."},
    {.path = "input.syncFrom", .scope = SCOPE_SYNC, .type = T_ENUM, AT(input.sync_from),
     .def_note = "`node`; of a cluster `prefer_slave`", .words = sync_froms,
     .help = "Where to read: from the address itself (node), from the master of it and its "
             "replicas, from a replica (slave; waits while none is online), or from a replica if "
             "one is online. Chosen anew at each connect; a replica that lags or has lost its "
             "master is not taken. Position and journal stay those of the address or shard. Of a "
             "cluster or by sentinel, node is the master.",
     .note = "redisGunYu read the address itself for type standalone whatever was set. It read an "
             "unknown value as prefer_slave; here it is an error."},
    {.path = "input.syncDelayTestKey", .scope = SCOPE_SYNC, .type = T_STR,
     AT(input.sync_delay_test_key),
     .help = "Key written on the source (db 0) each second to measure the delay until the target "
             "has it; it is replicated like any other. Empty: no probe. Needs a source that can be "
             "written."},
    {.path = "input.psyncCommand", .scope = SCOPE_SYNC, .type = T_STR, AT(input.psync_command),
     .ours = true, .def = "PSYNC", .help = "Name of PSYNC where the provider renamed it."},
    {.path = "input.announceIp", .scope = SCOPE_SYNC, .type = T_STR, AT(input.announce_ip),
     .ours = true, .help = "Address announced to the source (REPLCONF ip-address)."},

    {.path = "channel.type", .scope = SCOPE_SYNC, .type = T_ENUM, AT(channel.type),
     .def = "storer", .words = channel_types, .help = "Journal on disk or in memory."},
    {.path = "channel.verifyCrc", .scope = SCOPE_SYNC, .type = T_BOOL, AT(channel.verify_crc),
     .def = "false", .help = "Check the sums of what is read from the journal.",
     .note = "redisGunYu ignored this spelling in YAML and read verifycrc; both work."},
    {.path = "channel.staleCheckpointDuration", .scope = SCOPE_SYNC, .type = T_MS,
     AT(channel.stale_checkpoint_ms), .def = "12h", RANGE(5 * MINUTE, 3650 * DAY, OUT_NEAREST),
     .help = "Positions and journals of a source not seen for this long are removed."},
    {.path = "channel.maxAge", .scope = SCOPE_SYNC, .type = T_MS, AT(channel.max_age_ms),
     .ours = true, .def = "0s", RANGE(0, 3650 * DAY, OUT_ERROR),
     .help = "Journal that is older and applied is removed even below maxSize; 0: off."},
    {.path = "channel.storer.dirPath", .scope = SCOPE_SYNC, .type = T_STR, AT(channel.dir_path),
     .def_note = "redis-gunyu below $TMPDIR or /tmp", .help = "Directory of the journals."},
    {.path = "channel.storer.maxSize", .scope = SCOPE_SYNC, .type = T_SIZE,
     AT(channel.storer_max_size), .def = "50GiB",
     .help = "Most bytes on disk, all journals together; negative: unlimited. Each lane gets an equal "
             "part; a shard that a cluster gets later one as if it had been there, beside the rest."},
    {.path = "channel.storer.logSize", .scope = SCOPE_SYNC, .type = T_SIZE,
     AT(channel.storer_log_size), .def = "100MiB", RANGE(1, 1024 * GIB, OUT_DEFAULT),
     .help = "Bytes of one log segment."},
    {.path = "channel.storer.flushPolicy.duration", .flag = "channel.storer.flush.duration",
     .scope = SCOPE_SYNC, .type = T_MS, AT(channel.flush.duration_ms), .def = "0s",
     RANGE(100, DAY, OUT_NEAREST), .zero_ok = true, .help = "fsync this often; 0: off.",
     .note = "redisGunYu ignored the documented section name flush; both names work."},
    {.path = "channel.storer.flushPolicy.everyWrite", .flag = "channel.storer.flush.everyWrite",
     .scope = SCOPE_SYNC, .type = T_BOOL, AT(channel.flush.every_write), .def = "false",
     .help = "fsync after each write.",
     .note = "redisGunYu read everywrite in YAML; both spellings work."},
    {.path = "channel.storer.flushPolicy.dirtySize", .flag = "channel.storer.flush.dirtySize",
     .scope = SCOPE_SYNC, .type = T_SIZE, AT(channel.flush.dirty_size), .def = "0",
     RANGE(0, INT64_MAX, OUT_ERROR), .help = "fsync when this many bytes are dirty; 0: off.",
     .note = "redisGunYu read dirtysize in YAML; both spellings work."},
    {.path = "channel.storer.flushPolicy.auto", .flag = "channel.storer.flush.auto",
     .scope = SCOPE_SYNC, .type = T_BOOL, AT(channel.flush.auto_flush),
     .def_note = "true when none of the others is set",
     .help = "Leave it to the operating system."},
    {.path = "channel.memory.maxSize", .scope = SCOPE_SYNC, .type = T_SIZE,
     AT(channel.memory_max_size), .def = "512MiB", RANGE(1, INT64_MAX, OUT_DEFAULT),
     .help = "Most bytes in memory, all journals together. A hard limit."},
    {.path = "channel.memory.logSize", .scope = SCOPE_SYNC, .type = T_SIZE,
     AT(channel.memory_log_size), .def = "100MiB", RANGE(1, 1024 * GIB, OUT_DEFAULT),
     .help = "Bytes of one log segment; at most maxSize."},

    REDIS_ROWS(SCOPE_SYNC, "output.redis", output.redis),
    REPLAY_ROWS(SCOPE_SYNC, "output.replay", output.replay),
    {.path = "output.replay.extraKeys", .scope = SCOPE_SYNC, .type = T_ENUM,
     AT(output.replay.extra_keys), .ours = true, .def = "keep", .words = extra_keys,
     .help = "Keys of the target that the snapshot of a full sync does not have. delete: they are "
             "deleted when it is loaded, before the stream goes on, so that the target is what a "
             "replica would be; a source that comes back empty empties the target. Dbs, keys and "
             "slots that this sync does not write to are left alone, and all of it where another "
             "sync has its position."},
    FILTER_ROWS(SCOPE_SYNC, "output.filter", output.filter),
    {.path = "output.resumeFromBreakPoint", .scope = SCOPE_SYNC, .type = T_IGNORED,
     .help = "In a sample file of redisGunYu.", .note = "write output.replay.resumeFromBreakPoint."},
    {.path = "output.keepaliveTicker", .scope = SCOPE_SYNC, .type = T_IGNORED,
     .help = "In a sample file of redisGunYu.", .note = "write output.replay.keepaliveTicker."},

    {.path = "cluster.groupName", .scope = SCOPE_SYNC, .type = T_STR, AT(cluster.group_name),
     .help = "Name of the group of processes that stand in for each other; empty: none."},
    {.path = "cluster.leaseTimeout", .scope = SCOPE_SYNC, .type = T_MS,
     AT(cluster.lease_timeout_ms), .def = "10s", RANGE(3 * SECOND, 600 * SECOND, OUT_NEAREST),
     .help = "A leader that does not renew for this long is replaced."},
    {.path = "cluster.leaseRenewInterval", .scope = SCOPE_SYNC, .type = T_MS,
     AT(cluster.lease_renew_ms), .def_note = "a third of leaseTimeout",
     RANGE(SECOND, 200 * SECOND, OUT_NEAREST), .help = "How often a leader renews."},
    {.path = "cluster.metaEtcd.endpoints", .scope = SCOPE_SYNC, .type = T_ADDRS,
     AT(cluster.etcd.endpoints),
     .help = "etcd servers (3.4 or later), each host:port, http://host:port or https://host:port. "
             "Required when metaEtcd is given.",
     .note = "By flags redisGunYu could not do without etcd; here a group without metaEtcd uses "
             "the source Redis."},
    {.path = "cluster.metaEtcd.username", .scope = SCOPE_SYNC, .type = T_STR,
     AT(cluster.etcd.username), .help = "etcd user."},
    {.path = "cluster.metaEtcd.password", .scope = SCOPE_SYNC, .type = T_SECRET,
     AT(cluster.etcd.password), .help = "etcd password. Better: passwordFile, or ${VARIABLE}."},
    {.path = "cluster.metaEtcd.passwordFile", .scope = SCOPE_SYNC, .type = T_STR,
     AT(cluster.etcd.password_file), .ours = true,
     .help = "File that holds the password; a newline at its end is dropped."},
    {.path = "cluster.metaEtcd.tlsEnable", .scope = SCOPE_SYNC, .type = T_BOOL,
     AT(cluster.etcd.tls.enabled), .ours = true, .def = "false",
     .help = "TLS to endpoints that do not begin with http:// or https://. Given implicitly by a "
             "tls block."},
    {.path = "cluster.metaEtcd.tls.caFile", .scope = SCOPE_SYNC, .type = T_STR,
     AT(cluster.etcd.tls.ca_file), .ours = true, .help = "PEM file of trusted CAs.",
     .def_note = "the system's"},
    {.path = "cluster.metaEtcd.tls.caDir", .scope = SCOPE_SYNC, .type = T_STR,
     AT(cluster.etcd.tls.ca_dir), .ours = true,
     .help = "Directory of trusted CAs (hashed names)."},
    {.path = "cluster.metaEtcd.tls.certFile", .scope = SCOPE_SYNC, .type = T_STR,
     AT(cluster.etcd.tls.cert_file), .ours = true,
     .help = "PEM file of the client certificate chain; needs keyFile."},
    {.path = "cluster.metaEtcd.tls.keyFile", .scope = SCOPE_SYNC, .type = T_STR,
     AT(cluster.etcd.tls.key_file), .ours = true,
     .help = "PEM file of the client key; needs certFile."},
    {.path = "cluster.metaEtcd.tls.serverName", .scope = SCOPE_SYNC, .type = T_STR,
     AT(cluster.etcd.tls.server_name), .ours = true, .help = "Name sent as SNI and verified.",
     .def_note = "the host of the endpoint"},
    {.path = "cluster.metaEtcd.tls.minVersion", .scope = SCOPE_SYNC, .type = T_ENUM,
     AT(cluster.etcd.tls.min_version), .ours = true, .def = "any", .words = tls_versions,
     .help = "Lowest TLS version; any leaves it to the library."},
    {.path = "cluster.metaEtcd.tls.insecureSkipVerify", .scope = SCOPE_SYNC, .type = T_BOOL,
     AT(cluster.etcd.tls.insecure), .ours = true, .def = "false",
     .help = "Do not verify the servers' certificates."},
    {.path = "cluster.metaEtcd.autoSyncInterval", .scope = SCOPE_SYNC, .type = T_MS,
     AT(cluster.etcd.auto_sync_interval_ms), .def = "0s", RANGE(0, DAY, OUT_ERROR),
     .help = "Refresh the list of etcd members this often; 0: never."},
    {.path = "cluster.metaEtcd.dialTimeout", .scope = SCOPE_SYNC, .type = T_MS,
     AT(cluster.etcd.dial_timeout_ms), .def = "10s", RANGE(1, HOUR, OUT_DEFAULT),
     .help = "Time for a request to one etcd server; never more than a sixth of leaseTimeout."},
    {.path = "cluster.metaEtcd.dialKeepAliveTime", .scope = SCOPE_SYNC, .type = T_MS,
     AT(cluster.etcd.dial_keepalive_ms), .def = "0s", RANGE(0, DAY, OUT_ERROR),
     .help = "Probe an idle etcd connection after this; 0: 5s."},
    {.path = "cluster.metaEtcd.dialKeepAliveTimeout", .scope = SCOPE_SYNC, .type = T_MS,
     AT(cluster.etcd.dial_keepalive_timeout_ms), .def = "0s", RANGE(0, DAY, OUT_ERROR),
     .help = "Time between such probes; 0: 2s."},
    {.path = "cluster.metaEtcd.rejectOldCluster", .scope = SCOPE_SYNC, .type = T_IGNORED,
     .help = "Refuse an outdated etcd.", .note = "etcd before 3.4 is refused anyway."},
    {.path = "cluster.metaEtcd.ttl", .scope = SCOPE_SYNC, .type = T_IGNORED,
     .help = "etcd lease.", .note = "leaseTimeout decides."},

    {.path = "log.level", .flag = "log.levelStr", .scope = SCOPE_BOTH, .type = T_ENUM,
     AT(log.level), .def = "info", .words = log_levels, .help = "Least level that is logged.",
     .note = "dpanic, panic and fatal are read as error."},
    {.path = "log.format", .scope = SCOPE_BOTH, .type = T_ENUM, AT(log.format), .ours = true,
     .def = "text", .words = log_formats, .help = "Form of the lines."},
    {.path = "log.stacktraceLevel", .flag = "log.stacktraceLevelStr", .scope = SCOPE_BOTH,
     .alias = "log.StacktraceLevel", .type = T_IGNORED, .help = "Level of Go stack traces.",
     .note = "There are none here."},
    {.path = "log.handler.file.fileName", .scope = SCOPE_BOTH, .type = T_STR, AT(log.file),
     .help = "File to log to.", .def_note = "standard error"},
    {.path = "log.handler.file.maxSize", .scope = SCOPE_BOTH, .type = T_INT, AT(log.max_size_mb),
     .def = "100", RANGE(0, 1 << 20, OUT_ERROR), .help = "Rotate past this many MiB; 0: never."},
    {.path = "log.handler.file.maxBackups", .scope = SCOPE_BOTH, .type = T_INT,
     AT(log.max_backups), .def = "0", RANGE(0, 1 << 20, OUT_ERROR),
     .help = "Rotated files kept; 0: all."},
    {.path = "log.handler.file.maxAge", .scope = SCOPE_BOTH, .type = T_INT, AT(log.max_age_days),
     .def = "0", RANGE(0, 36500, OUT_ERROR),
     .help = "Rotated files older than this many days are removed; 0: never."},
    {.path = "log.handler.stdout", .flag = "log.handler.stdOut", .scope = SCOPE_BOTH,
     .type = T_BOOL, AT(log.to_stderr), .def_note = "true without a file",
     .help = "Log to standard error, beside a file if there is one.",
     .note = "redisGunYu logged to standard output."},
    {.path = "log.withCaller", .flag = "log.caller", .scope = SCOPE_BOTH, .type = T_BOOL,
     AT(log.with_caller), .def = "false", .help = "Source file and line in each line.",
     .note = "redisGunYu documented false and did true."},
    {.path = "log.withFunc", .flag = "log.func", .scope = SCOPE_BOTH, .type = T_IGNORED,
     .help = "Function name in each line.", .note = "withCaller gives file and line."},
    {.path = "log.withModuleName", .flag = "log.moduleName", .scope = SCOPE_BOTH,
     .type = T_IGNORED, .help = "Module name in each line.",
     .note = "Each line names its speaker."},

    {.path = "server.listen", .scope = SCOPE_SYNC, .type = T_STR, AT(server.listen),
     .def = "127.0.0.1:18001", .help = "Where the HTTP API listens: host:port or [v6]:port."},
    {.path = "server.listenPeer", .scope = SCOPE_SYNC, .type = T_STR, AT(server.listen_peer),
     .def_note = "listen", .help = "Where other gunyu processes reach this one."},
    {.path = "server.metricRoutePath", .scope = SCOPE_SYNC, .type = T_STR,
     AT(server.metric_path), .def = "/prometheus", .help = "Path of the metrics."},
    {.path = "server.checkRedisTypologyTicker", .scope = SCOPE_SYNC, .type = T_MS,
     .alias = "server.checkRedisTopologyTicker", AT(server.topology_ticker_ms), .def = "10s",
     RANGE(SECOND, DAY, OUT_NEAREST),
     .help = "How often a cluster or the sentinels are asked who is master of what. They are asked "
             "at once when a connection is lost.",
     .note = "redisGunYu documented a default of 30s and did 10s."},
    {.path = "server.gracefullStopTimeout", .scope = SCOPE_SYNC, .type = T_MS,
     .alias = "server.gracefulStopTimeout", AT(server.graceful_stop_ms), .def = "5s",
     RANGE(SECOND, HOUR, OUT_DEFAULT), .help = "Longest wait for a graceful stop."},
    {.path = "server.token", .scope = SCOPE_SYNC, .type = T_SECRET, AT(server.token),
     .ours = true, .help = "Bearer token that API requests must carry; empty: none."},
    {.path = "server.tokenFile", .scope = SCOPE_SYNC, .type = T_STR, AT(server.token_file),
     .ours = true, .help = "File that holds the token."},
    {.path = "server.metrics.enable", .scope = SCOPE_SYNC, .type = T_BOOL,
     AT(server.metrics_enable), .ours = true, .def = "true", .help = "Serve metrics."},
    {.path = "server.metrics.requireToken", .scope = SCOPE_SYNC, .type = T_BOOL,
     AT(server.metrics_token), .ours = true, .def = "false",
     .help = "Metrics need the token as well."},
    {.path = "server.replication.listen", .scope = SCOPE_SYNC, .type = T_STR,
     AT(server.replication.listen), .ours = true,
     .help = "Where replicas (Redis, Valkey or gunyu) are served out of the journal: host:port or "
             "[v6]:port; port 0 is any free one. Empty: they are not."},
    {.path = "server.replication.password", .scope = SCOPE_SYNC, .type = T_SECRET,
     AT(server.replication.password), .ours = true,
     .help = "Password of replicas (their masterauth), required unless listen is a loopback "
             "address. Their user, if they have one, names the source shard."},
    {.path = "server.replication.passwordFile", .scope = SCOPE_SYNC, .type = T_STR,
     AT(server.replication.password_file), .ours = true,
     .help = "File that holds the password; a newline at its end is dropped."},
    {.path = "server.replication.fullSync", .scope = SCOPE_SYNC, .type = T_ENUM,
     AT(server.replication.full_sync), .ours = true, .def = "serve", .words = serve_full_syncs,
     .help = "A replica that needs a snapshot gets the one that the journal holds (serve). If it "
             "holds none, refresh takes a new one of the source, which loads the target anew as "
             "well; at most one in ten minutes."},
    {.path = "server.replication.tls.certFile", .scope = SCOPE_SYNC, .type = T_STR,
     AT(server.replication.tls.cert_file), .ours = true,
     .help = "PEM file of the server's certificate chain; needs keyFile. With it replicas are "
             "served by TLS only."},
    {.path = "server.replication.tls.keyFile", .scope = SCOPE_SYNC, .type = T_STR,
     AT(server.replication.tls.key_file), .ours = true,
     .help = "PEM file of the server's key; needs certFile."},
    {.path = "server.replication.tls.caFile", .scope = SCOPE_SYNC, .type = T_STR,
     AT(server.replication.tls.ca_file), .ours = true,
     .help = "PEM file of the CAs whose certificates replicas must show.",
     .def_note = "they need none"},
    {.path = "server.replication.tls.caDir", .scope = SCOPE_SYNC, .type = T_STR,
     AT(server.replication.tls.ca_dir), .ours = true,
     .help = "Directory of such CAs (hashed names)."},
    {.path = "server.replication.tls.minVersion", .scope = SCOPE_SYNC, .type = T_ENUM,
     AT(server.replication.tls.min_version), .ours = true, .def = "any", .words = tls_versions,
     .help = "Lowest TLS version; any is 1.2."},
};
// clang-format on
const size_t schema_rows_n = sizeof(schema_rows) / sizeof(schema_rows[0]);

const struct schema_section_alias schema_section_aliases[] = {
    {"channel.storer.flush", "channel.storer.flushPolicy"},
    {"filter", "output.filter"},
};
const size_t schema_section_aliases_n =
    sizeof(schema_section_aliases) / sizeof(schema_section_aliases[0]);

const struct schema_refused schema_refused[] = {
    {"output.replay.replaceHashTag", "true", "changing the names of keys"},
    {"load.replay.replaceHashTag", "true", "changing the names of keys"},
    {"output.replay.bisyncEnabled", "true", "sync in both directions"},
    {"load.replay.bisyncEnabled", "true", "sync in both directions"},
    {"output.replay.mode", "parallel", "replay in parallel lanes"},
    {"load.replay.mode", "parallel", "replay in parallel lanes"},
};
const size_t schema_refused_n = sizeof(schema_refused) / sizeof(schema_refused[0]);

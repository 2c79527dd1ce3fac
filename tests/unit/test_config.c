// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/mem.h"
#include "control/config.h"
#include "control/schema.h"

#define BOTH                                                                                       \
    "input: {redis: {addresses: [127.0.0.1:6379]}}\n"                                              \
    "output:\n  redis: {addresses: [127.0.0.1:6380]}\n"

struct loaded {
    struct config *c;
    struct config_diags d;
    int rc;
};

static struct loaded load_scope(enum config_scope scope, const char *text)
{
    struct loaded l = {0};
    l.rc = config_load_text(&l.c, scope, "t.yaml", slice_cstr(text), &l.d);
    return l;
}

static struct loaded load(const char *text)
{
    return load_scope(CONFIG_SYNC, text);
}

static struct loaded load_flags(enum config_scope scope, const char *file, char **flags, int n)
{
    struct loaded l = {0};
    struct config_sources src = {.file = file, .flags = flags, .flags_n = n};
    l.rc = config_build(&l.c, scope, &src, &l.d);
    return l;
}

static void done(struct loaded *l)
{
    config_free(l->c);
    config_diags_free(&l->d);
}

static void must_load(const struct loaded *l)
{
    if (l->rc) {
        config_diags_print(&l->d, stderr);
        fail_msg("did not load");
    }
}

static const struct config_diag *find(const struct loaded *l, enum diag_severity s,
                                      const char *part)
{
    for (size_t i = 0; i < l->d.n; i++)
        if (l->d.v[i].severity == s && strstr(l->d.v[i].text, part))
            return &l->d.v[i];
    return NULL;
}

static void has_error(const struct loaded *l, const char *part)
{
    assert_int_equal(l->rc, ERR_CONFIG);
    assert_null(l->c);
    if (!find(l, DIAG_ERROR, part)) {
        config_diags_print(&l->d, stderr);
        fail_msg("no error with: %s", part);
    }
}

static void has_warning(const struct loaded *l, const char *part)
{
    must_load(l);
    if (!find(l, DIAG_WARNING, part)) {
        config_diags_print(&l->d, stderr);
        fail_msg("no warning with: %s", part);
    }
}

static char *temp_file(const char *text, mode_t mode)
{
    char *path = xstrdup("/tmp/gunyu-test-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    return path;
}

static void drop_file(char *path)
{
    unlink(path);
    free(path);
}

static void every_row_is_well_formed_and_finds_itself(void **state)
{
    (void)state;
    for (size_t i = 0; i < schema_rows_n; i++) {
        const struct schema_row *r = &schema_rows[i];
        assert_non_null(r->help);
        assert_true(r->type != T_IGNORED || r->note);
        assert_true(r->type != T_ENUM || r->words);
        assert_true(r->min <= r->max);
        for (int s = CONFIG_SYNC; s <= CONFIG_RDB; s++) {
            if (!(r->scope & schema_scope((enum config_scope)s)))
                continue;
            enum config_scope scope = (enum config_scope)s;
            char lower[256];
            snprintf(lower, sizeof(lower), "%s", r->path);
            for (char *p = lower; *p; p++)
                if (*p >= 'A' && *p <= 'Z')
                    *p = (char)(*p + 32);
            assert_int_equal(schema_find(r->path, scope), (int)i);
            assert_int_equal(schema_find(lower, scope), (int)i);
            assert_int_equal(schema_find_flag(r->flag ? r->flag : r->path, scope), (int)i);
            assert_int_equal(schema_find_flag(r->path, scope), (int)i);
        }
    }
    for (size_t i = 0; i < schema_refused_n; i++)
        assert_true(schema_row_index(schema_refused[i].path, CONFIG_SYNC) >= 0 ||
                    schema_row_index(schema_refused[i].path, CONFIG_RDB) >= 0);
}

static void minimal_file_needs_no_channel_and_gets_the_documented_defaults(void **state)
{
    (void)state;
    struct loaded l = load(BOTH);
    must_load(&l);
    const struct config *c = l.c;
    assert_int_equal(l.d.n, 0);
    assert_int_equal(c->input.redis.endpoints_n, 1);
    assert_string_equal(c->input.redis.endpoints[0].host, "127.0.0.1");
    assert_int_equal(c->output.redis.endpoints[0].port, 6380);
    assert_int_equal(c->input.rdb_parallel, 100);
    assert_int_equal(c->input.sync_from, SYNC_NODE);
    assert_string_equal(c->input.psync_command, "PSYNC");
    assert_true(c->output.replay.resume);
    assert_int_equal(c->output.replay.target_db, -1);
    assert_int_equal(c->output.replay.batch_cmd_count, 0);
    assert_int_equal(c->output.replay.keepalive_ticker_ms, 3000);
    assert_true(c->output.replay.transaction);
    assert_true(c->output.replay.enable_restore);
    assert_true(c->output.replay.stats_log);
    assert_true(c->output.replay.expiry_guard);
    assert_int_equal(c->output.replay.max_proto_bulk_len, INT64_C(512) << 20);
    assert_int_equal(c->output.replay.on_error, ON_ERROR_STOP);
    assert_int_equal(c->channel.type, JOURNAL_STORER);
    assert_int_equal(c->channel.storer_max_size, INT64_C(50) << 30);
    assert_int_equal(c->channel.memory_max_size, INT64_C(512) << 20);
    assert_int_equal(c->channel.stale_checkpoint_ms, 12 * 3600 * 1000);
    assert_true(c->channel.flush.auto_flush);
    assert_non_null(c->channel.dir_path);
    assert_string_equal(c->output.replay.dead_letter_dir, c->channel.dir_path);
    assert_string_equal(c->server.listen, "127.0.0.1:18001");
    assert_string_equal(c->server.listen_peer, "127.0.0.1:18001");
    assert_int_equal(c->server.topology_ticker_ms, 10000);
    assert_int_equal(c->server.graceful_stop_ms, 5000);
    assert_int_equal(c->log.level, LOG_INFO);
    assert_true(c->log.to_stderr);
    assert_int_equal(c->cluster.lease_renew_ms, 3333);
    assert_int_equal(config_validate(c, &l.d), 0);
    done(&l);
}

static void bug_45_typos_are_errors_with_their_place_and_the_nearest_name(void **state)
{
    (void)state;
    struct loaded l = load("input:\n"
                           "  redis:\n"
                           "    addresses: [a:1]\n"
                           "    type: standalon\n"
                           "  mod: static\n"
                           "output:\n"
                           "  redis:\n"
                           "    adresses: [b:1]\n"
                           "  replay:\n"
                           "    keyExists: replce\n"
                           "    batchCmdCount: many\n"
                           "  keyExistsLog: true\n"
                           "chanel: {}\n"
                           "channel: 5\n");
    has_error(&l, "expected one of standalone, cluster, sentinel, not \"standalon\"");
    has_error(&l, "unknown key \"mod\" in input; did you mean \"mode\"?");
    has_error(&l, "unknown key \"adresses\" in output.redis; did you mean \"addresses\"?");
    has_error(&l, "expected one of replace, ignore, error, not \"replce\"");
    has_error(&l, "batchCmdCount: expected a whole number, not \"many\"");
    has_error(&l, "did you mean \"output.replay.keyExistsLog\"?");
    has_error(&l, "did you mean \"channel\"?");
    has_error(&l, "channel: expected a mapping, not a single value");
    has_error(&l, "output.redis.addresses is required");
    assert_int_equal(l.d.errors, 9);
    const struct config_diag *g = find(&l, DIAG_ERROR, "standalon\"");
    assert_string_equal(g->file, "t.yaml");
    assert_int_equal(g->line, 4);
    assert_int_equal(g->col, 11);
    done(&l);
}

static void both_spellings_work_where_documentation_and_code_disagree(void **state)
{
    (void)state;
    static const char *const files[] = {
        BOTH
        "channel:\n  verifyCrc: true\n  storer:\n    flush: {everyWrite: true, dirtySize: 7}\n",
        BOTH "channel:\n  verifycrc: true\n  storer:\n"
             "    flushPolicy: {everywrite: true, dirtysize: 7}\n",
        BOTH
        "channel:\n  verifycrc: true\n  storer:\n    flush: {everywrite: true, dirtySize: 7}\n",
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        struct loaded l = load(files[i]);
        must_load(&l);
        assert_true(l.c->channel.verify_crc);
        assert_true(l.c->channel.flush.every_write);
        assert_false(l.c->channel.flush.auto_flush);
        assert_int_equal(l.c->channel.flush.dirty_size, 7);
        done(&l);
    }
    static const char *const prints[] = {"noLogKey: true, noLogValue: true",
                                         "nologkey: true, nologvalue: true"};
    for (size_t i = 0; i < 2; i++) {
        char text[256];
        snprintf(text, sizeof(text), "action: print\nrdbPath: /x\nprint: {%s}\n", prints[i]);
        struct loaded l = load_scope(CONFIG_RDB, text);
        must_load(&l);
        assert_true(l.c->rdb.print_no_key && l.c->rdb.print_no_value);
        done(&l);
    }
}

static void keys_without_effect_are_accepted_with_a_warning(void **state)
{
    (void)state;
    struct loaded l = load(BOTH "  replay: {metric: true}\n"
                                "log: {withFunc: false, StacktraceLevel: panic}\n"
                                "cluster: {metaEtcd: {endpoints: 'a:1', ttl: 5}}\n");
    has_warning(&l, "output.replay.metric has no effect");
    has_warning(&l, "log.withFunc has no effect");
    has_warning(&l, "log.stacktraceLevel has no effect");
    has_warning(&l, "cluster.metaEtcd.ttl has no effect");
    assert_true(l.c->cluster.etcd.present);
    done(&l);
}

static void single_values_are_lists_of_one_and_commas_separate(void **state)
{
    (void)state;
    struct loaded l = load_scope(CONFIG_RDB, "action: load\n"
                                             "rdbPath: /tmp/test.rdb\n"
                                             "load:\n"
                                             "  redis:\n"
                                             "    addresses: 127.0.0.1:6379,127.0.0.1:6479\n"
                                             "  filter:\n"
                                             "    dbBlacklist: 1\n"
                                             "    keyFilter:\n"
                                             "      prefixKeyBlacklist: a,b\n"
                                             "    slotFilter:\n"
                                             "      keySlotWhitelist: [[0, 1000], [1002], 7]\n");
    must_load(&l);
    const struct output_config *o = &l.c->rdb.load;
    assert_int_equal(o->redis.endpoints_n, 2);
    assert_int_equal(o->redis.endpoints[1].port, 6479);
    assert_int_equal(o->filter.db_blacklist.n, 1);
    assert_int_equal(o->filter.db_blacklist.v[0], 1);
    assert_int_equal(o->filter.key_prefix_blacklist.n, 1);
    assert_string_equal(o->filter.key_prefix_blacklist.v[0], "a,b");
    assert_int_equal(o->filter.slot_whitelist.n, 3);
    assert_int_equal(o->filter.slot_whitelist.v[0].to, 1000);
    assert_int_equal(o->filter.slot_whitelist.v[1].from, 1002);
    assert_int_equal(o->filter.slot_whitelist.v[2].to, 7);
    done(&l);
}

static void what_tunes_the_pools_of_gunyu_is_said_to_have_no_effect(void **state)
{
    (void)state;
    static const char pool[] = "type: cluster, keepAlive: 8, aliveTime: 2m, "
                               "clusterOptions: {handleMoveErr: true, handleAskErr: false}";
    static const char *const keys[] = {"keepAlive", "aliveTime", "clusterOptions.handleMoveErr",
                                       "clusterOptions.handleAskErr"};
    char *text = xasprintf("input: {redis: {addresses: [a:1], %s}}\n"
                           "output: {redis: {addresses: [b:1], %s}}\n",
                           pool, pool);
    struct loaded l = load(text);
    must_load(&l);
    assert_int_equal(l.d.n, 8);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        char want[128];
        snprintf(want, sizeof(want), "input.redis.%s has no effect", keys[i]);
        has_warning(&l, want);
        snprintf(want, sizeof(want), "output.redis.%s has no effect", keys[i]);
        has_warning(&l, want);
    }
    done(&l);
    free(text);
}

static void numbers_that_gunyu_moved_silently_are_moved_with_a_warning(void **state)
{
    (void)state;
    struct loaded l = load("input: {rdbParallel: 0, redis: {addresses: [a:1], keepAlive: -3, "
                           "aliveTime: 5s}}\n"
                           "output:\n"
                           "  redis: {addresses: [b:1]}\n"
                           "  replay: {batchTicker: 11s, keepaliveTicker: 1s, maxProtoBulkLen: -1, "
                           "replayRdbParallel: 0, stats: {logInterval: 10ms}}\n"
                           "channel: {staleCheckpointDuration: 1s, memory: {maxSize: 1mb, "
                           "logSize: 2mb}, storer: {flushPolicy: {duration: 5ms}}}\n"
                           "server: {checkRedisTypologyTicker: 1ms, gracefullStopTimeout: 0s}\n"
                           "cluster: {leaseTimeout: 1s, leaseRenewInterval: 100s}\n");
    must_load(&l);
    const struct config *c = l.c;
    assert_int_equal(c->input.rdb_parallel, 100);
    assert_int_equal(c->output.replay.keepalive_ticker_ms, 3000);
    assert_int_equal(c->output.replay.max_proto_bulk_len, INT64_C(512) << 20);
    assert_int_equal(c->output.replay.stats_log_interval_ms, 5000);
    assert_int_equal(c->channel.stale_checkpoint_ms, 300000);
    assert_int_equal(c->channel.memory_log_size, 1 << 20);
    assert_int_equal(c->channel.flush.duration_ms, 100);
    assert_int_equal(c->server.topology_ticker_ms, 1000);
    assert_int_equal(c->server.graceful_stop_ms, 5000);
    assert_int_equal(c->cluster.lease_timeout_ms, 3000);
    assert_int_equal(c->cluster.lease_renew_ms, 1000);
    has_warning(&l, "output.replay.stats.logInterval: 10ms is out of range; 5s is used");
    assert_int_equal(l.d.n, 15);
    assert_int_equal(l.d.errors, 0);
    done(&l);
}

static void batch_limits_keep_what_the_user_says(void **state)
{
    (void)state;
    struct loaded l = load(BOTH "  replay: {batchCmdCount: 5000, batchBufferSize: 1mb}\n");
    must_load(&l);
    assert_int_equal(l.c->output.replay.batch_cmd_count, 5000);
    assert_int_equal(l.c->output.replay.batch_buffer_size, 1 << 20);
    done(&l);
    l = load(BOTH "  replay: {batchBufferSize: 100MiB}\n");
    has_error(&l, "batchBufferSize: 104857600 is outside of 0 to 104857599");
    done(&l);
}

static void durations_follow_go(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"10s", 10000},    {"1h30m", 5400000},    {"1.5s", 1500},
                {"100us", 1},      {"2500us", 3},         {"0", 0},
                {"0s", 0},         {"1d", 86400000},      {"500000000", 500},
                {"1m0.5s", 60500}, {"604800s", 604800000}};
    static const char *const bad[] = {
        "x", "1h-3m", "5 s", "s", ".s", "1..5s", "99999999999999999999999h", "1e9s", "--1s", ""};
    int row = schema_row_index("output.replay.expiryMargin", CONFIG_SYNC);
    struct config *c = config_default(CONFIG_SYNC);
    struct err e = {0};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(schema_set(c, &schema_rows[row], good[i].text, &e), 0);
        assert_int_equal(c->output.replay.expiry_margin_ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(schema_set(c, &schema_rows[row], bad[i], &e), ERR_CONFIG);
    config_free(c);
}

static void environment_fills_in_and_a_missing_variable_is_an_error(void **state)
{
    (void)state;
    setenv("GUNYU_TEST_PW", "s3:cret, x", 1);
    unsetenv("GUNYU_TEST_NONE");
    struct loaded l = load(
        "input: {redis: {addresses: [a:1], password: '${GUNYU_TEST_PW}'}}\n"
        "output: {redis: {addresses: [b:1], userName: 'x${GUNYU_TEST_PW}y', password: '$${Z}'}}\n");
    must_load(&l);
    assert_string_equal(l.c->input.redis.endpoints[0].password, "s3:cret, x");
    assert_string_equal(l.c->output.redis.user_name, "xs3:cret, xy");
    assert_string_equal(l.c->output.redis.password, "${Z}");
    done(&l);
    l = load(BOTH "log:\n  level: ${GUNYU_TEST_NONE}\n");
    has_error(&l, "environment variable GUNYU_TEST_NONE is not set");
    done(&l);
    l = load(BOTH "log:\n  level: ${bad name}\n");
    has_error(&l, "malformed ${...}");
    done(&l);
}

static void password_file_is_read_without_its_newline_and_watched_for_others(void **state)
{
    (void)state;
    char *open_file = temp_file("pa ss\r\n\n", 0644), *closed = temp_file("other", 0600);
    char *text = xasprintf("input: {redis: {addresses: [a:1], passwordFile: %s}}\n"
                           "output: {redis: {addresses: [b:1], passwordFile: %s}}\n"
                           "server: {tokenFile: %s}\n",
                           open_file, closed, closed);
    struct loaded l = load(text);
    has_warning(&l, "can be read by everyone");
    assert_int_equal(l.d.n, 1);
    assert_string_equal(l.c->input.redis.endpoints[0].password, "pa ss");
    assert_string_equal(l.c->output.redis.endpoints[0].password, "other");
    assert_string_equal(l.c->server.token, "other");
    done(&l);
    free(text);
    drop_file(open_file);
    l = load("input: {redis: {addresses: [a:1], passwordFile: /nonexistent/x, password: y}}\n"
             "output: {redis: {addresses: [b:1], passwordFile: /nonexistent/z}}\n");
    has_error(&l, "give password or passwordFile, not both");
    has_error(&l, "/nonexistent/z cannot be opened: No such file or directory");
    done(&l);
    drop_file(closed);
}

static void secrets_never_reach_findings_or_shown_configurations(void **state)
{
    (void)state;
    struct loaded l = load("input: {redis: {addresses: ['redis://u:hunter2@h:99999'], "
                           "password: [hunter2]}}\n"
                           "output: {redis: {addresses: ['rediss://u:hunter2@h:1?x=hunter2', "
                           "'u:hunter2@h'], password: {a: hunter2}}}\n"
                           "server: {token: hunter2, tokenFile: /nonexistent}\n");
    assert_int_equal(l.rc, ERR_CONFIG);
    assert_true(l.d.errors >= 5);
    for (size_t i = 0; i < l.d.n; i++)
        assert_null(strstr(l.d.v[i].text, "hunter2"));
    done(&l);

    l = load("input: {redis: {addresses: ['redis://u:hunter2@h:1'], password: hunter2}}\n"
             "output: {redis: {addresses: ['unix:///x?db=3'], password: hunter2}}\n"
             "server: {token: hunter2}\n"
             "cluster: {metaEtcd: {endpoints: ['http://u:hunter2@h:1'], password: hunter2}}\n");
    must_load(&l);
    struct buf out = {0};
    config_to_yaml(l.c, true, &out);
    config_to_json(l.c, true, &out);
    assert_null(strstr(buf_cstr(&out), "hunter2"));
    assert_non_null(strstr(buf_cstr(&out), "password: \"***\""));
    assert_non_null(strstr(buf_cstr(&out), "redis://***@h:1"));
    buf_clear(&out);
    config_to_yaml(l.c, false, &out);
    assert_non_null(strstr(buf_cstr(&out), "hunter2"));
    buf_free(&out);
    done(&l);
}

static void addresses_take_uris_and_the_block_fills_in_the_rest(void **state)
{
    (void)state;
    struct loaded l = load(
        "input: {redis: {addresses: ['[::1]:7000', 'redis://bob:pw%40x@h:7001', 'rediss://t', "
        "'unix:///run/r.sock'], userName: u, password: p, tls: {serverName: sni, minVersion: 1.3}, "
        "tlsEnable: false}}\n"
        "output: {redis: {addresses: [a:1, b:1, c:1, 'redis://d:1/7'], tls: {minVersion: 1.2}}}\n");
    has_warning(&l, "input.redis.tls has no effect with tlsEnable: false");
    const struct endpoint *ep = l.c->input.redis.endpoints;
    assert_string_equal(ep[0].host, "::1");
    assert_string_equal(ep[0].user, "u");
    assert_string_equal(ep[0].password, "p");
    assert_false(ep[0].tls.enabled);
    assert_string_equal(ep[1].user, "bob");
    assert_string_equal(ep[1].password, "pw@x");
    assert_true(ep[2].tls.enabled);
    assert_false(ep[2].tls.insecure);
    assert_string_equal(ep[2].tls.server_name, "sni");
    assert_int_equal(ep[2].tls.min_version, TLS_1_3);
    assert_string_equal(ep[3].path, "/run/r.sock");
    assert_true(l.c->output.redis.endpoints[0].tls.enabled);
    assert_int_equal(l.c->output.redis.endpoints[3].db, 0);
    assert_int_equal(l.c->output.replay.target_db, 7);
    done(&l);
}

static void target_db_works_together_with_resuming(void **state)
{
    (void)state;
    struct loaded l = load(BOTH "  replay: {resumeFromBreakPoint: true, targetDb: 3}\n");
    must_load(&l);
    assert_int_equal(l.d.n, 0);
    assert_true(l.c->output.replay.resume);
    assert_int_equal(l.c->output.replay.target_db, 3);
    done(&l);
    // redisGunYu threw the user's value away when resumeFromBreakPoint was absent.
    l = load(BOTH "  replay: {targetDb: 3, targetDbMap: {0: 1}}\n");
    has_warning(&l, "targetDbMap has no effect beside targetDb: 3");
    assert_int_equal(l.c->output.replay.target_db, 3);
    done(&l);
}

static void contradictions_are_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } cases[] = {
        {BOTH "  replay: {enableAofPipeline: true, mode: sync}\n",
         "contradicts output.replay.mode"},
        {BOTH "  replay: {mode: parallel}\n", "needs output.replay.bisyncEnabled"},
        {BOTH "  replay: {deadLetterDir: a, deadLetterFile: b}\n", "not both"},
        {BOTH "channel: {storer: {flush: {auto: true, everyWrite: true}}}\n",
         "auto: true contradicts"},
        {BOTH "server: {listen: nohost}\n", "server.listen: expected host:port"},
        {BOTH "server: {listen: 'a:b:1'}\n", "server.listen: expected host:port"},
        {BOTH "cluster: {groupName: g, metaEtcd: {username: x}}\n",
         "metaEtcd.endpoints is required"},
        {BOTH "cluster: {groupName: a/b}\n", "must not be empty or hold a '/'"},
        {BOTH "cluster: {groupName: g, metaEtcd: {endpoints: e, password: a, passwordFile: b}}\n",
         "cluster.metaEtcd: give password or passwordFile, not both"},
        {BOTH "cluster: {groupName: g, metaEtcd: {endpoints: e, tls: {keyFile: /nonexistent}}}\n",
         "certFile and keyFile belong together"},
        {BOTH "  replay: {targetDbMap: {0: 1, 0: 2}}\n", "db 0 is mapped twice"},
        {BOTH "  filter: {commandGroupBlacklist: [strng]}\n", "no command is in the group"},
        {BOTH "  filter: {slotFilter: {keySlotBlacklist: [[5, 1]]}}\n", "not a range"},
        {BOTH "  filter: {slotFilter: {keySlotBlacklist: [[1, 2, 3]]}}\n", "a range is"},
        {BOTH "input: {}\n", "section input is given twice"},
        {BOTH "channel: {verifyCrc: true, verifycrc: true}\n", "is given twice"},
        {"input: {redis: {addresses: [a:1]}}\noutput: {redis: {addresses: [a:1]}}\n",
         "both source and target"},
        {"input: {redis: {addresses: [a:1, b:1]}}\noutput: {redis: {addresses: [c:1, d:1, e:1]}}\n",
         "there are 2 and 3"},
        {"input: {redis: {version: seven, addresses: [a:1]}}\noutput: {redis: {addresses: "
         "[c:1]}}\n",
         "input.redis.version"},
        {"input: {redis: {addresses: ['redis://a:1/2']}}\noutput: {redis: {addresses: [c:1]}}\n",
         "dbWhitelist: [2]"},
        {"input: {redis: {addresses: []}}\noutput: {redis: {addresses: [c:1]}}\n",
         "names no server"},
        {"input: {redis: {addresses: [a:1], tls: {certFile: /nonexistent}}}\n"
         "output: {redis: {addresses: [c:1]}}\n",
         "certFile and keyFile belong together"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct loaded l = load(cases[i].text);
        has_error(&l, cases[i].error);
        done(&l);
    }
}

static void legacy_pipeline_switch_sets_the_mode(void **state)
{
    (void)state;
    struct loaded l = load(BOTH "  replay: {enableAofPipeline: true}\n");
    must_load(&l);
    assert_int_equal(l.c->output.replay.mode, REPLAY_PIPELINE);
    done(&l);
}

static void what_is_not_available_is_refused_by_name_and_only_by_validate(void **state)
{
    (void)state;
    struct loaded l = load("input: {redis: {addresses: [a:1], type: cluster}}\n"
                           "output: {redis: {addresses: [b:1], type: cluster}, "
                           "replay: {bisyncEnabled: true, mode: parallel}}\n");
    must_load(&l);
    assert_int_equal(config_validate(l.c, &l.d), ERR_CONFIG);
    assert_int_equal(l.d.errors, 2);
    assert_non_null(find(&l, DIAG_ERROR, "not available in this version"));
    done(&l);
}

static void sentinels_and_the_servers_have_each_their_own_login(void **state)
{
    (void)state;
    struct loaded l =
        load("input: {redis: {type: sentinel, addresses: [a:1, 'rediss://:own@b:2'], "
             "userName: u, password: data, tls: {insecureSkipVerify: true}, "
             "sentinelOptions: {masterName: mymaster, userName: su, password: sentinel}}}\n"
             "output: {redis: {addresses: [c:1]}}\n");
    must_load(&l);
    assert_int_equal(config_validate(l.c, &l.d), 0);
    const struct redis_config *r = &l.c->input.redis;
    assert_string_equal(r->sentinel.master_name, "mymaster");
    assert_string_equal(r->data.user, "u");
    assert_string_equal(r->data.password, "data");
    assert_true(r->data.tls.enabled && r->data.tls.insecure);
    assert_int_equal(r->endpoints_n, 2);
    assert_string_equal(r->endpoints[0].user, "su");
    assert_string_equal(r->endpoints[0].password, "sentinel");
    assert_false(r->endpoints[0].tls.enabled);
    assert_string_equal(r->endpoints[1].password, "own");
    assert_true(r->endpoints[1].tls.enabled && r->endpoints[1].tls.insecure);
    done(&l);
}

static void one_deployment_goes_to_one_target(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error; // NULL: it is right
    } cases[] = {
        {"input: {redis: {type: sentinel, addresses: [a:1]}}\noutput: {redis: {addresses: "
         "[b:1]}}\n",
         "input.redis.sentinelOptions.masterName is required"},
        {"input: {redis: {type: cluster, addresses: [a:1, a:2]}}\n"
         "output: {redis: {addresses: [b:1, b:2]}}\n",
         "a cluster source goes to one standalone target, but there are 2"},
        {"input: {redis: {type: cluster, addresses: [a:1]}}\n"
         "output: {redis: {addresses: [b:1]}, replay: {fullSyncFlush: flushdb}}\n",
         "would empty the target of what the other shards have written"},
        {"input: {redis: {type: cluster, addresses: [a:1]}}\n"
         "output: {redis: {addresses: [b:1]}, replay: {extraKeys: delete}}\n",
         NULL},
        {"input: {redis: {addresses: [a:1, a:2]}}\n"
         "output: {redis: {addresses: [b:1, b:2]}, replay: {extraKeys: delete}}\n",
         NULL},
        {"input: {redis: {addresses: [a:1, a:2]}}\n"
         "output: {redis: {addresses: [b:1]}, replay: {extraKeys: delete}}\n",
         "output.replay.extraKeys: delete is not possible: the full sync of one source would "},
        {"input: {redis: {addresses: [a:1, a:2]}}\n"
         "output: {redis: {type: cluster, addresses: [b:1, b:2]}, replay: {extraKeys: delete}}\n",
         "output.replay.extraKeys: delete is not possible: the full sync of one source would "},
        {"input: {redis: {addresses: [a:1]}}\n"
         "output: {redis: {addresses: [b:1]}, replay: {extraKeys: delete, keyExists: ignore}}\n",
         "output.replay.extraKeys: delete is not possible: it needs keyExists: replace"},
        {"input: {redis: {type: sentinel, addresses: [a:1], sentinelOptions: {masterName: m}}}\n"
         "output: {redis: {type: sentinel, addresses: [a:1], sentinelOptions: {masterName: m}}}\n",
         "a:1 is both source and target"},
        {"input: {redis: {type: sentinel, addresses: [a:1], sentinelOptions: {masterName: m}}}\n"
         "output: {redis: {type: sentinel, addresses: [a:1], sentinelOptions: {masterName: n}}}\n",
         NULL},
        {"input: {redis: {addresses: [x:1, y:1]}}\n"
         "output: {redis: {type: sentinel, addresses: [a:1, a:2, a:3], "
         "sentinelOptions: {masterName: n}}}\n",
         NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct loaded l = load(cases[i].text);
        if (cases[i].error)
            has_error(&l, cases[i].error);
        else
            must_load(&l);
        done(&l);
    }
}

static void sentinel_options_without_the_type_are_a_warning(void **state)
{
    (void)state;
    struct loaded l = load("input: {redis: {addresses: [a:1], sentinelOptions: {masterName: m}}}\n"
                           "output: {redis: {addresses: [b:1]}}\n");
    must_load(&l);
    has_warning(&l, "has no effect without type: sentinel");
    done(&l);
}

// Its snapshot got the new names and its stream the old ones; renaming is refused until both agree.
static void bug_27_hash_tags_are_not_replaced_in_one_half_only(void **state)
{
    (void)state;
    struct loaded l = load(BOTH "  replay: {replaceHashTag: true}\n");
    must_load(&l);
    assert_int_equal(config_validate(l.c, &l.d), ERR_CONFIG);
    assert_non_null(find(&l, DIAG_ERROR, "output.replay.replaceHashTag"));
    done(&l);
}

static void a_standalone_source_is_read_itself_unless_said_otherwise(void **state)
{
    (void)state;
    struct loaded l = load(BOTH);
    must_load(&l);
    assert_int_equal(l.c->input.sync_from, SYNC_NODE);
    done(&l);
    l = load("input: {syncFrom: prefer_slave, redis: {addresses: [a:1]}}\n"
             "output: {redis: {addresses: [b:1]}}\n");
    must_load(&l);
    assert_int_equal(l.c->input.sync_from, SYNC_PREFER_SLAVE);
    done(&l);
    l = load("input: {redis: {addresses: [a:1], type: cluster}}\n"
             "output: {redis: {addresses: [b:1]}}\n");
    must_load(&l);
    assert_int_equal(l.c->input.sync_from, SYNC_PREFER_SLAVE);
    done(&l);
}

static void broken_files_are_one_clear_error(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "a: [", "- 1\n", "\xff\xfe\x01", "a: b: c", "x\0y", "# only a comment\n"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct loaded l = load(texts[i]);
        assert_int_equal(l.rc, ERR_CONFIG);
        assert_int_equal(l.d.n, 1);
        done(&l);
    }
    struct loaded l = load(BOTH "---\nb: 1\n");
    has_error(&l, "a second YAML document");
    done(&l);
    l.rc = config_load_file(&l.c, CONFIG_SYNC, "/nonexistent.yaml", &l.d);
    has_error(&l, "cannot be opened: No such file or directory");
    assert_int_equal(l.d.n, 1);
    done(&l);
}

static void hostile_repetition_stops_at_a_bounded_number_of_errors(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < 20000; i++)
        buf_printf(&b, "k%d: 1\n", i);
    struct loaded l = load(buf_cstr(&b));
    assert_int_equal(l.rc, ERR_CONFIG);
    assert_true(l.d.n < 200);
    done(&l);
    buf_free(&b);
}

static void flags_work_as_redisgunyu_named_them(void **state)
{
    (void)state;
    char *flags[] = {
        xstrdup("--sync.input.redis.addresses=127.0.0.1:6379"),
        xstrdup("-sync.output.redis.addresses"),
        xstrdup("127.0.0.1:6380"),
        xstrdup("--sync.channel.verifyCrc"),
        xstrdup("--sync.channel.storer.flush.everyWrite=true"),
        xstrdup("--sync.output.replay.targetDbCfg"),
        xstrdup("4"),
        xstrdup("--sync.output.replay.legacyAofPipelineMode"),
        xstrdup("true"),
        xstrdup("--sync.output.filter.cmdBlacklist=DEL,Set"),
        xstrdup("--sync.output.filter.slotFilter.keySlotWhitelist=[0,1000],[1002]"),
        xstrdup("--sync.log.levelStr=warn"),
        xstrdup("--sync.log.handler.stdOut=false"),
        xstrdup("--sync.log.caller"),
        xstrdup("--sync.output.replay.keepaliveTicker=20s"),
    };
    int n = (int)(sizeof(flags) / sizeof(flags[0]));
    struct loaded l = load_flags(CONFIG_SYNC, NULL, flags, n);
    must_load(&l);
    const struct config *c = l.c;
    assert_int_equal(l.d.n, 0);
    assert_int_equal(c->output.redis.endpoints[0].port, 6380);
    assert_true(c->channel.verify_crc && c->channel.flush.every_write);
    assert_int_equal(c->output.replay.target_db, 4);
    assert_int_equal(c->output.replay.mode, REPLAY_PIPELINE);
    assert_int_equal(c->output.filter.command_blacklist.n, 2);
    assert_string_equal(c->output.filter.command_blacklist.v[1], "set");
    assert_int_equal(c->output.filter.slot_whitelist.n, 2);
    assert_int_equal(c->output.filter.slot_whitelist.v[1].to, 1002);
    assert_int_equal(c->log.level, LOG_WARN);
    assert_false(c->log.to_stderr);
    assert_true(c->log.with_caller);
    assert_int_equal(c->output.replay.keepalive_ticker_ms, 20000);
    done(&l);
    for (int i = 0; i < n; i++)
        free(flags[i]);
}

static char *with_addresses[8] = {(char[]){"--sync.input.redis.addresses=a:1"},
                                  (char[]){"--sync.output.redis.addresses=b:1"}};

static struct loaded one_flag(char *flag, char *value)
{
    char *flags[4] = {with_addresses[0], with_addresses[1], flag, value};
    return load_flags(CONFIG_SYNC, NULL, flags, value ? 4 : 3);
}

static void bug_40_flags_exist_for_numbers_and_maps_and_groups_need_no_etcd(void **state)
{
    (void)state;
    char count[] = "--sync.output.replay.batchCmdCount=300";
    struct loaded l = one_flag(count, NULL);
    must_load(&l);
    assert_int_equal(l.c->output.replay.batch_cmd_count, 300);
    done(&l);
    char map[] = "--sync.output.replay.targetDbMap", value[] = "{\"0\":1,\"2\":3}";
    l = one_flag(map, value);
    must_load(&l);
    assert_int_equal(l.c->output.replay.target_db_map.n, 2);
    assert_int_equal(l.c->output.replay.target_db_map.v[1].to, 3);
    done(&l);
    char group[] = "--sync.cluster.groupName=g";
    l = one_flag(group, NULL);
    must_load(&l);
    assert_false(l.c->cluster.etcd.present);
    done(&l);
}

static void etcd_gets_tls_by_its_block(void **state)
{
    (void)state;
    struct loaded l = load(BOTH "cluster: {groupName: g, metaEtcd: {endpoints: 'e:1', "
                                "tls: {serverName: n}}}\n");
    must_load(&l);
    assert_true(l.c->cluster.etcd.present);
    assert_true(l.c->cluster.etcd.tls.enabled);
    done(&l);
    l = load(BOTH "cluster: {groupName: g, metaEtcd: {endpoints: 'e:1'}}\n");
    must_load(&l);
    assert_false(l.c->cluster.etcd.tls.enabled);
    done(&l);
}

static void wrong_flags_are_errors(void **state)
{
    (void)state;
    static const struct {
        const char *flag, *error;
    } cases[] = {
        {"--sync.output.replay.keyExist=replace", "did you mean --sync.output.replay.keyExists?"},
        {"--rdb.action=load", "belongs to another command"},
        {"--sync.output.replay.batchTicker", "needs a value"},
        {"--sync.output.replay.keyExists=x", "expected one of"},
        {"stray", "unknown flag stray"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *flag = xstrdup(cases[i].flag);
        struct loaded l = one_flag(flag, NULL);
        has_error(&l, cases[i].error);
        done(&l);
        free(flag);
    }
}

static void flags_override_the_file_instead_of_being_ignored(void **state)
{
    (void)state;
    char *path = temp_file(BOTH "log: {level: debug}\nserver: {listen: 'a:1'}\n", 0600);
    char level[] = "--sync.log.level=error";
    char *flags[] = {level};
    struct loaded l = load_flags(CONFIG_SYNC, path, flags, 1);
    must_load(&l);
    assert_int_equal(l.c->log.level, LOG_ERROR);
    assert_string_equal(l.c->server.listen, "a:1");
    assert_int_equal(l.c->input.redis.endpoints[0].port, 6379);
    done(&l);
    drop_file(path);
}

static void uris_make_a_whole_configuration(void **state)
{
    (void)state;
    struct loaded l = {0};
    l.rc = config_from_uris(&l.c, "redis://u:p,q@src:7000", "rediss://dst", &l.d);
    must_load(&l);
    assert_string_equal(l.c->input.redis.endpoints[0].password, "p,q");
    assert_int_equal(l.c->input.redis.endpoints[0].port, 7000);
    assert_true(l.c->output.redis.endpoints[0].tls.enabled);
    assert_int_equal(config_validate(l.c, &l.d), 0);
    done(&l);
    l.rc = config_from_uris(&l.c, "redis://u:hunter2@:x", "b:1", &l.d);
    has_error(&l, "input.redis.addresses");
    assert_null(find(&l, DIAG_ERROR, "hunter2"));
    done(&l);
}

static void a_shown_configuration_reads_back_as_the_same(void **state)
{
    (void)state;
    struct loaded l =
        load("input: {redis: {addresses: ['redis://u:p@a:1', '[::1]:2'], "
             "password: \"a\\\"b\\\\\\x01$${X}\\n\"}, syncDelayTestKey: \"k: #\"}\n"
             "output: {redis: {addresses: [b:1, c:2], tls: {insecureSkipVerify: true}},"
             " replay: {targetDbMap: {0: 1, 2: 3}, stats: {disableLog: true}, "
             "expiryMargin: 90500ms, mode: pipeline},"
             " filter: {dbBlacklist: [1, 2], commandBlacklist: [DEL], "
             "keyFilter: {prefixKeyWhitelist: ['a,b', \"\xc3\xa4\"]}, "
             "slotFilter: {keySlotWhitelist: [[0, 5], 7]}}}\n"
             "log: {handler: {file: {fileName: /tmp/x.log}}}\n");
    must_load(&l);
    assert_int_equal(l.d.n, 0);
    struct buf first = {0}, second = {0}, json = {0};
    config_to_yaml(l.c, false, &first);
    struct loaded again = load(buf_cstr(&first));
    must_load(&again);
    assert_int_equal(again.d.n, 0);
    config_to_yaml(again.c, false, &second);
    assert_string_equal(buf_cstr(&first), buf_cstr(&second));
    assert_string_equal(again.c->input.redis.password, l.c->input.redis.password);
    config_to_json(l.c, false, &json);
    json_t *root = json_loadb(json.p, json.n, 0, NULL);
    assert_non_null(root);
    json_t *redis = json_object_get(json_object_get(root, "input"), "redis");
    assert_string_equal(json_string_value(json_object_get(redis, "password")),
                        l.c->input.redis.password);
    json_t *replay = json_object_get(json_object_get(root, "output"), "replay");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(replay, "targetDbMap"), "2")), 3);
    json_decref(root);
    buf_free(&first);
    buf_free(&second);
    buf_free(&json);
    done(&l);
    done(&again);
}

static void source_file(const char *name, char *dst, size_t cap)
{
    const char *root = getenv("GUNYU_SOURCE_ROOT");
    if (!root)
        skip();
    snprintf(dst, cap, "%s/%s", root, name);
}

static void the_sample_configuration_loads_without_a_finding(void **state)
{
    (void)state;
    char path[4096];
    source_file("deploy/gunyu.yaml", path, sizeof(path));
    struct loaded l = {0};
    l.rc = config_load_file(&l.c, CONFIG_SYNC, path, &l.d);
    must_load(&l);
    assert_int_equal(l.d.n, 0);
    assert_int_equal(config_validate(l.c, &l.d), 0);
    done(&l);
}

static void the_document_is_what_the_schema_says(void **state)
{
    (void)state;
    char path[4096];
    source_file("docs/configuration.md", path, sizeof(path));
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    struct buf file = {0}, docs = {0};
    size_t n;
    while ((n = fread(buf_reserve(&file, 4096), 1, 4096, f)) > 0)
        file.n += n;
    fclose(f);
    config_docs(&docs);
    assert_string_equal(buf_cstr(&file), buf_cstr(&docs));
    buf_free(&file);
    buf_free(&docs);
}

static void replicas_are_not_served_to_the_world_without_a_password(void **state)
{
    (void)state;
    static const struct {
        const char *replication, *finding; // NULL: it loads
    } cases[] = {
        {"listen: 127.0.0.1:0", NULL},
        {"listen: localhost:7000", NULL},
        {"listen: \"[::1]:7000\"", NULL},
        {"listen: 0.0.0.0:7000, password: x", NULL},
        {"listen: \"\"", NULL},
        {"listen: 0.0.0.0:7000", "server.replication.password is required"},
        {"listen: \":7000\"", "server.replication.password is required"},
        {"listen: 0.0.0.0:7000, password: \"\"", "server.replication.password is required"},
        {"listen: 127.0.0.1", "expected host:port"},
        {"listen: 127.0.0.1:1, tls: {certFile: /a}", "belong together"},
        {"listen: 127.0.0.1:1, tls: {caFile: /a}", "needs certFile and keyFile"},
        {"listen: 127.0.0.1:1, password: x, passwordFile: /a", "not both"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = xasprintf(BOTH "server: {replication: {%s}}\n", cases[i].replication);
        struct loaded l = load(text);
        bool found = false;
        for (size_t k = 0; k < l.d.n && cases[i].finding; k++)
            found = found || strstr(l.d.v[k].text, cases[i].finding);
        if (found != (cases[i].finding != NULL) || (l.rc != 0) != found)
            fail_msg("%s", cases[i].replication);
        done(&l);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_well_formed_and_finds_itself),
        cmocka_unit_test(minimal_file_needs_no_channel_and_gets_the_documented_defaults),
        cmocka_unit_test(bug_45_typos_are_errors_with_their_place_and_the_nearest_name),
        cmocka_unit_test(both_spellings_work_where_documentation_and_code_disagree),
        cmocka_unit_test(keys_without_effect_are_accepted_with_a_warning),
        cmocka_unit_test(single_values_are_lists_of_one_and_commas_separate),
        cmocka_unit_test(what_tunes_the_pools_of_gunyu_is_said_to_have_no_effect),
        cmocka_unit_test(numbers_that_gunyu_moved_silently_are_moved_with_a_warning),
        cmocka_unit_test(batch_limits_keep_what_the_user_says),
        cmocka_unit_test(durations_follow_go),
        cmocka_unit_test(environment_fills_in_and_a_missing_variable_is_an_error),
        cmocka_unit_test(password_file_is_read_without_its_newline_and_watched_for_others),
        cmocka_unit_test(secrets_never_reach_findings_or_shown_configurations),
        cmocka_unit_test(addresses_take_uris_and_the_block_fills_in_the_rest),
        cmocka_unit_test(target_db_works_together_with_resuming),
        cmocka_unit_test(contradictions_are_errors),
        cmocka_unit_test(legacy_pipeline_switch_sets_the_mode),
        cmocka_unit_test(what_is_not_available_is_refused_by_name_and_only_by_validate),
        cmocka_unit_test(sentinels_and_the_servers_have_each_their_own_login),
        cmocka_unit_test(one_deployment_goes_to_one_target),
        cmocka_unit_test(sentinel_options_without_the_type_are_a_warning),
        cmocka_unit_test(bug_27_hash_tags_are_not_replaced_in_one_half_only),
        cmocka_unit_test(a_standalone_source_is_read_itself_unless_said_otherwise),
        cmocka_unit_test(broken_files_are_one_clear_error),
        cmocka_unit_test(hostile_repetition_stops_at_a_bounded_number_of_errors),
        cmocka_unit_test(flags_work_as_redisgunyu_named_them),
        cmocka_unit_test(bug_40_flags_exist_for_numbers_and_maps_and_groups_need_no_etcd),
        cmocka_unit_test(etcd_gets_tls_by_its_block),
        cmocka_unit_test(wrong_flags_are_errors),
        cmocka_unit_test(flags_override_the_file_instead_of_being_ignored),
        cmocka_unit_test(uris_make_a_whole_configuration),
        cmocka_unit_test(a_shown_configuration_reads_back_as_the_same),
        cmocka_unit_test(the_sample_configuration_loads_without_a_finding),
        cmocka_unit_test(the_document_is_what_the_schema_says),
        cmocka_unit_test(replicas_are_not_served_to_the_world_without_a_password),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

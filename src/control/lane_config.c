// SPDX-License-Identifier: Apache-2.0
#include "control/lane_config.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"

char *lane_config_name(const char *address)
{
    char *s = xstrdup(address);
    for (char *p = s; *p; p++)
        if (!(*p == '.' || *p == '-' || (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') ||
              (*p >= 'A' && *p <= 'Z')))
            *p = '_';
    return s;
}

static struct filter_names names_of(const struct str_list *l)
{
    return (struct filter_names){l->v, l->n};
}

static struct filter_dbs dbs_of(const struct int_list *l)
{
    return (struct filter_dbs){l->v, l->n};
}

// Returns new ranges.
static struct filter_slots slots_of(const struct slot_list *l)
{
    struct filter_slot_range *v = xcalloc(l->n, sizeof(*v));
    for (size_t i = 0; i < l->n; i++)
        v[i] = (struct filter_slot_range){l->v[i].from, l->v[i].to};
    return (struct filter_slots){v, l->n};
}

int lane_config_filter(struct filter **out, const struct filter_config *f, struct err *e)
{
    struct filter_slots black = slots_of(&f->slot_blacklist), white = slots_of(&f->slot_whitelist);
    struct filter_rules r = {
        .db_blacklist = dbs_of(&f->db_blacklist),
        .db_whitelist = dbs_of(&f->db_whitelist),
        .command_blacklist = names_of(&f->command_blacklist),
        .command_whitelist = names_of(&f->command_whitelist),
        .group_blacklist = names_of(&f->command_group_blacklist),
        .group_whitelist = names_of(&f->command_group_whitelist),
        .prefix_blacklist = names_of(&f->key_prefix_blacklist),
        .prefix_whitelist = names_of(&f->key_prefix_whitelist),
        .slot_blacklist = black,
        .slot_whitelist = white,
    };
    int rc = filter_new(out, &r, e);
    free((void *)(uintptr_t)black.v);
    free((void *)(uintptr_t)white.v);
    const char *unknown;
    for (size_t i = 0; rc == 0 && (unknown = filter_unknown_command(*out, i)); i++)
        log_warn("config", "filter: no command \"%s\" is known", unknown);
    return rc;
}

static void fill_journal(struct lane_options *o, const struct config *c, size_t lanes)
{
    const struct channel_config *ch = &c->channel;
    bool disk = ch->type == JOURNAL_STORER;
    int64_t max = disk ? ch->storer_max_size : ch->memory_max_size;
    o->journal = (struct journal_options){
        .type = ch->type,
        .max_size = max < 0 ? max : max / (int64_t)lanes,
        .log_size = disk ? ch->storer_log_size : ch->memory_log_size,
        .max_age_ms = ch->max_age_ms,
        .flush = ch->flush,
        .verify_crc = ch->verify_crc,
    };
}

static void fill_replay(struct lane_options *o, const struct config *c)
{
    const struct replay_config *r = &c->output.replay;
    o->resume = r->resume;
    o->transactions = r->transaction;
    o->wrap_all = r->wrap_all;
    o->max_exec = r->mode == REPLAY_PIPELINE ? 16 : 1;
    o->batch_cmds = r->batch_cmd_count > 0 ? (uint32_t)r->batch_cmd_count : 8192;
    o->batch_bytes = r->batch_buffer_size > 0 ? (size_t)r->batch_buffer_size : 8u << 20;
    o->position_ms = r->update_checkpoint_ms;
    o->keepalive_ms = r->keepalive_ticker_ms;
    o->exists = (enum load_exists)r->key_exists;
    o->functions = (enum load_functions)r->function_exists;
    o->exists_log = r->key_exists_log;
    o->restore_enabled = r->enable_restore;
    o->degrade = r->on_unsupported == ON_UNSUPPORTED_DEGRADE;
    o->skip_unknown = r->on_unknown == ON_UNKNOWN_SKIP;
    o->skip_module_aux = r->module_aux == MODULE_AUX_SKIP;
    // Above this a value is built in pieces: a payload costs the target its size twice.
    int64_t restore_limit = 16 << 20;
    o->max_restore =
        (uint64_t)(r->max_proto_bulk_len < restore_limit ? r->max_proto_bulk_len : restore_limit);
    o->stop_on_error = r->on_error == ON_ERROR_STOP;
    o->full_sync_flush = r->full_sync_flush == FLUSH_DB    ? "FLUSHDB"
                         : r->full_sync_flush == FLUSH_ALL ? "FLUSHALL"
                                                           : NULL;
    o->extra_delete = r->extra_keys == EXTRA_KEYS_DELETE;
    o->expiry_guard = r->expiry_guard;
    o->expiry_margin_ms = r->expiry_margin_ms;
    o->stats_ms = r->stats_log ? r->stats_log_interval_ms : 0;
}

void lane_config_options(struct lane_options *o, const struct config *c, size_t lanes)
{
    static const enum choose_from from[] = {
        [SYNC_NODE] = CHOOSE_GIVEN,
        [SYNC_PREFER_SLAVE] = CHOOSE_PREFER_REPLICA,
        [SYNC_MASTER] = CHOOSE_MASTER,
        [SYNC_SLAVE] = CHOOSE_REPLICA,
    };
    const char *colon = strrchr(c->server.listen, ':');
    *o = (struct lane_options){
        .from = from[c->input.sync_from],
        .source_version = c->input.redis.version_number,
        .target_version = c->output.redis.version_number,
        .psync_command = c->input.psync_command,
        .announce_ip = c->input.announce_ip,
        .listening_port = colon ? (int)strtol(colon + 1, NULL, 10) : 0,
        .delay_test_key = c->input.sync_delay_test_key,
        .serve_refresh = c->server.replication.full_sync == SERVE_REFRESH,
    };
    fill_journal(o, c, lanes);
    fill_replay(o, c);
}

// SPDX-License-Identifier: Apache-2.0
#include "control/cli_args.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "control/schema.h"

static const struct {
    const char *name;
    enum cli_command command;
    bool by_cmd; // also as -cmd=NAME
} commands[] = {
    {"sync", CLI_SYNC, true},        {"rdb", CLI_RDB, true},
    {"aof", CLI_AOF, true},          {"config", CLI_CONFIG, false},
    {"journal", CLI_JOURNAL, false}, {"deadletter", CLI_DEADLETTER, false},
    {"settle", CLI_SETTLE, false},   {"status", CLI_STATUS, false},
    {"version", CLI_VERSION, false}, {"help", CLI_HELP, false},
};
#define COMMANDS_N (sizeof(commands) / sizeof(commands[0]))

enum flag_id {
    FLAG_CMD,
    FLAG_CONF,
    FLAG_FROM,
    FLAG_TO,
    FLAG_URL,
    FLAG_WATCH,
    FLAG_AOF_ACTION,
    FLAG_AOF_PATH,
    FLAG_AOF_OFFSET,
    FLAG_AOF_SIZE,
    FLAG_DIFF,
    FLAG_RDB,
    FLAG_VERSION,
    FLAG_HELP,
};

static const struct {
    const char *name;
    enum flag_id id;
    bool is_bool, ours;
    const char *help;
} flags[] = {
    {"cmd", FLAG_CMD, false, false, "The command: sync (default), rdb, aof. diff is refused."},
    {"conf", FLAG_CONF, false, false,
     "Configuration file. --sync.* and --rdb.* flags win over it."},
    {"from", FLAG_FROM, false, true, "Source, for the command sync."},
    {"to", FLAG_TO, false, true, "Target, for the commands sync, deadletter retry and settle."},
    {"url", FLAG_URL, false, true, "API of a running gunyu, for the command status."},
    {"watch", FLAG_WATCH, true, true, "Again each second (status)."},
    {"aof.action", FLAG_AOF_ACTION, false, false, "parse (default), verify, cmd."},
    {"aof.path", FLAG_AOF_PATH, false, false, "A segment of redisGunYu's store."},
    {"aof.offset", FLAG_AOF_OFFSET, false, false, "Where to begin; 0: at the left edge."},
    {"aof.size", FLAG_AOF_SIZE, false, false, "Bytes to read; -1: all."},
    {"diff.mode", FLAG_DIFF, false, false, NULL},
    {"diff.a", FLAG_DIFF, false, false, NULL},
    {"diff.b", FLAG_DIFF, false, false, NULL},
    {"diff.parallel", FLAG_DIFF, false, false, NULL},
    {"rdb", FLAG_RDB, true, true, "The file is the rdb command's (config check, config show)."},
    {"version", FLAG_VERSION, true, false, "Print the version."},
    {"help", FLAG_HELP, true, false, "Print the usage."},
    {"h", FLAG_HELP, true, false, "The same."},
};
#define FLAGS_N (sizeof(flags) / sizeof(flags[0]))

const char *cli_command_name(enum cli_command c)
{
    for (size_t i = 0; i < COMMANDS_N; i++)
        if (commands[i].command == c)
            return commands[i].name;
    return "?";
}

static int set_command(struct cli_args *a, const char *name, bool by_cmd, struct err *e)
{
    for (size_t i = 0; i < COMMANDS_N; i++) {
        if (strcmp(commands[i].name, name) == 0 && (commands[i].by_cmd || !by_cmd)) {
            a->command = commands[i].command;
            return 0;
        }
    }
    if (by_cmd && strcmp(name, "diff") == 0)
        return err_set(e, ERR_CONFIG, "-cmd=diff is not available (redisGunYu never ran it)");
    if (by_cmd)
        return err_set(e, ERR_CONFIG, "-cmd: expected sync, rdb or aof, not \"%.40s\"", name);
    return err_set(e, ERR_CONFIG, "unknown command \"%.40s\"; see gunyu -h", name);
}

static int to_i64(const char *flag, const char *value, int64_t *out, struct err *e)
{
    if (!slice_i64(slice_cstr(value), out))
        return err_set(e, ERR_CONFIG, "-%s: expected a whole number, not \"%.40s\"", flag, value);
    return 0;
}

static bool is_true(const char *v)
{
    return strcasecmp(v, "false") != 0 && strcmp(v, "0") != 0;
}

static int set_flag(struct cli_args *a, size_t i, const char *v, struct err *e)
{
    switch (flags[i].id) {
    case FLAG_CMD:
        return set_command(a, v, true, e);
    case FLAG_CONF:
        a->conf = *v ? v : NULL;
        return 0;
    case FLAG_FROM:
        a->from = v;
        return 0;
    case FLAG_TO:
        a->to = v;
        return 0;
    case FLAG_URL:
        a->url = v;
        return 0;
    case FLAG_WATCH:
        a->watch = is_true(v);
        return 0;
    case FLAG_AOF_ACTION:
        if (strcmp(v, "parse") != 0 && strcmp(v, "verify") != 0 && strcmp(v, "cmd") != 0)
            return err_set(e, ERR_CONFIG,
                           "-aof.action: expected parse, verify or cmd, not \"%.40s\"", v);
        a->aof.action = v;
        return 0;
    case FLAG_AOF_PATH:
        a->aof.path = v;
        return 0;
    case FLAG_AOF_OFFSET:
        return to_i64(flags[i].name, v, &a->aof.offset, e);
    case FLAG_AOF_SIZE:
        return to_i64(flags[i].name, v, &a->aof.size, e);
    case FLAG_DIFF:
        return 0;
    case FLAG_RDB:
        a->rdb_scope = is_true(v);
        return 0;
    case FLAG_VERSION:
    case FLAG_HELP:
        if (is_true(v))
            a->command = flags[i].id == FLAG_HELP ? CLI_HELP : CLI_VERSION;
        return 0;
    }
    return 0;
}

static bool is_config_flag(const char *name)
{
    return strncmp(name, "sync.", 5) == 0 || strncmp(name, "rdb.", 4) == 0;
}

// A --sync.* or --rdb.* flag takes the next word unless it is a boolean or has its value.
static int take_config_flag(struct cli_args *a, const char *name, int argc, char *const *argv)
{
    bool rdb = name[0] == 'r';
    const char *key = strchr(name, '.') + 1;
    a->flags[a->flags_n++] = argv[0];
    if (strchr(name, '=') || argc < 2)
        return 1;
    int row = schema_find_flag(key, rdb ? CONFIG_RDB : CONFIG_SYNC);
    bool word = strcasecmp(argv[1], "true") == 0 || strcasecmp(argv[1], "false") == 0;
    bool takes = row >= 0 ? schema_rows[row].type != T_BOOL || word : argv[1][0] != '-';
    if (takes)
        a->flags[a->flags_n++] = argv[1];
    return takes ? 2 : 1;
}

// Returns how many words were used, or ERR_CONFIG.
static int take_flag(struct cli_args *a, int argc, char *const *argv, struct err *e)
{
    const char *name = argv[0] + (argv[0][1] == '-' ? 2 : 1);
    size_t n = strcspn(name, "=");
    if (is_config_flag(name))
        return take_config_flag(a, name, argc, argv);
    for (size_t i = 0; i < FLAGS_N; i++) {
        if (strlen(flags[i].name) != n || memcmp(flags[i].name, name, n) != 0)
            continue;
        bool own = name[n] == '=';
        if (!own && !flags[i].is_bool && argc < 2)
            return err_set(e, ERR_CONFIG, "flag -%s needs a value", flags[i].name);
        const char *v = own ? name + n + 1 : flags[i].is_bool ? "true" : argv[1];
        int rc = set_flag(a, i, v, e);
        return rc ? rc : own || flags[i].is_bool ? 1 : 2;
    }
    return err_set(e, ERR_CONFIG, "unknown flag -%.*s; see gunyu -h", n > 80 ? 80 : (int)n, name);
}

static int check(struct cli_args *a, struct err *e)
{
    enum cli_command c = a->command;
    if (c == CLI_HELP || c == CLI_VERSION)
        return 0;
    if (a->from && c != CLI_SYNC)
        return err_set(e, ERR_CONFIG, "--from belongs to the command sync");
    if (a->to && c != CLI_SYNC && c != CLI_DEADLETTER && c != CLI_SETTLE)
        return err_set(e, ERR_CONFIG,
                       "--to belongs to the commands sync, deadletter retry and settle");
    if ((a->url || a->watch) && c != CLI_STATUS)
        return err_set(e, ERR_CONFIG, "--url and --watch belong to the command status");
    if (a->rdb_scope && a->command != CLI_CONFIG && a->command != CLI_RDB)
        return err_set(e, ERR_CONFIG, "--rdb belongs to config check and config show");
    a->rdb_scope = a->rdb_scope || a->command == CLI_RDB;
    if (a->command == CLI_SYNC && a->rest_n)
        return err_set(e, ERR_CONFIG, "unexpected \"%.60s\"; see gunyu -h", a->rest[0]);
    if (a->command == CLI_AOF && !a->aof.path)
        return err_set(e, ERR_CONFIG, "-aof.path is required");
    return 0;
}

static bool is_word(const char *w)
{
    return w[0] != '-' || strcmp(w, "-h") == 0 || strcmp(w, "--help") == 0;
}

int cli_args_parse(struct cli_args *out, int argc, char *const *argv, struct err *e)
{
    *out = (struct cli_args){.command = CLI_SYNC};
    out->aof.action = "parse";
    out->aof.size = -1;
    size_t words = argc > 0 ? (size_t)argc : 1;
    out->flags = xcalloc(words, sizeof(*out->flags));
    out->rest = xcalloc(words, sizeof(*out->rest));
    bool named = false, only_words = false, rdb_words = false;
    for (int i = 1; i < argc;) {
        const char *w = argv[i];
        int used = 1, rc = 0;
        bool plain = rdb_words || only_words;
        if (!plain && strcmp(w, "--") == 0) {
            only_words = true;
        } else if (!plain && w[0] == '-' && w[1]) {
            used = take_flag(out, argc - i, argv + i, e);
            if (used < 0)
                return used;
        } else if (!named && out->command == CLI_SYNC && !plain) {
            named = true;
            rc = set_command(out, w, false, e);
            // A command of the rdb family takes its own options.
            rdb_words = out->command == CLI_RDB && i + 1 < argc && is_word(argv[i + 1]);
        } else {
            out->rest[out->rest_n++] = argv[i];
        }
        if (rc)
            return rc;
        i += used;
    }
    return check(out, e);
}

void cli_args_free(struct cli_args *a)
{
    free(a->flags);
    free(a->rest);
    a->flags = NULL;
    a->rest = NULL;
}

void cli_usage(FILE *f)
{
    fputs(
        "usage: gunyu COMMAND [FLAGS]\n"
        "\n"
        "  gunyu sync --from URI --to URI     keep one server equal to another\n"
        "  gunyu sync -conf FILE              the same, configured by a file\n"
        "  gunyu rdb COMMAND FILE             print, verify, ...: see gunyu rdb --help\n"
        "  gunyu aof -aof.path FILE           see gunyu journal\n"
        "  gunyu config check FILE            find what is wrong with a configuration\n"
        "  gunyu config show FILE             the whole configuration, secrets hidden\n"
        "  gunyu config docs                  every key and flag, as Markdown\n"
        "  gunyu journal list|verify|print DIR\n"
        "  gunyu deadletter list|retry|drop FILE\n"
        "  gunyu status [--url URL] [--watch] what a running gunyu does, or its whole group\n"
        "  gunyu settle --to URI              after gunyu was stopped for good: true expiries\n"
        "  gunyu version\n"
        "\n"
        "URI: redis://[user:password@]host:port[/db], rediss:// for TLS, unix:///path, host:port.\n"
        "${NAME} in it is replaced by that environment variable, so that no password is seen.\n"
        "Flags win over the file. redisGunYu's forms work too: -cmd=sync|rdb|aof, -conf FILE,\n"
        "-version, and a flag for each key:\n\n",
        f);
    cli_usage_flags(f, false);
    cli_usage_flags(f, true);
}

void cli_usage_flags(FILE *f, bool rdb)
{
    uint8_t scope = rdb ? SCOPE_RDB : SCOPE_SYNC;
    for (size_t i = 0; i < schema_rows_n; i++) {
        const struct schema_row *r = &schema_rows[i];
        if ((r->scope & scope) && r->type != T_IGNORED)
            fprintf(f, "  --%s.%s\n        %s%s%s%s\n", rdb ? "rdb" : "sync",
                    r->flag ? r->flag : r->path, r->help, r->def || r->def_note ? " Default: " : "",
                    r->def        ? r->def
                    : r->def_note ? r->def_note
                                  : "",
                    r->def || r->def_note ? "." : "");
    }
}

void cli_docs(struct buf *out)
{
    buf_append_cstr(out, "| Flag | Meaning | Status |\n|---|---|---|\n");
    for (size_t i = 0; i < FLAGS_N; i++)
        buf_printf(out, "| `-%s` | %s | %s |\n", flags[i].name,
                   flags[i].help ? flags[i].help : "redisGunYu's diff command never ran.",
                   !flags[i].help  ? "accepted without effect"
                   : flags[i].ours ? "new"
                                   : "works");
    buf_append_cstr(out, "| `--sync.KEY`, `--rdb.KEY` | Any key; the names are in the tables. "
                         "| works |\n");
}

// SPDX-License-Identifier: Apache-2.0
#include "serve/session.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/cmdtable.h"
#include "serve/session_info.h"

enum { AUTH_TRIES = 5, WORD_SHOWN = 64 };

const char *serve_replica_state_name(enum serve_replica_state s)
{
    static const char *const names[] = {"wait_rdb", "rdb", "stream"};
    return names[s];
}

struct call {
    struct session *s;
    int argc;
    const struct slice *argv;
};

// ---- replies ----

static void reply(struct session *s, const char *line)
{
    buf_append_cstr(&s->out, line);
    buf_append_cstr(&s->out, "\r\n");
}

static void ok(struct session *s)
{
    reply(s, "+OK");
}

// What a peer says must not break the line.
static void put_word(struct buf *b, struct slice w)
{
    for (size_t i = 0; i < w.n && i < WORD_SHOWN; i++)
        buf_append_char(b, w.p[i] > 32 && w.p[i] < 127 && w.p[i] != '\'' ? w.p[i] : '.');
}

static void error_about(struct session *s, const char *before, struct slice word, const char *after)
{
    buf_printf(&s->out, "-%s '", before);
    put_word(&s->out, word);
    buf_printf(&s->out, "'%s\r\n", after);
}

static void error_of(struct session *s, const struct err *e)
{
    buf_append_char(&s->out, '-');
    for (const char *p = e->msg; *p; p++)
        buf_append_char(&s->out, *p == '\r' || *p == '\n' ? ' ' : *p);
    buf_append_cstr(&s->out, "\r\n");
}

static bool word_is(const struct call *c, int i, const char *word)
{
    return i < c->argc && slice_ieq(c->argv[i], slice_cstr(word));
}

// ---- who it is ----

// Takes as long whatever is wrong.
static bool same_secret(struct slice given, const char *secret)
{
    size_t n = strlen(secret);
    unsigned char differs = given.n != n;
    for (size_t i = 0; i < n; i++)
        differs |= (unsigned char)(secret[i] ^ (i < given.n ? given.p[i] : 0));
    return !differs;
}

static bool log_in(struct session *s, struct slice user, struct slice password)
{
    bool right = !s->o->password || same_secret(password, s->o->password);
    if (!right || user.n >= sizeof(s->shard) || (user.n && memchr(user.p, 0, user.n))) {
        reply(s, "-WRONGPASS invalid username-password pair or user is disabled.");
        s->ended = ++s->failures >= AUTH_TRIES;
        return false;
    }
    bool named = user.n && !slice_eq(user, SLICE("default"));
    memset(s->shard, 0, sizeof(s->shard));
    if (named)
        memcpy(s->shard, user.p, user.n);
    s->authenticated = true;
    return true;
}

static void do_auth(struct call *c)
{
    bool user = c->argc == 3;
    if (c->argc > 3)
        reply(c->s, "-ERR syntax error");
    else if (log_in(c->s, user ? c->argv[1] : (struct slice){0}, c->argv[user ? 2 : 1]))
        ok(c->s);
}

static void put_field(struct buf *b, const char *name, const char *value)
{
    resp_put_bulk(b, slice_cstr(name));
    resp_put_bulk(b, slice_cstr(value));
}

static void put_hello(struct session *s)
{
    struct serve_facts f;
    struct err ignored;
    char version[24];
    bool known = s->o->facts(s->o->ctx, s->shard, &f, &ignored) == 0;
    struct buf *b = &s->out;
    session_version(known ? f.version : 0, version);
    buf_append_cstr(b, s->protocol == 3 ? "%7\r\n" : "*14\r\n");
    put_field(b, "server", known && f.is_valkey ? "valkey" : "redis");
    put_field(b, "version", version[0] ? version : s->o->version);
    resp_put_bulk(b, SLICE("proto"));
    buf_printf(b, ":%d\r\n", s->protocol);
    resp_put_bulk(b, SLICE("id"));
    buf_printf(b, ":%llu\r\n", (unsigned long long)s->id);
    put_field(b, "mode", "standalone");
    put_field(b, "role", "replica");
    resp_put_bulk(b, SLICE("modules"));
    buf_append_cstr(b, "*0\r\n");
}

static void set_name(struct session *s, struct slice name)
{
    size_t n = name.n < sizeof(s->name) - 1 ? name.n : sizeof(s->name) - 1;
    for (size_t i = 0; i < n; i++)
        s->name[i] = name.p[i] > 32 && name.p[i] < 127 ? name.p[i] : '.';
    s->name[n] = 0;
}

static void do_hello(struct call *c)
{
    struct session *s = c->s;
    int64_t protocol = s->protocol;
    if (c->argc > 1 && (!slice_i64(c->argv[1], &protocol) || protocol < 2 || protocol > 3)) {
        reply(s, "-NOPROTO unsupported protocol version");
        return;
    }
    for (int i = 2; i < c->argc; i++) {
        if (word_is(c, i, "AUTH") && i + 2 < c->argc) {
            if (!log_in(s, c->argv[i + 1], c->argv[i + 2]))
                return;
            i += 2;
        } else if (word_is(c, i, "SETNAME") && i + 1 < c->argc) {
            set_name(s, c->argv[++i]);
        } else {
            reply(s, "-ERR syntax error in HELLO");
            return;
        }
    }
    if (!s->authenticated) {
        reply(s, "-NOAUTH HELLO must be called with the client already authenticated, otherwise "
                 "the HELLO <proto> AUTH <user> <pass> option can be used");
        return;
    }
    s->protocol = (int)protocol;
    put_hello(s);
}

// ---- small talk ----

static void do_ping(struct call *c)
{
    if (c->argc > 1)
        resp_put_bulk(&c->s->out, c->argv[1]);
    else
        reply(c->s, "+PONG");
}

static void do_echo(struct call *c)
{
    resp_put_bulk(&c->s->out, c->argv[1]);
}

static void do_quit(struct call *c)
{
    ok(c->s);
    c->s->ended = true;
}

static void do_select(struct call *c)
{
    int64_t db;
    if (slice_i64(c->argv[1], &db) && db == 0)
        ok(c->s);
    else
        reply(c->s, "-ERR DB index is out of range");
}

static void do_client(struct call *c)
{
    struct session *s = c->s;
    if (word_is(c, 1, "SETNAME") && c->argc == 3) {
        set_name(s, c->argv[2]);
        ok(s);
    } else if (word_is(c, 1, "SETINFO")) {
        ok(s);
    } else if (word_is(c, 1, "GETNAME")) {
        resp_put_bulk(&s->out, slice_cstr(s->name));
    } else if (word_is(c, 1, "ID")) {
        buf_printf(&s->out, ":%llu\r\n", (unsigned long long)s->id);
    } else if (word_is(c, 1, "LIST") || word_is(c, 1, "INFO")) {
        char line[128];
        int n = snprintf(line, sizeof(line), "id=%llu name=%s db=0 resp=%d\n",
                         (unsigned long long)s->id, s->name, s->protocol);
        resp_put_bulk(&s->out, slice_make(line, (size_t)n));
    } else {
        error_about(s, "ERR unknown subcommand or wrong number of arguments for", c->argv[1],
                    " of CLIENT");
    }
}

static void do_command(struct call *c)
{
    reply(c->s, word_is(c, 1, "COUNT") ? ":0" : "*0");
}

static void do_cluster(struct call *c)
{
    reply(c->s, "-ERR This instance has cluster support disabled");
}

// ---- what is here ----

static bool facts_of(struct session *s, struct serve_facts *f)
{
    struct err e = {0};
    if (s->o->facts(s->o->ctx, s->shard, f, &e) == 0)
        return true;
    error_of(s, &e);
    return false;
}

static void do_info(struct call *c)
{
    struct serve_facts f;
    struct err ignored;
    bool known = c->s->o->facts(c->s->o->ctx, c->s->shard, &f, &ignored) == 0;
    struct buf text = {0};
    session_info(&text, c->s->o, known ? &f : NULL, c->argc - 1, c->argv + 1);
    resp_put_bulk(&c->s->out, buf_slice(&text));
    buf_free(&text);
}

static void do_role(struct call *c)
{
    struct serve_facts f;
    if (!facts_of(c->s, &f))
        return;
    char host[SESSION_NAME_MAX];
    int port = session_split(f.source, host);
    struct buf *b = &c->s->out;
    buf_append_cstr(b, "*5\r\n");
    resp_put_bulk(b, SLICE("slave"));
    resp_put_bulk(b, slice_cstr(host));
    buf_printf(b, ":%d\r\n", port);
    resp_put_bulk(b, slice_cstr(f.link_up ? "connected" : "connect"));
    buf_printf(b, ":%lld\r\n", f.has_log ? (long long)f.right : -1LL);
}

// ---- replication ----

static bool take_option(struct session *s, struct slice name, struct slice value)
{
    struct serve_request *r = &s->request;
    int64_t number;
    if (slice_ieq(name, SLICE("listening-port"))) {
        if (!slice_i64(value, &number) || number < 0 || number > 65535)
            return false;
        r->port = (int)number;
        return true;
    }
    if (slice_ieq(name, SLICE("ip-address"))) {
        if (value.n >= sizeof(r->address))
            return false;
        memset(r->address, 0, sizeof(r->address));
        for (size_t i = 0; i < value.n; i++)
            r->address[i] =
                isalnum((unsigned char)value.p[i]) || strchr(".:-_", value.p[i]) ? value.p[i] : '.';
        return true;
    }
    if (slice_ieq(name, SLICE("capa"))) {
        r->eof = r->eof || slice_ieq(value, SLICE("eof"));
        r->psync2 = r->psync2 || slice_ieq(value, SLICE("psync2"));
        return true; // the others need not be used
    }
    return slice_ieq(name, SLICE("version"));
}

// A full sync over a second connection, of a part of the data or of none: replicas that would like
// that do without where it is refused.
static void do_replconf(struct call *c)
{
    struct session *s = c->s;
    if (word_is(c, 1, "ACK"))
        return; // has no reply
    if (word_is(c, 1, "GETACK")) {
        ok(s);
        return;
    }
    if (c->argc % 2 == 0) {
        reply(s, "-ERR syntax error");
        return;
    }
    for (int i = 1; i < c->argc; i += 2) {
        if (!take_option(s, c->argv[i], c->argv[i + 1])) {
            error_about(s, "ERR Unrecognized REPLCONF option:", c->argv[i], "");
            return;
        }
    }
    ok(s);
}

static void do_psync(struct call *c)
{
    struct serve_request *r = &c->s->request;
    int64_t offset;
    bool full = c->argv[1].n != REPLID_LEN || memchr(c->argv[1].p, 0, REPLID_LEN);
    if (c->argc != 3 || !slice_i64(c->argv[2], &offset)) {
        reply(c->s, "-ERR value is not an integer or out of range");
        return;
    }
    memset(r->replid, 0, sizeof(r->replid));
    memcpy(r->replid, full ? "?" : c->argv[1].p, full ? 1 : REPLID_LEN);
    r->offset = full ? -1 : offset;
    r->sync = false;
}

static void do_sync(struct call *c)
{
    struct serve_request *r = &c->s->request;
    memset(r->replid, 0, sizeof(r->replid));
    r->replid[0] = '?';
    r->offset = -1;
    r->sync = true;
}

// ---- the table ----

static const struct command {
    const char *name;
    int least; // arguments, its name included
    bool open; // before AUTH
    bool serves;
    void (*run)(struct call *c);
} commands[] = {
    {"PING", 1, false, false, do_ping},         {"AUTH", 2, true, false, do_auth},
    {"HELLO", 1, true, false, do_hello},        {"QUIT", 1, true, false, do_quit},
    {"REPLCONF", 2, false, false, do_replconf}, {"PSYNC", 3, false, true, do_psync},
    {"SYNC", 1, false, true, do_sync},          {"INFO", 1, false, false, do_info},
    {"ROLE", 1, false, false, do_role},         {"ECHO", 2, false, false, do_echo},
    {"SELECT", 2, false, false, do_select},     {"CLIENT", 2, false, false, do_client},
    {"COMMAND", 1, false, false, do_command},   {"CLUSTER", 1, false, false, do_cluster},
};

static const struct command *find(struct slice name)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (slice_ieq(name, slice_cstr(commands[i].name)))
            return &commands[i];
    return NULL;
}

static void refuse(struct session *s, struct slice name)
{
    // What a browser was made to send.
    s->ended = slice_ieq(name, SLICE("POST")) || slice_ieq(name, SLICE("HOST:"));
    if (cmd_by_name(name))
        error_about(s, "READONLY gunyu serves replication here and holds no data:", name,
                    " is not carried out");
    else
        error_about(s, "ERR unknown command", name, "");
}

static enum session_verdict run(struct session *s, int argc, const struct slice *argv)
{
    struct call c = {.s = s, .argc = argc, .argv = argv};
    const struct command *cmd = find(argv[0]);
    size_t replied = s->out.n;
    if (!s->authenticated && !(cmd && cmd->open)) {
        reply(s, "-NOAUTH Authentication required.");
    } else if (!cmd) {
        refuse(s, argv[0]);
    } else if (argc < cmd->least) {
        error_about(s, "ERR wrong number of arguments for", argv[0], " command");
    } else {
        cmd->run(&c);
        if (cmd->serves && s->out.n == replied)
            return SESSION_SERVE;
    }
    return s->ended ? SESSION_END : SESSION_MORE;
}

void session_begin(struct session *s, const struct session_options *o, uint64_t id)
{
    *s = (struct session){.o = o, .id = id, .protocol = 2, .authenticated = !o->password};
}

void session_free(struct session *s)
{
    resp_cmd_free(&s->cmd);
    buf_free(&s->out);
}

enum session_verdict session_step(struct session *s, const char *in, size_t n, size_t *used)
{
    *used = 0;
    while (*used < n && !s->ended) {
        int rc = resp_cmd_parse(&s->cmd, in + *used, n - *used);
        if (rc < 0 || (rc == 0 && n - *used > SESSION_COMMAND_MAX) ||
            (rc == 1 && s->cmd.len > SESSION_COMMAND_MAX)) {
            reply(s, "-ERR Protocol error");
            s->ended = true;
            break;
        }
        if (rc == 0)
            return SESSION_MORE;
        *used += s->cmd.len;
        enum session_verdict v = s->cmd.argc > 0 ? run(s, s->cmd.argc, s->cmd.argv) : SESSION_MORE;
        if (v != SESSION_MORE)
            return v;
    }
    return s->ended ? SESSION_END : SESSION_MORE;
}

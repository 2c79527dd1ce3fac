// SPDX-License-Identifier: Apache-2.0
#include "source/psync.h"

#include <ctype.h>
#include <stdio.h>

#include "base/random.h"
#include "redis/info.h"

enum {
    MAX_HANDSHAKE_REPLY = 1024 * 1024, // an INFO is a few kilobytes
    MAX_HEADER_LINE = 128,
    FIRST_PSYNC_VERSION = 20800,
    VALKEY_ASKS_VERSION = 90000,
};

static void enter(struct psync *p, enum psync_state s);

static enum psync_event fail(struct psync *p, int code, const char *what, struct slice words)
{
    p->state = PSYNC_FAILED;
    int shown = words.n > 300 ? 300 : (int)words.n;
    err_set(&p->error, code, "%s%s%.*s", what, shown ? ": " : "", shown, words.p ? words.p : "");
    return PSYNC_ERROR;
}

// ---- the questions, each with its answer ----

static bool send_auth(struct psync *p)
{
    if (!p->o->password)
        return false;
    if (p->o->user)
        resp_put_cmd(&p->out, "AUTH %s %s", p->o->user, p->o->password);
    else
        resp_put_cmd(&p->out, "AUTH %s", p->o->password);
    return true;
}

static enum psync_event on_auth(struct psync *p, const struct resp_node *reply)
{
    // The password has been sent; it need not stay in memory.
    explicit_bzero(p->out.p, p->out.cap);
    if (reply->type == RESP_ERROR)
        return fail(p, ERR_AUTH, "the source refuses the login", reply->text);
    return PSYNC_NEED_MORE;
}

static bool send_ping(struct psync *p)
{
    resp_put_cmd(&p->out, "PING");
    return true;
}

static enum psync_event on_ping(struct psync *p, const struct resp_node *reply)
{
    // Other errors (NOPERM, MASTERDOWN, a renamed PING) do not keep a source from replicating.
    if (reply->type != RESP_ERROR)
        return PSYNC_NEED_MORE;
    if (slice_has_prefix(reply->text, SLICE("NOAUTH")) ||
        slice_has_prefix(reply->text, SLICE("ERR operation not permitted")))
        return fail(p, ERR_AUTH, "the source wants a password", reply->text);
    if (slice_has_prefix(reply->text, SLICE("LOADING")))
        return fail(p, ERR_REPLY, "the source is still loading its data", reply->text);
    return PSYNC_NEED_MORE;
}

static bool send_info(struct psync *p)
{
    resp_put_cmd(&p->out, "INFO");
    return true;
}

static enum psync_event on_info(struct psync *p, const struct resp_node *reply)
{
    if (reply->type == RESP_BULK)
        redis_server_parse(&p->server, reply->text);
    if (p->server.version == 0)
        p->server.version = p->o->version;
    return PSYNC_NEED_MORE;
}

static bool send_port(struct psync *p)
{
    if (p->o->listening_port <= 0)
        return false;
    resp_put_cmd(&p->out, "REPLCONF listening-port %d", p->o->listening_port);
    return true;
}

static bool send_address(struct psync *p)
{
    if (!p->o->announce_ip)
        return false;
    resp_put_cmd(&p->out, "REPLCONF ip-address %s", p->o->announce_ip);
    return true;
}

// Valkey from 9 on sends a replica that is silent about its version RDB 11, and none at all when
// that cannot hold the data (fields that expire). As a 9.0 we get RDB 80; as a newer one also
// commands in the midst of the snapshot.
static bool send_version(struct psync *p)
{
    if (!p->server.is_valkey || p->server.version < VALKEY_ASKS_VERSION)
        return false;
    resp_put_cmd(&p->out, "REPLCONF version 9.0.0");
    return true;
}

static bool send_capa(struct psync *p)
{
    resp_put_cmd(&p->out, "REPLCONF capa eof capa psync2");
    return true;
}

// Old sources do not know REPLCONF or parts of it; what matters shows in the answer to PSYNC.
static enum psync_event on_replconf(struct psync *p, const struct resp_node *reply)
{
    (void)p, (void)reply;
    return PSYNC_NEED_MORE;
}

static bool send_psync(struct psync *p)
{
    resp_put_cmd(&p->out, "%s %s %L", p->o->psync_command, p->request.replid,
                 p->request.offset < 0 ? (int64_t)-1 : p->request.offset + 1);
    return true;
}

static bool is_unknown_command(struct slice s)
{
    return slice_has_prefix(s, SLICE("ERR unknown command"));
}

// A source without PSYNC has no replication id: a made-up one names this one transfer.
static enum psync_event fall_back_to_sync(struct psync *p)
{
    random_hex(p->replid, REPLID_LEN);
    p->plain_sync = true;
    p->offset = 0;
    p->state = PSYNC_RDB_HEADER;
    resp_put_cmd(&p->out, "SYNC");
    return PSYNC_WILL_SEND;
}

static enum psync_event on_psync_error(struct psync *p, struct slice text)
{
    static const struct {
        struct slice prefix;
        int code;
        const char *what;
    } known[] = {
        {{"NOMASTERLINK", 12}, ERR_REPLY, "the source is a replica without a link to its master"},
        {{"LOADING", 7}, ERR_REPLY, "the source is still loading its data"},
        {{"NOAUTH", 6}, ERR_AUTH, "the source wants a password"},
        {{"NOPERM", 6}, ERR_AUTH, "the user may not replicate (needs +psync +replconf)"},
        {{"MASTERDOWN", 10}, ERR_REPLY, "the source is a replica without a link to its master"},
        {{"BUSY", 4}, ERR_REPLY, "the source is busy with a script"},
        {{"MISCONF", 7}, ERR_REPLY, "the source cannot write its snapshot"},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (slice_has_prefix(text, known[i].prefix))
            return fail(p, known[i].code, known[i].what, text);
    if (!is_unknown_command(text))
        return fail(p, ERR_REPLY, "the source refuses to replicate", text);
    if (!slice_ieq(slice_cstr(p->o->psync_command), SLICE("PSYNC")) ||
        p->server.version >= FIRST_PSYNC_VERSION)
        return fail(p, ERR_CONFIG, "the source does not know the configured PSYNC command", text);
    return fall_back_to_sync(p);
}

static bool is_replid(struct slice s)
{
    if (s.n != REPLID_LEN)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!isalnum((unsigned char)s.p[i]))
            return false;
    return true;
}

static void copy_replid(char dst[REPLID_LEN + 1], struct slice s)
{
    memcpy(dst, s.p, REPLID_LEN);
    dst[REPLID_LEN] = '\0';
}

static struct slice next_word(struct slice *s)
{
    while (s->n && s->p[0] == ' ')
        *s = slice_make(s->p + 1, s->n - 1);
    const char *end = s->n ? memchr(s->p, ' ', s->n) : NULL;
    struct slice word = slice_make(s->p, end ? (size_t)(end - s->p) : s->n);
    *s = slice_make(s->p + word.n, s->n - word.n);
    return word;
}

static enum psync_event on_full_resync(struct psync *p, struct slice rest, struct slice all)
{
    struct slice id = next_word(&rest), offset = next_word(&rest);
    int64_t value;
    if (!is_replid(id) || !slice_i64(offset, &value) || value < 0)
        return fail(p, ERR_PROTOCOL, "bad answer to PSYNC", all);
    copy_replid(p->replid, id);
    p->offset = (uint64_t)value;
    p->state = PSYNC_RDB_HEADER;
    return PSYNC_WILL_SEND;
}

static enum psync_event on_continue(struct psync *p, struct slice rest, struct slice all)
{
    struct slice id = next_word(&rest);
    if (p->request.offset < 0 || (id.n && !is_replid(id)))
        return fail(p, ERR_PROTOCOL, "bad answer to PSYNC", all);
    p->new_replid[0] = '\0';
    if (id.n && !slice_eq(id, slice_cstr(p->request.replid)))
        copy_replid(p->new_replid, id);
    p->state = PSYNC_STREAM;
    return PSYNC_CONTINUED;
}

static enum psync_event on_psync(struct psync *p, const struct resp_node *reply)
{
    if (reply->type == RESP_ERROR)
        return on_psync_error(p, reply->text);
    struct slice rest = reply->text, word = next_word(&rest);
    if (reply->type == RESP_STATUS && slice_ieq(word, SLICE("FULLRESYNC")))
        return on_full_resync(p, rest, reply->text);
    if (reply->type == RESP_STATUS && slice_ieq(word, SLICE("CONTINUE")))
        return on_continue(p, rest, reply->text);
    return fail(p, ERR_PROTOCOL, "bad answer to PSYNC", reply->text);
}

// A state sends its question (or is passed over) and hands the answer to `answer`; when that needs
// no event, the next state follows.
static const struct {
    bool (*send)(struct psync *p);
    enum psync_event (*answer)(struct psync *p, const struct resp_node *reply);
} steps[] = {
    [PSYNC_AUTH] = {send_auth, on_auth},     [PSYNC_PING] = {send_ping, on_ping},
    [PSYNC_INFO] = {send_info, on_info},     [PSYNC_CHOOSING] = {NULL, NULL},
    [PSYNC_PORT] = {send_port, on_replconf}, [PSYNC_ADDRESS] = {send_address, on_replconf},
    [PSYNC_CAPA] = {send_capa, on_replconf}, [PSYNC_VERSION] = {send_version, on_replconf},
    [PSYNC_ASKED] = {send_psync, on_psync},
};

static void enter(struct psync *p, enum psync_state s)
{
    while (steps[s].send && !steps[s].send(p))
        s++;
    p->state = s;
}

// ---- the session ----

void psync_begin(struct psync *p, const struct psync_options *o)
{
    struct buf out = p->out;
    *p = (struct psync){.o = o, .out = out};
    buf_clear(&p->out);
    redis_server_init(&p->server);
    enter(p, PSYNC_AUTH);
}

void psync_free(struct psync *p)
{
    if (p->out.p)
        explicit_bzero(p->out.p, p->out.cap);
    buf_free(&p->out);
}

void psync_request(struct psync *p, const struct link_request *request)
{
    must(p->state == PSYNC_CHOOSING);
    p->request = *request;
    p->request.replid[REPLID_LEN] = '\0';
    if (p->request.offset < 0 || !is_replid(slice_cstr(p->request.replid)))
        p->request = (struct link_request){"?", -1};
    enter(p, PSYNC_PORT);
}

static bool parse_marker(struct psync *p, struct slice text)
{
    if (text.n != PSYNC_MARKER_LEN)
        return false;
    memcpy(p->marker, text.p, PSYNC_MARKER_LEN);
    memset(p->skip, PSYNC_MARKER_LEN, sizeof(p->skip));
    for (uint8_t i = 0; i + 1 < PSYNC_MARKER_LEN; i++)
        p->skip[(unsigned char)p->marker[i]] = (uint8_t)(PSYNC_MARKER_LEN - 1 - i);
    return true;
}

// "$<length>" or "$EOF:<marker>", or an error in their place.
static enum psync_event on_header(struct psync *p, struct slice line)
{
    uint64_t size;
    struct slice text = slice_make(line.p + 1, line.n - 1);
    if (line.p[0] == '-' && is_unknown_command(text))
        return fail(p, ERR_UNSUPPORTED, "the source knows neither PSYNC nor SYNC", text);
    if (line.p[0] == '-')
        return on_psync_error(p, text);
    if (line.p[0] != '$')
        return fail(p, ERR_PROTOCOL, "no snapshot where one should begin", line);
    if (slice_has_prefix(text, SLICE("EOF:"))) {
        if (!parse_marker(p, slice_make(text.p + 4, text.n - 4)))
            return fail(p, ERR_PROTOCOL, "bad end marker of the snapshot", line);
        size = JOURNAL_SIZE_UNKNOWN;
    } else if (!slice_u64(text, &size) || size > INT64_MAX) {
        return fail(p, ERR_PROTOCOL, "bad length of the snapshot", line);
    }
    p->rdb_size = size;
    p->rdb_have = 0;
    p->tail_n = 0;
    p->state = PSYNC_RDB;
    return PSYNC_SNAPSHOT;
}

static enum psync_event step_header(struct psync *p, const char *in, size_t n, size_t *used)
{
    const char *nl = memchr(in, '\n', n);
    size_t len = nl ? (size_t)(nl - in) : n;
    if (len > MAX_HEADER_LINE && in[0] != '-')
        return fail(p, ERR_PROTOCOL, "no snapshot where one should begin", slice_make(in, 40));
    if (len > MAX_HANDSHAKE_REPLY)
        return fail(p, ERR_PROTOCOL, "endless error reply", slice_make(in, 40));
    if (!nl)
        return PSYNC_NEED_MORE;
    *used += len + 1;
    if (len && in[len - 1] == '\r')
        len--;
    return on_header(p, slice_make(in, len));
}

static enum psync_event step_reply(struct psync *p, const char *in, size_t n, size_t *used)
{
    size_t len = 0, pos = 0;
    int rc = resp_scan(&p->scan, in, n, &len);
    if (rc < 0 || (rc == 0 && n > MAX_HANDSHAKE_REPLY))
        return fail(p, ERR_PROTOCOL, "the source does not speak the Redis protocol",
                    (struct slice){0});
    if (rc == 0)
        return PSYNC_NEED_MORE;
    *used += len;
    struct resp_node reply;
    if (!resp_next(in, len, &pos, &reply))
        return fail(p, ERR_PROTOCOL, "empty reply", (struct slice){0});
    enum psync_event event = steps[p->state].answer(p, &reply);
    if (event == PSYNC_NEED_MORE)
        enter(p, p->state + 1);
    return event;
}

enum psync_event psync_step(struct psync *p, const char *in, size_t n, size_t *used)
{
    *used = 0;
    for (;;) {
        if (p->state == PSYNC_FAILED)
            return PSYNC_ERROR;
        if (p->state == PSYNC_CHOOSING)
            return PSYNC_CHOOSE;
        must(p->state < PSYNC_RDB);
        // Newlines keep the line alive while the source has nothing to say.
        while (*used < n && in[*used] == '\n')
            ++*used;
        if (*used == n)
            return PSYNC_NEED_MORE;
        size_t before = *used;
        enum psync_event event = p->state == PSYNC_RDB_HEADER
                                     ? step_header(p, in + before, n - before, used)
                                     : step_reply(p, in + before, n - before, used);
        if (event != PSYNC_NEED_MORE || *used == before)
            return event;
    }
}

// ---- the snapshot ----

// Horspool's search: looks at about one byte in forty. Returns the position behind the marker, 0
// when it is not there.
static size_t find_marker(const struct psync *p, const char *in, size_t n)
{
    const size_t last = PSYNC_MARKER_LEN - 1;
    for (size_t at = last; at < n; at += p->skip[(unsigned char)in[at]])
        if (in[at] == p->marker[last] && memcmp(in + at - last, p->marker, last) == 0)
            return at + 1;
    return 0;
}

// Bytes of the chunk up to the end of the marker, which may have begun in an earlier chunk; 0 when
// it does not end here.
static size_t marker_end(const struct psync *p, const char *in, size_t n)
{
    char joint[2 * (PSYNC_MARKER_LEN - 1)];
    size_t head = n < sizeof(p->tail) ? n : sizeof(p->tail);
    memcpy(joint, p->tail, p->tail_n);
    memcpy(joint + p->tail_n, in, head);
    size_t end = find_marker(p, joint, p->tail_n + head);
    return end ? end - p->tail_n : find_marker(p, in, n);
}

size_t psync_rdb_left(const struct psync *p)
{
    if (p->rdb_size == JOURNAL_SIZE_UNKNOWN)
        return SIZE_MAX;
    return (size_t)(p->rdb_size - p->rdb_have);
}

size_t psync_rdb(struct psync *p, const char *in, size_t n, bool *done, uint64_t *final_size)
{
    must(p->state == PSYNC_RDB);
    size_t take = n;
    *done = false;
    if (p->rdb_size != JOURNAL_SIZE_UNKNOWN) {
        size_t left = psync_rdb_left(p);
        take = n < left ? n : left;
        *done = take == left;
    } else if (n) {
        size_t end = marker_end(p, in, n);
        *done = end > 0;
        if (end)
            take = end;
        else
            p->tail_n = tail_keep(p->tail, sizeof(p->tail), p->tail_n, in, n);
    }
    p->rdb_have += take;
    if (*done) {
        p->state = PSYNC_STREAM;
        *final_size =
            p->rdb_size != JOURNAL_SIZE_UNKNOWN ? p->rdb_have : p->rdb_have - PSYNC_MARKER_LEN;
    }
    return take;
}

// ---- the rest ----

const char *psync_full_reason(const struct psync *p, char *dst, size_t cap)
{
    const struct link_request *r = &p->request;
    const struct redis_server *s = &p->server;
    if (p->plain_sync)
        snprintf(dst, cap, "the source knows only SYNC");
    else if (r->offset < 0)
        snprintf(dst, cap, "no position to continue from");
    else if (strcmp(r->replid, s->replid) == 0 || strcmp(r->replid, p->replid) == 0)
        snprintf(dst, cap,
                 "the source's backlog does not hold offset %lld (repl-backlog-size too small?)",
                 (long long)r->offset + 1);
    else if (s->replid2[0] && strcmp(r->replid, s->replid2) == 0)
        snprintf(dst, cap,
                 "offset %lld is not in the history that the source took over (up to %lld)",
                 (long long)r->offset + 1, (long long)s->second_repl_offset);
    else
        snprintf(dst, cap,
                 "the source does not know replication id %s (restarted, or another server)",
                 r->replid);
    return dst;
}

void psync_ack(struct psync *p, uint64_t offset)
{
    if (!p->plain_sync)
        resp_put_cmd(&p->out, "REPLCONF ACK %U", offset);
}

bool psync_ends_with_getack(const char *p, size_t n)
{
    static const char question[] = "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";
    _Static_assert(sizeof(question) - 1 == PSYNC_GETACK_LEN, "length of the question");
    return n >= PSYNC_GETACK_LEN &&
           memcmp(p + n - PSYNC_GETACK_LEN, question, PSYNC_GETACK_LEN) == 0;
}

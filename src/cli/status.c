// SPDX-License-Identifier: Apache-2.0
#include "cli/status.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "control/config.h"
#include "control/peer.h"
#include "control/text.h"

enum { TIMEOUT_MS = 3000, COLUMNS = 9, WATCH_S = 1 };

struct view {
    const char *url, *token;
    char *own_url;
    struct config *config; // owns what token and own_url came from
    bool trouble;          // something that a person should look at
};

// ---- a table ----

struct table {
    struct buf cells[COLUMNS];
    size_t rows;
    int width[COLUMNS];
};

// Columns, not bytes.
static int columns_of(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static void add_row(struct table *t, const char *const *cells)
{
    for (int i = 0; i < COLUMNS; i++) {
        int n = columns_of(cells[i]);
        t->width[i] = n > t->width[i] ? n : t->width[i];
        buf_append(&t->cells[i], cells[i], strlen(cells[i]) + 1);
    }
    t->rows++;
}

static void print_table(struct table *t, FILE *f)
{
    const char *at[COLUMNS];
    for (int i = 0; i < COLUMNS; i++)
        at[i] = t->cells[i].p;
    for (size_t r = 0; r < t->rows; r++) {
        for (int i = 0; i < COLUMNS; i++) {
            fputs(at[i], f);
            int pad = i + 1 < COLUMNS ? t->width[i] - columns_of(at[i]) + 2 : 0;
            fprintf(f, "%*s", pad, "");
            at[i] += strlen(at[i]) + 1;
        }
        fputc('\n', f);
    }
    for (int i = 0; i < COLUMNS; i++)
        buf_free(&t->cells[i]);
}

// ---- what the API says ----

static json_t *get(const struct view *v, const char *url, const char *path, struct err *e)
{
    struct buf body = {0};
    struct peer_request q = {.url = url, .token = v->token, .path = path, .timeout_ms = TIMEOUT_MS};
    json_t *j = NULL;
    json_error_t why;
    if (peer_call(&q, &body, e) == 0) {
        j = json_loadb(body.p ? body.p : "", body.n, 0, &why);
        if (!j)
            err_set(e, ERR_REPLY, "%s%s: the answer is no JSON: %s", url, path, why.text);
    }
    buf_free(&body);
    return j;
}

static const char *text(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static int64_t number(const json_t *j, const char *key)
{
    return json_integer_value(json_object_get(j, key));
}

static void put_bytes(struct buf *b, int64_t n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)n;
    size_t u = 0;
    for (; v >= 1024 && u + 1 < sizeof(units) / sizeof(*units); u++)
        v /= 1024;
    buf_printf(b, u ? "%.1f %s" : "%.0f %s", v, units[u]);
}

// Lines that follow the table.
static void note(struct buf *notes, const char *where, const char *what)
{
    buf_printf(notes, "%s: %s\n", where, what);
}

static void lane_row(struct view *v, struct table *t, struct buf *notes, const char *node,
                     const json_t *lane)
{
    struct buf lag = {0}, applied = {0}, journal = {0}, epoch = {0};
    bool leads = strcmp(text(lane, "Role"), "leader") == 0;
    if (leads) {
        put_bytes(&lag, number(lane, "LagBytes"));
        if (number(lane, "AppliedOffset") >= 0)
            buf_append_i64(&applied, number(lane, "AppliedOffset"));
    }
    if (number(lane, "ReceivedOffset") >= 0) {
        buf_append_i64(&journal, number(lane, "JournalLeft"));
        buf_append_cstr(&journal, "-");
        buf_append_i64(&journal, number(lane, "ReceivedOffset"));
    }
    if (leads && number(lane, "Epoch") > 0)
        buf_append_i64(&epoch, number(lane, "Epoch"));
    add_row(t, (const char *[COLUMNS]){text(lane, "Input"), node, text(lane, "Role"),
                                       text(lane, "LaneState"), text(lane, "Phase"),
                                       leads ? buf_cstr(&lag) : "", leads ? buf_cstr(&applied) : "",
                                       buf_cstr(&journal), buf_cstr(&epoch)});
    const char *error = text(lane, "Error");
    if (*error) {
        char *where = xasprintf("%s at %s", text(lane, "Input"), node);
        note(notes, where, error);
        free(where);
    }
    v->trouble |= *error != 0;
    buf_free(&lag);
    buf_free(&applied);
    buf_free(&journal);
    buf_free(&epoch);
}

static void node_rows(struct view *v, struct table *t, struct buf *notes, const char *node,
                      const char *url)
{
    struct err e = {0};
    json_t *lanes = get(v, url, "/syncer/status", &e), *lane;
    size_t i;
    if (!lanes) {
        note(notes, node, e.msg);
        v->trouble = true;
    }
    json_array_foreach(lanes, i, lane) lane_row(v, t, notes, node, lane);
    json_decref(lanes);
}

static const char *place(const char *url)
{
    const char *p = strstr(url, "://");
    return p ? p + 3 : url;
}

static void group_rows(struct view *v, struct table *t, struct buf *notes, const json_t *group)
{
    const json_t *nodes = json_object_get(group, "Nodes"), *node, *shard;
    size_t i;
    json_array_foreach(nodes, i, node)
    {
        char *url = xasprintf("http://%s", text(node, "Node"));
        node_rows(v, t, notes, text(node, "Node"), url);
        free(url);
    }
    json_array_foreach(json_object_get(group, "Shards"), i, shard)
    {
        if (*text(shard, "Leader"))
            continue;
        note(notes, text(shard, "Shard"), "no node leads");
        v->trouble = true;
    }
    if (*text(group, "Error")) {
        note(notes, text(group, "Registry"), text(group, "Error"));
        v->trouble = true;
    }
    printf("group %s (%s), %zu nodes\n\n", text(group, "Group"), text(group, "Registry"),
           json_array_size(nodes));
}

static int show(struct view *v)
{
    struct err e = {0};
    struct table t = {0};
    struct buf notes = {0};
    v->trouble = false;
    json_t *group = get(v, v->url, "/syncer/group", &e);
    if (!group) {
        fprintf(stderr, "gunyu: %s\n", e.msg);
        return EXIT_FAILED;
    }
    add_row(&t, (const char *[COLUMNS]){"SOURCE", "NODE", "ROLE", "STATE", "PHASE", "LAG",
                                        "APPLIED", "JOURNAL", "EPOCH"});
    if (*text(group, "Group"))
        group_rows(v, &t, &notes, group);
    else
        node_rows(v, &t, &notes, place(v->url), v->url);
    print_table(&t, stdout);
    if (notes.n)
        printf("\n%s", buf_cstr(&notes));
    fflush(stdout);
    buf_free(&notes);
    json_decref(group);
    return v->trouble ? EXIT_FAILED : EXIT_FINE;
}

// ---- the command ----

static int read_config(struct view *v, const struct cli_args *a)
{
    struct config_diags d = {0};
    struct config_sources src = {.file = a->conf, .flags = a->flags, .flags_n = a->flags_n};
    int rc = config_build(&v->config, CONFIG_SYNC, &src, &d);
    config_diags_print(&d, stderr);
    config_diags_free(&d);
    if (rc)
        return rc;
    const char *listen = v->config->server.listen;
    // An address to bind to is none to connect to.
    bool any =
        listen[0] == ':' || strncmp(listen, "0.0.0.0:", 8) == 0 || strncmp(listen, "[::]:", 5) == 0;
    v->own_url = any ? xasprintf("http://127.0.0.1%s", strrchr(listen, ':'))
                     : xasprintf("http://%s", listen);
    v->url = v->own_url;
    v->token = v->config->server.token;
    return 0;
}

int cli_status(const struct cli_args *a)
{
    struct view v = {.url = "http://127.0.0.1:18001", .token = getenv("GUNYU_TOKEN")};
    int code = EXIT_USAGE;
    if (a->rest_n == 0 && (!a->conf || read_config(&v, a) == 0)) {
        if (a->url)
            v.url = a->url;
        for (;;) {
            if (a->watch && isatty(STDOUT_FILENO))
                fputs("\033[H\033[2J", stdout);
            code = show(&v);
            if (!a->watch)
                break;
            sleep(WATCH_S);
        }
    }
    config_free(v.config);
    free(v.own_url);
    return code;
}

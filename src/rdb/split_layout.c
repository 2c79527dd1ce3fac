// SPDX-License-Identifier: Apache-2.0
#include "rdb/split_layout.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "redis/client.h"

enum {
    NODES_MAX = 1 << 20, // bytes of a nodes.conf; a thousand nodes take a quarter of it
    TIMEOUT_MS = 5000,
};

void layout_free(struct layout *l)
{
    for (int i = 0; i < l->n; i++)
        free(l->names[i]);
    free(l->names);
    l->names = NULL;
    l->n = 0;
}

static void begin(struct layout *l)
{
    *l = (struct layout){0};
    for (int i = 0; i < SLOT_COUNT; i++)
        l->part_of[i] = -1;
}

// A new last part; what a file name should not have becomes '-'.
static void add_part(struct layout *l, struct slice name)
{
    l->names = xrealloc(l->names, (size_t)(l->n + 1) * sizeof(*l->names));
    char *made = xstrndup(name.p, name.n);
    for (char *p = made; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("._+-", *p))
            *p = '-';
    if (*made == '.')
        *made = '-';
    for (int i = 0; i < l->n; i++) {
        if (strcmp(l->names[i], made) == 0) {
            free(made);
            made = xasprintf("part-%d", l->n + 1);
            break;
        }
    }
    l->names[l->n++] = made;
}

static struct slice word(struct slice *rest, char end)
{
    const char *at = rest->n ? memchr(rest->p, end, rest->n) : NULL;
    struct slice w = slice_make(rest->p, at ? (size_t)(at - rest->p) : rest->n);
    size_t used = w.n + (at != NULL);
    *rest = slice_make(rest->p + used, rest->n - used);
    return w;
}

// "5" or "5-7", for the last part.
static bool add_range(struct layout *l, struct slice range, int *taken)
{
    uint64_t from, to;
    struct slice rest = range, first = word(&rest, '-');
    bool ok = slice_u64(first, &from);
    to = from;
    if (ok && first.n < range.n)
        ok = slice_u64(rest, &to);
    if (!ok || from > to || to >= SLOT_COUNT)
        return false;
    for (uint64_t i = from; i <= to; i++) {
        if (l->part_of[i] >= 0)
            *taken = (int)i;
        l->part_of[i] = (int16_t)(l->n - 1);
    }
    return true;
}

int layout_ranges(struct layout *l, const char *text, struct err *e)
{
    begin(l);
    struct slice rest = slice_cstr(text);
    int taken = -1;
    while (rest.n) {
        struct slice part = word(&rest, ',');
        char name[80];
        int n =
            snprintf(name, sizeof(name), "slots-%.*s", (int)(part.n < 60 ? part.n : 60), part.p);
        add_part(l, slice_make(name, (size_t)n));
        do {
            struct slice range = word(&part, '+');
            if (!add_range(l, range, &taken))
                return err_set(e, ERR_CONFIG,
                               "\"%.*s\" is no range of slots; they go from 0 to 16383",
                               (int)(range.n < 40 ? range.n : 40), range.p);
        } while (part.n);
        if (l->n >= SLOT_COUNT)
            break;
    }
    if (l->n == 0)
        return err_set(e, ERR_CONFIG, "no range of slots was given");
    if (taken >= 0)
        return err_set(e, ERR_CONFIG, "slot %d is in more than one range", taken);
    return 0;
}

// "10.0.0.1:6379@16379,name" as "10.0.0.1-6379".
static struct slice address_of(struct slice text)
{
    struct slice rest = text, with_bus = word(&rest, ',');
    return word(&with_bus, '@');
}

static bool is_master(struct slice flags)
{
    while (flags.n)
        if (slice_eq(word(&flags, ','), SLICE("master")))
            return true;
    return false;
}

// id address flags master ping pong epoch state range...
static bool add_node(struct layout *l, struct slice line, int *taken)
{
    struct slice field[8];
    for (int i = 0; i < 8; i++)
        field[i] = word(&line, ' ');
    if (field[0].n != 40 || !is_master(field[2]))
        return true;
    bool named = false;
    while (line.n) {
        struct slice range = word(&line, ' ');
        if (range.n == 0 || range.p[0] == '[') // a slot on its way to another node
            continue;
        if (!named)
            add_part(l, address_of(field[1]));
        named = true;
        if (!add_range(l, range, taken))
            return false;
    }
    return true;
}

int layout_nodes(struct layout *l, struct slice text, const char *source, struct err *e)
{
    begin(l);
    int taken = -1, missing = 0, first = -1;
    while (text.n) {
        struct slice line = word(&text, '\n');
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        if (!add_node(l, line, &taken) || l->n >= SLOT_COUNT)
            return err_set(e, ERR_CORRUPT, "%s: a line about a master is broken", source);
    }
    for (int i = 0; i < SLOT_COUNT; i++) {
        if (l->part_of[i] >= 0)
            continue;
        first = missing++ ? first : i;
    }
    if (l->n == 0)
        return err_set(e, ERR_CORRUPT, "%s: names no master with slots", source);
    if (taken >= 0)
        return err_set(e, ERR_CORRUPT, "%s: slot %d has more than one master", source, taken);
    if (missing)
        return err_set(e, ERR_CORRUPT,
                       "%s: %d slots have no master, the first is %d: their keys would be lost",
                       source, missing, first);
    return 0;
}

int layout_file(struct layout *l, const char *path, struct err *e)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return err_sys(e, -errno, "%s: cannot open", path);
    char *text = xmalloc(NODES_MAX);
    errno = 0;
    size_t n = fread(text, 1, NODES_MAX, f);
    int rc = ferror(f) ? err_sys(e, errno ? -errno : -EIO, "%s: cannot read", path) : 0;
    fclose(f);
    if (rc == 0 && n == NODES_MAX)
        rc = err_set(e, ERR_TOO_BIG, "%s: too big to be a list of nodes", path);
    if (rc == 0)
        rc = layout_nodes(l, slice_make(text, n), path, e);
    free(text);
    return rc;
}

int layout_cluster(struct layout *l, const char *uri, struct err *e)
{
    struct endpoint ep = {0};
    struct redis_client *client = NULL;
    struct redis_reply reply;
    char name[300];
    int rc = endpoint_parse(&ep, slice_cstr(uri), e);
    if (rc == 0)
        rc = redis_connect(&client, &ep, TIMEOUT_MS, e);
    if (rc == 0)
        rc = redis_call(client, &reply, e, "CLUSTER NODES");
    if (rc == 0)
        rc = layout_nodes(l, reply.root.text, endpoint_name(&ep, name, sizeof(name)), e);
    if (client)
        redis_close(client);
    endpoint_free(&ep);
    return rc;
}

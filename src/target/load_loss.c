// SPDX-License-Identifier: Apache-2.0
// What the target cannot hold: said before the load begins, then refused or left out and counted.
#include <stdio.h>

#include "base/log.h"
#include "target/load_int.h"

enum { LOGGED_EACH = 10, NAME_SHOWN = 100 };

void load_announce(struct load *l)
{
    l->announced = true;
    unsigned risks = ability_risks(&l->can, rdb_version(l->main.rdb), rdb_is_valkey(l->main.rdb));
    size_t n = 0;
    for (int i = 0; i < LOSSES; i++) {
        if (!(risks & 1u << i))
            continue;
        log_warn(
            l->o.tag,
            "the target, %s, has no %s, which a snapshot of this source may hold; such data %s "
            "(replay.onUnsupported: %s)",
            l->target_name, loss_words((enum loss)i),
            l->o.degrade ? "is left out" : "stops the load", l->o.degrade ? "degrade" : "fail");
        n += (size_t)snprintf(l->unsupported + n, sizeof(l->unsupported) - n, "%s%s", n ? ", " : "",
                              loss_words((enum loss)i));
    }
}

const char *load_unsupported(const struct load *l)
{
    return l->unsupported;
}

static struct slice library_name(struct slice code)
{
    const char *end = memchr(code.p, '\n', code.n);
    struct slice line = slice_make(code.p, end ? (size_t)(end - code.p) : code.n);
    const char *name = memmem(line.p, line.n, "name=", 5);
    if (!name)
        return SLICE("?");
    name += 5;
    size_t n = 0, left = (size_t)(line.p + line.n - name);
    while (n < left && name[n] != ' ' && name[n] != '\r')
        n++;
    return slice_make(name, n);
}

static void name_item(const struct rdb_item *it, struct slice key, char *dst, size_t cap)
{
    struct slice lib = it->kind == RDB_KIND_FUNCTION ? library_name(it->value) : key;
    int n = (int)(lib.n < NAME_SHOWN ? lib.n : NAME_SHOWN);
    if (it->kind == RDB_KIND_FUNCTION)
        snprintf(dst, cap, "function library \"%.*s\"", n, lib.p);
    else if (it->kind == RDB_KIND_MODULE_AUX)
        snprintf(dst, cap, "the global data of module \"%s\"", it->module_name);
    else
        snprintf(dst, cap, "key \"%.*s\" of db %d", n, lib.p, it->db);
}

int load_lose(struct load *l, uint64_t index, const char *name, enum loss what, struct err *e)
{
    if (!l->o.degrade)
        return err_set(e, ERR_UNSUPPORTED,
                       "%s: the target (%s) cannot hold %s; set replay.onUnsupported to "
                       "degrade to go on without",
                       name, l->target_name, loss_words(what));
    if (index < l->again_until) // counted when it was first sent
        return 0;
    if (l->stats.degraded[what]++ < LOGGED_EACH)
        log_warn(l->o.tag, "degraded: %s: the target (%s) cannot hold %s%s", name, l->target_name,
                 loss_words(what),
                 l->stats.degraded[what] == LOGGED_EACH ? "; more of these are only counted" : "");
    return 0;
}

int load_lose_item(struct load *l, struct pass *p, struct slice key, enum loss what, struct err *e)
{
    if (p->lost & 1u << what)
        return 0;
    p->lost |= 1u << what;
    // A second look finds what the first has counted, but for what RESTORE has refused since.
    bool late = what == LOSS_MODULE || what == LOSS_PATH_HASH;
    if (p == &l->again && !late)
        return 0;
    char name[NAME_SHOWN + 60];
    name_item(&p->item, key, name, sizeof(name));
    return load_lose(l, p->item.start, name, what, e);
}

// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "base/mem.h"
#include "control/group_int.h"

static void set_text(json_t *o, const char *name, const char *text)
{
    if (text)
        json_object_set_new(o, name, json_string(text));
}

// Offsets are text: JSON numbers are not exact everywhere.
static void set_u64(json_t *o, const char *name, uint64_t v)
{
    char text[24];
    size_t n = u64_format(text, v);
    json_object_set_new(o, name, json_stringn(text, n));
}

static json_t *shard_json(const struct group_edge *edge)
{
    json_t *o = json_object();
    set_text(o, "replid", edge->replid);
    set_u64(o, "left", edge->left);
    set_u64(o, "right", edge->right);
    json_object_set_new(o, "ready", json_boolean(edge->ready));
    json_object_set_new(o, "able", json_boolean(edge->able));
    return o;
}

char *group_record(struct group *g)
{
    json_t *o = json_object(), *shards = json_object(), *together = json_array();
    set_text(o, "api", g->o.api);
    set_text(o, "replication", g->o.replication);
    set_text(o, "password", g->o.password);
    uv_mutex_lock(&g->lock);
    for (size_t i = 0; i < g->shards_n; i++) {
        const struct group_shard *s = g->shards[i];
        json_object_set_new(shards, s->name, shard_json(&s->edge));
        if (s->together)
            json_array_append_new(together, json_string(s->name));
    }
    uv_mutex_unlock(&g->lock);
    json_object_set_new(o, "shards", shards);
    json_object_set_new(o, "together", together);
    char *text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(o);
    return text ? text : xstrdup("{}");
}

json_t *group_record_read(const char *s)
{
    json_t *o = s ? json_loads(s, 0, NULL) : NULL;
    if (json_is_object(o))
        return o;
    json_decref(o);
    return NULL;
}

const char *group_record_text(const json_t *record, const char *name)
{
    return json_string_value(json_object_get(record, name));
}

static bool get_u64(const json_t *o, const char *name, uint64_t *out)
{
    const char *text = group_record_text(o, name);
    return text && slice_u64(slice_cstr(text), out);
}

bool group_record_edge(const json_t *record, const char *shard, struct group_edge *out)
{
    const json_t *o = json_object_get(json_object_get(record, "shards"), shard);
    const char *replid = group_record_text(o, "replid");
    *out = (struct group_edge){0};
    if (!replid || strlen(replid) >= sizeof(out->replid) || !get_u64(o, "left", &out->left) ||
        !get_u64(o, "right", &out->right))
        return false;
    memcpy(out->replid, replid, strlen(replid) + 1);
    out->ready = json_is_true(json_object_get(o, "ready"));
    out->able = json_is_true(json_object_get(o, "able"));
    return replid[0] != '\0';
}

bool group_record_together(const json_t *record, const char *shard)
{
    size_t i;
    const json_t *v;
    json_array_foreach(json_object_get(record, "together"), i, v)
    {
        const char *name = json_string_value(v);
        if (name && strcmp(name, shard) == 0)
            return true;
    }
    return false;
}

char *group_record_shown(const json_t *record)
{
    json_t *copy = json_copy((json_t *)(uintptr_t)record); // shallow, and only this level changes
    json_object_del(copy, "password");
    char *text = json_dumps(copy, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(copy);
    return text;
}

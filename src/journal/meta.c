// SPDX-License-Identifier: Apache-2.0
#include "journal/meta.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define META_MAGIC "gunyu-journal"
#define META_VERSION 1

bool meta_replid_valid(const char *id)
{
    size_t n = strnlen(id, REPLID_LEN + 1);
    return n > 0 && n <= REPLID_LEN &&
           strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-") == n;
}

bool meta_position_valid(uint64_t position)
{
    return position <= INT64_MAX / 2;
}

void meta_read_boot_id(char out[40])
{
    char id[36];
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, id, sizeof(id));
    if (fd >= 0)
        close(fd);
    // Without one, no two runs count as the same boot.
    memset(out, 0, 40);
    if (n == (ssize_t)sizeof(id))
        memcpy(out, id, sizeof(id));
}

void meta_set_replid(struct meta *m, const char *replid, uint64_t offset)
{
    if (m->replid2[0]) {
        if (m->history_count == META_HISTORY)
            m->history_count--;
        memmove(m->history + 1, m->history, m->history_count * sizeof(m->history[0]));
        memcpy(m->history[0].replid, m->replid2, sizeof(m->replid2));
        m->history[0].offset = m->replid2_offset;
        m->history_count++;
    }
    memcpy(m->replid2, m->replid, sizeof(m->replid));
    m->replid2_offset = offset;
    memset(m->replid, 0, sizeof(m->replid));
    memcpy(m->replid, replid, strnlen(replid, REPLID_LEN));
}

void meta_add_mark(struct meta *m, uint64_t offset, int db, int64_t unix_ms)
{
    if (m->mark_count > 0 && m->marks[m->mark_count - 1].offset >= offset) {
        m->marks[m->mark_count - 1].db = db;
        return;
    }
    if (m->mark_count == META_MARKS) {
        // Every second mark of the older half goes, so the recent past stays fine-grained.
        size_t to = 0;
        for (size_t i = 0; i < META_MARKS; i++)
            if (i >= META_MARKS / 2 || i % 2 == 0)
                m->marks[to++] = m->marks[i];
        m->mark_count = to;
    }
    m->marks[m->mark_count++] = (struct meta_mark){offset, db, unix_ms};
}

void meta_cut_marks(struct meta *m, uint64_t right)
{
    while (m->mark_count > 0 && m->marks[m->mark_count - 1].offset > right)
        m->mark_count--;
}

const struct meta_mark *meta_find_mark(const struct meta *m, uint64_t offset)
{
    size_t lo = 0, hi = m->mark_count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (m->marks[mid].offset <= offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? &m->marks[lo - 1] : NULL;
}

static void put_uint(json_t *o, const char *key, uint64_t v)
{
    json_object_set_new(o, key, json_integer((json_int_t)v));
}

static json_t *encode_ids(const struct meta *m)
{
    json_t *list = json_array();
    for (size_t i = 0; i < m->history_count; i++) {
        json_t *o = json_object();
        json_object_set_new(o, "replid", json_string(m->history[i].replid));
        put_uint(o, "offset", m->history[i].offset);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *encode_marks(const struct meta *m)
{
    json_t *list = json_array();
    for (size_t i = 0; i < m->mark_count; i++) {
        json_t *o = json_array();
        json_array_append_new(o, json_integer((json_int_t)m->marks[i].offset));
        json_array_append_new(o, json_integer(m->marks[i].db));
        json_array_append_new(o, json_integer(m->marks[i].unix_ms));
        json_array_append_new(list, o);
    }
    return list;
}

char *meta_encode(const struct meta *m, size_t *n)
{
    json_t *o = json_object();
    json_object_set_new(o, "magic", json_string(META_MAGIC));
    put_uint(o, "version", META_VERSION);
    put_uint(o, "gen", m->gen);
    json_object_set_new(o, "boot_id", json_string(m->boot_id));
    json_object_set_new(o, "clean", json_boolean(m->clean));
    json_object_set_new(o, "replid", json_string(m->replid));
    if (m->replid2[0]) {
        json_object_set_new(o, "replid2", json_string(m->replid2));
        put_uint(o, "replid2_offset", m->replid2_offset);
    }
    json_object_set_new(o, "history", encode_ids(m));
    if (m->has_log)
        put_uint(o, "log_base", m->log_base);
    if (m->has_snapshot) {
        json_t *s = json_object();
        put_uint(s, "offset", m->snapshot_offset);
        json_object_set_new(s, "complete", json_boolean(m->snapshot_complete));
        json_object_set_new(s, "synced", json_boolean(m->snapshot_synced));
        json_object_set_new(s, "loading", json_boolean(m->snapshot_loading));
        put_uint(s, "size", m->snapshot_complete ? m->snapshot_size : 0);
        put_uint(s, "head", m->snapshot_head);
        json_object_set_new(o, "snapshot", s);
    }
    json_object_set_new(o, "marks", encode_marks(m));
    char *text = json_dumps(o, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
    json_decref(o);
    must(text);
    *n = strlen(text);
    return text;
}

static bool get_uint(const json_t *o, const char *key, uint64_t *v)
{
    const json_t *x = json_object_get(o, key);
    if (!json_is_integer(x) || json_integer_value(x) < 0 ||
        !meta_position_valid((uint64_t)json_integer_value(x)))
        return false;
    *v = (uint64_t)json_integer_value(x);
    return true;
}

static bool get_bool(const json_t *o, const char *key, bool *v)
{
    const json_t *x = json_object_get(o, key);
    *v = json_is_true(x);
    return json_is_boolean(x);
}

static bool get_id(const json_t *o, const char *key, char out[REPLID_LEN + 1])
{
    const char *s = json_string_value(json_object_get(o, key));
    if (!s || (s[0] && !meta_replid_valid(s)))
        return false;
    memset(out, 0, REPLID_LEN + 1);
    memcpy(out, s, strlen(s));
    return true;
}

static bool decode_lists(struct meta *m, const json_t *root)
{
    const json_t *ids = json_object_get(root, "history"), *marks = json_object_get(root, "marks");
    if (!json_is_array(ids) || json_array_size(ids) > META_HISTORY || !json_is_array(marks) ||
        json_array_size(marks) > META_MARKS)
        return false;
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *o = json_array_get(ids, i);
        if (!get_id(o, "replid", m->history[i].replid) ||
            !get_uint(o, "offset", &m->history[i].offset))
            return false;
        m->history_count++;
    }
    for (size_t i = 0; i < json_array_size(marks); i++) {
        const json_t *o = json_array_get(marks, i);
        json_int_t at = json_integer_value(json_array_get(o, 0));
        json_int_t db = json_integer_value(json_array_get(o, 1));
        if (json_array_size(o) != 3 || at < 0 || db < 0 || db > INT32_MAX ||
            (i > 0 && (uint64_t)at <= m->marks[i - 1].offset))
            return false;
        m->marks[m->mark_count++] =
            (struct meta_mark){(uint64_t)at, (int)db, json_integer_value(json_array_get(o, 2))};
    }
    return true;
}

static bool decode_snapshot(struct meta *m, const json_t *root)
{
    const json_t *s = json_object_get(root, "snapshot");
    if (!s)
        return true;
    m->has_snapshot = true;
    if (!json_object_get(s, "loading"))
        m->snapshot_loading = true; // not known: the safe side
    else if (!get_bool(s, "loading", &m->snapshot_loading))
        return false;
    return get_uint(s, "offset", &m->snapshot_offset) &&
           get_bool(s, "complete", &m->snapshot_complete) &&
           get_bool(s, "synced", &m->snapshot_synced) && get_uint(s, "size", &m->snapshot_size) &&
           get_uint(s, "head", &m->snapshot_head);
}

static const char *decode(struct meta *m, const json_t *root)
{
    const char *magic = json_string_value(json_object_get(root, "magic"));
    const char *boot = json_string_value(json_object_get(root, "boot_id"));
    uint64_t version;
    if (!magic || strcmp(magic, META_MAGIC) != 0)
        return "is not the file of a journal";
    if (!get_uint(root, "version", &version) || version != META_VERSION)
        return "has a format version that this program does not know";
    if (!boot || strlen(boot) >= sizeof(m->boot_id))
        return "has no valid boot_id";
    memcpy(m->boot_id, boot, strlen(boot));
    if (!get_uint(root, "gen", &m->gen) || !get_bool(root, "clean", &m->clean))
        return "has no valid gen or clean";
    if (!get_id(root, "replid", m->replid))
        return "has no valid replid";
    if (json_object_get(root, "replid2") && (!get_id(root, "replid2", m->replid2) ||
                                             !get_uint(root, "replid2_offset", &m->replid2_offset)))
        return "has no valid replid2";
    m->has_log = json_object_get(root, "log_base") != NULL;
    if (m->has_log && !get_uint(root, "log_base", &m->log_base))
        return "has no valid log_base";
    if (!decode_snapshot(m, root))
        return "has no valid snapshot";
    return decode_lists(m, root) ? NULL : "has no valid history or marks";
}

int meta_decode(struct meta *m, const char *text, size_t n, struct err *e)
{
    memset(m, 0, sizeof(*m));
    json_error_t je;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);
    if (!root)
        return err_set(e, ERR_CORRUPT, "line %d: %s", je.line, je.text);
    const char *wrong = decode(m, root);
    json_decref(root);
    if (!wrong)
        return 0;
    memset(m, 0, sizeof(*m));
    return err_set(e, ERR_CORRUPT, "%s", wrong);
}

// SPDX-License-Identifier: Apache-2.0
// A report over one or two hostile files: the estimates, the prefix tree and the three renderings.
// The first byte says what is asked for, the second one how deep names are told apart and
// whether the file counts twice.
#include <jansson.h>

#include "file_drive.h"
#include "rdb/report_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct memory_file result;

static char *render(const struct report *r, void (*how)(const struct report *, struct rdb_out *),
                    size_t *n)
{
    struct rdb_out *out;
    struct err e;
    memory_file_set(&result, "", 0);
    int saved = redirect(STDOUT_FILENO, result.fd_plus_1 - 1);
    if (rdb_out_open(&out, "-", RDB_OUT_PLAIN, &e))
        abort();
    how(r, out);
    if (rdb_out_commit(out, &e))
        abort();
    redirect_end(STDOUT_FILENO, saved);
    return memory_file_get(&result, n);
}

static unsigned scripts(const char *p, size_t n)
{
    unsigned found = 0;
    for (const char *end = p + n; (p = memmem(p, (size_t)(end - p), "</script", 8)); p++)
        found++;
    return found;
}

static void check(const struct report *r, uint32_t max_nodes)
{
    size_t n;
    const struct prefix_node *root = prefix_tree_nodes(r->prefixes);
    if (root->count.keys != r->all.keys || root->count.bytes != r->all.bytes)
        abort();
    // A name may still take its way down a tree that is full.
    if (prefix_tree_used(r->prefixes) > max_nodes + PREFIX_DEPTH_MAX)
        abort();
    char *text = render(r, report_text, &n);
    for (size_t i = 0; i < n; i++)
        if ((text[i] >= 0 && text[i] < ' ' && text[i] != '\n') || text[i] == 0x7f)
            abort();
    free(text);
    char *json = render(r, report_json, &n);
    json_t *parsed = json_loadb(json, n, 0, NULL);
    if (!json_is_object(parsed))
        abort();
    json_decref(parsed);
    free(json);
    char *html = render(r, report_html, &n);
    if (scripts(html, n) != scripts(report_page_head, strlen(report_page_head)) +
                                scripts(report_page_tail, strlen(report_page_tail)))
        abort();
    free(html);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct memory_file file;
    static const char *const models[] = {NULL,         "redis",    "redis-8.2",  "valkey-7",
                                         "valkey-8.1", "valkey-9", "redis-none", NULL};
    if (size < 2)
        return 0;
    unsigned model = data[0] & 7;
    const struct report_options o = {
        .model = models[model] ? memory_layout_named(models[model]) : NULL,
        .quantum = data[0] & 8 ? 16 : 8,
        .top = data[0] & 0x10 ? 1 : 20,
        .prefix = {.separators = data[0] & 0x20 ? ":," : NULL,
                   .depth = data[1] % PREFIX_DEPTH_MAX + 1,
                   .max_nodes = 1024},
        .min_share = data[0] & 0x40 ? 0 : 0.005,
        .duplicates_min = data[0] & 0x80 ? 0 : 1,
    };
    struct selection *all = selection_new();
    struct report *r = report_new(&o);
    struct err e;
    memory_file_set(&file, data + 2, size - 2);
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i <= (data[1] & 1); i++)
        rc = report_add(r, file.path, &(struct rdb_input_options){0}, all, &e);
    if (rc == 0) {
        report_finish(r);
        check(r, o.prefix.max_nodes);
    }
    report_free(r);
    selection_free(all);
    return 0;
}

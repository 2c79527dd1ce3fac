// SPDX-License-Identifier: Apache-2.0
#include "rdb/merge_functions.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/mem.h"

struct merge_library {
    char *name; // owns
    size_t name_n;
    XXH128_hash_t code;
    int keep_of; // file whose library goes into the output
    bool taken;
};

void merge_functions_free(struct merge_functions *f)
{
    for (size_t i = 0; i < f->n; i++)
        free(f->all[i].name);
    free(f->all);
    f->all = NULL;
    f->n = 0;
}

void merge_functions_next_file(struct merge_functions *f)
{
    f->file++;
}

void merge_functions_rewind(struct merge_functions *f)
{
    f->looked = f->file > 0;
    f->file = 0;
}

struct slice merge_library_name(struct slice code)
{
    const char *nl = code.n ? memchr(code.p, '\n', code.n) : NULL;
    size_t line = nl ? (size_t)(nl - code.p) : code.n;
    const char *at = memmem(code.p, line, " name=", 6);
    if (!at)
        return code;
    at += 6;
    size_t n = 0, most = (size_t)(code.p + line - at);
    while (n < most && at[n] != ' ' && at[n] != '\r' && at[n] != '\t')
        n++;
    return slice_make(at, n);
}

static struct merge_library *find(struct merge_functions *f, struct slice name)
{
    for (size_t i = 0; i < f->n; i++)
        if (slice_eq(slice_make(f->all[i].name, f->all[i].name_n), name))
            return &f->all[i];
    return NULL;
}

int merge_functions_look(struct merge_functions *f, struct slice code, const char *file,
                         struct err *e)
{
    struct slice name = merge_library_name(code);
    XXH128_hash_t hash = XXH3_128bits(code.p, code.n);
    struct merge_library *known = find(f, name);
    if (!known) {
        f->all = xrealloc(f->all, (f->n + 1) * sizeof(*f->all));
        f->all[f->n++] =
            (struct merge_library){xstrndup(name.p, name.n), name.n, hash, f->file, false};
        return 0;
    }
    if (XXH128_isEqual(known->code, hash))
        return 0;
    if (!f->differ)
        return err_set(e, ERR_CONFIG,
                       "%s: the function library '%.*s' is another one than in an earlier file; "
                       "choose with --on-conflict first or last",
                       file, name.n > 60 ? 60 : (int)name.n, name.p);
    if (f->keep_last) {
        known->keep_of = f->file;
        known->code = hash;
    }
    return 0;
}

int merge_functions_take(struct merge_functions *f, struct slice code, const char *file, bool *keep,
                         struct err *e)
{
    int rc = f->looked ? 0 : merge_functions_look(f, code, file, e);
    struct merge_library *known = rc == 0 ? find(f, merge_library_name(code)) : NULL;
    *keep = known && known->keep_of == f->file && !known->taken;
    if (*keep)
        known->taken = true;
    return rc;
}

// SPDX-License-Identifier: Apache-2.0
// What the HTTP server parses itself: parameters, lists of inputs, the command of flushCommand; and
// what it writes of foreign text.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/mem.h"
#include "control/form.h"
#include "control/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inputs(const char *value)
{
    char *once = NULL, *twice = NULL;
    struct err e = {0};
    if (form_inputs(value, &once, &e) < 0) {
        must(!once && e.code == ERR_CONFIG && e.msg[0]);
        return;
    }
    // A cleaned list is clean.
    must(form_inputs(once, &twice, &e) == 0 && strcmp(once, twice) == 0);
    free(once);
    free(twice);
}

static void check_text(const char *value)
{
    struct buf b = {0};
    text_json(&b, value);
    json_t *j = json_loads(buf_cstr(&b), JSON_DECODE_ANY, NULL);
    must(j);
    json_decref(j);
    buf_clear(&b);
    text_html(&b, value);
    must(b.n == 0 || (!memchr(b.p, '<', b.n) && !memchr(b.p, '"', b.n)));
    buf_clear(&b);
    text_label(&b, value);
    must(!memchr(b.p, '\n', b.n));
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct form f = {0};
    struct err e = {0};
    int rc = form_parse(&f, slice_make((const char *)data, size), &e);
    must(rc == 0 || (rc == ERR_CONFIG && e.msg[0]));
    must(f.n <= FORM_MAX_PARAMS);
    bool yes;
    for (size_t i = 0; i < f.n; i++) {
        must(form_get(&f, f.params[i].name) == f.params[i].value);
        check_inputs(f.params[i].value);
        check_text(f.params[i].value);
        (void)!form_flush_command(f.params[i].value, &e);
        (void)!form_yes(&f, f.params[i].name, &yes, &e);
    }
    form_free(&f);
    char *raw = xstrndup((const char *)data, size);
    check_text(raw);
    free(raw);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
// Parameters of a request: name=value&name=value with percent encoding, from a query string or a
// form body. The bytes come from anyone who can reach the port.
#ifndef GUNYU_CONTROL_FORM_H
#define GUNYU_CONTROL_FORM_H

#include "base/err.h"
#include "base/slice.h"

enum { FORM_MAX_PARAMS = 16 };

struct form {
    size_t n;
    struct form_param {
        char *name;  // owns
        char *value; // owns
    } params[FORM_MAX_PARAMS];
};

// Adds the parameters of one encoded text; call it again for the body. ERR_CONFIG (the message
// names the fault) on a bad percent escape, a control character, a name that was there before, or
// more than FORM_MAX_PARAMS. After an error the form still has to be freed.
int form_parse(struct form *f, struct slice encoded, struct err *e) must_check;
void form_free(struct form *f);

// NULL when not given. Borrowed from the form.
const char *form_get(const struct form *f, const char *name);
// "yes" and "no" (the default); anything else is ERR_CONFIG.
int form_yes(const struct form *f, const char *name, bool *out, struct err *e) must_check;

// "all" or addresses with commas between them. Strips blanks and drops repetitions; *out is new.
// ERR_CONFIG for an empty item, a blank inside one, or "all" among others.
int form_inputs(const char *value, char **out, struct err *e) must_check;
// Whether the parameter extraKeys is delete; keep, or none, is false.
int form_extra_keys(const struct form *f, bool *del, struct err *e) must_check;
// What may empty a target: one word, as FLUSHDB can be renamed, and "async" or "sync" after it.
int form_flush_command(const char *value, struct err *e) must_check;

#endif

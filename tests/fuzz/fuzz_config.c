// SPDX-License-Identifier: Apache-2.0
// Any text as a configuration. What loads must show itself so that it reads back as
// the same.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "control/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const struct config *c, enum config_scope scope)
{
    struct buf first = {0}, second = {0};
    struct config_diags d = {0};
    struct config *again = NULL;
    config_to_yaml(c, false, &first);
    must(config_load_text(&again, scope, "again", buf_slice(&first), &d) == 0);
    config_to_yaml(again, false, &second);
    must(slice_eq(buf_slice(&first), buf_slice(&second)));
    buf_clear(&second);
    config_to_json(c, true, &second);
    config_free(again);
    config_diags_free(&d);
    buf_free(&first);
    buf_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_make((const char *)data, size);
    // Files of the machine are none of the fuzzer's business.
    if (data && (memmem(data, size, "File", 4) || memmem(data, size, "file", 4)))
        return 0;
    for (int scope = CONFIG_SYNC; scope <= CONFIG_RDB; scope++) {
        struct config_diags d = {0};
        struct config *c = NULL;
        int rc = config_load_text(&c, (enum config_scope)scope, "fuzz", text, &d);
        must((rc == 0) == (d.errors == 0));
        if (c) {
            must(config_validate(c, &d) == 0 || d.errors > 0);
            round_trip(c, (enum config_scope)scope);
        }
        config_free(c);
        config_diags_free(&d);
    }
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
// What of the configuration a lane is told.
#ifndef GUNYU_CONTROL_LANE_CONFIG_H
#define GUNYU_CONTROL_LANE_CONFIG_H

#include "control/config.h"
#include "flow/filter.h"
#include "lane/lane.h"

// A source's address as a file name. Returns new.
char *lane_config_name(const char *address);
// The filter that all lanes share. Returns new in *out.
int lane_config_filter(struct filter **out, const struct filter_config *f,
                       struct err *e) must_check;
// All that is the same for every one of as many lanes; borrows from c. The rest stays zeroed.
void lane_config_options(struct lane_options *o, const struct config *c, size_t lanes);

#endif

// SPDX-License-Identifier: Apache-2.0
// The report as one page: the JSON between the halves of a page that was built in.
#include "rdb/report_impl.h"

void report_html(const struct report *r, struct rdb_out *out)
{
    rdb_out_write(out, report_page_head, strlen(report_page_head), NULL);
    report_json(r, out);
    rdb_out_write(out, report_page_tail, strlen(report_page_tail), NULL);
}

// SPDX-License-Identifier: Apache-2.0
// Puts text of unknown origin (error messages of peers, addresses, request paths) into JSON, HTML
// and Prometheus labels. Bytes that are not UTF-8 become U+FFFD, because all three formats are
// refused as a whole by their readers for one bad byte.
#ifndef GUNYU_CONTROL_TEXT_H
#define GUNYU_CONTROL_TEXT_H

#include "base/buf.h"

// A JSON string with its quotes.
void text_json(struct buf *b, const char *s);
// HTML text or a quoted attribute's value.
void text_html(struct buf *b, const char *s);
// A label's value with its quotes.
void text_label(struct buf *b, const char *s);
// v / 10^decimals, independent of the locale; trailing zeros of the fraction are left out.
void text_fixed(struct buf *b, uint64_t v, unsigned decimals);

#endif

// SPDX-License-Identifier: Apache-2.0
#include "control/text.h"

// Length of the well-formed UTF-8 sequence at p (no overlong forms, no surrogates), 0 if none. The
// terminating NUL ends a cut sequence, so nothing behind it is read.
static size_t utf8_length(const unsigned char *p)
{
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    size_t n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    unsigned char low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

typedef bool escape_fn(struct buf *b, unsigned char c);

static void append_escaped(struct buf *b, const char *s, escape_fn *escape)
{
    const unsigned char *p = (const unsigned char *)s;
    while (*p) {
        size_t n = utf8_length(p);
        if (n == 0) {
            buf_append_cstr(b, "\xef\xbf\xbd");
            p++;
            continue;
        }
        if (n > 1 || !escape(b, *p))
            buf_append(b, p, n);
        p += n;
    }
}

static bool escape_json(struct buf *b, unsigned char c)
{
    if (c == '"' || c == '\\') {
        buf_append_char(b, '\\');
        buf_append_char(b, (char)c);
    } else if (c < 0x20 || c == 0x7f) {
        buf_printf(b, "\\u%04x", c);
    } else {
        return false;
    }
    return true;
}

static bool escape_html(struct buf *b, unsigned char c)
{
    static const struct {
        unsigned char c;
        const char *entity;
    } entities[] = {
        {'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"},
    };
    for (size_t i = 0; i < sizeof(entities) / sizeof(*entities); i++) {
        if (entities[i].c == c) {
            buf_append_cstr(b, entities[i].entity);
            return true;
        }
    }
    if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
        buf_append_char(b, ' ');
        return true;
    }
    return false;
}

static bool escape_label(struct buf *b, unsigned char c)
{
    if (c == '\n') {
        buf_append_cstr(b, "\\n");
    } else if (c == '"' || c == '\\') {
        buf_append_char(b, '\\');
        buf_append_char(b, (char)c);
    } else {
        return false;
    }
    return true;
}

void text_json(struct buf *b, const char *s)
{
    buf_append_char(b, '"');
    append_escaped(b, s, escape_json);
    buf_append_char(b, '"');
}

void text_html(struct buf *b, const char *s)
{
    append_escaped(b, s, escape_html);
}

void text_label(struct buf *b, const char *s)
{
    buf_append_char(b, '"');
    append_escaped(b, s, escape_label);
    buf_append_char(b, '"');
}

void text_fixed(struct buf *b, uint64_t v, unsigned decimals)
{
    uint64_t scale = 1;
    for (unsigned i = 0; i < decimals; i++)
        scale *= 10;
    buf_append_u64(b, v / scale);
    uint64_t rest = v % scale;
    if (rest == 0)
        return;
    buf_append_char(b, '.');
    while (rest) {
        scale /= 10;
        buf_append_char(b, (char)('0' + rest / scale));
        rest %= scale;
    }
}

// SPDX-License-Identifier: Apache-2.0
#include "codec/resp.h"

#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/mem.h"

#define MAX_LENGTH_LINE 24 // type byte, sign, 20 digits, CR, LF

// Reads "<decimal>\r\n" at p[at]. Returns the position after it, 0 when more bytes are needed,
// SIZE_MAX when it is malformed. The number must be written as servers write it: no '+', no
// leading zeros.
static inline size_t read_length(const char *p, size_t n, size_t at, int64_t *out)
{
    size_t i = at;
    bool negative = i < n && p[i] == '-';
    i += negative;
    size_t digits = i;
    uint64_t v = 0;
    while (i < n) {
        unsigned d = (unsigned)(unsigned char)p[i] - '0';
        if (d > 9)
            break;
        v = v * 10 + d;
        if (++i - digits > 18)
            return SIZE_MAX;
    }
    if (i > digits + 1 && p[digits] == '0')
        return SIZE_MAX;
    if (i == n)
        return 0;
    if (i == digits || p[i] != '\r' || (negative && v == 0))
        return SIZE_MAX;
    if (i + 1 == n)
        return 0;
    if (p[i + 1] != '\n')
        return SIZE_MAX;
    *out = negative ? -(int64_t)v : (int64_t)v;
    return i + 2;
}

// ---- commands ----

static __attribute__((noinline)) void grow_argv(struct resp_cmd *c)
{
    c->cap = c->cap == 0 ? 16 : c->cap > INT_MAX / 2 ? INT_MAX : c->cap * 2;
    c->argv = xrealloc(c->argv, (size_t)c->cap * sizeof(*c->argv));
}

static int finish(struct resp_cmd *c, size_t len)
{
    c->len = len;
    c->pos = 0;
    c->want = 0;
    return 1;
}

static bool is_space(char ch)
{
    return isspace((unsigned char)ch);
}

static int hex_value(char ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    ch = (char)(ch | 0x20);
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

// One escape of a double-quoted word, after the backslash at *i. Moves *i past it.
static char unescape(const char *p, size_t n, size_t *i)
{
    static const char from[] = "nrtba", to[] = "\n\r\t\b\a";
    char ch = p[(*i)++];
    if (ch == 'x' && *i + 1 < n) {
        int hi = hex_value(p[*i]), lo = hex_value(p[*i + 1]);
        if (hi >= 0 && lo >= 0) {
            *i += 2;
            return (char)(hi * 16 + lo);
        }
    }
    const char *known = ch ? strchr(from, ch) : NULL;
    return known ? to[known - from] : ch;
}

// Appends the quoted part that starts after the quote at *i to the scratch and moves *i past the
// closing quote, which must end the word.
static bool read_quoted(struct buf *out, const char *p, size_t n, size_t *i, char quote)
{
    while (*i < n) {
        char ch = p[(*i)++];
        if (ch == quote)
            return *i == n || is_space(p[*i]);
        if (ch == '\\' && *i < n && quote == '"')
            ch = unescape(p, n, i);
        else if (ch == '\\' && *i < n && p[*i] == '\'')
            ch = p[(*i)++];
        buf_append_char(out, ch);
    }
    return false;
}

static bool read_word(struct buf *out, const char *p, size_t n, size_t *i)
{
    while (*i < n && !is_space(p[*i])) {
        char ch = p[(*i)++];
        if (ch == '"' || ch == '\'')
            return read_quoted(out, p, n, i, ch);
        buf_append_char(out, ch);
    }
    return true;
}

static int split_inline(struct resp_cmd *c, const char *p, size_t n)
{
    buf_clear(&c->scratch);
    buf_reserve(&c->scratch, n); // the slices point into it: it must not move while they are made
    size_t i = 0;
    for (;;) {
        while (i < n && is_space(p[i]))
            i++;
        if (i == n)
            return 1;
        if (c->argc == c->cap)
            grow_argv(c);
        size_t from = c->scratch.n;
        if (!read_word(&c->scratch, p, n, &i))
            return ERR_PROTOCOL;
        c->argv[c->argc++] = slice_make(c->scratch.p + from, c->scratch.n - from);
    }
}

static int parse_inline(struct resp_cmd *c, const char *p, size_t n)
{
    const char *nl = c->pos < n ? memchr(p + c->pos, '\n', n - c->pos) : NULL;
    if (!nl) {
        if (n - c->lead > RESP_MAX_INLINE)
            return ERR_PROTOCOL;
        // Newlines in front are handed out at once, so an unfinished line always starts at 0.
        if (c->lead > 0)
            return finish(c, c->lead);
        c->want = -1;
        c->pos = n;
        return 0;
    }
    size_t end = (size_t)(nl - p);
    if (end - c->lead > RESP_MAX_INLINE || memchr(p + c->lead, '\0', end - c->lead))
        return ERR_PROTOCOL;
    c->is_inline = true;
    int rc = split_inline(c, p + c->lead, end - c->lead);
    return rc < 0 ? rc : finish(c, end + 1);
}

static int parse_bulks(struct resp_cmd *c, const char *p, size_t n)
{
    size_t pos = c->pos;
    int argc = c->argc, want = c->want;
    int rc = 0;
    while (argc < want) {
        if (pos == n)
            break;
        int64_t len = 0;
        size_t body = p[pos] == '$' ? read_length(p, n, pos + 1, &len) : SIZE_MAX;
        if (body == 0)
            break;
        if (body == SIZE_MAX || len < 0 || (uint64_t)len > RESP_MAX_ARG) {
            rc = ERR_PROTOCOL;
            break;
        }
        size_t end = body + (size_t)len;
        if ((end < n && p[end] != '\r') || (end + 1 < n && p[end + 1] != '\n')) {
            rc = ERR_PROTOCOL;
            break;
        }
        if (end + 2 > n)
            break;
        if (argc == c->cap)
            grow_argv(c);
        // An offset until the command is complete, as the caller may move the bytes.
        c->argv[argc++] = slice_make((const char *)(uintptr_t)body, (size_t)len);
        pos = end + 2;
    }
    c->pos = pos;
    c->argc = argc;
    if (argc < want)
        return rc;
    for (int i = 0; i < argc; i++)
        c->argv[i].p = p + (uintptr_t)c->argv[i].p;
    return finish(c, pos);
}

static size_t skip_newlines(const char *p, size_t n)
{
    size_t i = 0;
    for (;;) {
        if (i < n && p[i] == '\n')
            i++;
        else if (i + 1 < n && p[i] == '\r' && p[i + 1] == '\n')
            i += 2;
        else
            return i;
    }
}

int resp_cmd_parse(struct resp_cmd *c, const char *p, size_t n)
{
    if (c->want > 0)
        return parse_bulks(c, p, n);
    if (c->want < 0)
        return parse_inline(c, p, n);
    c->argc = 0;
    c->is_inline = false;
    c->lead = skip_newlines(p, n);
    c->pos = c->lead;
    if (c->lead == n)
        return n > 0 ? finish(c, n) : 0;
    if (p[c->lead] != '*')
        return parse_inline(c, p, n);
    int64_t count = 0;
    size_t body = read_length(p, n, c->lead + 1, &count);
    if (body == 0)
        return c->lead > 0 ? finish(c, c->lead) : 0;
    if (body == SIZE_MAX || count > RESP_MAX_ARGS)
        return ERR_PROTOCOL;
    if (count <= 0)
        return finish(c, body);
    c->pos = body;
    c->want = (int)count;
    return parse_bulks(c, p, n);
}

void resp_cmd_restart(struct resp_cmd *c)
{
    c->want = 0;
}

void resp_cmd_free(struct resp_cmd *c)
{
    free(c->argv);
    buf_free(&c->scratch);
    *c = (struct resp_cmd){0};
}

// ---- replies ----

// What the type byte says about the node.
enum shape {
    SHAPE_BAD,
    SHAPE_LINE,      // the line is the value
    SHAPE_BULK,      // a length, then that many bytes
    SHAPE_ARRAY,     // a count of children
    SHAPE_PAIRS,     // a count of pairs of children
    SHAPE_ATTRIBUTE, // as PAIRS, in front of the node that it describes
};

static const struct {
    uint8_t shape, type;
} node_types[256] = {
    ['+'] = {SHAPE_LINE, RESP_STATUS},     ['-'] = {SHAPE_LINE, RESP_ERROR},
    [':'] = {SHAPE_LINE, RESP_INTEGER},    ['_'] = {SHAPE_LINE, RESP_NIL},
    ['#'] = {SHAPE_LINE, RESP_BOOL},       [','] = {SHAPE_LINE, RESP_DOUBLE},
    ['('] = {SHAPE_LINE, RESP_BIGNUM},     ['$'] = {SHAPE_BULK, RESP_BULK},
    ['='] = {SHAPE_BULK, RESP_BULK},       ['!'] = {SHAPE_BULK, RESP_ERROR},
    ['*'] = {SHAPE_ARRAY, RESP_ARRAY},     ['~'] = {SHAPE_ARRAY, RESP_SET},
    ['>'] = {SHAPE_ARRAY, RESP_PUSH},      ['%'] = {SHAPE_PAIRS, RESP_MAP},
    ['|'] = {SHAPE_ATTRIBUTE, RESP_ARRAY},
};

// Position of the CR of the first CRLF in [from, n); SIZE_MAX when there is none.
static size_t find_crlf(const char *p, size_t n, size_t from)
{
    for (size_t i = from; i < n;) {
        const char *cr = memchr(p + i, '\r', n - i);
        if (!cr)
            break;
        i = (size_t)(cr - p) + 1;
        if (i < n && p[i] == '\n')
            return i - 1;
    }
    return SIZE_MAX;
}

// A line's value where the protocol says what it must be.
static bool line_value(enum resp_type type, struct slice text, int64_t *num)
{
    *num = 0;
    switch (type) {
    case RESP_INTEGER:
        if (text.n > 1 && text.p[0] == '+')
            text = slice_make(text.p + 1, text.n - 1);
        return slice_i64(text, num);
    case RESP_NIL:
        return text.n == 0;
    case RESP_BOOL:
        *num = text.n == 1 && text.p[0] == 't';
        return text.n == 1 && (text.p[0] == 't' || text.p[0] == 'f');
    default:
        return true;
    }
}

// Reads the node at `at`, an attribute's head included. Returns the position after its own bytes
// (children not included), 0 when more bytes are needed, SIZE_MAX when it is malformed. *line is
// where the search for the line's end may go on. *count is the number of children.
static size_t read_node(const char *p, size_t n, size_t at, size_t *line, struct resp_node *out,
                        int64_t *count)
{
    if (at >= n)
        return 0;
    enum shape shape = node_types[(unsigned char)p[at]].shape;
    *out = (struct resp_node){.type = node_types[(unsigned char)p[at]].type};
    *count = 0;
    if (shape == SHAPE_BAD)
        return SIZE_MAX;
    if (shape == SHAPE_LINE) {
        size_t cr = find_crlf(p, n, *line > at ? *line : at + 1);
        if (cr == SIZE_MAX) {
            *line = n - 1 > at ? n - 1 : at + 1; // a CR may be the last byte
            return 0;
        }
        out->text = slice_make(p + at + 1, cr - at - 1);
        return line_value(out->type, out->text, &out->num) ? cr + 2 : SIZE_MAX;
    }
    int64_t len = 0;
    size_t body = read_length(p, n, at + 1, &len);
    if (body == 0 || body == SIZE_MAX)
        return body;
    if (len < 0) {
        out->type = RESP_NIL;
        return len == -1 && (p[at] == '$' || p[at] == '*') ? body : SIZE_MAX;
    }
    if (shape != SHAPE_BULK) {
        *count = shape == SHAPE_ARRAY ? len : len * 2;
        out->num = *count;
        return len <= INT32_MAX ? body : SIZE_MAX;
    }
    if ((uint64_t)len > RESP_MAX_ARG)
        return SIZE_MAX;
    size_t end = body + (size_t)len;
    if ((end < n && p[end] != '\r') || (end + 1 < n && p[end + 1] != '\n'))
        return SIZE_MAX;
    if (end + 2 > n)
        return 0;
    bool prefixed = p[at] == '=' && len >= 4 && p[body + 3] == ':';
    out->text =
        prefixed ? slice_make(p + body + 4, (size_t)len - 4) : slice_make(p + body, (size_t)len);
    return end + 2;
}

int resp_scan(struct resp_scan *s, const char *p, size_t n, size_t *len)
{
    if (s->left == 0)
        s->left = 1;
    while (s->left > 0) {
        struct resp_node node;
        int64_t count;
        size_t next = read_node(p, n, s->pos, &s->line, &node, &count);
        if (next == 0)
            return 0;
        if (next == SIZE_MAX)
            return ERR_PROTOCOL;
        bool attribute = p[s->pos] == '|'; // comes in addition to the node that it describes
        s->pos = next;
        s->left += count - !attribute;
        if (s->left > INT64_MAX / 2)
            return ERR_PROTOCOL;
    }
    *len = s->pos;
    *s = (struct resp_scan){0};
    return 1;
}

bool resp_next(const char *p, size_t n, size_t *pos, struct resp_node *out)
{
    int64_t skip = 0; // nodes of attributes still to pass
    for (;;) {
        int64_t count;
        size_t line = 0;
        size_t next = read_node(p, n, *pos, &line, out, &count);
        if (next == 0 || next == SIZE_MAX)
            return false;
        bool attribute = p[*pos] == '|';
        *pos = next;
        if (!attribute && skip == 0)
            return true;
        if (skip > INT64_MAX / 2)
            return false;
        skip += count - !attribute;
    }
}

// ---- writing ----

static void put_header(struct buf *b, char type, size_t n)
{
    char *p = buf_reserve(b, MAX_LENGTH_LINE);
    size_t k = 0;
    p[k++] = type;
    k += u64_format(p + k, n);
    p[k++] = '\r';
    p[k++] = '\n';
    b->n += k;
}

void resp_put_array(struct buf *b, size_t n)
{
    put_header(b, '*', n);
}

void resp_put_bulk_header(struct buf *b, size_t n)
{
    put_header(b, '$', n);
}

void resp_put_bulk(struct buf *b, struct slice s)
{
    buf_reserve(b, s.n + MAX_LENGTH_LINE + 2);
    put_header(b, '$', s.n);
    buf_append_slice(b, s);
    buf_append(b, "\r\n", 2);
}

void resp_put_i64(struct buf *b, int64_t v)
{
    char digits[21];
    resp_put_bulk(b, slice_make(digits, i64_format(digits, v)));
}

void resp_put_argv(struct buf *b, int argc, const struct slice *argv)
{
    put_header(b, '*', (size_t)argc);
    for (int i = 0; i < argc; i++)
        resp_put_bulk(b, argv[i]);
}

// A va_list that can be passed by address, whatever type it is.
struct arguments {
    va_list list;
};

// The text of the conversion `conv`; numbers are written to digits.
static struct slice conversion(char conv, struct arguments *args, char digits[21])
{
    switch (conv) {
    case '%':
        return SLICE("%");
    case 's':
        return slice_cstr(va_arg(args->list, const char *));
    case 'b':
        return *va_arg(args->list, const struct slice *);
    case 'd':
        return slice_make(digits, i64_format(digits, va_arg(args->list, int)));
    case 'L':
        return slice_make(digits, i64_format(digits, va_arg(args->list, int64_t)));
    case 'U':
        return slice_make(digits, u64_format(digits, va_arg(args->list, uint64_t)));
    default:
        must_failed("resp_put_cmd knows the conversion", __FILE__, __LINE__);
    }
}

// Walks one word of fmt. With b, appends its text; returns its length and moves *fmt behind it.
static size_t walk_word(struct buf *b, const char **fmt, struct arguments *args)
{
    size_t n = 0;
    const char *f = *fmt;
    while (*f && *f != ' ') {
        char digits[21];
        struct slice piece = slice_make(f, 1);
        if (*f == '%')
            piece = conversion(*++f, args, digits);
        f++;
        n += piece.n;
        if (b)
            buf_append_slice(b, piece);
    }
    *fmt = f;
    return n;
}

void resp_put_vcmd(struct buf *b, const char *fmt, va_list ap)
{
    size_t words = 1;
    for (const char *f = fmt; *f; f++)
        words += *f == ' ';
    put_header(b, '*', words);
    struct arguments args, ahead;
    va_copy(args.list, ap);
    for (size_t i = 0; i < words; i++) {
        va_copy(ahead.list, args.list);
        const char *f = fmt;
        put_header(b, '$', walk_word(NULL, &f, &ahead));
        va_end(ahead.list);
        walk_word(b, &fmt, &args);
        buf_append(b, "\r\n", 2);
        fmt += *fmt == ' ';
    }
    va_end(args.list);
}

void resp_put_cmd(struct buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    resp_put_vcmd(b, fmt, args);
    va_end(args);
}

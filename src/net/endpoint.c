// SPDX-License-Identifier: Apache-2.0
#include "net/endpoint.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"

enum { DEFAULT_PORT = 6379, MAX_HOST = 253, MAX_SOCKET_PATH = 107 };

static void secret_free(char *s)
{
    if (s)
        explicit_bzero(s, strlen(s));
    free(s);
}

void endpoint_free(struct endpoint *ep)
{
    free(ep->host);
    free(ep->path);
    free(ep->user);
    secret_free(ep->password);
    free(ep->tls.ca_file);
    free(ep->tls.ca_dir);
    free(ep->tls.cert_file);
    free(ep->tls.key_file);
    free(ep->tls.server_name);
    memset(ep, 0, sizeof(*ep));
}

void endpoints_free(struct endpoint *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        endpoint_free(&list[i]);
    free(list);
}

static char *dup_or_null(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

void endpoint_copy(struct endpoint *dst, const struct endpoint *src)
{
    *dst = *src;
    dst->host = dup_or_null(src->host);
    dst->path = dup_or_null(src->path);
    dst->user = dup_or_null(src->user);
    dst->password = dup_or_null(src->password);
    dst->tls.ca_file = dup_or_null(src->tls.ca_file);
    dst->tls.ca_dir = dup_or_null(src->tls.ca_dir);
    dst->tls.cert_file = dup_or_null(src->tls.cert_file);
    dst->tls.key_file = dup_or_null(src->tls.key_file);
    dst->tls.server_name = dup_or_null(src->tls.server_name);
}

void endpoint_move(struct endpoint *dst, const struct endpoint *src, const char *host,
                   uint16_t port)
{
    struct endpoint at = *src;
    // Only read by the copy.
    at.host = (char *)(uintptr_t)host;
    at.port = port;
    at.path = NULL;
    endpoint_copy(dst, &at);
}

int endpoint_find(struct endpoint *out, const struct endpoint *fixed,
                  const struct endpoint_finder *f, struct err *e)
{
    *out = (struct endpoint){0};
    if (!f->fn) {
        endpoint_copy(out, fixed);
        return 0;
    }
    int rc = f->fn(f->ctx, out, e);
    out->send_until = fixed->send_until;
    return rc;
}

char *endpoint_name(const struct endpoint *ep, char *dst, unsigned long cap)
{
    if (ep->path)
        snprintf(dst, cap, "unix:%s", ep->path);
    else if (ep->host && strchr(ep->host, ':'))
        snprintf(dst, cap, "[%s]:%u", ep->host, (unsigned)ep->port);
    else
        snprintf(dst, cap, "%s:%u", ep->host ? ep->host : "", (unsigned)ep->port);
    return dst;
}

// ---- parsing ----

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

// Returns new, or NULL when an escape is malformed or a NUL would appear.
static char *percent_decode(struct slice s)
{
    char *out = xcalloc(s.n + 1, 1);
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%') {
            int hi = i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1;
            int lo = i + 2 < s.n ? hex_digit(s.p[i + 2]) : -1;
            if (hi < 0 || lo < 0) {
                secret_free(out);
                return NULL;
            }
            c = (char)(hi * 16 + lo);
            i += 2;
        }
        if (c == '\0') {
            secret_free(out);
            return NULL;
        }
        out[n++] = c;
    }
    return out;
}

// The part before the first (or last) `c`; *rest gets what follows. False when there is none.
static bool split_at(struct slice s, char c, bool last, struct slice *head, struct slice *rest)
{
    const char *at = !s.n ? NULL : last ? memrchr(s.p, c, s.n) : memchr(s.p, c, s.n);
    if (!at)
        return false;
    *head = slice_make(s.p, (size_t)(at - s.p));
    *rest = slice_make(at + 1, s.n - head->n - 1);
    return true;
}

static int parse_db(struct endpoint *ep, struct slice s, struct err *e)
{
    int64_t db;
    if (!slice_i64(s, &db) || db < 0 || db > INT32_MAX)
        return err_set(e, ERR_CONFIG, "database must be a number from 0 on");
    ep->db = (int)db;
    return 0;
}

static int parse_query(struct endpoint *ep, struct slice query, struct err *e)
{
    while (query.n) {
        struct slice pair = query, rest = {0}, key, value;
        split_at(query, '&', false, &pair, &rest);
        query = rest;
        if (!split_at(pair, '=', false, &key, &value) || !slice_eq(key, SLICE("db")))
            return err_set(e, ERR_CONFIG, "unknown parameter after '?' (known: db=N)");
        int rc = parse_db(ep, value, e);
        if (rc)
            return rc;
    }
    return 0;
}

static int parse_userinfo(struct endpoint *ep, struct slice info, struct err *e)
{
    struct slice user = info, password;
    if (split_at(info, ':', false, &user, &password)) {
        // "user:" means the empty password (a nopass user); ":" alone means none.
        if (password.n || user.n)
            ep->password = percent_decode(password);
        if (!ep->password && (password.n || user.n))
            return err_set(e, ERR_CONFIG,
                           "bad percent-encoding in the password (write '%%' as %%25)");
    }
    if (user.n) {
        ep->user = percent_decode(user);
        if (!ep->user)
            return err_set(e, ERR_CONFIG, "bad percent-encoding in the user name");
    }
    return 0;
}

static int parse_port(struct endpoint *ep, struct slice s, struct err *e)
{
    uint64_t port;
    if (!slice_u64(s, &port) || port == 0 || port > UINT16_MAX)
        return err_set(e, ERR_CONFIG, "port must be a number from 1 to 65535");
    ep->port = (uint16_t)port;
    return 0;
}

static bool host_char_ok(char c, bool v6)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
        c == '-' || c == '_')
        return true;
    return v6 && (c == ':' || c == '%');
}

static bool host_ok(struct slice s, bool v6)
{
    bool ok = s.n > 0 && s.n <= MAX_HOST;
    for (size_t i = 0; ok && i < s.n; i++)
        ok = host_char_ok(s.p[i], v6);
    return ok;
}

bool endpoint_host_ok(struct slice s)
{
    return host_ok(s, true);
}

static int set_host(struct endpoint *ep, struct slice s, bool v6, struct err *e)
{
    char *host = percent_decode(s);
    if (!host_ok(slice_cstr(host), v6)) {
        bool some = host && host[0];
        free(host);
        return err_set(e, ERR_CONFIG, some ? "bad character in the host name" : "no host name");
    }
    ep->host = host;
    return 0;
}

static int parse_hostport(struct endpoint *ep, struct slice s, struct err *e)
{
    struct slice host = s, port = {0}, tail;
    bool v6 = s.n && s.p[0] == '[', has_port = false;
    if (v6) {
        if (!split_at(slice_make(s.p + 1, s.n - 1), ']', false, &host, &tail))
            return err_set(e, ERR_CONFIG, "'[' without ']'");
        if (tail.n && tail.p[0] != ':')
            return err_set(e, ERR_CONFIG, "':port' must follow ']'");
        has_port = tail.n > 0;
        if (has_port)
            port = slice_make(tail.p + 1, tail.n - 1);
    } else if (split_at(s, ':', false, &host, &port)) {
        if (port.n && memchr(port.p, ':', port.n))
            return err_set(e, ERR_CONFIG, "write an IPv6 address in brackets: [address]:port");
        has_port = true;
    }
    int rc = set_host(ep, host, v6, e);
    ep->port = DEFAULT_PORT;
    return rc || !has_port ? rc : parse_port(ep, port, e);
}

static int parse_unix(struct endpoint *ep, struct slice rest, struct err *e)
{
    struct slice path = rest, query = {0}, info;
    int rc = 0;
    split_at(rest, '?', false, &path, &query);
    struct slice bare = path;
    // Credentials stand before the first '/', so an '@' in the path is not theirs.
    if (path.n && path.p[0] != '/' && split_at(path, '@', false, &info, &bare))
        rc = parse_userinfo(ep, info, e);
    if (rc)
        return rc;
    ep->path = percent_decode(bare);
    if (!ep->path || ep->path[0] != '/' || ep->path[1] == '\0')
        return err_set(e, ERR_CONFIG, "a unix socket is written unix:///absolute/path");
    if (strlen(ep->path) > MAX_SOCKET_PATH)
        return err_set(e, ERR_CONFIG, "the path of a unix socket may have at most %d bytes",
                       MAX_SOCKET_PATH);
    return parse_query(ep, query, e);
}

static int parse_tcp(struct endpoint *ep, struct slice rest, struct err *e)
{
    struct slice info, hostport, db = {0}, query = {0};
    // The last '@' ends the credentials, so that a password with a bare '@', '/' or '?' works.
    if (split_at(rest, '@', true, &info, &rest)) {
        int rc = parse_userinfo(ep, info, e);
        if (rc)
            return rc;
    }
    hostport = rest;
    if (split_at(hostport, '?', false, &rest, &query))
        hostport = rest;
    if (split_at(hostport, '/', false, &rest, &db))
        hostport = rest;
    int rc = parse_hostport(ep, hostport, e);
    if (!rc && db.n)
        rc = parse_db(ep, db, e);
    return rc ? rc : parse_query(ep, query, e);
}

struct scheme {
    struct slice prefix;
    bool tls;
    int (*parse)(struct endpoint *ep, struct slice rest, struct err *e);
};

int endpoint_parse(struct endpoint *ep, struct slice uri, struct err *e)
{
    static const struct scheme schemes[] = {
        {{"redis://", 8}, false, parse_tcp},  {{"rediss://", 9}, true, parse_tcp},
        {{"valkey://", 9}, false, parse_tcp}, {{"valkeys://", 10}, true, parse_tcp},
        {{"unix://", 7}, false, parse_unix},
    };
    memset(ep, 0, sizeof(*ep));
    int rc = ERR_CONFIG;
    size_t i = 0, count = sizeof(schemes) / sizeof(schemes[0]);
    while (i < count && !slice_has_prefix(uri, schemes[i].prefix))
        i++;
    if (i < count) {
        size_t n = schemes[i].prefix.n;
        ep->tls.enabled = schemes[i].tls;
        rc = schemes[i].parse(ep, slice_make(uri.p + n, uri.n - n), e);
    } else if (uri.p && memmem(uri.p, uri.n, "://", 3)) {
        err_set(e, ERR_CONFIG, "unknown scheme (known: redis://, rediss://, unix://)");
    } else if (uri.p && memchr(uri.p, '@', uri.n)) {
        err_set(e, ERR_CONFIG, "credentials need a scheme: redis://user:password@host:port");
    } else {
        rc = parse_hostport(ep, uri, e);
    }
    if (rc) {
        endpoint_free(ep);
        err_wrap(e, "server address");
        return rc;
    }
    return 0;
}

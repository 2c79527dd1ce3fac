// SPDX-License-Identifier: Apache-2.0
// From a redis block to endpoints that can be dialled.
#include "control/config_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "redis/client.h"

enum { SENTINEL_TIMEOUT_MS = 2000 };

#define SECRET_MAX 65536
#define ADDRESSES_MAX 4096

#define CHILD(path, leaf) join(path, leaf, (char[128]){0}, 128)

static const char *join(const char *path, const char *leaf, char *dst, size_t cap)
{
    snprintf(dst, cap, "%s.%s", path, leaf);
    return dst;
}

// Reads a secret; newlines at its end are dropped. NULL: a finding says why.
static char *read_secret(struct config_builder *b, const char *key, const char *path)
{
    char *text = NULL;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        config_path_diag(b, key, DIAG_ERROR, "%s: %s cannot be opened: %s", key, path,
                         err_text(-errno));
        goto out;
    }
    if (S_ISDIR(st.st_mode)) {
        config_path_diag(b, key, DIAG_ERROR, "%s: %s is a directory", key, path);
        goto out;
    }
    if (S_ISREG(st.st_mode) && (st.st_mode & S_IROTH))
        config_path_diag(b, key, DIAG_WARNING, "%s: %s can be read by everyone; chmod 600 it", key,
                         path);
    text = xcalloc(SECRET_MAX, 1);
    size_t n = 0;
    ssize_t got;
    while (n < SECRET_MAX - 1 && (got = read(fd, text + n, SECRET_MAX - 1 - n)) > 0)
        n += (size_t)got;
    while (n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        text[--n] = 0;
    if (n == 0 || n != strlen(text)) {
        config_path_diag(b, key, DIAG_ERROR, "%s: %s is empty or not text", key, path);
        free(text);
        text = NULL;
    }
out:
    if (fd >= 0)
        close(fd);
    return text;
}

// The secret, or what its file holds.
static void take_secret(struct config_builder *b, const char *file_key, const char *either,
                        char **secret, const char *file)
{
    if (!file)
        return;
    if (*secret) {
        config_path_diag(b, file_key, DIAG_ERROR, "%s, not both", either);
        return;
    }
    *secret = read_secret(b, file_key, file);
}

void config_finish_secrets(struct config_builder *b)
{
    struct server_config *s = &b->c->server;
    struct etcd_config *etcd = &b->c->cluster.etcd;
    take_secret(b, "server.tokenFile", "server: give token or tokenFile", &s->token, s->token_file);
    take_secret(b, "cluster.metaEtcd.passwordFile",
                "cluster.metaEtcd: give password or passwordFile", &etcd->password,
                etcd->password_file);
    take_secret(b, "server.replication.passwordFile",
                "server.replication: give password or passwordFile", &s->replication.password,
                s->replication.password_file);
}

void config_finish_tls(struct config_builder *b, const char *path, struct tls_options *t)
{
    static const char *const keys[] = {"tls.caFile", "tls.caDir", "tls.certFile", "tls.keyFile"};
    const char *const files[] = {t->ca_file, t->ca_dir, t->cert_file, t->key_file};
    bool block = t->server_name || t->insecure || t->min_version != TLS_ANY;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        block = block || files[i];
    if (block && !config_given(b, CHILD(path, "tlsEnable")))
        t->enabled = true;
    else if (block && !t->enabled)
        config_path_diag(b, CHILD(path, "tlsEnable"), DIAG_WARNING,
                         "%s.tls has no effect with tlsEnable: false", path);
    if (!t->cert_file != !t->key_file)
        config_path_diag(b, CHILD(path, t->cert_file ? "tls.certFile" : "tls.keyFile"), DIAG_ERROR,
                         "%s.tls: certFile and keyFile belong together", path);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (files[i] && access(files[i], R_OK) != 0)
            config_path_diag(b, CHILD(path, keys[i]), DIAG_ERROR, "%s.%s: %s cannot be read: %s",
                             path, keys[i], files[i], err_text(-errno));
}

static char *copy(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

struct login {
    const char *user, *password;
    bool tls;
};

static void fill(struct endpoint *ep, const struct redis_config *r, const struct login *l)
{
    // What a URI says of itself goes before the block.
    if (!ep->user && !ep->password) {
        ep->user = copy(l->user);
        ep->password = copy(l->password);
    } else if (!ep->password) {
        ep->password = copy(l->password);
    }
    struct tls_options *t = &ep->tls;
    t->enabled = t->enabled || (l->tls && !ep->path);
    if (!t->enabled)
        return;
    t->insecure = r->tls.insecure;
    t->min_version = r->tls.min_version;
    t->ca_file = copy(r->tls.ca_file);
    t->ca_dir = copy(r->tls.ca_dir);
    t->cert_file = copy(r->tls.cert_file);
    t->key_file = copy(r->tls.key_file);
    t->server_name = copy(r->tls.server_name);
}

// The password, or what its file holds; *owned is to be wiped and freed.
static const char *password_of(struct config_builder *b, const char *path, const char *password,
                               const char *file, char **owned)
{
    *owned = NULL;
    if (file && password)
        config_path_diag(b, CHILD(path, "passwordFile"), DIAG_ERROR,
                         "%s: give password or passwordFile, not both", path);
    else if (file)
        *owned = read_secret(b, CHILD(path, "passwordFile"), file);
    return password ? password : *owned;
}

static void wipe(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

static void check_sentinel(struct config_builder *b, const char *path, const struct redis_config *r)
{
    const char *section = CHILD(path, "sentinelOptions");
    bool named = r->sentinel.master_name && *r->sentinel.master_name;
    if (r->type == REDIS_SENTINEL && !named)
        config_path_diag(b, CHILD(section, "masterName"), DIAG_ERROR,
                         "%s.masterName is required with type sentinel", section);
    if (r->type != REDIS_SENTINEL && named)
        config_path_diag(b, CHILD(section, "masterName"), DIAG_WARNING,
                         "%s has no effect without type: sentinel", section);
}

void config_finish_redis(struct config_builder *b, const char *path, struct redis_config *r)
{
    const char *addresses = CHILD(path, "addresses");
    char *from_file, *sentinel_file;
    struct login data = {r->user_name,
                         password_of(b, path, r->password, r->password_file, &from_file), false};
    const struct sentinel_config *sc = &r->sentinel;
    struct login at_sentinel = {sc->user_name,
                                password_of(b, CHILD(path, "sentinelOptions"), sc->password,
                                            sc->password_file, &sentinel_file),
                                sc->tls};
    bool by_sentinel = r->type == REDIS_SENTINEL;
    check_sentinel(b, path, r);
    config_finish_tls(b, path, &r->tls);
    data.tls = r->tls.enabled;
    if (by_sentinel)
        fill(&r->data, r, &data);
    r->version_number = r->version ? redis_parse_version(slice_cstr(r->version)) : 0;
    if (r->version && *r->version && r->version_number == 0)
        config_path_diag(b, CHILD(path, "version"), DIAG_ERROR,
                         "%s.version: expected a version as 7.0.15", path);
    if (r->addresses.n == 0 && !config_given(b, addresses) && !b->unreadable)
        config_diag_add(b->d, DIAG_ERROR, NULL, 0, 0, "%s is required", addresses);
    else if (r->addresses.n == 0 && config_given(b, addresses))
        config_path_diag(b, addresses, DIAG_ERROR, "%s names no server", addresses);
    if (r->addresses.n > ADDRESSES_MAX) {
        config_path_diag(b, addresses, DIAG_ERROR, "%s: more than %d addresses", addresses,
                         ADDRESSES_MAX);
        goto out;
    }
    if (r->addresses.n)
        r->endpoints = xcalloc(r->addresses.n, sizeof(*r->endpoints));
    for (size_t i = 0; i < r->addresses.n; i++) {
        struct err e = {0};
        if (endpoint_parse(&r->endpoints[r->endpoints_n], slice_cstr(r->addresses.v[i]), &e)) {
            config_path_diag(b, addresses, DIAG_ERROR, "%s: number %zu: %s", addresses, i + 1,
                             e.msg);
            continue;
        }
        fill(&r->endpoints[r->endpoints_n++], r, by_sentinel ? &at_sentinel : &data);
    }
out:
    wipe(from_file);
    wipe(sentinel_file);
}

struct sentinel_options config_sentinel(const struct redis_config *r)
{
    return (struct sentinel_options){.sentinels = r->endpoints,
                                     .n = r->endpoints_n,
                                     .master_name = r->sentinel.master_name,
                                     .data = &r->data,
                                     .timeout_ms = SENTINEL_TIMEOUT_MS};
}

int config_server(const struct redis_config *r, struct endpoint *out, struct err *e)
{
    if (r->type == REDIS_SENTINEL) {
        struct sentinel_options o = config_sentinel(r);
        return sentinel_master(out, &o, e);
    }
    if (r->type == REDIS_STANDALONE && r->endpoints_n != 1)
        return err_set(e, ERR_CONFIG, "expected one target, found %zu", r->endpoints_n);
    endpoint_copy(out, &r->endpoints[0]);
    return 0;
}

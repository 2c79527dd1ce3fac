// SPDX-License-Identifier: Apache-2.0
#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "net/conn.h"
#include "net/dial.h"

enum {
    RECORD_SIZE = 16 * 1024,
    READ_BUFFER = 64 * 1024,
};

struct tls {
    SSL *ssl;
    bool broken;           // a fatal error: the session must not be used or shut down
    bool has_read;         // the peer has said something after the handshake
    bool drained;          // the last read found nothing whole
    bool read_wants_write; // a read cannot go on until the socket takes bytes
    bool write_wants_read;
    int write_error; // of bytes that had been accepted already; comes with the next write
    size_t out_n;    // accepted bytes that OpenSSL has not taken yet
    char error[192];
    // A record's worth: OpenSSL insists on a repeated write being the same bytes.
    char out[RECORD_SIZE];
};

struct tls_server {
    SSL_CTX *ctx;
};

// ---- setting up ----

// OpenSSL writes with write(2), which raises SIGPIPE on a closed socket.
static void ignore_sigpipe(void)
{
    struct sigaction old;
    if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

static const char *first_error(char *dst, size_t cap)
{
    unsigned long code = ERR_get_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    if (reason)
        snprintf(dst, cap, "%s", reason);
    else if (code)
        ERR_error_string_n(code, dst, cap);
    else
        snprintf(dst, cap, "unknown error");
    ERR_clear_error();
    return dst;
}

static int file_error(const char *option, const char *path, struct err *e)
{
    char why[192];
    return err_set(e, ERR_TLS, "%s '%s' cannot be used: %s", option, path,
                   first_error(why, sizeof(why)));
}

static int load_trust(SSL_CTX *ctx, const struct tls_options *o, struct err *e)
{
    if (o->insecure)
        return 0;
    if (!o->ca_file && !o->ca_dir && SSL_CTX_set_default_verify_paths(ctx) != 1)
        return file_error("the system's CA directory", X509_get_default_cert_dir(), e);
    if (o->ca_file && SSL_CTX_load_verify_file(ctx, o->ca_file) != 1)
        return file_error("tls.caFile", o->ca_file, e);
    if (o->ca_dir && SSL_CTX_load_verify_dir(ctx, o->ca_dir) != 1)
        return file_error("tls.caDir", o->ca_dir, e);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    return 0;
}

static int load_identity(SSL_CTX *ctx, const struct tls_options *o, struct err *e)
{
    if (!o->cert_file && !o->key_file)
        return 0;
    if (!o->cert_file || !o->key_file)
        return err_set(e, ERR_CONFIG, "tls.certFile and tls.keyFile belong together");
    if (SSL_CTX_use_certificate_chain_file(ctx, o->cert_file) != 1)
        return file_error("tls.certFile", o->cert_file, e);
    if (SSL_CTX_use_PrivateKey_file(ctx, o->key_file, SSL_FILETYPE_PEM) != 1)
        return file_error("tls.keyFile", o->key_file, e);
    return 0;
}

// A key file with a passphrase must fail, not ask on the terminal.
static int no_passphrase(char *buf, int size, int rw, void *ctx)
{
    (void)buf, (void)size, (void)rw, (void)ctx;
    return 0;
}

static SSL_CTX *context_new(const SSL_METHOD *method, const struct tls_options *o, struct err *e)
{
    SSL_CTX *ctx = SSL_CTX_new(method);
    if (!ctx) {
        err_set(e, ERR_TLS, "no TLS context");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ctx, o->min_version == TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, READ_BUFFER);
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    if (load_trust(ctx, o, e) || load_identity(ctx, o, e)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

static bool is_address(const char *name)
{
    struct in6_addr any;
    return inet_pton(AF_INET, name, &any) == 1 || inet_pton(AF_INET6, name, &any) == 1;
}

static int set_name(SSL *ssl, const char *name, bool insecure, struct err *e)
{
    if (!name)
        return insecure ? 0 : err_set(e, ERR_CONFIG, "TLS over a unix socket needs tls.serverName");
    bool address = is_address(name);
    // The macro for this casts the const away, which warns; OpenSSL copies the name.
    if (!address && SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                             (void *)(uintptr_t)name) != 1)
        return err_set(e, ERR_TLS, "'%s' cannot be used as a TLS server name", name);
    if (insecure)
        return 0;
    X509_VERIFY_PARAM *p = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    int ok =
        address ? X509_VERIFY_PARAM_set1_ip_asc(p, name) : X509_VERIFY_PARAM_set1_host(p, name, 0);
    return ok == 1 ? 0 : err_set(e, ERR_TLS, "'%s' cannot be verified against", name);
}

// ---- handshake ----

static int verify_error(long why, const char *where, const char *name, bool own_ca, struct err *e)
{
    bool wrong_name = why == X509_V_ERR_HOSTNAME_MISMATCH || why == X509_V_ERR_IP_ADDRESS_MISMATCH;
    const char *help = wrong_name ? "; see tls.serverName"
                       : own_ca   ? "; tls.caFile or tls.caDir does not vouch for it"
                                  : "; name its CA with tls.caFile";
    return err_set(e, ERR_TLS, "TLS to %s: certificate verify failed: %s (host %s%s)", where,
                   X509_verify_cert_error_string(why), name ? name : "?", help);
}

static int handshake_error(struct tls *t, int rc, const struct endpoint *ep, const char *name,
                           struct err *e)
{
    char where[300], why[192];
    int saved = errno, kind = SSL_get_error(t->ssl, rc);
    endpoint_name(ep, where, sizeof(where));
    long verify = SSL_get_verify_result(t->ssl);
    if (kind == SSL_ERROR_SSL && !ep->tls.insecure && verify != X509_V_OK)
        return verify_error(verify, where, name, ep->tls.ca_file || ep->tls.ca_dir, e);
    if (kind == SSL_ERROR_SYSCALL && saved)
        return err_sys(e, -saved, "TLS handshake with %s", where);
    if (kind != SSL_ERROR_SSL ||
        ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return err_set(e, ERR_TLS, "TLS handshake with %s: the server closed the connection",
                       where);
    bool plain = ERR_GET_REASON(ERR_peek_error()) == SSL_R_WRONG_VERSION_NUMBER;
    return err_set(e, ERR_TLS, "TLS handshake with %s: %s%s", where, first_error(why, sizeof(why)),
                   plain ? " (is this port for plain connections?)" : "");
}

static int handshake(struct tls *t, int fd, const struct endpoint *ep, const char *name,
                     uint64_t deadline, struct err *e)
{
    for (;;) {
        ERR_clear_error();
        errno = 0;
        int rc = SSL_connect(t->ssl);
        if (rc == 1)
            return 0;
        int kind = SSL_get_error(t->ssl, rc);
        if (kind != SSL_ERROR_WANT_READ && kind != SSL_ERROR_WANT_WRITE)
            return handshake_error(t, rc, ep, name, e);
        int ready = dial_poll(fd, kind == SSL_ERROR_WANT_READ ? CONN_READ : CONN_WRITE, deadline);
        if (ready < 0) {
            char where[300];
            endpoint_name(ep, where, sizeof(where));
            // A server without TLS just waits for more of what it takes for a command.
            return err_set(e, ready, "TLS handshake with %s: %s%s", where, err_text(ready),
                           ready == ERR_TIMEOUT ? " (does this port speak TLS?)" : "");
        }
    }
}

int tls_connect(struct tls **out, int fd, const struct endpoint *ep, uint64_t deadline,
                struct err *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, ignore_sigpipe);
    struct err local = {0};
    e = e ? e : &local;
    ERR_clear_error();
    SSL_CTX *ctx = context_new(TLS_client_method(), &ep->tls, e);
    if (!ctx)
        return e->code;
    struct tls *t = xcalloc(1, sizeof(*t));
    t->ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    const char *name = ep->tls.server_name ? ep->tls.server_name : ep->host;
    int rc = 0;
    if (!t->ssl || SSL_set_fd(t->ssl, fd) != 1)
        rc = err_set(e, ERR_TLS, "no TLS session");
    if (!rc)
        rc = set_name(t->ssl, name, ep->tls.insecure, e);
    if (!rc)
        rc = handshake(t, fd, ep, name, deadline, e);
    if (rc) {
        t->broken = true;
        tls_free(t);
        return rc;
    }
    t->drained = true;
    *out = t;
    return 0;
}

// ---- accepting ----

int tls_server_new(struct tls_server **out, const struct tls_options *o, struct err *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, ignore_sigpipe);
    ERR_clear_error();
    if (!o->cert_file || !o->key_file)
        return err_set(e, ERR_CONFIG, "TLS needs tls.certFile and tls.keyFile");
    // Whoever names no CA does not ask for clients' certificates.
    struct tls_options own = *o;
    own.insecure = !o->ca_file && !o->ca_dir;
    SSL_CTX *ctx = context_new(TLS_server_method(), &own, e);
    if (!ctx)
        return ERR_TLS;
    if (!own.insecure)
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    // Sessions are few and long: nothing is kept to resume one.
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(ctx, 0);
    *out = xcalloc(1, sizeof(**out));
    (*out)->ctx = ctx;
    return 0;
}

void tls_server_free(struct tls_server *s)
{
    if (!s)
        return;
    SSL_CTX_free(s->ctx);
    free(s);
}

int tls_accept(struct tls **out, int fd, struct tls_server *s)
{
    ERR_clear_error();
    struct tls *t = xcalloc(1, sizeof(*t));
    t->ssl = SSL_new(s->ctx);
    t->has_read = true;
    t->drained = true;
    if (!t->ssl || SSL_set_fd(t->ssl, fd) != 1) {
        t->broken = true;
        tls_free(t);
        return ERR_TLS;
    }
    SSL_set_accept_state(t->ssl);
    *out = t;
    return 0;
}

void tls_free(struct tls *t)
{
    ERR_clear_error();
    if (t->ssl && !t->broken)
        SSL_shutdown(t->ssl);
    SSL_free(t->ssl);
    ERR_clear_error();
    free(t);
}

// ---- bytes ----

// Sorts out a failed call; *wants_other is set when it needs the other direction.
static int io_error(struct tls *t, int rc, int other, bool *wants_other)
{
    int saved = errno, kind = SSL_get_error(t->ssl, rc);
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) {
        *wants_other = kind == other;
        return -EAGAIN;
    }
    if (kind == SSL_ERROR_ZERO_RETURN)
        return ERR_CLOSED;
    t->broken = true;
    if (kind == SSL_ERROR_SYSCALL)
        return saved ? -saved : ERR_CLOSED;
    if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        ERR_clear_error();
        return ERR_CLOSED;
    }
    first_error(t->error, sizeof(t->error));
    return ERR_TLS;
}

const char *tls_error_text(struct tls *t, int code)
{
    if (code == ERR_TLS && t->error[0])
        return t->error;
    if (t->has_read || (code != ERR_CLOSED && code != -ECONNRESET && code != -EPIPE))
        return err_text(code);
    // In TLS 1.3 a server looks at the client's certificate after the client's handshake is over.
    snprintf(t->error, sizeof(t->error),
             "%s right after the TLS handshake (does the server want tls.certFile?)",
             err_text(code));
    return t->error;
}

// Hands the waiting bytes to OpenSSL. 0 when none are left, -EAGAIN, or an error.
static int flush(struct tls *t)
{
    while (t->out_n) {
        if (t->broken)
            return t->write_error ? t->write_error : ERR_TLS;
        ERR_clear_error();
        errno = 0;
        t->write_wants_read = false;
        int rc = SSL_write(t->ssl, t->out, (int)t->out_n);
        if (rc <= 0) {
            int code = io_error(t, rc, SSL_ERROR_WANT_READ, &t->write_wants_read);
            if (code != -EAGAIN)
                t->write_error = code;
            return code;
        }
        t->out_n -= (size_t)rc;
        memmove(t->out, t->out + rc, t->out_n);
    }
    return 0;
}

ssize_t tls_read(struct tls *t, void *p, size_t n)
{
    if (t->out_n)
        (void)flush(t);
    if (t->broken)
        return t->write_error ? t->write_error : ERR_TLS;
    ERR_clear_error();
    errno = 0;
    t->read_wants_write = false;
    int rc = SSL_read(t->ssl, p, n > INT32_MAX ? INT32_MAX : (int)n);
    t->drained = rc <= 0;
    t->has_read = t->has_read || rc > 0;
    return rc > 0 ? rc : io_error(t, rc, SSL_ERROR_WANT_WRITE, &t->read_wants_write);
}

// Copies pieces behind the waiting bytes, from byte `skip` of the list on; returns how many.
static size_t coalesce(struct tls *t, const struct iovec *iov, int n, size_t skip)
{
    size_t before = t->out_n;
    for (int i = 0; i < n && t->out_n < RECORD_SIZE; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        size_t piece = iov[i].iov_len - skip, room = RECORD_SIZE - t->out_n;
        piece = piece < room ? piece : room;
        memcpy(t->out + t->out_n, (const char *)iov[i].iov_base + skip, piece);
        t->out_n += piece;
        skip = 0;
    }
    return t->out_n - before;
}

ssize_t tls_writev(struct tls *t, const struct iovec *iov, int n)
{
    int rc = flush(t);
    if (rc)
        return rc;
    if (t->broken)
        return t->write_error ? t->write_error : ERR_TLS;
    size_t total = 0;
    for (;;) {
        size_t got = coalesce(t, iov, n, total);
        if (!got)
            return (ssize_t)total;
        total += got;
        rc = flush(t);
        if (rc)
            return (ssize_t)total; // what was accepted is kept; an error comes with the next call
    }
}

bool tls_has_buffered(const struct tls *t)
{
    return !t->broken && (SSL_pending(t->ssl) > 0 || (!t->drained && SSL_has_pending(t->ssl)));
}

int tls_poll_mask(const struct tls *t, int want)
{
    int mask = 0;
    if (want & CONN_READ)
        mask |= CONN_READ | (t->read_wants_write ? CONN_WRITE : 0);
    if ((t->out_n && !t->broken) || (want & CONN_WRITE))
        mask |= t->write_wants_read ? CONN_READ : CONN_WRITE;
    return mask;
}

int tls_ready(struct tls *t, int ready)
{
    int can = ready;
    if ((ready & CONN_WRITE) && t->read_wants_write)
        can |= CONN_READ;
    if ((ready & CONN_READ) && t->write_wants_read)
        can |= CONN_WRITE;
    // An error is kept for the next call, which the user must then be told to make.
    if (t->out_n && (can & CONN_WRITE)) {
        int rc = flush(t);
        if (rc == -EAGAIN)
            can &= ~CONN_WRITE;
        else if (rc)
            can = CONN_READ | CONN_WRITE;
    }
    return can;
}

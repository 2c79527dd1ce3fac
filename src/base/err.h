// SPDX-License-Identifier: Apache-2.0
// Errors are values: a code, and on slow paths a sentence that says what failed, where, and what to
// do. Hot paths return codes only.
#ifndef GUNYU_BASE_ERR_H
#define GUNYU_BASE_ERR_H

#define must_check __attribute__((warn_unused_result))

// Own codes; operating-system errors travel as -errno. All errors are negative.
#define ERR_TABLE(X)                                                                               \
    X(ERR_PROTOCOL, -1000, "the peer broke the protocol")                                          \
    X(ERR_CORRUPT, -1001, "corrupt data")                                                          \
    X(ERR_UNSUPPORTED, -1002, "not supported")                                                     \
    X(ERR_TOO_BIG, -1003, "too big")                                                               \
    X(ERR_AUTH, -1004, "authentication or permission refused")                                     \
    X(ERR_CONFIG, -1005, "invalid configuration")                                                  \
    X(ERR_LOCKED, -1006, "in use by another process")                                              \
    X(ERR_CLOSED, -1007, "connection closed by the peer")                                          \
    X(ERR_TIMEOUT, -1008, "timed out")                                                             \
    X(ERR_TLS, -1009, "TLS failed")                                                                \
    X(ERR_RESOLVE, -1010, "name resolution failed")                                                \
    X(ERR_REPLY, -1011, "the server answered with an error")                                       \
    X(ERR_TRUNCATED, -1012, "input ends early")                                                    \
    X(ERR_FULL, -1013, "no room")                                                                  \
    X(ERR_LEASE, -1014, "the lease has passed")

enum err_code {
#define X(name, value, text) name = value,
    ERR_TABLE(X)
#undef X
};

// Zeroed is "no error". msg is one line without a trailing newline and never holds a secret.
struct err {
    int code;
    char msg[512];
};

// Text of an own code or of -errno. Thread-safe; the string is static or thread-local.
const char *err_text(int code);

// Sets *e (e may be NULL) and returns code, so that a caller can `return err_set(...)`.
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

// As err_set with ": <text of the code>" appended.
int err_sys(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

// Puts "<prefix>: " in front of the message; e may be NULL.
void err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// Adds another failure of the same attempt: "; <its message>". The code of the first one stays.
void err_join(struct err *e, const struct err *next); // e may be NULL

// An analyzer sees one file at a time; this shows it what holds everywhere: these return errors.
#if defined(__clang_analyzer__) && !defined(ERR_DEFINES)
static inline int err_negative(int code)
{
    if (code >= 0)
        __builtin_unreachable();
    return code;
}
#define err_set(...) err_negative(err_set(__VA_ARGS__))
#define err_sys(...) err_negative(err_sys(__VA_ARGS__))
#endif

// A condition that only a bug of ours can break; stays on in release. Never for peer input.
#define must(cond)                                                                                 \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0))                                                          \
            must_failed(#cond, __FILE__, __LINE__);                                                \
    } while (0)
void must_failed(const char *cond, const char *file, int line) __attribute__((noreturn, cold));

#endif

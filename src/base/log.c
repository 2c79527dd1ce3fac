// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum {
    SITE_LINES_PER_SECOND = 10,
    MSG_MAX = 2048,
    // A control byte of the message takes six in JSON.
    LINE_MAX_BYTES = 6 * MSG_MAX + 4096,
    RETRY_SECONDS = 10, // between attempts at a file that does not work
    STAMP_LEN = 23,     // "2026-01-02T15-04-05.000"
    BACKUPS_SEEN_MAX = 100000,
};

// The one log of the process. level is read without the lock.
static struct {
    _Atomic int level;
    pthread_mutex_t lock; // guards all below
    struct log_options o; // strings owned
    int fd;               // -1: no file
    uint64_t size;        // of the file
    uint64_t retry_at;    // monotonic second before which rotation or opening is not tried again
    bool journal_known, journal; // stderr goes to journald
} lg = {.level = LOG_INFO, .lock = PTHREAD_MUTEX_INITIALIZER, .o = {.level = LOG_INFO}, .fd = -1};

static const struct {
    const char *name;
    int priority; // syslog's
} levels[] = {
    [LOG_DEBUG] = {"debug", 7},
    [LOG_INFO] = {"info", 6},
    [LOG_WARN] = {"warn", 4},
    [LOG_ERROR] = {"error", 3},
};

// A line under construction; what does not fit is cut.
struct line {
    char p[LINE_MAX_BYTES];
    size_t n;
};

static void put(struct line *l, const char *p, size_t n)
{
    // One byte stays for the newline.
    size_t room = sizeof(l->p) - 1 - l->n;
    n = n < room ? n : room;
    memcpy(l->p + l->n, p, n);
    l->n += n;
}

static void put_str(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

static void put_fmt(struct line *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put_fmt(struct line *l, const char *fmt, ...)
{
    char tmp[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(tmp, sizeof(tmp), fmt, ap);
    va_end(ap);
    put_str(l, tmp);
}

// Control bytes are escaped, so that a peer's text cannot forge a line or move the terminal.
static void put_text(struct line *l, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '\n')
            put_str(l, "\\n");
        else if ((c < 0x20 && c != '\t') || c == 0x7f)
            put_fmt(l, "\\x%02x", c);
        else
            put(l, s, 1);
    }
}

// Length of the valid UTF-8 sequence at s, 0 when there is none.
static size_t utf8_len(const unsigned char *s)
{
    size_t n = s[0] < 0x80                   ? 1
               : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
               : (s[0] & 0xf0) == 0xe0       ? 3
               : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                             : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool outside = (s[0] == 0xed && s[1] >= 0xa0) || (s[0] == 0xf4 && s[1] >= 0x90);
    return n > 1 && (overlong || outside) ? 0 : n;
}

static void put_json(struct line *l, const char *s)
{
    put(l, "\"", 1);
    for (const unsigned char *p = (const unsigned char *)s; *p;) {
        size_t n = utf8_len(p);
        if (n == 0)
            put_str(l, "\\ufffd");
        else if (*p == '"' || *p == '\\')
            put_fmt(l, "\\%c", *p);
        else if (*p < 0x20 || *p == 0x7f)
            put_fmt(l, "\\u%04x", *p);
        else
            put(l, (const char *)p, n);
        p += n ? n : 1;
    }
    put(l, "\"", 1);
}

// UTC with milliseconds; time separators as given ("2026-01-02T15:04:05.000").
static void stamp(char *dst, size_t cap, int64_t ms, char sep)
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    snprintf(dst, cap, "%04d-%02d-%02dT%02d%c%02d%c%02d.%03d", tm.tm_year + 1900, tm.tm_mon + 1,
             tm.tm_mday, tm.tm_hour, sep, tm.tm_min, sep, tm.tm_sec, (int)(ms % 1000));
}

struct event {
    enum log_level level;
    const char *file;
    int line;
    const char *tag, *msg;
    uint32_t held;
    int64_t ms;
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void make_json(struct line *l, const struct event *ev, bool timed, bool caller)
{
    char when[64];
    put_str(l, "{");
    if (timed) {
        stamp(when, sizeof(when), ev->ms, ':');
        put_fmt(l, "\"time\":\"%sZ\",", when);
    }
    put_fmt(l, "\"level\":\"%s\"", levels[ev->level].name);
    if (caller)
        put_fmt(l, ",\"caller\":\"%s:%d\"", base_name(ev->file), ev->line);
    if (ev->tag) {
        put_str(l, ",\"tag\":");
        put_json(l, ev->tag);
    }
    if (ev->held)
        put_fmt(l, ",\"heldBack\":%u", ev->held);
    put_str(l, ",\"msg\":");
    put_json(l, ev->msg);
    put_str(l, "}");
}

static void make_text(struct line *l, const struct event *ev, bool timed, bool caller)
{
    char when[64];
    if (timed) {
        stamp(when, sizeof(when), ev->ms, ':');
        put_fmt(l, "%sZ %-5s ", when, levels[ev->level].name);
    }
    if (caller)
        put_fmt(l, "%s:%d ", base_name(ev->file), ev->line);
    if (ev->tag) {
        put_str(l, "[");
        put_text(l, ev->tag);
        put_str(l, "] ");
    }
    put_text(l, ev->msg);
    if (ev->held)
        put_fmt(l, " (%u more like this held back)", ev->held);
}

// for_journal: journald adds the time itself and reads the level from "<n>".
static void make_line(struct line *l, const struct event *ev, bool for_journal)
{
    l->n = 0;
    if (for_journal)
        put_fmt(l, "<%d>", levels[ev->level].priority);
    if (lg.o.format == LOG_JSON)
        make_json(l, ev, !for_journal, lg.o.with_caller);
    else
        make_text(l, ev, !for_journal, lg.o.with_caller);
    l->p[l->n++] = '\n';
}

static int write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return w < 0 ? -errno : -EIO;
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

// systemd sets JOURNAL_STREAM to "device:inode" of the stream that it made our stderr.
static bool stderr_is_journal(void)
{
    const char *s = getenv("JOURNAL_STREAM");
    struct stat st;
    char own[64];
    if (!s || fstat(STDERR_FILENO, &st) != 0)
        return false;
    snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    return strcmp(s, own) == 0;
}

static void to_stderr(const struct event *ev)
{
    struct line l;
    if (!lg.journal_known) {
        lg.journal = stderr_is_journal();
        lg.journal_known = true;
    }
    make_line(&l, ev, lg.journal);
    // Nowhere to complain about a failure here.
    (void)write_all(STDERR_FILENO, l.p, l.n);
}

// Our own trouble, which must not go through the file that has it.
static void complain(const char *what, int error)
{
    char msg[512];
    snprintf(msg, sizeof(msg), "log file %s: %s: %s", lg.o.file, what, err_text(error));
    to_stderr(&(struct event){.level = LOG_ERROR,
                              .file = __FILE__,
                              .line = __LINE__,
                              .tag = "log",
                              .msg = msg,
                              .ms = clock_unix_ms()});
}

static void make_parents(const char *path)
{
    char *copy = xstrdup(path);
    for (char *p = copy + 1; *p; p++) {
        if (*p == '/') {
            *p = 0;
            (void)mkdir(copy, 0750);
            *p = '/';
        }
    }
    free(copy);
}

static int open_file(const char *path, uint64_t *size)
{
    make_parents(path);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    if (fd < 0)
        return -errno;
    struct stat st;
    *size = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    return fd;
}

// "dir/name.ext" splits into "dir", "name" and ".ext"; rotated files are "name-STAMP.ext".
struct parts {
    char dir[1024], stem[512], ext[128];
};

static bool split(const char *path, struct parts *p)
{
    const char *name = base_name(path);
    const char *dot = strrchr(name, '.');
    size_t stem = dot && dot != name ? (size_t)(dot - name) : strlen(name);
    size_t dir = (size_t)(name - path);
    if (dir >= sizeof(p->dir) || stem >= sizeof(p->stem) || strlen(name + stem) >= sizeof(p->ext))
        return false;
    snprintf(p->dir, sizeof(p->dir), "%.*s", dir ? (int)dir : 2, dir ? path : "./");
    snprintf(p->stem, sizeof(p->stem), "%.*s", (int)stem, name);
    snprintf(p->ext, sizeof(p->ext), "%s", name + stem);
    return true;
}

// The stamp in a rotated file's name; NULL when the name is not exactly one of ours.
static const char *stamp_of(const struct parts *p, const char *name)
{
    static const char pattern[] = "dddd-dd-ddTdd-dd-dd.ddd";
    size_t stem = strlen(p->stem);
    if (strncmp(name, p->stem, stem) != 0 || name[stem] != '-' ||
        strlen(name) != stem + 1 + STAMP_LEN + strlen(p->ext) ||
        strcmp(name + stem + 1 + STAMP_LEN, p->ext) != 0)
        return NULL;
    const char *s = name + stem + 1;
    for (size_t i = 0; i < STAMP_LEN; i++) {
        bool digit = s[i] >= '0' && s[i] <= '9';
        if (pattern[i] == 'd' ? !digit : s[i] != pattern[i])
            return NULL;
    }
    return s;
}

static int newest_first(const void *a, const void *b)
{
    return strcmp(*(char *const *)b, *(char *const *)a);
}

// Removes rotated files beyond the count and the age.
static void prune(void)
{
    struct parts p;
    if ((lg.o.max_backups <= 0 && lg.o.max_age_days <= 0) || !split(lg.o.file, &p))
        return;
    DIR *d = opendir(p.dir);
    if (!d)
        return;
    char **names = NULL;
    size_t n = 0;
    for (struct dirent *ent; (ent = readdir(d)) && n < BACKUPS_SEEN_MAX;) {
        if (!stamp_of(&p, ent->d_name))
            continue;
        names = xrealloc(names, (n + 1) * sizeof(*names));
        names[n++] = xstrdup(ent->d_name);
    }
    if (n)
        qsort(names, n, sizeof(*names), newest_first);
    char oldest[64];
    stamp(oldest, sizeof(oldest), clock_unix_ms() - (int64_t)lg.o.max_age_days * 86400000, '-');
    for (size_t i = 0; i < n; i++) {
        bool many = lg.o.max_backups > 0 && i >= (size_t)lg.o.max_backups;
        bool old = lg.o.max_age_days > 0 && strncmp(stamp_of(&p, names[i]), oldest, STAMP_LEN) < 0;
        if (many || old)
            (void)unlinkat(dirfd(d), names[i], 0);
        free(names[i]);
    }
    free(names);
    closedir(d);
}

static bool may_retry(void)
{
    uint64_t now = clock_mono_us() / 1000000;
    if (now < lg.retry_at)
        return false;
    lg.retry_at = now + RETRY_SECONDS;
    return true;
}

static void rotate(void)
{
    struct parts p;
    char when[64], to[2048];
    int64_t ms = clock_unix_ms();
    if (!may_retry() || !split(lg.o.file, &p))
        return;
    do {
        stamp(when, sizeof(when), ms++, '-');
        snprintf(to, sizeof(to), "%s%s-%s%s", p.dir, p.stem, when, p.ext);
    } while (access(to, F_OK) == 0);
    // Gone already: an earlier attempt got this far, or someone took it.
    if (rename(lg.o.file, to) != 0 && errno != ENOENT) {
        complain("cannot be rotated; going on in it", -errno);
        return;
    }
    uint64_t size = 0;
    int fd = open_file(lg.o.file, &size);
    if (fd < 0) {
        complain("cannot be opened; going on in the rotated one", fd);
        return;
    }
    close(lg.fd);
    lg.fd = fd;
    lg.size = size;
    lg.retry_at = 0;
    prune();
}

static void to_file(const struct event *ev)
{
    struct line l;
    make_line(&l, ev, false);
    uint64_t limit = (uint64_t)lg.o.max_size_mb << 20;
    if (lg.o.max_size_mb > 0 && lg.size > 0 && lg.size + l.n > limit)
        rotate();
    int rc = write_all(lg.fd, l.p, l.n);
    if (rc == 0) {
        lg.size += l.n;
        return;
    }
    // A full disk must not silence us.
    if (may_retry())
        complain("cannot be written; its lines go to standard error", rc);
    if (!lg.o.also_stderr)
        to_stderr(ev);
}

int log_setup(const struct log_options *o, struct err *e)
{
    uint64_t size = 0;
    int fd = -1;
    if (o->file) {
        fd = open_file(o->file, &size);
        if (fd < 0)
            return err_sys(e, fd, "log file %s cannot be opened", o->file);
    }
    char *name = o->file ? xstrdup(o->file) : NULL;
    pthread_mutex_lock(&lg.lock);
    int old_fd = lg.fd;
    const char *old_name = lg.o.file;
    lg.o = *o;
    lg.o.file = name;
    lg.fd = fd;
    lg.size = size;
    lg.retry_at = 0;
    lg.journal_known = false;
    if (fd >= 0)
        prune();
    pthread_mutex_unlock(&lg.lock);
    lg.level = (int)o->level;
    if (old_fd >= 0)
        close(old_fd);
    free((void *)(uintptr_t)old_name);
    return 0;
}

void log_reopen(void)
{
    pthread_mutex_lock(&lg.lock);
    if (lg.o.file) {
        uint64_t size = 0;
        int fd = open_file(lg.o.file, &size);
        if (fd < 0) {
            complain("cannot be reopened; going on in the old one", fd);
        } else {
            if (lg.fd >= 0)
                close(lg.fd);
            lg.fd = fd;
            lg.size = size;
        }
    }
    pthread_mutex_unlock(&lg.lock);
}

void log_close(void)
{
    pthread_mutex_lock(&lg.lock);
    if (lg.fd >= 0)
        close(lg.fd);
    lg.fd = -1;
    free((void *)(uintptr_t)lg.o.file);
    lg.o.file = NULL;
    pthread_mutex_unlock(&lg.lock);
}

bool log_enabled(enum log_level level)
{
    return (int)level >= lg.level && level < LOG_OFF;
}

// False: this line is held back. *held gets how many were since the last that was let through.
static bool admit(struct log_site *site, uint32_t *held)
{
    *held = 0;
    if (!site)
        return true;
    // Never 0, which is a site that has not spoken.
    uint64_t now = clock_mono_us() / 1000000 + 1;
    uint64_t window = site->window;
    if (window != now && atomic_compare_exchange_strong(&site->window, &window, now))
        site->count = 0;
    if (site->count >= SITE_LINES_PER_SECOND || site->count++ >= SITE_LINES_PER_SECOND) {
        site->held++;
        return false;
    }
    *held = atomic_exchange(&site->held, 0);
    return true;
}

void log_line(struct log_site *site, enum log_level level, const char *file, int line,
              const char *tag, const char *fmt, ...)
{
    int saved = errno;
    uint32_t held;
    if (level >= LOG_OFF || !admit(site, &held))
        return;
    char msg[MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    if (n < 0)
        snprintf(msg, sizeof(msg), "(a message that could not be formatted)");
    else if ((size_t)n >= sizeof(msg))
        memcpy(msg + sizeof(msg) - 4, "...", 4);
    struct event ev = {level, file, line, tag, msg, held, clock_unix_ms()};
    pthread_mutex_lock(&lg.lock);
    if (lg.fd >= 0)
        to_file(&ev);
    if (lg.fd < 0 || lg.o.also_stderr)
        to_stderr(&ev);
    pthread_mutex_unlock(&lg.lock);
    errno = saved;
}

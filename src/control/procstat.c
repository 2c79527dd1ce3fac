// SPDX-License-Identifier: Apache-2.0
#include "control/procstat.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

// The start of a small file as a string; empty when it cannot be read.
static void read_head(const char *path, char *dst, size_t cap)
{
    dst[0] = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    size_t n = 0;
    for (ssize_t r; n < cap - 1 && (r = read(fd, dst + n, cap - 1 - n)) > 0;)
        n += (size_t)r;
    dst[n] = 0;
    close(fd);
}

// The number behind "key" at the start of a line.
static int64_t line_value(const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *p = text; p; p = strchr(p, '\n'), p = p ? p + 1 : NULL)
        if (strncmp(p, key, n) == 0)
            return strtoll(p + n, NULL, 10);
    return -1;
}

// "btime" stands behind a line for each CPU and one for all interrupts, which can be long.
static int64_t boot_time_s(void)
{
    FILE *f = fopen("/proc/stat", "re");
    if (!f)
        return -1;
    int64_t t = -1;
    char *line = NULL;
    size_t cap = 0;
    while (t < 0 && getline(&line, &cap, f) > 0)
        t = line_value(line, "btime ");
    free(line);
    fclose(f);
    return t;
}

static int64_t count_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    if (!d)
        return -1;
    int64_t n = -1; // the directory itself is open too
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

// Fields of /proc/self/stat, counted from 0 behind the name.
enum { STAT_UTIME = 11, STAT_STIME = 12, STAT_START = 19, STAT_FIELDS = 20 };

static void read_stat(struct procstat *s)
{
    char text[2048];
    read_head("/proc/self/stat", text, sizeof(text));
    // The name in parentheses may hold anything, so the last ')' is what ends it.
    char *p = strrchr(text, ')');
    long hz = sysconf(_SC_CLK_TCK);
    if (!p || hz <= 0)
        return;
    int64_t field[STAT_FIELDS];
    int n = 0;
    char *rest;
    for (char *w = strtok_r(p + 1, " ", &rest); w && n < STAT_FIELDS;
         w = strtok_r(NULL, " ", &rest))
        field[n++] = strtoll(w, NULL, 10);
    if (n < STAT_FIELDS)
        return;
    s->cpu_ms = (field[STAT_UTIME] + field[STAT_STIME]) * 1000 / hz;
    int64_t boot = boot_time_s();
    if (boot >= 0)
        s->start_ms = boot * 1000 + field[STAT_START] * 1000 / hz;
}

static int64_t kib(int64_t v)
{
    return v < 0 ? -1 : v * 1024;
}

struct procstat procstat_read(void)
{
    struct procstat s = {-1, -1, -1, -1, -1, -1, -1, -1};
    read_stat(&s);
    char text[4096];
    read_head("/proc/self/status", text, sizeof(text));
    s.resident_bytes = kib(line_value(text, "VmRSS:"));
    s.anonymous_bytes = kib(line_value(text, "RssAnon:"));
    s.virtual_bytes = kib(line_value(text, "VmSize:"));
    s.threads = line_value(text, "Threads:");
    s.open_fds = count_fds();
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur != RLIM_INFINITY)
        s.max_fds = (int64_t)lim.rlim_cur;
    return s;
}

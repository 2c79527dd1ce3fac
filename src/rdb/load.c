// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/meter.h"
#include "control/lane_config.h"
#include "rdb/commands.h"
#include "rdb/load_file.h"
#include "rdb/verb.h"

enum {
    BAR = 20,
    MAX_PARALLEL = 64,
    PROGRESS_MS = 500,
    DEFAULT_WINDOW = 32 << 20,
    MIN_WINDOW = 4 << 20
};

enum {
    OPT_TO = 1,
    OPT_CONF,
    OPT_RESUME,
    OPT_PARALLEL,
    OPT_KEYS_RATE,
    OPT_BYTES_RATE,
    OPT_WINDOW,
    OPT_QUIET,
    OPT_REPLAY, // and behind it one for each row of replay_options
};

static const struct option own_options[] = {
    {"to", required_argument, NULL, OPT_TO},
    {"conf", required_argument, NULL, OPT_CONF},
    {"resume", no_argument, NULL, OPT_RESUME},
    {"parallel", required_argument, NULL, OPT_PARALLEL},
    {"max-keys-per-second", required_argument, NULL, OPT_KEYS_RATE},
    {"max-bytes-per-second", required_argument, NULL, OPT_BYTES_RATE},
    {"window", required_argument, NULL, OPT_WINDOW},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"key-exists", required_argument, NULL, OPT_REPLAY},
    {"target-db", required_argument, NULL, OPT_REPLAY + 1},
    {"db-map", required_argument, NULL, OPT_REPLAY + 2},
    {"functions", required_argument, NULL, OPT_REPLAY + 3},
    {"module-aux", required_argument, NULL, OPT_REPLAY + 4},
    {"max-restore", required_argument, NULL, OPT_REPLAY + 5},
    {"on-unsupported", required_argument, NULL, OPT_REPLAY + 6},
    {"unknown", required_argument, NULL, OPT_REPLAY + 7},
    {"no-restore", no_argument, NULL, OPT_REPLAY + 8},
    {NULL, 0, NULL, 0},
};

// The keys of the configuration that OPT_REPLAY + n sets; the value follows.
static const char *const replay_options[] = {
    "--rdb.load.replay.keyExists=",
    "--rdb.load.replay.targetDb=",
    "--rdb.load.replay.targetDbMap=",
    "--rdb.load.replay.functionExists=",
    "--rdb.load.replay.moduleAuxPolicy=",
    "--rdb.load.replay.maxProtoBulkLen=",
    "--rdb.load.replay.onUnsupported=",
    "--rdb.load.replay.onUnknown=",
    "--rdb.load.replay.replayRdbEnableRestore=false",
};

static const char usage_text[] =
    "usage: gunyu rdb load FILE... --to URI [OPTIONS]\n"
    "       gunyu rdb load [FILE...] --conf FILE [OPTIONS]\n"
    "\n"
    "Loads RDB files into a server, one after the other. \"-\" is standard input.\n"
    "\n"
    "  --to URI             redis://, rediss:// or unix://, with user, password and db\n"
    "  --conf FILE          configuration of the rdb command (load.redis, load.replay, "
    "load.filter)\n"
    "  --rdb.KEY=VALUE      any key of it; wins over the file\n"
    "  --resume             keep the position in the target, and go on from the one found there\n"
    "  --parallel N         so many files at the same time (1)\n"
    "  --max-keys-per-second N, --max-bytes-per-second SIZE\n"
    "                       all files together load no faster\n"
    "  --window SIZE        of each file, held in memory (32m)\n"
    "  --quiet              no progress, no summary\n"
    "How:\n"
    "  --key-exists WHAT    replace (default), ignore, error\n"
    "  --target-db N        every db into this one\n"
    "  --db-map A:B[,C:D]   db A of the file into db B of the target\n"
    "  --functions WHAT     replace (default), flush, append\n"
    "  --module-aux WHAT    fail (default), skip\n"
    "  --on-unsupported WHAT what the target cannot hold: fail (default), degrade\n"
    "  --unknown WHAT       what only a newer server can have written: fail (default), skip\n"
    "  --max-restore SIZE   bigger values are rebuilt by commands, a piece at a time\n"
    "  --no-restore         all values are\n";

struct job {
    struct load_plan plan;
    const char *conf, *to;
    char **flags; // owns array and strings
    int flags_n;
    char **files; // borrowed from argv or config
    size_t files_n;
    size_t parallel;
    bool quiet;
    struct config *config;
    int *db_map; // owns
    struct filter *filter;

    uv_mutex_t lock; // guards the next two
    size_t next;
    int rc;
    struct err err; // the first
    struct load_outcome *results;
    struct load_progress *progress; // one a file
    uint64_t *sizes;
    atomic_size_t running;
    uint64_t began_us;
};

static atomic_int stop_signal;

static void on_signal(int sig)
{
    // The second request does not wait for anything.
    if (atomic_exchange(&stop_signal, sig))
        _exit(EXIT_FAILED);
}

static void add_flag(struct job *j, char *flag)
{
    j->flags = xrealloc(j->flags, (size_t)(j->flags_n + 1) * sizeof(*j->flags));
    j->flags[j->flags_n++] = flag;
}

// ---- arguments ----

// Takes --rdb.* out of argv, which getopt does not know. Returns the new argc.
static int take_flags(struct job *j, int argc, char **argv)
{
    int n = 1;
    for (int i = 1; i < argc; i++) {
        static char conf[] = "--conf";
        if (strncmp(argv[i], "--rdb.", 6) == 0 || strncmp(argv[i], "-rdb.", 5) == 0)
            add_flag(j, xstrdup(argv[i]));
        else
            argv[n++] = strcmp(argv[i], "-conf") == 0 ? conf : argv[i];
    }
    argv[n] = NULL;
    return n;
}

static bool take_rate(struct load_rate *rate, const char *text)
{
    uint64_t v;
    bool ok = verb_size(text, &v) && v > 0;
    rate->per_second = ok ? (double)v : 0;
    return ok;
}

// 0, or an exit code after the line is printed.
static int take_option(void *arg, int c, const char *value)
{
    static const char verb[] = "load";
    struct job *j = arg;
    uint64_t v;
    int64_t n;
    switch (c) {
    case OPT_TO:
        j->to = value;
        return 0;
    case OPT_CONF:
        j->conf = value;
        return 0;
    case OPT_RESUME:
        j->plan.resume = true;
        return 0;
    case OPT_QUIET:
        j->quiet = true;
        return 0;
    case OPT_PARALLEL:
        if (!slice_i64(slice_cstr(value), &n) || n < 1 || n > MAX_PARALLEL)
            return verb_usage(verb, "--parallel: expected 1 to %d, not \"%.40s\"", MAX_PARALLEL,
                              value);
        j->parallel = (size_t)n;
        return 0;
    case OPT_KEYS_RATE:
    case OPT_BYTES_RATE:
        if (!take_rate(c == OPT_KEYS_RATE ? &j->plan.keys : &j->plan.bytes, value))
            return verb_usage(verb, "a rate is a number above 0, not \"%.40s\"", value);
        return 0;
    case OPT_WINDOW:
        if (!verb_size(value, &v) || v < MIN_WINDOW || v > INT64_MAX / 2)
            return verb_usage(verb, "--window: expected a size of at least 4m, not \"%.40s\"",
                              value);
        j->plan.window = (int64_t)v;
        return 0;
    default:
        add_flag(j, xasprintf("%s%s", replay_options[c - OPT_REPLAY], value ? value : ""));
        return 0;
    }
}

// -1: go on; else the exit code.
static int take_options(struct job *j, struct selection *s, int argc, char **argv)
{
    const struct verb_syntax syntax = {
        .own = own_options, .take = take_option, .help = usage_text, .wanted = s};
    int exit_code = verb_parse(&syntax, j, argc, argv);
    j->files = argv + optind;
    j->files_n = (size_t)(argc - optind);
    if (exit_code >= 0)
        return exit_code;
    // What a flag of the configuration may give is looked for later.
    if (!j->to && !j->conf && !j->flags_n)
        return verb_usage(argv[0], "no target: give --to URI or --conf FILE");
    if (j->files_n == 0 && !j->conf && !j->flags_n)
        return verb_usage(argv[0], "no file to load");
    if (selection_has_size(s))
        return verb_usage(argv[0], "--min-size and --max-size cannot select what is loaded");
    return -1;
}

// ---- the plan ----

static int read_config(struct job *j)
{
    struct config_diags d = {0};
    add_flag(j, xstrdup("--rdb.action=load"));
    if (j->files_n)
        add_flag(j, xasprintf("--rdb.rdbPath=%s", j->files[0]));
    struct config_sources src = {
        .file = j->conf, .to = j->to, .flags = j->flags, .flags_n = j->flags_n};
    int rc = config_build(&j->config, CONFIG_RDB, &src, &d);
    if (rc == 0)
        rc = config_validate(j->config, &d);
    config_diags_print(&d, stderr);
    config_diags_free(&d);
    if (rc == 0 && j->files_n == 0) {
        j->files = &j->config->rdb.path;
        j->files_n = 1;
    }
    return rc;
}

static void map_dbs(struct job *j, const struct replay_config *r)
{
    int n = 0;
    for (size_t i = 0; i < r->target_db_map.n; i++)
        if (r->target_db_map.v[i].from >= n)
            n = r->target_db_map.v[i].from + 1;
    j->db_map = xcalloc((size_t)n + 1, sizeof(*j->db_map));
    for (int i = 0; i < n; i++)
        j->db_map[i] = i;
    for (size_t i = 0; i < r->target_db_map.n; i++)
        j->db_map[r->target_db_map.v[i].from] = r->target_db_map.v[i].to;
    j->plan.dbs = (struct rewrite_dbs){
        .forced = r->target_db >= 0, .forced_db = r->target_db, .map = j->db_map, .map_n = n};
}

static int make_plan(struct job *j, struct err *e)
{
    const struct output_config *out = &j->config->rdb.load;
    if (j->plan.resume && out->replay.key_exists == KEY_ERROR)
        return err_set(e, ERR_CONFIG,
                       "--resume and key-exists \"error\" exclude each other: keys that an earlier "
                       "run loaded are there");
    // As a sync is configured; what the load does not use stays at its defaults.
    struct config as_sync = *j->config;
    as_sync.output = *out;
    lane_config_options(&j->plan.replay, &as_sync, 1);
    map_dbs(j, &out->replay);
    int rc = 0;
    if (out->redis.type == REDIS_CLUSTER) {
        j->plan.seeds = out->redis.endpoints;
        j->plan.seeds_n = out->redis.endpoints_n;
        endpoint_copy(&j->plan.target, &out->redis.endpoints[0]);
    } else {
        rc = config_server(&out->redis, &j->plan.target, e);
    }
    if (rc)
        return rc;
    endpoint_name(&j->plan.target, j->plan.target_name, sizeof(j->plan.target_name));
    rc = lane_config_filter(&j->filter, &out->filter, e);
    j->plan.filter = j->filter;
    return rc;
}

static int check_files(struct job *j, struct err *e)
{
    size_t stdins = 0;
    for (size_t i = 0; i < j->files_n; i++) {
        struct stat st;
        bool is_stdin = strcmp(j->files[i], "-") == 0;
        stdins += is_stdin;
        // Before the first of several is loaded.
        if (!is_stdin && stat(j->files[i], &st) != 0)
            return err_sys(e, -errno, "%s: cannot open", j->files[i]);
        j->sizes[i] = !is_stdin && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    }
    return stdins > 1 ? err_set(e, ERR_CONFIG, "standard input can be loaded once only") : 0;
}

// ---- running ----

static void note_error(struct job *j, int rc, const struct err *e)
{
    uv_mutex_lock(&j->lock);
    if (j->rc == 0) {
        j->rc = rc;
        j->err = *e;
    }
    uv_mutex_unlock(&j->lock);
    atomic_store(&j->plan.stop, true);
}

static size_t next_file(struct job *j)
{
    uv_mutex_lock(&j->lock);
    size_t i = atomic_load(&j->plan.stop) ? j->files_n : j->next++;
    uv_mutex_unlock(&j->lock);
    return i;
}

static void work(void *arg)
{
    struct job *j = arg;
    for (size_t i; (i = next_file(j)) < j->files_n;) {
        struct err e = {0};
        int rc = load_file(&j->plan, j->files[i], &j->progress[i], &j->results[i], &e);
        if (rc)
            note_error(j, rc, &e);
    }
    atomic_fetch_sub(&j->running, 1);
}

static void show_progress(const struct job *j, struct meter *m)
{
    uint64_t keys = 0, done = 0, size = 0;
    bool known = true;
    for (size_t i = 0; i < j->files_n; i++) {
        keys += atomic_load(&j->progress[i].keys);
        done += atomic_load(&j->progress[i].done);
        size += j->sizes[i];
        known &= j->sizes[i] > 0;
    }
    meter_count(m, keys, done);
    if (!meter_due(m))
        return;
    char line[240], percent[64] = "", eta[32] = "", items[32], bytes[32];
    if (known && size) {
        double part = done < size ? (double)done / (double)size : 1;
        const char *filled = "####################", *open = "....................";
        int n = (int)(part * BAR);
        snprintf(percent, sizeof(percent), " [%.*s%.*s] %5.1f%%", n, filled, BAR - n, open,
                 100 * part);
        if (m->byte_rate > 0 && done <= size)
            snprintf(eta, sizeof(eta), "  eta %.0f s", ceil((double)(size - done) / m->byte_rate));
    }
    meter_human(items, sizeof(items), m->item_rate, "");
    meter_human(bytes, sizeof(bytes), m->byte_rate, "B");
    snprintf(line, sizeof(line), "loading%s  %llu keys  %s keys/s  %s/s%s", percent,
             (unsigned long long)keys, items, bytes, eta);
    meter_show(m, line);
}

static void run(struct job *j)
{
    struct meter meter;
    uv_thread_t threads[MAX_PARALLEL];
    size_t n = j->parallel < j->files_n ? j->parallel : j->files_n, started = 0;
    meter_start(&meter, stderr);
    atomic_store(&j->running, n);
    for (; started < n; started++)
        must(uv_thread_create(&threads[started], work, j) == 0);
    uint64_t shown_us = clock_mono_us();
    while (atomic_load(&j->running)) {
        usleep(20000);
        if (atomic_load(&stop_signal))
            atomic_store(&j->plan.stop, true);
        if (!j->quiet && clock_mono_us() - shown_us >= PROGRESS_MS * 1000) {
            show_progress(j, &meter);
            shown_us = clock_mono_us();
        }
    }
    meter_end(&meter);
    for (size_t i = 0; i < started; i++)
        uv_thread_join(&threads[i]);
    if (j->rc == 0 && j->plan.resume) {
        struct err e = {0};
        int rc = load_forget(&j->plan, j->results, j->files_n, &e);
        if (rc)
            note_error(j, rc, &e);
    }
}

// ---- the summary ----

static void add_count(char *line, size_t cap, uint64_t n, const char *what)
{
    size_t used = strlen(line);
    if (n)
        snprintf(line + used, cap - used, ", %llu %s", (unsigned long long)n, what);
}

static void summarize(const struct job *j, size_t i)
{
    const struct load_outcome *r = &j->results[i];
    const char *name = strcmp(j->files[i], "-") == 0 ? "standard input" : j->files[i];
    char line[800] = "", from[64] = "";
    if (!r->id[0])
        return;
    if (r->was_done) {
        printf("%s: was loaded before\n", name);
        return;
    }
    if (r->resumed)
        snprintf(from, sizeof(from), ", from byte %llu on", (unsigned long long)r->from);
    add_count(line, sizeof(line), r->expired, "already expired");
    add_count(line, sizeof(line), r->filtered, "not selected");
    add_count(line, sizeof(line), r->ignored, "left as the target has them");
    add_count(line, sizeof(line), r->replaced, "replaced");
    add_count(line, sizeof(line), r->functions, "function libraries");
    add_count(line, sizeof(line), r->unknown, "unknown things skipped");
    for (int w = 0; w < LOSSES; w++)
        if (r->degraded[w]) {
            char what[80];
            snprintf(what, sizeof(what), "without %s", loss_words((enum loss)w));
            add_count(line, sizeof(line), r->degraded[w], what);
        }
    printf("%s: %llu keys into %s%s%s\n", name, (unsigned long long)r->keys, j->plan.target_name,
           from, line);
}

static int finish(struct job *j, const char *verb)
{
    uint64_t keys = 0;
    bool abandoned = false;
    for (size_t i = 0; i < j->files_n; i++) {
        if (!j->quiet)
            summarize(j, i);
        keys += j->results[i].keys;
        abandoned |= j->results[i].abandoned;
    }
    double seconds = (double)(clock_mono_us() - j->began_us) / 1e6;
    if (!j->quiet && j->rc == 0)
        printf("loaded %llu keys in %.1f s\n", (unsigned long long)keys, seconds);
    if (j->rc) {
        struct err e = j->err;
        size_t n = strlen(e.msg);
        if (keys)
            snprintf(e.msg + n, sizeof(e.msg) - n, " (%llu keys were sent before%s)",
                     (unsigned long long)keys,
                     j->plan.resume ? "; run the same command to go on" : "");
        verb_failed(verb, &e);
    }
    fflush(NULL);
    int code = j->rc == 0 ? EXIT_FINE : EXIT_FAILED;
    // A thread that waits for standard input would hold up an ordinary end.
    if (abandoned)
        _exit(code);
    return code;
}

static int load_all(struct job *j, const char *verb)
{
    struct err e = {0};
    if (read_config(j))
        return EXIT_USAGE;
    struct log_options lo = config_log_options(j->config);
    // Notes on single keys; the rest is in the summary.
    if (lo.level < LOG_WARN && !j->config->rdb.load.replay.key_exists_log)
        lo.level = LOG_WARN;
    j->results = xcalloc(j->files_n, sizeof(*j->results));
    j->progress = xcalloc(j->files_n, sizeof(*j->progress));
    j->sizes = xcalloc(j->files_n, sizeof(*j->sizes));
    int rc = log_setup(&lo, &e);
    if (rc == 0)
        rc = make_plan(j, &e);
    if (rc == 0)
        rc = check_files(j, &e);
    if (rc) {
        verb_failed(verb, &e);
        return rc == ERR_CONFIG ? EXIT_USAGE : EXIT_FAILED;
    }
    struct sigaction act = {.sa_handler = on_signal};
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    j->began_us = clock_mono_us();
    run(j);
    return finish(j, verb);
}

int rdb_load_main(int argc, char **argv)
{
    struct selection *s = selection_new();
    struct job j = {.parallel = 1, .plan = {.selection = s, .window = DEFAULT_WINDOW}};
    must(uv_mutex_init(&j.lock) == 0 && uv_mutex_init(&j.plan.keys.lock) == 0 &&
         uv_mutex_init(&j.plan.bytes.lock) == 0);
    argc = take_flags(&j, argc, argv);
    int exit_code = take_options(&j, s, argc, argv);
    if (exit_code < 0)
        exit_code = load_all(&j, argv[0]);
    for (int i = 0; i < j.flags_n; i++)
        free(j.flags[i]);
    free(j.flags);
    free(j.results);
    free(j.progress);
    free(j.sizes);
    free(j.db_map);
    filter_free(j.filter);
    endpoint_free(&j.plan.target);
    config_free(j.config);
    selection_free(s);
    uv_mutex_destroy(&j.lock);
    uv_mutex_destroy(&j.plan.keys.lock);
    uv_mutex_destroy(&j.plan.bytes.lock);
    return exit_code;
}

// SPDX-License-Identifier: Apache-2.0
#include "cli/sync.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "base/log.h"
#include "cli/progress.h"
#include "control/http.h"
#include "control/supervisor.h"

enum { PROGRESS_MS = 500 };

struct sync_process {
    struct config *config;
    struct supervisor *sup;
    struct http *http;
    struct progress progress;
    bool show_progress;
    uv_loop_t loop;
    uv_signal_t term, intr, hup;
    uv_timer_t timer;
    uv_async_t ask; // another thread wants the end
    bool ending;
};

static void end(struct sync_process *p)
{
    // The second request does not wait for anything.
    if (p->ending)
        _exit(EXIT_FAILED);
    p->ending = true;
    uv_timer_stop(&p->timer);
    uv_stop(&p->loop);
}

static void on_signal(uv_signal_t *h, int sig)
{
    (void)sig;
    struct sync_process *p = h->data;
    log_info(NULL, "stopping: signal %d", sig);
    end(p);
}

static void on_hup(uv_signal_t *h, int sig)
{
    (void)h;
    (void)sig;
    log_reopen();
}

static void on_ask(uv_async_t *h)
{
    log_info(NULL, "stopping: asked for over HTTP");
    end(h->data);
}

static void ask_shutdown(void *ctx)
{
    struct sync_process *p = ctx;
    uv_async_send(&p->ask);
}

static void config_text(void *ctx, bool json, struct buf *out)
{
    const struct sync_process *p = ctx;
    (json ? config_to_json : config_to_yaml)(p->config, true, out);
}

static void on_timer(uv_timer_t *h)
{
    struct sync_process *p = h->data;
    progress_update(&p->progress, p->sup);
}

// While the lanes finish, a second signal ends the process at once.
static void on_second_signal(int sig)
{
    (void)sig;
    _exit(EXIT_FAILED);
}

static void watch(struct sync_process *p)
{
    must(uv_loop_init(&p->loop) == 0);
    uv_signal_init(&p->loop, &p->term);
    uv_signal_init(&p->loop, &p->intr);
    uv_signal_init(&p->loop, &p->hup);
    uv_timer_init(&p->loop, &p->timer);
    uv_async_init(&p->loop, &p->ask, on_ask);
    p->term.data = p->intr.data = p->hup.data = p->timer.data = p->ask.data = p;
    uv_signal_start(&p->term, on_signal, SIGTERM);
    uv_signal_start(&p->intr, on_signal, SIGINT);
    uv_signal_start(&p->hup, on_hup, SIGHUP);
}

static void close_handle(uv_handle_t *h, void *arg)
{
    (void)arg;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static void unwatch(struct sync_process *p)
{
    uv_walk(&p->loop, close_handle, NULL);
    uv_run(&p->loop, UV_RUN_DEFAULT);
    must(uv_loop_close(&p->loop) == 0);
}

static int start_http(struct sync_process *p, bool needed, struct err *e)
{
    const struct server_config *s = &p->config->server;
    struct http_options o = {.listen = s->listen,
                             .metric_path = s->metric_path,
                             .no_metrics = !s->metrics_enable,
                             .token = s->token,
                             .metrics_open = !s->metrics_token,
                             .version = GUNYU_VERSION,
                             .sup = p->sup,
                             .ctx = p,
                             .config_text = config_text,
                             .shutdown = ask_shutdown};
    int rc = http_start(&p->http, &o, e);
    if (rc && !needed) {
        log_warn(NULL, "no HTTP API: %s", e->msg);
        rc = 0;
    }
    return rc;
}

static int run(struct sync_process *p, bool api_needed, struct err *e)
{
    watch(p);
    int rc = supervisor_start(&p->sup, p->config, e);
    if (rc == 0)
        rc = start_http(p, api_needed, e);
    if (rc == 0) {
        log_info(NULL, "gunyu %s, pid %d", GUNYU_VERSION, (int)getpid());
        progress_start(&p->progress);
        if (p->show_progress)
            uv_timer_start(&p->timer, on_timer, PROGRESS_MS, PROGRESS_MS);
        uv_run(&p->loop, UV_RUN_DEFAULT);
        if (p->show_progress)
            progress_end(&p->progress);
    }
    // HTTP first: its threads may still post to the loop.
    http_stop(p->http);
    unwatch(p);
    signal(SIGTERM, on_second_signal);
    signal(SIGINT, on_second_signal);
    if (p->sup) {
        supervisor_stop(p->sup, (int)p->config->server.graceful_stop_ms);
        supervisor_free(p->sup);
    }
    return rc;
}

int cli_sync(const struct cli_args *args)
{
    struct sync_process p = {0};
    struct config_sources src = {.file = args->conf,
                                 .from = args->from,
                                 .to = args->to,
                                 .flags = args->flags,
                                 .flags_n = args->flags_n};
    struct config_diags d = {0};
    int rc = config_build(&p.config, CONFIG_SYNC, &src, &d);
    if (rc == 0)
        rc = config_validate(p.config, &d);
    config_diags_print(&d, stderr);
    config_diags_free(&d);
    struct err e = {0};
    struct log_options lo;
    if (rc == 0) {
        lo = config_log_options(p.config);
        rc = log_setup(&lo, &e);
        if (rc == 0) {
            p.show_progress = args->from != NULL;
            // The display tells the same.
            if (p.show_progress)
                p.config->output.replay.stats_log = false;
            rc = run(&p, args->from == NULL, &e);
        }
        if (rc)
            fprintf(stderr, "gunyu: %s\n", e.msg);
    }
    config_free(p.config);
    log_close();
    return rc == 0 ? EXIT_FINE : rc == ERR_CONFIG ? EXIT_USAGE : EXIT_FAILED;
}

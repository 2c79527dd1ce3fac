// SPDX-License-Identifier: Apache-2.0
#include "rdb/convert_cli.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "control/config.h"

bool cli_output_option(struct cli_output *o, int option, const char *arg)
{
    switch (option) {
    case 'o':
        o->path = arg;
        return true;
    case OPTION_ZSTD:
        o->format = RDB_OUT_ZSTD;
        return true;
    case OPTION_GZIP:
        o->format = RDB_OUT_GZIP;
        return true;
    case OPTION_QUIET:
        o->quiet = true;
        return true;
    case OPTION_DEGRADE:
        o->degrade = true;
        return true;
    default:
        return false;
    }
}

char *cli_output_dir(const struct cli_output *o)
{
    if (strcmp(o->path, "-") == 0 || strncmp(o->path, "/dev/", 5) == 0)
        return NULL;
    const char *slash = strrchr(o->path, '/');
    if (!slash)
        return xstrdup(".");
    return xstrndup(o->path, slash == o->path ? 1 : (size_t)(slash - o->path));
}

bool cli_login_option(struct cli_login *l, int option, const char *arg)
{
    if (option < OPTION_TLS || option >= OPTION_OWN)
        return false;
    if (option == OPTION_TLS + 4)
        l->insecure = true;
    else
        l->files[option - OPTION_TLS] = arg;
    return true;
}

int cli_login_endpoint(const struct cli_login *l, const char *uri, struct endpoint *out,
                       struct err *e)
{
    *out = (struct endpoint){0};
    int rc = config_endpoint(out, uri, e);
    if (rc)
        return rc;
    struct tls_options *tls = &out->tls;
    char **const set[] = {&tls->ca_file, &tls->cert_file, &tls->key_file, &tls->server_name};
    bool any = l->insecure;
    for (size_t i = 0; i < sizeof(set) / sizeof(*set); i++) {
        any |= l->files[i] != NULL;
        if (l->files[i])
            *set[i] = xstrdup(l->files[i]);
    }
    tls->insecure = l->insecure;
    if (any && !tls->enabled)
        return err_set(e, ERR_CONFIG, "options of TLS go with a rediss:// URI");
    return 0;
}

int cli_one_file(const char *verb, const struct cli_output *o, int n, char **words,
                 const char **path)
{
    if (n != 1)
        return verb_usage(verb, "name one RDB file");
    if (!o->path)
        return verb_usage(verb, "say where to write: --output FILE, or - for standard output");
    *path = words[0];
    return -1;
}

void cli_progress_start(struct cli_progress *p, const char *verb, const struct cli_output *o)
{
    p->verb = verb;
    p->tick = 0;
    p->on = !o->quiet && isatty(STDERR_FILENO);
    if (p->on)
        meter_start(&p->meter, stderr);
}

void cli_progress_step(struct cli_progress *p, const struct rdb_input *in, uint64_t keys)
{
    if (!p->on || (++p->tick & 1023) != 0)
        return;
    uint64_t size = rdb_input_size(in), done = rdb_input_done(in);
    meter_count(&p->meter, keys, done);
    if (!meter_due(&p->meter))
        return;
    char line[160], percent[16] = "", have[32], rate[32];
    if (size)
        snprintf(percent, sizeof(percent), " %.0f%%", 100.0 * (double)done / (double)size);
    meter_human(have, sizeof(have), (double)done, "B");
    meter_human(rate, sizeof(rate), p->meter.byte_rate, "B");
    snprintf(line, sizeof(line), "%s:%s %s, %llu keys, %s/s", p->verb, percent, have,
             (unsigned long long)keys, rate);
    meter_show(&p->meter, line);
}

void cli_progress_end(struct cli_progress *p)
{
    if (p->on)
        meter_end(&p->meter);
    p->on = false;
}

void cli_summary(const char *verb, const struct cli_output *o, const struct transfer *t)
{
    if (o->quiet)
        return;
    struct buf losses = {0};
    transfer_describe_losses(t, &losses);
    fprintf(stderr, "gunyu rdb %s: %llu of %llu keys written%s%s\n", verb,
            (unsigned long long)t->keys, (unsigned long long)t->items,
            losses.n ? "; left out: " : "", losses.n ? buf_cstr(&losses) : "");
    buf_free(&losses);
}

struct rdb_target cli_same_version(struct rdb_input *in)
{
    int version = rdb_version(rdb_input_reader(in));
    return (struct rdb_target){version < RDB_WRITE_MIN ? RDB_WRITE_MIN : version,
                               rdb_is_valkey(rdb_input_reader(in))};
}

int cli_input_open(struct rdb_input **in, const char *path, const struct cli_output *o,
                   struct rdb_item *first, struct err *e)
{
    struct rdb_input_options options = {.check_crc = true, .unknown = o->unknown};
    int rc = rdb_input_open(in, path, &options, e);
    if (rc)
        return rc;
    rdb_reader_give_aux(rdb_input_reader(*in));
    rc = rdb_input_next(*in, first, e);
    if (rc < 0) {
        rdb_input_close(*in);
        *in = NULL;
    }
    return rc;
}

int cli_end_file(struct rdb_writer *w, struct rdb_out *out, int rc, struct err *e)
{
    if (rc == 0) {
        rdb_writer_end(w);
        rc = rdb_out_commit(out, e);
    } else {
        rdb_out_discard(out);
    }
    rdb_writer_free(w);
    return rc;
}

int cli_each_item(struct cli_progress *p, struct rdb_input *in, struct rdb_item *item, int rc,
                  const uint64_t *keys, cli_item_fn *fn, void *ctx, struct err *e)
{
    for (; rc == RDB_ITEM; rc = rdb_input_next(in, item, e)) {
        int done = fn(ctx, in, item, e);
        if (done)
            return done;
        cli_progress_step(p, in, *keys);
    }
    return rc == RDB_DONE ? 0 : rc;
}

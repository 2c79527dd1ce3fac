// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "control/metrics.h"
#include "source_tree.h"

static struct lane_snapshot lane_example(void)
{
    struct lane_snapshot l = {
        .input = "127.0.0.1:6379",
        .output = "127.0.0.1:6380",
        .role = "leader",
        .transaction = true,
        .state = LANE_RUN,
        .phase = LANE_PHASE_STREAMING,
        .full_sync_reason = "the source's backlog does not cover offset 17",
        .received_offset = 5000,
        .acked_source_offset = 4000,
        .sent_offset = 3000,
        .applied_offset = 2000,
        .lag_bytes = 3000,
        .lag_ms = 1250,
        .full_sync_percent = 37.5,
        .snapshot_size = 900,
        .snapshot_loaded = 800,
        .journal_bytes = 250,
        .journal_max = 1000,
        .sync_delay_ns = 1500000,
        .expiries_pending = 3,
    };
    return l;
}

static char *render(enum metrics_set set, const struct lane_snapshot *lanes, size_t n)
{
    struct buf b = {0};
    metrics_render(&b, set, lanes, n, "1.2.3");
    char *text = xstrdup(buf_cstr(&b));
    buf_free(&b);
    return text;
}

static void assert_line(const char *text, const char *line)
{
    size_t n = strlen(line);
    for (const char *p = text; (p = strstr(p, line)); p++)
        if ((p == text || p[-1] == '\n') && p[n] == '\n')
            return;
    fail_msg("no line '%s' in:\n%s", line, text);
}

static void assert_no(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("'%s' must not be there", part);
}

static void values_come_in_their_units(void **state)
{
    (void)state;
    struct lane_snapshot l = lane_example();
    char *t = render(METRICS_ALL, &l, 1);
    assert_line(t, "gunyu_build_info{version=\"1.2.3\"} 1");
    assert_line(t, "gunyu_lag_seconds{input=\"127.0.0.1:6379\"} 1.25");
    assert_line(t, "gunyu_sync_delay_seconds{input=\"127.0.0.1:6379\"} 0.0015");
    assert_line(t, "redisGunYu_output_sync_delay{input=\"127.0.0.1:6379\"} 1500000");
    assert_line(t, "gunyu_full_sync_progress_ratio{input=\"127.0.0.1:6379\"} 0.375");
    assert_line(t, "redisGunYu_output_full_sync{input=\"127.0.0.1:6379\"} 37.5");
    assert_line(t, "redisGunYu_input_offset{input=\"127.0.0.1:6379\"} 4000");
    assert_line(t, "redisGunYu_output_send_offset{input=\"127.0.0.1:6379\"} 3000");
    assert_line(t, "redisGunYu_output_ack_offset{input=\"127.0.0.1:6379\"} 2000");
    assert_line(t, "redisGunYu_input_input_sync{input=\"127.0.0.1:6379\",role=\"leader\"} 2");
    assert_line(t, "redisGunYu_input_sync_state{input=\"127.0.0.1:6379\",state=\"run\"} 1");
    assert_line(t, "redisGunYu_input_sync_state{input=\"127.0.0.1:6379\",state=\"pause\"} 0");
    assert_line(t, "gunyu_lane_info{input=\"127.0.0.1:6379\",output=\"127.0.0.1:6380\","
                   "role=\"leader\",transaction=\"yes\"} 1");
    assert_line(t, "# TYPE redisGunYu_output_send_cmd counter");
    free(t);
}

static void every_counter_of_a_lane_is_shown(void **state)
{
    (void)state;
    struct lane_snapshot l = lane_example();
    uint64_t next = 7700001;
#define X(name) l.name = next++;
    LANE_COUNTERS(X)
#undef X
    char *t = render(METRICS_OWN, &l, 1);
    for (uint64_t v = 7700001; v < next; v++) {
        char part[32];
        snprintf(part, sizeof(part), " %llu\n", (unsigned long long)v);
        if (!strstr(t, part))
            fail_msg("counter number %d of LANE_COUNTERS is in no metric", (int)(v - 7700000));
    }
    free(t);
}

static void compat_counters_have_the_labels_of_redisgunyu(void **state)
{
    (void)state;
    struct lane_snapshot l = lane_example();
    l.full_syncs = 1;
    l.partial_syncs = 2;
    l.batches_txn_ok = 3;
    l.batches_txn_failed = 4;
    l.batches_plain_ok = 5;
    l.batches_plain_failed = 6;
    char *t = render(METRICS_COMPAT, &l, 1);
#define IN "{input=\"127.0.0.1:6379\","
    assert_line(t, "redisGunYu_input_sync_type" IN "sync_type=\"full\"} 1");
    assert_line(t, "redisGunYu_input_sync_type" IN "sync_type=\"incr\"} 2");
    assert_line(t, "redisGunYu_output_sender" IN "transaction=\"yes\",result=\"ok\"} 3");
    assert_line(t, "redisGunYu_output_sender" IN "transaction=\"yes\",result=\"error\"} 4");
    assert_line(t, "redisGunYu_output_sender" IN "transaction=\"no\",result=\"ok\"} 5");
    assert_line(t, "redisGunYu_output_sender" IN "transaction=\"no\",result=\"error\"} 6");
    assert_no(t, "gunyu_lane");
    free(t);
}

static void unknown_values_leave_their_sample_out(void **state)
{
    (void)state;
    struct lane_snapshot l = lane_example();
    l.received_offset = l.applied_offset = l.acked_source_offset = l.sync_delay_ns = -1;
    l.journal_max = -1;
    l.full_sync_reason[0] = 0;
    char *t = render(METRICS_ALL, &l, 1);
    assert_no(t, "gunyu_received_offset_bytes");
    assert_no(t, "redisGunYu_input_offset");
    assert_no(t, "sync_delay");
    assert_no(t, "gunyu_journal_limit_bytes");
    assert_no(t, "redisGunYu_storage_ratio");
    assert_no(t, "gunyu_full_sync_reason_info");
    free(t);
}

static void storage_sums_over_the_lanes(void **state)
{
    (void)state;
    struct lane_snapshot l[2] = {lane_example(), lane_example()};
    strcpy(l[1].input, "127.0.0.1:7000");
    l[1].journal_bytes = 750;
    char *t = render(METRICS_ALL, l, 2);
    assert_line(t, "redisGunYu_storage_size 1000");
    assert_line(t, "redisGunYu_storage_ratio 0.5");
    free(t);
}

static void an_error_is_stop_to_redisgunyu_and_error_to_us(void **state)
{
    (void)state;
    struct lane_snapshot l = lane_example();
    l.state = LANE_ERROR;
    char *t = render(METRICS_ALL, &l, 1);
    assert_line(t, "redisGunYu_input_sync_state" IN "state=\"stop\"} 1");
    assert_line(t, "gunyu_lane_state" IN "state=\"error\"} 1");
    assert_line(t, "gunyu_lane_state" IN "state=\"stop\"} 0");
    assert_line(t, "gunyu_lane_problem{input=\"127.0.0.1:6379\"} 1");
    free(t);
}

static void a_metric_has_one_head_and_its_samples_stand_together(void **state)
{
    (void)state;
    struct lane_snapshot l[2] = {lane_example(), lane_example()};
    strcpy(l[1].input, "127.0.0.1:7000");
    char *t = render(METRICS_ALL, l, 2);
    const char *head = "# TYPE gunyu_lane_state gauge\n";
    char *p = strstr(t, head);
    assert_non_null(p);
    assert_null(strstr(p + 1, head));
    p += strlen(head);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(strncmp(p, "gunyu_lane_state{", 17), 0);
        p = strchr(p, '\n') + 1;
    }
    assert_int_not_equal(strncmp(p, "gunyu_lane_state{", 17), 0);
    free(t);
}

static void the_process_is_measured(void **state)
{
    (void)state;
    char *t = render(METRICS_OWN, NULL, 0);
    const char *names[] = {"process_cpu_seconds_total ",    "process_resident_memory_bytes ",
                           "process_virtual_memory_bytes ", "process_open_fds ",
                           "process_start_time_seconds ",   "gunyu_anonymous_memory_bytes "};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        char line[64];
        snprintf(line, sizeof(line), "\n%s", names[i]);
        const char *p = strstr(t, line);
        if (!p)
            fail_msg("no %s", names[i]);
        // A test may have used no measurable CPU time yet.
        double v = strtod(p + strlen(line), NULL);
        assert_true(i == 0 ? v >= 0 : v > 0);
    }
    double start = strtod(strstr(t, "\nprocess_start_time_seconds ") + 28, NULL);
    assert_true(start > 1.6e9 && start < (double)time(NULL) + 5);
    free(t);
}

// What promtool says to the text; *status is its exit code, -1 when it cannot be run.
static char *promtool(const char *args, const char *text, int *status)
{
    char in[] = "/tmp/gunyu_promXXXXXX";
    int fd = mkstemp(in);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    char cmd[4200];
    snprintf(cmd, sizeof(cmd), "promtool %s <%s 2>&1", args, in);
    FILE *p = popen(cmd, "r");
    assert_non_null(p);
    struct buf out = {0};
    for (int c; (c = fgetc(p)) != EOF;)
        buf_append_char(&out, (char)c);
    int rc = pclose(p);
    unlink(in);
    *status = WIFEXITED(rc) && WEXITSTATUS(rc) != 127 ? WEXITSTATUS(rc) : -1;
    buf_cstr(&out);
    return out.p;
}

static const char hostile[] = "a\"b\\c\nd{}=,#\xff\xc3";

static void promtool_accepts_our_names_without_a_remark(void **state)
{
    (void)state;
    struct lane_snapshot l[2] = {lane_example(), lane_example()};
    strcpy(l[1].input, hostile);
    strcpy(l[1].full_sync_reason, hostile);
    char *t = render(METRICS_OWN, l, 2);
    int rc;
    char *said = promtool("check metrics", t, &rc);
    free(t);
    if (rc == -1) {
        free(said);
        print_message("promtool is not installed\n");
        skip();
    }
    assert_string_equal(said, "");
    assert_int_equal(rc, 0);
    free(said);
}

static void promtool_remarks_on_redisgunyus_spelling_only(void **state)
{
    (void)state;
    struct lane_snapshot l = lane_example();
    char *t = render(METRICS_ALL, &l, 1);
    int rc;
    char *said = promtool("check metrics", t, &rc);
    free(t);
    if (rc == -1) {
        free(said);
        skip();
    }
    assert_int_equal(rc, 3); // 3: remarks; 1: not readable
    for (char *line = strtok(said, "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, "redisGunYu_", 11) != 0 ||
            (!strstr(line, "'snake_case' not 'camelCase'") && !strstr(line, "\"_total\" suffix")))
            fail_msg("%s", line);
    }
    free(said);
}

static void numbers_do_not_follow_the_locale(void **state)
{
    (void)state;
    // Where the German locale is missing, the default one proves nothing but does no harm.
    char *was = strdup(setlocale(LC_ALL, NULL));
    setlocale(LC_ALL, "de_DE.UTF-8");
    struct lane_snapshot l = lane_example();
    char *t = render(METRICS_ALL, &l, 1);
    setlocale(LC_ALL, was);
    free(was);
    assert_line(t, "gunyu_lag_seconds{input=\"127.0.0.1:6379\"} 1.25");
    free(t);
}

static char *docs_text(void)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    metrics_write_docs(f);
    fclose(f);
    return text;
}

static void docs_metrics_md_is_what_the_table_says(void **state)
{
    (void)state;
    char *now = docs_text();
    char *written = read_source("docs/metrics.md");
    if (strcmp(now, written) != 0)
        fail_msg("docs/metrics.md is old: run make docs");
    free(written);
    free(now);
}

// Each word of the text that looks like one of our metrics must be in the reference.
static void assert_metrics_known(const char *file, const char *text, const char *docs)
{
    static const char *const prefixes[] = {"gunyu_", "redisGunYu_", "process_"};
    int found = 0;
    for (const char *p = text; *p;) {
        if (!isalnum((unsigned char)*p) && *p != '_') {
            p++;
            continue;
        }
        size_t n = 0;
        while (isalnum((unsigned char)p[n]) || p[n] == '_')
            n++;
        for (size_t i = 0; i < 3; i++) {
            if (strncmp(p, prefixes[i], strlen(prefixes[i])) != 0)
                continue;
            char name[128];
            snprintf(name, sizeof(name), "| `%.*s` |", (int)n, p);
            if (!strstr(docs, name))
                fail_msg("%s speaks of %s, which is no metric", file, name);
            found++;
        }
        p += n;
    }
    assert_true(found > 5);
}

static void alerts_and_dashboard_use_metrics_that_exist(void **state)
{
    (void)state;
    char *docs = docs_text();
    const char *files[] = {"deploy/alerts.yml", "deploy/grafana-gunyu.json"};
    for (size_t i = 0; i < 2; i++) {
        char *text = read_source(files[i]);
        assert_metrics_known(files[i], text, docs);
        free(text);
    }
    free(docs);
}

static void promtool_accepts_the_alerts(void **state)
{
    (void)state;
    char path[4000], args[4100];
    source_path("deploy/alerts.yml", path, sizeof(path));
    snprintf(args, sizeof(args), "check rules --lint-fatal %s", path);
    int rc;
    char *said = promtool(args, "", &rc);
    if (rc == -1) {
        free(said);
        skip();
    }
    if (rc != 0)
        fail_msg("%s", said);
    free(said);
}

static void alerts_fire_when_they_should(void **state)
{
    (void)state;
    char path[4000], args[4100];
    source_path("tests/data/alerts/alerts_test.yml", path, sizeof(path));
    snprintf(args, sizeof(args), "test rules %s", path);
    int rc;
    char *said = promtool(args, "", &rc);
    if (rc == -1) {
        free(said);
        skip();
    }
    if (rc != 0)
        fail_msg("%s", said);
    free(said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_in_their_units),
        cmocka_unit_test(every_counter_of_a_lane_is_shown),
        cmocka_unit_test(compat_counters_have_the_labels_of_redisgunyu),
        cmocka_unit_test(unknown_values_leave_their_sample_out),
        cmocka_unit_test(storage_sums_over_the_lanes),
        cmocka_unit_test(an_error_is_stop_to_redisgunyu_and_error_to_us),
        cmocka_unit_test(a_metric_has_one_head_and_its_samples_stand_together),
        cmocka_unit_test(the_process_is_measured),
        cmocka_unit_test(promtool_accepts_our_names_without_a_remark),
        cmocka_unit_test(promtool_remarks_on_redisgunyus_spelling_only),
        cmocka_unit_test(numbers_do_not_follow_the_locale),
        cmocka_unit_test(docs_metrics_md_is_what_the_table_says),
        cmocka_unit_test(alerts_and_dashboard_use_metrics_that_exist),
        cmocka_unit_test(promtool_accepts_the_alerts),
        cmocka_unit_test(alerts_fire_when_they_should),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

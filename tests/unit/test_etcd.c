// SPDX-License-Identifier: Apache-2.0
// What etcd is asked and what it answers, hostile answers included; and an HTTP server that is
// none.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/etcd_http.h"
#include "control/etcd_json.h"
#include "control/group_int.h"
#include "listener.h"
#include "server.h"

#define RANGE                                                                                      \
    "{\"header\":{\"revision\":\"9\"},\"kvs\":["                                                   \
    "{\"key\":\"L2IvMQ==\",\"create_revision\":\"7\",\"value\":\"eA==\",\"lease\":\"5\"},"         \
    "{\"key\":\"L2EvMQ==\",\"create_revision\":\"3\"},"                                            \
    "{\"key\":\"L2EvMg==\",\"create_revision\":\"2\",\"value\":\"eXk=\"}],\"count\":\"3\"}"

#define RECORD                                                                                     \
    "{\"shards\":{\"s\":{\"replid\":\"r\",\"left\":\"1\",\"right\":\"2\",\"ready\":true}},"        \
    "\"together\":[\"s\",3]}"

static void base64_is_read_as_it_is_written(void **state)
{
    (void)state;
    for (size_t n = 0; n < 70; n++) {
        char bytes[70];
        for (size_t i = 0; i < n; i++)
            bytes[i] = (char)(i * 37 + n);
        struct buf text = {0}, back = {0};
        etcd_base64(slice_make(bytes, n), &text);
        assert_true(etcd_unbase64(buf_slice(&text), &back));
        assert_true(slice_eq(buf_slice(&back), slice_make(bytes, n)));
        buf_free(&text);
        buf_free(&back);
    }
}

static void what_is_not_base64_is_refused(void **state)
{
    (void)state;
    const char *const bad[] = {
        "A", "AB", "ABC", "AB=A", "=AAA", "A===", "AA-_", "AA A", "\x80\x80\x80\x80"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct buf out = {0};
        assert_false(etcd_unbase64(slice_cstr(bad[i]), &out));
        buf_free(&out);
    }
}

static void keys_come_sorted_and_the_oldest_is_found(void **state)
{
    (void)state;
    json_t *answer = json_loads(RANGE, 0, NULL);
    struct etcd_kvs kvs;
    assert_int_equal(etcd_read_range(answer, &kvs, NULL), 0);
    assert_int_equal(kvs.n, 3);
    assert_string_equal(kvs.v[0].key, "/a/1");
    assert_string_equal(kvs.v[0].value, "");
    assert_string_equal(etcd_oldest(&kvs, "/a/")->key, "/a/2");
    assert_int_equal(etcd_oldest(&kvs, "/b/")->lease, 5);
    assert_null(etcd_oldest(&kvs, "/c/"));
    assert_string_equal(etcd_find(&kvs, "/a/2")->value, "yy");
    etcd_kvs_free(&kvs);
    json_decref(answer);
}

static void a_transaction_asks_for_a_prefix_that_nobody_has(void **state)
{
    (void)state;
    json_t *success = json_array();
    json_array_append_new(success, etcd_op("put", etcd_put("/a/1", "v", -3)));
    json_t *txn = etcd_txn(etcd_compare_created("/a/", true, 0), success, NULL);
    char *text = json_dumps(txn, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(
        text, "{\"compare\":[{\"create_revision\":\"0\",\"key\":\"L2Ev\",\"range_end\":\"L2Ew\","
              "\"result\":\"EQUAL\",\"target\":\"CREATE\"}],\"failure\":[],\"success\":[{"
              "\"request_put\":{\"key\":\"L2EvMQ==\",\"lease\":\"-3\",\"value\":\"dg==\"}}]}");
    free(text);
    json_decref(txn);
}

// Every reader, with anything: none may crash or give something that is not there.
static void read_all(const json_t *j)
{
    struct etcd_kvs kvs;
    struct etcd_event ev;
    char words[20];
    if (etcd_read_range(j, &kvs, NULL) == 0)
        (void)etcd_oldest(&kvs, "/");
    etcd_kvs_free(&kvs);
    for (size_t i = 0; i < 3; i++) {
        int rc = etcd_read_txn_range(j, i, &kvs, NULL);
        (void)rc;
        etcd_kvs_free(&kvs);
    }
    (void)etcd_succeeded(j);
    (void)etcd_number(j, "ID");
    (void)etcd_error(j, words, sizeof(words));
    int rc = etcd_read_watch(j, &ev, NULL);
    (void)rc;
    char *all = NULL, *text = json_dumps(j, JSON_ENCODE_ANY);
    struct group_edge edge;
    if (text) {
        (void)group_source_same(text, "[\"a\"]", &all);
        free(all);
        (void)group_source_same("[\"a\"]", text, &all);
        free(all);
        json_t *record = group_record_read(text);
        (void)group_record_edge(record, "s", &edge);
        (void)group_record_together(record, "s");
        json_decref(record);
    }
    free(text);
}

static const char *const answers[] = {
    RANGE,
    "{\"succeeded\":true,\"responses\":[{\"response_range\":" RANGE "},{\"response_put\":{}}]}",
    "{\"error\":{\"grpc_code\":14,\"message\":\"no\\nleader\"}}",
    "{\"error\":\"x\",\"message\":\"y\",\"code\":5}",
    "{\"result\":{\"header\":{\"revision\":\"4\"},\"created\":true,\"events\":[{}]}}",
    "{\"result\":{\"canceled\":true,\"compact_revision\":\"8\"}}",
    RECORD,
    "[\"a\",{},3]",
};

// Another kind of value at each place where a value stands.
static void replace_each(json_t *root, json_t *at)
{
    const char *key;
    json_t *v;
    void *next;
    const char *const others[] = {"null",  "[]",          "{}",       "3",   "-1",
                                  "1e300", "\"\\u0000\"", "\"//8=\"", "true"};
    size_t n = sizeof(others) / sizeof(others[0]), i;
    json_object_foreach_safe(at, next, key, v)
    {
        json_t *keep = json_incref(v);
        char *name = xstrdup(key);
        for (i = 0; i < n; i++) {
            json_object_set_new(at, name,
                                json_loads(others[i], JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL));
            read_all(root);
        }
        json_object_set_new(at, name, keep);
        replace_each(root, json_object_get(at, name));
        free(name);
    }
    for (size_t k = 0; k < json_array_size(at); k++) {
        json_t *keep = json_incref(json_array_get(at, k));
        for (i = 0; i < n; i++) {
            json_array_set_new(at, k,
                               json_loads(others[i], JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL));
            read_all(root);
        }
        json_array_set_new(at, k, keep);
        replace_each(root, json_array_get(at, k));
    }
}

static void answers_of_any_shape_are_survived(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        json_t *j = json_loads(answers[i], 0, NULL);
        assert_non_null(j);
        read_all(j);
        replace_each(j, j);
        json_decref(j);
    }
    read_all(NULL);
}

static void one_thing_in_common_is_the_same_source(void **state)
{
    (void)state;
    char *all;
    assert_true(group_source_same("[\"a\",\"b\"]", "[\"b\",\"c\"]", &all));
    assert_string_equal(all, "[\"a\",\"b\",\"c\"]");
    free(all);
    assert_true(group_source_same("[\"a\",\"b\"]", "[\"b\"]", &all));
    assert_null(all);
    assert_false(group_source_same("[\"a\"]", "[\"b\"]", &all));
    assert_null(all);
    assert_true(group_source_same("garbage", "[\"b\"]", &all));
    assert_string_equal(all, "[\"b\"]");
    free(all);
}

static void errors_are_told_apart(void **state)
{
    (void)state;
    char words[20];
    json_t *j = json_loads(answers[2], 0, NULL);
    assert_int_equal(etcd_error(j, words, sizeof(words)), ETCD_UNAVAILABLE);
    assert_string_equal(words, "no leader");
    json_decref(j);
    j = json_loads(answers[3], 0, NULL);
    assert_int_equal(etcd_error(j, words, sizeof(words)), ETCD_NOT_FOUND);
    assert_string_equal(words, "y");
    json_decref(j);
    j = json_loads(RANGE, 0, NULL);
    assert_int_equal(etcd_error(j, words, sizeof(words)), ETCD_OK);
    json_decref(j);
}

static void a_watch_that_was_compacted_says_so(void **state)
{
    (void)state;
    struct etcd_event ev;
    json_t *j = json_loads(answers[5], 0, NULL);
    assert_int_equal(etcd_read_watch(j, &ev, NULL), 0);
    assert_true(ev.canceled && ev.compacted);
    json_decref(j);
    j = json_loads(answers[4], 0, NULL);
    assert_int_equal(etcd_read_watch(j, &ev, NULL), 0);
    assert_true(ev.created && ev.changed);
    assert_int_equal(ev.revision, 4);
    json_decref(j);
}

static void endpoints_are_read_as_people_write_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool tls;
        const char *url, *login;
    } cases[] = {
        {"h", false, "http://h:2379", NULL},
        {"h:1", false, "http://h:1", NULL},
        {"h:1", true, "https://h:1", NULL},
        {"http://h:1/", true, "http://h:1", NULL},
        {"https://u:p%@h", false, "https://h:2379", "u:p%"},
        {"[::1]", false, "http://[::1]:2379", NULL},
        {"[::1]:5", false, "http://[::1]:5", NULL},
        {"ftp://h", false, NULL, NULL},
        {"http://h:1/path", false, NULL, NULL},
        {"", false, NULL, NULL},
        {"http://a b", false, NULL, NULL},
        {"http://h?x", false, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *login, *url = etcd_url(cases[i].text, cases[i].tls, &login);
        assert_int_equal(url == NULL, cases[i].url == NULL);
        if (url)
            assert_string_equal(url, cases[i].url);
        assert_int_equal(login == NULL, cases[i].login == NULL);
        if (login)
            assert_string_equal(login, cases[i].login);
        free(url);
        free(login);
    }
}

// ---- a server that says what the test wants ----

struct liar {
    int fd;
    uint16_t port;
    const char *says;
    pthread_t thread;
};

static void *lie(void *arg)
{
    struct liar *l = arg;
    char in[4096];
    for (;;) {
        int c = accept(l->fd, NULL, NULL);
        if (c < 0)
            return NULL;
        ssize_t n = read(c, in, sizeof(in));
        if (n > 0)
            n = write(c, l->says, strlen(l->says));
        close(c);
    }
}

static void liar_start(struct liar *l)
{
    struct sockaddr_in a;
    l->fd = listen_somewhere(&a);
    l->port = ntohs(a.sin_port);
    must(pthread_create(&l->thread, NULL, lie, l) == 0);
}

static void liar_stop(struct liar *l)
{
    shutdown(l->fd, SHUT_RDWR);
    pthread_join(l->thread, NULL);
    close(l->fd);
}

#define OK "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"

static void a_server_that_is_no_etcd_gives_errors(void **state)
{
    (void)state;
    static const struct {
        const char *says;
        int rc;
    } cases[] = {
        {OK "{}", 0},
        {OK "[]", ERR_REPLY},
        {OK "{\"a\":", ERR_PROTOCOL},
        {OK, ERR_PROTOCOL},
        {"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\nNot Found", ERR_REPLY},
        {"HTTP/1.1 503 X\r\nConnection: close\r\n\r\n{\"error\":\"e\",\"code\":14}", ERR_REPLY},
        {"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", ERR_CLOSED},
        {"-ERR unknown command\r\n", ERR_CLOSED},
        {"", ERR_CLOSED},
        {"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
         ERR_REPLY},
    };
    struct liar l = {0};
    liar_start(&l);
    char endpoint[64], *list[] = {endpoint};
    snprintf(endpoint, sizeof(endpoint), "gunyu:hunter2@127.0.0.1:%u", (unsigned)l.port);
    const struct etcd_config c = {.present = true, .endpoints = {list, 1}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct etcd_http *h;
        struct err e = {0};
        json_t *answer = NULL;
        l.says = OK "{\"token\":\"t0ken\"}";
        assert_int_equal(etcd_http_open(&h, &c, 2000, &e), 0);
        assert_int_equal(etcd_post(h, "kv/range", json_object(), &answer, NULL, &e), 0);
        json_decref(answer);
        l.says = cases[i].says;
        assert_int_equal(etcd_post(h, "kv/range", json_object(), &answer, NULL, &e), cases[i].rc);
        assert_null(strstr(e.msg, "hunter2"));
        assert_null(strstr(e.msg, "t0ken"));
        json_decref(answer);
        etcd_http_close(h);
    }
    liar_stop(&l);
}

static void a_stream_of_anything_ends_in_an_error(void **state)
{
    (void)state;
    const char *const says[] = {
        OK "{\"result\":{}}\n[]\n",
        OK "{\"result\":{}}\n{\"x\n",
        OK "{\"result\":{}}\n",
        OK "{\"result\":{}}\n{\"error\":{\"grpc_code\":14,\"message\":\"gone\"}}",
    };
    struct liar l = {0};
    liar_start(&l);
    char endpoint[64], *list[] = {endpoint};
    snprintf(endpoint, sizeof(endpoint), "127.0.0.1:%u", (unsigned)l.port);
    const struct etcd_config c = {.present = true, .endpoints = {list, 1}};
    struct etcd_http *h;
    atomic_bool cancel = false;
    assert_int_equal(etcd_http_open(&h, &c, 2000, NULL), 0);
    for (size_t i = 0; i < sizeof(says) / sizeof(says[0]); i++) {
        json_t *message;
        l.says = says[i];
        assert_int_equal(etcd_stream_begin(h, "watch", json_object(), NULL), 0);
        assert_int_equal(etcd_stream_next(h, 5000, &cancel, &message, NULL), 1);
        json_decref(message);
        assert_true(etcd_stream_next(h, 5000, &cancel, &message, NULL) < 0);
        assert_false(etcd_stream_is_on(h));
    }
    etcd_http_close(h);
    liar_stop(&l);
}

int main(void)
{
    const struct log_options quiet = {.level = LOG_OFF};
    must(log_setup(&quiet, NULL) == 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_is_read_as_it_is_written),
        cmocka_unit_test(what_is_not_base64_is_refused),
        cmocka_unit_test(keys_come_sorted_and_the_oldest_is_found),
        cmocka_unit_test(a_transaction_asks_for_a_prefix_that_nobody_has),
        cmocka_unit_test(answers_of_any_shape_are_survived),
        cmocka_unit_test(one_thing_in_common_is_the_same_source),
        cmocka_unit_test(errors_are_told_apart),
        cmocka_unit_test(a_watch_that_was_compacted_says_so),
        cmocka_unit_test(endpoints_are_read_as_people_write_them),
        cmocka_unit_test(a_server_that_is_no_etcd_gives_errors),
        cmocka_unit_test(a_stream_of_anything_ends_in_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

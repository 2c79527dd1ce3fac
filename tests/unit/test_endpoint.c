// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/endpoint.h"

struct good {
    const char *uri;
    const char *name, *user, *password;
    int db;
    bool tls;
};

static void same(const char *a, const char *b)
{
    if (!a || !b)
        assert_ptr_equal(a, b);
    else
        assert_string_equal(a, b);
}

static void a_moved_endpoint_keeps_all_but_the_address(void **state)
{
    (void)state;
    struct endpoint from, to;
    assert_int_equal(endpoint_parse(&from, SLICE("rediss://u:p@old:1/2"), NULL), 0);
    endpoint_move(&to, &from, "new", 9);
    endpoint_free(&from);
    char name[300];
    assert_string_equal(endpoint_name(&to, name, sizeof(name)), "new:9");
    assert_string_equal(to.user, "u");
    assert_string_equal(to.password, "p");
    assert_int_equal(to.db, 2);
    assert_true(to.tls.enabled);
    endpoint_free(&to);
    assert_int_equal(endpoint_parse(&from, SLICE("unix:///run/s"), NULL), 0);
    endpoint_move(&to, &from, "new", 9);
    assert_null(to.path);
    endpoint_free(&from);
    endpoint_free(&to);
}

static void only_names_and_addresses_can_be_hosts(void **state)
{
    (void)state;
    static const char *const good[] = {"h", "10.0.0.1", "::1", "fe80::1%eth0", "my_host-1.example"};
    static const char *const bad[] = {"", "a b", "a\nb", "a/b", "[::1]", "\xc3\xa4", "a@b", "?"};
    char longest[255];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(endpoint_host_ok(slice_cstr(good[i])));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(endpoint_host_ok(slice_cstr(bad[i])));
    assert_false(endpoint_host_ok(SLICE("a\0b")));
    memset(longest, 'a', sizeof(longest));
    assert_true(endpoint_host_ok(slice_make(longest, 253)));
    assert_false(endpoint_host_ok(slice_make(longest, 254)));
}

static void every_form_of_address_is_read(void **state)
{
    (void)state;
    static const struct good table[] = {
        {"redis://h", "h:6379", NULL, NULL, 0, false},
        {"redis://h:1/7", "h:1", NULL, NULL, 7, false},
        {"redis://h:1/", "h:1", NULL, NULL, 0, false},
        {"redis://h?db=3", "h:6379", NULL, NULL, 3, false},
        {"redis://:pw@h:1", "h:1", NULL, "pw", 0, false},
        {"redis://user:pw@h:1", "h:1", "user", "pw", 0, false},
        {"redis://user:@h:1", "h:1", "user", "", 0, false},
        {"redis://user@h:1", "h:1", "user", NULL, 0, false},
        {"redis://:@h:1", "h:1", NULL, NULL, 0, false},
        {"redis://u%40x:p%3a%2F%25@h:1", "h:1", "u@x", "p:/%", 0, false},
        {"redis://:a@b/c?d@h:1/2", "h:1", NULL, "a@b/c?d", 2, false},
        {"redis://:a:b@h:1", "h:1", NULL, "a:b", 0, false},
        {"rediss://h:1/2", "h:1", NULL, NULL, 2, true},
        {"valkeys://h:1", "h:1", NULL, NULL, 0, true},
        {"redis://[::1]:7/2", "[::1]:7", NULL, NULL, 2, false},
        {"redis://[fe80::1%25eth0]:7", "[fe80::1%eth0]:7", NULL, NULL, 0, false},
        {"unix:///run/r.sock", "unix:/run/r.sock", NULL, NULL, 0, false},
        {"unix:///a@b/r%20s?db=4", "unix:/a@b/r s", NULL, NULL, 4, false},
        {"unix://u:p@/r.sock", "unix:/r.sock", "u", "p", 0, false},
        {"10.0.0.1:80", "10.0.0.1:80", NULL, NULL, 0, false},
        {"[::1]:7", "[::1]:7", NULL, NULL, 0, false},
        {"my_host-1.example", "my_host-1.example:6379", NULL, NULL, 0, false},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const struct good *g = &table[i];
        struct endpoint ep;
        struct err e = {0};
        char name[300];
        if (endpoint_parse(&ep, slice_cstr(g->uri), &e))
            fail_msg("%s: %s", g->uri, e.msg);
        same(endpoint_name(&ep, name, sizeof(name)), g->name);
        same(ep.user, g->user);
        same(ep.password, g->password);
        assert_int_equal(ep.db, g->db);
        assert_int_equal(ep.tls.enabled, g->tls);
        endpoint_free(&ep);
    }
}

static void bad_addresses_are_refused_without_showing_the_password(void **state)
{
    (void)state;
    static const char *const table[] = {
        "",
        "redis://",
        "redis://:SECRET@",
        "redis://:SECRET@h:0",
        "redis://:SECRET@h:65536",
        "redis://:SECRET@h:port",
        "redis://:SECRET@h:",
        "redis://:SECRET@h:1/x",
        "redis://:SECRET@h:1/-1",
        "redis://:SECRET@h:1/99999999999",
        "redis://:SECRET@h:1?timeout=3",
        "redis://:SECRET%zz@h",
        "redis://:SECRET%4@h",
        "redis://:SECRET%00@h",
        "redis://us%2:SECRET@h",
        "redis://:SECRET@::1",
        "redis://:SECRET@[::1",
        "redis://:SECRET@[::1]x",
        "redis://:SECRET@ho st",
        "redis://:SECRET@ho%0ast",
        "http://:SECRET@h",
        ":SECRET@h:1",
        "unix://relative",
        "unix:///",
        "unix://:SECRET@relative",
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct endpoint ep;
        struct err e = {0};
        if (endpoint_parse(&ep, slice_cstr(table[i]), &e) != ERR_CONFIG)
            fail_msg("accepted: %s", table[i]);
        assert_int_equal(e.code, ERR_CONFIG);
        assert_null(strstr(e.msg, "SECRET"));
        assert_null(ep.host);
        assert_null(ep.password);
        assert_int_equal(endpoint_parse(&ep, slice_cstr(table[i]), NULL), ERR_CONFIG);
    }
}

static void a_copy_owns_everything(void **state)
{
    (void)state;
    struct endpoint a, b;
    assert_int_equal(endpoint_parse(&a, SLICE("rediss://u:p@h:1/2"), NULL), 0);
    a.tls.ca_file = strdup("ca");
    a.tls.min_version = TLS_1_3;
    endpoint_copy(&b, &a);
    endpoint_free(&a);
    assert_string_equal(b.host, "h");
    assert_string_equal(b.password, "p");
    assert_string_equal(b.tls.ca_file, "ca");
    assert_int_equal(b.tls.min_version, TLS_1_3);
    assert_int_equal(b.db, 2);
    endpoint_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_of_address_is_read),
        cmocka_unit_test(a_moved_endpoint_keeps_all_but_the_address),
        cmocka_unit_test(only_names_and_addresses_can_be_hosts),
        cmocka_unit_test(bad_addresses_are_refused_without_showing_the_password),
        cmocka_unit_test(a_copy_owns_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

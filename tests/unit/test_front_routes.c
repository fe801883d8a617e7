/* Which requests are calls, and rules that are wrong. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "front/routes.h"

static bool is_call(const char *rules, const char *method, const char *target)
{
    struct routes *routes;
    struct error error;
    if (routes_parse(rules, &routes, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    bool call = routes_is_call(routes, slice_text(method), slice_text(target));
    routes_free(routes);
    return call;
}

static void test_methods_without_rules(void **state)
{
    (void)state;
    static const char *const changing[] = {"POST", "PUT", "PATCH", "DELETE"};
    static const char *const others[] = {"GET", "HEAD", "OPTIONS", "post", "POSTX", "CONNECT", ""};
    for (size_t i = 0; i < sizeof changing / sizeof changing[0]; i++) {
        assert_true(is_call("", changing[i], "/a"));
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_false(is_call("", others[i], "/a"));
    }
}

static void test_first_rule_decides(void **state)
{
    (void)state;
    static const char rules[] =
        " GET /refresh ,\r\n!POST /search\n! POST  /v1/read/*,POST /v1/*\n\n"
        "PUT /users/*/tags, !PUT /users/*, * /admin/*,!DELETE *";
    assert_true(is_call(rules, "GET", "/refresh"));
    assert_true(is_call(rules, "GET", "/refresh?now=1"));
    assert_true(is_call(rules, "GET", "/%72efres%68#x"));
    assert_true(is_call(rules, "GET", "http://shop:80/refresh"));
    assert_false(is_call(rules, "GET", "/refresh/"));
    assert_false(is_call(rules, "GET", "/refreshed"));
    assert_false(is_call(rules, "GET", "/Refresh"));
    assert_false(is_call(rules, "GET", "/refres"));
    assert_false(is_call(rules, "POST", "/search"));
    assert_true(is_call(rules, "POST", "/search/x"));
    assert_true(is_call(rules, "POST", "/search%2Fx"));
    assert_false(is_call(rules, "POST", "/v1/read/x/y"));
    assert_true(is_call(rules, "POST", "/v1/write"));
    assert_true(is_call(rules, "PUT", "/users/7/tags"));
    assert_false(is_call(rules, "PUT", "/users//tags"));
    assert_false(is_call(rules, "PUT", "/users/7/8/tags"));
    assert_true(is_call(rules, "GET", "/admin/x"));
    assert_true(is_call(rules, "BREW", "/admin/"));
    assert_false(is_call(rules, "DELETE", "/anything"));
    assert_false(is_call(rules, "DELETE", ""));
    assert_true(is_call("GET /", "GET", "http://shop"));
    assert_true(is_call("OPTIONS *", "OPTIONS", "*"));
    assert_true(is_call("GET /a*b", "GET", "/a*b"));
    assert_false(is_call("GET /a*b", "GET", "/axb"));
    assert_true(is_call("GET /a*", "GET", "/axb/c"));
}

static void test_wrong_rules_are_named(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "GET",     "/path",    "GET path", "get /path", "GET /a b",
        "GET /?q", "GET /a#b", "!",        "! /path",   "POST /ok, PUT",
        "** /a",   "GET **",   "GET *a",   "G*T /a",    "GET /\x7f",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct routes *routes = NULL;
        struct error error;
        assert_int_equal(routes_parse(wrong[i], &routes, &error), STATUS_INVALID);
        assert_null(routes);
        assert_non_null(strstr(error.message, "route \""));
    }
    assert_null(routes_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods_without_rules),
        cmocka_unit_test(test_first_rule_decides),
        cmocka_unit_test(test_wrong_rules_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

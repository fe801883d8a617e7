/* Judging a browser's headers (admin/access.h), and taking queries apart (admin/query.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin/access.h"
#include "admin/query.h"

static void test_hosts(void **state)
{
    (void)state;
    static const char *const known[] = {
        "localhost",  "LOCALHOST:27019", "admin.localhost:1", "127.0.0.1",
        "10.0.0.9:1", "[::1]:27019",     "[fe80::1]",         "0.0.0.0:80",
    };
    static const char *const strange[] = {
        "",
        ":80",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1x",
        "127.0.0",
        "127.0.0.1.nip.io:80",
        "[::1",
        "[]:80",
        "[evil]:80",
        "::1",
        "0x7f000001",
        "2130706433",
        ".localhost.",
        "notlocalhost",
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_int_equal(admin_access_check(known[i], NULL, NULL), ADMIN_ACCESS_FINE);
    }
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        assert_int_equal(admin_access_check(strange[i], NULL, NULL), ADMIN_ACCESS_STRANGE_HOST);
    }
    assert_int_equal(admin_access_check(NULL, NULL, NULL), ADMIN_ACCESS_FINE);
    char longest[400];
    for (size_t i = 0; i < sizeof longest; i++) {
        longest[i] = 'a';
    }
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(admin_access_check(longest, NULL, NULL), ADMIN_ACCESS_STRANGE_HOST);
}

static void test_origins(void **state)
{
    (void)state;
    static const char host[] = "127.0.0.1:27019";
    assert_int_equal(admin_access_check(host, "http://127.0.0.1:27019", "same-origin"),
                     ADMIN_ACCESS_FINE);
    assert_int_equal(admin_access_check(host, "https://127.0.0.1:27019", NULL), ADMIN_ACCESS_FINE);
    assert_int_equal(admin_access_check(host, NULL, "none"), ADMIN_ACCESS_FINE);
    static const char *const others[] = {
        "null",
        "",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "http://127.0.0.1:270190",
        "ftp://127.0.0.1:27019",
        "127.0.0.1:27019",
        "http://evil.example",
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(admin_access_check(host, others[i], NULL), ADMIN_ACCESS_STRANGE_ORIGIN);
    }
    assert_int_equal(admin_access_check(host, NULL, "same-site"), ADMIN_ACCESS_STRANGE_ORIGIN);
    assert_int_equal(admin_access_check(host, NULL, "cross-site"), ADMIN_ACCESS_STRANGE_ORIGIN);
    assert_int_equal(admin_access_check(NULL, "http://127.0.0.1", NULL),
                     ADMIN_ACCESS_STRANGE_ORIGIN);
}

static void test_queries(void **state)
{
    (void)state;
    char text[8] = "before";
    assert_int_equal(query_number("unit=17", "unit", 0), 17);
    assert_int_equal(query_number("a=1&unit=17&b=2", "unit", 0), 17);
    assert_int_equal(query_number("unit=18446744073709551615", "unit", 0), UINT64_MAX);
    static const char *const bad[] = {
        "",
        "unit",
        "unit=",
        "unit=x",
        "unit=-1",
        "unit=1x",
        "unit=+1",
        "xunit=1",
        "unit=1%20",
        "unit= 1",
        "unit=18446744073709551616",
        "a=unit=1",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(query_number(bad[i], "unit", 42), 42);
    }
    assert_true(query_text("seen=abc123&x=y", "seen", text, sizeof text));
    assert_string_equal(text, "abc123");
    assert_true(query_text("seen=1234567", "seen", text, sizeof text));
    assert_false(query_text("seen=12345678", "seen", text, sizeof text));
    assert_false(query_text("seen=a%41", "seen", text, sizeof text));
    assert_string_equal(text, "1234567");
    assert_true(query_text("seen=&x=y", "seen", text, sizeof text));
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_origins),
        cmocka_unit_test(test_queries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

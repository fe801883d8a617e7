/* The admin port's token: nothing but the whole token, sent as a bearer's, is right. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin/token.h"

static void test_only_the_token_is_right(void **state)
{
    (void)state;
    struct admin_token token;
    static const char *const wrong[] = {
        NULL,
        "",
        "Bearer",
        "Bearer ",
        "Bearer 0123456789abcde",
        "Bearer 0123456789abcdefg",
        "Bearer 0123456789abcdeF",
        "Bearer 0123456789abcdef ",
        "Basic 0123456789abcdef",
        "0123456789abcdef",
    };
    admin_token_set(&token, "0123456789abcdef");
    assert_int_equal(admin_token_check(&token, "Bearer 0123456789abcdef"), ADMIN_TOKEN_RIGHT);
    assert_int_equal(admin_token_check(&token, "bearer  0123456789abcdef"), ADMIN_TOKEN_RIGHT);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(admin_token_check(&token, wrong[i]), ADMIN_TOKEN_WRONG);
    }
}

static void test_without_a_token_nobody_may(void **state)
{
    (void)state;
    struct admin_token token;
    static const char *const unset[] = {NULL, ""};
    for (size_t i = 0; i < 2; i++) {
        admin_token_set(&token, "0123456789abcdef");
        admin_token_set(&token, unset[i]);
        assert_int_equal(admin_token_check(&token, "Bearer 0123456789abcdef"), ADMIN_TOKEN_UNSET);
        assert_int_equal(admin_token_check(&token, "Bearer "), ADMIN_TOKEN_UNSET);
        assert_int_equal(admin_token_check(&token, NULL), ADMIN_TOKEN_UNSET);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_token_is_right),
        cmocka_unit_test(test_without_a_token_nobody_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

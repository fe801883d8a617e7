/* Namespaces that a transaction has been in: none is forgotten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine/touched.h"

static void test_only_what_was_added(void **state)
{
    (void)state;
    struct touched touched = {0};
    assert_false(touched_has(&touched, "a", "b"));
    assert_false(touched_has(&touched, NULL, NULL));
    touched_add(&touched, "a", "b");
    touched_add(&touched, "a", "b");
    assert_int_equal(touched.count, 1);
    assert_true(touched_has(&touched, "a", "b"));
    assert_true(touched_has(&touched, NULL, NULL));
    assert_false(touched_has(&touched, "a", "c"));
    assert_false(touched_has(&touched, "ab", ""));
}

static void test_beyond_its_room_it_is_any(void **state)
{
    (void)state;
    struct touched touched = {0};
    char name[16];
    for (int i = 0; i <= TOUCHED_MAX; i++) {
        assert_false(touched.any);
        (void)snprintf(name, sizeof name, "c%d", i);
        touched_add(&touched, "a", name);
        assert_true(touched_has(&touched, "a", name));
    }
    assert_true(touched_has(&touched, "a", "never"));
}

static void test_what_is_not_understood_is_any(void **state)
{
    (void)state;
    struct touched touched = {0};
    touched_add(&touched, "a", NULL);
    assert_true(touched_has(&touched, "x", "y") && touched_has(&touched, NULL, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_was_added),
        cmocka_unit_test(test_beyond_its_room_it_is_any),
        cmocka_unit_test(test_what_is_not_understood_is_any),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

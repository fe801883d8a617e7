/* Cursors that were noted are known, as long as there is room; no other ever is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "unit/cursor_set.h"

static struct cursor_set set;

static int clear(void **state)
{
    (void)state;
    memset(&set, 0, sizeof set);
    return 0;
}

static void test_noted(void **state)
{
    (void)state;
    assert_false(cursor_set_has(&set, 0));
    cursor_set_note(&set, 0);
    assert_false(cursor_set_has(&set, 0));
    cursor_set_note(&set, 17);
    cursor_set_note(&set, 17);
    assert_true(cursor_set_has(&set, 17));
    cursor_set_clear(&set);
    assert_false(cursor_set_has(&set, 17));
    cursor_set_note(&set, -5);
    cursor_set_clear(&set);
    assert_false(cursor_set_has(&set, -5));
}

static void test_only_what_was_noted(void **state)
{
    (void)state;
    size_t known = 0;
    for (int64_t id = 1; id <= 10 * (int64_t)CURSOR_SET_COUNT; id++) {
        cursor_set_note(&set, id * 7654321987);
    }
    for (int64_t id = 1; id <= 10 * (int64_t)CURSOR_SET_COUNT; id++) {
        known += cursor_set_has(&set, id * 7654321987);
        assert_false(cursor_set_has(&set, id * 7654321987 + 1));
    }
    assert_in_range(known, CURSOR_SET_COUNT / 2, CURSOR_SET_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_noted, clear),
        cmocka_unit_test_setup(test_only_what_was_noted, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Cursors that read several collections are known for long enough, and forgotten at last. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "unit/cursor_gates.h"

static struct cursor_gates cursors;

static int clear(void **state)
{
    (void)state;
    memset(&cursors, 0, sizeof cursors);
    return 0;
}

static void test_noted(void **state)
{
    (void)state;
    assert_false(cursor_gates_has(&cursors, 17, 5));
    for (int64_t id = 1; id <= 1000; id++) {
        cursor_gates_note(&cursors, id * -7654321987654321, 5);
    }
    for (int64_t id = 1; id <= 1000; id++) {
        assert_true(cursor_gates_has(&cursors, id * -7654321987654321, 6));
    }
    unsigned wrong = 0;
    for (int64_t id = 1; id <= 1000; id++) {
        wrong += cursor_gates_has(&cursors, id * 1234567891234567, 6);
    }
    assert_true(wrong < 100);
}

static void test_kept_while_it_is_used(void **state)
{
    (void)state;
    uint64_t now_ms = 100 * CURSOR_GATES_KEPT_MS;
    cursor_gates_note(&cursors, 17, now_ms);
    for (int i = 0; i < 9; i++) {
        now_ms += CURSOR_GATES_KEPT_MS - 1;
        cursor_gates_note(&cursors, 1000 + i, now_ms); /* somebody else, who makes it turn */
        assert_true(cursor_gates_has(&cursors, 17, now_ms));
    }
    for (int i = 0; i < 3; i++) {
        now_ms += CURSOR_GATES_KEPT_MS;
        cursor_gates_note(&cursors, 1000 + i, now_ms);
    }
    assert_false(cursor_gates_has(&cursors, 17, now_ms));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_noted, clear),
        cmocka_unit_test_setup(test_kept_while_it_is_used, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

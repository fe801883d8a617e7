/* The cursors of a unit: what is kept, within which bounds, and what is news to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "unit/gate.h"
#include "unit/unit_cursors.h"

static struct unit_cursors cursors;
static _Atomic uint64_t bytes;

static struct slice text(const char *of)
{
    return slice_make((const uint8_t *)of, strlen(of));
}

static struct unit_cursor *add(int64_t server_id, const char *documents)
{
    struct unit_cursor *cursor = NULL;
    assert_int_equal(
        unit_cursors_add(&cursors, "d.c", server_id, text(documents), &bytes, 100, &cursor),
        STATUS_OK);
    return cursor;
}

static void test_kept_and_found(void **state)
{
    (void)state;
    struct unit_cursor *own = add(0, "abc");
    struct unit_cursor *servers = add(77, "");
    assert_true(own->id > 0 && own->id != servers->id);
    assert_int_equal(servers->id, 77);
    assert_ptr_equal(unit_cursors_find(&cursors, own->id), own);
    assert_ptr_equal(unit_cursors_find(&cursors, 77), servers);
    assert_null(unit_cursors_find(&cursors, 78));
    assert_string_equal(own->namespace, "d.c");
    assert_true(slice_equal(own->documents, text("abc")));
    assert_int_equal(bytes, 3);
    unit_cursors_remove(&cursors, own);
    assert_int_equal(bytes, 0);
    unit_cursors_free(&cursors);
    assert_null(unit_cursors_find(&cursors, 77));
    unit_cursors_free(&cursors);
}

static void test_bounds(void **state)
{
    (void)state;
    struct unit_cursor *cursor = NULL;
    char much[101];
    memset(much, 'x', sizeof much);
    assert_int_equal(unit_cursors_add(&cursors, "d.c", 0, slice_make((uint8_t *)much, sizeof much),
                                      &bytes, 100, &cursor),
                     STATUS_LIMIT);
    for (int64_t i = 1; i <= UNIT_KEPT_CURSORS_MAX; i++) {
        (void)add(i, "");
    }
    assert_int_equal(unit_cursors_add(&cursors, "d.c", 0, text(""), &bytes, 100, &cursor),
                     STATUS_LIMIT);
    assert_null(cursor);
    assert_int_equal(bytes, 0);
    unit_cursors_free(&cursors);
}

static void test_its_own_publications_are_no_news(void **state)
{
    (void)state;
    struct unit_cursor *one = add(1, "");
    struct unit_cursor *any = add(2, "");
    one->gates[0] = 5;
    one->gate_count = 1;
    any->gates[0] = 5;
    any->gates[1] = GATE_SERVER;
    any->gate_count = 2;
    one->stamp = any->stamp = 10;
    unit_cursors_published(&cursors, 5);
    unit_cursors_published(&cursors, 6);
    assert_int_equal(one->stamp, 11);
    assert_int_equal(any->stamp, 13);
    unit_cursors_free(&cursors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept_and_found),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_its_own_publications_are_no_news),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

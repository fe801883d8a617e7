/* Where cursors are (route/cursor_places.h): what is noted is found, and what is forgotten is not;
   beyond its bounds it forgets, and never says what is not so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "route/cursor_places.h"

static struct cursor_places *make(void)
{
    struct cursor_places *places = calloc(1, sizeof *places);
    assert_non_null(places);
    cursor_places_init(places);
    return places;
}

static void drop(struct cursor_places *places)
{
    cursor_places_destroy(places);
    free(places);
}

static void test_notes_and_forgets(void **state)
{
    char member[TOPOLOGY_NAME_BYTES] = "";
    struct cursor_places *places = make();
    (void)state;
    assert_false(cursor_places_any(places));
    assert_false(cursor_places_find(places, 7, member));
    cursor_places_note(places, 0, "a:1");
    assert_false(cursor_places_any(places));
    assert_false(cursor_places_find(places, 0, member));
    cursor_places_note(places, 7, "a:1");
    cursor_places_note(places, -7, "b:2");
    assert_true(cursor_places_find(places, 7, member));
    assert_string_equal(member, "a:1");
    assert_true(cursor_places_find(places, -7, member));
    assert_string_equal(member, "b:2");
    cursor_places_note(places, 7, "b:2"); /* another server's, by the same number */
    assert_true(cursor_places_find(places, 7, member));
    assert_string_equal(member, "b:2");
    cursor_places_forget(places, 7);
    cursor_places_forget(places, 7);
    cursor_places_forget(places, 8);
    assert_false(cursor_places_find(places, 7, member));
    assert_true(cursor_places_any(places));
    cursor_places_forget(places, -7);
    assert_false(cursor_places_any(places));
    drop(places);
}

static void test_beyond_its_bounds(void **state)
{
    char member[TOPOLOGY_NAME_BYTES];
    char name[TOPOLOGY_NAME_BYTES];
    struct cursor_places *places = make();
    (void)state;
    int64_t last = 3 * (int64_t)CURSOR_PLACES_COUNT;
    for (int64_t id = 1; id <= last; id++) {
        cursor_places_note(places, id, id % 2 == 0 ? "even:1" : "odd:1");
        assert_true(cursor_places_find(places, id, member));
    }
    size_t known = 0;
    for (int64_t id = 1; id <= last; id++) {
        if (cursor_places_find(places, id, member)) {
            assert_string_equal(member, id % 2 == 0 ? "even:1" : "odd:1");
            cursor_places_forget(places, id);
            known++;
        }
    }
    assert_true(known > CURSOR_PLACES_COUNT / 2 && known <= CURSOR_PLACES_COUNT);
    assert_false(cursor_places_any(places));
    for (int64_t id = 1; id <= CURSOR_PLACES_NAMES; id++) {
        (void)snprintf(name, sizeof name, "member%d:1", (int)id);
        cursor_places_note(places, id, name);
        assert_int_equal(cursor_places_find(places, id, member), id <= CURSOR_PLACES_NAMES - 2);
    }
    drop(places);
}

static uint64_t held_ms;

static uint64_t now_ms(void)
{
    return held_ms;
}

/* More than fit are opened, and abandoned, while one is read on. */
static void test_one_in_use_is_not_forgotten_for_abandoned_ones(void **state)
{
    const struct clock_source held = {.monotonic_ms = now_ms, .wall_ms = now_ms};
    char member[TOPOLOGY_NAME_BYTES];
    struct cursor_places *places = make();
    (void)state;
    held_ms = 5;
    clock_use(&held);
    cursor_places_note(places, -1, "a:1");
    for (int64_t id = 1; id <= 16 * (int64_t)CURSOR_PLACES_COUNT; id++) {
        held_ms++;
        cursor_places_note(places, id, "b:2");
        if (id % CURSOR_PLACES_WAYS == 0) {
            assert_true(cursor_places_find(places, -1, member));
            assert_string_equal(member, "a:1");
        }
    }
    clock_use(NULL);
    drop(places);
}

static void test_abandoned_ones_are_none_after_a_time(void **state)
{
    const struct clock_source held = {.monotonic_ms = now_ms, .wall_ms = now_ms};
    char member[TOPOLOGY_NAME_BYTES];
    struct cursor_places *places = make();
    (void)state;
    held_ms = 5;
    clock_use(&held);
    cursor_places_note(places, 1, "a:1");
    cursor_places_note(places, 2, "a:1");
    held_ms += CURSOR_PLACES_MS_MAX;
    assert_true(cursor_places_any(places));
    assert_true(cursor_places_find(places, 2, member)); /* used anew */
    held_ms += CURSOR_PLACES_MS_MAX;
    assert_true(cursor_places_any(places));
    held_ms++;
    assert_false(cursor_places_any(places));
    cursor_places_note(places, 3, "a:1");
    assert_true(cursor_places_any(places));
    cursor_places_forget(places, 1);
    cursor_places_forget(places, 2);
    cursor_places_forget(places, 3);
    assert_false(cursor_places_any(places));
    clock_use(NULL);
    drop(places);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_notes_and_forgets),
        cmocka_unit_test(test_beyond_its_bounds),
        cmocka_unit_test(test_one_in_use_is_not_forgotten_for_abandoned_ones),
        cmocka_unit_test(test_abandoned_ones_are_none_after_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

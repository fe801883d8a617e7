/* Status names, error sentences, the clock. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "holdfast/clock.h"
#include "holdfast/error.h"

static void test_status_names_follow_the_list(void **state)
{
    (void)state;
    assert_string_equal(status_name(STATUS_OK), "OK");
    assert_string_equal(status_name(STATUS_CORRUPT), "CORRUPT");
    assert_string_equal(status_name(STATUS_MEMORY), "MEMORY");
    assert_string_equal(status_name((enum status)1000), "UNKNOWN");
    assert_string_equal(status_name((enum status) - 1), "UNKNOWN");
}

static void test_error_set_returns_status_and_formats(void **state)
{
    (void)state;
    struct error error = {0};
    assert_int_equal(error_set(&error, STATUS_IO, "disk %d", 7), STATUS_IO);
    assert_int_equal(error.status, STATUS_IO);
    assert_string_equal(error.message, "disk 7");
    assert_int_equal(error_set(NULL, STATUS_FULL, "nobody reads this"), STATUS_FULL);
}

static void test_error_message_is_cut_not_overrun(void **state)
{
    (void)state;
    struct error error = {0};
    char long_text[2000];
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    (void)error_set(&error, STATUS_INVALID, "%s", long_text);
    assert_int_equal(strlen(error.message), sizeof(error.message) - 1);
    (void)error_prefix(&error, "%s", long_text);
    assert_int_equal(strlen(error.message), sizeof(error.message) - 1);
    assert_int_equal(error.status, STATUS_INVALID);
}

static void test_error_may_quote_itself(void **state)
{
    (void)state;
    struct error error = {0};
    (void)error_set(&error, STATUS_IO, "inner");
    (void)error_set(&error, STATUS_REFUSED, "outer (%s)", error.message);
    assert_string_equal(error.message, "outer (inner)");
}

static void test_error_prefix_keeps_the_status(void **state)
{
    (void)state;
    struct error error = {0};
    (void)error_set(&error, STATUS_INVALID, "bad value");
    assert_int_equal(error_prefix(&error, "line %d", 3), STATUS_INVALID);
    assert_string_equal(error.message, "line 3: bad value");
    (void)error_prefix(NULL, "harmless");
}

static uint64_t fixed_ms(void)
{
    return 1234;
}

static void test_clock_can_be_held_and_given_back(void **state)
{
    (void)state;
    const struct clock_source held = {.monotonic_ms = fixed_ms, .wall_ms = fixed_ms};
    clock_use(&held);
    assert_int_equal(clock_monotonic_ms(), 1234);
    assert_int_equal(clock_wall_ms(), 1234);
    clock_use(NULL);
    uint64_t first = clock_monotonic_ms();
    assert_true(clock_monotonic_ms() >= first);
    assert_true(clock_wall_ms() > UINT64_C(1600000000000));
}

static void test_clock_text_has_room_for_any_time(void **state)
{
    (void)state;
    char text[CLOCK_TEXT_BYTES];
    clock_text(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    clock_text(UINT64_C(1767323045678), text);
    assert_string_equal(text, "2026-01-02T03:04:05.678Z");
    clock_text(UINT64_MAX, text);
    assert_string_equal(text, "584556019-04-03T14:25:51.615Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_names_follow_the_list),
        cmocka_unit_test(test_error_set_returns_status_and_formats),
        cmocka_unit_test(test_error_message_is_cut_not_overrun),
        cmocka_unit_test(test_error_may_quote_itself),
        cmocka_unit_test(test_error_prefix_keeps_the_status),
        cmocka_unit_test(test_clock_can_be_held_and_given_back),
        cmocka_unit_test(test_clock_text_has_room_for_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The growable buffer: against a naive model, at its limit, and after it was released. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"

static void test_append_and_consume(void **state)
{
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 1000);
    assert_true(buffer_validate(&buffer));
    assert_int_equal(buffer_append(&buffer, "hello ", 6), STATUS_OK);
    assert_int_equal(buffer_append(&buffer, "world", 5), STATUS_OK);
    assert_int_equal(buffer_append(&buffer, NULL, 0), STATUS_OK);
    buffer_consume(&buffer, 6);
    assert_true(slice_equal(buffer_slice(&buffer), slice_text("world")));
    buffer_consume(&buffer, 5);
    buffer_consume(&buffer, 0);
    assert_int_equal(buffer.size, 0);
    buffer_free(&buffer);
}

static void test_limit_is_hard_and_failure_changes_nothing(void **state)
{
    (void)state;
    struct buffer buffer;
    uint8_t bytes[700] = {0};
    buffer_init(&buffer, 1000);
    assert_int_equal(buffer_append(&buffer, bytes, sizeof(bytes)), STATUS_OK);
    assert_int_equal(buffer_append(&buffer, bytes, 301), STATUS_LIMIT);
    assert_int_equal(buffer_append(&buffer, bytes, SIZE_MAX), STATUS_LIMIT);
    assert_int_equal(buffer.size, 700);
    assert_int_equal(buffer_append(&buffer, bytes, 300), STATUS_OK);
    assert_int_equal(buffer_reserve(&buffer, 1), STATUS_LIMIT);
    assert_true(buffer.capacity <= 1000);
    assert_true(buffer_validate(&buffer));
    buffer_free(&buffer);
}

static void test_limit_below_the_smallest_growth(void **state)
{
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 10);
    assert_int_equal(buffer_append(&buffer, "0123456789", 10), STATUS_OK);
    assert_int_equal(buffer.capacity, 10);
    assert_int_equal(buffer_append(&buffer, "x", 1), STATUS_LIMIT);
    buffer_free(&buffer);
    buffer_init(&buffer, 0);
    assert_int_equal(buffer_append(&buffer, "x", 1), STATUS_LIMIT);
    assert_int_equal(buffer_append(&buffer, "", 0), STATUS_OK);
    buffer_free(&buffer);
}

static void test_clear_keeps_and_free_releases(void **state)
{
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 4096);
    assert_int_equal(buffer_append(&buffer, "abc", 3), STATUS_OK);
    size_t capacity = buffer.capacity;
    buffer_clear(&buffer);
    assert_int_equal(buffer.capacity, capacity);
    buffer_free(&buffer);
    buffer_free(&buffer); /* twice is harmless */
    buffer_free(NULL);
    assert_null(buffer.data);
    assert_int_equal(buffer_append(&buffer, "again", 5), STATUS_OK);
    buffer_free(&buffer);
}

static void test_validate_sees_each_broken_invariant(void **state)
{
    (void)state;
    uint8_t byte = 0;
    assert_false(buffer_validate(NULL));
    struct buffer sound = {.data = &byte, .size = 1, .capacity = 1, .limit = 1};
    assert_true(buffer_validate(&sound));
    struct buffer too_full = {.data = &byte, .size = 2, .capacity = 1, .limit = 2};
    assert_false(buffer_validate(&too_full));
    struct buffer too_large = {.data = &byte, .size = 1, .capacity = 2, .limit = 1};
    assert_false(buffer_validate(&too_large));
    struct buffer no_memory = {.data = NULL, .size = 0, .capacity = 1, .limit = 1};
    assert_false(buffer_validate(&no_memory));
    struct buffer no_capacity = {.data = &byte, .size = 0, .capacity = 0, .limit = 1};
    assert_false(buffer_validate(&no_capacity));
}

/* Thousands of steps beside a plain array that is too simple to be wrong. */
static void test_buffer_agrees_with_a_naive_model(void **state)
{
    (void)state;
    enum { LIMIT = 2000 };
    uint8_t model[LIMIT];
    size_t model_size = 0;
    uint32_t random = 12345;
    struct buffer buffer;
    buffer_init(&buffer, LIMIT);
    for (int step = 0; step < 20000; step++) {
        random = random * 1664525u + 1013904223u;
        size_t size = (random >> 16) % 300;
        if ((random >> 8) % 2 == 0) {
            uint8_t bytes[300];
            memset(bytes, step & 0xff, sizeof(bytes));
            enum status wanted = model_size + size <= LIMIT ? STATUS_OK : STATUS_LIMIT;
            assert_int_equal(buffer_append(&buffer, bytes, size), wanted);
            if (wanted == STATUS_OK) {
                memcpy(model + model_size, bytes, size);
                model_size += size;
            }
        } else {
            size = size < model_size ? size : model_size;
            buffer_consume(&buffer, size);
            memmove(model, model + size, model_size - size);
            model_size -= size;
        }
        assert_true(buffer_validate(&buffer));
        assert_true(slice_equal(buffer_slice(&buffer), slice_make(model, model_size)));
    }
    buffer_free(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_and_consume),
        cmocka_unit_test(test_limit_is_hard_and_failure_changes_nothing),
        cmocka_unit_test(test_limit_below_the_smallest_growth),
        cmocka_unit_test(test_clear_keeps_and_free_releases),
        cmocka_unit_test(test_validate_sees_each_broken_invariant),
        cmocka_unit_test(test_buffer_agrees_with_a_naive_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Numbers that MongoDB takes for equal have one lock, whatever their type; Longs that differ do not
 * share one. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <bson/bson.h>
#include <cmocka.h>
#include <string.h>

#include "unit/lock_table.h"

static struct lock_name name_of(const char *json)
{
    bson_error_t error;
    struct lock_name name;
    bson_t *key = bson_new_from_json((const uint8_t *)json, -1, &error);
    if (key == NULL) {
        fail_msg("%s: %s", json, error.message);
    }
    lock_name_of("d.c", slice_make(bson_get_data(key), key->len), &name);
    bson_destroy(key);
    return name;
}

static bool share(const char *left, const char *right)
{
    struct lock_name one = name_of(left);
    struct lock_name other = name_of(right);
    return memcmp(&one, &other, sizeof one) == 0;
}

#define LONG(text) "{\"_id\": {\"$numberLong\": \"" text "\"}}"
#define DOUBLE(text) "{\"_id\": {\"$numberDouble\": \"" text "\"}}"
#define DECIMAL(text) "{\"_id\": {\"$numberDecimal\": \"" text "\"}}"

static void test_equal_numbers(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"{\"_id\": 1}", DOUBLE("1.0")},
        {"{\"_id\": 0}", DECIMAL("0E+3")},
        {DOUBLE("-0.0"), DECIMAL("-0.00")},
        {LONG("12500"), DECIMAL("12.50E+3")},
        {LONG("-1"), DECIMAL("-1.000")},
        {LONG("9007199254740993"), DECIMAL("9007199254740993")},
        {LONG("9223372036854775807"), DECIMAL("9223372036854775807.0")},
        {LONG("-9223372036854775808"), DECIMAL("-9223372036854775808")},
        {LONG("1000000000000000000"), DECIMAL("1E+18")},
        {DOUBLE("9223372036854775808"), DECIMAL("9223372036854775808")},
        {DOUBLE("0.5"), DECIMAL("0.50")},
        {DOUBLE("1e300"), DOUBLE("1E+300")},
        {DOUBLE("NaN"), DECIMAL("NaN")},
        {DOUBLE("-Infinity"), DECIMAL("-Infinity")},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (!share(pairs[i][0], pairs[i][1])) {
            fail_msg("%s and %s have two locks", pairs[i][0], pairs[i][1]);
        }
    }
}

static void test_longs_beyond_a_double(void **state)
{
    (void)state;
    assert_false(share(LONG("9007199254740993"), LONG("9007199254740992")));
    assert_false(share(DECIMAL("9223372036854775807"), DECIMAL("9223372036854775806")));
    assert_false(share(DECIMAL("9007199254740993"), DOUBLE("9007199254740992")));
    assert_false(share(LONG("1"), DECIMAL("1.5")));
    assert_false(share(LONG("1"), "{\"_id\": \"1\"}"));
}

static void test_namespace_in_two_parts(void **state)
{
    (void)state;
    static const uint8_t one[] = "\x0e\0\0\0\x10_id\0\x01\0\0\0"; /* {_id: 1} */
    struct slice key = slice_make(one, sizeof one);
    struct lock_name whole;
    struct lock_name parts;
    struct lock_name other;
    lock_name_of("d.c.e", key, &whole);
    lock_name_in("d", "c.e", key, &parts);
    lock_name_in("d", "c.f", key, &other);
    assert_memory_equal(&whole, &parts, sizeof whole);
    assert_memory_not_equal(&whole, &other, sizeof whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_numbers),
        cmocka_unit_test(test_longs_beyond_a_double),
        cmocka_unit_test(test_namespace_in_two_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

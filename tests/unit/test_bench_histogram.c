/* Percentiles of the load driver: against the sorted values themselves. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/load/histogram.h"

#define VALUES 20000

static struct histogram histogram;

static int empty(void **state)
{
    (void)state;
    memset(&histogram, 0, sizeof histogram);
    return 0;
}

static int compare(const void *a, const void *b)
{
    const uint64_t *left = a;
    const uint64_t *right = b;
    return (*left > *right) - (*left < *right);
}

/* All magnitudes alike, the same in every run (xorshift64). */
static uint64_t next_value(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return (*seed >> 22) >> (*seed % 42);
}

static void test_percentiles_against_sorted_values(void **state)
{
    (void)state;
    static uint64_t values[VALUES];
    static const double percents[] = {1, 25, 50, 90, 95, 99, 99.9, 100};
    uint64_t seed = 88172645463325252u;
    for (size_t i = 0; i < VALUES; i++) {
        values[i] = next_value(&seed);
        histogram_add(&histogram, values[i]);
    }
    qsort(values, VALUES, sizeof values[0], compare);
    assert_int_equal(histogram.count, VALUES);
    assert_int_equal(histogram.max, values[VALUES - 1]);
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        uint64_t exact = values[(size_t)(percents[i] / 100 * VALUES + 0.999999) - 1];
        uint64_t found = histogram_percentile(&histogram, percents[i]);
        assert_true(found >= exact);
        assert_true(found - exact <= exact / 128);
    }
}

static void test_small_values_are_exact(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 256; i++) {
        histogram_add(&histogram, i);
    }
    assert_int_equal(histogram_percentile(&histogram, 50), 127);
    assert_int_equal(histogram_percentile(&histogram, 100), 255);
}

static void test_bounds(void **state)
{
    (void)state;
    assert_int_equal(histogram_percentile(&histogram, 50), 0);
    assert_int_equal(histogram_percentile(&histogram, 100), 0);
    histogram_add(&histogram, UINT64_MAX); /* counted in the last bucket, its maximum is kept */
    histogram_add(&histogram, 0);
    assert_int_equal(histogram_percentile(&histogram, 0), 0);
    assert_int_equal(histogram_percentile(&histogram, 50), 0);
    assert_true(histogram_percentile(&histogram, 100) >= (UINT64_C(1) << 42) - 1);
    assert_int_equal(histogram.max, UINT64_MAX);
}

static void test_two_are_one(void **state)
{
    (void)state;
    static struct histogram parts[2];
    static struct histogram merged;
    uint64_t seed = 88172645463325252u;
    double sum = 0;
    memset(parts, 0, sizeof parts);
    memset(&merged, 0, sizeof merged);
    for (size_t i = 0; i < VALUES; i++) {
        uint64_t value = next_value(&seed);
        sum += (double)value;
        histogram_add(&histogram, value);
        histogram_add(&parts[i % 2], value);
    }
    histogram_merge(&merged, &parts[0]);
    histogram_merge(&merged, &parts[1]);
    assert_memory_equal(&merged, &histogram, sizeof merged);
    double mean = histogram_mean(&histogram);
    assert_true(mean > sum / VALUES * 0.99 && mean < sum / VALUES * 1.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_percentiles_against_sorted_values, empty),
        cmocka_unit_test_setup(test_small_values_are_exact, empty),
        cmocka_unit_test_setup(test_bounds, empty),
        cmocka_unit_test_setup(test_two_are_one, empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Medians, their intervals and ratios: against values worked out by hand and against chance. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>

#include <cmocka.h>

#include "bench/load/zipf.h"
#include "bench/report/statistics.h"

static void check(const double *values, size_t count, double middle, double low, double high)
{
    struct estimate found = estimate_median(values, count);
    assert_true(fabs(found.middle - middle) < 1e-12);
    assert_true(fabs(found.low - low) < 1e-12);
    assert_true(fabs(found.high - high) < 1e-12);
    assert_int_equal(found.count, count);
}

static void test_few(void **state)
{
    (void)state;
    const double values[] = {3, 1, 2, 5, 4};
    check(values, 1, 3, 3, 3);
    check(values, 2, 2, 1, 3);
    check(values, 5, 3, 1, 5);
    assert_true(estimate_median(values, 1).confidence == 0);
    /* All five on one side of the median: 2 / 32. */
    assert_true(fabs(estimate_median(values, 5).confidence - (1 - 2.0 / 32)) < 1e-12);
}

/* From tables of the sign test. */
static void test_order_statistics(void **state)
{
    (void)state;
    static const struct {
        size_t count;
        size_t place; /* of the interval's ends, from either side */
    } known[] = {{6, 1}, {8, 1}, {9, 2}, {12, 3}, {20, 6}, {25, 8}, {50, 18}};
    double values[50];
    for (size_t i = 0; i < 50; i++) {
        values[i] = (double)((i * 17) % 50); /* a permutation */
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        double some[50];
        size_t count = 0;
        for (size_t j = 0; j < 50; j++) {
            if (values[j] < (double)known[i].count) {
                some[count++] = values[j] + 1;
            }
        }
        assert_int_equal(count, known[i].count);
        struct estimate found = estimate_median(some, count);
        assert_true(found.low == (double)known[i].place);
        assert_true(found.high == (double)(count + 1 - known[i].place));
        assert_true(found.confidence >= 0.95);
    }
}

/* The interval holds the true median as often as it says. */
static void test_coverage(void **state)
{
    (void)state;
    struct chance chance = {.state = 99};
    int held = 0;
    double promised = 0;
    for (int i = 0; i < 4000; i++) {
        double values[12];
        for (int j = 0; j < 12; j++) {
            values[j] = pow(chance_fraction(&chance), 3); /* skewed; its median is 1/8 */
        }
        struct estimate found = estimate_median(values, 12);
        held += found.low <= 0.125 && 0.125 <= found.high ? 1 : 0;
        promised = found.confidence;
    }
    assert_true(fabs(held / 4000.0 - promised) < 0.012);
}

static void test_ratio_of_pairs(void **state)
{
    (void)state;
    /* The machine drifts by more than the two differ. */
    const double measured[] = {20, 44, 76, 10, 30, 62};
    const double reference[] = {10, 20, 40, 5, 15, 30};
    struct estimate found = estimate_ratio(measured, reference, 6);
    assert_true(fabs(found.middle - 2) < 1e-12);
    assert_true(found.low >= 1.9 && found.high <= 2.2);
}

static void test_what_is_not_there(void **state)
{
    (void)state;
    const double values[] = {NAN, 4, INFINITY, 2, NAN};
    const double others[] = {1, 2, 1, 0, 1};
    struct estimate found = estimate_median(values, 5);
    assert_int_equal(found.count, 2);
    assert_true(found.middle == 3);
    found = estimate_ratio(values, others, 5);
    assert_int_equal(found.count, 1);
    assert_true(found.middle == 2);
    found = estimate_median(values, 1);
    assert_int_equal(found.count, 0);
    assert_true(isnan(found.middle));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few),
        cmocka_unit_test(test_order_statistics),
        cmocka_unit_test(test_coverage),
        cmocka_unit_test(test_ratio_of_pairs),
        cmocka_unit_test(test_what_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What is asked of the load `contended`: sums that fit what was acknowledged, and who got how much.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/load/contended.h"

static struct contended_result result; /* large */

static enum status check_accounts(int64_t before, int64_t after)
{
    const struct load_options options = {.kind = LOAD_ACCOUNTS};
    struct error error = {0};
    memset(&result, 0, sizeof result);
    result.before.hot = before;
    result.after.hot = after;
    return contended_check(&options, &result, &error);
}

static void test_accounts(void **state)
{
    (void)state;
    assert_int_equal(check_accounts(-3, -3), STATUS_OK);
    assert_int_equal(check_accounts(-3, -2), STATUS_PROTOCOL);
}

static enum status check(uint64_t transactions, uint64_t plain, int64_t hot, int64_t others)
{
    const struct load_options options = {.kind = LOAD_CONTENDED};
    struct error error = {0};
    memset(&result, 0, sizeof result);
    result.transactions.operations = transactions;
    result.plain.operations = plain;
    result.before = (struct contended_sums){.hot = 1000, .all = 5000};
    result.after = (struct contended_sums){.hot = 1000 + hot, .all = 5000 + hot + others};
    enum status status = contended_check(&options, &result, &error);
    assert_true((status == STATUS_OK) == (error.message[0] == '\0'));
    return status;
}

static void test_sums(void **state)
{
    (void)state;
    assert_int_equal(check(0, 0, 0, 0), STATUS_OK);
    assert_int_equal(check(7, 0, 7, 7), STATUS_OK);
    assert_int_equal(check(7, 3, 10, 7), STATUS_OK);
    assert_int_equal(check(7, 0, 6, 7), STATUS_PROTOCOL);  /* a lost update */
    assert_int_equal(check(7, 0, 8, 8), STATUS_PROTOCOL);  /* done, and not acknowledged */
    assert_int_equal(check(7, 3, 10, 6), STATUS_PROTOCOL); /* half a transaction */
    assert_int_equal(check(7, 3, 9, 8), STATUS_PROTOCOL);
}

static void test_shares(void **state)
{
    (void)state;
    struct contended_figures *figures = &result.transactions;
    uint64_t counts[] = {5, 0, 9, 4, 4};
    memset(&result, 0, sizeof result);
    contended_share(figures, counts, 0);
    assert_int_equal(figures->most, 0);
    contended_share(figures, counts, 5);
    assert_int_equal(figures->fewest, 0);
    assert_int_equal(figures->median, 4);
    assert_int_equal(figures->most, 9);
}

static void test_unfairness(void **state)
{
    (void)state;
    struct contended_figures *figures = &result.transactions;
    memset(&result, 0, sizeof result);
    assert_true(contended_unfairness(figures) == 0);
    for (uint64_t i = 0; i < 9; i++) {
        histogram_add(&figures->waits, 1000);
    }
    figures->longest_ns = 20000; /* ended when the time was over */
    double unfairness = contended_unfairness(figures);
    assert_true(unfairness > 19 && unfairness <= 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_accounts),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_unfairness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Which documents YCSB's loads ask for: against the distribution's own formula. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <string.h>

#include <cmocka.h>

#include "bench/load/keys.h"
#include "bench/load/pace.h"

#define ITEMS 1000u
#define DRAWS 400000u
#define THETA 0.99

static struct keys keys; /* large */
static uint32_t counts[ITEMS];

static void test_probabilities(void **state)
{
    (void)state;
    struct chance chance = {.state = 42};
    struct zipf zipf;
    double zeta = 0;
    memset(counts, 0, sizeof counts);
    zipf_init(&zipf, ITEMS, THETA);
    for (uint32_t i = 0; i < DRAWS; i++) {
        uint32_t item = zipf_next(&zipf, &chance);
        assert_true(item < ITEMS);
        counts[item]++;
    }
    for (uint32_t i = 0; i < ITEMS; i++) {
        zeta += pow(i + 1, -THETA);
    }
    /* The first two are exact; the method's curve through the others is near. */
    for (uint32_t i = 0; i < 2; i++) {
        double wanted = pow(i + 1, -THETA) / zeta * DRAWS;
        assert_true(fabs(counts[i] - wanted) < 5 * sqrt(wanted));
    }
    double of_first_hundred = 0;
    double wanted = 0;
    for (uint32_t i = 0; i < 100; i++) {
        of_first_hundred += counts[i];
        wanted += pow(i + 1, -THETA) / zeta * DRAWS;
    }
    assert_true(fabs(of_first_hundred / wanted - 1) < 0.03);
}

static void test_growing_is_making_anew(void **state)
{
    (void)state;
    struct zipf grown;
    struct zipf whole;
    zipf_init(&grown, 10, THETA);
    zipf_grow(&grown, ITEMS);
    zipf_init(&whole, ITEMS, THETA);
    assert_true(fabs(grown.zeta - whole.zeta) < 1e-9);
    assert_true(fabs(grown.eta - whole.eta) < 1e-9);
}

static void test_few_items(void **state)
{
    (void)state;
    struct chance chance = {.state = 7};
    for (uint32_t count = 1; count <= 3; count++) {
        struct zipf zipf;
        zipf_init(&zipf, count, THETA);
        for (int i = 0; i < 1000; i++) {
            assert_true(zipf_next(&zipf, &chance) < count);
        }
    }
}

static void test_scramble_spreads(void **state)
{
    (void)state;
    uint32_t halves[2] = {0};
    for (uint32_t i = 0; i < 100; i++) {
        halves[zipf_scramble(i, ITEMS) / (ITEMS / 2)]++;
    }
    assert_true(halves[0] > 30 && halves[1] > 30);
}

/* Only what is surely there is read: an insert that is on its way keeps those behind it out. */
static void test_inserted_documents(void **state)
{
    (void)state;
    keys_init(&keys, 10, THETA);
    uint32_t first = keys_insert(&keys);
    uint32_t second = keys_insert(&keys);
    assert_int_equal(first, 10);
    assert_int_equal(second, 11);
    keys_inserted(&keys, second);
    for (int i = 0; i < 1000; i++) {
        assert_true(keys_latest(&keys) < 10);
        assert_true(keys_popular(&keys) < 10);
    }
    keys_inserted(&keys, first);
    assert_int_equal(keys.present, 12);
    uint32_t latest = 0;
    for (int i = 0; i < 1000; i++) {
        uint32_t key = keys_latest(&keys);
        assert_true(key < 12);
        latest += key == 11 ? 1 : 0;
    }
    assert_true(latest > 200); /* the most frequent of all */
}

static void test_many_inserts(void **state)
{
    (void)state;
    keys_init(&keys, 1, THETA);
    for (uint32_t i = 0; i < 3 * KEYS_ON_THE_WAY; i++) {
        keys_inserted(&keys, keys_insert(&keys));
    }
    assert_int_equal(keys.present, 3 * KEYS_ON_THE_WAY + 1);
}

static void test_pace(void **state)
{
    (void)state;
    struct pace pace = pace_make(1000, 1e6); /* each microsecond */
    uint64_t meant = 0;
    assert_true(pace_take(&pace, 1000, &meant));
    assert_int_equal(meant, 1000);
    assert_false(pace_take(&pace, 1999, &meant));
    /* Who comes late takes what was meant long ago, one after the other. */
    assert_true(pace_take(&pace, 50000, &meant));
    assert_int_equal(meant, 2000);
    assert_true(pace_take(&pace, 50000, &meant));
    assert_int_equal(meant, 3000);
    pace.end_ns = 4000;
    assert_false(pace_has_next(&pace));
    assert_false(pace_take(&pace, 50000, &meant));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probabilities),
        cmocka_unit_test(test_growing_is_making_anew),
        cmocka_unit_test(test_few_items),
        cmocka_unit_test(test_scramble_spreads),
        cmocka_unit_test(test_inserted_documents),
        cmocka_unit_test(test_many_inserts),
        cmocka_unit_test(test_pace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

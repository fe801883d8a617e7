/*
 * Metrics as text, and the histograms in them. Prometheus' own parser reads the real page in
 * tests/system/test_metrics.py; here are the corners that a page does not have.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/exposition.h"

static char *text;
static size_t text_size;

static struct exposition begin(bool openmetrics)
{
    return (struct exposition){.out = open_memstream(&text, &text_size),
                               .openmetrics = openmetrics};
}

static void assert_page(struct exposition *page, const char *wanted)
{
    exposition_end(page);
    assert_int_equal(fclose(page->out), 0);
    assert_string_equal(text, wanted);
    free(text);
}

static void test_a_counter_is_named_by_its_form(void **state)
{
    (void)state;
    struct exposition classic = begin(false);
    exposition_counter(&classic, "a", "Help.", 7);
    assert_page(&classic, "# HELP a_total Help.\n# TYPE a_total counter\na_total 7\n");
    struct exposition openmetrics = begin(true);
    exposition_counter(&openmetrics, "a", "Help.", 7);
    assert_page(&openmetrics, "# HELP a Help.\n# TYPE a counter\na_total 7\n# EOF\n");
}

static void test_seconds(void **state)
{
    (void)state;
    struct exposition page = begin(false);
    exposition_family(&page, "a_seconds", EXPOSITION_GAUGE, "H.");
    exposition_microseconds(&page, "", 1000001);
    exposition_microseconds(&page, "x=\"y\"", 0);
    assert_page(&page, "# HELP a_seconds H.\n# TYPE a_seconds gauge\na_seconds 1.000001\n"
                       "a_seconds{x=\"y\"} 0.000000\n");
}

static void test_bounds_belong_to_their_buckets(void **state)
{
    (void)state;
    assert_int_equal(histogram_bucket(0), 0);
    for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
        assert_int_equal(histogram_bucket(histogram_bounds_us[i]), i);
        assert_int_equal(histogram_bucket(histogram_bounds_us[i] + 1), i + 1);
        assert_true(i == 0 || histogram_bounds_us[i] > histogram_bounds_us[i - 1]);
    }
    assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BOUNDS);
}

static void test_a_histogram(void **state)
{
    (void)state;
    struct histogram one = {.sum_us = 0};
    struct histogram sum = {.sum_us = 0};
    histogram_observe(&one, 100);
    histogram_observe_alone(&one, 101);
    histogram_observe(&one, 3600u * 1000000u);
    histogram_add(&sum, &one);
    histogram_add(&sum, &one);
    struct exposition page = begin(true);
    exposition_family(&page, "h_seconds", EXPOSITION_HISTOGRAM, "H.");
    exposition_histogram(&page, "r=\"x\"", &sum);
    exposition_end(&page);
    assert_int_equal(fclose(page.out), 0);
    static const char *const lines[] = {
        "\nh_seconds_bucket{r=\"x\",le=\"0.0001\"} 2\n",
        "\nh_seconds_bucket{r=\"x\",le=\"0.00025\"} 4\n",
        "\nh_seconds_bucket{r=\"x\",le=\"1.0\"} 4\n",
        "\nh_seconds_bucket{r=\"x\",le=\"60.0\"} 4\n",
        "\nh_seconds_bucket{r=\"x\",le=\"+Inf\"} 6\n",
        "\nh_seconds_count{r=\"x\"} 6\n",
        "\nh_seconds_sum{r=\"x\"} 7200.000402\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (strstr(text, lines[i]) == NULL) {
            fail_msg("no %s in %s", lines[i], text);
        }
    }
    free(text);
}

static void test_labels_are_escaped_and_whole_or_left_out(void **state)
{
    (void)state;
    char labels[24] = "";
    exposition_label(labels, sizeof labels, "a", "\"\\\n\xff");
    assert_string_equal(labels, "a=\"\\\"\\\\??\"");
    exposition_label(labels, sizeof labels, "b", "much too long for what is left");
    assert_string_equal(labels, "a=\"\\\"\\\\??\"");
    exposition_label(labels, sizeof labels, "b", "1");
    assert_string_equal(labels, "a=\"\\\"\\\\??\",b=\"1\"");
    char tiny[3] = "";
    exposition_label(tiny, sizeof tiny, "name", "");
    assert_string_equal(tiny, "");
}

static void test_who_wants_openmetrics(void **state)
{
    (void)state;
    assert_false(exposition_wants_openmetrics(NULL));
    assert_false(exposition_wants_openmetrics("*/*"));
    assert_true(exposition_wants_openmetrics("application/openmetrics-text;version=1.0.0;q=0.5"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_counter_is_named_by_its_form),
        cmocka_unit_test(test_seconds),
        cmocka_unit_test(test_bounds_belong_to_their_buckets),
        cmocka_unit_test(test_a_histogram),
        cmocka_unit_test(test_labels_are_escaped_and_whole_or_left_out),
        cmocka_unit_test(test_who_wants_openmetrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Pictures: scales, ticks, what is escaped, and that no line can hide another one. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/report/reports.h"
#include "bench/report/svg.h"

static void check_axis(enum svg_scale scale, double least, double most)
{
    struct svg_axis axis = svg_axis_make(scale, least, most, 100, 500);
    assert_true(axis.least <= least && axis.most >= most * (1 - 1e-9));
    assert_true(axis.tick_count >= 2 && axis.tick_count <= SVG_TICKS_MAX);
    for (size_t i = 0; i < axis.tick_count; i++) {
        double at = svg_axis_at(&axis, axis.ticks[i]);
        assert_true(at >= 100 - 1e-6 && at <= 500 + 1e-6);
        assert_true(i == 0 || at > svg_axis_at(&axis, axis.ticks[i - 1]));
    }
    assert_true(fabs(svg_axis_at(&axis, axis.least) - 100) < 1e-6);
    assert_true(fabs(svg_axis_at(&axis, axis.most) - 500) < 1e-6);
}

static void test_axes(void **state)
{
    (void)state;
    static const double mosts[] = {0.003, 1, 7, 99, 100, 12345, 9.99e8};
    for (size_t i = 0; i < sizeof mosts / sizeof mosts[0]; i++) {
        check_axis(SVG_LINEAR, 0, mosts[i]);
        check_axis(SVG_LOG, mosts[i] / 1.05, mosts[i]);
        check_axis(SVG_LOG, mosts[i] / 30, mosts[i]);
        check_axis(SVG_LOG, mosts[i] / 1e6, mosts[i]);
    }
    check_axis(SVG_NINES, 0, 99);
    check_axis(SVG_NINES, 0, 99.99);
}

/* 0, 90, 99 and 99.9 % stand apart alike. */
static void test_nines(void **state)
{
    (void)state;
    struct svg_axis axis = svg_axis_make(SVG_NINES, 0, 99.9, 0, 300);
    assert_true(fabs(svg_axis_at(&axis, 0) - 0) < 0.01);
    assert_true(fabs(svg_axis_at(&axis, 90) - 100) < 0.01);
    assert_true(fabs(svg_axis_at(&axis, 99) - 200) < 0.01);
}

static char *draw(const struct svg_chart *chart)
{
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    assert_non_null(memory);
    svg_lines(memory, chart);
    assert_int_equal(fclose(memory), 0);
    return text;
}

static size_t occurrences(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++) {
        count++;
    }
    return count;
}

/* Two series with the same values: both lines are seen, for the one above is thinner. */
static void test_lines_on_each_other(void **state)
{
    (void)state;
    const struct svg_point points[] = {{0, 10, NAN, NAN}, {50, 20, NAN, NAN}, {99, 40, NAN, NAN}};
    const struct svg_series series[] = {{"first", 0, points, 3}, {"second", 1, points, 3}};
    char *text = draw(&(struct svg_chart){.title = "a <title> & \"more\"",
                                          .x_title = "percentile",
                                          .y_title = "latency, µs",
                                          .x_scale = SVG_NINES,
                                          .y_scale = SVG_LOG,
                                          .series = series,
                                          .series_count = 2});
    const char *first = strstr(text, "class=\"line s0\" stroke-width=\"");
    const char *second = strstr(text, "class=\"line s1\" stroke-width=\"");
    assert_non_null(first);
    assert_non_null(second);
    assert_true(first < second);
    double wide = strtod(first + strlen("class=\"line s0\" stroke-width=\""), NULL);
    double thin = strtod(second + strlen("class=\"line s1\" stroke-width=\""), NULL);
    assert_true(wide >= thin + 0.8);
    assert_non_null(strstr(text, "a &lt;title&gt; &amp; &quot;more&quot;"));
    assert_null(strstr(text, "<title> &"));
    assert_non_null(strstr(text, ">latency, µs</text>"));
    assert_int_equal(occurrences(text, "<svg"), 1);
    assert_non_null(strstr(text, "</svg>"));
    assert_null(strstr(text, "nan"));
    free(text);
}

/* Points at the same category stand beside each other, each with its interval. */
static void test_categories(void **state)
{
    (void)state;
    const struct svg_point points[] = {{0, 10, 8, 12}, {1, 20, 15, 25}};
    const struct svg_series series[] = {{"a", 0, points, 2}, {"b", 1, points, 2}};
    const char *const labels[] = {"1", "32"};
    char *text = draw(&(struct svg_chart){.title = "t",
                                          .x_title = "connections",
                                          .y_title = "throughput, operations/s",
                                          .x_scale = SVG_CATEGORIES,
                                          .y_scale = SVG_LINEAR,
                                          .x_labels = labels,
                                          .x_label_count = 2,
                                          .marks = true,
                                          .series = series,
                                          .series_count = 2});
    assert_int_equal(occurrences(text, "class=\"whisker"), 4);
    const char *first = strstr(text, "class=\"whisker w0\" d=\"M");
    const char *second = strstr(text, "class=\"whisker w1\" d=\"M");
    assert_non_null(first);
    assert_non_null(second);
    double left = strtod(first + strlen("class=\"whisker w0\" d=\"M"), NULL);
    double right = strtod(second + strlen("class=\"whisker w1\" d=\"M"), NULL);
    assert_true(right - left >= 8);
    free(text);
}

static void test_nothing_to_draw(void **state)
{
    (void)state;
    const struct svg_point points[] = {{0, NAN, NAN, NAN}};
    const struct svg_series series[] = {{"a", 0, points, 1}};
    char *text = draw(&(struct svg_chart){.title = "t",
                                          .x_title = "x",
                                          .y_title = "y",
                                          .y_scale = SVG_LOG,
                                          .series = series,
                                          .series_count = 1});
    assert_non_null(strstr(text, "Nothing was measured"));
    free(text);
}

static void test_numbers(void **state)
{
    (void)state;
    char text[REPORT_NUMBER_BYTES];
    static const struct {
        double number;
        int digits;
        const char *text;
    } known[] = {
        {0, 0, "0"},        {999, 0, "999"},          {1000, 0, "1,000"}, {1234567, 0, "1,234,567"},
        {0.845, 2, "0.84"}, {-1234.5, 1, "-1,234.5"}, {NAN, 0, "-"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        report_number(known[i].number, known[i].digits, text);
        assert_string_equal(text, known[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_axes),
        cmocka_unit_test(test_nines),
        cmocka_unit_test(test_lines_on_each_other),
        cmocka_unit_test(test_categories),
        cmocka_unit_test(test_nothing_to_draw),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The tables of the page: all figures of a cell, its ratios, its errors. */
#include <inttypes.h>
#include <math.h>

#include "bench/report/html_parts.h"
#include "bench/report/svg.h"

static bool has_metric(const struct suite *suite, const struct cell *cell, enum metric metric)
{
    for (size_t i = 0; i < cell->series_count; i++) {
        if (reports_estimate(suite, &cell->series[i], metric).count > 0) {
            return true;
        }
    }
    return false;
}

static void print_estimate(FILE *page, const struct estimate *estimate, int digits)
{
    char middle[REPORT_NUMBER_BYTES];
    char low[REPORT_NUMBER_BYTES];
    char high[REPORT_NUMBER_BYTES];
    fputs("<td>", page);
    if (estimate->count > 0) {
        report_number(estimate->middle, digits, middle);
        report_number(estimate->low, digits, low);
        report_number(estimate->high, digits, high);
        fputs(middle, page);
        if (estimate->count > 1) {
            fprintf(page, " <small>%s to %s</small>", low, high);
        }
    }
    fputs("</td>", page);
}

static void print_heading(FILE *page, enum metric metric, bool with_unit)
{
    fputs("<th>", page);
    svg_text(page, metric_about[metric].title);
    if (with_unit) {
        fputs("<br><small>", page);
        svg_text(page, metric_about[metric].unit);
        fputs("</small>", page);
    }
    fputs("</th>", page);
}

static void print_figures(FILE *page, const struct suite *suite, const struct cell *cell)
{
    fputs("<div class=\"wide\"><table><thead><tr><th></th>", page);
    for (int metric = 0; metric < METRIC_COUNT; metric++) {
        if (has_metric(suite, cell, (enum metric)metric)) {
            print_heading(page, (enum metric)metric, true);
        }
    }
    fputs("</tr></thead><tbody>\n", page);
    for (size_t i = 0; i < cell->series_count; i++) {
        fputs("<tr><th>", page);
        svg_text(page, cell->series[i].target);
        fputs("</th>", page);
        for (int metric = 0; metric < METRIC_COUNT; metric++) {
            if (has_metric(suite, cell, (enum metric)metric)) {
                struct estimate estimate =
                    reports_estimate(suite, &cell->series[i], (enum metric)metric);
                print_estimate(page, &estimate, metric_about[metric].digits);
            }
        }
        fputs("</tr>\n", page);
    }
    fputs("</tbody></table></div>\n", page);
}

static void print_ratio(FILE *page, const struct suite *suite, const struct cell *cell,
                        size_t measured, size_t reference)
{
    const struct series *of = &cell->series[measured];
    const struct series *to = &cell->series[reference];
    fputs("<tr><th>", page);
    svg_text(page, of->target);
    fputs(" / ", page);
    svg_text(page, to->target);
    fputs("</th>", page);
    for (int metric = 0; metric < METRIC_COUNT; metric++) {
        if (reports_is_compared((enum metric)metric) &&
            has_metric(suite, cell, (enum metric)metric)) {
            struct estimate ratio = reports_ratio(suite, of, to, (enum metric)metric);
            print_estimate(page, &ratio, 2);
        }
    }
    fputs("</tr>\n", page);
}

/* A ratio needs two that are above 0: nothing lost by nothing lost is none. */
static bool is_known(const struct suite *suite, const struct cell *cell, size_t measured,
                     size_t reference)
{
    bool known = false;
    for (int metric = 0; metric < METRIC_COUNT; metric++) {
        known = known || (reports_is_compared((enum metric)metric) &&
                          reports_ratio(suite, &cell->series[measured], &cell->series[reference],
                                        (enum metric)metric)
                                  .count > 0);
    }
    return known && reports_has_ratio(suite, cell, measured, reference);
}

static bool has_ratios(const struct suite *suite, const struct cell *cell)
{
    for (size_t pair = 0; pair < cell->series_count * cell->series_count; pair++) {
        if (is_known(suite, cell, pair / cell->series_count, pair % cell->series_count)) {
            return true;
        }
    }
    return false;
}

static void print_ratios(FILE *page, const struct suite *suite, const struct cell *cell)
{
    if (!has_ratios(suite, cell)) {
        return;
    }
    fputs("<div class=\"wide\"><table><thead><tr><th>ratios</th>", page);
    for (int metric = 0; metric < METRIC_COUNT; metric++) {
        if (reports_is_compared((enum metric)metric) &&
            has_metric(suite, cell, (enum metric)metric)) {
            print_heading(page, (enum metric)metric, false);
        }
    }
    fputs("</tr></thead><tbody>\n", page);
    for (size_t measured = 0; measured < cell->series_count; measured++) {
        for (size_t reference = 0; reference < cell->series_count; reference++) {
            if (is_known(suite, cell, measured, reference)) {
                print_ratio(page, suite, cell, measured, reference);
            }
        }
    }
    fputs("</tbody></table></div>\n", page);
}

void html_tables_cell(FILE *page, const struct suite *suite, const struct cell *cell)
{
    print_figures(page, suite, cell);
    print_ratios(page, suite, cell);
    for (size_t i = 0; i < cell->series_count; i++) {
        const struct series *series = &cell->series[i];
        if (series->errors > 0) {
            fputs("<p class=\"error\">", page);
            svg_text(page, series->target);
            fprintf(page, ": %" PRIu64 " errors; the first: ", series->errors);
            svg_text(page, series->first_error);
            fputs("</p>\n", page);
        }
    }
}

/*
 * A suite as tables for a terminal. A column is there if any target has something to put into it.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "bench/report/reports.h"

#define COLUMNS_MAX (METRIC_COUNT + 1)
#define TEXT_BYTES 136

/* Figures of a whole table are too many: these are in JSON only. */
static bool is_shown(enum metric metric)
{
    return metric != METRIC_P90 && metric != METRIC_P999 && metric != METRIC_MAX &&
           metric != METRIC_OWN_CPU && metric != METRIC_MEMORY;
}

static void estimate_text(const struct estimate *estimate, int digits, char text[TEXT_BYTES])
{
    char middle[REPORT_NUMBER_BYTES];
    char low[REPORT_NUMBER_BYTES];
    char high[REPORT_NUMBER_BYTES];
    if (estimate->count == 0) {
        text[0] = '\0';
        return;
    }
    report_number(estimate->middle, digits, middle);
    report_number(estimate->low, digits, low);
    report_number(estimate->high, digits, high);
    if (estimate->count == 1) {
        snprintf(text, TEXT_BYTES, "%s", middle);
    } else {
        snprintf(text, TEXT_BYTES, "%s (%s to %s)", middle, low, high);
    }
}

/* Bytes that continue a UTF-8 character take no room on a screen. */
static int width(const char *text)
{
    int count = 0;
    for (; *text != '\0'; text++) {
        count += ((unsigned char)*text & 0xc0) != 0x80 ? 1 : 0;
    }
    return count;
}

static void print_cell(FILE *file, const char *text, int wide)
{
    fprintf(file, "%s%*s", text, wide - width(text) + 2, "");
}

struct rows {
    size_t rows;
    size_t columns;
    char texts[BENCH_TARGETS_MAX * BENCH_TARGETS_MAX][COLUMNS_MAX][TEXT_BYTES];
    char titles[COLUMNS_MAX][TEXT_BYTES];
};

static void print_rows(const struct rows *rows, FILE *file)
{
    int wide[COLUMNS_MAX] = {0};
    for (size_t column = 0; column < rows->columns; column++) {
        int most = 0;
        for (size_t row = 0; row < rows->rows; row++) {
            int size = width(rows->texts[row][column]);
            most = size > most ? size : most;
        }
        int title = width(rows->titles[column]);
        wide[column] = most == 0 ? 0 : most > title ? most : title;
    }
    for (size_t line = 0; line <= rows->rows; line++) {
        fputs("  ", file);
        for (size_t column = 0; column < rows->columns; column++) {
            if (wide[column] > 0) {
                print_cell(file, line == 0 ? rows->titles[column] : rows->texts[line - 1][column],
                           wide[column]);
            }
        }
        fputs("\n", file);
    }
}

static void add_column(struct rows *rows, enum metric metric, bool with_unit)
{
    const struct metric_about *about = &metric_about[metric];
    snprintf(rows->titles[rows->columns++], TEXT_BYTES, "%s%s%s", about->title,
             with_unit ? ", " : "", with_unit ? about->unit : "");
}

static void print_figures(const struct suite *suite, const struct cell *cell, struct rows *rows,
                          FILE *file)
{
    memset(rows, 0, sizeof *rows);
    rows->rows = cell->series_count;
    rows->columns = 1;
    for (size_t i = 0; i < cell->series_count; i++) {
        snprintf(rows->texts[i][0], TEXT_BYTES, "%s", cell->series[i].target);
    }
    for (int metric = 0; metric < METRIC_COUNT; metric++) {
        if (is_shown((enum metric)metric)) {
            for (size_t i = 0; i < cell->series_count; i++) {
                struct estimate estimate =
                    reports_estimate(suite, &cell->series[i], (enum metric)metric);
                estimate_text(&estimate, metric_about[metric].digits,
                              rows->texts[i][rows->columns]);
            }
            add_column(rows, (enum metric)metric, true);
        }
    }
    print_rows(rows, file);
}

static void add_ratio(const struct suite *suite, const struct series *measured,
                      const struct series *reference, struct rows *rows)
{
    size_t column = 1;
    bool found = false;
    snprintf(rows->texts[rows->rows][0], TEXT_BYTES, "%.40s / %.40s", measured->target,
             reference->target);
    for (int metric = 0; metric < METRIC_COUNT; metric++) {
        if (reports_is_compared((enum metric)metric)) {
            struct estimate ratio = reports_ratio(suite, measured, reference, (enum metric)metric);
            estimate_text(&ratio, 2, rows->texts[rows->rows][column++]);
            found = found || ratio.count > 0;
        }
    }
    rows->rows += found ? 1 : 0;
}

static void print_ratios(const struct suite *suite, const struct cell *cell, struct rows *rows,
                         FILE *file)
{
    memset(rows, 0, sizeof *rows);
    rows->columns = 1;
    for (int metric = 0; metric < METRIC_COUNT; metric++) {
        if (reports_is_compared((enum metric)metric)) {
            add_column(rows, (enum metric)metric, false);
        }
    }
    for (size_t measured = 0; measured < cell->series_count; measured++) {
        for (size_t reference = 0; reference < cell->series_count; reference++) {
            if (reports_has_ratio(suite, cell, measured, reference)) {
                add_ratio(suite, &cell->series[measured], &cell->series[reference], rows);
            }
        }
    }
    if (rows->rows > 0) {
        fputs("\n", file);
        print_rows(rows, file);
    }
}

static void print_errors(const struct cell *cell, FILE *file)
{
    for (size_t i = 0; i < cell->series_count; i++) {
        const struct series *series = &cell->series[i];
        if (series->errors > 0) {
            fprintf(file, "  %s: %" PRIu64 " errors; the first: %s\n", series->target,
                    series->errors, series->first_error);
        }
    }
}

void report_table(const struct suite *suite, FILE *file)
{
    static struct rows rows; /* too large for a stack */
    for (size_t i = 0; i < suite->cell_count; i++) {
        fprintf(file, "%s%s\n", i == 0 ? "" : "\n", suite->cells[i].title);
        print_figures(suite, &suite->cells[i], &rows, file);
        print_ratios(suite, &suite->cells[i], &rows, file);
        print_errors(&suite->cells[i], file);
    }
    if (suite->rounds > 1) {
        fprintf(file,
                "\nMedians of %u rounds; in brackets the interval in which the true one is, with a "
                "confidence of %s\n",
                suite->rounds,
                suite->rounds >= 6 ? "95 % at least." : "less than 95 %: that needs 6 rounds.");
    }
}

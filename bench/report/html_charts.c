/*
 * Which pictures a group of cells has. Its variable (connections, rate, writes, units) is the one
 * of which its cells have different values; without one a picture has a dot for each target.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report/html_parts.h"
#include "bench/report/svg.h"

#define POINTS_MAX 64u
#define CURVE_POINTS 65u /* of latencies: 16 for each nine */
#define ROWS_MAX (BENCH_TARGETS_MAX * BENCH_TARGETS_MAX)

/* ------------------------------------------------------------------ into page and file */

/* `text` is a whole picture. */
static void put_picture(struct html_pictures *pictures, const char *text, size_t size)
{
    char path[512];
    char name[64];
    if (size == 0 || pictures->status != STATUS_OK) {
        return;
    }
    fputs("<figure>", pictures->page);
    fwrite(text, 1, size, pictures->page);
    fputs("</figure>\n", pictures->page);
    snprintf(name, sizeof name, "picture-%zu-%zu.svg", pictures->group, ++pictures->picture);
    int length = snprintf(path, sizeof path, "%s/%s", pictures->folder, name);
    FILE *file = length > 0 && (size_t)length < sizeof path ? fopen(path, "we") : NULL;
    const char *head = strchr(text, '>'); /* behind it the style, for it stands alone */
    if (file != NULL && head != NULL) {
        fwrite(text, 1, (size_t)(head + 1 - text), file);
        fprintf(file, "<style>%s</style>", svg_style);
        fputs(head + 1, file);
    }
    if (file == NULL || head == NULL || ferror(file) != 0) {
        pictures->status =
            error_set(pictures->error, STATUS_IO, "cannot write %.300s: %s", path, strerror(errno));
    }
    if (file != NULL && fclose(file) != 0 && pictures->status == STATUS_OK) {
        pictures->status =
            error_set(pictures->error, STATUS_IO, "cannot write %.300s: %s", path, strerror(errno));
    }
}

/* A series of which nothing was measured is not in the legend either. */
static bool has_points(const struct svg_series *series)
{
    for (size_t i = 0; i < series->count; i++) {
        if (isfinite(series->points[i].y)) {
            return true;
        }
    }
    return false;
}

static void put_lines(struct html_pictures *pictures, const struct svg_chart *all)
{
    struct svg_series drawn[BENCH_TARGETS_MAX];
    struct svg_chart copy = *all;
    const struct svg_chart *chart = &copy;
    copy.series = drawn;
    copy.series_count = 0;
    for (size_t i = 0; i < all->series_count; i++) {
        if (has_points(&all->series[i])) {
            drawn[copy.series_count++] = all->series[i];
        }
    }
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    if (memory != NULL) {
        svg_lines(memory, chart);
        fclose(memory);
        put_picture(pictures, text, size);
    }
    free(text);
}

static void put_dots(struct html_pictures *pictures, const struct svg_dots *dots)
{
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    if (memory != NULL) {
        svg_dots(memory, dots);
        fclose(memory);
        put_picture(pictures, text, size);
    }
    free(text);
}

/* "throughput, operations/s" */
static void axis_title(enum metric metric, char *text, size_t size)
{
    snprintf(text, size, "%s, %s", metric_about[metric].title, metric_about[metric].unit);
}

/* ------------------------------------------------------------------ the variable of a group */

static double connections_of(const struct cell *cell)
{
    return cell->load.connections;
}

/* What is synced one by one or at once: the floor has nobody to connect to. */
static double records_of(const struct cell *cell)
{
    return cell->load.kind == LOAD_FLOOR ? cell->load.connections : 0;
}

static double rate_of(const struct cell *cell)
{
    return cell->load.rate;
}

static double writes_of(const struct cell *cell)
{
    return cell->load.writes;
}

static double units_of(const struct cell *cell)
{
    return cell->units;
}

struct variable {
    const char *title;
    double (*of)(const struct cell *cell);
};

static const struct variable *variable_of(const struct html_group *group)
{
    static const struct variable variables[] = {
        {"rate, operations/s", rate_of},    {"records of a group", records_of},
        {"connections", connections_of},    {"writes of a unit", writes_of},
        {"units in the journal", units_of},
    };
    const struct cell *cells = group->suite->cells;
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        for (size_t cell = group->first + 1; cell < group->end; cell++) {
            if (variables[i].of(&cells[cell]) != variables[i].of(&cells[group->first])) {
                return &variables[i];
            }
        }
    }
    return NULL;
}

static bool has_metric(const struct html_group *group, enum metric metric)
{
    for (size_t i = group->first; i < group->end; i++) {
        const struct cell *cell = &group->suite->cells[i];
        for (size_t number = 0; number < cell->series_count; number++) {
            if (reports_estimate(group->suite, &cell->series[number], metric).count > 0) {
                return true;
            }
        }
    }
    return false;
}

/* ------------------------------------------------------------------ one metric */

static void metric_lines(struct html_pictures *pictures, const struct html_group *group,
                         const struct variable *variable, enum metric metric, bool logarithmic)
{
    const struct cell *cells = &group->suite->cells[group->first];
    size_t count = group->end - group->first < POINTS_MAX ? group->end - group->first : POINTS_MAX;
    static struct svg_point points[BENCH_TARGETS_MAX][POINTS_MAX];
    struct svg_series series[BENCH_TARGETS_MAX] = {{0}};
    char labels[POINTS_MAX][REPORT_NUMBER_BYTES];
    const char *label_list[POINTS_MAX];
    char title[200];
    char y_title[80];
    for (size_t i = 0; i < count; i++) {
        report_number(variable->of(&cells[i]), 0, labels[i]);
        label_list[i] = labels[i];
    }
    for (size_t number = 0; number < cells->series_count; number++) {
        for (size_t i = 0; i < count; i++) {
            struct estimate estimate =
                reports_estimate(group->suite, &cells[i].series[number], metric);
            points[number][i] =
                (struct svg_point){(double)i, estimate.middle, estimate.low, estimate.high};
        }
        series[number] =
            (struct svg_series){cells->series[number].target, (int)number, points[number], count};
    }
    axis_title(metric, y_title, sizeof y_title);
    snprintf(title, sizeof title, "%s: %s", cells->group, metric_about[metric].title);
    put_lines(pictures, &(struct svg_chart){.title = title,
                                            .x_title = variable->title,
                                            .y_title = y_title,
                                            .x_scale = SVG_CATEGORIES,
                                            .y_scale = logarithmic ? SVG_LOG : SVG_LINEAR,
                                            .x_labels = label_list,
                                            .x_label_count = count,
                                            .marks = true,
                                            .series = series,
                                            .series_count = cells->series_count});
}

static void metric_dots(struct html_pictures *pictures, const struct suite *suite,
                        const struct cell *cell, enum metric metric)
{
    struct svg_row rows[BENCH_TARGETS_MAX];
    char title[260];
    char x_title[80];
    for (size_t i = 0; i < cell->series_count; i++) {
        struct estimate estimate = reports_estimate(suite, &cell->series[i], metric);
        rows[i] = (struct svg_row){cell->series[i].target, (int)i, estimate.middle, estimate.low,
                                   estimate.high};
    }
    axis_title(metric, x_title, sizeof x_title);
    snprintf(title, sizeof title, "%s: %s", cell->title, metric_about[metric].title);
    put_dots(pictures, &(struct svg_dots){title, x_title, SVG_LINEAR, NAN,
                                          metric_about[metric].digits, rows, cell->series_count});
}

void html_charts_group(struct html_pictures *pictures, const struct html_group *group)
{
    static const struct {
        enum metric metric;
        bool logarithmic;
    } shown[] = {
        {METRIC_THROUGHPUT, false},
        {METRIC_VOLUME, false},
        {METRIC_P50, true},
        {METRIC_P99, true},
        {METRIC_CPU, false},
        {METRIC_IDLE_MEMORY, false},
        {METRIC_JOURNAL_BYTES, false},
        {METRIC_JOURNAL_COMMITS, false},
        {METRIC_RECOVERY, false},
        {METRIC_LOST, false},
        {METRIC_TORN, false},
    };
    const struct variable *variable = variable_of(group);
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        if (!has_metric(group, shown[i].metric)) {
            continue;
        }
        if (variable != NULL) {
            metric_lines(pictures, group, variable, shown[i].metric, shown[i].logarithmic);
        } else if (shown[i].metric != METRIC_P50) { /* the curve of latencies has it */
            metric_dots(pictures, group->suite, &group->suite->cells[group->first],
                        shown[i].metric);
        }
    }
}

/* ------------------------------------------------------------------ one cell */

/* The last point is what a hundredth of a percent of the measurements, or ten of them, are above.
 */
static double last_percent(const struct cell *cell)
{
    uint64_t most = 0;
    for (size_t i = 0; i < cell->series_count; i++) {
        uint64_t count = cell->series[i].latency->count;
        most = count > most ? count : most;
    }
    return most < 1000 ? 99 : fmin(99.99, 100 * (1 - 10.0 / (double)most));
}

static void latency_lines(struct html_pictures *pictures, const struct cell *cell)
{
    static struct svg_point points[BENCH_TARGETS_MAX][CURVE_POINTS];
    struct svg_series series[BENCH_TARGETS_MAX] = {{0}};
    char title[260];
    double nines = -log10(1 - last_percent(cell) / 100);
    for (size_t number = 0; number < cell->series_count; number++) {
        const struct histogram *latency = cell->series[number].latency;
        for (size_t i = 0; i < CURVE_POINTS; i++) {
            double percent = 100 * (1 - pow(10, -nines * (double)i / (CURVE_POINTS - 1)));
            double micros =
                latency->count == 0 ? NAN : (double)histogram_percentile(latency, percent) / 1e3;
            points[number][i] = (struct svg_point){percent, micros, NAN, NAN};
        }
        series[number] = (struct svg_series){cell->series[number].target, (int)number,
                                             points[number], CURVE_POINTS};
    }
    snprintf(title, sizeof title, "%s: latency", cell->title);
    put_lines(pictures, &(struct svg_chart){.title = title,
                                            .x_title = "percentile of the operations, %",
                                            .y_title = "latency, µs",
                                            .x_scale = SVG_NINES,
                                            .y_scale = SVG_LOG,
                                            .series = series,
                                            .series_count = cell->series_count});
}

static void ratio_dots(struct html_pictures *pictures, const struct suite *suite,
                       const struct cell *cell, enum metric metric)
{
    static struct svg_row rows[ROWS_MAX];
    static char names[ROWS_MAX][2 * TARGET_NAME_BYTES + 4];
    size_t count = 0;
    char title[260];
    char x_title[120];
    bool found = false;
    for (size_t measured = 0; measured < cell->series_count; measured++) {
        for (size_t reference = 0; reference < cell->series_count; reference++) {
            if (!reports_has_ratio(suite, cell, measured, reference)) {
                continue;
            }
            const struct series *of = &cell->series[measured];
            const struct series *to = &cell->series[reference];
            struct estimate ratio = reports_ratio(suite, of, to, metric);
            snprintf(names[count], sizeof names[count], "%s / %s", of->target, to->target);
            rows[count] =
                (struct svg_row){names[count], (int)measured, ratio.middle, ratio.low, ratio.high};
            found = found || ratio.count > 0;
            count++;
        }
    }
    if (!found) {
        return;
    }
    const char *better = metric_about[metric].better > 0 ? "more is better" : "less is better";
    snprintf(title, sizeof title, "%s: %s as ratios", cell->title, metric_about[metric].title);
    snprintf(x_title, sizeof x_title, "ratio of %s; %s", metric_about[metric].title, better);
    put_dots(pictures, &(struct svg_dots){title, x_title, SVG_LOG, 1, 2, rows, count});
}

void html_charts_cell(struct html_pictures *pictures, const struct suite *suite,
                      const struct cell *cell)
{
    if (cell->series[0].latency->count > 0) {
        latency_lines(pictures, cell);
    }
    ratio_dots(pictures, suite, cell, METRIC_THROUGHPUT);
    ratio_dots(pictures, suite, cell, METRIC_CPU);
}

/* A suite as JSON: reports.h says its form. */
#include <inttypes.h>
#include <math.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/report/reports.h"

/* Where the curve of latencies has its points: 1 - 10^(-i / CURVE_PARTS) of all. */
#define CURVE_PARTS 8
#define CURVE_POINTS (5 * CURVE_PARTS + 1)

static const char *key_of(size_t number, char key[24])
{
    snprintf(key, 24, "%zu", number);
    return key;
}

static void append_number(bson_t *document, const char *key, double number)
{
    if (isfinite(number)) {
        BSON_APPEND_DOUBLE(document, key, number);
    }
}

static void append_estimate(bson_t *document, const char *key, const struct estimate *estimate)
{
    bson_t each;
    if (estimate->count == 0) {
        return;
    }
    BSON_APPEND_DOCUMENT_BEGIN(document, key, &each);
    BSON_APPEND_DOUBLE(&each, "middle", estimate->middle);
    BSON_APPEND_DOUBLE(&each, "low", estimate->low);
    BSON_APPEND_DOUBLE(&each, "high", estimate->high);
    BSON_APPEND_DOUBLE(&each, "confidence", estimate->confidence);
    BSON_APPEND_INT64(&each, "count", (int64_t)estimate->count);
    bson_append_document_end(document, &each);
}

static void append_load_average(bson_t *document, const char *key, const double averages[3])
{
    bson_t array;
    char index[24];
    BSON_APPEND_ARRAY_BEGIN(document, key, &array);
    for (size_t i = 0; i < 3; i++) {
        append_number(&array, key_of(i, index), averages[i]);
    }
    bson_append_array_end(document, &array);
}

static void append_about(bson_t *document, const struct suite *suite)
{
    const struct bench_options *options = suite->options;
    struct utsname system = {0};
    bson_t about;
    bson_t host;
    (void)uname(&system);
    BSON_APPEND_DOCUMENT_BEGIN(document, "about", &about);
    BSON_APPEND_UTF8(&about, "date", suite->date);
    BSON_APPEND_DOCUMENT_BEGIN(&about, "host", &host);
    BSON_APPEND_UTF8(&host, "kernel", system.release);
    BSON_APPEND_INT64(&host, "processors", sysconf(_SC_NPROCESSORS_ONLN));
    bson_append_document_end(&about, &host);
    BSON_APPEND_INT32(&about, "rounds", (int32_t)suite->rounds);
    BSON_APPEND_DOUBLE(&about, "seconds", (double)options->load.seconds_ns / 1e9);
    BSON_APPEND_DOUBLE(&about, "warmup", (double)options->load.warmup_ns / 1e9);
    BSON_APPEND_INT32(&about, "threads", (int32_t)options->threads);
    append_load_average(&about, "loadBefore", suite->load_before);
    append_load_average(&about, "loadAfter", suite->load_after);
    bson_append_document_end(document, &about);
}

static void append_runs(bson_t *document, const struct suite *suite, const struct series *series)
{
    bson_t runs;
    bson_t run;
    char index[24];
    BSON_APPEND_ARRAY_BEGIN(document, "runs", &runs);
    for (uint32_t round = 0; round < suite->rounds; round++) {
        BSON_APPEND_DOCUMENT_BEGIN(&runs, key_of(round, index), &run);
        for (int metric = 0; metric < METRIC_COUNT; metric++) {
            append_number(&run, metric_about[metric].key, series->outcomes[round].values[metric]);
        }
        bson_append_document_end(&runs, &run);
    }
    bson_append_array_end(document, &runs);
}

static void append_latency(bson_t *document, const struct histogram *latency)
{
    bson_t curve;
    bson_t point;
    char index[24];
    if (latency->count == 0) {
        return;
    }
    BSON_APPEND_ARRAY_BEGIN(document, "latency", &curve);
    for (size_t i = 0; i <= CURVE_POINTS; i++) {
        double percent = i == CURVE_POINTS ? 100 : 100 * (1 - pow(10, -(double)i / CURVE_PARTS));
        BSON_APPEND_ARRAY_BEGIN(&curve, key_of(i, index), &point);
        BSON_APPEND_DOUBLE(&point, "0", percent);
        BSON_APPEND_DOUBLE(&point, "1", (double)histogram_percentile(latency, percent) / 1e3);
        bson_append_array_end(&curve, &point);
    }
    bson_append_array_end(document, &curve);
}

static void append_series(bson_t *document, const struct suite *suite, const struct series *series)
{
    bson_t figures;
    BSON_APPEND_UTF8(document, "name", series->target);
    BSON_APPEND_INT64(document, "errors", (int64_t)series->errors);
    if (series->errors > 0) {
        BSON_APPEND_UTF8(document, "firstError", series->first_error);
    }
    append_runs(document, suite, series);
    BSON_APPEND_DOCUMENT_BEGIN(document, "figures", &figures);
    for (int metric = 0; metric < METRIC_COUNT; metric++) {
        struct estimate estimate = reports_estimate(suite, series, (enum metric)metric);
        append_estimate(&figures, metric_about[metric].key, &estimate);
    }
    bson_append_document_end(document, &figures);
    append_latency(document, series->latency);
}

static void append_ratio(bson_t *document, const struct suite *suite, const struct series *measured,
                         const struct series *reference)
{
    bson_t figures;
    BSON_APPEND_UTF8(document, "measured", measured->target);
    BSON_APPEND_UTF8(document, "reference", reference->target);
    BSON_APPEND_DOCUMENT_BEGIN(document, "figures", &figures);
    for (int metric = 0; metric < METRIC_COUNT; metric++) {
        if (reports_is_compared((enum metric)metric)) {
            struct estimate estimate =
                reports_ratio(suite, measured, reference, (enum metric)metric);
            append_estimate(&figures, metric_about[metric].key, &estimate);
        }
    }
    bson_append_document_end(document, &figures);
}

static void append_ratios(bson_t *document, const struct suite *suite, const struct cell *cell)
{
    bson_t ratios;
    bson_t ratio;
    char index[24];
    size_t number = 0;
    BSON_APPEND_ARRAY_BEGIN(document, "ratios", &ratios);
    for (size_t measured = 0; measured < cell->series_count; measured++) {
        for (size_t reference = 0; reference < cell->series_count; reference++) {
            if (reports_has_ratio(suite, cell, measured, reference)) {
                BSON_APPEND_DOCUMENT_BEGIN(&ratios, key_of(number, index), &ratio);
                number++;
                append_ratio(&ratio, suite, &cell->series[measured], &cell->series[reference]);
                bson_append_document_end(&ratios, &ratio);
            }
        }
    }
    bson_append_array_end(document, &ratios);
}

static void append_cell(bson_t *document, const struct suite *suite, const struct cell *cell)
{
    bson_t targets;
    bson_t target;
    char index[24];
    const struct load_options *load = &cell->load;
    BSON_APPEND_UTF8(document, "title", cell->title);
    BSON_APPEND_UTF8(document, "group", cell->group);
    BSON_APPEND_UTF8(document, "load", load_name(load->kind));
    if (load->kind == LOAD_UNIT || load->kind == LOAD_CRASH_LOSS) {
        BSON_APPEND_UTF8(document, "boundary", load_boundary_name(load->boundary));
        BSON_APPEND_INT32(document, "writes", (int32_t)load->writes);
    }
    if (load->kind == LOAD_RECOVERY) {
        BSON_APPEND_INT64(document, "units", cell->units);
    }
    BSON_APPEND_INT64(document, "connections", load->connections);
    if (load->rate > 0) {
        BSON_APPEND_DOUBLE(document, "rate", load->rate);
    }
    BSON_APPEND_ARRAY_BEGIN(document, "targets", &targets);
    for (size_t i = 0; i < cell->series_count; i++) {
        BSON_APPEND_DOCUMENT_BEGIN(&targets, key_of(i, index), &target);
        append_series(&target, suite, &cell->series[i]);
        bson_append_document_end(&targets, &target);
    }
    bson_append_array_end(document, &targets);
    append_ratios(document, suite, cell);
}

void report_json(const struct suite *suite, bson_t *document)
{
    bson_t cells;
    bson_t cell;
    char index[24];
    BSON_APPEND_UTF8(document, "holdfastBench", HOLDFAST_VERSION);
    BSON_APPEND_INT32(document, "format", 1);
    append_about(document, suite);
    BSON_APPEND_ARRAY_BEGIN(document, "cells", &cells);
    for (size_t i = 0; i < suite->cell_count; i++) {
        BSON_APPEND_DOCUMENT_BEGIN(&cells, key_of(i, index), &cell);
        append_cell(&cell, suite, &suite->cells[i]);
        bson_append_document_end(&cells, &cell);
    }
    bson_append_array_end(document, &cells);
}

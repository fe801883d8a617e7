/* See suite.h. */
#include "bench/suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/progress.h"

void series_values(const struct suite *suite, const struct series *series, enum metric metric,
                   double *values)
{
    for (uint32_t round = 0; round < suite->rounds; round++) {
        values[round] = series->outcomes[round].values[metric];
    }
}

uint64_t suite_errors(const struct suite *suite)
{
    uint64_t errors = 0;
    for (size_t cell = 0; cell < suite->cell_count; cell++) {
        for (size_t i = 0; i < suite->cells[cell].series_count; i++) {
            errors += suite->cells[cell].series[i].errors;
        }
    }
    return errors;
}

static struct target *target_of(struct suite *suite, const struct cell *cell, size_t series)
{
    return cell->load.kind == LOAD_FLOOR ? NULL : &suite->targets->targets[series];
}

static enum status run_round(struct suite *suite, struct cell *cell, uint32_t round,
                             struct progress *progress, struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < cell->series_count && status == STATUS_OK && !run_interrupted; i++) {
        size_t number = (i + round) % cell->series_count;
        struct series *series = &cell->series[number];
        progress_begin(progress, cell->title, series->target, round);
        status = measure(suite, cell, number, target_of(suite, cell, number),
                         &series->outcomes[round], ret_error);
        if (status != STATUS_OK) {
            error_prefix(ret_error, "%s, %s", cell->title, series->target);
        }
        progress_done(progress);
    }
    return status;
}

static enum status prepare(struct suite *suite, const struct cell *cell, struct progress *progress,
                           struct error *ret_error)
{
    bool is_http = cell->load.kind == LOAD_UNIT && cell->load.boundary == LOAD_BOUNDARY_HTTP;
    enum status status = targets_set_http(suite->targets, is_http, ret_error);
    for (size_t i = 0; i < cell->series_count && status == STATUS_OK && !run_interrupted; i++) {
        struct target *target = target_of(suite, cell, i);
        progress_begin(progress, cell->title, cell->series[i].target, 0);
        status = measure_prepare(suite, cell, target, ret_error);
        if (status != STATUS_OK) {
            error_prefix(ret_error, "%s, %s", cell->title, cell->series[i].target);
        }
    }
    return status;
}

static void note_load_average(double averages[3])
{
    if (getloadavg(averages, 3) != 3) {
        averages[0] = averages[1] = averages[2] = NAN;
    }
}

static size_t run_count(const struct suite *suite)
{
    size_t runs = 0;
    for (size_t i = 0; i < suite->cell_count; i++) {
        runs += suite->cells[i].series_count * suite->options->rounds;
    }
    return runs;
}

enum status suite_run(const struct bench_options *options, struct targets *targets,
                      struct suite *ret_suite, struct error *ret_error)
{
    struct suite *suite = ret_suite;
    struct progress progress;
    time_t now = time(NULL);
    struct tm utc;
    *suite = (struct suite){.options = options, .targets = targets};
    (void)gmtime_r(&now, &utc);
    (void)strftime(suite->date, sizeof suite->date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    note_load_average(suite->load_before);
    suite->scratch = calloc(1, sizeof *suite->scratch);
    enum status status = suite->scratch == NULL
                             ? error_set(ret_error, STATUS_MEMORY, "out of memory")
                             : cells_make(options, targets, suite, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    suite->rounds = options->rounds;
    progress_init(&progress, options->quiet, run_count(suite));
    suite->watcher = progress_watcher(&progress);
    for (size_t i = 0; i < suite->cell_count && status == STATUS_OK; i++) {
        status = prepare(suite, &suite->cells[i], &progress, ret_error);
        for (uint32_t round = 0; round < options->rounds && status == STATUS_OK; round++) {
            status = run_round(suite, &suite->cells[i], round, &progress, ret_error);
        }
    }
    progress_end(&progress);
    note_load_average(suite->load_after);
    return status;
}

void suite_free(struct suite *suite)
{
    for (size_t cell = 0; cell < suite->cell_count; cell++) {
        for (size_t i = 0; i < suite->cells[cell].series_count; i++) {
            free(suite->cells[cell].series[i].outcomes);
            free(suite->cells[cell].series[i].latency);
        }
        free(suite->cells[cell].series);
    }
    free(suite->cells);
    free(suite->scratch);
    *suite = (struct suite){0};
}

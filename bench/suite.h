#ifndef HOLDFAST_BENCH_SUITE_H
#define HOLDFAST_BENCH_SUITE_H

/*
 * Everything that was asked for, measured with every target in turns:
 *
 *     cell      a load with one of each of its variables (connections, rate, writes, boundary)
 *     series    a cell with one target: an outcome for each round
 *
 *     for each cell: a short run with each target, not counted: makes documents, fills caches
 *                    for each round: for each target, in each round beginning with another one
 *
 * Main thread.
 */

#include <stdio.h>

#include "bench/load/histogram.h"
#include "bench/load/run.h"
#include "bench/options.h"
#include "bench/peer/target.h"
#include "bench/report/metric.h"

struct outcome {
    double values[METRIC_COUNT]; /* NaN: not known, or not of this load */
};

struct series {
    char target[TARGET_NAME_BYTES];
    struct outcome *outcomes; /* by round; what was left out is NaN */
    uint64_t errors;
    char first_error[512];
    struct histogram *latency; /* of all rounds */
};

struct cell {
    struct load_options load;
    uint32_t units; /* recovery */
    char title[160];
    char group[160]; /* cells that differ in connections only are of one group */
    struct series *series;
    size_t series_count;
};

struct suite {
    const struct bench_options *options;
    struct targets *targets;
    struct cell *cells;
    size_t cell_count;
    uint32_t rounds; /* that were begun */
    char date[32];
    double load_before[3]; /* load averages */
    double load_after[3];
    struct run_result *scratch;
    const struct run_watcher *watcher; /* NULL: nobody looks on */
};

/*
 * Makes the cells, and measures them. Errors: STATUS_INVALID (options that do not fit each other),
 * what keeps a load from beginning. *ret_suite is to be freed either way. With run_interrupted
 * it ends early with STATUS_OK.
 */
MUST_CHECK enum status suite_run(const struct bench_options *options, struct targets *targets,
                                 struct suite *ret_suite, struct error *ret_error);
void suite_free(struct suite *suite);

/* All errors of all runs. */
uint64_t suite_errors(const struct suite *suite);

/* Values of one metric of a series, one a round: `rounds` of them into `values`. */
void series_values(const struct suite *suite, const struct series *series, enum metric metric,
                   double *values);

/* ------------------------------------------------------------------ parts */

/* cells.c: checks the options of every load, and makes the cells with room for the outcomes. */
MUST_CHECK enum status cells_make(const struct bench_options *options,
                                  const struct targets *targets, struct suite *suite,
                                  struct error *ret_error);
/* The options of the only cell of a single run, with its target. */
MUST_CHECK enum status cells_single(const struct bench_options *options, struct load_options *ret,
                                    struct error *ret_error);

/* measure.c: the short run before the first round. */
MUST_CHECK enum status measure_prepare(struct suite *suite, const struct cell *cell,
                                       struct target *target, struct error *ret_error);
/* One run of a cell with a target (NULL: floor, its series says how). */
MUST_CHECK enum status measure(struct suite *suite, struct cell *cell, size_t series,
                               struct target *target, struct outcome *ret_outcome,
                               struct error *ret_error);

#endif

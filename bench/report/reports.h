#ifndef HOLDFAST_BENCH_REPORTS_H
#define HOLDFAST_BENCH_REPORTS_H

/*
 * What a suite has found, in every form. Main thread.
 *
 * The JSON, `format` 1; figures that a load does not have are left out:
 *
 *   { holdfastBench: VERSION, format: 1,
 *     about: { date, host: { kernel, processors }, rounds, seconds, warmup, loadBefore, loadAfter
 * }, cells: [ { title, group, load, boundary, writes, connections, rate, units, targets: [ { name,
 * errors, firstError, runs: [ { METRIC: number } ], figures: { METRIC: ESTIMATE }, latency: [ [
 * percent, micros ] ] } ], ratios: [ { measured, reference, figures: { METRIC: ESTIMATE } } ] } ] }
 *
 * ESTIMATE is { middle, low, high, confidence, count } (statistics.h), METRIC a key of metric.h.
 */

#include <bson/bson.h>

#include "bench/report/statistics.h"
#include "bench/suite.h"

/*
 * Before anything is measured: makes the folder of --output, and reads --compare. Errors:
 * STATUS_IO, STATUS_NOT_FOUND, STATUS_INVALID (of the earlier report).
 */
MUST_CHECK enum status reports_check(const struct bench_options *options, struct error *ret_error);

/*
 * Prints the table, or the JSON; writes --output; compares with --compare. *ret_worse: by more than
 * the tolerance. Errors: STATUS_IO, STATUS_NOT_FOUND, STATUS_INVALID (of the earlier report).
 */
MUST_CHECK enum status reports_make(const struct suite *suite, bool *ret_worse,
                                    struct error *ret_error);

/* ------------------------------------------------------------------ parts */

/* Of one metric of a series. */
struct estimate reports_estimate(const struct suite *suite, const struct series *series,
                                 enum metric metric);
struct estimate reports_ratio(const struct suite *suite, const struct series *measured,
                              const struct series *reference, enum metric metric);

/*
 * Whether the ratios of `measured` to `reference` (numbers of series) are told: those of the first
 * target to all, and of all to the relay and to direct.
 */
bool reports_has_ratio(const struct suite *suite, const struct cell *cell, size_t measured,
                       size_t reference);

/* Which metrics are told as ratios. */
bool reports_is_compared(enum metric metric);

/* json.c; `*document` is initialised by the caller. */
void report_json(const struct suite *suite, bson_t *document);
/* table.c */
void report_table(const struct suite *suite, FILE *file);
/* csv.c: a line for each run and metric. */
void report_csv(const struct suite *suite, FILE *file);
/* html.c: the pictures are written into `folder` as well. */
MUST_CHECK enum status report_html(const struct suite *suite, const char *folder, FILE *file,
                                   struct error *ret_error);
/* compare.c: an earlier report, to be destroyed by bson_destroy(). */
MUST_CHECK enum status report_read(const char *path, bson_t **ret_document,
                                   struct error *ret_error);
/* What has changed since the report in `path`. */
MUST_CHECK enum status report_compare(const struct suite *suite, const char *path, FILE *file,
                                      bool *ret_worse, struct error *ret_error);

/* "1,234", "0.84", for people; `digits` behind the point. `text` holds REPORT_NUMBER_BYTES. */
#define REPORT_NUMBER_BYTES 40
void report_number(double number, int digits, char *text);

#endif

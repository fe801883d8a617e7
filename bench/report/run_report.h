#ifndef HOLDFAST_BENCH_REPORT_H
#define HOLDFAST_BENCH_REPORT_H

/* A run's result on standard output, for people or as one line of JSON. Main thread. */

#include "bench/load/load.h"
#include "bench/load/run.h"

void run_report_text(const struct load_options *options, const struct run_result *result);

/*
 * { load, target, connections, seconds, operations, operationsTotal, operationsPerSecond, errors,
 *   firstError, retries, statuses: { "200": … } (calls), latencyMicros: { p50, p95, p99, p999, max
 * }, rate, unanswered, serviceMicros: { p50, p99, max } (open loop), megabytesPerSecond
 * (large-read), ownCpuSeconds, processes: [ { pid, cpuSeconds, rssBytesAtStart, rssBytesAfter } ] }
 */
void run_report_json(const struct load_options *options, const struct run_result *result);

#endif

#ifndef HOLDFAST_BENCH_REPORT_H
#define HOLDFAST_BENCH_REPORT_H

/* A run's result on standard output, for people or as one line of JSON. Main thread. */

#include "bench/options.h"
#include "bench/run.h"

void report_text(const struct bench_options *options, const struct run_result *result);

/*
 * { load, target, connections, seconds, operations, operationsTotal, operationsPerSecond, errors,
 *   firstError, retries, statuses: { "200": … } (calls), latencyMicros: { p50, p95, p99, max },
 * ownCpuSeconds, processes: [ { pid, cpuSeconds, rssBytesAtStart, rssBytesAfter } ] }
 */
void report_json(const struct bench_options *options, const struct run_result *result);

#endif

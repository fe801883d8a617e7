#ifndef HOLDFAST_BENCH_RUN_H
#define HOLDFAST_BENCH_RUN_H

/*
 * One run of a load.
 *
 *   connect, hello, documents -> warm-up -> measured time -> drain: no operation is begun any more,
 *                                                            those at work are brought to their end
 *
 * so that what the target acknowledged is counted to the last operation. For contended that is
 * compared with what the documents hold; a difference is an error.
 */

#include "bench/contended.h"
#include "bench/histogram.h"
#include "bench/options.h"
#include "bench/process.h"
#include "holdfast/error.h"

/* HTTP's go from 100 to 599. */
#define RUN_STATUSES 600

struct run_process {
    pid_t pid;
    struct process_usage at_start; /* before the first connection of the run */
    struct process_usage before;   /* when the measured time began */
    struct process_usage after;    /* when that ended; 0 if the process had */
};

struct run_result {
    uint64_t measured_ns;
    uint64_t operations;       /* finished in the measured time */
    uint64_t operations_total; /* acknowledged over the whole run, drain included */
    uint64_t retries;          /* of transactions, over the whole run, as are the errors */
    uint64_t errors;
    char first_error[512];           /* "" if there is none */
    uint64_t statuses[RUN_STATUSES]; /* calls: answers by HTTP status, over the whole run */
    struct histogram latency;
    struct contended_result contended; /* of that load */
    struct run_process processes[BENCH_PIDS_MAX];
    uint64_t own_cpu_ns; /* of this program, in the measured time */
};

/*
 * Runs it. Main thread; blocks until the end. Errors are what kept the load from beginning
 * (STATUS_UNREACHABLE, STATUS_REFUSED, STATUS_PROTOCOL, STATUS_NOT_FOUND for a process,
 * STATUS_LIMIT for open files); what goes wrong later is counted in *ret_result, which is large.
 */
MUST_CHECK enum status run(const struct bench_options *options, struct run_result *ret_result,
                           struct error *ret_error);

#endif

#ifndef HOLDFAST_BENCH_RUN_H
#define HOLDFAST_BENCH_RUN_H

/*
 * One run of a load.
 *
 *   connect, hello, documents -> warm-up -> measured time -> drain: no operation is begun any more,
 *                                                            those at work are brought to their end
 *
 * so that what the target acknowledged is counted to the last operation. For contended and accounts
 * that is compared with what the documents hold; a difference is an error.
 *
 * Closed loop: each connection begins an operation when its last one has ended. Open loop
 * (options->rate): operations are meant to begin at a constant rate, whatever becomes of those
 * before them. One that finds all connections at work begins later, but its latency counts from
 * when it was meant to: a target that stands still for a second shows in all that should have begun
 * in that second, not in one for each connection (that is, no coordinated omission). Those meant to
 * begin in the measured time are brought to their end.
 */

#include <signal.h>

#include "bench/load/contended.h"
#include "bench/load/histogram.h"
#include "bench/load/load.h"
#include "bench/load/process.h"
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
    uint64_t unanswered;       /* open loop: still not 10 s after the measured time */
    uint64_t retries;          /* of units, over the whole run, as are the errors */
    uint64_t errors;
    char first_error[512];           /* "" if there is none */
    uint64_t statuses[RUN_STATUSES]; /* answers by HTTP status, over the whole run */
    struct histogram latency;
    struct histogram service;          /* open loop: from when an operation was really begun */
    uint32_t reply_bytes;              /* large-read */
    struct contended_result contended; /* of that load */
    struct run_process processes[LOAD_PIDS_MAX];
    uint64_t own_cpu_ns; /* of this program, in the measured time */
};

/* Is told how it goes, a few times a second; NULL: nobody. */
struct run_watcher {
    /* `operations`: acknowledged up to now. */
    void (*tell)(void *context, uint64_t operations, uint64_t operations_a_second);
    void *context;
};

/* By SIGINT, SIGTERM: a run ends early, as if its time were over. */
extern volatile sig_atomic_t run_interrupted;

/*
 * Runs it. Main thread; blocks until the end. Errors are what kept the load from beginning
 * (STATUS_UNREACHABLE, STATUS_REFUSED, STATUS_PROTOCOL, STATUS_NOT_FOUND for a process,
 * STATUS_LIMIT for open files); what goes wrong later is counted in *ret_result, which is large.
 */
MUST_CHECK enum status run(const struct load_options *options, const struct run_watcher *watcher,
                           struct run_result *ret_result, struct error *ret_error);

#endif

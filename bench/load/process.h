#ifndef HOLDFAST_BENCH_PROCESS_H
#define HOLDFAST_BENCH_PROCESS_H

/* What other processes use, read from /proc. Any thread. */

#include <stdint.h>
#include <sys/types.h>

#include "holdfast/error.h"

struct process_usage {
    uint64_t cpu_ns;    /* user and system time of all its threads */
    uint64_t rss_bytes; /* resident memory */
};

/* Errors: STATUS_NOT_FOUND (no such process, or /proc tells nothing of it). */
MUST_CHECK enum status process_usage_read(pid_t pid, struct process_usage *ret_usage,
                                          struct error *ret_error);

#endif

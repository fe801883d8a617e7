#ifndef HOLDFAST_BENCH_PROGRESS_H
#define HOLDFAST_BENCH_PROGRESS_H

/* What a terminal shows while it is measured: one line, written anew. Main thread. */

#include <stdbool.h>

#include "bench/load/run.h"

struct progress {
    bool shown;
    size_t runs; /* in all */
    size_t run;
    uint64_t began_ns;
    uint64_t done_ns; /* when the last one was */
    char what[256];
    struct run_watcher watcher;
};

/* Shows nothing where standard error is no terminal. */
void progress_init(struct progress *progress, bool quiet, size_t runs);
void progress_begin(struct progress *progress, const char *cell, const char *target,
                    uint32_t round);
void progress_done(struct progress *progress);
void progress_end(struct progress *progress);

/* For run(); NULL where nothing is shown. */
const struct run_watcher *progress_watcher(struct progress *progress);

#endif

#ifndef HOLDFAST_BENCH_CONTENDED_H
#define HOLDFAST_BENCH_CONTENDED_H

/*
 * What is asked of the loads `contended` and `accounts` beside their speed: that no increment is
 * lost or doubled, that the accounts hold together what they held, and that nobody starves. Main
 * thread.
 */

#include "bench/load/documents.h"
#include "bench/load/histogram.h"
#include "bench/load/load.h"
#include "holdfast/error.h"

struct contended_sums {
    int64_t hot; /* of the values of the hot documents */
    int64_t all;
};

/* Of one kind of connection. */
struct contended_figures {
    uint64_t operations;    /* acknowledged over the whole run */
    uint64_t longest_ns;    /* of all that ended after the warm-up, retries included */
    struct histogram waits; /* of those that ended in the measured time */
    uint64_t fewest;        /* such operations of a connection */
    uint64_t median;
    uint64_t most;
};

struct contended_result {
    struct contended_figures transactions;
    struct contended_figures plain;
    struct contended_sums before;
    struct contended_sums after;
};

/* Asks the target. Errors: STATUS_UNREACHABLE, STATUS_REFUSED, STATUS_PROTOCOL. */
MUST_CHECK enum status contended_sum(const struct load_options *options,
                                     const struct documents *documents, struct contended_sums *ret,
                                     struct error *ret_error);

/* STATUS_PROTOCOL: the documents do not hold what was acknowledged. */
MUST_CHECK enum status contended_check(const struct load_options *options,
                                       const struct contended_result *result,
                                       struct error *ret_error);

/* Fills in fewest, median and most of the counts, and sorts them. */
void contended_share(struct contended_figures *figures, uint64_t *counts, size_t count);

/* Longest wait by median wait; 0 if there are none. */
double contended_unfairness(const struct contended_figures *figures);

#endif

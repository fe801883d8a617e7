#ifndef HOLDFAST_BENCH_JOURNAL_H
#define HOLDFAST_BENCH_JOURNAL_H

/* What `holdfast status` says of the journal of a holdfastd that the bench started. Main thread. */

#include <stdbool.h>

#include "bench/peer/target.h"

struct journal_state {
    double bytes;   /* in use */
    double commits; /* of its storage */
};

/* False: the target has none, or it cannot be told. */
MUST_CHECK bool journal_look(const struct targets *targets, const struct target *target,
                             struct journal_state *ret_state);

#endif

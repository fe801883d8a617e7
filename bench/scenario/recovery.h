#ifndef HOLDFAST_BENCH_RECOVERY_H
#define HOLDFAST_BENCH_RECOVERY_H

#include "bench/suite.h"

/*
 * Puts units through a holdfastd that the bench started until cell->units more of them are in its
 * journal, kills it while others are open, takes the journal out of the page cache, and measures
 * how long the next start takes until it accepts. Errors: STATUS_INVALID for another target.
 */
MUST_CHECK enum status recovery_measure(struct suite *suite, const struct cell *cell,
                                        struct target *target, struct series *series,
                                        struct outcome *ret_outcome, struct error *ret_error);

#endif

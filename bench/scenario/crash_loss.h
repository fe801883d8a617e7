#ifndef HOLDFAST_BENCH_CRASH_LOSS_H
#define HOLDFAST_BENCH_CRASH_LOSS_H

#include "bench/suite.h"

/*
 * Kills the server (kill -9) under a load of units, and with it the proxy in front of it, as a
 * crash of their node does; starts both again, and compares what the documents hold with what was
 * acknowledged:
 *
 *     lost    units that were acknowledged and are not there
 *     torn    connections of whose last unit a part is there
 *
 * A kill loses nothing that the kernel has already: only a power cut shows what was not synced at
 * all. What a server keeps back in its own memory is lost. Errors: STATUS_INVALID for a target
 * whose server the bench did not start.
 */
MUST_CHECK enum status crash_loss_measure(struct suite *suite, const struct cell *cell,
                                          struct target *target, struct series *series,
                                          struct outcome *ret_outcome, struct error *ret_error);

#endif

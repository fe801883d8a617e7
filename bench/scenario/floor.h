#ifndef HOLDFAST_BENCH_FLOOR_H
#define HOLDFAST_BENCH_FLOOR_H

#include "bench/suite.h"

/*
 * What durable writes cost at least here: records of load->bytes are appended to a file, and
 * fdatasync() is waited for, for each record, or one for a group of as many as there are
 * connections. Errors: STATUS_IO.
 */
MUST_CHECK enum status floor_measure(const struct suite *suite, const struct cell *cell,
                                     bool grouped, struct series *series,
                                     struct outcome *ret_outcome, struct error *ret_error);

#endif

#ifndef HOLDFAST_BENCH_PATCHES_H
#define HOLDFAST_BENCH_PATCHES_H

/* Private to steps.c. */

#include "bench/load/steps.h"

/* A unit's name in a comment ends with so many digits, which change. */
#define PATCHES_UNIT_DIGITS 12u

/* Finds the numbers in the request of *step that change, but its limit. Errors: STATUS_MEMORY. */
MUST_CHECK enum status patches_find(struct step *step);
/* The limit, where that changes, too. */
MUST_CHECK enum status patches_find_limit(struct step *step);

#endif

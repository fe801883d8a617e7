#ifndef HOLDFAST_ENGINE_KNOWN_H
#define HOLDFAST_ENGINE_KNOWN_H

/* After-images that were learned from replies and are not in the journal yet. */

#include <stddef.h>

#include "recover/record.h"
#include "unit/unit.h"

/*
 * Collects them (pointing into the unit). The caller frees *ret_known. STATUS_MEMORY. The unit
 * counts them as journaled from now on: call only for a record that will be appended; if that
 * fails, the unit is rolled back anyway.
 */
MUST_CHECK enum status known_collect(struct unit *unit, struct record_known **ret_known,
                                     size_t *ret_count);

#endif

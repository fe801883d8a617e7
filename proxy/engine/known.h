#ifndef HOLDFAST_ENGINE_KNOWN_H
#define HOLDFAST_ENGINE_KNOWN_H

/* What was learned of earlier writes of a unit, on its way into the journal. */

#include <stddef.h>

#include "recover/record.h"
#include "unit/unit.h"

/*
 * Lists unit->known for a record's payload; points into the unit. The caller frees *ret_known and,
 * once the record is durable, calls unit_known_drop(unit, *ret_count). STATUS_MEMORY.
 */
MUST_CHECK enum status known_collect(const struct unit *unit, struct record_known **ret_known,
                                     size_t *ret_count);

/* The same of what was refused, for an ABORT: what else was learned is undone. */
MUST_CHECK enum status known_collect_refused(const struct unit *unit,
                                             struct record_known **ret_known, size_t *ret_count);

#endif

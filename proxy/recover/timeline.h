#ifndef HOLDFAST_RECOVER_TIMELINE_H
#define HOLDFAST_RECOVER_TIMELINE_H

/* From times to LSNs. */

#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/wal.h"

/*
 * The lowest LSN of all last records, of whatever units, that were written at `time_ms` or later:
 * what is below it had ended by then. UINT64_MAX: none is so late. A clock that was set back makes
 * it too low rather than too high, so that never a unit is cut off from one that came before it.
 * Reads all units, in short snapshots. Errors: those of reading the journal.
 */
MUST_CHECK enum status timeline_first_ended(struct wal *wal, uint64_t time_ms, uint64_t *ret_lsn,
                                            struct error *ret_error);

#endif

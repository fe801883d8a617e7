#ifndef HOLDFAST_RECOVER_UNIT_WALK_H
#define HOLDFAST_RECOVER_UNIT_WALK_H

/* Looking at all units of a journal, also one that a living holdfastd writes. Caller's thread. */

#include "holdfast/error.h"
#include "holdfast/wal.h"

/* `reader` is of the snapshot that shows the unit whole; what it gives is valid during the call.
   Anything but STATUS_OK ends the walk. */
typedef enum status unit_visit(struct wal_reader *reader, const struct wal_unit *unit,
                               void *context, struct error *ret_error);

/*
 * Calls `visit` for each unit, by number, in short snapshots: a reader that stays open makes the
 * journal grow. Errors: those of reading the journal and of `visit`.
 */
MUST_CHECK enum status unit_walk(struct wal *wal, unit_visit *visit, void *context,
                                 struct error *ret_error);

#endif

#ifndef HOLDFAST_MIGRATE_UNDO_DOCUMENTS_H
#define HOLDFAST_MIGRATE_UNDO_DOCUMENTS_H

/*
 * One unit of the journal undone: its before-images put back where its after-images still are;
 * private to this folder.
 *
 * Threads: that of the struct migrate.
 */

#include "holdfast/error.h"
#include "migrate/migrate.h"

struct undo_unit;

/* Reads the unit. *ret_step: the migration's step that it is of. STATUS_NOT_FOUND, STATUS_CORRUPT:
   retention has removed it meanwhile. Give *ret_unit to undo_unit_close(). */
MUST_CHECK enum status undo_unit_open(struct migrate *migrate, uint64_t number,
                                      struct undo_unit **ret_unit, int32_t *ret_step,
                                      struct error *ret_error);
/* NULL is harmless. */
void undo_unit_close(struct undo_unit *unit);

/* Undoes what the row does not say is undone, in units, and says so in the row. */
MUST_CHECK enum status undo_unit_run(struct undo_unit *unit, struct row *row,
                                     struct error *ret_error);

#endif

#ifndef HOLDFAST_ENGINE_BEGIN_H
#define HOLDFAST_ENGINE_BEGIN_H

/* The BEGIN record of a unit. */

#include <bson/bson.h>

#include "holdfast/wal.h"
#include "unit/unit.h"

/*
 * Makes the record that begins `unit` in the journal. `payload`, initialised, gets its payload and
 * stays with the caller until the append has completed; *ret_append is one record without `next`
 * and `completed`, for the caller to fill in.
 */
void begin_make(const struct unit *unit, bson_t *payload, struct wal_append *ret_append);

#endif

#ifndef HOLDFAST_UNIT_UNIT_PRIVATE_H
#define HOLDFAST_UNIT_UNIT_PRIVATE_H

/* Making and freeing units: the unit table's business alone. */

#include "unit/unit.h"

/* NULL: out of memory. */
struct unit *unit_new(const struct unit_request *request, enum unit_boundary boundary);
/* NULL is harmless; returns NULL. */
struct unit *unit_free(struct unit *unit);

#endif

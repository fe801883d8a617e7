#ifndef HOLDFAST_BOUNDARY_STRICT_H
#define HOLDFAST_BOUNDARY_STRICT_H

/* What plain.c needs where a command becomes a transaction of the server (strict.c). */

#include <bson/bson.h>

#include "holdfast/slice.h"

struct boundary_request;

/* Its unit has ended, and others were in its way: `again` after a pause. request->write is free. */
void strict_again_later(struct boundary_request *request, void (*again)(struct boundary_request *));

/* Appends what the server answered to a command whose transaction has failed: nothing of it is
   there, so its counts are 0. `retryable`: its driver may send it again, and is told when. */
void strict_put_undone(struct slice reply, bool retryable, bson_t *undone);

#endif

#ifndef HOLDFAST_ENGINE_RELEASE_H
#define HOLDFAST_ENGINE_RELEASE_H

/* What both ends of a unit share. */

#include "engine/engine.h"
#include "holdfast/error.h"

/* What an ended unit has left on the server is committed: releases its locks, leaves its gates. */
void release_unit(struct engine *engine, struct unit *unit);

/*
 * Ends the process at once after the journal has failed: nobody knows here what is on the disk, and
 * a second fsync would not tell. The next start recovers.
 */
_Noreturn void release_end_process(const char *message, const struct unit *unit,
                                   enum status status);

#endif

#ifndef HOLDFAST_ENGINE_DEADLOCK_LOG_H
#define HOLDFAST_ENGINE_DEADLOCK_LOG_H

#include "unit/lock_table.h"

/*
 * Writes a line about a deadlock, at most one a second: clients that cross all the time are a
 * matter of their code, and a log that they can fill helps nobody. `total` in the line counts those
 * without a line too. For lock_table_on_deadlock(); any thread.
 */
void deadlock_log(const struct lock_deadlock *deadlock);

#endif

#ifndef HOLDFAST_ENGINE_PAUSE_H
#define HOLDFAST_ENGINE_PAUSE_H

/*
 * A pause: for a while no write passes, so that a backup document by document is of one moment.
 *
 *     none --pause_renew()--> waiting --units have ended, plain writes are answered--> held
 *       ^                        |                                                     |
 *       +------ pause_end(), or nobody renews it in time, or the process ends ---------+
 *
 * Who comes meanwhile waits at the gates as behind a command such as createIndexes: a unit for
 * unit.lockWait, then it is refused as one that met a lock. Reads outside units go on; a driver's
 * transaction is a unit from its first read on.
 *
 * A pause ends by itself when its time is over, so one whose asker has died lasts no longer than
 * it last asked for.
 *
 * Threads: any. Its own thread, started with the first pause, does all work at the gates.
 */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "unit/gate.h"

struct pause;

enum pause_state {
    PAUSE_NONE,
    PAUSE_WAITING,
    PAUSE_HELD,
};

/* "none", "waiting", "held" */
const char *pause_state_name(enum pause_state state);

/*
 * `gates` outlives it; `worker` is an index of its own among those that the table counts.
 * NULL: out of memory.
 */
struct pause *pause_new(struct gate_table *gates, size_t worker);

/* Ends it. NULL is harmless; returns NULL. */
struct pause *pause_free(struct pause *pause);

/*
 * Begins a pause, or goes on with the one there is, until for_ms from now. Does not wait:
 * *ret_state is how far it is. Errors: STATUS_MEMORY, STATUS_LIMIT (no thread).
 */
MUST_CHECK enum status pause_renew(struct pause *pause, uint64_t for_ms,
                                   enum pause_state *ret_state, struct error *ret_error);

/* Whether one is asked for, or not over yet. */
bool pause_is_on(struct pause *pause);

/* Does not wait: writes go on in a moment. */
void pause_end(struct pause *pause);

#endif

#ifndef HOLDFAST_NET_WATCHDOG_H
#define HOLDFAST_NET_WATCHDOG_H

/*
 * Feeds a watchdog outside of this process with the proof that its workers work.
 *
 * A thread asks every worker to come back to its loop (worker_pool_settle()), and only when all
 * have it calls `alive`. So a worker that hangs is told by silence; a timer that feeds by itself
 * would go on for a proxy that answers nobody. As long as there are no workers (a standby, the
 * recovery at the start, the last steps of the end) there is nothing to prove, and it is fed.
 *
 * What it cannot tell: a main thread that hangs, and a disk that does not answer the journal: no
 * worker waits for either. The lease's own switch ends a process that stands still as a whole
 * (base/dead_man.h).
 */

#include <stdint.h>

#include "holdfast/error.h"
#include "net/worker.h"

struct watchdog;

struct watchdog_options {
    uint64_t period_ms;  /* who watches acts after so long without a call; from 3 */
    void (*alive)(void); /* its own thread's */
};

/* Nothing is watched yet. Errors: STATUS_MEMORY, STATUS_IO (a thread). Give the result to
   watchdog_stop(). */
MUST_CHECK enum status watchdog_start(const struct watchdog_options *options,
                                      struct watchdog **ret_watchdog, struct error *ret_error);

/*
 * From now on `workers` must work; NULL: nobody. When it returns, those before are not touched any
 * more: at most a third of the period later. A NULL watchdog is harmless.
 */
void watchdog_watch(struct watchdog *watchdog, struct worker_pool *workers);

/* Ends after at most a third of the period. NULL is harmless; returns NULL. */
struct watchdog *watchdog_stop(struct watchdog *watchdog);

#endif

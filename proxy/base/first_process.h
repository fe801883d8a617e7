#ifndef HOLDFAST_BASE_FIRST_PROCESS_H
#define HOLDFAST_BASE_FIRST_PROCESS_H

/*
 * Being the first process of a container.
 *
 * The kernel delivers to process 1 of a PID namespace no signal from inside that it has no handler
 * for, SIGKILL included: no dead man's switch (dead_man.h) could end it.
 */

#include "holdfast/error.h"

#include <stdbool.h>
#include <sys/types.h>

/*
 * Call it first in main(), before any thread. As any process but 1 it does nothing. As process 1 it
 * goes on in a child, and process 1 stays behind: it passes on SIGTERM, SIGINT, SIGHUP, SIGQUIT,
 * SIGUSR1 and SIGUSR2, takes the orphans, and exits as the child does (128 + n if signal n ended
 * it). STATUS_LIMIT: no process can be made.
 */
MUST_CHECK enum status first_process_leave(struct error *ret_error);

/* Whether a process 1 of ours has stayed behind, for this process or for one that it succeeds. */
bool first_process_stays(void);
/* It has for who started this process, a holdfastd that is to be succeeded. */
void first_process_inherit(void);

/* `successor` is in place of this process from now on: process 1 that stayed behind passes its
   signals on to that, and ends with it. Harmless where there is none. */
void first_process_follow(pid_t successor);

#endif

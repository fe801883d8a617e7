#ifndef HOLDFAST_BOUNDARY_LEND_H
#define HOLDFAST_BOUNDARY_LEND_H

/*
 * A mongo connection of a service, lent to end the transaction of an API call on the server: with
 * the rights of the user whose it is, for which the proxy's own would need a privilege.
 *
 * Only one on which nothing is on its way is lent. Where all are at work it is waited for, LEND_MS
 * at most. What its service sends meanwhile waits until it is given back.
 */

#include "boundary/domain.h"
#include "engine/engine.h"
#include "net/worker.h"

#define LEND_MS 1000u

struct loan;

/*
 * `lent` is called from a loop: on the channel's worker, if there is a channel; then lend_end() has
 * to follow. NULL: the user has no connection there, or none was free. `user` is copied.
 */
void lend_start(struct domain *domain, struct worker *home, const char *user,
                void (*lent)(void *context, struct loan *loan, struct engine_channel *channel),
                void *context);

/* Given back. Any thread. NULL is harmless. */
void lend_end(struct loan *loan);

#endif

#ifndef HOLDFAST_BOUNDARY_CATCH_UP_H
#define HOLDFAST_BOUNDARY_CATCH_UP_H

/*
 * Catching up with a domain's services: what they have sent to mongo before a moment is read and
 * decided, before what follows from that moment is done.
 *
 * A service's answer and its writes come by different connections, of different workers. A write
 * that it did not wait for (w: 0, or given up after a timeout of its own) may lie unread in its
 * socket when the answer is here; decided after the end of its call it would be a plain one, or
 * belong to the next call. So before an answer ends a call, every worker looks once at each of its
 * connections of the domain. What the network has not delivered by then nobody can know of.
 */

#include "boundary/domain.h"

/*
 * `completed` is called on `home`, from its loop. `behind`: some connection could not be read to
 * its end, for a command of it is at work or the rest of one has not come: catch up again later.
 */
void catch_up(struct domain *domain, struct worker *home,
              void (*completed)(void *context, bool behind), void *context);

#endif

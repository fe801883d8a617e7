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
 *
 * One round of looks serves all that had asked before it began, so that many calls that end at a
 * time do not cost a round each.
 */

#include <stdbool.h>

#include "net/worker.h"

struct domain;
struct catch_up_rounds;

/* Lies in the caller's memory from catch_up_start() until `completed`. */
struct catch_up {
    /* filled in by the caller */
    struct domain *domain;
    size_t service; /* of the call; only the connections of an instance are looked at for it */
    struct worker *home;
    /* On `home`, from its loop. `behind`: some connection could not be read to its end, for a
       command of it is at work, or the rest of one has not come: catch up again later. */
    void (*completed)(struct catch_up *catch_up, bool behind);
    /* private */
    bool behind;
    struct worker_task task;
    struct catch_up *next;
};

/* Any thread. */
void catch_up_start(struct catch_up *catch_up);

/* A domain's own, or an instance's, else DOMAIN_NO_INSTANCE. NULL: out of memory. */
struct catch_up_rounds *catch_up_rounds_new(struct domain *domain, size_t instance);
/* None is running. NULL is harmless; returns NULL. */
struct catch_up_rounds *catch_up_rounds_free(struct catch_up_rounds *rounds);

#endif

#ifndef HOLDFAST_FRONT_FRONT_PRIVATE_H
#define HOLDFAST_FRONT_FRONT_PRIVATE_H

/* What front.c has for handover.c. */

#include <semaphore.h>

#include "front/exchange.h"

/* Something done by each worker with its exchanges; lies at the beginning of what the visits need.
 */
struct front_round {
    void (*visit)(struct exchange *exchange, struct front_round *round);
    bool stop; /* no worker takes a caller any more */
    /* private */
    struct worker_task task;
    struct front_worker *owner;
    sem_t done;
};

/* Waits for each worker in turn. */
void front_visit(struct front *front, struct front_round *round);

void front_pause_listeners(struct front *front, bool paused);

/* By its address, with the real port. NULL: nobody listens there. */
const struct front_endpoint *front_find_endpoint(const struct front *front, const char *listen);

/* As if it had just connected to the endpoint, and had sent `bytes` (copied). */
void front_accept(const struct front_endpoint *endpoint, int descriptor, struct slice bytes);

struct front_shared *front_shared(struct front *front);

#endif

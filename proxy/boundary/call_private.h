#ifndef HOLDFAST_BOUNDARY_CALL_PRIVATE_H
#define HOLDFAST_BOUNDARY_CALL_PRIVATE_H

/* What call.c and domain.c share; nobody else includes it. */

#include "boundary/call.h"

/* ---- call.c */

/*
 * Makes the unit of a call that is admitted now, and checks it in, so that writes find it. The
 * domain's mutex is held. False: unit.maxOpen, or out of memory.
 */
bool call_open_unit(struct call *call);

/* The report follows it from now on. The domain's mutex is held. */
void call_begin_observing(struct call *call);

/* Tells the call, on its worker, that its wait is over. The domain's mutex is held. */
void call_tell_admitted(struct call *call, enum call_admission admission);

/* ---- domain.c */

/* What the domain was made with. */
void domain_engine(const struct domain *domain, struct engine **ret_engine,
                   struct observe **ret_observe);

/* Begins the call, queues it, or joins it to the one that is open. */
enum call_admission domain_call_begin(struct call *call);
/* The same for a call that only waits until no call is open. */
enum call_admission domain_read_begin(struct call *call);
/* Takes it out of its queue. False: it is in none, call_tell_admitted() was called. */
bool domain_call_cancel(struct call *call);
/* Its unit is about to end: what its handlers still write does not belong to it any more. */
void domain_call_closing(struct call *call);
/* Its unit has ended. */
void domain_call_ended(struct call *call);
/* Its handler has. */
void domain_handler_ended(struct call *call, enum call_handler_end end);

#endif

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

/* What domain_call_close() has waited for is there. The domain's mutex is held. */
void call_tell_ready(struct call *call);

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
/*
 * The same after an answer, once all that the service has sent before it is decided and answered:
 * true. False: a connection is `behind` (catch_up.h), or writes of the call are at work;
 * call_tell_ready() comes when it is worth another look. `late`: do not wait any longer.
 */
bool domain_call_close(struct call *call, bool behind, bool late);
/* Its unit has ended. */
void domain_call_ended(struct call *call);
/* Its handler, which is not on its slot any more, has. */
void domain_handler_answered(struct domain *domain, struct domain_handler *handler);
/* Its handler's connection broke; the domain keeps it. */
void domain_handler_lost(struct call *call);

/* The reader group of the unit (domain_reader_group()). */
uint64_t domain_call_group(const struct domain *domain, uint64_t unit);
/* call_move() */
bool domain_call_move(struct call *call);

/* Those that look at the connections of a call of this service, or instance. */
struct catch_up_rounds *domain_rounds(struct domain *domain, size_t service);

/* The workers that have connections of the domain, or of one instance; returns how many. */
size_t domain_link_workers(struct domain *domain, size_t instance, struct worker **workers,
                           size_t max);
/*
 * Up to `max` such connections of one worker, opened before *before, which moves on; returns how
 * many. On that worker.
 */
size_t domain_links_of(struct domain *domain, size_t instance, const struct worker *worker,
                       uint64_t *before, struct domain_link **links, size_t max);

#endif

#ifndef HOLDFAST_SERVICE_SERVICES_H
#define HOLDFAST_SERVICE_SERVICES_H

/*
 * The services that the proxy fronts, as the configuration lists them: their domains, where their
 * HTTP calls come in, and by what their mongo connections are known.
 *
 *   services_new()   the domains; what the router must listen on
 *   router_start()   with services_router()
 *   services_serve() the HTTP front
 *   ...
 *   services_drain(), router_drain(), router_stop(), services_stop(), services_free()
 *
 * The main thread, if nothing else is said. Without a service in the configuration everything here
 * is empty and harmless.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "boundary/domain.h"
#include "front/front.h"
#include "holdfast/error.h"
#include "holdfast/wal.h"
#include "net/worker.h"
#include "route/router.h"

struct services;

/*
 * `config`, `engine` and `observe` outlive the services. Handlers of a former life may be alive,
 * and the domains begin fenced, unless the journal is new or services_stop() has said otherwise.
 * Errors: STATUS_MEMORY, STATUS_INVALID (addresses), and those of wal_property_set().
 */
MUST_CHECK enum status services_new(const struct config *config, struct engine *engine,
                                    struct observe *observe, struct services **ret_services,
                                    struct error *ret_error);

/* Before services_router(): what its listeners speak, NULL for plain; all outlive them. Whether
   plain clients are served as well the configuration says. `with_services`: one for each service,
   in the order of config_services_complete(). */
void services_use_tls(struct services *services, struct tls *net, struct tls *http,
                      struct tls *const *with_services);

/* Fills in listeners, rules and the tick of the options. They point into the services. */
void services_router(struct services *services, struct router_options *options);

/* Serves HTTP, `connections_max` callers, and logs the addresses of all listeners but the plain
 * one. Errors: as front_start().
 */
MUST_CHECK enum status services_serve(struct services *services, struct worker_pool *workers,
                                      const struct router *router, uint64_t connections_max,
                                      struct error *ret_error);

/* Whether there is any. */
bool services_are_fronted(const struct services *services);

/* After the configuration was read again. */
void services_set_limits(struct services *services, const struct config *config);

/* While they are held no call begins: those that come wait (domain_hold()). */
void services_hold(struct services *services, bool held);
/* The same for every request, and no caller is accepted (front_hold()). */
void services_hold_callers(struct services *services, bool held);
/* As front_give() and front_take(). */
size_t services_give(struct services *services,
                     void (*give)(void *context, const struct front_parcel *parcel), void *context);
MUST_CHECK enum status services_take(struct services *services, const struct front_parcel *parcel,
                                     struct error *ret_error);

/* No call begins any more. */
void services_drain(struct services *services);
/* Calls that are open. */
size_t services_calls(struct services *services);
/* Closes every connection of the front; what is open is rolled back. */
void services_stop(struct services *services);
/*
 * Notes in the journal whether every handler has ended, so that the next start need not wait for
 * them; after services_stop(), and only if this end is a clean one.
 */
void services_note_end(struct services *services);
/* After the workers have stopped. NULL is harmless; returns NULL. */
struct services *services_free(struct services *services);

/* ---- for those who look on; any thread, between services_new() and services_free() */

size_t services_domain_count(const struct services *services);
struct domain *services_domain(const struct services *services, size_t index);
/* NULL before services_serve(), or without a service. */
const struct front *services_front(const struct services *services);
/* NULL: keys of requests are not looked at. */
struct idempotency *services_idempotency(const struct services *services);

#endif

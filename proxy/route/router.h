#ifndef HOLDFAST_ROUTE_ROUTER_H
#define HOLDFAST_ROUTE_ROUTER_H

/*
 * The proxy as a whole: it accepts clients, gives each its own connection to the server, passes
 * through what is not its business and hands the rest to the boundaries.
 */

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "holdfast/error.h"
#include "net/listener.h"
#include "net/worker.h"

struct router;

struct router_options {
    struct engine *engine;       /* outlives the router */
    struct worker_pool *workers; /* outlives the router */
    const char *listen;          /* HOST:PORT */
    struct network_address upstream;
    const char *upstream_name; /* for the log */
    uint64_t connections_max;  /* as router_set_limits() */
    uint64_t unit_lifetime_ms; /* as router_set_limits() */
};

/* Listens and serves from now on. Errors: as listener_open(). */
MUST_CHECK enum status router_start(const struct router_options *options,
                                    struct router **ret_router, struct error *ret_error);

/* HOST:PORT with the real port. */
const char *router_address(const struct router *router);

/*
 * Changes limits while serving. `connections_max`: of clients at a time; those beyond it that are
 * open already stay. `unit_lifetime_ms`: units older than this are rolled back, open ones too. Any
 * thread.
 */
void router_set_limits(struct router *router, uint64_t connections_max, uint64_t unit_lifetime_ms);

/* Connections open now. */
uint64_t router_connections(const struct router *router);

/* No new connections, no new units; what is open goes on. */
void router_drain(struct router *router);

/*
 * Rolls back the units that are still open and closes every connection; waits for it. The workers
 * are stopped by the caller after this, then router_free().
 */
void router_stop(struct router *router);
struct router *router_free(struct router *router);

#endif

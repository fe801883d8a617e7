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
#include "net/ip_address.h"
#include "net/listener.h"
#include "net/worker.h"
#include "upstream/server_process.h"
#include "upstream/topology.h"

struct router;

/* An address that clients connect to. */
struct router_listener {
    const char *listen;    /* HOST:PORT */
    struct domain *domain; /* all its clients are of this domain's service `service`; NULL: none */
    size_t service;
    struct tls *tls;    /* NULL: its clients speak plain */
    bool plain_allowed; /* with `tls`: those who do not begin with it are served, too */
};

/* How a service is told apart on a listener without a domain: by one of two. */
struct router_rule {
    struct domain *domain;
    size_t service;
    bool by_address;
    struct ip_address address; /* where it connects from */
    const char *application;   /* its driver's appName; "": by its address */
};

struct router_options {
    struct engine *engine; /* outlives the router, as all that is pointed to here */
    struct worker_pool *workers;
    struct observe *observe; /* NULL: nothing is observed */
    bool observe_only;       /* commands pass as they are; the report is all there is */
    const struct router_listener *listeners; /* the first is the plain one */
    size_t listener_count;
    const struct router_rule *rules;
    size_t rule_count;
    void (*tick)(void *context, uint64_t now_ms); /* every 50 ms, on a worker; may be NULL */
    void *tick_context;
    struct server_process *process; /* which process of the server commands may go to; NULL: any */
    enum upstream_topology kind;    /* what the server was at the start, for status */
    struct topology *topology; /* the servers that are followed; NULL: it is `upstream` always */
    uint64_t selection_ms;     /* with `topology`: how long a command waits for a primary */
    struct network_address upstream;
    const char *upstream_name; /* for the log */
    struct tls *upstream_tls;  /* NULL: plain */
    uint64_t connections_max;  /* as router_set_limits() */
    uint64_t address_max;      /* as router_set_limits() */
    uint64_t handshake_ms;     /* for a new client's first message; 0: as long as it likes */
    uint64_t stall_ms;         /* without 1 KiB of a message that has begun; 0: likewise */
    uint64_t unit_lifetime_ms; /* as router_set_limits() */
};

/* Listens and serves from now on. Errors: as listener_open(). */
MUST_CHECK enum status router_start(const struct router_options *options,
                                    struct router **ret_router, struct error *ret_error);

/* HOST:PORT of a listener, with the real port. */
const char *router_address(const struct router *router, size_t listener);

/*
 * Changes limits while serving. `connections_max`: of clients at a time, `address_max`: of one
 * address (net/address_counts.h), 0 for no bound; those beyond it that are open already stay.
 * `unit_lifetime_ms`: units older than this are rolled back, open ones too. Any thread.
 */
void router_set_limits(struct router *router, uint64_t connections_max, uint64_t address_max,
                       uint64_t unit_lifetime_ms);

/* For status: what was given at the start. */
struct topology *router_topology(const struct router *router);
enum upstream_topology router_kind(const struct router *router);

/* Connections open now. */
uint64_t router_connections(const struct router *router);

/* What they have carried since the start, as it was at their sockets. */
struct router_figures {
    uint64_t client_bytes_in; /* from clients */
    uint64_t client_bytes_out;
    uint64_t server_bytes_in; /* from the server, on clients' connections */
    uint64_t server_bytes_out;
    uint64_t commands;   /* messages of clients that were decided */
    uint64_t accepted;   /* connections */
    uint64_t refused;    /* connections, for what they sent */
    uint64_t over_limit; /* connections beyond a limit of net.* */
};

/* Any thread. */
void router_figures_get(const struct router *router, struct router_figures *ret_figures);

/*
 * The server has restarted: ends every connection to its former process, as the server did, with
 * the clients' sides. When it returns none of them is used any more, but units that they carried
 * may not be rolled back yet. New connections wait (server_process.h).
 */
void router_hold(struct router *router);
/* Connections that waited go on, after server_process_set(). */
void router_resume(struct router *router);

/* The topology has changed, whoever waits for a primary is told. Any thread. */
void router_follow(struct router *router);

/* No new connections, no new units; what is open goes on. */
void router_drain(struct router *router);

/* ---- handing the clients over to another process (daemon/hand_over.c) */

enum router_pause {
    ROUTER_GOES_ON,
    /* Nothing new that writes: transactions, units in comments and plain writes wait, those that
       have begun go on; so do reads. */
    ROUTER_PAUSES_WRITES,
    ROUTER_PAUSES, /* nothing new at all, and no connection is accepted */
};

/* What waits is not lost: it goes on after a lesser pause, or in the other process. Waits for the
   workers. */
void router_pause(struct router *router, enum router_pause pause);

/* Connections that cannot be handed over yet, or not be closed without losing what is on its way.
   Waits for the workers. */
size_t router_busy(struct router *router);

/* Ends those. */
void router_end_busy(struct router *router);

/* A connection on its way to the other process. */
struct router_parcel {
    int client; /* its socket */
    int server; /* that of its own connection to the server; -1: it has none now (follow.h) */
    const uint8_t *state;
    size_t state_size;
};

/*
 * Takes every connection that can be handed over out of the router, paused: `give` is called for
 * each on its worker, one at a time, and both sockets are closed here after it. Those with TLS on
 * either side stay: what was agreed on cannot be moved. Returns how many went; *ret_later: how many
 * may go when the reply that they are in the middle of has passed.
 */
size_t router_give(struct router *router,
                   void (*give)(void *context, const struct router_parcel *parcel), void *context,
                   size_t *ret_later);

/* Serves what another process has handed over; takes the sockets. STATUS_INVALID: it is nothing of
   that kind, or its listener is not served any more: the sockets are closed. */
MUST_CHECK enum status router_take(struct router *router, const struct router_parcel *parcel,
                                   struct error *ret_error);

/*
 * Rolls back the units that are still open and closes every connection; waits for it. The workers
 * are stopped by the caller after this, then router_free().
 */
void router_stop(struct router *router);
struct router *router_free(struct router *router);

#endif

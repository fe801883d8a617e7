#ifndef HOLDFAST_ADMIN_ADMIN_H
#define HOLDFAST_ADMIN_ADMIN_H

/*
 * The admin server (--admin): how the proxy is, for monitors, orchestrators and people.
 *
 *   GET /           the admin page (page/), and its files
 *   GET /healthz    200 as long as the process lives
 *   GET /readyz     200 if clients are served: recovered, accepting, the server answers, the
 *                   lease is held, the journal takes records, no domain is fenced. Else 503.
 *                   JSON: {ready, state, reason, unitsOpen, callsOpen, safeToRemove}, the last for
 *                   a proxy that was drained and has nothing left to end
 *   GET /status     JSON: what `holdfast status --json` shows, and what only the living proxy
 *                   knows
 *   GET /metrics    for Prometheus, in its own form or in OpenMetrics (metrics.h)
 *   GET /observe    JSON: which services write several times per call (observe/observe.h); 404 if
 *                   nothing is observed
 *   GET /units, /waits      JSON: open units, who waits for whom (open_units.h)
 *   GET /conflicts          JSON: units in conflict (conflicts.h)
 *   GET /conflict?unit=N    JSON: one, with its documents; token (decisions.h)
 *   GET /token              200 for the token
 *   POST /resolve?unit=N..  decides it; token (decisions.h)
 *   POST /rollback?unit=N   rolls the open unit N back; token (control.h)
 *   POST /prune?before=MS   has ended units pruned; token (control.h)
 *   POST /backup?for=MS..   holds retention, and writes, for a backup; token (control.h)
 *   POST /drain             no new clients, calls and units from now on; token (control.h)
 *
 * Whoever reaches it may look: it shows names and addresses of users, of fields and of routes. What
 * documents hold, and what changes anything (POST), needs the token (token.h); without one it is
 * 403 for everybody. An address that is not loopback is refused without a token
 * (base/config_check.c). Pages of other sites in the same browser are kept out (access.h).
 *
 * And the control socket, a file in the journal's directory that only the daemon's own user can
 * reach: what `holdfast` asks of the living proxy. It serves the same, and asks for no token.
 *
 * All functions are called by the main thread; what they tell is published to the servers' own
 * threads under a mutex, and nothing of it is on any client's path.
 */

#include <stdbool.h>

#include "engine/engine.h"
#include "holdfast/error.h"
#include "holdfast/wal.h"
#include "net/listener.h"
#include "observe/observe.h"
#include "recover/pruner.h"
#include "route/router.h"
#include "service/services.h"
#include "telemetry/telemetry.h"

struct admin;

/* Nobody is served yet. NULL: out of memory. Give it to admin_stop(). */
struct admin *admin_new(void);

/* Who may change something through the admin port from now on; NULL or "": nobody. `text` is not
   kept. */
void admin_set_token(struct admin *admin, const char *text);

/*
 * Serves HOST:PORT at once, not ready yet. *ret_address gets it with the real port. Errors: as
 * listener_bind(), STATUS_MEMORY.
 */
MUST_CHECK enum status admin_listen(struct admin *admin, const char *host_and_port,
                                    char ret_address[NETWORK_ADDRESS_TEXT_BYTES],
                                    struct error *ret_error);

/* Serves the control socket in the journal's directory, which must be ours; `directory` outlives
   the admin server. Errors: STATUS_IO, STATUS_MEMORY. */
MUST_CHECK enum status admin_control(struct admin *admin, const char *directory,
                                     struct error *ret_error);

/* Another holdfastd serves; we wait for its end. `reason` says which one. */
void admin_standby(struct admin *admin, const char *reason);

/* The journal is open; recovery runs. `wal` outlives the admin server, as all that follows. */
void admin_recovering(struct admin *admin, struct wal *wal);

/* Recovered and listening for clients. `observe` may be NULL. */
void admin_serving(struct admin *admin, struct engine *engine, struct router *router,
                   struct services *services, struct observe *observe, struct pruner *pruner);

/* A recovery has taken so long. */
void admin_recovered(struct admin *admin, uint64_t duration_us);

/* What is sent elsewhere; it outlives the admin server. */
void admin_telemetry(struct admin *admin, struct telemetry *telemetry);

/* The main thread has spoken with the server. `failure`: why not, NULL if it went well. */
void admin_upstream_seen(struct admin *admin, const char *failure);

/* No new clients. */
void admin_draining(struct admin *admin);

/* What has become of upgrades; copied. */
struct admin_upgrade {
    uint64_t generation; /* of this process: one more than that of the process before it */
    uint64_t failed;
    const char *state; /* "none", "starting", "draining"; a literal */
    const char *failure;
};
void admin_upgrade(struct admin *admin, const struct admin_upgrade *upgrade);

/* The end is near: the control socket is not served any more. */
void admin_ending(struct admin *admin);

/* Stops serving. NULL is harmless; returns NULL. */
struct admin *admin_stop(struct admin *admin);

#endif

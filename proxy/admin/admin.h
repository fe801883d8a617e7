#ifndef HOLDFAST_ADMIN_ADMIN_H
#define HOLDFAST_ADMIN_ADMIN_H

/*
 * The admin server (--admin): how the proxy is, for monitors, orchestrators and people.
 *
 *   GET /healthz   200 as long as the process lives
 *   GET /readyz    200 if clients are served: recovered, accepting, the server answers, the journal
 *                  takes records. Else 503 with the reason, also while draining
 *   GET /status    JSON: what `holdfast status --json` shows, and what only the living proxy knows
 *
 * It asks for no password and shows users' names and addresses, never documents: keep it on
 * localhost or behind something that asks.
 *
 * All functions but start take NULL for "no admin server" and do nothing then. They are called by
 * the main thread; what they tell is published to the server's own thread under a mutex, and
 * nothing of it is on any client's path.
 */

#include <stdbool.h>

#include "engine/engine.h"
#include "holdfast/error.h"
#include "holdfast/wal.h"
#include "route/router.h"

struct admin;

/* Serves at once, not ready yet. Errors: as admin_http_start(). Give it to admin_stop(). */
MUST_CHECK enum status admin_start(const char *host_and_port, struct admin **ret_admin,
                                   struct error *ret_error);

/* HOST:PORT with the real port; NULL for none. */
const char *admin_address(const struct admin *admin);

/* The journal is open; recovery runs. `wal` outlives the admin server, as all that follows. */
void admin_recovering(struct admin *admin, struct wal *wal);

/* Recovered and listening for clients. */
void admin_serving(struct admin *admin, struct engine *engine, struct router *router);

/* The main thread has spoken with the server. `failure`: why not, NULL if it went well. */
void admin_upstream_seen(struct admin *admin, const char *failure);

/* No new clients; the end is near. */
void admin_draining(struct admin *admin);

/* Stops serving. Returns NULL. */
struct admin *admin_stop(struct admin *admin);

#endif

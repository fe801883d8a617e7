#ifndef HOLDFAST_RESTART_RESTART_H
#define HOLDFAST_RESTART_RESTART_H

/*
 * What the living proxy does when its server has crashed and started again: everything that a
 * start of the proxy would do, without one.
 *
 *   noticed (server_process.h): no command passes any more
 *     1. The connections to the former process are ended, as the server did.
 *     2. Rollbacks stop; every unit that has written anything is handed to recovery.
 *     3. Recovery (recover/recovery.h): what was lost of committed units is there again, nothing of
 *        open ones is; repeated until the server was there for the whole of it.
 *     4. The units' locks are released, commands pass again.
 *
 * No client's commit is lost in between: what was committed before 2 is redone, what was not is
 * answered as rolled back.
 */

#include "engine/engine.h"
#include "engine/settler.h"
#include "recover/lease.h"
#include "recover/recovery.h"
#include "route/router.h"

struct restart_options {
    struct engine *engine;
    struct router *router;
    struct settler *settler;
    struct server_process *process;
    struct upstream **upstream; /* the calling thread's; opened anew */
    const char *upstream_uri;
    uint64_t connect_ms;
    struct lease *lease;
    struct recovery_options recovery; /* without `lease`, `reason` and `fence_blindly` */
    bool (*give_up)(void *context);   /* asked while the server is away: the process is to end */
    void *context;
};

/*
 * Returns when everything goes on, or with what makes that impossible: the process must end then,
 * and its next start recovers.
 *
 * Errors: STATUS_UNREACHABLE (give_up() said so), STATUS_OWNED (another proxy has taken the lease),
 * STATUS_FOREIGN, CORRUPT, FULL, IO, MEMORY as recovery_run().
 */
MUST_CHECK enum status restart_recover(const struct restart_options *options,
                                       struct recovery_report *ret_report, struct error *ret_error);

#endif

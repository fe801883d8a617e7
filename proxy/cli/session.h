#ifndef HOLDFAST_CLI_SESSION_H
#define HOLDFAST_CLI_SESSION_H

/*
 * Work on a stopped proxy's journal and its database, as holdfastd would do it.
 *
 *     journal's lock --> server --> lease --> the command's work --> lease given back --> closed
 *
 * Main thread only.
 */

#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"
#include "holdfast/error.h"
#include "holdfast/wal.h"
#include "recover/lease.h"
#include "recover/lease_keeper.h"
#include "upstream/upstream.h"

struct session {
    const struct cli_options *options; /* dry_run: the lease is looked at, not taken */
    const char *owner;                 /* "holdfast recover", shown to who is refused */
    struct wal *wal;
    struct upstream *upstream;
    bool native; /* a journal of the native engine: there is no lease */
    struct lease lease;
    bool leased;
    struct lease_keeper *keeper; /* renews the lease until the end */
};

/*
 * Opens all three. `session` has options and owner set, the rest zero. Never makes a journal.
 * Errors: those of wal_open(), upstream_open() and lease_acquire(), STATUS_INVALID (no --upstream).
 * Call session_close() in any case.
 */
MUST_CHECK enum status session_open(struct session *session, struct error *ret_error);

/* `settled`: no unit is left open, so the next owner need not wait. */
void session_close(struct session *session, bool settled);

#endif

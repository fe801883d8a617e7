#ifndef HOLDFAST_CLI_STOPPED_H
#define HOLDFAST_CLI_STOPPED_H

/* The journal of a stopped proxy, opened for writing. Main thread only. */

#include "cli/cli.h"
#include "holdfast/error.h"
#include "holdfast/wal.h"

/*
 * Opens the journal only if there is one: a mistyped --wal must not make an empty journal. What it
 * holds always fits. `owner` is shown to who is refused meanwhile.
 * Errors: those of wal_open(); STATUS_OWNED says that holdfastd is to be stopped.
 */
MUST_CHECK enum status stopped_open(const struct cli_options *options, const char *owner,
                                    struct wal **ret_wal, struct error *ret_error);

#endif

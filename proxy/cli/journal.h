#ifndef HOLDFAST_CLI_JOURNAL_H
#define HOLDFAST_CLI_JOURNAL_H

/* Opening the journal that --wal names, with the key that --wal-key-file gives. Main thread only.
 */

#include "cli/cli.h"
#include "holdfast/error.h"
#include "holdfast/wal.h"

/* Opens it only to be read, also while holdfastd runs. Errors: those of wal_open(). */
MUST_CHECK enum status journal_open_to_read(const struct cli_options *options, struct wal **ret_wal,
                                            struct error *ret_error);

/*
 * Opens a stopped proxy's journal for writing, and only if there is one: a mistyped --wal must not
 * make an empty journal. What it holds always fits. `owner` is shown to who is refused meanwhile.
 * Errors: those of wal_open(); STATUS_OWNED says that holdfastd is to be stopped.
 */
MUST_CHECK enum status journal_open_stopped(const struct cli_options *options, const char *owner,
                                            struct wal **ret_wal, struct error *ret_error);

#endif

#ifndef HOLDFAST_CLI_MIGRATE_STATUS_H
#define HOLDFAST_CLI_MIGRATE_STATUS_H

/* `holdfast migrate status`. Main thread only. */

#include "cli/cli.h"
#include "holdfast/error.h"
#include "migrate/migrate.h"

/* Prints the list. *ret_left: something is pending, half done, changed or missing. */
MUST_CHECK enum status migrate_status_run(const struct cli_options *options,
                                          struct migrate *migrate, bool *ret_left,
                                          struct error *ret_error);

#endif

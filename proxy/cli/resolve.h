#ifndef HOLDFAST_CLI_RESOLVE_H
#define HOLDFAST_CLI_RESOLVE_H

/* What the two ways of `holdfast resolve` share: on a stopped proxy's journal (resolve.c), and by a
   living holdfastd (resolve_living.c). Main thread. */

#include <stdbool.h>

#include "cli/cli.h"
#include "holdfast/error.h"

/* Asks the operator; STATUS_INVALID: no. With --yes nobody is asked. */
MUST_CHECK enum status resolve_confirm(const struct cli_options *options, struct error *ret_error);

/* The whole command, if a holdfastd is alive on the journal. False: none is; nothing was done. */
bool resolve_by_living(const struct cli_options *options, enum cli_exit *ret_exit);

#endif

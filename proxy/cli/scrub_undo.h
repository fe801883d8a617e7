#ifndef HOLDFAST_CLI_SCRUB_UNDO_H
#define HOLDFAST_CLI_SCRUB_UNDO_H

/* `holdfast scrub --undo RUN` and `--runs`. Main thread. */

#include "cli/cli.h"

enum cli_exit scrub_undo_run(const struct cli_options *options);

#endif

#ifndef HOLDFAST_CLI_LOCKS_H
#define HOLDFAST_CLI_LOCKS_H

#include "cli/cli.h"

/* Prints the living daemon's open units, their locks, and whom they wait for. */
enum cli_exit locks_print(const struct cli_options *options);

#endif

#ifndef HOLDFAST_CLI_OPTIONS_H
#define HOLDFAST_CLI_OPTIONS_H

#include "cli/cli.h"
#include "holdfast/error.h"

/* What the arguments ask for. */
enum options_action {
    OPTIONS_RUN,
    OPTIONS_HELP, /* *ret_command NULL: of the program, else of the command */
    OPTIONS_VERSION,
};

/*
 * Reads the arguments. STATUS_INVALID: the message names the option or argument. Texts in
 * *ret_options point into `arguments`.
 */
MUST_CHECK enum status options_parse(int argument_count, char **arguments,
                                     enum options_action *ret_action,
                                     const struct cli_command **ret_command,
                                     struct cli_options *ret_options, struct error *ret_error);

/* Help of one command, or of the program if NULL, to standard output. */
void options_help(const struct cli_command *command);

#endif

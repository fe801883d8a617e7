/*
 * Dispatch of `holdfast` (cli.h).
 *
 * Threads: main only; an open journal brings its writer thread.
 */

#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "cli/output.h"

/* What could not be written to standard output is a failure, unless the reader had enough. */
static int finish(enum cli_exit code)
{
    errno = 0;
    bool failed = fflush(stdout) != 0;
    int cause = errno;
    failed = failed || ferror(stdout);
    if (failed && cause != EPIPE && cause != 0) {
        fprintf(stderr, "holdfast: cannot write to standard output: %s\n", strerror(cause));
        return CLI_FAILED;
    }
    return (int)code;
}

int cli_main(int argument_count, char **arguments)
{
    struct cli_options options = {0};
    const struct cli_command *command = NULL;
    enum options_action action = OPTIONS_RUN;
    struct error error = {0};

    /* A pager that is closed must not kill a recovery half way. */
    signal(SIGPIPE, SIG_IGN);
    if (options_parse(argument_count, arguments, &action, &command, &options, &error) !=
        STATUS_OK) {
        fprintf(stderr, "holdfast: %s\n", error.message);
        return CLI_FAILED;
    }
    if (action == OPTIONS_HELP) {
        options_help(command);
        return finish(CLI_CLEAN);
    }
    if (action == OPTIONS_VERSION) {
        printf("holdfast %s\n", HOLDFAST_VERSION);
        return finish(CLI_CLEAN);
    }
    return finish(command->run(&options));
}

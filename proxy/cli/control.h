#ifndef HOLDFAST_CLI_CONTROL_H
#define HOLDFAST_CLI_CONTROL_H

/* Asking the living holdfastd of a journal, by its control socket (admin/admin.h). Main thread. */

#include "cli/cli.h"
#include "holdfast/error.h"

/*
 * Sends `method` ("GET", "POST") for `target` ("/status"). *ret_code is the HTTP status, *ret_body
 * what came with it, to be given to free(). Errors: STATUS_NOT_FOUND (no holdfastd is alive on this
 * journal), STATUS_IO, STATUS_PROTOCOL, STATUS_MEMORY.
 */
MUST_CHECK enum status control_request(const struct cli_options *options, const char *method,
                                       const char *target, int *ret_code, char **ret_body,
                                       struct error *ret_error);

#endif

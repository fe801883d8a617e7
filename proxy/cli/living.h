#ifndef HOLDFAST_CLI_LIVING_H
#define HOLDFAST_CLI_LIVING_H

/* What the living holdfastd of a journal says of its process. Main thread. */

#include <stdint.h>

#include "cli/cli.h"
#include "holdfast/error.h"

/* Texts are cut. */
struct living {
    int64_t pid;
    char version[64];
    char phase[32];
    int64_t generation; /* one more than that of the process whose place it has taken */
    char upgrade[32];   /* "none", or how far one is */
    int64_t upgrades_failed;
    char upgrade_failure[512]; /* of the last that failed; "" */
};

/* Errors: as control_request(). */
MUST_CHECK enum status living_look(const struct cli_options *options, struct living *ret_living,
                                   struct error *ret_error);

#endif

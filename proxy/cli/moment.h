#ifndef HOLDFAST_CLI_MOMENT_H
#define HOLDFAST_CLI_MOMENT_H

/* Places in the journal as operators give them. Main thread. */

#include "cli/cli.h"
#include "holdfast/error.h"
#include "holdfast/wal.h"

/*
 * "4711" (an LSN), "2026-01-02T03:04:05Z", with or without a fraction, or "90s", "30m", "2h", "7d"
 * (that long before now). STATUS_INVALID names `option`.
 */
MUST_CHECK enum status moment_parse(const char *option, const char *text,
                                    struct cli_moment *ret_moment, struct error *ret_error);

/* LSNs, both included. */
struct moment_range {
    uint64_t from_lsn;
    uint64_t until_lsn;
};

/*
 * The LSNs from options->from to options->until. A time stands for the place where the journal
 * first has a unit whose last record is from then (recover/timeline.h). Errors: those of reading.
 */
MUST_CHECK enum status moment_range_read(const struct cli_options *options, struct wal *wal,
                                         struct moment_range *ret_range, struct error *ret_error);

#endif
